// SPDX-License-Identifier: BSL-1.0
// Our structures and numbers against those of libnvme, which others wrote from the same
// specification. Only where its headers are installed (Debian: libnvme-dev); nothing is linked.
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/async_event.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/identify_nvm.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>
#include <phasebit/nvme/spec/memory_registers.hpp>
#include <phasebit/nvme/spec/opcodes.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>

#if __has_include(<nvme/types.h>)
#  include <nvme/types.h>

namespace ours = phasebit::nvme;

namespace {

// One member of the one at the offset, and of the size, that the other has.
#  define SAME(our, our_member, their, their_member)                                        \
    static_assert(offsetof(ours::our, our_member) == offsetof(struct their, their_member)); \
    static_assert(sizeof(ours::our::our_member) == sizeof(their::their_member))
#  define SAME_NAME(our, their, member) SAME(our, member, their, member)
#  define SAME_SIZE(our, their) static_assert(sizeof(ours::our) == sizeof(struct their))

SAME_SIZE(identify_controller, nvme_id_ctrl);
SAME_NAME(identify_controller, nvme_id_ctrl, vid);
SAME_NAME(identify_controller, nvme_id_ctrl, ssvid);
SAME_NAME(identify_controller, nvme_id_ctrl, sn);
SAME_NAME(identify_controller, nvme_id_ctrl, mn);
SAME_NAME(identify_controller, nvme_id_ctrl, fr);
SAME_NAME(identify_controller, nvme_id_ctrl, rab);
SAME_NAME(identify_controller, nvme_id_ctrl, ieee);
SAME_NAME(identify_controller, nvme_id_ctrl, cmic);
SAME_NAME(identify_controller, nvme_id_ctrl, mdts);
SAME_NAME(identify_controller, nvme_id_ctrl, cntlid);
SAME_NAME(identify_controller, nvme_id_ctrl, ver);
SAME_NAME(identify_controller, nvme_id_ctrl, rtd3r);
SAME_NAME(identify_controller, nvme_id_ctrl, rtd3e);
SAME_NAME(identify_controller, nvme_id_ctrl, oaes);
SAME_NAME(identify_controller, nvme_id_ctrl, ctratt);
SAME_NAME(identify_controller, nvme_id_ctrl, rrls);
SAME_NAME(identify_controller, nvme_id_ctrl, cntrltype);
SAME_NAME(identify_controller, nvme_id_ctrl, fguid);
SAME_NAME(identify_controller, nvme_id_ctrl, crdt1);
SAME_NAME(identify_controller, nvme_id_ctrl, crdt2);
SAME_NAME(identify_controller, nvme_id_ctrl, crdt3);
SAME_NAME(identify_controller, nvme_id_ctrl, nvmsr);
SAME_NAME(identify_controller, nvme_id_ctrl, vwci);
SAME_NAME(identify_controller, nvme_id_ctrl, mec);
SAME_NAME(identify_controller, nvme_id_ctrl, oacs);
SAME_NAME(identify_controller, nvme_id_ctrl, acl);
SAME_NAME(identify_controller, nvme_id_ctrl, aerl);
SAME_NAME(identify_controller, nvme_id_ctrl, frmw);
SAME_NAME(identify_controller, nvme_id_ctrl, lpa);
SAME_NAME(identify_controller, nvme_id_ctrl, elpe);
SAME_NAME(identify_controller, nvme_id_ctrl, npss);
SAME_NAME(identify_controller, nvme_id_ctrl, avscc);
SAME_NAME(identify_controller, nvme_id_ctrl, apsta);
SAME_NAME(identify_controller, nvme_id_ctrl, wctemp);
SAME_NAME(identify_controller, nvme_id_ctrl, cctemp);
SAME_NAME(identify_controller, nvme_id_ctrl, mtfa);
SAME_NAME(identify_controller, nvme_id_ctrl, hmpre);
SAME_NAME(identify_controller, nvme_id_ctrl, hmmin);
SAME_NAME(identify_controller, nvme_id_ctrl, tnvmcap);
SAME_NAME(identify_controller, nvme_id_ctrl, unvmcap);
SAME_NAME(identify_controller, nvme_id_ctrl, rpmbs);
SAME_NAME(identify_controller, nvme_id_ctrl, edstt);
SAME_NAME(identify_controller, nvme_id_ctrl, dsto);
SAME_NAME(identify_controller, nvme_id_ctrl, fwug);
SAME_NAME(identify_controller, nvme_id_ctrl, kas);
SAME_NAME(identify_controller, nvme_id_ctrl, hctma);
SAME_NAME(identify_controller, nvme_id_ctrl, mntmt);
SAME_NAME(identify_controller, nvme_id_ctrl, mxtmt);
SAME_NAME(identify_controller, nvme_id_ctrl, sanicap);
SAME_NAME(identify_controller, nvme_id_ctrl, hmminds);
SAME_NAME(identify_controller, nvme_id_ctrl, hmmaxd);
SAME_NAME(identify_controller, nvme_id_ctrl, nsetidmax);
SAME_NAME(identify_controller, nvme_id_ctrl, endgidmax);
SAME_NAME(identify_controller, nvme_id_ctrl, anatt);
SAME_NAME(identify_controller, nvme_id_ctrl, anacap);
SAME_NAME(identify_controller, nvme_id_ctrl, anagrpmax);
SAME_NAME(identify_controller, nvme_id_ctrl, nanagrpid);
SAME_NAME(identify_controller, nvme_id_ctrl, pels);
SAME(identify_controller, domain_id, nvme_id_ctrl, domainid);
SAME_NAME(identify_controller, nvme_id_ctrl, megcap);
SAME_NAME(identify_controller, nvme_id_ctrl, sqes);
SAME_NAME(identify_controller, nvme_id_ctrl, cqes);
SAME_NAME(identify_controller, nvme_id_ctrl, maxcmd);
SAME_NAME(identify_controller, nvme_id_ctrl, nn);
SAME_NAME(identify_controller, nvme_id_ctrl, oncs);
SAME_NAME(identify_controller, nvme_id_ctrl, fuses);
SAME_NAME(identify_controller, nvme_id_ctrl, fna);
SAME_NAME(identify_controller, nvme_id_ctrl, vwc);
SAME_NAME(identify_controller, nvme_id_ctrl, awun);
SAME_NAME(identify_controller, nvme_id_ctrl, awupf);
SAME_NAME(identify_controller, nvme_id_ctrl, icsvscc);
SAME_NAME(identify_controller, nvme_id_ctrl, nwpc);
SAME_NAME(identify_controller, nvme_id_ctrl, acwu);
SAME_NAME(identify_controller, nvme_id_ctrl, ocfs);
SAME_NAME(identify_controller, nvme_id_ctrl, sgls);
SAME_NAME(identify_controller, nvme_id_ctrl, mnan);
SAME_NAME(identify_controller, nvme_id_ctrl, maxdna);
SAME_NAME(identify_controller, nvme_id_ctrl, maxcna);
SAME_NAME(identify_controller, nvme_id_ctrl, subnqn);
SAME_NAME(identify_controller, nvme_id_ctrl, ioccsz);
SAME_NAME(identify_controller, nvme_id_ctrl, iorcsz);
SAME_NAME(identify_controller, nvme_id_ctrl, icdoff);
SAME_NAME(identify_controller, nvme_id_ctrl, fcatt);
SAME_NAME(identify_controller, nvme_id_ctrl, msdbd);
SAME_NAME(identify_controller, nvme_id_ctrl, ofcs);
SAME_NAME(identify_controller, nvme_id_ctrl, dctype);
SAME_NAME(identify_controller, nvme_id_ctrl, psd);
SAME(identify_controller, vendor_specific, nvme_id_ctrl, vs);

SAME_SIZE(power_state_descriptor, nvme_id_psd);
SAME_NAME(power_state_descriptor, nvme_id_psd, mp);
SAME_NAME(power_state_descriptor, nvme_id_psd, flags);
SAME_NAME(power_state_descriptor, nvme_id_psd, enlat);
SAME_NAME(power_state_descriptor, nvme_id_psd, exlat);
SAME_NAME(power_state_descriptor, nvme_id_psd, rrt);
SAME_NAME(power_state_descriptor, nvme_id_psd, rrl);
SAME_NAME(power_state_descriptor, nvme_id_psd, rwt);
SAME_NAME(power_state_descriptor, nvme_id_psd, rwl);
SAME_NAME(power_state_descriptor, nvme_id_psd, idlp);
SAME_NAME(power_state_descriptor, nvme_id_psd, ips);
SAME_NAME(power_state_descriptor, nvme_id_psd, actp);
SAME(power_state_descriptor, apw_aps, nvme_id_psd, apws);

SAME_SIZE(lba_format, nvme_lbaf);
SAME_NAME(lba_format, nvme_lbaf, ms);
SAME(lba_format, lbads, nvme_lbaf, ds);
SAME_NAME(lba_format, nvme_lbaf, rp);

SAME_SIZE(identify_namespace, nvme_id_ns);
SAME_NAME(identify_namespace, nvme_id_ns, nsze);
SAME_NAME(identify_namespace, nvme_id_ns, ncap);
SAME_NAME(identify_namespace, nvme_id_ns, nuse);
SAME_NAME(identify_namespace, nvme_id_ns, nsfeat);
SAME_NAME(identify_namespace, nvme_id_ns, nlbaf);
SAME_NAME(identify_namespace, nvme_id_ns, flbas);
SAME_NAME(identify_namespace, nvme_id_ns, mc);
SAME_NAME(identify_namespace, nvme_id_ns, dpc);
SAME_NAME(identify_namespace, nvme_id_ns, dps);
SAME_NAME(identify_namespace, nvme_id_ns, nmic);
SAME_NAME(identify_namespace, nvme_id_ns, rescap);
SAME_NAME(identify_namespace, nvme_id_ns, fpi);
SAME_NAME(identify_namespace, nvme_id_ns, dlfeat);
SAME_NAME(identify_namespace, nvme_id_ns, nawun);
SAME_NAME(identify_namespace, nvme_id_ns, nawupf);
SAME_NAME(identify_namespace, nvme_id_ns, nacwu);
SAME_NAME(identify_namespace, nvme_id_ns, nabsn);
SAME_NAME(identify_namespace, nvme_id_ns, nabo);
SAME_NAME(identify_namespace, nvme_id_ns, nabspf);
SAME_NAME(identify_namespace, nvme_id_ns, noiob);
SAME_NAME(identify_namespace, nvme_id_ns, nvmcap);
SAME_NAME(identify_namespace, nvme_id_ns, npwg);
SAME_NAME(identify_namespace, nvme_id_ns, npwa);
SAME_NAME(identify_namespace, nvme_id_ns, npdg);
SAME_NAME(identify_namespace, nvme_id_ns, npda);
SAME_NAME(identify_namespace, nvme_id_ns, nows);
SAME_NAME(identify_namespace, nvme_id_ns, mssrl);
SAME_NAME(identify_namespace, nvme_id_ns, mcl);
SAME_NAME(identify_namespace, nvme_id_ns, msrc);
SAME_NAME(identify_namespace, nvme_id_ns, anagrpid);
SAME_NAME(identify_namespace, nvme_id_ns, nsattr);
SAME_NAME(identify_namespace, nvme_id_ns, nvmsetid);
SAME_NAME(identify_namespace, nvme_id_ns, endgid);
SAME_NAME(identify_namespace, nvme_id_ns, nguid);
SAME_NAME(identify_namespace, nvme_id_ns, eui64);
SAME_NAME(identify_namespace, nvme_id_ns, lbaf);

SAME_SIZE(nvm_identify_namespace, nvme_nvm_id_ns);
SAME_NAME(nvm_identify_namespace, nvme_nvm_id_ns, lbstm);
SAME_NAME(nvm_identify_namespace, nvme_nvm_id_ns, pic);
SAME_NAME(nvm_identify_namespace, nvme_nvm_id_ns, elbaf);

SAME_SIZE(nvm_identify_controller, nvme_id_ctrl_nvm);
SAME_NAME(nvm_identify_controller, nvme_id_ctrl_nvm, vsl);
SAME_NAME(nvm_identify_controller, nvme_id_ctrl_nvm, wzsl);
SAME_NAME(nvm_identify_controller, nvme_id_ctrl_nvm, wusl);
SAME_NAME(nvm_identify_controller, nvme_id_ctrl_nvm, dmrl);
SAME_NAME(nvm_identify_controller, nvme_id_ctrl_nvm, dmrsl);
SAME_NAME(nvm_identify_controller, nvme_id_ctrl_nvm, dmsl);

SAME_SIZE(independent_namespace, nvme_id_independent_id_ns);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, nsfeat);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, nmic);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, rescap);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, fpi);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, anagrpid);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, nsattr);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, nvmsetid);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, endgid);
SAME_NAME(independent_namespace, nvme_id_independent_id_ns, nstat);

SAME_SIZE(namespace_list, nvme_ns_list);
SAME(namespace_list, nsid, nvme_ns_list, ns);

SAME_SIZE(controller_list, nvme_ctrl_list);
SAME(controller_list, count, nvme_ctrl_list, num);
SAME(controller_list, cntlid, nvme_ctrl_list, identifier);

SAME_SIZE(namespace_id_descriptor, nvme_ns_id_desc);
SAME_NAME(namespace_id_descriptor, nvme_ns_id_desc, nidt);
SAME_NAME(namespace_id_descriptor, nvme_ns_id_desc, nidl);

SAME_SIZE(primary_controller_capabilities, nvme_primary_ctrl_cap);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, cntlid);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, portid);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, crt);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vqfrt);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vqrfa);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vqrfap);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vqprt);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vqfrsm);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vqgran);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vifrt);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, virfa);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, virfap);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, viprt);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vifrsm);
SAME_NAME(primary_controller_capabilities, nvme_primary_ctrl_cap, vigran);

SAME_SIZE(secondary_controller_entry, nvme_secondary_ctrl);
SAME_NAME(secondary_controller_entry, nvme_secondary_ctrl, scid);
SAME_NAME(secondary_controller_entry, nvme_secondary_ctrl, pcid);
SAME_NAME(secondary_controller_entry, nvme_secondary_ctrl, scs);
SAME_NAME(secondary_controller_entry, nvme_secondary_ctrl, vfn);
SAME_NAME(secondary_controller_entry, nvme_secondary_ctrl, nvq);
SAME_NAME(secondary_controller_entry, nvme_secondary_ctrl, nvi);

SAME_SIZE(secondary_controller_list, nvme_secondary_ctrl_list);
SAME(secondary_controller_list, count, nvme_secondary_ctrl_list, num);
SAME(secondary_controller_list, entry, nvme_secondary_ctrl_list, sc_entry);

SAME_SIZE(error_information, nvme_error_log_page);
SAME_NAME(error_information, nvme_error_log_page, error_count);
SAME_NAME(error_information, nvme_error_log_page, sqid);
SAME(error_information, command_id, nvme_error_log_page, cmdid);
SAME_NAME(error_information, nvme_error_log_page, status_field);
SAME(error_information, parameter_location, nvme_error_log_page, parm_error_location);
SAME_NAME(error_information, nvme_error_log_page, lba);
SAME_NAME(error_information, nvme_error_log_page, nsid);
SAME(error_information, vendor_log_page, nvme_error_log_page, vs);
SAME(error_information, transport_type, nvme_error_log_page, trtype);
SAME(error_information, command_specific, nvme_error_log_page, cs);
SAME(error_information, transport_specific, nvme_error_log_page, trtype_spec_info);

SAME_SIZE(health_log, nvme_smart_log);
SAME_NAME(health_log, nvme_smart_log, critical_warning);
SAME(health_log, composite_temperature, nvme_smart_log, temperature);
SAME(health_log, available_spare, nvme_smart_log, avail_spare);
SAME(health_log, available_spare_threshold, nvme_smart_log, spare_thresh);
SAME(health_log, percentage_used, nvme_smart_log, percent_used);
SAME(health_log, endurance_group_critical_warning, nvme_smart_log, endu_grp_crit_warn_sumry);
SAME_NAME(health_log, nvme_smart_log, data_units_read);
SAME_NAME(health_log, nvme_smart_log, data_units_written);
SAME(health_log, host_read_commands, nvme_smart_log, host_reads);
SAME(health_log, host_write_commands, nvme_smart_log, host_writes);
SAME(health_log, controller_busy_time, nvme_smart_log, ctrl_busy_time);
SAME_NAME(health_log, nvme_smart_log, power_cycles);
SAME_NAME(health_log, nvme_smart_log, power_on_hours);
SAME_NAME(health_log, nvme_smart_log, unsafe_shutdowns);
SAME_NAME(health_log, nvme_smart_log, media_errors);
SAME(health_log, error_log_entries, nvme_smart_log, num_err_log_entries);
SAME(health_log, warning_temperature_time, nvme_smart_log, warning_temp_time);
SAME(health_log, critical_temperature_time, nvme_smart_log, critical_comp_time);
SAME(health_log, temperature_sensor, nvme_smart_log, temp_sensor);

SAME_SIZE(firmware_slot_log, nvme_firmware_slot);
SAME_NAME(firmware_slot_log, nvme_firmware_slot, afi);
SAME_NAME(firmware_slot_log, nvme_firmware_slot, frs);

SAME_SIZE(commands_supported_log, nvme_cmd_effects_log);
SAME_NAME(commands_supported_log, nvme_cmd_effects_log, acs);
SAME_NAME(commands_supported_log, nvme_cmd_effects_log, iocs);

SAME_SIZE(dataset_range, nvme_dsm_range);
SAME(dataset_range, context, nvme_dsm_range, cattr);
SAME(dataset_range, blocks, nvme_dsm_range, nlb);
SAME(dataset_range, lba, nvme_dsm_range, slba);

SAME_SIZE(copy_range, nvme_copy_range);
SAME(copy_range, lba, nvme_copy_range, slba);
SAME_NAME(copy_range, nvme_copy_range, nlb);
SAME(copy_range, reference_tag, nvme_copy_range, eilbrt);

SAME_SIZE(copy_range_wide, nvme_copy_range_f1);
SAME(copy_range_wide, lba, nvme_copy_range_f1, slba);
SAME_NAME(copy_range_wide, nvme_copy_range_f1, nlb);
SAME(copy_range_wide, storage_and_reference, nvme_copy_range_f1, elbt);

SAME_SIZE(timestamp, nvme_timestamp);
SAME(timestamp, milliseconds, nvme_timestamp, timestamp);
SAME(timestamp, attributes, nvme_timestamp, attr);

SAME_SIZE(host_behavior_support, nvme_feat_host_behavior);
SAME_NAME(host_behavior_support, nvme_feat_host_behavior, acre);

template <class Ours>
constexpr bool is(Ours our, unsigned their) {
  return static_cast<unsigned>(our) == their;
}

static_assert(is(ours::admin_opcode::delete_io_sq, nvme_admin_delete_sq));
static_assert(is(ours::admin_opcode::create_io_sq, nvme_admin_create_sq));
static_assert(is(ours::admin_opcode::get_log_page, nvme_admin_get_log_page));
static_assert(is(ours::admin_opcode::delete_io_cq, nvme_admin_delete_cq));
static_assert(is(ours::admin_opcode::create_io_cq, nvme_admin_create_cq));
static_assert(is(ours::admin_opcode::identify, nvme_admin_identify));
static_assert(is(ours::admin_opcode::abort, nvme_admin_abort_cmd));
static_assert(is(ours::admin_opcode::set_features, nvme_admin_set_features));
static_assert(is(ours::admin_opcode::get_features, nvme_admin_get_features));
static_assert(is(ours::admin_opcode::async_event_request, nvme_admin_async_event));
static_assert(is(ours::admin_opcode::namespace_management, nvme_admin_ns_mgmt));
static_assert(is(ours::admin_opcode::firmware_commit, nvme_admin_fw_commit));
static_assert(is(ours::admin_opcode::firmware_image_download, nvme_admin_fw_download));
static_assert(is(ours::admin_opcode::device_self_test, nvme_admin_dev_self_test));
static_assert(is(ours::admin_opcode::namespace_attachment, nvme_admin_ns_attach));
static_assert(is(ours::admin_opcode::keep_alive, nvme_admin_keep_alive));
static_assert(is(ours::admin_opcode::directive_send, nvme_admin_directive_send));
static_assert(is(ours::admin_opcode::directive_receive, nvme_admin_directive_recv));
static_assert(is(ours::admin_opcode::virtualization_management, nvme_admin_virtual_mgmt));
static_assert(is(ours::admin_opcode::nvme_mi_send, nvme_admin_nvme_mi_send));
static_assert(is(ours::admin_opcode::nvme_mi_receive, nvme_admin_nvme_mi_recv));
static_assert(is(ours::admin_opcode::capacity_management, nvme_admin_capacity_mgmt));
static_assert(is(ours::admin_opcode::lockdown, nvme_admin_lockdown));
static_assert(is(ours::admin_opcode::doorbell_buffer_config, nvme_admin_dbbuf));
static_assert(is(ours::admin_opcode::fabrics, nvme_admin_fabrics));
static_assert(is(ours::admin_opcode::format_nvm, nvme_admin_format_nvm));
static_assert(is(ours::admin_opcode::security_send, nvme_admin_security_send));
static_assert(is(ours::admin_opcode::security_receive, nvme_admin_security_recv));
static_assert(is(ours::admin_opcode::sanitize, nvme_admin_sanitize_nvm));
static_assert(is(ours::admin_opcode::get_lba_status, nvme_admin_get_lba_status));

static_assert(is(ours::nvm_opcode::flush, nvme_cmd_flush));
static_assert(is(ours::nvm_opcode::write, nvme_cmd_write));
static_assert(is(ours::nvm_opcode::read, nvme_cmd_read));
static_assert(is(ours::nvm_opcode::write_uncorrectable, nvme_cmd_write_uncor));
static_assert(is(ours::nvm_opcode::compare, nvme_cmd_compare));
static_assert(is(ours::nvm_opcode::write_zeroes, nvme_cmd_write_zeroes));
static_assert(is(ours::nvm_opcode::dataset_management, nvme_cmd_dsm));
static_assert(is(ours::nvm_opcode::verify, nvme_cmd_verify));
static_assert(is(ours::nvm_opcode::reservation_register, nvme_cmd_resv_register));
static_assert(is(ours::nvm_opcode::reservation_report, nvme_cmd_resv_report));
static_assert(is(ours::nvm_opcode::reservation_acquire, nvme_cmd_resv_acquire));
static_assert(is(ours::nvm_opcode::reservation_release, nvme_cmd_resv_release));
static_assert(is(ours::nvm_opcode::copy, nvme_cmd_copy));

static_assert(is(ours::cns::identify_namespace, NVME_IDENTIFY_CNS_NS));
static_assert(is(ours::cns::identify_controller, NVME_IDENTIFY_CNS_CTRL));
static_assert(is(ours::cns::active_namespace_list, NVME_IDENTIFY_CNS_NS_ACTIVE_LIST));
static_assert(is(ours::cns::namespace_id_descriptors, NVME_IDENTIFY_CNS_NS_DESC_LIST));
static_assert(is(ours::cns::nvm_set_list, NVME_IDENTIFY_CNS_NVMSET_LIST));
static_assert(is(ours::cns::command_set_namespace, NVME_IDENTIFY_CNS_CSI_NS));
static_assert(is(ours::cns::command_set_controller, NVME_IDENTIFY_CNS_CSI_CTRL));
static_assert(is(ours::cns::command_set_active_namespace_list,
                 NVME_IDENTIFY_CNS_CSI_NS_ACTIVE_LIST));
static_assert(is(ours::cns::independent_namespace, NVME_IDENTIFY_CNS_CSI_INDEPENDENT_ID_NS));
static_assert(is(ours::cns::namespace_user_data_format, NVME_IDENTIFY_CNS_NS_USER_DATA_FORMAT));
static_assert(is(ours::cns::command_set_user_data_format,
                 NVME_IDENTIFY_CNS_CSI_NS_USER_DATA_FORMAT));
static_assert(is(ours::cns::allocated_namespace_list, NVME_IDENTIFY_CNS_ALLOCATED_NS_LIST));
static_assert(is(ours::cns::allocated_namespace, NVME_IDENTIFY_CNS_ALLOCATED_NS));
static_assert(is(ours::cns::attached_controller_list, NVME_IDENTIFY_CNS_NS_CTRL_LIST));
static_assert(is(ours::cns::controller_list, NVME_IDENTIFY_CNS_CTRL_LIST));
static_assert(is(ours::cns::primary_controller, NVME_IDENTIFY_CNS_PRIMARY_CTRL_CAP));
static_assert(is(ours::cns::secondary_controller_list, NVME_IDENTIFY_CNS_SECONDARY_CTRL_LIST));
static_assert(is(ours::cns::namespace_granularity_list, NVME_IDENTIFY_CNS_NS_GRANULARITY));
static_assert(is(ours::cns::uuid_list, NVME_IDENTIFY_CNS_UUID_LIST));
static_assert(is(ours::cns::domain_list, NVME_IDENTIFY_CNS_DOMAIN_LIST));
static_assert(is(ours::cns::endurance_group_list, NVME_IDENTIFY_CNS_ENDURANCE_GROUP_ID));
static_assert(is(ours::cns::command_set_allocated_namespace_list,
                 NVME_IDENTIFY_CNS_CSI_ALLOCATED_NS_LIST));
static_assert(is(ours::cns::command_set_allocated_namespace,
                 NVME_IDENTIFY_CNS_CSI_ID_NS_DATA_STRUCTURE));
static_assert(is(ours::cns::command_set_combinations, NVME_IDENTIFY_CNS_COMMAND_SET_STRUCTURE));

static_assert(is(ours::feature_id::arbitration, NVME_FEAT_FID_ARBITRATION));
static_assert(is(ours::feature_id::power_management, NVME_FEAT_FID_POWER_MGMT));
static_assert(is(ours::feature_id::lba_range_type, NVME_FEAT_FID_LBA_RANGE));
static_assert(is(ours::feature_id::temperature_threshold, NVME_FEAT_FID_TEMP_THRESH));
static_assert(is(ours::feature_id::error_recovery, NVME_FEAT_FID_ERR_RECOVERY));
static_assert(is(ours::feature_id::volatile_write_cache, NVME_FEAT_FID_VOLATILE_WC));
static_assert(is(ours::feature_id::number_of_queues, NVME_FEAT_FID_NUM_QUEUES));
static_assert(is(ours::feature_id::interrupt_coalescing, NVME_FEAT_FID_IRQ_COALESCE));
static_assert(is(ours::feature_id::interrupt_vector_configuration, NVME_FEAT_FID_IRQ_CONFIG));
static_assert(is(ours::feature_id::write_atomicity, NVME_FEAT_FID_WRITE_ATOMIC));
static_assert(is(ours::feature_id::async_event_configuration, NVME_FEAT_FID_ASYNC_EVENT));
static_assert(is(ours::feature_id::autonomous_power_state_transition, NVME_FEAT_FID_AUTO_PST));
static_assert(is(ours::feature_id::host_memory_buffer, NVME_FEAT_FID_HOST_MEM_BUF));
static_assert(is(ours::feature_id::timestamp, NVME_FEAT_FID_TIMESTAMP));
static_assert(is(ours::feature_id::keep_alive_timer, NVME_FEAT_FID_KATO));
static_assert(is(ours::feature_id::host_thermal_management, NVME_FEAT_FID_HCTM));
static_assert(is(ours::feature_id::non_operational_power_state, NVME_FEAT_FID_NOPSC));
static_assert(is(ours::feature_id::read_recovery_level, NVME_FEAT_FID_RRL));
static_assert(is(ours::feature_id::predictable_latency_configuration, NVME_FEAT_FID_PLM_CONFIG));
static_assert(is(ours::feature_id::predictable_latency_window, NVME_FEAT_FID_PLM_WINDOW));
static_assert(is(ours::feature_id::lba_status_interval, NVME_FEAT_FID_LBA_STS_INTERVAL));
static_assert(is(ours::feature_id::host_behavior_support, NVME_FEAT_FID_HOST_BEHAVIOR));
static_assert(is(ours::feature_id::sanitize_configuration, NVME_FEAT_FID_SANITIZE));
static_assert(is(ours::feature_id::endurance_group_event_configuration,
                 NVME_FEAT_FID_ENDURANCE_EVT_CFG));
static_assert(is(ours::feature_id::io_command_set_profile, NVME_FEAT_FID_IOCS_PROFILE));
static_assert(is(ours::feature_id::spinup_control, NVME_FEAT_FID_SPINUP_CONTROL));
static_assert(is(ours::feature_id::enhanced_controller_metadata, NVME_FEAT_FID_ENH_CTRL_METADATA));
static_assert(is(ours::feature_id::controller_metadata, NVME_FEAT_FID_CTRL_METADATA));
static_assert(is(ours::feature_id::namespace_metadata, NVME_FEAT_FID_NS_METADATA));
static_assert(is(ours::feature_id::software_progress_marker, NVME_FEAT_FID_SW_PROGRESS));
static_assert(is(ours::feature_id::host_identifier, NVME_FEAT_FID_HOST_ID));
static_assert(is(ours::feature_id::reservation_notification_mask, NVME_FEAT_FID_RESV_MASK));
static_assert(is(ours::feature_id::reservation_persistence, NVME_FEAT_FID_RESV_PERSIST));
static_assert(is(ours::feature_id::namespace_write_protection, NVME_FEAT_FID_WRITE_PROTECT));

static_assert(is(ours::log_page_id::supported_log_pages, NVME_LOG_LID_SUPPORTED_LOG_PAGES));
static_assert(is(ours::log_page_id::error_information, NVME_LOG_LID_ERROR));
static_assert(is(ours::log_page_id::health, NVME_LOG_LID_SMART));
static_assert(is(ours::log_page_id::firmware_slots, NVME_LOG_LID_FW_SLOT));
static_assert(is(ours::log_page_id::changed_namespaces, NVME_LOG_LID_CHANGED_NS));
static_assert(is(ours::log_page_id::commands_supported, NVME_LOG_LID_CMD_EFFECTS));
static_assert(is(ours::log_page_id::device_self_test, NVME_LOG_LID_DEVICE_SELF_TEST));
static_assert(is(ours::log_page_id::telemetry_host, NVME_LOG_LID_TELEMETRY_HOST));
static_assert(is(ours::log_page_id::telemetry_controller, NVME_LOG_LID_TELEMETRY_CTRL));
static_assert(is(ours::log_page_id::endurance_group, NVME_LOG_LID_ENDURANCE_GROUP));
static_assert(is(ours::log_page_id::predictable_latency_per_set,
                 NVME_LOG_LID_PREDICTABLE_LAT_NVMSET));
static_assert(is(ours::log_page_id::predictable_latency_events, NVME_LOG_LID_PREDICTABLE_LAT_AGG));
static_assert(is(ours::log_page_id::asymmetric_namespace_access, NVME_LOG_LID_ANA));
static_assert(is(ours::log_page_id::persistent_events, NVME_LOG_LID_PERSISTENT_EVENT));
static_assert(is(ours::log_page_id::lba_status, NVME_LOG_LID_LBA_STATUS));
static_assert(is(ours::log_page_id::endurance_group_events, NVME_LOG_LID_ENDURANCE_GRP_EVT));
static_assert(is(ours::log_page_id::media_unit_status, NVME_LOG_LID_MEDIA_UNIT_STATUS));
static_assert(is(ours::log_page_id::supported_capacity_configurations,
                 NVME_LOG_LID_SUPPORTED_CAP_CONFIG_LIST));
static_assert(is(ours::log_page_id::feature_identifiers_supported,
                 NVME_LOG_LID_FID_SUPPORTED_EFFECTS));
static_assert(is(ours::log_page_id::nvme_mi_commands_supported,
                 NVME_LOG_LID_MI_CMD_SUPPORTED_EFFECTS));
static_assert(is(ours::log_page_id::boot_partition, NVME_LOG_LID_BOOT_PARTITION));
static_assert(is(ours::log_page_id::discovery, NVME_LOG_LID_DISCOVER));
static_assert(is(ours::log_page_id::reservation_notification, NVME_LOG_LID_RESERVATION));
static_assert(is(ours::log_page_id::sanitize_status, NVME_LOG_LID_SANITIZE));

static_assert(is(ours::status_code::success, NVME_SC_SUCCESS));
static_assert(is(ours::status_code::invalid_opcode, NVME_SC_INVALID_OPCODE));
static_assert(is(ours::status_code::invalid_field, NVME_SC_INVALID_FIELD));
static_assert(is(ours::status_code::command_id_conflict, NVME_SC_CMDID_CONFLICT));
static_assert(is(ours::status_code::data_transfer_error, NVME_SC_DATA_XFER_ERROR));
static_assert(is(ours::status_code::aborted_power_loss, NVME_SC_POWER_LOSS));
static_assert(is(ours::status_code::internal_error, NVME_SC_INTERNAL));
static_assert(is(ours::status_code::abort_requested, NVME_SC_ABORT_REQ));
static_assert(is(ours::status_code::aborted_queue_deletion, NVME_SC_ABORT_QUEUE));
static_assert(is(ours::status_code::aborted_failed_fused, NVME_SC_FUSED_FAIL));
static_assert(is(ours::status_code::aborted_missing_fused, NVME_SC_FUSED_MISSING));
static_assert(is(ours::status_code::invalid_namespace_or_format, NVME_SC_INVALID_NS));
static_assert(is(ours::status_code::command_sequence_error, NVME_SC_CMD_SEQ_ERROR));
static_assert(is(ours::status_code::invalid_sgl_segment_descriptor, NVME_SC_SGL_INVALID_LAST));
static_assert(is(ours::status_code::invalid_sgl_descriptor_count, NVME_SC_SGL_INVALID_COUNT));
static_assert(is(ours::status_code::data_sgl_length_invalid, NVME_SC_SGL_INVALID_DATA));
static_assert(is(ours::status_code::metadata_sgl_length_invalid, NVME_SC_SGL_INVALID_METADATA));
static_assert(is(ours::status_code::sgl_descriptor_type_invalid, NVME_SC_SGL_INVALID_TYPE));
static_assert(is(ours::status_code::invalid_use_of_cmb, NVME_SC_CMB_INVALID_USE));
static_assert(is(ours::status_code::prp_offset_invalid, NVME_SC_PRP_INVALID_OFFSET));
static_assert(is(ours::status_code::atomic_write_unit_exceeded, NVME_SC_AWU_EXCEEDED));
static_assert(is(ours::status_code::operation_denied, NVME_SC_OP_DENIED));
static_assert(is(ours::status_code::sgl_offset_invalid, NVME_SC_SGL_INVALID_OFFSET));
static_assert(is(ours::status_code::host_identifier_inconsistent, NVME_SC_HOSTID_FORMAT));
static_assert(is(ours::status_code::keep_alive_expired, NVME_SC_KAT_EXPIRED));
static_assert(is(ours::status_code::keep_alive_timeout_invalid, NVME_SC_KAT_INVALID));
static_assert(is(ours::status_code::aborted_preempt, NVME_SC_CMD_ABORTED_PREMEPT));
static_assert(is(ours::status_code::sanitize_failed, NVME_SC_SANITIZE_FAILED));
static_assert(is(ours::status_code::sanitize_in_progress, NVME_SC_SANITIZE_IN_PROGRESS));
static_assert(is(ours::status_code::sgl_granularity_invalid, NVME_SC_SGL_INVALID_GRANULARITY));
static_assert(is(ours::status_code::command_not_supported_in_cmb, NVME_SC_CMD_IN_CMBQ_NOT_SUPP));
static_assert(is(ours::status_code::namespace_write_protected, NVME_SC_NS_WRITE_PROTECTED));
static_assert(is(ours::status_code::command_interrupted, NVME_SC_CMD_INTERRUPTED));
static_assert(is(ours::status_code::transient_transport_error, NVME_SC_TRAN_TPORT_ERROR));
static_assert(is(ours::status_code::prohibited_by_lockdown, NVME_SC_PROHIBITED_BY_CMD_AND_FEAT));
static_assert(is(ours::status_code::admin_media_not_ready, NVME_SC_ADMIN_CMD_MEDIA_NOT_READY));
static_assert(is(ours::status_code::lba_out_of_range, NVME_SC_LBA_RANGE));
static_assert(is(ours::status_code::capacity_exceeded, NVME_SC_CAP_EXCEEDED));
static_assert(is(ours::status_code::namespace_not_ready, NVME_SC_NS_NOT_READY));
static_assert(is(ours::status_code::reservation_conflict, NVME_SC_RESERVATION_CONFLICT));
static_assert(is(ours::status_code::format_in_progress, NVME_SC_FORMAT_IN_PROGRESS));
static_assert(is(ours::status_code::completion_queue_invalid, 1U << 8 | NVME_SC_CQ_INVALID));
static_assert(is(ours::status_code::invalid_queue_id, 1U << 8 | NVME_SC_QID_INVALID));
static_assert(is(ours::status_code::invalid_queue_size, 1U << 8 | NVME_SC_QUEUE_SIZE));
static_assert(is(ours::status_code::abort_limit_exceeded, 1U << 8 | NVME_SC_ABORT_LIMIT));
static_assert(is(ours::status_code::async_event_limit_exceeded, 1U << 8 | NVME_SC_ASYNC_LIMIT));
static_assert(is(ours::status_code::invalid_firmware_slot, 1U << 8 | NVME_SC_FIRMWARE_SLOT));
static_assert(is(ours::status_code::invalid_firmware_image, 1U << 8 | NVME_SC_FIRMWARE_IMAGE));
static_assert(is(ours::status_code::invalid_interrupt_vector, 1U << 8 | NVME_SC_INVALID_VECTOR));
static_assert(is(ours::status_code::invalid_log_page, 1U << 8 | NVME_SC_INVALID_LOG_PAGE));
static_assert(is(ours::status_code::invalid_format, 1U << 8 | NVME_SC_INVALID_FORMAT));
static_assert(is(ours::status_code::firmware_needs_conventional_reset,
                 1U << 8 | NVME_SC_FW_NEEDS_CONV_RESET));
static_assert(is(ours::status_code::invalid_queue_deletion, 1U << 8 | NVME_SC_INVALID_QUEUE));
static_assert(is(ours::status_code::feature_not_saveable, 1U << 8 | NVME_SC_FEATURE_NOT_SAVEABLE));
static_assert(is(ours::status_code::feature_not_changeable,
                 1U << 8 | NVME_SC_FEATURE_NOT_CHANGEABLE));
static_assert(is(ours::status_code::feature_not_namespace_specific,
                 1U << 8 | NVME_SC_FEATURE_NOT_PER_NS));
static_assert(is(ours::status_code::firmware_needs_subsystem_reset,
                 1U << 8 | NVME_SC_FW_NEEDS_SUBSYS_RESET));
static_assert(is(ours::status_code::firmware_needs_controller_reset,
                 1U << 8 | NVME_SC_FW_NEEDS_RESET));
static_assert(is(ours::status_code::firmware_needs_max_time_violation,
                 1U << 8 | NVME_SC_FW_NEEDS_MAX_TIME));
static_assert(is(ours::status_code::firmware_activation_prohibited,
                 1U << 8 | NVME_SC_FW_ACTIVATE_PROHIBITED));
static_assert(is(ours::status_code::overlapping_range, 1U << 8 | NVME_SC_OVERLAPPING_RANGE));
static_assert(is(ours::status_code::namespace_insufficient_capacity,
                 1U << 8 | NVME_SC_NS_INSUFFICIENT_CAP));
static_assert(is(ours::status_code::namespace_id_unavailable, 1U << 8 | NVME_SC_NS_ID_UNAVAILABLE));
static_assert(is(ours::status_code::namespace_already_attached,
                 1U << 8 | NVME_SC_NS_ALREADY_ATTACHED));
static_assert(is(ours::status_code::namespace_is_private, 1U << 8 | NVME_SC_NS_IS_PRIVATE));
static_assert(is(ours::status_code::namespace_not_attached, 1U << 8 | NVME_SC_NS_NOT_ATTACHED));
static_assert(is(ours::status_code::thin_provisioning_not_supported,
                 1U << 8 | NVME_SC_THIN_PROV_NOT_SUPP));
static_assert(is(ours::status_code::controller_list_invalid, 1U << 8 | NVME_SC_CTRL_LIST_INVALID));
static_assert(is(ours::status_code::self_test_in_progress,
                 1U << 8 | NVME_SC_SELF_TEST_IN_PROGRESS));
static_assert(is(ours::status_code::boot_partition_write_prohibited,
                 1U << 8 | NVME_SC_BP_WRITE_PROHIBITED));
static_assert(is(ours::status_code::invalid_controller_id, 1U << 8 | NVME_SC_INVALID_CTRL_ID));
static_assert(is(ours::status_code::invalid_secondary_controller_state,
                 1U << 8 | NVME_SC_INVALID_SEC_CTRL_STATE));
static_assert(is(ours::status_code::invalid_controller_resource_count,
                 1U << 8 | NVME_SC_INVALID_CTRL_RESOURCES));
static_assert(is(ours::status_code::invalid_resource_id, 1U << 8 | NVME_SC_INVALID_RESOURCE_ID));
static_assert(is(ours::status_code::sanitize_prohibited_by_pmr,
                 1U << 8 | NVME_SC_PMR_SAN_PROHIBITED));
static_assert(is(ours::status_code::ana_group_id_invalid, 1U << 8 | NVME_SC_ANA_GROUP_ID_INVALID));
static_assert(is(ours::status_code::ana_attach_failed, 1U << 8 | NVME_SC_ANA_ATTACH_FAILED));
static_assert(is(ours::status_code::insufficient_capacity, 1U << 8 | NVME_SC_INSUFFICIENT_CAP));
static_assert(is(ours::status_code::namespace_attachment_limit_exceeded,
                 1U << 8 | NVME_SC_NS_ATTACHMENT_LIMIT_EXCEEDED));
static_assert(is(ours::status_code::lockdown_not_supported,
                 1U << 8 | NVME_SC_PROHIBIT_CMD_EXEC_NOT_SUPPORTED));
static_assert(is(ours::status_code::command_set_not_supported,
                 1U << 8 | NVME_SC_IOCS_NOT_SUPPORTED));
static_assert(is(ours::status_code::command_set_not_enabled, 1U << 8 | NVME_SC_IOCS_NOT_ENABLED));
static_assert(is(ours::status_code::command_set_combination_rejected,
                 1U << 8 | NVME_SC_IOCS_COMBINATION_REJECTED));
static_assert(is(ours::status_code::invalid_command_set, 1U << 8 | NVME_SC_INVALID_IOCS));
static_assert(is(ours::status_code::identifier_unavailable, 1U << 8 | NVME_SC_ID_UNAVAILABLE));
static_assert(is(ours::status_code::conflicting_attributes, 1U << 8 | NVME_SC_BAD_ATTRIBUTES));
static_assert(is(ours::status_code::invalid_protection_information, 1U << 8 | NVME_SC_INVALID_PI));
static_assert(is(ours::status_code::write_to_read_only_range, 1U << 8 | NVME_SC_READ_ONLY));
static_assert(is(ours::status_code::command_size_limit_exceeded,
                 1U << 8 | NVME_SC_CMD_SIZE_LIMIT_EXCEEDED));
static_assert(is(ours::status_code::write_fault, 2U << 8 | NVME_SC_WRITE_FAULT));
static_assert(is(ours::status_code::unrecovered_read_error, 2U << 8 | NVME_SC_READ_ERROR));
static_assert(is(ours::status_code::guard_check_error, 2U << 8 | NVME_SC_GUARD_CHECK));
static_assert(is(ours::status_code::application_tag_check_error, 2U << 8 | NVME_SC_APPTAG_CHECK));
static_assert(is(ours::status_code::reference_tag_check_error, 2U << 8 | NVME_SC_REFTAG_CHECK));
static_assert(is(ours::status_code::compare_failure, 2U << 8 | NVME_SC_COMPARE_FAILED));
static_assert(is(ours::status_code::access_denied, 2U << 8 | NVME_SC_ACCESS_DENIED));
static_assert(is(ours::status_code::deallocated_or_unwritten, 2U << 8 | NVME_SC_UNWRITTEN_BLOCK));
static_assert(is(ours::status_code::storage_tag_check_error, 2U << 8 | NVME_SC_STORAGE_TAG_CHECK));
static_assert(is(ours::status_code::internal_path_error,
                 3U << 8 | NVME_SC_ANA_INTERNAL_PATH_ERROR));
static_assert(is(ours::status_code::ana_persistent_loss, 3U << 8 | NVME_SC_ANA_PERSISTENT_LOSS));
static_assert(is(ours::status_code::ana_inaccessible, 3U << 8 | NVME_SC_ANA_INACCESSIBLE));
static_assert(is(ours::status_code::ana_transition, 3U << 8 | NVME_SC_ANA_TRANSITION));
static_assert(is(ours::status_code::controller_pathing_error, 3U << 8 | NVME_SC_CTRL_PATH_ERROR));
static_assert(is(ours::status_code::host_pathing_error, 3U << 8 | NVME_SC_HOST_PATH_ERROR));
static_assert(is(ours::status_code::aborted_by_host, 3U << 8 | NVME_SC_CMD_ABORTED_BY_HOST));

static_assert(ours::cap::offset == NVME_REG_CAP);
static_assert(ours::vs::offset == NVME_REG_VS);
static_assert(ours::intms::offset == NVME_REG_INTMS);
static_assert(ours::intmc::offset == NVME_REG_INTMC);
static_assert(ours::cc::offset == NVME_REG_CC);
static_assert(ours::csts::offset == NVME_REG_CSTS);
static_assert(ours::nssr::offset == NVME_REG_NSSR);
static_assert(ours::aqa::offset == NVME_REG_AQA);
static_assert(ours::asq::offset == NVME_REG_ASQ);
static_assert(ours::acq::offset == NVME_REG_ACQ);
static_assert(ours::cmbloc::offset == NVME_REG_CMBLOC);
static_assert(ours::cmbsz::offset == NVME_REG_CMBSZ);
static_assert(ours::bpinfo::offset == NVME_REG_BPINFO);
static_assert(ours::bprsel::offset == NVME_REG_BPRSEL);
static_assert(ours::bpmbl::offset == NVME_REG_BPMBL);
static_assert(ours::cmbmsc::offset == NVME_REG_CMBMSC);
static_assert(ours::cmbsts::offset == NVME_REG_CMBSTS);
static_assert(ours::crto::offset == NVME_REG_CRTO);
static_assert(ours::pmrcap::offset == NVME_REG_PMRCAP);
static_assert(ours::pmrctl::offset == NVME_REG_PMRCTL);
static_assert(ours::pmrsts::offset == NVME_REG_PMRSTS);
static_assert(ours::pmrebs::offset == NVME_REG_PMREBS);
static_assert(ours::pmrswtp::offset == NVME_REG_PMRSWTP);
static_assert(ours::pmrmscl::offset == NVME_REG_PMRMSCL);
static_assert(ours::pmrmscu::offset == NVME_REG_PMRMSCU);

static_assert(ours::cap::mqes.lo == NVME_CAP_MQES_SHIFT &&
              ours::cap::mqes.max == NVME_CAP_MQES_MASK);
static_assert(ours::cap::cqr.lo == NVME_CAP_CQR_SHIFT && ours::cap::cqr.max == NVME_CAP_CQR_MASK);
static_assert(ours::cap::to.lo == NVME_CAP_TO_SHIFT && ours::cap::to.max == NVME_CAP_TO_MASK);
static_assert(ours::cap::dstrd.lo == NVME_CAP_DSTRD_SHIFT &&
              ours::cap::dstrd.max == NVME_CAP_DSTRD_MASK);
static_assert(ours::cap::css.lo == NVME_CAP_CSS_SHIFT && ours::cap::css.max == NVME_CAP_CSS_MASK);
static_assert(ours::cap::bps.lo == NVME_CAP_BPS_SHIFT && ours::cap::bps.max == NVME_CAP_BPS_MASK);
static_assert(ours::cap::mpsmin.lo == NVME_CAP_MPSMIN_SHIFT &&
              ours::cap::mpsmin.max == NVME_CAP_MPSMIN_MASK);
static_assert(ours::cap::mpsmax.lo == NVME_CAP_MPSMAX_SHIFT &&
              ours::cap::mpsmax.max == NVME_CAP_MPSMAX_MASK);
static_assert(ours::cap::pmrs.lo == NVME_CAP_PMRS_SHIFT &&
              ours::cap::pmrs.max == NVME_CAP_PMRS_MASK);
static_assert(ours::cap::cmbs.lo == NVME_CAP_CMBS_SHIFT &&
              ours::cap::cmbs.max == NVME_CAP_CMBS_MASK);
static_assert(ours::vs::ter.lo == NVME_VS_TER_SHIFT && ours::vs::ter.max == NVME_VS_TER_MASK);
static_assert(ours::vs::mnr.lo == NVME_VS_MNR_SHIFT && ours::vs::mnr.max == NVME_VS_MNR_MASK);
static_assert(ours::vs::mjr.lo == NVME_VS_MJR_SHIFT && ours::vs::mjr.max == NVME_VS_MJR_MASK);
static_assert(ours::cc::en.lo == NVME_CC_EN_SHIFT && ours::cc::en.max == NVME_CC_EN_MASK);
static_assert(ours::cc::css.lo == NVME_CC_CSS_SHIFT && ours::cc::css.max == NVME_CC_CSS_MASK);
static_assert(ours::cc::mps.lo == NVME_CC_MPS_SHIFT && ours::cc::mps.max == NVME_CC_MPS_MASK);
static_assert(ours::cc::ams.lo == NVME_CC_AMS_SHIFT && ours::cc::ams.max == NVME_CC_AMS_MASK);
static_assert(ours::cc::shn.lo == NVME_CC_SHN_SHIFT && ours::cc::shn.max == NVME_CC_SHN_MASK);
static_assert(ours::cc::iosqes.lo == NVME_CC_IOSQES_SHIFT &&
              ours::cc::iosqes.max == NVME_CC_IOSQES_MASK);
static_assert(ours::cc::iocqes.lo == NVME_CC_IOCQES_SHIFT &&
              ours::cc::iocqes.max == NVME_CC_IOCQES_MASK);
static_assert(ours::cc::crime.lo == NVME_CC_CRIME_SHIFT &&
              ours::cc::crime.max == NVME_CC_CRIME_MASK);
static_assert(ours::csts::rdy.lo == NVME_CSTS_RDY_SHIFT &&
              ours::csts::rdy.max == NVME_CSTS_RDY_MASK);
static_assert(ours::csts::cfs.lo == NVME_CSTS_CFS_SHIFT &&
              ours::csts::cfs.max == NVME_CSTS_CFS_MASK);
static_assert(ours::csts::shst.lo == NVME_CSTS_SHST_SHIFT &&
              ours::csts::shst.max == NVME_CSTS_SHST_MASK);
static_assert(ours::csts::nssro.lo == NVME_CSTS_NSSRO_SHIFT &&
              ours::csts::nssro.max == NVME_CSTS_NSSRO_MASK);
static_assert(ours::csts::pp.lo == NVME_CSTS_PP_SHIFT && ours::csts::pp.max == NVME_CSTS_PP_MASK);
static_assert(ours::aqa::asqs.lo == NVME_AQA_ASQS_SHIFT &&
              ours::aqa::asqs.max == NVME_AQA_ASQS_MASK);
static_assert(ours::aqa::acqs.lo == NVME_AQA_ACQS_SHIFT &&
              ours::aqa::acqs.max == NVME_AQA_ACQS_MASK);
static_assert(ours::crto::crwmt.lo == NVME_CRTO_CRWMT_SHIFT &&
              ours::crto::crwmt.max == NVME_CRTO_CRWMT_MASK);
// Its mask of CRIMT is in place, and its mask of BPROF is eight bits short.
static_assert(ours::crto::crimt.lo == NVME_CRTO_CRIMT_SHIFT);
static_assert(ours::cmbloc::bir.lo == NVME_CMBLOC_BIR_SHIFT &&
              ours::cmbloc::bir.max == NVME_CMBLOC_BIR_MASK);
static_assert(ours::cmbloc::cqmms.lo == NVME_CMBLOC_CQMMS_SHIFT &&
              ours::cmbloc::cqmms.max == NVME_CMBLOC_CQMMS_MASK);
static_assert(ours::cmbloc::cqpds.lo == NVME_CMBLOC_CQPDS_SHIFT &&
              ours::cmbloc::cqpds.max == NVME_CMBLOC_CQPDS_MASK);
static_assert(ours::cmbloc::cdpcils.lo == NVME_CMBLOC_CDPCILS_SHIFT &&
              ours::cmbloc::cdpcils.max == NVME_CMBLOC_CDPCILS_MASK);
static_assert(ours::cmbloc::cdmmms.lo == NVME_CMBLOC_CDMMMS_SHIFT &&
              ours::cmbloc::cdmmms.max == NVME_CMBLOC_CDMMMS_MASK);
static_assert(ours::cmbloc::cqda.lo == NVME_CMBLOC_CQDA_SHIFT &&
              ours::cmbloc::cqda.max == NVME_CMBLOC_CQDA_MASK);
static_assert(ours::cmbloc::ofst.lo == NVME_CMBLOC_OFST_SHIFT &&
              ours::cmbloc::ofst.max == NVME_CMBLOC_OFST_MASK);
static_assert(ours::cmbsz::sqs.lo == NVME_CMBSZ_SQS_SHIFT &&
              ours::cmbsz::sqs.max == NVME_CMBSZ_SQS_MASK);
static_assert(ours::cmbsz::cqs.lo == NVME_CMBSZ_CQS_SHIFT &&
              ours::cmbsz::cqs.max == NVME_CMBSZ_CQS_MASK);
static_assert(ours::cmbsz::lists.lo == NVME_CMBSZ_LISTS_SHIFT &&
              ours::cmbsz::lists.max == NVME_CMBSZ_LISTS_MASK);
static_assert(ours::cmbsz::rds.lo == NVME_CMBSZ_RDS_SHIFT &&
              ours::cmbsz::rds.max == NVME_CMBSZ_RDS_MASK);
static_assert(ours::cmbsz::wds.lo == NVME_CMBSZ_WDS_SHIFT &&
              ours::cmbsz::wds.max == NVME_CMBSZ_WDS_MASK);
static_assert(ours::cmbsz::szu.lo == NVME_CMBSZ_SZU_SHIFT &&
              ours::cmbsz::szu.max == NVME_CMBSZ_SZU_MASK);
static_assert(ours::cmbsz::sz.lo == NVME_CMBSZ_SZ_SHIFT &&
              ours::cmbsz::sz.max == NVME_CMBSZ_SZ_MASK);
static_assert(ours::bpinfo::bpsz.lo == NVME_BPINFO_BPSZ_SHIFT &&
              ours::bpinfo::bpsz.max == NVME_BPINFO_BPSZ_MASK);
static_assert(ours::bpinfo::brs.lo == NVME_BPINFO_BRS_SHIFT &&
              ours::bpinfo::brs.max == NVME_BPINFO_BRS_MASK);
static_assert(ours::bpinfo::abpid.lo == NVME_BPINFO_ABPID_SHIFT &&
              ours::bpinfo::abpid.max == NVME_BPINFO_ABPID_MASK);
static_assert(ours::bprsel::bprsz.lo == NVME_BPRSEL_BPRSZ_SHIFT &&
              ours::bprsel::bprsz.max == NVME_BPRSEL_BPRSZ_MASK);
static_assert(ours::bprsel::bprof.lo == NVME_BPRSEL_BPROF_SHIFT);
static_assert(ours::bprsel::bpid.lo == NVME_BPRSEL_BPID_SHIFT &&
              ours::bprsel::bpid.max == NVME_BPRSEL_BPID_MASK);
static_assert(ours::cmbmsc::cre.lo == NVME_CMBMSC_CRE_SHIFT &&
              ours::cmbmsc::cre.max == NVME_CMBMSC_CRE_MASK);
static_assert(ours::cmbmsc::cmse.lo == NVME_CMBMSC_CMSE_SHIFT &&
              ours::cmbmsc::cmse.max == NVME_CMBMSC_CMSE_MASK);
static_assert(ours::cmbmsc::cba.lo == NVME_CMBMSC_CBA_SHIFT &&
              ours::cmbmsc::cba.max == NVME_CMBMSC_CBA_MASK);
static_assert(ours::cmbsts::cbai.lo == NVME_CMBSTS_CBAI_SHIFT &&
              ours::cmbsts::cbai.max == NVME_CMBSTS_CBAI_MASK);
static_assert(ours::pmrcap::rds.lo == NVME_PMRCAP_RDS_SHIFT &&
              ours::pmrcap::rds.max == NVME_PMRCAP_RDS_MASK);
static_assert(ours::pmrcap::wds.lo == NVME_PMRCAP_WDS_SHIFT &&
              ours::pmrcap::wds.max == NVME_PMRCAP_WDS_MASK);
static_assert(ours::pmrcap::bir.lo == NVME_PMRCAP_BIR_SHIFT &&
              ours::pmrcap::bir.max == NVME_PMRCAP_BIR_MASK);
static_assert(ours::pmrcap::pmrtu.lo == NVME_PMRCAP_PMRTU_SHIFT &&
              ours::pmrcap::pmrtu.max == NVME_PMRCAP_PMRTU_MASK);
static_assert(ours::pmrcap::pmrto.lo == NVME_PMRCAP_PMRTO_SHIFT &&
              ours::pmrcap::pmrto.max == NVME_PMRCAP_PMRTO_MASK);
static_assert(ours::pmrcap::cmss.lo == NVME_PMRCAP_CMSS_SHIFT &&
              ours::pmrcap::cmss.max == NVME_PMRCAP_CMSS_MASK);
static_assert(ours::pmrctl::en.lo == NVME_PMRCTL_EN_SHIFT &&
              ours::pmrctl::en.max == NVME_PMRCTL_EN_MASK);
static_assert(ours::pmrsts::err.lo == NVME_PMRSTS_ERR_SHIFT &&
              ours::pmrsts::err.max == NVME_PMRSTS_ERR_MASK);
static_assert(ours::pmrsts::nrdy.lo == NVME_PMRSTS_NRDY_SHIFT &&
              ours::pmrsts::nrdy.max == NVME_PMRSTS_NRDY_MASK);
static_assert(ours::pmrsts::hsts.lo == NVME_PMRSTS_HSTS_SHIFT &&
              ours::pmrsts::hsts.max == NVME_PMRSTS_HSTS_MASK);
static_assert(ours::pmrsts::cbai.lo == NVME_PMRSTS_CBAI_SHIFT &&
              ours::pmrsts::cbai.max == NVME_PMRSTS_CBAI_MASK);
static_assert(ours::pmrebs::pmrszu.lo == NVME_PMREBS_PMRSZU_SHIFT &&
              ours::pmrebs::pmrszu.max == NVME_PMREBS_PMRSZU_MASK);
static_assert(ours::pmrebs::rbb.lo == NVME_PMREBS_RBB_SHIFT &&
              ours::pmrebs::rbb.max == NVME_PMREBS_RBB_MASK);
static_assert(ours::pmrebs::pmrwbz.lo == NVME_PMREBS_PMRWBZ_SHIFT &&
              ours::pmrebs::pmrwbz.max == NVME_PMREBS_PMRWBZ_MASK);
static_assert(ours::pmrswtp::pmrswtu.lo == NVME_PMRSWTP_PMRSWTU_SHIFT &&
              ours::pmrswtp::pmrswtu.max == NVME_PMRSWTP_PMRSWTU_MASK);
static_assert(ours::pmrswtp::pmrswtv.lo == NVME_PMRSWTP_PMRSWTV_SHIFT &&
              ours::pmrswtp::pmrswtv.max == NVME_PMRSWTP_PMRSWTV_MASK);

}  // namespace

TEST_CASE("libnvme's names for a status give the sentences of ours") {
  const ours::status s{static_cast<std::uint16_t>(NVME_SCT_MEDIA << NVME_SCT_SHIFT |
                                                  NVME_SC_COMPARE_FAILED | NVME_SC_DNR)};
  CHECK(s == ours::status_code::compare_failure);
  CHECK(s.dnr());
  CHECK_FALSE(s.more());
}

#else

TEST_CASE("libnvme's headers are not installed, so nothing was held against them") {
  MESSAGE("skipped: install libnvme-dev");
}

#endif
