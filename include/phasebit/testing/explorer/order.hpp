// SPDX-License-Identifier: BSL-1.0
// Ring orders and a doorbell that hand each access to the explorer.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/testing/explorer/detail/engine.hpp>

#include <bit>
#include <cstdint>
#include <source_location>
#include <type_traits>

namespace phasebit::testing::explorer {

namespace detail {

template <class T>
using word_bits = phasebit::detail::word_of<sizeof(T)>;

template <class T>
[[nodiscard]] T ordered_load(const T& shared, strength order, std::source_location where) noexcept {
  if (engine* const e = engine::running()) {
    const std::uint64_t value = e->load(&shared, sizeof(T), {operation::load, order, where});
    return std::bit_cast<T>(static_cast<word_bits<T>>(value));
  }
  return shared;
}
template <class T>
void ordered_store(T& mine, T value, barrier before, strength order, operation what,
                   std::source_location where) noexcept {
  if (engine* const e = engine::running()) {
    e->store(&mine, sizeof(T), std::bit_cast<word_bits<T>>(value), before, {what, order, where});
    return;
  }
  mine = value;
  if (engine* const e = engine::current()) e->plain(&mine, sizeof(T), true);
}
inline void ordered_fence(barrier kind, operation what, std::source_location where) noexcept {
  if (engine* const e = engine::running()) e->fence(kind, {what, strength::relaxed, where});
}

}  // namespace detail

// phasebit::thread_order: acquire loads and release stores. In the models of processors they are
// ldar and stlr on Arm, plain accesses and fences on RISC-V, plain accesses on x86.
struct thread_order {
  template <SharedWord T>
  [[nodiscard]] static T load(
      const T& shared, std::source_location where = std::source_location::current()) noexcept {
    return detail::ordered_load(shared, strength::acquire, where);
  }
  template <SharedWord T>
  [[nodiscard]] static T load_relaxed(
      const T& shared, std::source_location where = std::source_location::current()) noexcept {
    return detail::ordered_load(shared, strength::relaxed, where);
  }
  static void after_load() noexcept {}
  template <SharedWord T>
  static void store(T& mine, std::type_identity_t<T> value,
                    std::source_location where = std::source_location::current()) noexcept {
    detail::ordered_store(mine, value, barrier::none, strength::release, operation::store, where);
  }
  template <SharedWord T>
  static void store_relaxed(T& mine, std::type_identity_t<T> value,
                            std::source_location where = std::source_location::current()) noexcept {
    detail::ordered_store(mine, value, barrier::none, strength::relaxed, operation::store, where);
  }
  static void full(std::source_location where = std::source_location::current()) noexcept {
    detail::ordered_fence(barrier::full, operation::full, where);
  }
};
static_assert(RingOrder<thread_order>);

// phasebit::device_order: relaxed accesses, and barriers apart from them.
struct device_order {
  template <SharedWord T>
  [[nodiscard]] static T load(
      const T& shared, std::source_location where = std::source_location::current()) noexcept {
    return detail::ordered_load(shared, strength::relaxed, where);
  }
  static void after_load(std::source_location where = std::source_location::current()) noexcept {
    detail::ordered_fence(barrier::acquire, operation::after_load, where);
  }
  template <SharedWord T>
  static void store(T& mine, std::type_identity_t<T> value,
                    std::source_location where = std::source_location::current()) noexcept {
    detail::ordered_store(mine, value, barrier::release, strength::relaxed, operation::store,
                          where);
  }
  static void full(std::source_location where = std::source_location::current()) noexcept {
    detail::ordered_fence(barrier::full, operation::full, where);
  }
};
static_assert(RingOrder<device_order>);

// A doorbell register: before_mmio_write() and one store, which the other side reads when it likes.
// A model of DoorbellSink (pcie/concepts.hpp). A copy rings the same register.
class register_doorbell {
 public:
  register_doorbell() noexcept = default;
  explicit register_doorbell(std::uint32_t& word) noexcept : word_(&word) {}

  void ring(std::uint32_t value,
            std::source_location where = std::source_location::current()) noexcept {
    detail::ordered_store(*word_, value, barrier::release, strength::relaxed, operation::doorbell,
                          where);
  }

 private:
  std::uint32_t* word_ = nullptr;
};

}  // namespace phasebit::testing::explorer
