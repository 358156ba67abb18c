// SPDX-License-Identifier: BSL-1.0
// MSI-X: the capability, the table in a BAR, and the messages. PCIe 5.0, 7.7.2 and 6.1.4.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/msi_message.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::pcie {

namespace msix {

// Offsets from the capability.
inline constexpr std::uint16_t control_offset = 0x02;
inline constexpr std::uint16_t table_offset = 0x04;
inline constexpr std::uint16_t pba_offset = 0x08;
inline constexpr std::uint16_t capability_bytes = 12;
inline constexpr unsigned max_vectors = 2048;

}  // namespace msix

// 7.7.2.2
struct msix_control : register_value<msix_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<10, 0> table_size{};  // vectors - 1
  static constexpr field<14> function_mask{};
  static constexpr field<15> enable{};
};

// 7.7.2.3 and 7.7.2.4: which BAR, and where in it (the offset's low three bits are zero).
struct msix_location : register_value<msix_location, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<2, 0> bar{};
  static constexpr std::uint32_t offset_mask = 0xffff'fff8;
  [[nodiscard]] constexpr std::uint32_t offset() const noexcept { return raw & offset_mask; }
};

// One vector's entry, 7.7.2.6. Its bytes live in the device.
struct msix_entry {
  le<std::uint32_t> address_low;
  le<std::uint32_t> address_high;
  le<std::uint32_t> data;
  le<std::uint32_t> control;

  static constexpr field<0> masked{};  // of `control`
};
static_assert(WireStruct<msix_entry> && sizeof(msix_entry) == 16);
static_assert(offsetof(msix_entry, address_low) == 0 && offsetof(msix_entry, address_high) == 4 &&
              offsetof(msix_entry, data) == 8 && offsetof(msix_entry, control) == 12);

// The pending bits come in whole 64-bit words.
[[nodiscard]] constexpr std::uint32_t msix_pba_bytes(unsigned vectors) noexcept {
  return (vectors + 63U) / 64U * 8U;
}
[[nodiscard]] constexpr std::uint32_t msix_table_bytes(unsigned vectors) noexcept {
  return vectors * static_cast<std::uint32_t>(sizeof(msix_entry));
}

struct msix_capability {
  std::uint16_t offset = 0;  // of the capability in configuration space
  std::uint16_t vectors = 0;
  std::uint8_t table_bar = 0;
  std::uint8_t pba_bar = 0;
  std::uint32_t table_offset = 0;
  std::uint32_t pba_offset = 0;
};

// Errors: those of find_capability, and protocol where the table's BAR indicator is invalid.
template <ConfigSpace Config>
[[nodiscard]] result<msix_capability> read_msix(Config& config) noexcept {
  const auto at = find_capability(config, capability_id::msix);
  if (!at) return at.error();
  const auto reg = [&](std::uint16_t offset) { return static_cast<std::uint16_t>(*at + offset); };
  if (*at > conventional_config_bytes - msix::capability_bytes) {
    return failure(errc::protocol, "the MSI-X capability runs over the end of its space", *at);
  }
  const msix_control control{config.read16(reg(msix::control_offset))};
  const msix_location table{config.read32(reg(msix::table_offset))};
  const msix_location pba{config.read32(reg(msix::pba_offset))};
  if (table[msix_location::bar] > 5 || pba[msix_location::bar] > 5) {
    return detail::broken_or_removed(config, errc::protocol,
                                     "MSI-X names a BAR that no function has", table.raw);
  }
  return msix_capability{
      .offset = *at,
      .vectors = static_cast<std::uint16_t>(control[msix_control::table_size] + 1),
      .table_bar = table[msix_location::bar],
      .pba_bar = pba[msix_location::bar],
      .table_offset = table.offset(),
      .pba_offset = pba.offset()};
}

// Switches MSI-X on or off for the function, with every vector masked at once where asked. While
// it is on, the function does not use INTx.
template <ConfigSpace Config>
void set_msix_control(Config& config, const msix_capability& capability, bool enable,
                      bool function_mask = false) noexcept {
  const auto offset = static_cast<std::uint16_t>(capability.offset + msix::control_offset);
  const msix_control now{config.read16(offset)};
  config.write16(
      offset,
      now.with(msix_control::enable, enable).with(msix_control::function_mask, function_mask).raw);
}

// The table of a function, through the BAR that holds it. One thread per vector.
template <Mmio Bar>
class msix_table {
 public:
  // Errors: protocol where the table is larger than the BAR.
  [[nodiscard]] static result<msix_table> attach(Bar bar,
                                                 const msix_capability& capability) noexcept {
    const std::uint64_t size = bar.size_bytes();
    if (capability.table_offset > size ||
        msix_table_bytes(capability.vectors) > size - capability.table_offset) {
      return failure(errc::protocol, "the MSI-X table reaches beyond its BAR",
                     capability.table_offset);
    }
    return msix_table{bar, capability.table_offset, capability.vectors};
  }

  [[nodiscard]] unsigned vectors() const noexcept { return vectors_; }

  // Sets the message and leaves the vector masked: a vector is changed only while it is
  // (6.1.4.2). Unmask it afterwards.
  void program(unsigned vector, msi_message message) noexcept {
    PHASEBIT_EXPECTS(is_aligned(message.address, 4), "a message goes to a dword-aligned address");
    mask(vector);
    const std::uint32_t at = entry(vector);
    bar_.write32(at, static_cast<std::uint32_t>(message.address.value()));
    bar_.write32(at + 4, static_cast<std::uint32_t>(message.address.value() >> 32));
    bar_.write32(at + 8, message.data);
  }
  void mask(unsigned vector) noexcept { set_masked(vector, true); }
  void unmask(unsigned vector) noexcept { set_masked(vector, false); }

  [[nodiscard]] bool is_masked(unsigned vector) noexcept {
    return msix_entry::masked.get(bar_.read32(entry(vector) + 12));
  }
  [[nodiscard]] msi_message message(unsigned vector) noexcept {
    const std::uint32_t at = entry(vector);
    const std::uint64_t low = bar_.read32(at);
    return {bus_addr{low | std::uint64_t{bar_.read32(at + 4)} << 32}, bar_.read32(at + 8)};
  }

 private:
  msix_table(Bar bar, std::uint32_t offset, unsigned vectors) noexcept
      : bar_(bar), offset_(offset), vectors_(vectors) {}

  [[nodiscard]] std::uint32_t entry(unsigned vector) const noexcept {
    PHASEBIT_EXPECTS(vector < vectors_, "the function has fewer MSI-X vectors");
    return offset_ + msix_table_bytes(vector);
  }
  void set_masked(unsigned vector, bool masked) noexcept {
    const std::uint32_t at = entry(vector) + 12;
    bar_.write32(at, msix_entry::masked.set(bar_.read32(at), masked));
  }

  Bar bar_;
  std::uint32_t offset_;
  unsigned vectors_;
};

}  // namespace phasebit::pcie
