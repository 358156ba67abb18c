// SPDX-License-Identifier: BSL-1.0
// A hostile guest's sequence: operations, segments and parameters drawn from the input. A refused
// append leaves the sequence usable; an accepted sequence is planned and run on guest memory, and
// writes nothing outside of the destinations' domain.
#include "fuzz_input.hpp"

#include <phasebit/accel/execution.hpp>
#include <phasebit/accel/plan.hpp>
#include <phasebit/accel/software_engine.hpp>
#include <phasebit/memory/memory_domain_models.hpp>
#include <phasebit/memory/region_map.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

using namespace phasebit;
using namespace phasebit::accel;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

// Guest memory with a guard on both sides.
std::vector<std::byte> memory(3 * 8192);
std::vector<std::byte> pool(1 << 16);

domain_segment drawn(phasebit_test::fuzz_input& in, const std::vector<domain_segment>& scratch) {
  const std::uint64_t w = in.word();
  domain_segment s{(w >> 16) & 0x1fff, 1 + (w & 0x7ff), domain_id{2}};
  if ((w >> 60) == 0) s.address = in.word();
  if ((w >> 60) == 1) s.bytes = in.word();
  // A guest names its own memory or a domain that is not there; local pointers are the host's.
  if ((w >> 60) == 2) s.domain = domain_id{static_cast<std::uint16_t>((w >> 40 & 0xff) + 2)};
  if ((w >> 60) > 10 && !scratch.empty()) {
    s = scratch[(w >> 50) % scratch.size()];
    if ((w >> 49 & 1U) != 0) s.bytes = 1 + (w & 0x3ff);
  }
  // Sizes that blocks and data units accept are common.
  if ((w >> 48 & 3U) == 0) s.bytes = 512 * (1 + (w & 1));
  if ((w >> 48 & 3U) == 1) s.bytes = 520 * (1 + (w & 1));
  return s;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  phasebit_test::fuzz_input in{data, size};
  for (auto& b : memory) b = std::byte{0x5a};
  guest_memory<4> map;
  check(map.add({guest_addr{0}, 4096, memory.data() + 8192}).has_value());
  check(map.add({guest_addr{4096}, 4096, memory.data() + 12288}).has_value());
  mapped_domain guest{map};
  domain_table<4> domains;
  check(domains.add(guest).has_value());

  sequence<8, 48> s;
  std::vector<domain_segment> scratch;
  for (int k = 0; k != 3; ++k) {
    if (const auto t = s.scratch(in.word() & 0x7ff)) scratch.push_back(*t);
  }
  while (in.left != 0) {
    const std::uint64_t w = in.word();
    std::vector<domain_segment> from{drawn(in, scratch)};
    std::vector<domain_segment> to{drawn(in, scratch)};
    if ((w >> 8 & 3U) == 0) from.push_back(drawn(in, scratch));
    if ((w >> 10 & 1U) == 0) to[0].bytes = from[0].bytes;
    const cipher c{.first_unit = w, .unit_bytes = static_cast<std::uint32_t>(w >> 20 & 0x3ff)};
    protection p{.reference_tag = w};
    if ((w >> 12 & 3U) == 0) {
      p.block_bytes = static_cast<std::uint32_t>(w >> 20);
      p.type = static_cast<std::uint8_t>(w >> 40);
      p.guard = static_cast<guard_format>(w >> 48 & 0xff);
    }
    const std::size_t before = s.size();
    bool good = false;
    switch (w & 15U) {
      case 0:
        good = s.copy(to, from).has_value();
        break;
      case 1:
        good = s.fill(to, w).has_value();
        break;
      case 2: {
        const std::array<segment_list, 2> lists{segment_list{from}, segment_list{to}};
        good = s.exclusive_or(to, lists).has_value();
        break;
      }
      case 3:
        good = s.compare(from, to).has_value();
        break;
      case 4:
        good = s.crc32c(from).has_value();
        break;
      case 5:
        good = s.crc16_t10dif(from).has_value();
        break;
      case 6:
        good = s.dif_insert(to, from, p).has_value();
        break;
      case 7:
        good = s.dif_verify(from, p).has_value();
        break;
      case 8:
        good = s.dif_strip(to, from, p).has_value();
        break;
      case 9:
        good = s.dif_update(to, from, p, w, 1).has_value();
        break;
      case 10:
        good = s.dix_generate(to, from, p).has_value();
        break;
      case 11:
        good = s.dix_verify(to, from, p).has_value();
        break;
      case 12:
        good = s.encrypt(to, from, c).has_value();
        break;
      case 13:
        good = s.compress(to, from).has_value();
        break;
      case 14:
        good = s.copy_crc32c(to, from).has_value();
        break;
      default:
        s.reverse();
        good = true;
        break;
    }
    check(good || s.size() == before);
  }
  if (!s.check_scratch() || !resolve(s, domains, local_domain)) return 0;
  target where = target_of(domains, 1);
  where.fusions = software_fusions;
  const auto planned = plan(s, where);
  if (!planned) return 0;
  check(planned->bytes_after <= planned->bytes_before);
  std::array<std::uint8_t, 32> raw{1};
  const std::array<xts_key, 1> keys{*xts_key::make(raw)};
  static software_engine<> engine{plain_cipher<>{}};
  engine = software_engine<>{plain_cipher<>{keys}};
  execution run{s, engine, domains};
  if (!run.start(pool, planned->scratch_bytes)) return 0;
  for (int turns = 0; !run.poll(); ++turns) check(turns < 100);
  for (std::size_t k = 0; k != 8192; ++k) {
    check(memory[k] == std::byte{0x5a} && memory[16384 + k] == std::byte{0x5a});
  }
  return 0;
}
