// SPDX-License-Identifier: BSL-1.0
// Namespace Management, Namespace Attachment and Format NVM over a namespace_pool; Sanitize and Device
// Self-test. NVMe Base 2.0, sections 5.22, 5.23, 5.14, 5.24 and 5.9. Those that take long leave a job
// behind, see maintenance_worker.hpp.
#pragma once

#include <phasebit/nvme/device/data_transfer.hpp>
#include <phasebit/nvme/device/maintenance_worker.hpp>
#include <phasebit/nvme/device/state.hpp>
#include <phasebit/nvme/spec/identify.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

namespace detail {

[[nodiscard]] inline command_result waits() noexcept {
  command_result r;
  r.later = true;
  return r;
}
template <class State>
void defer(State& s, const submission_entry& c, maintenance_job job) noexcept {
  s.job_outcome = {};
  maintenance_worker{s}.start(job);
  s.deferred.add({.what = deferred_command::kind::maintenance, .command_id = c.command_id()});
}
// A namespace number that exists, and is allocated.
template <class State>
[[nodiscard]] status_code check_allocated(State& s, std::uint32_t nsid) noexcept {
  if (nsid == 0 || nsid > s.namespaces->highest_nsid()) {
    return status_code::invalid_namespace_or_format;
  }
  return s.namespaces->pool().allocated(nsid) ? status_code::success : status_code::invalid_field;
}
// Index, protection and place of the metadata, as Format and Create have them.
template <class State>
[[nodiscard]] bool is_valid_format(const State& s, const namespace_format& f) noexcept {
  if (!s.namespaces->format_available(f.index)) return false;
  const auto type = static_cast<std::uint8_t>(f.pi);
  return type <= 3 && (type == 0 || sizes_of_format(f.index).metadata_bytes >= 8);
}

}  // namespace detail

template <class State>
[[nodiscard]] command_result create_namespace(State& s, const submission_entry& c,
                                              std::span<std::byte, identify_bytes> page) noexcept {
  if (namespace_management_command::csi_bits.get(c.cdw11.get()) != command_set::nvm) {
    return status_code::command_set_not_supported;
  }
  data_transfer data{*s.dma, c, s.regs.page_shift()};
  if (const auto got = data.from_host(page); got != status_code::success) return got;
  const auto wanted = load_wire<identify_namespace>(page);
  using in = identify_namespace;
  const namespace_format f{
      .index = static_cast<std::uint8_t>(in::flbas_low.get(wanted.flbas) |
                                         in::flbas_high.get(wanted.flbas) << 4),
      .metadata_bytes = 0,
      .extended = in::flbas_metadata_inline.get(wanted.flbas),
      .pi = static_cast<protection_type>(in::dps_type.get(wanted.dps)),
      .pi_first = in::dps_first_bytes.get(wanted.dps)};
  if (!detail::is_valid_format(s, f)) return status_code::invalid_format;
  if (wanted.ncap != wanted.nsze) {
    return wanted.ncap.get() > wanted.nsze.get() ? status_code::invalid_field
                                                 : status_code::thin_provisioning_not_supported;
  }
  if ((wanted.nmic & ~1U) != 0 || wanted.nvmsetid != 0 || wanted.endgid != 0) {
    return status_code::invalid_field;
  }
  if (!maintenance_worker{s}.make_way(self_test_result::aborted)) {
    return status_code::command_interrupted;
  }
  const auto made = s.namespaces->pool().create(wanted.nsze, f, (wanted.nmic & 1U) != 0);
  if (made.status != status_code::success) return made.status;
  // Erase the previous contents of its blocks before the namespace becomes visible.
  detail::defer(s, c,
                {.what = maintenance_job::kind::create, .nsid = made.nsid, .last = made.nsid});
  return detail::waits();
}

template <class State>
[[nodiscard]] command_result delete_namespace(State& s, const submission_entry& c) noexcept {
  auto& pool = s.namespaces->pool();
  const std::uint32_t highest = s.namespaces->highest_nsid();
  const bool all = c.nsid == all_namespaces;
  if (!all) {
    if (const auto bad = detail::check_allocated(s, c.nsid); bad != status_code::success) {
      return bad;
    }
  }
  const std::uint32_t first = all ? 1 : c.nsid.get();
  const std::uint32_t last = all ? highest : c.nsid.get();
  for (std::uint32_t nsid = first; nsid <= last; ++nsid) {
    if (pool.allocated(nsid) && pool.busy(nsid)) return status_code::format_in_progress;
  }
  if (s.job.what == maintenance_job::kind::self_test) {
    maintenance_worker{s}.end_self_test(self_test_result::aborted_by_removal);
  }
  for (std::uint32_t nsid = first; nsid <= last; ++nsid) {
    if (!pool.allocated(nsid)) continue;
    if constexpr (State::zoned) s.namespaces->detach_zones(nsid);
    pool.remove(nsid);
  }
  return status_code::success;
}

template <class State>
[[nodiscard]] command_result manage_namespace(State& s, const submission_entry& c,
                                              std::span<std::byte, identify_bytes> page) noexcept {
  switch (namespace_management_command::sel.get(c.cdw10.get())) {
    case 0:
      return create_namespace(s, c, page);
    case 1:
      return delete_namespace(s, c);
    default:
      return status_code::invalid_field;
  }
}

// The list is checked before the first controller is changed.
template <class State>
[[nodiscard]] command_result attach_namespace(State& s, const submission_entry& c,
                                              std::span<std::byte, identify_bytes> page) noexcept {
  const auto sel = namespace_attachment_command::sel.get(c.cdw10.get());
  if (sel > 1) return status_code::invalid_field;
  const std::uint32_t nsid = c.nsid;
  if (const auto bad = detail::check_allocated(s, nsid); bad != status_code::success) return bad;
  data_transfer data{*s.dma, c, s.regs.page_shift()};
  if (const auto got = data.from_host(page); got != status_code::success) return got;
  auto& pool = s.namespaces->pool();
  const auto count = load_wire<le<std::uint16_t>>(page).get();
  if (count == 0 || count > 2047) return status_code::controller_list_invalid;
  const auto id = [&](std::size_t i) noexcept {
    return load_wire<le<std::uint16_t>>(page.subspan(2 + i * 2)).get();
  };
  if (pool.busy(nsid)) return status_code::format_in_progress;
  const pooled_namespace& n = pool.at(nsid);
  for (std::size_t i = 0; i != count; ++i) {
    if (i != 0 && id(i) <= id(i - 1)) return status_code::controller_list_invalid;
    if (id(i) >= pool.max_controllers || (pool.controllers() >> id(i) & 1U) == 0) {
      return status_code::controller_list_invalid;
    }
    const bool there = (n.attached >> id(i) & 1U) != 0;
    if (sel == 0 && there) return status_code::namespace_already_attached;
    if (sel == 0 && !n.shared && (n.attached != 0 || count != 1)) {
      return status_code::namespace_is_private;
    }
    if (sel == 1 && !there) return status_code::namespace_not_attached;
  }
  for (std::size_t i = 0; i != count; ++i) {
    static_cast<void>(sel == 0 ? pool.attach(nsid, id(i)) : pool.detach(nsid, id(i)));
  }
  return status_code::success;
}

template <class State>
[[nodiscard]] command_result format_nvm(State& s, const submission_entry& c) noexcept {
  using f = format_command;
  const std::uint32_t dw10 = c.cdw10;
  auto& set = *s.namespaces;
  const std::uint32_t nsid = c.nsid;
  const bool all = nsid == all_namespaces;
  if (!all) {
    if (const auto bad = detail::check_allocated(s, nsid); bad != status_code::success) return bad;
  }
  const namespace_format wanted{
      .index = static_cast<std::uint8_t>(f::lbafl.get(dw10) | f::lbafu.get(dw10) << 4),
      .metadata_bytes = 0,
      .extended = f::mset.get(dw10),
      .pi = f::pi_bits.get(dw10),
      .pi_first = f::pil.get(dw10)};
  if (!detail::is_valid_format(s, wanted)) return status_code::invalid_format;
  // Everything is erased; the key of an encryption is not there to be thrown away.
  if (static_cast<std::uint8_t>(f::ses.get(dw10)) > 1) return status_code::invalid_field;
  if (!maintenance_worker{s}.make_way(self_test_result::aborted_by_format)) {
    return status_code::format_in_progress;
  }
  const std::uint32_t first = all ? 1 : nsid;
  const std::uint32_t last = all ? set.highest_nsid() : nsid;
  for (std::uint32_t n = first; n <= last; ++n) {
    if (!set.pool().allocated(n)) continue;
    if (set.busy(n)) return status_code::format_in_progress;
    if (set.allocated_media(n)->read_only()) return status_code::namespace_write_protected;
    if constexpr (State::zoned) {
      if (set.zones(n) != nullptr && wanted.index != set.pool().at(n).format.index) {
        return status_code::invalid_format;
      }
    }
  }
  for (std::uint32_t n = first; n <= last; ++n) {
    if (set.pool().allocated(n)) set.pool().begin_format(n);
  }
  detail::defer(
      s, c, {.what = maintenance_job::kind::format, .format = wanted, .nsid = first, .last = last});
  return detail::waits();
}

template <class State>
[[nodiscard]] command_result sanitize(State& s, const submission_entry& c) noexcept {
  using f = sanitize_command;
  switch (f::action_bits.get(c.cdw10.get())) {
    case sanitize_action::exit_failure:
      return s.maintenance.exit_failure();
    case sanitize_action::block_erase:
      break;
    default:
      return status_code::invalid_field;
  }
  // A failure without unrestricted exit is left by a Sanitize of the same kind alone.
  if (!maintenance_worker{s}.make_way(self_test_result::aborted_by_sanitize)) {
    return status_code::command_interrupted;
  }
  std::uint32_t last = s.namespaces->highest_nsid();
  if constexpr (State::managed) {
    last = 1;
    auto& pool = s.namespaces->pool();
    for (std::uint32_t nsid = 1; nsid <= s.namespaces->highest_nsid(); ++nsid) {
      if (pool.allocated(nsid)) pool.begin_format(nsid);
    }
  }
  s.maintenance.begin_sanitize(c);
  maintenance_worker{s}.start({.what = maintenance_job::kind::sanitize, .nsid = 1, .last = last});
  return status_code::success;
}

template <class State>
[[nodiscard]] command_result self_test(State& s, const submission_entry& c) noexcept {
  const auto what = static_cast<nvme::self_test>(c.cdw10.get() & 0xfU);
  const bool running = s.job.what == maintenance_job::kind::self_test;
  if (what == nvme::self_test::abort) {
    if (running) maintenance_worker{s}.end_self_test(self_test_result::aborted_by_command);
    return status_code::success;
  }
  if (what != nvme::self_test::brief && what != nvme::self_test::extended) {
    return status_code::invalid_field;
  }
  if (running) return status_code::self_test_in_progress;
  if (s.job.what != maintenance_job::kind::none) return status_code::command_interrupted;
  const std::uint32_t nsid = c.nsid;
  const std::uint32_t highest = s.namespaces->highest_nsid();
  if (nsid != all_namespaces && nsid > highest) return status_code::invalid_namespace_or_format;
  if (nsid != 0 && nsid != all_namespaces && s.namespaces->find(nsid) == nullptr) {
    return status_code::invalid_field;
  }
  maintenance_worker{s}.start({.what = maintenance_job::kind::self_test,
                               .self_test = static_cast<std::uint8_t>(what),
                               .nsid = nsid == all_namespaces || nsid == 0 ? 1 : nsid,
                               .last = nsid == all_namespaces ? highest : nsid});
  return status_code::success;
}

}  // namespace phasebit::nvme::device
