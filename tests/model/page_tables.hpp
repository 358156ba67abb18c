// SPDX-License-Identifier: BSL-1.0
// Page tables of the smallest format, with what changes and walks them.
#pragma once

#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_word.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <model/support.hpp>

namespace model {

namespace iommu = phasebit::iommu;
using phasebit::bus_addr;
using phasebit::host_phys;

// The smallest format that the algorithm takes: tables of 8 entries, two levels.
// P0 W1 PS2 D3, address 63:6.
struct small_format {
  static constexpr unsigned granule_shift = 6;
  static constexpr std::uint64_t present_mask = 1;
  static constexpr bool items_differ = false;
  static constexpr bool sign_extended = false;
  static constexpr bool contiguous = false;
  static constexpr std::uint64_t flags = 63;

  [[nodiscard]] static constexpr unsigned top_level() noexcept { return 1; }
  [[nodiscard]] static constexpr unsigned input_bits() noexcept { return 12; }
  [[nodiscard]] static constexpr unsigned output_bits() noexcept { return 48; }
  [[nodiscard]] static constexpr bool leaf_allowed(unsigned) noexcept { return true; }
  [[nodiscard]] static constexpr std::uint32_t orders(unsigned) noexcept { return 0; }
  [[nodiscard]] static constexpr bool is_leaf(std::uint64_t e, unsigned level) noexcept {
    return level == 0 || (e & 4) != 0;
  }
  [[nodiscard]] static constexpr unsigned leaf_shift(std::uint64_t, unsigned level) noexcept {
    return 6 + 3 * level;
  }
  [[nodiscard]] static constexpr std::uint64_t leaf_address(std::uint64_t e, unsigned s) noexcept {
    return e & ~((std::uint64_t{1} << s) - 1);
  }
  [[nodiscard]] static constexpr bool table_valid(std::uint64_t, unsigned) noexcept { return true; }
  [[nodiscard]] static constexpr unsigned next_level(std::uint64_t, unsigned level) noexcept {
    return level - 1;
  }
  [[nodiscard]] static constexpr std::uint64_t plain_mask() noexcept { return 7; }
  [[nodiscard]] static constexpr std::uint64_t table_address(std::uint64_t e) noexcept {
    return e & ~flags;
  }
  [[nodiscard]] static constexpr unsigned permissions(std::uint64_t e) noexcept {
    return (e & 2) != 0 ? 3 : 1;
  }
  [[nodiscard]] static constexpr unsigned passes(std::uint64_t e) noexcept {
    return permissions(e);
  }
  [[nodiscard]] static constexpr std::uint64_t make_table(std::uint64_t at, unsigned) noexcept {
    return at | 3;
  }
  [[nodiscard]] static constexpr std::uint64_t make_leaf(std::uint64_t at, unsigned level, unsigned,
                                                         std::uint64_t bits) noexcept {
    return at | bits | 1 | (level == 0 ? 0 : 4);
  }
  [[nodiscard]] static constexpr std::optional<std::uint64_t> attribute_bits(
      iommu::page_attributes a) noexcept {
    return phasebit::writes(a.permission) ? 2 : 0;
  }
  [[nodiscard]] static constexpr iommu::page_attributes attributes(std::uint64_t e) noexcept {
    return {.permission = static_cast<phasebit::access>(permissions(e))};
  }
  [[nodiscard]] static constexpr std::uint64_t with_permissions(std::uint64_t e,
                                                                std::uint64_t bits) noexcept {
    return (e & ~std::uint64_t{2}) | (bits & 2);
  }
  [[nodiscard]] static constexpr std::uint64_t state_bits(std::uint64_t e) noexcept {
    return e & 10;
  }
  [[nodiscard]] static constexpr bool tracks_dirty() noexcept { return true; }
  [[nodiscard]] static constexpr bool dirty(std::uint64_t e) noexcept { return (e & 8) != 0; }
  [[nodiscard]] static constexpr std::uint64_t cleaned(std::uint64_t e) noexcept {
    return e & ~std::uint64_t{8};
  }
  [[nodiscard]] static constexpr bool break_before_make() noexcept { return false; }
};
static_assert(iommu::PageTableFormat<small_format>);

inline constexpr std::uint64_t page = 64;
inline constexpr std::uint64_t region = 512;  // what one table of leaves maps

// Pages for tables, with what their last use has left in them: entries that would be taken for real
// ones. allocate() zeroes them, release() overwrites them, as the next use would.
class small_tables {
 public:
  using space = phasebit::host_space;

  small_tables() noexcept {
    for (auto& table : pages_) table.fill(garbage);
  }
  [[nodiscard]] iommu::table_word* find(host_phys at, std::size_t) noexcept {
    return reinterpret_cast<iommu::table_word*>(at.value());
  }
  [[nodiscard]] phasebit::result<iommu::table_page<space>> allocate(std::size_t) noexcept {
    // Each thread has pages of its own: what it takes is ordered by nothing but the table.
    const std::size_t which = owner_() * per_thread + used_[owner_()]++;
    auto& table = pages_[which];
    for (iommu::table_word& word : table) iommu::detail::store_entry_relaxed(&word, 0);
    return iommu::table_page<space>{table.data(),
                                    host_phys{reinterpret_cast<std::uintptr_t>(table.data())}};
  }
  void release(iommu::table_page<space> table, std::size_t bytes) noexcept {
    explorer::writes(table.words, bytes);
  }

  static constexpr std::uint64_t garbage = 0xdead'0000'0003;

 private:
  static constexpr std::size_t per_thread = 2;

  // The setup has pages of its own, too.
  [[nodiscard]] static std::size_t owner_() noexcept {
    return static_cast<std::size_t>(explorer::thread_number() + 1);
  }

  alignas(64) std::array<std::array<iommu::table_word, 8>, per_thread * 4> pages_;
  std::array<std::size_t, 4> used_{};
};

using small_table = iommu::page_table<small_format, small_tables>;

[[nodiscard]] inline host_phys target_of(std::uint64_t a) noexcept {
  return host_phys{0x10000 + a};
}

struct table_model {
  small_tables* tables;
  small_table* table;

  explicit table_model(program& p, iommu::page_table_options options = {}) {
    tables = &p.make<small_tables>();
    p.atomic(*tables);
    auto made = small_table::create({}, *tables, options);
    table = &p.make<small_table>(std::move(*made));
    p.name(*tables, "the tables");
  }
  void walk(std::uint64_t a) const {
    const auto found = table->lookup(bus_addr{a});
    check(found.status == iommu::walk_status::absent || found.status == iommu::walk_status::mapped,
          "a walker meets no malformed entry");
    if (found.status == iommu::walk_status::mapped) {
      check(found.page == target_of(a), "a walker finds the page or nothing");
    }
  }
};

// An invalidation as hardware carries it out: when it is done, no walk from before it goes on.
struct invalidation_words {
  explorer::word<std::uint32_t> wanted;
  explorer::word<std::uint32_t> done;
};

inline auto map_and_walk() {
  return [](program& p) {
    const table_model m{p};
    p.thread("driver", [m] {
      check(static_cast<bool>(m.table->map(bus_addr{0}, target_of(0), page)), "the page is mapped");
      check(static_cast<bool>(m.table->map(bus_addr{page}, target_of(page), page)), "and the next");
    });
    p.thread("walker", [m] {
      m.walk(page);
      m.walk(0);
    });
  };
}

// A table is released after the invalidation, or, in a mutant, before.
inline auto unmap_and_walk(bool wait) {
  return [wait](program& p) {
    const table_model m{p};
    auto& words = p.make<invalidation_words>();
    p.name(words.wanted, "the invalidation");
    p.name(words.done, "the end of the invalidation");
    check(static_cast<bool>(m.table->map(bus_addr{0}, target_of(0), page)), "mapped in the setup");
    p.thread("driver", [m, &words, wait] {
      iommu::invalidations<phasebit::bus_space> changes;
      const auto gone = m.table->unmap(bus_addr{0}, region, changes);
      check(gone && *gone == page && changes.retired_tables() == 1,
            "the table is retired with its last page");
      words.wanted.store(1, explorer::strength::release);
      if (wait) await([&] { return words.done.load(explorer::strength::acquire) == 1; });
      m.table->complete(changes);
      check(static_cast<bool>(m.table->map(bus_addr{page}, target_of(page), page)), "mapped anew");
    });
    p.service("walker", [m, &words] {
      m.walk(0);
      const auto wanted = words.wanted.load(explorer::strength::acquire);
      words.done.store(wanted, explorer::strength::release);
      m.walk(0);
      m.walk(page);
      await([&] { return words.wanted.load(explorer::strength::acquire) == 1; });
      words.done.store(1, explorer::strength::release);
      m.walk(0);
    });
  };
}

// Two mappers in the tables of the same region, and a walker.
inline auto two_mappers(bool walked) {
  return [walked](program& p) {
    const table_model m{p, {.who = iommu::mappers::concurrent}};
    auto mapper = [m](std::uint64_t a) {
      return [m, a] {
        check(static_cast<bool>(m.table->map(bus_addr{a}, target_of(a), page)), "mapped");
        const auto found = m.table->lookup(bus_addr{a});
        check(found.status == iommu::walk_status::mapped && found.page == target_of(a),
              "a mapper finds its own page");
        const auto gone = m.table->unmap(bus_addr{a}, page);
        check(gone && *gone == page, "unmapped");
      };
    };
    p.thread("first mapper", mapper(0));
    p.thread("second mapper", mapper(page));
    if (walked) {
      p.thread("walker", [m] {
        m.walk(0);
        m.walk(page);
      });
    }
  };
}

// Permissions change and dirty bits are taken while the hardware sets dirty bits.
inline auto dirty_and_protect() {
  return [](program& p) {
    const table_model m{p};
    check(static_cast<bool>(m.table->map(bus_addr{0}, target_of(0), page)), "mapped in the setup");
    auto& taken = p.make<unsigned>(0U);
    const std::uint64_t e = m.table->lookup(bus_addr{0}).entry;
    auto& root = *m.tables->find(m.table->root(), page);
    auto* const leaf = m.tables->find(host_phys{small_format::table_address(root)}, page);
    p.thread("driver", [m, &taken] {
      iommu::invalidations<phasebit::bus_space> changes;
      auto count = [&](const auto&) noexcept { taken = taken + 1; };
      static_cast<void>(m.table->take_dirty(bus_addr{0}, page, changes, count));
      static_cast<void>(
          m.table->protect(bus_addr{0}, page, phasebit::access::read, false, changes));
    });
    p.thread("hardware", [leaf, e] {
      std::uint64_t there = e;
      std::atomic_ref word{*leaf};
      while (!word.compare_exchange_strong(there, there | 8, std::memory_order_relaxed)) {
      }
    });
    p.finally([m, &taken] {
      const auto found = m.table->lookup(bus_addr{0});
      const unsigned left = small_format::dirty(found.entry) ? 1 : 0;
      check(taken + left == 1, "a dirty bit is taken once or still there");
      check(found.permissions == 1, "the new permissions are there");
    });
  };
}

// A large page is split while a walker looks for it and hardware sets its dirty bit.
inline auto split_and_walk() {
  return [](program& p) {
    const table_model m{p};
    check(static_cast<bool>(m.table->map(bus_addr{0}, target_of(0), region)),
          "mapped in the setup");
    auto& marked = p.make<bool>(false);
    const std::uint64_t e = m.table->lookup(bus_addr{0}).entry;
    auto* const slot = m.tables->find(m.table->root(), page);
    p.thread("driver", [m] {
      iommu::invalidations<phasebit::bus_space> changes;
      check(static_cast<bool>(m.table->split(bus_addr{page}, changes)), "the page is split");
    });
    p.thread("walker", [m] {
      const auto found = m.table->lookup(bus_addr{page});
      check(found.status == iommu::walk_status::mapped, "a split page is mapped at all times");
    });
    p.thread("hardware", [slot, e, &marked] {
      std::uint64_t there = e;
      std::atomic_ref word{*slot};
      if (word.compare_exchange_strong(there, there | 8, std::memory_order_relaxed)) marked = true;
    });
    p.finally([m, &marked] {
      check(!marked || small_format::dirty(m.table->lookup(bus_addr{page}).entry),
            "a dirty bit that was set is still there");
    });
  };
}

// A machine of 32 bits writes an entry in halves and counts its writes; the code for it runs here, too.
inline auto in_halves(std::array<std::uint64_t, 3> values) {
  return [values](program& p) {
    auto& entry = p.make<iommu::table_word>(values[0]);
    auto& writes = p.make<iommu::detail::write_record>();
    p.atomic(entry);
    p.atomic(writes);
    p.name_bytes(&entry, 4, "the low half");
    p.name_bytes(reinterpret_cast<std::byte*>(&entry) + 4, 4, "the high half");
    p.name(writes.count, "the count of writes");
    p.name(writes.word, "the word that is written");
    p.thread("driver", [&entry, &writes, values] {
      const iommu::detail::halves word{&entry, writes};
      word.store(values[1]);
      word.store(values[2]);
    });
    p.thread("walker", [&entry, &writes, values] {
      const std::uint64_t seen = iommu::detail::halves{&entry, writes}.load();
      check(seen == 0 || seen == values[0] || seen == values[1] || seen == values[2],
            "an entry is old, new or absent");
    });
  };
}

}  // namespace model
