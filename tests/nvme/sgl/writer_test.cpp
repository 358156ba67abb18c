// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/sgl.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <doctest/doctest.h>
#include <support/counted_memory.hpp>

using namespace phasebit;
using phasebit::nvme::sgl_descriptor;
using phasebit::nvme::sgl_type;
using phasebit::nvme::status_code;
using phasebit::nvme::submission_entry;
namespace sgl = phasebit::nvme::sgl;

namespace {

struct no_more {
  sgl::segment_memory operator()() const noexcept { return {}; }
};

}  // namespace

TEST_CASE("adjacent blocks become one descriptor only as long as its length holds them") {
  alignas(16) std::array<std::byte, 64> memory{};
  no_more more;
  sgl::segment_writer<no_more> writer{{memory, bus_addr{0x1000}}, more};
  REQUIRE(writer.put(sgl_type::data_block, bus_addr{0x10'0000'0000}, 0xffff'f000));
  REQUIRE(writer.put(sgl_type::data_block, bus_addr{0x10'ffff'f000}, 0x2000));
  submission_entry e{};
  REQUIRE(writer.finish(e));
  CHECK(e.sgl().type() == sgl_type::last_segment);
  CHECK(e.sgl().length == 32U);
  sgl_descriptor first{};
  std::memcpy(&first, memory.data(), sizeof first);
  CHECK(first.length == 0xffff'f000U);
}

TEST_CASE("a segment of one descriptor cannot hold a link beside data") {
  alignas(16) std::array<std::byte, 16> memory{};
  alignas(16) static std::array<std::byte, 64> further{};
  auto more = []() noexcept { return sgl::segment_memory{further, bus_addr{0x2000}}; };
  sgl::segment_writer<decltype(more)> writer{{memory, bus_addr{0x1000}}, more};
  CHECK(writer.put(sgl_type::data_block, bus_addr{0x10'0000}, 512));
  CHECK(writer.put(sgl_type::data_block, bus_addr{0x20'0000}, 512));
  CHECK_FALSE(writer.put(sgl_type::data_block, bus_addr{0x30'0000}, 512));
}

TEST_CASE("a segment that ends without a link moves none of its last block") {
  constexpr std::uint64_t base = 0x7f00'0000;
  phasebit_test::counted_memory<bus_space> memory{base, 4096};
  const auto d = sgl_descriptor::of(sgl_type::data_block, bus_addr{0x1000}, 512);
  std::memcpy(memory.region(base, 16).data(), &d, sizeof d);
  unsigned calls = 0;
  const auto how = sgl::walk(memory, sgl_descriptor::of(sgl_type::segment, bus_addr{base}, 16),
                             1024, {}, [&](auto, std::uint64_t) noexcept {
                               ++calls;
                               return status_code::success;
                             });
  CHECK(how == status_code::invalid_sgl_segment_descriptor);
  CHECK(calls == 0);
}
