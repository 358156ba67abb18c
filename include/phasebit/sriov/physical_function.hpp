// SPDX-License-Identifier: BSL-1.0
// The effect of a host's writes to the configuration space of a physical function on its virtual
// functions. PCIe 5.0, 9.3.3 and 9.3.7.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/resizable_bar_capability.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>
#include <phasebit/sriov/apertures.hpp>
#include <phasebit/sriov/function_ref.hpp>
#include <phasebit/sriov/vf_config.hpp>

#include <array>
#include <bit>
#include <cstdint>
#include <optional>

namespace phasebit::sriov {

// Where virtual functions are: that of number n (from 1) has the routing id of its physical function
// plus offset plus (n - 1) * stride (9.2.1.2).
struct vf_numbering {
  std::uint16_t offset = 1;
  std::uint16_t stride = 1;

  friend constexpr bool operator==(vf_numbering, vf_numbering) noexcept = default;
};

// First VF Offset and VF Stride may depend on NumVFs and on ARI Capable Hierarchy (9.3.3.9, 9.3.3.10),
// and on nothing else.
using numbering_rule = vf_numbering (*)(std::uint16_t num_vfs, bool ari) noexcept;

struct physical_options {
  numbering_rule rule = nullptr;  // nullptr: offset and stride are what the capability has
  // The next physical function whose virtual ones depend on this one's; of a function that depends on
  // none, itself (9.3.3.8).
  std::optional<std::uint8_t> dependency_link{};
};

// The effect of a write to a physical function beyond the registers.
struct physical_change {
  bool reset = false;  // Initiate Function Level Reset
  bool bus_master = false;
  bool msix = false;
  bool decoding = false;  // which addresses are claimed
  std::optional<bool> ari{};
};

// One physical function's configuration space and the SR-IOV capability in it. Registers that may not
// be written at the moment keep their values: NumVFs, System Page Size and ARI Capable Hierarchy while
// VF Enable is set, NumVFs above TotalVFs, a page size that is not supported.
class physical_function {
 public:
  // See function_table::add(). `lowest` is the first physical function of the device, which alone has
  // ARI Capable Hierarchy.
  [[nodiscard]] result<> attach(std::uint8_t number, config_image& image,
                                const physical_options& options, bool lowest) noexcept {
    const auto found = pcie::read_sriov(image);
    if (!found) return found.error();
    const auto bars = pcie::size_bars(image);
    if (!bars) return bars.error();
    const auto vf_bars = pcie::size_vf_bars(image, *found);
    if (!vf_bars) return vf_bars.error();
    image_ = &image;
    number_ = number;
    capability_ = found->offset;
    total_ = found->total_vfs;
    fixed_ = {found->first_vf_offset, found->vf_stride};
    rule_ = options.rule;
    dependency_link_ = options.dependency_link.value_or(number);
    lowest_ = lowest;
    for (unsigned i = 0; i != bars_.size(); ++i) {
      bars_[i] = layout_of((*bars)[i]);
      vf_bars_[i] = layout_of((*vf_bars)[i]);
    }
    const auto msix = pcie::find_capability(image, pcie::capability_id::msix);
    const auto express = pcie::find_capability(image, pcie::capability_id::pci_express);
    msix_ = msix ? *msix : std::uint16_t{0};
    express_ = express ? *express : std::uint16_t{0};
    const auto resizable =
        pcie::find_capability(image, pcie::extended_capability_id::vf_resizable_bar);
    resizable_ = resizable ? *resizable : std::uint16_t{0};
    if (resizable_ != 0) {
      using control = pcie::resizable_bar_control;
      resizable_bars_ = control{image.read32(
          static_cast<std::uint16_t>(resizable_ + pcie::resizable_bar::control))}[control::bars];
    }
    reset();
    return {};
  }
  // The configuration space is as after a reset.
  void reset() noexcept {
    if (!lowest_) {
      const std::uint32_t mask = image_->writable(control_at(), 2);
      image_->set_writable(control_at(), 2,
                           mask & ~pcie::sriov_control::ari_capable_hierarchy.mask<std::uint32_t>);
    }
    image_->set8(at(pcie::sriov::function_dependency_link), dependency_link_);
    num_ = image_->read16(at(pcie::sriov::num_vfs));
    enabled_ = false;
    if (lowest_) ari_ = control()[pcie::sriov_control::ari_capable_hierarchy];
    update_numbering();
    for (unsigned i = 0; i != resizable_bars_; ++i) update_bar_size(i);
    update_page_size();
  }

  [[nodiscard]] config_image& image() const noexcept { return *image_; }
  [[nodiscard]] constexpr std::uint16_t total_vfs() const noexcept { return total_; }
  [[nodiscard]] constexpr std::uint16_t num_vfs() const noexcept { return num_; }
  [[nodiscard]] constexpr bool enabled() const noexcept { return enabled_; }
  // How many virtual functions there are now.
  [[nodiscard]] constexpr std::uint16_t active_vfs() const noexcept {
    return enabled_ ? num_ : std::uint16_t{0};
  }
  [[nodiscard]] constexpr std::uint16_t stride() const noexcept { return now_.stride; }
  // The routing id of virtual function `vf` (0: of the function itself), from the first bus's on.
  [[nodiscard]] constexpr std::uint32_t routing_offset(std::uint32_t vf) const noexcept {
    if (vf == 0) return number_;
    return number_ + std::uint32_t{now_.offset} + (vf - 1) * now_.stride;
  }

  // A configuration write. `ari_locked` keeps ARI Capable Hierarchy as it is; `fits(*this)` is asked
  // before virtual functions are enabled, and VF Enable stays clear where it returns false.
  template <class Fits>
  physical_change write(std::uint16_t offset, unsigned bytes, std::uint32_t value, bool ari_locked,
                        Fits&& fits) noexcept {
    physical_change change{};
    const pcie::config_write w = image_->write(offset, bytes, value);
    if (w.lanes == 0) return change;
    if (express_ != 0 && w.wrote_one(express_ + pcie::express::device_control, 15)) {
      enabled_ = false;
      change.reset = true;
      return change;
    }
    const std::uint32_t changed = w.before ^ w.after;
    if (w.dword == pcie::header::command) {
      change.bus_master = (changed & pcie::command_register::bus_master.mask<std::uint32_t>) != 0;
      change.decoding = (changed & pcie::command_register::memory_space.mask<std::uint32_t>) != 0;
    } else if (w.dword >= pcie::header::bar0 &&
               w.dword < pcie::header::bar0 + 4 * pcie::type0_bars) {
      change.decoding = changed != 0;
    } else if (msix_ != 0 && w.dword == msix_) {
      change.msix = changed != 0;
    } else if (w.dword >= capability_ && w.dword < capability_ + pcie::sriov::capability_bytes) {
      write_sriov(w, ari_locked, fits, change);
    } else if (resizable_ != 0 && w.dword > resizable_ &&
               w.dword <= resizable_ + pcie::resizable_bar::stride * resizable_bars_) {
      write_bar_size(w);
    }
    return change;
  }
  // The lowest physical function's setting, which all follow.
  void set_ari(bool ari) noexcept {
    ari_ = ari;
    update_numbering();
  }

  // Calls `visit(aperture)` for each BAR that claims memory now.
  template <class Visit>
  void for_each_aperture(std::uint16_t self, Visit&& visit) const noexcept {
    const auto each = [&](const std::array<bar_layout, pcie::type0_bars>& list,
                          std::uint16_t first_register, std::uint32_t count, function_ref first,
                          std::uint8_t least_shift) {
      for (unsigned i = 0; i != list.size(); ++i) {
        if (list[i].shift == 0) continue;
        const std::uint8_t shift = list[i].shift > least_shift ? list[i].shift : least_shift;
        const std::uint64_t base = pcie::read_bar_address(*image_, i, first_register);
        // Behind a 32-bit BAR there is nothing above 4 GiB.
        const std::uint64_t end = base + (std::uint64_t{count} << shift);
        if (!list[i].wide && end > std::uint64_t{1} << 32) continue;
        visit(aperture{base, count, shift, static_cast<std::uint8_t>(i), first});
      }
    };
    if (pcie::read_command(*image_)[pcie::command_register::memory_space]) {
      each(bars_, pcie::header::bar0, 1, {self, 0}, 0);
    }
    if (active_vfs() != 0 && control()[pcie::sriov_control::vf_memory_space]) {
      each(vf_bars_, at(pcie::sriov::vf_bar0), num_, {self, 1}, page_shift_);
    }
  }

 private:
  struct bar_layout {
    std::uint8_t shift = 0;  // 0: absent, or I/O
    bool wide = false;
  };

  [[nodiscard]] static constexpr bar_layout layout_of(const pcie::bar& b) noexcept {
    if (!b.present() || b.kind == pcie::bar_kind::io) return {};
    std::uint8_t shift = 0;
    while (std::uint64_t{1} << shift != b.size) ++shift;
    return {shift, b.kind == pcie::bar_kind::memory64};
  }
  [[nodiscard]] constexpr std::uint16_t at(unsigned offset) const noexcept {
    return static_cast<std::uint16_t>(capability_ + offset);
  }
  [[nodiscard]] constexpr std::uint16_t control_at() const noexcept {
    return at(pcie::sriov::control);
  }
  [[nodiscard]] pcie::sriov_control control() const noexcept {
    return pcie::sriov_control{image_->read16(control_at())};
  }

  template <class Fits>
  void write_sriov(const pcie::config_write& w, bool ari_locked, Fits& fits,
                   physical_change& change) noexcept {
    const auto refuse = [&] { image_->set32(w.dword, w.before); };
    const auto offset = static_cast<std::uint16_t>(w.dword - capability_);
    switch (offset) {
      case pcie::sriov::control:
        write_control(w, ari_locked, fits, change);
        break;
      case pcie::sriov::num_vfs:
        if (enabled_ || image_->read16(at(pcie::sriov::num_vfs)) > total_) {
          refuse();
          break;
        }
        num_ = image_->read16(at(pcie::sriov::num_vfs));
        update_numbering();
        break;
      case pcie::sriov::system_page_size: {
        const std::uint32_t wanted = w.after;
        const std::uint32_t supported = image_->read32(at(pcie::sriov::supported_page_sizes));
        if (enabled_ || !is_power_of_two(wanted) || (wanted & supported) == 0) {
          refuse();
          break;
        }
        update_page_size();
        break;
      }
      default:
        change.decoding = w.before != w.after && enabled_ && offset >= pcie::sriov::vf_bar0 &&
                          offset < pcie::sriov::vf_bar0 + 4 * pcie::type0_bars;
        break;
    }
  }

  template <class Fits>
  void write_control(const pcie::config_write& w, bool ari_locked, Fits& fits,
                     physical_change& change) noexcept {
    using control_register = pcie::sriov_control;
    const control_register before{static_cast<std::uint16_t>(w.before)};
    control_register after{static_cast<std::uint16_t>(w.after)};
    if (ari_locked) {
      after = after.with(control_register::ari_capable_hierarchy,
                         before[control_register::ari_capable_hierarchy]);
    }
    if (after[control_register::ari_capable_hierarchy] !=
        before[control_register::ari_capable_hierarchy]) {
      change.ari = after[control_register::ari_capable_hierarchy];
      set_ari(*change.ari);
    }
    const bool enable = after[control_register::vf_enable];
    if (enable && !enabled_ && !fits(*this)) {
      after = after.with(control_register::vf_enable, false);
    }
    image_->set16(control_at(), after.raw);
    enabled_ = after[control_register::vf_enable];
    change.decoding =
        after[control_register::vf_memory_space] != before[control_register::vf_memory_space];
  }

  // The size of a VF BAR is one of those that are supported, and stays while VF Enable is set.
  void write_bar_size(const pcie::config_write& w) noexcept {
    using control = pcie::resizable_bar_control;
    const unsigned i = (w.dword - resizable_ - 4U) / pcie::resizable_bar::stride;
    const std::uint32_t sizes = pcie::resizable_bar_capability{image_->read32(
        pair_at(i, pcie::resizable_bar::capability))}[pcie::resizable_bar_capability::sizes];
    const std::uint8_t wanted = control{w.after}[control::size];
    if (enabled_ || wanted > 27 || (sizes >> wanted & 1) == 0) {
      image_->set32(w.dword, w.before);
      return;
    }
    update_bar_size(i);
    update_page_size();
  }
  void update_bar_size(unsigned i) noexcept {
    using control = pcie::resizable_bar_control;
    const control c{image_->read32(pair_at(i, pcie::resizable_bar::control))};
    if (c[control::bar_index] < vf_bars_.size()) {
      vf_bars_[c[control::bar_index]].shift =
          static_cast<std::uint8_t>(pcie::resizable_bar::least_shift + c[control::size]);
    }
  }
  [[nodiscard]] constexpr std::uint16_t pair_at(unsigned i, std::uint16_t offset) const noexcept {
    return static_cast<std::uint16_t>(resizable_ + pcie::resizable_bar::stride * i + offset);
  }

  void update_numbering() noexcept {
    now_ = rule_ != nullptr ? rule_(num_, ari_) : fixed_;
    image_->set16(at(pcie::sriov::first_vf_offset), now_.offset);
    image_->set16(at(pcie::sriov::vf_stride), now_.stride);
  }
  // VF BARs are at least as large as a system page and lie on a multiple of it (9.3.3.13).
  void update_page_size() noexcept {
    const std::uint32_t pages = image_->read32(at(pcie::sriov::system_page_size));
    page_shift_ = 12;
    for (unsigned bit = 0; bit != 32; ++bit) {
      if (pages >> bit == 1) page_shift_ = static_cast<std::uint8_t>(12 + bit);
    }
    for (unsigned i = 0; i != vf_bars_.size(); ++i) {
      if (vf_bars_[i].shift == 0) continue;
      const unsigned shift =
          vf_bars_[i].shift > page_shift_ ? vf_bars_[i].shift : unsigned{page_shift_};
      const std::uint64_t mask = ~((std::uint64_t{1} << shift) - 1);
      const auto low = static_cast<std::uint32_t>(mask) & ~pcie::bar_register::memory_flags;
      const std::uint16_t bar = at(pcie::sriov::vf_bar0 + 4 * i);
      image_->set_writable(bar, 4, low);
      image_->set32(bar, image_->read32(bar) & (low | pcie::bar_register::memory_flags));
      if (vf_bars_[i].wide) {
        const auto upper = static_cast<std::uint16_t>(bar + 4);
        image_->set_writable(upper, 4, static_cast<std::uint32_t>(mask >> 32));
        image_->set32(upper, image_->read32(upper) & static_cast<std::uint32_t>(mask >> 32));
      }
    }
  }

  config_image* image_ = nullptr;
  numbering_rule rule_ = nullptr;
  std::array<bar_layout, pcie::type0_bars> bars_{};
  std::array<bar_layout, pcie::type0_bars> vf_bars_{};
  vf_numbering fixed_{};
  vf_numbering now_{};
  std::uint16_t capability_ = 0;
  std::uint16_t msix_ = 0;
  std::uint16_t express_ = 0;
  std::uint16_t resizable_ = 0;
  std::uint16_t total_ = 0;
  std::uint16_t num_ = 0;
  std::uint8_t number_ = 0;
  std::uint8_t dependency_link_ = 0;
  std::uint8_t page_shift_ = 12;
  std::uint8_t resizable_bars_ = 0;
  bool enabled_ = false;
  bool ari_ = false;
  bool lowest_ = false;
};

}  // namespace phasebit::sriov
