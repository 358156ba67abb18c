// SPDX-License-Identifier: BSL-1.0
// How memory is shared with whoever is at the other end of a ring: another thread, or a device.
// Ordering is a property of the backend; rings take it as a parameter and contain no barrier of
// their own. docs/memory-order.md gives guarantee, reason and instructions per architecture.
//
// This header and the Mmio models are the only places with volatile, asm and __atomic.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace phasebit {

// What a ring needs of its ordering. All four are static, wait for nothing, and may be called
// concurrently on different words; one word has one writer.
//   load(w)        reads a word that the other side writes, once, untorn
//   after_load()   called when a load said that an entry is there: the entry's bytes, read after
//                  it, are at least as new as the word. Not called on a miss, so polling is free
//   store(w, v)    publishes: everything read or written before is done before v can be seen
//   full()         every store before is visible before any load after; for "set the flag, then
//                  look again" between two sides that may both sleep
template <class Order>
concept RingOrder = requires(const std::uint32_t& shared, std::uint32_t& mine) {
  { Order::load(shared) } noexcept -> std::same_as<std::uint32_t>;
  { Order::after_load() } noexcept;
  { Order::store(mine, std::uint32_t{}) } noexcept;
  { Order::full() } noexcept;
};

// The other side is a thread of this process, or a process that shares memory coherently.
// Acquire and release on the words themselves, which ThreadSanitizer understands.
struct thread_order {
  template <class T>
  [[nodiscard]] static T load(const T& shared) noexcept {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    T value;
    __atomic_load(&shared, &value, __ATOMIC_ACQUIRE);
    return value;
  }
  static void after_load() noexcept {}
  template <class T>
  static void store(T& mine, std::type_identity_t<T> value) noexcept {
    __atomic_store(&mine, &value, __ATOMIC_RELEASE);
  }
  static void full() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
};
static_assert(RingOrder<thread_order>);

namespace detail {

// The barriers that a device's DMA needs; each also stops the compiler.
inline void compiler_barrier() noexcept { asm volatile("" ::: "memory"); }

// Earlier loads before later loads and stores.
inline void dma_acquire() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  compiler_barrier();
#elif defined(__aarch64__)
  asm volatile("dmb oshld" ::: "memory");
#elif defined(__riscv)
  asm volatile("fence r, rw" ::: "memory");
#elif defined(__arm__)
  asm volatile("dmb" ::: "memory");
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

// Earlier loads and stores before later stores, all to memory.
inline void dma_release() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  compiler_barrier();
#elif defined(__aarch64__)
  asm volatile("dmb osh" ::: "memory");  // oshst would let earlier loads pass the store
#elif defined(__riscv)
  asm volatile("fence rw, w" ::: "memory");
#elif defined(__arm__)
  asm volatile("dmb" ::: "memory");
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

inline void dma_full() noexcept {
#if defined(__x86_64__)
  asm volatile("mfence" ::: "memory");
#elif defined(__aarch64__)
  asm volatile("dmb osh" ::: "memory");
#elif defined(__riscv)
  asm volatile("fence rw, rw" ::: "memory");
#elif defined(__arm__)
  asm volatile("dmb" ::: "memory");
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

}  // namespace detail

// The other side is a device that reads and writes this memory by DMA, coherently.
struct device_order {
  template <class T>
  [[nodiscard]] static T load(const T& shared) noexcept {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    if constexpr (std::is_scalar_v<T>) {
      return *static_cast<const volatile T*>(&shared);
    } else {
      T value;
      __atomic_load(&shared, &value, __ATOMIC_RELAXED);
      return value;
    }
  }
  static void after_load() noexcept { detail::dma_acquire(); }
  template <class T>
  static void store(T& mine, std::type_identity_t<T> value) noexcept {
    detail::dma_release();
    if constexpr (std::is_scalar_v<T>) {
      *static_cast<volatile T*>(&mine) = value;
    } else {
      __atomic_store(&mine, &value, __ATOMIC_RELAXED);
    }
  }
  static void full() noexcept { detail::dma_full(); }
};
static_assert(RingOrder<device_order>);

// Stored entries may be fetched before a doorbell is answered: called by a DoorbellSink before its
// store to a register. Orders earlier loads (entries that were consumed) and stores (entries that
// were posted) of ordinary cached memory before later stores to device memory.
inline void before_mmio_write() noexcept {
#if defined(__riscv)
  asm volatile("fence rw, ow" ::: "memory");
#else
  detail::dma_release();
#endif
}
// After reading a register that says that memory has changed.
inline void after_mmio_read() noexcept {
#if defined(__riscv)
  asm volatile("fence ir, rw" ::: "memory");
#else
  detail::dma_acquire();
#endif
}
// Where entries are written with non-temporal stores or into write-combining memory, x86 needs more
// than its usual order before a doorbell.
inline void drain_write_combining() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("sfence" ::: "memory");
#else
  before_mmio_write();
#endif
}

// One load or store of exactly this width, never merged, split, repeated or left out.
template <class T>
  requires(std::is_integral_v<T>)
[[nodiscard]] inline T mmio_load(const void* from) noexcept {
  return *static_cast<const volatile T*>(from);
}
template <class T>
  requires(std::is_integral_v<T>)
inline void mmio_store(void* to, std::type_identity_t<T> value) noexcept {
  *static_cast<volatile T*>(to) = value;
}

// Tells the processor that this is a polling loop; orders nothing.
inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("pause");
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield");
#elif defined(__riscv)
  asm volatile(".4byte 0x0100000f");  // pause (Zihintpause), a hint where it is not implemented
#endif
}

namespace detail {

// The widest word that is read and written whole on this machine without help.
using copy_word = std::conditional_t<sizeof(void*) == 8, std::uint64_t, std::uint32_t>;

// Word by word, each once. Concurrent writers make the copy a mix of old and new words; they can
// not make it anything else, nor have a word read twice.
template <class Word>
inline void copy_words(void* to, const void* from, std::size_t count) noexcept {
  using word [[gnu::may_alias]] = Word;
  auto* d = static_cast<word*>(to);
  const auto* s = static_cast<const word*>(from);
  for (std::size_t i = 0; i != count; ++i) {
    __atomic_store_n(d + i, __atomic_load_n(s + i, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
  }
}

}  // namespace detail

}  // namespace phasebit
