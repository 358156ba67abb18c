// SPDX-License-Identifier: BSL-1.0
// The register block of a small FPGA design: an engine that copies, fills and checksums blocks of
// its own DRAM, as commanded by one submission and one completion queue. Host and engine are both
// written from this file, as a driver and a bit stream would be from one data sheet. Registers have
// 32 bits; 64-bit ones are two halves, because such blocks usually sit on a 32-bit bus.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/nvme/spec/submission.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

namespace example::fpga {

using phasebit::field;
using phasebit::pcie::device_register;
using phasebit::pcie::half_order;
using phasebit::pcie::read_only_register;
using phasebit::pcie::write_only_register;

// The id of this design.
struct identification : read_only_register<identification, 0x00> {
  using device_register::device_register;
};
inline constexpr identification block_engine{0x5042'5145};

struct version : read_only_register<version, 0x04> {
  using device_register::device_register;
  static constexpr field<15, 0> minor_number{};  // what is new is optional
  static constexpr field<31, 16> major_number{};
};
inline constexpr std::uint16_t major_version = 1;

struct capability : read_only_register<capability, 0x08> {
  using device_register::device_register;
  static constexpr field<4, 0> log2_entries{};  // of the longest queue
  static constexpr field<12, 8> log2_bytes{};   // of the longest command
  static constexpr field<16> fill{};
  static constexpr field<17> copy{};
  static constexpr field<18> checksum{};
};

// Why the engine has stopped.
enum class cause : std::uint8_t { none = 0, queue_memory = 1, queue_size = 2 };

struct status : read_only_register<status, 0x0c> {
  using device_register::device_register;
  static constexpr field<0> ready{};
  static constexpr field<1> fatal{};
  static constexpr field<15, 8, cause> reason{};
};

struct control : device_register<control, 0x10> {
  using device_register::device_register;
  static constexpr field<0> enable{};
};

// Counts while the engine has a clock: distinguishes a slow engine from a dead one.
struct heartbeat : read_only_register<heartbeat, 0x14> {
  using device_register::device_register;
};

// Where the engine finds its DRAM, and where in the BAR the host does.
struct dram_base : read_only_register<dram_base, 0x18, std::uint64_t> {
  using device_register::device_register;
  static constexpr half_order halves = half_order::low_first;
};
struct dram_offset : read_only_register<dram_offset, 0x20> {
  using device_register::device_register;
};
struct dram_pages : read_only_register<dram_pages, 0x24> {
  using device_register::device_register;
};
inline constexpr std::uint32_t page_bytes = 4096;

// Both queues lie in the DRAM. Taken over when control.enable rises.
struct submission_base : device_register<submission_base, 0x28, std::uint64_t> {
  using device_register::device_register;
  static constexpr half_order halves = half_order::low_first;
};
struct completion_base : device_register<completion_base, 0x30, std::uint64_t> {
  using device_register::device_register;
  static constexpr half_order halves = half_order::low_first;
};
struct queue_entries : device_register<queue_entries, 0x38> {
  using device_register::device_register;
  static constexpr field<15, 0> submission{};  // both minus one
  static constexpr field<31, 16> completion{};
};

// Since the engine was enabled.
struct commands_done : read_only_register<commands_done, 0x40> {
  using device_register::device_register;
};
struct commands_refused : read_only_register<commands_refused, 0x44> {
  using device_register::device_register;
};
struct doorbells_refused : read_only_register<doorbells_refused, 0x48> {
  using device_register::device_register;
};

// Doorbells have a page of their own, so that a process can be given them and nothing else.
struct submission_doorbell : write_only_register<submission_doorbell, 0x1000> {
  using device_register::device_register;
};
struct completion_doorbell : write_only_register<completion_doorbell, 0x1004> {
  using device_register::device_register;
};
inline constexpr std::uint32_t register_bytes = 0x2000;

// The commands, in NVMe's entries with a vendor's opcodes: both rings are then the library's.
enum class operation : std::uint8_t { fill = 0x80, copy = 0x84, checksum = 0x88 };

// PRP1 is where from, PRP2 where to, CDW10 how many bytes, CDW12 what to fill with.
[[nodiscard]] constexpr phasebit::nvme::submission_entry command(operation what,
                                                                 std::uint32_t bytes) noexcept {
  phasebit::nvme::submission_entry entry{};
  entry.cdw0 = static_cast<std::uint32_t>(what);
  entry.cdw10 = bytes;
  return entry;
}
[[nodiscard]] constexpr auto fill(phasebit::bus_addr to, std::uint32_t bytes,
                                  std::uint32_t word) noexcept {
  auto entry = command(operation::fill, bytes);
  entry.prp2 = to.value();
  entry.cdw12 = word;
  return entry;
}
[[nodiscard]] constexpr auto copy(phasebit::bus_addr from, phasebit::bus_addr to,
                                  std::uint32_t bytes) noexcept {
  auto entry = command(operation::copy, bytes);
  entry.prp1 = from.value();
  entry.prp2 = to.value();
  return entry;
}
// The CRC-32C comes back in DW0.
[[nodiscard]] constexpr auto checksum(phasebit::bus_addr from, std::uint32_t bytes) noexcept {
  auto entry = command(operation::checksum, bytes);
  entry.prp1 = from.value();
  return entry;
}

}  // namespace example::fpga
