// SPDX-License-Identifier: BSL-1.0
// Commands of random fields, encoded and read back: what a codec accepts names at least what was asked, and what
// its IOMMU does not have, or its fields do not hold, is refused.
#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>

#include <array>
#include <cstdint>
#include <random>
#include <set>

#include <doctest/doctest.h>

namespace phasebit::iommu {

namespace {

using random_type = std::mt19937_64;
using kind = command_kind;

// Addresses at the edges of what the fields hold, and others.
std::uint64_t random_address(random_type& random) {
  switch (random() % 4) {
    case 0:
      return random();
    case 1:
      return (std::uint64_t{1} << random() % 64) - random() % 2;
    case 2:
      return ~std::uint64_t{0} - (random() & 0xffff);
    default:
      return random() & 0xf'ffff'ffff;
  }
}

command random_command(random_type& random) {
  constexpr kind kinds[] = {kind::invalidate_translations,
                            kind::invalidate_everything,
                            kind::invalidate_device,
                            kind::invalidate_process,
                            kind::invalidate_interrupts,
                            kind::invalidate_device_tlb,
                            kind::page_response,
                            kind::resume,
                            kind::wait};
  constexpr std::uint32_t ignored[] = {0, 0, 0, 1, 3, 4, 5, 6, 7, 0xff};
  command c;
  c.kind = kinds[random() % std::size(kinds)];
  const auto flag = [&] { return random() % 2 == 0; };
  c.stage = static_cast<translation_stage>(random() % 3);
  c.by_domain = flag();
  c.by_pasid = flag();
  c.by_device = flag();
  c.by_range = flag();
  c.tables = flag();
  c.global = flag();
  if (c.by_domain) c.domain = static_cast<std::uint16_t>(random());
  if (c.by_pasid) c.pasid = static_cast<std::uint32_t>(random()) & (flag() ? 0xfffffU : 0xffffU);
  c.device = static_cast<std::uint32_t>(random()) & 0xffff;
  c.device_ignore = ignored[random() % std::size(ignored)];
  c.device &= ~c.device_ignore;
  if (c.kind == kind::invalidate_interrupts) {
    c.first = random() & 0xffff;
    c.last = c.first + (random() & (flag() ? 0x3f : 0xffff));
  } else {
    c.first = random_address(random);
    c.last = flag() ? c.first | 0xfff : c.first + random() % (~c.first | 1);
    if (c.last < c.first) c.last = c.first;
  }
  if (flag()) c.page_sizes = std::uint64_t{1} << (12 + 9 * (random() % 3));
  c.queue_depth = random() & 31;
  constexpr page_response_code codes[] = {page_response_code::success,
                                          page_response_code::invalid_request,
                                          page_response_code::failure};
  c.response = codes[random() % 3];
  c.group = random() & 0x1ff;
  c.retry = flag();
  c.abort = !c.retry;
  c.store = flag();
  c.interrupt = flag();
  c.fence = flag();
  c.drain_reads = flag();
  c.drain_writes = flag();
  c.store_bytes = flag() ? 4 : 8;
  c.store_address = random_address(random) & ~(flag() ? std::uint64_t{7} : std::uint64_t{0});
  c.store_data = flag() ? random() : random() & 0xffff'ffff;
  return c;
}

// Whether a decoded invalidation names all that `asked` names. It may name more: not every cache distinguishes
// every field.
bool names_all(const command& read, const command& asked) {
  if (read.kind == kind::invalidate_everything) return true;
  if (read.by_domain && (!asked.by_domain || read.domain != asked.domain)) return false;
  if (read.by_pasid && (!asked.by_pasid || read.pasid != asked.pasid)) return false;
  if (read.by_device) {
    if (!asked.by_device) return false;
    const std::uint32_t compared = ~read.device_ignore;
    if ((read.device & compared) != (asked.device & compared)) return false;
    if ((asked.device_ignore & ~read.device_ignore) != 0) return false;
  }
  const bool everywhere = read.first == 0 && read.last == ~std::uint64_t{0};
  if (read.by_range && !everywhere &&
      (!asked.by_range || read.first > asked.first || read.last < asked.last)) {
    return false;
  }
  return read.tables || !asked.tables;
}

// Whether both ends lie in one page of the largest level that is no larger than the pages that were touched: IOMMUs
// without ranges take one address of it.
bool is_one_page(const command& c, unsigned granule, unsigned step) {
  unsigned shift = granule;
  for (unsigned larger = granule + step; larger < 64; larger += step) {
    const std::uint64_t smaller_pages = c.page_sizes & ((std::uint64_t{1} << larger) - 1);
    if (c.page_sizes != 0 && smaller_pages == 0) shift = larger;
  }
  return (c.first ^ c.last) >> shift == 0;
}

// The store of a wait, and all of the answer to a page request group.
void require_same_store(const command& read, const command& asked) {
  REQUIRE(read.store == asked.store);
  if (!asked.store) return;
  REQUIRE(read.store_address == asked.store_address);
  REQUIRE(read.store_data ==
          (asked.store_bytes == 4 ? asked.store_data & 0xffff'ffff : asked.store_data));
}
void require_same_response(const command& read, const command& asked) {
  REQUIRE(read.device == asked.device);
  REQUIRE(read.group == asked.group);
  REQUIRE(read.response == asked.response);
  REQUIRE(read.by_pasid == asked.by_pasid);
  REQUIRE(read.pasid == asked.pasid);
}

}  // namespace

TEST_CASE("VT-d: an encoded command covers the request; what cannot be encoded is refused") {
  random_type random(1);
  unsigned accepted = 0;
  std::set<kind> seen;
  for (int n = 0; n != 300'000; ++n) {
    vtd::command_codec codec;
    codec.wide = random() % 2 == 0;
    codec.page_selective = random() % 4 != 0;
    codec.max_address_mask = random() % 3 == 0 ? 9 : 52;
    codec.max_index_mask = random() % 2 == 0 ? 15 : 3;
    codec.device_tlbs = random() % 4 != 0;
    codec.page_requests = random() % 4 != 0;
    codec.drains_reads = random() % 2 == 0;
    codec.drains_writes = random() % 2 == 0;
    command c = random_command(random);
    // A descriptor of the context cache ignores no bits but the highest of the function (6.5.2.1).
    const bool function_bits = c.device_ignore == 0 || c.device_ignore == 4 ||
                               c.device_ignore == 6 || c.device_ignore == 7;
    unsigned shift = 12;
    while (shift < 64 && (c.first ^ c.last) >> shift != 0) ++shift;
    bool can = false;
    switch (c.kind) {
      case kind::invalidate_translations:
        can = c.by_pasid ? codec.wide && c.by_domain : !c.by_range || c.by_domain;
        if (c.by_range) can = can && codec.page_selective && shift <= 12U + codec.max_address_mask;
        break;
      case kind::invalidate_device:
        can = function_bits;
        break;
      case kind::invalidate_process:
        can = codec.wide && (!c.by_pasid || c.by_domain);
        break;
      case kind::invalidate_interrupts:
        can = !c.by_range || c.last <= 0xffff;
        break;
      case kind::invalidate_device_tlb:
        can = codec.device_tlbs && (!c.by_pasid || codec.wide);
        c.by_device = true;
        c.device_ignore = 0;
        break;
      case kind::page_response:
        can = codec.wide && codec.page_requests;
        break;
      case kind::wait:
        can = !c.store || (c.store_bytes == 4 && (c.store_address & 3) == 0);
        break;
      default:
        break;
    }
    CAPTURE(n);
    CAPTURE(static_cast<int>(c.kind));
    command_words words;
    REQUIRE(codec.encode(c, words) == can);
    if (!can) continue;
    ++accepted;
    seen.insert(c.kind);
    const command read = codec.decode(words);
    REQUIRE(read.kind == c.kind);
    if (c.kind == kind::invalidate_translations && !c.by_pasid) {
      REQUIRE(read.drain_reads == (c.drain_reads && codec.drains_reads));
      REQUIRE(read.drain_writes == (c.drain_writes && codec.drains_writes));
    }
    if (c.kind == kind::wait) {
      require_same_store(read, c);
      REQUIRE(read.interrupt == c.interrupt);
      REQUIRE(read.fence == c.fence);
    } else if (c.kind == kind::page_response) {
      require_same_response(read, c);
    } else {
      command asked = c;
      // The context cache and the PASID cache are invalidated by device or by domain, with their tables.
      if (c.kind == kind::invalidate_device || c.kind == kind::invalidate_process)
        asked.tables = false;
      if (c.kind == kind::invalidate_device_tlb || c.kind == kind::invalidate_interrupts) {
        asked.tables = false;
        asked.by_domain = false;
      }
      if (c.kind == kind::invalidate_device_tlb) {
        REQUIRE(read.queue_depth == c.queue_depth);
        REQUIRE((read.global || !(c.global && c.by_pasid)));
      }
      if (c.kind == kind::invalidate_interrupts && read.by_range) {
        REQUIRE(read.last - read.first <= (std::uint64_t{1} << codec.max_index_mask) - 1);
      }
      REQUIRE(names_all(read, asked));
    }
  }
  CHECK(accepted > 50'000);
  CHECK(seen.size() == 7);
}

TEST_CASE("AMD: an encoded command covers the request; what cannot be encoded is refused") {
  random_type random(2);
  unsigned accepted = 0;
  std::set<kind> seen;
  for (int n = 0; n != 300'000; ++n) {
    amd::command_codec codec;
    codec.invalidate_all = random() % 2 == 0;
    codec.guest = random() % 2 == 0;
    codec.page_requests = random() % 4 != 0;
    codec.device_tlbs = random() % 4 != 0;
    command c = random_command(random);
    bool can = false;
    switch (c.kind) {
      case kind::invalidate_translations:
        can = c.by_domain ? !c.by_pasid || codec.guest
                          : codec.invalidate_all && !c.by_pasid && !c.by_range;
        break;
      case kind::invalidate_everything:
        can = codec.invalidate_all;
        break;
      case kind::invalidate_device:
        can = c.by_device ? c.device_ignore == 0 : codec.invalidate_all && !c.by_domain;
        break;
      case kind::invalidate_interrupts:
        c.device_ignore = 0;
        can = c.by_device || codec.invalidate_all;
        break;
      case kind::invalidate_device_tlb:
        c.by_device = true;
        c.device_ignore = 0;
        can = codec.device_tlbs && (!c.by_pasid || codec.guest);
        break;
      case kind::page_response:
        can = codec.page_requests;
        break;
      case kind::wait:
        // 2.4.1: the address has bits 51:3.
        can = !c.store ||
              (c.store_bytes == 8 && (c.store_address & 7) == 0 && c.store_address >> 52 == 0);
        break;
      default:
        break;
    }
    CAPTURE(n);
    CAPTURE(static_cast<int>(c.kind));
    command_words words;
    REQUIRE(codec.encode(c, words) == can);
    if (!can) continue;
    ++accepted;
    seen.insert(c.kind);
    const command read = codec.decode(words);
    REQUIRE(read.kind != kind::illegal);
    if (c.kind == kind::wait) {
      REQUIRE(read.kind == kind::wait);
      require_same_store(read, c);
      REQUIRE(read.interrupt == c.interrupt);
      REQUIRE(read.fence == c.fence);
    } else if (c.kind == kind::page_response) {
      require_same_response(read, c);
    } else {
      command asked = c;
      if (c.kind != kind::invalidate_translations) asked.tables = false;
      if (c.kind == kind::invalidate_device_tlb) REQUIRE(read.queue_depth == c.queue_depth);
      REQUIRE(names_all(read, asked));
      // Blocks of 2^52 bytes and more are not defined: all addresses are invalidated instead.
      if (c.by_range && read.by_range) REQUIRE(((read.last - read.first) >> 52) == 0);
    }
  }
  CHECK(accepted > 50'000);
  CHECK(seen.size() == 7);
}

TEST_CASE("SMMUv3: an encoded command covers the request; what cannot be encoded is refused") {
  random_type random(3);
  unsigned accepted = 0;
  std::set<kind> seen;
  for (int n = 0; n != 300'000; ++n) {
    smmuv3::command_codec codec;
    codec.ranges = random() % 2 == 0;
    codec.msi = random() % 4 != 0;
    codec.device_tlbs = random() % 4 != 0;
    codec.page_requests = random() % 4 != 0;
    codec.stalls = random() % 4 != 0;
    codec.granule_shift = static_cast<std::uint8_t>(12 + 2 * (random() % 3));
    codec.stage = random() % 2 == 0 ? translation_stage::first : translation_stage::second;
    command c = random_command(random);
    if (c.kind == kind::invalidate_translations && c.by_range && random() % 2 == 0) {
      c.last = c.first | ((std::uint64_t{1} << codec.granule_shift) - 1);
      c.page_sizes = 0;
    }
    const bool first =
        (c.stage == translation_stage::any ? codec.stage : c.stage) == translation_stage::first;
    bool can = false;
    switch (c.kind) {
      case kind::invalidate_translations: {
        can =
            c.by_domain ? !c.by_pasid || (first && c.pasid <= 0xffff) : !c.by_range && !c.by_pasid;
        if (!c.by_range || !can) break;
        can = first || c.last >> 52 == 0;
        const std::uint64_t granules =
            (c.last >> codec.granule_shift) - (c.first >> codec.granule_shift) + 1;
        if (codec.ranges) {
          can = can && (granules - 1) >> 31 < 32;
        } else {
          can = can && is_one_page(c, codec.granule_shift, codec.granule_shift - 3U);
        }
        break;
      }
      case kind::invalidate_device: {
        const std::uint32_t m = c.device_ignore;
        const bool from_bit_0 = m == 0 || m == 1 || m == 3 || m == 7 || m == 0xff;
        can = c.by_device ? from_bit_0 : !c.by_domain;
        break;
      }
      case kind::invalidate_process:
        c.device_ignore = 0;
        can = c.by_device;
        break;
      case kind::invalidate_device_tlb:
        c.by_device = true;
        c.device_ignore = 0;
        can = codec.device_tlbs;
        break;
      case kind::page_response:
        can = codec.page_requests;
        break;
      case kind::resume:
        can = codec.stalls;
        break;
      case kind::wait:
        // 4.7.3: MSIADDRESS has bits 55:2, and 0 means none.
        can = !c.store || (codec.msi && c.store_bytes == 4 && c.store_address != 0 &&
                           (c.store_address & 3) == 0 && c.store_address >> 56 == 0);
        break;
      default:
        break;
    }
    CAPTURE(n);
    CAPTURE(static_cast<int>(c.kind));
    command_words words;
    REQUIRE(codec.encode(c, words) == can);
    if (!can) continue;
    ++accepted;
    seen.insert(c.kind);
    const command read = codec.decode(words);
    REQUIRE(read.kind == c.kind);
    if (c.kind == kind::wait) {
      require_same_store(read, c);
      if (!c.store) REQUIRE(read.interrupt == c.interrupt);
    } else if (c.kind == kind::page_response) {
      require_same_response(read, c);
    } else if (c.kind == kind::resume) {
      REQUIRE(read.device == c.device);
      REQUIRE(read.by_range == c.by_range);
      if (c.by_range) {
        REQUIRE(read.retry == c.retry);
        REQUIRE(read.abort == c.abort);
        REQUIRE(read.group == c.group);
      }
    } else {
      command asked = c;
      if (c.kind == kind::invalidate_device_tlb || c.kind == kind::invalidate_process) {
        asked.by_domain = false;
      }
      if (c.kind == kind::invalidate_device_tlb) {
        asked.tables = false;
        REQUIRE((read.global || !(c.global && c.by_pasid)));
        REQUIRE((read.by_pasid == c.by_pasid));
      }
      if (c.kind == kind::invalidate_translations && c.by_range) {
        // Commands name granules, or one address of a page; those around both ends are meant.
        const std::uint64_t low = (std::uint64_t{1} << codec.granule_shift) - 1;
        asked.first &= ~low;
        if (!codec.ranges || read.last == (read.first | 0xfff)) {
          REQUIRE(read.first <= asked.first);
          REQUIRE(read.last >= asked.first);
          asked.last = read.last;
        }
        if (asked.first < read.first) asked.first = read.first;
      }
      REQUIRE(names_all(read, asked));
    }
  }
  CHECK(accepted > 50'000);
  CHECK(seen.size() == 7);
}

TEST_CASE("RISC-V: an encoded command covers the request; what cannot be encoded is refused") {
  random_type random(4);
  unsigned accepted = 0;
  std::set<kind> seen;
  for (int n = 0; n != 300'000; ++n) {
    riscv::command_codec codec;
    codec.device_tlbs = random() % 4 != 0;
    codec.wired_interrupts = random() % 2 == 0;
    codec.stage = random() % 2 == 0 ? translation_stage::first : translation_stage::second;
    command c = random_command(random);
    if (random() % 4 == 0) c.device |= static_cast<std::uint32_t>(random() & 0x1ff) << 16;
    if (c.kind == kind::invalidate_translations && random() % 2 == 0) {
      c.last = c.first | 0xfff;
      c.page_sizes = 0;
    }
    const bool first =
        (c.stage == translation_stage::any ? codec.stage : c.stage) == translation_stage::first;
    bool can = false;
    switch (c.kind) {
      case kind::invalidate_translations:
        can = (!c.by_pasid || first) && (!c.by_range || c.by_domain || first) &&
              (!c.by_range || (!c.tables && is_one_page(c, 12, 9)));
        break;
      case kind::invalidate_device:
        can = c.device_ignore == 0 && c.device >> 24 == 0 && (c.by_device || !c.by_domain);
        break;
      case kind::invalidate_process:
        c.device_ignore = 0;
        can = c.by_device && c.by_pasid && c.device >> 24 == 0;
        break;
      case kind::invalidate_device_tlb:
        c.by_device = true;
        c.device_ignore = 0;
        c.device &= 0xff'ffff;
        can = codec.device_tlbs;
        break;
      case kind::page_response:
        c.device &= 0xff'ffff;
        can = codec.device_tlbs;
        break;
      case kind::wait:
        can = (!c.interrupt || codec.wired_interrupts) &&
              (!c.store || (c.store_bytes == 4 && (c.store_address & 3) == 0));
        break;
      default:
        break;
    }
    CAPTURE(n);
    CAPTURE(static_cast<int>(c.kind));
    command_words words;
    REQUIRE(codec.encode(c, words) == can);
    if (!can) continue;
    ++accepted;
    seen.insert(c.kind);
    const command read = codec.decode(words);
    REQUIRE(read.kind == c.kind);
    if (c.kind == kind::wait) {
      require_same_store(read, c);
      REQUIRE(read.interrupt == c.interrupt);
      REQUIRE(read.drain_reads == c.drain_reads);
      REQUIRE(read.drain_writes == c.drain_writes);
    } else if (c.kind == kind::page_response) {
      require_same_response(read, c);
    } else {
      command asked = c;
      if (c.kind != kind::invalidate_translations) {
        asked.by_domain = false;
        asked.tables = false;
      }
      if (c.kind == kind::invalidate_device_tlb) REQUIRE(read.global == c.global);
      if (c.kind == kind::invalidate_translations && c.by_range) {
        // The command names one address of the page.
        REQUIRE(read.first == (c.first & ~std::uint64_t{0xfff}));
        asked.first = read.first;
        asked.last = read.last;
      }
      REQUIRE(names_all(read, asked));
    }
  }
  CHECK(accepted > 50'000);
  CHECK(seen.size() == 6);
}

TEST_CASE("values that a field of a command does not define are illegal, each by its word") {
  const auto reason = [](const auto& codec, std::uint64_t w0, std::uint64_t w1) {
    command_words words;
    words.word[0] = w0;
    words.word[1] = w1;
    const command c = codec.decode(words);
    return c.kind == kind::illegal ? c.reason : illegal_reason::none;
  };
  const vtd::command_codec wide{.wide = true};
  constexpr auto value = illegal_reason::reserved_value;
  // Granularities: context cache 0, IOTLB 0, PASID IOTLB 0 and 1, PASID cache 2.
  CHECK(reason(wide, 0x01, 0) == value);
  CHECK(reason(wide, 0x02, 0) == value);
  CHECK(reason(wide, 0x06, 0) == value);
  CHECK(reason(wide, 0x16, 0) == value);
  CHECK(reason(wide, 0x27, 0) == value);
  CHECK(reason(wide, 0x07, 0) == illegal_reason::none);
  CHECK(reason(wide, 0x17, 0) == illegal_reason::none);
  CHECK(reason(wide, 0x37, 0) == illegal_reason::none);
  // Response codes of page requests: 0, 1 and 15 are defined.
  for (std::uint64_t code = 0; code != 16; ++code) {
    const auto expected = code <= 1 || code == 15 ? illegal_reason::none : value;
    CAPTURE(code);
    CHECK(reason(wide, 9 | code << 12, 0) == expected);
    CHECK(reason(amd::command_codec{}, std::uint64_t{7} << 60, code << 44) == expected);
    CHECK(reason(riscv::command_codec{}, 4 | 1 << 7, code << 44) == expected);
  }
  for (std::uint64_t code = 0; code != 4; ++code) {
    CHECK(reason(smmuv3::command_codec{}, 0x41, code << 12) ==
          (code == 3 ? value : illegal_reason::none));
  }
  // SMMUv3: completion signal 3; sizes of ATC invalidations beyond 52; 16 KiB granules have no level 1.
  CHECK(reason(smmuv3::command_codec{}, 0x46 | 3 << 12, 0) == value);
  CHECK(reason(smmuv3::command_codec{}, 0x40, 52) == illegal_reason::none);
  CHECK(reason(smmuv3::command_codec{}, 0x40, 53) == value);
  CHECK(reason(smmuv3::command_codec{}, 0x2a, 2 << 10 | 1 << 8) == value);
  CHECK(reason(smmuv3::command_codec{}, 0x2a, 2 << 10 | 2 << 8) == illegal_reason::none);
}

TEST_CASE("SMMUv3: a range whose end would wrap ends with the last address") {
  const smmuv3::command_codec codec;
  command_words words;
  words.word[0] = 0x12 | 31 << 12 | std::uint64_t{1} << 20;  // NH_VA, 64 granules
  words.word[1] = 0xffff'ffff'ffff'8000 | 1 << 10;           // of 4 KiB
  const command read = codec.decode(words);
  CHECK(read.first == 0xffff'ffff'ffff'8000);
  CHECK(read.last == ~std::uint64_t{0});
  // Such a range is not encoded in parts that wrap: the address space is invalidated as a whole.
  command c = command::whole_domain(3);
  c.stage = translation_stage::first;
  c.by_range = true;
  c.tables = false;
  const std::uint64_t first = 0xffff'ffff'fff0'1000;
  CHECK(codec.split_range(c, first, ~std::uint64_t{0}) == ~std::uint64_t{0});
  CHECK((!c.by_range || (c.first <= first && c.last == ~std::uint64_t{0})));
}

TEST_CASE("AMD: a range beyond 2^51 bytes is every page") {
  command c = command::whole_domain(3);
  c.by_range = true;
  c.first = 0;
  c.last = (std::uint64_t{1} << 53) - 1;
  command_words words;
  REQUIRE(amd::command_codec{}.encode(c, words));
  CHECK((words.word[1] & ~std::uint64_t{7}) == 0x7fff'ffff'ffff'f000);
}

}  // namespace phasebit::iommu
