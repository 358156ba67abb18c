// SPDX-License-Identifier: BSL-1.0
// Errors of the operating system as phasebit::error.
#pragma once

#include <phasebit/core/error.hpp>

#include <cerrno>
#include <cstdint>

namespace phasebit::posix {

// The kind of failure that an errno stands for; errc::io where no kind is more specific.
[[nodiscard]] constexpr errc errc_of(int number) noexcept {
  switch (number) {
    case EPERM:
    case EACCES:
    case EROFS:
      return errc::permission;
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ESRCH:
      return errc::not_found;
    case EEXIST:
      return errc::already_exists;
    case EBUSY:
    case EADDRINUSE:
    case ETXTBSY:
      return errc::busy;
    case ENOMEM:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
      return errc::exhausted;
    case EOVERFLOW:
      return errc::overflow;
    case ENOTSUP:
    case ENOSYS:
    case ENOTTY:
      return errc::not_supported;
    case ETIMEDOUT:
      return errc::timed_out;
    case ECANCELED:
      return errc::cancelled;
    default:
      return errc::io;
  }
}

// `what` is a literal that names the attempt ("the device file cannot be opened"); `value` of the
// error is `number`, an errno. Call it before anything else can change errno.
[[nodiscard]] constexpr error os_error(const char* what, int number) noexcept {
  error e = failure(errc_of(number), what, static_cast<std::uint32_t>(number));
  e.value_is_errno = true;
  return e;
}
[[nodiscard]] inline error os_error(const char* what) noexcept { return os_error(what, errno); }

}  // namespace phasebit::posix
