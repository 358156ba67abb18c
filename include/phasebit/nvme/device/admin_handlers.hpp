// SPDX-License-Identifier: BSL-1.0
// The admin commands that a controller of this library answers: NVMe Base 2.0, section 5.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>
#include <phasebit/nvme/device/identify.hpp>
#include <phasebit/nvme/device/namespace_commands.hpp>
#include <phasebit/nvme/device/queue_commands.hpp>
#include <phasebit/nvme/device/state.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// The parts of a controller that an admin command needs besides the host.
enum class admin_command_needs : std::uint8_t {
  nothing,
  shadow_doorbells,
  secondary_controllers,
  managed_namespaces,
  reservable_namespaces,
  maintenance,
  zones
};

// A row of the table of admin commands.
template <class Handlers>
struct admin_command {
  admin_opcode opcode;
  command_result (*handler)(Handlers&, const submission_entry&) noexcept;
  std::uint32_t effects = 0;  // in the Commands Supported and Effects log, beside CSUPP
  std::uint16_t oacs = 0;     // bits of Identify Controller that report it
  admin_command_needs requires_ = admin_command_needs::nothing;
};

// A row of the table of log pages.
template <class Handlers>
struct log_page_source {
  log_page_id id;
  std::size_t (*write)(Handlers&, std::span<std::byte, block::max_block_size>) noexcept;
  async_event_type acknowledges;  // events of this type are reported again after a read
  admin_command_needs requires_ = admin_command_needs::nothing;
};

// Executes one admin command of the copy `c`; all side effects are on the state. One table lists
// the commands: dispatch, the Commands Supported and Effects log and the OACS field of Identify
// Controller are derived from it.
template <class State>
class admin_handlers {
 public:
  explicit constexpr admin_handlers(State& s) noexcept : s_(s) {}

  // `later`: the command is in flight, or an event request that waits.
  [[nodiscard]] command_result execute(const submission_entry& c) noexcept {
    // Base 2.0, figure 87: admin commands over PCIe use PRPs, and nothing here is fused.
    if (c.psdt() != data_pointer::prp || c.fuse() != fused::none) return status_code::invalid_field;
    if (s_.events.has_request(c.command_id()) || s_.deferred.has(c.command_id())) {
      return status_code::command_id_conflict;
    }
    for (const entry& e : table) {
      if (static_cast<std::uint8_t>(e.opcode) != c.opcode()) continue;
      if (!available(e)) break;
      if (const auto bad = while_sanitizing(e.opcode); bad != status_code::success) return bad;
      return e.handler(*this, c);
    }
    return status_code::invalid_opcode;
  }

 private:
  // Base 2.0, figure 428: what may be done while a Sanitize is in progress or has failed.
  [[nodiscard]] status_code while_sanitizing(admin_opcode opcode) const noexcept {
    if constexpr (State::policy::maintenance::present) {
      const bool now = s_.maintenance.sanitizing();
      if (!now && !s_.maintenance.sanitize_failed()) return status_code::success;
      switch (opcode) {
        case admin_opcode::format_nvm:
        case admin_opcode::namespace_management:
        case admin_opcode::namespace_attachment:
        case admin_opcode::firmware_commit:
        case admin_opcode::firmware_image_download:
        case admin_opcode::device_self_test:
          return now ? status_code::sanitize_in_progress : status_code::sanitize_failed;
        case admin_opcode::sanitize:
          return now ? status_code::sanitize_in_progress : status_code::success;
        default:
          break;
      }
    }
    return status_code::success;
  }

  using needs = admin_command_needs;
  using entry = admin_command<admin_handlers>;
  using log_page = log_page_source<admin_handlers>;
  static constexpr auto no_event = async_event_type::vendor;

  template <class Row>
  [[nodiscard]] bool available(const Row& e) const noexcept {
    switch (e.requires_) {
      case needs::nothing:
        return true;
      case needs::shadow_doorbells:
        return s_.config.shadow_doorbells &&
               s_.shadow.fits_page(s_.queues.pairs, s_.regs.page_shift());
      case needs::secondary_controllers:
        return State::secondary_type::present;
      case needs::managed_namespaces:
        return State::managed;
      case needs::reservable_namespaces:
        return State::reservable;
      case needs::maintenance:
        return State::policy::maintenance::present;
      case needs::zones:
        return State::zoned;
    }
    return false;
  }

  [[nodiscard]] command_result delete_io_sq(const submission_entry& c) noexcept {
    const command_result done = delete_submission_queue(s_, c);
    if (done.later) {
      s_.deferred.add({.what = deferred_command::kind::delete_queue,
                       .command_id = c.command_id(),
                       .sqid = create_queue_command::qid_bits.get(c.cdw10.get())});
    }
    return done;
  }
  [[nodiscard]] command_result create_io_sq(const submission_entry& c) noexcept {
    return create_submission_queue(s_, c);
  }
  [[nodiscard]] command_result delete_io_cq(const submission_entry& c) noexcept {
    return delete_completion_queue(s_, c);
  }
  [[nodiscard]] command_result create_io_cq(const submission_entry& c) noexcept {
    return create_completion_queue(s_, c);
  }
  [[nodiscard]] command_result keep_alive(const submission_entry&) noexcept {
    s_.keep_alive_elapsed_ms = 0;
    return status_code::success;
  }
  [[nodiscard]] command_result virtualization_management(const submission_entry& c) noexcept {
    if constexpr (State::secondary_type::present) {
      return s_.secondary.execute(c);
    }
    return status_code::invalid_opcode;
  }

  [[nodiscard]] command_result namespace_management(const submission_entry& c) noexcept {
    if constexpr (State::managed) return manage_namespace(s_, c, cleared_page());
    return status_code::invalid_opcode;
  }
  [[nodiscard]] command_result namespace_attachment(const submission_entry& c) noexcept {
    if constexpr (State::managed) return attach_namespace(s_, c, cleared_page());
    return status_code::invalid_opcode;
  }
  [[nodiscard]] command_result format(const submission_entry& c) noexcept {
    if constexpr (State::managed) return format_nvm(s_, c);
    return status_code::invalid_opcode;
  }
  [[nodiscard]] command_result sanitize_nvm(const submission_entry& c) noexcept {
    if constexpr (State::policy::maintenance::present) return sanitize(s_, c);
    return status_code::invalid_opcode;
  }
  [[nodiscard]] command_result device_self_test(const submission_entry& c) noexcept {
    if constexpr (State::policy::maintenance::present) return self_test(s_, c);
    return status_code::invalid_opcode;
  }
  [[nodiscard]] command_result firmware_download(const submission_entry& c) noexcept {
    if constexpr (State::policy::maintenance::present) {
      if (s_.config.mdts != 0 && (std::uint64_t{c.cdw10.get()} + 1) * 4 > std::uint64_t{4096}
                                                                              << s_.config.mdts) {
        return status_code::invalid_field;
      }
      return s_.maintenance.download(c, data_of(c));
    }
    return status_code::invalid_opcode;
  }
  [[nodiscard]] command_result firmware_commit(const submission_entry& c) noexcept {
    if constexpr (State::policy::maintenance::present) return s_.maintenance.commit(c);
    return status_code::invalid_opcode;
  }

  using page_span = std::span<std::byte, block::max_block_size>;

  [[nodiscard]] page_span cleared_page() noexcept {
    s_.groups[0].buffer.bytes.fill(std::byte{0});
    return s_.groups[0].buffer.bytes;
  }
  [[nodiscard]] data_transfer<typename State::dma_type> data_of(
      const submission_entry& c) noexcept {
    return {*s_.dma, c, s_.regs.page_shift()};
  }

  [[nodiscard]] command_result identify(const submission_entry& c) noexcept {
    controller_limits limits{State::policy::async_events, State::policy::error_log_entries, 0, 0,
                             State::policy::fused_commands};
    if constexpr (State::policy::maintenance::present) {
      limits.maintenance = true;
      limits.firmware = s_.maintenance.active_revision();
    }
    limits.all_command_sets = all_command_sets(s_);
    for_each_nvm_command(*s_.namespaces, [&](const nvm_command& one) noexcept {
      limits.oncs = static_cast<std::uint16_t>(limits.oncs | one.oncs);
    });
    for (const entry& e : table) {
      if (available(e)) limits.oacs = static_cast<std::uint16_t>(limits.oacs | e.oacs);
    }
    const page_span page = cleared_page();
    if constexpr (State::secondary_type::present) {
      const auto what = identify_command::cns_bits.get(c.cdw10.get());
      if (what == cns::primary_controller) {
        s_.secondary.write_capabilities(page, s_.config.controller_id);
        return data_of(c).to_host(page);
      }
      if (what == cns::secondary_controller_list) {
        s_.secondary.write_list(page, s_.config.controller_id,
                                identify_command::cntid_bits.get(c.cdw10.get()));
        return data_of(c).to_host(page);
      }
    }
    const auto built = identify_pages{s_.config, limits}.build(c, *s_.namespaces, page);
    return built.ok() ? data_of(c).to_host(page) : built;
  }

  [[nodiscard]] command_result get_log_page(const submission_entry& c) noexcept {
    using f = log_page_command;
    const std::uint32_t dw10 = c.cdw10;
    const std::uint64_t dwords =
        (std::uint64_t{f::numdu_bits.get(c.cdw11.get())} << 16 | f::numdl_bits.get(dw10)) + 1;
    const std::uint64_t offset = c.cdw12.get() | std::uint64_t{c.cdw13.get()} << 32;
    if ((offset & 3U) != 0 || f::ot_bit.get(c.cdw14.get())) return status_code::invalid_field;
    if (s_.config.mdts != 0 && dwords * 4 > std::uint64_t{4096} << s_.config.mdts) {
      return status_code::invalid_field;
    }
    const log_page* const log = find_log_page(f::lid_bits.get(dw10));
    if (log == nullptr) return status_code::invalid_log_page;
    log_nsid_ = c.nsid;
    log_csi_ = f::csi_bits.get(c.cdw14.get());
    if (const auto bad = check_log(*log); bad != status_code::success) return bad;
    const page_span page = cleared_page();
    const std::size_t size = log->write(*this, page);
    if (offset >= size) return status_code::invalid_field;
    const std::size_t remaining = size - static_cast<std::size_t>(offset);
    const std::size_t asked =
        dwords * 4 < remaining ? int_cast<std::size_t>(dwords * 4) : remaining;
    const auto sent = data_of(c).to_host(page.subspan(static_cast<std::size_t>(offset), asked));
    if (sent == status_code::success && !f::rae_bit.get(dw10)) {
      if (log->acknowledges != no_event) s_.events.acknowledge(log->acknowledges);
      if (log->id == log_page_id::changed_namespaces) s_.changed.clear();
      if constexpr (State::zoned) {
        if (log->id == log_page_id::changed_zones) s_.namespaces->zones(log_nsid_)->clear_changed();
      }
    }
    return sent;
  }

  // Base 2.0, 5.1. The Abort completes after the command that it names has completed: only then may
  // the host reuse the buffers. DW0 reports whether that command was aborted.
  [[nodiscard]] command_result abort(const submission_entry& c) noexcept {
    const std::uint16_t sqid = abort_command::sqid_bits.get(c.cdw10.get());
    const std::uint16_t cid = abort_command::cid_bits.get(c.cdw10.get());
    if (sqid > s_.queues.pairs || !s_.queues.sq[sqid].exists()) return status_code::invalid_field;
    if (sqid == 0 && s_.events.abort_request(cid)) return status_code::success;
    if (sqid == 0 || s_.queues.sq[sqid].in_flight == 0) {
      return {status_code::success, abort_command::not_aborted.of(true)};
    }
    if (s_.deferred.aborts() == max_aborts) return status_code::abort_limit_exceeded;
    s_.deferred.add({.what = deferred_command::kind::abort,
                     .command_id = c.command_id(),
                     .sqid = sqid,
                     .target_id = cid});
    command_result waits;
    waits.later = true;
    return waits;
  }

  // A log page whose content depends on a command set or a namespace.
  [[nodiscard]] status_code check_log(const log_page& log) noexcept {
    if (log.id == log_page_id::commands_supported && log_csi_ != command_set::nvm &&
        !(State::zoned && log_csi_ == command_set::zoned)) {
      return status_code::invalid_field;
    }
    if constexpr (State::zoned) {
      if (log.id != log_page_id::changed_zones) return status_code::success;
      if (log_nsid_ == 0 || log_nsid_ > s_.namespaces->highest_nsid()) {
        return status_code::invalid_namespace_or_format;
      }
      return s_.namespaces->zones(log_nsid_) == nullptr ? status_code::invalid_field
                                                        : status_code::success;
    }
    return status_code::success;
  }
  [[nodiscard]] const log_page* find_log_page(log_page_id id) const noexcept {
    for (const log_page& one : log_pages) {
      if (one.id == id && available(one)) return &one;
    }
    return nullptr;
  }

  // Base 2.0, 5.16.1.1: a dword for each log page, bit 0 is LSUPP.
  std::size_t write_log_pages_supported(page_span page) noexcept {
    for (const log_page& one : log_pages) {
      if (!available(one)) continue;
      store_wire(page.subspan(static_cast<std::size_t>(one.id) * 4), le<std::uint32_t>{1U});
    }
    return 1024;
  }
  // Base 2.0, 5.16.1.19: no command of the management interface is answered.
  std::size_t write_mi_commands(page_span) noexcept { return 1024; }
  std::size_t write_errors(page_span page) noexcept { return s_.errors.write(page); }
  std::size_t write_health_log(page_span page) noexcept {
    return write_health(page, s_.health(), s_.errors.count(), s_.temperature);
  }
  std::size_t write_firmware_log(page_span page) noexcept {
    if constexpr (State::policy::maintenance::present) return s_.maintenance.write_slots(page);
    return write_firmware_slots(page, s_.config);
  }
  // Reading it takes the notice away.
  std::size_t write_reservation_notice(page_span page) noexcept {
    if constexpr (State::reservable) {
      store_wire(page,
                 s_.namespaces->pool().reservations().take_notice(s_.namespaces->controller_id()));
    }
    return sizeof(reservation_log);
  }
  std::size_t write_self_test_log(page_span page) noexcept {
    if constexpr (State::policy::maintenance::present) {
      return s_.maintenance.write_self_tests(page, s_.job);
    }
    return 0;
  }
  std::size_t write_sanitize_log(page_span page) noexcept {
    if constexpr (State::policy::maintenance::present) {
      return s_.maintenance.write_sanitize(page, s_.job);
    }
    return 0;
  }
  std::size_t write_changed(page_span page) noexcept { return s_.changed.write(page); }
  // Base 2.0, 5.16.1.18: a dword for each feature, bit 0 is FSUPP, bit 21 the controller's scope.
  std::size_t write_features_supported(page_span page) noexcept {
    s_.features.for_each([&](feature_id id) noexcept {
      if (id == feature_id::number_of_queues && s_.queues.pairs == 0) return;
      store_wire(page.subspan(static_cast<std::size_t>(id) * 4), le<std::uint32_t>{1U | 1U << 21});
    });
    if constexpr (State::zoned) {
      store_wire(page.subspan(static_cast<std::size_t>(feature_id::io_command_set_profile) * 4),
                 le<std::uint32_t>{1U | 1U << 21});
    }
    return 1024;
  }

  std::size_t write_commands_supported(page_span page) noexcept {
    using log = commands_supported_log;
    constexpr std::uint32_t supported = log::csupp.of(true);
    const auto put = [&](std::size_t index, std::uint32_t effects) noexcept {
      store_wire(page.subspan(index * 4), le<std::uint32_t>{supported | effects});
    };
    for (const entry& e : table) {
      if (available(e)) put(static_cast<std::size_t>(e.opcode), e.effects);
    }
    for_each_nvm_command(*s_.namespaces, [&](const nvm_command& one) noexcept {
      put(256 + static_cast<std::size_t>(one.opcode), one.effects);
    });
    if (State::zoned && log_csi_ == command_set::zoned) {
      for_each_zone_command([&](const nvm_command& one) noexcept {
        put(256 + static_cast<std::size_t>(one.opcode), one.effects);
      });
    }
    return sizeof(log);
  }
  std::size_t write_changed_zones(page_span page) noexcept {
    if constexpr (State::zoned) {
      changed_zone_log log{};
      s_.namespaces->zones(log_nsid_)->write_changed(log);
      store_wire(page, log);
    }
    return sizeof(changed_zone_log);
  }

  // Host Identifier, Reservation Notification Mask and Reservation Persistence: sections 5.27.1.25
  // to 5.27.1.27. Returns `later` for any other feature.
  [[nodiscard]] command_result reservation_features(const submission_entry& c, bool set) noexcept {
    command_result other;
    other.later = true;
    if constexpr (State::reservable) {
      auto& pool = s_.namespaces->pool();
      auto& all = pool.reservations();
      const std::uint16_t own = s_.namespaces->controller_id();
      const auto id = features_command::fid_bits.get(c.cdw10.get());
      const bool known = id == feature_id::host_identifier ||
                         id == feature_id::reservation_notification_mask ||
                         id == feature_id::reservation_persistence;
      if (!known) return other;
      if (set && features_command::save_bit.get(c.cdw10.get())) {
        return status_code::feature_not_saveable;
      }
      if (!set) {
        const auto select = features_command::select_bits.get(c.cdw10.get());
        if (select == feature_select::supported) {
          return {status_code::success, id == feature_id::host_identifier ? 4U : 6U};
        }
        if (select != feature_select::current) return status_code::success;
      }
      if (id == feature_id::host_identifier) {
        const bool extended = (c.cdw11.get() & 1U) != 0;
        const std::size_t bytes = extended ? 16 : 8;
        if (!set) {
          if (extended != all.extended(own)) return status_code::host_identifier_inconsistent;
          auto now = all.stored_host(own);
          return data_of(c).to_host(std::as_bytes(std::span{now}).first(bytes));
        }
        host_identifier wanted{};
        const auto got =
            data_of(c).from_host(std::as_writable_bytes(std::span{wanted}).first(bytes));
        if (got == status_code::success) all.set_host(own, wanted, extended);
        return got;
      }
      const std::uint32_t nsid = c.nsid;
      const bool everywhere =
          set && nsid == all_namespaces && id == feature_id::reservation_notification_mask;
      if (!everywhere) {
        if (nsid == 0 || nsid > s_.namespaces->highest_nsid()) {
          return status_code::invalid_namespace_or_format;
        }
        if (s_.namespaces->find(nsid) == nullptr) return status_code::invalid_field;
      }
      if (id == feature_id::reservation_persistence) {
        if (!set) return {status_code::success, all.at(nsid).persists() ? 1U : 0U};
        all.at(nsid).set_persists((c.cdw11.get() & 1U) != 0);
        return status_code::success;
      }
      if (!set) return {status_code::success, all.mask(nsid, own)};
      for (std::uint32_t n = 1; n <= s_.namespaces->highest_nsid(); ++n) {
        if (everywhere || n == nsid) all.mask(n, own) = c.cdw11.get() & 0xeU;
      }
      return status_code::success;
    }
    return other;
  }

  [[nodiscard]] command_result set_features(const submission_entry& c) noexcept {
    if constexpr (State::reservable) {
      if (const auto done = reservation_features(c, true); !done.later) return done;
    }
    switch (features_command::fid_bits.get(c.cdw10.get())) {
      // 5.27.1.21: there is one combination of command sets.
      case feature_id::io_command_set_profile:
        if constexpr (!State::zoned) return status_code::invalid_field;
        if (features_command::save_bit.get(c.cdw10.get())) {
          return status_code::feature_not_saveable;
        }
        return (c.cdw11.get() & 0x1ffU) == 0 ? status_code::success
                                             : status_code::command_set_combination_rejected;
      case feature_id::number_of_queues:
        return set_number_of_queues(c);
      case feature_id::timestamp: {
        if (features_command::save_bit.get(c.cdw10.get())) {
          return status_code::feature_not_saveable;
        }
        timestamp t{};
        const auto got = data_of(c).from_host(writable_wire_bytes(t));
        if (got == status_code::success) s_.clock.set(t.value());
        return got;
      }
      case feature_id::host_behavior_support: {
        host_behavior_support h{};
        if (const auto bad = s_.features.set(c); !bad.ok()) return bad;
        const auto got = data_of(c).from_host(writable_wire_bytes(h));
        return got == status_code::success ? s_.features.set_host_behavior(h) : got;
      }
      case feature_id::keep_alive_timer:
        s_.keep_alive_elapsed_ms = 0;
        return s_.features.set(c);
      case feature_id::interrupt_vector_configuration: {
        const command_result done = s_.features.set(c);
        if constexpr (State::policy::coalescing::present) {
          const interrupt_vector_configuration v{c.cdw11};
          if (done.ok()) {
            s_.coalescing.disable(v[interrupt_vector_configuration::iv],
                                  v[interrupt_vector_configuration::cd]);
          }
        }
        return done;
      }
      case feature_id::temperature_threshold:
      case feature_id::async_event_configuration: {
        const command_result done = s_.features.set(c);
        if (done.ok()) check_temperature(s_);
        return done;
      }
      default:
        return s_.features.set(c);
    }
  }

  // 5.27.1.5: once, before the first I/O queue; 0-based; the answer may be less than was asked.
  [[nodiscard]] command_result set_number_of_queues(const submission_entry& c) noexcept {
    // The field cannot express that there are none.
    if (s_.queues.pairs == 0) return status_code::invalid_field;
    const number_of_queues asked{c.cdw11};
    if (asked[number_of_queues::nsqr] == 0xffff || asked[number_of_queues::ncqr] == 0xffff) {
      return status_code::invalid_field;
    }
    if (s_.queues.io_queues_exist()) return status_code::command_sequence_error;
    if (const auto done = s_.features.set(c); !done.ok()) return done;
    const auto grant = [this](std::uint32_t wanted) noexcept {
      return static_cast<std::uint16_t>(wanted < s_.queues.pairs ? wanted : s_.queues.pairs);
    };
    s_.queues.granted_sq = grant(asked.submission_queues());
    s_.queues.granted_cq = grant(asked.completion_queues());
    return {status_code::success, granted()};
  }
  [[nodiscard]] std::uint32_t granted() const noexcept {
    return number_of_queues::of(s_.queues.granted_sq, s_.queues.granted_cq).raw;
  }

  [[nodiscard]] command_result get_features(const submission_entry& c) noexcept {
    if constexpr (State::reservable) {
      if (const auto done = reservation_features(c, false); !done.later) return done;
    }
    if constexpr (State::zoned) {
      if (features_command::fid_bits.get(c.cdw10.get()) == feature_id::io_command_set_profile) {
        const auto what = features_command::select_bits.get(c.cdw10.get());
        return {status_code::success, what == feature_select::supported ? 4U : 0U};
      }
    }
    command_result found = s_.features.get(c);
    const auto select = features_command::select_bits.get(c.cdw10.get());
    const auto id = features_command::fid_bits.get(c.cdw10.get());
    if (id == feature_id::number_of_queues && s_.queues.pairs == 0) {
      return status_code::invalid_field;
    }
    if (!found.ok() || select == feature_select::supported) return found;
    if (id == feature_id::number_of_queues) {
      found.dw0 = select == feature_select::current
                      ? granted()
                      : number_of_queues::of(s_.queues.pairs, s_.queues.pairs).raw;
    }
    if constexpr (State::policy::coalescing::present) {
      if (id == feature_id::interrupt_vector_configuration && select == feature_select::current) {
        const auto vector =
            interrupt_vector_configuration{c.cdw11}[interrupt_vector_configuration::iv];
        found.dw0 = interrupt_vector_configuration{}
                        .with(interrupt_vector_configuration::iv, vector)
                        .with(interrupt_vector_configuration::cd, s_.coalescing.disabled(vector))
                        .raw;
      }
    }
    if (id == feature_id::host_behavior_support) {
      const auto now =
          select == feature_select::current ? s_.features.host_behavior() : host_behavior_support{};
      const auto sent = data_of(c).to_host(wire_bytes(now));
      if (sent != status_code::success) return sent;
    }
    if (id == feature_id::timestamp) {
      const timestamp now = select == feature_select::current ? s_.clock.now() : timestamp{};
      const auto sent = data_of(c).to_host(wire_bytes(now));
      if (sent != status_code::success) return sent;
    }
    return found;
  }

  [[nodiscard]] command_result async_event_request(const submission_entry& c) noexcept {
    if (!s_.events.add_request(c.command_id())) return status_code::async_event_limit_exceeded;
    command_result pending;
    pending.later = true;
    return pending;
  }

  // 5.8: both buffers on a page of CC.MPS. The admin queue stays with its registers.
  [[nodiscard]] command_result doorbell_buffer_config(const submission_entry& c) noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << s_.regs.page_shift()) - 1;
    const bus_addr shadow{c.prp1.get()};
    const bus_addr events{c.prp2.get()};
    if (((shadow.value() | events.value()) & mask) != 0) return status_code::invalid_field;
    s_.shadow.enable(shadow, events);
    // Existing queues continue from the positions in their registers.
    for (std::uint16_t q = 1; q <= s_.queues.highest; ++q) {
      auto& sq = s_.queues.sq[q];
      auto& cq = s_.queues.cq[q];
      if (sq.exists()) sq.set_tail(s_.doorbells.load(q, ring_side::submission));
      if (cq.exists()) cq.set_head(s_.doorbells.load(q, ring_side::completion));
      if ((sq.exists() && !s_.shadow.begin(q, ring_side::submission, sq.tail)) ||
          (cq.exists() && !s_.shadow.begin(q, ring_side::completion, cq.head))) {
        s_.shadow.disable();
        return status_code::data_transfer_error;
      }
      if (sq.exists()) s_.doorbells.store(q, ring_side::submission, doorbell_seen);
    }
    return status_code::success;
  }

  // Plain functions of the members, for the tables.
  template <auto Handler>
  static command_result run(admin_handlers& self, const submission_entry& c) noexcept {
    return (self.*Handler)(c);
  }
  template <auto Writer>
  static std::size_t write(admin_handlers& self, page_span page) noexcept {
    return (self.*Writer)(page);
  }

  // After the handlers that they name. Dispatch and what Identify and the log pages report follow
  // from them.
  static constexpr std::array<entry, 13 + (State::managed ? 3U : 0U) +
                                         (State::policy::maintenance::present ? 4U : 0U)>
      table = [] {
        std::array<entry, 13 + (State::managed ? 3U : 0U) +
                              (State::policy::maintenance::present ? 4U : 0U)>
            all{{{admin_opcode::delete_io_sq, &run<&admin_handlers::delete_io_sq>},
                 {admin_opcode::create_io_sq, &run<&admin_handlers::create_io_sq>},
                 {admin_opcode::get_log_page, &run<&admin_handlers::get_log_page>},
                 {admin_opcode::delete_io_cq, &run<&admin_handlers::delete_io_cq>},
                 {admin_opcode::create_io_cq, &run<&admin_handlers::create_io_cq>},
                 {admin_opcode::identify, &run<&admin_handlers::identify>},
                 {admin_opcode::abort, &run<&admin_handlers::abort>},
                 {admin_opcode::set_features, &run<&admin_handlers::set_features>},
                 {admin_opcode::get_features, &run<&admin_handlers::get_features>},
                 {admin_opcode::async_event_request, &run<&admin_handlers::async_event_request>},
                 {admin_opcode::keep_alive, &run<&admin_handlers::keep_alive>},
                 {admin_opcode::virtualization_management,
                  &run<&admin_handlers::virtualization_management>, 0,
                  identify_controller::oacs_virtualization.of<std::uint16_t>(true),
                  needs::secondary_controllers},
                 {admin_opcode::doorbell_buffer_config,
                  &run<&admin_handlers::doorbell_buffer_config>, 0,
                  identify_controller::oacs_doorbell_buffer.of<std::uint16_t>(true),
                  needs::shadow_doorbells}}};
        [[maybe_unused]] std::size_t next = 13;
        if constexpr (State::managed) {
          for (const entry& one : std::array<entry, 3>{
                   {{admin_opcode::namespace_management,
                     &run<&admin_handlers::namespace_management>,
                     commands_supported_log::nic.of(true),
                     identify_controller::oacs_namespaces.of<std::uint16_t>(true),
                     needs::managed_namespaces},
                    {admin_opcode::namespace_attachment,
                     &run<&admin_handlers::namespace_attachment>,
                     commands_supported_log::nic.of(true),
                     identify_controller::oacs_namespaces.of<std::uint16_t>(true),
                     needs::managed_namespaces},
                    {admin_opcode::format_nvm, &run<&admin_handlers::format>,
                     commands_supported_log::lbcc.of(true) | commands_supported_log::ncc.of(true) |
                         commands_supported_log::cse.of(1),
                     identify_controller::oacs_format.of<std::uint16_t>(true),
                     needs::managed_namespaces}}}) {
            all[next++] = one;
          }
        }
        if constexpr (State::policy::maintenance::present) {
          for (const entry& one : std::array<entry, 4>{
                   {{admin_opcode::sanitize, &run<&admin_handlers::sanitize_nvm>,
                     commands_supported_log::lbcc.of(true) | commands_supported_log::cse.of(2), 0,
                     needs::maintenance},
                    {admin_opcode::device_self_test, &run<&admin_handlers::device_self_test>, 0,
                     identify_controller::oacs_self_test.of<std::uint16_t>(true),
                     needs::maintenance},
                    {admin_opcode::firmware_image_download,
                     &run<&admin_handlers::firmware_download>, 0,
                     identify_controller::oacs_firmware.of<std::uint16_t>(true),
                     needs::maintenance},
                    {admin_opcode::firmware_commit, &run<&admin_handlers::firmware_commit>,
                     commands_supported_log::ccc.of(true),
                     identify_controller::oacs_firmware.of<std::uint16_t>(true),
                     needs::maintenance}}}) {
            all[next++] = one;
          }
        }
        return all;
      }();
  static constexpr std::array<log_page, 8 + (State::reservable ? 1U : 0U) +
                                            (State::zoned ? 1U : 0U) +
                                            (State::policy::maintenance::present ? 2U : 0U)>
      log_pages = [] {
        std::array<log_page, 8 + (State::reservable ? 1U : 0U) + (State::zoned ? 1U : 0U) +
                                 (State::policy::maintenance::present ? 2U : 0U)>
            all{{{log_page_id::supported_log_pages,
                  &write<&admin_handlers::write_log_pages_supported>, no_event},
                 {log_page_id::error_information, &write<&admin_handlers::write_errors>,
                  async_event_type::error},
                 {log_page_id::health, &write<&admin_handlers::write_health_log>,
                  async_event_type::health},
                 {log_page_id::firmware_slots, &write<&admin_handlers::write_firmware_log>,
                  no_event},
                 {log_page_id::changed_namespaces, &write<&admin_handlers::write_changed>,
                  async_event_type::notice},
                 {log_page_id::commands_supported,
                  &write<&admin_handlers::write_commands_supported>, no_event},
                 {log_page_id::feature_identifiers_supported,
                  &write<&admin_handlers::write_features_supported>, no_event},
                 {log_page_id::nvme_mi_commands_supported,
                  &write<&admin_handlers::write_mi_commands>, no_event}}};
        [[maybe_unused]] std::size_t next = 8;
        if constexpr (State::reservable) {
          for (const log_page& one : std::array<log_page, 1>{
                   {{log_page_id::reservation_notification,
                     &write<&admin_handlers::write_reservation_notice>,
                     async_event_type::io_command_set, needs::reservable_namespaces}}}) {
            all[next++] = one;
          }
        }
        if constexpr (State::zoned) {
          all[next++] = {log_page_id::changed_zones, &write<&admin_handlers::write_changed_zones>,
                         async_event_type::notice, needs::zones};
        }
        if constexpr (State::policy::maintenance::present) {
          for (const log_page& one : std::array<log_page, 2>{
                   {{log_page_id::device_self_test, &write<&admin_handlers::write_self_test_log>,
                     no_event, needs::maintenance},
                    {log_page_id::sanitize_status, &write<&admin_handlers::write_sanitize_log>,
                     async_event_type::io_command_set, needs::maintenance}}}) {
            all[next++] = one;
          }
        }
        return all;
      }();

  State& s_;
  std::uint32_t log_nsid_ = 0;  // of the Get Log Page in progress
  command_set log_csi_ = command_set::nvm;
};

}  // namespace phasebit::nvme::device
