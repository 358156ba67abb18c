// SPDX-License-Identifier: BSL-1.0
// Keeps the in-flight record of a packed queue, so that another process can take over after this one
// has ended at any instruction: vhost-user protocol, "Inflight I/O tracking", packed virtqueue.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/ring/index.hpp>
#include <phasebit/virtio/detail/packed_access.hpp>
#include <phasebit/virtio/device/queue_setup.hpp>
#include <phasebit/virtio/device/resubmit_order.hpp>
#include <phasebit/virtio/spec/inflight_record.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::device {

// Descriptors are copied into the record because the device overwrites the ring's own when it
// returns other buffers. The free list ends with the index `desc_num`. The rules of inflight_split
// hold. A link that was changed by the front end ends the record (intact() becomes false) and has
// no other effect.
template <RingOrder Order>
class inflight_packed {
 public:
  inflight_packed() noexcept = default;

  // As inflight_split::attach.
  [[nodiscard]] static result<inflight_packed> attach(std::span<std::byte> memory,
                                                      std::uint32_t size) noexcept {
    if (memory.size() < inflight_packed_bytes(size)) {
      return failure(errc::invalid_argument, "the in-flight record is smaller than the queue needs",
                     memory.size());
    }
    if (!is_aligned(to_local(memory.data()), 8)) {
      return failure(errc::misaligned, "the in-flight record is not aligned to 8 bytes");
    }
    inflight_packed made;
    made.header_ = reinterpret_cast<inflight_packed_header*>(memory.data());
    made.entries_ =
        reinterpret_cast<inflight_packed_entry*>(memory.data() + sizeof(inflight_packed_header));
    made.size_ = size;
    const inflight_packed_header there = snapshot(*made.header_);
    if (there.version == 0) {
      made.fresh_ = true;
      for (std::uint32_t i = 0; i != size; ++i) {
        overwrite(made.entries_[i], inflight_packed_entry{.inflight = 0,
                                                          .padding = 0,
                                                          .next = static_cast<std::uint16_t>(i + 1),
                                                          .last = 0,
                                                          .num = 0,
                                                          .counter = 0,
                                                          .id = 0,
                                                          .flags = 0,
                                                          .len = 0,
                                                          .addr = 0});
      }
      overwrite(*made.header_, inflight_packed_header{.features = 0,
                                                      .version = inflight_version,
                                                      .desc_num = static_cast<std::uint16_t>(size),
                                                      .free_head = 0,
                                                      .old_free_head = 0,
                                                      .used_idx = 0,
                                                      .old_used_idx = 0,
                                                      .used_wrap_counter = 1,
                                                      .old_used_wrap_counter = 1,
                                                      .padding = {}});
    } else if (there.version != inflight_version) {
      return failure(errc::not_supported, "an in-flight record of an unknown version",
                     there.version);
    } else if (there.desc_num != size) {
      return failure(errc::protocol, "the in-flight record is that of a queue of another size",
                     there.desc_num);
    }
    return made;
  }

  [[nodiscard]] explicit operator bool() const noexcept { return header_ != nullptr; }
  [[nodiscard]] bool intact() const noexcept { return intact_; }

  // The queue stopped with nothing in flight: the next attach() begins a new record.
  void close() noexcept { Order::store(header_->version, std::uint16_t{0}); }

  // Copies one descriptor of the chain that is being read.
  void add(const virtio::detail::packed_fields& d) noexcept {
    if (!intact_) return;
    const std::uint16_t at = count_ == 0 ? free_head_ : next_;
    if (at >= size_) {
      intact_ = false;
      return;
    }
    inflight_packed_entry& e = entries_[at];
    overwrite(e.addr, d.addr);
    overwrite(e.len, d.len);
    overwrite(e.id, d.id);
    overwrite(e.flags, d.flags);
    last_ = at;
    next_ = Order::load(e.next);
    ++count_;
  }
  // The chain that was copied is in flight; returns its entry. Nothing of a chain that is refused is
  // in flight, and the next chain uses the same entries.
  [[nodiscard]] std::uint16_t take() noexcept {
    const std::uint16_t head = free_head_;
    if (!intact_) return head;
    inflight_packed_entry& e = entries_[head];
    overwrite(e.num, count_);
    overwrite(e.last, last_);
    overwrite(e.counter, counter_++);
    Order::store(e.inflight, std::uint8_t{1});
    free_head_ = next_;
    Order::store(header_->free_head, next_);
    Order::store(header_->old_free_head, next_);
    count_ = 0;
    return head;
  }
  void abandon() noexcept { count_ = 0; }

  // The buffer of entry `entry` is about to be returned.
  void use(std::uint16_t entry) noexcept {
    if (!intact_) return;
    const std::uint16_t last = Order::load(entries_[entry].last);
    if (last >= size_) {
      intact_ = false;
      return;
    }
    Order::store(entries_[last].next, free_head_);
    free_head_ = entry;
    Order::store(header_->free_head, entry);
    ++batch_;
  }
  // Called before the descriptors of the batch become visible to the driver: the position behind it.
  void prepare(ring::wrapped_index used) noexcept {
    if (!intact_ || batch_ == 0) return;
    used_ = used;
    store_positions();
  }
  // They are visible now.
  void commit() noexcept {
    if (!intact_) return;
    std::uint16_t entry = free_head_;
    for (; batch_ != 0; --batch_) {
      if (entry >= size_) {
        intact_ = false;
        return;
      }
      Order::store(entries_[entry].inflight, std::uint8_t{0});
      const std::uint16_t last = Order::load(entries_[entry].last);
      if (last >= size_) {
        intact_ = false;
        return;
      }
      entry = Order::load(entries_[last].next);
    }
    Order::store(header_->old_free_head, free_head_);
    old_used_ = used_;
    store_positions();
  }

  struct recovered {
    std::uint32_t count = 0;      // buffers in flight
    ring::wrapped_index used{};   // where the next used descriptor goes
    ring::wrapped_index avail{};  // where the next available one is expected
  };
  // As inflight_split::recover; `ring` is the descriptor ring. The entries of buffers[].resubmit are
  // heads in the record. A new record takes over the position `at`.
  [[nodiscard]] result<recovered> recover(const virtio::detail::packed_ring& ring,
                                          ring::wrapped_index at,
                                          std::span<buffer_state> buffers) noexcept {
    if (fresh_) {
      fresh_ = false;
      used_ = old_used_ = at;
      store_positions();
      return recovered{.count = 0, .used = at, .avail = at};
    }
    inflight_packed_header h = snapshot(*header_);
    if (h.used_idx >= size_ || h.old_used_idx >= size_ || h.free_head > size_ ||
        h.old_free_head > size_) {
      return failure(errc::protocol, "the in-flight record leaves the queue");
    }
    if (h.used_idx != h.old_used_idx || h.used_wrap_counter != h.old_used_wrap_counter) {
      // The batch became visible exactly if its first descriptor is not the available one any more:
      // the driver may have used the place again.
      const bool wrap = h.old_used_wrap_counter != 0;
      const std::uint16_t flags =
          virtio::detail::packed_ring::flags(ring.template load_tail<Order>(h.old_used_idx));
      if (!is_available(flags, wrap)) {
        h.old_free_head = h.free_head;
        h.old_used_idx = h.used_idx;
        h.old_used_wrap_counter = h.used_wrap_counter;
      }
    }
    h.free_head = h.old_free_head;
    h.used_idx = h.old_used_idx;
    h.used_wrap_counter = h.old_used_wrap_counter;
    overwrite(*header_, h);
    free_head_ = h.free_head;
    used_ = old_used_ = {h.used_idx, h.used_wrap_counter != 0};

    for (std::uint32_t i = 0; i != size_; ++i) buffers[i].record = 0;
    recovered found;
    std::uint32_t descriptors = 0;
    counter_ = 0;
    // Heads are in flight exactly if they are marked so and are not in the free list, which may hold
    // entries of the last batch that were not cleared. Each entry is visited once.
    for (std::uint32_t i = 0; i != size_; ++i) {
      if (Order::load(entries_[i].inflight) != 0) buffers[i].record = 1;
    }
    std::uint16_t entry = free_head_;
    for (std::uint32_t i = 0; i != size_; ++i) {
      if (entry >= size_ || buffers[entry].record == 2) break;
      Order::store(entries_[entry].inflight, std::uint8_t{0});
      buffers[entry].record = 2;
      entry = Order::load(entries_[entry].next);
    }
    for (std::uint32_t i = 0; i != size_; ++i) {
      if (buffers[i].record != 1) continue;
      buffers[found.count++].resubmit = static_cast<std::uint16_t>(i);
      descriptors += snapshot(entries_[i].num);
      const std::uint64_t age = snapshot(entries_[i].counter);
      if (age >= counter_) counter_ = age + 1;
    }
    if (descriptors > size_) {
      return failure(errc::protocol, "the in-flight record holds more descriptors than the queue",
                     descriptors);
    }
    detail::sort_resubmits(buffers, found.count, [this](std::uint16_t i) noexcept {
      return std::uint64_t{snapshot(entries_[i].counter)};
    });
    found.used = found.avail = used_;
    found.avail.advance(static_cast<std::uint16_t>(descriptors), static_cast<std::uint16_t>(size_));
    return found;
  }

  // The descriptors of a buffer to take again: calls each(fields, is_last) until it returns false or
  // the chain ends; false when the record is broken.
  template <class Each>
  [[nodiscard]] bool for_each_descriptor(std::uint16_t entry, Each&& each) const noexcept {
    const std::uint16_t num = snapshot(entries_[entry].num);
    if (num == 0 || num > size_) return false;
    for (std::uint16_t i = 0; i != num; ++i) {
      if (entry >= size_) return false;
      const inflight_packed_entry e = snapshot(entries_[entry]);
      if (!each(virtio::detail::packed_fields{e.addr, e.len, e.id, e.flags}, i + 1 == num)) {
        return false;
      }
      entry = e.next;
    }
    return true;
  }

 private:
  // Both positions with their wrap counters lie in one aligned word of 64 bits. Stored whole, a
  // successor never sees an index of one position with the wrap counter of another.
  void store_positions() noexcept {
    static_assert(offsetof(inflight_packed_header, used_idx) == 16);
    struct alignas(8) positions {
      std::uint16_t used_idx, old_used_idx;
      std::uint8_t used_wrap, old_used_wrap, padding[2];
    };
    const positions now{used_.index(),
                        old_used_.index(),
                        static_cast<std::uint8_t>(used_.wrap()),
                        static_cast<std::uint8_t>(old_used_.wrap()),
                        {}};
    std::byte* const word =
        reinterpret_cast<std::byte*>(header_) + offsetof(inflight_packed_header, used_idx);
    if constexpr (sizeof(void*) >= sizeof(std::uint64_t)) {
      Order::store(*reinterpret_cast<std::uint64_t*>(word), std::bit_cast<std::uint64_t>(now));
    } else {
      const auto halves = std::bit_cast<std::array<std::uint32_t, 2>>(now);
      Order::store(*reinterpret_cast<std::uint32_t*>(word + 4), halves[1]);
      Order::store(*reinterpret_cast<std::uint32_t*>(word), halves[0]);
    }
  }

  inflight_packed_header* header_ = nullptr;
  inflight_packed_entry* entries_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint64_t counter_ = 0;
  ring::wrapped_index used_{};
  ring::wrapped_index old_used_{};
  std::uint16_t free_head_ = 0;
  std::uint16_t next_ = 0;   // the free entry behind the chain that is being read
  std::uint16_t last_ = 0;   // its last entry so far
  std::uint16_t count_ = 0;  // its descriptors so far
  std::uint16_t batch_ = 0;
  bool intact_ = true;
  bool fresh_ = false;
};

}  // namespace phasebit::virtio::device
