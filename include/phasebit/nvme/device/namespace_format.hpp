// SPDX-License-Identifier: BSL-1.0
// LBA formats, metadata and protection settings of a namespace, and which namespace sets have them:
// NVM Command Set 1.0, sections 2.1 and 5.2.
#pragma once

#include <phasebit/nvme/device/concepts.hpp>
#include <phasebit/nvme/spec/identify_namespace.hpp>
#include <phasebit/nvme/spec/protection.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// How a namespace is formatted. All zeros: blocks without metadata.
struct namespace_format {
  std::uint8_t index = 0;            // of the LBA format
  std::uint16_t metadata_bytes = 0;  // of a block: 0, or 8 or more
  bool extended = false;             // metadata ends each block of the host's data
  protection_type pi = protection_type::none;
  bool pi_first = false;  // the tuple starts the metadata, not ends it

  // Where the tuple of 8 bytes lies in the metadata.
  [[nodiscard]] constexpr std::size_t tuple_at() const noexcept {
    return pi_first ? 0 : metadata_bytes - sizeof(protection16);
  }
  friend constexpr bool operator==(const namespace_format&,
                                   const namespace_format&) noexcept = default;
};

// The formats that a set can offer: data of 512 or 4096 bytes, metadata of 0, 8, 16 or 64, in the
// order of QEMU's controller. The set decides which of them are available.
inline constexpr std::size_t lba_format_count = 8;
struct lba_format_sizes {
  std::uint8_t data_shift = 9;
  std::uint16_t metadata_bytes = 0;
};
[[nodiscard]] constexpr lba_format_sizes sizes_of_format(std::size_t index) noexcept {
  constexpr std::array<std::uint16_t, 4> metadata{0, 8, 16, 64};
  return {static_cast<std::uint8_t>(index < 4 ? 9 : 12), metadata[index & 3U]};
}

// A namespace set whose namespaces have formats.
//   format(nsid)               of an active namespace
//   format_available(index)    whether a namespace may have LBA format `index`
//   metadata(nsid, lba)        the metadata of one block, format().metadata_bytes long: memory that is
//                              as persistent as the program makes it
//   busy(nsid)                 the namespace is being formatted or erased
//   marks_uncorrectable()      the set can record blocks that cannot be read
//   any_uncorrectable, mark_uncorrectable   of blocks [lba, lba + blocks), which are in range
// One thread at a time, that of the controller's poll().
template <class T>
concept FormattedNamespaces =
    NamespaceSet<T> &&
    requires(T& set, std::uint32_t nsid, std::uint64_t lba, std::uint64_t blocks, bool on) {
      { set.format(nsid) } noexcept -> std::same_as<namespace_format>;
      { set.format_available(std::size_t{}) } noexcept -> std::same_as<bool>;
      { set.metadata(nsid, lba) } noexcept -> std::same_as<std::span<std::byte>>;
      { set.busy(nsid) } noexcept -> std::same_as<bool>;
      { set.marks_uncorrectable() } noexcept -> std::same_as<bool>;
      { set.any_uncorrectable(nsid, lba, blocks) } noexcept -> std::same_as<bool>;
      { set.mark_uncorrectable(nsid, lba, blocks, on) } noexcept -> std::same_as<void>;
    };

}  // namespace phasebit::nvme::device
