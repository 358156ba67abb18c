// SPDX-License-Identifier: BSL-1.0
// How memory is shared with the other end of a ring: another thread, or a device.
// Ordering is a property of the backend; rings take it as a parameter and contain no barrier of
// their own. docs/memory-order.md gives guarantee, reason and instructions per architecture.
//
// This header, core/arch and the Mmio models are the only places with volatile, asm and __atomic.
#pragma once

#include <phasebit/core/arch/aarch64.hpp>
#include <phasebit/core/arch/arm.hpp>
#include <phasebit/core/arch/generic.hpp>
#include <phasebit/core/arch/riscv.hpp>
#include <phasebit/core/arch/x86.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace phasebit {

// A type that this machine reads and writes whole, without a lock and without help from a library:
// an integer, an le<> or be<>, a small aligned struct; no wider than a pointer.
template <class T>
concept SharedWord = std::is_trivially_copyable_v<T> && std::has_single_bit(sizeof(T)) &&
                     alignof(T) == sizeof(T) && sizeof(T) <= sizeof(void*);

// The ordering that a ring needs. All four functions are static, wait for nothing, and may be
// called concurrently on different words; one word has one writer.
//   load(w)        reads a word that the other side writes, once, untorn
//   after_load()   called after a load has found an entry: the entry's bytes, read after it, are at
//                  least as new as the word. Not called on a miss, so polling costs no barrier
//   store(w, v)    publishes: everything read or written before is done before v becomes visible
//   full()         every store before is visible before any load after; for "set the flag, then
//                  check again" between two sides that may both sleep
template <class Order>
concept RingOrder = requires(const std::uint32_t& shared, std::uint32_t& mine) {
  { Order::load(shared) } noexcept -> std::same_as<std::uint32_t>;
  { Order::after_load() } noexcept;
  { Order::store(mine, std::uint32_t{}) } noexcept;
  { Order::full() } noexcept;
};

namespace detail {

// The barriers of the instruction set: those that a device's DMA needs, and those of threads. Each
// is also a compiler barrier. ThreadSanitizer does not model them; it needs only the ordering of
// the words through which data are passed.
#if defined(__x86_64__) || defined(__i386__)
namespace arch = x86;
#elif defined(__aarch64__)
namespace arch = aarch64;
#elif defined(__riscv)
namespace arch = riscv;
#elif defined(__arm__)
namespace arch = arm;
#else
namespace arch = generic;
#endif

inline void compiler_barrier() noexcept { asm volatile("" ::: "memory"); }

// The integer that is as wide as a shared word.
template <std::size_t Bytes>
using word_of = std::conditional_t<
    Bytes == 1, std::uint8_t,
    std::conditional_t<Bytes == 2, std::uint16_t,
                       std::conditional_t<Bytes == 4, std::uint32_t, std::uint64_t>>>;

// One access of exactly this width, never merged, split, repeated or left out, through a type that
// may alias whatever lies there. ThreadSanitizer takes it for an ordinary access.
template <class Word>
[[nodiscard]] inline Word volatile_load(const void* from) noexcept {
  struct [[gnu::may_alias]] any {
    Word word;
  };
  return static_cast<const volatile any*>(from)->word;
}
template <class Word>
inline void volatile_store(void* to, Word value) noexcept {
  struct [[gnu::may_alias]] any {
    Word word;
  };
  static_cast<volatile any*>(to)->word = value;
}

}  // namespace detail

// The other side is a thread of this process, or a process that shares memory coherently.
// Acquire and release on the words themselves, which ThreadSanitizer understands.
struct thread_order {
  template <SharedWord T>
  [[nodiscard]] static T load(const T& shared) noexcept {
    T value;
    __atomic_load(&shared, &value, __ATOMIC_ACQUIRE);
    return value;
  }
  // Orders nothing: for a word that is looked at on a hot path and read again, with load(), where it differs
  // from the usual.
  template <SharedWord T>
  [[nodiscard]] static T load_relaxed(const T& shared) noexcept {
    T value;
    __atomic_load(&shared, &value, __ATOMIC_RELAXED);
    return value;
  }
  static void after_load() noexcept {}
  template <SharedWord T>
  static void store(T& mine, std::type_identity_t<T> value) noexcept {
#if defined(__riscv) && !defined(__clang__)
    // g++ stores by an atomic swap here, and calls a library where there is none of that width.
    detail::arch::dma_release();
    detail::volatile_store(&mine, std::bit_cast<detail::word_of<sizeof(T)>>(value));
#else
    __atomic_store(&mine, &value, __ATOMIC_RELEASE);
#endif
  }
  // Orders nothing: for a word that hands over nothing but itself.
  template <SharedWord T>
  static void store_relaxed(T& mine, std::type_identity_t<T> value) noexcept {
#if defined(__riscv) && !defined(__clang__)
    detail::volatile_store(&mine, std::bit_cast<detail::word_of<sizeof(T)>>(value));
#else
    __atomic_store(&mine, &value, __ATOMIC_RELAXED);
#endif
  }
  static void full() noexcept { detail::arch::thread_full(); }
};
static_assert(RingOrder<thread_order>);

// The other side is a device that reads and writes this memory by DMA, coherently.
struct device_order {
  template <SharedWord T>
  [[nodiscard]] static T load(const T& shared) noexcept {
    return std::bit_cast<T>(detail::volatile_load<detail::word_of<sizeof(T)>>(&shared));
  }
  static void after_load() noexcept { detail::arch::dma_acquire(); }
  template <SharedWord T>
  static void store(T& mine, std::type_identity_t<T> value) noexcept {
    detail::arch::dma_release();
    detail::volatile_store(&mine, std::bit_cast<detail::word_of<sizeof(T)>>(value));
  }
  static void full() noexcept { detail::arch::dma_full(); }
};
static_assert(RingOrder<device_order>);

// Called by a DoorbellSink before its store to a register: the side that answers the doorbell finds the
// entries. Orders earlier stores (entries that were posted) and loads (entries that were consumed,
// whose places a CQ head gives back) of ordinary memory before later stores to device memory.
inline void before_mmio_write() noexcept { detail::arch::before_mmio_write(); }
// Called after reading a register that reports a change of memory: orders the read before later
// loads and stores of ordinary memory.
inline void after_mmio_read() noexcept { detail::arch::after_mmio_read(); }
// Where entries are written with non-temporal stores or into write-combining memory: those stores,
// too, are done before later stores to a register. Stronger than before_mmio_write(), and slower.
inline void drain_write_combining() noexcept { detail::arch::drain_write_combining(); }

// One load or store of exactly this width, never merged, split, repeated or left out.
template <class T>
  requires(std::is_integral_v<T>)
[[nodiscard]] inline T mmio_load(const void* from) noexcept {
  return detail::volatile_load<T>(from);
}
template <class T>
  requires(std::is_integral_v<T>)
inline void mmio_store(void* to, std::type_identity_t<T> value) noexcept {
  detail::volatile_store<T>(to, value);
}

// A hint to the processor that this is a polling loop; orders nothing.
inline void cpu_relax() noexcept { detail::arch::relax(); }

namespace detail {

// One word of shared memory, read or written once and whole, in no order with others; seen by
// ThreadSanitizer. Words are at most as wide as a pointer.
template <class Word>
[[nodiscard]] inline Word load_once(const void* from) noexcept {
  struct [[gnu::may_alias]] any {
    Word word;
  };
  return __atomic_load_n(&static_cast<const any*>(from)->word, __ATOMIC_RELAXED);
}
template <class Word>
inline void store_once(void* to, Word value) noexcept {
#if defined(__riscv) && !defined(__clang__)
  volatile_store(to, value);
#else
  struct [[gnu::may_alias]] any {
    Word word;
  };
  __atomic_store_n(&static_cast<any*>(to)->word, value, __ATOMIC_RELAXED);
#endif
}

}  // namespace detail

}  // namespace phasebit
