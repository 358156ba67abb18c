// SPDX-License-Identifier: BSL-1.0
#include <phasebit/sriov/resources.hpp>

#include <array>
#include <cstdint>
#include <random>

#include <doctest/doctest.h>

using namespace phasebit::sriov;

namespace {

// QEMU's `sriov_vq_flexible=8,sriov_vi_flexible=4` with two functions, primary controller 0.
flexible_resources<2> small(std::uint16_t granularity = 1) {
  return {0,
          1,
          {.flexible = 8,
           .of_primary = 3,
           .most_per_secondary = 4,
           .granularity = granularity,
           .least_online = 2},
          {.flexible = 4, .of_primary = 1, .most_per_secondary = 2}};
}

constexpr std::uint8_t queues = 0;
constexpr std::uint8_t interrupts = 1;

}  // namespace

TEST_CASE("every error code of Virtualization Management") {
  auto r = small();
  r.set_virtual_functions(2);
  CHECK(r.assign(0, queues, 2).status == resource_status::invalid_controller_id);
  CHECK(r.assign(3, queues, 2).status == resource_status::invalid_controller_id);
  CHECK(r.online(0).status == resource_status::invalid_controller_id);
  CHECK(r.online(3).status == resource_status::invalid_controller_id);
  CHECK(r.offline(0).status == resource_status::invalid_controller_id);
  CHECK(r.offline(0xffff).status == resource_status::invalid_controller_id);
  CHECK(r.allocate_primary(1, queues, 1).status == resource_status::invalid_controller_id);
  CHECK(r.assign(1, 2, 1).status == resource_status::invalid_resource);
  CHECK(r.allocate_primary(0, 2, 1).status == resource_status::invalid_resource);
  CHECK(r.assign(1, queues, 5).status == resource_status::invalid_count);
  CHECK(r.allocate_primary(0, queues, 9).status == resource_status::invalid_count);
  CHECK(r.online(1).status == resource_status::invalid_state);  // no resources
  CHECK(r.assign(1, queues, 2) == resource_answer{resource_status::success, 2});
  CHECK(r.online(1).status == resource_status::invalid_state);  // no interrupt
  CHECK(r.assign(1, interrupts, 1) == resource_answer{resource_status::success, 1});
  CHECK(r.online(1).status == resource_status::success);
  CHECK(r.online(1).status == resource_status::success);
  CHECK(r.assign(1, queues, 1).status == resource_status::invalid_state);
  CHECK(r.assign(1, 2, 1).status == resource_status::invalid_resource);
  CHECK(r.offline(1).status == resource_status::success);
  CHECK(r.assign(1, queues, 1) == resource_answer{resource_status::success, 1});
  CHECK(r.online(1).status == resource_status::invalid_state);  // an admin queue alone
}

TEST_CASE("a secondary goes online with its function and offline without it") {
  auto r = small();
  REQUIRE(r.assign(2, queues, 2).status == resource_status::success);
  REQUIRE(r.assign(2, interrupts, 1).status == resource_status::success);
  CHECK(r.online(2).status == resource_status::invalid_state);
  r.set_virtual_functions(1);
  CHECK(r.online(2).status == resource_status::invalid_state);
  r.set_virtual_functions(2);
  CHECK(r.online(2).status == resource_status::success);
  const auto generation = r.generation();
  r.set_virtual_functions(1);
  CHECK_FALSE(r.entry(1).online);
  CHECK(r.generation() != generation);
  CHECK(r.entry(1).assigned[queues] == 2);
  r.set_virtual_functions(2);
  REQUIRE(r.online(2).status == resource_status::success);
  r.primary_reset();
  CHECK_FALSE(r.entry(1).online);
}

TEST_CASE("what the primary is to have after its reset cannot be given away before") {
  auto r = small();
  REQUIRE(r.allocate_primary(0, queues, 6) == resource_answer{resource_status::success, 6});
  CHECK(r.of_primary(resource_kind::queues) == 0);
  CHECK(r.available(resource_kind::queues) == 2);
  CHECK(r.assign(1, queues, 3).status == resource_status::invalid_count);
  r.primary_reset();
  CHECK(r.of_primary(resource_kind::queues) == 6);
  // Less from the next reset on; until then the primary has what it has.
  REQUIRE(r.allocate_primary(0, queues, 0).status == resource_status::success);
  CHECK(r.assign(1, queues, 3).status == resource_status::invalid_count);
  r.primary_reset();
  CHECK(r.assign(1, queues, 3).status == resource_status::success);
  CHECK(r.available(resource_kind::queues) == 5);
}

TEST_CASE("counts are rounded up to the granularity where that much is there") {
  auto r = small(4);
  CHECK(r.assign(1, queues, 1) == resource_answer{resource_status::success, 4});
  CHECK(r.assign(2, queues, 3) == resource_answer{resource_status::success, 4});
  CHECK(r.assign(2, queues, 0) == resource_answer{resource_status::success, 0});
  REQUIRE(r.allocate_primary(0, queues, 1) == resource_answer{resource_status::success, 4});
  REQUIRE(r.allocate_primary(0, queues, 0).status == resource_status::success);
  flexible_resources<1> odd{0, 1, {.flexible = 6, .most_per_secondary = 6, .granularity = 4}, {}};
  CHECK(odd.assign(1, queues, 5) == resource_answer{resource_status::success, 5});
}

TEST_CASE("resources are neither lost nor given twice, whatever is asked for") {
  std::mt19937_64 random{2};
  for (const std::uint16_t granularity : {std::uint16_t{1}, std::uint16_t{3}}) {
    flexible_resources<6> r{
        10,
        20,
        {.flexible = 17, .most_per_secondary = 5, .granularity = granularity, .least_online = 2},
        {.flexible = 9, .most_per_secondary = 9}};
    std::uint16_t functions = 0;
    for (int i = 0; i != 100000; ++i) {
      const auto id = static_cast<std::uint16_t>(random() % 30);
      const auto kind = static_cast<std::uint8_t>(random() % 3);
      const auto count = static_cast<std::uint16_t>(random() % 8 == 0 ? random() : random() % 8);
      const bool was_online = id >= 20 && id < 26 && r.entry(id - 20U).online;
      switch (random() % 6) {
        case 0:
          (void)r.allocate_primary(static_cast<std::uint16_t>(random() % 2 * 10), kind, count);
          break;
        case 1: {
          const auto a = r.assign(id, kind, count);
          if (a.status == resource_status::success) {
            REQUIRE_FALSE(was_online);
            REQUIRE(a.modified >= count);
            REQUIRE(r.entry(id - 20U).assigned[kind] == a.modified);
          }
          break;
        }
        case 2:
          (void)r.online(id);
          break;
        case 3:
          (void)r.offline(id);
          break;
        case 4:
          functions = static_cast<std::uint16_t>(random() % 8);
          r.set_virtual_functions(functions);
          break;
        default:
          if (random() % 16 == 0) r.primary_reset();
          break;
      }
      for (const auto k : {resource_kind::queues, resource_kind::interrupts}) {
        unsigned sum = 0;
        for (std::size_t s = 0; s != 6; ++s) {
          const auto& e = r.entry(s);
          const unsigned mine = e.assigned[static_cast<std::size_t>(k)];
          if (mine > r.limits(k).most_per_secondary) FAIL("more than one may have");
          sum += mine;
          if (e.online && (mine < r.limits(k).least_online || s >= functions)) {
            FAIL("online without what it needs");
          }
        }
        if (sum != r.assigned(k)) FAIL("assigned is not the sum of all");
        if (sum + r.of_primary(k) + r.available(k) > r.limits(k).flexible) FAIL("given twice");
      }
    }
  }
}
