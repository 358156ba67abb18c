// SPDX-License-Identifier: BSL-1.0
// An upstream or downstream port of a switch, as its configuration logic holds it: bus numbers, memory
// windows, and for a downstream port a hot-plug slot and its interrupt. PCIe 5.0, 7.5.1.3 and 6.7.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/description.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/device/hotplug_slot.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/hotplug_capability.hpp>
#include <phasebit/pcie/spec/msi.hpp>
#include <phasebit/pcie/spec/msi_message.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::pcie {

// The effect of a write to a port.
struct switch_port_change {
  bool routing = false;          // bus numbers, windows, memory decoding or bus mastering
  bool secondary_reset = false;  // Secondary Bus Reset was set: what is behind the port is reset
  slot_outcome slot{};
};

// One port. Host writes may be anything; reads and writes are of 1, 2 or 4 bytes on their alignment,
// others read all ones and change nothing. One thread at a time.
class switch_port {
 public:
  using image_type = config_image<extended_config_bytes>;

  // Writes the port's configuration space as after a reset. `slot` is the physical slot number of a
  // downstream port; without one there is no slot, and the link is always up. Errors are those of
  // emit_bridge.
  [[nodiscard]] result<> reset(const bridge_description& d,
                               std::optional<std::uint16_t> slot = std::nullopt) noexcept {
    const auto layout = emit_bridge(image_, d);
    if (!layout) return layout.error();
    express_ = layout->express;
    has_slot_ = slot.has_value();
    msi_ = 0;
    if (!has_slot_) return {};
    slot_.reset();
    image_.set16(at(express::capabilities),
                 express_capabilities{image_.read16(at(express::capabilities))}
                     .with(express_capabilities::slot_implemented, true)
                     .raw);
    image_.set32(at(express::slot_capabilities), hotplug_slot::capabilities(*slot).raw);
    image_.set_writable(at(express::slot_control), 2, 0x17ff);
    image_.set_cleared_by_ones(at(express::slot_status), 2, slot_status::write_one_to_clear);
    // Data Link Layer Link Active Reporting Capable (7.5.3.6).
    image_.set32(at(express::link_capabilities),
                 image_.read32(at(express::link_capabilities)) | 1U << 20);
    emit_msi();
    show_slot();
    return {};
  }

  [[nodiscard]] const image_type& image() const noexcept { return image_; }
  [[nodiscard]] std::uint32_t read(std::uint16_t offset, unsigned bytes) const noexcept {
    return image_.read(offset, bytes);
  }
  switch_port_change write(std::uint16_t offset, unsigned bytes, std::uint32_t value) noexcept {
    switch_port_change change{};
    const config_write w = image_.write(offset, bytes, value);
    if (w.lanes == 0) return change;
    if (w.dword == header::command || (w.dword >= bridge_header::primary_bus &&
                                       w.dword <= bridge_header::prefetchable_limit_upper)) {
      change.routing = w.before != w.after;
    }
    // Bridge Control, 7.5.1.3.13.
    constexpr std::uint32_t secondary_bus_reset = 1U << 22;
    if (w.dword == header::interrupt_line) {
      change.secondary_reset = (w.after & ~w.before & secondary_bus_reset) != 0;
    }
    if (has_slot_ && w.dword == at(express::slot_control)) {
      if ((w.lanes & 0xffff'0000) != 0) {
        slot_.write_status(static_cast<std::uint16_t>((w.written & w.lanes) >> 16));
      }
      if ((w.lanes & 0xffff) != 0) {
        change.slot = slot_.write_control(static_cast<std::uint16_t>(w.after));
      }
      show_slot();
    }
    return change;
  }

  // Events of the slot; see hotplug_slot. Only for a port that has one.
  slot_outcome insert() noexcept {
    return in_slot([&] { return slot_.insert(); });
  }
  slot_outcome remove() noexcept {
    return in_slot([&] { return slot_.remove(); });
  }
  slot_outcome press_attention_button() noexcept {
    return in_slot([&] { return slot_.press_attention_button(); });
  }
  [[nodiscard]] slot_state slot() const noexcept { return slot_.state(); }
  [[nodiscard]] bool link_up() const noexcept { return !has_slot_ || slot_.link_up(); }

  [[nodiscard]] std::uint8_t secondary_bus() const noexcept {
    return image_.read8(bridge_header::secondary_bus);
  }
  [[nodiscard]] std::uint8_t subordinate_bus() const noexcept {
    return image_.read8(bridge_header::subordinate_bus);
  }
  [[nodiscard]] command_register command() const noexcept {
    return command_register{image_.read16(header::command)};
  }
  // Whether requests for these addresses go down through the port: all of the range lies in one of its
  // two memory windows, and Memory Space Enable is set.
  [[nodiscard]] bool forwards(std::uint64_t first, std::uint64_t last) const noexcept {
    if (!command()[command_register::memory_space]) return false;
    const auto inside = [&](std::uint64_t base, std::uint64_t limit) {
      return base <= first && first <= last && last <= limit;
    };
    const auto window = [&](std::uint16_t low) {
      return std::uint64_t{image_.read16(low) & 0xfff0U} << 16;
    };
    constexpr std::uint64_t remaining = bridge_header::memory_granularity - 1;
    if (inside(window(bridge_header::memory_base),
               window(bridge_header::memory_limit) | remaining)) {
      return true;
    }
    const std::uint64_t upper_base = image_.read32(bridge_header::prefetchable_base_upper);
    const std::uint64_t upper_limit = image_.read32(bridge_header::prefetchable_limit_upper);
    return inside(window(bridge_header::prefetchable_base) | upper_base << 32,
                  window(bridge_header::prefetchable_limit) | upper_limit << 32 | remaining);
  }
  // The message of the hot-plug interrupt; nothing where the host has not enabled it or the port may
  // not send.
  [[nodiscard]] std::optional<msi_message> interrupt() const noexcept {
    if (msi_ == 0 || !command()[command_register::bus_master]) return std::nullopt;
    const msi_control control{image_.read16(static_cast<std::uint16_t>(msi_ + 2))};
    if (!control[msi_control::enable]) return std::nullopt;
    const std::uint64_t low = image_.read32(static_cast<std::uint16_t>(msi_ + 4));
    const std::uint64_t high = image_.read32(static_cast<std::uint16_t>(msi_ + 8));
    return msi_message{bus_addr{low | high << 32},
                       image_.read16(static_cast<std::uint16_t>(msi_ + 12))};
  }

 private:
  [[nodiscard]] constexpr std::uint16_t at(unsigned offset) const noexcept {
    return static_cast<std::uint16_t>(express_ + offset);
  }
  template <class Act>
  slot_outcome in_slot(Act&& act) noexcept {
    PHASEBIT_EXPECTS(has_slot_, "the port has no slot");
    const slot_outcome outcome = act();
    show_slot();
    return outcome;
  }
  void show_slot() noexcept {
    image_.set16(at(express::slot_control), slot_.control().raw);
    image_.set16(at(express::slot_status), slot_.status().raw);
    // Data Link Layer Link Active (7.5.3.8).
    const std::uint16_t link = image_.read16(at(express::link_status));
    image_.set16(at(express::link_status),
                 static_cast<std::uint16_t>((link & ~0x2000U) | (link_up() ? 0x2000U : 0U)));
  }
  // One vector with an address of 64 bits, behind the PCI Express capability.
  void emit_msi() noexcept {
    msi_ = at((express::capability_bytes + 3U) & ~3U);
    image_.set8(at(1), static_cast<std::uint8_t>(msi_));
    image_.set8(msi_, static_cast<std::uint8_t>(capability_id::msi));
    const auto control = static_cast<std::uint16_t>(msi_ + 2);
    image_.set16(control, msi_control{}.with(msi_control::wide, true).raw);
    image_.set_writable(control, 2, msi_control{}.with(msi_control::enable, true).raw);
    image_.set_writable(msi_ + 4U, 4, 0xffff'fffc);
    image_.set_writable(msi_ + 8U, 4, 0xffff'ffff);
    image_.set_writable(msi_ + 12U, 2, 0xffff);
  }

  image_type image_{};
  hotplug_slot slot_{};
  std::uint16_t express_ = 0;
  std::uint16_t msi_ = 0;
  bool has_slot_ = false;
};

}  // namespace phasebit::pcie
