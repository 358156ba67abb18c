// SPDX-License-Identifier: BSL-1.0
// The emulated IOMMUs by their registers: what drivers seldom do, and what hostile ones do.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/iommu/command_queue/producer.hpp>
#include <phasebit/iommu/device_table/device_table.hpp>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::iommu;
namespace sim = phasebit::backend::simulated;

namespace {

// A device that does DMA as its registers select: address, then 1 to read or 2 to write; or 4 to
// raise its vector.
struct prober {
  explicit prober(const sim::device_port& port) noexcept
      : dma(port.dma()), interrupts(port.interrupts()) {}
  std::uint32_t read32(std::uint32_t) noexcept { return answered ? 1 : 0; }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    if (offset == 0) address = (address >> 32 << 32) | value;
    if (offset == 4) address = (address & 0xffff'ffff) | std::uint64_t{value} << 32;
    if (offset != 8) return;
    if (value == 4) {
      interrupts.raise(0);
    } else {
      answered = dma.translate(bus_addr{address}, 64, static_cast<phasebit::access>(value & 3))
                     .has_value();
    }
  }
  unsigned poll() noexcept { return 0; }
  void reset() noexcept {}
  sim::dma_port dma;
  sim::interrupt_port interrupts;
  std::uint64_t address = 0;
  bool answered = false;
};

template <class Iommu>
struct rig {
  sim::fabric fabric{{.memory_bytes = 8 << 20}};
  Iommu emulated{fabric};
  sim::function device = make(fabric);
  sim::simulated_bar device_bar = *device.map_bar(0);
  typename Iommu::bar_type bar = emulated.bar();

  static sim::function make(sim::fabric& fabric) {
    sim::function_description d{.device = 7};
    d.pci = {
        .vendor_id = 0x5042,
        .device_id = 1,
        .class_code = 0xff0000,
        .msix =
            pcie::msix_description{.vectors = 4, .table_bar = 4, .pba_bar = 4, .pba_offset = 0x800},
        .express = pcie::express_description{}};
    d.pci.bars[0] = {pcie::bar_kind::memory64, 0x1000};
    d.pci.bars[4] = {pcie::bar_kind::memory32, 0x1000};
    return *fabric.add(d, [](const sim::device_port& p) noexcept { return prober{p}; });
  }
  bool dma(std::uint64_t at, phasebit::access wanted) {
    device_bar.write64_lo_hi(0, at);
    device_bar.write32(8, static_cast<std::uint32_t>(wanted));
    return device_bar.read32(0) == 1;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("any values in any registers, and any memory behind them, end in answers", Iommu,
                   sim::vtd_iommu, sim::amd_iommu, sim::smmuv3_iommu, sim::riscv_iommu) {
  rig<Iommu> r;
  std::mt19937_64 random{11};
  const auto block = *r.fabric.memory().allocate(1 << 20, 1 << 20);
  const std::uint64_t base = block.bus.value();
  // The offsets of registers; other offsets of the block can be accessed, too.
  std::vector<std::uint32_t> offsets;
  for (std::uint32_t at = 0; at != 0x100; at += 4) offsets.push_back(at);
  for (std::uint32_t at = 0x220; at != 0x2c0; at += 4) offsets.push_back(at);
  for (std::uint32_t at = 0x2000; at < Iommu::device_type::register_bytes && at != 0x2040;
       at += 4) {
    offsets.push_back(at);
  }
  for (std::uint32_t at = 0x1'00a0; at < Iommu::device_type::register_bytes && at != 0x1'00c0;
       at += 4) {
    offsets.push_back(at);
  }
  unsigned passed = 0;
  for (unsigned i = 0; i != 20'000; ++i) {
    const std::uint32_t offset = offsets[random() % offsets.size()];
    switch (random() % 8) {
      case 0:
        r.bar.write64_lo_hi(offset & ~7U, base + (random() % 256 << 12) + random() % 32);
        break;
      case 1:
        r.bar.write64_lo_hi(offset & ~7U, ((base + (random() % 256 << 12)) >> 2) | random() % 16);
        break;
      case 2:
        r.bar.write32(offset, static_cast<std::uint32_t>(random() >> random() % 64));
        break;
      case 3:
        r.bar.write32(offset, std::uint32_t{1} << random() % 32);
        break;
      case 4:
        r.bar.write32(offset, ~std::uint32_t{0});
        break;
      case 5: {
        const std::size_t at = random() % (block.size() / 8) * 8;
        std::uint64_t value = random();
        if (random() % 2 == 0) value = (base + (random() % 256 << 12)) | (value & 0xfff);
        std::memcpy(block.data() + at, &value, 8);
        break;
      }
      case 6:
        static_cast<void>(r.bar.read64(offset & ~7U));
        break;
      default:
        passed += r.dma(random() % 2 == 0 ? base : random() >> random() % 60,
                        random() % 2 == 0 ? phasebit::access::read : phasebit::access::write)
                      ? 1
                      : 0;
        r.device_bar.write32(8, 4);
        break;
    }
  }
  CHECK(passed != 0);  // it was off at first
  CHECK(r.fabric.dma_faults().count() != 0);
}

TEST_CASE(
    "a VT-d IOMMU remaps interrupts and reports faults by messages, programmed by registers") {
  rig<sim::vtd_iommu> r;
  using namespace vtd;
  const auto block = *r.fabric.memory().allocate(0x8000, 0x1000);
  const auto at = [&](unsigned page) { return block.bus.value() + page * 0x1000; };
  const auto words = [&](unsigned page) {
    return reinterpret_cast<table_word*>(block.data() + page * 0x1000);
  };
  // All DMA of the device passes; its interrupts go through entry 5.
  replace_entry(words(0), root_entry::at(at(1)), []() noexcept {});
  replace_entry(words(1) + 2 * r.device.id().raw(),
                context_entry::pass_through(vtd_width::bits_48, 1), []() noexcept {});
  r.bar.write64_lo_hi(rtaddr::offset, at(0));
  r.bar.write32(gcmd::offset, gcmd::srtp.of(true));
  r.bar.write64_lo_hi(irta::offset, at(2) | 7);
  r.bar.write32(gcmd::offset, gcmd::sirtp.of(true));
  CHECK((r.bar.read32(gsts::offset) & gcmd::sirtp.of(true)) != 0);
  r.bar.write32(gcmd::offset, gcmd::te.of(true) | gcmd::ire.of(true));
  CHECK(r.dma(block.bus.value(), phasebit::access::write));

  REQUIRE(r.device.enable_interrupts(4));
  REQUIRE(r.device.set_message(0, {bus_addr{remappable_address::of(5, false).raw}, 0}));
  // FECTL, FEDATA, FEADDR.
  r.bar.write32(0x3c, 0x31);
  r.bar.write32(0x40, 0xfee0'0000);
  r.bar.write32(fectl::offset, 0);
  CHECK_FALSE(r.emulated.fault_event().poll());
  r.device_bar.write32(8, 4);
  CHECK(r.emulated.fault_event().poll());
  CHECK(fsts{r.bar.read32(fsts::offset)}[fsts::ppf]);
  const std::uint32_t record = cap{r.bar.read64(cap::offset)}[cap::fro] * 16U;
  const fault_record what{frcd_low{r.bar.read64(record)}, frcd_high{r.bar.read64(record + 8)}};
  CHECK(what.decode().reason == fault_reason::interrupt_absent);
  CHECK(what.decode().address == 5);
  r.bar.write32(record + 12, 0x8000'0000);
  CHECK(r.bar.read32(fsts::offset) == 0);
  replace_entry(words(2) + 10, interrupt_entry::fixed(3, 0, r.device.id().raw()), []() noexcept {});
  r.device_bar.write32(8, 4);
  CHECK(r.device.poll_interrupt(3));
  CHECK_FALSE(r.emulated.fault_event().poll());
}

TEST_CASE(
    "a VT-d IOMMU stops at a descriptor that means nothing, and goes on when it is replaced") {
  rig<sim::vtd_iommu> r;
  using namespace vtd;
  const auto ring = *r.fabric.memory().allocate(0x1000, 0x1000);
  auto* const words = reinterpret_cast<table_word*>(ring.data());
  r.bar.write64_lo_hi(iqa::offset, ring.bus.value());
  r.bar.write32(gcmd::offset, gcmd::qie.of(true));
  words[0] = 0xf;  // no such type
  r.bar.write32(iqt::offset, 0x20);
  CHECK(fsts{r.bar.read32(fsts::offset)}[fsts::iqe]);
  CHECK(r.bar.read32(iqh::offset) == 0);
  // A global context-cache invalidation in its place, and a second one behind it.
  words[0] = 0x11;
  words[2] = 0x11;
  r.bar.write32(fsts::offset, fsts::iqe.of(true));
  CHECK(r.bar.read32(fsts::offset) == 0);
  CHECK(r.bar.read32(iqh::offset) == 0x20);
  r.bar.write32(gcmd::offset, 0);
  CHECK(r.bar.read32(gsts::offset) == 0);
}

TEST_CASE("an AMD IOMMU logs a command that it refuses, and halts its buffer") {
  rig<sim::amd_iommu> r;
  using namespace amd;
  const auto ring = *r.fabric.memory().allocate(0x2000, 0x1000);
  auto* const words = reinterpret_cast<table_word*>(ring.data());
  r.bar.write64_lo_hi(command_buffer_base::offset, ring.bus.value() | std::uint64_t{8} << 56);
  r.bar.write64_lo_hi(event_log_base::offset, (ring.bus.value() + 0x1000) | std::uint64_t{8} << 56);
  words[0] = std::uint64_t{0xf} << 60;
  r.bar.write32(control::offset, control::iommuen.of(true) | control::eventlogen.of(true) |
                                     control::cmdbufen.of(true) | control::eventinten.of(true));
  CHECK(status{r.bar.read64(status::offset)}[status::cmdbufrun]);
  r.bar.write32(command_tail_offset, 0x10);
  const status now{r.bar.read64(status::offset)};
  CHECK_FALSE(now[status::cmdbufrun]);
  CHECK(now[status::eventlogint]);
  CHECK(r.bar.read32(event_tail_offset) == 0x10);
  CHECK((words[0x200] >> 60) == 5);  // ILLEGAL_COMMAND_ERROR
  CHECK(r.emulated.fault_event().poll());
}

TEST_CASE("an SMMU reports a refused command in GERROR, until it is acknowledged") {
  rig<sim::smmuv3_iommu> r;
  using namespace smmuv3;
  const auto ring = *r.fabric.memory().allocate(0x1000, 0x1000);
  auto* const words = reinterpret_cast<table_word*>(ring.data());
  r.bar.write64_lo_hi(queue_base::cmdq_offset, ring.bus.value() | 4);
  r.bar.write32(cr0::offset, cr0::cmdqen.of(true));
  CHECK(r.bar.read32(cr0::ack_offset) == cr0::cmdqen.of(true));
  words[0] = 0xff;
  r.bar.write32(cmdq_prod_offset, 1);
  CHECK(gerror{r.bar.read32(gerror::offset)}[gerror::cmdq_err]);
  CHECK(r.bar.read32(cmdq_cons_offset) == 1U << 24);
  words[0] = 0x46;  // CMD_SYNC
  r.bar.write32(gerror::ack_offset, r.bar.read32(gerror::offset));
  CHECK(r.bar.read32(cmdq_cons_offset) == 1);
  // Off, accesses pass, unless GBPA blocks them.
  const auto memory = *r.fabric.memory().allocate(64, 64);
  CHECK(r.dma(memory.bus.value(), phasebit::access::write));
  r.bar.write32(gbpa::offset, gbpa::update.of(true) | gbpa::abort.of(true));
  CHECK_FALSE(r.dma(memory.bus.value(), phasebit::access::write));
  CHECK(r.bar.read32(gbpa::offset) == gbpa::abort.of(true));
}

TEST_CASE("a RISC-V IOMMU lets nothing through after reset, and keeps a legal mode") {
  rig<sim::riscv_iommu> r;
  using namespace riscv;
  const auto memory = *r.fabric.memory().allocate(64, 64);
  CHECK_FALSE(r.dma(memory.bus.value(), phasebit::access::write));
  r.bar.write64_lo_hi(ddtp::offset, 1);
  CHECK(r.dma(memory.bus.value(), phasebit::access::write));
  r.bar.write32(ddtp::offset, 9);
  CHECK(r.bar.read64(ddtp::offset) == 1);
  // A command that means nothing: cmd_ill, cleared by writing one.
  const auto ring = *r.fabric.memory().allocate(0x1000, 0x1000);
  auto* const words = reinterpret_cast<table_word*>(ring.data());
  r.bar.write64_lo_hi(queue_base::cqb_offset, ring.bus.value() >> 2 | 3);
  r.bar.write32(cqcsr_offset, 1);
  CHECK(r.bar.read32(cqcsr_offset) == 0x1'0001);
  words[0] = 0x7f;
  r.bar.write32(cqt_offset, 1);
  CHECK(r.bar.read32(cqcsr_offset) == 0x1'0401);
  words[0] = 3;  // IODIR.INVAL_DDT
  r.bar.write32(cqcsr_offset, 0x401);
  CHECK(r.bar.read32(cqcsr_offset) == 0x1'0001);
  CHECK(r.bar.read32(cqh_offset) == 1);
}
