// SPDX-License-Identifier: BSL-1.0
// Addresses typed by their address space. Passing a guest address where a bus address is expected
// does not compile.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/int_cast.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit {

struct bus_space;    // addresses on the PCIe bus: IOVAs where an IOMMU translates
struct guest_space;  // guest physical addresses
struct host_space;   // physical addresses of this machine
struct local_space;  // pointers of this process

// A 64-bit address in Space. Trivially copyable, totally ordered; arithmetic with byte counts
// only, and modulo 2^64 like the hardware's: ranges that come from elsewhere are checked with
// `range_end` first.
template <class Space>
class address {
 public:
  using space = Space;

  constexpr address() noexcept = default;
  constexpr explicit address(std::uint64_t value) noexcept : value_(value) {}

  [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

  constexpr address& operator+=(std::uint64_t bytes) noexcept {
    value_ += bytes;
    return *this;
  }
  friend constexpr address operator+(address a, std::uint64_t bytes) noexcept { return a += bytes; }
  friend constexpr address operator-(address a, std::uint64_t bytes) noexcept {
    return address{a.value_ - bytes};
  }
  friend constexpr std::uint64_t operator-(address a, address b) noexcept {
    return a.value_ - b.value_;
  }
  friend constexpr auto operator<=>(address, address) noexcept = default;

 private:
  std::uint64_t value_ = 0;
};

using bus_addr = address<bus_space>;
using guest_addr = address<guest_space>;
using host_phys = address<host_space>;
using local_addr = address<local_space>;

// The address one past the range, or nothing where the range wraps.
// A range that ends exactly at 2^64 has no such address and counts as wrapping.
template <class Space>
[[nodiscard]] constexpr std::optional<address<Space>> range_end(address<Space> begin,
                                                                std::uint64_t bytes) noexcept {
  const std::uint64_t end = begin.value() + bytes;
  if (end < begin.value()) return std::nullopt;
  return address<Space>{end};
}

template <class Space>
[[nodiscard]] constexpr bool is_aligned(address<Space> a, std::uint64_t alignment) noexcept {
  return is_aligned(a.value(), alignment);
}
template <class Space>
[[nodiscard]] constexpr address<Space> align_down(address<Space> a,
                                                  std::uint64_t alignment) noexcept {
  return address<Space>{align_down(a.value(), alignment)};
}

[[nodiscard]] inline local_addr to_local(const void* pointer) noexcept {
  return local_addr{reinterpret_cast<std::uintptr_t>(pointer)};
}
[[nodiscard]] inline std::byte* pointer_of(local_addr a) noexcept {
  return reinterpret_cast<std::byte*>(int_cast<std::uintptr_t>(a.value()));
}

}  // namespace phasebit
