// SPDX-License-Identifier: BSL-1.0
// Barriers and the polling hint of instruction sets without a header of their own. Included by
// core/ordering.hpp, which documents what each orders; docs/memory-order.md gives the reasons.
#pragma once

namespace phasebit::detail::generic {

// Earlier loads before later loads and stores.
inline void dma_acquire() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// Earlier loads and stores before later stores, all to memory.
inline void dma_release() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// Earlier loads and stores before later loads and stores, all to memory.
inline void dma_full() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// The same between threads.
inline void thread_full() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// Earlier loads and stores of memory before later stores to device memory.
inline void before_mmio_write() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// Earlier loads of device memory before later loads and stores of memory.
inline void after_mmio_read() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// Also write-combining and non-temporal stores before later stores.
inline void drain_write_combining() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void relax() noexcept {}

}  // namespace phasebit::detail::generic
