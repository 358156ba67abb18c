// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/iommu.md.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/phasebit.hpp>

#include <array>

using namespace phasebit;
using namespace phasebit::literals;

extern std::span<std::byte> memory;
extern iommu::invalidations<bus_space> changes;
extern bus_addr iova;
extern host_phys target;
extern std::uint64_t root;
extern iommu::vtd_width width;
extern std::uint16_t domain_number;
extern pcie::requester_id disk;
using tables_type = iommu::table_arena<1024>;
extern tables_type tables;
extern result<iommu::page_table<iommu::vtd_second_stage, tables_type>> domain;

using bar_type = pcie::mapped_bar;
using host_type = backend::simulated::function;
extern bar_type registers;
extern host_type host;

using doorbell = pcie::mmio_doorbell;
using head = iommu::mmio_command_head<pcie::mapped_bar>;
extern std::span<std::byte> ring_memory;
extern doorbell tail_register;
extern head head_register;
extern le<std::uint32_t>* word;
extern std::uint64_t word_address;
