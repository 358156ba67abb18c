// SPDX-License-Identifier: BSL-1.0
// The log pages of a controller, as Get Log Page reports them: NVMe Base 2.0, section 5.16.
#pragma once

#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/settings.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// The newest Entries errors, and how many there ever were. Survives controller resets, as the
// specification asks; `count` never does anything but grow.
template <std::size_t Entries>
class error_log {
  static_assert(Entries >= 1 && Entries <= 64, "the log page is at most one page");

 public:
  constexpr void add(error_information entry) noexcept {
    entry.error_count = ++count_;
    entries_[newest_ = newest_ + 1 == Entries ? 0 : newest_ + 1] = entry;
  }
  [[nodiscard]] constexpr std::uint64_t count() const noexcept { return count_; }

  // Newest first.
  [[nodiscard]] std::size_t write(std::span<std::byte> page) const noexcept {
    for (std::size_t i = 0, from = newest_; i != Entries; ++i) {
      store_wire(page.subspan(i * sizeof(error_information)), entries_[from]);
      from = from == 0 ? Entries - 1 : from - 1;
    }
    return Entries * sizeof(error_information);
  }

 private:
  std::array<error_information, Entries> entries_{};
  std::size_t newest_ = Entries - 1;
  std::uint64_t count_ = 0;
};

// Counts for the health log. Blocks are counted in 512 bytes.
struct health_counters {
  std::uint64_t read_commands = 0;
  std::uint64_t write_commands = 0;
  std::uint64_t sectors_read = 0;
  std::uint64_t sectors_written = 0;
  std::uint64_t media_errors = 0;
  std::uint64_t unsafe_shutdowns = 0;

  constexpr health_counters& operator+=(const health_counters& other) noexcept {
    read_commands += other.read_commands;
    write_commands += other.write_commands;
    sectors_read += other.sectors_read;
    sectors_written += other.sectors_written;
    media_errors += other.media_errors;
    unsafe_shutdowns += other.unsafe_shutdowns;
    return *this;
  }
};

namespace detail {

// Units of 1000 sectors, rounded up, without a division that 32-bit machines lack: multiplied by
// the reciprocal 2^74 / 1000 would need 128 bits, so the quotient is found bit by bit.
[[nodiscard]] constexpr std::uint64_t thousands(std::uint64_t sectors) noexcept {
  std::uint64_t quotient = 0;
  std::uint64_t remaining = 0;
  for (int bit = 63; bit >= 0; --bit) {
    remaining = remaining << 1 | (sectors >> bit & 1U);
    if (remaining >= 1000) {
      remaining -= 1000;
      quotient |= std::uint64_t{1} << bit;
    }
  }
  return quotient + (remaining != 0);
}

}  // namespace detail

// Namespaces that came or went since the host last looked (5.16.1.5), ascending. More than fit are
// reported as such: FFFFFFFFh and nothing else.
class changed_namespaces {
 public:
  constexpr void add(std::uint32_t nsid) noexcept {
    std::size_t at = count_;
    for (std::size_t i = 0; i != count_; ++i) {
      if (nsids_[i] == nsid) return;
    }
    if (count_ == nsids_.size()) {
      overflown_ = true;
      return;
    }
    for (; at != 0 && nsids_[at - 1] > nsid; --at) nsids_[at] = nsids_[at - 1];
    nsids_[at] = nsid;
    ++count_;
  }
  constexpr void clear() noexcept {
    count_ = 0;
    overflown_ = false;
  }
  [[nodiscard]] std::size_t write(std::span<std::byte> page) const noexcept {
    if (overflown_) {
      store_wire(page, le<std::uint32_t>{all_namespaces});
    } else {
      for (std::size_t i = 0; i != count_; ++i) {
        store_wire(page.subspan(i * 4), le<std::uint32_t>{nsids_[i]});
      }
    }
    return sizeof(changed_namespace_log);
  }

 private:
  std::array<std::uint32_t, 32> nsids_{};
  std::size_t count_ = 0;
  bool overflown_ = false;
};

// The composite temperature, as the program reports it.
struct temperature_sensor {
  std::uint16_t kelvin = 313;
  bool crossed = false;   // one of the thresholds
  bool reported = false;  // as an event
};

[[nodiscard]] inline std::size_t write_health(std::span<std::byte> page, const health_counters& h,
                                              std::uint64_t errors,
                                              const temperature_sensor& t) noexcept {
  health_log log{};
  log.critical_warning = health_log::temperature_crossed.of<std::uint8_t>(t.crossed);
  log.composite_temperature[0] = static_cast<std::uint8_t>(t.kelvin);
  log.composite_temperature[1] = static_cast<std::uint8_t>(t.kelvin >> 8);
  log.available_spare = 100;
  log.available_spare_threshold = 10;
  log.data_units_read.low = detail::thousands(h.sectors_read);
  log.data_units_written.low = detail::thousands(h.sectors_written);
  log.host_read_commands.low = h.read_commands;
  log.host_write_commands.low = h.write_commands;
  log.power_cycles.low = 1;
  log.unsafe_shutdowns.low = h.unsafe_shutdowns;
  log.media_errors.low = h.media_errors;
  log.error_log_entries.low = errors;
  store_wire(page, log);
  return sizeof log;
}

[[nodiscard]] inline std::size_t write_firmware_slots(std::span<std::byte> page,
                                                      const settings& s) noexcept {
  firmware_slot_log log{};
  log.afi = 1;
  set_text(log.frs[0], s.firmware);
  store_wire(page, log);
  return sizeof log;
}

}  // namespace phasebit::nvme::device
