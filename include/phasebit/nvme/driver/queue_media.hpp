// SPDX-License-Identifier: BSL-1.0
// A namespace behind a queue pair of ours, as asynchronous media: a device side whose disk is another NVMe
// controller. Data moves between that controller and the host's memory, without a bounce.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/namespace_info.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace phasebit::nvme::driver {

// An operation in flight; an array of these is the memory of a queue_media.
struct queue_media_operation {
  block::media_request request{};
  block::media_tag tag = 0;
  std::uint64_t done = 0;         // blocks that commands were posted for
  std::size_t next = 0;           // segment, or free operation
  std::uint32_t skip = 0;         // bytes of that segment
  std::uint32_t outstanding = 0;  // commands
  block::media_status status = block::media_status::good;
  bool used = false;
  bool posted = false;  // all of its commands, or no more of them
  bool ended = false;   // by other means than a completion
};

struct queue_media_options {
  // Segments name the controller's bus addresses under this domain.
  memory_domain domain{1};
  // For Dataset Management, 16 bytes for each operation; without it discard is not supported.
  dma_region ranges = {};
};

// An AsyncBlockMedia. A request becomes one command, or several where PRPs, the transfer limit or 65536 blocks
// request that; it is delivered when the last of them has ended. Doorbells are rung by poll(). A
// command that was posted is not cancelled; what was not posted yet is.
//
// `Queue` is a queue_pair whose token is std::uint32_t, used by nothing else. Queue and operations outlive the
// media. One thread at a time.
template <class Queue>
  requires std::same_as<typename Queue::token_type, std::uint32_t>
class queue_media {
 public:
  // Errors: not_supported (metadata beside the tuple of protection information), invalid_argument (no
  // operations, no blocks, or fewer ranges than operations).
  [[nodiscard]] static result<queue_media> make(Queue& queue, const namespace_info& ns,
                                                const identify_controller& identity,
                                                std::span<queue_media_operation> operations,
                                                const queue_media_options& options = {}) noexcept {
    if (ns.metadata_bytes != 0 && !ns.strips()) {
      return failure(errc::not_supported,
                     "a namespace with metadata beside protection information is no plain media",
                     ns.nsid);
    }
    if (operations.empty() || operations.size() >= none || ns.blocks == 0 ||
        !block::is_block_size(ns.block_bytes)) {
      return failure(errc::invalid_argument,
                     "queue media need operations, and a namespace of blocks of 512 to 4096 bytes",
                     ns.nsid);
    }
    if (options.ranges.size() != 0 &&
        options.ranges.size() < operations.size() * sizeof(dataset_range)) {
      return failure(errc::invalid_argument,
                     "each operation needs a range of its own; too few bytes of ranges",
                     options.ranges.size());
    }
    queue_media made{queue, ns, operations, options};
    made.zeroes_ = identify_controller::oncs_write_zeroes.get(identity.oncs.get());
    made.discards_ = identify_controller::oncs_dataset_management.get(identity.oncs.get()) &&
                     options.ranges.size() != 0;
    return made;
  }

  [[nodiscard]] std::uint32_t block_size() const noexcept { return ns_.block_bytes; }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return ns_.blocks; }
  // Whole blocks, so that every segment may begin or end a command.
  [[nodiscard]] std::uint32_t segment_alignment() const noexcept { return ns_.block_bytes; }
  [[nodiscard]] bool reaches(memory_domain domain) const noexcept { return domain == domain_; }
  [[nodiscard]] bool drained() const noexcept { return in_flight_ == 0; }

  [[nodiscard]] block::media_answer submit(const block::media_request& request,
                                           block::media_tag tag) noexcept {
    using block::media_operation;
    const auto done = [](block::media_status s) noexcept { return block::media_answer::done(s); };
    if (request.operation != media_operation::flush) {
      if (!block::in_range(*this, request.lba, request.blocks)) {
        return done(block::media_status::out_of_range);
      }
      if ((request.operation == media_operation::write_zeroes && !zeroes_) ||
          (request.operation == media_operation::discard && !discards_)) {
        return done(block::media_status::not_supported);
      }
      // The blocks of one range.
      if (request.operation == media_operation::discard && request.blocks > 0xffff'ffff) {
        return done(block::media_status::not_supported);
      }
      if (request.blocks == 0) return done(block::media_status::good);
    }
    if (free_ == none) return block::media_answer::busy();
    const std::uint32_t at = free_;
    queue_media_operation& o = operations_[at];
    free_ = static_cast<std::uint32_t>(o.next);
    o = queue_media_operation{};
    o.request = request;
    o.tag = tag;
    o.used = true;
    ++in_flight_;
    ++stalled_;
    post(at);
    return block::media_answer::pending();
  }

  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    if (in_flight_ == 0) return 0;
    std::size_t delivered = 0;
    queue_->ring();
    queue_->poll([&](std::uint32_t& at, completion c) noexcept {
      queue_media_operation& o = operations_[at];
      --o.outstanding;
      if (!c.ok()) fail(o, status_of(c.status(), o.request.operation));
      delivered += deliver(at, sink) ? 1U : 0U;
    });
    if (stalled_ != 0 || ended_ != 0) {
      for (std::uint32_t at = 0; at != operations_.size(); ++at) {
        if (!operations_[at].used) continue;
        post(at);
        delivered += deliver(at, sink) ? 1U : 0U;
      }
    }
    queue_->ring();
    return delivered;
  }

  void cancel(block::media_tag tag) noexcept {
    for (queue_media_operation& o : operations_) {
      if (!o.used || o.tag != tag || o.posted) continue;
      fail(o, o.outstanding == 0 && o.done == 0 ? block::media_status::cancelled
                                                : failed(o.request.operation));
      return;
    }
  }

 private:
  static constexpr std::uint32_t none = 0xffff'ffff;
  static constexpr std::uint32_t most_blocks = 65'536;  // of one command

  queue_media(Queue& queue, const namespace_info& ns, std::span<queue_media_operation> operations,
              const queue_media_options& options) noexcept
      : queue_(&queue),
        ns_(ns),
        operations_(operations),
        ranges_(options.ranges),
        domain_(options.domain) {
    for (std::size_t i = operations.size(); i != 0; --i) {
      operations_[i - 1] = queue_media_operation{};
      operations_[i - 1].next = free_;
      free_ = static_cast<std::uint32_t>(i - 1);
    }
  }

  [[nodiscard]] static constexpr block::media_status failed(block::media_operation what) noexcept {
    return what == block::media_operation::read ? block::media_status::read_failed
                                                : block::media_status::write_failed;
  }
  [[nodiscard]] static block::media_status status_of(nvme::status status,
                                                     block::media_operation what) noexcept {
    switch (status.code()) {
      case status_code::lba_out_of_range:
        return block::media_status::out_of_range;
      case status_code::capacity_exceeded:
        return block::media_status::no_space;
      case status_code::namespace_write_protected:
        return block::media_status::read_only;
      default:
        return failed(what);
    }
  }
  // The first failure is what is delivered; no further command is posted.
  void fail(queue_media_operation& o, block::media_status how) noexcept {
    if (o.status == block::media_status::good) o.status = how;
    if (!o.posted) {
      o.posted = true;
      --stalled_;
    }
    if (o.outstanding == 0 && !o.ended) {
      o.ended = true;
      ++ended_;
    }
  }
  template <class Sink>
  bool deliver(std::uint32_t at, Sink& sink) noexcept {
    queue_media_operation& o = operations_[at];
    if (!o.used || !o.posted || o.outstanding != 0) return false;
    const block::media_tag tag = o.tag;
    const block::media_status status = o.status;
    if (o.ended) --ended_;
    o.used = false;
    o.next = free_;
    free_ = at;
    --in_flight_;
    sink(tag, status);
    return true;
  }

  // Posts commands until all are, or the queue is full.
  void post(std::uint32_t at) noexcept {
    queue_media_operation& o = operations_[at];
    while (!o.posted) {
      const submitted s = post_one(at, o);
      if (s.status == submit_status::full) return;
      if (!s) return fail(o, failed(o.request.operation));
      ++o.outstanding;
      const bool moves = !o.request.segments.empty();
      if (moves ? o.next == o.request.segments.size() : o.done >= o.request.blocks) {
        o.posted = true;
        --stalled_;
      }
    }
  }
  // The next command of an operation, which is counted as done where it was posted.
  [[nodiscard]] submitted post_one(std::uint32_t at, queue_media_operation& o) noexcept {
    const block::media_request& r = o.request;
    if (!queue_->is_current(ns_)) {
      return submitted::as_refused(errc::not_ready, "a namespace was changed: make the media anew");
    }
    switch (r.operation) {
      case block::media_operation::flush:
        return queue_->submit(nvm::flush(ns_.nsid), at);
      case block::media_operation::write_zeroes: {
        const std::uint64_t remaining = r.blocks - o.done;
        const auto blocks =
            static_cast<std::uint32_t>(remaining < most_blocks ? remaining : most_blocks);
        const submitted s = queue_->submit(
            nvm::write_zeroes(
                {.nsid = ns_.nsid, .lba = r.lba + o.done, .blocks = blocks, .fua = r.fua}),
            at);
        if (s) o.done += blocks;
        return s;
      }
      case block::media_operation::discard: {
        const dma_region own =
            ranges_.subregion(std::size_t{at} * sizeof(dataset_range), sizeof(dataset_range));
        dataset_range range{};
        range.lba = r.lba;
        range.blocks = static_cast<std::uint32_t>(r.blocks);
        std::memcpy(own.data(), &range, sizeof range);
        const submitted s = queue_->submit_unchecked(
            nvm::dataset_management({.nsid = ns_.nsid, .ranges = 1, .deallocate = true}), own, at);
        if (s) o.done = r.blocks;
        return s;
      }
      default:
        return post_transfer(at, o);
    }
  }
  // As many segments as PRPs express: all but the first begin, and all but the last end, at a page.
  [[nodiscard]] submitted post_transfer(std::uint32_t at, queue_media_operation& o) noexcept {
    const block::media_request& r = o.request;
    const std::uint64_t page_mask = (std::uint64_t{1} << queue_->page_shift()) - 1;
    std::uint64_t most = std::uint64_t{most_blocks} << ns_.block_shift;
    if (most > queue_->max_transfer()) most = queue_->max_transfer();
    most &= ~std::uint64_t{ns_.block_bytes - 1};
    std::array<segment<bus_space>, 32> parts{};
    std::size_t count = 0;
    std::uint64_t bytes = 0;
    std::size_t next = o.next;
    std::uint32_t skip = o.skip;
    while (next != r.segments.size() && count != parts.size() && bytes != most) {
      const block::media_segment& s = r.segments[next];
      const std::uint64_t begin = s.address + skip;
      if (count != 0 &&
          (((parts[count - 1].begin.value() + parts[count - 1].bytes) | begin) & page_mask) != 0) {
        break;
      }
      const std::uint64_t remaining = s.bytes - skip;
      const std::uint64_t take = remaining < most - bytes ? remaining : most - bytes;
      parts[count++] = {bus_addr{begin}, take};
      bytes += take;
      skip += static_cast<std::uint32_t>(take);
      if (skip != s.bytes) break;
      skip = 0;
      ++next;
    }
    const bool reads = r.operation == block::media_operation::read;
    block_range range{.nsid = ns_.nsid,
                      .lba = r.lba + o.done,
                      .blocks = static_cast<std::uint32_t>(bytes >> ns_.block_shift),
                      .fua = r.fua && r.operation == block::media_operation::write};
    // The controller makes and checks the tuples: they are the whole metadata.
    if (ns_.is_protected()) {
      range.pi.action = true;
      range.pi.check_guard = reads;
      range.pi.check_reference = reads && ns_.protection == protection_type::type1;
    }
    submission_entry command = reads ? nvm::read(range) : nvm::write(range);
    if (ns_.protection == protection_type::type1 || ns_.protection == protection_type::type2) {
      set_reference_tag(command, range.lba, ns_.reference_tag_bits);
    }
    const submitted s = queue_->submit_unchecked(
        command, std::span<const segment<bus_space>>{parts.data(), count}, at);
    if (s) {
      o.next = next;
      o.skip = skip;
      o.done += bytes >> ns_.block_shift;
    }
    return s;
  }

  Queue* queue_;
  namespace_info ns_;
  std::span<queue_media_operation> operations_;
  dma_region ranges_;
  std::uint32_t free_ = none;
  std::uint32_t in_flight_ = 0;
  std::uint32_t stalled_ = 0;  // operations whose commands are not all posted
  std::uint32_t ended_ = 0;    // operations that no completion will deliver
  memory_domain domain_;
  bool zeroes_ = false;
  bool discards_ = false;
};

}  // namespace phasebit::nvme::driver
