// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/qtest/bar.hpp>
#include <phasebit/backend/qtest/config.hpp>
#include <phasebit/backend/qtest/connection.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sys/socket.h>

using namespace phasebit;
using namespace phasebit::backend::qtest;

namespace {

// The other end of a connection: sends the configured response to each line and records the lines.
class fake_qemu {
 public:
  using answer = std::function<std::string(const std::string&)>;  // "" is no answer, "!" hangs up

  explicit fake_qemu(answer how) {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    socket.reset(ends[0]);
    thread_ = std::thread{[fd = posix::unique_fd{ends[1]}, how = std::move(how), this]() mutable {
      std::string line;
      std::array<std::byte, 1> c{};
      while (true) {
        const auto got = posix::read_some(fd.get(), c);
        if (!got || *got == 0) return;
        if (static_cast<char>(c[0]) != '\n') {
          line.push_back(static_cast<char>(c[0]));
          continue;
        }
        lines_.push_back(line);
        const std::string said = how(line);
        if (said == "!") return;
        if (!said.empty() &&
            !posix::write_full(fd.get(), std::as_bytes(std::span<const char>{said}))) {
          return;
        }
        line.clear();
      }
    }};
  }
  fake_qemu(const fake_qemu&) = delete;
  fake_qemu& operator=(const fake_qemu&) = delete;
  ~fake_qemu() {
    if (thread_.joinable()) thread_.join();
  }
  // Once the connection is gone.
  const std::vector<std::string>& lines() {
    thread_.join();
    return lines_;
  }

  posix::unique_fd socket;

 private:
  std::vector<std::string> lines_;
  std::thread thread_;
};

std::string ok(const std::string& line) {
  return line.starts_with("read") || line.starts_with("in") ? "OK 0x0000000012345678\n" : "OK\n";
}

// The result of a read on a connection whose other end answers with `text`.
result<> after_answer(const std::string& text, std::uint32_t timeout_ms = 20'000) {
  fake_qemu qemu{[&](const std::string&) { return text; }};
  connection c{std::move(qemu.socket), timeout_ms};
  CHECK(c.read(bus_space_kind::memory, 0, 4) == 0xffff'ffff);
  CHECK(c.read(bus_space_kind::memory, 0, 8) == ~std::uint64_t{0});
  CHECK(c.read(bus_space_kind::io, 0, 1) == 0xff);
  c.write(bus_space_kind::memory, 0, 4, 1);
  return c.status();
}

}  // namespace

TEST_CASE("each access is the line that the protocol has for its width and space") {
  fake_qemu qemu{ok};
  {
    connection c{std::move(qemu.socket), 20'000};
    CHECK(c.read(bus_space_kind::memory, 0x10, 1) == 0x78);
    CHECK(c.read(bus_space_kind::memory, 0x10, 2) == 0x5678);
    CHECK(c.read(bus_space_kind::memory, 0x10, 4) == 0x1234'5678);
    CHECK(c.read(bus_space_kind::memory, 0xfee0'0000'0000, 8) == 0x1234'5678);
    CHECK(c.read(bus_space_kind::io, 0xcfc, 4) == 0x1234'5678);
    c.write(bus_space_kind::memory, 8, 8, ~std::uint64_t{0});
    c.write(bus_space_kind::io, 0xcf8, 1, 0xab);
    CHECK(c.read_indexed(0xcf8, 0x8000'0000, 0xcfe, 2) == 0x5678);
    c.write_indexed(0xcf8, 0x8000'0004, 0xcfc, 4, 7);
    REQUIRE(c.flush());
  }
  CHECK(qemu.lines() == std::vector<std::string>{"readb 0x10", "readw 0x10", "readl 0x10",
                                                 "readq 0xfee000000000", "inl 0xcfc",
                                                 "writeq 0x8 0xffffffffffffffff", "outb 0xcf8 0xab",
                                                 "outl 0xcf8 0x80000000", "inw 0xcfe",
                                                 "outl 0xcf8 0x80000004", "outl 0xcfc 0x7"});
}

TEST_CASE("registers and doorbells of a BAR are lines at its address") {
  fake_qemu qemu{ok};
  {
    connection c{std::move(qemu.socket), 20'000};
    bar b{c, bus_space_kind::memory, 0xc000'0000, 0x4000};
    b.write64_lo_hi(0x28, 0x1111'2222'3333'4444);
    b.doorbell(0x1008).ring(5);
    CHECK(b.read64(0x3ff8) == 0x1234'5678);
    bar ports{c, bus_space_kind::io, 0xc000, 0x20};
    CHECK(ports.read64(0x18) == 0x1234'5678'1234'5678);
    config_root root{c, q35};
    auto config = root.function(pcie::requester_id{1, 2, 3});
    CHECK(config.read16(0x104) == 0x5678);
    config_root old{c, pc};
    auto conventional = old.function(pcie::requester_id{1, 2, 3});
    CHECK(conventional.read8(0x3d) == 0x78);
    CHECK(conventional.read32(0x100) == 0xffff'ffff);
    conventional.write16(0x06, 0xffff);
    REQUIRE(c.flush());
  }
  CHECK(qemu.lines() ==
        std::vector<std::string>{"writel 0xc0000028 0x33334444", "writel 0xc000002c 0x11112222",
                                 "writel 0xc0001008 0x5", "readq 0xc0003ff8", "inl 0xc018",
                                 "inl 0xc01c", "readw 0xb0113104", "outl 0xcf8 0x8001133c",
                                 "inb 0xcfd", "outl 0xcf8 0x80011304", "outw 0xcfe 0xffff"});
}

TEST_CASE("any number of writes are posted, and all are answered before a read is") {
  fake_qemu qemu{ok};
  {
    connection c{std::move(qemu.socket), 20'000};
    for (std::uint64_t i = 0; i != 1000; ++i) c.write(bus_space_kind::memory, i, 1, i & 0xff);
    CHECK(c.read(bus_space_kind::memory, 0, 4) == 0x1234'5678);
    CHECK(c.status());
  }
  CHECK(qemu.lines().size() == 1001);
}

TEST_CASE("several threads share a connection, and each gets its own answer") {
  fake_qemu qemu{[](const std::string& line) {
    return line.starts_with("readq") ? "OK " + line.substr(6) + "\n" : std::string{"OK\n"};
  }};
  std::array<unsigned, 4> wrong{};
  {
    connection c{std::move(qemu.socket), 20'000};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t != wrong.size(); ++t) {
      threads.emplace_back([&c, &wrong, t] {
        for (std::uint64_t i = 1; i != 300; ++i) {
          const std::uint64_t at = t << 32 | i << 3;
          c.write(bus_space_kind::memory, at, 8, i);
          wrong[t] += c.read(bus_space_kind::memory, at, 8) != at;
        }
      });
    }
    for (std::thread& t : threads) t.join();
    CHECK(c.status());
  }
  CHECK(wrong == std::array<unsigned, 4>{});
}

TEST_CASE("an answer may arrive in parts, and interrupt notices are not answers") {
  fake_qemu qemu{[](const std::string&) { return "IRQ raise 11\nIRQ lower 11\nOK 0xab\n"; }};
  {
    connection c{std::move(qemu.socket), 20'000};
    CHECK(c.read(bus_space_kind::memory, 0, 4) == 0xab);
    CHECK(c.read(bus_space_kind::memory, 0, 4) == 0xab);
    CHECK(c.status());
  }
}

TEST_CASE("what is no answer of the protocol ends the connection, quoted") {
  for (const char* said : {"FAIL Unknown command\n", "ERR no\n", "OK 0x\n",
                           "OK 12345678901234567\n", "OK 0xXY\n", "OKAY\n", "\n", "OK\t1\n"}) {
    const auto status = after_answer(said);
    REQUIRE_FALSE(status);
    CHECK(status.error().code == errc::protocol);
    CHECK(status.error().subject.view() ==
          std::string_view{said}.substr(0, std::string_view{said}.size() - 1));
  }
  const auto endless = after_answer(std::string(5000, 'x'));
  REQUIRE_FALSE(endless);
  CHECK(endless.error().code == errc::protocol);
}

TEST_CASE("a read that is answered like a write has no value") {
  fake_qemu qemu{[](const std::string&) { return "OK\n"; }};
  {
    connection c{std::move(qemu.socket), 20'000};
    CHECK(c.read(bus_space_kind::memory, 0, 2) == 0xffff);
  }
}

TEST_CASE("a missing answer ends in a time-out, and a closed socket at once") {
  CHECK(after_answer("", 50).error().code == errc::timed_out);
  CHECK(after_answer("OK 0x", 50).error().code == errc::timed_out);
  CHECK(after_answer("!").error().code == errc::removed);
}
