// SPDX-License-Identifier: BSL-1.0
// Whatever has a configuration space on a simulated bus, and the root ports between buses.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::backend::simulated::detail {

// A member of a bus' list. Owned by the fabric and never taken out of it.
class bus_node {
 public:
  explicit bus_node(std::uint8_t devfn) noexcept : devfn_(devfn) {}
  bus_node(const bus_node&) = delete;
  bus_node& operator=(const bus_node&) = delete;
  virtual ~bus_node() = default;

  // Accesses of the bus. The caller keeps the device thread out.
  [[nodiscard]] virtual std::uint32_t config_read(std::uint16_t offset, unsigned width) noexcept {
    return config_.read(offset, width);
  }
  virtual void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) noexcept {
    static_cast<void>(config_.write(offset, width, value));
  }
  virtual unsigned poll() noexcept { return 0; }
  // The memory that answers at a physical address, if any of this node's does.
  [[nodiscard]] virtual std::optional<segment<local_space>> memory_at(host_phys,
                                                                      std::uint64_t) noexcept {
    return std::nullopt;
  }
  [[nodiscard]] virtual bool is_port() const noexcept { return false; }
  // Other functions are at the same device (PCIe 5.0, 7.5.1.1.9).
  virtual void set_multi_function() noexcept { set_multi_function(config_); }

  [[nodiscard]] std::uint8_t devfn() const noexcept { return devfn_; }
  // On its own bus, whatever number that has at the moment.
  [[nodiscard]] pcie::requester_id id() const noexcept {
    const std::uint32_t bus =
        parent_ == nullptr ? 0 : parent_->config_.read8(pcie::bridge_header::secondary_bus);
    return pcie::requester_id{static_cast<std::uint16_t>(bus << 8 | devfn_)};
  }

  bus_node* parent_ = nullptr;
  bus_node* first_child_ = nullptr;
  bus_node* next_ = nullptr;
  pcie::config_image<pcie::extended_config_bytes> config_;

 protected:
  static void set_multi_function(decltype(config_)& image) noexcept {
    const pcie::header_type_register type{image.read8(pcie::header::header_type)};
    image.set8(pcie::header::header_type,
               type.with(pcie::header_type_register::multi_function, true).raw);
  }

 private:
  std::uint8_t devfn_;
};

// A root port: one bus below. Its windows are kept for whoever reads them and not looked at.
class port_node final : public bus_node {
 public:
  explicit port_node(std::uint8_t device) noexcept
      : bus_node(static_cast<std::uint8_t>(device << 3)) {}

  [[nodiscard]] result<> prepare() noexcept {
    const auto emitted =
        pcie::emit_bridge(config_, {.vendor_id = 0x5042, .device_id = 2, .revision_id = 1});
    if (!emitted) return emitted.error();
    return {};
  }
  [[nodiscard]] bool is_port() const noexcept override { return true; }
};

}  // namespace phasebit::backend::simulated::detail
