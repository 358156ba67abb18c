// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>

#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;

TEST_CASE("a read of 64 blocks encodes 63 on the wire") {
  const auto e = nvm::read({.nsid = 1, .lba = 0x1'2345'6789, .blocks = 64});
  CHECK(e.cdw0 == 0x02U);
  CHECK(e.nsid == 1U);
  CHECK(e.cdw10 == 0x2345'6789U);
  CHECK(e.cdw11 == 0x1U);
  CHECK(e.cdw12 == 63U);
  CHECK(e.cdw13 == 0U);
  CHECK(e.cdw14 == 0U);
  CHECK(e.cdw15 == 0U);
  CHECK(e.mptr == 0U);
  CHECK(e.prp1 == 0U);
}

TEST_CASE("a command is for one block by default, and for 65536 at most") {
  CHECK(nvm::write({.nsid = 1}).cdw12 == 0U);
  CHECK(nvm::write({.nsid = 1, .blocks = 65536}).cdw12 == 0xffffU);
}

TEST_CASE("options of a write lie in the upper bits of CDW12 and in CDW13 to CDW15") {
  const auto e = nvm::write({.nsid = 9,
                             .lba = 1,
                             .blocks = 2,
                             .fua = true,
                             .limited_retry = true,
                             .pi = {.action = true, .check_reference = true},
                             .reference_tag = 0xdead'beef,
                             .application_tag = 0x1234,
                             .application_mask = 0xff00,
                             .hint = 0x83});
  CHECK(e.cdw0 == 0x01U);
  CHECK(e.cdw12 == 0xe400'0001U);
  CHECK(e.cdw13 == 0x83U);
  CHECK(e.cdw14 == 0xdead'beefU);
  CHECK(e.cdw15 == 0xff00'1234U);
}

TEST_CASE("each protection flag has the bit that the specification gives it") {
  CHECK(nvm::read({.pi = {.action = true}}).cdw12 == 1U << 29);
  CHECK(nvm::read({.pi = {.check_guard = true}}).cdw12 == 1U << 28);
  CHECK(nvm::read({.pi = {.check_application = true}}).cdw12 == 1U << 27);
  CHECK(nvm::read({.pi = {.check_reference = true}}).cdw12 == 1U << 26);
  CHECK(nvm::read({.fua = true}).cdw12 == 1U << 30);
  CHECK(nvm::read({.limited_retry = true}).cdw12 == 1U << 31);
}

TEST_CASE("what a host asks of a block range is what a controller reads") {
  for (unsigned pi = 0; pi != 16; ++pi) {
    const block_range asked{.nsid = 3,
                            .lba = ~std::uint64_t{0},
                            .blocks = 65536 - pi,
                            .fua = (pi & 1U) != 0,
                            .limited_retry = (pi & 2U) != 0,
                            .pi = prinfo::of(pi),
                            .reference_tag = 0x8000'0001,
                            .application_tag = 0xfffe,
                            .application_mask = 0x0ff0,
                            .hint = 0xff};
    const auto read = block_range_of(nvm::compare(asked));
    CHECK(read.nsid == asked.nsid);
    CHECK(read.lba == asked.lba);
    CHECK(read.blocks == asked.blocks);
    CHECK(read.fua == asked.fua);
    CHECK(read.limited_retry == asked.limited_retry);
    CHECK(read.pi.bits() == pi);
    CHECK(read.reference_tag == asked.reference_tag);
    CHECK(read.application_tag == asked.application_tag);
    CHECK(read.application_mask == asked.application_mask);
    CHECK(read.hint == asked.hint);
  }
}

TEST_CASE("the other commands on a block range differ in their opcode") {
  const block_range r{.nsid = 1, .lba = 7, .blocks = 8};
  CHECK(nvm::compare(r).cdw0 == 0x05U);
  CHECK(nvm::verify(r).cdw0 == 0x0cU);
  CHECK(nvm::write_zeroes(r).cdw0 == 0x08U);
  CHECK(nvm::write_zeroes(r).cdw12 == 7U);
  CHECK(nvm::write_zeroes(r, true).cdw12 == 0x0200'0007U);
  CHECK(nvm::write_uncorrectable(r).cdw0 == 0x04U);
  CHECK(nvm::write_uncorrectable(r).cdw12 == 7U);
  CHECK(nvm::flush(all_namespaces).cdw0 == 0U);
  CHECK(nvm::flush(all_namespaces).nsid == 0xffff'ffffU);
}

TEST_CASE("dataset management counts its ranges minus one") {
  const auto e = nvm::dataset_management({.nsid = 1, .ranges = 256, .deallocate = true});
  CHECK(e.cdw0 == 0x09U);
  CHECK(e.cdw10 == 0xffU);
  CHECK(e.cdw11 == 0x4U);
  CHECK(nvm::dataset_management({.integral_read = true, .integral_write = true}).cdw11 == 3U);
}

TEST_CASE("a copy has its destination in CDW10 and CDW11 and two sets of protection flags") {
  const auto e = nvm::copy({.nsid = 2,
                            .lba = 0xa'0000'000b,
                            .ranges = 3,
                            .descriptor_format = 1,
                            .fua = true,
                            .read_pi = {.check_guard = true},
                            .write_pi = {.action = true},
                            .reference_tag = 5,
                            .application_tag = 6,
                            .application_mask = 7});
  CHECK(e.cdw0 == 0x19U);
  CHECK(e.cdw10 == 0xbU);
  CHECK(e.cdw11 == 0xaU);
  CHECK(e.cdw12 == (2U | 1U << 8 | 4U << 12 | 8U << 26 | 1U << 30));
  CHECK(e.cdw14 == 5U);
  CHECK(e.cdw15 == 0x0007'0006U);
}

TEST_CASE("a source range counts its blocks minus one") {
  const auto r = copy_range::of(100, 65536);
  CHECK(r.lba == 100U);
  CHECK(r.nlb == 0xffffU);
  CHECK(r.reference_tag == 0U);
}

// Builders work at compile time.
static_assert(nvm::read({.nsid = 1, .lba = 0, .blocks = 64}).cdw12 == 63U);
static_assert(block_range_of(nvm::write({.nsid = 1, .blocks = 8})).blocks == 8);
