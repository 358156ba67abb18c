// SPDX-License-Identifier: BSL-1.0
// PCI functions through Linux's vfio.
#pragma once

#include <phasebit/backend/vfio/dma_pool.hpp>
#include <phasebit/backend/vfio/dma_space.hpp>
#include <phasebit/backend/vfio/function.hpp>
#include <phasebit/backend/vfio/hot_reset.hpp>
#include <phasebit/backend/vfio/interrupts.hpp>
#include <phasebit/backend/vfio/iommu_group.hpp>
#include <phasebit/backend/vfio/open.hpp>
#include <phasebit/backend/vfio/regions.hpp>
#include <phasebit/backend/vfio/virtual_functions.hpp>
