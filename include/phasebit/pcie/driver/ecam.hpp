// SPDX-License-Identifier: BSL-1.0
// Configuration space as a window of memory: 4 KiB a function, by routing id. PCIe 5.0, 7.2.2.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::pcie {

// Memory that is accessed in the width requested. Config space needs the narrow ones: a 32-bit write
// that was meant for the command register would clear the status bits beside it.
template <class T>
concept ConfigWindow = requires(T& window, std::uint32_t offset) {
  { window.read8(offset) } noexcept -> std::same_as<std::uint8_t>;
  { window.read16(offset) } noexcept -> std::same_as<std::uint16_t>;
  { window.read32(offset) } noexcept -> std::same_as<std::uint32_t>;
  { window.write8(offset, std::uint8_t{}) } noexcept -> std::same_as<void>;
  { window.write16(offset, std::uint16_t{}) } noexcept -> std::same_as<void>;
  { window.write32(offset, std::uint32_t{}) } noexcept -> std::same_as<void>;
  { window.size_bytes() } noexcept -> std::convertible_to<std::uint64_t>;
};

// A window that is mapped into this address space, uncached. Owns nothing.
class mapped_window {
 public:
  constexpr mapped_window() noexcept = default;
  constexpr explicit mapped_window(std::span<std::byte> mapping) noexcept : mapping_(mapping) {}

  [[nodiscard]] std::uint8_t read8(std::uint32_t at) const noexcept {
    return load<std::uint8_t>(at);
  }
  [[nodiscard]] std::uint16_t read16(std::uint32_t at) const noexcept {
    return load<std::uint16_t>(at);
  }
  [[nodiscard]] std::uint32_t read32(std::uint32_t at) const noexcept {
    return load<std::uint32_t>(at);
  }
  void write8(std::uint32_t at, std::uint8_t value) const noexcept { store(at, value); }
  void write16(std::uint32_t at, std::uint16_t value) const noexcept { store(at, value); }
  void write32(std::uint32_t at, std::uint32_t value) const noexcept { store(at, value); }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return mapping_.size(); }

 private:
  template <class T>
  [[nodiscard]] T load(std::uint32_t at) const noexcept {
    return le<T>::from_wire(mmio_load<T>(place(at, sizeof(T))));
  }
  template <class T>
  void store(std::uint32_t at, T value) const noexcept {
    before_mmio_write();
    mmio_store<T>(place(at, sizeof(T)), le<T>::to_wire(value));
  }
  [[nodiscard]] std::byte* place(std::uint32_t at, std::size_t width) const noexcept {
    PHASEBIT_EXPECTS(at % width == 0 && at < mapping_.size(), "an access outside the window");
    return mapping_.data() + at;
  }
  std::span<std::byte> mapping_;
};
static_assert(ConfigWindow<mapped_window>);

// One function's 4 KiB; all ones where the window does not reach. Cheap to make and to copy.
template <ConfigWindow Window>
class ecam_function {
 public:
  static constexpr std::uint32_t absent = 0xffff'ffff;

  constexpr ecam_function(Window window, std::uint32_t begin) noexcept
      : window_(window), begin_(begin) {}

  [[nodiscard]] std::uint8_t read8(std::uint16_t offset) noexcept {
    return reaches(offset) ? window_.read8(begin_ + offset) : std::uint8_t{0xff};
  }
  [[nodiscard]] std::uint16_t read16(std::uint16_t offset) noexcept {
    return reaches(offset) ? window_.read16(begin_ + offset) : std::uint16_t{0xffff};
  }
  [[nodiscard]] std::uint32_t read32(std::uint16_t offset) noexcept {
    return reaches(offset) ? window_.read32(begin_ + offset) : 0xffff'ffffU;
  }
  void write8(std::uint16_t offset, std::uint8_t value) noexcept {
    if (reaches(offset)) window_.write8(begin_ + offset, value);
  }
  void write16(std::uint16_t offset, std::uint16_t value) noexcept {
    if (reaches(offset)) window_.write16(begin_ + offset, value);
  }
  void write32(std::uint16_t offset, std::uint32_t value) noexcept {
    if (reaches(offset)) window_.write32(begin_ + offset, value);
  }
  [[nodiscard]] static constexpr std::uint32_t size_bytes() noexcept {
    return extended_config_bytes;
  }

 private:
  [[nodiscard]] bool reaches(std::uint16_t offset) const noexcept {
    return begin_ != absent && offset < extended_config_bytes;
  }
  Window window_;
  std::uint32_t begin_;
};

// Every function below one host bridge. The window begins with `first_bus` and has 1 MiB for each
// bus that it covers; a window of all 256 is the largest. One thread per function.
template <ConfigWindow Window>
class ecam {
 public:
  constexpr explicit ecam(Window window, std::uint8_t first_bus = 0) noexcept
      : window_(window), first_bus_(first_bus) {}

  [[nodiscard]] ecam_function<Window> function(requester_id id) noexcept {
    using result = ecam_function<Window>;
    if (id.bus() < first_bus_) return result{window_, result::absent};
    const std::uint32_t index = id.raw() - (std::uint32_t{first_bus_} << 8);
    const std::uint32_t begin = index * extended_config_bytes;
    if (window_.size_bytes() < std::uint64_t{begin} + extended_config_bytes) {
      return result{window_, result::absent};
    }
    return result{window_, begin};
  }
  [[nodiscard]] ecam_function<Window> function(std::uint8_t bus, std::uint8_t device,
                                               std::uint8_t number) noexcept {
    return function(requester_id{bus, device, number});
  }

 private:
  Window window_;
  std::uint8_t first_bus_;
};
static_assert(ConfigSpace<ecam_function<mapped_window>>);
static_assert(ConfigAccess<ecam<mapped_window>>);

}  // namespace phasebit::pcie
