// SPDX-License-Identifier: BSL-1.0
// The log of written pages that a front end keeps during live migration.
#pragma once

#include <phasebit/memory/dirty_bitmap.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/transport/vhost_user/memory_table.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace phasebit::transport::vhost_user {

// One bit for each 4 KiB of guest memory, in memory of the front end, which clears bits at the same
// time. A write beyond the bitmap is counted and not recorded. Any thread may mark.
class dirty_bitmap {
 public:
  explicit dirty_bitmap(const memory_table& memory) noexcept : memory_(&memory) {}

  // From here on writes are recorded, once enable() was called.
  void attach(posix::memory_mapping mapping, std::size_t offset, std::size_t bytes) noexcept {
    mapping_ = std::move(mapping);
    bytes_ = {mapping_.data() + offset, bytes};
  }
  void detach() noexcept {
    enabled_ = false;
    mapping_.reset();
    bytes_ = {};
  }
  void enable(bool on) noexcept { enabled_ = on; }
  [[nodiscard]] bool enabled() const noexcept { return enabled_ && bytes_.data() != nullptr; }
  [[nodiscard]] std::uint64_t unrecorded() const noexcept { return unrecorded_; }

  void mark(const std::byte* at, std::size_t bytes) noexcept {
    std::uint64_t guest = 0;
    if (bytes == 0) return;
    if (!memory_->guest_address_of(at, guest)) {
      ++unrecorded_;
      return;
    }
    phasebit::dirty_bitmap<guest_space> bits{bytes_, guest_addr{0}, 12};
    if (!bits.set(guest_addr{guest}, guest_addr{guest + (bytes - 1)})) ++unrecorded_;
  }

 private:
  const memory_table* memory_;
  posix::memory_mapping mapping_;
  std::span<std::byte> bytes_{};
  std::uint64_t unrecorded_ = 0;
  bool enabled_ = false;
};

// The log parameter of device sides: the bitmap of the device's current connection, or none.
struct dirty_bitmap_log {
  dirty_bitmap* const* current = nullptr;

  [[nodiscard]] bool enabled() const noexcept {
    return current != nullptr && *current != nullptr && (*current)->enabled();
  }
  void mark(const std::byte* at, std::size_t bytes) noexcept { (*current)->mark(at, bytes); }
};

}  // namespace phasebit::transport::vhost_user
