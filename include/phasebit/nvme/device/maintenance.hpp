// SPDX-License-Identifier: BSL-1.0
// Sanitize, Device Self-test and firmware slots: what a controller stores for them. The work itself
// is that of maintenance_worker. NVMe Base 2.0, sections 5.9, 5.12, 5.13 and 5.24.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/maintenance_job.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>
#include <phasebit/nvme/spec/maintenance_logs.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit::nvme::device {

// A controller without those commands.
struct no_maintenance {
  static constexpr bool present = false;
  struct saved {};
};

// Policy::maintenance of a controller that has Sanitize (block erase), Device Self-test (a read of the
// namespaces) and two firmware slots. A firmware image begins with its revision, eight printable
// characters; the program gives the memory that images are collected in, finds them there after
// firmware_generation() has changed, and decides what becomes of them. Without that memory Firmware
// Image Download is refused.
class maintenance_commands {
 public:
  static constexpr bool present = true;
  static constexpr std::size_t firmware_slots = 2;

  using revision = std::array<char, 8>;

  // Plain integers, for saved_controller.
  struct saved {
    std::uint16_t sanitize_status = 0;
    std::uint32_t sanitize_cdw10 = 0;
    std::array<std::array<std::uint8_t, sizeof(self_test_entry)>, 20> self_tests{};
    std::array<revision, firmware_slots> slots{};
    std::uint8_t active = 0;
    std::uint8_t next = 0;
  };

  // -- firmware --

  void set_firmware_memory(std::span<std::byte> memory) noexcept { image_ = memory; }
  // Images that were committed so far, and the last one.
  [[nodiscard]] std::uint32_t firmware_generation() const noexcept { return generation_; }
  [[nodiscard]] std::span<const std::byte> firmware_image() const noexcept {
    return image_.first(image_bytes_);
  }
  void begin(std::string_view firmware) noexcept {
    if (started_) return;
    started_ = true;
    slots_[0] = text_of_revision(firmware);
  }
  [[nodiscard]] std::string_view active_revision() const noexcept {
    return {slots_[active_].data(), slots_[active_].size()};
  }
  template <class Data>
  [[nodiscard]] command_result download(const submission_entry& c, Data data) noexcept {
    const std::uint64_t bytes = (std::uint64_t{c.cdw10.get()} + 1) * 4;
    const std::uint64_t offset = std::uint64_t{c.cdw11.get()} * 4;
    if (image_.empty()) return status_code::invalid_firmware_image;
    if (offset > image_.size() || bytes > image_.size() - offset) {
      return status_code::invalid_firmware_image;
    }
    // Parts come in order, and a repeated part is an overlap; offset 0 begins a new image.
    if (offset == 0) received_ = 0;
    if (offset < received_) return status_code::overlapping_range;
    if (offset != received_) return status_code::invalid_field;
    const auto got =
        data.from_host(image_.subspan(int_cast<std::size_t>(offset), int_cast<std::size_t>(bytes)));
    if (got == status_code::success) received_ = int_cast<std::size_t>(offset + bytes);
    return got;
  }
  [[nodiscard]] command_result commit(const submission_entry& c) noexcept {
    using f = firmware_commit_command;
    const auto action = f::action_bits.get(c.cdw10.get());
    std::size_t slot = f::slot_bits.get(c.cdw10.get());
    if (f::bpid_bit.get(c.cdw10.get())) return status_code::invalid_field;
    if (slot > firmware_slots) return status_code::invalid_firmware_slot;
    if (slot == 0) slot = active_ == 0 ? 2 : 1;  // the one that does not run
    --slot;
    switch (action) {
      case firmware_action::replace:
      case firmware_action::replace_and_activate_at_reset:
        if (!take_image(slot)) return status_code::invalid_firmware_image;
        if (action == firmware_action::replace_and_activate_at_reset) next_ = mark(slot);
        return status_code::success;
      case firmware_action::activate_at_reset:
      case firmware_action::activate_now:
        if (received_ != 0 && action == firmware_action::activate_now && !take_image(slot)) {
          return status_code::invalid_firmware_image;
        }
        if (slots_[slot][0] == 0) return status_code::invalid_firmware_slot;
        if (action == firmware_action::activate_at_reset) {
          next_ = mark(slot);
        } else {
          active_ = static_cast<std::uint8_t>(slot);
          next_ = 0;
        }
        return status_code::success;
      default:
        return status_code::invalid_field;
    }
  }
  [[nodiscard]] std::size_t write_slots(std::span<std::byte> page) const noexcept {
    firmware_slot_log log{};
    log.afi = static_cast<std::uint8_t>(firmware_slot_log::active_slot.of(active_ + 1U) |
                                        firmware_slot_log::next_slot.of(next_));
    for (std::size_t i = 0; i != firmware_slots; ++i) log.frs[i] = slots_[i];
    store_wire(page, log);
    return sizeof log;
  }

  // -- sanitize --

  [[nodiscard]] bool sanitizing() const noexcept { return state() == sanitize_state::in_progress; }
  [[nodiscard]] bool sanitize_failed() const noexcept { return state() == sanitize_state::failed; }
  void begin_sanitize(const submission_entry& c) noexcept {
    set_state(sanitize_state::in_progress);
    cdw10_ = c.cdw10;
  }
  void sanitized(bool good) noexcept {
    set_state(good ? sanitize_state::succeeded : sanitize_state::failed);
  }
  // Leaves the failed state, where the command that failed allowed that.
  [[nodiscard]] command_result exit_failure() noexcept {
    if (!sanitize_failed()) return status_code::success;
    if (!sanitize_command::ause_bit.get(cdw10_)) return status_code::sanitize_failed;
    set_state(sanitize_state::never);
    return status_code::success;
  }
  [[nodiscard]] std::size_t write_sanitize(std::span<std::byte> page,
                                           const maintenance_job& job) const noexcept {
    sanitize_log log{};
    log.progress = sanitizing() ? job.parts_of(65536, 0xffff) : std::uint16_t{0xffff};
    log.status = status_;
    log.cdw10 = cdw10_;
    for (auto* const time :
         {&log.overwrite_time, &log.erase_time, &log.crypto_time, &log.overwrite_time_kept,
          &log.erase_time_kept, &log.crypto_time_kept}) {
      *time = 0xffff'ffffU;
    }
    store_wire(page, log);
    return sizeof log;
  }

  // -- self-test --

  void self_test_ended(const maintenance_job& job, self_test_result result) noexcept {
    for (std::size_t i = tests_.size() - 1; i != 0; --i) tests_[i] = tests_[i - 1];
    self_test_entry e{};
    e.status = static_cast<std::uint8_t>(self_test_entry::result_bits.of(result) |
                                         self_test_entry::code_bits.of(job.self_test));
    if (result == self_test_result::segment_failed) {
      e.segment = 1;
      e.valid = static_cast<std::uint8_t>(self_test_entry::nsid_valid.of(true) |
                                          self_test_entry::lba_valid.of(true));
      e.nsid = job.nsid;
      for (unsigned i = 0; i != 8; ++i) {
        e.failing_lba[i] = static_cast<std::uint8_t>(job.lba >> (8 * i));
      }
    }
    tests_[0] = e;
  }
  [[nodiscard]] std::size_t write_self_tests(std::span<std::byte> page,
                                             const maintenance_job& job) const noexcept {
    self_test_log log{};
    if (job.what == maintenance_job::kind::self_test) {
      log.current = job.self_test;
      log.completion = static_cast<std::uint8_t>(job.parts_of(100, 99));
    }
    log.result = tests_;
    store_wire(page, log);
    return sizeof log;
  }

  // Controller reset: firmware that waits for one is active from here on.
  void controller_reset() noexcept {
    if (next_ != 0) active_ = static_cast<std::uint8_t>(next_ - 1);
    next_ = 0;
    received_ = 0;
  }

  [[nodiscard]] saved save() const noexcept {
    saved to{};
    to.sanitize_status = status_;
    to.sanitize_cdw10 = cdw10_;
    for (std::size_t i = 0; i != tests_.size(); ++i) {
      __builtin_memcpy(to.self_tests[i].data(), &tests_[i], sizeof(self_test_entry));
    }
    to.slots = slots_;
    to.active = active_;
    to.next = next_;
    return to;
  }
  void restore(const saved& from) noexcept {
    status_ = from.sanitize_status;
    cdw10_ = from.sanitize_cdw10;
    // No operation is in progress in a controller that was quiesced.
    if (sanitizing()) set_state(sanitize_state::failed);
    for (std::size_t i = 0; i != tests_.size(); ++i) {
      __builtin_memcpy(&tests_[i], from.self_tests[i].data(), sizeof(self_test_entry));
    }
    slots_ = from.slots;
    active_ = from.active < firmware_slots ? from.active : std::uint8_t{0};
    next_ = from.next <= firmware_slots ? from.next : std::uint8_t{0};
    started_ = true;
  }

 private:
  [[nodiscard]] static std::uint8_t mark(std::size_t slot) noexcept {
    return static_cast<std::uint8_t>(slot + 1);
  }
  [[nodiscard]] static revision text_of_revision(std::string_view text) noexcept {
    revision r;
    for (std::size_t i = 0; i != r.size(); ++i) r[i] = i < text.size() ? text[i] : ' ';
    return r;
  }
  [[nodiscard]] bool take_image(std::size_t slot) noexcept {
    if (received_ < sizeof(revision)) return false;
    revision r;
    __builtin_memcpy(r.data(), image_.data(), r.size());
    for (const char c : r) {
      if (c < 0x20 || c > 0x7e) return false;
    }
    slots_[slot] = r;
    image_bytes_ = received_;
    received_ = 0;
    ++generation_;
    return true;
  }
  [[nodiscard]] sanitize_state state() const noexcept {
    return sanitize_log::state_bits.get(status_);
  }
  void set_state(sanitize_state s) noexcept { status_ = sanitize_log::state_bits.set(status_, s); }

  std::array<self_test_entry, 20> tests_{make_no_tests()};
  std::array<revision, firmware_slots> slots_{};
  std::span<std::byte> image_{};
  std::size_t received_ = 0;
  std::size_t image_bytes_ = 0;
  std::uint32_t generation_ = 0;
  std::uint32_t cdw10_ = 0;
  std::uint16_t status_ = 0;
  std::uint8_t active_ = 0;
  std::uint8_t next_ = 0;
  bool started_ = false;

  [[nodiscard]] static constexpr std::array<self_test_entry, 20> make_no_tests() noexcept {
    std::array<self_test_entry, 20> all{};
    for (auto& e : all) e.status = 0xf;
    return all;
  }
};

}  // namespace phasebit::nvme::device
