// SPDX-License-Identifier: BSL-1.0
// Protection information, in the metadata of each block: NVM Command Set 1.0, section 5.2.1. Unlike
// all else in NVMe its fields are big-endian, for SCSI had them first.
#pragma once

#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

// Type of protection, as DPS and Format NVM number it. Type 1 ties the reference tag to the LBA, 2
// to a value that the command gives, 3 leaves it to the application.
enum class protection_type : std::uint8_t { none = 0, type1 = 1, type2 = 2, type3 = 3 };

// The tuple format of the metadata: the guard's width.
enum class guard_format : std::uint8_t { bits16 = 0, bits32 = 1, bits64 = 2 };

// An application tag of all ones turns the checks off (in type 3: with a reference tag of ones).
inline constexpr std::uint16_t escape_application_tag = 0xffff;

struct protection16 {
  be<std::uint16_t> guard;  // CRC-16/T10-DIF of the block
  be<std::uint16_t> application_tag;
  be<std::uint32_t> reference_tag;
};
static_assert(WireStruct<protection16> && sizeof(protection16) == 8);
static_assert(offsetof(protection16, guard) == 0 && offsetof(protection16, application_tag) == 2 &&
              offsetof(protection16, reference_tag) == 4);

// Storage and reference space: 80 bits, big-endian, the storage tag in the upper STS bits. Bytes,
// for no integer has that width.
struct protection32 {
  be<std::uint32_t> guard;  // CRC-32C
  be<std::uint16_t> application_tag;
  std::uint8_t storage_and_reference[10];
};
static_assert(WireStruct<protection32> && sizeof(protection32) == 16);
static_assert(offsetof(protection32, guard) == 0 && offsetof(protection32, application_tag) == 4 &&
              offsetof(protection32, storage_and_reference) == 6);

struct protection64 {
  be<std::uint64_t> guard;  // CRC-64 of the NVM command set
  be<std::uint16_t> application_tag;
  std::uint8_t storage_and_reference[6];  // 48 bits
};
static_assert(WireStruct<protection64> && sizeof(protection64) == 16);
static_assert(offsetof(protection64, guard) == 0 && offsetof(protection64, application_tag) == 8 &&
              offsetof(protection64, storage_and_reference) == 10);

// Big-endian numbers of 6 and 10 bytes; of the latter the upper two bytes and the lower eight.
[[nodiscard]] constexpr std::uint64_t load_be(const std::uint8_t* bytes, unsigned count) noexcept {
  std::uint64_t v = 0;
  for (unsigned i = 0; i != count; ++i) v = v << 8 | bytes[i];
  return v;
}
constexpr void store_be(std::uint8_t* bytes, unsigned count, std::uint64_t v) noexcept {
  for (unsigned i = count; i != 0; v >>= 8) bytes[--i] = static_cast<std::uint8_t>(v);
}

[[nodiscard]] constexpr std::size_t protection_bytes(guard_format f) noexcept {
  return f == guard_format::bits16 ? sizeof(protection16) : sizeof(protection32);
}
static_assert(sizeof(protection32) == sizeof(protection64));

}  // namespace phasebit::nvme
