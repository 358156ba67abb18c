// SPDX-License-Identifier: BSL-1.0
// An AMD IOMMU of the simulated machine, by its registers (AMD 48882 revision 3.08, 3.4).
#pragma once

#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/amd/fault_codec.hpp>
#include <phasebit/iommu/amd/spec/registers.hpp>
#include <phasebit/iommu/amd/translation.hpp>
#include <phasebit/iommu/device/device_base.hpp>
#include <phasebit/iommu/device/split_register.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>

#include <cstdint>
#include <utility>

namespace phasebit::iommu::amd {

namespace detail {

template <class Memory>
using event_log = fault_queue<event_log_format, Memory>;

}  // namespace detail

// An AMD IOMMU: host tables of up to six levels and interrupt remapping; no guest translation, no
// device TLBs, no page requests. The PCI capability that contains the address of the registers is
// not part of it. Registers by read32 and write32, offsets below register_bytes. See device_base.
template <DmaPort<host_space> Port, InterruptSink Interrupts, iommu::device::DeviceClock Clock>
class device final
    : public iommu::device::device_base<device<Port, Interrupts, Clock>, remapping,
                                        detail::event_log, command_codec, Port, Interrupts, Clock,
                                        iommu::device::no_functions> {
  using base = iommu::device::device_base<device, remapping, detail::event_log, command_codec, Port,
                                          Interrupts, Clock, iommu::device::no_functions>;
  friend base;
  using iommu_interrupt = iommu::device::interrupt_source;
  using split_register = iommu::device::split_register;

 public:
  static constexpr std::uint32_t register_bytes = capability::registers_bytes;

  device(Port& memory, Interrupts& interrupts, Clock& clock, unsigned address_bits = 48) noexcept
      : base(memory, interrupts, clock, nullptr, {.address_bits = address_bits},
             {.guest = false, .page_requests = false, .device_tlbs = false}) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) const noexcept {
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
        work();
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
  using base::command_interrupt_;
  using base::commands_;
  using base::faults_;
  using base::interrupts_;
  using base::settings_;
  using base::use_settings;
  using base::work;

  void after_fault() noexcept {
    if (!faults_.take_event()) return;
    event_happened_ = true;
    if (control{control_.value}[control::eventinten]) this->raise(iommu_interrupt::fault);
  }
  // A command that is refused is an event, and halts the buffer (2.5.6, 2.5.7).
  void after_commands() noexcept {
    if (this->take_command_event() && control{control_.value}[control::comwaitinten]) {
      this->raise(iommu_interrupt::command);
    }
    const bool stood = std::exchange(halted_, commands_.stopped());
    if (stood || !halted_) return;
    faults_.put(event_record{}
                    .with(event_record::code, static_cast<event_code>(commands_.fault().code))
                    .with(event_record::address,
                          (command_buffer_.value & 0x000f'ffff'ffff'f000) + commands_.head()));
    this->memory_.write_back();
    after_fault();
  }

  // Control (3.4.4). A ring begins, at its base, when its enable bit becomes set.
  void turn() noexcept {
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
      work();
    } else if (!run && commands_.enabled()) {
      commands_.disable();
      commands_.resume();
      halted_ = false;
    }
  }
  // Below 8 is reserved.
  [[nodiscard]] static unsigned entries(unsigned len) noexcept { return len < 8 ? 8 : len; }

  split_register device_table_;
  split_register command_buffer_;
  split_register event_log_;
  split_register control_;
  std::uint32_t tail_ = 0;
  bool event_happened_ = false;
  bool halted_ = false;
};

}  // namespace phasebit::iommu::amd
