// SPDX-License-Identifier: BSL-1.0
// The driver side of a packed virtqueue: virtio 1.3, section 2.8.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/ring/index.hpp>
#include <phasebit/virtio/detail/packed_access.hpp>
#include <phasebit/virtio/driver/queue_setup.hpp>
#include <phasebit/virtio/spec/notification.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::virtio::driver {

// The same members and guarantees as split_queue. Buffers that were added become visible at once
// with publish(), because the first descriptor's flags are written last.
template <RingOrder Order, class Token = std::uint64_t>
class packed_queue {
 public:
  packed_queue() noexcept = default;

  [[nodiscard]] result<> start(const queue_setup<Token>& setup) noexcept {
    PHASEBIT_EXPECTS(setup.layout.packed, "the layout is that of a split queue");
    if (const auto checked = detail::check_setup(setup); !checked) return checked;
    *this = packed_queue{};
    size_ = setup.layout.size;
    event_idx_ = (setup.features & feature::event_idx) != 0;
    in_order_ = (setup.features & feature::in_order) != 0;
    slots_ = setup.slots.data();
    std::byte* const base = setup.memory.data();
    ring_ = virtio::detail::packed_ring{base};
    driver_events_ = reinterpret_cast<le<std::uint32_t>*>(base + setup.layout.driver_offset());
    device_events_ =
        reinterpret_cast<const le<std::uint32_t>*>(base + setup.layout.device_offset());
    if ((setup.features & feature::indirect_desc) != 0) {
      indirect_entries_ = setup.layout.indirect_entries;
      tables_ = setup.memory.subregion(setup.layout.tables_offset(),
                                       std::size_t{size_} * indirect_entries_ * 16);
    }
    free_count_ = size_;
    for (std::uint32_t i = 0; i != size_; ++i) {
      slots_[i] = {};
      slots_[i].next = static_cast<std::uint16_t>(i + 1);
    }
    return {};
  }

  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint32_t free_descriptors() const noexcept { return free_count_; }
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return in_flight_; }
  [[nodiscard]] const fault& last_fault() const noexcept { return fault_; }

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE add_status add(std::span<const buffer_segment> readable,
                                                      std::span<const buffer_segment> writable,
                                                      const Token& token) noexcept {
    const detail::shape shape = detail::shape_of(readable, writable);
    if (!shape.good) [[unlikely]] {
      return add_status::refused;
    }
    const bool indirect = shape.segments > 1 && shape.segments <= indirect_entries_;
    const std::uint32_t needed = indirect ? 1 : shape.segments;
    if (needed > free_count_) [[unlikely]] {
      return needed > size_ ? add_status::refused : add_status::full;
    }
    const std::uint16_t id = free_head_;
    buffer_slot<Token>& slot = slots_[id];
    free_head_ = slot.next;
    if (indirect) {
      fill_table(id, readable, writable);
    } else {
      std::uint32_t left = shape.segments;
      const auto put_segment = [&](const buffer_segment& s, std::uint16_t write) noexcept {
        --left;
        put(s.begin.value(), static_cast<std::uint32_t>(s.bytes), id,
            static_cast<std::uint16_t>(write | (left != 0 ? descriptor_flag::next : 0U)));
      };
      for (const buffer_segment& s : readable) put_segment(s, 0);
      for (const buffer_segment& s : writable) put_segment(s, descriptor_flag::write);
    }
    free_count_ -= needed;
    slot.token = token;
    slot.writable = static_cast<std::uint32_t>(shape.writable);
    slot.descriptors = static_cast<std::uint16_t>(needed);
    if (in_order_) [[unlikely]] {
      slots_[youngest_].younger = id;
      if (in_flight_ == 0) oldest_ = id;
      youngest_ = id;
    }
    ++in_flight_;
    return add_status::added;
  }

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool publish() noexcept {
    if (added_ == 0) return false;
    ring_.template publish_tail<Order>(first_.index(), first_tail_);
    const std::uint16_t moved = added_;
    added_ = 0;
    // The descriptors are visible before the device's wish is read; otherwise both could sleep.
    Order::full();
    const auto wanted = virtio::detail::event_word::of(snapshot(*device_events_));
    return virtio::detail::packed_event_due(wanted, event_idx_, next_, moved, size_);
  }
  [[nodiscard]] std::uint16_t notification_data() const noexcept { return next_.packed(); }

  template <class Sink>
    requires std::is_nothrow_invocable_v<Sink&, Token&, std::uint32_t>
  PHASEBIT_ALWAYS_INLINE std::uint32_t poll(Sink&& sink,
                                            std::uint32_t most = max_queue_size) noexcept {
    std::uint32_t done = 0;
    while (done != most && in_flight_ != 0) {
      std::uint16_t id = 0;
      std::uint32_t written = 0;
      if (in_order_) [[unlikely]] {
        if (!take_used_in_order(id, written)) break;
      } else if (!take_used(id, written)) {
        break;
      }
      ++done;
      Token token = release(id);
      sink(token, written);
    }
    return done;
  }

  void disable_notifications() noexcept { store_events({0, event_disable}); }
  [[nodiscard]] bool enable_notifications(std::uint16_t buffers = 1) noexcept {
    if (event_idx_) {
      ring::wrapped_index event = used_;
      // Buffers have one descriptor or more: this is at the latest when so many were returned.
      const std::uint32_t steps = buffers - 1U < size_ ? buffers - 1U : size_ - 1;
      event.advance(static_cast<std::uint16_t>(steps), static_cast<std::uint16_t>(size_));
      store_events({event.packed(), event_descriptor});
    } else {
      store_events({0, event_enable});
    }
    Order::full();
    if (fault_ || in_flight_ == 0) return false;
    const auto tail = ring_.peek_tail(used_.index());
    return is_used(virtio::detail::packed_ring::flags(tail), used_.wrap());
  }

  template <class Sink>
  std::uint32_t drain(Sink&& sink) noexcept {
    std::uint32_t ended = 0;
    for (std::uint32_t i = 0; i != size_; ++i) {
      if (slots_[i].descriptors == 0) continue;
      slots_[i].descriptors = 0;
      ++ended;
      sink(slots_[i].token);
    }
    in_flight_ = 0;
    return ended;
  }

 private:
  PHASEBIT_ALWAYS_INLINE void put(std::uint64_t addr, std::uint32_t len, std::uint16_t id,
                                  std::uint16_t flags) noexcept {
    const auto tail = virtio::detail::packed_ring::make_tail(
        len, id, static_cast<std::uint16_t>(flags | available_bits(next_.wrap())));
    ring_.store_addr(next_.index(), addr);
    ring_.store_len(next_.index(), len);
    if (added_ == 0) {
      first_ = next_;
      first_tail_ = tail;
    } else {
      ring_.put_tail(next_.index(), tail);
    }
    next_.advance(1, static_cast<std::uint16_t>(size_));
    ++added_;
  }

  // The used descriptor at used_.index(), if there is one.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool read_used(std::uint16_t& id,
                                                      std::uint32_t& written) noexcept {
    const auto tail = ring_.template load_tail<Order>(used_.index());
    const std::uint16_t flags = virtio::detail::packed_ring::flags(tail);
    if (!is_used(flags, used_.wrap()) || fault_) return false;
    Order::after_load();
    const virtio::detail::packed_fields f = ring_.remaining(used_.index(), tail);
    if (f.id >= size_) [[unlikely]] {
      return fail(fault_code::id_out_of_range, f.id);
    }
    if (slots_[f.id].descriptors == 0) [[unlikely]] {
      return fail(fault_code::not_in_flight, f.id);
    }
    id = f.id;
    // The length is valid only if the device flags that it wrote (2.8.9).
    written = (flags & descriptor_flag::write) != 0 ? f.len : 0;
    if (written > slots_[id].writable) [[unlikely]] {
      return fail(fault_code::length_overflow, written);
    }
    return true;
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool take_used(std::uint16_t& id,
                                                      std::uint32_t& written) noexcept {
    if (!read_used(id, written)) return false;
    // A device that returned what was not published would be ahead of the ring.
    used_.advance(slots_[id].descriptors, static_cast<std::uint16_t>(size_));
    return true;
  }
  // One used descriptor may stand for all buffers up to the one that it names (2.8.8).
  [[nodiscard, gnu::noinline]] bool take_used_in_order(std::uint16_t& id,
                                                       std::uint32_t& written) noexcept {
    if (!batch_) {
      if (!read_used(batch_id_, batch_written_)) return false;
      batch_ = true;
    }
    id = oldest_;
    oldest_ = slots_[id].younger;
    used_.advance(slots_[id].descriptors, static_cast<std::uint16_t>(size_));
    if (id == batch_id_) {
      batch_ = false;
      written = batch_written_;
    } else {
      written = slots_[id].writable;
    }
    return true;
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE Token release(std::uint16_t id) noexcept {
    buffer_slot<Token>& slot = slots_[id];
    slot.next = free_head_;
    free_head_ = id;
    free_count_ += slot.descriptors;
    slot.descriptors = 0;
    --in_flight_;
    return slot.token;
  }

  [[gnu::noinline]] void fill_table(std::uint16_t id, std::span<const buffer_segment> readable,
                                    std::span<const buffer_segment> writable) noexcept {
    const std::size_t offset = std::size_t{id} * indirect_entries_ * sizeof(split_descriptor);
    auto* const table = reinterpret_cast<packed_descriptor*>(tables_.data() + offset);
    std::size_t i = 0;
    const auto put_entry = [&](const buffer_segment& s, std::uint16_t write) noexcept {
      overwrite(table[i++], packed_descriptor{.addr = s.begin.value(),
                                              .len = static_cast<std::uint32_t>(s.bytes),
                                              .id = 0,
                                              .flags = write});
    };
    for (const buffer_segment& s : readable) put_entry(s, 0);
    for (const buffer_segment& s : writable) put_entry(s, descriptor_flag::write);
    put((tables_.bus + offset).value(), static_cast<std::uint32_t>(i * sizeof(packed_descriptor)),
        id, descriptor_flag::indirect);
  }

  void store_events(virtio::detail::event_word word) noexcept {
    overwrite(*driver_events_, le<std::uint32_t>{word.word()});
  }
  [[gnu::cold]] bool fail(fault_code code, std::uint64_t value) noexcept {
    fault_ = {code, value};
    return false;
  }

  virtio::detail::packed_ring ring_{};
  buffer_slot<Token>* slots_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t free_count_ = 0;
  std::uint32_t in_flight_ = 0;
  std::uint32_t indirect_entries_ = 0;
  ring::wrapped_index next_{};   // the next descriptor to make available
  ring::wrapped_index used_{};   // the next descriptor that the device marks used
  ring::wrapped_index first_{};  // of what was added and not published
  std::uint16_t added_ = 0;      // its descriptors
  std::uint16_t free_head_ = 0;
  std::uint16_t oldest_ = 0;
  std::uint16_t youngest_ = 0;
  std::uint16_t batch_id_ = 0;
  bool batch_ = false;
  bool event_idx_ = false;
  bool in_order_ = false;
  std::uint32_t batch_written_ = 0;
  virtio::detail::packed_tail first_tail_{};
  le<std::uint32_t>* driver_events_ = nullptr;
  const le<std::uint32_t>* device_events_ = nullptr;
  dma_region tables_{};
  fault fault_{};
};

}  // namespace phasebit::virtio::driver
