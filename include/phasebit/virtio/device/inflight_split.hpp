// SPDX-License-Identifier: BSL-1.0
// Keeps the in-flight record of a split queue, so that another process can take over after this one
// has ended at any instruction: vhost-user protocol, "Inflight I/O tracking", split virtqueue.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/virtio/device/queue_setup.hpp>
#include <phasebit/virtio/device/resubmit_order.hpp>
#include <phasebit/virtio/spec/inflight_record.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::device {

// The record lies in memory that the front end keeps and may change: every value read back is
// checked. One thread, that of the queue. The stores are made in the order of the protocol, which
// the next back end relies on; `Order` is that of the queue.
template <RingOrder Order>
class inflight_split {
 public:
  inflight_split() noexcept = default;

  // A record of zeros is begun; one that was begun is continued, see recover(). `memory` stays mapped
  // and is 8-byte aligned. Errors: invalid_argument (too small), not_supported (version), protocol
  // (a record of a queue of another size).
  [[nodiscard]] static result<inflight_split> attach(std::span<std::byte> memory,
                                                     std::uint32_t size) noexcept {
    if (memory.size() < inflight_split_bytes(size)) {
      return failure(errc::invalid_argument, "the in-flight record is smaller than the queue needs",
                     memory.size());
    }
    if (!is_aligned(to_local(memory.data()), 8)) {
      return failure(errc::misaligned, "the in-flight record is not aligned to 8 bytes");
    }
    inflight_split made;
    made.header_ = reinterpret_cast<inflight_split_header*>(memory.data());
    made.entries_ =
        reinterpret_cast<inflight_split_entry*>(memory.data() + sizeof(inflight_split_header));
    made.size_ = size;
    const inflight_split_header there = snapshot(*made.header_);
    if (there.version == 0) {
      made.fresh_ = true;
      for (std::uint32_t i = 0; i != size; ++i) {
        overwrite(made.entries_[i], inflight_split_entry{});
      }
      overwrite(*made.header_, inflight_split_header{.features = 0,
                                                     .version = inflight_version,
                                                     .desc_num = static_cast<std::uint16_t>(size),
                                                     .last_batch_head = 0,
                                                     .used_idx = 0});
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

  // The queue stopped with nothing in flight: the next attach() begins a new record.
  void close() noexcept { Order::store(header_->version, std::uint16_t{0}); }

  // A buffer was taken from the available ring.
  void take(std::uint16_t head) noexcept {
    inflight_split_entry& e = entries_[head];
    overwrite(e.counter, counter_++);
    Order::store(e.inflight, std::uint8_t{1});
  }
  // A buffer was written to the used ring, whose index has not moved yet.
  void use(std::uint16_t head) noexcept {
    Order::store(entries_[head].next, last_batch_head_);
    Order::store(header_->last_batch_head, head);
    last_batch_head_ = head;
    ++batch_;
  }
  // The used ring's index has moved to `used_idx`.
  void commit(std::uint16_t used_idx) noexcept {
    // The batch is a list in memory that may have been changed: `batch_` bounds it.
    std::uint16_t head = last_batch_head_;
    for (; batch_ != 0; --batch_) {
      if (head >= size_) break;
      Order::store(entries_[head].inflight, std::uint8_t{0});
      head = Order::load(entries_[head].next);
    }
    batch_ = 0;
    Order::store(header_->used_idx, used_idx);
  }

  // After a restart: completes the last batch, whose entries may not have been cleared, and puts the
  // heads of the buffers in flight into buffers[0 .. n).resubmit, the oldest first. Returns n.
  // `used_idx` is that of the used ring, from which a new record begins. Error: protocol, when the record contradicts itself.
  [[nodiscard]] result<std::uint32_t> recover(std::uint16_t used_idx,
                                              std::span<buffer_state> buffers) noexcept {
    if (fresh_) {
      fresh_ = false;
      Order::store(header_->used_idx, used_idx);
      return std::uint32_t{0};
    }
    const inflight_split_header there = snapshot(*header_);
    const auto unfinished = static_cast<std::uint16_t>(used_idx - there.used_idx);
    if (unfinished > size_) {
      return failure(errc::protocol, "the in-flight record and the used ring are too far apart",
                     unfinished);
    }
    std::uint16_t head = there.last_batch_head;
    for (std::uint16_t i = 0; i != unfinished; ++i) {
      if (head >= size_) {
        return failure(errc::protocol, "the in-flight record's last batch leaves the queue", head);
      }
      Order::store(entries_[head].inflight, std::uint8_t{0});
      head = Order::load(entries_[head].next);
    }
    Order::store(header_->used_idx, used_idx);
    last_batch_head_ = there.last_batch_head < size_ ? there.last_batch_head : std::uint16_t{0};
    std::uint32_t count = 0;
    counter_ = 0;
    for (std::uint32_t i = 0; i != size_; ++i) {
      if (Order::load(entries_[i].inflight) == 0) continue;
      buffers[count++].resubmit = static_cast<std::uint16_t>(i);
      const std::uint64_t age = snapshot(entries_[i].counter);
      if (age >= counter_) counter_ = age + 1;
    }
    detail::sort_resubmits(
        buffers, count, [this](std::uint16_t i) noexcept { return snapshot(entries_[i].counter); });
    return count;
  }

 private:
  inflight_split_header* header_ = nullptr;
  inflight_split_entry* entries_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t batch_ = 0;
  std::uint64_t counter_ = 0;
  std::uint16_t last_batch_head_ = 0;
  bool fresh_ = false;
};

}  // namespace phasebit::virtio::device
