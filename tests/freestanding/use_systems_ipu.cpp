// SPDX-License-Identifier: BSL-1.0
#include <phasebit/accel/software_engine.hpp>
#include <phasebit/systems/ipu/function_view.hpp>
#include <phasebit/systems/ipu/media_sink.hpp>
#include <phasebit/systems/ipu/stream_sink.hpp>
#include <phasebit/systems/ipu/stream_store.hpp>
#include <phasebit/systems/ipu_target.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;

namespace {

struct wire {
  static result<std::size_t> send(std::span<const std::byte> b) noexcept { return b.size(); }
  static result<std::size_t> receive(std::span<std::byte>) noexcept { return std::size_t{0}; }
};
using engine_type = accel::software_engine<accel::portable_instructions,
                                           accel::plain_cipher<accel::portable_instructions>>;
using sink_type = systems::stream_sink<wire>;
using pipeline_type = systems::ipu_pipeline<sink_type, engine_type>;

}  // namespace

template class phasebit::systems::stream_sink<wire>;
template class phasebit::systems::stream_store<wire>;
template class phasebit::systems::function_view<4>;

extern "C" std::uint64_t use_systems_ipu(pipeline_type* p, const block::media_request* r) {
  std::uint64_t sum = 0;
  if (p->submit(*r, 1).is_pending()) {
    sum += p->poll([&sum](block::media_tag tag, block::media_status) noexcept { sum += tag; });
  }
  return sum + p->movements().taken;
}
