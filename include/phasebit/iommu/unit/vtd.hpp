// SPDX-License-Identifier: BSL-1.0
// Drives an Intel VT-d remapping unit: VT-d specification, revision 4.1; legacy mode with
// second-stage tables, and queued invalidation.
#pragma once

#include <phasebit/iommu/commands/vtd.hpp>
#include <phasebit/iommu/device_table.hpp>
#include <phasebit/iommu/faults/vtd.hpp>
#include <phasebit/iommu/formats/vtd.hpp>
#include <phasebit/iommu/spec/vtd_registers.hpp>
#include <phasebit/iommu/unit/command_channel.hpp>
#include <phasebit/iommu/unit/host.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace phasebit::iommu::unit {

// From open() on the unit is ours: what it did before has ended, and after enable() it lets through
// what is attached and nothing else. The tables and the memory for queues are the unit's own view of
// memory: what Tables and Host hand out is coherent, or mapped uncached where coherent() is false.
// One thread. Move-only; the destructor switches the unit off.
//
// Errors of every call: timed_out and removed (the unit), protocol (it refused a command).
template <Mmio Bar, TableMemory Tables, UnitHost Host>
class vtd {
  using directory = device_table<iommu::vtd::legacy_tables, Tables>;
  using channel = command_channel<vtd_commands, Bar, Host>;
  using context = iommu::vtd::context_entry;

 public:
  using tables_type = vtd_second_stage;

  // Errors: removed (no unit answers), not_supported (no queued invalidation, no second stage), those
  // of tables and host.
  [[nodiscard]] static result<vtd> open(Bar bar, Tables& tables, Host& host,
                                        const options& o = {}) noexcept {
    const iommu::vtd::cap cap{bar.read64(iommu::vtd::cap::offset)};
    const iommu::vtd::ecap ecap{bar.read64(iommu::vtd::ecap::offset)};
    if (cap.raw == ~std::uint64_t{0}) return failure(errc::removed, "no VT-d unit answers here");
    if (!ecap[iommu::vtd::ecap::qi]) {
      return failure(errc::not_supported, "the unit has no invalidation queue", ecap.raw);
    }
    if ((cap[iommu::vtd::cap::sagaw] & 14) == 0) {
      return failure(errc::not_supported, "the unit walks no second-stage tables", cap.raw);
    }
    auto directory_made = directory::create({}, tables);
    if (!directory_made) return directory_made.error();
    const vtd_commands dialect{.page_selective = cap[iommu::vtd::cap::psi],
                               .max_address_mask = cap[iommu::vtd::cap::mamv],
                               .max_index_mask = ecap[iommu::vtd::ecap::mhmv],
                               .device_tlbs = ecap[iommu::vtd::ecap::dt],
                               .page_requests = false};
    auto commands =
        channel::create(dialect, bar, {iommu::vtd::iqh::offset, iommu::vtd::iqt::offset}, host, o);
    if (!commands) return commands.error();
    vtd made{bar, host, cap, ecap, o, std::move(*directory_made), std::move(*commands)};
    const auto off = made.disable();
    if (!off) return off.error();
    return made;
  }
  vtd(vtd&& other) noexcept
      : bar_(other.bar_),
        host_(other.host_),
        cap_(other.cap_),
        ecap_(other.ecap_),
        options_(other.options_),
        directory_(std::move(other.directory_)),
        commands_(std::move(other.commands_)),
        owner_(std::exchange(other.owner_, false)) {}
  vtd& operator=(vtd&&) = delete;
  ~vtd() {
    if (owner_) static_cast<void>(disable());
  }

  // The widest tables that this unit walks.
  [[nodiscard]] vtd_second_stage format() const noexcept {
    using iommu::vtd::cap;
    const unsigned widths = cap_[cap::sagaw];
    const unsigned width = (widths & 8) != 0 ? 3 : (widths & 4) != 0 ? 2 : 1;
    return {.width = static_cast<vtd_width>(width),
            .pages_2m = (cap_[cap::sslps] & 1) != 0,
            .pages_1g = (cap_[cap::sslps] & 2) != 0,
            .snoop_control = ecap_[iommu::vtd::ecap::sc]};
  }
  [[nodiscard]] bool supports(vtd_width width) const noexcept {
    return (cap_[iommu::vtd::cap::sagaw] >> static_cast<unsigned>(width) & 1) != 0;
  }
  // The unit snoops the processor's caches when it walks.
  [[nodiscard]] bool coherent() const noexcept { return ecap_[iommu::vtd::ecap::c]; }
  // Absent entries may be cached: tables are made with page_table_options::announce_new.
  [[nodiscard]] bool caches_absent() const noexcept { return cap_[iommu::vtd::cap::cm]; }

  [[nodiscard]] result<> enable() noexcept {
    using namespace iommu::vtd;
    bar_.write32(fectl::offset, fectl::im.of(true));  // whoever wants faults asks
    bar_.write64_lo_hi(rtaddr::offset, directory_.root().value());
    if (auto done = order(gcmd::srtp.of(true)); !done) return done;
    commands_.restart();
    bar_.write64_lo_hi(iqt::offset, 0);
    const auto pages = static_cast<std::uint8_t>(options_.log2_commands - 8);
    bar_.write64_lo_hi(iqa::offset, commands_.ring_at().value() | iqa::qs.of<std::uint64_t>(pages));
    if (auto done = order(gcmd::qie.of(true)); !done) return done;
    if (auto done = run(command::all_devices()); !done) return done;
    if (auto done = run(command::all_translations()); !done) return done;
    return order(gcmd::te.of(true));
  }
  // Everything passes untranslated afterwards, as after a reset.
  result<> disable() noexcept {
    using iommu::vtd::gcmd;
    for (const std::uint32_t bit : {gcmd::te.of(true), gcmd::ire.of(true), gcmd::qie.of(true)}) {
      if ((status() & bit) == 0) continue;
      if (auto done = order(0, bit); !done) return done;
    }
    return {};
  }

  // What `who` does goes through these tables from now on. Whoever shares a domain shares the tables,
  // too. Errors: not_supported (a width that the unit has not), those of the directory.
  template <TableReader Reader>
  result<> attach(pcie::requester_id who, std::uint16_t domain,
                  const page_table_view<vtd_second_stage, Reader>& through) noexcept {
    const vtd_width width = through.format().width;
    if (!supports(width)) {
      return failure(errc::not_supported, "the unit does not walk tables of this width",
                     through.format().input_bits());
    }
    return replace(who, context::translated(through.root().value(), width, domain));
  }
  // Nothing that `who` does is let through any more. What it did before has ended.
  result<> detach(pcie::requester_id who) noexcept { return replace(who, context{}); }

  // The hardware has forgotten these ranges of the domain when this returns, and what devices did
  // with them has ended.
  result<> flush(std::uint16_t domain,
                 std::span<const invalidation_range<bus_space>> ranges) noexcept {
    if (ranges.empty()) return {};
    return commands_.flush(domain, ranges, trouble());
  }
  result<> flush_domain(std::uint16_t domain) noexcept {
    command c = command::whole_domain(domain);
    c.drain_reads = c.drain_writes = true;
    return run(c);
  }
  // Any command, done when this returns.
  result<> run(const command& c) noexcept { return commands_.run(c, trouble()); }

  // The oldest fault that the unit has recorded, and makes room for another.
  [[nodiscard]] std::optional<translation_fault> next_fault() noexcept {
    using namespace iommu::vtd;
    const fsts s{bar_.read32(fsts::offset)};
    if (s.raw == ~std::uint32_t{0}) return std::nullopt;
    if (!s[fsts::ppf]) {
      if (s[fsts::pfo]) bar_.write32(fsts::offset, fsts::pfo.of(true));
      return std::nullopt;
    }
    const std::uint32_t at = cap_[cap::fro] * 16U + s[fsts::fri] * 16U;
    const frcd_low low{bar_.read64(at)};
    const frcd_high high{bar_.read64(at + 8)};
    if (!high[frcd_high::f]) return std::nullopt;
    bar_.write32(at + 12, 0x8000'0000);  // F, which is cleared so
    return fault_record{low, high}.decode();
  }

 private:
  vtd(Bar bar, Host& host, iommu::vtd::cap cap, iommu::vtd::ecap ecap, const options& o,
      directory&& d, channel&& c) noexcept
      : bar_(bar),
        host_(&host),
        cap_(cap),
        ecap_(ecap),
        options_(o),
        directory_(std::move(d)),
        commands_(std::move(c)) {}

  [[nodiscard]] std::uint32_t status() noexcept { return bar_.read32(iommu::vtd::gsts::offset); }
  // 11.4.4: the lasting bits are repeated with each command; one command at a time.
  [[nodiscard]] result<> order(std::uint32_t set, std::uint32_t reset = 0) noexcept {
    using namespace iommu::vtd;
    const std::uint32_t now = status();
    if (now == ~std::uint32_t{0}) return failure(errc::removed, "the VT-d unit does not answer");
    bar_.write32(gcmd::offset, ((now & gsts::lasting) | set) & ~reset);
    const bool done = poll_until(host_->clock(), options_.timeout_ns(), [&]() noexcept {
      const std::uint32_t s = status();
      return (s & set) == set && (s & reset) == 0;
    });
    if (done) return {};
    return failure(errc::timed_out, "the VT-d unit does not carry out a global command",
                   set | reset);
  }

  [[nodiscard]] auto trouble() noexcept {
    return
        [this]() noexcept { return vtd_commands::trouble(bar_.read32(iommu::vtd::fsts::offset)); };
  }

  [[nodiscard]] result<> replace(pcie::requester_id who, const context& next) noexcept {
    const context old = directory_.get(who.raw());
    result<> forgotten;
    auto forget = [&]() noexcept {
      const std::uint16_t domain = old[context::did];
      forgotten = run(command::one_device(who.raw(), domain));
      if (forgotten) forgotten = flush_domain(domain);
    };
    if (auto set = directory_.set(who.raw(), next, forget); !set) return set;
    if (!forgotten) return forgotten;
    // 6.1: in caching mode absent entries are remembered, too, under domain 0.
    return caches_absent() ? run(command::one_device(who.raw(), 0)) : result<>{};
  }

  Bar bar_;
  Host* host_;
  iommu::vtd::cap cap_;
  iommu::vtd::ecap ecap_;
  options options_;
  directory directory_;
  channel commands_;
  bool owner_ = true;
};

}  // namespace phasebit::iommu::unit
