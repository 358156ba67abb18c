// SPDX-License-Identifier: BSL-1.0
// The steps of creating and formatting namespaces, of Sanitize and of Device Self-test, with media that
// are done at once and with media that complete later. Each call of the controller's poll() does one
// step of at most 1024 blocks.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/device/formatted_io.hpp>
#include <phasebit/nvme/device/maintenance_job.hpp>
#include <phasebit/nvme/device/namespace_pool.hpp>
#include <phasebit/nvme/device/state.hpp>
#include <phasebit/nvme/spec/async_event.hpp>
#include <phasebit/nvme/spec/maintenance_logs.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::device {

template <class State>
class maintenance_worker {
  using media_type = typename State::media_type;
  using kind = maintenance_job::kind;
  static constexpr bool asynchronous = State::group_type::asynchronous;
  static constexpr bool managed = State::managed;
  static constexpr std::uint64_t blocks_per_step = 1024;
  static constexpr std::uint64_t blocks_of_short_test = 1024;  // of each namespace

 public:
  explicit maintenance_worker(State& s) noexcept : s_(s), job_(s.job) {}

  // Takes the place of a job: a self-test ends with `result`. False where a job runs that does not.
  [[nodiscard]] bool make_way(self_test_result result) noexcept {
    if (job_.what == kind::self_test) end_self_test(result);
    return job_.what == kind::none;
  }
  void end_self_test(self_test_result result) noexcept {
    if constexpr (State::policy::maintenance::present) {
      s_.maintenance.self_test_ended(job_, result);
      job_ = {};
    }
  }
  void start(maintenance_job job) noexcept {
    if constexpr (asynchronous) s_.groups[0].background.stale = s_.groups[0].background.pending;
    job.total = 0;
    for (std::uint32_t nsid = job.nsid; nsid <= job.last; ++nsid) {
      if (media_type* const media = find(job, nsid)) job.total += blocks_to_do(job, *media);
    }
    job_ = job;
  }

  // One step. Returns whether there was something to do.
  bool step() noexcept {
    auto& b = s_.groups[0].background;
    if (b.pending) return false;
    if (b.finished) {
      b.finished = false;
      release_buffer();
      if (!b.stale) after(b.status);
      b.stale = false;
      return true;
    }
    if (job_.what == kind::none) return false;
    media_type* media = nullptr;
    while (job_.nsid <= job_.last && (media = find(job_, job_.nsid)) == nullptr) next_namespace();
    if (media == nullptr) {
      finish(true);
      return true;
    }
    if (!may_begin()) return false;
    media = find(job_, job_.nsid);  // its format may be another now
    const std::uint64_t count = blocks_to_do(job_, *media);
    if (job_.lba >= count) {
      end_of_namespace();
      return true;
    }
    job_.step = smaller(count - job_.lba, blocks_per_step);
    return job_.what == kind::self_test ? read(*media) : erase(*media);
  }

 private:
  [[nodiscard]] static std::uint64_t smaller(std::uint64_t a, std::uint64_t b) noexcept {
    return a < b ? a : b;
  }
  [[nodiscard]] static std::uint64_t blocks_to_do(const maintenance_job& job,
                                                  const media_type& media) noexcept {
    return job.self_test == 1 ? smaller(media.block_count(), blocks_of_short_test)
                              : media.block_count();
  }
  // The media of a namespace that the job works on, or null.
  [[nodiscard]] media_type* find(const maintenance_job& job, std::uint32_t nsid) noexcept {
    auto& set = *s_.namespaces;
    if constexpr (managed) {
      switch (job.what) {
        case kind::create:
          return set.allocated_media(nsid);
        case kind::format:
          return set.pool().allocated(nsid) && set.busy(nsid) ? set.allocated_media(nsid) : nullptr;
        case kind::sanitize:
          whole_ = set.whole_media();
          return &whole_;
        default:
          break;
      }
    }
    return set.find(nsid);
  }
  // Blocks are changed when no controller has commands in flight to them.
  [[nodiscard]] bool may_begin() noexcept {
    if constexpr (managed) {
      auto& pool = s_.namespaces->pool();
      if (job_.what == kind::sanitize) {
        for (std::uint32_t nsid = 1; nsid <= s_.namespaces->highest_nsid(); ++nsid) {
          if (pool.draining(nsid) != 0) return false;
        }
      }
      if (job_.what == kind::format) {
        if (pool.draining(job_.nsid) != 0) return false;
        if (!job_.formatted) pool.set_format(job_.nsid, job_.format);
        job_.formatted = true;
      }
    } else if constexpr (asynchronous) {
      if (job_.what == kind::sanitize && s_.groups[0].table.in_flight() != 0) return false;
    }
    return true;
  }
  bool erase(media_type& media) noexcept {
    if constexpr (asynchronous) {
      const block::media_request zeroes{
          .operation = block::media_operation::write_zeroes, .lba = job_.lba, .blocks = job_.step};
      if (!job_.filling) return submit(media, zeroes);
      return with_buffer(media, block::media_operation::write);
    } else {
      after(status_of_zeroing(media));
      return true;
    }
  }
  [[nodiscard]] block::media_status status_of_zeroing(media_type& media) noexcept
    requires(!asynchronous)
  {
    return block::write_zeroes(media, job_.lba, job_.step);
  }
  bool read(media_type& media) noexcept {
    if constexpr (asynchronous) {
      return with_buffer(media, block::media_operation::read);
    } else {
      job_.step = smaller(job_.step, block::max_block_size >> block::block_shift(media));
      const auto bytes = int_cast<std::size_t>(job_.step << block::block_shift(media));
      after(media.read(job_.lba, std::span{s_.groups[0].buffer.bytes}.first(bytes)));
      return true;
    }
  }
  // Through a buffer of the pool, when one is free.
  bool with_buffer(media_type& media, block::media_operation operation) noexcept
    requires asynchronous
  {
    auto& b = s_.groups[0].background;
    auto& pool = *s_.groups[0].bounce;
    if (pool.available() == 0 || !s_.groups[0].table.for_buffers.empty()) return false;
    const unsigned shift = block::block_shift(media);
    job_.step = smaller(job_.step, pool.buffer_bytes() >> shift);
    b.buffer = pool.take();
    const auto bytes = pool.bytes(b.buffer).first(int_cast<std::size_t>(job_.step << shift));
    if (operation == block::media_operation::write) __builtin_memset(bytes.data(), 0, bytes.size());
    b.segment = block::media_segment::of(bytes);
    b.segment.domain = pool.domain();
    return submit(media, {.operation = operation,
                          .lba = job_.lba,
                          .blocks = job_.step,
                          .segments = {&b.segment, 1}});
  }
  bool submit(media_type& media, const block::media_request& r) noexcept
    requires asynchronous
  {
    auto& b = s_.groups[0].background;
    const auto answer = media.submit(r, background_tag);
    if (answer.is_pending()) {
      b.pending = true;
      return true;
    }
    release_buffer();
    if (answer.is_busy()) return false;
    after(answer.status());
    return true;
  }
  void release_buffer() noexcept {
    if constexpr (asynchronous) {
      auto& b = s_.groups[0].background;
      if (b.buffer != block::bounce_pool::no_buffer) s_.groups[0].bounce->give(b.buffer);
      b.buffer = block::bounce_pool::no_buffer;
    }
  }

  // A step has ended.
  void after(block::media_status status) noexcept {
    if (job_.what == kind::none) return;
    if (status == block::media_status::cancelled) return;  // a reset: the step is done again
    if (status == block::media_status::not_supported && !job_.filling &&
        job_.what != kind::self_test) {
      job_.filling = true;
      return;
    }
    if (status != block::media_status::good) return finish(false);
    if (job_.what == kind::create || job_.what == kind::format) clear_beside();
    job_.lba += job_.step;
    job_.done += job_.step;
  }
  // Metadata, and marks of blocks that cannot be read.
  void clear_beside() noexcept {
    if constexpr (managed) {
      auto& set = *s_.namespaces;
      const namespace_format f = set.format(job_.nsid);
      for (std::uint64_t i = 0; f.metadata_bytes != 0 && i != job_.step; ++i) {
        clear_metadata(f, set.metadata(job_.nsid, job_.lba + i));
      }
      set.mark_uncorrectable(job_.nsid, job_.lba, job_.step, false);
    }
  }
  void clear_everything_beside() noexcept {
    if constexpr (managed) {
      auto& set = *s_.namespaces;
      for (std::uint32_t nsid = 1; nsid <= set.highest_nsid(); ++nsid) {
        if (!set.pool().allocated(nsid)) continue;
        const pooled_namespace& n = set.pool().at(nsid);
        for (std::uint64_t i = 0; n.format.metadata_bytes != 0 && i != n.blocks; ++i) {
          clear_metadata(n.format, set.metadata(nsid, i));
        }
        set.mark_uncorrectable(nsid, 0, n.blocks, false);
        set.pool().finish(nsid);
      }
    }
  }
  void next_namespace() noexcept {
    ++job_.nsid;
    job_.lba = 0;
    job_.formatted = false;
  }
  void erase_zones(std::uint32_t nsid) noexcept {
    if constexpr (State::zoned) {
      if (zone_table* const zones = s_.namespaces->zones(nsid)) zones->erase_all();
    } else {
      static_cast<void>(nsid);
    }
  }
  void end_of_namespace() noexcept {
    if (job_.what == kind::format) erase_zones(job_.nsid);
    if constexpr (managed) {
      if (job_.what == kind::format || job_.what == kind::create) {
        s_.namespaces->pool().finish(job_.nsid);
      }
    }
    next_namespace();
  }
  void finish(bool good) noexcept {
    const maintenance_job was = job_;
    job_ = {};
    switch (was.what) {
      case kind::create:
      case kind::format:
        if (!good) give_up(was);
        s_.job_outcome = {{good ? status_code::success : status_code::write_fault,
                           was.what == kind::create && good ? was.last : 0},
                          true};
        return;
      case kind::sanitize:
        clear_everything_beside();
        for (std::uint32_t nsid = 1; nsid <= s_.namespaces->highest_nsid(); ++nsid) {
          erase_zones(nsid);
        }
        if constexpr (State::policy::maintenance::present) s_.maintenance.sanitized(good);
        s_.events.raise(
            async_event::of(async_event_type::io_command_set, 1, log_page_id::sanitize_status));
        return;
      case kind::self_test:
        if constexpr (State::policy::maintenance::present) {
          s_.maintenance.self_test_ended(
              was, good ? self_test_result::passed : self_test_result::segment_failed);
        }
        return;
      case kind::none:
        return;
    }
  }
  // A Format that failed is not in progress any more.
  void give_up(const maintenance_job& was) noexcept {
    if constexpr (managed) {
      auto& pool = s_.namespaces->pool();
      if (was.what == kind::create) return pool.remove(was.last);
      for (std::uint32_t nsid = was.nsid; nsid <= was.last; ++nsid) {
        if (pool.allocated(nsid)) pool.finish(nsid);
      }
    }
  }

  struct nothing {};
  using whole_type = std::conditional_t<managed, media_type, nothing>;

  State& s_;
  maintenance_job& job_;
  [[no_unique_address]] whole_type whole_{};
};

}  // namespace phasebit::nvme::device
