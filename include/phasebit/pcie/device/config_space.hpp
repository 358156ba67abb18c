// SPDX-License-Identifier: BSL-1.0
// A configuration space held in memory: the registers of a simulated function, a vfio-user server
// or an FPGA endpoint. The bits that a host may change are data, so that BAR sizing, read-only
// fields and bits that are cleared by ones need no code per register.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::pcie {

// One write by the host, as the device sees it. `dword` is a multiple of 4; the values are those of
// the whole dword, `lanes` has ones where this write put bits.
struct config_write {
  std::uint16_t dword = 0;
  std::uint32_t lanes = 0;
  std::uint32_t written = 0;
  std::uint32_t before = 0;
  std::uint32_t after = 0;

  // Whether the write put a one into `bit` of the register at `offset`, kept or not: for bits that
  // read as zero and mean an action, such as Initiate Function Level Reset.
  [[nodiscard]] constexpr bool wrote_one(std::uint32_t offset, unsigned bit) const noexcept {
    const std::uint32_t position = offset % 4 * 8 + bit;
    return offset - offset % 4 == dword && position < 32 && (lanes & written & 1U << position) != 0;
  }
  // Whether any of the `bytes` at `offset` now holds something else. Not for more than 4 bytes that
  // cross a dword: a write never does.
  [[nodiscard]] constexpr bool changed(std::uint32_t offset, unsigned bytes) const noexcept {
    if (offset - offset % 4 != dword) return false;
    const std::uint32_t mask = bytes >= 4 ? 0xffff'ffff : ((1U << bytes * 8) - 1) << offset % 4 * 8;
    return ((before ^ after) & mask) != 0;
  }
};

// Bytes is 256 (conventional) or 4096 (PCI Express). The host side is the ConfigSpace; what it asks
// may be hostile: off its alignment or outside, reads are all ones and writes vanish. The device
// side writes what the host may not. One side writes at a time; any number of threads may read
// meanwhile and see whole dwords, each at least as new as the last one they saw of it.
template <std::size_t Bytes>
  requires(Bytes == conventional_config_bytes || Bytes == extended_config_bytes)
class config_image {
 public:
  constexpr config_image() noexcept = default;

  [[nodiscard]] static constexpr std::uint32_t size_bytes() noexcept { return Bytes; }

  [[nodiscard]] std::uint8_t read8(std::uint16_t offset) const noexcept {
    return static_cast<std::uint8_t>(read(offset, 1));
  }
  [[nodiscard]] std::uint16_t read16(std::uint16_t offset) const noexcept {
    return static_cast<std::uint16_t>(read(offset, 2));
  }
  [[nodiscard]] std::uint32_t read32(std::uint16_t offset) const noexcept {
    return read(offset, 4);
  }
  void write8(std::uint16_t offset, std::uint8_t value) noexcept { (void)write(offset, 1, value); }
  void write16(std::uint16_t offset, std::uint16_t value) noexcept {
    (void)write(offset, 2, value);
  }
  void write32(std::uint16_t offset, std::uint32_t value) noexcept {
    (void)write(offset, 4, value);
  }

  // The host's write of 1, 2 or 4 bytes, with what came of it. A write that is refused changes
  // nothing and has no lanes.
  config_write write(std::uint32_t offset, unsigned bytes, std::uint32_t value) noexcept {
    if (!reachable(offset, bytes)) return {};
    const unsigned shift = offset % 4 * 8;
    const std::size_t word = offset / 4;
    config_write effect{.dword = static_cast<std::uint16_t>(offset - offset % 4),
                        .lanes = ones(bytes) << shift,
                        .written = (value & ones(bytes)) << shift,
                        .before = thread_order::load(values_[word])};
    const std::uint32_t taken = effect.lanes & writable_[word];
    const std::uint32_t cleared = effect.lanes & effect.written & cleared_by_ones_[word];
    effect.after = ((effect.before & ~taken) | (effect.written & taken)) & ~cleared;
    if (effect.after != effect.before) thread_order::store(values_[word], effect.after);
    return effect;
  }
  // 1, 2 or 4 bytes; all ones where there is nothing.
  [[nodiscard]] std::uint32_t read(std::uint32_t offset, unsigned bytes) const noexcept {
    if (!reachable(offset, bytes)) return ones(bytes);
    return thread_order::load(values_[offset / 4]) >> offset % 4 * 8 & ones(bytes);
  }

  // Device side. Sets a register whatever the host may write; offset and width as for the host.
  void set8(std::uint32_t offset, std::uint8_t value) noexcept { put(values_, offset, 1, value); }
  void set16(std::uint32_t offset, std::uint16_t value) noexcept { put(values_, offset, 2, value); }
  void set32(std::uint32_t offset, std::uint32_t value) noexcept { put(values_, offset, 4, value); }

  // Device side. Sets the bits of the register that a host's write changes, and those that it
  // clears by ones. Initially none.
  void set_writable(std::uint32_t offset, unsigned bytes, std::uint32_t mask) noexcept {
    put(writable_, offset, bytes, mask);
  }
  void set_cleared_by_ones(std::uint32_t offset, unsigned bytes, std::uint32_t mask) noexcept {
    put(cleared_by_ones_, offset, bytes, mask);
  }
  [[nodiscard]] std::uint32_t writable(std::uint32_t offset, unsigned bytes) const noexcept {
    PHASEBIT_EXPECTS(reachable(offset, bytes), "a register outside the configuration space");
    return thread_order::load(writable_[offset / 4]) >> offset % 4 * 8 & ones(bytes);
  }

  // Device side. All zeros and nothing writable, as new.
  void clear() noexcept {
    for (std::size_t i = 0; i != words; ++i) {
      thread_order::store(writable_[i], 0);
      thread_order::store(cleared_by_ones_[i], 0);
      thread_order::store(values_[i], 0);
    }
  }

  // Device side. Becomes a copy of `image`, dword by dword, while the host may read.
  void restore(const config_image& image) noexcept {
    for (std::size_t i = 0; i != words; ++i) {
      thread_order::store(writable_[i], image.writable_[i]);
      thread_order::store(cleared_by_ones_[i], image.cleared_by_ones_[i]);
      thread_order::store(values_[i], image.values_[i]);
    }
  }

  // The bytes as they lie on the bus, from `offset`; zero beyond the end. For dumps and for
  // protocols that move bytes.
  void copy_out(std::uint32_t offset, std::span<std::byte> to) const noexcept {
    for (std::byte& byte : to) {
      byte = offset < Bytes ? static_cast<std::byte>(read(offset, 1)) : std::byte{0};
      ++offset;
    }
  }

 private:
  static constexpr std::size_t words = Bytes / 4;
  using dwords = std::array<std::uint32_t, words>;

  [[nodiscard]] static constexpr std::uint32_t ones(unsigned bytes) noexcept {
    return bytes >= 4 ? 0xffff'ffff : (1U << bytes * 8) - 1;
  }
  [[nodiscard]] static constexpr bool reachable(std::uint32_t offset, unsigned bytes) noexcept {
    return (bytes == 1 || bytes == 2 || bytes == 4) && offset % bytes == 0 && offset < Bytes;
  }
  static void put(dwords& where, std::uint32_t offset, unsigned bytes,
                  std::uint32_t value) noexcept {
    PHASEBIT_EXPECTS(reachable(offset, bytes), "a register outside the configuration space");
    const unsigned shift = offset % 4 * 8;
    std::uint32_t& word = where[offset / 4];
    const std::uint32_t kept = thread_order::load(word) & ~(ones(bytes) << shift);
    thread_order::store(word, kept | (value & ones(bytes)) << shift);
  }

  dwords values_{};
  dwords writable_{};
  dwords cleared_by_ones_{};
};
static_assert(ConfigSpace<config_image<conventional_config_bytes>>);
static_assert(ConfigSpace<config_image<extended_config_bytes>>);

}  // namespace phasebit::pcie
