// SPDX-License-Identifier: BSL-1.0
// The extended capabilities of an emitted function or port beyond ARI and SR-IOV, with what a host may
// write of each and what it clears by ones.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/device/capability_emitter.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/description.hpp>
#include <phasebit/pcie/spec/acs_capability.hpp>
#include <phasebit/pcie/spec/aer_capability.hpp>
#include <phasebit/pcie/spec/resizable_bar_capability.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::pcie::detail {

template <std::size_t Bytes>
[[nodiscard]] result<std::uint16_t> emit_aer(config_image<Bytes>& image,
                                             capability_chain<Bytes>& chain,
                                             const aer_description& d) noexcept {
  const auto at =
      chain.add(extended_capability_id::advanced_error_reporting, 2, aer::capability_bytes);
  if (!at) return at;
  using u = uncorrectable_errors;
  using c = correctable_errors;
  const std::uint32_t uncorrectable =
      u{0x0077'f010}.with(u::ecrc, d.ecrc_check).with(u::surprise_down, d.surprise_down).raw;
  const std::uint32_t correctable = 0x0000'31c1;
  image.set_cleared_by_ones(plus(*at, aer::uncorrectable_status), 4, uncorrectable);
  // Internal errors and advisory non-fatal ones are masked at first (7.8.4.3, 7.8.4.6).
  image.set32(plus(*at, aer::uncorrectable_mask), u{}.with(u::internal, true).raw);
  image.set_writable(plus(*at, aer::uncorrectable_mask), 4, uncorrectable);
  image.set32(plus(*at, aer::uncorrectable_severity), u::default_severity & uncorrectable);
  image.set_writable(plus(*at, aer::uncorrectable_severity), 4, uncorrectable);
  image.set_cleared_by_ones(plus(*at, aer::correctable_status), 4, correctable);
  image.set32(plus(*at, aer::correctable_mask), c{}.with(c::advisory_nonfatal, true).raw);
  image.set_writable(plus(*at, aer::correctable_mask), 4, correctable);
  using k = aer_control;
  image.set32(plus(*at, aer::control), k{}.with(k::ecrc_generation_capable, d.ecrc_generation)
                                           .with(k::ecrc_check_capable, d.ecrc_check)
                                           .raw);
  image.set_writable(plus(*at, aer::control), 4,
                     k{}.with(k::ecrc_generation_enable, d.ecrc_generation)
                         .with(k::ecrc_check_enable, d.ecrc_check)
                         .raw);
  return at;
}

template <std::size_t Bytes>
[[nodiscard]] result<std::uint16_t> emit_acs(config_image<Bytes>& image,
                                             capability_chain<Bytes>& chain,
                                             acs_capability d) noexcept {
  if (d[acs_capability::egress_control]) {
    return failure(errc::not_supported, "P2P Egress Control has no vector here", d.raw);
  }
  const auto at =
      chain.add(extended_capability_id::access_control_services, 1, acs::capability_bytes);
  if (!at) return at;
  const auto services = static_cast<std::uint16_t>(d.raw & acs_capability::services);
  image.set16(plus(*at, acs::capability), services);
  image.set_writable(plus(*at, acs::control), 2, services);
  return at;
}

// `bars` are those of the header or of the SR-IOV capability; each that is resizable is described there
// with its initial size, which must be one of the sizes here.
template <std::size_t Bytes>
[[nodiscard]] result<std::uint16_t> emit_resizable(config_image<Bytes>& image,
                                                   capability_chain<Bytes>& chain,
                                                   extended_capability_id id,
                                                   std::span<const resizable_bar_description> list,
                                                   const bar_descriptions& bars) noexcept {
  for (std::uint32_t i = 0; i != list.size(); ++i) {
    const resizable_bar_description& r = list[i];
    const bool there = r.bar < bars.size() && (bars[r.bar].kind == bar_kind::memory64 ||
                                               bars[r.bar].kind == bar_kind::memory32);
    if (!there || bars[r.bar].size < std::uint64_t{1} << resizable_bar::least_shift ||
        (bars[r.bar].size >> resizable_bar::least_shift & r.sizes) == 0) {
      return failure(errc::invalid_argument, "a resizable BAR is of none of its sizes", r.bar)
          .at(i);
    }
  }
  const auto count = static_cast<unsigned>(list.size());
  if (count > 6) return failure(errc::out_of_range, "a function has at most six BARs", count);
  const auto at = chain.add(id, 1, resizable_bar::capability_bytes(count));
  if (!at) return at;
  for (unsigned i = 0; i != count; ++i) {
    const std::uint16_t pair = plus(*at, resizable_bar::stride * i);
    std::uint8_t size = 0;
    while (bars[list[i].bar].size >> (resizable_bar::least_shift + size) != 1) ++size;
    image.set32(
        plus(pair, resizable_bar::capability),
        resizable_bar_capability{}.with(resizable_bar_capability::sizes, list[i].sizes).raw);
    using c = resizable_bar_control;
    image.set32(plus(pair, resizable_bar::control),
                c{}.with(c::bar_index, list[i].bar)
                    .with(c::bars, static_cast<std::uint8_t>(i == 0 ? count : 0))
                    .with(c::size, size)
                    .raw);
    image.set_writable(plus(pair, resizable_bar::control), 4, c::size.template mask<std::uint32_t>);
  }
  return at;
}

}  // namespace phasebit::pcie::detail
