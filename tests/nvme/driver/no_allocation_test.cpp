// SPDX-License-Identifier: BSL-1.0
// Counts every allocation of this executable, so that "none between submit and completion" is seen.
#include <phasebit/nvme/driver/queue_pair.hpp>

#include <cstdlib>
#include <new>

#include <doctest/doctest.h>
#include <support/resident_controller.hpp>

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;

namespace {

std::size_t allocations = 0;

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc{};
}
// The libraries use this one too, and what it gives comes back to the same delete.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

TEST_CASE("nothing is allocated between submit and completion") {
  phasebit_test::resident_controller device{64};
  queue_pair<thread_order, phasebit_test::memory_doorbell> q{device.layout(), device.tail(),
                                                             device.head()};
  const auto before = allocations;
  unsigned ended = 0;
  for (int round = 0; round != 100; ++round) {
    for (std::uint32_t i = 0; i != 63; ++i) {
      const dma_region data{{static_cast<std::byte*>(nullptr), std::size_t{512} << (i % 9)},
                            bus_addr{0x100'0000}};
      (void)q.read({.nsid = 1, .blocks = 1U << (i % 9)}, data,
                   [&](completion c) noexcept { ended += c.ok(); });
    }
    q.ring();
    device.run();
    (void)q.poll();
  }
  CHECK(allocations == before);
  CHECK(ended == 6300);
  const auto counted = allocations;
  // Called as functions: a pair of new and delete expressions the compiler may leave out.
  ::operator delete(::operator new(1));
  CHECK(allocations == counted + 1);
}
