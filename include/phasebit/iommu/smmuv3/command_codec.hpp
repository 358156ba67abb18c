// SPDX-License-Identifier: BSL-1.0
// The Non-secure command queue of SMMUv3: IHI 0070, chapter 4.
#pragma once

#include <phasebit/iommu/command_queue/split_range.hpp>
#include <phasebit/iommu/smmuv3/spec/commands.hpp>

#include <cstdint>

namespace phasebit::iommu::smmuv3 {

// The features in SMMU_IDR0 and SMMU_IDR3, and the format of the tables. Reserved bits of commands
// are not checked: hardware need not (4.1.1).
struct command_codec {
  static constexpr bool wraps = true;
  static constexpr bool masks_tail = true;
  static constexpr bool sync_by_head = true;  // CONS behind a CMD_SYNC: it has completed (4.7.3)
  static constexpr unsigned wait_store_bytes = 4;
  static constexpr fault_action after_store_failure =
      fault_action::go_on;  // GERROR.MSI_CMDQ_ABT_ERR
  static constexpr fault_action after_timeout = fault_action::stop;

  bool ranges = true;               // IDR3.RIL
  bool msi = true;                  // IDR0.MSI
  bool device_tlbs = true;          // IDR0.ATS
  bool page_requests = true;        // IDR0.PRI
  bool stalls = true;               // IDR0.STALL_MODEL is not 1
  std::uint8_t granule_shift = 12;  // of the tables: 12, 14, 16
  // The meaning of commands without a stage: tables of stage 2 are invalidated by IPA, else by VA.
  translation_stage stage = translation_stage::second;

  [[nodiscard]] constexpr unsigned entry_bytes() const noexcept { return 16; }
  [[nodiscard]] constexpr unsigned index_shift() const noexcept { return 0; }

  // With ranges one command always suffices, and names less than a sixteenth too much.
  [[nodiscard]] constexpr std::uint64_t split_range(command& c, std::uint64_t first,
                                                    std::uint64_t last) const noexcept {
    const bool by_ipa = stage_of(c) == translation_stage::second;
    if (by_ipa && last >> 52 != 0) {
      c.by_range = false;
      return ~std::uint64_t{0};
    }
    if (!ranges) {
      // Tables may have lain below each granule, even where only large pages were touched.
      if (c.tables) c.page_sizes = 0;
      const unsigned step = detail::step_shift(c.page_sizes, granule_shift, granule_shift - 3U);
      c.first = first >> step << step;
      c.last = c.first | ((std::uint64_t{1} << step) - 1);
      return c.last;
    }
    const unsigned shift = ttl_shift(c);
    c.first = first >> shift << shift;
    const std::uint64_t granules = ((last - c.first) >> granule_shift) + 1;
    unsigned scale = 0;
    while (((granules - 1) >> scale) >= 32) ++scale;
    const std::uint64_t count = ((granules - 1) >> scale) + 1;
    const std::uint64_t bytes = count << scale << granule_shift;
    if (scale > 31 || c.first + (bytes - 1) < c.first) {
      c.by_range = false;
      return ~std::uint64_t{0};
    }
    c.last = c.first + (bytes - 1);
    return c.last;
  }

  [[nodiscard]] constexpr bool encode(const command& c, command_words& out) const noexcept {
    using namespace smmuv3;
    out = {};
    std::uint64_t& w0 = out.word[0];
    std::uint64_t& w1 = out.word[1];
    switch (c.kind) {
      case command_kind::invalidate_translations:
        return translations(c, w0, w1);
      case command_kind::invalidate_device:
        if (c.by_domain && !c.by_device) return false;
        if (!c.by_device) {
          w0 = start(opcode::cfgi_ste_range);
          w1 = cfgi::range.of<std::uint64_t>(cfgi::all);
        } else if (c.device_ignore == 0) {
          w0 = start(opcode::cfgi_ste) | stream.of<std::uint64_t>(c.device);
          w1 = cfgi::leaf.of<std::uint64_t>(!c.tables);
        } else {
          const std::uint64_t mask = c.device_ignore;
          if ((mask & (mask + 1)) != 0) return false;
          w0 = start(opcode::cfgi_ste_range) | stream.of<std::uint64_t>(c.device);
          w1 = cfgi::range.of<std::uint64_t>(static_cast<std::uint8_t>(bit_width(mask) - 1));
        }
        return true;
      case command_kind::invalidate_process:
        if (!c.by_device) return false;
        w0 = stream.of<std::uint64_t>(c.device);
        if (c.by_pasid) {
          w0 |= start(opcode::cfgi_cd) | substream.of<std::uint64_t>(c.pasid);
          w1 = cfgi::leaf.of<std::uint64_t>(!c.tables);
        } else {
          w0 |= start(opcode::cfgi_cd_all);
        }
        return true;
      case command_kind::invalidate_device_tlb: {
        if (!device_tlbs) return false;
        const address_block block =
            c.by_range ? block_around(c.first, c.last) : address_block{0, 64};
        w0 = start(opcode::atc_inv) | device_and_pasid(c) |
             atc_inv::global.of<std::uint64_t>(c.by_pasid && c.global);
        w1 = block.first | (block.shift - 12);
        return true;
      }
      case command_kind::page_response: {
        if (!page_requests) return false;
        const unsigned code = c.response == page_response_code::success           ? 2
                              : c.response == page_response_code::invalid_request ? 1
                                                                                  : 0;
        w0 = start(opcode::pri_resp) | device_and_pasid(c);
        w1 = pri_resp::prg_index.of<std::uint64_t>(c.group) |
             pri_resp::response.of<std::uint64_t>(static_cast<std::uint8_t>(code));
        return true;
      }
      case command_kind::resume:
        if (!stalls) return false;
        if (!c.by_range) {
          w0 = start(opcode::stall_term) | stream.of<std::uint64_t>(c.device);
          return true;
        }
        w0 = start(opcode::resume) | stream.of<std::uint64_t>(c.device) |
             resume::retry.of<std::uint64_t>(c.retry) | resume::abort.of<std::uint64_t>(c.abort);
        w1 = resume::stag.of<std::uint64_t>(c.group);
        return true;
      case command_kind::wait: {
        // Inner shareable, write-back: what memory of a program is.
        const bool signal = c.store || c.interrupt;
        w0 = start(opcode::sync) | sync::cs.of<std::uint64_t>(signal ? 1 : 0);
        if (!c.store) return true;
        if (!msi || c.store_bytes != 4 || c.store_address == 0 ||
            (c.store_address & ~sync::msi_address) != 0) {
          return false;
        }
        w0 |= sync::msh.of<std::uint64_t>(3) | sync::msi_attr.of<std::uint64_t>(15) |
              sync::msi_data.of<std::uint64_t>(static_cast<std::uint32_t>(c.store_data));
        w1 = c.store_address;
        return true;
      }
      default:
        return false;
    }
  }

  [[nodiscard]] constexpr command decode(const command_words& words) const noexcept {
    using namespace smmuv3;
    const std::uint64_t w0 = words.word[0];
    const std::uint64_t w1 = words.word[1];
    const auto op = static_cast<opcode>(opcode_bits.get(w0));
    command c;
    switch (op) {
      case opcode::prefetch_config:
      case opcode::prefetch_addr:
        return ssec.get(w0) ? secure() : c;
      case opcode::cfgi_ste:
        if (ssec.get(w0)) return secure();
        c = command::one_device(stream.get(w0));
        c.tables = !cfgi::leaf.get(w1);
        return c;
      case opcode::cfgi_ste_range: {
        const unsigned range = cfgi::range.get(w1);
        if (range == cfgi::all) {
          c = command::all_devices();
          c.tables = true;
          return c;
        }
        if (ssec.get(w0)) return secure();
        c = command::one_device(stream.get(w0));
        c.tables = true;
        c.device_ignore = (std::uint32_t{2} << range) - 1;
        c.device &= ~c.device_ignore;
        return c;
      }
      case opcode::cfgi_cd:
      case opcode::cfgi_cd_all:
        if (ssec.get(w0)) return secure();
        c = command::one_device(stream.get(w0));
        c.kind = command_kind::invalidate_process;
        c.tables = true;
        if (op == opcode::cfgi_cd) {
          c.by_pasid = true;
          c.pasid = substream.get(w0);
          c.tables = !cfgi::leaf.get(w1);
        }
        return c;
      case opcode::tlbi_nh_all:
      case opcode::tlbi_nh_asid:
      case opcode::tlbi_nh_va:
      case opcode::tlbi_nh_vaa:
      case opcode::tlbi_s12_vmall:
      case opcode::tlbi_s2_ipa:
      case opcode::tlbi_nsnh_all:
        return translations(op, w0, w1);
      case opcode::atc_inv: {
        if (!device_tlbs) return unsupported();
        if (ssec.get(w0)) return secure();
        const unsigned size = atc_inv::size.get(w1);
        if (size > atc_inv::all) return command::as_illegal(illegal_reason::reserved_value);
        const std::uint64_t at = w1 & ~std::uint64_t{0xfff};
        const address_block block{size == atc_inv::all ? 0 : at >> (12 + size) << (12 + size),
                                  12 + size};
        c = command::device_tlb(stream.get(w0), block.first, block.last());
        c.by_pasid = ssv.get(w0);
        if (c.by_pasid) {
          c.pasid = substream.get(w0);
          c.global = atc_inv::global.get(w0);
        }
        return c;
      }
      case opcode::pri_resp: {
        if (!page_requests) return unsupported();
        constexpr page_response_code codes[3] = {page_response_code::failure,
                                                 page_response_code::invalid_request,
                                                 page_response_code::success};
        const unsigned code = pri_resp::response.get(w1);
        if (ssec.get(w0)) return secure();
        if (code > 2) return command::as_illegal(illegal_reason::reserved_value);
        c = command::respond(stream.get(w0), pri_resp::prg_index.get(w1), codes[code]);
        c.by_pasid = ssv.get(w0);
        if (c.by_pasid) c.pasid = substream.get(w0);
        return c;
      }
      case opcode::resume:
      case opcode::stall_term:
        if (!stalls) return unsupported();
        if (ssec.get(w0)) return secure();
        c = command::one_device(stream.get(w0));
        c.kind = command_kind::resume;
        c.retry = op == opcode::resume && resume::retry.get(w0);
        c.abort = op == opcode::stall_term || resume::abort.get(w0);
        c.by_range = op == opcode::resume;  // one transaction, named by its STAG; else all
        if (c.by_range) c.group = resume::stag.get(w1);
        return c;
      case opcode::sync: {
        const unsigned cs = sync::cs.get(w0);
        if (cs == 3) return command::as_illegal(illegal_reason::reserved_value);
        c.kind = command_kind::wait;
        const std::uint64_t at = w1 & sync::msi_address;
        if (cs == 1 && msi && at != 0) {
          c.store = true;
          c.store_bytes = 4;
          c.store_address = at;
          c.store_data = sync::msi_data.get(w0);
        } else {
          c.interrupt = cs == 1;
        }
        return c;
      }
      default:
        return command::as_illegal(illegal_reason::unknown_opcode);
    }
  }

  // SMMU_CMDQ_CONS.ERR.
  [[nodiscard]] constexpr std::uint8_t code(ring_fault fault, illegal_reason) const noexcept {
    using smmuv3::queue_error;
    const auto pick = [&] {
      switch (fault) {
        case ring_fault::illegal_command:
          return queue_error::illegal;
        case ring_fault::fetch_failed:
        case ring_fault::bad_tail:
          return queue_error::aborted;
        case ring_fault::device_timeout:
          return queue_error::atc_inv_sync;
        default:
          return queue_error::none;
      }
    };
    return static_cast<std::uint8_t>(pick());
  }

  // From SMMU_CMDQ_CONS, where GERROR.CMDQ_ERR differs from GERRORN's: acknowledged there. After a
  // timeout the CMD_SYNC is tried again.
  [[nodiscard]] static constexpr ring_fault_report fault(std::uint32_t cons) noexcept {
    switch (static_cast<smmuv3::queue_error>(smmuv3::cons_err.get(cons))) {
      case smmuv3::queue_error::none:
        return {};
      case smmuv3::queue_error::atc_inv_sync:
        return {ring_fault::device_timeout, recovery::clear, 0};
      case smmuv3::queue_error::aborted:
        return {ring_fault::fetch_failed, recovery::clear, 0};
      default:
        return {ring_fault::illegal_command, recovery::replace_and_clear, 0};
    }
  }

 private:
  [[nodiscard]] static constexpr std::uint64_t start(smmuv3::opcode op) noexcept {
    return static_cast<std::uint64_t>(op);
  }
  [[nodiscard]] static constexpr command secure() noexcept {
    return command::as_illegal(illegal_reason::reserved_bits);
  }
  [[nodiscard]] static constexpr command unsupported() noexcept {
    return command::as_illegal(illegal_reason::not_supported);
  }
  [[nodiscard]] static constexpr std::uint64_t device_and_pasid(const command& c) noexcept {
    using namespace smmuv3;
    return stream.of<std::uint64_t>(c.device) | ssv.of<std::uint64_t>(c.by_pasid) |
           substream.of<std::uint64_t>(c.by_pasid ? c.pasid : 0);
  }
  [[nodiscard]] constexpr translation_stage stage_of(const command& c) const noexcept {
    return c.stage == translation_stage::any ? stage : c.stage;
  }
  [[nodiscard]] constexpr std::uint8_t tg() const noexcept {
    return granule_shift == 12 ? 1 : granule_shift == 14 ? 2 : 3;
  }
  // The block that a TTL hint stands for, where all pages are of one level's own size; else the
  // granule, and no hint.
  [[nodiscard]] constexpr unsigned ttl_shift(const command& c) const noexcept {
    for (unsigned level = 3; level != 0 && !c.tables; --level) {
      const unsigned shift = granule_shift + (3 - level) * (granule_shift - 3U);
      if (granule_shift == 14 && level == 1) break;
      if (c.page_sizes == std::uint64_t{1} << shift) return shift;
    }
    return granule_shift;
  }
  [[nodiscard]] constexpr std::uint8_t ttl(const command& c) const noexcept {
    const unsigned shift = ttl_shift(c);
    if (c.tables || c.page_sizes != std::uint64_t{1} << shift) return 0;
    return static_cast<std::uint8_t>(3 - (shift - granule_shift) / (granule_shift - 3U));
  }

  [[nodiscard]] constexpr bool translations(const command& c, std::uint64_t& w0,
                                            std::uint64_t& w1) const noexcept {
    using namespace smmuv3;
    const bool first = stage_of(c) == translation_stage::first;
    if (!c.by_domain) {
      if (c.by_range || c.by_pasid) return false;
      w0 = start(opcode::tlbi_nsnh_all);
      return true;
    }
    if (c.by_pasid && (!first || c.pasid > 0xffff)) return false;
    w0 = tlbi::vmid.of<std::uint64_t>(c.domain);
    if (c.by_pasid) w0 |= tlbi::asid.of<std::uint64_t>(static_cast<std::uint16_t>(c.pasid));
    if (!c.by_range) {
      w0 |= start(!first       ? opcode::tlbi_s12_vmall
                  : c.by_pasid ? opcode::tlbi_nh_asid
                               : opcode::tlbi_nh_all);
      return true;
    }
    w0 |= start(!first       ? opcode::tlbi_s2_ipa
                : c.by_pasid ? opcode::tlbi_nh_va
                             : opcode::tlbi_nh_vaa);
    if (!first && c.last >> 52 != 0) return false;
    w1 = (c.first >> granule_shift << granule_shift) | tlbi::leaf.of<std::uint64_t>(!c.tables);
    if (!ranges) {
      // One address: it must lie in one page.
      return (c.first ^ c.last) >>
                 detail::step_shift(c.page_sizes, granule_shift, granule_shift - 3U) ==
             0;
    }
    const std::uint64_t granules = (c.last >> granule_shift) - (c.first >> granule_shift) + 1;
    const std::uint8_t level = ttl(c);
    if (granules == 1 && level == 0) return true;  // TG 0: whatever holds this address
    unsigned scale = 0;
    while (((granules - 1) >> scale) >= 32) ++scale;
    if (scale > 31) return false;
    w0 |= tlbi::scale.of<std::uint64_t>(static_cast<std::uint8_t>(scale)) |
          tlbi::num.of<std::uint64_t>(static_cast<std::uint8_t>((granules - 1) >> scale));
    w1 |= tlbi::tg.of<std::uint64_t>(tg()) | tlbi::ttl.of<std::uint64_t>(level);
    return true;
  }

  [[nodiscard]] constexpr command translations(smmuv3::opcode op, std::uint64_t w0,
                                               std::uint64_t w1) const noexcept {
    using namespace smmuv3;
    command c;
    c.kind = command_kind::invalidate_translations;
    c.tables = true;
    if (op == opcode::tlbi_nsnh_all) return c;
    const bool second = op == opcode::tlbi_s2_ipa;
    const bool by_address = second || op == opcode::tlbi_nh_va || op == opcode::tlbi_nh_vaa;
    // S12_VMALL concerns both; caches based on the second stage are invalidated with it.
    c.stage = second || op == opcode::tlbi_s12_vmall ? translation_stage::second
                                                     : translation_stage::first;
    c.by_domain = true;
    c.domain = tlbi::vmid.get(w0);
    c.by_pasid = op == opcode::tlbi_nh_asid || op == opcode::tlbi_nh_va;
    if (c.by_pasid) c.pasid = tlbi::asid.get(w0);
    if (!by_address) return c;
    c.by_range = true;
    c.tables = !tlbi::leaf.get(w1);
    c.first = second ? w1 & 0x000f'ffff'ffff'f000 : w1 & ~std::uint64_t{0xfff};
    const unsigned granule = tlbi::tg.get(w1);
    if (!ranges || granule == 0) {
      c.last = c.first | 0xfff;
      return c;
    }
    const unsigned shift = 10 + 2 * granule;
    if (granule == 2 && tlbi::ttl.get(w1) == 1) {
      return command::as_illegal(illegal_reason::reserved_value);
    }
    const std::uint64_t bytes = (std::uint64_t{tlbi::num.get(w0)} + 1)
                                << tlbi::scale.get(w0) << shift;
    // The range does not wrap (4.4.1.1).
    c.last = c.first + (bytes - 1);
    if (c.last < c.first) c.last = ~std::uint64_t{0};
    return c;
  }
};
static_assert(CommandCodec<command_codec>);

}  // namespace phasebit::iommu::smmuv3
