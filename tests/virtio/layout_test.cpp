// SPDX-License-Identifier: BSL-1.0
// Structures and constants against the headers that Linux ships for user space.
#define VIRTIO_RING_NO_LEGACY  // leaves out vring_init, which is no C++

#include <phasebit/virtio/spec/blk.hpp>
#include <phasebit/virtio/spec/features.hpp>
#include <phasebit/virtio/spec/packed_ring.hpp>
#include <phasebit/virtio/spec/pci.hpp>
#include <phasebit/virtio/spec/scsi.hpp>
#include <phasebit/virtio/spec/split_ring.hpp>

#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_scsi.h>

namespace virtio = phasebit::virtio;
namespace blk = phasebit::virtio::blk;
namespace scsi = phasebit::virtio::scsi;
namespace pci = phasebit::virtio::pci;

namespace {

constexpr bool same_bits(std::uint64_t mask, unsigned bit) { return mask == 1ULL << bit; }

}  // namespace

TEST_CASE("ring structures have the layout of linux/virtio_ring.h") {
  static_assert(sizeof(virtio::split_descriptor) == sizeof(vring_desc));
  static_assert(offsetof(virtio::split_descriptor, addr) == offsetof(vring_desc, addr));
  static_assert(offsetof(virtio::split_descriptor, len) == offsetof(vring_desc, len));
  static_assert(offsetof(virtio::split_descriptor, flags) == offsetof(vring_desc, flags));
  static_assert(offsetof(virtio::split_descriptor, next) == offsetof(vring_desc, next));
  static_assert(sizeof(virtio::used_element) == sizeof(vring_used_elem));
  static_assert(offsetof(virtio::used_element, len) == offsetof(vring_used_elem, len));
  static_assert(sizeof(virtio::avail_header) == offsetof(vring_avail, ring));
  static_assert(sizeof(virtio::used_header) == offsetof(vring_used, ring));
  static_assert(offsetof(virtio::used_header, idx) == offsetof(vring_used, idx));
  static_assert(sizeof(virtio::packed_descriptor) == sizeof(vring_packed_desc));
  static_assert(offsetof(virtio::packed_descriptor, len) == offsetof(vring_packed_desc, len));
  static_assert(offsetof(virtio::packed_descriptor, id) == offsetof(vring_packed_desc, id));
  static_assert(offsetof(virtio::packed_descriptor, flags) == offsetof(vring_packed_desc, flags));
  static_assert(sizeof(virtio::event_suppression) == sizeof(vring_packed_desc_event));
  static_assert(offsetof(virtio::event_suppression, flags) ==
                offsetof(vring_packed_desc_event, flags));
  static_assert(virtio::descriptor_flag::next == VRING_DESC_F_NEXT);
  static_assert(virtio::descriptor_flag::write == VRING_DESC_F_WRITE);
  static_assert(virtio::descriptor_flag::indirect == VRING_DESC_F_INDIRECT);
  static_assert(virtio::descriptor_flag::avail == 1U << VRING_PACKED_DESC_F_AVAIL);
  static_assert(virtio::descriptor_flag::used == 1U << VRING_PACKED_DESC_F_USED);
  static_assert(virtio::avail_no_interrupt == VRING_AVAIL_F_NO_INTERRUPT);
  static_assert(virtio::used_no_notify == VRING_USED_F_NO_NOTIFY);
  static_assert(virtio::event_enable == VRING_PACKED_EVENT_FLAG_ENABLE);
  static_assert(virtio::event_disable == VRING_PACKED_EVENT_FLAG_DISABLE);
  static_assert(virtio::event_descriptor == VRING_PACKED_EVENT_FLAG_DESC);
  for (unsigned entries = 1; entries <= 32768; entries *= 2) {
    CHECK(virtio::descriptor_table_bytes(entries) == entries * sizeof(vring_desc));
    CHECK(virtio::avail_ring_bytes(entries) == sizeof(std::uint16_t) * (3 + entries));
    CHECK(virtio::used_ring_bytes(entries) ==
          sizeof(std::uint16_t) * 3 + sizeof(vring_used_elem) * entries);
  }
}

TEST_CASE("feature bits have the numbers of Linux's headers") {
  namespace f = virtio::feature;
  static_assert(same_bits(f::indirect_desc, VIRTIO_RING_F_INDIRECT_DESC));
  static_assert(same_bits(f::event_idx, VIRTIO_RING_F_EVENT_IDX));
  static_assert(same_bits(f::version_1, VIRTIO_F_VERSION_1));
  static_assert(same_bits(f::access_platform, VIRTIO_F_ACCESS_PLATFORM));
  static_assert(same_bits(f::ring_packed, VIRTIO_F_RING_PACKED));
  static_assert(same_bits(f::in_order, VIRTIO_F_IN_ORDER));
  static_assert(same_bits(f::order_platform, VIRTIO_F_ORDER_PLATFORM));
  static_assert(same_bits(f::sr_iov, VIRTIO_F_SR_IOV));
  static_assert(same_bits(f::ring_reset, VIRTIO_F_RING_RESET));
  static_assert(same_bits(f::notify_on_empty, VIRTIO_F_NOTIFY_ON_EMPTY));
  static_assert(same_bits(f::any_layout, VIRTIO_F_ANY_LAYOUT));
  static_assert(same_bits(blk::feature::size_max, VIRTIO_BLK_F_SIZE_MAX));
  static_assert(same_bits(blk::feature::seg_max, VIRTIO_BLK_F_SEG_MAX));
  static_assert(same_bits(blk::feature::geometry, VIRTIO_BLK_F_GEOMETRY));
  static_assert(same_bits(blk::feature::ro, VIRTIO_BLK_F_RO));
  static_assert(same_bits(blk::feature::blk_size, VIRTIO_BLK_F_BLK_SIZE));
  static_assert(same_bits(blk::feature::flush, VIRTIO_BLK_F_FLUSH));
  static_assert(same_bits(blk::feature::topology, VIRTIO_BLK_F_TOPOLOGY));
  static_assert(same_bits(blk::feature::config_wce, VIRTIO_BLK_F_CONFIG_WCE));
  static_assert(same_bits(blk::feature::mq, VIRTIO_BLK_F_MQ));
  static_assert(same_bits(blk::feature::discard, VIRTIO_BLK_F_DISCARD));
  static_assert(same_bits(blk::feature::write_zeroes, VIRTIO_BLK_F_WRITE_ZEROES));
  static_assert(same_bits(blk::feature::secure_erase, VIRTIO_BLK_F_SECURE_ERASE));
  static_assert(same_bits(scsi::feature::inout, VIRTIO_SCSI_F_INOUT));
  static_assert(same_bits(scsi::feature::hotplug, VIRTIO_SCSI_F_HOTPLUG));
  static_assert(same_bits(scsi::feature::change, VIRTIO_SCSI_F_CHANGE));
  static_assert(same_bits(scsi::feature::t10_pi, VIRTIO_SCSI_F_T10_PI));
  namespace s = virtio::device_status;
  static_assert(s::acknowledge == VIRTIO_CONFIG_S_ACKNOWLEDGE);
  static_assert(s::driver == VIRTIO_CONFIG_S_DRIVER);
  static_assert(s::driver_ok == VIRTIO_CONFIG_S_DRIVER_OK);
  static_assert(s::features_ok == VIRTIO_CONFIG_S_FEATURES_OK);
  static_assert(s::needs_reset == VIRTIO_CONFIG_S_NEEDS_RESET);
  static_assert(s::failed == VIRTIO_CONFIG_S_FAILED);
  static_assert(static_cast<unsigned>(virtio::device_id::block) == VIRTIO_ID_BLOCK);
  static_assert(static_cast<unsigned>(virtio::device_id::scsi_host) == VIRTIO_ID_SCSI);
}

TEST_CASE("the block device's structures have the layout of linux/virtio_blk.h") {
  static_assert(sizeof(blk::config) == sizeof(virtio_blk_config));
  static_assert(offsetof(blk::config, size_max) == offsetof(virtio_blk_config, size_max));
  static_assert(offsetof(blk::config, seg_max) == offsetof(virtio_blk_config, seg_max));
  static_assert(offsetof(blk::config, geometry) == offsetof(virtio_blk_config, geometry));
  static_assert(offsetof(blk::config, blk_size) == offsetof(virtio_blk_config, blk_size));
  static_assert(offsetof(blk::config, topology) == offsetof(virtio_blk_config, physical_block_exp));
  static_assert(offsetof(blk::config, topology.opt_io_size) ==
                offsetof(virtio_blk_config, opt_io_size));
  static_assert(offsetof(blk::config, writeback) == offsetof(virtio_blk_config, wce));
  static_assert(offsetof(blk::config, num_queues) == offsetof(virtio_blk_config, num_queues));
  static_assert(offsetof(blk::config, max_discard_seg) ==
                offsetof(virtio_blk_config, max_discard_seg));
  static_assert(offsetof(blk::config, discard_sector_alignment) ==
                offsetof(virtio_blk_config, discard_sector_alignment));
  static_assert(offsetof(blk::config, max_write_zeroes_sectors) ==
                offsetof(virtio_blk_config, max_write_zeroes_sectors));
  static_assert(offsetof(blk::config, write_zeroes_may_unmap) ==
                offsetof(virtio_blk_config, write_zeroes_may_unmap));
  static_assert(offsetof(blk::config, max_secure_erase_sectors) ==
                offsetof(virtio_blk_config, max_secure_erase_sectors));
  static_assert(sizeof(blk::request_header) == sizeof(virtio_blk_outhdr));
  static_assert(offsetof(blk::request_header, sector) == offsetof(virtio_blk_outhdr, sector));
  static_assert(sizeof(blk::range_segment) == sizeof(virtio_blk_discard_write_zeroes));
  static_assert(offsetof(blk::range_segment, flags) ==
                offsetof(virtio_blk_discard_write_zeroes, flags));
  static_assert(static_cast<unsigned>(blk::request_type::in) == VIRTIO_BLK_T_IN);
  static_assert(static_cast<unsigned>(blk::request_type::out) == VIRTIO_BLK_T_OUT);
  static_assert(static_cast<unsigned>(blk::request_type::flush) == VIRTIO_BLK_T_FLUSH);
  static_assert(static_cast<unsigned>(blk::request_type::get_id) == VIRTIO_BLK_T_GET_ID);
  static_assert(static_cast<unsigned>(blk::request_type::discard) == VIRTIO_BLK_T_DISCARD);
  static_assert(static_cast<unsigned>(blk::request_type::write_zeroes) ==
                VIRTIO_BLK_T_WRITE_ZEROES);
  static_assert(static_cast<unsigned>(blk::request_type::secure_erase) ==
                VIRTIO_BLK_T_SECURE_ERASE);
  static_assert(static_cast<unsigned>(blk::request_status::ok) == VIRTIO_BLK_S_OK);
  static_assert(static_cast<unsigned>(blk::request_status::io_error) == VIRTIO_BLK_S_IOERR);
  static_assert(static_cast<unsigned>(blk::request_status::unsupported) == VIRTIO_BLK_S_UNSUPP);
  static_assert(blk::range_flag_unmap == VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
  static_assert(blk::id_bytes == VIRTIO_BLK_ID_BYTES);
}

TEST_CASE("the SCSI host's structures have the layout of linux/virtio_scsi.h") {
  static_assert(sizeof(scsi::config) == sizeof(virtio_scsi_config));
  static_assert(offsetof(scsi::config, cdb_size) == offsetof(virtio_scsi_config, cdb_size));
  static_assert(offsetof(scsi::config, max_lun) == offsetof(virtio_scsi_config, max_lun));
  static_assert(sizeof(scsi::command_header) == offsetof(virtio_scsi_cmd_req, cdb));
  static_assert(offsetof(scsi::command_header, task_attr) ==
                offsetof(virtio_scsi_cmd_req, task_attr));
  static_assert(sizeof(scsi::command_response) == offsetof(virtio_scsi_cmd_resp, sense));
  static_assert(offsetof(scsi::command_response, status) == offsetof(virtio_scsi_cmd_resp, status));
  static_assert(sizeof(scsi::task_management_request) == sizeof(virtio_scsi_ctrl_tmf_req));
  static_assert(offsetof(scsi::task_management_request, tag) ==
                offsetof(virtio_scsi_ctrl_tmf_req, tag));
  static_assert(sizeof(scsi::notification_request) == sizeof(virtio_scsi_ctrl_an_req));
  static_assert(sizeof(scsi::event) == sizeof(virtio_scsi_event));
  static_assert(offsetof(scsi::event, reason) == offsetof(virtio_scsi_event, reason));
  static_assert(scsi::default_cdb_size == VIRTIO_SCSI_CDB_DEFAULT_SIZE);
  static_assert(scsi::default_sense_size == VIRTIO_SCSI_SENSE_DEFAULT_SIZE);
  static_assert(scsi::events_missed == VIRTIO_SCSI_T_EVENTS_MISSED);
  static_assert(static_cast<unsigned>(scsi::response::incorrect_lun) ==
                VIRTIO_SCSI_S_INCORRECT_LUN);
  static_assert(static_cast<unsigned>(scsi::response::failure) == VIRTIO_SCSI_S_FAILURE);
  static_assert(static_cast<unsigned>(scsi::task_management::query_task_set) ==
                VIRTIO_SCSI_T_TMF_QUERY_TASK_SET);
  static_assert(static_cast<unsigned>(scsi::reset_reason::removed) ==
                VIRTIO_SCSI_EVT_RESET_REMOVED);
}

TEST_CASE("the PCI structures have the layout of linux/virtio_pci.h") {
  static_assert(sizeof(pci::capability) == sizeof(virtio_pci_cap));
  static_assert(offsetof(pci::capability, offset) == VIRTIO_PCI_CAP_OFFSET);
  static_assert(offsetof(pci::capability, length) == VIRTIO_PCI_CAP_LENGTH);
  static_assert(sizeof(pci::notify_capability) == sizeof(virtio_pci_notify_cap));
  static_assert(pci::common::device_feature == VIRTIO_PCI_COMMON_DF);
  static_assert(pci::common::driver_feature == VIRTIO_PCI_COMMON_GF);
  static_assert(pci::common::config_msix_vector == VIRTIO_PCI_COMMON_MSIX);
  static_assert(pci::common::num_queues == VIRTIO_PCI_COMMON_NUMQ);
  static_assert(pci::common::device_status == VIRTIO_PCI_COMMON_STATUS);
  static_assert(pci::common::config_generation == VIRTIO_PCI_COMMON_CFGGENERATION);
  static_assert(pci::common::queue_select == VIRTIO_PCI_COMMON_Q_SELECT);
  static_assert(pci::common::queue_size == VIRTIO_PCI_COMMON_Q_SIZE);
  static_assert(pci::common::queue_msix_vector == VIRTIO_PCI_COMMON_Q_MSIX);
  static_assert(pci::common::queue_enable == VIRTIO_PCI_COMMON_Q_ENABLE);
  static_assert(pci::common::queue_notify_off == VIRTIO_PCI_COMMON_Q_NOFF);
  static_assert(pci::common::queue_desc == VIRTIO_PCI_COMMON_Q_DESCLO);
  static_assert(pci::common::queue_driver == VIRTIO_PCI_COMMON_Q_AVAILLO);
  static_assert(pci::common::queue_device == VIRTIO_PCI_COMMON_Q_USEDLO);
  static_assert(pci::common::queue_notify_data == VIRTIO_PCI_COMMON_Q_NDATA);
  static_assert(pci::common::queue_reset == VIRTIO_PCI_COMMON_Q_RESET);
  static_assert(static_cast<unsigned>(pci::structure::shared_memory) ==
                VIRTIO_PCI_CAP_SHARED_MEMORY_CFG);
  static_assert(pci::no_vector == VIRTIO_MSI_NO_VECTOR);
  static_assert(pci::isr_config == VIRTIO_PCI_ISR_CONFIG);
}
