// SPDX-License-Identifier: BSL-1.0
#include <phasebit/virtio/device/split_queue.hpp>

#include <cstddef>
#include <cstdint>

#include <fuzz/virtio_queue_fuzz.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  using queue = phasebit::virtio::device::split_queue<phasebit::thread_order>;
  phasebit_test::fuzz_virtqueue<queue, false>(data, bytes);
  return 0;
}
