// SPDX-License-Identifier: BSL-1.0
// Statuses after which a command is retried, and the delays: NVMe Base 2.0, 3.3.3.2.1 (CRD, DNR) and
// figure 276 (CRDT1 to CRDT3 of Identify Controller).
#pragma once

#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::nvme::driver {

// The three command retry delays of a controller.
struct retry_delays {
  std::uint16_t tenths[3] = {};  // of a second each

  [[nodiscard]] static constexpr retry_delays of(const identify_controller& id) noexcept {
    return {{id.crdt1.get(), id.crdt2.get(), id.crdt3.get()}};
  }

  // Nanoseconds to wait before the command is issued again; nullopt where it should not be retried:
  // the status is a success, final (DNR), or not of a temporary condition. Without a delay from the
  // controller it is 100 ms.
  [[nodiscard]] constexpr std::optional<std::uint64_t> delay_ns(nvme::status s) const noexcept {
    constexpr std::uint64_t tenth = 100'000'000;
    if (s.ok() || s.dnr()) return std::nullopt;
    if (s.crd() != 0) return (tenths[s.crd() - 1] != 0 ? tenths[s.crd() - 1] : 1U) * tenth;
    switch (s.code()) {
      case status_code::namespace_not_ready:
      case status_code::command_interrupted:
      case status_code::transient_transport_error:
      case status_code::admin_media_not_ready:
      case status_code::format_in_progress:
      case status_code::ana_transition:
        return tenth;
      default:
        return std::nullopt;
    }
  }
};

}  // namespace phasebit::nvme::driver
