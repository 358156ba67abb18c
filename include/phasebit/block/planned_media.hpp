// SPDX-License-Identifier: BSL-1.0
// Asynchronous media for tests and fault injection: a plan decides when, in which order and with
// which status operations complete, or that they never do.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/block/null_media.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::block {

// The planned outcome of one operation.
struct media_fate {
  static constexpr std::uint32_t held = 0xffff'ffff;

  std::uint32_t delay = 0;  // polls before it is delivered; `held`: until release()
  media_status status = media_status::good;  // other than good: it has no effect and ends like this
  bool busy = false;            // submit() answers busy; asked again at the next attempt
  bool at_once = false;         // submit() answers done
  bool ignores_cancel = false;  // cancel() has no effect on it
};

// A plan is queried once for each submit(); `sequence` counts them from 0.
template <class T>
concept MediaPlan = requires(T& plan, const media_request& request, std::uint64_t sequence) {
  { plan(request, sequence) } noexcept -> std::same_as<media_fate>;
};

// Every operation is delivered by the next poll.
struct next_poll_plan {
  constexpr media_fate operator()(const media_request&, std::uint64_t) const noexcept { return {}; }
};
static_assert(MediaPlan<next_poll_plan>);

// Delays of 0 to `longest` polls, and each fault once in so many operations (0: never).
struct random_media_plan {
  std::uint64_t state = 1;
  std::uint32_t longest = 8;
  std::uint32_t fail_one_in = 0;
  std::uint32_t busy_one_in = 0;
  std::uint32_t hold_one_in = 0;
  std::uint32_t at_once_one_in = 0;
  std::uint32_t ignore_cancel_one_in = 0;

  constexpr media_fate operator()(const media_request& r, std::uint64_t) noexcept {
    media_fate fate{.delay = draw() % (longest + 1)};
    if (hit(fail_one_in)) {
      fate.status = r.operation == media_operation::read ? media_status::read_failed
                                                         : media_status::write_failed;
    }
    fate.busy = hit(busy_one_in);
    fate.at_once = hit(at_once_one_in);
    fate.ignores_cancel = hit(ignore_cancel_one_in);
    if (hit(hold_one_in)) fate.delay = media_fate::held;
    return fate;
  }

 private:
  constexpr std::uint32_t draw() noexcept {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::uint32_t>(state >> 33);
  }
  constexpr bool hit(std::uint32_t one_in) noexcept { return one_in != 0 && draw() % one_in == 0; }
};
static_assert(MediaPlan<random_media_plan>);

// An operation in flight; an array of these is the memory of a planned_media.
struct planned_operation {
  media_request request{};
  media_tag tag = 0;
  std::uint64_t sequence = 0;
  media_fate fate{};
  bool used = false;
  bool cancelled = false;
};

// Keeps its blocks in `Media` and at most operations.size() requests in flight, more are busy. Data
// moves when an operation is delivered, not before: a buffer that is reused too early shows. Keeps
// references to the media and the array. One thread at a time.
template <BlockMedia Media, MediaPlan Plan = next_poll_plan>
class planned_media {
 public:
  planned_media(Media& media, std::span<planned_operation> operations, Plan plan = {}) noexcept
      : blocks_(media), media_(&media), operations_(operations), plan_(plan) {
    PHASEBIT_EXPECTS(!operations.empty(), "planned media hold one operation at least");
    for (planned_operation& o : operations_) o = planned_operation{};
  }

  [[nodiscard]] std::uint32_t block_size() const noexcept { return media_->block_size(); }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return media_->block_count(); }
  [[nodiscard]] bool read_only() const noexcept { return block::read_only(*media_); }
  [[nodiscard]] bool reaches(memory_domain domain) const noexcept { return domain == reachable_; }

  [[nodiscard]] media_answer submit(const media_request& request, media_tag tag) noexcept {
    const std::uint64_t sequence = submitted_;
    const media_fate fate = plan_(request, sequence);
    ++submitted_;
    if (fate.busy) return media_answer::busy();
    if (fate.at_once) {
      ++delivered_;
      return media_answer::done(perform(request, fate.status));
    }
    planned_operation* const o = free_slot(tag);
    if (o == nullptr) return media_answer::busy();
    *o = {.request = request, .tag = tag, .sequence = sequence, .fate = fate, .used = true};
    ++in_flight_;
    return media_answer::pending();
  }

  // Delivers what is due. An operation that is submitted from the sink is due at the next poll.
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    if (in_flight_ == 0) return 0;
    std::size_t count = 0;
    const std::uint64_t before = submitted_;
    for (planned_operation& o : operations_) {
      if (!o.used || o.sequence >= before) continue;
      const bool ends_cancelled = o.cancelled && !o.fate.ignores_cancel;
      if (!ends_cancelled) {
        if (o.fate.delay == media_fate::held) continue;
        if (o.fate.delay != 0) {
          --o.fate.delay;
          continue;
        }
      }
      deliver(o, ends_cancelled ? media_status::cancelled : o.fate.status, sink);
      ++count;
    }
    return count;
  }

  void cancel(media_tag tag) noexcept {
    planned_operation& likely = operations_[preferred(tag)];
    if (likely.used && likely.tag == tag) {
      likely.cancelled = true;
      return;
    }
    for (planned_operation& o : operations_) {
      if (o.used && o.tag == tag) o.cancelled = true;
    }
  }
  [[nodiscard]] bool drained() const noexcept { return in_flight_ == 0; }

  // -- for the test --

  // Lets the `index`-th oldest operation in flight be delivered by the next poll, with this status.
  // False where there are fewer.
  bool release(std::size_t index = 0, media_status status = media_status::good) noexcept {
    planned_operation* const o = oldest(index);
    if (o == nullptr) return false;
    o->fate = {.delay = 0, .status = status};
    o->cancelled = false;
    return true;
  }
  void release_all() noexcept {
    for (planned_operation& o : operations_) {
      if (o.used && o.fate.delay == media_fate::held) o.fate.delay = 0;
    }
  }
  // The one domain that segments may name; its addresses are pointers too. With another than
  // `local`, every transfer of a host in this process goes through the device side's buffers.
  void set_reachable(memory_domain domain) noexcept { reachable_ = domain; }

  [[nodiscard]] const planned_operation* in_flight(std::size_t index) const noexcept {
    return const_cast<planned_media*>(this)->oldest(index);
  }
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  [[nodiscard]] std::uint64_t submitted() const noexcept { return submitted_; }
  [[nodiscard]] std::uint64_t delivered() const noexcept { return delivered_; }
  [[nodiscard]] std::uint64_t flushes() const noexcept { return flushes_; }
  [[nodiscard]] std::uint64_t forced_writes() const noexcept { return forced_writes_; }
  [[nodiscard]] Plan& plan() noexcept { return plan_; }

 private:
  // Tags of a device side mostly differ in their low bits: thousands of them are found at once.
  [[nodiscard]] std::size_t preferred(media_tag tag) const noexcept {
    return static_cast<std::uint32_t>(tag) % operations_.size();
  }
  [[nodiscard]] planned_operation* free_slot(media_tag tag) noexcept {
    if (in_flight_ == operations_.size()) return nullptr;
    std::size_t at = preferred(tag);
    while (operations_[at].used) at = at + 1 < operations_.size() ? at + 1 : 0;
    return &operations_[at];
  }
  [[nodiscard]] planned_operation* oldest(std::size_t index) noexcept {
    planned_operation* found = nullptr;
    std::uint64_t above = 0;
    for (std::size_t round = 0; round <= index; ++round) {
      found = nullptr;
      for (planned_operation& o : operations_) {
        if (o.used && o.sequence >= above && (found == nullptr || o.sequence < found->sequence)) {
          found = &o;
        }
      }
      if (found == nullptr) return nullptr;
      above = found->sequence + 1;
    }
    return found;
  }
  [[nodiscard]] media_status perform(const media_request& request, media_status status) noexcept {
    if (status != media_status::good) return status;
    flushes_ += request.operation == media_operation::flush ? 1U : 0U;
    forced_writes_ += request.fua ? 1U : 0U;
    return blocks_.submit(request, 0).status();
  }
  template <class Sink>
  void deliver(planned_operation& o, media_status status, Sink& sink) noexcept {
    const media_status ended = perform(o.request, status);
    const media_tag tag = o.tag;
    o.used = false;
    --in_flight_;
    ++delivered_;
    sink(tag, ended);
  }

  immediate_media<Media> blocks_;
  Media* media_;
  std::span<planned_operation> operations_;
  Plan plan_;
  std::size_t in_flight_ = 0;
  std::uint64_t submitted_ = 0;
  std::uint64_t delivered_ = 0;
  std::uint64_t flushes_ = 0;
  std::uint64_t forced_writes_ = 0;
  memory_domain reachable_ = memory_domain::local;
};

static_assert(AsyncBlockMedia<planned_media<null_media>> &&
              !ImmediateMedia<planned_media<null_media>>);

}  // namespace phasebit::block
