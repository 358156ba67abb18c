// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/accel.md take for granted.
#pragma once

#include <phasebit/phasebit.hpp>

extern std::span<std::byte> from, to, pool;
extern std::uint64_t lba;
extern std::span<const phasebit::accel::xts_key> keys;
