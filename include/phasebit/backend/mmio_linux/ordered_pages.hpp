// SPDX-License-Identifier: BSL-1.0
// Huge pages, mapped in the order in which they lie in memory.
#pragma once

#include <phasebit/backend/mmio_linux/pagemap.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace phasebit::backend::mmio_linux {

namespace detail {

// The pages of the file, at these numbers, one after the other from `begin` on: each mapping takes the
// place of the one before it, so that no address is ever free for another mapping.
[[nodiscard]] inline result<> place_pages(std::byte* begin, std::size_t page, int file,
                                          std::span<const std::uint64_t> numbers) noexcept {
  for (const std::uint64_t number : numbers) {
    constexpr int how = MAP_SHARED | MAP_FIXED | MAP_LOCKED | MAP_POPULATE;
    if (::mmap(begin, page, PROT_READ | PROT_WRITE, how, file,
               static_cast<::off_t>(number * page)) == MAP_FAILED) {
      return posix::os_error("the huge pages cannot be mapped");
    }
    begin += page;
  }
  return {};
}

}  // namespace detail

// Locked, and in memory. The kernel returns neighbours, but rarely in their order (most often the last
// one first); of what lies side by side, runs() sees one region afterwards. `page` is the size of a huge
// page that the machine has, `bytes` a multiple of it. Errors: those of memfd_create(2), mmap(2) with
// MAP_HUGETLB, and pagemap::runs().
[[nodiscard]] inline result<posix::memory_mapping> map_ordered_pages(std::uint64_t page,
                                                                     std::size_t bytes,
                                                                     const pagemap& where) {
  PHASEBIT_EXPECTS(is_power_of_two(page) && bytes != 0 && bytes % page == 0,
                   "huge pages are taken whole");
  // memfd_create(2) and mmap(2) have the size of a huge page in the same bits of their flags.
  const auto size = static_cast<unsigned>(std::countr_zero(page)) << MAP_HUGE_SHIFT;
  const posix::unique_fd file{::memfd_create("phasebit", MFD_CLOEXEC | MFD_HUGETLB | size)};
  if (!file || ::ftruncate(file.get(), static_cast<::off_t>(bytes)) != 0) {
    return posix::os_error("huge pages cannot be had");
  }
  auto memory = posix::memory_mapping::shared(file.get(), bytes);
  if (!memory) return memory;
  std::vector<std::uint64_t> numbers(bytes / page);
  for (std::size_t i = 0; i != numbers.size(); ++i) numbers[i] = i;
  const auto place = [&] {
    return detail::place_pages(memory->data(), int_cast<std::size_t>(page), file.get(), numbers);
  };
  if (const auto placed = place(); !placed) return placed.error();

  const auto runs = where.runs(memory->bytes());
  if (!runs) return runs.error();
  if (runs->size() == 1) return memory;
  std::vector<bus_addr> at;
  for (const dma_region& run : *runs) {
    for (std::uint64_t done = 0; done < run.size(); done += page) at.push_back(run.bus + done);
  }
  if (at.size() != numbers.size()) {
    return failure(errc::protocol, "the kernel reports a huge page that is not contiguous");
  }
  std::sort(numbers.begin(), numbers.end(),
            [&](std::uint64_t a, std::uint64_t b) { return at[a] < at[b]; });
  if (const auto placed = place(); !placed) return placed.error();
  return memory;
}

}  // namespace phasebit::backend::mmio_linux
