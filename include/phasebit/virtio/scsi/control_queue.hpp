// SPDX-License-Identifier: BSL-1.0
// The control queue of a SCSI host: task management and the subscription of asynchronous notifications.
// Virtio 1.3, section 5.6.6.2.
#pragma once

#include <phasebit/core/wire.hpp>
#include <phasebit/virtio/device/dirty_log.hpp>
#include <phasebit/virtio/device/poll_result.hpp>
#include <phasebit/virtio/device/virtqueue.hpp>
#include <phasebit/virtio/scsi/target.hpp>
#include <phasebit/virtio/spec/scsi.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::scsi {

// Executes task management functions over the request queues of the device. A function that ends commands is
// answered when these have ended; the next one is taken afterwards. One thread at a time, that of the
// target and the queues.
//
// Commands end with the response `aborted` (ABORT TASK, ABORT TASK SET, CLEAR TASK SET) or `reset` (LOGICAL
// UNIT RESET, I_T NEXUS RESET); one whose operation had its effect already ends with its own result. A reset
// raises a unit attention condition. CLEAR ACA is rejected: there is no auto contingent allegiance. No
// asynchronous notification is supported: subscriptions are answered with an empty set.
template <class RequestQueue, RingOrder Order, device::DirtyLog Log = device::no_dirty_log>
class control_queue {
 public:
  // All outlive the queue.
  control_queue(target& of, std::span<RequestQueue* const> queues, Log log = {}) noexcept
      : target_(&of), queues_(queues), log_(log) {}
  control_queue(const control_queue&) = delete;
  control_queue& operator=(const control_queue&) = delete;

  [[nodiscard]] result<> start(const device::queue_setup& setup) noexcept {
    return started(queue_.start(setup));
  }
  [[nodiscard]] result<> start_at(const device::queue_setup& setup,
                                  device::vring_base base) noexcept {
    return started(queue_.start_at(setup, base));
  }
  [[nodiscard]] result<> resume(std::span<std::byte> record) noexcept {
    return queue_.resume(record);
  }
  void pause() noexcept { paused_ = true; }
  void unpause() noexcept { paused_ = false; }
  void abandon() noexcept {
    paused_ = true;
    waiting_ = false;
  }
  [[nodiscard]] bool quiescent() const noexcept { return !waiting_; }
  void stop() noexcept {
    queue_.stop();
    waiting_ = false;
  }

  [[nodiscard]] std::uint32_t in_flight() const noexcept { return queue_.in_flight(); }
  [[nodiscard]] bool needs_reset() const noexcept {
    return malformed_ || static_cast<bool>(queue_.last_fault());
  }
  [[nodiscard]] const device::fault& last_fault() const noexcept { return queue_.last_fault(); }
  [[nodiscard]] device::virtqueue<Order>& queue() noexcept { return queue_; }

  template <LocalTranslator Memory>
  [[nodiscard]] device::poll_result poll(Memory& memory) noexcept {
    device::poll_result did;
    if (!queue_.running()) return did;
    if (waiting_ && !any_ending()) answer(response::ok, did);
    std::array<device::chain_segment, 16> places;
    device::chain chain{places};
    for (int i = 0; i != requests_per_poll && !waiting_ && !paused_ && !malformed_; ++i) {
      if (queue_.pop(memory, chain) != device::pop_status::ready) break;
      ++did.taken;
      take(chain, did);
    }
    did.notify = queue_.flush();
    return did;
  }

 private:
  static constexpr int requests_per_poll = 8;
  static constexpr std::size_t most_response_segments = 8;

  [[nodiscard]] result<> started(const result<>& done) noexcept {
    if (!done) return done;
    paused_ = waiting_ = malformed_ = false;
    return {};
  }
  [[nodiscard]] bool any_ending() const noexcept {
    for (const RequestQueue* q : queues_) {
      if (q->any_ending()) return true;
    }
    return false;
  }

  void take(const device::chain& chain, device::poll_result& did) noexcept {
    id_ = chain.id();
    place_count_ = 0;
    actual_bytes_ = 0;
    le<std::uint32_t> type;
    const bool typed =
        device::copy_from(chain.readable(), 0, writable_wire_bytes(type)) == sizeof type;
    const bool function =
        typed && static_cast<control_type>(type.get()) == control_type::task_management;
    if (!function) actual_bytes_ = 4;  // event_actual precedes the response byte
    if (!keep_place(chain, actual_bytes_ + 1)) {
      malformed_ = true;
      queue_.push(id_, 0);
      ++did.completed;
      return;
    }
    if (!typed) return answer(response::failure, did);
    if (function) {
      task_management_request r;
      if (device::copy_from(chain.readable(), 0, writable_wire_bytes(r)) != sizeof r) {
        return answer(response::failure, did);
      }
      return manage(r, did);
    }
    notification_request r;
    const auto what = static_cast<control_type>(type.get());
    if ((what != control_type::query && what != control_type::subscribe) ||
        device::copy_from(chain.readable(), 0, writable_wire_bytes(r)) != sizeof r) {
      return answer(response::failure, did);
    }
    const auto at = parse_lun(r.lun);
    const logical_unit* const unit = at && !at->report_luns ? target_->find(*at) : nullptr;
    answer(unit != nullptr && unit->present() ? response::ok : response::incorrect_lun, did);
  }
  [[nodiscard]] bool keep_place(const device::chain& chain, std::uint32_t bytes) noexcept {
    for (const device::chain_segment& each : chain.writable()) {
      if (bytes == 0) break;
      if (place_count_ == places_.size()) return false;
      places_[place_count_] = each;
      if (each.bytes > bytes) places_[place_count_].bytes = bytes;
      bytes -= places_[place_count_++].bytes;
    }
    return bytes == 0;
  }

  void manage(const task_management_request& r, device::poll_result& did) noexcept {
    const auto function = static_cast<task_management>(r.subtype.get());
    if (r.subtype.get() > static_cast<std::uint32_t>(task_management::query_task_set) ||
        function == task_management::clear_aca) {
      return answer(response::function_rejected, did);
    }
    const auto at = parse_lun(r.lun);
    if (!at || at->report_luns || at->target != 0) return answer(response::bad_target, did);
    const bool nexus = function == task_management::i_t_nexus_reset;
    logical_unit* const unit = target_->find(*at);
    if (!nexus && (unit == nullptr || !unit->present())) {
      return answer(response::incorrect_lun, did);
    }
    const std::uint64_t tag = r.tag.get();
    const auto one = [&](std::uint16_t lun, std::uint64_t t) noexcept {
      return lun == at->lun && t == tag;
    };
    const auto all = [&](std::uint16_t lun, std::uint64_t) noexcept {
      return nexus || lun == at->lun;
    };
    switch (function) {
      case task_management::query_task:
        return answer(any(one) ? response::function_succeeded : response::ok, did);
      case task_management::query_task_set:
        return answer(any(all) ? response::function_succeeded : response::ok, did);
      case task_management::abort_task:
        return end_tasks(one, response::aborted, did);
      case task_management::abort_task_set:
      case task_management::clear_task_set:
        return end_tasks(all, response::aborted, did);
      default:
        for (logical_unit& u : target_->units()) {
          if (nexus || &u == unit) u.raise(bus_device_reset);
        }
        return end_tasks(all, response::reset, did);
    }
  }
  template <class Picks>
  [[nodiscard]] bool any(Picks picks) const noexcept {
    for (const RequestQueue* q : queues_) {
      if (q->any_task(picks)) return true;
    }
    return false;
  }
  template <class Picks>
  void end_tasks(Picks picks, response with, device::poll_result& did) noexcept {
    for (RequestQueue* q : queues_) q->end_tasks(picks, with);
    waiting_ = true;
    if (!any_ending()) answer(response::ok, did);
  }

  void answer(response value, device::poll_result& did) noexcept {
    const std::array<std::byte, 5> bytes{{{}, {}, {}, {}, static_cast<std::byte>(value)}};
    const auto to = std::span<const device::chain_segment>{places_}.first(place_count_);
    device::copy_to(to, 0, std::span{bytes}.subspan(4 - actual_bytes_));
    if (log_.enabled()) {
      for (const device::chain_segment& each : to) log_.mark(each.data, each.bytes);
    }
    queue_.push(id_, actual_bytes_ + 1);
    ++did.completed;
    waiting_ = false;
  }

  target* target_;
  std::span<RequestQueue* const> queues_;
  [[no_unique_address]] Log log_;
  device::virtqueue<Order> queue_;
  std::array<device::chain_segment, most_response_segments> places_{};
  std::uint32_t place_count_ = 0;
  std::uint32_t actual_bytes_ = 0;
  std::uint16_t id_ = 0;
  bool waiting_ = false;  // for commands to end
  bool paused_ = false;
  bool malformed_ = false;
};

}  // namespace phasebit::virtio::scsi
