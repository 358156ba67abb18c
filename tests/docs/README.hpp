// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of README.md.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/hosted/format.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>

#include <cstdio>
#include <cstring>
#include <vector>

#include <fmt/format.h>

using namespace phasebit;
using namespace phasebit::literals;
namespace simulated = backend::simulated;

extern result<nvme::driver::controller<simulated::function>> controller;
extern std::span<const std::byte> bytes;
