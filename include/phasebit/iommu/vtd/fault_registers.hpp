// SPDX-License-Identifier: BSL-1.0
// VT-d's fault registers as an emulated IOMMU has them (VT-d specification revision 4.1, 7.2 and
// 11.4.7).
#pragma once

#include <phasebit/iommu/vtd/fault_codec.hpp>
#include <phasebit/pcie/spec/msi_message.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::iommu::vtd {

// Primary fault logging with Count recording registers. A fault goes into the next register in
// turn; where that one still holds a fault, PFO is set, and nothing more is recorded until software
// has cleared it (7.2.1). A fault event is due when PPF or PFO becomes set, and is sent when
// FECTL.IM allows (7.3). One thread.
template <std::size_t Count = 8>
  requires(Count != 0 && Count <= 256)
class fault_registers {
 public:
  static constexpr std::size_t count = Count;

  void record(const translation_fault& fault) noexcept {
    if (fault.code == 0) return;
    if (overflow_) return;
    if (records_[next_].high[frcd_high::f]) {
      overflow_ = true;
      event();
      return;
    }
    const bool pending = first_pending() != Count;
    records_[next_] = fault_record::of(fault);
    next_ = (next_ + 1) % Count;
    if (!pending) event();
  }

  // PFO, PPF and FRI; the invalidation queue's bits are kept elsewhere.
  [[nodiscard]] fsts status() const noexcept {
    const std::size_t first = first_pending();
    return fsts{}
        .with(fsts::pfo, overflow_)
        .with(fsts::ppf, first != Count)
        .with(fsts::fri, static_cast<std::uint8_t>(first != Count ? first : 0));
  }
  // PFO is cleared by writing one; PPF is what F bits make it.
  void write_status(fsts value) noexcept {
    if (value[fsts::pfo]) overflow_ = false;
    settle();
  }

  [[nodiscard]] std::uint32_t control() const noexcept {
    return (masked_ ? fectl_mask : 0U) | (due_ ? fectl_pending : 0U);
  }
  // Unmasking sends what is pending.
  void write_control(std::uint32_t value) noexcept { masked_ = (value & fectl_mask) != 0; }
  pcie::msi_message message{};  // FEDATA, FEADDR, FEUADDR

  // The fault event, once, if one is due and not masked: to be sent by the caller.
  [[nodiscard]] std::optional<pcie::msi_message> take_event() noexcept {
    if (!due_ || masked_) return std::nullopt;
    due_ = false;
    return message;
  }

  // 32-bit halves of the recording registers, `offset` from the first one.
  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) const noexcept {
    if (offset / 16 >= Count) return 0;
    const fault_record& r = records_[offset / 16];
    const std::uint64_t word = (offset & 8) != 0 ? r.high.raw : r.low.raw;
    return static_cast<std::uint32_t>((offset & 4) != 0 ? word >> 32 : word);
  }
  // Only F can be written: one clears it.
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    if (offset / 16 >= Count || (offset & 12) != 12 || value >> 31 == 0) return;
    fault_record& r = records_[offset / 16];
    r.high = r.high.with(frcd_high::f, false);
    settle();
  }

  void reset() noexcept { *this = fault_registers{}; }

 private:
  static constexpr std::uint32_t fectl_mask = fectl::im.mask<std::uint32_t>;
  static constexpr std::uint32_t fectl_pending = std::uint32_t{1} << 30;

  // The oldest: registers are filled in turn.
  [[nodiscard]] std::size_t first_pending() const noexcept {
    for (std::size_t i = 0; i != Count; ++i) {
      const std::size_t at = (next_ + i) % Count;
      if (records_[at].high[frcd_high::f]) return at;
    }
    return Count;
  }
  void event() noexcept { due_ = true; }
  // An event whose conditions software has all cleared is not sent any more (11.4.7.2, IP).
  void settle() noexcept {
    if (!overflow_ && first_pending() == Count) due_ = false;
  }

  std::array<fault_record, Count> records_{};
  std::size_t next_ = 0;
  bool overflow_ = false;
  bool due_ = false;
  bool masked_ = true;  // FECTL.IM after reset
};
static_assert(FaultSink<fault_registers<>>);

}  // namespace phasebit::iommu::vtd
