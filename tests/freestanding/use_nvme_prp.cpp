// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/region_map.hpp>
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/prp.hpp>
#include <phasebit/nvme/sgl.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
namespace prp = phasebit::nvme::prp;
namespace sgl = phasebit::nvme::sgl;

extern "C" bool use_prp_build(const segment<bus_space>* segments, std::size_t count,
                              unsigned page_shift, const dma_region* list, prp::pointers* out) {
  if (count == 1) {
    return static_cast<bool>(prp::build_contiguous(
        segments->begin, static_cast<std::size_t>(segments->bytes), page_shift, *list, *out));
  }
  return static_cast<bool>(
      prp::build({segments, count}, page_shift, 1U << 20, *list, *out, prp::lists_of{{list, 1}}));
}

extern "C" std::uint64_t use_prp_walk(const region_translator* dma, prp::pointers p,
                                      std::uint64_t bytes, unsigned page_shift) {
  std::uint64_t sum = 0;
  const auto status =
      prp::walk(*dma, p, bytes, page_shift, [&](bus_addr at, std::uint64_t n) noexcept {
        sum += at.value() + n;
        return nvme::status_code::success;
      });
  return sum + static_cast<std::uint64_t>(status);
}

extern "C" bool use_prp_rewrite(const guest_memory<8>* guest, prp::pointers* command,
                                std::uint64_t bytes, const dma_region* shadow) {
  const offset_translator<guest_space, bus_space> to_bus{guest_addr{0}, 65536, bus_addr{4096}};
  return prp::rewrite(*guest, to_bus, access::write, *command, bytes, 12, *shadow) ||
         prp::rewrite_in_place(*guest, to_bus, access::write, *command, bytes, 12);
}

extern "C" bool use_sgl(const guest_memory<8>* guest, nvme::submission_entry* command,
                        const segment<bus_space>* segments, std::size_t count,
                        const dma_region* segment) {
  const offset_translator<guest_space, bus_space> to_bus{guest_addr{0}, 65536, bus_addr{4096}};
  if (!sgl::build({segments, count}, 1U << 20, true, *segment, *command)) return false;
  return static_cast<bool>(sgl::rewrite(*guest, to_bus, *command, 65536, {}, *segment));
}
