// SPDX-License-Identifier: BSL-1.0
// Accessed and dirty bits: set by what walks the tables, read and cleared by what owns them.
#include "page_table_harness.hpp"

#include <array>
#include <cstring>

#include <iommu/remapper_cases.hpp>

namespace phasebit::page_table_harness {

namespace {

using remapper_cases::amd_linear;
using remapper_cases::machine;
using remapper_cases::riscv_extended;
using remapper_cases::smmu_linear;

void flush_nothing(void*, std::span<const invalidation_range<bus_space>>) noexcept {}

// The cases of remapper_cases with tables that record writes.
struct amd_dirty : amd_linear {
  static constexpr format page_format{.track_dirty = true};
  static layout::entry entry(std::uint64_t root, std::uint16_t domain) noexcept {
    return amd_linear::entry(root, domain).with_dirty_tracking();
  }
  static architecture settings(std::uint64_t root) noexcept {
    architecture a = amd_linear::settings(root);
    a.set_dirty = true;
    return a;
  }
};
struct smmu_dirty : smmu_linear {
  static constexpr format page_format{.ipa_bits = 40, .address_bits = 44, .track_dirty = true};
  static layout::entry entry(std::uint64_t root, std::uint16_t domain) noexcept {
    return smmuv3::stream_table_entry::translated(smmuv3::stage2_of(page_format, root, domain));
  }
  static architecture settings(std::uint64_t root) noexcept {
    architecture a = smmu_linear::settings(root);
    a.httu = 2;
    return a;
  }
};
struct riscv_dirty : riscv_extended {
  static constexpr format page_format{.track_dirty = true};
  static layout::entry entry(std::uint64_t root, std::uint16_t domain) noexcept {
    return riscv_extended::entry(root, domain).with(riscv::device_context::gade, true);
  }
  static architecture settings(std::uint64_t root) noexcept {
    architecture a = riscv_extended::settings(root);
    a.set_dirty = true;
    return a;
  }
};

// VT-d in scalable mode with one address space for the requests without PASID.
template <class Format>
struct scalable {
  using arena = remapper_cases::store::arena_type;
  remapper_cases::store memory;
  page_table<Format, arena> pages;
  device_table<vtd::pasid_tables, arena> processes =
      *device_table<vtd::pasid_tables, arena>::create({.directory_bits = 9}, memory.arena);
  device_table<vtd::scalable_tables, arena> contexts =
      *device_table<vtd::scalable_tables, arena>::create({}, memory.arena);
  fault_history<> faults;
  remapper<vtd::remapping, arena, fault_history<>> iommu{memory.arena, faults};
  static constexpr pcie::requester_id disk{4, 17, 0};

  explicit scalable(const Format& format) : pages(*decltype(pages)::create(format, memory.arena)) {
    const std::uint64_t root = pages.root().value();
    vtd::pasid_entry entry;
    if constexpr (std::is_same_v<Format, x86_first_stage>) {
      entry = vtd::pasid_entry::first_stage(root, false, 4);
    } else {
      entry = vtd::pasid_entry::second_stage(root, format.width, 4, format.track_dirty);
    }
    REQUIRE(processes.set(5, entry));
    REQUIRE(contexts.set(disk.raw(), vtd::scalable_context_entry::with_directory(
                                         processes.root().value(), 2, 5, true)));
    vtd::remapping settings;
    settings.enabled = true;
    settings.capabilities.set_dirty = true;
    settings.mode = vtd::table_mode::scalable;
    settings.root = contexts.root().value();
    iommu.set(settings);
  }
  [[nodiscard]] auto read(std::uint64_t a) noexcept {
    return iommu.translate(disk, bus_addr{a}, 64, access::read);
  }
  [[nodiscard]] auto write(std::uint64_t a) noexcept {
    return iommu.translate(disk, bus_addr{a}, 64, access::write);
  }
};

template <class Machine>
void records_writes(Machine& m) {
  constexpr std::uint64_t base = 0x4000'0000;
  // Single pages, one of them read-only, and a large page.
  REQUIRE(m.pages.map(bus_addr{base}, host_phys{0x7000'1000}, 0x8000));
  REQUIRE(m.pages.map(bus_addr{base + 0x9000}, host_phys{0x7100'0000}, 0x1000,
                      {.permission = access::read}));
  REQUIRE(m.pages.map(bus_addr{base + 0x20'0000}, host_phys{0x8000'0000}, 0x20'0000));
  std::array<std::byte, 128> bits{};
  dirty_bitmap<bus_space> bitmap{bits, bus_addr{base}, 12};
  invalidations<bus_space> changes{&flush_nothing, nullptr};
  const auto read = [&](dirty_state state = dirty_state::clear) {
    bits = {};
    const auto pages = m.pages.read_dirty(bus_addr{base}, 0x40'0000, bitmap, changes, state);
    REQUIRE(pages);
    return *pages;
  };
  read();  // some formats begin dirty
  m.pages.complete(changes);
  m.iommu.invalidate_all();

  CHECK(m.read(base + 0x1000));
  CHECK(read() == 0);
  CHECK(m.write(base + 0x2000));
  CHECK(m.write(base + 0x1000));  // after a read that left the page in the cache
  CHECK(m.read(base + 0x3000));
  CHECK_FALSE(m.write(base + 0x9000));
  CHECK(read(dirty_state::keep) == 2);
  CHECK(changes.ranges().empty());
  CHECK(read() == 2);
  CHECK(bits[0] == std::byte{0b0110});
  for (std::size_t i = 1; i != bits.size(); ++i) CHECK(bits[i] == std::byte{0});
  REQUIRE(changes.ranges().size() == 1);
  CHECK(changes.ranges()[0].first <= bus_addr{base + 0x1000});
  CHECK(changes.ranges()[0].last >= bus_addr{base + 0x2fff});
  m.iommu.invalidate_all();
  m.pages.complete(changes);

  CHECK(m.write(base + 0x2800));
  CHECK(m.write(base + 0x30'0000));
  CHECK(read() == 2);
  CHECK(bitmap.test(bus_addr{base + 0x2000}));
  CHECK_FALSE(bitmap.test(bus_addr{base + 0x1000}));
  for (std::uint64_t page = 0; page != 512; ++page) {
    REQUIRE(bitmap.test(bus_addr{base + 0x20'0000 + page * 0x1000}));
  }
  m.iommu.invalidate_all();
  m.pages.complete(changes);

  // Unmapping reports what was written since.
  CHECK(m.write(base + 0x5000));
  CHECK(m.write(base + 0x3f'f000));
  bits = {};
  REQUIRE(m.pages.unmap(bus_addr{base}, 0x40'0000, changes, bitmap));
  CHECK(bits[0] == std::byte{1 << 5});
  CHECK(bits[1] == std::byte{0});
  CHECK(bits[64] == std::byte{0xff});
  m.iommu.invalidate_all();
  m.pages.complete(changes);
  CHECK_FALSE(m.read(base));
}

}  // namespace

TEST_CASE_TEMPLATE("writes of devices are recorded page by page, read, cleared and seen anew", Case,
                   amd_dirty, smmu_dirty, riscv_dirty) {
  machine<Case> m;
  records_writes(m);
}

TEST_CASE("VT-d: first stage, and second stage with SSADE, record the writes of devices") {
  scalable<vtd_second_stage> second{{.track_dirty = true}};
  records_writes(second);
  scalable<x86_first_stage> first{{.track_dirty = true}};
  records_writes(first);
  scalable<x86_first_stage> usual{{}};  // pages begin dirty
  records_writes(usual);
}

TEST_CASE("VT-d: entries of first-stage tables are marked as accessed, too") {
  scalable<x86_first_stage> m{{.track_dirty = true}};
  REQUIRE(m.pages.map(bus_addr{0x1000}, host_phys{0x7000'0000}, 0x1000));
  table_word* const root = m.memory.words(m.pages.root().value());
  root[0] &= ~x86_first_stage::accessed_bit;
  CHECK(m.read(0x1000));
  CHECK((root[0] & x86_first_stage::accessed_bit) != 0);
}

TEST_CASE("VT-d: SSADE without the capability is a reserved bit") {
  scalable<vtd_second_stage> m{{.track_dirty = true}};
  auto settings = m.iommu.settings();
  settings.capabilities.set_dirty = false;
  m.iommu.set(settings);
  REQUIRE(m.pages.map(bus_addr{0x1000}, host_phys{0x7000'0000}, 0x1000));
  CHECK_FALSE(m.read(0x1000));
  CHECK(m.faults.last().reason == fault_reason::pasid_entry_malformed);
}

TEST_CASE("tables in which nothing records writes are not asked for them") {
  for_every_format([]<class Format>(const Format& settings) {
    Format format = settings;
    format.track_dirty = false;
    if (page_format<Format>{format}.tracks_dirty()) return;
    auto store = std::make_unique<table_store<Format, 256>>();
    auto table = page_table<Format, typename table_store<Format, 256>::arena_type>::create(
        format, store->arena);
    REQUIRE(table);
    constexpr std::uint64_t granule = table_geometry<Format>::table_bytes;
    REQUIRE(table->map(bus_addr{0}, host_phys{granule}, granule));
    std::array<std::byte, 1> bits{};
    dirty_bitmap<bus_space> bitmap{bits, bus_addr{0}, Format::granule_shift};
    invalidations<bus_space> changes;
    const auto read = table->read_dirty(bus_addr{0}, granule, bitmap, changes);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == errc::not_supported);
    CHECK(table->unmap(bus_addr{0}, granule, changes, bitmap).error().code == errc::not_supported);
    CHECK(table->lookup(bus_addr{0}).status == walk_status::mapped);
  });
}

TEST_CASE("a dirty bitmap sets the bits of a range, clipped to its own, and no others") {
  std::array<std::byte, 8> bits{};
  for (unsigned first = 0; first != 80; ++first) {
    for (unsigned last = first; last != 80; ++last) {
      bits = {};
      // Pages 8 to 71 of 4 KiB.
      dirty_bitmap<bus_space> bitmap{bits, bus_addr{8 << 12}, 12};
      bitmap.set(bus_addr{(first << 12) + 5}, bus_addr{(last << 12) + 7});
      for (unsigned page = 0; page != 80; ++page) {
        const bool inside = page >= 8 && page < 72 && first <= page && page <= last;
        REQUIRE(bitmap.test(bus_addr{page << 12}) == inside);
      }
    }
  }
  using map = dirty_bitmap<bus_space>;
  CHECK(map::bytes_for(0, 12) == 0);
  CHECK(map::bytes_for(1, 12) == 1);
  CHECK(map::bytes_for(8 << 12, 12) == 1);
  CHECK(map::bytes_for((8 << 12) + 1, 12) == 2);
  map empty{{}, bus_addr{0}, 12};
  CHECK_FALSE(empty.set(bus_addr{0}, bus_addr{~std::uint64_t{0}}));
  bits = {};
  map whole{bits, bus_addr{8 << 12}, 12};
  CHECK(whole.set(bus_addr{8 << 12}, bus_addr{(72 << 12) - 1}));
  CHECK_FALSE(whole.set(bus_addr{(8 << 12) - 1}, bus_addr{9 << 12}));
  CHECK_FALSE(whole.set(bus_addr{71 << 12}, bus_addr{72 << 12}));
  CHECK_FALSE(whole.set(bus_addr{72 << 12}, bus_addr{73 << 12}));
  CHECK_FALSE(whole.set(bus_addr{0}, bus_addr{(8 << 12) - 1}));
}

TEST_CASE("bits are taken once each, in the order of their pages") {
  std::array<std::byte, 8> bits{};
  dirty_bitmap<bus_space> bitmap{bits, bus_addr{0x10'0000}, 12};
  CHECK(bitmap.set(bus_addr{0x10'3000}, bus_addr{0x10'4fff}));
  CHECK(bitmap.set(bus_addr{0x13'f000}, bus_addr{0x13'f000}));
  std::array<std::uint64_t, 4> seen{};
  unsigned count = 0;
  const auto visit = [&](bus_addr a) noexcept { seen[count++ & 3U] = a.value(); };
  CHECK(bitmap.take(visit) == 3);
  CHECK(seen == std::array<std::uint64_t, 4>{0x10'3000, 0x10'4000, 0x13'f000, 0});
  CHECK(bitmap.take(visit) == 0);
  for (const std::byte b : bits) CHECK(b == std::byte{0});
}

}  // namespace phasebit::page_table_harness
