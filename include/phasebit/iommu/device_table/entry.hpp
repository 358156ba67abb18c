// SPDX-License-Identifier: BSL-1.0
// Device entries of several 64-bit words: names for their fields, and changes that are safe while a
// walker reads the entry.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/iommu/page_table/table_word.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace phasebit::iommu {

// Bits Hi:Lo of an entry, counted over all its words as specifications print them: 87:72 is in the
// second word. A field lies in one word.
template <unsigned Hi, unsigned Lo = Hi,
          class Value = phasebit::detail::least_unsigned<Hi - Lo + 1>>
struct entry_field {
  static_assert(Hi / 64 == Lo / 64, "a field lies in one 64-bit word");
  using value_type = Value;
  using in_word = field<Hi % 64, Lo % 64, Value>;
  static constexpr std::size_t word = Lo / 64;
  static constexpr std::uint64_t mask = in_word::template mask<std::uint64_t>;
};

// A value of Words little-endian words; Derived names the fields. Values are copied out of tables
// and written into them as a whole (load_entry_words, replace_entry); nothing here touches shared
// memory. Derived also defines how hardware is prevented from using an entry while its words are
// inconsistent: word `gate` then contains `closed`, and while its bits in `gate_mask` equal those
// of `closed`, hardware reads no other word. `closed_is_absent`: a closed entry counts as absent,
// and caches do not keep it.
template <class Derived, std::size_t Words>
struct table_entry {
  static constexpr std::size_t word_count = Words;

  le<std::uint64_t> words[Words];

  template <unsigned Hi, unsigned Lo, class Value>
  [[nodiscard]] constexpr Value operator[](entry_field<Hi, Lo, Value>) const noexcept {
    using f = entry_field<Hi, Lo, Value>;
    static_assert(f::word < Words, "the field lies outside this entry");
    return f::in_word::get(words[f::word].get());
  }
  // `value` must fit.
  template <unsigned Hi, unsigned Lo, class Value>
  [[nodiscard]] constexpr Derived with(entry_field<Hi, Lo, Value>,
                                       std::type_identity_t<Value> value) const noexcept {
    using f = entry_field<Hi, Lo, Value>;
    static_assert(f::word < Words, "the field lies outside this entry");
    Derived copy = static_cast<const Derived&>(*this);
    copy.words[f::word] = f::in_word::set(words[f::word].get(), value);
    return copy;
  }
  // An address of which an entry holds the upper bits, at their own places: not shifted.
  template <unsigned Hi, unsigned Lo, class Value>
  [[nodiscard]] constexpr std::uint64_t address(entry_field<Hi, Lo, Value>) const noexcept {
    using f = entry_field<Hi, Lo, Value>;
    return words[f::word].get() & f::mask;
  }
  // Bits outside the field must be zero: an address that is aligned, and not too wide.
  template <unsigned Hi, unsigned Lo, class Value>
  [[nodiscard]] constexpr Derived with_address(entry_field<Hi, Lo, Value>,
                                               std::uint64_t value) const noexcept {
    using f = entry_field<Hi, Lo, Value>;
    PHASEBIT_EXPECTS((value & ~f::mask) == 0, "the address is misaligned, or wider than its field");
    Derived copy = static_cast<const Derived&>(*this);
    copy.words[f::word] = (words[f::word].get() & ~f::mask) | value;
    return copy;
  }
  // Whether any bit outside `known`, one mask per word, is set.
  [[nodiscard]] constexpr bool has_other_bits(const std::uint64_t (&known)[Words]) const noexcept {
    for (std::size_t i = 0; i != Words; ++i) {
      if ((words[i].get() & ~known[i]) != 0) return true;
    }
    return false;
  }

  friend constexpr bool operator==(const Derived& a, const Derived& b) noexcept {
    for (std::size_t i = 0; i != Words; ++i) {
      if (a.words[i].get() != b.words[i].get()) return false;
    }
    return true;
  }
};

// Copies an entry out of a table, each word once and whole. The gate is read before the others:
// what its writer stored before it is seen completely.
template <class Entry>
[[nodiscard]] inline Entry load_entry_words(const table_word* at) noexcept {
  Entry e{};
  e.words[Entry::gate] = detail::load_entry(at + Entry::gate);
  for (std::size_t i = 0; i != Entry::word_count; ++i) {
    if (i != Entry::gate) e.words[i] = detail::load_entry_relaxed(at + i);
  }
  return e;
}

// Changes the entry at `at`, which hardware may be reading at any moment, to `next`:
//     one word differs               that word is stored
//     the gate is closed already     the other words, then the gate
//     otherwise                      the gate is closed, forget() called, the other words, the gate
// forget() returns when no walker uses the previous entry any more: it sends the architecture's
// invalidation of this entry and waits. It is called while the gate is closed, and also at the end
// if the previous entry may be cached: always, unless it was closed and Entry::closed_is_absent,
// because absent entries are not cached (except by VT-d IOMMUs in caching mode, which the caller
// must handle). One writer per entry.
template <class Entry, class Forget>
  requires std::is_nothrow_invocable_v<Forget&>
void replace_entry(table_word* at, const Entry& next, Forget&& forget) noexcept {
  std::size_t different = 0;
  std::size_t which = 0;
  for (std::size_t i = 0; i != Entry::word_count; ++i) {
    if (detail::load_entry_relaxed(at + i) == next.words[i].get()) continue;
    ++different;
    which = i;
  }
  if (different == 0) return;
  const bool open =
      ((detail::load_entry_relaxed(at + Entry::gate) ^ Entry::closed) & Entry::gate_mask) != 0;
  const bool cached = open || !Entry::closed_is_absent;
  if (different == 1) {
    detail::store_entry(at + which, next.words[which].get());
    if (cached) forget();
    return;
  }
  if (open) {
    detail::store_entry_relaxed(at + Entry::gate, Entry::closed);  // the invalidation orders it
    forget();
  }
  for (std::size_t i = 0; i != Entry::word_count; ++i) {
    if (i != Entry::gate) detail::store_entry_relaxed(at + i, next.words[i].get());
  }
  detail::store_entry(at + Entry::gate, next.words[Entry::gate].get());
  if (!Entry::closed_is_absent) forget();
}

}  // namespace phasebit::iommu
