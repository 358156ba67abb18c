// SPDX-License-Identifier: BSL-1.0
// A function together with the model inside it.
#pragma once

#include <phasebit/backend/simulated/device_model.hpp>
#include <phasebit/backend/simulated/device_port.hpp>
#include <phasebit/backend/simulated/function_node.hpp>

#include <cstdint>
#include <new>

namespace phasebit::backend::simulated::detail {

// The virtual calls are on the slow side: registers, and one per round.
template <DeviceModel Model>
class model_node final : public function_node {
 public:
  model_node(fabric_state& fabric, const function_description& d) noexcept
      : function_node(fabric, d) {}
  ~model_node() override {
    if (made_) model_.~Model();
  }

  // Once, and only where prepare() succeeded. The model may be immovable.
  template <class Make>
  void make_model(Make&& make, const device_port& port) noexcept {
    ::new (static_cast<void*>(&model_)) Model(make(port));
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
  void model_reset() noexcept override { model_.reset(); }

  union {
    Model model_;
  };
  bool made_ = false;
};

}  // namespace phasebit::backend::simulated::detail
