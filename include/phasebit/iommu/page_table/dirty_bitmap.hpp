// SPDX-License-Identifier: BSL-1.0
// Which pages were written to, as a bitmap: the layout of iommufd (IOMMU_HWPT_GET_DIRTY_BITMAP) and of
// the dirty logs of vhost-user and vfio-user on little-endian machines.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/int_cast.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::iommu {

// Bit n % 8 of byte n / 8 stands for the page of 2^page_shift bytes at begin + n * 2^page_shift. Refers
// to the bytes; bits are set and never cleared here. Belongs to one thread.
template <class Space>
class dirty_bitmap {
 public:
  // `begin` is a multiple of the page size.
  dirty_bitmap(std::span<std::byte> bytes, address<Space> begin, unsigned page_shift) noexcept
      : bytes_(bytes), begin_(begin.value()), shift_(page_shift) {
    PHASEBIT_EXPECTS(page_shift < 64 && (begin_ & ((std::uint64_t{1} << page_shift) - 1)) == 0,
                     "a dirty bitmap begins at a page");
  }

  // Bytes that the bitmap of a range needs.
  [[nodiscard]] static constexpr std::uint64_t bytes_for(std::uint64_t range_bytes,
                                                         unsigned page_shift) noexcept {
    const std::uint64_t pages =
        (range_bytes >> page_shift) +
        ((range_bytes & ((std::uint64_t{1} << page_shift) - 1)) != 0 ? 1U : 0U);
    return pages / 8 + (pages % 8 != 0 ? 1U : 0U);
  }

  [[nodiscard]] address<Space> begin() const noexcept { return address<Space>{begin_}; }
  [[nodiscard]] unsigned page_shift() const noexcept { return shift_; }
  [[nodiscard]] std::uint64_t pages() const noexcept { return std::uint64_t{bytes_.size()} * 8; }

  // Sets the bit of every page with a byte in [first, last]; what lies outside of the bitmap is left
  // out.
  void set(address<Space> first, address<Space> last) noexcept {
    if (last.value() < begin_ || pages() == 0) return;
    const std::uint64_t from = first.value() < begin_ ? 0 : (first.value() - begin_) >> shift_;
    std::uint64_t to = (last.value() - begin_) >> shift_;
    if (from >= pages()) return;
    if (to >= pages()) to = pages() - 1;
    for (std::uint64_t n = from; n <= to; ++n) {
      if (n % 8 == 0 && to - n >= 7) {
        bytes_[int_cast<std::size_t>(n / 8)] = std::byte{0xff};
        n += 7;
      } else {
        bytes_[int_cast<std::size_t>(n / 8)] |= std::byte{1} << static_cast<int>(n % 8);
      }
    }
  }
  [[nodiscard]] bool test(address<Space> a) const noexcept {
    const std::uint64_t n = (a.value() - begin_) >> shift_;
    return a.value() >= begin_ && n < pages() &&
           (bytes_[int_cast<std::size_t>(n / 8)] >> static_cast<int>(n % 8) & std::byte{1}) !=
               std::byte{0};
  }

 private:
  std::span<std::byte> bytes_;
  std::uint64_t begin_;
  unsigned shift_;
};

}  // namespace phasebit::iommu
