// SPDX-License-Identifier: BSL-1.0
// The answers to Identify: NVMe Base 2.0, section 5.17.
#pragma once

#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/concepts.hpp>
#include <phasebit/nvme/device/deferred_commands.hpp>
#include <phasebit/nvme/device/io_command.hpp>
#include <phasebit/nvme/device/namespace_pool.hpp>
#include <phasebit/nvme/device/registers.hpp>
#include <phasebit/nvme/device/settings.hpp>
#include <phasebit/nvme/device/zoned_namespaces.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/identify.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/identify_nvm.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit::nvme::device {

// Fields that are derived from the policy and from the tables of commands.
struct controller_limits {
  std::size_t async_events = 1;
  std::size_t error_log_entries = 1;
  std::uint16_t oacs = 0;
  std::uint16_t oncs = 0;
  bool fused = false;
  bool maintenance = false;       // Sanitize, self-test and firmware slots
  bool all_command_sets = false;  // selected by the host: zoned namespaces are active
  std::string_view firmware{};    // that runs, where slots are there
};

// EUI-64 of a namespace. Made from the serial number where the settings give none: FNV-1a, marked as
// locally administered, so that two controllers of different serials have different namespaces.
[[nodiscard]] constexpr std::uint64_t eui64_of(const settings& s, std::uint32_t nsid) noexcept {
  std::uint64_t first = s.first_eui64;
  if (first == 0) {
    first = 0xcbf2'9ce4'8422'2325;
    for (char c : s.serial) first = (first ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
    first = (first & ~std::uint64_t{0x0100'0000'0000'ffff}) | 0x0200'0000'0000'0000;
  }
  return first + (nsid - 1);
}

// Fills `page`, which is zero, with the answer.
class identify_pages {
 public:
  constexpr identify_pages(const settings& s, controller_limits limits) noexcept
      : settings_(&s), limits_(limits) {}

  template <NamespaceSet Namespaces>
  [[nodiscard]] command_result build(const submission_entry& c, Namespaces& namespaces,
                                     std::span<std::byte, identify_bytes> page) const noexcept {
    const std::uint32_t nsid = c.nsid;
    const auto csi = identify_command::csi_bits.get(c.cdw11.get());
    switch (identify_command::cns_bits.get(c.cdw10.get())) {
      case cns::identify_namespace:
        return answer_namespace(namespaces, nsid, page);
      case cns::identify_controller:
        return answer(page, controller(namespaces));
      case cns::active_namespace_list:
        return namespace_list(namespaces, nsid, page);
      case cns::namespace_id_descriptors:
        return descriptors(namespaces, nsid, page);
      // NVM Command Set 1.0, 4.1.5.2 and 4.1.5.3: zeros, as there is nothing beyond the defaults.
      case cns::command_set_namespace: {
        if (!has_command_set<Namespaces>(csi)) return status_code::invalid_field;
        const command_result there = active(namespaces, nsid);
        if (!there.ok() || csi == command_set::nvm) return there;
        return answer_zoned(namespaces, nsid, page);
      }
      // Zoned Namespace Command Set 1.1, 4.1.5.2: a Zone Append may be as long as any command.
      case cns::command_set_controller:
        return has_command_set<Namespaces>(csi) ? status_code::success : status_code::invalid_field;
      case cns::command_set_active_namespace_list:
        if (!has_command_set<Namespaces>(csi)) return status_code::invalid_field;
        return namespace_list(namespaces, nsid, page, &csi);
      case cns::independent_namespace: {
        const command_result there = active(namespaces, nsid);
        if (!there.ok()) return there;
        independent_namespace id = independent(*namespaces.find(nsid));
        if constexpr (ManagedNamespaces<Namespaces>) {
          id.nmic = namespaces.pool().at(nsid).shared ? 1 : 0;
          if constexpr (ReservableNamespaces<Namespaces>) id.rescap = 0xff;
        }
        return answer(page, id);
      }
      case cns::controller_list:
        if constexpr (ManagedNamespaces<Namespaces>) {
          write_controllers(namespaces.pool().controllers(), c, page);
          return status_code::success;
        }
        return controller_list(c, page);
      // Without namespace management every allocated namespace is active and attached to this
      // controller.
      case cns::allocated_namespace_list:
        if constexpr (ManagedNamespaces<Namespaces>) {
          return allocated_list(namespaces, nsid, page);
        }
        return namespace_list(namespaces, nsid, page);
      case cns::allocated_namespace:
        if constexpr (ManagedNamespaces<Namespaces>) {
          if (namespaces.pool().allocated(nsid)) {
            return answer(page, formatted(namespaces, *namespaces.allocated_media(nsid), nsid));
          }
        }
        return answer_namespace(namespaces, nsid, page);
      case cns::attached_controller_list: {
        if constexpr (ManagedNamespaces<Namespaces>) {
          return attached_list(namespaces, c, page);
        }
        const command_result there = active(namespaces, nsid);
        return there.ok() ? controller_list(c, page) : there;
      }
      case cns::command_set_allocated_namespace_list:
        if (!has_command_set<Namespaces>(csi)) return status_code::invalid_field;
        if constexpr (ManagedNamespaces<Namespaces>) {
          return allocated_list(namespaces, nsid, page, &csi);
        }
        return namespace_list(namespaces, nsid, page, &csi);
      case cns::command_set_allocated_namespace:
        if (!has_command_set<Namespaces>(csi)) return status_code::invalid_field;
        if (csi == command_set::zoned) {
          const command_result there = active(namespaces, nsid);
          return there.ok() ? answer_zoned(namespaces, nsid, page) : there;
        }
        return answer_command_set_namespace(namespaces, nsid);
      // Base 2.0, figure 289: a vector for each combination; here one, of all that there are.
      case cns::command_set_combinations:
        store_wire(page, le<std::uint64_t>{std::uint64_t{ZonedNamespaces<Namespaces> ? 5U : 1U}});
        return status_code::success;
      default:
        return status_code::invalid_field;
    }
  }

  template <NamespaceSet Namespaces>
  [[nodiscard]] identify_controller controller(Namespaces& namespaces) const noexcept {
    const std::uint32_t highest_nsid = namespaces.highest_nsid();
    using ic = identify_controller;
    const settings& s = *settings_;
    identify_controller id{};
    id.vid = s.pci_vendor;
    id.ssvid = s.pci_subsystem_vendor;
    set_text(id.sn, s.serial);
    set_text(id.mn, s.model);
    set_text(id.fr, s.firmware);
    id.rab = 5;
    id.mdts = s.mdts;
    id.cntlid = s.controller_id;
    id.ver = registers::version.raw;
    id.oaes =
        async_event_configuration{}.with(async_event_configuration::namespace_attributes, true).raw;
    if constexpr (ZonedNamespaces<Namespaces>) {
      id.oaes = id.oaes.get() | async_event_configuration{}
                                    .with(async_event_configuration::zone_descriptor_changed, true)
                                    .raw;
    }
    id.cntrltype = controller_type::io;
    id.oacs = limits_.oacs;
    id.acl = max_aborts - 1;
    id.aerl = static_cast<std::uint8_t>(limits_.async_events - 1);
    id.frmw = 0x03;  // one slot, read only: 5.17.2.1, FRMW
    // Commands Supported and Effects; offsets in Get Log Page; log pages 00h, 05h, 12h and 13h.
    id.lpa = 0x26;
    id.elpe = static_cast<std::uint8_t>(limits_.error_log_entries - 1);
    id.wctemp = 343;
    id.cctemp = 353;
    id.kas = 1;
    id.sqes = 0x66;
    id.cqes = 0x44;
    id.nn = highest_nsid;
    id.mnan = 0;
    const auto oncs =
        static_cast<std::uint16_t>(ic::oncs_save_select.of(true) | ic::oncs_timestamp.of(true));
    id.oncs = static_cast<std::uint16_t>(oncs | limits_.oncs);
    id.fuses = limits_.fused ? 1 : 0;
    id.vwc = static_cast<std::uint8_t>(ic::vwc_present.of(s.volatile_write_cache) |
                                       ic::vwc_flush_all.of(std::uint8_t{3}));
    id.ocfs = 1;  // Copy with descriptors of format 0
    if (s.scatter_gather_lists) {
      id.sgls = ic::sgls_support.of(std::uint8_t{1}) | ic::sgls_bit_bucket.of(true) |
                ic::sgls_longer_than_data.of(true);
    }
    for (std::size_t i = 0; i != s.subsystem_nqn.size() && i + 1 < id.subnqn.size(); ++i) {
      id.subnqn[i] = s.subsystem_nqn[i];
    }
    id.psd[0].mp = 100;
    if constexpr (ManagedNamespaces<Namespaces>) {
      // Host identifiers of 128 bits.
      if constexpr (ReservableNamespaces<Namespaces>) id.ctratt = 1;
      id.tnvmcap.low = namespaces.pool().total_bytes();
      id.unvmcap.low = namespaces.pool().unallocated_bytes();
      id.cmic = ic::cmic_controllers.of<std::uint8_t>(
          (namespaces.pool().controllers() & (namespaces.pool().controllers() - 1)) != 0);
    }
    if (limits_.maintenance) {
      set_text(id.fr, limits_.firmware);
      id.frmw = 0x14;  // two slots, activation without a reset
      id.edstt = 1;    // minutes
      id.dsto = 1;     // one self-test at a time
      // Block erase; the media is not changed beyond what Sanitize does.
      id.sanicap = 0x4000'0002;
    }
    return id;
  }

  template <block::AnyBlockMedia Media>
  [[nodiscard]] identify_namespace of_namespace(const Media& media,
                                                std::uint32_t nsid) const noexcept {
    using in = identify_namespace;
    identify_namespace id{};
    id.nsze = id.ncap = id.nuse = media.block_count();
    id.dlfeat = static_cast<std::uint8_t>(
        in::dlfeat_write_zeroes.of(block::TrimmableMedia<Media> ||
                                   block::AsyncBlockMedia<Media>));  // what is read then: unsaid
    id.nvmcap.low = media.block_count() << block::block_shift(media);
    id.mssrl = static_cast<std::uint16_t>(max_copy_range_blocks);
    id.mcl = max_copy_blocks;
    id.msrc = static_cast<std::uint8_t>(max_copy_ranges - 1);
    id.nsattr = in::nsattr_write_protected.of<std::uint8_t>(block::read_only(media));
    store_eui64(id.eui64, nsid);
    id.lbaf[0].lbads = static_cast<std::uint8_t>(block::block_shift(media));
    return id;
  }

 private:
  using page_span_fwd = std::span<std::byte, identify_bytes>;

  // -- command sets --

  template <class Namespaces>
  [[nodiscard]] static constexpr bool has_command_set(command_set csi) noexcept {
    return csi == command_set::nvm || (ZonedNamespaces<Namespaces> && csi == command_set::zoned);
  }
  template <class Namespaces>
  [[nodiscard]] static command_set command_set_of(Namespaces& namespaces,
                                                  std::uint32_t nsid) noexcept {
    if constexpr (ZonedNamespaces<Namespaces>) {
      if (namespaces.zones(nsid) != nullptr) return command_set::zoned;
    }
    static_cast<void>(namespaces);
    static_cast<void>(nsid);
    return command_set::nvm;
  }
  // The media of a namespace that is active for this host, or null.
  template <class Namespaces>
  [[nodiscard]] typename Namespaces::media_type* find_active(Namespaces& namespaces,
                                                             std::uint32_t nsid) const noexcept {
    if (command_set_of(namespaces, nsid) != command_set::nvm && !limits_.all_command_sets) {
      return nullptr;
    }
    return namespaces.find(nsid);
  }
  // CNS 05h with CSI 02h, of an active namespace.
  template <class Namespaces>
  [[nodiscard]] static command_result answer_zoned(Namespaces& namespaces, std::uint32_t nsid,
                                                   page_span_fwd page) noexcept {
    if constexpr (ZonedNamespaces<Namespaces>) {
      const zone_table* const zones = namespaces.zones(nsid);
      if (zones == nullptr) return status_code::invalid_field;
      using id = zoned_identify_namespace;
      const zone_options& o = zones->options();
      const auto limit = [](std::uint32_t most) noexcept {
        return most == 0 ? id::no_limit : most - 1;
      };
      store_wire(page.subspan(offsetof(id, ozcs)),
                 le<std::uint16_t>{static_cast<std::uint16_t>(o.read_across_zones ? 1 : 0)});
      store_wire(page.subspan(offsetof(id, mar)), le<std::uint32_t>{limit(o.max_active)});
      store_wire(page.subspan(offsetof(id, mor)), le<std::uint32_t>{limit(o.max_open)});
      std::size_t format = 0;
      if constexpr (FormattedNamespaces<Namespaces>) format = namespaces.format(nsid).index;
      zoned_format_extension e{};
      e.zone_blocks = o.zone_blocks;
      e.extension_units = o.extension_units;
      store_wire(page.subspan(offsetof(id, lbafe) + format * sizeof e), e);
      return status_code::success;
    }
    static_cast<void>(namespaces);
    static_cast<void>(nsid);
    static_cast<void>(page);
    return status_code::invalid_field;
  }

  // With the formats of a set that has them.
  template <NamespaceSet Namespaces, class Media>
  [[nodiscard]] identify_namespace formatted(Namespaces& namespaces, const Media& media,
                                             std::uint32_t nsid) const noexcept {
    using in = identify_namespace;
    identify_namespace id = of_namespace(media, nsid);
    if constexpr (FormattedNamespaces<Namespaces>) {
      const namespace_format f = namespaces.format(nsid);
      id.flbas = static_cast<std::uint8_t>(in::flbas_low.of(f.index) |
                                           in::flbas_metadata_inline.of(f.extended));
      id.dps = static_cast<std::uint8_t>(in::dps_type.of(static_cast<std::uint8_t>(f.pi)) |
                                         in::dps_first_bytes.of(f.pi_first));
      add_formats(namespaces, id);
      if constexpr (ManagedNamespaces<Namespaces>) {
        id.nmic = namespaces.pool().at(nsid).shared ? 1 : 0;
      }
      // Every type, persistence, and IEKEY as revision 1.3 has it.
      if constexpr (ReservableNamespaces<Namespaces>) id.rescap = 0xff;
    }
    // Blocks of a zone that were not written read as zeros.
    if constexpr (ZonedNamespaces<Namespaces>) {
      if (namespaces.zones(nsid) != nullptr) {
        id.nsze = id.ncap = id.nuse = namespaces.zones(nsid)->block_count();
        id.dlfeat = static_cast<std::uint8_t>(id.dlfeat | 1U);
      }
    }
    return id;
  }
  template <FormattedNamespaces Namespaces>
  static void add_formats(Namespaces& namespaces, identify_namespace& id) noexcept {
    id.nlbaf = lba_format_count - 1;
    bool metadata = false;
    for (std::size_t i = 0; i != lba_format_count; ++i) {
      id.lbaf[i] = {};
      if (!namespaces.format_available(i)) continue;
      const auto sizes = sizes_of_format(i);
      id.lbaf[i].lbads = sizes.data_shift;
      id.lbaf[i].ms = sizes.metadata_bytes;
      metadata = metadata || sizes.metadata_bytes != 0;
    }
    // Metadata at the end of each block or separate; types 1 to 3, first or last bytes.
    if (metadata) {
      id.mc = 0x03;
      id.dpc = 0x1f;
    }
  }
  template <ManagedNamespaces Namespaces>
  [[nodiscard]] static command_result allocated_list(Namespaces& namespaces, std::uint32_t after,
                                                     page_span_fwd page,
                                                     const command_set* csi = nullptr) noexcept {
    if (after >= 0xffff'fffeU) return status_code::invalid_namespace_or_format;
    std::size_t at = 0;
    for (std::uint32_t nsid = after + 1; nsid <= namespaces.highest_nsid(); ++nsid) {
      if (!namespaces.pool().allocated(nsid) || at == page.size()) continue;
      if (csi != nullptr && command_set_of(namespaces, nsid) != *csi) continue;
      store_wire(page.subspan(at), le<std::uint32_t>{nsid});
      at += sizeof(nsid);
    }
    return status_code::success;
  }
  template <ManagedNamespaces Namespaces>
  [[nodiscard]] static command_result attached_list(Namespaces& namespaces,
                                                    const submission_entry& c,
                                                    page_span_fwd page) noexcept {
    const std::uint32_t nsid = c.nsid;
    if (nsid == 0 || nsid > namespaces.highest_nsid()) {
      return status_code::invalid_namespace_or_format;
    }
    if (!namespaces.pool().allocated(nsid)) return status_code::invalid_field;
    write_controllers(namespaces.pool().at(nsid).attached, c, page);
    return status_code::success;
  }
  // Those of the mask at or above CNTID.
  static void write_controllers(std::uint32_t mask, const submission_entry& c,
                                page_span_fwd page) noexcept {
    std::uint16_t count = 0;
    for (std::uint16_t id = identify_command::cntid_bits.get(c.cdw10.get()); id < 32; ++id) {
      if ((mask >> id & 1U) == 0) continue;
      ++count;
      store_wire(page.subspan(std::size_t{count} * 2), le<std::uint16_t>{id});
    }
    store_wire(page, le<std::uint16_t>{count});
  }

  using page_span = std::span<std::byte, identify_bytes>;

  template <WireStruct T>
  [[nodiscard]] static command_result answer(page_span page, const T& what) noexcept {
    store_wire(page, what);
    return status_code::success;
  }
  // Base 2.0, 5.17.1: a number that no namespace can have is another error than one that none has.
  template <NamespaceSet Namespaces>
  [[nodiscard]] command_result active(Namespaces& namespaces, std::uint32_t nsid) const noexcept {
    if (nsid == 0 || nsid > namespaces.highest_nsid()) {
      return status_code::invalid_namespace_or_format;
    }
    return find_active(namespaces, nsid) != nullptr ? status_code::success
                                                    : status_code::invalid_field;
  }

  // CNS 08h: what is the same in every command set.
  template <block::AnyBlockMedia Media>
  [[nodiscard]] static independent_namespace independent(const Media& media) noexcept {
    independent_namespace id{};
    id.nsattr =
        identify_namespace::nsattr_write_protected.of<std::uint8_t>(block::read_only(media));
    id.nstat = independent_namespace::nstat_ready.of<std::uint8_t>(true);
    return id;
  }

  template <NamespaceSet Namespaces>
  [[nodiscard]] command_result answer_namespace(Namespaces& namespaces, std::uint32_t nsid,
                                                page_span page) const noexcept {
    // FFFFFFFFh requests the values common to all namespaces, which only a controller with
    // namespace management has. An inactive namespace is all zeros.
    if constexpr (ManagedNamespaces<Namespaces>) {
      if (nsid == all_namespaces) {
        identify_namespace common{};
        add_formats(namespaces, common);
        common.mssrl = static_cast<std::uint16_t>(max_copy_range_blocks);
        common.mcl = max_copy_blocks;
        common.msrc = static_cast<std::uint8_t>(max_copy_ranges - 1);
        return answer(page, common);
      }
    }
    if (nsid == 0 || nsid > namespaces.highest_nsid()) {
      return status_code::invalid_namespace_or_format;
    }
    if (const auto* media = find_active(namespaces, nsid)) {
      return answer(page, formatted(namespaces, *media, nsid));
    }
    return status_code::success;
  }

  // Zeros: nothing beyond the defaults.
  template <NamespaceSet Namespaces>
  [[nodiscard]] static command_result answer_command_set_namespace(Namespaces& namespaces,
                                                                   std::uint32_t nsid) noexcept {
    if (nsid == 0 || nsid > namespaces.highest_nsid()) {
      return status_code::invalid_namespace_or_format;
    }
    return status_code::success;
  }

  // Active numbers above `after`, ascending.
  template <NamespaceSet Namespaces>
  [[nodiscard]] command_result namespace_list(Namespaces& namespaces, std::uint32_t after,
                                              page_span page,
                                              const command_set* csi = nullptr) const noexcept {
    if (after >= 0xffff'fffeU) return status_code::invalid_namespace_or_format;
    std::size_t at = 0;
    const std::uint32_t last = namespaces.highest_nsid();
    for (std::uint32_t nsid = after + 1; nsid <= last && at != page.size(); ++nsid) {
      if (find_active(namespaces, nsid) == nullptr) continue;
      if (csi != nullptr && command_set_of(namespaces, nsid) != *csi) continue;
      store_wire(page.subspan(at), le<std::uint32_t>{nsid});
      at += sizeof(nsid);
    }
    return status_code::success;
  }

  // Figure 277: type, length, two reserved bytes, the id; ended by zeros.
  template <NamespaceSet Namespaces>
  [[nodiscard]] command_result descriptors(Namespaces& namespaces, std::uint32_t nsid,
                                           page_span page) const noexcept {
    const command_result there = active(namespaces, nsid);
    if (!there.ok()) return there;
    constexpr std::size_t header = sizeof(namespace_id_descriptor);
    std::uint8_t id[8];
    store_eui64(id, nsid);
    store_wire(page, namespace_id_descriptor{
                         .nidt = namespace_id_type::eui64, .nidl = sizeof id, .reserved2 = {}});
    for (std::size_t i = 0; i != sizeof id; ++i) page[header + i] = std::byte{id[i]};
    // And the command set.
    store_wire(page.subspan(header + sizeof id),
               namespace_id_descriptor{
                   .nidt = namespace_id_type::command_set, .nidl = 1, .reserved2 = {}});
    page[2 * header + sizeof id] =
        std::byte{static_cast<std::uint8_t>(command_set_of(namespaces, nsid))};
    return status_code::success;
  }

  // Base 2.0, 5.17.2.12: a count, then identifiers at or above CNTID.
  [[nodiscard]] command_result controller_list(const submission_entry& c,
                                               page_span page) const noexcept {
    if (identify_command::cntid_bits.get(c.cdw10.get()) <= settings_->controller_id) {
      store_wire(page, le<std::uint16_t>{std::uint16_t{1}});
      store_wire(page.subspan(2), le<std::uint16_t>{settings_->controller_id});
    }
    return status_code::success;
  }

  void store_eui64(std::uint8_t (&to)[8], std::uint32_t nsid) const noexcept {
    const std::uint64_t value = eui64_of(*settings_, nsid);
    for (unsigned i = 0; i != 8; ++i) to[i] = static_cast<std::uint8_t>(value >> (56 - 8 * i));
  }

  const settings* settings_;
  controller_limits limits_;
};

}  // namespace phasebit::nvme::device
