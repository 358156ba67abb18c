// SPDX-License-Identifier: BSL-1.0
#include <phasebit/accel/execution.hpp>
#include <phasebit/accel/plan.hpp>
#include <phasebit/accel/software_engine.hpp>
#include <phasebit/memory/memory_domain.hpp>
#include <phasebit/memory/memory_domain_models.hpp>
#include <phasebit/memory/region_map.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
using namespace phasebit::accel;

using firmware_engine = software_engine<portable_instructions, plain_cipher<portable_instructions>>;
using firmware_sequence = sequence<8>;
using firmware_domains = domain_table<8>;

template class phasebit::accel::software_engine<portable_instructions,
                                                plain_cipher<portable_instructions>>;
template class phasebit::accel::execution<firmware_sequence, firmware_engine, firmware_domains>;
template class phasebit::simulated_remote_domain<4>;
template class phasebit::mapped_domain<guest_memory<4>>;

extern "C" int use_accel(firmware_engine* engine, firmware_domains* domains, firmware_sequence* s,
                         std::byte* pool, std::uint64_t from, std::uint64_t to) {
  s->clear();
  const auto t = s->scratch(4096);
  if (!t) return 1;
  const domain_segment source{from, 4096, local_domain};
  const domain_segment destination{to, 4160, local_domain};
  if (!s->copy(*t, source) || !s->encrypt(*t, *t, {.unit_bytes = 512, .key = 0})) return 2;
  if (!s->dif_insert(destination, *t, {}) || !s->crc32c(destination)) return 3;
  if (!resolve(*s, *domains, local_domain)) return 4;
  target where = target_of(*domains, 1);
  where.fusions = software_fusions;
  const auto p = plan(*s, where);
  if (!p) return 5;
  execution run{*s, *engine, *domains};
  if (!run.start(std::span{pool, 65536}, p->scratch_bytes)) return 6;
  while (!run.poll()) {
  }
  return run.result_of_run().good ? 0 : 7;
}
extern "C" std::uint64_t use_crc64(const std::byte* data, std::size_t n) {
  return crc64_nvme({data, n});
}
extern "C" bool use_key(xts_key* out, const std::uint8_t* raw) {
  const auto made = xts_key::make({raw, 32});
  if (made) *out = *made;
  return made.has_value();
}
