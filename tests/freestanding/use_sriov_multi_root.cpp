// SPDX-License-Identifier: BSL-1.0
#include <phasebit/sriov/multi_root.hpp>

#include <cstdint>

using namespace phasebit;

namespace {

using pool = sriov::multi_root<sriov::multi_root_limits{.roots = 2, .slots = 2, .functions = 4}>;

}  // namespace

extern "C" bool use_multi_root_start(pool* p, const sriov::shared_function* f) {
  return p->start(0x40, 0xe0, 1, 2).has_value() && p->add_function(0, *f).has_value() &&
         p->attach(0, 0, 0, [](const sriov::multi_root_event&) noexcept {}).has_value();
}

extern "C" std::uint8_t use_multi_root_route(pool* p, const pcie::tlp_header* h,
                                             std::uint32_t data) {
  const auto down = p->from_root(0, *h, data, [](const sriov::multi_root_event&) noexcept {});
  const auto up = p->from_device(*h);
  return static_cast<std::uint8_t>(static_cast<unsigned>(down.route) +
                                   static_cast<unsigned>(up.route));
}

extern "C" std::uint32_t use_multi_root_move(pool* p) {
  std::uint32_t aborted = 0;
  const auto reply = [&](std::uint16_t, const pcie::tlp_header&) noexcept { ++aborted; };
  p->detach(0, reply, [](const sriov::multi_root_event&) noexcept {});
  p->function_reset(0, reply);
  return aborted + (p->root_reset(1) ? 1U : 0U);
}
