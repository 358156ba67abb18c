// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/iova_allocator.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/memory/translators.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;

template class phasebit::iova_allocator<16>;
template class phasebit::iova_allocator<>;
template class phasebit::dma_arena<16>;
template class phasebit::static_arena<8192>;
template class phasebit::region_map<guest_space, 8>;
template class phasebit::region_map<bus_space>;

// Placement is the caller's, so that no guard for static initialisation is needed.
extern "C" std::uint64_t use_arena(static_arena<8192>* arena, std::size_t bytes) {
  const auto buffer = dma_buffer<static_arena<8192>>::allocate(*arena, bytes, 64);
  return buffer ? (*buffer)->bus.value() : 0;
}

extern "C" std::uint64_t use_iova(iova_allocator<16>* space, std::uint64_t begin,
                                  std::uint64_t bytes) {
  if (!space->add(bus_addr{begin}, bytes) || !space->reserve(bus_addr{begin}, 4096)) return 0;
  const auto got = space->allocate(bytes / 2, 4096);
  if (!got || !space->release(*got, bytes / 2)) return 0;
  return got->value() + space->free_bytes() + space->largest_free();
}

extern "C" std::uint32_t use_guest(guest_memory<8>* guest, std::byte* local, std::uint64_t at) {
  if (!guest->add({guest_addr{0}, 65536, local, access::read_write})) return 0;
  const offset_translator<bus_space, guest_space> window{bus_addr{at}, 65536, guest_addr{0}};
  const chained device_view{window, *guest};
  std::array<std::byte, 16> bytes{};
  if (!dma_read(device_view, bus_addr{at}, bytes)) return 1;
  if (!dma_write(device_view, bus_addr{at + 16}, bytes)) return 2;
  if (!dma_fill(device_view, bus_addr{at + 32}, 7, std::byte{1})) return 3;
  const auto word = dma_read<le<std::uint32_t>>(device_view, bus_addr{at});
  return word ? word->get() : 4;
}
