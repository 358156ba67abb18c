// SPDX-License-Identifier: BSL-1.0
// Another way for submission entries to reach memory: past the cache. For queues that lie in a
// controller memory buffer or in other write-combining memory, where ordinary stores would go out one
// by one. For queues in ordinary memory it is slow (bench/nvme_host_bench): each doorbell waits
// until the write-combining buffers are empty.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/nvme/driver/submission_queue.hpp>

#if defined(__SSE2__)
#  include <emmintrin.h>
#endif

namespace phasebit::nvme::driver {

// Non-temporal stores where the machine has them, ordinary ones elsewhere.
struct streaming_store {
  PHASEBIT_ALWAYS_INLINE static void store(submission_entry& to,
                                           const submission_entry& from) noexcept {
#if defined(__SSE2__)
    auto* d = reinterpret_cast<__m128i*>(&to);
    const auto* s = reinterpret_cast<const __m128i*>(&from);
    for (std::size_t i = 0; i != sizeof(submission_entry) / sizeof(__m128i); ++i) {
      _mm_stream_si128(d + i, _mm_loadu_si128(s + i));
    }
#else
    to = from;
#endif
  }
  static void before_doorbell() noexcept { drain_write_combining(); }
};

}  // namespace phasebit::nvme::driver
