// SPDX-License-Identifier: BSL-1.0
// Creating and deleting I/O queues: NVMe Base 2.0, sections 5.4 to 5.7. Every refusal has the status
// that those sections name, and changes nothing.
#pragma once

#include <phasebit/nvme/device/state.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>

#include <cstdint>

namespace phasebit::nvme::device {

namespace detail {

// The checks common to both kinds of queue, in the order of their fields.
template <class State>
[[nodiscard]] status_code check_ring(const State& s, const submission_entry& c) noexcept {
  using f = create_queue_command;
  const std::uint32_t entries = std::uint32_t{f::qsize_bits.get(c.cdw10.get())} + 1;
  if (entries < 2 || entries > s.regs.capabilities().max_queue_entries()) {
    return status_code::invalid_queue_size;
  }
  const std::uint64_t memory = c.prp1;
  if (memory & ((std::uint64_t{1} << s.regs.page_shift()) - 1)) {
    return status_code::prp_offset_invalid;
  }
  // CAP.CQR is 1: rings that are lists of pages are not offered.
  if (!f::pc_bit.get(c.cdw11.get())) return status_code::invalid_field;
  // A ring may not wrap around the address space either.
  if (!range_end(bus_addr{memory}, std::uint64_t{entries} * sizeof(submission_entry))) {
    return status_code::invalid_field;
  }
  return status_code::success;
}

}  // namespace detail

template <class State>
[[nodiscard]] command_result create_completion_queue(State& s, const submission_entry& c) noexcept {
  using f = create_queue_command;
  const std::uint16_t qid = f::qid_bits.get(c.cdw10.get());
  if (qid == 0 || qid > s.queues.granted_cq || s.queues.cq[qid].exists()) {
    return status_code::invalid_queue_id;
  }
  if (const auto bad = detail::check_ring(s, c); bad != status_code::success) return bad;
  const bool interrupts = f::ien_bit.get(c.cdw11.get());
  const std::uint16_t vector = f::iv_bits.get(c.cdw11.get());
  if (interrupts && vector >= s.config.interrupt_vectors) {
    return status_code::invalid_interrupt_vector;
  }
  if (s.regs.configuration()[cc::iocqes] != 4) return status_code::invalid_queue_size;

  auto& q = s.queues.cq[qid];
  q = completion_queue{};
  q.base = bus_addr{c.prp1.get()};
  q.entries = std::uint32_t{f::qsize_bits.get(c.cdw10.get())} + 1;
  q.interrupts = interrupts;
  q.vector = vector;
  s.queues.idle[qid] = {};
  if (qid > s.queues.highest) s.queues.highest = qid;
  s.doorbells.store(qid, ring_side::completion, 0);
  if (s.shadow.enabled() && !s.shadow.begin(qid, ring_side::completion, 0)) s.regs.set_fatal();
  return status_code::success;
}

template <class State>
[[nodiscard]] command_result create_submission_queue(State& s, const submission_entry& c) noexcept {
  using f = create_queue_command;
  const std::uint16_t qid = f::qid_bits.get(c.cdw10.get());
  const std::uint16_t cqid = f::cqid_bits.get(c.cdw11.get());
  if (cqid == 0 || cqid > s.queues.granted_cq) return status_code::invalid_queue_id;
  if (!s.queues.cq[cqid].exists()) return status_code::completion_queue_invalid;
  if (qid == 0 || qid > s.queues.granted_sq || s.queues.sq[qid].exists()) {
    return status_code::invalid_queue_id;
  }
  if (const auto bad = detail::check_ring(s, c); bad != status_code::success) return bad;
  if (s.regs.configuration()[cc::iosqes] != 6) return status_code::invalid_queue_size;

  auto& q = s.queues.sq[qid];
  q = submission_queue{};
  q.base = bus_addr{c.prp1.get()};
  q.entries = std::uint32_t{f::qsize_bits.get(c.cdw10.get())} + 1;
  q.completion_queue = cqid;
  q.priority = static_cast<queue_priority>(f::qprio_bits.get(c.cdw11.get()));
  ++s.queues.cq[cqid].users;
  s.queues.idle[qid] = {};
  if (qid > s.queues.highest) s.queues.highest = qid;
  s.doorbells.store(qid, ring_side::submission, s.shadow.enabled() ? doorbell_seen : 0);
  if (s.shadow.enabled() && !s.shadow.begin(qid, ring_side::submission, 0)) s.regs.set_fatal();
  return status_code::success;
}

// The queue is gone: its commands are completed or were never fetched.
template <class State>
void remove_submission_queue(State& s, std::uint16_t qid) noexcept {
  --s.queues.cq[s.queues.sq[qid].completion_queue].users;
  s.queues.sq[qid] = submission_queue{};
  s.doorbells.store(qid, ring_side::submission, 0);
  s.queues.idle[qid] = {};
  s.queues.find_highest();
}

// Stops fetching: commands that the host submitted and the controller did not fetch end without a
// completion (3.3.1.3). The queue is removed when none of its commands is in flight; `later`: some
// still are.
template <class State>
[[nodiscard]] command_result delete_submission_queue(State& s, const submission_entry& c) noexcept {
  const std::uint16_t qid = create_queue_command::qid_bits.get(c.cdw10.get());
  if (qid == 0 || qid > s.queues.pairs || !s.queues.sq[qid].exists() || s.queues.sq[qid].deleting) {
    return status_code::invalid_queue_id;
  }
  auto& sq = s.queues.sq[qid];
  sq.deleting = true;
  if (sq.in_flight == 0) {
    remove_submission_queue(s, qid);
    return status_code::success;
  }
  command_result drains;
  drains.later = true;
  return drains;
}

template <class State>
[[nodiscard]] command_result delete_completion_queue(State& s, const submission_entry& c) noexcept {
  const std::uint16_t qid = create_queue_command::qid_bits.get(c.cdw10.get());
  if (qid == 0 || qid > s.queues.pairs || !s.queues.cq[qid].exists()) {
    return status_code::invalid_queue_id;
  }
  if (s.queues.cq[qid].users != 0) return status_code::invalid_queue_deletion;
  s.queues.cq[qid] = completion_queue{};
  s.doorbells.store(qid, ring_side::completion, 0);
  s.queues.idle[qid] = {};
  s.queues.find_highest();
  return status_code::success;
}

}  // namespace phasebit::nvme::device
