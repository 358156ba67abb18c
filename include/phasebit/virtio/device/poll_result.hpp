// SPDX-License-Identifier: BSL-1.0
// The result of one round of a device's queue.
#pragma once

#include <cstdint>

namespace phasebit::virtio::device {

struct poll_result {
  std::uint32_t taken = 0;      // buffers from the queue
  std::uint32_t completed = 0;  // buffers returned to it
  bool notify = false;          // the driver must be notified
};

}  // namespace phasebit::virtio::device
