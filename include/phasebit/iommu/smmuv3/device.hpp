// SPDX-License-Identifier: BSL-1.0
// An emulated SMMUv3 (Arm IHI 0070, chapter 6).
#pragma once

#include <phasebit/iommu/ats/pri_messages.hpp>
#include <phasebit/iommu/device/device_base.hpp>
#include <phasebit/iommu/device/split_register.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>
#include <phasebit/iommu/smmuv3/fault_codec.hpp>
#include <phasebit/iommu/smmuv3/spec/page_requests.hpp>
#include <phasebit/iommu/smmuv3/spec/registers.hpp>
#include <phasebit/iommu/smmuv3/translation.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>

#include <cstdint>

namespace phasebit::iommu::smmuv3 {

namespace detail {

template <class Memory>
using event_records = fault_queue<event_queue_format, Memory>;

}  // namespace detail

// An SMMUv3: stage 2 of all granules, stream tables of one or two levels; with a link to functions
// also ATS and PRI. No stage 1, no stalls, wired interrupts. Changes made while SMMUEN is set take
// effect at the next write of CR0. Registers by read32 and write32, offsets below register_bytes.
// See device_base.
template <DmaPort<host_space> Port, InterruptSink Interrupts, iommu::device::DeviceClock Clock,
          iommu::device::FunctionLink Functions = iommu::device::no_functions>
class device final
    : public iommu::device::device_base<device<Port, Interrupts, Clock, Functions>, remapping,
                                        detail::event_records, command_codec, Port, Interrupts,
                                        Clock, Functions> {
  using base = iommu::device::device_base<device, remapping, detail::event_records, command_codec,
                                          Port, Interrupts, Clock, Functions>;
  friend base;
  using iommu_interrupt = iommu::device::interrupt_source;
  using split_register = iommu::device::split_register;

 public:
  static constexpr std::uint32_t register_bytes = registers_bytes;

  device(Port& memory, Interrupts& interrupts, Clock& clock, unsigned address_bits = 48) noexcept
    requires(!base::has_functions)
      : base(memory, interrupts, clock, nullptr, {.address_bits = address_bits}, codec()) {}
  device(Port& memory, Interrupts& interrupts, Clock& clock, Functions& functions,
         unsigned address_bits = 48) noexcept
    requires(base::has_functions)
      : base(memory, interrupts, clock, &functions, {.address_bits = address_bits}, codec()) {}

  // A page request of a function. True where it was recorded, or answered because the queue is full
  // or off; false without a link to functions.
  [[nodiscard]] bool request_page(const pri_request& request) noexcept {
    if constexpr (base::has_functions) {
      record_page_request(request);
      return true;
    }
    return false;
  }

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) const noexcept {
    switch (offset) {
      case idr0::offset:
        return idr0{}
            .with(idr0::s2p, true)
            .with(idr0::ttf, 2)
            .with(idr0::cohacc, true)
            .with(idr0::ats, base::has_functions)
            .with(idr0::pri, base::has_functions)
            .with(idr0::vmid16, true)
            .with(idr0::ttendian, 2)
            .with(idr0::stall_model, 1)
            .with(idr0::st_level, 1)
            .raw;
      case idr1::offset:
        return idr1{}.with(idr1::sidsize, 16).with(idr1::eventqs, 15).with(idr1::cmdqs, 15).raw |
               idr1_priqs.of<std::uint32_t>(base::has_functions ? 15 : 0);
      case idr3::offset:
        return idr3{}.with(idr3::ril, true).raw;
      case idr5::offset:
        return idr5{}
            .with(idr5::oas, s2ps_of(settings_.address_bits))
            .with(idr5::gran4k, true)
            .with(idr5::gran16k, true)
            .with(idr5::gran64k, true)
            .raw;
      case cr0::offset:
      case cr0::ack_offset:
        return cr0_.raw;
      case cr1::offset:
        return cr1_;
      case cr2::offset:
        return cr2_;
      case gbpa::offset:
        return gbpa{}.with(gbpa::abort, settings_.abort_when_off).raw;
      case irq_ctrl:
      case irq_ctrl + 4:
        return irq_ctrl_;
      case gerror::offset:
        return gerror_;
      case gerror::ack_offset:
        return gerrorn_;
      case strtab_base::offset:
      case strtab_base::offset + 4:
        return strtab_.read(offset);
      case strtab_base_cfg::offset:
        return strtab_cfg_.raw;
      case queue_base::cmdq_offset:
      case queue_base::cmdq_offset + 4:
        return cmdq_.read(offset);
      case queue_base::eventq_offset:
      case queue_base::eventq_offset + 4:
        return eventq_.read(offset);
      case cmdq_prod_offset:
        return cmdq_prod_;
      case cmdq_cons_offset:
        return (commands_.enabled() ? commands_.head() : 0) | std::uint32_t{commands_.fault().code}
                                                                  << 24;
      case eventq_prod_offset:
        return faults_.producer() | queue_overflow.of(overflow_flag());
      case priq_base_offset:
      case priq_base_offset + 4:
        return priq_.read(offset);
      case priq_prod_offset:
        return priq_prod_ | queue_overflow.of(pages_acknowledged_ != pages_overflow_);
      case priq_cons_offset:
        return priq_cons_ | queue_overflow.of(pages_acknowledged_);
      case eventq_cons_offset:
        return faults_.consumer() | queue_overflow.of(overflow_acknowledged_);
      default:
        return 0;
    }
  }

  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    switch (offset) {
      case cr0::offset:
        turn(cr0{value & 0x1f});
        break;
      case cr1::offset:
        cr1_ = value;
        break;
      case cr2::offset:
        cr2_ = value;
        break;
      case gbpa::offset:
        if (!gbpa{value}[gbpa::update]) break;
        settings_.abort_when_off = gbpa{value}[gbpa::abort];
        use_settings();
        break;
      case irq_ctrl:
        irq_ctrl_ = value & 7;
        break;
      case gerror::ack_offset:
        gerrorn_ = value;
        if (!differs(gerror::cmdq_err.mask<std::uint32_t>) && commands_.stopped()) {
          commands_.resume();
          work();
        }
        if (!differs(gerror::eventq_abt_err.mask<std::uint32_t>)) faults_.clear_broken();
        break;
      case strtab_base::offset:
      case strtab_base::offset + 4:
        strtab_.write(offset, value);
        break;
      case strtab_base_cfg::offset:
        strtab_cfg_ = strtab_base_cfg{value};
        break;
      case queue_base::cmdq_offset:
      case queue_base::cmdq_offset + 4:
        cmdq_.write(offset, value);
        break;
      case queue_base::eventq_offset:
      case queue_base::eventq_offset + 4:
        eventq_.write(offset, value);
        break;
      case cmdq_prod_offset:
        cmdq_prod_ = value;
        commands_.write_tail(value);
        work();
        break;
      case priq_base_offset:
      case priq_base_offset + 4:
        if (!cr0_[cr0::priqen]) priq_.write(offset, value);
        break;
      case priq_prod_offset:
        if (!cr0_[cr0::priqen]) priq_prod_ = value & pages().index_mask(true);
        break;
      case priq_cons_offset:
        priq_cons_ = value & pages().index_mask(true);
        if (queue_overflow.get(value) == (pages_acknowledged_ != pages_overflow_)) {
          pages_overflow_ = false;
          pages_acknowledged_ = queue_overflow.get(value);
        }
        break;
      case eventq_prod_offset:
        if (!faults_.enabled()) faults_.set_producer(value);
        break;
      case eventq_cons_offset: {
        const bool flag = overflow_flag();
        faults_.set_consumer(value);
        overflow_acknowledged_ = queue_overflow.get(value);
        if (overflow_acknowledged_ == flag) faults_.clear_overflow();
        break;
      }
      default:
        break;
    }
  }

 private:
  using base::commands_;
  using base::faults_;
  using base::interrupts_;
  using base::settings_;
  using base::use_settings;
  using base::work;

  [[nodiscard]] static constexpr command_codec codec() noexcept {
    return {.msi = false,
            .device_tlbs = base::has_functions,
            .page_requests = base::has_functions,
            .stalls = false};
  }
  static constexpr std::uint32_t irq_ctrl = 0x50;  // 6.3.17
  static constexpr std::uint32_t irq_ctrl_priq = 1 << 1;
  static constexpr std::uint32_t irq_ctrl_eventq = 1 << 2;

  // 3.9.1: the stream table entry's EATS.
  [[nodiscard]] bool permits_ats(pcie::requester_id requester) noexcept {
    const address<host_space> at{settings_.stream_table};
    const std::uint32_t id = requester.raw();
    const unsigned log2 = settings_.log2_streams;
    const entry_place place =
        settings_.split == 0 || settings_.split >= log2
            ? find_device_entry(linear_stream_table{log2}, this->memory_, at, id)
            : find_device_entry(two_level_stream_table{log2, settings_.split}, this->memory_, at,
                                id);
    if (!cr0_[cr0::smmuen] || place.status != walk_status::mapped) return false;
    const auto e = load_entry_words<stream_table_entry>(place.entry);
    return e[stream_table_entry::v] && e[stream_table_entry::eats] == 1;
  }
  // 6.3.9: without ATSCHK translated requests are not checked.
  [[nodiscard]] bool permits_translated(pcie::requester_id requester) noexcept {
    return !cr0_[cr0::smmuen] || !cr0_[cr0::atschk] || permits_ats(requester);
  }

  [[nodiscard]] fault_ring pages() const noexcept {
    return {priq_.value & address_mask, log2_of(priq_.value)};
  }
  // 8.1: what cannot be recorded is answered where it is the last request of its group, with success
  // when the queue is full, so that the function requests it again.
  void record_page_request(const pri_request& request) noexcept {
    const fault_ring ring = pages();
    const bool on = cr0_[cr0::priqen];
    if (on && !pages_overflow_ && !ring.full(priq_prod_, priq_cons_, true)) {
      const std::uint64_t at =
          ring.base + std::uint64_t{ring.slot(priq_prod_)} * sizeof(page_request_record);
      table_word* const words = this->memory_.find(host_phys{at}, sizeof(page_request_record));
      if (words != nullptr) {
        const auto record = page_request_record::of(request);
        for (std::size_t i = 0; i != record.word_count; ++i) {
          // The index that is published behind it orders the record.
          iommu::detail::store_entry_relaxed(words + i, record.words[i].get());
        }
        this->memory_.write_back();
        priq_prod_ = (priq_prod_ + 1) & ring.index_mask(true);
        if ((irq_ctrl_ & irq_ctrl_priq) != 0) this->raise(iommu_interrupt::page_request);
        return;
      }
    } else if (on) {
      pages_overflow_ = true;
    }
    if (!request.last() || request.stop_marker()) return;
    this->functions_->respond(respond(
        request, pages_overflow_ ? page_response_code::success : page_response_code::failure));
  }

  // OVFLG: differs from what software has acknowledged while records are being lost (7.4).
  [[nodiscard]] bool overflow_flag() const noexcept {
    return overflow_acknowledged_ != faults_.overflow();
  }
  [[nodiscard]] bool differs(std::uint32_t bit) const noexcept {
    return ((gerror_ ^ gerrorn_) & bit) != 0;
  }
  void raise_error(std::uint32_t bit) noexcept {
    if (!differs(bit)) gerror_ ^= bit;
  }

  void after_fault() noexcept {
    if (!faults_.take_event()) return;
    if (faults_.broken()) raise_error(gerror::eventq_abt_err.mask<std::uint32_t>);
    if ((irq_ctrl_ & irq_ctrl_eventq) != 0) this->raise(iommu_interrupt::fault);
  }

  void turn(cr0 next) noexcept {
    cr0_ = next;
    settings_.enabled = next[cr0::smmuen];
    settings_.stream_table = strtab_.value & address_mask;
    settings_.log2_streams =
        strtab_cfg_[strtab_base_cfg::log2size] < 32 ? strtab_cfg_[strtab_base_cfg::log2size] : 31;
    // A split that the architecture does not have behaves as 6 does (6.3.25).
    const unsigned split = strtab_cfg_[strtab_base_cfg::split];
    settings_.split = strtab_cfg_[strtab_base_cfg::fmt] != 1 ? 0
                      : split == 8 || split == 10            ? split
                                                             : 6;
    use_settings();
    if (next[cr0::eventqen] && !faults_.enabled()) {
      faults_.enable({eventq_.value & address_mask, log2_of(eventq_.value)});
    } else if (!next[cr0::eventqen]) {
      faults_.disable();
    }
    if (next[cr0::cmdqen] && !commands_.enabled()) {
      commands_.enable(host_phys{cmdq_.value & address_mask}, 1U << log2_of(cmdq_.value));
      commands_.write_tail(cmdq_prod_);
      work();
    } else if (!next[cr0::cmdqen] && commands_.enabled()) {
      commands_.disable();
      commands_.resume();
    }
  }
  [[nodiscard]] static unsigned log2_of(std::uint64_t base_register) noexcept {
    const unsigned size = queue_base{base_register}[queue_base::log2size];
    return size < 15 ? size : 15;  // the limit in IDR1
  }

  void after_commands() noexcept {
    if (commands_.stopped()) raise_error(gerror::cmdq_err.mask<std::uint32_t>);
  }

  static constexpr std::uint64_t address_mask = 0x000f'ffff'ffff'ffe0;

  split_register priq_;
  std::uint32_t priq_prod_ = 0;
  std::uint32_t priq_cons_ = 0;
  bool pages_overflow_ = false;
  bool pages_acknowledged_ = false;

  cr0 cr0_{};
  std::uint32_t cr1_ = 0;
  std::uint32_t cr2_ = 0;
  std::uint32_t irq_ctrl_ = 0;
  std::uint32_t gerror_ = 0;
  std::uint32_t gerrorn_ = 0;
  split_register strtab_;
  strtab_base_cfg strtab_cfg_{};
  split_register cmdq_;
  split_register eventq_;
  std::uint32_t cmdq_prod_ = 0;
  bool overflow_acknowledged_ = false;
};

}  // namespace phasebit::iommu::smmuv3
