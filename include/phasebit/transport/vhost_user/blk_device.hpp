// SPDX-License-Identifier: BSL-1.0
// A virtio-blk device of several queues, in the form that back_end carries.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/transport/vhost_user/back_end.hpp>
#include <phasebit/transport/vhost_user/dirty_bitmap.hpp>
#include <phasebit/virtio/blk/device_config.hpp>
#include <phasebit/virtio/blk/request_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace phasebit::transport::vhost_user {

// One media object for each queue; all show the same blocks.
template <block::AsyncBlockMedia Media>
class blk_device {
 public:
  using queue_type = virtio::blk::request_queue<Media, thread_order, 128, dirty_bitmap_log>;

  // `media` outlive the device; options.queues is their number. `depth` requests of a queue may be
  // pending in its media.
  blk_device(std::span<Media> media, virtio::blk::device_options options, std::uint32_t depth = 256)
      : options_(options), media_(media) {
    options_.queues = static_cast<std::uint16_t>(media.size());
    for (Media& m : media) {
      auto part = std::make_unique<served>(m, options_, depth, &log_);
      queues_.push_back(std::move(part));
    }
    refresh_config();
  }

  // Where the writes to the driver's memory are recorded: the log of the connection.
  void set_log(dirty_bitmap* log) noexcept { log_ = log; }

  [[nodiscard]] std::uint64_t features() const noexcept {
    return virtio::blk::device_features(media_[0], options_) |
           (virtio::feature::rings & ~virtio::feature::access_platform &
            ~virtio::feature::order_platform & ~virtio::feature::notification_data);
  }
  [[nodiscard]] std::uint16_t queue_count() const noexcept {
    return static_cast<std::uint16_t>(queues_.size());
  }
  [[nodiscard]] std::span<const std::byte> config() const noexcept { return wire_bytes(config_); }
  // Only the writeback mode is the driver's to choose.
  [[nodiscard]] bool write_config(std::uint32_t offset, std::span<const std::byte> from) noexcept {
    if (offset != offsetof(virtio::blk::config, writeback) || from.size() != 1) return false;
    const auto value = static_cast<std::uint8_t>(from[0]);
    if (value > 1) return false;
    config_.writeback = value;
    for (auto& q : queues_) q->queue.set_writeback(value == 1);
    return true;
  }
  // The media's size has changed; the transport reports it afterwards.
  void refresh_config() noexcept {
    const std::uint8_t writeback = config_.writeback;
    config_ = virtio::blk::make_config(media_[0], options_);
    if (started_once_) config_.writeback = writeback;
  }

  [[nodiscard]] result<> start_queue(std::uint16_t index, const virtio::device::queue_setup& setup,
                                     virtio::device::vring_base base,
                                     std::span<std::byte> record) noexcept {
    queue_type& q = queues_[index]->queue;
    started_once_ = true;
    if (const auto started = q.start_at(setup, base); !started) return started;
    if ((setup.features & virtio::blk::feature::config_wce) != 0) {
      q.set_writeback(config_.writeback == 1);
    }
    if (!record.empty()) {
      if (const auto resumed = q.resume(record); !resumed) {
        q.stop();
        return resumed;
      }
    }
    // A kick or a call may have been lost while the queue did not run.
    q.queue().notify_on_next_flush();
    q.queue().disable_notifications();
    return {};
  }
  void pause_queue(std::uint16_t index) noexcept { queues_[index]->queue.pause(); }
  void unpause_queue(std::uint16_t index) noexcept { queues_[index]->queue.unpause(); }
  [[nodiscard]] bool queue_drained(std::uint16_t index) const noexcept {
    return queues_[index]->queue.quiescent();
  }
  [[nodiscard]] virtio::device::vring_base stop_queue(std::uint16_t index) noexcept {
    const auto base = queues_[index]->queue.queue().base();
    queues_[index]->queue.stop();
    return base;
  }
  void rebind_queue(std::uint16_t index, const virtio::device::queue_areas& areas) noexcept {
    queues_[index]->queue.queue().rebind(areas);
  }
  [[nodiscard]] virtio::blk::poll_result poll_queue(
      std::uint16_t index, const memory_table::guest_map& memory) noexcept {
    return queues_[index]->queue.poll(memory);
  }
  [[nodiscard]] bool arm_queue(std::uint16_t index) noexcept {
    queue_type& q = queues_[index]->queue;
    return q.queue().enable_notifications() || q.in_flight() != 0;
  }
  void disarm_queue(std::uint16_t index) noexcept {
    queues_[index]->queue.queue().disable_notifications();
  }
  // Why a queue has stopped taking buffers; no fault while it runs well.
  [[nodiscard]] const virtio::device::fault& queue_fault(std::uint16_t index) const noexcept {
    return queues_[index]->queue.last_fault();
  }
  [[nodiscard]] bool needs_reset() const noexcept {
    for (const auto& q : queues_) {
      if (q->queue.needs_reset()) return true;
    }
    return false;
  }

 private:
  // The log is found through the device: connections come and go, queues stay.
  struct served {
    served(Media& media, const virtio::blk::device_options& options, std::uint32_t depth,
           dirty_bitmap* const* log)
        : slots(depth), queue(media, slots, options, dirty_bitmap_log{log}) {}
    std::vector<virtio::blk::request_slot<128>> slots;
    queue_type queue;
  };

  virtio::blk::device_options options_;
  std::span<Media> media_;
  virtio::blk::config config_{};
  dirty_bitmap* log_ = nullptr;
  bool started_once_ = false;
  std::vector<std::unique_ptr<served>> queues_;
};

}  // namespace phasebit::transport::vhost_user
