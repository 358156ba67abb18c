// SPDX-License-Identifier: BSL-1.0
// Asynchronous events as DW0 of an Asynchronous Event Request's completion encodes them: NVMe Base
// 2.0, section 5.2.1. After one, events of its type stay masked until the log page that it names
// has been read.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>

#include <cstdint>

namespace phasebit::nvme {

enum class async_event_type : std::uint8_t {
  error = 0,
  health = 1,
  notice = 2,
  immediate = 3,
  one_shot = 4,  // since 2.1
  io_command_set = 6,
  vendor = 7,
};

// The event, by type.
enum class error_event : std::uint8_t {
  invalid_doorbell = 0,  // of a queue that does not exist
  invalid_doorbell_value = 1,
  diagnostic_failure = 2,
  persistent_internal = 3,
  transient_internal = 4,
  firmware_image_load = 5,
};
enum class health_event : std::uint8_t { reliability = 0, temperature = 1, spare = 2 };
enum class notice_event : std::uint8_t {
  namespace_attributes = 0,
  firmware_activation = 1,
  telemetry = 2,
  ana_change = 3,
  predictable_latency = 4,
  lba_status = 5,
  endurance_group = 6,
  zone_descriptor_changed = 0xef,
  discovery_log = 0xf0,
};

struct async_event : register_value<async_event, std::uint32_t> {
  using register_value::register_value;

  static constexpr field<2, 0, async_event_type> type_bits{};
  static constexpr field<15, 8> information_bits{};
  static constexpr field<23, 16, log_page_id> log_page_bits{};

  [[nodiscard]] constexpr async_event_type type() const noexcept { return type_bits.get(raw); }
  [[nodiscard]] constexpr std::uint8_t information() const noexcept {
    return information_bits.get(raw);
  }
  // Reading this page lets events of the type through again.
  [[nodiscard]] constexpr log_page_id log_page() const noexcept { return log_page_bits.get(raw); }

  [[nodiscard]] static constexpr async_event of(error_event what) noexcept {
    return of(async_event_type::error, static_cast<std::uint8_t>(what),
              log_page_id::error_information);
  }
  [[nodiscard]] static constexpr async_event of(health_event what) noexcept {
    return of(async_event_type::health, static_cast<std::uint8_t>(what), log_page_id::health);
  }
  [[nodiscard]] static constexpr async_event of_namespace_change() noexcept {
    return of(async_event_type::notice,
              static_cast<std::uint8_t>(notice_event::namespace_attributes),
              log_page_id::changed_namespaces);
  }
  [[nodiscard]] static constexpr async_event of(async_event_type type, std::uint8_t information,
                                                log_page_id page) noexcept {
    return async_event{}
        .with(type_bits, type)
        .with(information_bits, information)
        .with(log_page_bits, page);
  }
};

}  // namespace phasebit::nvme
