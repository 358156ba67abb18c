// SPDX-License-Identifier: BSL-1.0
// The driver side of a split virtqueue: virtio 1.3, section 2.7.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/ring/event_index.hpp>
#include <phasebit/ring/index.hpp>
#include <phasebit/virtio/driver/queue_setup.hpp>
#include <phasebit/virtio/spec/notification.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::virtio::driver {

// Offers buffers with add(), makes them visible with publish(), which returns whether the device
// must be notified, and collects returned ones with poll(). `Token` is the caller's value, returned
// with the buffer. Allocates nothing and never waits. One thread at a time.
//
// The device is hostile: an impossible id, index or length stops the queue (fault()); buffers in
// flight are then returned by drain() after the device was reset.
template <RingOrder Order, class Token = std::uint64_t>
class split_queue {
 public:
  split_queue() noexcept = default;

  // Errors: invalid_argument (size), exhausted (memory or slots), misaligned.
  [[nodiscard]] result<> start(const queue_setup<Token>& setup) noexcept {
    PHASEBIT_EXPECTS(!setup.layout.packed, "the layout is that of a packed queue");
    if (const auto checked = detail::check_setup(setup); !checked) return checked;
    *this = split_queue{};
    size_ = setup.layout.size;
    mask_ = static_cast<std::uint16_t>(size_ - 1);
    event_idx_ = (setup.features & feature::event_idx) != 0;
    in_order_ = (setup.features & feature::in_order) != 0;
    slots_ = setup.slots.data();
    std::byte* const base = setup.memory.data();
    table_ = reinterpret_cast<split_descriptor*>(base);
    std::byte* const driver = base + setup.layout.driver_offset();
    avail_ = reinterpret_cast<avail_header*>(driver);
    avail_ring_ = reinterpret_cast<le<std::uint16_t>*>(driver + sizeof(avail_header));
    used_event_ = avail_ring_ + size_;
    std::byte* const device = base + setup.layout.device_offset();
    used_ = reinterpret_cast<const used_header*>(device);
    used_ring_ = reinterpret_cast<const used_element*>(device + sizeof(used_header));
    avail_event_ = reinterpret_cast<const le<std::uint16_t>*>(
        device + sizeof(used_header) + std::size_t{size_} * sizeof(used_element));
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

  // Offers a buffer: segments that the device reads, then those that it writes. A buffer of several
  // segments takes one descriptor where an indirect table holds it.
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
    const std::uint16_t head = free_head_;
    std::uint16_t last = head;
    if (indirect) {
      fill_table(head, readable, writable);
      free_head_ = slots_[head].next;
    } else {
      std::uint32_t left = shape.segments;
      const auto put = [&](const buffer_segment& s, std::uint16_t write) noexcept {
        last = free_head_;
        free_head_ = slots_[last].next;
        --left;
        const auto flags =
            static_cast<std::uint16_t>(write | (left != 0 ? descriptor_flag::next : 0U));
        overwrite(table_[last],
                  split_descriptor{.addr = s.begin.value(),
                                   .len = static_cast<std::uint32_t>(s.bytes),
                                   .flags = flags,
                                   .next = left != 0 ? free_head_ : std::uint16_t{0}});
      };
      for (const buffer_segment& s : readable) put(s, 0);
      for (const buffer_segment& s : writable) put(s, descriptor_flag::write);
    }
    free_count_ -= needed;
    buffer_slot<Token>& slot = slots_[head];
    slot.token = token;
    slot.writable = static_cast<std::uint32_t>(shape.writable);
    slot.descriptors = static_cast<std::uint16_t>(needed);
    slot.last = last;
    if (in_order_) [[unlikely]] {
      slots_[youngest_].younger = head;
      if (in_flight_ == 0) oldest_ = head;
      youngest_ = head;
    }
    ++in_flight_;
    overwrite(avail_ring_[avail_next_ & mask_], le<std::uint16_t>{head});
    ++avail_next_;
    return add_status::added;
  }

  // Makes added buffers visible. Returns true if the device must be notified of them.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool publish() noexcept {
    if (avail_next_ == avail_published_) return false;
    const std::uint16_t old = avail_published_;
    avail_published_ = avail_next_;
    Order::store(avail_->idx, le<std::uint16_t>{avail_next_});
    // The index is visible before the device's wish is read; otherwise both sides could sleep.
    Order::full();
    if (event_idx_) {
      return ring::need_event(snapshot(*avail_event_), avail_next_, old);
    }
    return (snapshot(used_->flags) & used_no_notify) == 0;
  }
  // The second half of a notification with VIRTIO_F_NOTIFICATION_DATA.
  [[nodiscard]] std::uint16_t notification_data() const noexcept { return avail_published_; }

  // Calls sink(token, written bytes) for returned buffers, at most `most`; returns how many. The sink
  // may add buffers. 0 when there is none, or after a fault.
  template <class Sink>
    requires std::is_nothrow_invocable_v<Sink&, Token&, std::uint32_t>
  PHASEBIT_ALWAYS_INLINE std::uint32_t poll(Sink&& sink,
                                            std::uint32_t most = max_queue_size) noexcept {
    if (last_used_ == used_limit_ && !look()) return 0;
    std::uint32_t done = 0;
    while (last_used_ != used_limit_ && done != most) {
      std::uint32_t written = 0;
      std::uint16_t id = 0;
      if (!take_used(id, written)) [[unlikely]] {
        used_limit_ = last_used_;
        break;
      }
      ++last_used_;
      ++done;
      Token token = release(id);
      sink(token, written);
    }
    return done;
  }

  // The device need not notify: the queue is polled. A hint.
  void disable_notifications() noexcept {
    if (!event_idx_) overwrite(avail_->flags, le<std::uint16_t>{avail_no_interrupt});
  }
  // The device shall notify when `buffers` more were returned (1: of the next). True when some are
  // there already: poll again instead of sleeping.
  [[nodiscard]] bool enable_notifications(std::uint16_t buffers = 1) noexcept {
    if (event_idx_) {
      const auto event = static_cast<std::uint16_t>(last_used_ + (buffers - 1));
      overwrite(*used_event_, le<std::uint16_t>{event});
    } else {
      overwrite(avail_->flags, le<std::uint16_t>{0});
    }
    Order::full();
    return fault_ ? false : snapshot(used_->idx) != last_used_;
  }

  // Ends everything in flight, calling sink(token); only after the device was reset.
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
  // Nothing is known to be returned: asks the device's index.
  [[nodiscard]] bool look() noexcept {
    if (fault_ || size_ == 0) return false;
    const std::uint16_t idx = Order::load(used_->idx);
    if (idx == last_used_) return false;
    const std::uint16_t returned = ring::distance(last_used_, idx);
    if (returned > in_flight_ || returned > ring::distance(last_used_, avail_published_))
        [[unlikely]] {
      fault_ = {fault_code::used_index_jump, idx};
      return false;
    }
    Order::after_load();
    used_limit_ = idx;
    return true;
  }

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool take_used(std::uint16_t& id,
                                                      std::uint32_t& written) noexcept {
    if (in_order_) [[unlikely]] {
      return take_used_in_order(id, written);
    }
    const used_element e = snapshot(used_ring_[last_used_ & mask_]);
    return check(e, id, written);
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool check(const used_element& e, std::uint16_t& id,
                                                  std::uint32_t& written) noexcept {
    const std::uint32_t claimed = e.id;
    if (claimed >= size_) [[unlikely]] {
      return fail(fault_code::id_out_of_range, claimed);
    }
    if (slots_[claimed].descriptors == 0) [[unlikely]] {
      return fail(fault_code::not_in_flight, claimed);
    }
    id = static_cast<std::uint16_t>(claimed);
    written = e.len;
    if (written > slots_[id].writable) [[unlikely]] {
      return fail(fault_code::length_overflow, written);
    }
    return true;
  }
  // One entry may stand for all buffers up to the one that it names (2.7.9): those before it were
  // used completely.
  [[nodiscard, gnu::noinline]] bool take_used_in_order(std::uint16_t& id,
                                                       std::uint32_t& written) noexcept {
    if (!batch_) {
      const used_element e = snapshot(used_ring_[last_used_ & mask_]);
      if (!check(e, batch_id_, batch_written_)) return false;
      batch_ = true;
    }
    id = oldest_;
    oldest_ = slots_[id].younger;
    if (id == batch_id_) {
      batch_ = false;
      written = batch_written_;
      return true;
    }
    written = slots_[id].writable;
    // The batch must end within what the index covers.
    if (static_cast<std::uint16_t>(last_used_ + 1) == used_limit_) {
      return fail(fault_code::out_of_order, batch_id_);
    }
    return true;
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE Token release(std::uint16_t id) noexcept {
    buffer_slot<Token>& slot = slots_[id];
    slots_[slot.last].next = free_head_;
    free_head_ = id;
    free_count_ += slot.descriptors;
    slot.descriptors = 0;
    --in_flight_;
    return slot.token;
  }

  [[gnu::noinline]] void fill_table(std::uint16_t head, std::span<const buffer_segment> readable,
                                    std::span<const buffer_segment> writable) noexcept {
    const std::size_t offset = std::size_t{head} * indirect_entries_ * sizeof(split_descriptor);
    auto* const table = reinterpret_cast<split_descriptor*>(tables_.data() + offset);
    const std::size_t count = readable.size() + writable.size();
    std::size_t i = 0;
    const auto put = [&](const buffer_segment& s, std::uint16_t write) noexcept {
      const bool last = i + 1 == count;
      overwrite(table[i], split_descriptor{.addr = s.begin.value(),
                                           .len = static_cast<std::uint32_t>(s.bytes),
                                           .flags = static_cast<std::uint16_t>(
                                               write | (last ? 0U : descriptor_flag::next)),
                                           .next = static_cast<std::uint16_t>(last ? 0 : i + 1)});
      ++i;
    };
    for (const buffer_segment& s : readable) put(s, 0);
    for (const buffer_segment& s : writable) put(s, descriptor_flag::write);
    overwrite(table_[head],
              split_descriptor{.addr = (tables_.bus + offset).value(),
                               .len = static_cast<std::uint32_t>(count * sizeof(split_descriptor)),
                               .flags = descriptor_flag::indirect,
                               .next = 0});
  }

  [[gnu::cold]] bool fail(fault_code code, std::uint64_t value) noexcept {
    fault_ = {code, value};
    return false;
  }

  split_descriptor* table_ = nullptr;
  le<std::uint16_t>* avail_ring_ = nullptr;
  const used_element* used_ring_ = nullptr;
  buffer_slot<Token>* slots_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t free_count_ = 0;
  std::uint32_t in_flight_ = 0;
  std::uint32_t indirect_entries_ = 0;
  std::uint16_t mask_ = 0;
  std::uint16_t free_head_ = 0;
  std::uint16_t avail_next_ = 0;
  std::uint16_t avail_published_ = 0;
  std::uint16_t last_used_ = 0;
  std::uint16_t used_limit_ = 0;  // as far as the device's index was seen
  std::uint16_t oldest_ = 0;
  std::uint16_t youngest_ = 0;
  std::uint16_t batch_id_ = 0;
  bool batch_ = false;
  bool event_idx_ = false;
  bool in_order_ = false;
  std::uint32_t batch_written_ = 0;
  avail_header* avail_ = nullptr;
  le<std::uint16_t>* used_event_ = nullptr;
  const used_header* used_ = nullptr;
  const le<std::uint16_t>* avail_event_ = nullptr;
  dma_region tables_{};
  fault fault_{};
};

}  // namespace phasebit::virtio::driver
