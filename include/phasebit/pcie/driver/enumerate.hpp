// SPDX-License-Identifier: BSL-1.0
// Enumeration as firmware does it before an operating system starts: finds every function, numbers
// the buses, places BARs and bridge windows, and switches the functions on. For machines without
// firmware: bare metal, an FPGA behind a root port, a simulated fabric.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/placement.hpp>
#include <phasebit/pcie/driver/topology.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <array>
#include <cstdint>
#include <span>

namespace phasebit::pcie {

// The ranges that the host bridge forwards, and the buses below it. `memory` lies below 4 GiB.
// `prefetchable` takes 64-bit BARs and may lie anywhere outside it; without it they go to `memory`.
// Without `io`, I/O BARs stay unassigned. Bases are multiples of 1 MiB, or of 4 KiB for I/O, and
// not 0, which is the value of an unassigned BAR.
struct host_resources {
  aperture io{};
  aperture memory{};
  aperture prefetchable{};
  std::uint8_t first_bus = 0;
  std::uint8_t last_bus = 255;
  // Functions may do DMA at once. Off: the driver of a function sets its bus_master bit.
  bool enable_bus_master = true;
  // Expansion ROMs are placed, too; they stay undecoded until set_expansion_rom.
  bool place_roms = false;
  // Kept free behind each slot for devices that are added, as far as there is more than what is there needs.
  hot_plug_reserve slots{};
};

namespace detail {

template <ConfigSpace Config>
void write_windows(Config& config, const enumerated_function& f) noexcept {
  const auto first = [](const aperture& a) { return a.base; };
  const auto last = [](const aperture& a) { return a.base + (a.size - 1); };
  // A base above its limit forwards nothing (7.5.1.3.8).
  const auto window = [&](resource_class c, aperture closed) {
    const aperture& a = f.windows[static_cast<unsigned>(c)];
    return a.size == 0 || a.base == 0 ? closed : a;
  };
  const aperture closed{~std::uint64_t{0}, 2};  // first is all ones, last is 0

  const aperture io = window(resource_class::io, closed);
  config.write8(bridge_header::io_base, static_cast<std::uint8_t>(first(io) >> 8));
  config.write8(bridge_header::io_limit, static_cast<std::uint8_t>(last(io) >> 8));
  config.write16(bridge_header::io_base_upper, static_cast<std::uint16_t>(first(io) >> 16));
  config.write16(bridge_header::io_limit_upper, static_cast<std::uint16_t>(last(io) >> 16));
  const aperture memory = window(resource_class::memory, closed);
  config.write16(bridge_header::memory_base, static_cast<std::uint16_t>(first(memory) >> 16));
  config.write16(bridge_header::memory_limit, static_cast<std::uint16_t>(last(memory) >> 16));
  const aperture wide = window(resource_class::prefetchable, closed);
  config.write16(bridge_header::prefetchable_base, static_cast<std::uint16_t>(first(wide) >> 16));
  config.write16(bridge_header::prefetchable_limit, static_cast<std::uint16_t>(last(wide) >> 16));
  config.write32(bridge_header::prefetchable_base_upper,
                 static_cast<std::uint32_t>(first(wide) >> 32));
  config.write32(bridge_header::prefetchable_limit_upper,
                 static_cast<std::uint32_t>(last(wide) >> 32));
}

template <ConfigSpace Config>
void configure(Config& config, const enumerated_function& f, bool bus_master) noexcept {
  command_register command =
      read_command(config).with(command_register::bus_master, bus_master || f.is_bridge());
  for (unsigned i = 0; i != type0_bars; ++i) {
    const bar& b = f.bars[i];
    if (!b.present()) continue;
    write_bar_address(config, i, b, b.address);
    if (b.address == 0) continue;
    command = b.kind == bar_kind::io ? command.with(command_register::io_space, true)
                                     : command.with(command_register::memory_space, true);
  }
  for (unsigned i = 0; i != type0_bars; ++i) {
    const bar& b = f.vf_bars[i];
    if (!b.present()) continue;
    write_bar_address(config, i, b, b.address, plus(f.sriov.offset, sriov::vf_bar0));
  }
  if (f.rom.address != 0) set_expansion_rom(config, f.rom.address, false);
  if (f.is_bridge()) {
    write_windows(config, f);
    command =
        command.with(command_register::io_space, true).with(command_register::memory_space, true);
  }
  set_command(config, command);
}

}  // namespace detail

// Enumerates into `out` and returns the part of it that was filled, each bridge before what is
// behind it. Everything below the host bridge is switched off first and set up again, so it is not in
// use during the call. A function that breaks the specification is listed with its fault and left
// switched off. A BAR, a ROM, or virtual functions, for which there is no place are left out and reported on
// their function (left_out). The others continue. Errors: exhausted (the list). Bounded by out.size()
// and 256 buses, whatever the devices report.
template <ConfigAccess Root>
[[nodiscard]] result<std::span<enumerated_function>> enumerate(
    Root& root, const host_resources& host, std::span<enumerated_function> out) noexcept {
  PHASEBIT_EXPECTS(host.first_bus <= host.last_bus, "a host bridge has at least one bus");
  PHASEBIT_EXPECTS((host.memory.base + host.memory.size) >> 32 == 0 ||
                       host.memory.base + host.memory.size == std::uint64_t{1} << 32,
                   "the memory aperture lies below 4 GiB");
  for (const aperture& a : {host.io, host.memory, host.prefetchable}) {
    PHASEBIT_EXPECTS(a.size == 0 || (a.base != 0 && a.base + (a.size - 1) >= a.base),
                     "an aperture does not begin at 0 and does not wrap");
  }
  detail::scan_options options{
      .first_bus = host.first_bus, .last_bus = host.last_bus, .roms = host.place_roms};
  detail::scanner<Root> plain{root, out, options};
  auto count = plain.run();
  if (count && host.slots.buses != 0) {
    // The buses that are left after numbering may be reserved for slots.
    options.slot_buses = host.slots.buses;
    options.spare = static_cast<std::uint8_t>(host.last_bus - plain.last_used());
    count = detail::scanner<Root>{root, out, options}.run();
  }
  if (!count) return count.error();
  const std::span<enumerated_function> found = out.first(*count);
  for (enumerated_function& f : found) {
    if (!f.hot_plug || f.fault) continue;
    f.kept = {f.forwards_io ? host.slots.io : 0, host.slots.memory,
              f.forwards_prefetchable64 ? host.slots.prefetchable : 0};
  }

  const std::array<aperture, resource_classes> apertures{host.io, host.memory, host.prefetchable};
  detail::placer{found, apertures}.run();

  for (const enumerated_function& f : found) {
    if (f.fault) continue;
    auto&& config = root.function(f.id);
    detail::configure(config, f, host.enable_bus_master);
  }
  return found;
}

}  // namespace phasebit::pcie
