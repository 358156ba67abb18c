// SPDX-License-Identifier: BSL-1.0
// What a queue says of a command that it was asked to post.
#pragma once

#include <phasebit/core/error.hpp>

#include <cstdint>

namespace phasebit::nvme::driver {

enum class submit_status : std::uint8_t {
  posted,   // in the ring; the device learns of it at ring()
  queued,   // kept in software until a place in the ring is free (only by queues that say so)
  full,     // as many commands in flight as the queue holds: poll, then try again
  refused,  // can not be expressed or is not allowed; nothing was posted; `reason` says why
  closed,   // the queue's device is gone or was reset
};

// Sixteen bytes, so that it is returned in registers. True where the command will complete.
struct [[nodiscard]] submitted {
  const char* what = "";  // of a refusal: a sentence
  submit_status status = submit_status::refused;
  errc reason = errc::invalid_argument;
  std::uint16_t command_id = 0;  // of a posted command
  std::uint32_t piece = 0;       // the piece of the scatter list at fault

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
    return {.what = what, .status = submit_status::refused, .reason = why, .piece = which};
  }
  [[nodiscard]] static constexpr submitted as_closed() noexcept {
    return {.what = "the queue was deleted, or its device is gone or was reset",
            .status = submit_status::closed,
            .reason = errc::removed};
  }

  // Of a command that was not taken.
  [[nodiscard]] constexpr error as_error() const noexcept {
    return failure(reason, what).at(piece);
  }
};

}  // namespace phasebit::nvme::driver
