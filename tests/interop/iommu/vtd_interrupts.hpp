// SPDX-License-Identifier: BSL-1.0
// Interrupt remapping of QEMU's intel-iommu by a table of ours. No processor takes the interrupts:
// QEMU's trace contains the remapped messages.
#pragma once

#include <phasebit/iommu/translation/interrupt_remapping.hpp>
#include <phasebit/pcie/spec/msix.hpp>

#include <cstdio>
#include <fstream>
#include <string>

#include <interop/iommu/body.hpp>
#include <interop/iommu/vtd_machine.hpp>

namespace phasebit_test {

template <unsigned Major>
struct vtd_interrupt_machine : vtd_machine<iommu::vtd_width::bits_48, Major> {
  // QEMU 7.2 blocks what it should and records none of it.
  static bool logs_interrupts() {
    return version_of(qemu_of(Major, qtest::options{}.board.program)) >= 10;
  }

  static std::string trace() {
    return "/tmp/phasebit-vtd-trace-" + std::to_string(::getpid()) + ".log";
  }
  static qtest::options options() {
    qtest::options o = vtd_machine<iommu::vtd_width::bits_48, Major>::options();
    o.devices = {"intel-iommu,aw-bits=48,intremap=on"};
    o.arguments = {"-trace", "vtd_ir_remap_msi", "-D", trace()};
    return o;
  }
};

TEST_CASE_TEMPLATE_DEFINE("a message becomes the interrupt of our table's entry, or none", Machine,
                          vtd_interrupts) {
  using pcie_message = phasebit::pcie::msi_message;
  using entry = iommu::vtd::interrupt_entry;
  struct cleaner {
    ~cleaner() { ::unlink(Machine::trace().c_str()); }
  } gone_afterwards;
  rig<Machine> r;
  must(r.unit().enable());
  CHECK(r.unit().set_interrupt(5, entry{}).error().code == phasebit::errc::not_ready);
  must(r.unit().remap_interrupts(r.tables(), 8));
  CHECK(r.unit().set_interrupt(256, entry{}).error().code == phasebit::errc::out_of_range);

  domain<Machine> d{r, 7};
  translated_function<Machine> disk{r.open_disk(0), r.ram(), d, queues_at};
  d.attach(disk.id());
  auto config = disk.config();
  const auto msix = must(phasebit::pcie::read_msix(config));
  auto table = must(
      phasebit::pcie::msix_table<qtest::bar>::attach(must(disk.map_bar(msix.table_bar)), msix));
  phasebit::pcie::set_msix_control(config, msix, true);
  auto host = must(phasebit::nvme::driver::controller<translated_function<Machine>>::attach(
      disk, {.io_queues = 1}));
  auto queue = must(host.template create_queue_pair<std::uint32_t>({.depth = 4, .interrupt = 1}));

  // QEMU's trace of messages since the last call, each "(addr A, data D) -> (addr A, data D)".
  std::streamoff read_so_far = 0;
  const auto news = [&] {
    must(r.machine().status());
    std::ifstream file{Machine::trace()};
    file.seekg(read_so_far);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
      read_so_far += static_cast<std::streamoff>(line.size()) + 1;
      if (line.find("vtd_ir_remap_msi ") != std::string::npos) lines.push_back(line);
    }
    return lines;
  };
  const auto command_with = [&](const pcie_message& message) {
    table.program(1, message);
    table.unmask(1);
    static_cast<void>(news());
    REQUIRE(queue.submit(phasebit::nvme::nvm::flush(1), 0));
    queue.ring();
    REQUIRE(within_ten_seconds(disk, [&]() noexcept {
      return queue.poll([](std::uint32_t&, phasebit::nvme::driver::completion) noexcept {}) != 0;
    }));
    // The message follows the completion: it is waited for where there is one.
  };
  const auto becomes = [&](const pcie_message& message) {
    std::array<char, 64> wanted{};
    std::snprintf(wanted.data(), wanted.size(), "-> (addr 0x%llx, data 0x%x)",
                  static_cast<unsigned long long>(message.address.value()), message.data);
    return within_ten_seconds(disk, [&]() noexcept {
      for (const std::string& line : news()) {
        if (line.find(wanted.data()) != std::string::npos) return true;
      }
      return false;
    });
  };
  const auto is_blocked = [&](std::uint16_t code, std::uint64_t index) {
    if (!Machine::logs_interrupts()) {
      CHECK(r.faults().empty());
      CHECK(news().empty());
      return;
    }
    std::optional<iommu::translation_fault> fault;
    REQUIRE(within_ten_seconds(disk, [&]() noexcept {
      fault = r.unit().next_fault();
      return fault.has_value();
    }));
    CHECK(fault->interrupt);
    CHECK(fault->code == code);
    CHECK(fault->address == index);
    CHECK(fault->requester == disk.id());
    CHECK(news().empty());
  };

  // QEMU hands on edge-triggered messages with the level "assert".
  iommu::remapped_interrupt wanted{.vector = 0x41, .destination = 3};
  const auto from_us = entry::fixed(wanted.vector, wanted.destination, disk.id().raw());
  const pcie_message message = must(r.unit().set_interrupt(5, from_us));
  command_with(message);
  pcie_message expected = wanted.message();
  expected.data |= 1U << 14;
  CHECK(becomes(expected));

  // Another entry, and the same one changed.
  const pcie_message other =
      must(r.unit().set_interrupt(255, entry::fixed(0x52, 1, disk.id().raw())));
  command_with(other);
  wanted = {.vector = 0x52, .destination = 1};
  expected = wanted.message();
  expected.data |= 1U << 14;
  CHECK(becomes(expected));
  must(r.unit().set_interrupt(5, entry::fixed(0x63, 3, disk.id().raw())));
  command_with(message);
  wanted = {.vector = 0x63, .destination = 3};
  expected = wanted.message();
  expected.data |= 1U << 14;
  CHECK(becomes(expected));
  CHECK(r.faults().empty());

  must(r.unit().set_interrupt(5, entry::fixed(0x41, 3, 0x1234)));
  command_with(message);
  is_blocked(0x26, 5);
  must(r.unit().set_interrupt(5, entry{}));
  command_with(message);
  is_blocked(0x22, 5);
  command_with({bus_addr{iommu::vtd::remappable_address::of(300, false).raw}, 0});
  is_blocked(0x21, 300);

  // GSTS.CFIS is 0: a message of the old format is to be blocked (5.1.4). QEMU lets it pass.
  command_with({bus_addr{0xfee0'0000}, 0x42});
  CHECK(becomes({bus_addr{0xfee0'0000}, 0x42}));
  CHECK(r.faults().empty());
  phasebit::pcie::set_msix_control(config, msix, false);
}

}  // namespace phasebit_test
