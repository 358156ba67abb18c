// SPDX-License-Identifier: BSL-1.0
// The answer of a queue to a command that it was asked to post.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/nvme/prp/types.hpp>

#include <cstdint>

namespace phasebit::nvme::driver {

enum class submit_status : std::uint8_t {
  posted,   // in the ring; the device sees it after ring()
  queued,   // kept in software until the ring has a free entry (only by queues that offer it)
  full,     // as many commands in flight as the queue holds: poll, then try again
  refused,  // cannot be expressed or is not allowed; nothing was posted; `what` is the reason
  closed,   // the queue does not work any more; `what` names the event that ended it
};

// Sixteen bytes, returned in registers. True where the command will complete.
struct [[nodiscard]] submitted {
  const char* what = "";  // of a refusal: a sentence
  submit_status status = submit_status::refused;
  errc reason = errc::invalid_argument;
  std::uint16_t command_id = 0;  // of a posted command
  std::uint32_t index = 0;       // of the segment of the scatter list at fault

  constexpr explicit operator bool() const noexcept {
    return status == submit_status::posted || status == submit_status::queued;
  }

  [[nodiscard]] static constexpr submitted as_posted(std::uint16_t id) noexcept {
    return {.status = submit_status::posted, .command_id = id};
  }
  [[nodiscard]] static constexpr submitted as_full() noexcept {
    return {.what = "as many commands are in flight as the queue holds",
            .status = submit_status::full,
            .reason = errc::busy};
  }
  [[nodiscard]] static constexpr submitted as_refused(errc why, const char* what,
                                                      std::uint32_t which = 0) noexcept {
    return {.what = what, .status = submit_status::refused, .reason = why, .index = which};
  }
  [[nodiscard]] static constexpr submitted as_refused(const prp::build_result& built) noexcept {
    return as_refused(built.reason, built.what, built.index);
  }
  // `what` names the event that ended the queue.
  [[nodiscard]] static constexpr submitted as_closed(const char* what) noexcept {
    return {.what = what, .status = submit_status::closed, .reason = errc::removed};
  }

  // Of a command that was not taken.
  [[nodiscard]] constexpr error as_error() const noexcept {
    return failure(reason, what).at(index);
  }
};
static_assert(sizeof(submitted) <= 24);

}  // namespace phasebit::nvme::driver
