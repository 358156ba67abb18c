// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;

TEST_CASE("an empty entry is 64 zero bytes") {
  const submission_entry e{};
  for (const std::byte b : wire_bytes(e)) CHECK(b == std::byte{0});
}

TEST_CASE("a command id changes nothing else of the first dword") {
  auto e = command(nvm_opcode::read, 7);
  e.set_fuse(fused::second);
  e.set_command_id(0xabcd);
  CHECK(e.cdw0 == 0xabcd'0202U);
  CHECK(e.command_id() == 0xabcd);
  CHECK(e.opcode() == 0x02);
  CHECK(e.fuse() == fused::second);
  e.set_command_id(1);
  CHECK(e.cdw0 == 0x0001'0202U);
  CHECK(e.nsid == 7);
}

TEST_CASE("the first dword lies in memory least significant byte first") {
  auto e = command(nvm_opcode::write, 0x0102'0304);
  e.set_command_id(0x1122);
  const auto bytes = wire_bytes(e);
  CHECK(bytes[0] == std::byte{0x01});
  CHECK(bytes[2] == std::byte{0x22});
  CHECK(bytes[3] == std::byte{0x11});
  CHECK(bytes[4] == std::byte{0x04});
  CHECK(bytes[7] == std::byte{0x01});
}

TEST_CASE("an SGL descriptor lies in bytes 24 to 39 of the entry and sets PSDT") {
  const auto d = sgl_descriptor::of(sgl_type::last_segment, bus_addr{0x1234'5678'9abc'def0}, 4096);
  auto e = command(nvm_opcode::read, 1);
  e.set_sgl(d);
  CHECK(e.psdt() == data_pointer::sgl_metadata_buffer);
  CHECK(e.sgl() == d);
  CHECK(std::memcmp(wire_bytes(e).data() + 24, &d, sizeof d) == 0);
  CHECK(e.opcode() == 0x02);
}

TEST_CASE("every byte of a descriptor survives being put into an entry") {
  sgl_descriptor d{};
  auto* const raw = writable_wire_bytes(d).data();
  for (unsigned i = 0; i != sizeof d; ++i) raw[i] = static_cast<std::byte>(0xa0 + i);
  submission_entry e{};
  e.set_sgl(d, data_pointer::sgl_metadata_segment);
  CHECK(e.sgl() == d);
  CHECK(e.psdt() == data_pointer::sgl_metadata_segment);
  CHECK(std::memcmp(wire_bytes(e).data() + 24, &d, sizeof d) == 0);
}

TEST_CASE("a descriptor's type and subtype are the halves of its last byte") {
  const auto d = sgl_descriptor::of(sgl_type::segment, bus_addr{0x1000}, 32);
  CHECK(d.identifier == 0x20);
  CHECK(d.type() == sgl_type::segment);
  CHECK(d.subtype() == sgl_subtype::address);
}

TEST_CASE("an opcode encodes the direction of its data") {
  CHECK(direction_of(static_cast<std::uint8_t>(nvm_opcode::read)) == data_direction::from_device);
  CHECK(direction_of(static_cast<std::uint8_t>(nvm_opcode::write)) == data_direction::to_device);
  CHECK(direction_of(static_cast<std::uint8_t>(nvm_opcode::flush)) == data_direction::none);
  CHECK(direction_of(static_cast<std::uint8_t>(nvm_opcode::copy)) == data_direction::to_device);
  CHECK(direction_of(static_cast<std::uint8_t>(nvm_opcode::write_zeroes)) == data_direction::none);
  CHECK(direction_of(static_cast<std::uint8_t>(admin_opcode::identify)) ==
        data_direction::from_device);
  CHECK(direction_of(static_cast<std::uint8_t>(admin_opcode::track_receive)) ==
        data_direction::from_device);
}

TEST_CASE("the starting block of a command is both its dwords") {
  submission_entry e{};
  e.cdw10 = 0x89ab'cdef;
  e.cdw11 = 0x0123'4567;
  CHECK(e.cdw10_11() == 0x0123'4567'89ab'cdefULL);
}
