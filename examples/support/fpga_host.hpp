// SPDX-License-Identifier: BSL-1.0
// The driver of the block engine: registers through any Mmio, rings and data in the FPGA's own DRAM,
// which the host has mapped behind the same BAR.
#pragma once

#include "fpga_registers.hpp"

#include <phasebit/core/clock.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/nvme/driver/queue_memory.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/posix/steady_clock.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace example::fpga {

using phasebit::errc;
using phasebit::failure;
using phasebit::result;

// One engine, driven by one thread. `Order` is how the rings are shared: the engine reads and writes
// its DRAM like any device does its host's memory.
template <phasebit::Mmio Bar, phasebit::RingOrder Order = phasebit::device_order>
class device {
  using doorbell_type = decltype(std::declval<Bar&>().doorbell(0));

 public:
  static constexpr unsigned max_entries = 1024;
  using queue_type =
      phasebit::nvme::driver::queue_pair<Order, doorbell_type, std::uint32_t, max_entries>;
  using memory_type = phasebit::dma_arena<64>;
  using registers_type = phasebit::pcie::register_block<Bar>;

  // `mapping` is the BAR as this process has it in its memory. Waiting for the engine ends after
  // `patience` nanoseconds.
  device(Bar bar, std::span<std::byte> mapping, std::uint64_t patience) noexcept
      : registers_(bar), mapping_(mapping), patience_(patience) {}
  device(const device&) = delete;
  device& operator=(const device&) = delete;
  ~device() { stop(); }

  // Identifies the engine and resets it. Errors: removed, not_ready (no engine behind the BAR),
  // not_supported (another design, or version), timed_out (it stands still), protocol.
  [[nodiscard]] result<> attach() noexcept {
    const auto fits = registers_type::template attach<
        identification, version, capability, status, control, heartbeat, dram_base, dram_offset,
        dram_pages, submission_base, completion_base, queue_entries, commands_done,
        commands_refused, doorbells_refused, submission_doorbell, completion_doorbell>(
        registers_.bar());
    if (!fits) return fits.error();
    const auto id = registers_.template read<identification>();
    if (id.raw == all_ones) return gone();
    if (id.raw == 0) {
      return failure(errc::not_ready, "there is no design behind the BAR: nothing plays the FPGA");
    }
    if (id != block_engine) {
      return failure(errc::not_supported, "the BAR holds another design; its identification",
                     id.raw);
    }
    const auto major = registers_.template read<version>()[version::major_number];
    if (major != major_version) {
      return failure(errc::not_supported,
                     "the engine is of another major version than this driver; its version", major);
    }
    if (const auto alive = settle(); !alive) return alive;
    if (const auto sound = find_dram(); !sound) return sound;
    registers_.write(control{});
    return settle();
  }

  // Gives the engine both rings and waits until it is ready. A ring of n entries holds n - 1 commands.
  // Errors: out_of_range (a ring longer than its longest), exhausted (DRAM), timed_out, protocol.
  [[nodiscard]] result<> start(std::uint32_t entries) noexcept {
    const std::uint32_t most =
        1U << registers_.template read<capability>()[capability::log2_entries];
    if (entries < 2 || entries > most || entries > max_entries) {
      return failure(errc::out_of_range, "the engine's queues are not as long; their entries",
                     most);
    }
    auto rings =
        phasebit::nvme::driver::queue_memory::allocate(*dram_, entries, page_bytes, page_shift);
    if (!rings) return rings.error();
    rings_ = *rings;
    const auto last = static_cast<std::uint16_t>(entries - 1);
    registers_.write(submission_base{rings_.submission.bus.value()});
    registers_.write(completion_base{rings_.completion.bus.value()});
    registers_.write(queue_entries{}
                         .with(queue_entries::submission, last)
                         .with(queue_entries::completion, last));
    queue_ =
        queue_type{rings_.layout(1, page_bytes, page_shift,
                                 {.block_bytes = 1U << block_shift, .block_shift = block_shift}),
                   registers_.template doorbell<submission_doorbell>(),
                   registers_.template doorbell<completion_doorbell>()};
    registers_.write(control{}.with(control::enable, true));
    const auto answered = registers_.template wait_for<status>(
        clock_, patience_,
        [](status now) noexcept { return now[status::ready] || now[status::fatal]; });
    if (!answered) return failure(errc::timed_out, "the engine did not become ready");
    return check();
  }

  // Whether the engine is there and takes commands. Two or three register reads.
  [[nodiscard]] result<> check() noexcept {
    if (registers_.template read<identification>().raw == all_ones) return gone();
    const auto now = registers_.template read<status>();
    if (now[status::fatal]) {
      switch (now[status::reason]) {
        case cause::queue_memory:
          return failure(errc::protocol, "the engine refuses the queues: not in its DRAM");
        case cause::queue_size:
          return failure(errc::protocol, "the engine refuses the queues: their size");
        case cause::none:
          break;
      }
      return failure(errc::io, "the engine has stopped for a reason that is not known", now.raw);
    }
    if (!now[status::ready]) {
      return failure(errc::protocol, "the engine was reset, and not by this driver");
    }
    return {};
  }
  // Whether its clock still runs: distinguishes a slow engine from a dead one.
  [[nodiscard]] result<> check_heartbeat() noexcept {
    if (registers_.template read<identification>().raw == all_ones) return gone();
    return settle();
  }

  // Takes the queues back; commands in flight are forgotten, and their buffers are free to use.
  void stop() noexcept {
    if (!rings_) return;
    registers_.write(control{});
    // Whether it obeys or not: what it may still write to is its own memory, not ours.
    if (!dead_) (void)settle();
    rings_.release(*dram_);
  }

  [[nodiscard]] queue_type& queue() noexcept { return queue_; }
  // The FPGA's DRAM: blocks of it are what commands work on.
  [[nodiscard]] memory_type& memory() noexcept { return *dram_; }
  [[nodiscard]] std::uint32_t max_bytes() noexcept {
    return 1U << registers_.template read<capability>()[capability::log2_bytes];
  }

  [[nodiscard]] registers_type& registers() noexcept { return registers_; }

 private:
  static constexpr std::uint32_t all_ones = 0xffff'ffff;
  static constexpr std::uint8_t page_shift = 12;
  static constexpr std::uint8_t block_shift = 9;

  [[nodiscard]] static phasebit::error gone() noexcept {
    return failure(errc::removed, "the engine is gone: its registers read as ones");
  }

  // Two beats: what was written before has been seen by a whole round of the engine.
  [[nodiscard]] result<> settle() noexcept {
    const std::uint32_t first = registers_.template read<heartbeat>().raw;
    std::uint32_t now = first;
    const bool alive = phasebit::poll_until(clock_, patience_, [&]() noexcept {
      now = registers_.template read<heartbeat>().raw;
      return now - first >= 2;
    });
    dead_ = !alive;
    if (now == all_ones && registers_.template read<identification>().raw == all_ones)
      return gone();
    if (alive) return {};
    return failure(errc::timed_out, "the engine stands still: its heartbeat does not move", now);
  }

  [[nodiscard]] result<> find_dram() noexcept {
    const phasebit::bus_addr begin{registers_.template read<dram_base>().raw};
    const std::uint64_t offset = registers_.template read<dram_offset>().raw;
    const std::uint64_t bytes =
        std::uint64_t{registers_.template read<dram_pages>().raw} * page_bytes;
    if (bytes == 0 || offset % page_bytes != 0 || offset > mapping_.size() ||
        bytes > mapping_.size() - offset || !phasebit::range_end(begin, bytes)) {
      return failure(errc::protocol, "the engine's DRAM lies beyond its BAR; its bytes", bytes);
    }
    dram_.emplace(phasebit::dma_region{
        mapping_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(bytes)),
        begin});
    return {};
  }

  registers_type registers_;
  std::span<std::byte> mapping_;
  std::uint64_t patience_;
  phasebit::posix::steady_clock clock_{};
  std::optional<memory_type> dram_;
  phasebit::nvme::driver::queue_memory rings_{};
  queue_type queue_{};
  bool dead_ = false;
};

}  // namespace example::fpga
