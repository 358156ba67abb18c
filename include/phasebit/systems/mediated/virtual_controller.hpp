// SPDX-License-Identifier: BSL-1.0
// The engine's state of one function: registers, queues, features, limits.
#pragma once

#include <phasebit/nvme/device/completion_queue.hpp>
#include <phasebit/nvme/device/features.hpp>
#include <phasebit/nvme/device/registers.hpp>
#include <phasebit/nvme/device/saved_state.hpp>
#include <phasebit/nvme/device/submission_queue.hpp>
#include <phasebit/sriov/token_bucket.hpp>
#include <phasebit/systems/mediated/policy.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::systems {

// The state of a function as plain integers, for migration. No command of it was at the drive. Its host's
// memory and its blocks are not part of it.
template <class Policy>
struct saved_function {
  // Of this layout. A reader refuses others.
  static constexpr std::uint32_t current_version = 1;
  static constexpr std::size_t queue_count = Policy::io_queue_pairs + std::size_t{1};
  static constexpr std::size_t feature_count = 13;

  std::uint32_t version = 0;
  std::uint64_t blocks = 0;  // of the function's namespace: the same at the destination
  std::uint32_t cc = 0;
  std::uint32_t csts = 0;
  std::uint32_t aqa = 0;
  std::uint64_t asq = 0;
  std::uint64_t acq = 0;
  std::uint32_t interrupt_mask = 0;
  std::uint16_t granted = 0;
  std::array<nvme::device::saved_submission_queue, queue_count> sq{};
  std::array<nvme::device::saved_completion_queue, queue_count> cq{};
  std::array<std::uint32_t, feature_count> features{};
  std::uint32_t under_threshold = 0;
  std::array<std::uint8_t, 3> host_behavior{};
  std::uint16_t event_requests = 0;
  std::array<std::uint16_t, Policy::async_events> event_request_ids{};
};

namespace detail {

template <class Policy>
struct virtual_controller {
  static constexpr std::size_t queue_count = Policy::io_queue_pairs + std::size_t{1};

  virtual_controller() noexcept
      : regs(nvme::device::settings{}), features(nvme::device::settings{}) {}

  const function_table_of<Policy>* table = nullptr;
  std::uint64_t first_lba = 0;
  std::uint64_t blocks = 0;
  sriov::function_limiter limiter{};
  nvme::device::registers regs;
  nvme::device::feature_set features;
  std::array<nvme::device::submission_queue, queue_count> sq{};
  std::array<nvme::device::completion_queue, queue_count> cq{};
  // Of a submission queue that is being deleted: the command that waits for it.
  std::array<std::uint16_t, queue_count> deletion{};
  std::array<std::uint16_t, Policy::async_events> event_request_ids{};
  std::uint16_t event_requests = 0;
  std::uint16_t granted = 0;   // I/O queues of each kind
  std::uint16_t next_sq = 1;   // whose turn it is
  std::uint32_t at_drive = 0;  // commands of the function that the drive has
  bool exists = false;
  bool read_only = false;
  bool quiesced = false;  // nothing is fetched
  bool stalled = false;   // a completion queue was full
  enum class shutdown : std::uint8_t { none, waiting, flushing } shutting_down = shutdown::none;
};

}  // namespace detail
}  // namespace phasebit::systems
