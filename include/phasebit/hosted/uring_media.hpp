// SPDX-License-Identifier: BSL-1.0
// A disk in a file or a block device, by io_uring: operations complete later, without threads. Needs
// liburing (Debian: liburing-dev) and -luring; the header is empty where <liburing.h> is not installed.
#pragma once

#if __has_include(<liburing.h>)

#  include <phasebit/block/async_media.hpp>
#  include <phasebit/core/expects.hpp>
#  include <phasebit/core/int_cast.hpp>
#  include <phasebit/core/result.hpp>
#  include <phasebit/hosted/file_media.hpp>

#  include <algorithm>
#  include <cerrno>
#  include <cstddef>
#  include <cstdint>
#  include <memory>
#  include <optional>
#  include <span>
#  include <utility>
#  include <vector>

#  include <fcntl.h>
#  include <liburing.h>
#  include <sys/uio.h>

namespace phasebit::hosted {

struct uring_media_options {
  unsigned capacity = 128;  // operations in flight; more are busy
  unsigned segments = 64;   // of one operation of the kernel; a request with more becomes several
  int event_fd =
      -1;  // the kernel signals it when an operation has finished, for a sleeping device side
};

// An AsyncBlockMedia over a file_media, which it owns. Segments are in domain local, at any alignment; data
// moves straight between them and the kernel's cache. Operations reach the kernel at the next poll(), all
// with one system call. One thread at a time; several objects may work on one file. The destructor
// cancels and waits.
class uring_media {
 public:
  // Errors: not_supported (the kernel has no io_uring, or forbids it), exhausted (locked memory), io.
  [[nodiscard]] static result<uring_media> make(file_media file,
                                                const uring_media_options& options = {}) {
    PHASEBIT_EXPECTS(options.capacity != 0 && options.capacity <= 16'384 && options.segments != 0 &&
                         options.segments <= 1024,
                     "1 to 16384 operations of 1 to 1024 segments");
    uring_media made{std::move(file), options};
    // A place for each operation and for its cancellation.
    const int failed = ::io_uring_queue_init(2 * options.capacity, &made.ring_->uring, 0);
    if (failed != 0) return setup_failed(-failed);
    made.ring_->open = true;
    if (options.event_fd >= 0) {
      const int refused = ::io_uring_register_eventfd(&made.ring_->uring, options.event_fd);
      if (refused != 0) return setup_failed(-refused);
    }
    return made;
  }
  // The other object has no ring any more, and must not be used.
  uring_media(uring_media&&) noexcept = default;
  uring_media& operator=(uring_media&&) = delete;
  ~uring_media() {
    if (ring_ == nullptr || !ring_->open) return;
    for (operation& o : operations_) {
      if (o.used) cancel(o.tag);
    }
    while (in_flight_ != 0) {
      (void)poll([](block::media_tag, block::media_status) noexcept {});
      if (in_flight_ != 0) (void)::io_uring_submit_and_wait(&ring_->uring, 1);
    }
  }

  [[nodiscard]] std::uint32_t block_size() const noexcept { return file_.block_size(); }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return file_.block_count(); }
  [[nodiscard]] bool read_only() const noexcept { return file_.read_only(); }
  [[nodiscard]] static constexpr bool reaches(memory_domain domain) noexcept {
    return domain == memory_domain::local;
  }

  [[nodiscard]] block::media_answer submit(const block::media_request& request,
                                           block::media_tag tag) noexcept {
    const auto done = [](block::media_status s) noexcept { return block::media_answer::done(s); };
    if (request.operation != block::media_operation::flush) {
      if (!block::in_range(*this, request.lba, request.blocks)) {
        return done(block::media_status::out_of_range);
      }
      if (request.operation != block::media_operation::read && read_only()) {
        return done(block::media_status::read_only);
      }
      if (request.blocks == 0) return done(block::media_status::good);
    } else if (read_only()) {
      return done(block::media_status::good);
    }
    if (free_.empty()) return block::media_answer::busy();
    const std::uint32_t at = free_.back();
    free_.pop_back();
    operation& o = operations_[at];
    o = operation{};
    o.request = request;
    o.tag = tag;
    o.used = true;
    ++in_flight_;
    start(at);
    return block::media_answer::pending();
  }

  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    if (in_flight_ == 0) return 0;
    start_waiting();
    // Entries that the kernel does not take now stay in the ring for the next poll.
    (void)::io_uring_submit(&ring_->uring);
    std::size_t delivered = 0;
    ::io_uring_cqe* entry = nullptr;
    // At most as many as can have finished, so that a sink that submits does not keep this call.
    for (std::size_t most = 2 * operations_.size(); most != 0; --most) {
      if (::io_uring_peek_cqe(&ring_->uring, &entry) != 0) break;
      const std::uint64_t user = entry->user_data;
      const int answer = entry->res;
      ::io_uring_cqe_seen(&ring_->uring, entry);
      if (user == of_a_cancellation) continue;
      const auto at = static_cast<std::uint32_t>(user);
      const auto status = after(at, answer);
      if (!status) continue;
      const block::media_tag tag = operations_[at].tag;
      operations_[at].used = false;
      free_.push_back(at);
      --in_flight_;
      ++delivered;
      sink(tag, *status);
    }
    return delivered;
  }

  void cancel(block::media_tag tag) noexcept {
    for (std::uint32_t at = 0; at != operations_.size(); ++at) {
      operation& o = operations_[at];
      if (!o.used || o.tag != tag || o.cancelled) continue;
      o.cancelled = true;
      if (o.waits) return;  // start_waiting() ends it
      if (::io_uring_sqe* const e = entry()) {
        ::io_uring_prep_cancel64(e, at, 0);
        e->user_data = of_a_cancellation;
      }
      return;
    }
  }
  [[nodiscard]] bool drained() const noexcept { return in_flight_ == 0; }

 private:
  struct ring {
    ring() = default;
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() {
      if (open) ::io_uring_queue_exit(&uring);
    }
    ::io_uring uring{};
    bool open = false;
  };
  struct operation {
    block::media_request request{};
    block::media_tag tag = 0;
    std::uint64_t done = 0;  // bytes that are moved
    bool used = false;
    bool cancelled = false;
    bool syncing = false;  // the data is written and is being made stable
    bool waits = false;    // for a place in the submission queue
  };

  static constexpr std::uint64_t of_a_cancellation = ~std::uint64_t{0};
  static constexpr std::uint64_t longest = std::uint64_t{1} << 30;  // bytes of one operation

  uring_media(file_media file, const uring_media_options& options)
      : file_(std::move(file)),
        ring_(std::make_unique<ring>()),
        segments_(options.segments),
        operations_(options.capacity),
        vectors_(std::size_t{options.capacity} * options.segments) {
    free_.reserve(options.capacity);
    for (unsigned i = options.capacity; i != 0; --i) free_.push_back(i - 1);
  }

  [[nodiscard]] static error setup_failed(int reason) noexcept {
    const auto value = static_cast<std::uint64_t>(reason);
    switch (reason) {
      case ENOSYS:
      case EPERM:
      case EACCES:
        return failure(errc::not_supported, "the kernel has no io_uring, or forbids it", value);
      case ENOMEM:
        return failure(errc::exhausted, "io_uring may not lock so much memory", value);
      default:
        return failure(errc::io, "io_uring cannot be set up; errno is the value", value);
    }
  }

  // A free place in the submission queue, or null.
  [[nodiscard]] ::io_uring_sqe* entry() noexcept {
    if (auto* const e = ::io_uring_get_sqe(&ring_->uring)) return e;
    (void)::io_uring_submit(&ring_->uring);
    return ::io_uring_get_sqe(&ring_->uring);
  }

  void start(std::uint32_t at) noexcept {
    operation& o = operations_[at];
    ::io_uring_sqe* const e = entry();
    o.waits = e == nullptr;
    if (o.waits) return;
    const block::media_request& r = o.request;
    const auto offset = r.lba * block_size();
    const auto length = r.blocks * block_size();
    if (o.syncing || r.operation == block::media_operation::flush) {
      ::io_uring_prep_fsync(e, file_.descriptor(), IORING_FSYNC_DATASYNC);
    } else if (r.operation == block::media_operation::read) {
      const auto to = rest_of(at);
      ::io_uring_prep_readv(e, file_.descriptor(), to.data(), static_cast<unsigned>(to.size()),
                            offset + o.done);
    } else if (r.operation == block::media_operation::write) {
      const auto from = rest_of(at);
      ::io_uring_prep_writev2(e, file_.descriptor(), from.data(),
                              static_cast<unsigned>(from.size()), offset + o.done,
                              r.fua ? RWF_DSYNC : 0);
    } else {
      const int mode = r.operation == block::media_operation::discard
                           ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                           : FALLOC_FL_ZERO_RANGE;
      ::io_uring_prep_fallocate(e, file_.descriptor(), mode, static_cast<off_t>(offset),
                                static_cast<off_t>(length));
    }
    e->user_data = at;
  }
  void start_waiting() noexcept {
    for (std::uint32_t at = 0; at != operations_.size(); ++at) {
      if (operations_[at].used && operations_[at].waits) start(at);
    }
  }

  // The segments from `done` on, as many as one operation takes.
  [[nodiscard]] std::span<::iovec> rest_of(std::uint32_t at) noexcept {
    const operation& o = operations_[at];
    const auto vectors = std::span{vectors_}.subspan(std::size_t{at} * segments_, segments_);
    std::uint64_t skip = o.done;
    std::uint64_t bytes = 0;
    std::size_t count = 0;
    for (const block::media_segment& s : o.request.segments) {
      if (skip >= s.bytes) {
        skip -= s.bytes;
        continue;
      }
      if (count == vectors.size() || bytes == longest) break;
      const auto part = s.local().subspan(int_cast<std::size_t>(skip));
      skip = 0;
      const std::size_t take = std::min<std::size_t>(part.size(), longest - bytes);
      vectors[count++] = {part.data(), take};
      bytes += take;
    }
    return vectors.first(count);
  }

  // The kernel has answered: the status to deliver, or nothing where the operation continues.
  [[nodiscard]] std::optional<block::media_status> after(std::uint32_t at, int answer) noexcept {
    using enum block::media_status;
    operation& o = operations_[at];
    const bool moves = !o.syncing && (o.request.operation == block::media_operation::read ||
                                      o.request.operation == block::media_operation::write);
    const auto failed =
        o.request.operation == block::media_operation::read ? read_failed : write_failed;
    if (answer == -EINTR || answer == -EAGAIN) {
      if (o.cancelled) return o.done == 0 && !o.syncing ? cancelled : failed;
      start(at);
      return std::nullopt;
    }
    if (answer == -ECANCELED) {
      // A partial write is an error: `cancelled` means that nothing was written.
      return (o.done == 0 || failed == read_failed) && !o.syncing ? cancelled : failed;
    }
    if (answer == -ENOSPC) return no_space;
    if ((answer == -EOPNOTSUPP || answer == -ENOSYS) && !moves) return not_supported;
    if (answer < 0 || (moves && answer == 0)) return failed;  // 0: the file has shrunk
    if (moves) {
      o.done += static_cast<std::uint64_t>(answer);
      if (o.done < o.request.blocks * block_size()) {
        start(at);
        return std::nullopt;
      }
    } else if (o.request.operation == block::media_operation::write_zeroes && o.request.fua &&
               !o.syncing) {
      o.syncing = true;
      start(at);
      return std::nullopt;
    }
    return good;
  }

  file_media file_;
  std::unique_ptr<ring> ring_;
  std::size_t segments_;
  std::vector<operation> operations_;
  std::vector<::iovec> vectors_;
  std::vector<std::uint32_t> free_;
  std::size_t in_flight_ = 0;
};
static_assert(block::AsyncBlockMedia<uring_media>);

}  // namespace phasebit::hosted

#endif
