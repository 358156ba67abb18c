// SPDX-License-Identifier: BSL-1.0
// The nodes of a simulated bus with a configuration space, and the root ports between buses.
#pragma once

#include <phasebit/backend/simulated/detail/ticket_lock.hpp>
#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/ats/messages.hpp>
#include <phasebit/iommu/ats/pri_messages.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>

namespace phasebit::backend::simulated {

class dma_path;

namespace detail {

// Makes the objects that users hold and do not construct.
struct factory {
  template <class T, class... Args>
  [[nodiscard]] static T make(Args&&... args) noexcept {
    return T(std::forward<Args>(args)...);
  }
};

class port_node;

// A member of the fabric's list, which only grows: a node that is not on its bus at the moment (a
// virtual function that is off) stays in it. Owned by the fabric until its end.
//
// lock() serialises what happens inside of a node: configuration writes, registers, its model. It is
// never held by two nodes' calls at once but for a physical function that switches its virtual
// functions, and dma_path's locks come after it. Configuration is read without it.
class bus_node {
 public:
  // `routing` is the routing ID on the node's own bus: devfn, or more for virtual functions whose
  // numbers reach the buses behind it.
  explicit bus_node(std::uint32_t routing) noexcept : routing_(routing) {}
  bus_node(const bus_node&) = delete;
  bus_node& operator=(const bus_node&) = delete;
  virtual ~bus_node() = default;

  // Accesses of the bus. Reads take no lock; the caller of a write holds lock().
  [[nodiscard]] virtual std::uint32_t config_read(std::uint16_t offset, unsigned width) noexcept {
    return config_.read(offset, width);
  }
  virtual void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) noexcept {
    static_cast<void>(config_.write(offset, width, value));
  }
  // The caller holds lock().
  virtual unsigned poll() noexcept { return 0; }
  // The memory that answers at a physical address, if any of this node's does. No lock.
  [[nodiscard]] virtual std::optional<segment<local_space>> memory_at(host_phys,
                                                                      std::uint64_t) noexcept {
    return std::nullopt;
  }
  [[nodiscard]] virtual port_node* as_port() noexcept { return nullptr; }
  // Whether it answers on its bus at the moment.
  [[nodiscard]] virtual bool present() const noexcept { return true; }
  // Whether this routing ID is the node's, or that of a function that it may make.
  [[nodiscard]] virtual bool reserves(std::uint32_t routing) const noexcept {
    return routing == routing_;
  }
  // Other functions are at the same device (PCIe 5.0, 7.5.1.1.9).
  virtual void set_multi_function() noexcept { set_multi_function(config_); }
  // Messages of an IOMMU; see function_node.
  virtual void deliver(const iommu::ats_invalidate&) noexcept {}
  virtual void deliver(const iommu::pri_response&) noexcept {}

  [[nodiscard]] ticket_lock& lock() noexcept { return lock_; }
  [[nodiscard]] std::uint32_t routing() const noexcept { return routing_; }
  [[nodiscard]] port_node* parent() const noexcept { return parent_; }
  // With the number that its bus has at the moment.
  [[nodiscard]] inline pcie::requester_id id() const noexcept;

  std::atomic<bus_node*> next_{nullptr};
  port_node* parent_ = nullptr;  // null on the root bus; set before the node is in the list
  pcie::config_image<pcie::extended_config_bytes> config_;

 protected:
  static void set_multi_function(decltype(config_)& image) noexcept {
    const pcie::header_type_register type{image.read8(pcie::header::header_type)};
    image.set8(pcie::header::header_type,
               type.with(pcie::header_type_register::multi_function, true).raw);
  }

 private:
  ticket_lock lock_;
  std::uint32_t routing_;
};

// A root port: one bus below. Its windows are kept and read back, and route nothing.
class port_node final : public bus_node {
 public:
  explicit port_node(std::uint8_t device) noexcept : bus_node(std::uint32_t{device} << 3) {}

  [[nodiscard]] result<> prepare() noexcept {
    const auto emitted =
        pcie::emit_bridge(config_, {.vendor_id = 0x5042, .device_id = 2, .revision_id = 1});
    if (!emitted) return emitted.error();
    control_2_ = static_cast<std::uint16_t>(emitted->express + pcie::express::device_control_2);
    return {};
  }
  [[nodiscard]] port_node* as_port() noexcept override { return this; }

  [[nodiscard]] std::uint8_t bus() const noexcept {
    return config_.read8(pcie::bridge_header::secondary_bus);
  }
  // Whether configuration requests for `id` go through it (7.5.1.3 and, for device numbers above 0
  // of the bus below, 6.13: only with ARI forwarding). A port without a number leads nowhere.
  [[nodiscard]] bool forwards(pcie::requester_id id) const noexcept {
    const std::uint8_t below = bus();
    if (below == 0 || id.bus() < below ||
        id.bus() > config_.read8(pcie::bridge_header::subordinate_bus)) {
      return false;
    }
    return id.bus() != below || (id.raw() & 0xff) < 8 || ari_forwarding();
  }
  [[nodiscard]] bool ari_forwarding() const noexcept {
    return pcie::device_control_2{
        config_.read16(control_2_)}[pcie::device_control_2::ari_forwarding];
  }
  void forward_ari() noexcept {
    const pcie::device_control_2 control{config_.read16(control_2_)};
    config_.write16(control_2_, control.with(pcie::device_control_2::ari_forwarding, true).raw);
  }

  // Where DMA of the functions behind it goes; null for the fabric's path.
  std::atomic<dma_path*> path_{nullptr};

 private:
  std::uint16_t control_2_ = 0;
};

inline pcie::requester_id bus_node::id() const noexcept {
  const std::uint32_t bus = parent_ == nullptr ? 0 : parent_->bus();
  return pcie::requester_id{static_cast<std::uint16_t>((bus << 8) + routing_)};
}

// Appends to a list that other threads walk. The caller keeps other appenders out.
inline void append(std::atomic<bus_node*>& first, bus_node& node) noexcept {
  std::atomic<bus_node*>* at = &first;
  while (bus_node* const n = at->load(std::memory_order_relaxed)) at = &n->next_;
  at->store(&node, std::memory_order_release);
}
// The node that answers at `id`, or null.
[[nodiscard]] inline bus_node* find_node(const std::atomic<bus_node*>& first,
                                         pcie::requester_id id) noexcept {
  for (bus_node* n = first.load(std::memory_order_acquire); n != nullptr;
       n = n->next_.load(std::memory_order_acquire)) {
    if (n->id() != id || !n->present()) continue;
    if (n->parent() == nullptr ? id.bus() == 0 || n->routing() > 0xff : n->parent()->forwards(id)) {
      return n;
    }
  }
  return nullptr;
}

}  // namespace detail

}  // namespace phasebit::backend::simulated
