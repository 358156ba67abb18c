// SPDX-License-Identifier: BSL-1.0
// Drives an Arm SMMUv3: Arm SMMU architecture specification, IHI 0070; the Non-secure interface with
// stage 2 tables.
#pragma once

#include <phasebit/iommu/driver/driver_base.hpp>
#include <phasebit/iommu/driver/fault_log.hpp>
#include <phasebit/iommu/page_table/formats/arm_stage2.hpp>
#include <phasebit/iommu/page_table/page_table_fwd.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>
#include <phasebit/iommu/smmuv3/device_table.hpp>
#include <phasebit/iommu/smmuv3/fault_codec.hpp>
#include <phasebit/iommu/smmuv3/spec/registers.hpp>

#include <cstdint>
#include <optional>
#include <utility>

namespace phasebit::iommu::smmuv3 {

// Tables of one granule, 2^GranuleShift bytes, for all domains: invalidations name it. Stream tables
// have two levels.
template <unsigned GranuleShift, Mmio Bar, TableMemory Tables, iommu::driver::DriverHost Host>
class driver
    : public iommu::driver::driver_base<driver<GranuleShift, Bar, Tables, Host>,
                                        two_level_stream_table, command_codec, Bar, Tables, Host> {
  using base =
      iommu::driver::driver_base<driver, two_level_stream_table, command_codec, Bar, Tables, Host>;
  friend base;
  using stream = stream_table_entry;
  using log = iommu::driver::fault_log<event_queue_format, Tables>;
  static constexpr unsigned split = 8;  // the requesters of one bus

 public:
  using format_type = arm_stage2<GranuleShift>;

  // Errors: removed (no IOMMU responds), not_supported (no stage 2, not this granule, one-level
  // stream tables only, preset tables or queues), out_of_range (shorter queues than
  // iommu::driver::options requires), those of tables and host.
  [[nodiscard]] static result<driver> open(Bar bar, Tables& tables, Host& host,
                                           const iommu::driver::options& o = {}) noexcept {
    const idr0 id0{bar.read32(idr0::offset)};
    const idr1 id1{bar.read32(idr1::offset)};
    const idr3 id3{bar.read32(idr3::offset)};
    const idr5 id5{bar.read32(idr5::offset)};
    if (id0.raw == ~std::uint32_t{0}) return failure(errc::removed, "no SMMUv3 answers here");
    if (!id0[idr0::s2p] || (id0[idr0::ttf] & 2) == 0) {
      return failure(errc::not_supported, "the SMMU walks no AArch64 tables of stage 2", id0.raw);
    }
    const bool granule = GranuleShift == 12   ? id5[idr5::gran4k]
                         : GranuleShift == 14 ? id5[idr5::gran16k]
                                              : id5[idr5::gran64k];
    if (!granule) return failure(errc::not_supported, "the SMMU has not this granule", id5.raw);
    if (id0[idr0::st_level] != 1 || id1[idr1::sidsize] <= split) {
      return failure(errc::not_supported, "the SMMU has no stream tables of two levels", id0.raw);
    }
    if (id1[idr1::tables_preset] || id1[idr1::queues_preset]) {
      return failure(errc::not_supported, "the SMMU's tables or queues have places of their own",
                     id1.raw);
    }
    if (o.log2_commands > id1[idr1::cmdqs] || o.log2_faults > id1[idr1::eventqs]) {
      return failure(errc::out_of_range, "the SMMU's queues are shorter", id1.raw);
    }
    const unsigned sid_bits = id1[idr1::sidsize] < 16 ? id1[idr1::sidsize] : 16;
    auto directory = base::directory::create({.log2_entries = sid_bits, .split = split}, tables);
    if (!directory) return directory.error();
    const command_codec codec{.ranges = id3[idr3::ril],
                              .msi = id0[idr0::msi],
                              .device_tlbs = id0[idr0::ats],
                              .page_requests = id0[idr0::pri],
                              .stalls = id0[idr0::stall_model] != 1,
                              .granule_shift = GranuleShift};
    constexpr iommu::driver::ring_registers ring{cmdq_cons_offset, cmdq_prod_offset};
    auto commands = base::channel::create(codec, bar, ring, host, o);
    if (!commands) return commands.error();
    auto events = log::create(tables, o.log2_faults);
    if (!events) return events.error();
    driver made{base{bar, host, o, std::move(*directory), std::move(*commands)}, id0, id3, id5,
                std::move(*events)};
    const auto off = made.disable();
    if (!off) return off.error();
    return made;
  }
  driver(driver&&) noexcept = default;
  driver& operator=(driver&&) = delete;
  ~driver() { this->switch_off(); }

  // The widest tables that this IOMMU walks: input and output are as wide as its output (5.2, S2T0SZ).
  [[nodiscard]] format_type format() const noexcept {
    const unsigned oas = output_bits(id5_[idr5::oas]);
    const unsigned bits = oas < 48 ? oas : 48;
    return {.ipa_bits = bits, .address_bits = bits, .bbm_level = id3_[idr3::bbml]};
  }
  // The IOMMU snoops the processor's caches when it walks.
  [[nodiscard]] bool coherent() const noexcept { return id0_[idr0::cohacc]; }

  [[nodiscard]] result<> enable() noexcept {
    Bar& bar = this->bar_;
    const iommu::driver::options& o = this->options_;
    const auto& layout = this->directory_.layout();
    bar.write32(cr1::offset, cr1::cacheable().raw);
    bar.write32(cr2::offset, cr2{}.with(cr2::recinvsid, true).with(cr2::ptm, true).raw);
    bar.write64_lo_hi(strtab_base::offset,
                      this->directory_.root().value() | strtab_base::ra.of<std::uint64_t>(true));
    bar.write32(strtab_base_cfg::offset,
                strtab_base_cfg{}
                    .with(strtab_base_cfg::log2size, static_cast<std::uint8_t>(layout.log2_entries))
                    .with(strtab_base_cfg::split, split)
                    .with(strtab_base_cfg::fmt, 1)
                    .raw);
    place(queue_base::cmdq_offset, this->commands_.ring_at().value(), o.log2_commands);
    bar.write32(cmdq_prod_offset, 0);
    bar.write32(cmdq_cons_offset, 0);
    this->commands_.restart();
    place(queue_base::eventq_offset, events_.at(), o.log2_faults);
    bar.write32(eventq_prod_offset, 0);
    bar.write32(eventq_cons_offset, 0);
    events_.restart();

    // Acknowledges the error that stopped the queue, if any.
    bar.write32(gerror::ack_offset, bar.read32(gerror::offset));
    cr0 on = cr0{}.with(cr0::cmdqen, true);
    if (auto done = switch_to(on); !done) return done;
    if (auto done = this->run(command::all_devices()); !done) return done;
    if (auto done = this->run(command::all_translations()); !done) return done;
    on = on.with(cr0::eventqen, true);
    if (auto done = switch_to(on); !done) return done;
    return switch_to(on.with(cr0::smmuen, true));
  }
  // GBPA, which the platform sets, decides about accesses afterwards.
  result<> disable() noexcept { return switch_to(cr0{}); }

  // Translates the accesses of `who` through these tables. Requesters of one domain share its tables,
  // too. Errors: not_supported (wider tables), out_of_range (a domain beyond 8 bits without VMID16),
  // those of the directory.
  template <TableReader Reader>
  result<> attach(pcie::requester_id who, std::uint16_t domain,
                  const page_table_view<format_type, Reader>& through) noexcept {
    const format_type& f = through.format();
    const unsigned widest = output_bits(id5_[idr5::oas]);
    if (f.ipa_bits > widest || f.address_bits > widest) {
      return failure(errc::not_supported, "the SMMU does not walk tables this wide", f.ipa_bits);
    }
    if (domain > 0xff && !id0_[idr0::vmid16]) {
      return failure(errc::out_of_range, "the SMMU has 256 domains", domain);
    }
    if ((f.hardware_access || f.track_dirty) && id0_[idr0::httu] < (f.track_dirty ? 2 : 1)) {
      return failure(errc::not_supported, "the SMMU does not set access flags or dirty state",
                     id0_.raw);
    }
    return this->replace(who, stream::translated(stage2_of(f, through.root().value(), domain)));
  }
  // The SMMU records which pages are written to, in tables with arm_stage2::track_dirty.
  [[nodiscard]] bool tracks_dirty() const noexcept { return id0_[idr0::httu] >= 2; }
  // Nothing that `who` does is let through any more; what it did before has ended.
  result<> detach(pcie::requester_id who) noexcept { return this->replace(who, stream{}); }

  // The oldest event of the queue.
  [[nodiscard]] std::optional<translation_fault> next_fault() noexcept {
    Bar& bar = this->bar_;
    const std::uint32_t producer = bar.read32(eventq_prod_offset);
    if (producer == ~std::uint32_t{0}) return std::nullopt;
    const auto found = events_.next(producer);
    const bool overflow = queue_overflow.get(producer);
    if (found || overflow != overflow_acknowledged_) {
      overflow_acknowledged_ = overflow;
      bar.write32(eventq_cons_offset, events_.consumer() | queue_overflow.of(overflow));
    }
    return found;
  }

 private:
  driver(base&& b, idr0 id0, idr3 id3, idr5 id5, log&& events) noexcept
      : base(std::move(b)), id0_(id0), id3_(id3), id5_(id5), events_(std::move(events)) {}

  void place(std::uint32_t offset, std::uint64_t at, unsigned log2) noexcept {
    this->bar_.write64_lo_hi(
        offset, at | queue_base::log2size.of<std::uint64_t>(static_cast<std::uint8_t>(log2)) |
                    queue_base::allocate.of<std::uint64_t>(true));
  }
  [[nodiscard]] result<> switch_to(cr0 value) noexcept {
    this->bar_.write32(cr0::offset, value.raw);
    return this->wait_for(
        [&]() noexcept { return this->bar_.read32(cr0::ack_offset) == value.raw; },
        "the SMMU does not acknowledge CR0", value.raw);
  }

  [[nodiscard]] static std::uint16_t domain_of(const stream& e) noexcept {
    return e[stream::s2vmid];
  }
  [[nodiscard]] ring_fault_report fault() noexcept {
    return command_codec::fault(this->bar_.read32(cmdq_cons_offset));
  }

  idr0 id0_;
  idr3 id3_;
  idr5 id5_;
  log events_;
  bool overflow_acknowledged_ = false;
};

}  // namespace phasebit::iommu::smmuv3
