// SPDX-License-Identifier: BSL-1.0
// A queue pair whose commands outlive it: what recovery.hpp deletes, resets and makes again.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/detail/supervised_queue.hpp>
#include <phasebit/nvme/driver/namespace_info.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/driver/recovery.hpp>
#include <phasebit/nvme/driver/submitted.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace phasebit::nvme::driver {

// Used as queue_pair is: submit(), read(), write(), ring(), poll(). Each command is kept until it has ended, so that it
// can be posted again: the command, its buffer and its token are copied (about 250 bytes, and 16 for each of
// MaxSegments); the buffers themselves stay the caller's until the command has ended. Commands may be executed in
// another order than they were submitted in, as NVMe allows. Command ids are the queue pair's of the moment: take
// tokens to distinguish commands.
//
// A command that cannot be posted at once, since its queue pair is being made again, is `queued`. Where recovery ends
// with `removed` or `failed`, commands end with Command Aborted By Host and submit() answers `closed`. All ends are
// handed out by poll(), also those of callbacks.
//
// With std::uint16_t tokens and MaxSegments as many as request_queue's it serves request_queue as its Queue.
// One thread, which is the controller's. Does not move. Recovery may be destroyed first; the queue is then closed.
template <class Controller, class Token = completion_callback, unsigned MaxDepth = 64,
          unsigned MaxSegments = 1>
class recoverable_queue : public detail::supervised_queue {
  using pair_type = typename Controller::template io_queue<std::uint16_t, MaxDepth>;
  static constexpr bool calls_back = std::invocable<Token&, completion>;
  static_assert(std::is_trivially_copyable_v<Token>, "tokens are copied as bytes");

 public:
  using token_type = Token;
  using observer = void (*)(void* context, queue_event what, recoverable_queue& queue, Token* token,
                            completion answer) noexcept;

  recoverable_queue() noexcept : supervised_queue(calls, commands_of_this_) {}
  // The queue pair is deleted; commands that have not ended are ended with their callbacks, other tokens are dropped.
  ~recoverable_queue() {
    leave();
    pair_ = {};
    if (calls_back)
      (void)fail_all(status_code::aborted_queue_deletion, [](Token& t, completion c) noexcept {
        if constexpr (calls_back) t(c);
      });
    if (observer_ != nullptr) {
      std::exchange(observer_, nullptr)(observer_context_, queue_event::gone, *this, nullptr, {});
    }
  }

  // Makes the queue pair, under the care of `by`. Once. Errors: those of controller::create_queue_pair().
  [[nodiscard]] result<> open(recovery<Controller>& by,
                              const queue_options& options = {}) noexcept {
    PHASEBIT_EXPECTS(shared_ == nullptr && end_ == queue_end::never_made,
                     "the queue is open already");
    if (!by.running()) {
      return failure(errc::not_ready,
                     "the controller does not work: recovery's resume() comes first");
    }
    controller_ = &by.controller();
    options_ = options;
    auto made = controller_->create_queue_pair(options_, tokens<std::uint16_t, MaxDepth>);
    if (!made) return made.error();
    pair_ = std::move(*made);
    format_ = pair_.format();
    options_.depth = pair_.depth();
    slots_ = static_cast<unsigned>(pair_.depth() - 1);
    for (unsigned i = 0; i != slots_; ++i) free_[i] = static_cast<std::uint16_t>(slots_ - 1 - i);
    commands_ = std::span{commands_of_this_}.first(slots_);
    join(by.shared());
    reopen();
    return {};
  }

  // Posts a command without data.
  submitted submit(const submission_entry& command, const Token& token) noexcept {
    if (const submitted now = can_take(); !now) return now;
    kept& k = next();
    k.kind = kept_kind::entry;
    k.command = command;
    return take(token, detail::is_repeatable(command));
  }
  // ... whose length is held against the region's, as queue_pair does.
  submitted submit(const submission_entry& command, const dma_region& data,
                   const Token& token) noexcept {
    return with_region(kept_kind::checked, command, data, token);
  }
  submitted submit_unchecked(const submission_entry& command, const dma_region& data,
                             const Token& token) noexcept {
    return with_region(kept_kind::unchecked, command, data, token);
  }
  // ... to or from segments; at most MaxSegments.
  submitted submit_unchecked(const submission_entry& command,
                             std::span<const segment<bus_space>> segments,
                             const Token& token) noexcept {
    if (const submitted now = can_take(); !now) return now;
    if (segments.size() > MaxSegments) {
      return submitted::as_refused(errc::out_of_range,
                                   "the command has more segments than the queue's MaxSegments");
    }
    kept& k = next();
    k.kind = kept_kind::segments;
    k.command = command;
    k.segment_count = static_cast<std::uint8_t>(segments.size());
    for (std::size_t i = 0; i != segments.size(); ++i) k.segments[i] = segments[i];
    return take(token, detail::is_repeatable(command));
  }
  // Blocks of the queue's namespace, with the metadata rules of queue_pair.
  submitted read(const block_range& range, const dma_region& data, const Token& token) noexcept {
    return blocks(kept_kind::read, range, data, {}, false, token);
  }
  submitted write(const block_range& range, const dma_region& data, const Token& token) noexcept {
    return blocks(kept_kind::write, range, data, {}, false, token);
  }
  submitted read(const block_range& range, const dma_region& data, const dma_region& metadata,
                 const Token& token) noexcept {
    return blocks(kept_kind::read, range, data, metadata, true, token);
  }
  submitted write(const block_range& range, const dma_region& data, const dma_region& metadata,
                  const Token& token) noexcept {
    return blocks(kept_kind::write, range, data, metadata, true, token);
  }

  void ring() noexcept { pair_.ring(); }

  // Takes completions, calls done(token, completion) for each command that has ended, and posts what waits. Where
  // nothing has ended it gives recovery its turn. Returns how many ended.
  template <std::invocable<Token&, completion> Done>
  unsigned poll(Done&& done, unsigned limit = ~0U) noexcept {
    static_assert(noexcept(done(std::declval<Token&>(), completion{})),
                  "what is called per completion is noexcept");
    unsigned ended = 0;
    detail::recovery_shared* const shared = shared_;
    if (shared != nullptr) {
      // Recovery does not replace the queue pair while it is polled.
      ++shared->polling;
      (void)pair_.poll(
          [&](std::uint16_t& index, completion c) noexcept {
            if (!answer(index, c)) return;
            ++ended;
            hand_out(index, done);
          },
          limit);
      if (shared_ != nullptr) --shared_->polling;
    }
    if (finished_ != 0) ended += hand_out_finished(done);
    if (waiting_ != 0) post_waiting();
    if (ended == 0 && used_ != 0 && shared_ != nullptr) (void)shared_->poll(shared_->procedure);
    return ended;
  }
  unsigned poll(unsigned limit = ~0U) noexcept
    requires calls_back
  {
    return poll([](Token& call, completion c) noexcept { call(c); }, limit);
  }

  // Ends every command with `how` and refuses new ones; recovery has nothing more to do with the queue. For a device
  // that does not use the buffers any more.
  template <std::invocable<Token&, completion> Done>
  unsigned fail_all(nvme::status how, Done&& done) noexcept {
    leave();
    if (end_ == queue_end::none) end_ = queue_end::deleted;
    (void)pair_.fail_all(how, [](std::uint16_t&, completion) noexcept {});
    unsigned ended = 0;
    for (unsigned i = 0; i != slots_; ++i) {
      detail::kept_command& k = commands_of_this_[i];
      if (k.state == detail::kept_state::free) continue;
      if (k.state != detail::kept_state::finished) k.outcome = completion{k.command_id, how};
      if (k.state == detail::kept_state::finished) --finished_;
      if (k.state == detail::kept_state::waiting) --waiting_;
      hand_out(static_cast<std::uint16_t>(i), done);
      ++ended;
    }
    return ended;
  }

  // The namespace's format. Recovery finds the same one again, or refuses further commands until bind().
  [[nodiscard]] const namespace_info& format() const noexcept { return format_; }
  void bind(const namespace_info& ns) noexcept {
    pair_.bind(ns);
    format_ = ns;
    options_.nsid = ns.nsid;
    format_changed_ = false;
  }
  [[nodiscard]] bool is_current(const namespace_info& ns) const noexcept {
    if (ns.generation != format_.generation) return pair_.is_current(ns);
    return !format_changed_ && (pair_.closed() || pair_.is_current(pair_.format()));
  }

  [[nodiscard]] std::uint16_t qid() const noexcept { return pair_.qid(); }
  [[nodiscard]] unsigned available() const noexcept { return closed() ? 0 : slots_ - used_; }
  [[nodiscard]] std::uint32_t depth() const noexcept { return slots_ + 1; }
  [[nodiscard]] std::uint32_t max_transfer() const noexcept { return pair_.max_transfer(); }
  [[nodiscard]] unsigned page_shift() const noexcept { return pair_.page_shift(); }
  [[nodiscard]] unsigned block_shift() const noexcept { return format_.block_shift; }

  // The end of the queue, for a layer above. Completions come from poll(f) alone.
  void observe(observer function, void* context) noexcept {
    observer_ = function;
    observer_context_ = context;
  }

 private:
  enum class kept_kind : std::uint8_t { entry, checked, unchecked, segments, read, write };
  // Everything that is needed to post a command again.
  struct kept {
    Token token{};
    submission_entry command{};
    block_range range{};
    dma_region data{};
    dma_region metadata{};
    std::array<segment<bus_space>, MaxSegments> segments{};
    kept_kind kind = kept_kind::entry;
    std::uint8_t segment_count = 0;
    bool has_metadata = false;
  };
  static_assert(MaxSegments >= 1 && MaxSegments <= 255);

  [[nodiscard]] submitted can_take() const noexcept {
    if (closed()) return submitted::as_closed(text(end_));
    if (used_ == slots_) return submitted::as_full();
    return submitted::as_posted(0);
  }
  [[nodiscard]] std::uint16_t next_index() const noexcept { return free_[slots_ - used_ - 1]; }
  [[nodiscard]] kept& next() noexcept { return kept_[next_index()]; }

  submitted with_region(kept_kind kind, const submission_entry& command, const dma_region& data,
                        const Token& token) noexcept {
    if (const submitted now = can_take(); !now) return now;
    kept& k = next();
    k.kind = kind;
    k.command = command;
    k.data = data;
    return take(token, detail::is_repeatable(command));
  }
  submitted blocks(kept_kind kind, const block_range& range, const dma_region& data,
                   const dma_region& metadata, bool has_metadata, const Token& token) noexcept {
    if (const submitted now = can_take(); !now) return now;
    kept& k = next();
    k.kind = kind;
    k.range = range;
    k.data = data;
    k.metadata = metadata;
    k.has_metadata = has_metadata;
    return take(token, true);
  }
  // The command that was put into next().
  submitted take(const Token& token, bool repeatable) noexcept {
    if (format_changed_) {
      return submitted::as_refused(errc::not_ready,
                                   "the namespace has another format since the controller was "
                                   "reset: bind() the queue to its handle (identify_namespace)");
    }
    const std::uint16_t index = next_index();
    detail::kept_command& state = commands_of_this_[index];
    const submitted posted = post(index);
    if (posted.status == submit_status::refused) return posted;
    kept_[index].token = token;
    state = {};
    state.repeatable = repeatable;
    ++used_;
    if (posted) {
      note_posted(state, posted.command_id);
      return posted;
    }
    // Its queue pair is about to be made again.
    state.state = detail::kept_state::waiting;
    ++waiting_;
    return {.status = submit_status::queued};
  }
  submitted post(std::uint16_t index) noexcept {
    const kept& k = kept_[index];
    switch (k.kind) {
      case kept_kind::entry:
        return pair_.submit(k.command, index);
      case kept_kind::checked:
        return pair_.submit(k.command, k.data, index);
      case kept_kind::unchecked:
        return pair_.submit_unchecked(k.command, k.data, index);
      case kept_kind::segments:
        return pair_.submit_unchecked(k.command, std::span{k.segments}.first(k.segment_count),
                                      index);
      case kept_kind::read:
        return k.has_metadata ? pair_.read(k.range, k.data, k.metadata, index)
                              : pair_.read(k.range, k.data, index);
      case kept_kind::write:
        break;
    }
    return k.has_metadata ? pair_.write(k.range, k.data, k.metadata, index)
                          : pair_.write(k.range, k.data, index);
  }

  // An answer of the device that the pair has handed out, or, of a pair that has ended, none. True: the command has
  // ended, and its outcome is kept.
  [[nodiscard]] bool answer(std::uint16_t index, completion c) noexcept {
    detail::kept_command& k = commands_of_this_[index];
    return pair_.closed() ? lose(k) : settle(k, c);
  }
  template <class Done>
  void hand_out(std::uint16_t index, Done&& done) noexcept {
    detail::kept_command& k = commands_of_this_[index];
    const completion outcome = k.outcome;
    k.state = detail::kept_state::free;
    Token token = kept_[index].token;
    --used_;
    free_[slots_ - used_ - 1] = index;
    done(token, outcome);
  }
  template <class Done>
  unsigned hand_out_finished(Done&& done) noexcept {
    unsigned ended = 0;
    for (unsigned i = 0; i != slots_ && finished_ != 0; ++i) {
      if (commands_of_this_[i].state != detail::kept_state::finished) continue;
      --finished_;
      hand_out(static_cast<std::uint16_t>(i), done);
      ++ended;
    }
    return ended;
  }
  auto keeper() noexcept {
    return [this](std::uint16_t& index, completion c) noexcept {
      if (answer(index, c)) keep(commands_of_this_[index]);
    };
  }
  [[nodiscard]] static constexpr bool same_format(const namespace_info& a,
                                                  const namespace_info& b) noexcept {
    return a.nsid == b.nsid && a.block_bytes == b.block_bytes &&
           a.metadata_bytes == b.metadata_bytes && a.metadata_inline == b.metadata_inline &&
           a.protection == b.protection && a.protection_first == b.protection_first &&
           a.guard == b.guard && a.reference_tag_bits == b.reference_tag_bits;
  }

  [[nodiscard]] result<> make_pair_again() noexcept {
    auto made = controller_->create_queue_pair(options_, tokens<std::uint16_t, MaxDepth>);
    if (!made) return made.error();
    // Behind the ids of the old pair and one lap: a late completion of that pair is then unexpected.
    made->begin_ids_at(pair_.id_mark() + MaxDepth);
    pair_ = std::move(*made);
    if (same_format(format_, pair_.format())) return {};
    format_changed_ = true;
    for (detail::kept_command& k : commands_) {
      if (k.state != detail::kept_state::waiting) continue;
      --waiting_;
      k.outcome = completion{k.command_id, status_code::invalid_namespace_or_format};
      keep(k);
    }
    return {};
  }
  static recoverable_queue& self(supervised_queue& q) noexcept {
    return static_cast<recoverable_queue&>(q);
  }
  static const recoverable_queue& self(const supervised_queue& q) noexcept {
    return static_cast<const recoverable_queue&>(q);
  }
  static constexpr operations calls{
      .open = [](supervised_queue& q) noexcept { return self(q).make_pair_again(); },
      .remove = [](supervised_queue& q) noexcept -> result<> {
        return self(q).controller_->delete_queue_pair(self(q).pair_, self(q).keeper());
      },
      .collect = [](supervised_queue& q) noexcept { (void)self(q).pair_.poll(self(q).keeper()); },
      .discard =
          [](supervised_queue& q) noexcept {
            (void)self(q).pair_.fail_all(status_code::aborted_by_host, self(q).keeper());
          },
      .lost =
          [](supervised_queue& q) noexcept {
            self(q).pair_.end_removed();
            (void)self(q).pair_.poll(self(q).keeper());
          },
      .post =
          [](supervised_queue& q, unsigned index) noexcept {
            return self(q).post(static_cast<std::uint16_t>(index));
          },
      .ring = [](supervised_queue& q) noexcept { self(q).pair_.ring(); },
      .pair_end = [](const supervised_queue& q) noexcept { return self(q).pair_.end_reason(); },
      .health = [](const supervised_queue& q) noexcept { return self(q).pair_.health(); },
      .qid = [](const supervised_queue& q) noexcept { return self(q).pair_.qid(); },
      .ended =
          [](supervised_queue& q) noexcept {
            auto& s = self(q);
            if (s.observer_ != nullptr) {
              s.observer_(s.observer_context_, queue_event::ended, s, nullptr,
                          completion{0, status_code::aborted_by_host});
            }
          },
  };

  std::array<detail::kept_command, MaxDepth - 1> commands_of_this_{};
  std::array<kept, MaxDepth - 1> kept_{};
  std::array<std::uint16_t, MaxDepth - 1> free_{};  // a stack: its lowest elements are free
  pair_type pair_{};
  Controller* controller_ = nullptr;
  queue_options options_{};
  namespace_info format_{};
  unsigned slots_ = 0;
  bool format_changed_ = false;
  observer observer_ = nullptr;
  void* observer_context_ = nullptr;
};

}  // namespace phasebit::nvme::driver
