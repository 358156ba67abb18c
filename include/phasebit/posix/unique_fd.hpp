// SPDX-License-Identifier: BSL-1.0
// A file descriptor with one owner.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/os_error.hpp>

#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace phasebit::posix {

// Closes its descriptor at the end of its life. Move-only; empty by default and after a move.
class unique_fd {
 public:
  constexpr unique_fd() noexcept = default;
  // Takes ownership; a negative number is no descriptor.
  constexpr explicit unique_fd(int fd) noexcept : fd_(fd) {}
  constexpr unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~unique_fd() { reset(); }

  [[nodiscard]] constexpr int get() const noexcept { return fd_; }
  constexpr explicit operator bool() const noexcept { return fd_ >= 0; }

  // Releases the descriptor; the caller closes it.
  [[nodiscard]] constexpr int release() noexcept { return std::exchange(fd_, -1); }
  // close() is not repeated on EINTR: Linux has closed it by then, and the number may be in use again.
  void reset(int fd = -1) noexcept {
    const int old = std::exchange(fd_, fd);
    if (old >= 0) ::close(old);
  }

  // A descriptor of its own for the same open file.
  [[nodiscard]] result<unique_fd> duplicate() const noexcept {
    const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return os_error("the file descriptor cannot be duplicated");
    return unique_fd{copy};
  }

 private:
  int fd_ = -1;
};

// Opens a file, close-on-exec. `flags` and `mode` as for open(2). The error's subject is the path.
[[nodiscard]] inline result<unique_fd> open_file(const char* path, int flags,
                                                 unsigned mode = 0) noexcept {
  for (;;) {
    const int fd = ::open(path, flags | O_CLOEXEC, mode);
    if (fd >= 0) return unique_fd{fd};
    if (errno != EINTR) return os_error("the file cannot be opened").of(path);
  }
}

}  // namespace phasebit::posix
