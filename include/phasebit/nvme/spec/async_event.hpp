// SPDX-License-Identifier: BSL-1.0
// What an Asynchronous Event Request completes with: NVMe Base 2.0, section 5.2, figures 145 to 150.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>

#include <cstdint>

namespace phasebit::nvme {

enum class async_event_type : std::uint8_t {
  error = 0,
  health = 1,  // SMART / health status
  notice = 2,
  immediate = 3,  // masked by nothing
  io_command_set = 6,
  vendor = 7,
};

// The information byte of error events.
enum class async_error : std::uint8_t {
  invalid_doorbell_register = 0,  // of a queue that does not exist
  invalid_doorbell_value = 1,     // beyond the queue
  diagnostic_failure = 2,
  persistent_internal_error = 3,
  transient_internal_error = 4,
  firmware_image_load_error = 5,
};

// DW0 of the completion. The device reports no more events of this type until the log page that it
// names has been read, so that one bad host does not drown in its own errors.
struct async_event : register_value<async_event, std::uint32_t> {
  using register_value::register_value;

  static constexpr field<2, 0, async_event_type> type{};
  static constexpr field<15, 8> information{};
  static constexpr field<23, 16, log_page_id> log_page{};
};

}  // namespace phasebit::nvme
