// SPDX-License-Identifier: BSL-1.0
// Procedures of several admin commands, and waiting by interrupts, against our own controller on the simulated bus.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/nvme/device/namespace_commands.hpp>
#include <phasebit/nvme/driver/interrupt_wait.hpp>
#include <phasebit/nvme/driver/procedures.hpp>
#include <phasebit/nvme/driver/wait.hpp>

#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nvme/device/pool_host.hpp>

namespace sim = phasebit::backend::simulated;
using namespace phasebit;
using namespace phasebit::nvme;
namespace drv = phasebit::nvme::driver;

namespace {

struct maintained : sim::nvme_policy {
  using maintenance = nvme::device::maintenance_commands;
};

struct maintained_machine {
  using parts = test_host::pooled_memory;
  using model = sim::nvme_model<parts::namespaces&, maintained>;
  parts disk{512};
  sim::fabric fabric;
  sim::device<model> function =
      *fabric.add(sim::describe_nvme({}), [this](const sim::device_port& p) noexcept {
        return model{p, disk.spaces, nvme::device::settings{}};
      });
};

// One namespace of 1024 blocks, attached to the controller.
template <class Host>
void make_namespace(Host& host) {
  auto page = allocate(host.backend(), 4096);
  REQUIRE(page);
  identify_namespace wanted{};
  wanted.nsze = wanted.ncap = 1024;
  store_wire((*page)->bytes, wanted);
  REQUIRE(host.execute_checked("create", admin::create_namespace(), **page));
  controller_list list{};
  list.count = 1;
  list.cntlid[0] = host.identity().cntlid.get();
  store_wire((*page)->bytes, list);
  REQUIRE(host.execute_checked("attach", admin::attach_namespace(1), **page));
}

}  // namespace

TEST_CASE("format, sanitize and self-test are waited for, and report how they ended") {
  maintained_machine m;
  auto host = drv::attach(m.function);
  REQUIRE_MESSAGE(host, host.error().what);
  make_namespace(*host);
  const auto before = host->identify_namespace(1);
  REQUIRE(before);
  {
    auto queue = host->create_queue_pair({.depth = 4}, drv::tokens<unsigned, 4>);
    REQUIRE(queue);
    auto data = allocate(m.function, 4096);
    const auto finish = [&](drv::submitted posted) {
      REQUIRE_MESSAGE(posted, posted.what);
      queue->ring();
      status how;
      REQUIRE(drv::wait(*queue, 1000,
                        [&](unsigned&, drv::completion c) noexcept { how = c.status(); }));
      return how;
    };
    std::memset(data->data(), 0x77, 4096);
    REQUIRE(finish(queue->write({.lba = 8, .blocks = 8}, **data, 0U)).ok());

    const auto after = drv::format_namespace(*host, {.nsid = 1});
    REQUIRE_MESSAGE(after, after.error().what);
    CHECK(after->generation != before->generation);
    CHECK_FALSE(queue->read({.lba = 8, .blocks = 8}, **data, 0U));  // the handle is from before
    queue->bind(*after);
    REQUIRE(finish(queue->read({.lba = 8, .blocks = 8}, **data, 0U)).ok());
    CHECK((*data)->bytes[0] == std::byte{0});

    std::memset(data->data(), 0x77, 4096);
    REQUIRE(finish(queue->write({.lba = 8, .blocks = 8}, **data, 0U)).ok());
    const auto wiped = drv::sanitize(*host, {}, {.timeout_ms = 60'000, .every_ms = 1});
    REQUIRE_MESSAGE(wiped, wiped.error().what);
    REQUIRE(finish(queue->read({.lba = 8, .blocks = 8}, **data, 0U)).ok());
    CHECK((*data)->bytes[0] == std::byte{0});
    CHECK(drv::sanitize(*host, {.action = sanitize_action::overwrite}).error().code == errc::io);
  }
  const auto tested = drv::run_self_test(*host, self_test::brief, all_namespaces,
                                         {.timeout_ms = 60'000, .every_ms = 1});
  REQUIRE_MESSAGE(tested, tested.error().what);
  CHECK(self_test_entry::result_bits.get(tested->status) == self_test_result::passed);
}

TEST_CASE("a firmware image is sent in parts and committed") {
  maintained_machine m;
  auto host = drv::attach(m.function);
  REQUIRE(host);
  std::vector<std::byte> memory(256U << 10);
  m.function.with_model(
      [&](auto& model) noexcept { model.controller().maintenance().set_firmware_memory(memory); });
  std::vector<std::byte> image(150'000, std::byte{0x5a});
  std::memcpy(image.data(), "2.0     ", 8);
  const auto sent = drv::update_firmware(*host, image, {.slot = 2});
  REQUIRE_MESSAGE(sent, std::string{sent.error().what} << ' ' << sent.error().value);
  CHECK(*sent == drv::firmware_needs::controller_reset);
  firmware_slot_log slots;
  REQUIRE(host->get_log_page(log_page_id::firmware_slots, writable_wire_bytes(slots)));
  CHECK(std::memcmp(memory.data(), image.data(), image.size()) == 0);
  CHECK(firmware_slot_log::next_slot.get(slots.afi) == 2);
  CHECK(drv::update_firmware(*host, std::span{image}.first(5)).error().code ==
        errc::invalid_argument);
  CHECK(drv::update_firmware(*host, {}).error().code == errc::invalid_argument);
}

TEST_CASE("an event is read, its kind let through again, and its meaning reported") {
  maintained_machine m;
  auto host = drv::attach(m.function);
  REQUIRE(host);
  CHECK(drv::take_event(*host).error().code == errc::not_found);
  make_namespace(*host);
  const auto next = [&] {
    result<drv::event_report> report = drv::take_event(*host);
    for (int n = 0; n != 1000 && !report; ++n) {
      m.function.clock().relax();
      report = drv::take_event(*host);
    }
    return report;
  };
  const auto changed = next();
  REQUIRE(changed);
  CHECK(changed->advice == drv::event_advice::rescan);
  CHECK(drv::take_event(*host).error().code == errc::not_found);
  auto queue = host->create_queue_pair({.depth = 4, .nsid = 0}, drv::tokens<unsigned, 4>);
  REQUIRE(queue);
  for (unsigned i = 0; i != 3; ++i) {
    // Of a queue that does not exist, each time another one.
    const auto qid = static_cast<std::uint16_t>(2 + i);
    host->registers().write32(static_cast<std::uint32_t>(submission_doorbell_offset(qid, 0)), 1);
    const auto report = next();
    REQUIRE(report);
    CHECK(report->advice == drv::event_advice::driver_fault);
  }
}

TEST_CASE("completions are waited for by interrupts, in both modes of the fabric") {
  for (const bool threaded : {false, true}) {
    CAPTURE(threaded);
    std::vector<std::byte> bytes(1U << 20);
    block::memory_media media{bytes};
    sim::fabric fabric;
    auto function = *sim::add_nvme_disk(fabric, media);
    if (threaded) REQUIRE(fabric.start());
    {
      auto host = drv::attach(function);
      REQUIRE(host);
      REQUIRE(function.enable_interrupts(2));
      auto queue = host->create_queue_pair({.depth = 8, .interrupt = std::uint16_t{1}},
                                           drv::tokens<unsigned, 8>);
      REQUIRE(queue);
      unsigned ended = 0;
      const auto count = [&](unsigned&, drv::completion c) noexcept { ended += c.ok(); };
      CHECK(drv::wait_by_interrupt(*queue, function, 1, 10, count).error().code ==
            errc::invalid_argument);
      for (unsigned i = 0; i != 500; ++i) {
        const unsigned posted = i % 7 + 1;
        for (unsigned n = 0; n != posted; ++n) REQUIRE(queue->submit(nvm::flush(1), n));
        if (i == 0) {
          CHECK(drv::wait_by_interrupt(*queue, function, 1, 10, count).error().code ==
                errc::not_ready);
        }
        queue->ring();
        while (queue->in_flight() != 0) {
          const auto waited = drv::wait_by_interrupt(*queue, function, 1, 60'000, count, 30'000);
          REQUIRE_MESSAGE(waited, waited.error().what);
        }
      }
      CHECK(ended == 500 * 4 - 2 - (500 % 7 == 3 ? 4 : 0));
    }
    fabric.stop();
  }
}

TEST_CASE("a wait by interrupts ends where the device is silent, or gone") {
  std::vector<std::byte> bytes(1U << 20);
  block::memory_media media{bytes};
  sim::fabric fabric;
  auto function = *sim::add_nvme_disk(fabric, media);
  auto host = drv::attach(function);
  REQUIRE(host);
  REQUIRE(function.enable_interrupts(2));
  auto queue = host->create_queue_pair({.depth = 8, .interrupt = std::uint16_t{1}},
                                       drv::tokens<unsigned, 8>);
  REQUIRE(queue);
  unsigned ended = 0;
  const auto count = [&](unsigned&, drv::completion) noexcept { ++ended; };
  function.inject(sim::fault_plan{}.completion(0, sim::completion_fault::drop));
  REQUIRE(queue->submit(nvm::flush(1), 0U));
  queue->ring();
  CHECK(drv::wait_by_interrupt(*queue, function, 1, 100, count).error().code == errc::timed_out);
  function.remove();
  CHECK(drv::wait_by_interrupt(*queue, function, 1, 10'000, count).error().code == errc::removed);
  CHECK(ended == 1);
}
