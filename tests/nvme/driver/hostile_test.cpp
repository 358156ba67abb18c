// SPDX-License-Identifier: BSL-1.0
// Devices with responses that no device should send: the driver returns error values, in bounded
// time, and never wrong data. Reported deviations of real controllers are in quirks_test.cpp.
#include <phasebit/nvme/driver/disk.hpp>
#include <phasebit/nvme/driver/queue_media.hpp>
#include <phasebit/nvme/driver/request_queue.hpp>
#include <phasebit/testing/nvme_quirks.hpp>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <span>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;
using testing::nvme_quirk_function;
using testing::nvme_quirk_plan;

namespace {

std::vector<std::byte> pattern(std::size_t bytes, unsigned seed) {
  std::mt19937 random{seed};
  std::vector<std::byte> out(bytes);
  for (auto& b : out) b = static_cast<std::byte>(random());
  return out;
}

// The errors of a driver that does everything a program does; none: everything worked.
struct outcome {
  std::optional<error> attach;
  std::optional<error> list;
  std::optional<error> open;
  std::optional<error> io;
  std::size_t namespaces = 0;

  [[nodiscard]] bool good() const { return !attach && !list && !open && !io; }
};

// Attaches, lists namespaces, writes and reads on a disk and on a queue, and detaches. Whatever the device does,
// it is over within `limit_ms`, memory that is not the driver's is not touched, and data that is returned with
// a success is what was written.
outcome use(nvme_quirk_function& f, std::uint64_t limit_ms = 120'000) {
  outcome out;
  const std::uint64_t begin = f.now_ms();
  {
    auto host = attach(f, {.io_queues = 2, .async_events = 8});
    if (!host) {
      out.attach = host.error();
    } else {
      std::vector<std::uint32_t> ids(64);
      if (const auto count = host->active_namespaces(ids); count) {
        out.namespaces = *count;
      } else {
        out.list = count.error();
      }
      (void)host->rescan();
      std::array<std::byte, 512> log{};
      (void)host->get_log_page(log_page_id::health, log);
      if (auto d = open_disk(*host, {.timeout_ms = 2000}); !d) {
        out.open = d.error();
      } else {
        const auto data = pattern(3 * d->info().block_bytes, 7);
        std::vector<std::byte> back(data.size());
        const auto written = d->write(2, data);
        const auto read = d->read(2, back);
        if (written && read) CHECK(back == data);
        if (!written) out.io = written.error();
        if (!read) out.io = read.error();
        (void)d->flush();
      }
      if (auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>); queue) {
        const auto data = allocate(f, 512);
        REQUIRE(data);
        for (unsigned i = 0; i != 7; ++i) {
          if (!queue->read({.lba = i, .blocks = 1}, *data, i)) break;
        }
        queue->ring();
        std::multiset<unsigned> ended;
        for (int i = 0; i != 10 && queue->in_flight() != 0; ++i) {
          (void)wait(*queue, 100, [&](unsigned& t, completion) noexcept { ended.insert(t); });
        }
        for (unsigned i = 0; i != 7; ++i) CHECK(ended.count(i) <= 1);
        // Its end comes before that of the buffer.
        if (!queue->remove()) host->detach();
      }
      (void)host->check();
    }
  }
  CHECK(f.now_ms() - begin < limit_ms);
  CHECK(f.stray_accesses == 0);
  return out;
}

// Changes one structure of Identify, in place.
template <class Structure, class Edit>
auto edits(cns which, Edit edit) {
  return [which, edit](cns asked, std::span<std::byte> page) {
    if (asked != which) return;
    Structure s = load_wire<Structure>(page);
    edit(s);
    std::memcpy(page.data(), &s, sizeof s);
  };
}
template <class Edit>
auto edits_namespace(Edit edit) {
  return edits<identify_namespace>(cns::identify_namespace, edit);
}
template <class Edit>
auto edits_controller(Edit edit) {
  return edits<identify_controller>(cns::identify_controller, edit);
}

}  // namespace

TEST_CASE("a device that misbehaves in nothing is used without an error") {
  nvme_quirk_function f;
  const outcome seen = use(f);
  CHECK(seen.good());
  CHECK(seen.namespaces == 1);
  CHECK(f.shutdowns == 1);
  CHECK(f.live_regions() == 0);
}

TEST_CASE("hostile: Identify pages of all ones and of random bytes") {
  nvme_quirk_function f;
  SUBCASE("all ones, each structure") {
    f.plan.several_command_sets = true;
    for (const cns which : {cns::identify_namespace, cns::identify_controller,
                            cns::active_namespace_list, cns::namespace_id_descriptors}) {
      f.plan.edit_identify = [which](cns asked, std::span<std::byte> page) {
        if (asked == which) std::fill(page.begin(), page.end(), std::byte{0xff});
      };
      const outcome seen = use(f);
      // Malformed descriptors are ignored: the namespace counts as one of the NVM command set.
      CHECK(seen.good() == (which == cns::namespace_id_descriptors));
    }
  }
  SUBCASE("random") {
    f.plan.several_command_sets = true;
    std::mt19937 random{9};
    for (int round = 0; round != 300; ++round) {
      f.plan.edit_identify = [&](cns asked, std::span<std::byte> page) {
        if (asked == cns::identify_controller && round % 4 != 0) return;
        for (auto& b : page) {
          // Mostly small: formats that are nearly possible.
          b = static_cast<std::byte>(random() % 4 == 0 ? random() : random() % 13);
        }
      };
      (void)use(f, 600'000);
      CHECK(f.live_regions() == 0);
    }
  }
}

TEST_CASE("hostile: block sizes, lengths and metadata that no namespace has") {
  nvme_quirk_function f;
  const auto refused = [&](errc why, auto edit) {
    f.plan.edit_identify = edits_namespace(edit);
    const outcome seen = use(f);
    REQUIRE(seen.open);
    CHECK(seen.open->code == why);
  };
  refused(errc::protocol, [](identify_namespace& n) { n.lbaf[0].lbads = 63; });
  refused(errc::protocol, [](identify_namespace& n) { n.lbaf[0].lbads = 255; });
  refused(errc::protocol, [](identify_namespace& n) { n.lbaf[0].lbads = 0; });
  refused(errc::not_supported, [](identify_namespace& n) { n.lbaf[0].lbads = 31; });
  refused(errc::not_found, [](identify_namespace& n) { n.nsze = 0; });
  refused(errc::protocol, [](identify_namespace& n) { n.nsze = ~std::uint64_t{0}; });
  refused(errc::protocol, [](identify_namespace& n) { n.nsze = (std::uint64_t{1} << 55) + 1; });
  refused(errc::not_supported, [](identify_namespace& n) {
    n.lbaf[0].ms = 65'535;
    n.lbaf[0].lbads = 17;
    n.flbas = 0x10;
  });
  // A format index whose upper bits count only where there are more than 16 formats.
  f.plan.edit_identify = edits_namespace([](identify_namespace& n) { n.flbas = 0x60; });
  CHECK(use(f).good());
  refused(errc::protocol, [](identify_namespace& n) {
    n.nlbaf = 16;
    n.flbas = 0x60;  // format 48, which is empty
  });
}

TEST_CASE("hostile: the largest namespace that there can be") {
  nvme_quirk_function f;
  f.plan.edit_identify =
      edits_namespace([](identify_namespace& n) { n.nsze = ~std::uint64_t{0} >> 9; });
  auto host = attach(f);
  REQUIRE(host);
  auto d = open_disk(*host);
  REQUIRE(d);
  CHECK(d->info().bytes() == ~std::uint64_t{0} - 511);
  std::array<std::byte, 512> block{};
  CHECK(d->read(d->info().blocks, block).error().code == errc::out_of_range);
  // Beyond what the device has: its status, and not our arithmetic.
  CHECK(d->read(d->info().blocks - 1, block).error().code == errc::io);
}

TEST_CASE("hostile: MDTS, page sizes and time-outs at their limits") {
  SUBCASE("MDTS 1 with pages of 64 KiB") {
    nvme_quirk_function f{{.mdts = 1, .mpsmin = 4}};
    CHECK(use(f).good());
  }
  SUBCASE("MDTS 255") {
    nvme_quirk_function f{{.mdts = 255}};
    CHECK(use(f).good());
  }
  SUBCASE("pages of 128 MiB") {
    nvme_quirk_function f{{.mpsmin = 15}};
    const outcome seen = use(f);
    REQUIRE(seen.attach);
    CHECK(seen.attach->code == errc::misaligned);
  }
  SUBCASE("CAP.TO 0, and ready after 400 ms") {
    nvme_quirk_function f{{.timeout = 0, .ready_after_ms = 400, .stop_after_ms = 400}};
    CHECK(use(f).good());
  }
  SUBCASE("RTD3E of 71 minutes") {
    nvme_quirk_function f{{.shutdown_never_ends = true, .rtd3e = ~0U}};
    auto host = attach(f);
    REQUIRE(host);
    const std::uint64_t begin = f.now_ms();
    CHECK(host->shut_down().error().code == errc::timed_out);
    CHECK(f.now_ms() - begin >= 60'000);
    CHECK(f.now_ms() - begin < 61'000);
  }
}

TEST_CASE("hostile: a doorbell stride of 15") {
  nvme_quirk_function f{{.dstrd = 15}};
  const outcome seen = use(f);
  REQUIRE(seen.attach);
  CHECK(seen.attach->code == errc::protocol);
  nvme_quirk_function large{{.dstrd = 15, .bar_bytes = 64U << 20}};
  CHECK(use(large).good());
  // Doorbells of the admin queue alone.
  nvme_quirk_function small{{.dstrd = 15, .bar_bytes = 0x1000 + 0x40'0000 / 16}};
  CHECK(use(small).open->code == errc::exhausted);
}

TEST_CASE("hostile: registers that change between two reads, or are random") {
  std::mt19937 random{3};
  SUBCASE("CAP") {
    nvme_quirk_function f;
    unsigned reads = 0;
    f.plan.edit_register = [&](std::uint32_t offset, std::uint32_t value) {
      if (offset == 0) return ++reads % 2 == 0 ? value : 0x0100'0001U;
      if (offset == 4) return reads % 3 == 0 ? value : value | 3U;
      return value;
    };
    for (int i = 0; i != 6; ++i) (void)use(f);
    auto host = attach(f);
    if (host) {
      for (int i = 0; i != 6; ++i) (void)host->reset();
    }
  }
  SUBCASE("reserved values of CSTS") {
    nvme_quirk_function f;
    f.plan.edit_register = [&](std::uint32_t offset, std::uint32_t value) {
      // SHST is always the reserved 11b; NSSRO, PP and what is above are set too.
      return offset == csts::offset ? value | 0x7fff'fffcU : value;
    };
    const outcome seen = use(f);
    CHECK(seen.good());
  }
  SUBCASE("every register is random now and then") {
    for (unsigned rarely : {2U, 5U, 20U, 300U}) {
      nvme_quirk_function f;
      f.plan.edit_register = [&](std::uint32_t, std::uint32_t value) {
        return random() % rarely == 0 ? static_cast<std::uint32_t>(random()) : value;
      };
      for (int i = 0; i != 20; ++i) (void)use(f, 1'000'000);
    }
  }
  SUBCASE("CC reads ones for a moment as the shutdown begins") {
    nvme_quirk_function f;
    unsigned left = 5;  // outlives the controller, which is shut down at its end again
    auto host = attach(f);
    REQUIRE(host);
    f.plan.edit_register = [&](std::uint32_t offset, std::uint32_t value) {
      return offset == cc::offset && left != 0 ? --left, ~0U : value;
    };
    CHECK(host->shut_down());
    CHECK(f.shutdowns == 1);
  }
}

TEST_CASE("hostile: Identify and log pages that return success and transfer nothing") {
  nvme_quirk_function f;
  f.namespaces.resize(2);
  f.namespaces[1].block_shift = 12;
  auto host = attach(f);
  REQUIRE(host);
  REQUIRE(host->identify_namespace(1));
  f.plan.no_admin_data = true;
  // Not the answer to an earlier question.
  CHECK(host->identify_namespace(2).error().code == errc::not_found);
  std::uint32_t ids[4]{};
  const auto count = host->active_namespaces(ids);
  REQUIRE(count);
  CHECK(*count == 0);
  std::array<std::byte, 64> log;
  log.fill(std::byte{1});
  REQUIRE(host->get_log_page(log_page_id::health, log));
  CHECK(std::all_of(log.begin(), log.end(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST_CASE("hostile: namespace lists that do not end, repeat, or name all namespaces at once") {
  nvme_quirk_function f;
  const auto list_of = [&](std::vector<std::uint32_t> words) {
    f.plan.edit_identify = [words](cns asked, std::span<std::byte> page) {
      if (asked != cns::active_namespace_list) return;
      for (std::size_t i = 0; i != 1024; ++i) {
        const le<std::uint32_t> word = i < words.size() ? words[i] : 0;
        std::memcpy(page.data() + 4 * i, &word, 4);
      }
    };
    auto host = attach(f);
    REQUIRE(host);
    std::vector<std::uint32_t> ids(3000);
    return host->active_namespaces(ids);
  };
  CHECK(list_of({1, 1}).error().code == errc::protocol);
  CHECK(list_of({2, 1}).error().code == errc::protocol);
  CHECK(list_of({1, 0xffff'ffff}).error().code == errc::protocol);
  CHECK(list_of({1, 0xffff'fffe}).error().code == errc::protocol);
  CHECK(*list_of({1, 0xffff'fffd}) == 2);
  CHECK(*list_of({0, 5}) == 0);
  std::vector<std::uint32_t> full(1024);
  for (std::uint32_t i = 0; i != 1024; ++i) full[i] = i + 1;
  // The same page again and again.
  CHECK(list_of(full).error().code == errc::protocol);
}

TEST_CASE("hostile: NN of 2^32 - 1 on a controller without a list of namespaces") {
  nvme_quirk_function f{{.version = vs::of(1, 0).raw, .no_active_list = true}};
  f.plan.edit_identify = edits_controller([](identify_controller& c) { c.nn = ~0U; });
  const outcome seen = use(f);
  CHECK(seen.good());
  CHECK(seen.namespaces == 1);
}

TEST_CASE("hostile: completions for commands of another queue, with SQHD and SQID out of range") {
  nvme_quirk_function f{{.hold = true}};
  auto host = attach(f, {.io_queues = 2});
  REQUIRE(host);
  auto one = host->create_queue_pair({.depth = 4}, tokens<unsigned>);
  auto two = host->create_queue_pair({.depth = 16}, tokens<unsigned>);
  REQUIRE(two);
  const auto data = allocate(f, 512);
  REQUIRE(data);
  std::uint16_t last = 0;
  REQUIRE(one->read({.blocks = 1}, *data, 0U));
  for (unsigned i = 0; i != 9; ++i) last = two->read({.blocks = 1}, *data, i).command_id;
  one->ring();
  two->ring();
  f.clock().relax();
  unsigned ended = 0;
  const auto count = [&](unsigned&, completion) noexcept { ++ended; };
  f.complete_by_hand(one->qid(), last);
  CHECK(one->poll(count) == 0);
  CHECK(one->unexpected_completions() == 1);
  CHECK(two->in_flight() == 9);
  // The entry's values for heads and queues are not used for anything.
  f.plan.hold = false;
  f.clock().relax();
  for (auto& entry : f.completion_ring(two->qid())) {
    entry.sq_head = std::uint16_t{0xffff};
    entry.sq_id = std::uint16_t{0xeeee};
  }
  CHECK(two->poll(count) == 9);
  CHECK(ended == 9);
  CHECK(two->submit(nvm::flush(1), 0U));
}

TEST_CASE("hostile: phases that flip at once, backwards, and while they are read") {
  nvme_quirk_function f{{.hold = true}};
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
  REQUIRE(queue);
  const auto data = allocate(f, 512);
  REQUIRE(data);
  std::mt19937 random{5};
  std::multiset<unsigned> ended;
  unsigned posted = 0;
  for (int round = 0; round != 20'000; ++round) {
    while (queue->read({.blocks = 1}, *data, posted)) ++posted;
    if (random() % 2 == 0) queue->ring();
    auto ring = f.completion_ring(queue->qid());
    REQUIRE(ring.size() == 8);
    for (auto& entry : ring) {
      if (random() % 3 != 0) continue;
      const auto id =
          static_cast<std::uint16_t>(random() % 2 == 0 ? random() : posted + random() % 9 - 8);
      entry.dw3 = completion_dw3::of(id, nvme::status{static_cast<std::uint16_t>(random())},
                                     random() % 2 == 0)
                      .raw;
    }
    const unsigned before = queue->in_flight();
    const unsigned now = queue->poll([&](unsigned& t, completion) noexcept { ended.insert(t); });
    CHECK(now <= 8);
    CHECK(before - now == queue->in_flight());
  }
  // Each command ended once, and those that are left are in flight.
  CHECK(ended.size() + queue->in_flight() == posted);
  CHECK(std::set<unsigned>(ended.begin(), ended.end()).size() == ended.size());
}

TEST_CASE("hostile: statuses of reserved types") {
  nvme_quirk_function f;
  for (unsigned raw = 1; raw < 0x8000; raw += 37) {
    f.plan.io_status = static_cast<std::uint16_t>(raw);
    const nvme::status s{static_cast<std::uint16_t>(raw)};
    CHECK_FALSE(text(s).empty());
    if (s.ok() || raw % 5 != 0) continue;
    const outcome seen = use(f);
    REQUIRE(seen.io);
    CHECK(seen.io->code == errc::io);
    CHECK(seen.io->value == raw);
  }
}

TEST_CASE("hostile: a command that is to be tried again for ever") {
  nvme_quirk_function f;
  for (const unsigned delay : {0U, 1U, 3U}) {
    f.plan.io_status = static_cast<std::uint16_t>(0x82U | delay << nvme::status::crd_bits.lo);
    f.plan.edit_identify = edits_controller([](identify_controller& c) { c.crdt3 = 0xffff; });
    const outcome seen = use(f);
    REQUIRE(seen.io);
    CHECK(seen.io->code == errc::io);
  }
}

TEST_CASE("hostile: an unknown completion first, and the command's own long after the time-out") {
  nvme_quirk_function f;
  f.namespaces[0].data = pattern(1U << 20, 4);
  auto host = attach(f);
  REQUIRE(host);
  auto d = open_disk(*host, {.timeout_ms = 100});
  REQUIRE(d);
  std::array<std::byte, 512> block{};
  f.plan.hold = true;
  f.complete_by_hand(1, 0x7777);
  CHECK_FALSE(d->read(1, block));
  // The completion of the first read is not that of the second.
  f.plan.hold = false;
  const auto second = d->read(9, block);
  if (second) CHECK(std::memcmp(block.data(), f.namespaces[0].data.data() + 9 * 512, 512) == 0);
  CHECK(second.error().code == errc::not_ready);
  CHECK(host->reset());
}

TEST_CASE("hostile: events without end, of every type, and with an error status") {
  nvme_quirk_function f{{.notices = true, .event_storm = true}};
  CHECK_FALSE(use(f).attach);
  f.plan.event_storm = false;
  auto host = attach(f, {.async_events = 8});
  REQUIRE(host);
  std::mt19937 random{8};
  for (int i = 0; i != 2000; ++i) {
    f.clock().relax();
    f.report_event(static_cast<std::uint32_t>(random()));
    host->poll();
    if (i % 3 == 0) (void)host->next_event();
  }
  CHECK(host->identify_namespace(1));
  // Requests that were refused are not made again.
  while (f.outstanding_events() != 0) f.report_event(0, nvme::status{0x105});
  host->poll();
  f.clock().relax();
  CHECK(f.outstanding_events() == 0);
  CHECK(host->identify_namespace(1));
}

TEST_CASE("hostile: more event requests than there are places, and more queues than exist") {
  nvme_quirk_function f{{.granted_queues = ~0U}};
  f.plan.edit_identify = edits_controller([](identify_controller& c) { c.aerl = 255; });
  auto host = attach(f, {.io_queues = 65'535, .async_events = 255});
  REQUIRE(host);
  CHECK(host->granted_queues() == 64);
  f.clock().relax();
  CHECK(f.outstanding_events() == 8);
  CHECK(host->identify_namespace(1));
}

TEST_CASE(
    "hostile: a controller that broke the protocol is notified of the shutdown all the same") {
  nvme_quirk_function f;
  {
    auto host = attach(f);
    REQUIRE(host);
    f.complete_by_hand(0, 0x7777);
    host->poll();
    CHECK(host->check().error().code == errc::protocol);
  }
  CHECK(f.shutdowns == 1);
  CHECK(f.live_regions() == 0);
}

TEST_CASE("hostile: admin commands that fail, stall or answer twice at every step of a program") {
  for (unsigned opcode = 0; opcode != 0x100; ++opcode) {
    nvme_quirk_function f{{.refuse_opcode = static_cast<std::uint8_t>(opcode), .refuse_times = 2}};
    (void)use(f);
    // A disk whose queue could not be deleted keeps its buffer.
    CHECK(f.live_regions() <= (opcode == 0 || opcode == 4 ? 1U : 0U));
    nvme_quirk_function silent{
        {.silent_opcode = static_cast<std::uint8_t>(opcode), .silent_one = true}};
    (void)use(silent, 200'000);
  }
}

TEST_CASE("a format changed behind it stops a request queue, media and checked commands") {
  nvme_quirk_function f;
  auto host = attach(f, {.io_queues = 2});
  REQUIRE(host);
  const auto data = allocate(f, 8192);
  REQUIRE(data);
  const segment<bus_space> all[] = {{data->bus(), 8192}};
  auto queue = host->create_queue_pair({.depth = 2, .max_transfer = 4096}, tokens<std::uint16_t>);
  auto under_media = host->create_queue_pair({.depth = 4}, tokens<std::uint32_t>);
  REQUIRE(under_media);
  request_queue requests{*queue};
  queue_media_operation places[2];
  using media_type = queue_media<std::remove_reference_t<decltype(*under_media)>>;
  auto media =
      media_type::make(*under_media, *host->identify_namespace(1), host->identity(), places);
  REQUIRE(media);
  completion first;
  unsigned calls = 0;
  const auto done = [&](completion c) noexcept {
    first = c;
    ++calls;
  };
  // The first part is posted, the second waits.
  REQUIRE(
      requests.submit({.command = nvm::write({.nsid = 1, .blocks = 1}), .segments = all}, done));
  requests.ring();
  f.clock().relax();
  f.namespaces[0].block_shift = 12;
  REQUIRE(host->rescan());
  // Also if the queue has the new format by then: the request was split for the old one.
  bool bound = false;
  SUBCASE("the queue is not bound anew") {}
  SUBCASE("the queue is bound to the new format at once") { bound = true; }
  if (bound) queue->bind(*host->identify_namespace(1));
  for (int i = 0; i != 4; ++i) {
    f.clock().relax();
    (void)requests.poll();
  }
  CHECK(calls == 1);
  CHECK(first.status() == status_code::invalid_namespace_or_format);
  if (!bound) {
    CHECK(requests.submit({.command = nvm::write({.nsid = 1, .blocks = 1}), .segments = all}, done)
              .reason == errc::not_ready);
    CHECK(queue
              ->submit(nvm::read({.nsid = 1, .blocks = 8}), (**data).subregion(0, 4096),
                       std::uint16_t{0})
              .reason == errc::not_ready);
  }
  const block::media_segment part[] = {
      {.address = data->bus().value(), .bytes = 4096, .domain = memory_domain{1}}};
  REQUIRE(
      media->submit({.operation = block::media_operation::read, .blocks = 8, .segments = part}, 1)
          .is_pending());
  block::media_status seen{};
  CHECK(media->poll([&](block::media_tag, block::media_status s) noexcept { seen = s; }) == 1);
  CHECK(seen == block::media_status::read_failed);
  // Bound to the new format it goes on, in blocks of 4 KiB.
  queue->bind(*host->identify_namespace(1));
  calls = 0;
  REQUIRE(
      requests.submit({.command = nvm::write({.nsid = 1, .blocks = 1}), .segments = all}, done));
  for (int i = 0; i != 6; ++i) {
    requests.ring();
    f.clock().relax();
    (void)requests.poll();
  }
  CHECK(calls == 1);
  CHECK(first.ok());
}

TEST_CASE("media on a namespace with metadata neither lose tuples nor touch other memory") {
  for (const bool is_inline : {false, true}) {
    for (const auto type : {protection_type::none, protection_type::type1, protection_type::type2,
                            protection_type::type3}) {
      CAPTURE(is_inline);
      CAPTURE(static_cast<int>(type));
      nvme_quirk_function f;
      f.namespaces[0].metadata_bytes = 8;
      f.namespaces[0].metadata_inline = is_inline;
      f.namespaces[0].protection = type;
      auto host = attach(f, {.io_queues = 2});
      REQUIRE(host);
      auto queue = host->create_queue_pair({.depth = 4}, tokens<std::uint32_t>);
      REQUIRE(queue);
      queue_media_operation places[2];
      using media_type = queue_media<std::remove_reference_t<decltype(*queue)>>;
      auto media = media_type::make(*queue, *host->identify_namespace(1), host->identity(), places);
      if (type == protection_type::none) {
        CHECK(media.error().code == errc::not_supported);
        continue;
      }
      REQUIRE(media);
      const auto data = allocate(f, 4096);
      REQUIRE(data);
      const auto bytes = pattern(4096, 2);
      const block::media_segment part[] = {
          {.address = data->bus().value(), .bytes = 4096, .domain = memory_domain{1}}};
      for (const auto what : {block::media_operation::write, block::media_operation::read}) {
        const bool writes = what == block::media_operation::write;
        if (writes) {
          std::copy(bytes.begin(), bytes.end(), data->data());
        } else {
          std::fill_n(data->data(), 4096, std::byte{0});
        }
        (void)media->submit({.operation = what, .lba = 5, .blocks = 8, .segments = part}, 1);
        block::media_status seen = block::media_status::read_failed;
        for (int i = 0; i != 6; ++i) {
          (void)media->poll([&](block::media_tag, block::media_status s) noexcept { seen = s; });
          f.clock().relax();
        }
        CHECK(seen == block::media_status::good);
      }
      CHECK(std::memcmp(data->data(), bytes.data(), 4096) == 0);
      CHECK(f.stray_accesses == 0);
      // The tuples are those of a disk, which checks them.
      auto d = open_disk(*host);
      REQUIRE(d);
    }
  }
}

TEST_CASE("a command for separate metadata without MPTR is refused") {
  nvme_quirk_function f;
  f.namespaces[0].metadata_bytes = 8;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 4}, tokens<unsigned>);
  REQUIRE(queue);
  const auto data = allocate(f, 512);
  const auto apart = allocate(f, 8);
  REQUIRE(apart);
  submission_entry e = nvm::read({.nsid = 1, .blocks = 1});
  const submitted refused = queue->submit(e, *data, 0U);
  CHECK_FALSE(refused);
  CHECK(refused.reason == errc::invalid_argument);
  e.mptr = apart->bus().value();
  CHECK(queue->submit(e, *data, 0U));
}
