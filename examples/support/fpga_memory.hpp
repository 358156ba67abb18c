// SPDX-License-Identifier: BSL-1.0
// The file that stands for an FPGA's BAR, as the process that plays the FPGA has it. On the other side
// it is mapped by a host, or by a QEMU that shows it to its guest as BAR 2 of an ivshmem-plain device.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <sys/file.h>
#include <sys/stat.h>

namespace example::fpga {

// Unmapped and closed at its end; the file stays. One process at a time plays an FPGA.
class shared_memory {
 public:
  // Creates the file if there is none, or it is empty. Errors: busy (another process simulates the
  // FPGA), out_of_range (the file has another length), permission, and others from open(2).
  [[nodiscard]] static phasebit::result<shared_memory> create(const std::string& path,
                                                              std::uint64_t bytes) {
    using namespace phasebit;
    if (!is_power_of_two(bytes)) {
      return failure(errc::invalid_argument, "the size of a BAR is a power of two", bytes);
    }
    auto file = posix::open_file(path.c_str(), O_RDWR | O_CREAT, 0600);
    if (!file) return file.error();
    if (::flock(file->get(), LOCK_EX | LOCK_NB) != 0) {
      return failure(errc::busy, "another process plays the FPGA behind this file").of(path);
    }
    struct ::stat about {};
    if (::fstat(file->get(), &about) != 0) {
      return posix::os_error("the file cannot be looked at").of(path);
    }
    const auto size = static_cast<std::uint64_t>(about.st_size);
    if (size == 0 && ::ftruncate(file->get(), static_cast<::off_t>(bytes)) != 0) {
      return posix::os_error("the file cannot be made as long").of(path);
    }
    if (size != 0 && size != bytes) {
      return failure(errc::out_of_range,
                     "the file is there already and not as long as --size; its bytes", size)
          .of(path);
    }
    auto mapping = posix::memory_mapping::shared(file->get(), static_cast<std::size_t>(bytes));
    if (!mapping) return mapping.error().of(path);
    return shared_memory{std::move(*file), std::move(*mapping)};
  }

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return mapping_.bytes(); }

 private:
  shared_memory(phasebit::posix::unique_fd file, phasebit::posix::memory_mapping mapping) noexcept
      : file_(std::move(file)), mapping_(std::move(mapping)) {}

  phasebit::posix::unique_fd file_;
  phasebit::posix::memory_mapping mapping_;
};

}  // namespace example::fpga
