// SPDX-License-Identifier: BSL-1.0
// Reservation commands and their data: NVMe Base 2.0, sections 7.2 to 7.5 and 8.19, and log page 80h
// (5.16.1.24).
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

enum class reservation_type : std::uint8_t {
  none = 0,
  write_exclusive = 1,
  exclusive_access = 2,
  write_exclusive_registrants = 3,  // Registrants Only
  exclusive_access_registrants = 4,
  write_exclusive_all = 5,  // All Registrants: each of them holds it
  exclusive_access_all = 6,
};

enum class register_action : std::uint8_t { add = 0, remove = 1, replace = 2 };
enum class acquire_action : std::uint8_t { acquire = 0, preempt = 1, preempt_and_abort = 2 };
enum class release_action : std::uint8_t { release = 0, clear = 1 };

// CDW10 of Register, Acquire and Release; CDW11 of Report.
struct reservation_command {
  static constexpr field<2, 0> action_bits{};
  static constexpr field<3> ignore_key_bit{};  // IEKEY
  static constexpr field<15, 8, reservation_type> type_bits{};
  static constexpr field<31, 30> persist_bits{};  // CPTPL: 0 as it is, 2 off, 3 on
  static constexpr field<0> extended_bit{};       // of CDW11
};

// Data of Register (current and new key) and of Acquire (current and preempted key). That of Release
// is the current key alone.
struct reservation_keys {
  le<std::uint64_t> current;
  le<std::uint64_t> other;
};
static_assert(WireStruct<reservation_keys> && sizeof(reservation_keys) == 16);

// Data of Report: this header, which is 24 bytes or, extended, 64; then an entry per controller.
struct reservation_status {
  le<std::uint32_t> generation;
  reservation_type type;
  std::uint8_t controllers[2];  // at an odd offset, least significant byte first
  std::uint8_t reserved7[2];
  std::uint8_t persists;
  std::uint8_t reserved10[14];
};
static_assert(WireStruct<reservation_status> && sizeof(reservation_status) == 24);
static_assert(offsetof(reservation_status, type) == 4 &&
              offsetof(reservation_status, persists) == 9);

struct registered_controller {
  le<std::uint16_t> cntlid;
  std::uint8_t status;  // bit 0: holds the reservation
  std::uint8_t reserved3[5];
  le<std::uint64_t> host_id;
  le<std::uint64_t> key;
};
static_assert(WireStruct<registered_controller> && sizeof(registered_controller) == 24);

struct registered_controller_extended {
  le<std::uint16_t> cntlid;
  std::uint8_t status;
  std::uint8_t reserved3[5];
  le<std::uint64_t> key;
  std::uint8_t host_id[16];
  std::uint8_t reserved32[32];
};
static_assert(WireStruct<registered_controller_extended> &&
              sizeof(registered_controller_extended) == 64);

enum class reservation_notice : std::uint8_t {
  empty = 0,
  registration_preempted = 1,
  reservation_released = 2,
  reservation_preempted = 3,
};

struct reservation_log {
  le<std::uint64_t> count;
  reservation_notice what;
  std::uint8_t available;  // further pages
  std::uint8_t reserved10[2];
  le<std::uint32_t> nsid;
  std::uint8_t reserved16[48];
};
static_assert(WireStruct<reservation_log> && sizeof(reservation_log) == 64);
static_assert(offsetof(reservation_log, what) == 8 && offsetof(reservation_log, nsid) == 12);

namespace nvm {

// The data is a reservation_keys: the current key, and the new one.
[[nodiscard]] constexpr submission_entry reservation_register(std::uint32_t nsid,
                                                              register_action action,
                                                              bool ignore_key = false,
                                                              std::uint8_t persist = 0) noexcept {
  using f = reservation_command;
  auto e = command(nvm_opcode::reservation_register, nsid);
  e.cdw10 = f::action_bits.of(static_cast<std::uint8_t>(action)) |
            f::ignore_key_bit.of(ignore_key) | f::persist_bits.of(persist);
  return e;
}
// The data is a reservation_keys: the current key, and the one to preempt.
[[nodiscard]] constexpr submission_entry reservation_acquire(std::uint32_t nsid,
                                                             acquire_action action,
                                                             reservation_type type) noexcept {
  using f = reservation_command;
  auto e = command(nvm_opcode::reservation_acquire, nsid);
  e.cdw10 = f::action_bits.of(static_cast<std::uint8_t>(action)) | f::type_bits.of(type);
  return e;
}
// The data is the current key.
[[nodiscard]] constexpr submission_entry reservation_release(std::uint32_t nsid,
                                                             release_action action,
                                                             reservation_type type) noexcept {
  using f = reservation_command;
  auto e = command(nvm_opcode::reservation_release, nsid);
  e.cdw10 = f::action_bits.of(static_cast<std::uint8_t>(action)) | f::type_bits.of(type);
  return e;
}
[[nodiscard]] constexpr submission_entry reservation_report(std::uint32_t nsid, std::uint32_t bytes,
                                                            bool extended = false) noexcept {
  auto e = command(nvm_opcode::reservation_report, nsid);
  e.cdw10 = bytes / 4 - 1;
  e.cdw11 = reservation_command::extended_bit.of(extended);
  return e;
}

}  // namespace nvm
}  // namespace phasebit::nvme
