// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/memory_media.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/device/zoned_namespaces.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
namespace device = phasebit::nvme::device;

namespace {

struct small_policy : device::default_policy {
  static constexpr std::size_t max_io_queue_pairs = 2;
  static constexpr std::size_t async_events = 1;
  static constexpr std::size_t error_log_entries = 4;
};

using window = identity_translator<bus_space, local_space>;
using namespaces = device::zoned_namespaces<device::namespace_table<block::memory_media, 1>, 1>;
using controller =
    device::controller<window, no_interrupts, namespaces, device_order, small_policy>;

// Firmware that shows zones in on-chip memory.
struct firmware {
  firmware(std::span<std::byte> disk, std::span<std::uint32_t> doorbells) noexcept
      : media(disk), table(zones, {.zone_blocks = 64}), nvme(bus, none, spaces, doorbells) {
    spaces.attach(1, media);
    spaces.attach_zones(1, table);
  }

  window bus{};
  no_interrupts none{};
  block::memory_media media;
  namespaces spaces{};
  std::array<device::zone, 4> zones{};
  device::zone_table table;
  controller nvme;
};

}  // namespace

extern "C" unsigned use_nvme_zoned(std::byte* disk, std::size_t bytes, std::uint32_t* doorbells,
                                   std::uint32_t offset, std::uint32_t value) {
  firmware f{{disk, bytes}, {doorbells, 6}};
  f.nvme.write32(offset, value);
  unsigned done = f.nvme.read32(offset);
  while (f.nvme.poll() != 0) ++done;
  f.table.set_offline(value & 3U);
  return done + f.table.open_zones();
}
