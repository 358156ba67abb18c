// SPDX-License-Identifier: BSL-1.0
// An emulated VT-d IOMMU: registers, invalidation queue, tables, caches and fault registers.
#pragma once

#include <phasebit/iommu/device/device_base.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>
#include <phasebit/iommu/vtd/fault_registers.hpp>
#include <phasebit/iommu/vtd/spec/registers.hpp>
#include <phasebit/iommu/vtd/translation.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

namespace detail {

template <class Memory>
using recording_registers = fault_registers<8>;

}  // namespace detail

// A VT-d IOMMU. Off at first: everything passes. Invalidations go through the queue alone (no CCMD,
// no IOTLB registers). No device TLBs, page requests or posted interrupts. Its own interrupts are
// the messages that FEADDR and IEADDR name. Registers by read32 and write32, offsets below
// register_bytes. See device_base.
template <DmaPort<host_space> Port, MessageSink Interrupts, iommu::device::DeviceClock Clock>
class device final
    : public iommu::device::device_base<device<Port, Interrupts, Clock>, remapping,
                                        detail::recording_registers, command_codec, Port,
                                        Interrupts, Clock, iommu::device::no_functions> {
  using base =
      iommu::device::device_base<device, remapping, detail::recording_registers, command_codec,
                                 Port, Interrupts, Clock, iommu::device::no_functions>;
  friend base;
  using registers = fault_registers<8>;
  using iommu_interrupt = iommu::device::interrupt_source;

 public:
  static constexpr std::uint32_t register_bytes = 0x1000;

  device(Port& memory, Interrupts& interrupts, Clock& clock, const features& f = {}) noexcept
      : base(memory, interrupts, clock, nullptr, {.capabilities = f}, codec(false)) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) const noexcept {
    switch (offset) {
      case 0x00:
        return 0x10;  // VER: 1.0
      case cap::offset:
        return low(capabilities().raw);
      case cap::offset + 4:
        return high(capabilities().raw);
      case ecap::offset:
        return low(extended_capabilities().raw);
      case ecap::offset + 4:
        return high(extended_capabilities().raw);
      case gsts::offset:
        return status_;
      case rtaddr::offset:
        return low(rtaddr_);
      case rtaddr::offset + 4:
        return high(rtaddr_);
      case fsts::offset:
        return faults_.status().raw | queue_errors();
      case fectl::offset:
        return faults_.control();
      case fedata:
        return faults_.message.data;
      case feaddr:
        return low(faults_.message.address.value());
      case feaddr + 4:
        return high(faults_.message.address.value());
      case iqh::offset:
        return commands_.enabled() ? commands_.head() : 0;
      case iqt::offset:
        return tail_;
      case iqa::offset:
        return low(iqa_);
      case iqa::offset + 4:
        return high(iqa_);
      case ics:
        return completion_waits_ ? 1 : 0;
      case iectl:
        return (completion_masked_ ? 1U << 31 : 0) | (completion_due_ ? 1U << 30 : 0);
      case iedata:
        return completion_message_.data;
      case ieaddr:
        return low(completion_message_.address.value());
      case ieaddr + 4:
        return high(completion_message_.address.value());
      case iqercd:
        return commands_.fault().code;
      case irta::offset:
        return low(irta_);
      case irta::offset + 4:
        return high(irta_);
      default:
        return offset - frcd < 16 * registers::count ? faults_.read32(offset - frcd) : 0;
    }
  }

  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    switch (offset) {
      case gcmd::offset:
        command(value);
        break;
      case rtaddr::offset:
        set_low(rtaddr_, value);
        break;
      case rtaddr::offset + 4:
        set_high(rtaddr_, value);
        break;
      case fsts::offset:
        faults_.write_status(fsts{value});
        if ((value & queue_errors()) != 0) {
          commands_.resume();
          work();
        }
        break;
      case fectl::offset:
        faults_.write_control(value);
        break;
      case fedata:
        faults_.message.data = value;
        break;
      case feaddr:
      case feaddr + 4:
        set_message(faults_.message, offset - feaddr, value);
        break;
      case iqt::offset:
        tail_ = value & 0x7'fff0;
        commands_.write_tail(tail_);
        work();
        break;
      case iqa::offset:
        set_low(iqa_, value & ~0x7f8U);
        break;
      case iqa::offset + 4:
        set_high(iqa_, value);
        break;
      case ics:
        if ((value & 1) != 0) completion_waits_ = completion_due_ = false;
        break;
      case iectl:
        completion_masked_ = value >> 31 != 0;
        break;
      case iedata:
        completion_message_.data = value;
        break;
      case ieaddr:
      case ieaddr + 4:
        set_message(completion_message_, offset - ieaddr, value);
        break;
      case irta::offset:
        set_low(irta_, value);
        break;
      case irta::offset + 4:
        set_high(irta_, value);
        break;
      default:
        if (offset - frcd < 16 * registers::count) faults_.write32(offset - frcd, value);
        break;
    }
    send_events();
  }

  // CommandHandler: a wait's interrupt.
  void interrupt() noexcept { completion_waits_ = completion_due_ = true; }

 private:
  using base::commands_;
  using base::faults_;
  using base::interrupts_;
  using base::settings_;
  using base::use_settings;
  using base::work;

  void after_fault() noexcept { send_events(); }
  void after_commands() noexcept { send_events(); }

  // 11.4: registers that have no snapshot type of their own.
  static constexpr std::uint32_t fedata = 0x3c;
  static constexpr std::uint32_t feaddr = 0x40;
  static constexpr std::uint32_t ics = 0x9c;
  static constexpr std::uint32_t iectl = 0xa0;
  static constexpr std::uint32_t iedata = 0xa4;
  static constexpr std::uint32_t ieaddr = 0xa8;
  static constexpr std::uint32_t iqercd = 0xb0;
  static constexpr std::uint32_t frcd = 0x220;
  static constexpr unsigned pasid_bits = 20;

  [[nodiscard]] static constexpr std::uint32_t low(std::uint64_t v) noexcept {
    return static_cast<std::uint32_t>(v);
  }
  [[nodiscard]] static constexpr std::uint32_t high(std::uint64_t v) noexcept {
    return static_cast<std::uint32_t>(v >> 32);
  }
  static constexpr void set_low(std::uint64_t& v, std::uint32_t half) noexcept {
    v = (v >> 32 << 32) | half;
  }
  static constexpr void set_high(std::uint64_t& v, std::uint32_t half) noexcept {
    v = low(v) | std::uint64_t{half} << 32;
  }
  static void set_message(pcie::msi_message& m, std::uint32_t half, std::uint32_t value) noexcept {
    std::uint64_t at = m.address.value();
    half == 0 ? set_low(at, value) : set_high(at, value);
    m.address = bus_addr{at};
  }

  [[nodiscard]] static constexpr command_codec codec(bool wide) noexcept {
    return {.wide = wide, .device_tlbs = false, .page_requests = false};
  }
  [[nodiscard]] cap capabilities() const noexcept {
    const auto& f = settings_.capabilities;
    const command_codec d = codec(false);
    return cap{}
        .with(cap::nd, 6)
        .with(cap::sagaw, f.widths)
        .with(cap::mgaw, static_cast<std::uint8_t>(f.input_bits - 1))
        .with(cap::fro, frcd / 16)
        .with(cap::sslps, static_cast<std::uint8_t>((f.pages_2m ? 1 : 0) | (f.pages_1g ? 2 : 0)))
        .with(cap::psi, d.page_selective)
        .with(cap::nfr, registers::count - 1)
        .with(cap::mamv, d.max_address_mask)
        .with(cap::dwd, d.drains_writes)
        .with(cap::drd, d.drains_reads)
        .with(cap::fs1gp, f.walks_first_stage() && f.pages_1g)
        .with(cap::fs5lp, f.walks_first_stage() && f.five_levels);
  }
  [[nodiscard]] ecap extended_capabilities() const noexcept {
    const auto& f = settings_.capabilities;
    return ecap{}
        .with(ecap::c, true)
        .with(ecap::qi, true)
        .with(ecap::ir, true)
        .with(ecap::eim, true)
        .with(ecap::pt, f.pass_through)
        .with(ecap::sc, f.snoop_control)
        .with(ecap::mhmv, codec(false).max_index_mask)
        .with(ecap::pss, static_cast<std::uint8_t>(f.scalable ? pasid_bits - 1 : 0))
        .with(ecap::pasid, f.scalable)
        .with(ecap::smts, f.scalable)
        .with(ecap::ssads, f.scalable && f.set_dirty)
        .with(ecap::ssts, f.scalable)
        .with(ecap::fsts, f.walks_first_stage());
  }
  // IQE and ITE stand as long as the queue stands still.
  [[nodiscard]] std::uint32_t queue_errors() const noexcept {
    if (!commands_.stopped()) return 0;
    return commands_.fault().what == iommu::ring_fault::device_timeout
               ? fsts::ite.of<std::uint32_t>(true)
               : fsts::iqe.of<std::uint32_t>(true);
  }

  // GCMD (11.4.4): each command is done at once. Bits that last follow what is written; the two
  // pointers are taken where their bits are set, which stay visible in GSTS.
  void command(std::uint32_t value) noexcept {
    constexpr std::uint32_t te = gcmd::te.mask<std::uint32_t>;
    constexpr std::uint32_t qie = gcmd::qie.mask<std::uint32_t>;
    constexpr std::uint32_t ire = gcmd::ire.mask<std::uint32_t>;
    constexpr std::uint32_t cfi = gcmd::cfi.mask<std::uint32_t>;
    constexpr std::uint32_t pointers =
        gcmd::srtp.mask<std::uint32_t> | gcmd::sirtp.mask<std::uint32_t>;
    const std::uint32_t before = status_;
    status_ = (status_ & pointers) | (value & (te | qie | ire | cfi | pointers));
    if ((value & gcmd::srtp.mask<std::uint32_t>) != 0) {
      settings_.root = rtaddr_ & rtaddr::address_mask;
      settings_.mode = static_cast<table_mode>(rtaddr{rtaddr_}[rtaddr::ttm]);
    }
    if ((value & gcmd::sirtp.mask<std::uint32_t>) != 0) {
      settings_.interrupt_table = irta_ & ~std::uint64_t{0xfff};
      settings_.log2_interrupts = irta{irta_}[irta::s] + 1U;
      settings_.extended = irta{irta_}[irta::eime];
    }
    settings_.enabled = (status_ & te) != 0;
    settings_.remap_interrupts = (status_ & ire) != 0;
    settings_.compatibility = (status_ & cfi) != 0;
    use_settings();
    if (((before ^ status_) & qie) == 0) return;
    if ((status_ & qie) == 0) {
      commands_.disable();
      commands_.resume();
      tail_ = 0;
      return;
    }
    // Pages of 4 KiB: 256 descriptors, or 128 wide ones.
    // DW is reserved where there is no scalable mode (11.4.9.3).
    const bool wide = settings_.capabilities.scalable && iqa{iqa_}[iqa::dw];
    commands_.enable(codec(wide), host_phys{iqa_ & ~std::uint64_t{0xfff}},
                     (wide ? 128U : 256U) << iqa{iqa_}[iqa::qs]);
    commands_.write_tail(tail_);
    work();
  }

  void send_events() noexcept {
    if (const auto message = faults_.take_event()) send(iommu_interrupt::fault, *message);
    if (completion_due_ && !completion_masked_) {
      completion_due_ = false;
      send(iommu_interrupt::command, completion_message_);
    }
  }
  void send(iommu_interrupt source, const pcie::msi_message& message) noexcept {
    interrupts_->send(static_cast<std::uint16_t>(source), message);
  }

  std::uint32_t status_ = 0;
  std::uint32_t tail_ = 0;
  std::uint64_t rtaddr_ = 0;
  std::uint64_t iqa_ = 0;
  std::uint64_t irta_ = 0;
  pcie::msi_message completion_message_{};
  bool completion_masked_ = true;
  bool completion_waits_ = false;
  bool completion_due_ = false;
};

}  // namespace phasebit::iommu::vtd
