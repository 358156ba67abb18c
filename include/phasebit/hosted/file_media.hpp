// SPDX-License-Identifier: BSL-1.0
// A disk in a file or a block device of this machine.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/core/result.hpp>

#include <cerrno>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace phasebit::hosted {

struct file_media_options {
  std::uint32_t block_size = block::min_block_size;
  bool read_only = false;
  // Fewer blocks than this in the file are an error.
  std::uint64_t least_blocks = 1;
};

// Owns its descriptor; move-only. Bytes beyond the last whole block are not used. Different blocks
// may be accessed by several threads at once. Blocks the caller during system calls.
class file_media {
 public:
  // Errors name the path: not_found, permission (not readable, or not writable and read_only not
  // requested), out_of_range (too small), invalid_argument (block size, or not something that holds
  // blocks), io.
  [[nodiscard]] static result<file_media> open(const std::string& path,
                                               const file_media_options& options = {}) noexcept {
    if (!block::is_block_size(options.block_size)) {
      return failure(errc::invalid_argument, "a block size is a power of two from 512 to 4096",
                     options.block_size)
          .of(path);
    }
    const int mode = options.read_only ? O_RDONLY : O_RDWR;
    file_media media{::open(path.c_str(), mode | O_CLOEXEC), options};
    if (media.fd_ < 0) return open_failed(path, options);
    const auto bytes = media.find_size();
    if (!bytes) return bytes.error().of(path);
    media.blocks_ = *bytes >> media.shift_;
    if (media.blocks_ < options.least_blocks) {
      return failure(errc::out_of_range, "the image is too small; its size in bytes is", *bytes)
          .of(path);
    }
    return media;
  }

  // A new file of `bytes` zeros, or an old one cut or extended to that size, then opened.
  [[nodiscard]] static result<file_media> create(const std::string& path, std::uint64_t bytes,
                                                 const file_media_options& options = {}) noexcept {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return open_failed(path, options);
    const int cut = ::ftruncate(fd, static_cast<off_t>(bytes));
    const int reason = errno;
    ::close(fd);
    if (cut != 0) return failure(errc::io, "the file does not take this size", io(reason)).of(path);
    return open(path, options);
  }

  file_media(file_media&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        shift_(other.shift_),
        blocks_(other.blocks_),
        read_only_(other.read_only_) {}
  file_media& operator=(file_media&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
      shift_ = other.shift_;
      blocks_ = other.blocks_;
      read_only_ = other.read_only_;
    }
    return *this;
  }
  ~file_media() { close(); }

  [[nodiscard]] std::uint32_t block_size() const noexcept { return 1U << shift_; }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return blocks_; }
  [[nodiscard]] bool read_only() const noexcept { return read_only_; }
  // For other ways to the same file, such as io_uring; closed with this object.
  [[nodiscard]] int descriptor() const noexcept { return fd_; }

  [[nodiscard]] block::media_status read(std::uint64_t lba, std::span<std::byte> to) noexcept {
    if (!block::in_range(*this, lba, to.size() >> shift_)) return out_of_range;
    return whole(to, lba, block::media_status::read_failed,
                 [this](std::span<std::byte> remaining, off_t at) noexcept {
                   return ::pread(fd_, remaining.data(), remaining.size(), at);
                 });
  }
  [[nodiscard]] block::media_status write(std::uint64_t lba,
                                          std::span<const std::byte> from) noexcept {
    if (!block::in_range(*this, lba, from.size() >> shift_)) return out_of_range;
    if (read_only_) return block::media_status::read_only;
    return whole(from, lba, block::media_status::write_failed,
                 [this](std::span<const std::byte> remaining, off_t at) noexcept {
                   return ::pwrite(fd_, remaining.data(), remaining.size(), at);
                 });
  }
  [[nodiscard]] block::media_status flush() noexcept {
    if (read_only_ || ::fdatasync(fd_) == 0) return block::media_status::good;
    return block::media_status::write_failed;
  }
  // Gives the space back to the file system where that can; trimmed blocks then read as zeros.
  [[nodiscard]] block::media_status trim(std::uint64_t lba, std::uint64_t blocks) noexcept {
    if (!block::in_range(*this, lba, blocks)) return out_of_range;
    if (read_only_) return block::media_status::read_only;
    if (blocks == 0) return block::media_status::good;
    return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, lba, blocks);
  }
  [[nodiscard]] block::media_status write_zeroes(std::uint64_t lba, std::uint64_t blocks) noexcept {
    if (!block::in_range(*this, lba, blocks)) return out_of_range;
    if (read_only_) return block::media_status::read_only;
    if (blocks == 0) return block::media_status::good;
    return allocate(FALLOC_FL_ZERO_RANGE, lba, blocks);
  }

 private:
  static constexpr auto out_of_range = block::media_status::out_of_range;

  file_media(int fd, const file_media_options& options) noexcept
      : fd_(fd), shift_(block::shift_of(options.block_size)), read_only_(options.read_only) {}

  [[nodiscard]] static std::uint64_t io(int reason) noexcept {
    return static_cast<std::uint64_t>(reason);
  }
  [[nodiscard]] static error open_failed(const std::string& path,
                                         const file_media_options& options) noexcept {
    const int reason = errno;
    switch (reason) {
      case ENOENT:
      case ENOTDIR:
        return failure(errc::not_found, "no such file").of(path);
      case EACCES:
      case EPERM:
      case EROFS:
        return failure(errc::permission, options.read_only
                                             ? "may not be read"
                                             : "may not be written; read_only would only read")
            .of(path);
      case EISDIR:
        return failure(errc::invalid_argument, "is a directory, not a file or a block device")
            .of(path);
      default:
        return failure(errc::io, "cannot be opened; errno is the value", io(reason)).of(path);
    }
  }
  // stat() reports 0 for a block device; seeking to its end gives the size.
  [[nodiscard]] result<std::uint64_t> find_size() const noexcept {
    struct stat about {};
    if (::fstat(fd_, &about) != 0) {
      return failure(errc::io, "cannot be examined; errno is the value", io(errno));
    }
    if (!S_ISREG(about.st_mode) && !S_ISBLK(about.st_mode)) {
      return failure(errc::invalid_argument, "is neither a regular file nor a block device");
    }
    const off_t end = ::lseek(fd_, 0, SEEK_END);
    if (end < 0) return failure(errc::io, "has no end; errno is the value", io(errno));
    return static_cast<std::uint64_t>(end);
  }

  // Calls `move` until all bytes are moved: signals interrupt, and some file systems do less than
  // they are requested. Nothing moved is the end of a file that has shrunk.
  template <class Bytes, class Move>
  [[nodiscard]] block::media_status whole(Bytes bytes, std::uint64_t lba, block::media_status bad,
                                          Move move) const noexcept {
    PHASEBIT_EXPECTS(is_aligned(bytes.size(), std::size_t{1} << shift_), "whole blocks are moved");
    auto at = static_cast<off_t>(lba << shift_);
    while (!bytes.empty()) {
      const ssize_t moved = move(bytes, at);
      if (moved < 0 && errno == EINTR) continue;
      if (moved < 0 && errno == ENOSPC) return block::media_status::no_space;
      if (moved <= 0) return bad;
      bytes = bytes.subspan(static_cast<std::size_t>(moved));
      at += moved;
    }
    return block::media_status::good;
  }
  [[nodiscard]] block::media_status allocate(int mode, std::uint64_t lba,
                                             std::uint64_t blocks) const noexcept {
    for (;;) {
      if (::fallocate(fd_, mode, static_cast<off_t>(lba << shift_),
                      static_cast<off_t>(blocks << shift_)) == 0) {
        return block::media_status::good;
      }
      if (errno == EINTR) continue;
      if (errno == EOPNOTSUPP || errno == ENOSYS) return block::media_status::not_supported;
      return errno == ENOSPC ? block::media_status::no_space : block::media_status::write_failed;
    }
  }
  void close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  int fd_ = -1;
  unsigned shift_ = 9;
  std::uint64_t blocks_ = 0;
  bool read_only_ = false;
};
static_assert(block::BlockMedia<file_media> && block::ProtectableMedia<file_media>);
static_assert(block::TrimmableMedia<file_media> && block::ZeroableMedia<file_media>);

}  // namespace phasebit::hosted
