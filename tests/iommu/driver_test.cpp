// SPDX-License-Identifier: BSL-1.0
// The invalidations of drivers, and their times: tested on emulated IOMMUs, whose caches keep
// everything that is not invalidated, and on the commands in the ring.
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <iommu/emulated_iommu.hpp>

namespace phasebit::iommu {

namespace {

constexpr std::uint64_t first_target = base + 0x18'0000;
constexpr std::uint64_t second_target = base + 0x19'0000;

// An IOMMU, its driver's host and the memory of both. The driver is the test's.
template <class T>
struct stage {
  using driver_type = typename T::driver;
  using table_type = page_table<typename T::format, tables>;

  machine m;
  typename T::device emulated{m.host, m.host, m.host};
  driver_host host{m};
  tables pages{{m.bytes, 256 * 4096}, host_phys{base}};

  result<driver_type> open(const driver::options& o = {}) {
    return driver_type::open(direct_bar<typename T::device>{&emulated}, pages, host, o);
  }
  // Tables that map 0x5000 to `target`.
  table_type to(const driver_type& d, std::uint64_t target) {
    auto made = table_type::create(T::format_of(d), pages);
    REQUIRE(made);
    REQUIRE(made->map(bus_addr{0x5000}, host_phys{target}, 0x1000));
    return std::move(*made);
  }
  // Where a device's access to 0x5010 goes, or 0.
  std::uint64_t reached(pcie::requester_id who = disk) {
    const auto found = emulated.translate({.requester = who, .address = 0x5010}, 16);
    return found ? found->begin.value() - 0x10 : 0;
  }
};

#define EVERY_DRIVER \
  with_vtd, with_vtd_scalable, with_vtd_first_stage, with_amd, with_smmuv3, with_riscv

}  // namespace

TEST_CASE_TEMPLATE("a requester whose tables change reaches nothing of the old ones", T,
                   EVERY_DRIVER) {
  stage<T> s;
  auto opened = s.open();
  REQUIRE(opened);
  auto& driver = *opened;
  REQUIRE(driver.enable());
  auto one = s.to(driver, first_target);
  auto two = s.to(driver, second_target);
  REQUIRE(driver.attach(disk, 7, one.view()));
  CHECK(s.reached() == first_target);
  // Another table of the same domain, then of another, then back.
  REQUIRE(driver.attach(disk, 7, two.view()));
  CHECK(s.reached() == second_target);
  REQUIRE(driver.attach(disk, 8, one.view()));
  CHECK(s.reached() == first_target);
  REQUIRE(driver.attach(disk, 7, one.view()));
  CHECK(s.reached() == first_target);
  REQUIRE(driver.detach(disk));
  CHECK(s.reached() == 0);
  // The domain's cached translations are invalidated with its last requester, not kept for the next
  // one.
  REQUIRE(driver.attach(other, 7, two.view()));
  CHECK(s.reached(other) == second_target);
  REQUIRE(driver.disable());
}

TEST_CASE_TEMPLATE("a driver that takes an IOMMU over keeps nothing of what was cached before", T,
                   EVERY_DRIVER) {
  stage<T> s;
  {
    auto opened = s.open();
    REQUIRE(opened);
    REQUIRE(opened->enable());
    auto table = s.to(*opened, first_target);
    REQUIRE(opened->attach(disk, 7, table.view()));
    CHECK(s.reached() == first_target);
  }
  auto opened = s.open();
  REQUIRE(opened);
  REQUIRE(opened->enable());
  CHECK(s.reached() == 0);
  auto table = s.to(*opened, second_target);
  REQUIRE(opened->attach(other, 7, table.view()));
  CHECK(s.reached(other) == second_target);
  CHECK(s.reached() == 0);
}

TEST_CASE_TEMPLATE("a fault log that overflowed goes on once it has been read", T, EVERY_DRIVER) {
  stage<T> s;
  auto opened = s.open({.log2_faults = 8});
  REQUIRE(opened);
  auto& driver = *opened;
  REQUIRE(driver.enable());
  for (unsigned round = 0; round != 3; ++round) {
    CAPTURE(round);
    for (unsigned i = 0; i != 300; ++i) CHECK(s.reached() == 0);
    unsigned read = 0;
    while (const auto fault = driver.next_fault()) {
      CHECK(fault->requester == disk);
      ++read;
    }
    CHECK(read != 0);
    CHECK(read < 300);
    CHECK(s.reached(other) == 0);
    const auto fresh = driver.next_fault();
    REQUIRE(fresh);
    CHECK(fresh->requester == other);
    CHECK_FALSE(driver.next_fault());
  }
}

TEST_CASE_TEMPLATE("all memory that a driver took is given back as zeros", T, EVERY_DRIVER) {
  stage<T> s;
  {
    auto opened = s.open();
    REQUIRE(opened);
    REQUIRE(opened->enable());
    auto table = s.to(*opened, first_target);
    REQUIRE(opened->attach(disk, 7, table.view()));
    CHECK(s.reached(other) == 0);  // a record in the log
    if constexpr (std::is_same_v<T, with_vtd>) {
      REQUIRE(opened->remap_interrupts(s.pages, 8));
      REQUIRE(opened->set_interrupt(3, vtd::interrupt_entry::fixed(0x41, 5, disk.raw())));
    }
  }
  CHECK(s.pages.used() == 0);
  const auto* const words = reinterpret_cast<const std::uint64_t*>(s.m.bytes);
  std::size_t not_zero = 0;
  for (std::size_t i = 0; i != 256 * 512; ++i) not_zero += words[i] != 0;
  CHECK(not_zero == 0);
}

TEST_CASE_TEMPLATE("tables that record writes are refused where the hardware does not record them",
                   T, with_vtd, with_vtd_scalable, with_amd, with_smmuv3, with_riscv) {
  stage<T> s;
  auto opened = s.open();
  REQUIRE(opened);
  REQUIRE(opened->enable());
  auto format = T::format_of(*opened);
  format.track_dirty = true;
  auto table = stage<T>::table_type::create(format, s.pages);
  REQUIRE(table);
  const auto attached = opened->attach(disk, 7, table->view());
  REQUIRE_FALSE(attached);
  CHECK(attached.error().code == errc::not_supported);
  CHECK(s.reached() == 0);
}

TEST_CASE_TEMPLATE("a flush that fills a short command ring ends, and has forgotten its ranges", T,
                   with_smmuv3, with_riscv) {
  for (const unsigned log2 : {2U, 3U}) {
    for (unsigned most = 1; most <= 1U << log2; ++most) {
      CAPTURE(log2);
      CAPTURE(most);
      stage<T> s;
      auto opened = s.open({.log2_commands = log2, .most_commands = most});
      REQUIRE(opened);
      auto& driver = *opened;
      REQUIRE(driver.enable());
      auto table = s.to(driver, first_target);
      REQUIRE(table.map(bus_addr{0x6000}, host_phys{base}, 0x8000));
      REQUIRE(driver.attach(disk, 7, table.view()));
      for (unsigned pages = 1; pages != 9; ++pages) {
        CAPTURE(pages);
        CHECK(s.reached() == first_target);
        invalidations<bus_space> changes;
        REQUIRE(table.unmap(bus_addr{0x5000}, 0x1000 * pages, changes));
        REQUIRE(driver.flush(7, changes.ranges()));
        table.complete(changes);
        CHECK(s.reached() == 0);
        REQUIRE(table.map(bus_addr{0x5000}, host_phys{first_target}, 0x1000 * pages));
      }
    }
  }
}

namespace {

// VT-d with CAP.CM, whose ring is looked at. `dead`: the IOMMU does not take notice of commands any more.
struct watched_bar : direct_bar<vtd_device> {
  struct watched_doorbell : direct_bar<vtd_device>::doorbell_type {
    const bool* dead = nullptr;
    void ring(std::uint32_t value) noexcept {
      if (!*dead) doorbell_type::ring(value);
    }
  };
  bool caching_mode = false;
  const bool* dead = nullptr;

  [[nodiscard]] std::uint32_t read32(std::uint32_t at) noexcept {
    const std::uint32_t value = direct_bar::read32(at);
    return at == vtd::cap::offset && caching_mode ? value | vtd::cap::cm.of<std::uint32_t>(true)
                                                  : value;
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t at) noexcept {
    const std::uint64_t low = read32(at);
    return low | std::uint64_t{read32(at + 4)} << 32;
  }
  [[nodiscard]] watched_doorbell doorbell(std::uint32_t at) noexcept {
    return {{device, at}, dead};
  }
};
static_assert(Mmio<watched_bar>);

// Types of invalidation descriptors (VT-d 6.5.2), and the domain that they name.
struct descriptor {
  unsigned type = 0;
  unsigned domain = 0;
  std::uint64_t low = 0;
};
constexpr unsigned context_cache = 1;
constexpr unsigned iotlb_entries = 2;
constexpr unsigned wait = 5;
constexpr unsigned pasid_iotlb = 6;
constexpr unsigned pasid_cache = 7;

template <class Driver>
struct watched_machine {
  machine m;
  vtd_device emulated{m.host, m.host, m.host};
  driver_host host{m};
  tables pages{{m.bytes, 256 * 4096}, host_phys{base}};
  bool dead = false;
  result<Driver> opened;
  std::uint32_t seen = 0;

  explicit watched_machine(bool caching_mode)
      : opened(Driver::open({{&emulated}, caching_mode, &dead}, pages, host, {.timeout_ms = 50})) {
    REQUIRE(opened);
    REQUIRE(opened->enable());
    static_cast<void>(descriptors());
  }
  // Those of the ring that were not looked at yet, without waits.
  std::vector<descriptor> descriptors() {
    std::vector<descriptor> found;
    const std::uint64_t iqa =
        emulated.read32(vtd::iqa::offset) | std::uint64_t{emulated.read32(0x94)} << 32;
    const bool wide = vtd::iqa{iqa}[vtd::iqa::dw];
    const std::uint64_t ring = iqa & ~std::uint64_t{0xfff};
    const std::uint32_t entry = wide ? 32 : 16;
    const std::uint32_t tail = emulated.read32(vtd::iqt::offset);
    for (; seen != tail; seen = (seen + entry) % (4096U << (iqa & 7))) {
      std::uint64_t low = 0;
      std::memcpy(&low, m.bytes + (ring - base) + seen, 8);
      const auto type = static_cast<unsigned>((low & 15) | (low >> 9 & 7) << 4);
      if (type != wait) found.push_back({type, static_cast<unsigned>(low >> 16 & 0xffff), low});
    }
    return found;
  }
};
using watched_legacy = watched_machine<vtd::driver<watched_bar, tables, driver_host>>;
using watched_scalable = watched_machine<vtd::scalable_driver<watched_bar, tables, driver_host>>;

bool holds(const std::vector<descriptor>& all, unsigned type, unsigned domain) {
  for (const descriptor& d : all) {
    if (d.type == type && d.domain == domain) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a VT-d that caches absent entries forgets them, which it has under domain 0") {
  for (const bool caching_mode : {false, true}) {
    CAPTURE(caching_mode);
    watched_legacy s{caching_mode};
    CHECK(s.opened->caches_absent() == caching_mode);
    auto table = *page_table<vtd_second_stage, tables>::create(s.opened->format(), s.pages);
    REQUIRE(s.opened->attach(disk, 7, table.view()));
    static_cast<void>(s.descriptors());
    REQUIRE(s.opened->attach(disk, 9, table.view()));
    const auto made = s.descriptors();
    CHECK(holds(made, context_cache, 7));
    CHECK(holds(made, iotlb_entries, 7));
    CHECK(holds(made, context_cache, 0) == caching_mode);

    watched_scalable wide{caching_mode};
    auto second =
        *page_table<vtd_second_stage, tables>::create(wide.opened->second_stage(), wide.pages);
    REQUIRE(wide.opened->attach(disk, 7, second.view()));
    static_cast<void>(wide.descriptors());
    REQUIRE(wide.opened->attach(disk, 9, second.view()));
    CHECK(holds(wide.descriptors(), context_cache, 0) == caching_mode);
  }
}

TEST_CASE("a domain is flushed only after the reads and writes that used it have ended") {
  watched_legacy s{false};
  REQUIRE(s.opened->flush_domain(7));
  const auto made = s.descriptors();
  REQUIRE(holds(made, iotlb_entries, 7));
  for (const descriptor& d : made) {
    if (d.type == iotlb_entries) CHECK((d.low >> 6 & 3) == 3);  // DW and DR (6.5.2.3)
  }
}

// VT-d 6.5.3.3: a PASID-table entry that is replaced is followed by invalidations of the PASID cache, of the
// IOTLB of the domain and of its first-stage translations, which an IOTLB invalidation does not reach.
TEST_CASE("a requester's change in scalable mode invalidates every cache that names its entry") {
  watched_scalable s{false};
  auto table = *page_table<x86_first_stage, tables>::create(s.opened->first_stage(), s.pages);
  REQUIRE(s.opened->attach(disk, 7, table.view()));
  static_cast<void>(s.descriptors());
  REQUIRE(s.opened->detach(disk));
  const auto made = s.descriptors();
  CHECK(holds(made, context_cache, 7));
  CHECK(holds(made, pasid_cache, 7));
  CHECK(holds(made, iotlb_entries, 7));
  CHECK(holds(made, pasid_iotlb, 7));
}

TEST_CASE("tables that the IOMMU may still walk after a time-out are not given back") {
  watched_scalable s{false};
  auto table = *page_table<vtd_second_stage, tables>::create(s.opened->second_stage(), s.pages);
  REQUIRE(s.opened->attach(disk, 7, table.view()));
  const std::size_t attached = s.pages.used();
  s.dead = true;
  CHECK(s.opened->attach(disk, 8, table.view()).error().code == errc::timed_out);
  CHECK(s.pages.used() >= attached);
  CHECK(s.opened->detach(disk).error().code == errc::timed_out);
  CHECK(s.pages.used() >= attached);
}

TEST_CASE("a directory that has no page for a requester's bus leaves the new tables to the next") {
  stage<with_vtd_scalable> s;
  auto opened = s.open();
  REQUIRE(opened);
  REQUIRE(opened->enable());
  auto table = s.to(*opened, first_target);
  REQUIRE(opened->attach(disk, 7, table.view()));
  std::vector<table_page<host_space>> taken;
  while (auto page = s.pages.allocate(4096)) taken.push_back(*page);
  for (unsigned spare = 0; spare != 3; ++spare) {
    CAPTURE(spare);
    const std::size_t before = s.pages.used();
    const pcie::requester_id far{9, 0, 0};
    CHECK(opened->attach(far, 7, table.view()).error().code == errc::exhausted);
    CHECK(s.pages.used() == before);
    s.pages.release(taken.back(), 4096);
    taken.pop_back();
  }
  REQUIRE(opened->attach(pcie::requester_id{9, 0, 0}, 7, table.view()));
  CHECK(s.reached(pcie::requester_id{9, 0, 0}) == first_target);
  for (const auto& page : taken) s.pages.release(page, 4096);
}

TEST_CASE("a VT-d driver's interrupt table begins absent, and lets nothing past itself") {
  stage<with_vtd> s;
  auto opened = s.open();
  REQUIRE(opened);
  auto& driver = *opened;
  const auto entry = vtd::interrupt_entry::fixed(0x41, 5, disk.raw());
  CHECK(driver.set_interrupt(0, entry).error().code == errc::not_ready);
  REQUIRE(driver.enable());
  // Messages in compatibility format pass before.
  s.emulated.write32(vtd::gcmd::offset,
                     s.emulated.read32(vtd::gsts::offset) | vtd::gcmd::cfi.of(true));
  const pcie::msi_message plain{bus_addr{0xfee0'0000}, 0x31};
  CHECK(s.emulated.remap_interrupt(disk, plain));
  REQUIRE(driver.remap_interrupts(s.pages, 8));
  CHECK_FALSE(s.emulated.remap_interrupt(disk, plain));
  CHECK(driver.set_interrupt(256, entry).error().code == errc::out_of_range);
  const auto message = driver.set_interrupt(255, entry);
  REQUIRE(message);
  CHECK(s.emulated.remap_interrupt(disk, *message));
  CHECK_FALSE(s.emulated.remap_interrupt(other, *message));
  // A new table: what was cached of the old one is gone.
  REQUIRE(driver.remap_interrupts(s.pages, 9));
  CHECK_FALSE(s.emulated.remap_interrupt(disk, *message));
  CHECK(driver.set_interrupt(511, entry));
  CHECK(driver.set_interrupt(512, entry).error().code == errc::out_of_range);
}

}  // namespace phasebit::iommu
