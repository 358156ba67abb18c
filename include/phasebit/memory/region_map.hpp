// SPDX-License-Identifier: BSL-1.0
// Memory of another address space that this process has mapped, region by region: a virtual
// machine's (as vhost front ends describe it), or what a device may reach by DMA.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/translate.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit {

// A mapped region: where `bytes` bytes of Space are mapped in this process, and the permitted access.
template <class Space>
struct mapped_region {
  address<Space> begin{};
  std::uint64_t bytes = 0;
  std::byte* local = nullptr;
  access granted = access::read_write;
};

// Translates from Space to pointers of this process. The table is sorted, and a member (Capacity
// regions) or, with std::dynamic_extent, the caller's. A look-up tries the region of the last look-up
// first, then a binary search. Regions never overlap; a range that crosses two adjacent ones is
// returned as two segments, because their pointers need not be adjacent.
//
// translate() may be called by any number of threads; add() and remove() by none meanwhile.
template <class Space, std::size_t Capacity = std::dynamic_extent>
class region_map {
  static constexpr bool owns_table = Capacity != std::dynamic_extent;

 public:
  using from = Space;
  using to = local_space;
  using region = mapped_region<Space>;

  constexpr region_map() noexcept
    requires owns_table
  = default;
  // `table` outlives the map and belongs to it alone.
  constexpr explicit region_map(std::span<region> table) noexcept
    requires(!owns_table)
      : table_(table) {}
  region_map(const region_map& other) noexcept
    requires owns_table
      : table_(other.table_), count_(other.count_) {}
  region_map& operator=(const region_map& other) noexcept
    requires owns_table
  {
    table_ = other.table_;
    count_ = other.count_;
    thread_order::store_relaxed(last_hit_, 0);
    return *this;
  }

  // Errors: invalid_argument (empty, or no pointer), overflow (the range wraps here or there),
  // overlap (`index` is that of the region in the way, `value` its address), exhausted.
  result<> add(const region& r) noexcept {
    const auto end = range_end(r.begin, r.bytes);
    if (r.bytes == 0) return failure(errc::invalid_argument, "a region of no bytes");
    if (r.local == nullptr) return failure(errc::invalid_argument, "a region that is not mapped");
    if (!end) {
      return failure(errc::overflow, "the region wraps around its address space", r.begin.value());
    }
    const auto pointer = reinterpret_cast<std::uintptr_t>(r.local);
    if (r.bytes > UINTPTR_MAX - pointer) {
      return failure(errc::overflow, "the region wraps around this process's address space",
                     r.bytes);
    }
    const std::size_t at = first_ending_after(r.begin);
    if (at != count_ && table_[at].begin < *end) {
      return failure(errc::overlap, "the region overlaps another one", table_[at].begin.value())
          .at(static_cast<std::uint32_t>(at));
    }
    if (count_ == table_.size()) {
      return failure(errc::exhausted, "there are more regions than the map can hold", count_);
    }
    for (std::size_t i = count_++; i != at; --i) table_[i] = table_[i - 1];
    table_[at] = r;
    return {};
  }
  result<> add(const dma_region& r, access granted = access::read_write) noexcept
    requires std::same_as<Space, bus_space>
  {
    return add(region{r.bus, r.size(), r.data(), granted});
  }
  // All of them or none: after an error the map is as it was. `index` is the region at fault.
  result<> add_all(std::span<const region> regions) noexcept {
    for (std::size_t i = 0; i != regions.size(); ++i) {
      if (const auto added = add(regions[i]); !added) {
        const error why = added.error().at(static_cast<std::uint32_t>(i));
        while (i-- != 0) static_cast<void>(remove(regions[i].begin, regions[i].bytes));
        return why;
      }
    }
    return {};
  }

  // Exactly a region that was added. Error: not_found.
  result<> remove(address<Space> begin, std::uint64_t bytes) noexcept {
    const std::size_t at = first_ending_after(begin);
    if (at == count_ || table_[at].begin != begin || table_[at].bytes != bytes) {
      return failure(errc::not_found, "no such region", begin.value());
    }
    --count_;
    for (std::size_t i = at; i != count_; ++i) table_[i] = table_[i + 1];
    thread_order::store_relaxed(last_hit_, 0);
    return {};
  }
  void clear() noexcept {
    count_ = 0;
    thread_order::store_relaxed(last_hit_, 0);
  }

  [[nodiscard]] result<segment<local_space>> translate(address<Space> a, std::uint64_t bytes,
                                                       access wanted) const noexcept {
    const region* r = find(a);
    if (r == nullptr) [[unlikely]] {
      return failure(errc::not_mapped, "the address is in no region", a.value());
    }
    if (!allows(r->granted, wanted)) [[unlikely]] {
      return failure(errc::access_denied, "the region does not allow this access", a.value());
    }
    const std::uint64_t offset = a - r->begin;
    const std::uint64_t remaining = r->bytes - offset;
    return segment<local_space>{to_local(r->local) + offset, bytes < remaining ? bytes : remaining};
  }

  // Sorted by address.
  [[nodiscard]] std::span<const region> regions() const noexcept {
    return std::span<const region>{table_.data(), count_};
  }

 private:
  // One comparison for both ends: below the region the difference wraps and is larger.
  [[nodiscard]] static constexpr bool holds(const region& r, address<Space> a) noexcept {
    return a - r.begin < r.bytes;
  }
  [[nodiscard]] const region* find(address<Space> a) const noexcept {
    const std::uint32_t hint = thread_order::load_relaxed(last_hit_);
    if (hint < count_ && holds(table_[hint], a)) [[likely]] {
      return &table_[hint];
    }
    const std::size_t at = first_ending_after(a);
    if (at == count_ || !holds(table_[at], a)) return nullptr;
    thread_order::store_relaxed(last_hit_, static_cast<std::uint32_t>(at));
    return &table_[at];
  }
  // The region that holds `a`, or the next one above it, or count_.
  [[nodiscard]] std::size_t first_ending_after(address<Space> a) const noexcept {
    std::size_t low = 0;
    std::size_t high = count_;
    while (low != high) {
      const std::size_t middle = low + (high - low) / 2;
      if (table_[middle].begin + (table_[middle].bytes - 1) < a) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  std::conditional_t<owns_table, std::array<region, owns_table ? Capacity : 1>, std::span<region>>
      table_{};
  std::size_t count_ = 0;
  // A hint that any thread may overwrite; a wrong hint only costs a search. (Including <atomic>
  // would take longer to compile than this whole header.)
  mutable std::uint32_t last_hit_ = 0;
};

// A virtual machine's memory. vhost-user front ends send 8 regions, or up to 509 one by one.
template <std::size_t Capacity = 32>
using guest_memory = region_map<guest_space, Capacity>;
using guest_region = mapped_region<guest_space>;
static_assert(AddressTranslator<const guest_memory<>>);

// The memory that a device model reaches by DMA: the regions that a driver of this process
// registered.
template <std::size_t Capacity = 8>
using local_dma = region_map<bus_space, Capacity>;
static_assert(DmaTranslator<const local_dma<>>);

}  // namespace phasebit
