// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/nvme-device.md take for granted.
#pragma once

#include <phasebit/phasebit.hpp>
