// SPDX-License-Identifier: BSL-1.0
// Scalable mode and first-stage tables against intel-iommu of QEMU 11.
#include <array>
#include <cstddef>
#include <cstdint>

#include <interop/iommu/vtd_scalable_machine.hpp>

namespace {

using namespace phasebit_test;

TEST_CASE_TEMPLATE_INVOKE(iommu_end_to_end, vtd_first_stage_machine);
TEST_CASE_TEMPLATE_INVOKE(iommu_permissions, vtd_first_stage_machine);
TEST_CASE_TEMPLATE_INVOKE(iommu_domains, vtd_first_stage_machine);

struct vtd_dirty_machine : vtd_first_stage_machine {
  static format_type format(const unit& u) {
    format_type f = u.first_stage();
    f.track_dirty = true;
    return f;
  }
};

// The specification (3.6.1, 9.7) has a write set D of the leaf whatever its A is. Our leaves have A from the start, and
// QEMU 11 sets D only together with A: where one of the two is there already, it writes neither. QEMU's own correction
// ("Always write all the flags passed to vtd_set_flag_in_pte") is later than 11.1.3.
TEST_CASE("QEMU sets the dirty bit of a first-stage page at the first access, and later never") {
  using format = iommu::x86_first_stage;
  rig<vtd_dirty_machine> r;
  must(r.unit().enable());
  domain<vtd_dirty_machine> d{r, 7};
  probe<vtd_dirty_machine> disk{r, d, 0, queues_at};
  target place{r, 0x1000};
  const std::uint64_t iova = free_at;
  d.map(iova, place.at(), 0x1000);
  const auto entry = [&] { return d.tables().lookup(bus_addr{iova}).entry; };
  const auto has = [&](std::uint64_t bit) { return (entry() & bit) != 0; };
  const auto clear_accessed = [&] {
    iommu::table_word* const word = d.find_entry(entry());
    REQUIRE(word != nullptr);
    *word &= ~format::accessed_bit;
    d.flush_all();
  };
  CHECK(has(format::accessed_bit));
  CHECK_FALSE(has(format::dirty_bit));

  disk.write_to(iova, 3);
  CHECK(place.holds(disk.block(3)));
  CHECK_FALSE(has(format::dirty_bit));  // expected of QEMU alone

  // Without A: a read sets A, a write both.
  clear_accessed();
  static_cast<void>(disk.read_from(iova));
  CHECK(has(format::accessed_bit));
  CHECK_FALSE(has(format::dirty_bit));
  clear_accessed();
  disk.write_to(iova, 4);
  CHECK(has(format::accessed_bit));
  CHECK(has(format::dirty_bit));
  // Our reader reports it, and clears it.
  std::array<std::byte, 1> bits{};
  iommu::dirty_bitmap<bus_space> bitmap{bits, bus_addr{iova}, 12};
  CHECK(must(d.tables().read_dirty(bus_addr{iova}, 0x1000, bitmap, d.changes())) == 1);
  CHECK(bits[0] == std::byte{1});
  d.flush();
  CHECK_FALSE(has(format::dirty_bit));
  CHECK(r.faults().empty());
}

}  // namespace
