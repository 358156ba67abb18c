// SPDX-License-Identifier: BSL-1.0
// Waiting for completions of a queue by its interrupt: arm, look again, sleep.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/driver/wait.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <concepts>
#include <cstdint>
#include <utility>

namespace phasebit::nvme::driver {

// As wait(), without polling meanwhile: the thread sleeps until the vector of the queue's completion queue
// (queue_options::interrupt) is raised. `source` is the backend's function, whose interrupts are enabled; its clock measures
// the time. No completion is missed: the pending interrupt is taken first, then the queue is looked at once more, and only
// then the thread sleeps; a completion after that look raises the vector again. An interrupt that the device loses
// costs at most `look_ms`, after which the queue and the controller are looked at anyway. Coalescing delays interrupts, and
// with them this call, as Set Features 08h defines. The vector belongs to this queue alone. Errors: those of wait().
template <class Queue, class Source, class Done>
  requires std::invocable<Done&, typename Queue::token_type&, completion>
[[nodiscard]] result<unsigned> wait_by_interrupt(Queue& queue, Source& source, unsigned vector,
                                                 std::uint64_t milliseconds, Done&& done,
                                                 std::uint64_t look_ms = 1000) noexcept {
  static_assert(InterruptSource<Source>, "the backend has no interrupts: use wait()");
  if (const auto ready = detail::check_before_wait(queue, done); !ready) return ready.error();
  auto&& clock = source.clock();
  const std::uint64_t begin = clock.now();
  const std::uint64_t limit = to_nanoseconds(milliseconds);
  for (;;) {
    if (const unsigned ended = queue.poll(done); ended != 0) return ended;
    if (queue.closed()) break;
    (void)source.poll_interrupt(vector);
    if (const unsigned ended = queue.poll(done); ended != 0) return ended;
    const std::uint64_t spent = clock.now() - begin;
    if (spent > limit) break;
    const std::uint64_t left = limit - spent;
    const std::uint64_t look = to_nanoseconds(look_ms);
    if (source.wait_interrupt(vector, left < look ? left : look)) continue;
    if (const unsigned ended = queue.poll(done); ended != 0) return ended;
    if (const auto well = queue.check_controller(); !well) {
      if (well.error().code == errc::removed) {
        queue.end_removed();
        (void)queue.poll(done);
      }
      return well.error();
    }
  }
  if (queue.closed()) {
    return failure(errc::removed, text(queue.end_reason())).at(queue.qid());
  }
  return detail::none_ended(queue);
}

}  // namespace phasebit::nvme::driver
