// SPDX-License-Identifier: BSL-1.0
// The DSA driver against the simulated device; no hardware was seen. Layouts against linux/idxd.h.
#include <phasebit/accel/dsa/descriptor.hpp>
#include <phasebit/accel/dsa/device.hpp>
#include <phasebit/accel/dsa/driver.hpp>
#include <phasebit/accel/execution.hpp>
#include <phasebit/memory/region_map.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#if __has_include(<linux/idxd.h>)
#  include <linux/idxd.h>
#endif

using namespace phasebit;
using namespace phasebit::accel;
using namespace phasebit::accel::dsa;

namespace {

struct machine {
  alignas(4096) std::array<std::byte, 32768> bytes{};
  local_dma<4> map;
  simulated_device<local_dma<4>> device{map};
  std::span<completion_record, 32> records{reinterpret_cast<completion_record*>(bytes.data()), 32};
  work_queue_engine<simulated_device<local_dma<4>>, 32> engine{device, records, 0x10000};

  machine() {
    std::mt19937 r{4};
    for (auto& b : bytes) b = static_cast<std::byte>(r());
    // Two regions that adjoin on the bus and not here: ranges are cut between them.
    REQUIRE(map.add({bus_addr{0x10000}, 8192, bytes.data()}));
    REQUIRE(map.add({bus_addr{0x12000}, 8192, bytes.data() + 16384}));
  }
  std::byte& at(std::uint64_t bus) {
    return bus < 0x12000 ? bytes[bus - 0x10000] : bytes[bus - 0x12000 + 16384];
  }
};
static_assert(Engine<decltype(machine::engine)> && Portal<simulated_device<local_dma<4>>>);

constexpr domain_id bus{0};
domain_segment seg(std::uint64_t address, std::uint64_t n) { return {address, n, bus}; }

template <class Sequence>
outcome run(machine& m, Sequence& s) {
  domain_table<> domains;
  execution e{s, m.engine, domains};
  REQUIRE(e.start(0x13000, 4096, 0));
  for (int turns = 0; !e.poll() && turns != 1000; ++turns) m.device.step();
  REQUIRE(e.finished());
  return e.result_of_run();
}

}  // namespace

#if __has_include(<linux/idxd.h>)
TEST_CASE("descriptors and records have the layout and the numbers of linux/idxd.h") {
  static_assert(sizeof(::dsa_hw_desc) == sizeof(descriptor));
  static_assert(sizeof(::dsa_completion_record) == sizeof(completion_record));
  ::dsa_hw_desc theirs{};
  theirs.flags = IDXD_OP_FLAG_FENCE | IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR;
  theirs.opcode = DSA_OPCODE_DIF_UPDT;
  theirs.completion_addr = 0x1111;
  theirs.src_addr = 0x2222;
  theirs.dst_addr = 0x3333;
  theirs.xfer_size = 0x4444;
  theirs.dif_upd_flags = 2;
  theirs.src_ref_tag_seed = 0x55555555;
  theirs.src_app_tag_mask = 0x6666;
  theirs.src_app_tag_seed = 0x7777;
  theirs.dest_ref_tag_seed = 0x88888888;
  theirs.dest_app_tag_seed = 0x9999;
  descriptor ours{};
  ours.flags_and_opcode =
      descriptor::flags.of<std::uint32_t>(flag_fence | flag_completion_address_valid |
                                          flag_request_completion) |
      descriptor::code.of<std::uint32_t>(static_cast<std::uint8_t>(opcode::dif_update));
  ours.completion_address = 0x1111;
  ours.source = 0x2222;
  ours.destination = 0x3333;
  ours.transfer_size = 0x4444;
  put(ours, dif_flags_offset, std::uint8_t{2});
  put(ours, dif_check_reference_offset, std::uint32_t{0x55555555});
  put(ours, dif_check_mask_offset, std::uint16_t{0x6666});
  put(ours, dif_check_tag_offset, std::uint16_t{0x7777});
  put(ours, dif_insert_reference_offset, std::uint32_t{0x88888888});
  put(ours, dif_insert_tag_offset, std::uint16_t{0x9999});
  CHECK(std::memcmp(&theirs, &ours, 64) == 0);

  CHECK(offsetof(::dsa_hw_desc, crc_seed) == offsetof(descriptor, specific) + crc_seed_offset);
  CHECK(offsetof(::dsa_hw_desc, chk_ref_tag_seed) ==
        offsetof(descriptor, specific) + dif_check_reference_offset);
  CHECK(offsetof(::dsa_hw_desc, ins_ref_tag_seed) ==
        offsetof(descriptor, specific) + dif_insert_reference_offset);
  CHECK(offsetof(::dsa_completion_record, crc_val) == offsetof(completion_record, crc));
  CHECK(offsetof(::dsa_completion_record, bytes_completed) ==
        offsetof(completion_record, bytes_completed));
  CHECK(static_cast<int>(opcode::copy_with_crc) == DSA_OPCODE_COPY_CRC);
  CHECK(static_cast<int>(opcode::dif_check) == DSA_OPCODE_DIF_CHECK);
  CHECK(static_cast<int>(opcode::dif_strip) == DSA_OPCODE_DIF_STRP);
  CHECK(static_cast<int>(opcode::compare) == DSA_OPCODE_COMPARE);
  CHECK(static_cast<int>(completion_status::dif_error) == DSA_COMP_DIF_ERR);
  CHECK(static_cast<int>(completion_status::page_fault) == DSA_COMP_PAGE_FAULT_NOBOF);
  CHECK(static_cast<int>(completion_status::batch_failed) == DSA_COMP_BATCH_FAIL);
  CHECK(static_cast<int>(completion_status::unsupported_opcode) == DSA_COMP_BAD_OPCODE);
  CHECK(static_cast<int>(completion_status::overlapping_buffers) == DSA_COMP_OVERLAP_BUFFERS);
  CHECK(static_cast<int>(completion_status::list_alignment) == DSA_COMP_DESCLIST_ALIGN);
}
#endif

TEST_CASE("each DSA operation does what the software does, across a region's end") {
  machine m;
  sequence<16> s;
  const std::uint64_t a = 0x11f00;  // crosses 0x12000
  std::vector<std::byte> data;
  for (std::uint64_t k = 0; k != 512; ++k) data.push_back(m.at(a + k));
  CHECK(s.copy(seg(0x10800, 512), seg(a, 512)));
  const auto sum = *s.crc32c(seg(a, 512), 7);
  CHECK(s.dif_insert(seg(0x11000, 520), seg(a, 512), {.reference_tag = 5, .application_tag = 6}));
  const auto good = *s.dif_verify(seg(0x11000, 520), {.reference_tag = 5, .application_tag = 6});
  CHECK(s.dif_update(seg(0x12800, 520), seg(0x11000, 520),
                     {.reference_tag = 5, .application_tag = 6}, 9, 10));
  CHECK(s.dif_strip(seg(0x12c00, 512), seg(0x12800, 520),
                    {.reference_tag = 9, .application_tag = 10}));
  const auto equal = *s.compare(seg(0x12c00, 512), seg(0x10800, 512));
  CHECK(s.fill(seg(0x10400, 20), 0x0807060504030201));
  CHECK(run(m, s).good);
  CHECK(s.result_of(sum).value == crc32c(data, 7));
  CHECK(s.result_of(good).good());
  CHECK(s.result_of(equal).good());
  CHECK(m.at(0x12c00 + 511) == data[511]);
  CHECK(m.at(0x10400 + 19) == std::byte{4});
}

TEST_CASE("copy with CRC is one descriptor, and planning fuses into it") {
  machine m;
  sequence<> s;
  const auto sum = *s.crc32c(seg(0x10800, 100));
  CHECK(s.copy(seg(0x11000, 100), seg(0x10800, 100)));
  target where;
  where.fusions = dsa_fusions;
  CHECK(plan(s, where));
  CHECK(s.size() == 1);
  CHECK(run(m, s).good);
  std::vector<std::byte> data;
  for (std::uint64_t k = 0; k != 100; ++k) data.push_back(m.at(0x11000 + k));
  CHECK(s.result_of(sum).value == crc32c(data));
}

TEST_CASE("a mismatch, a bad block and a page fault come back as what they are") {
  machine m;
  sequence<> s;
  const auto differ = *s.compare(seg(0x10800, 64), seg(0x10900, 64));
  m.at(0x10800) = m.at(0x10900);
  m.at(0x10801) = static_cast<std::byte>(~std::to_integer<unsigned>(m.at(0x10901)));
  CHECK(run(m, s).status == step_status::mismatch);
  CHECK(s.result_of(differ).value == 1);

  sequence<> d;
  CHECK(d.dif_insert(seg(0x12000, 1560), seg(0x10800, 1536), {}));
  CHECK(run(m, d).good);
  m.at(0x12000 + 520 + 519) ^= std::byte{1};
  sequence<> v;
  const auto bad = *v.dif_verify(seg(0x12000, 1560), {});
  CHECK(run(m, v).status == step_status::reference_tag_error);
  CHECK(v.result_of(bad).value == 1);

  sequence<> f;
  CHECK(f.copy(seg(0x13f00, 512), seg(0x10800, 512)));
  const outcome o = run(m, f);
  CHECK(o.status == step_status::engine_error);
  CHECK(o.code == errc::not_mapped);
}

TEST_CASE("what DSA cannot do is refused by name before it is submitted") {
  machine m;
  const auto refused = [&](auto build) {
    sequence<> s;
    build(s);
    return describe(s[0], s[0].with, s.sources(s[0]), s.destinations(s[0])).error().code;
  };
  CHECK(refused([](sequence<>& s) { CHECK(s.encrypt(seg(0, 512), seg(512, 512), {})); }) ==
        errc::not_supported);
  CHECK(refused([](sequence<>& s) {
          const std::array two{seg(0, 8), seg(100, 8)};
          CHECK(s.crc32c(two));
        }) == errc::not_supported);
  CHECK(refused([](sequence<>& s) {
          CHECK(s.dif_verify(seg(0, 4112), {.block_bytes = 4096, .guard = guard_format::bits32}));
        }) == errc::not_supported);
  CHECK(refused([](sequence<>& s) { CHECK(s.dif_verify(seg(0, 1032), {.block_bytes = 1024})); }) ==
        errc::not_supported);
  CHECK(refused([](sequence<>& s) { CHECK(s.dif_verify(seg(0, 520), {.type = 3})); }) ==
        errc::not_supported);
  CHECK(refused([](sequence<>& s) {
          CHECK(s.copy(seg(std::uint64_t{1} << 33, std::uint64_t{1} << 32),
                       seg(0, std::uint64_t{1} << 32)));
        }) == errc::out_of_range);
}

TEST_CASE("a sequence is one batch whose dependent descriptors are fenced") {
  machine m;
  sequence<> s;
  CHECK(s.copy(seg(0x10800, 64), seg(0x10900, 64)));
  CHECK(s.fill(seg(0x10a00, 64), 0));
  CHECK(s.crc32c(seg(0x10800, 64)));
  alignas(64) std::array<descriptor, 4> list{};
  CHECK(*make_batch(s, {}, list, 0x10000 + 64) == 3);
  CHECK((list[1].flags_and_opcode.get() & flag_fence) == 0);
  CHECK((list[2].flags_and_opcode.get() & flag_fence) != 0);
  std::memcpy(m.bytes.data() + 0x400, list.data(), sizeof list);
  descriptor d{};
  d.flags_and_opcode =
      descriptor::flags.of<std::uint32_t>(flag_completion_address_valid | flag_request_completion) |
      descriptor::code.of<std::uint32_t>(static_cast<std::uint8_t>(opcode::batch));
  d.source = 0x10400;
  d.transfer_size = 3;
  d.completion_address = 0x10000;
  CHECK(m.device.submit(d));
  CHECK(m.device.step());
  CHECK(m.records[0].status == 1);
  CHECK(m.records[2].status == 1);
  CHECK(m.at(0x10a00 + 63) == std::byte{0});
  CHECK(m.records[4].crc.get() != 0);
  CHECK(make_batch(s, {}, std::span{list}.first(2), 0).error().code == errc::exhausted);

  const auto status = [&](auto change) {
    descriptor e = d;
    change(e);
    CHECK(m.device.submit(e));
    CHECK(m.device.step());
    return static_cast<completion_status>(m.records[0].status);
  };
  CHECK(status([](descriptor& e) { e.transfer_size = 1; }) ==
        completion_status::invalid_descriptor_count);
  CHECK(status([](descriptor& e) { e.transfer_size = 33; }) ==
        completion_status::invalid_descriptor_count);
  CHECK(status([](descriptor& e) { e.source = 0x10401; }) == completion_status::list_alignment);
  CHECK(status([](descriptor& e) { e.source = 0x13fc0; }) == completion_status::page_fault);
  CHECK(status([](descriptor& e) { e.flags_and_opcode = e.flags_and_opcode.get() | 0x100000; }) ==
        completion_status::invalid_flags);
  // A batch in a batch is not carried out: the outer one fails, and ends.
  std::memcpy(m.bytes.data() + 0x400, &d, sizeof d);
  CHECK(status([](descriptor&) {}) == completion_status::batch_failed);
}

TEST_CASE("random descriptors from a hostile driver never leave the device's memory") {
  machine m;
  std::mt19937_64 r{9};
  std::array<std::byte, 4096> guard{};
  std::memcpy(guard.data(), m.bytes.data() + 8192, 4096);  // not mapped on the bus
  for (int k = 0; k != 200'000; ++k) {
    descriptor d{};
    auto* raw = reinterpret_cast<std::uint8_t*>(&d);
    for (std::size_t i = 0; i != sizeof d; ++i) raw[i] = static_cast<std::uint8_t>(r());
    d.flags_and_opcode = static_cast<std::uint32_t>(r() % 16 | (r() % 0x17) << 24);
    d.source = 0xff00 + r() % 0x4200;
    d.destination = 0xff00 + r() % 0x4200;
    if (r() % 4 == 0) d.source = r();
    d.transfer_size = static_cast<std::uint32_t>(r() % 3 == 0 ? r() : r() % 2100);
    d.completion_address = 0x10000 + 32 * (r() % 600);
    REQUIRE(m.device.submit(d));
    REQUIRE(m.device.step());
  }
  CHECK(std::memcmp(guard.data(), m.bytes.data() + 8192, 4096) == 0);
}
