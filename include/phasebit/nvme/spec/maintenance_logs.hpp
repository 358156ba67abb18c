// SPDX-License-Identifier: BSL-1.0
// Log pages of Device Self-test (06h) and Sanitize (81h): NVMe Base 2.0, sections 5.16.1.7 and
// 5.16.1.25.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

// How a self-test ended: bits 3:0 of a result.
enum class self_test_result : std::uint8_t {
  passed = 0,
  aborted_by_command = 1,
  aborted_by_reset = 2,
  aborted_by_removal = 3,
  aborted_by_format = 4,
  fatal_error = 5,
  segment_failed_unknown = 6,
  segment_failed = 7,
  aborted = 8,
  aborted_by_sanitize = 9,
  none = 0xf,
};

struct self_test_entry {
  std::uint8_t status;
  std::uint8_t segment;
  std::uint8_t valid;
  std::uint8_t reserved3;
  std::uint8_t power_on_hours[8];
  le<std::uint32_t> nsid;
  std::uint8_t failing_lba[8];
  std::uint8_t sct;
  std::uint8_t sc;
  std::uint8_t vendor[2];

  static constexpr field<3, 0, self_test_result> result_bits{};  // of status
  static constexpr field<7, 4> code_bits{};                      // of status: which self-test
  static constexpr field<0> nsid_valid{};                        // of valid
  static constexpr field<1> lba_valid{};
};
static_assert(WireStruct<self_test_entry> && sizeof(self_test_entry) == 28);
static_assert(offsetof(self_test_entry, nsid) == 12 && offsetof(self_test_entry, sct) == 24);

struct self_test_log {
  std::uint8_t current;     // bits 3:0: 0 none, 1 short, 2 extended
  std::uint8_t completion;  // percent
  std::uint8_t reserved2[2];
  std::array<self_test_entry, 20> result;  // newest first
};
static_assert(WireStruct<self_test_log> && sizeof(self_test_log) == 564);
static_assert(offsetof(self_test_log, result) == 4);

enum class sanitize_state : std::uint8_t {
  never = 0,
  succeeded = 1,
  in_progress = 2,
  failed = 3,
  succeeded_without_deallocation = 4,
};

struct sanitize_log {
  le<std::uint16_t> progress;  // of 65536
  le<std::uint16_t> status;
  le<std::uint32_t> cdw10;           // of the command
  le<std::uint32_t> overwrite_time;  // seconds, FFFFFFFFh: not reported
  le<std::uint32_t> erase_time;
  le<std::uint32_t> crypto_time;
  le<std::uint32_t> overwrite_time_kept;
  le<std::uint32_t> erase_time_kept;
  le<std::uint32_t> crypto_time_kept;
  std::uint8_t reserved32[480];

  static constexpr field<2, 0, sanitize_state> state_bits{};  // of status
  static constexpr field<7, 3> passes_bits{};
  static constexpr field<8> erased_bit{};  // nothing was written since
};
static_assert(WireStruct<sanitize_log> && sizeof(sanitize_log) == 512);
static_assert(offsetof(sanitize_log, status) == 2 && offsetof(sanitize_log, cdw10) == 4 &&
              offsetof(sanitize_log, overwrite_time) == 8);

}  // namespace phasebit::nvme
