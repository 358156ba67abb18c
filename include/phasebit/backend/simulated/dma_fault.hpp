// SPDX-License-Identifier: BSL-1.0
// DMA that failed.
#pragma once

#include <phasebit/backend/simulated/detail/ticket_lock.hpp>
#include <phasebit/core/address.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

namespace phasebit::backend::simulated {

// A DMA that failed. `reason` is the error of the path (not_mapped, access_denied, protocol),
// not_ready where bus mastering was off, or what a fault plan ordered.
struct dma_fault {
  pcie::requester_id requester{};
  bus_addr address{};
  access wanted = access::read;
  errc reason = errc::not_mapped;

  friend bool operator==(const dma_fault&, const dma_fault&) noexcept = default;
};

// Keeps the first faults, which show what went wrong, and counts all. Any thread.
class dma_fault_log {
 public:
  static constexpr std::size_t capacity = 64;

  void record(const dma_fault& fault) noexcept {
    const std::lock_guard guard{lock_};
    ++total_;
    if (kept_ != capacity) faults_[kept_++] = fault;
  }
  // All that were ever recorded, also those that were not kept.
  [[nodiscard]] std::uint64_t count() const noexcept {
    const std::lock_guard guard{lock_};
    return total_;
  }
  // The oldest one that is kept; it is kept no longer.
  [[nodiscard]] std::optional<dma_fault> take() noexcept {
    const std::lock_guard guard{lock_};
    if (kept_ == 0) return std::nullopt;
    const dma_fault oldest = faults_[0];
    std::copy(faults_.begin() + 1, faults_.begin() + static_cast<std::ptrdiff_t>(kept_),
              faults_.begin());
    --kept_;
    return oldest;
  }

 private:
  mutable detail::ticket_lock lock_;
  std::array<dma_fault, capacity> faults_{};
  std::size_t kept_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace phasebit::backend::simulated
