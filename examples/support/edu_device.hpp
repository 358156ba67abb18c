// SPDX-License-Identifier: BSL-1.0
// QEMU's educational device (1234:11e8), described from its data sheet, docs/specs/edu of QEMU: a
// factorial engine, a DMA engine with 4 KiB of its own, one interrupt: the parts of a first FPGA
// design.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

namespace example::edu {

using phasebit::errc;
using phasebit::failure;
using phasebit::field;
using phasebit::result;
using phasebit::pcie::device_register;
using phasebit::pcie::read_only_register;
using phasebit::pcie::write_only_register;

inline constexpr std::uint16_t vendor_id = 0x1234;
inline constexpr std::uint16_t device_id = 0x11e8;

struct identification : read_only_register<identification, 0x00> {
  using device_register::device_register;
  static constexpr field<15, 0> design{};
  static constexpr field<23, 16> minor_number{};
  static constexpr field<31, 24> major_number{};
};
inline constexpr std::uint16_t edu_design = 0x00ed;

// Reads as the inverse of what was written.
struct liveness : device_register<liveness, 0x04> {
  using device_register::device_register;
};

// Takes a number while the engine is idle, and contains its factorial (modulo 2^32) when it is idle
// again.
struct factorial : device_register<factorial, 0x08> {
  using device_register::device_register;
};
struct status : device_register<status, 0x20> {
  using device_register::device_register;
  static constexpr field<0> computing{};
  static constexpr field<7> interrupt_when_done{};
};

// Bits stay up, and the interrupt line with them, until they are acknowledged.
struct interrupt_status : read_only_register<interrupt_status, 0x24> {
  using device_register::device_register;
  static constexpr field<0> factorial_done{};
  static constexpr field<8> dma_done{};
};
struct interrupt_raise : write_only_register<interrupt_raise, 0x60> {
  using device_register::device_register;
};
struct interrupt_acknowledge : write_only_register<interrupt_acknowledge, 0x64> {
  using device_register::device_register;
};

// These have 64 bits and take accesses of 32 or 64; one of 32 sets the upper half to zero. Described
// as their lower halves they work on every bus, and addresses stay below 4 GiB.
struct dma_source : device_register<dma_source, 0x80> {
  using device_register::device_register;
};
struct dma_destination : device_register<dma_destination, 0x88> {
  using device_register::device_register;
};
struct dma_count : device_register<dma_count, 0x90> {
  using device_register::device_register;
};
struct dma_command : device_register<dma_command, 0x98> {
  using device_register::device_register;
  static constexpr field<0> run{};
  static constexpr field<1> to_memory{};  // else from memory
  static constexpr field<2> interrupt_when_done{};
};

// Where the device's own memory lies, as its DMA engine counts.
inline constexpr std::uint32_t buffer_at = 0x4'0000;
inline constexpr std::uint32_t buffer_bytes = 4096;
// QEMU 7.2 takes a transfer that ends at the very end of the buffer for one beyond it, and aborts.
inline constexpr std::uint32_t usable_bytes = buffer_bytes - 1;

// Whether a completion is found by polling or signalled by the device's interrupt.
enum class notice : bool { none, interrupt };

// One thread at a time. Registers are read and written in 32 bits, as the device asks below 80h.
template <phasebit::Mmio Bar>
class device {
 public:
  using registers_type = phasebit::pcie::register_block<Bar>;

  // `reachable` is the mask of addresses that the DMA engine drives: 28 bits, or the dma_mask= of
  // -device edu. Errors: removed, not_supported (another device).
  [[nodiscard]] static result<device> attach(Bar bar,
                                             std::uint64_t reachable = 0x0fff'ffff) noexcept {
    auto registers =
        registers_type::template attach<identification, liveness, factorial, status,
                                        interrupt_status, interrupt_raise, interrupt_acknowledge,
                                        dma_source, dma_destination, dma_count, dma_command>(bar);
    if (!registers) return registers.error();
    const auto id = registers->template read<identification>();
    if (id.raw == 0xffff'ffff) {
      return failure(errc::removed, "the device does not answer: its registers read as ones");
    }
    if (id[identification::design] != edu_design) {
      return failure(errc::not_supported, "this is no edu device; its identification", id.raw);
    }
    return device{*registers, reachable & 0xffff'ffff};
  }

  [[nodiscard]] registers_type& registers() noexcept { return registers_; }
  [[nodiscard]] identification version() noexcept {
    return registers_.template read<identification>();
  }

  // Whether the device turns words around. Errors: io, the value being the wrong answer.
  [[nodiscard]] result<> check_liveness() noexcept {
    for (const std::uint32_t word : {0U, 0xffff'ffffU, 0x1234'5678U, 0x8000'0001U}) {
      registers_.write(liveness{word});
      const std::uint32_t back = registers_.template read<liveness>().raw;
      if (back != ~word) {
        return failure(errc::io, "the liveness register does not hold the inverse", back);
      }
    }
    return {};
  }

  // Errors: busy.
  [[nodiscard]] result<> start_factorial(std::uint32_t n, notice how = notice::none) noexcept {
    if (registers_.template read<status>()[status::computing]) {
      return failure(errc::busy, "the factorial engine is computing");
    }
    registers_.write(status{}.with(status::interrupt_when_done, how == notice::interrupt));
    registers_.write(factorial{n});
    return {};
  }
  // Errors: timed_out.
  template <phasebit::PollClock Clock>
  [[nodiscard]] result<std::uint32_t> finish_factorial(Clock&& clock,
                                                       std::uint64_t nanoseconds) noexcept {
    const auto idle = registers_.template wait_for<status>(
        clock, nanoseconds, [](status now) noexcept { return !now[status::computing]; });
    if (!idle) return failure(errc::timed_out, "the factorial engine does not finish");
    return registers_.template read<factorial>().raw;
  }

  // Between memory and the device's buffer, from byte `at` of it on. The device trusts its driver (a
  // transfer beyond the buffer ends QEMU 7.2, an address beyond the mask is cut), so the driver does
  // not. Errors: out_of_range (the buffer, or the mask), busy.
  [[nodiscard]] result<> start_read(const phasebit::dma_region& from, std::uint32_t at,
                                    notice how = notice::none) noexcept {
    return start(from, at, false, how);
  }
  [[nodiscard]] result<> start_write(const phasebit::dma_region& to, std::uint32_t at,
                                     notice how = notice::none) noexcept {
    return start(to, at, true, how);
  }
  // A transfer takes a tenth of a second of the device's time. Errors: timed_out.
  template <phasebit::PollClock Clock>
  [[nodiscard]] result<> finish_dma(Clock&& clock, std::uint64_t nanoseconds) noexcept {
    const auto done = registers_.template wait_for<dma_command>(
        clock, nanoseconds, [](dma_command now) noexcept { return !now[dma_command::run]; });
    if (!done) return failure(errc::timed_out, "the DMA engine does not come to an end");
    return {};
  }

  [[nodiscard]] interrupt_status pending() noexcept {
    return registers_.template read<interrupt_status>();
  }
  void acknowledge(interrupt_status what) noexcept {
    registers_.write(interrupt_acknowledge{what.raw});
  }

 private:
  device(registers_type registers, std::uint64_t reachable) noexcept
      : registers_(registers), reachable_(reachable) {}

  [[nodiscard]] result<> start(const phasebit::dma_region& memory, std::uint32_t at, bool to_memory,
                               notice how) noexcept {
    if (memory.size() == 0 || at > usable_bytes || memory.size() > usable_bytes - at) {
      return failure(errc::out_of_range, "the transfer goes beyond the device's buffer; its bytes",
                     memory.size());
    }
    const std::uint64_t last = memory.bus.value() + memory.size() - 1;
    if (last < memory.bus.value() || (last & ~reachable_) != 0) {
      return failure(errc::out_of_range,
                     "the memory lies beyond what the device's DMA engine reaches; its last byte",
                     last);
    }
    if (registers_.template read<dma_command>()[dma_command::run]) {
      return failure(errc::busy, "the DMA engine is at work");
    }
    const auto bus = static_cast<std::uint32_t>(memory.bus.value());
    registers_.write(dma_source{to_memory ? buffer_at + at : bus});
    registers_.write(dma_destination{to_memory ? bus : buffer_at + at});
    registers_.write(dma_count{static_cast<std::uint32_t>(memory.size())});
    registers_.write(dma_command{}
                         .with(dma_command::to_memory, to_memory)
                         .with(dma_command::interrupt_when_done, how == notice::interrupt)
                         .with(dma_command::run, true));
    return {};
  }

  registers_type registers_;
  std::uint64_t reachable_;
};

}  // namespace example::edu
