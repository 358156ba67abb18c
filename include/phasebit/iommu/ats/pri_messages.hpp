// SPDX-License-Identifier: BSL-1.0
// Page requests and their answers: PCIe 5.0, 10.4.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/iommu/command_queue/command.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstdint>

namespace phasebit::iommu {

// Page Request Message, 10.4.1, the body as one 64-bit word.
struct pri_body : register_value<pri_body, std::uint64_t> {
  using register_value::register_value;

  static constexpr field<0> r{};
  static constexpr field<1> w{};
  static constexpr field<2> l{};  // the last request of its group
  static constexpr field<11, 3> prg_index{};
  static constexpr field<63, 12> page{};

  [[nodiscard]] constexpr std::uint64_t address() const noexcept {
    return raw & ~std::uint64_t{0xfff};
  }
};
struct pri_request {
  pcie::requester_id requester{};
  bool with_pasid = false;
  bool execute = false;
  bool privileged = false;
  std::uint32_t pasid = 0;
  pri_body body{};

  [[nodiscard]] constexpr std::uint16_t group() const noexcept { return body[pri_body::prg_index]; }
  [[nodiscard]] constexpr bool last() const noexcept { return body[pri_body::l]; }
  // Neither read nor write, last, with a PASID: the device uses this PASID no more (10.4.1.2.1).
  [[nodiscard]] constexpr bool stop_marker() const noexcept {
    return with_pasid && (body.raw & 7) == 4;
  }
};

// Page Request Group Response Message, 10.4.2.
struct pri_response {
  pcie::requester_id device{};
  std::uint16_t group = 0;  // 9 bits
  page_response_code code = page_response_code::success;
  bool with_pasid = false;  // as the device's PRG Response PASID Required bit asks
  std::uint32_t pasid = 0;
};

// The answer to a request's group.
[[nodiscard]] constexpr pri_response respond(const pri_request& request,
                                             page_response_code code) noexcept {
  return {request.requester, request.group(), code, request.with_pasid, request.pasid};
}

inline constexpr unsigned pri_groups = 512;

}  // namespace phasebit::iommu
