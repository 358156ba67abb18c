// SPDX-License-Identifier: BSL-1.0
// The device side of one virtio-scsi request queue over asynchronous media: virtio 1.3, section 5.6.6.1.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/virtio/device/dirty_log.hpp>
#include <phasebit/virtio/device/poll_result.hpp>
#include <phasebit/virtio/device/virtqueue.hpp>
#include <phasebit/virtio/scsi/target.hpp>
#include <phasebit/virtio/spec/scsi.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::scsi {

// A command while its media works. One for each command that may be pending; the caller's memory.
template <std::size_t MaxSegments = 128>
struct request_slot {
  static constexpr std::size_t max_segments = MaxSegments;
  static constexpr std::size_t max_response_segments = 16;
  struct range {
    std::uint64_t lba;
    std::uint32_t blocks;
  };

  std::array<block::media_segment, MaxSegments> segments;
  std::array<device::chain_segment, max_response_segments> response;
  std::array<range, max_unmap_descriptors> ranges;
  std::uint64_t tag = 0;
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;  // of the operation at the media
  std::uint64_t left = 0;    // of WRITE SAME, behind it
  std::uint32_t segment_count = 0;
  std::uint32_t block_segments = 0;  // of the data of one block of WRITE SAME
  std::uint32_t response_count = 0;
  std::uint32_t data_bytes = 0;  // that the driver's buffers hold
  std::uint32_t moved = 0;       // of them, when the command has ended well
  block::media_operation operation = block::media_operation::read;
  scsi::response ends_with = scsi::response::ok;  // other than ok: task management ends the command
  bool writes = false;
  bool fua = false;
  bool in_use = false;
  bool in_media = false;
  std::uint8_t range_count = 0;
  std::uint8_t next_range = 0;
  std::uint16_t lun = 0;
  std::uint16_t id = 0;
  std::uint16_t next = 0;  // in the list of free or of parked slots
};

using device::poll_result;

// Takes commands from a virtqueue, passes block transfers to the media of the logical unit, and
// returns them as the media deliver them, in any order. Never waits, allocates nothing. One thread
// at a time, that of the target.
//
// `media` has one object for each logical unit's place, used by this queue alone; it reaches memory
// domain `local` and takes segments of any alignment. A faulty command ends with sense data, a
// command with faulty buffers with a response of virtio. A buffer without space for a response, or
// one that the virtqueue refuses, makes needs_reset() true: no more buffers are taken, those in
// flight are completed.
template <block::AsyncBlockMedia Media, RingOrder Order, std::size_t MaxSegments = 128,
          device::DirtyLog Log = device::no_dirty_log>
class request_queue {
 public:
  using slot_type = request_slot<MaxSegments>;

  // All outlive the queue. There are as many commands pending as there are slots, 1 to 65534.
  request_queue(target& of, std::span<Media> media, std::span<slot_type> slots,
                Log log = {}) noexcept
      : target_(&of), media_(media), slots_(slots), log_(log) {
    PHASEBIT_EXPECTS(!slots.empty() && slots.size() < 0xffff, "a queue has 1 to 65534 slots");
    PHASEBIT_EXPECTS(media.size() == of.units().size(), "each logical unit has media");
    for (const Media& m : media) {
      PHASEBIT_EXPECTS(m.reaches(memory_domain::local) && block::segment_alignment(m) == 1,
                       "the media takes local memory of any alignment");
    }
  }
  request_queue(const request_queue&) = delete;
  request_queue& operator=(const request_queue&) = delete;

  // Begins to serve. Nothing is in flight. Errors as virtqueue::start_at.
  [[nodiscard]] result<> start(const device::queue_setup& setup) noexcept {
    return started(queue_.start(setup));
  }
  [[nodiscard]] result<> start_at(const device::queue_setup& setup,
                                  device::vring_base base) noexcept {
    return started(queue_.start_at(setup, base));
  }
  // Continues with the in-flight record of a predecessor, after start.
  [[nodiscard]] result<> resume(std::span<std::byte> record) noexcept {
    return queue_.resume(record);
  }
  // Takes no more buffers. poll() completes those that were taken; the queue is drained when
  // quiescent().
  void pause() noexcept { paused_ = true; }
  void unpause() noexcept { paused_ = false; }
  // Ends without returning a buffer: for a reset by the driver. The driver's memory is touched until
  // quiescent().
  void abandon() noexcept {
    paused_ = true;
    abandoned_ = true;
    parked_count_ = 0;
    for (std::size_t i = 0; i != slots_.size(); ++i) {
      if (slots_[i].in_media) media_[slots_[i].lun].cancel(i);
    }
  }
  [[nodiscard]] bool quiescent() const noexcept {
    return in_media_ == 0 && (abandoned_ || queue_.in_flight() == 0);
  }
  // After quiescent(): the queue does not exist until it is started again.
  void stop() noexcept {
    PHASEBIT_EXPECTS(in_media_ == 0, "a queue was stopped while its media works");
    queue_.stop();
    running_ = false;
  }

  [[nodiscard]] bool running() const noexcept { return running_; }
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return queue_.in_flight(); }
  [[nodiscard]] bool needs_reset() const noexcept {
    return malformed_ || static_cast<bool>(queue_.last_fault());
  }
  [[nodiscard]] const device::fault& last_fault() const noexcept { return queue_.last_fault(); }
  [[nodiscard]] device::virtqueue<Order>& queue() noexcept { return queue_; }

  // Delivers what the media have finished, then takes at most `budget` buffers, then makes completions
  // visible.
  template <LocalTranslator Memory>
  [[nodiscard]] poll_result poll(Memory& memory, std::uint32_t budget = 64) noexcept {
    poll_result did;
    if (in_media_ != 0) {
      const auto deliver = [this](block::media_tag tag, block::media_status status) noexcept {
        delivered(int_cast<std::size_t>(tag), status);
      };
      for (Media& m : media_) static_cast<void>(m.poll(deliver));
    }
    if (!running_ || abandoned_) return did;
    retry_parked();
    if (!paused_ && !malformed_) {
      std::array<device::chain_segment, MaxSegments + 16> places;
      device::chain chain{places};
      while (did.taken != budget && parked_count_ == 0 && free_count_ != 0) {
        if (queue_.pop(memory, chain) != device::pop_status::ready) break;
        ++did.taken;
        take(chain);
        if (malformed_) break;
      }
    }
    did.completed = completed_;
    completed_ = 0;
    did.notify = queue_.flush();
    return did;
  }

  // -- task management --

  // Asks the commands that `picks(lun, tag)` accepts to end with this response. Those at the media end
  // when the media delivers them, and with their own result if they had an effect.
  template <class Picks>
  void end_tasks(Picks&& picks, scsi::response with) noexcept {
    for (std::size_t i = 0; i != slots_.size(); ++i) {
      slot_type& s = slots_[i];
      if (!s.in_use || !picks(s.lun, s.tag)) continue;
      s.ends_with = with;
      if (s.in_media) media_[s.lun].cancel(i);
    }
  }
  template <class Picks>
  [[nodiscard]] bool any_task(Picks&& picks) const noexcept {
    for (const slot_type& s : slots_) {
      if (s.in_use && picks(s.lun, s.tag)) return true;
    }
    return false;
  }
  // Whether commands that were asked to end are still there.
  [[nodiscard]] bool any_ending() const noexcept {
    for (const slot_type& s : slots_) {
      if (s.in_use && s.ends_with != scsi::response::ok) return true;
    }
    return false;
  }

 private:
  [[nodiscard]] result<> started(const result<>& done) noexcept {
    if (!done) return done;
    PHASEBIT_EXPECTS(in_media_ == 0, "a queue was started while its media works");
    running_ = true;
    paused_ = abandoned_ = malformed_ = false;
    parked_count_ = completed_ = 0;
    free_count_ = static_cast<std::uint32_t>(slots_.size());
    for (std::size_t i = 0; i != slots_.size(); ++i) {
      slots_[i].next = static_cast<std::uint16_t>(i + 1);
      slots_[i].in_use = slots_[i].in_media = false;
    }
    free_head_ = 0;
    return {};
  }

  // -- from the queue --

  void take(const device::chain& chain) noexcept {
    const std::uint64_t place = sizeof(command_response) + target_->sense_size();
    const std::uint16_t index = free_head_;
    slot_type& s = slots_[index];
    const std::uint16_t next = s.next;
    s.next_range = s.range_count = 0;
    s.segment_count = s.response_count = s.block_segments = 0;
    s.left = s.moved = 0;
    s.id = chain.id();
    s.ends_with = scsi::response::ok;
    if (chain.writable_bytes() < place || !keep_response(chain, place, s)) {
      // There is no place for an answer, or it is cut into more segments than a slot keeps.
      malformed_ = true;
      queue_.push(chain.id(), 0);
      return;
    }
    s.in_use = true;
    free_head_ = next;
    --free_count_;
    const std::uint64_t before = sizeof(command_header) + std::uint64_t{target_->cdb_size()};
    if (chain.readable_bytes() < before) return finish(index, scsi::response::failure, no_sense);
    begin(index, chain, before, place);
  }
  // The segments that the response goes to.
  [[nodiscard]] static bool keep_response(const device::chain& chain, std::uint64_t bytes,
                                          slot_type& s) noexcept {
    for (const device::chain_segment& each : chain.writable()) {
      if (bytes == 0) break;
      if (s.response_count == s.response.size()) return false;
      device::chain_segment& kept = s.response[s.response_count++];
      kept = each;
      if (kept.bytes > bytes) kept.bytes = static_cast<std::uint32_t>(bytes);
      bytes -= kept.bytes;
    }
    return bytes == 0;
  }

  void begin(std::uint16_t index, const device::chain& chain, std::uint64_t before,
             std::uint64_t place) noexcept {
    slot_type& s = slots_[index];
    const std::uint64_t out = chain.readable_bytes() - before;
    const std::uint64_t in = chain.writable_bytes() - place;
    s.data_bytes = static_cast<std::uint32_t>((in != 0 ? in : out) & 0xffff'ffff);
    command_header header;
    device::copy_from(chain.readable(), 0, writable_wire_bytes(header));
    cdb c{};
    const std::size_t cdb_bytes = target_->cdb_size() < c.size() ? target_->cdb_size() : c.size();
    device::copy_from(chain.readable(), sizeof header, std::span{c}.first(cdb_bytes));
    s.tag = load_wire<le<std::uint64_t>>(std::as_bytes(std::span{header.tag})).get();
    if (in != 0 && out != 0) return finish(index, scsi::response::failure, no_sense);  // no INOUT
    const auto address = parse_lun(header.lun);
    if (!address) return finish(index, scsi::response::bad_target, no_sense);
    if (address->report_luns) {
      return begin_well_known(index, chain, place, in, c);
    }
    if (address->target != 0) return finish(index, scsi::response::bad_target, no_sense);
    s.lun = address->lun;
    logical_unit nowhere;
    logical_unit* unit = target_->find(*address);
    if (unit == nullptr) {
      unit = &nowhere;
      s.lun = 0;  // has media that is polled
    }
    const Media& media = media_[s.lun];
    response_buffer response;
    const decoded what = unit->decode(c, {media.block_count(), media.block_size()}, response);
    s.writes = what.writes;
    s.fua = what.fua;
    s.lba = what.lba;
    switch (what.action) {
      case action::refused:
        return finish(index, scsi::response::ok, what.wrong);
      case action::done:
        return finish(index, scsi::response::ok, no_sense);
      case action::respond: {
        const std::uint32_t bytes = what.cut(what.response_bytes);
        return respond(index, chain, place, in, std::span{response}.first(bytes));
      }
      case action::report:
        return report_luns(index, chain, place, in, what);
      case action::flush:
        s.operation = block::media_operation::flush;
        s.blocks = 0;
        return submit(index);
      case action::transfer:
        return begin_transfer(index, chain, what, before, out, place, in);
      case action::unmap:
        return begin_unmap(index, chain, what, before, out);
      case action::write_same:
        return begin_write_same(index, chain, what, before, out);
    }
  }
  // The well known logical unit REPORT LUNS supports three commands.
  void begin_well_known(std::uint16_t index, const device::chain& chain, std::uint64_t place,
                        std::uint64_t in, const cdb& c) noexcept {
    slots_[index].lun = 0;
    logical_unit nowhere;
    response_buffer response;
    const decoded what = nowhere.decode(c, {1, 512}, response);
    if (what.action == action::report) return report_luns(index, chain, place, in, what);
    if (static_cast<opcode>(c[0]) == opcode::test_unit_ready) {
      return finish(index, scsi::response::ok, no_sense);
    }
    if (static_cast<opcode>(c[0]) == opcode::inquiry && what.action == action::respond) {
      if ((static_cast<unsigned>(c[1]) & 1U) == 0) response[0] = std::byte{0x1e};
      const std::uint32_t bytes = what.cut(what.response_bytes);
      return respond(index, chain, place, in, std::span{response}.first(bytes));
    }
    finish(index, scsi::response::ok, invalid_command_operation_code);
  }

  void respond(std::uint16_t index, const device::chain& chain, std::uint64_t place,
               std::uint64_t in, std::span<const std::byte> bytes) noexcept {
    if (bytes.size() > in) return finish(index, scsi::response::overrun, no_sense);
    write(chain, place, bytes);
    slots_[index].moved = static_cast<std::uint32_t>(bytes.size());
    finish(index, scsi::response::ok, no_sense);
  }
  void write(const device::chain& chain, std::uint64_t offset,
             std::span<const std::byte> bytes) noexcept {
    device::copy_to(chain.writable(), offset, bytes);
    if (log_.enabled()) {
      for (const device::chain_segment& each : chain.writable()) log_.mark(each.data, each.bytes);
    }
  }
  // SPC-4, 6.33: a header of 8 bytes, then 8 bytes for each logical unit.
  void report_luns(std::uint16_t index, const device::chain& chain, std::uint64_t place,
                   std::uint64_t in, const decoded& what) noexcept {
    const auto units = target_->units();
    std::uint32_t count = 0;
    for (const logical_unit& u : units) count += u.present() && !what.no_data ? 1U : 0U;
    const std::uint32_t all = 8 + 8 * count;
    const std::uint32_t bytes = what.cut(all);
    if (bytes > in) return finish(index, scsi::response::overrun, no_sense);
    std::array<std::byte, 8> entry{};
    put_be(entry, 0, 4, 8 * std::uint64_t{count});
    write(chain, place, entry);
    std::uint32_t at = 8;
    for (std::size_t i = 0; i != units.size() && !what.no_data; ++i) {
      if (!units[i].present() || at >= bytes) continue;
      entry = {};
      put_be(entry, 0, 2, i < 256 ? i : 0x4000 | i);
      write(chain, place + at, std::span{entry}.first(bytes - at < 8 ? bytes - at : 8));
      at += 8;
    }
    slots_[index].moved = bytes;
    finish(index, scsi::response::ok, no_sense);
  }

  // -- commands that move blocks --

  // Appends the segments of `bytes` bytes that begin `skip` bytes into `from`; false: too many.
  [[nodiscard]] static bool append(slot_type& s, std::span<const device::chain_segment> from,
                                   std::uint64_t skip, std::uint64_t bytes) noexcept {
    for (const device::chain_segment& each : from) {
      if (skip >= each.bytes) {
        skip -= each.bytes;
        continue;
      }
      if (bytes == 0) break;
      const std::uint64_t here = each.bytes - skip;
      const std::uint64_t now = here < bytes ? here : bytes;
      if (s.segment_count == MaxSegments) return false;
      s.segments[s.segment_count++] =
          block::media_segment::of({each.data + skip, int_cast<std::size_t>(now)});
      bytes -= now;
      skip = 0;
    }
    return bytes == 0;
  }
  void begin_transfer(std::uint16_t index, const device::chain& chain, const decoded& what,
                      std::uint64_t before, std::uint64_t out, std::uint64_t place,
                      std::uint64_t in) noexcept {
    slot_type& s = slots_[index];
    // A chain has at most 4 GiB; blocks are checked against the medium, whose size may be more.
    const std::uint64_t there = what.writes ? out : in;
    if (what.blocks > there / media_[s.lun].block_size()) {
      return finish(index, scsi::response::overrun, no_sense);
    }
    const std::uint64_t bytes = what.blocks * media_[s.lun].block_size();
    const bool fits = what.writes ? append(s, chain.readable(), before, bytes)
                                  : append(s, chain.writable(), place, bytes);
    if (!fits) return finish(index, scsi::response::failure, no_sense);
    s.operation = what.writes ? block::media_operation::write : block::media_operation::read;
    s.blocks = what.blocks;
    s.moved = static_cast<std::uint32_t>(bytes & 0xffff'ffff);
    submit(index);
  }
  // SBC-3, 5.28. The list is copied once, and all of it is checked before the first range has an effect.
  void begin_unmap(std::uint16_t index, const device::chain& chain, const decoded& what,
                   std::uint64_t before, std::uint64_t out) noexcept {
    slot_type& s = slots_[index];
    if (what.list_bytes > out) return finish(index, scsi::response::overrun, no_sense);
    const auto refuse = [&](const sense& why) noexcept { finish(index, scsi::response::ok, why); };
    std::array<std::byte, 16> entry;
    device::copy_from(chain.readable(), before, std::span{entry}.first(8));
    const std::uint64_t listed = get_be(entry, 2, 2);
    if (listed > what.list_bytes - 8U || listed % 16 != 0) {
      return refuse(parameter_list_length_error);
    }
    if (listed / 16 > max_unmap_descriptors) return refuse(invalid_field_in_parameter_list);
    const Media& media = media_[s.lun];
    for (std::uint64_t at = 8; at != 8 + listed; at += 16) {
      device::copy_from(chain.readable(), before + at, entry);
      const std::uint64_t lba = get_be(entry, 0, 8);
      const auto blocks = static_cast<std::uint32_t>(get_be(entry, 8, 4));
      if (blocks > target_->units()[s.lun].options().max_unmap_blocks) {
        return refuse(invalid_field_in_parameter_list);
      }
      if (!block::in_range(media, lba, blocks)) return refuse(lba_out_of_range);
      s.ranges[s.range_count++] = {lba, blocks};
    }
    s.moved = what.list_bytes;
    s.operation = block::media_operation::discard;
    next_range(s);
    if (s.blocks == 0) return finish(index, scsi::response::ok, no_sense);
    submit(index);
  }
  static void next_range(slot_type& s) noexcept {
    s.blocks = 0;
    while (s.next_range != s.range_count && s.blocks == 0) {
      s.lba = s.ranges[s.next_range].lba;
      s.blocks = s.ranges[s.next_range++].blocks;
    }
  }
  // SBC-3, 5.46. Zeros are one operation; another pattern is written from the driver's block, as often as a
  // slot has segments.
  void begin_write_same(std::uint16_t index, const device::chain& chain, const decoded& what,
                        std::uint64_t before, std::uint64_t out) noexcept {
    slot_type& s = slots_[index];
    const std::uint32_t block = media_[s.lun].block_size();
    if (!what.no_data && out < block) return finish(index, scsi::response::overrun, no_sense);
    s.moved = what.no_data ? 0 : block;
    const bool zeros = what.no_data || all_zero(chain.readable(), before, block);
    if (what.no_data) {
      for (std::size_t at = 0; at != block; at += zero_bytes.size()) {
        s.segments[s.segment_count++] = zero_segment();
      }
    } else if (!append(s, chain.readable(), before, block)) {
      return finish(index, scsi::response::failure, no_sense);
    }
    s.block_segments = s.segment_count;
    const auto most = static_cast<std::uint32_t>(MaxSegments / s.block_segments);
    for (std::uint32_t i = s.block_segments; i != most * s.block_segments; ++i) {
      s.segments[i] = s.segments[i - s.block_segments];
    }
    s.left = what.blocks;
    if (zeros) {
      s.operation = block::media_operation::write_zeroes;
      s.blocks = what.blocks;
      s.segment_count = 0;
    } else {
      next_pattern(s);
    }
    submit(index);
  }
  static void next_pattern(slot_type& s) noexcept {
    const std::uint64_t most = MaxSegments / s.block_segments;
    s.operation = block::media_operation::write;
    s.blocks = s.left < most ? s.left : most;
    s.segment_count = static_cast<std::uint32_t>(s.blocks) * s.block_segments;
  }
  [[nodiscard]] static bool all_zero(std::span<const device::chain_segment> from,
                                     std::uint64_t offset, std::uint32_t bytes) noexcept {
    std::array<std::byte, 64> part;
    for (std::size_t at = 0; at != bytes; at += part.size()) {
      device::copy_from(from, offset + at, part);
      for (const std::byte b : part) {
        if (b != std::byte{0}) return false;
      }
    }
    return true;
  }
  static constexpr std::array<std::byte, 512> zero_bytes{};
  [[nodiscard]] static block::media_segment zero_segment() noexcept {
    // A write does not change what its segments name.
    return block::media_segment::of({const_cast<std::byte*>(zero_bytes.data()), zero_bytes.size()});
  }

  // -- to the media --

  void submit(std::uint16_t index) noexcept {
    for (;;) {
      slot_type& s = slots_[index];
      if (s.ends_with != scsi::response::ok) return finish(index, s.ends_with, no_sense);
      const block::media_answer got =
          media_[s.lun].submit({.operation = s.operation,
                                .fua = s.fua,
                                .lba = s.lba,
                                .blocks = s.blocks,
                                .segments = std::span{s.segments}.first(s.segment_count)},
                               index);
      if (got.is_pending()) {
        s.in_media = true;
        ++in_media_;
        return;
      }
      if (got.is_busy()) return park(index);
      if (!advance(index, got.status())) return;
    }
  }
  // One operation of a command has ended: true when another one follows.
  [[nodiscard]] bool advance(std::uint16_t index, block::media_status status) noexcept {
    slot_type& s = slots_[index];
    if (status == block::media_status::not_supported) {
      // A hint, and an operation that writes replace.
      if (s.operation == block::media_operation::discard) status = block::media_status::good;
      if (s.operation == block::media_operation::write_zeroes) {
        next_pattern(s);
        return true;
      }
    }
    if (status == block::media_status::cancelled && s.ends_with != scsi::response::ok) {
      finish(index, s.ends_with, no_sense);
      return false;
    }
    if (status != block::media_status::good) {
      finish(index, scsi::response::ok, sense_of(status, s.writes));
      return false;
    }
    if (s.range_count != 0) {
      next_range(s);
      if (s.blocks != 0) return true;
    } else if (s.block_segments != 0) {
      s.left -= s.blocks;
      s.lba += s.blocks;
      if (s.left != 0) {
        next_pattern(s);
        return true;
      }
    }
    finish(index, scsi::response::ok, no_sense);
    return false;
  }
  [[nodiscard]] static sense sense_of(block::media_status status, bool writes) noexcept {
    switch (status) {
      case block::media_status::out_of_range:
        return lba_out_of_range;
      case block::media_status::no_space:
        return space_allocation_failed;
      case block::media_status::read_only:
        return write_protected;
      case block::media_status::not_supported:
        return invalid_command_operation_code;
      default:
        return writes ? write_error : unrecovered_read_error;
    }
  }
  void delivered(std::size_t index, block::media_status status) noexcept {
    PHASEBIT_EXPECTS(index < slots_.size() && slots_[index].in_media,
                     "the media delivered a tag that it does not have");
    slots_[index].in_media = false;
    --in_media_;
    if (abandoned_) return;
    const auto which = static_cast<std::uint16_t>(index);
    if (advance(which, status)) submit(which);
  }
  // Commands that the media had no capacity for, the oldest first. No buffer is taken meanwhile.
  void park(std::uint16_t index) noexcept {
    slots_[index].next = 0xffff;
    if (parked_count_++ == 0) {
      parked_head_ = index;
    } else {
      slots_[parked_tail_].next = index;
    }
    parked_tail_ = index;
  }
  void retry_parked() noexcept {
    for (std::uint32_t left = parked_count_; left != 0; --left) {
      const std::uint16_t index = parked_head_;
      parked_head_ = slots_[index].next;
      --parked_count_;
      submit(index);
    }
  }

  // -- back to the driver --

  void finish(std::uint16_t index, scsi::response response, const sense& wrong) noexcept {
    slot_type& s = slots_[index];
    const bool good = response == scsi::response::ok && wrong == no_sense;
    if (log_.enabled() && s.operation == block::media_operation::read) {
      for (std::uint32_t i = 0; i != s.segment_count; ++i) {
        const auto written = s.segments[i].local();
        log_.mark(written.data(), written.size());
      }
    }
    command_response r{};
    const std::uint32_t moved = good ? s.moved : 0;
    r.residual = s.data_bytes - (moved < s.data_bytes ? moved : s.data_bytes);
    r.response = static_cast<std::uint8_t>(response);
    std::array<std::byte, fixed_sense_bytes> bytes{};
    std::uint32_t sense_bytes = 0;
    if (response == scsi::response::ok && wrong != no_sense) {
      bytes = fixed_sense(wrong);
      const std::uint32_t most = target_->sense_size();
      sense_bytes = most < bytes.size() ? most : static_cast<std::uint32_t>(bytes.size());
      r.sense_len = sense_bytes;
      r.status = static_cast<std::uint8_t>(status::check_condition);
    }
    const std::span<const device::chain_segment> to = std::span{s.response}.first(s.response_count);
    device::copy_to(to, 0, wire_bytes(r));
    device::copy_to(to, sizeof r, std::span{bytes}.first(sense_bytes));
    if (log_.enabled()) {
      for (const device::chain_segment& each : to) log_.mark(each.data, each.bytes);
    }
    // Data lies behind the whole place for sense data.
    const std::uint64_t written =
        sizeof r + (moved != 0 && !s.writes ? std::uint64_t{target_->sense_size()} + moved
                                            : std::uint64_t{sense_bytes});
    queue_.push(s.id, static_cast<std::uint32_t>(written < 0xffff'ffff ? written : 0xffff'ffff));
    ++completed_;
    s.in_use = false;
    s.segment_count = 0;
    s.operation = block::media_operation::flush;
    s.next = free_head_;
    free_head_ = index;
    ++free_count_;
  }

  target* target_;
  std::span<Media> media_;
  std::span<slot_type> slots_;
  [[no_unique_address]] Log log_;
  device::virtqueue<Order> queue_;
  std::uint32_t free_count_ = 0;
  std::uint32_t in_media_ = 0;
  std::uint32_t parked_count_ = 0;
  std::uint32_t completed_ = 0;  // since the last flush
  std::uint16_t free_head_ = 0;
  std::uint16_t parked_head_ = 0;
  std::uint16_t parked_tail_ = 0;
  bool running_ = false;
  bool paused_ = false;
  bool abandoned_ = false;
  bool malformed_ = false;
};

}  // namespace phasebit::virtio::scsi
