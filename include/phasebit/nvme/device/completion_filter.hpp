// SPDX-License-Identifier: BSL-1.0
// The last station of a completion before it is posted: where a fault plan loses, delays, repeats
// or falsifies it. A controller without one posts directly, and nothing of this is in its code.
#pragma once

#include <phasebit/nvme/spec/completion.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::nvme::device {

// A completion before it is posted, and its destination. The phase bit in `entry` selects the phase
// that is written: 0 the one that the ring requires, 1 the inverted one, so that the host takes the
// entry for an old one. `entry.sq_head` is the index up to which the host may reuse the submission
// queue.
struct outgoing_completion {
  std::uint16_t completion_queue = 0;
  completion_entry entry{};
};

namespace detail {

// Stands for the controller's own `post` where concepts are checked.
struct any_post {
  bool operator()(const outgoing_completion&) const noexcept { return true; }
};

}  // namespace detail

// complete(c, post) is called once for each completion, and poll(post) once for each round of the
// controller, before new commands are fetched; both call post(c) as often as they like, at once or
// later. post returns false where the queue is full: nothing was posted, and it is the filter that
// keeps or loses the entry. For a queue that is gone it swallows the entry and returns true.
// reset() is called when the controller is disabled: what is held back is dropped then.
// All three by the thread that polls, or that writes the register that disables the controller.
template <class T>
concept CompletionFilter =
    requires(T& filter, const outgoing_completion& c, detail::any_post post) {
      { filter.complete(c, post) } noexcept -> std::same_as<void>;
      { filter.poll(post) } noexcept -> std::same_as<void>;
      { filter.reset() } noexcept -> std::same_as<void>;
    };

// Every completion as it is.
struct pass_completions {
  template <class Post>
  static void complete(const outgoing_completion& c, Post&& post) noexcept {
    // There is space in the queue: the controller fetches no command that it could not complete.
    static_cast<void>(post(c));
  }
  template <class Post>
  static void poll(Post&&) noexcept {}
  static void reset() noexcept {}
};
static_assert(CompletionFilter<pass_completions>);

}  // namespace phasebit::nvme::device
