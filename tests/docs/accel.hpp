// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/accel.md.
#pragma once

#include <phasebit/phasebit.hpp>

extern std::span<std::byte> from, to, pool;
extern std::uint64_t lba;
extern std::span<const phasebit::accel::xts_key> keys;
