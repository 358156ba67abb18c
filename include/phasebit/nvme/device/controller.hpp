// SPDX-License-Identifier: BSL-1.0
// An NVMe controller in software: the device side of every queue, for simulated devices, for virtual
// functions that a DPU presents to a guest, and for tests of drivers.
#pragma once

#include <phasebit/nvme/device/admin_handlers.hpp>
#include <phasebit/nvme/device/io_handlers.hpp>
#include <phasebit/nvme/device/maintenance_worker.hpp>
#include <phasebit/nvme/device/pending_io.hpp>
#include <phasebit/nvme/device/saved_state.hpp>
#include <phasebit/nvme/device/state.hpp>

#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// Presents `Namespaces` to a host through registers, doorbells and queues in the host's memory,
// which it reaches through `Dma`. Allocates nothing; keeps references to all of its arguments.
//
// All calls come from one thread at a time; a program that handles the host's register accesses on
// another thread than the one that polls takes a lock around both. Doorbells are not calls: the
// host stores to the words passed to the constructor, and poll() reads them.
// With several poll groups (Policy::poll_groups) every call may come from any thread. One thread
// per group polls the I/O queues of the group, by poll_group(); a further thread, or one of these,
// polls the admin queue, by poll_admin(). Completion queue n, and the submission queues that
// complete there, belong to group (n - 1) mod poll_groups. Groups share no lock on the path of a
// successful command; admin commands, register writes, resets and the calls below stop all groups
// while they run. All threads use Dma and Interrupts at once.
// Synchronous media (BlockMedia) are used in place. With asynchronous media (AsyncBlockMedia),
// commands are kept in the memory of `pending` until they complete, fetching continues, and
// commands complete in the order in which the media deliver them.
// Resets drain. After CC.EN was cleared, or reset() was called, the controller requests the end of
// all operations at the media; CSTS.RDY stays 1 until all have ended, so that the memory of a host
// which waits for RDY = 0 is not accessed afterwards. drained() returns the same to the program.
// The host is not trusted. Commands are copied once and the copy is executed; indices, identifiers
// and addresses are checked; a ring that cannot be reached sets CSTS.CFS, data that cannot be
// reached gives Data Transfer Error. Work per call is bounded, whatever the rings contain.
template <AnyDma Dma, InterruptSink Interrupts, NamespaceSet Namespaces,
          RingOrder Order = thread_order, class Policy = default_policy>
  requires CompletionFilter<typename Policy::completion_filter>
class controller {
 public:
  using filter_type = typename Policy::completion_filter;

  // `doorbells` is BAR memory from offset 1000h on: two words for each queue pair, the admin pair
  // first, each 4 << settings.doorbell_stride bytes from the next. `pending` is used with media that
  // complete later, and required then.
  controller(Dma& dma, Interrupts& interrupts, Namespaces& namespaces,
             std::span<std::uint32_t> doorbells, const settings& s = {}, filter_type filter = {},
             const pending_memory& pending = {}) noexcept
    requires(Policy::poll_groups == 1)
      : s_(dma, interrupts, namespaces, doorbells, s, static_cast<filter_type&&>(filter)),
        presence_(s.starts_offline ? presence::never_online : presence::online) {
    s_.set_group(0, {&namespaces, pending});
  }
  controller(Dma& dma, Interrupts& interrupts, Namespaces& namespaces,
             std::span<std::uint32_t> doorbells, const settings& s,
             const pending_memory& pending) noexcept
    requires(Policy::poll_groups == 1)
      : controller(dma, interrupts, namespaces, doorbells, s, filter_type{}, pending) {}
  // ... of several poll groups. The admin queue uses the namespaces of the first.
  controller(Dma& dma, Interrupts& interrupts,
             std::span<const poll_group_resources<Namespaces>, Policy::poll_groups> groups,
             std::span<std::uint32_t> doorbells, const settings& s = {}) noexcept
      : s_(dma, interrupts, *groups[0].namespaces, doorbells, s, filter_type{}),
        presence_(s.starts_offline ? presence::never_online : presence::online) {
    for (std::size_t g = 0; g != poll_groups; ++g) s_.set_group(g, groups[g]);
  }
  controller(const controller&) = delete;
  controller& operator=(const controller&) = delete;

  // Registers below 1000h, native values. Offsets that hold nothing read as 0 and swallow writes.
  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    const admin_guard alone{lock_};
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
    const everything_stopped alone{*this};
    if (presence_ != presence::online) return;
    switch (s_.regs.write32(offset, value)) {
      case register_event::none:
        break;
      case register_event::enable:
        enable();
        break;
      case register_event::disable:
        begin_reset();
        break;
      case register_event::shutdown:
        begin_shutdown();
        break;
      case register_event::unmask:
        for (std::size_t g = 0; g != poll_groups; ++g) raise_interrupts(g);
        break;
      case register_event::subsystem_reset:
        ++subsystem_resets_;
        subsystem_reset_now();
        break;
    }
  }

  // One round: delivers what media have finished, looks at every doorbell, fetches at most
  // settings.fetch_burst commands of each queue, executes and completes them. Returns how many
  // commands, deliveries and events that were: 0 is idle.
  unsigned poll() noexcept {
    if constexpr (poll_groups != 1) {
      unsigned done = poll_admin();
      for (std::size_t g = 0; g != poll_groups; ++g) done += poll_group(g);
      return done;
    } else {
      group_type& g = s_.groups[0];
      g.done = 0;
      if constexpr (asynchronous) {
        g.done += static_cast<unsigned>(io(g).poll());
        progress();
      }
      if constexpr (state::managed) follow_pool();
      if constexpr (state::zoned) follow_zones();
      if constexpr (state::has_jobs) progress_job();
      if (!s_.regs.running()) return g.done;
      s_.filter.poll(poster{this});
      if (quiescing_) return poll_quiescing();
      poll_queues(0, 0);
      if constexpr (Policy::arbitration::weighted) {
        if (by_weight() && s_.regs.running()) serve_by_weight();
      }
      if (s_.regs.running()) report_events();
      if (g.done == 0 && s_.regs.running()) check_unbacked_doorbells();
      if (g.posted) raise_interrupts(0);
      return g.done;
    }
  }
  // The same of one group's I/O queues, by one thread at a time.
  unsigned poll_group(std::size_t at) noexcept
    requires(Policy::poll_groups > 1)
  {
    group_type& g = s_.groups[at];
    const lock_guard guard{g.lock};
    g.done = 0;
    if constexpr (asynchronous) g.done += static_cast<unsigned>(io(g).poll());
    if (running(at) && !quiescing_) poll_queues(at, 1);
    if (g.posted && s_.regs.completing()) raise_interrupts(at);
    return g.done;
  }
  // The same of the admin queue, of resets and shutdowns.
  unsigned poll_admin() noexcept
    requires(Policy::poll_groups > 1)
  {
    {
      const admin_guard alone{lock_};
      if (!admin_has_work()) return 0;
    }
    const everything_stopped alone{*this};
    group_type& first = s_.groups[0];
    first.done = 0;
    Order::store(attention_, 0);
    for (group_type& g : s_.groups) {
      if (g.failed) s_.regs.set_fatal();
      g.failed = false;
    }
    progress();
    if (!s_.regs.running()) return first.done;
    if (quiescing_) return poll_quiescing();
    if (s_.queues.cq[0].exists()) update_head(0);
    if (s_.queues.sq[0].exists()) serve(0, s_.config.fetch_burst);
    if (s_.regs.running()) report_events();
    if (first.done == 0 && s_.regs.running()) check_unbacked_doorbells();
    if (first.posted) raise_interrupts(0);
    return first.done;
  }

  // Function-level reset: registers as after power-on, commands in flight end without a completion.
  // The program lets the host continue when drained() is true, and polls until then.
  [[gnu::noinline]] void reset() noexcept {
    const everything_stopped alone{*this};
    reset_now();
  }

  // NVM subsystem reset (Base 2.0, 3.7.1): as reset(), and sets CSTS.NSSRO. A host that writes NSSR
  // resets this controller at once; the program resets the other controllers of the subsystem when
  // subsystem_resets() has grown.
  void subsystem_reset() noexcept {
    const everything_stopped alone{*this};
    subsystem_reset_now();
  }
  [[nodiscard]] std::uint32_t subsystem_resets() const noexcept { return subsystem_resets_; }

  // No media operation is in flight: neither media nor controller touch memory of the host until
  // commands are fetched again.
  [[nodiscard]] bool drained() const noexcept {
    const everything_stopped alone{*this};
    return all_drained();
  }
  // Whether commands of a namespace are in flight: its media may be destroyed when none is.
  [[nodiscard]] bool in_flight(std::uint32_t nsid) noexcept {
    const everything_stopped alone{*this};
    bool any = s_.groups[0].flushing && next_flush_ == nsid;
    if constexpr (asynchronous) {
      for (group_type& g : s_.groups) {
        for (std::uint32_t at = 0; at != g.table.size(); ++at) {
          const pending_command& p = g.table[at];
          any = any || (p.state != command_state::free &&
                        (p.entry.nsid == nsid || p.entry.nsid == all_namespaces));
        }
      }
    }
    return any;
  }
  // Commands in flight, of all namespaces.
  [[nodiscard]] std::uint32_t in_flight() const noexcept {
    const everything_stopped alone{*this};
    return pending();
  }

  // -- save and restore --

  // No command is fetched from now on; those in flight complete, and poll() continues with that.
  void quiesce() noexcept {
    const everything_stopped alone{*this};
    quiescing_ = true;
  }
  // They have: save() may be called, or the program may change what the controller works with.
  [[nodiscard]] bool quiesced() const noexcept {
    const everything_stopped alone{*this};
    return is_quiesced();
  }
  // Fetches again. Every doorbell is read, and every completion queue interrupts once: a notification
  // that was lost meanwhile is made up for.
  void resume() noexcept {
    const everything_stopped alone{*this};
    resume_now();
  }
  // Of a controller that is quiesced.
  [[nodiscard]] saved_controller<Policy> save() const noexcept {
    const everything_stopped alone{*this};
    PHASEBIT_EXPECTS(is_quiesced(), "a controller is saved when it is quiesced");
    saved_controller<Policy> to{};
    to.version = saved_controller<Policy>::current_version;
    s_.regs.save(to);
    to.granted_sq = s_.queues.granted_sq;
    to.granted_cq = s_.queues.granted_cq;
    for (std::uint16_t q = 0; q <= s_.queues.highest; ++q) {
      const auto& sq = s_.queues.sq[q];
      const auto& cq = s_.queues.cq[q];
      if (sq.exists()) {
        to.sq[q] = {sq.base.value(),
                    sq.entries,
                    sq.head,
                    sq.tail,
                    s_.doorbells.load(q, ring_side::submission),
                    sq.completion_queue,
                    static_cast<std::uint8_t>(sq.priority)};
      }
      if (cq.exists()) {
        to.cq[q] = {cq.base.value(),
                    cq.entries,
                    cq.head,
                    cq.tail,
                    s_.doorbells.load(q, ring_side::completion),
                    cq.vector,
                    cq.interrupts,
                    cq.phase};
      }
    }
    to.shadow_enabled = s_.shadow.enabled();
    to.shadow = s_.shadow.shadow_page().value();
    to.event_indices = s_.shadow.event_page().value();
    s_.features.save(to);
    s_.clock.save(to);
    s_.events.save(to);
    to.keep_alive_elapsed_ms = s_.keep_alive_elapsed_ms;
    if constexpr (Policy::coalescing::present) to.coalescing = s_.coalescing.save();
    if constexpr (Policy::maintenance::present) to.maintenance = s_.maintenance.save();
    return to;
  }
  // Into a controller of the same settings over the same namespaces that is disabled and drained. The
  // state may be hostile: whatever it holds, the controller afterwards behaves as towards a hostile
  // host. Errors: not_supported (another version), invalid_argument (a state that no controller of
  // these settings has); the controller is as after power-on then. It runs on success.
  [[nodiscard]] result<> restore(const saved_controller<Policy>& from,
                                 doorbell_memory words = doorbell_memory::is_new) noexcept {
    const everything_stopped alone{*this};
    PHASEBIT_EXPECTS(all_drained() && !s_.regs.running(),
                     "a state is restored into a controller that is disabled");
    if (from.version != saved_controller<Policy>::current_version) {
      return failure(errc::not_supported, "the saved controller has another version", from.version);
    }
    s_.regs.reset();
    s_.queues.clear();
    if (!s_.regs.restore(from) || !restore_queues(from)) {
      s_.regs.reset();
      clear_state();
      return failure(errc::invalid_argument, "the saved controller has an impossible state");
    }
    s_.features.restore(from);
    s_.clock.restore(from);
    s_.events.restore(from);
    if constexpr (Policy::coalescing::present) s_.coalescing.restore(from.coalescing);
    if constexpr (Policy::maintenance::present) s_.maintenance.restore(from.maintenance);
    s_.keep_alive_elapsed_ms = from.keep_alive_elapsed_ms;
    s_.shadow.disable();
    const std::uint64_t page_mask = (std::uint64_t{1} << s_.regs.page_shift()) - 1;
    if (from.shadow_enabled && s_.config.shadow_doorbells &&
        ((from.shadow | from.event_indices) & page_mask) == 0 &&
        s_.shadow.fits_page(s_.queues.pairs, s_.regs.page_shift())) {
      s_.shadow.enable(bus_addr{from.shadow}, bus_addr{from.event_indices});
    }
    if (words == doorbell_memory::is_new) {
      s_.doorbells.clear_all();
      for (std::uint16_t q = 0; q <= s_.queues.highest; ++q) {
        if (s_.queues.sq[q].exists()) {
          s_.doorbells.store(q, ring_side::submission, from.sq[q].doorbell);
        }
        if (s_.queues.cq[q].exists()) {
          s_.doorbells.store(q, ring_side::completion, from.cq[q].doorbell);
        }
      }
    }
    resume_now();
    return {};
  }

  // Sets a secondary controller online or offline at the request of its primary: offline it is
  // reset, has a fatal status (all zeros before it was ever online) and takes no writes (Base 2.0,
  // 8.26.3).
  void set_online(bool online) noexcept {
    const everything_stopped alone{*this};
    if (online == (presence_ == presence::online)) return;
    reset_now();
    presence_ = online ? presence::online : presence::offline;
  }
  // The resources it has while it is online; change them only while it is offline.
  void set_resources(std::uint16_t io_queue_pairs, std::uint16_t interrupt_vectors) noexcept {
    const everything_stopped alone{*this};
    PHASEBIT_EXPECTS(presence_ != presence::online,
                     "resources change while a controller is offline");
    s_.offer(io_queue_pairs, interrupt_vectors);
  }
  // Of a primary controller: Policy::secondary.
  [[nodiscard]] typename Policy::secondary& secondary() noexcept { return s_.secondary; }

  // Time passes: for the timestamp, the keep-alive timer and the limit of a drain, which stand still
  // otherwise.
  void advance(std::uint32_t milliseconds) noexcept {
    const everything_stopped alone{*this};
    s_.clock.advance(milliseconds);
    if constexpr (Policy::coalescing::present) s_.coalescing.advance(milliseconds);
    if (s_.regs.disabling()) {
      drain_ms_ = saturating_sum(drain_ms_, milliseconds);
      // Media that never answer: the host finds out, and RDY stays 1, because its memory is still in use.
      if (drain_ms_ > s_.config.drain_limit_ms) s_.regs.set_fatal();
      return;
    }
    const std::uint32_t limit = s_.features.stored(feature_id::keep_alive_timer);
    if (limit == 0 || !s_.regs.running()) return;
    s_.keep_alive_elapsed_ms = saturating_sum(s_.keep_alive_elapsed_ms, milliseconds);
    // Base 2.0, 3.9: the controller stops and reports a fatal status.
    if (s_.keep_alive_elapsed_ms > limit) s_.regs.set_fatal();
  }

  // A namespace came, went or changed its size: an event where the host has enabled them. Commands
  // in flight to a namespace that is inactive now are cancelled.
  void namespace_changed(std::uint32_t nsid) noexcept {
    const everything_stopped alone{*this};
    if constexpr (asynchronous) {
      for (std::size_t g = 0; g != poll_groups; ++g) {
        if (s_.groups[g].namespaces->find(nsid) != nullptr) continue;
        io(s_.groups[g])
            .cancel([nsid](const pending_command& p) noexcept { return p.entry.nsid == nsid; },
                    status_code::invalid_namespace_or_format);
        if (s_.groups[g].posted) raise_interrupts(g);
      }
    }
    s_.changed.add(nsid);
    const async_event_configuration wanted{
        s_.features.stored(feature_id::async_event_configuration)};
    if (wanted[async_event_configuration::namespace_attributes]) {
      s_.events.raise(async_event::of_namespace_change());
    }
  }

  // The composite temperature has changed: compared with the host's thresholds.
  void set_temperature(std::uint16_t kelvin) noexcept {
    const everything_stopped alone{*this};
    s_.temperature.kelvin = kelvin;
    check_temperature(s_);
  }

  // Sanitize, self-test and firmware: Policy::maintenance.
  [[nodiscard]] typename Policy::maintenance& maintenance() noexcept { return s_.maintenance; }

  [[nodiscard]] filter_type& completion_filter() noexcept { return s_.filter; }

 private:
  using state = controller_state<Dma, Interrupts, Namespaces, Order, Policy>;

  using group_type = typename state::group_type;
  using lock_type = typename Policy::lock;

  static constexpr bool asynchronous = group_type::asynchronous;
  static constexpr std::size_t poll_groups = Policy::poll_groups;
  static_assert(poll_groups >= 1 && PollLock<lock_type>);
  static_assert(poll_groups == 1 || !std::same_as<lock_type, no_lock>,
                "threads of several poll groups need a lock");
  static_assert(poll_groups == 1 || std::same_as<filter_type, pass_completions>,
                "completion filters work with one poll group");

  static_assert(
      poll_groups == 1 || (!Policy::arbitration::weighted && !Policy::coalescing::present &&
                           !state::has_jobs && !state::reservable && !state::zoned),
      "weighted arbitration, interrupt coalescing, namespace management, maintenance commands, "
      "reservations and zones work with one poll group");
  static_assert(poll_groups == 1 || !Policy::fused_commands,
                "nothing comes between the commands of a fused pair in one poll group only");

  // Locks are taken in this order: the admin queue's, those of the groups, what groups share.
  using admin_guard = lock_guard<lock_type>;
  using shared_guard = lock_guard<lock_type>;

  // The thread has the controller to itself.
  class everything_stopped {
   public:
    explicit everything_stopped(const controller& c) noexcept : c_(&c) {
      c_->lock_.lock();
      for (const group_type& g : c_->s_.groups) g.lock.lock();
    }
    ~everything_stopped() {
      for (const group_type& g : c_->s_.groups) g.lock.unlock();
      c_->lock_.unlock();
    }
    everything_stopped(const everything_stopped&) = delete;
    everything_stopped& operator=(const everything_stopped&) = delete;

   private:
    const controller* c_;
  };

  enum class presence : std::uint8_t { never_online, offline, online };

  // The interface through which a filter posts.
  struct poster {
    controller* self;
    bool operator()(const outgoing_completion& c) const noexcept { return self->post(c); }
  };
  // Ends commands that were in flight.
  struct finisher {
    controller* self;
    void operator()(const pending_command& p) const noexcept { self->finish(p); }
  };

  [[nodiscard]] auto io(group_type& g) noexcept {
    return pending_io<state, finisher>{s_, g, finisher{this}};
  }

  // -- poll groups --

  [[nodiscard]] static constexpr std::size_t group_of(std::uint16_t cqid) noexcept {
    if constexpr (poll_groups == 1) {
      return 0;
    } else {
      return cqid == 0 ? 0 : (cqid - 1U) % poll_groups;
    }
  }
  [[nodiscard]] group_type& group_of_sq(std::uint16_t sqid) noexcept {
    return s_.groups[group_of(s_.queues.sq[sqid].completion_queue)];
  }
  [[nodiscard]] bool running(std::size_t group) const noexcept {
    if constexpr (poll_groups == 1) {
      return s_.regs.running();
    } else {
      return s_.regs.running() && !s_.groups[group].failed;
    }
  }
  // The host's memory cannot be reached: a fatal status, which the thread of the admin queue reports.
  void fail(std::size_t group) noexcept {
    if constexpr (poll_groups == 1) {
      s_.regs.set_fatal();
    } else {
      s_.groups[group].failed = true;
      ask_admin();
    }
  }
  void ask_admin() noexcept {
    if constexpr (poll_groups != 1) Order::store(attention_, 1);
  }
  [[nodiscard]] bool admin_has_work() noexcept {
    const auto& sq = s_.queues.sq[0];
    if (Order::load(attention_) != 0 || s_.regs.disabling() || shutting_down_ || quiescing_ ||
        !s_.deferred.empty() || s_.events.aborting()) {
      return true;
    }
    if (!s_.regs.running()) return false;
    return !sq.empty() || s_.doorbells.load(0, ring_side::submission) != sq.tail ||
           s_.doorbells.load(0, ring_side::completion) != s_.queues.cq[0].head ||
           ++idle_rounds_ % idle_rounds_per_check == 0;
  }

  [[nodiscard]] std::uint32_t pending() const noexcept {
    std::uint32_t sum = 0;
    if constexpr (asynchronous) {
      for (const group_type& g : s_.groups) sum += g.table.in_flight();
    }
    return sum;
  }
  [[nodiscard]] bool all_drained() const noexcept {
    return pending() == 0 && !s_.groups[0].flushing && !s_.groups[0].background.pending;
  }
  [[nodiscard]] bool is_quiesced() const noexcept {
    return quiescing_ && all_drained() && !job_in_progress() && s_.deferred.empty() &&
           !s_.events.aborting() && !s_.regs.disabling() && !shutting_down_;
  }
  void resume_now() noexcept {
    quiescing_ = false;
    for (std::uint16_t q = 0; q <= s_.queues.highest; ++q) {
      s_.queues.sq[q].kicked = s_.queues.sq[q].exists();
      s_.queues.cq[q].interrupt_pending = s_.queues.cq[q].exists();
    }
    for (group_type& g : s_.groups) g.posted = true;
    ask_admin();
  }
  void subsystem_reset_now() noexcept {
    reset_now();
    s_.regs.set_subsystem_reset();
  }
  void reset_now() noexcept {
    cancel_all();
    s_.regs.reset(all_drained());
    if (all_drained()) {
      clear_state();
    } else {
      stop_fetching();
    }
  }
  // False where the queues cannot have been created by commands.
  [[nodiscard]] bool restore_queues(const saved_controller<Policy>& from) noexcept {
    auto& queues = s_.queues;
    if (!s_.regs.status()[csts::rdy]) return true;
    if (from.granted_sq > queues.pairs || from.granted_cq > queues.pairs ||
        from.cq[0].entries != s_.regs.admin_cq_entries() ||
        from.sq[0].entries != s_.regs.admin_sq_entries() ||
        from.cq[0].base != s_.regs.admin_cq().value() ||
        from.sq[0].base != s_.regs.admin_sq().value()) {
      return false;
    }
    const std::uint64_t page_mask = (std::uint64_t{1} << s_.regs.page_shift()) - 1;
    const auto possible = [&](const auto& q, std::uint64_t entry_bytes) noexcept {
      return q.entries >= 2 && q.entries <= 65536 && q.head < q.entries && q.tail < q.entries &&
             (q.base & page_mask) == 0 && range_end(bus_addr{q.base}, q.entries * entry_bytes);
    };
    for (std::size_t q = 0; q != from.cq.size(); ++q) {
      const saved_completion_queue& c = from.cq[q];
      if (c.entries == 0) continue;
      if (q > queues.pairs || !possible(c, 16) || c.vector >= s_.config.interrupt_vectors) {
        return false;
      }
      auto& cq = queues.cq[q];
      cq = completion_queue{};
      cq.base = bus_addr{c.base};
      cq.entries = c.entries;
      cq.head = c.head;
      cq.tail = c.tail;
      cq.vector = c.vector;
      cq.interrupts = c.interrupts;
      cq.phase = c.phase;
      queues.highest = static_cast<std::uint16_t>(q);
    }
    for (std::size_t q = 0; q != from.sq.size(); ++q) {
      const saved_submission_queue& c = from.sq[q];
      if (c.entries == 0) continue;
      if (q > queues.pairs || !possible(c, 64) || c.completion_queue > queues.pairs ||
          (q == 0) != (c.completion_queue == 0) || !queues.cq[c.completion_queue].exists()) {
        return false;
      }
      auto& sq = queues.sq[q];
      sq = submission_queue{};
      sq.base = bus_addr{c.base};
      sq.entries = c.entries;
      sq.head = c.head;
      sq.tail = c.tail;
      sq.completion_queue = c.completion_queue;
      sq.priority = static_cast<queue_priority>(c.priority & 3U);
      ++queues.cq[c.completion_queue].users;
      if (q > queues.highest) queues.highest = static_cast<std::uint16_t>(q);
    }
    queues.granted_sq = from.granted_sq;
    queues.granted_cq = from.granted_cq;
    return true;
  }

  // -- life cycle --

  [[gnu::noinline]] void enable() noexcept {
    clear_state();
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
  [[gnu::noinline]] void clear_state() noexcept {
    stop_fetching();
    s_.queues.clear();
    s_.features.reset();
    if constexpr (Policy::coalescing::present) s_.coalescing.reset();
    if constexpr (Policy::secondary::present) s_.secondary.primary_reset();
    if constexpr (Policy::maintenance::present) {
      s_.maintenance.controller_reset();
      // A short self-test does not outlive a reset; an extended one continues.
      if (s_.job.what == maintenance_job::kind::self_test && s_.job.self_test == 1) {
        maintenance_worker{s_}.end_self_test(self_test_result::aborted_by_reset);
      }
    }
    s_.keep_alive_elapsed_ms = 0;
  }
  // State that must not remain after a reset begins: requests, delayed completions, and pages of
  // the host that belong to no command.
  [[gnu::noinline]] void stop_fetching() noexcept {
    s_.doorbells.clear_all();
    s_.shadow.disable();
    s_.events.reset();
    s_.deferred.clear();
    s_.filter.reset();
    drain_ms_ = 0;
  }

  // CC.EN was cleared.
  void begin_reset() noexcept {
    cancel_all();
    stop_fetching();
    complete_reset();
  }
  void complete_reset() noexcept {
    if (!all_drained()) return;
    clear_state();
    shutting_down_ = false;
    if (s_.regs.complete_disable() == register_event::enable) enable();
  }
  void cancel_all() noexcept {
    if constexpr (asynchronous) {
      for (group_type& g : s_.groups) {
        io(g).cancel([](const pending_command&) noexcept { return true; }, status_code::success);
      }
      if (s_.groups[0].flushing) flushed_media_->cancel(flush_tag);
    }
  }

  // Base 2.0, 3.6: commands in flight complete, then caches are flushed, then SHST reports
  // completion.
  void begin_shutdown() noexcept {
    s_.regs.set_shutdown(shutdown_status::occurring);
    shutting_down_ = true;
    next_flush_ = 0;
    progress_shutdown();
  }
  void progress_shutdown() noexcept {
    if (!shutting_down_ || !all_drained()) return;
    while (next_flush_ != s_.namespaces->highest_nsid()) {
      auto* const media = s_.namespaces->find(next_flush_ + 1);
      if (media == nullptr) {
        ++next_flush_;
        continue;
      }
      if constexpr (asynchronous) {
        const auto answer = media->submit({.operation = block::media_operation::flush}, flush_tag);
        if (answer.is_busy()) return;
        ++next_flush_;
        if (answer.is_pending()) {
          s_.groups[0].flushing = true;
          flushed_media_ = media;
          return;
        }
      } else {
        ++next_flush_;
        static_cast<void>(media->flush());
      }
    }
    shutting_down_ = false;
    s_.regs.set_shutdown(shutdown_status::complete);
  }

  // Nothing is fetched and no event is reported; aborted requests end.
  unsigned poll_quiescing() noexcept {
    if (s_.events.aborting()) report_events();
    if (s_.groups[0].posted) raise_interrupts(0);
    return s_.groups[0].done;
  }

  // -- commands in flight --

  // Goes on with what waits for media.
  void progress() noexcept {
    // The thread of the admin queue alone may be polled while a shutdown flushes.
    if constexpr (asynchronous && poll_groups != 1) {
      if (s_.groups[0].flushing) {
        s_.groups[0].done += static_cast<unsigned>(io(s_.groups[0]).poll());
      }
    }
    if (!s_.deferred.empty()) progress_deferred();
    if (s_.groups[0].posted) raise_interrupts(0);
    if (s_.regs.disabling()) {
      if (!all_drained()) return;
      ++s_.groups[0].done;
      return complete_reset();
    }
    progress_shutdown();
  }

  // -- work of the controller itself --

  [[nodiscard]] bool job_in_progress() const noexcept {
    if constexpr (state::has_jobs) {
      return s_.job.what != maintenance_job::kind::none || s_.groups[0].background.finished;
    } else {
      return false;
    }
  }
  void progress_job() noexcept {
    if (s_.regs.disabling()) return;
    if (maintenance_worker{s_}.step()) ++s_.groups[0].done;
    if (s_.job_outcome.ready && !s_.deferred.empty()) {
      progress_deferred();
      if (s_.groups[0].posted) raise_interrupts(0);
    }
  }
  // Changes that other controllers, or this one, made to the namespaces that this one shares with
  // them.
  void follow_pool() noexcept {
    auto& pool = s_.namespaces->pool();
    const std::uint16_t id = s_.namespaces->controller_id();
    while (const std::uint32_t nsid = pool.take_change(id)) namespace_changed(nsid);
    if constexpr (state::reservable) {
      if (pool.reservations().take_news(id)) {
        s_.events.raise(async_event::of(async_event_type::io_command_set, 0,
                                        log_page_id::reservation_notification));
      }
      while (const std::uint32_t nsid = pool.take_abort(id)) abort_preempted(nsid);
    }
    if (!pool.anything_draining(id)) return;
    for (std::uint32_t nsid = 1; nsid <= s_.namespaces->highest_nsid(); ++nsid) {
      if ((pool.draining(nsid) >> id & 1U) != 0 && !in_flight(nsid)) pool.drained(nsid, id);
    }
  }

  // Zones that the program has changed.
  void follow_zones() noexcept {
    bool any = false;
    for (std::uint32_t nsid = 1; nsid <= s_.namespaces->highest_nsid(); ++nsid) {
      zone_table* const zones = s_.namespaces->zones(nsid);
      any = (zones != nullptr && zones->take_news()) || any;
    }
    const async_event_configuration wanted{
        s_.features.stored(feature_id::async_event_configuration)};
    if (!any || !wanted[async_event_configuration::zone_descriptor_changed]) return;
    s_.events.raise(async_event::of(
        async_event_type::notice, static_cast<std::uint8_t>(notice_event::zone_descriptor_changed),
        log_page_id::changed_zones));
  }

  // The host of this controller was preempted: its commands on the namespace are cancelled.
  void abort_preempted(std::uint32_t nsid) noexcept {
    if constexpr (asynchronous) {
      io(s_.groups[0])
          .cancel([nsid](const pending_command& p) noexcept { return p.entry.nsid == nsid; },
                  status_code::aborted_preempt);
      if (s_.groups[0].posted) raise_interrupts(0);
    } else {
      static_cast<void>(nsid);
    }
  }

  void finish(const pending_command& p) noexcept {
    if (p.discarded) return;
    auto& sq = s_.queues.sq[p.sqid];
    --sq.in_flight;
    --s_.queues.cq[sq.completion_queue].reserved;
    if (!s_.deferred.empty()) {
      const shared_guard guard{shared_lock_};
      s_.deferred.command_ended(p.sqid, p.entry.command_id(),
                                p.result.status == status_code::abort_requested);
    }
    complete(p.sqid, p.entry.command_id(), p.result, &p.entry);
  }

  // Admin commands that wait for commands of an I/O queue.
  void progress_deferred() noexcept {
    for (std::size_t i = 0; i < s_.deferred.size();) {
      if (!s_.deferred[i].started) start_deferred(i);
      const deferred_command d = s_.deferred[i];
      command_result result{status_code::success};
      if (d.what == deferred_command::kind::delete_queue) {
        if (s_.queues.sq[d.sqid].in_flight != 0) {
          ++i;
          continue;
        }
        remove_submission_queue(s_, d.sqid);
      } else if (d.what == deferred_command::kind::maintenance) {
        if (!s_.job_outcome.ready) {
          ++i;
          continue;
        }
        result = s_.job_outcome.result;
        s_.job_outcome = {};
      } else {
        if (!d.target_ended) {
          ++i;
          continue;
        }
        result.dw0 = abort_command::not_aborted.of(!d.target_aborted);
      }
      s_.deferred.remove(i);
      --s_.queues.sq[0].in_flight;
      --s_.queues.cq[0].reserved;
      ++s_.groups[0].done;
      complete(0, d.command_id, result, nullptr);
    }
  }
  void start_deferred(std::size_t at) noexcept {
    deferred_command& d = s_.deferred[at];
    d.started = true;
    if (d.what == deferred_command::kind::maintenance) return;
    if constexpr (asynchronous) {
      auto& group = group_of_sq(d.sqid);
      if (d.what == deferred_command::kind::delete_queue) {
        io(group).cancel(
            [sqid = d.sqid](const pending_command& p) noexcept { return p.sqid == sqid; },
            status_code::aborted_queue_deletion);
        return;
      }
      // Nothing of that id in flight: there is nothing to abort.
      const bool found = io(group).cancel(
          [sqid = d.sqid, id = d.target_id](const pending_command& p) noexcept {
            return p.sqid == sqid && p.entry.command_id() == id;
          },
          status_code::abort_requested);
      d.target_ended = d.target_ended || !found;
    } else {
      d.target_ended = true;
    }
  }

  // -- queues --

  // The queues of a group from `first` on.
  PHASEBIT_ALWAYS_INLINE void poll_queues(std::size_t group, std::uint16_t first) noexcept {
    if (!running(group)) return;
    // A shadow doorbell is read when its register was written; with weights, another loop serves.
    const bool skips = poll_groups == 1 && !s_.shadow.enabled() && !by_weight();
    for (std::uint32_t q = first; q <= s_.queues.highest; ++q) {
      const auto& idle = s_.queues.idle[q];
      if (skips && s_.doorbells.peek(q, ring_side::submission) == idle.tail &&
          s_.doorbells.peek(q, ring_side::completion) == idle.head) {
        continue;
      }
      poll_queue_pair(group, static_cast<std::uint16_t>(q));
      if (!running(group)) return;
    }
  }
  void poll_queue_pair(std::size_t group, std::uint16_t q) noexcept {
    auto& sq = s_.queues.sq[q];
    auto& cq = s_.queues.cq[q];
    // A register is looked at in each round, if only to find out about impossible values; a shadow
    // costs a DMA access, and is read when a slot is needed.
    if (cq.exists() && group_of(q) == group && !shadowed(q)) update_head(q);
    if (q != 0 && by_weight()) return;
    if (sq.exists() && group_of(sq.completion_queue) == group) serve(q, s_.config.fetch_burst);
    if constexpr (poll_groups == 1) {
      if (sq.empty())
        s_.queues.idle[q] = {sq.tail, cq.head};
      else
        s_.queues.idle[q] = {};
    }
  }

  [[nodiscard]] bool by_weight() const noexcept {
    if constexpr (Policy::arbitration::weighted) {
      return s_.regs.configuration()[cc::ams] == arbitration_mechanism::weighted;
    } else {
      return false;
    }
  }
  void serve_by_weight() noexcept {
    s_.arbitration.round(
        s_.queues.highest, s_.features.stored(feature_id::arbitration), s_.config.fetch_burst,
        [this](std::uint16_t q) noexcept { return s_.queues.sq[q].exists(); },
        [this](std::uint16_t q) noexcept { return s_.queues.sq[q].priority; },
        [this](std::uint16_t q, unsigned commands) noexcept {
          const unsigned before = s_.groups[0].done;
          if (s_.regs.running()) serve(q, commands);
          return s_.groups[0].done - before;
        },
        [this](std::uint16_t q) noexcept {
          const auto& sq = s_.queues.sq[q];
          return !sq.empty() && !sq.deleting && !s_.queues.cq[sq.completion_queue].committed();
        });
  }
  [[gnu::noinline]] void serve(std::uint16_t qid, unsigned burst) noexcept {
    auto& sq = s_.queues.sq[qid];
    auto& cq = s_.queues.cq[sq.completion_queue];
    const std::size_t group = group_of(sq.completion_queue);
    group_type& g = s_.groups[group];
    if (sq.deleting) return;
    update_tail(qid);
    for (; burst != 0 && !sq.empty(); --burst) {
      if (cq.committed()) {
        update_head(sq.completion_queue);
        if (!running(group) || cq.committed()) return;
      }
      // No place for another command in flight: it stays in the ring.
      if constexpr (asynchronous) {
        if (qid == 0 ? s_.deferred.full() : g.table.full()) return;
      }
      const auto command = fetch_command(*s_.dma, sq.next_entry());
      if (!command) return fail(group);
      if constexpr (Policy::fused_commands) {
        if (qid != 0 && command->fuse() != fused::none) {
          if (!serve_fused(qid, *command)) return;
          if (!running(group) || sq.deleting) return;
          continue;
        }
      }
      sq.advance();
      ++g.done;
      if (qid == 0) {
        execute_admin(*command);
      } else if constexpr (asynchronous) {
        ++sq.in_flight;
        ++cq.reserved;
        io(g).start(qid, *command);
      } else {
        const command_result ended = io_handlers{s_, g}.execute(*command);
        complete_now(qid, command->command_id(), ended, &*command);
      }
      if (!running(group) || sq.deleting) return;
    }
    if (s_.shadow.enabled() && sq.empty()) arm_shadow(qid);
  }

  // The first or second command of a fused pair, which lies at the head of its queue. Both halves are
  // taken together, so that nothing comes between them (Base 2.0, 3.4.3). False: they stay in the
  // queue, as there is no place for two.
  [[nodiscard]] bool serve_fused(std::uint16_t qid, const submission_entry& command) noexcept {
    auto& sq = s_.queues.sq[qid];
    auto& cq = s_.queues.cq[sq.completion_queue];
    const std::size_t group = group_of(sq.completion_queue);
    group_type& g = s_.groups[group];
    const auto alone = [&](status_code status) noexcept {
      sq.advance();
      ++g.done;
      complete(qid, command.command_id(), status, &command);
      return true;
    };
    if (command.fuse() == fused::second) return alone(status_code::aborted_missing_fused);
    if (command.fuse() != fused::first) return alone(status_code::invalid_field);
    const std::uint32_t next = sq.head + 1 == sq.entries ? 0 : sq.head + 1;
    if (next == sq.tail || cq.entries < 3) return alone(status_code::aborted_missing_fused);
    const auto second = fetch_command(*s_.dma, sq.base + std::uint64_t{next} * 64);
    if (!second) {
      fail(group);
      return false;
    }
    if (second->fuse() != fused::second) return alone(status_code::aborted_missing_fused);
    if (cq.used() + cq.reserved + 2 > cq.entries - 1) return false;
    if constexpr (asynchronous) {
      if (g.table.size() < 2) return alone(status_code::aborted_missing_fused);
      if (g.table.available() < 2) return false;
      sq.advance();
      sq.advance();
      g.done += 2;
      sq.in_flight += 2;
      cq.reserved += 2;
      io(g).start_fused(qid, command, *second);
    } else {
      auto first = command;
      auto write = *second;
      first.set_fuse(fused::none);
      write.set_fuse(fused::none);
      command_result compared{check_fused_pair(first, write)};
      command_result written = compared;
      io_handlers io{s_, g};
      if (compared.ok()) {
        compared = io.execute(first);
        written =
            compared.ok() ? io.execute(write) : command_result{status_code::aborted_failed_fused};
      }
      sq.advance();
      ++g.done;
      complete(qid, command.command_id(), compared, &command);
      sq.advance();
      ++g.done;
      complete(qid, second->command_id(), written, &*second);
    }
    return true;
  }

  [[gnu::noinline]] void execute_admin(const submission_entry& command) noexcept {
    const std::size_t deferred = s_.deferred.size();
    const command_result ended = admin_handlers{s_}.execute(command);
    if (!ended.later) return complete(0, command.command_id(), ended, &command);
    // An event request keeps no slot of the completion queue, a command that will end does.
    if (s_.deferred.size() == deferred) return;
    ++s_.queues.sq[0].in_flight;
    ++s_.queues.cq[0].reserved;
    if constexpr (asynchronous) progress_deferred();
  }

  [[gnu::noinline]] void complete(std::uint16_t qid, std::uint16_t command_id,
                                  const command_result& ended,
                                  const submission_entry* command) noexcept {
    complete_now(qid, command_id, ended, command);
  }
  PHASEBIT_ALWAYS_INLINE void complete_now(std::uint16_t qid, std::uint16_t command_id,
                                           const command_result& ended,
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
                             .dw1 = ended.dw1,
                             .sq_head = static_cast<std::uint16_t>(sq.head),
                             .sq_id = qid,
                             .dw3 = completion_dw3::of(command_id, status, false).raw}},
        poster{this});
  }

  // The entry of the error log that the More bit speaks of.
  [[gnu::noinline]] void record(std::uint16_t qid, const submission_entry& c,
                                nvme::status status) noexcept {
    error_information entry{};
    entry.sqid = qid;
    entry.command_id = c.command_id();
    entry.status_field = static_cast<std::uint16_t>(status.raw() << 1);
    entry.parameter_location = error_information::no_location;
    entry.nsid = c.nsid;
    if (qid != 0) entry.lba = c.cdw10_11();
    const shared_guard guard{shared_lock_};
    s_.errors.add(entry);
  }

  // See completion_filter.hpp for what true and false mean.
  PHASEBIT_ALWAYS_INLINE bool post(outgoing_completion c) noexcept {
    auto& cq = s_.queues.cq[c.completion_queue];
    if (!cq.exists() || !s_.regs.completing()) return true;
    if (cq.full()) {
      update_head(c.completion_queue);
      if (cq.full()) return false;
    }
    c.entry.dw3 = c.entry.dw3 ^ completion_dw3::phase_bit.of(cq.phase);
    if (!post_completion<Order>(*s_.dma, cq.next_slot(), c.entry)) {
      fail(group_of(c.completion_queue));
      return true;
    }
    cq.advance();
    if constexpr (Policy::coalescing::present) {
      if (cq.interrupts) s_.coalescing.posted(cq.vector);
    }
    s_.groups[group_of(c.completion_queue)].posted = true;
    return true;
  }

  void report_events() noexcept {
    auto& cq = s_.queues.cq[0];
    for (;;) {
      if (cq.committed()) update_head(0);
      if (cq.committed()) return;
      const auto due = s_.events.next();
      if (!due) return;
      ++s_.groups[0].done;
      complete(0, due->command_id, command_result{due->status, due->dw0}, nullptr);
    }
  }

  // Interrupts for what was posted since the last ones. A masked vector waits for its unmasking.
  void raise_interrupts(std::size_t group) noexcept {
    s_.groups[group].posted = false;
    for (std::uint16_t q = 0; q <= s_.queues.highest; ++q) {
      auto& cq = s_.queues.cq[q];
      if (group_of(q) != group || !cq.interrupt_pending) continue;
      if (cq.interrupts && s_.regs.masked(cq.vector)) continue;
      if constexpr (Policy::coalescing::present) {
        if (cq.interrupts &&
            !s_.coalescing.due(cq.vector, s_.features.stored(feature_id::interrupt_coalescing),
                               s_.groups[group].done == 0)) {
          s_.groups[group].posted = true;  // looked at again in the next round
          continue;
        }
        if (cq.interrupts) s_.coalescing.raised(cq.vector);
      }
      cq.interrupt_pending = false;
      if (cq.interrupts) s_.interrupts->raise(cq.vector);
    }
  }

  [[nodiscard]] bool shadowed(std::uint16_t qid) const noexcept {
    return qid != 0 && s_.shadow.enabled();
  }
  void report_doorbell(doorbell_update update) noexcept {
    if (update == doorbell_update::invalid) {
      const shared_guard guard{shared_lock_};
      s_.events.raise(async_event::of(error_event::invalid_doorbell_value));
      ask_admin();
    }
  }

  void update_tail(std::uint16_t qid) noexcept {
    auto& sq = s_.queues.sq[qid];
    if (!shadowed(qid)) {
      report_doorbell(sq.set_tail(s_.doorbells.load(qid, ring_side::submission)));
      return;
    }
    // A kick. One that is lost between this and the load of the shadow is found by arm_shadow's second look.
    if (s_.doorbells.load(qid, ring_side::submission) != doorbell_seen) {
      s_.doorbells.store(qid, ring_side::submission, doorbell_seen);
      sq.kicked = true;
    }
    if (!sq.kicked) return;
    const auto tail = s_.shadow.load(qid, ring_side::submission);
    if (!tail) return fail(group_of(sq.completion_queue));
    report_doorbell(sq.set_tail(*tail));
  }

  // The queue is empty: the event index asks the host to write the register from here on.
  void arm_shadow(std::uint16_t qid) noexcept {
    auto& sq = s_.queues.sq[qid];
    if (!sq.kicked) return;
    const auto tail = s_.shadow.arm(qid, ring_side::submission, sq.tail);
    if (!tail) return fail(group_of(sq.completion_queue));
    report_doorbell(sq.set_tail(*tail));
    sq.kicked = !sq.empty();
  }

  void update_head(std::uint16_t qid) noexcept {
    auto& cq = s_.queues.cq[qid];
    if (!shadowed(qid)) {
      report_doorbell(cq.set_head(s_.doorbells.load(qid, ring_side::completion)));
      return;
    }
    auto head = s_.shadow.load(qid, ring_side::completion);
    if (head && *head == cq.head) head = s_.shadow.arm(qid, ring_side::completion, cq.head);
    if (!head) return fail(group_of(qid));
    report_doorbell(cq.set_head(*head));
  }

  // Doorbells of queues that do not exist, a few in each idle round.
  void check_unbacked_doorbells() noexcept {
    const std::size_t pairs = s_.doorbells.pairs();
    for (std::size_t i = 0; i != pairs && i != unbacked_per_round; ++i) {
      next_unbacked_ = next_unbacked_ + 1 < pairs ? next_unbacked_ + 1 : 0;
      check_unbacked_doorbell(next_unbacked_, ring_side::submission,
                              has_submission_queue(next_unbacked_));
      check_unbacked_doorbell(next_unbacked_, ring_side::completion,
                              has_completion_queue(next_unbacked_));
    }
  }
  void check_unbacked_doorbell(std::size_t qid, ring_side side, bool exists) noexcept {
    if (exists) return;
    const std::uint32_t value = s_.doorbells.load(qid, side);
    if (value == 0) return;
    s_.doorbells.store(qid, side, 0);
    s_.events.raise(async_event::of(error_event::invalid_doorbell));
    ++s_.groups[0].done;
  }
  [[nodiscard]] bool has_submission_queue(std::size_t qid) const noexcept {
    return qid < s_.queues.sq.size() && s_.queues.sq[qid].exists();
  }
  [[nodiscard]] bool has_completion_queue(std::size_t qid) const noexcept {
    return qid < s_.queues.cq.size() && s_.queues.cq[qid].exists();
  }

  static constexpr std::size_t unbacked_per_round = 16;

  // How often an idle admin queue looks at doorbells of queues that do not exist.
  static constexpr std::uint32_t idle_rounds_per_check = 4096;

  state s_;
  presence presence_;
  [[no_unique_address]] mutable lock_type lock_{};
  [[no_unique_address]] lock_type shared_lock_{};
  std::uint32_t attention_ = 0;  // of several groups: poll_admin() has work
  std::uint32_t idle_rounds_ = 0;
  std::uint32_t subsystem_resets_ = 0;
  std::size_t next_unbacked_ = 0;

  [[nodiscard]] static constexpr std::uint32_t saturating_sum(std::uint32_t a,
                                                              std::uint32_t b) noexcept {
    return a + b < a ? 0xffff'ffff : a + b;
  }

  typename Namespaces::media_type* flushed_media_ = nullptr;
  std::uint32_t next_flush_ = 0;  // namespaces below it are flushed
  std::uint32_t drain_ms_ = 0;    // since the reset began
  bool shutting_down_ = false;
  bool quiescing_ = false;
};

}  // namespace phasebit::nvme::device
