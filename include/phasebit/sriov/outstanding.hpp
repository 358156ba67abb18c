// SPDX-License-Identifier: BSL-1.0
// Requests that a completion is still to come for, on their way through the pooling switch.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/pcie/spec/tlp.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

// Whether this completion is the last of its request: one without data or with all that was still to
// come (PCIe 5.0, 2.3.1.1).
[[nodiscard]] constexpr bool is_last(const pcie::tlp_header& h) noexcept {
  const std::uint32_t left = ((h.dw[1] - 1) & 0xfff) + 1;  // Byte Count; 0 is 4096
  return !h.with_data() || (h.dw[1] >> 13 & 7) != 0 || left + (h.dw[2] & 3) <= h.length() * 4;
}
// How many bytes are still to come behind this completion; 4 where it is the last.
[[nodiscard]] constexpr std::uint16_t bytes_after(const pcie::tlp_header& h) noexcept {
  if (is_last(h)) return 4;
  const std::uint32_t left = ((h.dw[1] - 1) & 0xfff) + 1;
  return static_cast<std::uint16_t>(left - (h.length() * 4 - (h.dw[2] & 3)));
}
// The number of bytes requested, as the Byte Count of the first completion.
[[nodiscard]] constexpr std::uint16_t bytes_asked(const pcie::tlp_header& h) noexcept {
  if (h.type() == pcie::tlp_type::memory) {
    return static_cast<std::uint16_t>(pcie::memory_request::decode(h).enables.byte_count());
  }
  return h.is_atomic() ? pcie::atomic_request::decode(h).operand_bytes : std::uint16_t{4};
}

// Of one root: by tag, who requested it and which function is to answer. A tag whose request was
// answered by the switch itself stays taken until the function's own answer has come, or cannot come any
// more.
template <std::size_t Tags>
class requests_of_root {
 public:
  enum class state : std::uint8_t { free, waiting, aborted };
  struct entry {
    std::uint16_t vf = 0;
    pcie::requester_id requester{};
    pcie::requester_id completer{};  // the function's id at the root
    std::uint16_t byte_count = 4;
    state now = state::free;
  };

  [[nodiscard]] constexpr entry& operator[](std::uint16_t tag) noexcept {
    PHASEBIT_EXPECTS(tag < Tags, "a tag beyond the switch's limit");
    return entries_[tag];
  }
  [[nodiscard]] static constexpr std::size_t size() noexcept { return Tags; }

 private:
  std::array<entry, Tags> entries_{};
};

// Of one slot: the tags of the reads that its function sent to the root. They outlive the function's
// stay: the slot takes no other until each has been answered, so that no answer goes astray.
template <std::size_t Tags>
class reads_of_slot {
 public:
  [[nodiscard]] constexpr bool pending(std::uint16_t tag) const noexcept {
    return tag < Tags && (bits_[tag / 64] >> tag % 64 & 1) != 0;
  }
  [[nodiscard]] constexpr std::uint16_t count() const noexcept { return count_; }
  constexpr void add(std::uint16_t tag) noexcept {
    PHASEBIT_EXPECTS(tag < Tags && !pending(tag), "the tag is in use");
    bits_[tag / 64] |= std::uint64_t{1} << tag % 64;
    ++count_;
  }
  constexpr void remove(std::uint16_t tag) noexcept {
    if (!pending(tag)) return;
    bits_[tag / 64] &= ~(std::uint64_t{1} << tag % 64);
    --count_;
  }
  constexpr void clear() noexcept {
    bits_ = {};
    count_ = 0;
  }

 private:
  std::array<std::uint64_t, (Tags + 63) / 64> bits_{};
  std::uint16_t count_ = 0;
};

}  // namespace phasebit::sriov
