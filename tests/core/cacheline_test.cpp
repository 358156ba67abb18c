// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/cacheline.hpp>

#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>

using phasebit::cache_line;
using phasebit::own_line;

namespace {

struct alignas(128) wide {
  int a;
};
struct ring {
  own_line<std::uint32_t> head;
  own_line<std::uint32_t> tail;
};

static_assert(alignof(own_line<std::uint8_t>) == cache_line);
static_assert(sizeof(own_line<std::uint8_t>) == cache_line);
static_assert(sizeof(own_line<char[65]>) == 2 * cache_line);
static_assert(alignof(own_line<wide>) == 128);
static_assert(offsetof(ring, tail) == cache_line);

}  // namespace

TEST_CASE("two indices of a ring lie on lines of their own and are used like themselves") {
  ring r{};
  *r.head = 3;
  ++*r.tail;
  const ring& same = r;
  CHECK(*same.head == 3);
  CHECK(*same.tail == 1);
  own_line<wide> w{};
  w->a = 5;
  CHECK((*w).a == 5);
}
