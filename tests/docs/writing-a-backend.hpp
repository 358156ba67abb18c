// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/writing-a-backend.md.
#pragma once

#include <phasebit/iommu/riscv/device.hpp>

extern std::uint32_t offset, value;
extern phasebit::pcie::requester_id id;
extern std::uint64_t iova, bytes;
