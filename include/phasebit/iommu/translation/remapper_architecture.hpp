// SPDX-License-Identifier: BSL-1.0
// The concept of an IOMMU architecture, as the remapper (remapper.hpp) uses it.
#pragma once

#include <phasebit/iommu/fault/fault.hpp>
#include <phasebit/iommu/page_table/page_lookup.hpp>
#include <phasebit/iommu/translation/interrupt_remapping.hpp>
#include <phasebit/pcie/spec/msi_message.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::iommu {

// One access, as it arrives.
struct dma_request {
  pcie::requester_id requester{};
  std::uint64_t address = 0;
  access wanted = access::read;
  bool has_pasid = false;
  std::uint32_t pasid = 0;
};

// Why there is no answer; `none` where there is one.
struct refusal {
  fault_reason reason = fault_reason::none;
  std::uint8_t level = 0;
  std::uint64_t fetch = 0;
  constexpr explicit operator bool() const noexcept { return reason != fault_reason::none; }
};

enum class translation_kind : std::uint8_t {
  tables,        // through a page table
  untranslated,  // as it is, within `permissions`
  silent,        // nothing is let through, and nothing is recorded
};

// The decoded entry of a device, in terms common to all architectures; each architecture derives
// its own.
struct device_state {
  translation_kind kind = translation_kind::silent;
  bool report = true;            // faults of this device are recorded
  bool cacheable = true;         // translations may be cached under the tag below
  std::uint8_t permissions = 3;  // bit 0 read, bit 1 write; ANDed with the page's
  std::uint16_t domain = 0;
  std::uint32_t pasid = 0;  // of the tag: only where address spaces differ within a domain
};

// An architecture is a value: the registers that locate its tables, and the features of the IOMMU.
// All functions are const, called by one thread at a time, and read shared memory: each word once,
// validated before use, a bounded number of them.
//     translates()                      false: every access passes untranslated
//     output_bits()                     width of physical addresses
//     resolve(tables, request, state)   finds and checks the device's entry. state.report is set even
//                                       for a refusal
//     lookup(tables, state, address, wanted)   walks the page table, as page_table_view::access_page()
//     reason_of(page, state, address)   the reason why a walk found nothing
//     finish(fault, state)              sets the code of the fault; returns whether it is recorded
template <class A, class Tables>
concept IommuArchitecture =
    std::derived_from<typename A::context, device_state> &&
    requires(const A& a, Tables& tables, const dma_request& request, typename A::context& state,
             std::uint64_t at, const page_lookup<typename Tables::space>& page,
             translation_fault& fault) {
      { a.translates() } noexcept -> std::same_as<bool>;
      { a.output_bits() } noexcept -> std::same_as<unsigned>;
      { a.resolve(tables, request, state) } noexcept -> std::same_as<refusal>;
      {
        a.lookup(tables, state, at, access::read)
      } noexcept -> std::same_as<page_lookup<typename Tables::space>>;
      { a.reason_of(page, state, at) } noexcept -> std::same_as<fault_reason>;
      { a.finish(fault, state) } noexcept -> std::same_as<bool>;
    };

// One whose devices have addresses that another table than the page table translates (RISC-V's
// interrupt files).
//   bypasses_cache(state, address)    this address is one of them: it is neither found in the IOTLB
//                                     nor kept there
//   bytes_alike(state, address)       how many bytes from here on are all of the same kind, at least
template <class A>
concept SplitsAddresses = requires(const A& a, const typename A::context& state, std::uint64_t at) {
  { a.bypasses_cache(state, at) } noexcept -> std::same_as<bool>;
  { a.bytes_alike(state, at) } noexcept -> std::same_as<std::uint64_t>;
};

// An architecture with an interrupt table (VT-d, AMD); without it, an interrupt is translated like
// any write. `owner` of a slot distinguishes tables of different devices.
//     interrupts_by_device              locate_interrupt needs the device's entry
//     locate_interrupt(state, requester, message)
//     check_interrupt(slot, words, requester, out)   out is filled if the reason is none
template <class A>
concept RemapsInterrupts =
    requires(const A& a, const typename A::context& state, pcie::requester_id requester,
             const pcie::msi_message& message, interrupt_slot& slot, const interrupt_words& words,
             remapped_interrupt& out) {
      { A::interrupts_by_device } -> std::convertible_to<bool>;
      { a.locate_interrupt(state, requester, message) } noexcept -> std::same_as<interrupt_slot>;
      { a.check_interrupt(slot, words, requester, out) } noexcept -> std::same_as<fault_reason>;
    };

// The reasons that every format shares.
[[nodiscard]] constexpr fault_reason reason_of(walk_status status) noexcept {
  switch (status) {
    case walk_status::mapped:
      return fault_reason::none;
    case walk_status::malformed:
      return fault_reason::page_malformed;
    case walk_status::beyond_width:
      return fault_reason::beyond_width;
    case walk_status::unreadable:
      return fault_reason::page_unreadable;
    default:
      return fault_reason::not_mapped;
  }
}

}  // namespace phasebit::iommu
