// SPDX-License-Identifier: BSL-1.0
// A list of segments in local memory, read or written from front to back.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/memory_domain.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel::detail {

class stream {
 public:
  explicit stream(std::span<const domain_segment> list) noexcept : list_(list) {}

  // The next contiguous bytes, at most `most` and at least one; never called at the end.
  [[nodiscard]] std::span<std::byte> take(std::size_t most) noexcept {
    const domain_segment& s = list_[index_];
    std::byte* begin = pointer_of(local_addr{s.address + used_});
    const std::uint64_t remaining = s.bytes - used_;
    const auto n = static_cast<std::size_t>(remaining < most ? remaining : most);
    used_ += n;
    if (used_ == s.bytes) {
      used_ = 0;
      ++index_;
    }
    return {begin, n};
  }
  // The next `n` bytes where they are contiguous, or an empty span and nothing is taken.
  [[nodiscard]] std::span<std::byte> whole(std::size_t n) noexcept {
    return list_[index_].bytes - used_ >= n ? take(n) : std::span<std::byte>{};
  }
  // How many bytes take() could return at once; 0 at the end.
  [[nodiscard]] std::uint64_t contiguous() const noexcept {
    return ended() ? 0 : list_[index_].bytes - used_;
  }
  void read(std::byte* to, std::size_t n) noexcept {
    while (n != 0) {
      const auto part = take(n);
      __builtin_memcpy(to, part.data(), part.size());
      to += part.size();
      n -= part.size();
    }
  }
  void write(const std::byte* from, std::size_t n) noexcept {
    while (n != 0) {
      const auto part = take(n);
      __builtin_memcpy(part.data(), from, part.size());
      from += part.size();
      n -= part.size();
    }
  }
  void skip(std::uint64_t n) noexcept {
    while (n != 0) {
      n -= take(int_cast<std::size_t>(n)).size();
    }
  }
  [[nodiscard]] bool ended() const noexcept { return index_ == list_.size(); }

 private:
  std::span<const domain_segment> list_;
  std::size_t index_ = 0;
  std::uint64_t used_ = 0;
};

// Calls each(source part, destination part) for `n` bytes of both streams, in contiguous parts of
// equal size.
template <class Each>
void pairwise(stream& from, stream& to, std::uint64_t n, Each&& each) noexcept {
  std::span<std::byte> a;
  std::span<std::byte> b;
  while (n != 0) {
    if (a.empty()) a = from.take(int_cast<std::size_t>(n));
    if (b.empty()) b = to.take(a.size());
    const std::size_t both = a.size() < b.size() ? a.size() : b.size();
    each(a.first(both), b.first(both));
    a = a.subspan(both);
    b = b.subspan(both);
    n -= both;
  }
}

}  // namespace phasebit::accel::detail
