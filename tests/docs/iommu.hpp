// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/iommu.md take for granted.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/phasebit.hpp>

#include <array>

using namespace phasebit;
using namespace phasebit::literals;

extern dma_region memory;
extern iommu::invalidations<bus_space> changes;
extern bus_addr iova;
extern host_phys target, root;
extern std::uint16_t domain_id;
extern pcie::requester_id requester;
