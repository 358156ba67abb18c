// SPDX-License-Identifier: BSL-1.0
// The driver's side of a command ring: VT-d's invalidation queue, AMD's command buffer, the command
// queues of SMMUv3 and RISC-V.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/command_queue/command_ring.hpp>
#include <phasebit/iommu/command_queue/split_range.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::iommu {

// Reads the IOMMU's head register (IQH, CmdHead, CMDQ_CONS, cqh), low 32 bits, as it is. The model
// orders the read before later loads of memory. One thread.
template <class T>
concept CommandHead = requires(T& head) {
  { head.load() } noexcept -> std::same_as<std::uint32_t>;
};

// A head register behind a BAR, or any other block of registers.
template <Mmio Registers>
class mmio_command_head {
 public:
  mmio_command_head(Registers& registers, std::uint32_t offset) noexcept
      : registers_(&registers), offset_(offset) {}
  [[nodiscard]] std::uint32_t load() noexcept {
    const std::uint32_t value = registers_->read32(offset_);
    after_mmio_read();
    return value;
  }

 private:
  Registers* registers_;
  std::uint32_t offset_;
};

// How a post ended; nothing was written unless `posted`.
enum class posted : std::uint8_t {
  posted,
  full,           // again, when the IOMMU has consumed something
  not_supported,  // the IOMMU or its architecture cannot express this
};

// Where waits store that they are done: 8 bytes, aligned to 8, that only the IOMMU writes. `address`
// is what the IOMMU writes to. Without a word, waits are followed by the head alone, which SMMUv3
// and RISC-V allow.
struct completion_word {
  le<std::uint32_t>* word = nullptr;
  std::uint64_t address = 0;
};

// One sync(): compare with done(). Valid for 2^31 commands.
struct sync_token {
  std::uint32_t sequence = 0;
  std::uint32_t epoch = 0;
};

// Posts commands. submit() makes them visible to the IOMMU; sync() submits. Guarantees: an entry is
// complete before the tail includes it; an entry that the IOMMU has not consumed is never
// overwritten, whatever its head register returns; a group of invalidations is posted whole or not
// at all. One thread at a time; waits for nothing; allocates nothing.
template <CommandCodec Codec, RingOrder Order, DoorbellSink Tail, CommandHead Head>
class command_producer {
 public:
  // `entries` is the ring's memory, aligned to an entry, all of it; head and tail of the IOMMU are 0.
  command_producer(const Codec& codec, std::span<std::byte> entries, Tail tail, Head head,
                   completion_word completion = {}) noexcept
      : codec_(codec),
        entries_(entries.data()),
        ring_(codec, static_cast<std::uint32_t>(entries.size() / codec.entry_bytes())),
        completion_(completion),
        tail_sink_(tail),
        head_source_(head) {
    PHASEBIT_EXPECTS(Codec::sync_by_head || completion.word != nullptr,
                     "this IOMMU's waits need a word to store to: its head runs ahead of them");
    PHASEBIT_EXPECTS(completion.address % 8 == 0, "the completion word is aligned to 8 bytes");
    if (completion.word != nullptr) Order::store(*completion.word, le<std::uint32_t>{0});
  }

  [[nodiscard]] const Codec& codec() const noexcept { return codec_; }
  [[nodiscard]] const ring_geometry<Codec>& ring() const noexcept { return ring_; }

  // Entries that can be posted now. Reads the IOMMU's head register if fewer than `wanted` are
  // known to be free.
  [[nodiscard]] std::uint32_t available(std::uint32_t wanted = 1) noexcept {
    if (ring_.capacity() - under_way_ < wanted) refresh();
    return ring_.capacity() - under_way_;
  }

  [[nodiscard]] posted post(const command& c) noexcept {
    command_words words;
    if (!codec_.encode(c, words)) return posted::not_supported;
    if (available() == 0) return posted::full;
    write(words);
    return posted::posted;
  }

  // Writes the tail register if there are new commands.
  void submit() noexcept {
    if (rung_ == tail_) return;
    rung_ = tail_;
    tail_sink_.ring(ring_.to_register(tail_));
  }

  // Invalidates the ranges collected from the changes of a domain's page table
  // (invalidations::ranges()): with the smallest correct set of commands, or with one for the whole
  // domain when the set exceeds `most_commands`. `like` may add a PASID, a stage, drains. Does not
  // submit.
  template <class Space>
  [[nodiscard]] posted invalidate(command like,
                                  std::span<const invalidation_range<Space>> ranges) noexcept {
    PHASEBIT_EXPECTS(like.by_domain, "an invalidation of ranges is one of a domain");
    const std::uint32_t limit =
        most_commands_ < ring_.capacity() ? most_commands_ : ring_.capacity();
    command_words words;
    bool good = true;
    const unsigned count = for_each_invalidation(
        codec_, like, ranges, limit,
        [&](const command& c) noexcept { good = good && codec_.encode(c, words); });
    if (!good) return posted::not_supported;
    if (available(count) < count) return posted::full;
    for_each_invalidation(codec_, like, ranges, limit, [&](const command& c) noexcept {
      if (codec_.encode(c, words)) write(words);
    });
    return posted::posted;
  }
  template <class Space>
  [[nodiscard]] posted invalidate(std::uint16_t domain,
                                  std::span<const invalidation_range<Space>> ranges) noexcept {
    command like = command::whole_domain(domain);
    like.drain_reads = like.drain_writes = true;
    return invalidate(like, ranges);
  }
  template <class Space>
  [[nodiscard]] posted invalidate(std::uint16_t domain,
                                  const invalidations<Space>& changes) noexcept {
    return invalidate(domain, changes.ranges());
  }

  // The same addresses in the cache of a device with ATS: one command a range. After a sync() that
  // is done, else the device may fetch again what the IOMMU has not invalidated yet. `queue_depth`
  // is the device's (PCIe 5.0, 10.5.1.2); 0 is 32.
  template <class Space>
  [[nodiscard]] posted invalidate_device(std::uint32_t device,
                                         std::span<const invalidation_range<Space>> ranges,
                                         std::uint8_t queue_depth = 0) noexcept {
    if (available(static_cast<std::uint32_t>(ranges.size())) < ranges.size()) return posted::full;
    for (const auto& range : ranges) {
      command c = command::device_tlb(device, range.first.value(), range.last.value());
      c.queue_depth = queue_depth;
      command_words words;
      if (!codec_.encode(c, words)) return posted::not_supported;
      write(words);
    }
    return posted::posted;
  }

  // Posts a wait behind all posted commands; done(token) returns whether all of them have been
  // executed. Accesses that were translated before have ended too, if the IOMMU supports that.
  // Submits. `like` may request an interrupt as well.
  [[nodiscard]] posted sync(sync_token& token, command like = {}) noexcept {
    like.kind = command_kind::wait;
    like.fence = like.drain_reads = like.drain_writes = true;
    if (completion_.word != nullptr) {
      like.store = true;
      like.store_bytes = Codec::wait_store_bytes;
      like.store_address = completion_.address;
      like.store_data = int_cast<std::uint32_t>(written_ + 1);
    }
    const posted how = post(like);
    if (how != posted::posted) return how;
    token = {written_, epoch_};
    submit();
    return how;
  }
  // A token from before abandon() is never done.
  [[nodiscard]] bool done(sync_token token) noexcept {
    if (token.epoch != epoch_) return false;
    if (completion_.word != nullptr) {
      const std::uint32_t seen = Order::load(*completion_.word).get();
      if (!reached(seen, token.sequence)) return false;
      Order::after_load();
      return true;
    }
    if (!reached(consumed_, token.sequence)) refresh();
    return reached(consumed_, token.sequence);
  }

  // removed: the register reads as all ones. protocol: the head has passed the tail; the IOMMU is to
  // be reset, and nothing it reports is used until restart().
  [[nodiscard]] result<> health() const noexcept {
    if (removed_) return failure(errc::removed, "the IOMMU's registers read as all ones");
    if (!lost_) return {};
    return failure(errc::protocol, "the head of the command ring is beyond its tail", bad_head_);
  }

  // For recovery::replace_and_clear: puts a wait without effect in place of the entry that the IOMMU
  // has refused, at its head. Before the status is cleared. Abandons; false where nothing is under
  // way.
  bool replace_refused() noexcept {
    refresh();
    command_words words;
    command harmless;
    harmless.kind = command_kind::wait;
    if (under_way_ == 0 || lost_ || removed_ || !codec_.encode(harmless, words)) return false;
    detail::write_entry(at(head_), words, codec_.entry_bytes());
    Order::full();
    abandon();
    return true;
  }
  // Gives up what was posted, which may not have been carried out: no earlier sync() completes, and its
  // invalidations are to be posted again. Used after a time-out, because the IOMMU drops them.
  void abandon() noexcept { ++epoch_; }
  [[nodiscard]] bool abandoned(sync_token token) const noexcept { return token.epoch != epoch_; }
  // For recovery::restart, after the ring was disabled and head and tail were set to 0. Abandons.
  void restart() noexcept {
    head_ = tail_ = rung_ = 0;
    under_way_ = 0;
    consumed_ = written_;
    lost_ = removed_ = false;
    abandon();
  }

  // More commands than this for one group, and the whole domain is invalidated instead.
  void most_commands(std::uint32_t most) noexcept {
    PHASEBIT_EXPECTS(most != 0, "at least one command");
    most_commands_ = most;
  }

 private:
  [[nodiscard]] std::byte* at(std::uint32_t position) const noexcept {
    return entries_ + std::size_t{ring_.index(position)} * codec_.entry_bytes();
  }
  [[nodiscard]] static bool reached(std::uint32_t now, std::uint32_t target) noexcept {
    return static_cast<std::int32_t>(now - target) >= 0;
  }
  void write(const command_words& words) noexcept {
    detail::write_entry(at(tail_), words, codec_.entry_bytes());
    tail_ = ring_.after(tail_);
    ++under_way_;
    ++written_;
  }
  // Accepts the head if it lies within the commands in flight.
  void refresh() noexcept {
    if (lost_ || under_way_ == 0) return;
    const std::uint32_t value = head_source_.load();
    removed_ = value == ~std::uint32_t{0};
    if (removed_) return;
    const std::uint32_t head = ring_.from_register(value);
    const std::uint32_t moved = ring_.distance(head_, head);
    if (moved > under_way_) {
      lost_ = true;
      bad_head_ = value;
      return;
    }
    head_ = head;
    under_way_ -= moved;
    consumed_ += moved;
  }

  Codec codec_;
  std::byte* entries_;
  ring_geometry<Codec> ring_;
  completion_word completion_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  std::uint32_t rung_ = 0;
  std::uint32_t under_way_ = 0;
  std::uint32_t written_ = 0;   // entries ever written, modulo 2^32
  std::uint32_t consumed_ = 0;  // and consumed
  std::uint32_t most_commands_ = 64;
  std::uint32_t bad_head_ = 0;
  std::uint32_t epoch_ = 0;
  bool lost_ = false;
  bool removed_ = false;
  [[no_unique_address]] Tail tail_sink_;
  [[no_unique_address]] Head head_source_;
};

}  // namespace phasebit::iommu
