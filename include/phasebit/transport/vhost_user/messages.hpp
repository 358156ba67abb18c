// SPDX-License-Identifier: BSL-1.0
// Messages of the vhost-user protocol, as QEMU's interoperability documentation defines them. All
// words are in the byte order of the machine: both sides run on it.
#pragma once

#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace phasebit::transport::vhost_user {

// Requests that a front end sends.
enum class request : std::uint32_t {
  get_features = 1,
  set_features = 2,
  set_owner = 3,
  reset_owner = 4,
  set_mem_table = 5,
  set_log_base = 6,
  set_log_fd = 7,
  set_vring_num = 8,
  set_vring_addr = 9,
  set_vring_base = 10,
  get_vring_base = 11,
  set_vring_kick = 12,
  set_vring_call = 13,
  set_vring_err = 14,
  get_protocol_features = 15,
  set_protocol_features = 16,
  get_queue_num = 17,
  set_vring_enable = 18,
  set_backend_req_fd = 21,
  get_config = 24,
  set_config = 25,
  get_inflight_fd = 31,
  set_inflight_fd = 32,
  reset_device = 34,
  get_max_mem_slots = 36,
  add_mem_reg = 37,
  rem_mem_reg = 38,
  set_status = 39,
  get_status = 40,
};

// Requests that a back end sends on its own channel.
enum class backend_request : std::uint32_t { config_change_msg = 2 };

// Bits of the feature words that belong to the transport.
inline constexpr std::uint64_t feature_log_all = 1ULL << 26;
inline constexpr std::uint64_t feature_protocol_features = 1ULL << 30;

// Protocol features, as masks.
namespace protocol_feature {

inline constexpr std::uint64_t mq = 1ULL << 0;
inline constexpr std::uint64_t log_shmfd = 1ULL << 1;
inline constexpr std::uint64_t reply_ack = 1ULL << 3;
inline constexpr std::uint64_t backend_req = 1ULL << 5;
inline constexpr std::uint64_t config = 1ULL << 9;
inline constexpr std::uint64_t inflight_shmfd = 1ULL << 12;
inline constexpr std::uint64_t reset_device = 1ULL << 13;
inline constexpr std::uint64_t configure_mem_slots = 1ULL << 15;
inline constexpr std::uint64_t status = 1ULL << 16;

}  // namespace protocol_feature

// Before each payload.
struct message_header {
  std::uint32_t request;
  std::uint32_t flags;
  std::uint32_t size;  // of the payload
};
static_assert(WireStruct<message_header> && sizeof(message_header) == 12);

inline constexpr std::uint32_t version = 1;  // flags, bits 1:0
inline constexpr std::uint32_t version_mask = 3;
inline constexpr std::uint32_t flag_reply = 4;
inline constexpr std::uint32_t flag_need_reply = 8;
inline constexpr std::uint32_t known_flags = version_mask | flag_reply | flag_need_reply;

inline constexpr std::size_t max_payload = 4096;
inline constexpr std::size_t max_fds = 16;
inline constexpr std::uint32_t max_table_regions = 8;  // of SET_MEM_TABLE

struct vring_state {
  std::uint32_t index;
  std::uint32_t num;
};
static_assert(WireStruct<vring_state> && sizeof(vring_state) == 8);

struct vring_addr {
  std::uint32_t index;
  std::uint32_t flags;
  std::uint64_t desc_user_addr;
  std::uint64_t used_user_addr;
  std::uint64_t avail_user_addr;
  std::uint64_t log_guest_addr;
};
static_assert(WireStruct<vring_addr> && sizeof(vring_addr) == 40);
inline constexpr std::uint32_t vring_flag_log = 1;

// Payload of SET_VRING_KICK, CALL and ERR.
inline constexpr std::uint64_t vring_index_mask = 0xff;
inline constexpr std::uint64_t vring_no_fd = 0x100;

struct memory_region {
  std::uint64_t guest_addr;
  std::uint64_t size;
  std::uint64_t user_addr;
  std::uint64_t mmap_offset;
};
static_assert(WireStruct<memory_region> && sizeof(memory_region) == 32);

// Before the regions of SET_MEM_TABLE.
struct memory_table_header {
  std::uint32_t regions;
  std::uint32_t padding;
};
static_assert(WireStruct<memory_table_header> && sizeof(memory_table_header) == 8);

// ADD_MEM_REG and REM_MEM_REG.
struct single_region {
  std::uint64_t padding;
  memory_region region;
};
static_assert(WireStruct<single_region> && sizeof(single_region) == 40);

struct log_area {
  std::uint64_t size;
  std::uint64_t offset;
};
static_assert(WireStruct<log_area> && sizeof(log_area) == 16);

// Before the bytes of GET_CONFIG and SET_CONFIG.
struct config_header {
  std::uint32_t offset;
  std::uint32_t size;
  std::uint32_t flags;
};
static_assert(WireStruct<config_header> && sizeof(config_header) == 12);
inline constexpr std::uint32_t max_config = 256;

// GET_INFLIGHT_FD and SET_INFLIGHT_FD. QEMU pads it to 24 bytes and expects that of the reply.
struct inflight_area {
  std::uint64_t mmap_size;
  std::uint64_t mmap_offset;
  std::uint16_t num_queues;
  std::uint16_t queue_size;
  std::uint32_t padding;
};
static_assert(WireStruct<inflight_area> && sizeof(inflight_area) == 24);
inline constexpr std::size_t least_inflight_area = 20;

}  // namespace phasebit::transport::vhost_user
