// SPDX-License-Identifier: BSL-1.0
// Requests of any length on a queue pair of any depth: what is too long is split, what finds no free entry
// waits in software. An explicit policy on top of queue_pair, for programs that prefer it to `full`.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/driver/split.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <array>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::driver {

// A read, write, compare or verify of whatever length.
struct request {
  submission_entry command;  // opcode, namespace, flags; LBA and count are replaced
  std::uint64_t lba = 0;
  std::span<const segment<bus_space>> segments;  // the caller's until the request has ended
  dma_region metadata =
      {};  // of a namespace with separate metadata: of all blocks, one after another
};

// Up to MaxRequests requests at a time, in flight or waiting, in the order of their arrival. Each ends
// with exactly one call of its callback: the completion of its last command, with the status of the
// first that failed. A part that cannot be posted ends the request with invalid_field, after the
// parts before it have ended. When the queue ends (deleted, reset, detached, removed) all requests end, those
// that wait as well. After a change of a namespace requests are refused until the queue is bound to the new
// handle, and what is not posted of those that were taken ends with invalid_namespace_or_format. `Queue` has
// 16-bit tokens and is used by nothing else; it may be moved, and destroyed first: submit() answers `closed`
// from then on. Destroying this object ends its requests with aborted_by_host; the device may still use their
// buffers then.
//
// The command's reference tag is that of the request's first block; each part has its own (types 1 and 2). With
// PRACT or PRCHK in the command it is the caller's, and for type 1 the LBA.
template <class Queue, unsigned MaxRequests = 128, std::size_t MaxSegments = 32>
class request_queue {
  static_assert(std::is_same_v<typename Queue::token_type, std::uint16_t>,
                "make the queue pair with std::uint16_t tokens: "
                "create_queue_pair({...}, tokens<std::uint16_t>)");

 public:
  // `boundary_blocks` is the namespace's NOIOB, or 0.
  explicit request_queue(Queue& queue, std::uint64_t boundary_blocks = 0) noexcept
      : queue_(&queue),
        limits_{.max_bytes = queue.max_transfer(),
                .boundary_blocks = boundary_blocks,
                .block_bytes = queue.format().extended_bytes(),
                .page_shift = static_cast<std::uint8_t>(queue.page_shift())} {
    for (unsigned i = 0; i != MaxRequests; ++i) free_[i] = static_cast<std::uint16_t>(i);
    queue.observe(&observed, this);
  }
  request_queue(const request_queue&) = delete;
  request_queue& operator=(const request_queue&) = delete;
  ~request_queue() {
    if (queue_ == nullptr) return;
    queue_->observe(nullptr, nullptr);
    if (under_way() != 0) fail_all();
  }

  // Takes a request: posted where the ring has a free entry, else queued; the doorbell is rung by ring() or
  // poll(). Refused, with nothing left behind, where it is empty, longer than the block addresses
  // reach, no whole number of blocks, or has a segment that is empty or wraps; full where MaxRequests
  // are under way.
  submitted submit(const request& wanted, completion_callback done) noexcept {
    if (queue_ == nullptr) return submitted::as_closed(text(queue_end::deleted));
    if (queue_->closed()) return submitted::as_closed(text(queue_->end_reason()));
    if (!done) {
      return submitted::as_refused(errc::invalid_argument, "a request needs a callback");
    }
    if (free_count_ == 0) return submitted::as_full();
    if (!queue_->is_current(queue_->format())) {
      return submitted::as_refused(errc::not_ready,
                                   "a namespace was changed or formatted: bind() the queue to its "
                                   "new handle (identify_namespace)");
    }
    limits_.block_bytes = queue_->format().extended_bytes();
    if (const submitted checked = check(wanted); !checked) return checked;
    const std::uint16_t index = free_[--free_count_];
    state& s = states_[index];
    split_limits limits = limits_;
    if (const auto& ns = queue_->format(); strips(wanted.command))
      limits.block_bytes = ns.block_bytes;
    s = {.done = done,
         .command = wanted.command,
         .first_lba = wanted.lba,
         .metadata = wanted.metadata,
         .parts = {wanted.lba, wanted.segments, limits},
         .outcome = {},
         .in_flight = 0,
         .generation = queue_->format().generation,
         .ended = false};
    waiting_[(first_ + waiting_count_++) % MaxRequests] = index;
    advance();
    return s.ended || waiting_count_ == 0 ? submitted::as_posted(index)
                                          : submitted{.status = submit_status::queued};
  }

  void ring() noexcept {
    if (queue_ != nullptr) queue_->ring();
  }

  // Takes completions, posts what has been waiting, rings; returns how many requests have ended.
  unsigned poll() noexcept {
    if (queue_ == nullptr) return 0;
    unsigned ended = 0;
    (void)queue_->poll(
        [&](std::uint16_t& index, completion c) noexcept { ended += finish(index, c); });
    if (queue_->closed()) return ended + end_waiting(status_of_end());
    ended += advance();
    queue_->ring();
    return ended;
  }

  // Ends everything, posted or waiting, with `how`; for a device that is gone or was reset.
  void fail_all(nvme::status how = status_code::aborted_by_host) noexcept {
    if (queue_ == nullptr) return;
    stop_waiting();
    (void)queue_->fail_all(
        how, [&](std::uint16_t& index, completion c) noexcept { (void)finish(index, c); });
    (void)end_waiting(how);
  }

  [[nodiscard]] unsigned under_way() const noexcept { return MaxRequests - free_count_; }
  [[nodiscard]] unsigned waiting() const noexcept { return waiting_count_; }

 private:
  struct state {
    completion_callback done{};
    submission_entry command{};
    std::uint64_t first_lba = 0;
    dma_region metadata{};
    splitter<MaxSegments> parts{};
    completion outcome{};
    std::uint32_t in_flight = 0;   // its commands in the rings
    std::uint32_t generation = 0;  // of the format that it was split for
    bool ended = false;            // no more parts will be posted
  };

  // Called by the queue when it ends or moves by itself.
  static void observed(void* context, queue_event what, Queue& queue, std::uint16_t* token,
                       completion answer) noexcept {
    auto& self = *static_cast<request_queue*>(context);
    switch (what) {
      case queue_event::completed:
        (void)self.finish(*token, answer);
        break;
      case queue_event::ended:
        (void)self.end_waiting(answer.status());
        break;
      case queue_event::moved:
        self.queue_ = &queue;
        break;
      case queue_event::gone:
        self.queue_ = nullptr;
        break;
    }
  }
  [[nodiscard]] nvme::status status_of_end() const noexcept {
    return queue_->end_reason() == queue_end::deleted ? status_code::aborted_queue_deletion
                                                      : status_code::aborted_by_host;
  }
  // Whether the namespace's whole metadata is inserted and stripped by the controller.
  [[nodiscard]] bool strips(const submission_entry& e) const noexcept {
    return queue_->format().strips() &&
           prinfo::of(block_command::prinfo_bits.get(e.cdw12.get())).action;
  }

  [[nodiscard]] submitted check(const request& wanted) const noexcept {
    const namespace_info& ns = queue_->format();
    if (ns.nsid != 0 && wanted.command.nsid != ns.nsid) {
      return submitted::as_refused(errc::invalid_argument,
                                   "the request is for another namespace than the queue's");
    }
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i != wanted.segments.size(); ++i) {
      const segment<bus_space>& s = wanted.segments[i];
      if (s.bytes == 0) {
        return submitted::as_refused(errc::invalid_argument, "a segment of no bytes", i);
      }
      if (!range_end(s.begin, s.bytes) || bytes + s.bytes < bytes) {
        return submitted::as_refused(errc::overflow, "the segment wraps around the address space",
                                     i);
      }
      bytes += s.bytes;
    }
    const bool stripped = strips(wanted.command);
    const std::uint32_t block = stripped ? ns.block_bytes : limits_.block_bytes;
    if (bytes == 0 || remainder(bytes, block) != 0) {
      return submitted::as_refused(errc::invalid_argument,
                                   "a request is a whole number of blocks, and at least one");
    }
    // A block has 512 bytes at least.
    if (wanted.lba + (bytes >> 9) < wanted.lba) {
      return submitted::as_refused(errc::overflow, "the block addresses wrap");
    }
    if (!ns.metadata_inline && ns.metadata_bytes != 0 && !stripped) {
      if (wanted.metadata.size() != (bytes >> ns.block_shift) * ns.metadata_bytes ||
          (wanted.metadata.bus.value() & 3U) != 0) {
        return submitted::as_refused(errc::invalid_argument,
                                     "the namespace has separate metadata: the request needs a "
                                     "metadata buffer of the blocks' length, on a dword");
      }
    } else if (wanted.metadata.size() != 0) {
      return submitted::as_refused(errc::invalid_argument,
                                   "the command transfers no separate metadata");
    }
    return submitted::as_posted(0);
  }

  // Posts parts of waiting requests, first come first served, until the ring is full.
  unsigned advance() noexcept {
    unsigned ended = 0;
    while (waiting_count_ != 0) {
      const std::uint16_t index = waiting_[first_];
      state& s = states_[index];
      while (!s.ended && queue_->available() != 0) {
        post_part(s, index);
        s.ended = s.ended || s.parts.done();
      }
      if (!s.ended) break;
      pop_waiting();
      if (s.in_flight == 0) ended += release(index);
    }
    return ended;
  }
  void post_part(state& s, std::uint16_t index) noexcept {
    split_part<MaxSegments> part;
    if (!queue_->is_current(queue_->format()) || s.generation != queue_->format().generation) {
      note(s, completion{0, status_code::invalid_namespace_or_format});
      s.ended = true;
      return;
    }
    if (!s.parts.next(part)) {
      note(s, completion{0, status_code::invalid_field});
      s.ended = true;
      return;
    }
    const namespace_info& ns = queue_->format();
    const std::uint64_t before = part.lba - s.first_lba;
    submission_entry command = s.command;
    command.cdw10 = static_cast<std::uint32_t>(part.lba);
    command.cdw11 = static_cast<std::uint32_t>(part.lba >> 32);
    command.cdw12 =
        block_command::nlb.set(command.cdw12.get(), static_cast<std::uint16_t>(part.blocks - 1));
    const prinfo pi = prinfo::of(block_command::prinfo_bits.get(command.cdw12.get()));
    if (ns.protection == protection_type::type1 && (pi.action || pi.check_reference)) {
      set_reference_tag(command, part.lba, ns.reference_tag_bits);
    } else if (ns.protection == protection_type::type2) {
      set_reference_tag(command, reference_tag_of(command) + before, ns.reference_tag_bits);
    }
    if (s.metadata.size() != 0) {
      command.mptr = s.metadata.bus.value() + before * ns.metadata_bytes;
    }
    if (queue_->submit_unchecked(command, part.used(), index)) {
      ++s.in_flight;
    } else {
      note(s, completion{0, status_code::invalid_field});
      s.ended = true;
    }
  }
  // The first failure is the request's outcome.
  static void note(state& s, completion c) noexcept {
    if (s.outcome.ok()) s.outcome = c;
  }
  unsigned finish(std::uint16_t index, completion c) noexcept {
    state& s = states_[index];
    note(s, c);
    return --s.in_flight == 0 && s.ended ? release(index) : 0;
  }
  unsigned release(std::uint16_t index) noexcept {
    state& s = states_[index];
    completion_callback done = s.done;
    const completion outcome = s.outcome;
    s = {};
    free_[free_count_++] = index;
    done(outcome);
    return 1;
  }
  // No request posts another part.
  void stop_waiting() noexcept {
    for (; waiting_count_ != 0; pop_waiting()) {
      state& s = states_[waiting_[first_]];
      s.ended = true;
      note(s, completion{0, status_code::aborted_by_host});
    }
  }
  // Ends the requests that have no command in flight, where no more will be posted.
  unsigned end_waiting(nvme::status how) noexcept {
    stop_waiting();
    unsigned ended = 0;
    for (unsigned i = 0; i != MaxRequests; ++i) {
      if (!states_[i].done || states_[i].in_flight != 0) continue;
      states_[i].outcome = completion{0, how};
      ended += release(static_cast<std::uint16_t>(i));
    }
    return ended;
  }
  void pop_waiting() noexcept {
    first_ = (first_ + 1) % MaxRequests;
    --waiting_count_;
  }

  Queue* queue_;
  split_limits limits_;
  unsigned free_count_ = MaxRequests;
  unsigned first_ = 0;
  unsigned waiting_count_ = 0;
  std::array<std::uint16_t, MaxRequests> free_{};
  std::array<std::uint16_t, MaxRequests> waiting_{};
  std::array<state, MaxRequests> states_{};
};

}  // namespace phasebit::nvme::driver
