// SPDX-License-Identifier: BSL-1.0
// Shared by both kinds of queue: the effect of a doorbell write on an index.
#pragma once

#include <cstdint>

namespace phasebit::nvme::device {

// Effect of a value that the host wrote to a doorbell. An invalid value changes nothing; it is
// `invalid` the first time and `unchanged` while it stays.
enum class doorbell_update : std::uint8_t { unchanged, moved, invalid };

// No doorbell has this value.
inline constexpr std::uint64_t nothing_rejected = ~std::uint64_t{0};

}  // namespace phasebit::nvme::device
