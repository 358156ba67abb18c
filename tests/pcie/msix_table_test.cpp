// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/msix_table.hpp>

#include <array>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

struct sent_messages {
  std::vector<pcie::msi_message> all;
  std::vector<unsigned> vectors;
  void send(std::uint16_t vector, const pcie::msi_message& m) noexcept {
    vectors.push_back(vector);
    all.push_back(m);
  }
};

struct fixture {
  sent_messages sink;
  std::vector<pcie::msi_message>& sent = sink.all;
  std::array<pcie::device::msix_vector, 70> vectors{};
  pcie::device::msix_table<sent_messages> model{vectors, sink};

  void program(unsigned vector, std::uint64_t address, std::uint32_t data, bool masked) {
    model.write_table(vector * 4, static_cast<std::uint32_t>(address));
    model.write_table(vector * 4 + 1, static_cast<std::uint32_t>(address >> 32));
    model.write_table(vector * 4 + 2, data);
    model.write_table(vector * 4 + 3, masked ? 1 : 0);
  }
  void control(bool enable, bool mask) {
    model.set_control(pcie::msix_control{}
                          .with(pcie::msix_control::enable, enable)
                          .with(pcie::msix_control::function_mask, mask));
  }
};

}  // namespace

TEST_CASE_FIXTURE(fixture, "every vector is masked after a reset") {
  for (unsigned v = 0; v != 70; ++v) {
    CHECK(model.read_table(v * 4 + 3) == 1);
    CHECK(model.read_table(v * 4) == 0);
  }
  CHECK(model.read_table(70 * 4 + 3) == 0);
}

TEST_CASE_FIXTURE(fixture, "an unmasked vector sends its message, 64-bit address and data") {
  program(69, 0x1'fee0'1004, 0xcafe, false);
  control(true, false);
  model.raise(69);
  REQUIRE(sent.size() == 1);
  CHECK(sent[0] == pcie::msi_message{bus_addr{0x1'fee0'1004}, 0xcafe});
  CHECK(sink.vectors[0] == 69);
  model.raise(70);
  model.raise(0xffff);
  CHECK(sent.size() == 1);
}

TEST_CASE_FIXTURE(fixture, "a vector raised while masked is pending, and sent once when unmasked") {
  program(65, 0xfee0'0000, 1, true);
  program(3, 0xfee0'0000, 2, true);
  control(true, false);
  model.raise(65);
  model.raise(65);
  CHECK(sent.empty());
  CHECK(model.read_pending(2) == 2);
  CHECK(model.read_pending(0) == 0);
  CHECK(model.read_pending(3) == 0);
  model.write_table(65 * 4 + 3, 0);
  CHECK(sent.size() == 1);
  CHECK(model.read_pending(2) == 0);

  // The function's mask holds all back.
  program(3, 0xfee0'0000, 2, false);
  control(true, true);
  model.raise(3);
  model.raise(65);
  CHECK(sent.size() == 1);
  CHECK(model.read_pending(0) == 8);
  control(true, false);
  CHECK(sent.size() == 3);
  control(true, false);
  CHECK(sent.size() == 3);
}

TEST_CASE_FIXTURE(fixture, "sends and remembers nothing while MSI-X is disabled") {
  program(0, 0xfee0'0000, 1, false);
  model.raise(0);
  control(true, false);
  CHECK(sent.empty());
  model.raise(0);
  CHECK(sent.size() == 1);
  model.reset();
  model.raise(0);
  control(true, false);
  CHECK(sent.size() == 1);
}

TEST_CASE_FIXTURE(fixture, "reserved bits of an entry read as zero") {
  model.write_table(0, 0xffff'ffff);
  model.write_table(3, 0xffff'ffff);
  CHECK(model.read_table(0) == 0xffff'fffc);
  CHECK(model.read_table(3) == 1);
  model.write_table(70 * 4, 1);
}
