// SPDX-License-Identifier: BSL-1.0
#include <phasebit/ring/event_index.hpp>
#include <phasebit/ring/index.hpp>

#include <cstdint>
#include <initializer_list>

#include <doctest/doctest.h>

using namespace phasebit::ring;

TEST_CASE("an event is due exactly when the index passes it, for every distance and wrap") {
  // The oracle walks from old to new one step at a time and looks for the event index.
  for (std::uint32_t old_index : {0U, 1U, 100U, 32'767U, 65'530U, 65'535U}) {
    for (std::uint32_t moved = 0; moved != 40; ++moved) {
      const auto new_index = static_cast<std::uint16_t>(old_index + moved);
      for (std::uint32_t ahead = 0; ahead != 60; ++ahead) {
        const auto event = static_cast<std::uint16_t>(old_index + ahead - 10);
        bool passed = false;
        for (std::uint32_t step = 0; step != moved; ++step) {
          passed = passed || static_cast<std::uint16_t>(old_index + step) == event;
        }
        REQUIRE(need_event(event, new_index, static_cast<std::uint16_t>(old_index)) == passed);
      }
    }
  }
}

TEST_CASE("used events 15 and 65532 are due when they are crossed, once") {
  CHECK_FALSE(need_event(15, 15, 14));
  CHECK(need_event(15, 16, 15));
  CHECK_FALSE(need_event(15, 17, 16));
  CHECK(need_event(65532, 65533, 65532));
  CHECK_FALSE(need_event(65532, 65532, 65531));
  CHECK(need_event(65532, 2, 65530));
}

TEST_CASE("a wrapped index agrees with counting one by one, for all sizes up to 9 and all steps") {
  for (std::uint16_t size = 1; size != 10; ++size) {
    for (std::uint16_t begin = 0; begin != size; ++begin) {
      for (const bool wrap : {false, true}) {
        for (std::uint16_t steps = 0; steps <= size; ++steps) {
          std::uint16_t index = begin;
          bool counter = wrap;
          for (std::uint16_t i = 0; i != steps; ++i) {
            if (++index == size) {
              index = 0;
              counter = !counter;
            }
          }
          wrapped_index moved{begin, wrap};
          moved.advance(steps, size);
          REQUIRE(moved == wrapped_index{index, counter});
          REQUIRE(wrapped_index::unpack(moved.packed()) == moved);
        }
      }
    }
  }
}

TEST_CASE("the largest ring wraps without overflow") {
  wrapped_index at{32767, true};
  at.advance(1, 32768);
  CHECK(at == wrapped_index{0, false});
  at.advance(32768, 32768);
  CHECK(at == wrapped_index{0, true});
  CHECK(at.packed() == 0x8000);
  CHECK(distance(65535, 2) == 3);
}
