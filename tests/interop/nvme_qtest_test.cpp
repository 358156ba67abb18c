// SPDX-License-Identifier: BSL-1.0
// Our driver against QEMU's NVMe controller, with no guest between.
#include <phasebit/backend/qtest.hpp>
#include <phasebit/nvme/driver/controller.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/nvme_end_to_end.hpp>
#include <support/skip.hpp>
#include <unistd.h>

namespace qtest = phasebit::backend::qtest;
using namespace phasebit_test;
using namespace phasebit;

namespace {

// An image that lives as long as the test.
struct image {
  std::string path = "/tmp/phasebit-nvme-" + std::to_string(::getpid()) + ".img";
  explicit image(std::size_t bytes) {
    std::ofstream file{path, std::ios::binary};
    std::string block(4096, '\0');
    for (std::size_t at = 0; at != bytes; at += block.size()) {
      fill_block(std::as_writable_bytes(std::span{block}), at, 0);
      file << block;
    }
  }
  ~image() { ::unlink(path.c_str()); }
};

std::vector<char> contents(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

bool have_qemu() { return std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") == 0; }

}  // namespace

TEST_CASE("QEMU's NVMe controller does everything that our driver asks of a disk") {
  if (!have_qemu()) skip("qemu-system-x86_64 is not installed");
  const image disk{16U << 20};
  auto machine = qtest::machine::start(
      {.drives = {{"d0", disk.path}}, .devices = {"nvme,serial=phasebit,drive=d0,mdts=5"}});
  REQUIRE_MESSAGE(machine, machine.error().what);
  auto function = machine->open_class(0x010802);
  REQUIRE_MESSAGE(function, function.error().what);
  nvme_end_to_end{*function}.run_all();
}

TEST_CASE("what we read is what the image holds, and what we write is in it afterwards") {
  if (!have_qemu()) skip("qemu-system-x86_64 is not installed");
  const image disk{4U << 20};
  const auto before = contents(disk.path);
  std::vector<std::byte> ours(64U << 10);
  fill_block(ours, 1234, 5);
  {
    auto machine = qtest::machine::start(
        {.drives = {{"d0", disk.path}}, .devices = {"nvme,serial=phasebit,drive=d0"}});
    REQUIRE(machine);
    auto function = machine->open_class(0x010802);
    REQUIRE(function);
    auto host = nvme::driver::controller<qtest::function>::attach(*function);
    REQUIRE(host);
    auto opened = nvme::driver::disk<nvme::driver::controller<qtest::function>>::open(*host);
    REQUIRE(opened);
    std::vector<std::byte> all(before.size());
    CHECK(opened->read(0, all));
    CHECK(std::memcmp(all.data(), before.data(), all.size()) == 0);
    CHECK(opened->write(16, ours));
    CHECK(opened->flush());
  }
  const auto after = contents(disk.path);
  REQUIRE(after.size() == before.size());
  CHECK(std::memcmp(after.data() + 16 * 512, ours.data(), ours.size()) == 0);
  CHECK(std::memcmp(after.data(), before.data(), 16 * 512) == 0);
}

TEST_CASE("interrupts, events and shadow doorbells of QEMU's controller") {
  if (!have_qemu()) skip("qemu-system-x86_64 is not installed");
  const image disk{4U << 20};
  auto machine = qtest::machine::start(
      {.drives = {{"d0", disk.path}}, .devices = {"nvme,serial=phasebit,drive=d0"}});
  REQUIRE(machine);
  auto function = machine->open_class(0x010802);
  REQUIRE(function);
  using controller = nvme::driver::controller<qtest::function>;
  auto host = controller::attach(*function, {.io_queues = 4});
  REQUIRE(host);
  const auto drop = [](auto&, nvme::driver::completion) noexcept {};

  SUBCASE("a completion raises the vector of its queue, and only that") {
    REQUIRE(function->enable_interrupts(3));
    auto queue =
        host->create_queue_pair<std::uint32_t>({.depth = 8, .interrupt = std::uint16_t{2}});
    REQUIRE(queue);
    (void)function->poll_interrupt(0);
    CHECK_FALSE(function->poll_interrupt(2));
    REQUIRE(queue->submit(nvme::nvm::flush(1), 7U));
    queue->ring();
    CHECK(function->wait_interrupt(2, 10'000 * nanoseconds_per_ms));
    CHECK(queue->poll(drop) == 1);
    CHECK_FALSE(function->poll_interrupt(1));
    CHECK(host->delete_queue_pair(*queue, drop));
  }
  SUBCASE("a doorbell value beyond the queue is an error event") {
    auto queue = host->create_queue_pair<std::uint32_t>({.depth = 8});
    REQUIRE(queue);
    host->registers().write32(
        static_cast<std::uint32_t>(nvme::submission_doorbell_offset(queue->qid(), 0)), 8);
    std::optional<nvme::async_event> event;
    CHECK(within_ten_seconds(*function, [&]() noexcept {
      host->poll();
      event = host->next_event();
      return event.has_value();
    }));
    REQUIRE(event);
    CHECK(event->raw == 0x0001'0100);
    std::array<std::byte, 64> log{};
    CHECK(host->get_log_page(event->log_page(), log));
  }
  SUBCASE("queues with shadow doorbells work as those without") {
    REQUIRE(host->enable_shadow_doorbells());
    auto queue = host->create_shadowed_queue_pair<std::uint32_t>({.depth = 8});
    REQUIRE(queue);
    std::uint32_t ended = 0;
    for (int i = 0; i != 50; ++i) {
      REQUIRE(queue->submit(nvme::nvm::flush(1), 7U));
      queue->ring();
      CHECK(within_ten_seconds(*function, [&]() noexcept { return queue->poll(drop) != 0; }));
      ++ended;
    }
    CHECK(ended == 50);
    CHECK(host->delete_queue_pair(*queue, drop));
  }
  SUBCASE("regression: a shadowed queue rings although its id was another's before") {
    REQUIRE(host->enable_shadow_doorbells());
    for (unsigned flushes = 5; flushes != 0; --flushes) {
      auto queue = host->create_shadowed_queue_pair<std::uint32_t>({.depth = 8});
      REQUIRE(queue);
      for (unsigned i = 0; i != flushes; ++i) {
        REQUIRE(queue->submit(nvme::nvm::flush(1), 7U));
        queue->ring();
        REQUIRE(within_ten_seconds(*function, [&]() noexcept { return queue->poll(drop) != 0; }));
      }
      REQUIRE(host->delete_queue_pair(*queue, drop));
    }
  }
  SUBCASE("QEMU that dies under us is a device that is gone") {
    auto queue = host->create_queue_pair<std::uint32_t>({.depth = 8});
    REQUIRE(queue);
    machine->stop();
    REQUIRE(queue->submit(nvme::nvm::flush(1), 7U));
    queue->ring();
    CHECK(host->check().error().code == errc::removed);
    CHECK(host->execute(nvme::admin::keep_alive()).error().code == errc::removed);
    std::uint32_t failed = 0;
    CHECK(queue->fail_all(nvme::status_code::aborted_by_host,
                          [&](std::uint32_t&, nvme::driver::completion c) noexcept {
                            failed += !c.ok();
                          }) == 1);
    CHECK(failed == 1);
  }
}
