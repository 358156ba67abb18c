// SPDX-License-Identifier: BSL-1.0
// The bitmap that page_table::read_dirty() fills.
#pragma once

#include <phasebit/memory/dirty_bitmap.hpp>

namespace phasebit::iommu {

using phasebit::dirty_bitmap;

}  // namespace phasebit::iommu
