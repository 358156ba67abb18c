// SPDX-License-Identifier: BSL-1.0
// Commands from a driver to an IOMMU, common to all architectures. A codec encodes them into the
// format of one architecture and decodes them; drivers, emulated IOMMUs and tests use this form.
#pragma once

#include <cstdint>

namespace phasebit::iommu {

enum class command_kind : std::uint8_t {
  nothing,                  // well formed and without effect: a prefetch
  invalidate_translations,  // by domain, PASID and range, or all
  invalidate_device,        // context, device-table or stream-table entries; DDT
  invalidate_process,       // PASID-table entries, context descriptors; PDT
  invalidate_interrupts,    // interrupt-remapping entries
  invalidate_device_tlb,    // what a device with ATS has cached
  invalidate_everything,    // translations, device, process and interrupt entries at once
  page_response,            // answer to a page request group (PRI)
  resume,                   // SMMUv3: a stalled transaction continues, or is ended
  wait,                     // everything before is done; then store, interrupt
  illegal,
};

enum class illegal_reason : std::uint8_t {
  none,
  unknown_opcode,
  reserved_bits,
  reserved_value,  // a field with a value that means nothing, or that contradicts another one
  not_supported,   // defined, but not supported by this IOMMU's capabilities
};

// The stages of a nested translation. `any`: the architecture does not distinguish.
enum class translation_stage : std::uint8_t { any, first, second };

// PCIe 5.0, 10.4.2.1; architectures with other numbers convert.
enum class page_response_code : std::uint8_t { success = 0, invalid_request = 1, failure = 15 };

// One command. The by_* flags select the meaningful fields; other fields stay zero. Addresses are
// inclusive ranges. Cheap to copy, owns nothing.
struct command {
  command_kind kind = command_kind::nothing;
  illegal_reason reason = illegal_reason::none;
  translation_stage stage = translation_stage::any;
  bool by_domain = false;  // else all domains
  bool by_pasid = false;   // else all address spaces
  bool by_device = false;  // else all devices
  bool by_range = false;   // else all addresses (interrupt entries: all indices; resume: all of one
                           // device's)
  bool tables = false;     // cached upper levels are to be invalidated, too (default: leaves)
  bool global = false;     // device TLB: in all PASIDs

  std::uint16_t domain = 0;         // DID, DomainID, VMID, GSCID
  std::uint32_t pasid = 0;          // PASID, ASID, PSCID
  std::uint32_t device = 0;         // requester id, StreamID, device_id
  std::uint32_t device_ignore = 0;  // these bits of `device` are not compared
  std::uint64_t first = 0;          // addresses, or indices of interrupt entries
  std::uint64_t last = 0;
  std::uint64_t page_sizes = 0;  // hint for encoding: bit n, pages of 2^n bytes were touched

  std::uint8_t queue_depth = 0;  // device TLB: invalidations the device takes at once; 0 is 32
  page_response_code response = page_response_code::success;
  std::uint16_t group =
      0;               // page request group index, 9 bits; or the STAG of a stalled transaction
  bool retry = false;  // resume: try again, else end
  bool abort = false;  // resume: end with an abort

  bool store = false;  // wait: write store_data, store_bytes wide, to store_address
  bool interrupt = false;
  bool fence = false;            // wait: commands behind it wait, too
  bool drain_reads = false;      // wait, translations: accesses of devices that were translated
  bool drain_writes = false;     // before are done
  std::uint8_t store_bytes = 0;  // 4 or 8
  std::uint64_t store_address = 0;
  std::uint64_t store_data = 0;

  friend constexpr bool operator==(const command&, const command&) noexcept = default;

  [[nodiscard]] static constexpr command as_illegal(illegal_reason why) noexcept {
    command c;
    c.kind = command_kind::illegal;
    c.reason = why;
    return c;
  }
  // Everything that any cache of translations holds.
  [[nodiscard]] static constexpr command all_translations() noexcept {
    command c;
    c.kind = command_kind::invalidate_translations;
    c.tables = true;
    return c;
  }
  [[nodiscard]] static constexpr command whole_domain(std::uint16_t domain) noexcept {
    command c = all_translations();
    c.by_domain = true;
    c.domain = domain;
    return c;
  }
  [[nodiscard]] static constexpr command one_device(std::uint32_t device,
                                                    std::uint16_t domain = 0) noexcept {
    command c;
    c.kind = command_kind::invalidate_device;
    c.by_device = true;
    c.device = device;
    c.domain = domain;  // VT-d: the domain that the entry named before
    return c;
  }
  [[nodiscard]] static constexpr command all_devices() noexcept {
    command c;
    c.kind = command_kind::invalidate_device;
    return c;
  }
  // PASID-table entry, context descriptor or process context `pasid` of a device.
  [[nodiscard]] static constexpr command one_process(std::uint32_t device, std::uint32_t pasid,
                                                     std::uint16_t domain = 0) noexcept {
    command c = one_device(device, domain);
    c.kind = command_kind::invalidate_process;
    c.by_domain = true;
    c.by_pasid = true;
    c.pasid = pasid;
    return c;
  }
  // VT-d: entries first..last. AMD: those of one device's table.
  [[nodiscard]] static constexpr command interrupt_entries(std::uint64_t first,
                                                           std::uint64_t last) noexcept {
    command c;
    c.kind = command_kind::invalidate_interrupts;
    c.by_range = true;
    c.first = first;
    c.last = last;
    return c;
  }
  [[nodiscard]] static constexpr command all_interrupt_entries() noexcept {
    command c;
    c.kind = command_kind::invalidate_interrupts;
    return c;
  }
  [[nodiscard]] static constexpr command device_interrupts(std::uint32_t device) noexcept {
    command c = all_interrupt_entries();
    c.by_device = true;
    c.device = device;
    return c;
  }
  // Invalidates the device's own cache for first..last; ~0 as the last of 0 means everything.
  [[nodiscard]] static constexpr command device_tlb(std::uint32_t device, std::uint64_t first,
                                                    std::uint64_t last) noexcept {
    command c;
    c.kind = command_kind::invalidate_device_tlb;
    c.by_device = true;
    c.device = device;
    c.by_range = true;
    c.first = first;
    c.last = last;
    return c;
  }
  // SMMUv3: what a fault record has named by its STAG is tried again, or ended.
  [[nodiscard]] static constexpr command resume(std::uint32_t device, std::uint16_t stag,
                                                bool retry) noexcept {
    command c;
    c.kind = command_kind::resume;
    c.by_device = true;
    c.device = device;
    c.by_range = true;
    c.group = stag;
    c.retry = retry;
    c.abort = !retry;
    return c;
  }
  [[nodiscard]] static constexpr command respond(std::uint32_t device, std::uint16_t group,
                                                 page_response_code code) noexcept {
    command c;
    c.kind = command_kind::page_response;
    c.by_device = true;
    c.device = device;
    c.group = group;
    c.response = code;
    return c;
  }
};

// A command's bytes as native words; codecs with entries of 16 bytes leave the last two zero.
struct command_words {
  std::uint64_t word[4] = {};

  friend constexpr bool operator==(const command_words&, const command_words&) noexcept = default;
};

}  // namespace phasebit::iommu
