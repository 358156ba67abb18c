// SPDX-License-Identifier: BSL-1.0
// Shared by recovery.hpp and recoverable_queue.hpp: the state of each command that a recoverable queue keeps, and the
// operations that the recovery procedure asks of a queue of any type.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/detail/queue_link.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/driver/retry.hpp>
#include <phasebit/nvme/spec/opcodes.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <cstdint>
#include <span>

namespace phasebit::nvme::driver {

// How much a recovery procedure has done.
struct recovery_counts {
  std::uint64_t aborts = 0;             // Abort commands issued
  std::uint64_t queues_remade = 0;      // queue pairs deleted and made again
  std::uint64_t controller_resets = 0;  // attempts
  std::uint64_t function_resets = 0;    // attempts
  std::uint64_t removals = 0;
  std::uint64_t requeued = 0;  // commands that were posted again, or wait for it
  std::uint64_t failed = 0;    // commands that ended without an answer of the device
};

template <class Controller>
class recovery;

namespace detail {

enum class kept_state : std::uint8_t { free, posted, waiting, finished };

// One command of a recoverable queue, without its data and token.
struct kept_command {
  completion outcome{};
  std::uint64_t due = 0;   // of a waiting command: by the backend's clock
  std::uint32_t tick = 0;  // when it was posted, or aborted
  std::uint16_t command_id = 0;
  std::uint8_t attempts = 0;
  kept_state state = kept_state::free;
  bool repeatable = false;  // may be executed twice
  bool abort_sent = false;
};

// Commands whose second execution leaves what the first one left. Compare-and-write pairs, appends,
// reservations and Copy are not among them.
[[nodiscard]] constexpr bool is_repeatable(const submission_entry& e) noexcept {
  if (e.fuse() != fused::none) return false;
  switch (static_cast<nvm_opcode>(e.opcode())) {
    case nvm_opcode::flush:
    case nvm_opcode::write:
    case nvm_opcode::read:
    case nvm_opcode::compare:
    case nvm_opcode::write_zeroes:
    case nvm_opcode::write_uncorrectable:
    case nvm_opcode::dataset_management:
    case nvm_opcode::verify:
      return true;
    default:
      return false;
  }
}

class supervised_queue;

// The words that a recovery procedure shares with its queues.
struct recovery_shared {
  supervised_queue* first = nullptr;
  void* procedure = nullptr;
  unsigned (*poll)(void* procedure) noexcept = nullptr;
  std::uint64_t (*now)(void* procedure) noexcept = nullptr;
  retry_delays delays{};
  recovery_counts counts{};
  std::uint32_t tick = 0;
  std::uint32_t polling = 0;          // queues inside of their poll()
  std::uint8_t max_retries = 0;       // of each command
  bool progress = false;              // a command has succeeded since this was cleared
  queue_end state = queue_end::none;  // none: running
};

// The base of every recoverable queue. One thread with the procedure and the controller.
class supervised_queue {
 public:
  supervised_queue(const supervised_queue&) = delete;
  supervised_queue& operator=(const supervised_queue&) = delete;

  // Whether the queue takes commands. It stays open while it is recovered.
  [[nodiscard]] bool closed() const noexcept { return end_ != queue_end::none; }
  [[nodiscard]] queue_end end_reason() const noexcept { return end_; }
  // Commands that have not been handed out: posted, waiting to be posted, or ended by recovery.
  [[nodiscard]] unsigned in_flight() const noexcept { return used_; }
  // ... of which this many wait to be posted again.
  [[nodiscard]] unsigned waiting() const noexcept { return waiting_; }

 protected:
  struct operations {
    result<> (*open)(supervised_queue&) noexcept;    // makes the queue pair
    result<> (*remove)(supervised_queue&) noexcept;  // deletes it at the device; keeps the outcomes
    void (*collect)(supervised_queue&) noexcept;     // takes completions; keeps the outcomes
    void (*discard)(supervised_queue&) noexcept;     // ends the pair without asking the device
    void (*lost)(supervised_queue&) noexcept;        // the same, of a device that is gone
    submitted (*post)(supervised_queue&, unsigned index) noexcept;
    void (*ring)(supervised_queue&) noexcept;
    queue_end (*pair_end)(const supervised_queue&) noexcept;
    result<> (*health)(const supervised_queue&) noexcept;
    std::uint16_t (*qid)(const supervised_queue&) noexcept;
    void (*ended)(supervised_queue&) noexcept;  // reports the end to a layer above
  };

  supervised_queue(const operations& ops, std::span<kept_command> commands) noexcept
      : ops_(&ops), commands_(commands) {}
  ~supervised_queue() { leave(); }

  void join(recovery_shared& shared) noexcept {
    shared_ = &shared;
    next_ = shared.first;
    shared.first = this;
  }
  void leave() noexcept {
    if (shared_ == nullptr) return;
    supervised_queue** at = &shared_->first;
    while (*at != this) at = &(*at)->next_;
    *at = next_;
    shared_ = nullptr;
    next_ = nullptr;
  }

  // An answer of the device. True: the command has ended with it; false: it is posted again later.
  [[nodiscard]] bool settle(kept_command& k, completion c) noexcept {
    k.outcome = c;
    if (c.ok()) {
      shared_->progress = true;
      return true;
    }
    const nvme::status s = c.status();
    if (s.dnr() || k.attempts > shared_->max_retries) return true;
    if (const auto delay = shared_->delays.delay_ns(s)) {
      wait_until(k, shared_->now(shared_->procedure) + *delay);
      return false;
    }
    const bool ours = s == status_code::aborted_queue_deletion ||
                      (k.abort_sent && s == status_code::abort_requested);
    if (!ours || !k.repeatable) return true;
    wait_until(k, 0);
    return false;
  }
  // The device has let go of the command without an answer. True and false as above.
  [[nodiscard]] bool lose(kept_command& k) noexcept {
    const bool dead = shared_ == nullptr || shared_->state != queue_end::none;
    if (!dead && k.repeatable && k.attempts <= shared_->max_retries) {
      wait_until(k, 0);
      return false;
    }
    k.outcome = completion{k.command_id, status_code::aborted_by_host};
    if (shared_ != nullptr) ++shared_->counts.failed;
    return true;
  }
  void wait_until(kept_command& k, std::uint64_t due) noexcept {
    k.state = kept_state::waiting;
    k.due = due;
    k.abort_sent = false;
    ++waiting_;
    ++shared_->counts.requeued;
  }
  // An outcome that the next poll() hands out.
  void keep(kept_command& k) noexcept {
    k.state = kept_state::finished;
    ++finished_;
  }
  void note_posted(kept_command& k, std::uint16_t command_id) noexcept {
    k.state = kept_state::posted;
    k.command_id = command_id;
    k.tick = shared_->tick;
    ++k.attempts;
  }

  template <class Controller>
  friend class driver::recovery;

  // For the procedure.
  [[nodiscard]] result<> open_pair() noexcept { return ops_->open(*this); }
  [[nodiscard]] result<> remove_pair() noexcept { return ops_->remove(*this); }
  void collect() noexcept { ops_->collect(*this); }
  void discard_pair() noexcept { ops_->discard(*this); }
  void lose_pair() noexcept { ops_->lost(*this); }
  [[nodiscard]] queue_end pair_end() const noexcept { return ops_->pair_end(*this); }
  [[nodiscard]] result<> pair_health() const noexcept { return ops_->health(*this); }
  [[nodiscard]] std::uint16_t pair_qid() const noexcept { return ops_->qid(*this); }
  [[nodiscard]] std::span<kept_command> commands() noexcept { return commands_; }

  // Posts the waiting commands whose time has come, as long as there is a queue pair.
  void post_waiting() noexcept {
    if (waiting_ == 0 || shared_ == nullptr || pair_end() != queue_end::none) return;
    const std::uint64_t now = shared_->now(shared_->procedure);
    for (std::uint32_t i = 0; i != commands_.size() && waiting_ != 0; ++i) {
      kept_command& k = commands_[i];
      if (k.state != kept_state::waiting || k.due > now) continue;
      const submitted posted = ops_->post(*this, i);
      if (posted.status == submit_status::full || posted.status == submit_status::closed) break;
      --waiting_;
      if (posted) {
        note_posted(k, posted.command_id);
      } else {
        k.outcome = completion{k.command_id, posted.reason == errc::not_ready
                                                 ? status_code::invalid_namespace_or_format
                                                 : status_code::invalid_field};
        keep(k);
      }
    }
    ops_->ring(*this);
  }
  // No command is posted any more: what waits ends, and layers above are notified.
  void close(queue_end why) noexcept {
    if (closed()) return;
    end_ = why;
    for (kept_command& k : commands_) {
      if (k.state != kept_state::waiting) continue;
      --waiting_;
      k.outcome = completion{k.command_id, status_code::aborted_by_host};
      if (shared_ != nullptr) ++shared_->counts.failed;
      keep(k);
    }
    ops_->ended(*this);
  }
  void reopen() noexcept { end_ = queue_end::none; }

  const operations* ops_;
  std::span<kept_command> commands_;
  recovery_shared* shared_ = nullptr;
  supervised_queue* next_ = nullptr;
  unsigned used_ = 0;
  unsigned waiting_ = 0;
  unsigned finished_ = 0;
  queue_end end_ = queue_end::never_made;
};

}  // namespace detail
}  // namespace phasebit::nvme::driver
