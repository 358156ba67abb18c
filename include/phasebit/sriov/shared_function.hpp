// SPDX-License-Identifier: BSL-1.0
// A virtual function as a root sees it through the pooling switch: an ordinary endpoint with ids and
// BARs of its own. The switch answers for the 64 bytes of the header, of which a virtual function lacks
// most (PCIe 5.0, 9.3.4.1); everything behind them is the function's own.
#pragma once

#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <array>
#include <cstdint>

namespace phasebit::sriov {

// One BAR: where the function has it in the device's address space, and its size; shift 0 is none.
// Those of 64 bits leave the next one absent.
struct shared_bar {
  std::uint64_t master = 0;
  std::uint8_t shift = 0;
  bool wide = true;
  bool prefetchable = false;
};

// The switch's state of a function that it shares.
struct shared_function {
  pcie::requester_id master{};  // its routing id in the device's hierarchy
  std::uint16_t vendor_id = 0;
  std::uint16_t device_id = 0;  // VF Device ID
  std::uint32_t class_revision = 0;
  std::uint32_t subsystem = 0;       // vendor in bits 15:0
  std::uint8_t capabilities = 0x40;  // offset of the first one
  std::uint8_t express = 0;          // of the PCI Express capability
  std::array<shared_bar, pcie::type0_bars> bars{};
};

// The header that a root reads and writes, for one function in one slot.
class shared_header {
 public:
  static constexpr std::uint32_t bytes = pcie::header::end;

  constexpr void reset(const shared_function& f) noexcept {
    words_ = {};
    word(pcie::header::vendor_id) = f.vendor_id | std::uint32_t{f.device_id} << 16;
    word(pcie::header::command) = 0x0010'0000;  // there is a list of capabilities
    word(pcie::header::revision_id) = f.class_revision;
    word(pcie::header::subsystem_vendor_id) = f.subsystem;
    word(pcie::header::capabilities) = f.capabilities;
    masks_ = {};
    for (unsigned i = 0; i != f.bars.size(); ++i) {
      const shared_bar& b = f.bars[i];
      if (b.shift == 0) continue;
      const std::uint64_t mask = ~((std::uint64_t{1} << b.shift) - 1);
      words_[4 + i] = (b.wide ? 4U : 0U) | (b.prefetchable ? 8U : 0U);
      masks_[i] = static_cast<std::uint32_t>(mask);
      if (b.wide && i + 1 != f.bars.size()) masks_[i + 1] = static_cast<std::uint32_t>(mask >> 32);
    }
  }
  // A doubleword below 40h.
  [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) const noexcept {
    return words_[offset / 4];
  }
  // Bytes by their enables. Returns whether decoding or bus mastering has changed.
  constexpr bool write(std::uint32_t offset, std::uint32_t value, std::uint8_t enables) noexcept {
    std::uint32_t lanes = 0;
    for (unsigned b = 0; b != 4; ++b) {
      if ((enables >> b & 1) != 0) lanes |= 0xffU << b * 8;
    }
    std::uint32_t mask = 0;
    if (offset == pcie::header::command) mask = 0x0000'0406;  // interrupt disable, master, memory
    if (offset == pcie::header::cache_line_size) mask = 0xff;
    if (offset == pcie::header::interrupt_line) mask = 0xff;
    if (offset >= pcie::header::bar0 && offset < pcie::header::bar0 + 4 * pcie::type0_bars) {
      mask = masks_[(offset - pcie::header::bar0) / 4];
    }
    const std::uint32_t before = words_[offset / 4];
    words_[offset / 4] = (before & ~(mask & lanes)) | (value & mask & lanes);
    return before != words_[offset / 4];
  }
  [[nodiscard]] constexpr pcie::command_register command() const noexcept {
    return pcie::command_register{static_cast<std::uint16_t>(words_[1])};
  }
  // Where the root has placed the BAR.
  [[nodiscard]] constexpr std::uint64_t bar(unsigned i, const shared_bar& b) const noexcept {
    const std::uint64_t low = words_[4 + i] & masks_[i];
    return b.wide && i + 1 != masks_.size() ? low | std::uint64_t{words_[5 + i]} << 32 : low;
  }

 private:
  constexpr std::uint32_t& word(std::uint32_t offset) noexcept { return words_[offset / 4]; }

  std::array<std::uint32_t, bytes / 4> words_{};
  std::array<std::uint32_t, pcie::type0_bars> masks_{};
};

}  // namespace phasebit::sriov
