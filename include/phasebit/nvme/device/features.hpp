// SPDX-License-Identifier: BSL-1.0
// The features of a controller: their defaults, what a host may change, and what is refused. NVMe
// Base 2.0, sections 5.15 (Get Features) and 5.27 (Set Features).
#pragma once

#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/settings.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/features.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::device {

// Time of day as the host set it, advanced by the program; otherwise it stands still, and its
// attributes report that (Base 2.0, 5.27.1.12).
class timestamp_clock {
 public:
  constexpr void set(std::uint64_t milliseconds) noexcept {
    value_ = milliseconds;
    set_by_host_ = true;
  }
  constexpr void advance(std::uint32_t milliseconds) noexcept { value_ += milliseconds; }
  constexpr void reset() noexcept { *this = timestamp_clock{}; }
  template <class Saved>
  constexpr void save(Saved& to) const noexcept {
    to.clock_ms = value_;
    to.clock_set = set_by_host_;
  }
  template <class Saved>
  constexpr void restore(const Saved& from) noexcept {
    value_ = from.clock_ms;
    set_by_host_ = from.clock_set;
  }
  [[nodiscard]] constexpr timestamp now() const noexcept {
    timestamp t = timestamp::of(value_);
    t.attributes = static_cast<std::uint8_t>(timestamp::stopped.of(true) |
                                             timestamp::origin.of(set_by_host_ ? 1 : 0));
    return t;
  }

 private:
  std::uint64_t value_ = 0;
  bool set_by_host_ = false;
};

// Features that are one dword. None is saved, none belongs to a namespace, and a controller reset
// brings the defaults back. Number of Queues and Timestamp involve more than their value: their
// owners call `stored` after their own checks.
class feature_set {
 public:
  explicit constexpr feature_set(const settings& s) noexcept
      : vectors_(s.interrupt_vectors), write_cache_(s.volatile_write_cache) {
    reset();
  }

  constexpr void reset() noexcept {
    for (std::size_t i = 0; i != table.size(); ++i) values_[i] = table[i].initial;
    stored(feature_id::volatile_write_cache) = write_cache_ ? 1U : 0U;
    under_threshold_ = 0;
    host_behavior_ = {};
  }

  constexpr void set_vectors(std::uint16_t vectors) noexcept { vectors_ = vectors; }

  // DW0 of Get Features.
  [[nodiscard]] constexpr command_result get(const submission_entry& c) const noexcept {
    const auto id = features_command::fid_bits.get(c.cdw10.get());
    const auto select = features_command::select_bits.get(c.cdw10.get());
    const std::size_t at = find(id);
    if (at == table.size()) return status_code::invalid_field;
    switch (select) {
      case feature_select::current:
        return current(id, c.cdw11);
      case feature_select::default_value:
      case feature_select::saved:  // what cannot be saved has its default there
        return {status_code::success, initial(id, at)};
      case feature_select::supported:
        return {status_code::success, changeable};
      default:
        return status_code::invalid_field;
    }
  }

  // Set Features, of every feature here. DW0 of its completion is 0 but for Number of Queues.
  [[nodiscard]] constexpr command_result set(const submission_entry& c) noexcept {
    const std::uint32_t value = c.cdw11;
    const auto id = features_command::fid_bits.get(c.cdw10.get());
    const std::size_t at = find(id);
    if (at == table.size()) return status_code::invalid_field;
    if (features_command::save_bit.get(c.cdw10.get())) return status_code::feature_not_saveable;
    // All of them are the controller's.
    if (c.nsid != no_namespace && c.nsid != all_namespaces) {
      return status_code::feature_not_namespace_specific;
    }
    switch (id) {
      case feature_id::power_management:
        // One power state, the workload is a hint.
        if (power_management{value}[power_management::ps] != 0) return status_code::invalid_field;
        break;
      case feature_id::temperature_threshold:
        return set_threshold(temperature_threshold{value});
      case feature_id::volatile_write_cache:
        if (!write_cache_) return status_code::invalid_field;
        break;
      case feature_id::interrupt_vector_configuration:
        // No vector is ever coalesced, so there is nothing to remember.
        if (interrupt_vector_configuration{value}[interrupt_vector_configuration::iv] >= vectors_) {
          return status_code::invalid_field;
        }
        return status_code::success;
      default:
        break;
    }
    values_[at] = value & table[at].writable;
    return status_code::success;
  }

  [[nodiscard]] constexpr std::uint32_t over_threshold() const noexcept {
    return stored(feature_id::temperature_threshold);
  }
  [[nodiscard]] constexpr std::uint32_t under_threshold() const noexcept {
    return under_threshold_;
  }
  // Host Behavior Support (5.27.1.18), as far as this controller heeds it: none of it changes what
  // the controller does, so that the host reads back what it set.
  [[nodiscard]] constexpr host_behavior_support host_behavior() const noexcept {
    host_behavior_support h{};
    h.acre = host_behavior_[0];
    h.etdas = host_behavior_[1];
    h.lbafee = host_behavior_[2];
    return h;
  }
  [[nodiscard]] constexpr status_code set_host_behavior(const host_behavior_support& h) noexcept {
    if (h.acre > 1 || h.etdas > 1 || h.lbafee > 1) return status_code::invalid_field;
    host_behavior_ = {h.acre, h.etdas, h.lbafee};
    return status_code::success;
  }
  // To and from a saved_controller; a restored value has no bit that a host could not have set.
  template <class Saved>
  constexpr void save(Saved& to) const noexcept {
    static_assert(Saved::feature_count == table.size());
    to.features = values_;
    to.under_threshold = under_threshold_;
    to.host_behavior = host_behavior_;
  }
  template <class Saved>
  constexpr void restore(const Saved& from) noexcept {
    for (std::size_t i = 0; i != table.size(); ++i) {
      values_[i] = from.features[i] & table[i].writable;
    }
    under_threshold_ = from.under_threshold & 0xffff;
    if (!write_cache_) stored(feature_id::volatile_write_cache) = 0;
    for (std::size_t i = 0; i != host_behavior_.size(); ++i) {
      host_behavior_[i] = from.host_behavior[i] & 1U;
    }
  }
  // Calls visit(feature_id) for every feature.
  template <class Visit>
  static constexpr void for_each(Visit&& visit) noexcept {
    for (const entry& e : table) visit(e.id);
  }

  // A feature's dword, which the caller has checked to be one of the table.
  [[nodiscard]] constexpr std::uint32_t& stored(feature_id id) noexcept {
    return values_[find(id)];
  }
  [[nodiscard]] constexpr std::uint32_t stored(feature_id id) const noexcept {
    return values_[find(id)];
  }

 private:
  struct entry {
    feature_id id;
    std::uint32_t initial;
    std::uint32_t writable;
  };
  // Bit 2 of "supported capabilities": the host may change it (figure 195).
  static constexpr std::uint32_t changeable = 4;
  // Kelvin: the threshold above which the temperature is a warning.
  static constexpr std::uint32_t warm = 343;
  static constexpr std::array<entry, 13> table{{
      {feature_id::arbitration, 7, 0xffff'ff07},
      {feature_id::power_management, 0, 0xff},
      {feature_id::temperature_threshold, warm, 0xffff},
      {feature_id::error_recovery, 0, 0xffff},
      {feature_id::volatile_write_cache, 1, 1},
      {feature_id::number_of_queues, 0, 0xffff'ffff},
      {feature_id::interrupt_coalescing, 0, 0xffff},
      {feature_id::interrupt_vector_configuration, 0, 0},
      {feature_id::write_atomicity, 0, 1},
      {feature_id::async_event_configuration, 0, 0x0800'ffff},
      {feature_id::timestamp, 0, 0},
      {feature_id::keep_alive_timer, 0, 0xffff'ffff},
      {feature_id::host_behavior_support, 0, 0},
  }};

  [[nodiscard]] static constexpr std::size_t find(feature_id id) noexcept {
    std::size_t at = 0;
    while (at != table.size() && table[at].id != id) ++at;
    return at;
  }
  [[nodiscard]] constexpr std::uint32_t initial(feature_id id, std::size_t at) const noexcept {
    return id == feature_id::volatile_write_cache && !write_cache_ ? 0 : table[at].initial;
  }
  [[nodiscard]] constexpr command_result current(feature_id id, std::uint32_t dw11) const noexcept {
    switch (id) {
      case feature_id::temperature_threshold: {
        const temperature_threshold asked{dw11};
        if (!known(asked)) return status_code::invalid_field;
        return {status_code::success,
                asked[temperature_threshold::thsel] == 0 ? stored(id) : under_threshold_};
      }
      case feature_id::volatile_write_cache:
        if (!write_cache_) return status_code::invalid_field;
        break;
      case feature_id::interrupt_vector_configuration: {
        const auto vector =
            interrupt_vector_configuration{dw11}[interrupt_vector_configuration::iv];
        if (vector >= vectors_) return status_code::invalid_field;
        return {status_code::success, interrupt_vector_configuration{}
                                          .with(interrupt_vector_configuration::iv, vector)
                                          .with(interrupt_vector_configuration::cd, true)
                                          .raw};
      }
      default:
        break;
    }
    return {status_code::success, stored(id)};
  }

  // There is one sensor, the composite; a value for all of them is a value for it.
  [[nodiscard]] static constexpr bool known(temperature_threshold t) noexcept {
    const auto sensor = t[temperature_threshold::tmpsel];
    return (sensor == 0 || sensor == 15) && t[temperature_threshold::thsel] <= 1;
  }
  constexpr command_result set_threshold(temperature_threshold t) noexcept {
    if (!known(t)) return status_code::invalid_field;
    auto& threshold = t[temperature_threshold::thsel] == 0
                          ? stored(feature_id::temperature_threshold)
                          : under_threshold_;
    threshold = t[temperature_threshold::tmpth];
    return status_code::success;
  }

  std::array<std::uint32_t, table.size()> values_{};
  std::uint32_t under_threshold_ = 0;
  std::array<std::uint8_t, 3> host_behavior_{};
  std::uint16_t vectors_;
  bool write_cache_;
};

}  // namespace phasebit::nvme::device
