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

  [[nodiscard]] result<> run() noexcept {
    // From the leaves up: how large each window must be, laid out from 0.
    for (std::size_t i = all_.size(); i-- != 0;) {
      if (!all_[i].is_bridge() || all_[i].fault) continue;
      for (unsigned c = 0; c != resource_classes; ++c) {
        const auto laid = lay_out(static_cast<std::uint16_t>(i),
                                  resource_class{static_cast<std::uint8_t>(c)}, 0, false);
        if (!laid) return laid.error();
        all_[i].windows[c] = {0, *laid};
      }
    }
    // From the root down: where. A window's base is aligned for everything in it, so what was laid
    // out from 0 fits.
    for (unsigned n = 0; n != resource_classes; ++n) {
      const resource_class c{static_cast<std::uint8_t>(n)};
      if (c == resource_class::io && host_[n].size == 0) continue;  // those BARs stay off
      const auto end = lay_out(enumerated_function::on_root_bus, c, host_[n].base, true);
      if (!end) return end.error();
      if (*end - host_[n].base > host_[n].size) return no_room(c, *end - host_[n].base);
      for (std::size_t i = 0; i != all_.size(); ++i) {
        if (!all_[i].is_bridge() || all_[i].windows[n].size == 0) continue;
        const auto inner = lay_out(static_cast<std::uint16_t>(i), c, all_[i].windows[n].base, true);
        if (!inner) return inner.error();
      }
    }
    return {};
  }

 private:
  [[nodiscard]] static error no_room(resource_class c, std::uint64_t bytes) noexcept {
    return failure(errc::exhausted,
                   c == resource_class::io ? "the I/O space is too small for all BARs"
                   : c == resource_class::memory
                       ? "the memory below 4 GiB is too small for all BARs"
                       : "the 64-bit memory is too small for all BARs",
                   bytes);
  }

  // Nothing where the BAR can not be reached: I/O without an I/O window on the way.
  [[nodiscard]] std::optional<resource_class> class_of(const enumerated_function& f,
                                                       const bar& b) const noexcept {
    const bool top = f.bridge == enumerated_function::on_root_bus;
    if (b.kind == bar_kind::io) {
      if (!top && !all_[f.bridge].forwards_io) return std::nullopt;
      return resource_class::io;
    }
    // On the root bus no window decides. Behind a bridge only what may be prefetched goes through
    // the one window that has 64 bits (7.5.1.3.9).
    const bool high = b.kind == bar_kind::memory64 &&
                      host_[static_cast<unsigned>(resource_class::prefetchable)].size != 0 &&
                      (top || (b.prefetchable && all_[f.bridge].forwards_prefetchable64));
    return high ? resource_class::prefetchable : resource_class::memory;
  }

  // visit(bytes, alignment, where): each resource of `f` that its parent forwards in class `c`.
  template <class Visit>
  [[nodiscard]] bool for_each_resource(enumerated_function& f, resource_class c,
                                       Visit&& visit) noexcept {
    if (f.fault) return true;
    for (bar& b : f.bars) {
      if (b.present() && class_of(f, b) == c && !visit(b.size, b.size, b.address)) return false;
    }
    for (bar& b : f.vf_bars) {
      if (!b.present() || class_of(f, b) != c) continue;
      if (b.size >> 48 != 0) return false;  // times 16 bits of TotalVFs: no aperture has that
      if (!visit(b.size * f.sriov.total_vfs, b.size, b.address)) return false;
    }
    const auto n = static_cast<unsigned>(c);
    if (f.is_bridge() && f.windows[n].size != 0) {
      return visit(f.windows[n].size, f.window_alignment[n], f.windows[n].base);
    }
    return true;
  }

  // Lays out what lies directly behind `bridge`, from `base` on, largest alignment first, which
  // leaves no holes between powers of two. Returns the end; for a bridge rounded up to whole
  // windows. `commit` writes the addresses down.
  [[nodiscard]] result<std::uint64_t> lay_out(std::uint16_t bridge, resource_class c,
                                              std::uint64_t base, bool commit) noexcept {
    std::uint64_t cursor = base;
    std::uint64_t alignment = 0;
    std::uint64_t next = largest_alignment(bridge, c, ~std::uint64_t{0});
    const std::uint64_t largest = next;
    while (next != 0) {
      alignment = next;
      for (enumerated_function& f : all_) {
        if (f.bridge != bridge) continue;
        const bool fits = for_each_resource(
            f, c, [&](std::uint64_t bytes, std::uint64_t wanted, std::uint64_t& where) {
              if (wanted != alignment) return true;
              const auto begin = round_up(cursor, alignment);
              if (!begin || *begin + bytes < *begin) return false;
              if (commit) where = *begin;
              cursor = *begin + bytes;
              return true;
            });
        if (!fits) return no_room(c, ~std::uint64_t{0});
      }
      next = largest_alignment(bridge, c, alignment);
    }
    if (bridge == enumerated_function::on_root_bus) return cursor;
    const std::uint64_t granularity = window_granularity(c);
    const auto n = static_cast<unsigned>(c);
    if (!commit) all_[bridge].window_alignment[n] = largest > granularity ? largest : granularity;
    const auto end = round_up(cursor, granularity);
    if (!end) return no_room(c, ~std::uint64_t{0});
    return *end;
  }

  // The largest alignment below `bound` that anything directly behind `bridge` asks for, or 0.
  [[nodiscard]] std::uint64_t largest_alignment(std::uint16_t bridge, resource_class c,
                                                std::uint64_t bound) noexcept {
    std::uint64_t largest = 0;
    for (enumerated_function& f : all_) {
      if (f.bridge != bridge) continue;
      (void)for_each_resource(f, c, [&](std::uint64_t, std::uint64_t wanted, const std::uint64_t&) {
        if (wanted < bound && wanted > largest) largest = wanted;
        return true;
      });
    }
    return largest;
  }

  std::span<enumerated_function> all_;
  const std::array<aperture, resource_classes>& host_;
};

}  // namespace detail

}  // namespace phasebit::pcie
