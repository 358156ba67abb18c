// SPDX-License-Identifier: BSL-1.0
// The device's side of page requests: PCIe 5.0, 10.4 and 10.5.2.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/iommu/ats/messages.hpp>
#include <phasebit/iommu/ats/pri_messages.hpp>
#include <phasebit/memory/translate.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// The result of a group of page requests.
enum class pri_outcome : std::uint8_t {
  open,      // not answered
  ready,     // request the translations again
  refused,   // at least one page cannot be provided
  disabled,  // the interface is off; nothing will come
};

// One function's page request interface, at most Groups groups at a time. Guarantees: no more
// requests are under way than were allocated (10.5.2.5); each group is answered at most once; an
// unexpected response changes nothing but the status (UPRGI). One thread.
template <std::size_t Groups = 16>
  requires(Groups != 0 && Groups <= pri_groups)
class pri_device {
 public:
  // The function can have `capacity` requests under way; software allocates at most as many.
  constexpr pri_device(pcie::requester_id id, std::uint32_t capacity) noexcept
      : id_(id), capacity_(capacity) {}

  // Page Request Control and Status, 10.5.2.2 and 10.5.2.3.
  [[nodiscard]] bool enabled() const noexcept { return enabled_; }
  [[nodiscard]] bool response_failure() const noexcept { return failed_; }
  [[nodiscard]] bool unexpected_group() const noexcept { return unexpected_; }
  // Not enabled, and nothing is under way any more.
  [[nodiscard]] bool stopped() const noexcept { return !enabled_ && under_way_ == 0; }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::uint32_t credits() const noexcept {
    return under_way_ < allocated_ ? allocated_ - under_way_ : 0;
  }

  // Software's writes: the allocation is cut to the capacity. Enabling clears what had failed.
  void enable(std::uint32_t allocation) noexcept {
    allocated_ = allocation < capacity_ ? allocation : capacity_;
    failed_ = false;
    enabled_ = true;
  }
  void disable() noexcept { enabled_ = false; }
  void clear_unexpected_group() noexcept { unexpected_ = false; }
  // Only when stopped: forgets all groups and credits (the Reset bit).
  void reset() noexcept {
    PHASEBIT_EXPECTS(!enabled_, "the page request interface is reset while it is disabled");
    groups_ = {};
    under_way_ = 0;
    failed_ = unexpected_ = false;
  }

  // A group to ask with; nothing where all are in use.
  [[nodiscard]] std::optional<std::uint16_t> open_group() noexcept {
    if (!enabled_) return std::nullopt;
    for (std::size_t i = 0; i != Groups; ++i) {
      if (groups_[i].used) continue;
      groups_[i] = {true, false, 0, pri_outcome::open};
      return static_cast<std::uint16_t>(i);
    }
    return std::nullopt;
  }
  // The message for one page; nothing where there is no credit, or the interface is off. The last
  // of a group is marked, and a group is answered only then.
  [[nodiscard]] std::optional<pri_request> request(std::uint16_t group, const ats_space& space,
                                                   std::uint64_t address, access wanted,
                                                   bool last) noexcept {
    PHASEBIT_EXPECTS(group < Groups && groups_[group].used && !groups_[group].asked,
                     "a page is asked for in a group that is open, before its last request");
    if (!enabled_ || credits() == 0) return std::nullopt;
    ++under_way_;
    ++groups_[group].requests;
    groups_[group].asked = last;
    pri_body body{address & ~std::uint64_t{0xfff}};
    body = body.with(pri_body::r, reads(wanted))
               .with(pri_body::w, writes(wanted))
               .with(pri_body::l, last)
               .with(pri_body::prg_index, group);
    return pri_request{id_, space.with_pasid, space.execute, space.privileged, space.pasid, body};
  }
  // The device uses a PASID no more; behind all its requests. Takes no credit, is not answered.
  [[nodiscard]] pri_request stop_marker(std::uint32_t pasid) const noexcept {
    return {id_, true, false, false, pasid, pri_body{4}};
  }

  // False where the group had not asked: counted as an unexpected group (UPRGI), nothing else.
  bool respond(const pri_response& message) noexcept {
    if (message.group >= Groups || !groups_[message.group].used || !groups_[message.group].asked ||
        groups_[message.group].outcome != pri_outcome::open || message.device != id_) {
      unexpected_ = true;
      return false;
    }
    group_state& g = groups_[message.group];
    under_way_ -= g.requests;
    g.requests = 0;
    switch (message.code) {
      case page_response_code::success:
        g.outcome = pri_outcome::ready;
        break;
      case page_response_code::invalid_request:
        g.outcome = pri_outcome::refused;
        break;
      default:
        // Codes that mean nothing are failures, too (10.4.2.1): no more requests, no more answers.
        fail();
        break;
    }
    return true;
  }

  [[nodiscard]] pri_outcome outcome(std::uint16_t group) const noexcept {
    PHASEBIT_EXPECTS(group < Groups && groups_[group].used, "no such group is open");
    return groups_[group].outcome;
  }
  // Gives the index back, once its outcome is known.
  void close_group(std::uint16_t group) noexcept {
    PHASEBIT_EXPECTS(
        group < Groups && groups_[group].used &&
            (groups_[group].outcome != pri_outcome::open || groups_[group].requests == 0),
        "a group is closed when it was answered, or has asked for nothing");
    groups_[group].used = false;
  }

 private:
  struct group_state {
    bool used = false;
    bool asked = false;
    std::uint32_t requests = 0;
    pri_outcome outcome = pri_outcome::open;
  };
  void fail() noexcept {
    failed_ = true;
    enabled_ = false;
    for (group_state& g : groups_) {
      if (g.used && g.outcome == pri_outcome::open) {
        g.outcome = pri_outcome::disabled;
        under_way_ -= g.requests;
        g.requests = 0;
      }
    }
  }

  pcie::requester_id id_;
  std::uint32_t capacity_;
  std::uint32_t allocated_ = 0;
  std::uint32_t under_way_ = 0;
  bool enabled_ = false;
  bool failed_ = false;
  bool unexpected_ = false;
  std::array<group_state, Groups> groups_{};
};

}  // namespace phasebit::iommu
