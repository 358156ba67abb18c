// SPDX-License-Identifier: BSL-1.0
// Names of the functions of one SR-IOV device.
#pragma once

#include <cstdint>

namespace phasebit::sriov {

// A physical function (vf 0) or one of its virtual functions (vf 1 to NumVFs, as PCIe 5.0, 9.2.1.2
// counts them). `physical` is the number under which the physical function was added.
struct function_ref {
  static constexpr std::uint16_t none = 0xffff;

  std::uint16_t physical = none;
  std::uint16_t vf = 0;

  [[nodiscard]] constexpr bool exists() const noexcept { return physical != none; }
  [[nodiscard]] constexpr bool is_virtual() const noexcept { return vf != 0; }
  friend constexpr bool operator==(function_ref, function_ref) noexcept = default;
};

// initializing: enabled, not ready for its first request (up to 1 s, 9.3.3.3.1). resetting: a
// function-level reset was requested (up to 100 ms, 6.6.2). In both, configuration requests are
// answered with retry status and memory requests with Unsupported Request.
enum class function_state : std::uint8_t { absent, initializing, ready, resetting };

// How long each of the two may take.
inline constexpr std::uint32_t vf_enable_limit_ms = 1000;
inline constexpr std::uint32_t reset_limit_ms = 100;

}  // namespace phasebit::sriov
