// SPDX-License-Identifier: BSL-1.0
// The state that the queues of a SCSI host share: the logical units of its one target, and the
// sizes that the driver has chosen. Virtio 1.3, section 5.6.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/virtio/scsi/logical_unit.hpp>
#include <phasebit/virtio/spec/scsi.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::virtio::scsi {

// The logical unit of an address: "single level LUN structure" (5.6.6.1), flat or peripheral.
struct lun_address {
  std::uint8_t target = 0;
  std::uint16_t lun = 0;
  bool report_luns = false;  // the well known logical unit, of any target
};
[[nodiscard]] constexpr std::optional<lun_address> parse_lun(const lun_bytes& b) noexcept {
  if (b[0] == 0xc1 && b[1] == 1) return lun_address{.report_luns = true};
  if (b[0] != 1 || (b[4] | b[5] | b[6] | b[7]) != 0) return std::nullopt;
  const unsigned method = b[2] >> 6;
  if (method > 1) return std::nullopt;
  const unsigned lun = (b[2] & 0x3fU) << 8 | b[3];
  // Peripheral addressing has a bus number where flat addressing has more bits.
  if (method == 0 && lun > 0xff) return std::nullopt;
  return lun_address{.target = b[1], .lun = static_cast<std::uint16_t>(lun)};
}
// As drivers write it: flat addressing.
[[nodiscard]] constexpr lun_bytes lun_of(std::uint8_t target, std::uint16_t lun) noexcept {
  return {
      1, target, static_cast<std::uint8_t>(0x40U | lun >> 8), static_cast<std::uint8_t>(lun), 0, 0,
      0, 0};
}

struct target_options {
  std::uint16_t request_queues = 1;
  std::uint32_t max_segments = 126;    // of data in one command; a slot has places for them
  std::uint32_t max_sectors = 0xffff;  // of 512 bytes, in one command
  std::uint32_t commands_per_lun = 128;
  bool hotplug = true;  // events for logical units that come, go and change size
};

// One thread at a time, that of all queues.
class target {
 public:
  static constexpr std::uint32_t max_sense_size = 252;

  // Places 0 to units.size() - 1 of target 0; the array outlives the target.
  explicit target(std::span<logical_unit> units, const target_options& options = {}) noexcept
      : units_(units), options_(options) {
    PHASEBIT_EXPECTS(!units.empty() && units.size() <= 256, "1 to 256 places for logical units");
    reset();
  }

  [[nodiscard]] std::span<logical_unit> units() noexcept { return units_; }
  // The logical unit of an address in this target, or null; it may not be present.
  [[nodiscard]] logical_unit* find(const lun_address& at) noexcept {
    return at.target == 0 && at.lun < units_.size() ? &units_[at.lun] : nullptr;
  }
  // A reset of the device: sizes are the defaults again, and each logical unit has been powered on.
  void reset() noexcept {
    cdb_size_ = default_cdb_size;
    sense_size_ = default_sense_size;
    for (logical_unit& u : units_) u.raise(power_on);
  }

  [[nodiscard]] std::uint32_t cdb_size() const noexcept { return cdb_size_; }
  [[nodiscard]] std::uint32_t sense_size() const noexcept { return sense_size_; }
  [[nodiscard]] std::uint64_t features() const noexcept {
    return options_.hotplug ? feature::hotplug | feature::change : 0;
  }
  [[nodiscard]] scsi::config config() const noexcept {
    scsi::config c{};
    c.num_queues = options_.request_queues;
    c.seg_max = options_.max_segments;
    c.max_sectors = options_.max_sectors;
    c.cmd_per_lun = options_.commands_per_lun;
    c.event_info_size = static_cast<std::uint32_t>(sizeof(event));
    c.sense_size = sense_size_;
    c.cdb_size = cdb_size_;
    c.max_channel = std::uint16_t{0};
    c.max_target = std::uint16_t{0};
    c.max_lun = static_cast<std::uint32_t>(units_.size() - 1);
    return c;
  }
  // sense_size and cdb_size are the driver's to choose, before requests are sent. False: refused.
  [[nodiscard]] bool write_config(std::uint32_t offset, std::span<const std::byte> from) noexcept {
    if (from.size() != 4) return false;
    const auto value = load_wire<le<std::uint32_t>>(from).get();
    if (offset == offsetof(scsi::config, sense_size) && value <= max_sense_size) {
      sense_size_ = value;
      return true;
    }
    if (offset == offsetof(scsi::config, cdb_size) && value >= 16 && value <= 260) {
      cdb_size_ = value;
      return true;
    }
    return false;
  }

 private:
  std::span<logical_unit> units_;
  target_options options_;
  std::uint32_t cdb_size_ = default_cdb_size;
  std::uint32_t sense_size_ = default_sense_size;
};

}  // namespace phasebit::virtio::scsi
