// SPDX-License-Identifier: BSL-1.0
// A device's regions under vfio: BARs, mapped where the kernel allows it, and configuration
// space by pread and pwrite.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/posix/config_file.hpp>
#include <phasebit/posix/memory_mapping.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace phasebit::backend::vfio {

// Where a region lies in the device's file, and which parts of it may be mapped.
struct region_info {
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
  struct area {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  std::vector<area> mappable;  // within the region
};

// The result of VFIO_DEVICE_GET_REGION_INFO: its chain of capabilities is walked within the bytes
// and for a bounded number of steps; an area that is not within the region is left out.
[[nodiscard]] inline region_info parse_region_info(std::span<const std::byte> bytes) {
  ::vfio_region_info info{};
  if (!bytes.empty()) std::memcpy(&info, bytes.data(), std::min(bytes.size(), sizeof info));
  region_info region{.size = info.size, .offset = info.offset, .mappable = {}};
  if ((info.flags & VFIO_REGION_INFO_FLAG_MMAP) == 0) return region;
  std::size_t at = (info.flags & VFIO_REGION_INFO_FLAG_CAPS) != 0 ? info.cap_offset : 0;
  bool sparse = false;
  for (int hops = 0; at != 0 && hops != 16; ++hops) {
    ::vfio_info_cap_header header{};
    if (at > bytes.size() || bytes.size() - at < sizeof header) break;
    std::memcpy(&header, bytes.data() + at, sizeof header);
    if (header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP) {
      sparse = true;
      // struct vfio_region_info_cap_sparse_mmap: a count and four reserved bytes, then the areas.
      std::uint32_t areas = 0;
      if (bytes.size() - at < sizeof header + 2 * sizeof areas) break;
      std::memcpy(&areas, bytes.data() + at + sizeof header, sizeof areas);
      const std::size_t first = at + sizeof header + 2 * sizeof areas;
      for (std::size_t i = 0; i != areas; ++i) {
        const std::size_t offset = first + i * sizeof(::vfio_region_sparse_mmap_area);
        ::vfio_region_sparse_mmap_area area{};
        if (offset > bytes.size() || bytes.size() - offset < sizeof area) break;
        std::memcpy(&area, bytes.data() + offset, sizeof area);
        if (area.offset <= region.size && area.size <= region.size - area.offset) {
          region.mappable.push_back({area.offset, area.size});
        }
      }
    }
    at = header.next;
  }
  if (!sparse) region.mappable.push_back({0, region.size});
  return region;
}

// Errors: not_found (the device has no such region), io.
[[nodiscard]] inline result<region_info> describe_region(int device, unsigned index) {
  std::vector<std::byte> bytes(sizeof(::vfio_region_info));
  ::vfio_region_info info{};
  for (int round = 0; round != 2; ++round) {
    info = {};
    info.argsz = static_cast<std::uint32_t>(bytes.size());
    info.index = index;
    std::memcpy(bytes.data(), &info, sizeof info);
    if (::ioctl(device, VFIO_DEVICE_GET_REGION_INFO, bytes.data()) != 0) {
      return posix::os_error("the kernel does not describe the region").at(index);
    }
    std::memcpy(&info, bytes.data(), sizeof info);
    if (info.argsz <= bytes.size()) break;
    bytes.resize(info.argsz);
  }
  if (info.size == 0) return failure(errc::not_found, "the function has no such BAR", index);

  return parse_region_info(bytes);
}

// A mapped BAR. Its address range is reserved whole; areas that the kernel does not map (an MSI-X
// table, on old kernels) stay unmapped and are reached by pread and pwrite. Owns the mapping.
class mapped_region {
 public:
  mapped_region() noexcept = default;

  [[nodiscard]] static result<mapped_region> map(int device, region_info info) {
    mapped_region made;
    auto whole = posix::memory_mapping::anonymous(info.size, MAP_NORESERVE);
    if (!whole) return whole.error();
    if (::mprotect(whole->data(), whole->size(), PROT_NONE) != 0) {
      return posix::os_error("the BAR's addresses cannot be reserved");
    }
    for (const auto& area : info.mappable) {
      void* const at = whole->data() + area.offset;
      if (::mmap(at, area.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, device,
                 static_cast<::off_t>(info.offset + area.offset)) == MAP_FAILED) {
        return posix::os_error("the BAR cannot be mapped");
      }
    }
    made.memory_ = std::move(*whole);
    made.info_ = std::move(info);
    made.device_ = device;
    return made;
  }

  [[nodiscard]] const region_info& info() const noexcept { return info_; }
  [[nodiscard]] std::byte* data() const noexcept { return memory_.data(); }
  [[nodiscard]] int device() const noexcept { return device_; }
  [[nodiscard]] bool maps(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    for (const auto& area : info_.mappable) {
      if (offset >= area.offset && bytes <= area.size &&
          offset - area.offset <= area.size - bytes) {
        return true;
      }
    }
    return false;
  }

 private:
  posix::memory_mapping memory_;
  region_info info_;
  int device_ = -1;
};

// Registers of a mapped BAR: the Mmio model. Trivially copyable; the function outlives it.
class bar {
 public:
  bar() noexcept = default;
  explicit bar(const mapped_region& region) noexcept : region_(&region) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    return read<std::uint32_t>(offset);
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept { write(offset, value); }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    return read<std::uint64_t>(offset);
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return region_->info().size; }

  // The register must lie where the BAR is mapped: a doorbell is a store, never a system call.
  [[nodiscard]] pcie::mmio_doorbell doorbell(std::uint32_t offset) noexcept {
    PHASEBIT_EXPECTS(region_->maps(offset, 4), "this doorbell lies where the kernel maps nothing");
    return pcie::mmio_doorbell{region_->data() + offset};
  }

  // Memory behind the BAR, such as the DRAM of an FPGA, uncached. Errors: out_of_range, not_supported
  // (the kernel does not map all of it).
  [[nodiscard]] result<std::span<std::byte>> memory(std::uint64_t offset,
                                                    std::uint64_t bytes) const noexcept {
    if (offset > size_bytes() || bytes > size_bytes() - offset) {
      return failure(errc::out_of_range, "the memory goes beyond the BAR, which has", size_bytes());
    }
    if (!region_->maps(offset, bytes)) {
      return failure(errc::not_supported, "the kernel does not map all of this memory", offset);
    }
    return std::span{region_->data() + offset, int_cast<std::size_t>(bytes)};
  }

 private:
  template <class T>
  [[nodiscard]] T read(std::uint32_t offset) noexcept {
    if (region_->maps(offset, sizeof(T))) [[likely]] {
      const T wire = mmio_load<T>(region_->data() + offset);
      after_mmio_read();
      return le<T>::from_wire(wire);
    }
    T value = static_cast<T>(~T{0});
    const auto got = ::pread(region_->device(), &value, sizeof value,
                             static_cast<::off_t>(region_->info().offset + offset));
    return got == sizeof value ? le<T>::from_wire(value) : static_cast<T>(~T{0});
  }
  template <class T>
  void write(std::uint32_t offset, T value) noexcept {
    const T wire = le<T>::to_wire(value);
    if (region_->maps(offset, sizeof(T))) [[likely]] {
      before_mmio_write();
      mmio_store<T>(region_->data() + offset, wire);
      return;
    }
    // A write to a removed device is lost, as on the bus.
    (void)!::pwrite(region_->device(), &wire, sizeof wire,
                    static_cast<::off_t>(region_->info().offset + offset));
  }

  const mapped_region* region_ = nullptr;
};
static_assert(Mmio<bar>);

using config_space = posix::config_file;

}  // namespace phasebit::backend::vfio
