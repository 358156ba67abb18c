// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/fpga.md.
#pragma once

#include <phasebit/backend/mmio_linux.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/nvme/driver/queue_memory.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>
#include <phasebit/posix/steady_clock.hpp>

using namespace phasebit;

enum class cause : std::uint8_t { none };
extern pcie::mapped_bar bar;
extern dma_region rings;
inline posix::steady_clock steady;
inline constexpr std::uint64_t patience = 1'000'000;
extern std::size_t offset, size;

struct submission_doorbell : pcie::device_register<submission_doorbell, 0x40> {
  using device_register::device_register;
};
struct completion_doorbell : pcie::device_register<completion_doorbell, 0x44> {
  using device_register::device_register;
};
extern result<pcie::register_block<pcie::mapped_bar>> engine;
