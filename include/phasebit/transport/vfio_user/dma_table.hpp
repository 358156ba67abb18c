// SPDX-License-Identifier: BSL-1.0
// The memory that the client of a vfio-user server allows the device to reach by DMA.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace phasebit::transport::vfio_user {

// Ranges of bus addresses, each mapped into this process or not: what is not is reached by messages.
// Ranges do not overlap. One thread at a time.
class dma_table {
 public:
  // A file of the client, kept so that another process can map its ranges.
  struct memory_file {
    posix::unique_fd fd;
    ::dev_t device = 0;
    ::ino_t inode = 0;
    int access_mode = 0;
  };
  struct range {
    std::uint64_t begin = 0;
    std::uint64_t bytes = 0;
    access granted = access::read_write;
    std::byte* local = nullptr;  // null: not mapped
    posix::memory_mapping mapping;
    std::shared_ptr<const memory_file> file;  // null: not mapped
    std::uint64_t offset = 0;                 // in the file

    [[nodiscard]] std::uint64_t last() const noexcept { return begin + (bytes - 1); }
  };

  explicit dma_table(std::size_t most_ranges) noexcept : most_(most_ranges) {}

  [[nodiscard]] std::size_t size() const noexcept { return ranges_.size(); }

  // A range that the device reaches by messages. Errors: invalid_argument (no bytes), overflow, overlap,
  // exhausted. Nothing changes then.
  [[nodiscard]] result<> add(std::uint64_t begin, std::uint64_t bytes, access granted) {
    const auto at = place(begin, bytes);
    if (!at) return at.error();
    insert(*at, {begin, bytes, granted, nullptr, {}, nullptr, 0});
    return {};
  }
  // A range of `fd`, which is mapped and may be closed afterwards: the table keeps one descriptor for each
  // file. Errors: as above, and invalid_argument
  // (a file that ends within the range, which would fault later), io.
  [[nodiscard]] result<> add(std::uint64_t begin, std::uint64_t bytes, access granted,
                             const posix::unique_fd& fd, std::uint64_t offset) {
    const auto at = place(begin, bytes);
    if (!at) return at.error();
    struct ::stat about {};
    if (::fstat(fd.get(), &about) != 0)
      return posix::os_error("the memory's descriptor is no file");
    if (!range_end(bus_addr{offset}, bytes) || about.st_size < 0 ||
        static_cast<std::uint64_t>(about.st_size) < offset + bytes) {
      return failure(errc::invalid_argument, "a range of memory ends beyond its file",
                     static_cast<std::uint64_t>(about.st_size));
    }
    // mmap takes a multiple of the file's page size, which is larger for huge pages.
    const auto blocks = static_cast<std::uint64_t>(about.st_blksize);
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::uint64_t step = blocks > page && (blocks & (blocks - 1)) == 0 ? blocks : page;
    const std::uint64_t skipped = offset % step;
    auto mapping = posix::memory_mapping::shared(fd.get(), int_cast<std::size_t>(skipped + bytes),
                                                 offset - skipped, writes(granted));
    if (!mapping) return mapping.error();
    auto file = keep(fd, about);
    if (!file) return file.error();
    std::byte* const local = mapping->data() + skipped;
    insert(*at, {begin, bytes, granted, local, std::move(*mapping), std::move(*file), offset});
    return {};
  }
  // Ranges by address.
  [[nodiscard]] const std::vector<range>& ranges() const noexcept { return ranges_; }
  // Whether exactly this range was added.
  [[nodiscard]] bool contains(std::uint64_t begin, std::uint64_t bytes) const noexcept {
    const std::size_t at = first_ending_at_or_after(begin);
    return at != ranges_.size() && ranges_[at].begin == begin && ranges_[at].bytes == bytes;
  }
  // Unmaps a range for which contains() is true. No pointer into it is used any more.
  void remove(std::uint64_t begin) noexcept {
    const std::size_t at = first_ending_at_or_after(begin);
    ranges_.erase(ranges_.begin() + static_cast<std::ptrdiff_t>(at));
    hint_ = 0;
  }
  void clear() noexcept {
    ranges_.clear();
    hint_ = 0;
  }

  // The range that holds `at`, or null. Valid until the table changes.
  [[nodiscard]] const range* find(std::uint64_t at) const noexcept {
    if (hint_ < ranges_.size() && at - ranges_[hint_].begin < ranges_[hint_].bytes) [[likely]] {
      return &ranges_[hint_];
    }
    const std::size_t i = first_ending_at_or_after(at);
    if (i == ranges_.size() || at < ranges_[i].begin) return nullptr;
    hint_ = i;
    return &ranges_[i];
  }

 private:
  [[nodiscard]] std::size_t first_ending_at_or_after(std::uint64_t at) const noexcept {
    const auto found =
        std::lower_bound(ranges_.begin(), ranges_.end(), at,
                         [](const range& r, std::uint64_t a) noexcept { return r.last() < a; });
    return static_cast<std::size_t>(found - ranges_.begin());
  }
  // Where a new range belongs.
  [[nodiscard]] result<std::size_t> place(std::uint64_t begin, std::uint64_t bytes) const noexcept {
    if (bytes == 0) return failure(errc::invalid_argument, "a range of memory has no bytes", begin);
    if (begin + (bytes - 1) < begin) {
      return failure(errc::overflow, "a range of memory wraps around the address space", begin);
    }
    const std::size_t at = first_ending_at_or_after(begin);
    if (at != ranges_.size() && ranges_[at].begin <= begin + (bytes - 1)) {
      return failure(errc::overlap, "a range of memory overlaps another one", ranges_[at].begin);
    }
    if (ranges_.size() == most_) {
      return failure(errc::exhausted, "there are more ranges of memory than were agreed", most_);
    }
    return at;
  }
  // The file of `fd`, which several ranges share.
  [[nodiscard]] result<std::shared_ptr<const memory_file>> keep(const posix::unique_fd& fd,
                                                                const struct ::stat& about) {
    const int mode = ::fcntl(fd.get(), F_GETFL) & O_ACCMODE;
    std::erase_if(files_, [](const auto& one) { return one.expired(); });
    for (const auto& weak : files_) {
      auto one = weak.lock();
      if (one && one->device == about.st_dev && one->inode == about.st_ino &&
          one->access_mode == mode) {
        return std::shared_ptr<const memory_file>{std::move(one)};
      }
    }
    posix::unique_fd copy{::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)};
    if (!copy) return posix::os_error("a descriptor of the client's memory cannot be kept");
    auto made = std::make_shared<const memory_file>(
        memory_file{std::move(copy), about.st_dev, about.st_ino, mode});
    files_.push_back(made);
    return std::shared_ptr<const memory_file>{std::move(made)};
  }
  void insert(std::size_t at, range&& r) {
    ranges_.insert(ranges_.begin() + static_cast<std::ptrdiff_t>(at), std::move(r));
    hint_ = 0;
  }

  std::vector<range> ranges_;  // by address
  std::vector<std::weak_ptr<const memory_file>> files_;
  std::size_t most_;
  mutable std::size_t hint_ = 0;  // of the last look-up
};

}  // namespace phasebit::transport::vfio_user
