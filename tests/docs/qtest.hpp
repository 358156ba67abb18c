// SPDX-License-Identifier: BSL-1.0
// What the snippets of docs/qtest.md take for granted.
#pragma once

#include <phasebit/backend/qtest.hpp>

phasebit::result<> complain(const phasebit::error& e) noexcept;
