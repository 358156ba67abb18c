// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/qtest.md.
#pragma once

#include <phasebit/backend/qtest.hpp>

phasebit::result<> complain(const phasebit::error& e) noexcept;
