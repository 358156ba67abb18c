// SPDX-License-Identifier: BSL-1.0
// What the functions of one fabric share.
#pragma once

#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/backend/simulated/bus_node.hpp>
#include <phasebit/backend/simulated/dma_fault.hpp>
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/ticket_lock.hpp>
#include <phasebit/core/expects.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace phasebit::backend::simulated {

struct fabric_options {
  std::size_t memory_bytes = std::size_t{64} << 20;  // of the simulated machine
  // Above 4 GiB, for addresses cut to 32 bits to be found out, and within the 39 bits of the
  // smallest IOMMU page tables.
  host_phys memory_base{0x12'4000'0000};
  // Simulated time that passes with each step; more, the longer nothing happens.
  std::uint64_t step_ns = 1000;
};

namespace detail {

struct fabric_state {
  // Who waits for a device that does nothing waits for a time-out: after so many idle steps each
  // lasts twice as long, and again after as many, up to 1024 times.
  static constexpr std::uint64_t patience = 1024;
  static constexpr std::uint64_t most_haste = 10;

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

  // One round of every device, in the order in which they were added, a port's after the port.
  unsigned poll_all() noexcept { return poll_list(first); }

  unsigned step() noexcept {
    PHASEBIT_EXPECTS(!threaded, "the device thread does the stepping: stop() it first");
    const unsigned work = poll_all();
    idle = work != 0 ? 0 : idle + 1;
    const std::uint64_t haste = idle / patience;
    time += step_ns << (haste < most_haste ? haste : most_haste);
    return work;
  }

  static unsigned poll_list(bus_node* node) noexcept {
    unsigned work = 0;
    for (; node != nullptr; node = node->next_) {
      work += node->poll() + poll_list(node->first_child_);
    }
    return work;
  }

  dma_memory memory;
  address_map map;
  direct_path direct;
  dma_path* path;
  dma_fault_log faults;
  ticket_lock lock;
  bool threaded = false;  // changed only while nobody else uses the fabric
  std::uint64_t step_ns;
  std::uint64_t time = 0;
  std::uint64_t idle = 0;     // steps since something was done
  bus_node* first = nullptr;  // of the root bus
};

// Keeps the device thread out while a driver's register access is answered. Costs nothing in
// single-step mode, where there is one thread.
class [[nodiscard]] exclusive {
 public:
  explicit exclusive(fabric_state& state) noexcept : lock_(state.threaded ? &state.lock : nullptr) {
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
