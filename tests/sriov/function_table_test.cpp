// SPDX-License-Identifier: BSL-1.0
#include <phasebit/sriov/function_table.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <sriov/device.hpp>

using namespace phasebit;
using namespace phasebit::sriov;
using phasebit_test::device;
using phasebit_test::physical_description;

namespace {

// Four physical functions and 252 virtual ones: all of one bus.
constexpr function_table_limits four_and_252{.physical = 4, .virtual_functions = 252};
// The same with two MSI-X vectors for each virtual function.
constexpr function_table_limits with_vectors{.physical = 4, .virtual_functions = 252, .vectors = 2};

#if defined(__x86_64__)
// The on-chip memory of such a table; configuration images are shared and lie elsewhere.
static_assert(sizeof(function_table<four_and_252>) == 8720);
static_assert(sizeof(function_table<with_vectors>) == 8720 + 252 * (2 * 16 + 8));
#endif

template <function_table_limits L>
device<L> four_functions(std::uint16_t total = 63) {
  device<L> d;
  for (std::uint8_t n = 0; n != 4; ++n) REQUIRE(*d.add(n, physical_description(total, 4, 4)) == n);
  return d;
}

vf_numbering by_count_and_ari(std::uint16_t num_vfs, bool ari) noexcept {
  return {static_cast<std::uint16_t>(ari ? 8 : 256),
          static_cast<std::uint16_t>(num_vfs > 4 ? 2 : 3)};
}

}  // namespace

TEST_CASE("all 256 routing ids of a bus are those of 4 physical and 252 virtual functions") {
  auto d = four_functions<four_and_252>();
  for (std::uint16_t p = 0; p != 4; ++p) d.enable(p, 63);
  d.table->capture_bus(0x40);
  std::map<unsigned, function_ref> expected;
  for (std::uint16_t p = 0; p != 4; ++p) {
    for (std::uint16_t vf = 0; vf <= 63; ++vf) expected[0x4000U + p + vf * 4U] = {p, vf};
  }
  REQUIRE(expected.size() == 256);
  for (unsigned id = 0; id != 0x1'0000; ++id) {
    const auto found = d.table->find(pcie::requester_id{static_cast<std::uint16_t>(id)});
    const auto it = expected.find(id);
    REQUIRE(found == (it == expected.end() ? function_ref{} : it->second));
    if (found.exists()) REQUIRE(d.table->routing_id(found).raw() == id);
  }
  std::vector<bool> seen(252);
  for (const auto& [id, f] : expected) {
    if (!f.is_virtual()) continue;
    CHECK_FALSE(seen[d.table->index(f)]);
    seen[d.table->index(f)] = true;
  }
}

TEST_CASE("a table holds as many functions as there are routing ids") {
  device<function_table_limits{.virtual_functions = 65535, .routing_ids = 0x1'0000}> d;
  REQUIRE(d.add(0, physical_description(65535, 1, 1)));
  d.enable(0, 65535);
  CHECK(d.table->active_vfs(0) == 65535);
  for (unsigned id = 0; id != 0x1'0000; ++id) {
    const function_ref f{0, static_cast<std::uint16_t>(id)};
    REQUIRE(d.table->find(pcie::requester_id{static_cast<std::uint16_t>(id)}) == f);
    REQUIRE(d.table->state(f) == function_state::ready);
  }
}

TEST_CASE(
    "virtual functions come with VF Enable, answer retry until they are ready, and go with it") {
  auto d = four_functions<four_and_252>();
  const function_ref vf{1, 2};
  CHECK(d.table->state(vf) == function_state::absent);
  CHECK(d.table->config_read(vf, 0, 4).status == pcie::completion_status::unsupported_request);
  d.enable(1, 3, false);
  REQUIRE(d.events.size() == 2);
  CHECK(d.events[1].kind == function_event_kind::memory_decoding);
  CHECK(d.events[0].kind == function_event_kind::enabled);
  CHECK(d.events[0].function == function_ref{1, 0});
  CHECK(d.events[0].count == 3);
  CHECK(d.table->state(vf) == function_state::initializing);
  CHECK(d.table->config_read(vf, 0, 4).status ==
        pcie::completion_status::configuration_request_retry);
  CHECK(d.table->config_read({1, 4}, 0, 4).status == pcie::completion_status::unsupported_request);
  CHECK(d.table->ready(vf));
  CHECK_FALSE(d.table->ready(vf));
  CHECK_FALSE(d.table->ready({1, 4}));
  CHECK(d.table->config_read(vf, 0, 4).status == pcie::completion_status::successful);
  d.events.clear();
  d.disable(1);
  REQUIRE(d.events.size() == 2);
  CHECK(d.events[0].kind == function_event_kind::disabled);
  CHECK(d.events[0].count == 3);
  CHECK(d.table->state(vf) == function_state::absent);
  CHECK_FALSE(d.table->find(pcie::requester_id{1 + 2 * 4}).exists());
  CHECK_FALSE(d.table->ready(vf));
}

TEST_CASE("functions that take longer than the specification allows are named") {
  auto d = four_functions<four_and_252>();
  const auto overdue = [&] {
    std::vector<function_ref> list;
    d.table->for_each_overdue(d.now_ms, [&](function_ref f) { list.push_back(f); });
    return list;
  };
  d.now_ms = 0xffff'ff00;  // the clock may wrap
  d.enable(0, 2, false);
  d.now_ms += 1000;
  CHECK(overdue().empty());
  d.now_ms += 1;
  CHECK(overdue() == std::vector<function_ref>{{0, 1}, {0, 2}});
  d.table->ready({0, 1});
  d.table->ready({0, 2});
  CHECK(overdue().empty());
  const unsigned express =
      *pcie::find_capability(*d.vf_images[0], pcie::capability_id::pci_express);
  d.write({0, 2}, express + pcie::express::device_control, 2, 0x8000);
  d.now_ms += 100;
  CHECK(overdue().empty());
  d.now_ms += 1;
  CHECK(overdue() == std::vector<function_ref>{{0, 2}});
}

TEST_CASE("NumVFs above TotalVFs, and any NumVFs while VF Enable is set, are not taken") {
  auto d = four_functions<four_and_252>();
  const function_ref pf{0, 0};
  const unsigned num = d.at(pcie::sriov::num_vfs);
  d.write(pf, num, 2, 63);
  CHECK(d.read(pf, num, 2) == 63);
  d.write(pf, num, 2, 64);
  CHECK(d.read(pf, num, 2) == 63);
  d.write(pf, num, 2, 5);
  d.enable(0, 5);
  d.write(pf, num, 2, 4);
  CHECK(d.read(pf, num, 2) == 5);
  CHECK(d.table->active_vfs(0) == 5);
  d.disable(0);
  d.write(pf, num, 2, 4);
  CHECK(d.read(pf, num, 2) == 4);
}

TEST_CASE(
    "First VF Offset and VF Stride follow NumVFs and ARI, and only the lowest function has ARI") {
  device<function_table_limits{.physical = 2, .virtual_functions = 32, .routing_ids = 512}> d;
  REQUIRE(d.add(0, physical_description(16, 1, 1), {.rule = by_count_and_ari}));
  REQUIRE(
      d.add(1, physical_description(16, 1, 1), {.rule = by_count_and_ari, .dependency_link = 0}));
  const auto numbers = [&](std::uint16_t pf) {
    return vf_numbering{
        static_cast<std::uint16_t>(d.read({pf, 0}, d.at(pcie::sriov::first_vf_offset), 2)),
        static_cast<std::uint16_t>(d.read({pf, 0}, d.at(pcie::sriov::vf_stride), 2))};
  };
  CHECK(d.read({0, 0}, d.at(pcie::sriov::function_dependency_link), 1) == 0);
  CHECK(d.read({1, 0}, d.at(pcie::sriov::function_dependency_link), 1) == 0);
  CHECK(numbers(0) == vf_numbering{256, 3});
  d.write({0, 0}, d.at(pcie::sriov::num_vfs), 2, 5);
  CHECK(numbers(0) == vf_numbering{256, 2});
  CHECK(numbers(1) == vf_numbering{256, 3});
  d.write({1, 0}, d.at(pcie::sriov::control), 2, 0x10);
  CHECK(d.read({1, 0}, d.at(pcie::sriov::control), 2) == 0);
  CHECK(numbers(1) == vf_numbering{256, 3});
  d.write({0, 0}, d.at(pcie::sriov::control), 2, 0x10);
  CHECK(numbers(0) == vf_numbering{8, 2});
  CHECK(numbers(1) == vf_numbering{8, 3});
  d.enable(0, 5);
  CHECK(d.table->find(pcie::requester_id{8 + 4 * 2}) == function_ref{0, 5});
  // While any virtual function is enabled, the numbering stays.
  d.write({0, 0}, d.at(pcie::sriov::control), 2, 0x09);
  CHECK(d.read({0, 0}, d.at(pcie::sriov::control), 2) == 0x19);
  CHECK(numbers(1) == vf_numbering{8, 3});
}

TEST_CASE(
    "VF Enable stays clear where virtual functions would take another function's routing id") {
  device<function_table_limits{.physical = 2, .virtual_functions = 32}> d;
  REQUIRE(d.add(0, physical_description(16, 1, 1)));
  REQUIRE(d.add(4, physical_description(16, 300, 1)));
  d.enable(0, 4);  // 1 to 4, and 4 is the other one
  CHECK(d.table->active_vfs(0) == 0);
  CHECK((d.read({0, 0}, d.at(pcie::sriov::control), 2) & 1) == 0);
  CHECK(d.table->find(pcie::requester_id{4}) == function_ref{1, 0});
  CHECK_FALSE(d.table->find(pcie::requester_id{1}).exists());
  d.enable(0, 3);
  CHECK(d.table->active_vfs(0) == 3);
  d.enable(1, 1);  // beyond the 256 routing ids of the table
  CHECK(d.table->active_vfs(1) == 0);
  d.disable(0);
  d.table->capture_bus(0xff);
  d.enable(0, 3);
  CHECK(d.table->active_vfs(0) == 3);
}

TEST_CASE("a physical function that does not fit is refused") {
  device<function_table_limits{.physical = 2, .virtual_functions = 8}> d;
  CHECK(d.add(0, physical_description(9, 1, 1)).error().code == errc::exhausted);
  REQUIRE(d.add(0, physical_description(5, 1, 1)));
  CHECK(d.add(0, physical_description(1, 1, 1)).error().code == errc::already_exists);
  CHECK(d.add(1, physical_description(4, 1, 1)).error().code == errc::exhausted);
  REQUIRE(d.add(1, physical_description(3, 1, 1)));
  CHECK(d.add(2, physical_description(0x1, 1, 1)).error().code == errc::exhausted);
  auto plain = physical_description(1, 1, 1);
  plain.sriov = {};
  config_image image;
  REQUIRE(pcie::emit_function(image, plain));
  config_image vf;
  REQUIRE(emit_virtual_function(vf, physical_description(1, 1, 1)));
  function_table<function_table_limits{}> table;
  CHECK(table.add(0, image, vf).error().code == errc::not_found);
  CHECK(emit_virtual_function(vf, plain).error().code == errc::invalid_argument);
}

TEST_CASE(
    "an address means the BAR, virtual function and offset that a search of all slices finds") {
  std::mt19937_64 random{11};
  auto d = four_functions<four_and_252>();
  for (int round = 0; round != 40; ++round) {
    for (std::uint16_t p = 0; p != 4; ++p) d.disable(p);
    // Sixteen places of 64 MiB are dealt to the eight BARs.
    std::vector<std::uint64_t> places;
    for (std::uint64_t i = 0; i != 16; ++i) places.push_back((0x80 + i) << 26);
    std::shuffle(places.begin(), places.end(), random);
    struct slice {
      std::uint64_t base, bytes;
      function_ref function;
    };
    std::vector<slice> slices;
    const std::uint32_t page = 1U << (random() % 2 * 4);  // 4 KiB or 64 KiB
    for (std::uint16_t p = 0; p != 4; ++p) {
      const function_ref f{p, 0};
      const bool memory = random() % 4 != 0;
      const std::uint64_t base = places[p];
      d.write(f, pcie::header::bar0, 4, static_cast<std::uint32_t>(base));
      d.write(f, pcie::header::bar0 + 4, 4, static_cast<std::uint32_t>(base >> 32));
      d.write(f, pcie::header::command, 2, memory ? 2 : 0);
      if (memory) slices.push_back({base, 0x4000, f});
      const std::uint64_t vf_base = places[4U + p];
      d.write(f, d.at(pcie::sriov::system_page_size), 4, page);
      d.write(f, d.at(pcie::sriov::vf_bar0), 4, static_cast<std::uint32_t>(vf_base));
      d.write(f, d.at(pcie::sriov::vf_bar0 + 4), 4, static_cast<std::uint32_t>(vf_base >> 32));
      const auto count = static_cast<std::uint16_t>(random() % 64);
      d.enable(p, count);
      if (random() % 4 == 0) {
        d.write(f, d.at(pcie::sriov::control), 2, 1);  // VF Memory Space off
        continue;
      }
      const std::uint64_t bytes = page == 1 ? 0x4000 : 0x1'0000;
      for (std::uint16_t vf = 1; vf <= count; ++vf) {
        slices.push_back({vf_base + (vf - 1U) * bytes, bytes, {p, vf}});
      }
    }
    const auto expected = [&](std::uint64_t address) {
      for (const slice& s : slices) {
        if (address - s.base < s.bytes) return bar_hit{s.function, 0, address - s.base};
      }
      return bar_hit{};
    };
    for (int i = 0; i != 4000; ++i) {
      std::uint64_t address = places[random() % 16] + random() % (1U << 23);
      if (i % 2 == 0 && !slices.empty()) {
        const slice& s = slices[random() % slices.size()];
        address = s.base + (random() % 2 != 0 ? s.bytes : 0) - random() % 3;  // about the edges
      }
      REQUIRE(d.table->find(address) == expected(address));
    }
    CHECK_FALSE(d.table->find(std::uint64_t{0}).function.exists());
    CHECK_FALSE(d.table->find(~std::uint64_t{0}).function.exists());
  }
}

TEST_CASE("an aperture that runs over the end of the address space claims nothing") {
  aperture_map<4> map;
  map.insert({.base = 0xffff'ffff'ffff'c000, .count = 1, .shift = 14, .first = {0, 1}});
  CHECK(map.find(~std::uint64_t{0}).function == function_ref{0, 1});
  map.clear();
  map.insert({.base = 0xffff'ffff'ffff'c000, .count = 2, .shift = 14, .first = {0, 1}});
  CHECK(map.size() == 0);
  CHECK_FALSE(map.find(~std::uint64_t{0}).function.exists());
  // A host that lays one aperture over another: the later one wins where it reaches.
  map.insert({.base = 0x1'0000, .count = 16, .shift = 12, .first = {0, 1}});
  map.insert({.base = 0x1'8000, .count = 1, .shift = 12, .first = {1, 1}});
  CHECK(map.find(0x1'8000).function == function_ref{1, 1});
  CHECK(map.find(0x1'7fff).function == function_ref{0, 8});
  CHECK_FALSE(map.find(0x1'9000).function.exists());
}

TEST_CASE("a page size that is not supported is not taken, and a larger one makes VF BARs larger") {
  auto d = four_functions<four_and_252>();
  const function_ref pf{0, 0};
  const unsigned page = d.at(pcie::sriov::system_page_size);
  for (const std::uint32_t bad : {0U, 0x3U, 0x4U, 0x8000'0000U}) {
    d.write(pf, page, 4, bad);
    CHECK(d.read(pf, page) == 1);
  }
  d.write(pf, d.at(pcie::sriov::vf_bar0), 4, 0xffff'ffff);
  CHECK(d.read(pf, d.at(pcie::sriov::vf_bar0)) == 0xffff'c004);
  d.write(pf, page, 4, 0x10);
  CHECK(d.read(pf, d.at(pcie::sriov::vf_bar0)) == 0xffff'0004);
  d.write(pf, d.at(pcie::sriov::vf_bar0), 4, 0xffff'ffff);
  CHECK(d.read(pf, d.at(pcie::sriov::vf_bar0)) == 0xffff'0004);
  d.enable(0, 1);
  d.write(pf, page, 4, 1);
  CHECK(d.read(pf, page) == 0x10);
  d.disable(0);
  d.write(pf, page, 4, 1);
  d.write(pf, d.at(pcie::sriov::vf_bar0), 4, 0xffff'ffff);
  CHECK(d.read(pf, d.at(pcie::sriov::vf_bar0)) == 0xffff'c004);
}

TEST_CASE(
    "a host chooses the size of VF BARs from those that there are, while VF Enable is clear") {
  static constexpr std::array<pcie::resizable_bar_description, 1> sizes{
      {{.bar = 0, .sizes = 0b101}}};
  auto description = physical_description(4, 1, 1);
  description.sriov->vf_bars[0] = {pcie::bar_kind::memory64, 1 << 20};
  description.sriov->resizable_vf_bars = sizes;
  device<function_table_limits{.virtual_functions = 4}> d;
  REQUIRE(d.add(0, description));
  const function_ref pf{0, 0};
  const unsigned control =
      *pcie::find_capability(*d.images[0], pcie::extended_capability_id::vf_resizable_bar) + 8U;
  const auto bar_mask = [&] {
    d.write(pf, d.at(pcie::sriov::vf_bar0), 4, 0xffff'ffff);
    return d.read(pf, d.at(pcie::sriov::vf_bar0)) & ~15U;
  };
  CHECK(d.read(pf, control) == 1U << 5);
  CHECK(bar_mask() == 0xfff0'0000);
  d.write(pf, control, 4, 1U << 8);  // 2 MiB is not there
  CHECK(d.read(pf, control) == 1U << 5);
  d.write(pf, control, 4, 2U << 8);
  CHECK(d.read(pf, control) == (2U << 8 | 1U << 5));
  CHECK(bar_mask() == 0xffc0'0000);
  d.enable(0, 3);
  CHECK(d.table->find(std::uint64_t{0xffc0'0000}) == bar_hit{{0, 1}, 0, 0});
  CHECK(d.table->find(std::uint64_t{0x1'0040'1000}) == bar_hit{{0, 3}, 0, 0x1000});
  d.write(pf, control, 4, 0);
  CHECK(d.read(pf, control) == (2U << 8 | 1U << 5));
  d.disable(0);
  d.write(pf, control, 4, 0);
  CHECK(bar_mask() == 0xfff0'0000);
}

TEST_CASE("a virtual function's configuration space reads as chapter 9 specifies") {
  auto d = four_functions<four_and_252>();
  d.enable(2, 10);
  const function_ref vf{2, 7};
  CHECK(d.read(vf, pcie::header::vendor_id) == 0xffff'ffff);
  CHECK(d.read(vf, pcie::header::revision_id) == 0x0108'0202);  // the physical function's
  CHECK(d.read(vf, pcie::header::subsystem_vendor_id) == 0x1100'1af4);
  CHECK(d.read(vf, pcie::header::command, 2) == 0);
  for (unsigned i = 0; i != 6; ++i) CHECK(d.read(vf, pcie::header::bar0 + 4 * i) == 0);
  CHECK(d.read(vf, pcie::header::expansion_rom) == 0);
  CHECK(d.read(vf, pcie::header::interrupt_line, 2) == 0);
  CHECK(d.read(vf, pcie::header::header_type, 1) == 0);
  CHECK((d.read(vf, pcie::header::status, 2) & 0x10) != 0);
  auto& image = *d.vf_images[2];
  CHECK(pcie::find_capability(image, pcie::extended_capability_id::sriov).error().code ==
        errc::not_found);
  const unsigned express = *pcie::find_capability(image, pcie::capability_id::pci_express);
  CHECK(pcie::device_capabilities{d.read(
      vf,
      express +
          pcie::express::device_capabilities)}[pcie::device_capabilities::function_level_reset]);
  CHECK(d.read(vf, express + pcie::express::device_control, 2) == 0);
  CHECK(d.read(vf, express + pcie::express::link_status, 2) == 0);
  // Off its alignment, and of a width that there is none of.
  CHECK(d.read(vf, 5, 2) == 0xffff);
  CHECK(d.read(vf, 0, 3) == 0xffff'ff);
}

TEST_CASE(
    "a host changes a virtual function's own registers, nothing else, and no other function's") {
  auto d = four_functions<four_and_252>();
  d.enable(2, 10);
  const function_ref vf{2, 7};
  const auto dump = [&](function_ref f) {
    std::vector<std::uint32_t> words;
    for (unsigned at = 0; at != 4096; at += 4) words.push_back(d.read(f, at));
    return words;
  };
  const auto before = dump(vf);
  const auto neighbour = dump({2, 8});
  const auto physical = dump({2, 0});
  const unsigned express =
      *pcie::find_capability(*d.vf_images[2], pcie::capability_id::pci_express);
  const unsigned msix = *pcie::find_capability(*d.vf_images[2], pcie::capability_id::msix);
  const unsigned power =
      *pcie::find_capability(*d.vf_images[2], pcie::capability_id::power_management);
  d.events.clear();
  for (unsigned at = 0; at != 4096; ++at) {
    for (const unsigned bytes : {1U, 2U, 4U}) {
      // Initiate Function Level Reset is left out.
      const bool resets = at <= express + 9 && at + bytes > express + 9;
      d.write(vf, at, bytes, resets ? 0x7fff'7fff & ~0x80U : 0xffff'ffff);
    }
  }
  auto expected = before;
  expected[1] |= 4;                   // Bus Master Enable
  expected[msix / 4] |= 0xc000'0000;  // MSI-X Enable and Function Mask
  expected[power / 4 + 1] |= 3;       // PowerState
  CHECK(dump(vf) == expected);
  CHECK(dump({2, 8}) == neighbour);
  CHECK(dump({2, 0}) == physical);
  CHECK(d.table->may_master(vf));
  CHECK_FALSE(d.table->may_master({2, 8}));
  REQUIRE(d.events.size() >= 2);
  CHECK(d.events[0].kind == function_event_kind::bus_master);
  CHECK(d.events[0].function == vf);
  CHECK(d.events[1].kind == function_event_kind::msix);
}

TEST_CASE("status bits are each function's own, and a host clears them by writing ones") {
  auto d = four_functions<four_and_252>();
  d.enable(0, 3);
  const auto control = static_cast<std::uint16_t>(
      *pcie::find_capability(*d.vf_images[0], pcie::capability_id::pci_express) +
      pcie::express::device_control);
  CHECK(d.table->set_bits({0, 1}, control, 0x0003'0000));
  CHECK(d.table->set_bits({0, 2}, control, 0x0001'0000));
  CHECK(d.table->set_bits({0, 0}, control, 0x0004'0000));
  CHECK_FALSE(d.table->set_bits({0, 1}, 0, 1));
  CHECK_FALSE(d.table->set_bits({0, 4}, control, 1));
  d.write({0, 1}, control + 2U, 2, 0xfffe);
  CHECK(d.read({0, 1}, control) == 0x0001'0000);
  CHECK(d.read({0, 2}, control) == 0x0001'0000);
  CHECK(d.read({0, 3}, control) == 0);
  CHECK((d.read({0, 0}, control) >> 16) == 4);
  d.write({0, 0}, control + 2U, 1, 4);
  CHECK((d.read({0, 0}, control) >> 16) == 0);
  d.write({0, 1}, control + 2U, 1, 1);
  CHECK(d.read({0, 1}, control) == 0);
}

TEST_CASE(
    "a function-level reset is of one virtual function, and lasts until its owner calls ready()") {
  auto d = four_functions<with_vectors>();
  d.enable(0, 4);
  const unsigned express =
      *pcie::find_capability(*d.vf_images[0], pcie::capability_id::pci_express);
  const unsigned msix = *pcie::find_capability(*d.vf_images[0], pcie::capability_id::msix);
  for (std::uint16_t vf = 1; vf <= 4; ++vf) {
    d.write({0, vf}, pcie::header::command, 2, 4);
    d.write({0, vf}, msix + 2, 2, 0x8000);
    d.table->msix().write_table(d.table->index({0, vf}), 0, 0xfee0'0000U + vf,
                                d.table->msix_control({0, vf}), [](const pcie::msi_message&) {});
  }
  d.events.clear();
  d.write({0, 2}, express + pcie::express::device_control, 2, 0x8000);
  REQUIRE(d.events.size() == 1);
  CHECK(d.events[0].kind == function_event_kind::reset);
  CHECK(d.events[0].function == function_ref{0, 2});
  CHECK(d.table->state({0, 2}) == function_state::resetting);
  CHECK_FALSE(d.table->may_master({0, 2}));
  CHECK(d.table->config_read({0, 2}, 0, 4).status ==
        pcie::completion_status::configuration_request_retry);
  // It keeps its place: address and routing id stay claimed.
  CHECK(d.table->find(pcie::requester_id{2 * 4}) == function_ref{0, 2});
  CHECK(d.table->ready({0, 2}));
  CHECK(d.read({0, 2}, pcie::header::command, 2) == 0);
  CHECK(d.table->msix().read_table(d.table->index({0, 2}), 0) == 0);
  CHECK(d.table->msix().read_table(d.table->index({0, 2}), 3) == 1);
  for (const std::uint16_t vf : {std::uint16_t{1}, std::uint16_t{3}, std::uint16_t{4}}) {
    CHECK(d.read({0, vf}, pcie::header::command, 2) == 4);
    CHECK(d.table->msix().read_table(d.table->index({0, vf}), 0) == ((0xfee0'0000U + vf) & ~3U));
  }
}

TEST_CASE("a function-level reset of the physical function takes its virtual ones away") {
  auto d = four_functions<four_and_252>();
  d.enable(0, 4);
  d.enable(1, 4);
  d.write({0, 0}, pcie::header::bar0, 4, 0xc000'0000);
  d.write({0, 0}, pcie::header::command, 2, 2);
  REQUIRE(d.table->find(std::uint64_t{0xc000'0000}).function == function_ref{0, 0});
  d.events.clear();
  const unsigned express = *pcie::find_capability(*d.images[0], pcie::capability_id::pci_express);
  d.write({0, 0}, express + pcie::express::device_control, 2, 0x8000);
  REQUIRE(d.events.size() == 2);
  CHECK(d.events[0].kind == function_event_kind::disabled);
  CHECK(d.events[0].count == 4);
  CHECK(d.events[1].kind == function_event_kind::reset);
  CHECK(d.table->state({0, 0}) == function_state::resetting);
  CHECK(d.table->state({0, 1}) == function_state::absent);
  CHECK(d.table->state({1, 1}) == function_state::ready);
  CHECK_FALSE(d.table->find(std::uint64_t{0xc000'0000}).function.exists());
  REQUIRE(pcie::emit_function(*d.images[0], d.descriptions[0]));
  CHECK(d.table->ready({0, 0}));
  CHECK(d.table->active_vfs(0) == 0);
  CHECK(d.read({0, 0}, d.at(pcie::sriov::num_vfs), 2) == 0);
  d.enable(0, 2);
  CHECK(d.table->active_vfs(0) == 2);
}

TEST_CASE("the device side agrees with the library's own driver") {
  device<function_table_limits{.virtual_functions = 16}> d;
  REQUIRE(d.add(0, physical_description(16, 1, 1)));
  struct view {
    device<function_table_limits{.virtual_functions = 16}>* d;
    function_ref f;
    std::uint8_t read8(std::uint16_t at) noexcept {
      return static_cast<std::uint8_t>(d->read(f, at, 1));
    }
    std::uint16_t read16(std::uint16_t at) noexcept {
      return static_cast<std::uint16_t>(d->read(f, at, 2));
    }
    std::uint32_t read32(std::uint16_t at) noexcept { return d->read(f, at, 4); }
    void write8(std::uint16_t at, std::uint8_t v) noexcept { d->write(f, at, 1, v); }
    void write16(std::uint16_t at, std::uint16_t v) noexcept { d->write(f, at, 2, v); }
    void write32(std::uint16_t at, std::uint32_t v) noexcept { d->write(f, at, 4, v); }
    std::uint32_t size_bytes() const noexcept { return 4096; }
  } config{&d, {0, 0}};
  struct {
    std::uint64_t now() noexcept { return ticks += 60'000'000; }
    void relax() noexcept {}
    std::uint64_t ticks = 0;
  } clock;
  const auto enabled =
      pcie::enable_virtual_functions(config, pcie::requester_id{0, 0, 0}, 12, clock);
  REQUIRE(enabled);
  CHECK(enabled->enabled);
  CHECK(d.table->active_vfs(0) == 12);
  for (std::uint16_t i = 0; i != 12; ++i) {
    CHECK(d.table->find(*enabled->routing_id(pcie::requester_id{}, i)) ==
          function_ref{0, static_cast<std::uint16_t>(i + 1)});
    d.table->ready({0, static_cast<std::uint16_t>(i + 1)});
  }
  const auto bars = pcie::size_vf_bars(config, *enabled);
  REQUIRE(bars);
  CHECK((*bars)[0].size == 0x4000);
  view vf{&d, {0, 3}};
  CHECK_FALSE(pcie::is_removed(vf));
  const auto msix = pcie::read_msix(vf);
  REQUIRE(msix);
  CHECK(msix->vectors == 2);
  const auto disabled = pcie::enable_virtual_functions(config, pcie::requester_id{}, 0, clock);
  REQUIRE(disabled);
  CHECK(d.table->active_vfs(0) == 0);
}

TEST_CASE("whatever a host writes, routing ids and states agree with the registers") {
  std::mt19937_64 random{3};
  device<function_table_limits{.physical = 3, .virtual_functions = 24, .routing_ids = 64}> d;
  REQUIRE(d.add(0, physical_description(8, 3, 3)));
  REQUIRE(d.add(1, physical_description(8, 3, 3)));
  REQUIRE(d.add(2, physical_description(8, 1, 0x7)));  // its functions meet the others'
  for (int i = 0; i != 60000; ++i) {
    const function_ref f{static_cast<std::uint16_t>(random() % 3),
                         static_cast<std::uint16_t>(random() % 4 == 0 ? random() % 10 : 0)};
    const unsigned bytes = 1U << random() % 3;
    unsigned at = static_cast<unsigned>(random() % 4096);
    if (random() % 2 == 0) at = d.at(static_cast<unsigned>(random() % 0x40));
    const auto value = static_cast<std::uint32_t>(random() % 3 == 0 ? random() % 10 : random());
    d.events.clear();
    d.write(f, at, bytes, value);
    for (const function_event& e : d.events) {
      if (e.kind == function_event_kind::enabled && random() % 2 == 0) {
        for (std::uint16_t vf = 1; vf <= e.count; ++vf) d.table->ready({e.function.physical, vf});
      }
      if (e.kind == function_event_kind::reset) {
        if (!e.function.is_virtual()) {
          REQUIRE(pcie::emit_function(*d.images[e.function.physical],
                                      d.descriptions[e.function.physical]));
        }
        d.table->ready(e.function);
      }
    }
    if (i % 16 != 0) continue;
    std::map<unsigned, function_ref> expected;
    for (std::uint16_t p = 0; p != 3; ++p) {
      const auto c = pcie::read_sriov(*d.images[p]);
      REQUIRE(c);
      REQUIRE(d.table->active_vfs(p) == (c->enabled ? c->num_vfs : 0));
      REQUIRE(expected.emplace(p, function_ref{p, 0}).second);
      for (std::uint16_t vf = 1; c->enabled && vf <= c->num_vfs; ++vf) {
        const unsigned id = p + c->first_vf_offset + (vf - 1U) * c->vf_stride;
        REQUIRE(expected.emplace(id, function_ref{p, vf}).second);
      }
    }
    for (std::uint16_t id = 0; id != 64; ++id) {
      const auto it = expected.find(id);
      REQUIRE(d.table->find(pcie::requester_id{id}) ==
              (it == expected.end() ? function_ref{} : it->second));
    }
  }
}

TEST_CASE("a masked vector becomes pending and its message leaves when it is unmasked") {
  msix_vectors<3, 2> vectors;
  std::vector<pcie::msi_message> sent;
  const auto send = [&](const pcie::msi_message& m) { sent.push_back(m); };
  const auto enabled = pcie::msix_control{}.with(pcie::msix_control::enable, true);
  const auto masked = enabled.with(pcie::msix_control::function_mask, true);
  vectors.write_table(1, 4, 0xfee0'1003, enabled, send);
  vectors.write_table(1, 6, 0x41, enabled, send);
  vectors.raise(1, 1, enabled, send);
  CHECK(sent.empty());
  CHECK(vectors.read_pending(1, 0) == 2);
  CHECK(vectors.read_pending(0, 0) == 0);
  vectors.write_table(1, 7, 0, masked, send);
  CHECK(sent.empty());
  vectors.control_changed(1, enabled, send);
  REQUIRE(sent.size() == 1);
  CHECK(sent[0] == pcie::msi_message{bus_addr{0xfee0'1000}, 0x41});
  CHECK(vectors.read_pending(1, 0) == 0);
  vectors.raise(1, 1, enabled, send);
  CHECK(sent.size() == 2);
  vectors.raise(1, 1, {}, send);  // disabled: nothing leaves, nothing becomes pending
  vectors.raise(1, 2, enabled, send);
  CHECK(sent.size() == 2);
  CHECK(vectors.read_pending(1, 0) == 0);
  CHECK(vectors.read_table(1, 8) == 0);
  CHECK(vectors.read_pending(1, 2) == 0);
}
