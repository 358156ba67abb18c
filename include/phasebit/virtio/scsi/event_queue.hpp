// SPDX-License-Identifier: BSL-1.0
// The event queue of a SCSI host: logical units that come, go or change. Virtio 1.3, section 5.6.6.3.
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

// Writes events into the buffers that the driver keeps there. An event that finds no place in the list of
// those that wait is dropped, and the next one that is reported has the flag `events_missed`. One thread
// at a time.
template <RingOrder Order, device::DirtyLog Log = device::no_dirty_log>
class event_queue {
 public:
  explicit event_queue(Log log = {}) noexcept : log_(log) {}
  event_queue(const event_queue&) = delete;
  event_queue& operator=(const event_queue&) = delete;

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
  void abandon() noexcept { paused_ = true; }
  [[nodiscard]] static bool quiescent() noexcept { return true; }
  void stop() noexcept { queue_.stop(); }

  [[nodiscard]] std::uint32_t in_flight() const noexcept { return queue_.in_flight(); }
  [[nodiscard]] bool needs_reset() const noexcept {
    return malformed_ || static_cast<bool>(queue_.last_fault());
  }
  [[nodiscard]] const device::fault& last_fault() const noexcept { return queue_.last_fault(); }
  [[nodiscard]] device::virtqueue<Order>& queue() noexcept { return queue_; }

  // A logical unit was added or removed; feature `hotplug` was negotiated.
  void report_unit(std::uint16_t lun, bool there) noexcept {
    report(event_type::transport_reset, lun,
           static_cast<std::uint32_t>(there ? reset_reason::rescan : reset_reason::removed));
  }
  // A parameter of a logical unit has changed, described by its sense code and qualifier; feature
  // `change`.
  void report_change(std::uint16_t lun, const sense& what) noexcept {
    report(event_type::param_change, lun, what.code | std::uint32_t{what.qualifier} << 8);
  }
  [[nodiscard]] std::size_t waiting() const noexcept { return count_; }

  template <LocalTranslator Memory>
  [[nodiscard]] device::poll_result poll(Memory& memory) noexcept {
    device::poll_result did;
    if (!queue_.running() || paused_) return did;
    std::array<device::chain_segment, 16> places;
    device::chain chain{places};
    while ((count_ != 0 || missed_) && !malformed_) {
      if (queue_.pop(memory, chain) != device::pop_status::ready) break;
      ++did.taken;
      ++did.completed;
      if (chain.writable_bytes() < sizeof(event)) {
        malformed_ = true;
        queue_.push(chain.id(), 0);
        break;
      }
      event e = count_ != 0 ? events_[0] : event{};
      if (missed_) e.event = e.event.get() | events_missed;
      missed_ = false;
      if (count_ != 0) {
        --count_;
        for (std::size_t i = 0; i != count_; ++i) events_[i] = events_[i + 1];
      }
      device::copy_to(chain.writable(), 0, wire_bytes(e));
      if (log_.enabled()) {
        for (const device::chain_segment& each : chain.writable()) log_.mark(each.data, each.bytes);
      }
      queue_.push(chain.id(), static_cast<std::uint32_t>(sizeof e));
    }
    did.notify = queue_.flush();
    return did;
  }

 private:
  [[nodiscard]] result<> started(const result<>& done) noexcept {
    if (done) paused_ = malformed_ = false;
    return done;
  }
  void report(event_type type, std::uint16_t lun, std::uint32_t reason) noexcept {
    if (count_ == events_.size()) {
      missed_ = true;
      return;
    }
    event& e = events_[count_++];
    e.event = static_cast<std::uint32_t>(type);
    e.lun = lun_of(0, lun);
    e.reason = reason;
  }

  [[no_unique_address]] Log log_;
  device::virtqueue<Order> queue_;
  std::array<event, 16> events_{};
  std::size_t count_ = 0;
  bool missed_ = false;
  bool paused_ = false;
  bool malformed_ = false;
};

}  // namespace phasebit::virtio::scsi
