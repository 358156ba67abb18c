// SPDX-License-Identifier: BSL-1.0
// An engine between many virtual functions and one NVMe drive: each function is an NVMe controller with blocks
// of its own, and its commands are forwarded to one queue pair of the drive, which reads and writes the
// memory of the function's host by itself. Structure: FVM (OSDI 2020).
//
// Data is never copied. The engine sweeps the functions' doorbells in its own memory, fetches commands from
// their hosts' memory, checks them, adds the block offset, translates the PRPs by the function's flat table,
// and posts them with an id of its own; completions go back with the host's id. The admin queue is software.
#pragma once

#include <phasebit/core/bit_scan.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/dma_object.hpp>
#include <phasebit/nvme/device/settings.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/prp/rewrite.hpp>
#include <phasebit/nvme/prp/walk.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>
#include <phasebit/sriov/fair_scheduler.hpp>
#include <phasebit/systems/mediated/guest_memory.hpp>
#include <phasebit/systems/mediated/identify.hpp>
#include <phasebit/systems/mediated/io_command.hpp>
#include <phasebit/systems/mediated/policy.hpp>
#include <phasebit/systems/mediated/virtual_controller.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems {

// How many commands of which kind there were; of all functions.
struct mediated_counters {
  std::uint64_t forwarded = 0;  // to the drive
  std::uint64_t refused = 0;    // by the engine, with an error status
  std::uint64_t admin = 0;
  std::uint64_t invalid_doorbells = 0;  // values outside a ring
};

// Guarantees: a function reaches its own blocks of the drive and the memory that its flat table maps, whatever
// its host writes; every command that was fetched completes once, unless its controller is reset before; no
// memory of the host is touched after CSTS.RDY is 0 again. The work of a poll() is bounded, and no function
// waits longer than a round of the others.
//
// Not offered, and refused with the status that the specification names: SGLs, metadata, fused operations,
// Dataset Management, Copy, Write Uncorrectable, reservations, namespace management, firmware update, shadow
// doorbells, memory pages other than 4 KiB, queues that are not contiguous. Asynchronous event requests are
// kept and no event occurs. Keep Alive and shadow doorbells are not there.
//
// One thread. Doorbells are words that hosts write from any thread. For more than one core make an engine
// for each, with queues and functions of its own.
template <DriveQueue Queue, LocalTranslator Host, FunctionInterrupts Interrupts,
          class Policy = mediated_policy, RingOrder Order = device_order>
  requires std::same_as<typename Host::from, host_space>
class mediated_nvme {
  using controller = detail::virtual_controller<Policy>;
  using memory = guest_memory<function_table_of<Policy>, Host>;
  using code = nvme::status_code;
  using answer = nvme::device::command_result;

  static constexpr std::size_t count = Policy::functions;
  static constexpr std::size_t queues = controller::queue_count;
  static_assert(count >= 1 && count < 4096 && queues >= 2 && queues <= 64);
  static_assert(Policy::max_in_flight < 0xffff && Policy::async_events >= 1);
  static_assert(Policy::table_page_shift >= detail::guest_page_shift,
                "a page of the flat table is at least a memory page");

 public:
  using function = mediated_function<Policy>;
  using saved = saved_function<Policy>;
  static constexpr std::uint16_t functions = count;

  // Bytes of the PRP lists of so many commands in flight.
  [[nodiscard]] static constexpr std::size_t list_bytes(std::uint32_t max_transfer) noexcept {
    const std::size_t least = nvme::prp::list_bytes_for(max_transfer >> detail::guest_page_shift,
                                                        detail::guest_page_shift);
    std::size_t bytes = 64;
    while (bytes < least) bytes <<= 1;
    return bytes;
  }

  // `queue` is the drive's, with memory pages of 4 KiB. `lists` is where translated PRP lists lie, on a
  // memory page: list_bytes(drive.max_transfer) for each command that is to be in flight. With the rings of
  // `queue` and `lists` in the engine's BAR, the drive fetches from the engine. `host` reaches the
  // machine's memory by the addresses that the flat tables give.
  mediated_nvme(Queue& queue, dma_region lists, const drive_namespace& drive, Host& host,
                Interrupts& interrupts, const nvme::device::settings& settings = {}) noexcept
      : queue_(&queue),
        host_(&host),
        interrupts_(&interrupts),
        drive_(drive),
        lists_(lists),
        list_bytes_(list_bytes(drive.max_transfer)),
        settings_(settings_for(drive, settings)),
        scheduler_(Policy::quantum) {
    PHASEBIT_EXPECTS(queue.page_shift() == detail::guest_page_shift,
                     "the drive's memory page is not 4 KiB");
    PHASEBIT_EXPECTS(is_power_of_two(drive.max_transfer) && drive.max_transfer >= 8192 &&
                         drive.max_transfer <= 1U << 20,
                     "the longest transfer is a power of two, 8 KiB to 1 MiB");
    PHASEBIT_EXPECTS(is_aligned(lists.bus, 4096), "PRP lists begin on a memory page");
    const std::size_t fit = lists.size() / list_bytes_;
    free_lists_ =
        static_cast<std::uint16_t>(fit < Policy::max_in_flight ? fit : Policy::max_in_flight);
    PHASEBIT_EXPECTS(free_lists_ != 0, "there is no PRP list");
    for (std::uint16_t i = 0; i != free_lists_; ++i) list_stack_[i] = i;
  }
  mediated_nvme(const mediated_nvme&) = delete;
  mediated_nvme& operator=(const mediated_nvme&) = delete;

  // Adds a function; its controller is as after power-on. Errors: out_of_range (the number, or the blocks
  // lie beyond the drive's), already_exists, overlap (blocks of another function, unless both only
  // read), invalid_argument.
  result<> add(std::uint16_t id, const function& f, std::uint64_t now_ns = 0) noexcept {
    if (id >= count) return failure(errc::out_of_range, "there is no function of this number", id);
    if (functions_[id].exists) {
      return failure(errc::already_exists, "the function is there already", id);
    }
    if (f.table == nullptr || f.doorbells.size() < 2 * queues || f.weight == 0 || f.blocks == 0) {
      return failure(
          errc::invalid_argument,
          "a function needs a flat table, two doorbells for each queue pair and the admin "
          "queue, blocks, and a weight",
          id);
    }
    if (f.first_lba > drive_.blocks || f.blocks > drive_.blocks - f.first_lba) {
      return failure(errc::out_of_range, "the function's blocks lie beyond the drive's",
                     f.first_lba);
    }
    for (const controller& other : functions_) {
      if (!other.exists || (other.read_only && f.read_only)) continue;
      if (f.first_lba < other.first_lba + other.blocks &&
          other.first_lba < f.first_lba + f.blocks) {
        return failure(errc::overlap, "the function's blocks are another function's", f.first_lba);
      }
    }
    controller& v = functions_[id];
    v = controller{};
    v.table = f.table;
    v.first_lba = f.first_lba;
    v.blocks = f.blocks;
    v.read_only = f.read_only;
    v.limiter = sriov::function_limiter{f.limits, now_ns};
    v.regs = nvme::device::registers{settings_};
    v.features = nvme::device::feature_set{settings_};
    v.exists = true;
    doorbells_[id] = f.doorbells.data();
    scheduler_.set_weight(id, f.weight);
    return {};
  }
  // Takes a function out. Errors: not_found, busy (call function_reset() and poll() until in_flight() is 0).
  result<> remove(std::uint16_t id) noexcept {
    if (!is_there(id)) return failure(errc::not_found, "there is no such function", id);
    if (functions_[id].at_drive != 0) {
      return failure(errc::busy, "the drive still has commands of the function", id);
    }
    clear(id);
    functions_[id].exists = false;
    return {};
  }
  void set_limits(std::uint16_t id, const sriov::function_limits& limits, std::uint8_t weight,
                  std::uint64_t now_ns) noexcept {
    PHASEBIT_EXPECTS(is_there(id), "there is no such function");
    functions_[id].limiter = sriov::function_limiter{limits, now_ns};
    scheduler_.set_weight(id, weight);
  }

  // The registers of a function's BAR 0 below 1000h. All ones where there is no such function.
  [[nodiscard]] std::uint32_t read32(std::uint16_t id, std::uint32_t offset) const noexcept {
    return is_there(id) ? functions_[id].regs.read32(offset) : 0xffff'ffffU;
  }
  void write32(std::uint16_t id, std::uint32_t offset, std::uint32_t value) noexcept {
    if (!is_there(id)) return;
    controller& v = functions_[id];
    using event = nvme::device::register_event;
    switch (v.regs.write32(offset, value)) {
      case event::enable:
        enable(id);
        break;
      case event::disable:
        clear(id);
        drained(id);
        break;
      case event::shutdown:
        stop_fetching(id);
        v.shutting_down = controller::shutdown::waiting;
        v.regs.set_shutdown(nvme::shutdown_status::occurring);
        set(shutting_down_, id);
        break;
      case event::unmask:
        set(touched_, id);
        break;
      case event::none:
      case event::subsystem_reset:
        break;
    }
  }
  // A function-level reset. The function's memory may be touched until in_flight() is 0.
  void function_reset(std::uint16_t id) noexcept {
    if (!is_there(id)) return;
    controller& v = functions_[id];
    clear(id);
    v.quiesced = false;
    v.regs.reset(v.at_drive == 0);
  }

  // Sweeps the doorbells, forwards, takes the drive's completions, raises interrupts. Returns how much was
  // done: 0 is idle.
  unsigned poll(std::uint64_t now_ns = 0) noexcept {
    unsigned work = sweep();
    if (any(admin_)) work += run_admin();
    work += forward(now_ns);
    work += reap();
    if (any(shutting_down_)) work += run_shutdowns();
    if (any(touched_)) raise();
    return work;
  }

  // Looks at the submission doorbells of every enabled function: new tail against saved tail. Returns how
  // many moved. poll() calls it.
  unsigned sweep() noexcept {
    unsigned moved = 0;
    for (std::size_t w = 0; w != words; ++w) {
      for (std::uint64_t left = enabled_[w]; left != 0; left &= left - 1) {
        const std::size_t id = w * 64 + lowest_bit(left);
        const std::uint32_t* const bells = doorbells_[id];
        const auto& seen = seen_[id];
        std::uint32_t changed = 0;
        for (std::size_t q = 0; q != queues; ++q) changed |= Order::load(bells[2 * q]) ^ seen[q];
        if (changed != 0) [[unlikely]] {
          moved += take_doorbells(static_cast<std::uint16_t>(id));
        }
      }
      // Functions whose completion queue was full are asked again.
      for (std::uint64_t left = stalled_[w]; left != 0; left &= left - 1) {
        const std::size_t id = w * 64 + lowest_bit(left);
        scheduler_.activate(static_cast<std::uint16_t>(id));
      }
      stalled_[w] = 0;
    }
    return moved;
  }

  // Commands of a function that the drive has.
  [[nodiscard]] std::uint32_t in_flight(std::uint16_t id) const noexcept {
    return is_there(id) ? functions_[id].at_drive : 0;
  }
  [[nodiscard]] const mediated_counters& counters() const noexcept { return counters_; }
  [[nodiscard]] const nvme::device::settings& settings() const noexcept { return settings_; }

  // Stops and starts the fetching of a function's commands. quiesced() is true when none is in flight.
  void quiesce(std::uint16_t id) noexcept {
    if (!is_there(id)) return;
    functions_[id].quiesced = true;
    stop_fetching(id);
  }
  [[nodiscard]] bool quiesced(std::uint16_t id) const noexcept {
    return is_there(id) && functions_[id].quiesced && functions_[id].at_drive == 0 &&
           functions_[id].shutting_down == controller::shutdown::none;
  }
  void resume(std::uint16_t id) noexcept {
    if (!is_there(id) || !functions_[id].quiesced) return;
    functions_[id].quiesced = false;
    if (functions_[id].regs.running()) start_fetching(id);
  }

  // The state of a quiesced function. Errors: not_found, busy (it is not quiesced).
  [[nodiscard]] result<saved> save(std::uint16_t id) const noexcept {
    if (!is_there(id)) return failure(errc::not_found, "there is no such function", id);
    if (!quiesced(id)) {
      return failure(errc::busy, "the function is not quiesced: poll until quiesced() is true", id);
    }
    const controller& v = functions_[id];
    saved s;
    s.version = saved::current_version;
    s.blocks = v.blocks;
    v.regs.save(s);
    v.features.save(s);
    s.granted = v.granted;
    s.event_requests = v.event_requests;
    s.event_request_ids = v.event_request_ids;
    for (std::size_t q = 0; q != queues; ++q) {
      s.sq[q] = {.base = v.sq[q].base.value(),
                 .entries = v.sq[q].entries,
                 .head = v.sq[q].head,
                 .tail = v.sq[q].tail,
                 .doorbell = le<std::uint32_t>::from_wire(Order::load(doorbells_[id][2 * q])),
                 .completion_queue = v.sq[q].completion_queue,
                 .priority = 0};
      s.cq[q] = {.base = v.cq[q].base.value(),
                 .entries = v.cq[q].entries,
                 .head = v.cq[q].head,
                 .tail = v.cq[q].tail,
                 .doorbell = le<std::uint32_t>::from_wire(Order::load(doorbells_[id][2 * q + 1])),
                 .vector = v.cq[q].vector,
                 .interrupts = v.cq[q].interrupts,
                 .phase = v.cq[q].phase};
    }
    return s;
  }
  // Brings a function that is idle to a saved state; it then runs, and each of its completion queues
  // interrupts once. The doorbell words are written. The saved state is hostile: one that commands cannot
  // produce is refused with invalid_argument, and the function is as after power-on. Further errors:
  // not_found, busy, not_supported (another version).
  result<> restore(std::uint16_t id, const saved& s) noexcept {
    if (!is_there(id)) return failure(errc::not_found, "there is no such function", id);
    if (functions_[id].at_drive != 0) {
      return failure(errc::busy, "the drive still has commands of the function", id);
    }
    if (s.version != saved::current_version) {
      return failure(errc::not_supported, "the state was saved by another version", s.version);
    }
    controller& v = functions_[id];
    function_reset(id);
    if (s.blocks != v.blocks) {
      return failure(errc::invalid_argument, "the function had another number of blocks", s.blocks);
    }
    if (!restore_checked(v, s)) {
      function_reset(id);
      return failure(errc::invalid_argument, "no function can be in the saved state", id);
    }
    for (std::size_t q = 0; q != queues; ++q) {
      Order::store(doorbells_[id][2 * q], le<std::uint32_t>::to_wire(s.sq[q].doorbell));
      Order::store(doorbells_[id][2 * q + 1], le<std::uint32_t>::to_wire(s.cq[q].doorbell));
      seen_[id][q] = le<std::uint32_t>::to_wire(s.sq[q].tail);
    }
    if (v.regs.running()) start_fetching(id);
    set(touched_, id);
    return {};
  }

 private:
  static constexpr std::size_t words = (count + 63) / 64;
  using bitmap = std::array<std::uint64_t, words>;
  // Of tokens: the flush of a shutdown.
  static constexpr std::uint16_t shutdown_flush = 0xffff;
  static constexpr std::uint16_t no_list = 0xffff;
  static constexpr unsigned admin_burst = 8;

  static constexpr void set(bitmap& m, std::size_t i) noexcept {
    m[i / 64] |= std::uint64_t{1} << i % 64;
  }
  static constexpr void reset(bitmap& m, std::size_t i) noexcept {
    m[i / 64] &= ~(std::uint64_t{1} << i % 64);
  }
  [[nodiscard]] static constexpr bool any(const bitmap& m) noexcept {
    std::uint64_t all = 0;
    for (const std::uint64_t w : m) all |= w;
    return all != 0;
  }
  // Calls each(function) for the bits that are set now; each may change the map.
  template <class Each>
  static void for_each(const bitmap& m, Each&& each) noexcept {
    for (std::size_t w = 0; w != words; ++w) {
      for (std::uint64_t left = m[w]; left != 0; left &= left - 1) {
        each(static_cast<std::uint16_t>(w * 64 + lowest_bit(left)));
      }
    }
  }

  [[nodiscard]] static nvme::device::settings settings_for(const drive_namespace& drive,
                                                           nvme::device::settings s) noexcept {
    s.io_queue_pairs = Policy::io_queue_pairs;
    s.interrupt_vectors = static_cast<std::uint16_t>(queues);
    s.doorbell_stride = 0;
    s.largest_page = 0;
    s.mdts = 0;
    while (std::uint32_t{4096} << s.mdts < drive.max_transfer) ++s.mdts;
    s.volatile_write_cache = drive.volatile_write_cache;
    s.scatter_gather_lists = false;
    s.shadow_doorbells = false;
    s.subsystem_reset = false;
    return s;
  }

  [[nodiscard]] constexpr bool is_there(std::uint16_t id) const noexcept {
    return id < count && functions_[id].exists;
  }
  [[nodiscard]] memory memory_of(const controller& v) const noexcept { return {*v.table, *host_}; }

  // --- the controller's state ---

  void enable(std::uint16_t id) noexcept {
    controller& v = functions_[id];
    clear(id);
    v.granted = Policy::io_queue_pairs;
    v.features.reset();
    v.sq[0].base = v.regs.admin_sq();
    v.sq[0].entries = v.regs.admin_sq_entries();
    v.sq[0].completion_queue = 0;
    v.cq[0].base = v.regs.admin_cq();
    v.cq[0].entries = v.regs.admin_cq_entries();
    v.cq[0].interrupts = true;
    for (std::size_t i = 0; i != 2 * queues; ++i) Order::store(doorbells_[id][i], 0U);
    seen_[id] = {};
    if (!v.quiesced) start_fetching(id);
  }
  // Forgets queues and what waits in them. Commands at the drive stay counted.
  void clear(std::uint16_t id) noexcept {
    controller& v = functions_[id];
    stop_fetching(id);
    reset(touched_, id);
    reset(shutting_down_, id);
    v.sq = {};
    v.cq = {};
    v.event_requests = 0;
    v.next_sq = 1;
    v.shutting_down = controller::shutdown::none;
  }
  void start_fetching(std::uint16_t id) noexcept {
    controller& v = functions_[id];
    set(enabled_, id);
    if (!v.sq[0].empty()) set(admin_, id);
    for (std::size_t q = 1; q != queues; ++q) {
      if (v.sq[q].exists() && !v.sq[q].empty()) scheduler_.activate(id);
    }
  }
  void stop_fetching(std::uint16_t id) noexcept {
    reset(enabled_, id);
    reset(admin_, id);
    reset(stalled_, id);
    scheduler_.deactivate(id);
  }
  void fail(std::uint16_t id) noexcept {
    functions_[id].regs.set_fatal();
    stop_fetching(id);
  }
  // After a command of the function has come back from the drive.
  void drained(std::uint16_t id) noexcept {
    controller& v = functions_[id];
    if (v.at_drive != 0 || !v.regs.disabling()) return;
    if (v.regs.complete_disable() == nvme::device::register_event::enable) enable(id);
  }

  // --- submission ---

  [[gnu::noinline]] unsigned take_doorbells(std::uint16_t id) noexcept {
    controller& v = functions_[id];
    unsigned moved = 0;
    for (std::size_t q = 0; q != queues; ++q) {
      const std::uint32_t raw = Order::load(doorbells_[id][2 * q]);
      if (raw == seen_[id][q]) continue;
      seen_[id][q] = raw;
      ++moved;
      if (!v.sq[q].exists() || v.sq[q].deleting ||
          v.sq[q].set_tail(le<std::uint32_t>::from_wire(raw)) ==
              nvme::device::doorbell_update::invalid) {
        ++counters_.invalid_doorbells;
        continue;
      }
      if (v.sq[q].empty()) continue;
      if (q == 0) {
        set(admin_, id);
      } else {
        scheduler_.activate(id);
      }
    }
    // The entries that the tails cover are read after the tails.
    if (moved != 0) Order::after_load();
    return moved;
  }

  // Whether the completion queue has a place for one more command.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool has_place(std::uint16_t id, std::size_t q) noexcept {
    nvme::device::completion_queue& cq = functions_[id].cq[q];
    if (!cq.committed()) [[likely]] {
      return true;
    }
    const std::uint32_t raw = Order::load(doorbells_[id][2 * q + 1]);
    Order::after_load();  // the driver has read the places that become free
    if (cq.set_head(le<std::uint32_t>::from_wire(raw)) == nvme::device::doorbell_update::invalid) {
      ++counters_.invalid_doorbells;
    }
    return !cq.committed();
  }

  // Takes commands of the functions in their turn, until the drive's queue is full or nothing is left.
  unsigned forward(std::uint64_t now_ns) noexcept {
    unsigned posted = 0;
    unsigned taken = 0;
    const auto may_serve = [&](std::uint16_t id) noexcept {
      return functions_[id].limiter.conforms(0, now_ns);
    };
    // Refused commands need no place at the drive; they are bounded nevertheless.
    for (unsigned budget = 2U * Policy::max_in_flight; budget != 0; --budget) {
      if (queue_->available() == 0 || free_lists_ == 0) break;
      const std::uint16_t id = scheduler_.next(may_serve);
      if (id == sriov::fair_scheduler<count>::none) break;
      if (!take_one(id, posted)) {
        scheduler_.deactivate(id);
        continue;
      }
      ++taken;
    }
    if (posted != 0) queue_->ring();
    return taken;
  }

  // One command of the function. False where it has none that may be fetched.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool take_one(std::uint16_t id, unsigned& posted) noexcept {
    controller& v = functions_[id];
    std::size_t q = v.next_sq;
    for (std::size_t tried = 1;; ++tried) {
      nvme::device::submission_queue& sq = v.sq[q];
      if (sq.head != sq.tail && !sq.deleting) [[likely]] {
        if (has_place(id, sq.completion_queue)) [[likely]] {
          break;
        }
        set(stalled_, id);
      }
      if (tried == queues - 1) return false;
      q = q + 1 == queues ? 1 : q + 1;
    }
    v.next_sq = static_cast<std::uint16_t>(q + 1 == queues ? 1 : q + 1);
    nvme::device::submission_queue& sq = v.sq[q];
    memory guest = memory_of(v);
    const auto* const entry = nvme::device::local_object<const nvme::submission_entry>(
        guest, sq.next_entry(), access::read);
    if (entry == nullptr) [[unlikely]] {
      fail(id);
      return false;
    }
    const detail::io_fields command = detail::io_fields::of(*entry);
    sq.advance();
    ++sq.in_flight;
    ++v.cq[sq.completion_queue].reserved;
    std::uint32_t bytes = 0;
    const code bad = post(id, v, static_cast<std::uint16_t>(q), command, guest, bytes);
    if (bad == code::success) [[likely]] {
      ++posted;
    } else {
      ++counters_.refused;
      end(id, static_cast<std::uint16_t>(q), command.command_id(), answer{bad});
    }
    // A refused command and one without data cost a block.
    if (bytes < 4096) bytes = 4096;
    v.limiter.take(bytes);
    scheduler_.charge(id, bytes);
    return true;
  }

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE code post(std::uint16_t id, controller& v, std::uint16_t q,
                                                 const detail::io_fields& c, memory& guest,
                                                 std::uint32_t& bytes) noexcept {
    detail::io_request made;
    if (const code bad = detail::check_io(c, v, drive_, made); bad != code::success) [[unlikely]] {
      return bad;
    }
    forwarded_command token{id, q, c.command_id(), no_list};
    if (made.bytes != 0) {
      bytes = made.bytes;
      const std::uint64_t in_page = 4096 - (c.prp1 & 4095);
      if (made.bytes <= in_page + 4096 && (c.prp1 & 3) == 0) [[likely]] {
        const bool two = made.bytes > in_page;
        const auto first =
            v.table->translate(bus_addr{c.prp1}, two ? in_page : made.bytes, made.wanted);
        if (!first) [[unlikely]] {
          return code::data_transfer_error;
        }
        made.command.prp1 = first->begin.value();
        if (two) {
          if ((c.prp2 & 4095) != 0) [[unlikely]] {
            return code::prp_offset_invalid;
          }
          const auto second =
              v.table->translate(bus_addr{c.prp2}, made.bytes - in_page, made.wanted);
          if (!second) [[unlikely]] {
            return code::data_transfer_error;
          }
          made.command.prp2 = second->begin.value();
        }
      } else if (const code bad = rewrite(v, c, guest, made, token); bad != code::success)
          [[unlikely]] {
        return bad;
      }
    }
    if (!queue_->submit(made.command, token)) [[unlikely]] {
      // The drive is gone, or its queue was deleted.
      return code::internal_path_error;
    }
    if (token.list != no_list) --free_lists_;
    ++v.at_drive;
    ++counters_.forwarded;
    return code::success;
  }

  // More than one page.
  [[nodiscard]] code rewrite(controller& v, const detail::io_fields& c, memory& guest,
                             detail::io_request& made, forwarded_command& token) noexcept {
    nvme::prp::pointers p{c.prp1, c.prp2};
    dma_region list;
    if (nvme::prp::has_list(
            nvme::prp::entries_after_first(p.prp1, made.bytes, detail::guest_page_shift))) {
      token.list = list_stack_[free_lists_ - 1U];
      list = lists_.subregion(token.list * list_bytes_, list_bytes_);
    }
    const nvme::prp::build_result rewritten = nvme::prp::rewrite(
        guest, *v.table, made.wanted, p, made.bytes, detail::guest_page_shift, list);
    if (!rewritten) [[unlikely]] {
      return nvme::prp::status_of(rewritten);
    }
    made.command.prp1 = p.prp1;
    made.command.prp2 = p.prp2;
    return code::success;
  }

  // --- completion ---

  unsigned reap() noexcept {
    return queue_->poll([this](forwarded_command& t, nvme::driver::completion c) noexcept {
      if (t.list != no_list) list_stack_[free_lists_++] = t.list;
      controller& v = functions_[t.function];
      --v.at_drive;
      if (t.sqid == shutdown_flush) [[unlikely]] {
        if (v.shutting_down == controller::shutdown::flushing) finish_shutdown(t.function);
        drained(t.function);
        return;
      }
      // The error log of the drive is not the function's.
      const nvme::status how{nvme::status::more_bit.set(c.status().raw(), false)};
      complete(t.function, t.sqid, t.command_id, how, c.dw0(), c.dw1());
      if (v.at_drive == 0) [[unlikely]] {
        drained(t.function);
      }
    });
  }

  // Releases a command's place and posts its completion if its controller still expects it.
  PHASEBIT_ALWAYS_INLINE void complete(std::uint16_t id, std::uint16_t q, std::uint16_t command_id,
                                       nvme::status how, std::uint32_t dw0,
                                       std::uint32_t dw1) noexcept {
    controller& v = functions_[id];
    // A reset forgot the queue, or is about to.
    if (!v.regs.completing() || v.sq[q].in_flight == 0) [[unlikely]] {
      return;
    }
    nvme::device::submission_queue& sq = v.sq[q];
    nvme::device::completion_queue& cq = v.cq[sq.completion_queue];
    --sq.in_flight;
    --cq.reserved;
    if (!post_entry(id, v, cq, sq.head, q, command_id, how, dw0, dw1)) [[unlikely]] {
      return;
    }
    if (sq.deleting && sq.in_flight == 0) [[unlikely]] {
      finish_deletion(id, v, q);
    }
  }
  [[gnu::noinline]] void finish_deletion(std::uint16_t id, controller& v,
                                         std::uint16_t q) noexcept {
    remove_queue(v, q);
    --v.sq[0].in_flight;
    --v.cq[0].reserved;
    (void)post_entry(id, v, v.cq[0], v.sq[0].head, 0, v.deletion[q], nvme::status{code::success}, 0,
                     0);
  }
  PHASEBIT_ALWAYS_INLINE bool post_entry(std::uint16_t id, controller& v,
                                         nvme::device::completion_queue& cq, std::uint32_t head,
                                         std::uint16_t q, std::uint16_t command_id,
                                         nvme::status how, std::uint32_t dw0,
                                         std::uint32_t dw1) noexcept {
    memory guest = memory_of(v);
    auto* const slot =
        nvme::device::local_object<nvme::completion_entry>(guest, cq.next_slot(), access::write);
    if (slot == nullptr) [[unlikely]] {
      fail(id);
      return false;
    }
    slot->dw0 = dw0;
    slot->dw1 = dw1;
    slot->sq_head = static_cast<std::uint16_t>(head);
    slot->sq_id = q;
    Order::store(slot->dw3, nvme::completion_dw3::of(command_id, how, cq.phase).raw);
    cq.advance();
    set(touched_, id);
    return true;
  }

  // The same for commands that the drive did not have.
  [[gnu::noinline]] void end(std::uint16_t id, std::uint16_t q, std::uint16_t command_id,
                             answer a) noexcept {
    complete(id, q, command_id, a.status, a.dw0, 0);
  }

  void raise() noexcept {
    for_each(touched_, [&](std::uint16_t id) noexcept {
      controller& v = functions_[id];
      std::uint64_t vectors = 0;
      for (nvme::device::completion_queue& cq : v.cq) {
        if (!cq.interrupt_pending || v.regs.masked(cq.vector)) continue;
        cq.interrupt_pending = false;
        if (cq.exists() && cq.interrupts) vectors |= std::uint64_t{1} << cq.vector;
      }
      reset(touched_, id);
      for (; vectors != 0; vectors &= vectors - 1) {
        interrupts_->raise(id, static_cast<std::uint16_t>(lowest_bit(vectors)));
      }
    });
  }

  // --- shutdown ---

  [[gnu::noinline]] unsigned run_shutdowns() noexcept {
    unsigned work = 0;
    for_each(shutting_down_, [&](std::uint16_t id) noexcept {
      controller& v = functions_[id];
      if (v.shutting_down != controller::shutdown::waiting || v.at_drive != 0) return;
      ++work;
      if (!drive_.volatile_write_cache) {
        finish_shutdown(id);
        return;
      }
      if (queue_->available() == 0) return;
      if (!queue_->submit(nvme::nvm::flush(drive_.nsid),
                          forwarded_command{id, shutdown_flush, 0, no_list})) {
        finish_shutdown(id);
        return;
      }
      queue_->ring();
      ++v.at_drive;
      v.shutting_down = controller::shutdown::flushing;
    });
    return work;
  }
  void finish_shutdown(std::uint16_t id) noexcept {
    functions_[id].regs.set_shutdown(nvme::shutdown_status::complete);
    functions_[id].shutting_down = controller::shutdown::none;
    reset(shutting_down_, id);
  }

  // --- the admin queue ---

  [[gnu::noinline]] unsigned run_admin() noexcept {
    unsigned done = 0;
    for_each(admin_, [&](std::uint16_t id) noexcept {
      controller& v = functions_[id];
      nvme::device::submission_queue& sq = v.sq[0];
      for (unsigned i = 0; i != admin_burst; ++i) {
        if (sq.empty()) {
          reset(admin_, id);
          return;
        }
        if (!has_place(id, 0)) return;
        memory guest = memory_of(v);
        const auto command = nvme::device::fetch_command(guest, sq.next_entry());
        if (!command) {
          fail(id);
          return;
        }
        sq.advance();
        ++sq.in_flight;
        ++v.cq[0].reserved;
        ++done;
        ++counters_.admin;
        const answer a = execute(id, v, *command, guest);
        if (!a.later) end(id, 0, command->command_id(), a);
        if (!v.regs.running()) return;
      }
    });
    return done;
  }

  [[nodiscard]] answer execute(std::uint16_t id, controller& v, const nvme::submission_entry& c,
                               memory& guest) noexcept {
    using op = nvme::admin_opcode;
    if (c.fuse() != nvme::fused::none || c.psdt() != nvme::data_pointer::prp) {
      return code::invalid_field;
    }
    switch (static_cast<op>(c.opcode())) {
      case op::identify: {
        alignas(8) std::array<std::byte, nvme::identify_bytes> page{};
        const code how = detail::identify(c, settings_, drive_, id, v, Policy::async_events, page);
        if (how != code::success) return how;
        return write_data(guest, c, page);
      }
      case op::create_io_cq:
        return create_cq(v, id, c);
      case op::create_io_sq:
        return create_sq(v, id, c);
      case op::delete_io_sq:
        return delete_sq(v, c);
      case op::delete_io_cq:
        return delete_cq(v, c);
      case op::set_features:
        return set_feature(v, c);
      case op::get_features:
        return get_feature(v, c);
      case op::get_log_page:
        return log_page(c, guest);
      case op::abort:
        return abort(id, v, c);
      case op::async_event_request: {
        if (v.event_requests == Policy::async_events) return code::async_event_limit_exceeded;
        v.event_request_ids[v.event_requests++] = c.command_id();
        // It may stay for ever, and takes no place of the completion queue meanwhile.
        --v.sq[0].in_flight;
        --v.cq[0].reserved;
        answer parked;
        parked.later = true;
        return parked;
      }
      default:
        return code::invalid_opcode;
    }
  }

  // Writes `data` to the command's PRPs, as much as the command requests.
  [[nodiscard]] answer write_data(memory& guest, const nvme::submission_entry& c,
                                  std::span<const std::byte> data) noexcept {
    return nvme::prp::walk(guest, {c.prp1, c.prp2}, data.size(), detail::guest_page_shift,
                           [&](bus_addr at, std::uint64_t bytes) noexcept {
                             const auto now = int_cast<std::size_t>(bytes);
                             if (!dma_write(guest, at, data.first(now))) {
                               return code::data_transfer_error;
                             }
                             data = data.subspan(now);
                             return code::success;
                           });
  }

  // Base 2.0, 5.4 and 5.5: the checks of both kinds of queue.
  [[nodiscard]] code check_ring(const nvme::submission_entry& c) const noexcept {
    using f = nvme::create_queue_command;
    const std::uint32_t entries = std::uint32_t{f::qsize_bits.get(c.cdw10.get())} + 1;
    if (entries < 2 || entries > settings_.max_queue_entries) return code::invalid_queue_size;
    if (!is_aligned(c.prp1.get(), std::uint64_t{4096})) return code::prp_offset_invalid;
    if (!f::pc_bit.get(c.cdw11.get())) return code::invalid_field;
    if (!range_end(bus_addr{c.prp1.get()}, std::uint64_t{entries} * 64)) {
      return code::invalid_field;
    }
    return code::success;
  }
  [[nodiscard]] answer create_cq(controller& v, std::uint16_t id,
                                 const nvme::submission_entry& c) noexcept {
    using f = nvme::create_queue_command;
    const std::uint16_t qid = f::qid_bits.get(c.cdw10.get());
    if (qid == 0 || qid > v.granted || v.cq[qid].exists()) return code::invalid_queue_id;
    if (const code bad = check_ring(c); bad != code::success) return bad;
    const bool interrupts = f::ien_bit.get(c.cdw11.get());
    const std::uint16_t vector = f::iv_bits.get(c.cdw11.get());
    if (interrupts && vector >= queues) return code::invalid_interrupt_vector;
    if (v.regs.configuration()[nvme::cc::iocqes] != 4) return code::invalid_queue_size;
    nvme::device::completion_queue& q = v.cq[qid];
    q = {};
    q.base = bus_addr{c.prp1.get()};
    q.entries = std::uint32_t{f::qsize_bits.get(c.cdw10.get())} + 1;
    q.interrupts = interrupts;
    q.vector = interrupts ? vector : std::uint16_t{0};
    Order::store(doorbells_[id][2 * qid + 1U], 0U);
    return code::success;
  }
  [[nodiscard]] answer create_sq(controller& v, std::uint16_t id,
                                 const nvme::submission_entry& c) noexcept {
    using f = nvme::create_queue_command;
    const std::uint16_t qid = f::qid_bits.get(c.cdw10.get());
    const std::uint16_t cqid = f::cqid_bits.get(c.cdw11.get());
    if (cqid == 0 || cqid > v.granted) return code::invalid_queue_id;
    if (!v.cq[cqid].exists()) return code::completion_queue_invalid;
    if (qid == 0 || qid > v.granted || v.sq[qid].exists()) return code::invalid_queue_id;
    if (const code bad = check_ring(c); bad != code::success) return bad;
    if (v.regs.configuration()[nvme::cc::iosqes] != 6) return code::invalid_queue_size;
    nvme::device::submission_queue& q = v.sq[qid];
    q = {};
    q.base = bus_addr{c.prp1.get()};
    q.entries = std::uint32_t{f::qsize_bits.get(c.cdw10.get())} + 1;
    q.completion_queue = cqid;
    ++v.cq[cqid].users;
    Order::store(doorbells_[id][2 * qid], 0U);
    seen_[id][qid] = 0;
    return code::success;
  }
  [[nodiscard]] answer delete_sq(controller& v, const nvme::submission_entry& c) noexcept {
    const std::uint16_t qid = nvme::create_queue_command::qid_bits.get(c.cdw10.get());
    if (qid == 0 || qid >= queues || !v.sq[qid].exists() || v.sq[qid].deleting) {
      return code::invalid_queue_id;
    }
    if (v.sq[qid].in_flight == 0) {
      remove_queue(v, qid);
      return code::success;
    }
    v.sq[qid].deleting = true;
    v.deletion[qid] = c.command_id();
    answer drains;
    drains.later = true;
    return drains;
  }
  void remove_queue(controller& v, std::uint16_t qid) noexcept {
    --v.cq[v.sq[qid].completion_queue].users;
    v.sq[qid] = {};
  }
  [[nodiscard]] answer delete_cq(controller& v, const nvme::submission_entry& c) noexcept {
    const std::uint16_t qid = nvme::create_queue_command::qid_bits.get(c.cdw10.get());
    if (qid == 0 || qid >= queues || !v.cq[qid].exists()) return code::invalid_queue_id;
    if (v.cq[qid].users != 0) return code::invalid_queue_deletion;
    v.cq[qid] = {};
    return code::success;
  }

  [[nodiscard]] static nvme::feature_id feature_of(const nvme::submission_entry& c) noexcept {
    return nvme::features_command::fid_bits.get(c.cdw10.get());
  }
  // Those that need data or a clock.
  [[nodiscard]] static bool is_left_out(nvme::feature_id id) noexcept {
    return id == nvme::feature_id::timestamp || id == nvme::feature_id::keep_alive_timer ||
           id == nvme::feature_id::host_behavior_support;
  }
  [[nodiscard]] answer set_feature(controller& v, const nvme::submission_entry& c) noexcept {
    const nvme::feature_id id = feature_of(c);
    if (is_left_out(id)) return code::invalid_field;
    if (id != nvme::feature_id::number_of_queues) return v.features.set(c);
    // 5.27.1.5: FFFFh is not allowed, and queues that exist are not taken away.
    const nvme::number_of_queues wanted{c.cdw11.get()};
    if (wanted[nvme::number_of_queues::nsqr] == 0xffff ||
        wanted[nvme::number_of_queues::ncqr] == 0xffff) {
      return code::invalid_field;
    }
    for (std::size_t q = 1; q != queues; ++q) {
      if (v.cq[q].exists() || v.sq[q].exists()) return code::command_sequence_error;
    }
    if (nvme::features_command::save_bit.get(c.cdw10.get())) return code::feature_not_saveable;
    return {code::success,
            nvme::number_of_queues::of(Policy::io_queue_pairs, Policy::io_queue_pairs).raw};
  }
  [[nodiscard]] answer get_feature(controller& v, const nvme::submission_entry& c) noexcept {
    const nvme::feature_id id = feature_of(c);
    if (is_left_out(id)) return code::invalid_field;
    if (id == nvme::feature_id::number_of_queues &&
        nvme::features_command::select_bits.get(c.cdw10.get()) != nvme::feature_select::supported) {
      return {code::success,
              nvme::number_of_queues::of(Policy::io_queue_pairs, Policy::io_queue_pairs).raw};
    }
    return v.features.get(c);
  }

  // Error Information, Health, Firmware Slots: what every controller has. Nothing is recorded in them.
  [[nodiscard]] answer log_page(const nvme::submission_entry& c, memory& guest) noexcept {
    using f = nvme::log_page_command;
    alignas(8) std::array<std::byte, 512> page{};
    std::size_t size = page.size();
    switch (f::lid_bits.get(c.cdw10.get())) {
      case nvme::log_page_id::error_information:
        size = sizeof(nvme::error_information);
        break;
      case nvme::log_page_id::health: {
        nvme::health_log health{};
        health.composite_temperature[0] = 300 & 0xff;  // kelvin, little-endian
        health.composite_temperature[1] = 300 >> 8;
        health.available_spare = 100;
        store_wire(std::span{page}, health);
        break;
      }
      case nvme::log_page_id::firmware_slots:
        page[0] = std::byte{1};
        for (std::size_t i = 0; i != settings_.firmware.size() && i != 8; ++i) {
          page[8 + i] = static_cast<std::byte>(settings_.firmware[i]);
        }
        break;
      default:
        return code::invalid_log_page;
    }
    const std::uint64_t dwords = (std::uint64_t{f::numdl_bits.get(c.cdw10.get())} |
                                  std::uint64_t{f::numdu_bits.get(c.cdw11.get())} << 16) +
                                 1;
    // Offsets are not offered (LPA); zeros behind the page's end are.
    if (c.cdw12.get() != 0 || c.cdw13.get() != 0 || dwords * 4 > drive_.max_transfer) {
      return code::invalid_field;
    }
    std::uint64_t at = 0;
    return nvme::prp::walk(guest, {c.prp1, c.prp2}, dwords * 4, detail::guest_page_shift,
                           [&](bus_addr where, std::uint64_t bytes) noexcept {
                             if (at < size) {
                               const std::uint64_t now = bytes < size - at ? bytes : size - at;
                               const auto part = std::span{page}.subspan(
                                   int_cast<std::size_t>(at), int_cast<std::size_t>(now));
                               if (!dma_write(guest, where, part)) return code::data_transfer_error;
                               at += now;
                               where += now;
                               bytes -= now;
                             }
                             if (bytes != 0 && !dma_fill(guest, where, bytes, std::byte{})) {
                               return code::data_transfer_error;
                             }
                             return code::success;
                           });
  }

  // An event request is aborted; commands at the drive are not (bit 0 of DW0 reports that).
  [[nodiscard]] answer abort(std::uint16_t id, controller& v,
                             const nvme::submission_entry& c) noexcept {
    const auto sqid = static_cast<std::uint16_t>(c.cdw10.get());
    const auto command_id = static_cast<std::uint16_t>(c.cdw10.get() >> 16);
    nvme::device::completion_queue& cq = v.cq[0];
    if (sqid == 0 && cq.used() + cq.reserved + 1 < cq.entries) {
      for (std::uint16_t i = 0; i != v.event_requests; ++i) {
        if (v.event_request_ids[i] != command_id) continue;
        v.event_request_ids[i] = v.event_request_ids[--v.event_requests];
        (void)post_entry(id, v, cq, v.sq[0].head, 0, command_id,
                         nvme::status{code::abort_requested}, 0, 0);
        return {code::success, 0};
      }
    }
    return {code::success, 1};
  }

  // --- a saved state ---

  [[nodiscard]] bool restore_checked(controller& v, const saved& s) noexcept {
    if (!v.regs.restore(s)) return false;
    if (s.granted > Policy::io_queue_pairs || s.event_requests > Policy::async_events) return false;
    const bool ready = v.regs.status()[nvme::csts::rdy];
    v.features.restore(s);
    v.granted = s.granted;
    v.event_requests = s.event_requests;
    v.event_request_ids = s.event_request_ids;
    for (std::size_t q = 0; q != queues; ++q) {
      const auto& from = s.cq[q];
      if (from.entries == 0) continue;
      if (!sound_ring(from.base, from.entries, from.head, from.tail, 16) || q > s.granted ||
          from.vector >= queues || !ready) {
        return false;
      }
      nvme::device::completion_queue& cq = v.cq[q];
      cq.base = bus_addr{from.base};
      cq.entries = from.entries;
      cq.head = from.head;
      cq.tail = from.tail;
      cq.vector = from.vector;
      cq.interrupts = from.interrupts;
      cq.phase = from.phase;
      cq.interrupt_pending = true;
    }
    for (std::size_t q = 0; q != queues; ++q) {
      const auto& from = s.sq[q];
      if (from.entries == 0) continue;
      if (!sound_ring(from.base, from.entries, from.head, from.tail, 64) || q > s.granted ||
          from.completion_queue >= queues || (q == 0) != (from.completion_queue == 0) ||
          !v.cq[from.completion_queue].exists() || !ready) {
        return false;
      }
      nvme::device::submission_queue& sq = v.sq[q];
      sq.base = bus_addr{from.base};
      sq.entries = from.entries;
      sq.head = from.head;
      sq.tail = from.tail;
      sq.completion_queue = from.completion_queue;
      ++v.cq[from.completion_queue].users;
    }
    // The admin queues are those of the registers.
    return !ready || (v.sq[0].entries == v.regs.admin_sq_entries() &&
                      v.cq[0].entries == v.regs.admin_cq_entries() &&
                      v.sq[0].base == v.regs.admin_sq() && v.cq[0].base == v.regs.admin_cq());
  }
  [[nodiscard]] bool sound_ring(std::uint64_t base, std::uint32_t entries, std::uint32_t head,
                                std::uint32_t tail, std::uint32_t entry_bytes) const noexcept {
    return entries >= 2 && entries <= 65'536 && head < entries && tail < entries &&
           is_aligned(base, std::uint64_t{4096}) &&
           range_end(bus_addr{base}, std::uint64_t{entries} * entry_bytes).has_value();
  }

  Queue* queue_;
  Host* host_;
  Interrupts* interrupts_;
  drive_namespace drive_;
  dma_region lists_;
  std::size_t list_bytes_;
  nvme::device::settings settings_;
  std::uint16_t free_lists_ = 0;
  mediated_counters counters_{};
  // The sweep's data lie together.
  bitmap enabled_{};
  bitmap stalled_{};
  std::array<std::uint32_t*, count> doorbells_{};
  std::array<std::array<std::uint32_t, queues>, count> seen_{};
  bitmap admin_{};
  bitmap touched_{};
  bitmap shutting_down_{};
  sriov::fair_scheduler<count> scheduler_;
  std::array<controller, count> functions_{};
  std::array<std::uint16_t, Policy::max_in_flight> list_stack_{};
};

}  // namespace phasebit::systems
