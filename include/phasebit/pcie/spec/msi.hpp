// SPDX-License-Identifier: BSL-1.0
// MSI: one message in configuration space, for functions that have no MSI-X. PCIe 5.0, 7.7.1.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/msi_message.hpp>

#include <cstdint>

namespace phasebit::pcie {

// 7.7.1.2
struct msi_control : register_value<msi_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> enable{};
  static constexpr field<3, 1> capable{};  // log2 of the vectors that it has
  static constexpr field<6, 4> enabled{};  // log2 of those that it may use
  static constexpr field<7> wide{};        // an address of 64 bits
  static constexpr field<8> maskable{};    // a mask bit for each vector
};

namespace msi {

// Offsets from the capability; data and mask lie behind the address, whose length differs.
inline constexpr std::uint16_t control_offset = 0x02;
inline constexpr std::uint16_t address_offset = 0x04;

}  // namespace msi

struct msi_capability {
  std::uint16_t offset = 0;  // of the capability in configuration space
  std::uint8_t vectors = 0;
  bool wide = false;
  bool maskable = false;

  [[nodiscard]] constexpr std::uint16_t data_offset() const noexcept { return wide ? 12 : 8; }
  [[nodiscard]] constexpr std::uint16_t mask_offset() const noexcept { return wide ? 16 : 12; }
  // Of the whole structure: four shapes (7.7.1).
  [[nodiscard]] constexpr std::uint16_t bytes() const noexcept {
    return static_cast<std::uint16_t>((wide ? 14 : 10) + (maskable ? 10 : 0));
  }
};

// Errors: those of find_capability, and protocol where it is more than there can be.
template <ConfigSpace Config>
[[nodiscard]] result<msi_capability> read_msi(Config& config) noexcept {
  const auto at = find_capability(config, capability_id::msi);
  if (!at) return at.error();
  const msi_control control{config.read16(static_cast<std::uint16_t>(*at + msi::control_offset))};
  if (control[msi_control::capable] > 5) {
    return detail::broken_or_removed(config, errc::protocol,
                                     "MSI claims more vectors than there can be", control.raw);
  }
  const msi_capability found{
      .offset = *at,
      .vectors = static_cast<std::uint8_t>(1U << control[msi_control::capable]),
      .wide = control[msi_control::wide],
      .maskable = control[msi_control::maskable]};
  if (*at > conventional_config_bytes - found.bytes()) {
    return failure(errc::protocol, "the MSI capability runs over the end of its space", *at);
  }
  return found;
}

// Switches MSI off. An interrupt that is due is then signalled by INTx, where the function has it.
template <ConfigSpace Config>
void disable_msi(Config& config, const msi_capability& capability) noexcept {
  const auto at = static_cast<std::uint16_t>(capability.offset + msi::control_offset);
  config.write16(at, msi_control{config.read16(at)}.with(msi_control::enable, false).raw);
}

// Switches MSI on with one vector, which writes this message. Its data has 16 bits. Errors:
// out_of_range (an address beyond 4 GiB, of a function whose register has 32 bits).
template <ConfigSpace Config>
[[nodiscard]] result<> enable_msi(Config& config, const msi_capability& capability,
                                  msi_message message) noexcept {
  PHASEBIT_EXPECTS(is_aligned(message.address, 4), "a message goes to a dword-aligned address");
  PHASEBIT_EXPECTS(message.data <= 0xffff, "the data of an MSI message has 16 bits");
  const std::uint64_t address = message.address.value();
  if (!capability.wide && address >> 32 != 0) {
    return failure(errc::out_of_range, "the function sends messages below 4 GiB only", address);
  }
  const auto reg = [&](unsigned offset) {
    return static_cast<std::uint16_t>(capability.offset + offset);
  };
  // Address and data are changed only while it is off (6.1.4).
  disable_msi(config, capability);
  config.write32(reg(msi::address_offset), static_cast<std::uint32_t>(address));
  if (capability.wide) {
    config.write32(reg(msi::address_offset + 4), static_cast<std::uint32_t>(address >> 32));
  }
  config.write16(reg(capability.data_offset()), static_cast<std::uint16_t>(message.data));
  if (capability.maskable) {
    const std::uint32_t masked = config.read32(reg(capability.mask_offset()));
    config.write32(reg(capability.mask_offset()), masked & ~std::uint32_t{1});
  }
  const msi_control now{config.read16(reg(msi::control_offset))};
  config.write16(reg(msi::control_offset),
                 now.with(msi_control::enabled, 0).with(msi_control::enable, true).raw);
  return {};
}

}  // namespace phasebit::pcie
