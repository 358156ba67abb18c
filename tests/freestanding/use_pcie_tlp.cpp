// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/pcie/spec/tlp_message.hpp>
#include <phasebit/pcie/spec/tlp_parse.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;

extern "C" std::size_t use_tlp_answer(const std::byte* in, std::size_t bytes, std::byte* out,
                                      std::size_t capacity) {
  const auto packet = pcie::parse_tlp({in, bytes});
  if (!packet || packet->header.is_posted() || packet->header.is_completion()) return 0;
  const auto answer = pcie::complete(packet->header, pcie::requester_id{2, 0, 0},
                                     pcie::completion_status::unsupported_request);
  const auto written = pcie::write_tlp({out, capacity}, answer.encode(), {});
  return written ? *written : 0;
}

extern "C" std::size_t use_tlp_requests(std::byte* out, std::size_t capacity,
                                        std::uint64_t address) {
  const pcie::requester_id self{1, 0, 0};
  std::size_t used = 0;
  for (const pcie::tlp_header& h :
       {pcie::memory_request::read(self, 1, address & ~std::uint64_t{0xfff}, 64).encode(),
        pcie::message{.code = pcie::message_code::pm_pme, .requester = self}.encode()}) {
    const auto written = pcie::write_tlp(std::span{out, capacity}.subspan(used), h, {});
    if (!written) return used;
    used += *written;
  }
  return used;
}
