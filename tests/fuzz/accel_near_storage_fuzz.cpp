// SPDX-License-Identifier: BSL-1.0
// Near-storage commands from a hostile guest: whatever is accepted ends, in bounded virtual time.
#include "fuzz_input.hpp"

#include <phasebit/accel/near_storage/command.hpp>
#include <phasebit/accel/near_storage/nvme_programs.hpp>
#include <phasebit/accel/near_storage/overlay.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

using namespace phasebit;
using namespace phasebit::accel::near_storage;

namespace {
void check(bool good) {
  if (!good) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const limits device{.operators = 0x3f, .service_classes = 2, .block_count = 1 << 20};
  std::array<program, 4> programs{};
  programs[1] = {true, 2, {1, 2}};
  programs[2] = {false, 1, {1}};
  overlay<4, 16> o{{}};
  std::size_t accepted = 0;
  std::size_t ended = 0;
  std::uint64_t now = 0;
  const auto each = [&](const request&, std::uint64_t) noexcept { ++ended; };
  while (size >= 64) {
    command c;
    std::memcpy(&c, data, 64);
    if (const auto r = parse(c, device)) {
      check(r->operators >= 1 && r->operators <= max_chain && r->id != 0);
      if (o.submit(*r, now)) ++accepted;
    }
    program_command p;
    std::memcpy(&p, data, 64);
    if (const auto r = to_request(p, 1000, programs)) {
      if (o.submit(*r, now)) ++accepted;
    }
    o.advance(now, each);
    now += data[0];
    data += 64;
    size -= 64;
  }
  for (std::size_t turns = 0; o.pending() != 0; ++turns) {
    check(turns < 10000);
    o.advance(now, each);
    const std::uint64_t next = o.next_event();
    check(next != ~std::uint64_t{0} || o.pending() == 0);
    if (next != ~std::uint64_t{0} && next > now) now = next;
  }
  check(accepted == ended);
  return 0;
}
