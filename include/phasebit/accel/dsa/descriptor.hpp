// SPDX-License-Identifier: BSL-1.0
// Descriptors and completion records of the Intel Data Streaming Accelerator: Architecture Specification
// revision 2.0, chapter 8; the layouts are held against linux/idxd.h by a test. No hardware was seen.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::accel::dsa {

enum class opcode : std::uint8_t {
  no_operation = 0x00,
  batch = 0x01,
  drain = 0x02,
  memory_move = 0x03,
  fill = 0x04,
  compare = 0x05,
  crc_generation = 0x10,
  copy_with_crc = 0x11,
  dif_check = 0x12,
  dif_insert = 0x13,
  dif_strip = 0x14,
  dif_update = 0x15,
};

// Bits of the descriptor's flags.
inline constexpr std::uint32_t flag_fence = 0x0001;  // in a batch: wait for the descriptors before
inline constexpr std::uint32_t flag_completion_address_valid = 0x0004;
inline constexpr std::uint32_t flag_request_completion = 0x0008;

enum class completion_status : std::uint8_t {
  none = 0x00,
  success = 0x01,
  success_predicate = 0x02,  // compare: the result byte does not match what was expected
  page_fault = 0x03,
  batch_failed = 0x05,
  dif_error = 0x09,
  unsupported_opcode = 0x10,
  invalid_flags = 0x11,
  invalid_transfer_size = 0x13,
  invalid_descriptor_count = 0x14,
  overlapping_buffers = 0x16,
  list_alignment = 0x18,
};

// The first two dwords: PASID in 19:0 of the first; flags in 23:0 and the opcode in 31:24 of the second.
struct descriptor {
  static constexpr field<23, 0, std::uint32_t> flags{};
  static constexpr field<31, 24, std::uint8_t> code{};

  le<std::uint32_t> pasid_and_privilege;
  le<std::uint32_t> flags_and_opcode;
  le<std::uint64_t> completion_address;
  le<std::uint64_t> source;         // batch: the descriptor list; fill: the pattern
  le<std::uint64_t> destination;    // compare: the second source
  le<std::uint32_t> transfer_size;  // batch: the number of descriptors
  le<std::uint16_t> interrupt_handle;
  le<std::uint16_t> reserved;
  std::array<std::uint8_t, 24> specific;  // by opcode, below
};
static_assert(WireStruct<descriptor> && sizeof(descriptor) == 64);
static_assert(offsetof(descriptor, completion_address) == 8 && offsetof(descriptor, source) == 16 &&
              offsetof(descriptor, destination) == 24 &&
              offsetof(descriptor, transfer_size) == 32 && offsetof(descriptor, specific) == 40);

// Offsets in `specific`. CRC: the seed. DIF: flags and tags; the update has the source's at 8 and the
// destination's at 16. Tags are little-endian here, unlike in the blocks.
inline constexpr std::size_t crc_seed_offset = 0;
inline constexpr std::size_t dif_source_flags_offset = 0;
inline constexpr std::size_t dif_destination_flags_offset = 1;
inline constexpr std::size_t dif_flags_offset = 2;
inline constexpr std::size_t dif_check_reference_offset = 8;
inline constexpr std::size_t dif_check_mask_offset = 12;
inline constexpr std::size_t dif_check_tag_offset = 14;
inline constexpr std::size_t dif_insert_reference_offset = 16;
inline constexpr std::size_t dif_insert_mask_offset = 20;
inline constexpr std::size_t dif_insert_tag_offset = 22;

// Block sizes of the DIF operations, in bits 1:0 of the DIF flags: 512, 520, 4096, 4104 bytes of data.
[[nodiscard]] constexpr int block_code(std::uint32_t bytes) noexcept {
  return bytes == 512 ? 0 : bytes == 520 ? 1 : bytes == 4096 ? 2 : bytes == 4104 ? 3 : -1;
}
[[nodiscard]] constexpr std::uint32_t block_size(std::uint8_t flags) noexcept {
  constexpr std::array<std::uint32_t, 4> sizes{512, 520, 4096, 4104};
  return sizes[flags & 3U];
}

struct completion_record {
  std::uint8_t status;  // bits 6:0; bit 7: the fault was a write
  std::uint8_t result;
  le<std::uint16_t> reserved;
  le<std::uint32_t> bytes_completed;
  le<std::uint64_t> fault_address;
  le<std::uint64_t> crc;  // of CRC operations
  le<std::uint64_t> more;
};
static_assert(WireStruct<completion_record> && sizeof(completion_record) == 32);
static_assert(offsetof(completion_record, bytes_completed) == 4 &&
              offsetof(completion_record, fault_address) == 8 &&
              offsetof(completion_record, crc) == 16);

template <class T>
constexpr void put(descriptor& d, std::size_t offset, T value) noexcept {
  for (std::size_t k = 0; k != sizeof(T); ++k) {
    d.specific[offset + k] = static_cast<std::uint8_t>(value >> (8 * k));
  }
}
template <class T>
[[nodiscard]] constexpr T get(const descriptor& d, std::size_t offset) noexcept {
  std::uint64_t v = 0;
  for (std::size_t k = 0; k != sizeof(T); ++k)
    v |= std::uint64_t{d.specific[offset + k]} << (8 * k);
  return static_cast<T>(v);
}

}  // namespace phasebit::accel::dsa
