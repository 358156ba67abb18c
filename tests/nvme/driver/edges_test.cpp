// SPDX-License-Identifier: BSL-1.0
// Limits, time-outs and ends of the driver that a mistake would move unnoticed elsewhere.
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver/disk.hpp>
#include <phasebit/nvme/driver/request_queue.hpp>
#include <phasebit/testing/nvme_quirks.hpp>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;
using testing::nvme_quirk_function;
using testing::nvme_quirk_plan;

namespace {

// The status of the one command that is in flight.
template <class Queue>
nvme::status ended(Queue& queue, const submitted& posted) {
  REQUIRE_MESSAGE(posted, posted.what);
  queue.ring();
  nvme::status how = status_code::internal_error;
  REQUIRE(wait(queue, 1000, [&](unsigned&, completion c) noexcept { how = c.status(); }));
  return how;
}

testing::nvme_quirk_namespace small_namespace() {
  testing::nvme_quirk_namespace n;
  n.data = std::vector<std::byte>(512);
  return n;
}

}  // namespace

TEST_CASE("CAP that contradicts itself, or reads 0, is refused by name") {
  nvme_quirk_function f;
  f.plan.cap_is_zero = true;
  CHECK(attach(f).error().code == errc::not_ready);
  f.plan = {};
  f.plan.mqes = 0;
  CHECK(attach(f).error().code == errc::protocol);
  f.plan = {};
  CHECK(attach(f).has_value());
}

TEST_CASE(
    "a controller that reports no time-out has half a second, and one that starts is left alone") {
  nvme_quirk_function f;
  f.plan.timeout = 0;
  f.plan.ready_after_ms = 300;
  // Firmware has just switched it on.
  auto bar = f.map_bar(0);
  REQUIRE(bar);
  bar->write32(cc::offset, 1);
  {
    const auto host = attach(f);
    REQUIRE_MESSAGE(host, host.error().what);
    CHECK(f.disabled_early == 0);
  }
  // One that is off is not waited for.
  f.plan.ready_after_ms = 0;
  const std::uint64_t begin = f.now_ms();
  CHECK(attach(f).has_value());
  CHECK(f.now_ms() - begin < 100);
}

TEST_CASE("a quiet time after disable is waited out although CAP.TO is shorter") {
  nvme_quirk_function f;
  f.plan.timeout = 0;
  auto host = attach(f, {.quirks = {.quiet_ms = 2300}});
  REQUIRE(host);
  f.plan.stop_after_ms = 3000;
  CHECK(host->reset());
}

TEST_CASE("the NVM command set is selected where it is there, all sets where it is not") {
  nvme_quirk_function f;
  f.plan.several_command_sets = true;
  { CHECK(attach(f).has_value()); }
  CHECK(f.configuration()[cc::css] == command_set_selected::nvm);
  f.plan.only_all_sets = true;
  const auto host = attach(f);
  REQUIRE(host);
  CHECK(f.configuration()[cc::css] == command_set_selected::all_supported);
}

TEST_CASE("memory pages have the size that the controller requires") {
  nvme_quirk_function f;
  f.plan.mpsmin = 1;
  auto host = attach(f);
  REQUIRE_MESSAGE(host, host.error().what);
  CHECK(f.configuration()[cc::mps] == 1);
  auto queue = host->create_queue_pair({.depth = 4}, tokens<unsigned>);
  REQUIRE(queue);
  CHECK(queue->page_shift() == 13);
  const auto data = allocate(f, 65'536);
  REQUIRE(data);
  CHECK(ended(*queue, queue->write({.blocks = 100}, (*data)->subregion(4, 51'200), 0U)).ok());
  CHECK(f.stray_accesses == 0);
}

TEST_CASE("the driver uses no more queues than the device grants of either kind") {
  for (const std::uint32_t granted : {2U | 63U << 16, 63U | 2U << 16}) {
    nvme_quirk_function f;
    f.plan.granted_queues = granted;
    const auto host = attach(f, {.io_queues = 8});
    REQUIRE(host);
    CHECK(host->granted_queues() == 3);
  }
}

TEST_CASE(
    "event requests are as many as the controller takes, and one that it ends is not issued "
    "again") {
  nvme_quirk_function f;
  auto host = attach(f, {.async_events = 8});
  REQUIRE(host);
  f.step();
  CHECK(f.outstanding_events() == 4);  // AERL is 3
  f.report_event(0, status_code::abort_requested);
  host->poll();
  f.step();
  CHECK(f.outstanding_events() == 3);
  CHECK_FALSE(host->next_event());
  f.report_event(0x0000'0100);
  host->poll();
  f.step();
  CHECK(f.outstanding_events() == 3);
  CHECK(host->next_event());
}

TEST_CASE("notices of changed namespaces are switched on where the controller has them") {
  nvme_quirk_function f;
  { CHECK(attach(f).has_value()); }
  CHECK(f.event_configuration == 0);
  f.plan.notices = true;
  CHECK(attach(f).has_value());
  CHECK(f.event_configuration == 0x1ff);
}

TEST_CASE("a lost event counts as a change of the namespaces") {
  nvme_quirk_function f;
  auto host = attach(f, {.admin_timeout_ms = 10, .async_events = 4});
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 4}, tokens<unsigned>);
  REQUIRE(queue);
  const auto data = allocate(f, 4096);
  REQUIRE(data);
  CHECK(ended(*queue, queue->read({.blocks = 8}, **data, 0U)).ok());
  f.plan.event_storm = true;
  f.plan.silent_one = true;
  f.plan.silent_opcode = static_cast<std::uint8_t>(admin_opcode::keep_alive);
  CHECK_FALSE(host->execute(admin::keep_alive()));
  CHECK(queue->read({.blocks = 8}, **data, 0U).reason == errc::not_ready);
}

TEST_CASE("a time-out while the link reads ones is a time-out, not a fatal status") {
  nvme_quirk_function f;
  auto host = attach(f, {.admin_timeout_ms = 10});
  REQUIRE(host);
  f.plan.silent_admin = true;
  f.plan.ones_for_reads = ~0U;
  CHECK(host->execute(admin::keep_alive()).error().code == errc::timed_out);
  f.plan.ones_for_reads = 0;
}

TEST_CASE("a flap of one register read is not taken for removal by check()") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  f.plan.ones_for_reads = 2;
  CHECK(host->check());
}

TEST_CASE("admin commands have their time, and Format has its own") {
  nvme_quirk_function f;
  auto host = attach(f, {.admin_timeout_ms = 100, .format_timeout_ms = 3000});
  REQUIRE(host);
  f.plan.silent_admin = true;
  const std::uint64_t begin = f.now_ms();
  submission_entry format{};
  format.cdw0 = static_cast<std::uint32_t>(admin_opcode::format_nvm);
  CHECK(host->execute(format).error().code == errc::timed_out);
  CHECK(f.now_ms() - begin >= 3000);
}

TEST_CASE("a shutdown has five seconds at least, and none where its status never comes") {
  for (const bool never : {false, true}) {
    nvme_quirk_function f;
    f.plan.shutdown_never_ends = true;
    auto host = attach(f, {.quirks = {.no_shutdown_status = never}});
    REQUIRE(host);
    const std::uint64_t begin = f.now_ms();
    CHECK(static_cast<bool>(host->shut_down()) == never);
    CHECK((f.now_ms() - begin >= 5000) == !never);
  }
}

TEST_CASE("an admin transfer beyond MDTS is refused") {
  nvme_quirk_function f;
  f.plan.mdts = 1;
  auto host = attach(f);
  REQUIRE(host);
  const auto data = allocate(f, 16'384);
  REQUIRE(data);
  submission_entry e{};
  e.cdw0 = 0x11;  // Firmware Image Download
  CHECK(host->execute(e, **data).error().code == errc::out_of_range);
}

TEST_CASE(
    "lists of namespaces that are not ascending, or tried one by one, stay in the caller's "
    "bounds") {
  nvme_quirk_function f;
  f.namespaces.assign(3, small_namespace());
  {
    auto host = attach(f);
    REQUIRE(host);
    f.plan.descending_list = true;
    std::uint32_t ids[8]{};
    CHECK(host->active_namespaces(ids).error().code == errc::protocol);
    f.plan.descending_list = false;
    f.plan.no_active_list = true;
    CHECK(*host->active_namespaces(std::span{ids}.first(2)) == 2);
    CHECK(ids[2] == 0);
  }
  f.plan.no_active_list = false;
  f.namespaces.assign(1500, small_namespace());
  auto host = attach(f);
  REQUIRE(host);
  f.plan.no_active_list = true;
  std::vector<std::uint32_t> many(2000);
  CHECK(*host->active_namespaces(many) == 1024);
}

TEST_CASE(
    "an impossible block size is refused, and the guard's width is read if the controller "
    "reports it") {
  nvme_quirk_function f;
  f.namespaces.resize(2);
  f.namespaces[0].block_shift = 3;
  f.namespaces[1].metadata_bytes = 16;
  f.namespaces[1].protection = protection_type::type1;
  f.plan.guard = 2;
  auto host = attach(f);
  REQUIRE(host);
  CHECK(host->identify_namespace(1).error().code == errc::protocol);
  const auto wide = host->identify_namespace(2);
  REQUIRE(wide);
  CHECK(wide->guard == guard_format::bits64);
  CHECK(wide->strips());
  // Metadata that holds no tuple protects nothing.
  struct identify_namespace ns {};
  ns.nsze = 8;
  ns.lbaf[0].lbads = 9;
  ns.lbaf[0].ms = 4;
  ns.dps = 1;
  CHECK_FALSE(describe_namespace(1, ns).is_protected());
}

TEST_CASE(
    "a namespace's handle has its boundary, and the reference tag that the storage tag leaves") {
  struct identify_namespace ns {};
  ns.nsze = 8;
  ns.lbaf[0].lbads = 9;
  ns.lbaf[0].ms = 16;
  ns.dps = 1;
  ns.noiob = 0x1234;
  CHECK(describe_namespace(1, ns).boundary_blocks == 0x1234);
  CHECK(describe_namespace(1, ns).reference_tag_bits == 32);
  const auto bits = [&](unsigned guard, unsigned storage) {
    nvm_identify_namespace nvm{};
    nvm.elbaf[0] = guard << 7 | storage;
    return describe_namespace(1, ns, &nvm).reference_tag_bits;
  };
  CHECK(bits(0, 0) == 32);
  CHECK(bits(0, 12) == 20);
  CHECK(bits(0, 32) == 0);
  CHECK(bits(0, 33) == 0);  // more than there are
  CHECK(bits(1, 16) == 64);
  CHECK(bits(1, 30) == 50);
  CHECK(bits(2, 0) == 48);
  CHECK(bits(2, 48) == 0);
}

TEST_CASE("the length of a log page is counted in both halves of NUMD") {
  nvme_quirk_function f;
  f.plan.mdts = 8;
  auto host = attach(f, {.max_transfer = 1U << 20});
  REQUIRE(host);
  const auto data = allocate(f, 512 << 10);
  REQUIRE(data);
  const auto whole = admin::get_log_page({.lid = log_page_id::telemetry_host, .bytes = 512 << 10});
  const auto half = (**data).subregion(0, 256 << 10);
  const auto refused = host->execute(whole, half);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::invalid_argument);
  CHECK(refused.error().value == 512 << 10);
  // Of the right length; more than the admin queue's lists hold.
  CHECK(host->execute(admin::get_log_page({.lid = log_page_id::telemetry_host, .bytes = 256 << 10}),
                      half)
            .error()
            .code == errc::out_of_range);
}

TEST_CASE("a command's length counts inline metadata, unless PRACT strips it") {
  nvme_quirk_function f;
  f.namespaces[0].metadata_bytes = 8;
  f.namespaces[0].metadata_inline = true;
  f.namespaces[0].protection = protection_type::type3;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 4}, tokens<unsigned>);
  REQUIRE(queue);
  const auto plain = allocate(f, 1024);
  const auto both = allocate(f, 1040);
  REQUIRE(both);
  submission_entry e = nvm::read({.nsid = 1, .blocks = 2});
  CHECK_FALSE(queue->submit(e, *plain, 0U));
  CHECK(queue->submit(e, *both, 0U));
  e = nvm::read({.nsid = 1, .blocks = 2, .pi = {.action = true}});
  CHECK_FALSE(queue->submit(e, *both, 0U));
  CHECK(queue->submit(e, *plain, 0U));
}

TEST_CASE("a reference tag replaces its own bits and keeps the storage tag") {
  submission_entry e{};
  e.cdw14 = 0xaabb'ccddU;
  set_reference_tag(e, 0x7'1234, 16);
  CHECK(e.cdw14 == 0xaabb'1234U);
}

TEST_CASE("a status with DNR set is not tried again") {
  CHECK(retry_delays{}.delay_ns(nvme::status{0x0082}));
  CHECK_FALSE(retry_delays{}.delay_ns(nvme::status{0x4082}));
  CHECK_FALSE(retry_delays{}.delay_ns(nvme::status{0x4882}));
}

TEST_CASE("a queue's limits are the controller's where more is asked for") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 4, .max_transfer = 1U << 30}, tokens<unsigned>);
  REQUIRE(queue);
  CHECK(queue->max_transfer() == host->max_transfer());
}

TEST_CASE("the longest transfer has a list at every offset") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  // Nine pages at an offset have nine entries, one more than a line of eight.
  auto queue = host->create_queue_pair({.depth = 4, .max_transfer = 36'864}, tokens<unsigned>);
  REQUIRE(queue);
  const auto data = allocate(f, 45'056);
  REQUIRE(data);
  CHECK(ended(*queue, queue->write({.blocks = 72}, (*data)->subregion(4, 36'864), 0U)).ok());
}

TEST_CASE("unrung commands are counted across the end of the ring") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 4}, tokens<unsigned>);
  REQUIRE(queue);
  for (int i = 0; i != 3; ++i) CHECK(ended(*queue, queue->submit(nvm::flush(1), 0U)).ok());
  REQUIRE(queue->submit(nvm::flush(1), 0U));
  REQUIRE(queue->submit(nvm::flush(1), 0U));
  CHECK(queue->unrung() == 2);
}

TEST_CASE("a refused submission queue leaves neither a completion queue nor memory behind") {
  nvme_quirk_function f;
  f.plan.mdts = 6;  // lists of 512 bytes each
  auto host = attach(f);
  REQUIRE(host);
  const std::size_t before = f.live_regions();
  f.plan.refuse_opcode = static_cast<std::uint8_t>(admin_opcode::create_io_sq);
  f.plan.refuse_times = 1;
  CHECK_FALSE(host->create_queue_pair({.depth = 4}, tokens<unsigned>));
  CHECK(f.completion_queues() == 1);
  CHECK(f.live_regions() == before);
  // Memory that runs out half way.
  std::vector<dma_region> taken;
  for (auto got = f.allocate(65'536, 4096); got; got = f.allocate(65'536, 4096)) {
    taken.push_back(*got);
  }
  // A hole between two others.
  f.release(taken.front());
  taken.erase(taken.begin());
  const std::size_t full = f.live_regions();
  CHECK(host->create_queue_pair({.depth = 256}, tokens<unsigned>).error().code == errc::exhausted);
  CHECK(f.live_regions() == full);
  for (const dma_region& r : taken) f.release(r);
}

TEST_CASE("destroying a queue deletes it at the device, and its commands end as deleted") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  nvme::status how{};
  {
    auto queue = host->create_queue_pair({.depth = 4});
    REQUIRE(queue);
    CHECK(f.completion_queues() == 2);
    f.plan.hold = true;
    REQUIRE(queue->submit(nvm::flush(1), [&](completion c) noexcept { how = c.status(); }));
    queue->ring();
    f.step();
  }
  CHECK(how == status_code::aborted_queue_deletion);
  CHECK(f.completion_queues() == 1);
}

TEST_CASE("PRP lists of a queue that moved are still one for each command") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  auto first = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
  REQUIRE(first);
  auto queue = std::move(*first);
  CHECK(first->read({.blocks = 1}, dma_region{}, 0U).status == submit_status::closed);
  const auto data = allocate(f, 131'072);
  REQUIRE(data);
  for (std::size_t i = 0; i != 131'072; ++i) {
    (*data)->bytes[i] = static_cast<std::byte>(i / 4096 + i);
  }
  REQUIRE(queue.write({.lba = 0, .blocks = 128}, (*data)->subregion(0, 65'536), 0U));
  REQUIRE(queue.write({.lba = 128, .blocks = 128}, (*data)->subregion(65'536, 65'536), 0U));
  queue.ring();
  for (unsigned done = 0; done != 2;) {
    f.step();
    done += queue.poll([](unsigned&, completion c) noexcept { CHECK(c.ok()); });
  }
  CHECK(std::memcmp(f.namespaces[0].data.data(), (*data)->data(), 131'072) == 0);
}

TEST_CASE("metadata that is not given is zero in what is written, whatever another command reads") {
  nvme_quirk_function f;
  auto& n = f.namespaces[0];
  n.metadata_bytes = 8;
  n.metadata.assign(n.blocks() * 8, std::byte{0xab});
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
  REQUIRE(queue);
  const auto data = allocate(f, 65'536);
  REQUIRE(data);
  // Its own buffers hold 4 KiB of metadata: 512 blocks, more than the transfer.
  // Each slot's buffer is filled first.
  const auto all = (*data)->subregion(0, 32'768);
  for (int slot = 0; slot != 8; ++slot) {
    CHECK(ended(*queue, queue->read({.lba = 0, .blocks = 64}, all, 0U)).ok());
  }
  CHECK(ended(*queue, queue->write({.lba = 0, .blocks = 64}, all, 0U)).ok());
  CHECK(std::all_of(n.metadata.begin(), n.metadata.begin() + 512,
                    [](std::byte b) { return b == std::byte{0}; }));
  // A read that is posted before a write, and executed before it.
  for (std::uint64_t lba = 100; lba != 140; lba += 2) {
    REQUIRE(queue->read({.lba = 200, .blocks = 1}, (*data)->subregion(0, 512), 0U));
    REQUIRE(queue->write({.lba = lba, .blocks = 1}, (*data)->subregion(4096, 512), 0U));
    queue->ring();
    for (unsigned done = 0; done != 2;) {
      f.step();
      done += queue->poll([](unsigned&, completion c) noexcept { CHECK(c.ok()); });
    }
    CHECK(n.metadata[lba * 8] == std::byte{0});
  }
}

TEST_CASE("a read that asks for no checks still has the tuples of its format checked") {
  nvme_quirk_function f;
  auto& n = f.namespaces[0];
  n.metadata_bytes = 8;
  n.protection = protection_type::type1;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
  REQUIRE(queue);
  const auto data = allocate(f, 4096);
  REQUIRE(data);
  const auto one = (*data)->subregion(0, 512);
  CHECK(ended(*queue, queue->write({.lba = 5}, one, 0U)).ok());
  CHECK(ended(*queue, queue->read({.lba = 5}, one, 0U)).ok());
  n.metadata[5 * 8 + 7] ^= std::byte{1};  // the reference tag's last byte
  CHECK(ended(*queue, queue->read({.lba = 5}, one, 0U)) == status_code::reference_tag_check_error);
  n.metadata[5 * 8 + 7] ^= std::byte{1};
  n.metadata[5 * 8] ^= std::byte{1};
  CHECK(ended(*queue, queue->read({.lba = 5}, one, 0U)) == status_code::guard_check_error);
}

TEST_CASE(
    "a disk makes tuples in metadata that is longer, and its tags are the LBA for types 1 and 2") {
  for (const bool in_line : {false, true}) {
    for (const auto type : {protection_type::type1, protection_type::type2}) {
      nvme_quirk_function f;
      auto& n = f.namespaces[0];
      n.metadata_bytes = 64;
      n.metadata_inline = in_line;
      n.protection = type;
      auto host = attach(f, {.max_transfer = 8192});
      REQUIRE(host);
      auto d = open_disk(*host);
      REQUIRE(d);
      const std::vector<std::byte> out(100 * 512, std::byte{0x5a});
      REQUIRE(d->write(7, out));
      for (std::size_t i = 7; i != 107; ++i) {
        protection16 t{};
        std::memcpy(&t, n.metadata.data() + i * 64 + 56, sizeof t);
        REQUIRE(t.reference_tag == i);
        REQUIRE(t.guard ==
                guard16({n.metadata.data() + i * 64, 56}, guard16(std::span{out}.first(512))));
      }
    }
  }
}

TEST_CASE("PRACT beside a buffer with the tuples in it is refused") {
  nvme_quirk_function f;
  f.namespaces[0].metadata_bytes = 8;
  f.namespaces[0].metadata_inline = true;
  f.namespaces[0].protection = protection_type::type3;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, tokens<unsigned>);
  REQUIRE(queue);
  const auto data = allocate(f, 4096);
  REQUIRE(data);
  CHECK_FALSE(queue->read({.blocks = 1, .pi = {.action = true}}, (*data)->subregion(0, 520), 0U));
}

TEST_CASE("a request's metadata buffer begins on a dword") {
  nvme_quirk_function f;
  f.namespaces[0].metadata_bytes = 8;
  auto host = attach(f);
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, tokens<std::uint16_t>);
  REQUIRE(queue);
  const auto data = allocate(f, 8192);
  REQUIRE(data);
  request_queue<std::remove_reference_t<decltype(*queue)>, 4> requests{*queue};
  const segment<bus_space> segments[] = {{(*data)->bus, 1024}};
  request r{.command = nvm::write({.nsid = 1}), .lba = 0, .segments = segments};
  r.metadata = {(*data)->bytes.subspan(4098, 16), (*data)->bus + 4098};
  CHECK(requests.submit(r, [](completion) noexcept {}).status == submit_status::refused);
}

TEST_CASE("after a command that was never answered a disk refuses further ones") {
  nvme_quirk_function f;
  auto host = attach(f);
  REQUIRE(host);
  auto d = open_disk(*host, {.nsid = 1, .timeout_ms = 50});
  REQUIRE(d);
  std::vector<std::byte> block(512);
  f.plan.hold = true;
  CHECK(d->read(0, block).error().code == errc::timed_out);
  f.plan.hold = false;
  CHECK(d->read(0, block).error().code == errc::not_ready);
}

TEST_CASE("a disk's buffers stay taken while the device may use them") {
  SUBCASE("its queue cannot be deleted") {
    nvme_quirk_function f;
    auto host = attach(f);
    REQUIRE(host);
    auto d = open_disk(*host);
    REQUIRE(d);
    std::optional moved{std::move(*d)};
    f.plan.refuse_opcode = static_cast<std::uint8_t>(admin_opcode::delete_io_sq);
    f.plan.refuse_times = 1000;
    const std::size_t before = f.live_regions();
    moved.reset();
    CHECK(f.live_regions() == before);
    f.plan.refuse_times = 0;
  }
  SUBCASE("its controller was abandoned") {
    nvme_quirk_function f;
    auto host = attach(f, {.shut_down_on_detach = false});
    REQUIRE(host);
    auto d = open_disk(*host);
    REQUIRE(d);
    std::optional moved{std::move(*d)};
    f.plan.never_stops = true;
    host->detach();
    const std::size_t before = f.live_regions();
    moved.reset();
    CHECK(f.live_regions() == before);
  }
}

TEST_CASE("a shadowed queue begins with its words at zero, whatever was there") {
  nvme_quirk_function f;
  f.plan.shadow_doorbells = true;
  auto host = attach(f);
  REQUIRE(host);
  REQUIRE(host->enable_shadow_doorbells());
  for (const std::uint64_t page : {f.shadow_page, f.event_page}) {
    std::byte* const words = f.memory_at(page, 16);
    REQUIRE(words != nullptr);
    std::memset(words, 0x77, 16);
  }
  auto queue = host->create_shadowed_queue_pair({.depth = 4}, tokens<unsigned>);
  REQUIRE_MESSAGE(queue, queue.error().what);
  for (const std::uint64_t page : {f.shadow_page, f.event_page}) {
    const std::byte* const words = f.memory_at(page, 16);
    CHECK(words[0] == std::byte{0x77});
    CHECK(words[8] == std::byte{0});
    CHECK(words[12] == std::byte{0});
  }
}
