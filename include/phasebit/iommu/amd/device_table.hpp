// SPDX-License-Identifier: BSL-1.0
// AMD's device table, as layouts of a device table.
#pragma once

#include <phasebit/iommu/amd/spec/tables.hpp>
#include <phasebit/iommu/device_table/layout.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::amd {

using linear_device_table = linear_table<device_table_entry>;
static_assert(DeviceTableLayout<linear_device_table>);

}  // namespace phasebit::iommu::amd
