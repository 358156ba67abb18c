// SPDX-License-Identifier: BSL-1.0
// The commands of the NVM command set over media that complete later: NVM Command Set 1.0, 3.2. Each
// command is a sequence of media operations; between two of them it lies in the pending table.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>
#include <phasebit/nvme/device/formatted_io.hpp>
#include <phasebit/nvme/device/io_command.hpp>
#include <phasebit/nvme/device/pending_commands.hpp>
#include <phasebit/nvme/device/state.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::device {

// Collects the segments of a command's data that the media can reach, starting after `skip` bytes,
// and stops at the first that it cannot reach, or when the array is full.
template <class Dma, class Media>
class segment_collector {
 public:
  segment_collector(Dma& dma, const Media& media, access wanted, std::uint64_t skip,
                    std::span<block::media_segment> to) noexcept
      : dma_(&dma), media_(&media), to_(to), skip_(skip), wanted_(wanted) {}

  status_code operator()(bus_addr at, std::uint64_t bytes) noexcept {
    if (skip_ >= bytes) {
      skip_ -= bytes;
      return status_code::success;
    }
    at += skip_;
    bytes -= skip_;
    skip_ = 0;
    const std::uint64_t alignment_mask = block::segment_alignment(*media_) - 1;
    while (bytes != 0) {
      const auto range = map_dma(*dma_, at, bytes, wanted_);
      if (!range) return status_code::data_transfer_error;
      if (!media_->reaches(range->domain) || count_ == to_.size() ||
          ((range->address | range->bytes) & alignment_mask) != 0 || range->bytes > 0xffff'ffff) {
        return walk_finished;
      }
      to_[count_++] = {.address = range->address,
                       .bytes = static_cast<std::uint32_t>(range->bytes),
                       .domain = range->domain};
      total_ += range->bytes;
      at += range->bytes;
      bytes -= range->bytes;
    }
    return status_code::success;
  }
  // Bytes that the host discards go through a buffer.
  status_code skip(std::uint64_t bytes) noexcept {
    if (skip_ >= bytes) {
      skip_ -= bytes;
      return status_code::success;
    }
    return walk_finished;
  }

  // The segments of as many whole blocks as were collected, at most `most` bytes.
  [[nodiscard]] std::span<const block::media_segment> whole(std::uint64_t block_bytes,
                                                            std::uint64_t most) noexcept {
    std::uint64_t keep = total_ < most ? total_ : most;
    keep &= ~(block_bytes - 1);
    while (total_ > keep) {
      auto& last = to_[count_ - 1];
      const std::uint64_t extra = total_ - keep;
      if (extra < last.bytes) {
        last.bytes -= static_cast<std::uint32_t>(extra);
        total_ = keep;
      } else {
        total_ -= last.bytes;
        --count_;
      }
    }
    return to_.first(count_);
  }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return total_; }

 private:
  Dma* dma_;
  const Media* media_;
  std::span<block::media_segment> to_;
  std::size_t count_ = 0;
  std::uint64_t total_ = 0;
  std::uint64_t skip_;
  access wanted_;
};

// Works on the pending table of one poll group. `Finish` is called as finish(const pending_command&)
// for a command that has ended and is to be completed; it is free afterwards.
template <class State, class Finish>
class pending_io {
  using media_type = typename State::media_type;
  using group_type = typename State::group_type;
  using command = io_command<media_type>;

 public:
  pending_io(State& s, group_type& g, Finish finish) noexcept : s_(s), g_(g), finish_(finish) {}

  // Takes a command that was fetched from queue `sqid`. The table is not full.
  void start(std::uint16_t sqid, const submission_entry& c) noexcept {
    const std::uint32_t at = g_.table.take();
    if (const auto bad = accept(at, sqid, c); bad != status_code::success) return end(at, bad);
    advance(at);
  }

  // Takes a Compare and a Write that are one operation: nothing else changes their blocks between the
  // two. The table has two free entries.
  void start_fused(std::uint16_t sqid, submission_entry first, submission_entry second) noexcept {
    const std::uint32_t a = g_.table.take();
    const std::uint32_t b = g_.table.take();
    first.set_fuse(fused::none);
    second.set_fuse(fused::none);
    const auto bad_first = accept(a, sqid, first);
    const auto bad_second = accept(b, sqid, second);
    g_.table.fused += 2;
    g_.table[a].fused = g_.table[b].fused = true;
    const status_code bad = check_fused_pair(first, second);
    if (bad != status_code::success) {
      end(a, bad);
      return end(b, bad);
    }
    if (bad_second != status_code::success && bad_first == status_code::success) {
      end(a, status_code::aborted_failed_fused);
      return end(b, bad_second);
    }
    g_.table[a].partner = b;
    g_.table[b].state = command_state::waits_for_first;
    if (bad_first != status_code::success) return end(a, bad_first);
    advance(a);
  }

  // Media's completions and commands that waited: once in each round, before commands are fetched.
  // Returns how many operations were delivered.
  std::size_t poll() noexcept {
    if (g_.table.in_flight() == 0 && !g_.background.pending && !g_.flushing) return 0;
    std::size_t delivered = 0;
    const auto sink = [this](block::media_tag tag, block::media_status status) noexcept {
      if (tag == flush_tag) {
        g_.flushing = false;
        return;
      }
      if (tag == background_tag) {
        g_.background.pending = false;
        g_.background.finished = true;
        g_.background.status = status;
        return;
      }
      this->deliver(tag, status);
    };
    g_.namespaces->for_each_media(
        [&](media_type& media) noexcept { delivered += media.poll(sink); });
    if constexpr (moves_later) {
      delivered +=
          s_.dma->poll([this](dma_tag tag, bool good) noexcept { this->deliver_move(tag, good); });
    }
    retry();
    return delivered;
  }

  // Requests every command that `picks(const pending_command&)` accepts to end early: with `status`, or
  // without a completion where that is success. Commands that wait end now; operations at the media
  // end when the media delivers them, copies when the DMA port does. Returns whether there was any.
  template <class Picks>
  bool cancel(Picks&& picks, status_code status) noexcept {
    bool any = false;
    const auto ends = [&](std::uint32_t at) noexcept {
      pending_command& p = g_.table[at];
      if (!picks(p)) return false;
      any = true;
      p.state = command_state::active;
      mark(p, status);
      end(at, status);
      return true;
    };
    g_.table.for_media.remove_if(g_.table, ends);
    g_.table.for_buffers.remove_if(g_.table, ends);
    if constexpr (exclusive) g_.table.for_ranges.remove_if(g_.table, ends);
    for (std::uint32_t at = 0; at != g_.table.size(); ++at) {
      pending_command& p = g_.table[at];
      if (p.state == command_state::waits_for_first && picks(p)) {
        any = true;
        mark(p, status);
      }
      if (p.state == command_state::moves_data && picks(p)) {
        any = true;
        mark(p, status);
      }
      if (p.state != command_state::submitted || !picks(p)) continue;
      any = true;
      mark(p, status);
      media_of(p).cancel(g_.table.tag(at));
    }
    return any;
  }

 private:
  enum class next_step : std::uint8_t { submit, wait_for_buffer, wait_for_range, move, ended };

  using namespaces_type = std::remove_pointer_t<decltype(group_type::namespaces)>;
  static constexpr bool formatted = FormattedNamespaces<namespaces_type>;
  // Whether commands can have blocks to themselves.
  static constexpr bool zoned = ZonedNamespaces<namespaces_type>;
  static constexpr bool exclusive = formatted || zoned || State::policy::fused_commands;
  // Whether copies between bounce buffers and the host complete later. Lists, metadata and the data
  // of Compare are read at once.
  static constexpr bool moves_later = AsyncDmaPort<typename State::dma_type>;
  static_assert(!moves_later || State::poll_groups == 1,
                "a DMA port that completes later is polled by one poll group");

  [[nodiscard]] status_code accept(std::uint32_t at, std::uint16_t sqid,
                                   const submission_entry& c) noexcept {
    pending_command& p = g_.table[at];
    p.entry = c;
    p.sqid = sqid;
    command what;
    if (const auto bad = check_io_command(s_, *g_.namespaces, c, what);
        bad != status_code::success) {
      return bad;
    }
    if (const auto bad = check_sanitize(s_); bad != status_code::success) return bad;
    if constexpr (formatted) {
      const auto bad = check_formatted(s_, *g_.namespaces, c, what);
      if (bad != status_code::success) return bad;
      p.formatted = what.media != nullptr && g_.namespaces->format(c.nsid).metadata_bytes != 0;
    }
    count_command(g_.health, what.opcode, what.bytes);
    if constexpr (zoned) {
      const auto bad = begin_zone_access(*g_.namespaces, p.entry, what, p.zone_write);
      if (bad != status_code::success) return bad;
    }
    p.media = what.media;
    p.lba = what.lba;
    p.bytes = what.bytes;
    p.fua = what.stable;
    return status_code::success;
  }

  [[nodiscard]] static media_type& media_of(pending_command& p) noexcept {
    return *static_cast<media_type*>(p.media);
  }
  [[nodiscard]] auto data_of(const pending_command& p) noexcept {
    return data_transfer{*s_.dma, p.entry, s_.regs.page_shift()};
  }
  static void mark(pending_command& p, status_code status) noexcept {
    p.cancelled = true;
    p.cancel_status = status;
    p.discarded = p.discarded || status == status_code::success;
  }

  void deliver(block::media_tag tag, block::media_status status) noexcept {
    const std::uint32_t at = g_.table.find(tag);
    if (at == pending_table::none) return;
    pending_command& p = g_.table[at];
    p.state = command_state::active;
    if (p.discarded) return end(at, status_code::success);
    const bool cut_short = p.cancelled && status == block::media_status::cancelled;
    if (!cut_short && after(at, p, status)) return end(at, p.result);
    if (p.state == command_state::moves_data) return;
    if (p.cancelled) return end(at, {p.cancel_status, p.result.dw0});
    advance(at);
  }

  // The port has ended one copy of a command.
  void deliver_move(dma_tag tag, bool good) noexcept {
    const std::uint32_t at = g_.table.find(tag, command_state::moves_data);
    if (at == pending_table::none) return;
    pending_command& p = g_.table[at];
    if (!good) p.result = status_code::data_transfer_error;
    if (--p.moves != 0) return;
    p.state = command_state::active;
    if (p.discarded) return end(at, status_code::success);
    if (!p.result.ok()) return end(at, p.result);
    const bool sent = static_cast<nvm_opcode>(p.entry.opcode()) == nvm_opcode::read;
    if (sent) {
      release(p.buffer);
      p.offset += p.part;
      if (p.offset == p.bytes) return end(at, status_code::success);
    }
    if (p.cancelled) return end(at, p.cancel_status);
    if (sent || submit(at, p)) advance(at);
  }
  // Handles the result of start_to_host or start_from_host. False: the command waits.
  [[nodiscard]] bool moved(pending_command& p, status_code status, std::uint32_t pending) noexcept {
    p.result = status;
    p.moves = pending;
    if (pending == 0) return true;
    p.state = command_state::moves_data;
    return false;
  }

  // Submits operations until one is pending, the command has to wait, or it has ended.
  void advance(std::uint32_t at) noexcept {
    for (;;) {
      pending_command& p = g_.table[at];
      switch (prepare(at, p)) {
        case next_step::ended:
          return end(at, p.result);
        case next_step::wait_for_buffer:
          p.state = command_state::waits_for_buffer;
          return g_.table.for_buffers.push_back(g_.table, at);
        case next_step::wait_for_range:
          p.state = command_state::waits_for_range;
          return g_.table.for_ranges.push_back(g_.table, at);
        case next_step::move:
          return;
        case next_step::submit:
          break;
      }
      if (!submit(at, p)) return;
    }
  }
  // Returns whether the operation was done at once and the command continues.
  bool submit(std::uint32_t at, pending_command& p) noexcept {
    const block::media_answer answer = media_of(p).submit(p.request, g_.table.tag(at));
    if (answer.is_pending()) {
      p.state = command_state::submitted;
      return false;
    }
    p.state = command_state::active;
    if (answer.is_busy()) {
      p.state = command_state::waits_for_media;
      g_.table.for_media.push_back(g_.table, at);
      return false;
    }
    if (after(at, p, answer.status())) {
      end(at, p.result);
      return false;
    }
    return p.state != command_state::moves_data;
  }

  void end(std::uint32_t at, const command_result& result) noexcept {
    pending_command& p = g_.table[at];
    release(p.buffer);
    release(p.list);
    p.result = result;
    if constexpr (zoned) end_zoned(p);
    if (is_media_error(result.status)) ++g_.health.media_errors;
    if constexpr (formatted) {
      if (result.ok() && !p.discarded &&
          changes_blocks(static_cast<nvm_opcode>(p.entry.opcode())) &&
          static_cast<nvm_opcode>(p.entry.opcode()) != nvm_opcode::write_uncorrectable) {
        g_.namespaces->mark_uncorrectable(p.entry.nsid, p.entry.cdw10_11(), blocks_of(p), false);
      }
    }
    const std::uint32_t second = p.partner;
    const bool goes_on = result.ok() && !p.discarded;
    if constexpr (exclusive) {
      if (p.fused) --g_.table.fused;
    }
    finish_(p);
    g_.table.give(at);
    if constexpr (State::policy::fused_commands) {
      if (second != pending_command::none) end_first(second, goes_on);
    }
  }
  // The first of a fused pair has ended.
  void end_first(std::uint32_t second, bool goes_on) noexcept {
    pending_command& p = g_.table[second];
    p.state = command_state::active;
    p.locked = true;
    if (p.cancelled) return end(second, p.cancel_status);
    if (!goes_on) return end(second, status_code::aborted_failed_fused);
    advance(second);
  }
  [[nodiscard]] static std::uint64_t blocks_of(const pending_command& p) noexcept {
    return std::uint64_t{block_command::nlb.get(p.entry.cdw12.get())} + 1;
  }

  // Whether another command has blocks of this one to itself, or this one needs some to itself that
  // another works on. Commands on namespaces with metadata, whose blocks and metadata are written one
  // after the other, and fused pairs.
  [[nodiscard]] bool has_to_wait(std::uint32_t at, pending_command& p) noexcept {
    const bool any = p.formatted || p.fused || g_.table.fused != 0;
    if (!any || p.media == nullptr) return false;
    const auto mine = range_of(p);
    for (std::uint32_t other = 0; other != g_.table.size(); ++other) {
      const pending_command& q = g_.table[other];
      if (other == at || q.state == command_state::free || !q.locked || q.media != p.media) {
        continue;
      }
      const auto theirs = range_of(q);
      if ((mine.writes || theirs.writes) && mine.first < theirs.end && theirs.first < mine.end) {
        return true;
      }
    }
    return false;
  }
  struct block_span {
    std::uint64_t first;
    std::uint64_t end;
    bool writes;
  };
  [[nodiscard]] static block_span range_of(const pending_command& p) noexcept {
    const auto opcode = static_cast<nvm_opcode>(p.entry.opcode());
    switch (opcode) {
      case nvm_opcode::flush:
      case nvm_opcode::reservation_register:
      case nvm_opcode::reservation_report:
      case nvm_opcode::reservation_acquire:
      case nvm_opcode::reservation_release:
        return {0, 0, false};
      case nvm_opcode::copy:
      case nvm_opcode::dataset_management:
        return {0, ~std::uint64_t{0}, true};
      default:
        return {p.entry.cdw10_11(), p.entry.cdw10_11() + blocks_of(p),
                p.fused || changes_blocks(opcode)};
    }
  }

  // Commands that wait, each once, in the order in which they began to.
  void retry() noexcept {
    if constexpr (exclusive) {
      for (std::uint32_t n = g_.table.for_ranges.size(); n != 0; --n) {
        const std::uint32_t at = g_.table.for_ranges.pop_front(g_.table);
        g_.table[at].state = command_state::active;
        advance(at);
      }
    }
    for (std::uint32_t n = g_.table.for_media.size(); n != 0; --n) {
      const std::uint32_t at = g_.table.for_media.pop_front(g_.table);
      if (submit(at, g_.table[at])) advance(at);
    }
    // A command that waits for buffers is served before those that came later.
    while (!g_.table.for_buffers.empty() && g_.bounce->available() != 0) {
      const std::uint32_t at = g_.table.for_buffers.pop_front(g_.table);
      first_in_line_ = at;
      g_.table[at].state = command_state::active;
      const next_step step = prepare(at, g_.table[at]);
      first_in_line_ = pending_table::none;
      if (step == next_step::wait_for_buffer) {
        g_.table[at].state = command_state::waits_for_buffer;
        return g_.table.for_buffers.push_front(g_.table, at);
      }
      if (step == next_step::move) continue;
      if (step == next_step::ended) {
        end(at, g_.table[at].result);
      } else if (submit(at, g_.table[at])) {
        advance(at);
      }
    }
  }

  // -- bounce buffers --

  [[nodiscard]] bool may_take(std::uint32_t at, std::uint32_t buffers) const noexcept {
    return g_.bounce->available() >= buffers &&
           (g_.table.for_buffers.empty() || first_in_line_ == at);
  }
  void release(std::uint32_t& buffer) noexcept {
    if (buffer == pending_command::none) return;
    g_.bounce->give(buffer);
    buffer = pending_command::none;
  }
  [[nodiscard]] std::span<const block::media_segment> bounce_segment(std::uint32_t at,
                                                                     std::uint32_t bytes) noexcept {
    const auto to = g_.table.segments(at).first(1);
    to[0] = g_.bounce->segment(g_.table[at].buffer, bytes);
    return to;
  }

  // -- the next operation of a command --

  next_step ended(pending_command& p, const command_result& result) noexcept {
    p.result = result;
    return next_step::ended;
  }

  [[nodiscard]] next_step prepare(std::uint32_t at, pending_command& p) noexcept {
    if constexpr (exclusive) {
      if (!p.locked) {
        if (has_to_wait(at, p)) return next_step::wait_for_range;
        p.locked = true;
      }
    }
    if constexpr (ReservableNamespaces<namespaces_type>) {
      if (is_reservation_command(static_cast<nvm_opcode>(p.entry.opcode()))) {
        return ended(p, execute_reservation(s_, *g_.namespaces, p.entry));
      }
    }
    if constexpr (zoned) {
      switch (static_cast<nvm_opcode>(p.entry.opcode())) {
        case nvm_opcode::zone_management_receive:
          return ended(p, report_zones(s_, *g_.namespaces->zones(p.entry.nsid), p.entry));
        case nvm_opcode::zone_management_send:
          return prepare_zone_send(at, p);
        default:
          break;
      }
    }
    if constexpr (formatted) {
      if (static_cast<nvm_opcode>(p.entry.opcode()) == nvm_opcode::write_uncorrectable) {
        g_.namespaces->mark_uncorrectable(p.entry.nsid, p.lba, blocks_of(p), true);
        return ended(p, status_code::success);
      }
      if (p.formatted && is_formatted_transfer(p)) return prepare_formatted(at, p);
    }
    switch (static_cast<nvm_opcode>(p.entry.opcode())) {
      case nvm_opcode::read:
        return prepare_transfer(at, p, block::media_operation::read);
      case nvm_opcode::write:
        return prepare_transfer(at, p, block::media_operation::write);
      case nvm_opcode::compare:
      case nvm_opcode::verify:
        return prepare_inspection(at, p);
      case nvm_opcode::write_zeroes:
        return prepare_zeroes(at, p);
      case nvm_opcode::flush:
        return prepare_flush(p);
      case nvm_opcode::dataset_management:
        return prepare_discard(at, p);
      case nvm_opcode::copy:
        return prepare_copy(at, p);
      default:
        return ended(p, status_code::invalid_opcode);
    }
  }

  // -- namespaces with metadata: `buffer` holds blocks, `list` their metadata --

  [[nodiscard]] static bool is_formatted_transfer(const pending_command& p) noexcept {
    const auto opcode = static_cast<nvm_opcode>(p.entry.opcode());
    return moves_data(opcode) || opcode == nvm_opcode::verify;
  }
  [[nodiscard]] auto formatted_of(pending_command& p) noexcept {
    return formatted_command{s_,
                             *g_.namespaces,
                             p.entry,
                             g_.namespaces->format(p.entry.nsid),
                             p.entry.cdw10_11(),
                             static_cast<std::uint32_t>(blocks_of(p)),
                             block::block_shift(media_of(p))};
  }
  struct formatted_part {
    std::uint64_t first;  // block of the command
    std::span<std::byte> data;
    std::span<std::byte> metadata;
  };
  [[nodiscard]] formatted_part part_of(pending_command& p, std::uint32_t bytes) noexcept {
    const unsigned shift = block::block_shift(media_of(p));
    const std::size_t metadata =
        (bytes >> shift) * std::size_t{g_.namespaces->format(p.entry.nsid).metadata_bytes};
    return {p.offset >> shift, g_.bounce->bytes(p.buffer).first(bytes),
            g_.bounce->bytes(p.list).first(metadata)};
  }
  [[nodiscard]] next_step prepare_formatted(std::uint32_t at, pending_command& p) noexcept {
    if (p.buffer == pending_command::none) {
      if (!may_take(at, 2)) return next_step::wait_for_buffer;
      p.buffer = g_.bounce->take();
      p.list = g_.bounce->take();
    }
    const std::uint32_t bytes = buffer_part(p.bytes - p.offset);
    const bool writing = static_cast<nvm_opcode>(p.entry.opcode()) == nvm_opcode::write;
    if (writing) {
      auto own = formatted_of(p);
      const auto part = part_of(p, bytes);
      auto done = own.from_host(part.first, part.data, part.metadata);
      if (done == status_code::success) done = own.protect(part.first, part.data, part.metadata);
      if (done != status_code::success) return ended(p, done);
    }
    request(p, writing ? block::media_operation::write : block::media_operation::read, here(p),
            bytes, bounce_segment(at, bytes));
    return next_step::submit;
  }
  [[nodiscard]] bool after_formatted(pending_command& p) noexcept {
    auto own = formatted_of(p);
    const auto part = part_of(p, p.part);
    const auto opcode = static_cast<nvm_opcode>(p.entry.opcode());
    status_code done = status_code::success;
    if (opcode == nvm_opcode::write) {
      own.store(here(p), part.metadata);
    } else {
      own.load(here(p), part.metadata);
      done = own.verify(part.first, part.data, part.metadata);
      if (done == status_code::success && opcode == nvm_opcode::read) {
        done = own.to_host(part.first, part.data, part.metadata);
      }
      if (done == status_code::success && opcode == nvm_opcode::compare) {
        done = own.compare_host(part.first, part.data, part.metadata);
      }
    }
    if (done != status_code::success) return finished(p, done);
    p.offset += p.part;
    return p.offset == p.bytes && finished(p, status_code::success);
  }
  // The metadata of the part of a Copy lies behind its list of ranges.
  static constexpr std::size_t copy_metadata_at = max_copy_ranges * sizeof(copy_range);
  [[nodiscard]] std::uint64_t copy_part_blocks(std::uint64_t blocks) const noexcept {
    if constexpr (formatted) {
      const std::uint64_t most = (g_.bounce->buffer_bytes() - copy_metadata_at) / 64;
      return blocks < most ? blocks : most;
    }
    return blocks;
  }
  // Between reading a part of a Copy and writing it.
  [[nodiscard]] status_code between_copies(pending_command& p) noexcept {
    if constexpr (formatted) {
      auto own = formatted_of(p);
      const auto range = current_copy_range(p);
      const std::uint64_t from = p.request.lba;
      const std::uint64_t blocks = p.request.blocks;
      if (g_.namespaces->any_uncorrectable(p.entry.nsid, from, blocks)) {
        return status_code::unrecovered_read_error;
      }
      if (!p.formatted) return status_code::success;
      const auto data = g_.bounce->bytes(p.buffer).first(p.part);
      const auto metadata = copy_metadata(p, blocks);
      own.load(from, metadata);
      const auto read =
          own.verify(read_protection_of(p.entry, range), from - range.lba, data, metadata);
      if (read != status_code::success) return read;
      const std::uint64_t to = p.lba + (from - range.lba);
      return own.protect(to - p.entry.cdw10_11(), data, metadata);
    }
    return status_code::success;
  }
  void copied(pending_command& p) noexcept {
    if constexpr (formatted) {
      const std::uint64_t to = p.request.lba;
      const std::uint64_t blocks = p.request.blocks;
      if (p.formatted) formatted_of(p).store(to, copy_metadata(p, blocks));
      g_.namespaces->mark_uncorrectable(p.entry.nsid, to, blocks, false);
    }
  }
  [[nodiscard]] std::span<std::byte> copy_metadata(pending_command& p,
                                                   std::uint64_t blocks) noexcept
    requires formatted
  {
    return g_.bounce->bytes(p.list).subspan(
        copy_metadata_at,
        int_cast<std::size_t>(blocks) * g_.namespaces->format(p.entry.nsid).metadata_bytes);
  }
  // Blocks were deallocated, or zeroed.
  void deallocated(pending_command& p) noexcept {
    if constexpr (formatted) {
      const auto range = load_wire<dataset_range>(
          g_.bounce->bytes(p.list).subspan(p.index * sizeof(dataset_range)));
      if (p.formatted) formatted_of(p).clear(range.lba, range.blocks);
      g_.namespaces->mark_uncorrectable(p.entry.nsid, range.lba, range.blocks, false);
    }
  }
  [[nodiscard]] bool zeroed(pending_command& p) noexcept {
    if constexpr (formatted) {
      if (p.formatted) formatted_of(p).zero();
    }
    return finished(p, status_code::success);
  }

  void request(pending_command& p, block::media_operation operation, std::uint64_t lba,
               std::uint64_t bytes, std::span<const block::media_segment> segments) noexcept {
    p.part = static_cast<std::uint32_t>(bytes);
    p.request = {.operation = operation,
                 .fua = p.fua && operation != block::media_operation::read,
                 .lba = lba,
                 .blocks = bytes >> block::block_shift(media_of(p)),
                 .segments = segments};
  }
  [[nodiscard]] std::uint64_t here(pending_command& p) noexcept {
    return p.lba + (p.offset >> block::block_shift(media_of(p)));
  }
  [[nodiscard]] std::uint32_t buffer_part(std::uint64_t left) const noexcept {
    const std::uint32_t most = g_.bounce->buffer_bytes();
    return left < most ? static_cast<std::uint32_t>(left) : most;
  }

  // Directly between host and media if the media reaches the host's memory, else through a buffer.
  [[nodiscard]] next_step prepare_transfer(std::uint32_t at, pending_command& p,
                                           block::media_operation operation) noexcept {
    const bool reading = operation == block::media_operation::read;
    media_type& media = media_of(p);
    segment_collector direct{*s_.dma, media, reading ? access::write : access::read, p.offset,
                             g_.table.segments(at)};
    const auto walked =
        data_of(p).for_each_range(p.bytes, reading ? access::write : access::read, direct);
    if (walked != status_code::success) return ended(p, walked);
    const auto segments = direct.whole(media.block_size(), 0x8000'0000);
    if (direct.bytes() != 0) {
      request(p, operation, here(p), direct.bytes(), segments);
      return next_step::submit;
    }
    if (!may_take(at, 1)) return next_step::wait_for_buffer;
    p.buffer = g_.bounce->take();
    const std::uint32_t part = buffer_part(p.bytes - p.offset);
    request(p, operation, here(p), part, bounce_segment(at, part));
    if (reading) return next_step::submit;
    const auto to = g_.bounce->bytes(p.buffer).first(part);
    if constexpr (moves_later) {
      const auto begun = data_of(p).start_from_host(p.bytes, p.offset, to, g_.table.tag(at));
      if (!moved(p, begun.status, begun.pending)) return next_step::move;
      return p.result.ok() ? next_step::submit : next_step::ended;
    } else {
      const auto got = data_of(p).from_host(p.bytes, p.offset, to);
      return got == status_code::success ? next_step::submit : ended(p, got);
    }
  }

  // Compare and Verify: blocks into a buffer.
  [[nodiscard]] next_step prepare_inspection(std::uint32_t at, pending_command& p) noexcept {
    if (p.buffer == pending_command::none) {
      if (!may_take(at, 1)) return next_step::wait_for_buffer;
      p.buffer = g_.bounce->take();
    }
    const std::uint32_t part = buffer_part(p.bytes - p.offset);
    request(p, block::media_operation::read, here(p), part, bounce_segment(at, part));
    return next_step::submit;
  }

  [[nodiscard]] next_step prepare_zeroes(std::uint32_t at, pending_command& p) noexcept {
    if (!p.filling) {
      p.request = {.operation = block::media_operation::write_zeroes,
                   .fua = p.fua,
                   .lba = p.lba,
                   .blocks = p.bytes >> block::block_shift(media_of(p))};
      return next_step::submit;
    }
    if (p.buffer == pending_command::none) {
      if (!may_take(at, 1)) return next_step::wait_for_buffer;
      p.buffer = g_.bounce->take();
    }
    const std::uint32_t part = buffer_part(p.bytes - p.offset);
    __builtin_memset(g_.bounce->bytes(p.buffer).data(), 0, part);
    request(p, block::media_operation::write, here(p), part, bounce_segment(at, part));
    return next_step::submit;
  }

  // -- zoned namespaces --

  // The command ends: its blocks, or the zone that it was resetting, are others' again.
  void end_zoned(pending_command& p) noexcept {
    auto& set = *g_.namespaces;
    end_zone_access(set, p.entry.nsid, p.zone_write, p.result);
    p.zone_write = {};
    if (p.resets_zone) {
      p.resets_zone = false;
      if (zone_table* const zones = set.zones(p.entry.nsid)) zones->end_reset(p.index, false);
    }
  }
  // From zone `index` on. A zone is finished or reset when no write to it is in flight.
  [[nodiscard]] next_step prepare_zone_send(std::uint32_t at, pending_command& p) noexcept {
    zone_table* const table = g_.namespaces->zones(p.entry.nsid);
    if (table == nullptr) return ended(p, status_code::invalid_namespace_or_format);
    zone_table& zones = *table;
    if (p.resets_zone) return prepare_zeroes(at, p);
    const zone_send send = zone_send_of(zones, p.entry);
    // Open of all is checked before the first zone is opened.
    if (send.status != status_code::success && p.index == 0) return ended(p, send.status);
    if (p.index < send.first) p.index = static_cast<std::uint32_t>(send.first);
    for (; p.index < send.end; ++p.index) {
      const std::size_t i = p.index;
      if (send.all && !is_selected(send.action, zones.at(i).state)) continue;
      if (send.action != zone_send_action::reset) {
        bool wait = false;
        const auto done = send_to_zone(zones, send.action, i, data_of(p), wait);
        if (wait) return next_step::wait_for_range;
        if (done != status_code::success) return ended(p, done);
        continue;
      }
      const auto bad = zones.check_reset(i);
      if (bad != status_code::success) return ended(p, bad);
      if (zones.at(i).in_flight != 0) return next_step::wait_for_range;
      zones.begin_reset(i);
      const std::uint64_t blocks = zones.reset_blocks(i);
      if (blocks == 0) {
        zones.end_reset(i, true);
        continue;
      }
      p.resets_zone = true;
      p.lba = zones.start_of(i);
      p.bytes = blocks << block::block_shift(media_of(p));
      p.offset = 0;
      return prepare_zeroes(at, p);
    }
    return ended(p, status_code::success);
  }
  // Blocks of the zone that is being reset were zeroed.
  void zeroed_zone(pending_command& p) noexcept {
    if (p.filling) {
      p.offset += p.part;
      if (p.offset != p.bytes) return;
    }
    p.resets_zone = false;
    release(p.buffer);
    if (zone_table* const zones = g_.namespaces->zones(p.entry.nsid)) {
      zones->end_reset(p.index, true);
    }
    ++p.index;
  }

  [[nodiscard]] next_step prepare_flush(pending_command& p) noexcept {
    if (p.entry.nsid == all_namespaces) {
      auto& spaces = *g_.namespaces;
      do {
        if (p.index == spaces.highest_nsid()) return ended(p, status_code::success);
        p.media = spaces.find(++p.index);
      } while (p.media == nullptr);
    }
    p.request = {.operation = block::media_operation::flush};
    return next_step::submit;
  }

  // The list is copied once, and the operations resume from its index.
  [[nodiscard]] next_step prepare_discard(std::uint32_t at, pending_command& p) noexcept {
    const std::size_t bytes = dataset_list_bytes(p.entry);
    if (p.list == pending_command::none) {
      if (!may_take(at, 1)) return next_step::wait_for_buffer;
      p.list = g_.bounce->take();
      const auto list = g_.bounce->bytes(p.list).first(bytes);
      if (const auto got = data_of(p).from_host(list); got != status_code::success) {
        return ended(p, got);
      }
      const auto bad = check_dataset_ranges(p.entry, media_of(p), list);
      if (bad != status_code::success) return ended(p, bad);
      if (!dataset_management_command::ad.get(p.entry.cdw11.get())) {
        return ended(p, status_code::success);
      }
    }
    for (; p.index * sizeof(dataset_range) != bytes; ++p.index) {
      const auto range = load_wire<dataset_range>(
          g_.bounce->bytes(p.list).subspan(p.index * sizeof(dataset_range)));
      if (range.blocks == 0) continue;
      p.request = {
          .operation = block::media_operation::discard, .lba = range.lba, .blocks = range.blocks};
      return next_step::submit;
    }
    return ended(p, status_code::success);
  }

  // `lba` is where the current range goes, `offset` its bytes that are copied.
  [[nodiscard]] next_step prepare_copy(std::uint32_t at, pending_command& p) noexcept {
    const std::size_t bytes = copy_list_bytes(p.entry);
    if (p.list == pending_command::none) {
      if (const auto bad = check_copy_fields(p.entry); bad != status_code::success) {
        return ended(p, bad);
      }
      if (!may_take(at, 2)) return next_step::wait_for_buffer;
      p.list = g_.bounce->take();
      p.buffer = g_.bounce->take();
      const auto list = g_.bounce->bytes(p.list).first(bytes);
      if (const auto got = data_of(p).from_host(list); got != status_code::success) {
        return ended(p, got);
      }
      auto bad = check_copy_ranges(p.entry, media_of(p), list);
      if constexpr (formatted) {
        if (bad == status_code::success) {
          bad = check_copy_protection(p.entry, g_.namespaces->format(p.entry.nsid), list);
        }
      }
      if constexpr (zoned) {
        if (bad == status_code::success) {
          bad = begin_zone_copy(*g_.namespaces, p.entry, list, p.zone_write);
        }
      }
      if (bad != status_code::success) return ended(p, bad);
      p.lba = p.entry.cdw10_11();
    }
    if (p.index * sizeof(copy_range) == bytes) return ended(p, status_code::success);
    const unsigned shift = block::block_shift(media_of(p));
    const auto range = current_copy_range(p);
    const std::uint64_t blocks = std::uint64_t{range.nlb.get()} + 1;
    const std::uint64_t done = p.offset >> shift;
    const std::uint64_t part = copy_part_blocks(buffer_part((blocks - done) << shift) >> shift);
    const std::uint64_t first = next_copy_part(range.lba, p.lba, blocks, done, part);
    const auto segments = bounce_segment(at, static_cast<std::uint32_t>(part << shift));
    if (p.writing) {
      request(p, block::media_operation::write, p.lba + first, part << shift, segments);
    } else {
      request(p, block::media_operation::read, range.lba + first, part << shift, segments);
    }
    return next_step::submit;
  }
  [[nodiscard]] copy_range current_copy_range(const pending_command& p) const noexcept {
    return load_wire<copy_range>(g_.bounce->bytes(p.list).subspan(p.index * sizeof(copy_range)));
  }

  // -- an operation has finished --

  // Returns whether the command has ended; its result is in `result`. If not, it continues, or waits for
  // its data to reach the host (moves_data).
  [[nodiscard]] bool after(std::uint32_t at, pending_command& p,
                           block::media_status status) noexcept {
    const auto opcode = static_cast<nvm_opcode>(p.entry.opcode());
    if (status == block::media_status::not_supported) {
      // A hint, and an operation that a write replaces.
      if (opcode == nvm_opcode::dataset_management) status = block::media_status::good;
      if ((opcode == nvm_opcode::write_zeroes || (zoned && p.resets_zone)) && !p.filling) {
        p.filling = true;
        return false;
      }
    }
    if (opcode == nvm_opcode::copy) return after_copy(p, status);
    if (status != block::media_status::good) return finished(p, status_of(status));
    if constexpr (zoned) {
      if (p.resets_zone) {
        zeroed_zone(p);
        return false;
      }
    }
    if constexpr (formatted) {
      if (p.formatted && is_formatted_transfer(p)) return after_formatted(p);
    }
    switch (opcode) {
      case nvm_opcode::read:
        if (p.buffer != pending_command::none) {
          const auto from = g_.bounce->bytes(p.buffer).first(p.part);
          if constexpr (moves_later) {
            const auto begun = data_of(p).start_to_host(p.bytes, p.offset, from, g_.table.tag(at));
            if (!moved(p, begun.status, begun.pending)) return false;
            if (!p.result.ok()) return true;
          } else {
            static_cast<void>(at);
            const auto sent = data_of(p).to_host(p.bytes, p.offset, from);
            if (sent != status_code::success) return finished(p, sent);
          }
          release(p.buffer);
        }
        break;
      case nvm_opcode::write:
        release(p.buffer);
        break;
      case nvm_opcode::compare: {
        const auto same =
            data_of(p).compare(p.bytes, p.offset, g_.bounce->bytes(p.buffer).first(p.part));
        if (same != status_code::success) return finished(p, same);
        break;
      }
      case nvm_opcode::verify:
        break;
      case nvm_opcode::write_zeroes:
        if (!p.filling) return zeroed(p);
        if (p.offset + p.part == p.bytes) return zeroed(p);
        break;
      case nvm_opcode::flush:
        return p.entry.nsid != all_namespaces && finished(p, status_code::success);
      default:  // Dataset Management
        deallocated(p);
        ++p.index;
        return false;
    }
    p.offset += p.part;
    return p.offset == p.bytes && finished(p, status_code::success);
  }
  [[nodiscard]] bool after_copy(pending_command& p, block::media_status status) noexcept {
    // DW0 of a Copy that failed: the first range that was not copied whole.
    p.result.dw0 = p.index;
    if (status != block::media_status::good) {
      p.result = {status_of(status), p.index};
      return true;
    }
    if (!p.writing) {
      if (const auto bad = between_copies(p); bad != status_code::success) {
        p.result = {bad, p.index};
        return true;
      }
    } else {
      copied(p);
    }
    p.writing = !p.writing;
    if (p.writing) return false;
    const std::uint64_t blocks = std::uint64_t{current_copy_range(p).nlb.get()} + 1;
    p.offset += p.part;
    if (p.offset >> block::block_shift(media_of(p)) == blocks) {
      p.offset = 0;
      p.lba += blocks;
      ++p.index;
    }
    return false;
  }
  [[nodiscard]] static bool finished(pending_command& p, status_code status) noexcept {
    p.result = status;
    return true;
  }

  State& s_;
  group_type& g_;
  Finish finish_;
  std::uint32_t first_in_line_ = pending_table::none;
};

}  // namespace phasebit::nvme::device
