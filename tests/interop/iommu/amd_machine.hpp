// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/iommu/amd/driver.hpp>

#include <interop/iommu/rig.hpp>

namespace phasebit_test {

// QEMU's amd-iommu in front of the disks of a Q35, with tables of `Levels` levels.
template <unsigned Levels, unsigned Major = 0>
struct amd_machine {
  using unit = iommu::amd::driver<qtest::bar, unit_tables, qtest::function>;
  using format_type = iommu::amd_v1;

  static std::string program() { return qemu_of(Major, qtest::options{}.board.program); }
  // Since QEMU 11 the IOMMU translates only where that was asked for, and writes events.
  static bool writes_events() {
    static const bool found =
        printed_by(program(), "-device amd-iommu,help").find("dma-remap=") != std::string::npos;
    return found;
  }
  static qtest::options options() {
    qtest::options o;
    o.program = program();
    o.devices = {writes_events() ? "amd-iommu,dma-remap=on" : "amd-iommu"};
    return o;
  }
  static constexpr bool logs_cached_refusals = false;
  static constexpr bool claims_pasids = false;
  static bool looks_at_upper_bits() { return writes_events(); }
  static constexpr bool forgets_by_range = false;
  static constexpr bool knows_malformed = false;
  static result<unit> open(qtest::machine& m, unit_tables& tables, qtest::function& host) {
    return unit::open(m.registers(0xfed8'0000, 0x4000), tables, host);
  }
  static format_type format(const unit& u) {
    CHECK(u.format().mode >= Levels);
    return {.mode = Levels};
  }
  // IO_PAGE_FAULT; none for a device whose entry permits nothing.
  static std::optional<std::uint16_t> code(wrong what) {
    if (!writes_events() || what == wrong::no_device) return std::nullopt;
    return 2;
  }
  // QEMU 11 sets I, which is for interrupts, and leaves the address 0; requester and code are right.
  static bool is_record_of(const iommu::translation_fault& f, std::uint16_t code,
                           phasebit::pcie::requester_id who, std::optional<std::uint64_t>, access) {
    return f.requester == who && f.code == code && f.interrupt && f.address == 0 && !f.has_pasid;
  }
};

}  // namespace phasebit_test
