// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/amd/device.hpp>
#include <phasebit/iommu/riscv/device.hpp>
#include <phasebit/iommu/smmuv3/device.hpp>
#include <phasebit/iommu/vtd/device.hpp>
#include <phasebit/memory/dma_port.hpp>
#include <phasebit/pcie/device/msix_table.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
using namespace phasebit::iommu;

namespace {

// Memory of a host on the other side of a bus: nothing is mapped.
struct remote_host {
  std::uint32_t interrupts = 0;
  std::uint64_t time = 0;

  result<mapped_range> map(host_phys, std::uint64_t bytes, phasebit::access) noexcept {
    return mapped_range{0, bytes, memory_domain::unmapped};
  }
  result<> read(host_phys at, std::span<std::byte> to) noexcept {
    for (std::byte& b : to) b = static_cast<std::byte>(at.value());
    return {};
  }
  result<> write(host_phys, std::span<const std::byte>) noexcept { return {}; }
  void raise(std::uint16_t) noexcept { ++interrupts; }
  void send(std::uint16_t, const pcie::msi_message&) noexcept { ++interrupts; }
  std::uint64_t now() noexcept { return ++time; }
  void invalidate(const ats_invalidate&) noexcept { ++interrupts; }
  void respond(const pri_response&) noexcept { ++interrupts; }
};

alignas(8) constinit std::byte copies[32 << 10]{};

template <class Device>
std::uint64_t use(Device& device, std::uint32_t offset, std::uint32_t value) {
  device.use_copies(copies);
  device.write32(offset, value);
  const auto to =
      device.translate({.requester = pcie::requester_id{0, 4, 0}, .address = value}, 64);
  const auto message =
      device.remap_interrupt(pcie::requester_id{0, 4, 0}, {bus_addr{0xfee0'0000}, value});
  return device.read32(offset) + (to ? to->begin.value() : 0) + (message ? message->data : 0) +
         device.poll();
}

}  // namespace

extern "C" std::uint64_t phasebit_use_iommu_devices(std::uint32_t offset, std::uint32_t value) {
  remote_host host;
  vtd::device vtd{host, host, host};
  amd::device amd{host, host, host};
  riscv::device riscv{host, host, host};
  smmuv3::device smmu{host, host, host, host};
  std::uint64_t sum = use(vtd, offset, value) + use(amd, offset, value) +
                      use(riscv, offset, value) + use(smmu, offset, value);
  sum += smmu.translate(ats_request{.address = value}).tag;
  smmu.complete(ats_invalidate_completion{});
  sum += smmu.request_page(pri_request{}) ? 1 : 0;

  pcie::device::msix_vector vectors[4];
  pcie::device::msix_table table{vectors, host};
  table.write_table(offset, value);
  table.set_control(pcie::msix_control{static_cast<std::uint16_t>(value)});
  table.raise(static_cast<std::uint16_t>(offset));
  return sum + table.read_table(offset) + table.read_pending(0) + host.interrupts;
}
