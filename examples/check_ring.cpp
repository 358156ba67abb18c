// SPDX-License-Identifier: BSL-1.0
// A ring of one's own, checked under every execution that a memory model allows; then with a barrier left out,
// and the failure that was found run once more from its token.
#include <phasebit/core/ordering.hpp>
#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/order.hpp>
#include <phasebit/testing/explorer/word.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

#include <fmt/core.h>

namespace explorer = phasebit::testing::explorer;

namespace {

// One producer, one consumer, two places. Its ordering is a template parameter: thread_order or device_order in
// a program, the explorer's orders here. `Entry` is what lies in a place.
template <phasebit::RingOrder Order, class Entry>
class small_ring {
 public:
  bool push(std::uint32_t value) noexcept {
    if (tail_ - Order::load(taken_) == places) return false;
    Order::after_load();
    entries_[tail_ % places].write(value);
    Order::store(published_, ++tail_);
    return true;
  }
  bool pop(std::uint32_t& value) noexcept {
    if (Order::load(published_) == head_) return false;
    Order::after_load();
    value = entries_[head_ % places].read();
    Order::store(taken_, ++head_);
    return true;
  }

 private:
  static constexpr std::uint32_t places = 2;

  std::array<Entry, places> entries_{};
  std::uint32_t tail_ = 0;       // the producer's
  std::uint32_t head_ = 0;       // the consumer's
  std::uint32_t published_ = 0;  // written by the producer
  std::uint32_t taken_ = 0;      // written by the consumer
};

// Five values through two places: two laps and a half.
void five_values(explorer::program& p) {
  auto& ring = p.make<small_ring<explorer::device_order, explorer::plain<std::uint32_t>>>();
  p.name(ring, "the ring");
  p.thread("producer", [&ring] {
    for (std::uint32_t i = 0; i != 5; ++i) {
      explorer::await([&] { return ring.push(i); });
    }
  });
  p.thread("consumer", [&ring] {
    for (std::uint32_t i = 0; i != 5; ++i) {
      std::uint32_t value = 0;
      explorer::await([&] { return ring.pop(value); });
      explorer::check(value == i, "values arrive once and in order");
    }
  });
}

}  // namespace

int main() {
  for (const auto model : {explorer::memory_model::cpp20, explorer::memory_model::x86,
                           explorer::memory_model::arm, explorer::memory_model::riscv}) {
    const explorer::report whole = explorer::explore({.model = model}, five_values);
    fmt::print("{}: {}\n", explorer::name_of(model), whole.text());
    if (!whole.passed()) return 1;
  }
  explorer::options weakened;
  weakened.faults = {{explorer::operation::after_load, "check_ring.cpp", "pop"}};
  const explorer::report broken = explorer::explore(weakened, five_values);
  fmt::print("\nwithout the barrier in pop(): {}\n", broken.text());
  if (!broken.failure) return 1;

  weakened.replay = broken.failure->token;
  const explorer::report again = explorer::explore(weakened, five_values);
  const bool same = again.failure && again.failure->trace == broken.failure->trace;
  fmt::print("run again from its token: {}\n", same ? "the same trace" : "another trace");
  return same ? 0 : 1;
}
