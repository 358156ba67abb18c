// SPDX-License-Identifier: BSL-1.0
// The mmio backend is of a higher layer than what must do without an operating system, and does
// without one all the same: an NVMe disk in firmware, from ECAM to a block that is read.
#include <phasebit/backend/mmio.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/pcie/driver/bus32_bar.hpp>
#include <phasebit/pcie/driver/ecam.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
using namespace phasebit::literals;
namespace mmio = phasebit::backend::mmio;

namespace {

static_arena<64_KiB> dma;

std::uint32_t timer = 0;
std::uint32_t read_timer() noexcept { return mmio_load<std::uint32_t>(&timer); }
using machine_clock = mmio::tick_clock<read_timer, 10'000'000>;

struct status : pcie::device_register<status, 0x20> {
  using device_register::device_register;
  static constexpr field<0> busy{};
};
struct operand : pcie::device_register<operand, 0x08, std::uint64_t> {
  using device_register::device_register;
};

}  // namespace

// The guide's example: no heap, and no destructor that must run.
extern "C" std::uint32_t use_sketch(std::byte* window, std::size_t bytes) {
  pcie::ecam ecam{pcie::mapped_window{std::span{window, bytes}}};
  mmio::function disk{ecam.function(1, 0, 0), dma};
  const auto bar = disk.map_bar(0);
  const auto page = disk.allocate(4096, 4096);
  return bar && page ? static_cast<std::uint32_t>(bar->size_bytes()) : 0;
}

extern "C" bool use_nvme(std::byte* window, std::size_t bytes, const mmio::bus_window* bridge) {
  pcie::ecam ecam{pcie::mapped_window{std::span{window, bytes}}};
  mmio::function disk{ecam.function(1, 0, 0), dma, machine_clock{},
                      std::span<const mmio::bus_window>{bridge, 1}};
  auto nvme = nvme::driver::controller<decltype(disk)>::attach(disk);
  const bool up = nvme.has_value();
  disk.stop();
  return up && disk.reset().has_value();
}

extern "C" std::uint64_t use_fpga(std::byte* registers, std::byte* dram, std::size_t bytes) {
  using narrow = pcie::bus32_bar<pcie::mapped_bar, pcie::half_order::high_first>;
  dma_arena<> memory{{std::span{dram, bytes}, bus_addr{0}}};
  auto unit =
      mmio::over<narrow>(mmio::fixed_bars{std::span{registers, 256}}, memory, machine_clock{});
  const auto bar = unit.map_bar(0);
  if (!bar) return 0;
  auto block = pcie::register_block<narrow>::attach<status, operand>(*bar);
  if (!block) return 0;
  block->write(operand{5});
  const auto idle = [](status s) noexcept { return !s[status::busy]; };
  return block->wait_for<status>(unit.clock(), 1'000'000, idle) ? block->read<operand>().raw : 0;
}
