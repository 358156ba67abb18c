// SPDX-License-Identifier: BSL-1.0
// A PCI function, or any block of registers, on a machine without an operating system: configuration
// space by ECAM, BARs where the processor sees them, DMA memory from an arena.
//
//   static phasebit::static_arena<64_KiB> dma;
//   phasebit::backend::mmio::function disk{ecam.function(1, 0, 0), dma};
//
// Nothing here allocates, calls an operating system or has a destructor.
#pragma once

#include <phasebit/backend/mmio/bus_window.hpp>
#include <phasebit/backend/mmio/clocks.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/ecam.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/reset.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>

namespace phasebit::backend::mmio {

// The configuration space of registers without a PCI bus: reads return all ones.
struct no_config {
  [[nodiscard]] std::uint8_t read8(std::uint16_t) const noexcept { return 0xff; }
  [[nodiscard]] std::uint16_t read16(std::uint16_t) const noexcept { return 0xffff; }
  [[nodiscard]] std::uint32_t read32(std::uint16_t) const noexcept { return 0xffff'ffff; }
  void write8(std::uint16_t, std::uint8_t) const noexcept {}
  void write16(std::uint16_t, std::uint16_t) const noexcept {}
  void write32(std::uint16_t, std::uint32_t) const noexcept {}
  [[nodiscard]] static constexpr std::uint32_t size_bytes() noexcept { return 0; }
};
static_assert(ConfigSpace<no_config>);

// Registers at a known place, without a PCI bus: an FPGA's block behind AXI, a BAR that other code
// has mapped. They are BAR 0, 1 and so on.
class fixed_bars {
 public:
  fixed_bars(std::initializer_list<std::span<std::byte>> registers) noexcept {
    PHASEBIT_EXPECTS(registers.size() <= pcie::type0_bars, "a function has at most six BARs");
    std::size_t i = 0;
    for (const auto one : registers) bars_[i++] = one;
  }
  [[nodiscard]] std::span<std::byte> operator[](unsigned index) const noexcept {
    return bars_[index];
  }

 private:
  std::array<std::span<std::byte>, pcie::type0_bars> bars_{};
};

// Config is how the configuration space is reached, Memory what DMA memory comes from, Clock the
// machine's; Bar may be a bus32_bar for buses of 32 bits (see over()). The memory, and the windows,
// outlive it. Set-up by one thread; registers and doorbells of a mapped BAR by any. Not copied: each
// function has one owner.
template <ConfigSpace Config, DmaMemory Memory, PollClock Clock = turn_clock<>,
          Mmio Bar = pcie::mapped_bar>
  requires std::constructible_from<Bar, std::span<std::byte>>
class function {
 public:
  using bar_type = Bar;
  using ring_order = device_order;

  // A function that has been enumerated. `windows`: see find_on_bus().
  function(Config config, Memory& memory, Clock clock = {},
           std::span<const bus_window> windows = {}) noexcept
      : config_(std::move(config)), memory_(&memory), clock_(std::move(clock)), windows_(windows) {}
  function(const fixed_bars& registers, Memory& memory, Clock clock = {}) noexcept
    requires std::same_as<Config, no_config>
      : memory_(&memory), clock_(std::move(clock)) {
    for (unsigned i = 0; i != pcie::type0_bars; ++i) place_[i] = registers[i];
  }
  function(const function&) = delete;
  function& operator=(const function&) = delete;

  [[nodiscard]] Config& config() noexcept { return config_; }

  // The first call sizes the BARs, which switches the function's decoding off for a moment, and lets it
  // answer and master the bus. Errors: not_found, not_supported (an I/O port BAR), not_ready (it has no
  // address), not_mapped (the processor does not reach it), and those of pcie::size_bars().
  [[nodiscard]] result<Bar> map_bar(unsigned index) noexcept {
    if (const auto ready = start(); !ready) return ready.error();
    if (index >= place_.size()) return absent(index);
    if (place_[index].empty()) {
      const pcie::bar& bar = bars_[index];
      if (!bar.present()) return absent(index);
      if (bar.kind == pcie::bar_kind::io) {
        return failure(errc::not_supported, "this BAR is one of I/O ports, which are not mapped")
            .at(index);
      }
      const auto place = find_on_bus(windows_, bus_addr{bar.address}, bar.size);
      if (!place) return place.error().at(index);
      place_[index] = *place;
    }
    return Bar{place_[index]};
  }

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return memory_->allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { memory_->release(region); }
  [[nodiscard]] Clock& clock() noexcept { return clock_; }

  // Function-level reset: pcie/reset.hpp. Errors: not_supported, removed.
  [[nodiscard]] result<> reset() noexcept {
    if constexpr (std::same_as<Config, no_config>) {
      return failure(errc::not_supported, "only a PCI Express function can be reset alone");
    } else {
      return pcie::function_level_reset(config_, clock_);
    }
  }
  // No DMA after this, until the next map_bar(). Not done by a destructor, because a function in static
  // storage would then need a run-time library to call it.
  void stop() noexcept {
    if constexpr (!std::same_as<Config, no_config>) {
      pcie::set_command(
          config_, pcie::read_command(config_).with(pcie::command_register::bus_master, false));
      master_ = false;
    }
  }

 private:
  [[nodiscard]] static error absent(unsigned index) noexcept {
    return failure(errc::not_found, "the function has no such BAR").at(index);
  }
  [[nodiscard]] result<> start() noexcept {
    if constexpr (!std::same_as<Config, no_config>) {
      if (!sized_) {
        const auto bars = pcie::size_bars(config_);
        if (!bars) return bars.error();
        bars_ = *bars;
        sized_ = true;
      }
      if (!master_) {
        pcie::set_command(config_, pcie::read_command(config_)
                                       .with(pcie::command_register::memory_space, true)
                                       .with(pcie::command_register::bus_master, true));
        master_ = true;
      }
    }
    return {};
  }

  Config config_{};
  Memory* memory_;
  Clock clock_;
  std::span<const bus_window> windows_{};
  pcie::bar_array bars_{};
  std::array<std::span<std::byte>, pcie::type0_bars> place_{};
  bool sized_ = false;
  bool master_ = false;
};
template <class Config, class Memory>
function(Config, Memory&) -> function<Config, Memory>;
template <class Config, class Memory, class Clock>
function(Config, Memory&, Clock) -> function<Config, Memory, Clock>;
template <class Config, class Memory, class Clock>
function(Config, Memory&, Clock, std::span<const bus_window>) -> function<Config, Memory, Clock>;
template <class Memory>
function(fixed_bars, Memory&) -> function<no_config, Memory>;
template <class Memory, class Clock>
function(fixed_bars, Memory&, Clock) -> function<no_config, Memory, Clock>;

// The same over another kind of bar: over<pcie::bus32_bar<pcie::mapped_bar>>(fixed_bars{...}, dma).
template <Mmio Bar, class Registers, DmaMemory Memory, PollClock Clock = turn_clock<>>
[[nodiscard]] auto over(Registers registers, Memory& memory, Clock clock = {}) noexcept {
  using config = std::conditional_t<std::same_as<Registers, fixed_bars>, no_config, Registers>;
  return function<config, Memory, Clock, Bar>{std::move(registers), memory, std::move(clock)};
}

static_assert(PcieBackend<function<no_config, static_arena<4096>>>);
static_assert(PcieBackend<function<pcie::ecam_function<pcie::mapped_window>, dma_arena<>>>);
static_assert(ResettableFunction<function<pcie::ecam_function<pcie::mapped_window>, dma_arena<>>>);

}  // namespace phasebit::backend::mmio
