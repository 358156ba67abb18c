// SPDX-License-Identifier: BSL-1.0
// The IOMMU's side of a command ring, for those who emulate one: what a driver, perhaps a hostile
// one, has written becomes commands, and a handler carries them out.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/iommu/command_queue/codec.hpp>
#include <phasebit/iommu/command_queue/command_ring.hpp>
#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// How a handler has dealt with a command. `again`: not now, something before it is not done yet; the
// command stays at the head and is presented by the next poll. `failed` of a wait: a device has not
// answered in its time; of others: they are ignored.
enum class command_outcome : std::uint8_t { done, again, failed };

// Executes commands. apply() receives every command in order except illegal ones. For a wait it
// returns whether all earlier commands have ended (device_tlb invalidations end later); if not, it
// is called again. store() writes a wait's data, 4 or 8 bytes little-endian, after everything
// before it, and returns false if there is no memory. interrupt() signals a wait's completion.
// Called by the thread that polls.
template <class T>
concept CommandHandler =
    requires(T& handler, const command& c, std::uint64_t at, std::uint64_t data, unsigned bytes) {
      { handler.apply(c) } noexcept -> std::same_as<command_outcome>;
      { handler.store(at, data, bytes) } noexcept -> std::same_as<bool>;
      { handler.interrupt() } noexcept -> std::same_as<void>;
    };

// The IOMMU's own view of memory: where rings and completion words lie, as pointers of this process.
template <class T>
concept QueueMemory = AddressTranslator<T> && std::same_as<typename T::to, local_space>;

// Stores a wait's data for a handler: false where the address is not mapped writable or, which
// a driver can request, not aligned.
template <RingOrder Order, QueueMemory Memory>
[[nodiscard]] bool store_completion(Memory& memory, std::uint64_t at, std::uint64_t data,
                                    unsigned bytes) noexcept {
  const auto part = memory.translate(address<typename Memory::from>{at}, bytes, access::write);
  if (!part || part->bytes < bytes || !is_aligned(part->begin, bytes)) return false;
  auto* const words = reinterpret_cast<le<std::uint32_t>*>(pointer_of(part->begin));
  // A poller reads the low half: it is stored last.
  if (bytes == 8) words[1] = static_cast<std::uint32_t>(data >> 32);
  Order::store(words[0], le<std::uint32_t>{static_cast<std::uint32_t>(data)});
  return true;
}

// The result of one poll.
struct poll_result {
  unsigned commands = 0;  // consumed
  bool more = false;      // there are more: the limit was reached, or a wait is not over
};

// Why the ring stands still. `code` is the number for the IOMMU's own register or event.
struct consumer_fault {
  ring_fault what = ring_fault::none;
  illegal_reason reason = illegal_reason::none;
  std::uint8_t code = 0;
};

// Guarantees: each entry is read once, then judged; a poll consumes at most `limit` commands and at
// most the ring; nothing that the driver writes, into the ring or the tail register, reaches an
// assertion. On a fault the head stays on the command (see fault_action), and nothing is read before
// resume(). One thread at a time.
template <CommandCodec Codec, RingOrder Order, QueueMemory Memory>
class command_consumer {
 public:
  using from = typename Memory::from;

  command_consumer(const Codec& codec, Memory& memory) noexcept : codec_(codec), memory_(&memory) {}

  // The driver has enabled its ring: `entries` (a power of two that the IOMMU's register can
  // express) at `base`, head and tail 0.
  void enable(address<from> base, std::uint32_t entries) noexcept {
    ring_ = ring_geometry<Codec>{codec_, entries};
    base_ = base;
    head_ = tail_ = 0;
    fault_ = {};
    enabled_ = true;
  }
  void disable() noexcept { enabled_ = false; }
  [[nodiscard]] bool enabled() const noexcept { return enabled_; }
  // The same, with another codec: the width of the descriptors is in VT-d's IQA.
  void enable(const Codec& codec, address<from> base, std::uint32_t entries) noexcept {
    codec_ = codec;
    enable(base, entries);
  }

  // The driver has written the tail register (VT-d, AMD, RISC-V, SMMUv3: its low 32 bits). A value
  // that names no entry stops the ring with bad_tail.
  void write_tail(std::uint32_t value) noexcept {
    if (!enabled_) return;
    const auto position = ring_.checked(value);
    if (!position || ring_.distance(head_, *position) > ring_.capacity()) {
      const std::uint32_t below = (std::uint32_t{1} << codec_.index_shift()) - 1;
      stop(ring_fault::bad_tail,
           (value & below) != 0 ? illegal_reason::reserved_bits : illegal_reason::reserved_value);
      return;
    }
    tail_ = *position;
  }
  // The head and tail registers' values; SMMUv3's ERR field is fault().code.
  [[nodiscard]] std::uint32_t head() const noexcept { return ring_.to_register(head_); }
  [[nodiscard]] std::uint32_t tail() const noexcept { return ring_.to_register(tail_); }
  [[nodiscard]] std::uint32_t head_index() const noexcept { return ring_.index(head_); }

  [[nodiscard]] const consumer_fault& fault() const noexcept { return fault_; }
  [[nodiscard]] bool stopped() const noexcept { return fault_.what != ring_fault::none; }
  // The driver has acknowledged the fault: the next poll continues from the head.
  void resume() noexcept { fault_ = {}; }

  // Consumes commands. The tail must have been written with the ordering of its register, or of the
  // thread that hands it over.
  template <CommandHandler Handler>
  poll_result poll(Handler& handler, unsigned limit = 64) noexcept {
    poll_result result;
    if (!enabled_) return result;
    Order::after_load();
    while (!stopped() && head_ != tail_) {
      if (result.commands == limit) {
        result.more = true;
        break;
      }
      command_words words;
      if (!fetch(words)) {
        stop(ring_fault::fetch_failed);
        break;
      }
      const command c = codec_.decode(words);
      if (c.kind == command_kind::illegal) {
        stop(ring_fault::illegal_command, c.reason);
        break;
      }
      if (!carry_out(c, handler, result)) break;
      head_ = ring_.after(head_);
      ++result.commands;
    }
    return result;
  }

 private:
  void stop(ring_fault what, illegal_reason reason = illegal_reason::none) noexcept {
    fault_ = {what, reason, codec_.code(what, reason)};
  }
  [[nodiscard]] bool fetch(command_words& words) noexcept {
    const unsigned bytes = codec_.entry_bytes();
    const auto part =
        memory_->translate(base_ + std::uint64_t{ring_.index(head_)} * bytes, bytes, access::read);
    if (!part || part->bytes < bytes || !is_aligned(part->begin, 8)) return false;
    words = detail::read_entry(pointer_of(part->begin), bytes);
    return true;
  }
  // Whether the command is consumed.
  template <class Handler>
  [[nodiscard]] bool carry_out(const command& c, Handler& handler, poll_result& result) noexcept {
    const command_outcome outcome = handler.apply(c);
    if (outcome == command_outcome::again) {
      result.more = true;
      return false;
    }
    if (c.kind != command_kind::wait) return true;
    if (outcome == command_outcome::failed) {
      if constexpr (Codec::after_timeout != fault_action::go_on) {
        stop(ring_fault::device_timeout);
        return Codec::after_timeout == fault_action::stop_past;
      }
    }
    if (c.store && !handler.store(c.store_address, c.store_data, c.store_bytes)) {
      if constexpr (Codec::after_store_failure == fault_action::stop) {
        stop(ring_fault::store_failed);
        return false;
      }
    }
    if (c.interrupt) handler.interrupt();
    return true;
  }

  Codec codec_;
  Memory* memory_;
  ring_geometry<Codec> ring_;
  address<from> base_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  consumer_fault fault_;
  bool enabled_ = false;
};

// Applies commands that concern translations to a handler's cache; returns true if the command was
// one. A cache of nested translations (`nested`) is invalidated for the whole domain when an
// address of the second stage is invalidated, because its entries are tagged with addresses of the
// first.
template <class Cache>
bool invalidate_cache(Cache& cache, const command& c, bool nested = false) noexcept {
  using from = typename Cache::from;
  if (c.kind == command_kind::invalidate_everything) {
    cache.invalidate_all();
    return true;
  }
  if (c.kind != command_kind::invalidate_translations) return false;
  if (!c.by_domain) {
    // Of every domain: by range or address space, too, because the cache is tagged by domain first.
    cache.invalidate_all();
  } else if (c.by_range && !(nested && c.stage == translation_stage::second)) {
    cache.invalidate(c.domain, address<from>{c.first}, address<from>{c.last});
  } else if (c.by_pasid && !c.by_range) {
    cache.invalidate_pasid({c.domain, c.pasid});
  } else {
    cache.invalidate_domain(c.domain);
  }
  return true;
}

}  // namespace phasebit::iommu
