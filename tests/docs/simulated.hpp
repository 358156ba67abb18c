// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/simulated.md.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/vtd/driver.hpp>
#include <phasebit/nvme/driver.hpp>

#include <array>
#include <vector>

namespace sim = phasebit::backend::simulated;

struct model {
  model(const sim::device_port&, phasebit::block::memory_media&) noexcept;
  std::uint32_t read32(std::uint32_t) noexcept;
  void write32(std::uint32_t, std::uint32_t) noexcept;
  unsigned poll() noexcept;
  void reset() noexcept;
};
extern sim::fabric fabric;
extern sim::nvme_options options;
extern sim::port port;
extern std::array<phasebit::block::memory_media, 64> media;
inline auto make = [](const sim::device_port& p) noexcept { return model{p, media[0]}; };

using table_type = phasebit::iommu::page_table<phasebit::iommu::vtd_second_stage,
                                               phasebit::iommu::table_arena<64>>;
extern table_type table, page_tables;
extern phasebit::iommu::table_arena<64> tables;
extern phasebit::result<sim::function> disk;
extern std::uint16_t domain;
extern phasebit::dma_region page;
