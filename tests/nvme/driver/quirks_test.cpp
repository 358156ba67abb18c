// SPDX-License-Identifier: BSL-1.0
// Reported deviations of real controllers from the specification, and the driver's handling of
// them.
#include <phasebit/nvme/driver/disk.hpp>
#include <phasebit/nvme/driver/request_queue.hpp>
#include <phasebit/testing/nvme_quirks.hpp>

#include <algorithm>
#include <random>
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

// Opens a disk, writes and reads `bytes`, and compares.
void check_disk(nvme_quirk_function& f, const controller_options& options = {},
                std::size_t bytes = 200'704) {
  auto host = attach(f, options);
  REQUIRE_MESSAGE(host, host.error().what);
  auto d = open_disk(*host);
  REQUIRE_MESSAGE(d, d.error().what);
  const auto out = pattern(bytes, 1);
  std::vector<std::byte> in(bytes);
  REQUIRE(d->write(3, out));
  REQUIRE(d->read(3, in));
  CHECK(in == out);
  CHECK(f.stray_accesses == 0);
}

}  // namespace

TEST_CASE("registers that read ones for two seconds after disable are not taken for removal") {
  nvme_quirk_function f{{.vendor = 0x144d, .device = 0xa821}};
  auto host = attach(f);
  REQUIRE(host);
  f.plan.ones_after_disable_ms = 2000;
  CHECK(host->reset());
  CHECK(host->create_queue_pair());
}

TEST_CASE("registers that stay ones while the configuration space answers end in removed") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  f.plan.ones_after_disable_ms = 1'000'000;
  CHECK(host->reset().error().code == errc::removed);
}

TEST_CASE("a quiet time after disable reads no register") {
  nvme_quirk_function f;
  auto host = attach(f, {.quirks = {.quiet_ms = 1500}});
  REQUIRE(host);
  const std::uint64_t before = f.clock().now();
  CHECK(host->reset());
  CHECK(f.clock().now() - before >= 1'500'000'000);
}

TEST_CASE("quirks are known by vendor and device, and each has its reason") {
  for (const quirk_entry& e : known_quirks) {
    const char* reason = nullptr;
    const quirks q = quirks_of(e.vendor, e.device, &reason);
    CHECK(reason != nullptr);
    CHECK((q.quiet_ms != 0 || q.submission_entry_shift != 0 || q.list_alignment != 0 ||
           q.assume_nvm || q.no_shutdown_status));
  }
  // The user's quirks and those of the table are combined, in either order.
  constexpr quirks some{.quiet_ms = 5, .submission_entry_shift = 7, .assume_nvm = true};
  constexpr quirks others{.quiet_ms = 3, .list_alignment = 512, .no_shutdown_status = true};
  for (const quirks& q : {some | others, others | some}) {
    CHECK(q.quiet_ms == 5);
    CHECK(q.submission_entry_shift == 7);
    CHECK(q.list_alignment == 512);
    CHECK(q.assume_nvm);
    CHECK(q.no_shutdown_status);
  }
  CHECK(quirks_of(0x144d, 0xa821).quiet_ms == 2300);
  CHECK(quirks_of(0x144d, 0xa820).quiet_ms == 0);
}

TEST_CASE("a controller that refuses Number of Queues is attached without I/O queues") {
  nvme_quirk_function f{{.number_of_queues_status = 0x0006}};
  auto host = attach(f);
  REQUIRE(host);
  CHECK(host->granted_queues() == 0);
  REQUIRE(host->queues_refused());
  CHECK(*host->queues_refused() == status_code::internal_error);
  CHECK(host->identify_namespace(1));
  const auto queue = host->create_queue_pair();
  REQUIRE_FALSE(queue);
  CHECK(queue.error().code == errc::exhausted);
  CHECK(queue.error().value == 6);
}

TEST_CASE(
    "a shutdown that never completes is a time-out, and the controller is let go all the same") {
  nvme_quirk_function f{{.shutdown_never_ends = true}};
  {
    auto host = attach(f);
    REQUIRE(host);
    CHECK(host->shut_down().error().code == errc::timed_out);
  }
  CHECK(f.live_regions() == 0);
  nvme_quirk_function known{{.shutdown_never_ends = true}};
  auto host = attach(known, {.quirks = {.no_shutdown_status = true}});
  REQUIRE(host);
  CHECK(host->shut_down());
}

TEST_CASE(
    "a controller of version 1.0 without an active list is asked for each id, within bounds") {
  nvme_quirk_function f{{.version = vs::of(1, 0).raw, .no_active_list = true}};
  f.namespaces.resize(3);
  f.namespaces[1].data.clear();
  auto host = attach(f);
  REQUIRE(host);
  std::uint32_t ids[8]{};
  const auto count = host->active_namespaces(ids);
  REQUIRE(count);
  CHECK(*count == 2);
  CHECK(ids[0] == 1);
  CHECK(ids[1] == 3);
  CHECK(*host->active_namespaces(ids, 1) == 1);
  CHECK(ids[0] == 3);
}

TEST_CASE("more than 1024 namespaces are listed in several pages") {
  nvme_quirk_function f;
  testing::nvme_quirk_namespace small;
  small.data = std::vector<std::byte>(512);
  f.namespaces.assign(2500, small);
  auto host = attach(f);
  REQUIRE(host);
  std::vector<std::uint32_t> ids(4000);
  const auto count = host->active_namespaces(ids);
  REQUIRE(count);
  REQUIRE(*count == 2500);
  for (std::uint32_t i = 0; i != 2500; ++i) REQUIRE(ids[i] == i + 1);
  std::uint32_t some[1100]{};
  CHECK(*host->active_namespaces(some, 10) == 1100);
  CHECK(some[1099] == 1110);
}

TEST_CASE("CAP.MQES of 1 and 2 limits I/O queues and not the admin queue") {
  for (const auto mqes : {std::uint16_t{1}, std::uint16_t{2}}) {
    nvme_quirk_function f{{.mqes = mqes}};
    check_disk(f, {.async_events = 8});
    auto host = attach(f);
    REQUIRE(host);
    auto queue = host->create_queue_pair();
    REQUIRE(queue);
    CHECK(queue->depth() == mqes + 1U);
    CHECK(host->create_queue_pair({.depth = mqes + 2U}).error().code == errc::out_of_range);
  }
}

TEST_CASE("submission entries of 128 bytes are refused by name, and taken by an option") {
  nvme_quirk_function f{{.sqes = 0x77}};
  const auto refused = attach(f);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::not_supported);
  CHECK(refused.error().value == 0x77);
  CHECK(f.live_regions() == 0);
  check_disk(f, {.quirks = {.submission_entry_shift = 7}});
  nvme_quirk_function apple{{.vendor = 0x106b, .device = 0x2005, .sqes = 0x77}};
  check_disk(apple);
  nvme_quirk_function wide{{.cqes = 0x55}};
  CHECK(attach(wide).error().code == errc::not_supported);
  nvme_quirk_function range{{.sqes = 0x86, .cqes = 0x64}};
  check_disk(range);
}

TEST_CASE("PRP lists begin on 512 bytes where an option asks for it") {
  nvme_quirk_function f{{.list_alignment = 512}};
  check_disk(f, {.max_transfer = 64 << 10, .quirks = {.list_alignment = 512}});
  CHECK(f.bad_prp_lists == 0);
  // Several lists at a time, which lie side by side.
  for (const std::uint16_t asked : {std::uint16_t{0}, std::uint16_t{512}}) {
    f.bad_prp_lists = 0;
    auto host = attach(f, {.max_transfer = 64 << 10, .quirks = {.list_alignment = asked}});
    REQUIRE(host);
    auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
    REQUIRE(queue);
    const auto data = allocate(f, 64 << 10);
    REQUIRE(data);
    for (unsigned i = 0; i != 7; ++i) REQUIRE(queue->read({.blocks = 128}, *data, i));
    queue->ring();
    while (queue->in_flight() != 0) {
      REQUIRE(wait(*queue, 1000, [](unsigned&, completion) noexcept {}));
    }
    CHECK((f.bad_prp_lists == 0) == (asked == 512));
  }
}

TEST_CASE("CAP is read as two dwords") {
  nvme_quirk_function f{{.read64_is_ones = true}};
  check_disk(f);
}

TEST_CASE("a controller that reports no command set is driven if an option allows it") {
  nvme_quirk_function f{{.command_set_zero = true}};
  const auto refused = attach(f);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::not_supported);
  check_disk(f, {.quirks = {.assume_nvm = true}});
}

TEST_CASE(
    "Namespace Not Ready is retried within the time-out, after the delay that the status names") {
  nvme_quirk_function f{{.not_ready_ms = 20'000}};
  f.step_ns = 1'000'000;
  auto host = attach(f);
  REQUIRE(host);
  auto d = open_disk(*host, {.timeout_ms = 30'000});
  REQUIRE(d);
  std::vector<std::byte> in(512);
  CHECK(d->read(0, in));
  CHECK(f.io_commands > 100);
  CHECK(f.io_commands < 300);  // every 100 ms, not at once

  nvme_quirk_function slow{{.not_ready_ms = 2'000, .retry_delay = 1}};
  slow.step_ns = 1'000'000;
  auto other = attach(slow);
  REQUIRE(other);
  auto e = open_disk(*other);
  REQUIRE(e);
  CHECK(e->read(0, in));
  CHECK(slow.io_commands <= 6);  // CRDT1 is 500 ms

  nvme_quirk_function never{{.not_ready_ms = 1'000'000}};
  never.step_ns = 1'000'000;
  auto third = attach(never);
  REQUIRE(third);
  auto g = open_disk(*third, {.timeout_ms = 1'000});
  REQUIRE(g);
  const auto read = g->read(0, in);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == errc::io);
  CHECK(read.error().value == 0x82);
}

TEST_CASE("a zoned namespace is refused when the disk is opened") {
  nvme_quirk_function f{{.several_command_sets = true, .zoned = true}};
  auto host = attach(f);
  REQUIRE(host);
  const auto d = open_disk(*host);
  REQUIRE_FALSE(d);
  CHECK(d.error().code == errc::not_supported);
}

TEST_CASE("detaching ends with a shutdown notification, unless an option disables it") {
  nvme_quirk_function f;
  check_disk(f);
  CHECK(f.shutdowns == 1);
  {
    auto host = attach(f, {.shut_down_on_detach = false});
    REQUIRE(host);
  }
  CHECK(f.shutdowns == 1);
}

TEST_CASE("queues without doorbells in BAR 0 are not used") {
  nvme_quirk_function f{{.dstrd = 4, .bar_bytes = 0x1000 + 4 * 2 * 64}};
  auto host = attach(f, {.io_queues = 16});
  REQUIRE(host);
  CHECK(host->granted_queues() == 3);
  nvme_quirk_function none{{.dstrd = 8, .bar_bytes = 0x1400}};
  CHECK(attach(none).error().code == errc::protocol);
}

TEST_CASE("all ones or a fatal status seen by one read only neither aborts nor hangs") {
  for (std::uint32_t reads = 1; reads != 4; ++reads) {
    for (const bool fatal : {false, true}) {
      nvme_quirk_function f;
      auto host = attach(f, {.admin_timeout_ms = 1000});
      REQUIRE(host);
      f.plan.silent_one = true;
      f.plan.silent_opcode = static_cast<std::uint8_t>(admin_opcode::get_features);
      (fatal ? f.plan.fatal_for_reads : f.plan.ones_for_reads) = reads;
      const auto answer = host->get_feature(feature_id::arbitration);
      REQUIRE_FALSE(answer);
      CHECK(answer.error().code == (fatal ? errc::protocol : errc::timed_out));
    }
  }
}

TEST_CASE("commands that were posted and not rung do not count as in flight for the device") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
  REQUIRE(queue);
  f.plan.completes_unrung = true;
  REQUIRE(queue->submit(nvm::flush(1), 7U));
  unsigned ended = 0;
  for (int i = 0; i != 20; ++i) {
    f.step();
    ended += queue->poll([](unsigned&, completion) noexcept {});
  }
  CHECK(ended == 0);
  CHECK(queue->in_flight() == 1);
  CHECK_FALSE(queue->health());
  f.plan.completes_unrung = false;
  queue->ring();
  CHECK(wait(*queue, 1000, [](unsigned&, completion) noexcept {}));
}

TEST_CASE("a device that completes event requests before they are rung does not keep poll busy") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  f.plan.completes_unrung = true;
  for (int i = 0; i != 50; ++i) {
    f.report_event(0x0002'0001);
    f.step();
    host->poll();
  }
  CHECK(host->next_event());
}

TEST_CASE("event requests are issued again, so that events keep coming") {
  nvme_quirk_function f;
  auto host = attach(f, {.async_events = 2});
  REQUIRE(host);
  for (std::uint32_t i = 0; i != 20; ++i) {
    f.step();  // the device fetches the requests
    f.report_event(async_event::of(health_event::temperature).raw);
    host->poll();
    REQUIRE(host->next_event());
    CHECK_FALSE(host->next_event());
  }
}

TEST_CASE("duplicated, late and unknown completions end no other command") {
  for (const std::uint32_t delay : {0U, 1U, 3U, 50U, 1000U}) {
    nvme_quirk_function f{{.duplicate_every = 3, .duplicate_delay = delay}};
    auto host = attach(f);
    REQUIRE(host);
    auto queue = host->create_queue_pair({.depth = 16}, tokens<unsigned>);
    REQUIRE(queue);
    std::vector<unsigned> ended(20'000);
    unsigned next = 0;
    unsigned done = 0;
    std::mt19937 random{delay};
    while (done != ended.size()) {
      while (next != ended.size() && random() % 4 != 0 && queue->available() != 0) {
        REQUIRE(queue->submit(nvm::flush(1), next));
        ++next;
      }
      queue->ring();
      f.plan.hold = random() % 3 == 0;
      f.step();
      done += queue->poll([&](unsigned& token, completion) noexcept { ++ended[token]; });
    }
    CHECK(std::all_of(ended.begin(), ended.end(), [](unsigned n) { return n == 1; }));
    CHECK(queue->in_flight() == 0);
    CHECK(queue->unexpected_completions() > ended.size() / 3 - 1002);
  }
}

TEST_CASE("a queue pair whose Delete CQ failed once can be deleted later") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8});
  REQUIRE(queue);
  f.plan.refuse_opcode = static_cast<std::uint8_t>(admin_opcode::delete_io_cq);
  f.plan.refuse_times = 1;
  CHECK(host->delete_queue_pair(*queue).error().code == errc::io);
  CHECK_FALSE(queue->closed());
  CHECK(host->delete_queue_pair(*queue));
  CHECK(queue->closed());
  CHECK(host->create_queue_pair({.depth = 8}));
}

TEST_CASE("Doorbell Buffer Config that is never answered leaks nothing and is not tried again") {
  nvme_quirk_function f{{.shadow_doorbells = true}};
  {
    auto host = attach(f, {.admin_timeout_ms = 100});
    REQUIRE(host);
    const std::size_t before = f.live_regions();
    f.plan.silent_one = true;
    f.plan.silent_opcode = static_cast<std::uint8_t>(admin_opcode::doorbell_buffer_config);
    CHECK(host->enable_shadow_doorbells().error().code == errc::timed_out);
    CHECK(host->enable_shadow_doorbells().error().code == errc::not_ready);
    CHECK(f.live_regions() == before + 1);
    f.plan.silent_one = false;
    CHECK(host->reset());
    CHECK(f.live_regions() == before);
    CHECK(host->enable_shadow_doorbells());
  }
  CHECK(f.live_regions() == 0);
}

TEST_CASE("deleting a queue ends every request on it, those that wait as well") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 4}, tokens<std::uint16_t>);
  REQUIRE(queue);
  const auto data = allocate(f, 4096);
  REQUIRE(data);
  const segment<bus_space> segments[] = {{(*data)->bus, 4096}};
  for (const int how : {0, 1, 2, 3}) {
    auto q = host->create_queue_pair({.depth = 4}, tokens<std::uint16_t>);
    if (!q) {
      (void)queue->remove();
      q = host->create_queue_pair({.depth = 4}, tokens<std::uint16_t>);
    }
    REQUIRE(q);
    request_queue<std::remove_reference_t<decltype(*q)>, 16> requests{*q};
    unsigned ended = 0;
    for (int i = 0; i != 12; ++i) {
      REQUIRE(requests.submit({.command = nvm::read({.nsid = 1}), .segments = segments},
                              [&](completion c) noexcept { ended += c.ok() ? 100 : 1; }));
    }
    requests.ring();
    f.plan.hold = true;
    f.step();
    if (how == 0) CHECK(host->delete_queue_pair(*q, [](auto&, completion) noexcept {}));
    if (how == 1) CHECK(q->remove());
    if (how == 2) CHECK(host->reset());
    if (how == 3) host->detach();
    CHECK(ended == 12);
    CHECK(requests.under_way() == 0);
    CHECK(requests.poll() == 0);
    CHECK(requests
              .submit({.command = nvm::read({.nsid = 1}), .segments = segments},
                      [](completion) noexcept {})
              .reason == errc::removed);
    f.plan.hold = false;
  }
}

TEST_CASE("a transfer limit that is no multiple of the block loses nothing") {
  for (const std::uint32_t limit : {4096U + 100U, 100'000U, 8191U, 131'071U}) {
    nvme_quirk_function f;
    check_disk(f, {.max_transfer = limit}, 204'800);
  }
}

TEST_CASE("guards of 4096 bytes are those of the specification") {
  std::vector<std::byte> bytes(4096);
  CHECK(guard32(bytes) == 0x98f9'4189);
  CHECK(guard64(bytes) == 0x6482'd367'eb22'b64e);
  std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
  CHECK(guard32(bytes) == 0x25c1'fe13);
  CHECK(guard64(bytes) == 0xc0dd'ba73'02ec'a3ac);
  for (std::size_t i = 0; i != bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  CHECK(guard32(bytes) == 0x9c71'fe32);
  CHECK(guard64(bytes) == 0x3e72'9f5f'6750'449c);
  for (std::size_t i = 0; i != bytes.size(); ++i) bytes[i] = static_cast<std::byte>(255 - i % 256);
  CHECK(guard32(bytes) == 0x2149'41a8);
  CHECK(guard64(bytes) == 0x9a2d'f64b'8e9e'517e);
  // CRC-16/T10-DIF of "123456789".
  const char text[] = "123456789";
  CHECK(guard16(std::as_bytes(std::span{text, 9})) == 0xd0db);
  const std::span<const std::byte> all{bytes};
  CHECK(guard16(all.subspan(100), guard16(all.first(100))) == guard16(all));
  CHECK(guard32(all.subspan(100), guard32(all.first(100))) == guard32(all));
  CHECK(guard64(all.subspan(100), guard64(all.first(100))) == guard64(all));
}

TEST_CASE("data on namespaces with metadata comes back, whatever the format") {
  struct format {
    std::uint16_t bytes;
    bool in_line;
    protection_type pi;
    bool first;
  };
  const format formats[] = {
      {8, false, protection_type::none, false},  {8, true, protection_type::none, false},
      {64, false, protection_type::none, false}, {64, true, protection_type::none, false},
      {8, false, protection_type::type1, false}, {8, true, protection_type::type1, true},
      {8, false, protection_type::type2, true},  {8, true, protection_type::type2, false},
      {8, false, protection_type::type3, false}, {8, true, protection_type::type3, false},
      {64, false, protection_type::type1, true}, {64, true, protection_type::type1, false},
      {64, true, protection_type::type2, false}, {64, false, protection_type::type3, false},
      {16, true, protection_type::type1, true}};
  for (const format& m : formats) {
    CAPTURE(m.bytes);
    CAPTURE(m.in_line);
    CAPTURE(static_cast<int>(m.pi));
    nvme_quirk_function f;
    auto& n = f.namespaces[0];
    n.metadata_bytes = m.bytes;
    n.metadata_inline = m.in_line;
    n.protection = m.pi;
    n.protection_first = m.first;
    check_disk(f, {}, 204'800);
    check_disk(f, {.max_transfer = 16'384}, 204'800);

    auto host = attach(f);
    REQUIRE(host);
    auto d = open_disk(*host);
    REQUIRE(d);
    // Data and metadata together; the tuples are ours where there are any.
    const std::size_t blocks = 300;
    const auto out = pattern(blocks * 512, 5);
    auto metadata = pattern(blocks * m.bytes, 6);
    if (m.pi != protection_type::none) {
      for (std::size_t i = 0; i != blocks; ++i) {
        const std::size_t at = m.first ? 0 : m.bytes - 8U;
        std::byte* const here = metadata.data() + i * m.bytes;
        protection16 t{};
        t.guard = guard16({here, at}, guard16({out.data() + i * 512, 512}));
        t.reference_tag = static_cast<std::uint32_t>(7 + i);
        std::memcpy(here + at, &t, sizeof t);
      }
    }
    REQUIRE(d->write(7, out, metadata));
    std::vector<std::byte> in(out.size());
    std::vector<std::byte> again(metadata.size());
    REQUIRE(d->read(7, in, again));
    CHECK(in == out);
    CHECK(again == metadata);
    REQUIRE(d->read(7, in));
    CHECK(in == out);
    CHECK(d->read(7, in, std::span{again}.first(8)).error().code == errc::invalid_argument);
    CHECK(f.stray_accesses == 0);
  }
}

TEST_CASE("lengths of data and metadata buffers are held against the namespace's format") {
  nvme_quirk_function f;
  f.namespaces.resize(4);
  f.namespaces[0].metadata_bytes = 8;
  f.namespaces[0].metadata_inline = true;
  f.namespaces[1].metadata_bytes = 8;
  f.namespaces[2].block_shift = 12;
  f.namespaces[3].metadata_bytes = 8;
  f.namespaces[3].protection = protection_type::type1;
  auto host = attach(f, {.io_queues = 4});
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
  REQUIRE(queue);
  const auto buffer = allocate(f, 65'536);
  REQUIRE(buffer);
  const auto data = [&](std::size_t n) { return (*buffer)->subregion(0, n); };
  const auto apart = [&](std::size_t n) { return (*buffer)->subregion(32'768, n); };
  const auto two = *host->identify_namespace(2);
  const auto three = *host->identify_namespace(3);
  const auto four = *host->identify_namespace(4);
  const auto ends = [&](submitted s) {
    if (!s) return s.reason;
    queue->ring();
    nvme::status how;
    REQUIRE(wait(*queue, 1000, [&](unsigned&, completion c) noexcept { how = c.status(); }));
    CHECK(how.ok());
    return how.ok() ? errc::cancelled : errc::io;  // cancelled: it went well
  };
  const auto good = errc::cancelled;
  const auto bad = errc::invalid_argument;
  // Inline: 520 bytes a block.
  CHECK(ends(queue->read({.blocks = 1}, data(512), 0U)) == bad);
  CHECK(ends(queue->read({.blocks = 1}, data(520), 0U)) == good);
  CHECK(ends(queue->read({.blocks = 16}, data(8192), 0U)) == bad);
  CHECK(ends(queue->read({.blocks = 16}, data(8320), 0U)) == good);
  CHECK(ends(queue->write({.blocks = 1}, data(520), apart(8), 0U)) == bad);
  // Another namespace by its number is not the queue's.
  CHECK(ends(queue->read({.nsid = 3, .blocks = 1}, data(520), 0U)) == bad);
  CHECK(ends(queue->read({.nsid = 3, .blocks = 1}, data(4096), 0U)) == bad);
  // ... and by its handle it is.
  CHECK(ends(queue->read(three, {.blocks = 2}, data(8192), 0U)) == good);
  CHECK(ends(queue->read(three, {.blocks = 2}, data(1024), 0U)) == bad);
  CHECK(ends(queue->read(three, {.nsid = 1, .blocks = 2}, data(8192), 0U)) == bad);
  CHECK(ends(queue->read(three, {.blocks = 2}, data(8192), apart(16), 0U)) == bad);
  // Separate metadata: the queue of namespace 1 has no buffers of its own.
  CHECK(ends(queue->read(two, {.blocks = 2}, data(1024), 0U)) == errc::out_of_range);
  CHECK(ends(queue->read(two, {.blocks = 2}, data(1024), apart(16), 0U)) == good);
  CHECK(ends(queue->write(two, {.blocks = 2}, data(1024), apart(16), 0U)) == good);
  CHECK(ends(queue->write(two, {.blocks = 2}, data(1024), apart(8), 0U)) == bad);
  const dma_region odd{(*buffer)->bytes.subspan(2, 16), (*buffer)->bus + 2};
  CHECK(ends(queue->write(two, {.blocks = 2}, data(1024), odd, 0U)) == errc::misaligned);
  auto own = host->create_queue_pair({.depth = 8, .nsid = 2}, tokens<unsigned>);
  REQUIRE(own);
  REQUIRE(own->write({.blocks = 2}, data(1024), 0U));
  own->ring();
  CHECK(wait(*own, 1000, [](unsigned&, completion c) noexcept { CHECK(c.ok()); }));
  // Protection information: PRACT for data alone, and refused beside the caller's tuples.
  CHECK(ends(queue->write(four, {.lba = 9, .blocks = 2}, data(1024), 0U)) == good);
  CHECK(ends(queue->read(four, {.lba = 9, .blocks = 2}, data(1024), 0U)) == good);
  CHECK(ends(queue->read(four, {.lba = 9, .blocks = 2}, data(1024), apart(16), 0U)) == good);
  CHECK(ends(queue->read(four, {.lba = 9, .blocks = 2, .pi = {.action = true}}, data(1024),
                         apart(16), 0U)) == bad);
  CHECK(ends(queue->write(four, {.blocks = 1, .pi = {.check_guard = true}}, data(512), 0U)) == bad);
  // 0 and more than 65536 blocks.
  CHECK(ends(queue->read({.blocks = 0}, data(0), 0U)) == errc::out_of_range);
  CHECK(ends(queue->read(three, {.blocks = 0}, data(0), 0U)) == errc::out_of_range);
  CHECK(ends(queue->write(three, {.blocks = 65'537}, data(4096), 0U)) == errc::out_of_range);
  CHECK(ends(queue->write({.blocks = ~0U}, data(512), 0U)) == errc::out_of_range);
  CHECK(f.stray_accesses == 0);
}

TEST_CASE("each part of a split request has its own reference tag and metadata") {
  for (const bool separate : {true, false}) {
    for (const auto type :
         {protection_type::type1, protection_type::type2, protection_type::type3}) {
      nvme_quirk_function f;
      f.record = true;
      f.namespaces[0].metadata_bytes = 8;
      f.namespaces[0].metadata_inline = !separate;
      f.namespaces[0].protection = type;
      auto host = attach(f);
      REQUIRE(host);
      auto queue =
          host->create_queue_pair({.depth = 8, .max_transfer = 4200}, tokens<std::uint16_t>);
      REQUIRE(queue);
      const std::size_t step = separate ? 512 : 520;
      const auto buffer = allocate(f, 65'536);
      REQUIRE(buffer);
      const segment<bus_space> segments[] = {{(*buffer)->bus, 40 * step}};
      request_queue<std::remove_reference_t<decltype(*queue)>, 4> requests{*queue};
      nvme::status how = status_code::internal_error;
      auto command = nvm::write(
          {.nsid = 1, .pi = {.action = false, .check_reference = true}, .reference_tag = 1000});
      request r{.command = command, .lba = 100, .segments = segments};
      if (separate) r.metadata = (*buffer)->subregion(32'768, 40 * 8);
      // Tuples that match the command's tags.
      for (std::uint32_t i = 0; i != 40; ++i) {
        protection16 t{};
        t.reference_tag = type == protection_type::type1   ? 100 + i
                          : type == protection_type::type2 ? 1000 + i
                                                           : 1000;
        std::memcpy(
            separate ? (*buffer)->data() + 32'768 + i * 8 : (*buffer)->data() + i * step + 512, &t,
            sizeof t);
      }
      REQUIRE(requests.submit(r, [&](completion c) noexcept { how = c.status(); }));
      for (int i = 0; i != 100; ++i) {
        f.step();
        (void)requests.poll();
      }
      CHECK(how.ok());
      REQUIRE(f.seen.size() > 3);
      std::uint32_t lba = 100;
      for (const auto& e : f.seen) {
        CHECK(e.cdw10 == lba);
        const std::uint32_t wanted = type == protection_type::type1   ? lba
                                     : type == protection_type::type2 ? 1000 + lba - 100
                                                                      : 1000;
        CHECK(e.cdw14 == wanted);
        lba += (e.cdw12 & 0xffffU) + 1;
      }
      CHECK(lba == 140);
      CHECK(f.stray_accesses == 0);
    }
  }
}

TEST_CASE("a format or a namespace change makes queues refuse the handles of before") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
  REQUIRE(queue);
  const auto data = allocate(f, 512);
  REQUIRE(data);
  auto ns = *host->identify_namespace(1);
  REQUIRE(queue->read({.blocks = 1}, *data, 0U));
  const auto stale = [&] {
    CHECK(queue->read({.blocks = 1}, *data, 0U).reason == errc::not_ready);
    CHECK(queue->read(ns, {.blocks = 1}, *data, 0U).reason == errc::not_ready);
    ns = *host->identify_namespace(1);
    CHECK(queue->read(ns, {.blocks = 1}, *data, 0U));
    CHECK(queue->read({.blocks = 1}, *data, 0U).reason == errc::not_ready);
    queue->bind(ns);
    CHECK(queue->read({.blocks = 1}, *data, 0U));
    queue->ring();
    (void)wait(*queue, 1000, [](unsigned&, completion) noexcept {});
  };
  SUBCASE("a notice of the controller") {
    f.report_event(async_event::of_namespace_change().raw);
    host->poll();
    stale();
    CHECK(host->next_event()->type() == async_event_type::notice);
  }
  SUBCASE("a Format of our own") {
    REQUIRE(host->execute(command(admin_opcode::format_nvm, 1))->ok());
    stale();
  }
  SUBCASE("a rescan") {
    REQUIRE(host->rescan());
    stale();
  }
}
