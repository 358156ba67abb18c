// SPDX-License-Identifier: BSL-1.0
// Commands for operators beside an SSD: a private format of 64 bytes after FlexCSV (USENIX ATC 2021), and
// builders for the NVMe standard's Computational Programs (TP4091) and Subsystem Local Memory (TP4131).
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/core/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel::near_storage {

inline constexpr std::size_t max_chain = 8;
inline constexpr std::size_t max_operators = 32;

// `compute`: operators alone, on device memory. `read`: SSD, then the operators. `write`: the operators,
// then SSD.
enum class command_type : std::uint8_t { compute = 0, read = 1, write = 2 };

// `direct`: `file` is the first block. `indirect`: `file` is the address of a list of extents of 16 bytes
// {first block, blocks, reserved}, `blocks` of them.
enum class file_mode : std::uint8_t { direct = 0, indirect = 1 };

// The private format. Requests of one request_id run in the order of submission; `wait_for` names another
// request_id, all of whose requests must have ended, or 0. Little-endian.
struct command {
  le<std::uint32_t> request_id;  // not 0
  le<std::uint32_t> wait_for;
  std::uint8_t type;
  std::uint8_t mode;
  std::uint8_t operators;  // entries of op_chain, 1 to 8
  std::uint8_t service_class;
  le<std::uint32_t> blocks;
  std::array<std::uint8_t, max_chain> op_chain;
  le<std::uint64_t> file;
  le<std::uint64_t> buffer;  // host or device memory of the result, or of the data to write
  le<std::uint32_t> buffer_bytes;
  le<std::uint32_t> reserved0;
  std::array<std::uint8_t, 16> reserved;
};
static_assert(WireStruct<command> && sizeof(command) == 64);
static_assert(offsetof(command, type) == 8 && offsetof(command, blocks) == 12 &&
              offsetof(command, op_chain) == 16 && offsetof(command, file) == 24 &&
              offsetof(command, buffer) == 32 && offsetof(command, buffer_bytes) == 40);

// A command that has been checked.
struct request {
  std::uint32_t id = 0;
  std::uint32_t wait_for = 0;
  command_type type = command_type::compute;
  file_mode mode = file_mode::direct;
  std::uint8_t service_class = 0;
  std::uint8_t operators = 0;
  std::array<std::uint8_t, max_chain> chain{};
  std::uint64_t file = 0;
  std::uint64_t blocks = 0;
  std::uint64_t buffer = 0;
  std::uint64_t buffer_bytes = 0;
};

// The operators of the device: bit n of `operators` is operator n.
struct limits {
  std::uint32_t operators = 0;
  std::uint8_t service_classes = 2;
  std::uint64_t block_count = 0;
  std::uint32_t max_blocks = 65536;
};

// Checks a copy of what a hostile host wrote. Errors: invalid_argument (type, mode, id, class, chain
// length, reserved fields), not_found (an unknown operator; index = its place in the chain),
// out_of_range (blocks beyond the SSD or the limit), loop (the request waits for itself).
[[nodiscard]] constexpr result<request> parse(const command& c, const limits& l) noexcept {
  if (c.type > 2) return failure(errc::invalid_argument, "an unknown command type", c.type);
  if (c.mode > 1)
    return failure(errc::invalid_argument, "file_param is direct or indirect", c.mode);
  if (c.request_id.get() == 0) return failure(errc::invalid_argument, "request_id 0 is reserved");
  if (c.wait_for.get() == c.request_id.get()) {
    return failure(errc::loop, "a request waits for itself", c.request_id.get());
  }
  if (c.service_class >= l.service_classes) {
    return failure(errc::invalid_argument, "an unknown service class", c.service_class);
  }
  if (c.operators == 0 || c.operators > max_chain) {
    return failure(errc::invalid_argument, "op_chain has 1 to 8 operators", c.operators);
  }
  bool clean = c.reserved0.get() == 0;
  for (const std::uint8_t b : c.reserved) clean = clean && b == 0;
  if (!clean) return failure(errc::invalid_argument, "a reserved field is not 0");
  request r;
  for (std::uint32_t k = 0; k != max_chain; ++k) {
    if (k >= c.operators) {
      if (c.op_chain[k] != 0)
        return failure(errc::invalid_argument, "op_chain goes on after its end");
      continue;
    }
    const std::uint8_t op = c.op_chain[k];
    if (op >= max_operators || (l.operators >> op & 1U) == 0) {
      return failure(errc::not_found, "op_chain names an unknown operator", op).at(k);
    }
    r.chain[k] = op;
  }
  const std::uint64_t blocks = c.blocks.get();
  if (c.type != 0 && c.mode == 0) {
    if (blocks == 0 || blocks > l.max_blocks) {
      return failure(errc::out_of_range, "no blocks, or more than the device takes", blocks);
    }
    if (c.file.get() > l.block_count || blocks > l.block_count - c.file.get()) {
      return failure(errc::out_of_range, "blocks beyond the end of the SSD", c.file.get());
    }
  } else if (c.type != 0 && (blocks == 0 || blocks > 256)) {
    return failure(errc::out_of_range, "a list of extents has 1 to 256 entries", blocks);
  }
  r.id = c.request_id.get();
  r.wait_for = c.wait_for.get();
  r.type = static_cast<command_type>(c.type);
  r.mode = static_cast<file_mode>(c.mode);
  r.service_class = c.service_class;
  r.operators = c.operators;
  r.file = c.file.get();
  r.blocks = blocks;
  r.buffer = c.buffer.get();
  r.buffer_bytes = c.buffer_bytes.get();
  return r;
}

// The stages of a request, in order.
enum class stage : std::uint8_t { ssd_read, operators, ssd_write, deliver };
struct stage_list {
  std::array<stage, 3> stages{};
  std::size_t count = 0;
};
[[nodiscard]] constexpr stage_list stages_of(command_type type) noexcept {
  if (type == command_type::read) return {{stage::ssd_read, stage::operators, stage::deliver}, 3};
  if (type == command_type::write) return {{stage::operators, stage::ssd_write}, 2};
  return {{stage::operators, stage::deliver}, 2};
}

// Points an NVMe command's PRP entries (bytes 24 and 32 of the 64) at a contiguous buffer of device
// memory; the other bytes stay. `address` is 4 KiB aligned, and the transfer at most two pages, or the
// caller has put the PRP list at `list`.
constexpr void redirect_prp(std::span<std::uint8_t, 64> nvme, std::uint64_t address,
                            std::uint64_t bytes, std::uint64_t list = 0) noexcept {
  PHASEBIT_EXPECTS(address % 4096 == 0, "device memory for an NVMe command is page aligned");
  PHASEBIT_EXPECTS(bytes <= 8192 || list != 0, "more than two pages need a PRP list");
  const std::uint64_t second = bytes <= 4096 ? 0 : bytes <= 8192 ? address + 4096 : list;
  for (std::size_t k = 0; k != 8; ++k) {
    nvme[24 + k] = static_cast<std::uint8_t>(address >> (8 * k));
    nvme[32 + k] = static_cast<std::uint8_t>(second >> (8 * k));
  }
}

}  // namespace phasebit::accel::near_storage
