// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/recovery.md.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/nvme/driver/recoverable_queue.hpp>

#include <type_traits>

extern phasebit::backend::simulated::function function;
extern phasebit::dma_region data;
extern bool good;
void note(const char* what, const phasebit::error& why) noexcept;
