// SPDX-License-Identifier: BSL-1.0
// The workload of the block engine, and the check of its results.
#pragma once

#include "support/fpga_engine.hpp"
#include "support/fpga_host.hpp"
#include "support/latency.hpp"
#include "support/pattern.hpp"

#include <phasebit/nvme/spec/status_text.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace example::fpga {

struct job {
  std::string what = "mixed";  // fill, copy, checksum, or one after another on each buffer
  std::uint32_t bytes = 4096;
  std::uint32_t depth = 32;
  bool verify = false;
  double seconds = 5;
  std::uint64_t commands = 0;  // 0: as many as the time allows
  double timeout = 10;         // seconds for one command
  std::uint64_t seed = 1;
};

// Keeps job.depth commands in flight, each with two buffers of its own in the FPGA's DRAM. The engine
// is started, and its queue longer than job.depth.
template <class Device>
class workload {
  using clock = std::chrono::steady_clock;

 public:
  workload(Device& engine, const job& j)
      : engine_(engine), job_(j), pattern_(j.seed), slots_(j.depth), expected_(j.bytes) {
    if (j.what == "fill") order_ = {operation::fill};
    if (j.what == "copy") order_ = {operation::copy};
    if (j.what == "checksum") order_ = {operation::checksum};
  }

  // Runs to the end of the time, the count, or to the first failure.
  [[nodiscard]] phasebit::result<> run() {
    const auto memory =
        engine_.memory().allocate(std::size_t{2} * job_.depth * job_.bytes, page_bytes);
    if (!memory) {
      return failure(errc::exhausted, "2 x --qd x --bs is more than the engine's DRAM has free",
                     engine_.memory().largest_free());
    }
    begun_ = now_ = ticked_ = clock::now();
    for (std::uint32_t i = 0; i != job_.depth; ++i) {
      slot& s = slots_[i];
      s.from = memory->subregion(std::size_t{2} * i * job_.bytes, job_.bytes);
      s.to = memory->subregion((std::size_t{2} * i + 1) * job_.bytes, job_.bytes);
      renew(s, i);
      std::memcpy(s.to.data(), expected_.data(), job_.bytes);
      s.crc_of_to = s.crc;
      s.done = i % order_.size();  // not all do the same at a time
      idle_.push_back(i);
    }
    begun_ = clock::now();
    while (!failed_ && (wants_more() || engine_.queue().in_flight() != 0)) turn();
    ended_ = clock::now();
    if (failed_) return *failed_;
    engine_.memory().release(*memory);
    return engine_.check();
  }

  [[nodiscard]] double seconds() const noexcept {
    return std::chrono::duration<double>(ended_ - begun_).count();
  }
  [[nodiscard]] std::uint64_t done() const noexcept { return latency_.count(); }
  [[nodiscard]] std::uint64_t verified() const noexcept { return verified_; }
  [[nodiscard]] const latency_histogram& latency() const noexcept { return latency_; }

 private:
  struct slot {
    phasebit::dma_region from;
    phasebit::dma_region to;
    std::uint32_t crc = 0;        // of `from`
    std::uint32_t crc_of_to = 0;  // as it has to be
    std::uint32_t word = 0;       // of the last fill
    std::uint32_t generation = 0;
    std::size_t done = 0;
    operation what{};
    clock::time_point since{};
  };
  static constexpr auto tick = std::chrono::milliseconds{100};

  [[nodiscard]] bool wants_more() const noexcept {
    if (job_.commands != 0) return issued_ != job_.commands;
    return now_ - begun_ < std::chrono::duration<double>{job_.seconds};
  }

  void turn() {
    now_ = clock::now();
    keep_time();
    while (!idle_.empty() && wants_more() && !failed_) issue();
    engine_.queue().ring();
    bool stamped = false;
    const unsigned taken = engine_.queue().poll(
        [&](std::uint32_t& which, phasebit::nvme::driver::completion c) noexcept {
          if (!stamped) now_ = clock::now();
          stamped = true;
          finish(which, c);
        });
    if (engine_.queue().unexpected_completions() != 0 && !failed_) {
      failed_ = engine_.queue().health().error();
    }
    if (taken == 0) phasebit::posix::steady_clock::relax();
  }

  // New content for the source, and what its checksum has to be. The host's copy is what counts: the
  // FPGA's DRAM is read back only to be checked.
  void renew(slot& s, std::uint32_t which) {
    pattern_.fill(expected_, std::uint64_t{which} * job_.bytes, ++s.generation);
    std::memcpy(s.from.data(), expected_.data(), job_.bytes);
    s.crc = crc32c(expected_);
  }

  void issue() {
    const std::uint32_t which = idle_.back();
    slot& s = slots_[which];
    s.what = order_[s.done % order_.size()];
    s.since = now_;
    const auto posted = engine_.queue().submit(prepare(s, which), which);
    if (!posted) {
      failed_ = posted.as_error();
      return;
    }
    idle_.pop_back();
    ++issued_;
  }
  [[nodiscard]] phasebit::nvme::submission_entry prepare(slot& s, std::uint32_t which) {
    switch (s.what) {
      case operation::copy:
        if (job_.verify) {
          renew(s, which);
          pattern::spoil(s.to.bytes);
        }
        return copy(s.from.bus, s.to.bus, job_.bytes);
      case operation::fill:
        s.word = static_cast<std::uint32_t>((job_.seed << 8 | which) * 0x9e37'79b1 + s.done);
        if (job_.verify) pattern::spoil(s.to.bytes);
        return fill(s.to.bus, job_.bytes, s.word);
      case operation::checksum:
        break;
    }
    return checksum(s.to.bus, job_.bytes);
  }

  void finish(std::uint32_t which, phasebit::nvme::driver::completion c) noexcept {
    slot& s = slots_[which];
    idle_.push_back(which);
    if (failed_) return;
    if (!c.ok()) {
      failed_ =
          failure(errc::io, text(c.status()).data(), c.status().raw()).of("a command ended with");
      return;
    }
    latency_.add(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(now_ - s.since).count()));
    ++s.done;
    if (job_.verify) check(s, c.dw0());
  }

  void check(slot& s, std::uint32_t dw0) {
    switch (s.what) {
      case operation::copy:
        s.crc_of_to = s.crc;
        pattern_.fill(expected_, static_cast<std::uint64_t>(&s - slots_.data()) * job_.bytes,
                      s.generation);
        break;
      case operation::fill: {
        const phasebit::le<std::uint32_t> word = s.word;
        for (std::size_t i = 0; i != job_.bytes; i += 4) {
          std::memcpy(expected_.data() + i, &word, 4);
        }
        s.crc_of_to = crc32c(expected_);
        break;
      }
      case operation::checksum:
        if (dw0 != s.crc_of_to) {
          failed_ = failure(errc::io, "the engine's checksum is not that of the data", dw0);
        }
        ++verified_;
        return;
    }
    const auto wrong = std::mismatch(expected_.begin(), expected_.end(), s.to.bytes.begin()).first;
    if (wrong != expected_.end()) {
      failed_ = failure(errc::io, "the engine wrote wrong data; its address",
                        s.to.bus.value() + static_cast<std::uint64_t>(wrong - expected_.begin()));
    }
    ++verified_;
  }

  void keep_time() {
    if (now_ - ticked_ < tick) return;
    ticked_ = now_;
    engine_.queue().tick();
    // An engine that left the bus is detected at once; one that stands still only by a command's
    // age.
    if (const auto well = engine_.check(); !well) {
      failed_ = well.error();
      return;
    }
    const auto ticks = static_cast<std::uint32_t>(job_.timeout / 0.1);
    std::optional<std::uint16_t> late;
    engine_.queue().for_each_overdue(ticks + 1, [&](std::uint16_t id) noexcept { late = id; });
    if (!late) return;
    const auto alive = engine_.check_heartbeat();
    failed_ = alive ? failure(errc::timed_out,
                              "a command was not answered in time, though the engine's heartbeat "
                              "goes on; its id",
                              *late)
                    : alive.error();
  }

  Device& engine_;
  job job_;
  pattern pattern_;
  std::vector<operation> order_{operation::copy, operation::checksum, operation::fill,
                                operation::checksum};
  std::vector<slot> slots_;
  std::vector<std::byte> expected_;
  std::vector<std::uint32_t> idle_;
  clock::time_point begun_{};
  clock::time_point ended_{};
  clock::time_point now_{};
  clock::time_point ticked_{};
  std::uint64_t issued_ = 0;
  std::uint64_t verified_ = 0;
  latency_histogram latency_;
  std::optional<phasebit::error> failed_;
};

}  // namespace example::fpga
