// SPDX-License-Identifier: BSL-1.0
// From the description of a function to its configuration space: header, BARs, capabilities, and
// what a host may change of each. Simulated functions, vfio-user servers and FPGA endpoints all
// present the same bytes.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/device/capability_emitter.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/description.hpp>
#include <phasebit/pcie/device/extended_capability_emitter.hpp>
#include <phasebit/pcie/spec/address_translation.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/power_management.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::pcie {

// Where the capabilities of an emitted function lie; 0 for those that it has not.
struct function_layout {
  std::uint16_t power_management = 0;
  std::uint16_t express = 0;
  std::uint16_t msix = 0;
  std::uint16_t first_other = 0;  // of description::capabilities; the others follow in order
  std::uint16_t ari = 0;
  std::uint16_t sriov = 0;
  std::uint16_t serial_number = 0;
  std::uint16_t ats = 0;
  std::uint16_t page_request = 0;
  std::uint16_t pasid = 0;
  std::uint16_t aer = 0;
  std::uint16_t acs = 0;
  std::uint16_t resizable_bars = 0;
  std::uint16_t resizable_vf_bars = 0;
};

namespace detail {

template <std::size_t Bytes>
[[nodiscard]] result<> emit_others(config_image<Bytes>& image, capability_chain<Bytes>& chain,
                                   const function_description& d,
                                   function_layout& layout) noexcept {
  for (std::uint32_t i = 0; i < d.capabilities.size(); ++i) {
    const capability_description& c = d.capabilities[i];
    if (!c.writable.empty() && c.writable.size() != c.body.size()) {
      return failure(errc::invalid_argument, "a capability's mask is as long as its body").at(i);
    }
    const auto at = chain.add(c.id, c.body.size() + 2);
    if (!at) return at.error().at(i);
    if (i == 0) layout.first_other = *at;
    for (std::uint32_t b = 0; b < c.body.size(); ++b) {
      image.set8(*at + 2U + b, static_cast<std::uint8_t>(c.body[b]));
      if (!c.writable.empty()) {
        image.set_writable(*at + 2U + b, 1, static_cast<std::uint8_t>(c.writable[b]));
      }
    }
  }
  return {};
}

// ATS, PRI and PASID.
template <std::size_t Bytes>
[[nodiscard]] result<> emit_address_translation(config_image<Bytes>& image,
                                                capability_chain<Bytes>& chain,
                                                const function_description& d,
                                                function_layout& layout) noexcept {
  if (d.ats) {
    if (d.ats->queue_depth == 0 || d.ats->queue_depth > 32) {
      return failure(errc::invalid_argument, "a function takes 1 to 32 ATS invalidations at once",
                     d.ats->queue_depth);
    }
    const auto at = chain.add(extended_capability_id::address_translation_services, 1,
                              pcie::ats::capability_bytes);
    if (!at) return at.error();
    layout.ats = *at;
    image.set16(plus(*at, pcie::ats::capability),
                ats_capability{}
                    .with(ats_capability::invalidate_queue_depth, d.ats->queue_depth & 31)
                    .with(ats_capability::page_aligned_request, true)
                    .raw);
    image.set_writable(plus(*at, pcie::ats::control), 2,
                       ats_control{}
                           .with(ats_control::smallest_translation_unit, 31)
                           .with(ats_control::enable, true)
                           .raw);
  }
  if (d.page_requests) {
    const auto at =
        chain.add(extended_capability_id::page_request, 1, pcie::page_request::capability_bytes);
    if (!at) return at.error();
    layout.page_request = *at;
    image.set_writable(plus(*at, pcie::page_request::control), 2,
                       page_request_control{}.with(page_request_control::enable, true).raw);
    image.set16(plus(*at, pcie::page_request::status),
                page_request_status{}
                    .with(page_request_status::stopped, true)
                    .with(page_request_status::response_pasid_required,
                          d.page_requests->response_pasid_required)
                    .raw);
    image.set_cleared_by_ones(plus(*at, pcie::page_request::status), 2,
                              page_request_status{}
                                  .with(page_request_status::response_failure, true)
                                  .with(page_request_status::unexpected_group, true)
                                  .raw);
    image.set32(plus(*at, pcie::page_request::capacity), d.page_requests->capacity);
    image.set_writable(plus(*at, pcie::page_request::allocation), 4, 0xffff'ffff);
  }
  if (d.pasid) {
    if (d.pasid->width == 0 || d.pasid->width > 20) {
      return failure(errc::invalid_argument, "PASIDs have 1 to 20 bits", d.pasid->width);
    }
    const auto at = chain.add(extended_capability_id::pasid, 1, pcie::pasid::capability_bytes);
    if (!at) return at.error();
    layout.pasid = *at;
    image.set16(plus(*at, pcie::pasid::capability),
                pasid_capability{}
                    .with(pasid_capability::width, d.pasid->width)
                    .with(pasid_capability::execute, d.pasid->execute)
                    .with(pasid_capability::privileged, d.pasid->privileged)
                    .raw);
    image.set_writable(plus(*at, pcie::pasid::control), 2,
                       pasid_control{}
                           .with(pasid_control::enable, true)
                           .with(pasid_control::execute, d.pasid->execute)
                           .with(pasid_control::privileged, d.pasid->privileged)
                           .raw);
  }
  return {};
}

template <std::size_t Bytes>
[[nodiscard]] result<> emit_extended(config_image<Bytes>& image, capability_chain<Bytes>& chain,
                                     const function_description& d,
                                     function_layout& layout) noexcept {
  const auto take = [](std::uint16_t& place, const result<std::uint16_t>& at) -> result<> {
    if (!at) return at.error();
    place = *at;
    return {};
  };
  result<> done{};
  if (d.aer) done = take(layout.aer, emit_aer(image, chain, *d.aer));
  if (done && d.acs) done = take(layout.acs, emit_acs(image, chain, *d.acs));
  if (done && !d.resizable_bars.empty()) {
    done = take(layout.resizable_bars,
                emit_resizable(image, chain, extended_capability_id::resizable_bar,
                               d.resizable_bars, d.bars));
  }
  if (done && d.sriov && !d.sriov->resizable_vf_bars.empty()) {
    done = take(layout.resizable_vf_bars,
                emit_resizable(image, chain, extended_capability_id::vf_resizable_bar,
                               d.sriov->resizable_vf_bars, d.sriov->vf_bars));
  }
  return done;
}

}  // namespace detail

// Writes the function into the image, which is cleared first, as it is after a reset; a device uses
// it to reset the image, too. Errors name the fault of the description; error::index is the BAR or
// the capability. After an error the image is unusable.
template <std::size_t Bytes>
[[nodiscard]] result<function_layout> emit_function(config_image<Bytes>& image,
                                                    const function_description& d) noexcept {
  using detail::plus;
  function_layout layout{};
  image.clear();

  // The ids of a virtual function are those of its physical one, and read as all ones here
  // (9.3.4.1.1, 9.3.4.1.2).
  image.set16(header::vendor_id, d.virtual_function ? no_vendor : d.vendor_id);
  image.set16(header::device_id, d.virtual_function ? no_vendor : d.device_id);
  image.set32(header::revision_id, d.class_code << 8 | d.revision_id);
  image.set8(
      header::header_type,
      header_type_register{}.with(header_type_register::multi_function, d.multi_function).raw);
  image.set16(header::subsystem_vendor_id, d.subsystem_vendor_id);
  image.set16(header::subsystem_id, d.subsystem_id);
  image.set_cleared_by_ones(header::status, 2, status_register::write_one_to_clear);

  command_register command{};
  command = command.with(command_register::bus_master, true);
  if (!d.virtual_function) {
    command = command.with(command_register::memory_space, true)
                  .with(command_register::parity_error_response, true)
                  .with(command_register::serr_enable, true)
                  .with(command_register::interrupt_disable, true);
    for (const bar_description& b : d.bars) {
      if (b.kind == bar_kind::io) command = command.with(command_register::io_space, true);
    }
    image.set_writable(header::cache_line_size, 1, 0xff);
    image.set_writable(header::interrupt_line, 1, 0xff);
    image.set8(header::interrupt_pin, d.interrupt_pin);
    const auto bars = detail::emit_bars(image, header::bar0, d.bars);
    if (!bars) return bars.error();
  }
  image.set_writable(header::command, 2, command.raw);

  detail::capability_chain<Bytes> chain{image};
  if (d.power_management) {
    const auto at = chain.add(capability_id::power_management, power::capability_bytes);
    if (!at) return at.error();
    layout.power_management = *at;
    image.set16(plus(*at, power::capabilities),
                power_capabilities{}.with(power_capabilities::version, 3).raw);
    const power_control control = power_control{}.with(power_control::no_soft_reset, true);
    image.set16(plus(*at, power::control_status), control.raw);
    image.set_writable(plus(*at, power::control_status), 2,
                       power_control{}.with(power_control::state, power_state::d3hot).raw);
  }
  if (d.msix) {
    const auto checked = detail::check_msix(d, *d.msix);
    if (!checked) return checked.error();
    const auto at = chain.add(capability_id::msix, msix::capability_bytes);
    if (!at) return at.error();
    layout.msix = *at;
    const std::uint16_t control = plus(*at, msix::control_offset);
    image.set16(control, static_cast<std::uint16_t>(d.msix->vectors - 1));
    image.set_writable(control, 2,
                       msix_control{}
                           .with(msix_control::enable, true)
                           .with(msix_control::function_mask, true)
                           .raw);
    image.set32(plus(*at, msix::table_offset), d.msix->table_offset | d.msix->table_bar);
    image.set32(plus(*at, msix::pba_offset), d.msix->pba_offset | d.msix->pba_bar);
  }
  if (d.express) {
    const auto at = detail::emit_express(image, chain, *d.express);
    if (!at) return at.error();
    layout.express = *at;
  }
  const auto others = detail::emit_others(image, chain, d, layout);
  if (!others) return others.error();

  if (d.ari_next_function) {
    const auto at =
        chain.add(extended_capability_id::alternative_routing_id, 1, ari::capability_bytes);
    if (!at) return at.error();
    layout.ari = *at;
    image.set16(plus(*at, ari::capability),
                ari_capability{}.with(ari_capability::next_function, *d.ari_next_function).raw);
  }
  if (d.sriov) {
    const auto at = detail::emit_sriov(image, chain, *d.sriov);
    if (!at) return at.error();
    layout.sriov = *at;
  }
  if (const auto emitted = detail::emit_address_translation(image, chain, d, layout); !emitted) {
    return emitted.error();
  }
  if (d.serial_number) {
    const auto at = chain.add(extended_capability_id::device_serial_number, 1, 12);
    if (!at) return at.error();
    layout.serial_number = *at;
    image.set32(*at + 4U, static_cast<std::uint32_t>(*d.serial_number));
    image.set32(*at + 8U, static_cast<std::uint32_t>(*d.serial_number >> 32));
  }
  const auto extended = detail::emit_extended(image, chain, d, layout);
  if (!extended) return extended.error();
  return layout;
}

// Writes a bridge (a root port, a switch port) into the image.
template <std::size_t Bytes>
[[nodiscard]] result<function_layout> emit_bridge(config_image<Bytes>& image,
                                                  const bridge_description& d) noexcept {
  using detail::plus;
  function_layout layout{};
  image.clear();
  image.set16(header::vendor_id, d.vendor_id);
  image.set16(header::device_id, d.device_id);
  image.set32(header::revision_id, 0x06'0400U << 8 | d.revision_id);  // PCI-to-PCI bridge
  image.set8(header::header_type, header_type_register{}
                                      .with(header_type_register::layout, header_layout::type1)
                                      .with(header_type_register::multi_function, d.multi_function)
                                      .raw);
  image.set_writable(header::command, 2,
                     command_register{}
                         .with(command_register::io_space, true)
                         .with(command_register::memory_space, true)
                         .with(command_register::bus_master, true)
                         .with(command_register::parity_error_response, true)
                         .with(command_register::serr_enable, true)
                         .with(command_register::interrupt_disable, true)
                         .raw);
  image.set_cleared_by_ones(header::status, 2, status_register::write_one_to_clear);
  image.set_cleared_by_ones(bridge_header::secondary_status, 2,
                            status_register::write_one_to_clear);
  image.set_writable(bridge_header::primary_bus, 1, 0xff);
  image.set_writable(bridge_header::secondary_bus, 1, 0xff);
  image.set_writable(bridge_header::subordinate_bus, 1, 0xff);
  image.set_writable(bridge_header::memory_base, 4, 0xfff0'fff0);
  image.set_writable(bridge_header::bridge_control, 2, 0x004b);
  if (d.io_window) image.set_writable(bridge_header::io_base, 2, 0xf0f0);
  if (d.prefetchable_window) {
    image.set32(bridge_header::prefetchable_base, 0x0001'0001);
    image.set_writable(bridge_header::prefetchable_base, 4, 0xfff0'fff0);
    image.set_writable(bridge_header::prefetchable_base_upper, 4, 0xffff'ffff);
    image.set_writable(bridge_header::prefetchable_limit_upper, 4, 0xffff'ffff);
  }
  detail::capability_chain<Bytes> chain{image};
  const auto at = detail::emit_express(image, chain, d.express);
  if (!at) return at.error();
  layout.express = *at;
  if (d.ari_forwarding) {
    image.set32(plus(*at, express::device_capabilities_2),
                device_capabilities_2{}.with(device_capabilities_2::ari_forwarding, true).raw);
    image.set_writable(plus(*at, express::device_control_2), 2,
                       device_control_2{}.with(device_control_2::ari_forwarding, true).raw);
  }
  if (d.aer) {
    const auto aer = detail::emit_aer(image, chain, *d.aer);
    if (!aer) return aer.error();
    layout.aer = *aer;
  }
  if (d.acs) {
    const auto acs = detail::emit_acs(image, chain, *d.acs);
    if (!acs) return acs.error();
    layout.acs = *acs;
  }
  return layout;
}

}  // namespace phasebit::pcie
