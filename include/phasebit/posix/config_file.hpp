// SPDX-License-Identifier: BSL-1.0
// A function's configuration space in a file of the kernel's: a region of vfio, or `config` in /sys.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>

#include <unistd.h>

namespace phasebit::posix {

// Registers that the kernel does not let through read as ones and ignore writes. Trivially copyable; the
// owner of the descriptor outlives it.
class config_file {
 public:
  config_file() noexcept = default;
  config_file(int fd, std::uint64_t offset, std::uint32_t bytes) noexcept
      : fd_(fd), offset_(offset), bytes_(bytes) {}

  [[nodiscard]] std::uint8_t read8(std::uint16_t at) noexcept { return read<std::uint8_t>(at); }
  [[nodiscard]] std::uint16_t read16(std::uint16_t at) noexcept { return read<std::uint16_t>(at); }
  [[nodiscard]] std::uint32_t read32(std::uint16_t at) noexcept { return read<std::uint32_t>(at); }
  void write8(std::uint16_t at, std::uint8_t value) noexcept { write(at, value); }
  void write16(std::uint16_t at, std::uint16_t value) noexcept { write(at, value); }
  void write32(std::uint16_t at, std::uint32_t value) noexcept { write(at, value); }
  [[nodiscard]] std::uint32_t size_bytes() const noexcept { return bytes_; }

 private:
  template <class T>
  [[nodiscard]] T read(std::uint16_t at) noexcept {
    T value{};
    const auto got = ::pread(fd_, &value, sizeof value, static_cast<::off_t>(offset_ + at));
    return got == sizeof value ? le<T>::from_wire(value) : static_cast<T>(~T{0});
  }
  template <class T>
  void write(std::uint16_t at, T value) noexcept {
    const T wire = le<T>::to_wire(value);
    (void)!::pwrite(fd_, &wire, sizeof wire, static_cast<::off_t>(offset_ + at));
  }

  int fd_ = -1;
  std::uint64_t offset_ = 0;
  std::uint32_t bytes_ = 0;
};
static_assert(ConfigSpace<config_file>);

}  // namespace phasebit::posix
