// SPDX-License-Identifier: BSL-1.0
// Translates the PRPs of a command between a guest and a device, entry by entry. The other fields
// of the command are unchanged.
#pragma once

#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/nvme/prp/list_reader.hpp>
#include <phasebit/nvme/prp/list_writer.hpp>
#include <phasebit/nvme/prp/types.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::prp {

// With which status a command ends whose PRPs could not be rewritten.
[[nodiscard]] constexpr status_code status_of(const build_result& v) noexcept {
  if (v) return status_code::success;
  switch (v.reason) {
    case errc::misaligned:
      return status_code::prp_offset_invalid;
    case errc::overflow:
    case errc::not_mapped:
    case errc::access_denied:
      return status_code::data_transfer_error;
    case errc::invalid_argument:
      return status_code::invalid_field;
    default:
      return status_code::internal_error;
  }
}

namespace detail {

// Translates the pages of one command. Neighbouring pages mostly follow each other on the other
// side as well, so that the last result is kept; a translation covers at most the command's bytes.
template <AddressTranslator Pages>
class page_translation {
 public:
  page_translation(Pages& pages, access wanted, std::uint64_t bytes, unsigned page_shift) noexcept
      : pages_(pages), wanted_(wanted), left_(bytes), mask_((std::uint64_t{1} << page_shift) - 1) {}

  // The next entry of the command, its data pages in order. On failure fault() returns the reason.
  [[nodiscard]] bool next(std::uint64_t from, std::uint64_t& to) noexcept {
    const std::uint64_t in_page = mask_ + 1 - (from & mask_);
    const std::uint64_t need = left_ < in_page ? left_ : in_page;
    if (!covers(from, need, left_)) return false;
    to = to_ + (from - from_);
    left_ -= need;
    ++index_;
    return true;
  }
  // The same for many at a time, each replaced by its translation. On failure those before
  // index() have been replaced.
  [[nodiscard]] bool next(std::span<entry> entries) noexcept {
    std::size_t done = 0;
    const std::uint64_t page = mask_ + 1;
    // Whole pages within the last answer: found, and then moved, without a branch per entry.
    if (left_ >= entries.size() * page && bytes_ >= page && all_within(entries, bytes_ - page)) {
      const std::uint64_t distance = to_ - from_;
      for (entry& e : entries) e = e.get() + distance;
      left_ -= entries.size() * page;
      index_ += entries.size();
      done = entries.size();
    }
    for (; done != entries.size(); ++done) {
      std::uint64_t to = 0;
      if (!next(entries[done], to)) return false;
      entries[done] = to;
    }
    return true;
  }
  // A list page of which `bytes` bytes are read. Does not count as an entry.
  [[nodiscard]] bool list(std::uint64_t from, std::uint64_t bytes, std::uint64_t& to) noexcept {
    page_translation other{pages_, access::read, bytes, 0};
    other.mask_ = mask_;
    if (!other.covers(from, bytes, bytes)) {
      fault_ = build_result::refused(other.fault_.reason, other.fault_.what, index_);
      return false;
    }
    to = other.to_;
    return true;
  }
  [[nodiscard]] build_result fault() const noexcept { return fault_; }
  [[nodiscard]] std::uint64_t left() const noexcept { return left_; }
  [[nodiscard]] std::size_t index() const noexcept { return index_; }

 private:
  [[nodiscard]] bool all_within(std::span<const entry> entries, std::uint64_t most) const noexcept {
    bool within = true;
    for (const entry& e : entries) within &= e.get() - from_ <= most;
    return within;
  }
  [[nodiscard]] bool covers(std::uint64_t from, std::uint64_t need, std::uint64_t ask) noexcept {
    const std::uint64_t offset = from - from_;
    if (offset < bytes_ && bytes_ - offset >= need) return true;
    // Translators are not asked about ranges that wrap, and no page can be the very last one.
    const std::uint64_t most = ~from;
    if (need > most) [[unlikely]] {
      fault_ =
          build_result::refused(errc::overflow, "the entry wraps around the address space", index_);
      return false;
    }
    if (ask > most) ask = most;
    const auto segment = pages_.translate(address<typename Pages::from>{from}, ask, wanted_);
    if (!segment) [[unlikely]] {
      fault_ = build_result::refused(segment.error().code, segment.error().what, index_);
      return false;
    }
    if (segment->bytes < need || segment->bytes > ask) [[unlikely]] {
      fault_ = build_result::refused(errc::not_supported,
                                     "a page is not contiguous once it is translated", index_);
      return false;
    }
    if (((segment->begin.value() ^ from) & mask_) != 0) [[unlikely]] {
      fault_ = build_result::refused(
          errc::not_supported, "the translation does not keep the offset within a page", index_);
      return false;
    }
    from_ = from;
    to_ = segment->begin.value();
    bytes_ = segment->bytes;
    return true;
  }

  Pages& pages_;
  access wanted_;
  std::uint64_t left_;  // bytes of the command whose entries are still to come
  std::uint64_t mask_;
  std::uint64_t from_ = 0;
  std::uint64_t to_ = 0;
  std::uint64_t bytes_ = 0;
  std::size_t index_ = 0;
  build_result fault_{};
};

[[nodiscard]] constexpr build_result result_of(const list_outcome& o,
                                               build_result stopped) noexcept {
  const auto at = static_cast<std::size_t>(o.entries_read) + 1;
  switch (o.end) {
    case list_end::complete:
      return {};
    case list_end::stopped:
      return stopped;
    case list_end::misaligned:
      return build_result::refused(errc::misaligned, "a list entry has a page offset", at);
    case list_end::unreadable:
      return build_result::refused(errc::not_mapped, "the list cannot be read", at);
  }
  return build_result::refused(errc::protocol, "a walk that ended in no way", at);
}

// The first step of both ways of rewriting: PRP1, and PRP2 where it is a page. `entries` are those
// that follow PRP1.
template <AddressTranslator Pages>
[[nodiscard]] build_result rewrite_direct(page_translation<Pages>& pages, pointers from,
                                          std::uint64_t bytes, std::uint64_t entries,
                                          unsigned page_shift, pointers& to) noexcept {
  if (bytes == 0) return build_result::refused(errc::invalid_argument, "a transfer of no bytes");
  if ((from.prp1 & 3U) != 0) {
    return build_result::refused(errc::misaligned, "PRP1 is not on a dword");
  }
  if (!pages.next(from.prp1, to.prp1)) return pages.fault();
  if (entries == 1) {
    if (!is_aligned(from.prp2, std::uint64_t{1} << page_shift)) {
      return build_result::refused(errc::misaligned, "PRP2 has a page offset", 1);
    }
    if (!pages.next(from.prp2, to.prp2)) return pages.fault();
  }
  return {};
}

}  // namespace detail

// Translates the pointers of a command of `bytes` bytes with `pages`, from their address space to
// another, and copies its list, translated, into `shadow` (and `more`), which the device reads
// instead: the guest's list is read once, never written, and later changes to it have no effect.
// `wanted` is the device's access to the data: write for a read command.
// `command` changes only on success. Errors: misaligned, those of the translators (not_mapped,
// access_denied), not_supported where a page is translated into segments or to another offset in a
// page, exhausted where shadow lists are too short. The build_result's index is 0 for PRP1, 1 for
// PRP2 or the first list entry, and so on. Bounded by `bytes`, whatever the memory contains.
template <LocalTranslator Lists, AddressTranslator Pages, class More = no_more_lists>
  requires(std::same_as<typename Lists::from, typename Pages::from> &&
           ListSource<std::remove_reference_t<More>>)
[[nodiscard]] build_result rewrite(Lists& lists, Pages& pages, access wanted, pointers& command,
                                   std::uint64_t bytes, unsigned page_shift,
                                   const list_memory& shadow, More&& more = {}) noexcept {
  using space = typename Lists::from;
  detail::page_translation<Pages> translation{pages, wanted, bytes, page_shift};
  const std::uint64_t entries = entries_after_first(command.prp1, bytes, page_shift);
  pointers made;
  if (const build_result v =
          detail::rewrite_direct(translation, command, bytes, entries, page_shift, made);
      !v) {
    return v;
  }
  if (has_list(entries)) {
    // A command so long that its entries cannot be counted on this machine has no lists either.
    const auto count = static_cast<std::size_t>(entries);
    if (count != entries) return detail::too_few_lists();
    list_writer<std::remove_reference_t<More>> writer{shadow, count, page_shift, more};
    build_result fault;
    const list_outcome walked = read_list(
        lists, command.prp2, entries, page_shift,
        [&](address<space>, std::span<entry> copies) noexcept {
          if (!translation.next(copies)) {
            fault = translation.fault();
          } else if (!writer.put_all(copies)) {
            fault = detail::too_few_lists();
          }
          return static_cast<bool>(fault);
        },
        [](address<space>, address<space>) noexcept { return true; });
    if (walked.end != list_end::complete) return detail::result_of(walked, fault);
    made.prp2 = shadow.bus.value();
  }
  command = made;
  return {};
}

// The same without copies: entries and links are translated where they lie. For lists that their
// writer has handed over, such as those of one's own driver: a guest that changes its list meanwhile
// could contain an untranslated address.
//
// All entries are tried before the first is written, so that a refused command's list is as it was,
// unless it led into itself.
template <LocalTranslator Lists, AddressTranslator Pages>
  requires std::same_as<typename Lists::from, typename Pages::from>
[[nodiscard]] build_result rewrite_in_place(Lists& lists, Pages& pages, access wanted,
                                            pointers& command, std::uint64_t bytes,
                                            unsigned page_shift) noexcept {
  using space = typename Lists::from;
  const std::uint64_t page = std::uint64_t{1} << page_shift;
  const std::uint64_t entries = entries_after_first(command.prp1, bytes, page_shift);
  pointers made;
  for (const bool writing : {false, true}) {
    detail::page_translation<Pages> translation{pages, wanted, bytes, page_shift};
    made = {};
    if (const build_result v =
            detail::rewrite_direct(translation, command, bytes, entries, page_shift, made);
        !v) {
      return v;
    }
    if (!has_list(entries)) break;
    std::uint64_t to_come = entries;
    const auto list_page = [&](std::uint64_t at, std::uint64_t& to) noexcept {
      const std::uint64_t slots = (page - (at & (page - 1))) / sizeof(entry);
      const std::uint64_t used = to_come < slots ? to_come : slots;
      return translation.list(at, used * sizeof(entry), to);
    };
    build_result fault;
    if (!list_page(command.prp2, made.prp2)) return translation.fault();
    const list_outcome walked = read_list(
        lists, command.prp2, entries, page_shift,
        [&](address<space> where, std::span<entry> copies) noexcept {
          if (!translation.next(copies)) {
            fault = translation.fault();
            return false;
          }
          to_come -= copies.size();
          if (!writing || dma_write(lists, where, std::as_bytes(copies))) return true;
          fault = build_result::refused(errc::access_denied, "the list cannot be written",
                                        translation.index());
          return false;
        },
        [&](address<space> where, address<space> next) noexcept {
          std::uint64_t to = 0;
          if (!list_page(next.value(), to)) {
            fault = translation.fault();
            return false;
          }
          if (!writing || dma_write(lists, where, entry{to})) return true;
          fault = build_result::refused(errc::access_denied, "the list cannot be written",
                                        translation.index());
          return false;
        });
    if (walked.end != list_end::complete) return detail::result_of(walked, fault);
  }
  command = made;
  return {};
}

}  // namespace phasebit::nvme::prp
