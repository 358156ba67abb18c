// SPDX-License-Identifier: BSL-1.0
// The disk that an example works on, as given on its command line.
#pragma once

#include "support/fault_plans.hpp"
#include "support/option_kinds.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace example {

struct backend_options {
  std::string backend = "simulated";
  std::string device;                                  // a PCI address
  std::string image;                                   // a file with the disk's content
  std::string namespace_properties;                    // of QEMU's namespace
  std::uint64_t disk_bytes = std::uint64_t{64} << 20;  // of a disk in memory
  std::string fault = "none";                          // of a simulated device
  bool single_step = false;                            // of a simulated device
  std::uint64_t dma_bytes = std::uint64_t{16} << 20;   // what the example will allocate
  bool read_only = false;                              // the example writes nothing
};

[[nodiscard]] inline const std::vector<std::string>& backend_names() {
  static const std::vector<std::string> names{"simulated", "qtest", "vfio", "mmio"};
  return names;
}

inline void add_backend_options(CLI::App& app, backend_options& o) {
  constexpr const char* group = "The disk";
  add_choice(app, "--backend", o.backend, "Backend of the disk", backend_names())->group(group);
  app.add_option("--device", o.device, "Its PCI address, such as 0000:01:00.0")
      ->type_name("BDF")
      ->group(group);
  app.add_option("--image", o.image, "Raw image of the disk (simulated: in place of memory)")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--qemu-namespace", o.namespace_properties,
                 "QEMU: properties of the namespace, such as ms=8,mset=1,pi=1")
      ->type_name("LIST")
      ->group(group);
  add_size_option(app, "--disk-size", o.disk_bytes, "Of a simulated disk in memory", 4096,
                  std::uint64_t{8} << 30)
      ->default_str("64M")
      ->group(group);
  app.add_flag("--single-step", o.single_step,
               "Simulated: the device has no thread but moves when the driver waits")
      ->group(group);
  add_choice(app, "--fault", o.fault, "Simulated: what goes wrong", fault_names())->group(group);
}

}  // namespace example
