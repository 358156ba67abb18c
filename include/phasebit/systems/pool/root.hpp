// SPDX-License-Identifier: BSL-1.0
// A simulated host of a pool: a root complex with one root port, software that enumerates what is behind it
// and takes in functions that come to a slot, and a backend for the driver of each function.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>
#include <phasebit/systems/pool.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::systems {

// A driver's view of a function in a slot: a PcieBackend. Register accesses are packets of this
// root. A view; the root outlives it. After the function has left, registers and configuration read
// all ones.
template <class Root>
class pooled_function {
 public:
  using ring_order = thread_order;

  struct doorbell_type {
    Root* root = nullptr;
    std::uint64_t address = 0;
    void ring(std::uint32_t value) noexcept { root->store(address, value); }
  };
  struct bar_type {
    Root* root;
    std::uint64_t base;

    [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
      return root->load(base + offset);
    }
    void write32(std::uint32_t offset, std::uint32_t value) noexcept {
      root->store(base + offset, value);
    }
    [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
      return read32(offset) | std::uint64_t{read32(offset + 4)} << 32;
    }
    void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
      write32(offset, static_cast<std::uint32_t>(value));
      write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
    }
    [[nodiscard]] static constexpr std::uint64_t size_bytes() noexcept { return 0x4000; }
    [[nodiscard]] doorbell_type doorbell(std::uint32_t offset) noexcept {
      return {root, base + offset};
    }
  };
  struct clock_type {
    Root* root;
    [[nodiscard]] std::uint64_t now() noexcept { return root->now_ns(); }
    void relax() noexcept { root->relax(); }
  };

  pooled_function(Root& root, pcie::requester_id id, std::uint64_t bar) noexcept
      : root_(&root), id_(id), bar_(bar) {}

  [[nodiscard]] auto config() const noexcept { return root_->function(id_); }
  [[nodiscard]] pcie::requester_id id() const noexcept { return id_; }
  [[nodiscard]] result<bar_type> map_bar(unsigned index) noexcept {
    if (index != 0) return failure(errc::not_found, "the function has BAR 0 only").at(index);
    return bar_type{root_, bar_};
  }
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return root_->allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { root_->release(region); }
  [[nodiscard]] clock_type clock() noexcept { return {root_}; }

 private:
  Root* root_;
  pcie::requester_id id_;
  std::uint64_t bar_;
};

// Root `number` of the pool, with `memory` for its drivers. enumerate() once; then attach() for each slot that
// has a function, at the start and whenever one comes. `Extents` bounds the regions of memory that
// its drivers have. The pool outlives it. One thread, the pool's.
template <class Pool, std::size_t Extents = 512>
class pool_root {
 public:
  using function_type = pooled_function<pool_root>;

  pool_root(Pool& of, std::uint16_t number, dma_region memory) noexcept
      : pool_(&of), number_(number), arena_(memory) {
    of.set_memory(number, memory);
  }
  pool_root(const pool_root&) = delete;
  pool_root& operator=(const pool_root&) = delete;

  // Numbers buses and sets up windows, with space behind each slot. Errors: those of pcie::enumerate, and
  // protocol where the switch is not found.
  [[nodiscard]] result<> enumerate() noexcept {
    pcie::bridge_description d{.vendor_id = 0x5042, .device_id = 0x0200};
    if (const auto made = pcie::emit_bridge(port_, d); !made) return made.error();
    std::array<pcie::enumerated_function, 80> list{};
    const pcie::host_resources host{.memory = {0xc000'0000, 0x1000'0000},
                                    .prefetchable = {0x80'0000'0000, 0x1'0000'0000},
                                    .slots = {.memory = slot_bytes}};
    const auto found = pcie::enumerate(*this, host, list);
    if (!found) return found.error();
    const std::uint8_t up = port_.read8(pcie::bridge_header::secondary_bus);
    auto upstream = function(pcie::requester_id{up, 0, 0});
    below_ = upstream.read8(pcie::bridge_header::secondary_bus);
    if (up == 0 || below_ == 0 || below_ == 0xff) {
      return failure(errc::protocol, "there is no switch behind the root port", number_);
    }
    return {};
  }
  // Places the BAR of the function in a slot and enables it. Errors: not_found (nothing is there).
  [[nodiscard]] result<function_type> attach(std::uint16_t slot) noexcept {
    auto bridge = function(pcie::requester_id{below_, static_cast<std::uint8_t>(slot), 0});
    const pcie::requester_id id{bridge.read8(pcie::bridge_header::secondary_bus), 0, 0};
    auto config = function(id);
    if (id.bus() == 0xff || config.read32(pcie::header::vendor_id) == 0xffff'ffff) {
      return failure(errc::not_found, "there is no function in the slot", slot).at(number_);
    }
    const std::uint64_t window =
        std::uint64_t{bridge.read16(pcie::bridge_header::memory_base) & 0xfff0U} << 16;
    config.write32(pcie::header::bar0, static_cast<std::uint32_t>(window));
    config.write32(pcie::header::bar0 + 4, 0);
    config.write16(pcie::header::command, pcie::command_register{}
                                              .with(pcie::command_register::memory_space, true)
                                              .with(pcie::command_register::bus_master, true)
                                              .raw);
    return function_type{*this, id, window};
  }

  // ConfigAccess.
  class config_view {
   public:
    config_view(pool_root& root, pcie::requester_id id) noexcept : root_(&root), id_(id) {}
    [[nodiscard]] std::uint8_t read8(std::uint16_t at) noexcept {
      return static_cast<std::uint8_t>(root_->config(id_, false, at, 1, 0));
    }
    [[nodiscard]] std::uint16_t read16(std::uint16_t at) noexcept {
      return static_cast<std::uint16_t>(root_->config(id_, false, at, 2, 0));
    }
    [[nodiscard]] std::uint32_t read32(std::uint16_t at) noexcept {
      return root_->config(id_, false, at, 4, 0);
    }
    void write8(std::uint16_t at, std::uint8_t v) noexcept { root_->config(id_, true, at, 1, v); }
    void write16(std::uint16_t at, std::uint16_t v) noexcept { root_->config(id_, true, at, 2, v); }
    void write32(std::uint16_t at, std::uint32_t v) noexcept { root_->config(id_, true, at, 4, v); }
    [[nodiscard]] static constexpr std::uint32_t size_bytes() noexcept { return 4096; }

   private:
    pool_root* root_;
    pcie::requester_id id_;
  };
  [[nodiscard]] config_view function(pcie::requester_id id) noexcept { return {*this, id}; }

  // A load and a store of one doubleword of the root's processor. All ones where nothing answers.
  [[nodiscard]] std::uint32_t load(std::uint64_t address) noexcept {
    const auto read = pcie::memory_request::read(pcie::requester_id{}, next_tag(), address, 4);
    const auto answer = pool_->send(number_, read.encode());
    return answer && is_good(answer->header) ? answer->data : 0xffff'ffffU;
  }
  void store(std::uint64_t address, std::uint32_t value) noexcept {
    const auto write = pcie::memory_request::write_of(pcie::requester_id{}, address, 4);
    (void)pool_->send(number_, write.encode(), value);
  }

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return arena_.allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { arena_.release(region); }
  [[nodiscard]] std::uint64_t now_ns() const noexcept { return pool_->now_ns(); }
  void relax() noexcept { (void)pool_->step(); }
  [[nodiscard]] std::uint16_t number() const noexcept { return number_; }

 private:
  static constexpr std::uint64_t slot_bytes = 1U << 20;

  [[nodiscard]] std::uint16_t next_tag() noexcept { return tag_ = (tag_ + 1) & 0xff; }
  [[nodiscard]] static bool is_good(const pcie::tlp_header& h) noexcept {
    return pcie::completion::decode(h).status == pcie::completion_status::successful;
  }
  std::uint32_t config(pcie::requester_id id, bool write, std::uint16_t offset, unsigned bytes,
                       std::uint32_t value) noexcept {
    const std::uint32_t ones = bytes == 4 ? 0xffff'ffffU : (1U << bytes * 8) - 1;
    if (id == pcie::requester_id{0, 1, 0}) {
      if (write) (void)port_.write(offset, bytes, value);
      return port_.read(offset, bytes);
    }
    const std::uint8_t secondary = port_.read8(pcie::bridge_header::secondary_bus);
    if (id.bus() == 0 || id.bus() < secondary ||
        id.bus() > port_.read8(pcie::bridge_header::subordinate_bus)) {
      return ones;
    }
    const unsigned shift = offset % 4 * 8;
    pcie::config_request c{.write = write, .type1 = id.bus() != secondary, .destination = id};
    c.tag = next_tag();
    c.offset = static_cast<std::uint16_t>(offset & ~3U);
    c.enables = static_cast<std::uint8_t>(((1U << bytes) - 1) << offset % 4);
    const auto answer = pool_->send(number_, c.encode(), value << shift);
    if (!answer || !is_good(answer->header)) return ones;
    return answer->data >> shift & ones;
  }

  Pool* pool_;
  std::uint16_t number_;
  dma_arena<Extents> arena_;
  sriov::config_image port_{};
  std::uint16_t tag_ = 0;
  std::uint8_t below_ = 0;  // the bus of the switch's downstream ports
};

}  // namespace phasebit::systems
