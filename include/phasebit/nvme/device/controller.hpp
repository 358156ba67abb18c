// SPDX-License-Identifier: BSL-1.0
// An NVMe controller in software: the other end of every queue, for simulated devices, for virtual
// functions that a DPU shows to a guest, and for whoever tests a driver.
#pragma once

#include <phasebit/nvme/device/admin_handlers.hpp>
#include <phasebit/nvme/device/io_handlers.hpp>
#include <phasebit/nvme/device/state.hpp>

#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// Shows `Namespaces` to a host through registers, doorbells and queues in the host's memory, which
// it reaches through `Dma`. Allocates nothing; keeps references to all that it is given.
//
// All calls come from one thread at a time; whoever gives the host's register accesses another
// thread than the one that polls takes a lock around both. Doorbells are no calls: the host stores
// to the words that the constructor was given, and poll() finds them.
//
// The host is not trusted. Commands are copied once and the copy is executed; indices, identifiers
// and addresses are checked; a ring that can not be reached is CSTS.CFS, data that can not be is
// Data Transfer Error. Work per call is bounded, whatever the rings hold.
template <DmaTranslator Dma, InterruptSink Interrupts, NamespaceSet Namespaces,
          RingOrder Order = thread_order, class Policy = default_policy>
  requires CompletionFilter<typename Policy::completion_filter>
class controller {
 public:
  using filter_type = typename Policy::completion_filter;

  // `doorbells` is BAR memory from offset 1000h on: two words for each queue pair, the admin pair
  // first, each 4 << settings.doorbell_stride bytes from the next.
  controller(Dma& dma, Interrupts& interrupts, Namespaces& namespaces,
             std::span<std::uint32_t> doorbells, const settings& s = {},
             filter_type filter = {}) noexcept
      : s_(dma, interrupts, namespaces, doorbells, s, static_cast<filter_type&&>(filter)),
        presence_(s.starts_offline ? presence::never_online : presence::online) {}
  controller(const controller&) = delete;
  controller& operator=(const controller&) = delete;

  // Registers below 1000h, native values. Offsets that hold nothing read as 0 and swallow writes.
  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    switch (presence_) {
      case presence::online:
        return s_.regs.read32(offset);
      case presence::offline:
        return offset == csts::offset ? csts{}.with(csts::cfs, true).raw : s_.regs.read32(offset);
      case presence::never_online:
        break;
    }
    return 0;
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    return read32(offset) | std::uint64_t{read32(offset + 4)} << 32;
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    if (presence_ != presence::online) return;
    switch (s_.regs.write32(offset, value)) {
      case register_event::none:
        break;
      case register_event::enable:
        enable();
        break;
      case register_event::disable:
        forget();
        break;
      case register_event::shutdown:
        shut_down();
        break;
      case register_event::unmask:
        announce();
        break;
    }
  }

  // One round: looks at every doorbell, fetches at most settings.fetch_burst commands of each queue,
  // executes and completes them. Returns how many commands and events that were: 0 is idle.
  unsigned poll() noexcept {
    if (!s_.regs.running()) return 0;
    done_ = 0;
    s_.filter.poll(poster{this});
    for (std::uint16_t q = 0; q <= s_.queues.highest && s_.regs.running(); ++q) {
      // A register is looked at in each round, if only to find out about impossible values; a shadow
      // costs a DMA access, and is read when room is needed.
      if (s_.queues.cq[q].exists() && !shadowed(q)) update_head(q);
      if (s_.queues.sq[q].exists()) serve(q);
    }
    if (s_.regs.running()) report_events();
    if (done_ == 0 && s_.regs.running()) look_for_strangers();
    if (posted_) announce();
    return done_;
  }

  // Function-level reset: as after power-on. What was in flight is gone.
  void reset() noexcept {
    s_.regs.reset();
    forget();
  }

  // A secondary controller goes online and offline as its primary says: offline it forgets all,
  // has a fatal status (all zeros before it was ever online) and takes no writes (Base 2.0, 8.26.3).
  void set_online(bool online) noexcept {
    if (online == (presence_ == presence::online)) return;
    reset();
    presence_ = online ? presence::online : presence::offline;
  }
  // What it has while it is online; to be changed while it is not.
  void set_resources(std::uint16_t io_queue_pairs, std::uint16_t interrupt_vectors) noexcept {
    PHASEBIT_EXPECTS(presence_ != presence::online,
                     "resources change while a controller is offline");
    s_.offer(io_queue_pairs, interrupt_vectors);
  }
  // Of a primary controller: Policy::secondary.
  [[nodiscard]] typename Policy::secondary& secondary() noexcept { return s_.secondary; }

  // Time passes: for the timestamp and the keep-alive timer, which stand still otherwise.
  void advance(std::uint32_t milliseconds) noexcept {
    s_.clock.advance(milliseconds);
    const std::uint32_t limit = s_.features.stored(feature_id::keep_alive_timer);
    if (limit == 0 || !s_.regs.running()) return;
    const std::uint32_t silence = s_.silence_ms + milliseconds;
    s_.silence_ms = silence < milliseconds ? 0xffff'ffff : silence;
    // Base 2.0, 3.9: the controller stops and says so.
    if (s_.silence_ms > limit) s_.regs.set_fatal();
  }

  // A namespace came, went or changed its size: the host is told if it wants to be.
  void namespace_changed(std::uint32_t nsid) noexcept {
    s_.changed.add(nsid);
    const async_event_configuration wanted{
        s_.features.stored(feature_id::async_event_configuration)};
    if (wanted[async_event_configuration::namespace_attributes]) {
      s_.events.raise(async_event::of_namespace_change());
    }
  }

  [[nodiscard]] filter_type& completion_filter() noexcept { return s_.filter; }

 private:
  using state = controller_state<Dma, Interrupts, Namespaces, Order, Policy>;

  enum class presence : std::uint8_t { never_online, offline, online };

  // What a filter posts with.
  struct poster {
    controller* self;
    bool operator()(const outgoing_completion& c) const noexcept { return self->post(c); }
  };

  void enable() noexcept {
    forget();
    auto& sq = s_.queues.sq[0];
    auto& cq = s_.queues.cq[0];
    sq.base = s_.regs.admin_sq();
    sq.entries = s_.regs.admin_sq_entries();
    cq.base = s_.regs.admin_cq();
    cq.entries = s_.regs.admin_cq_entries();
    cq.users = 1;
    cq.interrupts = true;  // vector 0 (Base 2.0, 3.3.1.1)
  }

  // Controller reset: queues, requests, features and shadow doorbells are gone (3.7.2).
  void forget() noexcept {
    s_.queues.clear();
    s_.doorbells.clear_all();
    s_.shadow.disable();
    s_.events.reset();
    s_.features.reset();
    s_.filter.reset();
    if constexpr (Policy::secondary::present) s_.secondary.primary_reset();
    s_.silence_ms = 0;
  }

  void shut_down() noexcept {
    for (std::uint32_t nsid = 1; nsid <= s_.namespaces->highest_nsid(); ++nsid) {
      if (auto* media = s_.namespaces->find(nsid)) static_cast<void>(media->flush());
    }
    s_.regs.set_shutdown_complete();
  }

  void serve(std::uint16_t qid) noexcept {
    auto& sq = s_.queues.sq[qid];
    auto& cq = s_.queues.cq[sq.completion_queue];
    update_tail(qid);
    for (unsigned burst = s_.config.fetch_burst; burst != 0 && !sq.empty(); --burst) {
      if (cq.full()) {
        update_head(sq.completion_queue);
        if (!s_.regs.running() || cq.full()) return;
      }
      const auto command = fetch_command(*s_.dma, sq.next_entry());
      if (!command) {
        s_.regs.set_fatal();
        return;
      }
      sq.advance();
      ++done_;
      const command_result ended =
          qid == 0 ? admin_handlers{s_}.execute(*command) : io_handlers{s_}.execute(*command);
      if (!ended.later) complete(qid, command->command_id(), ended, &*command);
      if (!s_.regs.running()) return;
    }
    if (s_.shadow.enabled() && sq.empty()) rest(qid);
  }

  void complete(std::uint16_t qid, std::uint16_t command_id, const command_result& ended,
                const submission_entry* command) noexcept {
    const auto& sq = s_.queues.sq[qid];
    nvme::status status = ended.status;
    if (!status.ok() && command != nullptr) {
      record(qid, *command, status);
      status = status.with_more();
    }
    s_.filter.complete(
        outgoing_completion{sq.completion_queue,
                            {.dw0 = ended.dw0,
                             .dw1 = 0,
                             .sq_head = static_cast<std::uint16_t>(sq.head),
                             .sq_id = qid,
                             .dw3 = completion_dw3::of(command_id, status, false).raw}},
        poster{this});
  }

  // The entry of the error log that the More bit speaks of.
  void record(std::uint16_t qid, const submission_entry& c, nvme::status status) noexcept {
    error_information entry{};
    entry.sqid = qid;
    entry.command_id = c.command_id();
    entry.status_field = static_cast<std::uint16_t>(status.raw() << 1);
    entry.parameter_location = error_information::no_location;
    entry.nsid = c.nsid;
    if (qid != 0) entry.lba = c.cdw10_11();
    s_.errors.add(entry);
  }

  // See completion_filter.hpp for what true and false mean.
  bool post(outgoing_completion c) noexcept {
    auto& cq = s_.queues.cq[c.completion_queue];
    if (!cq.exists() || !s_.regs.running()) return true;
    if (cq.full()) {
      update_head(c.completion_queue);
      if (cq.full()) return false;
    }
    c.entry.dw3 = c.entry.dw3 ^ completion_dw3::phase_bit.of(cq.phase);
    if (!post_completion<Order>(*s_.dma, cq.next_slot(), c.entry)) {
      s_.regs.set_fatal();
      return true;
    }
    cq.advance();
    posted_ = true;
    return true;
  }

  void report_events() noexcept {
    auto& cq = s_.queues.cq[0];
    for (;;) {
      if (cq.full()) update_head(0);
      if (cq.full()) return;
      const auto due = s_.events.next();
      if (!due) return;
      ++done_;
      complete(0, due->command_id, command_result{due->status, due->dw0}, nullptr);
    }
  }

  // Interrupts for what was posted since the last ones. A masked vector waits for its unmasking.
  void announce() noexcept {
    posted_ = false;
    for (std::uint16_t q = 0; q <= s_.queues.highest; ++q) {
      auto& cq = s_.queues.cq[q];
      if (!cq.announce || (cq.interrupts && s_.regs.masked(cq.vector))) continue;
      cq.announce = false;
      if (cq.interrupts) s_.interrupts->raise(cq.vector);
    }
  }

  [[nodiscard]] bool shadowed(std::uint16_t qid) const noexcept {
    return qid != 0 && s_.shadow.enabled();
  }
  void believe(doorbell_verdict build_result) noexcept {
    if (build_result == doorbell_verdict::invalid) {
      s_.events.raise(async_event::of(error_event::invalid_doorbell_value));
    }
  }

  void update_tail(std::uint16_t qid) noexcept {
    auto& sq = s_.queues.sq[qid];
    if (!shadowed(qid)) {
      believe(sq.set_tail(s_.doorbells.load(qid, ring_side::submission)));
      return;
    }
    // A kick: taken first, then answered, so that none is lost between the two.
    if (s_.doorbells.load(qid, ring_side::submission) != doorbell_seen) {
      s_.doorbells.store(qid, ring_side::submission, doorbell_seen);
      Order::full();
      sq.kicked = true;
    }
    if (!sq.kicked) return;
    const auto tail = s_.shadow.load(qid, ring_side::submission);
    if (!tail) return s_.regs.set_fatal();
    believe(sq.set_tail(*tail));
  }

  // The queue is empty: from here on the host has to kick.
  void rest(std::uint16_t qid) noexcept {
    auto& sq = s_.queues.sq[qid];
    if (!sq.kicked) return;
    const auto tail = s_.shadow.ask(qid, ring_side::submission, sq.tail);
    if (!tail) return s_.regs.set_fatal();
    believe(sq.set_tail(*tail));
    sq.kicked = !sq.empty();
  }

  void update_head(std::uint16_t qid) noexcept {
    auto& cq = s_.queues.cq[qid];
    if (!shadowed(qid)) {
      believe(cq.set_head(s_.doorbells.load(qid, ring_side::completion)));
      return;
    }
    auto head = s_.shadow.load(qid, ring_side::completion);
    if (head && *head == cq.head) head = s_.shadow.ask(qid, ring_side::completion, cq.head);
    if (!head) return s_.regs.set_fatal();
    believe(cq.set_head(*head));
  }

  // Doorbells of queues that do not exist, a few in each idle round.
  void look_for_strangers() noexcept {
    const std::size_t pairs = s_.doorbells.pairs();
    for (std::size_t i = 0; i != pairs && i != strangers_per_round; ++i) {
      next_stranger_ = next_stranger_ + 1 < pairs ? next_stranger_ + 1 : 0;
      check_stranger(next_stranger_, ring_side::submission, has_submission_queue(next_stranger_));
      check_stranger(next_stranger_, ring_side::completion, has_completion_queue(next_stranger_));
    }
  }
  void check_stranger(std::size_t qid, ring_side side, bool exists) noexcept {
    if (exists) return;
    const std::uint32_t value = s_.doorbells.load(qid, side);
    if (value == 0) return;
    s_.doorbells.store(qid, side, 0);
    s_.events.raise(async_event::of(error_event::invalid_doorbell));
    ++done_;
  }
  [[nodiscard]] bool has_submission_queue(std::size_t qid) const noexcept {
    return qid < s_.queues.sq.size() && s_.queues.sq[qid].exists();
  }
  [[nodiscard]] bool has_completion_queue(std::size_t qid) const noexcept {
    return qid < s_.queues.cq.size() && s_.queues.cq[qid].exists();
  }

  static constexpr std::size_t strangers_per_round = 16;

  state s_;
  presence presence_;
  unsigned done_ = 0;
  bool posted_ = false;
  std::size_t next_stranger_ = 0;
};

}  // namespace phasebit::nvme::device
