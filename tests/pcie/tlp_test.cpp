// SPDX-License-Identifier: BSL-1.0
// Literal vectors were worked out by hand from the figures of PCIe 5.0, 2.2 (header layouts), tables
// 2-3 (format and type), 2-34 (status), 2-38 (byte count), and 6.20.2 (PASID prefix).
#include <phasebit/pcie/spec/tlp.hpp>
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/pcie/spec/tlp_message.hpp>
#include <phasebit/pcie/spec/tlp_parse.hpp>
#include <phasebit/pcie/spec/tlp_prefix.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <set>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::pcie;

namespace {

using bytes = std::vector<std::byte>;

bytes of(std::initializer_list<int> list) {
  bytes out;
  for (const int b : list) out.push_back(static_cast<std::byte>(b));
  return out;
}

bytes stored(const tlp_header& h) {
  bytes out(h.dwords() * 4);
  CHECK(h.store(out) == out.size());
  return out;
}

// Encodes to the bytes, and the bytes decode to the value.
template <class Request>
void both_ways(const Request& request, const bytes& header, std::size_t data_bytes = 0) {
  CHECK(stored(request.encode()) == header);
  bytes packet = header;
  packet.resize(packet.size() + data_bytes, std::byte{0x5a});
  const auto parsed = parse_tlp(packet);
  REQUIRE(parsed);
  CHECK(parsed->data.size() == data_bytes);
  CHECK(Request::decode(parsed->header) == request);
}

const requester_id nvme{1, 0, 0};

std::string_view refused(const bytes& packet) {
  const auto parsed = parse_tlp(packet);
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == errc::protocol);
  return parsed.error().what;
}

}  // namespace

TEST_CASE("memory requests have the bytes of figures 2-15 and 2-16") {
  both_ways(memory_request::read(nvme, 5, 0x1234'5678, 64),
            of({0x00, 0x00, 0x00, 0x10, 0x01, 0x00, 0x05, 0xff, 0x12, 0x34, 0x56, 0x78}));
  both_ways(memory_request::read(nvme, 5, 0x1'2345'6780, 4),
            of({0x20, 0x00, 0x00, 0x01, 0x01, 0x00, 0x05, 0x0f, 0x00, 0x00, 0x00, 0x01, 0x23, 0x45,
                0x67, 0x80}));
  // One byte, three into its doubleword.
  both_ways(memory_request::write_of(nvme, 0xfee0'0003, 1),
            of({0x40, 0x00, 0x00, 0x01, 0x01, 0x00, 0x00, 0x08, 0xfe, 0xe0, 0x00, 0x00}), 4);
  // Five bytes from two into a doubleword on.
  both_ways(memory_request::write_of(requester_id{2, 1, 0}, 0x80'0000'1002, 5),
            of({0x60, 0x00, 0x00, 0x02, 0x02, 0x08, 0x00, 0x7c, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00,
                0x10, 0x00}),
            8);
  // 1024 doublewords are length 0.
  both_ways(memory_request::read(nvme, 0, 0x1000, 4096),
            of({0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0xff, 0x00, 0x00, 0x10, 0x00}));
  // A flush enables nothing.
  both_ways(memory_request::read(nvme, 0, 0x2000, 0),
            of({0x00, 0x00, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00}));
  memory_request locked = memory_request::read(nvme, 1, 0x2000, 4);
  locked.locked = true;
  both_ways(locked, of({0x01, 0x00, 0x00, 0x01, 0x01, 0x00, 0x01, 0x0f, 0x00, 0x00, 0x20, 0x00}));
}

TEST_CASE("attributes, address types and ten-bit tags have their places in doubleword 0") {
  memory_request r = memory_request::read(nvme, 0x305, 0x1000, 4);
  both_ways(r, of({0x00, 0x88, 0x00, 0x01, 0x01, 0x00, 0x05, 0x0f, 0x00, 0x00, 0x10, 0x00}));
  r = memory_request::read(nvme, 0x100, 0x1000, 4);
  both_ways(r, of({0x00, 0x08, 0x00, 0x01, 0x01, 0x00, 0x00, 0x0f, 0x00, 0x00, 0x10, 0x00}));
  r.tag = 0;
  r.attributes.traffic_class = 5;
  both_ways(r, of({0x00, 0x50, 0x00, 0x01, 0x01, 0x00, 0x00, 0x0f, 0x00, 0x00, 0x10, 0x00}));
  r.attributes = {.id_based_ordering = true};
  both_ways(r, of({0x00, 0x04, 0x00, 0x01, 0x01, 0x00, 0x00, 0x0f, 0x00, 0x00, 0x10, 0x00}));
  r.attributes = {.relaxed_ordering = true};
  both_ways(r, of({0x00, 0x00, 0x20, 0x01, 0x01, 0x00, 0x00, 0x0f, 0x00, 0x00, 0x10, 0x00}));
  r.attributes = {.no_snoop = true};
  both_ways(r, of({0x00, 0x00, 0x10, 0x01, 0x01, 0x00, 0x00, 0x0f, 0x00, 0x00, 0x10, 0x00}));
  r.attributes = {.poisoned = true};
  both_ways(r, of({0x00, 0x00, 0x40, 0x01, 0x01, 0x00, 0x00, 0x0f, 0x00, 0x00, 0x10, 0x00}));
  r.attributes = {};
  r.address_type = tlp_address_type::translated;
  both_ways(r, of({0x00, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x0f, 0x00, 0x00, 0x10, 0x00}));
  // A translation request for one entry is two doublewords long (10.2.2).
  r = memory_request::read(nvme, 0, 0x1000, 8);
  r.address_type = tlp_address_type::translation_request;
  both_ways(r, of({0x00, 0x00, 0x04, 0x02, 0x01, 0x00, 0x00, 0xff, 0x00, 0x00, 0x10, 0x00}));
}

TEST_CASE(
    "I/O, configuration and atomic requests have the bytes of figures 2-17, 2-18 and table 2-3") {
  both_ways(io_request{.write = true, .tag = 9, .address = 0xcf8},
            of({0x42, 0x00, 0x00, 0x01, 0x00, 0x00, 0x09, 0x0f, 0x00, 0x00, 0x0c, 0xf8}), 4);
  both_ways(io_request{.tag = 9, .address = 0xcfc, .enables = 2},
            of({0x02, 0x00, 0x00, 0x01, 0x00, 0x00, 0x09, 0x02, 0x00, 0x00, 0x0c, 0xfc}));
  both_ways(config_request{.tag = 7, .destination = requester_id{2, 0, 0}, .offset = 0x100},
            of({0x04, 0x00, 0x00, 0x01, 0x00, 0x00, 0x07, 0x0f, 0x02, 0x00, 0x01, 0x00}));
  both_ways(config_request{.write = true,
                           .type1 = true,
                           .tag = 8,
                           .destination = requester_id{3, 2, 1},
                           .offset = 4,
                           .enables = 3},
            of({0x45, 0x00, 0x00, 0x01, 0x00, 0x00, 0x08, 0x03, 0x03, 0x11, 0x00, 0x04}), 4);
  both_ways(config_request{.tag = 0, .destination = requester_id{0xff, 31, 7}, .offset = 0xffc},
            of({0x04, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x0f, 0xff, 0xff, 0x0f, 0xfc}));
  both_ways(atomic_request{.requester = nvme, .tag = 2, .address = 0x1004},
            of({0x4c, 0x00, 0x00, 0x01, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, 0x10, 0x04}), 4);
  both_ways(atomic_request{.operation = tlp_type::swap,
                           .requester = nvme,
                           .address = 0x1'0000'0008,
                           .operand_bytes = 8},
            of({0x6d, 0x00, 0x00, 0x02, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00,
                0x00, 0x08}),
            8);
  both_ways(atomic_request{.operation = tlp_type::compare_swap,
                           .requester = nvme,
                           .address = 0x1010,
                           .operand_bytes = 16},
            of({0x4e, 0x00, 0x00, 0x08, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x10}), 32);
}

TEST_CASE("completions have the bytes of figure 2-43 and the status of table 2-34") {
  const requester_id disk{2, 0, 0};
  completion c{.completer = disk, .requester = nvme, .tag = 5};
  c.status = completion_status::unsupported_request;
  both_ways(c, of({0x0a, 0x00, 0x00, 0x00, 0x02, 0x00, 0x20, 0x04, 0x01, 0x00, 0x05, 0x00}));
  c.status = completion_status::configuration_request_retry;
  both_ways(c, of({0x0a, 0x00, 0x00, 0x00, 0x02, 0x00, 0x40, 0x04, 0x01, 0x00, 0x05, 0x00}));
  c.status = completion_status::completer_abort;
  both_ways(c, of({0x0a, 0x00, 0x00, 0x00, 0x02, 0x00, 0x80, 0x04, 0x01, 0x00, 0x05, 0x00}));
  c.status = completion_status::successful;
  c.dwords = 16;
  c.byte_count = 64;
  c.lower_address = 0x78;
  both_ways(c, of({0x4a, 0x00, 0x00, 0x10, 0x02, 0x00, 0x00, 0x40, 0x01, 0x00, 0x05, 0x78}), 64);
  c.byte_count = 4096;
  c.byte_count_modified = true;
  c.tag = 0x205;
  c.locked = true;
  both_ways(c, of({0x4b, 0x80, 0x00, 0x10, 0x02, 0x00, 0x10, 0x00, 0x01, 0x00, 0x05, 0x78}), 64);
  // Reserved status values count as Unsupported Request.
  for (const int reserved : {3, 5, 6, 7}) {
    CHECK(completion_status_of(static_cast<std::uint8_t>(reserved)) ==
          completion_status::unsupported_request);
  }
}

TEST_CASE("messages have the bytes of figure 2-21 and the codes of section 2.2.8") {
  both_ways(message{.routing = message_routing::broadcast, .code = message_code::pme_turn_off},
            of({0x33, 0, 0, 0, 0, 0, 0, 0x19, 0, 0, 0, 0, 0, 0, 0, 0}));
  both_ways(
      message{
          .routing = message_routing::local, .code = message_code::assert_inta, .requester = nvme},
      of({0x34, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0}));
  both_ways(message{.code = message_code::error_fatal, .requester = nvme},
            of({0x30, 0, 0, 0, 1, 0, 0, 0x33, 0, 0, 0, 0, 0, 0, 0, 0}));
  both_ways(message{.routing = message_routing::local,
                    .code = message_code::set_slot_power_limit,
                    .dwords = 1},
            of({0x74, 0, 0, 1, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0, 0}), 4);
  // Invalidate Request with ITag 3 to 02:00.0 (10.3.1).
  both_ways(message{.routing = message_routing::by_id,
                    .code = message_code::invalidate_request,
                    .tag = 3,
                    .upper = 0x0200'0000,
                    .dwords = 2},
            of({0x72, 0, 0, 2, 0, 0, 3, 1, 2, 0, 0, 0, 0, 0, 0, 0}), 8);
  // Page Request for the page at 1'2345'6000h, group 7, write and last (10.4.1).
  both_ways(message{.code = message_code::page_request,
                    .requester = nvme,
                    .upper = 1,
                    .lower = 0x2345'6000 | 7U << 3 | 6},
            of({0x30, 0, 0, 0, 1, 0, 0, 4, 0, 0, 0, 1, 0x23, 0x45, 0x60, 0x3e}));
}

TEST_CASE("a PASID prefix has the bytes of section 6.20.2 and stands before its packet") {
  CHECK((pasid_prefix{.pasid = 0xabcde, .execute = true}.encode().raw) == 0x914a'bcde);
  CHECK((pasid_prefix{.pasid = 0xabcde, .privileged = true}.encode().raw) == 0x918a'bcde);
  const auto header = memory_request::read(nvme, 5, 0x1000, 4).encode();
  bytes out(64);
  const pasid_prefix pasid{.pasid = 0x12345, .execute = true, .privileged = true};
  const auto written = write_tlp(out, header, {}, pasid.encode());
  REQUIRE(written);
  out.resize(*written);
  CHECK(out == of({0x91, 0xc1, 0x23, 0x45, 0x00, 0x00, 0x00, 0x01, 0x01, 0x00, 0x05, 0x0f, 0x00,
                   0x00, 0x10, 0x00}));
  const auto parsed = parse_tlp(out);
  REQUIRE(parsed);
  CHECK(parsed->prefix_count() == 1);
  CHECK(parsed->pasid() == pasid);
  CHECK(parsed->header == header);
}

TEST_CASE("a local prefix comes first, and there are at most four from end to end") {
  const bytes read = of({0x00, 0, 0, 1, 1, 0, 5, 0xf, 0, 0, 0x10, 0});
  const auto with = [&](std::initializer_list<int> prefixes) {
    bytes out;
    for (const int first : prefixes) {
      for (const int b : {first, 0, 0, 1}) out.push_back(static_cast<std::byte>(b));
    }
    out.insert(out.end(), read.begin(), read.end());
    return out;
  };
  CHECK(parse_tlp(with({0x80, 0x91})));
  CHECK(parse_tlp(with({0x80, 0x8e, 0x91, 0x90, 0x9e, 0x9f})));
  CHECK(refused(with({0x91, 0x80})) == "a local prefix follows an end-end one");
  CHECK(refused(with({0x91, 0x90, 0x9e, 0x9f, 0x92})) == "more end-end prefixes than four");
  CHECK(refused(with({0x80, 0x80, 0x80})) == "more local prefixes than two");
  CHECK(refused(of({0x91, 0, 0, 1})) == "a packet ends within its header");
}

TEST_CASE("a digest is handed over, and counts in the packet's length") {
  bytes packet =
      of({0x40, 0, 0x80, 1, 1, 0, 0, 0xf, 0, 0, 0x10, 0, 1, 2, 3, 4, 0xde, 0xad, 0xbe, 0xef});
  const auto parsed = parse_tlp(packet);
  REQUIRE(parsed);
  CHECK(parsed->digest == 0xdead'beef);
  CHECK(parsed->data.size() == 4);
  packet.resize(16);
  CHECK(refused(packet) == "a packet's length differs from its header");
  bytes out(64);
  const auto written = write_tlp(out, parsed->header, parsed->data);
  REQUIRE_FALSE(written);
  CHECK(written.error().code == errc::not_supported);
}

TEST_CASE("format and type name exactly the packets of table 2-3") {
  std::set<int> known;
  for (const int t : {0x00, 0x01, 0x40}) {
    known.insert(t);
    known.insert(t | 0x20);
  }
  for (const int t : {0x02, 0x42, 0x04, 0x44, 0x05, 0x45, 0x0a, 0x4a, 0x0b, 0x4b}) known.insert(t);
  for (const int t : {0x4c, 0x4d, 0x4e, 0x6c, 0x6d, 0x6e}) known.insert(t);
  for (int r = 0; r != 8; ++r) {
    known.insert(0x30 | r);
    known.insert(0x70 | r);
  }
  for (int first = 0; first != 256; ++first) {
    if (first >> 5 == 4) continue;  // a prefix
    tlp_header h{};
    const bool compares = (first & 31) == 0x0e;
    h.dw[0] = static_cast<std::uint32_t>(first) << 24 | (compares ? 2 : 1);
    h.dw[1] = 0x0f;
    CHECK_MESSAGE(tlp_check(h).has_value() == known.contains(first), first);
  }
}

TEST_CASE("byte enables cover the bytes asked for, and count them as table 2-38 does") {
  for (unsigned at = 0; at != 64; ++at) {
    for (unsigned length = 0; length != 130; ++length) {
      const byte_enables e = byte_enables::of(0x1000 + at, length);
      // The bytes that the enables mean, one by one.
      std::vector<unsigned> meant;
      const unsigned base = at & ~3U;
      for (unsigned d = 0; d != e.dwords; ++d) {
        const unsigned mask = d == 0 ? e.first : d + 1U == e.dwords ? e.last : 0xf;
        for (unsigned b = 0; b != 4; ++b) {
          if ((mask >> b & 1) != 0) meant.push_back(base + d * 4 + b);
        }
      }
      REQUIRE(meant.size() == length);
      if (length == 0) {
        CHECK(e == byte_enables{.dwords = 1});
        CHECK(e.byte_count() == 1);
        continue;
      }
      CHECK(meant.front() == at);
      CHECK(meant.back() == at + length - 1);
      CHECK(e.byte_count() == length);
      CHECK(e.skipped_bytes() == at % 4);
    }
  }
  // Rows of table 2-38 with holes.
  CHECK(byte_enables{1, 0b1001, 0}.byte_count() == 4);
  CHECK(byte_enables{1, 0b0101, 0}.byte_count() == 3);
  CHECK(byte_enables{1, 0b1010, 0}.byte_count() == 3);
  CHECK(byte_enables{2, 0b0001, 0b1000}.byte_count() == 8);
  CHECK(byte_enables{2, 0b0010, 0b0001}.byte_count() == 4);
}

TEST_CASE("byte enables that the specification forbids make a packet malformed") {
  // An oracle that looks at the bits as one row: any number in one doubleword; in two aligned ones
  // both must have some; else one run that reaches across.
  for (unsigned length = 1; length != 5; ++length) {
    for (unsigned aligned = 0; aligned != 2; ++aligned) {
      for (unsigned enables = 0; enables != 256; ++enables) {
        tlp_header h{};
        h.dw[0] = length;
        h.dw[1] = enables;
        h.dw[2] = aligned != 0 ? 0x1000 : 0x1004;
        const unsigned first = enables & 15;
        const unsigned last = enables >> 4;
        bool allowed = false;
        if (length == 1) {
          allowed = last == 0;
        } else if (first != 0 && last != 0) {
          std::uint32_t row = first;
          for (unsigned d = 1; d + 1 < length; ++d) row |= 0xfU << d * 4;
          row |= last << (length - 1) * 4;
          while ((row & 1) == 0) row >>= 1;
          allowed = (row & (row + 1)) == 0 || (length == 2 && aligned != 0);
        }
        CHECK_MESSAGE(tlp_check(h).has_value() == allowed, length, " ", aligned, " ", enables);
      }
    }
  }
}

TEST_CASE("packets against one rule each are refused") {
  CHECK(refused(of({0x00})) == "a packet is not whole doublewords");
  CHECK(refused({}) == "a packet ends within its header");
  CHECK(refused(of({0x20, 0, 0, 1, 0, 0, 0, 0xf, 0, 0, 0, 0})) ==
        "a packet ends within its header");
  CHECK(refused(of({0x00, 0, 0, 2, 0, 0, 0, 0xff, 0, 0, 0x0f, 0xfc})) ==
        "a memory request crosses a 4 KiB boundary");
  CHECK(refused(of({0x00, 0, 0x0c, 1, 0, 0, 0, 0xf, 0, 0, 0, 0})) ==
        "the address type is reserved");
  CHECK(refused(of({0x04, 0, 0, 2, 0, 0, 0, 0xf, 0, 0, 0, 0})) ==
        "an I/O or configuration request is one doubleword");
  CHECK(refused(of({0x04, 0x10, 0, 1, 0, 0, 0, 0xf, 0, 0, 0, 0})) ==
        "an I/O or configuration request is of traffic class 0");
  CHECK(refused(of({0x04, 0, 0, 1, 0, 0, 0, 0xff, 0, 0, 0, 0})) ==
        "a request of one doubleword enables bytes of a last");
  CHECK(refused(of({0x4c, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})) ==
        "an atomic request has an operand of no known size");
  CHECK(refused(of({0x4c, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0})) ==
        "the operand of an atomic request is not naturally aligned");
  CHECK(refused(of({0x10, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0})) ==
        "a message's header has four doublewords");
  CHECK(refused(of({0xe0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0})) ==
        "the format is none of a header");
  CHECK(refused(of({0x40, 0, 0, 2, 0, 0, 0, 0xff, 0, 0, 0, 0, 1, 2, 3, 4})) ==
        "a packet's length differs from its header");
  CHECK(refused(of({0x00, 0, 0, 1, 0, 0, 0, 0xf, 0, 0, 0, 0, 1, 2, 3, 4})) ==
        "a packet's length differs from its header");
}

TEST_CASE("a read with processing hints means all its bytes: the enables are a steering tag") {
  const bytes hinted = of({0x00, 0x01, 0, 4, 1, 0, 5, 0x29, 0, 0, 0x10, 0x02});
  const auto parsed = parse_tlp(hinted);
  REQUIRE(parsed);
  const auto r = memory_request::decode(parsed->header);
  CHECK(r.enables == byte_enables{4, 0xf, 0xf});
  CHECK(r.address == 0x1000);
}

TEST_CASE("a request is completed with the byte count and lower address of section 2.3.1.1") {
  const requester_id disk{2, 0, 0};
  auto c = complete(memory_request::read(nvme, 0x305, 0x1000'107e, 5).encode(), disk,
                    completion_status::successful);
  CHECK(c == completion{.completer = disk,
                        .requester = nvme,
                        .tag = 0x305,
                        .dwords = 2,
                        .byte_count = 5,
                        .lower_address = 0x7e});
  c = complete(memory_request::read(nvme, 1, 0x1000, 4096).encode(), disk,
               completion_status::unsupported_request);
  CHECK(c.dwords == 0);
  CHECK(c.byte_count == 4096);
  c = complete(config_request{.requester = nvme, .tag = 3, .destination = disk}.encode(), disk,
               completion_status::successful);
  CHECK(c.dwords == 1);
  CHECK(c.byte_count == 4);
  c = complete(config_request{.write = true, .requester = nvme, .destination = disk}.encode(), disk,
               completion_status::successful);
  CHECK(c.dwords == 0);
  CHECK(c.byte_count == 4);
  c = complete(atomic_request{.operation = tlp_type::compare_swap,
                              .requester = nvme,
                              .address = 0x1008,
                              .operand_bytes = 8}
                   .encode(),
               disk, completion_status::successful);
  CHECK(c.dwords == 2);
  CHECK(c.byte_count == 8);
  CHECK(c.lower_address == 0);
}

TEST_CASE("fields of a header are exchanged without touching the others") {
  std::mt19937_64 random{7};
  for (int i = 0; i != 20000; ++i) {
    const std::uint64_t where = (random() & ~std::uint64_t{0xfff}) >> (random() % 64);
    memory_request r = memory_request::read(requester_id{static_cast<std::uint16_t>(random())},
                                            static_cast<std::uint16_t>(random() % 1024),
                                            where & ~std::uint64_t{0xfff}, 1 + random() % 4096);
    r.attributes.traffic_class = static_cast<std::uint8_t>(random() % 8);
    r.attributes.no_snoop = random() % 2 != 0;
    tlp_header h = r.encode();
    CHECK(tlp_check(h));
    CHECK(memory_request::decode(h) == r);
    r.requester = requester_id{static_cast<std::uint16_t>(random())};
    h.set_requester(r.requester);
    r.address = (random() >> (random() % 64)) & ~std::uint64_t{0xfff};
    h.set_address(r.address);
    r.tag = static_cast<std::uint16_t>(random() % 1024);
    h.set_tag(r.tag);
    CHECK(h == r.encode());
    CHECK(h.dwords() == (r.address >> 32 != 0 ? 4 : 3));

    completion c = complete(h, requester_id{1}, completion_status::successful);
    tlp_header a = c.encode();
    c.requester = requester_id{static_cast<std::uint16_t>(random())};
    a.set_requester(c.requester);
    c.tag = static_cast<std::uint16_t>(random() % 1024);
    a.set_tag(c.tag);
    c.completer = requester_id{static_cast<std::uint16_t>(random())};
    a.set_completer(c.completer);
    CHECK(a == c.encode());
    CHECK(completion::decode(a) == c);
  }
}

TEST_CASE("which requests are posted, and which are routed by an address") {
  CHECK(memory_request::write_of(nvme, 0, 4).encode().is_posted());
  CHECK(message{}.encode().is_posted());
  CHECK_FALSE(memory_request::read(nvme, 0, 0, 4).encode().is_posted());
  CHECK_FALSE(io_request{.write = true}.encode().is_posted());
  CHECK_FALSE(config_request{.write = true}.encode().is_posted());
  CHECK_FALSE(atomic_request{}.encode().is_posted());
  CHECK(memory_request::write_of(nvme, 0, 4).encode().has_address());
  CHECK(io_request{}.encode().has_address());
  CHECK(atomic_request{}.encode().has_address());
  CHECK_FALSE(config_request{}.encode().has_address());
  CHECK_FALSE(completion{}.encode().has_address());
  CHECK_FALSE(message{}.encode().has_address());
}
