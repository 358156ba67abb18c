// SPDX-License-Identifier: BSL-1.0
// The 16-byte descriptor of scatter gather lists: NVMe Base 2.0, section 4.1.2.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

enum class sgl_type : std::uint8_t {
  data_block = 0x0,
  bit_bucket = 0x1,    // bytes of a read that are discarded
  segment = 0x2,       // the next segment, which is not the last
  last_segment = 0x3,  // the next segment, which holds no further segment descriptor
  keyed_data_block = 0x4,
  transport_data_block = 0x5,
  vendor = 0xf,
};

enum class sgl_subtype : std::uint8_t { address = 0, offset = 1, transport = 0xa };

// Data block, bit bucket, segment and last segment, which differ in their type alone. In a segment
// descriptor `length` is the bytes of the next segment, a multiple of 16.
struct sgl_descriptor {
  le<std::uint64_t> address;
  le<std::uint32_t> length;
  std::uint8_t reserved[3];
  std::uint8_t identifier;

  static constexpr field<7, 4, sgl_type> type_bits{};
  static constexpr field<3, 0, sgl_subtype> subtype_bits{};

  [[nodiscard]] constexpr sgl_type type() const noexcept { return type_bits.get(identifier); }
  [[nodiscard]] constexpr sgl_subtype subtype() const noexcept {
    return subtype_bits.get(identifier);
  }

  [[nodiscard]] static constexpr sgl_descriptor of(sgl_type type, bus_addr where,
                                                   std::uint32_t bytes) noexcept {
    return {.address = where.value(),
            .length = bytes,
            .reserved = {},
            .identifier = type_bits.of<std::uint8_t>(type)};
  }
  friend constexpr bool operator==(const sgl_descriptor&, const sgl_descriptor&) noexcept = default;
};
static_assert(WireStruct<sgl_descriptor> && sizeof(sgl_descriptor) == 16);
static_assert(offsetof(sgl_descriptor, address) == 0 && offsetof(sgl_descriptor, length) == 8 &&
              offsetof(sgl_descriptor, reserved) == 12 &&
              offsetof(sgl_descriptor, identifier) == 15);

// The keyed data block of RDMA transports: a length of 24 bits and the key of a registered region.
struct keyed_sgl_descriptor {
  le<std::uint64_t> address;
  std::uint8_t length[3];
  std::uint8_t key[4];  // at an odd offset, so bytes: least significant first
  std::uint8_t identifier;
};
static_assert(WireStruct<keyed_sgl_descriptor> && sizeof(keyed_sgl_descriptor) == 16);
static_assert(offsetof(keyed_sgl_descriptor, length) == 8 &&
              offsetof(keyed_sgl_descriptor, key) == 11 &&
              offsetof(keyed_sgl_descriptor, identifier) == 15);

}  // namespace phasebit::nvme
