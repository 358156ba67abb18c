// SPDX-License-Identifier: BSL-1.0
// A buffer that the driver made available, as a list of memory segments of this process.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/virtio/device/fault.hpp>
#include <phasebit/virtio/spec/split_ring.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::device {

// A contiguous segment of a buffer. `address` is the driver's address of it, which dirty logs
// record.
struct chain_segment {
  std::byte* data = nullptr;
  std::uint64_t address = 0;
  std::uint32_t bytes = 0;

  [[nodiscard]] std::span<std::byte> span() const noexcept { return {data, bytes}; }
};

// One buffer: first the segments that the device reads, then those that it writes. The places for
// segments are the caller's and outlive the chain. The queue keeps no pointer to it: the memory
// behind the segments stays the device's until the chain's id is pushed back.
class chain {
 public:
  chain() noexcept = default;
  explicit chain(std::span<chain_segment> places) noexcept
      : places_(places.data()), capacity_(static_cast<std::uint32_t>(places.size())) {}

  // Split: the head descriptor. Packed: the buffer id.
  [[nodiscard]] std::uint16_t id() const noexcept { return id_; }
  // Taken from the record of a device side that ended before it returned the buffer.
  [[nodiscard]] bool resubmitted() const noexcept { return resubmitted_; }

  [[nodiscard]] std::span<const chain_segment> readable() const noexcept {
    return {places_, readable_};
  }
  [[nodiscard]] std::span<const chain_segment> writable() const noexcept {
    return {places_ + readable_, count_ - readable_};
  }
  [[nodiscard]] std::uint64_t readable_bytes() const noexcept { return readable_bytes_; }
  [[nodiscard]] std::uint64_t writable_bytes() const noexcept { return bytes_ - readable_bytes_; }

  // For queues. Forgets the last buffer's segments.
  PHASEBIT_ALWAYS_INLINE void clear() noexcept { *this = chain{std::span{places_, capacity_}}; }
  void set_resubmitted() noexcept { resubmitted_ = true; }

 private:
  friend class chain_builder;

  chain_segment* places_ = nullptr;
  std::uint32_t capacity_ = 0;
  std::uint32_t count_ = 0;
  std::uint32_t readable_ = 0;
  std::uint16_t id_ = 0;
  bool resubmitted_ = false;
  std::uint64_t bytes_ = 0;
  std::uint64_t readable_bytes_ = 0;
};

// Collects the segments of one buffer for a queue, in registers: the chain is written at the end.
class chain_builder {
 public:
  PHASEBIT_ALWAYS_INLINE explicit chain_builder(const chain& to) noexcept
      : places_(to.places_), capacity_(to.capacity_) {}
  // Goes on where another one has stopped.
  struct continued {};
  PHASEBIT_ALWAYS_INLINE chain_builder(const chain& from, continued) noexcept
      : places_(from.places_),
        capacity_(from.capacity_),
        count_(from.count_),
        readable_(from.readable_),
        bytes_(from.bytes_),
        readable_bytes_(from.readable_bytes_) {}

  PHASEBIT_ALWAYS_INLINE void finish(chain& to, std::uint16_t id) const noexcept {
    to.count_ = count_;
    to.readable_ = readable_;
    to.bytes_ = bytes_;
    to.readable_bytes_ = readable_bytes_;
    to.id_ = id;
    to.resubmitted_ = false;
  }

  // Adds what a descriptor describes; `found` receives what is wrong with it.
  template <LocalTranslator Memory>
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool append(Memory& memory, std::uint64_t addr,
                                                   std::uint32_t len, bool write,
                                                   fault& found) noexcept {
    const std::uint64_t total = bytes_ + len;
    if (len == 0 || total > std::uint64_t{1} << 32 || (!write && count_ != readable_) ||
        addr + len < addr) [[unlikely]] {
      return refuse(found, why(addr, len, total), addr, total);
    }
    bytes_ = total;
    const access wanted = write ? access::write : access::read;
    std::uint32_t left = len;
    for (;;) {
      const auto part = memory.translate(address<typename Memory::from>{addr}, left, wanted);
      if (!part) [[unlikely]] {
        return refuse(found,
                      part.error().code == errc::access_denied ? fault_code::access_denied
                                                               : fault_code::not_mapped,
                      addr, 0);
      }
      if (count_ == capacity_) [[unlikely]] {
        return refuse(found, fault_code::too_many_segments, capacity_, 0);
      }
      if (part->bytes == left) [[likely]] {
        places_[count_++] = {pointer_of(part->begin), addr, left};
        break;
      }
      const auto bytes = static_cast<std::uint32_t>(part->bytes);
      if (part->bytes > left || bytes == 0) [[unlikely]] {
        return refuse(found, fault_code::not_mapped, addr, 0);
      }
      places_[count_++] = {pointer_of(part->begin), addr, bytes};
      addr += bytes;
      left -= bytes;
    }
    if (!write) {
      readable_ = count_;
      readable_bytes_ = total;
    }
    return true;
  }

 private:
  [[nodiscard]] static fault_code why(std::uint64_t addr, std::uint32_t len,
                                      std::uint64_t total) noexcept {
    if (len == 0) return fault_code::zero_length;
    if (total > std::uint64_t{1} << 32) return fault_code::length_overflow;
    return addr + len < addr ? fault_code::address_overflow : fault_code::writable_before_readable;
  }
  [[gnu::cold, gnu::noinline]] static bool refuse(fault& found, fault_code code,
                                                  std::uint64_t value,
                                                  std::uint64_t total) noexcept {
    found.code = code;
    found.value = code == fault_code::length_overflow ? total : value;
    return false;
  }

  chain_segment* places_;
  std::uint32_t capacity_;
  std::uint32_t count_ = 0;
  std::uint32_t readable_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t readable_bytes_ = 0;
};

// Copies from segments, beginning `offset` bytes into them, until `to` is full or they end; returns
// how many bytes that were. The driver may write meanwhile: look at the copy only.
inline std::size_t copy_from(std::span<const chain_segment> from, std::uint64_t offset,
                             std::span<std::byte> to) noexcept {
  std::size_t copied = 0;
  for (const chain_segment& s : from) {
    if (copied == to.size()) break;
    if (offset >= s.bytes) {
      offset -= s.bytes;
      continue;
    }
    const std::size_t here = s.bytes - int_cast<std::size_t>(offset);
    const std::size_t left = to.size() - copied;
    const std::size_t now = here < left ? here : left;
    copy_shared(to.subspan(copied, now), {s.data + offset, now});
    copied += now;
    offset = 0;
  }
  return copied;
}

// Copies to segments in the same way.
inline std::size_t copy_to(std::span<const chain_segment> to, std::uint64_t offset,
                           std::span<const std::byte> from) noexcept {
  std::size_t copied = 0;
  for (const chain_segment& s : to) {
    if (copied == from.size()) break;
    if (offset >= s.bytes) {
      offset -= s.bytes;
      continue;
    }
    const std::size_t here = s.bytes - int_cast<std::size_t>(offset);
    const std::size_t left = from.size() - copied;
    const std::size_t now = here < left ? here : left;
    copy_shared({s.data + offset, now}, from.subspan(copied, now));
    copied += now;
    offset = 0;
  }
  return copied;
}

}  // namespace phasebit::virtio::device
