// SPDX-License-Identifier: BSL-1.0
#include "command_ring_harness.hpp"
#include "page_table_harness.hpp"

#include <phasebit/iommu/ats/agent.hpp>
#include <phasebit/iommu/ats/device.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>

namespace phasebit::command_ring_harness {

namespace {

using device_type = ats_device<>;
constexpr pcie::requester_id nvme{1, 0, 0};

ats_completion good(std::uint16_t tag, std::uint64_t target, unsigned shift, unsigned permissions) {
  return {tag, ats_status::success, ats_entry::of({target, shift}, permissions)};
}
ats_invalidate forget(std::uint8_t itag, std::uint64_t at, unsigned shift) {
  return {nvme, itag, false, 0, ats_invalidate_body::of({at, shift}, false)};
}
bool knows(const device_type& device, std::uint64_t a, const ats_space& space = {}) {
  iotlb_hit<host_space> hit;
  return device.find(space, bus_addr{a}, access::read, hit) == ats_answer::translated;
}
void teach(device_type& device, std::uint64_t a, std::uint64_t target, unsigned shift = 12,
           const ats_space& space = {}) {
  const auto request = device.request(space, bus_addr{a}, access::read_write);
  REQUIRE(request);
  auto completion = good(request->tag, target, shift, 3);
  completion.entry =
      completion.entry.with(ats_entry::exe, space.execute).with(ats_entry::priv, space.privileged);
  REQUIRE(device.complete(completion) == ats_taken::kept);
}

}  // namespace

TEST_CASE("an entry of every size encodes its block and its permissions, and nothing else") {
  for (unsigned shift = 12; shift != 52; ++shift) {
    const std::uint64_t at = 0x000d'eadb'eef5'5000ULL >> shift << shift;
    const ats_entry entry = ats_entry::of({at, shift}, 2);
    CHECK(entry.block() == address_block{at, shift});
    CHECK(entry[ats_entry::s] == (shift != 12));
    CHECK_FALSE(entry[ats_entry::r]);
    CHECK(entry[ats_entry::w]);
    CHECK((entry.raw & 0x7fc) == 0);
  }
  // The example of the specification: 8 KiB is S with bit 12 clear, 16 KiB has bit 12 set.
  CHECK(ats_entry::of({0x4000, 13}, 1).raw == 0x4801);
  CHECK(ats_entry::of({0x4000, 14}, 1).raw == 0x5801);
}

TEST_CASE("a translation is asked for, kept, and then known for all of its block") {
  device_type device{nvme};
  iotlb_hit<host_space> hit;
  CHECK(device.find({}, bus_addr{0x20'1234}, access::read, hit) == ats_answer::unknown);
  const auto request = device.request({}, bus_addr{0x20'1234}, access::write);
  REQUIRE(request);
  CHECK(request->address == 0x20'1000);
  CHECK(request->requester == nvme);
  CHECK_FALSE(request->no_write);
  CHECK(device.complete(good(request->tag, 0x4000'0000, 21, 3)) == ats_taken::kept);
  REQUIRE(device.find({}, bus_addr{0x20'1234}, access::write, hit) == ats_answer::translated);
  CHECK(hit.target == host_phys{0x4000'1234});
  CHECK(knows(device, 0x3f'ffff));
  CHECK_FALSE(knows(device, 0x40'0000));
  CHECK(knows(device, 0x20'0000));
}

TEST_CASE("less than was asked for is denied, and what was granted is kept") {
  device_type device{nvme};
  iotlb_hit<host_space> hit;
  auto request = device.request({}, bus_addr{0x1000}, access::read_write);
  CHECK(device.complete(good(request->tag, 0x9000, 12, 1)) == ats_taken::denied);
  CHECK(device.find({}, bus_addr{0x1000}, access::read, hit) == ats_answer::translated);
  CHECK(device.find({}, bus_addr{0x1000}, access::write, hit) == ats_answer::unknown);
  request = device.request({}, bus_addr{0x5000}, access::read);
  CHECK(request->no_write);
  CHECK(device.complete(good(request->tag, 0, 12, 0)) == ats_taken::denied);
  CHECK_FALSE(knows(device, 0x5000));
}

TEST_CASE("hostile completions are not kept") {
  device_type device{nvme};
  CHECK(device.complete(good(0, 0x9000, 12, 3)) == ats_taken::unexpected);
  CHECK(device.complete(good(0xffff, 0x9000, 12, 3)) == ats_taken::unexpected);
  auto request = device.request({}, bus_addr{0x1000}, access::read);
  CHECK(
      device.complete({request->tag, ats_status::success, ats_entry{~std::uint64_t{0} & ~4ULL}}) ==
      ats_taken::failed);  // ones up to bit 63: everything
  CHECK(device.complete(good(request->tag, 0x9000, 12, 3)) == ats_taken::unexpected);  // twice
  request = device.request({}, bus_addr{0x1000}, access::read);
  CHECK(device.complete({request->tag, ats_status::aborted, ats_entry::of({0x9000, 12}, 3)}) ==
        ats_taken::failed);
  request = device.request({}, bus_addr{0x1000}, access::read);
  CHECK(device.complete({request->tag, ats_status::success,
                         ats_entry::of({0x9000, 12}, 3).with(ats_entry::u, true)}) ==
        ats_taken::untranslated);
  CHECK_FALSE(knows(device, 0x1000));
  CHECK(device.unexpected() == 3);

  // Below the translation unit that software has set.
  ats_device<> coarse{nvme, 16};
  request = coarse.request({}, bus_addr{0x1'2345}, access::read);
  CHECK(request->address == 0x1'0000);
  CHECK(coarse.complete(good(request->tag, 0x9000, 12, 3)) == ats_taken::failed);

  request = device.request({}, bus_addr{0x1000}, access::read);
  CHECK(device.complete({request->tag, ats_status::unsupported, {}}) == ats_taken::disabled);
  CHECK_FALSE(device.enabled());
  CHECK_FALSE(device.request({}, bus_addr{0x1000}, access::read));
}

TEST_CASE("no more requests are under way than the device has tags for") {
  ats_device<iotlb<4, 2>, 2> device{nvme};
  const auto first = device.request({}, bus_addr{0x1000}, access::read);
  REQUIRE(device.request({}, bus_addr{0x2000}, access::read));
  CHECK_FALSE(device.request({}, bus_addr{0x3000}, access::read));
  CHECK(device.complete(good(first->tag, 0x9000, 12, 1)) == ats_taken::kept);
  CHECK(device.request({}, bus_addr{0x3000}, access::read));
}

TEST_CASE("address spaces and manners of access do not see each other's translations") {
  device_type device{nvme};
  teach(device, 0x1000, 0x9000);
  teach(device, 0x1000, 0xa000, 12, {.with_pasid = true, .pasid = 0});
  teach(device, 0x1000, 0xb000, 12, {.with_pasid = true, .pasid = 7});
  teach(device, 0x1000, 0xc000, 12, {.with_pasid = true, .privileged = true, .pasid = 7});
  CHECK_FALSE(knows(device, 0x1000, {.with_pasid = true, .execute = true, .pasid = 7}));
  CHECK_FALSE(knows(device, 0x1000, {.with_pasid = true, .pasid = 8}));
  // Without a PASID, those with one are not meant.
  CHECK(device.invalidate(forget(0, 0x1000, 12)));
  CHECK_FALSE(knows(device, 0x1000));
  CHECK(knows(device, 0x1000, {.with_pasid = true, .pasid = 7}));
  ats_invalidate message = forget(1, 0x1000, 12);
  message.with_pasid = true;
  message.pasid = 7;
  CHECK(device.invalidate(message));
  CHECK_FALSE(knows(device, 0x1000, {.with_pasid = true, .pasid = 7}));
  CHECK_FALSE(knows(device, 0x1000, {.with_pasid = true, .privileged = true, .pasid = 7}));
}

TEST_CASE("an execute that is not granted is denied") {
  device_type device{nvme};
  const ats_space space{.with_pasid = true, .execute = true, .pasid = 1};
  const auto request = device.request(space, bus_addr{0x1000}, access::read);
  CHECK(device.complete(good(request->tag, 0x9000, 12, 1)) == ats_taken::denied);
  CHECK_FALSE(knows(device, 0x1000, space));
}

TEST_CASE("an invalidation is answered only when no access uses the old translation any more") {
  device_type device{nvme};
  teach(device, 0x1000, 0x9000);
  const unsigned old_access = device.begin_access();
  CHECK(device.invalidate(forget(5, 0x1000, 12)));
  CHECK_FALSE(knows(device, 0x1000));
  CHECK_FALSE(device.take_completion());
  // A later access does not hold it up, and a later invalidation waits for both.
  const unsigned new_access = device.begin_access();
  CHECK(device.invalidate(forget(6, 0x2000, 12)));
  CHECK_FALSE(device.take_completion());
  device.end_access(old_access);
  auto message = device.take_completion();
  REQUIRE(message);
  CHECK(message->itags == 1U << 5);
  CHECK(message->device == nvme);
  CHECK_FALSE(device.take_completion());
  device.end_access(new_access);
  message = device.take_completion();
  REQUIRE(message);
  CHECK(message->itags == 1U << 6);
  CHECK_FALSE(device.take_completion());
}

TEST_CASE("random accesses and invalidations: none is answered too early, all in the end") {
  std::mt19937 random{7};
  device_type device{nvme};
  struct running {
    unsigned handle;
    std::uint64_t begun;
  };
  std::vector<running> accesses;
  std::array<std::uint64_t, 32> asked{};
  std::uint32_t open = 0;
  std::uint64_t now = 0;
  const auto take = [&] {
    const auto message = device.take_completion();
    if (!message) return;
    CHECK((message->itags & ~open) == 0);
    for (unsigned i = 0; i != 32; ++i) {
      if ((message->itags >> i & 1) == 0) continue;
      for (const auto& a : accesses) CHECK(a.begun > asked[i]);
    }
    open &= ~message->itags;
  };
  for (int step = 0; step != 200000; ++step) {
    ++now;
    const auto what = random() % 5;
    if (what < 2 && accesses.size() < 20) {
      accesses.push_back({device.begin_access(), now});
    } else if (what < 4 && !accesses.empty()) {
      const auto which = random() % accesses.size();
      device.end_access(accesses[which].handle);
      accesses.erase(accesses.begin() + static_cast<std::ptrdiff_t>(which));
    } else {
      const auto itag = static_cast<std::uint8_t>(random() % 32);
      const bool fresh = (open >> itag & 1) == 0;
      CHECK(device.invalidate(forget(itag, 0x1000, 12)) == fresh);
      if (fresh) asked[itag] = now;
      open |= 1U << itag;
    }
    take();
  }
  while (!accesses.empty()) {
    device.end_access(accesses.back().handle);
    accesses.pop_back();
    take();
  }
  CHECK(open == 0);
}

TEST_CASE("a translation that an invalidation has overtaken is not kept") {
  device_type device{nvme};
  const auto request = device.request({}, bus_addr{0x1000}, access::read);
  const auto other = device.request({}, bus_addr{0x8000}, access::read);
  CHECK(device.invalidate(forget(0, 0, 14)));
  CHECK(device.complete(good(request->tag, 0x9000, 12, 3)) == ats_taken::stale);
  CHECK_FALSE(knows(device, 0x1000));
  CHECK(device.complete(good(other->tag, 0xa000, 12, 3)) == ats_taken::kept);
}

TEST_CASE("an ITag that is under way, or that there is not, changes nothing") {
  device_type device{nvme};
  teach(device, 0x1000, 0x9000);
  const unsigned running = device.begin_access();
  CHECK(device.invalidate(forget(3, 0x8000, 12)));
  CHECK_FALSE(device.invalidate(forget(3, 0x1000, 12)));
  CHECK_FALSE(device.invalidate(forget(32, 0x1000, 12)));
  CHECK(knows(device, 0x1000));
  CHECK(device.unexpected() == 2);
  device.end_access(running);
}

TEST_CASE("the agent answers with the page that the tables hold") {
  const ats_request read{nvme, 4, {}, 0x20'5000, true};
  const ats_request write{nvme, 4, {}, 0x20'5000, false};
  page_lookup<host_space> found;
  CHECK(ats_answer_of(read, found).status == ats_status::success);
  CHECK(ats_answer_of(read, found).entry.raw == 0);
  found.status = walk_status::malformed;
  CHECK(ats_answer_of(read, found).status == ats_status::aborted);
  found = {walk_status::mapped, 1, 21, 3, host_phys{0x4000'0000}, 0};
  CHECK(ats_answer_of(write, found).entry.block() == address_block{0x4000'0000, 21});
  CHECK(ats_answer_of(write, found).entry[ats_entry::w]);
  CHECK_FALSE(ats_answer_of(read, found).entry[ats_entry::w]);
  CHECK(ats_answer_of(read, found).tag == 4);
  // In smaller parts: the one that was requested.
  CHECK(ats_answer_of(write, found, 12, 14).entry.block() == address_block{0x4000'4000, 14});
  found.page_shift = 12;
  CHECK(ats_answer_of(write, found, 16).status == ats_status::aborted);
  found.permissions = 2;
  CHECK(ats_answer_of(read, found).entry.raw == 0);
}

TEST_CASE("an invalidation without a time limit does not expire as it begins") {
  for (const std::uint64_t limit : {~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    ats_invalidations<2> under_way{limit};
    REQUIRE(under_way.begin(nvme, {0x1000, 12}, 2, 1000));
    CHECK_FALSE(under_way.expire(1000));
    CHECK_FALSE(under_way.expire(std::uint64_t{1} << 62));
  }
}

TEST_CASE("an ITag that is used again counts its completions anew") {
  ats_invalidations<1> under_way{100};
  const address_block page{0x1000, 12};
  REQUIRE(under_way.begin(nvme, page, 1, 0)->itag == 0);
  CHECK(under_way.complete({nvme, 1, 2}));
  CHECK(under_way.complete({nvme, 1, 2}));
  CHECK(under_way.idle());
  // One completion this time, and three the next: neither the number expected nor the number received is kept.
  REQUIRE(under_way.begin(nvme, page, 1, 0)->itag == 0);
  CHECK(under_way.complete({nvme, 1, 1}));
  CHECK(under_way.idle());
  REQUIRE(under_way.begin(nvme, page, 1, 0)->itag == 0);
  for (int n = 0; n != 3; ++n) {
    CHECK_FALSE(under_way.idle());
    CHECK(under_way.complete({nvme, 1, 3}));
  }
  CHECK(under_way.idle());
}

TEST_CASE("an invalidation is for all address spaces only where it names one") {
  ats_invalidations<1> under_way{100};
  for (const bool with_pasid : {false, true}) {
    command c = command::device_tlb(nvme.raw(), 0x1000, 0x1fff);
    c.global = true;
    c.by_pasid = with_pasid;
    c.pasid = with_pasid ? 7 : 0;
    unsigned sent = 0;
    CHECK(carry_out_for_devices(
              under_way, c, 0,
              [&](const ats_invalidate& message) noexcept {
                ++sent;
                CHECK(message.with_pasid == with_pasid);
                CHECK(message.body[ats_invalidate_body::global] == with_pasid);
              },
              [](pcie::requester_id) noexcept {}) == command_outcome::done);
    CHECK(sent == 1);
    under_way.forget(nvme);
  }
}

TEST_CASE("invalidations in flight: limits, copies, unexpected completions, time-outs") {
  ats_invalidations<2> under_way{100};
  const pcie::requester_id other{2, 0, 0};
  const pcie::requester_id third{3, 0, 0};
  const auto first = under_way.begin(nvme, {0x1000, 12}, 2, 0);
  const auto second = under_way.begin(nvme, {0x2000, 12}, 2, 10);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(first->itag != second->itag);
  CHECK_FALSE(under_way.begin(nvme, {0x3000, 12}, 2, 10));
  REQUIRE(under_way.begin(other, {0x3000, 12}, 0, 10));
  CHECK_FALSE(under_way.begin(third, {0x3000, 12}, 0, 10));

  CHECK_FALSE(under_way.complete({third, 1, 1}));
  CHECK_FALSE(under_way.complete({nvme, 0, 1}));
  CHECK_FALSE(under_way.complete({nvme, 1U << 31, 1}));
  CHECK_FALSE(under_way.complete({nvme, 1U << first->itag, 0}));
  CHECK_FALSE(under_way.complete({nvme, 1U << first->itag, 9}));
  // Two copies, and both are reported.
  CHECK(under_way.complete({nvme, 1U << first->itag, 2}));
  CHECK_FALSE(under_way.complete({nvme, 1U << first->itag, 1}));
  CHECK_FALSE(under_way.begin(nvme, {0x3000, 12}, 2, 20));
  CHECK(under_way.complete({nvme, 1U << first->itag, 2}));
  CHECK(under_way.begin(nvme, {0x3000, 12}, 2, 20));

  CHECK_FALSE(under_way.expire(109));
  CHECK(under_way.expire(110));
  CHECK(under_way.take_missed());
  CHECK_FALSE(under_way.take_missed());
  // The place is not given to another one, for the answer may still come.
  CHECK_FALSE(under_way.begin(nvme, {0x4000, 12}, 2, 110));
  CHECK_FALSE(under_way.complete({nvme, 1U << second->itag, 1}));
  CHECK(under_way.begin(nvme, {0x4000, 12}, 2, 110));
  under_way.forget(nvme);
  under_way.forget(other);
  CHECK(under_way.idle());
}

namespace {

// An IOMMU with a domain, a device behind it with a cache of its own, and messages that wait until
// the test delivers them.
struct ats_handler {
  flat_memory* memory;
  ats_invalidations<4>* under_way;
  std::vector<ats_invalidate>* sent;
  std::uint64_t* now;
  std::vector<pcie::requester_id> late{};

  command_outcome apply(const command& c) noexcept {
    return carry_out_for_devices(
        *under_way, c, *now, [&](const ats_invalidate& m) noexcept { sent->push_back(m); },
        [&](pcie::requester_id whose) noexcept { late.push_back(whose); });
  }
  bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    return store_completion<thread_order>(*memory, at, data, bytes);
  }
  void interrupt() noexcept {}
};
static_assert(CommandHandler<ats_handler>);

}  // namespace

TEST_CASE_TEMPLATE("a stale translation stays in use until the device has answered, and not longer",
                   Codec, vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  page_table_harness::table_store<vtd_second_stage> space_left;
  auto made =
      page_table<vtd_second_stage, decltype(space_left.arena)>::create({}, space_left.arena);
  REQUIRE(made);
  auto& table = *made;
  REQUIRE(table.map(bus_addr{0x20'0000}, host_phys{0x4000'0000}, 1 << 21));

  rig<Codec> r{8};
  ats_invalidations<4> under_way{1000};
  std::vector<ats_invalidate> wire;
  std::uint64_t now = 0;
  ats_handler handler{&r.memory, &under_way, &wire, &now};
  const auto poll = [&] {
    r.consumer.write_tail(r.tail);
    const poll_result done = r.consumer.poll(handler);
    r.head = r.consumer.head();
    return done;
  };
  ats_device<> device{nvme};
  const auto ask = [&] {
    const auto request = device.request({}, bus_addr{0x20'3000}, access::read_write);
    REQUIRE(request);
    return device.complete(ats_answer_of(*request, table.lookup(bus_addr{request->address})));
  };
  iotlb_hit<host_space> hit;
  CHECK(ask() == ats_taken::kept);
  const unsigned dma = device.begin_access();

  invalidations<bus_space> changes;
  REQUIRE(table.unmap(bus_addr{0x20'0000}, 1 << 21, changes));
  // The tables refuse the access; the device's cache is still stale.
  CHECK(device.find({}, bus_addr{0x20'3000}, access::write, hit) == ats_answer::translated);
  sync_token token;
  REQUIRE(r.producer.invalidate_device(nvme.raw(), changes.ranges()) == posted::posted);
  REQUIRE(r.producer.sync(token) == posted::posted);
  CHECK(poll().commands == 1);
  CHECK(device.find({}, bus_addr{0x20'3000}, access::write, hit) == ats_answer::translated);
  REQUIRE(wire.size() == 1);
  CHECK(wire[0].body.block() == address_block{0x20'0000, 21});
  REQUIRE(device.invalidate(wire[0]));
  CHECK(device.find({}, bus_addr{0x20'3000}, access::write, hit) == ats_answer::unknown);
  // Its DMA is still under way: the memory is not free yet.
  CHECK_FALSE(device.take_completion());
  CHECK(poll().more);
  CHECK_FALSE(r.producer.done(token));
  device.end_access(dma);
  const auto answer = device.take_completion();
  REQUIRE(answer);
  CHECK(under_way.complete(*answer));
  CHECK(poll().commands == 1);
  CHECK(r.producer.done(token));
  table.complete(changes);
  CHECK(ask() == ats_taken::denied);
}

TEST_CASE("a device that never answers is found out by the clock, and its wait fails") {
  rig<vtd::command_codec> r{8};
  ats_invalidations<4> under_way{1000};
  std::vector<ats_invalidate> wire;
  std::uint64_t now = 5000;
  ats_handler handler{&r.memory, &under_way, &wire, &now};
  sync_token token;
  command c = command::device_tlb(nvme.raw(), 0, 0xfff);
  c.queue_depth = 1;
  REQUIRE(r.producer.post(c) == posted::posted);
  REQUIRE(r.producer.post(c) == posted::posted);  // more than the device takes: waits
  REQUIRE(r.producer.sync(token) == posted::posted);
  r.consumer.write_tail(r.tail);
  CHECK(r.consumer.poll(handler).commands == 1);
  now = 5999;
  CHECK(r.consumer.poll(handler).commands == 0);
  CHECK(handler.late.empty());
  now = 6000;
  CHECK(r.consumer.poll(handler).commands == 2);
  CHECK(handler.late == std::vector{nvme});
  CHECK(r.consumer.fault().what == ring_fault::device_timeout);
  CHECK_FALSE(r.producer.done(token));
  CHECK(wire.size() == 1);
}

}  // namespace phasebit::command_ring_harness
