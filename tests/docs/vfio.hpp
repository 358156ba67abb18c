// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/vfio.md.
#pragma once

#include <phasebit/backend/vfio.hpp>
#include <phasebit/nvme/driver.hpp>
