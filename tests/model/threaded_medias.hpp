// SPDX-License-Identifier: BSL-1.0
// A submitter and the workers of hosted::threaded_media. Included where the copy of that header is.
#pragma once

#include <phasebit/hosted/threaded_media.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <model/support.hpp>
#include <model/threaded_media_model.hpp>

namespace model {

// Blocks that are read: the buffer is written.
struct touching_media {
  [[nodiscard]] static std::uint32_t block_size() noexcept { return 512; }
  [[nodiscard]] static std::uint64_t block_count() noexcept { return 8; }
  [[nodiscard]] static phasebit::block::media_status read(std::uint64_t,
                                                          std::span<std::byte> to) noexcept {
    explorer::writes(to.data(), 1);
    return phasebit::block::media_status::good;
  }
  [[nodiscard]] static phasebit::block::media_status write(std::uint64_t,
                                                           std::span<const std::byte>) noexcept {
    return phasebit::block::media_status::good;
  }
  [[nodiscard]] static phasebit::block::media_status flush() noexcept {
    return phasebit::block::media_status::good;
  }
};

// A worker for each read and none that waits for a notification: one poll() at any moment, what is left at the end.
inline auto reads_by_workers(unsigned workers) {
  return [=](program& p) {
    namespace block = phasebit::block;
    struct place {
      alignas(64) std::array<std::byte, 512> bytes;
    };
    auto& medium = p.make<touching_media>();
    auto& buffers = p.make<std::array<place, 2>>();
    auto& segments = p.make<std::array<block::media_segment, 2>>();
    auto& delivered = p.make<unsigned>(0U);
    p.name(buffers, "the buffers");
    model_thread::starting = &p;
    phasebit::hosted::threaded_media_options options;
    options.threads = workers;
    options.capacity = workers;
    auto& media = p.make<phasebit::hosted::threaded_media<touching_media>>(medium, options);
    auto take = [=, &media, &buffers, &delivered] {
      media.poll([&](block::media_tag tag, block::media_status) noexcept {
        check(tag < workers, "a tag that was submitted is delivered");
        explorer::writes(buffers[tag].bytes.data(), 1);
        delivered = delivered + 1;
      });
    };
    p.thread("submitter", [=, &media, &buffers, &segments] {
      for (unsigned i = 0; i != workers; ++i) {
        segments[i] = block::media_segment::of(buffers[i].bytes);
        block::media_request r;
        r.blocks = 1;
        r.segments = std::span{segments}.subspan(i, 1);
        check(media.submit(r, i).is_pending(), "there is a place for each operation");
      }
      take();
    });
    p.finally([=, &media, &delivered] {
      take();
      check(delivered == workers && media.drained(), "each operation is delivered once");
    });
  };
}

// Reads, each of which may be cancelled at once; then every buffer is the submitter's again.
inline auto threaded_reads(unsigned workers, unsigned reads, unsigned capacity, bool cancels) {
  return [=](program& p) {
    namespace block = phasebit::block;
    struct place {
      alignas(64) std::array<std::byte, 512> bytes;
    };
    auto& medium = p.make<touching_media>();
    auto& ready = p.make<explorer::word<std::uint32_t>>();
    auto& buffers = p.make<std::array<place, 3>>();
    auto& segments = p.make<std::array<block::media_segment, 3>>();
    p.name(ready, "the notification");
    p.name(buffers, "the buffers");
    model_thread::starting = &p;
    phasebit::hosted::threaded_media_options options;
    options.threads = workers;
    options.capacity = capacity;
    options.notify = [&ready] { ready.fetch_add(1, explorer::strength::release); };
    auto& media = p.make<phasebit::hosted::threaded_media<touching_media>>(medium, options);
    p.thread("submitter", [=, &media, &ready, &buffers, &segments] {
      unsigned submitted = 0;
      unsigned delivered = 0;
      while (delivered != reads) {
        const std::uint32_t seen = ready.load(explorer::strength::acquire);
        while (submitted != reads) {
          segments[submitted] = block::media_segment::of(buffers[submitted].bytes);
          block::media_request r;
          r.blocks = 1;
          r.segments = std::span{segments}.subspan(submitted, 1);
          if (!media.submit(r, submitted).is_pending()) break;
          if (cancels && choose(2) == 0) media.cancel(submitted);
          ++submitted;
          check(submitted - delivered <= capacity, "no more operations are in flight than fit");
        }
        const std::size_t now =
            media.poll([&](block::media_tag tag, block::media_status status) noexcept {
              check(tag < reads, "a tag that was submitted is delivered");
              check(status == block::media_status::good ||
                        (cancels && status == block::media_status::cancelled),
                    "an operation succeeds or was cancelled");
              explorer::writes(buffers[tag].bytes.data(), 1);
              ++delivered;
            });
        check(delivered <= reads, "an operation is delivered once");
        if (now == 0) await([&] { return ready.load(explorer::strength::acquire) != seen; });
      }
      check(media.drained(), "media without an operation are drained");
    });
  };
}

}  // namespace model
