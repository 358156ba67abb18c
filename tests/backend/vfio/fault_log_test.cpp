// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/vfio/detail/fault_log.hpp>

#include <array>
#include <string_view>

#include <doctest/doctest.h>

using namespace phasebit;
namespace vfio = phasebit::backend::vfio;

namespace {

constexpr pcie::function_address device{0, pcie::requester_id{0, 4, 0}};

}  // namespace

TEST_CASE("faults of intel-iommu are understood as Linux 5 and 6 write them") {
  const auto read = vfio::detail::parse_dma_fault(
      "DMAR: [DMA Read NO_PASID] Request device [00:04.0] fault addr 0x7f0000000000 [fault reason "
      "0x06] PTE Read access is not set");
  REQUIRE(read);
  CHECK(read->function == device);
  CHECK_FALSE(read->has_segment);
  CHECK(read->address == bus_addr{0x7f00'0000'0000});
  CHECK_FALSE(read->write);
  const auto write = vfio::detail::parse_dma_fault(
      "DMAR: [DMA Write] Request device [00:04.0] fault addr ffff000 [fault reason 05] PTE Write "
      "access is not set");
  REQUIRE(write);
  CHECK(write->address == bus_addr{0xffff000});
  CHECK(write->write);
}

TEST_CASE("faults of amd-iommu are understood with the device inside and in front") {
  for (const std::string_view line :
       {"AMD-Vi: Event logged [IO_PAGE_FAULT device=00:04.0 domain=0x000a address=0x1000 "
        "flags=0x0020]",
        "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:00:04.0 domain=0xa address=0x1000 "
        "flags=0x20]",
        "vfio-pci 0000:00:04.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000a address=0x1000 "
        "flags=0x0020]"}) {
    CAPTURE(line);
    const auto fault = vfio::detail::parse_dma_fault(line);
    REQUIRE(fault);
    CHECK(fault->function == device);
    CHECK(fault->address == bus_addr{0x1000});
    CHECK(fault->write);
  }
}

TEST_CASE("faults of arm-smmu-v3 are understood where it names the device") {
  const auto fault = vfio::detail::parse_dma_fault(
      "arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0000:00:04.0 sid: 0x20 ssid: "
      "0x0 "
      "iova: 0xdead000 ipa: 0x0");
  REQUIRE(fault);
  CHECK(fault->function == device);
  CHECK(fault->has_segment);
  CHECK(fault->address == bus_addr{0xdead000});
}

TEST_CASE("what is not understood is no fault") {
  for (const std::string_view line :
       {"", "DMAR:", "DMAR: IOMMU enabled", "DMAR: [DMA Read] Request device [",
        "DMAR: fault addr 1", "DMAR: [DMA Read] Request device [00:04.0] fault addr ",
        "DMAR: [DMA Read] Request device [00:44.0] fault addr 0x1000 [",
        "DMAR: [DMA Read] Request device [00:04.0] fault addr 0x10000000000000000 [",
        "DMAR: [DMA Read] Request device [00:04.0] fault addr 0xxyz [", "IO_PAGE_FAULT",
        "AMD-Vi: Event logged [IO_PAGE_FAULT device=nonsense address=0x1]",
        ": AMD-Vi: IO_PAGE_FAULT address=0x1", "F_TRANSLATION client:  iova: "}) {
    CAPTURE(line);
    CHECK_FALSE(vfio::detail::parse_dma_fault(line));
  }
}

TEST_CASE("a log that cannot be read is an error") {
  const auto missing = vfio::detail::fault_log::open(device, "/nonexistent/kmsg");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == errc::not_found);
  vfio::detail::fault_log closed;
  CHECK(closed.check().error().code == errc::not_ready);
}
