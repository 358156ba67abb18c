// SPDX-License-Identifier: BSL-1.0
// Block storage whose operations may complete later. NVMe controllers and virtio-blk devices submit
// a request with a tag and continue; the media moves the data straight between its blocks and the
// host's memory, and delivers the tag when it has finished. A synchronous BlockMedia becomes one
// that is always done at once.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/memory/dma_port.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::block {

enum class media_operation : std::uint8_t {
  read,          // blocks to segments
  write,         // segments to blocks
  flush,         // all writes that were delivered before it was submitted survive a loss of power
  write_zeroes,  // the blocks read as zeros afterwards
  discard,       // the content of the blocks is no longer needed
};

[[nodiscard]] constexpr std::string_view name(media_operation operation) noexcept {
  constexpr std::string_view names[] = {"read", "write", "flush", "write_zeroes", "discard"};
  return names[static_cast<std::size_t>(operation)];
}

// A contiguous range of the host's buffer. 16 bytes, so that four fit a cache line.
struct media_segment {
  std::uint64_t address = 0;
  std::uint32_t bytes = 0;
  memory_domain domain = memory_domain::local;
  std::uint16_t reserved = 0;

  [[nodiscard]] static media_segment of(std::span<std::byte> memory) noexcept {
    const std::uint64_t bytes = memory.size();
    PHASEBIT_EXPECTS(bytes <= 0xffff'ffff, "a segment is shorter than 4 GiB");
    return {.address = reinterpret_cast<std::uintptr_t>(memory.data()),
            .bytes = static_cast<std::uint32_t>(bytes)};
  }
  // The memory of a segment in domain `local`.
  [[nodiscard]] std::span<std::byte> local() const noexcept {
    return {reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address)), bytes};
  }
};
static_assert(sizeof(media_segment) == 16);

// One operation on blocks [lba, lba + blocks). For read and write the segments together are exactly
// blocks * block_size() bytes, which the caller guarantees; a segment may end within a block. Other
// operations have no segments, and flush has no blocks. The range may be out of bounds, which the
// media checks.
//
// The array of segments and the memory that they name are valid until the operation has been
// delivered; the request itself only until submit() returns.
struct media_request {
  media_operation operation = media_operation::read;
  bool fua = false;  // write, write_zeroes: stable before it is delivered
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;
  std::span<const media_segment> segments{};
};

// Chosen by the submitter, opaque to the media; unique among the operations in flight.
using media_tag = std::uint64_t;

// The result of submit().
//   done     the operation has finished with this status; no tag is delivered for it
//   pending  poll() will deliver its tag exactly once
//   busy     the media has no capacity now. The request was not accepted; submit it again after a
//            later poll(). Media with nothing in flight is not busy for ever.
class media_answer {
 public:
  [[nodiscard]] static constexpr media_answer done(media_status status) noexcept {
    return media_answer{kind::done, status};
  }
  [[nodiscard]] static constexpr media_answer pending() noexcept {
    return media_answer{kind::pending, media_status::good};
  }
  [[nodiscard]] static constexpr media_answer busy() noexcept {
    return media_answer{kind::busy, media_status::good};
  }

  [[nodiscard]] constexpr bool is_done() const noexcept { return kind_ == kind::done; }
  [[nodiscard]] constexpr bool is_pending() const noexcept { return kind_ == kind::pending; }
  [[nodiscard]] constexpr bool is_busy() const noexcept { return kind_ == kind::busy; }
  // Of an operation that is done.
  [[nodiscard]] constexpr media_status status() const noexcept { return status_; }

  friend constexpr bool operator==(media_answer, media_answer) noexcept = default;

 private:
  enum class kind : std::uint8_t { done, pending, busy };
  constexpr media_answer(kind k, media_status status) noexcept : kind_(k), status_(status) {}

  kind kind_;
  media_status status_;
};

namespace detail {

// Stands for a device's own completion handler where concepts are checked.
struct any_media_sink {
  void operator()(media_tag, media_status) const noexcept {}
};

}  // namespace detail

// Blocks as in BlockMedia, with operations in flight.
//
//   submit(request, tag)  never waits. See media_answer.
//   poll(sink)            calls sink(tag, status) for operations that have finished, in any order,
//                         each tag once, and returns how many. Bounded work. The sink may call
//                         submit() and cancel(), not poll().
//   cancel(tag)           requests an operation to end early. It is delivered nevertheless: with
//                         `cancelled` if it had no effect, with its own status otherwise. A hint:
//                         media may ignore it. An unknown tag is ignored.
//   drained()             no operation is in flight: no segment is touched and no tag is delivered
//                         until the next submit().
//   reaches(domain)       whether segments may name this domain. Segments of other domains are not
//                         submitted; the device side copies through a buffer that the media reaches.
//
// A media object has one submitter, called by one thread at a time, as a queue pair has. Several
// devices or threads use several objects over the same storage.
// When an operation has been delivered, its segments are no longer accessed and its writes are
// visible to every later read, through whichever object. Operations in flight on the same blocks
// are not ordered.
template <class T>
concept AsyncBlockMedia =
    requires(T& media, const T& constant, const media_request& request, media_tag tag,
             memory_domain domain, detail::any_media_sink& sink) {
      { constant.block_size() } noexcept -> std::same_as<std::uint32_t>;
      { constant.block_count() } noexcept -> std::same_as<std::uint64_t>;
      { media.submit(request, tag) } noexcept -> std::same_as<media_answer>;
      { media.poll(sink) } noexcept -> std::same_as<std::size_t>;
      { media.cancel(tag) } noexcept -> std::same_as<void>;
      { constant.drained() } noexcept -> std::same_as<bool>;
      { constant.reaches(domain) } noexcept -> std::same_as<bool>;
    };

// Media whose submit() always answers done. A device side needs no table of pending commands for it.
template <class T>
concept ImmediateMedia = AsyncBlockMedia<T> && requires { requires T::always_done; };

// Media that accesses only memory whose address and length are multiples of segment_alignment()
// bytes, a power of two: direct I/O, other NVMe queue pairs. Others take any.
template <class T>
concept AlignedMedia = AsyncBlockMedia<T> && requires(const T& media) {
  { media.segment_alignment() } noexcept -> std::same_as<std::uint32_t>;
};
template <AsyncBlockMedia Media>
[[nodiscard]] constexpr std::uint32_t segment_alignment(const Media& media) noexcept {
  if constexpr (AlignedMedia<Media>) {
    return media.segment_alignment();
  } else {
    return 1;
  }
}

// The common base of both kinds of media; a device side that takes either requires this concept.
template <class T> concept AnyBlockMedia = BlockMedia<T> || AsyncBlockMedia<T>;

template <AsyncBlockMedia Media>
  requires(!BlockMedia<Media>)
[[nodiscard]] constexpr bool read_only(const Media& media) noexcept {
  if constexpr (requires { media.read_only(); }) {
    return media.read_only();
  } else {
    return false;
  }
}
template <AsyncBlockMedia Media>
  requires(!BlockMedia<Media>)
[[nodiscard]] constexpr bool in_range(const Media& media, std::uint64_t lba,
                                      std::uint64_t blocks) noexcept {
  const std::uint64_t count = media.block_count();
  return lba <= count && blocks <= count - lba;
}
template <AsyncBlockMedia Media>
  requires(!BlockMedia<Media>)
[[nodiscard]] constexpr unsigned block_shift(const Media& media) noexcept {
  return shift_of(media.block_size());
}

// Makes a synchronous media an asynchronous one: every operation is done when submit() returns.
// Keeps a reference. Segments that are whole blocks are read and written in place; a block that two
// segments share goes through a buffer of one block. Called by one thread at a time; several of
// these over one media need one that takes several threads.
template <BlockMedia Media>
class immediate_media {
 public:
  static constexpr bool always_done = true;

  explicit constexpr immediate_media(Media& media) noexcept : media_(&media) {}

  [[nodiscard]] constexpr std::uint32_t block_size() const noexcept { return media_->block_size(); }
  [[nodiscard]] constexpr std::uint64_t block_count() const noexcept {
    return media_->block_count();
  }
  [[nodiscard]] constexpr bool read_only() const noexcept { return block::read_only(*media_); }
  [[nodiscard]] static constexpr bool reaches(memory_domain domain) noexcept {
    return domain == memory_domain::local;
  }
  [[nodiscard]] static constexpr bool drained() noexcept { return true; }
  static constexpr void cancel(media_tag) noexcept {}
  template <class Sink>
  static constexpr std::size_t poll(Sink&&) noexcept {
    return 0;
  }

  [[nodiscard]] media_answer submit(const media_request& request, media_tag) noexcept {
    return media_answer::done(execute(request));
  }

 private:
  [[nodiscard]] media_status execute(const media_request& r) noexcept {
    switch (r.operation) {
      case media_operation::read:
        return transfer(r, [this](std::uint64_t lba, std::span<std::byte> to) noexcept {
          return media_->read(lba, to);
        });
      case media_operation::write:
        return stable(r, transfer(r, [this](std::uint64_t lba, std::span<std::byte> from) noexcept {
                        return media_->write(lba, from);
                      }));
      case media_operation::flush:
        return media_->flush();
      case media_operation::write_zeroes:
        return stable(r, block::write_zeroes(*media_, r.lba, r.blocks));
      case media_operation::discard:
        return block::trim(*media_, r.lba, r.blocks);
    }
    return media_status::not_supported;
  }
  [[nodiscard]] media_status stable(const media_request& r, media_status done) noexcept {
    return r.fua && done == media_status::good ? media_->flush() : done;
  }

  template <class Move>
  [[nodiscard]] media_status transfer(const media_request& r, Move move) noexcept {
    if (!in_range(*media_, r.lba, r.blocks)) return media_status::out_of_range;
    const std::size_t block = media_->block_size();
    const unsigned shift = block::block_shift(*media_);
    std::uint64_t lba = r.lba;
    std::size_t held = 0;  // bytes of the block in buffer_ that segments have covered
    for (const media_segment& s : r.segments) {
      std::span<std::byte> left = s.local();
      while (!left.empty()) {
        if (held == 0 && left.size() >= block) {
          const auto whole = left.first(align_down(left.size(), block));
          const media_status done = move(lba, whole);
          if (done != media_status::good) return done;
          lba += whole.size() >> shift;
          left = left.subspan(whole.size());
          continue;
        }
        const auto shared = std::span{buffer_}.first(block);
        const std::size_t count = left.size() < block - held ? left.size() : block - held;
        if (r.operation == media_operation::read) {
          if (held == 0) {
            const media_status done = move(lba, shared);
            if (done != media_status::good) return done;
          }
          __builtin_memcpy(left.data(), shared.data() + held, count);
        } else {
          __builtin_memcpy(shared.data() + held, left.data(), count);
        }
        held += count;
        left = left.subspan(count);
        if (held != block) continue;
        if (r.operation == media_operation::write) {
          const media_status done = move(lba, shared);
          if (done != media_status::good) return done;
        }
        held = 0;
        ++lba;
      }
    }
    return media_status::good;
  }

  Media* media_;
  alignas(16) std::array<std::byte, max_block_size> buffer_{};
};

}  // namespace phasebit::block
