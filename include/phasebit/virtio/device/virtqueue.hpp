// SPDX-License-Identifier: BSL-1.0
// A device-side virtqueue whose format is chosen when it starts, for devices that offer both.
#pragma once

#include <phasebit/virtio/device/packed_queue.hpp>
#include <phasebit/virtio/device/split_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::device {

// Where a queue of either format stands, in the form that vhost-user's VRING_BASE messages have:
// split: the available index. Packed: bits 14:0 the next available descriptor, bit 15 its wrap
// counter; bits 30:16 and 31 the same of the next used one.
struct vring_base {
  std::uint32_t value = 0;

  [[nodiscard]] static constexpr vring_base of(packed_position at) noexcept {
    return {at.avail.packed() | std::uint32_t{at.used.packed()} << 16};
  }
  [[nodiscard]] constexpr packed_position packed() const noexcept {
    return {ring::wrapped_index::unpack(static_cast<std::uint16_t>(value)),
            ring::wrapped_index::unpack(static_cast<std::uint16_t>(value >> 16))};
  }
};

// The members of split_queue and packed_queue, whichever VIRTIO_F_RING_PACKED selects.
template <RingOrder Order>
class virtqueue {
 public:
  // Begins at the first entry, or at a given base. A split queue continues its used ring at the
  // index in the ring.
  [[nodiscard]] result<> start(const queue_setup& setup) noexcept {
    return start_at(setup, is_packed(setup) ? vring_base::of(packed_position{}) : vring_base{});
  }
  [[nodiscard]] result<> start_at(const queue_setup& setup, vring_base base) noexcept {
    packed_ = is_packed(setup);
    if (packed_) return packed_queue_.start(setup, base.packed());
    if (base.value > 0xffff) {
      return failure(errc::out_of_range, "a split queue's base has 16 bits", base.value);
    }
    const auto avail = static_cast<std::uint16_t>(base.value);
    if (const auto started = split_queue_.start(setup, {avail, avail}); !started) return started;
    if (base.value != 0) {
      return split_queue_.start(setup, {avail, split_queue_.ring_used_index()});
    }
    return {};
  }
  // Continues with the record of a predecessor, after start() or start_at(). `record` is begun where
  // it is all zeros. Errors: those of attach() and resume() of the format.
  [[nodiscard]] result<> resume(std::span<std::byte> record) noexcept {
    if (packed_) {
      const auto attached = inflight_packed<Order>::attach(record, packed_queue_.size());
      return attached ? packed_queue_.resume(*attached) : result<>{attached.error()};
    }
    const auto attached = inflight_split<Order>::attach(record, split_queue_.size());
    return attached ? split_queue_.resume(*attached) : result<>{attached.error()};
  }
  void stop() noexcept {
    split_queue_.stop();
    packed_queue_.stop();
  }
  void rebind(const queue_areas& areas) noexcept {
    if (packed_) {
      packed_queue_.rebind(areas);
    } else {
      split_queue_.rebind(areas);
    }
  }

  [[nodiscard]] bool is_packed() const noexcept { return packed_; }
  [[nodiscard]] bool running() const noexcept { return size() != 0; }
  [[nodiscard]] std::uint32_t size() const noexcept {
    return packed_ ? packed_queue_.size() : split_queue_.size();
  }
  [[nodiscard]] std::uint32_t in_flight() const noexcept {
    return packed_ ? packed_queue_.in_flight() : split_queue_.in_flight();
  }
  [[nodiscard]] const fault& last_fault() const noexcept {
    return packed_ ? packed_queue_.last_fault() : split_queue_.last_fault();
  }
  [[nodiscard]] vring_base base() const noexcept {
    if (packed_) return vring_base::of(packed_queue_.position());
    return {split_queue_.position().avail};
  }

  template <LocalTranslator Memory>
  [[nodiscard]] pop_status pop(Memory& memory, chain& to) noexcept {
    return packed_ ? packed_queue_.pop(memory, to) : split_queue_.pop(memory, to);
  }
  [[nodiscard]] bool available() noexcept {
    return packed_ ? packed_queue_.available() : split_queue_.available();
  }
  void push(std::uint16_t id, std::uint32_t written) noexcept {
    if (packed_) {
      packed_queue_.push(id, written);
    } else {
      split_queue_.push(id, written);
    }
  }
  [[nodiscard]] bool flush() noexcept {
    return packed_ ? packed_queue_.flush() : split_queue_.flush();
  }
  void disable_notifications() noexcept {
    if (packed_) {
      packed_queue_.disable_notifications();
    } else {
      split_queue_.disable_notifications();
    }
  }
  [[nodiscard]] bool enable_notifications() noexcept {
    return packed_ ? packed_queue_.enable_notifications() : split_queue_.enable_notifications();
  }
  void notify_on_next_flush() noexcept {
    packed_queue_.notify_on_next_flush();
    split_queue_.notify_on_next_flush();
  }

 private:
  [[nodiscard]] static bool is_packed(const queue_setup& setup) noexcept {
    return (setup.features & feature::ring_packed) != 0;
  }

  split_queue<Order> split_queue_;
  packed_queue<Order> packed_queue_;
  bool packed_ = false;
};

}  // namespace phasebit::virtio::device
