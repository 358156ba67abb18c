// SPDX-License-Identifier: BSL-1.0
// Scalable mode and first-stage tables against intel-iommu of QEMU 11.
#include <interop/iommu/vtd_scalable_machine.hpp>

namespace {

using namespace phasebit_test;

TEST_CASE_TEMPLATE_INVOKE(iommu_end_to_end, vtd_first_stage_machine);
TEST_CASE_TEMPLATE_INVOKE(iommu_permissions, vtd_first_stage_machine);
TEST_CASE_TEMPLATE_INVOKE(iommu_stale, vtd_first_stage_machine);
TEST_CASE_TEMPLATE_INVOKE(iommu_domains, vtd_first_stage_machine);
TEST_CASE_TEMPLATE_INVOKE(iommu_resize, vtd_first_stage_machine);

}  // namespace

TEST_CASE(
    "QEMU's VT-d marks the first-stage pages that a disk writes to, and read_dirty reports them") {
  using machine = vtd_first_stage_machine;
  rig<machine> r;
  must(r.unit().enable());
  domain<machine> d{r, 7};
  probe<machine> disk{r, d, 0, queues_at};
  target place{r, 0x8000};
  for (std::uint64_t page = 0; page != 8; ++page) {
    // No page continues the one before.
    d.map(free_at + page * 0x1000, place.at() + (7 - page) * 0x1000, 0x1000);
  }
  d.flush();
  const auto written = [&] {
    std::array<std::byte, 1> bits{};
    iommu::dirty_bitmap<bus_space> bitmap{bits, bus_addr{free_at}, 12};
    must(d.tables().read_dirty(bus_addr{free_at}, 0x8000, bitmap, d.changes()));
    d.flush();
    return std::to_integer<unsigned>(bits[0]);
  };
  static_cast<void>(written());
  disk.write_to(free_at + 0x2000, 3);
  disk.write_to(free_at + 0x5000, 4);
  CHECK(disk.read_from(free_at + 0x6000) == target{r}.first());
  CHECK(written() == 0x24);
  CHECK(written() == 0);
  disk.write_to(free_at + 0x5000, 5);
  CHECK(written() == 0x20);
  CHECK(r.faults().empty());
  d.unmap(free_at, 0x8000);
  d.flush();
}
