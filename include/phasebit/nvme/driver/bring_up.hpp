// SPDX-License-Identifier: BSL-1.0
// Switching a controller on and off: NVMe Base 2.0, 3.5 (initialization), 3.6 (shutdown), 3.7
// (resets). Every wait is bounded by the controller's own limits (CAP.TO, RTD3E), and a removed
// function is distinguished from a slow one.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>

namespace phasebit::nvme::driver {

// Reads a register as its value type. One of 64 bits is read as two dwords, low half first, as Base 2.0,
// 3.1.1 allows: some controllers answer a 64-bit read with all ones.
template <class Register, Mmio Bar>
[[nodiscard]] Register read_register(Bar& bar) noexcept {
  if constexpr (sizeof(typename Register::word_type) == 8) {
    const std::uint64_t low = bar.read32(Register::offset);
    return Register{low | std::uint64_t{bar.read32(Register::offset + 4)} << 32};
  } else {
    return Register{bar.read32(Register::offset)};
  }
}
template <class Register, Mmio Bar>
void write_register(Bar& bar, Register value) noexcept {
  if constexpr (sizeof(typename Register::word_type) == 8) {
    bar.write64_lo_hi(Register::offset, value.raw);
  } else {
    bar.write32(Register::offset, value.raw);
  }
}

[[nodiscard]] inline error removed_error() noexcept {
  return failure(errc::removed, "the controller is gone: its registers read all ones");
}

// The capabilities of the device, or the reason why this driver cannot use it. `assume_nvm` accepts
// a CAP.CSS of 0, which some controllers report.
template <Mmio Bar>
[[nodiscard]] result<cap> read_capabilities(Bar& bar, bool assume_nvm = false) noexcept {
  if (bar.size_bytes() < register_bytes(0, 0)) {
    return failure(errc::not_supported, "BAR 0 is too small for NVMe registers", bar.size_bytes());
  }
  const auto caps = read_register<cap>(bar);
  if (caps.raw == ~std::uint64_t{0}) return removed_error();
  if (caps.raw == 0) {
    return failure(errc::not_ready,
                   "CAP reads 0: the controller is offline (a virtual function is brought online "
                   "with Virtualization Management)");
  }
  const bool no_set = caps[cap::css] == 0;
  if (!caps[cap::css_nvm] && !caps[cap::css_iocs] && !(no_set && assume_nvm)) {
    return failure(errc::not_supported,
                   no_set ? "the controller reports no command set (CAP.CSS is 0); the option "
                            "assume_nvm tries the NVM command set"
                          : "the controller has no I/O command set (CAP.CSS)",
                   caps.raw);
  }
  if (bar.size_bytes() < register_bytes(0, caps[cap::dstrd])) {
    return failure(errc::protocol, "the admin doorbells lie beyond BAR 0 (CAP.DSTRD)", caps.raw);
  }
  if (caps[cap::mqes] == 0 || caps[cap::mpsmax] < caps[cap::mpsmin]) {
    return failure(errc::protocol, "CAP contradicts itself (MQES or MPSMAX below MPSMIN)",
                   caps.raw);
  }
  return caps;
}

namespace detail {

// A device that reports 0 still needs a moment: never less than half a second.
[[nodiscard]] constexpr std::uint64_t patience_ms(cap caps) noexcept {
  return caps.ready_timeout_ms() < 500 ? 500 : caps.ready_timeout_ms();
}

// Waits for CSTS to satisfy `good`; a fatal status ends the wait if `fatal_ends` is set. All ones
// can come from an unstable link as well as from a removed function: they end the wait if `is_gone`
// confirms it, and otherwise at the time-out.
template <Mmio Bar, PollClock Clock, class Gone, class Good>
[[nodiscard]] result<> wait_for_status(Bar& bar, Clock&& clock, std::uint64_t milliseconds,
                                       bool fatal_ends, const char* late, Gone&& is_gone,
                                       Good good) noexcept {
  csts last{};
  bool gone = false;
  const bool done = poll_until(clock, to_nanoseconds(milliseconds), [&]() noexcept {
    last = read_register<csts>(bar);
    if (last.removed()) return gone = is_gone();
    return (fatal_ends && last[csts::cfs]) || good(last);
  });
  if (last.removed()) return removed_error();
  if (fatal_ends && last[csts::cfs]) {
    return failure(errc::protocol, "the controller reports a fatal status (CSTS.CFS)", last.raw);
  }
  if (!done) return failure(errc::timed_out, late, milliseconds);
  return {};
}

}  // namespace detail

// Answers whether a function is gone for good, when its registers read all ones. The one to use where
// nothing else can be asked: then all ones count as removal.
struct gone_when_ones {
  [[nodiscard]] constexpr bool operator()() const noexcept { return true; }
};

// How a controller is to be switched off.
struct disable_options {
  std::uint32_t quiet_ms = 0;     // no register is read for so long after CC.EN was cleared
  std::uint32_t patience_ms = 0;  // more than CAP.TO allows, where that is longer
};

// Clears CC.EN and waits until the controller has released all memory. After a success the device
// touches no queue any more; after a failure it may.
template <Mmio Bar, PollClock Clock, class Gone = gone_when_ones>
[[nodiscard]] result<> disable(Bar& bar, Clock&& clock, cap caps, Gone&& is_gone = {},
                               const disable_options& options = {}) noexcept {
  std::uint64_t patience = detail::patience_ms(caps);
  if (patience < options.patience_ms) patience = options.patience_ms;
  cc config{};
  const bool there = poll_until(clock, patience * nanoseconds_per_ms, [&]() noexcept {
    config = read_register<cc>(bar);
    return config.raw != 0xffff'ffffU || is_gone();
  });
  if (!there || config.raw == 0xffff'ffffU) return removed_error();
  if (config[cc::en]) {
    // A controller on its way up is not to be disturbed before it has arrived (3.5.1).
    if (!read_register<csts>(bar)[csts::rdy]) {
      const auto up = detail::wait_for_status(bar, clock, patience, true, "", is_gone,
                                              [](csts s) noexcept { return s[csts::rdy]; });
      if (!up && up.error().code == errc::removed) return up;
    }
    write_register(bar, config.with(cc::en, false).with(cc::shn, shutdown_notification::none));
    if (options.quiet_ms != 0) {
      (void)poll_until(clock, options.quiet_ms * nanoseconds_per_ms,
                       []() noexcept { return false; });
    }
  }
  return detail::wait_for_status(
      bar, clock, patience, false,
      "the controller did not stop (CSTS.RDY stays 1) within CAP.TO, in ms", is_gone,
      [](csts s) noexcept { return !s[csts::rdy]; });
}

// Where the admin queues lie, and the memory page that all lists are made of.
struct admin_setup {
  bus_addr submission;
  bus_addr completion;
  std::uint32_t entries = 0;  // of each
  std::uint8_t page_shift = 12;
  std::uint8_t submission_shift = 6;  // CC.IOSQES: log2 of an I/O submission entry's bytes
  bool all_command_sets = false;      // not NVM alone, where the controller has several
};

// Programs the admin queues and sets CC.EN of a controller that is disabled; returns when it is ready.
template <Mmio Bar, PollClock Clock, class Gone = gone_when_ones>
[[nodiscard]] result<> enable(Bar& bar, Clock&& clock, cap caps, const admin_setup& setup,
                              Gone&& is_gone = {}) noexcept {
  write_register(bar, aqa::for_entries(setup.entries, setup.entries));
  write_register(bar, asq{setup.submission.value()});
  write_register(bar, acq{setup.completion.value()});
  write_register(
      bar, cc{}.with(cc::css, caps[cap::css_iocs] && (setup.all_command_sets || !caps[cap::css_nvm])
                                  ? command_set_selected::all_supported
                                  : command_set_selected::nvm)
               .with(cc::mps, static_cast<std::uint8_t>(setup.page_shift - 12U))
               .with(cc::iosqes, setup.submission_shift)
               .with(cc::iocqes, 4)
               .with(cc::en, true));
  return detail::wait_for_status(bar, clock, detail::patience_ms(caps), true,
                                 "the controller did not become ready within CAP.TO, in ms",
                                 is_gone, [](csts s) noexcept { return s[csts::rdy]; });
}

// Requests the controller's shutdown (flush caches, record the clean end) before power or the
// device is removed, and waits for it. The caller has deleted its I/O queues.
template <Mmio Bar, PollClock Clock, class Gone = gone_when_ones>
[[nodiscard]] result<> shut_down(Bar& bar, Clock&& clock, std::uint64_t milliseconds,
                                 shutdown_notification how, Gone&& is_gone = {}) noexcept {
  cc config{};
  const bool there = poll_until(clock, to_nanoseconds(milliseconds), [&]() noexcept {
    config = read_register<cc>(bar);
    return config.raw != 0xffff'ffffU || is_gone();
  });
  if (!there || config.raw == 0xffff'ffffU) return removed_error();
  write_register(bar, config.with(cc::shn, how));
  return detail::wait_for_status(
      bar, clock, milliseconds, true, "the controller did not finish its shutdown, in ms", is_gone,
      [](csts s) noexcept { return s[csts::shst] == shutdown_status::complete; });
}

}  // namespace phasebit::nvme::driver
