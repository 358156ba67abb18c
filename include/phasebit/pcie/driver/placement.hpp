// SPDX-License-Identifier: BSL-1.0
// Gives addresses to BARs and windows to bridges. Nothing here touches a device: it is arithmetic on
// the list of functions, so it can be tried out whole.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/driver/topology.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::pcie {

namespace detail {

[[nodiscard]] constexpr std::uint64_t window_granularity(resource_class c) noexcept {
  return c == resource_class::io ? bridge_header::io_granularity
                                 : bridge_header::memory_granularity;
}

// `value` rounded up, or nothing where that wraps.
[[nodiscard]] constexpr std::optional<std::uint64_t> round_up(std::uint64_t value,
                                                              std::uint64_t alignment) noexcept {
  const std::uint64_t sum = value + (alignment - 1);
  if (sum < value) return std::nullopt;
  return sum & ~(alignment - 1);
}

class placer {
 public:
  placer(std::span<enumerated_function> all,
         const std::array<aperture, resource_classes>& host) noexcept
      : all_(all), host_(host) {}

  // Resources that do not fit are left out and reported on their function, largest first.
  void run() noexcept {
    for (unsigned n = 0; n != resource_classes; ++n) {
      const resource_class c{static_cast<std::uint8_t>(n)};
      if (c == resource_class::io && host_[n].size == 0) continue;  // those BARs stay off
      while (leave_out_largest(c, host_[n].size + 1)) {
      }
      while (!place(c) && (leave_out_optional(c) || leave_out_largest(c, 0))) {
      }
    }
  }

 private:
  static constexpr std::uint64_t narrow_io_end = 0x1'0000;

  [[nodiscard]] bool place(resource_class c) noexcept {
    const auto n = static_cast<unsigned>(c);
    narrow_failed_ = false;
    // From the leaves up: how large each window must be, laid out from 0.
    for (std::size_t i = all_.size(); i-- != 0;) {
      enumerated_function& f = all_[i];
      if (!f.is_bridge() || f.fault) continue;
      const auto laid = lay_out(static_cast<std::uint16_t>(i), c, 0, false);
      if (!laid) return false;
      const auto kept = round_up(f.kept[n], window_granularity(c));
      if (!kept) return false;
      f.windows[n] = {0, *laid < *kept ? *kept : *laid};
      if (c == resource_class::io && f.windows[n].size != 0 && f.io_below_64k &&
          f.bridge != enumerated_function::on_root_bus) {
        all_[f.bridge].io_below_64k = true;
      }
    }
    // From the root down: where. A window's base is aligned for everything in it, so what was laid
    // out from 0 fits.
    const auto end = lay_out(enumerated_function::on_root_bus, c, host_[n].base, true);
    if (!end || *end - host_[n].base > host_[n].size) return false;
    for (std::size_t i = 0; i != all_.size(); ++i) {
      if (!all_[i].is_bridge() || all_[i].windows[n].size == 0) continue;
      if (!lay_out(static_cast<std::uint16_t>(i), c, all_[i].windows[n].base, true)) return false;
    }
    return true;
  }

  [[nodiscard]] static error no_place(resource_class c, std::uint64_t bytes) noexcept {
    return failure(errc::exhausted,
                   c == resource_class::io ? "there is no I/O space for this BAR"
                   : c == resource_class::memory
                       ? "there is no place below 4 GiB for this BAR"
                       : "there is no place in the 64-bit memory for this BAR",
                   bytes);
  }

  // Whether the way from the host to what lies behind `bridge` has an I/O window of 16 bits.
  [[nodiscard]] bool is_narrow(std::uint16_t bridge) const noexcept {
    for (; bridge != enumerated_function::on_root_bus; bridge = all_[bridge].bridge) {
      if (all_[bridge].io_below_64k) return true;
    }
    return false;
  }

  // Leaves out what is kept for slots, or else an expansion ROM; largest first. False where there is neither.
  [[nodiscard]] bool leave_out_optional(resource_class c) noexcept {
    const auto n = static_cast<unsigned>(c);
    enumerated_function* victim = nullptr;
    for (enumerated_function& f : all_) {
      if (f.fault || f.kept[n] == 0 || (victim != nullptr && f.kept[n] <= victim->kept[n]))
        continue;
      victim = &f;
    }
    if (victim != nullptr) {
      if (!victim->left_out) {
        victim->left_out =
            failure(errc::exhausted, "there are too few addresses to keep for this slot",
                    victim->kept[n])
                .at(enumerated_function::slot_reserve);
      }
      victim->kept[n] = 0;
      return true;
    }
    if (c != resource_class::memory) return false;
    for (enumerated_function& f : all_) {
      if (f.fault || f.rom.size == 0 || (victim != nullptr && f.rom.size <= victim->rom.size))
        continue;
      victim = &f;
    }
    if (victim == nullptr) return false;
    if (!victim->left_out) {
      victim->left_out = no_place(c, victim->rom.size).at(enumerated_function::expansion_rom);
    }
    victim->rom = {};
    return true;
  }

  // Leaves out the largest resource of the class that has at least `least` bytes. False where there
  // is none.
  [[nodiscard]] bool leave_out_largest(resource_class c, std::uint64_t least) noexcept {
    enumerated_function* victim = nullptr;
    std::uint64_t largest = 0;
    unsigned index = 0;
    for (enumerated_function& f : all_) {
      if (f.fault) continue;
      if (c == resource_class::io && narrow_failed_ && !is_narrow(f.bridge)) continue;
      for (unsigned i = 0; i != type0_bars; ++i) {
        const bar& own = f.bars[i];
        if (own.present() && class_of(f, own) == c && own.size > largest) {
          victim = &f;
          largest = own.size;
          index = i;
        }
        const bar& virtual_one = f.vf_bars[i];
        if (!virtual_one.present() || vf_class_of(f, virtual_one) != c) continue;
        const std::uint64_t bytes = vf_bytes(f, virtual_one);
        if (bytes > largest) {
          victim = &f;
          largest = bytes;
          index = type0_bars + i;
        }
      }
    }
    if (victim == nullptr || largest < least) return false;
    if (!victim->left_out) victim->left_out = no_place(c, largest).at(index);
    if (index >= type0_bars) {
      victim->sriov = {};
      victim->vf_bars = {};
      return true;
    }
    const bool io = c == resource_class::io;
    (io ? victim->decodes_io : victim->decodes_memory) = false;
    for (bar& b : victim->bars) {
      if ((b.kind == bar_kind::io) == io) b.address = 0;
    }
    return true;
  }

  // All virtual functions together; all ones where that is more than 64 bits hold.
  [[nodiscard]] static std::uint64_t vf_bytes(const enumerated_function& f, const bar& b) noexcept {
    return b.size >> 48 != 0 ? ~std::uint64_t{0} : b.size * f.sriov.total_vfs;
  }

  // Nothing where the BAR cannot be reached: I/O without an I/O window on the way.
  [[nodiscard]] std::optional<resource_class> class_of(const enumerated_function& f,
                                                       const bar& b) const noexcept {
    if (b.kind == bar_kind::io) {
      const bool top = f.bridge == enumerated_function::on_root_bus;
      if (!f.decodes_io || (!top && !all_[f.bridge].forwards_io)) return std::nullopt;
      return resource_class::io;
    }
    if (!f.decodes_memory) return std::nullopt;
    return vf_class_of(f, b);
  }
  // Of a memory BAR; those of virtual functions are decoded whether the physical one's are or not.
  [[nodiscard]] resource_class vf_class_of(const enumerated_function& f,
                                           const bar& b) const noexcept {
    const bool top = f.bridge == enumerated_function::on_root_bus;
    // On the root bus no window decides. Behind a bridge only what may be prefetched goes through
    // the one window that has 64 bits (7.5.1.3.9).
    const bool high = b.kind == bar_kind::memory64 &&
                      host_[static_cast<unsigned>(resource_class::prefetchable)].size != 0 &&
                      (top || (b.prefetchable && all_[f.bridge].forwards_prefetchable64));
    return high ? resource_class::prefetchable : resource_class::memory;
  }

  // visit(bytes, alignment, where, narrow): each resource of `f` that its parent forwards in class
  // `c`; narrow ones lie below 64 KiB.
  template <class Visit>
  [[nodiscard]] bool for_each_resource(enumerated_function& f, resource_class c,
                                       Visit&& visit) noexcept {
    if (f.fault) return true;
    for (bar& b : f.bars) {
      if (b.present() && class_of(f, b) == c && !visit(b.size, b.size, b.address, false)) {
        return false;
      }
    }
    for (bar& b : f.vf_bars) {
      if (!b.present() || vf_class_of(f, b) != c) continue;
      if (!visit(vf_bytes(f, b), b.size, b.address, false)) return false;
    }
    bar& rom = f.rom;
    if (c == resource_class::memory && rom.present() &&
        !visit(rom.size, rom.size, rom.address, false)) {
      return false;
    }
    const auto n = static_cast<unsigned>(c);
    if (f.is_bridge() && f.windows[n].size != 0) {
      const bool narrow = c == resource_class::io && f.io_below_64k;
      return visit(f.windows[n].size, f.window_alignment[n], f.windows[n].base, narrow);
    }
    return true;
  }

  // Lays out what lies directly behind `bridge`, from `base` on, largest alignment first, which
  // leaves no holes between powers of two; I/O windows of 16 bits come before the others. Returns the
  // end, for a bridge rounded up to whole windows, or nothing where it does not fit. `commit` writes
  // the addresses down.
  [[nodiscard]] std::optional<std::uint64_t> lay_out(std::uint16_t bridge, resource_class c,
                                                     std::uint64_t base, bool commit) noexcept {
    std::uint64_t cursor = base;
    const std::uint64_t largest = largest_alignment(bridge, c, ~std::uint64_t{0});
    for (unsigned pass = c == resource_class::io ? 0 : 1; pass != 2; ++pass) {
      for (std::uint64_t alignment = largest; alignment != 0;
           alignment = largest_alignment(bridge, c, alignment)) {
        for (enumerated_function& f : all_) {
          if (f.bridge != bridge) continue;
          const bool fits = for_each_resource(
              f, c,
              [&](std::uint64_t bytes, std::uint64_t wanted, std::uint64_t& where, bool narrow) {
                if (wanted != alignment || narrow != (pass == 0)) return true;
                const auto begin = round_up(cursor, alignment);
                if (!begin || *begin + bytes < *begin) return false;
                if (narrow && commit && *begin + bytes > narrow_io_end) {
                  narrow_failed_ = true;
                  return false;
                }
                if (commit) where = *begin;
                cursor = *begin + bytes;
                return true;
              });
          if (!fits) return std::nullopt;
        }
      }
    }
    if (bridge == enumerated_function::on_root_bus) return cursor;
    const std::uint64_t granularity = window_granularity(c);
    const auto n = static_cast<unsigned>(c);
    if (!commit) all_[bridge].window_alignment[n] = largest > granularity ? largest : granularity;
    return round_up(cursor, granularity);
  }

  // The largest alignment below `bound` that anything directly behind `bridge` requests, or 0.
  [[nodiscard]] std::uint64_t largest_alignment(std::uint16_t bridge, resource_class c,
                                                std::uint64_t bound) noexcept {
    std::uint64_t largest = 0;
    for (enumerated_function& f : all_) {
      if (f.bridge != bridge) continue;
      (void)for_each_resource(f, c,
                              [&](std::uint64_t, std::uint64_t wanted, const std::uint64_t&, bool) {
                                if (wanted < bound && wanted > largest) largest = wanted;
                                return true;
                              });
    }
    return largest;
  }

  std::span<enumerated_function> all_;
  const std::array<aperture, resource_classes>& host_;
  bool narrow_failed_ = false;  // an I/O window of 16 bits found no place below 64 KiB
};

}  // namespace detail

}  // namespace phasebit::pcie
