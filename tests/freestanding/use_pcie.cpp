// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/driver/ecam.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/reset.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/msi.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;

namespace {

using image = pcie::config_image<4096>;

}  // namespace

extern "C" bool use_emitter(image* to, const pcie::function_description* from) {
  return pcie::emit_function(*to, *from).has_value();
}

extern "C" bool use_bridge_emitter(image* to, const pcie::bridge_description* from) {
  return pcie::emit_bridge(*to, *from).has_value();
}

extern "C" std::uint64_t use_bars(image* config, unsigned index) {
  const auto bars = pcie::size_bars(*config);
  return bars ? (*bars)[index % 6].size : 0;
}

extern "C" std::uint32_t use_msix(image* config, std::byte* registers, std::size_t bytes) {
  const auto found = pcie::read_msix(*config);
  if (!found) return 0;
  auto table = pcie::msix_table<pcie::mapped_bar>::attach(
      pcie::mapped_bar{std::span<std::byte>{registers, bytes}}, *found);
  if (!table) return 0;
  table->program(0, {bus_addr{0xfee0'0000}, 3});
  table->unmask(0);
  pcie::set_msix_control(*config, *found, true);
  return table->vectors();
}

extern "C" std::uint32_t use_msi(image* config) {
  const auto found = pcie::read_msi(*config);
  if (!found || !pcie::enable_msi(*config, *found, {bus_addr{0xfee0'0000}, 3})) return 0;
  pcie::disable_msi(*config, *found);
  return found->vectors;
}

extern "C" std::uint16_t use_sriov(image* config) {
  const auto found = pcie::read_sriov(*config);
  return found ? found->total_vfs : std::uint16_t{0};
}

extern "C" std::size_t use_enumerate(std::byte* window, std::size_t bytes,
                                     const pcie::host_resources* host,
                                     pcie::enumerated_function* out, std::size_t store) {
  pcie::ecam root{pcie::mapped_window{std::span<std::byte>{window, bytes}}};
  const auto found = pcie::enumerate(root, *host, std::span{out, store});
  return found ? found->size() : 0;
}

extern "C" bool use_reset(std::byte* window, std::size_t bytes) {
  struct {
    [[nodiscard]] std::uint64_t now() noexcept { return ticks += 1'000'000; }
    void relax() noexcept { cpu_relax(); }
    std::uint64_t ticks = 0;
  } clock;
  pcie::ecam root{pcie::mapped_window{std::span<std::byte>{window, bytes}}};
  auto function = root.function(1, 0, 0);
  return pcie::function_level_reset(function, clock).has_value() &&
         pcie::enable_virtual_functions(function, pcie::requester_id{1, 0, 0}, 2, clock)
             .has_value();
}
