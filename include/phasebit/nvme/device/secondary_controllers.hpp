// SPDX-License-Identifier: BSL-1.0
// What a primary controller knows of the controllers behind its virtual functions: who has which
// queues and interrupts, and who is online. NVMe Base 2.0, sections 5.28 (Virtualization
// Management) and 8.26.
#pragma once

#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// A controller without secondaries: Virtualization Management is no command of it.
struct no_secondary_controllers {
  static constexpr bool present = false;
};

// One kind of resource, queue pairs (the admin pair included) or interrupt vectors.
struct shared_resource {
  std::uint16_t flexible = 0;       // to be shared out
  std::uint16_t of_primary = 0;     // the primary's own, never shared
  std::uint16_t per_secondary = 0;  // the most that one secondary gets
};

// Count secondary controllers, of virtual functions 1 to Count, with the controller identifiers
// that follow `first_id`. It decides only: the owner of the secondaries reads entry() when generation()
// has changed, and changes their controllers. One thread at a time, that of the primary's poll().
template <std::size_t Count>
class secondary_controllers {
  static_assert(Count >= 1 && Count <= 127, "the list of secondaries has room for 127");

 public:
  static constexpr bool present = true;

  struct entry_type {
    bool online = false;
    std::array<std::uint16_t, 2> assigned{};  // by virtualization_resource
  };

  constexpr void configure(std::uint16_t first_id, shared_resource queues,
                           shared_resource interrupts) noexcept {
    first_id_ = first_id;
    kinds_ = {queues, interrupts};
  }
  // VF Enable and NumVFs, as the SR-IOV capability has them; 0 is disabled. A function that is
  // gone takes its controller offline.
  constexpr void set_virtual_functions(std::uint16_t count) noexcept {
    functions_ = count;
    for (std::size_t i = count; i < Count; ++i) entries_[i].online = false;
    ++generation_;
  }

  // Of the secondary of virtual function i + 1.
  [[nodiscard]] constexpr const entry_type& entry(std::size_t i) const noexcept {
    return entries_[i];
  }
  [[nodiscard]] constexpr std::uint32_t generation() const noexcept { return generation_; }

  // What was allocated to the primary becomes its own with its reset.
  constexpr void primary_reset() noexcept { primary_ = primary_next_; }

  // DW0 of the completion is the number of resources that changed hands.
  [[nodiscard]] constexpr command_result execute(const submission_entry& c,
                                                 std::uint16_t primary_id) noexcept {
    using f = virtualization_command;
    const std::uint16_t id = f::cntlid.get(c.cdw10.get());
    const auto kind = static_cast<std::size_t>(f::rt.get(c.cdw10.get()));
    const std::uint16_t count = f::nr.get(c.cdw11.get());
    const auto action = f::act.get(c.cdw10.get());
    if (action == virtualization_action::allocate_primary) {
      if (id != primary_id) return status_code::invalid_controller_id;
      if (kind >= kinds_.size()) return status_code::invalid_resource_id;
      if (count > kinds_[kind].flexible - assigned(kind)) {
        return status_code::invalid_controller_resource_count;
      }
      primary_next_[kind] = count;
      return {status_code::success, count};
    }
    if (action != virtualization_action::offline && action != virtualization_action::assign &&
        action != virtualization_action::online) {
      return status_code::invalid_field;
    }
    const std::size_t at = id - std::size_t{first_id_};
    if (id < first_id_ || at >= Count) return status_code::invalid_controller_id;
    entry_type& e = entries_[at];
    switch (action) {
      case virtualization_action::assign:
        return assign(e, kind, count);
      case virtualization_action::online:
        // An admin and an I/O queue, an interrupt, and a function that exists.
        if (at >= functions_ || e.assigned[0] < 2 || e.assigned[1] < 1) {
          return status_code::invalid_secondary_controller_state;
        }
        e.online = true;
        break;
      default:
        e.online = false;
        break;
    }
    ++generation_;
    return status_code::success;
  }

  // Identify CNS 14h and 15h; `page` is zero.
  void write_capabilities(std::span<std::byte> page, std::uint16_t primary_id) const noexcept {
    primary_controller_capabilities p{};
    p.cntlid = primary_id;
    p.crt = static_cast<std::uint8_t>(primary_controller_capabilities::crt_vq.of(true) |
                                      primary_controller_capabilities::crt_vi.of(true));
    p.vqfrt = kinds_[0].flexible;
    p.vqrfa = assigned(0);
    p.vqrfap = primary_[0];
    p.vqprt = kinds_[0].of_primary;
    p.vqfrsm = kinds_[0].per_secondary;
    p.vqgran = std::uint16_t{1};
    p.vifrt = kinds_[1].flexible;
    p.virfa = assigned(1);
    p.virfap = primary_[1];
    p.viprt = kinds_[1].of_primary;
    p.vifrsm = kinds_[1].per_secondary;
    p.vigran = std::uint16_t{1};
    store_wire(page, p);
  }
  // Those with an identifier of at least `from`: a count, then entries from byte 32 on.
  void write_list(std::span<std::byte> page, std::uint16_t primary_id,
                  std::uint16_t from) const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i != Count; ++i) {
      const auto id = static_cast<std::uint16_t>(first_id_ + i);
      if (id < from) continue;
      secondary_controller_entry e{};
      e.scid = id;
      e.pcid = primary_id;
      e.scs = secondary_controller_entry::online.of<std::uint8_t>(entries_[i].online);
      e.vfn = static_cast<std::uint16_t>(i + 1);
      e.nvq = entries_[i].assigned[0];
      e.nvi = entries_[i].assigned[1];
      store_wire(page.subspan(++count * sizeof e), e);
    }
    page[0] = static_cast<std::byte>(count);
  }

 private:
  [[nodiscard]] constexpr std::uint16_t assigned(std::size_t kind) const noexcept {
    std::uint32_t sum = 0;
    for (const entry_type& e : entries_) sum += e.assigned[kind];
    return static_cast<std::uint16_t>(sum);
  }
  [[nodiscard]] constexpr command_result assign(entry_type& e, std::size_t kind,
                                                std::uint16_t count) noexcept {
    if (e.online) return status_code::invalid_secondary_controller_state;
    if (kind >= kinds_.size()) return status_code::invalid_resource_id;
    // What the primary holds now or will hold after its reset is not there to be given away.
    const std::uint16_t primary =
        primary_[kind] > primary_next_[kind] ? primary_[kind] : primary_next_[kind];
    const int free = kinds_[kind].flexible - primary - (assigned(kind) - e.assigned[kind]);
    if (count > kinds_[kind].per_secondary || int{count} > free) {
      return status_code::invalid_controller_resource_count;
    }
    e.assigned[kind] = count;
    ++generation_;
    return {status_code::success, count};
  }

  std::array<shared_resource, 2> kinds_{};
  std::array<entry_type, Count> entries_{};
  std::array<std::uint16_t, 2> primary_{};
  std::array<std::uint16_t, 2> primary_next_{};
  std::uint16_t first_id_ = 1;
  std::uint16_t functions_ = 0;
  std::uint32_t generation_ = 0;
};

}  // namespace phasebit::nvme::device
