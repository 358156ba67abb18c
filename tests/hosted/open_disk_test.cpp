// SPDX-License-Identifier: BSL-1.0
#include <phasebit/hosted/open_disk.hpp>
#include <phasebit/memory/dma_buffer.hpp>

#include <cstdio>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;

TEST_CASE("a simulated disk is opened by name, blocking and asynchronous") {
  auto disk = hosted::open_disk("sim:");
  REQUIRE_MESSAGE(disk, disk.error().what);
  std::vector<std::byte> out(300U << 10, std::byte{0x5a});
  std::vector<std::byte> in(out.size());
  CHECK(disk->write(5, out));
  CHECK(disk->flush());
  CHECK(disk->read(5, in));
  CHECK(in == out);
  {
    const auto data = allocate(*disk, 4096);
    REQUIRE(data);
    unsigned good = 0;
    for (std::uint64_t i = 0; i != 8; ++i) {
      REQUIRE(disk->read({.lba = 5 + i, .blocks = 8}, *data,
                         [&](nvme::driver::completion c) noexcept { good += c.ok(); }));
    }
    CHECK(disk->wait(1000).error().code == errc::not_ready);  // ring() is missing
    disk->ring();
    while (disk->in_flight() != 0) REQUIRE(disk->wait(10'000));
    CHECK(good == 8);
    CHECK((*data)->bytes[4095] == std::byte{0x5a});
  }
  auto moved = std::move(*disk);
  CHECK(moved.check());
  CHECK(moved.shut_down());
  CHECK(moved.read(0, std::span{in}.first(512)).error().code == errc::removed);
}

TEST_CASE(
    "a simulated disk over an image keeps what was written, and refuses writes where it may only "
    "read") {
  const std::string path = "open_disk_test.img";
  std::FILE* const f = std::fopen(path.c_str(), "wb");
  REQUIRE(f != nullptr);
  const std::vector<char> zeros(1U << 20);
  REQUIRE(std::fwrite(zeros.data(), 1, zeros.size(), f) == zeros.size());
  std::fclose(f);
  std::vector<std::byte> block(512, std::byte{7});
  {
    auto disk = hosted::open_disk("sim:" + path);
    REQUIRE_MESSAGE(disk, disk.error().what);
    CHECK(disk->info().blocks == 2048);
    CHECK(disk->write(9, block));
  }
  auto again = hosted::open_disk("sim:" + path, {.read_only = true});
  REQUIRE(again);
  std::vector<std::byte> in(512);
  CHECK(again->read(9, in));
  CHECK(in == block);
  CHECK(again->write(9, block).error().code == errc::permission);
  std::remove(path.c_str());
}

TEST_CASE("what names no disk is refused with a sentence") {
  for (const char* name : {"", "disk", "nvme:0", "vfio", "vfio:", "vfio:01:00", "mmio:x",
                           "qtest:", "sim", ":", "vfio:0000:01:00.9"}) {
    CAPTURE(name);
    const auto disk = hosted::open_disk(name);
    REQUIRE_FALSE(disk);
    CHECK(disk.error().code == errc::invalid_argument);
    CHECK(std::string_view{disk.error().what}.size() > 20);
  }
  CHECK_FALSE(hosted::open_disk("sim:/no/such/image"));
}

TEST_CASE("a simulated disk fails as its options specify, and a read-only one refuses writes") {
  namespace sim = backend::simulated;
  CHECK_FALSE(hosted::open_disk("sim:", {.faults = sim::fault_plan{}.remove_at_completion(0)}));
  auto disk = hosted::open_disk("sim:", {.read_only = true});
  REQUIRE(disk);
  const std::vector<std::byte> block(512);
  CHECK(disk->write(0, block).error().code == errc::permission);
  CHECK(disk->write(0, block, {}).error().code == errc::permission);
  std::vector<std::byte> read(512);
  CHECK(disk->read(0, read));
}
