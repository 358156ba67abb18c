// SPDX-License-Identifier: BSL-1.0
// Extended capabilities as they are emitted: where they are, what they read after a reset, what a host
// writes, and what it clears by ones. Held against linux/pci_regs.h where that header has the number.
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/device/switch_port.hpp>
#include <phasebit/pcie/spec/aer_capability.hpp>
#include <phasebit/pcie/spec/hotplug_capability.hpp>

#include <array>
#include <cstdint>

#include <doctest/doctest.h>
#include <linux/pci_regs.h>

using namespace phasebit;
using namespace phasebit::pcie;

namespace {

using space = config_image<4096>;

function_description everything() {
  function_description d{.vendor_id = 0x1234, .device_id = 0x5678, .class_code = 0x010802};
  d.bars[0] = {bar_kind::memory64, 0x4000};
  d.express = express_description{};
  d.aer = aer_description{.ecrc_generation = true, .ecrc_check = true};
  d.acs = acs_capability{0x5f};
  d.ats = ats_description{.queue_depth = 32};
  d.page_requests = page_request_description{.capacity = 64, .response_pasid_required = true};
  d.pasid = pasid_description{.width = 20, .execute = true};
  return d;
}

// The value of a register after ones were written to all of it.
std::uint32_t after_ones(space& config, std::uint16_t at) {
  config.write32(at, 0xffff'ffff);
  return config.read32(at);
}

std::uint16_t plus(std::uint16_t at, unsigned offset) {
  return static_cast<std::uint16_t>(at + offset);
}

template <class Register, unsigned Hi, unsigned Lo, class Value>
constexpr std::uint32_t mask_of(field<Hi, Lo, Value> f) {
  return static_cast<std::uint32_t>(f.template mask<typename Register::word_type>);
}

}  // namespace

TEST_CASE("layouts agree with linux/pci_regs.h") {
  CHECK(aer::uncorrectable_status == PCI_ERR_UNCOR_STATUS);
  CHECK(aer::uncorrectable_mask == PCI_ERR_UNCOR_MASK);
  CHECK(aer::uncorrectable_severity == PCI_ERR_UNCOR_SEVER);
  CHECK(aer::correctable_status == PCI_ERR_COR_STATUS);
  CHECK(aer::correctable_mask == PCI_ERR_COR_MASK);
  CHECK(aer::control == PCI_ERR_CAP);
  CHECK(aer::header_log == PCI_ERR_HEADER_LOG);
  CHECK(aer::root_command == PCI_ERR_ROOT_COMMAND);
  CHECK(aer::root_status == PCI_ERR_ROOT_STATUS);
  CHECK(aer::error_source == PCI_ERR_ROOT_ERR_SRC);
  using u = uncorrectable_errors;
  CHECK(mask_of<u>(u::data_link_protocol) == PCI_ERR_UNC_DLP);
  CHECK(mask_of<u>(u::surprise_down) == PCI_ERR_UNC_SURPDN);
  CHECK(mask_of<u>(u::poisoned_tlp) == PCI_ERR_UNC_POISON_TLP);
  CHECK(mask_of<u>(u::completion_timeout) == PCI_ERR_UNC_COMP_TIME);
  CHECK(mask_of<u>(u::completer_abort) == PCI_ERR_UNC_COMP_ABORT);
  CHECK(mask_of<u>(u::unexpected_completion) == PCI_ERR_UNC_UNX_COMP);
  CHECK(mask_of<u>(u::malformed_tlp) == PCI_ERR_UNC_MALF_TLP);
  CHECK(mask_of<u>(u::ecrc) == PCI_ERR_UNC_ECRC);
  CHECK(mask_of<u>(u::unsupported_request) == PCI_ERR_UNC_UNSUP);
  CHECK(mask_of<u>(u::acs_violation) == PCI_ERR_UNC_ACSV);
  CHECK(mask_of<u>(u::internal) == PCI_ERR_UNC_INTN);
  CHECK(mask_of<u>(u::tlp_prefix_blocked) == PCI_ERR_UNC_TLPPRE);
  using c = correctable_errors;
  CHECK(mask_of<c>(c::receiver) == PCI_ERR_COR_RCVR);
  CHECK(mask_of<c>(c::bad_tlp) == PCI_ERR_COR_BAD_TLP);
  CHECK(mask_of<c>(c::replay_timer_timeout) == PCI_ERR_COR_REP_TIMER);
  CHECK(mask_of<c>(c::advisory_nonfatal) == PCI_ERR_COR_ADV_NFAT);
  CHECK(mask_of<c>(c::header_log_overflow) == PCI_ERR_COR_LOG_OVER);
  using k = aer_control;
  CHECK(mask_of<k>(k::ecrc_generation_capable) == PCI_ERR_CAP_ECRC_GENC);
  CHECK(mask_of<k>(k::ecrc_check_enable) == PCI_ERR_CAP_ECRC_CHKE);

  CHECK(acs::capability == PCI_ACS_CAP);
  CHECK(acs::control == PCI_ACS_CTRL);
  CHECK(acs::egress_control_vector == PCI_ACS_EGRESS_CTL_V);
  using a = acs_capability;
  CHECK(mask_of<a>(a::source_validation) == PCI_ACS_SV);
  CHECK(mask_of<a>(a::translation_blocking) == PCI_ACS_TB);
  CHECK(mask_of<a>(a::request_redirect) == PCI_ACS_RR);
  CHECK(mask_of<a>(a::completion_redirect) == PCI_ACS_CR);
  CHECK(mask_of<a>(a::upstream_forwarding) == PCI_ACS_UF);
  CHECK(mask_of<a>(a::egress_control) == PCI_ACS_EC);
  CHECK(mask_of<a>(a::direct_translated) == PCI_ACS_DT);

  CHECK(ats::capability == PCI_ATS_CAP);
  CHECK(ats::control == PCI_ATS_CTRL);
  CHECK(mask_of<ats_capability>(ats_capability::page_aligned_request) == PCI_ATS_CAP_PAGE_ALIGNED);
  CHECK(mask_of<ats_control>(ats_control::enable) == PCI_ATS_CTRL_ENABLE);
  CHECK(page_request::control == PCI_PRI_CTRL);
  CHECK(page_request::status == PCI_PRI_STATUS);
  CHECK(page_request::capacity == PCI_PRI_MAX_REQ);
  CHECK(page_request::allocation == PCI_PRI_ALLOC_REQ);
  using s = page_request_status;
  CHECK(mask_of<s>(s::response_failure) == PCI_PRI_STATUS_RF);
  CHECK(mask_of<s>(s::unexpected_group) == PCI_PRI_STATUS_UPRGI);
  CHECK(mask_of<s>(s::stopped) == PCI_PRI_STATUS_STOPPED);
  CHECK(mask_of<s>(s::response_pasid_required) == PCI_PRI_STATUS_PASID);
  CHECK(pasid::capability == PCI_PASID_CAP);
  CHECK(pasid::control == PCI_PASID_CTRL);
  CHECK(mask_of<pasid_capability>(pasid_capability::execute) == PCI_PASID_CAP_EXEC);
  CHECK(mask_of<pasid_capability>(pasid_capability::privileged) == PCI_PASID_CAP_PRIV);
  CHECK(mask_of<pasid_control>(pasid_control::enable) == PCI_PASID_CTRL_ENABLE);

  using p = slot_capabilities;
  CHECK(express::slot_capabilities == PCI_EXP_SLTCAP);
  CHECK(mask_of<p>(p::attention_button) == PCI_EXP_SLTCAP_ABP);
  CHECK(mask_of<p>(p::power_controller) == PCI_EXP_SLTCAP_PCP);
  CHECK(mask_of<p>(p::mrl_sensor) == PCI_EXP_SLTCAP_MRLSP);
  CHECK(mask_of<p>(p::attention_indicator) == PCI_EXP_SLTCAP_AIP);
  CHECK(mask_of<p>(p::power_indicator) == PCI_EXP_SLTCAP_PIP);
  CHECK(mask_of<p>(p::hot_plug_surprise) == PCI_EXP_SLTCAP_HPS);
  CHECK(mask_of<p>(p::hot_plug_capable) == PCI_EXP_SLTCAP_HPC);
  CHECK(mask_of<p>(p::power_limit_value) == PCI_EXP_SLTCAP_SPLV);
  CHECK(mask_of<p>(p::power_limit_scale) == PCI_EXP_SLTCAP_SPLS);
  CHECK(mask_of<p>(p::no_command_completed) == PCI_EXP_SLTCAP_NCCS);
  CHECK(mask_of<p>(p::physical_slot_number) == PCI_EXP_SLTCAP_PSN);
  using q = slot_control;
  CHECK(express::slot_control == PCI_EXP_SLTCTL);
  CHECK(mask_of<q>(q::attention_button_enable) == PCI_EXP_SLTCTL_ABPE);
  CHECK(mask_of<q>(q::presence_enable) == PCI_EXP_SLTCTL_PDCE);
  CHECK(mask_of<q>(q::command_completed_enable) == PCI_EXP_SLTCTL_CCIE);
  CHECK(mask_of<q>(q::hot_plug_interrupt_enable) == PCI_EXP_SLTCTL_HPIE);
  CHECK(mask_of<q>(q::attention_indicator) == PCI_EXP_SLTCTL_AIC);
  CHECK(mask_of<q>(q::power_indicator) == PCI_EXP_SLTCTL_PIC);
  CHECK(mask_of<q>(q::power_off) == PCI_EXP_SLTCTL_PCC);
  CHECK(mask_of<q>(q::interlock) == PCI_EXP_SLTCTL_EIC);
  CHECK(mask_of<q>(q::link_state_enable) == PCI_EXP_SLTCTL_DLLSCE);
  using t = slot_status;
  CHECK(express::slot_status == PCI_EXP_SLTSTA);
  CHECK(mask_of<t>(t::attention_button_pressed) == PCI_EXP_SLTSTA_ABP);
  CHECK(mask_of<t>(t::presence_changed) == PCI_EXP_SLTSTA_PDC);
  CHECK(mask_of<t>(t::command_completed) == PCI_EXP_SLTSTA_CC);
  CHECK(mask_of<t>(t::present) == PCI_EXP_SLTSTA_PDS);
  CHECK(mask_of<t>(t::link_state_changed) == PCI_EXP_SLTSTA_DLLSC);
  CHECK(resizable_bar::capability == PCI_REBAR_CAP);
  CHECK(resizable_bar::control == PCI_REBAR_CTRL);
}

TEST_CASE("error reporting: defaults, masks, and status that is cleared by ones") {
  space config;
  const auto layout = emit_function(config, everything());
  REQUIRE(layout);
  const std::uint16_t at = layout->aer;
  CHECK(*find_capability(config, extended_capability_id::advanced_error_reporting) == at);
  CHECK(config.read32(plus(at, aer::uncorrectable_mask)) == 0x0040'0000);
  CHECK(config.read32(plus(at, aer::uncorrectable_severity)) == 0x0046'2010);
  CHECK(config.read32(plus(at, aer::correctable_mask)) == 0x2000);
  CHECK(after_ones(config, plus(at, aer::uncorrectable_status)) == 0);
  config.set32(plus(at, aer::uncorrectable_status), 0x0010'8000);
  config.write32(plus(at, aer::uncorrectable_status), 0x0000'8000);
  CHECK(config.read32(plus(at, aer::uncorrectable_status)) == 0x0010'0000);
  CHECK(after_ones(config, plus(at, aer::uncorrectable_mask)) == 0x007f'f010);
  CHECK(after_ones(config, plus(at, aer::uncorrectable_severity)) == 0x007f'f010);
  CHECK(after_ones(config, plus(at, aer::correctable_mask)) == 0x31c1);
  CHECK(config.read32(plus(at, aer::control)) == 0xa0);
  CHECK(after_ones(config, plus(at, aer::control)) == 0x1e0);
  CHECK(after_ones(config, plus(at, aer::header_log)) == 0);
  // Without ECRC there is no such error.
  auto d = everything();
  d.aer = aer_description{};
  REQUIRE(emit_function(config, d));
  CHECK(after_ones(config, plus(at, aer::uncorrectable_mask)) == 0x0077'f010);
  CHECK(after_ones(config, plus(at, aer::control)) == 0);
}

TEST_CASE(
    "access control, address translation, page requests and PASID take the bits that they have") {
  space config;
  const auto layout = emit_function(config, everything());
  REQUIRE(layout);
  CHECK(config.read32(plus(layout->acs, acs::capability)) == 0x5f);
  CHECK(after_ones(config, plus(layout->acs, acs::capability)) == 0x005f'005f);
  CHECK(config.read32(plus(layout->ats, ats::capability)) == 0x20);  // depth 32 is 0; page aligned
  CHECK(after_ones(config, plus(layout->ats, ats::capability)) == 0x801f'0020);
  CHECK(config.read32(plus(layout->page_request, page_request::control)) == 0x8100'0000);
  config.set16(plus(layout->page_request, page_request::status), 0x8003);
  const auto effect =
      config.write(plus(layout->page_request, page_request::control), 4, 0x0001'0003);
  CHECK(config.read32(plus(layout->page_request, page_request::control)) == 0x8002'0001);
  CHECK(effect.wrote_one(layout->page_request + page_request::control, 1));  // Reset
  CHECK(after_ones(config, plus(layout->page_request, page_request::capacity)) == 64);
  CHECK(after_ones(config, plus(layout->page_request, page_request::allocation)) == 0xffff'ffff);
  CHECK(config.read32(plus(layout->pasid, pasid::capability)) == 0x1402);
  CHECK(after_ones(config, plus(layout->pasid, pasid::capability)) == 0x0003'1402);
}

TEST_CASE("capabilities that do not exist so are refused") {
  space config;
  const auto refused = [&](auto change) {
    auto d = everything();
    change(d);
    const auto emitted = emit_function(config, d);
    REQUIRE_FALSE(emitted);
    return emitted.error().code;
  };
  CHECK(refused([](auto& d) { d.acs = acs_capability{0x20}; }) == errc::not_supported);
  CHECK(refused([](auto& d) { d.ats = ats_description{.queue_depth = 33}; }) ==
        errc::invalid_argument);
  CHECK(refused([](auto& d) { d.ats = ats_description{.queue_depth = 0}; }) ==
        errc::invalid_argument);
  CHECK(refused([](auto& d) { d.pasid = pasid_description{.width = 21}; }) ==
        errc::invalid_argument);
  static constexpr std::array<resizable_bar_description, 1> small{{{.bar = 0, .sizes = 1}}};
  CHECK(refused([](auto& d) { d.resizable_bars = small; }) == errc::invalid_argument);
  static constexpr std::array<resizable_bar_description, 1> none{{{.bar = 6, .sizes = 1}}};
  CHECK(refused([](auto& d) { d.resizable_bars = none; }) == errc::invalid_argument);
}

TEST_CASE("a resizable BAR reports its sizes and accepts one of them") {
  static constexpr std::array<resizable_bar_description, 2> list{
      {{.bar = 0, .sizes = 0b110}, {.bar = 2, .sizes = 1 << 10}}};
  auto d = everything();
  d.bars[0] = {bar_kind::memory64, 4 << 20, true};
  d.bars[2] = {bar_kind::memory64, 1 << 30, true};
  d.resizable_bars = list;
  space config;
  const auto layout = emit_function(config, d);
  REQUIRE(layout);
  const std::uint16_t at = layout->resizable_bars;
  CHECK(config.read32(plus(at, 4)) == 0x60);
  CHECK(config.read32(plus(at, 8)) == (2U << 8 | 2U << 5));
  CHECK(config.read32(plus(at, 12)) == 1U << 14);
  CHECK(config.read32(plus(at, 16)) == (10U << 8 | 2U));
  CHECK(after_ones(config, plus(at, 8)) == (0x3fU << 8 | 2U << 5));
}

TEST_CASE("a downstream port's slot follows insertion, commands and removal") {
  switch_port port;
  bridge_description d{.vendor_id = 1, .device_id = 2};
  d.express.type = port_type::downstream_port;
  REQUIRE(port.reset(d, 5));
  auto image = port.image();
  const std::uint16_t express = *find_capability(image, capability_id::pci_express);
  const std::uint16_t control = plus(express, express::slot_control);
  const std::uint16_t status = plus(express, express::slot_status);
  const std::uint16_t link = plus(express, express::link_status);
  CHECK((port.read(plus(express, express::capabilities), 2) & 0x1f0) == 0x160);
  CHECK(port.read(plus(express, express::slot_capabilities), 4) == (5U << 19 | 0x7b));
  CHECK(port.slot() == slot_state::empty);
  CHECK((port.read(link, 2) & 0x2000) == 0);
  CHECK_FALSE(port.insert().interrupt);  // nothing is enabled
  CHECK(port.slot() == slot_state::on);
  CHECK((port.read(link, 2) & 0x2000) != 0);
  CHECK(port.read(status, 2) == 0x148);
  CHECK_FALSE(port.insert().power_changed);
  port.write(status, 2, 0x40);  // Presence Detect State is not cleared
  CHECK(port.read(status, 2) == 0x148);
  port.write(status, 2, 0x108);
  CHECK(port.read(status, 2) == 0x40);
  // Each event interrupts once, when it becomes pending and is enabled.
  CHECK(port.write(control, 2, 0x1039).slot.interrupt);  // a command completes
  CHECK(port.read(control, 2) == 0x1039);
  CHECK_FALSE(port.write(control, 2, 0x1039).slot.interrupt);
  CHECK(port.press_attention_button().interrupt);
  CHECK_FALSE(port.press_attention_button().interrupt);
  port.write(status, 2, 0x1f);
  CHECK(port.press_attention_button().interrupt);
  CHECK(port.write(control, 2, 0x1419).slot.power_changed);
  CHECK(port.slot() == slot_state::off);
  CHECK((port.read(status, 2) & 0x100) != 0);
  CHECK_FALSE(port.remove().power_changed);
  CHECK(port.slot() == slot_state::empty);
  CHECK_FALSE(port.insert().power_changed);  // power is still off
  CHECK(port.write(control, 2, 0x1039).slot.power_changed);
  CHECK(port.remove().power_changed);  // pulled out with power on
  CHECK((port.read(status, 2) & 0x148) == 0x108);
  // Interlock and reserved bits are not there.
  port.write(control, 2, 0xffff);
  CHECK(port.read(control, 2) == 0x17ff);
  // Secondary Bus Reset, once for each setting.
  CHECK(port.write(bridge_header::bridge_control, 2, 0x40).secondary_reset);
  CHECK_FALSE(port.write(bridge_header::bridge_control, 2, 0x40).secondary_reset);
  CHECK_FALSE(port.write(bridge_header::bridge_control, 2, 0).secondary_reset);
}

TEST_CASE("a port forwards what lies whole in one of its windows") {
  switch_port port;
  bridge_description d{.vendor_id = 1, .device_id = 2};
  d.express.type = port_type::upstream_port;
  REQUIRE(port.reset(d));
  CHECK(port.link_up());
  CHECK(port.write(bridge_header::memory_base, 4, 0xc010'c000).routing);
  port.write(bridge_header::prefetchable_base, 4, 0x0010'0000);
  port.write(bridge_header::prefetchable_base_upper, 4, 0x80);
  port.write(bridge_header::prefetchable_limit_upper, 4, 0x80);
  CHECK_FALSE(port.forwards(0xc000'0000, 0xc000'0fff));  // decoding is off
  CHECK(port.write(header::command, 2, 2).routing);
  CHECK_FALSE(port.write(header::command, 2, 2).routing);
  CHECK(port.forwards(0xc000'0000, 0xc01f'ffff));
  CHECK_FALSE(port.forwards(0xbfff'ffff, 0xc000'0000));
  CHECK_FALSE(port.forwards(0xc01f'ffff, 0xc020'0000));
  CHECK(port.forwards(0x80'0000'0000, 0x80'001f'ffff));
  CHECK_FALSE(port.forwards(0x80'001f'ffff, 0x80'0020'0000));
  CHECK_FALSE(port.forwards(0xc000'1000, 0xc000'0fff));    // a range that wraps
  port.write(bridge_header::memory_base, 4, 0x0000'fff0);  // base above limit: no window
  CHECK_FALSE(port.forwards(0xc000'0000, 0xc000'0fff));
}
