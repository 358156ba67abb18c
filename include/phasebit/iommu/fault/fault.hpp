// SPDX-License-Identifier: BSL-1.0
// Accesses that an IOMMU refused, in words that all architectures share. Their own records are made
// from this, and read back into it (faults/*.hpp).
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// The reason of a fault. A link is an entry of a directory above the device's own entry; where
// PASIDs have directories of their own, these come second.
enum class fault_reason : std::uint8_t {
  none,
  all_blocked,      // the IOMMU lets nothing through
  id_beyond,        // the tables are too small for this requester
  link_unreadable,  // no memory where the directory should be
  link_absent,
  link_malformed,
  entry_unreadable,
  entry_absent,
  entry_malformed,    // reserved bits
  entry_unsupported,  // a value that this IOMMU does not have
  request_refused,    // the entry does not let in requests of this kind (with PASID, without)
  pasid_beyond,
  pasid_link_unreadable,
  pasid_link_absent,
  pasid_link_malformed,
  pasid_entry_unreadable,
  pasid_entry_absent,
  pasid_entry_malformed,
  pasid_entry_unsupported,
  beyond_width,  // the address has more bits than are translated, or than memory has
  not_mapped,
  no_read,
  no_write,
  not_accessed,  // the access flag is clear, and hardware may not set it
  page_malformed,
  page_beyond,  // an entry's address, or the device's own, is one that memory does not have
  page_unreadable,
  interrupt_malformed_request,  // reserved bits in the message
  interrupt_beyond,             // its index lies behind the table's end
  interrupt_unreadable,
  interrupt_absent,
  interrupt_malformed,
  interrupt_refused,  // messages of this kind are blocked
  interrupt_source,   // the entry is for another requester
};

// One refused access. `address` is the device's, or of an interrupt the index that it named;
// `fetch` where an unreadable entry would have been. `code` is the architecture's own number for
// the reason, as its records hold it. level: where a walk ended, 0 the lowest.
struct translation_fault {
  pcie::requester_id requester{};
  fault_reason reason = fault_reason::none;
  access wanted = access::read;
  bool interrupt = false;
  bool has_pasid = false;
  std::uint8_t level = 0;
  std::uint16_t domain = 0;
  std::uint16_t code = 0;
  std::uint32_t pasid = 0;
  std::uint64_t address = 0;
  std::uint64_t fetch = 0;

  friend constexpr bool operator==(const translation_fault&,
                                   const translation_fault&) noexcept = default;
};

// The result of a request as a device's DMA engine sees it. It does not contain the reason, which
// is reported to the driver, only whether there was a translation (completions end in Unsupported
// Request), whether it lacked a permission (Completer Abort), or whether the tables are malformed.
[[nodiscard]] constexpr error to_error(const translation_fault& fault) noexcept {
  using enum fault_reason;
  switch (fault.reason) {
    case no_read:
    case no_write:
    case request_refused:
    case interrupt_refused:
    case interrupt_source:
    case all_blocked:
      return failure(errc::access_denied, "the IOMMU does not permit this access", fault.address);
    case link_unreadable:
    case link_malformed:
    case entry_unreadable:
    case entry_malformed:
    case entry_unsupported:
    case pasid_link_unreadable:
    case pasid_link_malformed:
    case pasid_entry_unreadable:
    case pasid_entry_malformed:
    case pasid_entry_unsupported:
    case page_malformed:
    case page_beyond:
    case page_unreadable:
    case interrupt_unreadable:
    case interrupt_malformed:
      return failure(errc::protocol, "the IOMMU's tables are broken here", fault.address);
    case link_absent:
    case entry_absent:
    case id_beyond:
    case pasid_beyond:
    case pasid_link_absent:
    case pasid_entry_absent:
      return failure(errc::not_found, "the IOMMU has no entry for this requester", fault.address);
    default:
      return failure(errc::not_mapped, "the IOMMU has no translation for this address",
                     fault.address);
  }
}

// Takes faults as they happen: recording registers, an event queue, a log. Called by the
// translating thread; never blocks. A full sink drops faults and counts or flags that.
template <class T>
concept FaultSink = requires(T& sink, const translation_fault& fault) {
  { sink.record(fault) } noexcept;
};

// The last Capacity faults, oldest first, and how many there were. One thread.
template <std::size_t Capacity = 16>
class fault_history {
 public:
  void record(const translation_fault& fault) noexcept {
    faults_[total_ % Capacity] = fault;
    ++total_;
  }
  [[nodiscard]] std::size_t count() const noexcept { return total_; }
  [[nodiscard]] const translation_fault& last() const noexcept {
    PHASEBIT_EXPECTS(total_ != 0, "there was no fault yet");
    return faults_[(total_ - 1) % Capacity];
  }

 private:
  std::array<translation_fault, Capacity> faults_{};
  std::size_t total_ = 0;
};
static_assert(FaultSink<fault_history<>>);

}  // namespace phasebit::iommu
