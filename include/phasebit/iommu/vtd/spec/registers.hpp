// SPDX-License-Identifier: BSL-1.0
// Registers of an Intel VT-d IOMMU (VT-d specification, revision 4.1, chapter 11). Each is a
// value snapshot; reading and writing the IOMMU is the caller's, in the width that `raw` has.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

// 11.4.2
struct cap : register_value<cap, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x08;
  using register_value::register_value;

  static constexpr field<2, 0> nd{};       // 2^(4 + 2 nd) domains
  static constexpr field<4> rwbf{};        // writes to memory need GCMD.WBF to be seen
  static constexpr field<7> cm{};          // caching mode: absent entries may be cached, too
  static constexpr field<12, 8> sagaw{};   // bit n: tables of n + 2 levels (39, 48, 57 bits)
  static constexpr field<21, 16> mgaw{};   // widest input address, in bits minus one
  static constexpr field<22> zlr{};        // zero-length reads of write-only pages
  static constexpr field<33, 24> fro{};    // fault recording registers, in units of 16 bytes
  static constexpr field<37, 34> sslps{};  // second-stage pages: bit 0 2 MiB, bit 1 1 GiB
  static constexpr field<39> psi{};        // page-selective invalidation
  static constexpr field<47, 40> nfr{};    // fault recording registers, minus one
  static constexpr field<53, 48> mamv{};   // largest address mask of an invalidation
  static constexpr field<54> dwd{};        // write draining
  static constexpr field<55> drd{};        // read draining
  static constexpr field<56> fs1gp{};      // first-stage pages of 1 GiB
  static constexpr field<60> fs5lp{};      // first-stage tables of five levels
};

// 11.4.3
struct ecap : register_value<ecap, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x10;
  using register_value::register_value;

  static constexpr field<0> c{};          // the IOMMU snoops caches when it walks
  static constexpr field<1> qi{};         // queued invalidation
  static constexpr field<2> dt{};         // device TLBs
  static constexpr field<3> ir{};         // interrupt remapping
  static constexpr field<4> eim{};        // 32-bit APIC identifiers
  static constexpr field<6> pt{};         // pass-through
  static constexpr field<7> sc{};         // snoop control: SNP of second-stage entries
  static constexpr field<17, 8> iro{};    // IOTLB registers, in units of 16 bytes
  static constexpr field<23, 20> mhmv{};  // largest handle mask of an interrupt entry invalidation
  static constexpr field<39, 35> pss{};   // bits of a PASID, minus one
  static constexpr field<40> pasid{};     // requests with PASID
  static constexpr field<43> smts{};      // scalable mode
  static constexpr field<45> ssads{};     // accessed and dirty bits of the second stage
  static constexpr field<46> ssts{};      // second stage in scalable mode
  static constexpr field<47> fsts{};      // first stage in scalable mode
};

// 11.4.4. Write-only: what stays on must be written again with every command (11.4.4.1).
struct gcmd : register_value<gcmd, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x18;
  using register_value::register_value;

  static constexpr field<23> cfi{};    // compatibility format interrupts pass
  static constexpr field<24> sirtp{};  // take the interrupt remap table pointer
  static constexpr field<25> ire{};    // interrupt remapping
  static constexpr field<26> qie{};    // queued invalidation
  static constexpr field<27> wbf{};    // flush the root complex's write buffer
  static constexpr field<30> srtp{};   // take the root table pointer
  static constexpr field<31> te{};     // translation
};

// The bits of GCMD, each set when the IOMMU has done what was commanded.
struct gsts : register_value<gsts, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x1c;
  using register_value::register_value;
  // 11.4.4.2: what a command is made of; the other bits report single actions.
  static constexpr std::uint32_t lasting = 0x96ff'ffff;
};

// 11.4.5
struct rtaddr : register_value<rtaddr, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x20;
  using register_value::register_value;

  static constexpr field<11, 10> ttm{};  // 0 legacy, 1 scalable, 3 abort DMA
  static constexpr std::uint64_t address_mask = ~std::uint64_t{0xfff};
};

// 11.4.7.1. PFO, PPF and the queue's error bits but for PPF are cleared by writing one.
struct fsts : register_value<fsts, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x34;
  using register_value::register_value;

  static constexpr field<0> pfo{};      // a fault was lost: all recording registers are full
  static constexpr field<1> ppf{};      // some recording register has F set
  static constexpr field<4> iqe{};      // the invalidation queue met an invalid descriptor
  static constexpr field<5> ice{};      // a device answered an invalidation wrongly
  static constexpr field<6> ite{};      // a device did not answer
  static constexpr field<15, 8> fri{};  // the first recording register with F set
};

// 11.4.7.2
struct fectl : register_value<fectl, std::uint32_t> {
  static constexpr std::uint32_t offset = 0x38;
  using register_value::register_value;
  static constexpr field<31> im{};  // the fault interrupt is masked
};

// 11.4.9: the invalidation queue. Head and tail count in 16 bytes, or in 32 with IQA.DW.
struct iqh : register_value<iqh, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x80;
  using register_value::register_value;
  static constexpr field<18, 4> qh{};
};
struct iqt : register_value<iqt, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x88;
  using register_value::register_value;
  static constexpr field<18, 4> qt{};
};
struct iqa : register_value<iqa, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x90;
  using register_value::register_value;
  static constexpr field<2, 0> qs{};  // 2^qs pages of 256 descriptors
  static constexpr field<11> dw{};    // descriptors of 32 bytes
};

// 11.4.11: the table has 2^(s + 1) entries of 16 bytes.
struct irta : register_value<irta, std::uint64_t> {
  static constexpr std::uint32_t offset = 0xb8;
  using register_value::register_value;
  static constexpr field<3, 0> s{};
  static constexpr field<11> eime{};  // entries hold 32-bit APIC identifiers
};

// 11.4.7.6: fault recording register n lies at CAP.FRO * 16 + n * 16. Its upper half holds what
// happened, and F, which writing one clears; the lower half the address, or the interrupt's index.
struct frcd_low : register_value<frcd_low, std::uint64_t> {
  using register_value::register_value;
  static constexpr std::uint64_t address_mask = ~std::uint64_t{0xfff};
  static constexpr field<63, 48> interrupt_index{};
};
struct frcd_high : register_value<frcd_high, std::uint64_t> {
  using register_value::register_value;
  static constexpr field<15, 0> sid{};  // who asked
  static constexpr field<28> t2{};      // with t1: 0 memory, 1 page request or AtomicOp
  static constexpr field<29> priv{};    // with privilege
  static constexpr field<30> exe{};     // to execute
  static constexpr field<31> pp{};      // a PASID was given
  static constexpr field<39, 32> fr{};  // why, table 7.1
  static constexpr field<59, 40> pv{};  // the PASID
  static constexpr field<61, 60> at{};  // address type of the request
  static constexpr field<62> t1{};      // 1 a read, 0 a write
  static constexpr field<63> f{};       // this register holds a fault
};

}  // namespace phasebit::iommu::vtd
