// SPDX-License-Identifier: BSL-1.0
// An IOMMU in software: from requester id, PASID and address to memory, through tables that a driver
// wrote, with the caches that make stale entries visible until they are invalidated.
#pragma once

#include <phasebit/iommu/command_queue/command.hpp>
#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/fault/fault.hpp>
#include <phasebit/iommu/translation/interrupt_remapping.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>
#include <phasebit/iommu/translation/remapper_architecture.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// How much a remapper stores; all powers of two.
struct remapper_caches {
  std::size_t devices = 64;  // entries by requester id and PASID
  std::size_t sets = 64;     // of the IOTLB
  std::size_t ways = 4;
  std::size_t interrupts = 64;
};

// Guarantees: whatever the tables contain, it reads only inside the memory that Tables returns, and
// at most one entry per level of each table; every refusal is one fault, passed to `faults` unless
// the device's entry disables reporting; a translation stays valid until an invalidation covers it.
// Belongs to one thread, allocates nothing. Refers to tables and faults.
//
// Models DmaRemapper of the simulated backend, and executes the commands of a command ring (apply).
template <class Architecture, TableReader Tables, FaultSink Faults,
          remapper_caches Caches = remapper_caches{}>
  requires IommuArchitecture<Architecture, Tables>
class remapper {
 public:
  using architecture = Architecture;
  using space = typename Tables::space;
  using context = typename Architecture::context;

  remapper(Tables& tables, Faults& faults, const Architecture& settings = {}) noexcept
      : tables_(&tables), faults_(&faults), architecture_(settings) {}

  // Registers and features. Cached translations stay until they are invalidated, as in hardware.
  [[nodiscard]] const Architecture& settings() const noexcept { return architecture_; }
  void set(const Architecture& settings) noexcept { architecture_ = settings; }

  [[nodiscard]] result<segment<space>> translate(pcie::requester_id requester, bus_addr address,
                                                 std::uint64_t bytes, access wanted) noexcept {
    return translate({.requester = requester, .address = address.value(), .wanted = wanted}, bytes);
  }
  // The first contiguous segment, like AddressTranslator::translate(). Errors: to_error(fault).
  [[nodiscard]] result<segment<space>> translate(const dma_request& request,
                                                 std::uint64_t bytes) noexcept {
    PHASEBIT_EXPECTS(bytes != 0, "a translation is asked for at least one byte");
    if (!architecture_.translates()) {
      return segment<space>{phasebit::address<space>{request.address}, bytes};
    }
    context* const state = device(request);
    if (state == nullptr) return to_error(last_);
    if (state->kind == translation_kind::silent) {
      return to_error({.reason = fault_reason::all_blocked, .address = request.address});
    }
    if (state->kind == translation_kind::untranslated) return pass(request, *state, bytes);

    const iotlb_tag tag{state->domain, state->pasid};
    const bus_addr a{request.address};
    bool cacheable = state->cacheable;
    if constexpr (SplitsAddresses<Architecture>) {
      cacheable = cacheable && !architecture_.bypasses_cache(*state, request.address);
      const std::uint64_t alike = architecture_.bytes_alike(*state, request.address);
      if (alike < bytes) bytes = alike;
    }
    iotlb_hit<space> hit;
    if (cacheable && translations_.find(tag, a, hit) &&
        permitted(request.wanted, hit.permissions & state->permissions)) [[likely]] {
      return segment<space>{hit.target, hit.bytes < bytes ? hit.bytes : bytes};
    }
    const page_lookup<space> page =
        architecture_.lookup(*tables_, *state, request.address, request.wanted);
    if (page.status != walk_status::mapped) {
      return refuse(request, *state,
                    {architecture_.reason_of(page, *state, request.address), page.level,
                     page.entry & entry_address});
    }
    const unsigned granted = page.permissions & state->permissions;
    if (!permitted(request.wanted, granted)) {
      return refuse(request, *state, {lacking(request.wanted, granted), page.level, 0});
    }
    const unsigned width = architecture_.output_bits();
    if (width < 64 && page.page.value() >> width != 0) {
      return refuse(request, *state,
                    {fault_reason::page_beyond, page.level, page.entry & entry_address});
    }
    if (cacheable) translations_.insert(tag, a, page);
    const std::uint64_t size = std::uint64_t{1} << page.page_shift;
    const std::uint64_t offset = request.address & (size - 1);
    const std::uint64_t left = size - offset;
    return segment<space>{page.page + offset, left < bytes ? left : bytes};
  }

  // The result of remapping a message that may be an interrupt.
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id requester, const pcie::msi_message& message) noexcept {
    if constexpr (RemapsInterrupts<Architecture>) {
      return through_table(requester, message);
    } else {
      const auto to = translate(
          {.requester = requester, .address = message.address.value(), .wanted = access::write}, 4);
      if (!to) return to.error();
      return pcie::msi_message{bus_addr{to->begin.value()}, message.data};
    }
  }

  // Invalidations.

  void invalidate_all() noexcept {
    invalidate_devices();
    invalidate_translations();
    interrupts_.invalidate_all();
  }
  void invalidate_translations() noexcept { translations_.invalidate_all(); }
  void invalidate_domain(std::uint16_t domain) noexcept { translations_.invalidate_domain(domain); }
  void invalidate_range(std::uint16_t domain, bus_addr first, bus_addr last) noexcept {
    translations_.invalidate(domain, first, last);
  }
  void invalidate_devices() noexcept {
    for (line& l : devices_) l.valid = false;
  }
  // Bits set in `ignore` are not compared.
  void invalidate_device(std::uint32_t requester, std::uint32_t ignore = 0) noexcept {
    for (line& l : devices_) {
      if (((l.requester ^ requester) & ~ignore) == 0) l.valid = false;
    }
  }
  void invalidate_devices_of(std::uint16_t domain) noexcept {
    for (line& l : devices_) {
      if (l.state.domain == domain) l.valid = false;
    }
  }

  // One command of a ring, already decoded; those that are not about these caches do nothing.
  void apply(const command& c) noexcept {
    switch (c.kind) {
      case command_kind::invalidate_everything:
        invalidate_all();
        break;
      case command_kind::invalidate_translations:
        if (!c.by_domain) {
          invalidate_translations();
        } else if (c.by_range) {
          invalidate_range(c.domain, bus_addr{c.first}, bus_addr{c.last});
        } else if (c.by_pasid) {
          // Second-stage translations of the domain have no PASID of their own.
          translations_.invalidate_pasid({c.domain, c.pasid});
          translations_.invalidate_pasid({c.domain, 0});
        } else {
          invalidate_domain(c.domain);
        }
        break;
      case command_kind::invalidate_device:
      case command_kind::invalidate_process:
        if (c.by_device) {
          invalidate_device(c.device, c.device_ignore);
        } else if (c.by_domain) {
          invalidate_devices_of(c.domain);
        } else {
          invalidate_devices();
        }
        break;
      case command_kind::invalidate_interrupts:
        if (c.by_device) {
          interrupts_.invalidate_owner(c.device);
        } else if (c.by_range) {
          interrupts_.invalidate(c.first, c.last);
        } else {
          interrupts_.invalidate_all();
        }
        break;
      default:
        break;
    }
  }

 private:
  struct line {
    bool valid = false;
    bool has_pasid = false;
    std::uint32_t requester = 0;
    std::uint32_t pasid = 0;
    context state{};
  };
  static_assert((Caches.devices & (Caches.devices - 1)) == 0 && Caches.devices != 0);
  static constexpr std::uint64_t entry_address = 0x000f'ffff'ffff'f000;

  [[nodiscard]] static constexpr bool permitted(access wanted, unsigned granted) noexcept {
    return (static_cast<unsigned>(wanted) & ~granted) == 0;
  }
  [[nodiscard]] static constexpr fault_reason lacking(access wanted, unsigned granted) noexcept {
    return writes(wanted) && (granted & 2U) == 0 ? fault_reason::no_write : fault_reason::no_read;
  }

  // The device's entry, out of the cache or the tables; null after a refusal, which is in last_.
  [[nodiscard]] context* device(const dma_request& request) noexcept {
    const std::uint32_t id = request.requester.raw();
    line& l = devices_[(id ^ id >> 8 ^ request.pasid * 0x9e5U) & (Caches.devices - 1)];
    if (l.valid && l.requester == id && l.has_pasid == request.has_pasid &&
        l.pasid == request.pasid) [[likely]] {
      return &l.state;
    }
    context state{};
    const refusal why = architecture_.resolve(*tables_, request, state);
    if (why) {
      static_cast<void>(refuse(request, state, why));
      return nullptr;
    }
    l = {true, request.has_pasid, id, request.pasid, state};
    return &l.state;
  }

  [[nodiscard]] result<segment<space>> pass(const dma_request& request, context& state,
                                            std::uint64_t bytes) noexcept {
    if (!permitted(request.wanted, state.permissions)) {
      return refuse(request, state, {lacking(request.wanted, state.permissions), 0, 0});
    }
    const unsigned bits = architecture_.output_bits();
    if (bits < 64 && request.address >> bits != 0) {
      return refuse(request, state, {fault_reason::beyond_width, 0, 0});
    }
    const std::uint64_t left = bits < 64 ? (std::uint64_t{1} << bits) - request.address : bytes;
    return segment<space>{phasebit::address<space>{request.address}, left < bytes ? left : bytes};
  }

  [[nodiscard]] error refuse(const dma_request& request, context& state,
                             const refusal& why) noexcept {
    last_ = {.requester = request.requester,
             .reason = why.reason,
             .wanted = request.wanted,
             .has_pasid = request.has_pasid,
             .level = why.level,
             .domain = state.domain,
             .pasid = request.pasid,
             .address = request.address,
             .fetch = why.fetch};
    if (architecture_.finish(last_, state)) faults_->record(last_);
    return to_error(last_);
  }

  [[nodiscard]] result<pcie::msi_message> through_table(pcie::requester_id requester,
                                                        const pcie::msi_message& message) noexcept
    requires RemapsInterrupts<Architecture>
  {
    context none{};
    context* state = &none;
    if constexpr (Architecture::interrupts_by_device) {
      if (!architecture_.translates()) return message;
      state = device(
          {.requester = requester, .address = message.address.value(), .wanted = access::write});
      if (state == nullptr) return to_error(last_);
    }
    interrupt_slot slot = architecture_.locate_interrupt(*state, requester, message);
    if (slot.action == interrupt_action::pass) return message;
    if (slot.action == interrupt_action::refuse) {
      return refuse_interrupt(requester, *state, slot, slot.reason);
    }
    interrupt_words words;
    if (const interrupt_words* const cached = interrupts_.find(slot)) {
      words = *cached;
    } else {
      // An entry of 4 bytes is read with the word that it is in.
      const table_word* const at =
          detail::find_inside(*tables_, slot.at & ~std::uint64_t{7}, slot.bytes < 8 ? 8 : 16);
      if (at == nullptr) {
        return refuse_interrupt(requester, *state, slot, fault_reason::interrupt_unreadable);
      }
      words.word[0] = detail::load_entry(at);
      if (slot.bytes < 8) {
        words.word[0] = (slot.at & 4) != 0 ? words.word[0] >> 32 : words.word[0] & 0xffff'ffff;
      } else {
        words.word[1] = detail::load_entry(at + 1);
      }
    }
    remapped_interrupt out;
    const fault_reason why = architecture_.check_interrupt(slot, words, requester, out);
    if (why != fault_reason::none) return refuse_interrupt(requester, *state, slot, why);
    interrupts_.insert(slot, words);
    return out.message();
  }
  [[nodiscard]] error refuse_interrupt(pcie::requester_id requester, context& state,
                                       const interrupt_slot& slot, fault_reason why) noexcept {
    last_ = {.requester = requester,
             .reason = why,
             .wanted = access::write,
             .interrupt = true,
             .domain = state.domain,
             .address = slot.index,
             .fetch = slot.at};
    if (architecture_.finish(last_, state) && slot.report) faults_->record(last_);
    return to_error(last_);
  }

  Tables* tables_;
  Faults* faults_;
  Architecture architecture_;
  translation_fault last_{};
  std::array<line, Caches.devices> devices_{};
  iotlb<Caches.sets, Caches.ways, bus_space, space> translations_{};
  interrupt_cache<Caches.interrupts> interrupts_{};
};

}  // namespace phasebit::iommu
