// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/iommu/vtd/scalable_driver.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <interop/iommu/body.hpp>

namespace phasebit_test {

// The driver of scalable mode as the tests use drivers: flush() as the stage has it.
class vtd_first_stage_unit
    : public iommu::vtd::scalable_driver<qtest::bar, unit_tables, qtest::function> {
  using base = iommu::vtd::scalable_driver<qtest::bar, unit_tables, qtest::function>;

 public:
  vtd_first_stage_unit(base&& b) : base(std::move(b)) {}
  result<> flush(std::uint16_t domain,
                 std::span<const iommu::invalidation_range<bus_space>> ranges) noexcept {
    return flush_first_stage(domain, ranges);
  }
  result<> flush_domain(std::uint16_t domain) noexcept {
    iommu::command c = iommu::command::whole_domain(domain);
    c.by_pasid = true;
    return this->run(c);
  }
};

// QEMU 11's intel-iommu in scalable mode, through tables of the first stage.
struct vtd_first_stage_machine {
  using unit = vtd_first_stage_unit;
  using format_type = iommu::x86_first_stage;

  static constexpr bool logs_cached_refusals = false;
  static constexpr bool claims_pasids = false;
  static bool looks_at_upper_bits() { return true; }
  static constexpr bool forgets_by_range = true;
  static constexpr bool knows_malformed = false;

  static qtest::options options() {
    qtest::options o;
    o.program = newer_qemu(o.board.program, 11);
    o.devices = {"intel-iommu,aw-bits=48,scalable-mode=on,fsts=on"};
    return o;
  }
  static result<unit> open(qtest::machine& m, unit_tables& tables, qtest::function& host) {
    auto made = iommu::vtd::scalable_driver<qtest::bar, unit_tables, qtest::function>::open(
        m.registers(0xfed9'0000, 0x1000), tables, host);
    if (!made) return made.error();
    return unit{std::move(*made)};
  }
  static format_type format(const unit& u) {
    CHECK(u.has_first_stage());
    return u.first_stage();
  }
  static std::optional<std::uint16_t> code(wrong what) {
    switch (what) {
      case wrong::reads_unmapped:
      case wrong::writes_unmapped:
        return 0x71;
      case wrong::writes_read_only:
        return 0x85;
      case wrong::reads_write_only:
        return 0x81;
      case wrong::beyond_width:
        return 0x80;
      case wrong::malformed:
        return 0x72;
      case wrong::no_device:
        return 0x02;  // of legacy mode; 7.1.3 has 41h
    }
    return std::nullopt;
  }
};

}  // namespace phasebit_test
