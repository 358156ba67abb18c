// SPDX-License-Identifier: BSL-1.0
// How a device side reports which of the driver's memory it has written, for live migration.
#pragma once

#include <concepts>
#include <cstddef>

namespace phasebit::virtio::device {

// mark(p, n) records that n bytes at p, memory of the driver as this process sees it, were written. It is
// called after the write and before the buffer is returned, and is cheap while enabled() is false.
template <class T>
concept DirtyLog = requires(T& log, const std::byte* at, std::size_t bytes) {
  { log.enabled() } noexcept -> std::same_as<bool>;
  { log.mark(at, bytes) } noexcept -> std::same_as<void>;
};

// Records nothing.
struct no_dirty_log {
  [[nodiscard]] static constexpr bool enabled() noexcept { return false; }
  static constexpr void mark(const std::byte*, std::size_t) noexcept {}
};
static_assert(DirtyLog<no_dirty_log>);

}  // namespace phasebit::virtio::device
