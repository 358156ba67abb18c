// SPDX-License-Identifier: BSL-1.0
// The driver's side of a DSA work queue, as an accel engine. Tested against the simulated device of
// dsa/device.hpp alone: no hardware was seen.
#pragma once

#include <phasebit/accel/dsa/descriptor.hpp>
#include <phasebit/accel/engine.hpp>
#include <phasebit/accel/plan.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel::dsa {

// A work queue's portal: hands over 64 bytes at once (MOVDIR64B or ENQCMD), after all stores before.
// False: the queue is full (ENQCMD retry).
template <class T>
concept Portal = requires(T& portal, const descriptor& d) {
  { portal.submit(d) } noexcept -> std::same_as<bool>;
};

// The descriptor of a step. Errors, by name: not_supported (an operation DSA has not, several segments,
// a guard other than 16 bits, a block size other than 512, 520, 4096 or 4104, a type 2 or 3 check, checks
// that are off), out_of_range (4 GiB and more).
[[nodiscard]] constexpr result<descriptor> describe(
    const step& s, const parameters& with, std::span<const domain_segment> source,
    std::span<const domain_segment> destination) noexcept {
  const auto refuse = [&s](const char* why) noexcept {
    return failure(errc::not_supported, why).of(name(s.op)).at(s.id);
  };
  const std::size_t sources = s.op == operation::compare ? 2 : s.op == operation::fill ? 0 : 1;
  if (source.size() != sources || destination.size() > 1) {
    return refuse("DSA takes one segment per stream");
  }
  const std::uint64_t bytes = s.op == operation::fill ? s.destination.bytes : source[0].bytes;
  if (bytes >> 32 != 0)
    return failure(errc::out_of_range, "4 GiB or more in one step", bytes).at(s.id);
  if (s.op == operation::compare && source[1].bytes != bytes) {
    return refuse("DSA takes one segment per stream");
  }

  descriptor d{};
  opcode code = opcode::no_operation;
  d.transfer_size = static_cast<std::uint32_t>(bytes);
  if (!source.empty()) d.source = source[0].address;
  if (!destination.empty()) d.destination = destination[0].address;
  const protection p = to_protection(with);
  const protection renewed = to_new_protection(with);
  const auto dif = [&]() noexcept -> const char* {
    if (p.guard != guard_format::bits16) return "DSA has 16-bit guards only";
    if (block_code(p.block_bytes) < 0) return "DSA has blocks of 512, 520, 4096 and 4104 bytes";
    if (p.type != 1 || p.checks != 7) return "DSA checks are planned for type 1 with all checks on";
    return nullptr;
  };
  switch (s.op) {
    case operation::copy:
      code = opcode::memory_move;
      if (s.then == operation::crc32c) {
        code = opcode::copy_with_crc;
        put(d, crc_seed_offset, static_cast<std::uint32_t>(s.then_with.value));
      } else if (s.then != operation::none) {
        return refuse("DSA does not fuse this operation with a copy");
      }
      break;
    case operation::fill:
      code = opcode::fill;
      d.source = with.value;
      break;
    case operation::compare:
      code = opcode::compare;
      d.destination = source[1].address;
      break;
    case operation::crc32c:
      code = opcode::crc_generation;
      put(d, crc_seed_offset, static_cast<std::uint32_t>(with.value));
      break;
    case operation::dif_insert:
    case operation::dif_verify:
    case operation::dif_strip:
    case operation::dif_update: {
      if (const char* why = dif(); why != nullptr) return refuse(why);
      put(d, dif_flags_offset, static_cast<std::uint8_t>(block_code(p.block_bytes)));
      const bool insert = s.op == operation::dif_insert;
      const bool update = s.op == operation::dif_update;
      code = insert                          ? opcode::dif_insert
             : s.op == operation::dif_verify ? opcode::dif_check
             : update                        ? opcode::dif_update
                                             : opcode::dif_strip;
      if (!insert) {
        put(d, dif_check_reference_offset, static_cast<std::uint32_t>(p.reference_tag));
        put(d, dif_check_mask_offset, static_cast<std::uint16_t>(~p.application_mask));
        put(d, dif_check_tag_offset, p.application_tag);
      }
      if (insert || update) {
        const protection& out = insert ? p : renewed;
        put(d, dif_insert_reference_offset, static_cast<std::uint32_t>(out.reference_tag));
        put(d, dif_insert_mask_offset, std::uint16_t{0});
        put(d, dif_insert_tag_offset, out.application_tag);
      }
      break;
    }
    default:
      return refuse("DSA does not have this operation");
  }
  if (s.then != operation::none && code != opcode::copy_with_crc) {
    return refuse("DSA does not fuse these operations");
  }
  d.flags_and_opcode =
      descriptor::flags.of<std::uint32_t>(flag_completion_address_valid | flag_request_completion) |
      descriptor::code.of<std::uint32_t>(static_cast<std::uint8_t>(code));
  return d;
}

// Decodes a completion record into the result of a step. Errors: a page fault (value = the
// address), a refused descriptor (value = the status).
[[nodiscard]] constexpr result<work_result> interpret(const step& s,
                                                      const completion_record& r) noexcept {
  work_result out;
  const auto status = static_cast<completion_status>(r.status & 0x7fU);
  switch (status) {
    case completion_status::success:
      if (s.op == operation::crc32c) out.first.value = static_cast<std::uint32_t>(r.crc.get());
      if (s.then == operation::crc32c) out.second.value = static_cast<std::uint32_t>(r.crc.get());
      if (s.op == operation::compare && r.result != 0) {
        out.first = {r.bytes_completed.get(), step_status::mismatch};
      }
      return out;
    case completion_status::dif_error: {
      // Bits of the result: 0 guard, 1 application tag, 2 reference tag; in the order of checks.
      const step_status kind = (r.result & 1U) != 0   ? step_status::guard_error
                               : (r.result & 2U) != 0 ? step_status::application_tag_error
                                                      : step_status::reference_tag_error;
      std::uint64_t block = 0;
      const std::uint32_t size = to_protection(s.with).protected_bytes();
      for (std::uint64_t at = size; at <= r.bytes_completed.get(); at += size) ++block;
      out.first = {block, kind};
      return out;
    }
    case completion_status::page_fault:
      return failure(errc::not_mapped, "DSA met a page fault", r.fault_address.get());
    default:
      return failure(errc::protocol, "DSA refused the descriptor",
                     static_cast<std::uint64_t>(status));
  }
}

inline constexpr std::array dsa_fusions{fusion{operation::copy, operation::crc32c}};

// An accel engine over one work queue: at most `records.size()` steps in flight. `records` is
// memory that the device writes at `records_address`, aligned to 32 bytes; it and the portal
// outlive the engine. One thread. After the device vanished, its memory may be reused only once the
// operations that were in flight are certain to have ended.
template <Portal P, std::size_t Depth = 32>
class work_queue_engine {
 public:
  work_queue_engine(P& portal, std::span<completion_record, Depth> records,
                    std::uint64_t records_address) noexcept
      : portal_(&portal), records_(records.data()), address_(records_address) {
    PHASEBIT_EXPECTS(records_address % sizeof(completion_record) == 0,
                     "completion records are aligned to 32 bytes");
  }

  [[nodiscard]] engine_capabilities capabilities() const noexcept {
    return {
        .operations = operation_set{operation::copy, operation::fill, operation::compare,
                                    operation::crc32c, operation::dif_insert, operation::dif_verify,
                                    operation::dif_strip, operation::dif_update},
        .fusions = dsa_fusions,
        .max_bytes = 0xffff'ffff,
        .max_segments = 2};
  }

  result<engine_progress> submit(const work& w, std::uint64_t tag, work_result&) noexcept {
    auto made = describe(*w.what, w.with, w.source, w.destination);
    if (!made) return made.error();
    std::size_t slot = 0;
    while (slot != Depth && slots_[slot].what != nullptr) ++slot;
    if (slot == Depth) return failure(errc::busy, "all completion records are in use", Depth);
    made->completion_address = address_ + slot * sizeof(completion_record);
    overwrite(records_[slot], completion_record{});
    slots_[slot] = {w.what, tag};
    if (!portal_->submit(*made)) {
      slots_[slot].what = nullptr;
      return failure(errc::busy, "the work queue is full");
    }
    return engine_progress::pending;
  }

  std::size_t poll(engine_sink sink) noexcept {
    std::size_t ended = 0;
    for (std::size_t k = 0; k != Depth; ++k) {
      if (slots_[k].what == nullptr) continue;
      if ((device_order::load(records_[k].status) & 0x7fU) == 0) continue;
      device_order::after_load();
      const completion_record r = snapshot(records_[k]);
      const auto s = slots_[k];
      slots_[k].what = nullptr;
      ++ended;
      const auto what = interpret(*s.what, r);
      if (what) {
        sink.complete(sink.context, s.tag, *what, nullptr);
      } else {
        sink.complete(sink.context, s.tag, {}, &what.error());
      }
    }
    return ended;
  }

 private:
  struct slot_state {
    const step* what = nullptr;
    std::uint64_t tag = 0;
  };
  P* portal_;
  completion_record* records_;
  std::uint64_t address_;
  std::array<slot_state, Depth> slots_{};
};

// A planned sequence as the list of one batch: descriptors in order, each that depends on an earlier one
// fenced, completion records from `records_address` on. Returns how many were written. Errors: those of
// describe(), exhausted (`list` is too short), invalid_argument (a batch has at least two descriptors).
template <class Sequence>
[[nodiscard]] constexpr result<std::size_t> make_batch(Sequence& s, const target& where,
                                                       std::span<descriptor> list,
                                                       std::uint64_t records_address) noexcept {
  if (s.size() < 2) return failure(errc::invalid_argument, "a batch has at least two descriptors");
  if (s.size() > list.size()) return failure(errc::exhausted, "the list is too short", s.size());
  for (std::size_t i = 0; i != s.size(); ++i) {
    auto d = describe(s[i], s[i].with, s.sources(s[i]), s.destinations(s[i]));
    if (!d) return d.error();
    d->completion_address = records_address + i * sizeof(completion_record);
    if (dependencies(s, where, i) != 0)
      d->flags_and_opcode = d->flags_and_opcode.get() | flag_fence;
    list[i] = *d;
  }
  return s.size();
}

}  // namespace phasebit::accel::dsa
