// SPDX-License-Identifier: BSL-1.0
// Registers at addresses, without an operating system. Under Linux: backend/mmio_linux.hpp.
#pragma once

#include <phasebit/backend/mmio/bus_window.hpp>
#include <phasebit/backend/mmio/clocks.hpp>
#include <phasebit/backend/mmio/function.hpp>
