// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/block-media.md.
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/core/result.hpp>

#include <array>
#include <cstddef>
