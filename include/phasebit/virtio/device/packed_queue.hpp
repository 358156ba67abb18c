// SPDX-License-Identifier: BSL-1.0
// The device side of a packed virtqueue: virtio 1.3, section 2.8.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/ring/event_index.hpp>
#include <phasebit/ring/index.hpp>
#include <phasebit/virtio/detail/packed_access.hpp>
#include <phasebit/virtio/device/chain.hpp>
#include <phasebit/virtio/device/indirect.hpp>
#include <phasebit/virtio/device/inflight_packed.hpp>
#include <phasebit/virtio/device/queue_setup.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::device {

// Where a packed queue stands: enough to continue it elsewhere once no buffer is in flight.
struct packed_position {
  ring::wrapped_index avail{};  // the next descriptor that the driver makes available
  ring::wrapped_index used{};   // the next descriptor that the device marks used

  friend constexpr bool operator==(packed_position, packed_position) noexcept = default;
};

// The same members and guarantees as split_queue. A batch of pushed buffers becomes visible at once,
// for its first descriptor is written last.
template <RingOrder Order>
class packed_queue {
 public:
  using position_type = packed_position;

  packed_queue() noexcept = default;

  // Begins at `at`. Forgets everything that was in flight. Errors: invalid_argument (size),
  // out_of_range (a position beyond the ring), not_ready (no areas), exhausted (too little state).
  [[nodiscard]] result<> start(const queue_setup& setup, packed_position at = {}) noexcept {
    if (const auto checked = detail::check_setup(setup, true); !checked) return checked;
    if (at.avail.index() >= setup.size || at.used.index() >= setup.size) {
      return failure(errc::out_of_range, "the queue's position lies beyond its ring",
                     at.avail.index());
    }
    *this = packed_queue{};
    size_ = setup.size;
    event_idx_ = (setup.features & feature::event_idx) != 0;
    indirect_ = (setup.features & feature::indirect_desc) != 0;
    in_order_ = (setup.features & feature::in_order) != 0;
    max_indirect_ = setup.max_indirect_entries;
    buffers_ = setup.buffers.data();
    for (std::uint32_t i = 0; i != size_; ++i) buffers_[i] = {};
    rebind(setup.areas);
    avail_ = at.avail;
    used_ = at.used;
    return {};
  }
  // As split_queue::resume.
  [[nodiscard]] result<> resume(const inflight_packed<Order>& record) noexcept {
    record_ = record;
    const auto found = record_.recover(ring_, used_, {buffers_, size_});
    if (!found) {
      record_ = {};
      return found.error();
    }
    resubmits_ = found->count;
    used_ = found->used;
    avail_ = found->avail;
    notify_next_ = true;
    return {};
  }
  void stop() noexcept { *this = packed_queue{}; }

  // Sets new pointers to the areas (a changed memory map); nothing else changes. Pushed buffers
  // have been flushed.
  void rebind(const queue_areas& areas) noexcept {
    ring_ = virtio::detail::packed_ring{areas.descriptors};
    driver_events_ = reinterpret_cast<const le<std::uint32_t>*>(areas.driver);
    device_events_ = reinterpret_cast<le<std::uint32_t>*>(areas.device);
  }

  [[nodiscard]] bool running() const noexcept { return size_ != 0; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return in_flight_; }
  [[nodiscard]] const fault& last_fault() const noexcept { return fault_; }
  [[nodiscard]] packed_position position() const noexcept { return {avail_, used_}; }

  template <LocalTranslator Memory>
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE pop_status pop(Memory& memory, chain& to) noexcept {
    if (stopped_or_resubmitting()) [[unlikely]] {
      return pop_slow(memory, to);
    }
    const auto tail = ring_.template load_tail<Order>(avail_.index());
    if (!is_available(virtio::detail::packed_ring::flags(tail), avail_.wrap())) {
      return pop_status::empty;
    }
    Order::after_load();
    if (!walk(memory, tail, to)) [[unlikely]] {
      to.clear();
      return pop_status::refused;
    }
    return pop_status::ready;
  }

  [[nodiscard]] bool available() noexcept {
    if (resubmitted_ != resubmits_) return true;
    if (fault_ || size_ == 0) return false;
    const auto tail = ring_.peek_tail(avail_.index());
    return is_available(virtio::detail::packed_ring::flags(tail), avail_.wrap());
  }

  PHASEBIT_ALWAYS_INLINE void push(std::uint16_t id, std::uint32_t written) noexcept {
    PHASEBIT_EXPECTS(id < size_ && buffers_[id].state == buffer_state::progress::taken,
                     "a buffer that is not in flight was pushed");
    if (in_order_) {
      push_in_order(id, written);
      return;
    }
    buffers_[id].state = buffer_state::progress::free;
    put_used(id, written);
  }

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool flush() noexcept {
    if (pushed_ == 0) return false;
    if (record_) prepare_record();
    ring_.template publish_tail<Order>(first_.index(), first_tail_);
    if (record_) record_.commit();
    const std::uint16_t moved = pushed_;
    pushed_ = 0;
    // The descriptors are visible before the driver's wish is read; otherwise both could sleep.
    Order::full();
    if (notify_next_) [[unlikely]] {
      notify_next_ = false;
      return true;
    }
    const auto wanted = virtio::detail::event_word::of(snapshot(*driver_events_));
    return virtio::detail::packed_event_due(wanted, event_idx_, used_, moved, size_);
  }

  void disable_notifications() noexcept { store_events({0, event_disable}); }
  [[nodiscard]] bool enable_notifications() noexcept {
    if (event_idx_) {
      store_events({avail_.packed(), event_descriptor});
    } else {
      store_events({0, event_enable});
    }
    Order::full();
    return available();
  }
  void notify_on_next_flush() noexcept { notify_next_ = true; }

 private:
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool stopped_or_resubmitting() const noexcept {
    return resubmitted_ != resubmits_ || size_ == 0 || fault_;
  }
  template <LocalTranslator Memory>
  [[nodiscard, gnu::cold]] pop_status pop_slow(Memory& memory, chain& to) noexcept {
    if (fault_) {
      to.clear();
      return pop_status::refused;
    }
    if (size_ == 0) return pop_status::empty;
    const std::uint16_t entry = buffers_[resubmitted_].resubmit;
    to.clear();
    chain_builder builder{to};
    std::uint16_t id = 0;
    std::uint16_t count = 0;
    const bool whole = record_.for_each_descriptor(
        entry, [&](const virtio::detail::packed_fields& d, bool last) noexcept {
          ++count;
          id = d.id;
          // The copy contains the end of the chain as it was taken.
          if (((d.flags & descriptor_flag::next) == 0) != last) return false;
          return append(memory, d, builder, to);
        });
    if (!whole && !fault_) fault_ = {fault_code::inflight_record, entry, entry};
    if (whole) {
      if (id >= size_) {
        fault_ = {fault_code::id_out_of_range, entry, id};
      } else if (buffers_[id].state != buffer_state::progress::free) {
        fault_ = {fault_code::buffer_in_flight, entry, id};
      }
    }
    if (fault_) {
      to.clear();
      return pop_status::refused;
    }
    take(id, count);
    buffers_[id].record = entry;
    to.set_resubmitted();
    ++resubmitted_;
    return pop_status::ready;
  }

  // Writes `to` behind the last descriptor of the chain.
  template <LocalTranslator Memory>
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool append(Memory& memory,
                                                   const virtio::detail::packed_fields& d,
                                                   chain_builder& builder, chain& to) noexcept {
    if ((d.flags & descriptor_flag::indirect) != 0) {
      builder.finish(to, d.id);
      return append_indirect(memory, d, to);
    }
    if (!builder.append(memory, d.addr, d.len, (d.flags & descriptor_flag::write) != 0, fault_)) {
      return false;
    }
    if ((d.flags & descriptor_flag::next) == 0) builder.finish(to, d.id);
    return true;
  }
  template <LocalTranslator Memory>
  [[nodiscard, gnu::noinline]] bool append_indirect(Memory& memory,
                                                    const virtio::detail::packed_fields& d,
                                                    chain& to) noexcept {
    if (!indirect_) {
      fault_ = {fault_code::indirect_not_negotiated, 0, d.flags};
      return false;
    }
    if ((d.flags & descriptor_flag::next) != 0) {
      fault_ = {fault_code::indirect_with_next, 0, d.flags};
      return false;
    }
    return append_table(to, memory, d.addr, d.len, max_indirect_, table_order::sequential, fault_);
  }

  template <LocalTranslator Memory>
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool walk(Memory& memory, virtio::detail::packed_tail tail,
                                                 chain& to) noexcept {
    chain_builder builder{to};
    const std::uint32_t most = size_ - descriptors_in_flight_;
    ring::wrapped_index at = avail_;
    std::uint16_t count = 0;
    for (;;) {
      if (count == most) [[unlikely]] {
        return refuse(count == size_ ? fault_code::chain_too_long : fault_code::ring_overrun,
                      count);
      }
      const virtio::detail::packed_fields d = ring_.remaining(at.index(), tail);
      ++count;
      if (record_) record_.add(d);
      at.advance(1, static_cast<std::uint16_t>(size_));
      if (!append(memory, d, builder, to)) [[unlikely]] {
        return refused_here();
      }
      if ((d.flags & descriptor_flag::next) == 0) {
        if (d.id >= size_) [[unlikely]] {
          return refuse(fault_code::id_out_of_range, d.id);
        }
        if (buffers_[d.id].state != buffer_state::progress::free) [[unlikely]] {
          return refuse(fault_code::buffer_in_flight, d.id);
        }
        if (record_) {
          buffers_[d.id].record = record_.take();
          if (!record_.intact()) return refuse(fault_code::inflight_record, d.id);
        }
        take(d.id, count);
        avail_ = at;
        return true;
      }
      if (count == size_) [[unlikely]] {
        return refuse(fault_code::chain_too_long, count);
      }
      // The whole chain was made available before its first descriptor was (2.8.6).
      tail = ring_.peek_tail(at.index());
      if (!is_available(virtio::detail::packed_ring::flags(tail), at.wrap())) [[unlikely]] {
        return refuse(fault_code::wrong_flags, virtio::detail::packed_ring::flags(tail));
      }
    }
  }
  PHASEBIT_ALWAYS_INLINE void take(std::uint16_t id, std::uint16_t count) noexcept {
    buffer_state& buffer = buffers_[id];
    buffer.state = buffer_state::progress::taken;
    buffer.descriptors = count;
    descriptors_in_flight_ += count;
    ++in_flight_;
    if (in_order_) [[unlikely]] {
      if (in_flight_ == 1) {
        order_head_ = id;
      } else {
        buffers_[order_tail_].next = id;
      }
      order_tail_ = id;
    }
  }

  [[gnu::noinline]] void push_in_order(std::uint16_t id, std::uint32_t written) noexcept {
    buffers_[id].state = buffer_state::progress::done;
    buffers_[id].written = written;
    while (in_flight_ != 0 && buffers_[order_head_].state == buffer_state::progress::done) {
      const std::uint16_t done = order_head_;
      order_head_ = buffers_[done].next;
      buffers_[done].state = buffer_state::progress::free;
      put_used(done, buffers_[done].written);
    }
  }
  PHASEBIT_ALWAYS_INLINE void put_used(std::uint16_t id, std::uint32_t written) noexcept {
    const std::uint16_t count = buffers_[id].descriptors;
    const auto flags = static_cast<std::uint16_t>(used_bits(used_.wrap()) |
                                                  (written != 0 ? descriptor_flag::write : 0U));
    const auto tail = virtio::detail::packed_ring::make_tail(written, id, flags);
    ring_.store_len(used_.index(), written);
    if (pushed_ == 0) {
      first_ = used_;
      first_tail_ = tail;
    } else {
      ring_.put_tail(used_.index(), tail);
    }
    if (record_) {
      // The record is updated by flush(): buffers that are popped before that use free entries
      // only.
      buffers_[id].next = last_pushed_;
      last_pushed_ = id;
      ++buffers_pushed_;
    }
    used_.advance(count, static_cast<std::uint16_t>(size_));
    pushed_ = static_cast<std::uint16_t>(pushed_ + count);
    descriptors_in_flight_ -= count;
    --in_flight_;
  }

  [[gnu::noinline]] void prepare_record() noexcept {
    std::uint16_t id = last_pushed_;
    for (; buffers_pushed_ != 0; --buffers_pushed_) {
      record_.use(buffers_[id].record);
      id = buffers_[id].next;
    }
    record_.prepare(used_);
  }

  void store_events(virtio::detail::event_word word) noexcept {
    overwrite(*device_events_, le<std::uint32_t>{word.word()});
  }
  [[gnu::cold]] bool refuse(fault_code code, std::uint64_t value) noexcept {
    fault_.code = code;
    fault_.value = value;
    return refused_here();
  }
  [[gnu::cold]] bool refused_here() noexcept {
    fault_.index = avail_.index();
    if (record_) record_.abandon();
    return false;
  }

  virtio::detail::packed_ring ring_{};
  buffer_state* buffers_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t in_flight_ = 0;
  std::uint32_t descriptors_in_flight_ = 0;
  ring::wrapped_index avail_{};
  ring::wrapped_index used_{};
  ring::wrapped_index first_{};       // of the batch that was pushed and not flushed
  std::uint16_t pushed_ = 0;          // its descriptors
  std::uint16_t last_pushed_ = 0;     // a list through buffer_state::next, for the record
  std::uint16_t buffers_pushed_ = 0;  // its length
  std::uint16_t order_head_ = 0;
  std::uint16_t order_tail_ = 0;
  bool event_idx_ = false;
  bool indirect_ = false;
  bool in_order_ = false;
  bool notify_next_ = false;
  virtio::detail::packed_tail first_tail_{};
  std::uint32_t max_indirect_ = 0;
  std::uint32_t resubmits_ = 0;
  std::uint32_t resubmitted_ = 0;
  const le<std::uint32_t>* driver_events_ = nullptr;
  le<std::uint32_t>* device_events_ = nullptr;
  inflight_packed<Order> record_{};
  fault fault_{};
};

}  // namespace phasebit::virtio::device
