// SPDX-License-Identifier: BSL-1.0
// MSI-X and MSI without an interrupt controller: each vector's message is a write to a word of RAM that
// we share, so that an interrupt is a word that is no longer zero.
#pragma once

#include <phasebit/backend/qtest/bar.hpp>
#include <phasebit/backend/qtest/config.hpp>
#include <phasebit/backend/qtest/ram.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/pcie/spec/msi.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/posix/steady_clock.hpp>

#include <atomic>
#include <cstdint>
#include <utility>

namespace phasebit::backend::qtest {

// The words of one function's vectors. enable() and disable() by one thread; poll() and wait() by
// one thread per vector. Move-only.
class interrupts {
 public:
  interrupts() noexcept = default;
  interrupts(interrupts&& other) noexcept
      : ram_(std::exchange(other.ram_, nullptr)),
        words_(std::exchange(other.words_, {})),
        count_(std::exchange(other.count_, 0)) {}
  interrupts& operator=(interrupts&& other) noexcept {
    PHASEBIT_EXPECTS(ram_ == nullptr, "interrupts are switched off before they are replaced");
    ram_ = std::exchange(other.ram_, nullptr);
    words_ = std::exchange(other.words_, {});
    count_ = std::exchange(other.count_, 0);
    return *this;
  }
  ~interrupts() = default;

  [[nodiscard]] unsigned count() const noexcept { return count_; }

  // Errors: busy (on already), out_of_range (more than the table has), exhausted (RAM), protocol.
  [[nodiscard]] result<> enable(config_function config, bar table_bar,
                                const pcie::msix_capability& capability, ram& memory,
                                unsigned count) noexcept {
    if (ram_ != nullptr) return failure(errc::busy, "interrupts are on already");
    if (count == 0 || count > capability.vectors) {
      return failure(errc::out_of_range, "the function has another number of vectors",
                     capability.vectors);
    }
    auto table = pcie::msix_table<bar>::attach(table_bar, capability);
    if (!table) return table.error();
    const auto words = memory.allocate(count * sizeof(std::uint32_t), sizeof(std::uint32_t));
    if (!words) return words.error();
    for (unsigned v = 0; v != count; ++v) {
      table->program(v, {words->bus + v * sizeof(std::uint32_t), 1});
      table->unmask(v);
    }
    pcie::set_msix_control(config, capability, true);
    ram_ = &memory;
    words_ = *words;
    count_ = count;
    return {};
  }

  // The one vector of a function that has only MSI: its messages differ in their data alone, and all
  // go to one word. Errors: busy, out_of_range, exhausted.
  [[nodiscard]] result<> enable(config_function config, const pcie::msi_capability& capability,
                                ram& memory, unsigned count) noexcept {
    if (ram_ != nullptr) return failure(errc::busy, "interrupts are on already");
    if (count != 1) {
      return failure(errc::out_of_range, "a function without MSI-X has one vector here", 1);
    }
    const auto words = memory.allocate(sizeof(std::uint32_t), sizeof(std::uint32_t));
    if (!words) return words.error();
    if (const auto on = pcie::enable_msi(config, capability, {words->bus, 1}); !on) {
      memory.release(*words);
      return on;
    }
    ram_ = &memory;
    words_ = *words;
    count_ = count;
    return {};
  }

  // After it no message arrives. The read behind the write waits until QEMU has done it.
  void disable(config_function config, const pcie::msix_capability& capability) noexcept {
    if (ram_ == nullptr) return;
    pcie::set_msix_control(config, capability, false);
    (void)config.read16(capability.offset);
    forget();
  }
  void disable(config_function config, const pcie::msi_capability& capability) noexcept {
    if (ram_ == nullptr) return;
    pcie::disable_msi(config, capability);
    (void)config.read16(capability.offset);
    forget();
  }

  [[nodiscard]] bool poll(unsigned vector) noexcept {
    const std::atomic_ref<std::uint32_t> pending{word(vector)};
    if (pending.load(std::memory_order_relaxed) == 0) return false;
    // Taken before the ring is looked at: an event after this is another event. The exchange takes the last
    // message, and acquires what was written before it: "clear the flag, then look" is not turned around.
    return pending.exchange(0, std::memory_order_acquire) != 0;
  }
  [[nodiscard]] bool wait(unsigned vector, std::uint64_t nanoseconds) noexcept {
    posix::steady_clock clock;
    return poll_until(clock, nanoseconds, [&] { return poll(vector); });
  }

 private:
  [[nodiscard]] std::uint32_t& word(unsigned vector) const noexcept {
    PHASEBIT_EXPECTS(vector < count_, "the vector was not enabled");
    return *reinterpret_cast<std::uint32_t*>(words_.data() + vector * sizeof(std::uint32_t));
  }

  void forget() noexcept {
    std::exchange(ram_, nullptr)->release(std::exchange(words_, {}));
    count_ = 0;
  }

  ram* ram_ = nullptr;
  dma_region words_{};
  unsigned count_ = 0;
};

}  // namespace phasebit::backend::qtest
