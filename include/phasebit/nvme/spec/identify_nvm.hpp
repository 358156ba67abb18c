// SPDX-License-Identifier: BSL-1.0
// Identify data of a namespace and a controller for one command set: the NVM command set's data for
// CNS 05h and 06h (NVM Command Set 1.0, section 4.1.5) and the data for CNS 08h that holds for all
// of them (NVMe Base 2.0, section 5.17.2).
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

// CNS 05h with CSI 00h.
struct nvm_identify_namespace {
  le<std::uint64_t> lbstm;  // which bits of the storage tag are compared
  std::uint8_t pic;
  std::uint8_t reserved9[3];
  std::array<le<std::uint32_t>, 64> elbaf;
  std::uint8_t reserved268[3828];

  static constexpr field<0> pic_16_bit_mask{};
  static constexpr field<1> pic_16_bit_fixed{};
  static constexpr field<2> pic_storage_tag_only{};

  static constexpr field<6, 0> elbaf_storage_tag_bits{};
  static constexpr field<8, 7> elbaf_guard{};  // 0: 16 bit, 1: 32 bit, 2: 64 bit
};
static_assert(WireStruct<nvm_identify_namespace> && sizeof(nvm_identify_namespace) == 4096);
static_assert(offsetof(nvm_identify_namespace, lbstm) == 0 &&
              offsetof(nvm_identify_namespace, pic) == 8 &&
              offsetof(nvm_identify_namespace, reserved9) == 9 &&
              offsetof(nvm_identify_namespace, elbaf) == 12 &&
              offsetof(nvm_identify_namespace, reserved268) == 268);

// CNS 06h with CSI 00h. Sizes are 2^n pages of CAP.MPSMIN, 0 means no limit.
struct nvm_identify_controller {
  std::uint8_t vsl;         // Verify
  std::uint8_t wzsl;        // Write Zeroes
  std::uint8_t wusl;        // Write Uncorrectable
  std::uint8_t dmrl;        // ranges of Dataset Management
  le<std::uint32_t> dmrsl;  // blocks of one such range
  le<std::uint64_t> dmsl;   // blocks of all
  std::uint8_t reserved16[4080];
};
static_assert(WireStruct<nvm_identify_controller> && sizeof(nvm_identify_controller) == 4096);
static_assert(offsetof(nvm_identify_controller, vsl) == 0 &&
              offsetof(nvm_identify_controller, wzsl) == 1 &&
              offsetof(nvm_identify_controller, wusl) == 2 &&
              offsetof(nvm_identify_controller, dmrl) == 3 &&
              offsetof(nvm_identify_controller, dmrsl) == 4 &&
              offsetof(nvm_identify_controller, dmsl) == 8 &&
              offsetof(nvm_identify_controller, reserved16) == 16);

// CNS 08h.
struct independent_namespace {
  std::uint8_t nsfeat;
  std::uint8_t nmic;
  std::uint8_t rescap;
  std::uint8_t fpi;
  le<std::uint32_t> anagrpid;
  std::uint8_t nsattr;
  std::uint8_t reserved9;
  le<std::uint16_t> nvmsetid;
  le<std::uint16_t> endgid;
  std::uint8_t nstat;
  std::uint8_t reserved15[4081];

  static constexpr field<0> nstat_ready{};
};
static_assert(WireStruct<independent_namespace> && sizeof(independent_namespace) == 4096);
static_assert(offsetof(independent_namespace, nsfeat) == 0 &&
              offsetof(independent_namespace, nmic) == 1 &&
              offsetof(independent_namespace, rescap) == 2 &&
              offsetof(independent_namespace, fpi) == 3 &&
              offsetof(independent_namespace, anagrpid) == 4 &&
              offsetof(independent_namespace, nsattr) == 8 &&
              offsetof(independent_namespace, reserved9) == 9 &&
              offsetof(independent_namespace, nvmsetid) == 10 &&
              offsetof(independent_namespace, endgid) == 12 &&
              offsetof(independent_namespace, nstat) == 14 &&
              offsetof(independent_namespace, reserved15) == 15);

}  // namespace phasebit::nvme
