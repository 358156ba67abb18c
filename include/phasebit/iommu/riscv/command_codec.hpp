// SPDX-License-Identifier: BSL-1.0
// The command queue of the RISC-V IOMMU: RISC-V IOMMU 1.0, 3.1.
#pragma once

#include <phasebit/iommu/command_queue/split_range.hpp>
#include <phasebit/iommu/riscv/spec/commands.hpp>

#include <cstdint>

namespace phasebit::iommu::riscv {

// The features in `capabilities` and `fctl`.
struct command_codec {
  static constexpr bool wraps = false;
  static constexpr bool masks_tail = true;
  static constexpr bool sync_by_head = true;  // cqh behind an IOFENCE.C: it has completed (3.1.2)
  static constexpr unsigned wait_store_bytes = 4;
  static constexpr fault_action after_store_failure = fault_action::stop;
  static constexpr fault_action after_timeout = fault_action::stop;

  bool device_tlbs = true;        // capabilities.ATS, page responses included
  bool wired_interrupts = false;  // fctl.WSI
  // The meaning of commands without a stage: IOTINVAL.GVMA, else IOTINVAL.VMA.
  translation_stage stage = translation_stage::second;

  [[nodiscard]] constexpr unsigned entry_bytes() const noexcept { return 16; }
  [[nodiscard]] constexpr unsigned index_shift() const noexcept { return 0; }

  // One page a command, and only leaves: where tables were changed, the domain as a whole.
  [[nodiscard]] constexpr std::uint64_t split_range(command& c, std::uint64_t first,
                                                    std::uint64_t) const noexcept {
    if (c.tables) {
      c.by_range = false;
      return ~std::uint64_t{0};
    }
    const unsigned step = detail::step_shift(c.page_sizes, 12, 9);
    c.first = first >> step << step;
    c.last = c.first | ((std::uint64_t{1} << step) - 1);
    return c.last;
  }

  [[nodiscard]] constexpr bool encode(const command& c, command_words& out) const noexcept {
    using namespace riscv;
    out = {};
    std::uint64_t& w0 = out.word[0];
    std::uint64_t& w1 = out.word[1];
    switch (c.kind) {
      case command_kind::invalidate_translations: {
        const bool first =
            (c.stage == translation_stage::any ? stage : c.stage) == translation_stage::first;
        if (c.by_pasid && !first) return false;
        // Without GV an address is ignored by GVMA and means the host's by VMA.
        if (c.by_range && !c.by_domain && !first) return false;
        w0 = start(opcode::iotinval, first ? iotinval::vma : iotinval::gvma) |
             iotinval::gv.of<std::uint64_t>(c.by_domain) |
             iotinval::gscid.of<std::uint64_t>(c.by_domain ? c.domain : std::uint16_t{0}) |
             iotinval::pscv.of<std::uint64_t>(c.by_pasid) |
             iotinval::pscid.of<std::uint64_t>(c.by_pasid ? c.pasid : 0);
        if (!c.by_range) return true;
        if (c.tables || (c.first ^ c.last) >> detail::step_shift(c.page_sizes, 12, 9) != 0) {
          return false;
        }
        w0 |= iotinval::av.of<std::uint64_t>(true);
        w1 = iotinval::address_63_12.of<std::uint64_t>(c.first >> 12);
        return true;
      }
      case command_kind::invalidate_device:
        if (c.device_ignore != 0 || c.device >> 24 != 0 || (c.by_domain && !c.by_device)) {
          return false;
        }
        w0 = start(opcode::iodir, iodir::inval_ddt) | iodir::dv.of<std::uint64_t>(c.by_device) |
             iodir::did.of<std::uint64_t>(c.by_device ? c.device : 0);
        return true;
      case command_kind::invalidate_process:
        if (!c.by_device || !c.by_pasid || c.device >> 24 != 0) return false;
        w0 = start(opcode::iodir, iodir::inval_pdt) | iodir::dv.of<std::uint64_t>(true) |
             iodir::did.of<std::uint64_t>(c.device) | iodir::pid.of<std::uint64_t>(c.pasid);
        return true;
      case command_kind::invalidate_device_tlb: {
        if (!device_tlbs) return false;
        const address_block block =
            c.by_range ? block_around(c.first, c.last) : address_block{0, 64};
        const bool large = block.shift > 12;
        w0 = start(opcode::ats, ats::inval) | device_and_pasid(c);
        w1 = (large ? size_in_ones(block) : block.first) | ats::s.of<std::uint64_t>(large) |
             ats::g.of<std::uint64_t>(c.global);
        return true;
      }
      case command_kind::page_response:
        if (!device_tlbs) return false;
        w0 = start(opcode::ats, ats::prgr) | device_and_pasid(c);
        w1 = ats::prg_index.of<std::uint64_t>(c.group) |
             ats::response.of<std::uint64_t>(static_cast<std::uint8_t>(c.response)) |
             ats::destination.of<std::uint64_t>(static_cast<std::uint16_t>(c.device));
        return true;
      case command_kind::wait:
        if (c.interrupt && !wired_interrupts) return false;
        w0 = start(opcode::iofence, iofence::c) | iofence::wsi.of<std::uint64_t>(c.interrupt) |
             iofence::pr.of<std::uint64_t>(c.drain_reads) |
             iofence::pw.of<std::uint64_t>(c.drain_writes) | iofence::av.of<std::uint64_t>(c.store);
        if (c.store) {
          if (c.store_bytes != 4 || (c.store_address & 3) != 0) return false;
          w0 |= iofence::data.of<std::uint64_t>(static_cast<std::uint32_t>(c.store_data));
          w1 = iofence::address_63_2.of<std::uint64_t>(c.store_address >> 2);
        }
        return true;
      default:
        return false;
    }
  }

  [[nodiscard]] constexpr command decode(const command_words& words) const noexcept {
    using namespace riscv;
    const std::uint64_t w0 = words.word[0];
    const std::uint64_t w1 = words.word[1];
    const unsigned function = func3.get(w0);
    command c;
    switch (static_cast<opcode>(opcode_bits.get(w0))) {
      case opcode::iotinval: {
        if (function > iotinval::gvma) return unknown();
        if ((w0 & iotinval::reserved0) != 0 || (w1 & iotinval::reserved1) != 0) return reserved();
        const bool first = function == iotinval::vma;
        c.kind = command_kind::invalidate_translations;
        c.stage = first ? translation_stage::first : translation_stage::second;
        c.by_domain = iotinval::gv.get(w0);
        c.by_pasid = iotinval::pscv.get(w0);
        if (c.by_pasid && !first) return command::as_illegal(illegal_reason::reserved_value);
        c.by_range = iotinval::av.get(w0) && (first || c.by_domain);
        c.tables = !c.by_range;
        if (c.by_domain) c.domain = iotinval::gscid.get(w0);
        if (c.by_pasid) c.pasid = iotinval::pscid.get(w0);
        if (c.by_range) {
          c.first = iotinval::address_63_12.get(w1) << 12;
          c.last = c.first | 0xfff;
        }
        return c;
      }
      case opcode::iofence:
        if (function != iofence::c) return unknown();
        if ((w0 & iofence::reserved0) != 0 || (w1 & iofence::reserved1) != 0) return reserved();
        c.kind = command_kind::wait;
        c.interrupt = iofence::wsi.get(w0);
        if (c.interrupt && !wired_interrupts) return reserved();
        c.drain_reads = iofence::pr.get(w0);
        c.drain_writes = iofence::pw.get(w0);
        c.store = iofence::av.get(w0);
        if (c.store) {
          c.store_bytes = 4;
          c.store_data = iofence::data.get(w0);
          c.store_address = iofence::address_63_2.get(w1) << 2;
        }
        return c;
      case opcode::iodir: {
        if (function > iodir::inval_pdt) return unknown();
        if ((w0 & iodir::reserved0) != 0 || w1 != 0) return reserved();
        const bool directory = function == iodir::inval_ddt;
        if (directory && iodir::pid.get(w0) != 0) return reserved();
        if (!directory && !iodir::dv.get(w0)) {
          return command::as_illegal(illegal_reason::reserved_value);
        }
        c = command::all_devices();
        if (!directory) {
          c.kind = command_kind::invalidate_process;
          c.by_pasid = true;
          c.pasid = iodir::pid.get(w0);
        }
        c.by_device = iodir::dv.get(w0);
        if (c.by_device) c.device = iodir::did.get(w0);
        return c;
      }
      case opcode::ats: {
        if (function > ats::prgr) return unknown();
        if (!device_tlbs) return command::as_illegal(illegal_reason::not_supported);
        const bool inval = function == ats::inval;
        if ((w0 & ats::reserved0) != 0 ||
            (w1 & (inval ? ats::inval_reserved1 : ats::prgr_reserved1)) != 0) {
          return reserved();
        }
        const std::uint32_t segment = ats::dsv.get(w0) ? ats::dseg.get(w0) : 0U;
        const std::uint32_t device = segment << 16 | ats::rid.get(w0);
        if (inval) {
          const std::uint64_t at = w1 & ~std::uint64_t{0xfff};
          const address_block block = ats::s.get(w1) ? block_from_ones(at) : address_block{at, 12};
          c = command::device_tlb(device, block.first, block.last());
          c.global = ats::g.get(w1);
        } else {
          const unsigned code = ats::response.get(w1);
          if (code > 1 && code != 15) return command::as_illegal(illegal_reason::reserved_value);
          c = command::respond(device, ats::prg_index.get(w1),
                               static_cast<page_response_code>(code));
        }
        c.by_pasid = ats::pv.get(w0);
        if (c.by_pasid) c.pasid = ats::pid.get(w0);
        return c;
      }
      default:
        return unknown();
    }
  }

  // The bit of cqcsr.
  [[nodiscard]] constexpr std::uint8_t code(ring_fault fault, illegal_reason) const noexcept {
    switch (fault) {
      case ring_fault::illegal_command:
        return riscv::cqcsr::cmd_ill.lo;
      case ring_fault::device_timeout:
        return riscv::cqcsr::cmd_to.lo;
      default:
        return riscv::cqcsr::cqmf.lo;
    }
  }

  // From cqcsr; each bit is written with one to clear it. cqh stays on the command. A fence that
  // raised fence_w_ip is no fault.
  [[nodiscard]] static constexpr ring_fault_report fault(std::uint32_t cqcsr) noexcept {
    using bits = riscv::cqcsr;
    if (bits::cmd_ill.get(cqcsr)) {
      return {ring_fault::illegal_command, recovery::replace_and_clear, 0};
    }
    if (bits::cmd_to.get(cqcsr)) return {ring_fault::device_timeout, recovery::clear, 0};
    if (bits::cqmf.get(cqcsr)) return {ring_fault::fetch_failed, recovery::clear, 0};
    return {};
  }

 private:
  [[nodiscard]] static constexpr std::uint64_t start(riscv::opcode op,
                                                     std::uint8_t function) noexcept {
    return static_cast<std::uint64_t>(op) | riscv::func3.of<std::uint64_t>(function);
  }
  [[nodiscard]] static constexpr command unknown() noexcept {
    return command::as_illegal(illegal_reason::unknown_opcode);
  }
  [[nodiscard]] static constexpr command reserved() noexcept {
    return command::as_illegal(illegal_reason::reserved_bits);
  }
  [[nodiscard]] static constexpr std::uint64_t device_and_pasid(const command& c) noexcept {
    using riscv::ats;
    return ats::rid.of<std::uint64_t>(static_cast<std::uint16_t>(c.device)) |
           ats::dsv.of<std::uint64_t>(c.device >> 16 != 0) |
           ats::dseg.of<std::uint64_t>(static_cast<std::uint8_t>(c.device >> 16)) |
           ats::pv.of<std::uint64_t>(c.by_pasid) |
           ats::pid.of<std::uint64_t>(c.by_pasid ? c.pasid : 0);
  }
};
static_assert(CommandCodec<command_codec>);

}  // namespace phasebit::iommu::riscv
