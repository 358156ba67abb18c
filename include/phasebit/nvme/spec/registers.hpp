// SPDX-License-Identifier: BSL-1.0
// Controller properties as a PCIe function shows them in BAR0: NVMe Base 2.0, section 3.1.3, and
// the doorbells of the PCIe Transport 1.0, section 3.1. Each register is a value snapshot; reading
// and writing the device is the caller's, in the width that `raw` has.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::nvme {

// The enabled I/O command sets: CC.CSS.
enum class command_set_selected : std::uint8_t { nvm = 0, all_supported = 6, admin_only = 7 };
// How the controller arbitrates between submission queues: CC.AMS.
enum class arbitration_mechanism : std::uint8_t { round_robin = 0, weighted = 1, vendor = 7 };
// CC.SHN.
enum class shutdown_notification : std::uint8_t { none = 0, normal = 1, abrupt = 2 };
// CSTS.SHST.
enum class shutdown_status : std::uint8_t { normal_operation = 0, occurring = 1, complete = 2 };

struct cap : register_value<cap, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x00;
  using register_value::register_value;

  static constexpr field<15, 0> mqes{};    // largest queue, in entries minus one
  static constexpr field<16> cqr{};        // queues must be physically contiguous
  static constexpr field<17> ams_wrr{};    // weighted round robin with urgent class
  static constexpr field<18> ams_vs{};     // a vendor's arbitration
  static constexpr field<31, 24> to{};     // longest wait for CSTS.RDY, in 500 ms
  static constexpr field<35, 32> dstrd{};  // doorbell stride, 4 << dstrd bytes
  static constexpr field<36> nssrs{};      // NVM subsystem reset
  static constexpr field<37> css_nvm{};    // NVM command set
  static constexpr field<43> css_iocs{};   // more command sets, see Identify CNS 1Ch
  static constexpr field<44> css_none{};   // admin commands only
  static constexpr field<44, 37> css{};
  static constexpr field<45> bps{};         // boot partitions
  static constexpr field<47, 46> cps{};     // scope of the controller's power
  static constexpr field<51, 48> mpsmin{};  // smallest memory page, 4096 << mpsmin bytes
  static constexpr field<55, 52> mpsmax{};  // largest memory page, 4096 << mpsmax bytes
  static constexpr field<56> pmrs{};        // persistent memory region
  static constexpr field<57> cmbs{};        // controller memory buffer
  static constexpr field<58> nsss{};        // NVM subsystem shutdown
  static constexpr field<59> crwms{};       // controller ready with media
  static constexpr field<60> crims{};       // controller ready independent of media

  // Entries of the largest queue. A ring of n entries holds n - 1 at a time.
  [[nodiscard]] constexpr std::uint32_t max_queue_entries() const noexcept {
    return std::uint32_t{(*this)[mqes]} + 1;
  }
  [[nodiscard]] constexpr std::uint32_t min_page_bytes() const noexcept {
    return std::uint32_t{4096} << (*this)[mpsmin];
  }
  [[nodiscard]] constexpr std::uint32_t max_page_bytes() const noexcept {
    return std::uint32_t{4096} << (*this)[mpsmax];
  }
  [[nodiscard]] constexpr std::uint32_t ready_timeout_ms() const noexcept {
    return std::uint32_t{(*this)[to]} * 500;
  }
};

struct vs : register_value<vs, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x08;
  using register_value::register_value;

  static constexpr field<7, 0> ter{};
  static constexpr field<15, 8> mnr{};
  static constexpr field<31, 16> mjr{};

  [[nodiscard]] static constexpr vs of(std::uint16_t major, std::uint8_t minor,
                                       std::uint8_t tertiary = 0) noexcept {
    return vs{}.with(mjr, major).with(mnr, minor).with(ter, tertiary);
  }
};

// Interrupt mask set and clear: one bit for each of 32 vectors. Not to be touched with MSI-X.
struct intms : register_value<intms, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x0c;
  using register_value::register_value;
};
struct intmc : register_value<intmc, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x10;
  using register_value::register_value;
};

struct cc : register_value<cc, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x14;
  using register_value::register_value;

  static constexpr field<0> en{};
  static constexpr field<6, 4, command_set_selected> css{};
  static constexpr field<10, 7> mps{};  // memory page, 4096 << mps bytes
  static constexpr field<13, 11, arbitration_mechanism> ams{};
  static constexpr field<15, 14, shutdown_notification> shn{};
  static constexpr field<19, 16> iosqes{};  // log2 of the submission entry's bytes: 6
  static constexpr field<23, 20> iocqes{};  // log2 of the completion entry's bytes: 4
  static constexpr field<24> crime{};       // ready independent of media

  [[nodiscard]] constexpr std::uint32_t page_bytes() const noexcept {
    return std::uint32_t{4096} << (*this)[mps];
  }
};

struct csts : register_value<csts, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x1c;
  using register_value::register_value;

  static constexpr field<0> rdy{};
  static constexpr field<1> cfs{};  // fatal: only a reset helps
  static constexpr field<3, 2, shutdown_status> shst{};
  static constexpr field<4> nssro{};  // an NVM subsystem reset occurred; write 1 to clear
  static constexpr field<5> pp{};     // processing is paused
  static constexpr field<6> st{};     // the shutdown in shst is of the whole NVM subsystem

  // A function that is gone answers reads with ones (PCIe 5.0, 2.3.2); RDY = 1 with reserved bits
  // set is no state of a controller.
  [[nodiscard]] constexpr bool removed() const noexcept { return raw == 0xffff'ffffU; }
};

// NVM subsystem reset and shutdown: the device acts on these magic words only.
struct nssr : register_value<nssr, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x20;
  static constexpr std::uint32_t reset_word = 0x4e56'4d65;  // "NVMe"
  using register_value::register_value;
};
struct nssd : register_value<nssd, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x64;
  static constexpr std::uint32_t normal_word = 0x4e72'6d6c;  // "Nrml"
  static constexpr std::uint32_t abrupt_word = 0x4162'7074;  // "Abpt"
  using register_value::register_value;
};

// Admin queue sizes, in entries minus one, at most 4095.
struct aqa : register_value<aqa, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x24;
  using register_value::register_value;

  static constexpr field<11, 0> asqs{};
  static constexpr field<27, 16> acqs{};

  static constexpr std::uint32_t min_entries = 2;
  static constexpr std::uint32_t max_entries = 4096;
  // The register for queues of so many entries.
  [[nodiscard]] static constexpr aqa for_entries(std::uint32_t sq, std::uint32_t cq) noexcept {
    PHASEBIT_EXPECTS(
        sq >= min_entries && sq <= max_entries && cq >= min_entries && cq <= max_entries,
        "an admin queue has 2 to 4096 entries");
    return aqa{(cq - 1) << acqs.lo | (sq - 1)};
  }
};

// Bus addresses of the admin queues, page aligned: bits 11:0 read as 0.
struct asq : register_value<asq, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x28;
  static constexpr std::uint64_t address_bits = ~std::uint64_t{0xfff};
  using register_value::register_value;
};
struct acq : register_value<acq, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x30;
  static constexpr std::uint64_t address_bits = ~std::uint64_t{0xfff};
  using register_value::register_value;
};

struct crto : register_value<crto, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x68;
  using register_value::register_value;

  static constexpr field<15, 0> crwmt{};   // longest wait for ready with media, in 500 ms
  static constexpr field<31, 16> crimt{};  // longest wait for ready without media, in 500 ms
};

// Doorbells: 32 bits wide, write only; the value is the new tail or head.
inline constexpr std::uint32_t first_doorbell = 0x1000;

[[nodiscard]] constexpr std::uint32_t doorbell_stride_bytes(std::uint8_t dstrd) noexcept {
  return std::uint32_t{4} << dstrd;
}
[[nodiscard]] constexpr std::uint64_t submission_doorbell_offset(std::uint16_t qid,
                                                                 std::uint8_t dstrd) noexcept {
  return first_doorbell + ((std::uint64_t{qid} * 2) << (2U + dstrd));
}
[[nodiscard]] constexpr std::uint64_t completion_doorbell_offset(std::uint16_t qid,
                                                                 std::uint8_t dstrd) noexcept {
  return first_doorbell + ((std::uint64_t{qid} * 2 + 1) << (2U + dstrd));
}
// BAR bytes up to and including the doorbells of `queue_pairs` I/O queue pairs and the admin pair.
[[nodiscard]] constexpr std::uint64_t register_bytes(std::uint16_t queue_pairs,
                                                     std::uint8_t dstrd) noexcept {
  return completion_doorbell_offset(queue_pairs, dstrd) + doorbell_stride_bytes(dstrd);
}

}  // namespace phasebit::nvme
