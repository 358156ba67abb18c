// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/driver/reset.hpp>

#include <cstdint>
#include <functional>
#include <vector>

#include <doctest/doctest.h>
#include <pcie/fake_fabric.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::space_image;

namespace {

struct test_clock {
  std::uint64_t now() noexcept { return time; }
  void relax() noexcept { time += nanoseconds_per_ms; }
  std::uint64_t time = 0;
};

// A function that forgets its header when its reset is started, and is not there for a while.
class resettable {
 public:
  // The value of reads during a reset. With retry_status_alone the root complex returns zeros for
  // other reads.
  enum class silence { all_ones, retry_status, retry_status_alone };

  resettable(space_image& config, test_clock& clock, std::uint16_t start, std::uint16_t mask)
      : config_(&config), clock_(&clock), start_(start), mask_(mask) {}

  std::uint8_t read8(std::uint16_t at) noexcept {
    return away() ? static_cast<std::uint8_t>(nothing()) : config_->read8(at);
  }
  std::uint16_t read16(std::uint16_t at) noexcept {
    if (away()) return retries(at) ? std::uint16_t{0x0001} : static_cast<std::uint16_t>(nothing());
    if (at == busy_at && clock_->time < busy_until) return config_->read16(at) | busy_mask;
    return config_->read16(at);
  }
  std::uint32_t read32(std::uint16_t at) noexcept {
    if (away()) return retries(at) ? retry_ids : nothing();
    return config_->read32(at);
  }
  void write8(std::uint16_t at, std::uint8_t value) noexcept {
    if (away()) return;
    config_->write8(at, value);
    if (at == start_ && (value & mask_) != 0) reset();
  }
  void write16(std::uint16_t at, std::uint16_t value) noexcept {
    if (away()) return;
    config_->write16(at, value);
    if (at == start_ && (value & mask_) != 0) reset();
  }
  void write32(std::uint16_t at, std::uint32_t value) noexcept {
    if (!away()) config_->write32(at, value);
  }
  std::uint32_t size_bytes() const noexcept { return 4096; }

  std::uint64_t away_ms = 100;
  silence how = silence::all_ones;
  int resets = 0;
  bool quiet = false;  // no bus mastering when the reset began
  std::uint64_t began = 0;
  std::uint16_t busy_at = 0xffff;
  std::uint16_t busy_mask = 0;
  std::uint64_t busy_until = 0;

 private:
  [[nodiscard]] bool away() const noexcept { return clock_->time < back_; }
  [[nodiscard]] bool retries(std::uint16_t at) const noexcept {
    return how != silence::all_ones && at == header::vendor_id;
  }
  [[nodiscard]] std::uint32_t nothing() const noexcept {
    return how == silence::retry_status_alone ? 0 : 0xffff'ffff;
  }
  void reset() noexcept {
    ++resets;
    began = clock_->time;
    quiet = (config_->read16(header::command) & 4) == 0;
    back_ = clock_->time + away_ms * nanoseconds_per_ms;
    config_->write16(header::command, 0);
    config_->write32(header::bar0, 0);
  }
  space_image* config_;
  test_clock* clock_;
  std::uint16_t start_;
  std::uint16_t mask_;
  std::uint64_t back_ = 0;
};

struct express_function {
  space_image config;
  test_clock clock;
  std::uint16_t at = 0;

  express_function() {
    function_description d{.vendor_id = 0x1234, .device_id = 1};
    d.bars[0] = {bar_kind::memory32, 0x1000};
    d.express = express_description{};
    const auto layout = emit_function(config, d);
    REQUIRE(layout);
    at = layout->express;
    config.write16(header::command, 6);
    config.write32(header::bar0, 0xfe00'0000);
  }
  [[nodiscard]] resettable device() {
    return {config, clock, static_cast<std::uint16_t>(at + express::device_control), 0x8000};
  }
};

}  // namespace

TEST_CASE("a reset function is as it was, and did no DMA when its reset began") {
  express_function f;
  resettable device = f.device();
  REQUIRE(function_level_reset(device, f.clock));
  CHECK(device.resets == 1);
  CHECK(device.quiet);
  CHECK(f.config.read16(header::command) == 6);
  CHECK(f.config.read32(header::bar0) == 0xfe00'0000);
  CHECK(f.clock.time >= reset_wait_ns);
  CHECK(f.clock.time < 2 * reset_wait_ns);
}

TEST_CASE("a function that asks for retries after its reset is waited for, not called removed") {
  using silence = resettable::silence;
  for (const auto how : {silence::all_ones, silence::retry_status, silence::retry_status_alone}) {
    for (const std::uint64_t ms : {101U, 900U, 20'000U}) {
      CAPTURE(ms);
      express_function f;
      resettable device = f.device();
      device.how = how;
      device.away_ms = ms;
      REQUIRE(function_level_reset(device, f.clock));
      CHECK(f.config.read16(header::command) == 6);
      CHECK(f.config.read32(header::bar0) == 0xfe00'0000);
    }
    express_function f;
    resettable device = f.device();
    device.how = how;
    device.away_ms = 1000;
    const auto failed = function_level_reset(device, f.clock, 500 * nanoseconds_per_ms);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == errc::removed);
    CHECK(f.clock.time < 700 * nanoseconds_per_ms);
  }
}

TEST_CASE("requests on their way end before the reset begins, or have had 100 ms") {
  for (const std::uint64_t ms : {30U, 500U}) {
    express_function f;
    resettable device = f.device();
    device.busy_at = static_cast<std::uint16_t>(f.at + express::device_status);
    device.busy_mask = 0x20;
    device.busy_until = ms * nanoseconds_per_ms;
    REQUIRE(function_level_reset(device, f.clock));
    CHECK(device.began >= (ms < 100 ? ms : 100) * nanoseconds_per_ms);
    CHECK(device.began < 110 * nanoseconds_per_ms);
  }
}

TEST_CASE("a function without a PCI Express reset is reset by its Advanced Features") {
  space_image config;
  const std::vector<std::byte> body{std::byte{6}, std::byte{3}, std::byte{0}, std::byte{0}};
  const std::vector<std::byte> writable{std::byte{0}, std::byte{0}, std::byte{1}, std::byte{0}};
  const capability_description af{capability_id::advanced_features, body, writable};
  function_description d{.vendor_id = 0x1234, .device_id = 1};
  d.bars[0] = {bar_kind::memory32, 0x1000};
  d.capabilities = std::span{&af, 1};
  REQUIRE(emit_function(config, d));
  config.write16(header::command, 6);
  config.write32(header::bar0, 0xfe00'0000);
  const auto at = find_capability(config, capability_id::advanced_features);
  REQUIRE(at);
  test_clock clock;
  resettable device{config, clock, static_cast<std::uint16_t>(*at + 4), 1};
  REQUIRE(function_level_reset(device, clock));
  CHECK(device.resets == 1);
  CHECK(device.quiet);
  CHECK(config.read32(header::bar0) == 0xfe00'0000);

  space_image none;
  d.capabilities = {};
  REQUIRE(emit_function(none, d));
  resettable fixed{none, clock, 0x10, 0};
  const auto refused = function_level_reset(fixed, clock);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::not_supported);
}
