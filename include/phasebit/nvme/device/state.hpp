// SPDX-License-Identifier: BSL-1.0
// Everything that one controller consists of; the handlers of commands work on it.
#pragma once

#include <phasebit/nvme/device/async_events.hpp>
#include <phasebit/nvme/device/block_moves.hpp>
#include <phasebit/nvme/device/completion_queue.hpp>
#include <phasebit/nvme/device/concepts.hpp>
#include <phasebit/nvme/device/deferred_commands.hpp>
#include <phasebit/nvme/device/doorbells.hpp>
#include <phasebit/nvme/device/features.hpp>
#include <phasebit/nvme/device/log_pages.hpp>
#include <phasebit/nvme/device/maintenance_job.hpp>
#include <phasebit/nvme/device/namespace_format.hpp>
#include <phasebit/nvme/device/namespace_pool.hpp>
#include <phasebit/nvme/device/pending_commands.hpp>
#include <phasebit/nvme/device/registers.hpp>
#include <phasebit/nvme/device/settings.hpp>
#include <phasebit/nvme/device/submission_queue.hpp>
#include <phasebit/nvme/device/zoned_namespaces.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::device {

// Entry 0 of each is the admin queue. `pairs` is how many I/O pairs the controller has at all;
// `granted` of them may be created since Number of Queues.
template <std::size_t MaxPairs>
struct queue_table {
  std::array<submission_queue, MaxPairs + 1> sq{};
  std::array<completion_queue, MaxPairs + 1> cq{};
  std::uint16_t pairs = 0;
  std::uint16_t granted_sq = 0;
  std::uint16_t granted_cq = 0;
  std::uint16_t highest = 0;  // no queue above this exists
  // The doorbells of a pair whose submission queue is empty and that has nothing to do until one of them
  // changes. A round over idle queues reads these and the doorbells and nothing else.
  struct idle_doorbells {
    static constexpr std::uint64_t never = ~std::uint64_t{0};
    std::uint64_t tail = never;
    std::uint64_t head = never;
  };
  std::array<idle_doorbells, MaxPairs + 1> idle{};

  [[nodiscard]] constexpr bool io_queues_exist() const noexcept { return highest != 0; }
  constexpr void find_highest() noexcept {
    while (highest != 0 && !sq[highest].exists() && !cq[highest].exists()) --highest;
  }
  constexpr void clear() noexcept {
    for (auto& q : sq) q = submission_queue{};
    for (auto& q : cq) q = completion_queue{};
    idle.fill({});
    granted_sq = granted_cq = pairs;
    highest = 0;
  }
};

struct no_pending_table {};

// Metadata of the blocks of a block_buffer: 64 bytes of each.
struct block_metadata_buffer {
  alignas(16) std::array<std::byte,
                         std::size_t{64} * (block::max_block_size / block::min_block_size)> bytes{};
};
struct no_metadata_buffer {};

// A media operation of the controller itself, beside those of commands.
struct background_operation {
  bool pending = false;
  bool finished = false;
  bool stale = false;  // of a job that another took the place of
  block::media_status status = block::media_status::good;
  std::uint32_t buffer = block::bounce_pool::no_buffer;
  block::media_segment segment{};
};
// Its tag; no entry of the table has it.
inline constexpr block::media_tag background_tag = ~block::media_tag{0} - 1;
// And the tag of the flush of a shutdown, which is no command's either.
inline constexpr block::media_tag flush_tag = ~block::media_tag{0};

// The resources of a poll group: the namespaces as its thread reaches them, and memory for commands
// in flight where the media complete later. Each group has its own media objects, because a media
// object is used by one thread; the same nsid is the same storage in every group.
template <NamespaceSet Namespaces>
struct poll_group_resources {
  Namespaces* namespaces = nullptr;
  pending_memory pending{};
};

// State that only the I/O queues of one poll group use: media, memory and counters.
template <NamespaceSet Namespaces, class Lock>
struct io_group {
  static constexpr bool asynchronous = block::AsyncBlockMedia<typename Namespaces::media_type>;
  using table_type = std::conditional_t<asynchronous, pending_table, no_pending_table>;

  Namespaces* namespaces = nullptr;
  [[no_unique_address]] table_type table{};
  block::bounce_pool* bounce = nullptr;
  block_buffer buffer{};
  using metadata_type = std::conditional_t<FormattedNamespaces<Namespaces> && !asynchronous,
                                           block_metadata_buffer, no_metadata_buffer>;
  [[no_unique_address]] metadata_type metadata{};
  background_operation background{};
  bool flushing = false;  // of a shutdown, at the media; in the first group
  health_counters health{};
  unsigned done = 0;    // in this round
  bool posted = false;  // completions since the last interrupts
  bool failed = false;  // a ring could not be reached; CSTS does not report it yet
  [[no_unique_address]] mutable Lock lock{};
};

template <AnyDma Dma, InterruptSink Interrupts, NamespaceSet Namespaces, RingOrder Order,
          class Policy>
struct controller_state {
  using filter_type = typename Policy::completion_filter;
  using dma_type = Dma;
  using media_type = typename Namespaces::media_type;
  using order = Order;
  using secondary_type = typename Policy::secondary;
  using policy = Policy;
  using group_type = io_group<Namespaces, typename Policy::lock>;

  static constexpr std::size_t poll_groups = Policy::poll_groups;
  static constexpr bool managed = ManagedNamespaces<Namespaces>;
  static constexpr bool reservable = ReservableNamespaces<Namespaces>;
  static constexpr bool zoned = ZonedNamespaces<Namespaces>;
  // Whether there is work of the controller itself.
  static constexpr bool has_jobs = managed || Policy::maintenance::present;
  using job_type = std::conditional_t<has_jobs, maintenance_job, no_maintenance_job>;

  controller_state(Dma& dma_in, Interrupts& interrupts_in, Namespaces& namespaces_in,
                   std::span<std::uint32_t> words, const settings& s,
                   filter_type filter_in) noexcept
      : dma(&dma_in),
        interrupts(&interrupts_in),
        namespaces(&namespaces_in),
        config(s),
        regs(s, {.weighted_round_robin = Policy::arbitration::weighted, .command_sets = zoned}),
        doorbells(words, s.doorbell_stride),
        shadow(dma_in, s.doorbell_stride),
        features(s),
        filter(static_cast<filter_type&&>(filter_in)) {
    PHASEBIT_EXPECTS(s.fetch_burst != 0, "a controller that fetches nothing");
    PHASEBIT_EXPECTS(s.mdts <= 32, "MDTS beyond what a command can transfer");
    if constexpr (Policy::maintenance::present) maintenance.begin(s.firmware);
    offer(s.io_queue_pairs, s.interrupt_vectors);
  }

  void set_group(std::size_t g, const poll_group_resources<Namespaces>& given) noexcept {
    PHASEBIT_EXPECTS(given.namespaces != nullptr, "a poll group has namespaces");
    groups[g].namespaces = given.namespaces;
    if constexpr (group_type::asynchronous) {
      const pending_memory& memory = given.pending;
      PHASEBIT_EXPECTS(memory.bounce != nullptr && memory.bounce->capacity() >= 2,
                       "media that complete later need a pool of two bounce buffers at least");
      groups[g].table = pending_table{memory};
      groups[g].bounce = memory.bounce;
    }
  }
  // The counters of all groups.
  [[nodiscard]] health_counters health() const noexcept {
    health_counters sum{};
    for (const group_type& g : groups) sum += g.health;
    return sum;
  }

  // How many I/O queue pairs and vectors there are, from the next enabling on.
  void offer(std::size_t pairs, std::uint16_t vectors) noexcept {
    PHASEBIT_EXPECTS(vectors != 0, "the admin queue has an interrupt vector");
    const std::size_t with_doorbells = doorbells.pairs() - 1;
    if (pairs > Policy::max_io_queue_pairs) pairs = Policy::max_io_queue_pairs;
    if (pairs > with_doorbells) pairs = with_doorbells;
    queues.pairs = static_cast<std::uint16_t>(pairs);
    config.interrupt_vectors = vectors;
    features.set_vectors(vectors);
    queues.clear();
  }

  Dma* dma;
  Interrupts* interrupts;
  Namespaces* namespaces;
  settings config;
  registers regs;
  queue_table<Policy::max_io_queue_pairs> queues{};
  doorbell_words<Order> doorbells;
  shadow_doorbells<Order, Dma> shadow;
  feature_set features;
  async_events<Policy::async_events> events{};
  error_log<Policy::error_log_entries> errors{};
  std::array<group_type, Policy::poll_groups> groups{};
  deferred_commands deferred{};
  changed_namespaces changed{};
  timestamp_clock clock{};
  temperature_sensor temperature{};
  std::uint32_t keep_alive_elapsed_ms = 0;  // since the last Keep Alive
  [[no_unique_address]] filter_type filter;
  [[no_unique_address]] secondary_type secondary{};
  [[no_unique_address]] typename Policy::maintenance maintenance{};
  [[no_unique_address]] job_type job{};
  [[no_unique_address]] typename Policy::arbitration arbitration{};
  [[no_unique_address]] typename Policy::coalescing coalescing{};
  maintenance_outcome job_outcome{};
};

// Compares the composite temperature with both thresholds: a crossing is a critical warning in the
// health log, and an event where the host has enabled it (Base 2.0, 5.27.1.3).
template <class State>
void check_temperature(State& s) noexcept {
  const bool was = s.temperature.crossed;
  s.temperature.crossed = s.temperature.kelvin >= s.features.over_threshold() ||
                          s.temperature.kelvin <= s.features.under_threshold();
  const async_event_configuration wanted{s.features.stored(feature_id::async_event_configuration)};
  const bool enabled = (wanted[async_event_configuration::critical] &
                        health_log::temperature_crossed.of<std::uint32_t>(true)) != 0;
  if (!s.temperature.crossed || !enabled) {
    s.temperature.reported = s.temperature.reported && s.temperature.crossed;
    return;
  }
  if (was && s.temperature.reported) return;
  s.temperature.reported = true;
  s.events.raise(async_event::of(health_event::temperature));
}

}  // namespace phasebit::nvme::device
