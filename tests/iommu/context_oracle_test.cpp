// SPDX-License-Identifier: BSL-1.0
// From a requester to its entry's contents, compared with an independent oracle for each
// architecture: written from the text of its specification on raw words, and sharing no code with
// the layouts. Contexts and directories are random, valid or with bits flipped.
#include <phasebit/iommu/amd/translation.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/translation.hpp>
#include <phasebit/iommu/smmuv3/translation.hpp>
#include <phasebit/iommu/vtd/translation.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit::iommu {

namespace {

constexpr std::uint64_t base = 0x12'0000'0000;
constexpr std::size_t pages = 96;

constexpr std::uint64_t bits(std::uint64_t value, unsigned high, unsigned low) {
  return value >> low & (~std::uint64_t{0} >> (63 - (high - low)));
}
constexpr bool bit(std::uint64_t value, unsigned n) { return (value >> n & 1) != 0; }

// Memory as an IOMMU reads it, and the words that a resolution has read.
struct memory {
  using arena_type = table_arena<pages>;
  std::unique_ptr<std::byte, decltype(&std::free)> bytes{
      static_cast<std::byte*>(std::aligned_alloc(1 << 17, 1 << 19)), &std::free};
  arena_type arena{{bytes.get(), pages << 12}, host_phys{base}};
  std::vector<std::uint64_t> read;

  memory() { std::memset(bytes.get(), 0, 1 << 19); }
  [[nodiscard]] bool holds(std::uint64_t at, std::uint64_t size) const {
    return at >= base && at - base < pages << 12 && size <= (pages << 12) - (at - base);
  }
  [[nodiscard]] std::uint64_t word(std::uint64_t at) {
    read.push_back(at);
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.get() + (at - base), 8);
    return value;
  }
  void set(std::uint64_t at, std::uint64_t value) {
    REQUIRE(holds(at, 8));
    std::memcpy(bytes.get() + (at - base), &value, 8);
  }
  [[nodiscard]] static constexpr std::uint64_t page(std::size_t n) { return base + (n << 12); }
};

// The result of a resolution. `codes`: the faults that the specification allows if several errors
// occur at once; empty if there is none.
struct outcome {
  std::vector<unsigned> codes;
  bool report = true;
  translation_kind kind = translation_kind::tables;
  std::uint64_t root = 0;
  unsigned domain = 0;
  unsigned width = 0;
  unsigned permissions = 3;
  bool checks_domain = true;

  static outcome fault(unsigned code, bool report = true) {
    outcome o;
    o.codes = {code};
    o.report = report;
    return o;
  }
};

using random_type = std::mt19937_64;

// VT-d 4.1, 3.4.2 and 9.1, 9.3: legacy mode, addresses of 46 bits, tables of 48 and 39 bits, pass-through, no
// device TLBs.
struct vtd_legacy {
  using architecture = vtd::remapping;
  static constexpr unsigned bus_of(std::uint16_t id) { return id >> 8; }
  static architecture settings() {
    architecture a;
    a.enabled = true;
    a.root = base;
    return a;
  }
  static outcome resolve(memory& m, const dma_request& q) {
    const std::uint16_t id = q.requester.raw();
    if (q.has_pasid) return outcome::fault(0x31);
    const std::uint64_t root = base + std::uint64_t{bus_of(id)} * 16;
    const std::uint64_t r0 = m.word(root);
    const std::uint64_t r1 = m.word(root + 8);
    if (!bit(r0, 0)) return outcome::fault(0x01);
    if (bits(r0, 11, 1) != 0 || r1 != 0) return outcome::fault(0x0a);
    const std::uint64_t at = (r0 & ~std::uint64_t{0xfff}) + (id & 255U) * 16U;
    if (!m.holds(at, 16)) return outcome::fault(0x09);
    const std::uint64_t lo = m.word(at);
    const std::uint64_t hi = m.word(at + 8);
    const bool report = !bit(lo, 1);
    if (!bit(lo, 0)) return outcome::fault(0x02, report);
    outcome o;
    o.report = report;
    if (bits(lo, 11, 4) != 0 || bit(hi, 7) || bits(hi, 63, 24) != 0) o.codes.push_back(0x0b);
    const auto aw = bits(hi, 2, 0);
    const auto tt = bits(lo, 3, 2);
    if ((aw != 1 && aw != 2) || tt == 1 || tt == 3) o.codes.push_back(0x03);
    const std::uint64_t table = lo & ~std::uint64_t{0xfff};
    if (tt == 0 && table >> 46 != 0) o.codes.push_back(0x0b);
    o.kind = tt == 2 ? translation_kind::untranslated : translation_kind::tables;
    o.root = tt == 2 ? 0 : table;
    o.domain = static_cast<unsigned>(bits(hi, 23, 8));
    o.width = static_cast<unsigned>(aw);
    return o;
  }
  static void fill(memory& m, random_type& random) {
    for (unsigned bus = 0; bus != 8; ++bus) {
      if (random() % 8 == 0) continue;
      m.set(base + bus * 16, memory::page(2 + bus) | 1);
      for (unsigned n = 0; n != 256; ++n) {
        if (random() % 4 == 0) continue;
        const std::uint64_t tt = random() % 4 == 0 ? 2 : 0;
        m.set(memory::page(2 + bus) + n * 16,
              (random() & 0x3fff'ffff'f000) | tt << 2 | (random() % 4 == 0 ? 2 : 0) | 1);
        m.set(memory::page(2 + bus) + n * 16 + 8,
              (random() & 0xffff) << 8 | (1 + random() % 2) | (random() & 0x78));
      }
    }
  }
  static unsigned width(const architecture::context& c) { return c.width; }
};

// VT-d 4.1, 3.4.3 and 9.2, 9.4 to 9.6: scalable mode with first stage of four levels and second stage, no
// accessed and dirty bits of the second stage.
struct vtd_scalable : vtd_legacy {
  static architecture settings() {
    architecture a = vtd_legacy::settings();
    a.mode = vtd::table_mode::scalable;
    return a;
  }
  static outcome resolve(memory& m, const dma_request& q) {
    const std::uint16_t id = q.requester.raw();
    const std::uint64_t half = m.word(base + std::uint64_t{bus_of(id)} * 16 + (bit(id, 7) ? 8 : 0));
    if (!bit(half, 0)) return outcome::fault(0x39);
    if (bits(half, 11, 1) != 0) return outcome::fault(0x3a);
    const std::uint64_t at = (half & ~std::uint64_t{0xfff}) + (id & 127U) * 32U;
    if (!m.holds(at, 32)) return outcome::fault(0x40);
    std::uint64_t c[4];
    for (unsigned i = 0; i != 4; ++i) c[i] = m.word(at + 8 * i);
    outcome o;
    o.report = !bit(c[0], 1);
    if (!bit(c[0], 0)) return outcome::fault(0x41, o.report);
    if (bits(c[0], 8, 5) != 0 || bits(c[1], 63, 21) != 0 || (c[2] | c[3]) != 0)
      o.codes.push_back(0x42);
    if (bit(c[0], 2) || bit(c[0], 4)) o.codes.push_back(0x43);
    if (q.has_pasid && !bit(c[0], 3)) o.codes.push_back(0x45);
    if (!o.codes.empty()) return o;
    const auto pasid = q.has_pasid ? q.pasid : static_cast<std::uint32_t>(bits(c[1], 19, 0));
    if (pasid >> 6 >= 1U << (bits(c[0], 11, 9) + 7)) return outcome::fault(0x46, o.report);
    const std::uint64_t link_at = (c[0] & ~std::uint64_t{0xfff}) + std::uint64_t{pasid >> 6} * 8;
    if (!m.holds(link_at, 8)) return outcome::fault(0x50, o.report);
    const std::uint64_t link = m.word(link_at);
    if (!bit(link, 0)) return outcome::fault(0x51, o.report);
    if (bits(link, 11, 2) != 0) return outcome::fault(0x52, o.report);
    const std::uint64_t entry = (link & ~std::uint64_t{0xfff}) + (pasid & 63U) * 64U;
    if (!m.holds(entry, 64)) return outcome::fault(0x58, o.report);
    std::uint64_t p[8];
    for (unsigned i = 0; i != 8; ++i) p[i] = m.word(entry + 8 * i);
    if (bit(p[0], 1)) o.report = false;
    if (!bit(p[0], 0)) return outcome::fault(0x59, o.report);
    if (bits(p[0], 11, 10) != 0 || bits(p[1], 22, 16) != 0 || bits(p[2], 11, 8) != 0 ||
        (p[3] | p[4] | p[5] | p[6] | p[7]) != 0) {
      o.codes.push_back(0x5a);
    }
    o.domain = static_cast<unsigned>(bits(p[1], 15, 0));
    switch (bits(p[0], 8, 6)) {
      case 1:
        if (bits(p[2], 3, 2) != 0) o.codes.push_back(0x5b);
        o.root = p[2] & ~std::uint64_t{0xfff};
        break;
      case 2:
        o.width = static_cast<unsigned>(bits(p[0], 4, 2));
        if (o.width != 1 && o.width != 2) o.codes.push_back(0x5b);
        if (bit(p[0], 9)) o.codes.push_back(0x5a);
        o.root = p[0] & ~std::uint64_t{0xfff};
        break;
      case 4:
        o.kind = translation_kind::untranslated;
        break;
      default:
        o.codes.push_back(0x5b);
        break;
    }
    if (o.root >> 46 != 0) o.codes.push_back(0x5a);
    return o;
  }
  static void fill(memory& m, random_type& random) {
    for (unsigned half = 0; half != 16; ++half) {
      if (random() % 8 == 0) continue;
      m.set(base + half * 8, memory::page(2 + half) | 1);
      for (unsigned n = 0; n != 128; ++n) {
        if (random() % 4 == 0) continue;
        // One of four directories of one or two pages.
        const std::uint64_t directory = memory::page(20 + 2 * (random() % 4));
        m.set(memory::page(2 + half) + n * 32, directory | (random() % 3) << 9 |
                                                   (random() % 2) << 3 |
                                                   (random() % 4 == 0 ? 2 : 0) | 1);
        m.set(memory::page(2 + half) + n * 32 + 8, random() % 512);
      }
    }
    for (unsigned d = 0; d != 4; ++d) {
      for (unsigned n = 0; n != 8; ++n) {
        if (random() % 6 == 0) continue;
        const std::uint64_t table = memory::page(30 + 8 * d + n);
        m.set(memory::page(20 + 2 * d) + 8 * n, table | 1);
        for (unsigned e = 0; e != 64; ++e) {
          if (random() % 4 == 0) continue;
          const std::uint64_t type = random() % 3 == 0 ? 4 : 1 + random() % 2;
          m.set(table + e * 64, (type == 2 ? random() & 0x3fff'ffff'f000 : 0) | type << 6 |
                                    (1 + random() % 2) << 2 | (random() % 4 == 0 ? 2 : 0) | 1);
          m.set(table + e * 64 + 8, (random() & 0xffff'ffff'ff80'ffff));
          m.set(table + e * 64 + 16,
                (type == 1 ? random() & 0x3fff'ffff'f000 : 0) | (random() & 0xf3));
        }
      }
    }
  }
};

// AMD 48882 3.08, 2.2.2 (tables 6 and 7) and 2.5.3: 1024 requesters, host tables, accessed and dirty bits.
struct amd_linear {
  using architecture = amd::remapping;
  static architecture settings() {
    architecture a;
    a.enabled = true;
    a.device_table = base;
    a.size_field = 7;
    a.set_dirty = true;
    return a;
  }
  static outcome resolve(memory& m, const dma_request& q) {
    const std::uint32_t id = q.requester.raw();
    if (id >= 1024) return outcome::fault(1);
    std::uint64_t e[4];
    for (unsigned i = 0; i != 4; ++i) e[i] = m.word(base + std::uint64_t{id} * 32 + 8 * i);
    outcome o;
    const bool bad_interrupts = bit(e[2], 0) && (bits(e[2], 55, 52) != 0 || bits(e[2], 4, 1) > 11 ||
                                                 bits(e[2], 61, 60) == 3);
    if (bad_interrupts) o.codes.push_back(1);
    if (!bit(e[0], 0)) {
      o.kind = translation_kind::untranslated;
      o.checks_domain = false;
      return o;
    }
    const bool silent = bit(e[1], 34);  // SA
    if (bits(e[0], 6, 2) != 0 || bit(e[0], 63)) o.codes.push_back(1);
    const auto mode = bits(e[0], 11, 9);
    if (bit(e[0], 1)) {
      if (mode == 7 || bit(e[0], 55) || bit(e[1], 32) || bits(e[0], 8, 7) == 2)
        o.codes.push_back(1);
    }
    if (!bit(e[0], 1) || q.has_pasid) {
      o.codes.push_back(2);
      // Only page faults are suppressed.
      if (o.codes.size() == 1) o.report = !silent;
    }
    o.permissions = (bit(e[0], 61) ? 1U : 0U) | (bit(e[0], 62) ? 2U : 0U);
    o.kind = mode == 0 ? translation_kind::untranslated : translation_kind::tables;
    o.root = mode == 0 ? 0 : bits(e[0], 51, 12) << 12;
    o.width = static_cast<unsigned>(mode);
    o.domain = static_cast<unsigned>(bits(e[1], 15, 0));
    return o;
  }
  static void fill(memory& m, random_type& random) {
    for (unsigned id = 0; id != 1024; ++id) {
      const std::uint64_t at = base + id * 32;
      if (random() % 8 == 0) continue;
      m.set(at, (random() & 0x000f'ffff'ffff'f000) | (random() % 7) << 9 |
                    (random() % 4 == 0 ? 3U : random() % 2) << 7 | (random() & 3) << 61 |
                    (random() % 8 == 0 ? 1 : 3));
      m.set(at + 8, (random() & 0xffff) | (random() % 4 == 0 ? std::uint64_t{1} << 34 : 0));
      m.set(at + 16, random() % 2 == 0 ? 0
                                       : (random() & 0x000f'ffff'ffff'ffc0) | (random() % 12) << 1 |
                                             (random() % 3) << 60 | 1);
    }
  }
  static unsigned width(const architecture::context& c) { return c.mode; }
};

// Arm IHI 0070, 3.3, 3.4 and 5.2: stage 2 alone, 44 bits of output; a linear table of 1024 entries.
struct smmu_linear {
  using architecture = smmuv3::remapping;
  static architecture settings() {
    architecture a;
    a.enabled = true;
    a.stream_table = base;
    a.log2_streams = 10;
    a.address_bits = 44;
    return a;
  }
  static std::optional<outcome> find(memory&, std::uint32_t id, std::uint64_t& at) {
    if (id >= 1024) return outcome::fault(0x02);
    at = base + std::uint64_t{id} * 64;
    return std::nullopt;
  }
  static outcome entry(memory& m, std::uint64_t at, const dma_request& q) {
    if (!m.holds(at, 64)) return outcome::fault(0x03);
    std::uint64_t e[8];
    for (unsigned i = 0; i != 8; ++i) e[i] = m.word(at + 8 * i);
    outcome o;
    if (!bit(e[0], 0)) return outcome::fault(0x04);
    const auto config = bits(e[0], 3, 1);
    if (config < 4) {
      o.kind = translation_kind::silent;
      o.checks_domain = false;
      return o;
    }
    if (config == 5 || config == 7) o.codes.push_back(0x04);
    if (config == 6) {
      // 5.2, S2T0SZ, S2SL0, S2TG: the first table resolves at least one bit, and is at most sixteen tables.
      const std::uint64_t w = e[2];
      const auto granule = bits(w, 47, 46);
      const unsigned low = granule == 0 ? 12 : granule == 1 ? 16 : 14;
      const unsigned stride = low - 3;
      const auto sl0 = static_cast<unsigned>(bits(w, 39, 38));
      const unsigned input = 64 - static_cast<unsigned>(bits(w, 37, 32));
      const bool reserved = granule == 3 || sl0 == 3 || input < 25 || input > 48;
      bool start = false;
      if (!reserved) {
        const unsigned level = (low == 12 ? 2 : 3) - sl0;
        const unsigned below = low + stride * (3 - level);
        start = input > below && input <= below + stride + 4;
      }
      if (reserved || !start || !bit(w, 51) || bit(w, 52) || bit(w, 57)) o.codes.push_back(0x04);
      o.root = bits(e[3], 51, 4) << 4;
      o.domain = static_cast<unsigned>(bits(w, 15, 0));
      o.width = input;
    } else {
      o.kind = translation_kind::untranslated;
      o.checks_domain = false;
    }
    if (q.has_pasid) o.codes.push_back(0x08);
    return o;
  }
  static outcome resolve(memory& m, const dma_request& q) {
    std::uint64_t at = 0;
    if (const auto failed = find(m, q.requester.raw(), at)) return *failed;
    return entry(m, at, q);
  }
  static void fill_entry(memory& m, random_type& random, std::uint64_t at) {
    if (random() % 8 == 0) return;
    const std::uint64_t config = random() % 2 == 0 ? 6 : random() % 8;
    m.set(at, config << 1 | 1 | (random() & 0x00ff'ffff'ffff'fff0));
    const std::uint64_t granule = random() % 3;
    m.set(at + 16, (random() & 0xffff) | (16 + random() % 24) << 32 | (random() % 3) << 38 |
                       granule << 46 | (random() % 8) << 48 | std::uint64_t{1} << 51 |
                       (random() & 0x05e0'0000'0000'0000));
    m.set(at + 24, random() & 0x000f'ffff'ffff'fff0);
  }
  static void fill(memory& m, random_type& random) {
    for (unsigned id = 0; id != 1024; ++id) fill_entry(m, random, base + id * 64);
  }
  static unsigned width(const architecture::context& c) { return c.ipa_bits; }
};

// IHI 0070, 3.3.2 and 5.1: the same in two levels of 6 bits below.
struct smmu_two_level : smmu_linear {
  static architecture settings() {
    architecture a = smmu_linear::settings();
    a.split = 6;
    return a;
  }
  static outcome resolve(memory& m, const dma_request& q) {
    const std::uint32_t id = q.requester.raw();
    if (id >= 1024) return outcome::fault(0x02);
    const std::uint64_t link = m.word(base + std::uint64_t{id >> 6} * 8);
    const auto span = bits(link, 4, 0);
    if (span == 0 || span > 7 || (id & 63) >= 1U << (span - 1)) return outcome::fault(0x02);
    const std::uint64_t size = std::uint64_t{64} << (span - 1);
    const std::uint64_t table = (bits(link, 55, 6) << 6) & ~(size - 1);
    return entry(m, table + (id & 63U) * 64U, q);
  }
  static void fill(memory& m, random_type& random) {
    for (unsigned n = 0; n != 16; ++n) {
      if (random() % 8 == 0) continue;
      m.set(base + n * 8, memory::page(2 + n) | (random() % 4 == 0 ? random() % 8 : 7));
      for (unsigned i = 0; i != 64; ++i) fill_entry(m, random, memory::page(2 + n) + i * 64);
    }
  }
};

// RISC-V IOMMU 1.0, 2.1 and 2.3: contexts of 64 bytes in three levels; second stage and flat MSI tables alone.
struct riscv_extended {
  using architecture = riscv::remapping;
  static architecture settings() {
    architecture a;
    a.mode = riscv::directory_mode::three_levels;
    a.directory = base;
    return a;
  }
  static outcome resolve(memory& m, const dma_request& q) {
    const std::uint32_t id = q.requester.raw();
    std::uint64_t table = base;
    for (const std::uint32_t index : {id >> 15, id >> 6 & 511}) {
      if (!m.holds(table + std::uint64_t{index} * 8, 8)) return outcome::fault(257);
      const std::uint64_t link = m.word(table + std::uint64_t{index} * 8);
      if (!bit(link, 0)) return outcome::fault(258);
      if (bits(link, 9, 1) != 0 || bits(link, 63, 54) != 0) return outcome::fault(259);
      table = bits(link, 53, 10) << 12;
    }
    return entry(m, table + (id & 63U) * 64U, 8, q);
  }
  // Contexts of 32 bytes, without capabilities.MSI_FLAT, have the first four words.
  static outcome entry(memory& m, std::uint64_t at, unsigned words, const dma_request& q) {
    if (!m.holds(at, std::uint64_t{words} * 8)) return outcome::fault(257);
    std::uint64_t c[8] = {};
    for (unsigned i = 0; i != words; ++i) c[i] = m.word(at + 8 * i);
    outcome o;
    // DTF suppresses faults that do not concern the directory itself (2.1.3.1): all of these stay
    // reported.
    if (!bit(c[0], 0)) return outcome::fault(258);
    const bool pdtv = bit(c[0], 5);
    const auto mode = bits(c[1], 63, 60);
    const bool reserved = bits(c[0], 23, 12) != 0 || bits(c[0], 63, 32) != 0 ||
                          bits(c[2], 11, 0) != 0 || bits(c[2], 39, 32) != 0 ||
                          bits(c[3], 59, 44) != 0 || bits(c[4], 59, 44) != 0 ||
                          bits(c[5], 63, 52) != 0 || bits(c[6], 63, 52) != 0 || c[7] != 0;
    // QOSID, ATS, T2GPA, PRPR, SADE, GADE, DPE without PDTV, SBE, SXL, a first stage or process directory.
    const bool missing = bits(c[2], 63, 40) != 0 || bits(c[0], 3, 1) != 0 ||
                         bits(c[0], 8, 6) != 0 || (bit(c[0], 9) && !pdtv) ||
                         bits(c[0], 11, 10) != 0 || bits(c[3], 63, 60) != 0;
    const bool stage = mode != 0 && (mode < 8 || mode > 10 || bits(c[1], 1, 0) != 0);
    if (reserved || missing || stage || bits(c[4], 63, 60) > 1) o.codes.push_back(259);
    if (q.has_pasid && !pdtv) {
      o.codes.push_back(260);
      // 3.2: DTF suppresses 260 only.
      if (o.codes.size() == 1 && bit(c[0], 4)) o.report = false;
    }
    if (o.codes.empty()) o.report = !bit(c[0], 4);
    const bool msi = bits(c[4], 63, 60) == 1;
    o.kind = mode == 0 && !msi ? translation_kind::untranslated : translation_kind::tables;
    o.root = bits(c[1], 43, 0) << 12;  // not used in bare mode
    o.domain = mode == 0 ? 0 : static_cast<unsigned>(bits(c[1], 59, 44));
    o.width = static_cast<unsigned>(mode);
    return o;
  }
  static void fill(memory& m, random_type& random) {
    m.set(base, (memory::page(1) >> 12) << 10 | 1);
    for (unsigned n = 0; n != 32; ++n) {
      if (random() % 8 == 0) continue;
      m.set(memory::page(1) + n * 8, (memory::page(2 + n) >> 12) << 10 | 1);
      for (unsigned i = 0; i != 64; ++i) {
        if (random() % 6 == 0) continue;
        const std::uint64_t at = memory::page(2 + n) + i * 64;
        const std::uint64_t mode = random() % 4 == 0 ? 0 : 8 + random() % 3;
        m.set(at, 1 | (random() & 0xff00'0030));
        m.set(at + 8, mode << 60 | (random() & 0xffff) << 44 | (random() & 0xfff'ffff'fffc));
        m.set(at + 16, random() & 0xffff'f000);
        m.set(at + 24, random() & 0xfff'ffff'ffff);
        m.set(at + 32, (random() & 0xfff'ffff'ffff) | (random() % 2) << 60);
        m.set(at + 40, random() & 0xf'ffff'ffff'ffff);
        m.set(at + 48, random() & 0xf'ffff'ffff'ffff);
      }
    }
  }
  static unsigned width(const architecture::context& c) { return static_cast<unsigned>(c.mode); }
};

// The same with contexts of 32 bytes: two levels, 9 bits above 7 (2.1), no MSI page tables.
struct riscv_base : riscv_extended {
  static architecture settings() {
    architecture a = riscv_extended::settings();
    a.mode = riscv::directory_mode::two_levels;
    a.msi_flat = false;
    return a;
  }
  static outcome resolve(memory& m, const dma_request& q) {
    const std::uint32_t id = q.requester.raw();
    const std::uint64_t link = m.word(base + std::uint64_t{id >> 7} * 8);
    if (!bit(link, 0)) return outcome::fault(258);
    if (bits(link, 9, 1) != 0 || bits(link, 63, 54) != 0) return outcome::fault(259);
    return entry(m, (bits(link, 53, 10) << 12) + (id & 127U) * 32U, 4, q);
  }
  static void fill(memory& m, random_type& random) {
    for (unsigned n = 0; n != 16; ++n) {
      if (random() % 8 == 0) continue;
      m.set(base + n * 8, (memory::page(1 + n) >> 12) << 10 | 1);
      for (unsigned i = 0; i != 128; ++i) {
        if (random() % 6 == 0) continue;
        const std::uint64_t at = memory::page(1 + n) + i * 32;
        const std::uint64_t mode = random() % 4 == 0 ? 0 : 8 + random() % 3;
        m.set(at, 1 | (random() & 0xff00'0030));
        m.set(at + 8, mode << 60 | (random() & 0xffff) << 44 | (random() & 0xfff'ffff'fffc));
        m.set(at + 16, random() & 0xffff'f000);
        m.set(at + 24, random() & 0xfff'ffff'ffff);
      }
    }
  }
};

template <class Case>
void compare(memory& m, const typename Case::architecture& iommu, const dma_request& q,
             unsigned& good, unsigned& bad) {
  m.read.clear();
  const outcome expected = Case::resolve(m, q);
  typename Case::architecture::context state{};
  const refusal why = iommu.resolve(m.arena, q, state);
  CAPTURE(q.requester.raw());
  CAPTURE(q.pasid);
  CAPTURE(static_cast<int>(why.reason));
  if (!expected.codes.empty()) {
    ++bad;
    REQUIRE(why);
    translation_fault f{.requester = q.requester,
                        .reason = why.reason,
                        .wanted = q.wanted,
                        .has_pasid = q.has_pasid,
                        .pasid = q.pasid,
                        .address = q.address};
    const bool reported = iommu.finish(f, state);
    CAPTURE(expected.codes.front());
    REQUIRE(std::find(expected.codes.begin(), expected.codes.end(), f.code) !=
            expected.codes.end());
    if (expected.codes.size() == 1) REQUIRE(reported == expected.report);
    return;
  }
  ++good;
  REQUIRE_FALSE(why);
  REQUIRE(state.kind == expected.kind);
  REQUIRE(state.report == expected.report);
  REQUIRE(state.permissions == expected.permissions);
  if (expected.checks_domain) REQUIRE(state.domain == expected.domain);
  if (expected.kind != translation_kind::tables) return;
  REQUIRE(state.root == expected.root);
  if (expected.width != 0) REQUIRE(Case::width(state) == expected.width);
}

}  // namespace

TEST_CASE_TEMPLATE(
    "requesters find their entries as a slow resolver does, over valid and flipped tables", Case,
    vtd_legacy, vtd_scalable, amd_linear, smmu_linear, smmu_two_level, riscv_extended, riscv_base) {
  random_type random(11);
  unsigned good = 0;
  unsigned bad = 0;
  for (int round = 0; round != 12; ++round) {
    memory m;
    Case::fill(m, random);
    const auto iommu = Case::settings();
    const auto request = [&] {
      dma_request q;
      q.requester = pcie::requester_id{static_cast<std::uint16_t>(random() % 2100)};
      q.has_pasid = random() % 4 == 0;
      if (q.has_pasid)
        q.pasid = static_cast<std::uint32_t>(random() % (random() % 8 == 0 ? 1U << 20 : 512));
      q.wanted = random() % 2 == 0 ? phasebit::access::read : phasebit::access::write;
      return q;
    };
    for (int n = 0; n != 2000; ++n) compare<Case>(m, iommu, request(), good, bad);
    for (int n = 0; n != 4000; ++n) {
      const dma_request q = request();
      m.read.clear();
      static_cast<void>(Case::resolve(m, q));
      if (m.read.empty()) continue;
      const std::uint64_t at = m.read[random() % m.read.size()];
      const std::uint64_t old = m.word(at);
      std::uint64_t flipped = old;
      for (unsigned flips = 1 + static_cast<unsigned>(random() % 3); flips != 0; --flips) {
        flipped ^= std::uint64_t{1} << random() % 64;
      }
      m.set(at, flipped);
      compare<Case>(m, iommu, q, good, bad);
      m.set(at, old);
    }
  }
  CHECK(good > 5000);
  CHECK(bad > 5000);
}

}  // namespace phasebit::iommu
