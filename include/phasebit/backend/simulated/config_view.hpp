// SPDX-License-Identifier: BSL-1.0
// Configuration accesses to one place of the simulated bus, whether a function is there or not.
#pragma once

#include <phasebit/backend/simulated/detail/bus_node.hpp>
#include <phasebit/backend/simulated/detail/fabric_state.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>

namespace phasebit::backend::simulated {

// A ConfigSpace of 4096 bytes. Valid as long as the fabric. A place that was found is remembered: an
// access follows the function, not the number, when buses are renumbered meanwhile.
class config_view {
 public:
  [[nodiscard]] std::uint8_t read8(std::uint16_t offset) noexcept {
    return static_cast<std::uint8_t>(read(offset, 1));
  }
  [[nodiscard]] std::uint16_t read16(std::uint16_t offset) noexcept {
    return static_cast<std::uint16_t>(read(offset, 2));
  }
  [[nodiscard]] std::uint32_t read32(std::uint16_t offset) noexcept { return read(offset, 4); }
  void write8(std::uint16_t offset, std::uint8_t value) noexcept { write(offset, 1, value); }
  void write16(std::uint16_t offset, std::uint16_t value) noexcept { write(offset, 2, value); }
  void write32(std::uint16_t offset, std::uint32_t value) noexcept { write(offset, 4, value); }
  [[nodiscard]] static constexpr std::uint32_t size_bytes() noexcept {
    return pcie::extended_config_bytes;
  }

 private:
  friend struct detail::factory;
  // Null answers all ones.
  config_view(detail::fabric_state& fabric, detail::bus_node* node) noexcept
      : fabric_(&fabric), node_(node) {}

  [[nodiscard]] std::uint32_t read(std::uint16_t offset, unsigned width) noexcept {
    if (node_ == nullptr) return 0xffff'ffffU >> (32 - 8 * width);
    return node_->config_read(offset, width);
  }
  void write(std::uint16_t offset, unsigned width, std::uint32_t value) noexcept {
    if (node_ == nullptr) return;
    const detail::exclusive guard{*fabric_, *node_};
    node_->config_write(offset, width, value);
  }

  detail::fabric_state* fabric_;
  detail::bus_node* node_;
};
static_assert(ConfigSpace<config_view>);

}  // namespace phasebit::backend::simulated
