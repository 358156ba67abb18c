// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/recovery.md take for granted.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/nvme/driver/recoverable_queue.hpp>

#include <type_traits>

extern phasebit::backend::simulated::function function;
extern phasebit::dma_region data;
extern bool good;
void note(const char* what, const phasebit::error& why) noexcept;
