// SPDX-License-Identifier: BSL-1.0
// The whole library except hosted/, which needs fmt and Boost. Whoever cares for compile time
// includes the headers of the rooms instead; each stands alone.
#pragma once

#include <phasebit/backend/posix/memory_mapping.hpp>
#include <phasebit/backend/posix/os_error.hpp>
#include <phasebit/backend/posix/steady_clock.hpp>
#include <phasebit/backend/posix/stream.hpp>
#include <phasebit/backend/posix/unique_fd.hpp>
#include <phasebit/backend/qtest.hpp>
#include <phasebit/backend/qtest/bar.hpp>
#include <phasebit/backend/qtest/board.hpp>
#include <phasebit/backend/qtest/config.hpp>
#include <phasebit/backend/qtest/connection.hpp>
#include <phasebit/backend/qtest/function.hpp>
#include <phasebit/backend/qtest/interrupts.hpp>
#include <phasebit/backend/qtest/launch.hpp>
#include <phasebit/backend/qtest/machine.hpp>
#include <phasebit/backend/qtest/options.hpp>
#include <phasebit/backend/qtest/process.hpp>
#include <phasebit/backend/qtest/ram.hpp>
#include <phasebit/backend/simulated.hpp>
#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/backend/simulated/bar.hpp>
#include <phasebit/backend/simulated/bus_node.hpp>
#include <phasebit/backend/simulated/completion_faults.hpp>
#include <phasebit/backend/simulated/config_view.hpp>
#include <phasebit/backend/simulated/device_model.hpp>
#include <phasebit/backend/simulated/device_port.hpp>
#include <phasebit/backend/simulated/dma_fault.hpp>
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/backend/simulated/fabric_clock.hpp>
#include <phasebit/backend/simulated/fabric_state.hpp>
#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/backend/simulated/function.hpp>
#include <phasebit/backend/simulated/function_description.hpp>
#include <phasebit/backend/simulated/function_node.hpp>
#include <phasebit/backend/simulated/interrupts.hpp>
#include <phasebit/backend/simulated/model_node.hpp>
#include <phasebit/backend/simulated/msix_model.hpp>
#include <phasebit/backend/simulated/nvme_disk.hpp>
#include <phasebit/backend/simulated/ticket_lock.hpp>
#include <phasebit/freestanding.hpp>
