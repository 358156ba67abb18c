// SPDX-License-Identifier: BSL-1.0
// Finds every function below a host bridge and gives the buses their numbers. Nothing that a device
// reports is trusted: the work is bounded by the bus numbers and by the caller's list.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/driver/expansion_rom.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/hotplug_capability.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::pcie {

// A range of addresses that a bridge forwards, or that may be given to BARs.
struct aperture {
  std::uint64_t base = 0;
  std::uint64_t size = 0;  // 0: there is none

  friend constexpr bool operator==(const aperture&, const aperture&) noexcept = default;
};

// The window of a bridge that a resource goes through.
enum class resource_class : std::uint8_t { io, memory, prefetchable };
inline constexpr unsigned resource_classes = 3;

// Reserves behind each slot to which devices may be added. Sizes are in bytes, and are rounded up
// to whole windows; `buses` is the total behind the slot, including existing ones.
struct hot_plug_reserve {
  std::uint8_t buses = 0;
  std::uint64_t io = 0;
  std::uint64_t memory = 0;
  std::uint64_t prefetchable = 0;
};

// One function of the hierarchy. A bridge comes before everything behind it.
struct enumerated_function {
  static constexpr std::uint16_t on_root_bus = 0xffff;

  requester_id id{};
  std::uint16_t bridge = on_root_bus;  // the index of the bridge above it
  header_layout layout = header_layout::type0;
  std::uint16_t vendor_id = 0;
  std::uint16_t device_id = 0;
  std::uint32_t class_code = 0;
  // The error that made the function unusable, if any: it broke the specification, or is a bridge
  // for which no bus number is left. It is left switched off. error::index may be a BAR's number.
  std::optional<error> fault{};
  // A resource for which there was no place; the function is usable without it. error::index is the
  // BAR, 6 + the number of a VF BAR, or one of the constants below; error::value the bytes, buses or
  // virtual functions that it requested. Without its virtual functions, `sriov` is empty. BARs come
  // before ROMs, and ROMs before what is kept free behind slots.
  std::optional<error> left_out{};
  static constexpr std::uint32_t vf_buses = 12;
  static constexpr std::uint32_t expansion_rom = 13;
  static constexpr std::uint32_t slot_reserve = 14;
  bar_array bars{};  // addresses as assigned; 0 for an I/O BAR where there is no I/O space
  // Whether BARs of the kind are decoded. One that has no place would be decoded at address 0, so
  // that the others of its kind are left at 0 with it.
  bool decodes_io = true;
  bool decodes_memory = true;
  // The expansion ROM where it was placed, else absent. It is not decoded: see set_expansion_rom.
  bar rom{};
  // The result of isolate_all(): requests reach the host bridge without passing a peer.
  bool isolated = false;

  // A bridge's, else zero. Apertures hold what is forwarded, one per resource_class.
  std::uint8_t secondary_bus = 0;
  std::uint8_t subordinate_bus = 0;
  std::array<aperture, resource_classes> windows{};
  std::array<std::uint64_t, resource_classes> window_alignment{};
  // Whether a window of the class exists on the way from the host to behind this bridge.
  bool forwards_io = false;
  // An I/O window here or further down has 16 address bits: what is behind it lies below 64 KiB.
  bool io_below_64k = false;
  bool forwards_prefetchable64 = false;
  bool hot_plug = false;                               // a slot to which devices may be added
  std::array<std::uint64_t, resource_classes> kept{};  // of the windows, for what is added

  // Zero where there is no SR-IOV capability. The offset and stride are those for all VFs at once;
  // the size of a VF BAR is for one virtual function, and they lie one behind the other.
  sriov_capability sriov{};
  bar_array vf_bars{};

  [[nodiscard]] constexpr bool is_bridge() const noexcept { return layout == header_layout::type1; }
};

namespace detail {

struct scan_options {
  std::uint8_t first_bus = 0;
  std::uint8_t last_bus = 255;
  std::uint8_t slot_buses = 0;  // behind a slot, where `spare` suffices
  std::uint8_t spare = 0;       // bus numbers that may be kept free in all
  bool roms = false;
};

// The state of one enumeration: the list as far as it is filled, and the last bus number in use.
template <ConfigAccess Root>
class scanner {
 public:
  scanner(Root& root, std::span<enumerated_function> out, const scan_options& options) noexcept
      : root_(root),
        out_(out),
        last_used_(options.first_bus),
        limit_(options.last_bus),
        slot_buses_(options.slot_buses),
        spare_(options.spare),
        roms_(options.roms) {}

  [[nodiscard]] std::uint8_t last_used() const noexcept { return last_used_; }

  // Depth first without a stack: the way back up is in the records.
  [[nodiscard]] result<std::size_t> run() noexcept {
    constexpr std::uint16_t root_bus = enumerated_function::on_root_bus;
    if (const auto scanned = scan_bus(last_used_, root_bus); !scanned) return scanned.error();
    std::uint16_t at = root_bus;
    for (;;) {
      const auto next = unvisited_below(at);
      if (next) {
        enumerated_function& bridge = out_[*next];
        if (last_used_ >= limit_) {
          bridge.fault = failure(errc::exhausted,
                                 "no bus number is left for what lies behind this bridge", limit_)
                             .at(*next);
          continue;
        }
        bridge.secondary_bus = ++last_used_;
        write_buses(bridge, limit_);
        const auto scanned = scan_bus(bridge.secondary_bus, *next);
        if (!scanned) return scanned.error();
        at = *next;
      } else {
        if (at == root_bus) return count_;
        keep_buses(out_[at]);
        out_[at].subordinate_bus = last_used_;
        write_buses(out_[at], last_used_);
        at = out_[at].bridge;
      }
    }
  }

 private:
  [[nodiscard]] std::optional<std::uint16_t> unvisited_below(std::uint16_t bridge) const noexcept {
    for (std::size_t i = 0; i != count_; ++i) {
      const enumerated_function& f = out_[i];
      if (f.bridge == bridge && f.is_bridge() && f.secondary_bus == 0 && !f.fault) {
        return static_cast<std::uint16_t>(i);
      }
    }
    return std::nullopt;
  }

  // Bus numbers for what is added behind a slot, as far as some are to spare.
  void keep_buses(enumerated_function& bridge) noexcept {
    if (!bridge.hot_plug || slot_buses_ == 0) return;
    const unsigned used = last_used_ - bridge.secondary_bus + 1U;
    if (slot_buses_ <= used) return;
    const unsigned wanted = slot_buses_ - used;
    const unsigned left = static_cast<unsigned>(limit_ - last_used_);
    unsigned granted = wanted < spare_ ? wanted : spare_;
    if (granted > left) granted = left;
    last_used_ = static_cast<std::uint8_t>(last_used_ + granted);
    spare_ = static_cast<std::uint8_t>(spare_ - granted);
    if (granted == wanted) return;
    bridge.left_out =
        failure(errc::exhausted, "there are too few bus numbers to keep for this slot", slot_buses_)
            .at(enumerated_function::slot_reserve);
  }

  void write_buses(const enumerated_function& bridge, std::uint8_t subordinate) noexcept {
    auto&& config = root_.function(bridge.id);
    config.write8(bridge_header::primary_bus, bridge.id.bus());
    config.write8(bridge_header::secondary_bus, bridge.secondary_bus);
    config.write8(bridge_header::subordinate_bus, subordinate);
  }

  // Lists all functions of one bus before any bridge among them gets a bus of its own: virtual
  // functions may reach into the numbers that follow (9.2.1.2).
  [[nodiscard]] result<> scan_bus(std::uint8_t bus, std::uint16_t bridge) noexcept {
    std::uint8_t devices = 32;
    std::uint16_t port = 0;
    ari_ = false;
    if (bridge != enumerated_function::on_root_bus) {
      auto&& config = root_.function(out_[bridge].id);
      const auto found = find_capability(config, capability_id::pci_express);
      if (found) {
        port = *found;
        const express_capabilities e{config.read16(plus(port, express::capabilities))};
        if (leads_to_a_link(e[express_capabilities::type])) devices = 1;
      }
    }
    for (std::uint8_t device = 0; device != devices; ++device) {
      unsigned functions = 1;
      // With ARI the number has eight bits, and each function names the next one (7.8.7.2).
      for (unsigned number = 0, next = 1; number < functions; number = next) {
        next = ari_ ? functions : number + 1;
        const requester_id id{
            static_cast<std::uint16_t>(static_cast<unsigned>(bus << 8 | device << 3) | number)};
        auto&& config = root_.function(id);
        const std::uint32_t ids = config.read32(header::vendor_id);
        // An absent function; an all-zero id comes from buses that do not end well.
        if ((ids & 0xffff) == no_vendor || ids == 0) continue;
        if (count_ == out_.size() || count_ == enumerated_function::on_root_bus) {
          return failure(errc::exhausted, "there are more functions than the list can hold",
                         out_.size());
        }
        if (number == 0) {
          const header_type_register type{config.read8(header::header_type)};
          if (type[header_type_register::multi_function]) functions = 8;
          if (port != 0 && devices == 1) forward_ari(out_[bridge], port, config);
          if (ari_) functions = 256;
        }
        if (ari_) {
          const unsigned named = next_function(config);
          next = named > number ? named : functions;
        }
        enumerated_function& f = out_[count_];
        f = {};
        f.id = id;
        f.bridge = bridge;
        f.vendor_id = static_cast<std::uint16_t>(ids);
        f.device_id = static_cast<std::uint16_t>(ids >> 16);
        if (const auto told = describe(config, f); !told) f.fault = told.error();
        ++count_;
        reserve_vf_buses(f);
      }
    }
    return {};
  }

  // Enables routing IDs of bus and 8-bit function behind a port (6.13), if both ends support it:
  // otherwise virtual functions from number 8 on are unreachable.
  template <ConfigSpace Config>
  void forward_ari(const enumerated_function& bridge, std::uint16_t port, Config& device) noexcept {
    auto&& config = root_.function(bridge.id);
    const device_capabilities_2 can{config.read32(plus(port, express::device_capabilities_2))};
    const bool both = can[device_capabilities_2::ari_forwarding] &&
                      find_capability(device, extended_capability_id::alternative_routing_id);
    const std::uint16_t at = plus(port, express::device_control_2);
    const device_control_2 now{config.read16(at)};
    if (now[device_control_2::ari_forwarding] != both) {
      config.write16(at, now.with(device_control_2::ari_forwarding, both).raw);
    }
    ari_ = both;
  }

  // Next Function Number of a function with ARI, 0 where it is the last.
  template <ConfigSpace Config>
  [[nodiscard]] static unsigned next_function(Config& config) noexcept {
    const auto at = find_capability(config, extended_capability_id::alternative_routing_id);
    if (!at) return 0;
    return ari_capability{config.read16(plus(*at, ari::capability))}[ari_capability::next_function];
  }

  // Switches the function off and finds out what it needs. A bridge forwards nothing meanwhile: the
  // bus numbers that it holds may be those of a sibling now.
  template <ConfigSpace Config>
  [[nodiscard]] result<> describe(Config& config, enumerated_function& f) noexcept {
    const header_type_register type{config.read8(header::header_type)};
    f.layout = type[header_type_register::layout];
    f.class_code = read_class_code(config);
    set_command(config, read_command(config)
                            .with(command_register::io_space, false)
                            .with(command_register::memory_space, false)
                            .with(command_register::bus_master, false));
    if (f.is_bridge()) write_buses(f, 0);
    if (f.layout != header_layout::type0 && f.layout != header_layout::type1) {
      return failure(errc::not_supported, "a header that is neither type 0 nor type 1", type.raw);
    }
    config.write32(f.is_bridge() ? bridge_header::expansion_rom : header::expansion_rom, 0);
    const auto bars = size_bars(config);
    if (!bars) return bars.error();
    f.bars = *bars;
    for (bar& b : f.bars) b.address = 0;
    if (roms_) {
      const auto rom = size_expansion_rom(config);
      if (rom) {
        f.rom = *rom;
        f.rom.address = 0;
      } else {
        f.left_out = error{rom.error()}.at(enumerated_function::expansion_rom);
      }
    }
    return f.is_bridge() ? describe_windows(config, f) : describe_virtual_functions(config, f);
  }

  template <ConfigSpace Config>
  [[nodiscard]] result<> describe_windows(Config& config, enumerated_function& f) noexcept {
    const bool top = f.bridge == enumerated_function::on_root_bus;
    config.write8(bridge_header::io_base, 0xf0);
    const std::uint8_t io_base = config.read8(bridge_header::io_base);
    const bool io = (io_base & 0xf0) != 0;
    f.io_below_64k = io && (io_base & 0x0f) != bridge_window_register::wide;
    config.write16(bridge_header::prefetchable_base, 0xfff0);
    const bridge_window_register prefetchable{config.read16(bridge_header::prefetchable_base)};
    const bool wide = prefetchable[bridge_window_register::address] != 0 &&
                      prefetchable[bridge_window_register::width] == bridge_window_register::wide;
    f.forwards_io = io && (top || out_[f.bridge].forwards_io);
    f.forwards_prefetchable64 = wide && (top || out_[f.bridge].forwards_prefetchable64);
    const auto at = find_capability(config, capability_id::pci_express);
    if (!at) return {};
    const express_capabilities e{config.read16(plus(*at, express::capabilities))};
    const slot_capabilities slot{config.read32(plus(*at, express::slot_capabilities))};
    f.hot_plug =
        e[express_capabilities::slot_implemented] && slot[slot_capabilities::hot_plug_capable];
    return {};
  }

  template <ConfigSpace Config>
  [[nodiscard]] result<> describe_virtual_functions(Config& config,
                                                    enumerated_function& f) noexcept {
    auto found = read_sriov(config);
    if (!found) {
      return found.error().code == errc::not_found ? result<>{} : result<>{found.error()};
    }
    const std::uint16_t capability = found->offset;
    const auto at = [&](unsigned offset) { return plus(capability, offset); };
    // Offset and stride depend on NumVFs and on ARI (9.3.3.9), and are read for all of them.
    config.write16(at(sriov::control),
                   sriov_control{}.with(sriov_control::ari_capable_hierarchy, ari_).raw);
    config.write16(at(sriov::num_vfs), found->total_vfs);
    found = read_sriov(config);
    config.write16(at(sriov::num_vfs), 0);
    if (!found) return found.error();
    if (found->total_vfs == 0) return {};
    const auto bars = size_vf_bars(config, *found);
    if (!bars) return bars.error();
    f.sriov = *found;
    f.sriov.num_vfs = 0;
    f.vf_bars = *bars;
    for (bar& b : f.vf_bars) b.address = 0;
    return {};
  }

  void reserve_vf_buses(enumerated_function& f) noexcept {
    if (f.sriov.offset == 0) return;
    const auto last = f.sriov.routing_id(f.id, f.sriov.total_vfs - 1U);
    if (last && last->bus() <= limit_) {
      if (last->bus() > last_used_) last_used_ = last->bus();
      return;
    }
    f.left_out =
        failure(errc::exhausted, "the virtual functions need more bus numbers", f.sriov.total_vfs)
            .at(enumerated_function::vf_buses);
    f.sriov = {};
    f.vf_bars = {};
  }

  Root& root_;
  std::span<enumerated_function> out_;
  std::size_t count_ = 0;
  std::uint8_t last_used_;
  std::uint8_t limit_;
  std::uint8_t slot_buses_;
  std::uint8_t spare_;
  bool roms_;
  bool ari_ = false;
};

}  // namespace detail

}  // namespace phasebit::pcie
