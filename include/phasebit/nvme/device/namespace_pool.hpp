// SPDX-License-Identifier: BSL-1.0
// The namespaces of an NVM subsystem over one media: which part of it each has, how it is formatted,
// and which controllers it is attached to. NVMe Base 2.0, sections 5.22, 5.23 and 8.11.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/device/media_slice.hpp>
#include <phasebit/nvme/device/namespace_format.hpp>
#include <phasebit/nvme/device/reservations.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// Memory beside the media. Either may be empty: formats with metadata, and Write Uncorrectable, are
// not offered then.
struct namespace_memory {
  // `metadata_stride` bytes for each block of the media: the most metadata that a block may have.
  std::span<std::byte> metadata{};
  std::uint16_t metadata_stride = 0;
  // A bit for each block of the media, zero at first.
  std::span<std::uint8_t> uncorrectable{};
};

// One namespace, as plain integers.
struct pooled_namespace {
  std::uint64_t first = 0;     // block of the media
  std::uint64_t blocks = 0;    // of the namespace
  std::uint32_t attached = 0;  // a bit for each controller
  namespace_format format{};
  std::uint8_t shift = 9;  // log2 of the bytes of a block
  bool allocated = false;
  bool shared = false;  // may be attached to several controllers
};

template <std::size_t Capacity>
struct saved_namespaces {
  static constexpr std::uint32_t current_version = 1;
  std::uint32_t version = 0;
  std::array<pooled_namespace, Capacity> all{};
};

// Numbers 1 to Capacity. Controllers are numbered 0 to 31 here, which is their CNTLID. All calls come
// from one thread at a time, also where several controllers share the pool.
template <std::size_t Capacity, class Reservations = no_reservations>
class namespace_pool {
  static_assert(Capacity >= 1 && Capacity <= 1024, "a pool has 1 to 1024 namespaces");

 public:
  using reservations_type = Reservations;
  static constexpr std::size_t capacity = Capacity;
  static constexpr std::uint16_t max_controllers = 32;

  // Of a media with that many blocks of that size.
  namespace_pool(std::uint64_t media_blocks, std::uint32_t block_size,
                 const namespace_memory& memory = {}) noexcept
      : media_blocks_(media_blocks), media_shift_(block::shift_of(block_size)), memory_(memory) {
    PHASEBIT_EXPECTS(block::is_block_size(block_size), "not a block size that media may have");
    PHASEBIT_EXPECTS(memory.metadata.empty() ||
                         (memory.metadata_stride >= 8 &&
                          memory.metadata.size() / memory.metadata_stride >= media_blocks),
                     "metadata of every block of the media");
    PHASEBIT_EXPECTS(
        memory.uncorrectable.empty() || memory.uncorrectable.size() >= (media_blocks + 7) / 8,
        "a bit for every block of the media");
  }

  [[nodiscard]] bool format_available(std::size_t index) const noexcept {
    if (index >= lba_format_count) return false;
    const auto sizes = sizes_of_format(index);
    return sizes.data_shift >= media_shift_ && (sizes.data_shift == 9 || sizes.data_shift == 12) &&
           (sizes.metadata_bytes == 0 || sizes.metadata_bytes <= stride());
  }

  // -- what there is --
  [[nodiscard]] bool allocated(std::uint32_t nsid) const noexcept {
    return nsid >= 1 && nsid <= Capacity && all_[nsid - 1].allocated;
  }
  [[nodiscard]] bool attached(std::uint32_t nsid, std::uint16_t controller) const noexcept {
    return allocated(nsid) && (all_[nsid - 1].attached >> controller & 1U) != 0;
  }
  // Of an allocated namespace.
  [[nodiscard]] const pooled_namespace& at(std::uint32_t nsid) const noexcept {
    return all_[nsid - 1];
  }
  [[nodiscard]] std::uint32_t controllers() const noexcept { return controllers_; }
  [[nodiscard]] std::uint32_t generation() const noexcept { return generation_; }
  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return media_blocks_ << media_shift_; }
  [[nodiscard]] std::uint64_t unallocated_bytes() const noexcept {
    std::uint64_t used = 0;
    for (std::size_t i = 0; i != Capacity; ++i) used += occupied(i) ? media_blocks_of(i) : 0;
    return (media_blocks_ - used) << media_shift_;
  }

  // -- changes; a status is that of Namespace Management or Attachment --

  void add_controller(std::uint16_t controller) noexcept {
    PHASEBIT_EXPECTS(controller < max_controllers, "controllers of a pool have numbers below 32");
    controllers_ |= std::uint32_t{1} << controller;
  }
  // A namespace of `blocks` blocks. The content of its blocks and their metadata are what they were:
  // the caller erases them. `busy` until finish().
  struct created {
    status_code status = status_code::success;
    std::uint32_t nsid = 0;
  };
  [[nodiscard]] created create(std::uint64_t blocks, const namespace_format& f,
                               bool shared) noexcept {
    const auto sizes = sizes_of_format(f.index);
    const unsigned ratio = sizes.data_shift - media_shift_;
    std::size_t slot = 0;
    while (slot != Capacity && occupied(slot)) ++slot;
    if (slot == Capacity) return {status_code::namespace_id_unavailable};
    if (blocks == 0 || blocks > (media_blocks_ >> ratio)) {
      return {blocks == 0 ? status_code::invalid_field
                          : status_code::namespace_insufficient_capacity};
    }
    const std::uint64_t first = find_space(blocks << ratio);
    if (first == no_space) return {status_code::namespace_insufficient_capacity};
    all_[slot] = {.first = first,
                  .blocks = blocks,
                  .attached = 0,
                  .format = f,
                  .shift = sizes.data_shift,
                  .allocated = true,
                  .shared = shared};
    all_[slot].format.metadata_bytes = sizes.metadata_bytes;
    busy_[slot] = true;
    ++generation_;
    return {status_code::success, static_cast<std::uint32_t>(slot + 1)};
  }
  [[nodiscard]] status_code attach(std::uint32_t nsid, std::uint16_t controller) noexcept {
    auto& n = all_[nsid - 1];
    const std::uint32_t bit = std::uint32_t{1} << controller;
    if ((n.attached & bit) != 0) return status_code::namespace_already_attached;
    if (n.attached != 0 && !n.shared) return status_code::namespace_is_private;
    n.attached |= bit;
    changed(nsid, bit);
    return status_code::success;
  }
  [[nodiscard]] status_code detach(std::uint32_t nsid, std::uint16_t controller) noexcept {
    auto& n = all_[nsid - 1];
    const std::uint32_t bit = std::uint32_t{1} << controller;
    if ((n.attached & bit) == 0) return status_code::namespace_not_attached;
    n.attached &= ~bit;
    draining_[nsid - 1] |= bit;
    changed(nsid, bit);
    return status_code::success;
  }
  // Its blocks are free when no controller has commands in flight to it.
  void remove(std::uint32_t nsid) noexcept {
    auto& n = all_[nsid - 1];
    const std::uint32_t was = n.attached;
    draining_[nsid - 1] |= was;
    n.attached = 0;
    n.allocated = false;
    if constexpr (Reservations::present) reservations_.at(nsid) = {};
    busy_[nsid - 1] = false;
    changed(nsid, was);
  }
  // Every controller that has it finishes its commands in flight; new ones find it busy.
  void begin_format(std::uint32_t nsid) noexcept {
    busy_[nsid - 1] = true;
    draining_[nsid - 1] |= all_[nsid - 1].attached;
  }
  void set_format(std::uint32_t nsid, const namespace_format& f) noexcept {
    auto& n = all_[nsid - 1];
    const auto sizes = sizes_of_format(f.index);
    const std::uint64_t media = media_blocks_of(nsid - 1);
    n.format = f;
    n.format.metadata_bytes = sizes.metadata_bytes;
    n.shift = sizes.data_shift;
    n.blocks = media >> (sizes.data_shift - media_shift_);
    changed(nsid, n.attached);
  }
  void finish(std::uint32_t nsid) noexcept { busy_[nsid - 1] = false; }
  [[nodiscard]] bool busy(std::uint32_t nsid) const noexcept { return busy_[nsid - 1]; }

  // -- what the controllers do about it --
  [[nodiscard]] std::uint32_t draining(std::uint32_t nsid) const noexcept {
    return draining_[nsid - 1];
  }
  // This controller has no command in flight to the namespace.
  void drained(std::uint32_t nsid, std::uint16_t controller) noexcept {
    draining_[nsid - 1] &= ~(std::uint32_t{1} << controller);
  }
  // The next namespace that came, went or changed for this controller, or 0.
  [[nodiscard]] std::uint32_t take_change(std::uint16_t controller) noexcept {
    const std::uint32_t bit = std::uint32_t{1} << controller;
    if ((any_changed_ & bit) == 0) return 0;
    for (std::size_t i = 0; i != Capacity; ++i) {
      if ((changed_[i] & bit) == 0) continue;
      changed_[i] &= ~bit;
      return static_cast<std::uint32_t>(i + 1);
    }
    any_changed_ &= ~bit;
    return 0;
  }
  [[nodiscard]] bool anything_draining(std::uint16_t controller) const noexcept {
    std::uint32_t any = 0;
    for (const std::uint32_t d : draining_) any |= d;
    return (any >> controller & 1U) != 0;
  }

  // Reservations of the namespaces, where the pool has them.
  [[nodiscard]] Reservations& reservations() noexcept { return reservations_; }
  // Controllers whose host was preempted end their commands on the namespace.
  void abort_commands(std::uint32_t nsid, std::uint32_t controllers) noexcept {
    aborting_[nsid - 1] |= controllers;
    any_aborting_ |= controllers;
  }
  // The next namespace whose commands this controller aborts, or 0.
  [[nodiscard]] std::uint32_t take_abort(std::uint16_t controller) noexcept {
    const std::uint32_t bit = std::uint32_t{1} << controller;
    if ((any_aborting_ & bit) == 0) return 0;
    for (std::size_t i = 0; i != Capacity; ++i) {
      if ((aborting_[i] & bit) == 0) continue;
      aborting_[i] &= ~bit;
      return static_cast<std::uint32_t>(i + 1);
    }
    any_aborting_ &= ~bit;
    return 0;
  }

  // -- metadata and marks --
  [[nodiscard]] std::span<std::byte> metadata(std::uint32_t nsid, std::uint64_t lba) noexcept {
    const auto& n = all_[nsid - 1];
    const std::uint64_t block = n.first + (lba << (n.shift - media_shift_));
    return memory_.metadata.subspan(int_cast<std::size_t>(block * memory_.metadata_stride),
                                    n.format.metadata_bytes);
  }
  [[nodiscard]] bool marks_uncorrectable() const noexcept { return !memory_.uncorrectable.empty(); }
  [[nodiscard]] bool any_uncorrectable(std::uint32_t nsid, std::uint64_t lba,
                                       std::uint64_t blocks) const noexcept {
    if (marked_ == 0) return false;
    const auto& n = all_[nsid - 1];
    const unsigned ratio = n.shift - media_shift_;
    for (std::uint64_t i = 0; i != blocks; ++i) {
      const auto at = int_cast<std::size_t>(n.first + ((lba + i) << ratio));
      if ((memory_.uncorrectable[at / 8] >> (at % 8) & 1U) != 0) return true;
    }
    return false;
  }
  void mark_uncorrectable(std::uint32_t nsid, std::uint64_t lba, std::uint64_t blocks,
                          bool on) noexcept {
    if (!marks_uncorrectable() || (!on && marked_ == 0)) return;
    const auto& n = all_[nsid - 1];
    const unsigned ratio = n.shift - media_shift_;
    for (std::uint64_t i = 0; i != blocks; ++i) {
      const auto at = int_cast<std::size_t>(n.first + ((lba + i) << ratio));
      auto& byte = memory_.uncorrectable[at / 8];
      const auto bit = static_cast<std::uint8_t>(1U << (at % 8));
      if (((byte & bit) != 0) == on) continue;
      byte = static_cast<std::uint8_t>(byte ^ bit);
      marked_ += on ? std::uint64_t{1} : ~std::uint64_t{0};
    }
  }

  // -- save and restore --
  [[nodiscard]] saved_namespaces<Capacity> save() const noexcept {
    return {saved_namespaces<Capacity>::current_version, all_};
  }
  // Into a pool over the same media and memory, before controllers are enabled. False where the state
  // is none that commands produce: nothing has changed then.
  [[nodiscard]] bool restore(const saved_namespaces<Capacity>& from) noexcept {
    if (from.version != saved_namespaces<Capacity>::current_version) return false;
    for (std::size_t i = 0; i != Capacity; ++i) {
      const pooled_namespace& n = from.all[i];
      if (!n.allocated) continue;
      if (!format_available(n.format.index) ||
          n.shift != sizes_of_format(n.format.index).data_shift ||
          n.format.metadata_bytes != sizes_of_format(n.format.index).metadata_bytes ||
          static_cast<std::uint8_t>(n.format.pi) > 3 ||
          (n.format.pi != protection_type::none && n.format.metadata_bytes < 8) || n.blocks == 0) {
        return false;
      }
      const unsigned ratio = n.shift - media_shift_;
      if (n.first > media_blocks_ || n.blocks > (media_blocks_ - n.first) >> ratio) return false;
      for (std::size_t k = 0; k != i; ++k) {
        const pooled_namespace& o = from.all[k];
        if (o.allocated && n.first < o.first + (o.blocks << (o.shift - media_shift_)) &&
            o.first < n.first + (n.blocks << ratio)) {
          return false;
        }
      }
    }
    all_ = from.all;
    busy_ = {};
    draining_ = {};
    marked_ = 0;
    for (const std::uint8_t byte : memory_.uncorrectable) marked_ += byte != 0 ? 8U : 0U;
    ++generation_;
    return true;
  }

 private:
  static constexpr std::uint64_t no_space = ~std::uint64_t{0};

  [[nodiscard]] std::uint16_t stride() const noexcept {
    return memory_.metadata.empty() ? std::uint16_t{0} : memory_.metadata_stride;
  }
  // Its part of the media is in use: also after it was removed, until commands in flight have ended.
  [[nodiscard]] bool occupied(std::size_t i) const noexcept {
    return all_[i].allocated || draining_[i] != 0;
  }
  [[nodiscard]] std::uint64_t media_blocks_of(std::size_t i) const noexcept {
    return all_[i].blocks << (all_[i].shift - media_shift_);
  }
  // First fit, on a boundary of 4096 bytes.
  [[nodiscard]] std::uint64_t find_space(std::uint64_t blocks) const noexcept {
    const std::uint64_t mask = (std::uint64_t{4096} >> media_shift_) - 1;
    std::uint64_t at = 0;
    for (bool moved = true; moved;) {
      moved = false;
      if (at > media_blocks_ || blocks > media_blocks_ - at) return no_space;
      for (std::size_t i = 0; i != Capacity; ++i) {
        if (!occupied(i)) continue;
        const std::uint64_t end = all_[i].first + media_blocks_of(i);
        if (at >= end || all_[i].first >= at + blocks) continue;
        at = (end + mask) & ~mask;
        moved = true;
      }
    }
    return at;
  }
  void changed(std::uint32_t nsid, std::uint32_t controllers) noexcept {
    changed_[nsid - 1] |= controllers;
    any_changed_ |= controllers;
    ++generation_;
  }

  std::uint64_t media_blocks_;
  unsigned media_shift_;
  namespace_memory memory_;
  std::array<pooled_namespace, Capacity> all_{};
  std::array<std::uint32_t, Capacity> draining_{};
  std::array<std::uint32_t, Capacity> changed_{};
  std::array<std::uint32_t, Capacity> aborting_{};
  std::array<bool, Capacity> busy_{};
  [[no_unique_address]] Reservations reservations_{};
  std::uint32_t any_aborting_ = 0;
  std::uint32_t controllers_ = 0;
  std::uint32_t any_changed_ = 0;
  std::uint32_t generation_ = 0;
  std::uint64_t marked_ = 0;  // blocks, at least
};

// One controller's view of a pool: those namespaces are active that are attached to it. `media` is
// the controller's own object over the storage of the pool.
template <block::AnyBlockMedia Media, std::size_t Capacity, class Reservations = no_reservations>
class pooled_namespaces {
 public:
  using media_type = media_slice<Media>;
  using pool_type = namespace_pool<Capacity, Reservations>;

  pooled_namespaces(pool_type& pool, Media& media, std::uint16_t controller_id = 0) noexcept
      : pool_(&pool), media_(&media), id_(controller_id), generation_(pool.generation() - 1) {
    pool.add_controller(controller_id);
  }

  // -- NamespaceSet --
  [[nodiscard]] media_type* find(std::uint32_t nsid) noexcept {
    return pool_->attached(nsid, id_) ? allocated_media(nsid) : nullptr;
  }
  [[nodiscard]] static constexpr std::uint32_t highest_nsid() noexcept {
    return static_cast<std::uint32_t>(Capacity);
  }
  template <class Visit>
  void for_each_media(Visit&& visit) noexcept {
    media_type whole{*media_, 0, media_->block_count(), block::block_shift(*media_)};
    visit(whole);
  }

  // -- FormattedNamespaces --
  [[nodiscard]] namespace_format format(std::uint32_t nsid) const noexcept {
    return pool_->at(nsid).format;
  }
  [[nodiscard]] bool format_available(std::size_t index) const noexcept {
    return pool_->format_available(index);
  }
  [[nodiscard]] std::span<std::byte> metadata(std::uint32_t nsid, std::uint64_t lba) noexcept {
    return pool_->metadata(nsid, lba);
  }
  [[nodiscard]] bool busy(std::uint32_t nsid) const noexcept { return pool_->busy(nsid); }
  [[nodiscard]] bool marks_uncorrectable() const noexcept { return pool_->marks_uncorrectable(); }
  [[nodiscard]] bool any_uncorrectable(std::uint32_t nsid, std::uint64_t lba,
                                       std::uint64_t blocks) const noexcept {
    return pool_->any_uncorrectable(nsid, lba, blocks);
  }
  void mark_uncorrectable(std::uint32_t nsid, std::uint64_t lba, std::uint64_t blocks,
                          bool on) noexcept {
    pool_->mark_uncorrectable(nsid, lba, blocks, on);
  }

  // -- ManagedNamespaces --
  [[nodiscard]] std::uint16_t controller_id() const noexcept { return id_; }
  [[nodiscard]] pool_type& pool() noexcept { return *pool_; }
  // Of an allocated namespace, attached or not.
  [[nodiscard]] media_type* allocated_media(std::uint32_t nsid) noexcept {
    if (generation_ != pool_->generation()) refresh();
    return &slices_[nsid - 1];
  }
  // All of the media, in its own blocks.
  [[nodiscard]] media_type whole_media() noexcept {
    return {*media_, 0, media_->block_count(), block::block_shift(*media_)};
  }

 private:
  void refresh() noexcept {
    for (std::uint32_t nsid = 1; nsid <= Capacity; ++nsid) {
      // The slice of a namespace that is gone stays: commands in flight name it.
      if (!pool_->allocated(nsid)) continue;
      const pooled_namespace& n = pool_->at(nsid);
      slices_[nsid - 1] = media_type{*media_, n.first, n.blocks, n.shift};
    }
    generation_ = pool_->generation();
  }

  pool_type* pool_;
  Media* media_;
  std::uint16_t id_;
  std::uint32_t generation_;
  std::array<media_type, Capacity> slices_{};
};

// A set over a namespace_pool: Namespace Management, Attachment and Format NVM are commands of its
// controllers.
template <class T>
concept ManagedNamespaces = FormattedNamespaces<T> && requires(T& set, std::uint32_t nsid) {
  set.pool();
  { set.allocated_media(nsid) } noexcept -> std::same_as<typename T::media_type*>;
};

// And one whose namespaces can be reserved.
template <class T>
concept ReservableNamespaces = ManagedNamespaces<T> && T::pool_type::reservations_type::present;

}  // namespace phasebit::nvme::device
