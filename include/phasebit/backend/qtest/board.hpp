// SPDX-License-Identifier: BSL-1.0
// Machine types of QEMU: what is needed to drive them without firmware.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>

#include <cstdint>

namespace phasebit::backend::qtest {

// Addresses are those of the emulated machine. On all of these a device's bus address is the
// machine's physical one, unless an IOMMU model is added.
struct board {
  const char* program;  // looked up in PATH
  const char* package;  // of Debian, named in the error when the program is missing
  const char* machine;  // of -machine
  const char* cpu;      // of -cpu, or null
  // An instruction that keeps the processor idle; it fills the boot ROM.
  std::uint32_t idle_instruction;
  std::uint32_t rom_bytes;
  // RAM begins here. RAM beyond `low_limit` is split: `low_bytes` here, the remainder at
  // `high_base`.
  std::uint64_t ram_base;
  std::uint64_t low_limit;
  std::uint64_t low_bytes;
  std::uint64_t high_base;
  std::uint64_t reserved_low;  // of RAM: legacy windows that devices would hit instead
  // Configuration space: a window of memory, or on a PC of 1996 only ports CF8h and CFCh.
  std::uint64_t ecam_base;
  std::uint64_t ecam_size;
  std::uint64_t ecam_register;  // what switches the window on: a register of 00:00.0, or 0
  std::uint64_t io_base;        // where port 0 lies in memory, 0: a port space of its own
  pcie::host_resources resources;
};

// Intel Q35 and ICH9: PCI Express with root ports. PCIEXBAR (60h of 00:00.0) places the window.
inline constexpr board q35{.program = "qemu-system-x86_64",
                           .package = "qemu-system-x86",
                           .machine = "q35",
                           .cpu = nullptr,
                           .idle_instruction = 0xf4f4'f4f4,  // hlt
                           .rom_bytes = 0x1'0000,
                           .ram_base = 0,
                           .low_limit = 0xb000'0000,
                           .low_bytes = 0x8000'0000,
                           .high_base = 0x1'0000'0000,
                           .reserved_low = 0x10'0000,
                           .ecam_base = 0xb000'0000,
                           .ecam_size = 0x1000'0000,
                           .ecam_register = 0x60,
                           .io_base = 0,
                           .resources = {.io = {0xc000, 0x4000},
                                         .memory = {0xc000'0000, 0x3e00'0000},
                                         .prefetchable = {0x80'0000'0000, 0x40'0000'0000}}};

// Intel 440FX: conventional PCI, 256 bytes of configuration space.
inline constexpr board pc{.program = "qemu-system-x86_64",
                          .package = "qemu-system-x86",
                          .machine = "pc",
                          .cpu = nullptr,
                          .idle_instruction = 0xf4f4'f4f4,
                          .rom_bytes = 0x1'0000,
                          .ram_base = 0,
                          .low_limit = 0xe000'0000,
                          .low_bytes = 0xc000'0000,
                          .high_base = 0x1'0000'0000,
                          .reserved_low = 0x10'0000,
                          .ecam_base = 0,
                          .ecam_size = 0,
                          .ecam_register = 0,
                          .io_base = 0,
                          .resources = {.io = {0xc000, 0x3000},
                                        .memory = {0xe000'0000, 0x1e00'0000},
                                        .prefetchable = {0x80'0000'0000, 0x40'0000'0000}}};

// The virtual Arm machine with its PCI Express host bridge.
inline constexpr board arm_virt{.program = "qemu-system-aarch64",
                                .package = "qemu-system-arm",
                                .machine = "virt",
                                .cpu = "max",
                                .idle_instruction = 0xd503'207f,  // wfi
                                .rom_bytes = 0x1'0000,
                                .ram_base = 0x4000'0000,
                                .low_limit = 0x40'0000'0000,
                                .low_bytes = 0x40'0000'0000,
                                .high_base = 0,
                                .reserved_low = 0,
                                .ecam_base = 0x40'1000'0000,
                                .ecam_size = 0x1000'0000,
                                .ecam_register = 0,
                                .io_base = 0x3eff'0000,
                                .resources = {.io = {0x1000, 0xf000},
                                              .memory = {0x1000'0000, 0x2eff'0000},
                                              .prefetchable = {0x80'0000'0000, 0x80'0000'0000}}};

// The virtual RISC-V machine with its PCI Express host bridge. Its boot ROM jumps to the beginning of
// RAM, so that what idles lies there. For at most 14 GiB of RAM: behind it begins the upper window.
inline constexpr board riscv_virt{
    .program = "qemu-system-riscv64",
    .package = "qemu-system-riscv (qemu-system-misc before Debian 13)",
    .machine = "virt",
    .cpu = nullptr,
    .idle_instruction = 0x1050'0073,  // wfi
    .rom_bytes = 0x1000,
    .ram_base = 0x8000'0000,
    .low_limit = 0x3'8000'0000,
    .low_bytes = 0x3'8000'0000,
    .high_base = 0,
    .reserved_low = 0x1'0000,
    .ecam_base = 0x3000'0000,
    .ecam_size = 0x1000'0000,
    .ecam_register = 0,
    .io_base = 0x0300'0000,
    .resources = {.io = {0x1000, 0xf000},
                  .memory = {0x4000'0000, 0x4000'0000},
                  .prefetchable = {0x4'0000'0000, 0x4'0000'0000}}};

}  // namespace phasebit::backend::qtest
