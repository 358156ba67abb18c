// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/spec/capability.hpp>

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <pcie/archetypes.hpp>
#include <pcie/fake_fabric.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::space_image;

namespace {

// A function with the capability bit set; the test provides the links.
struct lists {
  space_image config;
  lists() {
    config.set16(header::vendor_id, 0x1234);
    config.set16(header::status, 0x0010);
  }
  void link(std::uint16_t at, std::uint8_t id, std::uint8_t next) {
    config.set8(at, id);
    config.set8(at + 1U, next);
  }
  void extended(std::uint16_t at, std::uint16_t id, std::uint16_t next) {
    config.set32(at, std::uint32_t{id} | 1U << 16 | std::uint32_t{next} << 20);
  }
};

using found = std::vector<std::pair<unsigned, unsigned>>;

template <class Config>
result<> walk(Config& config, found& into) {
  return for_each_capability(config, [&](capability_id id, std::uint16_t at) {
    into.emplace_back(static_cast<unsigned>(id), at);
    return true;
  });
}
template <class Config>
result<> walk_extended(Config& config, found& into) {
  return for_each_extended_capability(config, [&](extended_capability_id id, std::uint16_t at) {
    into.emplace_back(static_cast<unsigned>(id), at);
    return true;
  });
}

}  // namespace

TEST_CASE("capabilities are visited in the order of the list, wherever they lie") {
  lists l;
  l.config.set8(header::capabilities, 0x80);
  l.link(0x80, 0x05, 0x40);
  l.link(0x40, 0x11, 0xfc);
  l.link(0xfc, 0x09, 0);
  found seen;
  REQUIRE(walk(l.config, seen));
  CHECK(seen == found{{0x05, 0x80}, {0x11, 0x40}, {0x09, 0xfc}});
  CHECK(*find_capability(l.config, capability_id::msix) == 0x40);
  const auto none = find_capability(l.config, capability_id::pci_express);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == errc::not_found);
}

TEST_CASE("a walk ends where its visitor stops it") {
  lists l;
  l.config.set8(header::capabilities, 0x40);
  l.link(0x40, 0x11, 0x20);  // the broken link behind it is not looked at
  CHECK(*find_capability(l.config, capability_id::msix) == 0x40);
}

TEST_CASE("without the status bit there is no list, whatever the pointer is") {
  lists l;
  l.config.set16(header::status, 0);
  l.config.set8(header::capabilities, 0x40);
  l.link(0x40, 0x11, 0x40);
  found seen;
  CHECK(walk(l.config, seen));
  CHECK(seen.empty());
}

TEST_CASE("every first pointer is either followed or refused with its reason") {
  for (unsigned first = 0; first != 256; ++first) {
    lists l;
    l.config.set8(header::capabilities, static_cast<std::uint8_t>(first));
    const unsigned at = first & 0xfc;  // the low two bits are reserved
    if (at >= 0x40) l.link(static_cast<std::uint16_t>(at), 0x11, first & 3);
    found seen;
    const auto walked = walk(l.config, seen);
    CAPTURE(first);
    if (at == 0) {
      CHECK((walked && seen.empty()));
    } else if (at < 0x40) {
      REQUIRE_FALSE(walked);
      CHECK(walked.error().code == errc::protocol);
      CHECK(walked.error().value == at);
      CHECK(seen.empty());
    } else {
      CHECK((walked && seen == found{{0x11, at}}));
    }
  }
}

TEST_CASE("a CardBus bridge has its pointer at 14h") {
  lists l;
  l.config.set8(header::header_type, 2);
  l.config.set8(header::capabilities, 0x20);  // part of another register here
  l.config.set8(header::cardbus_capabilities, 0x83);
  l.link(0x80, 0x01, 0xa1);
  l.link(0xa0, 0x05, 0);
  found seen;
  REQUIRE(walk(l.config, seen));
  CHECK(seen == found{{0x01, 0x80}, {0x05, 0xa0}});
}

TEST_CASE("of two capabilities with one id the first is found") {
  lists l;
  l.config.set8(header::capabilities, 0x80);
  l.link(0x80, 0x09, 0x40);
  l.link(0x40, 0x09, 0);
  CHECK(*find_capability(l.config, capability_id::vendor_specific) == 0x80);
  l.extended(0x100, 0x0b, 0x300);
  l.extended(0x300, 0x0b, 0x200);
  l.extended(0x200, 0x0b, 0);
  CHECK(*find_capability(l.config, extended_capability_id::vendor_specific) == 0x100);
}

TEST_CASE("a list of any length that comes back to any of its own is a loop") {
  // 48 capabilities fill the space; the last one links to each of them in turn.
  for (unsigned length = 1; length <= 48; ++length) {
    for (unsigned back = 0; back != length; ++back) {
      lists l;
      l.config.set8(header::capabilities, 0x40);
      for (unsigned i = 0; i != length; ++i) {
        const unsigned next = i + 1 == length ? back : i + 1;
        l.link(static_cast<std::uint16_t>(0x40 + 4 * i), 0x09,
               static_cast<std::uint8_t>(0x40 + 4 * next));
      }
      found seen;
      const auto walked = walk(l.config, seen);
      REQUIRE_FALSE(walked);
      CHECK(walked.error().code == errc::loop);
      CHECK(walked.error().value == 0x40 + 4 * back);
      CHECK(seen.size() == length);
    }
  }
}

TEST_CASE("a function that reads as all ones is removed, by every walk") {
  phasebit_test::config_archetype gone;
  found seen;
  const auto walked = walk(gone, seen);
  REQUIRE_FALSE(walked);
  CHECK(walked.error().code == errc::removed);
  const auto extended = walk_extended(gone, seen);
  REQUIRE_FALSE(extended);
  CHECK(extended.error().code == errc::removed);
  CHECK(seen.empty());
}

TEST_CASE("a virtual function has capabilities though its vendor id is all ones") {
  lists l;
  l.config.set32(header::vendor_id, 0xffff'ffff);
  l.config.set8(header::capabilities, 0x40);
  l.link(0x40, 0x11, 0);
  CHECK(*find_capability(l.config, capability_id::msix) == 0x40);
}

TEST_CASE("a link to bytes of all ones in a living function is broken, not removed") {
  lists l;
  l.config.set8(header::capabilities, 0x40);
  l.link(0x40, 0xff, 0xff);
  found seen;
  const auto walked = walk(l.config, seen);
  REQUIRE_FALSE(walked);
  CHECK(walked.error().code == errc::protocol);
}

TEST_CASE("extended capabilities are visited in order; the null capability is one of them") {
  lists l;
  l.extended(0x100, 0x0e, 0xffc);
  l.extended(0xffc, 0x00, 0x200);
  l.extended(0x200, 0x10, 0);
  found seen;
  REQUIRE(walk_extended(l.config, seen));
  CHECK(seen == found{{0x0e, 0x100}, {0, 0xffc}, {0x10, 0x200}});
  CHECK(*find_capability(l.config, extended_capability_id::sriov) == 0x200);
  const auto none = find_capability(l.config, extended_capability_id::pasid);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == errc::not_found);
}

TEST_CASE("an extended list may be empty: zeros, all ones, or a space of 256 bytes") {
  found seen;
  lists zeros;
  CHECK(walk_extended(zeros.config, seen));
  lists ones;
  ones.config.set32(0x100, 0xffff'ffff);
  CHECK(walk_extended(ones.config, seen));
  config_image<256> small;
  CHECK(walk_extended(small, seen));
  CHECK(seen.empty());
}

TEST_CASE("every extended link is either followed or refused with its reason") {
  for (unsigned next = 0; next != 4096; ++next) {
    lists l;
    const unsigned at = next & 0xffc;
    if (at >= 0x100) l.extended(static_cast<std::uint16_t>(at), 0x0e, next & 3);
    l.extended(0x100, 0x03, static_cast<std::uint16_t>(next));
    found seen;
    const auto walked = walk_extended(l.config, seen);
    CAPTURE(next);
    if (at == 0) {
      CHECK((walked && seen.size() == 1));
    } else if (at == 0x100) {
      REQUIRE_FALSE(walked);
      CHECK(walked.error().code == errc::loop);
    } else if (at < 0x100) {
      REQUIRE_FALSE(walked);
      CHECK(walked.error().code == errc::protocol);
      CHECK(walked.error().value == at);
    } else {
      CHECK((walked && seen.size() == 2));
    }
  }
}

TEST_CASE("spaces of random bytes are walked within the bound of accesses") {
  std::mt19937 random{7};
  std::uint64_t walks = 0;
  for (int round = 0; round != 2000; ++round) {
    space_image config;
    for (std::uint32_t at = 0; at != 4096; at += 4) {
      // Links on dwords more often than chance would have it, so that walks get somewhere.
      config.set32(at,
                   static_cast<std::uint32_t>(random()) & (round % 2 == 0 ? ~0U : 0xfffc'fcffU));
    }
    std::uint64_t accesses = 0;
    phasebit_test::view watched{&config, accesses};
    found seen;
    (void)walk(watched, seen).has_value();
    CHECK(accesses <= 3 + 48 * 3);
    CHECK(seen.size() <= 48);
    accesses = 0;
    seen.clear();
    (void)walk_extended(watched, seen).has_value();
    CHECK(accesses <= 3 + 960);
    walks += seen.size();
  }
  CHECK(walks > 2000);
}

namespace {

// 256 bytes, as a conventional function has them; an access beyond is a mistake.
struct conventional_config : phasebit_test::config_archetype {
  unsigned beyond = 0;
  std::uint32_t read32(std::uint16_t offset) noexcept {
    beyond += offset >= 256 ? 1U : 0U;
    return 0;
  }
};

}  // namespace

TEST_CASE("where there are 256 bytes, nothing is read beyond them for extended capabilities") {
  conventional_config config;
  found seen;
  CHECK(walk_extended(config, seen));
  CHECK(seen.empty());
  CHECK(config.beyond == 0);
}
