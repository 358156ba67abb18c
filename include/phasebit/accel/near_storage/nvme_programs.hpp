// SPDX-License-Identifier: BSL-1.0
// NVMe computational storage: Computational Programs (TP4091) and Subsystem Local Memory (TP4131) as
// 64-byte commands, and the device side's reading of Execute. Constants from one source each; the opcode
// of Execute could not be confirmed and is a constant of its own.
#pragma once

#include <phasebit/accel/near_storage/command.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::accel::near_storage {

inline constexpr std::uint8_t command_set_slm = 3;
inline constexpr std::uint8_t command_set_programs = 4;
inline constexpr std::uint8_t opcode_load_program = 0x85;        // admin
inline constexpr std::uint8_t opcode_program_activation = 0x88;  // admin
inline constexpr std::uint8_t opcode_memory_range_set = 0x89;    // admin
inline constexpr std::uint8_t opcode_execute_unconfirmed = 0x01;
inline constexpr std::uint8_t opcode_slm_copy = 0x01;
inline constexpr std::uint8_t opcode_slm_read = 0x02;
inline constexpr std::uint8_t opcode_slm_fill = 0x04;
inline constexpr std::uint8_t opcode_slm_write = 0x05;

// A submission queue entry as sixteen dwords.
struct program_command {
  std::array<le<std::uint32_t>, 16> dword;
};
static_assert(WireStruct<program_command> && sizeof(program_command) == 64);

// A range of subsystem local memory.
struct memory_range {
  le<std::uint32_t> nsid;
  le<std::uint32_t> length;
  le<std::uint64_t> start;
  std::array<std::uint8_t, 16> reserved;
};
static_assert(WireStruct<memory_range> && sizeof(memory_range) == 32);

namespace detail {
[[nodiscard]] constexpr program_command blank(std::uint8_t opcode, std::uint32_t nsid) noexcept {
  program_command c{};
  c.dword[0] = opcode;
  c.dword[1] = nsid;
  return c;
}
constexpr void put64(program_command& c, std::size_t at, std::uint64_t v) noexcept {
  c.dword[at] = static_cast<std::uint32_t>(v);
  c.dword[at + 1] = static_cast<std::uint32_t>(v >> 32);
}
[[nodiscard]] constexpr std::uint64_t get64(const program_command& c, std::size_t at) noexcept {
  return c.dword[at].get() | std::uint64_t{c.dword[at + 1].get()} << 32;
}
}  // namespace detail

// Load Program: CDW10 program index 15:0 and type 23:16, CDW11 size, CDW12-13 identifier, CDW14 bytes of
// this command, CDW15 offset of them.
[[nodiscard]] constexpr program_command load_program(std::uint16_t index, std::uint8_t type,
                                                     std::uint32_t size, std::uint64_t identifier,
                                                     std::uint32_t bytes,
                                                     std::uint32_t offset) noexcept {
  program_command c = detail::blank(opcode_load_program, 0);
  c.dword[10] = index | std::uint32_t{type} << 16;
  c.dword[11] = size;
  detail::put64(c, 12, identifier);
  c.dword[14] = bytes;
  c.dword[15] = offset;
  return c;
}
[[nodiscard]] constexpr program_command activate_program(std::uint16_t index, bool on) noexcept {
  program_command c = detail::blank(opcode_program_activation, 0);
  c.dword[10] = index | (on ? 1U : 0U) << 16;
  return c;
}
// Memory Range Set: CDW10 SEL 3:0 (0 create, 1 delete) and RSID 31:16, CDW11 number of ranges.
[[nodiscard]] constexpr program_command set_memory_ranges(bool create, std::uint16_t set,
                                                          std::uint32_t ranges,
                                                          std::uint64_t list) noexcept {
  program_command c = detail::blank(opcode_memory_range_set, 0);
  detail::put64(c, 6, list);
  c.dword[10] = (create ? 0U : 1U) | std::uint32_t{set} << 16;
  c.dword[11] = ranges;
  return c;
}
// Execute: CDW2 program index 15:0 and range set 31:16, CDW3 number of ranges, CDW4 bytes of data, DPTR,
// CDW10-13 two parameters of 64 bits.
[[nodiscard]] constexpr program_command execute(std::uint32_t nsid, std::uint16_t program,
                                                std::uint16_t range_set, std::uint32_t ranges,
                                                std::uint32_t bytes, std::uint64_t data,
                                                std::uint64_t parameter1,
                                                std::uint64_t parameter2) noexcept {
  program_command c = detail::blank(opcode_execute_unconfirmed, nsid);
  c.dword[2] = program | std::uint32_t{range_set} << 16;
  c.dword[3] = ranges;
  c.dword[4] = bytes;
  detail::put64(c, 6, data);
  detail::put64(c, 10, parameter1);
  detail::put64(c, 12, parameter2);
  return c;
}
// SLM read and write: the address in CDW10-11, the bytes in CDW12, DPTR the host's memory.
[[nodiscard]] constexpr program_command access_local_memory(bool write, std::uint32_t nsid,
                                                            std::uint64_t address,
                                                            std::uint32_t bytes,
                                                            std::uint64_t host) noexcept {
  program_command c = detail::blank(write ? opcode_slm_write : opcode_slm_read, nsid);
  detail::put64(c, 6, host);
  detail::put64(c, 10, address);
  c.dword[12] = bytes;
  return c;
}

// A program of the device is a chain of operators of the overlay.
struct program {
  bool active = false;
  std::uint8_t operators = 0;
  std::array<std::uint8_t, max_chain> chain{};
};

// Execute as a request of the overlay. `id` is the caller's (queue and command id). Errors: protocol
// (not an Execute), not_found (no such program), not_ready (it is not active).
[[nodiscard]] constexpr result<request> to_request(const program_command& c, std::uint32_t id,
                                                   std::span<const program> programs) noexcept {
  if ((c.dword[0].get() & 0xff) != opcode_execute_unconfirmed) {
    return failure(errc::protocol, "the command is not an Execute", c.dword[0].get() & 0xff);
  }
  const std::uint32_t index = c.dword[2].get() & 0xffff;
  if (index >= programs.size() || programs[index].operators == 0) {
    return failure(errc::not_found, "no program of this index is loaded", index);
  }
  if (!programs[index].active) {
    return failure(errc::not_ready, "the program is not activated", index);
  }
  request r;
  r.id = id;
  r.operators = programs[index].operators;
  r.chain = programs[index].chain;
  r.buffer = detail::get64(c, 6);
  r.buffer_bytes = c.dword[4].get();
  return r;
}

}  // namespace phasebit::accel::near_storage
