// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/model-checking.md.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/order.hpp>

#include <cstdint>
#include <cstdio>
