// SPDX-License-Identifier: BSL-1.0
// The translator of an engine with on-chip memory: one entry per page, one load per translation.
// 512 entries of 8 bytes, 4 KiB, cover 1 GiB in pages of 2 MiB.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/iommu/page_table/table_word.hpp>
#include <phasebit/memory/translate.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::iommu {

// Entry i, little-endian, is for addresses [i, i + 1) << PageShift: bit 0 readable, bit 1 writable,
// the target's address in the bits above PageShift; 0 is absent. Guarantees: a translation has
// constant cost, and its segment ends at the page's end or earlier. Any number of threads may
// translate, and change different pages, at once; each reads a whole entry.
template <unsigned PageShift = 21, class From = guest_space, class To = host_space>
  requires(PageShift >= 2 && PageShift < 64)
class flat_table {
 public:
  using from = From;
  using to = To;
  static constexpr std::uint64_t page_bytes = std::uint64_t{1} << PageShift;

  // The whole of `memory`, aligned to 8, is the table, as it is now. It outlives this value.
  explicit flat_table(std::span<std::byte> memory) noexcept
      : entries_(reinterpret_cast<table_word*>(memory.data())), count_(memory.size() / 8) {
    PHASEBIT_EXPECTS(is_aligned(to_local(memory.data()), 8), "a table of words is aligned to 8");
  }

  // Bytes that can be translated, from address 0 on.
  [[nodiscard]] std::uint64_t reach() const noexcept { return std::uint64_t{count_} << PageShift; }

  void clear() noexcept {
    for (std::size_t i = 0; i != count_; ++i) detail::store_entry_relaxed(entries_ + i, 0);
  }

  // Maps whole pages. Fails, with nothing changed: misaligned, out_of_range, overlap.
  result<> map(address<From> begin, address<To> target, std::uint64_t bytes,
               access permission) noexcept {
    if (!is_aligned(begin.value() | target.value() | bytes, page_bytes)) {
      return failure(errc::misaligned, "a flat table maps whole pages", begin.value());
    }
    if (begin.value() > reach() || bytes > reach() - begin.value()) {
      return failure(errc::out_of_range, "the range is beyond the flat table", begin.value());
    }
    if (target.value() + bytes < target.value()) {
      return failure(errc::overflow, "the target wraps", target.value());
    }
    table_word* const first = entries_ + static_cast<std::size_t>(begin.value() >> PageShift);
    const auto pages = int_cast<std::size_t>(bytes >> PageShift);
    for (std::size_t i = 0; i != pages; ++i) {
      if (detail::load_entry_relaxed(first + i) == 0) continue;
      return failure(errc::overlap, "a page is already mapped here",
                     begin.value() + (std::uint64_t{i} << PageShift));
    }
    std::uint64_t value = target.value() | static_cast<std::uint64_t>(permission);
    for (std::size_t i = 0; i != pages; ++i, value += page_bytes) {
      detail::store_entry_relaxed(first + i, value);
    }
    return {};
  }

  // Pages that are not mapped stay so.
  result<> unmap(address<From> begin, std::uint64_t bytes) noexcept {
    if (!is_aligned(begin.value() | bytes, page_bytes)) {
      return failure(errc::misaligned, "a flat table maps whole pages", begin.value());
    }
    if (begin.value() > reach() || bytes > reach() - begin.value()) {
      return failure(errc::out_of_range, "the range is beyond the flat table", begin.value());
    }
    for (std::uint64_t a = begin.value(); a != begin.value() + bytes; a += page_bytes) {
      detail::store_entry_relaxed(entries_ + int_cast<std::size_t>(a >> PageShift), 0);
    }
    return {};
  }

  [[nodiscard]] result<segment<To>> translate(address<From> a, std::uint64_t bytes,
                                              access wanted) const noexcept {
    PHASEBIT_EXPECTS(bytes != 0, "a translation is asked for at least one byte");
    const std::uint64_t page = a.value() >> PageShift;
    if (page >= count_) [[unlikely]] {
      return failure(errc::not_mapped, "the address is beyond the flat table", a.value());
    }
    const std::uint64_t e = detail::load_entry_relaxed(entries_ + static_cast<std::size_t>(page));
    if ((static_cast<std::uint64_t>(wanted) & ~e) != 0) [[unlikely]] {
      return (e & 3) == 0
                 ? failure(errc::not_mapped, "no page is mapped at this address", a.value())
                 : failure(errc::access_denied, "the page does not permit this access", a.value());
    }
    const std::uint64_t offset = a.value() & (page_bytes - 1);
    const std::uint64_t remaining = page_bytes - offset;
    return segment<To>{address<To>{(e & ~(page_bytes - 1)) | offset},
                       bytes < remaining ? bytes : remaining};
  }

 private:
  table_word* entries_;
  std::size_t count_;
};
static_assert(AddressTranslator<flat_table<>>);

}  // namespace phasebit::iommu
