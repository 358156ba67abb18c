// SPDX-License-Identifier: BSL-1.0
// The I/O address space of a device under vfio, by either of the kernel's two interfaces.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <linux/vfio.h>
#include <sys/ioctl.h>

namespace phasebit::backend::vfio {

// Addresses that the kernel allows to be mapped; both ends included.
struct iova_range {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

namespace kernel {

// iommufd and the character devices of vfio came with Linux 6.2 and 6.6; the headers of the
// system that we are built on may be older. Layouts and numbers: include/uapi/linux/iommufd.h and
// vfio.h of Linux 6.6.
struct bind_iommufd {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::int32_t iommufd;
  std::uint32_t out_devid;
};
struct attach_iommufd {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t pt_id;
};
struct ioas_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t out_ioas_id;
};
struct ioas_ranges {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint32_t num_iovas;
  std::uint32_t reserved;
  std::uint64_t allowed_iovas;  // a pointer to iova_range
  std::uint64_t out_iova_alignment;
};
struct ioas_map {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t ioas_id;
  std::uint32_t reserved;
  std::uint64_t user_va;
  std::uint64_t length;
  std::uint64_t iova;
};
struct ioas_unmap {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint64_t iova;
  std::uint64_t length;
};
static_assert(sizeof(bind_iommufd) == 16 && sizeof(attach_iommufd) == 12 &&
              sizeof(ioas_alloc) == 12 && sizeof(ioas_ranges) == 32 && sizeof(ioas_map) == 40 &&
              sizeof(ioas_unmap) == 24 && sizeof(iova_range) == 16);

inline constexpr unsigned long bind_iommufd_request = _IO(VFIO_TYPE, VFIO_BASE + 18);
inline constexpr unsigned long attach_iommufd_request = _IO(VFIO_TYPE, VFIO_BASE + 19);
inline constexpr unsigned long ioas_alloc_request = _IO(';', 0x81);
inline constexpr unsigned long ioas_ranges_request = _IO(';', 0x84);
inline constexpr unsigned long ioas_map_request = _IO(';', 0x85);
inline constexpr unsigned long ioas_unmap_request = _IO(';', 0x86);
inline constexpr std::uint32_t ioas_fixed_iova = 1;
inline constexpr std::uint32_t ioas_writeable = 2;
inline constexpr std::uint32_t ioas_readable = 4;

}  // namespace kernel

// The ranges in what VFIO_IOMMU_GET_INFO answers: a chain of capabilities, walked within the bytes and
// for a bounded number of steps. All of the space where the answer has none.
[[nodiscard]] inline std::vector<iova_range> parse_iova_ranges(std::span<const std::byte> bytes) {
  ::vfio_iommu_type1_info info{};
  if (!bytes.empty()) std::memcpy(&info, bytes.data(), std::min(bytes.size(), sizeof info));
  std::vector<iova_range> found;
  std::size_t at = (info.flags & VFIO_IOMMU_INFO_CAPS) != 0 ? info.cap_offset : 0;
  for (int hops = 0; at != 0 && hops != 16; ++hops) {
    ::vfio_info_cap_header header{};
    if (at > bytes.size() || bytes.size() - at < sizeof header) break;
    std::memcpy(&header, bytes.data() + at, sizeof header);
    if (header.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
      // struct vfio_iommu_type1_info_cap_iova_range: a count and four reserved bytes, then ranges.
      std::uint32_t count = 0;
      if (bytes.size() - at < sizeof header + 2 * sizeof count) break;
      std::memcpy(&count, bytes.data() + at + sizeof header, sizeof count);
      const std::size_t first = at + sizeof header + 2 * sizeof count;
      for (std::size_t i = 0; i != count; ++i) {
        const std::size_t offset = first + i * sizeof(iova_range);
        if (offset > bytes.size() || bytes.size() - offset < sizeof(iova_range)) break;
        iova_range range{};
        std::memcpy(&range, bytes.data() + offset, sizeof range);
        found.push_back(range);
      }
    }
    at = header.next;
  }
  if (found.empty()) found.push_back({0, ~std::uint64_t{0}});
  return found;
}

// Maps memory of this process for the device. Owns the descriptor that keeps the mappings alive.
// Move-only; one thread at a time.
class dma_space {
 public:
  dma_space() noexcept = default;
  // A type 1 container whose IOMMU is set.
  [[nodiscard]] static dma_space of_container(posix::unique_fd container) noexcept {
    dma_space s;
    s.fd_ = std::move(container);
    return s;
  }
  // An I/O address space of an iommufd.
  [[nodiscard]] static dma_space of_iommufd(posix::unique_fd iommufd, std::uint32_t ioas) noexcept {
    dma_space s;
    s.fd_ = std::move(iommufd);
    s.ioas_ = ioas;
    s.is_iommufd_ = true;
    return s;
  }

  [[nodiscard]] bool is_iommufd() const noexcept { return is_iommufd_; }

  // The ranges that mappings may use; the whole space where an old kernel does not report them.
  [[nodiscard]] result<std::vector<iova_range>> ranges() const {
    return is_iommufd_ ? iommufd_ranges() : container_ranges();
  }

  // `memory` is page aligned, as is `at`. Errors: exhausted names the limit that was met
  // (RLIMIT_MEMLOCK, or the number of mappings that the kernel keeps), overlap.
  [[nodiscard]] result<> map(std::span<std::byte> memory, bus_addr at) noexcept {
    int failed = 0;
    if (is_iommufd_) {
      kernel::ioas_map request{
          .size = sizeof(kernel::ioas_map),
          .flags = kernel::ioas_fixed_iova | kernel::ioas_writeable | kernel::ioas_readable,
          .ioas_id = ioas_,
          .reserved = 0,
          .user_va = to_local(memory.data()).value(),
          .length = memory.size(),
          .iova = at.value()};
      failed = ::ioctl(fd_.get(), kernel::ioas_map_request, &request);
    } else {
      ::vfio_iommu_type1_dma_map request{};
      request.argsz = sizeof request;
      request.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
      request.vaddr = to_local(memory.data()).value();
      request.iova = at.value();
      request.size = memory.size();
      failed = ::ioctl(fd_.get(), VFIO_IOMMU_MAP_DMA, &request);
    }
    if (failed == 0) return {};
    switch (errno) {
      case ENOMEM:
        return failure(errc::exhausted,
                       "the kernel pins no more memory for this process: raise RLIMIT_MEMLOCK "
                       "(ulimit -l); bytes",
                       memory.size());
      case ENOSPC:
        return failure(errc::exhausted,
                       "the kernel keeps no more mappings for this container: raise the "
                       "parameter dma_entry_limit of vfio_iommu_type1");
      case EEXIST:
        return failure(errc::overlap, "something is mapped at this I/O address", at.value());
      case EINVAL:
      case ERANGE:
        return failure(errc::out_of_range,
                       "the kernel does not let this I/O address be mapped, see ranges()",
                       at.value());
      default:
        return posix::os_error("the memory cannot be mapped for the device");
    }
  }

  // Unmaps exactly what one map() mapped. From then on accesses of the device are stopped.
  [[nodiscard]] result<> unmap(bus_addr at, std::uint64_t bytes) noexcept {
    int failed = 0;
    if (is_iommufd_) {
      kernel::ioas_unmap request{.size = sizeof(kernel::ioas_unmap),
                                 .ioas_id = ioas_,
                                 .iova = at.value(),
                                 .length = bytes};
      failed = ::ioctl(fd_.get(), kernel::ioas_unmap_request, &request);
    } else {
      ::vfio_iommu_type1_dma_unmap request{};
      request.argsz = sizeof request;
      request.iova = at.value();
      request.size = bytes;
      failed = ::ioctl(fd_.get(), VFIO_IOMMU_UNMAP_DMA, &request);
      // The kernel returns how much was unmapped; less means that this was not a mapping of this object.
      if (failed == 0 && request.size != bytes) {
        return failure(errc::not_found, "this range was not mapped as one", at.value());
      }
    }
    if (failed == 0) return {};
    return posix::os_error("the memory cannot be unmapped from the device");
  }

 private:
  [[nodiscard]] result<std::vector<iova_range>> iommufd_ranges() const {
    std::vector<iova_range> found(64);
    kernel::ioas_ranges request{.size = sizeof(kernel::ioas_ranges),
                                .ioas_id = ioas_,
                                .num_iovas = static_cast<std::uint32_t>(found.size()),
                                .reserved = 0,
                                .allowed_iovas = to_local(found.data()).value(),
                                .out_iova_alignment = 0};
    if (::ioctl(fd_.get(), kernel::ioas_ranges_request, &request) != 0) {
      return posix::os_error("the kernel does not report the valid I/O addresses");
    }
    found.resize(std::min<std::size_t>(request.num_iovas, found.size()));
    return found;
  }

  [[nodiscard]] result<std::vector<iova_range>> container_ranges() const {
    std::vector<std::byte> bytes(sizeof(::vfio_iommu_type1_info));
    ::vfio_iommu_type1_info info{};
    for (int round = 0; round != 2; ++round) {
      info = {};
      info.argsz = static_cast<std::uint32_t>(bytes.size());
      std::memcpy(bytes.data(), &info, sizeof info);
      if (::ioctl(fd_.get(), VFIO_IOMMU_GET_INFO, bytes.data()) != 0) {
        return posix::os_error("the kernel does not describe its IOMMU");
      }
      std::memcpy(&info, bytes.data(), sizeof info);
      if (info.argsz <= bytes.size()) break;
      bytes.resize(info.argsz);
    }
    return parse_iova_ranges(bytes);
  }

  posix::unique_fd fd_;
  std::uint32_t ioas_ = 0;
  bool is_iommufd_ = false;
};

}  // namespace phasebit::backend::vfio
