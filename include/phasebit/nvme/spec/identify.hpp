// SPDX-License-Identifier: BSL-1.0
// The CNS values of the Identify command: NVMe Base 2.0, section 5.17.1, figure 273. Every data
// structure is 4096 bytes.
#pragma once

#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/identify_namespace.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

inline constexpr std::size_t identify_bytes = 4096;
static_assert(sizeof(identify_controller) == identify_bytes &&
              sizeof(identify_namespace) == identify_bytes);

// Controller or Namespace Structure, CDW10 bits 7:0.
enum class cns : std::uint8_t {
  identify_namespace = 0x00,
  identify_controller = 0x01,
  active_namespace_list = 0x02,
  namespace_id_descriptors = 0x03,
  nvm_set_list = 0x04,
  command_set_namespace = 0x05,
  command_set_controller = 0x06,
  command_set_active_namespace_list = 0x07,
  independent_namespace = 0x08,
  namespace_user_data_format = 0x09,
  command_set_user_data_format = 0x0a,
  allocated_namespace_list = 0x10,
  allocated_namespace = 0x11,
  attached_controller_list = 0x12,
  controller_list = 0x13,
  primary_controller = 0x14,
  secondary_controller_list = 0x15,
  namespace_granularity_list = 0x16,
  uuid_list = 0x17,
  domain_list = 0x18,
  endurance_group_list = 0x19,
  command_set_allocated_namespace_list = 0x1a,
  command_set_allocated_namespace = 0x1b,
  command_set_combinations = 0x1c,
};

// Command Set Identifier, CDW11 bits 31:24.
enum class command_set : std::uint8_t { nvm = 0, key_value = 1, zoned = 2 };

}  // namespace phasebit::nvme
