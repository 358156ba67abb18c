// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/memory/translators.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::literals;

namespace {

// The smallest model of the concept; translates at most a configurable number of bytes at a time.
struct chopping {
  using from = bus_space;
  using to = local_space;

  result<segment<local_space>> translate(address<bus_space> a, std::uint64_t bytes,
                                         phasebit::access) noexcept {
    ++asked;
    const std::uint64_t n = answer != 0 ? answer : bytes < part ? bytes : part;
    return segment<local_space>{to_local(memory.data()) + a.value(), n};
  }

  std::span<std::byte> memory;
  std::uint64_t part = 8;
  std::uint64_t answer = 0;
  int asked = 0;
};
static_assert(DmaTranslator<chopping> && LocalTranslator<chopping>);

struct pair_of_words {
  le<std::uint32_t> first;
  le<std::uint32_t> second;
};
static_assert(WireStruct<pair_of_words>);

std::vector<std::byte> counting(std::size_t bytes) {
  std::vector<std::byte> v(bytes);
  for (std::size_t i = 0; i != bytes; ++i) v[i] = static_cast<std::byte>(i * 7);
  return v;
}

}  // namespace

TEST_CASE("a window translates what lies in it, with its permission") {
  const offset_translator<guest_space, bus_space> window{
      guest_addr{0x1000}, 0x2000, bus_addr{0x9000'0000}, phasebit::access::read};
  CHECK(*window.translate(guest_addr{0x1800}, 0x100, phasebit::access::read) ==
        segment<bus_space>{bus_addr{0x9000'0800}, 0x100});
  CHECK(window.translate(guest_addr{0x2ff0}, 0x100, phasebit::access::read)->bytes == 0x10);
  CHECK(window.translate(guest_addr{0xfff}, 1, phasebit::access::read).error().code ==
        errc::not_mapped);
  CHECK(window.translate(guest_addr{0x3000}, 1, phasebit::access::read).error().code ==
        errc::not_mapped);
  CHECK(window.translate(guest_addr{0x1000}, 1, phasebit::access::write).error().code ==
        errc::access_denied);
}

TEST_CASE("two chained translators return the range that is contiguous in both") {
  std::array<std::byte, 0x4000> memory{};
  guest_memory<> guest;
  REQUIRE(guest.add({guest_addr{0x10000}, 0x1000, memory.data(), phasebit::access::read_write}));
  REQUIRE(guest.add({guest_addr{0x11000}, 0x1000, memory.data() + 0x3000, phasebit::access::read}));
  const offset_translator<bus_space, guest_space> iommu{bus_addr{0}, 0x2000, guest_addr{0x10000}};
  const chained device_view{iommu, guest};
  static_assert(DmaTranslator<decltype(device_view)>);

  CHECK(*device_view.translate(bus_addr{0xff0}, 0x20, phasebit::access::read) ==
        segment<local_space>{to_local(memory.data() + 0xff0), 0x10});
  CHECK(device_view.translate(bus_addr{0x1000}, 4, phasebit::access::write).error().code ==
        errc::access_denied);
  const auto outside = device_view.translate(bus_addr{0x2000}, 4, phasebit::access::read);
  CHECK(outside.error().code == errc::not_mapped);
  CHECK(outside.error().value == 0x2000);
}

TEST_CASE("copies across segment boundaries keep the order of bytes, in both directions") {
  std::vector<std::byte> memory = counting(256);
  for (std::uint64_t part : {1U, 3U, 8U, 64U, 1000U}) {
    chopping dma{memory, part};
    std::vector<std::byte> read(100);
    REQUIRE(dma_read(dma, bus_addr{17}, read));
    CHECK(std::equal(read.begin(), read.end(), memory.begin() + 17));

    std::vector<std::byte> other(256);
    chopping back{other, part};
    REQUIRE(dma_write(back, bus_addr{5}, read));
    CHECK(std::equal(read.begin(), read.end(), other.begin() + 5));
    CHECK(other[4] == std::byte{0});
    CHECK(other[105] == std::byte{0});
    REQUIRE(dma_fill(back, bus_addr{5}, 100, std::byte{9}));
    CHECK(other[104] == std::byte{9});
    CHECK(other[105] == std::byte{0});
  }
}

TEST_CASE("structs are read and written at any alignment") {
  std::array<std::byte, 64> memory{};
  const region_translator dma{dma_region{memory, bus_addr{0x5000}}};
  REQUIRE(dma_write(dma, bus_addr{0x5003}, pair_of_words{0x1122'3344U, 0x5566'7788U}));
  CHECK(memory[3] == std::byte{0x44});
  CHECK(memory[10] == std::byte{0x55});
  const auto loaded = dma_read<pair_of_words>(dma, bus_addr{0x5003});
  REQUIRE(loaded);
  CHECK(loaded->second.get() == 0x5566'7788U);
  CHECK(dma_read<pair_of_words>(dma, bus_addr{0x5040 - 7}).error().code == errc::not_mapped);
}

TEST_CASE("a copy that leaves the map stops there, and one that wraps never starts") {
  std::array<std::byte, 64> memory{};
  const region_translator dma{dma_region{memory, bus_addr{0x5000}}};
  const std::vector<std::byte> data(128, std::byte{1});
  const auto cut = dma_write(dma, bus_addr{0x5020}, data);
  REQUIRE(!cut);
  CHECK(cut.error().value == 0x5040);
  CHECK(memory[63] == std::byte{1});

  chopping never{memory};
  CHECK(dma_write(never, bus_addr{~0ULL - 3}, data).error().code == errc::overflow);
  CHECK(never.asked == 0);
  CHECK(dma_read(never, bus_addr{7}, {}));
  CHECK(never.asked == 0);
}

TEST_CASE("a translator that answers nonsense is caught, and nothing is copied") {
  std::array<std::byte, 64> memory{};
  std::array<std::byte, 16> to{};
  chopping longer{memory, 8, 17};
  CHECK(dma_read(longer, bus_addr{0}, to).error().code == errc::protocol);
  CHECK(longer.asked == 1);
}
