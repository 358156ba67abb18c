// SPDX-License-Identifier: BSL-1.0
// Functions and bridges in memory, reached as on a real fabric: by the bus numbers that the bridges
// hold at the moment.
#pragma once

#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstdint>
#include <map>
#include <memory>

namespace phasebit_test {

namespace pcie = phasebit::pcie;

using space_image = pcie::config_image<4096>;

// A view of one image, or of no function. Counts accesses.
class view {
 public:
  view(space_image* config, std::uint64_t& accesses) : config_(config), accesses_(&accesses) {}

  std::uint8_t read8(std::uint16_t at) noexcept {
    return config_ != nullptr && count() ? config_->read8(at) : std::uint8_t{0xff};
  }
  std::uint16_t read16(std::uint16_t at) noexcept {
    return config_ != nullptr && count() ? config_->read16(at) : std::uint16_t{0xffff};
  }
  std::uint32_t read32(std::uint16_t at) noexcept {
    return config_ != nullptr && count() ? config_->read32(at) : 0xffff'ffffU;
  }
  void write8(std::uint16_t at, std::uint8_t value) noexcept {
    if (config_ != nullptr && count()) config_->write8(at, value);
  }
  void write16(std::uint16_t at, std::uint16_t value) noexcept {
    if (config_ != nullptr && count()) config_->write16(at, value);
  }
  void write32(std::uint16_t at, std::uint32_t value) noexcept {
    if (config_ != nullptr && count()) config_->write32(at, value);
  }
  std::uint32_t size_bytes() const noexcept { return 4096; }

 private:
  bool count() noexcept {
    ++*accesses_;
    return true;
  }
  space_image* config_;
  std::uint64_t* accesses_;
};
static_assert(phasebit::ConfigSpace<view>);

// One bus and everything behind it.
struct bus {
  struct node {
    space_image config;
    std::unique_ptr<bus> behind;
  };
  std::map<std::uint8_t, node> nodes;  // by device and function

  space_image& add(unsigned device, unsigned number) {
    return nodes[static_cast<std::uint8_t>(device << 3 | number)].config;
  }
  space_image& add_function(unsigned device, unsigned number, const pcie::function_description& d) {
    space_image& config = add(device, number);
    (void)pcie::emit_function(config, d).has_value();
    return config;
  }
  bus& add_bridge(unsigned device, unsigned number,
                  const pcie::bridge_description& d = {.vendor_id = 0x1b36, .device_id = 0x000c}) {
    node& n = nodes[static_cast<std::uint8_t>(device << 3 | number)];
    (void)pcie::emit_bridge(n.config, d).has_value();
    n.behind = std::make_unique<bus>();
    return *n.behind;
  }

  space_image* find(std::uint8_t number, pcie::requester_id id) {
    if (id.bus() == number) {
      const auto at = nodes.find(static_cast<std::uint8_t>(id.raw() & 255));
      return at == nodes.end() ? nullptr : &at->second.config;
    }
    // Two bridges that claim the same bus answer at once, and neither is understood.
    bus* behind = nullptr;
    std::uint8_t next = 0;
    for (auto& [devfn, n] : nodes) {
      if (!n.behind) continue;
      const std::uint8_t secondary = n.config.read8(pcie::bridge_header::secondary_bus);
      const std::uint8_t subordinate = n.config.read8(pcie::bridge_header::subordinate_bus);
      if (secondary > number && secondary <= id.bus() && id.bus() <= subordinate) {
        if (behind != nullptr) return nullptr;
        behind = n.behind.get();
        next = secondary;
      }
    }
    return behind == nullptr ? nullptr : behind->find(next, id);
  }
};

struct fabric {
  bus root;
  std::uint8_t first_bus = 0;
  std::uint64_t accesses = 0;

  view function(pcie::requester_id id) noexcept { return {root.find(first_bus, id), accesses}; }
};
static_assert(phasebit::ConfigAccess<fabric>);

}  // namespace phasebit_test
