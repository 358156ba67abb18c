// SPDX-License-Identifier: BSL-1.0
// The SCSI host: virtio 1.3, section 5.6.
#pragma once

#include <phasebit/core/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::virtio::scsi {

// Feature bits (5.6.3), as masks.
namespace feature {

inline constexpr std::uint64_t inout = 1ULL << 0;
inline constexpr std::uint64_t hotplug = 1ULL << 1;
inline constexpr std::uint64_t change = 1ULL << 2;
inline constexpr std::uint64_t t10_pi = 1ULL << 3;

}  // namespace feature

// Queues (5.6.2): control, events, then one or more for requests.
inline constexpr std::uint16_t control_queue_index = 0;
inline constexpr std::uint16_t event_queue_index = 1;
inline constexpr std::uint16_t first_request_queue_index = 2;

inline constexpr std::uint32_t default_cdb_size = 32;
inline constexpr std::uint32_t default_sense_size = 96;

// 5.6.4
struct config {
  le<std::uint32_t> num_queues;
  le<std::uint32_t> seg_max;
  le<std::uint32_t> max_sectors;
  le<std::uint32_t> cmd_per_lun;
  le<std::uint32_t> event_info_size;
  le<std::uint32_t> sense_size;
  le<std::uint32_t> cdb_size;
  le<std::uint16_t> max_channel;
  le<std::uint16_t> max_target;
  le<std::uint32_t> max_lun;
};
static_assert(WireStruct<config> && sizeof(config) == 36);
static_assert(offsetof(config, max_channel) == 28 && offsetof(config, max_lun) == 32);

using lun_bytes = std::array<std::uint8_t, 8>;

// 5.6.6.1: the start of a command; `cdb_size` bytes of CDB follow, then data for the device.
struct command_header {
  lun_bytes lun;
  std::array<std::uint8_t, 8> tag;
  std::uint8_t task_attr;
  std::uint8_t prio;
  std::uint8_t crn;
};
static_assert(WireStruct<command_header> && sizeof(command_header) == 19);

// 5.6.6.1: the start of the response; `sense_size` bytes follow, then data from the device.
struct command_response {
  le<std::uint32_t> sense_len;
  le<std::uint32_t> residual;
  le<std::uint16_t> status_qualifier;
  std::uint8_t status;
  std::uint8_t response;
};
static_assert(WireStruct<command_response> && sizeof(command_response) == 12);

// Response codes (5.6.6.1, 5.6.6.2).
enum class response : std::uint8_t {
  ok = 0,
  overrun = 1,
  aborted = 2,
  bad_target = 3,
  reset = 4,
  busy = 5,
  transport_failure = 6,
  target_failure = 7,
  nexus_failure = 8,
  failure = 9,
  function_succeeded = 10,
  function_rejected = 11,
  incorrect_lun = 12,
};

// 5.6.6.2: requests on the control queue.
enum class control_type : std::uint32_t { task_management = 0, query = 1, subscribe = 2 };

enum class task_management : std::uint32_t {
  abort_task = 0,
  abort_task_set = 1,
  clear_aca = 2,
  clear_task_set = 3,
  i_t_nexus_reset = 4,
  logical_unit_reset = 5,
  query_task = 6,
  query_task_set = 7,
};

struct task_management_request {
  le<std::uint32_t> type;
  le<std::uint32_t> subtype;
  lun_bytes lun;
  le<std::uint64_t> tag;
};
static_assert(WireStruct<task_management_request> && sizeof(task_management_request) == 24);

struct notification_request {
  le<std::uint32_t> type;
  lun_bytes lun;
  le<std::uint32_t> event_requested;
};
static_assert(WireStruct<notification_request> && sizeof(notification_request) == 16);

// 5.6.6.3: what the device writes into a buffer of the event queue.
struct event {
  le<std::uint32_t> event;
  lun_bytes lun;
  le<std::uint32_t> reason;
};
static_assert(WireStruct<event> && sizeof(event) == 16);

inline constexpr std::uint32_t events_missed = 0x8000'0000;
enum class event_type : std::uint32_t {
  none = 0,
  transport_reset = 1,
  async_notify = 2,
  param_change = 3,
};
enum class reset_reason : std::uint32_t { hard = 0, rescan = 1, removed = 2 };

}  // namespace phasebit::virtio::scsi
