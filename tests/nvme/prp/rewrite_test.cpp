// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/prp.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include <doctest/doctest.h>
#include <support/counted_memory.hpp>

using namespace phasebit;
using namespace phasebit::literals;
using phasebit::nvme::status_code;
namespace prp = phasebit::nvme::prp;

namespace {

using guest_memory = phasebit_test::counted_memory<guest_space>;
constexpr std::uint64_t guest_base = 0x4000'0000;
constexpr std::uint64_t list_at = guest_base;
constexpr std::uint64_t shadow_at = 0x7f00'0000;

// Guest page n is bus page f(n): scattered, so that each entry has to be looked up.
struct scattered {
  using from = guest_space;
  using to = bus_space;

  result<segment<bus_space>> translate(guest_addr a, std::uint64_t bytes,
                                       phasebit::access wanted) noexcept {
    ++asked;
    const std::uint64_t page = a.value() >> 12;
    if (page == hole) return failure(errc::not_mapped, "a hole", a.value());
    if (page == read_only && phasebit::writes(wanted)) {
      return failure(errc::access_denied, "read only", a.value());
    }
    const std::uint64_t remaining = 4096 - (a.value() & 4095);
    const std::uint64_t n = std::min({bytes, remaining, most});
    return segment<bus_space>{bus_addr{of(a.value()) + skew}, n};
  }
  [[nodiscard]] static std::uint64_t of(std::uint64_t guest) {
    return (((guest >> 12) * 2654435761U) & 0xff'ffffU) << 13 | (guest & 4095U);
  }

  std::uint64_t hole = ~0ULL;
  std::uint64_t read_only = ~0ULL;
  std::uint64_t skew = 0;
  std::uint64_t most = ~0ULL;
  int asked = 0;
};

struct setup {
  explicit setup(std::size_t pages, std::uint64_t offset = 0)
      : guest(guest_base, 16_KiB), bytes(pages * 4_KiB - static_cast<std::size_t>(offset)) {
    REQUIRE(prp::build_contiguous(bus_addr{0x1000'0000 + offset}, bytes, 12,
                                  guest.region(list_at, 16_KiB), command));
    before = command;
    image.assign(guest.all().begin(), guest.all().end());
    guest.forget();
  }
  [[nodiscard]] bool list_untouched() const {
    return std::equal(image.begin(), image.end(), guest.all().begin());
  }

  guest_memory guest;
  std::size_t bytes;
  prp::pointers command;
  prp::pointers before;
  std::vector<std::byte> image;
  phasebit_test::counted_memory<bus_space> shadow{shadow_at, 16_KiB};
};

// The pages, one by one, of the command as the device sees it.
template <class Memory>
std::vector<std::uint64_t> pages_of(Memory& memory, prp::pointers p, std::uint64_t bytes) {
  std::vector<std::uint64_t> pages;
  const auto status = prp::walk(memory, p, bytes, 12, [&](auto at, std::uint64_t n) noexcept {
    for (std::uint64_t a = at.value(); a < at.value() + n; a = (a | 4095U) + 1) pages.push_back(a);
    return status_code::success;
  });
  REQUIRE(status == status_code::success);
  return pages;
}

// A device that sees the guest's memory from 1 TiB on.
struct device_view {
  using from = bus_space;
  using to = local_space;

  result<segment<local_space>> translate(bus_addr a, std::uint64_t n, phasebit::access w) noexcept {
    return guest->translate(guest_addr{a.value() - (1ULL << 40)}, n, w);
  }

  guest_memory* guest;
};

// Holds its caller to the concept: ranges do not wrap.
struct never_wraps {
  using from = guest_space;
  using to = bus_space;

  result<segment<bus_space>> translate(guest_addr a, std::uint64_t n, phasebit::access) noexcept {
    CHECK(range_end(a, n));
    return segment<bus_space>{bus_addr{a.value()}, n};
  }
};

bool refused(prp::build_result v, errc why, std::uint32_t which) {
  return !v && v.reason == why && v.index == which;
}

}  // namespace

TEST_CASE("every page of a command is translated, and the guest's list is read once, not written") {
  for (std::size_t pages : {1U, 2U, 3U, 64U, 65U, 66U, 512U, 513U, 514U, 1024U, 1025U, 1536U}) {
    for (std::uint64_t offset : {0U, 4U, 4092U}) {
      CAPTURE(pages);
      setup s{pages, offset};
      scattered to_bus;
      REQUIRE(prp::rewrite(s.guest, to_bus, phasebit::access::write, s.command, s.bytes, 12,
                           s.shadow.region(shadow_at, 16_KiB)));
      for (const auto& [at, times] : s.guest.times_read) REQUIRE(times == 1);
      REQUIRE(s.list_untouched());
      std::vector<std::uint64_t> expected;
      for (std::size_t i = 0; i != pages; ++i) {
        expected.push_back(scattered::of(0x1000'0000 + i * 4_KiB + (i == 0 ? offset : 0)));
      }
      REQUIRE(pages_of(s.shadow, s.command, s.bytes) == expected);
      REQUIRE(to_bus.asked == static_cast<int>(pages));
    }
  }
}

TEST_CASE("what stays together once translated is asked for once") {
  setup s{1025};
  int asked = 0;
  struct counting {
    using from = guest_space;
    using to = bus_space;
    result<segment<bus_space>> translate(guest_addr a, std::uint64_t n, phasebit::access) noexcept {
      ++*asked;
      return segment<bus_space>{bus_addr{a.value() + 0x1000}, n};
    }
    int* asked;
  } to_bus{&asked};
  REQUIRE(prp::rewrite(s.guest, to_bus, phasebit::access::write, s.command, s.bytes, 12,
                       s.shadow.region(shadow_at, 16_KiB)));
  CHECK(asked == 1);
  CHECK(pages_of(s.shadow, s.command, s.bytes).back() == 0x1000'1000 + 1024 * 4_KiB);
}

TEST_CASE("a page that cannot be translated is named, and the command stays as it was") {
  for (std::size_t pages : {1U, 2U, 3U, 100U, 600U}) {
    for (std::size_t bad : {std::size_t{0}, pages / 2, pages - 1}) {
      CAPTURE(pages);
      CAPTURE(bad);
      setup s{pages};
      const auto shadow = s.shadow.region(shadow_at, 16_KiB);
      const auto index = static_cast<std::uint32_t>(bad);

      scattered holed{.hole = 0x10000 + bad};
      auto v =
          prp::rewrite(s.guest, holed, phasebit::access::write, s.command, s.bytes, 12, shadow);
      CHECK(refused(v, errc::not_mapped, index));
      CHECK(prp::status_of(v) == status_code::data_transfer_error);
      v = prp::rewrite_in_place(s.guest, holed, phasebit::access::write, s.command, s.bytes, 12);
      CHECK(refused(v, errc::not_mapped, index));

      scattered guarded{.read_only = 0x10000 + bad};
      v = prp::rewrite(s.guest, guarded, phasebit::access::write, s.command, s.bytes, 12, shadow);
      CHECK(refused(v, errc::access_denied, index));

      CHECK(s.command == s.before);
      CHECK(s.list_untouched());
      CHECK(prp::rewrite(s.guest, guarded, phasebit::access::read, s.command, s.bytes, 12, shadow));
    }
  }
}

TEST_CASE("a translation that PRPs cannot express is refused") {
  setup s{100};
  const auto shadow = s.shadow.region(shadow_at, 16_KiB);
  scattered shifted{.skew = 512};
  CHECK(refused(
      prp::rewrite(s.guest, shifted, phasebit::access::read, s.command, s.bytes, 12, shadow),
      errc::not_supported, 0));
  scattered broken{.most = 2048};
  CHECK(
      refused(prp::rewrite(s.guest, broken, phasebit::access::read, s.command, s.bytes, 12, shadow),
              errc::not_supported, 0));
  scattered impossible{.most = 0};
  CHECK(refused(
      prp::rewrite(s.guest, impossible, phasebit::access::read, s.command, s.bytes, 12, shadow),
      errc::not_supported, 0));
  // Half a page is enough where no more of it is used.
  prp::pointers two{0x1000'0000, 0x2000'0000};
  scattered last{};
  CHECK(prp::rewrite(s.guest, last, phasebit::access::read, two, 4_KiB + 512, 12, shadow));
  CHECK(two == prp::pointers{scattered::of(0x1000'0000), scattered::of(0x2000'0000)});
  CHECK(s.command == s.before);
}

TEST_CASE("a page at the very end of the address space is refused, and translators never see it") {
  setup s{3};
  struct {
    std::uint64_t prp1;
    std::uint32_t which;
  } const rows[] = {{~0ULL - 0xfff, 0}, {0x1000, 1}};
  for (const auto& [prp1, which] : rows) {
    never_wraps to_bus;
    prp::pointers p{prp1, ~0ULL - 0xfff};
    const prp::pointers before = p;
    const auto v = prp::rewrite(s.guest, to_bus, phasebit::access::read, p, 8_KiB, 12,
                                s.shadow.region(shadow_at, 16_KiB));
    CHECK(refused(v, errc::overflow, which));
    CHECK(prp::status_of(v) == status_code::data_transfer_error);
    CHECK(p == before);
  }
}

TEST_CASE("a guest's broken pointers are refused with PRP Offset Invalid") {
  setup s{100};
  scattered to_bus;
  const auto shadow = s.shadow.region(shadow_at, 16_KiB);
  const auto outcome = [&](prp::pointers p, std::uint64_t bytes) {
    const prp::pointers copy = p;
    const auto v = prp::rewrite(s.guest, to_bus, phasebit::access::write, p, bytes, 12, shadow);
    CHECK(p == copy);
    const auto w = prp::rewrite_in_place(s.guest, to_bus, phasebit::access::write, p, bytes, 12);
    CHECK(prp::status_of(w) == prp::status_of(v));
    CHECK(p == copy);
    return v;
  };
  CHECK(refused(outcome({0x1002, 0}, 512), errc::misaligned, 0));
  CHECK(refused(outcome({0x1000, 0x2004}, 8_KiB), errc::misaligned, 1));
  CHECK(refused(outcome({0x1000, list_at + 4}, 12_KiB), errc::misaligned, 1));
  CHECK(refused(outcome({0x1000, 0}, 0), errc::invalid_argument, 0));
  CHECK(refused(outcome({0x1000, 0xdead000}, 12_KiB), errc::not_mapped, 1));
  s.guest.set_word(list_at + 80, 0x5008);
  const auto v = outcome(s.command, s.bytes);
  CHECK(refused(v, errc::misaligned, 11));
  CHECK(prp::status_of(v) == status_code::prp_offset_invalid);
}

TEST_CASE("a list that links to itself is copied as far as the command is long") {
  setup s{3};
  for (std::uint64_t i = 0; i != 511; ++i)
    s.guest.set_word(list_at + i * 8, 0x2000'0000 + i * 8192);
  s.guest.set_word(list_at + 4088, list_at);
  scattered to_bus;
  s.guest.forget();
  REQUIRE(prp::rewrite(s.guest, to_bus, phasebit::access::write, s.command, 1025 * 4_KiB, 12,
                       s.shadow.region(shadow_at, 16_KiB)));
  CHECK(s.guest.bytes_read == (1024 + 2) * 8);
  CHECK(pages_of(s.shadow, s.command, 1025 * 4_KiB).size() == 1025);
  prp::pointers huge = s.before;
  CHECK(refused(prp::rewrite(s.guest, to_bus, phasebit::access::write, huge, ~0ULL, 12,
                             s.shadow.region(shadow_at, 16_KiB)),
                errc::exhausted, 0));
}

TEST_CASE("shadow lists that do not suffice are an error, further ones are asked for") {
  setup s{1025};
  scattered to_bus;
  CHECK(refused(prp::rewrite(s.guest, to_bus, phasebit::access::write, s.command, s.bytes, 12,
                             s.shadow.region(shadow_at, 8_KiB)),
                errc::exhausted, 0));
  CHECK(s.command == s.before);
  const prp::list_memory more[] = {s.shadow.region(shadow_at + 8_KiB, 4_KiB),
                                   s.shadow.region(shadow_at + 4_KiB, 4_KiB)};
  REQUIRE(prp::rewrite(s.guest, to_bus, phasebit::access::write, s.command, s.bytes, 12,
                       s.shadow.region(shadow_at, 4_KiB), prp::lists_of{more}));
  CHECK(pages_of(s.shadow, s.command, s.bytes).size() == 1025);
}

TEST_CASE("lists of one's own are rewritten where they lie, links included") {
  for (std::size_t pages : {1U, 2U, 3U, 65U, 513U, 514U, 1025U}) {
    CAPTURE(pages);
    setup s{pages, 8};
    // The device sees the same memory elsewhere, list pages and all.
    offset_translator<guest_space, bus_space> to_bus{guest_addr{0}, 0x8000'0000,
                                                     bus_addr{1ULL << 40}};
    REQUIRE(prp::rewrite_in_place(s.guest, to_bus, phasebit::access::read, s.command, s.bytes, 12));

    device_view device{&s.guest};
    const auto seen = pages_of(device, s.command, s.bytes);
    REQUIRE(seen.size() == pages);
    for (std::size_t i = 0; i != pages; ++i) {
      REQUIRE(seen[i] == (1ULL << 40) + 0x1000'0000 + i * 4_KiB + (i == 0 ? 8 : 0));
    }
  }
}

TEST_CASE("a list page that the device cannot reach is refused before anything is written") {
  setup s{600};
  scattered to_bus{.hole = (list_at >> 12) + 1};  // the second list page
  const auto v =
      prp::rewrite_in_place(s.guest, to_bus, phasebit::access::read, s.command, s.bytes, 12);
  CHECK(refused(v, errc::not_mapped, 512));
  CHECK(s.list_untouched());
  CHECK(s.command == s.before);
}

namespace {

// Guest pages up to an end, granted for any access; lists above may be read only.
struct granted_range {
  using from = guest_space;
  using to = bus_space;
  std::uint64_t end;
  std::uint64_t read_only_from = ~0ULL;
  std::uint64_t read_only_end = ~0ULL;

  result<phasebit::segment<bus_space>> translate(guest_addr a, std::uint64_t bytes,
                                                 phasebit::access wanted) noexcept {
    if (a.value() >= read_only_from) {
      if (phasebit::writes(wanted)) return failure(errc::access_denied, "read only", a.value());
      return phasebit::segment<bus_space>{bus_addr{a.value()},
                                          std::min(bytes, read_only_end - a.value())};
    }
    if (a.value() >= end) return failure(errc::not_mapped, "beyond the range", a.value());
    return phasebit::segment<bus_space>{bus_addr{a.value() + 0x1000'0000},
                                        std::min(bytes, end - a.value())};
  }
};

}  // namespace

TEST_CASE("a page that is half outside of what was granted is refused") {
  phasebit_test::counted_memory<guest_space> guest{0x4000'0000, 16_KiB};
  guest.set_word(0x4000'0000, 0x1000);
  guest.set_word(0x4000'0008, 0x2000);
  phasebit_test::counted_memory<guest_space> shadow{0x7f00'0000, 4_KiB};
  granted_range pages{0x2800};
  prp::pointers command{.prp1 = 0, .prp2 = 0x4000'0000};
  CHECK_FALSE(prp::rewrite(guest, pages, phasebit::access::write, command, 12'288, 12,
                           shadow.region(0x7f00'0000, 4_KiB)));
}

TEST_CASE("of a list page only the entries in use need to be granted") {
  for (const std::uint64_t granted : {8U, 16U, 64U}) {
    phasebit_test::counted_memory<guest_space> guest{0x4000'0000, 16_KiB};
    guest.set_word(0x4000'0000, 0x1000);
    guest.set_word(0x4000'0008, 0x2000);
    granted_range pages{0x8000, 0x4000'0000, 0x4000'0000 + granted};
    prp::pointers command{.prp1 = 0, .prp2 = 0x4000'0000};
    const bool done =
        prp::rewrite_in_place(guest, pages, phasebit::access::write, command, 12'288, 12)
            .
            operator bool();
    CHECK(done == (granted >= 16));
  }
}

TEST_CASE("a list in memory that the device may only read is rewritten in place") {
  phasebit_test::counted_memory<guest_space> guest{0x4000'0000, 16_KiB};
  guest.set_word(0x4000'0000, 0x1000);
  guest.set_word(0x4000'0008, 0x2000);
  granted_range pages{0x8000, 0x4000'0000};
  prp::pointers command{.prp1 = 0, .prp2 = 0x4000'0000};
  CHECK(prp::rewrite_in_place(guest, pages, phasebit::access::write, command, 12'288, 12));
}
