// SPDX-License-Identifier: BSL-1.0
// The configuration space of a virtual function: one image, shared by all virtual functions of a
// physical one, and the few doublewords that each has for itself. PCIe 5.0, 9.3.4 to 9.3.6.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/description.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

using config_image = pcie::config_image<pcie::extended_config_bytes>;

// Writes the initial configuration space of every virtual function of the physical function `pf`.
// Settings that the physical function makes for all (payload size, read request size, error
// reporting, link control) read as zero and take no writes; bus mastering, MSI-X and power state
// belong to each function. Initiate Function Level Reset is acted on and reads as zero. The SR-IOV
// capability, BARs, interrupt pins and a place in the ARI list do not exist. Errors are those of
// pcie::emit_function; `pf` must describe SR-IOV and a PCI Express capability.
[[nodiscard]] inline result<pcie::function_layout> emit_virtual_function(
    config_image& image, const pcie::function_description& pf) noexcept {
  if (!pf.sriov || !pf.express) {
    return failure(errc::invalid_argument,
                   "virtual functions need a physical one with SR-IOV and PCI Express");
  }
  pcie::function_description d = pf;
  d.virtual_function = true;
  d.multi_function = false;
  d.interrupt_pin = 0;
  d.bars = pf.sriov->vf_bars;
  d.sriov = {};
  d.resizable_bars = {};
  d.serial_number = {};
  d.express->function_level_reset = true;
  if (d.ari_next_function) d.ari_next_function = 0;
  const auto layout = pcie::emit_function(image, d);
  if (!layout) return layout;

  const auto at = [&](unsigned offset) {
    return static_cast<std::uint16_t>(layout->express + offset);
  };
  // Device Control, Link Control and Link Status are reserved here (9.3.5.4, 9.3.5.7, 9.3.5.8).
  image.set16(at(pcie::express::device_control), 0);
  image.set_writable(at(pcie::express::device_control), 2, 0);
  image.set16(at(pcie::express::link_status), 0);
  image.set16(at(pcie::express::link_control_2), 0);
  return layout;
}

// The doublewords of a shared image that differ between functions: those that a host can write, or
// clear by ones. At most Count.
template <std::size_t Count>
class private_dwords {
 public:
  static constexpr std::uint8_t shared = 0xff;

  // The image is as it was afterwards. Errors: exhausted, where it has more such doublewords than
  // Count.
  [[nodiscard]] result<> find(config_image& image) noexcept {
    used_ = 0;
    for (std::uint32_t at = 0; at != image.size_bytes(); at += 4) {
      const std::uint32_t value = image.read(at, 4);
      image.set32(at, 0xffff'ffff);
      const std::uint32_t cleared = ~image.write(at, 4, 0xffff'ffff).after;
      image.set32(at, value);
      const std::uint32_t writable = image.writable(at, 4);
      if (writable == 0 && cleared == 0) continue;
      if (used_ == Count) {
        return failure(errc::exhausted, "a virtual function has more registers of its own", Count);
      }
      registers_[used_++] = {static_cast<std::uint16_t>(at), value, writable, cleared};
    }
    return {};
  }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return used_; }
  // The place of the doubleword at `offset` among a function's own, or `shared`.
  [[nodiscard]] constexpr std::uint8_t slot(std::uint32_t offset) const noexcept {
    for (std::uint8_t i = 0; i != used_; ++i) {
      if (registers_[i].offset == (offset & ~3U)) return i;
    }
    return shared;
  }
  // The value of the doubleword after a reset.
  [[nodiscard]] constexpr std::uint32_t initial(std::size_t i) const noexcept {
    return registers_[i].initial;
  }
  // The new value after a write of `value` in the bits of `lanes` to `before`.
  [[nodiscard]] constexpr std::uint32_t written(std::size_t i, std::uint32_t before,
                                                std::uint32_t value,
                                                std::uint32_t lanes) const noexcept {
    const std::uint32_t taken = lanes & registers_[i].writable;
    const std::uint32_t cleared = lanes & value & registers_[i].cleared_by_ones;
    return ((before & ~taken) | (value & taken)) & ~cleared;
  }

 private:
  struct register_masks {
    std::uint16_t offset;
    std::uint32_t initial;
    std::uint32_t writable;
    std::uint32_t cleared_by_ones;
  };
  std::array<register_masks, Count> registers_{};
  std::uint8_t used_ = 0;
};

}  // namespace phasebit::sriov
