// SPDX-License-Identifier: BSL-1.0
// A range of a device mapped into this process: a BAR in /sys, the map of a uio device, the file of an
// FPGA's driver, a physical address.
#pragma once

#include <phasebit/backend/mmio_linux/system_paths.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace phasebit::backend::mmio_linux {

[[nodiscard]] inline std::uint64_t page_bytes() noexcept {
  return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// Owns the mapping; bars and regions made of it must not outlive it. Move-only, and a move leaves the
// addresses as they are.
class device_mapping {
 public:
  device_mapping() noexcept = default;

  // Maps `bytes` from `offset`, anywhere in a page, of an open file. Errors: invalid_argument,
  // out_of_range (the file is shorter: touching bytes beyond its end would end the program), and
  // those of mmap(2).
  [[nodiscard]] static result<device_mapping> map(int fd, std::uint64_t offset,
                                                  std::uint64_t bytes) noexcept {
    if (bytes == 0 || bytes > most || offset > most) {
      return failure(errc::invalid_argument, "no mapping has this length or offset", bytes);
    }
    if (const auto enough = holds(fd, offset + bytes); !enough) return enough.error();
    const std::uint64_t begin = align_down(offset, page_bytes());
    return pages(fd, begin, offset - begin, bytes);
  }
  // The first page or pages of an open file, `bytes` from `inside` of them: registers that share
  // their page with others, in a file whose length is theirs alone.
  [[nodiscard]] static result<device_mapping> map_inside(int fd, std::uint64_t inside,
                                                         std::uint64_t bytes) noexcept {
    if (bytes == 0 || bytes > most || inside >= page_bytes()) {
      return failure(errc::invalid_argument, "no mapping has this length or offset", bytes);
    }
    if (const auto enough = holds(fd, bytes); !enough) return enough.error();
    return pages(fd, 0, inside, bytes);
  }

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  // As registers. For memory that is mapped write-combining, use bytes().
  [[nodiscard]] pcie::mapped_bar bar() const noexcept { return pcie::mapped_bar{bytes_}; }
  // As memory that the device reaches from `begin` on: DRAM of an FPGA, for a dma_arena. The
  // processor's view should be write-combining or cached memory, because an arena fills it with zeros.
  [[nodiscard]] dma_region region(bus_addr begin) const noexcept { return {bytes_, begin}; }

 private:
  static constexpr std::uint64_t most = std::numeric_limits<std::ptrdiff_t>::max() / 2;

  // The kernel reports no size for a device file, and checks the mapping itself.
  [[nodiscard]] static result<> holds(int fd, std::uint64_t end) noexcept {
    struct ::stat about {};
    if (::fstat(fd, &about) != 0) return posix::os_error("the file cannot be examined");
    const auto size = static_cast<std::uint64_t>(about.st_size);
    if (S_ISREG(about.st_mode) && end > size) {
      return failure(errc::out_of_range, "the file is shorter than what is to be mapped of it",
                     size);
    }
    return {};
  }
  [[nodiscard]] static result<device_mapping> pages(int fd, std::uint64_t begin,
                                                    std::uint64_t inside,
                                                    std::uint64_t bytes) noexcept {
    auto mapped = posix::memory_mapping::shared(
        fd, int_cast<std::size_t>(align_up(inside + bytes, page_bytes())), begin);
    if (!mapped) return mapped.error();
    return device_mapping{std::move(*mapped), int_cast<std::size_t>(inside),
                          int_cast<std::size_t>(bytes)};
  }

  device_mapping(posix::memory_mapping pages, std::size_t inside, std::size_t bytes) noexcept
      : pages_(std::move(pages)), bytes_(pages_.bytes().subspan(inside, bytes)) {}

  posix::memory_mapping pages_;
  std::span<std::byte> bytes_;
};

// The part of a file to map. Without a length it extends to the end of a file that has one.
struct file_part {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// A character device, such as the BAR that an FPGA's driver offers, or a file: shared memory of a
// simulated device. Errors: not_found, permission, invalid_argument (a device's file needs a length),
// and those of device_mapping::map().
[[nodiscard]] inline result<device_mapping> map_file(const std::string& path, file_part part = {},
                                                     const system_paths& paths = {}) {
  auto file = posix::open_file(path.c_str(), O_RDWR | O_SYNC);
  if (!file) return explain(file.error(), paths, path);
  if (part.bytes == 0) {
    struct ::stat about {};
    const bool sized = ::fstat(file->get(), &about) == 0 && S_ISREG(about.st_mode);
    if (!sized || static_cast<std::uint64_t>(about.st_size) <= part.offset) {
      return failure(errc::invalid_argument, "pass the number of bytes to map").of(path);
    }
    part.bytes = static_cast<std::uint64_t>(about.st_size) - part.offset;
  }
  auto mapped = device_mapping::map(file->get(), part.offset, part.bytes);
  if (!mapped) return explain(mapped.error(), paths, path);
  return mapped;
}

// `bytes` at a physical address, uncached, through /dev/mem. Errors: those of map_file(); permission
// also if the kernel refuses memory and claimed registers (CONFIG_STRICT_DEVMEM).
[[nodiscard]] inline result<device_mapping> map_physical(host_phys begin, std::uint64_t bytes,
                                                         const system_paths& paths = {}) {
  const std::string path = paths.dev + "/mem";
  const auto mapped = posix::open_file(path.c_str(), O_RDWR | O_SYNC);
  if (!mapped) return explain(mapped.error(), paths, path);
  auto made = device_mapping::map(mapped->get(), begin.value(), bytes);
  if (made) return made;
  if (made.error().code == errc::permission && !is_locked_down(paths)) {
    return failure(errc::permission,
                   "the kernel maps neither memory nor registers that a driver has claimed "
                   "(CONFIG_STRICT_DEVMEM); the address",
                   begin.value())
        .of(path);
  }
  return explain(made.error(), paths, path);
}

}  // namespace phasebit::backend::mmio_linux
