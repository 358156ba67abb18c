// SPDX-License-Identifier: BSL-1.0
// Where a command ring's head and tail are, for both of its sides.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/iommu/command_queue/codec.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// Arithmetic of one ring's positions. A position is the value of the head and tail registers above
// index_shift(): the index, and with `wraps` one more bit that distinguishes a full ring from an
// empty one.
template <CommandCodec Codec>
class ring_geometry {
 public:
  ring_geometry() noexcept = default;
  // `entries` is a power of two; at least 2 where there is no wrap bit, at most 2^20.
  ring_geometry(const Codec& codec, std::uint32_t entries) noexcept
      : mask_(Codec::wraps ? 2 * entries - 1 : entries - 1),
        entries_(entries),
        shift_(codec.index_shift()) {
    PHASEBIT_EXPECTS(
        is_power_of_two(entries) && entries <= 1U << 20 && entries >= (Codec::wraps ? 1U : 2U),
        "a command ring has a power of two of entries, 2 to 2^20");
  }

  [[nodiscard]] std::uint32_t entries() const noexcept { return entries_; }
  // How many entries may be under way.
  [[nodiscard]] std::uint32_t capacity() const noexcept {
    return Codec::wraps ? entries_ : entries_ - 1;
  }
  [[nodiscard]] std::uint32_t index(std::uint32_t position) const noexcept {
    return position & (entries_ - 1);
  }
  [[nodiscard]] std::uint32_t after(std::uint32_t position) const noexcept {
    return (position + 1) & mask_;
  }
  [[nodiscard]] std::uint32_t distance(std::uint32_t from, std::uint32_t to) const noexcept {
    return (to - from) & mask_;
  }
  [[nodiscard]] std::uint32_t to_register(std::uint32_t position) const noexcept {
    return position << shift_;
  }
  // Whatever else the register holds is cut off.
  [[nodiscard]] std::uint32_t from_register(std::uint32_t value) const noexcept {
    return value >> shift_ & mask_;
  }
  // A tail that the other side wrote: nothing where it names no entry.
  [[nodiscard]] std::optional<std::uint32_t> checked(std::uint32_t value) const noexcept {
    if (!Codec::masks_tail && to_register(from_register(value)) != value) return std::nullopt;
    return from_register(value);
  }

 private:
  std::uint32_t mask_ = 0;
  std::uint32_t entries_ = 0;
  unsigned shift_ = 0;
};

namespace detail {

// Half of the widest entry.
struct ring_words {
  le<std::uint64_t> word[2];
};
static_assert(WireStruct<ring_words> && sizeof(ring_words) == 16);

inline void write_entry(std::byte* at, const command_words& words, unsigned bytes) noexcept {
  for (std::size_t i = 0; i * 16 != bytes; ++i) {
    overwrite(reinterpret_cast<ring_words*>(at)[i],
              ring_words{{words.word[2 * i], words.word[2 * i + 1]}});
  }
}
// Each word once.
[[nodiscard]] inline command_words read_entry(const std::byte* at, unsigned bytes) noexcept {
  command_words words;
  for (std::size_t i = 0; i * 16 != bytes; ++i) {
    const ring_words copy = snapshot(reinterpret_cast<const ring_words*>(at)[i]);
    words.word[2 * i] = copy.word[0];
    words.word[2 * i + 1] = copy.word[1];
  }
  return words;
}

}  // namespace detail

}  // namespace phasebit::iommu
