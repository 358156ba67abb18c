// SPDX-License-Identifier: BSL-1.0
// A thread that polls: device sides, queue pairs and sockets of a server are served by pollers on it.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/hosted/mailbox.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <semaphore>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

namespace phasebit::hosted {

class reactor;

// Something that a reactor serves. All calls come from the reactor's thread. poll() does a bounded amount
// of work and returns how much it did; 0 is idle.
//
// Before the reactor sleeps it calls arm(): the poller enables its notifications, then looks for work once
// more, and returns false if there is some or if it cannot be notified. disarm() follows each arm() when
// the reactor runs again. wake_fd() becomes readable on a notification; -1 if there is no descriptor.
class poller {
 public:
  poller() noexcept = default;
  poller(const poller&) = delete;
  poller& operator=(const poller&) = delete;
  virtual ~poller() = default;

  virtual unsigned poll() noexcept = 0;
  [[nodiscard]] virtual bool arm() noexcept { return false; }
  virtual void disarm() noexcept {}
  [[nodiscard]] virtual int wake_fd() const noexcept { return -1; }
};

struct reactor_options {
  std::optional<unsigned> cpu = {};  // pins the thread to this processor
  // How many idle turns pass before the reactor sleeps. Larger values lower the latency of the next
  // request and use more processor time; ~0 never sleeps.
  std::uint32_t idle_turns = 2000;
  // The longest sleep, in milliseconds: the bound for work without a notification.
  std::uint32_t longest_sleep_ms = 100;
};

// The counters of a reactor since its start. Read by any thread; the values are not a consistent
// snapshot.
struct reactor_counters {
  std::uint64_t turns = 0;       // rounds over all pollers
  std::uint64_t busy_turns = 0;  // of these, rounds in which a poller did work
  std::uint64_t sleeps = 0;
  std::uint64_t messages = 0;
};

// Owns one thread. Pollers are served round robin, one call each per turn; messages run between turns.
// Started by start(); the destructor stops it. Neither copied nor moved.
//
// stop() is orderly: it runs every message that post() accepted, calls no poller afterwards, and joins.
class reactor {
 public:
  using message = inplace_callback<reactor&>;

  // Errors: exhausted (threads, descriptors), invalid_argument (a processor that does not exist).
  [[nodiscard]] static result<std::unique_ptr<reactor>> start(
      const reactor_options& options = {}) noexcept {
    posix::unique_fd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!wake) return posix::os_error("the reactor's eventfd cannot be created");
    std::unique_ptr<reactor> made{new (std::nothrow) reactor{options, std::move(wake)}};
    if (made == nullptr) return failure(errc::exhausted, "no memory for a reactor");
    const int started = ::pthread_create(
        &made->thread_, nullptr,
        [](void* self) noexcept -> void* {
          static_cast<reactor*>(self)->run();
          return nullptr;
        },
        made.get());
    if (started != 0) return posix::os_error("the reactor's thread cannot be started", started);
    made->joinable_ = true;
    if (options.cpu) {
      ::cpu_set_t only;
      CPU_ZERO(&only);
      if (*options.cpu < CPU_SETSIZE) CPU_SET(*options.cpu, &only);
      const int pinned = ::pthread_setaffinity_np(made->thread_, sizeof(only), &only);
      if (pinned != 0) {
        return failure(errc::invalid_argument, "the thread cannot be pinned to this processor",
                       *options.cpu);
      }
    }
    return made;
  }

  reactor(const reactor&) = delete;
  reactor& operator=(const reactor&) = delete;
  ~reactor() { stop(); }

  // Any thread. Runs `what` on the reactor's thread. False: the mailbox is full, or the reactor has
  // stopped, and `what` will not run.
  [[nodiscard]] bool post(message what) noexcept {
    if (!mailbox_.post(what)) return false;
    wake();
    return true;
  }

  // Any thread. Runs `what` on the reactor's thread and returns when it has run. Error: cancelled (the
  // reactor has stopped).
  template <class F>
  [[nodiscard]] result<> call(F what) noexcept {
    if (is_current()) {
      what();
      return {};
    }
    struct state {
      F* what;
      std::binary_semaphore done{0};
    } shared{&what};
    for (;;) {
      if (post([&shared](reactor&) noexcept {
            (*shared.what)();
            shared.done.release();
          })) {
        shared.done.acquire();
        return {};
      }
      if (stopped_.load(std::memory_order_acquire)) {
        return failure(errc::cancelled, "the reactor has stopped");
      }
      std::this_thread::yield();  // the mailbox is full
    }
  }

  // Any thread. `served` outlives the reactor or is removed first; it is served when add() has returned.
  // Errors: cancelled, exhausted (no memory).
  [[nodiscard]] result<> add(poller& served) noexcept {
    bool added = false;
    const auto called = call([&]() noexcept { added = insert(served); });
    if (!called) return called;
    if (!added) return failure(errc::exhausted, "no memory for another poller");
    return {};
  }
  // Any thread. No call of `served` runs when remove() has returned; it may be destroyed then.
  void remove(poller& served) noexcept {
    const auto erase = [&]() noexcept { std::erase(pollers_, &served); };
    static_cast<void>(call(erase));  // cancelled: no poller is called after the stop
  }

  // Any thread but the reactor's own; once.
  void stop() noexcept {
    if (!std::exchange(joinable_, false)) return;
    stopping_.store(true, std::memory_order_seq_cst);
    wake();
    ::pthread_join(thread_, nullptr);
  }

  // Any thread. Ends a sleep; call it after storing work for which no descriptor becomes readable.
  void wake() noexcept {
    // Orders the caller's work before the look at sleeping_, as run() orders sleeping_ before its look.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!sleeping_.load(std::memory_order_relaxed)) return;
    const std::uint64_t one = 1;
    static_cast<void>(!::write(wake_.get(), &one, sizeof(one)));  // EAGAIN: it is readable already
  }

  [[nodiscard]] bool is_current() const noexcept { return current() == this; }

  [[nodiscard]] reactor_counters counters() const noexcept {
    return {turns_.load(std::memory_order_relaxed), busy_turns_.load(std::memory_order_relaxed),
            sleeps_.load(std::memory_order_relaxed), messages_.load(std::memory_order_relaxed)};
  }

 private:
  reactor(const reactor_options& options, posix::unique_fd&& wake) noexcept
      : options_(options), wake_(std::move(wake)) {}

  // The reactor whose thread this is.
  [[nodiscard]] static const reactor*& current() noexcept {
    static thread_local const reactor* self = nullptr;
    return self;
  }

  bool insert(poller& served) noexcept {
    try {
      pollers_.push_back(&served);
      descriptors_.reserve(pollers_.size() + 1);
      return true;
    } catch (...) {
      std::erase(pollers_, &served);
      return false;
    }
  }

  static void add_to(std::atomic<std::uint64_t>& counter, std::uint64_t n) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }

  void run() noexcept {
    current() = this;
    std::uint32_t idle = 0;
    while (!stopping_.load(std::memory_order_acquire)) {
      const unsigned messages = mailbox_.run(*this);
      unsigned done = messages;
      // A message of a poller may add or remove pollers: indices, not iterators.
      for (std::size_t i = 0; i < pollers_.size(); ++i) done += pollers_[i]->poll();
      add_to(turns_, 1);
      add_to(messages_, messages);
      if (done != 0) {
        add_to(busy_turns_, 1);
        idle = 0;
      } else if (options_.idle_turns != ~std::uint32_t{0} && ++idle >= options_.idle_turns) {
        sleep();
        idle = 0;
      }
    }
    pollers_.clear();
    mailbox_.close(*this);
    stopped_.store(true, std::memory_order_release);
  }

  void sleep() noexcept {
    sleeping_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    std::size_t armed = 0;
    bool idle = mailbox_.empty() && !stopping_.load(std::memory_order_relaxed);
    for (; idle && armed != pollers_.size(); ++armed) idle = pollers_[armed]->arm();
    if (idle) {
      descriptors_.clear();
      descriptors_.push_back({.fd = wake_.get(), .events = POLLIN, .revents = 0});
      for (const poller* p : pollers_) {
        if (p->wake_fd() >= 0) {
          descriptors_.push_back({.fd = p->wake_fd(), .events = POLLIN, .revents = 0});
        }
      }
      add_to(sleeps_, 1);
      ::poll(descriptors_.data(), int_cast<nfds_t>(descriptors_.size()),
             static_cast<int>(std::min<std::uint32_t>(options_.longest_sleep_ms, 60'000)));
    }
    sleeping_.store(false, std::memory_order_relaxed);
    for (std::size_t i = 0; i != armed; ++i) pollers_[i]->disarm();
    std::uint64_t count = 0;
    static_cast<void>(!::read(wake_.get(), &count, sizeof(count)));
  }

  reactor_options options_;
  posix::unique_fd wake_;
  mailbox<reactor&> mailbox_;
  std::vector<poller*> pollers_;
  std::vector<::pollfd> descriptors_ = std::vector<::pollfd>(1);
  ::pthread_t thread_{};
  bool joinable_ = false;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> stopped_ = false;
  std::atomic<bool> sleeping_ = false;
  std::atomic<std::uint64_t> turns_ = 0;
  std::atomic<std::uint64_t> busy_turns_ = 0;
  std::atomic<std::uint64_t> sleeps_ = 0;
  std::atomic<std::uint64_t> messages_ = 0;
};

}  // namespace phasebit::hosted
