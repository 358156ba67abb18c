// SPDX-License-Identifier: BSL-1.0
// Shared by the tests of every page-table format: memory for tables, and an oracle based on extents
// only.
#pragma once

#include <phasebit/iommu/page_table/formats.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit::page_table_harness {

using namespace iommu;

// Calls each(format) with every setting of every format of the list.
template <class Each>
void for_every_format(Each each) {
  for_each_page_format([&](const char* name, const auto&... formats) {
    CAPTURE(name);
    (each(formats), ...);
  });
}

template <class Format, std::size_t Pages = 4096>
struct table_store {
  using arena_type = table_arena<Pages, Format::granule_shift>;
  static constexpr std::size_t granule = arena_type::granule;

  // `pages` are usable, of at most Pages.
  explicit table_store(std::size_t pages = Pages)
      : memory(static_cast<std::byte*>(std::aligned_alloc(granule * 16, Pages * granule)),
               &std::free),
        arena({memory.get(), pages * granule}, host_phys{0x7'0000'0000}) {}

  std::unique_ptr<std::byte, decltype(&std::free)> memory;
  arena_type arena;
};

// The expected mappings: extents that do not touch each other unless they differ.
class extent_oracle {
 public:
  struct extent {
    std::uint64_t bytes;
    std::uint64_t target;
    page_attributes attributes;
  };

  [[nodiscard]] bool overlaps(std::uint64_t begin, std::uint64_t bytes) const {
    auto after = extents_.upper_bound(begin + (bytes - 1));
    if (after == extents_.begin()) return false;
    --after;
    return after->first + (after->second.bytes - 1) >= begin;
  }
  void map(std::uint64_t begin, std::uint64_t bytes, std::uint64_t target, page_attributes a) {
    extents_[begin] = {bytes, target, a};
  }
  std::uint64_t unmap(std::uint64_t begin, std::uint64_t bytes) {
    cut(begin);
    cut(begin + bytes);
    std::uint64_t sum = 0;
    auto it = extents_.lower_bound(begin);
    while (it != extents_.end() && it->first - begin < bytes) {
      sum += it->second.bytes;
      it = extents_.erase(it);
    }
    return sum;
  }
  std::uint64_t protect(std::uint64_t begin, std::uint64_t bytes, access permission) {
    cut(begin);
    cut(begin + bytes);
    std::uint64_t sum = 0;
    for (auto it = extents_.lower_bound(begin); it != extents_.end() && it->first - begin < bytes;
         ++it) {
      it->second.attributes.permission = permission;
      sum += it->second.bytes;
    }
    return sum;
  }
  [[nodiscard]] std::optional<std::pair<std::uint64_t, page_attributes>> at(std::uint64_t a) const {
    auto it = extents_.upper_bound(a);
    if (it == extents_.begin()) return std::nullopt;
    --it;
    if (a - it->first >= it->second.bytes) return std::nullopt;
    return std::pair{it->second.target + (a - it->first), it->second.attributes};
  }
  [[nodiscard]] const std::map<std::uint64_t, extent>& extents() const { return extents_; }

 private:
  void cut(std::uint64_t at) {
    auto it = extents_.lower_bound(at);
    if (it == extents_.begin()) return;
    --it;
    const std::uint64_t before = at - it->first;
    if (before >= it->second.bytes) return;
    extents_[at] = {it->second.bytes - before, it->second.target + before, it->second.attributes};
    it->second.bytes = before;
  }
  std::map<std::uint64_t, extent> extents_;
};

// The lower and the upper half of what the format translates.
template <class Format>
std::pair<std::uint64_t, std::uint64_t> halves(const Format& format) {
  const std::uint64_t half = std::uint64_t{1} << (format.input_bits() - 1);
  return {half, page_format<Format>::sign_extended ? std::uint64_t{0} - half : half};
}

// Every page of the table, in order and nothing else, is what the oracle holds.
template <class Table>
void check_all(const Table& table, const extent_oracle& oracle) {
  std::vector<mapped_page<bus_space, host_space>> pages;
  const auto visit = [&](auto page) noexcept { pages.push_back(page); };
  const auto [half, upper] = halves(table.format());
  REQUIRE(table.walk(bus_addr{0}, half, visit));
  REQUIRE(table.walk(bus_addr{upper}, half, visit));
  // Merging may make one page of several extents.
  auto extent = oracle.extents().begin();
  std::uint64_t offset = 0;
  for (const auto& page : pages) {
    std::uint64_t at = 0;
    for (const std::uint64_t size = std::uint64_t{1} << page.page_shift; at != size;) {
      REQUIRE(extent != oracle.extents().end());
      REQUIRE(page.begin.value() + at == extent->first + offset);
      REQUIRE(page.target.value() + at == extent->second.target + offset);
      REQUIRE(page.attributes == extent->second.attributes);
      const std::uint64_t remaining = extent->second.bytes - offset;
      const std::uint64_t taken = remaining < size - at ? remaining : size - at;
      at += taken;
      offset += taken;
      if (offset == extent->second.bytes) {
        ++extent;
        offset = 0;
      }
    }
  }
  REQUIRE(offset == 0);
  REQUIRE(extent == oracle.extents().end());
}

// Where the random steps take place: windows around the places where geometry changes.
template <class Format>
std::vector<std::uint64_t> windows(const Format& format) {
  using geometry = table_geometry<Format>;
  std::vector<std::uint64_t> result{0};
  for (unsigned level = 1; level <= format.top_level(); ++level) {
    result.push_back(geometry::span(level) - geometry::span(level - 1));
  }
  const unsigned bits = format.input_bits() - (page_format<Format>::sign_extended ? 1 : 0);
  const std::uint64_t end = bits == 64 ? 0 : std::uint64_t{1} << bits;
  result.push_back(end - geometry::span(1) * 4);  // the last bytes of the width
  if (page_format<Format>::sign_extended)
    result.push_back(std::uint64_t{0} - geometry::span(1) * 4);
  return result;
}

}  // namespace phasebit::page_table_harness
