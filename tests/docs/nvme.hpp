// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/nvme.md.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>

using namespace phasebit::literals;

extern phasebit::backend::simulated::function function;
extern bool good;
