// SPDX-License-Identifier: BSL-1.0
// Describes to the optimizer the target that a sequence runs on. A literal type: a sequence of
// known shape is planned at compile time when the target is a constant.
#pragma once

#include <phasebit/accel/operation.hpp>
#include <phasebit/memory/memory_domain.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel {

// Two operations that an engine does in one pass: `second` consumes what `first` puts out.
struct fusion {
  operation first;
  operation second;
};

// The default is one software engine that reaches every domain and fuses nothing.
struct target {
  alias_model aliases{};
  std::uint64_t reach =
      ~std::uint64_t{0};              // bit per domain that the engine itself reads and writes
  std::uint64_t pulls = 0;            // domains from which a copy can be a pull
  std::uint64_t pushes = 0;           // domains into which a copy can be a push
  std::uint64_t zeroes = 0;           // domains in which a fill with zeros can be a zero
  std::uint64_t transfers = 0;        // domains from which a copy can be a transfer
  std::span<const fusion> fusions{};  // a constexpr table of the engine
  std::uint64_t max_bytes = ~std::uint64_t{0};  // of one step's larger stream
  std::uint16_t max_segments = 0xffff;          // of one step's source or destination
  std::uint32_t alignment = 1;                  // of where steps are cut; a power of two

  [[nodiscard]] static constexpr std::uint64_t bit(domain_id d) noexcept {
    return std::uint64_t{1} << (d.value & 63U);
  }
  [[nodiscard]] constexpr bool reaches(domain_id d) const noexcept {
    return d.value >= max_domains || (reach & bit(d)) != 0;
  }
  // Whether a copy from one domain to another is possible in one step.
  [[nodiscard]] constexpr bool copies(domain_id from, domain_id to) const noexcept {
    if (reaches(from) && reaches(to)) return true;
    if (reaches(to) && (pulls & bit(from)) != 0) return true;
    if (reaches(from) && (pushes & bit(to)) != 0) return true;
    return (transfers & bit(from)) != 0 && from.value < max_domains;
  }
  [[nodiscard]] constexpr bool fuses(operation first, operation second) const noexcept {
    for (const fusion& f : fusions) {
      if (f.first == first && f.second == second) return true;
    }
    return false;
  }
};

// A target from a table of domains and the domains that the engine reaches.
template <class DomainTable>
[[nodiscard]] constexpr target target_of(const DomainTable& domains, std::uint64_t reach) noexcept {
  target t;
  t.aliases = domains.aliases();
  t.reach = reach | target::bit(scratch_domain);
  for (std::uint16_t i = first_free_domain; i != domains.size(); ++i) {
    const domain_capabilities c = domains.capabilities(domain_id{i});
    const std::uint64_t bit = target::bit(domain_id{i});
    if (c.has(domain_capabilities::pull)) t.pulls |= bit;
    if (c.has(domain_capabilities::push)) t.pushes |= bit;
    if (c.has(domain_capabilities::zero)) t.zeroes |= bit;
    if (c.has(domain_capabilities::transfer)) t.transfers |= bit;
  }
  return t;
}

}  // namespace phasebit::accel
