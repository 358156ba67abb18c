// SPDX-License-Identifier: BSL-1.0
// ATS and PRI from a device model to an emulated IOMMU and back.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/smmuv3/driver.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/pcie/spec/address_translation.hpp>

#include <atomic>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::literals;
namespace sim = phasebit::backend::simulated;
namespace smmuv3 = phasebit::iommu::smmuv3;

namespace {

using tables = iommu::table_arena<128>;
using page_tables = iommu::page_table<iommu::arm_stage2<12>, tables>;
using smmu_driver = smmuv3::driver<12, sim::smmuv3_iommu::bar_type, tables, sim::function>;
using media_type = block::memory_media;

constexpr std::uint16_t domain = 3;

void enable_ats(sim::function& function, bool on = true) {
  auto config = function.config();
  const auto at =
      pcie::find_capability(config, pcie::extended_capability_id::address_translation_services);
  REQUIRE(at);
  config.write16(static_cast<std::uint16_t>(*at + pcie::ats::control),
                 pcie::ats_control{}.with(pcie::ats_control::enable, on).raw);
}

// A fabric with an SMMUv3 in front of one of its ports.
struct machine {
  sim::fabric fabric;
  sim::port port = *fabric.add_port(1);
  sim::smmuv3_iommu smmu{fabric, port};
  dma_region tables_memory = *fabric.memory().allocate(128 << 12, 16 << 12);
  tables arena{tables_memory.bytes, host_phys{tables_memory.bus.value()}};
  std::optional<smmu_driver> driver;
  std::optional<page_tables> pages;

  // Of any function behind the port: the driver's memory and time.
  void open(sim::function& host) {
    auto opened = smmu_driver::open(smmu.bar(), arena, host);
    REQUIRE(opened);
    driver.emplace(std::move(*opened));
    REQUIRE(driver->enable());
    auto bar = smmu.bar();
    bar.write32(smmuv3::cr0::offset,
                bar.read32(smmuv3::cr0::offset) | smmuv3::cr0::atschk.of<std::uint32_t>(true));
    auto made = page_tables::create(driver->format(), arena);
    REQUIRE(made);
    pages.emplace(std::move(*made));
  }
  void attach(pcie::requester_id who) { REQUIRE(driver->attach(who, domain, pages->view())); }
  // Lets the function that uses our tables use ATS: its stream table entry is looked for in memory.
  void permit_ats(pcie::requester_id who) {
    using ste = smmuv3::stream_table_entry;
    bool found = false;
    for (std::size_t at = 0; at + 64 <= tables_memory.size(); at += 64) {
      auto* const words = reinterpret_cast<iommu::table_word*>(tables_memory.data() + at);
      const auto e = iommu::load_entry_words<ste>(words);
      if (!e[ste::v] || e[ste::config] != smmuv3::stream_config::stage2 ||
          e.address(ste::s2ttb) != pages->root().value()) {
        continue;
      }
      found = true;
      iommu::replace_entry(words, e.with(ste::eats, 1), [&]() noexcept {
        CHECK(driver->run(iommu::command::one_device(who.raw())));
      });
    }
    REQUIRE(found);
  }
  void map(std::uint64_t iova, bus_addr at, std::uint64_t bytes) {
    REQUIRE(pages->map(bus_addr{iova}, host_phys{at.value()}, bytes));
  }
  // The order of 10.3: the tables, the IOMMU's caches, the function's cache, and a wait.
  result<> forget(pcie::requester_id who, std::uint64_t iova, std::uint64_t bytes) {
    REQUIRE(pages->unmap(bus_addr{iova}, bytes));
    if (auto done = driver->flush_domain(domain); !done) return done;
    return driver->run(iommu::command::device_tlb(who.raw(), iova, iova + bytes - 1));
  }
};

// A function whose memory is mapped by tables: all of the machine's memory, at other addresses.
class mapped_function : public sim::function {
 public:
  static constexpr std::uint64_t offset = 0x10'0000'0000;

  mapped_function(const sim::function& f, machine& m) noexcept : sim::function(f), machine_(&m) {}

  result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    const std::size_t pages = align_up(bytes, std::size_t{4096});
    auto memory = sim::function::allocate(pages, alignment < 4096 ? 4096 : alignment);
    if (!memory) return memory;
    const std::uint64_t iova = memory->bus.value() - offset;
    machine_->map(iova, memory->bus, pages);
    return dma_region{memory->bytes.first(bytes), bus_addr{iova}};
  }
  void release(dma_region region) noexcept {
    const std::size_t pages = align_up(region.size(), std::size_t{4096});
    CHECK(machine_->pages->unmap(region.bus, pages));
    sim::function::release(
        {std::span{region.data(), pages}, bus_addr{region.bus.value() + offset}});
  }

 private:
  machine* machine_;
};

using nvme_driver = nvme::driver::controller<mapped_function>;

// An NVMe disk with ATS behind the SMMU.
struct nvme_behind_ats : machine {
  std::vector<std::byte> bytes = std::vector<std::byte>(1_MiB);
  media_type media{bytes};
  std::optional<sim::nvme_disk<media_type>> disk;
  std::optional<mapped_function> function;

  nvme_behind_ats() {
    for (std::size_t i = 0; i != bytes.size(); ++i) bytes[i] = std::byte(i / 512 + 1);
    sim::nvme_options options{.device = 0};
    auto d = sim::describe_nvme(options);
    d.pci.ats = pcie::ats_description{};
    using set = nvme::device::single_namespace<media_type>;
    auto made = fabric.add(port, d, [&](const sim::device_port& p) noexcept {
      return sim::nvme_model<set>{p, set{media}, options.controller};
    });
    REQUIRE(made);
    disk.emplace(*made);
    open(*disk);
    function.emplace(*disk, *this);
    attach(disk->id());
    permit_ats(disk->id());
    enable_ats(*disk);
  }
};

struct reader {
  mapped_function& function;
  nvme_driver host = *nvme_driver::attach(function, {.io_queues = 1});
  nvme_driver::io_queue<unsigned> queue = *host.create_queue_pair<unsigned>({.depth = 8});

  // Reads block `lba` to a bus address.
  bool read(std::uint64_t lba, dma_region to) {
    bool good = false;
    if (!queue.read({.nsid = 1, .lba = lba, .blocks = 1}, to, 0)) return false;
    queue.ring();
    return poll_until(function.clock(), 10'000'000'000,
                      [&]() noexcept {
                        return queue.poll([&](unsigned&, nvme::driver::completion c) noexcept {
                          good = c.ok();
                        }) != 0;
                      }) &&
           good;
  }
};

// A device that reads and writes words at the addresses in its registers, and requests missing
// pages. Registers: 0 and 4 address, 8 command (1 load, 2 store, 3 load and request the page), 0xc
// state.
struct pager {
  explicit pager(const sim::device_port& port) noexcept : dma(port.dma()) {}
  std::uint32_t read32(std::uint32_t offset) noexcept { return offset == 0xc ? state : 0; }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    if (offset == 0) address = (address >> 32 << 32) | value;
    if (offset == 4) address = (address & 0xffff'ffff) | std::uint64_t{value} << 32;
    if (offset == 8) start(value);
    if (offset == 0x10) attributed = dma.with_pasid(value);
    if (offset == 0x14) attributed = dma.translated();
  }
  void start(std::uint32_t command) noexcept {
    sim::dma_port& port = attributed ? *attributed : dma;
    state = port.translate(bus_addr{address}, 4, command == 2 ? access::write : access::read)
                ? done
                : failed;
    if (command != 3 || state == done) return;
    const auto asked = port.request_page(bus_addr{address}, access::read);
    state = asked ? waiting : refused;
    if (asked) group = *asked;
  }
  unsigned poll() noexcept {
    if (state != waiting) return 0;
    const auto outcome = dma.page_outcome(group);
    if (outcome == iommu::pri_outcome::open) return 0;
    dma.close_page_group(group);
    state = outcome != iommu::pri_outcome::ready                ? refused
            : dma.translate(bus_addr{address}, 4, access::read) ? done
                                                                : failed;
    return 1;
  }
  void reset() noexcept { state = 0; }

  static constexpr std::uint32_t done = 1;
  static constexpr std::uint32_t failed = 2;
  static constexpr std::uint32_t waiting = 3;
  static constexpr std::uint32_t refused = 4;

  sim::dma_port dma;
  std::optional<sim::dma_port> attributed;
  std::uint64_t address = 0;
  std::uint32_t state = 0;
  std::uint16_t group = 0;
};

sim::function_description pager_description() {
  sim::function_description d;
  d.pci = {.vendor_id = 0x5042, .device_id = 3, .class_code = 0xff0000};
  d.pci.express = pcie::express_description{};
  d.pci.ats = pcie::ats_description{};
  d.pci.page_requests = pcie::page_request_description{.capacity = 4};
  d.pci.pasid = pcie::pasid_description{};
  d.pci.bars[0] = {pcie::bar_kind::memory64, 0x1000};
  return d;
}

struct pager_machine : machine {
  sim::device<pager> device = *fabric.add(
      port, pager_description(), [](const sim::device_port& p) noexcept { return pager{p}; });
  sim::simulated_bar bar = *device.map_bar(0);
  pager_machine() { open(device); }

  std::uint32_t run(std::uint64_t address, std::uint32_t command) {
    bar.write64_lo_hi(0, address);
    bar.write32(8, command);
    return bar.read32(0xc);
  }
};

}  // namespace

TEST_CASE("an NVMe disk behind ATS works with translated requests") {
  nvme_behind_ats m;
  reader r{*m.function};
  const auto page = *m.function->allocate(4096, 4096);
  for (unsigned i = 0; i != 20; ++i) {
    REQUIRE(r.read(i, page.subregion(0, 512)));
    CHECK(page.bytes[100] == std::byte(i + 1));
  }
  CHECK(m.fabric.dma_faults().count() == 0);
  CHECK_FALSE(m.driver->next_fault());
  // The IOMMU has forgotten everything; the function's own cache goes on.
  REQUIRE(m.pages->unmap(page.bus, 4096));
  REQUIRE(m.driver->flush_domain(domain));
  CHECK(r.read(1, page.subregion(0, 512)));
  REQUIRE(m.driver->run(
      iommu::command::device_tlb(m.disk->id().raw(), page.bus.value(), page.bus.value() + 4095)));
  CHECK_FALSE(r.read(1, page.subregion(0, 512)));
  const auto fault = m.driver->next_fault();
  REQUIRE(fault);
  CHECK(fault->address == page.bus.value());
  m.map(page.bus.value(), bus_addr{page.bus.value() + mapped_function::offset}, 4096);
  CHECK(r.read(2, page.subregion(0, 512)));
  m.function->release(page);
}

TEST_CASE("invalidations are answered under load, and nothing is written to a page afterwards") {
  nvme_behind_ats m;
  const auto one = *m.fabric.memory().allocate(4096, 4096);
  const auto two = *m.fabric.memory().allocate(4096, 4096);
  constexpr std::uint64_t iova = 0x40'0000;
  const dma_region target{one.bytes.first(512), bus_addr{iova}};
  m.map(iova, one.bus, 4096);
  reader r{*m.function};
  std::atomic<bool> stop{false};
  std::atomic<unsigned> reads{0};
  REQUIRE(m.fabric.start(2));
  // Reads end well, or with a transfer error while the page is not mapped.
  std::thread load{[&] {
    while (!stop) {
      if (r.read(reads % 100, target)) ++reads;
    }
  }};
  unsigned disturbed = 0;
  unsigned invalidations = 0;
  for (unsigned round = 0; round != 40; ++round) {
    const auto& now = round % 2 == 0 ? one : two;
    const auto& next = round % 2 == 0 ? two : one;
    const unsigned before = reads;
    for (unsigned i = 0; i != 10'000 && reads < before + 3; ++i) std::this_thread::yield();
    if (m.forget(m.disk->id(), iova, 4096)) ++invalidations;
    std::memset(now.data(), 0xee, 4096);
    m.map(iova, next.bus, 4096);
    const unsigned after = reads;
    for (unsigned i = 0; i != 10'000 && reads < after + 3; ++i) std::this_thread::yield();
    for (const std::byte b : now.bytes) disturbed += b != std::byte{0xee} ? 1U : 0U;
  }
  stop = true;
  load.join();
  m.fabric.stop();
  CHECK(invalidations == 40);
  CHECK(disturbed == 0);
  CHECK(reads > 40);
}

TEST_CASE("translated requests are refused from functions that may not use ATS") {
  pager_machine m;
  const auto page = *m.fabric.memory().allocate(4096, 4096);
  m.map(0x5000, page.bus, 4096);
  m.attach(m.device.id());
  CHECK(m.run(0x5000, 1) == pager::done);
  // Without EATS translation requests are unsupported, and ATS goes off in the function.
  enable_ats(m.device);
  CHECK(m.run(0x5000, 1) == pager::done);
  m.bar.write32(0x14, 0);
  CHECK(m.run(page.bus.value(), 1) == pager::failed);
  CHECK(m.driver->next_fault());
  CHECK(m.fabric.dma_faults().take()->reason == errc::access_denied);
  m.permit_ats(m.device.id());
  CHECK(m.run(page.bus.value(), 1) == pager::done);
}

TEST_CASE("a function that does not answer an invalidation costs a time-out, and an error") {
  pager_machine m;
  const auto page = *m.fabric.memory().allocate(4096, 4096);
  m.map(0x5000, page.bus, 4096);
  m.attach(m.device.id());
  m.permit_ats(m.device.id());
  enable_ats(m.device);
  CHECK(m.run(0x5000, 1) == pager::done);
  m.device.remove();
  CHECK_FALSE(m.forget(m.device.id(), 0x5000, 4096));
}

TEST_CASE("a missing page is requested, mapped by the driver, and used") {
  pager_machine m;
  m.attach(m.device.id());
  m.permit_ats(m.device.id());
  const auto memory = *m.fabric.memory().allocate(4096, 4096);
  // Page requests of the function and the SMMU's queue for them.
  auto config = m.device.config();
  const auto pri = pcie::find_capability(config, pcie::extended_capability_id::page_request);
  REQUIRE(pri);
  const auto at = [&](unsigned offset) { return static_cast<std::uint16_t>(*pri + offset); };
  CHECK(m.run(0x7000, 3) == pager::refused);  // off
  config.write32(at(pcie::page_request::allocation), 4);
  config.write16(at(pcie::page_request::control), 1);
  const auto queue = *m.fabric.memory().allocate(4096, 4096);
  auto smmu = m.smmu.bar();
  smmu.write64_lo_hi(smmuv3::priq_base_offset, queue.bus.value() | 4);
  smmu.write32(0x50, 2);  // IRQ_CTRL.PRIQ_IRQEN
  smmu.write32(smmuv3::cr0::offset,
               smmu.read32(smmuv3::cr0::offset) | smmuv3::cr0::priqen.of<std::uint32_t>(true));
  const auto next = [&]() -> std::optional<iommu::pri_request> {
    const std::uint32_t consumer = smmu.read32(smmuv3::priq_cons_offset);
    if ((smmu.read32(smmuv3::priq_prod_offset) & 31) == (consumer & 31)) return std::nullopt;
    const auto record = iommu::load_entry_words<smmuv3::page_request_record>(
        reinterpret_cast<iommu::table_word*>(queue.data() + (consumer & 15) * 16));
    smmu.write32(smmuv3::priq_cons_offset, (consumer + 1) & 31);
    return record.request();
  };
  const auto answer = [&](const iommu::pri_request& request, iommu::page_response_code code) {
    return m.driver->run(iommu::command::respond(request.requester.raw(), request.group(), code));
  };

  CHECK(m.run(0x7abc, 3) == pager::waiting);
  CHECK(m.smmu.page_request_event().poll());
  auto request = next();
  REQUIRE(request);
  CHECK(request->requester == m.device.id());
  CHECK(request->body.address() == 0x7000);
  CHECK(request->body[iommu::pri_body::r]);
  CHECK_FALSE(request->body[iommu::pri_body::w]);
  CHECK(request->last());
  CHECK_FALSE(next());
  m.map(0x7000, memory.bus, 4096);
  REQUIRE(answer(*request, iommu::page_response_code::success));
  m.fabric.settle();
  CHECK(m.bar.read32(0xc) == pager::done);

  // Refused, answered twice, and answered without a request.
  CHECK(m.run(0x9000, 3) == pager::waiting);
  request = next();
  REQUIRE(answer(*request, iommu::page_response_code::invalid_request));
  m.fabric.settle();
  CHECK(m.bar.read32(0xc) == pager::refused);
  REQUIRE(answer(*request, iommu::page_response_code::success));
  m.fabric.settle();
  CHECK(pcie::page_request_status{
      config.read16(at(pcie::page_request::status))}[pcie::page_request_status::unexpected_group]);

  // A function that keeps asking has 4 requests in flight at most, so the queue does not overflow.
  for (unsigned i = 0; i != 20; ++i) {
    static_cast<void>(m.run(0x1'0000 + i * 0x1000, 3));
    m.fabric.settle();
  }
  CHECK((smmu.read32(smmuv3::priq_prod_offset) & 0x8000'0000) == 0);
}

TEST_CASE("each port has an IOMMU of its own, or the fabric's") {
  sim::fabric fabric;
  const auto first = *fabric.add_port(1);
  const auto second = *fabric.add_port(2);
  const auto make = [](const sim::device_port& p) noexcept { return pager{p}; };
  auto a = *fabric.add(first, pager_description(), make);
  auto b = *fabric.add(second, pager_description(), make);
  const auto page = *fabric.memory().allocate(4096, 4096);
  const auto reaches = [&](sim::function f) {
    auto bar = *f.map_bar(0);
    bar.write64_lo_hi(0, page.bus.value());
    bar.write32(8, 1);
    return bar.read32(0xc) == pager::done;
  };
  CHECK(reaches(a));
  CHECK(reaches(b));
  {
    // A RISC-V IOMMU lets nothing through after a reset.
    sim::riscv_iommu iommu{fabric, second};
    CHECK(reaches(a));
    CHECK_FALSE(reaches(b));
    CHECK(fabric.dma_faults().take()->requester == b.id());
    sim::riscv_iommu remaining{fabric};
    CHECK_FALSE(reaches(a));
  }
  CHECK(reaches(a));
  CHECK(reaches(b));
}

TEST_CASE("requests carry their PASID and the translated flag to the path") {
  struct recorder final : sim::dma_path {
    explicit recorder(const sim::address_map& m) noexcept : map(&m) {}
    [[nodiscard]] result<segment<local_space>> translate(const sim::dma_request& request,
                                                         std::uint64_t bytes) noexcept override {
      last = request;
      return map->translate(host_phys{request.address.value()}, bytes, request.wanted);
    }
    const sim::address_map* map;
    sim::dma_request last{};
  };
  sim::fabric fabric;
  const auto port = *fabric.add_port(3);
  auto device = *fabric.add(port, pager_description(),
                            [](const sim::device_port& p) noexcept { return pager{p}; });
  recorder path{fabric.address_map()};
  fabric.set_dma_path(port, &path);
  const auto page = *fabric.memory().allocate(4096, 4096);
  auto bar = *device.map_bar(0);
  const auto run = [&] {
    bar.write64_lo_hi(0, page.bus.value());
    bar.write32(8, 2);
    return bar.read32(0xc);
  };
  CHECK(run() == pager::done);
  CHECK(path.last.requester == device.id());
  CHECK(path.last.wanted == access::write);
  CHECK_FALSE(path.last.pasid);
  CHECK_FALSE(path.last.translated);
  bar.write32(0x10, 0x1234);
  CHECK(run() == pager::failed);  // the capability is off
  CHECK(fabric.dma_faults().take()->reason == errc::not_ready);
  auto config = device.config();
  const auto pasid = pcie::find_capability(config, pcie::extended_capability_id::pasid);
  REQUIRE(pasid);
  config.write16(static_cast<std::uint16_t>(*pasid + pcie::pasid::control), 1);
  CHECK(run() == pager::done);
  CHECK(path.last.pasid == 0x1234U);
  bar.write32(0x14, 0);
  CHECK(run() == pager::done);
  CHECK(path.last.translated);
  fabric.set_dma_path(port, nullptr);
}

TEST_CASE("a model that takes long holds up no other function") {
  struct slow {
    std::atomic<bool>* inside;
    std::atomic<bool>* release;
    std::uint32_t read32(std::uint32_t) noexcept { return 0; }
    void write32(std::uint32_t, std::uint32_t) noexcept { armed = true; }
    unsigned poll() noexcept {
      if (!armed) return 0;
      armed = false;
      *inside = true;
      while (!*release) std::this_thread::yield();
      return 1;
    }
    void reset() noexcept {}
    bool armed = false;
  };
  std::atomic<bool> inside{false};
  std::atomic<bool> release{false};
  sim::fabric fabric;
  sim::function_description d{.device = 1};
  d.pci = {.vendor_id = 0x5042, .device_id = 4, .class_code = 0xff0000};
  d.pci.bars[0] = {pcie::bar_kind::memory64, 0x1000};
  auto blocked = *fabric.add(d, [&](const sim::device_port&) noexcept {
    return slow{&inside, &release};
  });
  std::vector<std::byte> bytes(1_MiB);
  media_type media{bytes};
  auto disk = *sim::add_nvme_disk(fabric, media);
  sim::function f = disk;
  REQUIRE(fabric.start(2));
  (*blocked.map_bar(0)).write32(0, 1);
  while (!inside) std::this_thread::yield();
  // A whole controller comes up and reads a block meanwhile.
  auto host = nvme::driver::controller<sim::function>::attach(f, {.io_queues = 1});
  REQUIRE(host);
  auto queue = *host->create_queue_pair<unsigned>({.depth = 4});
  const auto page = *f.allocate(4096, 4096);
  REQUIRE(queue.read({.nsid = 1, .lba = 0, .blocks = 1}, page.subregion(0, 512), 0));
  queue.ring();
  CHECK(poll_until(f.clock(), 60'000'000'000, [&]() noexcept {
    return queue.poll([](unsigned&, nvme::driver::completion) noexcept {}) != 0;
  }));
  CHECK_FALSE(release);
  release = true;
  fabric.stop();
}
