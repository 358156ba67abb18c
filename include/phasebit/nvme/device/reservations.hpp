// SPDX-License-Identifier: BSL-1.0
// Reservations of the namespaces that several controllers share: who is registered, who holds a
// reservation, and what others may do meanwhile. NVMe Base 2.0, sections 7.2 to 7.5 and 8.19.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/spec/opcodes.hpp>
#include <phasebit/nvme/spec/reservations.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// A pool without reservations.
struct no_reservations {
  static constexpr bool present = false;
};

using host_identifier = std::array<std::uint8_t, 16>;

// Kinds of access to blocks, as figure 520 groups the commands.
enum class access_group : std::uint8_t { none, reads, writes };

[[nodiscard]] constexpr access_group access_group_of(nvm_opcode opcode) noexcept {
  switch (opcode) {
    case nvm_opcode::read:
    case nvm_opcode::compare:
    case nvm_opcode::verify:
      return access_group::reads;
    case nvm_opcode::write:
    case nvm_opcode::write_uncorrectable:
    case nvm_opcode::write_zeroes:
    case nvm_opcode::dataset_management:
    case nvm_opcode::copy:
    case nvm_opcode::flush:
      return access_group::writes;
    default:
      return access_group::none;
  }
}

// The matrix of conflicts: whether a host may use blocks of a namespace with a reservation of `type`.
[[nodiscard]] constexpr bool may_access(reservation_type type, access_group what, bool holder,
                                        bool registrant) noexcept {
  if (what == access_group::none) return true;
  switch (type) {
    case reservation_type::none:
      return true;
    case reservation_type::write_exclusive:
      return holder || what == access_group::reads;
    case reservation_type::exclusive_access:
      return holder;
    case reservation_type::write_exclusive_registrants:
    case reservation_type::write_exclusive_all:
      return registrant || what == access_group::reads;
    case reservation_type::exclusive_access_registrants:
    case reservation_type::exclusive_access_all:
      return registrant;
  }
  return false;
}

// The reservation of one namespace. Hosts, up to Registrants of them, are known by their identifier.
template <std::size_t Registrants>
class reservation {
 public:
  struct registrant {
    host_identifier host{};
    std::uint64_t key = 0;
    bool there = false;
  };
  // The hosts that a change concerns: the host of a registrant.
  struct no_notices {
    void operator()(const host_identifier&, reservation_notice) const noexcept {}
  };

  [[nodiscard]] const registrant* find(const host_identifier& host) const noexcept {
    for (const registrant& r : all_) {
      if (r.there && r.host == host) return &r;
    }
    return nullptr;
  }
  [[nodiscard]] bool holds(const host_identifier& host) const noexcept {
    const registrant* const r = find(host);
    return r != nullptr && holds(*r);
  }
  [[nodiscard]] reservation_type type() const noexcept { return type_; }
  [[nodiscard]] std::uint32_t generation() const noexcept { return generation_; }
  [[nodiscard]] bool persists() const noexcept { return persists_; }
  [[nodiscard]] bool allows(const host_identifier& host, access_group what) const noexcept {
    return type_ == reservation_type::none ||
           may_access(type_, what, holds(host), find(host) != nullptr);
  }

  // The commands. notify(host, notice) is called for each host that is to be notified of a change.
  template <class Notify>
  [[nodiscard]] status_code change_registration(const host_identifier& host, std::uint32_t dw10,
                                                const reservation_keys& keys,
                                                Notify notify) noexcept {
    using f = reservation_command;
    const auto persist = f::persist_bits.get(dw10);
    const bool ignore = f::ignore_key_bit.get(dw10);
    const std::uint64_t current = keys.current;
    const std::uint64_t wanted = keys.other;
    if (persist == 1) return status_code::invalid_field;
    registrant* const r = place_of(host);
    switch (static_cast<register_action>(f::action_bits.get(dw10))) {
      case register_action::add: {
        if (wanted == 0) return status_code::invalid_field;
        if (r != nullptr) {
          if (r->key != wanted) return status_code::reservation_conflict;
          break;
        }
        registrant* const free = free_place();
        if (free == nullptr) return status_code::insufficient_capacity;
        *free = {host, wanted, true};
        break;
      }
      case register_action::remove:
        if (r == nullptr || (!ignore && r->key != current)) {
          return status_code::reservation_conflict;
        }
        unregister(*r, notify);
        break;
      case register_action::replace:
        if (wanted == 0) return status_code::invalid_field;
        if (r == nullptr || (!ignore && r->key != current)) {
          return status_code::reservation_conflict;
        }
        r->key = wanted;
        break;
      default:
        return status_code::invalid_field;
    }
    if (persist != 0) persists_ = persist == 3;
    ++generation_;
    return status_code::success;
  }

  template <class Notify>
  [[nodiscard]] status_code acquire(const host_identifier& host, std::uint32_t dw10,
                                    const reservation_keys& keys, Notify notify) noexcept {
    using f = reservation_command;
    const auto action = static_cast<acquire_action>(f::action_bits.get(dw10));
    const auto wanted = f::type_bits.get(dw10);
    if (f::ignore_key_bit.get(dw10) || wanted == reservation_type::none ||
        wanted > reservation_type::exclusive_access_all ||
        action > acquire_action::preempt_and_abort) {
      return status_code::invalid_field;
    }
    registrant* const r = place_of(host);
    if (r == nullptr || r->key != keys.current.get()) return status_code::reservation_conflict;
    if (action == acquire_action::acquire) {
      if (type_ == reservation_type::none) {
        hold(*r, wanted);
        return status_code::success;
      }
      return holds(*r) && type_ == wanted ? status_code::success
                                          : status_code::reservation_conflict;
    }
    return preempt(*r, wanted, keys.other, notify);
  }

  template <class Notify>
  [[nodiscard]] status_code release(const host_identifier& host, std::uint32_t dw10,
                                    std::uint64_t key, Notify notify) noexcept {
    using f = reservation_command;
    const auto action = static_cast<release_action>(f::action_bits.get(dw10));
    if (f::ignore_key_bit.get(dw10) || action > release_action::clear) {
      return status_code::invalid_field;
    }
    registrant* const r = place_of(host);
    if (r == nullptr || r->key != key) return status_code::reservation_conflict;
    if (action == release_action::release) {
      if (!holds(*r)) return status_code::success;
      if (f::type_bits.get(dw10) != type_) return status_code::invalid_field;
      end_reservation(r, notify);
      return status_code::success;
    }
    for (registrant& o : all_) {
      if (o.there && &o != r) notify(o.host, reservation_notice::reservation_preempted);
      o = {};
    }
    type_ = reservation_type::none;
    ++generation_;
    return status_code::success;
  }

  void set_persists(bool on) noexcept { persists_ = on; }
  // A loss of power: everything is gone but what persists.
  void power_loss() noexcept {
    if (!persists_) *this = reservation{};
  }

 private:
  [[nodiscard]] registrant* place_of(const host_identifier& host) noexcept {
    for (registrant& r : all_) {
      if (r.there && r.host == host) return &r;
    }
    return nullptr;
  }
  [[nodiscard]] registrant* free_place() noexcept {
    for (registrant& r : all_) {
      if (!r.there) return &r;
    }
    return nullptr;
  }
  [[nodiscard]] bool of_all() const noexcept {
    return type_ == reservation_type::write_exclusive_all ||
           type_ == reservation_type::exclusive_access_all;
  }
  [[nodiscard]] bool holds(const registrant& r) const noexcept {
    return type_ != reservation_type::none && (of_all() || &all_[holder_] == &r);
  }
  void hold(const registrant& r, reservation_type type) noexcept {
    type_ = type;
    holder_ = static_cast<std::size_t>(&r - all_.data());
  }
  // Types whose release other registrants are notified of.
  template <class Notify>
  void end_reservation(const registrant* by, Notify& notify) noexcept {
    const bool tell =
        type_ != reservation_type::write_exclusive && type_ != reservation_type::exclusive_access;
    type_ = reservation_type::none;
    for (const registrant& o : all_) {
      if (tell && o.there && &o != by) notify(o.host, reservation_notice::reservation_released);
    }
  }
  template <class Notify>
  void unregister(registrant& r, Notify& notify) noexcept {
    const bool held = holds(r);
    const bool all = of_all();
    r = {};
    if (!held) return;
    bool left = false;
    for (const registrant& o : all_) left = left || o.there;
    // One that all registrants hold ends with the last of them.
    if (!all || !left) end_reservation(&r, notify);
  }

  template <class Notify>
  [[nodiscard]] status_code preempt(registrant& by, reservation_type wanted, std::uint64_t key,
                                    Notify& notify) noexcept {
    const bool everyone = key == 0;
    // No key at all is for taking over from all registrants.
    if (everyone && !of_all()) return status_code::invalid_field;
    const bool held = type_ != reservation_type::none;
    const bool from_holder = held && !of_all() && all_[holder_].key == key;
    const reservation_type before = type_;
    bool any = false;
    for (registrant& o : all_) {
      if (!o.there || (!everyone && o.key != key)) continue;
      any = true;
      if (&o == &by) continue;
      notify(o.host, reservation_notice::registration_preempted);
      o = {};
    }
    if (!any && !everyone) return status_code::reservation_conflict;
    if (everyone || from_holder) {
      hold(by, wanted);
      if (from_holder && before != wanted) {
        for (const registrant& o : all_) {
          if (o.there && &o != &by) notify(o.host, reservation_notice::reservation_released);
        }
      }
    }
    ++generation_;
    return status_code::success;
  }

  std::array<registrant, Registrants> all_{};
  std::size_t holder_ = 0;
  std::uint32_t generation_ = 0;
  reservation_type type_ = reservation_type::none;
  bool persists_ = false;
};

// Of `Namespaces` namespaces, and the hosts behind up to 32 controllers: the third parameter of a
// namespace_pool. A controller whose host has not set its identifier is a host of its own. Notices
// wait for the controllers of the host that they are for, four at most for each.
template <std::size_t Namespaces, std::size_t Registrants>
class reservations {
 public:
  static constexpr bool present = true;
  static constexpr std::size_t controllers = 32;
  using reservation_of = reservation<Registrants>;

  [[nodiscard]] reservation_of& at(std::uint32_t nsid) noexcept { return all_[nsid - 1]; }

  // -- hosts --
  void set_host(std::uint16_t controller, const host_identifier& id, bool extended) noexcept {
    auto& h = hosts_[controller];
    h.id = id;
    h.extended = extended;
  }
  [[nodiscard]] const host_identifier& stored_host(std::uint16_t controller) const noexcept {
    return hosts_[controller].id;
  }
  [[nodiscard]] bool extended(std::uint16_t controller) const noexcept {
    return hosts_[controller].extended;
  }
  [[nodiscard]] host_identifier host(std::uint16_t controller) const noexcept {
    host_identifier id = hosts_[controller].id;
    for (const std::uint8_t byte : id) {
      if (byte != 0) return id;
    }
    // None was set: a value that no host can set, because no identifier of a host is longer.
    id = {};
    id[0] = 1;
    id[14] = static_cast<std::uint8_t>(controller + 1);
    id[15] = 0xff;
    return id;
  }
  [[nodiscard]] bool allows(std::uint32_t nsid, std::uint16_t controller,
                            access_group what) const noexcept {
    return all_[nsid - 1].allows(host(controller), what);
  }

  // -- notices --
  auto notifier(std::uint32_t nsid) noexcept {
    return [this, nsid](const host_identifier& to, reservation_notice what) noexcept {
      for (std::uint16_t c = 0; c != controllers; ++c) {
        if (host(c) == to) add(c, nsid, what);
      }
    };
  }
  [[nodiscard]] bool take_news(std::uint16_t controller) noexcept {
    const bool was = notices_[controller].news;
    notices_[controller].news = false;
    return was;
  }
  // The oldest notice, which is gone afterwards.
  [[nodiscard]] reservation_log take_notice(std::uint16_t controller) noexcept {
    auto& q = notices_[controller];
    reservation_log log{};
    if (q.count == 0) return log;
    log = q.waiting[0];
    for (std::size_t i = 1; i != q.count; ++i) q.waiting[i - 1] = q.waiting[i];
    --q.count;
    log.available = static_cast<std::uint8_t>(q.count);
    return log;
  }
  // Bits 1 to 3: notices of that number are masked.
  [[nodiscard]] std::uint32_t& mask(std::uint32_t nsid, std::uint16_t controller) noexcept {
    return masks_[nsid - 1][controller];
  }

 private:
  struct host_of_controller {
    host_identifier id{};
    bool extended = false;
  };
  struct notice_queue {
    std::array<reservation_log, 4> waiting{};
    std::size_t count = 0;
    std::uint64_t total = 0;
    bool news = false;
  };
  void add(std::uint16_t controller, std::uint32_t nsid, reservation_notice what) noexcept {
    if ((masks_[nsid - 1][controller] >> static_cast<unsigned>(what) & 1U) != 0) return;
    auto& q = notices_[controller];
    if (q.count == q.waiting.size()) {
      for (std::size_t i = 1; i != q.count; ++i) q.waiting[i - 1] = q.waiting[i];
      --q.count;
    }
    reservation_log log{};
    log.count = ++q.total;
    log.what = what;
    log.nsid = nsid;
    q.waiting[q.count++] = log;
    q.news = true;
  }

  std::array<reservation_of, Namespaces> all_{};
  std::array<host_of_controller, controllers> hosts_{};
  std::array<notice_queue, controllers> notices_{};
  std::array<std::array<std::uint32_t, controllers>, Namespaces> masks_{};
};

}  // namespace phasebit::nvme::device
