// SPDX-License-Identifier: BSL-1.0
// Asynchronous media from one that blocks: a pool of threads executes the operations.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/expects.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace phasebit::hosted {

struct threaded_media_options {
  unsigned threads = 4;
  std::size_t capacity = 1024;  // operations in flight; more are busy
  // Called by a worker after an operation has finished, so that a sleeping device side polls: an
  // eventfd, a condition variable. Must not call the media. May be empty.
  std::function<void()> notify{};
};

// Operations on `Media`, which several threads may use at once, such as file_media and memory_media.
// Keeps a reference. Segments are in domain local, at any alignment. The destructor waits for the
// operations that are executing and discards the others: drain first where buffers matter.
template <block::BlockMedia Media>
class threaded_media {
 public:
  explicit threaded_media(Media& media, threaded_media_options options = {})
      : media_(&media), options_(std::move(options)) {
    PHASEBIT_EXPECTS(options_.threads != 0, "a pool has one thread at least");
    PHASEBIT_EXPECTS(options_.capacity != 0, "media hold one operation at least");
    // Either vector can hold every completion: recording one allocates nothing.
    finished_.reserve(options_.capacity);
    delivering_.reserve(options_.capacity);
    workers_.reserve(options_.threads);
    for (unsigned i = 0; i != options_.threads; ++i) workers_.emplace_back([this] { work(); });
  }
  threaded_media(const threaded_media&) = delete;
  threaded_media& operator=(const threaded_media&) = delete;
  ~threaded_media() {
    {
      const std::scoped_lock lock{mutex_};
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  [[nodiscard]] std::uint32_t block_size() const noexcept { return media_->block_size(); }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return media_->block_count(); }
  [[nodiscard]] bool read_only() const noexcept { return block::read_only(*media_); }
  [[nodiscard]] bool reaches(memory_domain domain) const noexcept {
    return domain == memory_domain::local;
  }

  // Busy where `capacity` operations are in flight, and where memory for the queue ran out.
  [[nodiscard]] block::media_answer submit(const block::media_request& request,
                                           block::media_tag tag) noexcept {
    if (in_flight_ == options_.capacity) return block::media_answer::busy();
    try {
      const std::scoped_lock lock{mutex_};
      waiting_.push_back({request, tag});
    } catch (...) {
      return block::media_answer::busy();
    }
    ++in_flight_;
    wake_.notify_one();
    return block::media_answer::pending();
  }

  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    if (in_flight_ == 0) return 0;
    {
      const std::scoped_lock lock{mutex_};
      std::swap(finished_, delivering_);
    }
    const std::size_t count = delivering_.size();
    for (const completion& c : delivering_) {
      --in_flight_;
      sink(c.tag, c.status);
    }
    delivering_.clear();
    return count;
  }

  // Operations that no thread has begun end now; the others are not interrupted.
  void cancel(block::media_tag tag) noexcept {
    const std::scoped_lock lock{mutex_};
    for (auto at = waiting_.begin(); at != waiting_.end(); ++at) {
      if (at->tag != tag) continue;
      waiting_.erase(at);
      finished_.push_back({tag, block::media_status::cancelled});
      return;
    }
  }
  [[nodiscard]] bool drained() const noexcept { return in_flight_ == 0; }

 private:
  struct operation {
    block::media_request request;
    block::media_tag tag;
  };
  struct completion {
    block::media_tag tag;
    block::media_status status;
  };

  void work() {
    block::immediate_media<Media> blocks{*media_};
    std::unique_lock lock{mutex_};
    for (;;) {
      wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      const operation next = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      const block::media_status status = blocks.submit(next.request, next.tag).status();
      lock.lock();
      finished_.push_back({next.tag, status});
      if (options_.notify) {
        lock.unlock();
        options_.notify();
        lock.lock();
      }
    }
  }

  Media* media_;
  threaded_media_options options_;
  std::size_t in_flight_ = 0;  // the submitter's: until delivered
  std::vector<completion> delivering_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<operation> waiting_;
  std::vector<completion> finished_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace phasebit::hosted
