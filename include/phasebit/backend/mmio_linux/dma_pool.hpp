// SPDX-License-Identifier: BSL-1.0
// Memory for devices that see physical addresses: huge pages, a u-dma-buf, or a region of the caller's.
#pragma once

#include <phasebit/backend/mmio_linux/ordered_pages.hpp>
#include <phasebit/backend/mmio_linux/pagemap.hpp>
#include <phasebit/backend/mmio_linux/system_paths.hpp>
#include <phasebit/backend/mmio_linux/udmabuf.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/posix/memory_mapping.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <sys/mman.h>

namespace phasebit::backend::mmio_linux {

// Huge pages of the system's pool, taken on demand. Ordinary pages are not offered: Linux migrates them,
// locked or not, while a device uses their physical addresses.
struct huge_pages {
  std::uint64_t page_bytes = std::uint64_t{2} << 20;  // or 1 GiB
};
// By its name in /dev.
struct udmabuf_memory {
  std::string name = "udmabuf0";
};
// No DMA memory: for a device without DMA, or with memory of the caller.
struct no_dma {};

namespace detail {

// Whether one of the runs of huge pages has `least` bytes.
[[nodiscard]] inline result<> has_run(std::span<const dma_region> runs,
                                      std::size_t least) noexcept {
  const auto longest = std::max_element(
      runs.begin(), runs.end(),
      [](const dma_region& a, const dma_region& b) { return a.size() < b.size(); });
  if (longest == runs.end() || longest->size() < least) {
    return failure(errc::exhausted,
                   "the huge pages that are left do not lie next to each other: use pages of 1 "
                   "GiB, or set them aside at boot (hugepages=); the longest run",
                   longest == runs.end() ? 0 : longest->size());
  }
  return {};
}

}  // namespace detail

// A dma_region is memory of the caller's that outlives the pool: DRAM of an FPGA behind a BAR.
using dma_source = std::variant<huge_pages, udmabuf_memory, dma_region, no_dma>;

// Not for hot paths; one thread at a time. Move-only; the destructor releases all memory.
class dma_pool {
 public:
  explicit dma_pool(dma_source from = huge_pages{}, system_paths paths = {})
      : from_(std::move(from)), paths_(std::move(paths)) {}
  dma_pool(dma_pool&&) noexcept = default;
  dma_pool& operator=(dma_pool&&) noexcept = default;
  ~dma_pool() = default;

  // Whether the device must see physical addresses for it to work.
  [[nodiscard]] bool is_physical() const noexcept {
    return std::holds_alternative<huge_pages>(from_) ||
           std::holds_alternative<udmabuf_memory>(from_);
  }

  // Errors: exhausted, misaligned, permission, not_supported (no_dma), and those of the source.
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    PHASEBIT_EXPECTS(bytes != 0 && is_power_of_two(alignment), "an allocation has a size");
    error why = failure(errc::exhausted, "the memory for DMA is used up", bytes);
    const auto take = [&](std::size_t from) -> std::optional<dma_region> {
      for (std::size_t i = from; i != arenas_.size(); ++i) {
        const auto got = arenas_[i].allocate(bytes, alignment);
        if (got) return *got;
        why = got.error();
      }
      return std::nullopt;
    };
    if (const auto got = take(0)) return *got;
    const std::size_t before = arenas_.size();
    if (const auto grown = grow(bytes, alignment); !grown) return grown.error();
    if (arenas_.size() == before) return why;
    if (const auto got = take(before)) return *got;
    return why;
  }

  void release(dma_region region) noexcept {
    for (arena& held : arenas_) {
      const dma_region& whole = held.whole();
      if (region.bus >= whole.bus && region.bus - whole.bus < whole.size()) {
        held.release(region);
        return;
      }
    }
    PHASEBIT_EXPECTS(false, "a region that was not allocated here");
  }

 private:
  using arena = dma_arena<512>;

  // Does nothing if the source is exhausted.
  [[nodiscard]] result<> grow(std::size_t bytes, std::size_t alignment) {
    if (const auto* const pages = std::get_if<huge_pages>(&from_)) {
      return take_huge_pages(pages->page_bytes, std::max(bytes, alignment));
    }
    if (std::holds_alternative<no_dma>(from_)) {
      return failure(errc::not_supported, "the function was opened without memory for DMA");
    }
    if (!arenas_.empty()) return {};
    if (const auto* const region = std::get_if<dma_region>(&from_)) {
      arenas_.emplace_back(*region);
      return {};
    }
    auto buffer = udmabuf::open(std::get<udmabuf_memory>(from_).name, paths_);
    if (!buffer) return buffer.error();
    arenas_.emplace_back(buffer->region());
    buffer_ = std::move(buffer->memory);
    return {};
  }

  [[nodiscard]] result<> take_huge_pages(std::uint64_t page, std::size_t least) {
    PHASEBIT_EXPECTS(is_power_of_two(page) && page > page_bytes(), "a huge page is 2 MiB or 1 GiB");
    if (least > ~std::size_t{0} >> 1) {
      return failure(errc::exhausted, "the system has no memory of this size", least);
    }
    // Physical addresses are checked first: without permission to read them, pages are useless.
    const auto map = pagemap::open(paths_);
    if (!map) return map.error();
    auto memory =
        map_ordered_pages(page, int_cast<std::size_t>(align_up(std::uint64_t{least}, page)), *map);
    if (!memory) return no_pages(page, memory.error());
    // After fork(), a write would give this process a copy of the page; children do not inherit it.
    if (::madvise(memory->data(), memory->size(), MADV_DONTFORK) != 0) {
      return posix::os_error("the huge pages cannot be kept from child processes");
    }
    const auto runs = map->runs(memory->bytes());
    if (!runs) return runs.error();
    if (const auto enough = detail::has_run(*runs, least); !enough) return enough;
    for (const dma_region& run : *runs) arenas_.emplace_back(run);
    pages_.push_back(std::move(*memory));
    return {};
  }
  [[nodiscard]] static error no_pages(std::uint64_t page, const error& why) noexcept {
    if (why.value_is_errno && why.value == EAGAIN) {
      return failure(errc::exhausted, "huge pages cannot be locked: raise RLIMIT_MEMLOCK", page);
    }
    if (why.value_is_errno && (why.value == EINVAL || why.value == ENODEV)) {
      return failure(errc::not_supported, "the machine has no huge pages of this size", page);
    }
    if (why.code != errc::exhausted) return why;
    return page == std::uint64_t{2} << 20
               ? failure(errc::exhausted,
                         "no huge pages are free: set some aside with echo 64 > "
                         "/proc/sys/vm/nr_hugepages")
               : failure(errc::exhausted,
                         "no huge pages of this size are free: set some aside with hugepagesz= and "
                         "hugepages= on the kernel's command line",
                         page);
  }

  dma_source from_;
  system_paths paths_;
  std::vector<posix::memory_mapping> pages_;
  device_mapping buffer_;
  std::deque<arena> arenas_;
};
static_assert(DmaMemory<dma_pool>);

}  // namespace phasebit::backend::mmio_linux
