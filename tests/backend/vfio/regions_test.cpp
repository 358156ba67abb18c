// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/vfio/regions.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <cstdint>
#include <utility>

#include <doctest/doctest.h>
#include <sys/mman.h>

namespace vfio = phasebit::backend::vfio;
using namespace phasebit;

namespace {

// A file in the place of a device: a region of four pages at its second, of which the second page is
// one that the kernel would not map.
struct file_region {
  posix::unique_fd file{::memfd_create("phasebit-region", MFD_CLOEXEC)};
  vfio::mapped_region region;

  file_region() {
    REQUIRE(file);
    REQUIRE(::ftruncate(file.get(), 5 * 4096) == 0);
    auto mapped = vfio::mapped_region::map(
        file.get(), {.size = 4 * 4096, .offset = 4096, .mappable = {{0, 4096}, {8192, 8192}}});
    REQUIRE(mapped);
    region = std::move(*mapped);
  }
};

}  // namespace

TEST_CASE("registers are the same where the kernel maps them and where it does not") {
  file_region f;
  vfio::bar bar{f.region};
  CHECK(bar.size_bytes() == 4 * 4096);
  for (const std::uint32_t at : {0U, 4092U, 4096U, 8184U, 8192U, 16380U}) {
    bar.write32(at, 0x8765'4321U + at);
    CHECK(bar.read32(at) == 0x8765'4321U + at);
    le<std::uint32_t> there{};
    CHECK(::pread(f.file.get(), &there, 4, 4096 + static_cast<::off_t>(at)) == 4);
    CHECK(there == 0x8765'4321U + at);
  }
  bar.write64_lo_hi(4096, 0x1122'3344'5566'7788);
  CHECK(bar.read64(4096) == 0x1122'3344'5566'7788);
}

TEST_CASE("memory behind a BAR is given whole where all of it is mapped, and else not at all") {
  file_region f;
  vfio::bar bar{f.region};
  const auto code = [](const result<std::span<std::byte>>& r) {
    return r ? errc{} : r.error().code;
  };

  const auto dram = bar.memory(8192, 8192);
  REQUIRE(dram);
  CHECK(dram->size() == 8192);
  bar.write32(8192 + 64, 0xfeed'f00d);
  CHECK(load_wire<le<std::uint32_t>>(dram->subspan(64)) == 0xfeed'f00d);
  CHECK(bar.memory(100, 3996));

  CHECK(code(bar.memory(0, 4 * 4096)) == errc::not_supported);
  CHECK(code(bar.memory(4095, 2)) == errc::not_supported);
  CHECK(code(bar.memory(4096, 1)) == errc::not_supported);
  CHECK(code(bar.memory(8192, 8193)) == errc::out_of_range);
  CHECK(code(bar.memory(4 * 4096 + 1, 0)) == errc::out_of_range);
  CHECK(code(bar.memory(16, ~std::uint64_t{0})) == errc::out_of_range);
  CHECK(code(bar.memory(~std::uint64_t{0}, 16)) == errc::out_of_range);
}
