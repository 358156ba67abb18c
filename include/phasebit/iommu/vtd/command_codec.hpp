// SPDX-License-Identifier: BSL-1.0
// The invalidation queue of VT-d: VT-d 4.1, 6.5.2.
#pragma once

#include <phasebit/iommu/command_queue/split_range.hpp>
#include <phasebit/iommu/vtd/spec/commands.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

// The features in CAP_REG and ECAP_REG that a driver reads or an emulated IOMMU offers.
struct command_codec {
  static constexpr bool wraps = false;
  static constexpr bool masks_tail = false;
  static constexpr bool sync_by_head = false;  // the head passes a wait that is still pending
  static constexpr unsigned wait_store_bytes = 4;
  static constexpr fault_action after_store_failure = fault_action::stop;
  static constexpr fault_action after_timeout =
      fault_action::stop_past;  // pending waits are aborted

  bool wide = false;                  // descriptors of 256 bits: IQA.DW
  bool page_selective = true;         // CAP.PSI
  std::uint8_t max_address_mask = 9;  // CAP.MAMV
  std::uint8_t max_index_mask = 15;   // ECAP.MHMV
  bool device_tlbs = true;            // ECAP.DT
  bool page_requests = true;          // ECAP.PRS
  bool drains_reads = true;           // CAP.DRD
  bool drains_writes = true;          // CAP.DWD

  [[nodiscard]] constexpr unsigned entry_bytes() const noexcept { return wide ? 32 : 16; }
  [[nodiscard]] constexpr unsigned index_shift() const noexcept { return wide ? 5 : 4; }

  [[nodiscard]] constexpr std::uint64_t split_range(command& c, std::uint64_t first,
                                                    std::uint64_t last) const noexcept {
    if (!page_selective) {
      c.by_range = false;
      return ~std::uint64_t{0};
    }
    const unsigned most = 12U + max_address_mask;
    const address_block block = detail::next_block(first, last, most < 64 ? most : 64);
    c.first = block.first;
    c.last = block.last();
    return c.last;
  }

  [[nodiscard]] constexpr bool encode(const command& c, command_words& out) const noexcept {
    using namespace vtd;
    out = {};
    std::uint64_t& w0 = out.word[0];
    std::uint64_t& w1 = out.word[1];
    const auto device = static_cast<std::uint16_t>(c.device);
    switch (c.kind) {
      case command_kind::invalidate_translations:
        if (c.by_pasid) {
          using d = pasid_iotlb_descriptor;
          if (!wide || !c.by_domain) return false;
          w0 = start(descriptor_type::pasid_iotlb) | d::g.of<std::uint64_t>(c.by_range ? 3 : 2) |
               d::did.of<std::uint64_t>(c.domain) | d::pasid.of<std::uint64_t>(c.pasid);
        } else {
          using d = iotlb_descriptor;
          if (c.by_range && !c.by_domain) return false;
          const unsigned g = c.by_range ? 3 : c.by_domain ? 2 : 1;
          w0 = start(descriptor_type::iotlb) |
               d::g.of<std::uint64_t>(static_cast<std::uint8_t>(g)) |
               d::did.of<std::uint64_t>(c.domain) |
               d::dw.of<std::uint64_t>(c.drain_writes && drains_writes) |
               d::dr.of<std::uint64_t>(c.drain_reads && drains_reads);
        }
        if (c.by_range) {
          const address_block block = block_around(c.first, c.last);
          if (!page_selective || block.shift > 12U + max_address_mask) return false;
          w1 = block.first | (block.shift - 12) | iotlb_descriptor::ih.of<std::uint64_t>(!c.tables);
        }
        return true;
      case command_kind::invalidate_device: {
        using d = context_cache_descriptor;
        const unsigned g = c.by_device ? 3 : c.by_domain ? 2 : 1;
        const int mask = function_mask(c.device_ignore);
        if (mask < 0) return false;
        w0 = start(descriptor_type::context_cache) |
             d::g.of<std::uint64_t>(static_cast<std::uint8_t>(g)) |
             d::did.of<std::uint64_t>(c.domain) |
             d::sid.of<std::uint64_t>(c.by_device ? device : std::uint16_t{0}) |
             d::fm.of<std::uint64_t>(static_cast<std::uint8_t>(mask));
        return true;
      }
      case command_kind::invalidate_process: {
        using d = pasid_cache_descriptor;
        if (!wide || (c.by_pasid && !c.by_domain)) return false;
        const unsigned g = !c.by_domain ? 3 : c.by_pasid ? 1 : 0;
        w0 = start(descriptor_type::pasid_cache) |
             d::g.of<std::uint64_t>(static_cast<std::uint8_t>(g)) |
             d::did.of<std::uint64_t>(c.domain) | d::pasid.of<std::uint64_t>(c.pasid);
        return true;
      }
      case command_kind::invalidate_interrupts: {
        using d = interrupt_entry_descriptor;
        w0 = start(descriptor_type::interrupt_entry);
        if (!c.by_range) return true;
        if (c.last > 0xffff) return false;
        const address_block block = block_around(c.first, c.last, 0);
        if (block.shift > max_index_mask) return true;  // all of them
        w0 |= d::g.of<std::uint64_t>(true) |
              d::im.of<std::uint64_t>(static_cast<std::uint8_t>(block.shift)) |
              d::iidx.of<std::uint64_t>(static_cast<std::uint16_t>(block.first));
        return true;
      }
      case command_kind::invalidate_device_tlb: {
        if (!device_tlbs) return false;
        const address_block block =
            c.by_range ? block_around(c.first, c.last) : address_block{0, 64};
        const bool large = block.shift > 12;
        w1 = large ? size_in_ones(block) : block.first;
        if (c.by_pasid) {
          using d = pasid_device_tlb_descriptor;
          if (!wide) return false;
          w0 = start(descriptor_type::pasid_device_tlb) | d::sid.of<std::uint64_t>(device) |
               d::pasid.of<std::uint64_t>(c.pasid) | d::mip.of<std::uint64_t>(c.queue_depth & 31U);
          w1 |= d::s.of<std::uint64_t>(large) | d::g.of<std::uint64_t>(c.global);
        } else {
          using d = device_tlb_descriptor;
          w0 = start(descriptor_type::device_tlb) | d::sid.of<std::uint64_t>(device) |
               d::mip.of<std::uint64_t>(c.queue_depth & 31U);
          w1 |= d::s.of<std::uint64_t>(large);
        }
        return true;
      }
      case command_kind::page_response: {
        using d = page_group_response_descriptor;
        if (!wide || !page_requests) return false;
        w0 = start(descriptor_type::page_group_response) |
             d::pasid_present.of<std::uint64_t>(c.by_pasid) |
             d::response.of<std::uint64_t>(static_cast<std::uint8_t>(c.response)) |
             d::rid.of<std::uint64_t>(device) | d::pasid.of<std::uint64_t>(c.pasid);
        w1 = d::prg_index.of<std::uint64_t>(c.group);
        return true;
      }
      case command_kind::wait: {
        using d = wait_descriptor;
        w0 = start(descriptor_type::wait) | d::interrupt.of<std::uint64_t>(c.interrupt) |
             d::sw.of<std::uint64_t>(c.store) | d::fn.of<std::uint64_t>(c.fence);
        if (c.store) {
          if (c.store_bytes != 4 || (c.store_address & d::reserved1) != 0) return false;
          w0 |= d::status_data.of<std::uint64_t>(static_cast<std::uint32_t>(c.store_data));
          w1 = c.store_address;
        }
        return true;
      }
      default:
        return false;
    }
  }

  [[nodiscard]] constexpr command decode(const command_words& words) const noexcept {
    using namespace vtd;
    const std::uint64_t w0 = words.word[0];
    const std::uint64_t w1 = words.word[1];
    if (type_high.get(w0) != 0) return unknown();
    const auto type = static_cast<descriptor_type>(type_low.get(w0));
    const bool private_data = type == descriptor_type::page_group_response &&
                              page_group_response_descriptor::private_data.get(w0);
    if (wide && !private_data && (words.word[2] | words.word[3]) != 0) return reserved();
    command c;
    switch (type) {
      case descriptor_type::context_cache: {
        using d = context_cache_descriptor;
        if ((w0 & d::reserved0) != 0 || w1 != 0) return reserved();
        c.kind = command_kind::invalidate_device;
        const unsigned g = d::g.get(w0);
        if (g == 0) return meaningless();
        if (g >= 2) c.domain = d::did.get(w0);
        c.by_domain = g == 2;
        c.by_device = g == 3;
        if (g == 3) {
          constexpr std::uint8_t ignored[4] = {0, 4, 6, 7};
          c.device = d::sid.get(w0);
          c.device_ignore = ignored[d::fm.get(w0)];
        }
        return c;
      }
      case descriptor_type::iotlb: {
        using d = iotlb_descriptor;
        const unsigned g = d::g.get(w0);
        if ((w0 & d::reserved0) != 0 || (w1 & d::reserved1) != 0) return reserved();
        if (g == 0) return meaningless();
        c.kind = command_kind::invalidate_translations;
        c.drain_writes = d::dw.get(w0);
        c.drain_reads = d::dr.get(w0);
        c.by_domain = g >= 2;
        if (c.by_domain) c.domain = d::did.get(w0);
        return with_pages(c, w1, g == 3);
      }
      case descriptor_type::pasid_iotlb: {
        using d = pasid_iotlb_descriptor;
        if (!wide) return unsupported();
        const unsigned g = d::g.get(w0);
        if ((w0 & d::reserved0) != 0 || (w1 & iotlb_descriptor::reserved1) != 0) return reserved();
        if (g < 2) return meaningless();
        c.kind = command_kind::invalidate_translations;
        c.by_domain = c.by_pasid = true;
        c.domain = d::did.get(w0);
        c.pasid = d::pasid.get(w0);
        return with_pages(c, w1, g == 3);
      }
      case descriptor_type::pasid_cache: {
        using d = pasid_cache_descriptor;
        if (!wide) return unsupported();
        const unsigned g = d::g.get(w0);
        if ((w0 & d::reserved0) != 0 || w1 != 0) return reserved();
        if (g == 2) return meaningless();
        c.kind = command_kind::invalidate_process;
        c.by_domain = g != 3;
        c.by_pasid = g == 1;
        if (c.by_domain) c.domain = d::did.get(w0);
        if (c.by_pasid) c.pasid = d::pasid.get(w0);
        return c;
      }
      case descriptor_type::device_tlb: {
        using d = device_tlb_descriptor;
        if (!device_tlbs) return unsupported();
        if ((w0 & d::reserved0) != 0 || (w1 & d::reserved1) != 0) return reserved();
        return device_cache(d::sid.get(w0), d::mip.get(w0), w1, d::s.get(w1));
      }
      case descriptor_type::pasid_device_tlb: {
        using d = pasid_device_tlb_descriptor;
        if (!wide || !device_tlbs) return unsupported();
        if ((w1 & d::reserved1) != 0) return reserved();
        c = device_cache(d::sid.get(w0), d::mip.get(w0), w1, d::s.get(w1));
        c.by_pasid = true;
        c.pasid = d::pasid.get(w0);
        c.global = d::g.get(w1);
        return c;
      }
      case descriptor_type::interrupt_entry: {
        using d = interrupt_entry_descriptor;
        if ((w0 & d::reserved0) != 0 || w1 != 0) return reserved();
        c.kind = command_kind::invalidate_interrupts;
        if (!d::g.get(w0)) return c;
        const unsigned mask = d::im.get(w0);
        if (mask > max_index_mask) return meaningless();
        c.by_range = true;
        c.first = d::iidx.get(w0) & ~((std::uint64_t{1} << mask) - 1);
        c.last = c.first | ((std::uint64_t{1} << mask) - 1);
        return c;
      }
      case descriptor_type::wait: {
        using d = wait_descriptor;
        if ((w0 & d::reserved0) != 0 || (w1 & d::reserved1) != 0) return reserved();
        c.kind = command_kind::wait;
        c.interrupt = d::interrupt.get(w0);
        c.fence = d::fn.get(w0);
        c.store = d::sw.get(w0);
        if (c.store) {
          c.store_bytes = 4;
          c.store_data = d::status_data.get(w0);
          c.store_address = w1;
        }
        return c;
      }
      case descriptor_type::page_group_response: {
        using d = page_group_response_descriptor;
        if (!wide || !page_requests) return unsupported();
        if ((w0 & d::reserved0) != 0 || (w1 & d::reserved1) != 0) return reserved();
        const unsigned code = d::response.get(w0);
        if (code > 1 && code != 15) return meaningless();
        c = command::respond(d::rid.get(w0), d::prg_index.get(w1),
                             static_cast<page_response_code>(code));
        c.by_pasid = d::pasid_present.get(w0);
        if (c.by_pasid) c.pasid = d::pasid.get(w0);
        return c;
      }
      default:
        return unknown();
    }
  }

  // IQERCD.IQEI for FSTS.IQE. A timeout is FSTS.ITE instead, and has none.
  [[nodiscard]] constexpr std::uint8_t code(ring_fault fault,
                                            illegal_reason reason) const noexcept {
    using vtd::queue_error;
    const auto pick = [&] {
      switch (fault) {
        case ring_fault::fetch_failed:
          return queue_error::fetch_failed;
        case ring_fault::bad_tail:
          return wide && reason == illegal_reason::reserved_bits ? queue_error::tail_misaligned
                                                                 : queue_error::invalid_tail;
        case ring_fault::illegal_command:
          if (reason == illegal_reason::unknown_opcode) return queue_error::invalid_type;
          if (reason == illegal_reason::not_supported && !wide) return queue_error::invalid_width;
          return reason == illegal_reason::not_supported ? queue_error::invalid_type
                                                         : queue_error::reserved_set;
        default:
          return queue_error::none;
      }
    };
    return static_cast<std::uint8_t>(pick());
  }

  // From FSTS_REG (IQE bit 4, ICE bit 5, ITE bit 6; each is written with one to clear it) and
  // IQERCD_REG, 0 where the IOMMU has none.
  [[nodiscard]] static constexpr ring_fault_report fault(std::uint32_t fsts,
                                                         std::uint64_t iqercd = 0) noexcept {
    const auto iqei = static_cast<vtd::queue_error>(iqercd & 15);
    if ((fsts >> 4 & 1) != 0) {
      if (iqei == vtd::queue_error::invalid_tail || iqei == vtd::queue_error::tail_misaligned) {
        return {ring_fault::bad_tail, recovery::restart, 0};
      }
      if (iqei == vtd::queue_error::fetch_failed) {
        return {ring_fault::fetch_failed, recovery::restart, 0};
      }
      return {ring_fault::illegal_command, recovery::replace_and_clear, 0};
    }
    // ITE: no device answered. ICE: an answer that was not requested. Pending waits are lost.
    if ((fsts >> 6 & 1) != 0) {
      return {ring_fault::device_timeout, recovery::clear,
              static_cast<std::uint32_t>(iqercd >> 32 & 0xffff)};
    }
    if ((fsts >> 5 & 1) != 0) {
      return {ring_fault::device_timeout, recovery::clear,
              static_cast<std::uint32_t>(iqercd >> 48 & 0xffff)};
    }
    return {};
  }

 private:
  [[nodiscard]] static constexpr std::uint64_t start(vtd::descriptor_type type) noexcept {
    return vtd::type_low.of<std::uint64_t>(static_cast<std::uint8_t>(type));
  }
  [[nodiscard]] static constexpr command unknown() noexcept {
    return command::as_illegal(illegal_reason::unknown_opcode);
  }
  [[nodiscard]] static constexpr command reserved() noexcept {
    return command::as_illegal(illegal_reason::reserved_bits);
  }
  [[nodiscard]] static constexpr command meaningless() noexcept {
    return command::as_illegal(illegal_reason::reserved_value);
  }
  [[nodiscard]] static constexpr command unsupported() noexcept {
    return command::as_illegal(illegal_reason::not_supported);
  }
  // FM 1, 2, 3 ignore the highest one, two, three of the function's bits (9.3, 6.5.2.1).
  [[nodiscard]] static constexpr int function_mask(std::uint32_t ignored) noexcept {
    return ignored == 0 ? 0 : ignored == 4 ? 1 : ignored == 6 ? 2 : ignored == 7 ? 3 : -1;
  }
  [[nodiscard]] constexpr command with_pages(command c, std::uint64_t w1,
                                             bool selective) const noexcept {
    c.tables = true;
    if (!selective) return c;
    using d = vtd::iotlb_descriptor;
    const unsigned am = d::am.get(w1);
    if (!page_selective) return unsupported();
    if (am > max_address_mask || am > 52) return meaningless();
    const address_block block{am == 52 ? 0 : w1 >> (12 + am) << (12 + am), 12 + am};
    c.by_range = true;
    c.tables = !d::ih.get(w1);
    c.first = block.first;
    c.last = block.last();
    return c;
  }
  [[nodiscard]] static constexpr command device_cache(std::uint16_t device, std::uint8_t depth,
                                                      std::uint64_t w1, bool large) noexcept {
    const std::uint64_t at = w1 & ~std::uint64_t{0xfff};
    const address_block block = large ? block_from_ones(at) : address_block{at, 12};
    command c = command::device_tlb(device, block.first, block.last());
    c.queue_depth = depth;
    return c;
  }
};
static_assert(CommandCodec<command_codec>);

}  // namespace phasebit::iommu::vtd
