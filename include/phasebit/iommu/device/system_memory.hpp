// SPDX-License-Identifier: BSL-1.0
// System memory as an emulated IOMMU reaches it through a DMA port: tables, queues, records.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/page_table/table_memory.hpp>
#include <phasebit/memory/dma_port.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::iommu::device {

// A TableReader and a QueueMemory over a port. Memory that the port maps is accessed in place.
// Memory that it does not map is copied. Entries and records, at most 64 bytes, are copied into this
// object: a pointer to one is valid for the next three requests, and write_back() stores what was
// changed through it. Whole page tables are copied, for reading only, into the buffer that
// use_copies() gives; without it they are unreadable.
// One thread at a time. Keeps a reference to the port.
template <DmaPort<host_space> Port>
class system_memory {
 public:
  using space = host_space;
  using from = host_space;
  using to = local_space;

  explicit system_memory(Port& port) noexcept : port_(&port) {}

  // The whole range, aligned to 8 bytes, or null.
  [[nodiscard]] table_word* find(host_phys at, std::size_t bytes) const noexcept {
    const auto range = port_->map(at, bytes, access::read_write);
    if (!range || range->bytes != bytes) return nullptr;
    if (range->domain == memory_domain::local) {
      const local_addr begin{range->address};
      return is_aligned(begin, 8) ? reinterpret_cast<table_word*>(pointer_of(begin)) : nullptr;
    }
    if (!is_aligned(at, 8)) return nullptr;
    return reinterpret_cast<table_word*>(bytes > line_bytes ? copy_table(at, bytes)
                                                            : copy(at, bytes, true));
  }
  // Aligned to 8 bytes, at least twice the largest page table: 32 KiB, or 128 KiB for tables of
  // 64 KiB. It outlives this object. A walk's pointers are valid until the next walk.
  void use_copies(std::span<std::byte> buffer) noexcept {
    PHASEBIT_EXPECTS(is_aligned(to_local(buffer.data()), 8), "copies of tables lie on words");
    buffer_ = buffer;
    used_ = 0;
  }

  // Errors: the port's; not_mapped for a range without pointers that cannot be copied.
  [[nodiscard]] result<segment<local_space>> translate(host_phys at, std::uint64_t bytes,
                                                       access wanted) const noexcept {
    const auto range = port_->map(at, bytes, wanted);
    if (!range) return range.error();
    if (range->bytes == 0 || range->bytes > bytes) {
      return failure(errc::protocol, "the DMA port maps an impossible length", at.value());
    }
    if (range->domain == memory_domain::local) {
      return segment<local_space>{local_addr{range->address}, range->bytes};
    }
    const std::size_t part =
        range->bytes < line_bytes ? static_cast<std::size_t>(range->bytes) : line_bytes;
    std::byte* const data = copy(at, part, reads(wanted));
    if (data == nullptr) {
      return failure(errc::not_mapped, "the DMA port does not read this memory", at.value());
    }
    return segment<local_space>{to_local(data), part};
  }

  // Stores what was changed in copies, oldest copy first. A port that refuses the write loses it.
  void write_back() const noexcept {
    for (std::size_t i = 0; i != lines_.size(); ++i) {
      store(lines_[(next_ + i) % lines_.size()]);
    }
  }

 private:
  static constexpr std::size_t line_bytes = 64;
  struct line {
    alignas(64) std::array<std::byte, line_bytes> now{};
    std::array<std::byte, line_bytes> before{};
    host_phys at{};
    std::size_t bytes = 0;
    bool whole = false;  // written without having been read
  };

  [[nodiscard]] std::byte* copy(host_phys at, std::size_t bytes, bool read) const noexcept {
    if (bytes > line_bytes) return nullptr;
    write_back();
    line& l = lines_[next_];
    l.bytes = 0;
    l.whole = !read;
    if (read && !port_->read(at, std::span{l.now}.first(bytes))) return nullptr;
    next_ = (next_ + 1) % lines_.size();
    l.before = l.now;
    l.at = at;
    l.bytes = bytes;
    return l.now.data();
  }
  [[nodiscard]] std::byte* copy_table(host_phys at, std::size_t bytes) const noexcept {
    if (bytes > buffer_.size() / 2) return nullptr;
    if (bytes > buffer_.size() - used_) used_ = 0;
    const auto part = buffer_.subspan(used_, bytes);
    if (!port_->read(at, part)) return nullptr;
    used_ += (bytes + 7) & ~std::size_t{7};
    if (used_ > buffer_.size()) used_ = 0;
    return part.data();
  }
  // Bytes that did not change are the driver's and are not written: whole words of 8 bytes where
  // both halves changed, else halves.
  void store(line& l) const noexcept {
    const auto changed = [&](std::size_t begin, std::size_t bytes) noexcept {
      return __builtin_memcmp(l.now.data() + begin, l.before.data() + begin, bytes) != 0;
    };
    const auto write = [&](std::size_t begin, std::size_t bytes) noexcept {
      static_cast<void>(port_->write(l.at + begin, std::span{l.now}.subspan(begin, bytes)));
    };
    if (l.whole) {
      write(0, l.bytes);
      l.whole = false;
    } else {
      for (std::size_t i = 0; i < l.bytes; i += 8) {
        const std::size_t remaining = l.bytes - i < 8 ? l.bytes - i : 8;
        if (remaining < 8) {
          if (changed(i, remaining)) write(i, remaining);
        } else if (changed(i, 4) && changed(i + 4, 4)) {
          write(i, 8);
        } else if (changed(i, 4)) {
          write(i, 4);
        } else if (changed(i + 4, 4)) {
          write(i + 4, 4);
        }
      }
    }
    l.before = l.now;
  }

  Port* port_;
  // Page-table views read tables through a const reference; copies are no state of theirs.
  mutable std::array<line, 4> lines_{};
  mutable std::size_t next_ = 0;
  std::span<std::byte> buffer_{};
  mutable std::size_t used_ = 0;
};

}  // namespace phasebit::iommu::device
