// SPDX-License-Identifier: BSL-1.0
#include "command_ring_harness.hpp"

namespace phasebit::command_ring_harness {

namespace {

using range = invalidation_range<bus_space>;

}  // namespace

TEST_CASE_TEMPLATE("a sync is done when the IOMMU has executed all commands before it", Codec,
                   vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  rig<Codec> r{8};
  CHECK(r.producer.post(command::whole_domain(5)) == posted::posted);
  sync_token token;
  REQUIRE(r.producer.sync(token) == posted::posted);
  CHECK(r.rings == 1);
  CHECK_FALSE(r.producer.done(token));
  CHECK(r.poll() == 2);
  CHECK(r.producer.done(token));
  REQUIRE(r.handler.seen.size() == 2);
  CHECK(r.handler.seen[0].kind == command_kind::invalidate_translations);
  CHECK(r.handler.seen[0].domain == 5);
  CHECK(r.handler.seen[0].tables);
  CHECK(r.handler.seen[1].kind == command_kind::wait);
}

TEST_CASE_TEMPLATE("a ring wraps at every position of small rings, at every fill", Codec,
                   vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  for (std::uint32_t entries : {2U, 4U, 8U}) {
    for (std::uint32_t start = 0; start != 2 * entries; ++start) {
      for (std::uint32_t fill = 1; fill <= entries; ++fill) {
        rig<Codec> r{entries};
        const std::uint32_t capacity = r.producer.ring().capacity();
        CHECK(capacity == (Codec::wraps ? entries : entries - 1));
        for (std::uint32_t i = 0; i != start; ++i) {
          REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
          r.producer.submit();
          REQUIRE(r.poll() == 1);
        }
        r.handler.seen.clear();
        for (std::uint32_t i = 0; i != fill; ++i) {
          const auto how = r.producer.post(command::whole_domain(static_cast<std::uint16_t>(i)));
          REQUIRE(how == (i < capacity ? posted::posted : posted::full));
        }
        r.producer.submit();
        const std::uint32_t posted_count = fill < capacity ? fill : capacity;
        REQUIRE(r.poll() == posted_count);
        REQUIRE(r.handler.seen.size() == posted_count);
        for (std::uint32_t i = 0; i != posted_count; ++i) CHECK(r.handler.seen[i].domain == i);
        CHECK(r.producer.available(capacity) == capacity);
        CHECK(r.producer.health());
      }
    }
  }
}

TEST_CASE("the registers contain what each architecture specifies") {
  rig<vtd::command_codec> vtd{8};
  rig<vtd::command_codec> wide{8, {.wide = true}};
  rig<amd::command_codec> amd{8};
  rig<smmuv3::command_codec> smmu{8};
  rig<riscv::command_codec> riscv{8};
  const auto go = [](auto& r, unsigned count) {
    for (unsigned i = 0; i != count; ++i) {
      REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
      r.producer.submit();
      r.poll();
    }
    CHECK(r.head == r.tail);
    return r.tail;
  };
  CHECK(go(vtd, 3) == 3 << 4);
  CHECK(go(wide, 3) == 3 << 5);
  CHECK(go(amd, 3) == 3 << 4);
  CHECK(go(smmu, 3) == 3);
  CHECK(go(riscv, 3) == 3);
  // The eighth returns to the beginning; SMMUv3 distinguishes the laps.
  CHECK(go(vtd, 5) == 0);
  CHECK(go(wide, 5) == 0);
  CHECK(go(amd, 5) == 0);
  CHECK(go(smmu, 5) == 8);
  CHECK(go(riscv, 5) == 0);
  CHECK(go(smmu, 8) == 0);
}

TEST_CASE_TEMPLATE("an illegal command stops the ring at it, until the driver has replaced it",
                   Codec, vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  rig<Codec> r{8};
  sync_token token;
  REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
  REQUIRE(r.producer.post(command::whole_domain(2)) == posted::posted);
  REQUIRE(r.producer.post(command::whole_domain(3)) == posted::posted);
  REQUIRE(r.producer.sync(token) == posted::posted);
  r.put(1, {{~std::uint64_t{0}, ~std::uint64_t{0}}});
  CHECK(r.poll() == 1);
  CHECK(r.consumer.stopped());
  CHECK(r.consumer.fault().what == ring_fault::illegal_command);
  CHECK(r.consumer.fault().reason != illegal_reason::none);
  CHECK(r.consumer.head_index() == 1);
  CHECK(r.poll() == 0);
  CHECK_FALSE(r.producer.done(token));

  if constexpr (std::is_same_v<Codec, amd::command_codec>) {
    // The buffer is halted and starts again from zero.
    CHECK(r.producer.health());
    r.producer.restart();
    r.head = r.tail = 0;
    r.consumer.enable(host_phys{flat_memory::base}, 8);
    CHECK(r.producer.abandoned(token));
    CHECK(r.producer.post(command::whole_domain(2)) == posted::posted);
    CHECK(r.producer.post(command::whole_domain(3)) == posted::posted);
  } else {
    CHECK(r.producer.replace_refused());
    r.consumer.resume();
  }
  sync_token later;
  REQUIRE(r.producer.sync(later) == posted::posted);
  r.poll();
  CHECK(r.producer.done(later));
  CHECK_FALSE(r.producer.done(token));  // what it waited for was not carried out
  CHECK_FALSE(r.consumer.stopped());
}

TEST_CASE("the number under which each IOMMU reports an illegal command") {
  rig<vtd::command_codec> vtd{4};
  rig<vtd::command_codec> wide{4, {.wide = true}};
  rig<amd::command_codec> amd{4};
  rig<smmuv3::command_codec> smmu{4};
  rig<riscv::command_codec> riscv{4};
  const auto refused = [](auto& r, const command_words& words) {
    r.put(0, words);
    r.tail = r.producer.ring().to_register(1);
    CHECK(r.poll() == 0);
    const consumer_fault fault = r.consumer.fault();
    CHECK(fault.what == ring_fault::illegal_command);
    r.tail = 0;
    r.consumer.enable(host_phys{flat_memory::base}, 4);
    return fault.code;
  };
  using vtd::queue_error;
  const auto iqe = [](queue_error e) { return static_cast<std::uint8_t>(e); };
  CHECK(refused(vtd, {{0}}) == iqe(queue_error::invalid_type));
  CHECK(refused(vtd, {{0xa}}) == iqe(queue_error::invalid_type));
  CHECK(refused(vtd, {{0x202}}) ==
        iqe(queue_error::invalid_type));  // bits 11:9 are the type's, too
  CHECK(refused(vtd, {{0x12 | 1ULL << 40}}) == iqe(queue_error::reserved_set));
  CHECK(refused(vtd, {{0x32, 1 << 7}}) == iqe(queue_error::reserved_set));
  CHECK(refused(vtd, {{0x02}}) == iqe(queue_error::reserved_set));      // granularity 0
  CHECK(refused(vtd, {{0x32, 10}}) == iqe(queue_error::reserved_set));  // AM beyond MAMV
  CHECK(refused(vtd, {{0x25, 2}}) == iqe(queue_error::reserved_set));   // address of a wait
  CHECK(refused(vtd, {{0x36}}) == iqe(queue_error::invalid_width));     // scalable mode's
  CHECK(refused(wide, {{0x12, 0, 1}}) == iqe(queue_error::reserved_set));
  CHECK(refused(wide, {{0x12, 0, 0, 1ULL << 63}}) == iqe(queue_error::reserved_set));
  CHECK(refused(wide, {{9 | 2 << 12}}) == iqe(queue_error::reserved_set));  // response code 2

  CHECK(refused(amd, {{0}}) == 5);
  CHECK(refused(amd, {{9ULL << 60}}) == 5);
  CHECK(refused(amd, {{2ULL << 60 | 1 << 16}}) == 5);
  CHECK(refused(amd, {{3ULL << 60, 1 << 3}}) == 5);
  CHECK(refused(amd, {{8ULL << 60, 1}}) == 5);
  CHECK(refused(amd, {{7ULL << 60, 2ULL << 44}}) == 5);

  CHECK(refused(smmu, {{0}}) == 1);
  CHECK(refused(smmu, {{0x18}}) == 1);                    // EL3
  CHECK(refused(smmu, {{0x03 | 1 << 10}}) == 1);          // a Secure stream
  CHECK(refused(smmu, {{0x46 | 3 << 12}}) == 1);          // completion signal 3
  CHECK(refused(smmu, {{0x41, 3 << 12}}) == 1);           // response 3
  CHECK(refused(smmu, {{0x40, 53}}) == 1);                // size beyond everything
  CHECK(refused(smmu, {{0x2a, 2 << 10 | 1 << 8}}) == 1);  // level 1 of 16 KiB

  CHECK(refused(riscv, {{0}}) == 10);
  CHECK(refused(riscv, {{5}}) == 10);
  CHECK(refused(riscv, {{64}}) == 10);
  CHECK(refused(riscv, {{1 | 2 << 7}}) == 10);               // no such function
  CHECK(refused(riscv, {{1 | 1 << 11}}) == 10);              // reserved
  CHECK(refused(riscv, {{1 | 1 << 7 | 1ULL << 32}}) == 10);  // PSCV with GVMA
  CHECK(refused(riscv, {{2 | 1 << 11}}) == 10);              // WSI without wired interrupts
  CHECK(refused(riscv, {{2, 1ULL << 62}}) == 10);
  CHECK(refused(riscv, {{3 | 1 << 7}}) == 10);   // PDT without a device
  CHECK(refused(riscv, {{3 | 1 << 12}}) == 10);  // DDT with a process
  CHECK(refused(riscv, {{4 | 1 << 7, 2ULL << 44}}) == 10);
}

TEST_CASE("a tail that names no entry stops the rings that have all bits of it") {
  for (const std::uint32_t tail : {8U << 4, 0x8U, 3U, 0x8000'0010U}) {
    rig<vtd::command_codec> r{8};
    r.tail = tail;
    CHECK(r.poll() == 0);
    CHECK(r.consumer.fault().what == ring_fault::bad_tail);
    CHECK(r.consumer.fault().code == static_cast<std::uint8_t>(vtd::queue_error::invalid_tail));
  }
  rig<vtd::command_codec> wide{8, {.wide = true}};
  wide.tail = 1 << 4;  // aligned for 128 bits
  CHECK(wide.poll() == 0);
  CHECK(wide.consumer.fault().what == ring_fault::bad_tail);
  CHECK(wide.consumer.fault().code == static_cast<std::uint8_t>(vtd::queue_error::tail_misaligned));

  rig<amd::command_codec> amd{8};
  amd.tail = 8 << 4;
  CHECK(amd.poll() == 0);
  CHECK(amd.consumer.fault().what == ring_fault::bad_tail);
  CHECK(amd.consumer.fault().code == 6);
}

TEST_CASE("SMMUv3 and RISC-V cut the tail to the ring; a tail a lap too far ahead is refused") {
  rig<riscv::command_codec> riscv{8};
  REQUIRE(riscv.producer.post(command::whole_domain(1)) == posted::posted);
  riscv.tail = 0xffff'fff1;
  CHECK(riscv.poll() == 1);

  rig<smmuv3::command_codec> smmu{8};
  REQUIRE(smmu.producer.post(command::whole_domain(1)) == posted::posted);
  smmu.tail = 0xffff'fff1;
  CHECK(smmu.poll() == 1);
  smmu.tail = 0xa;  // nine ahead of one, in a ring of eight
  CHECK(smmu.poll() == 0);
  CHECK(smmu.consumer.fault().what == ring_fault::bad_tail);
  CHECK(smmu.consumer.fault().code == 2);
}

TEST_CASE_TEMPLATE("a poll takes at most its limit, and reports that there is more", Codec,
                   vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  rig<Codec> r{16};
  for (int i = 0; i != 15; ++i)
    REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
  r.producer.submit();
  r.consumer.write_tail(r.tail);
  const poll_result first = r.consumer.poll(r.handler, 4);
  CHECK(first.commands == 4);
  CHECK(first.more);
  const poll_result remaining = r.consumer.poll(r.handler, 11);
  CHECK(remaining.commands == 11);
  CHECK_FALSE(remaining.more);
}

TEST_CASE_TEMPLATE("a ring in memory that is not there stops at the fetch", Codec,
                   vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  rig<Codec> r{8};
  // The ring begins in memory and ends outside it: its last entries cannot be read.
  r.consumer.enable(
      host_phys{flat_memory::base + r.memory.size() - 2 * r.producer.codec().entry_bytes()}, 8);
  for (std::size_t i = r.memory.size() / 8; i-- != 0;) r.memory.data()[i * 8] = std::byte{0};
  command_words words;
  REQUIRE(r.producer.codec().encode(command::whole_domain(1), words));
  const std::size_t last = r.memory.size() / r.producer.codec().entry_bytes();
  r.put(last - 2, words);
  r.put(last - 1, words);
  r.tail = r.producer.ring().to_register(5);
  CHECK(r.poll() == 2);
  CHECK(r.consumer.fault().what == ring_fault::fetch_failed);
  CHECK(r.consumer.head_index() == 2);
}

TEST_CASE("a wait that stores where there is no memory") {
  const auto ask = [](auto& r) {
    command c;
    c.kind = command_kind::wait;
    c.store = true;
    c.store_bytes = static_cast<std::uint8_t>(
        std::remove_reference_t<decltype(r.producer.codec())>::wait_store_bytes);
    c.store_address = 0x1000;
    REQUIRE(r.producer.post(c) == posted::posted);
    REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
    r.producer.submit();
    return r.poll();
  };
  rig<vtd::command_codec> vtd{8};
  CHECK(ask(vtd) == 0);
  CHECK(vtd.consumer.fault().what == ring_fault::store_failed);
  rig<amd::command_codec> amd{8};
  CHECK(ask(amd) == 0);
  CHECK(amd.consumer.fault().code == 6);
  rig<riscv::command_codec> riscv{8};
  CHECK(ask(riscv) == 0);
  CHECK(riscv.consumer.fault().code == riscv::cqcsr::cqmf.lo);
  // An MSI that does not arrive is an error of its own, and the queue goes on.
  rig<smmuv3::command_codec> smmu{8};
  CHECK(ask(smmu) == 2);
  CHECK_FALSE(smmu.consumer.stopped());
  CHECK(smmu.handler.stores == 0);
}

TEST_CASE_TEMPLATE("a wait is not over before what came before it, and may be asked about often",
                   Codec, vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  rig<Codec> r{8};
  r.handler.for_waits = command_outcome::again;
  sync_token token;
  REQUIRE(r.producer.post(command::device_tlb(3, 0, 0xfff)) == posted::posted);
  REQUIRE(r.producer.sync(token) == posted::posted);
  CHECK(r.poll() == 1);
  CHECK(r.poll() == 0);
  CHECK_FALSE(r.producer.done(token));
  CHECK_FALSE(r.consumer.stopped());
  r.handler.for_waits = command_outcome::done;
  CHECK(r.poll() == 1);
  CHECK(r.producer.done(token));
}

TEST_CASE("a device that does not respond: each IOMMU follows its specification") {
  const auto time_out = [](auto& r) {
    r.handler.for_waits = command_outcome::failed;
    sync_token token;
    REQUIRE(r.producer.post(command::device_tlb(3, 0, 0xfff)) == posted::posted);
    REQUIRE(r.producer.sync(token) == posted::posted);
    const unsigned consumed = r.poll();
    r.handler.for_waits = command_outcome::done;
    r.consumer.resume();
    r.poll();
    return std::pair{consumed, r.producer.done(token)};
  };
  rig<vtd::command_codec> vtd{8};
  CHECK(time_out(vtd) == std::pair{2U, false});  // the wait is aborted: nothing is stored
  rig<amd::command_codec> amd{8};
  CHECK(time_out(amd) == std::pair{2U, true});  // an event reports it; the buffer continues
  rig<smmuv3::command_codec> smmu{8};
  CHECK(time_out(smmu) == std::pair{1U, true});  // the CMD_SYNC is tried again
  rig<riscv::command_codec> riscv{8};
  CHECK(time_out(riscv) == std::pair{1U, true});
}

TEST_CASE("the head alone shows the end of SMMUv3's and RISC-V's waits") {
  const auto follow = [](auto& r) {
    sync_token first;
    sync_token second;
    REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
    REQUIRE(r.producer.sync(first) == posted::posted);
    REQUIRE(r.producer.sync(second) == posted::posted);
    CHECK_FALSE(r.producer.done(first));
    CHECK(r.poll(2) == 2);
    CHECK(r.producer.done(first));
    CHECK_FALSE(r.producer.done(second));
    CHECK(r.poll() == 1);
    CHECK(r.producer.done(second));
    CHECK(r.handler.stores == 0);
  };
  rig<smmuv3::command_codec> smmu{8, {}, false};
  follow(smmu);
  rig<riscv::command_codec> riscv{4, {}, false};
  follow(riscv);
}

TEST_CASE_TEMPLATE(
    "a doorbell is rung for new commands only, and nothing is replaced in an idle ring", Codec,
    vtd::command_codec, amd::command_codec, smmuv3::command_codec, riscv::command_codec) {
  rig<Codec> r{8};
  r.producer.submit();
  CHECK(r.rings == 0);
  CHECK_FALSE(r.producer.replace_refused());
  REQUIRE(r.producer.post(command::one_device(5)) == posted::posted);
  CHECK(r.rings == 0);
  r.producer.submit();
  r.producer.submit();
  CHECK(r.rings == 1);
  CHECK(r.poll() == 1);
  CHECK_FALSE(r.producer.replace_refused());
}

TEST_CASE_TEMPLATE("ranges of a device that do not fit the ring are not posted at all", Codec,
                   vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  rig<Codec> r{4};
  const std::uint32_t capacity = r.producer.ring().capacity();
  std::vector<invalidation_range<bus_space>> ranges(capacity);
  for (std::size_t i = 0; i != ranges.size(); ++i) {
    ranges[i].first = bus_addr{i << 13};
    ranges[i].last = bus_addr{(i << 13) + 0xfff};
  }
  REQUIRE(r.producer.post(command::one_device(5)) == posted::posted);
  const std::span<const invalidation_range<bus_space>> all{ranges};
  CHECK(r.producer.invalidate_device(5, all) == posted::full);
  r.producer.submit();
  CHECK(r.poll() == 1);
  CHECK(r.producer.invalidate_device(5, all) == posted::posted);
  r.producer.submit();
  CHECK(r.poll() == capacity);
}

TEST_CASE_TEMPLATE("an impossible head register value is ignored", Codec, vtd::command_codec,
                   amd::command_codec, smmuv3::command_codec, riscv::command_codec) {
  rig<Codec> r{8};
  REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
  r.producer.submit();
  r.head = r.producer.ring().to_register(5);
  CHECK(r.producer.available(100) == r.producer.ring().capacity() - 1);
  REQUIRE_FALSE(r.producer.health());
  CHECK(r.producer.health().error().code == errc::protocol);
  r.producer.restart();
  CHECK(r.producer.health());
  CHECK(r.producer.available(100) == r.producer.ring().capacity());

  REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
  r.head = ~0U;
  CHECK(r.producer.available(100) == r.producer.ring().capacity() - 1);
  CHECK(r.producer.health().error().code == errc::removed);
}

TEST_CASE("reported errors are decoded, with the required reaction") {
  using vtd = vtd::command_codec;
  CHECK_FALSE(vtd::fault(0));
  CHECK_FALSE(vtd::fault(3));  // faults of translation
  CHECK(vtd::fault(1 << 4, 4).what == ring_fault::illegal_command);
  CHECK(vtd::fault(1 << 4, 4).then == recovery::replace_and_clear);
  CHECK(vtd::fault(1 << 4, 1).what == ring_fault::bad_tail);
  CHECK(vtd::fault(1 << 4, 2).what == ring_fault::fetch_failed);
  CHECK(vtd::fault(1 << 6, 0x0108ULL << 32).what == ring_fault::device_timeout);
  CHECK(vtd::fault(1 << 6, 0x0108ULL << 32).device == 0x108);
  CHECK(vtd::fault(1 << 5, 0x0209ULL << 48).device == 0x209);
  CHECK_FALSE(amd::command_codec::fault(2ULL << 60));
  CHECK(amd::command_codec::fault(5ULL << 60).then == recovery::restart);
  CHECK(amd::command_codec::fault(6ULL << 60).what == ring_fault::fetch_failed);
  CHECK(amd::command_codec::fault(7ULL << 60 | 0x108).device == 0x108);
  CHECK_FALSE(smmuv3::command_codec::fault(0x1f));
  CHECK(smmuv3::command_codec::fault(1 << 24 | 3).then == recovery::replace_and_clear);
  CHECK(smmuv3::command_codec::fault(2 << 24).what == ring_fault::fetch_failed);
  CHECK(smmuv3::command_codec::fault(3 << 24).what == ring_fault::device_timeout);
  CHECK_FALSE(riscv::command_codec::fault(1 | 1 << 16 | 1 << 11));
  CHECK(riscv::command_codec::fault(1 << 10).what == ring_fault::illegal_command);
  CHECK(riscv::command_codec::fault(1 << 9).what == ring_fault::device_timeout);
  CHECK(riscv::command_codec::fault(1 << 8).what == ring_fault::fetch_failed);
}

TEST_CASE("commands of devices, interrupts and page requests arrive as they were meant") {
  const auto through = [](auto& r, const command& c) {
    r.handler.seen.clear();
    REQUIRE(r.producer.post(c) == posted::posted);
    r.producer.submit();
    REQUIRE(r.poll() == 1);
    return r.handler.seen.back();
  };
  rig<vtd::command_codec> vtd{8, {.wide = true}};
  rig<amd::command_codec> amd{8};
  rig<smmuv3::command_codec> smmu{8};
  rig<riscv::command_codec> riscv{8};
  const auto everywhere = [&](const command& c, auto&& look) {
    look(through(vtd, c));
    look(through(amd, c));
    look(through(smmu, c));
    look(through(riscv, c));
  };
  everywhere(command::one_device(0x1234), [](const command& c) {
    CHECK(c.kind == command_kind::invalidate_device);
    CHECK(c.by_device);
    CHECK(c.device == 0x1234);
  });
  everywhere(command::device_tlb(0x1234, 0x40000, 0x47fff), [](const command& c) {
    CHECK(c.kind == command_kind::invalidate_device_tlb);
    CHECK(c.device == 0x1234);
    CHECK(c.first == 0x40000);
    CHECK(c.last == 0x47fff);
  });
  everywhere(command::device_tlb(0x1234, 0x40000, 0x40fff), [](const command& c) {
    CHECK(c.first == 0x40000);
    CHECK(c.last == 0x40fff);
  });
  for (const auto code : {page_response_code::success, page_response_code::invalid_request,
                          page_response_code::failure}) {
    command answer = command::respond(0x1234, 0x1ff, code);
    answer.by_pasid = true;
    answer.pasid = 0xabcde;
    everywhere(answer, [&](const command& c) { CHECK(c == answer); });
  }
  command with_pasid = command::device_tlb(0x1234, 0x40000, 0x47fff);
  with_pasid.by_pasid = true;
  with_pasid.pasid = 0xabcde;
  everywhere(with_pasid, [&](const command& c) { CHECK(c.pasid == 0xabcde); });

  for (unsigned mask : {0U, 4U, 6U, 7U}) {
    command functions = command::one_device(0x1230);
    functions.device_ignore = mask;
    CHECK(through(vtd, functions).device_ignore == mask);
  }
  CHECK(through(vtd, command::interrupt_entries(6, 9)).first == 0);
  CHECK(through(vtd, command::interrupt_entries(6, 9)).last == 15);
  CHECK_FALSE(through(vtd, command::all_interrupt_entries()).by_range);
  CHECK(through(amd, command::device_interrupts(0x77)).device == 0x77);
  CHECK(through(amd, command::all_devices()).kind == command_kind::invalidate_everything);
  CHECK_FALSE(through(smmu, command::all_devices()).by_device);
  CHECK(through(smmu, command::resume(9, 77, true)).retry);
  CHECK(through(riscv, command::one_process(0x12'3456, 0x54321)).pasid == 0x54321);
  CHECK(smmu.producer.post(command::all_interrupt_entries()) == posted::not_supported);
  CHECK(riscv.producer.post(command::interrupt_entries(0, 1)) == posted::not_supported);
}

}  // namespace phasebit::command_ring_harness
