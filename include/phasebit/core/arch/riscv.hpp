// SPDX-License-Identifier: BSL-1.0
// Barriers and the polling hint of RISC-V. Included by core/ordering.hpp, which documents what each
// orders; docs/memory-order.md gives the reasons.
#pragma once

namespace phasebit::detail::riscv {

// A device's DMA is an observer of main memory; registers are input and output.

// Earlier loads before later loads and stores.
inline void dma_acquire() noexcept { asm volatile("fence r, rw" ::: "memory"); }
// Earlier loads and stores before later stores, all to memory.
inline void dma_release() noexcept { asm volatile("fence rw, w" ::: "memory"); }
// Earlier loads and stores before later loads and stores, all to memory.
inline void dma_full() noexcept { asm volatile("fence rw, rw" ::: "memory"); }
// The same between threads.
inline void thread_full() noexcept { dma_full(); }
// Earlier loads and stores of memory before later stores to device memory.
inline void before_mmio_write() noexcept { asm volatile("fence rw, ow" ::: "memory"); }
// Earlier loads of device memory before later loads and stores of memory.
inline void after_mmio_read() noexcept { asm volatile("fence ir, rw" ::: "memory"); }
// Also write-combining and non-temporal stores before later stores.
// Svpbmt: such stores are output as well as memory.
inline void drain_write_combining() noexcept { asm volatile("fence orw, ow" ::: "memory"); }
// pause (Zihintpause), a hint where it is not implemented.
inline void relax() noexcept { asm volatile(".4byte 0x0100000f"); }

}  // namespace phasebit::detail::riscv
