// SPDX-License-Identifier: BSL-1.0
// Firmware that drives an IOMMU: each of the four kinds.
#include <phasebit/core/align.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/iommu/amd/driver.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/driver.hpp>
#include <phasebit/iommu/smmuv3/driver.hpp>
#include <phasebit/iommu/vtd/driver.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>

#include <cstddef>
#include <cstdint>

using namespace phasebit;
using namespace phasebit::iommu;
using namespace phasebit::literals;

namespace {

std::uint32_t timer = 0;
struct ticks {
  std::uint64_t now() noexcept { return mmio_load<std::uint32_t>(&timer); }
  void relax() noexcept {}
};
static_assert(PollClock<ticks>);

struct board : static_arena<64_KiB> {
  using ring_order = device_order;
  ticks clock() noexcept { return {}; }
};
static_assert(driver::DriverHost<board>);

using tables = table_arena<64>;

template <class Unit>
bool drive(pcie::mapped_bar bar, tables& pages, board& host) noexcept {
  auto unit = Unit::open(bar, pages, host);
  if (!unit || !unit->enable()) return false;
  auto space = page_table<decltype(unit->format()), tables>::create(unit->format(), pages);
  if (!space) return false;
  invalidations<bus_space> changes;
  const pcie::requester_id disk{1, 0, 0};
  bool good = space->map(bus_addr{0x1000'0000}, host_phys{0x8000'0000}, 2_MiB).has_value() &&
              unit->attach(disk, 1, space->view()).has_value() &&
              space->unmap(bus_addr{0x1000'0000}, 2_MiB, changes).has_value() &&
              unit->flush(1, changes.ranges()).has_value();
  space->complete(changes);
  for (;;) {
    const auto fault = unit->next_fault();
    if (!fault) break;
    if (fault->requester == disk) good = false;
  }
  return unit->detach(disk).has_value() && good;
}

}  // namespace

extern "C" bool use_units(unsigned kind, pcie::mapped_bar& bar, tables& pages, board& host) {
  switch (kind) {
    case 0:
      return drive<vtd::driver<pcie::mapped_bar, tables, board>>(bar, pages, host);
    case 1:
      return drive<amd::driver<pcie::mapped_bar, tables, board>>(bar, pages, host);
    case 2:
      return drive<smmuv3::driver<12, pcie::mapped_bar, tables, board>>(bar, pages, host);
    default:
      return drive<riscv::driver<pcie::mapped_bar, tables, board>>(bar, pages, host);
  }
}
