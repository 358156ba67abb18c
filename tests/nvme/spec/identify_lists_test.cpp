// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/identify_lists.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <doctest/doctest.h>

using namespace phasebit::nvme;

TEST_CASE("a namespace list ends at its first zero, or is full") {
  namespace_list list{};
  CHECK(list.ids().empty());
  list.nsid[0] = 1;
  list.nsid[1] = 5;
  list.nsid[3] = 9;
  REQUIRE(list.ids().size() == 2);
  CHECK(list.ids()[1] == 5);
  list.nsid.fill(7);
  CHECK(list.ids().size() == 1024);
}

TEST_CASE("a controller list never returns more entries than it holds") {
  controller_list list{};
  list.count = 3;
  CHECK(list.ids().size() == 3);
  list.count = 2047;
  CHECK(list.ids().size() == 2047);
  list.count = 0xffff;
  CHECK(list.ids().size() == 2047);
}

TEST_CASE("a secondary controller list never returns more entries than it holds") {
  secondary_controller_list list{};
  list.count = 4;
  list.entry[3].vfn = 4;
  REQUIRE(list.entries().size() == 4);
  CHECK(list.entries()[3].vfn == 4);
  list.count = 255;
  CHECK(list.entries().size() == 127);
}

namespace {

// Two descriptors: an EUI-64 and a UUID, then the terminator.
std::array<std::byte, 4096> descriptors() {
  std::array<std::byte, 4096> page{};
  page[0] = std::byte{1};
  page[1] = std::byte{8};
  page[4] = std::byte{0xe0};
  page[12] = std::byte{3};
  page[13] = std::byte{16};
  page[16] = std::byte{0xd0};
  page[31] = std::byte{0xdf};
  return page;
}

}  // namespace

TEST_CASE("a namespace's identifiers are found by their type") {
  const auto page = descriptors();
  const auto eui = find_namespace_id(page, namespace_id_type::eui64);
  REQUIRE(eui.size() == 8);
  CHECK(eui[0] == std::byte{0xe0});
  const auto uuid = find_namespace_id(page, namespace_id_type::uuid);
  REQUIRE(uuid.size() == 16);
  CHECK(uuid[15] == std::byte{0xdf});
  CHECK(find_namespace_id(page, namespace_id_type::nguid).empty());
}

TEST_CASE("a descriptor that runs over the end of the page is not one") {
  auto page = descriptors();
  page[13] = std::byte{0xff};
  const auto cut = std::span<const std::byte>{page}.first(64);
  CHECK(find_namespace_id(cut, namespace_id_type::uuid).empty());
  CHECK(find_namespace_id(cut.first(12 + 4), namespace_id_type::uuid).empty());
  CHECK(find_namespace_id(cut.first(3), namespace_id_type::eui64).empty());
  CHECK(find_namespace_id(cut.first(12), namespace_id_type::eui64).size() == 8);
  CHECK(find_namespace_id(cut.first(11), namespace_id_type::eui64).empty());
}

TEST_CASE("every length in every byte of the list ends the search within the page") {
  for (unsigned length = 0; length != 256; ++length) {
    std::array<std::byte, 4096> page;
    page.fill(static_cast<std::byte>(length));
    const auto found = find_namespace_id(page, namespace_id_type::command_set);
    const bool all_of_type_four = length == 4;
    CHECK(found.empty() != all_of_type_four);
  }
}
