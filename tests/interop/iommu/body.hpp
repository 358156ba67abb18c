// SPDX-License-Identifier: BSL-1.0
// The tests that every IOMMU must pass with our tables and commands: one body, run on each machine
// by
//     TEST_CASE_TEMPLATE_INVOKE(iommu_..., machine)
// rig.hpp describes a machine.
#pragma once

#include <phasebit/iommu/command_queue/command.hpp>
#include <phasebit/iommu/page_table/page_format.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <interop/iommu/rig.hpp>

namespace phasebit_test {

// A disk whose queues lie at addresses of its domain, and which can be made to read or write
// wherever we like.
template <class Machine>
class probe {
 public:
  using backend = translated_function<Machine>;
  using controller = phasebit::nvme::driver::controller<backend>;
  static constexpr std::size_t bytes = 512;

  // Queues at `iova` and beyond, which is far from what the tests map.
  probe(rig<Machine>& r, domain<Machine>& d, unsigned disk, std::uint64_t iova)
      : rig_(&r),
        disk_(disk),
        backend_(std::make_unique<backend>(r.open_disk(disk), r.ram(), d, iova)) {
    d.attach(backend_->id());
    host_.emplace(must(controller::attach(*backend_, {.io_queues = 1})));
    queue_.emplace(must(host_->template create_queue_pair<std::uint32_t>({.depth = 4})));
    scratch_ = must(backend_->allocate(bytes, 4096));
  }

  [[nodiscard]] phasebit::pcie::requester_id id() const { return backend_->id(); }

  // The device writes the contents of block `lba` to `iova`.
  void write_to(std::uint64_t iova, std::uint64_t lba) {
    finish(queue_->read({.nsid = 1, .lba = lba, .blocks = 1}, place(iova), 0));
  }
  // The device reads from `iova`; these are the bytes it got.
  [[nodiscard]] std::vector<std::byte> read_from(std::uint64_t iova) {
    constexpr std::uint64_t spare = image::blocks - 1;
    finish(queue_->write({.nsid = 1, .lba = spare, .blocks = 1}, place(iova), 0));
    std::memset(scratch_.data(), 0xee, bytes);
    const auto read_back =
        finish(queue_->read({.nsid = 1, .lba = spare, .blocks = 1}, scratch_, 0));
    REQUIRE(read_back.ok());
    return {scratch_.data(), scratch_.data() + bytes};
  }
  // The device is given work, and finds out that its queue is gone.
  void fetch_nothing() {
    REQUIRE(queue_->submit(phasebit::nvme::nvm::flush(1), 0));
    queue_->ring();
    REQUIRE(within_ten_seconds(*backend_, [&]() noexcept { return !host_->check().has_value(); }));
  }
  void restart() {
    must(host_->reset());
    queue_->fail_all(phasebit::nvme::status_code::aborted_by_host,
                     [](std::uint32_t&, phasebit::nvme::driver::completion) noexcept {});
    queue_.emplace(must(host_->template create_queue_pair<std::uint32_t>({.depth = 4})));
  }
  [[nodiscard]] std::vector<std::byte> block(std::uint64_t lba) const {
    std::vector<std::byte> all(bytes);
    fill_block(all, lba, disk_ + 1);
    return all;
  }

 private:
  [[nodiscard]] dma_region place(std::uint64_t iova) const {
    return {scratch_.bytes, bus_addr{iova}};  // the device sees the second only
  }
  phasebit::nvme::driver::completion finish(phasebit::nvme::driver::submitted posted) {
    REQUIRE_MESSAGE(posted, posted.what);
    queue_->ring();
    phasebit::nvme::driver::completion answer;
    const bool done = within_ten_seconds(*backend_, [&]() noexcept {
      return queue_->poll([&](std::uint32_t&, phasebit::nvme::driver::completion c) noexcept {
        answer = c;
      }) != 0;
    });
    REQUIRE(done);
    return answer;
  }

  rig<Machine>* rig_;
  unsigned disk_;
  std::unique_ptr<backend> backend_;
  std::optional<controller> host_;
  std::optional<typename controller::template io_queue<std::uint32_t>> queue_;
  dma_region scratch_;
};

// A page of RAM for devices to find, or to leave alone.
class target {
 public:
  static constexpr std::size_t bytes = 512;

  template <class Rig>
  explicit target(Rig& r, std::size_t size = 4096) : memory_(must(r.ram().allocate(size, size))) {
    wipe();
  }
  void wipe(std::uint8_t value = 0x5a) { std::memset(memory_.data(), value, memory_.size()); }
  [[nodiscard]] std::uint64_t at() const { return memory_.bus.value(); }
  [[nodiscard]] std::vector<std::byte> first() const {
    return {memory_.data(), memory_.data() + bytes};
  }
  [[nodiscard]] bool holds(const std::vector<std::byte>& what, std::size_t offset = 0) const {
    return std::memcmp(memory_.data() + offset, what.data(), what.size()) == 0;
  }
  [[nodiscard]] bool untouched(std::uint8_t value = 0x5a) const {
    for (const std::byte b : memory_.bytes) {
      if (b != std::byte{value}) return false;
    }
    return true;
  }
  [[nodiscard]] std::byte* data() const { return memory_.data(); }

 private:
  dma_region memory_;
};

// Where the queues of the first and of the second disk lie, in every domain.
inline constexpr std::uint64_t queues_at = 0x1234'0000;
// Free of queues, of MSI windows, and within every format's width.
inline constexpr std::uint64_t free_at = 0x20'0000'0000;

// The log contains the error, its requester and its address; or must be empty if the machine keeps
// none.
template <class Machine, class Rig>
void check_fault(Rig& r, wrong what, phasebit::pcie::requester_id who,
                 std::optional<std::uint64_t> iova, access wanted) {
  const auto all = r.faults();
  const std::optional<std::uint16_t> code = Machine::code(what);
  CAPTURE(static_cast<int>(what));
  if (!code) {
    CHECK(all.empty());
    return;
  }
  REQUIRE_FALSE(all.empty());
  for (const iommu::translation_fault& f : all) {
    if constexpr (requires { Machine::is_record_of(f, *code, who, iova, wanted); }) {
      if (Machine::is_record_of(f, *code, who, iova, wanted)) continue;
    } else {
      const bool as_expected = f.requester == who && f.code == *code && f.wanted == wanted &&
                               (!iova || f.address / 4096 == *iova / 4096) &&
                               f.has_pasid == Machine::claims_pasids;
      if (as_expected) continue;
    }
    // One is sufficient.
    CHECK(f.requester == who);
    CHECK(f.code == *code);
    CHECK(f.wanted == wanted);
    if (iova) CHECK(f.address / 4096 == *iova / 4096);
    CHECK(f.has_pasid == Machine::claims_pasids);
    FAIL_CHECK("the record differs");
    break;
  }
}

TEST_CASE_TEMPLATE_DEFINE("a disk passes the end-to-end test at addresses that only our tables map",
                          Machine, iommu_end_to_end) {
  rig<Machine> r;
  must(r.unit().enable());
  domain<Machine> d{r, 7};
  translated_function<Machine> disk{r.open_disk(0), r.ram(), d, free_at};
  d.attach(disk.id());
  nvme_end_to_end{disk}.run_all();
  CHECK(r.faults().empty());
}

TEST_CASE_TEMPLATE_DEFINE("pages of every size lead where they should, up to the end of the width",
                          Machine, iommu_page_sizes) {
  rig<Machine> r;
  must(r.unit().enable());
  using geometry = iommu::table_geometry<typename Machine::format_type>;
  domain<Machine> d{r, 7};
  probe<Machine> disk{r, d, 0, queues_at};
  target place{r, 0x1'0000};
  const auto& format = d.format();
  const std::uint64_t width = std::uint64_t{1} << format.input_bits();
  unsigned sizes = 0;
  for (unsigned shift = 12; shift != format.input_bits(); ++shift) {
    if ((geometry::page_sizes(format) >> shift & 1) == 0) continue;
    const std::uint64_t size = std::uint64_t{1} << shift;
    const std::uint64_t page = place.at() & ~(size - 1);
    const std::uint64_t offset = place.at() - page;
    CAPTURE(shift);
    // The last page of the width, and one that differs from it in many bits.
    for (const std::uint64_t iova : {width - size, (width / 3 * 2) & ~(size - 1)}) {
      // Large pages of a narrow format: not over the queues.
      if (iova <= queues_at + 0x1000'0000) continue;
      CAPTURE(iova);
      d.map(iova, page, size);
      const auto seen = d.tables().lookup(bus_addr{iova});
      REQUIRE(seen.status == iommu::walk_status::mapped);
      REQUIRE(seen.page_shift == shift);
      for (const std::uint64_t part : {std::uint64_t{0}, size - target::bytes}) {
        // The part of the page that is our RAM.
        if (part != 0 && shift > 16) continue;
        const std::uint64_t within = shift > 16 ? offset : part;
        place.wipe();
        disk.write_to(iova + within, 17 + part % 64);
        CHECK(place.holds(disk.block(17 + part % 64),
                          static_cast<std::size_t>(page + within - place.at())));
        place.wipe(static_cast<std::uint8_t>(shift));
        CHECK(disk.read_from(iova + within) == place.first());
      }
      d.unmap(iova, size);
      d.flush();
      ++sizes;
    }
  }
  CHECK(sizes >= 4);
  CHECK(r.faults().empty());
}

TEST_CASE_TEMPLATE_DEFINE(
    "an access that a page does not permit has no effect, and the log has the reason", Machine,
    iommu_permissions) {
  rig<Machine> r;
  must(r.unit().enable());
  domain<Machine> d{r, 7};
  probe<Machine> disk{r, d, 0, queues_at};
  constexpr std::uint64_t granule = domain<Machine>::granule;
  target place{r, granule};
  const std::uint64_t iova = free_at + 0x4000'0000;

  // Nothing is mapped.
  disk.write_to(iova, 3);
  CHECK(place.untouched());
  check_fault<Machine>(r, wrong::writes_unmapped, disk.id(), iova, access::write);
  CHECK(disk.read_from(iova) != place.first());
  check_fault<Machine>(r, wrong::reads_unmapped, disk.id(), iova, access::read);

  d.map(iova, place.at(), granule, access::read);
  disk.write_to(iova, 4);
  CHECK(place.untouched());
  check_fault<Machine>(r, wrong::writes_read_only, disk.id(), iova, access::write);
  CHECK(disk.read_from(iova) == place.first());
  CHECK(r.faults().empty());
  // Now the IOMMU has cached the page.
  disk.write_to(iova, 4);
  CHECK(place.untouched());
  if (Machine::logs_cached_refusals) {
    check_fault<Machine>(r, wrong::writes_read_only, disk.id(), iova, access::write);
  } else {
    CHECK(r.faults().empty());
  }

  // Permissions change under the device: no sooner than the flush is over, and not later.
  must(d.tables().protect(bus_addr{iova}, granule, access::read_write, false, d.changes()));
  d.flush();
  disk.write_to(iova, 5);
  CHECK(place.holds(disk.block(5)));
  place.wipe();
  CHECK(r.faults().empty());

  if (d.format().attribute_bits({.permission = access::write})) {
    must(d.tables().protect(bus_addr{iova}, granule, access::write, false, d.changes()));
    d.flush();
    place.wipe(0x77);  // what a disk that writes nothing does not have
    CHECK(disk.read_from(iova) != place.first());
    check_fault<Machine>(r, wrong::reads_write_only, disk.id(), iova, access::read);
    disk.write_to(iova, 6);
    CHECK(place.holds(disk.block(6)));
    CHECK(r.faults().empty());
  }
  d.unmap(iova, granule);
  d.flush();
}

TEST_CASE_TEMPLATE_DEFINE("addresses beyond the width, and entries that mean nothing, are refused",
                          Machine, iommu_bad_tables) {
  rig<Machine> r;
  must(r.unit().enable());
  domain<Machine> d{r, 7};
  probe<Machine> disk{r, d, 0, queues_at};
  constexpr std::uint64_t granule = domain<Machine>::granule;
  target place{r, granule};
  // Memory within the width that would be found if the upper bits were ignored.
  d.map(free_at, place.at(), granule);
  const unsigned width = d.format().input_bits();
  if (width < 63) {
    const std::uint64_t beyond = (std::uint64_t{1} << width) + free_at;
    disk.write_to(beyond, 3);
    CHECK(place.untouched() == Machine::looks_at_upper_bits());
    check_fault<Machine>(r, wrong::beyond_width, disk.id(), beyond, access::write);
    place.wipe();
  }
  if constexpr (Machine::knows_malformed) {
    const std::uint64_t iova = free_at + 64 * granule;
    target other{r, granule};
    d.map(iova, other.at(), granule);
    // Another writer changes our tables.
    const auto found = d.tables().lookup(bus_addr{iova});
    REQUIRE(found.status == iommu::walk_status::mapped);
    iommu::table_word* const entry = d.find_entry(found.entry);
    REQUIRE(entry != nullptr);
    *entry = Machine::malformed(found.entry);
    CHECK(d.tables().lookup(bus_addr{iova}).status == iommu::walk_status::malformed);
    disk.write_to(iova, 3);
    CHECK(other.untouched());
    check_fault<Machine>(r, wrong::malformed, disk.id(), iova, access::write);
    *entry = found.entry;
    d.flush_all();
    disk.write_to(iova, 3);
    CHECK(other.holds(disk.block(3)));
    d.unmap(iova, granule);
  }
  d.unmap(free_at, granule);
  d.flush();
}

TEST_CASE_TEMPLATE_DEFINE("a cached translation stays until our commands invalidate it", Machine,
                          iommu_stale) {
  rig<Machine> r;
  must(r.unit().enable());
  constexpr std::uint64_t granule = domain<Machine>::granule;
  domain<Machine> d{r, 7};
  domain<Machine> other{r, 8};
  probe<Machine> disk{r, d, 0, queues_at};
  probe<Machine> other_disk{r, other, 1, queues_at};
  target before{r, granule};
  target after{r, granule};
  const std::uint64_t iova = free_at + 0x123 * granule;
  const std::uint64_t neighbour = iova + 4 * granule;

  const auto remember = [&] {
    before.wipe();
    after.wipe();
    d.map(iova, before.at(), granule);
    d.flush();
    disk.write_to(iova, 40);
    CHECK(before.holds(disk.block(40)));
    before.wipe();
    // Remapped: break, then make, without an invalidation yet.
    d.unmap(iova, granule);
    d.map(iova, after.at(), granule);
  };
  const auto still_stale = [&](std::uint64_t lba) {
    disk.write_to(iova, lba);
    CHECK(before.holds(disk.block(lba)));
    CHECK(after.untouched());
    before.wipe();
  };
  const auto fresh = [&](std::uint64_t lba) {
    disk.write_to(iova, lba);
    CHECK(before.untouched());
    CHECK(after.holds(disk.block(lba)));
    d.unmap(iova, granule);
    d.flush();
  };
  using range = iommu::invalidation_range<bus_space>;
  const auto page = [](std::uint64_t at) {
    return std::array{range{bus_addr{at}, bus_addr{at + granule - 1}, granule, false}};
  };

  SUBCASE("by its range, not by its neighbour's and not by another domain's") {
    remember();
    still_stale(41);
    must(r.unit().flush(other.id(), page(iova)));
    still_stale(42);
    // An IOMMU may invalidate more than requested.
    if (Machine::forgets_by_range) {
      must(r.unit().flush(d.id(), page(neighbour)));
      still_stale(43);
    }
    d.flush();
    fresh(44);
  }
  SUBCASE("by its domain, and not by another domain") {
    remember();
    must(r.unit().flush_domain(other.id()));
    still_stale(45);
    must(r.unit().flush_domain(d.id()));
    fresh(46);
  }
  SUBCASE("by everything") {
    remember();
    still_stale(47);
    must(r.unit().run(iommu::command::all_translations()));
    fresh(48);
  }
  SUBCASE("an unmapped page is gone after the flush, and faults") {
    remember();
    d.flush();
    disk.write_to(iova, 49);
    CHECK(after.holds(disk.block(49)));
    after.wipe();
    d.unmap(iova, granule);
    disk.write_to(iova, 50);
    CHECK(after.holds(disk.block(50)));
    after.wipe();
    CHECK(r.faults().empty());
    d.flush();
    disk.write_to(iova, 51);
    CHECK(after.untouched());
    check_fault<Machine>(r, wrong::writes_unmapped, disk.id(), iova, access::write);
  }
  SUBCASE("long ranges take several commands, or one for the domain, and none too few") {
    // 37 pages at an odd place: no single aligned block.
    constexpr std::uint64_t pages = 37;
    target many{r, 64 * granule};
    for (const std::uint64_t begin : {iova, iova + 0x1000'0000 - 3 * granule}) {
      d.map(begin, many.at(), pages * granule);
      for (std::uint64_t i = 0; i != pages; ++i) disk.write_to(begin + i * granule, 60 + i);
      d.unmap(begin, pages * granule);
      d.flush();
      many.wipe();
      for (std::uint64_t i = 0; i != pages; ++i) disk.write_to(begin + i * granule, 60 + i);
      CHECK(many.untouched());
      static_cast<void>(r.faults());
    }
    CHECK_FALSE(std::size(d.changes().ranges()) != 0);
  }
  CHECK(r.faults().empty());
}

TEST_CASE_TEMPLATE_DEFINE("each device has its domain: one address leads to two places", Machine,
                          iommu_domains) {
  rig<Machine> r;
  must(r.unit().enable());
  constexpr std::uint64_t granule = domain<Machine>::granule;
  domain<Machine> one{r, 1};
  domain<Machine> two{r, 0xfe};
  target for_one{r, granule};
  target for_two{r, granule};
  one.map(free_at, for_one.at(), granule);
  two.map(free_at, for_two.at(), granule);
  probe<Machine> first{r, one, 0, queues_at};
  probe<Machine> second{r, two, 1, queues_at};
  first.write_to(free_at, 5);
  second.write_to(free_at, 6);
  CHECK(for_one.holds(first.block(5)));
  CHECK(for_two.holds(second.block(6)));

  // Detached, it cannot even fetch its commands; back again, it is as before.
  must(r.unit().detach(first.id()));
  CHECK(r.faults().empty());
  first.fetch_nothing();
  check_fault<Machine>(r, wrong::no_device, first.id(), std::nullopt, access::read);
  second.write_to(free_at, 7);
  CHECK(for_two.holds(second.block(7)));
  one.attach(first.id());
  first.restart();
  for_one.wipe();
  first.write_to(free_at, 8);
  CHECK(for_one.holds(first.block(8)));
  CHECK(r.faults().empty());
}

TEST_CASE_TEMPLATE_DEFINE("large pages are split and merged under a device that uses them", Machine,
                          iommu_resize) {
  rig<Machine> r;
  must(r.unit().enable());
  using geometry = iommu::table_geometry<typename Machine::format_type>;
  constexpr std::uint64_t granule = domain<Machine>::granule;
  // The next larger of the architecture's own sizes: 2, 32 or 512 MiB.
  const std::uint64_t large = geometry::span(1);
  domain<Machine> d{r, 7, {.cut = iommu::large_pages::split}};
  probe<Machine> disk{r, d, 0, queues_at};
  target place{r, granule};
  const std::uint64_t page = place.at() & ~(large - 1);
  const std::uint64_t at = free_at + place.at() - page;

  d.map(free_at, page, large);
  disk.write_to(at, 8);
  CHECK(place.holds(disk.block(8)));
  must(d.tables().protect(bus_addr{at}, granule, access::read, false, d.changes()));
  d.flush();
  CHECK(d.tables().lookup(bus_addr{at}).page_shift < 21);
  place.wipe();
  disk.write_to(at, 9);
  CHECK(place.untouched());
  check_fault<Machine>(r, wrong::writes_read_only, disk.id(), at, access::write);
  CHECK(disk.read_from(at) == place.first());

  must(d.tables().protect(bus_addr{at}, granule, access::read_write, false, d.changes()));
  d.flush();
  CHECK(must(d.tables().merge(bus_addr{free_at}, large, d.changes())) >= 1);
  d.flush();
  CHECK((std::uint64_t{1} << d.tables().lookup(bus_addr{at}).page_shift) >= large);
  disk.write_to(at, 10);
  CHECK(place.holds(disk.block(10)));
  CHECK(r.faults().empty());
  d.unmap(free_at, large);
  d.flush();
}

TEST_CASE_TEMPLATE_DEFINE("the command ring turns many times, and a full fault log stops nothing",
                          Machine, iommu_rings) {
  rig<Machine> r;
  must(r.unit().enable());
  constexpr std::uint64_t granule = domain<Machine>::granule;
  domain<Machine> d{r, 7};
  probe<Machine> disk{r, d, 0, queues_at};
  target place{r, granule};
  for (unsigned i = 0; i != 1000; ++i) must(r.unit().flush_domain(d.id()));
  for (unsigned i = 0; i != 600; ++i) disk.write_to(free_at + i * granule, 1);
  const auto all = r.faults();
  if (Machine::code(wrong::writes_unmapped)) CHECK_FALSE(all.empty());
  // The log works again.
  disk.write_to(free_at, 1);
  check_fault<Machine>(r, wrong::writes_unmapped, disk.id(), free_at, access::write);
  d.map(free_at, place.at(), granule);
  d.flush();
  disk.write_to(free_at, 11);
  CHECK(place.holds(disk.block(11)));

  // Disabled and enabled again, the IOMMU continues with its tables.
  must(r.unit().disable());
  must(r.unit().enable());
  disk.write_to(free_at, 12);
  CHECK(place.holds(disk.block(12)));
  CHECK(r.faults().empty());
  d.unmap(free_at, granule);
  d.flush();
}

#define PHASEBIT_IOMMU_TESTS(...)                            \
  TEST_CASE_TEMPLATE_INVOKE(iommu_end_to_end, __VA_ARGS__);  \
  TEST_CASE_TEMPLATE_INVOKE(iommu_page_sizes, __VA_ARGS__);  \
  TEST_CASE_TEMPLATE_INVOKE(iommu_permissions, __VA_ARGS__); \
  TEST_CASE_TEMPLATE_INVOKE(iommu_bad_tables, __VA_ARGS__);  \
  TEST_CASE_TEMPLATE_INVOKE(iommu_stale, __VA_ARGS__);       \
  TEST_CASE_TEMPLATE_INVOKE(iommu_domains, __VA_ARGS__);     \
  TEST_CASE_TEMPLATE_INVOKE(iommu_resize, __VA_ARGS__);      \
  TEST_CASE_TEMPLATE_INVOKE(iommu_rings, __VA_ARGS__)

}  // namespace phasebit_test
