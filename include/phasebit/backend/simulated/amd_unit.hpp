// SPDX-License-Identifier: BSL-1.0
// An AMD IOMMU of the simulated machine, by its registers (AMD 48882 revision 3.08, 3.4).
#pragma once

#include <phasebit/backend/simulated/iommu_unit.hpp>
#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/amd/fault_codec.hpp>
#include <phasebit/iommu/amd/spec/registers.hpp>
#include <phasebit/iommu/amd/translation.hpp>

#include <cstdint>

namespace phasebit::backend::simulated {

// See iommu_unit. Host tables of up to six levels and interrupt remapping; no guest translation, no
// device TLBs, no page requests. Its capability, which says where the registers are, is not in any
// configuration space: bar() is the registers.
class amd_unit final : public iommu_unit<amd_unit, iommu::amd::remapping,
                                         iommu::amd::event_log_format, iommu::amd::command_codec> {
  using base = iommu_unit<amd_unit, iommu::amd::remapping, iommu::amd::event_log_format,
                          iommu::amd::command_codec>;
  friend base;

 public:
  static constexpr std::uint32_t register_bytes = iommu::amd::capability::registers_bytes;

  explicit amd_unit(fabric& machine, unsigned address_bits = 48) noexcept
      : base(machine, {.address_bits = address_bits},
             {.guest = false, .page_requests = false, .device_tlbs = false}) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) const noexcept {
    using namespace iommu::amd;
    const auto half = [&](std::uint64_t v) { return split_register::half(v, offset); };
    switch (offset & ~7U) {
      case device_table_base::offset:
        return device_table_.read(offset);
      case command_buffer_base::offset:
        return command_buffer_.read(offset);
      case event_log_base::offset:
        return event_log_.read(offset);
      case control::offset:
        return control_.read(offset);
      case extended_feature::offset:
        return half(extended_feature{}
                        .with(extended_feature::iasup, true)
                        .with(extended_feature::gasup, true)
                        .with(extended_feature::hats, 2)
                        .raw);
      case command_head_offset:
        return half(commands_.enabled() ? commands_.head() : 0);
      case command_tail_offset:
        return half(tail_);
      case event_head_offset:
        return half(faults_.consumer() << 4);
      case event_tail_offset:
        return half(faults_.producer() << 4);
      case status::offset:
        return half(status{}
                        .with(status::eventoverflow, faults_.overflow())
                        .with(status::eventlogint, event_happened_)
                        .with(status::comwaitint, command_interrupt_)
                        .with(status::eventlogrun, faults_.enabled() && !faults_.overflow())
                        .with(status::cmdbufrun, commands_.enabled() && !commands_.stopped())
                        .raw);
      default:
        return 0;
    }
  }

  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    using namespace iommu::amd;
    const bool low = (offset & 4) == 0;
    switch (offset & ~7U) {
      case device_table_base::offset:
        device_table_.write(offset, value);
        break;
      case command_buffer_base::offset:
        command_buffer_.write(offset, value);
        tail_ = 0;
        break;
      case event_log_base::offset:
        event_log_.write(offset, value);
        faults_.set_producer(0);
        faults_.set_consumer(0);
        break;
      case control::offset:
        control_.write(offset, value);
        turn();
        break;
      case command_tail_offset:
        if (!low) break;
        tail_ = value & pointer_mask;
        commands_.write_tail(tail_);
        carry_out();
        break;
      case event_head_offset:
        if (low) faults_.set_consumer((value & pointer_mask) >> 4);
        break;
      case event_tail_offset:
        if (low && !faults_.enabled()) faults_.set_producer((value & pointer_mask) >> 4);
        break;
      case status::offset:
        if (!low) break;
        if (status{value}[status::eventoverflow]) faults_.clear_overflow();
        if (status{value}[status::eventlogint]) event_happened_ = false;
        if (status{value}[status::comwaitint]) command_interrupt_ = false;
        break;
      default:
        break;
    }
  }

 private:
  void after_fault() noexcept {
    if (!faults_.take_event()) return;
    event_happened_ = true;
    if (iommu::amd::control{control_.value}[iommu::amd::control::eventinten]) fault_event_.signal();
  }

  // Control (3.4.4). A ring begins, at its base, when its enable bit becomes set.
  void turn() noexcept {
    using namespace iommu::amd;
    const control now{control_.value};
    settings_.enabled = now[control::iommuen];
    settings_.wide_interrupts = now[control::gaen];
    const device_table_base table{device_table_.value};
    settings_.device_table = table.raw & 0x000f'ffff'ffff'f000;
    settings_.size_field = table[device_table_base::size];
    use_settings();
    const bool log = now[control::iommuen] && now[control::eventlogen];
    if (log && !faults_.enabled()) {
      faults_.enable({event_log_.value & 0x000f'ffff'ffff'f000,
                      entries(event_log_base{event_log_.value}[event_log_base::len])});
    } else if (!log) {
      faults_.disable();
    }
    const bool run = now[control::iommuen] && now[control::cmdbufen];
    if (run && !commands_.enabled()) {
      commands_.enable(
          host_phys{command_buffer_.value & 0x000f'ffff'ffff'f000},
          1U << entries(command_buffer_base{command_buffer_.value}[command_buffer_base::len]));
      commands_.write_tail(tail_);
      carry_out();
    } else if (!run && commands_.enabled()) {
      commands_.disable();
      commands_.resume();
    }
  }
  // Below 8 is reserved.
  [[nodiscard]] static unsigned entries(unsigned len) noexcept { return len < 8 ? 8 : len; }

  // A command that is refused is an event, and halts the buffer (2.5.6, 2.5.7).
  void carry_out() noexcept {
    const bool stood = commands_.stopped();
    work();
    if (stood || !commands_.stopped()) return;
    using iommu::amd::event_record;
    faults_.put(
        event_record{}
            .with(event_record::code, static_cast<iommu::amd::event_code>(commands_.fault().code))
            .with(event_record::address,
                  (command_buffer_.value & 0x000f'ffff'ffff'f000) + commands_.head()));
    after_fault();
  }

  split_register device_table_;
  split_register command_buffer_;
  split_register event_log_;
  split_register control_;
  std::uint32_t tail_ = 0;
  bool event_happened_ = false;
};
static_assert(Mmio<amd_unit::bar_type>);
static_assert(iommu::CommandHandler<amd_unit>);

}  // namespace phasebit::backend::simulated
