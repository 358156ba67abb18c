// SPDX-License-Identifier: BSL-1.0
// A virtio-scsi host of several request queues, in the form that back_end carries.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/transport/vhost_user/back_end.hpp>
#include <phasebit/transport/vhost_user/dirty_bitmap.hpp>
#include <phasebit/virtio/scsi/control_queue.hpp>
#include <phasebit/virtio/scsi/event_queue.hpp>
#include <phasebit/virtio/scsi/request_queue.hpp>
#include <phasebit/virtio/spec/features.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace phasebit::transport::vhost_user {

// Queues 0 and 1 are control and events; the others take commands. One media object for each logical unit
// of each request queue. One thread at a time.
template <block::AsyncBlockMedia Media>
class scsi_device {
  template <class Use>
  auto with(std::uint16_t index, Use&& use) noexcept {
    if (index == virtio::scsi::control_queue_index) return use(*control_);
    if (index == virtio::scsi::event_queue_index) return use(events_);
    return use(queues_[index - virtio::scsi::first_request_queue_index]->queue);
  }

 public:
  using queue_type = virtio::scsi::request_queue<Media, thread_order, 128, dirty_bitmap_log>;

  // `media` has units.size() objects for the first request queue, then as many for the next; all of
  // a logical unit contain the same blocks. Both outlive the device. `depth` commands of a queue
  // may be pending.
  scsi_device(std::span<virtio::scsi::logical_unit> units, std::span<Media> media,
              virtio::scsi::target_options options = {}, std::uint32_t depth = 256)
      : target_(units, with_queues(options, media.size() / units.size())),
        events_(dirty_bitmap_log{&log_}) {
    PHASEBIT_EXPECTS(media.size() != 0 && media.size() % units.size() == 0,
                     "each request queue has media for each logical unit");
    for (std::size_t at = 0; at != media.size(); at += units.size()) {
      queues_.push_back(
          std::make_unique<served>(target_, media.subspan(at, units.size()), depth, &log_));
      pointers_.push_back(&queues_.back()->queue);
    }
    control_ = std::make_unique<control_type>(target_, pointers_, dirty_bitmap_log{&log_});
    config_ = target_.config();
  }

  [[nodiscard]] virtio::scsi::target& target() noexcept { return target_; }
  [[nodiscard]] virtio::scsi::event_queue<thread_order, dirty_bitmap_log>& events() noexcept {
    return events_;
  }
  // Where the writes to the driver's memory are recorded: the log of the connection.
  void set_log(dirty_bitmap* log) noexcept { log_ = log; }
  // The size of a logical unit has changed: an event and a unit attention report it.
  void unit_resized(std::uint16_t lun) noexcept {
    target_.units()[lun].raise(virtio::scsi::capacity_data_has_changed);
    events_.report_change(lun, virtio::scsi::capacity_data_has_changed);
  }

  [[nodiscard]] std::uint64_t features() const noexcept {
    return target_.features() |
           (virtio::feature::rings & ~virtio::feature::access_platform &
            ~virtio::feature::order_platform & ~virtio::feature::notification_data);
  }
  [[nodiscard]] std::uint16_t queue_count() const noexcept {
    return static_cast<std::uint16_t>(queues_.size() + virtio::scsi::first_request_queue_index);
  }
  [[nodiscard]] std::span<const std::byte> config() const noexcept { return wire_bytes(config_); }
  [[nodiscard]] bool write_config(std::uint32_t offset, std::span<const std::byte> from) noexcept {
    const bool written = target_.write_config(offset, from);
    config_ = target_.config();
    return written;
  }

  [[nodiscard]] result<> start_queue(std::uint16_t index, const virtio::device::queue_setup& setup,
                                     virtio::device::vring_base base,
                                     std::span<std::byte> record) noexcept {
    return with(index, [&](auto& q) noexcept -> result<> {
      if (const auto started = q.start_at(setup, base); !started) return started;
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
    });
  }
  void pause_queue(std::uint16_t index) noexcept {
    with(index, [](auto& q) noexcept { q.pause(); });
  }
  void unpause_queue(std::uint16_t index) noexcept {
    with(index, [](auto& q) noexcept { q.unpause(); });
  }
  [[nodiscard]] bool queue_drained(std::uint16_t index) noexcept {
    return with(index, [](auto& q) noexcept { return q.quiescent(); });
  }
  [[nodiscard]] virtio::device::vring_base stop_queue(std::uint16_t index) noexcept {
    return with(index, [](auto& q) noexcept {
      const auto base = q.queue().base();
      q.stop();
      return base;
    });
  }
  void rebind_queue(std::uint16_t index, const virtio::device::queue_areas& areas) noexcept {
    with(index, [&](auto& q) noexcept { q.queue().rebind(areas); });
  }
  [[nodiscard]] virtio::device::poll_result poll_queue(
      std::uint16_t index, const memory_table::guest_map& memory) noexcept {
    return with(index, [&](auto& q) noexcept { return q.poll(memory); });
  }
  [[nodiscard]] bool arm_queue(std::uint16_t index) noexcept {
    return with(index, [&](auto& q) noexcept {
      // The driver keeps empty buffers in the event queue: they are no work.
      if (index == virtio::scsi::event_queue_index) return events_.waiting() != 0;
      return q.queue().enable_notifications() || q.in_flight() != 0;
    });
  }
  void disarm_queue(std::uint16_t index) noexcept {
    with(index, [](auto& q) noexcept { q.queue().disable_notifications(); });
  }
  // Why a queue has stopped taking buffers; no fault while it runs well.
  [[nodiscard]] const virtio::device::fault& queue_fault(std::uint16_t index) noexcept {
    return *with(index, [](auto& q) noexcept { return &q.last_fault(); });
  }
  [[nodiscard]] bool needs_reset() const noexcept {
    bool any = control_->needs_reset() || events_.needs_reset();
    for (const auto& q : queues_) any = any || q->queue.needs_reset();
    return any;
  }

 private:
  using control_type = virtio::scsi::control_queue<queue_type, thread_order, dirty_bitmap_log>;

  // The log is found through the device: connections come and go, queues stay.
  struct served {
    served(virtio::scsi::target& target, std::span<Media> media, std::uint32_t depth,
           dirty_bitmap* const* log)
        : slots(depth), queue(target, media, slots, dirty_bitmap_log{log}) {}
    std::vector<virtio::scsi::request_slot<128>> slots;
    queue_type queue;
  };
  [[nodiscard]] static virtio::scsi::target_options with_queues(
      virtio::scsi::target_options options, std::size_t queues) noexcept {
    options.request_queues = static_cast<std::uint16_t>(queues);
    return options;
  }
  dirty_bitmap* log_ = nullptr;
  virtio::scsi::target target_;
  virtio::scsi::config config_{};
  std::vector<std::unique_ptr<served>> queues_;
  std::vector<queue_type*> pointers_;
  std::unique_ptr<control_type> control_;
  virtio::scsi::event_queue<thread_order, dirty_bitmap_log> events_;
};

}  // namespace phasebit::transport::vhost_user
