// SPDX-License-Identifier: BSL-1.0
// The state of a controller as plain integers, for migration and for a hand-over to a new program.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::device {

struct saved_submission_queue {
  std::uint64_t base = 0;
  std::uint32_t entries = 0;  // 0: the queue does not exist
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
  std::uint32_t doorbell = 0;  // the word that the host writes
  std::uint16_t completion_queue = 0;
  std::uint8_t priority = 0;
};
struct saved_completion_queue {
  std::uint64_t base = 0;
  std::uint32_t entries = 0;
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
  std::uint32_t doorbell = 0;
  std::uint16_t vector = 0;
  bool interrupts = false;
  bool phase = true;
};

// Everything that a host could notice to be different: registers, queues, features, event requests
// and events, shadow doorbells, clock and logs. The controller was quiesced, so that no command is
// in flight. Completions lie in the host's memory.
template <class Policy>
struct saved_controller {
  // Of this layout. A reader refuses others.
  static constexpr std::uint32_t current_version = 2;
  static constexpr std::size_t queue_count = Policy::max_io_queue_pairs + 1;
  static constexpr std::size_t feature_count = 13;

  std::uint32_t version = 0;
  std::uint32_t cc = 0;
  std::uint32_t csts = 0;
  std::uint32_t aqa = 0;
  std::uint64_t asq = 0;
  std::uint64_t acq = 0;
  std::uint32_t interrupt_mask = 0;
  std::uint16_t granted_sq = 0;
  std::uint16_t granted_cq = 0;
  std::array<saved_submission_queue, queue_count> sq{};
  std::array<saved_completion_queue, queue_count> cq{};

  bool shadow_enabled = false;
  std::uint64_t shadow = 0;
  std::uint64_t event_indices = 0;

  std::array<std::uint32_t, feature_count> features{};
  std::uint32_t under_threshold = 0;
  std::array<std::uint8_t, 3> host_behavior{};
  std::uint64_t clock_ms = 0;
  bool clock_set = false;
  std::uint32_t keep_alive_elapsed_ms = 0;

  std::uint16_t event_requests = 0;
  std::array<std::uint16_t, Policy::async_events> event_request_ids{};
  std::array<std::uint32_t, 8> events_waiting{};
  std::uint8_t events_masked = 0;

  [[no_unique_address]] typename Policy::maintenance::saved maintenance{};
  [[no_unique_address]] typename Policy::coalescing::saved coalescing{};
};

// Whether restore() stores the saved values to the doorbell words, or finds words there that the host
// has gone on writing, as in memory that two programs share.
enum class doorbell_memory : std::uint8_t { is_new, is_shared };

}  // namespace phasebit::nvme::device
