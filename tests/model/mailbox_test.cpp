// SPDX-License-Identifier: BSL-1.0
// The example of docs/model-checking.md: a mailbox for one letter between two threads.
#include <phasebit/core/ordering.hpp>

#include <cstdint>

#include <doctest/doctest.h>
#include <model/mutants.hpp>

using namespace model;

namespace {

template <phasebit::RingOrder Order>
class mailbox {
 public:
  bool put(std::uint32_t letter) noexcept {
    if (Order::load(full_) != 0) return false;
    Order::after_load();
    letter_ = letter;
    Order::store(full_, 1U);
    return true;
  }
  bool take(std::uint32_t& letter) noexcept {
    if (Order::load(full_) == 0) return false;
    Order::after_load();
    letter = letter_;
    Order::store(full_, 0U);
    return true;
  }

 private:
  std::uint32_t letter_ = 0;
  std::uint32_t full_ = 0;
};

template <class Order>
auto letters() {
  return [](program& p) {
    auto& box = p.make<mailbox<Order>>();
    p.name(box, "the mailbox");
    p.thread("sender", [&box] {
      for (std::uint32_t i = 1; i != 4; ++i) {
        await([&] { return box.put(i); });
      }
    });
    p.thread("receiver", [&box] {
      for (std::uint32_t i = 1; i != 4; ++i) {
        std::uint32_t letter = 0;
        await([&] { return box.take(letter); });
        check(letter == i, "letters arrive once and in order");
      }
    });
  };
}

}  // namespace

TEST_CASE("a mailbox between one sender and one receiver") {
  holds("three letters (threads)", letters<explorer::thread_order>());
  holds("three letters (device)", letters<explorer::device_order>());
}

TEST_CASE("mutants of the mailbox") {
  const std::string file = "mailbox_test.cpp";
  auto threads = letters<explorer::thread_order>();
  auto device = letters<explorer::device_order>();
  with_fault("put: flag before letter", {{operation::after_load, file, "put", effect::unordered}},
             all_but_x86, device);
  with_fault("put: letter before flag", {{operation::store, file, "put", effect::unordered}},
             all_but_x86, device);
  with_fault("take: flag before letter", {{operation::after_load, file, "take", effect::unordered}},
             all_but_x86, device);
  with_fault("take: letter before flag", {{operation::store, file, "take", effect::unordered}},
             all_but_x86, device);
  with_fault("take: the flag orders stores only",
             {{operation::store, file, "take", effect::stores_only}}, all_but_x86, device);
  with_fault("put: flag before letter (threads)",
             {{operation::load, file, "put", effect::unordered}}, all_but_x86, threads);
  with_fault("take: flag before letter (threads)",
             {{operation::load, file, "take", effect::unordered}}, all_but_x86, threads);
}
