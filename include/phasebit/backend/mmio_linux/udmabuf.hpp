// SPDX-License-Identifier: BSL-1.0
// Memory of the u-dma-buf driver: contiguous, at a physical address that it reports, reserved when the
// machine or its driver started. How DMA is done on SoCs whose IOMMU is off.
#pragma once

#include <phasebit/backend/mmio_linux/device_mapping.hpp>
#include <phasebit/backend/mmio_linux/system_paths.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace phasebit::backend::mmio_linux {

struct udmabuf {
  device_mapping memory;
  bus_addr begin;

  [[nodiscard]] dma_region region() const noexcept { return memory.region(begin); }

  // By the name of its file in /dev: "udmabuf0". The processor sees it uncached (O_SYNC), so that a
  // device which snoops no caches sees what is written. Errors: not_found, protocol (its attributes
  // are nonsense), and those of map_file().
  [[nodiscard]] static result<udmabuf> open(const std::string& name,
                                            const system_paths& paths = {}) {
    std::string folder = paths.sys + "/class/u-dma-buf/" + name;
    if (!posix::exists(folder)) folder = paths.sys + "/class/udmabuf/" + name;  // before 2.0
    if (name.empty() || !posix::exists(folder)) {
      return failure(errc::not_found,
                     "there is no such u-dma-buf: load it with its size, as in "
                     "modprobe u-dma-buf udmabuf0=4194304")
          .of(name);
    }
    const auto begin = posix::read_number<std::uint64_t>(folder + "/phys_addr", 16);
    const auto bytes = posix::read_number<std::uint64_t>(folder + "/size");
    if (!begin || !bytes || *bytes == 0 || !range_end(bus_addr{*begin}, *bytes)) {
      return failure(errc::protocol, "phys_addr and size are no place in memory").of(folder);
    }
    auto mapped = map_file(paths.dev + "/" + name, {.offset = 0, .bytes = *bytes}, paths);
    if (!mapped) return mapped.error();
    return udmabuf{std::move(*mapped), bus_addr{*begin}};
  }
};

}  // namespace phasebit::backend::mmio_linux
