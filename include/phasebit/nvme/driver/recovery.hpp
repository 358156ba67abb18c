// SPDX-License-Identifier: BSL-1.0
// Recovery of a controller and its queues as one procedure: time-out, Abort, queue deletion, controller reset, function
// level reset, removed. NVMe Base 2.0, 5.1 (Abort), 3.7.2 (controller level reset), 3.7.3 (queue level reset).
#pragma once

#include <phasebit/core/callback.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/detail/supervised_queue.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <cstdint>

namespace phasebit::nvme::driver {

struct recovery_options {
  std::uint32_t command_timeout_ms = 5000;  // from posting to the Abort
  std::uint32_t abort_patience_ms = 1000;   // from the Abort to the deletion of the queue
  std::uint8_t max_retries = 5;             // of each command, over its whole life
};

// The next step of recovery, or its outcome.
enum class recovery_step : std::uint8_t {
  abort,             // an Abort command for one command of the queue `qid`
  queue_deletion,    // the queue pair `qid` is deleted and made again
  controller_reset,  // CC.EN is cleared and set; all queue pairs are made again
  function_reset,  // function level reset, then as controller_reset. Interrupts are off afterwards
  recovered,       // the step before has succeeded
  removed,         // the function is gone: all commands end, the queues are closed
  failed,          // no step helped: bus mastering is off, all commands end, the queues are closed
};
[[nodiscard]] constexpr const char* text(recovery_step step) noexcept {
  switch (step) {
    case recovery_step::abort:
      return "abort";
    case recovery_step::queue_deletion:
      return "queue deletion";
    case recovery_step::controller_reset:
      return "controller reset";
    case recovery_step::function_reset:
      return "function level reset";
    case recovery_step::recovered:
      return "recovered";
    case recovery_step::removed:
      return "removed";
    case recovery_step::failed:
      return "failed";
  }
  return "";
}

struct recovery_event {
  recovery_step step = recovery_step::abort;
  std::uint16_t qid = 0;  // of abort and queue_deletion
  error why{};
};
using recovery_callback = inplace_callback<const recovery_event&>;

// Watches one controller and its recoverable queues. poll() is called by the program's loop, and by each queue's
// poll() that found nothing; it looks at the clock, and a few times per time-out at the registers.
//
// Guarantees: each command ends exactly once. A command is posted again only after the device has let go of
// it: it completed it with a status that asks for a retry (DNR clear, CRD or a state that passes), or deleted its queue,
// or was reset; and without an answer of the device only where a second execution leaves what the first one
// left (read, write, flush, compare, write zeroes, dataset management, verify). The others end with Command Aborted By
// Host. No command is posted more than 1 + max_retries times. A step is followed by the next one where it fails, or
// where no command has succeeded since; so the procedure ends: recovered, removed or failed.
//
// After `removed` and `failed` resume() tries again: when the device was put back, or repaired. All calls belong to
// one thread: the controller's and all recoverable queues'. poll() takes as long as a reset takes, where one is
// due. The event callback may submit, and does not poll. The controller outlives this object; neither moves.
template <class Controller>
class recovery {
  using backend_type = typename Controller::backend_type;

 public:
  using controller_type = Controller;

  explicit recovery(Controller& controller, const recovery_options& options = {},
                    recovery_callback on_event = {}) noexcept
      : controller_(&controller), on_event_(on_event) {
    const std::uint64_t timeout = to_nanoseconds(options.command_timeout_ms);
    tick_ns_ = timeout / ticks_per_timeout + 1;
    patience_ticks_ =
        static_cast<std::uint32_t>(to_nanoseconds(options.abort_patience_ms) / tick_ns_ + 1);
    shared_.procedure = this;
    shared_.poll = [](void* self) noexcept { return static_cast<recovery*>(self)->poll(); };
    shared_.now = [](void* self) noexcept { return static_cast<recovery*>(self)->now(); };
    shared_.delays = retry_delays::of(controller.identity());
    shared_.max_retries = options.max_retries < 200 ? options.max_retries : std::uint8_t{200};
    last_ = now();
  }
  recovery(const recovery&) = delete;
  recovery& operator=(const recovery&) = delete;
  // The queues are deleted; their commands end by their next poll().
  ~recovery() {
    shared_.state = queue_end::deleted;
    while (detail::supervised_queue* const q = shared_.first) {
      if (!q->remove_pair()) q->discard_pair();
      q->close(queue_end::deleted);
      q->leave();
    }
  }

  // Looks for commands that are late and for a controller that is not well, and does what is due. Returns how many
  // steps it took.
  unsigned poll() noexcept {
    if (busy_ || shared_.polling != 0 || shared_.state != queue_end::none) return 0;
    const std::uint64_t time = now();
    if (time - last_ < tick_ns_) return 0;
    last_ = time;
    busy_ = true;
    steps_ = 0;
    ++shared_.tick;
    look();
    busy_ = false;
    return steps_;
  }

  // Starts over after `removed` or `failed`; queues that were closed work again after a success. Also a controller
  // reset on demand, where it is running.
  [[nodiscard]] result<> resume() noexcept {
    if (controller_->detached()) return failure(errc::removed, "the controller was detached");
    if (busy_ || shared_.polling != 0) {
      return failure(errc::busy, "recovery runs already: resume() is not called by its callbacks");
    }
    busy_ = true;
    set_bus_master(true);
    shared_.state = queue_end::none;
    shared_.progress = false;
    reached_ = recovery_step::abort;
    for_each([](detail::supervised_queue& q) noexcept { q.reopen(); });
    recover_from(recovery_step::controller_reset, failure(errc::cancelled, "resume() was called"));
    busy_ = false;
    last_ = now();
    if (shared_.state == queue_end::none) return {};
    return last_error_;
  }

  [[nodiscard]] bool running() const noexcept { return shared_.state == queue_end::none; }
  [[nodiscard]] const recovery_counts& counts() const noexcept { return shared_.counts; }
  [[nodiscard]] Controller& controller() noexcept { return *controller_; }

  // For recoverable_queue.
  [[nodiscard]] detail::recovery_shared& shared() noexcept { return shared_; }

 private:
  static constexpr std::uint32_t ticks_per_timeout = 8;

  [[nodiscard]] std::uint64_t now() noexcept { return controller_->backend().clock().now(); }
  template <class Each>
  void for_each(Each&& each) noexcept {
    for (detail::supervised_queue* q = shared_.first; q != nullptr; q = q->next_) each(*q);
  }
  void notify(recovery_step step, const error& why, std::uint16_t qid = 0) noexcept {
    ++steps_;
    if (on_event_) on_event_(recovery_event{step, qid, why});
  }

  void look() noexcept {
    if (controller_->detached()) {
      close_all(queue_end::detached);
      return;
    }
    if (shared_.progress) reached_ = recovery_step::abort;
    shared_.progress = false;
    controller_->poll();
    if (const auto well = controller_->check(); !well) {
      recover_from(recovery_step::controller_reset, well.error());
      return;
    }
    for (detail::supervised_queue* q = shared_.first; q != nullptr; q = q->next_) {
      // False: the controller was reset, which has dealt with all queues.
      if (!look_at(*q)) return;
    }
  }
  [[nodiscard]] bool look_at(detail::supervised_queue& q) noexcept {
    if (q.closed()) return true;
    q.collect();
    // Reset or deleted by the program itself.
    if (q.pair_end() != queue_end::none) return make_again(q);
    if (const auto well = q.pair_health(); !well) {
      recover_from(recovery_step::controller_reset, well.error());
      return false;
    }
    bool stuck = false;
    for (detail::kept_command& k : q.commands()) {
      if (k.state != detail::kept_state::posted) continue;
      const std::uint32_t age = shared_.tick - k.tick;
      if (k.abort_sent) {
        stuck = stuck || age > patience_ticks_;
      } else if (age > ticks_per_timeout) {
        if (!abort(q, k)) return false;
        stuck = stuck || reached_ >= recovery_step::queue_deletion;
      }
    }
    if (!stuck) {
      q.post_waiting();
      return true;
    }
    const error why =
        failure(errc::timed_out, "a command was not completed in time, and not after its Abort")
            .at(q.pair_qid());
    if (reached_ >= recovery_step::queue_deletion) {
      recover_from(after(reached_), why);
      return false;
    }
    reached_ = recovery_step::queue_deletion;
    notify(recovery_step::queue_deletion, why, q.pair_qid());
    ++shared_.counts.queues_remade;
    if (const auto removed = q.remove_pair(); !removed) {
      recover_from(recovery_step::controller_reset, removed.error());
      return false;
    }
    return make_again(q);
  }
  [[nodiscard]] bool make_again(detail::supervised_queue& q) noexcept {
    if (const auto made = q.open_pair(); !made) {
      recover_from(recovery_step::controller_reset, made.error());
      return false;
    }
    q.post_waiting();
    notify(recovery_step::recovered, {}, q.pair_qid());
    return true;
  }
  [[nodiscard]] bool abort(detail::supervised_queue& q, detail::kept_command& k) noexcept {
    notify(recovery_step::abort,
           failure(errc::timed_out, "a command was not completed in time; its id", k.command_id),
           q.pair_qid());
    ++shared_.counts.aborts;
    k.abort_sent = true;
    k.tick = shared_.tick;
    const auto aborted = controller_->abort(q.pair_qid(), k.command_id);
    // Whatever status the Abort has, the completion of the command itself reports its end.
    if (aborted || aborted.error().code == errc::io) return true;
    recover_from(recovery_step::controller_reset, aborted.error());
    return false;
  }

  [[nodiscard]] static constexpr recovery_step after(recovery_step step) noexcept {
    switch (step) {
      case recovery_step::abort:
        return recovery_step::queue_deletion;
      case recovery_step::queue_deletion:
        return recovery_step::controller_reset;
      case recovery_step::controller_reset:
        return recovery_step::function_reset;
      default:
        return recovery_step::failed;
    }
  }
  // Resets until the queues work again, or nothing is left to try. Where the step before this one has not led to a
  // single success, it is not tried again.
  void recover_from(recovery_step step, error why) noexcept {
    if (step <= reached_) step = after(reached_);
    for (; why.code != errc::removed && step != recovery_step::failed; step = after(step)) {
      if (step == recovery_step::function_reset && !ResettableFunction<backend_type>) continue;
      reached_ = step;
      notify(step, why);
      const auto up = step == recovery_step::function_reset ? reset_function() : reset_controller();
      if (up) {
        for_each([](detail::supervised_queue& q) noexcept { q.post_waiting(); });
        shared_.progress = false;
        notify(recovery_step::recovered, why);
        return;
      }
      why = up.error();
    }
    last_error_ = why;
    if (why.code == errc::removed) {
      ++shared_.counts.removals;
      close_all(queue_end::removed);
      notify(recovery_step::removed, why);
    } else {
      // The device did not stop: it must not write to the buffers of commands that end now.
      set_bus_master(false);
      close_all(queue_end::abandoned);
      notify(recovery_step::failed, why);
    }
    reached_ = recovery_step::abort;
  }
  [[nodiscard]] result<> reset_controller() noexcept {
    ++shared_.counts.controller_resets;
    return start_again();
  }
  [[nodiscard]] result<> reset_function() noexcept {
    if constexpr (ResettableFunction<backend_type>) {
      ++shared_.counts.function_resets;
      if (const auto reset = controller_->backend().reset(); !reset) return reset;
      return start_again();
    } else {
      return failure(errc::not_supported, "the backend has no function level reset");
    }
  }
  [[nodiscard]] result<> start_again() noexcept {
    const auto up = controller_->reset();
    // Commands of queue pairs that ended are kept, whether or not the controller came up again.
    for_each([](detail::supervised_queue& q) noexcept {
      if (q.pair_end() != queue_end::none) q.collect();
    });
    if (!up) return up;
    shared_.delays = retry_delays::of(controller_->identity());
    for (detail::supervised_queue* q = shared_.first; q != nullptr; q = q->next_) {
      if (q->closed()) continue;
      if (const auto made = q->open_pair(); !made) return made;
    }
    return {};
  }
  void close_all(queue_end why) noexcept {
    shared_.state = why;
    for_each([&](detail::supervised_queue& q) noexcept {
      if (why == queue_end::removed) {
        q.lose_pair();
      } else {
        q.discard_pair();
      }
      q.close(why);
    });
  }
  void set_bus_master(bool on) noexcept {
    if (on && !bus_master_cleared_) return;
    auto&& config = controller_->backend().config();
    const pcie::command_register now{config.read16(pcie::header::command)};
    if (!on && !now[pcie::command_register::bus_master]) return;
    config.write16(pcie::header::command, now.with(pcie::command_register::bus_master, on).raw);
    bus_master_cleared_ = !on;
  }

  Controller* controller_;
  recovery_callback on_event_;
  detail::recovery_shared shared_{};
  std::uint64_t tick_ns_ = 0;
  std::uint64_t last_ = 0;
  std::uint32_t patience_ticks_ = 0;
  unsigned steps_ = 0;
  // The highest step since the last command that succeeded.
  recovery_step reached_ = recovery_step::abort;
  bool busy_ = false;
  bool bus_master_cleared_ = false;
  error last_error_{};
};

}  // namespace phasebit::nvme::driver
