// SPDX-License-Identifier: BSL-1.0
// The primary controller's table of the controllers behind its virtual functions: the queues and
// interrupts assigned to each, and whether it is online. NVMe Base 2.0, sections 5.28
// (Virtualization Management) and 8.26.
#pragma once

#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>
#include <phasebit/sriov/resources.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// A controller without secondaries: Virtualization Management is no command of it.
struct no_secondary_controllers {
  static constexpr bool present = false;
};

// Count secondary controllers, of virtual functions 1 to Count: the admin command and the Identify pages
// of sriov::flexible_resources. It decides only: the owner of the secondaries reads entry() when
// generation() has changed, and changes their controllers. One thread at a time, that of the primary's
// poll().
template <std::size_t Count>
class secondary_controllers {
 public:
  static constexpr bool present = true;

  using resources_type = sriov::flexible_resources<Count>;
  using entry_type = typename resources_type::secondary;

  // The secondaries have the identifiers that follow `first_id`. Without a call there are no resources
  // to share out. Queues count the admin queue pair: a secondary goes online with two or more.
  constexpr void configure(std::uint16_t primary_id, std::uint16_t first_id,
                           sriov::resource_limits queues,
                           sriov::resource_limits interrupts) noexcept {
    if (queues.least_online < 2) queues.least_online = 2;
    resources_ = resources_type{primary_id, first_id, queues, interrupts};
  }
  // VF Enable and NumVFs, as the SR-IOV capability has them; 0 is disabled. A function that is
  // gone takes its controller offline.
  constexpr void set_virtual_functions(std::uint16_t count) noexcept {
    resources_.set_virtual_functions(count);
  }

  // Of the secondary of virtual function i + 1.
  [[nodiscard]] constexpr const entry_type& entry(std::size_t i) const noexcept {
    return resources_.entry(i);
  }
  [[nodiscard]] constexpr std::uint32_t generation() const noexcept {
    return resources_.generation();
  }

  // Resources allocated to the primary take effect with its reset, and the secondaries go offline.
  constexpr void primary_reset() noexcept { resources_.primary_reset(); }

  // DW0 of the completion is the number of resources that changed hands.
  [[nodiscard]] constexpr command_result execute(const submission_entry& c) noexcept {
    using f = virtualization_command;
    const std::uint16_t id = f::cntlid.get(c.cdw10.get());
    const auto kind = static_cast<std::uint8_t>(f::rt.get(c.cdw10.get()));
    const std::uint16_t count = f::nr.get(c.cdw11.get());
    switch (f::act.get(c.cdw10.get())) {
      case virtualization_action::allocate_primary:
        return answer(resources_.allocate_primary(id, kind, count));
      case virtualization_action::assign:
        return answer(resources_.assign(id, kind, count));
      case virtualization_action::online:
        return answer(resources_.online(id));
      case virtualization_action::offline:
        return answer(resources_.offline(id));
      default:
        return status_code::invalid_field;
    }
  }

  // Identify CNS 14h and 15h; `page` is zero.
  void write_capabilities(std::span<std::byte> page, std::uint16_t primary_id) const noexcept {
    using enum sriov::resource_kind;
    const sriov::resource_limits& vq = resources_.limits(queues);
    const sriov::resource_limits& vi = resources_.limits(interrupts);
    primary_controller_capabilities p{};
    p.cntlid = primary_id;
    p.crt = static_cast<std::uint8_t>(primary_controller_capabilities::crt_vq.of(true) |
                                      primary_controller_capabilities::crt_vi.of(true));
    p.vqfrt = vq.flexible;
    p.vqrfa = resources_.assigned(queues);
    p.vqrfap = resources_.of_primary(queues);
    p.vqprt = vq.of_primary;
    p.vqfrsm = vq.most_per_secondary;
    p.vqgran = vq.granularity;
    p.vifrt = vi.flexible;
    p.virfa = resources_.assigned(interrupts);
    p.virfap = resources_.of_primary(interrupts);
    p.viprt = vi.of_primary;
    p.vifrsm = vi.most_per_secondary;
    p.vigran = vi.granularity;
    store_wire(page, p);
  }
  // Those with an identifier of at least `from`, 127 at most: a count, then entries from byte 32 on.
  void write_list(std::span<std::byte> page, std::uint16_t primary_id,
                  std::uint16_t from) const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i != Count && count != most_listed; ++i) {
      const std::uint16_t id = resources_.id(i);
      if (id < from) continue;
      const entry_type& secondary = resources_.entry(i);
      secondary_controller_entry e{};
      e.scid = id;
      e.pcid = primary_id;
      e.scs = secondary_controller_entry::online.of<std::uint8_t>(secondary.online);
      e.vfn = static_cast<std::uint16_t>(i + 1);
      e.nvq = secondary.assigned[0];
      e.nvi = secondary.assigned[1];
      store_wire(page.subspan(++count * sizeof e), e);
    }
    page[0] = static_cast<std::byte>(count);
  }

 private:
  static constexpr std::size_t most_listed = 127;

  [[nodiscard]] static constexpr command_result answer(sriov::resource_answer a) noexcept {
    switch (a.status) {
      case sriov::resource_status::success:
        return {status_code::success, a.modified};
      case sriov::resource_status::invalid_controller_id:
        return status_code::invalid_controller_id;
      case sriov::resource_status::invalid_state:
        return status_code::invalid_secondary_controller_state;
      case sriov::resource_status::invalid_count:
        return status_code::invalid_controller_resource_count;
      case sriov::resource_status::invalid_resource:
        return status_code::invalid_resource_id;
    }
    return status_code::internal_error;
  }

  resources_type resources_{0, 1, {}, {}};
};

}  // namespace phasebit::nvme::device
