// SPDX-License-Identifier: BSL-1.0
// The elements of a sequence: steps, their streams, and the scratch buffers between them.
#pragma once

#include <phasebit/accel/operation.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/memory_domain.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel {

// Names an appended step; its result is found under it. Ids count from 0 in the order of appending.
struct step_id {
  std::uint8_t value = 0;
  friend constexpr auto operator<=>(step_id, step_id) noexcept = default;
};

// A run of the sequence's segment table.
struct operand {
  std::uint64_t bytes;
  std::uint16_t first;
  std::uint16_t count;
};

// One step. `then` is a second operation that an engine fuses with the first: it consumes the first
// one's output stream. A transforming `then` writes the destination, a reading one looks at it.
struct step {
  operation op;
  operation then;
  std::uint8_t id;         // where the result of `op` goes, and the step that errors name
  std::uint8_t then_id;    // the same for `then`
  bool gate;               // no later step's write to memory may come before this step has passed
  std::uint8_t seed_from;  // a CRC that continues the result of this id
  bool part;               // of a longer step; then_with.value2 counts the blocks before it
  operand source;
  operand destination;
  parameters with;
  parameters then_with;

  static constexpr std::uint8_t no_seed = 0xff;
};

// Scratch addresses: bits 63:40 number the buffer from 1, bits 39:0 are the offset. Two buffers of one
// sequence therefore never overlap, and never merge by accident.
inline constexpr unsigned scratch_shift = 40;
[[nodiscard]] constexpr std::size_t scratch_buffer_of(std::uint64_t address) noexcept {
  return int_cast<std::size_t>(address >> scratch_shift) - 1;
}
[[nodiscard]] constexpr std::uint64_t scratch_offset_of(std::uint64_t address) noexcept {
  return address & ((std::uint64_t{1} << scratch_shift) - 1);
}

// Buffers of a sequence that is planned once and run with different memory: slot n is a domain of its
// own whose addresses begin at 0. bind() replaces slots by memory.
inline constexpr std::uint16_t first_slot_domain = 32;
[[nodiscard]] constexpr domain_segment slot(std::uint16_t n, std::uint64_t offset,
                                            std::uint64_t bytes) noexcept {
  return {offset, bytes, domain_id{static_cast<std::uint16_t>(first_slot_domain + n)}};
}

// `writes` and `reads` count the steps that write or read the buffer; a part of it counts as two, so
// that 1 and 1 means: one step writes it whole and one reads it whole. Kept while appending.
struct scratch_info {
  std::uint64_t bytes;
  std::uint64_t offset;  // in the pool, once assigned
  std::uint32_t alignment;
  std::uint8_t writer;
  std::uint8_t reader;
  std::uint8_t writes;
  std::uint8_t reads;
};

namespace detail {

// bytes / unit. 32-bit machines have no 64-bit division: bit by bit there.
[[nodiscard]] constexpr std::uint64_t quotient(std::uint64_t bytes, std::uint32_t unit) noexcept {
  if (bytes >> 32 == 0) [[likely]]
    return static_cast<std::uint32_t>(bytes) / unit;
  std::uint64_t result = 0;
  std::uint64_t remaining = 0;
  for (unsigned k = 64; k-- != 0;) {
    remaining = remaining << 1 | (bytes >> k & 1U);
    result <<= 1;
    if (remaining >= unit) {
      remaining -= unit;
      result |= 1;
    }
  }
  return result;
}

[[nodiscard]] constexpr bool overlaps(const domain_segment& a, const domain_segment& b) noexcept {
  return a.domain == b.domain && a.address < b.end() && b.address < a.end();
}
// Whether each source stream is the destination, segment by segment, or is disjoint from it.
[[nodiscard]] constexpr bool same_streams(std::span<const domain_segment> from,
                                          std::span<const domain_segment> to) noexcept {
  for (std::size_t at = 0; at < from.size();) {
    std::size_t same = 0;
    while (same != to.size() && at + same < from.size() && to[same] == from[at + same]) ++same;
    if (same == to.size()) {
      at += same;
      continue;
    }
    for (const domain_segment& d : to) {
      if (overlaps(d, from[at])) return false;
    }
    ++at;
  }
  return true;
}
// Why an operation cannot have these streams, or nullptr.
[[nodiscard]] constexpr const char* overlap_fault(operation op,
                                                  std::span<const domain_segment> from,
                                                  std::span<const domain_segment> to) noexcept {
  for (std::size_t i = 0; i != to.size(); ++i) {
    for (std::size_t k = i + 1; k < to.size(); ++k) {
      if (overlaps(to[i], to[k])) return "two segments of the destination overlap";
    }
    for (const domain_segment& f : from) {
      if (!overlaps(to[i], f)) continue;
      if (!in_place_operations.has(op) || !same_streams(from, to)) {
        return "source and destination overlap and are not the same segments";
      }
      break;
    }
  }
  return nullptr;
}

}  // namespace detail

}  // namespace phasebit::accel
