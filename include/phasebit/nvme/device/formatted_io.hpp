// SPDX-License-Identifier: BSL-1.0
// Metadata and end-to-end protection of one I/O command: NVM Command Set 1.0, section 5.2. The part
// that synchronous and asynchronous media share: it works on blocks in a buffer, followed by their
// metadata in a second one.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>
#include <phasebit/nvme/device/guard.hpp>
#include <phasebit/nvme/device/io_command.hpp>
#include <phasebit/nvme/device/namespace_format.hpp>
#include <phasebit/nvme/spec/protection.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// The protection fields of a command: PRINFO and the tags of its first block.
struct protection_fields {
  prinfo info{};
  std::uint32_t reference_tag = 0;
  std::uint16_t application_tag = 0;
  std::uint16_t application_mask = 0;
};
[[nodiscard]] constexpr protection_fields protection_of(const submission_entry& c) noexcept {
  const block_range r = block_range_of(c);
  return {r.pi, r.reference_tag, r.application_tag, r.application_mask};
}

// The tuples of blocks in a namespace of format `f`.
template <class Guard>
class protection_checker {
 public:
  constexpr protection_checker(const namespace_format& f, const protection_fields& p) noexcept
      : f_(f), p_(p) {}

  // Fields that cannot be right, before any block is touched. The reference tag of type 1 is the
  // block's number; type 3 has none that a controller could check.
  [[nodiscard]] constexpr status_code check_fields(std::uint64_t lba) const noexcept {
    if (f_.pi == protection_type::none) return status_code::success;
    if (!p_.info.check_reference) return status_code::success;
    if (f_.pi == protection_type::type3 ||
        (f_.pi == protection_type::type1 && p_.reference_tag != static_cast<std::uint32_t>(lba))) {
      return status_code::invalid_protection_information;
    }
    return status_code::success;
  }

  // Checks block `index` of the command, in the order guard, application tag, reference tag.
  [[nodiscard]] status_code check(std::uint64_t index, std::span<const std::byte> data,
                                  std::span<const std::byte> metadata) const noexcept {
    const auto t = load_wire<protection16>(metadata.subspan(f_.tuple_at()));
    const bool disabled = t.application_tag == escape_application_tag &&
                          (f_.pi != protection_type::type3 || t.reference_tag == 0xffff'ffffU);
    if (disabled) return status_code::success;
    if (p_.info.check_guard && t.guard != guard_of(data, metadata)) {
      return status_code::guard_check_error;
    }
    if (p_.info.check_application &&
        ((t.application_tag ^ p_.application_tag) & p_.application_mask) != 0) {
      return status_code::application_tag_check_error;
    }
    if (p_.info.check_reference && t.reference_tag != reference(index)) {
      return status_code::reference_tag_check_error;
    }
    return status_code::success;
  }

  // Puts the tuple that PRACT requests into the metadata.
  void insert(std::uint64_t index, std::span<const std::byte> data,
              std::span<std::byte> metadata) const noexcept {
    protection16 t{};
    t.guard = guard_of(data, metadata);
    t.application_tag = p_.application_tag;
    t.reference_tag = reference(index);
    store_wire(metadata.subspan(f_.tuple_at()), t);
  }

 private:
  [[nodiscard]] constexpr std::uint32_t reference(std::uint64_t index) const noexcept {
    return f_.pi == protection_type::type3 ? p_.reference_tag
                                           : p_.reference_tag + static_cast<std::uint32_t>(index);
  }
  // Of the data, and of the metadata before a tuple that ends it.
  [[nodiscard]] std::uint16_t guard_of(std::span<const std::byte> data,
                                       std::span<const std::byte> metadata) const noexcept {
    return Guard::crc(metadata.first(f_.tuple_at()), Guard::crc(data, 0));
  }

  namespace_format f_;
  protection_fields p_;
};

// The content of blocks that were deallocated or never written: zeros, with checks switched off.
inline void clear_metadata(const namespace_format& f, std::span<std::byte> metadata) noexcept {
  __builtin_memset(metadata.data(), 0, metadata.size());
  if (f.pi != protection_type::none) {
    __builtin_memset(metadata.data() + f.tuple_at(), 0xff, sizeof(protection16));
  }
}

// One command on blocks with metadata, between the host's memory, a buffer of blocks with a second one
// of their metadata, and the namespace's metadata.
template <class State, class Namespaces>
class formatted_command {
  using guard_type = typename State::policy::guard;
  using checker = protection_checker<guard_type>;

 public:
  formatted_command(State& s, Namespaces& namespaces, const submission_entry& c,
                    const namespace_format& f, std::uint64_t lba, std::uint32_t blocks,
                    unsigned shift) noexcept
      : s_(&s),
        namespaces_(&namespaces),
        c_(&c),
        f_(f),
        fields_(protection_of(c)),
        lba_(lba),
        blocks_(blocks),
        shift_(shift) {}

  // Before anything is touched.
  [[nodiscard]] status_code check(nvm_opcode opcode) const noexcept {
    if (f_.metadata_bytes == 0) return status_code::success;
    const checker tuples{f_, fields_};
    if (moves_data(opcode) || opcode == nvm_opcode::verify || opcode == nvm_opcode::write_zeroes) {
      if (opcode != nvm_opcode::write_zeroes || fields_.info.action) {
        if (const auto bad = tuples.check_fields(lba_); bad != status_code::success) return bad;
      }
    }
    if (!moves_data(opcode)) return status_code::success;
    if (s_->config.mdts != 0 && host_bytes() > std::uint64_t{4096} << s_->config.mdts) {
      return status_code::invalid_field;
    }
    if (separate()) {
      // A buffer, not a segment of descriptors; off a dword only where the data pointer is an SGL.
      if (c_->psdt() == data_pointer::sgl_metadata_segment) return status_code::invalid_field;
      if (c_->psdt() == data_pointer::prp && (c_->mptr & 3U) != 0) {
        return status_code::invalid_field;
      }
    }
    return status_code::success;
  }

  // Blocks [first, first + n) of the command, n as `data` has them. `metadata` is n times
  // f.metadata_bytes.
  [[nodiscard]] status_code from_host(std::uint64_t first, std::span<std::byte> data,
                                      std::span<std::byte> metadata) noexcept {
    return move_host(
        first, data, metadata,
        [](auto transfer, std::uint64_t bytes, std::uint64_t offset,
           std::span<std::byte> mine) noexcept { return transfer.from_host(bytes, offset, mine); });
  }
  [[nodiscard]] status_code to_host(std::uint64_t first, std::span<std::byte> data,
                                    std::span<std::byte> metadata) noexcept {
    return move_host(
        first, data, metadata,
        [](auto transfer, std::uint64_t bytes, std::uint64_t offset,
           std::span<std::byte> mine) noexcept { return transfer.to_host(bytes, offset, mine); });
  }
  // Metadata beside the tuple is compared too, and the tuple is left to the checks.
  [[nodiscard]] status_code compare_host(std::uint64_t first, std::span<std::byte> data,
                                         std::span<std::byte> metadata) noexcept {
    return move_host(first, data, metadata,
                     [this](auto transfer, std::uint64_t bytes, std::uint64_t offset,
                            std::span<std::byte> mine) noexcept {
                       const bool is_metadata = mine.size() < (std::size_t{1} << shift_);
                       if (!is_metadata || f_.pi == protection_type::none) {
                         return transfer.compare(bytes, offset, mine);
                       }
                       // One block's, see move_host().
                       const std::size_t at = f_.tuple_at();
                       const auto before = transfer.compare(bytes, offset, mine.first(at));
                       if (before != status_code::success) return before;
                       const std::size_t behind = at + sizeof(protection16);
                       return transfer.compare(bytes, offset + behind, mine.subspan(behind));
                     });
  }

  // After from_host(): inserts tuples, or checks those that came.
  [[nodiscard]] status_code protect(std::uint64_t first, std::span<const std::byte> data,
                                    std::span<std::byte> metadata) noexcept {
    if (f_.pi == protection_type::none) return status_code::success;
    const checker tuples{f_, fields_};
    for (std::size_t i = 0; i != data.size() >> shift_; ++i) {
      const auto block = data.subspan(i << shift_, std::size_t{1} << shift_);
      const auto own = metadata.subspan(i * f_.metadata_bytes, f_.metadata_bytes);
      if (fields_.info.action) {
        tuples.insert(first + i, block, own);
        continue;
      }
      const auto bad = tuples.check(first + i, block, own);
      if (bad != status_code::success) return bad;
    }
    return status_code::success;
  }
  // Of blocks that were read.
  [[nodiscard]] status_code verify(std::uint64_t first, std::span<const std::byte> data,
                                   std::span<const std::byte> metadata) noexcept {
    return verify(fields_, first, data, metadata);
  }
  [[nodiscard]] status_code verify(const protection_fields& fields, std::uint64_t first,
                                   std::span<const std::byte> data,
                                   std::span<const std::byte> metadata) noexcept {
    if (f_.pi == protection_type::none) return status_code::success;
    const checker tuples{f_, fields};
    for (std::size_t i = 0; i != data.size() >> shift_; ++i) {
      const auto bad = tuples.check(first + i, data.subspan(i << shift_, std::size_t{1} << shift_),
                                    metadata.subspan(i * f_.metadata_bytes, f_.metadata_bytes));
      if (bad != status_code::success) return bad;
    }
    return status_code::success;
  }

  // Between a buffer and the namespace's metadata; `lba` is a block of the namespace.
  void load(std::uint64_t lba, std::span<std::byte> metadata) noexcept {
    if (f_.metadata_bytes == 0) return;
    for (std::size_t at = 0; at != metadata.size(); at += f_.metadata_bytes, ++lba) {
      const auto from = namespaces_->metadata(c_->nsid, lba);
      __builtin_memcpy(metadata.data() + at, from.data(), f_.metadata_bytes);
    }
  }
  void store(std::uint64_t lba, std::span<const std::byte> metadata) noexcept {
    if (f_.metadata_bytes == 0) return;
    for (std::size_t at = 0; at != metadata.size(); at += f_.metadata_bytes, ++lba) {
      const auto to = namespaces_->metadata(c_->nsid, lba);
      __builtin_memcpy(to.data(), metadata.data() + at, f_.metadata_bytes);
    }
  }
  // After Dataset Management has deallocated blocks.
  void clear(std::uint64_t lba, std::uint64_t blocks) noexcept {
    if (f_.metadata_bytes == 0) return;
    for (std::uint64_t i = 0; i != blocks; ++i) {
      clear_metadata(f_, namespaces_->metadata(c_->nsid, lba + i));
    }
  }
  // After Write Zeroes: tuples as PRACT asks, or with their checks switched off.
  void zero() noexcept {
    if (f_.metadata_bytes == 0) return;
    const checker tuples{f_, fields_};
    alignas(16) static constexpr std::array<std::byte, 512> zeros{};
    for (std::uint64_t i = 0; i != blocks_; ++i) {
      const auto own = namespaces_->metadata(c_->nsid, lba_ + i);
      clear_metadata(f_, own);
      if (f_.pi == protection_type::none || !fields_.info.action) continue;
      __builtin_memset(own.data() + f_.tuple_at(), 0, sizeof(protection16));
      // The guard of zeros is zero, however many they are.
      tuples.insert(i, zeros, own);
    }
  }

  [[nodiscard]] const namespace_format& format() const noexcept { return f_; }

 private:
  // With PRACT and metadata that is the tuple alone, none of it is the host's.
  [[nodiscard]] bool host_has_metadata() const noexcept {
    return !(f_.pi != protection_type::none && fields_.info.action &&
             f_.metadata_bytes == sizeof(protection16));
  }
  [[nodiscard]] bool separate() const noexcept { return !f_.extended && host_has_metadata(); }
  [[nodiscard]] std::uint64_t host_bytes() const noexcept {
    const std::uint64_t each =
        (std::uint64_t{1} << shift_) +
        (f_.extended && host_has_metadata() ? std::uint64_t{f_.metadata_bytes} : 0);
    return each * blocks_;
  }

  // Calls move(transfer, bytes in all, offset, span) for the parts. Metadata is moved block by block.
  template <class Move>
  [[nodiscard]] status_code move_host(std::uint64_t first, std::span<std::byte> data,
                                      std::span<std::byte> metadata, Move move) noexcept {
    const data_transfer transfer{*s_->dma, *c_, s_->regs.page_shift()};
    const std::uint64_t bytes = host_bytes();
    const std::size_t block = std::size_t{1} << shift_;
    const std::size_t ms = f_.metadata_bytes;
    if (!f_.extended || !host_has_metadata()) {
      const auto done = move(transfer, bytes, first << shift_, data);
      if (done != status_code::success || !host_has_metadata()) return done;
      // One contiguous buffer, as a data block descriptor would name it.
      submission_entry m{};
      m.set_sgl({.address = c_->mptr,
                 .length = static_cast<std::uint32_t>(blocks_ * ms),
                 .reserved = {},
                 .identifier = 0});
      const data_transfer beside{*s_->dma, m, s_->regs.page_shift()};
      for (std::size_t at = 0; at != metadata.size(); at += ms) {
        const auto own = move(beside, blocks_ * ms, first * ms + at, metadata.subspan(at, ms));
        if (own != status_code::success) return own;
      }
      return status_code::success;
    }
    std::uint64_t offset = first * (block + ms);
    for (std::size_t i = 0; i != data.size() >> shift_; ++i, offset += block + ms) {
      auto done = move(transfer, bytes, offset, data.subspan(i << shift_, block));
      if (done != status_code::success) return done;
      done = move(transfer, bytes, offset + block, metadata.subspan(i * ms, ms));
      if (done != status_code::success) return done;
    }
    return status_code::success;
  }

  State* s_;
  Namespaces* namespaces_;
  const submission_entry* c_;
  namespace_format f_;
  protection_fields fields_;
  std::uint64_t lba_;
  std::uint64_t blocks_;
  unsigned shift_;
};

// Checks beyond check_io_command(): the namespace is being formatted, blocks that cannot be read,
// and the fields of protection.
template <class State, FormattedNamespaces Namespaces, class Command>
[[nodiscard]] status_code check_formatted(State& s, Namespaces& namespaces,
                                          const submission_entry& c, const Command& what) noexcept {
  if (what.media == nullptr) return status_code::success;
  const std::uint32_t nsid = c.nsid;
  if (namespaces.busy(nsid)) return status_code::format_in_progress;
  if constexpr (ReservableNamespaces<Namespaces>) {
    if (!namespaces.pool().reservations().allows(nsid, namespaces.controller_id(),
                                                 access_group_of(what.opcode))) {
      return status_code::reservation_conflict;
    }
  }
  if (what.opcode == nvm_opcode::write_uncorrectable && !namespaces.marks_uncorrectable()) {
    return status_code::invalid_opcode;
  }
  const auto bad = formatted_command{s,
                                     namespaces,
                                     c,
                                     namespaces.format(nsid),
                                     what.lba,
                                     what.blocks,
                                     block::block_shift(*what.media)}
                       .check(what.opcode);
  if (bad != status_code::success) return bad;
  const bool reads = what.opcode == nvm_opcode::read || what.opcode == nvm_opcode::compare ||
                     what.opcode == nvm_opcode::verify;
  return reads && namespaces.any_uncorrectable(nsid, what.lba, what.blocks)
             ? status_code::unrecovered_read_error
             : status_code::success;
}

// The fields of one range of Copy, as it is read.
[[nodiscard]] constexpr protection_fields read_protection_of(const submission_entry& c,
                                                             const copy_range& r) noexcept {
  return {prinfo::of(copy_command::prinfo_read.get(c.cdw12.get())), r.reference_tag,
          r.application_tag, r.application_mask};
}
// NVM Command Set 1.0, 3.2.2: both sides insert and strip tuples, or neither does.
inline status_code check_copy_protection(const submission_entry& c, const namespace_format& f,
                                         std::span<const std::byte> list) noexcept {
  if (f.pi == protection_type::none) return status_code::success;
  const auto written = protection_of(c);
  const auto read = prinfo::of(copy_command::prinfo_read.get(c.cdw12.get()));
  if (read.action != written.info.action) return status_code::invalid_field;
  const auto bad = protection_checker<bitwise_guard>{f, written}.check_fields(c.cdw10_11());
  if (bad != status_code::success) return bad;
  for (std::size_t at = 0; at != list.size(); at += sizeof(copy_range)) {
    const auto range = load_wire<copy_range>(list.subspan(at));
    const auto wrong =
        protection_checker<bitwise_guard>{f, read_protection_of(c, range)}.check_fields(range.lba);
    if (wrong != status_code::success) return wrong;
  }
  return status_code::success;
}

}  // namespace phasebit::nvme::device
