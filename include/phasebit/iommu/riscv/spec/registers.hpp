// SPDX-License-Identifier: BSL-1.0
// Registers of a RISC-V IOMMU (RISC-V IOMMU architecture specification 1.0, chapter 5). Each is a
// value snapshot; reading and writing the IOMMU is the caller's. spec/riscv_commands.hpp has cqcsr.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::iommu::riscv {

// 5.3
struct capabilities : register_value<capabilities, std::uint64_t> {
  static constexpr std::uint32_t offset = 0;
  using register_value::register_value;

  static constexpr field<7, 0> version{};  // 10h: 1.0
  static constexpr field<15> svpbmt{};
  static constexpr field<17> sv39x4{};
  static constexpr field<18> sv48x4{};
  static constexpr field<19> sv57x4{};
  static constexpr field<22> msi_flat{};  // device contexts have 64 bytes
  static constexpr field<24> amo_hwad{};  // hardware sets A and D
  static constexpr field<25> ats{};
  static constexpr field<26> t2gpa{};
  static constexpr field<27> end{};      // big-endian structures are possible
  static constexpr field<29, 28> igs{};  // interrupts: 0 MSI, 1 wires, 2 both
  static constexpr field<31> dbg{};      // translation requests by register
  static constexpr field<37, 32> pas{};  // width of physical addresses
};

// 5.4
struct fctl : register_value<fctl, std::uint32_t> {
  static constexpr std::uint32_t offset = 8;
  using register_value::register_value;
  static constexpr field<0> be{};   // structures in memory are big-endian
  static constexpr field<1> wsi{};  // interrupts are wires
  static constexpr field<2> gxl{};
};

// 5.5. The directory's page number in bits 53:10.
struct ddtp : register_value<ddtp, std::uint64_t> {
  static constexpr std::uint32_t offset = 16;
  using register_value::register_value;
  static constexpr field<3, 0> iommu_mode{};  // directory_mode of spec/riscv_tables.hpp
  static constexpr field<4> busy{};
  static constexpr field<53, 10> ppn{};
};

// 5.6, 5.9: a queue's place and size, and its indices.
struct queue_base : register_value<queue_base, std::uint64_t> {
  static constexpr std::uint32_t cqb_offset = 24;
  static constexpr std::uint32_t fqb_offset = 40;
  using register_value::register_value;
  static constexpr field<4, 0> log2sz_minus_1{};
  static constexpr field<53, 10> ppn{};
};
inline constexpr std::uint32_t cqh_offset = 32;
inline constexpr std::uint32_t cqt_offset = 36;
inline constexpr std::uint32_t fqh_offset = 48;
inline constexpr std::uint32_t fqt_offset = 52;
inline constexpr std::uint32_t cqcsr_offset = 72;

// 5.16. fqmf and fqof are cleared by writing one.
struct fqcsr : register_value<fqcsr, std::uint32_t> {
  static constexpr std::uint32_t offset = 76;
  using register_value::register_value;
  static constexpr field<0> fqen{};
  static constexpr field<1> fie{};
  static constexpr field<8> fqmf{};  // a record could not be written
  static constexpr field<9> fqof{};  // a record was lost: the queue is full
  static constexpr field<16> fqon{};
  static constexpr field<17> busy{};
};

inline constexpr std::uint32_t registers_bytes = 0x1000;

}  // namespace phasebit::iommu::riscv
