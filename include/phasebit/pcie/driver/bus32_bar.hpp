// SPDX-License-Identifier: BSL-1.0
// Registers behind a bus of 32 bits, such as AXI4-Lite: a 64-bit register is two accesses, in an
// order that its device names.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::pcie {

// The half of a 64-bit register that is accessed first. A device that acts on its register, or
// latches the other half of it, does so at one of the two accesses, as its manual specifies.
enum class half_order : std::uint8_t { low_first, high_first };

// Two reads of 32 bits and no more. Between them the device may change the register: the value is
// whole only where the first read latches the other half. See bus32_bar::read64_settled().
template <half_order Order, Mmio Bar>
[[nodiscard]] std::uint64_t read_halves(Bar& bar, std::uint32_t offset) noexcept {
  PHASEBIT_EXPECTS(offset % 8 == 0, "a register is accessed at its own alignment");
  if constexpr (Order == half_order::low_first) {
    const std::uint64_t low = bar.read32(offset);
    return low | std::uint64_t{bar.read32(offset + 4)} << 32;
  } else {
    const std::uint64_t high = bar.read32(offset + 4);
    return high << 32 | bar.read32(offset);
  }
}
// Two writes of 32 bits. Between them the device holds one new half and one old.
template <half_order Order, Mmio Bar>
void write_halves(Bar& bar, std::uint32_t offset, std::uint64_t value) noexcept {
  PHASEBIT_EXPECTS(offset % 8 == 0, "a register is accessed at its own alignment");
  const auto low = static_cast<std::uint32_t>(value);
  const auto high = static_cast<std::uint32_t>(value >> 32);
  if constexpr (Order == half_order::low_first) {
    bar.write32(offset, low);
    bar.write32(offset + 4, high);
  } else {
    bar.write32(offset + 4, high);
    bar.write32(offset, low);
  }
}

// A view of another bar that makes no access wider than 32 bits. read64() and write64() go in
// Order; write64_lo_hi() always goes low half first, as its name requires and NVMe relies on.
// Threads as for the bar below; the two halves of one register belong to one thread.
template <Mmio Bar, half_order Order = half_order::low_first>
class bus32_bar {
 public:
  static constexpr half_order order = Order;

  bus32_bar() noexcept
    requires std::default_initializable<Bar>
  = default;
  constexpr explicit bus32_bar(Bar bar) noexcept : bar_(bar) {}
  explicit bus32_bar(std::span<std::byte> mapping) noexcept
    requires std::constructible_from<Bar, std::span<std::byte>>
      : bar_(mapping) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept { return bar_.read32(offset); }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept { bar_.write32(offset, value); }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    return read_halves<Order>(bar_, offset);
  }
  void write64(std::uint32_t offset, std::uint64_t value) noexcept {
    write_halves<Order>(bar_, offset, value);
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    write_halves<half_order::low_first>(bar_, offset, value);
  }

  // For a counter that runs on while it is read, and latches nothing: high, low, high, until the
  // high half is the same twice. Nothing where it is not after `tries` (at least 1): no counter
  // moves so fast. Makes at most 1 + 2 * tries reads.
  [[nodiscard]] std::optional<std::uint64_t> read64_settled(std::uint32_t offset,
                                                            unsigned tries = 4) noexcept {
    PHASEBIT_EXPECTS(offset % 8 == 0, "a register is accessed at its own alignment");
    std::uint32_t high = bar_.read32(offset + 4);
    for (; tries != 0; --tries) {
      const std::uint32_t low = bar_.read32(offset);
      const std::uint32_t again = bar_.read32(offset + 4);
      if (again == high) return std::uint64_t{high} << 32 | low;
      high = again;
    }
    return std::nullopt;
  }

  [[nodiscard]] std::uint64_t size_bytes() noexcept { return bar_.size_bytes(); }
  [[nodiscard]] auto doorbell(std::uint32_t offset) noexcept { return bar_.doorbell(offset); }

 private:
  Bar bar_;
};

}  // namespace phasebit::pcie
