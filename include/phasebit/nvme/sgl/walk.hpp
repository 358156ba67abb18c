// SPDX-License-Identifier: BSL-1.0
// The device's side of scatter gather lists: from a command's data pointer to the segments of its
// data. All of it was written by the other side, which may be writing still.
#pragma once

#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/nvme/prp/walk.hpp>
#include <phasebit/nvme/sgl/types.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::sgl {

using prp::PieceSink;

// Receives the number of bytes of a read that the host discards.
template <class T>
concept DiscardSink = requires(T& sink, std::uint64_t bytes) {
  { sink(bytes) } noexcept -> std::same_as<status_code>;
};

// For a controller without bit buckets (SGLS bit 16).
struct no_bit_buckets {
  [[nodiscard]] constexpr status_code operator()(std::uint64_t) const noexcept {
    return status_code::sgl_descriptor_type_invalid;
  }
};
static_assert(DiscardSink<no_bit_buckets>);

// One walk along one list. Reads each descriptor once, into a copy.
template <LocalTranslator Lists, PieceSink<typename Lists::from> Each, DiscardSink Discard>
class walker {
  using where = address<typename Lists::from>;

 public:
  walker(Lists& lists, const limits& allowed, std::uint64_t bytes, Each& each,
         Discard& discard) noexcept
      : lists_(lists), allowed_(allowed), left_(bytes), each_(each), discard_(discard) {}

  [[nodiscard]] status_code walk(sgl_descriptor first) noexcept {
    if (left_ == 0) return status_code::success;
    sgl_descriptor link = first;
    if (!is_segment(first)) {
      if (const auto done = data(first); done != status_code::success) return done;
      return end();
    }
    for (;;) {
      if (const auto bad = check_link(link); bad != status_code::success) return bad;
      const bool last = link.type() == sgl_type::last_segment;
      sgl_descriptor next{};
      if (const auto done = segment(link, last, next); done != status_code::success) return done;
      if (last || satisfied()) return end();
      link = next;
    }
  }
  // Descriptors looked at: on failure the one at fault counts from 1.
  [[nodiscard]] std::uint32_t descriptors() const noexcept { return seen_; }

 private:
  [[nodiscard]] static constexpr bool is_segment(const sgl_descriptor& d) noexcept {
    return d.type() == sgl_type::segment || d.type() == sgl_type::last_segment;
  }
  // Nothing that may still come can matter.
  [[nodiscard]] bool satisfied() const noexcept { return left_ == 0 && allowed_.longer_than_data; }
  [[nodiscard]] status_code end() const noexcept {
    return left_ == 0 ? status_code::success : status_code::data_sgl_length_invalid;
  }

  [[nodiscard]] static constexpr status_code check_link(const sgl_descriptor& d) noexcept {
    if (d.subtype() != sgl_subtype::address) return status_code::sgl_descriptor_type_invalid;
    const std::uint32_t bytes = d.length;
    if (bytes == 0 || bytes % descriptor_bytes != 0 || (d.address.get() & 7U) != 0) {
      return status_code::invalid_sgl_segment_descriptor;
    }
    return status_code::success;
  }

  // All descriptors of a segment. A segment that is not the last ends with the link to the next.
  [[nodiscard]] status_code segment(const sgl_descriptor& link, bool last,
                                    sgl_descriptor& next) noexcept {
    constexpr std::uint32_t chunk_size = 32;
    std::array<sgl_descriptor, chunk_size> chunk;
    auto left = static_cast<std::uint32_t>(link.length / descriptor_bytes);
    where at{link.address};
    while (left != 0) {
      const std::uint32_t now = left < chunk_size ? left : chunk_size;
      const auto copies = std::span{chunk}.first(now);
      if (!dma_read(lists_, at, std::as_writable_bytes(copies))) {
        return status_code::data_transfer_error;
      }
      for (std::uint32_t i = 0; i != now; ++i) {
        const bool final_one = left - i == 1;
        if (!is_segment(copies[i])) {
          // A segment descriptor promised that another one follows.
          if (final_one && !last) return status_code::invalid_sgl_segment_descriptor;
          if (const auto done = data(copies[i]); done != status_code::success) return done;
          if (satisfied()) return status_code::success;
          continue;
        }
        if (!count()) return status_code::invalid_sgl_descriptor_count;
        if (last) return status_code::invalid_sgl_segment_descriptor;
        if (!final_one) return status_code::invalid_sgl_descriptor_count;
        next = copies[i];
      }
      at += std::uint64_t{now} * descriptor_bytes;
      left -= now;
    }
    return status_code::success;
  }

  [[nodiscard]] bool count() noexcept { return seen_++ < allowed_.max_descriptors; }

  [[nodiscard]] status_code data(const sgl_descriptor& d) noexcept {
    if (!count()) return status_code::invalid_sgl_descriptor_count;
    const bool bucket = d.type() == sgl_type::bit_bucket;
    if ((!bucket && d.type() != sgl_type::data_block) || d.subtype() != sgl_subtype::address) {
      return status_code::sgl_descriptor_type_invalid;
    }
    std::uint64_t bytes = d.length;
    // Data that goes to the device comes from no bucket: such a descriptor has no meaning there.
    if (bucket && !writes(allowed_.wanted)) return status_code::success;
    if (bytes == 0) return status_code::success;  // allowed, and moves nothing
    if (allowed_.dword_granularity && (((bucket ? 0 : d.address.get()) | bytes) & 3U) != 0) {
      return status_code::sgl_granularity_invalid;
    }
    if (bytes > left_) {
      if (!allowed_.longer_than_data) return status_code::data_sgl_length_invalid;
      bytes = left_;
    }
    left_ -= bytes;
    return bucket ? discard_(bytes) : each_(where{d.address}, bytes);
  }

  Lists& lists_;
  limits allowed_;
  std::uint64_t left_;
  Each& each_;
  Discard& discard_;
  std::uint32_t seen_ = 0;
};

// Calls each(begin, bytes) for the segments of a command's data, in order, and discard(bytes) for
// bit buckets of a read; together they are `bytes` long. Segments are read through `lists`, in
// whose address space the addresses are. Bounded by limits::max_descriptors, whatever the memory
// contains.
// Status: SGL Descriptor Type Invalid; Invalid SGL Segment Descriptor (a segment of no bytes, not
// of whole descriptors, off 8 bytes; a link in the last segment, or none at the end of another);
// Invalid Number of SGL Descriptors (a link before a segment's end, or more descriptors than the
// limit); Data SGL Length Invalid (shorter than the transfer; longer unless allowed); SGL Data
// Block Granularity Invalid; Data Transfer Error (a segment that cannot be read); else the status
// that a visitor returned. Segments before a fault have been visited.
template <LocalTranslator Lists, PieceSink<typename Lists::from> Each,
          DiscardSink Discard = no_bit_buckets>
[[nodiscard]] status_code walk(Lists& lists, const sgl_descriptor& first, std::uint64_t bytes,
                               const limits& allowed, Each&& each,
                               Discard&& discard = {}) noexcept {
  walker<Lists, std::remove_reference_t<Each>, std::remove_reference_t<Discard>> w{
      lists, allowed, bytes, each, discard};
  return w.walk(first);
}

}  // namespace phasebit::nvme::sgl
