// SPDX-License-Identifier: BSL-1.0
// An emulated RISC-V IOMMU (RISC-V IOMMU architecture specification 1.0, chapter 5).
#pragma once

#include <phasebit/iommu/device/device_base.hpp>
#include <phasebit/iommu/device/split_register.hpp>
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/riscv/fault_codec.hpp>
#include <phasebit/iommu/riscv/spec/registers.hpp>
#include <phasebit/iommu/riscv/translation.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>

#include <cstdint>

namespace phasebit::iommu::riscv {

namespace detail {

template <class Memory>
using fault_records = fault_queue<fault_queue_format, Memory>;

}  // namespace detail

// A RISC-V IOMMU: second stage of three widths and flat MSI page tables; no first stage, no ATS,
// wired interrupts. After a reset nothing is let through. Registers by read32 and write32, offsets
// below register_bytes. See device_base.
template <DmaPort<host_space> Port, InterruptSink Interrupts, iommu::device::DeviceClock Clock>
class device final
    : public iommu::device::device_base<device<Port, Interrupts, Clock>, remapping,
                                        detail::fault_records, command_codec, Port, Interrupts,
                                        Clock, iommu::device::no_functions> {
  using base = iommu::device::device_base<device, remapping, detail::fault_records, command_codec,
                                          Port, Interrupts, Clock, iommu::device::no_functions>;
  friend base;
  using iommu_interrupt = iommu::device::interrupt_source;
  using split_register = iommu::device::split_register;

 public:
  static constexpr std::uint32_t register_bytes = registers_bytes;

  device(Port& memory, Interrupts& interrupts, Clock& clock, unsigned address_bits = 56,
         bool msi_flat = true) noexcept
      : base(memory, interrupts, clock, nullptr,
             {.address_bits = address_bits, .msi_flat = msi_flat},
             {.device_tlbs = false, .wired_interrupts = true}) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) const noexcept {
    switch (offset) {
      case capabilities::offset:
      case capabilities::offset + 4:
        return split_register::half(
            capabilities{}
                .with(capabilities::version, 0x10)
                .with(capabilities::svpbmt, settings_.svpbmt)
                .with(capabilities::sv39x4, true)
                .with(capabilities::sv48x4, true)
                .with(capabilities::sv57x4, true)
                .with(capabilities::msi_flat, settings_.msi_flat)
                .with(capabilities::igs, 1)
                .with(capabilities::pas, static_cast<std::uint8_t>(settings_.address_bits))
                .raw,
            offset);
      case fctl::offset:
        return fctl{}.with(fctl::wsi, true).raw;
      case ddtp::offset:
      case ddtp::offset + 4:
        return ddtp_.read(offset);
      case queue_base::cqb_offset:
      case queue_base::cqb_offset + 4:
        return cqb_.read(offset);
      case cqh_offset:
        return commands_.enabled() ? commands_.head() : 0;
      case cqt_offset:
        return cqt_;
      case queue_base::fqb_offset:
      case queue_base::fqb_offset + 4:
        return fqb_.read(offset);
      case fqh_offset:
        return faults_.consumer();
      case fqt_offset:
        return faults_.producer();
      case cqcsr_offset:
        return (commands_.enabled() ? on : 0) | cqcsr_ |
               (commands_.stopped() ? std::uint32_t{1} << commands_.fault().code : 0) |
               (command_interrupt_ ? cqcsr::fence_w_ip.of<std::uint32_t>(true) : 0);
      case fqcsr::offset:
        return fqcsr{fqcsr_}
            .with(fqcsr::fqmf, faults_.broken())
            .with(fqcsr::fqof, faults_.overflow())
            .with(fqcsr::fqon, faults_.enabled())
            .raw;
      default:
        return 0;
    }
  }

  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    switch (offset) {
      case ddtp::offset:
        // A reserved mode is not taken: the field keeps a legal value (5.5).
        if ((value & 15) > static_cast<unsigned>(directory_mode::three_levels)) break;
        ddtp_.write(offset, value & ~ddtp::busy.mask<std::uint32_t>);
        settings_.mode = static_cast<directory_mode>(value & 15);
        settings_.directory = ddtp{ddtp_.value}[ddtp::ppn] << 12;
        use_settings();
        break;
      case ddtp::offset + 4:
        ddtp_.write(offset, value);
        break;
      case queue_base::cqb_offset:
      case queue_base::cqb_offset + 4:
        cqb_.write(offset, value);
        break;
      case cqt_offset:
        cqt_ = value;
        commands_.write_tail(value);
        work();
        break;
      case queue_base::fqb_offset:
      case queue_base::fqb_offset + 4:
        fqb_.write(offset, value);
        break;
      case fqh_offset:
        faults_.set_consumer(value);
        break;
      case cqcsr_offset:
        turn_commands(value);
        break;
      case fqcsr::offset:
        turn_faults(fqcsr{value});
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

  static constexpr std::uint32_t on = 1 << 16;
  static constexpr std::uint32_t enables = 3;  // cqen and cie, fqen and fie

  void after_fault() noexcept {
    if (faults_.take_event() && (fqcsr_ & 2) != 0) this->raise(iommu_interrupt::fault);
  }
  void after_commands() noexcept {
    if (this->take_command_event() && (cqcsr_ & 2) != 0) this->raise(iommu_interrupt::command);
  }
  [[nodiscard]] static std::uint32_t entries(std::uint64_t queue) noexcept {
    const unsigned log2 = queue_base{queue}[queue_base::log2sz_minus_1] + 1U;
    return log2 < 20 ? log2 : 20;
  }
  [[nodiscard]] static std::uint64_t place(std::uint64_t queue) noexcept {
    return std::uint64_t{queue_base{queue}[queue_base::ppn]} << 12;
  }

  // 5.15. Errors are cleared by writing one, and the ring continues; its indices are 0 when it begins.
  void turn_commands(std::uint32_t value) noexcept {
    if (cqcsr::fence_w_ip.get(value)) command_interrupt_ = false;
    cqcsr_ = value & enables;
    const bool wanted = (value & 1) != 0;
    if (wanted && !commands_.enabled()) {
      cqt_ = 0;
      commands_.enable(host_phys{place(cqb_.value)}, 1U << entries(cqb_.value));
    } else if (!wanted && commands_.enabled()) {
      commands_.disable();
      commands_.resume();
    } else if (commands_.stopped() && (value >> commands_.fault().code & 1) != 0) {
      commands_.resume();
      work();
    }
  }
  // 5.16
  void turn_faults(fqcsr value) noexcept {
    if (value[fqcsr::fqof]) faults_.clear_overflow();
    if (value[fqcsr::fqmf]) faults_.clear_broken();
    fqcsr_ = value.raw & enables;
    if (value[fqcsr::fqen] && !faults_.enabled()) {
      faults_.enable({place(fqb_.value), entries(fqb_.value)});
      faults_.set_producer(0);
    } else if (!value[fqcsr::fqen]) {
      faults_.disable();
    }
  }

  split_register ddtp_;
  split_register cqb_;
  split_register fqb_;
  std::uint32_t cqt_ = 0;
  std::uint32_t cqcsr_ = 0;
  std::uint32_t fqcsr_ = 0;
};

}  // namespace phasebit::iommu::riscv
