// SPDX-License-Identifier: BSL-1.0
// One function of a device inside QEMU, opened for a driver.
#pragma once

#include <phasebit/backend/qtest/bar.hpp>
#include <phasebit/backend/qtest/board.hpp>
#include <phasebit/backend/qtest/config.hpp>
#include <phasebit/backend/qtest/connection.hpp>
#include <phasebit/backend/qtest/interrupts.hpp>
#include <phasebit/backend/qtest/ram.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>
#include <phasebit/pcie/driver/reset.hpp>
#include <phasebit/pcie/spec/msi.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>
#include <phasebit/posix/steady_clock.hpp>

#include <array>
#include <cstdint>
#include <utility>

namespace phasebit::backend::qtest {

// The parts of a machine that its functions share; it outlives them.
struct machine_parts {
  connection* qemu = nullptr;
  const qtest::board* board = nullptr;
  qtest::ram* ram = nullptr;
};

// Registers by qtest, DMA memory shared with QEMU, interrupts by polling. allocate(), release() and
// the registers may be used by any number of threads; set-up (config, interrupts, virtual functions,
// reset) by one. Move-only; the machine outlives it.
class function {
 public:
  using bar_type = bar;
  // The device model is a thread of another process that shares our memory coherently: acquire and
  // release are the whole of what orders the two, as between threads. The barriers of device_order
  // are for DMA that comes over a bus.
  using ring_order = thread_order;

  function(machine_parts parts, const pcie::enumerated_function& about) noexcept
      : parts_(parts), about_(about) {
    auto space = config();
    if (const auto found = pcie::read_msix(space)) {
      msix_ = *found;
    } else if (const auto lesser = pcie::read_msi(space)) {
      msi_ = *lesser;
    }
  }
  function(function&& other) noexcept
      : parts_(std::exchange(other.parts_, {})),
        about_(other.about_),
        msix_(other.msix_),
        msi_(other.msi_),
        interrupts_(std::move(other.interrupts_)) {}
  function& operator=(function&& other) noexcept {
    if (this != &other) {
      (void)disable_interrupts();
      parts_ = std::exchange(other.parts_, {});
      about_ = other.about_;
      msix_ = other.msix_;
      msi_ = other.msi_;
      interrupts_ = std::move(other.interrupts_);
    }
    return *this;
  }
  ~function() { (void)disable_interrupts(); }

  [[nodiscard]] pcie::requester_id id() const noexcept { return about_.id; }
  [[nodiscard]] const pcie::enumerated_function& about() const noexcept { return about_; }

  [[nodiscard]] config_function config() noexcept {
    return {*parts_.qemu, *parts_.board, about_.id};
  }

  // Errors: not_found (no such BAR), not_ready (it has no address: I/O behind a bridge without an
  // I/O window), removed.
  [[nodiscard]] result<bar> map_bar(unsigned index) noexcept {
    if (const auto alive = parts_.qemu->status(); !alive) return alive.error();
    if (index >= about_.bars.size() || !about_.bars[index].present()) {
      return named(failure(errc::not_found, "the function has no such BAR", index));
    }
    const pcie::bar& b = about_.bars[index];
    if (b.address == 0) {
      return named(failure(errc::not_ready, "the BAR could not be given an address", index));
    }
    if (b.kind != pcie::bar_kind::io) {
      return bar{*parts_.qemu, bus_space_kind::memory, b.address, b.size};
    }
    const std::uint64_t ports = parts_.board->io_base;
    return ports == 0 ? bar{*parts_.qemu, bus_space_kind::io, b.address, b.size}
                      : bar{*parts_.qemu, bus_space_kind::memory, ports + b.address, b.size};
  }

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return parts_.ram->allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { parts_.ram->release(region); }
  // Memory that another process has allocated: see ram::adopt().
  [[nodiscard]] result<dma_region> adopt(bus_addr begin, std::size_t bytes) noexcept {
    return parts_.ram->adopt(begin, bytes);
  }

  [[nodiscard]] posix::steady_clock clock() const noexcept { return {}; }

  // Those of MSI-X, or one where the function has MSI only.
  [[nodiscard]] unsigned interrupt_vectors() const noexcept {
    return msix_.vectors != 0 ? msix_.vectors : msi_.vectors != 0 ? 1 : 0;
  }
  [[nodiscard]] result<> enable_interrupts(unsigned count) noexcept {
    if (interrupt_vectors() == 0) {
      return named(failure(errc::not_supported, "the function has neither MSI-X nor MSI"));
    }
    if (msix_.vectors == 0) {
      const auto on = interrupts_.enable(config(), msi_, *parts_.ram, count);
      return on ? result<>{} : result<>{named(on.error())};
    }
    const auto table = map_bar(msix_.table_bar);
    if (!table) return table.error();
    const auto on = interrupts_.enable(config(), *table, msix_, *parts_.ram, count);
    return on ? result<>{} : result<>{named(on.error())};
  }
  result<> disable_interrupts() noexcept {
    if (parts_.qemu == nullptr) return {};
    if (msix_.vectors != 0) {
      interrupts_.disable(config(), msix_);
    } else {
      interrupts_.disable(config(), msi_);
    }
    return {};
  }
  [[nodiscard]] bool poll_interrupt(unsigned vector) noexcept { return interrupts_.poll(vector); }
  [[nodiscard]] bool wait_interrupt(unsigned vector, std::uint64_t nanoseconds) noexcept {
    return interrupts_.wait(vector, nanoseconds);
  }

  [[nodiscard]] std::uint16_t total_virtual_functions() const noexcept {
    return about_.sriov.total_vfs;
  }
  [[nodiscard]] result<> set_virtual_functions(std::uint16_t count) noexcept {
    auto space = config();
    posix::steady_clock clock;
    const auto now = pcie::enable_virtual_functions(space, about_.id, count, clock);
    if (!now) return named(now.error());
    about_.sriov = *now;
    return {};
  }
  // Virtual function `index` (from 0), once it is enabled. It may do DMA from here on. Further
  // steps to make it ready depend on the device. Errors: out_of_range, not_ready, removed.
  [[nodiscard]] result<function> virtual_function(unsigned index) noexcept {
    auto own = config();
    const auto now = pcie::read_sriov(own);
    if (!now) return named(now.error());
    if (!now->enabled || index >= now->num_vfs) {
      return named(failure(errc::out_of_range, "fewer virtual functions are switched on",
                           now->enabled ? now->num_vfs : 0U));
    }
    const auto id = now->routing_id(about_.id, index);
    if (!id) return named(failure(errc::protocol, "the virtual function lies beyond the last bus"));
    pcie::enumerated_function vf{};
    vf.id = *id;
    vf.bridge = about_.bridge;
    vf.vendor_id = about_.vendor_id;
    vf.device_id = now->vf_device_id;
    vf.class_code = about_.class_code;
    vf.bars = about_.vf_bars;
    for (pcie::bar& b : vf.bars) {
      if (b.present()) b.address += index * b.size;
    }
    function made{parts_, vf};
    auto space = made.config();
    if (pcie::is_removed(space)) {
      return made.named(failure(errc::removed, "the virtual function does not answer"));
    }
    pcie::set_command(space,
                      pcie::read_command(space).with(pcie::command_register::bus_master, true));
    return made;
  }

  // Function-level reset: addresses and bus mastering are put back, interrupts are off. Errors:
  // not_supported, removed (it does not come back).
  [[nodiscard]] result<> reset() noexcept {
    (void)disable_interrupts();
    auto space = config();
    posix::steady_clock clock;
    const auto done = pcie::function_level_reset(space, clock);
    return done ? result<>{} : result<>{named(done.error())};
  }

  // One driver at a time: nvme::attach() claims the function, and a second attach is refused (busy).
  [[nodiscard]] result<> claim() noexcept {
    if (driver_attached_) {
      return failure(errc::busy, "a driver is attached to the function already: detach it first");
    }
    driver_attached_ = true;
    return {};
  }
  void unclaim() noexcept { driver_attached_ = false; }

 private:
  [[nodiscard]] error named(const error& e) const noexcept {
    std::array<char, 8> text{};
    return e.of(about_.id.print(text));
  }

  machine_parts parts_;
  pcie::enumerated_function about_;
  pcie::msix_capability msix_{};
  pcie::msi_capability msi_{};
  interrupts interrupts_;
  bool driver_attached_ = false;
};
static_assert(PcieBackend<function>);
static_assert(InterruptSource<function>);
static_assert(SriovCapable<function>);
static_assert(ResettableFunction<function>);

}  // namespace phasebit::backend::qtest
