// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/amd/device_table.hpp>
#include <phasebit/iommu/amd/fault_codec.hpp>
#include <phasebit/iommu/amd/translation.hpp>
#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/fault/fault_queue.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/device_table.hpp>
#include <phasebit/iommu/riscv/fault_codec.hpp>
#include <phasebit/iommu/riscv/translation.hpp>
#include <phasebit/iommu/smmuv3/device_table.hpp>
#include <phasebit/iommu/smmuv3/fault_codec.hpp>
#include <phasebit/iommu/smmuv3/translation.hpp>
#include <phasebit/iommu/translation/remapper.hpp>
#include <phasebit/iommu/vtd/device_table.hpp>
#include <phasebit/iommu/vtd/device_table_scalable.hpp>
#include <phasebit/iommu/vtd/fault_registers.hpp>
#include <phasebit/iommu/vtd/translation.hpp>

#include <cstddef>
#include <cstdint>

using namespace phasebit;
using namespace phasebit::iommu;

namespace {

alignas(1 << 16) constinit std::byte memory[32 << 12]{};
using arena = table_arena<32>;

template <class Architecture, class Faults>
std::uint64_t use(const Architecture& settings, arena& tables, Faults& faults, std::uint64_t a,
                  std::uint32_t id, std::uint32_t data) {
  remapper<Architecture, arena, Faults, remapper_caches{8, 8, 2, 8}> iommu{tables, faults,
                                                                           settings};
  const pcie::requester_id who{static_cast<std::uint16_t>(id)};
  const auto part = iommu.translate(who, bus_addr{a}, 64, access::write);
  const auto with = iommu.translate({who, a, access::read, true, data}, 64);
  const auto message = iommu.remap_interrupt(who, {bus_addr{0xfee0'0000}, data});
  command c = command::whole_domain(static_cast<std::uint16_t>(data));
  iommu.apply(c);
  c.by_range = true;
  c.last = a;
  iommu.apply(c);
  iommu.apply(command::one_device(id));
  iommu.apply(command::interrupt_entries(0, data));
  return (part ? part->begin.value() : 0) + (with ? with->begin.value() : 0) +
         (message ? message->data : 0);
}

template <class Layout>
std::uint64_t set(const Layout& layout, const typename Layout::entry& e, std::uint32_t id) {
  arena tables{memory, host_phys{0x8000'0000}};
  auto made = device_table<Layout, arena>::create(layout, tables);
  if (!made) return 1;
  std::uint64_t asked = 0;
  if (!made->set(id, e, [&]() noexcept { ++asked; })) return 2;
  return asked + made->get(id).words[0].get();
}

template <class Format>
std::uint64_t queue(const translation_fault& fault) {
  arena tables{memory, host_phys{0x8000'0000}};
  fault_queue<Format, arena> faults{tables};
  faults.enable({0x8000'0000, 4});
  faults.record(fault);
  fault_queue_reader<Format, arena> reader{tables, {0x8000'0000, 4}};
  const auto read = reader.next(faults.producer());
  return read ? read->address : 0;
}

}  // namespace

extern "C" std::uint64_t use_vtd_remapper(std::uint64_t a, std::uint32_t id, std::uint32_t data) {
  arena tables{memory, host_phys{0x8000'0000}};
  vtd::fault_registers<4> faults;
  vtd::remapping settings;
  settings.enabled = settings.remap_interrupts = true;
  settings.mode = static_cast<vtd::table_mode>(data & 3);
  const std::uint64_t sum = use(settings, tables, faults, a, id, data);
  faults.write32(12, data);
  return sum + faults.read32(0) + faults.status().raw + faults.take_event().has_value();
}
extern "C" std::uint64_t use_amd_remapper(std::uint64_t a, std::uint32_t id, std::uint32_t data) {
  arena tables{memory, host_phys{0x8000'0000}};
  fault_queue<amd::event_log_format, arena> faults{tables};
  amd::remapping settings;
  settings.enabled = true;
  settings.wide_interrupts = (data & 1) != 0;
  return use(settings, tables, faults, a, id, data);
}
extern "C" std::uint64_t use_smmu_remapper(std::uint64_t a, std::uint32_t id, std::uint32_t data) {
  arena tables{memory, host_phys{0x8000'0000}};
  fault_queue<smmuv3::event_queue_format, arena> faults{tables};
  smmuv3::remapping settings;
  settings.enabled = true;
  settings.split = data & 15;
  return use(settings, tables, faults, a, id, data);
}
extern "C" std::uint64_t use_riscv_remapper(std::uint64_t a, std::uint32_t id, std::uint32_t data) {
  arena tables{memory, host_phys{0x8000'0000}};
  fault_queue<riscv::fault_queue_format, arena> faults{tables};
  riscv::remapping settings;
  settings.mode = static_cast<riscv::directory_mode>(data & 7);
  settings.msi_flat = (data & 8) != 0;
  return use(settings, tables, faults, a, id, data);
}
extern "C" std::uint64_t use_device_tables(std::uint32_t id, std::uint64_t root) {
  return set(vtd::legacy_tables{}, vtd::context_entry::translated(root, vtd_width::bits_48, 1),
             id) +
         set(vtd::scalable_tables{}, vtd::scalable_context_entry::with_directory(root, 1), id) +
         set(vtd::pasid_tables{}, vtd::pasid_entry::second_stage(root, vtd_width::bits_48, 1), id) +
         set(amd::linear_device_table{.log2_entries = 10},
             amd::device_table_entry::translated(root, 4, 1), id) +
         set(smmuv3::two_level_stream_table{},
             smmuv3::stream_table_entry::translated({.root = root}), id) +
         set(riscv::extended_directory{},
             riscv::device_context::translated(root, riscv_mode::sv39x4, 1), id);
}
extern "C" std::uint64_t use_fault_queues(std::uint64_t a, std::uint32_t reason) {
  translation_fault fault;
  fault.reason = static_cast<fault_reason>(reason);
  fault.address = a;
  return queue<amd::event_log_format>(fault) + queue<smmuv3::event_queue_format>(fault) +
         queue<riscv::fault_queue_format>(fault);
}
