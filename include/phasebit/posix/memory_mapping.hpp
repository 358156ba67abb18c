// SPDX-License-Identifier: BSL-1.0
// Memory that the kernel maps: a device's BAR, a file shared with another process, pages of our own.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/os_error.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace phasebit::posix {

// A mapping that is unmapped at the end of its life. Move-only; a move leaves the addresses as they
// are, so spans of bytes() stay valid as long as the last owner lives.
class memory_mapping {
 public:
  constexpr memory_mapping() noexcept = default;
  constexpr memory_mapping(memory_mapping&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})) {}
  memory_mapping& operator=(memory_mapping&& other) noexcept {
    if (this != &other) {
      reset();
      bytes_ = std::exchange(other.bytes_, {});
    }
    return *this;
  }
  ~memory_mapping() { reset(); }

  // `bytes` of the file behind `fd`, shared with other mappings of it. `offset` is a multiple of
  // the page size. The descriptor may be closed afterwards.
  [[nodiscard]] static result<memory_mapping> shared(int fd, std::size_t bytes,
                                                     std::uint64_t offset = 0,
                                                     bool writable = true) noexcept {
    if (offset > static_cast<std::uint64_t>(std::numeric_limits<::off_t>::max())) {
      return failure(errc::out_of_range, "the offset lies beyond what a file can have", offset);
    }
    return map(bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd,
               static_cast<::off_t>(offset));
  }
  // The same from the file's beginning, at a multiple of `alignment`, a power of two: only pages are
  // aligned to themselves otherwise.
  [[nodiscard]] static result<memory_mapping> shared_aligned(int fd, std::size_t bytes,
                                                             std::size_t alignment) noexcept {
    if (bytes > std::numeric_limits<std::size_t>::max() - alignment) {
      return failure(errc::out_of_range, "so much memory cannot be mapped", bytes);
    }
    // Reserves a larger range, of which the mapping replaces an aligned part.
    auto reserved =
        map(bytes + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!reserved) return reserved;
    const auto begin = reinterpret_cast<std::uintptr_t>(reserved->data());
    const std::size_t skipped = (alignment - begin % alignment) % alignment;
    std::byte* const at = reserved->data() + skipped;
    if (::mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
      return os_error("the memory cannot be mapped");
    }
    const std::span<std::byte> all = std::exchange(reserved->bytes_, {});
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t used = (bytes + page - 1) / page * page;
    if (skipped != 0) ::munmap(all.data(), skipped);
    if (skipped + used < all.size()) ::munmap(at + used, all.size() - skipped - used);
    return memory_mapping{std::span{at, bytes}};
  }
  // Zeroed memory of this process; `flags` may add MAP_HUGETLB, MAP_POPULATE or MAP_LOCKED.
  [[nodiscard]] static result<memory_mapping> anonymous(std::size_t bytes, int flags = 0) noexcept {
    return map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  }

  [[nodiscard]] constexpr std::span<std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] constexpr std::byte* data() const noexcept { return bytes_.data(); }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return bytes_.size(); }
  constexpr explicit operator bool() const noexcept { return bytes_.data() != nullptr; }

  void reset() noexcept {
    const auto old = std::exchange(bytes_, {});
    if (old.data() != nullptr) ::munmap(old.data(), old.size());
  }

 private:
  explicit memory_mapping(std::span<std::byte> bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] static result<memory_mapping> map(std::size_t bytes, int protection, int flags,
                                                  int fd, ::off_t offset) noexcept {
    void* const at = ::mmap(nullptr, bytes, protection, flags, fd, offset);
    if (at == MAP_FAILED) return os_error("the memory cannot be mapped");
    return memory_mapping{std::span{static_cast<std::byte*>(at), bytes}};
  }

  std::span<std::byte> bytes_;
};

}  // namespace phasebit::posix
