// SPDX-License-Identifier: BSL-1.0
// Drives an Intel VT-d IOMMU: VT-d specification, revision 4.1; legacy mode with
// second-stage tables, and queued invalidation.
#pragma once

#include <phasebit/iommu/driver/driver_base.hpp>
#include <phasebit/iommu/driver/table_block.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/page_table_fwd.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>
#include <phasebit/iommu/vtd/detail/global_command.hpp>
#include <phasebit/iommu/vtd/device_table.hpp>
#include <phasebit/iommu/vtd/fault_codec.hpp>
#include <phasebit/iommu/vtd/spec/interrupt_tables.hpp>
#include <phasebit/iommu/vtd/spec/registers.hpp>
#include <phasebit/pcie/spec/msi_message.hpp>

#include <cstdint>
#include <optional>
#include <utility>

namespace phasebit::iommu::vtd {

template <Mmio Bar, TableMemory Tables, iommu::driver::DriverHost Host>
class driver : public iommu::driver::driver_base<driver<Bar, Tables, Host>, legacy_tables,
                                                 command_codec, Bar, Tables, Host> {
  using base = iommu::driver::driver_base<driver, legacy_tables, command_codec, Bar, Tables, Host>;
  friend base;
  using context = context_entry;

 public:
  // Errors: removed (no IOMMU answers), not_supported (no queued invalidation, no second stage), those
  // of tables and host.
  [[nodiscard]] static result<driver> open(Bar bar, Tables& tables, Host& host,
                                           const iommu::driver::options& o = {}) noexcept {
    const cap cap{bar.read64(cap::offset)};
    const ecap ecap{bar.read64(ecap::offset)};
    if (cap.raw == ~std::uint64_t{0}) return failure(errc::removed, "no VT-d IOMMU answers here");
    if (!ecap[ecap::qi]) {
      return failure(errc::not_supported, "the IOMMU has no invalidation queue", ecap.raw);
    }
    if ((cap[cap::sagaw] & 14) == 0) {
      return failure(errc::not_supported, "the IOMMU walks no second-stage tables", cap.raw);
    }
    PHASEBIT_EXPECTS(o.log2_commands >= 8 && o.log2_commands <= 15,
                     "an invalidation queue has 256 to 32768 descriptors");
    auto directory = base::directory::create({}, tables);
    if (!directory) return directory.error();
    const command_codec codec{.page_selective = cap[cap::psi],
                              .max_address_mask = cap[cap::mamv],
                              .max_index_mask = ecap[ecap::mhmv],
                              .device_tlbs = ecap[ecap::dt],
                              .page_requests = false};
    constexpr iommu::driver::ring_registers ring{iqh::offset, iqt::offset};
    auto commands = base::channel::create(codec, bar, ring, host, o);
    if (!commands) return commands.error();
    driver made{base{bar, host, o, std::move(*directory), std::move(*commands)}, cap, ecap};
    const auto off = made.disable();
    if (!off) return off.error();
    return made;
  }
  driver(driver&&) noexcept = default;
  driver& operator=(driver&&) = delete;
  ~driver() { this->switch_off(); }

  // The widest tables that this IOMMU walks.
  [[nodiscard]] vtd_second_stage format() const noexcept {
    const unsigned widths = cap_[cap::sagaw];
    const unsigned width = (widths & 8) != 0 ? 3 : (widths & 4) != 0 ? 2 : 1;
    return {.width = static_cast<vtd_width>(width),
            .pages_2m = (cap_[cap::sslps] & 1) != 0,
            .pages_1g = (cap_[cap::sslps] & 2) != 0,
            .snoop_control = ecap_[ecap::sc]};
  }
  [[nodiscard]] bool supports(vtd_width width) const noexcept {
    return (cap_[cap::sagaw] >> static_cast<unsigned>(width) & 1) != 0;
  }
  // The IOMMU snoops the processor's caches when it walks.
  [[nodiscard]] bool coherent() const noexcept { return ecap_[ecap::c]; }
  // Absent entries may be cached: tables are made with page_table_options::caching_mode.
  [[nodiscard]] bool caches_absent() const noexcept { return cap_[cap::cm]; }

  [[nodiscard]] result<> enable() noexcept {
    Bar& bar = this->bar_;
    bar.write32(fectl::offset, fectl::im.of(true));  // enabled by set-up of interrupts
    bar.write64_lo_hi(rtaddr::offset, this->directory_.root().value());
    if (auto done = order(gcmd::srtp.of(true)); !done) return done;
    this->commands_.restart();
    const auto pages = static_cast<std::uint8_t>(this->options_.log2_commands - 8);
    bar.write64_lo_hi(iqt::offset, 0);
    // Clears the error that stopped the queue, if any.
    bar.write32(fsts::offset,
                fsts{}.with(fsts::iqe, true).with(fsts::ice, true).with(fsts::ite, true).raw);
    bar.write64_lo_hi(iqa::offset,
                      this->commands_.ring_at().value() | iqa::qs.of<std::uint64_t>(pages));
    if (auto done = order(gcmd::qie.of(true)); !done) return done;
    if (auto done = this->run(command::all_devices()); !done) return done;
    if (auto done = this->run(command::all_translations()); !done) return done;
    return order(gcmd::te.of(true));
  }
  // Everything passes untranslated afterwards, as after a reset.
  result<> disable() noexcept {
    for (const std::uint32_t bit : {gcmd::te.of(true), gcmd::ire.of(true), gcmd::qie.of(true)}) {
      if ((status() & bit) == 0) continue;
      if (auto done = order(0, bit); !done) return done;
    }
    return {};
  }

  // Translates the accesses of `who` through these tables. Requesters of one domain share its tables,
  // too. Errors: not_supported (a width that the IOMMU has not), those of the directory.
  template <TableReader Reader>
  result<> attach(pcie::requester_id who, std::uint16_t domain,
                  const page_table_view<vtd_second_stage, Reader>& through) noexcept {
    const vtd_width width = through.format().width;
    if (!supports(width)) {
      return failure(errc::not_supported, "the IOMMU does not walk tables of this width",
                     through.format().input_bits());
    }
    if (through.format().track_dirty) {
      return failure(errc::not_supported,
                     "dirty bits of the second stage need scalable mode (scalable_driver), and "
                     "this driver uses "
                     "legacy mode");
    }
    return change(who, context::translated(through.root().value(), width, domain));
  }
  // Nothing that `who` does is let through any more; what it did before has ended.
  result<> detach(pcie::requester_id who) noexcept { return change(who, context{}); }

  // Messages of devices become interrupts by a table of 2^log2_entries entries (8 to 16), which are
  // absent at first; messages that name no entry are blocked. After enable(), and again after a
  // disable(). Errors: not_supported, those of tables.
  result<> remap_interrupts(Tables& tables, unsigned log2_entries) noexcept {
    PHASEBIT_EXPECTS(log2_entries >= 8 && log2_entries <= 16,
                     "an interrupt remapping table has 256 to 65536 entries");
    if (!ecap_[ecap::ir]) return failure(errc::not_supported, "the IOMMU remaps no interrupts");
    if ((status() & gcmd::ire.of(true)) != 0) {
      if (auto off = order(0, gcmd::ire.of(true)); !off) return off;
    }
    auto made = iommu::driver::table_block<Tables>::allocate(tables, sizeof(interrupt_entry)
                                                                         << log2_entries);
    if (!made) return made.error();
    interrupts_ = std::move(*made);
    log2_interrupts_ = log2_entries;
    const auto size = static_cast<std::uint8_t>(log2_entries - 1);
    this->bar_.write64_lo_hi(irta::offset, interrupts_.at() | irta::s.of<std::uint64_t>(size));
    if (auto done = order(gcmd::sirtp.of(true)); !done) return done;
    if (auto done = this->run(command::all_interrupt_entries()); !done) return done;
    if ((status() & gcmd::cfi.of(true)) != 0) {
      if (auto done = order(0, gcmd::cfi.of(true)); !done) return done;
    }
    return order(gcmd::ire.of(true));
  }
  // Entry `index` becomes `next`; an entry of zeros is absent. The result is the message that has the
  // device use it. Errors: not_ready (no remap_interrupts()), out_of_range.
  result<pcie::msi_message> set_interrupt(std::uint16_t index,
                                          const interrupt_entry& next) noexcept {
    if (!interrupts_) return failure(errc::not_ready, "interrupt remapping was not set up");
    if (std::uint32_t{index} >> log2_interrupts_ != 0) {
      return failure(errc::out_of_range, "the interrupt remapping table ends before", index);
    }
    result<> forgotten;
    replace_entry(interrupts_.words() + std::size_t{index} * next.word_count, next, [&]() noexcept {
      forgotten = this->run(command::interrupt_entries(index, index));
    });
    if (!forgotten) return forgotten.error();
    const auto to = remappable_address::of(index, false);
    return pcie::msi_message{bus_addr{to.raw}, 0};
  }

  // The oldest fault that is recorded, whose register is free then.
  [[nodiscard]] std::optional<translation_fault> next_fault() noexcept {
    return detail::take_fault(this->bar_, cap_);
  }

 private:
  driver(base&& b, cap cap, ecap ecap) noexcept : base(std::move(b)), cap_(cap), ecap_(ecap) {}

  [[nodiscard]] std::uint32_t status() noexcept { return this->bar_.read32(gsts::offset); }
  [[nodiscard]] result<> order(std::uint32_t set, std::uint32_t reset = 0) noexcept {
    return detail::global_command(
        this->bar_, [&](auto&&... what) noexcept { return this->wait_for(what...); }, set, reset);
  }

  [[nodiscard]] result<> change(pcie::requester_id who, const context& next) noexcept {
    if (auto done = this->replace(who, next); !done) return done;
    // 6.1: in caching mode absent entries are remembered, too, under domain 0.
    return caches_absent() ? this->run(command::one_device(who.raw(), 0)) : result<>{};
  }
  [[nodiscard]] static std::uint16_t domain_of(const context& c) noexcept {
    return c[context::did];
  }
  [[nodiscard]] ring_fault_report fault() noexcept {
    return command_codec::fault(this->bar_.read32(fsts::offset));
  }

  cap cap_;
  ecap ecap_;
  iommu::driver::table_block<Tables> interrupts_;
  unsigned log2_interrupts_ = 0;
};

}  // namespace phasebit::iommu::vtd
