// SPDX-License-Identifier: BSL-1.0
// The examples' disk mapped by way of /sys, without vfio: a real controller, bound to uio_pci_generic or
// to no driver, on a machine whose IOMMU is off or passes addresses through.
#pragma once

#include "support/backend_options.hpp"
#include "support/opened.hpp"

#include <phasebit/backend/mmio_linux.hpp>

namespace example {

template <class Use>
[[nodiscard]] phasebit::result<> with_mmio(const backend_options& o, Use& use) {
  using namespace phasebit;
  namespace mmio = backend::mmio_linux;
  if (o.device.empty()) {
    return failure(errc::invalid_argument, "mmio requires a function: --device 0000:01:00.0");
  }
  const auto address = address_of(o.device);
  if (!address) return address.error();
  auto function = mmio::function::open(*address);
  if (!function) return function.error();
  return use(opened<mmio::function>{
      *function, "a PCI function mapped through /sys, with huge pages for DMA", true, false});
}

}  // namespace example
