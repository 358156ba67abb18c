// SPDX-License-Identifier: BSL-1.0
// The concept of address translation: IOMMUs, guest memory maps and FPGA tables model it.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit {

// The access that a translation is for.
enum class access : std::uint8_t { read = 1, write = 2, read_write = 3 };

[[nodiscard]] constexpr bool reads(access a) noexcept {
  return (static_cast<unsigned>(a) & 1U) != 0;
}
[[nodiscard]] constexpr bool writes(access a) noexcept {
  return (static_cast<unsigned>(a) & 2U) != 0;
}
// Whether `granted` allows all of `wanted`.
[[nodiscard]] constexpr bool allows(access granted, access wanted) noexcept {
  return (static_cast<unsigned>(wanted) & ~static_cast<unsigned>(granted)) == 0;
}

// A contiguous part of a translated range.
template <class To>
struct segment {
  address<To> begin;
  std::uint64_t bytes = 0;

  friend constexpr bool operator==(segment, segment) noexcept = default;
};

// translate(a, n, access) returns the longest contiguous segment that begins at `a` and has 1..n bytes;
// the caller loops. n is at least 1. Errors: not_mapped, access_denied, and protocol for a malformed
// table; error::value is the address at fault. A translation changes nothing but A/D bits and caches.
// Each model states whether several threads may call it concurrently.
template <class T>
concept AddressTranslator =
    requires(T& t, address<typename T::from> a, std::uint64_t bytes, access wanted) {
      typename T::from;
      typename T::to;
      { t.translate(a, bytes, wanted) } noexcept -> std::same_as<result<segment<typename T::to>>>;
    };

// Calls `each(segment)` for every segment of the range, in order, and stops at the first error, after the
// segments before it have been visited. Bounded by the length: each segment has at least one byte.
template <AddressTranslator T, class Each>
[[nodiscard]] constexpr result<> for_each_segment(T& translator, address<typename T::from> begin,
                                                  std::uint64_t bytes, access wanted,
                                                  Each&& each) noexcept {
  if (!range_end(begin, bytes)) {
    return failure(errc::overflow, "the range wraps around the address space", begin.value());
  }
  while (bytes != 0) {
    const auto part = translator.translate(begin, bytes, wanted);
    if (!part) return part.error();
    if (part->bytes == 0 || part->bytes > bytes) {
      return failure(errc::protocol, "the translator answered with an impossible length",
                     begin.value());
    }
    each(*part);
    begin += part->bytes;
    bytes -= part->bytes;
  }
  return {};
}

// A device's view of memory, as a device model in software needs it: bus addresses to pointers of
// this process. An IOMMU and a guest's memory map in between are composed into it.
template <class T>
concept DmaTranslator = AddressTranslator<T> && std::same_as<typename T::from, bus_space> &&
                        std::same_as<typename T::to, local_space>;

// Keeps the number and changes the address space: no IOMMU, or one in passthrough. Any number of
// threads may translate concurrently.
template <class From, class To>
struct identity_translator {
  using from = From;
  using to = To;

  [[nodiscard]] static constexpr result<segment<To>> translate(address<From> a, std::uint64_t bytes,
                                                               access) noexcept {
    return segment<To>{address<To>{a.value()}, bytes};
  }
};
static_assert(AddressTranslator<identity_translator<bus_space, host_space>>);

}  // namespace phasebit
