// SPDX-License-Identifier: BSL-1.0
// The settings of a controller: chosen once when it is built, reported in registers and Identify.
#pragma once

#include <phasebit/nvme/device/arbitration.hpp>
#include <phasebit/nvme/device/completion_filter.hpp>
#include <phasebit/nvme/device/guard.hpp>
#include <phasebit/nvme/device/interrupt_coalescing.hpp>
#include <phasebit/nvme/device/maintenance.hpp>
#include <phasebit/nvme/device/poll_lock.hpp>
#include <phasebit/nvme/device/secondary_controllers.hpp>
#include <phasebit/nvme/spec/registers.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace phasebit::nvme::device {

namespace defaults {

// Constants, so that their lengths are known at compile time.
inline constexpr std::string_view serial = "PHASEBIT0001";
inline constexpr std::string_view model = "phasebit software controller";
inline constexpr std::string_view firmware = "1.0";
inline constexpr std::string_view subsystem_nqn = "nqn.2026-11.org.phasebit:controller";

}  // namespace defaults

// Settings that differ between controllers of one type. The texts must outlive the controller.
struct settings {
  std::string_view serial = defaults::serial;
  std::string_view model = defaults::model;
  std::string_view firmware = defaults::firmware;
  std::string_view subsystem_nqn = defaults::subsystem_nqn;
  std::uint16_t pci_vendor = 0;
  std::uint16_t pci_subsystem_vendor = 0;
  std::uint16_t controller_id = 0;
  // EUI-64 of namespace 1; others follow. 0: made from the serial number.
  std::uint64_t first_eui64 = 0;

  std::uint16_t io_queue_pairs = 64;  // at most Policy::max_io_queue_pairs; doorbells permitting
  std::uint32_t max_queue_entries = 4096;  // 2 to 65536, of an I/O queue
  std::uint16_t interrupt_vectors = 65;
  std::uint8_t doorbell_stride = 0;  // CAP.DSTRD
  std::uint8_t mdts = 5;             // longest transfer, 2^mdts pages of 4 KiB; 0 is no limit
  std::uint8_t largest_page = 4;     // CAP.MPSMAX: 4096 << largest_page bytes
  std::uint8_t ready_timeout = 2;    // CAP.TO, in 500 ms: for how long a driver should wait
  // A reset that takes the media longer is a fatal status; below CAP.TO, which is ready_timeout.
  std::uint32_t drain_limit_ms = 800;
  std::uint8_t fetch_burst = 32;  // commands per queue and round; at least 1
  bool volatile_write_cache = true;
  bool scatter_gather_lists = true;
  bool shadow_doorbells = true;
  bool subsystem_reset = true;  // NSSR resets the controller
  bool starts_offline = false;  // a secondary controller, until its primary brings it online
};

// Compile-time settings. Derive from it and override what should differ.
struct default_policy {
  static constexpr std::size_t max_io_queue_pairs = 64;
  static constexpr std::size_t async_events = 4;        // outstanding requests: AERL + 1
  static constexpr std::size_t error_log_entries = 16;  // ELPE + 1
  static constexpr bool fused_commands = false;         // Compare and Write as one operation
  using completion_filter = pass_completions;
  // The I/O queues are divided among so many poll groups, which a thread each may poll. Of several, `lock`
  // is a mutex, or a spin lock where there is no operating system: lock() and unlock().
  static constexpr std::size_t poll_groups = 1;
  using lock = no_lock;
  using guard = bitwise_guard;         // of protection information; used with formatted namespaces
  using arbitration = round_robin;     // or weighted_round_robin
  using coalescing = no_coalescing;    // or interrupt_coalescing_of<Vectors>
  using maintenance = no_maintenance;  // or maintenance_commands
  using secondary = no_secondary_controllers;  // or secondary_controllers<N>: a primary controller
};

}  // namespace phasebit::nvme::device
