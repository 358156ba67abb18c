// SPDX-License-Identifier: BSL-1.0
// Our enumeration against QEMU's host bridges, root ports and devices, which no firmware has touched.
#include <phasebit/backend/qtest.hpp>
#include <phasebit/nvme/spec/registers.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <signal.h>
#include <support/skip.hpp>
#include <unistd.h>

namespace qtest = phasebit::backend::qtest;
namespace nvme = phasebit::nvme;
using namespace phasebit;

namespace {

void need_qemu() {
  if (!qtest::find_program("qemu-system-x86_64")) {
    phasebit_test::skip("qemu-system-x86_64 is not installed");
  }
}

// A folder that goes away with everything in it that the test names.
struct folder {
  std::string path = "/tmp/phasebit-qtest-XXXXXX";
  std::vector<std::string> files;
  folder() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
  ~folder() {
    for (const std::string& f : files) ::unlink(f.c_str());
    ::rmdir(path.c_str());
  }
  std::string name(std::string_view file) {
    files.push_back(path + "/" + std::string{file});
    return files.back();
  }
  std::string image(std::string_view file, std::size_t bytes) {
    const std::string at = name(file);
    std::ofstream{at, std::ios::binary} << std::string(bytes, '\0');
    return at;
  }
};

std::string text(const error& e) {
  std::array<char, 256> out{};
  return std::string{e.message(out)};
}

template <class T>
T& must(result<T>& r) {
  REQUIRE_MESSAGE(r.has_value(), (r ? std::string{} : text(r.error())));
  return *r;
}

constexpr std::uint32_t nvme_class = 0x010802;

// The devices of a machine with an SSD of four virtual functions behind a root port.
qtest::options ssd_with_vfs(const std::string& image) {
  return {.drives = {{"d0", image}},
          .devices = {"pcie-root-port,id=rp0,slot=1", "nvme-subsys,id=ss",
                      "nvme,serial=x,subsys=ss,id=n0,bus=rp0,sriov_max_vfs=4,sriov_vq_flexible=8,"
                      "sriov_vi_flexible=4,max_ioqpairs=12,msix_qsize=9",
                      "nvme-ns,drive=d0,bus=n0"}};
}

}  // namespace

TEST_CASE("an NVMe function behind a root port is found, placed, and answers with its CAP and VS") {
  need_qemu();
  folder f;
  auto started = qtest::machine::start(ssd_with_vfs(f.image("disk.img", 1 << 20)));
  auto& vm = must(started);
  auto opened = vm.open_class(nvme_class);
  auto& ssd = must(opened);
  CHECK(ssd.id().bus() == 1);
  CHECK(ssd.about().vendor_id == 0x1b36);
  const auto& port = vm.functions()[ssd.about().bridge];
  CHECK(port.is_bridge());
  CHECK(port.secondary_bus == 1);
  CHECK(port.windows[1].size == pcie::bridge_header::memory_granularity);

  auto mapped = ssd.map_bar(0);
  auto& bar = must(mapped);
  CHECK(bar.size_bytes() >= 0x2000);
  const nvme::cap cap{bar.read64(nvme::cap::offset)};
  CHECK(cap[nvme::cap::mqes] == 0x7ff);
  CHECK(cap[nvme::cap::css_nvm]);
  CHECK(bar.read32(nvme::cap::offset) == static_cast<std::uint32_t>(cap.raw));
  CHECK(nvme::vs{bar.read32(nvme::vs::offset)} == nvme::vs::of(1, 4));

  auto config = ssd.config();
  CHECK(config.size_bytes() == 4096);
  auto msix = pcie::read_msix(config);
  CHECK(must(msix).vectors == ssd.interrupt_vectors());
  CHECK(pcie::find_capability(config, pcie::capability_id::pci_express));
  const auto none = ssd.map_bar(3);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == errc::not_found);
  CHECK(text(none.error()).starts_with("01:00.0: "));
}

TEST_CASE("virtual functions appear at the capability's routing IDs, and disappear again") {
  need_qemu();
  folder f;
  auto started = qtest::machine::start(ssd_with_vfs(f.image("disk.img", 1 << 20)));
  auto& vm = must(started);
  auto opened = vm.open_class(nvme_class);
  auto& pf = must(opened);
  CHECK(pf.total_virtual_functions() == 4);
  CHECK(pf.virtual_function(0).error().code == errc::out_of_range);
  CHECK(pf.set_virtual_functions(5).error().code == errc::out_of_range);
  REQUIRE(pf.set_virtual_functions(3));
  CHECK(pf.set_virtual_functions(1).error().code == errc::busy);
  for (unsigned i = 0; i != 3; ++i) {
    auto made = pf.virtual_function(i);
    auto& vf = must(made);
    CHECK(vf.id() == pcie::requester_id{1, 0, static_cast<std::uint8_t>(1 + i)});
    auto config = vf.config();
    CHECK(config.read32(pcie::header::vendor_id) == 0xffff'ffff);
    auto mapped = vf.map_bar(0);
    auto& bar = must(mapped);
    // One that was never brought online has no CAP, and is not gone either.
    CHECK(bar.read64(nvme::cap::offset) == 0);
    CHECK(vf.interrupt_vectors() >= 1);
  }
  CHECK_FALSE(pf.virtual_function(3));
  REQUIRE(pf.set_virtual_functions(0));
  auto gone = vm.config(pcie::requester_id{1, 0, 1});
  CHECK(pcie::is_removed(gone));
}

TEST_CASE("a function-level reset switches interrupts off and keeps the place") {
  need_qemu();
  folder f;
  auto started = qtest::machine::start(ssd_with_vfs(f.image("disk.img", 1 << 20)));
  auto& vm = must(started);
  auto opened = vm.open_class(nvme_class);
  auto& ssd = must(opened);
  auto mapped = ssd.map_bar(0);
  auto& bar = must(mapped);
  const std::uint64_t cap = bar.read64(nvme::cap::offset);
  REQUIRE(ssd.enable_interrupts(2));
  REQUIRE(ssd.reset());
  CHECK(bar.read64(nvme::cap::offset) == cap);
  auto config = ssd.config();
  auto msix = pcie::read_msix(config);
  CHECK((config.read16(static_cast<std::uint16_t>(must(msix).offset + 2)) & 0xc000) == 0);
  CHECK(ssd.enable_interrupts(2));
}

TEST_CASE("switches, bridges and many devices are numbered, and each answers at its address") {
  need_qemu();
  auto started = qtest::machine::start(
      {.devices = {"pcie-root-port,id=rp0,slot=1", "pcie-root-port,id=rp1,slot=2",
                   "x3130-upstream,id=up,bus=rp0", "xio3130-downstream,id=dn0,bus=up,slot=3",
                   "xio3130-downstream,id=dn1,bus=up,slot=4,addr=1.0",
                   "pcie-pci-bridge,id=br,bus=rp1", "nvme,serial=a,bus=dn0",
                   "nvme,serial=b,bus=dn1", "nvme,serial=c", "virtio-blk-pci,drive=d1",
                   "virtio-blk-pci,drive=d2,bus=br,addr=5.0"},
       .arguments = {"-drive", "if=none,id=d1,driver=null-co,size=1M", "-drive",
                     "if=none,id=d2,driver=null-co,size=1M"}});
  auto& vm = must(started);
  for (unsigned n = 0; n != 3; ++n) {
    auto opened = vm.open_class(nvme_class, n);
    auto mapped = must(opened).map_bar(0);
    CHECK(nvme::vs{must(mapped).read32(nvme::vs::offset)} == nvme::vs::of(1, 4));
  }
  CHECK(vm.open_class(nvme_class, 3).error().code == errc::not_found);
  unsigned virtio = 0;
  for (const auto& f : vm.functions()) {
    CHECK_FALSE(f.fault);
    if (f.vendor_id != 0x1af4) continue;
    ++virtio;
    auto opened = vm.open(f.id);
    auto config = must(opened).config();
    unsigned windows = 0;
    CHECK(pcie::for_each_capability(config, [&](pcie::capability_id id, std::uint16_t) {
      windows += id == pcie::capability_id::vendor_specific;
      return true;
    }));
    CHECK(windows == 5);
    if (f.bars[0].kind != pcie::bar_kind::io) continue;
    auto ports = must(opened).map_bar(0);
    CHECK(must(ports).read32(0) != 0xffff'ffff);  // legacy feature bits
  }
  CHECK(virtio == 2);
}

TEST_CASE("a board without an ECAM window is enumerated through its two ports") {
  need_qemu();
  auto started = qtest::machine::start({.board = qtest::pc, .devices = {"nvme,serial=a"}});
  auto& vm = must(started);
  auto opened = vm.open_class(nvme_class);
  auto& ssd = must(opened);
  CHECK(ssd.config().size_bytes() == 256);
  CHECK(ssd.about().sriov.total_vfs == 0);
  auto mapped = ssd.map_bar(0);
  CHECK(nvme::vs{must(mapped).read32(nvme::vs::offset)} == nvme::vs::of(1, 4));
}

TEST_CASE("the Arm board has its RAM, its windows and its ports elsewhere, and all of it works") {
  need_qemu();
  if (!qtest::find_program(qtest::arm_virt.program)) {
    MESSAGE("not tried: qemu-system-aarch64 is not installed");
    return;
  }
  auto started =
      qtest::machine::start({.board = qtest::arm_virt,
                             .devices = {"pcie-root-port,id=rp0,slot=1", "nvme,serial=x,bus=rp0",
                                         "virtio-blk-pci,drive=d1"},
                             .arguments = {"-drive", "if=none,id=d1,driver=null-co,size=1M"}});
  auto& vm = must(started);
  auto opened = vm.open_class(nvme_class);
  auto mapped = must(opened).map_bar(0);
  CHECK(nvme::vs{must(mapped).read32(nvme::vs::offset)} == nvme::vs::of(1, 4));
  auto region = opened->allocate(4096, 4096);
  CHECK(must(region).bus.value() >= qtest::arm_virt.ram_base);
  vm.registers(region->bus.value(), 4096).write32(0, 0x1234'5678);
  REQUIRE(vm.status());
  CHECK(region->data()[3] == std::byte{0x12});
  auto disk = vm.open_device(0x1af4, 0x1001);
  auto ports = must(disk).map_bar(0);
  CHECK(must(ports).read32(0) != 0xffff'ffff);  // legacy feature bits, through the port window
}

TEST_CASE("DMA memory is the machine's RAM on both sides of the hole below 4 GiB") {
  need_qemu();
  // Sparse: only what is touched takes memory.
  auto started = qtest::machine::start({.memory_bytes = std::uint64_t{3} << 30});
  auto& vm = must(started);
  auto& ram = vm.memory();
  std::vector<dma_region> regions;
  for (int i = 0; i != 2; ++i) {
    auto region = ram.allocate(std::size_t{1} << 29, 4096);
    regions.push_back(must(region));
  }
  auto high = ram.allocate((std::size_t{1} << 30) - (1 << 21), 4096);
  regions.push_back(must(high));
  auto remaining = ram.allocate(std::size_t{900} << 20, 4096);
  regions.push_back(must(remaining));
  bool above = false;
  for (const dma_region& r : regions) {
    above = above || r.bus.value() >= 0x1'0000'0000;
    CHECK(r.bus.value() >= 0x10'0000);
    CHECK((r.bus.value() + r.size() <= 0x8000'0000 || r.bus.value() >= 0x1'0000'0000));
    // Bytes that the processor wrote are read by the machine at the bus address, and the reverse.
    auto seen = vm.registers(r.bus.value(), r.size());
    r.data()[0x1000] = std::byte{0x5a};
    CHECK(seen.read8(0x1000) == 0x5a);
    seen.write32(0x2000, 0x1234'5678);
    REQUIRE(vm.status());
    CHECK(r.data()[0x2000] == std::byte{0x78});
  }
  CHECK(above);
  for (const dma_region& r : regions) ram.release(r);
  const auto too_much = ram.allocate(std::size_t{3} << 30, 4096);
  REQUIRE_FALSE(too_much);
  CHECK(too_much.error().code == errc::exhausted);
}

TEST_CASE("a QEMU started by another program is used through its socket and its memory file") {
  need_qemu();
  folder f;
  const std::string memory = f.image("ram", 0);
  REQUIRE(::truncate(memory.c_str(), 64 << 20) == 0);
  const std::string socket = f.name("qtest");
  const std::string rom = f.name("rom");
  std::ofstream{rom, std::ios::binary} << std::string(65536, '\xf4');
  auto log = qtest::memory_file("log", 0);
  const auto program = qtest::find_program("qemu-system-x86_64");
  auto theirs = qtest::process::start(
      *program,
      {"-machine", "q35,memory-backend=m", "-accel", "tcg", "-bios", rom, "-nodefaults", "-display",
       "none", "-m", "64M", "-object",
       "memory-backend-file,id=m,size=64M,share=on,mem-path=" + memory, "-device", "nvme,serial=z",
       "-qtest", "unix:" + socket + ",server=on,wait=off", "-qtest-log", "/dev/null"},
      must(log).get(), {});
  must(theirs);

  auto vm = qtest::machine::connect({.socket = socket, .memory_path = memory});
  for (int tries = 0; !vm && tries != 1000; ++tries) {
    ::usleep(10'000);
    vm = qtest::machine::connect({.socket = socket, .memory_path = memory});
  }
  CHECK(must(vm).pid() == -1);
  auto opened = vm->open_class(nvme_class);
  auto mapped = must(opened).map_bar(0);
  CHECK(nvme::vs{must(mapped).read32(nvme::vs::offset)} == nvme::vs::of(1, 4));

  const auto nowhere =
      qtest::machine::connect({.socket = f.path + "/nobody", .memory_path = memory});
  REQUIRE_FALSE(nowhere);
  CHECK(text(nowhere.error()).find("nobody") != std::string::npos);
  const auto no_memory =
      qtest::machine::connect({.socket = socket, .memory_path = f.path + "/none"});
  REQUIRE_FALSE(no_memory);
  CHECK(no_memory.error().code == errc::not_found);
}

TEST_CASE("QEMU's own words are in the error when it does not like its arguments") {
  need_qemu();
  const auto unknown = qtest::machine::start({.devices = {"no-such-device"}});
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == errc::io);
  CHECK(text(unknown.error()).find("no-such-device") != std::string::npos);
  const auto missing = qtest::machine::start({.devices = {"nvme,serial=x,drive=d9"}});
  REQUIRE_FALSE(missing);
  CHECK(text(missing.error()).find("d9") != std::string::npos);
}

TEST_CASE("a QEMU that dies is a removed device, and one that hangs is given up in time") {
  need_qemu();
  auto started = qtest::machine::start({.devices = {"nvme,serial=a"}, .answer_timeout_ms = 2000});
  auto& vm = must(started);
  auto opened = vm.open_class(nvme_class);
  auto& ssd = must(opened);
  auto mapped = ssd.map_bar(0);
  auto& bar = must(mapped);
  REQUIRE(vm.status());
  SUBCASE("killed") {
    REQUIRE(::kill(vm.pid(), SIGKILL) == 0);
    for (int i = 0; i != 1000 && vm.status(); ++i) {
      (void)bar.read32(0);
      ::usleep(1000);
    }
    const auto status = vm.status();
    REQUIRE_FALSE(status);
    CHECK(status.error().code == errc::io);
    CHECK(status.error().value == 128 + SIGKILL);
  }
  SUBCASE("stopped") {
    const ::pid_t pid = vm.pid();
    REQUIRE(::kill(pid, SIGSTOP) == 0);
    CHECK(bar.read32(nvme::vs::offset) == 0xffff'ffff);
    CHECK(vm.status().error().code == errc::timed_out);
    REQUIRE(::kill(pid, SIGCONT) == 0);
  }
  // Gone stays gone: no later answer is taken for an earlier question's.
  CHECK(bar.read32(nvme::vs::offset) == 0xffff'ffff);
  bar.write32(nvme::aqa::offset, 1);
  bar.doorbell(0x1000).ring(1);
  CHECK(ssd.map_bar(0).error().code != errc::not_found);
  auto config = ssd.config();
  CHECK(pcie::is_removed(config));
  CHECK(ssd.reset().error().code == errc::removed);
}

TEST_CASE("QEMU is gone when its machine is") {
  need_qemu();
  ::pid_t pid = -1;
  {
    auto started = qtest::machine::start({});
    pid = must(started).pid();
    CHECK(::kill(pid, 0) == 0);
  }
  CHECK(::kill(pid, 0) != 0);
}
