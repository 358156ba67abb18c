// SPDX-License-Identifier: BSL-1.0
// Asynchronous events (NVMe Base 2.0, 5.2). The host submits requests; an event completes one, and its
// type stays masked until the host has read the log page that the event names.
#pragma once

#include <phasebit/nvme/spec/async_event.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::nvme::device {

// At most Requests outstanding requests, and one event waiting for each type: a second one of a
// type adds nothing to the log page.
template <std::size_t Requests>
class async_events {
  static_assert(Requests >= 1 && Requests <= 256, "AERL is a byte, minus one");

 public:
  struct report {
    std::uint16_t command_id = 0;
    status_code status = status_code::success;
    std::uint32_t dw0 = 0;
  };

  // False where the host has left as many as AERL allows.
  [[nodiscard]] constexpr bool add_request(std::uint16_t command_id) noexcept {
    if (count_ == Requests) return false;
    requests_[count_++] = {command_id, false};
    return true;
  }
  [[nodiscard]] constexpr bool has_request(std::uint16_t command_id) const noexcept {
    return find(command_id) != count_;
  }
  // The request will be completed as aborted; false where there is none to abort.
  [[nodiscard]] constexpr bool abort_request(std::uint16_t command_id) noexcept {
    const std::size_t at = find(command_id);
    if (at == count_ || requests_[at].aborted) return false;
    requests_[at].aborted = true;
    return true;
  }

  // An aborted request waits for its completion.
  [[nodiscard]] constexpr bool aborting() const noexcept {
    for (std::size_t at = 0; at != count_; ++at) {
      if (requests_[at].aborted) return true;
    }
    return false;
  }

  constexpr void raise(async_event event) noexcept {
    const auto type = static_cast<std::size_t>(event.type());
    if (waiting_[type] == 0) waiting_[type] = event.raw | waiting_mark;
  }
  // The host has read the log page of events of this type.
  constexpr void acknowledge(async_event_type type) noexcept {
    masked_ = static_cast<std::uint8_t>(masked_ & ~(1U << static_cast<unsigned>(type)));
    waiting_[static_cast<std::size_t>(type)] = 0;
  }

  // The next completion that is due, if a request is there to carry it.
  [[nodiscard]] constexpr std::optional<report> next() noexcept {
    for (std::size_t at = 0; at != count_; ++at) {
      if (!requests_[at].aborted) continue;
      const report due{requests_[at].command_id, status_code::abort_requested, 0};
      remove(at);
      return due;
    }
    if (count_ == 0) return std::nullopt;
    for (std::size_t type = 0; type != types; ++type) {
      if (waiting_[type] == 0 || (masked_ >> type & 1U) != 0) continue;
      const report due{requests_[0].command_id, status_code::success,
                       waiting_[type] & ~waiting_mark};
      remove(0);
      waiting_[type] = 0;
      masked_ = static_cast<std::uint8_t>(masked_ | 1U << type);
      return due;
    }
    return std::nullopt;
  }

  constexpr void reset() noexcept { *this = async_events{}; }

  // To and from a saved_controller. A restored state is another program's: it is masked and bounded.
  template <class Saved>
  constexpr void save(Saved& to) const noexcept {
    to.event_requests = 0;
    for (std::size_t i = 0; i != count_; ++i) {
      // An aborted request is completed by the next round; quiesced controllers have none.
      to.event_request_ids[to.event_requests++] = requests_[i].command_id;
    }
    to.events_waiting = waiting_;
    to.events_masked = masked_;
  }
  template <class Saved>
  constexpr void restore(const Saved& from) noexcept {
    reset();
    for (std::size_t i = 0; i != from.event_requests && i != Requests; ++i) {
      requests_[count_++] = {from.event_request_ids[i], false};
    }
    for (std::size_t i = 0; i != types; ++i) {
      waiting_[i] = from.events_waiting[i] & (waiting_mark | 0x00ff'ff07U);
      if (static_cast<std::size_t>(async_event{waiting_[i]}.type()) != i) waiting_[i] = 0;
    }
    masked_ = from.events_masked;
  }

 private:
  static constexpr std::size_t types = 8;
  static constexpr std::uint32_t waiting_mark = 0x8000'0000;  // a reserved bit of DW0

  [[nodiscard]] constexpr std::size_t find(std::uint16_t command_id) const noexcept {
    std::size_t at = 0;
    while (at != count_ && requests_[at].command_id != command_id) ++at;
    return at;
  }
  constexpr void remove(std::size_t at) noexcept {
    --count_;
    for (; at != count_; ++at) requests_[at] = requests_[at + 1];
  }

  struct request {
    std::uint16_t command_id = 0;
    bool aborted = false;
  };
  std::array<request, Requests> requests_{};
  std::size_t count_ = 0;
  std::array<std::uint32_t, types> waiting_{};
  std::uint8_t masked_ = 0;
};

}  // namespace phasebit::nvme::device
