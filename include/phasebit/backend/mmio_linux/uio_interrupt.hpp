// SPDX-License-Identifier: BSL-1.0
// The interrupt of a uio device: a count that is read from its file, switched on again by a write.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/posix/config_file.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <poll.h>
#include <unistd.h>

namespace phasebit::backend::mmio_linux {

// Vector 0 only. A uio driver disables the interrupt when it has occurred, because it would repeat
// until its cause in the device is cleared; the next poll or wait enables it again. So serve the
// device after each one that returns true. One thread at a time. Move-only.
class uio_interrupt {
 public:
  uio_interrupt() noexcept = default;
  // `file` is /dev/uioN. uio_pci_generic disables the interrupt in the function's command register
  // and does not support write(2): `config` is for that, and outlives this.
  explicit uio_interrupt(posix::unique_fd file,
                         std::optional<posix::config_file> config = std::nullopt) noexcept
      : file_(std::move(file)), config_(config) {}
  uio_interrupt(uio_interrupt&& other) noexcept
      : file_(std::move(other.file_)),
        config_(other.config_),
        enabled_(std::exchange(other.enabled_, false)),
        armed_(std::exchange(other.armed_, false)) {}
  uio_interrupt& operator=(uio_interrupt&& other) noexcept {
    if (this != &other) {
      (void)disable_interrupts();
      file_ = std::move(other.file_);
      config_ = other.config_;
      enabled_ = std::exchange(other.enabled_, false);
      armed_ = std::exchange(other.armed_, false);
    }
    return *this;
  }
  ~uio_interrupt() { (void)disable_interrupts(); }

  [[nodiscard]] unsigned interrupt_vectors() const noexcept { return file_ ? 1 : 0; }
  // Errors: out_of_range, busy, not_supported (the device has no interrupt), io.
  [[nodiscard]] result<> enable_interrupts(unsigned count) noexcept {
    if (count != interrupt_vectors() || count == 0) {
      return failure(errc::out_of_range,
                     "uio gives one interrupt where the function is bound to a uio driver, else "
                     "none",
                     interrupt_vectors());
    }
    if (enabled_) return failure(errc::busy, "interrupts are on already");
    if (const auto on = arm(true); !on) return on;
    enabled_ = armed_ = true;
    return {};
  }
  [[nodiscard]] result<> disable_interrupts() noexcept {
    if (!std::exchange(enabled_, false)) return {};
    armed_ = false;
    return arm(false);
  }
  [[nodiscard]] bool poll_interrupt(unsigned vector) noexcept { return wait_interrupt(vector, 0); }
  [[nodiscard]] bool wait_interrupt(unsigned vector, std::uint64_t nanoseconds) noexcept {
    PHASEBIT_EXPECTS(vector == 0 && enabled_, "the vector was not enabled");
    if (!armed_ && !arm(true)) return false;
    armed_ = true;
    const auto ready = posix::wait_readable(file_.get(), to_milliseconds(nanoseconds));
    std::uint32_t count = 0;
    if (!ready || !*ready || ::read(file_.get(), &count, sizeof count) != sizeof count) {
      return false;
    }
    armed_ = false;
    return true;
  }
  // For an event loop of the caller's: readable when the interrupt has come.
  [[nodiscard]] int interrupt_descriptor() const noexcept { return file_.get(); }

 private:
  [[nodiscard]] result<> arm(bool on) noexcept {
    const std::uint32_t word = on ? 1 : 0;
    if (::write(file_.get(), &word, sizeof word) == sizeof word) return {};
    if (errno == EIO) return failure(errc::not_supported, "the uio device has no interrupt");
    if (errno != ENOSYS) return posix::os_error("the interrupt cannot be switched");
    // A driver without write(2) either leaves its interrupt on, or is uio_pci_generic.
    if (config_) {
      pcie::set_command(*config_, pcie::read_command(*config_).with(
                                      pcie::command_register::interrupt_disable, !on));
    }
    return {};
  }

  posix::unique_fd file_;
  std::optional<posix::config_file> config_;
  bool enabled_ = false;
  bool armed_ = false;
};
static_assert(InterruptSource<uio_interrupt>);

}  // namespace phasebit::backend::mmio_linux
