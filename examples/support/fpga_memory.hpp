// SPDX-License-Identifier: BSL-1.0
// The file that stands for an FPGA's BAR: mapped by the process that plays the FPGA, and on the other
// side by a host, or by a QEMU that shows it to its guest as BAR 2 of an ivshmem-plain device.
#pragma once

#include <phasebit/backend/posix/memory_mapping.hpp>
#include <phasebit/backend/posix/unique_fd.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>

#include <cstdint>
#include <string>
#include <utility>

#include <sys/file.h>
#include <sys/stat.h>

namespace example::fpga {

// Unmapped and closed at its end; the file stays.
class shared_memory {
 public:
  // The host's side: the file is there. Errors: not_found, permission, out_of_range (no BAR's size).
  [[nodiscard]] static phasebit::result<shared_memory> open(const std::string& path) {
    return map(path, O_RDWR, 0);
  }
  // The FPGA's side: made where there is none yet. One process at a time plays an FPGA. Errors: busy.
  [[nodiscard]] static phasebit::result<shared_memory> create(const std::string& path,
                                                              std::uint64_t bytes) {
    auto made = map(path, O_RDWR | O_CREAT, bytes);
    if (made && ::flock(made->file_.get(), LOCK_EX | LOCK_NB) != 0) {
      return phasebit::failure(phasebit::errc::busy,
                               "another process plays the FPGA behind this file")
          .of(path);
    }
    return made;
  }

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return mapping_.bytes(); }

 private:
  static constexpr std::uint64_t least = 1U << 16;
  static constexpr std::uint64_t most = std::uint64_t{1} << 40;

  // `bytes` is the size that an empty file gets, or 0.
  [[nodiscard]] static phasebit::result<shared_memory> map(const std::string& path, int flags,
                                                           std::uint64_t bytes) {
    using namespace phasebit;
    auto file = posix::open_file(path.c_str(), flags, 0600);
    if (!file) return file.error();
    struct ::stat about {};
    if (::fstat(file->get(), &about) != 0) {
      return posix::os_error("the file cannot be looked at").of(path);
    }
    if (about.st_size == 0 && bytes != 0) {
      if (::ftruncate(file->get(), static_cast<::off_t>(bytes)) != 0) {
        return posix::os_error("the file cannot be made as long").of(path);
      }
      about.st_size = static_cast<::off_t>(bytes);
    }
    const auto size = static_cast<std::uint64_t>(about.st_size);
    if (size < least || size > most || !is_power_of_two(size) || (bytes != 0 && size != bytes)) {
      return failure(
                 errc::out_of_range,
                 bytes != 0
                     ? "the file is there already and not as long as --size; its bytes"
                     : "the file is no BAR: it has a power of two of bytes, and at least 64 KiB",
                 size)
          .of(path);
    }
    auto mapping = posix::memory_mapping::shared(file->get(), static_cast<std::size_t>(size));
    if (!mapping) return mapping.error().of(path);
    return shared_memory{std::move(*file), std::move(*mapping)};
  }

  shared_memory(phasebit::posix::unique_fd file, phasebit::posix::memory_mapping mapping) noexcept
      : file_(std::move(file)), mapping_(std::move(mapping)) {}

  phasebit::posix::unique_fd file_;
  phasebit::posix::memory_mapping mapping_;
};

}  // namespace example::fpga
