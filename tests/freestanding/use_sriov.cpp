// SPDX-License-Identifier: BSL-1.0
#include <phasebit/sriov/bar_remap.hpp>
#include <phasebit/sriov/fair_scheduler.hpp>
#include <phasebit/sriov/function_table.hpp>
#include <phasebit/sriov/id_remap.hpp>
#include <phasebit/sriov/resources.hpp>
#include <phasebit/sriov/token_bucket.hpp>

#include <cstdint>

using namespace phasebit;

namespace {

using table = sriov::function_table<sriov::function_table_limits{
    .physical = 4, .virtual_functions = 252, .vectors = 2}>;
using ids = sriov::id_remap<64>;
using bars = sriov::bar_remap<64>;

}  // namespace

extern "C" bool use_sriov_add(table* t, sriov::config_image* pf, sriov::config_image* vf,
                              const pcie::function_description* d) {
  return pcie::emit_function(*pf, *d).has_value() && sriov::emit_virtual_function(*vf, *d) &&
         t->add(0, *pf, *vf).has_value();
}

extern "C" std::uint32_t use_sriov_find(const table* t, std::uint16_t id, std::uint64_t address) {
  const auto hit = t->find(address);
  return t->find(pcie::requester_id{id}).vf + hit.function.vf +
         static_cast<std::uint32_t>(hit.offset);
}

extern "C" std::uint32_t use_sriov_config(table* t, std::uint16_t at, std::uint32_t value) {
  std::uint32_t events = 0;
  t->config_write({0, 0}, at, 4, value, 0,
                  [&](const sriov::function_event&) noexcept { ++events; });
  for (std::uint16_t vf = 1; vf <= t->active_vfs(0); ++vf) t->ready({0, vf});
  return t->config_read({0, 1}, at, 4).value + events;
}

extern "C" bool use_sriov_remap(ids* i, bars* b, const sriov::id_assignment* a,
                                const sriov::remap_window* w, std::uint64_t address) {
  return i->assign(*a) && b->open(a->vf, 0, *w) && i->to_master(a->root, a->slave).exists() &&
         b->to_master(w->root, address).exists() && i->remove(a->vf) && b->close(a->vf, 0);
}

extern "C" std::uint16_t use_sriov_resources(sriov::flexible_resources<8>* r, std::uint16_t count) {
  r->set_virtual_functions(8);
  return static_cast<std::uint16_t>(r->assign(1, 0, count).modified + r->assign(1, 1, 1).modified +
                                    static_cast<std::uint16_t>(r->online(1).status));
}

extern "C" std::uint16_t use_sriov_scheduler(sriov::fair_scheduler<8>* s,
                                             sriov::function_limiter* limits, std::uint64_t now) {
  s->activate(1);
  const std::uint16_t f =
      s->next([&](std::uint16_t which) noexcept { return limits[which].conforms(4096, now); });
  if (f == sriov::fair_scheduler<8>::none) return f;
  limits[f].take(4096);
  s->charge(f, 4096);
  return f;
}
