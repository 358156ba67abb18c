// SPDX-License-Identifier: BSL-1.0
#include <phasebit/ring/doorbell.hpp>

#include <cstdint>
#include <initializer_list>

#include <doctest/doctest.h>

using namespace phasebit;
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

TEST_CASE("a shadow doorbell rings the register only where the controller asked for it") {
  le<std::uint32_t> shadow{0};
  le<std::uint32_t> event{0};
  struct sink {
    counting_doorbell* to;
    void ring(std::uint32_t v) noexcept { to->ring(v); }
  };
  counting_doorbell real;
  shadow_doorbell<sink, thread_order> bell{shadow, event, {&real}};
  bell.ring(1);
  CHECK(shadow == 1);
  CHECK(real.count() == 1);  // passed the event index 0
  bell.ring(2);
  bell.ring(5);
  CHECK(shadow == 5);
  CHECK(real.count() == 1);
  event = 7;
  bell.ring(7);
  CHECK(real.count() == 1);
  bell.ring(8);
  CHECK(real.count() == 2);
  CHECK(real.last() == 8);
}
