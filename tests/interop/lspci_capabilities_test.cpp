// SPDX-License-Identifier: BSL-1.0
// lspci reads extended capabilities, slots and virtual functions of ours from a dump.
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/device/switch_port.hpp>
#include <phasebit/pcie/spec/enhanced_allocation.hpp>
#include <phasebit/sriov/vf_config.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include <doctest/doctest.h>
#include <support/lspci.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::lspci;

namespace {

using space = config_image<4096>;

#define SAYS(text) CHECK_MESSAGE(said.find(text) != std::string::npos, said)

function_description storage() {
  function_description d{.vendor_id = 0x1b36, .device_id = 0x0010, .class_code = 0x010802};
  d.bars[0] = {bar_kind::memory64, 0x4000};
  d.express = express_description{};
  d.msix = msix_description{.vectors = 3, .table_offset = 0x2000, .pba_offset = 0x3000};
  return d;
}

}  // namespace

TEST_CASE("lspci reads AER, ACS, ATS, page requests and PASID") {
  auto d = storage();
  d.aer = aer_description{.ecrc_check = true};
  d.acs = acs_capability{0x5d};
  d.ats = ats_description{.queue_depth = 16};
  d.page_requests = page_request_description{.capacity = 0x40};
  d.pasid = pasid_description{.width = 0x10, .execute = true, .privileged = true};
  d.serial_number = 0x0102'0304'0506'0708;
  space config;
  const auto layout = emit_function(config, d);
  REQUIRE(layout);
  config.set32(layout->aer + 4U, 0x0010'8000);
  config.write16(static_cast<std::uint16_t>(layout->ats + ats::control), 0x8003);
  config.write16(static_cast<std::uint16_t>(layout->pasid + pasid::control), 0x0003);
  const std::string said = lspci(config, "01:00.0");
  SAYS("Advanced Error Reporting");
  SAYS("UESta:\tDLP- SDES- TLP- FCP- CmpltTO- CmpltAbrt+ UnxCmplt- RxOF- MalfTLP- ECRC- UnsupReq+");
  SAYS("UESvrt:\tDLP+ SDES- TLP- FCP+ CmpltTO- CmpltAbrt- UnxCmplt- RxOF+ MalfTLP+ ECRC-");
  SAYS("CEMsk:\tRxErr- BadTLP- BadDLLP- Rollover- Timeout- AdvNonFatalErr+");
  SAYS("ECRCGenCap- ECRCGenEn- ECRCChkCap+ ECRCChkEn-");
  SAYS("Access Control Services");
  SAYS("ACSCap:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans+");
  SAYS("ACSCtl:\tSrcValid- TransBlk- ReqRedir-");
  SAYS("Address Translation Service (ATS)");
  SAYS("ATSCap:\tInvalidate Queue Depth: 10");
  SAYS("ATSCtl:\tEnable+, Smallest Translation Unit: 03");
  SAYS("Page Request Interface (PRI)");
  SAYS("PRICtl: Enable- Reset-");
  SAYS("PRISta: RF- UPRGI- Stopped+");
  SAYS("Page Request Capacity: 00000040, Page Request Allocation: 00000000");
  SAYS("Process Address Space ID (PASID)");
  SAYS("PASIDCap: Exec+ Priv+, Max PASID Width: 10");
  SAYS("PASIDCtl: Enable+ Exec+ Priv-");
  SAYS("Device Serial Number 01-02-03-04-05-06-07-08");
  CHECK_MESSAGE(said.find("unknown") == std::string::npos, said);
  CHECK_MESSAGE(said.find("chain loops") == std::string::npos, said);
}

TEST_CASE("lspci reads a downstream port with a hot-plug slot, before and after insertion") {
  switch_port port;
  bridge_description d{.vendor_id = 0x1b36, .device_id = 0x0c00};
  d.express.type = port_type::downstream_port;
  d.acs = acs_capability{0x1d};
  REQUIRE(port.reset(d, 7));
  std::string said = lspci(port.image(), "03:00.0");
  SAYS("PCI bridge [0604]");
  SAYS("Express (v2) Downstream Port (Slot+)");
  SAYS("SltCap:\tAttnBtn+ PwrCtrl+ MRL- AttnInd+ PwrInd+ HotPlug+ Surprise+");
  SAYS("Slot #7");
  SAYS("SltSta:\tStatus: AttnBtn- PowerFlt- MRL- CmdCplt- PresDet- Interlock-");
  SAYS("MSI: Enable- Count=1/1 Maskable- 64bit+");
  SAYS("ACSCap:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+");
  SAYS("DLActive-");
  port.insert();
  port.write(static_cast<std::uint16_t>(0x40 + express::slot_control), 2, 0x1139);
  said = lspci(port.image(), "03:00.0");
  SAYS("SltCtl:\tEnable: AttnBtn+ PwrFlt- MRL- PresDet+ CmdCplt+ HPIrq+ LinkChg+");
  SAYS("Control: AttnInd Unknown, PwrInd On, Power- Interlock-");
  SAYS("CmdCplt+ PresDet+ Interlock-");
  SAYS("Changed: MRL- PresDet+ LinkState+");
  SAYS("DLActive+");

  d.express.type = port_type::upstream_port;
  REQUIRE(port.reset(d));
  said = lspci(port.image(), "02:00.0");
  SAYS("Express (v2) Upstream Port");
}

TEST_CASE("lspci reads the configuration space of a virtual function") {
  auto d = storage();
  d.ari_next_function = 1;
  d.sriov = sriov_description{.total_vfs = 4};
  d.sriov->vf_bars[0] = {bar_kind::memory64, 0x4000};
  phasebit::sriov::config_image config;
  REQUIRE(phasebit::sriov::emit_virtual_function(config, d));
  const std::string said = lspci(config, "01:00.1");
  SAYS("[ffff:ffff]");
  SAYS("Express (v2) Endpoint");
  SAYS("FLReset+");
  SAYS("MSI-X: Enable- Count=3 Masked-");
  SAYS("Alternative Routing-ID Interpretation (ARI)");
  SAYS("Next Function: 0");
  CHECK_MESSAGE(said.find("Single Root I/O Virtualization") == std::string::npos, said);
  CHECK_MESSAGE(said.find("Region 0") == std::string::npos, said);
}

TEST_CASE("lspci and this library read the same Enhanced Allocation") {
  auto d = storage();
  std::array<std::byte, 46> body{};
  const std::array<std::uint32_t, 11> entries{0x80ff'0002, 0x9000'0000, 0x0000'3ffc,  // BAR 0
                                              0xc000'0123, 0x0000'0002, 0x0fff'fffc, 0x12,
                                              0x80ff'0384, 0x2000'0000, 0x0000'0ffc, 0x0};
  body[0] = std::byte{3};
  for (std::size_t i = 0; i != entries.size(); ++i) {
    for (unsigned b = 0; b != 4; ++b) {
      body[2 + 4 * i + b] = static_cast<std::byte>(entries[i] >> (8 * b));
    }
  }
  const capability_description ea{capability_id::enhanced_allocation, body, {}};
  d.capabilities = std::span{&ea, 1};
  space config;
  REQUIRE(emit_function(config, d));
  const std::string said = lspci(config, "01:00.0");
  SAYS("Enhanced Allocation (EA): NumEntries=3");
  std::size_t at = said.find("Enhanced Allocation");
  unsigned count = 0;
  REQUIRE(for_each_allocation(config, [&](const allocation& a) {
    std::array<char, 160> wanted{};
    std::snprintf(wanted.data(), wanted.size(), "Entry %u: Enable%c Writable%c EntrySize=%u", count,
                  a.enabled ? '+' : '-', a.writable ? '+' : '-', count + 2);
    at = said.find(wanted.data(), at);
    CHECK_MESSAGE(at != std::string::npos, wanted.data() << said);
    std::snprintf(wanted.data(), wanted.size(), "Base: %llx\n\t\t\t MaxOffset: %08llx",
                  static_cast<unsigned long long>(a.base),
                  static_cast<unsigned long long>(a.last - a.base));
    CHECK_MESSAGE(said.find(wanted.data(), at) != std::string::npos, wanted.data() << said);
    ++count;
    return true;
  }));
  CHECK(count == 3);
}
