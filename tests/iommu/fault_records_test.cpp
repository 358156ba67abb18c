// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/amd/fault_codec.hpp>
#include <phasebit/iommu/fault/fault_queue.hpp>
#include <phasebit/iommu/riscv/fault_codec.hpp>
#include <phasebit/iommu/smmuv3/fault_codec.hpp>
#include <phasebit/iommu/vtd/fault_registers.hpp>

#include <array>
#include <cstddef>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::iommu;

namespace {

constexpr pcie::requester_id disk{4, 1, 2};

translation_fault fault_of(fault_reason reason, phasebit::access wanted = phasebit::access::write) {
  translation_fault f;
  f.requester = disk;
  f.reason = reason;
  f.wanted = wanted;
  f.domain = 7;
  f.address = 0x1234'5000;
  f.fetch = 0x7000;
  f.interrupt = reason >= fault_reason::interrupt_malformed_request;
  if (f.interrupt) f.address = 0x321;
  return f;
}

constexpr std::uint64_t base = 0x8000'0000;

template <class Format>
struct ring {
  alignas(4096) std::array<table_word, 512> words{};
  table_window<> window{std::as_writable_bytes(std::span{words}), host_phys{base}};
  fault_ring place{base, 3};
  fault_queue<Format, table_window<>> queue{window};
  fault_queue_reader<Format, table_window<>> reader{window, place};

  ring() { queue.enable(place); }
  void fault(unsigned n) {
    auto f = fault_of(fault_reason::not_mapped);
    f.address = std::uint64_t{n} << 12;
    queue.record(f);
  }
  // Reads all records, frees their slots, and returns the addresses.
  std::uint64_t read_all() {
    std::uint64_t sum = 0;
    while (const auto f = reader.next(queue.producer())) sum = sum * 16 + (f->address >> 12);
    queue.set_consumer(reader.consumer());
    return sum;
  }
};

}  // namespace

TEST_CASE("a VT-d record encodes the fault in the specification's bits") {
  auto f = fault_of(fault_reason::no_write);
  f.code = static_cast<std::uint16_t>(vtd::code_of(f, vtd::fault_domain::legacy));
  const auto r = vtd::fault_record::of(f);
  CHECK(r.low.raw == 0x1234'5000);
  CHECK(r.high.raw == (std::uint64_t{1} << 63 | std::uint64_t{5} << 32 | disk.raw()));
  f.wanted = phasebit::access::read;
  f.has_pasid = true;
  f.pasid = 0xabcde;
  CHECK(vtd::fault_record::of(f).high.raw ==
        (std::uint64_t{3} << 62 | std::uint64_t{0xabcde} << 40 | std::uint64_t{5} << 32 |
         std::uint64_t{1} << 31 | disk.raw()));
  auto i = fault_of(fault_reason::interrupt_beyond);
  i.code = static_cast<std::uint16_t>(vtd::code_of(i, vtd::fault_domain::legacy));
  CHECK(i.code == 0x21);
  CHECK(vtd::fault_record::of(i).low.raw == std::uint64_t{0x321} << 48);
}

TEST_CASE("VT-d records are read back as they were meant, each reason in each mode") {
  for (const auto domain : {vtd::fault_domain::legacy, vtd::fault_domain::second_stage,
                            vtd::fault_domain::first_stage}) {
    unsigned known = 0;
    for (unsigned n = 1; n <= static_cast<unsigned>(fault_reason::interrupt_source); ++n) {
      auto f = fault_of(static_cast<fault_reason>(n));
      f.domain = 0;  // VT-d's records do not hold it
      f.fetch = 0;
      f.code = static_cast<std::uint16_t>(vtd::code_of(f, domain));
      if (f.code == 0) continue;
      ++known;
      auto read = vtd::fault_record::of(f).decode();
      if (domain == vtd::fault_domain::legacy && f.reason == fault_reason::not_mapped) {
        CHECK(read.reason == fault_reason::no_write);  // the same in legacy mode
        read.reason = f.reason;
      }
      CHECK(read == f);
    }
    CHECK(known >= 19);
  }
  CHECK(vtd::reason_of(static_cast<vtd::fault_code>(0xff)) == fault_reason::none);
}

TEST_CASE("records of the other three are read back; reasons that share an event become one") {
  for (unsigned n = 1; n <= static_cast<unsigned>(fault_reason::interrupt_source); ++n) {
    const auto f = fault_of(static_cast<fault_reason>(n));
    const auto a = amd::event_log_format::decode(amd::event_log_format::encode(f));
    CHECK(a.requester == disk);
    CHECK(a.code == static_cast<unsigned>(amd::code_of(f.reason)));
    CHECK(a.interrupt == f.interrupt);
    const auto s = smmuv3::event_queue_format::decode(smmuv3::event_queue_format::encode(f));
    CHECK(s.requester == disk);
    CHECK(s.code == static_cast<unsigned>(smmuv3::code_of(f.reason)));
    CHECK(smmuv3::code_of(s.reason) == smmuv3::code_of(f.reason));
    if (f.reason == fault_reason::no_read || f.reason == fault_reason::no_write) {
      auto g = f;
      g.wanted =
          f.reason == fault_reason::no_read ? phasebit::access::read : phasebit::access::write;
      const auto t = smmuv3::event_queue_format::decode(smmuv3::event_queue_format::encode(g));
      CHECK(t.reason == f.reason);
      CHECK(t.wanted == g.wanted);
    }
    const auto r = riscv::fault_queue_format::decode(riscv::fault_queue_format::encode(f));
    CHECK(r.requester == disk);
    CHECK(r.code == static_cast<unsigned>(riscv::code_of(f)));
    CHECK(r.address == f.address);
    CHECK(r.wanted == f.wanted);
  }
  for (const auto reason : {fault_reason::not_mapped, fault_reason::no_write,
                            fault_reason::page_malformed, fault_reason::entry_malformed,
                            fault_reason::interrupt_absent, fault_reason::interrupt_refused}) {
    CHECK(amd::event_log_format::decode(amd::event_log_format::encode(fault_of(reason))).reason ==
          reason);
  }
}

TEST_CASE("words of AMD, SMMUv3 and RISC-V records are laid out as the specifications print them") {
  const auto a = amd::event_log_format::encode(fault_of(fault_reason::no_write));
  CHECK(a.words[0].get() == (0x2070'0007ULL << 32 | disk.raw()));
  CHECK(a.words[1].get() == 0x1234'5000);
  // I set and RW clear: the access of an interrupt has no direction.
  const auto i = amd::event_log_format::encode(fault_of(fault_reason::interrupt_absent));
  CHECK(i.words[0].get() == (0x2008'0007ULL << 32 | disk.raw()));
  CHECK(i.words[1].get() == 0x321);
  auto f = fault_of(fault_reason::no_read, phasebit::access::read);
  f.has_pasid = true;
  f.pasid = 0x12345;
  const auto s = smmuv3::event_queue_format::encode(f);
  CHECK(s.words[0].get() == (std::uint64_t{disk.raw()} << 32 | 0x12345 << 12 | 1 << 11 | 0x13));
  CHECK(s.words[1].get() == std::uint64_t{1 << 3 | 1 << 7 | 2 << 8} << 32);
  CHECK(s.words[2].get() == 0x1234'5000);
  const auto r = riscv::fault_queue_format::encode(f);
  CHECK(r.words[0].get() == (std::uint64_t{disk.raw()} << 40 | std::uint64_t{2} << 34 |
                             std::uint64_t{1} << 32 | 0x12345 << 12 | 21));
  CHECK(r.words[2].get() == 0x1234'5000);
  CHECK(r.words[3].get() == 0x1234'5000);
  // A write without a PASID: PV and PID are 0, whatever the field holds.
  f = fault_of(fault_reason::no_write);
  f.pasid = 0x12345;
  const auto w = riscv::fault_queue_format::encode(f);
  CHECK(w.words[0].get() == (std::uint64_t{disk.raw()} << 40 | std::uint64_t{3} << 34 | 23));
  CHECK(w.words[3].get() == 0x1234'5000);
  // Not a guest page fault: the second value is 0.
  CHECK(riscv::fault_queue_format::encode(fault_of(fault_reason::entry_absent)).words[3].get() ==
        0);
}

TEST_CASE("fault registers fill in turn, overflow, and go on when software has cleared them") {
  vtd::fault_registers<4> registers;
  const auto fault = [&](unsigned n) {
    auto f = fault_of(fault_reason::no_write);
    f.address = std::uint64_t{n} << 12;
    f.code = 5;
    registers.record(f);
  };
  using vtd::fsts;
  CHECK(registers.status().raw == 0);
  CHECK_FALSE(registers.take_event());
  registers.message = {bus_addr{0xfee0'1000}, 0x31};
  fault(1);
  CHECK(registers.status()[fsts::ppf]);
  CHECK(registers.status()[fsts::fri] == 0);
  CHECK(registers.read32(0) == 0x1000);
  CHECK((registers.read32(12) >> 31) == 1);
  CHECK_FALSE(registers.take_event());  // masked after reset
  CHECK((registers.control() >> 30) == 3);
  registers.write_control(0);
  CHECK(*registers.take_event() == pcie::msi_message{bus_addr{0xfee0'1000}, 0x31});
  CHECK_FALSE(registers.take_event());
  fault(2);
  CHECK_FALSE(registers.take_event());  // PPF was set already
  fault(3);
  fault(4);
  CHECK_FALSE(registers.status()[fsts::pfo]);
  fault(5);
  CHECK(registers.status()[fsts::pfo]);
  CHECK(registers.take_event());
  CHECK(registers.read32(0) == 0x1000);  // the first ones are kept

  // Free slots alone do not end the overflow.
  registers.write32(12, 0x8000'0000);
  CHECK(registers.status()[fsts::fri] == 1);
  fault(6);
  CHECK((registers.read32(12) >> 31) == 0);
  registers.write_status(fsts{});  // zeros clear nothing
  CHECK(registers.status()[fsts::pfo]);
  registers.write_status(fsts{}.with(fsts::pfo, true));
  CHECK_FALSE(registers.status()[fsts::pfo]);
  fault(7);
  CHECK(registers.read32(0) == 0x7000);
  CHECK(registers.status()[fsts::fri] == 1);  // the oldest
  for (std::uint32_t i = 0; i != 4; ++i) registers.write32(16 * i + 12, 0x8000'0000);
  CHECK(registers.status().raw == 0);
  // Only F can be written, and only in existing records.
  fault(8);
  for (const std::uint32_t other : {0U, 4U, 8U}) registers.write32(16 + other, 0xffff'ffff);
  registers.write32(64 + 12, 0xffff'ffff);
  CHECK(registers.status()[fsts::ppf]);
  CHECK(registers.read32(16) == 0x8000);
  CHECK(registers.read32(64) == 0);
  // An event whose cause is gone is not sent.
  registers.write_control(0x8000'0000);
  registers.reset();
  fault(9);
  registers.write32(12, 0x8000'0000);
  registers.write_control(0);
  CHECK_FALSE(registers.take_event());
}

TEST_CASE("AMD's log and RISC-V's queue keep an entry empty, and stop at an overflow") {
  const auto check = [](auto& r) {
    CHECK_FALSE(r.queue.take_event());
    for (unsigned n = 1; n <= 7; ++n) r.fault(n);
    CHECK(r.queue.take_event());
    CHECK_FALSE(r.queue.overflow());
    r.fault(8);
    CHECK(r.queue.overflow());
    CHECK(r.queue.lost() == 1);
    CHECK(r.read_all() == 0x123'4567);
    r.fault(9);  // there are free slots, but the overflow was not acknowledged
    CHECK(r.read_all() == 0);
    r.queue.clear_overflow();
    r.fault(10);
    r.fault(11);
    CHECK(r.read_all() == 0xab);  // around the end
    CHECK(r.queue.producer() == 1);
    r.queue.disable();
    r.fault(12);
    CHECK(r.read_all() == 0);
  };
  ring<amd::event_log_format> amd_ring;
  check(amd_ring);
  ring<riscv::fault_queue_format> riscv_ring;
  check(riscv_ring);
}

TEST_CASE("SMMUv3's queue uses all entries, and records again as soon as a slot is free") {
  ring<smmuv3::event_queue_format> r;
  for (unsigned n = 1; n <= 9; ++n) r.fault(n);
  CHECK(r.queue.overflow());
  CHECK(r.queue.producer() == 8);  // the turn's bit
  CHECK(r.read_all() == 0x1234'5678);
  r.fault(10);
  CHECK(r.read_all() == 0xa);
  CHECK(r.queue.producer() == 9);
}

TEST_CASE("a ring that is not in memory drops records; indices from the driver are cut to it") {
  ring<amd::event_log_format> r;
  r.queue.enable({0x1000, 3});
  r.fault(1);
  CHECK(r.queue.broken());
  CHECK(r.queue.lost() == 1);
  r.queue.clear_broken();
  CHECK_FALSE(r.queue.broken());
  r.queue.enable(r.place);
  r.queue.set_consumer(0xffff'fff0);
  r.queue.set_producer(0xffff'ffff);
  CHECK(r.queue.consumer() == 0);
  CHECK(r.queue.producer() == 7);
  r.fault(1);
  CHECK(r.queue.overflow());
}

TEST_CASE("the history keeps the last faults") {
  fault_history<2> history;
  for (unsigned n = 0; n != 5; ++n) {
    auto f = fault_of(fault_reason::not_mapped);
    f.address = n;
    history.record(f);
  }
  CHECK(history.count() == 5);
  CHECK(history.last().address == 4);
}
