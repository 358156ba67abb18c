// SPDX-License-Identifier: BSL-1.0
// The zones of one namespace: their states, their write pointers, and how many may be open or active. NVMe
// Zoned Namespace Command Set 1.1, section 2.1.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/bit_scan.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/spec/status.hpp>
#include <phasebit/nvme/spec/zoned.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// One zone, in memory that the program gives. What it keeps is as persistent as the program makes it.
struct zone {
  std::uint64_t written = 0;    // blocks from the zone's start that were accepted for writing
  std::uint32_t in_flight = 0;  // writes that are not completed, and a reset in progress
  zone_state state = zone_state::empty;
  std::uint8_t attributes = 0;
  bool changed = false;    // by the program, since the host read the log of changed zones
  bool resetting = false;  // its blocks are being zeroed
};

struct zone_options {
  std::uint64_t zone_blocks = 0;      // a power of two
  std::uint64_t capacity_blocks = 0;  // of a zone; 0: all of it
  std::uint32_t max_open = 0;         // 0: no limit
  std::uint32_t max_active = 0;       // 0: no limit
  bool read_across_zones = false;     // reads may cross the boundary of zones
  std::uint8_t extension_units = 0;   // of 64 bytes, of a zone descriptor extension; 0: none
  // extension_units * 64 bytes for each zone.
  std::span<std::byte> extensions{};
};

// Zones that all have the same size and start at block 0 of the namespace. Blocks that a host has not
// written since its zone was reset read as zeros: the program gives media that are zero there, and a reset
// zeroes what was written. A write is accepted, which moves the write pointer, before its data moves;
// end_write() returns the blocks of a write that failed when no later one was accepted. One thread at a time.
class zone_table {
 public:
  // Takes the zones as they are, so that a program can restore them. Open zones are closed, as after a reset
  // of the NVM subsystem; a state that no zone has is Offline.
  zone_table(std::span<zone> zones, const zone_options& o) noexcept
      : zones_(zones), options_(o), shift_(bit_width(o.zone_blocks) - 1) {
    if (options_.capacity_blocks == 0) options_.capacity_blocks = o.zone_blocks;
    PHASEBIT_EXPECTS(!zones.empty() && o.zone_blocks != 0, "a zoned namespace has zones");
    PHASEBIT_EXPECTS(is_power_of_two(o.zone_blocks), "the size of a zone is a power of two");
    PHASEBIT_EXPECTS(options_.capacity_blocks <= o.zone_blocks,
                     "the capacity of a zone is at most its size");
    PHASEBIT_EXPECTS(o.max_open == 0 || o.max_active == 0 || o.max_open <= o.max_active,
                     "open zones are active zones");
    PHASEBIT_EXPECTS(o.extensions.size() >= zones.size() * extension_bytes(),
                     "an extension for every zone descriptor");
    restart();
  }
  zone_table(const zone_table&) = delete;
  zone_table& operator=(const zone_table&) = delete;

  // -- what there is --
  [[nodiscard]] std::size_t count() const noexcept { return zones_.size(); }
  [[nodiscard]] const zone_options& options() const noexcept { return options_; }
  [[nodiscard]] std::uint64_t block_count() const noexcept {
    return std::uint64_t{zones_.size()} << shift_;
  }
  // A block of the namespace. The index is count() or more for blocks beyond it.
  [[nodiscard]] std::uint64_t index_of(std::uint64_t lba) const noexcept { return lba >> shift_; }
  [[nodiscard]] std::uint64_t start_of(std::size_t i) const noexcept {
    return std::uint64_t{i} << shift_;
  }
  [[nodiscard]] const zone& at(std::size_t i) const noexcept { return zones_[i]; }
  [[nodiscard]] std::uint32_t open_zones() const noexcept { return implicit_ + explicit_; }
  [[nodiscard]] std::uint32_t active_zones() const noexcept { return open_zones() + closed_; }
  [[nodiscard]] std::size_t extension_bytes() const noexcept {
    return std::size_t{options_.extension_units} * 64;
  }
  [[nodiscard]] std::span<std::byte> extension(std::size_t i) const noexcept {
    return options_.extensions.subspan(i * extension_bytes(), extension_bytes());
  }
  [[nodiscard]] zone_descriptor descriptor(std::size_t i) const noexcept {
    const zone& z = zones_[i];
    zone_descriptor d{};
    d.type = zone_descriptor::sequential_write_required;
    d.state_byte = zone_descriptor::state_bits.of<std::uint8_t>(z.state);
    d.attributes = z.attributes;
    d.capacity = options_.capacity_blocks;
    d.start = start_of(i);
    d.write_pointer = z.state == zone_state::empty || is_active(z.state) ? start_of(i) + z.written
                                                                         : ~std::uint64_t{0};
    return d;
  }
  [[nodiscard]] static bool matches(zone_state s, zone_filter f) noexcept {
    switch (f) {
      case zone_filter::all:
        return true;
      case zone_filter::empty:
        return s == zone_state::empty;
      case zone_filter::implicitly_opened:
        return s == zone_state::implicitly_opened;
      case zone_filter::explicitly_opened:
        return s == zone_state::explicitly_opened;
      case zone_filter::closed:
        return s == zone_state::closed;
      case zone_filter::full:
        return s == zone_state::full;
      case zone_filter::read_only:
        return s == zone_state::read_only;
      case zone_filter::offline:
        return s == zone_state::offline;
    }
    return false;
  }

  // -- reads and writes; blocks are in range of the namespace --

  // Section 2.1.1.5. Blocks behind the write pointer may be read.
  [[nodiscard]] status_code check_read(std::uint64_t lba, std::uint64_t blocks) const noexcept {
    const std::uint64_t last = index_of(lba + (blocks - 1));
    if (last >= zones_.size()) return status_code::lba_out_of_range;
    std::uint64_t i = index_of(lba);
    if (i != last && !options_.read_across_zones) return status_code::zone_boundary_error;
    for (; i <= last; ++i) {
      if (zones_[int_cast<std::size_t>(i)].state == zone_state::offline) {
        return status_code::zone_is_offline;
      }
    }
    return status_code::success;
  }
  // Accepts a write at the write pointer. end_write() follows.
  [[nodiscard]] status_code begin_write(std::uint64_t lba, std::uint64_t blocks) noexcept {
    if (index_of(lba) >= zones_.size()) return status_code::lba_out_of_range;
    zone& z = zones_[index(lba)];
    if (const auto bad = check_state(z); bad != status_code::success) return bad;
    if (z.resetting || within(lba) != z.written) return status_code::zone_invalid_write;
    return accept(z, blocks);
  }
  // Accepts a write to wherever the write pointer of the zone that begins at `start` is. end_write() follows.
  [[nodiscard]] status_code begin_append(std::uint64_t start, std::uint64_t blocks,
                                         std::uint64_t& lba) noexcept {
    if (index_of(start) >= zones_.size()) return status_code::lba_out_of_range;
    if (within(start) != 0) return status_code::invalid_field;
    zone& z = zones_[index(start)];
    if (const auto bad = check_state(z); bad != status_code::success) return bad;
    if (z.resetting) return status_code::zone_invalid_write;
    lba = start + z.written;
    return accept(z, blocks);
  }
  void end_write(std::uint64_t lba, std::uint64_t blocks, bool good) noexcept {
    zone& z = zones_[index(lba)];
    if (z.in_flight != 0) --z.in_flight;
    if (!is_active(z.state)) return;
    if (!good && within(lba) + blocks == z.written) {
      z.written -= blocks;
      if (z.written == 0 && z.in_flight == 0 && z.state == zone_state::implicitly_opened &&
          !zone_descriptor::extension_valid.get(z.attributes)) {
        move(z, zone_state::empty);
      }
    }
    if (z.written == options_.capacity_blocks && z.in_flight == 0) move(z, zone_state::full);
  }

  // -- actions of Zone Management Send, on zone `i`: section 3.4.3 --

  [[nodiscard]] status_code close(std::size_t i) noexcept {
    zone& z = zones_[i];
    if (z.state == zone_state::closed) return status_code::success;
    if (!is_open(z.state)) return status_code::invalid_zone_state_transition;
    move(z, zone_state::closed);
    return status_code::success;
  }
  // No write to the zone is in flight.
  [[nodiscard]] status_code finish(std::size_t i) noexcept {
    zone& z = zones_[i];
    if (z.state == zone_state::full) return status_code::success;
    if (z.state != zone_state::empty && !is_active(z.state)) {
      return status_code::invalid_zone_state_transition;
    }
    move(z, zone_state::full);
    return status_code::success;
  }
  [[nodiscard]] status_code open(std::size_t i) noexcept {
    zone& z = zones_[i];
    if (z.state == zone_state::explicitly_opened) return status_code::success;
    if (z.state != zone_state::empty && !is_active(z.state)) {
      return status_code::invalid_zone_state_transition;
    }
    if (const auto bad = take_resources(z); bad != status_code::success) return bad;
    move(z, zone_state::explicitly_opened);
    return status_code::success;
  }
  // Whether Open of all closed zones stays within the limit.
  [[nodiscard]] bool can_open_closed() const noexcept {
    return options_.max_open == 0 || explicit_ + closed_ <= options_.max_open;
  }
  // Whether the zone may be reset; reset_blocks() are to be zeroed between begin_reset() and end_reset().
  [[nodiscard]] status_code check_reset(std::size_t i) const noexcept {
    const zone_state s = zones_[i].state;
    return s == zone_state::read_only || s == zone_state::offline
               ? status_code::invalid_zone_state_transition
               : status_code::success;
  }
  [[nodiscard]] std::uint64_t reset_blocks(std::size_t i) const noexcept {
    return zones_[i].written;
  }
  // No write to the zone is in flight.
  void begin_reset(std::size_t i) noexcept {
    zones_[i].resetting = true;
    ++zones_[i].in_flight;
  }
  void end_reset(std::size_t i, bool good) noexcept {
    zone& z = zones_[i];
    z.resetting = false;
    if (z.in_flight != 0) --z.in_flight;
    if (!good || check_reset(i) != status_code::success) return;
    z.written = 0;
    z.attributes = 0;
    move(z, zone_state::empty);
  }
  [[nodiscard]] status_code take_offline(std::size_t i) noexcept {
    zone& z = zones_[i];
    if (z.state == zone_state::offline) return status_code::success;
    if (z.state != zone_state::read_only) return status_code::invalid_zone_state_transition;
    move(z, zone_state::offline);
    return status_code::success;
  }
  // The extension of an empty zone may be written: it is active afterwards.
  [[nodiscard]] status_code check_extension(std::size_t i) const noexcept {
    if (extension_bytes() == 0) return status_code::invalid_field;
    const zone& z = zones_[i];
    if (z.state != zone_state::empty) return status_code::invalid_zone_state_transition;
    return active_limit_reached() ? status_code::too_many_active_zones : status_code::success;
  }
  void set_extension_valid(std::size_t i) noexcept {
    zone& z = zones_[i];
    z.attributes = zone_descriptor::extension_valid.set(z.attributes, true);
    move(z, zone_state::closed);
  }

  // -- what happens beside the host --

  // The media of a zone has failed: the host finds it in the log of changed zones.
  void set_read_only(std::size_t i) noexcept { change(i, zone_state::read_only); }
  void set_offline(std::size_t i) noexcept { change(i, zone_state::offline); }
  // All blocks were erased. Offline and read-only zones stay as they are.
  void erase_all() noexcept {
    for (zone& z : zones_) {
      if (z.state == zone_state::read_only || z.state == zone_state::offline) continue;
      z.written = 0;
      z.attributes = 0;
      move(z, zone_state::empty);
    }
  }
  // Whether zones have changed since the last call.
  [[nodiscard]] bool take_news() noexcept {
    const bool was = news_;
    news_ = false;
    return was;
  }
  // The Changed Zone List log; clear_changed() when the host has read it.
  void write_changed(changed_zone_log& to) const noexcept {
    std::size_t n = 0;
    for (std::size_t i = 0; i != zones_.size(); ++i) {
      if (!zones_[i].changed) continue;
      if (n == to.starts.size()) {
        to = changed_zone_log{};
        to.zones = 0xffff;
        return;
      }
      to.starts[n++] = start_of(i);
    }
    to.zones = static_cast<std::uint16_t>(n);
  }
  void clear_changed() noexcept {
    for (zone& z : zones_) z.changed = false;
  }

 private:
  [[nodiscard]] static constexpr bool is_open(zone_state s) noexcept {
    return s == zone_state::implicitly_opened || s == zone_state::explicitly_opened;
  }
  [[nodiscard]] static constexpr bool is_active(zone_state s) noexcept {
    return is_open(s) || s == zone_state::closed;
  }
  [[nodiscard]] std::size_t index(std::uint64_t lba) const noexcept {
    return int_cast<std::size_t>(index_of(lba));
  }
  [[nodiscard]] std::uint64_t within(std::uint64_t lba) const noexcept {
    return lba & ((std::uint64_t{1} << shift_) - 1);
  }
  [[nodiscard]] static status_code check_state(const zone& z) noexcept {
    switch (z.state) {
      case zone_state::full:
        return status_code::zone_is_full;
      case zone_state::read_only:
        return status_code::zone_is_read_only;
      case zone_state::offline:
        return status_code::zone_is_offline;
      default:
        return status_code::success;
    }
  }
  [[nodiscard]] status_code accept(zone& z, std::uint64_t blocks) noexcept {
    if (blocks > options_.capacity_blocks - z.written) return status_code::zone_boundary_error;
    if (!is_open(z.state)) {
      if (const auto bad = take_resources(z); bad != status_code::success) return bad;
      move(z, zone_state::implicitly_opened);
    }
    z.written += blocks;
    ++z.in_flight;
    return status_code::success;
  }
  [[nodiscard]] bool active_limit_reached() const noexcept {
    return options_.max_active != 0 && active_zones() >= options_.max_active;
  }
  // Whether `z` may be opened. An implicitly opened zone is closed for it where open ones are at their limit.
  [[nodiscard]] status_code take_resources(const zone& z) noexcept {
    if (!is_active(z.state) && active_limit_reached()) return status_code::too_many_active_zones;
    if (is_open(z.state) || options_.max_open == 0 || open_zones() < options_.max_open) {
      return status_code::success;
    }
    if (implicit_ == 0) return status_code::too_many_open_zones;
    do {
      next_to_close_ = next_to_close_ + 1 < zones_.size() ? next_to_close_ + 1 : 0;
    } while (zones_[next_to_close_].state != zone_state::implicitly_opened);
    move(zones_[next_to_close_], zone_state::closed);
    return status_code::success;
  }
  void move(zone& z, zone_state to) noexcept {
    counter(z.state) -= 1;
    z.state = to;
    counter(to) += 1;
  }
  [[nodiscard]] std::uint32_t& counter(zone_state s) noexcept {
    switch (s) {
      case zone_state::implicitly_opened:
        return implicit_;
      case zone_state::explicitly_opened:
        return explicit_;
      case zone_state::closed:
        return closed_;
      default:
        return others_;
    }
  }
  void change(std::size_t i, zone_state to) noexcept {
    move(zones_[i], to);
    zones_[i].changed = true;
    news_ = true;
  }
  void restart() noexcept {
    for (zone& z : zones_) {
      z.in_flight = 0;
      z.resetting = false;
      news_ = news_ || z.changed;
      const bool sound = z.state == zone_state::empty || is_active(z.state) ||
                         z.state == zone_state::full || z.state == zone_state::read_only ||
                         z.state == zone_state::offline;
      if (!sound || z.written > options_.capacity_blocks) z.state = zone_state::offline;
      if (z.state == zone_state::empty) z.written = 0;
      if (is_open(z.state)) {
        z.state = z.written == 0 && !zone_descriptor::extension_valid.get(z.attributes)
                      ? zone_state::empty
                      : zone_state::closed;
      }
      counter(z.state) += 1;
    }
  }

  std::span<zone> zones_;
  zone_options options_;
  unsigned shift_;
  std::uint32_t implicit_ = 0;
  std::uint32_t explicit_ = 0;
  std::uint32_t closed_ = 0;
  std::uint32_t others_ = 0;
  std::size_t next_to_close_ = 0;
  bool news_ = false;
};

}  // namespace phasebit::nvme::device
