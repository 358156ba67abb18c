// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/address.hpp>

#include <cstdint>
#include <type_traits>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;

namespace {

constexpr std::uint64_t top = ~std::uint64_t{0};

static_assert(sizeof(bus_addr) == 8 && std::is_trivially_copyable_v<bus_addr>);
static_assert(bus_addr{}.value() == 0);

template <class A, class B>
concept mixes = std::is_constructible_v<A, B> || requires(A a, B b) { a - b; } ||
                requires(A a, B b) { a == b; } || requires(A a, B b) { a < b; } ||
                requires(A a, B b) { a = b; };
static_assert(mixes<bus_addr, bus_addr>);
static_assert(!mixes<bus_addr, guest_addr> && !mixes<guest_addr, bus_addr>);
static_assert(!mixes<bus_addr, host_phys> && !mixes<bus_addr, local_addr>);
static_assert(!mixes<guest_addr, host_phys> && !mixes<host_phys, local_addr>);
static_assert(!std::is_convertible_v<std::uint64_t, bus_addr>);
static_assert(!std::is_convertible_v<bus_addr, std::uint64_t>);
template <class A> concept adds_to_itself = requires(A a) { a + a; };
static_assert(!adds_to_itself<bus_addr>);

}  // namespace

TEST_CASE("addresses move by bytes, differ by bytes and are ordered") {
  const bus_addr a{0x1000};
  CHECK(a + 0x20 == bus_addr{0x1020});
  CHECK(a - 0x20 == bus_addr{0xfe0});
  CHECK((a + 0x20) - a == 0x20);
  CHECK(a < a + 1);
  CHECK(a + 1 > a);
  bus_addr b = a;
  b += 8;
  CHECK(b.value() == 0x1008);
  CHECK(a != b);
}

TEST_CASE("arithmetic wraps at 2^64, as it does on the bus") {
  CHECK(bus_addr{top} + 1 == bus_addr{0});
  CHECK(bus_addr{0} - 1 == bus_addr{top});
  CHECK(bus_addr{4} - bus_addr{top} == 5);
}

TEST_CASE("range_end is the address behind the range, and nothing where the range wraps") {
  CHECK(range_end(bus_addr{0}, 0) == bus_addr{0});
  CHECK(range_end(bus_addr{0x1000}, 0x1000) == bus_addr{0x2000});
  CHECK(range_end(bus_addr{0}, top) == bus_addr{top});
  CHECK(range_end(bus_addr{top}, 0) == bus_addr{top});
  CHECK_FALSE(range_end(bus_addr{top}, 1));
  CHECK_FALSE(range_end(bus_addr{1}, top));
  CHECK_FALSE(range_end(bus_addr{top}, top));
  CHECK_FALSE(range_end(bus_addr{1} - 0x1000, 0x1000));
  CHECK(range_end(bus_addr{0} - 0x1000, 0xfff) == bus_addr{top});
}

TEST_CASE("alignment of an address is that of its number") {
  CHECK(is_aligned(guest_addr{0x2000}, 0x1000));
  CHECK_FALSE(is_aligned(guest_addr{0x2004}, 8));
  CHECK(align_down(guest_addr{0x2fff}, 0x1000) == guest_addr{0x2000});
  CHECK(align_down(guest_addr{top}, std::uint64_t{1} << 63) == guest_addr{std::uint64_t{1} << 63});
  CHECK(phasebit_test::breaks("an alignment is a power of two",
                              [] { (void)is_aligned(guest_addr{0x2000}, 24); }));
}

TEST_CASE("a pointer of this process goes into a local address and comes back") {
  int object = 0;
  const local_addr a = to_local(&object);
  CHECK(static_cast<void*>(pointer_of(a)) == static_cast<void*>(&object));
  CHECK(pointer_of(local_addr{}) == nullptr);
  CHECK(pointer_of(a + 2) == pointer_of(a) + 2);
}
