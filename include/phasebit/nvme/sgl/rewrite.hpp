// SPDX-License-Identifier: BSL-1.0
// The scatter gather list of a command, translated: for software between a guest and a device.
#pragma once

#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/nvme/sgl/segment_writer.hpp>
#include <phasebit/nvme/sgl/types.hpp>
#include <phasebit/nvme/sgl/walk.hpp>
#include <phasebit/nvme/spec/status.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace phasebit::nvme::sgl {

// With which status the command ends where it could not be rewritten, and because of which of its
// descriptors, counted in the order of reading, the command's own or the first segment's first as 0.
struct [[nodiscard]] rewritten {
  status_code status = status_code::success;
  std::uint32_t index = 0;

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return status == status_code::success;
  }
};

// Translates the data blocks of a command of `bytes` bytes with `blocks`, and writes a list of the
// results into `shadow` (and `more`) for the device to read instead: a block that is translated
// into segments becomes several descriptors. The guest's list is read once and never written. The
// command changes only on success. Statuses as for walk(); Data Transfer Error also for a block
// that cannot be translated; Internal Error where the shadow segments are too short. Bit buckets
// are passed on: a device without them must not be reported to the guest as having them.
// MPTR is an address too. It is translated where `allowed.metadata_bytes` is not 0: with PSDT 1 as
// one buffer, which must be contiguous afterwards (else Internal Error); PSDT 2, a metadata
// segment, is refused with SGL Descriptor Type Invalid. Without metadata it is 0 in the result.
template <LocalTranslator Lists, AddressTranslator Blocks, class More = no_more_lists>
  requires(std::same_as<typename Lists::from, typename Blocks::from> &&
           std::same_as<typename Blocks::to, bus_space> &&
           ListSource<std::remove_reference_t<More>>)
[[nodiscard]] rewritten rewrite(Lists& lists, Blocks& blocks, submission_entry& command,
                                std::uint64_t bytes, const limits& allowed,
                                const segment_memory& shadow, More&& more = {}) noexcept {
  using from = address<typename Lists::from>;
  if (bytes == 0) {
    // The fields are not checked, so they are cleared: no guest address reaches the device.
    command.set_sgl(sgl_descriptor::of(sgl_type::data_block, bus_addr{}, 0));
    command.mptr = 0;
    return {};
  }
  std::uint64_t mptr = 0;
  if (allowed.metadata_bytes != 0) {
    if (command.psdt() == data_pointer::sgl_metadata_segment) {
      return {status_code::sgl_descriptor_type_invalid, 0};
    }
    const from at{command.mptr.get()};
    if (!range_end(at, allowed.metadata_bytes)) return {status_code::data_transfer_error, 0};
    const auto metadata = blocks.translate(at, allowed.metadata_bytes, allowed.wanted);
    if (!metadata) return {status_code::data_transfer_error, 0};
    if (metadata->bytes != allowed.metadata_bytes) return {status_code::internal_error, 0};
    mptr = metadata->begin.value();
  }
  segment_writer<std::remove_reference_t<More>> writer{shadow, more};
  auto each = [&](from begin, std::uint64_t count) noexcept {
    bool fits = true;
    const auto done = for_each_segment(
        blocks, begin, count, allowed.wanted, [&](const segment<bus_space>& segment) noexcept {
          // A block has at most 32 bits of bytes, and its segments no more.
          fits = fits && writer.put(sgl_type::data_block, segment.begin,
                                    static_cast<std::uint32_t>(segment.bytes));
        });
    if (!done) return status_code::data_transfer_error;
    return fits ? status_code::success : status_code::internal_error;
  };
  auto discard = [&](std::uint64_t count) noexcept {
    const bool fits =
        writer.put(sgl_type::bit_bucket, bus_addr{}, static_cast<std::uint32_t>(count));
    return fits ? status_code::success : status_code::internal_error;
  };
  walker<Lists, decltype(each), decltype(discard)> w{lists, allowed, bytes, each, discard};
  const status_code walked = w.walk(command.sgl());
  const std::uint32_t at = w.descriptors() == 0 ? 0 : w.descriptors() - 1;
  if (walked != status_code::success) return {walked, at};
  if (!writer.finish(command)) return {status_code::internal_error, at};
  command.set_psdt(data_pointer::sgl_metadata_buffer);
  command.mptr = mptr;
  return {};
}

}  // namespace phasebit::nvme::sgl
