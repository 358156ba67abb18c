// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/vfio.md take for granted.
#pragma once

#include <phasebit/backend/vfio.hpp>
#include <phasebit/nvme/driver.hpp>
