// SPDX-License-Identifier: BSL-1.0
// A VT-d remapping unit of the simulated machine: registers, invalidation queue, tables, caches and
// fault registers. What drives QEMU's or a chipset's drives this one.
#pragma once

#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/backend/simulated/interrupts.hpp>
#include <phasebit/backend/simulated/iommu_memory.hpp>
#include <phasebit/backend/simulated/unit_bar.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/translation/remapper.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>
#include <phasebit/iommu/vtd/fault_registers.hpp>
#include <phasebit/iommu/vtd/spec/registers.hpp>
#include <phasebit/iommu/vtd/translation.hpp>

#include <cstdint>

namespace phasebit::backend::simulated {

// Stands in front of a fabric's memory from its construction to its end. Off at first: everything
// passes. Invalidations go through the queue alone (no CCMD, no IOTLB registers), and are carried
// out when the tail is written. Neither device TLBs nor page requests nor posted interrupts.
// Registers are accessed by bar(); read32 and write32 are for bar() and for tests.
class vtd_unit final : private dma_path {
  using registers = iommu::vtd::fault_registers<8>;
  using remapping = iommu::vtd::remapping;
  using remapper_type = iommu::remapper<remapping, iommu_memory, registers>;

 public:
  static constexpr std::uint32_t register_bytes = 0x1000;
  using bar_type = unit_bar<vtd_unit>;

  explicit vtd_unit(fabric& machine, const iommu::vtd::features& features = {}) noexcept
      : fabric_(&machine),
        memory_(machine.address_map()),
        settings_{.unit = features},
        remapper_(memory_, faults_, settings_),
        commands_(codec(false), memory_),
        path_(remapper_, machine.address_map()) {
    machine.set_dma_path(this);
  }
  vtd_unit(const vtd_unit&) = delete;
  vtd_unit& operator=(const vtd_unit&) = delete;
  ~vtd_unit() { fabric_->set_dma_path(nullptr); }

  [[nodiscard]] bar_type bar() noexcept { return {*fabric_, *this}; }
  // What the unit's own messages become, once software has programmed FEADDR and IEADDR with
  // addresses of the interrupt window.
  [[nodiscard]] interrupt_event& fault_event() noexcept { return fault_event_; }
  [[nodiscard]] interrupt_event& completion_event() noexcept { return completion_event_; }

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) const noexcept {
    using namespace iommu::vtd;
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
    using namespace iommu::vtd;
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

  // CommandHandler.
  [[nodiscard]] iommu::command_outcome apply(const iommu::command& c) noexcept {
    remapper_.apply(c);
    return iommu::command_outcome::done;
  }
  [[nodiscard]] bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    return iommu::store_completion<thread_order>(memory_, at, data, bytes);
  }
  void interrupt() noexcept { completion_waits_ = completion_due_ = true; }

 private:
  [[nodiscard]] result<segment<local_space>> translate(pcie::requester_id requester,
                                                       bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept override {
    const auto piece = path_.translate(requester, address, bytes, wanted);
    if (!piece) send_events();
    return piece;
  }
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id requester, const pcie::msi_message& message) noexcept override {
    const auto delivered = path_.remap_interrupt(requester, message);
    if (!delivered) send_events();
    return delivered;
  }

  // 11.4: registers that have no snapshot type of their own.
  static constexpr std::uint32_t fedata = 0x3c;
  static constexpr std::uint32_t feaddr = 0x40;
  static constexpr std::uint32_t ics = 0x9c;
  static constexpr std::uint32_t iectl = 0xa0;
  static constexpr std::uint32_t iedata = 0xa4;
  static constexpr std::uint32_t ieaddr = 0xa8;
  static constexpr std::uint32_t iqercd = 0xb0;
  static constexpr std::uint32_t frcd = 0x220;

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

  [[nodiscard]] iommu::vtd::command_codec codec(bool wide) const noexcept {
    return {.wide = wide, .device_tlbs = false, .page_requests = false};
  }
  [[nodiscard]] iommu::vtd::cap capabilities() const noexcept {
    using iommu::vtd::cap;
    const auto& f = settings_.unit;
    const iommu::vtd::command_codec d = codec(false);
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
        .with(cap::drd, d.drains_reads);
  }
  [[nodiscard]] iommu::vtd::ecap extended_capabilities() const noexcept {
    using iommu::vtd::ecap;
    const auto& f = settings_.unit;
    return ecap{}
        .with(ecap::c, true)
        .with(ecap::qi, true)
        .with(ecap::ir, true)
        .with(ecap::eim, true)
        .with(ecap::pt, f.pass_through)
        .with(ecap::sc, f.snoop_control)
        .with(ecap::mhmv, codec(false).max_index_mask)
        .with(ecap::smts, f.scalable);
  }
  // IQE and ITE stand as long as the queue stands still.
  [[nodiscard]] std::uint32_t queue_errors() const noexcept {
    using iommu::vtd::fsts;
    if (!commands_.stopped()) return 0;
    return commands_.fault().what == iommu::ring_fault::device_timeout
               ? fsts::ite.of<std::uint32_t>(true)
               : fsts::iqe.of<std::uint32_t>(true);
  }

  // GCMD (11.4.4): each command is done at once. Bits that last follow what is written; the two
  // pointers are taken where their bits are set, which stay visible in GSTS.
  void command(std::uint32_t value) noexcept {
    using namespace iommu::vtd;
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
    remapper_.set(settings_);
    if (((before ^ status_) & qie) == 0) return;
    if ((status_ & qie) == 0) {
      commands_.disable();
      commands_.resume();
      tail_ = 0;
      return;
    }
    // Pages of 4 KiB: 256 descriptors, or 128 wide ones.
    const bool wide = iqa{iqa_}[iqa::dw];
    commands_.enable(codec(wide), host_phys{iqa_ & ~std::uint64_t{0xfff}},
                     (wide ? 128U : 256U) << iqa{iqa_}[iqa::qs]);
    commands_.write_tail(tail_);
    work();
  }

  // Bounded by the ring: a poll ends when the head has met the tail.
  void work() noexcept { commands_.poll(*this, ~0U); }

  void send_events() noexcept {
    if (const auto message = faults_.take_event()) deliver(*message, fault_event_);
    if (completion_due_ && !completion_masked_) {
      completion_due_ = false;
      deliver(completion_message_, completion_event_);
    }
  }
  static void deliver(const pcie::msi_message& message, interrupt_event& event) noexcept {
    if (message.address - interrupt_window < interrupt_window_bytes) event.signal();
  }

  fabric* fabric_;
  iommu_memory memory_;
  registers faults_;
  remapping settings_;
  remapper_type remapper_;
  iommu::command_consumer<iommu::vtd::command_codec, thread_order, iommu_memory> commands_;
  remapped_path<remapper_type> path_;
  std::uint32_t status_ = 0;
  std::uint32_t tail_ = 0;
  std::uint64_t rtaddr_ = 0;
  std::uint64_t iqa_ = 0;
  std::uint64_t irta_ = 0;
  pcie::msi_message completion_message_{};
  bool completion_masked_ = true;
  bool completion_waits_ = false;
  bool completion_due_ = false;
  interrupt_event fault_event_;
  interrupt_event completion_event_;
};
static_assert(Mmio<vtd_unit::bar_type>);
static_assert(iommu::CommandHandler<vtd_unit>);

}  // namespace phasebit::backend::simulated
