// SPDX-License-Identifier: BSL-1.0
// The admin queue: one command at a time and its answer, with asynchronous events beside.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/bring_up.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/async_event.hpp>

#include <array>
#include <cstdint>
#include <optional>

namespace phasebit::nvme::driver {

// Built on the same queue pair as I/O. After a command has timed out the device may still use its
// buffer, so that the queue refuses everything until the controller was reset.
// One thread at a time.
template <RingOrder Order, DoorbellSink Doorbell>
class admin_queue {
 public:
  static constexpr unsigned max_depth = 32;
  static constexpr unsigned max_events = 8;

  admin_queue() noexcept = default;
  admin_queue(const queue_layout& layout, Doorbell submission, Doorbell completion) noexcept
      : queue_(layout, submission, completion) {}

  // Posts `command` and waits for its completion, at most so long. Whatever status it has is an
  // answer; an error means that there was none: refused at once, timed out, removed, fatal. `is_gone`
  // confirms that a function is gone whose registers read all ones.
  template <Mmio Bar, PollClock Clock, class Gone>
  [[nodiscard]] result<completion> execute(Bar& bar, Clock&& clock, const submission_entry& command,
                                           const dma_region* data, std::uint64_t milliseconds,
                                           Gone&& is_gone) noexcept {
    if (broken_) {
      return failure(errc::not_ready,
                     "an earlier admin command was never answered: reset the controller first");
    }
    const token mine{++sequence_, false};
    const submitted posted = data != nullptr ? queue_.submit_unchecked(command, *data, mine)
                                             : queue_.submit(command, mine);
    if (!posted) {
      if (posted.status == submit_status::full) {
        return failure(errc::exhausted, "the admin queue is full");
      }
      if (posted.status == submit_status::closed) return failure(posted.reason, posted.what);
      return failure(posted.reason, posted.what, data != nullptr ? data->bus.value() : 0);
    }
    queue_.ring();

    answer_.reset();
    // The result depends only on the read that ended the wait: with an unstable link the next read
    // may return another value.
    csts last{};
    bool gone = false;
    (void)poll_until(clock, to_nanoseconds(milliseconds), [&]() noexcept {
      (void)poll();
      if (answer_) return true;
      // Registers are slow to read, and a healthy device answers within a few turns.
      if ((++turns_ & 1023U) != 0) return false;
      last = read_register<csts>(bar);
      if (last.removed()) return gone = is_gone();
      return last[csts::cfs];
    });
    if (answer_) return *answer_;
    broken_ = true;
    if (!gone && !last[csts::cfs]) {
      last = read_register<csts>(bar);
      gone = last.removed() && is_gone();
    }
    if (gone) return removed_error();
    if (last[csts::cfs] && !last.removed()) {
      return failure(errc::protocol, "the controller reports a fatal status (CSTS.CFS)", last.raw);
    }
    if (const auto healthy = queue_.health(); !healthy) return healthy.error();
    return failure(errc::timed_out, "an admin command was not answered in time; its opcode",
                   command.opcode());
  }

  // Keeps `count` Asynchronous Event Requests outstanding from now on; at most max_events.
  [[nodiscard]] bool arm_events(unsigned count) noexcept {
    PHASEBIT_EXPECTS(count <= max_events, "more event requests than max_events");
    for (unsigned i = 0; i != count; ++i) {
      if (!queue_.submit(admin::async_event_request(), token{0, true})) return false;
    }
    queue_.ring();
    return true;
  }

  // Takes completions that are there: events are kept for next_event(), their requests re-armed.
  unsigned poll() noexcept {
    const unsigned ended = queue_.poll([this](token& whose, completion c) noexcept {
      if (whose.event) {
        note_event(c);
      } else if (whose.sequence == sequence_) {
        answer_ = c;
      }
    });
    queue_.ring();
    return ended;
  }

  // The oldest event not yet looked at. The device sends no more of its type until its log page
  // was read (Base 2.0, 5.2).
  [[nodiscard]] std::optional<async_event> next_event() noexcept {
    if (event_count_ == 0) return std::nullopt;
    const async_event first = events_[0];
    for (unsigned i = 1; i != event_count_; ++i) events_[i - 1] = events_[i];
    --event_count_;
    return first;
  }
  // Events that were dropped because max_events others were waiting.
  [[nodiscard]] std::uint32_t lost_events() const noexcept { return lost_events_; }

  [[nodiscard]] bool broken() const noexcept { return broken_; }
  [[nodiscard]] result<> health() const noexcept { return queue_.health(); }
  [[nodiscard]] std::uint32_t max_transfer() const noexcept { return queue_.max_transfer(); }
  // Refuses every command from now on, with `why`.
  void close(queue_end why) noexcept { queue_.end(why); }
  [[nodiscard]] unsigned available() const noexcept { return queue_.available(); }

 private:
  friend handover_access;
  struct token {
    std::uint32_t sequence = 0;
    bool event = false;
  };

  void note_event(completion c) noexcept {
    if (!c.ok()) return;  // aborted, or beyond the device's limit: not armed again
    if (event_count_ == max_events) {
      ++lost_events_;
    } else {
      events_[event_count_++] = async_event{c.dw0()};
    }
    (void)queue_.submit(admin::async_event_request(), token{0, true});
  }

  queue_pair<Order, Doorbell, token, max_depth> queue_;
  std::optional<completion> answer_;
  std::array<async_event, max_events> events_{};
  std::uint32_t event_count_ = 0;
  std::uint32_t lost_events_ = 0;
  std::uint32_t sequence_ = 0;
  std::uint32_t turns_ = 0;
  bool broken_ = false;
};

}  // namespace phasebit::nvme::driver
