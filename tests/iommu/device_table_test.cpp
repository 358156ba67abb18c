// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/amd/device_table.hpp>
#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/device_table.hpp>
#include <phasebit/iommu/smmuv3/device_table.hpp>
#include <phasebit/iommu/vtd/device_table.hpp>
#include <phasebit/iommu/vtd/device_table_scalable.hpp>
#include <phasebit/iommu/vtd/spec/interrupt_tables.hpp>

#include <cstddef>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::iommu;

namespace {

struct store {
  static constexpr std::uint64_t base = 0x12'0000'0000;
  std::vector<std::byte> bytes = std::vector<std::byte>((64 + 1) << 12);
  table_arena<64> arena{aligned(), host_phys{base}};

  std::span<std::byte> aligned() noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(bytes.data());
    return {bytes.data() + ((4096 - at % 4096) % 4096), std::size_t{64} << 12};
  }
};

template <class Layout, class Make>
void holds_every_id(const Layout& layout, const Make& make) {
  store r;
  {
    auto table = device_table<Layout, table_arena<64>>::create(layout, r.arena);
    REQUIRE(table);
    // Few enough directories for the arena.
    const std::uint32_t end = 1U << (layout.id_bits() < 11 ? layout.id_bits() : 11);
    for (std::uint32_t id = 0; id < end; id += 37) REQUIRE(table->set(id, make(id)));
    for (std::uint32_t id = 0; id < end; ++id) {
      using entry = typename Layout::entry;
      CHECK(table->get(id) == (id % 37 == 0 ? make(id) : entry{}));
    }
    if (layout.id_bits() < 32) {
      CHECK(table->set(1U << layout.id_bits(), make(0)).error().code == errc::out_of_range);
      CHECK(find_device_entry(layout, r.arena, table->root(), 1U << layout.id_bits()).status ==
            walk_status::beyond_width);
    }
  }
  CHECK(r.arena.used() == 0);
}

// The states visible to hardware: every state that the words of an entry pass through.
template <class Entry>
struct watched {
  alignas(64) table_word words[8]{};
  [[nodiscard]] Entry now() const noexcept { return load_entry_words<Entry>(words); }
};

}  // namespace

TEST_CASE("words of entries are laid out as the specifications print them") {
  using vtd::context_entry;
  const auto c = context_entry::translated(0x1234'5000, vtd_width::bits_48, 0xabcd);
  CHECK(c.words[0].get() == 0x1234'5001);
  CHECK(c.words[1].get() == 0xabcd02);
  CHECK(context_entry::pass_through(vtd_width::bits_39, 1).words[0].get() == 0x9);
  CHECK(vtd::root_entry::at(0x7000).words[0].get() == 0x7001);
  const auto p = vtd::pasid_entry::second_stage(0x8000, vtd_width::bits_39, 7);
  CHECK(p.words[0].get() == 0x8085);
  CHECK(p.words[1].get() == 7);
  CHECK(vtd::pasid_entry::first_stage(0x9000, true, 7).words[2].get() == 0x9004);
  CHECK(vtd::pasid_entry::pass_through(7).words[0].get() == 0x101);
  CHECK(vtd::scalable_context_entry::with_directory(0x9000, 3, 5, true).words[0].get() == 0x9609);
  const auto irte = vtd::interrupt_entry::fixed(0x41, 3, 0x0420);
  CHECK(irte.words[0].get() == 0x0000'0300'0041'0001);
  CHECK(irte.words[1].get() == 0x4'0420);
  CHECK(vtd::remappable_address::of(0x8123, true).raw == (0xfee0'0000U | 0x123 << 5 | 0x1c));
  CHECK(vtd::remappable_address::of(0x8123, true).handle() == 0x8123);

  const auto d = amd::device_table_entry::translated(0x6000, 4, 9);
  CHECK(d.words[0].get() == 0x6000'0000'0000'6803);
  CHECK(d.words[1].get() == 9);
  CHECK(d.with_interrupts(0x4080, 8).words[2].get() == (0x2000'0000'0000'4080 | 8 << 1 | 1));
  CHECK(amd::device_table_entry::blocked(1).words[0].get() == 3);
  CHECK(amd::interrupt_entry::fixed(0x41, 3).raw == 0x0041'0301);
  CHECK(amd::wide_interrupt_entry::fixed(0x41, 0x1200'0003).words[0].get() == 0x301);
  CHECK(amd::wide_interrupt_entry::fixed(0x41, 0x1200'0003).words[1].get() ==
        0x1200'0000'0000'0041);
  CHECK(amd::device_table_entries(0x1ff) == 0x1'0000);

  const auto s = smmuv3::stream_table_entry::translated(
      smmuv3::stage2_of(arm_stage2<12>{.ipa_bits = 40, .concatenate = true}, 0x10000, 3));
  CHECK(s.words[0].get() == 0xd);
  // VTCR: T0SZ 24, SL0 1 (begins at level 1), inner-shareable write-back, 4 KiB, 48 bits.
  CHECK(s.words[2].get() ==
        (3 | std::uint64_t{24 | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | 5 << 16} << 32 |
         std::uint64_t{1} << 51 | std::uint64_t{1} << 54 | std::uint64_t{1} << 58));
  CHECK(s.words[3].get() == 0x10000);
  CHECK(smmuv3::level1_descriptor::at(0x1'0000, 8).words[0].get() == 0x1'0009);

  const auto r = riscv::device_context::translated(0x4000, riscv_mode::sv48x4, 5);
  CHECK(r.words[0].get() == 1);
  CHECK(r.words[1].get() == 0x9000'5000'0000'0004);
  const auto m = r.with_msi_table(0x3000, 0x3, 0x28000);
  CHECK(m.words[4].get() == 0x1000'0000'0000'0003);
  CHECK(m.words[5].get() == 3);
  CHECK(m.words[6].get() == 0x28000);
  CHECK(riscv::directory_entry::at(0x5000).words[0].get() == 0x1401);
  CHECK(riscv::msi_entry::to_file(0x5000).words[0].get() == 0x1407);
}

TEST_CASE("a device table of every layout finds what was set, and gives its tables back") {
  holds_every_id(vtd::legacy_tables{}, [](std::uint32_t id) {
    return vtd::context_entry::translated(std::uint64_t{id} << 12, vtd_width::bits_48, 1);
  });
  holds_every_id(vtd::scalable_tables{}, [](std::uint32_t id) {
    return vtd::scalable_context_entry::with_directory(std::uint64_t{id} << 12, 0);
  });
  holds_every_id(vtd::pasid_tables{}, [](std::uint32_t id) {
    return vtd::pasid_entry::second_stage(std::uint64_t{id} << 12, vtd_width::bits_48, 1);
  });
  holds_every_id(amd::linear_device_table{.log2_entries = 12}, [](std::uint32_t id) {
    return amd::device_table_entry::translated(std::uint64_t{id} << 12, 4, 1);
  });
  holds_every_id(smmuv3::linear_stream_table{.log2_entries = 11}, [](std::uint32_t id) {
    return smmuv3::stream_table_entry::translated({.root = std::uint64_t{id} << 12});
  });
  holds_every_id(smmuv3::two_level_stream_table{}, [](std::uint32_t id) {
    return smmuv3::stream_table_entry::translated({.root = std::uint64_t{id} << 12});
  });
  holds_every_id(riscv::base_directory{riscv::directory_mode::three_levels}, [](std::uint32_t id) {
    return riscv::base_device_context::of(
        riscv::device_context::translated(std::uint64_t{id} << 14, riscv_mode::sv39x4, 1));
  });
  holds_every_id(riscv::extended_directory{riscv::directory_mode::one_level}, [](std::uint32_t id) {
    return riscv::device_context::translated(std::uint64_t{id} << 14, riscv_mode::sv39x4, 1);
  });
}

TEST_CASE("an entry that hardware may have cached is closed and forgotten before it is rewritten") {
  using vtd::context_entry;
  watched<context_entry> w;
  unsigned asked = 0;
  const auto first = context_entry::translated(0x1000, vtd_width::bits_48, 1);
  const auto second = context_entry::translated(0x2000, vtd_width::bits_48, 2);
  replace_entry(w.words, first, [&]() noexcept { ++asked; });
  CHECK(asked == 0);  // nothing was there that could have been cached
  CHECK(w.now() == first);
  replace_entry(w.words, second, [&]() noexcept {
    ++asked;
    CHECK_FALSE(w.now()[context_entry::p]);
  });
  CHECK(asked == 1);
  CHECK(w.now() == second);
  replace_entry(w.words, second, [&]() noexcept { ++asked; });
  CHECK(asked == 1);  // nothing changes
  replace_entry(w.words, second.with(context_entry::did, 9), [&]() noexcept {
    ++asked;
    CHECK(w.now()[context_entry::p]);  // one word: never absent
  });
  CHECK(asked == 2);
  replace_entry(w.words, context_entry{}, [&]() noexcept {
    ++asked;
    CHECK_FALSE(w.now()[context_entry::p]);
  });
  CHECK(asked == 3);
  CHECK(w.now() == context_entry{});
}

TEST_CASE("an AMD entry is never all zeros while it changes: that would let everything through") {
  using amd::device_table_entry;
  watched<device_table_entry> w;
  unsigned asked = 0;
  const auto shut = [&]() noexcept {
    // Once while it is shut, and once when it is as it shall be.
    if (++asked % 2 == 0) return;
    const auto e = w.now();
    CHECK(e[device_table_entry::v]);
    CHECK(e[device_table_entry::tv]);
    CHECK(e[device_table_entry::mode] == 0);
    CHECK_FALSE(e[device_table_entry::ir]);
    CHECK_FALSE(e[device_table_entry::iw]);
  };
  // Zeros are an open entry here.
  replace_entry(w.words, device_table_entry::translated(0x1000, 4, 1), shut);
  replace_entry(w.words, device_table_entry::translated(0x2000, 3, 2).with_interrupts(0x80, 3),
                shut);
  CHECK(asked == 4);
}

TEST_CASE("regression: a blocking AMD entry was treated as one that is never cached") {
  using amd::device_table_entry;
  watched<device_table_entry> w;
  unsigned asked = 0;
  replace_entry(w.words, device_table_entry::blocked(), [&]() noexcept { ++asked; });
  CHECK(asked == 1);
  // It is valid: the change that opens it again needs an invalidation.
  replace_entry(w.words, device_table_entry::translated(0x2000, 3, 2), [&]() noexcept {
    ++asked;
    CHECK(w.now()[device_table_entry::ir]);
  });
  CHECK(asked == 2);
}

TEST_CASE("an SMMU stream is aborted without events while its entry changes") {
  using smmuv3::stream_table_entry;
  watched<stream_table_entry> w;
  unsigned asked = 0;
  replace_entry(w.words, stream_table_entry::translated({.root = 0x1000, .vmid = 1}),
                [&]() noexcept { ++asked; });
  CHECK(asked == 1);  // entries that are not valid may be cached, too
  asked = 0;
  replace_entry(w.words, stream_table_entry::translated({.root = 0x2000, .vmid = 2}),
                [&]() noexcept {
                  if (++asked != 1) return;
                  CHECK(w.now()[stream_table_entry::v]);
                  CHECK(w.now()[stream_table_entry::config] == smmuv3::stream_config::abort);
                });
  CHECK(asked == 2);
}

TEST_CASE("directories that lead out of memory, or hold reserved bits, end where they are") {
  store r;
  auto table = *device_table<vtd::legacy_tables, table_arena<64>>::create({}, r.arena);
  REQUIRE(table.set(0x0420, vtd::context_entry::translated(0x1000, vtd_width::bits_48, 1)));
  table_word* const root = r.arena.find(table.root(), 4096);
  const auto status = [&] {
    return find_device_entry(vtd::legacy_tables{}, r.arena, table.root(), 0x0420).status;
  };
  CHECK(status() == walk_status::mapped);
  root[8] |= 0x800;
  CHECK(status() == walk_status::malformed);
  root[8] = 0xdead'0000'0001;
  CHECK(status() == walk_status::unreadable);
  root[8] = 0;
  CHECK(status() == walk_status::absent);
  // A directory that is its own child ends at level 0 like any other.
  auto deep = *device_table<riscv::extended_directory, table_arena<64>>::create(
      {riscv::directory_mode::three_levels}, r.arena);
  table_word* const top = r.arena.find(deep.root(), 4096);
  for (int i = 0; i != 512; ++i) {
    top[i] = riscv::directory_entry::at(deep.root().value()).words[0].get();
  }
  const auto place = find_device_entry(
      riscv::extended_directory{riscv::directory_mode::three_levels}, r.arena, deep.root(), 0x0420);
  CHECK(place.status == walk_status::mapped);
  CHECK(place.level == 0);
  for (int i = 0; i != 512; ++i) top[i] = 0;
}
