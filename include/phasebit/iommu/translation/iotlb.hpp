// SPDX-License-Identifier: BSL-1.0
// A cache of translations, in an IOMMU or in a device with ATS: entries stay valid until they are
// invalidated.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/iommu/page_table/invalidation.hpp>
#include <phasebit/iommu/page_table/page_lookup.hpp>
#include <phasebit/memory/translate.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// The owner of a translation: a domain (VT-d DID, AMD DomainID, Arm VMID, RISC-V GSCID) and, where
// a function has several address spaces, a PASID of 20 bits.
struct iotlb_tag {
  std::uint16_t domain = 0;
  std::uint32_t pasid = 0;

  friend constexpr bool operator==(iotlb_tag, iotlb_tag) noexcept = default;
};

// The result of find(): the target of the address, the number of bytes from there that the same
// entry covers, and the permissions (bit 0 read, bit 1 write).
template <class Space>
struct iotlb_hit {
  address<Space> target;
  std::uint64_t bytes = 0;
  unsigned permissions = 0;
};

// Sets x Ways entries for each of three sizes: 4 KiB, 2 MiB and 1 GiB; a page of another size is
// cached in parts of the next smaller size, as they are used. Guarantees: find() examines Ways
// entries per size in use; after invalidate() returns, no translation that it covers is returned
// any more, including parts of larger pages. Belongs to one thread; allocates nothing.
template <std::size_t Sets = 64, std::size_t Ways = 4, class From = bus_space,
          class To = host_space>
  requires((Sets & (Sets - 1)) == 0 && Sets != 0 && Ways != 0)
class iotlb {
 public:
  using from = From;
  using to = To;
  static constexpr std::array<unsigned, 3> shifts{12, 21, 30};

  // Whether there is an entry for `a`.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool find(iotlb_tag tag, address<From> a,
                                                 iotlb_hit<To>& hit) const noexcept {
    const std::uint64_t owner = owner_of(tag);
    for (std::size_t size = 0; size != shifts.size(); ++size) {
      if (!used_[size]) continue;
      const std::uint64_t page = a.value() >> shifts[size];
      const auto& ways = sets_[size][set_of(page, tag.domain)];
      for (const entry& e : ways) {
        if (e.page != page || e.owner != owner) continue;
        const std::uint64_t mask = (std::uint64_t{1} << shifts[size]) - 1;
        const std::uint64_t offset = a.value() & mask;
        hit = {address<To>{(e.target & ~mask) | offset}, mask - offset + 1,
               static_cast<unsigned>(e.target & 3)};
        return true;
      }
    }
    return false;
  }

  // Keeps what a walk for `a` has found; a walk that found nothing is not kept.
  void insert(iotlb_tag tag, address<From> a, const page_lookup<To>& found) noexcept {
    if (found.status != walk_status::mapped || found.page_shift < shifts[0]) return;
    std::size_t size = 0;
    while (size + 1 != shifts.size() && shifts[size + 1] <= found.page_shift) ++size;
    const std::uint64_t whole = (std::uint64_t{1} << found.page_shift) - 1;
    const std::uint64_t part = (std::uint64_t{1} << shifts[size]) - 1;
    const std::uint64_t page = a.value() >> shifts[size];
    const std::uint64_t target = found.page.value() + (a.value() & whole & ~part);
    entry& e = place(size, page, owner_of(tag), tag.domain);
    e = {page, owner_of(tag), target | found.permissions, (a.value() & ~whole) | found.page_shift};
    if (found.page_shift != shifts[size]) parts_ = true;
    used_[size] = true;
  }

  // Forgets what a domain, in all its address spaces, holds for any address in [first, last].
  void invalidate(std::uint16_t domain, address<From> first, address<From> last) noexcept {
    for (std::size_t size = 0; size != shifts.size(); ++size) {
      if (!used_[size]) continue;
      const std::uint64_t begin = first.value() >> shifts[size];
      const std::uint64_t end = last.value() >> shifts[size];
      if (parts_ || end - begin >= Sets) {
        for (auto& ways : sets_[size]) forget(ways, domain, first.value(), last.value());
      } else {
        for (std::uint64_t page = begin; page != end + 1; ++page) {
          forget(sets_[size][set_of(page, domain)], domain, first.value(), last.value());
        }
      }
    }
  }
  // Invalidates the ranges collected from the changes of a page table.
  void invalidate(std::uint16_t domain, const invalidations<From>& changes) noexcept {
    for (const auto& range : changes.ranges()) invalidate(domain, range.first, range.last);
  }
  void invalidate_domain(std::uint16_t domain) noexcept {
    for (auto& sets : sets_) {
      for (auto& ways : sets) forget(ways, domain, 0, ~std::uint64_t{0});
    }
  }
  // Of one address space only.
  void invalidate_pasid(iotlb_tag tag) noexcept {
    const std::uint64_t owner = owner_of(tag);
    for (auto& sets : sets_) {
      for (auto& ways : sets) {
        for (entry& e : ways) {
          if (e.owner == owner) e.owner = 0;
        }
      }
    }
  }
  // Everything, in constant time: entries of an older generation are ignored.
  void invalidate_all() noexcept {
    used_ = {};
    parts_ = false;
    if (++generation_ != last_generation) return;
    generation_ = 1;
    for (auto& sets : sets_) {
      for (auto& ways : sets) ways = {};
    }
  }

 private:
  struct entry {
    std::uint64_t page = 0;
    std::uint64_t owner = 0;   // generation 63:36, domain 35:20, PASID 19:0; 0: the entry is free
    std::uint64_t target = 0;  // permissions in bits 1:0
    std::uint64_t whole = 0;   // the page's own beginning, its shift in the low bits
  };
  using ways_type = std::array<entry, Ways>;

  static constexpr std::uint64_t last_generation = std::uint64_t{1} << 28;

  [[nodiscard]] std::uint64_t owner_of(iotlb_tag tag) const noexcept {
    return generation_ << 36 | std::uint64_t{tag.domain} << 20 | (tag.pasid & 0xf'ffffU);
  }
  // The PASID is left out, so that a range of a domain is found with one look per page.
  [[nodiscard]] static std::size_t set_of(std::uint64_t page, std::uint16_t domain) noexcept {
    return int_cast<std::size_t>(page ^ (page >> 9) ^ std::uint64_t{domain} * 0x9e5) & (Sets - 1);
  }
  [[nodiscard]] entry& place(std::size_t size, std::uint64_t page, std::uint64_t owner,
                             std::uint16_t domain) noexcept {
    const std::size_t set = set_of(page, domain);
    ways_type& ways = sets_[size][set];
    for (entry& e : ways) {
      if (e.page == page && e.owner == owner) return e;
    }
    for (entry& e : ways) {
      if (e.owner >> 36 != generation_) return e;
    }
    const std::size_t victim = next_ % Ways;
    ++next_;
    return ways[victim];
  }
  void forget(ways_type& ways, std::uint16_t domain, std::uint64_t first,
              std::uint64_t last) noexcept {
    for (entry& e : ways) {
      if (e.owner == 0 || (e.owner >> 20 & 0xffff) != domain) continue;
      // Pages lie at multiples of their size: compared by number, nothing wraps.
      const unsigned shift = static_cast<unsigned>(e.whole & 63);
      const std::uint64_t number = e.whole >> shift;
      if (first >> shift <= number && number <= last >> shift) e.owner = 0;
    }
  }

  std::array<std::array<ways_type, Sets>, 3> sets_{};
  std::array<bool, 3> used_{};
  std::uint64_t generation_ = 1;
  std::size_t next_ = 0;
  bool parts_ = false;
};

// A page table, or a view of one, seen through a cache: an AddressTranslator for one tag. Refers to
// both; a new mapping is visible at once, a removed one until an invalidation.
template <class Table, class Cache>
class cached_translator {
 public:
  using from = typename Table::from;
  using to = typename Table::to;

  cached_translator(const Table& table, Cache& cache, iotlb_tag tag) noexcept
      : table_(&table), cache_(&cache), tag_(tag) {}

  [[nodiscard]] result<segment<to>> translate(address<from> a, std::uint64_t bytes,
                                              access wanted) noexcept {
    PHASEBIT_EXPECTS(bytes != 0, "a translation is asked for at least one byte");
    iotlb_hit<to> hit;
    if (cache_->find(tag_, a, hit) && (static_cast<unsigned>(wanted) & ~hit.permissions) == 0)
        [[likely]] {
      return segment<to>{hit.target, hit.bytes < bytes ? hit.bytes : bytes};
    }
    cache_->insert(tag_, a, table_->lookup(a));
    return table_->translate(a, bytes, wanted);
  }

 private:
  const Table* table_;
  Cache* cache_;
  iotlb_tag tag_;
};

}  // namespace phasebit::iommu
