// SPDX-License-Identifier: BSL-1.0
// The state that the functions of one fabric share.
#pragma once

#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/backend/simulated/detail/bus_node.hpp>
#include <phasebit/backend/simulated/detail/ticket_lock.hpp>
#include <phasebit/backend/simulated/dma_fault.hpp>
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/core/expects.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace phasebit::backend::simulated {

struct fabric_options {
  std::size_t memory_bytes = std::size_t{64} << 20;  // of the simulated machine
  // Above 4 GiB, so that addresses cut to 32 bits are faults, and within the 39 bits of the smallest
  // IOMMU page tables.
  host_phys memory_base{0x12'4000'0000};
  // Simulated time that passes with each step; it grows while the devices do nothing.
  std::uint64_t step_ns = 1000;
};

namespace detail {

struct fabric_state {
  // After `idle_steps` steps in which nothing was done each step lasts twice as long, and again after
  // as many, up to 1024 times: a driver that waits reaches its time-out soon.
  static constexpr std::uint64_t idle_steps = 1024;
  static constexpr std::uint64_t most_doublings = 10;

  explicit fabric_state(const fabric_options& options) noexcept
      : memory(options.memory_bytes, options.memory_base),
        map(memory, first),
        direct(map),
        path(&direct),
        step_ns(options.step_ns) {}

  // Nanoseconds: simulated time, or real time in threaded mode.
  [[nodiscard]] std::uint64_t now() const noexcept {
    if (!threaded) return time;
    using namespace std::chrono;
    return static_cast<std::uint64_t>(
        duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
  }

  // One round of every device, in the order in which they were added, then of the paths. In threaded
  // mode a device that another thread is in is left out.
  unsigned poll_all() noexcept {
    unsigned work = 0;
    for (bus_node* n = first.load(std::memory_order_acquire); n != nullptr;
         n = n->next_.load(std::memory_order_acquire)) {
      if (!threaded) {
        work += n->poll();
      } else if (n->lock().try_lock()) {
        work += n->poll();
        n->lock().unlock();
      }
    }
    if (threaded) {
      const std::lock_guard guard{paths_lock};
      return work + poll_paths();
    }
    return work + poll_paths();
  }

  unsigned step() noexcept {
    PHASEBIT_EXPECTS(!threaded, "the device threads do the stepping: stop() them first");
    const unsigned work = poll_all();
    idle = work != 0 ? 0 : idle + 1;
    const std::uint64_t doublings = idle / idle_steps;
    time += step_ns << (doublings < most_doublings ? doublings : most_doublings);
    return work;
  }

  // Puts `replacement` into the place of a path. No thread uses the old one when this returns. Not
  // from within a device.
  void replace(std::atomic<dma_path*>& where, dma_path* replacement) noexcept {
    {
      const std::lock_guard guard{paths_lock};
      where.store(replacement, std::memory_order_release);
    }
    if (!threaded) return;
    for (bus_node* n = first.load(std::memory_order_acquire); n != nullptr;
         n = n->next_.load(std::memory_order_acquire)) {
      const std::lock_guard guard{n->lock()};
    }
  }
  [[nodiscard]] dma_path& path_of(const bus_node& node) const noexcept {
    if (node.parent() != nullptr) {
      if (auto* const own = node.parent()->path_.load(std::memory_order_acquire)) return *own;
    }
    return *path.load(std::memory_order_acquire);
  }
  [[nodiscard]] bus_node* find(pcie::requester_id id) const noexcept {
    return find_node(first, id);
  }

  dma_memory memory;
  address_map map;
  direct_path direct;
  std::atomic<dma_path*> path;
  dma_fault_log faults;
  ticket_lock list_lock;   // keeps appenders to the list apart
  ticket_lock paths_lock;  // keeps a path that is polled
  bool threaded = false;   // changed only while no other thread uses the fabric
  std::uint64_t step_ns;
  std::uint64_t time = 0;
  std::uint64_t idle = 0;  // steps since something was done
  std::atomic<bus_node*> first{nullptr};

 private:
  unsigned poll_paths() noexcept {
    unsigned work = path.load(std::memory_order_acquire)->poll();
    for (bus_node* n = first.load(std::memory_order_acquire); n != nullptr;
         n = n->next_.load(std::memory_order_acquire)) {
      port_node* const port = n->as_port();
      if (port == nullptr) continue;
      if (auto* const own = port->path_.load(std::memory_order_acquire)) work += own->poll();
    }
    return work;
  }
};

// Keeps other threads out of a node while a driver's access is answered. Costs nothing in
// single-step mode, where there is one thread.
class [[nodiscard]] exclusive {
 public:
  exclusive(const fabric_state& state, bus_node& node) noexcept
      : lock_(state.threaded ? &node.lock() : nullptr) {
    if (lock_ != nullptr) lock_->lock();
  }
  exclusive(const exclusive&) = delete;
  exclusive& operator=(const exclusive&) = delete;
  ~exclusive() {
    if (lock_ != nullptr) lock_->unlock();
  }

 private:
  ticket_lock* lock_;
};

}  // namespace detail

}  // namespace phasebit::backend::simulated
