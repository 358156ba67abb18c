// SPDX-License-Identifier: BSL-1.0
// Builders of the commands on a range of blocks: NVM Command Set 1.0, section 3.2. Each returns a
// whole entry but for the command id and the data pointer, which the queue fills in. Block counts
// are what people count, from 1; the wire's zero-based value is made here.
#pragma once

#include <phasebit/config.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstdint>

namespace phasebit::nvme {

// Protection Information Action and Check, CDW12 bits 29:26: NVM Command Set 1.0,
// section 5.2.
struct prinfo {
  bool action = false;             // PRACT: the controller inserts, or strips, the tuples
  bool check_guard = false;        // PRCHK bit 2
  bool check_application = false;  // PRCHK bit 1
  bool check_reference = false;    // PRCHK bit 0

  [[nodiscard]] constexpr std::uint32_t bits() const noexcept {
    return std::uint32_t{action} << 3 | std::uint32_t{check_guard} << 2 |
           std::uint32_t{check_application} << 1 | std::uint32_t{check_reference};
  }
  [[nodiscard]] static constexpr prinfo of(std::uint32_t bits) noexcept {
    return {.action = (bits & 8U) != 0,
            .check_guard = (bits & 4U) != 0,
            .check_application = (bits & 2U) != 0,
            .check_reference = (bits & 1U) != 0};
  }
};

// Dataset management hints of a read or write, CDW13 bits 7:0.
struct access_hint {
  static constexpr field<3, 0> frequency{};
  static constexpr field<5, 4> latency{};
  static constexpr field<6> sequential{};
  static constexpr field<7> incompressible{};
};

// A range of blocks of one namespace and its options: read, write, compare, verify, write zeroes
// and write uncorrectable. Members that a command does not use keep their defaults.
struct block_range {
  std::uint32_t nsid = 0;
  std::uint64_t lba = 0;
  std::uint32_t blocks = 1;  // 1 to 65536
  bool fua = false;          // on stable media before it completes
  bool limited_retry = false;
  prinfo pi = {};
  std::uint32_t reference_tag = 0;
  std::uint16_t application_tag = 0;
  std::uint16_t application_mask = 0;
  std::uint8_t hint = 0;  // access_hint
};

// The dwords that all of those commands share.
struct block_command {
  static constexpr field<15, 0> nlb{};  // CDW12: blocks minus one
  static constexpr field<23, 20> dtype{};
  static constexpr field<24> stc{};   // check the storage tag
  static constexpr field<25> deac{};  // of write zeroes: deallocate as well
  static constexpr field<29, 26> prinfo_bits{};
  static constexpr field<30> fua{};
  static constexpr field<31> lr{};
};

// The decoded fields of a command with a block range.
[[nodiscard]] constexpr block_range block_range_of(const submission_entry& e) noexcept {
  const std::uint32_t dw12 = e.cdw12;
  const std::uint32_t dw15 = e.cdw15;
  return {.nsid = e.nsid,
          .lba = e.cdw10_11(),
          .blocks = std::uint32_t{block_command::nlb.get(dw12)} + 1,
          .fua = block_command::fua.get(dw12),
          .limited_retry = block_command::lr.get(dw12),
          .pi = prinfo::of(block_command::prinfo_bits.get(dw12)),
          .reference_tag = e.cdw14,
          .application_tag = static_cast<std::uint16_t>(dw15),
          .application_mask = static_cast<std::uint16_t>(dw15 >> 16),
          .hint = static_cast<std::uint8_t>(e.cdw13.get())};
}

namespace detail {

// For a range of 1 to 65536 blocks.
PHASEBIT_ALWAYS_INLINE constexpr submission_entry checked_block_command(
    nvm_opcode opcode, const block_range& r) noexcept {
  return {.cdw0 = static_cast<std::uint32_t>(opcode),
          .nsid = r.nsid,
          .cdw2 = 0,
          .cdw3 = 0,
          .mptr = 0,
          .prp1 = 0,
          .prp2 = 0,
          .cdw10 = static_cast<std::uint32_t>(r.lba),
          .cdw11 = static_cast<std::uint32_t>(r.lba >> 32),
          .cdw12 = (r.blocks - 1) | r.pi.bits() << block_command::prinfo_bits.lo |
                   std::uint32_t{r.fua} << block_command::fua.lo |
                   std::uint32_t{r.limited_retry} << block_command::lr.lo,
          .cdw13 = r.hint,
          .cdw14 = r.reference_tag,
          .cdw15 = r.application_tag | std::uint32_t{r.application_mask} << 16};
}
PHASEBIT_ALWAYS_INLINE constexpr submission_entry block_command_of(nvm_opcode opcode,
                                                                   const block_range& r) noexcept {
  PHASEBIT_EXPECTS(r.blocks - 1 <= 0xffff, "a command is for 1 to 65536 blocks");
  return checked_block_command(opcode, r);
}

}  // namespace detail

namespace nvm {

[[nodiscard]] PHASEBIT_ALWAYS_INLINE constexpr submission_entry read(
    const block_range& range) noexcept {
  return nvme::detail::block_command_of(nvm_opcode::read, range);
}
[[nodiscard]] PHASEBIT_ALWAYS_INLINE constexpr submission_entry write(
    const block_range& range) noexcept {
  return nvme::detail::block_command_of(nvm_opcode::write, range);
}
[[nodiscard]] constexpr submission_entry compare(const block_range& range) noexcept {
  return nvme::detail::block_command_of(nvm_opcode::compare, range);
}
[[nodiscard]] constexpr submission_entry verify(const block_range& range) noexcept {
  return nvme::detail::block_command_of(nvm_opcode::verify, range);
}
// `deallocate` lets the controller forget the blocks where they then read as zeros.
[[nodiscard]] constexpr submission_entry write_zeroes(const block_range& range,
                                                      bool deallocate = false) noexcept {
  auto e = nvme::detail::block_command_of(nvm_opcode::write_zeroes, range);
  e.cdw12 = block_command::deac.set(e.cdw12.get(), deallocate);
  return e;
}
[[nodiscard]] constexpr submission_entry write_uncorrectable(const block_range& range) noexcept {
  return nvme::detail::block_command_of(nvm_opcode::write_uncorrectable, range);
}
[[nodiscard]] constexpr submission_entry flush(std::uint32_t nsid) noexcept {
  return command(nvm_opcode::flush, nsid);
}

}  // namespace nvm
}  // namespace phasebit::nvme
