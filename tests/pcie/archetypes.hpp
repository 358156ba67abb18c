// SPDX-License-Identifier: BSL-1.0
// The least that models the concepts of a bus: what compiles against these asks for no more.
#pragma once

#include <phasebit/pcie/concepts.hpp>

#include <cstdint>

namespace phasebit_test {

// A ConfigSpace and nothing else: not even copyable.
struct config_archetype {
  config_archetype() = default;
  config_archetype(const config_archetype&) = delete;
  config_archetype& operator=(const config_archetype&) = delete;

  std::uint8_t read8(std::uint16_t) noexcept { return 0xff; }
  std::uint16_t read16(std::uint16_t) noexcept { return 0xffff; }
  std::uint32_t read32(std::uint16_t) noexcept { return 0xffff'ffff; }
  void write8(std::uint16_t, std::uint8_t) noexcept {}
  void write16(std::uint16_t, std::uint16_t) noexcept {}
  void write32(std::uint16_t, std::uint32_t) noexcept {}
  std::uint16_t size_bytes() noexcept { return 256; }
};
static_assert(phasebit::ConfigSpace<config_archetype>);

struct config_access_archetype {
  config_access_archetype() = default;
  config_access_archetype(const config_access_archetype&) = delete;
  config_access_archetype& operator=(const config_access_archetype&) = delete;

  config_archetype& function(phasebit::pcie::requester_id) noexcept { return absent; }
  config_archetype absent;
};

struct doorbell_archetype {
  void ring(std::uint32_t) noexcept {}
};
static_assert(phasebit::DoorbellSink<doorbell_archetype>);

struct mmio_archetype {
  std::uint32_t read32(std::uint32_t) noexcept { return 0xffff'ffff; }
  void write32(std::uint32_t, std::uint32_t) noexcept {}
  std::uint64_t read64(std::uint32_t) noexcept { return ~std::uint64_t{0}; }
  void write64_lo_hi(std::uint32_t, std::uint64_t) noexcept {}
  std::uint32_t size_bytes() noexcept { return 4096; }
  doorbell_archetype doorbell(std::uint32_t) noexcept { return {}; }
};
static_assert(phasebit::Mmio<mmio_archetype>);

struct clock_archetype {
  std::uint64_t now() noexcept { return time += 50'000'000; }
  void relax() noexcept {}
  std::uint64_t time = 0;
};
static_assert(phasebit::PollClock<clock_archetype>);

}  // namespace phasebit_test
