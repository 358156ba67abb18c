// SPDX-License-Identifier: BSL-1.0
// The whole library except hosted/, which needs fmt and Boost. Whoever cares for compile time
// includes the headers of the rooms instead; each stands alone.
#pragma once

#include <phasebit/freestanding.hpp>
