// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/block-media.md stand in.
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/core/result.hpp>

#include <array>
#include <cstddef>
