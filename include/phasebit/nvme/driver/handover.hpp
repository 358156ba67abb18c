// SPDX-License-Identifier: BSL-1.0
// Hand-over of a running driver to another process: the state of a controller and of its queues is saved as bytes, and
// taken up again over the same memory while the controller stays enabled and commands are in flight.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/spec/registers.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::driver {

// Memory that another process has allocated and the device uses: the region at exactly this bus address, not cleared,
// and taken from what allocate() gives.
template <class T>
concept AdoptableMemory = DmaMemory<T> && requires(T& memory, bus_addr begin, std::size_t bytes) {
  { memory.adopt(begin, bytes) } noexcept -> std::same_as<result<dma_region>>;
};

namespace detail {

// Little-endian numbers, one after another.
class state_writer {
 public:
  explicit state_writer(std::span<std::byte> out) noexcept : out_(out) {}
  template <std::unsigned_integral T>
  void put(T value) noexcept {
    const le<T> wire{value};
    put_bytes(&wire, sizeof wire);
  }
  void put_bytes(const void* from, std::size_t bytes) noexcept {
    if (bytes <= out_.size() && used_ <= out_.size() - bytes) {
      __builtin_memcpy(out_.data() + used_, from, bytes);
    } else {
      fits_ = false;
    }
    used_ += bytes;
  }
  void put_region(const dma_region& region) noexcept {
    put(region.size() != 0 ? region.bus.value() : std::uint64_t{0});
    put(std::uint64_t{region.size()});
  }
  [[nodiscard]] result<std::size_t> finish() noexcept {
    if (fits_) return used_;
    return failure(errc::out_of_range,
                   "the buffer is too small for the driver's state; its bytes are", used_);
  }

 private:
  std::span<std::byte> out_;
  std::size_t used_ = 0;
  bool fits_ = true;
};

class state_reader {
 public:
  explicit state_reader(std::span<const std::byte> in) noexcept : in_(in) {}
  template <std::unsigned_integral T>
  [[nodiscard]] T take() noexcept {
    le<T> wire{};
    take_bytes(&wire, sizeof wire);
    return wire.get();
  }
  void take_bytes(void* to, std::size_t bytes) noexcept {
    if (!good_ || bytes > in_.size() - used_) {
      good_ = false;
      return;
    }
    __builtin_memcpy(to, in_.data() + used_, bytes);
    used_ += bytes;
  }
  // Whether everything was there so far.
  [[nodiscard]] bool good() const noexcept { return good_; }
  [[nodiscard]] bool at_end() const noexcept { return good_ && used_ == in_.size(); }

 private:
  std::span<const std::byte> in_;
  std::size_t used_ = 0;
  bool good_ = true;
};

inline constexpr std::uint32_t controller_state_magic = 0x4f48'4350;  // "PCHO"
inline constexpr std::uint32_t queue_state_magic = 0x4f48'5150;       // "PQHO"
inline constexpr std::uint32_t handover_version = 1;

[[nodiscard]] inline error bad_state(const char* what) noexcept {
  return failure(errc::invalid_argument, what);
}

// A region of the saved state as this process reaches it; an empty one stays empty.
template <AdoptableMemory Memory>
[[nodiscard]] result<dma_region> adopt_region(Memory& memory, state_reader& in) noexcept {
  const auto bus = in.take<std::uint64_t>();
  const auto bytes = in.take<std::uint64_t>();
  if (!in.good()) return bad_state("the saved state is cut short");
  if (bytes == 0) return dma_region{};
  if (bytes > ~std::size_t{0} - bus) return bad_state("a region of the saved state wraps");
  return memory.adopt(bus_addr{bus}, static_cast<std::size_t>(bytes));
}

}  // namespace detail

// The hand-over itself; controller and queue_pair let it at their members.
struct handover_access {
  // Admin requests and positions. Commands other than event requests are answered before execute() returns.
  template <class Controller>
  static result<std::size_t> save_controller(Controller& c, std::span<std::byte> out) noexcept {
    auto& s = c.session_;
    if (!s.running()) return s.not_running();
    if (s.admin_.broken()) {
      return failure(errc::not_ready,
                     "an earlier admin command was never answered: reset the controller first");
    }
    if (c.shadow_on_ || c.shadow_.size() != 0) {
      return failure(errc::not_supported, "a controller with shadow doorbells is not handed over");
    }
    for (std::uint16_t qid = 1; qid <= c.granted_; ++qid) {
      if (!c.slots_[qid].memory || c.registry_.find(qid) == nullptr) continue;
      return failure(errc::busy, "a queue is in use: save_queue() comes first").at(qid);
    }
    c.poll();
    auto& q = s.admin_.queue_;
    q.ring();
    detail::state_writer w{out};
    w.put(detail::controller_state_magic);
    w.put(detail::handover_version);
    w.put(s.caps_.raw);
    w.put(std::uint32_t{s.page_shift_});
    w.put(std::uint32_t{c.granted_});
    w.put(c.next_generation_);
    put_memory(w, s.memory_);
    w.put_region(s.scratch_);
    w.put(q.submission_.tail());
    w.put(q.completion_.head());
    w.put(std::uint32_t{q.completion_.phase()});
    w.put(q.slots_.mark());
    w.put(std::uint32_t{q.in_flight()});
    q.slots_.save(
        [&](std::uint32_t number, std::uint32_t, const auto&) noexcept { w.put(number); });
    w.put(std::uint32_t{c.event_count_});
    for (unsigned i = 0; i != c.event_count_; ++i) w.put(c.events_[i].raw);
    std::uint32_t queues = 0;
    for (const auto& slot : c.slots_) queues += slot.memory ? 1U : 0U;
    w.put(queues);
    for (std::uint32_t qid = 0; qid != c.slots_.size(); ++qid) {
      const auto& slot = c.slots_[qid];
      if (!slot.memory) continue;
      w.put(qid);
      w.put(slot.generation);
      w.put(std::uint32_t{slot.submission_deleted});
      put_memory(w, slot.memory);
    }
    const auto done = w.finish();
    if (!done) return done;
    // From here on nothing is written to the device, and no memory is given back.
    for (auto& slot : c.slots_) slot = {};
    s.memory_ = {};
    s.scratch_ = {};
    s.close(queue_end::handed_over);
    s.set_state(std::remove_reference_t<decltype(s)>::state::detached);
    c.granted_ = 0;
    Controller::unclaim(s.backend());
    return done;
  }

  template <class Controller, class Backend>
  static result<Controller> restore_controller(Backend& backend, std::span<const std::byte> saved,
                                               const controller_options& options) noexcept {
    detail::state_reader r{saved};
    const auto magic = r.take<std::uint32_t>();
    const auto version = r.take<std::uint32_t>();
    if (!r.good() || magic != detail::controller_state_magic) {
      return detail::bad_state("these bytes are no saved state of a controller");
    }
    if (version != detail::handover_version) {
      return failure(errc::not_supported,
                     "the controller's state was saved by another version; its number", version);
    }
    if constexpr (requires { backend.claim(); }) {
      if (const auto mine = backend.claim(); !mine) return mine.error();
    }
    auto bar = backend.map_bar(0);
    if (!bar) {
      Controller::unclaim(backend);
      return bar.error();
    }
    using in_place = typename Controller::in_place_controller;
    result<Controller> made{in_place{backend, std::move(*bar), options}};
    if (const auto up = fill(*made, r); !up) {
      // The device may be using all of it: nothing is given back, nothing is switched off.
      abandon(*made);
      return up.error();
    }
    return made;
  }

  template <class Controller, class Queue>
  static result<std::size_t> save_queue(Controller& c, Queue& q,
                                        std::span<std::byte> out) noexcept {
    using token = typename Queue::token_type;
    static_assert(!std::invocable<token&, completion>,
                  "callbacks have no meaning in another process: make the queue with tokens");
    if (const auto mine = c.check_queue(q); !mine) return mine.error();
    if (q.gone()) return removed_error();
    q.ring();
    q.completion_.ring();
    detail::state_writer w{out};
    w.put(detail::queue_state_magic);
    w.put(detail::handover_version);
    w.put(std::uint32_t{q.qid()});
    w.put(q.generation());
    w.put(std::uint32_t{sizeof(token)});
    w.put(q.depth());
    w.put(q.max_transfer_);
    w.put(q.nsid_);
    w.put(q.submission_.tail());
    w.put(q.completion_.head());
    w.put(std::uint32_t{q.completion_.phase()});
    w.put(q.slots_.mark());
    w.put(q.tick_);
    w.put(std::uint32_t{q.in_flight()});
    q.slots_.save([&](std::uint32_t number, std::uint32_t tick, const auto& kept) noexcept {
      w.put(number);
      w.put(tick);
      w.put(kept.list);
      w.put_bytes(&kept.token, sizeof(token));
    });
    const auto done = w.finish();
    if (!done) return done;
    // The queue object lets go: its commands go on in the other process.
    q.leave();
    q.slots_.reset(0);
    q.close(queue_end::handed_over);
    return done;
  }

  template <class Controller, class Queue>
  static result<Queue> restore_queue(Controller& c, std::span<const std::byte> saved) noexcept {
    using token = typename Queue::token_type;
    detail::state_reader r{saved};
    const auto magic = r.take<std::uint32_t>();
    const auto version = r.take<std::uint32_t>();
    if (!r.good() || magic != detail::queue_state_magic) {
      return detail::bad_state("these bytes are no saved state of a queue pair");
    }
    if (version != detail::handover_version) {
      return failure(errc::not_supported,
                     "the queue's state was saved by another version; its number", version);
    }
    const auto qid = r.take<std::uint32_t>();
    const auto generation = r.take<std::uint32_t>();
    const auto token_bytes = r.take<std::uint32_t>();
    const auto depth = r.take<std::uint32_t>();
    const auto max_transfer = r.take<std::uint32_t>();
    const auto nsid = r.take<std::uint32_t>();
    const auto tail = r.take<std::uint32_t>();
    const auto head = r.take<std::uint32_t>();
    const auto phase = r.take<std::uint32_t>();
    const auto mark = r.take<std::uint32_t>();
    const auto tick = r.take<std::uint32_t>();
    const auto in_flight = r.take<std::uint32_t>();
    if (!r.good()) return detail::bad_state("the saved state of the queue is cut short");
    if (qid == 0 || qid > c.granted_ || !c.slots_[qid].memory ||
        c.slots_[qid].generation != generation) {
      return failure(errc::not_found, "the controller's state has no such queue pair", qid);
    }
    const queue_memory& memory = c.slots_[qid].memory;
    if (c.registry_.find(static_cast<std::uint16_t>(qid)) != nullptr) {
      return failure(errc::busy, "the queue pair was restored already", qid);
    }
    if (token_bytes != sizeof(token)) {
      return failure(errc::invalid_argument, "the queue was saved with tokens of another size",
                     token_bytes);
    }
    if (depth != memory.entries || depth > Queue::max_depth) {
      return failure(errc::out_of_range, "the queue is deeper than the template's MaxDepth", depth);
    }
    if (tail >= depth || head >= depth || phase > 1 || in_flight >= depth || max_transfer < 512) {
      return detail::bad_state("the saved positions do not fit the queue");
    }
    namespace_info format{.generation = c.namespaces_};
    if (nsid != 0) {
      const auto ns = c.identify_namespace(nsid);
      if (!ns) return ns.error();
      format = *ns;
    }
    const auto layout = memory.layout(static_cast<std::uint16_t>(qid), max_transfer,
                                      c.session_.page_shift(), format);
    using doorbell = typename Controller::doorbell_type;
    result<Queue> made{typename Controller::template in_place_queue<Queue, doorbell>{
        layout, c.session_.sq_doorbell(layout.qid), c.session_.cq_doorbell(layout.qid), c.registry_,
        generation}};
    Queue& q = *made;
    q.submission_.resume_at(tail);
    q.completion_.resume_at(head, phase != 0);
    q.slots_.begin_at(mark);
    q.rung_ = mark;
    q.tick_ = tick;
    bool good = true;
    for (std::uint32_t i = 0; i != in_flight && good; ++i) {
      const auto number = r.take<std::uint32_t>();
      const auto taken = r.take<std::uint32_t>();
      typename Queue::in_flight_command kept;
      kept.list = r.take<std::uint32_t>();
      r.take_bytes(&kept.token, sizeof(token));
      good = r.good() && q.slots_.restore(number, taken, kept) && use_list(q, kept.list);
    }
    if (!good || !r.at_end()) {
      // Of a queue whose commands are not known nothing can be polled; deleting it is up to the controller.
      q.leave();
      q.slots_.reset(0);
      q.close(queue_end::never_made);
      return detail::bad_state("the saved commands do not fit the queue");
    }
    return made;
  }

 private:
  static void put_memory(detail::state_writer& w, const queue_memory& m) noexcept {
    w.put_region(m.submission);
    w.put_region(m.completion);
    w.put_region(m.lists);
    w.put_region(m.metadata);
    w.put(m.entries);
    w.put(m.list_bytes);
    w.put(m.metadata_bytes);
    w.put(std::uint32_t{m.entry_shift});
  }
  template <class Memory>
  static result<queue_memory> take_memory(Memory& memory, detail::state_reader& r,
                                          std::uint8_t page_shift) noexcept {
    queue_memory m;
    for (dma_region* region : {&m.submission, &m.completion, &m.lists, &m.metadata}) {
      const auto got = detail::adopt_region(memory, r);
      if (!got) return got.error();
      *region = *got;
    }
    m.entries = r.take<std::uint32_t>();
    m.list_bytes = r.take<std::uint32_t>();
    m.metadata_bytes = r.take<std::uint32_t>();
    const auto shift = r.take<std::uint32_t>();
    m.entry_shift = static_cast<std::uint8_t>(shift);
    std::size_t slots = 2;
    while (slots < m.entries && slots <= 65536) slots <<= 1;
    const bool fits = r.good() && m.entries >= 2 && m.entries <= 65536 && shift >= 6 &&
                      shift <= 15 && page_shift < 32 &&
                      m.submission.size() >= std::size_t{m.entries} << shift &&
                      m.completion.size() >= m.entries * sizeof(completion_entry) &&
                      m.list_bytes != 0 && m.lists.size() / m.list_bytes >= m.entries - 1 &&
                      (m.metadata_bytes == 0 || m.metadata.size() / m.metadata_bytes >= slots);
    if (!fits) return detail::bad_state("the saved memory of a queue contradicts itself");
    return m;
  }
  template <class Controller>
  static result<> fill(Controller& c, detail::state_reader& r) noexcept {
    auto& s = c.session_;
    auto& backend = s.backend();
    const auto caps = read_capabilities(s.registers(), s.quirks().assume_nvm);
    if (!caps) return caps.error();
    if (caps->raw != r.take<std::uint64_t>()) {
      return detail::bad_state("the state was saved of another controller (CAP differs)");
    }
    s.caps_ = *caps;
    const auto status = read_register<csts>(s.registers());
    if (!read_register<cc>(s.registers())[cc::en] || !status[csts::rdy] || status[csts::cfs]) {
      return failure(errc::not_ready,
                     "the controller is not enabled any more: attach to it instead", status.raw);
    }
    s.page_shift_ = static_cast<std::uint8_t>(r.take<std::uint32_t>());
    const auto granted = r.take<std::uint32_t>();
    c.next_generation_ = r.take<std::uint32_t>();
    if (!r.good() || s.page_shift_ != 12U + s.caps_[cap::mpsmin] || granted >= c.slots_.size()) {
      return detail::bad_state(
          "the saved state does not fit the controller or the template's MaxQueues");
    }
    auto memory = take_memory(backend, r, s.page_shift_);
    if (!memory) return memory.error();
    const auto scratch = detail::adopt_region(backend, r);
    if (!scratch) return scratch.error();
    const auto tail = r.take<std::uint32_t>();
    const auto head = r.take<std::uint32_t>();
    const auto phase = r.take<std::uint32_t>();
    const auto mark = r.take<std::uint32_t>();
    const auto in_flight = r.take<std::uint32_t>();
    if (!r.good() || scratch->size() < 4096 || tail >= memory->entries || head >= memory->entries ||
        phase > 1 || memory->entries > s.admin_entries || in_flight > s.admin_.max_events) {
      return detail::bad_state("the saved positions do not fit the admin queue");
    }
    s.memory_ = *memory;
    s.scratch_ = *scratch;
    s.max_transfer_ = s.admin_transfer;
    using admin_type = std::remove_reference_t<decltype(s.admin_)>;
    s.admin_ = admin_type{s.memory_.layout(0, s.admin_transfer, s.page_shift_, {}),
                          s.sq_doorbell(0), s.cq_doorbell(0)};
    auto& q = s.admin_.queue_;
    q.submission_.resume_at(tail);
    q.completion_.resume_at(head, phase != 0);
    q.slots_.begin_at(mark);
    q.rung_ = mark;
    for (std::uint32_t i = 0; i != in_flight; ++i) {
      typename std::remove_reference_t<decltype(q)>::in_flight_command kept;
      kept.token.event = true;
      if (!q.slots_.restore(r.take<std::uint32_t>(), 0, kept)) {
        return detail::bad_state("the saved commands do not fit the admin queue");
      }
    }
    const auto events = r.take<std::uint32_t>();
    if (!r.good() || events > c.max_events) return detail::bad_state("more events than are kept");
    for (; c.event_count_ != events; ++c.event_count_) {
      c.events_[c.event_count_] = async_event{r.take<std::uint32_t>()};
    }
    const auto queues = r.take<std::uint32_t>();
    for (std::uint32_t i = 0; i != queues && r.good(); ++i) {
      const auto qid = r.take<std::uint32_t>();
      const auto generation = r.take<std::uint32_t>();
      const auto deleted = r.take<std::uint32_t>();
      if (!r.good() || qid == 0 || qid > granted || c.slots_[qid].memory) {
        return detail::bad_state("the saved queues contradict each other");
      }
      auto its = take_memory(backend, r, s.page_shift_);
      if (!its) return its.error().at(qid);
      c.slots_[qid].memory = *its;
      c.slots_[qid].generation = generation;
      c.slots_[qid].submission_deleted = deleted != 0;
    }
    if (!r.at_end())
      return detail::bad_state("the saved state of the controller is cut short, or too long");
    c.granted_ = static_cast<std::uint16_t>(granted);
    s.set_state(std::remove_reference_t<decltype(s)>::state::running);
    const auto asked =
        s.identify({.cns = cns::identify_controller}, writable_wire_bytes(s.identity_));
    if (!asked) return asked;
    s.max_transfer_ = s.options_.max_transfer;
    const std::uint64_t limit = s.identity_.max_transfer_bytes(s.caps_.min_page_bytes());
    if (limit != 0 && limit < s.max_transfer_) s.max_transfer_ = static_cast<std::uint32_t>(limit);
    return {};
  }
  template <class Controller>
  static void abandon(Controller& c) noexcept {
    for (auto& slot : c.slots_) slot = {};
    c.session_.memory_ = {};
    c.session_.scratch_ = {};
    c.session_.set_state(std::remove_reference_t<decltype(c.session_)>::state::detached);
    c.granted_ = 0;
    Controller::unclaim(c.session_.backend());
  }
  // Takes one PRP list out of the stack of free ones; it is one of them, or none.
  template <class Queue>
  static bool use_list(Queue& q, std::uint32_t list) noexcept {
    if (list == Queue::no_list) return true;
    for (std::uint32_t i = q.lists_used_ + 1; i <= q.slots_.count(); ++i) {
      if (q.free_lists_[i] != list) continue;
      q.free_lists_[i] = q.free_lists_[q.lists_used_ + 1];
      q.free_lists_[++q.lists_used_] = list;
      return true;
    }
    return false;
  }
};

// Saves a queue into `out` and lets go of it: the object is closed (handed_over), and its commands stay in flight at the
// device. Returns how many bytes; `out` of 64 + depth * (12 + token size) bytes is enough. Of each controller the
// queues come first, then the controller.
// Errors: removed (the queue has ended), invalid_argument (of another controller), out_of_range (`out` is too small;
// nothing has changed then).
template <class Controller, class Queue>
[[nodiscard]] result<std::size_t> save_queue(Controller& controller, Queue& queue,
                                             std::span<std::byte> out) noexcept {
  return handover_access::save_queue(controller, queue, out);
}

// Saves the controller and lets go of it: the object is detached, the controller stays enabled, and all memory stays
// allocated. The backend's DMA memory must live on: a file or a descriptor that the other process maps too.
// Errors: not_ready (not running, or an admin command was never answered), busy (a queue was not saved),
// not_supported (shadow doorbells), out_of_range (`out` is too small; 4 KiB serve 32 queues).
template <class Controller>
[[nodiscard]] result<std::size_t> save_controller(Controller& controller,
                                                  std::span<std::byte> out) noexcept {
  return handover_access::save_controller(controller, out);
}

// Takes up a controller that another process has saved: nothing is reset; Identify is the first command. Register and
// state are held against each other; the bytes are checked, but come from a process that is trusted with the device.
// Errors: invalid_argument (no such state, or of another controller), not_supported (another version), not_ready (the
// controller is not enabled any more), and those of the backend.
template <class Backend, unsigned MaxQueues = 64>
  requires PcieBackend<Backend> && AdoptableMemory<Backend>
[[nodiscard]] result<controller<Backend, MaxQueues>> restore_controller(
    Backend& backend, std::span<const std::byte> saved,
    const controller_options& options = {}) noexcept {
  return handover_access::restore_controller<controller<Backend, MaxQueues>>(backend, saved,
                                                                             options);
}

// Takes up a queue of a controller that was restored; the type of its tokens is the one that it was saved with, and
// their values come back with the completions. Queues that are not restored stay taken until reset().
template <class Token, unsigned MaxDepth = 256, class Controller>
[[nodiscard]] auto restore_queue(Controller& controller, std::span<const std::byte> saved,
                                 queue_kind<Token, MaxDepth> = {}) noexcept {
  return handover_access::restore_queue<Controller,
                                        typename Controller::template io_queue<Token, MaxDepth>>(
      controller, saved);
}

}  // namespace phasebit::nvme::driver
