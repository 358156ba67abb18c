// SPDX-License-Identifier: BSL-1.0
// Identify Namespace of the NVM command set, CNS 00h: NVM Command Set 1.0, section 4.1.5.1.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/wide.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

struct lba_format {
  le<std::uint16_t> ms;  // metadata bytes of a block
  std::uint8_t lbads;    // log2 of a block's data bytes: 9 or more; 0 is a format not available
  std::uint8_t rp;       // relative performance, 0 is best

  static constexpr field<1, 0> rp_bits{};
};
static_assert(WireStruct<lba_format> && sizeof(lba_format) == 4);
static_assert(offsetof(lba_format, ms) == 0 && offsetof(lba_format, lbads) == 2 &&
              offsetof(lba_format, rp) == 3);

struct identify_namespace {
  le<std::uint64_t> nsze;  // blocks; 0 in the answer for an inactive namespace
  le<std::uint64_t> ncap;
  le<std::uint64_t> nuse;
  std::uint8_t nsfeat;
  std::uint8_t nlbaf;  // formats, minus one
  std::uint8_t flbas;
  std::uint8_t mc;
  std::uint8_t dpc;
  std::uint8_t dps;
  std::uint8_t nmic;
  std::uint8_t rescap;
  std::uint8_t fpi;
  std::uint8_t dlfeat;
  le<std::uint16_t> nawun;
  le<std::uint16_t> nawupf;
  le<std::uint16_t> nacwu;
  le<std::uint16_t> nabsn;
  le<std::uint16_t> nabo;
  le<std::uint16_t> nabspf;
  le<std::uint16_t> noiob;  // best not crossed by one read or write, in blocks; 0 is none
  le_u128 nvmcap;
  le<std::uint16_t> npwg;
  le<std::uint16_t> npwa;
  le<std::uint16_t> npdg;
  le<std::uint16_t> npda;
  le<std::uint16_t> nows;
  le<std::uint16_t> mssrl;  // of Copy: blocks of one source range, blocks in all, ranges minus one
  le<std::uint32_t> mcl;
  std::uint8_t msrc;
  std::uint8_t reserved81;
  std::uint8_t nulbaf;  // further formats behind those of nlbaf, with capabilities of their own
  std::uint8_t reserved83[9];
  le<std::uint32_t> anagrpid;
  std::uint8_t reserved96[3];
  std::uint8_t nsattr;
  le<std::uint16_t> nvmsetid;
  le<std::uint16_t> endgid;
  std::uint8_t nguid[16];  // big-endian, as IEEE writes them
  std::uint8_t eui64[8];
  std::array<lba_format, 64> lbaf;
  std::uint8_t vendor_specific[3712];

  static constexpr field<0> nsfeat_thin{};
  static constexpr field<1> nsfeat_atomics{};   // nawun, nawupf and nacwu are valid
  static constexpr field<2> nsfeat_dealloc{};   // reading a deallocated block is an error, if asked
  static constexpr field<3> nsfeat_uid_kept{};  // nguid and eui64 are never used again
  static constexpr field<4> nsfeat_optimal{};   // npwg to nows are valid

  static constexpr field<3, 0> flbas_low{};
  static constexpr field<4> flbas_metadata_inline{};  // metadata ends each block, not at MPTR
  static constexpr field<6, 5> flbas_high{};          // used with more than 16 formats

  static constexpr field<2, 0> dps_type{};      // protection information type, 0 to 3
  static constexpr field<3> dps_first_bytes{};  // it starts the metadata, not ends it

  static constexpr field<2, 0> dlfeat_read{};  // deallocated blocks read as 1: zeros, 2: FFh
  static constexpr field<3> dlfeat_write_zeroes{};

  static constexpr field<0> nsattr_write_protected{};

  [[nodiscard]] constexpr std::uint8_t format_index() const noexcept {
    return format_index_of(flbas, nlbaf, nulbaf);
  }
  // ... where the fields were read alone.
  [[nodiscard]] static constexpr std::uint8_t format_index_of(std::uint8_t flbas,
                                                              std::uint8_t nlbaf,
                                                              std::uint8_t nulbaf) noexcept {
    // Of all formats, those with capabilities of their own included.
    const auto high = nlbaf + nulbaf >= 16 ? flbas_high.get(flbas) : std::uint8_t{0};
    return static_cast<std::uint8_t>(flbas_low.get(flbas) | high << 4);
  }
  [[nodiscard]] constexpr const lba_format& format() const noexcept { return lbaf[format_index()]; }
  // Data bytes of a block, or 0 where the device's answer makes no sense (below 512, above 2^31).
  [[nodiscard]] constexpr std::uint32_t block_bytes() const noexcept {
    const std::uint8_t shift = format().lbads;
    return shift < 9 || shift > 31 ? 0 : std::uint32_t{1} << shift;
  }
};
static_assert(WireStruct<identify_namespace> && sizeof(identify_namespace) == 4096);
static_assert(offsetof(identify_namespace, nsze) == 0 && offsetof(identify_namespace, ncap) == 8 &&
              offsetof(identify_namespace, nuse) == 16 &&
              offsetof(identify_namespace, nsfeat) == 24 &&
              offsetof(identify_namespace, nlbaf) == 25 &&
              offsetof(identify_namespace, flbas) == 26 && offsetof(identify_namespace, mc) == 27 &&
              offsetof(identify_namespace, dpc) == 28);
static_assert(offsetof(identify_namespace, dps) == 29 && offsetof(identify_namespace, nmic) == 30 &&
              offsetof(identify_namespace, rescap) == 31 &&
              offsetof(identify_namespace, fpi) == 32 &&
              offsetof(identify_namespace, dlfeat) == 33 &&
              offsetof(identify_namespace, nawun) == 34 &&
              offsetof(identify_namespace, nawupf) == 36 &&
              offsetof(identify_namespace, nacwu) == 38);
static_assert(offsetof(identify_namespace, nabsn) == 40 &&
              offsetof(identify_namespace, nabo) == 42 &&
              offsetof(identify_namespace, nabspf) == 44 &&
              offsetof(identify_namespace, noiob) == 46 &&
              offsetof(identify_namespace, nvmcap) == 48 &&
              offsetof(identify_namespace, npwg) == 64 &&
              offsetof(identify_namespace, npwa) == 66 && offsetof(identify_namespace, npdg) == 68);
static_assert(offsetof(identify_namespace, npda) == 70 &&
              offsetof(identify_namespace, nows) == 72 &&
              offsetof(identify_namespace, mssrl) == 74 &&
              offsetof(identify_namespace, mcl) == 76 && offsetof(identify_namespace, msrc) == 80 &&
              offsetof(identify_namespace, nulbaf) == 82 &&
              offsetof(identify_namespace, anagrpid) == 92 &&
              offsetof(identify_namespace, nsattr) == 99 &&
              offsetof(identify_namespace, nvmsetid) == 100);
static_assert(offsetof(identify_namespace, endgid) == 102 &&
              offsetof(identify_namespace, nguid) == 104 &&
              offsetof(identify_namespace, eui64) == 120 &&
              offsetof(identify_namespace, lbaf) == 128 &&
              offsetof(identify_namespace, vendor_specific) == 384);

}  // namespace phasebit::nvme
