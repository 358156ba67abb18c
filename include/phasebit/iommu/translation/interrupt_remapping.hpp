// SPDX-License-Identifier: BSL-1.0
// Interrupt remapping: translates the address and data of a message by a table in memory into the
// request to an interrupt controller. The tables are the architectures' (remappers/*.hpp).
#pragma once

#include <phasebit/iommu/fault/fault.hpp>
#include <phasebit/pcie/spec/msi_message.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// The decoded message, in the terms of x86 interrupt controllers (Intel SDM volume 3, 11.11).
struct remapped_interrupt {
  std::uint8_t vector = 0;
  std::uint8_t delivery_mode = 0;  // 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT
  bool logical = false;
  bool level = false;
  bool redirection_hint = false;
  std::uint32_t destination = 0;  // APIC id

  // Encodes it as a message. Destinations above 255 are in bits 63:40, as in x2APIC messages.
  [[nodiscard]] constexpr pcie::msi_message message() const noexcept {
    const std::uint64_t low = 0xfee0'0000U | (destination & 0xff) << 12 |
                              (redirection_hint ? 8U : 0U) | (logical ? 4U : 0U);
    const std::uint64_t high = std::uint64_t{destination >> 8} << 40;
    return {bus_addr{low | high}, std::uint32_t{vector} | std::uint32_t{delivery_mode} << 8 |
                                      (level ? std::uint32_t{3} << 14 : 0U)};
  }
  friend constexpr bool operator==(const remapped_interrupt&,
                                   const remapped_interrupt&) noexcept = default;
};

enum class interrupt_action : std::uint8_t {
  pass,    // as it is
  lookup,  // through the entry of the slot
  refuse,  // for `reason`
};

// Where an interrupt's entry is.
struct interrupt_slot {
  interrupt_action action = interrupt_action::pass;
  fault_reason reason = fault_reason::none;
  std::uint8_t bytes = 16;  // of an entry: 4 or 16
  bool report = true;
  std::uint32_t owner = 0;  // whose table, where each device has one
  std::uint32_t index = 0;
  std::uint64_t at = 0;
};

// An entry as it was read, little-endian words made native; one of 4 bytes has zeros above.
struct interrupt_words {
  std::array<std::uint64_t, 2> word{};
};

// Entries that were read once are used until they are invalidated, as hardware does. Direct-mapped.
// One thread.
template <std::size_t Entries = 64>
  requires((Entries & (Entries - 1)) == 0 && Entries != 0)
class interrupt_cache {
 public:
  [[nodiscard]] const interrupt_words* find(const interrupt_slot& slot) const noexcept {
    const line& l = lines_[place(slot)];
    return l.valid && l.owner == slot.owner && l.index == slot.index ? &l.words : nullptr;
  }
  void insert(const interrupt_slot& slot, const interrupt_words& words) noexcept {
    lines_[place(slot)] = {true, slot.owner, slot.index, words};
  }
  void invalidate_all() noexcept { lines_ = {}; }
  void invalidate_owner(std::uint32_t owner) noexcept {
    for (line& l : lines_) {
      if (l.owner == owner) l.valid = false;
    }
  }
  void invalidate(std::uint64_t first, std::uint64_t last) noexcept {
    for (line& l : lines_) {
      if (l.index >= first && l.index <= last) l.valid = false;
    }
  }

 private:
  struct line {
    bool valid = false;
    std::uint32_t owner = 0;
    std::uint32_t index = 0;
    interrupt_words words{};
  };
  [[nodiscard]] static std::size_t place(const interrupt_slot& slot) noexcept {
    return (slot.index ^ slot.owner * 0x9e5U) & (Entries - 1);
  }
  std::array<line, Entries> lines_{};
};

}  // namespace phasebit::iommu
