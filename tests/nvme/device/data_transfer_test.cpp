// SPDX-License-Identifier: BSL-1.0
// Parts of a command's data in memory that has no pointers: what is not of the part is not touched.
#include <phasebit/memory/dma_access.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

// Reached by read() and write() only.
struct remote_memory {
  std::vector<std::byte> bytes = std::vector<std::byte>(0x10000);
  std::vector<unsigned> writes = std::vector<unsigned>(0x10000);  // of each byte

  result<mapped_range> map(bus_addr at, std::uint64_t count, access) noexcept {
    if (at.value() >= bytes.size()) return failure(errc::not_mapped, "outside", at.value());
    const std::uint64_t remaining = bytes.size() - at.value();
    return mapped_range{0, count < remaining ? count : remaining, memory_domain::unmapped};
  }
  result<> read(bus_addr at, std::span<std::byte> to) noexcept {
    if (at.value() + to.size() > bytes.size()) return failure(errc::not_mapped, "outside");
    std::memcpy(to.data(), bytes.data() + at.value(), to.size());
    return {};
  }
  result<> write(bus_addr at, std::span<const std::byte> from) noexcept {
    if (at.value() + from.size() > bytes.size()) return failure(errc::not_mapped, "outside");
    std::memcpy(bytes.data() + at.value(), from.data(), from.size());
    for (std::size_t i = 0; i != from.size(); ++i) ++writes[at.value() + i];
    return {};
  }
};
static_assert(DmaPort<remote_memory>);

// 12000 bytes from 1100h on, by PRPs: two pages apart from the third.
nvme::submission_entry command(remote_memory& memory) {
  nvme::submission_entry e{};
  const std::array<le<std::uint64_t>, 2> list{0x2000, 0x5000};
  std::memcpy(memory.bytes.data() + 0x8000, list.data(), sizeof list);
  e.prp1 = 0x1100;
  e.prp2 = 0x8000;
  return e;
}
std::size_t place_of(std::size_t i) {  // of byte i of the data
  const std::size_t at = 0x1100 + i;
  return at < 0x3000 ? at : at + 0x2000;
}

}  // namespace

TEST_CASE("nvme data in memory without pointers is moved part by part, each byte once") {
  constexpr std::size_t total = 12000;
  for (const std::size_t part : {1U, 100U, 512U, 777U, 4096U, 5000U, 12000U}) {
    remote_memory memory;
    const auto e = command(memory);
    nvme::device::data_transfer data{memory, e, 12};
    std::vector<std::byte> mine(total);
    for (std::size_t i = 0; i != total; ++i) mine[i] = static_cast<std::byte>(i * 7 + i / 256);
    for (std::size_t at = 0; at < total; at += part) {
      const auto bytes = std::span<const std::byte>{mine}.subspan(at, std::min(part, total - at));
      REQUIRE(data.to_host(total, at, bytes) == nvme::status_code::success);
    }
    std::size_t touched = 0;
    for (const unsigned n : memory.writes) touched += n;
    CHECK(touched == total);
    bool right = true;
    for (std::size_t i = 0; i != total; ++i) {
      right = right && memory.writes[place_of(i)] == 1 && memory.bytes[place_of(i)] == mine[i];
    }
    CHECK(right);
    std::vector<std::byte> back(total);
    for (std::size_t at = 0; at < total; at += part) {
      const auto bytes = std::span{back}.subspan(at, std::min(part, total - at));
      REQUIRE(data.from_host(total, at, bytes) == nvme::status_code::success);
      CHECK(data.compare(total, at, bytes) == nvme::status_code::success);
    }
    CHECK(back == mine);
    memory.bytes[place_of(total - 1)] ^= std::byte{1};
    CHECK(data.compare(total, 0, mine) == nvme::status_code::compare_failure);
    CHECK(data.compare(total, 0, std::span{mine}.first(total - 1)) == nvme::status_code::success);
  }
}

TEST_CASE("nvme data that a port cannot reach is a Data Transfer Error") {
  remote_memory memory;
  nvme::submission_entry e{};
  e.prp1 = 0xf000;
  e.prp2 = 0x1'0000;
  nvme::device::data_transfer data{memory, e, 12};
  std::vector<std::byte> mine(8192);
  CHECK(data.to_host(8192, 0, mine) == nvme::status_code::data_transfer_error);
  CHECK(data.from_host(8192, 0, mine) == nvme::status_code::data_transfer_error);
  CHECK(data.to_host(8192, 0, std::span{mine}.first(4096)) == nvme::status_code::success);
}
