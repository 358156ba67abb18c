// SPDX-License-Identifier: BSL-1.0
// The SR-IOV extended capability of a physical function. PCIe 5.0, 9.3.3.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/capability.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::pcie {

// Offsets from the capability.
namespace sriov {

inline constexpr std::uint16_t capabilities = 0x04;
inline constexpr std::uint16_t control = 0x08;
inline constexpr std::uint16_t status = 0x0a;
inline constexpr std::uint16_t initial_vfs = 0x0c;
inline constexpr std::uint16_t total_vfs = 0x0e;
inline constexpr std::uint16_t num_vfs = 0x10;
inline constexpr std::uint16_t function_dependency_link = 0x12;
inline constexpr std::uint16_t first_vf_offset = 0x14;
inline constexpr std::uint16_t vf_stride = 0x16;
inline constexpr std::uint16_t vf_device_id = 0x1a;
inline constexpr std::uint16_t supported_page_sizes = 0x1c;
inline constexpr std::uint16_t system_page_size = 0x20;
inline constexpr std::uint16_t vf_bar0 = 0x24;
inline constexpr std::uint16_t migration_state = 0x3c;
inline constexpr std::uint16_t capability_bytes = 0x40;

}  // namespace sriov

// 9.3.3.3
struct sriov_control : register_value<sriov_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> vf_enable{};
  static constexpr field<3> vf_memory_space{};
  static constexpr field<4> ari_capable_hierarchy{};
};

// After VF Enable was set, a virtual function may leave requests unanswered for so long (9.3.3.3.1).
inline constexpr std::uint64_t vf_enable_wait_ns = 100 * nanoseconds_per_ms;

// The virtual functions of a physical function. Offset and stride are valid for the current NumVFs;
// they may change with it (9.3.3.9).
struct sriov_capability {
  std::uint16_t offset = 0;
  std::uint16_t total_vfs = 0;
  std::uint16_t num_vfs = 0;
  bool enabled = false;
  std::uint16_t first_vf_offset = 0;
  std::uint16_t vf_stride = 0;
  std::uint16_t vf_device_id = 0;
  std::uint32_t supported_page_sizes = 0;  // bit n: 4 KiB << n

  // The routing id of virtual function `index` (from 0) of the function `pf`, or nothing where the
  // device's numbers lead beyond the last bus (9.3.3.8).
  [[nodiscard]] constexpr std::optional<requester_id> routing_id(requester_id pf,
                                                                 unsigned index) const noexcept {
    const std::uint64_t id =
        std::uint64_t{pf.raw()} + first_vf_offset + std::uint64_t{index} * vf_stride;
    if (id > 0xffff) return std::nullopt;
    return requester_id{static_cast<std::uint16_t>(id)};
  }
};

namespace detail {

[[nodiscard]] constexpr std::uint16_t plus(std::uint16_t base, unsigned offset) noexcept {
  return static_cast<std::uint16_t>(base + offset);
}

}  // namespace detail

// Errors: those of find_capability (not_found: the function is none that has virtual functions),
// and protocol where the numbers make no sense.
template <ConfigSpace Config>
[[nodiscard]] result<sriov_capability> read_sriov(Config& config) noexcept {
  const auto at = find_capability(config, extended_capability_id::sriov);
  if (!at) return at.error();
  if (*at > extended_config_bytes - sriov::capability_bytes) {
    return failure(errc::protocol, "the SR-IOV capability runs over the end of its space", *at);
  }
  const auto word = [&](unsigned offset) { return config.read16(detail::plus(*at, offset)); };
  sriov_capability c{
      .offset = *at,
      .total_vfs = word(sriov::total_vfs),
      .num_vfs = word(sriov::num_vfs),
      .enabled = sriov_control{word(sriov::control)}[sriov_control::vf_enable],
      .first_vf_offset = word(sriov::first_vf_offset),
      .vf_stride = word(sriov::vf_stride),
      .vf_device_id = word(sriov::vf_device_id),
      .supported_page_sizes = config.read32(detail::plus(*at, sriov::supported_page_sizes))};
  if (c.num_vfs > c.total_vfs) {
    return detail::broken_or_removed(config, errc::protocol, "NumVFs is greater than TotalVFs",
                                     c.num_vfs);
  }
  return c;
}

// Sizes the VF BARs: each is the size for one virtual function. VF Memory Space Enable is off
// meanwhile and as it was afterwards. Errors as of size_bars.
template <ConfigSpace Config>
[[nodiscard]] result<bar_array> size_vf_bars(Config& config, const sriov_capability& c) noexcept {
  const std::uint16_t control = detail::plus(c.offset, sriov::control);
  const sriov_control before{config.read16(control)};
  config.write16(control, before.with(sriov_control::vf_memory_space, false).raw);
  const auto bars =
      detail::size_bar_registers(config, detail::plus(c.offset, sriov::vf_bar0), type0_bars);
  config.write16(control, before.raw);
  return bars;
}

// Switches `count` virtual functions on (0: off), and waits the time that the specification gives
// them. VF BARs have been placed. The capability is read again, because offset and stride depend on the
// count. Errors: out_of_range (more than TotalVFs), busy (some are on: switch them off first),
// protocol (the routing ids overlap or leave the hierarchy), removed.
template <ConfigSpace Config, PollClock Clock>
[[nodiscard]] result<sriov_capability> enable_virtual_functions(Config& config, requester_id pf,
                                                                std::uint16_t count,
                                                                Clock& clock) noexcept {
  auto c = read_sriov(config);
  if (!c) return c;
  if (count > c->total_vfs) {
    return failure(errc::out_of_range, "the function has fewer virtual functions", c->total_vfs);
  }
  if (c->enabled && count != 0) {
    return failure(errc::busy, "virtual functions are on already: switch them off first",
                   c->num_vfs);
  }
  const std::uint16_t capability = c->offset;
  const auto at = [&](unsigned offset) { return detail::plus(capability, offset); };
  const auto wait = [&] { (void)poll_until(clock, vf_enable_wait_ns, [] { return false; }); };

  sriov_control control{config.read16(at(sriov::control))};
  if (count == 0) {
    control =
        control.with(sriov_control::vf_memory_space, false).with(sriov_control::vf_enable, false);
    config.write16(at(sriov::control), control.raw);
    // The bus numbers must not be reused within a second (9.3.3.3.1); ours are not.
    if (c->enabled) wait();
    config.write16(at(sriov::num_vfs), 0);
    return read_sriov(config);
  }

  config.write16(at(sriov::num_vfs), count);
  c = read_sriov(config);
  if (!c) return c;
  if (c->first_vf_offset == 0 || (count > 1 && c->vf_stride == 0) ||
      !c->routing_id(pf, count - 1U)) {
    config.write16(at(sriov::num_vfs), 0);
    return failure(errc::protocol, "First VF Offset and VF Stride give no usable routing ids",
                   std::uint64_t{c->first_vf_offset} << 16 | c->vf_stride);
  }
  control = control.with(sriov_control::vf_enable, true).with(sriov_control::vf_memory_space, true);
  config.write16(at(sriov::control), control.raw);
  wait();
  return read_sriov(config);
}

}  // namespace phasebit::pcie
