// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/completion.hpp>

#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;

TEST_CASE("the last dword of a completion holds command id, phase and status") {
  const completion_dw3 last{0x8005'1234 | 1U << 16};
  CHECK(last.command_id() == 0x1234);
  CHECK(last.phase());
  CHECK(last.status().raw() == 0x4002);
  CHECK(last.status() == status_code::invalid_field);
  CHECK(last.status().dnr());
}

TEST_CASE("what a controller writes into the last dword is what a host reads") {
  for (const unsigned id : {0U, 1U, 0x7fffU, 0xffffU}) {
    for (const unsigned raw : {0U, 1U, 0x101U, 0x4285U, 0x7fffU}) {
      for (const bool phase : {false, true}) {
        const auto s = status{static_cast<std::uint16_t>(raw)};
        const auto d = completion_dw3::of(static_cast<std::uint16_t>(id), s, phase);
        CHECK(d.command_id() == id);
        CHECK(d.phase() == phase);
        CHECK(d.status() == s);
      }
    }
  }
}

TEST_CASE("an entry's bytes lie where the controller puts them") {
  completion_entry e{};
  e.dw0 = 0x0403'0201;
  e.dw1 = 0x0807'0605;
  e.sq_head = 0x0a09;
  e.sq_id = 0x0c0b;
  e.dw3 = 0x100f'0e0d;
  const auto bytes = wire_bytes(e);
  for (std::size_t i = 0; i != bytes.size(); ++i) CHECK(bytes[i] == static_cast<std::byte>(i + 1));
  CHECK(e.result() == 0x0807'0605'0403'0201ULL);
  CHECK(e.command_id() == 0x0e0d);
  CHECK(e.phase() == true);
}
