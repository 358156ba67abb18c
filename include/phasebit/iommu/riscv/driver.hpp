// SPDX-License-Identifier: BSL-1.0
// Drives a RISC-V IOMMU: RISC-V IOMMU architecture specification 1.0; second-stage tables.
#pragma once

#include <phasebit/iommu/driver/driver_base.hpp>
#include <phasebit/iommu/driver/fault_log.hpp>
#include <phasebit/iommu/page_table/formats/riscv.hpp>
#include <phasebit/iommu/page_table/page_table_fwd.hpp>
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/riscv/device_table.hpp>
#include <phasebit/iommu/riscv/fault_codec.hpp>
#include <phasebit/iommu/riscv/spec/registers.hpp>

#include <cstdint>
#include <optional>
#include <utility>

namespace phasebit::iommu::riscv {

// Context is device_context where capabilities.MSI_FLAT is set, else base_device_context.
template <Mmio Bar, TableMemory Tables, iommu::driver::DriverHost Host,
          class Context = device_context>
class driver : public iommu::driver::driver_base<driver<Bar, Tables, Host, Context>,
                                                 device_directory<Context>, command_codec, Bar,
                                                 Tables, Host> {
  using layout = device_directory<Context>;
  using base = iommu::driver::driver_base<driver, layout, command_codec, Bar, Tables, Host>;
  friend base;
  using log = iommu::driver::fault_log<fault_queue_format, Tables>;
  static constexpr bool extended = Context::word_count == 8;
  // Directory levels for all 16 bits of a requester ID.
  static constexpr directory_mode mode =
      extended ? directory_mode::three_levels : directory_mode::two_levels;

 public:
  // Errors: removed (no IOMMU answers), not_supported (no second stage, contexts of the other size),
  // those of tables and host.
  [[nodiscard]] static result<driver> open(Bar bar, Tables& tables, Host& host,
                                           const iommu::driver::options& o = {}) noexcept {
    const capabilities caps{bar.read64(capabilities::offset)};
    if (caps.raw == ~std::uint64_t{0}) return failure(errc::removed, "no IOMMU answers here");
    if (!caps[capabilities::sv39x4] && !caps[capabilities::sv48x4] && !caps[capabilities::sv57x4]) {
      return failure(errc::not_supported, "the IOMMU has no second stage", caps.raw);
    }
    if (caps[capabilities::msi_flat] != extended) {
      return failure(errc::not_supported, "the IOMMU's device contexts have another size",
                     caps.raw);
    }
    auto directory = base::directory::create({mode}, tables);
    if (!directory) return directory.error();
    const command_codec codec{.device_tlbs = caps[capabilities::ats]};
    constexpr iommu::driver::ring_registers ring{cqh_offset, cqt_offset};
    auto commands = base::channel::create(codec, bar, ring, host, o);
    if (!commands) return commands.error();
    auto faults = log::create(tables, o.log2_faults);
    if (!faults) return faults.error();
    driver made{base{bar, host, o, std::move(*directory), std::move(*commands)}, caps,
                std::move(*faults)};
    const auto off = made.disable();
    if (!off) return off.error();
    return made;
  }
  driver(driver&&) noexcept = default;
  driver& operator=(driver&&) = delete;
  ~driver() { this->switch_off(); }

  // The widest tables that this IOMMU walks. Svnapot is part of every IOMMU (6.4).
  [[nodiscard]] riscv_second_stage format() const noexcept {
    return {.mode = caps_[capabilities::sv57x4]   ? riscv_mode::sv57x4
                    : caps_[capabilities::sv48x4] ? riscv_mode::sv48x4
                                                  : riscv_mode::sv39x4,
            .address_bits = caps_[capabilities::pas],
            .svpbmt = caps_[capabilities::svpbmt]};
  }
  [[nodiscard]] bool supports(riscv_mode m) const noexcept {
    return m == riscv_mode::sv39x4   ? caps_[capabilities::sv39x4]
           : m == riscv_mode::sv48x4 ? caps_[capabilities::sv48x4]
                                     : caps_[capabilities::sv57x4];
  }

  [[nodiscard]] result<> enable() noexcept {
    Bar& bar = this->bar_;
    const iommu::driver::options& o = this->options_;
    bar.write32(fctl::offset, 0);  // little-endian, interrupts as messages
    place(queue_base::cqb_offset, this->commands_.ring_at().value(), o.log2_commands);
    bar.write32(cqt_offset, 0);
    this->commands_.restart();
    if (auto done = start(cqcsr_offset, "the command queue does not start"); !done) return done;
    place(queue_base::fqb_offset, faults_.at(), o.log2_faults);
    bar.write32(fqh_offset, 0);
    faults_.restart();
    if (auto done = start(fqcsr::offset, "the fault queue does not start"); !done) return done;
    const auto root = ddtp{}
                          .with(ddtp::iommu_mode, static_cast<std::uint8_t>(mode))
                          .with(ddtp::ppn, this->directory_.root().value() >> 12);
    if (auto done = turn_to(root); !done) return done;
    if (auto done = this->run(command::all_devices()); !done) return done;
    return this->run(command::all_translations());
  }
  // Nothing is let through afterwards.
  result<> disable() noexcept {
    if (auto done = turn_to(ddtp{}); !done) return done;
    if (auto done = stop(fqcsr::offset, "the fault queue does not stop"); !done) return done;
    return stop(cqcsr_offset, "the command queue does not stop");
  }

  // Translates the accesses of `who` through these tables. Requesters of one domain share its tables,
  // too. Errors: not_supported (a mode that the IOMMU has not), those of the directory.
  template <TableReader Reader>
  result<> attach(pcie::requester_id who, std::uint16_t domain,
                  const page_table_view<riscv_second_stage, Reader>& through) noexcept {
    const riscv_mode m = through.format().mode;
    if (!supports(m)) {
      return failure(errc::not_supported, "the IOMMU does not walk tables of this mode",
                     static_cast<std::uint64_t>(m));
    }
    if (through.format().track_dirty && !tracks_dirty()) {
      return failure(errc::not_supported, "the IOMMU does not set accessed and dirty bits",
                     caps_.raw);
    }
    const auto context = device_context::translated(through.root().value(), m, domain)
                             .with(device_context::gade, through.format().track_dirty);
    if constexpr (extended) {
      return this->replace(who, context);
    } else {
      return this->replace(who, Context::of(context));
    }
  }
  // The IOMMU records which pages are written to, in tables with riscv_second_stage::track_dirty.
  [[nodiscard]] bool tracks_dirty() const noexcept { return caps_[capabilities::amo_hwad]; }
  // Nothing that `who` does is let through any more; what it did before has ended.
  result<> detach(pcie::requester_id who) noexcept { return this->replace(who, Context{}); }

  // The oldest record of the queue. One that has overflowed continues once it is empty.
  [[nodiscard]] std::optional<translation_fault> next_fault() noexcept {
    Bar& bar = this->bar_;
    const std::uint32_t tail = bar.read32(fqt_offset);
    if (tail == ~std::uint32_t{0}) return std::nullopt;
    const auto found = faults_.next(tail);
    if (found) {
      bar.write32(fqh_offset, faults_.consumer());
      return found;
    }
    const fqcsr now{bar.read32(fqcsr::offset)};
    if (now[fqcsr::fqof] || now[fqcsr::fqmf]) bar.write32(fqcsr::offset, now.raw);
    return std::nullopt;
  }

 private:
  driver(base&& b, capabilities caps, log&& faults) noexcept
      : base(std::move(b)), caps_(caps), faults_(std::move(faults)) {}

  void place(std::uint32_t offset, std::uint64_t at, unsigned log2) noexcept {
    const auto value = queue_base{}
                           .with(queue_base::log2sz_minus_1, static_cast<std::uint8_t>(log2 - 1))
                           .with(queue_base::ppn, at >> 12);
    this->bar_.write64_lo_hi(offset, value.raw);
  }
  // cqcsr and fqcsr have these bits in the same places: enable 0, on 16, busy 17. The error bits
  // that stopped the queue, 8 to 11, are cleared by writing ones.
  static constexpr std::uint32_t enable_bit = 1;
  static constexpr std::uint32_t error_bits = 0xf00;
  [[nodiscard]] result<> start(std::uint32_t csr, const char* otherwise) noexcept {
    this->bar_.write32(csr, enable_bit | error_bits);
    return settled(csr, true, otherwise);
  }
  [[nodiscard]] result<> stop(std::uint32_t csr, const char* otherwise) noexcept {
    this->bar_.write32(csr, 0);
    return settled(csr, false, otherwise);
  }
  [[nodiscard]] result<> settled(std::uint32_t csr, bool on, const char* otherwise) noexcept {
    return this->wait_for(
        [&]() noexcept {
          const fqcsr now{this->bar_.read32(csr)};
          return now[fqcsr::fqon] == on && !now[fqcsr::busy];
        },
        otherwise);
  }
  // The half with the mode last: with it the new directory is in force.
  [[nodiscard]] result<> turn_to(ddtp next) noexcept {
    this->bar_.write32(ddtp::offset + 4, static_cast<std::uint32_t>(next.raw >> 32));
    this->bar_.write32(ddtp::offset, static_cast<std::uint32_t>(next.raw));
    return this->wait_for([&]() noexcept { return this->bar_.read64(ddtp::offset) == next.raw; },
                          "the IOMMU does not take the device directory", next.raw);
  }

  [[nodiscard]] static std::uint16_t domain_of(const Context& c) noexcept {
    if constexpr (extended) {
      return c[Context::gscid];
    } else {
      return c.extended()[device_context::gscid];
    }
  }
  [[nodiscard]] ring_fault_report fault() noexcept {
    return command_codec::fault(this->bar_.read32(cqcsr_offset));
  }

  capabilities caps_;
  log faults_;
};

}  // namespace phasebit::iommu::riscv
