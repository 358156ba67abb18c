// SPDX-License-Identifier: BSL-1.0
// The answers of a function to Identify: NVMe Base 2.0, section 5.17.
#pragma once

#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/device/identify.hpp>
#include <phasebit/nvme/device/registers.hpp>
#include <phasebit/nvme/device/settings.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/identify.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/systems/mediated/policy.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems::detail {

using identify_page = std::span<std::byte, nvme::identify_bytes>;

// Each function is a subsystem of its own: serial number and name of the subsystem end in the function's
// number.
inline constexpr std::size_t function_digits = 4;
[[nodiscard]] constexpr char function_digit(std::uint16_t function, std::size_t i) noexcept {
  return "0123456789abcdef"[function >> (12 - 4 * i) & 15];
}

inline void identify_function(const nvme::device::settings& s, const drive_namespace& drive,
                              std::uint16_t function, std::size_t async_events,
                              identify_page page) noexcept {
  using ic = nvme::identify_controller;
  ic id{};
  id.vid = s.pci_vendor;
  id.ssvid = s.pci_subsystem_vendor;
  nvme::set_text(id.sn, s.serial.substr(0, id.sn.size() - function_digits));
  nvme::set_text(id.mn, s.model);
  nvme::set_text(id.fr, s.firmware);
  std::size_t end = s.serial.size();
  if (end > id.sn.size() - function_digits) end = id.sn.size() - function_digits;
  for (std::size_t i = 0; i != function_digits; ++i) id.sn[end + i] = function_digit(function, i);
  id.mdts = s.mdts;
  id.cntlid = function;
  id.ver = nvme::device::registers::version.raw;
  id.cntrltype = nvme::controller_type::io;
  id.acl = 3;
  id.aerl = static_cast<std::uint8_t>(async_events - 1);
  id.frmw = 0x03;  // one slot, read only
  id.wctemp = 343;
  id.cctemp = 353;
  id.sqes = 0x66;
  id.cqes = 0x44;
  id.nn = 1;
  id.oncs = static_cast<std::uint16_t>(
      ic::oncs_compare.of(drive.compare) | ic::oncs_write_zeroes.of(drive.write_zeroes) |
      ic::oncs_verify.of(drive.verify) | ic::oncs_save_select.of(true));
  id.vwc = static_cast<std::uint8_t>(ic::vwc_present.of(drive.volatile_write_cache) |
                                     ic::vwc_flush_all.of(std::uint8_t{3}));
  std::size_t at = 0;
  const std::size_t most = id.subnqn.size() - function_digits - 2;
  for (; at != s.subsystem_nqn.size() && at != most; ++at) id.subnqn[at] = s.subsystem_nqn[at];
  id.subnqn[at++] = ':';
  for (std::size_t i = 0; i != function_digits; ++i) id.subnqn[at++] = function_digit(function, i);
  id.psd[0].mp = 100;
  store_wire(page, id);
}

[[nodiscard]] inline std::uint64_t function_eui64(const nvme::device::settings& s,
                                                  std::uint16_t function) noexcept {
  return nvme::device::eui64_of(s, std::uint32_t{function} + 1);
}

template <class Function>
void identify_function_namespace(const nvme::device::settings& s, const drive_namespace& drive,
                                 std::uint16_t function, const Function& f,
                                 identify_page page) noexcept {
  using in = nvme::identify_namespace;
  in id{};
  id.nsze = id.ncap = id.nuse = f.blocks;
  id.nvmcap.low = f.blocks << drive.block_shift;
  id.nsattr = in::nsattr_write_protected.of<std::uint8_t>(f.read_only);
  const std::uint64_t eui64 = function_eui64(s, function);
  for (unsigned i = 0; i != 8; ++i) id.eui64[i] = static_cast<std::uint8_t>(eui64 >> (56 - 8 * i));
  id.lbaf[0].lbads = drive.block_shift;
  store_wire(page, id);
}

// The page, which is zero, or the status with which the command is refused.
template <class Function>
[[nodiscard]] nvme::status_code identify(const nvme::submission_entry& c,
                                         const nvme::device::settings& s,
                                         const drive_namespace& drive, std::uint16_t function,
                                         const Function& f, std::size_t async_events,
                                         identify_page page) noexcept {
  using code = nvme::status_code;
  using cns = nvme::cns;
  const std::uint32_t nsid = c.nsid;
  const auto csi = nvme::identify_command::csi_bits.get(c.cdw11.get());
  const bool nvm = csi == nvme::command_set::nvm;
  switch (nvme::identify_command::cns_bits.get(c.cdw10.get())) {
    case cns::identify_namespace:
      // An inactive namespace reads as zeros; one beyond NN is invalid.
      if (nsid == 1) {
        identify_function_namespace(s, drive, function, f, page);
        return code::success;
      }
      return code::invalid_namespace_or_format;
    case cns::identify_controller:
      identify_function(s, drive, function, async_events, page);
      return code::success;
    case cns::active_namespace_list:
    case cns::command_set_active_namespace_list:
      if (!nvm) return code::invalid_field;
      if (nsid >= 0xffff'fffe) return code::invalid_namespace_or_format;
      if (nsid == 0) store_wire(page, le<std::uint32_t>{1U});
      return code::success;
    case cns::namespace_id_descriptors: {
      if (nsid != 1) return code::invalid_namespace_or_format;
      page[0] = std::byte{1};  // EUI-64
      page[1] = std::byte{8};
      const std::uint64_t eui64 = function_eui64(s, function);
      for (unsigned i = 0; i != 8; ++i) page[4 + i] = static_cast<std::byte>(eui64 >> (56 - 8 * i));
      return code::success;
    }
    // Zeros: nothing beyond the defaults.
    case cns::command_set_namespace:
      if (!nvm) return code::invalid_field;
      return nsid == 1 ? code::success : code::invalid_namespace_or_format;
    case cns::command_set_controller:
      return nvm ? code::success : code::invalid_field;
    default:
      return code::invalid_field;
  }
}

}  // namespace phasebit::systems::detail
