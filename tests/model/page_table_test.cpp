// SPDX-License-Identifier: BSL-1.0
// Page tables, explored: changes against walkers, against hardware that sets dirty bits, and against
// each other.
#include <doctest/doctest.h>
#include <model/mutants.hpp>
#include <model/page_tables.hpp>

using namespace model;

TEST_CASE("a walker finds a page, old or new, or nothing") {
  holds("map against walks", map_and_walk());
  holds("unmap, invalidate, release, map again", unmap_and_walk(true));
}

TEST_CASE("mappers of neighbouring pages agree on their table") {
  holds("two mappers", two_mappers(false));
  holds("two mappers and a walker", two_mappers(true));
}

TEST_CASE("no dirty bit is lost") {
  holds("take_dirty, protect and hardware", dirty_and_protect());
  holds("split, hardware and a walker", split_and_walk());
}

TEST_CASE("an entry in halves is never a mix of two") {
  holds("all halves differ",
        in_halves({0x0000'0001'0000'1001, 0x0000'0002'0000'2001, 0x0000'0003'0000'3001}));
  holds("an entry goes and comes back",
        in_halves({0x0000'0001'0000'1001, 0, 0x0000'0001'0000'1001}));
  holds("the low half comes back with another high half",
        in_halves({0x0000'0001'0000'1001, 0x0000'0002'0000'2001, 0x0000'0003'0000'1001}));
}

TEST_CASE("mutants of page tables") {
  auto fault = [](const std::string& name, operation what, effect how, caught_by expected,
                  auto program) {
    with_fault(name, {{what, "", "", how}}, expected, program);
  };
  fault("enter: a table's words before its entry", operation::atomic_exchange, effect::not_released,
        all_but_x86, map_and_walk());
  fault("walk: an entry before its table's words", operation::atomic_load, effect::unordered,
        all_but_x86, map_and_walk());
  fault("enter: another's table before its words", operation::atomic_exchange,
        effect::failure_unordered, all_but_x86, two_mappers(false));
  const report r = explorer::explore({}, unmap_and_walk(false));
  REQUIRE(r.failure);
  MESSAGE("a table is released before the invalidation is done\n" << r.failure->text());
}

TEST_CASE("mutants of entries in halves") {
  auto program = in_halves({0x0000'0001'0000'1001, 0x0000'0002'0000'2001, 0x0000'0003'0000'1001});
  with_fault("stores of the halves and of the count",
             {{operation::atomic_store, "", "", effect::unordered}}, all_but_x86, program);
  with_fault("loads of the halves and of the count",
             {{operation::atomic_load, "", "", effect::unordered}}, all_but_x86, program);
}
