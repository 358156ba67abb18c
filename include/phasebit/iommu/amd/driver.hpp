// SPDX-License-Identifier: BSL-1.0
// Drives an AMD IOMMU: AMD I/O Virtualization Technology specification 48882, revision 3.08; host
// ("version 1") tables.
#pragma once

#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/amd/device_table.hpp>
#include <phasebit/iommu/amd/fault_codec.hpp>
#include <phasebit/iommu/amd/spec/registers.hpp>
#include <phasebit/iommu/driver/driver_base.hpp>
#include <phasebit/iommu/driver/fault_log.hpp>
#include <phasebit/iommu/page_table/formats/amdv1.hpp>
#include <phasebit/iommu/page_table/page_table_fwd.hpp>

#include <cstdint>
#include <optional>
#include <utility>

namespace phasebit::iommu::amd {

// The device table is one contiguous array with 2^options::log2_requesters entries.
template <Mmio Bar, TableMemory Tables, iommu::driver::DriverHost Host>
class driver : public iommu::driver::driver_base<driver<Bar, Tables, Host>, linear_device_table,
                                                 command_codec, Bar, Tables, Host> {
  using base =
      iommu::driver::driver_base<driver, linear_device_table, command_codec, Bar, Tables, Host>;
  friend base;
  using device_entry = device_table_entry;
  using log = iommu::driver::fault_log<event_log_format, Tables>;

 public:
  // `bar` is the register space named in the capability of the IOMMU's function. Errors: removed
  // (no IOMMU responds), not_supported (an IOMMU that cannot invalidate everything), those of
  // tables and host.
  [[nodiscard]] static result<driver> open(Bar bar, Tables& tables, Host& host,
                                           const iommu::driver::options& o = {}) noexcept {
    const extended_feature features{bar.read64(extended_feature::offset)};
    if (features.raw == ~std::uint64_t{0}) {
      return failure(errc::removed, "no AMD IOMMU answers here");
    }
    if (!features[extended_feature::iasup]) {
      return failure(errc::not_supported, "the IOMMU has no INVALIDATE_IOMMU_ALL", features.raw);
    }
    PHASEBIT_EXPECTS(
        o.log2_commands >= 8 && o.log2_commands <= 15 && o.log2_faults >= 8 && o.log2_faults <= 15,
        "command buffer and event log have 256 to 32768 entries");
    PHASEBIT_EXPECTS(o.log2_requesters >= 7 && o.log2_requesters <= 16,
                     "a device table has 128 to 65536 entries");
    auto directory = base::directory::create({.log2_entries = o.log2_requesters}, tables);
    if (!directory) return directory.error();
    // An entry of zeros would let everything pass.
    for (std::uint32_t id = 0; id >> o.log2_requesters == 0; ++id) {
      if (auto closed = directory->set(id, device_entry::blocked()); !closed) {
        return closed.error();
      }
    }
    const command_codec codec{.guest = features[extended_feature::gtsup],
                              .page_requests = features[extended_feature::pprsup]};
    constexpr iommu::driver::ring_registers ring{command_head_offset, command_tail_offset};
    auto commands = base::channel::create(codec, bar, ring, host, o);
    if (!commands) return commands.error();
    auto events = log::create(tables, o.log2_faults);
    if (!events) return events.error();
    driver made{base{bar, host, o, std::move(*directory), std::move(*commands)}, features,
                std::move(*events)};
    const auto off = made.disable();
    if (!off) return off.error();
    return made;
  }
  driver(driver&&) noexcept = default;
  driver& operator=(driver&&) = delete;
  ~driver() { this->switch_off(); }

  // The tables with the most levels that this IOMMU walks.
  [[nodiscard]] amd_v1 format() const noexcept {
    const unsigned hats = features_[extended_feature::hats];
    return {.mode = hats <= 2 ? 4 + hats : 4};
  }
  // 3.4.4: with Coherent, which enable() sets, device table reads snoop; walks always do.
  [[nodiscard]] static constexpr bool coherent() noexcept { return true; }

  [[nodiscard]] result<> enable() noexcept {
    Bar& bar = this->bar_;
    const iommu::driver::options& o = this->options_;
    const auto pages =
        static_cast<std::uint16_t>((device_entry::word_count * 8 << o.log2_requesters) / 4096 - 1);
    bar.write64_lo_hi(
        device_table_base::offset,
        this->directory_.root().value() | device_table_base::size.of<std::uint64_t>(pages));
    bar.write64_lo_hi(
        command_buffer_base::offset,
        this->commands_.ring_at().value() |
            command_buffer_base::len.of<std::uint64_t>(static_cast<std::uint8_t>(o.log2_commands)));
    bar.write64_lo_hi(event_log_base::offset,
                      events_.at() | event_log_base::len.of<std::uint64_t>(
                                         static_cast<std::uint8_t>(o.log2_faults)));
    for (const std::uint32_t at :
         {command_head_offset, command_tail_offset, event_head_offset, event_tail_offset}) {
      bar.write64_lo_hi(at, 0);
    }
    this->commands_.restart();
    events_.restart();
    const control now{bar.read64(control::offset)};
    bar.write64_lo_hi(control::offset, now.with(control::coherent, true)
                                           .with(control::eventlogen, true)
                                           .with(control::cmdbufen, true)
                                           .with(control::iommuen, true)
                                           .raw);
    command everything;
    everything.kind = command_kind::invalidate_everything;
    return this->run(everything);
  }
  // Everything passes untranslated afterwards, as after a reset.
  result<> disable() noexcept {
    Bar& bar = this->bar_;
    const control now{bar.read64(control::offset)};
    bar.write64_lo_hi(control::offset, now.with(control::iommuen, false)
                                           .with(control::eventlogen, false)
                                           .with(control::cmdbufen, false)
                                           .raw);
    return this->wait_for(
        [&]() noexcept {
          const status s{bar.read64(status::offset)};
          return !s[status::cmdbufrun] && !s[status::eventlogrun];
        },
        "the AMD IOMMU's rings do not stop");
  }

  // Translates the accesses of `who` through these tables. Requesters of one domain share its tables,
  // too. Errors: not_supported (more levels than the IOMMU walks), out_of_range (a requester beyond
  // the device table).
  template <TableReader Reader>
  result<> attach(pcie::requester_id who, std::uint16_t domain,
                  const page_table_view<amd_v1, Reader>& through) noexcept {
    const unsigned levels = through.format().mode;
    if (levels > format().mode) {
      return failure(errc::not_supported, "the IOMMU does not walk so many levels", levels);
    }
    const auto next = device_entry::translated(through.root().value(), levels, domain);
    const amd_v1& f = through.format();
    if (!f.track_dirty && !f.track_accessed) return this->replace(who, next);
    if (!tracks_dirty()) {
      return failure(errc::not_supported,
                     "the IOMMU sets no accessed and dirty bits in host tables", features_.raw);
    }
    return this->replace(
        who, f.track_dirty ? next.with_dirty_tracking() : next.with(device_entry::had, 1));
  }
  // The IOMMU records which pages are written to, in tables with amd_v1::track_dirty.
  [[nodiscard]] bool tracks_dirty() const noexcept {
    return features_[extended_feature::hasup] && features_[extended_feature::hdsup];
  }
  // Nothing that `who` does is let through any more; what it did before has ended.
  result<> detach(pcie::requester_id who) noexcept {
    return this->replace(who, device_entry::blocked());
  }

  // The oldest event of the log. A log that has overflowed continues once it is empty (2.5.2).
  [[nodiscard]] std::optional<translation_fault> next_fault() noexcept {
    Bar& bar = this->bar_;
    const std::uint32_t tail = bar.read32(event_tail_offset);
    if (tail == ~std::uint32_t{0}) return std::nullopt;
    auto found = events_.next((tail & pointer_mask) >> 4);
    if (found) {
      bar.write64_lo_hi(event_head_offset, std::uint64_t{events_.consumer()} << 4);
      return found;
    }
    if (status{bar.read64(status::offset)}[status::eventoverflow]) restart_log();
    return std::nullopt;
  }

 private:
  driver(base&& b, extended_feature features, log&& events) noexcept
      : base(std::move(b)), features_(features), events_(std::move(events)) {}

  void restart_log() noexcept {
    Bar& bar = this->bar_;
    const control now{bar.read64(control::offset)};
    bar.write64_lo_hi(control::offset, now.with(control::eventlogen, false).raw);
    const auto stopped = this->wait_for(
        [&]() noexcept { return !status{bar.read64(status::offset)}[status::eventlogrun]; },
        "the event log does not stop");
    if (!stopped) return;
    bar.write64_lo_hi(event_head_offset, 0);
    bar.write64_lo_hi(event_tail_offset, 0);
    events_.restart();
    bar.write64_lo_hi(status::offset, status{}.with(status::eventoverflow, true).raw);
    bar.write64_lo_hi(control::offset, now.with(control::eventlogen, true).raw);
  }

  [[nodiscard]] static std::uint16_t domain_of(const device_entry& e) noexcept {
    return e[device_entry::domain_id];
  }
  // Refused commands are reported in the event log: next_fault() identifies them by their code.
  [[nodiscard]] static ring_fault_report fault() noexcept { return {}; }

  extended_feature features_;
  log events_;
};

}  // namespace phasebit::iommu::amd
