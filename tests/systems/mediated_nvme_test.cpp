// SPDX-License-Identifier: BSL-1.0
#include <cstring>
#include <deque>
#include <random>

#include <doctest/doctest.h>
#include <systems/mediated_rig.hpp>

using namespace phasebit_test;

namespace {

using code = nvme::status_code;
using rig = mediated_rig<>;
using host = guest<>;
static_assert(PcieBackend<host>);

constexpr std::size_t guest_bytes = std::size_t{1} << 20;

void fill(std::span<std::byte> to, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  for (std::byte& b : to) b = static_cast<std::byte>(random());
}

}  // namespace

TEST_CASE("drivers attach to two functions, each of which has its own blocks") {
  rig r;
  std::deque<host> guests;
  for (std::uint16_t f = 0; f != 2; ++f) {
    guests.emplace_back(r, f, guest_bytes);
    REQUIRE(r.engine->add(f, guests[f].function(1000U + f * 5000U, 4000)));
  }
  auto first = nvme::attach(guests[0]);
  auto second = nvme::attach(guests[1]);
  REQUIRE(first);
  REQUIRE(second);
  auto q0 = first->create_queue_pair({.depth = 16});
  auto q1 = second->create_queue_pair({.depth = 16, .interrupt = 1});
  REQUIRE(q0);
  REQUIRE(q1);
  CHECK(q0->format().blocks == 4000);
  for (const std::size_t bytes : {512UL, 4096UL, 8192UL, 65536UL}) {
    auto out = allocate(guests[0], bytes);
    auto other = allocate(guests[1], bytes);
    auto back = allocate(guests[0], bytes);
    REQUIRE(out);
    REQUIRE(other);
    REQUIRE(back);
    fill({out->data(), bytes}, bytes);
    fill({other->data(), bytes}, bytes + 1);
    unsigned good = 0;
    const auto done = [&](nvme::completion c) noexcept { good += c.ok(); };
    const auto blocks = static_cast<std::uint32_t>(bytes / 512);
    REQUIRE(q0->write({.lba = 7, .blocks = blocks}, *out, done));
    REQUIRE(q1->write({.lba = 7, .blocks = blocks}, *other, done));
    q0->ring();
    q1->ring();
    REQUIRE(nvme::wait(*q0, 1000));
    REQUIRE(nvme::wait(*q1, 1000));
    REQUIRE(q0->read({.lba = 7, .blocks = blocks}, *back, done));
    q0->ring();
    REQUIRE(nvme::wait(*q0, 1000));
    CHECK(good == 3);
    CHECK(std::memcmp(out->data(), back->data(), bytes) == 0);
    CHECK(std::memcmp(r.bytes.data() + 1007 * 512, out->data(), bytes) == 0);
    CHECK(std::memcmp(r.bytes.data() + 6007 * 512, other->data(), bytes) == 0);
  }
  CHECK(r.interrupts.raised[1][1] != 0);
  CHECK(r.interrupts.raised[0][1] == 0);
  REQUIRE(first->shut_down());
  REQUIRE(second->shut_down());
}
