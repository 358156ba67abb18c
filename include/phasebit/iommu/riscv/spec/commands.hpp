// SPDX-License-Identifier: BSL-1.0
// Commands of the RISC-V IOMMU's command queue: RISC-V IOMMU 1.0, 3.1. Fields are numbered within
// their 64-bit word. Little-endian (fctl.BE = 0).
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::riscv {

struct command_entry {
  le<std::uint64_t> dw0;
  le<std::uint64_t> dw1;
};
static_assert(WireStruct<command_entry> && sizeof(command_entry) == 16 &&
              alignof(command_entry) == 8);
static_assert(offsetof(command_entry, dw0) == 0 && offsetof(command_entry, dw1) == 8);

enum class opcode : std::uint8_t { iotinval = 1, iofence = 2, iodir = 3, ats = 4 };
inline constexpr field<6, 0> opcode_bits{};
inline constexpr field<9, 7> func3{};

// 3.1.1.
struct iotinval {
  static constexpr std::uint8_t vma = 0;   // first-stage tables
  static constexpr std::uint8_t gvma = 1;  // second-stage tables
  static constexpr field<10> av{};         // the address is valid: leaves only
  static constexpr field<31, 12> pscid{};
  static constexpr field<32> pscv{};
  static constexpr field<33> gv{};
  static constexpr field<59, 44> gscid{};
  static constexpr std::uint64_t reserved0 = 0xf000'0ffc'0000'0800;
  static constexpr field<61, 10> address_63_12{};  // word 1
  static constexpr std::uint64_t reserved1 = 0xc000'0000'0000'03ff;
};

// 3.1.2.
struct iofence {
  static constexpr std::uint8_t c = 0;
  static constexpr field<10> av{};   // write the data
  static constexpr field<11> wsi{};  // wired interrupt
  static constexpr field<12> pr{};   // earlier reads of devices are done
  static constexpr field<13> pw{};   // and writes
  static constexpr field<63, 32> data{};
  static constexpr std::uint64_t reserved0 = 0xffff'c000;
  static constexpr field<61, 0> address_63_2{};  // word 1
  static constexpr std::uint64_t reserved1 = 0xc000'0000'0000'0000;
};

// 3.1.3.
struct iodir {
  static constexpr std::uint8_t inval_ddt = 0;
  static constexpr std::uint8_t inval_pdt = 1;
  static constexpr field<31, 12> pid{};
  static constexpr field<33> dv{};  // the device is valid
  static constexpr field<63, 40> did{};
  static constexpr std::uint64_t reserved0 = 0x0000'00fd'0000'0c00;
};

// 3.1.4. Word 1 is the body of the message that the device gets.
struct ats {
  static constexpr std::uint8_t inval = 0;
  static constexpr std::uint8_t prgr = 1;
  static constexpr field<31, 12> pid{};
  static constexpr field<32> pv{};
  static constexpr field<33> dsv{};
  static constexpr field<55, 40> rid{};
  static constexpr field<63, 56> dseg{};
  static constexpr std::uint64_t reserved0 = 0x0000'00fc'0000'0c00;
  // Invalidate Request: with S, the run of ones starting at bit 12 of the address encodes the size.
  static constexpr field<0> g{};
  static constexpr field<11> s{};
  static constexpr field<63, 12> address{};
  static constexpr std::uint64_t inval_reserved1 = 0x7fe;
  // Page Request Group Response.
  static constexpr field<40, 32> prg_index{};
  static constexpr field<47, 44> response{};
  static constexpr field<63, 48> destination{};
  static constexpr std::uint64_t prgr_reserved1 = 0x0000'0e00'ffff'ffff;
};

// cqcsr, 5.15: what stops the queue, and what a fence leaves.
struct cqcsr {
  static constexpr field<0> cqen{};
  static constexpr field<1> cie{};
  static constexpr field<8> cqmf{};  // a command could not be fetched, or a fence's data not stored
  static constexpr field<9> cmd_to{};  // a device did not answer in time
  static constexpr field<10> cmd_ill{};
  static constexpr field<11> fence_w_ip{};
  static constexpr field<16> cqon{};
  static constexpr field<17> busy{};
};

}  // namespace phasebit::iommu::riscv
