// SPDX-License-Identifier: BSL-1.0
// Walks against a second opinion: one slow walker per architecture, written from the text of its
// specification and sharing no code with the formats. Tables are random, valid or with bits flipped.
#include "page_table_harness.hpp"

#include <cstring>

namespace phasebit::page_table_harness {

namespace {

// Memory as a walker sees it: one block of words at an address.
struct physical_memory {
  const std::byte* bytes;
  std::uint64_t base;
  std::uint64_t size;

  [[nodiscard]] std::optional<std::uint64_t> word(std::uint64_t at) const {
    if (at < base || at - base > size - 8) return std::nullopt;
    std::uint64_t value = 0;
    std::memcpy(&value, bytes + (at - base), 8);
    return value;
  }
  [[nodiscard]] bool holds_table(std::uint64_t at, std::uint64_t table_bytes) const {
    return at >= base && at - base <= size - table_bytes;
  }
};

struct outcome {
  walk_status status = walk_status::absent;
  std::uint64_t target = 0;
  bool read = false;
  bool write = false;
};

constexpr outcome fault(walk_status s) { return {s}; }
constexpr std::uint64_t bits(std::uint64_t value, unsigned high, unsigned low) {
  return value >> low & (~std::uint64_t{0} >> (63 - (high - low)));
}
constexpr bool bit(std::uint64_t value, unsigned n) { return (value >> n & 1) != 0; }

// VT-d 4.1, 3.7 and 9.8: second stage of three to five levels. Both permission bits clear: not present.
outcome slow_walk(const vtd_second_stage& f, const physical_memory& m, std::uint64_t root,
                  std::uint64_t a) {
  const int levels = f.width == vtd_width::bits_39 ? 3 : f.width == vtd_width::bits_48 ? 4 : 5;
  if (a >> (12 + 9 * levels) != 0) return fault(walk_status::beyond_width);
  bool read = true;
  bool write = true;
  std::uint64_t table = root;
  for (int level = levels; level != 0; --level) {
    const unsigned low = 12 + 9 * (static_cast<unsigned>(level) - 1);
    const std::uint64_t e = *m.word(table + 8 * bits(a, low + 8, low));
    if (!bit(e, 0) && !bit(e, 1)) return fault(walk_status::absent);
    const bool leaf = level == 1 || bit(e, 7);
    if (leaf) {
      if (level > 3) return fault(walk_status::malformed);  // PS is reserved there
      if (bit(e, 11) && !f.snoop_control) return fault(walk_status::malformed);
      if (level > 1 && bits(e, low - 1, 12) != 0) return fault(walk_status::malformed);
    }
    read = read && bit(e, 0);
    write = write && bit(e, 1);
    const std::uint64_t to = bits(e, 51, 12) << 12;
    if (leaf) return {walk_status::mapped, to | bits(a, low - 1, 0), read, write};
    if (!m.holds_table(to, 4096)) return fault(walk_status::unreadable);
    table = to;
  }
  return {};
}

// Intel SDM 3A, 4.5: four or five levels, requests with user privilege.
outcome slow_walk(const x86_first_stage& f, const physical_memory& m, std::uint64_t root,
                  std::uint64_t a) {
  const int levels = f.five_levels ? 5 : 4;
  const std::uint64_t upper = a >> (11 + 9 * levels);
  if (upper != 0 && upper != ~std::uint64_t{0} >> (11 + 9 * levels)) {
    return fault(walk_status::beyond_width);
  }
  bool user = true;
  bool write = true;
  std::uint64_t table = root;
  for (int level = levels; level != 0; --level) {
    const unsigned low = 12 + 9 * (static_cast<unsigned>(level) - 1);
    const std::uint64_t e = *m.word(table + 8 * bits(a, low + 8, low));
    if (!bit(e, 0)) return fault(walk_status::absent);
    const bool leaf = level == 1 || bit(e, 7);
    if (leaf && level > (f.pages_1g ? 3 : 2)) return fault(walk_status::malformed);
    // Bit 12 of a large page is PAT.
    if (leaf && level > 1 && bits(e, low - 1, 13) != 0) return fault(walk_status::malformed);
    user = user && bit(e, 2);
    write = write && bit(e, 1);
    const std::uint64_t to = bits(e, 51, 12) << 12;
    if (leaf) {
      const std::uint64_t page = to >> low << low;
      return {walk_status::mapped, page | bits(a, low - 1, 0), user, user && write};
    }
    if (!m.holds_table(to, 4096)) return fault(walk_status::unreadable);
    table = to;
  }
  return {};
}

// AMD 48882, 2.2.3. Next Level 0 is a page of the level's size, 7 one whose size is in the address; a lower next level
// skips levels, whose address bits are then zero. Mode 6 translates bits 63:57 by its highest table.
outcome slow_walk(const amd_v1& f, const physical_memory& m, std::uint64_t root, std::uint64_t a) {
  if (f.mode != 6 && a >> (12 + 9 * f.mode) != 0) return fault(walk_status::beyond_width);
  bool read = true;
  bool write = true;
  std::uint64_t table = root;
  unsigned level = f.mode;
  for (;;) {
    const unsigned low = 12 + 9 * (level - 1);
    const std::uint64_t e = *m.word(table + 8 * bits(a, low + 8 < 64 ? low + 8 : 63, low));
    if (!bit(e, 0)) return fault(walk_status::absent);
    const auto next = static_cast<unsigned>(bits(e, 11, 9));
    read = read && bit(e, 61);
    write = write && bit(e, 62);
    const std::uint64_t to = bits(e, 51, 12) << 12;
    if ((next == 0 || next == 7) && level > 4) return fault(walk_status::malformed);
    if (next == 0) {
      if (level > 1 && bits(e, low - 1, 12) != 0) return fault(walk_status::malformed);
      return {walk_status::mapped, to | bits(a, low - 1, 0), read, write};
    }
    if (next == 7) {
      unsigned ones = 0;
      while (ones < 40 && bit(e, 12 + ones)) ++ones;
      const unsigned shift = 13 + ones;
      if (shift < low || shift >= low + 9) return fault(walk_status::malformed);
      return {walk_status::mapped, to >> shift << shift | bits(a, shift - 1, 0), read, write};
    }
    if (next >= level) return fault(walk_status::malformed);
    // The translations of the levels between.
    const unsigned lowest_skipped = 12 + 9 * next;
    if (next + 1 != level && bits(a, low - 1, lowest_skipped) != 0) {
      return fault(walk_status::absent);
    }
    if (!m.holds_table(to, 4096)) return fault(walk_status::unreadable);
    table = to;
    level = next;
  }
}

// Arm DDI 0487, D8.2 and D8.3: stage 2 of the three granules, 48 bits of output. A walk begins at the level whose table
// translates what is left of the input; up to 16 of a level's tables may be joined instead of one above them, and
// with 4 KiB it begins at level 2 at the latest. Where hardware does not set the access flag, AF = 0 is a fault;
// where it sets the dirty state, DBM permits writes.
template <unsigned Shift>
outcome slow_walk(const arm_stage2<Shift>& f, const physical_memory& m, std::uint64_t root,
                  std::uint64_t a) {
  if (a >> f.ipa_bits != 0) return fault(walk_status::beyond_width);
  constexpr unsigned stride = Shift - 3;
  unsigned level = 3;
  unsigned low = Shift;
  while (f.ipa_bits > low + stride) {
    const bool may_begin = Shift != 12 || level <= 2;
    if (f.concatenate && may_begin && f.ipa_bits <= low + stride + 4) break;
    --level;
    low += stride;
  }
  std::uint64_t table = root;
  unsigned high = f.ipa_bits - 1;
  for (;; ++level, high = low - 1, low -= stride) {
    const std::uint64_t e = *m.word(table + 8 * bits(a, high, low));
    if (!bit(e, 0)) return fault(walk_status::absent);
    const bool table_or_page = bit(e, 1);
    if (table_or_page && level != 3) {
      const std::uint64_t to = bits(e, 47, Shift) << Shift;
      if (!m.holds_table(to, std::uint64_t{1} << Shift)) return fault(walk_status::unreadable);
      table = to;
      continue;
    }
    if (table_or_page != (level == 3)) return fault(walk_status::malformed);  // type 01 at level 3
    const unsigned first_block = Shift == 12 ? 1 : 2;
    if (level < first_block) return fault(walk_status::malformed);
    if (!bit(e, 10) && !f.track_dirty) return fault(walk_status::malformed);  // access flag
    if (level != 3 && bits(e, low - 1, Shift) != 0) return fault(walk_status::malformed);
    return {walk_status::mapped, bits(e, 47, low) << low | bits(a, low - 1, 0), bit(e, 6),
            bit(e, 7) || (f.track_dirty && bit(e, 51))};
  }
}

// RISC-V Privileged, "Sv39x4" to "Sv57x4" and two-stage translation. Where hardware sets A and D, both may be clear.
outcome slow_walk(const riscv_second_stage& f, const physical_memory& m, std::uint64_t root,
                  std::uint64_t a) {
  const int levels = f.mode == riscv_mode::sv39x4 ? 3 : f.mode == riscv_mode::sv48x4 ? 4 : 5;
  if (a >> (14 + 9 * levels) != 0) return fault(walk_status::beyond_width);
  std::uint64_t table = root;
  for (int i = levels - 1; i >= 0; --i) {
    const unsigned low = 12 + 9 * static_cast<unsigned>(i);
    const std::uint64_t index = i == levels - 1 ? bits(a, low + 10, low) : bits(a, low + 8, low);
    const std::uint64_t e = *m.word(table + 8 * index);
    if (!bit(e, 0)) return fault(walk_status::absent);
    const bool r = bit(e, 1);
    const bool w = bit(e, 2);
    const bool x = bit(e, 3);
    if (bits(e, 60, 54) != 0 || (!r && w)) return fault(walk_status::malformed);
    if (!f.svnapot && bit(e, 63)) return fault(walk_status::malformed);
    if (!f.svpbmt && bits(e, 62, 61) != 0) return fault(walk_status::malformed);
    const std::uint64_t ppn = bits(e, 53, 10);
    if (!r && !w && !x) {
      // A pointer: D, A, U and the bits of the extensions are reserved.
      if (i == 0 || bit(e, 4) || bit(e, 6) || bit(e, 7) || bits(e, 63, 61) != 0) {
        return fault(walk_status::malformed);
      }
      if (!m.holds_table(ppn << 12, 4096)) return fault(walk_status::unreadable);
      table = ppn << 12;
      continue;
    }
    if (!bit(e, 4) || bits(e, 62, 61) == 3) return fault(walk_status::malformed);
    if (!bit(e, 6) && !f.track_dirty) return fault(walk_status::malformed);
    const bool writable = w && (bit(e, 7) || f.track_dirty);
    if (bit(e, 63)) {
      if (i != 0 || bits(ppn, 3, 0) != 8) return fault(walk_status::malformed);
      return {walk_status::mapped, ppn >> 4 << 16 | bits(a, 15, 0), r, writable};
    }
    if (i != 0 && bits(ppn, 9 * static_cast<unsigned>(i) - 1, 0) != 0) {
      return fault(walk_status::malformed);
    }
    return {walk_status::mapped, ppn << 12 | bits(a, low - 1, 0), r, writable};
  }
  return {};
}

template <class Format>
void agree(const Format& format, unsigned seed, int rounds) {
  constexpr std::size_t pages = 512;
  auto store = std::make_unique<table_store<Format, pages>>();
  auto& arena = store->arena;
  std::mt19937_64 random(seed);
  unsigned mapped = 0;
  unsigned faults = 0;
  using geometry = table_geometry<Format>;
  constexpr std::uint64_t granule = geometry::table_bytes;
  const unsigned width = format.input_bits();
  const std::uint64_t near = (std::uint64_t{1} << (width < 38 ? width : 38)) - 1;
  for (int round = 0; round != rounds; ++round) {
    auto table = page_table<Format, typename table_store<Format, pages>::arena_type>::create(
        format, arena, {.who = mappers::concurrent});
    REQUIRE(table);
    const physical_memory memory{store->memory.get(), 0x7'0000'0000, pages * granule};
    // Ranges of all sizes near each other, so that every level has leaves.
    std::vector<std::uint64_t> places;
    for (int n = 0; n != 24; ++n) {
      const unsigned shift = Format::granule_shift + static_cast<unsigned>(random() % 21);
      const std::uint64_t size = std::uint64_t{1} << shift;
      std::uint64_t at = random() & near & ~(size - 1);
      // The upper half of canonical addresses, too.
      if (page_format<Format>::sign_extended && random() % 2 == 0)
        at |= ~std::uint64_t{0} << (width - 1);
      const std::uint64_t to =
          ((random() & 0x3f'ffff'ffff) & (random() % 2 == 0 ? ~(size - 1) : ~(granule - 1)));
      const access permission = random() % 3 == 0 ? access::read : access::read_write;
      if (size >> (12 + Format::granule_shift) != 0 && (to & (size - 1)) != 0) continue;
      static_cast<void>(
          table->map(bus_addr{at}, host_phys{to}, size, {.permission = permission}).has_value());
      places.push_back(at);
      places.push_back(at + size - 1);
      places.push_back(at + size);
    }
    const std::uint64_t root = table->root().value();
    const auto compare = [&](std::uint64_t a, bool flipped = false) {
      const outcome expected = slow_walk(format, memory, root, a);
      const auto got = table->view().lookup(bus_addr{a});
      CAPTURE(a);
      CAPTURE(got.entry);
      REQUIRE(got.status == expected.status);
      if (expected.status != walk_status::mapped) {
        ++faults;
        return;
      }
      ++mapped;
      const std::uint64_t mask = (std::uint64_t{1} << got.page_shift) - 1;
      // Arm leaves open what entries with the Contiguous hint mean that do not agree.
      const bool open = flipped && page_format<Format>::items_differ && bit(got.entry, 52);
      if (!open) REQUIRE((got.page.value() | (a & mask)) == expected.target);
      REQUIRE(((got.permissions & 1) != 0) == expected.read);
      REQUIRE(((got.permissions & 2) != 0) == expected.write);
    };
    const auto somewhere = [&] {
      return places.empty() || random() % 8 == 0
                 ? random() >> random() % 30
                 : places[random() % places.size()] ^
                       (random() % 2 == 0 ? random() & 0x3f'ffff : 0);
    };
    for (int n = 0; n != 400; ++n) compare(somewhere());
    // The entries on the way to an address, with one to three bits flipped.
    for (int n = 0; n != 600; ++n) {
      const std::uint64_t a = somewhere();
      const auto before = table->view().lookup(bus_addr{a});
      if (before.status == walk_status::beyond_width) continue;
      std::uint64_t at = root;
      const unsigned stop = before.level + static_cast<unsigned>(random() % 2);
      table_word* word = nullptr;
      for (unsigned level = format.top_level();; --level) {
        const std::uint64_t mask = level == format.top_level() ? geometry::root_entries(format) - 1
                                                               : geometry::entries - 1;
        word = reinterpret_cast<table_word*>(store->memory.get() + (at - memory.base)) +
               (a >> geometry::shift(level) & mask);
        if (level <= stop || level == 0) break;
        at = format.table_address(*word);
      }
      const std::uint64_t old = *word;
      for (unsigned flips = 1 + static_cast<unsigned>(random() % 3); flips != 0; --flips) {
        *word ^= std::uint64_t{1} << random() % 64;
      }
      compare(a, true);
      compare(a ^ (random() & 0x1f'ffff), true);
      *word = old;
    }
  }
  CHECK(mapped > 160 * static_cast<unsigned>(rounds));
  CHECK(faults > 160 * static_cast<unsigned>(rounds));
}

}  // namespace

TEST_CASE("walks agree with a slow walker of each architecture, over valid and flipped tables") {
  unsigned settings = 0;
  for_each_page_format([&](const char* name, const auto& usual, const auto&... others) {
    CAPTURE(name);
    const auto one = [&](auto format, int rounds) {
      CAPTURE(settings);
      if constexpr (requires { format.svnapot; }) format.address_bits = 56;
      agree(format, 100 + ++settings, rounds);
    };
    one(usual, 30);
    (one(others, 12), ...);
  });
  CHECK(settings == 21);
}

}  // namespace phasebit::page_table_harness
