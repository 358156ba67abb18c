// SPDX-License-Identifier: BSL-1.0
// Drives an Intel VT-d IOMMU in scalable mode: first or second stage for requests without PASID, with the dirty bits
// that legacy mode lacks. VT-d specification, revision 4.1, 3.4.3 and 6.5.2.
#pragma once

#include <phasebit/iommu/driver/driver_base.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/formats/x86.hpp>
#include <phasebit/iommu/page_table/page_table_fwd.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>
#include <phasebit/iommu/vtd/detail/global_command.hpp>
#include <phasebit/iommu/vtd/device_table_scalable.hpp>
#include <phasebit/iommu/vtd/spec/registers.hpp>
#include <phasebit/iommu/vtd/spec/tables.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace phasebit::iommu::vtd {

// Each requester has a PASID directory and one PASID table, of which entry 0 (RID_PASID) is used: two pages of
// tables. Requests with PASID are refused. See driver_base.
template <Mmio Bar, TableMemory Tables, iommu::driver::DriverHost Host>
class scalable_driver
    : public iommu::driver::driver_base<scalable_driver<Bar, Tables, Host>, scalable_tables,
                                        command_codec, Bar, Tables, Host> {
  using base = iommu::driver::driver_base<scalable_driver, scalable_tables, command_codec, Bar,
                                          Tables, Host>;
  friend base;
  using context = scalable_context_entry;
  using space = typename Tables::space;

 public:
  // Errors: removed (no IOMMU answers), not_supported (no queued invalidation, no scalable mode, no stage in it),
  // those of tables and host.
  [[nodiscard]] static result<scalable_driver> open(Bar bar, Tables& tables, Host& host,
                                                    const iommu::driver::options& o = {}) noexcept {
    const cap cap{bar.read64(cap::offset)};
    const ecap ecap{bar.read64(ecap::offset)};
    if (cap.raw == ~std::uint64_t{0}) return failure(errc::removed, "no VT-d IOMMU answers here");
    if (!ecap[ecap::qi]) {
      return failure(errc::not_supported, "the IOMMU has no invalidation queue", ecap.raw);
    }
    if (!ecap[ecap::smts] || (!ecap[ecap::ssts] && !ecap[ecap::fsts])) {
      return failure(errc::not_supported, "the IOMMU has no scalable mode", ecap.raw);
    }
    PHASEBIT_EXPECTS(o.log2_commands >= 8 && o.log2_commands <= 14,
                     "an invalidation queue of wide descriptors has 256 to 16384 of them here");
    auto directory = base::directory::create({}, tables);
    if (!directory) return directory.error();
    const command_codec codec{.wide = true,
                              .page_selective = cap[cap::psi],
                              .max_address_mask = cap[cap::mamv],
                              .max_index_mask = ecap[ecap::mhmv],
                              .device_tlbs = ecap[ecap::dt],
                              .page_requests = false};
    constexpr iommu::driver::ring_registers ring{iqh::offset, iqt::offset};
    auto commands = base::channel::create(codec, bar, ring, host, o);
    if (!commands) return commands.error();
    scalable_driver made{base{bar, host, o, std::move(*directory), std::move(*commands)}, tables,
                         cap, ecap};
    const auto off = made.disable();
    if (!off) return off.error();
    return made;
  }
  scalable_driver(scalable_driver&& other) noexcept
      : base(std::move(other)),
        tables_(std::exchange(other.tables_, nullptr)),
        cap_(other.cap_),
        ecap_(other.ecap_) {}
  scalable_driver& operator=(scalable_driver&&) = delete;
  ~scalable_driver() {
    if (tables_ == nullptr) return;
    this->switch_off();
    for (std::uint32_t id = 0; id != 0x1'0000; ++id) release(this->directory_.get(id));
  }

  // The widest second-stage tables that this IOMMU walks.
  [[nodiscard]] vtd_second_stage second_stage() const noexcept {
    const unsigned widths = cap_[cap::sagaw];
    const unsigned width = (widths & 8) != 0 ? 3 : (widths & 4) != 0 ? 2 : 1;
    return {.width = static_cast<vtd_width>(width),
            .pages_2m = (cap_[cap::sslps] & 1) != 0,
            .pages_1g = (cap_[cap::sslps] & 2) != 0,
            .snoop_control = ecap_[ecap::sc]};
  }
  [[nodiscard]] x86_first_stage first_stage() const noexcept {
    return {.five_levels = false, .pages_1g = cap_[cap::fs1gp]};
  }
  [[nodiscard]] bool has_first_stage() const noexcept { return ecap_[ecap::fsts]; }
  [[nodiscard]] bool has_second_stage() const noexcept {
    return ecap_[ecap::ssts] && (cap_[cap::sagaw] & 14) != 0;
  }
  // The IOMMU records which pages are written to in second-stage tables with track_dirty. In first-stage tables it
  // always does.
  [[nodiscard]] bool tracks_dirty() const noexcept {
    return has_second_stage() && ecap_[ecap::ssads];
  }
  [[nodiscard]] bool coherent() const noexcept { return ecap_[ecap::c]; }
  [[nodiscard]] bool caches_absent() const noexcept { return cap_[cap::cm]; }

  [[nodiscard]] result<> enable() noexcept {
    Bar& bar = this->bar_;
    bar.write32(fectl::offset, fectl::im.of(true));
    bar.write64_lo_hi(rtaddr::offset, this->directory_.root().value() |
                                          rtaddr::ttm.of<std::uint64_t>(
                                              static_cast<std::uint8_t>(table_mode::scalable)));
    if (auto done = order(gcmd::srtp.of(true)); !done) return done;
    this->commands_.restart();
    // 2^QS pages of 128 wide descriptors.
    const auto pages = static_cast<std::uint8_t>(this->options_.log2_commands - 7);
    bar.write64_lo_hi(iqt::offset, 0);
    bar.write32(fsts::offset,
                fsts{}.with(fsts::iqe, true).with(fsts::ice, true).with(fsts::ite, true).raw);
    bar.write64_lo_hi(iqa::offset, this->commands_.ring_at().value() |
                                       iqa::dw.of<std::uint64_t>(true) |
                                       iqa::qs.of<std::uint64_t>(pages));
    if (auto done = order(gcmd::qie.of(true)); !done) return done;
    if (auto done = this->run(command::all_devices()); !done) return done;
    command processes;
    processes.kind = command_kind::invalidate_process;
    if (auto done = this->run(processes); !done) return done;
    if (auto done = this->run(command::all_translations()); !done) return done;
    return order(gcmd::te.of(true));
  }
  // Everything passes untranslated afterwards, as after a reset.
  result<> disable() noexcept {
    for (const std::uint32_t bit : {gcmd::te.of(true), gcmd::ire.of(true), gcmd::qie.of(true)}) {
      if ((this->bar_.read32(gsts::offset) & bit) == 0) continue;
      if (auto done = order(0, bit); !done) return done;
    }
    return {};
  }

  // Translates the accesses of `who` through these tables. Requesters of one domain share its tables, too. Errors:
  // not_supported (the stage, a width, a page size or dirty bits that the IOMMU has not), those of tables.
  template <TableReader Reader>
  result<> attach(pcie::requester_id who, std::uint16_t domain,
                  const page_table_view<vtd_second_stage, Reader>& through) noexcept {
    const vtd_second_stage& f = through.format();
    if (!has_second_stage() || (cap_[cap::sagaw] >> static_cast<unsigned>(f.width) & 1) == 0) {
      return failure(errc::not_supported,
                     "the IOMMU does not walk second-stage tables of this width", f.input_bits());
    }
    if (f.track_dirty && !tracks_dirty()) {
      return failure(errc::not_supported, "the IOMMU sets no dirty bits in second-stage tables",
                     ecap_.raw);
    }
    return point(who,
                 pasid_entry::second_stage(through.root().value(), f.width, domain, f.track_dirty));
  }
  template <TableReader Reader>
  result<> attach(pcie::requester_id who, std::uint16_t domain,
                  const page_table_view<x86_first_stage, Reader>& through) noexcept {
    const x86_first_stage& f = through.format();
    if (!has_first_stage() || (f.five_levels && !cap_[cap::fs5lp])) {
      return failure(errc::not_supported,
                     "the IOMMU does not walk first-stage tables of this width", f.input_bits());
    }
    if (f.pages_1g && !cap_[cap::fs1gp]) {
      return failure(errc::not_supported, "the IOMMU has no first-stage pages of 1 GiB", cap_.raw);
    }
    return point(who, pasid_entry::first_stage(through.root().value(), f.five_levels, domain));
  }
  // Nothing that `who` does is let through any more; what it did before has ended.
  result<> detach(pcie::requester_id who) noexcept { return replace(who, context{}); }

  // As flush(), for a domain whose tables are of the first stage: its translations are tagged with PASID, too.
  result<> flush_first_stage(std::uint16_t domain,
                             std::span<const invalidation_range<bus_space>> ranges) noexcept {
    for (const invalidation_range<bus_space>& range : ranges) {
      command c = command::whole_domain(domain);
      c.by_pasid = true;
      std::uint64_t at = range.first.value();
      for (;;) {
        c.by_range = true;
        c.tables = range.tables;
        const std::uint64_t covered = codec().split_range(c, at, range.last.value());
        if (auto done = this->run(c); !done) return done;
        if (!c.by_range || covered >= range.last.value()) break;
        at = covered + 1;
      }
    }
    return {};
  }

  [[nodiscard]] std::optional<translation_fault> next_fault() noexcept {
    return detail::take_fault(this->bar_, cap_);
  }

 private:
  static constexpr std::size_t page = 4096;

  scalable_driver(base&& b, Tables& tables, cap cap, ecap ecap) noexcept
      : base(std::move(b)), tables_(&tables), cap_(cap), ecap_(ecap) {}

  [[nodiscard]] command_codec codec() const noexcept {
    return {.wide = true, .page_selective = cap_[cap::psi], .max_address_mask = cap_[cap::mamv]};
  }
  [[nodiscard]] result<> order(std::uint32_t set, std::uint32_t reset = 0) noexcept {
    return detail::global_command(
        this->bar_, [&](auto&&... what) noexcept { return this->wait_for(what...); }, set, reset);
  }

  // Gives `who` a directory with this entry, and releases what it had before.
  [[nodiscard]] result<> point(pcie::requester_id who, const pasid_entry& made) noexcept {
    const auto top = tables_->allocate(page);
    if (!top) return top.error();
    const auto table = tables_->allocate(page);
    if (!table) {
      tables_->release(*top, page);
      return table.error();
    }
    pasid_tables::set_link(top->words, 1, table->at.value());
    replace_entry(table->words, made, []() noexcept {});
    const context next = context::with_directory(top->at.value(), 0);
    auto done = replace(who, next);
    // An entry that was not written names nothing; one that was is the IOMMU's until the next change.
    if (!done && this->directory_.get(who.raw()) != next) release(next);
    return done;
  }
  [[nodiscard]] result<> replace(pcie::requester_id who, const context& next) noexcept {
    const context before = this->directory_.get(who.raw());
    const std::uint16_t domain = domain_of(before);
    result<> forgotten;
    const auto forget = [&]() noexcept {
      forgotten = this->run(command::one_device(who.raw(), domain));
      // PASID 0 of the domain, whichever device it belongs to.
      if (forgotten) forgotten = this->run(command::one_process(who.raw(), 0, domain));
      if (forgotten) forgotten = this->flush_domain(domain);
      if (forgotten) forgotten = this->run(first_stage_of(domain));
    };
    if (auto set = this->directory_.set(who.raw(), next, forget); !set) return set;
    if (forgotten) release(before);
    if (forgotten && caches_absent()) {
      forgotten = this->run(command::one_device(who.raw(), 0));
      if (forgotten) forgotten = this->run(command::one_process(who.raw(), 0, 0));
    }
    return forgotten;
  }
  [[nodiscard]] static command first_stage_of(std::uint16_t domain) noexcept {
    command c = command::whole_domain(domain);
    c.by_pasid = true;
    return c;
  }

  // The PASID table of a context, or null.
  [[nodiscard]] table_word* table_of(const context& c, table_word** top = nullptr) const noexcept {
    if (!c[context::p]) return nullptr;
    table_word* const words = tables_->find(address<space>{c.address(context::pasiddirptr)}, page);
    if (top != nullptr) *top = words;
    if (words == nullptr) return nullptr;
    const directory_link link = pasid_tables::link(words, 1);
    if (link.status != walk_status::mapped) return nullptr;
    return tables_->find(address<space>{link.table}, page);
  }
  [[nodiscard]] std::uint16_t domain_of(const context& c) const noexcept {
    const table_word* const table = table_of(c);
    return table == nullptr ? std::uint16_t{0}
                            : load_entry_words<pasid_entry>(table)[pasid_entry::did];
  }
  void release(const context& c) noexcept {
    table_word* top = nullptr;
    table_word* const table = table_of(c, &top);
    if (table != nullptr) {
      const std::uint64_t at = pasid_tables::link(top, 1).table;
      __builtin_memset(table, 0, page);
      tables_->release({table, address<space>{at}}, page);
    }
    if (top == nullptr) return;
    __builtin_memset(top, 0, page);
    tables_->release({top, address<space>{c.address(context::pasiddirptr)}}, page);
  }
  [[nodiscard]] ring_fault_report fault() noexcept {
    return command_codec::fault(this->bar_.read32(fsts::offset));
  }

  Tables* tables_;
  cap cap_;
  ecap ecap_;
};

}  // namespace phasebit::iommu::vtd
