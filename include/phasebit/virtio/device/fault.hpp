// SPDX-License-Identifier: BSL-1.0
// Errors of a driver in a virtqueue. The device side reports the error and stops serving the queue.
#pragma once

#include <phasebit/core/error.hpp>

#include <cstdint>

namespace phasebit::virtio::device {

// Why a queue was stopped. Each names a rule of virtio 1.3, section 2.7 or 2.8, that the driver broke.
enum class fault_code : std::uint8_t {
  none,
  avail_index_jump,          // more buffers than the queue holds, or an index that went back
  head_out_of_range,         // the available ring names a descriptor beyond the table
  next_out_of_range,         // a descriptor names its successor beyond the table
  id_out_of_range,           // packed: a buffer id that is not below the queue size
  chain_too_long,            // longer than the queue or the limit, or a loop
  too_many_segments,         // more segments than the device has places for
  zero_length,               // a descriptor of no bytes
  length_overflow,           // the lengths add up to more than 2^32
  address_overflow,          // address + length wraps
  not_mapped,                // no memory at that address
  access_denied,             // memory that the device must not read, or not write
  writable_before_readable,  // a buffer for the device to read behind one for it to write
  indirect_not_negotiated,
  indirect_nested,     // an indirect table in an indirect table
  indirect_with_next,  // INDIRECT and NEXT in one descriptor
  indirect_size,       // a table of no entries, or whose bytes are no multiple of 16
  buffer_in_flight,    // offered again before it was returned
  wrong_flags,         // packed: a chain that runs into descriptors that are not available
  ring_overrun,        // packed: more descriptors in flight than the ring has
  inflight_record,     // the in-flight record does not hold what was written to it
};

// A fault, where it was found, and the number at fault (an index, a length or an address).
struct fault {
  fault_code code = fault_code::none;
  std::uint16_t index = 0;
  std::uint64_t value = 0;

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return code != fault_code::none;
  }
  // The same as a sentence.
  [[nodiscard]] constexpr error to_error() const noexcept;
};

namespace detail {

struct fault_text {
  errc code;
  const char* what;
};

inline constexpr fault_text fault_texts[] = {
    {errc::invalid_argument, "the queue has no fault"},
    {errc::protocol, "the driver's available index is further ahead than the queue has entries"},
    {errc::out_of_range, "the available ring names a descriptor beyond the table"},
    {errc::out_of_range, "a descriptor's next field points beyond the table"},
    {errc::out_of_range, "a buffer id is not below the size of the queue"},
    {errc::loop, "a descriptor chain is a loop, or longer than the queue allows"},
    {errc::exhausted, "a descriptor chain has more segments than the device accepts"},
    {errc::invalid_argument, "a descriptor has a length of zero"},
    {errc::overflow, "the lengths of a descriptor chain add up to more than 4 GiB"},
    {errc::overflow, "a descriptor's address and length wrap around the address space"},
    {errc::not_mapped, "a descriptor's address is not in the driver's memory"},
    {errc::access_denied, "a descriptor's memory does not allow the device's access"},
    {errc::protocol, "a device-readable descriptor follows a device-writable one"},
    {errc::protocol, "an indirect descriptor without VIRTIO_F_INDIRECT_DESC"},
    {errc::protocol, "an indirect table contains an indirect descriptor"},
    {errc::protocol, "a descriptor has both INDIRECT and NEXT set"},
    {errc::protocol, "an indirect table's length is zero or no multiple of 16"},
    {errc::protocol, "a buffer was made available again while it is in flight"},
    {errc::protocol, "a descriptor chain runs into descriptors that are not available"},
    {errc::protocol, "the driver made more descriptors available than the ring has"},
    {errc::protocol, "the record of requests in flight was changed by the other side"},
};
static_assert(std::size(fault_texts) == static_cast<std::size_t>(fault_code::inflight_record) + 1);

}  // namespace detail

constexpr error fault::to_error() const noexcept {
  const detail::fault_text& text = detail::fault_texts[static_cast<std::size_t>(code)];
  return failure(text.code, text.what, value).at(index);
}

}  // namespace phasebit::virtio::device
