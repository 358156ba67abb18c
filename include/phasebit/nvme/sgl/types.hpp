// SPDX-License-Identifier: BSL-1.0
// Scatter gather lists: data blocks of any length at any address, in segments of 16-byte descriptors
// (NVMe Base 2.0, section 4.1.2).
#pragma once

#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/nvme/prp/types.hpp>
#include <phasebit/nvme/spec/sgl_descriptor.hpp>

#include <cstdint>

namespace phasebit::nvme::sgl {

// The result of a list, as for PRPs.
using prp::build_result;

// Where descriptors may be written: contiguous for processor and device, aligned to 8 bytes (a
// segment is a "Qword aligned data structure"), at least 32 bytes; what is beyond the last whole
// descriptor is not used.
using segment_memory = dma_region;

using prp::lists_of;
using prp::ListSource;
using prp::no_more_lists;

inline constexpr std::size_t descriptor_bytes = sizeof(sgl_descriptor);

// The lists that a controller accepts, as its SGLS field reports, and the limit on descriptors to
// read.
struct limits {
  access wanted = access::write;         // what the device does with the data: write for a read
  std::uint32_t max_descriptors = 4096;  // in all segments; what bounds a list that never ends
  bool longer_than_data = false;         // SGLS bit 18: the list may describe more than is moved
  std::uint64_t metadata_bytes = 0;      // that the device moves at MPTR; rewrite() alone asks
  bool dword_granularity = false;        // SGLS bits 1:0 = 10b: addresses and lengths in dwords
};

}  // namespace phasebit::nvme::sgl
