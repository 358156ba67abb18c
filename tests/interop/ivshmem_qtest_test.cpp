// SPDX-License-Identifier: BSL-1.0
// Rings behind a BAR: registers and doorbells go through QEMU's ivshmem-plain, queues and data lie in
// the memory behind its BAR 2, and at the other end of that memory a thread plays the FPGA.
#include <phasebit/backend/qtest.hpp>

#include <cstdlib>
#include <string>

#include <doctest/doctest.h>
#include <support/skip.hpp>

using namespace phasebit_test;
using namespace phasebit;

#if __has_include(<boost/crc.hpp>)

#  include "../../examples/support/fpga_engine.hpp"
#  include "../../examples/support/fpga_host.hpp"
#  include "../../examples/support/fpga_memory.hpp"

#  include <algorithm>
#  include <cstring>
#  include <memory>
#  include <random>
#  include <thread>
#  include <vector>

#  include <unistd.h>

namespace qtest = phasebit::backend::qtest;
namespace fpga = example::fpga;

namespace {

constexpr std::uint64_t patience = 20'000 * nanoseconds_per_ms;

// The file, a QEMU that shows it as a BAR, and a thread that plays the FPGA while it lives.
class card {
 public:
  using device_type = fpga::device<qtest::bar>;

  explicit card(fpga::engine_fault fault = fpga::engine_fault::none, std::uint32_t after = 0)
      : memory_(make_memory()), machine_(make_machine()) {
    auto function = machine_.open_device(0x1af4, 0x1110);
    REQUIRE_MESSAGE(function, function.error().what);
    function_ = std::make_unique<qtest::function>(std::move(*function));
    const auto bar = function_->map_bar(2);
    REQUIRE_MESSAGE(bar, bar.error().what);
    bar_ = *bar;
    engine_ = std::jthread{[this, fault, after](const std::stop_token& end) {
      fpga::engine<> plays{memory_.bytes(), fault, after};
      while (!end.stop_requested()) {
        if (plays.poll() == 0) posix::steady_clock::relax();
      }
    }};
    // The engine stores its identification last.
    posix::steady_clock clock;
    REQUIRE(poll_until(clock, patience,
                       [&]() noexcept { return bar_.read32(fpga::identification::offset) != 0; }));
  }
  ~card() {
    remove_engine();
    ::unlink(path().c_str());
  }
  card(const card&) = delete;
  card& operator=(const card&) = delete;

  void remove_engine() {
    engine_.request_stop();
    if (engine_.joinable()) engine_.join();
  }
  [[nodiscard]] std::unique_ptr<device_type> device(std::uint64_t how_long = patience) {
    return std::make_unique<device_type>(bar_, memory_.bytes(), how_long);
  }
  [[nodiscard]] std::span<std::byte> bytes() const { return memory_.bytes(); }
  [[nodiscard]] qtest::bar& bar() { return bar_; }

 private:
  static std::string path() { return "/tmp/phasebit-ivshmem-" + std::to_string(::getpid()); }
  static fpga::shared_memory make_memory() {
    if (std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") != 0) {
      skip("qemu-system-x86_64 is not installed");
    }
    auto made = fpga::shared_memory::create(path(), 1U << 20);
    REQUIRE_MESSAGE(made, made.error().what);
    return std::move(*made);
  }
  static qtest::machine make_machine() {
    auto made = qtest::machine::start(
        {.devices = {"ivshmem-plain,memdev=fpga"},
         .arguments = {"-object",
                       "memory-backend-file,id=fpga,share=on,size=1M,mem-path=" + path()}});
    REQUIRE_MESSAGE(made, made.error().what);
    return std::move(*made);
  }

  fpga::shared_memory memory_;
  qtest::machine machine_;
  std::unique_ptr<qtest::function> function_;
  qtest::bar bar_;
  std::jthread engine_;
};

struct ended {
  nvme::status status;
  std::uint32_t dw0 = 0;
};

// Posts one command and waits for its end.
template <class Device>
ended run(Device& device, const nvme::submission_entry& command) {
  const auto posted = device.queue().submit(command, 0U);
  REQUIRE_MESSAGE(posted, posted.what);
  device.queue().ring();
  ended how;
  posix::steady_clock clock;
  REQUIRE(poll_until(clock, patience, [&]() noexcept {
    return device.queue().poll([&](std::uint32_t&, nvme::driver::completion c) noexcept {
      how = {c.status(), c.dw0()};
    }) != 0;
  }));
  return how;
}

template <class Register, class Device>
auto raw(Device& device) {
  return device.registers().template read<Register>().raw;
}

}  // namespace

TEST_CASE("a word written through BAR 2 is in the memory, and the other way round") {
  card c;
  constexpr std::uint32_t at = 0x4'0000;
  c.bar().write64_lo_hi(at, 0x1122'3344'5566'7788);
  CHECK(c.bar().read32(at) == 0x5566'7788);  // after it QEMU has done the writes
  CHECK(load_wire<le<std::uint64_t>>(c.bytes().subspan(at)) == 0x1122'3344'5566'7788);
  store_wire(c.bytes().subspan(at + 8), le<std::uint32_t>{0xabcd'ef01});
  CHECK(c.bar().read32(at + 8) == 0xabcd'ef01);
}

TEST_CASE("commands go through the rings to the engine and come back done") {
  card c;
  const auto device = c.device();
  REQUIRE(device->attach());
  REQUIRE(device->start(4));
  const auto memory = device->memory().allocate(8192, 4096);
  REQUIRE(memory);
  CHECK(memory->bus >= fpga::engine<>::dram_at);
  const auto from = memory->subregion(0, 4096);
  const auto to = memory->subregion(4096, 4096);

  CHECK(run(*device, fpga::fill(from.bus, 4096, 0x0102'0304)).status.ok());
  const std::byte word[] = {std::byte{4}, std::byte{3}, std::byte{2}, std::byte{1}};
  for (std::size_t i = 0; i != 4096; ++i) REQUIRE(from.bytes[i] == word[i % 4]);

  // The check value of CRC-32C, and that of 32 zeros (RFC 3720, B.4).
  std::memcpy(from.data(), "123456789", 9);
  const auto nine = run(*device, fpga::checksum(from.bus, 9));
  CHECK(nine.status.ok());
  CHECK(nine.dw0 == 0xe306'9283);
  CHECK(run(*device, fpga::fill(to.bus, 32, 0)).status.ok());
  CHECK(run(*device, fpga::checksum(to.bus, 32)).dw0 == 0x8a91'36aa);

  // More laps than the ring has places, at odd addresses and lengths.
  for (std::uint32_t n = 1; n != 40; ++n) {
    for (std::size_t i = 0; i != 4096; ++i) from.bytes[i] = static_cast<std::byte>(i * n >> 3);
    std::ranges::fill(to.bytes, std::byte{0xee});
    const auto copied = run(*device, fpga::copy(from.bus + n, to.bus + 2 * n, 97 * n));
    CHECK(copied.status.ok());
    CHECK(std::memcmp(from.data() + n, to.data() + 2 * n, 97 * n) == 0);
    CHECK(to.bytes[2 * n - 1] == std::byte{0xee});
    CHECK(to.bytes[2 * n + 97 * n] == std::byte{0xee});
  }
  CHECK(raw<fpga::commands_done>(*device) == 43);
  CHECK(raw<fpga::commands_refused>(*device) == 0);
  CHECK(raw<fpga::doorbells_refused>(*device) == 0);
  CHECK(device->check());
  CHECK(device->queue().health());
}

namespace {

// A bus that carries no access of 64 bits, such as AXI4-Lite.
class narrow_bar {
 public:
  explicit narrow_bar(qtest::bar bar) noexcept : bar_(bar) {}
  [[nodiscard]] std::uint32_t read32(std::uint32_t at) noexcept { return bar_.read32(at); }
  void write32(std::uint32_t at, std::uint32_t value) noexcept { bar_.write32(at, value); }
  [[nodiscard]] std::uint64_t read64(std::uint32_t) noexcept {
    wide_ = true;
    return 0;
  }
  void write64_lo_hi(std::uint32_t at, std::uint64_t value) noexcept {
    bar_.write64_lo_hi(at, value);  // two of 32 bits
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return bar_.size_bytes(); }
  [[nodiscard]] auto doorbell(std::uint32_t at) noexcept { return bar_.doorbell(at); }

  [[nodiscard]] static bool any_wide() noexcept { return wide_; }

 private:
  inline static bool wide_ = false;
  qtest::bar bar_;
};
static_assert(Mmio<narrow_bar>);

}  // namespace

TEST_CASE("no register of the engine's is accessed in more than 32 bits") {
  card c;
  fpga::device<narrow_bar> device{narrow_bar{c.bar()}, c.bytes(), patience};
  REQUIRE(device.attach());
  REQUIRE(device.start(4));
  // Addresses beyond 4 GiB got through in halves.
  CHECK(device.memory().whole().bus == fpga::engine<>::dram_at);
  CHECK(run(device, fpga::checksum(device.memory().whole().bus, 16)).status.ok());
  CHECK_FALSE(narrow_bar::any_wide());
}

TEST_CASE("an engine validates the host's writes") {
  using enum nvme::status_code;
  card c;
  const auto device = c.device();
  REQUIRE(device->attach());

  SUBCASE("commands: lengths, addresses, opcodes") {
    REQUIRE(device->start(8));
    const auto whole = device->memory().whole();
    const bus_addr begin = whole.bus;
    const bus_addr end = begin + whole.size();
    const auto code = [&](const nvme::submission_entry& command) {
      return run(*device, command).status.code();
    };
    CHECK(code(fpga::fill(begin, 0, 1)) == invalid_field);
    CHECK(code(fpga::fill(begin, 3, 1)) == invalid_field);
    CHECK(code(fpga::checksum(begin, (1U << 20) + 1)) == invalid_field);
    CHECK(code(fpga::checksum(begin, ~0U)) == invalid_field);
    CHECK(code(fpga::checksum(end - 8, 9)) == data_transfer_error);
    CHECK(code(fpga::checksum(end - 8, 8)) == success);
    CHECK(code(fpga::checksum(begin - 1, 2)) == data_transfer_error);
    CHECK(code(fpga::checksum(bus_addr{0}, 16)) == data_transfer_error);
    CHECK(code(fpga::checksum(bus_addr{~std::uint64_t{0}}, 16)) == data_transfer_error);
    CHECK(code(fpga::copy(begin, end, 1)) == data_transfer_error);
    CHECK(code(fpga::copy(end, begin, 1)) == data_transfer_error);
    auto unknown = fpga::checksum(begin, 16);
    unknown.cdw0 = 0xff;
    CHECK(code(unknown) == invalid_opcode);
    CHECK(raw<fpga::commands_refused>(*device) == 11);
    CHECK(device->check());
  }
  SUBCASE("doorbells: values that no ring can have change nothing") {
    REQUIRE(device->start(8));
    for (const std::uint32_t value : {8U, 0xffff'ffffU}) {
      device->registers().write(fpga::submission_doorbell{value});
      REQUIRE(device->check_heartbeat());
    }
    device->registers().write(fpga::submission_doorbell{0});
    REQUIRE(device->check_heartbeat());
    for (const std::uint32_t value : {1U, 7U, 0x8000'0000U}) {  // nothing was answered yet
      device->registers().write(fpga::completion_doorbell{value});
      REQUIRE(device->check_heartbeat());
    }
    device->registers().write(fpga::completion_doorbell{0});
    CHECK(raw<fpga::doorbells_refused>(*device) == 5);
    CHECK(raw<fpga::commands_done>(*device) == 0);
    CHECK(run(*device, fpga::checksum(device->memory().whole().bus, 16)).status.ok());
  }
  SUBCASE("queues: those outside of its DRAM, and of no size") {
    auto& r = device->registers();
    const std::uint64_t inside = device->memory().whole().bus.value();
    struct {
      std::uint64_t submission;
      std::uint64_t completion;
      std::uint16_t last;
      fpga::cause why;
    } const cases[] = {
        {0x1000, inside, 7, fpga::cause::queue_memory},
        {inside, 0x1000, 7, fpga::cause::queue_memory},
        {inside + 64, inside, 7, fpga::cause::queue_memory},
        {inside + device->memory().whole().size() - 4096, inside, 1023, fpga::cause::queue_memory},
        {~std::uint64_t{0} - 4095, inside, 7, fpga::cause::queue_memory},
        {inside, inside + 4096, 0, fpga::cause::queue_size},
        {inside, inside + 4096, 1024, fpga::cause::queue_size},
    };
    for (const auto& wrong : cases) {
      CAPTURE(wrong.submission);
      r.write(fpga::control{});
      REQUIRE(device->check_heartbeat());
      r.write(fpga::submission_base{wrong.submission});
      r.write(fpga::completion_base{wrong.completion});
      r.write(fpga::queue_entries{}
                  .with(fpga::queue_entries::submission, wrong.last)
                  .with(fpga::queue_entries::completion, wrong.last));
      r.write(fpga::control{}.with(fpga::control::enable, true));
      REQUIRE(device->check_heartbeat());
      const auto status = r.read<fpga::status>();
      CHECK(status[fpga::status::fatal]);
      CHECK_FALSE(status[fpga::status::ready]);
      CHECK(status[fpga::status::reason] == wrong.why);
      CHECK_FALSE(device->check());
    }
    r.write(fpga::control{});
    REQUIRE(device->check_heartbeat());
    CHECK(device->start(8));
  }
}

TEST_CASE("an engine outlives whatever a host writes into its BAR") {
  // Of exactly the BAR's length, so that AddressSanitizer sees the first byte beyond it.
  std::vector<std::byte> bar(128U << 10);
  fpga::engine<> engine{bar};
  fpga::engine_registers<thread_order> registers{bar};
  const std::uint64_t dram = fpga::engine<>::dram_at.value();
  const std::uint64_t dram_bytes = bar.size() - fpga::register_bytes;
  std::mt19937_64 random{20};
  const auto below = [&](std::uint64_t n) { return random() % n; };
  // Sometimes right, sometimes at an edge, sometimes anything.
  const auto some_address = [&]() -> std::uint64_t {
    switch (below(4)) {
      case 0:
        return random();
      case 1:
        return dram + dram_bytes - below(4096);
      case 2:
        return dram + below(16) * 4096;
      default:
        return dram + below(dram_bytes);
    }
  };
  const auto some_count = [&] { return static_cast<std::uint32_t>(random() >> below(64)); };
  std::uint64_t commands = 0;
  unsigned ready = 0;
  for (unsigned round = 0; round != 20'000; ++round) {
    switch (below(6)) {
      case 0:
        registers.write(fpga::submission_base{some_address()});
        registers.write(fpga::completion_base{some_address()});
        registers.write(fpga::queue_entries{below(4) == 0 ? some_count() : 0x001f'001fU});
        break;
      case 1:
        registers.write(fpga::control{below(4) == 0 ? some_count() : 0U});
        engine.poll();
        registers.write(fpga::control{1});
        break;
      case 2:
        registers.write(fpga::submission_doorbell{static_cast<std::uint32_t>(below(34))});
        registers.write(fpga::completion_doorbell{static_cast<std::uint32_t>(below(34))});
        break;
      case 3:
        registers.store(static_cast<std::uint32_t>(below(fpga::register_bytes / 4) * 4),
                        some_count());
        break;
      default: {
        auto entry = fpga::command(static_cast<fpga::operation>(0x80 + 4 * below(4)),
                                   some_count() & 0x3f'ffff);
        entry.prp1 = some_address();
        entry.prp2 = some_address();
        entry.cdw12 = some_count();
        store_wire(std::span{bar}.subspan(fpga::register_bytes + below(dram_bytes / 64) * 64),
                   entry);
      }
    }
    commands += engine.poll();
    ready += registers.read<fpga::status>()[fpga::status::ready] ? 1 : 0;
  }
  // The host was not always wrong, or else nothing was tried.
  CHECK(ready > 500);
  CHECK(commands > 1000);
  CHECK(commands <= engine.commands());
}

TEST_CASE("a driver validates the engine's writes") {
  const auto code = [](const result<>& r) { return r ? errc{} : r.error().code; };

  SUBCASE("nothing plays the FPGA") {
    card c;
    c.remove_engine();
    CHECK(code(c.device()->attach()) == errc::removed);
    std::ranges::fill(c.bytes().first(fpga::register_bytes), std::byte{0});
    CHECK(code(c.device()->attach()) == errc::not_ready);
  }
  SUBCASE("another design, another version") {
    CHECK(code(card{fpga::engine_fault::wrong_design}.device()->attach()) == errc::not_supported);
    CHECK(code(card{fpga::engine_fault::wrong_version}.device()->attach()) == errc::not_supported);
  }
  SUBCASE("DRAM that the BAR does not hold") {
    card c;
    REQUIRE(c.device()->attach());
    const std::uint32_t right = c.bar().read32(fpga::dram_pages::offset);
    for (const std::uint32_t pages : {0U, right + 1, ~0U}) {
      c.bar().write32(fpga::dram_pages::offset, pages);
      CHECK(code(c.device()->attach()) == errc::protocol);
    }
    c.bar().write32(fpga::dram_pages::offset, right);
    c.bar().write32(fpga::dram_offset::offset, 0x10'0000);
    CHECK(code(c.device()->attach()) == errc::protocol);
  }
  SUBCASE("never ready") {
    card c{fpga::engine_fault::not_ready};
    const auto device = c.device(200 * nanoseconds_per_ms);
    REQUIRE(device->attach());
    CHECK(code(device->start(8)) == errc::timed_out);
  }
  SUBCASE("a completion of a command that was not sent is counted and not delivered") {
    card c{fpga::engine_fault::unknown_id};
    const auto device = c.device();
    REQUIRE(device->attach());
    REQUIRE(device->start(8));
    REQUIRE(device->queue().submit(fpga::checksum(device->memory().whole().bus, 16), 1U));
    device->queue().ring();
    unsigned handed_out = 0;
    posix::steady_clock clock;
    CHECK(poll_until(clock, patience, [&]() noexcept {
      handed_out += device->queue().poll([](std::uint32_t&, nvme::driver::completion) noexcept {});
      return device->queue().unexpected_completions() != 0;
    }));
    CHECK(handed_out == 0);
    CHECK(code(device->queue().health()) == errc::protocol);
    CHECK(device->queue().in_flight() == 1);
  }
  SUBCASE("gone, or standing still, with commands in flight") {
    for (const auto fault : {fpga::engine_fault::gone, fpga::engine_fault::stops}) {
      card c{fault};
      const auto device = c.device(500 * nanoseconds_per_ms);
      REQUIRE(device->attach());
      REQUIRE(device->start(8));
      REQUIRE(device->queue().submit(fpga::checksum(device->memory().whole().bus, 16), 1U));
      device->queue().ring();
      posix::steady_clock clock;
      result<> well;
      CHECK(poll_until(clock, patience, [&]() noexcept {
        well = device->check_heartbeat();
        return !well;
      }));
      CHECK(code(well) == (fault == fpga::engine_fault::gone ? errc::removed : errc::timed_out));
      CHECK(device->queue().fail_all(nvme::status_code::aborted_by_host,
                                     [](std::uint32_t&, nvme::driver::completion) noexcept {}) ==
            1);
    }
  }
}

#else

TEST_CASE("an engine behind ivshmem's BAR") { skip("Boost.CRC is not installed (libboost-dev)"); }

#endif
