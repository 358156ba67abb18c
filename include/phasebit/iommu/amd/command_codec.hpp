// SPDX-License-Identifier: BSL-1.0
// The command buffer of the AMD IOMMU: 48882, 2.4.
#pragma once

#include <phasebit/iommu/amd/spec/commands.hpp>
#include <phasebit/iommu/command_queue/split_range.hpp>

#include <cstdint>

namespace phasebit::iommu::amd {

// The fields of the Extended Feature Register that a driver reads or an emulated IOMMU offers.
struct command_codec {
  static constexpr bool wraps = false;
  static constexpr bool masks_tail = false;
  static constexpr bool sync_by_head = false;  // commands may be fetched ahead of their completion
  static constexpr unsigned wait_store_bytes = 8;
  static constexpr fault_action after_store_failure = fault_action::stop;
  static constexpr fault_action after_timeout = fault_action::go_on;  // an event is logged

  bool invalidate_all = true;  // EFR.IASup
  bool guest = true;           // EFR.GTSup: PASIDs
  bool page_requests = true;   // EFR.PPRSup
  bool device_tlbs = true;     // capability header, IotlbSup

  [[nodiscard]] constexpr unsigned entry_bytes() const noexcept { return 16; }
  [[nodiscard]] constexpr unsigned index_shift() const noexcept { return 4; }

  [[nodiscard]] constexpr std::uint64_t split_range(command& c, std::uint64_t first,
                                                    std::uint64_t last) const noexcept {
    const address_block block = detail::next_block(first, last, 64);
    // The addresses above are a sign extension, and are invalidated as a whole.
    if (block.shift > 51) {
      c.by_range = false;
      return ~std::uint64_t{0};
    }
    c.first = block.first;
    c.last = block.last();
    return c.last;
  }

  [[nodiscard]] constexpr bool encode(const command& c, command_words& out) const noexcept {
    using namespace amd;
    out = {};
    std::uint64_t& w0 = out.word[0];
    std::uint64_t& w1 = out.word[1];
    const auto device = static_cast<std::uint16_t>(c.device);
    switch (c.kind) {
      case command_kind::invalidate_translations: {
        using d = invalidate_iommu_pages;
        if (!c.by_domain) return !c.by_pasid && !c.by_range && everything(w0);
        if (c.by_pasid && !guest) return false;
        w0 = start(opcode::invalidate_iommu_pages) | d::domain_id.of<std::uint64_t>(c.domain) |
             d::pasid.of<std::uint64_t>(c.by_pasid ? c.pasid : 0);
        w1 = spell(c) | d::pde.of<std::uint64_t>(c.tables) | d::gn.of<std::uint64_t>(c.by_pasid);
        return true;
      }
      case command_kind::invalidate_everything:
        return everything(w0);
      case command_kind::invalidate_device:
        if (!c.by_device) return !c.by_domain && everything(w0);
        if (c.device_ignore != 0) return false;
        w0 = start(opcode::invalidate_devtab_entry) | device;
        return true;
      case command_kind::invalidate_interrupts:
        if (!c.by_device) return everything(w0);
        w0 = start(opcode::invalidate_interrupt_table) | device;  // of all its entries
        return true;
      case command_kind::invalidate_device_tlb: {
        using d = invalidate_iotlb_pages;
        if (!device_tlbs || (c.by_pasid && !guest)) return false;
        w0 = start(opcode::invalidate_iotlb_pages) | device |
             d::queue_id.of<std::uint64_t>(device) | d::maxpend.of<std::uint64_t>(c.queue_depth);
        w1 = spell(c) | d::gn.of<std::uint64_t>(c.by_pasid);
        if (c.by_pasid) {
          w0 |= d::pasid_15_8.of<std::uint64_t>(static_cast<std::uint8_t>(c.pasid >> 8)) |
                d::pasid_7_0.of<std::uint64_t>(static_cast<std::uint8_t>(c.pasid)) |
                d::pasid_19_16.of<std::uint64_t>(static_cast<std::uint8_t>(c.pasid >> 16));
        }
        return true;
      }
      case command_kind::page_response: {
        using d = complete_ppr_request;
        if (!page_requests) return false;
        w0 = start(opcode::complete_ppr_request) | device |
             d::pasid.of<std::uint64_t>(c.by_pasid ? c.pasid : 0);
        w1 = d::gn.of<std::uint64_t>(c.by_pasid) | d::tag.of<std::uint64_t>(c.group) |
             d::response.of<std::uint64_t>(static_cast<std::uint8_t>(c.response));
        return true;
      }
      case command_kind::wait: {
        using d = completion_wait;
        w0 = start(opcode::completion_wait) | d::s.of<std::uint64_t>(c.store) |
             d::i.of<std::uint64_t>(c.interrupt) | d::f.of<std::uint64_t>(c.fence);
        if (c.store) {
          if (c.store_bytes != 8 || (c.store_address & ~d::store_address) != 0) return false;
          w0 |= c.store_address;
          w1 = c.store_data;
        }
        return true;
      }
      default:
        return false;
    }
  }

  [[nodiscard]] constexpr command decode(const command_words& words) const noexcept {
    using namespace amd;
    const std::uint64_t w0 = words.word[0];
    const std::uint64_t w1 = words.word[1];
    const auto device = static_cast<std::uint16_t>(w0);
    command c;
    switch (static_cast<opcode>(opcode_bits.get(w0))) {
      case opcode::completion_wait: {
        using d = completion_wait;
        if ((w0 & d::reserved0) != 0) return reserved();
        c.kind = command_kind::wait;
        c.interrupt = d::i.get(w0);
        c.fence = d::f.get(w0);
        c.store = d::s.get(w0);
        if (c.store) {
          c.store_bytes = 8;
          c.store_address = w0 & d::store_address;
          c.store_data = w1;
        }
        return c;
      }
      case opcode::invalidate_devtab_entry:
        if ((w0 & invalidate_devtab_entry::reserved0) != 0 || w1 != 0) return reserved();
        return command::one_device(device);
      case opcode::invalidate_iommu_pages: {
        using d = invalidate_iommu_pages;
        if ((w0 & d::reserved0) != 0 || (w1 & d::reserved1) != 0) return reserved();
        c.kind = command_kind::invalidate_translations;
        c.by_domain = true;
        c.domain = d::domain_id.get(w0);
        c.by_pasid = d::gn.get(w1);
        if (c.by_pasid && !guest) return unsupported();
        if (c.by_pasid) c.pasid = d::pasid.get(w0);
        c.tables = d::pde.get(w1);
        return read(c, w1);
      }
      case opcode::invalidate_iotlb_pages: {
        using d = invalidate_iotlb_pages;
        if (!device_tlbs) return unsupported();
        if ((w1 & d::reserved1) != 0) return reserved();
        c.kind = command_kind::invalidate_device_tlb;
        c.by_device = true;
        c.device = device;
        c.queue_depth = d::maxpend.get(w0);
        c.by_pasid = d::gn.get(w1);
        if (c.by_pasid && !guest) return unsupported();
        if (c.by_pasid) {
          c.pasid = d::pasid_7_0.get(w0) | std::uint32_t{d::pasid_15_8.get(w0)} << 8 |
                    std::uint32_t{d::pasid_19_16.get(w0)} << 16;
        }
        return read(c, w1);
      }
      case opcode::invalidate_interrupt_table:
        if ((w0 & invalidate_interrupt_table::reserved0) != 0 || w1 != 0) return reserved();
        return command::device_interrupts(device);
      case opcode::prefetch_iommu_pages:
        return c;
      case opcode::complete_ppr_request: {
        using d = complete_ppr_request;
        if (!page_requests) return unsupported();
        if ((w0 & d::reserved0) != 0 || (w1 & d::reserved1) != 0) return reserved();
        const unsigned code = d::response.get(w1);
        if (code > 1 && code != 15) return command::as_illegal(illegal_reason::reserved_value);
        c = command::respond(device, d::tag.get(w1), static_cast<page_response_code>(code));
        c.by_pasid = d::gn.get(w1);
        if (c.by_pasid) c.pasid = d::pasid.get(w0);
        return c;
      }
      case opcode::invalidate_iommu_all:
        if (!invalidate_all) return unsupported();
        if ((w0 & invalidate_iommu_all::reserved0) != 0 || w1 != 0) return reserved();
        c.kind = command_kind::invalidate_everything;
        c.tables = true;
        return c;
      default:
        return command::as_illegal(illegal_reason::unknown_opcode);
    }
  }

  // The code of the event that is logged: 5 ILLEGAL_COMMAND_ERROR, 6 COMMAND_HARDWARE_ERROR,
  // 7 IOTLB_INV_TIMEOUT (2.5.6 to 2.5.8). A tail beyond the buffer has none of its own.
  [[nodiscard]] constexpr std::uint8_t code(ring_fault fault, illegal_reason) const noexcept {
    switch (fault) {
      case ring_fault::illegal_command:
        return 5;
      case ring_fault::fetch_failed:
      case ring_fault::bad_tail:
      case ring_fault::store_failed:
        return 6;
      case ring_fault::device_timeout:
        return 7;
      default:
        return 0;
    }
  }

  // From the first 64-bit word of an event log entry. After the first two the buffer is halted
  // (status CmdBufRun = 0); after a timeout it continues.
  [[nodiscard]] static constexpr ring_fault_report fault(std::uint64_t event) noexcept {
    switch (event >> 60) {
      case 5:
        return {ring_fault::illegal_command, recovery::restart, 0};
      case 6:
        return {ring_fault::fetch_failed, recovery::restart, 0};
      case 7:
        return {ring_fault::device_timeout, recovery::none,
                static_cast<std::uint32_t>(event & 0xffff)};
      default:
        return {};
    }
  }

 private:
  [[nodiscard]] static constexpr std::uint64_t start(amd::opcode op) noexcept {
    return amd::opcode_bits.of<std::uint64_t>(static_cast<std::uint8_t>(op));
  }
  [[nodiscard]] constexpr bool everything(std::uint64_t& w0) const noexcept {
    w0 = start(amd::opcode::invalidate_iommu_all);
    return invalidate_all;
  }
  [[nodiscard]] static constexpr command reserved() noexcept {
    return command::as_illegal(illegal_reason::reserved_bits);
  }
  [[nodiscard]] static constexpr command unsupported() noexcept {
    return command::as_illegal(illegal_reason::not_supported);
  }
  // Address and S of either kind of pages.
  [[nodiscard]] static constexpr std::uint64_t spell(const command& c) noexcept {
    const address_block block = c.by_range ? block_around(c.first, c.last) : address_block{0, 64};
    if (block.shift == 12) return block.first;
    return size_in_ones(block.shift > 51 ? address_block{0, 64} : block) | 1;
  }
  [[nodiscard]] static constexpr command read(command c, std::uint64_t w1) noexcept {
    const std::uint64_t at = w1 & ~std::uint64_t{0xfff};
    const address_block block = (w1 & 1) != 0 ? block_from_ones(at) : address_block{at, 12};
    if (block.shift > 51) return c;
    c.by_range = true;
    c.first = block.first;
    c.last = block.last();
    return c;
  }
};
static_assert(CommandCodec<command_codec>);

}  // namespace phasebit::iommu::amd
