// SPDX-License-Identifier: BSL-1.0
// A PCIe fabric in this process, with devices that fail by plan. See docs/simulated.md.
#pragma once

#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/backend/simulated/bar.hpp>
#include <phasebit/backend/simulated/completion_faults.hpp>
#include <phasebit/backend/simulated/config_view.hpp>
#include <phasebit/backend/simulated/device_model.hpp>
#include <phasebit/backend/simulated/device_port.hpp>
#include <phasebit/backend/simulated/dma_fault.hpp>
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/emulated_iommu.hpp>
#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/backend/simulated/fabric_clock.hpp>
#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/backend/simulated/function.hpp>
#include <phasebit/backend/simulated/function_description.hpp>
#include <phasebit/backend/simulated/interrupts.hpp>
#include <phasebit/backend/simulated/iommu_bar.hpp>
#include <phasebit/backend/simulated/nvme_disk.hpp>
#include <phasebit/backend/simulated/remapping_iommu.hpp>
