// SPDX-License-Identifier: BSL-1.0
// Fairness in virtual time: a device of a fixed bandwidth serves functions whose requests differ in
// size. Figures are of this model, not of hardware.
#include <phasebit/sriov/fair_scheduler.hpp>
#include <phasebit/sriov/token_bucket.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit::sriov;

namespace {

constexpr std::uint32_t kib = 1024;

// Jain's index of shares: 1 where all are equal, 1/n where one has all.
double jain(const std::vector<double>& shares) {
  double sum = 0;
  double squares = 0;
  for (const double s : shares) {
    sum += s;
    squares += s * s;
  }
  return sum * sum / (static_cast<double>(shares.size()) * squares);
}

// The bytes served for each function while all had work. Function i sends requests of 512 bytes to
// 128 KiB, with sizes around a mean of its own.
std::vector<double> serve(std::size_t functions, const std::vector<std::uint8_t>& weights,
                          std::uint64_t bytes, std::mt19937_64& random) {
  auto scheduler = std::make_unique<fair_scheduler<64>>(128 * kib);
  std::vector<double> got(functions);
  for (std::uint16_t f = 0; f != functions; ++f) {
    scheduler->set_weight(f, weights[f]);
    scheduler->activate(f);
  }
  for (std::uint64_t served = 0; served < bytes;) {
    const std::uint16_t f = scheduler->next();
    if (f >= functions) FAIL("no function's turn");
    const std::uint32_t most = 512U << f % 9;  // small requests here, large ones there
    const auto cost = static_cast<std::uint32_t>(512 + random() % most);
    scheduler->charge(f, cost);
    got[f] += cost;
    served += cost;
  }
  return got;
}

}  // namespace

TEST_CASE("2 to 64 functions of equal weight get equal shares within 2 percent") {
  std::mt19937_64 random{1};
  double worst = 1;
  for (std::size_t n = 2; n <= 64; ++n) {
    const auto got = serve(n, std::vector<std::uint8_t>(n, 1), n * 64ULL * 1024 * kib, random);
    double sum = 0;
    for (const double g : got) sum += g;
    const double mean = sum / static_cast<double>(n);
    for (const double g : got) CHECK(std::abs(g / mean - 1) < 0.02);
    const double index = jain(got);
    CHECK(index >= 0.999);
    worst = index < worst ? index : worst;
  }
  MESSAGE("worst Jain index of 2 to 64 functions: ", worst);
}

TEST_CASE("weighted shares are within 3 percent of the weights") {
  std::mt19937_64 random{2};
  for (std::size_t n = 2; n <= 64; n += 2) {
    std::vector<std::uint8_t> weights(n);
    double total = 0;
    for (std::size_t i = 0; i != n; ++i) {
      weights[i] = static_cast<std::uint8_t>(1 + random() % 16);
      total += weights[i];
    }
    const auto got = serve(n, weights, n * 256ULL * 1024 * kib, random);
    double sum = 0;
    for (const double g : got) sum += g;
    for (std::size_t i = 0; i != n; ++i) {
      CHECK(std::abs(got[i] / sum / (weights[i] / total) - 1) < 0.03);
    }
  }
}

TEST_CASE("no function with work waits longer than a round of the others") {
  std::mt19937_64 random{3};
  fair_scheduler<16> scheduler{128 * kib};
  std::array<unsigned, 16> since{};
  for (std::uint16_t f = 0; f != 16; ++f) {
    scheduler.set_weight(f, static_cast<std::uint8_t>(f == 0 ? 1 : 200));
    scheduler.activate(f);
  }
  // The others may use 15 quanta of weight 200 in a round, with requests of 128 KiB each.
  const unsigned most = 15 * (200 + 1);
  for (int i = 0; i != 200000; ++i) {
    const std::uint16_t f = scheduler.next();
    scheduler.charge(f, f == 0 ? 512 : 128 * kib);
    for (unsigned& s : since) ++s;
    since[f] = 0;
    if (since[0] > most) FAIL("waited for more than a round: ", since[0]);
  }
}

TEST_CASE("functions that come and go gain nothing by it") {
  std::mt19937_64 random{4};
  fair_scheduler<4> scheduler{64 * kib};
  std::array<double, 4> got{};
  for (std::uint16_t f = 0; f != 4; ++f) scheduler.activate(f);
  for (int i = 0; i != 400000; ++i) {
    const std::uint16_t f = scheduler.next();
    scheduler.charge(f, 64 * kib);
    got[f] += 1;
    // Function 3 leaves after each request and comes back at once.
    if (f == 3) {
      scheduler.deactivate(3);
      scheduler.activate(3);
    }
  }
  CHECK(got[3] <= got[0] * 1.001);
  CHECK(got[3] >= got[0] * 0.98);
}

TEST_CASE("a function that is held back is passed by, and with all held back there is no turn") {
  fair_scheduler<3> scheduler{1000};
  CHECK(scheduler.next() == fair_scheduler<3>::none);
  scheduler.activate(0);
  scheduler.activate(1);
  const auto only = [&](std::uint16_t which) {
    return scheduler.next([=](std::uint16_t f) noexcept { return f == which; });
  };
  CHECK(only(1) == 1);
  CHECK(only(0) == 0);
  CHECK(only(2) == fair_scheduler<3>::none);
  CHECK(scheduler.active(1));
  scheduler.deactivate(1);
  CHECK(only(1) == fair_scheduler<3>::none);
  scheduler.deactivate(1);
  scheduler.deactivate(0);
  CHECK(scheduler.next() == fair_scheduler<3>::none);
  // A debt is not forgiven by idling.
  scheduler.activate(0);
  CHECK(scheduler.next() == 0);
  scheduler.charge(0, 5000);
  scheduler.deactivate(0);
  scheduler.activate(0);
  scheduler.activate(1);
  unsigned turns_of_1 = 0;
  while (scheduler.next() == 1) {
    scheduler.charge(1, 1000);
    ++turns_of_1;
  }
  CHECK(turns_of_1 == 4);
}

TEST_CASE("credit that is not used is lost by idling and by being held back") {
  fair_scheduler<2> idle{1000};
  idle.activate(0);
  REQUIRE(idle.next() == 0);
  idle.deactivate(0);
  idle.activate(0);
  idle.activate(1);
  REQUIRE(idle.next() == 0);
  idle.charge(0, 1000);
  CHECK(idle.next() == 1);

  fair_scheduler<2> held{1000};
  held.activate(0);
  held.activate(1);
  REQUIRE(held.next() == 0);
  REQUIRE(held.next([](std::uint16_t f) noexcept { return f != 0; }) == 1);
  held.charge(1, 1000);
  REQUIRE(held.next() == 0);
  held.charge(0, 1000);
  CHECK(held.next() == 1);
}

TEST_CASE("a bucket lets through its burst and its rate, and not one token more") {
  std::mt19937_64 random{6};
  for (const token_rate limit :
       {token_rate{1000, 100}, token_rate{1, 5}, token_rate{7'000'000'000, 4'000'000'000},
        token_rate{1'000'000'000'000, 1}, token_rate{333, 0}}) {
    const std::uint64_t start = random() % 1'000'000;
    token_bucket bucket{limit, start};
    long double taken = 0;
    std::uint64_t now = start;
    for (int i = 0; i != 100000; ++i) {
      now += random() % 4 == 0 ? random() % 10'000'000'000 : random() % 1'000'000;
      const std::uint64_t tokens = 1 + random() % (limit.burst < 2 ? 1 : limit.burst);
      if (!bucket.conforms(tokens, now)) continue;
      bucket.take(tokens);
      taken += static_cast<long double>(tokens);
      const long double most =
          static_cast<long double>(limit.burst == 0 ? 1 : limit.burst) +
          static_cast<long double>(limit.rate) * static_cast<long double>(now - start) / 1e9L;
      if (taken > most + 1e-3L) FAIL("took ", static_cast<double>(taken));
    }
  }
}

TEST_CASE("a caller that always has work gets the whole rate, also with requests above the burst") {
  for (const std::uint64_t size : {std::uint64_t{1}, std::uint64_t{64}, std::uint64_t{5000}}) {
    token_bucket bucket{{.rate = 1'000'000, .burst = 100}, 0};
    std::uint64_t taken = 0;
    for (std::uint64_t now = 0; now != 1'000'000'000; now += 1000) {
      while (bucket.conforms(size, now)) {
        bucket.take(size);
        taken += size;
      }
    }
    CHECK(taken >= 990'000);
    CHECK(taken <= 1'000'100 + size);
  }
}

TEST_CASE("time that goes back or jumps does no harm, and no rate is no limit") {
  token_bucket bucket{{.rate = 10, .burst = 10}, 1000};
  bucket.take(10);
  CHECK_FALSE(bucket.conforms(1, 0));
  CHECK_FALSE(bucket.conforms(1, 1000));
  CHECK(bucket.conforms(10, ~std::uint64_t{0}));
  token_bucket free;
  CHECK_FALSE(free.limited());
  CHECK(free.conforms(~std::uint64_t{0}, 0));
  token_bucket hostile{{.rate = 1, .burst = 1}, 0};
  for (int i = 0; i != 100; ++i) hostile.take(~std::uint64_t{0});
  CHECK_FALSE(hostile.conforms(1, 1'000'000'000));
}

TEST_CASE("a function keeps to its operations and to its bytes at once, through the scheduler") {
  // A device of 1 GB/s; function 0 may do 1000 operations a second, function 1 50 MB/s, 2 is free.
  fair_scheduler<3> scheduler{128 * kib};
  std::array<function_limiter, 3> limits{function_limiter{{.operations = {1000, 10}}, 0},
                                         function_limiter{{.bytes = {50'000'000, 1 << 20}}, 0},
                                         function_limiter{}};
  std::array<double, 3> bytes{};
  std::array<double, 3> operations{};
  for (std::uint16_t f = 0; f != 3; ++f) scheduler.activate(f);
  std::uint64_t now = 0;
  while (now < 2'000'000'000) {
    const std::uint32_t size = 16 * kib;
    const std::uint16_t f = scheduler.next(
        [&](std::uint16_t which) noexcept { return limits[which].conforms(size, now); });
    if (f == fair_scheduler<3>::none) FAIL("no function's turn");
    limits[f].take(size);
    scheduler.charge(f, size);
    bytes[f] += size;
    operations[f] += 1;
    now += size;  // 1 ns a byte
  }
  CHECK(operations[0] == doctest::Approx(2010).epsilon(0.01));
  CHECK(bytes[1] == doctest::Approx(100e6 + (1 << 20)).epsilon(0.01));
  CHECK(bytes[2] > 1.8e9);
}
