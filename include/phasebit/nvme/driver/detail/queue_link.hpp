// SPDX-License-Identifier: BSL-1.0
// The link between a controller and the queue objects that it created. Each is notified of the
// other's end: when one moves or is destroyed, it updates the other.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>

#include <cstdint>
#include <utility>

namespace phasebit::nvme::driver {

struct handover_access;  // handover.hpp

// Why a queue does not work (any more).
enum class queue_end : std::uint8_t {
  none,
  never_made,
  moved,
  deleted,
  reset,
  detached,
  abandoned,
  removed,
  handed_over
};

[[nodiscard]] constexpr const char* text(queue_end why) noexcept {
  switch (why) {
    case queue_end::none:
      return "";
    case queue_end::never_made:
      return "the queue was never created";
    case queue_end::moved:
      return "the queue was moved to another object";
    case queue_end::deleted:
      return "the queue was deleted";
    case queue_end::reset:
      return "the queue's controller was reset: create the queue again";
    case queue_end::detached:
      return "the queue's controller was detached";
    case queue_end::abandoned:
      return "the queue's controller was detached and did not stop: the device may still use "
             "memory";
    case queue_end::removed:
      return "the queue's controller is gone: its registers read all ones";
    case queue_end::handed_over:
      return "the queue was handed over to another process";
  }
  return "";
}

namespace detail {

class queue_link;

// The operations that a queue needs of its controller, whatever its type.
struct controller_calls {
  result<> (*delete_queue)(void* controller, queue_link& queue) noexcept;
  result<> (*check)(void* controller) noexcept;
  bool (*poll_until)(void* controller, std::uint64_t nanoseconds, bool (*done)(void*) noexcept,
                     void* argument) noexcept;
};

// The list of a controller's queues. One thread at a time.
class queue_registry {
 public:
  queue_registry() noexcept = default;
  queue_registry(void* controller, const controller_calls& calls) noexcept
      : controller_(controller), calls_(&calls) {}
  queue_registry(const queue_registry&) = delete;
  queue_registry& operator=(const queue_registry&) = delete;

  // Takes over the other's queues, for a controller that has moved to `controller`.
  inline void take_over(queue_registry& other, void* controller) noexcept;
  // Ends every queue; `why` is what its later uses report.
  inline void end_all(queue_end why) noexcept;
  inline queue_link* find(std::uint16_t qid) const noexcept;
  // Calls each(queue_link&).
  template <class Each>
  inline void for_each(Each&& each) noexcept;

 private:
  friend class queue_link;

  void* controller_ = nullptr;
  const controller_calls* calls_ = nullptr;
  queue_link* first_ = nullptr;
};

// The base of every queue object: its place in the list, its identity, and two words that the
// controller's thread writes and the queue's thread reads.
class queue_link {
 public:
  queue_link(const queue_link&) = delete;

  // Identifies the queue among all that its controller ever made.
  [[nodiscard]] std::uint16_t qid() const noexcept { return qid_; }
  [[nodiscard]] std::uint32_t generation() const noexcept { return generation_; }
  [[nodiscard]] bool closed() const noexcept { return end_ != queue_end::none; }
  [[nodiscard]] queue_end end_reason() const noexcept { return end_; }

 protected:
  using end_function = void (*)(queue_link&, queue_end) noexcept;
  using poll_function = void (*)(queue_link&) noexcept;

  queue_link() noexcept = default;
  queue_link(std::uint16_t qid, end_function on_end, poll_function on_poll) noexcept
      : on_end_(on_end), on_poll_(on_poll), qid_(qid), end_(queue_end::none) {}
  ~queue_link() { leave(); }

  void join(queue_registry& registry, std::uint32_t generation) noexcept {
    generation_ = generation;
    registry_ = &registry;
    next_ = registry.first_;
    if (next_ != nullptr) next_->previous_ = this;
    registry.first_ = this;
  }
  void leave() noexcept {
    if (registry_ == nullptr) return;
    if (previous_ != nullptr) {
      previous_->next_ = next_;
    } else {
      registry_->first_ = next_;
    }
    if (next_ != nullptr) next_->previous_ = previous_;
    registry_ = nullptr;
    next_ = previous_ = nullptr;
  }
  // Takes the other's place in the list and its identity, and leaves it ended.
  void take_place_of(queue_link& other) noexcept {
    leave();
    qid_ = other.qid_;
    generation_ = other.generation_;
    namespaces_ = other.namespaces_;
    short_way_blocks_ = std::exchange(other.short_way_blocks_, 0U);
    end_ = other.end_;
    on_end_ = other.on_end_;
    on_poll_ = other.on_poll_;
    if (queue_registry* const registry = other.registry_; registry != nullptr) {
      other.leave();
      join(*registry, generation_);
    }
    other.end_ = queue_end::moved;
  }

  // Of a queue with a controller only.
  [[nodiscard]] bool has_controller() const noexcept { return registry_ != nullptr; }
  [[nodiscard]] result<> ask_for_deletion() noexcept {
    return registry_->calls_->delete_queue(registry_->controller_, *this);
  }
  [[nodiscard]] result<> ask_whether_well() noexcept {
    return registry_->calls_->check(registry_->controller_);
  }
  template <class Done>
  [[nodiscard]] bool poll_until(std::uint64_t nanoseconds, Done&& done) noexcept {
    return registry_->calls_->poll_until(
        registry_->controller_, nanoseconds,
        [](void* f) noexcept { return (*static_cast<std::remove_reference_t<Done>*>(f))(); },
        &done);
  }

  // The count of namespace changes that the controller has seen, or that it is gone; the controller's
  // thread writes it.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE std::uint32_t namespaces() const noexcept {
    return thread_order::load(namespaces_);
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool gone() const noexcept {
    return namespaces() == no_controller;
  }
  // Blocks that a read or write without further questions may have. The queue's thread sets it, and the
  // controller's thread sets it to 0 when there are questions.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE std::uint32_t short_way_blocks() const noexcept {
    return thread_order::load_relaxed(short_way_blocks_);
  }
  void set_short_way(std::uint32_t blocks, std::uint32_t generation) noexcept {
    thread_order::store_relaxed(short_way_blocks_, blocks);
    thread_order::full();
    if (namespaces() != generation) thread_order::store_relaxed(short_way_blocks_, 0U);
  }
  void set_end(queue_end why) noexcept { end_ = why; }

 private:
  friend class queue_registry;
  friend handover_access;

 public:
  // For the controller. Ends the queue: by its own thread, or while no other thread is inside of it.
  void end(queue_end why) noexcept {
    if (on_end_ != nullptr && end_ == queue_end::none) on_end_(*this, why);
  }
  // Takes completions where the queue itself can deliver them.
  void poll_own() noexcept {
    if (on_poll_ != nullptr) on_poll_(*this);
  }
  void forget_controller() noexcept { leave(); }
  [[nodiscard]] bool belongs_to(const queue_registry& registry) const noexcept {
    return registry_ == &registry;
  }
  // These two may be called while another thread uses the queue.
  void note_namespaces(std::uint32_t generation) noexcept {
    if (gone()) return;
    end_short_way(generation);
  }
  void note_gone() noexcept { end_short_way(no_controller); }

 private:
  static constexpr std::uint32_t no_controller = ~0U;

  // Against set_short_way(): either that sees the new generation, or its bound is overwritten here. C++ needs the
  // barrier in both; the processors need the other's alone.
  void end_short_way(std::uint32_t generation) noexcept {
    thread_order::store(namespaces_, generation);
    thread_order::full();
    thread_order::store_relaxed(short_way_blocks_, 0U);
  }

  queue_registry* registry_ = nullptr;
  queue_link* next_ = nullptr;
  queue_link* previous_ = nullptr;
  end_function on_end_ = nullptr;
  poll_function on_poll_ = nullptr;
  std::uint32_t generation_ = 0;
  std::uint32_t namespaces_ = 0;
  std::uint32_t short_way_blocks_ = 0;
  std::uint16_t qid_ = 0;
  queue_end end_ = queue_end::never_made;
};

inline void queue_registry::take_over(queue_registry& other, void* controller) noexcept {
  controller_ = controller;
  calls_ = other.calls_;
  first_ = std::exchange(other.first_, nullptr);
  for (queue_link* q = first_; q != nullptr; q = q->next_) q->registry_ = this;
}
inline void queue_registry::end_all(queue_end why) noexcept {
  // A callback of one queue may destroy another: begin at the front each time.
  while (queue_link* const q = first_) {
    q->leave();
    q->end(why);
  }
}
inline queue_link* queue_registry::find(std::uint16_t qid) const noexcept {
  queue_link* q = first_;
  while (q != nullptr && q->qid_ != qid) q = q->next_;
  return q;
}
template <class Each>
inline void queue_registry::for_each(Each&& each) noexcept {
  for (queue_link* q = first_; q != nullptr; q = q->next_) each(*q);
}

}  // namespace detail
}  // namespace phasebit::nvme::driver
