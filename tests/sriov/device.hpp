// SPDX-License-Identifier: BSL-1.0
// An SR-IOV device of several physical functions around a function_table, as its owner would run it.
#pragma once

#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>
#include <phasebit/sriov/function_table.hpp>

#include <cstdint>
#include <memory>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit_test {

namespace pcie = phasebit::pcie;
namespace sriov = phasebit::sriov;

inline pcie::function_description physical_description(std::uint16_t total, std::uint16_t offset,
                                                       std::uint16_t stride) {
  pcie::function_description d{.vendor_id = 0x1b36,
                               .device_id = 0x0010,
                               .class_code = 0x010802,
                               .revision_id = 2,
                               .subsystem_vendor_id = 0x1af4,
                               .subsystem_id = 0x1100,
                               .power_management = true};
  d.bars[0] = {pcie::bar_kind::memory64, 0x4000};
  d.msix = pcie::msix_description{.vectors = 2, .table_offset = 0x2000, .pba_offset = 0x3000};
  d.express = pcie::express_description{};
  d.ari_next_function = 0;
  d.sriov = pcie::sriov_description{
      .total_vfs = total, .first_vf_offset = offset, .vf_stride = stride, .vf_device_id = 0x0010};
  d.sriov->vf_bars[0] = {pcie::bar_kind::memory64, 0x4000};
  return d;
}

template <sriov::function_table_limits L>
struct device {
  using table_type = sriov::function_table<L>;

  std::unique_ptr<table_type> table = std::make_unique<table_type>();
  std::vector<std::unique_ptr<sriov::config_image>> images;
  std::vector<std::unique_ptr<sriov::config_image>> vf_images;
  std::vector<pcie::function_description> descriptions;
  std::vector<sriov::function_event> events;
  std::uint32_t now_ms = 0;
  std::uint16_t capability = 0;

  phasebit::result<std::uint16_t> add(std::uint8_t number, const pcie::function_description& d,
                                      const sriov::physical_options& options = {}) {
    images.push_back(std::make_unique<sriov::config_image>());
    vf_images.push_back(std::make_unique<sriov::config_image>());
    descriptions.push_back(d);
    const auto layout = pcie::emit_function(*images.back(), d);
    REQUIRE(layout);
    capability = layout->sriov;
    REQUIRE(sriov::emit_virtual_function(*vf_images.back(), d));
    return table->add(number, *images.back(), *vf_images.back(), options);
  }

  auto sink() {
    return [this](const sriov::function_event& e) { events.push_back(e); };
  }
  std::uint32_t read(sriov::function_ref f, unsigned offset, unsigned bytes = 4) {
    return table->config_read(f, static_cast<std::uint16_t>(offset), bytes).value;
  }
  void write(sriov::function_ref f, unsigned offset, unsigned bytes, std::uint32_t value) {
    table->config_write(f, static_cast<std::uint16_t>(offset), bytes, value, now_ms, sink());
  }
  unsigned at(unsigned offset) const { return capability + offset; }

  void enable(std::uint16_t pf, std::uint16_t count, bool prepared = true) {
    const sriov::function_ref f{pf, 0};
    write(f, at(pcie::sriov::num_vfs), 2, count);
    write(f, at(pcie::sriov::control), 2, read(f, at(pcie::sriov::control), 2) | 9);
    for (std::uint32_t vf = 1; prepared && vf <= count; ++vf) {
      table->ready({pf, static_cast<std::uint16_t>(vf)});
    }
  }
  void disable(std::uint16_t pf) {
    const sriov::function_ref f{pf, 0};
    write(f, at(pcie::sriov::control), 2, read(f, at(pcie::sriov::control), 2) & ~9U);
  }
};

}  // namespace phasebit_test
