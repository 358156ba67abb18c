// SPDX-License-Identifier: BSL-1.0
// The written pages, as a bitmap: the layout of iommufd (IOMMU_HWPT_GET_DIRTY_BITMAP) and of the
// dirty logs of vhost-user and vfio-user on little-endian machines.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/int_cast.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit {

// Bit n % 8 of byte n / 8 stands for the page of 2^page_shift bytes at begin + n * 2^page_shift. Refers to the bytes,
// which may be shared with another process. Any number of threads may set and take at once: no bit is lost, and what
// was written to the page before set() is seen after the take() that returns its bit.
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

  // Sets the bit of every page with a byte in [first, last]. Bytes outside the bitmap are ignored,
  // and the result is then false.
  bool set(address<Space> first, address<Space> last) noexcept {
    if (last.value() < begin_ || pages() == 0) return false;
    const bool before = first.value() < begin_;
    const std::uint64_t from = before ? 0 : (first.value() - begin_) >> shift_;
    std::uint64_t to = (last.value() - begin_) >> shift_;
    if (from >= pages()) return false;
    const bool beyond = to >= pages();
    if (beyond) to = pages() - 1;
    for (std::uint64_t n = from; n <= to;) {
      const std::uint64_t end = to - n >= 8 - n % 8 ? n - n % 8 + 7 : to;
      const unsigned bits = (0xffU >> (7 - end % 8)) & (0xffU << n % 8);
      byte_at(n / 8).fetch_or(static_cast<unsigned char>(bits), std::memory_order_release);
      n = end + 1;
    }
    return !before && !beyond;
  }
  [[nodiscard]] bool test(address<Space> a) const noexcept {
    const std::uint64_t n = (a.value() - begin_) >> shift_;
    return a.value() >= begin_ && n < pages() &&
           (byte_at(n / 8).load(std::memory_order_acquire) >> (n % 8) & 1) != 0;
  }
  // Clears all bits, and calls visit(address) with the beginning of each page whose bit was set, in order. Returns
  // how many there were.
  template <class Visit>
  std::uint64_t take(Visit&& visit) noexcept {
    std::uint64_t count = 0;
    for (std::uint64_t i = 0; i != bytes_.size(); ++i) {
      if (byte_at(i).load(std::memory_order_relaxed) == 0) continue;
      const unsigned bits = byte_at(i).exchange(0, std::memory_order_acquire);
      for (unsigned n = 0; n != 8; ++n) {
        if ((bits >> n & 1) == 0) continue;
        ++count;
        visit(address<Space>{begin_ + ((i * 8 + n) << shift_)});
      }
    }
    return count;
  }

 private:
  [[nodiscard]] std::atomic_ref<unsigned char> byte_at(std::uint64_t i) const noexcept {
    return std::atomic_ref{reinterpret_cast<unsigned char&>(bytes_[int_cast<std::size_t>(i)])};
  }

  std::span<std::byte> bytes_;
  std::uint64_t begin_;
  unsigned shift_;
};

}  // namespace phasebit
