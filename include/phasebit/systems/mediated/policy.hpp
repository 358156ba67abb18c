// SPDX-License-Identifier: BSL-1.0
// The parameters of a mediated_nvme: sizes at compile time, and the owner's settings of the drive
// and of each function.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/translation/flat_table.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/nvme/driver/namespace_info.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/driver/submitted.hpp>
#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/submission.hpp>
#include <phasebit/sriov/token_bucket.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems {

// Derive from it and change what should be different.
struct mediated_policy {
  static constexpr std::size_t functions = 256;         // 4 physical and 252 virtual ones
  static constexpr std::uint16_t io_queue_pairs = 2;    // of each function
  static constexpr std::uint16_t max_in_flight = 1023;  // commands at the drive, of all functions
  static constexpr unsigned table_page_shift = 21;      // log2 of a page of a function's flat table
  static constexpr std::size_t async_events = 4;        // parked event requests of each function
  static constexpr std::uint32_t quantum = 131'072;     // bytes that weight 1 has in each round
};

// From the addresses that a function's host programs to those at which the drive reaches the memory.
template <class Policy>
using function_table_of = iommu::flat_table<Policy::table_page_shift, bus_space, host_space>;

// Comes back from the drive's queue with each completion.
struct forwarded_command {
  std::uint16_t function = 0;
  std::uint16_t sqid = 0;
  std::uint16_t command_id = 0;  // as the function's host chose it
  std::uint16_t list = 0xffff;   // the PRP list that the command uses
};

// A queue pair of the drive: nvme::driver's, with the token forwarded_command. submit() takes an entry
// whose data pointer is filled, and sets the command id; poll(f) calls f(token, completion) for each command
// that ended, exactly once.
template <class Q>
concept DriveQueue =
    requires(Q& q, const nvme::submission_entry& command, forwarded_command token) {
      { q.submit(command, token) } noexcept -> std::same_as<nvme::driver::submitted>;
      { q.ring() } noexcept;
      { q.available() } noexcept -> std::convertible_to<unsigned>;
      { q.page_shift() } noexcept -> std::convertible_to<unsigned>;
      {
        q.poll([](forwarded_command&, nvme::driver::completion) noexcept {})
      } noexcept;
    };

// Raises a vector of a function's MSI-X. Does not block or call back.
template <class T>
concept FunctionInterrupts = requires(T& sink, std::uint16_t function, std::uint16_t vector) {
  { sink.raise(function, vector) } noexcept;
};

// The namespace of the drive that the functions share.
struct drive_namespace {
  std::uint32_t nsid = 1;
  std::uint64_t blocks = 0;
  std::uint8_t block_shift = 9;
  std::uint32_t max_transfer = 131'072;  // bytes of one command; a power of two, 8 KiB to 1 MiB
  bool volatile_write_cache = true;
  bool compare = false;
  bool write_zeroes = false;
  bool verify = false;
};

// The driver's properties of the namespace. Errors: not_supported (metadata, or no 512- to
// 4096-byte blocks).
[[nodiscard]] inline result<drive_namespace> drive_namespace_of(
    const nvme::driver::namespace_info& info, const nvme::identify_controller& controller,
    std::uint32_t max_transfer) noexcept {
  using id = nvme::identify_controller;
  if (info.metadata_bytes != 0) {
    return failure(errc::not_supported,
                   "the drive's namespace has metadata, which functions cannot share", info.nsid);
  }
  if (info.block_shift < 9 || info.block_shift > 12) {
    return failure(errc::not_supported, "the drive's blocks do not have 512 to 4096 bytes",
                   info.block_bytes);
  }
  std::uint32_t most = 8192;
  while (most < max_transfer && most < 131'072) most <<= 1;
  if (most > max_transfer) most >>= 1;
  if (most < 8192) {
    return failure(errc::not_supported, "the drive's longest transfer is below 8 KiB",
                   max_transfer);
  }
  const std::uint16_t oncs = controller.oncs;
  return drive_namespace{.nsid = info.nsid,
                         .blocks = info.blocks,
                         .block_shift = static_cast<std::uint8_t>(info.block_shift),
                         .max_transfer = most,
                         .volatile_write_cache = id::vwc_present.get(controller.vwc),
                         .compare = id::oncs_compare.get(oncs),
                         .write_zeroes = id::oncs_write_zeroes.get(oncs),
                         .verify = id::oncs_verify.get(oncs)};
}

// The resources of a function. `table` and `doorbells` outlive the engine.
template <class Policy>
struct mediated_function {
  // Translates every address that the function's host gives.
  const function_table_of<Policy>* table = nullptr;
  // The function's doorbells, BAR 0 from 1000h on, stride 0: at least 2 * (io_queue_pairs + 1) words of
  // on-chip memory that the host writes.
  std::span<std::uint32_t> doorbells;
  std::uint64_t first_lba = 0;  // of the drive's namespace; block 0 of the function's
  std::uint64_t blocks = 0;
  bool read_only = false;
  std::uint8_t weight = 1;
  sriov::function_limits limits{};
};

}  // namespace phasebit::systems
