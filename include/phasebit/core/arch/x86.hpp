// SPDX-License-Identifier: BSL-1.0
// Barriers and the polling hint of x86 and x86-64. Included by core/ordering.hpp, which documents
// what each orders; docs/memory-order.md gives the reasons.
#pragma once

namespace phasebit::detail::x86 {

// Earlier loads before later loads and stores.
// Loads are not reordered: only the compiler is kept from it.
inline void dma_acquire() noexcept { asm volatile("" ::: "memory"); }
// Earlier loads and stores before later stores, all to memory.
// Stores are not reordered with earlier loads and stores.
inline void dma_release() noexcept { asm volatile("" ::: "memory"); }
// Earlier loads and stores before later loads and stores, all to memory.
// A locked instruction is a full barrier for cached memory, and cheaper than mfence. It adds nothing to
// the word at the top of the stack.
inline void dma_full() noexcept {
#if defined(__x86_64__)
  asm volatile("lock orl $0, (%%rsp)" ::: "memory", "cc");
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}
// The same between threads.
inline void thread_full() noexcept { dma_full(); }
// Earlier loads and stores of memory before later stores to device memory.
inline void before_mmio_write() noexcept { dma_release(); }
// Earlier loads of device memory before later loads and stores of memory.
inline void after_mmio_read() noexcept { dma_acquire(); }
// Also write-combining and non-temporal stores before later stores.
inline void drain_write_combining() noexcept { asm volatile("sfence" ::: "memory"); }
inline void relax() noexcept { asm volatile("pause"); }

}  // namespace phasebit::detail::x86
