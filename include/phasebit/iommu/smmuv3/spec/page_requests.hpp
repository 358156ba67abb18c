// SPDX-License-Identifier: BSL-1.0
// The PRI queue of an SMMUv3: its registers and its records. Arm IHI 0070, 6.3.32 to 6.3.34 and 8.1.
#pragma once

#include <phasebit/iommu/ats/pri_messages.hpp>
#include <phasebit/iommu/device_table/entry.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::smmuv3 {

inline constexpr field<15, 11> idr1_priqs{};             // of IDR1: log2 of the longest PRI queue
inline constexpr std::uint32_t priq_base_offset = 0xc0;  // as queue_base
inline constexpr std::uint32_t priq_prod_offset = 0x1'00c8;
inline constexpr std::uint32_t priq_cons_offset = 0x1'00cc;

// 8.1: 16 bytes.
struct page_request_record : table_entry<page_request_record, 2> {
  static constexpr entry_field<31, 0> stream_id{};
  static constexpr entry_field<51, 32> substream_id{};
  static constexpr entry_field<58> privileged{};
  static constexpr entry_field<59> execute{};
  static constexpr entry_field<60> read{};
  static constexpr entry_field<61> write{};
  static constexpr entry_field<62> last{};
  static constexpr entry_field<63> substream_valid{};
  static constexpr entry_field<72, 64> group{};
  static constexpr entry_field<127, 76> page{};
  static constexpr std::size_t gate = 0;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = ~std::uint64_t{0};
  static constexpr bool closed_is_absent = true;

  [[nodiscard]] static constexpr page_request_record of(const pri_request& request) noexcept {
    return page_request_record{}
        .with(stream_id, request.requester.raw())
        .with(substream_id, request.pasid & 0xf'ffff)
        .with(privileged, request.privileged)
        .with(execute, request.execute)
        .with(read, request.body[pri_body::r])
        .with(write, request.body[pri_body::w])
        .with(last, request.last())
        .with(substream_valid, request.with_pasid)
        .with(group, request.group())
        .with_address(page, request.body.address());
  }
  // The request as the driver sees it.
  [[nodiscard]] constexpr pri_request request() const noexcept {
    pri_body body{address(page)};
    body = body.with(pri_body::r, (*this)[read])
               .with(pri_body::w, (*this)[write])
               .with(pri_body::l, (*this)[last])
               .with(pri_body::prg_index, (*this)[group]);
    return {pcie::requester_id{static_cast<std::uint16_t>((*this)[stream_id])},
            (*this)[substream_valid],
            (*this)[execute],
            (*this)[privileged],
            (*this)[substream_id],
            body};
  }
};
static_assert(sizeof(page_request_record) == 16);

}  // namespace phasebit::iommu::smmuv3
