// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/handover.md.
#pragma once

#include <phasebit/backend/qtest.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/nvme/driver/handover.hpp>

#include <vector>

using host_type = phasebit::nvme::controller<phasebit::backend::qtest::function>;
extern phasebit::backend::qtest::function function;
extern host_type* nvme_before;
extern host_type::io_queue<std::uint64_t, 64>* queue_before;
inline constexpr auto done = [](std::uint64_t&, phasebit::nvme::completion) noexcept {};
