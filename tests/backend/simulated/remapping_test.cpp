// SPDX-License-Identifier: BSL-1.0
// Simulated disks behind the tables of four architectures: I/O, stale translations, faults,
// interrupts, and damaged tables.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/iommu/fault/fault_queue.hpp>
#include <phasebit/nvme/driver/controller.hpp>

#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <iommu/remapper_cases.hpp>

using namespace phasebit;
using namespace phasebit::iommu;
using namespace phasebit::literals;
using namespace phasebit::remapper_cases;
namespace sim = phasebit::backend::simulated;

namespace {

using arena_type = table_arena<256>;

// A machine with a disk behind tables of one architecture, all of which lie in its memory.
template <class Case, class Faults = fault_history<>>
struct world {
  using pages_type = page_table<typename Case::format, arena_type>;
  using devices_type = device_table<typename Case::layout, arena_type>;
  static constexpr std::uint16_t domain = 77;
  static constexpr std::uint64_t iova = 0x1000'0000;

  std::vector<std::byte> contents = std::vector<std::byte>(1_MiB);
  block::memory_media media{contents};
  sim::fabric fabric;
  sim::function disk = *sim::add_nvme_disk(fabric, media);
  dma_region store = *fabric.memory().allocate(256 << 12, 1 << 17);
  std::unique_ptr<arena_type> arena =
      std::make_unique<arena_type>(store.bytes, host_phys{store.bus.value()});
  pages_type pages = *pages_type::create(Case::page_format, *arena);
  devices_type devices = *devices_type::create(Case::tables, *arena);
  Faults faults;
  sim::remapping_iommu<typename Case::architecture, Faults> iommu{
      fabric, faults, Case::settings(devices.root().value())};

  world() {
    for (std::size_t i = 0; i != contents.size(); ++i) contents[i] = std::byte(i * 13 + i / 4096);
    REQUIRE(devices.set(disk.id().raw(), Case::entry(pages.root().value(), domain)));
  }
  void apply(const command& c) {
    iommu.with([&](auto& r) noexcept { r.apply(c); });
  }
  table_word* words(std::uint64_t at) {
    return reinterpret_cast<table_word*>(store.data() + (at - store.bus.value()));
  }
};

// The disk with its memory at other addresses.
template <class World>
class behind : public sim::function {
 public:
  explicit behind(World& w) noexcept : sim::function(w.disk), world_(&w) {}
  result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    const std::size_t size = align_up(bytes, std::size_t{4096});
    const auto memory = sim::function::allocate(size, alignment < 4096 ? 4096 : alignment);
    if (!memory) return memory;
    const bus_addr at{align_up(next_, std::uint64_t{alignment < 4096 ? 4096 : alignment})};
    if (auto m = world_->pages.map(at, host_phys{memory->bus.value()}, size); !m) return m.error();
    next_ = at.value() + size + 4096;
    return dma_region{memory->bytes.first(bytes), at};
  }
  void release(dma_region) noexcept {}  // gone with the machine

 private:
  World* world_;
  std::uint64_t next_ = World::iova;
};

// A driver of the disk with one queue.
template <class World>
struct driver {
  using backend = behind<World>;
  using controller = nvme::driver::controller<backend>;
  backend function;
  std::optional<controller> host;
  std::optional<typename controller::template io_queue<unsigned>> queue;

  explicit driver(World& w) : function(w) {
    auto made = controller::attach(function, {.io_queues = 1});
    REQUIRE_MESSAGE(made, made.error().what);
    host.emplace(std::move(*made));
    auto q = host->template create_queue_pair<unsigned>({.depth = 8});
    REQUIRE(q);
    queue.emplace(std::move(*q));
  }
  nvme::driver::completion read(const dma_region& data, std::uint64_t lba = 16) {
    const auto blocks = static_cast<std::uint32_t>(data.size() / 512);
    REQUIRE(queue->read({.nsid = 1, .lba = lba, .blocks = blocks}, data, 0));
    queue->ring();
    nvme::driver::completion answer;
    REQUIRE(poll_until(function.clock(), 10'000'000'000, [&]() noexcept {
      return queue->poll([&](unsigned&, nvme::driver::completion c) noexcept { answer = c; }) != 0;
    }));
    return answer;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("a disk reads and writes through tables of every architecture", Case, vtd_legacy,
                   amd_linear, smmu_two_level, smmu_linear, riscv_extended, riscv_base) {
  world<Case> w;
  driver<world<Case>> d{w};
  const auto data = *d.function.allocate(64_KiB, 4096);
  CHECK(d.read(data).ok());
  CHECK(std::memcmp(data.data(), w.contents.data() + 16 * 512, data.size()) == 0);
  CHECK(w.faults.count() == 0);

  // A page is unmapped; the device keeps the translation until it is invalidated.
  const bus_addr hole = data.bus + 0x5000;
  REQUIRE(w.pages.unmap(hole, 4096));
  std::memset(data.data(), 0, data.size());
  CHECK(d.read(data).ok());
  CHECK(std::memcmp(data.data(), w.contents.data() + 16 * 512, data.size()) == 0);
  command one = command::whole_domain(w.domain);
  one.by_range = true;
  one.first = hole.value();
  one.last = hole.value() + 4095;
  w.apply(one);
  const auto failed = d.read(data);
  CHECK(failed.status() == nvme::status_code::data_transfer_error);
  CHECK(w.faults.last().reason == fault_reason::not_mapped);
  CHECK(w.faults.last().requester == w.disk.id());
  CHECK(w.faults.last().address == hole.value());
  CHECK(w.faults.last().wanted == phasebit::access::write);
  CHECK(*w.fabric.dma_faults().take() ==
        sim::dma_fault{w.disk.id(), hole, phasebit::access::write, errc::not_mapped});

  // The other addresses of the disk still work.
  CHECK(d.read({data.bytes.first(0x5000), data.bus}).ok());
}

TEST_CASE_TEMPLATE("another function has tables of its own, or none", Case, vtd_legacy,
                   smmu_two_level, riscv_extended) {
  world<Case> w;
  const auto stranger = *w.fabric.memory().allocate(4096, 4096);
  driver<world<Case>> d{w};
  block::memory_media media{w.contents};
  auto other = *sim::add_nvme_disk(w.fabric, media, {.device = 5});
  // A driver that ignores the IOMMU: its queues are out of reach.
  auto attached = nvme::driver::controller<sim::function>::attach(other, {.io_queues = 1});
  CHECK_FALSE(attached);
  CHECK(w.faults.last().requester == other.id());
  const auto reason = w.faults.last().reason;
  CHECK((reason == fault_reason::entry_absent || reason == fault_reason::link_absent));
  const auto data = *d.function.allocate(4096, 4096);
  CHECK(d.read(data).ok());
  CHECK(stranger.bytes[0] == std::byte{});
}

TEST_CASE("the fault registers and event rings of an IOMMU hold what happened") {
  SUBCASE("VT-d") {
    world<vtd_legacy, vtd::fault_registers<4>> w;
    driver<decltype(w)> d{w};
    const auto data = *d.function.allocate(4096, 4096);
    REQUIRE(w.pages.unmap(data.bus, 4096));
    CHECK_FALSE(d.read(data).ok());
    CHECK(w.faults.status()[vtd::fsts::ppf]);
    CHECK(w.faults.read32(0) == static_cast<std::uint32_t>(data.bus.value()));
    CHECK((w.faults.read32(12) & 0xff) == 5);
    CHECK((w.faults.read32(8) & 0xffff) == w.disk.id().raw());
  }
  SUBCASE("AMD, in the machine's own memory") {
    world<amd_linear> outer;  // the ring needs the fabric before it is made
    sim::physical_port port{outer.fabric.address_map()};
    using system_memory = phasebit::iommu::device::system_memory<sim::physical_port>;
    system_memory memory{port};
    const auto log = *outer.fabric.memory().allocate(4096, 4096);
    fault_queue<amd::event_log_format, system_memory> queue{memory};
    const fault_ring ring{log.bus.value(), 8};
    queue.enable(ring);
    auto f = translation_fault{.requester = outer.disk.id(),
                               .reason = fault_reason::no_write,
                               .wanted = phasebit::access::write,
                               .domain = 3,
                               .address = 0x5000};
    queue.record(f);
    fault_queue_reader<amd::event_log_format, system_memory> reader{memory, ring};
    const auto read = reader.next(queue.producer());
    REQUIRE(read);
    f.code = static_cast<std::uint16_t>(amd::event_code::io_page_fault);
    CHECK(*read == f);
    CHECK_FALSE(reader.next(queue.producer()));
    CHECK(log.bytes[0] == std::byte(outer.disk.id().raw()));
  }
}

namespace {

void set_message(sim::function& f, const pcie::msi_message& message) {
  REQUIRE(f.set_message(0, message));
  CHECK(f.set_message(f.interrupt_vectors(), message).error().code == errc::out_of_range);
}

// Its completion is vector 0's, as every admin command's.
template <class World>
void admin_command(driver<World>& d) {
  REQUIRE(d.host->identify_namespace(1));
}

}  // namespace

TEST_CASE(
    "VT-d remaps a disk's interrupts, refuses those without an entry, and obeys invalidations") {
  world<vtd_legacy> w;
  const auto table = *w.arena->allocate(4096);
  w.iommu.with([&](auto& r) noexcept {
    auto s = r.settings();
    s.remap_interrupts = true;
    s.interrupt_table = table.at.value();
    s.log2_interrupts = 8;
    r.set(s);
  });
  REQUIRE(w.disk.enable_interrupts(2));
  driver<decltype(w)> d{w};
  // Compatibility format is blocked.
  static_cast<void>(w.disk.poll_interrupt(0));
  admin_command(d);
  CHECK_FALSE(w.disk.poll_interrupt(0));
  CHECK(w.faults.last().code == 0x25);

  set_message(w.disk, {bus_addr{vtd::remappable_address::of(9, false).raw}, 0});
  admin_command(d);
  CHECK(w.faults.last().code == 0x22);
  CHECK(w.faults.last().address == 9);
  CHECK(w.fabric.dma_faults().count() != 0);
  // Entry 9 makes it vector 1.
  replace_entry(table.words + 18, vtd::interrupt_entry::fixed(1, 0, w.disk.id().raw()),
                []() noexcept {});
  admin_command(d);
  CHECK(w.disk.poll_interrupt(1));
  CHECK_FALSE(w.disk.poll_interrupt(0));
  table.words[18] = 0;
  admin_command(d);
  CHECK(w.disk.poll_interrupt(1));
  w.apply(command::all_interrupt_entries());
  admin_command(d);
  CHECK_FALSE(w.disk.poll_interrupt(1));
}

TEST_CASE("AMD remaps a disk's interrupts by the table of its own entry") {
  world<amd_linear> w;
  const auto table = *w.arena->allocate(4096);
  REQUIRE(w.devices.set(
      w.disk.id().raw(),
      amd_linear::entry(w.pages.root().value(), w.domain).with_interrupts(table.at.value(), 5),
      [&]() noexcept { w.apply(command::all_devices()); }));
  REQUIRE(w.disk.enable_interrupts(2));
  driver<decltype(w)> d{w};
  set_message(w.disk, {bus_addr{0xfee0'0000}, 7});
  admin_command(d);
  CHECK(w.faults.last().interrupt);
  CHECK(w.faults.last().reason == fault_reason::interrupt_absent);
  table.words[3] = std::uint64_t{amd::interrupt_entry::fixed(1, 0).raw} << 32;
  admin_command(d);
  CHECK(w.disk.poll_interrupt(1));
}

TEST_CASE("a RISC-V MSI table sends a disk's interrupt to memory that the driver polls") {
  world<riscv_extended> w;
  const auto table = *w.arena->allocate(4096);
  const auto file = *w.fabric.memory().allocate(4096, 4096);
  REQUIRE(w.devices.set(w.disk.id().raw(),
                        riscv_extended::entry(w.pages.root().value(), w.domain)
                            .with_msi_table(table.at.value(), 0x3, 0x28000),
                        [&]() noexcept { w.apply(command::all_devices()); }));
  replace_entry(table.words + 2 * 2, riscv::msi_entry::to_file(file.bus.value()), []() noexcept {});
  REQUIRE(w.disk.enable_interrupts(1));
  driver<decltype(w)> d{w};
  set_message(w.disk, {bus_addr{0x2800'2010}, 0x2a});
  admin_command(d);
  CHECK(file.bytes[0x10] == std::byte{0x2a});
  set_message(w.disk, {bus_addr{0x2800'1010}, 0x2a});
  admin_command(d);
  CHECK(w.faults.last().code == 262);
}

TEST_CASE_TEMPLATE(
    "tables full of anything end in faults, and the disk's other memory is untouched", Case,
    vtd_legacy, amd_linear, smmu_two_level, riscv_extended) {
  world<Case> w;
  driver<world<Case>> d{w};
  const auto data = *d.function.allocate(4096, 4096);
  const auto other = *w.fabric.memory().allocate(4096, 4096);
  std::memset(other.data(), 0x3c, other.size());
  CHECK(d.read(data).ok());
  std::mt19937_64 random{7};
  const std::uint64_t base = w.store.bus.value();
  // The tables, from the middle on, point at themselves, out of memory, and at nothing.
  table_word* const words = w.words(base);
  const std::vector<table_word> before(words, words + (256 << 9));
  for (unsigned turn = 0; turn != 200; ++turn) {
    for (std::size_t i = 0; i != before.size(); ++i) {
      if (before[i] == 0 || random() % 4 != 0) continue;
      switch (random() % 4) {
        case 0:
          words[i] = (before[i] & 0xfff) | (base + (random() % 256 << 12));
          break;
        case 1:
          words[i] = before[i] ^ std::uint64_t{1} << random() % 64;
          break;
        case 2:
          words[i] = random();
          break;
        default:
          words[i] = 0;
          break;
      }
    }
    w.apply(command::all_devices());
    w.apply(command::all_translations());
    for (unsigned i = 0; i != 50; ++i) {
      w.iommu.with([&](auto& r) noexcept {
        const bus_addr a{i % 2 == 0 ? data.bus.value() : random() >> random() % 60};
        const auto answer = r.translate(w.disk.id(), a, 512, phasebit::access::write);
        if (answer) CHECK((answer->bytes != 0 && answer->bytes <= 512));
      });
    }
    std::memcpy(words, before.data(), before.size() * sizeof(table_word));
  }
  w.apply(command::all_devices());
  w.apply(command::all_translations());
  CHECK(d.read(data).ok());
  for (const std::byte b : other.bytes) CHECK(b == std::byte{0x3c});
}

TEST_CASE("an IOMMU works while the device thread runs, and is changed from another") {
  world<vtd_legacy> w;
  driver<world<vtd_legacy>> d{w};
  const auto data = *d.function.allocate(4096, 4096);
  REQUIRE(w.fabric.start());
  for (unsigned i = 0; i != 50; ++i) {
    CHECK(d.read(data).ok());
    w.apply(command::all_translations());
  }
  REQUIRE(w.pages.unmap(data.bus, 4096));
  w.apply(command::whole_domain(w.domain));
  CHECK_FALSE(d.read(data).ok());
  w.iommu.with([](auto&) noexcept {});
  w.fabric.stop();
  CHECK(w.faults.last().reason == fault_reason::not_mapped);
}
