// SPDX-License-Identifier: BSL-1.0
// An NVMe controller whose media is a block pipeline over a byte stream, the driver's queue pair in front of
// it, and the store behind it.
#pragma once

#include <phasebit/accel/software_engine.hpp>
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/systems/ipu/stream_sink.hpp>
#include <phasebit/systems/ipu/stream_store.hpp>
#include <phasebit/systems/ipu_target.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <nvme/device/test_host.hpp>

namespace ipu_rig {

using namespace phasebit;

// One direction of a connection; gives and takes at most `most` bytes at once.
struct pipe {
  std::deque<std::byte> bytes;
  std::size_t most = ~std::size_t{0};
  bool closed = false;
};
class stream {
 public:
  stream(pipe& out, pipe& in) : out_(&out), in_(&in) {}
  result<std::size_t> send(std::span<const std::byte> from) noexcept {
    if (out_->closed) return failure(errc::removed, "the peer is gone");
    const std::size_t n = from.size() < out_->most ? from.size() : out_->most;
    out_->bytes.insert(out_->bytes.end(), from.begin(),
                       from.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  }
  result<std::size_t> receive(std::span<std::byte> to) noexcept {
    std::size_t n = to.size() < in_->most ? to.size() : in_->most;
    if (n > in_->bytes.size()) n = in_->bytes.size();
    if (n == 0 && in_->closed) return failure(errc::removed, "the peer is gone");
    for (std::size_t k = 0; k != n; ++k) {
      to[k] = in_->bytes.front();
      in_->bytes.pop_front();
    }
    return n;
  }

 private:
  pipe* out_;
  pipe* in_;
};
static_assert(systems::ByteStream<stream>);

using engine_type = accel::software_engine<>;
using sink_type = systems::stream_sink<stream>;
using pipeline_type = systems::ipu_pipeline<sink_type, engine_type>;
using store_type = systems::stream_store<stream>;
static_assert(systems::StoredBlockSink<sink_type>);
static_assert(block::AsyncBlockMedia<pipeline_type>);

inline std::array<std::uint8_t, 64> raw_key() {
  std::array<std::uint8_t, 64> raw{};
  for (std::size_t k = 0; k != 64; ++k) raw[k] = static_cast<std::uint8_t>(k * 3);
  return raw;
}

// The pipeline with all that it stands on; blocks of 512 bytes become 520 on the other side.
struct pipeline_parts {
  static constexpr std::uint64_t blocks = 2048;
  static constexpr std::size_t request = 256 * 520;

  explicit pipeline_parts(const systems::ipu_layers& layers = {})
      : keys{*accel::xts_key::make(raw_key())},
        engine(std::make_unique<engine_type>(accel::plain_cipher<>{keys})),
        stored(blocks * (layers.protects ? 520 : 512)),
        sink(front, sink_memory, blocks),
        store(back, stored, store_buffer, layers.protects ? 520 : 512),
        media(sink, *engine, pool, 512, layers) {}

  // Lets both ends work; what the store found wrong with the stream ends the test elsewhere.
  void turn() { static_cast<void>(store.poll()); }

  std::array<accel::xts_key, 1> keys;
  std::unique_ptr<engine_type> engine;
  pipe there;
  pipe back_again;
  stream front{there, back_again};
  stream back{back_again, there};
  std::vector<std::byte> stored;
  std::vector<std::byte> store_buffer = std::vector<std::byte>(request);
  std::vector<std::byte> sink_memory = std::vector<std::byte>(8 * request);
  std::vector<std::byte> pool = std::vector<std::byte>(4 * request);
  sink_type sink;
  store_type store;
  pipeline_type media;
};

struct backing : pipeline_parts {
  using media_type = pipeline_type;
  using namespaces = nvme::device::namespace_table<media_type, 4>;

  explicit backing(std::uint32_t, const systems::ipu_layers& layers = {}) : pipeline_parts(layers) {
    spaces.attach(1, media);
  }
  nvme::device::pending_memory pending() noexcept { return {commands, segments, &bounce}; }

  namespaces spaces;
  std::vector<nvme::device::pending_command> commands =
      std::vector<nvme::device::pending_command>(16);
  std::vector<block::media_segment> segments = std::vector<block::media_segment>(16 * 64);
  std::vector<std::byte> bounce_memory = std::vector<std::byte>(4 * 131'072);
  block::bounce_pool bounce{bounce_memory, 131'072};
};

struct word_doorbell {
  std::uint32_t* word = nullptr;
  void ring(std::uint32_t value) noexcept { thread_order::store(*word, value); }
};

// Our driver's queue pair on the rings of the controller.
struct target : test_host::machine<nvme::device::default_policy, backing> {
  using machine = test_host::machine<nvme::device::default_policy, backing>;
  using queue_type = nvme::driver::queue_pair<thread_order, word_doorbell, std::uint32_t>;

  explicit target(const systems::ipu_layers& layers = {})
      : machine(small(), 512, 8U << 20, layers) {
    enable();
    create(1, 32);
    const nvme::driver::queue_layout layout{
        .qid = 1,
        .submission = {reinterpret_cast<nvme::submission_entry*>(ram.at(pairs[1].sq)), 32},
        .completion = {reinterpret_cast<nvme::completion_entry*>(ram.at(pairs[1].cq)), 32},
        .lists = region(32 * 4096),
        .max_transfer = 128U << 10};
    queue = std::make_unique<queue_type>(
        layout, word_doorbell{&word(1, nvme::device::ring_side::submission)},
        word_doorbell{&word(1, nvme::device::ring_side::completion)});
  }
  dma_region region(std::size_t bytes) {
    const bus_addr at = allocate(bytes);
    return {ram.bytes(at, bytes), at};
  }
  // Polls driver, controller and store until the command has ended.
  nvme::status wait() {
    nvme::status status;
    bool ended = false;
    queue->ring();
    for (int turn = 0; turn != 10'000 && !ended; ++turn) {
      controller.poll();
      this->turn();
      queue->poll([&](std::uint32_t&, nvme::driver::completion c) noexcept {
        status = c.status();
        ended = true;
      });
    }
    if (!ended) std::abort();
    return status;
  }
  nvme::status write(std::uint64_t lba, const dma_region& data) {
    static_cast<void>(queue->write(
        {.nsid = 1, .lba = lba, .blocks = static_cast<std::uint32_t>(data.size() / 512)}, data, 0));
    return wait();
  }
  nvme::status read(std::uint64_t lba, const dma_region& data) {
    static_cast<void>(queue->read(
        {.nsid = 1, .lba = lba, .blocks = static_cast<std::uint32_t>(data.size() / 512)}, data, 0));
    return wait();
  }

  std::unique_ptr<queue_type> queue;
};

}  // namespace ipu_rig
