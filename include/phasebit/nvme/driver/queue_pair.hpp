// SPDX-License-Identifier: BSL-1.0
// A submission queue, a completion queue, and what the driver remembers of each command between.
#pragma once

#include <phasebit/core/callback.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/completion_queue.hpp>
#include <phasebit/nvme/driver/submission_queue.hpp>
#include <phasebit/nvme/driver/submitted.hpp>
#include <phasebit/nvme/prp/build.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>
#include <phasebit/ring/tag_pool.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

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
  dma_region lists;                 // PRP lists, one after another
  std::uint32_t list_bytes = 4096;  // of each: a power of two, or a multiple of the page
  std::uint8_t page_shift = 12;     // log2 of the memory page (CC.MPS)
  std::uint8_t block_shift = 9;     // log2 of the logical block, for read() and write()
  std::uint32_t max_transfer = 0;   // bytes; MDTS and what a list can hold, whichever is less
};

// Posts commands and hands out completions. `Token` is what comes back with a completion: a callback
// (poll()), or any small value of the caller's (poll(f)).
//
// Guarantees: nothing is allocated, locked or looked up between submit and completion. A command
// that was not posted has left no trace. Each posted command completes exactly once: by the device,
// or by fail_all(). A completion that the device does not owe is counted, reported by health() and
// otherwise ignored. No more than depth - 1 commands are in flight, so that neither ring overflows.
// One thread at a time; a callback may submit to its own queue, and poll it.
template <RingOrder Order, DoorbellSink Doorbell, class Token = completion_callback,
          unsigned MaxDepth = 256, class EntryStore = cached_store>
class queue_pair {
 public:
  using token_type = Token;

  queue_pair() noexcept = default;
  // Moved before it is used, never copied: two drivers of one ring overwrite each other.
  queue_pair(queue_pair&&) noexcept = default;
  queue_pair& operator=(queue_pair&&) noexcept = default;
  queue_pair(const queue_layout& layout, Doorbell submission, Doorbell completion) noexcept
      : submission_(layout.submission, submission),
        completion_(layout.completion, completion),
        lists_(layout.lists.data()),
        lists_bus_(layout.lists.bus.value()),
        list_bytes_(layout.list_bytes),
        max_transfer_(layout.max_transfer),
        qid_(layout.qid),
        page_shift_(layout.page_shift),
        block_shift_(layout.block_shift) {
    PHASEBIT_EXPECTS(layout.submission.size() <= MaxDepth &&
                         layout.completion.size() >= layout.submission.size(),
                     "the queue is deeper than the template's MaxDepth, or its completion queue is "
                     "shallower than its submission queue");
    const auto count = static_cast<unsigned>(layout.submission.size() - 1);
    PHASEBIT_EXPECTS(layout.lists.size() / layout.list_bytes >= count,
                     "there are fewer PRP lists than commands");
    slots_.reset(count);
  }

  // Posts a command that moves no data, or whose data pointer the caller has filled.
  PHASEBIT_ALWAYS_INLINE submitted submit(const submission_entry& command,
                                          const Token& token) noexcept {
    if (slots_.full()) [[unlikely]] {
      return not_now();
    }
    return post(command, token);
  }

  // ... that moves data.size() bytes to or from a region: dword-aligned, and exactly as long as the
  // command's transfer, which only the caller can know.
  PHASEBIT_ALWAYS_INLINE submitted submit(submission_entry command, const dma_region& data,
                                          const Token& token) noexcept {
    if (slots_.full()) [[unlikely]] {
      return not_now();
    }
    if (data.size() > max_transfer_) [[unlikely]] {
      return submitted::as_refused(errc::out_of_range, "the transfer is longer than one command's");
    }
    prp::pointers pointers;
    const prp::build_result built =
        prp::build_contiguous(data.bus, data.size(), page_shift_, list_of(slots_.next()), pointers);
    if (!built) [[unlikely]] {
      return submitted::as_refused(built.reason, built.what, built.piece);
    }
    command.prp1 = pointers.prp1;
    command.prp2 = pointers.prp2;
    return post(command, token);
  }

  // ... to or from pieces in this order; what PRPs can not express is refused with the piece's index.
  submitted submit(submission_entry command, std::span<const prp::piece> pieces,
                   const Token& token) noexcept {
    if (slots_.full()) return not_now();
    prp::pointers pointers;
    const prp::build_result built =
        prp::build(pieces, page_shift_, max_transfer_, list_of(slots_.next()), pointers);
    if (!built) return submitted::as_refused(built.reason, built.what, built.piece);
    command.prp1 = pointers.prp1;
    command.prp2 = pointers.prp2;
    return post(command, token);
  }

  // Reads or writes blocks. The region is as long as the blocks are, else the command is refused:
  // a shorter one would have the device write where it was not invited.
  PHASEBIT_ALWAYS_INLINE submitted read(const block_range& range, const dma_region& data,
                                        const Token& token) noexcept {
    if (data.size() != std::size_t{range.blocks} << block_shift_) [[unlikely]] {
      return wrong_size();
    }
    return submit(nvm::read(range), data, token);
  }
  PHASEBIT_ALWAYS_INLINE submitted write(const block_range& range, const dma_region& data,
                                         const Token& token) noexcept {
    if (data.size() != std::size_t{range.blocks} << block_shift_) [[unlikely]] {
      return wrong_size();
    }
    return submit(nvm::write(range), data, token);
  }

  // One doorbell for all that was posted since the last one.
  PHASEBIT_ALWAYS_INLINE void ring() noexcept { submission_.ring(); }

  // Takes at most `limit` completions and calls done(token, completion) for each; returns how many
  // commands ended. Their places go back to the device with one doorbell.
  template <std::invocable<Token&, completion> Done>
  PHASEBIT_ALWAYS_INLINE unsigned poll(Done&& done, unsigned limit = ~0U) noexcept {
    static_assert(noexcept(done(std::declval<Token&>(), completion{})),
                  "what is called per completion is noexcept");
    unsigned ended = 0;
    completion_entry entry;
    while (ended != limit && completion_.pop(entry)) {
      const std::uint16_t id = entry.command_id();
      if (!slots_.is_in_flight(id)) [[unlikely]] {
        note_unexpected(id);
        if (++unexpected_in_poll_ > completion_.depth())
          break;  // a device that only writes nonsense
        continue;
      }
      Token token = slots_.release(id);
      ++ended;
      done(token, completion{entry});
    }
    unexpected_in_poll_ = 0;
    completion_.ring();
    return ended;
  }
  PHASEBIT_ALWAYS_INLINE unsigned poll(unsigned limit = ~0U) noexcept
    requires std::invocable<Token&, completion>
  {
    return poll([](Token& call, completion c) noexcept { call(c); }, limit);
  }

  // Whether the device has kept to the protocol: an error names the first command id that it
  // completed without owing it. Such a queue still works, but whoever sees this resets the device.
  [[nodiscard]] result<> health() const noexcept {
    if (unexpected_count_ == 0) return {};
    return failure(errc::protocol, "the device completed a command that is not in flight",
                   first_unexpected_)
        .at(qid_);
  }
  [[nodiscard]] std::uint64_t unexpected_completions() const noexcept { return unexpected_count_; }

  // Advances the queue's idea of time by one tick; a tick is as long as the caller likes.
  void tick() noexcept { ++tick_; }
  // Calls each(command id) for commands that are in flight since at least `ticks` ticks.
  template <std::invocable<std::uint16_t> Each>
  void for_each_overdue(std::uint32_t ticks, Each&& each) noexcept {
    slots_.for_each_in_flight([&](std::uint16_t id) noexcept {
      if (slots_.age(id, tick_) >= ticks) each(id);
    });
  }

  // Ends every command in flight with `how` and refuses new ones. For a device that is gone, reset,
  // or whose queue was deleted: until then it may still write to the commands' buffers.
  template <std::invocable<Token&, completion> Done>
  unsigned fail_all(nvme::status how, Done&& done) noexcept {
    closed_ = true;
    return slots_.drain([&](Token& token, std::uint16_t id) noexcept {
      done(token, completion{id, how});
    });
  }
  unsigned fail_all(nvme::status how = status_code::aborted_by_host) noexcept
    requires std::invocable<Token&, completion>
  {
    return fail_all(how, [](Token& call, completion c) noexcept { call(c); });
  }

  [[nodiscard]] std::uint16_t qid() const noexcept { return qid_; }
  [[nodiscard]] unsigned in_flight() const noexcept { return slots_.in_flight(); }
  // How many more commands may be submitted now.
  [[nodiscard]] unsigned available() const noexcept { return slots_.free_count(); }
  [[nodiscard]] std::uint32_t depth() const noexcept { return submission_.depth(); }
  [[nodiscard]] std::uint32_t max_transfer() const noexcept { return max_transfer_; }
  [[nodiscard]] unsigned page_shift() const noexcept { return page_shift_; }
  [[nodiscard]] unsigned block_shift() const noexcept { return block_shift_; }
  [[nodiscard]] bool closed() const noexcept { return closed_; }

 private:
  PHASEBIT_ALWAYS_INLINE submitted post(submission_entry command, const Token& token) noexcept {
    const std::uint16_t id = slots_.next();
    command.set_command_id(id);
    // The slot is recorded first: a completion may be there as soon as the doorbell is rung.
    slots_.take(token, tick_);
    submission_.push(command);
    return submitted::as_posted(id);
  }
  [[nodiscard, gnu::cold]] submitted not_now() const noexcept {
    return closed_ ? submitted::as_closed() : submitted::as_full();
  }
  [[nodiscard, gnu::cold]] static submitted wrong_size() noexcept {
    return submitted::as_refused(errc::invalid_argument,
                                 "the buffer is not as long as the blocks are");
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE prp::list_memory list_of(std::uint16_t id) const noexcept {
    const std::size_t offset = std::size_t{id} * list_bytes_;
    return {{lists_ + offset, list_bytes_}, bus_addr{lists_bus_ + offset}};
  }
  [[gnu::cold, gnu::noinline]] void note_unexpected(std::uint16_t id) noexcept {
    if (unexpected_count_++ == 0) first_unexpected_ = id;
  }

  submission_queue<Doorbell, EntryStore> submission_;
  completion_queue<Order, Doorbell> completion_;
  std::byte* lists_ = nullptr;
  std::uint64_t lists_bus_ = 0;
  std::uint32_t list_bytes_ = 0;
  std::uint32_t max_transfer_ = 0;
  std::uint32_t tick_ = 0;
  std::uint32_t unexpected_in_poll_ = 0;
  std::uint64_t unexpected_count_ = 0;
  std::uint16_t first_unexpected_ = 0;
  std::uint16_t qid_ = 0;
  std::uint8_t page_shift_ = 12;
  std::uint8_t block_shift_ = 9;
  bool closed_ = false;
  ring::tag_pool<Token, MaxDepth> slots_;
};

}  // namespace phasebit::nvme::driver
