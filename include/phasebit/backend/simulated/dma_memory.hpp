// SPDX-License-Identifier: BSL-1.0
// The memory of the simulated machine: drivers allocate from it, devices access it. It tracks its
// allocated bytes, so that a DMA outside of them is an error.
#pragma once

#include <phasebit/backend/simulated/detail/ticket_lock.hpp>
#include <phasebit/core/address.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/translate.hpp>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

namespace phasebit::backend::simulated {

namespace detail {

// One bit per granule. Single bits are changed under the owner's lock and read without it.
class granule_map {
 public:
  explicit granule_map(std::size_t bits) noexcept
      : words_(new(std::nothrow) std::atomic<std::uint64_t>[(bits + 63) / 64]()) {}

  explicit operator bool() const noexcept { return words_ != nullptr; }

  // The first bit in [begin, end) that is `value`, or end.
  [[nodiscard]] std::size_t find(bool value, std::size_t begin, std::size_t end) const noexcept {
    while (begin < end) {
      std::uint64_t word = words_[begin / 64].load(std::memory_order_relaxed);
      if (!value) word = ~word;
      word &= ~std::uint64_t{0} << begin % 64;
      if (word != 0) {
        const std::size_t at = begin / 64 * 64 + static_cast<std::size_t>(std::countr_zero(word));
        return at < end ? at : end;
      }
      begin = (begin / 64 + 1) * 64;
    }
    return end;
  }
  void fill(bool value, std::size_t begin, std::size_t end) noexcept {
    while (begin < end) {
      const std::size_t stop = end < (begin / 64 + 1) * 64 ? end : (begin / 64 + 1) * 64;
      const std::uint64_t mask = ~std::uint64_t{0} >> (64 - (stop - begin)) << begin % 64;
      if (value) {
        words_[begin / 64].fetch_or(mask, std::memory_order_relaxed);
      } else {
        words_[begin / 64].fetch_and(~mask, std::memory_order_relaxed);
      }
      begin = stop;
    }
  }

 private:
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
};

}  // namespace detail

// A DmaMemory, and the translator from the simulated machine's physical addresses to pointers.
// Physical addresses lie above 4 GiB and are no pointers, so that a driver that confuses the two,
// or drops the upper half, is found. allocate and release may be called by any thread (they take a
// lock, and scan); translate takes none. Exact to 64 bytes: an allocation's last granule is whole,
// and the next one is never allocated.
class dma_memory {
 public:
  using from = host_space;
  using to = local_space;

  static constexpr std::size_t granule = 64;
  static constexpr std::size_t max_alignment = std::size_t{2} << 20;

  // `base` is a multiple of max_alignment; `bytes` is rounded up to one. Where the
  // system gives no memory, allocate() reports it.
  dma_memory(std::size_t bytes, host_phys base) noexcept
      : size_(align_up(bytes, max_alignment)),
        base_(base),
        bytes_(static_cast<std::byte*>(
            ::operator new(size_, std::align_val_t{max_alignment}, std::nothrow))),
        used_(size_ / granule),
        starts_(size_ / granule) {
    PHASEBIT_EXPECTS(is_aligned(base, max_alignment), "the memory's base is a multiple of 2 MiB");
    PHASEBIT_EXPECTS(range_end(base, size_), "the memory ends below 2^64");
  }
  dma_memory(const dma_memory&) = delete;
  dma_memory& operator=(const dma_memory&) = delete;
  ~dma_memory() { ::operator delete(bytes_, std::align_val_t{max_alignment}); }

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    PHASEBIT_EXPECTS(std::has_single_bit(alignment), "an alignment is a power of two");
    if (bytes_ == nullptr || !used_ || !starts_) {
      return failure(errc::exhausted, "the system gave no memory for the simulated machine", size_);
    }
    if (bytes == 0) return failure(errc::invalid_argument, "a region of no bytes");
    if (alignment > max_alignment) {
      return failure(errc::out_of_range, "alignment above the 2 MiB that this memory has",
                     alignment);
    }
    if (bytes > size_)
      return failure(errc::exhausted, "more than the simulated machine has", bytes);
    const std::size_t count = (bytes + granule - 1) / granule;
    const std::size_t step = alignment > granule ? alignment / granule : 1;
    const std::lock_guard guard{lock_};
    const std::size_t limit = size_ / granule;
    for (std::size_t at = 0; at <= limit - count;) {
      // A free granule on either side: a DMA that runs over the end is a fault.
      const std::size_t before = at == 0 ? 0 : at - 1;
      const std::size_t after = at + count == limit ? limit : at + count + 1;
      const std::size_t taken = used_.find(true, before, after);
      if (taken == after) {
        std::memset(bytes_ + at * granule, 0, count * granule);
        used_.fill(true, at, at + count);
        starts_.fill(true, at, at + 1);
        return dma_region{{bytes_ + at * granule, bytes}, bus_addr{(base_ + at * granule).value()}};
      }
      at = align_up(used_.find(false, taken, limit) + 1, step);
    }
    return failure(errc::exhausted, "the simulated machine's memory is used up", bytes);
  }

  // The device must be done with it: a later access is a fault.
  void release(dma_region region) noexcept {
    const std::size_t offset = region.bus.value() - base_.value();
    PHASEBIT_EXPECTS(offset < size_ && bytes_ + offset == region.data(),
                     "release() of a region that is not of this memory");
    const std::size_t at = offset / granule;
    const std::size_t end = at + (region.size() + granule - 1) / granule;
    const std::lock_guard guard{lock_};
    PHASEBIT_EXPECTS(end <= size_ / granule && starts_.find(true, at, at + 1) == at &&
                         starts_.find(true, at + 1, end) == end &&
                         used_.find(false, at, end) == end &&
                         // The granule behind an allocation is always free.
                         (end == size_ / granule || used_.find(true, end, end + 1) != end),
                     "release() takes exactly what allocate() gave, once");
    used_.fill(false, at, end);
    starts_.fill(false, at, at + 1);
  }

  // Errors: not_mapped where no allocated byte is. Any thread, without a lock.
  [[nodiscard]] result<segment<local_space>> translate(host_phys address, std::uint64_t bytes,
                                                       access) const noexcept {
    const std::uint64_t offset = address - base_;
    if (offset < size_ && used_ && bytes_ != nullptr) {
      const std::uint64_t most = bytes < size_ - offset ? bytes : size_ - offset;
      const std::size_t first = offset / granule;
      const std::size_t end = used_.find(false, first, (offset + most + granule - 1) / granule);
      if (end != first) {
        const std::uint64_t there = end * granule - offset;
        return segment<local_space>{to_local(bytes_ + offset), there < most ? there : most};
      }
    }
    return failure(errc::not_mapped, "no memory is allocated at this address", address.value());
  }

  [[nodiscard]] host_phys base() const noexcept { return base_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_; }

 private:
  std::size_t size_;
  host_phys base_;
  std::byte* bytes_;
  detail::granule_map used_;
  detail::granule_map starts_;
  detail::ticket_lock lock_;
};
static_assert(DmaMemory<dma_memory>);
static_assert(AddressTranslator<dma_memory>);

}  // namespace phasebit::backend::simulated
