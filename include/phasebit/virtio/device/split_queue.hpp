// SPDX-License-Identifier: BSL-1.0
// The device side of a split virtqueue: virtio 1.3, section 2.7.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/ring/event_index.hpp>
#include <phasebit/ring/index.hpp>
#include <phasebit/virtio/device/chain.hpp>
#include <phasebit/virtio/device/indirect.hpp>
#include <phasebit/virtio/device/inflight_split.hpp>
#include <phasebit/virtio/device/queue_setup.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::device {

// Where a split queue stands: enough to continue it elsewhere once no buffer is in flight.
struct split_position {
  std::uint16_t avail = 0;  // the next entry of the available ring to take
  std::uint16_t used = 0;   // the next entry of the used ring to write

  friend constexpr bool operator==(split_position, split_position) noexcept = default;
};

// Takes buffers with pop(), returns them with push() in any order, and makes pushed buffers visible
// with flush(), which returns whether the driver must be notified. Allocates nothing and never
// waits. One thread at a time.
//
// The driver is hostile: each of its words is read once, and each chain is checked whole before it
// is returned. The first rule it breaks stops the queue (pop_status::refused, fault()); buffers in
// flight may still be pushed. A stopped queue runs again after start().
template <RingOrder Order>
class split_queue {
 public:
  using position_type = split_position;

  split_queue() noexcept = default;

  // Begins at `at`. Forgets everything that was in flight. Errors: invalid_argument (size),
  // not_ready (no areas), exhausted (too little buffer state).
  [[nodiscard]] result<> start(const queue_setup& setup, split_position at = {}) noexcept {
    if (const auto checked = detail::check_setup(setup, false); !checked) return checked;
    *this = split_queue{};
    size_ = setup.size;
    mask_ = static_cast<std::uint16_t>(setup.size - 1);
    event_idx_ = (setup.features & feature::event_idx) != 0;
    indirect_ = (setup.features & feature::indirect_desc) != 0;
    in_order_ = (setup.features & feature::in_order) != 0;
    max_indirect_ = setup.max_indirect_entries;
    buffers_ = setup.buffers.data();
    for (std::uint32_t i = 0; i != size_; ++i) buffers_[i] = {};
    rebind(setup.areas);
    last_avail_ = avail_limit_ = at.avail;
    used_next_ = used_published_ = at.used;
    return {};
  }
  // Continues with the in-flight record of a predecessor, which may have ended at any instruction.
  // Buffers that it had taken and not returned come out of pop() first, in their order. Called after
  // start() and before the first pop(); the position follows from the record and the used ring. The
  // record is kept from here on. Error: protocol (the record contradicts itself or the ring).
  [[nodiscard]] result<> resume(const inflight_split<Order>& record) noexcept {
    record_ = record;
    const std::uint16_t used = Order::load(used_->idx);
    const auto count = record_.recover(used, {buffers_, size_});
    if (!count) {
      record_ = {};
      return count.error();
    }
    resubmits_ = *count;
    used_next_ = used_published_ = used;
    last_avail_ = avail_limit_ = static_cast<std::uint16_t>(used + *count);
    notify_next_ = true;
    return {};
  }
  void stop() noexcept { *this = split_queue{}; }

  // The areas are somewhere else in this process now (a changed memory map); nothing else changes.
  void rebind(const queue_areas& areas) noexcept {
    table_ = reinterpret_cast<const split_descriptor*>(areas.descriptors);
    avail_ = reinterpret_cast<const avail_header*>(areas.driver);
    avail_ring_ = reinterpret_cast<const le<std::uint16_t>*>(areas.driver + sizeof(avail_header));
    used_event_ = avail_ring_ + size_;
    used_ = reinterpret_cast<used_header*>(areas.device);
    used_ring_ = reinterpret_cast<used_element*>(areas.device + sizeof(used_header));
    avail_event_ = reinterpret_cast<le<std::uint16_t>*>(areas.device + sizeof(used_header) +
                                                        std::size_t{size_} * sizeof(used_element));
  }

  [[nodiscard]] bool running() const noexcept { return size_ != 0; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return in_flight_; }
  // Why pop() refuses; no fault while the queue runs.
  [[nodiscard]] const fault& last_fault() const noexcept { return fault_; }
  // To be saved when in_flight() is 0 and all is flushed.
  [[nodiscard]] split_position position() const noexcept { return {last_avail_, used_next_}; }
  // The used index of the ring itself: where a queue starts whose position was not saved, if it
  // returned its buffers in order or has an in-flight record.
  [[nodiscard]] std::uint16_t ring_used_index() const noexcept { return Order::load(used_->idx); }

  // Takes the next buffer. `to` is the buffer when the answer is ready, and has no segments when it is
  // refused.
  template <LocalTranslator Memory>
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE pop_status pop(Memory& memory, chain& to) noexcept {
    if (resubmitted_ != resubmits_) [[unlikely]] {
      return pop_resubmitted(memory, to);
    }
    if (last_avail_ == avail_limit_) {
      if (const pop_status found = look(); found != pop_status::ready) {
        if (found == pop_status::refused) to.clear();
        return found;
      }
    }
    const std::uint16_t head = snapshot(avail_ring_[last_avail_ & mask_]);
    if (!walk(memory, head, to)) [[unlikely]] {
      return latch(to);
    }
    ++last_avail_;
    return pop_status::ready;
  }

  // Whether pop() would find something; does not take it. A stopped queue has nothing.
  [[nodiscard]] bool available() noexcept {
    return resubmitted_ != resubmits_ || last_avail_ != avail_limit_ || look() == pop_status::ready;
  }

  // Returns a buffer of which the device has written the first `written` bytes (of the writable
  // part). `id` is that of a chain in flight. The driver sees it after flush().
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

  // Makes the pushed buffers visible. Returns true if the driver must be notified of them.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool flush() noexcept {
    if (used_next_ == used_published_) return false;
    const std::uint16_t old = used_published_;
    used_published_ = used_next_;
    Order::store(used_->idx, le<std::uint16_t>{used_next_});
    if (record_) record_.commit(used_next_);
    // The index is visible before the driver's wish is read; otherwise both sides could sleep.
    Order::full();
    if (notify_next_) [[unlikely]] {
      notify_next_ = false;
      return true;
    }
    if (event_idx_) {
      return ring::need_event(snapshot(*used_event_), used_next_, old);
    }
    return (snapshot(avail_->flags) & avail_no_interrupt) == 0;
  }

  // The driver need not notify: the queue is polled. A hint; notifications may still arrive.
  void disable_notifications() noexcept {
    if (!event_idx_) overwrite(used_->flags, le<std::uint16_t>{used_no_notify});
  }
  // The driver shall notify of the next buffer. True when one is there already: pop again instead of
  // sleeping.
  [[nodiscard]] bool enable_notifications() noexcept {
    if (event_idx_) {
      overwrite(*avail_event_, le<std::uint16_t>{last_avail_});
    } else {
      overwrite(used_->flags, le<std::uint16_t>{0});
    }
    Order::full();
    return available();
  }
  // The next flush() notifies whatever the driver requested: after a pause or a restore, in which a
  // notification may have been lost.
  void notify_on_next_flush() noexcept { notify_next_ = true; }

 private:
  // Nothing is known to be available: asks the driver's index.
  [[nodiscard]] pop_status look() noexcept {
    if (fault_) [[unlikely]] {
      return pop_status::refused;
    }
    if (size_ == 0) return pop_status::empty;
    const std::uint16_t idx = Order::load(avail_->idx);
    if (idx == last_avail_) return pop_status::empty;
    // A driver never has more buffers outstanding than the queue has entries.
    if (ring::distance(last_avail_, idx) > size_ - in_flight_) [[unlikely]] {
      fault_ = {fault_code::avail_index_jump, last_avail_, idx};
      return pop_status::refused;
    }
    Order::after_load();
    avail_limit_ = idx;
    return pop_status::ready;
  }

  template <LocalTranslator Memory>
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool walk(Memory& memory, std::uint16_t head,
                                                 chain& to) noexcept {
    if (head >= size_) [[unlikely]] {
      return fail(fault_code::head_out_of_range, head, head);
    }
    buffer_state& buffer = buffers_[head];
    if (buffer.state != buffer_state::progress::free) [[unlikely]] {
      return fail(fault_code::buffer_in_flight, head, head);
    }
    chain_builder builder{to};
    std::uint32_t at = head;
    std::uint32_t count = 0;
    for (;;) {
      const split_descriptor d = snapshot(table_[at]);
      const std::uint16_t flags = d.flags;
      ++count;
      if ((flags & descriptor_flag::indirect) != 0) {
        builder.finish(to, head);
        if (!walk_table(memory, d, to)) [[unlikely]] {
          fault_.index = head;
          return false;
        }
        break;
      }
      if (!builder.append(memory, d.addr, d.len, (flags & descriptor_flag::write) != 0, fault_))
          [[unlikely]] {
        fault_.index = head;
        return false;
      }
      if ((flags & descriptor_flag::next) == 0) {
        builder.finish(to, head);
        break;
      }
      at = d.next;
      if (at >= size_) [[unlikely]] {
        return fail(fault_code::next_out_of_range, head, at);
      }
      if (count == size_) [[unlikely]] {
        return fail(fault_code::chain_too_long, head, count);
      }
    }
    buffer.state = buffer_state::progress::taken;
    ++in_flight_;
    if (in_order_) [[unlikely]] {
      buffers_[order_tail_].next = head;
      if (in_flight_ == 1) order_head_ = head;
      order_tail_ = head;
    }
    if (record_) record_.take(head);
    return true;
  }
  template <LocalTranslator Memory>
  [[nodiscard, gnu::noinline]] bool walk_table(Memory& memory, const split_descriptor& d,
                                               chain& to) noexcept {
    if (!indirect_) {
      fault_ = {fault_code::indirect_not_negotiated, 0, d.flags};
      return false;
    }
    if ((d.flags & descriptor_flag::next) != 0) {
      fault_ = {fault_code::indirect_with_next, 0, d.flags};
      return false;
    }
    return append_table(to, memory, d.addr, d.len, max_indirect_, table_order::linked, fault_);
  }

  template <LocalTranslator Memory>
  [[nodiscard, gnu::cold]] pop_status pop_resubmitted(Memory& memory, chain& to) noexcept {
    if (fault_) {
      to.clear();
      return pop_status::refused;
    }
    const std::uint16_t head = buffers_[resubmitted_].resubmit;
    if (!walk(memory, head, to)) return latch(to);
    to.set_resubmitted();
    ++resubmitted_;
    return pop_status::ready;
  }

  // Returns buffers in the order in which they were taken, as far as they are done.
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
    overwrite(used_ring_[used_next_ & mask_],
              used_element{.id = std::uint32_t{id}, .len = written});
    ++used_next_;
    --in_flight_;
    if (record_) record_.use(id);
  }

  [[gnu::cold]] bool fail(fault_code code, std::uint16_t index, std::uint64_t value) noexcept {
    fault_ = {code, index, value};
    return false;
  }
  [[gnu::cold]] pop_status latch(chain& to) noexcept {
    to.clear();
    avail_limit_ = last_avail_;  // what is left in the ring is not looked at
    return pop_status::refused;
  }

  const split_descriptor* table_ = nullptr;
  const le<std::uint16_t>* avail_ring_ = nullptr;
  used_element* used_ring_ = nullptr;
  buffer_state* buffers_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t in_flight_ = 0;
  std::uint16_t mask_ = 0;
  std::uint16_t last_avail_ = 0;
  std::uint16_t avail_limit_ = 0;  // as far as the driver's index was seen
  std::uint16_t used_next_ = 0;
  std::uint16_t used_published_ = 0;
  std::uint16_t order_head_ = 0;
  std::uint16_t order_tail_ = 0;
  bool event_idx_ = false;
  bool indirect_ = false;
  bool in_order_ = false;
  bool notify_next_ = false;
  std::uint32_t max_indirect_ = 0;
  std::uint32_t resubmits_ = 0;
  std::uint32_t resubmitted_ = 0;
  const avail_header* avail_ = nullptr;
  const le<std::uint16_t>* used_event_ = nullptr;
  used_header* used_ = nullptr;
  le<std::uint16_t>* avail_event_ = nullptr;
  inflight_split<Order> record_{};
  fault fault_{};
};

}  // namespace phasebit::virtio::device
