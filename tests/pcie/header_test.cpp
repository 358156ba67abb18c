// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/power_management.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <cstdint>

#include <doctest/doctest.h>
#include <linux/pci_regs.h>

using namespace phasebit;
using namespace phasebit::pcie;

TEST_CASE("the offsets of the header are those of the system's own header file") {
  CHECK(header::vendor_id == PCI_VENDOR_ID);
  CHECK(header::device_id == PCI_DEVICE_ID);
  CHECK(header::command == PCI_COMMAND);
  CHECK(header::status == PCI_STATUS);
  CHECK(header::revision_id == PCI_REVISION_ID);
  CHECK(header::class_code == PCI_CLASS_PROG);
  CHECK(header::cache_line_size == PCI_CACHE_LINE_SIZE);
  CHECK(header::latency_timer == PCI_LATENCY_TIMER);
  CHECK(header::header_type == PCI_HEADER_TYPE);
  CHECK(header::bist == PCI_BIST);
  CHECK(header::bar0 == PCI_BASE_ADDRESS_0);
  CHECK(header::bar0 + 4 * (type0_bars - 1) == PCI_BASE_ADDRESS_5);
  CHECK(header::capabilities == PCI_CAPABILITY_LIST);
  CHECK(header::interrupt_line == PCI_INTERRUPT_LINE);
  CHECK(header::interrupt_pin == PCI_INTERRUPT_PIN);
  CHECK(header::cardbus_cis == PCI_CARDBUS_CIS);
  CHECK(header::subsystem_vendor_id == PCI_SUBSYSTEM_VENDOR_ID);
  CHECK(header::subsystem_id == PCI_SUBSYSTEM_ID);
  CHECK(header::expansion_rom == PCI_ROM_ADDRESS);
  CHECK(header::end == PCI_STD_HEADER_SIZEOF);

  CHECK(bridge_header::primary_bus == PCI_PRIMARY_BUS);
  CHECK(bridge_header::secondary_bus == PCI_SECONDARY_BUS);
  CHECK(bridge_header::subordinate_bus == PCI_SUBORDINATE_BUS);
  CHECK(bridge_header::secondary_latency_timer == PCI_SEC_LATENCY_TIMER);
  CHECK(bridge_header::io_base == PCI_IO_BASE);
  CHECK(bridge_header::io_limit == PCI_IO_LIMIT);
  CHECK(bridge_header::secondary_status == PCI_SEC_STATUS);
  CHECK(bridge_header::memory_base == PCI_MEMORY_BASE);
  CHECK(bridge_header::memory_limit == PCI_MEMORY_LIMIT);
  CHECK(bridge_header::prefetchable_base == PCI_PREF_MEMORY_BASE);
  CHECK(bridge_header::prefetchable_limit == PCI_PREF_MEMORY_LIMIT);
  CHECK(bridge_header::prefetchable_base_upper == PCI_PREF_BASE_UPPER32);
  CHECK(bridge_header::prefetchable_limit_upper == PCI_PREF_LIMIT_UPPER32);
  CHECK(bridge_header::io_base_upper == PCI_IO_BASE_UPPER16);
  CHECK(bridge_header::io_limit_upper == PCI_IO_LIMIT_UPPER16);
  CHECK(bridge_header::expansion_rom == PCI_ROM_ADDRESS1);
  CHECK(bridge_header::bridge_control == PCI_BRIDGE_CONTROL);
}

TEST_CASE("the bits of the header's registers are those of the system's own header file") {
  using c = command_register;
  CHECK(c{}.with(c::io_space, true).raw == PCI_COMMAND_IO);
  CHECK(c{}.with(c::memory_space, true).raw == PCI_COMMAND_MEMORY);
  CHECK(c{}.with(c::bus_master, true).raw == PCI_COMMAND_MASTER);
  CHECK(c{}.with(c::parity_error_response, true).raw == PCI_COMMAND_PARITY);
  CHECK(c{}.with(c::serr_enable, true).raw == PCI_COMMAND_SERR);
  CHECK(c{}.with(c::interrupt_disable, true).raw == PCI_COMMAND_INTX_DISABLE);
  using s = status_register;
  CHECK(s{}.with(s::interrupt_status, true).raw == PCI_STATUS_INTERRUPT);
  CHECK(s{}.with(s::capabilities_list, true).raw == PCI_STATUS_CAP_LIST);
  CHECK(s::write_one_to_clear ==
        (PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT |
         PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY));
  using b = bar_register;
  CHECK(b{}.with(b::io, true).raw == PCI_BASE_ADDRESS_SPACE_IO);
  CHECK(b{}.with(b::memory_type, b::type_64).raw == PCI_BASE_ADDRESS_MEM_TYPE_64);
  CHECK(b{}.with(b::prefetchable, true).raw == PCI_BASE_ADDRESS_MEM_PREFETCH);
  CHECK(b::memory_flags == static_cast<std::uint32_t>(~PCI_BASE_ADDRESS_MEM_MASK));
  CHECK(b::io_flags == static_cast<std::uint32_t>(~PCI_BASE_ADDRESS_IO_MASK));
  CHECK(expansion_rom_register{}.with(expansion_rom_register::enable, true).raw ==
        PCI_ROM_ADDRESS_ENABLE);
  CHECK(bridge_window_register::wide == PCI_PREF_RANGE_TYPE_64);
  using h = header_type_register;
  CHECK(h{0x81}[h::multi_function]);
  CHECK(h{0x81}[h::layout] == header_layout::type1);
}

TEST_CASE("the capabilities' numbers are those of the system's own header file") {
  CHECK(static_cast<int>(capability_id::power_management) == PCI_CAP_ID_PM);
  CHECK(static_cast<int>(capability_id::vital_product_data) == PCI_CAP_ID_VPD);
  CHECK(static_cast<int>(capability_id::msi) == PCI_CAP_ID_MSI);
  CHECK(static_cast<int>(capability_id::vendor_specific) == PCI_CAP_ID_VNDR);
  CHECK(static_cast<int>(capability_id::bridge_subsystem) == PCI_CAP_ID_SSVID);
  CHECK(static_cast<int>(capability_id::pci_express) == PCI_CAP_ID_EXP);
  CHECK(static_cast<int>(capability_id::msix) == PCI_CAP_ID_MSIX);
  CHECK(static_cast<int>(capability_id::enhanced_allocation) == PCI_CAP_ID_EA);
  using e = extended_capability_id;
  CHECK(static_cast<int>(e::advanced_error_reporting) == PCI_EXT_CAP_ID_ERR);
  CHECK(static_cast<int>(e::virtual_channel) == PCI_EXT_CAP_ID_VC);
  CHECK(static_cast<int>(e::device_serial_number) == PCI_EXT_CAP_ID_DSN);
  CHECK(static_cast<int>(e::vendor_specific) == PCI_EXT_CAP_ID_VNDR);
  CHECK(static_cast<int>(e::access_control_services) == PCI_EXT_CAP_ID_ACS);
  CHECK(static_cast<int>(e::alternative_routing_id) == PCI_EXT_CAP_ID_ARI);
  CHECK(static_cast<int>(e::address_translation_services) == PCI_EXT_CAP_ID_ATS);
  CHECK(static_cast<int>(e::sriov) == PCI_EXT_CAP_ID_SRIOV);
  CHECK(static_cast<int>(e::page_request) == PCI_EXT_CAP_ID_PRI);
  CHECK(static_cast<int>(e::resizable_bar) == PCI_EXT_CAP_ID_REBAR);
  CHECK(static_cast<int>(e::tph_requester) == PCI_EXT_CAP_ID_TPH);
  CHECK(static_cast<int>(e::secondary_pci_express) == PCI_EXT_CAP_ID_SECPCI);
  CHECK(static_cast<int>(e::pasid) == PCI_EXT_CAP_ID_PASID);
  CHECK(static_cast<int>(e::designated_vendor_specific) == PCI_EXT_CAP_ID_DVSEC);

  const std::uint32_t dword = 0xabc4'1234;
  const extended_capability_header h{dword};
  CHECK(static_cast<int>(h[extended_capability_header::id]) == PCI_EXT_CAP_ID(dword));
  CHECK(h[extended_capability_header::version] == PCI_EXT_CAP_VER(dword));
  CHECK((h[extended_capability_header::next] & 0xffc) == PCI_EXT_CAP_NEXT(dword));
}

TEST_CASE("the PCI Express capability's registers are those of the system's own header file") {
  CHECK(express::capabilities == PCI_EXP_FLAGS);
  CHECK(express::device_capabilities == PCI_EXP_DEVCAP);
  CHECK(express::device_control == PCI_EXP_DEVCTL);
  CHECK(express::device_status == PCI_EXP_DEVSTA);
  CHECK(express::link_capabilities == PCI_EXP_LNKCAP);
  CHECK(express::link_control == PCI_EXP_LNKCTL);
  CHECK(express::link_status == PCI_EXP_LNKSTA);
  CHECK(express::slot_capabilities == PCI_EXP_SLTCAP);
  CHECK(express::slot_control == PCI_EXP_SLTCTL);
  CHECK(express::slot_status == PCI_EXP_SLTSTA);
  CHECK(express::root_control == PCI_EXP_RTCTL);
  CHECK(express::device_capabilities_2 == PCI_EXP_DEVCAP2);
  CHECK(express::device_control_2 == PCI_EXP_DEVCTL2);
  CHECK(express::link_capabilities_2 == PCI_EXP_LNKCAP2);
  CHECK(express::link_control_2 == PCI_EXP_LNKCTL2);
  CHECK(express::link_status_2 == PCI_EXP_LNKSTA2);

  CHECK(express_capabilities{}.with(express_capabilities::type, port_type::root_port).raw ==
        PCI_EXP_TYPE_ROOT_PORT << 4);
  CHECK(static_cast<int>(port_type::endpoint) == PCI_EXP_TYPE_ENDPOINT);
  CHECK(static_cast<int>(port_type::legacy_endpoint) == PCI_EXP_TYPE_LEG_END);
  CHECK(static_cast<int>(port_type::upstream_port) == PCI_EXP_TYPE_UPSTREAM);
  CHECK(static_cast<int>(port_type::downstream_port) == PCI_EXP_TYPE_DOWNSTREAM);
  CHECK(static_cast<int>(port_type::pcie_to_pci_bridge) == PCI_EXP_TYPE_PCI_BRIDGE);
  CHECK(static_cast<int>(port_type::pci_to_pcie_bridge) == PCI_EXP_TYPE_PCIE_BRIDGE);
  CHECK(static_cast<int>(port_type::integrated_endpoint) == PCI_EXP_TYPE_RC_END);
  CHECK(static_cast<int>(port_type::event_collector) == PCI_EXP_TYPE_RC_EC);

  using cap = device_capabilities;
  CHECK(cap{}.with(cap::max_payload_size, 7).raw == PCI_EXP_DEVCAP_PAYLOAD);
  CHECK(cap{}.with(cap::extended_tag, true).raw == PCI_EXP_DEVCAP_EXT_TAG);
  CHECK(cap{}.with(cap::role_based_error_reporting, true).raw == PCI_EXP_DEVCAP_RBER);
  CHECK(cap{}.with(cap::function_level_reset, true).raw == PCI_EXP_DEVCAP_FLR);
  using ctl = device_control;
  CHECK(ctl{}.with(ctl::max_payload_size, 7).raw == PCI_EXP_DEVCTL_PAYLOAD);
  CHECK(ctl{}.with(ctl::max_read_request_size, 7).raw == PCI_EXP_DEVCTL_READRQ);
  CHECK(ctl{}.with(ctl::relaxed_ordering, true).raw == PCI_EXP_DEVCTL_RELAX_EN);
  CHECK(ctl{}.with(ctl::no_snoop, true).raw == PCI_EXP_DEVCTL_NOSNOOP_EN);
  CHECK(ctl{}.with(ctl::extended_tag, true).raw == PCI_EXP_DEVCTL_EXT_TAG);
  CHECK(ctl{}.with(ctl::initiate_function_level_reset, true).raw == PCI_EXP_DEVCTL_BCR_FLR);
  CHECK(device_status{}.with(device_status::transactions_pending, true).raw ==
        PCI_EXP_DEVSTA_TRPND);
  CHECK(device_capabilities_2{}.with(device_capabilities_2::ari_forwarding, true).raw ==
        PCI_EXP_DEVCAP2_ARI);
  CHECK(device_control_2{}.with(device_control_2::ari_forwarding, true).raw == PCI_EXP_DEVCTL2_ARI);
  CHECK(link_status{}.with(link_status::width, 0x3f).raw == PCI_EXP_LNKSTA_NLW);
  CHECK(ari::capability == PCI_ARI_CAP);
  CHECK(ari::control == PCI_ARI_CTRL);
  CHECK(ari_capability{0x1200}[ari_capability::next_function] == PCI_ARI_CAP_NFN(0x1200));
}

TEST_CASE("MSI-X, SR-IOV and power management are those of the system's own header file") {
  CHECK(msix::control_offset == PCI_MSIX_FLAGS);
  CHECK(msix::table_offset == PCI_MSIX_TABLE);
  CHECK(msix::pba_offset == PCI_MSIX_PBA);
  CHECK(msix::capability_bytes == PCI_CAP_MSIX_SIZEOF);
  CHECK(msix_control{}.with(msix_control::table_size, 0x7ff).raw == PCI_MSIX_FLAGS_QSIZE);
  CHECK(msix_control{}.with(msix_control::function_mask, true).raw == PCI_MSIX_FLAGS_MASKALL);
  CHECK(msix_control{}.with(msix_control::enable, true).raw == PCI_MSIX_FLAGS_ENABLE);
  CHECK(msix_location::offset_mask == PCI_MSIX_TABLE_OFFSET);
  CHECK(msix_location{7}[msix_location::bar] == PCI_MSIX_TABLE_BIR);
  CHECK(sizeof(msix_entry) == PCI_MSIX_ENTRY_SIZE);
  CHECK(offsetof(msix_entry, address_low) == PCI_MSIX_ENTRY_LOWER_ADDR);
  CHECK(offsetof(msix_entry, address_high) == PCI_MSIX_ENTRY_UPPER_ADDR);
  CHECK(offsetof(msix_entry, data) == PCI_MSIX_ENTRY_DATA);
  CHECK(offsetof(msix_entry, control) == PCI_MSIX_ENTRY_VECTOR_CTRL);
  CHECK(msix_entry::masked.of(true) == PCI_MSIX_ENTRY_CTRL_MASKBIT);

  CHECK(sriov::capabilities == PCI_SRIOV_CAP);
  CHECK(sriov::control == PCI_SRIOV_CTRL);
  CHECK(sriov::status == PCI_SRIOV_STATUS);
  CHECK(sriov::initial_vfs == PCI_SRIOV_INITIAL_VF);
  CHECK(sriov::total_vfs == PCI_SRIOV_TOTAL_VF);
  CHECK(sriov::num_vfs == PCI_SRIOV_NUM_VF);
  CHECK(sriov::function_dependency_link == PCI_SRIOV_FUNC_LINK);
  CHECK(sriov::first_vf_offset == PCI_SRIOV_VF_OFFSET);
  CHECK(sriov::vf_stride == PCI_SRIOV_VF_STRIDE);
  CHECK(sriov::vf_device_id == PCI_SRIOV_VF_DID);
  CHECK(sriov::supported_page_sizes == PCI_SRIOV_SUP_PGSIZE);
  CHECK(sriov::system_page_size == PCI_SRIOV_SYS_PGSIZE);
  CHECK(sriov::vf_bar0 == PCI_SRIOV_BAR);
  CHECK(sriov::migration_state == PCI_SRIOV_VFM);
  CHECK(sriov::capability_bytes == PCI_EXT_CAP_SRIOV_SIZEOF);
  using c = sriov_control;
  CHECK(c{}.with(c::vf_enable, true).raw == PCI_SRIOV_CTRL_VFE);
  CHECK(c{}.with(c::vf_memory_space, true).raw == PCI_SRIOV_CTRL_MSE);
  CHECK(c{}.with(c::ari_capable_hierarchy, true).raw == PCI_SRIOV_CTRL_ARI);

  CHECK(power::capabilities == PCI_PM_PMC);
  CHECK(power::control_status == PCI_PM_CTRL);
  CHECK(power::capability_bytes == PCI_PM_SIZEOF);
  CHECK(power_control{}.with(power_control::state, power_state::d3hot).raw ==
        PCI_PM_CTRL_STATE_MASK);
  CHECK(power_control{}.with(power_control::no_soft_reset, true).raw == PCI_PM_CTRL_NO_SOFT_RESET);
}
