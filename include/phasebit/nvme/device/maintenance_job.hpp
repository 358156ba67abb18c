// SPDX-License-Identifier: BSL-1.0
// Work of the controller itself that takes long, and where it has come.
#pragma once

#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/namespace_format.hpp>

#include <cstdint>

namespace phasebit::nvme::device {

// One at a time in a controller; done in steps by poll().
struct maintenance_job {
  enum class kind : std::uint8_t { none, create, format, sanitize, self_test };

  kind what = kind::none;
  std::uint8_t self_test = 0;    // 1 short, 2 extended
  bool filling = false;          // the media cannot write zeros by itself
  bool formatted = false;        // the current namespace has its new format
  std::uint16_t command_id = 0;  // create, format: the command that completes with the job
  namespace_format format{};
  std::uint32_t nsid = 0;  // the current one
  std::uint32_t last = 0;  // namespace
  std::uint64_t lba = 0;   // the next block of it
  std::uint64_t step = 0;  // blocks of the step in progress
  std::uint64_t done = 0;  // blocks in all
  std::uint64_t total = 0;

  // Progress as a number of parts, without a division that 32-bit machines lack.
  [[nodiscard]] constexpr std::uint16_t parts_of(std::uint32_t parts,
                                                 std::uint16_t most) const noexcept {
    std::uint64_t d = done;
    std::uint64_t t = total;
    while (t > 0xffff) {
      t >>= 1U;
      d >>= 1U;
    }
    if (t == 0) return 0;
    const auto value = static_cast<std::uint32_t>(d) * std::uint64_t{parts};
    const std::uint32_t quotient =
        value > 0xffff'ffff ? most
                            : static_cast<std::uint32_t>(value) / static_cast<std::uint32_t>(t);
    return static_cast<std::uint16_t>(quotient < most ? quotient : most);
  }
};

// How a job ended whose command waits for it.
struct maintenance_outcome {
  command_result result{};
  bool ready = false;
};

struct no_maintenance_job {};

}  // namespace phasebit::nvme::device
