// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/memory_domain.hpp>
#include <phasebit/memory/memory_domain_models.hpp>
#include <phasebit/memory/region_map.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

// The least that a domain is: pull and push.
struct minimal_domain {
  static domain_kind kind() noexcept { return domain_kind::device; }
  static domain_capabilities capabilities() noexcept {
    return {domain_capabilities::pull | domain_capabilities::push};
  }
  static result<domain_progress> pull(std::uint64_t, std::span<std::byte>, std::uint64_t) noexcept {
    return domain_progress::done;
  }
  static result<domain_progress> push(std::uint64_t, std::span<const std::byte>,
                                      std::uint64_t) noexcept {
    return domain_progress::done;
  }
  static std::size_t poll(domain_sink) noexcept { return 0; }
};
static_assert(MemoryDomain<minimal_domain> && !ZeroingDomain<minimal_domain> &&
              !TranslatingDomain<minimal_domain> && !TransferringDomain<minimal_domain>);

struct lying_domain : minimal_domain {
  static result<domain_segment> translate(std::uint64_t address, std::uint64_t bytes,
                                          phasebit::access, domain_id into) noexcept {
    return domain_segment{address, bytes + extra, into};
  }
  static inline std::uint64_t extra = 0;
};
static_assert(TranslatingDomain<lying_domain>);

struct transferring_domain : minimal_domain {
  result<domain_progress> transfer(std::uint64_t address, domain_segment to,
                                   std::uint64_t) noexcept {
    from = address;
    last = to;
    return domain_progress::pending;
  }
  std::uint64_t from = 0;
  domain_segment last{};
};
static_assert(TransferringDomain<transferring_domain>);

struct ends {
  std::vector<std::pair<std::uint64_t, bool>> list;
  domain_sink sink() {
    return {this, [](void* self, std::uint64_t tag, const error* failed) noexcept {
              static_cast<ends*>(self)->list.emplace_back(tag, failed == nullptr);
            }};
  }
};

}  // namespace

TEST_CASE("a domain table always has local memory and scratch, and enumerates what was added") {
  domain_table<4> table;
  CHECK(table.size() == 2);
  CHECK(table.kind(local_domain) == domain_kind::local);
  CHECK(table.kind(scratch_domain) == domain_kind::scratch);
  CHECK(table.capabilities(scratch_domain) == domain_capabilities{});
  minimal_domain device;
  minimal_domain other;
  minimal_domain third;
  CHECK(table.add(device)->value == 2);
  CHECK(table.add(device).error().code == errc::already_exists);
  CHECK(table.add(other)->value == 3);
  CHECK(table.add(third).error().code == errc::exhausted);
  CHECK(table.add(memory_domain_ref{}).error().code == errc::invalid_argument);
  CHECK(table.size() == 4);
  CHECK(table.kind(domain_id{2}) == domain_kind::device);
  CHECK(name(table.kind(domain_id{3})) == std::string_view{"device"});
}

TEST_CASE("an operation that a domain lacks is refused by name") {
  minimal_domain device;
  memory_domain_ref ref{device};
  CHECK(ref.zero(0, 1, 0).error().code == errc::not_supported);
  CHECK(std::string_view{ref.zero(0, 1, 0).error().what}.find("zero") != std::string_view::npos);
  CHECK(ref.translate(0, 1, phasebit::access::read, local_domain).error().code ==
        errc::not_supported);
  CHECK(ref.transfer(0, {}, 0).error().code == errc::not_supported);
}

TEST_CASE("a domain that transfers is handed source and destination") {
  transferring_domain device;
  memory_domain_ref ref{device};
  CHECK(*ref.transfer(7, {8, 9, domain_id{3}}, 1) == domain_progress::pending);
  CHECK(device.from == 7);
  CHECK(device.last == domain_segment{8, 9, domain_id{3}});
}

TEST_CASE("guest memory translates into local memory segment by segment") {
  std::array<std::byte, 64> low{};
  std::array<std::byte, 64> high{};
  guest_memory<4> map;
  CHECK(map.add({guest_addr{0x1000}, 64, low.data()}));
  CHECK(map.add({guest_addr{0x1040}, 64, high.data(), phasebit::access::read}));
  mapped_domain guest{map};
  domain_table<> table;
  const auto id = *table.add(guest);

  const auto first = table.translate({0x1020, 0x40, id}, phasebit::access::read, local_domain);
  CHECK(*first == domain_segment{to_local(low.data() + 0x20).value(), 0x20, local_domain});
  CHECK(table.translate({0x1040, 8, id}, phasebit::access::write, local_domain).error().code ==
        errc::access_denied);
  CHECK(table.translate({0x900, 8, id}, phasebit::access::read, local_domain).error().code ==
        errc::not_mapped);
  CHECK(table.translate({0x1000, 8, id}, phasebit::access::read, domain_id{9}).error().code ==
        errc::not_found);
  CHECK(table.translate({0x1000, 0, id}, phasebit::access::read, local_domain).error().code ==
        errc::invalid_argument);
  CHECK(table.translate({~std::uint64_t{0}, 2, id}, phasebit::access::read, local_domain)
            .error()
            .code == errc::overflow);
  CHECK(
      table.translate({0, 8, scratch_domain}, phasebit::access::read, local_domain).error().code ==
      errc::not_supported);
  CHECK(table.translate({0, 8, local_domain}, phasebit::access::read, id).error().code ==
        errc::not_supported);
  CHECK(*table.translate({5, 8, local_domain}, phasebit::access::read, local_domain) ==
        domain_segment{5, 8, local_domain});
}

TEST_CASE("guest memory is pulled, pushed and zeroed across regions, and refused outside of them") {
  std::array<std::byte, 64> low{};
  std::array<std::byte, 64> high{};
  guest_memory<4> map;
  CHECK(map.add({guest_addr{0}, 64, low.data()}));
  CHECK(map.add({guest_addr{64}, 64, high.data()}));
  mapped_domain guest{map};
  memory_domain_ref ref{guest};
  std::array<std::byte, 8> eight{};
  std::memset(eight.data(), 0x5a, 8);
  CHECK(*ref.push(60, eight, 1) == domain_progress::done);
  CHECK(low[63] == std::byte{0x5a});
  CHECK(high[3] == std::byte{0x5a});
  CHECK(high[4] == std::byte{0});
  std::array<std::byte, 8> back{};
  CHECK(*ref.pull(60, back, 2) == domain_progress::done);
  CHECK(back == eight);
  CHECK(*ref.zero(61, 6, 3) == domain_progress::done);
  CHECK(low[60] == std::byte{0x5a});
  CHECK(low[61] == std::byte{0});
  CHECK(high[2] == std::byte{0});
  CHECK(high[3] == std::byte{0x5a});
  CHECK(ref.pull(126, back, 4).error().code == errc::not_mapped);
  CHECK(ref.kind() == domain_kind::guest);
}

TEST_CASE("an answer of impossible length or domain is a protocol error") {
  lying_domain domain;
  domain_table<> table;
  const auto id = *table.add(domain);
  lying_domain::extra = 1;
  CHECK(table.translate({0, 8, id}, phasebit::access::read, local_domain).error().code ==
        errc::protocol);
  lying_domain::extra = 0;
  CHECK(table.translate({0, 8, id}, phasebit::access::read, local_domain));
}

TEST_CASE(
    "domains that translate into local memory may share its bytes, others and scratch never") {
  guest_memory<4> map;
  mapped_domain guest{map};
  std::array<std::byte, 16> there{};
  simulated_remote_domain<> remote{there};
  domain_table<> table;
  const auto g = *table.add(guest);
  const auto r = *table.add(remote);
  const alias_model& aliases = table.aliases();
  CHECK(aliases.may_share(g, local_domain));
  CHECK(aliases.may_share(local_domain, g));
  CHECK(aliases.may_share(r, r));
  CHECK_FALSE(aliases.may_share(r, local_domain));
  CHECK_FALSE(aliases.may_share(r, g));
  CHECK_FALSE(aliases.may_share(scratch_domain, local_domain));
  CHECK_FALSE(aliases.may_share(scratch_domain, g));
}

TEST_CASE("a remote domain ends its operations later, in order, with their tags") {
  std::array<std::byte, 16> there{};
  simulated_remote_domain<2> remote{there};
  std::array<std::byte, 4> four{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  std::array<std::byte, 4> back{};
  ends seen;
  CHECK(*remote.push(12, four, 7) == domain_progress::pending);
  CHECK(*remote.pull(12, back, 8) == domain_progress::pending);
  CHECK(remote.zero(0, 1, 9).error().code == errc::busy);
  CHECK(there[12] == std::byte{0});
  CHECK(remote.poll(seen.sink()) == 1);
  CHECK(remote.poll(seen.sink()) == 1);
  CHECK(remote.poll(seen.sink()) == 0);
  CHECK(seen.list == std::vector<std::pair<std::uint64_t, bool>>{{7, true}, {8, true}});
  CHECK(back == four);
  CHECK(remote.push(13, four, 1).error().code == errc::not_mapped);
  CHECK(remote.push(~std::uint64_t{0}, four, 1).error().code == errc::not_mapped);
  CHECK(*remote.zero(12, 2, 10) == domain_progress::pending);
  remote.fail_next();
  CHECK(remote.poll(seen.sink()) == 1);
  CHECK(seen.list.back() == std::pair<std::uint64_t, bool>{10, false});
  CHECK(there[12] == std::byte{1});
  CHECK(*remote.zero(12, 2, 11) == domain_progress::pending);
  remote.vanish();
  CHECK(remote.poll(seen.sink()) == 1);
  CHECK(seen.list.back() == std::pair<std::uint64_t, bool>{11, false});
  CHECK(remote.zero(0, 1, 12).error().code == errc::removed);
  CHECK(remote.bytes_moved() == 8);
}
