// SPDX-License-Identifier: BSL-1.0
// Descriptors of a packed ring as words that are read and written whole.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/ring/event_index.hpp>
#include <phasebit/ring/index.hpp>
#include <phasebit/virtio/spec/packed_ring.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace phasebit::virtio::detail {

// Native values of a descriptor.
struct packed_fields {
  std::uint64_t addr = 0;
  std::uint32_t len = 0;
  std::uint16_t id = 0;
  std::uint16_t flags = 0;
};

// The last bytes of a descriptor, whose flags define its owner: len, id and flags as one word on
// 64-bit machines, id and flags otherwise. Both sides of this library use the same width.
inline constexpr bool wide_tail = sizeof(void*) >= 8;
using packed_tail = std::conditional_t<wide_tail, le<std::uint64_t>, le<std::uint32_t>>;

class packed_ring {
 public:
  packed_ring() noexcept = default;
  explicit packed_ring(std::byte* ring) noexcept : ring_(ring) {}

  // The flags, and with them id and (on a wide machine) len, each read once.
  template <RingOrder Order>
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE packed_tail load_tail(std::uint32_t index) const noexcept {
    return Order::load(tail(index));
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE packed_tail peek_tail(std::uint32_t index) const noexcept {
    return snapshot(tail(index));
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE static std::uint16_t flags(packed_tail t) noexcept {
    return static_cast<std::uint16_t>(t.get() >> (sizeof(t) * 8 - 16));
  }
  // The other fields of a descriptor whose tail was loaded.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE packed_fields remaining(std::uint32_t index,
                                                               packed_tail t) const noexcept {
    packed_fields f;
    f.addr = snapshot(*reinterpret_cast<const le<std::uint64_t>*>(at(index)));
    f.flags = flags(t);
    f.id = static_cast<std::uint16_t>(t.get() >> (sizeof(t) * 8 - 32));
    if constexpr (wide_tail) {
      f.len = static_cast<std::uint32_t>(t.get());
    } else {
      f.len = snapshot(*reinterpret_cast<const le<std::uint32_t>*>(at(index) + 8));
    }
    return f;
  }

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE static packed_tail make_tail(std::uint32_t len,
                                                                    std::uint16_t id,
                                                                    std::uint16_t flags) noexcept {
    const std::uint32_t high = id | std::uint32_t{flags} << 16;
    if constexpr (wide_tail) {
      return packed_tail{int_cast<packed_tail::value_type>(len | std::uint64_t{high} << 32)};
    } else {
      return packed_tail{high};
    }
  }
  void store_addr(std::uint32_t index, std::uint64_t addr) noexcept {
    overwrite(*reinterpret_cast<le<std::uint64_t>*>(at(index)), le<std::uint64_t>{addr});
  }
  // Writes what a narrow tail does not contain.
  PHASEBIT_ALWAYS_INLINE void store_len(std::uint32_t index, std::uint32_t len) noexcept {
    if constexpr (!wide_tail) {
      overwrite(*reinterpret_cast<le<std::uint32_t>*>(at(index) + 8), le<std::uint32_t>{len});
    }
  }
  // Orders nothing.
  PHASEBIT_ALWAYS_INLINE void put_tail(std::uint32_t index, packed_tail t) noexcept {
    overwrite(tail(index), t);
  }
  // Publishes all that was written before.
  template <RingOrder Order>
  PHASEBIT_ALWAYS_INLINE void publish_tail(std::uint32_t index, packed_tail t) noexcept {
    Order::store(tail(index), t);
  }

 private:
  [[nodiscard]] std::byte* at(std::uint32_t index) const noexcept {
    return ring_ + std::size_t{index} * sizeof(packed_descriptor);
  }
  [[nodiscard]] packed_tail& tail(std::uint32_t index) const noexcept {
    return *reinterpret_cast<packed_tail*>(at(index) + 16 - sizeof(packed_tail));
  }

  std::byte* ring_ = nullptr;
};

// An event suppression structure as one word: off_wrap in the low, flags in the high half.
struct event_word {
  std::uint16_t off_wrap = 0;
  std::uint16_t flags = 0;

  [[nodiscard]] static constexpr event_word of(std::uint32_t word) noexcept {
    return {static_cast<std::uint16_t>(word), static_cast<std::uint16_t>(word >> 16)};
  }
  [[nodiscard]] constexpr std::uint32_t word() const noexcept {
    return off_wrap | std::uint32_t{flags} << 16;
  }
};

// Whether moving by `moved` descriptors to `now` is an event that the other side requested (2.8.10).
// The ring has `size` entries.
[[nodiscard]] constexpr bool packed_event_due(event_word wanted, bool event_idx,
                                              ring::wrapped_index now, std::uint16_t moved,
                                              std::uint32_t size) noexcept {
  if (wanted.flags == event_disable) return false;
  if (wanted.flags != event_descriptor || !event_idx) return true;
  const ring::wrapped_index at = ring::wrapped_index::unpack(wanted.off_wrap);
  auto event = int_cast<std::uint16_t>(at.index());
  if (at.wrap() != now.wrap()) event = static_cast<std::uint16_t>(event - size);
  return ring::need_event(event, now.index(), static_cast<std::uint16_t>(now.index() - moved));
}

}  // namespace phasebit::virtio::detail
