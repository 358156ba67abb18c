// SPDX-License-Identifier: BSL-1.0
// Commands of SMMUv3's command queue, as a Non-secure queue takes them: IHI 0070, chapter 4. Fields
// are numbered within their 64-bit word.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::smmuv3 {

struct command_entry {
  le<std::uint64_t> dw0;
  le<std::uint64_t> dw1;
};
static_assert(WireStruct<command_entry> && sizeof(command_entry) == 16 &&
              alignof(command_entry) == 8);
static_assert(offsetof(command_entry, dw0) == 0 && offsetof(command_entry, dw1) == 8);

enum class opcode : std::uint8_t {
  prefetch_config = 0x01,  // 4.2
  prefetch_addr = 0x02,
  cfgi_ste = 0x03,        // 4.3.1
  cfgi_ste_range = 0x04,  // 4.3.2; CFGI_ALL (4.3.3) is the range of 2^32
  cfgi_cd = 0x05,         // 4.3.4
  cfgi_cd_all = 0x06,     // 4.3.5
  tlbi_nh_all = 0x10,     // 4.4.2
  tlbi_nh_asid = 0x11,
  tlbi_nh_va = 0x12,
  tlbi_nh_vaa = 0x13,
  tlbi_s12_vmall = 0x28,  // 4.4.3
  tlbi_s2_ipa = 0x2a,
  tlbi_nsnh_all = 0x30,  // 4.4.4
  atc_inv = 0x40,        // 4.5.1
  pri_resp = 0x41,       // 4.5.2
  resume = 0x44,         // 4.7.1
  stall_term = 0x45,     // 4.7.2
  sync = 0x46,           // 4.7.3
};

// 4.1.6, fields that many commands have.
inline constexpr field<7, 0> opcode_bits{};
inline constexpr field<10> ssec{};  // Secure; a Non-secure queue takes 0 only
inline constexpr field<11> ssv{};   // the substream is valid
inline constexpr field<31, 12> substream{};
inline constexpr field<63, 32> stream{};

// 4.3.
struct cfgi {
  static constexpr field<0> leaf{};      // word 1 of STE and CD
  static constexpr field<4, 0> range{};  // word 1 of STE_RANGE: 2^(range + 1) streams, aligned
  static constexpr std::uint8_t all = 31;
};

// 4.4. NUM, SCALE, TTL and TG are reserved without SMMU_IDR3.RIL, and without TG.
struct tlbi {
  static constexpr field<16, 12> num{};
  static constexpr field<24, 20> scale{};  // (NUM + 1) * 2^SCALE granules
  static constexpr field<47, 32> vmid{};
  static constexpr field<63, 48> asid{};
  // Word 1.
  static constexpr field<0> leaf{};
  static constexpr field<9, 8> ttl{};    // level of the leaf; 0: any
  static constexpr field<11, 10> tg{};   // 1 4 KiB, 2 16 KiB, 3 64 KiB
  static constexpr field<63, 12> va{};   // NH_VA, NH_VAA
  static constexpr field<51, 12> ipa{};  // S2_IPA
};

// 4.5.1. 2^size pages of 4 KiB; 52 is everything.
struct atc_inv {
  static constexpr field<9> global{};
  static constexpr field<5, 0> size{};  // word 1
  static constexpr field<63, 12> address{};
  static constexpr std::uint8_t all = 52;
};

// 4.5.2. Response: 0 failure, 1 invalid request, 2 success; not PCIe's numbers.
struct pri_resp {
  static constexpr field<8, 0> prg_index{};  // word 1
  static constexpr field<13, 12> response{};
};

// 4.7.1.
struct resume {
  static constexpr field<12> retry{};
  static constexpr field<13> abort{};
  static constexpr field<15, 0> stag{};  // word 1
};

// 4.7.3. Completion signal: 0 none, 1 interrupt (or the MSI, where its address is not 0), 2 SEV.
struct sync {
  static constexpr field<13, 12> cs{};
  static constexpr field<23, 22> msh{};
  static constexpr field<27, 24> msi_attr{};
  static constexpr field<63, 32> msi_data{};
  static constexpr std::uint64_t msi_address = 0x00ff'ffff'ffff'fffc;  // word 1
};

// SMMU_CMDQ_CONS.ERR, 7.1.
inline constexpr field<30, 24> cons_err{};
enum class queue_error : std::uint8_t {
  none = 0,
  illegal = 1,       // CERROR_ILL
  aborted = 2,       // CERROR_ABT: the command could not be fetched
  atc_inv_sync = 3,  // CERROR_ATC_INV_SYNC: a device did not answer an invalidation
};

}  // namespace phasebit::iommu::smmuv3
