// SPDX-License-Identifier: BSL-1.0
// A simulated function's registers as its driver reaches them.
#pragma once

#include <phasebit/backend/simulated/detail/function_node.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::backend::simulated {

// One atomic store into memory that the device polls: release, so that the entries before it are
// visible. No call into the device, no lock; after a removal the store has no effect.
class simulated_doorbell {
 public:
  simulated_doorbell() noexcept = default;
  explicit simulated_doorbell(std::uint32_t& word) noexcept : word_(&word) {}

  void ring(std::uint32_t value) noexcept {
    thread_order::store(*word_, le<std::uint32_t>::to_wire(value));
  }

 private:
  std::uint32_t* word_ = nullptr;
};
static_assert(DoorbellSink<simulated_doorbell>);

// A view; the fabric owns the registers and must outlive it. Any thread in threaded mode, and the
// one thread in single-step mode. Reads are all ones while memory space is off or the function is
// removed, and writes vanish.
class simulated_bar {
 public:
  simulated_bar() noexcept = default;

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    check(offset, 4);
    return node_->bar_read(index_, offset);
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    check(offset, 8);
    return node_->bar_read64(index_, offset);
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    check(offset, 4);
    node_->bar_write(index_, offset, value);
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    check(offset, 8);
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return node_->bar_bytes(index_); }

  // `offset` is one of the BAR's plain words.
  [[nodiscard]] simulated_doorbell doorbell(std::uint32_t offset) noexcept {
    check(offset, 4);
    auto* const word = node_->word(index_, offset);
    PHASEBIT_EXPECTS(word != nullptr, "a doorbell is one of the BAR's plain words");
    return simulated_doorbell{*word};
  }

 private:
  friend class function;
  simulated_bar(detail::function_node& node, unsigned index) noexcept
      : node_(&node), index_(index) {}

  void check(std::uint32_t offset, std::uint32_t width) const noexcept {
    PHASEBIT_EXPECTS(offset % width == 0, "a register is accessed at its own alignment");
    PHASEBIT_EXPECTS(width <= size_bytes() && offset <= size_bytes() - width,
                     "a register beyond the BAR");
  }

  detail::function_node* node_ = nullptr;
  unsigned index_ = 0;
};
static_assert(Mmio<simulated_bar>);

}  // namespace phasebit::backend::simulated
