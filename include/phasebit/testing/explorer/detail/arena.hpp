// SPDX-License-Identifier: BSL-1.0
// The memory that threads of an explored program share: at the same addresses in each execution.
#pragma once

#include <phasebit/core/expects.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace phasebit::testing::explorer::detail {

// The bytes whose accesses are observed (instrumentation.hpp), as plain numbers: they are looked at
// for each access of instrumented code. `quiet` while the explorer itself touches them.
struct observed_bytes {
  std::uintptr_t begin = 0;
  std::size_t size = 0;
  bool quiet = false;
};
inline constinit observed_bytes observed;

class arena {
 public:
  explicit arena(std::size_t bytes)
      : memory_(static_cast<std::byte*>(::operator new(bytes, std::align_val_t{page}))),
        capacity_(bytes) {
    std::memset(memory_, fill, capacity_);
  }
  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;
  ~arena() { ::operator delete(memory_, std::align_val_t{page}); }

  // Accesses of instrumented code to this memory are observed from now on.
  void observe() const noexcept {
    observed = {reinterpret_cast<std::uintptr_t>(memory_), capacity_, false};
  }
  void reset() noexcept {
    const while_quiet now;
    std::memset(memory_, fill, used_);
    used_ = 0;
  }
  [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    const std::size_t begin = (used_ + alignment - 1) / alignment * alignment;
    PHASEBIT_EXPECTS(begin + bytes <= capacity_,
                     "the explored program shares more memory than options::arena_bytes");
    used_ = begin + bytes;
    return memory_ + begin;
  }
  [[nodiscard]] bool contains(const void* p) const noexcept {
    return reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(memory_) < used_;
  }
  [[nodiscard]] std::uint32_t offset_of(const void* p) const noexcept {
    return static_cast<std::uint32_t>(static_cast<const std::byte*>(p) - memory_);
  }
  [[nodiscard]] std::byte* at(std::uint32_t offset) const noexcept { return memory_ + offset; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

  // A word as a number.
  [[nodiscard]] std::uint64_t load(std::uint32_t offset, std::size_t bytes) const noexcept {
    switch (bytes) {
      case 1:
        return read<std::uint8_t>(offset);
      case 2:
        return read<std::uint16_t>(offset);
      case 4:
        return read<std::uint32_t>(offset);
      default:
        return read<std::uint64_t>(offset);
    }
  }
  void store(std::uint32_t offset, std::size_t bytes, std::uint64_t value) noexcept {
    switch (bytes) {
      case 1:
        return write(offset, static_cast<std::uint8_t>(value));
      case 2:
        return write(offset, static_cast<std::uint16_t>(value));
      case 4:
        return write(offset, static_cast<std::uint32_t>(value));
      default:
        return write(offset, value);
    }
  }

 private:
  static constexpr std::size_t page = 4096;
  static constexpr int fill = 0xa5;

  struct while_quiet {
    bool before = std::exchange(observed.quiet, true);
    while_quiet() noexcept = default;
    while_quiet(const while_quiet&) = delete;
    while_quiet& operator=(const while_quiet&) = delete;
    ~while_quiet() { observed.quiet = before; }
  };

  template <class T>
  [[nodiscard]] std::uint64_t read(std::uint32_t offset) const noexcept {
    const while_quiet now;
    T value;
    std::memcpy(&value, memory_ + offset, sizeof value);
    return value;
  }
  template <class T>
  void write(std::uint32_t offset, T value) noexcept {
    const while_quiet now;
    std::memcpy(memory_ + offset, &value, sizeof value);
  }

  std::byte* memory_;
  std::size_t capacity_;
  std::size_t used_ = 0;
};

}  // namespace phasebit::testing::explorer::detail
