// SPDX-License-Identifier: BSL-1.0
// The concept of an architecture's command encoding. Producer and consumer are written once, over
// it.
#pragma once

#include <phasebit/iommu/command_queue/command.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::iommu {

// Why a ring does not continue.
enum class ring_fault : std::uint8_t {
  none,
  illegal_command,  // the entry at the head
  fetch_failed,     // the entry at the head could not be read
  bad_tail,         // the tail names no entry of the ring
  store_failed,     // a wait could not store its data
  device_timeout,   // a device has not answered an invalidation
};

// How an IOMMU reacts to a command that it cannot execute.
enum class fault_action : std::uint8_t {
  stop,       // the head stays on the command
  stop_past,  // the command counts as consumed, and the ring stops
  go_on,      // reported elsewhere
};

// How a driver reacts to a fault that its IOMMU has reported.
enum class recovery : std::uint8_t {
  none,               // there is no fault
  clear,              // acknowledge the status; the IOMMU continues from its head
  replace_and_clear,  // replace the entry at the head by a harmless one first
  restart,            // disable the ring, set head and tail to 0, enable it
};

// A fault as the driver finds it in its IOMMU's registers or event log.
struct ring_fault_report {
  ring_fault what = ring_fault::none;
  recovery then = recovery::none;
  std::uint32_t device = 0;  // device_timeout: the device, if the IOMMU reports it; else 0

  explicit constexpr operator bool() const noexcept { return what != ring_fault::none; }
};

// A codec is a small value: the encoding, and the IOMMU's optional features (its capabilities).
//     wraps             indices carry a wrap bit, so that a ring can be filled to its last entry
//     masks_tail        index bits beyond the ring are not implemented (else they are an error)
//     sync_by_head      a head behind a wait means that the wait is done
//     wait_store_bytes  the width of a wait's store
//     entry_bytes()     16 or 32
//     index_shift()     register = index << index_shift()
//     encode(c, words)  false: the IOMMU or the architecture cannot express this. The words may cover
//                       more than `c`, never less; by_range is the result of split_range()
//     decode(words)     any words; a malformed command is command_kind::illegal with a reason
//     split_range(c, a, z)    c is invalidate_translations with page_sizes and tables set: makes it a
//                       command that can be encoded and covers the beginning of [a, z], or all of it;
//                       returns the last address covered (at least `a`)
//     code(f, r)        the number under which the IOMMU reports a fault
template <class D>
concept CommandCodec =
    std::copyable<D> &&
    requires(const D& d, command& c, const command& asked, command_words& out,
             const command_words& words, std::uint64_t a, ring_fault fault, illegal_reason reason) {
      { D::wraps } -> std::convertible_to<bool>;
      { D::masks_tail } -> std::convertible_to<bool>;
      { D::sync_by_head } -> std::convertible_to<bool>;
      { D::wait_store_bytes } -> std::convertible_to<unsigned>;
      { D::after_store_failure } -> std::convertible_to<fault_action>;
      { D::after_timeout } -> std::convertible_to<fault_action>;
      { d.entry_bytes() } noexcept -> std::same_as<unsigned>;
      { d.index_shift() } noexcept -> std::same_as<unsigned>;
      { d.encode(asked, out) } noexcept -> std::same_as<bool>;
      { d.decode(words) } noexcept -> std::same_as<command>;
      { d.split_range(c, a, a) } noexcept -> std::same_as<std::uint64_t>;
      { d.code(fault, reason) } noexcept -> std::same_as<std::uint8_t>;
    };

}  // namespace phasebit::iommu
