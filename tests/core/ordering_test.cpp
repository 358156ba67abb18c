// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/ordering.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

// The smallest model of RingOrder. It records the calls, so that a test can check a ring's order of
// operations.
struct recording_order {
  static inline std::string calls;

  template <class T>
  [[nodiscard]] static T load(const T& shared) noexcept {
    calls += 'l';
    return shared;
  }
  static void after_load() noexcept { calls += 'a'; }
  template <class T>
  static void store(T& mine, std::type_identity_t<T> value) noexcept {
    calls += 's';
    mine = value;
  }
  static void full() noexcept { calls += 'f'; }
};
static_assert(RingOrder<recording_order>);

struct throwing_order {
  static std::uint32_t load(const std::uint32_t&);
  static void after_load() noexcept;
  static void store(std::uint32_t&, std::uint32_t) noexcept;
  static void full() noexcept;
};
static_assert(!RingOrder<throwing_order> && !RingOrder<int>);

struct alignas(4) flags {
  le<std::uint16_t> a, b;
};
struct loose {
  le<std::uint16_t> a, b;
};
static_assert(SharedWord<std::uint8_t> && SharedWord<le<std::uint16_t>> && SharedWord<flags>);
static_assert(SharedWord<void*> && SharedWord<le<std::uint64_t>>);
static_assert(!SharedWord<loose>, "what is aligned to two bytes may be torn in the middle");
struct alignas(16) two_words {
  std::uint64_t a, b;
};
static_assert(!SharedWord<two_words>);

template <class Order, class T>
void try_word(T first, T second) {
  std::array<T, 3> words{};
  Order::store(words[1], first);
  CHECK(Order::load(words[1]) == first);
  Order::store(words[1], second);
  Order::after_load();
  Order::full();
  CHECK(Order::load(words[1]) == second);
  CHECK(words[0] == T{});
  CHECK(words[2] == T{});
}

template <class Order>
void try_all_words() {
  try_word<Order, std::uint8_t>(1, 0xff);
  try_word<Order, std::uint16_t>(1, 0xffff);
  try_word<Order, std::uint32_t>(1, 0xffff'ffff);
  try_word<Order, std::uint64_t>(1, ~std::uint64_t{0});
  try_word<Order, le<std::uint16_t>>(1, 0x1234);
  try_word<Order, le<std::uint32_t>>(1, 0x1234'5678);
  try_word<Order, be<std::uint64_t>>(1, 0x1234'5678'9abc'def0);
  flags f{};
  Order::store(f, flags{3, 4});
  CHECK(Order::load(f).a == 3);
  CHECK(f.b == 4);
}

// An algorithm that asks for no more than the concept: hands over a number below a flag.
template <RingOrder Order>
std::uint32_t hand_over(std::uint32_t& data, std::uint32_t& flag) {
  data = 7;
  Order::store(flag, 1);
  if (Order::load(flag) != 1) return 0;
  Order::after_load();
  return data;
}

}  // namespace

TEST_CASE(
    "both orders read what was stored, in every width and byte order, and touch nothing else") {
  try_all_words<thread_order>();
  try_all_words<device_order>();
}

TEST_CASE("an algorithm over the concept runs over each model") {
  std::uint32_t data = 0;
  std::uint32_t flag = 0;
  CHECK(hand_over<thread_order>(data, flag) == 7);
  CHECK(hand_over<device_order>(data, flag) == 7);
  recording_order::calls.clear();
  CHECK(hand_over<recording_order>(data, flag) == 7);
  CHECK(recording_order::calls == "sla");
}

TEST_CASE("register accesses have the width that was asked for") {
  alignas(8) std::array<std::byte, 24> memory{};
  memory.fill(std::byte{0xee});
  mmio_store<std::uint32_t>(memory.data() + 8, 0x01020304);
  CHECK(mmio_load<std::uint32_t>(memory.data() + 8) == 0x01020304);
  mmio_store<std::uint8_t>(memory.data() + 12, 0);
  CHECK(mmio_load<std::uint16_t>(memory.data() + 12) ==
        le<std::uint16_t>::to_wire(static_cast<std::uint16_t>(0xee00)));
  for (const std::size_t i : {0U, 7U, 13U, 23U}) CHECK(memory[i] == std::byte{0xee});
  mmio_store<std::uint64_t>(memory.data() + 16, ~std::uint64_t{0});
  CHECK(mmio_load<std::uint64_t>(memory.data() + 16) == ~std::uint64_t{0});
  before_mmio_write();
  after_mmio_read();
  drain_write_combining();
  cpu_relax();
}
