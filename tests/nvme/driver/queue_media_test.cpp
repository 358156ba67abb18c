// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/driver/queue_media.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;
using block::media_operation;
using block::media_segment;
using block::media_status;
using block::media_tag;

namespace {

constexpr memory_domain bus{1};

struct word_doorbell {
  std::uint32_t* word = nullptr;
  void ring(std::uint32_t value) noexcept { thread_order::store(*word, value); }
};
using back_queue = driver::queue_pair<thread_order, word_doorbell, std::uint32_t>;
using disk_media = driver::queue_media<back_queue>;

// The controller behind: blocks in memory, and a queue pair of the driver on its rings.
struct back_side : machine<> {
  explicit back_side(std::uint32_t depth = 8, std::uint32_t max_transfer = 64U << 10)
      : machine(small()) {
    enable();
    create(1, depth);
    const dma_region lists = region(depth * 4096U);
    const driver::queue_layout layout{
        .qid = 1,
        .submission = {reinterpret_cast<submission_entry*>(ram.at(pairs[1].sq)), depth},
        .completion = {reinterpret_cast<completion_entry*>(ram.at(pairs[1].cq)), depth},
        .lists = lists,
        .max_transfer = max_transfer};
    queue =
        std::make_unique<back_queue>(layout, word_doorbell{&word(1, device::ring_side::submission)},
                                     word_doorbell{&word(1, device::ring_side::completion)});
    identity.oncs = 0xffff;
    ns.nsid = 1;
    ns.blocks = media.block_count();
  }
  dma_region region(std::size_t bytes) {
    const bus_addr at = allocate(bytes);
    return {ram.bytes(at, bytes), at};
  }
  disk_media make(std::span<driver::queue_media_operation> operations) {
    auto made = disk_media::make(*queue, ns, identity, operations,
                                 {.domain = bus, .ranges = region(operations.size() * 16)});
    REQUIRE(made);
    return *made;
  }

  std::unique_ptr<back_queue> queue;
  identify_controller identity{};
  driver::namespace_info ns{};
};

// Reaches the same memory by bus address; a load or a store reaches none of it.
struct bus_port {
  memory* ram;
  std::uint64_t copied = 0;

  result<mapped_range> map(bus_addr at, std::uint64_t bytes, phasebit::access how) noexcept {
    const auto reached = ram->translate(at, bytes, how);
    if (!reached) return reached.error();
    return mapped_range{at.value(), reached->bytes, bus};
  }
  result<> read(bus_addr at, std::span<std::byte> to) noexcept {
    copied += to.size();
    return dma_read(*ram, at, to);
  }
  result<> write(bus_addr at, std::span<const std::byte> from) noexcept {
    copied += from.size();
    return dma_write(*ram, at, from);
  }
};
static_assert(DmaPort<bus_port>);

}  // namespace

TEST_CASE("random operations on queue media move the bytes of a reference, each delivered once") {
  for (const std::uint32_t depth : {2U, 8U}) {
    back_side back{depth, 8192};
    std::array<driver::queue_media_operation, 6> operations;
    disk_media media = back.make(operations);
    std::vector<std::byte> expected = back.store;
    const dma_region buffers = back.region(16 * 65'536);
    struct running {
      block::media_request request{};
      std::vector<media_segment> segments{};
      std::size_t buffer = 0;
    };
    std::mt19937 random{depth};
    std::map<media_tag, running> in_flight;
    std::set<std::uint64_t> busy;
    std::set<std::size_t> free_buffers;
    for (std::size_t i = 0; i != 16; ++i) free_buffers.insert(i);
    std::uint64_t delivered = 0;
    const auto deliver = [&](media_tag tag, media_status status) noexcept {
      const auto at = in_flight.find(tag);
      REQUIRE(at != in_flight.end());
      const running& r = at->second;
      REQUIRE(status == media_status::good);
      auto* stored = expected.data() + r.request.lba * 512;
      if (r.request.operation == media_operation::discard ||
          r.request.operation == media_operation::write_zeroes) {
        // A discarded block of memory media reads as zeros.
        std::memset(stored, 0, r.request.blocks * 512);
      }
      for (const media_segment& s : r.segments) {
        std::byte* const data = back.ram.at(bus_addr{s.address});
        if (r.request.operation == media_operation::read) {
          REQUIRE(std::memcmp(stored, data, s.bytes) == 0);
        } else {
          std::memcpy(stored, data, s.bytes);
        }
        stored += s.bytes;
      }
      for (std::uint64_t b = 0; b != r.request.blocks; ++b) busy.erase(r.request.lba + b);
      free_buffers.insert(r.buffer);
      in_flight.erase(at);
      ++delivered;
    };
    unsigned full = 0;
    for (media_tag tag = 1; tag != 4000; ++tag) {
      const std::uint64_t lba = random() % 2000;
      const std::uint64_t blocks = 1 + random() % 40;
      bool free = !free_buffers.empty();
      for (std::uint64_t b = 0; b != blocks; ++b) free = free && !busy.contains(lba + b);
      if (free) {
        running& r = in_flight[tag];
        r.buffer = *free_buffers.begin();
        free_buffers.erase(free_buffers.begin());
        constexpr media_operation kinds[] = {media_operation::read,   media_operation::write,
                                             media_operation::read,   media_operation::write,
                                             media_operation::flush,  media_operation::write_zeroes,
                                             media_operation::discard};
        r.request = {.operation = kinds[random() % 7], .lba = lba, .blocks = blocks};
        if (r.request.operation == media_operation::flush) r.request.lba = r.request.blocks = 0;
        if (r.request.operation == media_operation::read ||
            r.request.operation == media_operation::write) {
          std::uint64_t at = buffers.bus.value() + r.buffer * 65'536;
          const std::uint64_t end = at + 65'536;
          for (std::uint64_t left = blocks; left != 0;) {
            const std::uint64_t take = std::min<std::uint64_t>(left, 1 + random() % 9);
            // Gaps and offsets within pages, which PRPs cannot express in one command.
            if (random() % 3 == 0 && end - at > (left + 8) * 512) at += 512 * (random() % 4);
            r.segments.push_back(
                {.address = at, .bytes = static_cast<std::uint32_t>(take * 512), .domain = bus});
            if (r.request.operation == media_operation::write) {
              for (std::uint64_t i = 0; i != take * 512; ++i) {
                back.ram.at(bus_addr{at})[i] = static_cast<std::byte>(random());
              }
            }
            at += take * 512;
            left -= take;
          }
          r.request.segments = r.segments;
        }
        const auto answer = media.submit(r.request, tag);
        if (answer.is_busy()) {
          ++full;
          free_buffers.insert(r.buffer);
          in_flight.erase(tag);
        } else {
          REQUIRE(answer.is_pending());
          for (std::uint64_t b = 0; b != r.request.blocks; ++b) busy.insert(lba + b);
        }
      }
      if (random() % 3 == 0) back.controller.poll();
      if (random() % 3 == 0) media.poll(deliver);
    }
    while (!media.drained()) {
      media.poll(deliver);
      back.controller.poll();
    }
    CHECK(in_flight.empty());
    CHECK(delivered > 250);
    CHECK(full > 10);
    CHECK(back.store == expected);
    CHECK(back.queue->health());
  }
}

TEST_CASE("what a queue media cannot do is refused, and a queue that ends fails its operations") {
  back_side back;
  std::array<driver::queue_media_operation, 4> operations;
  driver::namespace_info inline_metadata = back.ns;
  inline_metadata.metadata_bytes = 8;
  inline_metadata.metadata_inline = true;
  CHECK(disk_media::make(*back.queue, inline_metadata, back.identity, operations).error().code ==
        errc::not_supported);
  CHECK(disk_media::make(*back.queue, back.ns, back.identity, {}).error().code ==
        errc::invalid_argument);
  identify_controller plain{};
  auto media = *disk_media::make(*back.queue, back.ns, plain, operations);
  const auto status = [&](const block::media_request& r) { return media.submit(r, 1).status(); };
  CHECK(status({.operation = media_operation::write_zeroes, .blocks = 1}) ==
        media_status::not_supported);
  CHECK(status({.operation = media_operation::discard, .blocks = 1}) ==
        media_status::not_supported);
  CHECK(status({.lba = media.block_count(), .blocks = 1}) == media_status::out_of_range);
  CHECK(media.drained());

  const dma_region buffer = back.region(4096);
  const media_segment segment{.address = buffer.bus.value(), .bytes = 512, .domain = bus};
  REQUIRE(media.submit({.blocks = 1, .segments = {&segment, 1}}, 5).is_pending());
  REQUIRE(
      media.submit({.operation = media_operation::write, .blocks = 1, .segments = {&segment, 1}}, 6)
          .is_pending());
  back.queue->end(driver::queue_end::reset);
  std::map<media_tag, media_status> got;
  CHECK(media.poll([&](media_tag t, media_status s) noexcept { got[t] = s; }) == 2);
  CHECK(got == std::map<media_tag, media_status>{{5, media_status::read_failed},
                                                 {6, media_status::write_failed}});
  CHECK(media.submit({.blocks = 1, .segments = {&segment, 1}}, 7).is_pending());
  got.clear();
  for (int i = 0; i != 2 && !media.drained(); ++i) {
    media.poll([&](media_tag t, media_status s) noexcept { got[t] = s; });
  }
  CHECK(got == std::map<media_tag, media_status>{{7, media_status::read_failed}});
}

TEST_CASE("an operation that waits for the queue is cancelled, and delivered once") {
  back_side back{2};  // one command in flight
  std::array<driver::queue_media_operation, 4> operations;
  disk_media media = back.make(operations);
  const dma_region buffer = back.region(4096);
  const media_segment segment{.address = buffer.bus.value(), .bytes = 512, .domain = bus};
  for (media_tag tag = 1; tag != 4; ++tag) {
    REQUIRE(media.submit({.lba = tag, .blocks = 1, .segments = {&segment, 1}}, tag).is_pending());
  }
  media.cancel(1);  // posted: it runs
  media.cancel(2);
  media.cancel(9);
  std::map<media_tag, media_status> got;
  while (!media.drained()) {
    media.poll([&](media_tag t, media_status s) noexcept { CHECK(got.emplace(t, s).second); });
    back.controller.poll();
  }
  CHECK(got == std::map<media_tag, media_status>{
                   {1, media_status::good}, {2, media_status::cancelled}, {3, media_status::good}});
}

TEST_CASE("a controller whose disk is another controller moves data without a bounce") {
  back_side back{16};
  std::array<driver::queue_media_operation, 32> operations;
  disk_media media = back.make(operations);
  using spaces_type = device::single_namespace<disk_media>;
  spaces_type spaces{media};
  bus_port port{&back.ram};
  no_interrupts interrupts;
  std::vector<std::uint32_t> words(4 * 2);
  std::vector<device::pending_command> commands(32);
  std::vector<block::media_segment> segments(32 * 33);
  const dma_region bounced = back.region(4 * 8192);
  block::bounce_pool bounce{std::span{bounced.data(), bounced.size()}, 8192, bus,
                            bounced.bus.value()};
  device::settings s;
  s.io_queue_pairs = 3;
  device::controller<bus_port, no_interrupts, spaces_type> front{
      port, interrupts, spaces, words, s, device::pending_memory{commands, segments, &bounce}};

  // A host of the front controller, in the same memory.
  struct ring {
    dma_region sq;
    dma_region cq;
    std::uint32_t tail = 0;
    std::uint32_t head = 0;
  };
  constexpr std::uint32_t depth = 64;
  std::array<ring, 2> rings{ring{back.region(depth * 64), back.region(depth * 16)},
                            ring{back.region(depth * 64), back.region(depth * 16)}};
  const auto put = [&](unsigned q, submission_entry e, std::uint16_t id) {
    e.set_command_id(id);
    std::memcpy(rings[q].sq.data() + rings[q].tail * 64, &e, sizeof e);
    rings[q].tail = (rings[q].tail + 1) % depth;
    words[q * 2] = rings[q].tail;
  };
  const auto answer = [&](unsigned q) {
    completion_entry e{};
    for (int turn = 0; turn != 1000; ++turn) {
      std::memcpy(&e, rings[q].cq.data() + rings[q].head * 16, sizeof e);
      if (e.phase()) break;
      front.poll();
      back.controller.poll();
    }
    REQUIRE(e.phase());
    rings[q].head = (rings[q].head + 1) % depth;
    words[q * 2 + 1] = rings[q].head;
    return e;
  };
  const auto write64 = [&](std::uint32_t offset, std::uint64_t v) {
    front.write32(offset, static_cast<std::uint32_t>(v));
    front.write32(offset + 4, static_cast<std::uint32_t>(v >> 32));
  };
  front.write32(nvme::aqa::offset, nvme::aqa::for_entries(depth, depth).raw);
  write64(nvme::asq::offset, rings[0].sq.bus.value());
  write64(nvme::acq::offset, rings[0].cq.bus.value());
  front.write32(nvme::cc::offset, machine<>::enabled_cc().raw);
  put(0, nvme::admin::create_io_cq({.qid = 1, .entries = depth, .memory = rings[1].cq.bus}), 1);
  REQUIRE(answer(0).status().ok());
  put(0,
      nvme::admin::create_io_sq({.qid = 1, .entries = depth, .memory = rings[1].sq.bus, .cqid = 1}),
      2);
  REQUIRE(answer(0).status().ok());

  const dma_region data = back.region(3 * 4096);
  const dma_region again = back.region(3 * 4096);
  for (std::size_t i = 0; i != 8192; ++i) data.data()[i] = std::byte(i * 13 + i / 256);
  port.copied = 0;
  put(1, with_data(nvm::write({.nsid = 1, .lba = 40, .blocks = 16}), data.bus, data.bus + 4096), 3);
  REQUIRE(answer(1).status().ok());
  CHECK(std::memcmp(back.store.data() + 40 * 512, data.data(), 8192) == 0);
  put(1, with_data(nvm::read({.nsid = 1, .lba = 40, .blocks = 16}), again.bus, again.bus + 4096),
      4);
  REQUIRE(answer(1).status().ok());
  CHECK(std::memcmp(again.data(), data.data(), 8192) == 0);
  // Commands and completions were copied, the data was not.
  CHECK(port.copied < 512);
  // An offset that blocks do not begin at goes through a bounce buffer of the same domain.
  put(1,
      with_data(nvm::read({.nsid = 1, .lba = 41, .blocks = 8}), again.bus + 260, again.bus + 4096),
      5);
  REQUIRE(answer(1).status().ok());
  CHECK(std::memcmp(again.data() + 260, data.data() + 512, 4096 - 260) == 0);
  CHECK(port.copied > 4096);
  put(1, nvm::write_zeroes({.nsid = 1, .lba = 40, .blocks = 4}), 6);
  REQUIRE(answer(1).status().ok());
  CHECK(std::all_of(back.store.begin() + 40 * 512, back.store.begin() + 44 * 512,
                    [](std::byte b) { return b == std::byte{0}; }));
  put(1, with_data(nvm::read({.nsid = 1, .lba = 1U << 20, .blocks = 1}), again.bus), 7);
  CHECK(answer(1).status() == status_code::lba_out_of_range);
}
