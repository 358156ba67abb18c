// SPDX-License-Identifier: BSL-1.0
// Identify Controller, CNS 01h: NVMe Base 2.0, section 5.17.2.1, figure 275; and its power state
// descriptor, figure 276. Members bear the specification's mnemonics.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/wide.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

enum class controller_type : std::uint8_t { not_reported = 0, io = 1, discovery = 2, admin = 3 };

struct power_state_descriptor {
  le<std::uint16_t> mp;  // most power, in centiwatts or, with mxps, in 0.1 milliwatts
  std::uint8_t reserved2;
  std::uint8_t flags;
  le<std::uint32_t> enlat;  // entry latency, microseconds
  le<std::uint32_t> exlat;  // exit latency, microseconds
  std::uint8_t rrt;         // relative read throughput, and so on: 0 is the best state
  std::uint8_t rrl;
  std::uint8_t rwt;
  std::uint8_t rwl;
  le<std::uint16_t> idlp;
  std::uint8_t ips;
  std::uint8_t reserved19;
  le<std::uint16_t> actp;
  std::uint8_t apw_aps;
  std::uint8_t reserved23[9];

  static constexpr field<0> mxps{};  // in flags: the unit of mp
  static constexpr field<1> nops{};  // in flags: no I/O is processed in this state
};
static_assert(WireStruct<power_state_descriptor> && sizeof(power_state_descriptor) == 32);
static_assert(
    offsetof(power_state_descriptor, flags) == 3 && offsetof(power_state_descriptor, enlat) == 4 &&
    offsetof(power_state_descriptor, exlat) == 8 && offsetof(power_state_descriptor, rrt) == 12 &&
    offsetof(power_state_descriptor, rwl) == 15 && offsetof(power_state_descriptor, idlp) == 16 &&
    offsetof(power_state_descriptor, ips) == 18 && offsetof(power_state_descriptor, actp) == 20 &&
    offsetof(power_state_descriptor, apw_aps) == 22);

struct identify_controller {
  le<std::uint16_t> vid;
  le<std::uint16_t> ssvid;
  std::array<char, 20> sn;  // texts are ASCII, padded with spaces: text_of() trims them
  std::array<char, 40> mn;
  std::array<char, 8> fr;
  std::uint8_t rab;      // recommended arbitration burst, 2^rab commands
  std::uint8_t ieee[3];  // OUI, least significant byte first
  std::uint8_t cmic;
  std::uint8_t mdts;  // longest transfer, 2^mdts pages of CAP.MPSMIN; 0 is no limit
  le<std::uint16_t> cntlid;
  le<std::uint32_t> ver;
  le<std::uint32_t> rtd3r;
  le<std::uint32_t> rtd3e;
  le<std::uint32_t> oaes;
  le<std::uint32_t> ctratt;
  le<std::uint16_t> rrls;
  std::uint8_t reserved102[9];
  controller_type cntrltype;
  std::uint8_t fguid[16];
  le<std::uint16_t> crdt1;  // command retry delays, in 100 ms
  le<std::uint16_t> crdt2;
  le<std::uint16_t> crdt3;
  std::uint8_t reserved134[119];
  std::uint8_t nvmsr;
  std::uint8_t vwci;
  std::uint8_t mec;
  le<std::uint16_t> oacs;
  std::uint8_t acl;   // abort commands at a time, minus one
  std::uint8_t aerl;  // asynchronous event requests at a time, minus one
  std::uint8_t frmw;
  std::uint8_t lpa;
  std::uint8_t elpe;  // error information entries, minus one
  std::uint8_t npss;  // power states, minus one
  std::uint8_t avscc;
  std::uint8_t apsta;
  le<std::uint16_t> wctemp;  // warning and critical temperature, kelvin
  le<std::uint16_t> cctemp;
  le<std::uint16_t> mtfa;
  le<std::uint32_t> hmpre;  // host memory buffer preferred and least size, in 4 KiB
  le<std::uint32_t> hmmin;
  le_u128 tnvmcap;  // bytes
  le_u128 unvmcap;
  le<std::uint32_t> rpmbs;
  le<std::uint16_t> edstt;
  std::uint8_t dsto;
  std::uint8_t fwug;
  le<std::uint16_t> kas;  // keep alive granularity, in 100 ms; 0 is not supported
  le<std::uint16_t> hctma;
  le<std::uint16_t> mntmt;
  le<std::uint16_t> mxtmt;
  le<std::uint32_t> sanicap;
  le<std::uint32_t> hmminds;
  le<std::uint16_t> hmmaxd;
  le<std::uint16_t> nsetidmax;
  le<std::uint16_t> endgidmax;
  std::uint8_t anatt;
  std::uint8_t anacap;
  le<std::uint32_t> anagrpmax;
  le<std::uint32_t> nanagrpid;
  le<std::uint32_t> pels;
  le<std::uint16_t> domain_id;
  std::uint8_t reserved358[10];
  le_u128 megcap;
  std::uint8_t reserved384[128];
  std::uint8_t sqes;  // submission entry, log2 of bytes: required in 3:0, largest in 7:4
  std::uint8_t cqes;
  le<std::uint16_t> maxcmd;
  le<std::uint32_t> nn;  // the largest namespace id, which is not a count of namespaces
  le<std::uint16_t> oncs;
  le<std::uint16_t> fuses;
  std::uint8_t fna;
  std::uint8_t vwc;
  le<std::uint16_t> awun;  // atomic write units, in blocks, minus one
  le<std::uint16_t> awupf;
  std::uint8_t icsvscc;
  std::uint8_t nwpc;
  le<std::uint16_t> acwu;
  le<std::uint16_t> ocfs;
  le<std::uint32_t> sgls;
  le<std::uint32_t> mnan;
  le_u128 maxdna;
  le<std::uint32_t> maxcna;
  std::uint8_t reserved564[204];
  std::array<char, 256> subnqn;  // UTF-8, ends at the first zero
  std::uint8_t reserved1024[768];
  le<std::uint32_t> ioccsz;  // from here to dctype: NVMe over Fabrics
  le<std::uint32_t> iorcsz;
  le<std::uint16_t> icdoff;
  std::uint8_t fcatt;
  std::uint8_t msdbd;
  le<std::uint16_t> ofcs;
  std::uint8_t dctype;
  std::uint8_t reserved1807[241];
  std::array<power_state_descriptor, 32> psd;
  std::uint8_t vendor_specific[1024];

  static constexpr field<0> oacs_security{};
  static constexpr field<1> oacs_format{};
  static constexpr field<2> oacs_firmware{};
  static constexpr field<3> oacs_namespaces{};  // namespace management and attachment
  static constexpr field<4> oacs_self_test{};
  static constexpr field<5> oacs_directives{};
  static constexpr field<6> oacs_nvme_mi{};
  static constexpr field<7> oacs_virtualization{};
  static constexpr field<8> oacs_doorbell_buffer{};
  static constexpr field<9> oacs_lba_status{};
  static constexpr field<10> oacs_lockdown{};

  static constexpr field<0> oncs_compare{};
  static constexpr field<1> oncs_write_uncorrectable{};
  static constexpr field<2> oncs_dataset_management{};
  static constexpr field<3> oncs_write_zeroes{};
  static constexpr field<4> oncs_save_select{};
  static constexpr field<5> oncs_reservations{};
  static constexpr field<6> oncs_timestamp{};
  static constexpr field<7> oncs_verify{};
  static constexpr field<8> oncs_copy{};

  static constexpr field<0> vwc_present{};
  static constexpr field<2, 1> vwc_flush_all{};  // 2: not supported, 3: flush of all namespaces

  static constexpr field<1, 0> sgls_support{};  // 0 none, 1 any alignment, 2 dword aligned
  static constexpr field<2> sgls_keyed{};
  static constexpr field<16> sgls_bit_bucket{};
  static constexpr field<17> sgls_metadata_buffer{};
  static constexpr field<18> sgls_longer_than_data{};
  static constexpr field<19> sgls_metadata_segment{};
  static constexpr field<20> sgls_offset{};

  static constexpr field<0> cmic_ports{};
  static constexpr field<1> cmic_controllers{};
  static constexpr field<2> cmic_sriov{};
  static constexpr field<3> cmic_ana{};

  static constexpr field<3, 0> entry_size_required{};  // in sqes and cqes
  static constexpr field<7, 4> entry_size_largest{};

  // Bytes of the longest transfer where the smallest page is `min_page_bytes` (CAP.MPSMIN); 0 is no
  // limit. An exponent whose result exceeds 64 bits means no limit too.
  [[nodiscard]] constexpr std::uint64_t max_transfer_bytes(
      std::uint32_t min_page_bytes) const noexcept {
    return mdts == 0 || mdts > 32 ? 0 : std::uint64_t{min_page_bytes} << mdts;
  }
};
static_assert(WireStruct<identify_controller> && sizeof(identify_controller) == 4096);
static_assert(offsetof(identify_controller, vid) == 0 &&
              offsetof(identify_controller, ssvid) == 2 && offsetof(identify_controller, sn) == 4 &&
              offsetof(identify_controller, mn) == 24 && offsetof(identify_controller, fr) == 64 &&
              offsetof(identify_controller, rab) == 72 &&
              offsetof(identify_controller, ieee) == 73 &&
              offsetof(identify_controller, cmic) == 76);
static_assert(
    offsetof(identify_controller, mdts) == 77 && offsetof(identify_controller, cntlid) == 78 &&
    offsetof(identify_controller, ver) == 80 && offsetof(identify_controller, rtd3r) == 84 &&
    offsetof(identify_controller, rtd3e) == 88 && offsetof(identify_controller, oaes) == 92 &&
    offsetof(identify_controller, ctratt) == 96 && offsetof(identify_controller, rrls) == 100);
static_assert(offsetof(identify_controller, cntrltype) == 111 &&
              offsetof(identify_controller, fguid) == 112 &&
              offsetof(identify_controller, crdt1) == 128 &&
              offsetof(identify_controller, crdt2) == 130 &&
              offsetof(identify_controller, crdt3) == 132 &&
              offsetof(identify_controller, nvmsr) == 253 &&
              offsetof(identify_controller, vwci) == 254 &&
              offsetof(identify_controller, mec) == 255);
static_assert(
    offsetof(identify_controller, oacs) == 256 && offsetof(identify_controller, acl) == 258 &&
    offsetof(identify_controller, aerl) == 259 && offsetof(identify_controller, frmw) == 260 &&
    offsetof(identify_controller, lpa) == 261 && offsetof(identify_controller, elpe) == 262 &&
    offsetof(identify_controller, npss) == 263 && offsetof(identify_controller, avscc) == 264);
static_assert(
    offsetof(identify_controller, apsta) == 265 && offsetof(identify_controller, wctemp) == 266 &&
    offsetof(identify_controller, cctemp) == 268 && offsetof(identify_controller, mtfa) == 270 &&
    offsetof(identify_controller, hmpre) == 272 && offsetof(identify_controller, hmmin) == 276 &&
    offsetof(identify_controller, tnvmcap) == 280 && offsetof(identify_controller, unvmcap) == 296);
static_assert(
    offsetof(identify_controller, rpmbs) == 312 && offsetof(identify_controller, edstt) == 316 &&
    offsetof(identify_controller, dsto) == 318 && offsetof(identify_controller, fwug) == 319 &&
    offsetof(identify_controller, kas) == 320 && offsetof(identify_controller, hctma) == 322 &&
    offsetof(identify_controller, mntmt) == 324 && offsetof(identify_controller, mxtmt) == 326);
static_assert(offsetof(identify_controller, sanicap) == 328 &&
              offsetof(identify_controller, hmminds) == 332 &&
              offsetof(identify_controller, hmmaxd) == 336 &&
              offsetof(identify_controller, nsetidmax) == 338 &&
              offsetof(identify_controller, endgidmax) == 340 &&
              offsetof(identify_controller, anatt) == 342 &&
              offsetof(identify_controller, anacap) == 343 &&
              offsetof(identify_controller, anagrpmax) == 344);
static_assert(offsetof(identify_controller, nanagrpid) == 348 &&
              offsetof(identify_controller, pels) == 352 &&
              offsetof(identify_controller, domain_id) == 356 &&
              offsetof(identify_controller, megcap) == 368 &&
              offsetof(identify_controller, sqes) == 512 &&
              offsetof(identify_controller, cqes) == 513 &&
              offsetof(identify_controller, maxcmd) == 514 &&
              offsetof(identify_controller, nn) == 516);
static_assert(
    offsetof(identify_controller, oncs) == 520 && offsetof(identify_controller, fuses) == 522 &&
    offsetof(identify_controller, fna) == 524 && offsetof(identify_controller, vwc) == 525 &&
    offsetof(identify_controller, awun) == 526 && offsetof(identify_controller, awupf) == 528 &&
    offsetof(identify_controller, icsvscc) == 530 && offsetof(identify_controller, nwpc) == 531);
static_assert(
    offsetof(identify_controller, acwu) == 532 && offsetof(identify_controller, ocfs) == 534 &&
    offsetof(identify_controller, sgls) == 536 && offsetof(identify_controller, mnan) == 540 &&
    offsetof(identify_controller, maxdna) == 544 && offsetof(identify_controller, maxcna) == 560 &&
    offsetof(identify_controller, subnqn) == 768 && offsetof(identify_controller, ioccsz) == 1792);
static_assert(offsetof(identify_controller, iorcsz) == 1796 &&
              offsetof(identify_controller, icdoff) == 1800 &&
              offsetof(identify_controller, fcatt) == 1802 &&
              offsetof(identify_controller, msdbd) == 1803 &&
              offsetof(identify_controller, ofcs) == 1804 &&
              offsetof(identify_controller, dctype) == 1806 &&
              offsetof(identify_controller, psd) == 2048 &&
              offsetof(identify_controller, vendor_specific) == 3072);

}  // namespace phasebit::nvme
