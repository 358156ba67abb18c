// SPDX-License-Identifier: BSL-1.0
// The driver side of virtio over PCI, without the legacy interface: virtio 1.3, section 4.1.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/virtio/spec/features.hpp>
#include <phasebit/virtio/spec/notification.hpp>
#include <phasebit/virtio/spec/pci.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::pci {

// Registers of 8 and 16 bits: each field is accessed in its own width (4.1.3.1).
template <class T>
concept NarrowMmio = Mmio<T> && requires(T& bar, std::uint32_t offset) {
  { bar.read8(offset) } noexcept -> std::same_as<std::uint8_t>;
  { bar.read16(offset) } noexcept -> std::same_as<std::uint16_t>;
  { bar.write8(offset, std::uint8_t{}) } noexcept -> std::same_as<void>;
  { bar.write16(offset, std::uint16_t{}) } noexcept -> std::same_as<void>;
};

// Notifies the device of one queue. A value; its bar outlives it.
template <NarrowMmio Bar>
class notifier {
 public:
  notifier() noexcept = default;
  notifier(Bar bar, std::uint32_t offset, std::uint16_t queue, bool with_data) noexcept
      : bar_(bar), offset_(offset), queue_(queue), with_data_(with_data) {}

  // `next` is the queue's notification_data(), used with VIRTIO_F_NOTIFICATION_DATA. Earlier stores
  // are visible to the device first.
  void ring(std::uint32_t next) noexcept {
    if (with_data_) {
      bar_.write32(offset_, notification{queue_, static_cast<std::uint16_t>(next)}.value());
    } else {
      bar_.write16(offset_, queue_);
    }
  }

 private:
  Bar bar_{};
  std::uint32_t offset_ = 0;
  std::uint16_t queue_ = 0;
  bool with_data_ = false;
};

// Where a queue lies, for enable_queue().
struct queue_addresses {
  std::uint16_t size = 0;
  bus_addr descriptors{};
  bus_addr driver{};
  bus_addr device{};
  std::uint16_t vector = no_vector;  // of MSI-X
};

// Initialisation and control of one device, in the order of section 3.1.1: attach (which resets),
// negotiate, enable_queue for each queue, start. Queues themselves are used without this object.
// All values from the device are checked. One thread at a time; the function outlives the
// transport.
template <PcieFunction Function>
  requires NarrowMmio<typename Function::bar_type>
class transport {
 public:
  using bar_type = typename Function::bar_type;
  static constexpr std::uint64_t reset_timeout_ms = 5000;

  // Finds the structures of the device and resets it. Errors: not_supported (a legacy device, or one
  // without a needed structure), protocol (a structure outside of its BAR, misaligned or too small),
  // timed_out (a reset that does not end), those of map_bar.
  template <PollClock Clock>
  [[nodiscard]] static result<transport> attach(Function& function, Clock&& clock) noexcept {
    transport made;
    if (const auto found = made.find_structures(function); !found) return found.error();
    if (const auto done = made.reset(clock); !done) return done.error();
    made.set_status(device_status::acknowledge);
    made.set_status(device_status::acknowledge | device_status::driver);
    return made;
  }

  // Status 0, and waits until the device reads so: then it accesses no memory of ours any more.
  template <PollClock Clock>
  [[nodiscard]] result<> reset(Clock&& clock) noexcept {
    set_status(0);
    if (!poll_until(clock, reset_timeout_ms * nanoseconds_per_ms,
                    [this]() noexcept { return status() == 0; })) {
      return failure(errc::timed_out, "the virtio device does not finish its reset", status());
    }
    return {};
  }

  // Accepts the features in `wanted` that the device offers; `needed` and VERSION_1 must be among them.
  // Errors: not_supported (`value` has the missing bits, or 0 if the device refuses the set).
  [[nodiscard]] result<std::uint64_t> negotiate(std::uint64_t wanted,
                                                std::uint64_t needed = 0) noexcept {
    std::uint64_t offered = 0;
    for (std::uint32_t half = 0; half != 2; ++half) {
      common_.write32(common::device_feature_select, half);
      offered |= std::uint64_t{common_.read32(common::device_feature)} << (32 * half);
    }
    needed |= feature::version_1;
    if ((needed & ~offered) != 0) {
      return failure(errc::not_supported, "the virtio device does not offer a feature",
                     needed & ~offered);
    }
    features_ = offered & (wanted | needed);
    for (std::uint32_t half = 0; half != 2; ++half) {
      common_.write32(common::driver_feature_select, half);
      common_.write32(common::driver_feature, static_cast<std::uint32_t>(features_ >> (32 * half)));
    }
    constexpr std::uint8_t so_far =
        device_status::acknowledge | device_status::driver | device_status::features_ok;
    set_status(so_far);
    if ((status() & device_status::features_ok) == 0) {
      return failure(errc::not_supported, "the virtio device refuses this set of features",
                     std::uint64_t{0});
    }
    return features_;
  }
  [[nodiscard]] std::uint64_t features() const noexcept { return features_; }

  [[nodiscard]] std::uint16_t queue_count() noexcept { return common_.read16(common::num_queues); }
  // The largest size of a queue; 0 if there is no such queue.
  [[nodiscard]] std::uint16_t max_queue_size(std::uint16_t queue) noexcept {
    common_.write16(common::queue_select, queue);
    return common_.read16(common::queue_size);
  }
  // Errors: not_found (no such queue), out_of_range (larger than the device allows), exhausted (the
  // device has no resources for the vector), protocol (a notification address outside of its BAR).
  [[nodiscard]] result<notifier<bar_type>> enable_queue(std::uint16_t queue,
                                                        const queue_addresses& at) noexcept {
    const std::uint16_t most = max_queue_size(queue);
    if (most == 0) return failure(errc::not_found, "the virtio device has no such queue", queue);
    if (at.size > most) {
      return failure(errc::out_of_range, "the queue is larger than the virtio device allows", most);
    }
    common_.write16(common::queue_size, at.size);
    common_.write16(common::queue_msix_vector, at.vector);
    if (common_.read16(common::queue_msix_vector) != at.vector) {
      return failure(errc::exhausted, "the virtio device cannot use the interrupt vector",
                     at.vector);
    }
    common_.write64_lo_hi(common::queue_desc, at.descriptors.value());
    common_.write64_lo_hi(common::queue_driver, at.driver.value());
    common_.write64_lo_hi(common::queue_device, at.device.value());
    const bool with_data = (features_ & feature::notification_data) != 0;
    const std::uint64_t offset =
        std::uint64_t{common_.read16(common::queue_notify_off)} * notify_multiplier_;
    const std::uint32_t width = with_data ? 4 : 2;
    if (offset + width > notify_bytes_ || offset % width != 0) {
      return failure(errc::protocol, "a queue's notification lies outside of its structure",
                     offset);
    }
    common_.write16(common::queue_enable, 1);
    return notifier<bar_type>{notify_, notify_offset_ + static_cast<std::uint32_t>(offset), queue,
                              with_data};
  }
  // Stops one queue; needs VIRTIO_F_RING_RESET. Afterwards the device does not access its memory.
  template <PollClock Clock>
  [[nodiscard]] result<> reset_queue(std::uint16_t queue, Clock&& clock) noexcept {
    if ((features_ & feature::ring_reset) == 0) {
      return failure(errc::not_supported, "VIRTIO_F_RING_RESET was not negotiated", queue);
    }
    common_.write16(common::queue_select, queue);
    common_.write16(common::queue_reset, 1);
    if (!poll_until(clock, reset_timeout_ms * nanoseconds_per_ms,
                    [this]() noexcept { return common_.read16(common::queue_reset) == 0; })) {
      return failure(errc::timed_out, "the virtio device does not finish a queue's reset", queue);
    }
    return {};
  }

  // DRIVER_OK: the device serves its queues from here on.
  void start() noexcept {
    set_status(device_status::acknowledge | device_status::driver | device_status::features_ok |
               device_status::driver_ok);
  }
  [[nodiscard]] std::uint8_t status() noexcept { return common_.read8(common::device_status); }
  // The device has met an error that only a reset ends.
  [[nodiscard]] bool needs_reset() noexcept { return (status() & device_status::needs_reset) != 0; }
  // Clears and returns the interrupt status, which is used without MSI-X.
  [[nodiscard]] std::uint8_t acknowledge_interrupt() noexcept { return isr_.read8(isr_offset_); }

  // Reads from the configuration space of the device type, and again if it has changed meanwhile.
  // Errors: out_of_range (beyond its end), busy (it changes all the time).
  [[nodiscard]] result<> read_config(std::uint32_t offset, std::span<std::byte> to) noexcept {
    if (offset > config_bytes_ || to.size() > config_bytes_ - offset) {
      return failure(errc::out_of_range, "the virtio device's configuration space is smaller",
                     config_bytes_);
    }
    for (int attempt = 0; attempt != 16; ++attempt) {
      const std::uint8_t generation = common_.read8(common::config_generation);
      for (std::size_t i = 0; i != to.size(); ++i) {
        to[i] = static_cast<std::byte>(
            config_.read8(config_offset_ + offset + static_cast<std::uint32_t>(i)));
      }
      if (common_.read8(common::config_generation) == generation) return {};
    }
    return failure(errc::busy, "the virtio device's configuration space keeps changing");
  }

 private:
  // A view of a BAR that begins at a structure.
  struct window {
    bar_type bar{};
    std::uint32_t base = 0;

    [[nodiscard]] std::uint8_t read8(std::uint32_t o) noexcept { return bar.read8(base + o); }
    [[nodiscard]] std::uint16_t read16(std::uint32_t o) noexcept { return bar.read16(base + o); }
    [[nodiscard]] std::uint32_t read32(std::uint32_t o) noexcept { return bar.read32(base + o); }
    void write8(std::uint32_t o, std::uint8_t v) noexcept { bar.write8(base + o, v); }
    void write16(std::uint32_t o, std::uint16_t v) noexcept { bar.write16(base + o, v); }
    void write32(std::uint32_t o, std::uint32_t v) noexcept { bar.write32(base + o, v); }
    // Two halves, for 64-bit registers of virtio are accessed so (4.1.3.1).
    void write64_lo_hi(std::uint32_t o, std::uint64_t v) noexcept {
      write32(o, static_cast<std::uint32_t>(v));
      write32(o + 4, static_cast<std::uint32_t>(v >> 32));
    }
  };

  transport() noexcept = default;
  void set_status(std::uint8_t value) noexcept { common_.write8(common::device_status, value); }

  [[nodiscard]] result<> find_structures(Function& function) noexcept {
    auto config = function.config();
    bool have_common = false;
    bool have_notify = false;
    bool have_isr = false;
    result<> failed{};
    const auto walked =
        pcie::for_each_capability(config, [&](pcie::capability_id id, std::uint16_t at) noexcept {
          if (static_cast<std::uint8_t>(id) != vendor_capability) return true;
          const auto type = static_cast<structure>(
              config.read8(static_cast<std::uint16_t>(at + offsetof(capability, cfg_type))));
          // The first structure of a type that the driver supports is the preferred one (4.1.4).
          switch (type) {
            case structure::common:
              if (have_common) return true;
              have_common = true;
              // Devices without the fields behind the device area are older, not wrong.
              failed = map(function, config, at, 56, 4, common_.bar, common_.base);
              break;
            case structure::notify:
              if (have_notify) return true;
              have_notify = true;
              failed = map(function, config, at, 2, 2, notify_, notify_offset_, &notify_bytes_);
              notify_multiplier_ = config.read32(static_cast<std::uint16_t>(
                  at + offsetof(notify_capability, notify_off_multiplier)));
              break;
            case structure::isr:
              if (have_isr) return true;
              have_isr = true;
              failed = map(function, config, at, 1, 1, isr_, isr_offset_);
              break;
            case structure::device:
              if (config_bytes_ != 0) return true;
              failed = map(function, config, at, 1, 4, config_, config_offset_, &config_bytes_);
              break;
            default:
              return true;
          }
          return static_cast<bool>(failed);
        });
    if (!failed) return failed;
    if (!walked) return walked;
    if (!have_common || !have_notify || !have_isr) {
      return failure(errc::not_supported,
                     "the virtio device lacks a structure of the modern interface");
    }
    return {};
  }
  // Maps the BAR of the capability at `at`, whose structure has at least `least` bytes.
  template <class Config>
  [[nodiscard]] static result<> map(Function& function, Config& config, std::uint16_t at,
                                    std::uint32_t least, std::uint32_t alignment, bar_type& bar,
                                    std::uint32_t& base, std::uint32_t* bytes = nullptr) noexcept {
    const auto field = [at](std::size_t offset) noexcept {
      return static_cast<std::uint16_t>(at + offset);
    };
    const std::uint8_t index = config.read8(field(offsetof(capability, bar)));
    const std::uint32_t offset = config.read32(field(offsetof(capability, offset)));
    const std::uint32_t length = config.read32(field(offsetof(capability, length)));
    if (index > 5) {
      return failure(errc::protocol, "a virtio structure lies in a BAR that does not exist", index);
    }
    auto mapped = function.map_bar(index);
    if (!mapped) return mapped.error();
    const std::uint64_t size = mapped->size_bytes();
    if (length < least || offset > size || length > size - offset ||
        !is_aligned(offset, alignment)) {
      return failure(errc::protocol, "a virtio structure lies outside of its BAR", offset);
    }
    bar = *mapped;
    base = offset;
    if (bytes != nullptr) *bytes = length;
    return {};
  }

  window common_;
  bar_type notify_{};
  bar_type isr_{};
  bar_type config_{};
  std::uint32_t notify_offset_ = 0;
  std::uint32_t notify_bytes_ = 0;
  std::uint32_t notify_multiplier_ = 0;
  std::uint32_t isr_offset_ = 0;
  std::uint32_t config_offset_ = 0;
  std::uint32_t config_bytes_ = 0;
  std::uint64_t features_ = 0;
};

}  // namespace phasebit::virtio::pci
