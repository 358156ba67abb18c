// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/ats/pri_device.hpp>
#include <phasebit/iommu/ats/pri_queue.hpp>

#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit::iommu {

namespace {

constexpr pcie::requester_id nvme{1, 0, 0};
constexpr auto success = page_response_code::success;

pri_response answer(std::uint16_t group, page_response_code code) {
  return {nvme, group, code, false, 0};
}

}  // namespace

TEST_CASE("a page request contains page, permissions, group and the last flag") {
  pri_device<> device{nvme, 8};
  device.enable(8);
  const auto group = device.open_group();
  REQUIRE(group);
  const auto request =
      device.request(*group, {.with_pasid = true, .pasid = 9}, 0x1234'5678, access::write, true);
  REQUIRE(request);
  CHECK(request->body.raw == (0x1234'5000ULL | 2 | 4 | std::uint64_t{*group} << 3));
  CHECK(request->group() == *group);
  CHECK(request->last());
  CHECK_FALSE(request->stop_marker());
  CHECK(request->pasid == 9);
  CHECK(device.stop_marker(9).stop_marker());
  CHECK(respond(*request, success).group == *group);
  CHECK(respond(*request, success).with_pasid);
}

TEST_CASE("credits are what software has allocated, and come back with the answer") {
  pri_device<> device{nvme, 4};
  CHECK_FALSE(device.open_group());
  device.enable(100);
  CHECK(device.credits() == 4);
  device.enable(3);
  const auto group = device.open_group();
  REQUIRE(device.request(*group, {}, 0x1000, access::read, false));
  REQUIRE(device.request(*group, {}, 0x2000, access::read, false));
  REQUIRE(device.request(*group, {}, 0x3000, access::read, true));
  const auto second = device.open_group();
  CHECK(device.credits() == 0);
  CHECK_FALSE(device.request(*second, {}, 0x4000, access::read, true));
  CHECK(device.outcome(*group) == pri_outcome::open);
  CHECK(device.respond(answer(*group, success)));
  CHECK(device.outcome(*group) == pri_outcome::ready);
  CHECK(device.credits() == 3);
  CHECK(device.request(*second, {}, 0x4000, access::read, true));
  device.close_group(*group);
  CHECK(device.respond(answer(*second, page_response_code::invalid_request)));
  CHECK(device.outcome(*second) == pri_outcome::refused);
}

TEST_CASE("unexpected responses change nothing but the status") {
  pri_device<4> device{nvme, 8};
  device.enable(8);
  const auto group = device.open_group();
  CHECK_FALSE(device.respond(answer(*group, success)));  // nothing was asked
  REQUIRE(device.request(*group, {}, 0x1000, access::read, false));
  CHECK_FALSE(device.respond(answer(*group, success)));  // the group is not complete
  CHECK(device.unexpected_group());
  device.clear_unexpected_group();
  REQUIRE(device.request(*group, {}, 0x2000, access::read, true));
  CHECK_FALSE(device.respond(answer(3, success)));
  CHECK_FALSE(device.respond(answer(511, success)));
  CHECK_FALSE(device.respond(answer(0xffff, page_response_code::failure)));
  pri_response other = answer(*group, success);
  other.device = pcie::requester_id{2, 0, 0};
  CHECK_FALSE(device.respond(other));
  CHECK(device.unexpected_group());
  CHECK(device.enabled());
  CHECK(device.credits() == 6);
  CHECK(device.respond(answer(*group, success)));
  CHECK_FALSE(device.respond(answer(*group, success)));
  CHECK(device.credits() == 8);
}

TEST_CASE("a failure, or a code that means nothing, switches the interface off") {
  for (const unsigned code : {15U, 2U, 14U}) {
    pri_device<> device{nvme, 8};
    device.enable(8);
    const auto group = device.open_group();
    const auto other = device.open_group();
    REQUIRE(device.request(*group, {}, 0x1000, access::read, true));
    REQUIRE(device.request(*other, {}, 0x2000, access::read, true));
    CHECK(device.respond(answer(*group, static_cast<page_response_code>(code))));
    CHECK(device.response_failure());
    CHECK(device.stopped());
    CHECK(device.outcome(*group) == pri_outcome::disabled);
    CHECK(device.outcome(*other) == pri_outcome::disabled);
    CHECK_FALSE(device.open_group());
    device.reset();
    device.enable(8);
    CHECK_FALSE(device.response_failure());
    CHECK(device.credits() == 8);
  }
}

TEST_CASE("disabled, the interface is stopped when the last answer has come") {
  pri_device<> device{nvme, 8};
  device.enable(8);
  const auto group = device.open_group();
  REQUIRE(device.request(*group, {}, 0x1000, access::read, true));
  device.disable();
  CHECK_FALSE(device.stopped());
  CHECK(device.respond(answer(*group, success)));
  CHECK(device.stopped());
}

TEST_CASE("the queue hands out what it took, in order; what it cannot keep it answers at once") {
  pri_queue<4> queue;
  pri_device<8> device{nvme, 64};
  device.enable(64);
  std::vector<std::uint16_t> groups;
  for (int i = 0; i != 6; ++i) {
    groups.push_back(*device.open_group());
    const auto request = device.request(groups.back(), {}, 0x1000, access::read, true);
    const auto at_once = queue.take(*request);
    CHECK(at_once.has_value() == (i >= 4));
    if (at_once) {
      CHECK(at_once->code == success);  // the device asks again
      CHECK(device.respond(*at_once));
      CHECK(device.outcome(groups.back()) == pri_outcome::ready);
    }
  }
  CHECK(queue.overflowed());
  CHECK(queue.dropped() == 2);
  for (int i = 0; i != 4; ++i) {
    const auto request = queue.next();
    REQUIRE(request);
    CHECK(request->group() == groups[static_cast<std::size_t>(i)]);
    CHECK(device.respond(respond(*request, success)));
  }
  CHECK_FALSE(queue.next());
  // There is space, but the loss has not been acknowledged yet.
  CHECK(queue.take({nvme, false, false, false, 0, pri_body{1 | 4}}));
  CHECK(queue.size() == 0);
  queue.acknowledge_overflow();
  CHECK_FALSE(queue.take({nvme, false, false, false, 0, pri_body{1 | 4}}));
  CHECK(queue.next());
  CHECK_FALSE(queue.overflowed());

  queue.enable(false);
  const auto at_once = queue.take({nvme, false, false, false, 0, pri_body{1 | 4}});
  REQUIRE(at_once);
  CHECK(at_once->code == page_response_code::failure);
  CHECK_FALSE(queue.take({nvme, false, false, false, 0, pri_body{1}}));
  CHECK_FALSE(queue.take(device.stop_marker(3)));
}

TEST_CASE("random groups, answers and lies: credits are never lost or invented") {
  std::mt19937 random{3};
  pri_device<8> device{nvme, 20};
  device.enable(20);
  struct open {
    std::uint16_t index;
    unsigned requests;
    bool asked;
  };
  std::vector<open> groups;
  unsigned under_way = 0;
  for (int step = 0; step != 100000; ++step) {
    switch (random() % 5) {
      case 0:
        if (const auto group = device.open_group()) {
          groups.push_back({*group, 0, false});
        } else {
          CHECK(groups.size() == 8);
        }
        break;
      case 1:
      case 2:
        if (!groups.empty()) {
          open& g = groups[random() % groups.size()];
          if (g.asked) break;
          const bool last = random() % 2 == 0;
          const bool sent = device.request(g.index, {}, 0x1000, access::read, last).has_value();
          CHECK(sent == (under_way != 20));
          if (!sent) break;
          ++under_way;
          ++g.requests;
          g.asked = last;
        }
        break;
      case 3:
        static_cast<void>(device.respond(
            {pcie::requester_id{7, 0, 0}, static_cast<std::uint16_t>(random() % 512), success}));
        break;
      default:
        if (!groups.empty()) {
          const std::size_t which = random() % groups.size();
          const open g = groups[which];
          CHECK(device.respond(answer(g.index, success)) == g.asked);
          if (!g.asked) break;
          under_way -= g.requests;
          device.close_group(g.index);
          groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(which));
        }
    }
    REQUIRE(device.credits() == 20 - under_way);
  }
}

}  // namespace phasebit::iommu
