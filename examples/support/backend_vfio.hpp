// SPDX-License-Identifier: BSL-1.0
// The examples' disk behind Linux's vfio: a real controller, bound to vfio-pci.
#pragma once

#include "support/backend_options.hpp"
#include "support/opened.hpp"

#include <phasebit/backend/vfio.hpp>

namespace example {

template <class Use>
[[nodiscard]] phasebit::result<> with_vfio(const backend_options& o, Use& use) {
  using namespace phasebit;
  namespace vfio = backend::vfio;
  if (o.device.empty()) {
    return failure(errc::invalid_argument, "vfio requires a function: --device 0000:01:00.0");
  }
  const auto address = address_of(o.device);
  if (!address) return address.error();
  auto function = vfio::function::open(*address);
  if (!function) return function.error();
  return use(opened<vfio::function>{*function, "a PCI function through vfio", true, false});
}

}  // namespace example
