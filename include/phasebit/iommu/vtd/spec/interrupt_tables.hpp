// SPDX-License-Identifier: BSL-1.0
// VT-d's interrupt remapping table, and the messages that name its entries (VT-d specification
// revision 4.1, sections 5.1 and 9).
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

// How an interrupt's source is verified (9.9, SVT) and how much of the id is compared (SQ).
enum class source_validation : std::uint8_t { none = 0, requester = 1, bus_range = 2 };

// 9.9 (remapped) and 9.10 (posted): up to 65536 of 16 bytes.
struct interrupt_entry : table_entry<interrupt_entry, 2> {
  static constexpr entry_field<0> p{};
  static constexpr entry_field<1> fpd{};
  static constexpr entry_field<2> dm{};      // destination mode: 1 logical
  static constexpr entry_field<3> rh{};      // redirection hint
  static constexpr entry_field<4> tm{};      // trigger mode: 1 level
  static constexpr entry_field<7, 5> dlm{};  // delivery mode
  static constexpr entry_field<11, 8> avail{};
  static constexpr entry_field<14> urg{};  // posted only
  static constexpr entry_field<15> im{};   // 0 remapped, 1 posted
  static constexpr entry_field<23, 16> v{};
  static constexpr entry_field<63, 32> dst{};
  static constexpr entry_field<63, 38> pda_low{};  // posted only: descriptor address 31:6
  static constexpr entry_field<79, 64> sid{};
  static constexpr entry_field<81, 80> sq{};
  static constexpr entry_field<83, 82, source_validation> svt{};
  static constexpr entry_field<127, 96> pda_high{};  // posted only

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t source =
      decltype(sid)::mask | decltype(sq)::mask | decltype(svt)::mask;
  static constexpr std::uint64_t known_remapped[2] = {
      decltype(p)::mask | decltype(fpd)::mask | decltype(dm)::mask | decltype(rh)::mask |
          decltype(tm)::mask | decltype(dlm)::mask | decltype(avail)::mask | decltype(im)::mask |
          decltype(v)::mask | decltype(dst)::mask,
      source};
  static constexpr std::uint64_t known_posted[2] = {
      decltype(p)::mask | decltype(fpd)::mask | decltype(avail)::mask | decltype(urg)::mask |
          decltype(im)::mask | decltype(v)::mask | decltype(pda_low)::mask,
      source | decltype(pda_high)::mask};

  // A fixed, edge-triggered interrupt to one processor, from one function only. `destination` is
  // the APIC id: with extended mode (EIME) all 32 bits, else bits 15:8 of the field.
  [[nodiscard]] static constexpr interrupt_entry fixed(std::uint8_t vector,
                                                       std::uint32_t destination,
                                                       std::uint16_t requester,
                                                       bool extended = false) noexcept {
    return interrupt_entry{}
        .with(p, true)
        .with(v, vector)
        .with(dst, extended ? destination : (destination & 0xff) << 8)
        .with(sid, requester)
        .with(svt, source_validation::requester);
  }
};
static_assert(WireStruct<interrupt_entry> && sizeof(interrupt_entry) == 16);

// A message in remappable format (5.1.2.2): the handle in address bits 19:5 and 2, SHV in bit 3,
// the format in bit 4; the subhandle, where SHV is set, in data bits 15:0.
struct remappable_address : register_value<remappable_address, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<2> handle_15{};
  static constexpr field<3> shv{};
  static constexpr field<4> format{};
  static constexpr field<19, 5> handle_14_0{};
  static constexpr field<31, 20> prefix{};  // FEEh

  [[nodiscard]] static constexpr remappable_address of(std::uint16_t handle,
                                                       bool subhandles) noexcept {
    return remappable_address{}
        .with(prefix, 0xfee)
        .with(format, true)
        .with(shv, subhandles)
        .with(handle_15, (handle >> 15) != 0)
        .with(handle_14_0, static_cast<std::uint16_t>(handle & 0x7fff));
  }
  [[nodiscard]] constexpr std::uint16_t handle() const noexcept {
    return static_cast<std::uint16_t>((*this)[handle_14_0] | ((*this)[handle_15] ? 0x8000 : 0));
  }
};

}  // namespace phasebit::iommu::vtd
