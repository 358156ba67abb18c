// SPDX-License-Identifier: BSL-1.0
// QEMU's device models as a backend: independent NVMe, virtio and IOMMU models, driven without a
// guest. See docs/qtest.md.
#pragma once

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
