// SPDX-License-Identifier: BSL-1.0
// Commands and data of SCSI block devices: SPC-4 and SBC-3. Fields are big-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::scsi {

enum class opcode : std::uint8_t {
  test_unit_ready = 0x00,
  request_sense = 0x03,
  read_6 = 0x08,
  write_6 = 0x0a,
  inquiry = 0x12,
  mode_sense_6 = 0x1a,
  start_stop_unit = 0x1b,
  read_capacity_10 = 0x25,
  read_10 = 0x28,
  write_10 = 0x2a,
  synchronize_cache_10 = 0x35,
  write_same_10 = 0x41,
  unmap = 0x42,
  mode_sense_10 = 0x5a,
  read_16 = 0x88,
  write_16 = 0x8a,
  synchronize_cache_16 = 0x91,
  write_same_16 = 0x93,
  service_action_in_16 = 0x9e,
  report_luns = 0xa0,
  read_12 = 0xa8,
  write_12 = 0xaa,
};
inline constexpr std::uint8_t read_capacity_16 = 0x10;  // service action of 9Eh

// Status byte: SAM-5, 5.3.
enum class status : std::uint8_t {
  good = 0x00,
  check_condition = 0x02,
  busy = 0x08,
  reservation_conflict = 0x18,
  task_set_full = 0x28,
  task_aborted = 0x40,
};

enum class sense_key : std::uint8_t {
  no_sense = 0x0,
  not_ready = 0x2,
  medium_error = 0x3,
  hardware_error = 0x4,
  illegal_request = 0x5,
  unit_attention = 0x6,
  data_protect = 0x7,
};

// Sense key with additional sense code and qualifier: SPC-4, 4.5.
struct sense {
  sense_key key = sense_key::no_sense;
  std::uint8_t code = 0;
  std::uint8_t qualifier = 0;

  friend constexpr bool operator==(const sense&, const sense&) noexcept = default;
};
inline constexpr sense no_sense{};
inline constexpr sense write_error{sense_key::medium_error, 0x0c, 0x00};
inline constexpr sense unrecovered_read_error{sense_key::medium_error, 0x11, 0x00};
inline constexpr sense parameter_list_length_error{sense_key::illegal_request, 0x1a, 0x00};
inline constexpr sense invalid_command_operation_code{sense_key::illegal_request, 0x20, 0x00};
inline constexpr sense lba_out_of_range{sense_key::illegal_request, 0x21, 0x00};
inline constexpr sense invalid_field_in_cdb{sense_key::illegal_request, 0x24, 0x00};
inline constexpr sense logical_unit_not_supported{sense_key::illegal_request, 0x25, 0x00};
inline constexpr sense invalid_field_in_parameter_list{sense_key::illegal_request, 0x26, 0x00};
inline constexpr sense write_protected{sense_key::data_protect, 0x27, 0x00};
inline constexpr sense space_allocation_failed{sense_key::data_protect, 0x27, 0x07};
inline constexpr sense power_on{sense_key::unit_attention, 0x29, 0x00};
inline constexpr sense bus_device_reset{sense_key::unit_attention, 0x29, 0x03};
inline constexpr sense capacity_data_has_changed{sense_key::unit_attention, 0x2a, 0x09};
inline constexpr sense saving_parameters_not_supported{sense_key::illegal_request, 0x39, 0x00};
inline constexpr sense reported_luns_data_has_changed{sense_key::unit_attention, 0x3f, 0x0e};

inline constexpr std::size_t fixed_sense_bytes = 18;

// Fixed format, current error: SPC-4, 4.5.3.
[[nodiscard]] constexpr std::array<std::byte, fixed_sense_bytes> fixed_sense(
    const sense& s) noexcept {
  std::array<std::byte, fixed_sense_bytes> bytes{};
  bytes[0] = std::byte{0x70};
  bytes[2] = static_cast<std::byte>(s.key);
  bytes[7] = std::byte{fixed_sense_bytes - 8};
  bytes[12] = static_cast<std::byte>(s.code);
  bytes[13] = static_cast<std::byte>(s.qualifier);
  return bytes;
}

// The `bytes` bytes at `offset`, at most 8.
[[nodiscard]] constexpr std::uint64_t get_be(std::span<const std::byte> from, std::size_t offset,
                                             std::size_t bytes) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i != bytes; ++i) {
    value = value << 8 | static_cast<std::uint8_t>(from[offset + i]);
  }
  return value;
}
constexpr void put_be(std::span<std::byte> to, std::size_t offset, std::size_t bytes,
                      std::uint64_t value) noexcept {
  for (std::size_t i = bytes; i != 0; --i) {
    to[offset + i - 1] = static_cast<std::byte>(value);
    value >>= 8;
  }
}

inline constexpr std::size_t max_cdb_bytes = 32;
using cdb = std::array<std::byte, max_cdb_bytes>;

}  // namespace phasebit::virtio::scsi
