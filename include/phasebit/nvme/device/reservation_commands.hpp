// SPDX-License-Identifier: BSL-1.0
// Reservation Register, Acquire, Release and Report, as commands of a controller: NVMe Base 2.0,
// sections 7.2 to 7.5. They change memory of the controller alone, and are done at once.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>
#include <phasebit/nvme/device/namespace_pool.hpp>
#include <phasebit/nvme/device/reservations.hpp>
#include <phasebit/nvme/spec/reservations.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

namespace detail {

// The answer to Report: a header, then the controllers of registered hosts. `out` collects as much as
// the host has requested.
template <class Namespaces, class Out>
void write_reservation_report(Namespaces& set, std::uint32_t nsid, bool extended,
                              Out&& out) noexcept {
  auto& pool = set.pool();
  auto& all = pool.reservations();
  auto& r = all.at(nsid);
  const std::uint32_t there = pool.controllers();
  reservation_status header{};
  header.generation = r.generation();
  header.type = r.type();
  header.persists = r.persists() ? 1 : 0;
  unsigned count = 0;
  for (std::uint16_t c = 0; c != 32; ++c) {
    count += (there >> c & 1U) != 0 && r.find(all.host(c)) != nullptr ? 1U : 0U;
  }
  header.controllers[0] = static_cast<std::uint8_t>(count);
  out(wire_bytes(header));
  if (extended) {
    const std::array<std::byte, 40> padding{};
    out(std::span{padding});
  }
  for (std::uint16_t c = 0; c != 32; ++c) {
    const auto host = all.host(c);
    const auto* const found = r.find(host);
    if ((there >> c & 1U) == 0 || found == nullptr) continue;
    const std::uint8_t holds = r.holds(host) ? 1 : 0;
    const host_identifier& id = all.stored_host(c);
    if (extended) {
      registered_controller_extended e{};
      e.cntlid = c;
      e.status = holds;
      e.key = found->key;
      for (std::size_t i = 0; i != id.size(); ++i) e.host_id[i] = id[i];
      out(wire_bytes(e));
    } else {
      registered_controller e{};
      e.cntlid = c;
      e.status = holds;
      e.key = found->key;
      std::uint64_t number = 0;
      for (unsigned i = 0; i != 8; ++i) number |= std::uint64_t{id[i]} << (8 * i);
      e.host_id = number;
      out(wire_bytes(e));
    }
  }
}

}  // namespace detail

[[nodiscard]] constexpr bool is_reservation_command(nvm_opcode opcode) noexcept {
  return opcode == nvm_opcode::reservation_register || opcode == nvm_opcode::reservation_acquire ||
         opcode == nvm_opcode::reservation_release || opcode == nvm_opcode::reservation_report;
}

// On an active namespace.
template <class State, ReservableNamespaces Namespaces>
[[nodiscard]] status_code execute_reservation(State& s, Namespaces& set,
                                              const submission_entry& c) noexcept {
  const auto opcode = static_cast<nvm_opcode>(c.opcode());
  const std::uint32_t nsid = c.nsid;
  const std::uint16_t id = set.controller_id();
  auto& all = set.pool().reservations();
  auto& r = all.at(nsid);
  data_transfer data{*s.dma, c, s.regs.page_shift()};
  if (opcode == nvm_opcode::reservation_report) {
    const bool extended = reservation_command::extended_bit.get(c.cdw11.get());
    // A 64-bit report has no place for an identifier of 128 bits.
    if (extended != all.extended(id)) return status_code::host_identifier_inconsistent;
    const std::uint64_t asked = (std::uint64_t{c.cdw10.get()} + 1) * 4;
    if (s.config.mdts != 0 && asked > std::uint64_t{4096} << s.config.mdts) {
      return status_code::invalid_field;
    }
    std::array<std::byte, 64 + 32 * sizeof(registered_controller_extended)> page{};
    std::size_t size = 0;
    detail::write_reservation_report(
        set, nsid, extended, [&](std::span<const std::byte> bytes) noexcept {
          __builtin_memcpy(page.data() + size, bytes.data(), bytes.size());
          size += bytes.size();
        });
    return data.to_host(std::span{page}.first(asked < size ? int_cast<std::size_t>(asked) : size));
  }
  reservation_keys keys{};
  const auto bytes = writable_wire_bytes(keys);
  const auto got = opcode == nvm_opcode::reservation_release
                       ? data.from_host(std::span<std::byte>{bytes}.first(8))
                       : data.from_host(std::span<std::byte>{bytes});
  if (got != status_code::success) return got;
  const auto host = all.host(id);
  const auto notify = all.notifier(nsid);
  switch (opcode) {
    case nvm_opcode::reservation_register:
      return r.change_registration(host, c.cdw10, keys, notify);
    case nvm_opcode::reservation_acquire: {
      const bool aborts =
          static_cast<acquire_action>(reservation_command::action_bits.get(c.cdw10.get())) ==
          acquire_action::preempt_and_abort;
      std::uint32_t preempted = 0;
      const auto done = r.acquire(
          host, c.cdw10, keys, [&](const host_identifier& whom, reservation_notice what) noexcept {
            for (std::uint16_t k = 0; k != 32; ++k) {
              if (all.host(k) == whom) preempted |= std::uint32_t{1} << k;
            }
            notify(whom, what);
          });
      if (done == status_code::success && aborts) set.pool().abort_commands(nsid, preempted);
      return done;
    }
    default:
      return r.release(host, c.cdw10, keys.current, notify);
  }
}

}  // namespace phasebit::nvme::device
