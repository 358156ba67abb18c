// SPDX-License-Identifier: BSL-1.0
// The cases of the zoned namespace command set with QEMU's controller, over qtest. This library's controller
// runs the same in tests/nvme/device/zoned_test.cpp.
#include <phasebit/backend/qtest.hpp>
#include <phasebit/nvme/spec/registers.hpp>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <nvme/zoned_cases.hpp>
#include <support/skip.hpp>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit::nvme;
namespace qtest = phasebit::backend::qtest;

namespace {

// Rings written by hand: the admin queue and one pair of I/O queues.
struct zoned_qemu {
  struct ring {
    dma_region sq{};
    dma_region cq{};
    std::uint32_t tail = 0;
    std::uint32_t head = 0;
    bool phase = true;
  };
  static constexpr std::uint32_t depth = 16;

  explicit zoned_qemu(qtest::function& f) : function(f), bar(*f.map_bar(0)) {
    pages = *function.allocate(8192, 4096);
    for (ring& r : rings) {
      r.sq = *function.allocate(4096, 4096);
      r.cq = *function.allocate(4096, 4096);
      std::memset(r.cq.data(), 0, r.cq.size());
    }
    bar.write32(aqa::offset, aqa::for_entries(depth, depth).raw);
    write64(asq::offset, rings[0].sq.bus.value());
    write64(acq::offset, rings[0].cq.bus.value());
    bar.write32(cc::offset, cc{}.with(cc::en, true)
                                .with(cc::iosqes, 6)
                                .with(cc::iocqes, 4)
                                .with(cc::css, command_set_selected::all_supported)
                                .raw);
    wait([&] { return csts{bar.read32(csts::offset)}[csts::rdy]; });
    REQUIRE(
        admin(nvme::admin::create_io_cq({.qid = 1, .entries = depth, .memory = rings[1].cq.bus}))
            .status()
            .ok());
    REQUIRE(admin(nvme::admin::create_io_sq(
                      {.qid = 1, .entries = depth, .memory = rings[1].sq.bus, .cqid = 1}))
                .status()
                .ok());
  }
  void write64(std::uint32_t offset, std::uint64_t value) {
    bar.write32(offset, static_cast<std::uint32_t>(value));
    bar.write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  template <class Done>
  void wait(Done done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done()) {
      REQUIRE(std::chrono::steady_clock::now() < end);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }
  completion_entry run(std::uint16_t qid, submission_entry e) {
    ring& r = rings[qid];
    e.set_command_id(++next_id);
    std::memcpy(r.sq.data() + std::size_t{r.tail} * 64, &e, sizeof e);
    r.tail = (r.tail + 1) % depth;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    bar.write32(static_cast<std::uint32_t>(submission_doorbell_offset(qid, 0)), r.tail);
    completion_entry c;
    wait([&] {
      std::atomic_thread_fence(std::memory_order_seq_cst);
      std::memcpy(&c, r.cq.data() + std::size_t{r.head} * 16, sizeof c);
      return c.phase() == r.phase;
    });
    if (++r.head == depth) {
      r.head = 0;
      r.phase = !r.phase;
    }
    bar.write32(static_cast<std::uint32_t>(completion_doorbell_offset(qid, 0)), r.head);
    REQUIRE(c.command_id() == next_id);
    return c;
  }
  completion_entry admin(const submission_entry& e) { return run(0, e); }
  completion_entry io(const submission_entry& e) { return run(1, e); }
  submission_entry data(submission_entry e) {
    e.prp1 = pages.bus.value();
    e.prp2 = pages.bus.value() + 4096;
    return e;
  }
  std::span<std::byte> buffer() { return pages.bytes; }

  qtest::function& function;
  qtest::bar bar;
  dma_region pages{};
  std::array<ring, 2> rings{};
  std::uint16_t next_id = 0;
};

}  // namespace

TEST_CASE("zones: the cases of any controller: QEMU's") {
  if (std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") != 0) {
    phasebit_test::skip("qemu-system-x86_64 is not installed");
  }
  const std::string path = "/tmp/phasebit-nvme-zoned-" + std::to_string(::getpid()) + ".img";
  std::ofstream{path, std::ios::binary} << std::string(zoned_cases::zone_count << 16, '\0');
  {
    auto machine = qtest::machine::start(
        {.drives = {{"d0", path}},
         .devices = {"nvme,serial=x,id=n0,mdts=5",
                     "nvme-ns,drive=d0,bus=n0,zoned=true,zoned.zone_size=65536,"
                     "zoned.zone_capacity=49152,zoned.max_open=2,zoned.max_active=3,"
                     "zoned.descr_ext_size=64"}});
    REQUIRE_MESSAGE(machine, machine.error().what);
    auto function = machine->open_class(0x010802);
    REQUIRE(function);
    zoned_qemu q{*function};
    zoned_cases::cases<zoned_qemu>{q}.run();
  }
  ::unlink(path.c_str());
}
