// SPDX-License-Identifier: BSL-1.0
// Maps virtual functions to roots and requester ids: the device's own hierarchy (master) on one
// side, the hierarchies of the roots that share it (slaves) on the other.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/sriov/detail/exact_match.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

// One assignment: 64 bits.
struct id_assignment {
  static constexpr std::uint16_t no_root = 0xffff;

  std::uint16_t root = no_root;
  std::uint16_t vf = 0;         // the index of the function, below Count
  pcie::requester_id slave{};   // what the root calls it
  pcie::requester_id master{};  // what the device calls it

  [[nodiscard]] constexpr bool exists() const noexcept { return root != no_root; }
  friend constexpr bool operator==(const id_assignment&, const id_assignment&) noexcept = default;
};
static_assert(sizeof(id_assignment) == 8);

// Count functions and any number of roots below 65535. From slave to master by content (root and
// requester id), from master to slave by index: both take the same time for 1 or for Count functions,
// and for any number of roots. One thread assigns at a time, without look-ups meanwhile.
template <std::size_t Count>
class id_remap {
  static_assert(Count >= 1 && Count <= 65535);

 public:
  // Errors: out_of_range (vf, root), already_exists (the function is assigned, or the root calls
  // another one so), exhausted.
  [[nodiscard]] result<> assign(const id_assignment& a) noexcept {
    if (a.vf >= Count) return failure(errc::out_of_range, "no such virtual function", a.vf);
    if (!a.exists()) return failure(errc::out_of_range, "no such root", a.root);
    if (by_vf_[a.vf].exists()) {
      return failure(errc::already_exists, "the virtual function is assigned to a root",
                     by_vf_[a.vf].root);
    }
    if (to_master(a.root, a.slave).exists()) {
      return failure(errc::already_exists, "the root has another function of this requester id",
                     a.slave.raw());
    }
    if (!by_slave_.insert(hash_of(a.root, a.slave), a.vf)) {
      return failure(errc::exhausted, "no place is left for the requester id", a.slave.raw());
    }
    by_vf_[a.vf] = a;
    return {};
  }
  // False where the function was assigned to no root.
  constexpr bool remove(std::uint16_t vf) noexcept {
    if (vf >= Count || !by_vf_[vf].exists()) return false;
    by_slave_.erase(hash_of(by_vf_[vf].root, by_vf_[vf].slave), vf);
    by_vf_[vf] = {};
    return true;
  }

  // The assignment of a function, as a memory by index; does not exist where there is none.
  [[nodiscard]] constexpr id_assignment to_slave(std::uint16_t vf) const noexcept {
    return vf < Count ? by_vf_[vf] : id_assignment{};
  }
  // The assignment by what a root calls it, as a content-addressable memory.
  [[nodiscard]] constexpr id_assignment to_master(std::uint16_t root,
                                                  pcie::requester_id slave) const noexcept {
    const std::uint32_t found =
        by_slave_.find(hash_of(root, slave), [&](std::uint32_t vf) noexcept {
          return by_vf_[vf].root == root && by_vf_[vf].slave == slave;
        });
    return found != by_slave_.none ? by_vf_[found] : id_assignment{};
  }

 private:
  [[nodiscard]] static constexpr std::uint64_t hash_of(std::uint16_t root,
                                                       pcie::requester_id slave) noexcept {
    return detail::mix(std::uint64_t{root} << 16 | slave.raw());
  }

  std::array<id_assignment, Count> by_vf_{};
  detail::exact_match<Count> by_slave_{};
};

}  // namespace phasebit::sriov
