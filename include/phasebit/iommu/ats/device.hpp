// SPDX-License-Identifier: BSL-1.0
// The device's side of ATS: a cache of translations that the IOMMU invalidates. PCIe 5.0, 10.2 to
// 10.3.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/iommu/ats/messages.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// The cached state of an address.
enum class ats_answer : std::uint8_t {
  translated,
  unknown,       // ask: request()
  untranslated,  // ATS is off
};

// The result of a completion.
enum class ats_taken : std::uint8_t {
  kept,
  denied,        // neither read nor write, or less than was requested: page request, or error
  untranslated,  // only untranslated requests; not kept
  stale,         // an invalidation overtook it: not kept, ask again
  disabled,      // Unsupported Request: ATS is off from here on
  failed,        // Completer Abort, or a translation that makes no sense
  unexpected,    // no request has this tag; ignored
};

// One function's translation cache. `Cache` models iotlb. At most Requests translation requests and
// 32 invalidations are under way.
//
// Guarantees: what an invalidation has named is answered no more once invalidate() returns; its
// completion is returned only after every access that may still use the old translation has
// ended (begin_access, end_access), as 10.3.2 demands. Whatever the other side sends is checked: a
// completion is kept only if its tag was asked with, and only for the address asked about.
// Belongs to one thread; allocates nothing.
//
// A translation is kept for the manner of access that was asked about (execute, privileged); Global
// is not used, which costs requests and nothing else. This device never sets No Snoop, so N is kept
// by itself.
template <class Cache = iotlb<16, 4>, std::size_t Requests = 8>
class ats_device {
 public:
  using from = typename Cache::from;
  using to = typename Cache::to;
  using hit_type = iotlb_hit<to>;

  // `stu_shift` is log2 of the Smallest Translation Unit (10.5.1.3), at least 12.
  constexpr explicit ats_device(pcie::requester_id id, unsigned stu_shift = 12) noexcept
      : id_(id), stu_shift_(stu_shift) {
    PHASEBIT_EXPECTS(stu_shift >= 12 && stu_shift < 52,
                     "the smallest translation unit is 4 KiB or larger");
  }

  [[nodiscard]] bool enabled() const noexcept { return enabled_; }
  // Switching ATS off or on empties the cache (10.5.1.3).
  void enable(bool on) noexcept {
    enabled_ = on;
    cache_.invalidate_all();
    requests_ = {};
  }

  // The cached translation of `a`; never sends a request.
  [[nodiscard]] ats_answer find(const ats_space& space, address<from> a, access wanted,
                                hit_type& hit) const noexcept {
    if (!enabled_) return ats_answer::untranslated;
    if (!cache_.find(tag_of(space), a, hit)) return ats_answer::unknown;
    // Fewer permissions than requested: they may have grown meanwhile, so the device requests the
    // translation again (10.2.4) instead of failing.
    return (static_cast<unsigned>(wanted) & ~hit.permissions) == 0 ? ats_answer::translated
                                                                   : ats_answer::unknown;
  }

  // A request to be sent; nothing where as many as possible are under way, or ATS is off.
  [[nodiscard]] std::optional<ats_request> request(const ats_space& space, address<from> a,
                                                   access wanted) noexcept {
    if (!enabled_) return std::nullopt;
    for (std::size_t i = 0; i != Requests; ++i) {
      outstanding& slot = requests_[i];
      if (slot.used) continue;
      const std::uint64_t at = a.value() >> stu_shift_ << stu_shift_;
      slot = {true, false, wanted, space, at};
      return ats_request{id_, static_cast<std::uint16_t>(i), space, at, !writes(wanted)};
    }
    return std::nullopt;
  }
  // Handles a completion. `entry` of a successful completion is checked before it is used.
  ats_taken complete(const ats_completion& completion) noexcept {
    if (completion.tag >= Requests || !requests_[completion.tag].used) {
      ++unexpected_;
      return ats_taken::unexpected;
    }
    outstanding& slot = requests_[completion.tag];
    const outstanding asked = slot;
    slot.used = false;
    if (completion.status == ats_status::unsupported) {
      enable(false);
      return ats_taken::disabled;
    }
    if (completion.status != ats_status::success) return ats_taken::failed;
    const ats_entry entry = completion.entry;
    const unsigned permissions = static_cast<unsigned>(entry.raw & 3);
    if (permissions == 0) return ats_taken::denied;
    if (entry[ats_entry::u]) return ats_taken::untranslated;
    const address_block block = entry.block();
    // Smaller than the translation unit, or everything: no table can express that.
    if (block.shift < stu_shift_ || block.shift >= 52) return ats_taken::failed;
    if (asked.overtaken) return ats_taken::stale;
    const bool manner = (!asked.space.execute || entry[ats_entry::exe]) &&
                        (!asked.space.privileged || entry[ats_entry::priv]);
    if (!manner) return ats_taken::denied;
    page_lookup<to> page;
    page.status = walk_status::mapped;
    page.page_shift = static_cast<std::uint8_t>(block.shift);
    page.permissions = static_cast<std::uint8_t>(permissions);
    page.page = address<to>{block.first};
    cache_.insert(tag_of(asked.space), address<from>{asked.address}, page);
    return (static_cast<unsigned>(asked.wanted) & ~permissions) == 0 ? ats_taken::kept
                                                                     : ats_taken::denied;
  }

  // An access with a translated address begins; end_access() gets back what this returned.
  [[nodiscard]] unsigned begin_access() noexcept {
    ++in_flight_[phase_ & 1];
    return static_cast<unsigned>(phase_ & 1);
  }
  void end_access(unsigned begun) noexcept {
    PHASEBIT_EXPECTS(begun < 2 && in_flight_[begun] != 0, "an access ends that did not begin");
    --in_flight_[begun];
    advance();
  }

  // Forgets. False where the ITag is under way already, which no IOMMU may do: nothing is forgotten
  // then, and nothing answered.
  bool invalidate(const ats_invalidate& message) noexcept {
    if (message.itag >= ats_max_itags || (pending_ >> message.itag & 1) != 0 ||
        (ready_ >> message.itag & 1) != 0) {
      ++unexpected_;
      return false;
    }
    // A range below the translation unit is rounded up to it (10.3.1).
    address_block block = message.body.block();
    if (block.shift < stu_shift_) block = {block.first >> stu_shift_ << stu_shift_, stu_shift_};
    const address<from> first{block.first};
    const address<from> last{block.last()};
    for (std::uint16_t manner = 0; manner != 4; ++manner) {
      if (message.with_pasid) {
        cache_.invalidate(static_cast<std::uint16_t>(4 + manner), first, last);
      } else if (manner == 0) {
        cache_.invalidate(0, first, last);
      }
    }
    for (outstanding& slot : requests_) {
      if (slot.used && slot.space.with_pasid == message.with_pasid &&
          slot.address <= block.last() && block.first <= slot.address + stu_mask()) {
        slot.overtaken = true;
      }
    }
    pending_ |= std::uint32_t{1} << message.itag;
    waits_for_[message.itag] = phase_;
    advance();
    return true;
  }
  // The completions that are due now, as one message.
  [[nodiscard]] std::optional<ats_invalidate_completion> take_completion() noexcept {
    if (ready_ == 0) return std::nullopt;
    const ats_invalidate_completion message{id_, ready_, 1};
    ready_ = 0;
    return message;
  }
  // Messages that no correct IOMMU sends.
  [[nodiscard]] std::uint64_t unexpected() const noexcept { return unexpected_; }

 private:
  struct outstanding {
    bool used = false;
    bool overtaken = false;
    access wanted = access::read;
    ats_space space{};
    std::uint64_t address = 0;
  };

  // The cache's "domain" is the manner of access: 0 without PASID, else 4 + execute + privileged.
  [[nodiscard]] static iotlb_tag tag_of(const ats_space& space) noexcept {
    if (!space.with_pasid) return {0, 0};
    return {static_cast<std::uint16_t>(4 + (space.execute ? 1 : 0) + (space.privileged ? 2 : 0)),
            space.pasid};
  }
  [[nodiscard]] std::uint64_t stu_mask() const noexcept {
    return (std::uint64_t{1} << stu_shift_) - 1;
  }
  // Accesses are counted by the phase they began in. A phase ends for an invalidation that waits
  // for it, once those of the phase before have ended; the invalidation is over when its own have.
  void advance() noexcept {
    for (;;) {
      bool wanted = false;
      for (unsigned i = 0; i != ats_max_itags; ++i) {
        if ((pending_ >> i & 1) == 0) continue;
        if (waits_for_[i] == phase_) {
          wanted = true;
        } else if (in_flight_[waits_for_[i] & 1] == 0 || phase_ - waits_for_[i] > 1) {
          pending_ &= ~(std::uint32_t{1} << i);
          ready_ |= std::uint32_t{1} << i;
        }
      }
      if (!wanted || in_flight_[(phase_ + 1) & 1] != 0) return;
      ++phase_;
    }
  }

  Cache cache_{};
  pcie::requester_id id_;
  unsigned stu_shift_;
  bool enabled_ = true;
  std::array<outstanding, Requests> requests_{};
  std::array<std::uint64_t, 2> in_flight_{};
  std::uint64_t phase_ = 2;
  std::uint32_t pending_ = 0;
  std::uint32_t ready_ = 0;
  std::array<std::uint64_t, ats_max_itags> waits_for_{};
  std::uint64_t unexpected_ = 0;
};

}  // namespace phasebit::iommu
