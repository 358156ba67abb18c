// SPDX-License-Identifier: BSL-1.0
// The block device: virtio 1.3, section 5.2.
#pragma once

#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::virtio::blk {

// Feature bits (5.2.3), as masks.
namespace feature {

inline constexpr std::uint64_t size_max = 1ULL << 1;
inline constexpr std::uint64_t seg_max = 1ULL << 2;
inline constexpr std::uint64_t geometry = 1ULL << 4;
inline constexpr std::uint64_t ro = 1ULL << 5;
inline constexpr std::uint64_t blk_size = 1ULL << 6;
inline constexpr std::uint64_t flush = 1ULL << 9;
inline constexpr std::uint64_t topology = 1ULL << 10;
inline constexpr std::uint64_t config_wce = 1ULL << 11;
inline constexpr std::uint64_t mq = 1ULL << 12;
inline constexpr std::uint64_t discard = 1ULL << 13;
inline constexpr std::uint64_t write_zeroes = 1ULL << 14;
inline constexpr std::uint64_t lifetime = 1ULL << 15;
inline constexpr std::uint64_t secure_erase = 1ULL << 16;
inline constexpr std::uint64_t zoned = 1ULL << 17;

}  // namespace feature

// All of the protocol counts in sectors, whatever the block size is (5.2.4).
inline constexpr std::uint32_t sector_bytes = 512;
inline constexpr unsigned sector_shift = 9;

// 5.2.4: the configuration space, without the zoned part.
struct config {
  le<std::uint64_t> capacity;
  le<std::uint32_t> size_max;
  le<std::uint32_t> seg_max;
  struct {
    le<std::uint16_t> cylinders;
    std::uint8_t heads;
    std::uint8_t sectors;
  } geometry;
  le<std::uint32_t> blk_size;
  struct {
    std::uint8_t physical_block_exp;
    std::uint8_t alignment_offset;
    le<std::uint16_t> min_io_size;
    le<std::uint32_t> opt_io_size;
  } topology;
  std::uint8_t writeback;
  std::uint8_t unused0;
  le<std::uint16_t> num_queues;
  le<std::uint32_t> max_discard_sectors;
  le<std::uint32_t> max_discard_seg;
  le<std::uint32_t> discard_sector_alignment;
  le<std::uint32_t> max_write_zeroes_sectors;
  le<std::uint32_t> max_write_zeroes_seg;
  std::uint8_t write_zeroes_may_unmap;
  std::uint8_t unused1[3];
  le<std::uint32_t> max_secure_erase_sectors;
  le<std::uint32_t> max_secure_erase_seg;
  le<std::uint32_t> secure_erase_sector_alignment;
};
static_assert(WireStruct<config> && sizeof(config) == 72);
static_assert(offsetof(config, geometry) == 16 && offsetof(config, blk_size) == 20 &&
              offsetof(config, topology) == 24 && offsetof(config, writeback) == 32 &&
              offsetof(config, num_queues) == 34 && offsetof(config, max_discard_sectors) == 36 &&
              offsetof(config, max_write_zeroes_sectors) == 48 &&
              offsetof(config, max_secure_erase_sectors) == 60);

// 5.2.6: the type of a request.
enum class request_type : std::uint32_t {
  in = 0,
  out = 1,
  flush = 4,
  get_id = 8,
  get_lifetime = 10,
  discard = 11,
  write_zeroes = 13,
  secure_erase = 14,
};

// 5.2.6: the first 16 bytes of a request, read by the device. Data and one status byte follow.
struct request_header {
  le<std::uint32_t> type;
  le<std::uint32_t> reserved;
  le<std::uint64_t> sector;
};
static_assert(WireStruct<request_header> && sizeof(request_header) == 16);
static_assert(offsetof(request_header, sector) == 8);

// 5.2.6: a range of discard, write zeroes and secure erase.
struct range_segment {
  le<std::uint64_t> sector;
  le<std::uint32_t> num_sectors;
  le<std::uint32_t> flags;
};
static_assert(WireStruct<range_segment> && sizeof(range_segment) == 16);
inline constexpr std::uint32_t range_flag_unmap = 1;

// 5.2.6: the last byte of a request, written by the device.
enum class request_status : std::uint8_t { ok = 0, io_error = 1, unsupported = 2 };

// The answer to request_type::get_id: a string, without a zero at the end where it is that long.
inline constexpr std::uint32_t id_bytes = 20;

}  // namespace phasebit::virtio::blk
