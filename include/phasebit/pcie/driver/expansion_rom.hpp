// SPDX-License-Identifier: BSL-1.0
// The expansion ROM of a function: its size, its place, and whether it is decoded. PCIe 5.0, 7.5.1.2.4.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <cstdint>

namespace phasebit::pcie {

namespace detail {

// 0 for a header that has no such register.
template <ConfigSpace Config>
[[nodiscard]] std::uint16_t rom_register(Config& config) noexcept {
  const header_type_register type{config.read8(header::header_type)};
  switch (type[header_type_register::layout]) {
    case header_layout::type0:
      return header::expansion_rom;
    case header_layout::type1:
      return bridge_header::expansion_rom;
    default:
      return 0;
  }
}

}  // namespace detail

// Bits 31:11 hold the address.
inline constexpr std::uint32_t rom_address_mask = 0xffff'f800;

// The ROM as a 32-bit memory BAR; absent where the function has none. The ROM is not decoded meanwhile, and
// the register is as it was afterwards. Errors: protocol (address bits that are not contiguous), removed.
template <ConfigSpace Config>
[[nodiscard]] result<bar> size_expansion_rom(Config& config) noexcept {
  if (is_removed(config)) return failure(errc::removed, "the function reads as all ones");
  const std::uint16_t at = detail::rom_register(config);
  if (at == 0) return bar{};
  const std::uint32_t held = config.read32(at);
  config.write32(at, rom_address_mask);
  const std::uint32_t settable = config.read32(at) & rom_address_mask;
  config.write32(at, held);
  if (settable == 0) return bar{};
  if (settable == rom_address_mask && is_removed(config)) {
    return failure(errc::removed, "the function was removed while its expansion ROM was sized");
  }
  const auto size = detail::bar_size(settable, false);
  if (!size)
    return failure(errc::protocol, "an expansion ROM's address bits are not contiguous", settable);
  return bar{bar_kind::memory32, false, held & rom_address_mask, *size};
}

// Places the ROM and decodes it, or not. Reading it takes memory decoding, too (command register). A function may
// use one address decoder for its ROM and its BARs: the BARs are not used while the ROM is decoded.
template <ConfigSpace Config>
void set_expansion_rom(Config& config, std::uint64_t address, bool enable) noexcept {
  PHASEBIT_EXPECTS((address & ~std::uint64_t{rom_address_mask}) == 0,
                   "an expansion ROM lies below 4 GiB, at a multiple of 2 KiB");
  const std::uint16_t at = detail::rom_register(config);
  if (at == 0) return;
  config.write32(at, static_cast<std::uint32_t>(address) |
                         expansion_rom_register{}.with(expansion_rom_register::enable, enable).raw);
}

}  // namespace phasebit::pcie
