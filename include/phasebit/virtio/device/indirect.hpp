// SPDX-License-Identifier: BSL-1.0
// Indirect descriptor tables, read by the device: virtio 1.3, sections 2.7.5.3 and 2.8.7.
#pragma once

#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/virtio/device/chain.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::virtio::device {

// How entries of an indirect table follow each other.
enum class table_order : std::uint8_t {
  linked,      // split: by their next fields
  sequential,  // packed: each is followed by the one behind it
};

namespace detail {

// Reads single entries of a table. The table may begin anywhere and cross regions; if it is
// contiguous, it is translated once. Each entry is read once.
template <LocalTranslator Memory>
class table_reader {
 public:
  table_reader(Memory& memory, std::uint64_t addr, std::uint32_t bytes) noexcept
      : memory_(memory), addr_(addr) {
    const auto part = memory.translate(address<typename Memory::from>{addr}, bytes, access::read);
    if (part && part->bytes == bytes) whole_ = pointer_of(part->begin);
  }

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool read(std::uint32_t index, split_descriptor& to,
                                                 fault& found) noexcept {
    if (whole_ != nullptr) [[likely]] {
      copy_shared(writable_wire_bytes(to), {whole_ + std::size_t{index} * sizeof(to), sizeof(to)});
      return true;
    }
    return read_pieces(index, to, found);
  }

 private:
  [[gnu::noinline]] bool read_pieces(std::uint32_t index, split_descriptor& to,
                                     fault& found) noexcept {
    const address<typename Memory::from> at{addr_ + std::uint64_t{index} * sizeof(to)};
    const auto done = dma_read(memory_, at, writable_wire_bytes(to));
    if (done) return true;
    found.code = done.error().code == errc::access_denied ? fault_code::access_denied
                                                          : fault_code::not_mapped;
    found.value = at.value();
    return false;
  }

  Memory& memory_;
  std::uint64_t addr_;
  const std::byte* whole_ = nullptr;
};

}  // namespace detail

// Adds the buffers of a whole table to `to`, behind those that it has. `limit` is the most entries that a table may have.
template <LocalTranslator Memory>
[[nodiscard]] inline bool append_table(chain& to, Memory& memory, std::uint64_t addr,
                                       std::uint32_t bytes, std::uint32_t limit, table_order order,
                                       fault& found) noexcept {
  if (bytes == 0 || bytes % sizeof(split_descriptor) != 0) {
    found.code = fault_code::indirect_size;
    found.value = bytes;
    return false;
  }
  const std::uint32_t entries = bytes / sizeof(split_descriptor);
  if (entries > limit) {
    found.code = fault_code::chain_too_long;
    found.value = entries;
    return false;
  }
  if (addr + bytes < addr) {
    found.code = fault_code::address_overflow;
    found.value = addr;
    return false;
  }
  detail::table_reader table{memory, addr, bytes};
  chain_builder builder{to, chain_builder::continued{}};
  std::uint32_t at = 0;
  // A linked table visits at most as many entries as there are; more is a loop.
  for (std::uint32_t seen = 0; seen != entries; ++seen) {
    split_descriptor d;
    if (!table.read(at, d, found)) return false;
    // A packed queue's tables have id and flags where a split one's have flags and next.
    const std::uint16_t flags = order == table_order::sequential ? d.next : d.flags;
    if ((flags & descriptor_flag::indirect) != 0) [[unlikely]] {
      found.code = fault_code::indirect_nested;
      found.value = at;
      return false;
    }
    if (!builder.append(memory, d.addr, d.len, (flags & descriptor_flag::write) != 0, found)) {
      return false;
    }
    if (order == table_order::sequential ? ++at == entries : (flags & descriptor_flag::next) == 0) {
      builder.finish(to, to.id());
      return true;
    }
    if (order == table_order::sequential) continue;
    at = d.next;
    if (at >= entries) [[unlikely]] {
      found.code = fault_code::next_out_of_range;
      found.value = at;
      return false;
    }
  }
  found.code = fault_code::chain_too_long;
  found.value = entries;
  return false;
}

}  // namespace phasebit::virtio::device
