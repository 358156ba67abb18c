// SPDX-License-Identifier: BSL-1.0
// Base address registers: kind, size and address. PCIe 5.0, 7.5.1.2.1.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <array>
#include <cstdint>

namespace phasebit::pcie {

enum class bar_kind : std::uint8_t { absent, io, memory32, memory64 };

// One BAR. `size` is a power of two, in bytes; `address` is what the register holds now.
struct bar {
  bar_kind kind = bar_kind::absent;
  bool prefetchable = false;
  std::uint64_t address = 0;
  std::uint64_t size = 0;

  [[nodiscard]] constexpr bool present() const noexcept { return kind != bar_kind::absent; }
  friend constexpr bool operator==(const bar&, const bar&) noexcept = default;
};

// By BAR number. The upper half of a 64-bit BAR is absent.
using bar_array = std::array<bar, type0_bars>;

namespace detail {

// `settable`: the address bits that kept the ones written to them; those above bit 31 count as set
// for a narrow BAR. The size is the lowest of them.
[[nodiscard]] constexpr result<std::uint64_t> bar_size(std::uint64_t settable, bool wide) noexcept {
  const std::uint64_t size = ~(wide ? settable : settable | ~std::uint64_t{0} << 32) + 1;
  if (settable == 0 || !is_power_of_two(size)) {
    return failure(errc::protocol, "the address bits of a BAR are not contiguous", settable);
  }
  return size;
}

// Sizes `count` registers from `first` and puts their values back. The caller has switched off
// whatever decodes them.
template <ConfigSpace Config>
[[nodiscard]] result<bar_array> size_bar_registers(Config& config, std::uint16_t first,
                                                   unsigned count) noexcept {
  const auto probe = [&](std::uint16_t offset, std::uint32_t& held) {
    held = config.read32(offset);
    config.write32(offset, 0xffff'ffff);
    const std::uint32_t answer = config.read32(offset);
    config.write32(offset, held);
    return answer;
  };

  bar_array bars{};
  for (unsigned i = 0; i < count; ++i) {
    const auto offset = static_cast<std::uint16_t>(first + 4 * i);
    std::uint32_t held = 0;
    const bar_register answer{probe(offset, held)};
    if (answer.raw == 0) continue;
    if (answer.raw == 0xffff'ffff && is_removed(config)) {
      return failure(errc::removed, "the function was removed while its BARs were sized").at(i);
    }
    if (answer[bar_register::io]) {
      std::uint32_t settable = answer.raw & ~bar_register::io_flags;
      // A function may decode 16 bits of I/O addresses only.
      if (settable != 0 && settable >> 16 == 0) settable |= 0xffff'0000;
      const auto size = bar_size(settable, false);
      if (!size) return size.error().at(i);
      bars[i] = {bar_kind::io, false, held & ~bar_register::io_flags, *size};
      continue;
    }
    const std::uint8_t type = answer[bar_register::memory_type];
    if (type != bar_register::type_32 && type != bar_register::type_64) {
      return failure(errc::protocol, "a BAR has a reserved memory type", answer.raw).at(i);
    }
    const bool wide = type == bar_register::type_64;
    if (wide && i + 1 == count) {
      return failure(errc::protocol, "the last BAR is encoded as the lower half of two").at(i);
    }
    std::uint64_t settable = answer.raw & ~bar_register::memory_flags;
    std::uint64_t address = held & ~bar_register::memory_flags;
    if (wide) {
      std::uint32_t held_upper = 0;
      settable |= std::uint64_t{probe(static_cast<std::uint16_t>(offset + 4), held_upper)} << 32;
      address |= std::uint64_t{held_upper} << 32;
    }
    const auto size = bar_size(settable, wide);
    if (!size) return size.error().at(i);
    bars[i] = {wide ? bar_kind::memory64 : bar_kind::memory32, answer[bar_register::prefetchable],
               address, *size};
    if (wide) ++i;
  }
  return bars;
}

}  // namespace detail

// How many BARs a header of this type has; none where the type is unknown.
[[nodiscard]] constexpr unsigned bar_count(header_layout layout) noexcept {
  return layout == header_layout::type0   ? type0_bars
         : layout == header_layout::type1 ? type1_bars
                                          : 0;
}

// Sizes every BAR of the function. I/O and memory decoding are off meanwhile, and everything is as
// it was afterwards; no other code may use the function's registers during the call. error::index is
// the BAR. Errors: protocol (what no BAR can answer), removed.
template <ConfigSpace Config>
[[nodiscard]] result<bar_array> size_bars(Config& config) noexcept {
  if (is_removed(config)) return failure(errc::removed, "the function reads as all ones");
  const header_type_register type{config.read8(header::header_type)};
  const command_register before = read_command(config);
  set_command(
      config,
      before.with(command_register::io_space, false).with(command_register::memory_space, false));
  const auto bars = detail::size_bar_registers(config, header::bar0,
                                               bar_count(type[header_type_register::layout]));
  set_command(config, before);
  return bars;
}

// The address that BAR `index` holds, without sizing it; flags are cut off. For an index that is
// the lower half of a 64-bit BAR, or a BAR of its own.
template <ConfigSpace Config>
[[nodiscard]] std::uint64_t read_bar_address(Config& config, unsigned index,
                                             std::uint16_t first = header::bar0) noexcept {
  PHASEBIT_EXPECTS(index < type0_bars, "a function has at most six BARs");
  const auto offset = static_cast<std::uint16_t>(first + 4 * index);
  const bar_register low{config.read32(offset)};
  if (low[bar_register::io]) return low.raw & ~bar_register::io_flags;
  std::uint64_t address = low.raw & ~bar_register::memory_flags;
  if (low[bar_register::memory_type] == bar_register::type_64 && index + 1 < type0_bars) {
    address |= std::uint64_t{config.read32(static_cast<std::uint16_t>(offset + 4))} << 32;
  }
  return address;
}

// Places BAR `index`. The address is a multiple of the BAR's size and fits its width; decoding is
// off meanwhile, because a 64-bit BAR is somewhere else between the two writes.
template <ConfigSpace Config>
void write_bar_address(Config& config, unsigned index, const bar& which, std::uint64_t address,
                       std::uint16_t first = header::bar0) noexcept {
  PHASEBIT_EXPECTS(index < type0_bars && which.present(), "only a BAR that exists has an address");
  PHASEBIT_EXPECTS((address & (which.size - 1)) == 0, "a BAR lies at a multiple of its size");
  const auto offset = static_cast<std::uint16_t>(first + 4 * index);
  config.write32(offset, static_cast<std::uint32_t>(address));
  if (which.kind == bar_kind::memory64) {
    config.write32(static_cast<std::uint16_t>(offset + 4),
                   static_cast<std::uint32_t>(address >> 32));
  } else {
    PHASEBIT_EXPECTS(address >> 32 == 0, "the BAR has 32 address bits");
  }
}

}  // namespace phasebit::pcie
