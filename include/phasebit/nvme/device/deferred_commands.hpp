// SPDX-License-Identifier: BSL-1.0
// Admin commands that end later: Delete I/O Submission Queue and Abort when commands of other queues
// have ended, Format NVM and the creation of a namespace when the job has that they began.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::device {

// Aborts that may be in progress at once: ACL + 1.
inline constexpr std::uint8_t max_aborts = 4;

struct deferred_command {
  enum class kind : std::uint8_t { delete_queue, abort, maintenance };

  kind what = kind::delete_queue;
  std::uint16_t command_id = 0;
  std::uint16_t sqid = 0;       // the queue that goes, or that of the command to abort
  std::uint16_t target_id = 0;  // Abort: command id
  bool started = false;
  bool target_ended = false;
  bool target_aborted = false;
};

// A few of them, in the order of their arrival. No admin command is fetched while it is full.
class deferred_commands {
 public:
  static constexpr std::size_t capacity = 16;

  [[nodiscard]] constexpr bool full() const noexcept { return count_ == capacity; }
  [[nodiscard]] constexpr bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return count_; }
  [[nodiscard]] constexpr deferred_command& operator[](std::size_t i) noexcept { return all_[i]; }

  // There is a free place.
  constexpr void add(const deferred_command& c) noexcept { all_[count_++] = c; }
  constexpr void remove(std::size_t at) noexcept {
    --count_;
    for (; at != count_; ++at) all_[at] = all_[at + 1];
  }
  constexpr void clear() noexcept { count_ = 0; }

  [[nodiscard]] constexpr std::size_t aborts() const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i != count_; ++i) {
      count += all_[i].what == deferred_command::kind::abort ? 1U : 0U;
    }
    return count;
  }
  [[nodiscard]] constexpr bool has(std::uint16_t command_id) const noexcept {
    for (std::size_t i = 0; i != count_; ++i) {
      if (all_[i].command_id == command_id) return true;
    }
    return false;
  }
  // A command of an I/O queue has ended: passes its result to an Abort that waits for it.
  constexpr void command_ended(std::uint16_t sqid, std::uint16_t command_id,
                               bool aborted) noexcept {
    for (std::size_t i = 0; i != count_; ++i) {
      deferred_command& d = all_[i];
      if (d.what != deferred_command::kind::abort || !d.started || d.sqid != sqid ||
          d.target_id != command_id) {
        continue;
      }
      d.target_ended = true;
      d.target_aborted = d.target_aborted || aborted;
    }
  }

 private:
  std::array<deferred_command, capacity> all_{};
  std::size_t count_ = 0;
};

}  // namespace phasebit::nvme::device
