// SPDX-License-Identifier: BSL-1.0
// The 64-byte submission queue entry: NVMe Base 2.0, section 3.3.3.1, figure 87.
#pragma once

#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/opcodes.hpp>
#include <phasebit/nvme/spec/sgl_descriptor.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

// Whether a command is half of a fused pair: CDW0 bits 9:8.
enum class fused : std::uint8_t { none = 0, first = 1, second = 2 };

// How data and metadata are described: CDW0 bits 15:14 (PSDT).
enum class data_pointer : std::uint8_t {
  prp = 0,
  sgl_metadata_buffer = 1,   // data by SGL, metadata one contiguous buffer at MPTR
  sgl_metadata_segment = 2,  // data by SGL, MPTR is the address of an SGL segment
  reserved = 3,
};

// Namespace identifiers that name no single namespace.
inline constexpr std::uint32_t no_namespace = 0;
inline constexpr std::uint32_t all_namespaces = 0xffff'ffff;

// A command. `submission_entry{}` is all zeros; the builders of admin_commands.hpp and
// nvm_commands.hpp fill in everything but the command id and the data pointer.
struct submission_entry {
  le<std::uint32_t> cdw0;
  le<std::uint32_t> nsid;
  le<std::uint32_t> cdw2;
  le<std::uint32_t> cdw3;
  le<std::uint64_t> mptr;
  le<std::uint64_t> prp1;
  le<std::uint64_t> prp2;
  le<std::uint32_t> cdw10;
  le<std::uint32_t> cdw11;
  le<std::uint32_t> cdw12;
  le<std::uint32_t> cdw13;
  le<std::uint32_t> cdw14;
  le<std::uint32_t> cdw15;

  static constexpr field<7, 0> opcode_bits{};
  static constexpr field<9, 8, fused> fuse_bits{};
  static constexpr field<15, 14, data_pointer> psdt_bits{};
  static constexpr field<31, 16> command_id_bits{};

  [[nodiscard]] constexpr std::uint8_t opcode() const noexcept {
    return opcode_bits.get(cdw0.get());
  }
  [[nodiscard]] constexpr fused fuse() const noexcept { return fuse_bits.get(cdw0.get()); }
  [[nodiscard]] constexpr data_pointer psdt() const noexcept { return psdt_bits.get(cdw0.get()); }
  [[nodiscard]] constexpr std::uint16_t command_id() const noexcept {
    return command_id_bits.get(cdw0.get());
  }
  constexpr void set_command_id(std::uint16_t id) noexcept {
    cdw0 = (cdw0 & 0xffffU) | std::uint32_t{id} << 16;
  }
  constexpr void set_fuse(fused f) noexcept { cdw0 = fuse_bits.set(cdw0.get(), f); }
  constexpr void set_psdt(data_pointer p) noexcept { cdw0 = psdt_bits.set(cdw0.get(), p); }

  // The data pointer as an SGL descriptor; it lies where PRP1 and PRP2 do (bytes 24 to 39).
  [[nodiscard]] constexpr sgl_descriptor sgl() const noexcept {
    const std::uint64_t high = prp2;
    return {
        .address = prp1,
        .length = static_cast<std::uint32_t>(high),
        .reserved = {static_cast<std::uint8_t>(high >> 32), static_cast<std::uint8_t>(high >> 40),
                     static_cast<std::uint8_t>(high >> 48)},
        .identifier = static_cast<std::uint8_t>(high >> 56)};
  }
  // Stores `d` and sets PSDT, without which a one-segment SGL would be read as two PRPs.
  constexpr void set_sgl(const sgl_descriptor& d,
                         data_pointer p = data_pointer::sgl_metadata_buffer) noexcept {
    prp1 = d.address;
    prp2 = std::uint64_t{d.length.get()} | std::uint64_t{d.reserved[0]} << 32 |
           std::uint64_t{d.reserved[1]} << 40 | std::uint64_t{d.reserved[2]} << 48 |
           std::uint64_t{d.identifier} << 56;
    set_psdt(p);
  }

  // CDW10 and CDW11 as one number: the starting LBA of most I/O commands.
  [[nodiscard]] constexpr std::uint64_t cdw10_11() const noexcept {
    return cdw10.get() | std::uint64_t{cdw11.get()} << 32;
  }

  friend constexpr bool operator==(const submission_entry&,
                                   const submission_entry&) noexcept = default;
};
static_assert(WireStruct<submission_entry> && sizeof(submission_entry) == 64 &&
              alignof(submission_entry) == alignof(std::uint64_t));
static_assert(offsetof(submission_entry, cdw0) == 0 && offsetof(submission_entry, nsid) == 4 &&
              offsetof(submission_entry, cdw2) == 8 && offsetof(submission_entry, cdw3) == 12 &&
              offsetof(submission_entry, mptr) == 16 && offsetof(submission_entry, prp1) == 24 &&
              offsetof(submission_entry, prp2) == 32 && offsetof(submission_entry, cdw10) == 40 &&
              offsetof(submission_entry, cdw11) == 44 && offsetof(submission_entry, cdw12) == 48 &&
              offsetof(submission_entry, cdw13) == 52 && offsetof(submission_entry, cdw14) == 56 &&
              offsetof(submission_entry, cdw15) == 60);

// An entry with an opcode and a namespace, and zeros: what every builder starts from.
[[nodiscard]] constexpr submission_entry command(admin_opcode opcode,
                                                 std::uint32_t nsid = no_namespace) noexcept {
  submission_entry e{};
  e.cdw0 = static_cast<std::uint32_t>(opcode);
  e.nsid = nsid;
  return e;
}
[[nodiscard]] constexpr submission_entry command(nvm_opcode opcode, std::uint32_t nsid) noexcept {
  submission_entry e{};
  e.cdw0 = static_cast<std::uint32_t>(opcode);
  e.nsid = nsid;
  return e;
}

}  // namespace phasebit::nvme
