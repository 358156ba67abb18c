// SPDX-License-Identifier: BSL-1.0
// A function together with the model inside it.
#pragma once

#include <phasebit/backend/simulated/detail/function_node.hpp>
#include <phasebit/backend/simulated/device_model.hpp>
#include <phasebit/backend/simulated/device_port.hpp>

#include <cstdint>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>

namespace phasebit::backend::simulated::detail {

// The virtual calls are on the slow side: registers, and one per round.
template <DeviceModel Model>
class model_node : public function_node {
 public:
  model_node(fabric_state& fabric, const function_description& d, std::uint32_t routing) noexcept
      : function_node(fabric, d, routing) {}
  ~model_node() override {
    if (made_) model_.~Model();
  }

  // Called once, and only after prepare() returned success. The model may be immovable.
  template <class Make, class... Args>
  void make_model(Make& make, const device_port& port, Args... args) noexcept {
    ::new (static_cast<void*>(&model_)) Model(make(port, args...));
    made_ = true;
  }
  [[nodiscard]] Model& model() noexcept { return model_; }

 private:
  [[nodiscard]] std::uint32_t model_read(std::uint32_t offset) noexcept override {
    return model_.read32(offset);
  }
  void model_write(std::uint32_t offset, std::uint32_t value) noexcept override {
    model_.write32(offset, value);
  }
  unsigned model_poll() noexcept override { return static_cast<unsigned>(model_.poll()); }
  void model_reset() noexcept override {
    if (made_) model_.reset();
  }

  union {
    Model model_;
  };
  bool made_ = false;
};

// A virtual function: like any other, but for its bus mastering, which is off after a reset.
template <DeviceModel Model>
class virtual_node final : public model_node<Model> {
 public:
  virtual_node(fabric_state& fabric, const function_description& d, std::uint32_t routing) noexcept
      : model_node<Model>(fabric, d, routing) {
    if (d.enabled) this->enable_when_on();
  }
};

// A physical function that makes its virtual ones when VF Enable is first set; they stay in the
// fabric's list, off, when it is cleared.
template <DeviceModel Model, class MakeVirtual>
class physical_node final : public model_node<Model> {
  using virtual_model = std::invoke_result_t<MakeVirtual&, const device_port&, unsigned>;

 public:
  physical_node(fabric_state& fabric, const function_description& d, std::uint32_t routing,
                const function_description& virtual_description, MakeVirtual&& make) noexcept
      : model_node<Model>(fabric, d, routing),
        description_(virtual_description),
        make_(std::move(make)),
        first_(d.pci.sriov->first_vf_offset),
        stride_(d.pci.sriov->vf_stride != 0 ? d.pci.sriov->vf_stride : 1U),
        total_(d.pci.sriov->total_vfs) {
    description_.pci.virtual_function = true;
    description_.pci.bars = d.pci.sriov->vf_bars;
    description_.pci.capabilities = {};
  }

  [[nodiscard]] bool reserves(std::uint32_t routing) const noexcept override {
    if (routing == this->routing()) return true;
    const std::uint32_t offset = routing - this->routing() - first_;
    return routing >= this->routing() + first_ && offset % stride_ == 0 &&
           offset / stride_ < total_;
  }

 private:
  [[nodiscard]] function_node* make_virtual(unsigned index) noexcept override {
    fabric_state& fabric = this->fabric();
    auto* const node = new (std::nothrow) virtual_node<virtual_model>(
        fabric, description_, this->routing() + first_ + index * stride_);
    if (node == nullptr) return nullptr;
    node->make_virtual_of(*this, index);
    if (!node->prepare(description_)) {
      delete node;
      return nullptr;
    }
    node->make_model(make_, factory::make<device_port>(*node, unsigned{description_.register_bar}),
                     index);
    const std::lock_guard guard{fabric.list_lock};
    append(fabric.first, *node);
    return node;
  }

  function_description description_;
  MakeVirtual make_;
  std::uint32_t first_;
  std::uint32_t stride_;
  std::uint32_t total_;
};

}  // namespace phasebit::backend::simulated::detail
