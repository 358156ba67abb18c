// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/nvme.md take for granted.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>

using namespace phasebit::literals;

extern phasebit::backend::simulated::function function;
extern bool good;
