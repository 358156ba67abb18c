// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/memory_media.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
namespace device = phasebit::nvme::device;

namespace {

// Firmware that shows one disk in on-chip memory to a host behind a bus window.
struct small_policy : device::default_policy {
  static constexpr std::size_t max_io_queue_pairs = 2;
  static constexpr std::size_t async_events = 1;
  static constexpr std::size_t error_log_entries = 4;
};

struct interrupt_pin {
  std::uint32_t raised = 0;
  void raise(std::uint16_t vector) noexcept { raised |= 1U << (vector & 31U); }
};

using window = identity_translator<bus_space, local_space>;
using namespaces = device::single_namespace<block::memory_media>;
using controller =
    device::controller<window, interrupt_pin, namespaces, device_order, small_policy>;

struct firmware {
  firmware(std::span<std::byte> disk, std::span<std::uint32_t> doorbells) noexcept
      : media(disk), spaces(media), nvme(bus, pin, spaces, doorbells) {}

  window bus{};
  interrupt_pin pin{};
  block::memory_media media;
  namespaces spaces;
  controller nvme;
};

}  // namespace

extern "C" unsigned use_nvme_device(std::byte* disk, std::size_t bytes, std::uint32_t* doorbells,
                                    std::uint32_t offset, std::uint32_t value) {
  firmware f{{disk, bytes}, {doorbells, 6}};
  f.nvme.write32(offset, value);
  unsigned done = f.nvme.read32(offset) + static_cast<unsigned>(f.nvme.read64(0));
  while (f.nvme.poll() != 0) ++done;
  f.nvme.advance(value);
  f.nvme.namespace_changed(1);
  f.nvme.reset();
  return done + f.pin.raised;
}
