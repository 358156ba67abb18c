// SPDX-License-Identifier: BSL-1.0
// The controller's half of a submission queue: where the ring lies, how far each side has come, and
// which doorbell values are valid (NVMe Base 2.0, sections 3.3.1 and 3.3.2).
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/nvme/device/dma_object.hpp>
#include <phasebit/nvme/device/queue_index.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::nvme::device {

// A ring that the host fills. `head` is the next entry to fetch, `tail` where the host stopped.
struct submission_queue {
  bus_addr base{};
  std::uint32_t entries = 0;  // 0: the queue does not exist
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
  std::uint64_t rejected = nothing_rejected;  // the last invalid value, which is reported once
  std::uint32_t in_flight = 0;                // fetched and not completed
  std::uint16_t completion_queue = 0;
  queue_priority priority = queue_priority::urgent;  // with weighted round robin
  bool kicked = false;                               // the shadow doorbell is worth reading
  bool deleting = false;  // nothing is fetched; the queue is gone when in_flight is 0

  [[nodiscard]] constexpr bool exists() const noexcept { return entries != 0; }
  [[nodiscard]] constexpr bool empty() const noexcept { return head == tail; }
  [[nodiscard]] constexpr bus_addr next_entry() const noexcept {
    return base + std::uint64_t{head} * 64;
  }
  constexpr void advance() noexcept { head = head + 1 == entries ? 0 : head + 1; }

  // A tail outside the ring, or one that would hold more entries than a ring can (one slot stays
  // free), is refused and changes nothing.
  constexpr doorbell_update set_tail(std::uint32_t value) noexcept {
    if (value == tail) return doorbell_update::unchanged;
    if (value >= entries) return reject(value);
    const std::uint32_t waiting = distance(head, tail);
    const std::uint32_t added = distance(tail, value);
    if (waiting + added > entries - 1) return reject(value);
    tail = value;
    rejected = nothing_rejected;
    return doorbell_update::moved;
  }

 private:
  [[nodiscard]] constexpr std::uint32_t distance(std::uint32_t from,
                                                 std::uint32_t to) const noexcept {
    return to >= from ? to - from : to + entries - from;
  }
  constexpr doorbell_update reject(std::uint32_t value) noexcept {
    if (value == rejected) return doorbell_update::unchanged;
    rejected = value;
    return doorbell_update::invalid;
  }
};

// The one copy of a command that is ever looked at. The caller has ordered the read by loading the
// tail. Nothing where the memory cannot be reached.
template <AnyDma Dma>
[[nodiscard]] std::optional<submission_entry> fetch_command(Dma& dma, bus_addr where) noexcept {
  return read_object<submission_entry>(dma, where);
}

}  // namespace phasebit::nvme::device
