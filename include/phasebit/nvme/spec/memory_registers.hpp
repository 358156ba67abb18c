// SPDX-License-Identifier: BSL-1.0
// Properties of the memory that a controller lends to its host: boot partitions, the controller
// memory buffer (CMB) and the persistent memory region (PMR). NVMe Base 2.0, section 3.1.3.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::nvme {

struct cmbloc : register_value<cmbloc, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x38;
  using register_value::register_value;

  static constexpr field<2, 0> bir{};     // BAR that holds the buffer: 0 and 2 to 5
  static constexpr field<3> cqmms{};      // a queue may lie partly inside
  static constexpr field<4> cqpds{};      // a queue need not be contiguous inside
  static constexpr field<5> cdpmls{};     // PRP lists and data may mix inside and outside
  static constexpr field<6> cdpcils{};    // metadata and data may mix inside and outside
  static constexpr field<7> cdmmms{};     // data of one command may mix inside and outside
  static constexpr field<8> cqda{};       // alignment of queues is a dword
  static constexpr field<31, 12> ofst{};  // offset in the BAR, in cmbsz units
};

struct cmbsz : register_value<cmbsz, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x3c;
  using register_value::register_value;

  static constexpr field<0> sqs{};      // submission queues may lie here
  static constexpr field<1> cqs{};      // completion queues
  static constexpr field<2> lists{};    // PRP and SGL lists
  static constexpr field<3> rds{};      // data that commands read
  static constexpr field<4> wds{};      // data that commands write
  static constexpr field<11, 8> szu{};  // unit, 4096 << 4 * szu bytes; 7 and above are reserved
  static constexpr field<31, 12> sz{};  // size in units

  [[nodiscard]] constexpr std::uint64_t unit_bytes() const noexcept {
    return std::uint64_t{4096} << (4U * (*this)[szu]);
  }
  // 0 where szu is reserved: nothing that fits a BAR has that size.
  [[nodiscard]] constexpr std::uint64_t bytes() const noexcept {
    return (*this)[szu] > 6 ? 0 : (*this)[sz] * unit_bytes();
  }
};

struct bpinfo : register_value<bpinfo, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x40;
  using register_value::register_value;

  static constexpr field<14, 0> bpsz{};  // size of a boot partition, in 128 KiB
  static constexpr field<25, 24> brs{};  // state of the read: 0 none, 1 running, 2 good, 3 failed
  static constexpr field<31> abpid{};    // the active partition
};

struct bprsel : register_value<bprsel, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x44;
  using register_value::register_value;

  static constexpr field<9, 0> bprsz{};    // bytes to read, in 4 KiB
  static constexpr field<29, 10> bprof{};  // first byte, in 4 KiB
  static constexpr field<31> bpid{};       // which partition
};

// Bus address of the memory that a boot partition is read into.
struct bpmbl : register_value<bpmbl, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x48;
  using register_value::register_value;

  static constexpr field<63, 12> bmbba{};
};

struct cmbmsc : register_value<cmbmsc, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x50;
  using register_value::register_value;

  static constexpr field<0> cre{};       // cmbloc and cmbsz show the buffer
  static constexpr field<1> cmse{};      // the address range below is decoded by the controller
  static constexpr field<63, 12> cba{};  // where the controller sees its buffer, in 4 KiB
};

struct cmbsts : register_value<cmbsts, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x58;
  using register_value::register_value;

  static constexpr field<0> cbai{};  // cmbmsc.cba is not valid
};

struct cmbebs : register_value<cmbebs, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x5c;
  using register_value::register_value;

  static constexpr field<3, 0> cmbszu{};
  static constexpr field<4> rbb{};  // a read does not wait for earlier writes
  static constexpr field<31, 8> cmbwbz{};
};

struct cmbswtp : register_value<cmbswtp, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x60;
  using register_value::register_value;

  static constexpr field<3, 0> cmbswtu{};
  static constexpr field<31, 8> cmbswtv{};
};

struct pmrcap : register_value<pmrcap, std::uint32_t> {
  static constexpr std::uint32_t offset = 0xe00;
  using register_value::register_value;

  static constexpr field<3> rds{};          // data that commands read may lie here
  static constexpr field<4> wds{};          // data that commands write
  static constexpr field<7, 5> bir{};       // BAR that holds the region
  static constexpr field<9, 8> pmrtu{};     // unit of pmrto: 0 is 500 ms, 1 is a minute
  static constexpr field<13, 10> pmrwbm{};  // how writes are made to persist
  static constexpr field<23, 16> pmrto{};   // longest wait for pmrsts.nrdy
  static constexpr field<24> cmss{};        // the region can be decoded by the controller
};

struct pmrctl : register_value<pmrctl, std::uint32_t> {
  static constexpr std::uint32_t offset = 0xe04;
  using register_value::register_value;

  static constexpr field<0> en{};
};

struct pmrsts : register_value<pmrsts, std::uint32_t> {
  static constexpr std::uint32_t offset = 0xe08;
  using register_value::register_value;

  static constexpr field<7, 0> err{};
  static constexpr field<8> nrdy{};
  static constexpr field<11, 9> hsts{};  // 0 good, 1 restore error, 2 read only, 3 unreliable
  static constexpr field<12> cbai{};
};

struct pmrebs : register_value<pmrebs, std::uint32_t> {
  static constexpr std::uint32_t offset = 0xe0c;
  using register_value::register_value;

  static constexpr field<3, 0> pmrszu{};
  static constexpr field<4> rbb{};
  static constexpr field<31, 8> pmrwbz{};
};

struct pmrswtp : register_value<pmrswtp, std::uint32_t> {
  static constexpr std::uint32_t offset = 0xe10;
  using register_value::register_value;

  static constexpr field<3, 0> pmrswtu{};
  static constexpr field<31, 8> pmrswtv{};
};

struct pmrmscl : register_value<pmrmscl, std::uint32_t> {
  static constexpr std::uint32_t offset = 0xe14;
  using register_value::register_value;

  static constexpr field<1> cmse{};
  static constexpr field<31, 12> cba{};
};

struct pmrmscu : register_value<pmrmscu, std::uint32_t> {
  static constexpr std::uint32_t offset = 0xe18;
  using register_value::register_value;

  static constexpr field<31, 0> cba{};
};

}  // namespace phasebit::nvme
