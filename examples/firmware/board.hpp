// SPDX-License-Identifier: BSL-1.0
// QEMU's "virt" machines of AArch64 and RISC-V: where the devices are, and a console.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>

#include <cstddef>
#include <cstdint>

extern "C" [[noreturn]] void power_off() noexcept;  // start_<architecture>.S

namespace board {

#if defined(__aarch64__)
inline constexpr std::uintptr_t uart = 0x0900'0000;  // PL011
#  if defined(FIRMWARE_LOW_ECAM)                     // -M virt,highmem=off
inline constexpr std::uintptr_t ecam = 0x3f00'0000;
inline constexpr std::size_t ecam_buses = 16;
#  else
inline constexpr std::uintptr_t ecam = 0x40'1000'0000;
inline constexpr std::size_t ecam_buses = 256;
#  endif
inline constexpr std::uint64_t pcie_memory = 0x1000'0000;
inline constexpr std::uint64_t pcie_memory_bytes = 0x2eff'0000;
inline constexpr std::uint64_t pcie_wide = 0;  // 64-bit BARs are placed in the same window
inline constexpr std::uint64_t pcie_wide_bytes = 0;
inline constexpr char name[] = "aarch64";
#elif defined(__riscv)
inline constexpr std::uintptr_t uart = 0x1000'0000;  // 16550
inline constexpr std::uintptr_t ecam = 0x3000'0000;
inline constexpr std::size_t ecam_buses = 256;
inline constexpr std::uint64_t pcie_memory = 0x4000'0000;
inline constexpr std::uint64_t pcie_memory_bytes = 0x4000'0000;
inline constexpr std::uint64_t pcie_wide = 0x4'0000'0000;
inline constexpr std::uint64_t pcie_wide_bytes = 0x4'0000'0000;
inline constexpr char name[] = "riscv64";
#endif

[[nodiscard]] inline phasebit::pcie::host_resources resources() noexcept {
  return {.memory = {pcie_memory, pcie_memory_bytes},
          .prefetchable = {pcie_wide, pcie_wide_bytes},
          .last_bus = static_cast<std::uint8_t>(ecam_buses - 1)};
}

// A free-running counter for time-outs: 62.5 MHz on aarch64, 10 MHz on riscv64.
#if defined(__aarch64__)
inline constexpr std::uint64_t ticks_per_second = 62'500'000;
[[nodiscard]] inline std::uint64_t ticks() noexcept {
  std::uint64_t now = 0;
  asm volatile("mrs %0, cntvct_el0" : "=r"(now));
  return now;
}
#else
inline constexpr std::uint64_t ticks_per_second = 10'000'000;
[[nodiscard]] inline std::uint64_t ticks() noexcept {
  return phasebit::mmio_load<std::uint64_t>(
      reinterpret_cast<const void*>(0x0200'bff8));  // CLINT mtime
}
#endif

inline void put(char c) noexcept {
#if defined(__aarch64__)
  phasebit::mmio_store<std::uint32_t>(reinterpret_cast<void*>(uart), static_cast<unsigned char>(c));
#else
  phasebit::mmio_store<std::uint8_t>(reinterpret_cast<void*>(uart), static_cast<unsigned char>(c));
#endif
}
inline void print(const char* text) noexcept {
  for (; *text != 0; ++text) put(*text);
}
inline void print_number(std::uint64_t value, unsigned base = 10) noexcept {
  char digits[20];
  unsigned count = 0;
  do {
    digits[count++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  while (count != 0) put(digits[--count]);
}

}  // namespace board
