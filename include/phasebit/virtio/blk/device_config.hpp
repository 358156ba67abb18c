// SPDX-License-Identifier: BSL-1.0
// Features and configuration space of a block device, made from its media and options.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/virtio/spec/blk.hpp>
#include <phasebit/virtio/spec/features.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace phasebit::virtio::blk {

struct device_options {
  // Data of GET_ID, at most 20 bytes; the remaining bytes are zeros.
  std::string_view id{"phasebit", 8};
  std::uint16_t queues = 1;
  // Segments of data in one request. A request slot has places for them.
  std::uint32_t max_segments = 126;
  std::uint32_t max_range_sectors = 0x40'0000;  // of one discard or write zeroes range: 2 GiB
  std::uint32_t max_ranges = 16;
  bool read_only = false;
  bool discard = true;
  bool write_zeroes = true;
  // Physical blocks of 2^n logical blocks, and the preferred sizes in logical blocks; 0: unknown.
  std::uint8_t physical_block_exp = 0;
  std::uint16_t min_io_blocks = 0;
  std::uint32_t opt_io_blocks = 0;
};

// The features of the device type that such a device offers, to be joined with those of the rings.
template <block::AsyncBlockMedia Media>
[[nodiscard]] constexpr std::uint64_t device_features(const Media& media,
                                                      const device_options& o) noexcept {
  std::uint64_t bits = feature::seg_max | feature::geometry | feature::blk_size | feature::flush |
                       feature::topology | feature::config_wce;
  const bool protect = o.read_only || block::read_only(media);
  if (protect) bits |= feature::ro;
  if (o.queues > 1) bits |= feature::mq;
  if (o.discard && !protect) bits |= feature::discard;
  if (o.write_zeroes && !protect) bits |= feature::write_zeroes;
  return bits;
}

// The configuration space. The writeback field is 1: a cache that FLUSH empties.
template <block::AsyncBlockMedia Media>
[[nodiscard]] constexpr config make_config(const Media& media, const device_options& o) noexcept {
  config c{};
  const unsigned per_block = block::block_shift(media) - sector_shift;
  const std::uint64_t sectors = media.block_count() << per_block;
  c.capacity = sectors;
  c.seg_max = o.max_segments;
  // 255 heads of 63 sectors, as disks of this kind have always reported.
  constexpr std::uint32_t per_cylinder = 255U * 63U;
  c.geometry.cylinders =
      sectors >= std::uint64_t{0xffff} * per_cylinder
          ? std::uint16_t{0xffff}
          : static_cast<std::uint16_t>(static_cast<std::uint32_t>(sectors) / per_cylinder);
  c.geometry.heads = 255;
  c.geometry.sectors = 63;
  c.blk_size = media.block_size();
  c.topology.physical_block_exp = o.physical_block_exp;
  c.topology.min_io_size = o.min_io_blocks;
  c.topology.opt_io_size = o.opt_io_blocks;
  c.writeback = 1;
  c.num_queues = o.queues;
  const std::uint32_t alignment = 1U << per_block;
  if (o.discard) {
    c.max_discard_sectors = o.max_range_sectors;
    c.max_discard_seg = o.max_ranges;
    c.discard_sector_alignment = alignment;
  }
  if (o.write_zeroes) {
    c.max_write_zeroes_sectors = o.max_range_sectors;
    c.max_write_zeroes_seg = o.max_ranges;
    c.write_zeroes_may_unmap = 1;
  }
  return c;
}

}  // namespace phasebit::virtio::blk
