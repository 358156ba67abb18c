// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/block-media.md take for granted.
#pragma once

#include <phasebit/phasebit.hpp>

#include <array>
