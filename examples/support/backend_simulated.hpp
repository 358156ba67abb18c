// SPDX-License-Identifier: BSL-1.0
// The examples' disk on the simulated bus: in memory or in an image, healthy or made to fail.
#pragma once

#include "support/backend_options.hpp"
#include "support/fault_plans.hpp"
#include "support/opened.hpp"

#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/hosted/file_media.hpp>

#include <vector>

namespace example {

namespace detail {

template <class Media, class Use>
[[nodiscard]] phasebit::result<> use_simulated(const backend_options& o, Media& media, Use& use) {
  using namespace phasebit;
  namespace sim = backend::simulated;
  sim::fabric fabric{{.memory_bytes = (std::size_t{16} << 20) + o.dma_bytes}};
  auto disk = sim::add_nvme_disk(
      fabric, media,
      {.controller = {.pci_vendor = 0x5042, .pci_subsystem_vendor = 0x5042, .mdts = 8}});
  if (!disk) return disk.error();
  if (!o.device.empty()) {
    const auto address = address_of(o.device);
    if (!address) return address.error();
    if (*address != pcie::function_address{0, disk->id()}) {
      return failure(errc::not_found,
                     "there is no such function; the simulated disk is 0000:00:04.0")
          .of(o.device);
    }
  }
  disk->inject(fault_plans().at(o.fault));
  if (!o.single_step) {
    if (const auto started = fabric.start(); !started) return started;
  }
  sim::function& function = *disk;
  const auto ended = use(
      opened<sim::function>{function,
                            o.single_step ? "simulated: device and driver take turns in one thread"
                                          : "simulated: the device is a thread of this process",
                            !o.single_step, o.image.empty()});
  fabric.stop();
  return ended;
}

}  // namespace detail

template <class Use>
[[nodiscard]] phasebit::result<> with_simulated(const backend_options& o, Use& use) {
  using namespace phasebit;
  if (!o.image.empty()) {
    auto media = hosted::file_media::open(o.image, {.read_only = o.read_only});
    if (!media) return media.error();
    return detail::use_simulated(o, *media, use);
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(o.disk_bytes));
  block::memory_media media{bytes};
  return detail::use_simulated(o, media, use);
}

}  // namespace example
