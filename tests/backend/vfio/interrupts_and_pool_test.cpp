// SPDX-License-Identifier: BSL-1.0
// Interrupts and DMA memory of vfio without a device: this program's own ioctl() plays the kernel.
#include <phasebit/backend/vfio/dma_pool.hpp>
#include <phasebit/backend/vfio/interrupts.hpp>

#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <thread>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace phasebit;
namespace vfio = phasebit::backend::vfio;

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list remaining;
  va_start(remaining, request);
  void* const argument = va_arg(remaining, void*);
  va_end(remaining);
  switch (request) {
    case VFIO_IOMMU_GET_INFO:
      static_cast<::vfio_iommu_type1_info*>(argument)->flags = 0;
      return 0;
    case VFIO_DEVICE_GET_IRQ_INFO:
      static_cast<::vfio_irq_info*>(argument)->count = 4;
      return 0;
    case VFIO_IOMMU_MAP_DMA:
    case VFIO_IOMMU_UNMAP_DMA:
    case VFIO_DEVICE_SET_IRQS:
      return 0;
    default:
      return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
  }
}

TEST_CASE("a wait without end for an interrupt ends when it comes") {
  auto events = vfio::event_set::enable(-1, VFIO_PCI_MSIX_IRQ_INDEX, 4);
  REQUIRE(events);
  for (const std::uint64_t forever : {~std::uint64_t{0}, ~std::uint64_t{0} - 500'000}) {
    std::atomic<bool> raised{false};
    std::thread device{[&] {
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
      raised = true;
      const std::uint64_t one = 1;
      (void)!::write(events->descriptor(2), &one, sizeof one);
    }};
    CHECK(events->wait(2, forever));
    CHECK(raised);
    device.join();
  }
  CHECK_FALSE(events->wait(2, 1));
  CHECK(events->disable());
}

TEST_CASE("memory of a size or an alignment that no machine has is refused, and nothing wraps") {
  posix::unique_fd file{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  REQUIRE(file);
  auto pool = vfio::dma_pool::over(vfio::dma_space::of_container(std::move(file)));
  REQUIRE(pool);
  CHECK(pool->allocate(~std::size_t{0}, 64).error().code == errc::exhausted);
  CHECK(pool->allocate(~std::size_t{0} - (2U << 20), 4096).error().code == errc::exhausted);
  CHECK(pool->allocate(64, std::size_t{1} << 63).error().code == errc::exhausted);
  CHECK(pool->allocate(64, 64));
}

TEST_CASE("DMA memory is aligned in the program as it is on the bus") {
  posix::unique_fd file{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  REQUIRE(file);
  auto pool = vfio::dma_pool::over(vfio::dma_space::of_container(std::move(file)));
  REQUIRE(pool);
  for (const std::size_t alignment : {std::size_t{64}, std::size_t{4096}, std::size_t{2} << 20,
                                      std::size_t{8} << 20, std::size_t{64} << 20}) {
    CAPTURE(alignment);
    for (const std::size_t bytes : {std::size_t{64}, std::size_t{5000}, std::size_t{3} << 20}) {
      const auto got = pool->allocate(bytes, alignment);
      REQUIRE(got);
      CHECK(got->size() == bytes);
      CHECK(is_aligned(got->bus, alignment));
      CHECK(is_aligned(to_local(got->data()).value(), alignment));
    }
  }
}
