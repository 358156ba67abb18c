// SPDX-License-Identifier: BSL-1.0
// A PCI function driven through its files in /sys, without vfio: registers mapped, DMA by physical
// addresses, the interrupt of uio where it is bound to a uio driver. For machines whose IOMMU is off.
#pragma once

#include <phasebit/backend/mmio_linux/dma_pool.hpp>
#include <phasebit/backend/mmio_linux/open.hpp>
#include <phasebit/backend/mmio_linux/pci_resources.hpp>
#include <phasebit/backend/mmio_linux/uio_interrupt.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/posix/pci_sysfs.hpp>
#include <phasebit/posix/steady_clock.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>

namespace phasebit::backend::mmio_linux {

struct options {
  dma_source dma = huge_pages{};
  bool forced = false;  // open it although a kernel driver uses it; for inspection only
  system_paths paths{};
};

// Nothing protects the machine from this function's DMA: a wrong address in a command overwrites
// memory. After a removal, an access to a mapping ends the program (SIGBUS). Set-up by one thread; registers and doorbells of a mapped BAR by any. Move-only.
class function {
 public:
  using bar_type = pcie::mapped_bar;
  using ring_order = device_order;

  // `address` is "0000:01:00.0" or "01:00.0". Errors: invalid_argument, and those of
  // held_function::take(). No memory is taken before it is requested.
  [[nodiscard]] static result<function> open(std::string_view address,
                                             const options& how = {}) noexcept {
    const auto parsed = posix::parse_pci_address(address);
    if (!parsed) return parsed.error();
    return open(*parsed, how);
  }
  [[nodiscard]] static result<function> open(pcie::function_address address,
                                             const options& how = {}) noexcept {
    auto held = held_function::take(address, how.forced, how.paths);
    if (!held) return held.error();
    auto made = std::make_unique<state>(std::move(*held), how);
    if (const auto uio = open_uio(*made); !uio) return uio.error();
    return function{std::move(made)};
  }

  function(function&&) noexcept = default;
  function& operator=(function&&) noexcept = default;
  ~function() = default;

  [[nodiscard]] pcie::function_address address() const noexcept { return state_->held.address(); }
  [[nodiscard]] posix::config_file config() noexcept { return state_->held.config(); }
  // The BARs as listed in /sys, without accessing them.
  [[nodiscard]] const pcie::bar_array& bars() const noexcept { return state_->held.bars(); }

  // Errors: those of map_resource().
  [[nodiscard]] result<pcie::mapped_bar> map_bar(unsigned index) noexcept {
    if (index >= state_->mapped.size()) {
      return failure(errc::not_found, "the function has no such BAR").at(index);
    }
    auto& mapping = state_->mapped[index];
    if (mapping.size() == 0) {
      auto made = map(index, bar_view::registers);
      if (!made) return made.error();
      mapping = std::move(*made);
    }
    return mapping.bar();
  }
  // A mapping of the caller's own: memory behind a BAR, to be gathered in the processor's buffers.
  [[nodiscard]] result<device_mapping> map(unsigned index, bar_view view) const noexcept {
    return map_resource(address(), bars(), index, view, state_->held.paths());
  }

  // Errors: not_supported (see sees_physical_addresses()), and those of dma_pool.
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (state_->dma.is_physical() && !state_->physical) {
      const auto same = sees_physical_addresses(address(), state_->held.paths());
      if (!same) return same.error();
      state_->physical = true;
    }
    return state_->dma.allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { state_->dma.release(region); }

  [[nodiscard]] posix::steady_clock clock() const noexcept { return {}; }

  // One, INTx, where the function is bound to a uio driver; else none. MSI-X needs vfio.
  [[nodiscard]] unsigned interrupt_vectors() const noexcept {
    return state_->interrupt.interrupt_vectors();
  }
  [[nodiscard]] result<> enable_interrupts(unsigned count) noexcept {
    return state_->interrupt.enable_interrupts(count);
  }
  [[nodiscard]] result<> disable_interrupts() noexcept {
    return state_->interrupt.disable_interrupts();
  }
  [[nodiscard]] bool poll_interrupt(unsigned vector) noexcept {
    return state_->interrupt.poll_interrupt(vector);
  }
  [[nodiscard]] bool wait_interrupt(unsigned vector, std::uint64_t nanoseconds) noexcept {
    return state_->interrupt.wait_interrupt(vector, nanoseconds);
  }

  // By the kernel, which keeps the configuration space over it. Errors: not_supported, permission, io.
  [[nodiscard]] result<> reset() noexcept {
    const std::string path = posix::pci_path(address(), state_->held.paths().sys) + "/reset";
    if (!posix::exists(path)) {
      return failure(errc::not_supported, "the kernel has no method to reset this function")
          .of(posix::name_of(address()));
    }
    const auto done = posix::write_text(path, "1", "the function cannot be reset");
    if (!done) return explain(done.error(), state_->held.paths(), path);
    return state_->held.start();
  }

 private:
  // Destroyed from the last to the first: `held` stops DMA, then the memory is released.
  struct state {
    state(held_function&& h, const options& how) : dma(how.dma, how.paths), held(std::move(h)) {}

    dma_pool dma;
    std::array<device_mapping, pcie::type0_bars> mapped;
    held_function held;
    uio_interrupt interrupt;
    bool physical = false;
  };

  explicit function(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}

  // Without its file in /dev a uio driver's interrupt is unavailable; everything else works.
  [[nodiscard]] static result<> open_uio(state& s) {
    std::string name;
    posix::for_each_entry(posix::pci_path(s.held.address(), s.held.paths().sys) + "/uio",
                          [&](std::string_view entry) { name = entry; });
    if (name.empty()) return {};
    const std::string path = s.held.paths().dev + "/" + name;
    auto file = posix::open_file(path.c_str(), O_RDWR);
    if (!file) {
      return file.error().code == errc::not_found ? result<>{}
                                                  : explain(file.error(), s.held.paths(), path);
    }
    s.interrupt = uio_interrupt{std::move(*file), s.held.config()};
    return {};
  }

  std::unique_ptr<state> state_;
};
static_assert(PcieBackend<function>);
static_assert(InterruptSource<function>);
static_assert(ResettableFunction<function>);

}  // namespace phasebit::backend::mmio_linux
