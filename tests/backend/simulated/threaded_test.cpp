// SPDX-License-Identifier: BSL-1.0
// Real threads on both sides; worth most under ThreadSanitizer.
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include <backend/simulated/copy_engine.hpp>
#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit_test;

namespace {

constexpr std::uint64_t long_enough = 60'000'000'000;

// Copies `rounds` times with changing bytes; returns how many copies were right.
unsigned copy_rounds(sim::function device, unsigned rounds, bool by_interrupt) {
  copy_driver<sim::function> driver{device};
  const auto source = *device.allocate(1024, 64);
  const auto target = *device.allocate(1024, 64);
  unsigned right = 0;
  for (unsigned i = 0; i != rounds; ++i) {
    std::memset(source.data(), static_cast<int>(i), 1024);
    driver.post(source.bus, target.bus, 1024);
    driver.ring();
    if (by_interrupt) {
      while (!driver.done() && device.wait_interrupt(0, long_enough)) {
      }
    } else if (!driver.wait(long_enough)) {
      break;
    }
    right += driver.done() && std::memcmp(source.data(), target.data(), 1024) == 0 ? 1U : 0U;
  }
  device.release(source);
  device.release(target);
  return right;
}

}  // namespace

TEST_CASE("two drivers in their own threads meet two devices in the device thread") {
  sim::fabric fabric;
  auto first = *fabric.add(copy_engine_description(4), make_copy_engine());
  auto second = *fabric.add(copy_engine_description(5), make_copy_engine());
  REQUIRE(second.enable_interrupts(1));
  REQUIRE(fabric.start());
  CHECK(fabric.threaded());
  std::atomic<unsigned> polled{0};
  std::atomic<unsigned> interrupted{0};
  std::atomic<bool> over{false};
  std::thread a{[&] { polled = copy_rounds(first, 300, false); }};
  std::thread b{[&] { interrupted = copy_rounds(second, 300, true); }};
  // Registers and configuration of both, meanwhile, by a third.
  std::thread c{[&] {
    auto bar = *second.map_bar(0);
    auto config = first.config();
    unsigned wrong = 0;
    for (std::uint32_t i = 0; !over.load(); ++i) {
      bar.write32(4, i);
      wrong += bar.read32(4) == i && bar.read32(0) == copy_engine::identity ? 0U : 1U;
      wrong += config.read16(0) == 0x5042 ? 0U : 1U;
      config.write8(pcie::header::interrupt_line, static_cast<std::uint8_t>(i));
    }
    CHECK(wrong == 0);
  }};
  a.join();
  b.join();
  over = true;
  c.join();
  CHECK(polled == 300);
  CHECK(interrupted == 300);
  fabric.stop();
  CHECK((*first.map_bar(0)).read64(8) == 300);
  CHECK(fabric.dma_faults().count() == 0);
}

TEST_CASE("the device thread ends with the fabric, and can be started and stopped again") {
  sim::fabric fabric;
  auto device = *fabric.add(copy_engine_description(), make_copy_engine());
  fabric.stop();  // nothing to stop
  for (int i = 0; i != 3; ++i) {
    REQUIRE(fabric.start());
    CHECK(copy_rounds(device, 3, false) == 3);
    fabric.stop();
    CHECK_FALSE(fabric.threaded());
    CHECK(copy_rounds(device, 3, false) == 3);  // stepped by the driver's clock
    REQUIRE(device.reset());
  }
  REQUIRE(fabric.start());
}

TEST_CASE("a function is pulled out under a running driver, which sees all ones and no more") {
  sim::fabric fabric;
  auto device = *fabric.add(copy_engine_description(), make_copy_engine());
  REQUIRE(device.enable_interrupts(1));
  REQUIRE(fabric.start());
  std::atomic<bool> noticed{false};
  std::thread user{[&] {
    sim::function mine = device;
    copy_driver<sim::function> driver{mine};
    const auto page = *mine.allocate(4096, 64);
    while (driver.bar().read32(0) != 0xffff'ffff) {
      driver.post(page.bus, page.bus, 64);
      driver.ring();
      mine.clock().relax();
    }
    noticed = true;
    // The device is silent now: what the driver frees stays untouched.
    mine.release(page);
  }};
  std::this_thread::yield();
  device.remove();
  user.join();
  CHECK(noticed);
  fabric.stop();
  CHECK(fabric.step() == 0);
}

TEST_CASE("an interrupt wakes the thread that waits for it, and none is lost") {
  sim::interrupt_event event;
  std::atomic<unsigned> woken{0};
  constexpr unsigned rounds = 2000;
  std::atomic<unsigned> asked{0};
  std::thread sleeper{[&] {
    for (unsigned i = 0; i != rounds; ++i) {
      asked = i + 1;
      if (!event.wait(long_enough)) break;
      ++woken;
    }
  }};
  for (unsigned i = 0; i != rounds; ++i) {
    while (asked != i + 1) std::this_thread::yield();
    event.signal();
    while (woken != i + 1) std::this_thread::yield();
  }
  sleeper.join();
  CHECK(woken == rounds);
  CHECK_FALSE(event.wait(1000));
  event.signal();
  event.signal();
  CHECK(event.wait(0));
  CHECK_FALSE(event.poll());
}

TEST_CASE("memory is allocated and released by several threads while devices translate") {
  sim::fabric fabric;
  auto device = *fabric.add(copy_engine_description(), make_copy_engine());
  REQUIRE(fabric.start());
  std::atomic<unsigned> failed{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t != 3; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i != 300; ++i) {
        const auto r = device.allocate(64 + (i * 37 + t * 1000) % 9000, 64);
        if (!r) {
          ++failed;
          continue;
        }
        std::memset(r->data(), static_cast<int>(t), r->size());
        device.release(*r);
      }
    });
  }
  const unsigned right = copy_rounds(device, 100, false);
  for (auto& t : threads) t.join();
  CHECK(right == 100);
  CHECK(failed == 0);
}

TEST_CASE("the ticket lock excludes, and serves in turn") {
  sim::detail::ticket_lock lock;
  unsigned plain = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t != 3; ++t) {
    threads.emplace_back([&] {
      for (unsigned i = 0; i != 2000; ++i) {
        lock.lock();
        ++plain;
        lock.unlock();
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(plain == 6000);
}
