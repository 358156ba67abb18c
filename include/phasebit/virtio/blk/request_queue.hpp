// SPDX-License-Identifier: BSL-1.0
// The device side of one virtio-blk request queue over asynchronous media: virtio 1.3, section 5.2.6.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/virtio/blk/device_config.hpp>
#include <phasebit/virtio/device/dirty_log.hpp>
#include <phasebit/virtio/device/poll_result.hpp>
#include <phasebit/virtio/device/virtqueue.hpp>
#include <phasebit/virtio/spec/blk.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::blk {

// Ranges of one discard or write zeroes request that a slot keeps.
inline constexpr std::uint32_t max_ranges = 16;

// A request while its media works. One for each request that may be pending; the caller's memory.
template <std::size_t MaxSegments = 128>
struct request_slot {
  static constexpr std::size_t max_segments = MaxSegments;

  std::array<block::media_segment, MaxSegments> segments;
  std::array<range_segment, max_ranges> ranges;
  std::byte* status = nullptr;
  std::uint32_t segment_count = 0;
  std::uint32_t written = 0;  // bytes to report as written
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;
  block::media_operation operation = block::media_operation::read;
  bool fua = false;
  bool in_media = false;
  std::uint16_t id = 0;
  std::uint8_t range_count = 0;
  std::uint8_t next_range = 0;
  std::uint16_t next = 0;  // in the list of free or of parked slots
};

using device::poll_result;

// Takes requests from a virtqueue, passes them to `Media` and returns them as the media delivers
// them, in any order. Never waits, allocates nothing. One thread at a time; a device of several
// queues has one of these, and one media object, for each.
//
// `Media` reaches memory domain `local` and takes segments of any alignment. A request that breaks
// a rule of the protocol ends with IOERR or UNSUPP and does not reach the media. A buffer without a
// writable byte for the status, or one that the virtqueue refuses, makes needs_reset() true: no
// more buffers are taken, those in flight are completed.
//
// `Log` receives the writes to buffers; the transport records the contents of the rings.
template <block::AsyncBlockMedia Media, RingOrder Order, std::size_t MaxSegments = 128,
          device::DirtyLog Log = device::no_dirty_log>
class request_queue {
 public:
  using slot_type = request_slot<MaxSegments>;

  // Both outlive the queue. There are as many requests pending as there are slots, 1 to 65535.
  request_queue(Media& media, std::span<slot_type> slots, const device_options& options,
                Log log = {}) noexcept
      : media_(&media), slots_(slots), options_(options), log_(log) {
    PHASEBIT_EXPECTS(!slots.empty() && slots.size() < 0xffff, "a queue has 1 to 65534 slots");
    PHASEBIT_EXPECTS(media.reaches(memory_domain::local) && block::segment_alignment(media) == 1,
                     "the media takes local memory of any alignment");
    PHASEBIT_EXPECTS(options.max_ranges <= max_ranges, "more ranges than a slot keeps");
  }
  request_queue(const request_queue&) = delete;
  request_queue& operator=(const request_queue&) = delete;

  // Begins to serve. Nothing is in flight. Errors as virtqueue::start_at.
  [[nodiscard]] result<> start(const device::queue_setup& setup) noexcept {
    return started(setup, queue_.start(setup));
  }
  [[nodiscard]] result<> start_at(const device::queue_setup& setup,
                                  device::vring_base base) noexcept {
    return started(setup, queue_.start_at(setup, base));
  }
  // Continues with the in-flight record of a predecessor, after start.
  [[nodiscard]] result<> resume(std::span<std::byte> record) noexcept {
    return queue_.resume(record);
  }

  // Takes no more buffers. poll() completes those that were taken; the queue is drained when
  // in_flight() is 0.
  void pause() noexcept { paused_ = true; }
  void unpause() noexcept { paused_ = false; }
  // Ends without returning a buffer: for a reset by the driver. The media is asked to cancel, and its
  // deliveries are swallowed by poll(); the driver's memory is touched until quiescent().
  void abandon() noexcept {
    paused_ = true;
    abandoned_ = true;
    parked_count_ = 0;
    for (std::size_t i = 0; i != slots_.size(); ++i) {
      if (slots_[i].in_media) media_->cancel(i);
    }
  }
  // No media operation touches the driver's memory, and no status byte will be written.
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
  // The rule that the driver broke; none while the queue runs.
  [[nodiscard]] const device::fault& last_fault() const noexcept { return queue_.last_fault(); }
  [[nodiscard]] device::virtqueue<Order>& queue() noexcept { return queue_; }

  // Delivers what the media has finished, then takes at most `budget` buffers, then makes completions
  // visible. Completions come first, so that a full table does not starve them.
  template <LocalTranslator Memory>
  [[nodiscard]] poll_result poll(Memory& memory, std::uint32_t budget = 64) noexcept {
    poll_result did;
    if (in_media_ != 0) {
      const auto deliver = [this](block::media_tag tag, block::media_status status) noexcept {
        delivered(int_cast<std::size_t>(tag), status);
      };
      static_cast<void>(media_->poll(deliver));
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

  // FLUSH was negotiated and the driver left the cache in write-back mode: writes are stable after a
  // flush only. Otherwise each write is stable when it completes.
  void set_writeback(bool on) noexcept { writeback_ = on; }

 private:
  [[nodiscard]] result<> started(const device::queue_setup& setup, const result<>& done) noexcept {
    if (!done) return done;
    PHASEBIT_EXPECTS(in_media_ == 0, "a queue was started while its media works");
    features_ = setup.features;
    writeback_ = has(feature::flush);
    running_ = true;
    paused_ = abandoned_ = malformed_ = false;
    parked_count_ = completed_ = 0;
    free_count_ = static_cast<std::uint32_t>(slots_.size());
    for (std::size_t i = 0; i != slots_.size(); ++i) {
      slots_[i].next = static_cast<std::uint16_t>(i + 1);
      slots_[i].in_media = false;
    }
    free_head_ = 0;
    return {};
  }
  [[nodiscard]] bool has(std::uint64_t bits) const noexcept { return (features_ & bits) != 0; }

  // ---- from the queue --------------------------------------------------------------------------

  void take(const device::chain& chain) noexcept {
    if (chain.writable_bytes() == 0) {
      // There is no place for a status: the driver cannot be answered.
      malformed_ = true;
      queue_.push(chain.id(), 0);
      return;
    }
    const device::chain_segment& last = chain.writable().back();
    std::byte* const status = last.data + (last.bytes - 1);
    request_header header;
    if (device::copy_from(chain.readable(), 0, writable_wire_bytes(header)) != sizeof(header)) {
      answer(chain.id(), status, request_status::io_error, 1);
      return;
    }
    const std::uint16_t index = free_head_;
    slot_type& slot = slots_[index];
    slot.status = status;
    slot.id = chain.id();
    slot.segment_count = 0;
    slot.range_count = slot.next_range = 0;
    slot.written = 1;
    slot.fua = false;
    const request_status refused = decode(chain, header, slot);
    if (refused != request_status::ok) {
      answer(chain.id(), status, refused, slot.written);
      return;
    }
    free_head_ = slot.next;
    --free_count_;
    if (slot.operation == block::media_operation::flush || slot.blocks != 0) {
      submit(index);
    } else {
      finish(index, request_status::ok);
    }
  }

  // Fills in the slot's operation; anything but ok is the answer.
  [[nodiscard]] request_status decode(const device::chain& chain, const request_header& header,
                                      slot_type& slot) noexcept {
    const std::uint64_t out = chain.readable_bytes() - sizeof(header);
    const std::uint64_t in = chain.writable_bytes() - 1;
    switch (static_cast<request_type>(header.type.get())) {
      case request_type::in:
        if (out != 0) return request_status::io_error;
        slot.written = static_cast<std::uint32_t>(in < 0xffff'ffff ? in + 1 : 0xffff'ffff);
        slot.operation = block::media_operation::read;
        return data(chain.writable(), 0, in, header.sector, slot);
      case request_type::out:
        if (in != 0 || read_only()) return request_status::io_error;
        slot.operation = block::media_operation::write;
        slot.fua = !writeback_;
        return data(chain.readable(), sizeof(header), out, header.sector, slot);
      case request_type::flush:
        if (!has(feature::flush)) return request_status::unsupported;
        if (out != 0 || in != 0 || header.sector != 0) return request_status::io_error;
        slot.operation = block::media_operation::flush;
        slot.lba = slot.blocks = 0;
        return request_status::ok;
      case request_type::get_id:
        return get_id(chain, out, in, slot);
      case request_type::discard:
        if (!has(feature::discard)) return request_status::unsupported;
        slot.operation = block::media_operation::discard;
        return ranges(chain, out, in, slot);
      case request_type::write_zeroes:
        if (!has(feature::write_zeroes)) return request_status::unsupported;
        slot.operation = block::media_operation::write_zeroes;
        slot.fua = !writeback_;
        return ranges(chain, out, in, slot);
      case request_type::get_lifetime:
      case request_type::secure_erase:
        break;
    }
    return request_status::unsupported;
  }

  [[nodiscard]] bool read_only() const noexcept {
    return options_.read_only || block::read_only(*media_);
  }
  // Sectors to blocks: false where they are no whole blocks of the media, or beyond its end.
  [[nodiscard]] bool place(std::uint64_t sector, std::uint64_t sectors, slot_type& slot) noexcept {
    const unsigned shift = block::block_shift(*media_) - sector_shift;
    const std::uint64_t partial = (std::uint64_t{1} << shift) - 1;
    if (((sector | sectors) & partial) != 0) return false;
    slot.lba = sector >> shift;
    slot.blocks = sectors >> shift;
    return block::in_range(*media_, slot.lba, slot.blocks);
  }

  // The segments of `bytes` bytes that begin `skip` bytes into `from`.
  [[nodiscard]] request_status data(std::span<const device::chain_segment> from, std::uint64_t skip,
                                    std::uint64_t bytes, std::uint64_t sector,
                                    slot_type& slot) noexcept {
    if (bytes == 0 || bytes % sector_bytes != 0) return request_status::io_error;
    if (!place(sector, bytes >> sector_shift, slot)) return request_status::io_error;
    for (const device::chain_segment& s : from) {
      if (skip >= s.bytes) {
        skip -= s.bytes;
        continue;
      }
      if (bytes == 0) break;
      const std::uint64_t here = s.bytes - skip;
      const std::uint64_t now = here < bytes ? here : bytes;
      if (slot.segment_count == MaxSegments) return request_status::io_error;
      slot.segments[slot.segment_count++] =
          block::media_segment::of({s.data + skip, static_cast<std::size_t>(now)});
      bytes -= now;
      skip = 0;
    }
    return request_status::ok;
  }
  [[nodiscard]] request_status get_id(const device::chain& chain, std::uint64_t out,
                                      std::uint64_t in, slot_type& slot) noexcept {
    if (out != 0 || in != id_bytes) return request_status::io_error;
    std::array<std::byte, id_bytes> text{};
    for (std::size_t i = 0; i != text.size() && i != options_.id.size(); ++i) {
      text[i] = static_cast<std::byte>(options_.id[i]);
    }
    device::copy_to(chain.writable(), 0, text);
    if (log_.enabled()) {
      for (const device::chain_segment& s : chain.writable()) log_.mark(s.data, s.bytes);
    }
    slot.written = id_bytes + 1;
    slot.operation = block::media_operation::read;
    slot.blocks = 0;
    return request_status::ok;
  }
  // Copies the ranges of a request once, and checks each before the first has an effect.
  [[nodiscard]] request_status ranges(const device::chain& chain, std::uint64_t out,
                                      std::uint64_t in, slot_type& slot) noexcept {
    constexpr std::uint64_t each = sizeof(range_segment);
    if (in != 0 || out == 0 || out % each != 0 || out / each > options_.max_ranges) {
      return request_status::io_error;
    }
    if (read_only()) return request_status::io_error;
    const auto count = static_cast<std::uint8_t>(out / each);
    for (std::uint8_t i = 0; i != count; ++i) {
      range_segment& r = slot.ranges[i];
      device::copy_from(chain.readable(), sizeof(request_header) + i * each,
                        writable_wire_bytes(r));
      const bool zeroes = slot.operation == block::media_operation::write_zeroes;
      if ((r.flags & ~(zeroes ? range_flag_unmap : 0U)) != 0) return request_status::unsupported;
      if (r.num_sectors > options_.max_range_sectors) return request_status::io_error;
      if (!place(r.sector, r.num_sectors, slot)) return request_status::io_error;
    }
    slot.range_count = count;
    next_range(slot);
    return request_status::ok;
  }
  // Moves on to the next range that has blocks; none is left when `blocks` is 0.
  void next_range(slot_type& slot) noexcept {
    slot.blocks = 0;
    while (slot.next_range != slot.range_count && slot.blocks == 0) {
      const range_segment& r = slot.ranges[slot.next_range++];
      static_cast<void>(place(r.sector, r.num_sectors, slot));
    }
  }

  // ---- to the media ----------------------------------------------------------------------------

  void submit(std::uint16_t index) noexcept {
    for (;;) {
      slot_type& slot = slots_[index];
      const block::media_answer got =
          media_->submit({.operation = slot.operation,
                          .fua = slot.fua,
                          .lba = slot.lba,
                          .blocks = slot.blocks,
                          .segments = std::span{slot.segments}.first(slot.segment_count)},
                         index);
      if (got.is_pending()) {
        slot.in_media = true;
        ++in_media_;
        return;
      }
      if (got.is_busy()) {
        park(index);
        return;
      }
      if (!advance(index, got.status())) return;
    }
  }
  // One operation of a request has ended: true when another one follows.
  [[nodiscard]] bool advance(std::uint16_t index, block::media_status status) noexcept {
    slot_type& slot = slots_[index];
    if (status != block::media_status::good) {
      finish(index, status == block::media_status::not_supported ? request_status::unsupported
                                                                 : request_status::io_error);
      return false;
    }
    if (slot.range_count != 0) {
      next_range(slot);
      if (slot.blocks != 0) return true;
    }
    finish(index, request_status::ok);
    return false;
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
  // Requests that the media had no capacity for, the oldest first. No buffer is taken meanwhile.
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
    // Each once: those that are refused again are parked behind the others.
    for (std::uint32_t left = parked_count_; left != 0; --left) {
      const std::uint16_t index = parked_head_;
      parked_head_ = slots_[index].next;
      --parked_count_;
      submit(index);
    }
  }

  // ---- back to the driver ----------------------------------------------------------------------

  void finish(std::uint16_t index, request_status status) noexcept {
    slot_type& slot = slots_[index];
    if (log_.enabled() && slot.operation == block::media_operation::read) {
      for (std::uint32_t i = 0; i != slot.segment_count; ++i) {
        const auto written = slot.segments[i].local();
        log_.mark(written.data(), written.size());
      }
    }
    answer(slot.id, slot.status, status, slot.written);
    slot.next = free_head_;
    free_head_ = index;
    ++free_count_;
  }
  void answer(std::uint16_t id, std::byte* status, request_status value,
              std::uint32_t written) noexcept {
    phasebit::detail::store_once(status, static_cast<std::uint8_t>(value));
    if (log_.enabled()) log_.mark(status, 1);
    queue_.push(id, written);
    ++completed_;
  }

  Media* media_;
  std::span<slot_type> slots_;
  device_options options_;
  [[no_unique_address]] Log log_;
  device::virtqueue<Order> queue_;
  std::uint64_t features_ = 0;
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
  bool writeback_ = false;
};

}  // namespace phasebit::virtio::blk
