// SPDX-License-Identifier: BSL-1.0
// The ring that an IOMMU writes its fault records into, with its memory.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/iommu/driver/table_block.hpp>
#include <phasebit/iommu/fault/fault_queue.hpp>

#include <cstdint>
#include <optional>
#include <utility>

namespace phasebit::iommu::driver {

// Memory from Tables, which the IOMMU writes and we read. One thread. Move-only; the IOMMU has let go
// of the ring before it ends.
template <FaultFormat Format, TableMemory Tables>
class fault_log {
 public:
  // Errors: those of tables.
  [[nodiscard]] static result<fault_log> create(Tables& tables, unsigned log2_entries) noexcept {
    auto block =
        table_block<Tables>::allocate(tables, sizeof(typename Format::record) << log2_entries);
    if (!block) return block.error();
    return fault_log{std::move(*block), log2_entries};
  }

  [[nodiscard]] std::uint64_t at() const noexcept { return block_.at(); }
  // The ring is disabled, and its indices are 0.
  void restart() noexcept { reader_ = made(); }
  // `producer` is what the IOMMU's register holds, as an index. Reads of it come before reads of the
  // records.
  [[nodiscard]] std::optional<translation_fault> next(std::uint32_t producer) noexcept {
    return reader_.next(producer);
  }
  [[nodiscard]] std::uint32_t consumer() const noexcept { return reader_.consumer(); }

 private:
  using reader = fault_queue_reader<Format, Tables>;

  fault_log(table_block<Tables>&& block, unsigned log2) noexcept
      : block_(std::move(block)), log2_entries_(log2), reader_(made()) {}
  [[nodiscard]] reader made() const noexcept {
    return reader{block_.tables(), fault_ring{block_.at(), log2_entries_}};
  }

  table_block<Tables> block_;
  unsigned log2_entries_;
  reader reader_;
};

}  // namespace phasebit::iommu::driver
