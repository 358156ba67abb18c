// SPDX-License-Identifier: BSL-1.0
// Commands whose data is a list of block ranges: Dataset Management and Copy. NVM Command Set 1.0,
// sections 3.2.3 and 3.2.2.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

// A range of Dataset Management. A command carries 1 to 256 of them.
struct dataset_range {
  le<std::uint32_t> context;  // hints; 0 with deallocate
  le<std::uint32_t> blocks;   // a plain count, and 0 is no blocks
  le<std::uint64_t> lba;
};
static_assert(WireStruct<dataset_range> && sizeof(dataset_range) == 16);
static_assert(offsetof(dataset_range, context) == 0 && offsetof(dataset_range, blocks) == 4 &&
              offsetof(dataset_range, lba) == 8);

struct dataset_management_command {
  static constexpr field<7, 0> nr{};  // CDW10: ranges minus one
  static constexpr field<0> idr{};    // CDW11: the host will read these soon, as a whole
  static constexpr field<1> idw{};    // CDW11: will write
  static constexpr field<2> ad{};     // CDW11: deallocate
  static constexpr std::uint32_t max_ranges = 256;

  std::uint32_t nsid = 0;
  std::uint32_t ranges = 1;
  bool deallocate = false;
  bool integral_read = false;
  bool integral_write = false;
};

// A source range of Copy, descriptor format 0 (16- and 32-bit guards).
struct copy_range {
  le<std::uint64_t> reserved0;
  le<std::uint64_t> lba;
  le<std::uint16_t> nlb;  // blocks minus one
  std::uint8_t reserved18[6];
  le<std::uint32_t> reference_tag;
  le<std::uint16_t> application_tag;
  le<std::uint16_t> application_mask;

  [[nodiscard]] static constexpr copy_range of(std::uint64_t lba, std::uint32_t blocks) noexcept {
    PHASEBIT_EXPECTS(blocks - 1 <= 0xffff, "a source range has 1 to 65536 blocks");
    copy_range r{};
    r.lba = lba;
    r.nlb = static_cast<std::uint16_t>(blocks - 1);
    return r;
  }
};
static_assert(WireStruct<copy_range> && sizeof(copy_range) == 32);
static_assert(offsetof(copy_range, reserved0) == 0 && offsetof(copy_range, lba) == 8 &&
              offsetof(copy_range, nlb) == 16 && offsetof(copy_range, reserved18) == 18 &&
              offsetof(copy_range, reference_tag) == 24 &&
              offsetof(copy_range, application_tag) == 28 &&
              offsetof(copy_range, application_mask) == 30);

// Descriptor format 1, for 64-bit guards: the reference tag is wider.
struct copy_range_wide {
  le<std::uint64_t> reserved0;
  le<std::uint64_t> lba;
  le<std::uint16_t> nlb;
  std::uint8_t reserved18[8];
  std::uint8_t storage_and_reference[10];
  le<std::uint16_t> application_tag;
  le<std::uint16_t> application_mask;
};
static_assert(WireStruct<copy_range_wide> && sizeof(copy_range_wide) == 40);
static_assert(offsetof(copy_range_wide, reserved0) == 0 && offsetof(copy_range_wide, lba) == 8 &&
              offsetof(copy_range_wide, nlb) == 16 && offsetof(copy_range_wide, reserved18) == 18 &&
              offsetof(copy_range_wide, storage_and_reference) == 26 &&
              offsetof(copy_range_wide, application_tag) == 36 &&
              offsetof(copy_range_wide, application_mask) == 38);

struct copy_command {
  static constexpr field<7, 0> nr{};              // CDW12: ranges minus one
  static constexpr field<11, 8> format{};         // CDW12: of the descriptors
  static constexpr field<15, 12> prinfo_read{};   // CDW12
  static constexpr field<29, 26> prinfo_write{};  // CDW12
  static constexpr field<30> fua_bit{};           // CDW12
  static constexpr field<31> lr_bit{};            // CDW12
  static constexpr std::uint32_t max_ranges = 256;

  std::uint32_t nsid = 0;
  std::uint64_t lba = 0;     // where the blocks go, one range after the other
  std::uint32_t ranges = 1;  // 1 to 256, and at most MSRC + 1
  std::uint8_t descriptor_format = 0;
  bool fua = false;
  bool limited_retry = false;
  prinfo read_pi = {};
  prinfo write_pi = {};
  std::uint32_t reference_tag = 0;
  std::uint16_t application_tag = 0;
  std::uint16_t application_mask = 0;
};

namespace nvm {

// The data is `ranges` dataset_range structures.
[[nodiscard]] constexpr submission_entry dataset_management(
    const dataset_management_command& o) noexcept {
  using f = dataset_management_command;
  PHASEBIT_EXPECTS(o.ranges >= 1 && o.ranges <= f::max_ranges, "a command carries 1 to 256 ranges");
  auto e = command(nvm_opcode::dataset_management, o.nsid);
  e.cdw10 = o.ranges - 1;
  e.cdw11 = f::idr.of(o.integral_read) | f::idw.of(o.integral_write) | f::ad.of(o.deallocate);
  return e;
}

// The data is `ranges` copy_range structures.
[[nodiscard]] constexpr submission_entry copy(const copy_command& o) noexcept {
  using f = copy_command;
  PHASEBIT_EXPECTS(o.ranges >= 1 && o.ranges <= f::max_ranges, "a command carries 1 to 256 ranges");
  auto e = command(nvm_opcode::copy, o.nsid);
  e.cdw10 = static_cast<std::uint32_t>(o.lba);
  e.cdw11 = static_cast<std::uint32_t>(o.lba >> 32);
  e.cdw12 = (o.ranges - 1) | f::format.of(o.descriptor_format) |
            o.read_pi.bits() << f::prinfo_read.lo | o.write_pi.bits() << f::prinfo_write.lo |
            f::fua_bit.of(o.fua) | f::lr_bit.of(o.limited_retry);
  e.cdw14 = o.reference_tag;
  e.cdw15 = o.application_tag | std::uint32_t{o.application_mask} << 16;
  return e;
}

}  // namespace nvm
}  // namespace phasebit::nvme
