// SPDX-License-Identifier: BSL-1.0
// The disk that an example's options name, whatever its backend: for examples that need blocks, not queues.
#pragma once

#include "support/backend_options.hpp"
#include "support/fault_plans.hpp"

#include <phasebit/hosted/open_disk.hpp>

#include <string>
#include <utility>

namespace example {

[[nodiscard]] inline phasebit::result<phasebit::hosted::any_disk> open_disk(
    const backend_options& o, std::uint32_t nsid, std::uint32_t timeout_ms) {
  using namespace phasebit;
  if (o.backend == "qtest" && o.image.empty()) {
    return failure(errc::invalid_argument,
                   "QEMU needs a disk: --image FILE (make one with truncate -s 64M FILE)");
  }
  const bool by_address = o.backend == "vfio" || o.backend == "mmio";
  if (by_address && o.device.empty()) {
    return failure(errc::invalid_argument, "requires a function: --device 0000:01:00.0")
        .of(o.backend);
  }
  if (!by_address && !o.device.empty()) {
    return failure(errc::invalid_argument, "--device is for the backends vfio and mmio")
        .of(o.device);
  }
  const std::string name = by_address ? o.backend + ":" + o.device
                                      : (o.backend == "qtest" ? "qtest:" : "sim:") + o.image;
  return hosted::open_disk(name, {.nsid = nsid,
                                  .timeout_ms = timeout_ms,
                                  .read_only = o.read_only,
                                  .simulated_bytes = static_cast<std::size_t>(o.disk_bytes),
                                  .qemu_namespace = o.namespace_properties,
                                  .faults = fault_plans().at(o.fault)});
}

}  // namespace example
