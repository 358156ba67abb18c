// SPDX-License-Identifier: BSL-1.0
// Basic translators, and the composition of two.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit {

// One window: [begin, begin + bytes) of From lies at `base` of To. A value; any
// number of threads may translate concurrently. Neither side of the window wraps.
template <class From, class To>
class offset_translator {
 public:
  using from = From;
  using to = To;

  constexpr offset_translator(address<From> begin, std::uint64_t bytes, address<To> base,
                              access granted = access::read_write) noexcept
      : begin_(begin), bytes_(bytes), base_(base), granted_(granted) {
    PHASEBIT_EXPECTS(range_end(begin, bytes) && range_end(base, bytes),
                     "the window wraps around an address space");
  }

  [[nodiscard]] constexpr result<segment<To>> translate(address<From> a, std::uint64_t bytes,
                                                        access wanted) const noexcept {
    const std::uint64_t offset = a - begin_;
    if (offset >= bytes_) [[unlikely]] {
      return failure(errc::not_mapped, "the address is outside of the window", a.value());
    }
    if (!allows(granted_, wanted)) [[unlikely]] {
      return failure(errc::access_denied, "the window does not allow this access", a.value());
    }
    const std::uint64_t remaining = bytes_ - offset;
    return segment<To>{base_ + offset, bytes < remaining ? bytes : remaining};
  }

 private:
  address<From> begin_;
  std::uint64_t bytes_;
  address<To> base_;
  access granted_;
};
static_assert(AddressTranslator<const offset_translator<guest_space, bus_space>>);

// A device model's view of one DMA region, which stays mapped as long as this is used.
class region_translator : public offset_translator<bus_space, local_space> {
 public:
  explicit region_translator(const dma_region& region, access granted = access::read_write) noexcept
      : offset_translator(region.bus, region.size(), to_local(region.data()), granted) {}
};
static_assert(DmaTranslator<const region_translator>);

// First, then Second: a device's IOMMU, then the guest's memory map. Holds both by reference, and is as
// thread-safe as both. An error's value is an address of the translator that refused.
template <AddressTranslator First, AddressTranslator Second>
  requires std::same_as<typename First::to, typename Second::from>
class chained {
 public:
  using from = typename First::from;
  using to = typename Second::to;

  constexpr chained(First& first, Second& second) noexcept : first_(first), second_(second) {}

  [[nodiscard]] constexpr result<segment<to>> translate(address<from> a, std::uint64_t bytes,
                                                        access wanted) const noexcept {
    const auto between = first_.translate(a, bytes, wanted);
    if (!between) return between.error();
    return second_.translate(between->begin, between->bytes, wanted);
  }

 private:
  First& first_;
  Second& second_;
};
static_assert(
    AddressTranslator<const chained<const identity_translator<bus_space, guest_space>,
                                    const identity_translator<guest_space, local_space>>>);

}  // namespace phasebit
