// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/mmio.md.
#pragma once

#include <phasebit/backend/mmio.hpp>
#include <phasebit/backend/mmio_linux.hpp>
#include <phasebit/nvme/driver.hpp>

using namespace phasebit::literals;

extern std::span<std::byte> ecam_bytes;
