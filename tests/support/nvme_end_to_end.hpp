// SPDX-License-Identifier: BSL-1.0
// The behaviour that our driver requires of every NVMe disk: one test body for the simulated
// controller, for QEMU's, and for every further backend.
#pragma once

#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/disk.hpp>
#include <phasebit/nvme/driver/request_queue.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit_test {

namespace nvme = phasebit::nvme;

// Polls until `done` or ten seconds of the backend's time have passed.
template <class Backend, class Done>
[[nodiscard]] bool within_ten_seconds(Backend& backend, Done&& done) {
  return phasebit::poll_until(backend.clock(), 10'000 * phasebit::nanoseconds_per_ms, done);
}

// The bytes that the tests expect in block `lba`, generation `g`.
inline void fill_block(std::span<std::byte> block, std::uint64_t lba, std::uint32_t g) {
  std::mt19937_64 random{lba * 1'000'003 + g};
  for (std::size_t i = 0; i + 8 <= block.size(); i += 8) {
    const std::uint64_t v = random();
    std::memcpy(block.data() + i, &v, 8);
  }
}

template <class Backend>
class nvme_end_to_end {
 public:
  using controller = nvme::driver::controller<Backend>;

  explicit nvme_end_to_end(Backend& backend) : backend_(backend) {}

  void run_all() {
    auto attached = controller::attach(backend_, {.io_queues = 2});
    REQUIRE_MESSAGE(attached, attached.error().what);
    host_ = &*attached;
    tells_who_it_is();
    reads_what_was_written();
    moves_every_length();
    keeps_order_by_id_under_load();
    takes_long_requests();
    answers_bad_commands();
    disk_for_people();
    queues_come_and_go();
    resets();
    CHECK(host_->check());
  }

 private:
  template <class Queue>
  nvme::driver::completion finish(Queue& queue, nvme::driver::submitted posted) {
    REQUIRE_MESSAGE(posted, posted.what);
    queue.ring();
    nvme::driver::completion answer;
    REQUIRE(within_ten_seconds(backend_, [&]() noexcept {
      return queue.poll([&](std::uint32_t&, nvme::driver::completion c) noexcept { answer = c; }) !=
             0;
    }));
    CHECK(answer.command_id() == posted.command_id);
    return answer;
  }

  void tells_who_it_is() {
    CHECK(host_->granted_queues() == 2);
    CHECK(nvme::text_of(host_->identity().sn).size() != 0);
    const auto ns = host_->identify_namespace(1);
    REQUIRE(ns);
    CHECK(ns->block_bytes >= 512);
    CHECK(ns->blocks != 0);
    std::array<std::uint32_t, 8> ids{};
    const auto count = host_->active_namespaces(ids);
    REQUIRE(count);
    CHECK(*count >= 1);
    CHECK(ids[0] == 1);
    CHECK_FALSE(host_->identify_namespace(0x77));
    const auto cache = host_->get_feature(nvme::feature_id::number_of_queues);
    CHECK(cache);
  }

  void reads_what_was_written() {
    auto queue = host_->template create_queue_pair<std::uint32_t>({.depth = 8});
    REQUIRE_MESSAGE(queue, queue.error().what);
    const auto data = backend_.allocate(8192, 4096);
    REQUIRE(data);
    fill_block(data->bytes, 5, 1);
    CHECK(finish(*queue, queue->write({.nsid = 1, .lba = 5, .blocks = 16}, *data, 0)).ok());
    std::memset(data->data(), 0, data->size());
    CHECK(finish(*queue, queue->read({.nsid = 1, .lba = 5, .blocks = 16}, *data, 0)).ok());
    std::vector<std::byte> expected(8192);
    fill_block(expected, 5, 1);
    CHECK(std::memcmp(expected.data(), data->data(), expected.size()) == 0);
    CHECK(finish(*queue, queue->submit(nvme::nvm::flush(1), 0)).ok());
    CHECK(finish(*queue,
                 queue->submit(nvme::nvm::write_zeroes({.nsid = 1, .lba = 5, .blocks = 16}), 0))
              .ok());
    CHECK(finish(*queue, queue->read({.nsid = 1, .lba = 5, .blocks = 16}, *data, 0)).ok());
    std::memset(expected.data(), 0, expected.size());
    CHECK(std::memcmp(expected.data(), data->data(), expected.size()) == 0);
    backend_.release(*data);
    CHECK(host_->delete_queue_pair(*queue, [](auto&, nvme::driver::completion) noexcept {}));
  }

  // Every page count around the borders of PRP1, PRP2 and the list, at odd offsets too.
  void moves_every_length() {
    auto queue = host_->template create_queue_pair<std::uint32_t>({.depth = 4});
    REQUIRE(queue);
    const std::uint32_t most =
        queue->max_transfer() < 256U << 10 ? queue->max_transfer() : 256U << 10;
    const auto data = backend_.allocate(most + 8192, 4096);
    REQUIRE(data);
    std::vector<std::byte> expected(most);
    for (std::uint32_t blocks : {1U, 7U, 8U, 9U, 15U, 16U, 17U, 24U, 25U, 64U, 65U, most / 512}) {
      for (std::size_t offset : {0U, 4U, 512U, 4092U}) {
        const std::size_t bytes = std::size_t{blocks} * 512;
        const auto part = data->subregion(offset, bytes);
        fill_block(std::span{expected}.first(bytes), blocks, static_cast<std::uint32_t>(offset));
        std::memcpy(part.data(), expected.data(), bytes);
        REQUIRE(
            finish(*queue, queue->write({.nsid = 1, .lba = 100, .blocks = blocks}, part, 0)).ok());
        std::memset(data->data(), 0xa5, data->size());
        REQUIRE(
            finish(*queue, queue->read({.nsid = 1, .lba = 100, .blocks = blocks}, part, 0)).ok());
        REQUIRE(std::memcmp(part.data(), expected.data(), bytes) == 0);
        // Nothing beside it was touched.
        REQUIRE(data->bytes[offset + bytes] == std::byte{0xa5});
        if (offset != 0) REQUIRE(data->bytes[offset - 1] == std::byte{0xa5});
      }
    }
    backend_.release(*data);
    CHECK(host_->delete_queue_pair(*queue, [](auto&, nvme::driver::completion) noexcept {}));
  }

  void keeps_order_by_id_under_load() {
    constexpr std::uint32_t depth = 16;
    auto queue = host_->template create_queue_pair<std::uint32_t>({.depth = depth});
    REQUIRE(queue);
    const auto data = backend_.allocate(depth * 4096, 4096);
    REQUIRE(data);
    std::uint32_t next = 0;
    std::uint32_t ended = 0;
    std::uint32_t failed = 0;
    constexpr std::uint32_t wanted = 200;
    const bool all = within_ten_seconds(backend_, [&]() noexcept {
      while (next != wanted && queue->available() != 0) {
        // The id that is taken next is the buffer's number: never two commands in one buffer.
        const auto posted = queue->read({.nsid = 1, .lba = next, .blocks = 8},
                                        data->subregion((next % depth) * 4096, 4096), next);
        if (!posted) break;
        ++next;
        if (next % 4 == 0) queue->ring();
      }
      queue->ring();
      ended += queue->poll(
          [&](std::uint32_t&, nvme::driver::completion c) noexcept { failed += !c.ok(); });
      return ended == wanted;
    });
    CHECK(all);
    CHECK(failed == 0);
    CHECK(queue->health());
    backend_.release(*data);
    CHECK(host_->delete_queue_pair(*queue, [](auto&, nvme::driver::completion) noexcept {}));
  }

  void takes_long_requests() {
    auto queue =
        host_->template create_queue_pair<std::uint16_t>({.depth = 4, .max_transfer = 16'384});
    REQUIRE(queue);
    const std::size_t bytes = 192U << 10;
    const auto data = backend_.allocate(bytes, 4096);
    REQUIRE(data);
    {
      nvme::driver::request_queue<typename controller::template io_queue<std::uint16_t>, 4>
          requests{*queue, 7};
      std::vector<std::byte> expected(bytes);
      fill_block(expected, 9, 9);
      std::memcpy(data->data(), expected.data(), bytes);
      const phasebit::segment<phasebit::bus_space> segments[] = {{data->bus, 8192},
                                                                 {data->bus + 8192, bytes - 8192}};
      for (const bool write : {true, false}) {
        int ended = 0;
        REQUIRE(requests.submit(
            {.command = write ? nvme::nvm::write({.nsid = 1}) : nvme::nvm::read({.nsid = 1}),
             .lba = 300,
             .segments = segments},
            [&](nvme::driver::completion c) noexcept { ended += c.ok() ? 1 : 100; }));
        CHECK(within_ten_seconds(backend_, [&]() noexcept { return requests.poll() != 0; }));
        CHECK(ended == 1);
        if (write) std::memset(data->data(), 0, bytes);
      }
      CHECK(std::memcmp(data->data(), expected.data(), bytes) == 0);
    }
    backend_.release(*data);
    CHECK(host_->delete_queue_pair(*queue, [](auto&, nvme::driver::completion) noexcept {}));
  }

  void answers_bad_commands() {
    using enum nvme::status_code;
    auto queue = host_->template create_queue_pair<std::uint32_t>({.depth = 4});
    REQUIRE(queue);
    const auto data = backend_.allocate(4096, 4096);
    REQUIRE(data);
    const auto blocks = host_->identify_namespace(1)->blocks;
    CHECK(finish(*queue, queue->read({.nsid = 1, .lba = blocks - 7, .blocks = 8}, *data, 0))
              .status() == lba_out_of_range);
    CHECK(finish(*queue, queue->read({.nsid = 1, .lba = ~0ULL, .blocks = 8}, *data, 0)).status() ==
          lba_out_of_range);
    CHECK(finish(*queue, queue->submit_unchecked(
                             nvme::nvm::read({.nsid = 0, .lba = 0, .blocks = 8}), *data, 0))
              .status() == invalid_namespace_or_format);
    nvme::submission_entry odd = nvme::nvm::flush(1);
    odd.cdw0 = 0x7f;
    CHECK(finish(*queue, queue->submit(odd, 0)).status() == invalid_opcode);
    CHECK(host_->execute(nvme::admin::delete_io_sq(0x33))->status() == invalid_queue_id);
    CHECK(host_->execute(nvme::admin::delete_io_cq(queue->qid()))->status() ==
          invalid_queue_deletion);
    CHECK(host_
              ->execute(nvme::admin::create_io_sq(
                  {.qid = 2, .entries = 4, .memory = data->bus, .cqid = 2}))
              ->status() == completion_queue_invalid);
    CHECK(host_
              ->execute(
                  nvme::admin::create_io_cq({.qid = 2, .entries = 4, .memory = data->bus + 512}))
              ->status() == prp_offset_invalid);
    CHECK(host_->set_feature(nvme::feature_id::number_of_queues, 0).error().code ==
          phasebit::errc::io);
    backend_.release(*data);
    CHECK(host_->delete_queue_pair(*queue, [](auto&, nvme::driver::completion) noexcept {}));
  }

  void disk_for_people() {
    auto disk = nvme::driver::disk<controller>::open(*host_);
    REQUIRE_MESSAGE(disk, disk.error().what);
    std::vector<std::byte> out(300U << 10);
    std::vector<std::byte> in(out.size());
    fill_block(out, 77, 3);
    CHECK(disk->write(40, out));
    CHECK(disk->flush());
    CHECK(disk->read(40, in));
    CHECK(in == out);
    CHECK(disk->read(disk->info().blocks, std::span{in}.first(512)).error().code ==
          phasebit::errc::out_of_range);
    CHECK(disk->read(0, std::span{in}.first(100)).error().code == phasebit::errc::misaligned);
  }

  void queues_come_and_go() {
    for (int i = 0; i != 5; ++i) {
      auto a = host_->create_queue_pair({.depth = 16});
      auto b = host_->create_queue_pair({.depth = 2});
      REQUIRE(a);
      REQUIRE(b);
      CHECK(a->qid() != b->qid());
      CHECK(host_->create_queue_pair().error().code == phasebit::errc::exhausted);
      CHECK(host_->delete_queue_pair(*a));
      CHECK(host_->delete_queue_pair(*b));
    }
    CHECK(host_->create_queue_pair({.depth = 1}).error().code == phasebit::errc::out_of_range);
  }

  void resets() {
    auto queue = host_->create_queue_pair({.depth = 16});
    REQUIRE(queue);
    int ended = 0;
    REQUIRE(queue->submit(nvme::nvm::flush(1), [&](nvme::driver::completion c) noexcept {
      ended += c.status() == nvme::status_code::aborted_by_host;
    }));
    CHECK(host_->reset());
    CHECK(ended == 1);
    CHECK(queue->fail_all() == 0);
    CHECK(queue->submit(nvme::nvm::flush(1), [](nvme::driver::completion) noexcept {}).reason ==
          phasebit::errc::removed);
    reads_what_was_written();
    CHECK(host_->shut_down());
    CHECK(host_->reset());
  }

  Backend& backend_;
  controller* host_ = nullptr;
};

}  // namespace phasebit_test
