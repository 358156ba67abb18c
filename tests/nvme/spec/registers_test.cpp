// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/memory_registers.hpp>
#include <phasebit/nvme/spec/registers.hpp>

#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit::nvme;

TEST_CASE("the capabilities of a controller are decoded into bytes and milliseconds") {
  // 2048 entries, contiguous, 7.5 s, NVM and further command sets, pages of 4 to 64 KiB.
  const cap caps{0x0040'0820'0f01'07ffULL};
  CHECK(caps[cap::mqes] == 2047);
  CHECK(caps.max_queue_entries() == 2048);
  CHECK(caps[cap::cqr]);
  CHECK(caps.ready_timeout_ms() == 7500);
  CHECK(caps[cap::dstrd] == 0);
  CHECK(caps[cap::css_nvm]);
  CHECK(caps[cap::css_iocs]);
  CHECK_FALSE(caps[cap::css_none]);
  CHECK(caps.min_page_bytes() == 4096);
  CHECK(caps.max_page_bytes() == 65536);
  CHECK_FALSE(caps[cap::cmbs]);
}

TEST_CASE("the largest queue of a controller with MQES FFFFh has 65536 entries") {
  CHECK(cap{0xffff}.max_queue_entries() == 65536);
}

TEST_CASE("each field of CAP lies at the bits that the specification prints") {
  CHECK(cap::cqr.mask<std::uint64_t> == std::uint64_t{1} << 16);
  CHECK(cap::ams_wrr.mask<std::uint64_t> == std::uint64_t{1} << 17);
  CHECK(cap::to.mask<std::uint64_t> == std::uint64_t{0xff} << 24);
  CHECK(cap::dstrd.mask<std::uint64_t> == std::uint64_t{0xf} << 32);
  CHECK(cap::nssrs.mask<std::uint64_t> == std::uint64_t{1} << 36);
  CHECK(cap::css.mask<std::uint64_t> == std::uint64_t{0xff} << 37);
  CHECK(cap::bps.mask<std::uint64_t> == std::uint64_t{1} << 45);
  CHECK(cap::cps.mask<std::uint64_t> == std::uint64_t{3} << 46);
  CHECK(cap::pmrs.mask<std::uint64_t> == std::uint64_t{1} << 56);
  CHECK(cap::cmbs.mask<std::uint64_t> == std::uint64_t{1} << 57);
  CHECK(cap::crwms.mask<std::uint64_t> == std::uint64_t{1} << 59);
  CHECK(cap::crims.mask<std::uint64_t> == std::uint64_t{1} << 60);
}

TEST_CASE("CC as a host writes it to start a controller is the well-known 00460001h") {
  const auto start = cc{}.with(cc::en, true).with(cc::iosqes, 6).with(cc::iocqes, 4);
  CHECK(start.raw == 0x0046'0001U);
  CHECK(start.page_bytes() == 4096);
  CHECK(start.with(cc::shn, shutdown_notification::normal).raw == 0x0046'4001U);
  CHECK(start.with(cc::css, command_set_selected::all_supported).raw == 0x0046'0061U);
  CHECK(start.with(cc::mps, 4).page_bytes() == 65536);
}

TEST_CASE("CSTS distinguishes ready, fatal, shutdown and a removed device") {
  CHECK(csts{1}[csts::rdy]);
  CHECK(csts{2}[csts::cfs]);
  CHECK(csts{0x9}[csts::shst] == shutdown_status::complete);
  CHECK(csts{0x5}[csts::shst] == shutdown_status::occurring);
  CHECK(csts{0x10}[csts::nssro]);
  CHECK_FALSE(csts{0x13}.removed());
  CHECK(csts{0xffff'ffff}.removed());
}

TEST_CASE("a version prints as major, minor and tertiary") {
  CHECK(vs::of(1, 4).raw == 0x0001'0400U);
  CHECK(vs::of(2, 0).raw == 0x0002'0000U);
  CHECK(vs{0x0001'0201}[vs::ter] == 1);
}

TEST_CASE("admin queue sizes are written minus one") {
  CHECK(aqa::for_entries(32, 64).raw == 0x003f'001fU);
  CHECK(aqa::for_entries(4096, 4096).raw == 0x0fff'0fffU);
  CHECK(aqa::for_entries(2, 2)[aqa::asqs] == 1);
}

TEST_CASE("doorbells alternate submission and completion, a stride apart") {
  CHECK(submission_doorbell_offset(0, 0) == 0x1000);
  CHECK(completion_doorbell_offset(0, 0) == 0x1004);
  CHECK(submission_doorbell_offset(1, 0) == 0x1008);
  CHECK(completion_doorbell_offset(1, 0) == 0x100c);
  CHECK(submission_doorbell_offset(3, 4) == 0x1000 + 6 * 64);
  CHECK(completion_doorbell_offset(3, 4) == 0x1000 + 7 * 64);
  CHECK(register_bytes(4, 0) == 0x1000 + 5 * 8);
}

TEST_CASE("the last doorbell with the widest stride does not overflow") {
  CHECK(completion_doorbell_offset(65535, 15) == 0x1000 + std::uint64_t{131071} * 131072);
}

TEST_CASE("the controller memory buffer's size is in the unit that SZU encodes") {
  CHECK(cmbsz{}.with(cmbsz::sz, 16).bytes() == 65536);
  CHECK(cmbsz{}.with(cmbsz::sz, 4).with(cmbsz::szu, 2).bytes() == 4 * 1048576);
  CHECK(cmbsz{}.with(cmbsz::sz, 1).with(cmbsz::szu, 6).bytes() == std::uint64_t{64} << 30);
}

TEST_CASE("a reserved unit of the controller memory buffer counts as no buffer") {
  CHECK(cmbsz{0xffff'ffff}.bytes() == 0);
  CHECK(cmbsz{}.with(cmbsz::sz, 1).with(cmbsz::szu, 7).bytes() == 0);
}
