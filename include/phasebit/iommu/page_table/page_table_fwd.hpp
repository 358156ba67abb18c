// SPDX-License-Identifier: BSL-1.0
// Forward declarations of page-table views.
#pragma once

#include <phasebit/iommu/page_table/page_format.hpp>
#include <phasebit/iommu/page_table/table_memory.hpp>

namespace phasebit::iommu {

template <PageTableFormat Format, TableReader Tables, class From = bus_space>
class page_table_view;

}  // namespace phasebit::iommu
