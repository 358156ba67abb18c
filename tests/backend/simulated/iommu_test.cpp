// SPDX-License-Identifier: BSL-1.0
// An NVMe driver whose every DMA goes through page tables that lie in the simulated machine.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/nvme/driver/controller.hpp>

#include <cstring>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::literals;
namespace sim = phasebit::backend::simulated;

namespace {

using arena = iommu::table_arena<64>;
using table = iommu::page_table<iommu::vtd_second_stage, arena>;

// A function whose memory is mapped by tables, as a kernel does for a driver behind an IOMMU.
class mapped_function : public sim::function {
 public:
  mapped_function(const sim::function& f, table& tables) noexcept
      : sim::function(f), tables_(&tables) {}

  result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    const std::size_t pages = align_up(bytes, std::size_t{4096});
    const auto memory = sim::function::allocate(pages, alignment < 4096 ? 4096 : alignment);
    if (!memory) return memory;
    const bus_addr iova = align_up_to(next_, alignment);
    if (const auto mapped = tables_->map(iova, host_phys{memory->bus.value()}, pages); !mapped) {
      return mapped.error();
    }
    next_ = iova + pages;
    regions_.push_back({iova, *memory});
    return dma_region{memory->bytes.first(bytes), iova};
  }
  void release(dma_region region) noexcept {
    for (auto& r : regions_) {
      if (r.iova != region.bus || r.memory.size() == 0) continue;
      CHECK(tables_->unmap(r.iova, r.memory.size()));
      sim::function::release(r.memory);
      r.memory = {};
    }
  }

 private:
  struct entry {
    bus_addr iova;
    dma_region memory;
  };
  static bus_addr align_up_to(bus_addr a, std::size_t alignment) noexcept {
    return bus_addr{align_up(a.value(), std::uint64_t{alignment < 4096 ? 4096 : alignment})};
  }

  table* tables_;
  bus_addr next_{0x1000};
  std::vector<entry> regions_;
};
static_assert(PcieBackend<mapped_function>);

}  // namespace

TEST_CASE("an NVMe disk works through VT-d tables, and stops at what they do not map") {
  std::vector<std::byte> bytes(1_MiB);
  for (std::size_t i = 0; i != bytes.size(); ++i) bytes[i] = std::byte(i * 13 + i / 4096);
  block::memory_media media{bytes};
  sim::fabric fabric;
  auto disk = *sim::add_nvme_disk(fabric, media);

  const auto store = *fabric.memory().allocate(256_KiB, 64_KiB);
  arena tables_memory{store.bytes, host_phys{store.bus.value()}};
  auto tables = table::create({}, tables_memory);
  REQUIRE(tables);
  sim::one_table_remapper remapper{*tables};
  sim::remapped_path path{remapper, fabric.address_map()};
  fabric.set_dma_path(&path);

  mapped_function function{disk, *tables};
  {
    auto host = nvme::driver::controller<mapped_function>::attach(function);
    REQUIRE(host);
    auto queue = *host->create_queue_pair<unsigned>({.depth = 8});
    const auto data = *function.allocate(64_KiB, 4096);
    CHECK(data.bus.value() < 0x100'0000);
    const auto read = [&] {
      REQUIRE(queue.read({.nsid = 1, .lba = 16, .blocks = 128}, data, 0));
      queue.ring();
      nvme::driver::completion answer;
      REQUIRE(poll_until(function.clock(), 1'000'000'000, [&]() noexcept {
        return queue.poll([&](unsigned&, nvme::driver::completion c) noexcept { answer = c; }) != 0;
      }));
      return answer;
    };
    CHECK(read().ok());
    CHECK(std::memcmp(data.data(), bytes.data() + 16 * 512, data.size()) == 0);
    CHECK(fabric.dma_faults().count() == 0);

    // A page is taken away, another made read-only: the device is stopped at both.
    const bus_addr hole = data.bus + 0x5000;
    REQUIRE(tables->unmap(hole, 4096));
    CHECK_FALSE(read().ok());
    CHECK(*fabric.dma_faults().take() ==
          sim::dma_fault{disk.id(), hole, phasebit::access::write, errc::not_mapped});
    REQUIRE(tables->map(hole, host_phys{store.bus.value()} + 128_KiB, 4096,
                        {.permission = phasebit::access::read}));
    CHECK_FALSE(read().ok());
    CHECK(*fabric.dma_faults().take() ==
          sim::dma_fault{disk.id(), hole, phasebit::access::write, errc::access_denied});
  }
  fabric.set_dma_path(nullptr);
}
