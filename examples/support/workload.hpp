// SPDX-License-Identifier: BSL-1.0
// The workload of one queue pair.
#pragma once

#include "support/latency.hpp"
#include "support/pattern.hpp"

#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/spec/status_text.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <utility>
#include <vector>

namespace example {

struct job {
  bool reads = true;
  bool writes = false;
  bool random = true;
  std::uint32_t bytes = 4096;  // of each command
  std::uint32_t depth = 32;    // commands in flight
  bool verify = false;
  std::uint64_t seed = 1;
  double seconds = 5;
  double ramp = 0;             // seconds before those, which do not count
  unsigned read_percent = 50;  // where there are both
  std::uint64_t rate = 0;      // commands a second, of each queue; 0: as many as there can be
  std::uint64_t commands = 0;  // of each queue; 0: as many as the time allows
  double timeout = 10;         // seconds for one command
};

// The part of the disk that one queue uses exclusively, in extents of one command each.
struct territory {
  std::uint64_t first = 0;
  std::uint64_t extents = 0;
};

enum class phase { fill, measure, check };

struct tally {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  latency_histogram read_latency;
  latency_histogram write_latency;
};

// Keeps job.depth commands in flight, each with a buffer of its own. One thread at a time.
template <class Controller>
class workload {
  using clock = std::chrono::steady_clock;

 public:
  static constexpr unsigned max_depth = 1024;
  using queue_type = typename Controller::template io_queue<std::uint32_t, max_depth>;

  // `buffers` holds job.depth commands' data.
  workload(queue_type&& queue, const job& j, const phasebit::nvme::driver::namespace_info& ns,
           phasebit::dma_region buffers, const territory& where)
      : queue_(std::move(queue)),
        job_(j),
        ns_(ns),
        buffers_(buffers),
        where_(where),
        pattern_(j.seed),
        random_(j.seed * 1'000 + queue_.qid()),
        slots_(j.depth) {
    if (job_.verify) written_.resize(where.extents);
    for (std::uint32_t i = 0; i != j.depth; ++i) idle_.push_back(i);
  }

  void begin(phase p) noexcept {
    phase_ = p;
    finishing_.store(false, std::memory_order_relaxed);
    next_ = issued_ = 0;
    now_ = begun_ = ticked_ = clock::now();
    counted_from_ =
        begun_ + std::chrono::duration_cast<clock::duration>(
                     std::chrono::duration<double>{p == phase::measure ? job_.ramp : 0.0});
  }
  // Submits as many commands as fit and handles those that have ended. False when the phase is
  // over, or has failed.
  [[nodiscard]] bool turn() noexcept {
    now_ = clock::now();
    keep_time();
    while (!idle_.empty() && !failed_ && wants_more() && is_due()) issue();
    queue_.ring();
    if (take() == 0) rest_ = true;
    return !failed_ && (queue_.in_flight() != 0 || wants_more());
  }
  // Whether the last turns found nothing to do; asking forgets it.
  [[nodiscard]] bool idle() noexcept { return std::exchange(rest_, false); }

  // Any thread: no more commands are submitted in this phase; those in flight end as usual.
  void finish_early() noexcept { finishing_.store(true, std::memory_order_relaxed); }
  // Any thread: commands of the measured phase so far.
  [[nodiscard]] std::uint64_t done() const noexcept {
    return done_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] const std::optional<phasebit::error>& failed() const noexcept { return failed_; }
  [[nodiscard]] const tally& result() const noexcept { return tally_; }
  [[nodiscard]] std::uint64_t verified() const noexcept { return verified_; }
  [[nodiscard]] queue_type& queue() noexcept { return queue_; }
  [[nodiscard]] const phasebit::dma_region& buffers() const noexcept { return buffers_; }

 private:
  struct slot {
    std::uint64_t extent = 0;
    clock::time_point since{};
    bool is_write = false;
  };
  static constexpr std::uint8_t busy = 0x80;  // in written_: a command is under way
  static constexpr auto tick = std::chrono::milliseconds{100};

  [[nodiscard]] bool wants_more() const noexcept {
    if (finishing_.load(std::memory_order_relaxed)) return false;
    if (phase_ != phase::measure) return next_ != where_.extents;
    if (job_.commands != 0 && issued_ == job_.commands) return false;
    return now_ - counted_from_ < std::chrono::duration<double>{job_.seconds};
  }
  // Whether the rate allows another command now.
  [[nodiscard]] bool is_due() const noexcept {
    if (phase_ != phase::measure || job_.rate == 0) return true;
    const std::chrono::duration<double> passed = now_ - begun_;
    return static_cast<double>(issued_) <= passed.count() * static_cast<double>(job_.rate);
  }

  // Commands that the device never answers are found by their age, for others may go on meanwhile.
  void keep_time() noexcept {
    if (now_ - ticked_ < tick) return;
    ticked_ = now_;
    queue_.tick();
    const auto ticks = static_cast<std::uint32_t>(job_.timeout / 0.1);
    queue_.for_each_overdue(ticks + 1, [&](std::uint16_t id) noexcept {
      if (failed_) return;
      failed_ = phasebit::failure(phasebit::errc::timed_out,
                                  "a command was not answered in time; its id, and its queue", id)
                    .at(queue_.qid());
    });
  }

  [[nodiscard]] std::uint64_t choose() noexcept {
    std::uint64_t extent = next_;
    if (phase_ == phase::measure && job_.random) {
      extent = std::uniform_int_distribution<std::uint64_t>{0, where_.extents - 1}(random_);
    }
    // The contents of an extent are defined only while one command at a time uses it.
    while (job_.verify && (written_[extent] & busy) != 0) extent = after(extent);
    next_ = after(extent);
    if (phase_ != phase::measure) next_ = extent + 1;
    return extent;
  }
  [[nodiscard]] std::uint64_t after(std::uint64_t extent) const noexcept {
    return extent + 1 == where_.extents ? 0 : extent + 1;
  }
  [[nodiscard]] bool choose_write() noexcept {
    if (phase_ != phase::measure) return phase_ == phase::fill;
    return job_.writes && (!job_.reads || random_() % 100 >= job_.read_percent);
  }
  [[nodiscard]] std::uint64_t place(std::uint64_t extent) const noexcept {
    return (where_.first + extent) * job_.bytes;
  }

  void issue() noexcept {
    const std::uint32_t which = idle_.back();
    slot& s = slots_[which];
    s = {choose(), now_, choose_write()};
    const auto data = buffers_.subregion(std::size_t{which} * job_.bytes, job_.bytes);
    if (job_.verify) {
      std::uint8_t& generation = written_[s.extent];
      if (s.is_write) {
        generation = static_cast<std::uint8_t>(generation % 0x7f + 1);
        pattern_.fill(data.bytes, place(s.extent), generation);
      } else {
        pattern::spoil(data.bytes);
      }
      generation |= busy;
    }
    const phasebit::nvme::block_range range{.nsid = ns_.nsid,
                                            .lba = place(s.extent) >> ns_.block_shift,
                                            .blocks = job_.bytes >> ns_.block_shift};
    const auto posted =
        s.is_write ? queue_.write(range, data, which) : queue_.read(range, data, which);
    if (!posted) {
      failed_ = posted.as_error();
      return;
    }
    idle_.pop_back();
    ++issued_;
  }

  unsigned take() noexcept {
    bool stamped = false;
    const unsigned ended =
        queue_.poll([&](std::uint32_t& which, phasebit::nvme::driver::completion c) noexcept {
          if (!stamped) now_ = clock::now();
          stamped = true;
          finish(which, c.status());
        });
    if (queue_.unexpected_completions() != 0 && !failed_) failed_ = queue_.health().error();
    return ended;
  }

  void finish(std::uint32_t which, phasebit::nvme::status status) noexcept {
    const slot& s = slots_[which];
    idle_.push_back(which);
    if (failed_) return;
    if (!status.ok()) {
      failed_ = phasebit::failure(phasebit::errc::io, text(status).data(), status.raw())
                    .of(s.is_write ? "a write ended with" : "a read ended with");
      return;
    }
    if (job_.verify) {
      written_[s.extent] &= static_cast<std::uint8_t>(~busy);
      if (!s.is_write && !as_expected(which)) return;
    }
    if (phase_ != phase::measure || now_ < counted_from_) return;
    (s.is_write ? tally_.writes : tally_.reads) += 1;
    (s.is_write ? tally_.write_latency : tally_.read_latency)
        .add(static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::nanoseconds>(now_ - s.since).count()));
    done_.store(tally_.reads + tally_.writes, std::memory_order_relaxed);
  }

  [[nodiscard]] bool as_expected(std::uint32_t which) noexcept {
    const slot& s = slots_[which];
    const std::uint8_t generation = written_[s.extent];
    if (generation == 0) return true;  // never written by us: anything may be there
    const auto data = buffers_.bytes.subspan(std::size_t{which} * job_.bytes, job_.bytes);
    const auto wrong = pattern_.mismatch(data, place(s.extent), generation);
    if (wrong) {
      failed_ = phasebit::failure(
          phasebit::errc::io, "the disk gave back other data than was written; byte of the disk",
          place(s.extent) + *wrong);
      return false;
    }
    ++verified_;
    return true;
  }

  queue_type queue_;
  job job_;
  phasebit::nvme::driver::namespace_info ns_;
  phasebit::dma_region buffers_;
  territory where_;
  pattern pattern_;
  std::mt19937_64 random_;
  phase phase_ = phase::measure;
  std::uint64_t next_ = 0;
  std::uint64_t issued_ = 0;
  std::vector<slot> slots_;
  std::vector<std::uint32_t> idle_;
  std::vector<std::uint8_t> written_;  // by extent: number of writes, modulo 127, and `busy`
  clock::time_point begun_{};
  clock::time_point counted_from_{};
  clock::time_point now_{};
  clock::time_point ticked_{};
  bool rest_ = false;
  tally tally_;
  std::uint64_t verified_ = 0;
  std::optional<phasebit::error> failed_;
  std::atomic<bool> finishing_{false};
  alignas(64) std::atomic<std::uint64_t> done_{0};
};

}  // namespace example
