// SPDX-License-Identifier: BSL-1.0
#include "page_table_walks.hpp"

#include <phasebit/iommu/formats/vtd.hpp>

using namespace phasebit;
using namespace phasebit::iommu;
using namespace phasebit::page_table_harness;

namespace {

using vtd_arena = table_room<vtd_second_stage>::arena_type;
using vtd_table = page_table<vtd_second_stage, vtd_arena>;
static_assert(AddressTranslator<vtd_table>);

}  // namespace

TEST_CASE("the identity map of the known case takes twenty entries") {
  table_room<vtd_second_stage> room;
  auto table = vtd_table::create({}, room.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0x3fe400ULL << 12}, host_phys{0x3fe400ULL << 12},
                     (0x4c0600ULL - 0x3fe400ULL) << 12));
  std::vector<std::pair<unsigned, int>> runs;
  REQUIRE(table->walk(bus_addr{0}, 1ULL << 48, [&](auto page) noexcept {
    CHECK(page.begin.value() == page.target.value());
    if (runs.empty() || runs.back().first != page.page_shift) runs.emplace_back(page.page_shift, 0);
    ++runs.back().second;
  }));
  CHECK(runs == std::vector<std::pair<unsigned, int>>{{21, 14}, {30, 3}, {21, 3}});
}

TEST_CASE("a hundred thousand random steps agree with the oracle: VT-d, 39, 48 and 57 bits") {
  random_steps<vtd_second_stage>({.width = vtd_width::bits_39}, {}, 100000, 1, 4096);
  random_steps<vtd_second_stage>({.width = vtd_width::bits_48}, {}, 100000, 2, 4096);
  random_steps<vtd_second_stage>({.width = vtd_width::bits_57, .snoop_control = true},
                                 {.coherent = true}, 100000, 3, 4096);
}

TEST_CASE("random steps with too little memory for tables leave no trace of what failed") {
  random_steps<vtd_second_stage>({}, {}, 50000, 4, 12);
  random_steps<vtd_second_stage>({.pages_2m = false, .pages_1g = false}, {}, 50000, 5, 16);
}

TEST_CASE(
    "random steps in the mode for many mappers agree with the oracle, and trim leaves nothing") {
  random_steps<vtd_second_stage>({}, {}, 50000, 6, 4096, {.who = mappers::many});
}
