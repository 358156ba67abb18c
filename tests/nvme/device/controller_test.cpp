// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/controller.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

void fill(std::span<std::byte> to, unsigned seed) {
  for (std::size_t i = 0; i != to.size(); ++i) {
    to[i] = static_cast<std::byte>(i * 131 + (i >> 8) * 7 + seed);
  }
}

}  // namespace

TEST_CASE("a host can enable the controller, identify it and create queues") {
  machine m;
  CHECK(m.reg<cap>()[cap::mqes] == 255);
  CHECK(m.reg<cap>()[cap::cqr]);
  CHECK(m.reg<vs>() == vs::of(2, 0));
  CHECK_FALSE(m.reg<csts>()[csts::rdy]);
  m.enable();
  CHECK(m.reg<csts>()[csts::rdy]);

  const bus_addr page = m.page();
  CHECK(m.admin_code(with_data(admin::identify({}), page)) == status_code::success);
  const auto id = load_wire<identify_controller>(m.ram.bytes(page, 4096));
  CHECK(text_of(id.sn) == "PHASEBIT0001");
  CHECK(id.nn == 4);
  CHECK(id.max_transfer_bytes(4096) == 128 * 1024);

  CHECK(m.admin_code(with_data(admin::identify({.cns = cns::identify_namespace, .nsid = 1}),
                               page)) == status_code::success);
  const auto ns = load_wire<identify_namespace>(m.ram.bytes(page, 4096));
  CHECK(ns.nsze == 2048);
  CHECK(ns.block_bytes() == 512);

  const auto granted = m.admin(admin::set_features(
      {.fid = feature_id::number_of_queues, .cdw11 = number_of_queues::of(3, 100).raw}));
  CHECK(granted.status().ok());
  CHECK(granted.dw0 == number_of_queues::of(3, 8).raw);
  m.create(1, 16);
  m.create(3, 4);
  CHECK(m.io_code(nvm::flush(1), 3) == status_code::success);
}

TEST_CASE("blocks that were written are read back, through PRPs of every shape") {
  for (const std::uint32_t block_size : {512U, 4096U}) {
    for (const std::uint64_t longest :
         {~std::uint64_t{0}, std::uint64_t{1000}, std::uint64_t{64}}) {
      machine m{machine<>::small(), block_size};
      m.enable();
      m.create(1, 16);
      if (longest == 64) {
        // Rings need whole entries; data does not.
        m.ram.longest_range = 64;
      }
      const bus_addr data = m.allocate(1U << 18);
      const bus_addr list = m.page();
      for (const std::uint32_t offset : {0U, 4U, 512U, 4092U}) {
        for (const std::uint32_t blocks : {1U, 2U, 8U, 31U}) {
          const std::size_t bytes = std::size_t{blocks} * block_size;
          const bus_addr begin = data + offset;
          const auto at = [&](bus_addr where, submission_entry e) {
            e.prp1 = where.value();
            const std::size_t first = 4096 - offset;
            if (bytes > first + 4096) {
              e.prp2 = list.value();
              for (std::size_t i = 0; i * 4096 + first < bytes; ++i) {
                const le<std::uint64_t> entry{(where + first + i * 4096).value()};
                store_wire(m.ram.bytes(list + i * 8, 8), entry);
              }
            } else if (bytes > first) {
              e.prp2 = (where + first).value();
            }
            return e;
          };
          fill(m.ram.bytes(begin, bytes), offset + blocks);
          const std::vector<std::byte> sent(m.ram.at(begin), m.ram.at(begin) + bytes);
          REQUIRE(m.io_code(at(begin, nvm::write({.nsid = 1, .lba = 3, .blocks = blocks}))) ==
                  status_code::success);
          CHECK(std::memcmp(m.store.data() + 3 * block_size, sent.data(), bytes) == 0);
          std::memset(m.ram.at(data), 0, 1U << 18);
          REQUIRE(m.io_code(at(begin, nvm::read({.nsid = 1, .lba = 3, .blocks = blocks}))) ==
                  status_code::success);
          CHECK(std::memcmp(m.ram.at(begin), sent.data(), bytes) == 0);
          CHECK(m.ram.at(begin)[bytes] == std::byte{0});
          CHECK(m.io_code(at(begin, nvm::compare({.nsid = 1, .lba = 3, .blocks = blocks}))) ==
                status_code::success);
          m.ram.at(begin)[bytes - 1] ^= std::byte{1};
          CHECK(m.io_code(at(begin, nvm::compare({.nsid = 1, .lba = 3, .blocks = blocks}))) ==
                status_code::compare_failure);
        }
      }
    }
  }
}
