// SPDX-License-Identifier: BSL-1.0
// An open disk as asynchronous media: a device side whose blocks lie on an NVMe disk behind any backend.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/hosted/open_disk.hpp>
#include <phasebit/memory/dma_buffer.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace phasebit::hosted {

struct disk_media_options {
  std::uint32_t operations = 64;                         // in flight; more are busy
  std::uint32_t buffer_bytes = std::uint32_t{64} << 10;  // of DMA memory for each of them
  bool read_only = false;
};

// An AsyncBlockMedia over an any_disk. Segments are in domain local; data goes through DMA memory of the
// disk, one copy each way, in commands of at most buffer_bytes. write_zeroes and discard are
// not_supported. An operation that was begun is not cancelled. Commands reach the disk at the next poll().
//
// The disk outlives the media. Several media may share one disk on one thread; each one's poll() delivers
// its own operations. For a queue pair and bus addresses without a copy see nvme::driver::queue_media. The
// destructor waits for operations in flight.
class disk_media {
 public:
  // Errors: not_supported (blocks with metadata), exhausted (DMA memory), and those of the disk.
  [[nodiscard]] static result<disk_media> make(any_disk& disk,
                                               const disk_media_options& options = {}) {
    PHASEBIT_EXPECTS(options.operations != 0 && options.buffer_bytes >= block::max_block_size &&
                         options.buffer_bytes % block::max_block_size == 0,
                     "operations, with buffers of a multiple of 4096 bytes");
    if (!disk.info().takes_plain_data() || !block::is_block_size(disk.info().block_bytes)) {
      return failure(errc::not_supported,
                     "a namespace with metadata, or with blocks of another size than 512 to 4096 "
                     "bytes, is no plain media",
                     disk.info().nsid);
    }
    disk_media made{disk, options};
    for (operation& o : made.own_->operations) {
      auto buffer = phasebit::allocate(disk, made.own_->buffer_bytes);
      if (!buffer) return buffer.error();
      o.buffer = std::move(*buffer);
    }
    return made;
  }
  // The other object has nothing any more, and must not be used.
  disk_media(disk_media&&) noexcept = default;
  disk_media& operator=(disk_media&&) = delete;
  ~disk_media() {
    while (own_ != nullptr && own_->in_flight != 0) {
      static_cast<void>(poll([](block::media_tag, block::media_status) noexcept {}));
    }
  }

  [[nodiscard]] std::uint32_t block_size() const noexcept { return own_->block_bytes; }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return own_->disk->info().blocks; }
  [[nodiscard]] bool read_only() const noexcept { return own_->read_only; }
  [[nodiscard]] static constexpr bool reaches(memory_domain domain) noexcept {
    return domain == memory_domain::local;
  }
  [[nodiscard]] bool drained() const noexcept { return own_->in_flight == 0; }
  static void cancel(block::media_tag) noexcept {}

  [[nodiscard]] block::media_answer submit(const block::media_request& request,
                                           block::media_tag tag) noexcept {
    using block::media_answer;
    using block::media_operation;
    if (request.operation != media_operation::flush) {
      if (!block::in_range(*this, request.lba, request.blocks)) {
        return media_answer::done(block::media_status::out_of_range);
      }
      if (request.operation != media_operation::read && own_->read_only) {
        return media_answer::done(block::media_status::read_only);
      }
      if (request.operation != media_operation::read &&
          request.operation != media_operation::write) {
        return media_answer::done(block::media_status::not_supported);
      }
      if (request.blocks == 0) return media_answer::done(block::media_status::good);
    }
    if (own_->free.empty()) return media_answer::busy();
    operation& o = *own_->free.back();
    own_->free.pop_back();
    ++own_->in_flight;
    o.request = request;
    o.tag = tag;
    o.bytes = request.blocks * own_->block_bytes;
    o.done = 0;
    own_->go_on(o);
    return media_answer::pending();
  }

  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    if (own_->in_flight == 0) return 0;
    own_->disk->ring();
    // A disk that is gone answers nothing; check() ends its queue, and with it what is in flight.
    if (own_->disk->poll() != 0) {
      own_->idle_polls = 0;
    } else if (++own_->idle_polls % polls_per_check == 0) {
      static_cast<void>(own_->disk->check());
    }
    for (std::size_t n = own_->waiting.size(); n != 0; --n) {
      operation& o = *own_->waiting.front();
      own_->waiting.erase(own_->waiting.begin());
      own_->go_on(o);
    }
    own_->disk->ring();
    std::size_t delivered = 0;
    while (!own_->ended.empty()) {
      operation& o = *own_->ended.back();
      own_->ended.pop_back();
      const block::media_tag tag = o.tag;
      const block::media_status status = o.status;
      own_->free.push_back(&o);
      --own_->in_flight;
      ++delivered;
      sink(tag, status);
    }
    return delivered;
  }

 private:
  static constexpr std::uint32_t polls_per_check = 4096;

  struct state;
  struct operation {
    dma_buffer<any_disk> buffer;
    state* owner = nullptr;
    block::media_request request{};
    block::media_tag tag = 0;
    std::uint64_t bytes = 0;
    std::uint64_t done = 0;  // bytes that commands have moved
    std::size_t part = 0;    // bytes of the command in flight
    block::media_status status = block::media_status::good;
  };
  // Callbacks keep its address, so it does not move.
  struct state {
    any_disk* disk;
    std::uint32_t block_bytes;
    std::uint32_t buffer_bytes;
    bool read_only;
    std::vector<operation> operations;
    std::vector<operation*> free = {};
    std::vector<operation*> waiting = {};  // to submit a command: the next, or the queue was full
    std::vector<operation*> ended = {};
    std::size_t in_flight = 0;
    std::uint32_t idle_polls = 0;

    void end(operation& o, block::media_status status) noexcept {
      o.status = status;
      ended.push_back(&o);  // has the capacity
    }
    // Submits the next command of an operation.
    void go_on(operation& o) noexcept {
      const block::media_request& r = o.request;
      const auto answered = [&o](nvme::driver::completion c) noexcept { o.owner->answered(o, c); };
      nvme::driver::submitted sent;
      if (r.operation == block::media_operation::flush) {
        sent = disk->flush(answered);
      } else {
        o.part = int_cast<std::size_t>(std::min<std::uint64_t>(o.bytes - o.done, buffer_bytes));
        const nvme::block_range range{.nsid = disk->info().nsid,
                                      .lba = r.lba + o.done / block_bytes,
                                      .blocks = static_cast<std::uint32_t>(o.part / block_bytes),
                                      .fua = r.fua};
        const dma_region data = o.buffer->subregion(0, o.part);
        if (r.operation == block::media_operation::write) {
          copy(o, [](std::span<std::byte> host, std::span<std::byte> own) noexcept {
            copy_shared(own, host);
          });
          sent = disk->write(range, data, answered);
        } else {
          sent = disk->read(range, data, answered);
        }
      }
      if (sent) return;
      if (sent.status == nvme::driver::submit_status::full) return waiting.push_back(&o);
      end(o, failed(r.operation));
    }
    void answered(operation& o, nvme::driver::completion c) noexcept {
      if (!c.ok()) return end(o, status_of(c.status(), o.request.operation));
      if (o.request.operation == block::media_operation::read) {
        copy(o, [](std::span<std::byte> host, std::span<std::byte> own) noexcept {
          copy_shared(host, own);
        });
      }
      o.done += o.part;
      if (o.request.operation == block::media_operation::flush || o.done == o.bytes) {
        return end(o, block::media_status::good);
      }
      waiting.push_back(&o);
    }
    // Calls move(segment's bytes, buffer's bytes) for the part of the data at `done`.
    template <class Move>
    static void copy(operation& o, Move move) noexcept {
      std::span<std::byte> own = o.buffer.bytes().first(o.part);
      std::uint64_t skip = o.done;
      for (const block::media_segment& s : o.request.segments) {
        if (skip >= s.bytes) {
          skip -= s.bytes;
          continue;
        }
        const auto host = s.local().subspan(int_cast<std::size_t>(skip));
        skip = 0;
        const std::size_t n = std::min(host.size(), own.size());
        move(host.first(n), own.first(n));
        own = own.subspan(n);
        if (own.empty()) return;
      }
    }
    [[nodiscard]] static block::media_status failed(block::media_operation what) noexcept {
      return what == block::media_operation::read ? block::media_status::read_failed
                                                  : block::media_status::write_failed;
    }
    [[nodiscard]] static block::media_status status_of(nvme::status status,
                                                       block::media_operation what) noexcept {
      switch (status.code()) {
        case nvme::status_code::lba_out_of_range:
          return block::media_status::out_of_range;
        case nvme::status_code::capacity_exceeded:
          return block::media_status::no_space;
        case nvme::status_code::namespace_write_protected:
          return block::media_status::read_only;
        default:
          return failed(what);
      }
    }
  };

  disk_media(any_disk& disk, const disk_media_options& options)
      : own_(std::make_unique<state>(
            state{.disk = &disk,
                  .block_bytes = disk.info().block_bytes,
                  .buffer_bytes = options.buffer_bytes,
                  .read_only = options.read_only,
                  .operations = std::vector<operation>(options.operations)})) {
    // One command carries a buffer.
    if (disk.max_transfer() < own_->buffer_bytes) own_->buffer_bytes = disk.max_transfer();
    own_->buffer_bytes -= own_->buffer_bytes % own_->block_bytes;
    own_->free.reserve(options.operations);
    own_->waiting.reserve(options.operations);
    own_->ended.reserve(options.operations);
    for (operation& o : own_->operations) {
      o.owner = own_.get();
      own_->free.push_back(&o);
    }
  }

  std::unique_ptr<state> own_;
};
static_assert(block::AsyncBlockMedia<disk_media>);

}  // namespace phasebit::hosted
