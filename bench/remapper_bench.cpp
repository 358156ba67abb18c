// SPDX-License-Identifier: BSL-1.0
// The cost of an emulated IOMMU per access, warm: requester ID, device entry, cached translation.
// As many functions as the argument, each in a domain of its own, send requests in turn.
#include <phasebit/iommu/amd/translation.hpp>
#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/translation.hpp>
#include <phasebit/iommu/smmuv3/translation.hpp>
#include <phasebit/iommu/translation/remapper.hpp>
#include <phasebit/iommu/vtd/translation.hpp>

#include <cstdlib>
#include <memory>
#include <type_traits>

#include <benchmark/benchmark.h>

namespace {

using namespace phasebit;
using namespace phasebit::iommu;

struct vtd_machine {
  using architecture = vtd::remapping;
  using format = vtd_second_stage;
  static constexpr format pages{};
  static constexpr vtd::legacy_tables layout{};
  static auto entry(std::uint64_t root, std::uint16_t domain) {
    return vtd::context_entry::translated(root, pages.width, domain);
  }
  static architecture settings(std::uint64_t root) {
    architecture a;
    a.enabled = true;
    a.root = root;
    return a;
  }
};

struct amd_machine {
  using architecture = amd::remapping;
  using format = amd_v1;
  static constexpr format pages{};
  static constexpr amd::linear_device_table layout{.log2_entries = 12};
  static auto entry(std::uint64_t root, std::uint16_t domain) {
    return amd::device_table_entry::translated(root, pages.mode, domain);
  }
  static architecture settings(std::uint64_t root) {
    architecture a;
    a.enabled = true;
    a.device_table = root;
    a.size_field = 31;
    return a;
  }
};

struct smmuv3_machine {
  using architecture = smmuv3::remapping;
  using format = arm_stage2<12>;
  static constexpr format pages{};
  static constexpr smmuv3::two_level_stream_table layout{};
  static auto entry(std::uint64_t root, std::uint16_t domain) {
    return smmuv3::stream_table_entry::translated(smmuv3::stage2_of(pages, root, domain));
  }
  static architecture settings(std::uint64_t root) {
    architecture a;
    a.enabled = true;
    a.stream_table = root;
    a.split = layout.split;
    return a;
  }
};

struct riscv_machine {
  using architecture = riscv::remapping;
  using format = riscv_second_stage;
  static constexpr format pages{};
  static constexpr riscv::extended_directory layout{riscv::directory_mode::three_levels};
  static auto entry(std::uint64_t root, std::uint16_t domain) {
    return riscv::device_context::translated(root, pages.mode, domain);
  }
  static architecture settings(std::uint64_t root) {
    architecture a;
    a.mode = layout.mode;
    a.directory = root;
    return a;
  }
};

struct no_faults {
  void record(const translation_fault&) noexcept { std::abort(); }
};

// One page table serves all, for a warm access reads none; domains, device entries and cached
// translations are each function's own.
template <class Machine>
void functions(benchmark::State& state) {
  constexpr std::size_t table_pages = 1024;
  using arena_type = table_arena<table_pages>;
  constexpr remapper_caches caches{.devices = 4096, .sets = 4096, .ways = 4};
  using remapper_type = remapper<typename Machine::architecture, arena_type, no_faults, caches>;

  std::unique_ptr<std::byte, decltype(&std::free)> bytes{
      static_cast<std::byte*>(std::aligned_alloc(1 << 17, table_pages << 12)), &std::free};
  arena_type arena{{bytes.get(), table_pages << 12}, host_phys{1ULL << 33}};
  auto pages = page_table<typename Machine::format, arena_type>::create(Machine::pages, arena);
  auto devices = device_table<std::remove_cvref_t<decltype(Machine::layout)>, arena_type>::create(
      Machine::layout, arena);
  if (!pages || !devices) std::abort();
  if (!pages->map(bus_addr{0x1000}, host_phys{0x5000}, 0x1000)) std::abort();
  const auto count = static_cast<std::uint32_t>(state.range(0));
  for (std::uint32_t id = 0; id != count; ++id) {
    const auto entry = Machine::entry(pages->root().value(), static_cast<std::uint16_t>(id + 1));
    if (!devices->set(id, entry)) std::abort();
  }
  no_faults faults;
  auto unit =
      std::make_unique<remapper_type>(arena, faults, Machine::settings(devices->root().value()));

  const auto access_of = [&](std::uint32_t id) {
    return unit->translate(pcie::requester_id{static_cast<std::uint16_t>(id)},
                           bus_addr{0x1000 + (id & 511)}, 512, access::write);
  };
  for (std::uint32_t id = 0; id != count; ++id) {
    if (!access_of(id)) std::abort();
  }
  std::uint32_t id = 0;
  for (auto _ : state) {
    const auto part = access_of(id);
    benchmark::DoNotOptimize(part->begin.value());
    if (++id == count) id = 0;
  }
  state.SetItemsProcessed(state.iterations());
}

#define PHASEBIT_MACHINE(name)   \
  BENCHMARK(functions<name>)     \
      ->Name("translate/" #name) \
      ->ArgName("functions")     \
      ->RangeMultiplier(8)       \
      ->Range(1, 4096)

PHASEBIT_MACHINE(vtd_machine);
PHASEBIT_MACHINE(amd_machine);
PHASEBIT_MACHINE(smmuv3_machine);
PHASEBIT_MACHINE(riscv_machine);

}  // namespace
