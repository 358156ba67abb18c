// SPDX-License-Identifier: BSL-1.0
// A drive on the simulated fabric, the engine beside it with the drive's rings in its BAR, and hosts, each
// with memory and address space of its own, that see a function of the engine.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/systems/mediated/local_function.hpp>
#include <phasebit/systems/mediated/memory_from.hpp>
#include <phasebit/systems/mediated_nvme.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit_test {

using namespace phasebit;
namespace sim = backend::simulated;

struct small_policy : systems::mediated_policy {
  static constexpr std::size_t functions = 16;
  static constexpr unsigned table_page_shift = 16;
  static constexpr std::uint16_t max_in_flight = 127;
};

// The engine's place on the bus: its on-chip memory is BAR 2.
struct engine_bar_model {
  std::uint32_t read32(std::uint32_t) noexcept { return 0; }
  void write32(std::uint32_t, std::uint32_t) noexcept {}
  unsigned poll() noexcept { return 0; }
  void reset() noexcept {}
};

struct vectors_of_functions {
  std::vector<std::array<unsigned, 8>> raised = std::vector<std::array<unsigned, 8>>(256);
  void raise(std::uint16_t f, std::uint16_t v) noexcept { ++raised[f][v]; }
};

// Memory of a BAR, aligned as the bus sees it; given out once.
class bar_arena {
 public:
  explicit bar_arena(dma_region whole) noexcept : rest_(whole) {}
  result<dma_region> allocate(std::size_t n, std::size_t alignment) noexcept {
    const std::size_t skip = align_up(rest_.bus.value(), alignment) - rest_.bus.value();
    if (skip + n > rest_.size()) return failure(errc::exhausted, "the BAR's memory is used up", n);
    const dma_region got = rest_.subregion(skip, n);
    rest_ = rest_.subregion(skip + n, rest_.size() - skip - n);
    return got;
  }
  void release(dma_region) noexcept {}

 private:
  dma_region rest_;
};

using host_memory = const sim::dma_memory;
using drive_backend = systems::memory_from<sim::function, bar_arena>;
using drive_controller = nvme::controller<drive_backend>;
using drive_queue = drive_controller::io_queue<systems::forwarded_command, 128>;
template <class Policy>
using engine_of =
    systems::mediated_nvme<drive_queue, host_memory, vectors_of_functions, Policy, thread_order>;

inline constexpr std::size_t disk_bytes = std::size_t{16} << 20;

template <class Policy = small_policy>
struct mediated_rig {
  using engine_type = engine_of<Policy>;
  static constexpr std::size_t bar_bytes = std::size_t{1} << 20;

  std::vector<std::byte> bytes;
  block::memory_media media;
  sim::fabric fabric;
  sim::nvme_disk<block::memory_media> drive;
  sim::device<engine_bar_model> bar;
  std::optional<bar_arena> on_chip;
  std::optional<drive_backend> backend;
  std::optional<drive_controller> controller;
  std::optional<drive_queue> queue;
  vectors_of_functions interrupts;
  std::unique_ptr<engine_type> engine;
  std::uint64_t now = 0;

  explicit mediated_rig(std::uint32_t depth = 128)
      : bytes(disk_bytes),
        media(bytes),
        drive(*sim::add_nvme_disk(fabric, media)),
        bar(add_bar(fabric)) {
    on_chip.emplace(*bar.bar_memory(2));
    backend.emplace(drive, *on_chip);
    auto attached = nvme::attach(*backend);
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().what));
    controller.emplace(std::move(*attached));
    auto made =
        controller->template create_queue_pair<systems::forwarded_command, 128>({.depth = depth});
    REQUIRE(made);
    queue.emplace(std::move(*made));
    const auto info = controller->identify_namespace(1);
    REQUIRE(info);
    const auto shared =
        systems::drive_namespace_of(*info, controller->identity(), queue->max_transfer());
    REQUIRE(shared);
    const auto lists =
        on_chip->allocate(depth * engine_type::list_bytes(shared->max_transfer), 4096);
    REQUIRE(lists);
    engine = std::make_unique<engine_type>(*queue, *lists, *shared, fabric.memory(), interrupts);
  }
  static sim::device<engine_bar_model> add_bar(sim::fabric& fabric) {
    sim::function_description d{.device = 9, .pci = {.vendor_id = 0x5042, .device_id = 0x20}};
    d.pci.bars[0] = {pcie::bar_kind::memory64, 0x1000};
    d.pci.bars[2] = {pcie::bar_kind::memory64, bar_bytes};
    d.words[2] = {0, bar_bytes};
    auto made = fabric.add(d, [](const sim::device_port&) noexcept { return engine_bar_model{}; });
    REQUIRE(made);
    return *made;
  }
  void step() noexcept {
    engine->poll(now += 1000);
    fabric.step();
    engine->poll(now);
  }
};

template <class Rig>
struct rig_clock {
  Rig* rig;
  std::uint64_t now() noexcept { return rig->now; }
  void relax() noexcept { rig->step(); }
};

// A host: memory of its own, at guest addresses of its own; a backend for its function.
template <class Policy>
struct guest_parts {
  using rig_type = mediated_rig<Policy>;
  using table_type = systems::function_table_of<Policy>;
  static constexpr std::size_t page = std::size_t{1} << Policy::table_page_shift;
  static constexpr std::uint64_t base = 4 * page;  // of the memory, as the host sees it

  std::array<std::uint32_t, 16> words{};
  std::vector<std::uint64_t> entries = std::vector<std::uint64_t>(64);
  table_type table{std::as_writable_bytes(std::span{entries})};
  dma_region memory;  // the bus address is the machine's
  std::optional<dma_arena<>> arena;
  rig_clock<rig_type> time;

  guest_parts(rig_type& rig, std::size_t bytes) : time{&rig} {
    const auto got = rig.fabric.memory().allocate(bytes, page);
    REQUIRE(got);
    memory = *got;
    REQUIRE(table.map(bus_addr{base}, host_phys{memory.bus.value()}, bytes, access::read_write));
    arena.emplace(dma_region{memory.bytes, bus_addr{base}});
  }
};
template <class Policy = small_policy>
class guest : public guest_parts<Policy>,
              public systems::local_function<engine_of<Policy>, dma_arena<>,
                                             rig_clock<mediated_rig<Policy>>> {
  using parts = guest_parts<Policy>;
  using backend =
      systems::local_function<engine_of<Policy>, dma_arena<>, rig_clock<mediated_rig<Policy>>>;

 public:
  guest(mediated_rig<Policy>& rig, std::uint16_t id, std::size_t bytes)
      : parts(rig, bytes),
        backend(*rig.engine, id, this->words, *this->arena, this->time),
        id_(id) {}
  guest(const guest&) = delete;

  [[nodiscard]] systems::mediated_function<Policy> function(std::uint64_t first,
                                                            std::uint64_t blocks) {
    return {.table = &this->table, .doorbells = this->words, .first_lba = first, .blocks = blocks};
  }
  [[nodiscard]] std::uint16_t id() const noexcept { return id_; }

 private:
  std::uint16_t id_;
};

}  // namespace phasebit_test
