// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/page_table/formats.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/translation/flat_table.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>
#include <phasebit/iommu/translation/nested.hpp>

#include <cstddef>
#include <cstdint>

using namespace phasebit;
using namespace phasebit::iommu;

namespace {

alignas(1 << 16) constinit std::byte memory[32 << 12]{};

template <class Format>
std::uint64_t use(const Format& format, std::uint64_t a, std::uint64_t target,
                  std::uint64_t bytes) {
  using arena = table_arena<32, Format::granule_shift>;
  arena tables{memory, host_phys{0x8000'0000}};
  auto made = page_table<Format, arena>::create(format, tables);
  if (!made) return 0;
  auto& table = *made;
  invalidations<bus_space> changes{[](void*, auto) noexcept {}, nullptr};
  if (!table.map(bus_addr{a}, host_phys{target}, bytes, {}, changes)) return 1;
  std::uint64_t sum = 0;
  const auto got = table.translate(bus_addr{a}, bytes, access::read);
  if (got) sum += got->begin.value();
  if (!table.protect(bus_addr{a}, bytes, access::read, false, changes)) return 2;
  if (!table.split(bus_addr{a + Format::granule_shift}, changes)) return 3;
  if (!table.merge(bus_addr{a}, bytes, changes)) return 4;
  if (!table.take_dirty(bus_addr{a}, bytes, changes,
                        [&](auto page) noexcept { sum += page.begin.value(); })) {
    return 5;
  }
  if (!table.walk(bus_addr{a}, bytes, [&](auto page) noexcept { sum += page.page_shift; })) {
    return 6;
  }
  if (!table.unmap(bus_addr{a}, bytes, changes)) return 7;
  table.trim(changes);
  table.complete(changes);
  return sum;
}

}  // namespace

extern "C" std::uint64_t use_formats(std::uint64_t a, std::uint64_t t, std::uint64_t n) {
  std::uint64_t sum = 0;
  for_each_page_format(
      [&](const char*, const auto& usual, const auto&...) noexcept { sum += use(usual, a, t, n); });
  return sum;
}
extern "C" std::uint64_t use_flat(std::uint64_t a, std::uint64_t t, std::uint64_t n) {
  flat_table<> table{memory};
  if (!table.map(guest_addr{a}, host_phys{t}, n, access::read_write)) return 0;
  const auto got = table.translate(guest_addr{a}, 64, access::write);
  return got ? got->begin.value() : 0;
}
extern "C" std::uint64_t use_nested(std::uint64_t a, std::uint64_t root) {
  table_window<> window{memory, host_phys{0}};
  page_table_view<vtd_second_stage, table_window<>, guest_space> stage2{{}, window, host_phys{0}};
  const nested<x86_first_stage, decltype(stage2), table_window<>> both{
      {}, guest_addr{root}, stage2, window};
  const auto got = both.translate(bus_addr{a}, 64, access::write);
  return got ? got->begin.value() : 0;
}

extern "C" std::uint64_t use_iotlb(std::uint64_t a, std::uint64_t root) {
  static constinit iotlb<16, 3> cache{};
  table_window<> window{memory, host_phys{0}};
  const page_table_view<amd_v1, table_window<>> view{{}, window, host_phys{root}};
  cached_translator through{view, cache, iotlb_tag{1, 2}};
  const auto got = through.translate(bus_addr{a}, 64, access::write);
  cache.invalidate(1, bus_addr{a}, bus_addr{a});
  cache.invalidate_pasid({1, 2});
  cache.invalidate_domain(1);
  cache.invalidate_all();
  return got ? got->begin.value() : 0;
}
