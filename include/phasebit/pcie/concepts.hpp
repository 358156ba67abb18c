// SPDX-License-Identifier: BSL-1.0
// The library's requirements on a bus. Algorithms require the narrowest concept; every backend models
// as many as its hardware supports, and an FPGA mapping supports few.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit {

// A block of registers. Values are native; the bus is little-endian inside. Offsets are multiples
// of the access and lie within size_bytes(). Reads of a removed device are all ones. 64-bit
// registers are accessed whole where the bus can (read64), and write64_lo_hi is two 32-bit writes,
// low half first, as NVMe allows (Base 2.0, 3.1.1) and 32-bit buses need. Accesses of one thread
// stay in program order; doorbell(offset) is a sink for that 32-bit register and outlives no bar.
template <class T>
concept Mmio = requires(T& bar, std::uint32_t offset, std::uint32_t v32, std::uint64_t v64) {
  { bar.read32(offset) } noexcept -> std::same_as<std::uint32_t>;
  { bar.write32(offset, v32) } noexcept -> std::same_as<void>;
  { bar.read64(offset) } noexcept -> std::same_as<std::uint64_t>;
  { bar.write64_lo_hi(offset, v64) } noexcept -> std::same_as<void>;
  { bar.size_bytes() } noexcept -> std::convertible_to<std::uint64_t>;
  { bar.doorbell(offset) } noexcept -> DoorbellSink;
};

// One function's configuration space: 256 bytes, or 4096 with PCIe. Offsets are aligned to the
// access. Reads where nothing answers are all ones; writes there vanish.
template <class T>
concept ConfigSpace = requires(T& config, std::uint16_t offset) {
  { config.read8(offset) } noexcept -> std::same_as<std::uint8_t>;
  { config.read16(offset) } noexcept -> std::same_as<std::uint16_t>;
  { config.read32(offset) } noexcept -> std::same_as<std::uint32_t>;
  { config.write8(offset, std::uint8_t{}) } noexcept -> std::same_as<void>;
  { config.write16(offset, std::uint16_t{}) } noexcept -> std::same_as<void>;
  { config.write32(offset, std::uint32_t{}) } noexcept -> std::same_as<void>;
  { config.size_bytes() } noexcept -> std::convertible_to<std::uint32_t>;
};

// Configuration space of every function below one root: what enumeration walks. function(id) is
// cheap and reads all ones where there is no function.
template <class T>
concept ConfigAccess = requires(T& root, pcie::requester_id id) {
  { root.function(id) } noexcept -> ConfigSpace;
};

// A function that a driver can hold. map_bar(i) fails with not_found where BAR i is absent, and
// gives the same registers when asked again. Set-up only: nothing here is for hot paths.
template <class T>
concept PcieFunction = requires(T& f, unsigned index) {
  typename T::bar_type;
  requires Mmio<typename T::bar_type>;
  { f.config() } noexcept -> ConfigSpace;
  { f.map_bar(index) } noexcept -> std::same_as<result<typename T::bar_type>>;
};

// Everything a driver needs to run: registers, memory the device reaches, how rings are ordered
// over this bus, and time. `ring_order` models RingOrder.
template <class T>
concept PcieBackend = PcieFunction<T> && DmaMemory<T> && requires(T& backend) {
  typename T::ring_order;
  requires RingOrder<typename T::ring_order>;
  { backend.clock() } noexcept -> PollClock;
};

// MSI-X or MSI as events. enable_interrupts(n) enables vectors 0..n-1; poll consumes a pending
// event and returns whether there was one; wait blocks for one until its time-out. Each vector may
// be waited for by a thread of its own.
template <class T>
concept InterruptSource = requires(T& f, unsigned vector, std::uint64_t nanoseconds) {
  { f.interrupt_vectors() } noexcept -> std::same_as<unsigned>;
  { f.enable_interrupts(vector) } noexcept -> std::same_as<result<>>;
  { f.disable_interrupts() } noexcept -> std::same_as<result<>>;
  { f.poll_interrupt(vector) } noexcept -> std::same_as<bool>;
  { f.wait_interrupt(vector, nanoseconds) } noexcept -> std::same_as<bool>;
};

// Function-level reset. Registers and in-flight work are gone; mapped BARs stay mapped.
template <class T>
concept ResettableFunction = requires(T& f) {
  { f.reset() } noexcept -> std::same_as<result<>>;
};

// Virtual functions can be switched on. set_virtual_functions(0) switches them off.
template <class T>
concept SriovCapable = requires(T& f, std::uint16_t count) {
  { f.total_virtual_functions() } noexcept -> std::same_as<std::uint16_t>;
  { f.set_virtual_functions(count) } noexcept -> std::same_as<result<>>;
};

}  // namespace phasebit
