// SPDX-License-Identifier: BSL-1.0
// The front end's memory, mapped region by region into this process.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vhost_user/messages.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <sys/stat.h>

namespace phasebit::transport::vhost_user {

// The addresses of the front end's own process, in which rings are described.
struct user_space;
using user_addr = address<user_space>;

// Regions come and go one by one or as a whole table; all of them are mapped while they are in it.
// Look-ups as in region_map: any number of threads, none during a change.
class memory_table {
 public:
  static constexpr std::size_t max_regions = 64;
  using guest_map = region_map<guest_space, max_regions>;
  using user_map = region_map<user_space, max_regions>;

  memory_table() = default;
  memory_table(const memory_table&) = delete;
  memory_table& operator=(const memory_table&) = delete;

  [[nodiscard]] const guest_map& guest() const noexcept { return guest_; }
  [[nodiscard]] const user_map& user() const noexcept { return user_; }
  [[nodiscard]] std::size_t size() const noexcept { return regions_.size(); }

  // Maps a region. Errors: invalid_argument (no bytes; a file that is shorter than the region, which
  // would fault later), overflow, overlap, exhausted, io. Nothing changes then.
  [[nodiscard]] result<> add(const memory_region& r, const posix::unique_fd& fd) {
    if (r.size == 0) return failure(errc::invalid_argument, "a memory region has no bytes");
    if (r.guest_addr + r.size < r.guest_addr || r.user_addr + r.size < r.user_addr ||
        r.mmap_offset + r.size < r.mmap_offset || r.mmap_offset + r.size > (1ULL << 62)) {
      return failure(errc::overflow, "a memory region wraps around its address space", r.size);
    }
    struct ::stat about {};
    if (::fstat(fd.get(), &about) != 0) {
      return posix::os_error("a memory region's descriptor is no file");
    }
    if (about.st_size < 0 || static_cast<std::uint64_t>(about.st_size) < r.mmap_offset + r.size) {
      return failure(errc::invalid_argument, "a memory region is larger than its file",
                     static_cast<std::uint64_t>(about.st_size));
    }
    // From the beginning of the file: the offset need not be a multiple of a huge page.
    auto mapping =
        posix::memory_mapping::shared(fd.get(), int_cast<std::size_t>(r.mmap_offset + r.size));
    if (!mapping) return mapping.error();
    std::byte* const local = mapping->data() + r.mmap_offset;
    if (const auto added = guest_.add({guest_addr{r.guest_addr}, r.size, local}); !added) {
      return added;
    }
    if (const auto added = user_.add({user_addr{r.user_addr}, r.size, local}); !added) {
      static_cast<void>(guest_.remove(guest_addr{r.guest_addr}, r.size));
      return added;
    }
    regions_.push_back({r, std::move(*mapping)});
    return {};
  }
  // Unmaps exactly a region that was added. Error: not_found.
  [[nodiscard]] result<> remove(const memory_region& r) noexcept {
    for (std::size_t i = 0; i != regions_.size(); ++i) {
      const memory_region& there = regions_[i].region;
      if (there.guest_addr != r.guest_addr || there.user_addr != r.user_addr ||
          there.size != r.size) {
        continue;
      }
      static_cast<void>(guest_.remove(guest_addr{r.guest_addr}, r.size));
      static_cast<void>(user_.remove(user_addr{r.user_addr}, r.size));
      regions_.erase(regions_.begin() + static_cast<std::ptrdiff_t>(i));
      return {};
    }
    return failure(errc::not_found, "there is no such memory region", r.guest_addr);
  }
  void clear() noexcept {
    guest_.clear();
    user_.clear();
    regions_.clear();
  }

  // The guest address of memory of this process, where it is the front end's.
  [[nodiscard]] bool guest_address_of(const std::byte* local, std::uint64_t& found) const noexcept {
    for (const auto& r : guest_.regions()) {
      const auto offset =
          reinterpret_cast<std::uintptr_t>(local) - reinterpret_cast<std::uintptr_t>(r.local);
      if (offset < r.bytes) {
        found = r.begin.value() + offset;
        return true;
      }
    }
    return false;
  }

 private:
  struct entry {
    memory_region region;
    posix::memory_mapping mapping;
  };

  guest_map guest_;
  user_map user_;
  std::vector<entry> regions_;
};

}  // namespace phasebit::transport::vhost_user
