// SPDX-License-Identifier: BSL-1.0
// Procedures of several admin commands: firmware update, format, sanitize, device self-test, and what an asynchronous event
// means. NVMe Base 2.0, 3.11 (firmware), 5.14 (format), 8.21 (sanitize), 8.6 (self-test), 5.2 (events).
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/spec/async_event.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>
#include <phasebit/nvme/spec/maintenance_logs.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::driver {

// The reset that committed firmware still needs before it runs.
enum class firmware_needs : std::uint8_t {
  nothing,
  controller_reset,
  conventional_reset,
  subsystem_reset
};
struct firmware_options {
  std::uint8_t slot = 0;  // 0: the controller chooses
  firmware_action action = firmware_action::replace_and_activate_at_reset;
};

// Sends an image in parts of the length that the controller takes (FWUG, MDTS) and commits it. The image is a multiple of 4 bytes.
// Errors: not_supported (OACS), invalid_argument, io with the status of the refused command; a failed download leaves
// the slots as they were.
template <class Controller>
[[nodiscard]] result<firmware_needs> update_firmware(
    Controller& controller, std::span<const std::byte> image,
    const firmware_options& options = {}) noexcept {
  if (!identify_controller::oacs_firmware.get(controller.identity().oacs.get())) {
    return failure(errc::not_supported, "the controller takes no firmware images (OACS)");
  }
  if (image.empty() || image.size() % 4 != 0 || image.size() > 0xffff'fffcU) {
    return failure(errc::invalid_argument, "a firmware image is a multiple of 4 bytes",
                   image.size());
  }
  // Parts are multiples of FWUG, in 4 KiB; 0 is unknown and FFh any.
  const std::uint8_t fwug = controller.identity().fwug;
  const std::size_t grain = std::size_t{4096} * (fwug == 0 || fwug == 0xff ? 1U : fwug);
  std::size_t part = controller.max_transfer() < 65'536 ? controller.max_transfer() : 65'536;
  part = part < grain ? grain : part / grain * grain;
  auto buffer = allocate(controller.backend(), part);
  if (!buffer) return buffer.error();
  for (std::size_t at = 0; at < image.size(); at += part) {
    const std::size_t now = image.size() - at < part ? image.size() - at : part;
    __builtin_memcpy((**buffer).data(), image.data() + at, now);
    const auto sent = controller.execute_checked(
        "Firmware Image Download was refused; status",
        admin::firmware_download(static_cast<std::uint32_t>(now), static_cast<std::uint32_t>(at)),
        (**buffer).subregion(0, now));
    if (!sent) {
      // After a time-out the device may still read the buffer.
      if (sent.error().code != errc::io) (void)buffer->leak();
      return sent.error();
    }
  }
  const auto committed = controller.execute(admin::firmware_commit(options.slot, options.action));
  if (!committed) return committed.error();
  switch (committed->status().code()) {
    case status_code::success:
      return options.action == firmware_action::replace_and_activate_at_reset ||
                     options.action == firmware_action::activate_at_reset
                 ? firmware_needs::controller_reset
                 : firmware_needs::nothing;
    case status_code::firmware_needs_controller_reset:
      return firmware_needs::controller_reset;
    case status_code::firmware_needs_conventional_reset:
      return firmware_needs::conventional_reset;
    case status_code::firmware_needs_subsystem_reset:
      return firmware_needs::subsystem_reset;
    default:
      return failure(errc::io, "Firmware Commit was refused; status", committed->status().raw())
          .of(text(committed->status()));
  }
}

// Formats a namespace and returns its new handle; handles made before are refused from then on. Takes as long as
// controller_options::format_timeout_ms. Errors: not_supported (OACS), io with the status.
template <class Controller>
[[nodiscard]] result<namespace_info> format_namespace(Controller& controller,
                                                      const format_command& how) noexcept {
  if (!identify_controller::oacs_format.get(controller.identity().oacs.get())) {
    return failure(errc::not_supported, "the controller has no Format NVM (OACS)");
  }
  const auto done =
      controller.execute_checked("Format NVM was refused; status", admin::format(how));
  if (!done) return done.error();
  return controller.identify_namespace(how.nsid);
}

namespace detail {

// Asks look() every `every_ms` until it returns a value, an error, or the time is over.
template <class Controller, class Look>
[[nodiscard]] result<> watch(Controller& controller, std::uint64_t milliseconds,
                             std::uint64_t every_ms, const char* late, Look&& look) noexcept {
  auto&& clock = controller.backend().clock();
  const std::uint64_t begin = clock.now();
  for (;;) {
    const result<bool> done = look();
    if (!done) return done.error();
    if (*done) return {};
    if (clock.now() - begin > to_nanoseconds(milliseconds)) {
      return failure(errc::timed_out, late, milliseconds);
    }
    (void)poll_until(clock, to_nanoseconds(every_ms), []() noexcept { return false; });
  }
}

}  // namespace detail

// How often a procedure asks, and how long it waits for the device.
struct procedure_options {
  std::uint64_t timeout_ms = 3'600'000;
  std::uint64_t every_ms = 200;
};

// Sanitizes all of the subsystem's media and waits for the end. progress(parts of 65536) is called now and then, noexcept.
// Errors: not_supported (SANICAP), io: refused, or failed at the device; timed_out: the device goes on by itself.
template <class Controller, std::invocable<std::uint16_t> Progress>
[[nodiscard]] result<> sanitize(Controller& controller, const sanitize_command& how,
                                Progress&& progress,
                                const procedure_options& options = {}) noexcept {
  if ((controller.identity().sanicap.get() & 7U) == 0) {
    return failure(errc::not_supported, "the controller has no Sanitize (SANICAP)");
  }
  const auto begun =
      controller.execute_checked("Sanitize was refused; status", admin::sanitize(how));
  if (!begun) return begun.error();
  return detail::watch(
      controller, options.timeout_ms, options.every_ms,
      "the sanitize operation has not ended in time, in ms", [&]() noexcept -> result<bool> {
        sanitize_log log;
        const auto read =
            controller.get_log_page(log_page_id::sanitize_status, writable_wire_bytes(log));
        if (!read) return read.error();
        switch (sanitize_log::state_bits.get(log.status.get())) {
          case sanitize_state::in_progress:
            progress(log.progress.get());
            return false;
          case sanitize_state::succeeded:
          case sanitize_state::succeeded_without_deallocation:
            return true;
          default:
            return failure(errc::io, "the sanitize operation has failed; its status word",
                           log.status.get());
        }
      });
}
template <class Controller>
[[nodiscard]] result<> sanitize(Controller& controller, const sanitize_command& how,
                                const procedure_options& options = {}) noexcept {
  return sanitize(
      controller, how, [](std::uint16_t) noexcept {}, options);
}

// Runs a self-test of the controller and of the namespaces that `nsid` names, waits for its end, and returns the newest entry
// of the log, whose result is how it ended. progress(percent) as above. Errors: not_supported (OACS), io, timed_out.
template <class Controller, std::invocable<std::uint8_t> Progress>
[[nodiscard]] result<self_test_entry> run_self_test(
    Controller& controller, self_test which, std::uint32_t nsid, Progress&& progress,
    const procedure_options& options = {}) noexcept {
  if (!identify_controller::oacs_self_test.get(controller.identity().oacs.get())) {
    return failure(errc::not_supported, "the controller has no Device Self-test (OACS)");
  }
  const auto begun = controller.execute_checked("Device Self-test was refused; status",
                                                admin::device_self_test(which, nsid));
  if (!begun) return begun.error();
  self_test_entry newest{};
  const auto ended =
      detail::watch(controller, options.timeout_ms, options.every_ms,
                    "the self-test has not ended in time, in ms", [&]() noexcept -> result<bool> {
                      self_test_log log;
                      const auto read = controller.get_log_page(log_page_id::device_self_test,
                                                                writable_wire_bytes(log));
                      if (!read) return read.error();
                      newest = log.result[0];
                      if ((log.current & 0xfU) == 0) return true;
                      progress(log.completion);
                      return false;
                    });
  if (!ended) return ended.error();
  return newest;
}
template <class Controller>
[[nodiscard]] result<self_test_entry> run_self_test(
    Controller& controller, self_test which = self_test::brief, std::uint32_t nsid = all_namespaces,
    const procedure_options& options = {}) noexcept {
  return run_self_test(
      controller, which, nsid, [](std::uint8_t) noexcept {}, options);
}

// The action that an asynchronous event asks of the program.
enum class event_advice : std::uint8_t {
  note,              // nothing: for the record
  driver_fault,      // this driver rang a wrong doorbell
  reset_controller,  // a persistent internal error
  warn_health,       // spare, temperature or reliability: see health_log::critical_warning
  rescan,            // namespaces have changed: controller::rescan() was called
  firmware,          // new firmware is being activated: commands may be paused
  read_log,  // of a kind that is not handled here: its log page was read as far as it lets events through
};
struct event_report {
  async_event event{};
  event_advice advice = event_advice::note;
  std::uint8_t critical_warning = 0;  // of a health event: bits of health_log
  error_information newest{};         // of an error event
};

// Takes the oldest event of the controller, reads the log page that it names, which lets the device report its kind again,
// and reports what it means. not_found: there is none. Call controller.poll() first, or any admin command.
template <class Controller>
[[nodiscard]] result<event_report> take_event(Controller& controller) noexcept {
  controller.poll();
  const auto event = controller.next_event();
  if (!event) return failure(errc::not_found, "the controller has reported no event");
  event_report out{.event = *event};
  switch (event->type()) {
    case async_event_type::error: {
      const auto read =
          controller.get_log_page(log_page_id::error_information, writable_wire_bytes(out.newest));
      if (!read) return read.error();
      switch (static_cast<error_event>(event->information())) {
        case error_event::invalid_doorbell:
        case error_event::invalid_doorbell_value:
          out.advice = event_advice::driver_fault;
          break;
        case error_event::diagnostic_failure:
        case error_event::persistent_internal:
          out.advice = event_advice::reset_controller;
          break;
        default:
          break;
      }
      return out;
    }
    case async_event_type::health: {
      health_log log;
      const auto read = controller.get_log_page(log_page_id::health, writable_wire_bytes(log));
      if (!read) return read.error();
      out.critical_warning = log.critical_warning;
      out.advice = event_advice::warn_health;
      return out;
    }
    case async_event_type::notice:
      switch (static_cast<notice_event>(event->information())) {
        case notice_event::namespace_attributes:
          out.advice = event_advice::rescan;
          if (const auto done = controller.rescan(); !done) return done.error();
          return out;
        case notice_event::firmware_activation: {
          out.advice = event_advice::firmware;
          firmware_slot_log slots;
          const auto read =
              controller.get_log_page(log_page_id::firmware_slots, writable_wire_bytes(slots));
          if (!read) return read.error();
          return out;
        }
        default:
          break;
      }
      [[fallthrough]];
    default: {
      out.advice = event_advice::read_log;
      std::byte first[64];
      const auto read = controller.get_log_page(event->log_page(), first);
      if (!read && read.error().code != errc::io) return read.error();
      return out;
    }
  }
}

}  // namespace phasebit::nvme::driver
