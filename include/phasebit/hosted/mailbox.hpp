// SPDX-License-Identifier: BSL-1.0
// Messages to a thread: a bounded lock-free queue of small function objects.
#pragma once

#include <phasebit/core/callback.hpp>

#include <atomic>
#include <cstddef>
#include <thread>

#include <boost/lockfree/queue.hpp>

namespace phasebit::hosted {

// Functions that one thread runs and any number of threads post. A message is a callable of up to three
// pointers, copied bytewise. Capacity is fixed; a full mailbox refuses a message. Messages of one thread
// run in the order in which it posted them.
//
// close() ends the mailbox without a lost message: post() returned true exactly for the messages that run.
template <class Argument, std::size_t Capacity = 1024>
class mailbox {
 public:
  using message = inplace_callback<Argument>;

  // Any thread. False: the mailbox is full or closed, and the message will not run.
  [[nodiscard]] bool post(message what) noexcept {
    posters_.fetch_add(1, std::memory_order_seq_cst);
    const bool taken = !closed_.load(std::memory_order_seq_cst) && messages_.bounded_push(what);
    posters_.fetch_sub(1, std::memory_order_release);
    return taken;
  }

  // The receiving thread only. Runs at most `limit` messages; returns how many.
  unsigned run(Argument argument, unsigned limit = 64) noexcept {
    unsigned count = 0;
    message next;
    while (count != limit && messages_.pop(next)) {
      ++count;
      next(argument);
    }
    return count;
  }

  [[nodiscard]] bool empty() const noexcept { return messages_.empty(); }

  // The receiving thread only. Refuses further messages and runs those that were accepted.
  void close(Argument argument) noexcept {
    closed_.store(true, std::memory_order_seq_cst);
    while (posters_.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
    while (run(argument) != 0) {
    }
  }

 private:
  boost::lockfree::queue<message, boost::lockfree::capacity<Capacity>> messages_;
  std::atomic<unsigned> posters_ = 0;
  std::atomic<bool> closed_ = false;
};

}  // namespace phasebit::hosted
