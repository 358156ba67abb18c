// SPDX-License-Identifier: BSL-1.0
// A submission queue, a completion queue, and what the driver keeps for each command in flight.
#pragma once

#include <phasebit/core/callback.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/completion_queue.hpp>
#include <phasebit/nvme/driver/detail/block_transfer.hpp>
#include <phasebit/nvme/driver/detail/queue_link.hpp>
#include <phasebit/nvme/driver/namespace_info.hpp>
#include <phasebit/nvme/driver/submission_queue.hpp>
#include <phasebit/nvme/driver/submitted.hpp>
#include <phasebit/nvme/prp/build.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>
#include <phasebit/ring/tag_pool.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

namespace phasebit::nvme::driver {

// How a command ended, as the driver sees it: a copy, checked to belong to a command in flight.
class completion {
 public:
  constexpr completion() noexcept = default;
  constexpr explicit completion(const completion_entry& entry) noexcept : entry_(entry) {}
  // Made by the driver where the device will not answer any more.
  constexpr completion(std::uint16_t id, nvme::status how) noexcept {
    entry_.dw3 = completion_dw3::of(id, how, false).raw;
  }

  [[nodiscard]] constexpr bool ok() const noexcept { return entry_.status().ok(); }
  [[nodiscard]] constexpr nvme::status status() const noexcept { return entry_.status(); }
  [[nodiscard]] constexpr std::uint16_t command_id() const noexcept { return entry_.command_id(); }
  // The command specific result.
  [[nodiscard]] constexpr std::uint32_t dw0() const noexcept { return entry_.dw0; }
  [[nodiscard]] constexpr std::uint32_t dw1() const noexcept { return entry_.dw1; }

 private:
  completion_entry entry_{};
};

using completion_callback = inplace_callback<completion>;

// The memory and the limits of one queue pair. All of it is the device's to read and write; what
// the driver trusts lies elsewhere.
struct queue_layout {
  std::uint16_t qid = 0;
  std::span<submission_entry> submission;
  std::span<completion_entry> completion;
  dma_region lists;                  // PRP lists, one after another
  std::uint32_t list_bytes = 4096;   // of each: a power of two, or a multiple of the page
  dma_region metadata = {};          // metadata buffers, one after another, or empty
  std::uint32_t metadata_bytes = 0;  // of each: a multiple of a cache line
  std::uint8_t page_shift = 12;      // log2 of the memory page (CC.MPS)
  std::uint8_t entry_shift = 6;      // log2 of the submission entries' distance (CC.IOSQES)
  std::uint32_t max_transfer = 0;    // bytes; MDTS and what a list can hold, whichever is less
  namespace_info format = {};  // of read() and write() without a handle; nsid 0: of any namespace
};

// Events of a queue that a layer above it must handle.
// `gone`: the queue object is destroyed, or becomes another queue; it must not be used any more.
enum class queue_event : std::uint8_t { completed, ended, moved, gone };

// Posts commands and returns completions. `Token` is what comes back with a completion: a callback
// (poll()), or any small value of the caller's (poll(f)).
//
// Guarantees: nothing is allocated, locked or looked up between submit and completion. A command
// that was not posted has left no trace. Each posted command completes exactly once: by the device, by
// fail_all(), or when the queue ends. A completion of a command id that is not in flight, or whose doorbell
// was not rung, is counted, reported by health() and otherwise ignored. No more than depth - 1 commands are
// in flight, so that neither ring overflows. One thread at a time; a callback may submit to its own queue,
// and poll it.
//
// A queue ends when it is deleted, moved from, or its controller is reset, detached, destroyed or found
// removed. From then on submit() answers `closed` with the reason, ring() does nothing, and no ring is
// touched. Commands that were in flight end with Command Abort Requested: callbacks are called at once,
// other tokens are returned by the next poll(f). Destroying a queue deletes it at its controller.
template <RingOrder Order, DoorbellSink Doorbell, class Token = completion_callback,
          unsigned MaxDepth = 256, class EntryStore = cached_store>
class queue_pair : public detail::queue_link {
  static constexpr bool calls_back = std::invocable<Token&, completion>;

 public:
  using token_type = Token;
  static constexpr unsigned max_depth = MaxDepth;
  using observer = void (*)(void* context, queue_event what, queue_pair& queue, Token* token,
                            completion answer) noexcept;

  queue_pair() noexcept = default;
  // The other object is ended: its uses report that it was moved.
  queue_pair(queue_pair&& other) noexcept { take_over(other); }
  queue_pair& operator=(queue_pair&& other) noexcept {
    if (this != &other) {
      finish();
      take_over(other);
    }
    return *this;
  }
  queue_pair(const queue_layout& layout, Doorbell submission, Doorbell completion) noexcept
      : queue_link(layout.qid, &end_queue, &poll_queue),
        submission_(layout.submission, submission, layout.entry_shift),
        completion_(layout.completion, completion),
        lists_(layout.lists.data()),
        lists_bus_(layout.lists.bus.value()),
        list_bytes_(layout.list_bytes),
        max_transfer_(layout.max_transfer),
        page_shift_(layout.page_shift),
        metadata_(layout.metadata),
        metadata_bytes_(layout.metadata_bytes) {
    PHASEBIT_EXPECTS(submission_.depth() <= MaxDepth && completion_.depth() >= submission_.depth(),
                     "the queue is deeper than the template's MaxDepth, or its completion queue is "
                     "shallower than its submission queue");
    const auto count = static_cast<unsigned>(submission_.depth() - 1);
    slots_.reset(count);
    PHASEBIT_EXPECTS(layout.lists.size() / layout.list_bytes >= count,
                     "there are fewer PRP lists than commands");
    PHASEBIT_EXPECTS(
        metadata_bytes_ == 0 || metadata_.size() / metadata_bytes_ >= slots_.slot_count(),
        "there are fewer metadata buffers than slots");
    for (unsigned i = 0; i != count; ++i) free_lists_[i + 1] = i * list_bytes_;
    bind(layout.format);
  }
  // The same, as a queue of a controller.
  queue_pair(const queue_layout& layout, Doorbell submission, Doorbell completion,
             detail::queue_registry& registry, std::uint32_t generation) noexcept
      : queue_pair(layout, submission, completion) {
    note_namespaces(layout.format.generation);
    bind(layout.format);
    join(registry, generation);
  }
  ~queue_pair() { finish(); }

  // Posts a command that moves no data, or whose data pointer the caller has filled.
  PHASEBIT_ALWAYS_INLINE submitted submit(const submission_entry& command,
                                          const Token& token) noexcept {
    if (slots_.full() || gone()) [[unlikely]] {
      return not_now();
    }
    return post(command, token, no_list);
  }

  // ... that moves data.size() bytes to or from a region. The length is compared with the command
  // if the NVM command set defines its length: read, write, compare, dataset management and copy. A
  // command of another kind is refused unless it is submitted by submit_unchecked().
  submitted submit(const submission_entry& command, const dma_region& data,
                   const Token& token) noexcept {
    if (slots_.full() || gone()) return not_now();
    if (const submitted fits = check_length(command, data.size()); !fits) return fits;
    return submit_unchecked(command, data, token);
  }

  // ... of any kind: dword-aligned, and exactly as long as the command's transfer. A shorter region lets
  // the device read or write past its end.
  PHASEBIT_ALWAYS_INLINE submitted submit_unchecked(submission_entry command,
                                                    const dma_region& data,
                                                    const Token& token) noexcept {
    if (slots_.full() || gone()) [[unlikely]] {
      return not_now();
    }
    if (data.size() > max_transfer_) [[unlikely]] {
      return submitted::as_refused(errc::out_of_range, "the transfer is longer than one command's");
    }
    return post_with_data(command, data, token);
  }

  // ... to or from segments in this order; what PRPs cannot express is refused with the segment's index.
  // The sum of the lengths is checked as above.
  submitted submit(const submission_entry& command, std::span<const segment<bus_space>> segments,
                   const Token& token) noexcept {
    if (slots_.full() || gone()) return not_now();
    std::uint64_t bytes = 0;
    for (const auto& s : segments) {
      if (s.bytes > ~bytes) return submitted::as_refused(errc::overflow, "the lengths overflow");
      bytes += s.bytes;
    }
    if (const submitted fits = check_length(command, bytes); !fits) return fits;
    return submit_unchecked(command, segments, token);
  }
  submitted submit_unchecked(submission_entry command, std::span<const segment<bus_space>> segments,
                             const Token& token) noexcept {
    if (slots_.full() || gone()) return not_now();
    prp::pointers pointers;
    const std::uint32_t list = take_list();
    const prp::build_result built =
        prp::build(segments, page_shift_, max_transfer_, list_memory(list), pointers);
    if (!built) {
      give_list_back(list);
      return submitted::as_refused(built);
    }
    command.prp1 = pointers.prp1;
    command.prp2 = pointers.prp2;
    return post(command, token, list);
  }

  // Reads or writes blocks of the queue's namespace; range.nsid is that namespace or 0. The region
  // must be as long as the blocks, else the command is refused.
  //
  // Where the namespace has metadata: `data` contains data alone, or, if the metadata lies inline,
  // data and metadata of each block in turn; its length selects the case. Data alone with
  // protection information sets PRACT, so that the controller inserts and checks the tuples.
  // Separate metadata goes to `metadata`, whose length must fit, or to the command's own buffer,
  // which is zero for a write. Type 1 has the reference tag set to the LBA where it is used.
  PHASEBIT_ALWAYS_INLINE submitted read(const block_range& range, const dma_region& data,
                                        const Token& token) noexcept {
    if (!is_plain(range, data)) [[unlikely]] {
      return transfer(nvm_opcode::read, format_, range, data, nullptr, token);
    }
    return transfer_plain(nvm_opcode::read, range, data, token);
  }
  PHASEBIT_ALWAYS_INLINE submitted write(const block_range& range, const dma_region& data,
                                         const Token& token) noexcept {
    if (!is_plain(range, data)) [[unlikely]] {
      return transfer(nvm_opcode::write, format_, range, data, nullptr, token);
    }
    return transfer_plain(nvm_opcode::write, range, data, token);
  }
  submitted read(const block_range& range, const dma_region& data, const dma_region& metadata,
                 const Token& token) noexcept {
    return transfer(nvm_opcode::read, format_, range, data, &metadata, token);
  }
  submitted write(const block_range& range, const dma_region& data, const dma_region& metadata,
                  const Token& token) noexcept {
    return transfer(nvm_opcode::write, format_, range, data, &metadata, token);
  }
  // ... of any namespace, by its handle.
  submitted read(const namespace_info& ns, const block_range& range, const dma_region& data,
                 const Token& token) noexcept {
    return transfer(nvm_opcode::read, ns, range, data, nullptr, token);
  }
  submitted write(const namespace_info& ns, const block_range& range, const dma_region& data,
                  const Token& token) noexcept {
    return transfer(nvm_opcode::write, ns, range, data, nullptr, token);
  }
  submitted read(const namespace_info& ns, const block_range& range, const dma_region& data,
                 const dma_region& metadata, const Token& token) noexcept {
    return transfer(nvm_opcode::read, ns, range, data, &metadata, token);
  }
  submitted write(const namespace_info& ns, const block_range& range, const dma_region& data,
                  const dma_region& metadata, const Token& token) noexcept {
    return transfer(nvm_opcode::write, ns, range, data, &metadata, token);
  }

  // The namespace of read() and write() without a handle, from now on.
  void bind(const namespace_info& ns) noexcept {
    format_ = ns;
    nsid_ = ns.nsid;
    nsid_mask_ = ns.nsid != 0 ? ~0U : 0U;
    // Everything but plain blocks of one namespace takes the longer way.
    plain_bytes_ = ns.block_bytes;
    const std::uint32_t most = max_transfer_ >> ns.block_shift;
    set_short_way(ns.metadata_bytes != 0 || ns.block_bytes == 0 ? 0
                  : most < 65'536                               ? most
                                                                : 65'536,
                  ns.generation);
  }
  [[nodiscard]] const namespace_info& format() const noexcept { return format_; }
  // Whether no namespace has changed since the handle was made; true for the handle of no namespace.
  [[nodiscard]] bool is_current(const namespace_info& ns) const noexcept {
    return ns.nsid == 0 || ns.generation == namespaces();
  }

  // One doorbell for all that was posted since the last one.
  PHASEBIT_ALWAYS_INLINE void ring() noexcept {
    submission_.ring();
    rung_ = slots_.mark();
  }

  // Takes at most `limit` completions, and at most as many as the queue is deep, and calls done(token,
  // completion) for each; returns how many commands ended. Their places go back to the device with one
  // doorbell.
  template <std::invocable<Token&, completion> Done>
  PHASEBIT_ALWAYS_INLINE unsigned poll(Done&& done, unsigned limit = ~0U) noexcept {
    static_assert(noexcept(done(std::declval<Token&>(), completion{})),
                  "what is called per completion is noexcept");
    const std::uint32_t most = limit < completion_.depth() ? limit : completion_.depth();
    std::uint32_t taken = 0;
    unsigned unexpected = 0;
    completion_entry entry;
    while (taken != most && completion_.pop(entry)) {
      ++taken;
      const std::uint16_t id = entry.command_id();
      if (!slots_.is_in_flight(id) || slots_.is_since(rung_, id)) [[unlikely]] {
        note_unexpected(id);
        ++unexpected;
        continue;
      }
      Token token = release(id);
      done(token, completion{entry});
    }
    if (taken == 0) {
      if (closed() || gone()) [[unlikely]] {
        return limit == 0 ? 0 : end_in_flight(done);
      }
      return 0;
    }
    completion_.ring();
    return taken - unexpected;
  }
  PHASEBIT_ALWAYS_INLINE unsigned poll(unsigned limit = ~0U) noexcept
    requires calls_back
  {
    return poll([](Token& call, completion c) noexcept { call(c); }, limit);
  }

  // Whether the device has kept to the protocol: an error names the first command id that it completed
  // without its being in flight. Such a queue still works, but its device should be reset. A queue that has
  // ended reports why.
  [[nodiscard]] result<> health() const noexcept {
    if (closed()) return failure(errc::removed, text(end_reason())).at(qid());
    if (gone()) return failure(errc::removed, text(queue_end::removed)).at(qid());
    if (unexpected_count_ == 0) return {};
    return failure(errc::protocol, "the device completed a command that is not in flight",
                   first_unexpected_)
        .at(qid());
  }
  [[nodiscard]] std::uint64_t unexpected_completions() const noexcept { return unexpected_count_; }

  // Where the ids of the next commands come from. A queue pair that replaces another begins behind the ids of
  // that one, so that a late completion of the old pair is of no command in flight. No command is in flight.
  [[nodiscard]] std::uint32_t id_mark() const noexcept { return slots_.mark(); }
  void begin_ids_at(std::uint32_t mark) noexcept {
    slots_.begin_at(mark);
    rung_ = mark;
  }

  // Advances the queue's idea of time by one tick; a tick is as long as the caller likes.
  void tick() noexcept { ++tick_; }
  // Calls each(command id) for commands that are in flight since at least `ticks` ticks.
  template <std::invocable<std::uint16_t> Each>
  void for_each_overdue(std::uint32_t ticks, Each&& each) noexcept {
    slots_.for_each_in_flight([&](std::uint16_t id) noexcept {
      if (slots_.age(id, tick_) >= ticks) each(id);
    });
  }
  [[nodiscard]] bool is_in_flight(std::uint16_t command_id) const noexcept {
    return slots_.is_in_flight(command_id);
  }

  // Ends every command in flight with `how` and refuses new ones. For a device that is gone, reset,
  // or whose queue was deleted: until then it may still write to the commands' buffers.
  template <std::invocable<Token&, completion> Done>
  unsigned fail_all(nvme::status how, Done&& done) noexcept {
    close(queue_end::deleted);
    return slots_.drain([&](in_flight_command& was, std::uint16_t id) noexcept {
      done(was.token, completion{id, how});
    });
  }
  unsigned fail_all(nvme::status how = status_code::aborted_by_host) noexcept
    requires calls_back
  {
    return fail_all(how, [](Token& call, completion c) noexcept { call(c); });
  }

  [[nodiscard]] unsigned in_flight() const noexcept { return slots_.in_flight(); }
  // Commands posted without a doorbell: ring() is missing.
  [[nodiscard]] unsigned unrung() const noexcept { return submission_.unrung(); }
  // How many more commands may be submitted now.
  [[nodiscard]] unsigned available() const noexcept { return slots_.free_count(); }
  [[nodiscard]] std::uint32_t depth() const noexcept { return submission_.depth(); }
  [[nodiscard]] std::uint32_t max_transfer() const noexcept { return max_transfer_; }
  [[nodiscard]] unsigned page_shift() const noexcept { return page_shift_; }
  [[nodiscard]] unsigned block_shift() const noexcept { return format_.block_shift; }

  // Whether a controller made the queue and holds it still.
  [[nodiscard]] bool attached() const noexcept { return has_controller(); }
  // Deletes the queue at its controller; commands in flight end with their callbacks. As destroying the
  // object does, but a failure is reported, and the queue is then as it was.
  [[nodiscard]] result<> remove() noexcept {
    if (closed() || !has_controller()) {
      return failure(errc::removed,
                     closed() ? text(end_reason()) : "the queue was not made by a controller")
          .at(qid());
    }
    if (const auto deleted = ask_for_deletion(); !deleted) return deleted;
    end(queue_end::deleted);
    return {};
  }
  // For a caller that found the controller gone: ends the queue.
  void end_removed() noexcept { end(queue_end::removed); }
  // Whether the queue's controller is there and well; good for a queue without one.
  [[nodiscard]] result<> check_controller() noexcept {
    return has_controller() ? ask_whether_well() : result<>{};
  }
  // Polls `done` by the controller's clock; false where time has run out, or there is no controller.
  template <class Done>
  [[nodiscard]] bool poll_until_done(std::uint64_t nanoseconds, Done&& done) noexcept {
    return has_controller() && poll_until(nanoseconds, done);
  }

  // Gives completions and the end of the queue to a layer above, which holds `context`; null ends this. At
  // most one. Completions go there where the queue itself ends commands, not from poll(f).
  void observe(observer function, void* context) noexcept {
    observer_ = function;
    observer_context_ = context;
  }
  [[nodiscard]] bool observed() const noexcept { return observer_ != nullptr; }
  // Passes one completion to the observer or to the callback. False if there is neither.
  bool deliver(Token& token, completion answer) noexcept {
    if (observer_ != nullptr) {
      observer_(observer_context_, queue_event::completed, *this, &token, answer);
      return true;
    }
    if constexpr (calls_back) {
      token(answer);
      return true;
    }
    return false;
  }

 private:
  friend handover_access;
  static constexpr std::uint32_t no_list = ~0U;

  PHASEBIT_ALWAYS_INLINE submitted post(submission_entry command, const Token& token,
                                        std::uint32_t list) noexcept {
    const std::uint16_t id = slots_.next();
    command.set_command_id(id);
    // The slot is recorded first: a completion may be there as soon as the doorbell is rung.
    in_flight_command& kept = slots_.take(tick_);
    kept.token = token;
    kept.list = list;
    submission_.push(command);
    return submitted::as_posted(id);
  }
  PHASEBIT_ALWAYS_INLINE submitted post_with_data(submission_entry& command, const dma_region& data,
                                                  const Token& token) noexcept {
    prp::pointers pointers;
    std::uint32_t list = no_list;
    const prp::build_result built = prp::build_contiguous(
        data.bus, data.size(), page_shift_,
        [&]() noexcept {
          list = take_list();
          return list_memory(list);
        },
        pointers);
    if (!built) [[unlikely]] {
      give_list_back(list);
      return submitted::as_refused(built);
    }
    command.prp1 = pointers.prp1;
    command.prp2 = pointers.prp2;
    return post(command, token, list);
  }
  // The queue's state of a command.
  struct in_flight_command {
    Token token{};
    std::uint32_t list = no_list;
  };
  PHASEBIT_ALWAYS_INLINE Token release(std::uint16_t id) noexcept {
    const in_flight_command& was = slots_.release(id);
    // Without a branch per command where some have lists, and without this where none has.
    if (lists_used_ != 0) {
      free_lists_[lists_used_] = was.list;
      lists_used_ -= was.list != no_list ? 1U : 0U;
    }
    return was.token;
  }

  // Takes a list, by its offset; there is one for each command.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE std::uint32_t take_list() noexcept {
    return free_lists_[++lists_used_];
  }
  void give_list_back(std::uint32_t list) noexcept {
    if (list != no_list) free_lists_[lists_used_--] = list;
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE prp::list_memory list_memory(
      std::uint32_t offset) const noexcept {
    return {{lists_ + offset, list_bytes_}, bus_addr{lists_bus_ + offset}};
  }

  // Whether a read or write takes the short way: blocks without metadata of the bound namespace, in a buffer
  // of their length.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool is_plain(const block_range& range,
                                                     const dma_region& data) const noexcept {
    return range.blocks - 1 < short_way_blocks() &&
           data.size() == std::size_t{range.blocks} * plain_bytes_ &&
           (range.nsid == 0 || ((range.nsid ^ nsid_) & nsid_mask_) == 0) && !slots_.full();
  }
  PHASEBIT_ALWAYS_INLINE submitted transfer_plain(nvm_opcode opcode, const block_range& range,
                                                  const dma_region& data,
                                                  const Token& token) noexcept {
    submission_entry command = nvme::detail::checked_block_command(opcode, range);
    if (range.nsid == 0) command.nsid = nsid_;
    return post_with_data(command, data, token);
  }
  // Everything that the short way does not take: refusals, metadata, other namespaces.
  // By value, so that a caller's range, region and token need no memory on the short way.
  [[gnu::noinline]] submitted transfer(nvm_opcode opcode, const namespace_info& ns,
                                       block_range range, dma_region data,
                                       const dma_region* metadata, Token token) noexcept {
    if (slots_.full() || gone()) return not_now();
    if (ns.generation != namespaces()) return stale();
    std::optional<std::uint64_t> given;
    if (metadata != nullptr) given = metadata->size();
    detail::block_transfer made;
    if (const submitted ready =
            detail::prepare_transfer(opcode, ns, range, data.size(), given, made);
        !ready) {
      return ready;
    }
    if (data.size() > max_transfer_) {
      return submitted::as_refused(errc::out_of_range, "the transfer is longer than one command's");
    }
    if (made.metadata_bytes != 0) {
      if (metadata != nullptr) {
        if ((metadata->bus.value() & 3U) != 0) {
          return submitted::as_refused(errc::misaligned, "the metadata does not begin on a dword");
        }
        made.command.mptr = metadata->bus.value();
      } else {
        if (made.metadata_bytes > metadata_bytes_) {
          return submitted::as_refused(errc::out_of_range,
                                       "the blocks have more metadata than the queue's buffers "
                                       "hold: pass a metadata buffer");
        }
        const dma_region own =
            metadata_.subregion(std::size_t{slots_.slot_of(slots_.next())} * metadata_bytes_,
                                int_cast<std::size_t>(made.metadata_bytes));
        if (opcode == nvm_opcode::write) __builtin_memset(own.data(), 0, own.size());
        made.command.mptr = own.bus.value();
      }
    }
    return post_with_data(made.command, data, token);
  }
  [[nodiscard]] static submitted stale() noexcept {
    return submitted::as_refused(errc::not_ready,
                                 "a namespace was changed or formatted: ask for its handle again "
                                 "(identify_namespace), and bind() the queue to it");
  }
  [[nodiscard]] submitted check_length(const submission_entry& command,
                                       std::uint64_t bytes) const noexcept {
    if (!is_current(format_)) return stale();
    if (detail::lacks_metadata_pointer(command, format_)) {
      return submitted::as_refused(errc::invalid_argument,
                                   "the namespace keeps metadata apart: the command needs MPTR");
    }
    const auto wanted = detail::transfer_bytes_of(command, format_);
    if (!wanted) {
      return submitted::as_refused(errc::not_supported,
                                   "the command's transfer length is not known here: use "
                                   "submit_unchecked()");
    }
    if (*wanted != bytes) {
      return submitted::as_refused(errc::invalid_argument,
                                   "the buffer is not as long as the command's transfer");
    }
    return submitted::as_posted(0);
  }

  [[nodiscard, gnu::cold, gnu::noinline]] submitted not_now() const noexcept {
    if (closed()) return submitted::as_closed(text(end_reason()));
    if (gone()) return submitted::as_closed(text(queue_end::removed));
    return submitted::as_full();
  }
  [[gnu::cold, gnu::noinline]] void note_unexpected(std::uint16_t id) noexcept {
    if (unexpected_count_++ == 0) first_unexpected_ = id;
  }

  // Lets go of the rings, from which nothing is read or written any more.
  void close(queue_end why) noexcept {
    if (closed()) return;
    set_end(why);
    slots_.close();
    submission_.close();
    completion_.close();
  }
  static void end_queue(detail::queue_link& link, queue_end why) noexcept {
    auto& self = static_cast<queue_pair&>(link);
    self.close(why);
    if (self.observer_ != nullptr || calls_back) {
      (void)self.slots_.drain([&](in_flight_command& was, std::uint16_t id) noexcept {
        (void)self.deliver(was.token, completion{id, status_of(why)});
      });
    }
    if (self.observer_ != nullptr) {
      self.observer_(self.observer_context_, queue_event::ended, self, nullptr,
                     completion{0, status_of(why)});
    }
  }
  static void poll_queue(detail::queue_link& link) noexcept {
    auto& self = static_cast<queue_pair&>(link);
    if (self.observer_ == nullptr && !calls_back) return;
    (void)self.poll([&](Token& token, completion c) noexcept { (void)self.deliver(token, c); });
  }
  [[nodiscard]] static constexpr status_code status_of(queue_end why) noexcept {
    return why == queue_end::deleted ? status_code::aborted_queue_deletion
                                     : status_code::aborted_by_host;
  }
  // Of a queue that has ended, or whose device is gone.
  template <class Done>
  [[gnu::cold, gnu::noinline]] unsigned end_in_flight(Done&& done) noexcept {
    close(queue_end::removed);
    const completion how{0, status_of(end_reason())};
    const unsigned ended = slots_.drain([&](in_flight_command& was, std::uint16_t id) noexcept {
      done(was.token, completion{id, how.status()});
    });
    return ended;
  }
  // Before this object ends or becomes another queue.
  void finish() noexcept {
    if (has_controller()) (void)ask_for_deletion();
    leave();
    if (!closed()) end(queue_end::deleted);
    if (observer_ != nullptr) {
      std::exchange(observer_, nullptr)(observer_context_, queue_event::gone, *this, nullptr,
                                        completion{});
    }
  }
  void take_over(queue_pair& other) noexcept {
    submission_ = other.submission_;
    completion_ = other.completion_;
    lists_ = other.lists_;
    lists_bus_ = other.lists_bus_;
    list_bytes_ = other.list_bytes_;
    max_transfer_ = other.max_transfer_;
    nsid_ = other.nsid_;
    nsid_mask_ = other.nsid_mask_;
    plain_bytes_ = other.plain_bytes_;
    page_shift_ = other.page_shift_;
    tick_ = other.tick_;
    rung_ = other.rung_;
    lists_used_ = other.lists_used_;
    format_ = other.format_;
    metadata_ = other.metadata_;
    metadata_bytes_ = other.metadata_bytes_;
    unexpected_count_ = other.unexpected_count_;
    first_unexpected_ = other.first_unexpected_;
    observer_ = std::exchange(other.observer_, nullptr);
    observer_context_ = std::exchange(other.observer_context_, nullptr);
    for (std::uint32_t i = 0; i <= other.slots_.count(); ++i) free_lists_[i] = other.free_lists_[i];
    slots_ = std::move(other.slots_);
    take_place_of(other);
    other.submission_.close();
    other.completion_.close();
    if (observer_ != nullptr) {
      observer_(observer_context_, queue_event::moved, *this, nullptr, completion{});
    }
  }

  submission_queue<Doorbell, EntryStore> submission_;
  completion_queue<Order, Doorbell> completion_;
  std::byte* lists_ = nullptr;
  std::uint64_t lists_bus_ = 0;
  std::uint32_t list_bytes_ = 0;
  std::uint32_t max_transfer_ = 0;
  std::uint32_t nsid_mask_ = 0;    // 0: of any namespace
  std::uint32_t nsid_ = 0;         // the bound namespace
  std::uint32_t plain_bytes_ = 0;  // of a block of the bound namespace
  std::uint32_t tick_ = 0;
  std::uint32_t rung_ = 0;        // the pool's mark at the last ring()
  std::uint32_t lists_used_ = 0;  // PRP lists of commands in flight
  std::uint8_t page_shift_ = 12;
  ring::tag_pool<in_flight_command, MaxDepth - 1> slots_;
  // A stack, so that few lists are used where few commands are in flight. They are offsets of lists; the
  // one taken next stands behind the first lists_used_ + 1 elements.
  std::array<std::uint32_t, MaxDepth + 1> free_lists_{};
  namespace_info format_{};
  dma_region metadata_{};
  std::uint32_t metadata_bytes_ = 0;
  std::uint64_t unexpected_count_ = 0;
  std::uint16_t first_unexpected_ = 0;
  observer observer_ = nullptr;
  void* observer_context_ = nullptr;
};

}  // namespace phasebit::nvme::driver
