// SPDX-License-Identifier: BSL-1.0
// Bytes that a hostile link partner sent as one TLP. An accepted packet decodes to a value that
// encodes to a packet which decodes to the same value; a completion goes to the requester.
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/pcie/spec/tlp_message.hpp>
#include <phasebit/pcie/spec/tlp_parse.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

using namespace phasebit;
using namespace phasebit::pcie;

namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

template <class Value>
void same_again(const tlp_header& h) {
  const Value value = Value::decode(h);
  const tlp_header again = value.encode();
  must(tlp_check(again).has_value());
  must(Value::decode(again) == value);
}

void decode(const tlp& packet) {
  const tlp_header& h = packet.header;
  must(packet.data.size() == h.data_bytes());
  switch (h.type()) {
    case tlp_type::memory:
    case tlp_type::memory_read_locked:
      // A steering tag in place of the byte enables is decoded, but not encoded.
      same_again<memory_request>(h);
      must(memory_request::decode(h).enables.byte_count() <= h.length() * 4);
      break;
    case tlp_type::io:
      same_again<io_request>(h);
      break;
    case tlp_type::config0:
    case tlp_type::config1:
      same_again<config_request>(h);
      must(config_request::decode(h).offset < 4096);
      break;
    case tlp_type::completion:
    case tlp_type::completion_locked:
      same_again<completion>(h);
      break;
    case tlp_type::message:
      same_again<message>(h);
      break;
    default:
      same_again<atomic_request>(h);
      break;
  }
  if (!h.is_posted() && !h.is_completion()) {
    const completion c = complete(h, requester_id{1}, completion_status::successful);
    must(c.requester == h.requester() && c.tag == h.tag());
    must(c.byte_count >= 1 && c.byte_count <= 4096 && c.dwords <= 1024);
    must(tlp_check(c.encode()).has_value());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes = std::as_bytes(std::span{data, size});
  const auto packet = parse_tlp(bytes.first(size & ~std::size_t{3}));
  if (!packet) {
    must(packet.error().code == errc::protocol);
    return 0;
  }
  decode(*packet);
  (void)packet->pasid();
  static std::array<std::byte, 8192> out;
  const auto written = write_tlp(out, packet->header, packet->data);
  if (packet->digest) {
    must(!written);
    return 0;
  }
  must(written.has_value());
  const auto again = parse_tlp(std::span{out}.first(*written));
  must(again.has_value() && again->header == packet->header);
  return 0;
}
