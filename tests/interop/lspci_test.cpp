// SPDX-License-Identifier: BSL-1.0
// lspci reads configuration spaces of ours from a dump and has to understand all of it.
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <string>

#include <doctest/doctest.h>
#include <support/lspci.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::lspci;

namespace {

using space = config_image<4096>;

#define SAYS(text) CHECK_MESSAGE(said.find(text) != std::string::npos, said)

}  // namespace

TEST_CASE("lspci reads an NVMe function with everything that we can emit") {
  function_description d{.vendor_id = 0x1b36,
                         .device_id = 0x0010,
                         .class_code = 0x010802,
                         .revision_id = 2,
                         .subsystem_vendor_id = 0x1af4,
                         .subsystem_id = 0x1100,
                         .power_management = true};
  d.bars[0] = {bar_kind::memory64, 0x4000, false};
  d.msix = msix_description{.vectors = 9, .table_offset = 0x2000, .pba_offset = 0x3000};
  d.express = express_description{};
  d.ari_next_function = 0;
  d.sriov = sriov_description{.total_vfs = 4, .vf_device_id = 0x10};
  d.sriov->vf_bars[0] = {bar_kind::memory64, 0x4000};
  d.serial_number = 0x1122'3344'5566'7788;
  space config;
  REQUIRE(emit_function(config, d));
  const auto bars = size_bars(config);
  REQUIRE(bars);
  write_bar_address(config, 0, (*bars)[0], 0x12'c000'0000);
  config.write16(header::command, 6);
  const auto msix = read_msix(config);
  REQUIRE(msix);
  set_msix_control(config, *msix, true);

  const std::string said = lspci(config, "01:00.0");
  SAYS("01:00.0 Non-Volatile memory controller [0108]");
  SAYS("[1b36:0010] (rev 02) (prog-if 02 [NVM Express])");
  SAYS("[1af4:1100]");
  SAYS("Mem+ BusMaster+");
  SAYS("Memory at 12c0000000 (64-bit, non-prefetchable)");
  SAYS("Power Management version 3");
  SAYS("MSI-X: Enable+ Count=9 Masked-");
  SAYS("Vector table: BAR=0 offset=00002000");
  SAYS("PBA: BAR=0 offset=00003000");
  SAYS("Express (v2) Endpoint");
  SAYS("FLReset+");
  SAYS("Speed 16GT/s, Width x4");
  SAYS("Supported Link Speeds: 2.5-16GT/s");
  SAYS("Alternative Routing-ID Interpretation (ARI)");
  SAYS("Single Root I/O Virtualization (SR-IOV)");
  SAYS("Initial VFs: 4, Total VFs: 4, Number of VFs: 0");
  SAYS("VF offset: 1, stride: 1, Device ID: 0010");
  SAYS("Device Serial Number 11-22-33-44-55-66-77-88");
  CHECK_MESSAGE(said.find("unknown") == std::string::npos, said);
  CHECK_MESSAGE(said.find("chain loops") == std::string::npos, said);
}

TEST_CASE("lspci reads a root port with its buses and windows") {
  space config;
  REQUIRE(emit_bridge(config, {.vendor_id = 0x1b36, .device_id = 0x000c}));
  config.write32(bridge_header::primary_bus, 0x0003'0200);
  config.write32(bridge_header::memory_base, 0xc020'c010);
  config.write8(bridge_header::io_base, 0xc0);
  config.write8(bridge_header::io_limit, 0xd0);
  config.write32(bridge_header::prefetchable_base, 0x0010'0000);
  config.write32(bridge_header::prefetchable_base_upper, 0x80);
  config.write32(bridge_header::prefetchable_limit_upper, 0x80);
  const std::string said = lspci(config, "00:01.0");
  SAYS("PCI bridge [0604]");
  SAYS("primary=00, secondary=02, subordinate=03");
  SAYS("I/O behind bridge: c000-dfff");
  SAYS("Memory behind bridge: c0100000-c02fffff");
  SAYS("behind bridge: 0000008000000000-00000080001fffff");
  SAYS("Express (v2) Root Port");
}
