// SPDX-License-Identifier: BSL-1.0
// Writes blocks with versions behind a vfio-user server and verifies what it reads, while a script hands the
// server over, or kills and restarts it. Ends when the file STOP exists.
// Usage: target_writer SOCKET STOP steady|reconnect
//   steady      the connection has to last
//   reconnect   after an error it connects anew and verifies every block: what was flushed is there, and
//               nothing that was never written
#include <phasebit/hosted/format.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/transport/vfio_user/client.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <fmt/core.h>
#include <unistd.h>

using namespace phasebit;

namespace {

constexpr std::uint64_t blocks = 2048;
constexpr std::size_t block_bytes = 512;

// Every word of a block names the block and its version.
void stamp(std::span<std::byte> block, std::uint64_t lba, std::uint64_t version) {
  for (std::size_t at = 0; at != block_bytes; at += 8) {
    const std::uint64_t word = version << 32 | lba << 8 | at / 8;
    std::memcpy(block.data() + at,
                version == 0 ? "\0\0\0\0\0\0\0" : static_cast<const void*>(&word), 8);
  }
}
// The version of a whole block of this number, or all ones.
std::uint64_t version_of(std::span<const std::byte> block, std::uint64_t lba) {
  std::uint64_t first = 0;
  std::memcpy(&first, block.data(), 8);
  std::array<std::byte, block_bytes> wanted;
  stamp(wanted, lba, first >> 32);
  return std::memcmp(wanted.data(), block.data(), block_bytes) == 0 ? first >> 32
                                                                    : ~std::uint64_t{0};
}

struct writer {
  std::vector<std::uint64_t> flushed = std::vector<std::uint64_t>(blocks);  // at least this version
  std::vector<std::uint64_t> newest = std::vector<std::uint64_t>(blocks);   // at most this one
  std::mt19937 random{7};
  std::string path;
  std::string stop;
  bool steady = true;
  std::uint64_t writes = 0;
  std::uint64_t reads = 0;
  std::uint64_t connections = 0;
  std::uint64_t longest_us = 0;
  bool wrong = false;

  [[nodiscard]] bool stopped() const { return ::access(stop.c_str(), F_OK) == 0; }

  template <class Disk>
  result<> verify(Disk& disk, std::uint64_t lba, std::uint64_t count, bool first = false) {
    std::vector<std::byte> data(count * block_bytes);
    if (const auto got = disk.read(lba, data); !got) return got;
    ++reads;
    for (std::uint64_t i = 0; i != count; ++i) {
      const std::uint64_t b = lba + i;
      const auto there = version_of(std::span{data}.subspan(i * block_bytes, block_bytes), b);
      if (there == ~std::uint64_t{0} || there < flushed[b] || there > newest[b]) {
        wrong = true;
        fmt::print(stderr, "block {}: version {} instead of {} to {}\n", b, there, flushed[b],
                   newest[b]);
        return failure(errc::io, "a block is not what was written", b);
      }
      // Writes that an earlier connection has lost will not come any more.
      if (first) newest[b] = there;
    }
    return {};
  }
  result<> session() {
    auto socket = posix::connect_unix(path);
    if (!socket) return socket.error();
    auto function = transport::vfio_user::client::connect(std::move(*socket));
    if (!function) return function.error();
    auto controller = nvme::attach(*function);
    if (!controller) return controller.error();
    auto disk = nvme::open_disk(*controller, {.timeout_ms = steady ? 30'000U : 2'000U});
    if (!disk) return disk.error();
    ++connections;
    for (std::uint64_t lba = 0; lba != blocks; lba += 64) {
      if (const auto good = verify(*disk, lba, 64, true); !good) return good;
    }
    fmt::print("connected\n");
    std::fflush(stdout);
    while (!stopped()) {
      const std::uint64_t count = 1 + random() % 32;
      const std::uint64_t lba = random() % (blocks - count);
      const auto begun = std::chrono::steady_clock::now();
      switch (random() % 8) {
        case 0: {
          if (const auto done = disk->flush(); !done) return done;
          flushed = newest;
          break;
        }
        case 1:
        case 2:
          if (const auto good = verify(*disk, lba, count); !good) return good;
          break;
        default: {
          std::vector<std::byte> data(count * block_bytes);
          for (std::uint64_t i = 0; i != count; ++i) {
            stamp(std::span{data}.subspan(i * block_bytes, block_bytes), lba + i,
                  ++newest[lba + i]);
          }
          if (const auto done = disk->write(lba, data); !done) return done;
          ++writes;
          // A read sees what was acknowledged, for as long as the server lives.
          if (steady) {
            for (std::uint64_t i = 0; i != count; ++i) flushed[lba + i] = newest[lba + i];
          }
        }
      }
      const auto took = std::chrono::duration_cast<std::chrono::microseconds>(
          std::chrono::steady_clock::now() - begun);
      if (static_cast<std::uint64_t>(took.count()) > longest_us)
        longest_us = static_cast<std::uint64_t>(took.count());
    }
    for (std::uint64_t lba = 0; lba != blocks; lba += 64) {
      if (const auto good = verify(*disk, lba, 64); !good) return good;
    }
    return controller->shut_down();
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  writer w;
  w.path = argv[1];
  w.stop = argv[2];
  w.steady = std::string{argv[3]} == "steady";
  for (;;) {
    const auto done = w.session();
    if (done) break;
    if (w.steady || w.wrong) {
      fmt::print(stderr, "target_writer: {}\n", done.error());
      return 1;
    }
    if (w.stopped()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  fmt::print("{} writes, {} reads, {} connections, longest {} us\n", w.writes, w.reads,
             w.connections, w.longest_us);
  return 0;
}
