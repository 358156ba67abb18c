// SPDX-License-Identifier: BSL-1.0
// The chains of capabilities in what the kernel answers, whole and broken.
#include <phasebit/backend/vfio/dma_space.hpp>
#include <phasebit/backend/vfio/regions.hpp>

#include <cstring>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace vfio = phasebit::backend::vfio;

namespace {

// An answer under construction: the head, then capabilities one after the other.
template <class Head>
class answer {
 public:
  answer() : bytes_(sizeof(Head)) {}
  Head& head() { return head_; }
  template <class T>
  void put(T value) {
    const auto at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void capability(std::uint16_t id, std::uint32_t next) {
    put(::vfio_info_cap_header{.id = id, .version = 1, .next = next});
  }
  std::vector<std::byte> bytes() {
    std::memcpy(bytes_.data(), &head_, sizeof head_);
    return bytes_;
  }
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(bytes_.size()); }

 private:
  Head head_{};
  std::vector<std::byte> bytes_;
};

answer<::vfio_iommu_type1_info> ranges_answer(std::uint32_t count, std::uint32_t next) {
  answer<::vfio_iommu_type1_info> a;
  a.head().flags = VFIO_IOMMU_INFO_CAPS;
  a.head().cap_offset = a.size();
  a.capability(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, next);
  a.put(count);
  a.put(std::uint32_t{0});
  return a;
}

answer<::vfio_region_info> sparse_answer(std::uint32_t areas) {
  answer<::vfio_region_info> a;
  a.head().flags = VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
  a.head().size = 0x4000;
  a.head().offset = 0x10000;
  a.head().cap_offset = a.size();
  a.capability(VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0);
  a.put(areas);
  a.put(std::uint32_t{0});
  return a;
}

}  // namespace

TEST_CASE("IOVA ranges are read from the chain, behind a capability of another kind too") {
  auto a = ranges_answer(2, 0);
  a.put(vfio::iova_range{0, 0xfedf'ffff});
  a.put(vfio::iova_range{0xfef0'0000, 0x7f'ffff'ffff});
  const std::uint32_t other = a.size();
  a.capability(0x7777, static_cast<std::uint32_t>(sizeof(::vfio_iommu_type1_info)));
  for (const std::uint32_t first : {a.head().cap_offset, other}) {
    a.head().cap_offset = first;
    const auto found = vfio::parse_iova_ranges(a.bytes());
    REQUIRE(found.size() == 2);
    CHECK(found[0].last == 0xfedf'ffff);
    CHECK(found[1].first == 0xfef0'0000);
  }
}

TEST_CASE("without ranges in the answer all addresses are allowed") {
  answer<::vfio_iommu_type1_info> a;
  const auto found = vfio::parse_iova_ranges(a.bytes());
  REQUIRE(found.size() == 1);
  CHECK(found[0].first == 0);
  CHECK(found[0].last == ~std::uint64_t{0});
  CHECK(vfio::parse_iova_ranges({}).size() == 1);
}

TEST_CASE("a count of ranges beyond the answer gives those that are there") {
  auto a = ranges_answer(0xffff'ffff, 0);
  a.put(vfio::iova_range{1, 2});
  CHECK(vfio::parse_iova_ranges(a.bytes()).size() == 1);
}

TEST_CASE("a chain that points at itself ends") {
  auto a = ranges_answer(1, static_cast<std::uint32_t>(sizeof(::vfio_iommu_type1_info)));
  a.put(vfio::iova_range{1, 2});
  CHECK(vfio::parse_iova_ranges(a.bytes()).size() <= 16);
}

TEST_CASE("a chain that leaves the answer ends, wherever it is cut") {
  auto a = ranges_answer(1, 0xffff'fff0);
  a.put(vfio::iova_range{1, 2});
  const auto whole = a.bytes();
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    const std::vector<std::byte> cut(whole.begin(),
                                     whole.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(vfio::parse_iova_ranges(cut).size() == 1);
  }
}

TEST_CASE("a region without sparse areas may be mapped whole, or not at all") {
  answer<::vfio_region_info> a;
  a.head().size = 0x4000;
  CHECK(vfio::parse_region_info(a.bytes()).mappable.empty());
  a.head().flags = VFIO_REGION_INFO_FLAG_MMAP;
  const auto region = vfio::parse_region_info(a.bytes());
  REQUIRE(region.mappable.size() == 1);
  CHECK(region.mappable[0].size == 0x4000);
}

TEST_CASE("sparse areas leave a hole, and one beyond the region is left out") {
  auto a = sparse_answer(4);
  a.put(::vfio_region_sparse_mmap_area{.offset = 0, .size = 0x1000});
  a.put(::vfio_region_sparse_mmap_area{.offset = 0x3000, .size = 0x2000});
  a.put(::vfio_region_sparse_mmap_area{.offset = ~0ULL, .size = 0x1000});
  a.put(::vfio_region_sparse_mmap_area{.offset = 0x3000, .size = 0x1000});
  const auto region = vfio::parse_region_info(a.bytes());
  REQUIRE(region.mappable.size() == 2);
  CHECK(region.mappable[1].offset == 0x3000);
  CHECK(region.size == 0x4000);
  CHECK(region.offset == 0x10000);
}

TEST_CASE("answers of random bytes never lead outside of them") {
  std::mt19937 random{7};
  for (int round = 0; round != 20'000; ++round) {
    std::vector<std::byte> bytes(random() % 120);
    for (auto& b : bytes) b = static_cast<std::byte>(random() % 4 == 0 ? random() : random() % 64);
    CHECK(vfio::parse_iova_ranges(bytes).size() <= 16 * 8);
    const auto region = vfio::parse_region_info(bytes);
    for (const auto& area : region.mappable) {
      CHECK(area.offset <= region.size);
      CHECK(area.size <= region.size - area.offset);
    }
  }
}
