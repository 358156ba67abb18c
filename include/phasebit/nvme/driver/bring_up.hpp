// SPDX-License-Identifier: BSL-1.0
// Switching a controller on and off: NVMe Base 2.0, 3.5 (initialization), 3.6 (shutdown), 3.7 (resets).
// Every wait is bounded by what the controller itself promised (CAP.TO, RTD3E), and a function that
// is gone is told apart from one that is slow.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>

namespace phasebit::nvme::driver {

// Reads a register as its value type.
template <class Register, Mmio Bar>
[[nodiscard]] Register read_register(Bar& bar) noexcept {
  if constexpr (sizeof(typename Register::word_type) == 8) {
    return Register{bar.read64(Register::offset)};
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

// What the device can do, or why it is no NVMe controller that this driver can use.
template <Mmio Bar>
[[nodiscard]] result<cap> read_capabilities(Bar& bar) noexcept {
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
  if (!caps[cap::css_nvm] && !caps[cap::css_iocs]) {
    return failure(errc::not_supported, "the controller has no I/O command set (CAP.CSS)",
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

// A device that promises 0 still needs a moment: never less than half a second.
[[nodiscard]] constexpr std::uint64_t patience_ms(cap caps) noexcept {
  return caps.ready_timeout_ms() < 500 ? 500 : caps.ready_timeout_ms();
}

// Waits for CSTS to satisfy `good`; a fatal status ends the wait where `fatal_ends` says so.
template <Mmio Bar, PollClock Clock, class Good>
[[nodiscard]] result<> wait_for_status(Bar& bar, Clock&& clock, std::uint64_t milliseconds,
                                       bool fatal_ends, const char* late, Good good) noexcept {
  csts last{};
  const bool done = poll_until(clock, milliseconds * nanoseconds_per_ms, [&]() noexcept {
    last = read_register<csts>(bar);
    return last.removed() || (fatal_ends && last[csts::cfs]) || good(last);
  });
  if (last.removed()) return removed_error();
  if (fatal_ends && last[csts::cfs]) {
    return failure(errc::protocol, "the controller reports a fatal status (CSTS.CFS)", last.raw);
  }
  if (!done) return failure(errc::timed_out, late, milliseconds);
  return {};
}

}  // namespace detail

// Clears CC.EN and waits until the controller has let go of all memory. After a success the device
// touches no queue any more; after a failure nobody knows.
template <Mmio Bar, PollClock Clock>
[[nodiscard]] result<> disable(Bar& bar, Clock&& clock, cap caps) noexcept {
  const auto config = read_register<cc>(bar);
  if (config.raw == 0xffff'ffffU) return removed_error();
  if (config[cc::en]) {
    // A controller on its way up is not to be disturbed before it has arrived (3.5.1).
    if (!read_register<csts>(bar)[csts::rdy]) {
      const auto up = detail::wait_for_status(bar, clock, detail::patience_ms(caps), true, "",
                                              [](csts s) noexcept { return s[csts::rdy]; });
      if (!up && up.error().code == errc::removed) return up;
    }
    write_register(bar, config.with(cc::en, false).with(cc::shn, shutdown_notification::none));
  }
  return detail::wait_for_status(
      bar, clock, detail::patience_ms(caps), false,
      "the controller did not stop (CSTS.RDY stays 1) within CAP.TO, in ms",
      [](csts s) noexcept { return !s[csts::rdy]; });
}

// Where the admin queues lie, and the memory page that all lists are made of.
struct admin_setup {
  bus_addr submission;
  bus_addr completion;
  std::uint32_t entries = 0;  // of each
  std::uint8_t page_shift = 12;
};

// Programs the admin queues and sets CC.EN of a controller that is disabled; returns when it is ready.
template <Mmio Bar, PollClock Clock>
[[nodiscard]] result<> enable(Bar& bar, Clock&& clock, cap caps,
                              const admin_setup& setup) noexcept {
  write_register(bar, aqa::for_entries(setup.entries, setup.entries));
  write_register(bar, asq{setup.submission.value()});
  write_register(bar, acq{setup.completion.value()});
  write_register(bar, cc{}.with(cc::css, caps[cap::css_nvm] ? command_set_selected::nvm
                                                            : command_set_selected::all_supported)
                          .with(cc::mps, static_cast<std::uint8_t>(setup.page_shift - 12U))
                          .with(cc::iosqes, 6)
                          .with(cc::iocqes, 4)
                          .with(cc::en, true));
  return detail::wait_for_status(bar, clock, detail::patience_ms(caps), true,
                                 "the controller did not become ready within CAP.TO, in ms",
                                 [](csts s) noexcept { return s[csts::rdy]; });
}

// Tells the controller to finish (flush caches, note the clean end) before power or it goes away, and
// waits for it. The caller has deleted its I/O queues.
template <Mmio Bar, PollClock Clock>
[[nodiscard]] result<> shut_down(Bar& bar, Clock&& clock, std::uint64_t milliseconds,
                                 shutdown_notification how) noexcept {
  const auto config = read_register<cc>(bar);
  if (config.raw == 0xffff'ffffU) return removed_error();
  write_register(bar, config.with(cc::shn, how));
  return detail::wait_for_status(
      bar, clock, milliseconds, true, "the controller did not finish its shutdown, in ms",
      [](csts s) noexcept { return s[csts::shst] == shutdown_status::complete; });
}

}  // namespace phasebit::nvme::driver
