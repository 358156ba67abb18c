// SPDX-License-Identifier: BSL-1.0
// Emulated IOMMUs outside of any fabric, and drivers of them: over a plain struct of callbacks, and memory that is
// mapped or only read and written.
#pragma once

#include <phasebit/iommu/amd/device.hpp>
#include <phasebit/iommu/amd/driver.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/device.hpp>
#include <phasebit/iommu/riscv/driver.hpp>
#include <phasebit/iommu/smmuv3/device.hpp>
#include <phasebit/iommu/smmuv3/driver.hpp>
#include <phasebit/iommu/vtd/device.hpp>
#include <phasebit/iommu/vtd/driver.hpp>
#include <phasebit/iommu/vtd/scalable_driver.hpp>
#include <phasebit/memory/dma_arena.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit::iommu {

namespace {

constexpr std::uint64_t base = 0x4000'0000;
constexpr std::size_t memory_bytes = 2 << 20;
constexpr pcie::requester_id disk{0, 4, 0};
constexpr pcie::requester_id other{0, 5, 0};

// The host of an IOMMU, as callbacks.
struct callbacks {
  void* self = nullptr;
  result<mapped_range> (*map_)(void*, host_phys, std::uint64_t) noexcept = nullptr;
  result<> (*read_)(void*, host_phys, std::span<std::byte>) noexcept = nullptr;
  result<> (*write_)(void*, host_phys, std::span<const std::byte>) noexcept = nullptr;
  void (*interrupt_)(void*, std::uint16_t) noexcept = nullptr;
  std::uint64_t (*now_)(void*) noexcept = nullptr;

  result<mapped_range> map(host_phys at, std::uint64_t bytes, phasebit::access) noexcept {
    return map_(self, at, bytes);
  }
  result<> read(host_phys at, std::span<std::byte> to) noexcept { return read_(self, at, to); }
  result<> write(host_phys at, std::span<const std::byte> from) noexcept {
    return write_(self, at, from);
  }
  void raise(std::uint16_t source) noexcept { interrupt_(self, source); }
  void send(std::uint16_t source, const pcie::msi_message&) noexcept { interrupt_(self, source); }
  std::uint64_t now() noexcept { return now_(self); }
};
static_assert(DmaPort<callbacks, host_space>);
static_assert(InterruptSink<callbacks> && MessageSink<callbacks>);
static_assert(device::DeviceClock<callbacks>);

// The machine behind the callbacks.
struct machine {
  bool mapped = true;
  std::vector<std::byte> storage = std::vector<std::byte>(memory_bytes + 0x1'0000);
  std::byte* bytes =
      storage.data() + (0x1'0000 - reinterpret_cast<std::uintptr_t>(storage.data()) % 0x1'0000);
  unsigned interrupts = 0;
  unsigned copies = 0;
  std::uint64_t time = 0;
  callbacks host{this, &map, &read, &write, &interrupt, &now};

  static std::optional<std::uint64_t> inside(host_phys at, std::uint64_t size) noexcept {
    const std::uint64_t offset = at.value() - base;
    if (offset >= memory_bytes || size > memory_bytes - offset) return std::nullopt;
    return offset;
  }
  static result<mapped_range> map(void* self, host_phys at, std::uint64_t size) noexcept {
    auto& m = *static_cast<machine*>(self);
    const auto offset = inside(at, 1);
    if (!offset) return failure(errc::not_mapped, "no memory is here", at.value());
    const std::uint64_t left = memory_bytes - *offset;
    return mapped_range{m.mapped ? to_local(m.bytes + *offset).value() : 0,
                        size < left ? size : left,
                        m.mapped ? memory_domain::local : memory_domain::unmapped};
  }
  static result<> read(void* self, host_phys at, std::span<std::byte> to) noexcept {
    auto& m = *static_cast<machine*>(self);
    const auto offset = inside(at, to.size());
    if (!offset) return failure(errc::not_mapped, "no memory is here", at.value());
    std::memcpy(to.data(), m.bytes + *offset, to.size());
    ++m.copies;
    return {};
  }
  static result<> write(void* self, host_phys at, std::span<const std::byte> from) noexcept {
    auto& m = *static_cast<machine*>(self);
    const auto offset = inside(at, from.size());
    if (!offset) return failure(errc::not_mapped, "no memory is here", at.value());
    std::memcpy(m.bytes + *offset, from.data(), from.size());
    ++m.copies;
    return {};
  }
  static void interrupt(void* self, std::uint16_t) noexcept {
    ++static_cast<machine*>(self)->interrupts;
  }
  static std::uint64_t now(void* self) noexcept { return static_cast<machine*>(self)->time; }
};

// Registers of a device as a BAR: direct calls.
template <class Device>
struct direct_bar {
  struct doorbell_type {
    Device* device = nullptr;
    std::uint32_t at = 0;
    void ring(std::uint32_t value) noexcept { device->write32(at, value); }
  };
  Device* device = nullptr;

  [[nodiscard]] std::uint32_t read32(std::uint32_t at) noexcept { return device->read32(at); }
  [[nodiscard]] std::uint64_t read64(std::uint32_t at) noexcept {
    const std::uint64_t low = read32(at);
    return low | std::uint64_t{read32(at + 4)} << 32;
  }
  void write32(std::uint32_t at, std::uint32_t value) noexcept { device->write32(at, value); }
  void write64_lo_hi(std::uint32_t at, std::uint64_t value) noexcept {
    write32(at, static_cast<std::uint32_t>(value));
    write32(at + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return Device::register_bytes; }
  [[nodiscard]] doorbell_type doorbell(std::uint32_t at) noexcept { return {device, at}; }
};

// Memory and time for the driver: the last 256 KiB of the machine.
struct driver_host {
  using ring_order = thread_order;
  struct clock_type {
    machine* m;
    std::uint64_t now() noexcept { return m->time += nanoseconds_per_ms; }
    void relax() noexcept {}
  };
  machine* m;
  dma_arena<> arena;
  explicit driver_host(machine& on) noexcept
      : m(&on),
        arena(dma_region{{on.bytes + memory_bytes - 0x4'0000, 0x4'0000},
                         bus_addr{base + memory_bytes - 0x4'0000}}) {}
  [[nodiscard]] result<dma_region> allocate(std::size_t size, std::size_t alignment) noexcept {
    return arena.allocate(size, alignment);
  }
  void release(dma_region region) noexcept { arena.release(region); }
  [[nodiscard]] clock_type clock() noexcept { return {m}; }
};

using tables = table_arena<256>;

using vtd_device = vtd::device<callbacks, callbacks, callbacks>;
using amd_device = amd::device<callbacks, callbacks, callbacks>;
using smmuv3_device = smmuv3::device<callbacks, callbacks, callbacks>;
using riscv_device = riscv::device<callbacks, callbacks, callbacks>;

struct with_vtd {
  using device = vtd_device;
  using driver = vtd::driver<direct_bar<device>, tables, driver_host>;
  using format = vtd_second_stage;
  static format format_of(const driver& d) { return d.format(); }
};
struct with_vtd_scalable {
  using device = vtd_device;
  using driver = vtd::scalable_driver<direct_bar<device>, tables, driver_host>;
  using format = vtd_second_stage;
  static format format_of(const driver& d) { return d.second_stage(); }
};
struct with_vtd_first_stage : with_vtd_scalable {
  using format = x86_first_stage;
  static format format_of(const driver& d) { return d.first_stage(); }
};
struct with_amd {
  using device = amd_device;
  using driver = amd::driver<direct_bar<device>, tables, driver_host>;
  using format = amd_v1;
  static format format_of(const driver&) { return {.mode = 4, .address_bits = 48}; }
};
struct with_smmuv3 {
  using device = smmuv3_device;
  using driver = smmuv3::driver<12, direct_bar<device>, tables, driver_host>;
  using format = arm_stage2<12>;
  static format format_of(const driver& d) { return d.format(); }
};
struct with_riscv {
  using device = riscv_device;
  using driver = riscv::driver<direct_bar<device>, tables, driver_host>;
  using format = riscv_second_stage;
  static format format_of(const driver& d) { return d.format(); }
};

}  // namespace

}  // namespace phasebit::iommu
