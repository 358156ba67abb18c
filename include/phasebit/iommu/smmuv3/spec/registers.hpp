// SPDX-License-Identifier: BSL-1.0
// Registers of an Arm SMMUv3, the Non-secure programming interface (Arm SMMU architecture
// specification IHI 0070, chapter 6). Each is a value snapshot; reading and writing the IOMMU is the
// caller's, in the width that `raw` has.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::iommu::smmuv3 {

// 6.3.1
struct idr0 : register_value<idr0, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x00;
  using register_value::register_value;

  static constexpr field<0> s2p{};      // stage 2
  static constexpr field<1> s1p{};      // stage 1
  static constexpr field<3, 2> ttf{};   // bit 1: AArch64 tables
  static constexpr field<4> cohacc{};   // walks and queues are coherent
  static constexpr field<7, 6> httu{};  // 1 hardware sets AF, 2 and the dirty state
  static constexpr field<10> ats{};
  static constexpr field<13> msi{};
  static constexpr field<16> pri{};
  static constexpr field<18> vmid16{};
  static constexpr field<22, 21> ttendian{};
  static constexpr field<25, 24> stall_model{};
  static constexpr field<28, 27> st_level{};  // 1: stream tables of two levels
};
// 6.3.2
struct idr1 : register_value<idr1, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x04;
  using register_value::register_value;

  static constexpr field<5, 0> sidsize{};    // bits of a StreamID
  static constexpr field<20, 16> eventqs{};  // log2 of the longest event queue
  static constexpr field<25, 21> cmdqs{};    // log2 of the longest command queue
  static constexpr field<29> queues_preset{};
  static constexpr field<30> tables_preset{};
};
// 6.3.4
struct idr3 : register_value<idr3, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x0c;
  using register_value::register_value;

  static constexpr field<8> fwb{};
  static constexpr field<10> ril{};       // range invalidation
  static constexpr field<12, 11> bbml{};  // how page sizes may change, see arm_stage2::bbm_level
};
// 6.3.6
struct idr5 : register_value<idr5, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x14;
  using register_value::register_value;

  static constexpr field<2, 0> oas{};  // width of output addresses, as STE.S2PS spells it
  static constexpr field<4> gran4k{};
  static constexpr field<5> gran16k{};
  static constexpr field<6> gran64k{};
};

// 6.3.9; CR0ACK follows it when the IOMMU has done what was written.
struct cr0 : register_value<cr0, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x20;
  static constexpr std::uint32_t ack_offset = 0x24;
  using register_value::register_value;

  static constexpr field<0> smmuen{};
  static constexpr field<1> priqen{};
  static constexpr field<2> eventqen{};
  static constexpr field<3> cmdqen{};
  static constexpr field<4> atschk{};
};
// 6.3.11: attributes of the IOMMU's own accesses. Cacheability 1 write-back, shareability 3 inner.
struct cr1 : register_value<cr1, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x28;
  using register_value::register_value;

  static constexpr field<1, 0> queue_ic{};
  static constexpr field<3, 2> queue_oc{};
  static constexpr field<5, 4> queue_sh{};
  static constexpr field<7, 6> table_ic{};
  static constexpr field<9, 8> table_oc{};
  static constexpr field<11, 10> table_sh{};

  [[nodiscard]] static constexpr cr1 cacheable() noexcept {
    return cr1{}
        .with(queue_ic, 1)
        .with(queue_oc, 1)
        .with(queue_sh, 3)
        .with(table_ic, 1)
        .with(table_oc, 1)
        .with(table_sh, 3);
  }
};
// 6.3.12
struct cr2 : register_value<cr2, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x2c;
  using register_value::register_value;

  static constexpr field<0> e2h{};
  static constexpr field<1> recinvsid{};  // StreamIDs beyond the table are recorded
  static constexpr field<2> ptm{};        // broadcast TLB maintenance is ignored
};
// 6.3.14: what happens while SMMUEN is 0.
struct gbpa : register_value<gbpa, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x44;
  using register_value::register_value;

  static constexpr field<20> abort{};
  static constexpr field<31> update{};  // write with one; zero again when it has happened
};
// 6.3.19, 6.3.20: a bit that differs from GERRORN's is an error that is not acknowledged.
struct gerror : register_value<gerror, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x60;
  static constexpr std::uint32_t ack_offset = 0x64;
  using register_value::register_value;

  static constexpr field<0> cmdq_err{};
  static constexpr field<2> eventq_abt_err{};
  static constexpr field<8> sfm_err{};  // service failure: the IOMMU has given up
};
// 6.3.24, 6.3.25
struct strtab_base : register_value<strtab_base, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x80;
  using register_value::register_value;
  static constexpr field<62> ra{};  // read-allocate hint
};
struct strtab_base_cfg : register_value<strtab_base_cfg, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x88;
  using register_value::register_value;

  static constexpr field<5, 0> log2size{};  // bits of the StreamIDs that are in the table
  static constexpr field<10, 6> split{};    // of these, those of the second level
  static constexpr field<17, 16> fmt{};     // 0 linear, 1 two levels
};
// 6.3.26 and 6.3.29: a queue's place, aligned to its size, and log2 of its entries.
struct queue_base : register_value<queue_base, std::uint64_t> {
  static constexpr std::uint32_t cmdq_offset = 0x90;
  static constexpr std::uint32_t eventq_offset = 0xa0;
  using register_value::register_value;

  static constexpr field<4, 0> log2size{};
  static constexpr field<62> allocate{};  // RA, WA
};
// Indices of queues: log2 of the size bits, and above them one that flips with every turn. The event
// queue's lie in the second page of 64 KiB.
inline constexpr std::uint32_t cmdq_prod_offset = 0x98;
inline constexpr std::uint32_t cmdq_cons_offset = 0x9c;
inline constexpr std::uint32_t eventq_prod_offset = 0x1'00a8;
inline constexpr std::uint32_t eventq_cons_offset = 0x1'00ac;
inline constexpr std::uint32_t registers_bytes = 0x2'0000;

inline constexpr field<31> queue_overflow{};  // of EVENTQ_PROD; acknowledged in EVENTQ_CONS

}  // namespace phasebit::iommu::smmuv3
