// SPDX-License-Identifier: BSL-1.0
// The driver on a machine without an operating system, whole: the controller is memory that is mapped,
// behind a window of the bridge, and it looks at its registers whenever the driver waits.
#include <phasebit/backend/mmio.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/driver/bus32_bar.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <doctest/doctest.h>
#include <support/nvme_end_to_end.hpp>

using namespace phasebit;
namespace mmio = phasebit::backend::mmio;
namespace device = phasebit::nvme::device;

namespace {

constexpr std::size_t bar_bytes = 8192;
constexpr std::uint64_t bar_bus = 0xa000'0000;
constexpr std::size_t dma_bytes = 4U << 20;
constexpr bus_addr dma_bus{0x1'8000'0000};

alignas(4096) std::byte registers[bar_bytes];
alignas(4096) std::byte memory[dma_bytes];

struct interrupt_pin {
  void raise(std::uint16_t) noexcept {}
};

// An engine that has no bus but the memory its registers lie in.
class memory_disk {
  using window = offset_translator<bus_space, local_space>;
  using namespaces = device::single_namespace<block::memory_media>;

 public:
  memory_disk() {
    std::memset(registers, 0, sizeof registers);
    show();
  }
  // Register writes since the last check, then some of the work.
  void step() noexcept {
    // CC last: the driver writes it when the others are there.
    for (std::uint32_t at = nvme::aqa::offset; at != nvme::acq::offset + 8; at += 4) take(at);
    take(nvme::cc::offset);
    nvme_.poll();
    show();
  }

 private:
  void take(std::uint32_t at) noexcept {
    const auto word = mmio_load<std::uint32_t>(registers + at);
    if (word != shown_[at / 4]) nvme_.write32(at, word);
  }
  void show() noexcept {
    for (std::uint32_t at = 0; at != sizeof shown_; at += 4) {
      shown_[at / 4] = nvme_.read32(at);
      mmio_store<std::uint32_t>(registers + at, shown_[at / 4]);
    }
  }

  std::vector<std::byte> bytes_ = std::vector<std::byte>(16U << 20);
  block::memory_media media_{bytes_};
  namespaces spaces_{media_};
  window dma_{dma_bus, dma_bytes, to_local(memory)};
  interrupt_pin pin_;
  std::array<std::uint32_t, 16> shown_{};
  device::controller<window, interrupt_pin, namespaces, device_order> nvme_{
      dma_, pin_, spaces_,
      std::span{reinterpret_cast<std::uint32_t*>(registers + 0x1000), 0x1000 / 4}};
};

// Time passes, and the device moves, when the driver waits.
struct device_clock {
  memory_disk* disk;
  std::uint64_t time = 0;

  [[nodiscard]] std::uint64_t now() const noexcept { return time; }
  void relax() noexcept {
    time += 1000;
    disk->step();
  }
};

struct config_view {
  pcie::config_image<4096>* of;
  std::uint8_t read8(std::uint16_t at) noexcept { return of->read8(at); }
  std::uint16_t read16(std::uint16_t at) noexcept { return of->read16(at); }
  std::uint32_t read32(std::uint16_t at) noexcept { return of->read32(at); }
  void write8(std::uint16_t at, std::uint8_t value) noexcept { of->write8(at, value); }
  void write16(std::uint16_t at, std::uint16_t value) noexcept { of->write16(at, value); }
  void write32(std::uint16_t at, std::uint32_t value) noexcept { of->write32(at, value); }
  static std::uint32_t size_bytes() noexcept { return 4096; }
};

}  // namespace

TEST_CASE("a disk behind a window of the bridge does everything that our driver asks of it") {
  pcie::config_image<4096> config;
  pcie::function_description about{.vendor_id = 0x5042, .device_id = 1, .class_code = 0x01'08'02};
  about.bars[0] = {pcie::bar_kind::memory64, bar_bytes, false};
  REQUIRE(pcie::emit_function(config, about));
  pcie::write_bar_address(config, 0, {pcie::bar_kind::memory64, false, 0, bar_bytes}, bar_bus);
  const std::array bridge{mmio::bus_window{bus_addr{bar_bus}, bar_bytes, to_local(registers)}};

  memory_disk disk;
  dma_arena<> dma{{memory, dma_bus}};
  mmio::function function{config_view{&config}, dma, device_clock{&disk},
                          std::span<const mmio::bus_window>{bridge}};
  phasebit_test::nvme_end_to_end{function}.run_all();
  CHECK(dma.free_bytes() == dma_bytes);
}

TEST_CASE("a disk on a bus of 32 bits, without PCI, does so too") {
  memory_disk disk;
  dma_arena<> dma{{memory, dma_bus}};
  auto function = mmio::over<pcie::bus32_bar<pcie::mapped_bar>>(
      mmio::fixed_bars{std::span<std::byte>{registers}}, dma, device_clock{&disk});
  phasebit_test::nvme_end_to_end{function}.run_all();
  CHECK(dma.free_bytes() == dma_bytes);
}
