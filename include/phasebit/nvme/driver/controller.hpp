// SPDX-License-Identifier: BSL-1.0
// The driver's side of an NVMe controller: enable it, identify it, create queues, detach it.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/admin_session.hpp>
#include <phasebit/nvme/driver/detail/queue_link.hpp>
#include <phasebit/nvme/driver/namespace_info.hpp>
#include <phasebit/nvme/driver/queue_memory.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/async_event.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/identify_namespace.hpp>
#include <phasebit/nvme/spec/identify_nvm.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace phasebit::nvme::driver {

struct queue_options {
  // Entries of each ring; depth - 1 commands in flight. 0: 128, or what CAP.MQES and MaxDepth allow.
  std::uint32_t depth = 0;
  std::optional<std::uint16_t> interrupt = {};  // the completion queue's vector; none: polled
  std::uint32_t max_transfer = 0;               // bytes; 0: the controller's
  std::uint32_t nsid = 1;  // of read() and write() without a handle; 0: none, handles only
};

// Selects the queue pair's type by an argument: no template argument list is needed in generic
// code.
template <class Token, unsigned MaxDepth = 256, class EntryStore = cached_store>
struct queue_kind {};
template <class Token, unsigned MaxDepth = 256, class EntryStore = cached_store>
inline constexpr queue_kind<Token, MaxDepth, EntryStore> tokens{};

// A controller that has been enabled, and its I/O queues. One thread at a time, while each queue may
// be another thread's; a queue is created, deleted, destroyed and moved by the controller's thread. The
// backend outlives it. Move-only; the moved-from object is detached.
//
// Lifetimes: a queue of a controller that was reset, detached, moved, destroyed or found removed is ended or
// follows the controller: its uses are error values. See docs/nvme.md.
template <PcieBackend Backend, unsigned MaxQueues = 64>
class controller {
  using session = admin_session<Backend>;
  using doorbell_type = typename session::doorbell_type;
  using order = typename session::order;

 public:
  using backend_type = Backend;
  using bar_type = typename session::bar_type;
  // The queue pairs that this controller makes.
  template <class Token = completion_callback, unsigned MaxDepth = 256,
            class EntryStore = cached_store>
  using io_queue = queue_pair<order, doorbell_type, Token, MaxDepth, EntryStore>;
  template <class Token = completion_callback, unsigned MaxDepth = 256>
  using shadowed_io_queue =
      queue_pair<order, ring::shadow_doorbell<doorbell_type, order>, Token, MaxDepth>;

  // Resets and enables the controller behind BAR 0 and identifies it. A controller that refuses
  // Number of Queues is attached with 0 granted queues.
  // Errors: removed, timed_out (CAP.TO), protocol (CSTS.CFS, contradictions), not_ready (offline),
  // exhausted (no memory), busy (attached already), not_supported, and those of the backend.
  [[nodiscard]] static result<controller> attach(Backend& backend,
                                                 controller_options options = {}) noexcept {
    if constexpr (requires { backend.claim(); }) {
      if (const auto mine = backend.claim(); !mine) return mine.error();
    }
    auto bar = backend.map_bar(0);
    if (!bar) {
      unclaim(backend);
      return bar.error();
    }
    return started(backend, *bar, options);
  }

  controller(controller&& other) noexcept
      : session_(std::move(other.session_)),
        slots_(std::exchange(other.slots_, {})),
        shadow_(std::exchange(other.shadow_, {})),
        shadow_on_(std::exchange(other.shadow_on_, false)),
        granted_(std::exchange(other.granted_, std::uint16_t{0})),
        refused_(other.refused_),
        next_generation_(other.next_generation_),
        namespaces_(other.namespaces_),
        events_(other.events_),
        event_count_(std::exchange(other.event_count_, 0U)),
        lost_events_(other.lost_events_) {
    registry_.take_over(other.registry_, this);
  }
  controller& operator=(controller&&) = delete;
  ~controller() { detach(); }

  // Ends the queues, notifies the controller of a shutdown (unless the options disable that),
  // disables it and returns its memory. If it neither stops nor is gone, the memory is never
  // released: the device may still write to it. Only detached() can be called afterwards.
  void detach() noexcept {
    if (session_.detached()) return;
    if (session_.running() && session_.options().shut_down_on_detach) {
      // A controller that broke the protocol is notified too: it may have data in its cache.
      const auto well = session_.check();
      if (well || well.error().code != errc::removed) (void)shut_down();
    }
    const auto stopped = session_.stop();
    const bool safe = stopped || stopped.error().code == errc::removed;
    end_queues(safe ? queue_end::detached : queue_end::abandoned);
    if (safe) release_all();
    session_.close(queue_end::detached);
    session_.set_state(session::state::detached);
    granted_ = 0;
    unclaim(session_.backend());
  }
  [[nodiscard]] bool detached() const noexcept { return session_.detached(); }

  // Deletes the queues, notifies the device of the shutdown (CC.SHN) and waits for it (CSTS.SHST); then only
  // reset() and detach() are of use.
  [[nodiscard]] result<> shut_down(
      shutdown_notification how = shutdown_notification::normal) noexcept {
    if (session_.running()) delete_all_queues();
    return noticed(session_.shut_down(how));
  }

  // Starts over: the queues that were made are ended, their memory is free again.
  [[nodiscard]] result<> reset() noexcept {
    if (session_.detached()) return session_.not_running();
    if (const auto stopped = session_.stop(); !stopped) return noticed(stopped);
    end_queues(queue_end::reset);
    release_all();
    return start();
  }

  [[nodiscard]] const identify_controller& identity() const noexcept { return session_.identity(); }
  [[nodiscard]] cap capabilities() const noexcept { return session_.capabilities(); }
  [[nodiscard]] const driver::quirks& quirks() const noexcept { return session_.quirks(); }
  [[nodiscard]] std::uint16_t granted_queues() const noexcept { return granted_; }
  // The status of Number of Queues where the controller refused it, which leaves no I/O queues.
  [[nodiscard]] std::optional<nvme::status> queues_refused() const noexcept { return refused_; }
  // Bytes that one command may move.
  [[nodiscard]] std::uint32_t max_transfer() const noexcept { return session_.max_transfer(); }
  [[nodiscard]] Backend& backend() noexcept { return session_.backend(); }
  [[nodiscard]] bar_type& registers() noexcept { return session_.registers(); }

  // Whether the device is there and well: removed, or protocol where CSTS.CFS is set or it has answered what
  // was not asked. Reads a register, so not once per command. Where it is gone, each queue ends at its
  // next use by its own thread.
  [[nodiscard]] result<> check() noexcept { return noticed(session_.check()); }

  // Any admin command and its answer; a status other than success is an answer too.
  [[nodiscard]] result<completion> execute(const submission_entry& command) noexcept {
    return after(command, session_.execute(command));
  }
  [[nodiscard]] result<completion> execute(const submission_entry& command,
                                           const dma_region& data) noexcept {
    return after(command, session_.execute(command, data));
  }
  // ... of which anything but success is an error that quotes the status.
  template <class... Data>
  [[nodiscard]] result<completion> execute_checked(const char* what,
                                                   const submission_entry& command,
                                                   const Data&... data) noexcept {
    return after(command, session_.execute_checked(what, command, data...));
  }
  // The 4096 bytes of any Identify data structure.
  [[nodiscard]] result<> identify(const identify_command& what, std::span<std::byte> out) noexcept {
    return noticed(session_.identify(what, out));
  }
  [[nodiscard]] result<std::uint32_t> get_feature(feature_id which,
                                                  std::uint32_t nsid = 0) noexcept {
    return noticed(session_.get_feature(which, nsid));
  }
  [[nodiscard]] result<std::uint32_t> set_feature(feature_id which, std::uint32_t value,
                                                  std::uint32_t nsid = 0) noexcept {
    return noticed(session_.set_feature(which, value, nsid));
  }
  // The first out.size() bytes of a log page: a multiple of 4, at most 4096. Reading an event's log
  // page lets the device report its kind again.
  [[nodiscard]] result<> get_log_page(log_page_id which, std::span<std::byte> out,
                                      std::uint32_t nsid = all_namespaces) noexcept {
    return noticed(session_.get_log_page(which, out, nsid));
  }

  // Asks for a command to be aborted. False: the device had not got to it, or was already done; it
  // completes by itself either way, and its id stays in use until then.
  [[nodiscard]] result<bool> abort(std::uint16_t qid, std::uint16_t command_id) noexcept {
    const auto answer = execute_checked("Abort was refused; status", admin::abort(qid, command_id));
    if (!answer) return answer.error();
    return !abort_command::not_aborted.get(answer->dw0());
  }
  // ... of a queue's command. Errors: removed (the queue has ended), invalid_argument (of another
  // controller), not_found (the id is not in flight).
  template <class Queue>
    requires std::derived_from<Queue, detail::queue_link>
  [[nodiscard]] result<bool> abort(const Queue& queue, std::uint16_t command_id) noexcept {
    if (const auto mine = check_queue(queue); !mine) return mine.error();
    if (!queue.is_in_flight(command_id)) {
      return failure(errc::not_found, "no command with this id is in flight", command_id)
          .at(queue.qid());
    }
    return abort(queue.qid(), command_id);
  }

  // Takes admin completions that are there; events are then to be had from next_event(). A notice of changed
  // namespaces makes queues refuse the handles that were made before.
  void poll() noexcept {
    session_.poll();
    take_events();
  }
  // The oldest event not yet looked at; more than 8 are not kept. The device sends no more of its type until its log page
  // was read (Base 2.0, 5.2).
  [[nodiscard]] std::optional<async_event> next_event() noexcept {
    if (event_count_ == 0) return std::nullopt;
    const async_event first = events_[0];
    for (unsigned i = 1; i != event_count_; ++i) events_[i - 1] = events_[i];
    --event_count_;
    return first;
  }

  // The format of an active namespace: the handle for its reads and writes.
  [[nodiscard]] result<namespace_info> identify_namespace(std::uint32_t nsid) noexcept {
    // The fields are copied out of the answer one by one: the whole of it is too much for a stack of firmware.
    using id = struct identify_namespace;
    const auto asked =
        noticed(session_.identify_in_scratch({.cns = cns::identify_namespace, .nsid = nsid}));
    if (!asked) return asked.error().at(nsid);
    detail::namespace_fields ns{
        .nsze = session_.template scratch_field<le<std::uint64_t>>(offsetof(id, nsze)),
        .noiob = session_.template scratch_field<le<std::uint16_t>>(offsetof(id, noiob)),
        .flbas = session_.template scratch_field<std::uint8_t>(offsetof(id, flbas)),
        .dps = session_.template scratch_field<std::uint8_t>(offsetof(id, dps))};
    const std::uint8_t index = id::format_index_of(
        ns.flbas, session_.template scratch_field<std::uint8_t>(offsetof(id, nlbaf)),
        session_.template scratch_field<std::uint8_t>(offsetof(id, nulbaf)));
    ns.format = session_.template scratch_field<lba_format>(offsetof(id, lbaf) +
                                                            index * sizeof(lba_format));
    if (ns.nsze == 0) {
      return failure(errc::not_found, "there is no active namespace with this id", nsid);
    }
    if (ns.block_bytes() == 0) {
      return failure(errc::protocol, "the namespace has an impossible block size; its log2",
                     ns.format.lbads);
    }
    if (ns.nsze > ~std::uint64_t{0} >> ns.format.lbads) {
      return failure(errc::protocol, "the namespace has more than 2^64 bytes; its blocks", ns.nsze);
    }
    namespace_info info = detail::describe(nsid, ns);
    if (info.is_protected() && extended_formats()) {
      const auto known =
          session_.identify_in_scratch({.cns = cns::command_set_namespace, .nsid = nsid});
      if (known) {
        ns.extended_format = session_.template scratch_field<le<std::uint32_t>>(
            offsetof(nvm_identify_namespace, elbaf) + index * sizeof(std::uint32_t));
        info = detail::describe(nsid, ns);
      }
    }
    info.generation = namespaces_;
    return info;
  }
  // Whether a namespace is of another command set than NVM (a zoned one, for instance): Identify CNS 03h,
  // where the controller has several sets; else false.
  [[nodiscard]] result<command_set> command_set_of(std::uint32_t nsid) noexcept {
    if (!capabilities()[cap::css_iocs]) return command_set::nvm;
    std::array<std::byte, 4096> page;
    const auto asked =
        session_.identify({.cns = cns::namespace_id_descriptors, .nsid = nsid}, page);
    if (!asked) {
      if (asked.error().code == errc::io) return command_set::nvm;  // optional before 1.3
      return noticed(asked).error();
    }
    const auto set = find_namespace_id(page, namespace_id_type::command_set);
    return set.size() == 1 ? static_cast<command_set>(set[0]) : command_set::nvm;
  }

  // Reads the log page of changed namespaces, which lets the device report them again, and makes queues
  // refuse the handles that were made before.
  [[nodiscard]] result<> rescan() noexcept {
    std::array<std::byte, 4096> log;
    const auto read = get_log_page(log_page_id::changed_namespaces, log);
    namespaces_changed();
    if (!read && read.error().code != errc::io) return read;  // a controller without the page
    return {};
  }

  // The ids of active namespaces above `after`, ascending, as many as fit; returns how many. A controller
  // of version 1.0 has no list: its ids are tried one by one, at most `max_probes`.
  [[nodiscard]] result<std::size_t> active_namespaces(std::span<std::uint32_t> out,
                                                      std::uint32_t after = 0) noexcept {
    std::size_t count = 0;
    while (count != out.size()) {
      session_.clear_scratch();
      const auto answer = execute(
          admin::identify({.cns = cns::active_namespace_list, .nsid = after}), session_.scratch());
      if (!answer) return answer.error();
      if (!answer->ok()) {
        if (count == 0) return probe_namespaces(out, after);
        return failure(errc::io, "the list of active namespaces was refused; status",
                       answer->status().raw())
            .of(text(answer->status()));
      }
      std::size_t here = 0;
      for (; count != out.size() && here != 1024; ++here) {
        const auto nsid =
            load_wire<le<std::uint32_t>>(session_.scratch().bytes.subspan(4 * here)).get();
        if (nsid == 0) return count;
        // The list is ascending; one that is not would be read for ever.
        if (nsid <= after) {
          return failure(errc::protocol, "the list of active namespaces is not ascending", nsid);
        }
        // A command with such an id would be for all namespaces.
        if (nsid > last_namespace) {
          return failure(errc::protocol,
                         "the list of active namespaces has an id that none can have", nsid);
        }
        out[count++] = after = nsid;
      }
    }
    return count;
  }

  // Makes a completion queue and a submission queue on it. Errors: out_of_range (deeper than CAP.MQES
  // or the template's MaxDepth), exhausted (ids or memory), io (refused by the device, which leaves
  // nothing behind), not_supported while shadow doorbells are on: the device then follows the words
  // in memory of every I/O queue, and would never see this one's registers.
  template <class Token = completion_callback, unsigned MaxDepth = 256,
            class EntryStore = cached_store>
  [[nodiscard]] result<io_queue<Token, MaxDepth, EntryStore>> create_queue_pair(
      const queue_options& options = {}, queue_kind<Token, MaxDepth, EntryStore> = {}) noexcept {
    using queue = io_queue<Token, MaxDepth, EntryStore>;
    if (shadow_on_) {
      return failure(errc::not_supported,
                     "shadow doorbells are on: make the queue by create_shadowed_queue_pair()");
    }
    const auto layout = create(options, MaxDepth);
    if (!layout) return layout.error();
    // Made in the caller's result, not moved there.
    return result<queue>{in_place_queue<queue, doorbell_type>{
        *layout, session_.sq_doorbell(layout->qid), session_.cq_doorbell(layout->qid), registry_,
        slots_[layout->qid].generation}};
  }

  // Deletes the submission queue, takes what the device still reports, deletes the completion queue,
  // ends what is left with aborted_queue_deletion, and frees the memory: in this order. Each command
  // that was in flight ends with its callback, or with done(token, completion). After a failure it may be
  // tried again. Errors: removed (the queue has ended), invalid_argument (of another controller), and what
  // the device answers.
  template <class Queue, std::invocable<typename Queue::token_type&, completion> Done>
  [[nodiscard]] result<> delete_queue_pair(Queue& queue, Done&& done) noexcept {
    if (const auto mine = check_queue(queue); !mine) return mine;
    const auto each = [&](typename Queue::token_type& token, completion c) noexcept {
      if (!queue.observed() || !queue.deliver(token, c)) done(token, c);
    };
    const auto deleted = delete_at_device(queue.qid(), [&]() noexcept { (void)queue.poll(each); });
    if (!deleted) return deleted;
    queue.forget_controller();
    if (!queue.observed()) (void)queue.fail_all(status_code::aborted_queue_deletion, done);
    queue.end(queue_end::deleted);
    return {};
  }
  template <class Queue>
    requires std::invocable<typename Queue::token_type&, completion>
  [[nodiscard]] result<> delete_queue_pair(Queue& queue) noexcept {
    return delete_queue_pair(queue, [](auto& call, completion c) noexcept { call(c); });
  }

  // Gives the device two pages in which queues leave their indices (Doorbell Buffer Config). Only
  // after a success may shadowed queues be made; a refusal leaves everything as it was. To be called
  // before the first queue is made (else busy): queues without shadows would not be followed any more.
  // After a time-out the device may have the pages: they are kept until reset() or detach(), and until then
  // this is not tried again.
  [[nodiscard]] result<> enable_shadow_doorbells() noexcept {
    if (!session_.running()) return session_.not_running();
    if (!identify_controller::oacs_doorbell_buffer.get(identity().oacs.get())) {
      return failure(errc::not_supported, "the controller has no Doorbell Buffer Config (OACS)");
    }
    if (shadow_on_) return {};
    if (shadow_.size() != 0) {
      return failure(errc::not_ready,
                     "Doorbell Buffer Config was never answered: reset the controller first");
    }
    for (std::uint16_t qid = 1; qid <= granted_; ++qid) {
      if (!slots_[qid].memory) continue;
      return failure(errc::busy, "a queue without shadow doorbells exists: delete it first")
          .at(qid);
    }
    const std::size_t page = page_bytes();
    if (completion_doorbell_offset(granted_, stride()) - first_doorbell >= page) {
      return failure(errc::not_supported, "the doorbells do not fit into one page (CAP.DSTRD)",
                     stride());
    }
    const auto pages = backend().allocate(2 * page, page);
    if (!pages) return pages.error();
    const auto answer =
        execute_checked("Doorbell Buffer Config was refused; status",
                        admin::doorbell_buffer_config(pages->bus, pages->bus + page));
    if (!answer && answer.error().code == errc::io) {
      backend().release(*pages);
      return answer.error();
    }
    shadow_ = *pages;
    shadow_on_ = answer.has_value();
    if (!answer) return answer.error();
    return {};
  }
  template <class Token = completion_callback, unsigned MaxDepth = 256>
  [[nodiscard]] result<shadowed_io_queue<Token, MaxDepth>> create_shadowed_queue_pair(
      const queue_options& options = {}, queue_kind<Token, MaxDepth> = {}) noexcept {
    using queue = shadowed_io_queue<Token, MaxDepth>;
    using doorbell = ring::shadow_doorbell<doorbell_type, order>;
    if (!shadow_on_) {
      return failure(errc::not_ready, "shadow doorbells are off: enable_shadow_doorbells() first");
    }
    const auto layout = create(options, MaxDepth);
    if (!layout) return layout.error();
    const std::uint16_t qid = layout->qid;
    return result<queue>{in_place_queue<queue, doorbell>{
        *layout, shadowed(submission_doorbell_offset(qid, stride()), session_.sq_doorbell(qid)),
        shadowed(completion_doorbell_offset(qid, stride()), session_.cq_doorbell(qid)), registry_,
        slots_[qid].generation}};
  }

 private:
  friend handover_access;
  static constexpr std::uint32_t max_probes = 1024;
  static constexpr std::uint32_t last_namespace = 0xffff'fffd;  // FFFFFFFEh and FFFFFFFFh are none
  static constexpr unsigned max_events = 8;

  // Becomes a queue where it is converted: in a result, not beside it.
  template <class Queue, class Doorbell>
  struct in_place_queue {
    const queue_layout& layout;
    Doorbell submission;
    Doorbell completion;
    detail::queue_registry& registry;
    std::uint32_t generation;

    operator Queue() const noexcept {
      return Queue{layout, submission, completion, registry, generation};
    }
  };
  struct in_place_controller {
    Backend& backend;
    bar_type&& bar;
    const controller_options& options;

    operator controller() const noexcept { return {backend, std::move(bar), options}; }
  };
  // The controller's state for each queue id.
  struct queue_slot {
    queue_memory memory;
    std::uint32_t generation = 0;
    bool submission_deleted = false;  // Delete I/O Submission Queue has completed already
  };

  controller(Backend& backend, bar_type&& bar, const controller_options& options) noexcept
      : session_(backend, std::move(bar), options), registry_(this, calls) {}

  static constexpr detail::controller_calls calls{
      .delete_queue = [](void* self, detail::queue_link& queue) noexcept -> result<> {
        auto& c = *static_cast<controller*>(self);
        const auto deleted = c.delete_at_device(queue.qid(), [&]() noexcept { queue.poll_own(); });
        if (deleted) queue.forget_controller();
        return deleted;
      },
      .check = [](void* self) noexcept -> result<> {
        return static_cast<controller*>(self)->check();
      },
      .poll_until = [](void* self, std::uint64_t nanoseconds, bool (*done)(void*) noexcept,
                       void* argument) noexcept -> bool {
        return phasebit::poll_until(static_cast<controller*>(self)->backend().clock(), nanoseconds,
                                    [&]() noexcept { return done(argument); });
      },
  };

  static void unclaim(Backend& backend) noexcept {
    if constexpr (requires { backend.unclaim(); }) backend.unclaim();
  }
  [[nodiscard]] std::size_t page_bytes() const noexcept {
    return std::size_t{1} << session_.page_shift();
  }
  [[nodiscard]] std::uint8_t stride() const noexcept { return capabilities()[cap::dstrd]; }
  [[nodiscard]] bool extended_formats() const noexcept {
    return (identity().ctratt.get() & identify_controller_elbas) != 0;
  }
  static constexpr std::uint32_t identify_controller_elbas = 1U << 15;  // CTRATT bit 15

  // One variable is returned, so that it is made in the caller's result: a controller is too large for a frame.
  [[nodiscard]] static result<controller> started(Backend& backend, bar_type& bar,
                                                  const controller_options& options) noexcept {
    result<controller> made{in_place_controller{backend, std::move(bar), options}};
    if (const auto up = made->start(); !up) made.fail(up.error());
    return made;
  }
  [[nodiscard]] result<> start() noexcept {
    granted_ = 0;
    refused_.reset();
    event_count_ = 0;
    lost_events_ = 0;
    namespaces_changed();
    if (const auto up = session_.start(); !up) return noticed(up);
    if (const auto queues = ask_for_queues(); !queues) return noticed(queues);
    // Notices of changed namespaces, where the controller has them (OAES bit 8).
    if ((identity().oaes.get() & 0x100U) != 0) {
      const auto on = session_.set_feature(feature_id::async_event_configuration, 0x1ffU, 0);
      if (!on && on.error().code != errc::io) return noticed(on).error();
    }
    return session_.arm_events(session_.options().async_events);
  }
  [[nodiscard]] result<> ask_for_queues() noexcept {
    const std::uint16_t asked = session_.options().io_queues;
    const std::uint16_t wanted = asked < MaxQueues ? asked : static_cast<std::uint16_t>(MaxQueues);
    if (wanted == 0) return {};
    const auto answer = session_.execute(admin::set_features(
        {.fid = feature_id::number_of_queues, .cdw11 = number_of_queues::of(wanted, wanted).raw}));
    if (!answer) return answer.error();
    if (!answer->ok()) {
      refused_ = answer->status();
      return {};
    }
    const number_of_queues got{answer->dw0()};
    granted_ = wanted;
    if (got.submission_queues() < granted_) {
      granted_ = static_cast<std::uint16_t>(got.submission_queues());
    }
    if (got.completion_queues() < granted_) {
      granted_ = static_cast<std::uint16_t>(got.completion_queues());
    }
    // For queues that the device grants BAR 0 may have no doorbells.
    while (granted_ != 0 && register_bytes(granted_, stride()) > registers().size_bytes()) {
      --granted_;
    }
    return {};
  }

  // Notifies the queues if the device was found removed.
  template <class Result>
  [[nodiscard]] Result noticed(Result answer) noexcept {
    if (!answer && answer.error().code == errc::removed && session_.running()) {
      registry_.for_each([](detail::queue_link& q) noexcept { q.note_gone(); });
    }
    return answer;
  }
  [[nodiscard]] result<completion> after(const submission_entry& command,
                                         result<completion> answer) noexcept {
    if (answer && answer->ok()) {
      switch (static_cast<admin_opcode>(command.opcode())) {
        case admin_opcode::format_nvm:
        case admin_opcode::namespace_management:
        case admin_opcode::namespace_attachment:
          namespaces_changed();
          break;
        default:
          break;
      }
    }
    take_events();
    return noticed(answer);
  }
  // A notice is acted upon whether or not the user looks at events.
  void take_events() noexcept {
    while (const auto event = session_.next_event()) {
      if (event->type() == async_event_type::notice &&
          event->information() == static_cast<std::uint8_t>(notice_event::namespace_attributes)) {
        namespaces_changed();
      }
      if (event_count_ != max_events) events_[event_count_++] = *event;
    }
    // One that was lost may have been a notice.
    if (session_.lost_events() != lost_events_) {
      lost_events_ = session_.lost_events();
      namespaces_changed();
    }
  }
  void namespaces_changed() noexcept {
    ++namespaces_;
    registry_.for_each([&](detail::queue_link& q) noexcept { q.note_namespaces(namespaces_); });
  }

  [[nodiscard]] result<std::size_t> probe_namespaces(std::span<std::uint32_t> out,
                                                     std::uint32_t after) noexcept {
    std::size_t count = 0;
    std::uint32_t last = identity().nn;
    if (last > after && last - after > max_probes) last = after + max_probes;
    for (std::uint32_t nsid = after; nsid < last && count != out.size();) {
      const auto found = identify_namespace(++nsid);
      if (found) {
        out[count++] = nsid;
      } else if (found.error().code != errc::not_found && found.error().code != errc::io) {
        return found.error();
      }
    }
    return count;
  }

  [[nodiscard]] result<> check_queue(const detail::queue_link& queue) const noexcept {
    if (queue.closed()) return failure(errc::removed, text(queue.end_reason())).at(queue.qid());
    if (!queue.belongs_to(registry_)) {
      return failure(errc::invalid_argument, "the queue is not one of this controller")
          .at(queue.qid());
    }
    return {};
  }

  [[nodiscard]] result<queue_layout> create(const queue_options& options,
                                            unsigned max_depth) noexcept {
    if (!session_.running()) return session_.not_running();
    const std::uint32_t deepest = capabilities().max_queue_entries() < max_depth
                                      ? capabilities().max_queue_entries()
                                      : max_depth;
    const std::uint32_t depth = options.depth != 0 ? options.depth : deepest < 128 ? deepest : 128;
    if (depth < 2 || depth > deepest) {
      return failure(
          errc::out_of_range,
          "a queue has at least 2 entries, and at most what CAP.MQES and MaxDepth allow; "
          "asked for",
          depth);
    }
    if (granted_ == 0 && refused_) {
      return failure(errc::exhausted,
                     "the controller granted no I/O queues: it refused Number of Queues; status",
                     refused_->raw())
          .of(text(*refused_));
    }
    std::uint16_t qid = 1;
    while (qid <= granted_ && slots_[qid].memory) ++qid;
    if (qid > granted_) {
      return failure(errc::exhausted, "all queue pairs that the controller granted are in use",
                     granted_);
    }
    namespace_info format{.generation = namespaces_};
    if (options.nsid != 0) {
      const auto ns = identify_namespace(options.nsid);
      if (!ns) return ns.error();
      format = *ns;
    }
    const std::uint32_t most = options.max_transfer != 0 && options.max_transfer < max_transfer()
                                   ? options.max_transfer
                                   : max_transfer();
    auto memory = queue_memory::allocate(backend(), depth, most, session_.page_shift(),
                                         {.metadata_bytes = metadata_bytes_for(format, most),
                                          .entry_shift = session_.submission_shift(),
                                          .list_alignment = session_.quirks().list_alignment});
    if (!memory) return memory.error().at(qid);

    if (shadow_on_) clear_shadows(qid);
    const auto cq =
        execute_checked("Create I/O Completion Queue was refused; status",
                        admin::create_io_cq({.qid = qid,
                                             .entries = depth,
                                             .memory = memory->completion.bus,
                                             .vector = options.interrupt.value_or(0),
                                             .interrupts = options.interrupt.has_value()}));
    if (!cq) return give_up(*memory, cq.error(), qid, cq.error().code != errc::io);
    const auto sq = execute_checked(
        "Create I/O Submission Queue was refused; status",
        admin::create_io_sq(
            {.qid = qid, .entries = depth, .memory = memory->submission.bus, .cqid = qid}));
    if (!sq) {
      const bool undone =
          sq.error().code == errc::io &&
          execute_checked("undoing a queue failed; status", admin::delete_io_cq(qid));
      return give_up(*memory, sq.error(), qid, !undone);
    }
    slots_[qid] = {
        .memory = *memory, .generation = ++next_generation_, .submission_deleted = false};
    return slots_[qid].memory.layout(qid, most, session_.page_shift(), format);
  }
  // A buffer for the separate metadata of each command, of up to 4 KiB: longer metadata takes the caller's.
  [[nodiscard]] static std::uint32_t metadata_bytes_for(const namespace_info& ns,
                                                        std::uint32_t max_transfer) noexcept {
    if (ns.metadata_bytes == 0 || ns.metadata_inline || ns.strips()) return 0;
    const std::uint64_t most = std::uint64_t{max_transfer >> ns.block_shift} * ns.metadata_bytes;
    return static_cast<std::uint32_t>(
        align_up(most < 4096 ? most : std::uint64_t{4096}, std::uint64_t{cache_line}));
  }
  // If the device refused, the memory is released; if it did not respond, or still has a queue, it
  // keeps the memory until it was disabled.
  [[nodiscard]] error give_up(queue_memory& memory, const error& why, std::uint16_t qid,
                              bool device_has_it) noexcept {
    if (device_has_it) {
      slots_[qid] = {
          .memory = memory, .generation = ++next_generation_, .submission_deleted = false};
    } else {
      memory.release(backend());
    }
    return why.at(qid);
  }

  // Both Delete commands of a queue, with between() after the first, and the memory's release.
  template <class Between>
  [[nodiscard]] result<> delete_at_device(std::uint16_t qid, Between&& between) noexcept {
    queue_slot& slot = slots_[qid];
    if (!slot.submission_deleted) {
      const auto sq = execute_checked("Delete I/O Submission Queue was refused; status",
                                      admin::delete_io_sq(qid));
      if (!sq) return sq.error().at(qid);
      slot.submission_deleted = true;
    }
    between();
    const auto cq = execute_checked("Delete I/O Completion Queue was refused; status",
                                    admin::delete_io_cq(qid));
    if (!cq) return cq.error().at(qid);
    slot.memory.release(backend());
    slot = {};
    return {};
  }
  void delete_all_queues() noexcept {
    for (unsigned n = 1; n <= MaxQueues; ++n) {
      const auto qid = static_cast<std::uint16_t>(n);
      if (!slots_[qid].memory) continue;
      detail::queue_link* const queue = registry_.find(qid);
      const auto deleted = delete_at_device(qid, [&]() noexcept {
        if (queue != nullptr) queue->poll_own();
      });
      if (!deleted) return;  // what is left ends with the controller
      if (queue == nullptr) continue;
      queue->forget_controller();
      queue->end(queue_end::deleted);
    }
  }
  void end_queues(queue_end why) noexcept { registry_.end_all(why); }
  // Only after the device was stopped, or is gone.
  void release_all() noexcept {
    for (queue_slot& slot : slots_) {
      if (slot.memory) slot.memory.release(backend());
      slot = {};
    }
    if (shadow_.size() != 0) backend().release(shadow_);
    shadow_ = {};
    shadow_on_ = false;
    session_.release();
  }

  // An event index that an earlier queue of this id left behind would keep a new one from ringing,
  // where the device does not begin it anew itself.
  void clear_shadows(std::uint16_t qid) noexcept {
    for (const auto offset :
         {submission_doorbell_offset(qid, stride()), completion_doorbell_offset(qid, stride())}) {
      auto* words = shadow_.data() + static_cast<std::size_t>(offset - first_doorbell);
      order::store(*reinterpret_cast<le<std::uint32_t>*>(words), 0U);
      order::store(*reinterpret_cast<le<std::uint32_t>*>(words + page_bytes()), 0U);
    }
  }
  // The two buffers have the layout of the doorbells themselves (Base 2.0, annex B.5).
  [[nodiscard]] ring::shadow_doorbell<doorbell_type, order> shadowed(std::uint64_t offset,
                                                                     doorbell_type real) noexcept {
    const auto at = int_cast<std::size_t>(offset - first_doorbell);
    auto* words = shadow_.data() + at;
    return {*reinterpret_cast<le<std::uint32_t>*>(words),
            *reinterpret_cast<const le<std::uint32_t>*>(words + page_bytes()), real};
  }

  session session_;
  detail::queue_registry registry_;
  std::array<queue_slot, MaxQueues + 1> slots_{};
  dma_region shadow_{};  // two pages: indices, event indices
  bool shadow_on_ = false;
  std::uint16_t granted_ = 0;
  std::optional<nvme::status> refused_{};
  std::uint32_t next_generation_ = 0;
  std::uint32_t namespaces_ = 0;  // how often a namespace has changed
  std::array<async_event, max_events> events_{};
  unsigned event_count_ = 0;
  std::uint32_t lost_events_ = 0;
};

// Attaches to the controller behind a function: see controller::attach().
template <PcieBackend Backend>
[[nodiscard]] result<controller<Backend>> attach(Backend& backend,
                                                 const controller_options& options = {}) noexcept {
  return controller<Backend>::attach(backend, options);
}

}  // namespace phasebit::nvme::driver
