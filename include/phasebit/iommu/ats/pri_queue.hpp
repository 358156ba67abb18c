// SPDX-License-Identifier: BSL-1.0
// Where an IOMMU keeps page requests until software answers them: PCIe 5.0, 10.4; what happens when
// it is full is as in VT-d 4.1, 7.4, SMMUv3 (8.1) and RISC-V (3.3).
#pragma once

#include <phasebit/iommu/ats/pri_messages.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// At most Capacity requests, first in, first out. One thread.
template <std::size_t Capacity = 64>
class pri_queue {
 public:
  // Takes a request. Where it cannot be kept and is the last of its group, the answer to send at
  // once: success, so that the device requests it again, if the queue is full; failure, if it is off. A
  // request before the last is dropped: the device requests it again for the whole group.
  // After an overflow nothing is kept before it is acknowledged: the queue may hold the beginning of
  // groups whose ends were lost, and their indices may be used again.
  [[nodiscard]] std::optional<pri_response> take(const pri_request& request) noexcept {
    if (enabled_ && !overflowed_ && count_ != Capacity) {
      requests_[(first_ + count_) % Capacity] = request;
      ++count_;
      return std::nullopt;
    }
    overflowed_ |= enabled_;
    ++dropped_;
    if (!request.last() || request.stop_marker()) return std::nullopt;
    return respond(request, enabled_ ? page_response_code::success : page_response_code::failure);
  }
  [[nodiscard]] std::optional<pri_request> next() noexcept {
    if (count_ == 0) return std::nullopt;
    const pri_request request = requests_[first_];
    first_ = (first_ + 1) % Capacity;
    --count_;
    return request;
  }

  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] bool enabled() const noexcept { return enabled_; }
  void enable(bool on) noexcept { enabled_ = on; }
  // Sticky until acknowledged.
  [[nodiscard]] bool overflowed() const noexcept { return overflowed_; }
  void acknowledge_overflow() noexcept { overflowed_ = false; }
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }

 private:
  std::array<pri_request, Capacity> requests_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::uint64_t dropped_ = 0;
  bool enabled_ = true;
  bool overflowed_ = false;
};

}  // namespace phasebit::iommu
