// SPDX-License-Identifier: BSL-1.0
#include <phasebit/accel/sequence.hpp>

#include <array>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::accel;

namespace {

static_assert(std::is_trivially_copyable_v<sequence<>>);
static_assert(std::is_trivially_default_constructible_v<step>);

constexpr domain_segment at(std::uint64_t address, std::uint64_t bytes, std::uint16_t domain = 0) {
  return {address, bytes, domain_id{domain}};
}

consteval std::size_t built_at_compile_time() {
  sequence<4> s;
  const auto t = s.scratch(512);
  if (!s.copy(*t, slot(0, 0, 512)) || !s.encrypt(slot(1, 0, 512), *t, {})) return 0;
  return s.size();
}
static_assert(built_at_compile_time() == 2);

}  // namespace

TEST_CASE("steps get ids in the order of appending and keep their segments") {
  sequence<> s;
  const std::array source{at(0, 100), at(200, 28)};
  CHECK(s.copy(at(1000, 128), source)->value == 0);
  CHECK(s.crc32c(source, 5)->value == 1);
  CHECK(s.size() == 2);
  CHECK(s.sources(s[0]).size() == 2);
  CHECK(s.sources(s[0])[1] == source[1]);
  CHECK(s.destinations(s[0])[0] == at(1000, 128));
  CHECK(s[0].source.bytes == 128);
  CHECK(s[1].with.value == 5);
  CHECK(s.destinations(s[1]).empty());
  s.reverse();
  CHECK(s[0].op == operation::crc32c);
  CHECK(s[0].id == 1);
  s.clear();
  CHECK(s.empty());
}

TEST_CASE("a sequence longer than its capacity is refused with the number of the step") {
  sequence<2, 8> s;
  CHECK(s.zero(at(0, 8)));
  CHECK(s.zero(at(8, 8)));
  const auto third = s.zero(at(16, 8));
  CHECK(third.error().code == errc::exhausted);
  CHECK(third.error().index == 2);
  CHECK(s.size() == 2);

  sequence<4, 3> narrow;
  CHECK(narrow.copy(at(0, 8), at(8, 8)));
  const auto none = narrow.copy(at(0, 8), at(8, 8));
  CHECK(none.error().code == errc::exhausted);
  CHECK(none.error().index == 1);
  CHECK(narrow.segment_count() == 2);

  sequence<1> one;
  CHECK(one.copy_crc32c(at(0, 8), at(8, 8)).error().code == errc::exhausted);
  CHECK(one.empty());
}

TEST_CASE("copy_crc32c is a sum and a copy under one id, or nothing") {
  sequence<8> s;
  CHECK(s.copy_crc32c(at(0, 8), at(8, 8))->value == 0);
  CHECK(s.size() == 2);
  CHECK(s[0].id == 0);
  CHECK(s[1].id == 0);
  CHECK(s.zero(at(0, 8))->value == 1);
  CHECK(s.copy_crc32c(at(0, 8), at(4, 8)).error().code == errc::overlap);
  CHECK(s.size() == 3);
  CHECK(s.id_count() == 2);
  CHECK(s.segment_count() == 4);
}

TEST_CASE("sizes, wraps and empty segments are refused and leave the sequence as it was") {
  sequence<> s;
  CHECK(s.copy(at(0, 8), at(16, 9)).error().code == errc::invalid_argument);
  CHECK(s.copy(at(0, 8), at(~std::uint64_t{0} - 3, 8)).error().code == errc::overflow);
  CHECK(s.copy(at(0, 0), at(8, 0)).error().code == errc::invalid_argument);
  CHECK(s.copy(at(0, 8, 64), at(8, 8)).error().code == errc::not_found);
  CHECK(s.compare(at(0, 8), at(8, 7)).error().code == errc::invalid_argument);
  CHECK(s.copy(segment_list{}, segment_list{}).error().code == errc::invalid_argument);
  CHECK(s.crc32c(segment_list{}).error().code == errc::invalid_argument);
  CHECK(s.exclusive_or(at(0, 8), {}).error().code == errc::invalid_argument);
  const domain_segment a = at(8, 8);
  const domain_segment b = at(16, 7);
  const std::array<segment_list, 2> uneven{a, b};
  CHECK(s.exclusive_or(at(0, 8), uneven).error().code == errc::invalid_argument);
  CHECK(s.empty());
  CHECK(s.segment_count() == 0);
}

TEST_CASE("source and destination may be the same segments, or disjoint, and nothing between") {
  sequence<16> s;
  CHECK(s.encrypt(at(0, 512), at(0, 512), {}));
  CHECK(s.encrypt(at(0, 512), at(512, 512), {}));
  CHECK(s.encrypt(at(0, 512), at(1, 512), {}).error().code == errc::overlap);
  CHECK(s.copy(at(0, 512), at(511, 512)).error().code == errc::overlap);
  CHECK(s.dif_insert(at(0, 520), at(0, 512), {}).error().code == errc::overlap);
  CHECK(s.compress(at(0, 512), at(0, 512)).error().code == errc::overlap);
  CHECK(s.dif_update(at(0, 520), at(0, 520), {}, 1, 1));
  const std::array twice{at(0, 8), at(4, 8)};
  CHECK(s.copy(twice, at(100, 16)).error().code == errc::overlap);
  // The sequence treats another domain as other memory.
  CHECK(s.copy(at(0, 512, 2), at(1, 512)));
  const domain_segment same = at(0, 64);
  const domain_segment other = at(64, 64);
  const domain_segment crossing = at(32, 64);
  const std::array<segment_list, 2> fine{other, same};
  CHECK(s.exclusive_or(at(0, 64), fine));
  const std::array<segment_list, 2> wrong{same, crossing};
  CHECK(s.exclusive_or(at(0, 64), wrong).error().code == errc::overlap);
}

TEST_CASE("an append checks blocks, data units and protection") {
  sequence<32> s;
  CHECK(s.encrypt(at(0, 512), at(1024, 512), {.unit_bytes = 8}).error().code ==
        errc::invalid_argument);
  CHECK(s.encrypt(at(0, 500), at(1024, 500), {}).error().code == errc::misaligned);
  CHECK(s.dif_insert(at(0, 520), at(1024, 511), {}).error().code == errc::misaligned);
  CHECK(s.dif_insert(at(0, 519), at(1024, 512), {}).error().code == errc::invalid_argument);
  CHECK(s.dif_verify(at(0, 519), {}).error().code == errc::misaligned);
  CHECK(s.dif_strip(at(0, 512), at(1024, 521), {}).error().code == errc::misaligned);
  CHECK(s.dif_verify(at(0, 520), {.block_bytes = 500}).error().code == errc::misaligned);
  CHECK(s.dif_verify(at(0, 520), {.block_bytes = 0}).error().code == errc::misaligned);
  CHECK(s.dif_verify(at(0, 528), {.guard = guard_format::bits32}).error().code == errc::misaligned);
  CHECK(s.dif_verify(at(0, 520), {.type = 0}).error().code == errc::invalid_argument);
  CHECK(s.dif_verify(at(0, 520), {.type = 4}).error().code == errc::invalid_argument);
  CHECK(s.dif_verify(at(0, 520), {.guard = static_cast<guard_format>(3)}).error().code ==
        errc::invalid_argument);
  CHECK(s.dix_generate(at(0, 8), at(512, 1024), {}).error().code == errc::invalid_argument);
  CHECK(s.dix_verify(at(512, 1024), at(0, 8), {}).error().code == errc::invalid_argument);
  CHECK(s.dix_verify(at(512, 1000), at(0, 8), {}).error().code == errc::misaligned);
  CHECK(s.empty());
  CHECK(s.dif_insert(at(0, 1040), at(2048, 1024), {}));
  CHECK(s.dif_strip(at(0, 1024), at(2048, 1040), {}));
  CHECK(s.dix_generate(at(0, 16), at(2048, 1024), {}));
  CHECK(s.dix_verify(at(2048, 1024), at(0, 16), {}));
  CHECK(s.dif_verify(at(0, 4112), {.block_bytes = 4096, .guard = guard_format::bits64}));
  CHECK(s.dif_insert(at(0, 520), at(1024, 511), {}).error().index == 5);
}

TEST_CASE("scratch is addresses within its buffers, and is written before it is read") {
  sequence<> s;
  CHECK(s.scratch(0).error().code == errc::invalid_argument);
  CHECK(s.scratch(8, 3).error().code == errc::invalid_argument);
  CHECK(s.scratch(8, 8192).error().code == errc::invalid_argument);
  CHECK(s.scratch(std::uint64_t{1} << 40).error().code == errc::out_of_range);
  const auto a = *s.scratch(64);
  const auto b = *s.scratch(64);
  CHECK(a.end() <= b.address);
  domain_segment beyond = a;
  beyond.bytes = 65;
  CHECK(s.zero(beyond).error().code == errc::out_of_range);
  CHECK(s.zero(at(0, 8, 1)).error().code == errc::out_of_range);
  CHECK(s.zero(at(std::uint64_t{3} << scratch_shift, 8, 1)).error().code == errc::out_of_range);
  CHECK(s.zero(at(a.address + 32, 32, 1)));
  CHECK(s.copy(at(0, 64), a));
  const auto unset = s.check_scratch();
  CHECK(unset.error().code == errc::invalid_argument);
  CHECK(unset.error().index == 1);
  s.clear();
  const auto c = *s.scratch(64);
  CHECK(s.zero(at(c.address + 32, 32, 1)));
  CHECK(s.zero(at(c.address, 32, 1)));
  CHECK(s.copy(at(0, 64), c));
  CHECK(s.check_scratch());
  s.reverse();
  CHECK_FALSE(s.check_scratch());
  sequence<2> full;
  CHECK(full.scratch(8));
  CHECK(full.scratch(8));
  CHECK(full.scratch(8).error().code == errc::exhausted);
}

TEST_CASE("a compare is a gate and nothing else is") {
  sequence<> s;
  CHECK(s.compare(at(0, 8), at(8, 8)));
  CHECK(s.copy(at(0, 8), at(8, 8)));
  CHECK(s[0].gate);
  CHECK_FALSE(s[1].gate);
}

TEST_CASE("operations, statuses and patterns have the names and values that users see") {
  CHECK(name(operation::exclusive_or) == std::string_view{"exclusive_or"});
  CHECK(name(static_cast<operation>(200)) == std::string_view{"unknown"});
  CHECK(name(step_status::aborted) == std::string_view{"aborted"});
  CHECK(pattern_after(0x0807060504030201, 0) == 0x0807060504030201);
  CHECK(pattern_after(0x0807060504030201, 1) == 0x0108070605040302);
  CHECK(pattern_after(0x0807060504030201, 8) == 0x0807060504030201);
  CHECK(pattern_after(0x0807060504030201, 15) == 0x0706050403020108);
}
