// SPDX-License-Identifier: BSL-1.0
// The simulated machine's memory as an IOMMU reaches it: its tables, its rings, its records.
#pragma once

#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/page_table/table_memory.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::backend::simulated {

// A view of the address map: exact to 64 bytes, like all DMA of the machine. Any thread.
class iommu_memory {
 public:
  using space = host_space;
  using from = host_space;
  using to = local_space;

  explicit iommu_memory(const address_map& map) noexcept : map_(&map) {}

  [[nodiscard]] result<segment<local_space>> translate(host_phys at, std::uint64_t bytes,
                                                       access wanted) const noexcept {
    return map_->translate(at, bytes, wanted);
  }
  // TableReader: whole and aligned to words, or nothing.
  [[nodiscard]] iommu::table_word* find(host_phys at, std::size_t bytes) const noexcept {
    const auto piece = map_->translate(at, bytes, access::read_write);
    if (!piece || piece->bytes != bytes || !is_aligned(piece->begin, 8)) return nullptr;
    return reinterpret_cast<iommu::table_word*>(pointer_of(piece->begin));
  }

 private:
  const address_map* map_;
};
static_assert(iommu::TableReader<iommu_memory>);
static_assert(iommu::QueueMemory<iommu_memory>);

}  // namespace phasebit::backend::simulated
