// SPDX-License-Identifier: BSL-1.0
// The IOMMU's side of ATS: answers to translation requests, and which invalidations devices have
// not answered yet. PCIe 5.0, 10.2.3 and 10.3.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/iommu/ats/messages.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/page_table/page_lookup.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::iommu {

// Builds a completion from the result of a walk (page_table_view::lookup): the whole page, or as
// much of it as `most_shift` allows. Not mapped is success with neither R nor W; malformed or
// unreadable tables abort. `stu_shift` is the device's Smallest Translation Unit: smaller pages are
// not reported to devices. `execute`: the page may be executed, which lookups do not return.
template <class Space>
[[nodiscard]] constexpr ats_completion ats_answer_of(const ats_request& request,
                                                     const page_lookup<Space>& found,
                                                     unsigned stu_shift = 12,
                                                     unsigned most_shift = 51,
                                                     bool execute = false) noexcept {
  ats_completion completion;
  completion.tag = request.tag;
  if (found.status == walk_status::malformed || found.status == walk_status::unreadable) {
    completion.status = ats_status::aborted;
    return completion;
  }
  if (found.status != walk_status::mapped) return completion;
  if (found.page_shift < stu_shift) {
    completion.status = ats_status::aborted;
    return completion;
  }
  const unsigned shift = found.page_shift < most_shift ? found.page_shift : most_shift;
  const std::uint64_t within = request.address & ((std::uint64_t{1} << found.page_shift) - 1) &
                               ~((std::uint64_t{1} << shift) - 1);
  // Write permission is granted on request only: the page's dirty state is not reported (10.2.2).
  const unsigned granted = found.permissions & (request.no_write ? 1U : 3U);
  if (granted == 0) return completion;
  completion.entry = ats_entry::of({found.page.value() + within, shift}, granted)
                         .with(ats_entry::priv, request.space.privileged)
                         .with(ats_entry::exe, execute && request.space.execute);
  return completion;
}

// Invalidations under way of up to Devices functions. `now` is any monotonic clock in nanoseconds,
// the same in all calls. Guarantees: an ITag is not used again before it was answered, however late,
// or the device was reset; unexpected answers change nothing. One thread; allocates
// nothing.
template <std::size_t Devices = 8>
class ats_invalidations {
 public:
  // Deadlines are compared modulo 2^64: a limit beyond half of that, as "none", becomes half.
  constexpr explicit ats_invalidations(std::uint64_t timeout_ns = ats_timeout_ns) noexcept
      : timeout_(timeout_ns >> 63 != 0 ? ~std::uint64_t{0} >> 1 : timeout_ns) {}

  // The message to be sent; nothing where the device has as many under way as it takes at once
  // (`depth`, 0 is 32), or all places for devices are taken: later.
  [[nodiscard]] std::optional<ats_invalidate> begin(pcie::requester_id device, address_block block,
                                                    unsigned depth, std::uint64_t now) noexcept {
    if (depth == 0 || depth > ats_max_itags) depth = ats_max_itags;
    entry* const e = place(device);
    if (e == nullptr) return std::nullopt;
    unsigned busy = 0;
    unsigned free = ats_max_itags;
    for (unsigned i = 0; i != ats_max_itags; ++i) {
      if (((e->busy | e->lost) >> i & 1) != 0) {
        ++busy;
      } else if (free == ats_max_itags) {
        free = i;
      }
    }
    if (busy >= depth) return std::nullopt;
    e->device = device;
    e->busy |= std::uint32_t{1} << free;
    e->expected[free] = 0;
    e->received[free] = 0;
    e->deadline[free] = now + timeout_;
    return ats_invalidate{device, static_cast<std::uint8_t>(free), false, 0,
                          ats_invalidate_body::of(block, false)};
  }

  // False where the message names an ITag that is not under way, or contradicts an earlier copy of
  // itself; what else it names is counted.
  bool complete(const ats_invalidate_completion& message) noexcept {
    entry* const e = find(message.device);
    if (e == nullptr || message.itags == 0 || message.count == 0 || message.count > 8) return false;
    bool good = (message.itags & ~e->busy) == 0;
    e->lost &= ~message.itags;
    for (unsigned i = 0; i != ats_max_itags; ++i) {
      if ((message.itags & e->busy) >> i == 0) break;
      if (((message.itags & e->busy) >> i & 1) == 0) continue;
      if (e->expected[i] == 0) e->expected[i] = message.count;
      if (e->expected[i] != message.count) {
        good = false;
        continue;
      }
      if (++e->received[i] == e->expected[i]) e->busy &= ~(std::uint32_t{1} << i);
    }
    return good;
  }

  [[nodiscard]] bool idle() const noexcept {
    for (const entry& e : entries_) {
      if (e.busy != 0) return false;
    }
    return true;
  }
  [[nodiscard]] bool idle(pcie::requester_id device) const noexcept {
    for (const entry& e : entries_) {
      if (e.busy != 0 && e.device == device) return false;
    }
    return true;
  }

  // Drops the invalidations of one device that were not completed in time, and returns its
  // requester ID. That device may still use the old translation: the caller must keep the memory or
  // block the device.
  [[nodiscard]] std::optional<pcie::requester_id> expire(std::uint64_t now) noexcept {
    for (entry& e : entries_) {
      std::uint32_t late = 0;
      for (unsigned i = 0; i != ats_max_itags; ++i) {
        if ((e.busy >> i & 1) != 0 && now - e.deadline[i] < std::uint64_t{1} << 63) {
          late |= std::uint32_t{1} << i;
        }
      }
      if (late == 0) continue;
      e.busy &= ~late;
      e.lost |= late;
      missed_ = true;
      return e.device;
    }
    return std::nullopt;
  }
  template <class Late>
  void expire_all(std::uint64_t now, Late&& late) noexcept {
    for (;;) {
      const auto whose = expire(now);
      if (!whose) return;
      late(*whose);
    }
  }
  // Whether an invalidation timed out, or could not be sent, since the last call.
  [[nodiscard]] bool take_missed() noexcept {
    const bool missed = missed_;
    missed_ = false;
    return missed;
  }
  void note_missed() noexcept { missed_ = true; }
  // The device was reset, or is gone: nothing is under way any more.
  void forget(pcie::requester_id device) noexcept {
    if (entry* const e = find(device)) e->busy = e->lost = 0;
  }

 private:
  struct entry {
    pcie::requester_id device{};
    std::uint32_t busy = 0;
    std::uint32_t lost = 0;  // given up; an answer may still come
    std::array<std::uint8_t, ats_max_itags> expected{};
    std::array<std::uint8_t, ats_max_itags> received{};
    std::array<std::uint64_t, ats_max_itags> deadline{};
  };

  [[nodiscard]] entry* find(pcie::requester_id device) noexcept {
    for (entry& e : entries_) {
      if ((e.busy | e.lost) != 0 && e.device == device) return &e;
    }
    return nullptr;
  }
  [[nodiscard]] entry* place(pcie::requester_id device) noexcept {
    if (entry* const e = find(device)) return e;
    for (entry& e : entries_) {
      if ((e.busy | e.lost) == 0) return &e;
    }
    return nullptr;
  }

  std::uint64_t timeout_;
  std::array<entry, Devices> entries_{};
  bool missed_ = false;
};

// The part of a CommandHandler that concerns devices' caches: sends invalidations with
// send(ats_invalidate), delays waits until all invalidations have completed, and fails the waits
// when one timed out; late(requester_id) is called with each device that timed out. Other commands
// are `done`.
template <std::size_t Devices, class Send, class Late>
[[nodiscard]] command_outcome carry_out_for_devices(ats_invalidations<Devices>& under_way,
                                                    const command& c, std::uint64_t now,
                                                    Send&& send, Late&& late) noexcept {
  if (c.kind == command_kind::invalidate_device_tlb) {
    const address_block block = c.by_range ? block_around(c.first, c.last) : address_block{0, 64};
    const pcie::requester_id device{static_cast<std::uint16_t>(c.device)};
    auto message = under_way.begin(device, block, c.queue_depth, now);
    if (!message) {
      under_way.expire_all(now, late);
      if (!under_way.idle()) return command_outcome::again;
      under_way.note_missed();  // all its places are lost: it will never have one again
      return command_outcome::failed;
    }
    message->with_pasid = c.by_pasid;
    message->pasid = c.pasid;
    message->body = ats_invalidate_body::of(block, c.by_pasid && c.global);
    send(*message);
    return command_outcome::done;
  }
  if (c.kind != command_kind::wait) return command_outcome::done;
  under_way.expire_all(now, late);
  if (!under_way.idle()) return command_outcome::again;
  return under_way.take_missed() ? command_outcome::failed : command_outcome::done;
}

}  // namespace phasebit::iommu
