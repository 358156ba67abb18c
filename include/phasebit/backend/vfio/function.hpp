// SPDX-License-Identifier: BSL-1.0
// A PCI function under Linux vfio: registers mapped, DMA behind the IOMMU, interrupts as events.
#pragma once

#include <phasebit/backend/vfio/detail/fault_log.hpp>
#include <phasebit/backend/vfio/dma_pool.hpp>
#include <phasebit/backend/vfio/hot_reset.hpp>
#include <phasebit/backend/vfio/interrupts.hpp>
#include <phasebit/backend/vfio/open.hpp>
#include <phasebit/backend/vfio/regions.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/posix/pci_sysfs.hpp>
#include <phasebit/posix/steady_clock.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include <linux/vfio.h>
#include <sys/ioctl.h>

namespace phasebit::backend::vfio {

struct options {
  kernel_interface interface = kernel_interface::automatic;
};

// Set-up by one thread; registers and doorbells of a mapped BAR by any. allocate() and release() by
// one thread at a time. The destructor ends mappings and interrupts and closes the device.
// Move-only.
class function {
 public:
  using bar_type = bar;
  using ring_order = device_order;

  // `address` is "0000:01:00.0" or "01:00.0". Errors: invalid_argument, removed,
  // not_ready, and those of open_device().
  [[nodiscard]] static result<function> open(std::string_view address,
                                             const options& how = {}) noexcept {
    const auto parsed = posix::parse_pci_address(address);
    if (!parsed) return parsed.error();
    return open(*parsed, how);
  }
  [[nodiscard]] static result<function> open(pcie::function_address address,
                                             const options& how = {}) noexcept {
    auto opened = open_device(address, how.interface);
    if (!opened) return opened.error();
    const auto config = describe_region(opened->device.get(), VFIO_PCI_CONFIG_REGION_INDEX);
    if (!config) return config.error();
    auto pool = dma_pool::over(std::move(opened->space));
    if (!pool) return pool.error();
    function made{std::make_unique<state>(state{.group = std::move(opened->group),
                                                .group_number = opened->group_number,
                                                .device = std::move(opened->device),
                                                .address = address,
                                                .config = *config,
                                                .pool = std::move(*pool),
                                                .bars = {},
                                                .messages = {},
                                                .let_go = {},
                                                .faults = detail::fault_log::open(address)})};
    // The kernel signals this event before a removal; without it, only reads of all ones show the removal.
    if (auto asks = event_set::enable(made.fd(), VFIO_PCI_REQ_IRQ_INDEX, 1)) {
      made.state_->let_go = std::move(*asks);
    }
    if (const auto there = made.start(); !there) return there.error();
    return made;
  }

  function(function&&) noexcept = default;
  function& operator=(function&&) noexcept = default;
  ~function() {
    if (state_ != nullptr) stop();
  }

  [[nodiscard]] pcie::function_address address() const noexcept { return state_->address; }
  // Whether iommufd is used rather than a container.
  [[nodiscard]] bool is_iommufd() const noexcept { return !state_->group; }

  [[nodiscard]] config_space config() noexcept {
    return {fd(), state_->config.offset, static_cast<std::uint32_t>(state_->config.size)};
  }

  [[nodiscard]] result<bar> map_bar(unsigned index) noexcept {
    if (index >= state_->bars.size()) {
      return failure(errc::not_found, "the function has no such BAR", index);
    }
    auto& mapped = state_->bars[index];
    if (mapped == nullptr) {
      auto info = describe_region(fd(), VFIO_PCI_BAR0_REGION_INDEX + index);
      if (!info) return info.error();
      auto region = mapped_region::map(fd(), std::move(*info));
      if (!region) return region.error();
      mapped = std::make_unique<mapped_region>(std::move(*region));
    }
    return bar{*mapped};
  }

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return state_->pool.allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { state_->pool.release(region); }
  // Lets the device reach whole pages of the caller's, and no longer.
  [[nodiscard]] result<dma_region> map(std::span<std::byte> memory) noexcept {
    return state_->pool.map(memory);
  }
  [[nodiscard]] result<> unmap(dma_region region) noexcept { return state_->pool.unmap(region); }

  // Whether the device may reach all of the region; see dma_pool::covers().
  [[nodiscard]] bool reaches(const dma_region& region) const noexcept {
    return state_->pool.covers(region);
  }
  // access_denied if the IOMMU stopped an access of this function since it was opened or since the last
  // reported one; the value is the I/O address. Waits up to `nanoseconds` for a report. permission and
  // not_found if the kernel's log cannot be read; see fault_log for its limits. A controller whose
  // transfer was stopped may have completed its command with success.
  [[nodiscard]] result<> dma_faults(std::uint64_t nanoseconds = 0) noexcept {
    if (!state_->faults) return state_->faults.error();
    return state_->faults->check(nanoseconds);
  }

  [[nodiscard]] posix::steady_clock clock() const noexcept { return {}; }

  [[nodiscard]] unsigned interrupt_vectors() const noexcept {
    return event_set::count_of(fd(), message_kind());
  }
  [[nodiscard]] result<> enable_interrupts(unsigned count) noexcept {
    if (state_->messages.count() != 0) return failure(errc::busy, "interrupts are on already");
    auto made = event_set::enable(fd(), message_kind(), count);
    if (!made) return made.error();
    state_->messages = std::move(*made);
    return {};
  }
  [[nodiscard]] result<> disable_interrupts() noexcept { return state_->messages.disable(); }
  [[nodiscard]] bool poll_interrupt(unsigned vector) noexcept {
    return state_->messages.poll(vector);
  }
  [[nodiscard]] bool wait_interrupt(unsigned vector, std::uint64_t nanoseconds) noexcept {
    return state_->messages.wait(vector, nanoseconds);
  }
  // A masked vector does not fire; interrupts raised while masked are delivered on unmask.
  [[nodiscard]] result<> mask_interrupt(unsigned vector) noexcept {
    return state_->messages.mask(vector);
  }
  [[nodiscard]] result<> unmask_interrupt(unsigned vector) noexcept {
    return state_->messages.unmask(vector);
  }
  // For an event loop of the caller's: readable when the vector has fired.
  [[nodiscard]] int interrupt_descriptor(unsigned vector) const noexcept {
    return state_->messages.descriptor(vector);
  }

  // Whether the kernel requests the device back, because it is being removed or unbound. The kernel waits
  // until the function is closed: end what is in flight (fail_all()) and destroy the function. Call it
  // now and then beside polling; it costs a system call, and registers of a removed device do not
  // always read as ones.
  [[nodiscard]] bool removal_requested() noexcept {
    state_->asked = state_->asked || (state_->let_go.count() != 0 && state_->let_go.poll(0));
    return state_->asked;
  }

  // Function-level reset or another method of the kernel for a single function; else a bus reset, which
  // also resets the other functions of the IOMMU group. The device loses its interrupt set-up while the
  // eventfds stay: disable and enable them. Errors: not_supported, busy (see hot_reset()), io.
  [[nodiscard]] result<> reset() noexcept {
    if (::ioctl(fd(), VFIO_DEVICE_RESET) != 0) {
      const error why = posix::os_error("the function cannot be reset");
      if (why.code != errc::not_supported && why.code != errc::io) return why;
      return hot_reset();
    }
    return start();
  }
  [[nodiscard]] result<> hot_reset() noexcept {
    const auto done = vfio::hot_reset(fd(), state_->group.get(), state_->group_number);
    return done ? start() : done;
  }

  // One driver at a time: nvme::attach() claims the function, and a second attach is refused (busy).
  [[nodiscard]] result<> claim() noexcept {
    if (state_->driver_attached) {
      return failure(errc::busy, "a driver is attached to the function already: detach it first");
    }
    state_->driver_attached = true;
    return {};
  }
  void unclaim() noexcept { state_->driver_attached = false; }

 private:
  struct state {
    posix::unique_fd group;
    unsigned group_number = 0;
    posix::unique_fd device;
    pcie::function_address address;
    region_info config;
    dma_pool pool;
    std::array<std::unique_ptr<mapped_region>, 6> bars;
    event_set messages;
    event_set let_go;
    result<detail::fault_log> faults;
    bool asked = false;
    bool driver_attached = false;
  };

  explicit function(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}
  [[nodiscard]] int fd() const noexcept { return state_->device.get(); }

  // MSI-X, or MSI of a function without MSI-X.
  [[nodiscard]] unsigned message_kind() const noexcept {
    return event_set::count_of(fd(), VFIO_PCI_MSIX_IRQ_INDEX) != 0 ? VFIO_PCI_MSIX_IRQ_INDEX
                                                                   : VFIO_PCI_MSI_IRQ_INDEX;
  }

  // Enables memory space and bus mastering, and verifies both: an access to a mapped BAR of a function that
  // is removed or suspended would end the program with SIGBUS.
  [[nodiscard]] result<> start() noexcept {
    auto space = config();
    pcie::set_command(space, pcie::read_command(space)
                                 .with(pcie::command_register::memory_space, true)
                                 .with(pcie::command_register::bus_master, true));
    constexpr std::uint32_t ones = 0xffff'ffff;
    constexpr std::uint16_t status = 6;
    std::array<char, 16> name{};
    if (space.read32(0) == ones || space.read16(status) == 0xffff) {
      return failure(errc::removed,
                     "the function does not answer: it was pulled out, or has no power")
          .of(address().print(name));
    }
    if (!pcie::read_command(space)[pcie::command_register::memory_space]) {
      return failure(errc::not_ready, "the function's memory space cannot be switched on")
          .of(address().print(name));
    }
    return {};
  }
  // Stops DMA before the pool's memory is unmapped.
  void stop() noexcept {
    auto space = config();
    pcie::set_command(space,
                      pcie::read_command(space).with(pcie::command_register::bus_master, false));
    (void)state_->messages.disable();
    (void)state_->let_go.disable();
  }

  std::unique_ptr<state> state_;
};
static_assert(PcieBackend<function>);
static_assert(InterruptSource<function>);
static_assert(ResettableFunction<function>);

}  // namespace phasebit::backend::vfio
