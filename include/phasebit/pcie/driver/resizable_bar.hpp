// SPDX-License-Identifier: BSL-1.0
// Reads and sets the sizes of resizable BARs. PCIe 5.0, 7.8.6.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/resizable_bar_capability.hpp>

#include <array>
#include <cstdint>

namespace phasebit::pcie {

// One BAR. Bit n of `sizes`: it may have 2^(20 + n) bytes, n below 44.
struct resizable_bar_info {
  std::uint8_t index = 0;
  std::uint16_t control = 0;  // offset of its control register
  std::uint64_t sizes = 0;
  std::uint64_t bytes = 0;  // as it is now
};
struct resizable_bars {
  std::array<resizable_bar_info, type0_bars> bars{};
  unsigned count = 0;
};

// Errors: those of find_capability (not_found: no BAR is resizable), protocol (a number of BARs, or a
// BAR, that no function has).
template <ConfigSpace Config>
[[nodiscard]] result<resizable_bars> read_resizable_bars(Config& config) noexcept {
  const auto at = find_capability(config, extended_capability_id::resizable_bar);
  if (!at) return at.error();
  const auto reg = [&](unsigned offset) { return static_cast<std::uint16_t>(*at + offset); };
  if (*at > extended_config_bytes - 12) {
    return failure(errc::protocol, "the Resizable BAR capability runs over the end of its space",
                   *at);
  }
  resizable_bars found;
  const resizable_bar_control first{config.read32(reg(8))};
  found.count = first[resizable_bar_control::bars];
  if (found.count == 0 || found.count > type0_bars ||
      *at + 4U + 8U * found.count > extended_config_bytes) {
    return failure(errc::protocol, "the number of resizable BARs is none that a function has",
                   found.count);
  }
  for (unsigned i = 0; i != found.count; ++i) {
    const std::uint32_t sizes = config.read32(reg(4 + 8 * i));
    const resizable_bar_control control{config.read32(reg(8 + 8 * i))};
    resizable_bar_info& bar = found.bars[i];
    bar.index = control[resizable_bar_control::bar_index];
    if (bar.index >= type0_bars) {
      return failure(errc::protocol, "a resizable BAR has a number that no BAR has", bar.index);
    }
    bar.control = reg(8 + 8 * i);
    bar.sizes = sizes >> 4 | std::uint64_t{control[resizable_bar_control::larger_sizes]} << 28;
    bar.bytes = std::uint64_t{1} << ((20U + control[resizable_bar_control::size]) & 63U);
  }
  return found;
}

// Gives a BAR another size. Memory decoding is off afterwards, because the BAR's address is undefined:
// size and place it again. Errors: not_supported (no such size), protocol (the BAR did not take it).
template <ConfigSpace Config>
[[nodiscard]] result<> resize_bar(Config& config, const resizable_bar_info& bar,
                                  std::uint64_t bytes) noexcept {
  unsigned code = 0;
  while (code != 43 && std::uint64_t{1} << (20 + code) != bytes) ++code;
  if (std::uint64_t{1} << (20 + code) != bytes || (bar.sizes >> code & 1) == 0) {
    return failure(errc::not_supported, "the BAR does not have this size", bytes).at(bar.index);
  }
  set_command(config, read_command(config).with(command_register::memory_space, false));
  const resizable_bar_control before{config.read32(bar.control)};
  const auto wanted = before.with(resizable_bar_control::size, static_cast<std::uint8_t>(code));
  config.write32(bar.control, wanted.raw);
  const resizable_bar_control now{config.read32(bar.control)};
  if (now[resizable_bar_control::size] != code) {
    return failure(errc::protocol, "the BAR did not take its size", now.raw).at(bar.index);
  }
  return {};
}

}  // namespace phasebit::pcie
