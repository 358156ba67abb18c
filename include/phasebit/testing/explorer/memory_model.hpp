// SPDX-License-Identifier: BSL-1.0
// The memory models of the explorer, and the meaning of barriers in each.
#pragma once

#include <cstdint>

namespace phasebit::testing::explorer {

// The executions that a program has.
//     cpp20   C++20 [atomics.order] with relaxed, acquire, release and sequentially consistent accesses
//             and fences. Executions in which a load reads from a store that depends on it in program
//             order and reads-from (load buffering, out-of-thin-air values) are left out; see
//             word::load_delayed() for load buffering without a dependency
//     x86     x86-TSO: a load may be done before an earlier store to another word, nothing else moves
//     arm     Armv8, multi-copy atomic: acquire loads, release stores and dmb order accesses, and
//             nothing else does. Dependencies are not modelled, so the model is weaker than a processor
//     riscv   RVWMO with fences: as arm, but a release barrier is `fence rw,w` instead of `dmb osh`
enum class memory_model : std::uint8_t { cpp20, x86, arm, riscv };

[[nodiscard]] constexpr const char* name_of(memory_model model) noexcept {
  switch (model) {
    case memory_model::cpp20:
      return "C++20";
    case memory_model::x86:
      return "x86-TSO";
    case memory_model::arm:
      return "Armv8";
    case memory_model::riscv:
      return "RVWMO";
  }
  return "?";
}

// The accesses that a barrier orders: which earlier ones before which later ones.
enum class barrier : std::uint8_t {
  none,
  acquire,  // loads before loads and stores: C++ acquire fence, dmb ld, fence r,rw
  release,  // loads and stores before stores: C++ release fence, dmb, fence rw,w
  stores,   // stores before stores: dmb st, fence w,w; C++ has none
  full,     // everything before everything: C++ seq_cst fence, mfence, dmb, fence rw,rw
};

[[nodiscard]] constexpr const char* name_of(barrier kind) noexcept {
  switch (kind) {
    case barrier::none:
      return "no barrier";
    case barrier::acquire:
      return "acquire barrier";
    case barrier::release:
      return "release barrier";
    case barrier::stores:
      return "store-store barrier";
    case barrier::full:
      return "full barrier";
  }
  return "?";
}

// The barrier that a processor of this model executes for the one that was requested: `dmb osh` is
// the only one on Arm that has later stores wait for earlier loads and stores.
[[nodiscard]] constexpr barrier effective(memory_model model, barrier asked) noexcept {
  if (model == memory_model::x86 && asked != barrier::full) return barrier::none;
  if (model == memory_model::arm && asked == barrier::release) return barrier::full;
  return asked;
}

// How strongly one access is ordered.
enum class strength : std::uint8_t { relaxed, acquire, release, acquire_release, sequential };

[[nodiscard]] constexpr bool acquires(strength s) noexcept {
  return s == strength::acquire || s == strength::acquire_release || s == strength::sequential;
}
[[nodiscard]] constexpr bool releases(strength s) noexcept {
  return s == strength::release || s == strength::acquire_release || s == strength::sequential;
}

}  // namespace phasebit::testing::explorer
