// SPDX-License-Identifier: BSL-1.0
// Requests of any length on a queue pair of any depth: what is too long is split, what finds no place
// waits in software. An explicit policy on top of queue_pair, for whoever prefers it to `full`.
#pragma once

#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/driver/split.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <array>
#include <cstdint>
#include <span>

namespace phasebit::nvme::driver {

// A read, write, compare or verify of whatever length.
struct request {
  submission_entry command;  // opcode, namespace, flags; LBA and count are replaced
  std::uint64_t lba = 0;
  std::span<const segment<bus_space>> segments;  // the caller's until the request has ended
};

// Up to MaxRequests requests at a time, in flight or waiting, in the order of their arrival. Each ends
// with exactly one call of its callback: the completion of its last command, with the status of the
// first that failed. A part that can not be posted ends the request with invalid_field, after the
// parts before it have ended. `Queue` has 16-bit tokens and is used by nobody else.
template <class Queue, unsigned MaxRequests = 128, std::size_t MaxSegments = 32>
class request_queue {
  static_assert(std::is_same_v<typename Queue::token_type, std::uint16_t>,
                "make the queue pair with std::uint16_t tokens: "
                "create_queue_pair<std::uint16_t>(...)");

 public:
  // `boundary_blocks` is the namespace's NOIOB, or 0.
  explicit request_queue(Queue& queue, std::uint64_t boundary_blocks = 0) noexcept
      : queue_(queue),
        limits_{.max_bytes = queue.max_transfer(),
                .boundary_blocks = boundary_blocks,
                .block_shift = static_cast<std::uint8_t>(queue.block_shift()),
                .page_shift = static_cast<std::uint8_t>(queue.page_shift())} {
    for (unsigned i = 0; i != MaxRequests; ++i) free_[i] = static_cast<std::uint16_t>(i);
  }

  // Takes a request: posted where there is room, else queued; the doorbell is rung by ring() or
  // poll(). Refused, with nothing left behind, where it is empty, longer than the block addresses
  // reach, no whole number of blocks, or has a segment that is empty or wraps; full where MaxRequests
  // are under way.
  submitted submit(const request& wanted, completion_callback done) noexcept {
    if (queue_.closed()) return submitted::as_closed(text(queue_.end_reason()));
    if (free_count_ == 0) return submitted::as_full();
    if (const submitted checked = check(wanted); !checked) return checked;
    const std::uint16_t index = free_[--free_count_];
    state& s = states_[index];
    s = {.done = done,
         .command = wanted.command,
         .parts = {wanted.lba, wanted.segments, limits_},
         .outcome = {},
         .in_flight = 0,
         .ended = false};
    waiting_[(first_ + waiting_count_++) % MaxRequests] = index;
    advance();
    return s.ended || waiting_count_ == 0 ? submitted::as_posted(index)
                                          : submitted{.status = submit_status::queued};
  }

  void ring() noexcept { queue_.ring(); }

  // Takes completions, posts what has been waiting, rings; returns how many requests have ended.
  unsigned poll() noexcept {
    unsigned ended = 0;
    (void)queue_.poll(
        [&](std::uint16_t& index, completion c) noexcept { ended += finish(index, c); });
    ended += advance();
    queue_.ring();
    return ended;
  }

  // Ends everything, posted or waiting, with `how`; for a device that is gone or was reset.
  void fail_all(nvme::status how = status_code::aborted_by_host) noexcept {
    for (; waiting_count_ != 0; pop_waiting()) states_[waiting_[first_]].ended = true;
    (void)queue_.fail_all(
        how, [&](std::uint16_t& index, completion c) noexcept { (void)finish(index, c); });
    for (unsigned i = 0; i != MaxRequests; ++i) {
      if (states_[i].ended && states_[i].in_flight == 0 && states_[i].done) {
        states_[i].outcome = completion{0, how};
        (void)release(static_cast<std::uint16_t>(i));
      }
    }
  }

  [[nodiscard]] unsigned under_way() const noexcept { return MaxRequests - free_count_; }
  [[nodiscard]] unsigned waiting() const noexcept { return waiting_count_; }

 private:
  struct state {
    completion_callback done{};
    submission_entry command{};
    splitter<MaxSegments> parts{};
    completion outcome{};
    std::uint32_t in_flight = 0;  // its commands in the rings
    bool ended = false;           // no more parts will be posted
  };

  [[nodiscard]] submitted check(const request& wanted) const noexcept {
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i != wanted.segments.size(); ++i) {
      const segment<bus_space>& s = wanted.segments[i];
      if (s.bytes == 0) {
        return submitted::as_refused(errc::invalid_argument, "a segment of no bytes", i);
      }
      if (!range_end(s.begin, s.bytes) || bytes + s.bytes < bytes) {
        return submitted::as_refused(errc::overflow, "the segment wraps around the address space", i);
      }
      bytes += s.bytes;
    }
    const std::uint64_t block = std::uint64_t{1} << limits_.block_shift;
    if (bytes == 0 || !is_aligned(bytes, block)) {
      return submitted::as_refused(errc::invalid_argument,
                                   "a request is a whole number of blocks, and at least one");
    }
    if (wanted.lba + (bytes >> limits_.block_shift) < wanted.lba) {
      return submitted::as_refused(errc::overflow, "the block addresses wrap");
    }
    return submitted::as_posted(0);
  }

  // Posts parts of waiting requests, first come first served, until the ring is full.
  unsigned advance() noexcept {
    unsigned ended = 0;
    while (waiting_count_ != 0) {
      const std::uint16_t index = waiting_[first_];
      state& s = states_[index];
      while (!s.ended && queue_.available() != 0) {
        post_part(s, index);
        s.ended = s.ended || s.parts.done();
      }
      if (!s.ended) break;
      pop_waiting();
      if (s.in_flight == 0) ended += release(index);
    }
    return ended;
  }
  void post_part(state& s, std::uint16_t index) noexcept {
    split_part<MaxSegments> part;
    if (!s.parts.next(part)) {
      note(s, completion{0, status_code::invalid_field});
      s.ended = true;
      return;
    }
    submission_entry command = s.command;
    command.cdw10 = static_cast<std::uint32_t>(part.lba);
    command.cdw11 = static_cast<std::uint32_t>(part.lba >> 32);
    command.cdw12 =
        block_command::nlb.set(command.cdw12.get(), static_cast<std::uint16_t>(part.blocks - 1));
    if (queue_.submit_unchecked(command, part.used(), index)) {
      ++s.in_flight;
    } else {
      note(s, completion{0, status_code::invalid_field});
      s.ended = true;
    }
  }
  // The first failure is the request's outcome.
  static void note(state& s, completion c) noexcept {
    if (s.outcome.ok()) s.outcome = c;
  }
  unsigned finish(std::uint16_t index, completion c) noexcept {
    state& s = states_[index];
    note(s, c);
    return --s.in_flight == 0 && s.ended ? release(index) : 0;
  }
  unsigned release(std::uint16_t index) noexcept {
    state& s = states_[index];
    completion_callback done = s.done;
    const completion outcome = s.outcome;
    s = {};
    free_[free_count_++] = index;
    done(outcome);
    return 1;
  }
  void pop_waiting() noexcept {
    first_ = (first_ + 1) % MaxRequests;
    --waiting_count_;
  }

  Queue& queue_;
  split_limits limits_;
  unsigned free_count_ = MaxRequests;
  unsigned first_ = 0;
  unsigned waiting_count_ = 0;
  std::array<std::uint16_t, MaxRequests> free_{};
  std::array<std::uint16_t, MaxRequests> waiting_{};
  std::array<state, MaxRequests> states_{};
};

}  // namespace phasebit::nvme::driver
