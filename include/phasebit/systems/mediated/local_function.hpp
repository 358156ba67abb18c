// SPDX-License-Identifier: BSL-1.0
// A function of an engine in this program as a driver's backend, for hosts that run here: tests, simulations,
// a hypervisor's own use of the drive.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems {

// Configuration space of a function that nothing enumerates: reads are zero, writes vanish.
struct no_config_space {
  [[nodiscard]] static constexpr std::uint8_t read8(std::uint16_t) noexcept { return 0; }
  [[nodiscard]] static constexpr std::uint16_t read16(std::uint16_t) noexcept { return 0; }
  [[nodiscard]] static constexpr std::uint32_t read32(std::uint16_t) noexcept { return 0; }
  static constexpr void write8(std::uint16_t, std::uint8_t) noexcept {}
  static constexpr void write16(std::uint16_t, std::uint16_t) noexcept {}
  static constexpr void write32(std::uint16_t, std::uint32_t) noexcept {}
  [[nodiscard]] static constexpr std::uint32_t size_bytes() noexcept { return 4096; }
};

// A PcieBackend. `Memory` gives regions whose bus addresses are those that the function's flat table
// translates; relax() of `Clock` lets the engine and the drive continue. A view: all of them, and the doorbell
// words, outlive it. Registers: the engine's thread.
template <class Engine, DmaMemory Memory, PollClock Clock, RingOrder Order = thread_order>
class local_function {
 public:
  using ring_order = Order;

  struct doorbell_type {
    std::uint32_t* word = nullptr;
    void ring(std::uint32_t value) noexcept {
      Order::store(*word, le<std::uint32_t>::to_wire(value));
    }
  };
  class bar_type {
   public:
    bar_type(Engine& engine, std::uint16_t function, std::span<std::uint32_t> doorbells) noexcept
        : engine_(&engine), doorbells_(doorbells), function_(function) {}
    [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
      return engine_->read32(function_, offset);
    }
    void write32(std::uint32_t offset, std::uint32_t value) noexcept {
      engine_->write32(function_, offset, value);
    }
    [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
      return read32(offset) | std::uint64_t{read32(offset + 4)} << 32;
    }
    void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
      write32(offset, static_cast<std::uint32_t>(value));
      write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
    }
    [[nodiscard]] std::uint64_t size_bytes() const noexcept {
      return nvme::first_doorbell + doorbells_.size_bytes();
    }
    [[nodiscard]] doorbell_type doorbell(std::uint32_t offset) noexcept {
      PHASEBIT_EXPECTS(offset >= nvme::first_doorbell && offset < size_bytes(),
                       "the function has no such doorbell");
      return {&doorbells_[(offset - nvme::first_doorbell) / 4]};
    }

   private:
    Engine* engine_;
    std::span<std::uint32_t> doorbells_;
    std::uint16_t function_;
  };

  local_function(Engine& engine, std::uint16_t function, std::span<std::uint32_t> doorbells,
                 Memory& memory, Clock& clock) noexcept
      : bar_(engine, function, doorbells), memory_(&memory), clock_(&clock) {}

  [[nodiscard]] no_config_space config() const noexcept { return {}; }
  [[nodiscard]] result<bar_type> map_bar(unsigned index) noexcept {
    if (index != 0) return failure(errc::not_found, "the function has BAR 0 only").at(index);
    return bar_;
  }
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return memory_->allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { memory_->release(region); }
  [[nodiscard]] Clock& clock() noexcept { return *clock_; }

 private:
  bar_type bar_;
  Memory* memory_;
  Clock* clock_;
};

}  // namespace phasebit::systems
