// SPDX-License-Identifier: BSL-1.0
// Waiting for commands of one queue, with the questions that a loop around poll() forgets.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>

#include <concepts>
#include <cstdint>
#include <utility>

namespace phasebit::nvme::driver {

namespace detail {

// The errors that keep a wait from ending, found before it begins. Of a queue that has ended, the commands that were
// in flight are handed out.
template <class Queue, class Done>
[[nodiscard]] result<> check_before_wait(Queue& queue, Done& done) noexcept {
  if (queue.closed()) {
    (void)queue.poll(done);
    return failure(errc::removed, text(queue.end_reason())).at(queue.qid());
  }
  if (queue.in_flight() == 0) {
    return failure(errc::invalid_argument, "no command is in flight: there is nothing to wait for")
        .at(queue.qid());
  }
  if (queue.in_flight() == queue.unrung()) {
    return failure(errc::not_ready,
                   "commands were posted, but the device was not notified: call ring() first")
        .at(queue.qid());
  }
  return {};
}

// The error of a wait in which no command has ended.
template <class Queue>
[[nodiscard]] error none_ended(const Queue& queue) noexcept {
  if (const auto healthy = queue.health(); !healthy) return healthy.error();
  return failure(errc::timed_out, "no command has ended in time; still in flight",
                 queue.in_flight())
      .at(queue.qid());
}

}  // namespace detail

// Polls until at least one command of the queue has ended, at most `milliseconds`; returns how many. By the
// clock of the queue's controller; looks at the controller's registers now and then, and once when the time is
// over. Errors:
//   invalid_argument  nothing is in flight, or the queue has no controller and with it no clock
//   not_ready         commands were posted, and ring() was not called: the wait would not end
//   removed           the queue has ended, or its controller is gone; what was in flight was returned
//   protocol          CSTS.CFS, or the device completed what is not in flight
//   timed_out         none of these: the commands are still in flight
// The queue's thread, which may not be another one than the controller's where the controller is not idle.
template <class Queue, class Done>
  requires std::invocable<Done&, typename Queue::token_type&, completion>
[[nodiscard]] result<unsigned> wait(Queue& queue, std::uint64_t milliseconds,
                                    Done&& done) noexcept {
  if (const auto ready = detail::check_before_wait(queue, done); !ready) return ready.error();
  if (!queue.attached()) {
    return failure(errc::invalid_argument, "the queue has no controller to wait with");
  }
  unsigned ended = 0;
  std::uint32_t turns = 0;
  result<> well{};
  (void)queue.poll_until_done(to_nanoseconds(milliseconds), [&]() noexcept {
    ended = queue.poll(done);
    if (ended != 0 || queue.closed()) return true;
    // Registers are slow to read, and a healthy device answers within a few turns.
    if ((++turns & 1023U) == 0) well = queue.check_controller();
    return !well;
  });
  if (ended == 0 && well && !queue.closed()) well = queue.check_controller();
  if (!well && well.error().code == errc::removed) {
    queue.end_removed();
    (void)queue.poll(done);
    return well.error();
  }
  if (ended != 0 && !queue.closed()) return ended;
  if (!well) return well.error();
  return detail::none_ended(queue);
}
template <class Queue>
  requires std::invocable<typename Queue::token_type&, completion>
[[nodiscard]] result<unsigned> wait(Queue& queue, std::uint64_t milliseconds) noexcept {
  return wait(queue, milliseconds,
              [](typename Queue::token_type& call, completion c) noexcept { call(c); });
}

}  // namespace phasebit::nvme::driver
