// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/prp/build.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit;
namespace prp = phasebit::nvme::prp;

TEST_CASE("a segment in the last page of the address space needs no page behind it") {
  const segment<bus_space> segments[] = {{bus_addr{0xffff'ffff'ffff'ff00}, 16}};
  prp::pointers out;
  REQUIRE(prp::build(segments, 12, 4096, {}, out));
  CHECK(out.prp1 == 0xffff'ffff'ffff'ff00);
  CHECK(out.prp2 == 0);
}

TEST_CASE("a list that does not reach the end of its page leads to no other") {
  alignas(4096) static std::array<std::byte, 8192> memory;
  const prp::list_memory first{{memory.data(), 64}, bus_addr{0x7000'0000}};
  const auto more = [&]() noexcept {
    return prp::list_memory{{memory.data() + 4096, 4096}, bus_addr{0x7000'1000}};
  };
  prp::pointers out;
  // Eight entries fit, and nine do not: a link can stand in the last slot of a page only.
  CHECK(prp::build_contiguous(bus_addr{0x1000}, 9 * 4096, 12, first, out, more));
  CHECK_FALSE(prp::build_contiguous(bus_addr{0x1000}, 10 * 4096, 12, first, out, more));
  const segment<bus_space> apart[] = {{bus_addr{0x1000}, 4096}, {bus_addr{0x10'0000}, 9 * 4096}};
  CHECK_FALSE(prp::build(apart, 12, 1U << 20, first, out, more));
}
