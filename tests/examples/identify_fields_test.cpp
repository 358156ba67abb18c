// SPDX-License-Identifier: BSL-1.0
// The output of the identify example for values that few controllers have.
#include "support/identify_fields.hpp"

#include <doctest/doctest.h>

using namespace phasebit;

TEST_CASE("power states below 10 mW are shown in tenths of a milliwatt") {
  nvme::power_state_descriptor p{};
  p.mp = 49;
  p.flags = 3;  // MXPS: in steps of 0.1 mW; NOPS
  p.enlat = 2000;
  CHECK(example::power_state_text(p) ==
        "mp:0.0049W non-operational enlat:2000 exlat:0 rrt:0 rrl:0 rwt:0 rwl:0");
  p.mp = 900;
  p.flags = 0;
  CHECK(example::power_state_text(p).starts_with("mp:9.00W operational"));
}

TEST_CASE("a format with LBADS 0 is not available and has no block size") {
  nvme::identify_namespace n{};
  n.nsze = 1000;
  n.nlbaf = 15;
  n.nulbaf = 4;  // formats 16 to 19
  n.flbas = 2 | 1U << 5;
  n.lbaf[18].lbads = 12;
  CHECK(n.format_index() == 18);
  CHECK(n.block_bytes() == 4096);
  n.flbas = 1;
  CHECK(n.block_bytes() == 0);
  for (const auto& f : example::namespace_fields(n)) {
    if (f.name == "nsze") CHECK(f.meaning.empty());
  }
}
