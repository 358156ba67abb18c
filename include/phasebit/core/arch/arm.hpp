// SPDX-License-Identifier: BSL-1.0
// Barriers and the polling hint of 32-bit Arm. Included by core/ordering.hpp, which documents what
// each orders; docs/memory-order.md gives the reasons.
#pragma once

namespace phasebit::detail::arm {

// Earlier loads before later loads and stores.
inline void dma_acquire() noexcept { asm volatile("dmb" ::: "memory"); }
// Earlier loads and stores before later stores, all to memory.
inline void dma_release() noexcept { asm volatile("dmb" ::: "memory"); }
// Earlier loads and stores before later loads and stores, all to memory.
inline void dma_full() noexcept { asm volatile("dmb" ::: "memory"); }
// The same between threads.
inline void thread_full() noexcept { dma_full(); }
// Earlier loads and stores of memory before later stores to device memory.
inline void before_mmio_write() noexcept { dma_release(); }
// Earlier loads of device memory before later loads and stores of memory.
inline void after_mmio_read() noexcept { dma_acquire(); }
// Also write-combining and non-temporal stores before later stores.
inline void drain_write_combining() noexcept { asm volatile("dsb" ::: "memory"); }
inline void relax() noexcept { asm volatile("yield"); }

}  // namespace phasebit::detail::arm
