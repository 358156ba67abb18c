// SPDX-License-Identifier: BSL-1.0
// A simulated drive with the engine of systems/mediated_nvme beside it, and hosts for its functions.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/hosted/format.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/systems/mediated/local_function.hpp>
#include <phasebit/systems/mediated/memory_from.hpp>
#include <phasebit/systems/mediated_nvme.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

namespace example {

using namespace phasebit;
namespace simulated = backend::simulated;

// Hosts of half a megabyte: pages of 64 KiB instead of 2 MiB in the flat tables.
struct mediated_sizes : systems::mediated_policy {
  static constexpr unsigned table_page_shift = 16;
  static constexpr std::uint16_t max_in_flight = 255;
};
inline constexpr std::uint64_t blocks_of_function = 1024;
inline constexpr std::uint64_t guest_base = 1U << 20;
inline constexpr std::size_t guest_bytes = std::size_t{512} << 10;

// The engine's on-chip memory: BAR 2 of a device beside the drive.
struct on_chip_memory {
  static std::uint32_t read32(std::uint32_t) noexcept { return 0; }
  static void write32(std::uint32_t, std::uint32_t) noexcept {}
  static unsigned poll() noexcept { return 0; }
  static void reset() noexcept {}
};
// Gives it out, from the first byte to the last; aligned as the bus sees it.
class on_chip_arena {
 public:
  explicit on_chip_arena(dma_region whole) noexcept : rest_(whole) {}
  result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    const std::size_t skip = align_up(rest_.bus.value(), alignment) - rest_.bus.value();
    if (skip + bytes > rest_.size()) {
      return failure(errc::exhausted, "the engine's memory is used up", bytes);
    }
    const dma_region got = rest_.subregion(skip, bytes);
    rest_ = rest_.subregion(skip + bytes, rest_.size() - skip - bytes);
    return got;
  }
  static void release(dma_region) noexcept {}

 private:
  dma_region rest_;
};

struct mediated_machine {
  using backend = systems::memory_from<simulated::function, on_chip_arena>;
  using controller_type = nvme::controller<backend>;
  using queue_type = controller_type::io_queue<systems::forwarded_command, 256>;
  struct no_function_interrupts {
    static void raise(std::uint16_t, std::uint16_t) noexcept {}
  };
  using engine_type = systems::mediated_nvme<queue_type, const simulated::dma_memory,
                                             no_function_interrupts, mediated_sizes, thread_order>;

  std::vector<std::byte> bytes = std::vector<std::byte>(252 * blocks_of_function * 512);
  block::memory_media media{bytes};
  simulated::fabric fabric{{.memory_bytes = std::size_t{256} << 20}};
  std::optional<simulated::nvme_disk<block::memory_media>> drive;
  std::optional<simulated::device<on_chip_memory>> chip;
  std::optional<on_chip_arena> memory;
  std::optional<backend> function;
  std::optional<controller_type> controller;
  std::optional<queue_type> queue;
  no_function_interrupts interrupts;
  std::unique_ptr<engine_type> engine;

  result<> start() {
    auto disk = simulated::add_nvme_disk(fabric, media);
    if (!disk) return disk.error();
    drive.emplace(*disk);
    constexpr std::uint64_t bar = 1U << 20;
    simulated::function_description d{.device = 9, .pci = {.vendor_id = 0x5042, .device_id = 0x20}};
    d.pci.bars[0] = {pcie::bar_kind::memory64, 0x1000};
    d.pci.bars[2] = {pcie::bar_kind::memory64, bar};
    d.words[2] = {0, bar};
    auto beside =
        fabric.add(d, [](const simulated::device_port&) noexcept { return on_chip_memory{}; });
    if (!beside) return beside.error();
    chip.emplace(*beside);
    auto window = chip->bar_memory(2);
    if (!window) return window.error();
    memory.emplace(*window);
    function.emplace(*drive, *memory);
    auto attached = nvme::attach(*function);  // the admin queue lies in the engine's BAR
    if (!attached) return attached.error();
    controller.emplace(std::move(*attached));
    auto made = controller->create_queue_pair<systems::forwarded_command, 256>({.depth = 256});
    if (!made) return made.error();
    queue.emplace(std::move(*made));
    const auto info = controller->identify_namespace(1);
    if (!info) return info.error();
    const auto shared =
        systems::drive_namespace_of(*info, controller->identity(), queue->max_transfer());
    if (!shared) return shared.error();
    const auto lists = memory->allocate(255 * engine_type::list_bytes(shared->max_transfer), 4096);
    if (!lists) return lists.error();
    engine = std::make_unique<engine_type>(*queue, *lists, *shared, fabric.memory(), interrupts);
    return {};
  }
};

struct mediated_clock {
  mediated_machine* machine;
  std::uint64_t now() noexcept { return machine->fabric.clock().now(); }
  void relax() noexcept {
    machine->engine->poll();
    machine->fabric.step();
    machine->engine->poll();
  }
};
using mediated_backend =
    systems::local_function<mediated_machine::engine_type, dma_arena<>, mediated_clock>;

// A host: memory, a flat table for it, and the driver of its function.
struct mediated_host {
  using table_type = systems::function_table_of<mediated_sizes>;

  mediated_machine* machine;
  std::uint16_t number;
  std::array<std::uint32_t, 6> doorbells{};
  std::array<std::uint64_t, 32> entries{};
  table_type table{std::as_writable_bytes(std::span{entries})};
  dma_region memory = *machine->fabric.memory().allocate(guest_bytes, 1U << 16);
  dma_arena<> arena{{memory.bytes, bus_addr{guest_base}}};
  mediated_clock clock{machine};
  mediated_backend function{*machine->engine, number, doorbells, arena, clock};
  std::optional<nvme::controller<mediated_backend>> controller{};
  std::optional<nvme::controller<mediated_backend>::io_queue<>> queue{};

  mediated_host(mediated_machine& m, std::uint16_t f) : machine(&m), number(f) {}
  mediated_host(const mediated_host&) = delete;

  result<> start(std::uint32_t depth) {
    if (auto r = table.map(bus_addr{guest_base}, host_phys{memory.bus.value()}, guest_bytes,
                           access::read_write);
        !r) {
      return r;
    }
    if (auto r = machine->engine->add(number, {.table = &table,
                                               .doorbells = doorbells,
                                               .first_lba = number * blocks_of_function,
                                               .blocks = blocks_of_function});
        !r) {
      return r;
    }
    auto attached = nvme::attach(function);
    if (!attached) return attached.error();
    controller.emplace(std::move(*attached));
    auto made = controller->create_queue_pair({.depth = depth});
    if (!made) return made.error();
    queue.emplace(std::move(*made));
    return {};
  }
};

}  // namespace example
