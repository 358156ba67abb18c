// SPDX-License-Identifier: BSL-1.0
// Lets the explorer see the plain accesses and the std::atomic of code that is compiled as for
// ThreadSanitizer (-fsanitize=thread) and linked without it: the calls that the compiler inserts end
// here. One translation unit of the program, compiled without that option, defines
// PHASEBIT_EXPLORER_INSTRUMENTED and includes this header; for all others it is empty.
// Library functions such as memcpy are not seen where the compiler calls them as they are.
#pragma once

#if defined(PHASEBIT_EXPLORER_INSTRUMENTED)

#  include <phasebit/testing/explorer/detail/engine.hpp>

#  include <cstddef>
#  include <cstdint>
#  include <cstring>
#  include <source_location>

namespace phasebit::testing::explorer::detail {
namespace {

// Copies of this translation unit that are not instrumented: they decide whether an access is
// checked.
bool watched(const void* p) noexcept {
  return reinterpret_cast<std::uintptr_t>(p) - observed.begin < observed.size && !observed.quiet;
}
void plain(const void* p, std::size_t bytes, bool write) noexcept {
  if (!watched(p)) return;
  engine* const e = engine::current();
  if (e->shares(p)) e->plain(p, bytes, write);
}

// The compiler's numbers of memory orders: relaxed is 0, sequentially consistent is 5.
strength strength_of(int order) noexcept {
  switch (order & 7) {
    case 0:
      return strength::relaxed;
    case 1:
    case 2:
      return strength::acquire;
    case 3:
      return strength::release;
    case 4:
      return strength::acquire_release;
    default:
      return strength::sequential;
  }
}
// The engine where it has to do with this access, else nullptr: then the access is done here.
template <class T>
engine* atomic_engine(const T* p, int order, bool write) noexcept {
  if (!watched(p)) return nullptr;
  engine* const e = engine::running();
  if (e != nullptr && e->is_atomic(p, strength_of(order))) return e;
  plain(p, sizeof(T), write);
  return nullptr;
}
request asked(operation what, int order) noexcept {
  request r;
  r.what = what;
  r.order = strength_of(order);
  return r;
}

template <class T>
T atomic_load(const T* p, int order) noexcept {
  engine* const e = atomic_engine(p, order, false);
  if (e == nullptr) return *p;
  return static_cast<T>(e->load(p, sizeof(T), asked(operation::atomic_load, order)));
}
template <class T>
void atomic_store(T* p, T value, int order) noexcept {
  engine* const e = atomic_engine(p, order, true);
  if (e == nullptr) {
    *p = value;
  } else {
    e->store(p, sizeof(T), value, barrier::none, asked(operation::atomic_store, order));
  }
}
template <class T, class Change>
T atomic_change(T* p, Change change, int order) noexcept {
  engine* const e = watched(p) ? engine::running() : nullptr;
  if (e == nullptr) {
    const T old = *p;
    *p = change(old);
    return old;
  }
  auto wide = [change](std::uint64_t old) { return std::uint64_t{change(static_cast<T>(old))}; };
  return static_cast<T>(
      e->exchange(p, sizeof(T), nullptr, wide, asked(operation::atomic_exchange, order)));
}
template <class T>
bool atomic_compare(T* p, T* expected, T value, int order, int failure) noexcept {
  engine* const e = watched(p) ? engine::running() : nullptr;
  T old = *p;
  if (e == nullptr) {
    if (old == *expected) *p = value;
  } else {
    const std::uint64_t wanted = *expected;
    auto wide = [value](std::uint64_t) { return std::uint64_t{value}; };
    old =
        static_cast<T>(e->exchange(p, sizeof(T), &wanted, wide,
                                   asked(operation::atomic_exchange, order), strength_of(failure)));
  }
  const bool done = old == *expected;
  *expected = old;
  return done;
}

}  // namespace
}  // namespace phasebit::testing::explorer::detail

extern "C" {

using phasebit::testing::explorer::detail::atomic_change;
using phasebit::testing::explorer::detail::atomic_compare;
using phasebit::testing::explorer::detail::atomic_load;
using phasebit::testing::explorer::detail::atomic_store;
using phasebit::testing::explorer::detail::plain;

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_atomic_signal_fence(int) {}
void __tsan_atomic_thread_fence(int order) {
  using namespace phasebit::testing::explorer;
  detail::engine* const e = detail::engine::running();
  if (e == nullptr || order == 0) return;
  const barrier kinds[] = {barrier::none,    barrier::acquire, barrier::acquire,
                           barrier::release, barrier::release, barrier::full};
  if (order == 4) e->fence(barrier::acquire, detail::asked(operation::full, order));
  e->fence(kinds[order], detail::asked(operation::full, order));
}
void* __tsan_memcpy(void* to, const void* from, std::size_t bytes) {
  plain(from, bytes, false);
  plain(to, bytes, true);
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, std::size_t bytes) {
  plain(from, bytes, false);
  plain(to, bytes, true);
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, std::size_t bytes) {
  plain(to, bytes, true);
  return std::memset(to, value, bytes);
}

void __tsan_read1(void* p) { plain(p, 1, false); }
void __tsan_read2(void* p) { plain(p, 2, false); }
void __tsan_read4(void* p) { plain(p, 4, false); }
void __tsan_read8(void* p) { plain(p, 8, false); }
void __tsan_read16(void* p) { plain(p, 16, false); }
void __tsan_unaligned_read2(void* p) { plain(p, 2, false); }
void __tsan_unaligned_read4(void* p) { plain(p, 4, false); }
void __tsan_unaligned_read8(void* p) { plain(p, 8, false); }
void __tsan_unaligned_read16(void* p) { plain(p, 16, false); }
void __tsan_read_range(void* p, std::size_t bytes) { plain(p, bytes, false); }
void __tsan_write1(void* p) { plain(p, 1, true); }
void __tsan_write2(void* p) { plain(p, 2, true); }
void __tsan_write4(void* p) { plain(p, 4, true); }
void __tsan_write8(void* p) { plain(p, 8, true); }
void __tsan_write16(void* p) { plain(p, 16, true); }
void __tsan_unaligned_write2(void* p) { plain(p, 2, true); }
void __tsan_unaligned_write4(void* p) { plain(p, 4, true); }
void __tsan_unaligned_write8(void* p) { plain(p, 8, true); }
void __tsan_unaligned_write16(void* p) { plain(p, 16, true); }
void __tsan_write_range(void* p, std::size_t bytes) { plain(p, bytes, true); }

std::uint8_t __tsan_atomic8_load(const std::uint8_t* p, int order) { return atomic_load(p, order); }
void __tsan_atomic8_store(std::uint8_t* p, std::uint8_t v, int order) { atomic_store(p, v, order); }
std::uint8_t __tsan_atomic8_exchange(std::uint8_t* p, std::uint8_t v, int order) {
  return atomic_change(
      p, [v](std::uint8_t) { return v; }, order);
}
std::uint8_t __tsan_atomic8_fetch_add(std::uint8_t* p, std::uint8_t v, int order) {
  return atomic_change(
      p, [v](std::uint8_t old) { return static_cast<std::uint8_t>(old + v); }, order);
}
std::uint8_t __tsan_atomic8_fetch_sub(std::uint8_t* p, std::uint8_t v, int order) {
  return atomic_change(
      p, [v](std::uint8_t old) { return static_cast<std::uint8_t>(old - v); }, order);
}
std::uint8_t __tsan_atomic8_fetch_and(std::uint8_t* p, std::uint8_t v, int order) {
  return atomic_change(
      p, [v](std::uint8_t old) { return static_cast<std::uint8_t>(old & v); }, order);
}
std::uint8_t __tsan_atomic8_fetch_or(std::uint8_t* p, std::uint8_t v, int order) {
  return atomic_change(
      p, [v](std::uint8_t old) { return static_cast<std::uint8_t>(old | v); }, order);
}
std::uint8_t __tsan_atomic8_fetch_xor(std::uint8_t* p, std::uint8_t v, int order) {
  return atomic_change(
      p, [v](std::uint8_t old) { return static_cast<std::uint8_t>(old ^ v); }, order);
}
int __tsan_atomic8_compare_exchange_strong(std::uint8_t* p, std::uint8_t* expected, std::uint8_t v,
                                           int order, int failure) {
  return atomic_compare(p, expected, v, order, failure) ? 1 : 0;
}
int __tsan_atomic8_compare_exchange_weak(std::uint8_t* p, std::uint8_t* expected, std::uint8_t v,
                                         int order, int failure) {
  return atomic_compare(p, expected, v, order, failure) ? 1 : 0;
}
std::uint8_t __tsan_atomic8_compare_exchange_val(std::uint8_t* p, std::uint8_t expected,
                                                 std::uint8_t v, int order, int failure) {
  static_cast<void>(atomic_compare(p, &expected, v, order, failure));
  return expected;
}

std::uint16_t __tsan_atomic16_load(const std::uint16_t* p, int order) {
  return atomic_load(p, order);
}
void __tsan_atomic16_store(std::uint16_t* p, std::uint16_t v, int order) {
  atomic_store(p, v, order);
}
std::uint16_t __tsan_atomic16_exchange(std::uint16_t* p, std::uint16_t v, int order) {
  return atomic_change(
      p, [v](std::uint16_t) { return v; }, order);
}
std::uint16_t __tsan_atomic16_fetch_add(std::uint16_t* p, std::uint16_t v, int order) {
  return atomic_change(
      p, [v](std::uint16_t old) { return static_cast<std::uint16_t>(old + v); }, order);
}
std::uint16_t __tsan_atomic16_fetch_sub(std::uint16_t* p, std::uint16_t v, int order) {
  return atomic_change(
      p, [v](std::uint16_t old) { return static_cast<std::uint16_t>(old - v); }, order);
}
std::uint16_t __tsan_atomic16_fetch_and(std::uint16_t* p, std::uint16_t v, int order) {
  return atomic_change(
      p, [v](std::uint16_t old) { return static_cast<std::uint16_t>(old & v); }, order);
}
std::uint16_t __tsan_atomic16_fetch_or(std::uint16_t* p, std::uint16_t v, int order) {
  return atomic_change(
      p, [v](std::uint16_t old) { return static_cast<std::uint16_t>(old | v); }, order);
}
std::uint16_t __tsan_atomic16_fetch_xor(std::uint16_t* p, std::uint16_t v, int order) {
  return atomic_change(
      p, [v](std::uint16_t old) { return static_cast<std::uint16_t>(old ^ v); }, order);
}
int __tsan_atomic16_compare_exchange_strong(std::uint16_t* p, std::uint16_t* expected,
                                            std::uint16_t v, int order, int failure) {
  return atomic_compare(p, expected, v, order, failure) ? 1 : 0;
}
int __tsan_atomic16_compare_exchange_weak(std::uint16_t* p, std::uint16_t* expected,
                                          std::uint16_t v, int order, int failure) {
  return atomic_compare(p, expected, v, order, failure) ? 1 : 0;
}
std::uint16_t __tsan_atomic16_compare_exchange_val(std::uint16_t* p, std::uint16_t expected,
                                                   std::uint16_t v, int order, int failure) {
  static_cast<void>(atomic_compare(p, &expected, v, order, failure));
  return expected;
}

std::uint32_t __tsan_atomic32_load(const std::uint32_t* p, int order) {
  return atomic_load(p, order);
}
void __tsan_atomic32_store(std::uint32_t* p, std::uint32_t v, int order) {
  atomic_store(p, v, order);
}
std::uint32_t __tsan_atomic32_exchange(std::uint32_t* p, std::uint32_t v, int order) {
  return atomic_change(
      p, [v](std::uint32_t) { return v; }, order);
}
std::uint32_t __tsan_atomic32_fetch_add(std::uint32_t* p, std::uint32_t v, int order) {
  return atomic_change(
      p, [v](std::uint32_t old) { return static_cast<std::uint32_t>(old + v); }, order);
}
std::uint32_t __tsan_atomic32_fetch_sub(std::uint32_t* p, std::uint32_t v, int order) {
  return atomic_change(
      p, [v](std::uint32_t old) { return static_cast<std::uint32_t>(old - v); }, order);
}
std::uint32_t __tsan_atomic32_fetch_and(std::uint32_t* p, std::uint32_t v, int order) {
  return atomic_change(
      p, [v](std::uint32_t old) { return static_cast<std::uint32_t>(old & v); }, order);
}
std::uint32_t __tsan_atomic32_fetch_or(std::uint32_t* p, std::uint32_t v, int order) {
  return atomic_change(
      p, [v](std::uint32_t old) { return static_cast<std::uint32_t>(old | v); }, order);
}
std::uint32_t __tsan_atomic32_fetch_xor(std::uint32_t* p, std::uint32_t v, int order) {
  return atomic_change(
      p, [v](std::uint32_t old) { return static_cast<std::uint32_t>(old ^ v); }, order);
}
int __tsan_atomic32_compare_exchange_strong(std::uint32_t* p, std::uint32_t* expected,
                                            std::uint32_t v, int order, int failure) {
  return atomic_compare(p, expected, v, order, failure) ? 1 : 0;
}
int __tsan_atomic32_compare_exchange_weak(std::uint32_t* p, std::uint32_t* expected,
                                          std::uint32_t v, int order, int failure) {
  return atomic_compare(p, expected, v, order, failure) ? 1 : 0;
}
std::uint32_t __tsan_atomic32_compare_exchange_val(std::uint32_t* p, std::uint32_t expected,
                                                   std::uint32_t v, int order, int failure) {
  static_cast<void>(atomic_compare(p, &expected, v, order, failure));
  return expected;
}

std::uint64_t __tsan_atomic64_load(const std::uint64_t* p, int order) {
  return atomic_load(p, order);
}
void __tsan_atomic64_store(std::uint64_t* p, std::uint64_t v, int order) {
  atomic_store(p, v, order);
}
std::uint64_t __tsan_atomic64_exchange(std::uint64_t* p, std::uint64_t v, int order) {
  return atomic_change(
      p, [v](std::uint64_t) { return v; }, order);
}
std::uint64_t __tsan_atomic64_fetch_add(std::uint64_t* p, std::uint64_t v, int order) {
  return atomic_change(
      p, [v](std::uint64_t old) { return static_cast<std::uint64_t>(old + v); }, order);
}
std::uint64_t __tsan_atomic64_fetch_sub(std::uint64_t* p, std::uint64_t v, int order) {
  return atomic_change(
      p, [v](std::uint64_t old) { return static_cast<std::uint64_t>(old - v); }, order);
}
std::uint64_t __tsan_atomic64_fetch_and(std::uint64_t* p, std::uint64_t v, int order) {
  return atomic_change(
      p, [v](std::uint64_t old) { return static_cast<std::uint64_t>(old & v); }, order);
}
std::uint64_t __tsan_atomic64_fetch_or(std::uint64_t* p, std::uint64_t v, int order) {
  return atomic_change(
      p, [v](std::uint64_t old) { return static_cast<std::uint64_t>(old | v); }, order);
}
std::uint64_t __tsan_atomic64_fetch_xor(std::uint64_t* p, std::uint64_t v, int order) {
  return atomic_change(
      p, [v](std::uint64_t old) { return static_cast<std::uint64_t>(old ^ v); }, order);
}
int __tsan_atomic64_compare_exchange_strong(std::uint64_t* p, std::uint64_t* expected,
                                            std::uint64_t v, int order, int failure) {
  return atomic_compare(p, expected, v, order, failure) ? 1 : 0;
}
int __tsan_atomic64_compare_exchange_weak(std::uint64_t* p, std::uint64_t* expected,
                                          std::uint64_t v, int order, int failure) {
  return atomic_compare(p, expected, v, order, failure) ? 1 : 0;
}
std::uint64_t __tsan_atomic64_compare_exchange_val(std::uint64_t* p, std::uint64_t expected,
                                                   std::uint64_t v, int order, int failure) {
  static_cast<void>(atomic_compare(p, &expected, v, order, failure));
  return expected;
}

}  // extern "C"

#endif
