// SPDX-License-Identifier: BSL-1.0
// The 16-byte completion queue entry: NVMe Base 2.0, section 3.3.3.2.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

// The last dword of an entry. The driver loads it once, with the ring's ordering; phase, command id
// and status are then from the same moment.
struct completion_dw3 : register_value<completion_dw3, std::uint32_t> {
  using register_value::register_value;

  static constexpr field<15, 0> command_id_bits{};
  static constexpr field<16> phase_bit{};
  static constexpr field<31, 17> status_bits{};

  [[nodiscard]] constexpr std::uint16_t command_id() const noexcept {
    return command_id_bits.get(raw);
  }
  [[nodiscard]] constexpr bool phase() const noexcept { return phase_bit.get(raw); }
  [[nodiscard]] constexpr nvme::status status() const noexcept {
    return nvme::status{status_bits.get(raw)};
  }
  [[nodiscard]] static constexpr completion_dw3 of(std::uint16_t command_id, nvme::status status,
                                                   bool phase) noexcept {
    return completion_dw3{std::uint32_t{command_id} | std::uint32_t{phase} << phase_bit.lo |
                          std::uint32_t{status.raw()} << status_bits.lo};
  }
};

struct completion_entry {
  le<std::uint32_t> dw0;  // the command's own result
  le<std::uint32_t> dw1;
  le<std::uint16_t> sq_head;
  le<std::uint16_t> sq_id;
  le<std::uint32_t> dw3;

  [[nodiscard]] constexpr completion_dw3 last() const noexcept { return completion_dw3{dw3.get()}; }
  [[nodiscard]] constexpr std::uint16_t command_id() const noexcept { return last().command_id(); }
  [[nodiscard]] constexpr bool phase() const noexcept { return last().phase(); }
  [[nodiscard]] constexpr nvme::status status() const noexcept { return last().status(); }
  // DW0 and DW1 as one number, as some results are.
  [[nodiscard]] constexpr std::uint64_t result() const noexcept {
    return dw0.get() | std::uint64_t{dw1.get()} << 32;
  }

  friend constexpr bool operator==(const completion_entry&,
                                   const completion_entry&) noexcept = default;
};
static_assert(WireStruct<completion_entry> && sizeof(completion_entry) == 16 &&
              alignof(completion_entry) == 4);
static_assert(offsetof(completion_entry, dw0) == 0 && offsetof(completion_entry, dw1) == 4 &&
              offsetof(completion_entry, sq_head) == 8 && offsetof(completion_entry, sq_id) == 10 &&
              offsetof(completion_entry, dw3) == 12);

}  // namespace phasebit::nvme
