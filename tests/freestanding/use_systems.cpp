// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/null_media.hpp>
#include <phasebit/systems/mediated/local_function.hpp>
#include <phasebit/systems/mediated/memory_from.hpp>
#include <phasebit/systems/mediated_nvme.hpp>
#include <phasebit/systems/pool.hpp>
#include <phasebit/systems/pool/root.hpp>

#include <cstdint>

using namespace phasebit;

namespace {

struct word_doorbell {
  std::uint32_t* word = nullptr;
  void ring(std::uint32_t value) noexcept { device_order::store(*word, value); }
};
struct vectors {
  static void raise(std::uint16_t, std::uint16_t) noexcept {}
};
struct policy : systems::mediated_policy {
  static constexpr std::size_t functions = 8;
};
struct shared_policy : systems::pool_policy {
  static constexpr std::uint16_t roots = 2;
  static constexpr std::uint16_t slots = 2;
  static constexpr std::uint16_t functions = 4;
};
using queue = nvme::driver::queue_pair<device_order, word_doorbell, systems::forwarded_command, 64>;
using window = identity_translator<host_space, local_space>;
using engine = systems::mediated_nvme<queue, window, vectors, policy>;
using pool = systems::pool<block::null_media, shared_policy>;
using root = systems::pool_root<pool, 16>;

}  // namespace

extern "C" bool use_mediated(engine* e, const systems::mediated_function<policy>* f,
                             std::uint64_t now) {
  if (!e->add(0, *f)) return false;
  e->write32(0, 0x14, e->read32(0, 0x14) | 1);
  (void)e->poll(now);
  e->quiesce(0);
  const auto saved = e->save(0);
  return saved && e->restore(0, *saved) && e->remove(0);
}

extern "C" bool use_pool(pool* p, root* r, block::null_media* media) {
  if (!p->start() || !p->add(0, *media) || !p->attach(0, 0, 0) || !r->enumerate()) return false;
  auto function = r->attach(0);
  if (!function) return false;
  auto bar = function->map_bar(0);
  if (!bar) return false;
  bar->write32(0x14, bar->read32(0x14));
  return p->step() != 0 && p->move(0, 1, 1);
}
