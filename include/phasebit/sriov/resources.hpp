// SPDX-License-Identifier: BSL-1.0
// Flexible resources: queues and interrupts that a primary controller shares out among the secondary
// controllers of its virtual functions. NVMe Base 2.0, 5.28 (Virtualization Management) and 8.26.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

// Resource Type: VQ and VI.
enum class resource_kind : std::uint8_t { queues = 0, interrupts = 1 };

// How an action ended; an NVMe controller answers with the status code named.
enum class resource_status : std::uint8_t {
  success,
  invalid_controller_id,  // 1/1Fh: not the controller that the action is for
  invalid_state,          // 1/20h: online, or too little to go online with, or no such function
  invalid_count,          // 1/21h: more than there is, or than one controller may have
  invalid_resource,       // 1/22h
};
struct resource_answer {
  resource_status status = resource_status::success;
  std::uint16_t modified = 0;  // Number of Controller Resources Modified: what was granted

  friend constexpr bool operator==(resource_answer, resource_answer) noexcept = default;
};

// One kind of resource. The names in brackets are those of the fields of Identify CNS 14h.
struct resource_limits {
  std::uint16_t flexible = 0;            // to be shared out (VQFRT, VIFRT)
  std::uint16_t of_primary = 0;          // the primary's own, never shared (VQPRT, VIPRT)
  std::uint16_t most_per_secondary = 0;  // (VQFRSM, VIFRSM)
  std::uint16_t granularity = 1;         // preferred (VQGRAN, VIGRAN)
  std::uint16_t least_online = 1;        // a secondary needs so many to go online
};

// Count secondary controllers, of virtual functions 1 to Count, whose identifiers follow `first_id`.
// Decides what each has and which are online; the owner applies it. A count that is no multiple of
// the granularity is rounded up where that much is there, and taken as it is where not. generation()
// changes with every change of an entry. One thread at a time.
template <std::size_t Count>
class flexible_resources {
  static_assert(Count >= 1 && Count <= 65535);

 public:
  struct secondary {
    std::array<std::uint16_t, 2> assigned{};  // by resource_kind
    bool online = false;
  };

  constexpr flexible_resources(std::uint16_t primary_id, std::uint16_t first_id,
                               resource_limits queues, resource_limits interrupts) noexcept
      : kinds_{queues, interrupts}, primary_id_(primary_id), first_id_(first_id) {}

  [[nodiscard]] constexpr const resource_limits& limits(resource_kind kind) const noexcept {
    return kinds_[static_cast<std::size_t>(kind)];
  }
  // Of virtual function i + 1.
  [[nodiscard]] constexpr const secondary& entry(std::size_t i) const noexcept {
    return secondaries_[i];
  }
  [[nodiscard]] constexpr std::uint16_t id(std::size_t i) const noexcept {
    return static_cast<std::uint16_t>(first_id_ + i);
  }
  [[nodiscard]] constexpr std::uint32_t generation() const noexcept { return generation_; }
  // The totals of all secondaries (VQRFA, VIRFA), of the primary now (VQRFAP, VIRFAP), and the free
  // resources.
  [[nodiscard]] constexpr std::uint16_t assigned(resource_kind kind) const noexcept {
    return assigned_[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] constexpr std::uint16_t of_primary(resource_kind kind) const noexcept {
    return primary_[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] constexpr std::uint16_t available(resource_kind kind) const noexcept {
    const auto k = static_cast<std::size_t>(kind);
    return static_cast<std::uint16_t>(kinds_[k].flexible - assigned_[k] - held_by_primary(k));
  }

  // Action 1h. The primary has them from its next reset on.
  constexpr resource_answer allocate_primary(std::uint16_t id, std::uint8_t kind,
                                             std::uint16_t count) noexcept {
    if (id != primary_id_) return {resource_status::invalid_controller_id};
    if (kind >= kinds_.size()) return {resource_status::invalid_resource};
    const auto most = static_cast<std::uint16_t>(kinds_[kind].flexible - assigned_[kind]);
    if (count > most) return {resource_status::invalid_count};
    primary_next_[kind] = rounded(kind, count, most);
    return {resource_status::success, primary_next_[kind]};
  }
  // Action 8h: replaces what the secondary had. It is offline.
  constexpr resource_answer assign(std::uint16_t id, std::uint8_t kind,
                                   std::uint16_t count) noexcept {
    const std::size_t at = id - std::size_t{first_id_};
    if (id < first_id_ || at >= Count) return {resource_status::invalid_controller_id};
    if (kind >= kinds_.size()) return {resource_status::invalid_resource};
    secondary& s = secondaries_[at];
    if (s.online) return {resource_status::invalid_state};
    const auto left = static_cast<std::uint16_t>(kinds_[kind].flexible - held_by_primary(kind) -
                                                 (assigned_[kind] - s.assigned[kind]));
    const std::uint16_t most =
        left < kinds_[kind].most_per_secondary ? left : kinds_[kind].most_per_secondary;
    if (count > most) return {resource_status::invalid_count};
    const std::uint16_t granted = rounded(kind, count, most);
    assigned_[kind] = static_cast<std::uint16_t>(assigned_[kind] - s.assigned[kind] + granted);
    s.assigned[kind] = granted;
    ++generation_;
    return {resource_status::success, granted};
  }
  // Action 9h: its function exists and it has the least of each resource. One that is online stays so.
  constexpr resource_answer online(std::uint16_t id) noexcept {
    const std::size_t at = id - std::size_t{first_id_};
    if (id < first_id_ || at >= Count) return {resource_status::invalid_controller_id};
    secondary& s = secondaries_[at];
    if (at >= functions_ || s.assigned[0] < kinds_[0].least_online ||
        s.assigned[1] < kinds_[1].least_online) {
      return {resource_status::invalid_state};
    }
    set_online(s, true);
    return {};
  }
  // Action 7h. It keeps its resources.
  constexpr resource_answer offline(std::uint16_t id) noexcept {
    const std::size_t at = id - std::size_t{first_id_};
    if (id < first_id_ || at >= Count) return {resource_status::invalid_controller_id};
    set_online(secondaries_[at], false);
    return {};
  }

  // NumVFs while VF Enable is set, else 0. Secondaries whose function is gone are offline.
  constexpr void set_virtual_functions(std::uint16_t count) noexcept {
    functions_ = count;
    for (std::size_t i = count; i < Count; ++i) set_online(secondaries_[i], false);
  }
  // A controller level reset of the primary: it has what was allocated to it, and its secondaries are
  // offline.
  constexpr void primary_reset() noexcept {
    primary_ = primary_next_;
    for (secondary& s : secondaries_) set_online(s, false);
  }

 private:
  // Resources that the primary has now, or will have after its reset, cannot be assigned.
  [[nodiscard]] constexpr std::uint16_t held_by_primary(std::size_t kind) const noexcept {
    return primary_[kind] > primary_next_[kind] ? primary_[kind] : primary_next_[kind];
  }
  [[nodiscard]] constexpr std::uint16_t rounded(std::size_t kind, std::uint16_t count,
                                                std::uint16_t most) const noexcept {
    const unsigned step = kinds_[kind].granularity;
    if (step < 2) return count;
    const unsigned up = (count + step - 1) / step * step;
    return up > most ? count : static_cast<std::uint16_t>(up);
  }
  constexpr void set_online(secondary& s, bool online) noexcept {
    if (s.online == online) return;
    s.online = online;
    ++generation_;
  }

  std::array<resource_limits, 2> kinds_;
  std::array<secondary, Count> secondaries_{};
  std::array<std::uint16_t, 2> assigned_{};
  std::array<std::uint16_t, 2> primary_{};
  std::array<std::uint16_t, 2> primary_next_{};
  std::uint16_t primary_id_;
  std::uint16_t first_id_;
  std::uint16_t functions_ = 0;
  std::uint32_t generation_ = 0;
};

}  // namespace phasebit::sriov
