// SPDX-License-Identifier: BSL-1.0
// The errors that IOMMU drivers report for hardware that is missing, limited, slow or broken. Tests
// on emulated IOMMUs and on QEMU's show that they drive working hardware.
#include <phasebit/iommu/amd/driver.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/driver.hpp>
#include <phasebit/iommu/smmuv3/driver.hpp>
#include <phasebit/iommu/vtd/driver.hpp>
#include <phasebit/memory/dma_arena.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::iommu;
using namespace phasebit::literals;

namespace {

// Registers that keep written values, without an IOMMU behind them.
struct register_file {
  std::map<std::uint32_t, std::uint32_t> words;
  std::uint32_t otherwise = 0;
};
struct file_doorbell {
  register_file* file = nullptr;
  std::uint32_t at = 0;
  void ring(std::uint32_t value) noexcept { file->words[at] = value; }
};
struct file_bar {
  register_file* file = nullptr;

  [[nodiscard]] std::uint32_t read32(std::uint32_t at) noexcept {
    const auto found = file->words.find(at);
    return found == file->words.end() ? file->otherwise : found->second;
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t at) noexcept {
    const std::uint64_t low = read32(at);
    return low | std::uint64_t{read32(at + 4)} << 32;
  }
  void write32(std::uint32_t at, std::uint32_t value) noexcept { file->words[at] = value; }
  void write64_lo_hi(std::uint32_t at, std::uint64_t value) noexcept {
    write32(at, static_cast<std::uint32_t>(value));
    write32(at + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return 0x2'0000; }
  [[nodiscard]] file_doorbell doorbell(std::uint32_t at) noexcept { return {file, at}; }
};
static_assert(Mmio<file_bar>);

// A millisecond passes with each look at it.
struct quick_clock {
  std::uint64_t* at;
  std::uint64_t now() noexcept { return *at += nanoseconds_per_ms; }
  void relax() noexcept {}
};

struct test_host {
  using ring_order = thread_order;
  static_arena<128_KiB> memory;
  std::uint64_t time = 0;

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return memory.allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { memory.release(region); }
  [[nodiscard]] quick_clock clock() noexcept { return {&time}; }
};
static_assert(driver::DriverHost<test_host>);

using tables = table_arena<128>;

// The arguments of open(); at the end all resources must have been returned.
struct bench {
  std::unique_ptr<test_host> host = std::make_unique<test_host>();
  std::vector<std::byte> memory = std::vector<std::byte>(144 * 4096);
  tables pages{aligned(memory), host_phys{0x4000'0000}};
  register_file file;
  file_bar bar{&file};

  static std::span<std::byte> aligned(std::vector<std::byte>& bytes) {
    const auto at = reinterpret_cast<std::uintptr_t>(bytes.data());
    const std::size_t skip = (0x1'0000 - at % 0x1'0000) % 0x1'0000;
    return std::span{bytes}.subspan(skip, 128 * 4096);
  }
  void set64(std::uint32_t at, std::uint64_t value) { bar.write64_lo_hi(at, value); }
};

using vtd_driver = vtd::driver<file_bar, tables, test_host>;
using amd_driver = amd::driver<file_bar, tables, test_host>;
using smmu_driver = smmuv3::driver<12, file_bar, tables, test_host>;
using riscv_driver = riscv::driver<file_bar, tables, test_host>;

template <class Driver>
errc code_of(bench& b, const driver::options& o = {}) {
  const std::size_t before = b.pages.used();
  auto opened = Driver::open(b.bar, b.pages, *b.host, o);
  REQUIRE_FALSE(opened);
  CHECK(b.pages.used() == before);
  return opened.error().code;
}

// ECAP with QI, CAP with tables of 39 and 48 bits.
void good_vtd(bench& b) {
  b.set64(0x08, std::uint64_t{3} << 34 | 47U << 16 | 6U << 8 | 6);
  b.set64(0x10, 0xf00f4a);
}

}  // namespace

TEST_CASE("registers of all ones are reported as a missing IOMMU") {
  bench b;
  b.file.otherwise = ~std::uint32_t{0};
  CHECK(code_of<vtd_driver>(b) == errc::removed);
  CHECK(code_of<amd_driver>(b) == errc::removed);
  CHECK(code_of<smmu_driver>(b) == errc::removed);
  CHECK(code_of<riscv_driver>(b) == errc::removed);
}

TEST_CASE("an IOMMU without a required feature is refused") {
  bench b;
  SUBCASE("VT-d") {
    good_vtd(b);
    b.set64(0x10, 0);
    CHECK(code_of<vtd_driver>(b) == errc::not_supported);
    good_vtd(b);
    b.set64(0x08, 0);
    CHECK(code_of<vtd_driver>(b) == errc::not_supported);
  }
  SUBCASE("AMD") {
    b.set64(0x30, 0x2913);  // without IASup
    CHECK(code_of<amd_driver>(b) == errc::not_supported);
  }
  SUBCASE("SMMUv3") {
    b.bar.write32(0x00, 0x0d44'101a);  // no stage 2
    b.bar.write32(0x04, 0x0273'0010);
    b.bar.write32(0x14, 0x74);
    CHECK(code_of<smmu_driver>(b) == errc::not_supported);
    b.bar.write32(0x00, 0x0544'101b);  // stream tables of one level
    CHECK(code_of<smmu_driver>(b) == errc::not_supported);
    b.bar.write32(0x00, 0x0d44'101b);
    b.bar.write32(0x14, 0x64);  // no granule of 4 KiB
    CHECK(code_of<smmu_driver>(b) == errc::not_supported);
    b.bar.write32(0x14, 0x74);
    b.bar.write32(0x04, 0x6273'0010);  // preset
    CHECK(code_of<smmu_driver>(b) == errc::not_supported);
    b.bar.write32(0x04, 5U << 21 | 8U << 16 | 16);  // 32 commands
    CHECK(code_of<smmu_driver>(b) == errc::out_of_range);
  }
  SUBCASE("RISC-V") {
    b.set64(0, 0x78'c2c0'0f10);  // no second stage
    CHECK(code_of<riscv_driver>(b) == errc::not_supported);
    b.set64(0, 0x78'c28f'0f10);  // device contexts of 32 bytes
    CHECK(code_of<riscv_driver>(b) == errc::not_supported);
    using short_contexts =
        riscv::driver<file_bar, tables, test_host, iommu::riscv::base_device_context>;
    b.set64(0, 0x78'c2cf'0f10);
    CHECK(code_of<short_contexts>(b) == errc::not_supported);
  }
}

TEST_CASE("an IOMMU reports the table formats that it walks") {
  bench b;
  SUBCASE("VT-d") {
    good_vtd(b);
    auto iommu = vtd_driver::open(b.bar, b.pages, *b.host);
    REQUIRE(iommu);
    CHECK(iommu->format().width == vtd_width::bits_48);
    CHECK(iommu->format().pages_1g);
    CHECK_FALSE(iommu->format().snoop_control);
    CHECK_FALSE(iommu->coherent());
    CHECK_FALSE(iommu->caches_absent());
    CHECK(iommu->supports(vtd_width::bits_39));
    CHECK_FALSE(iommu->supports(vtd_width::bits_57));
    using space = page_table<vtd_second_stage, tables>;
    auto wide = space::create({.width = vtd_width::bits_57}, b.pages);
    REQUIRE(wide);
    CHECK(iommu->attach(pcie::requester_id{8}, 1, wide->view()).error().code ==
          errc::not_supported);
  }
  SUBCASE("SMMUv3") {
    b.bar.write32(0x00, 0x0d40'101b);  // without VMID16
    b.bar.write32(0x04, 0x0273'0010);
    b.bar.write32(0x14, 0x74);  // 44 bits
    auto iommu = smmu_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    CHECK(iommu->format().ipa_bits == 44);
    using format = arm_stage2<12>;
    const auto code = [&](std::uint16_t domain, const format& f) {
      auto table = page_table<format, tables>::create(f, b.pages);
      REQUIRE(table);
      return iommu->attach(pcie::requester_id{8}, domain, table->view()).error().code;
    };
    // Attaches that are not refused time out in the command ring, which does not advance here.
    CHECK(code(0xff, iommu->format()) == errc::timed_out);
    CHECK(code(0x100, iommu->format()) == errc::out_of_range);
    CHECK(code(1, {.ipa_bits = 48, .address_bits = 44}) == errc::not_supported);
    CHECK(code(1, {.ipa_bits = 44, .address_bits = 48}) == errc::not_supported);
    CHECK(code(1, {.ipa_bits = 40, .address_bits = 44}) == errc::timed_out);
  }
  SUBCASE("AMD") {
    b.set64(0x30, 0x29d3);
    auto iommu = amd_driver::open(b.bar, b.pages, *b.host);
    REQUIRE(iommu);
    CHECK(iommu->format().mode == 6);
    b.set64(0x30, 0x21d3);
    auto lesser = amd_driver::open(b.bar, b.pages, *b.host, {.log2_requesters = 7});
    REQUIRE(lesser);
    CHECK(lesser->format().mode == 4);
    auto wide = page_table<amd_v1, tables>::create({.mode = 5}, b.pages);
    REQUIRE(wide);
    CHECK(lesser->attach(pcie::requester_id{8}, 1, wide->view()).error().code ==
          errc::not_supported);
    auto fitting = page_table<amd_v1, tables>::create({.mode = 4}, b.pages);
    REQUIRE(fitting);
    CHECK(lesser->attach(pcie::requester_id{0x80}, 1, fitting->view()).error().code ==
          errc::out_of_range);
  }
}

TEST_CASE("an IOMMU that does not execute commands ends in a time-out") {
  bench b;
  SUBCASE("VT-d: a global command") {
    good_vtd(b);
    auto iommu = vtd_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    CHECK(iommu->enable().error().code == errc::timed_out);
  }
  SUBCASE("VT-d: an IOMMU that vanishes meanwhile") {
    good_vtd(b);
    auto iommu = vtd_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    b.file.words.clear();
    b.file.otherwise = ~std::uint32_t{0};
    CHECK(iommu->enable().error().code == errc::removed);
    CHECK_FALSE(iommu->next_fault());
  }
  SUBCASE("AMD: the command ring, without a reported reason") {
    b.set64(0x30, 0x29d3);
    auto iommu = amd_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    CHECK(iommu->enable().error().code == errc::timed_out);
    CHECK_FALSE(iommu->next_fault());
  }
  SUBCASE("SMMUv3: CR0 is never acknowledged") {
    b.bar.write32(0x00, 0x0d44'101b);
    b.bar.write32(0x04, 0x0273'0010);
    b.bar.write32(0x14, 0x74);
    auto iommu = smmu_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    CHECK(iommu->enable().error().code == errc::timed_out);
  }
  SUBCASE("RISC-V: the command queue does not start") {
    b.set64(0, 0x78'c2cf'0f10);
    auto iommu = riscv_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    CHECK(iommu->format().mode == riscv_mode::sv57x4);
    CHECK(iommu->enable().error().code == errc::timed_out);
  }
}

TEST_CASE("enable() clears what stopped a queue before") {
  bench b;
  SUBCASE("VT-d") {
    good_vtd(b);
    auto iommu = vtd_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    b.bar.write32(0x1c, 0xc000'0000);  // root taken, translation on
    CHECK_FALSE(iommu->enable());
    CHECK(b.bar.read32(0x34) == 0x70);
  }
  SUBCASE("SMMUv3") {
    b.bar.write32(0x00, 0x0d44'101b);
    b.bar.write32(0x04, 0x0273'0010);
    b.bar.write32(0x14, 0x74);
    auto iommu = smmu_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    b.bar.write32(0x60, 1);
    CHECK_FALSE(iommu->enable());
    CHECK(b.bar.read32(0x64) == 1);
  }
  SUBCASE("RISC-V") {
    b.set64(0, 0x78'c2cf'0f10);
    auto iommu = riscv_driver::open(b.bar, b.pages, *b.host, {.timeout_ms = 50});
    REQUIRE(iommu);
    CHECK_FALSE(iommu->enable());
    CHECK(b.bar.read32(72) == 0xf01);
  }
}

TEST_CASE("memory that runs out leaves nothing behind") {
  bench b;
  std::vector<table_page<host_space>> taken;
  while (auto page = b.pages.allocate(4096)) taken.push_back(*page);
  good_vtd(b);
  CHECK(code_of<vtd_driver>(b) == errc::exhausted);
  // One page: a directory's root, and no log.
  b.pages.release(taken.back(), 4096);
  b.set64(0, 0x78'c2cf'0f10);
  CHECK(code_of<riscv_driver>(b) == errc::exhausted);
}
