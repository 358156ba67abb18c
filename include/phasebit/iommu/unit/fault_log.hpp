// SPDX-License-Identifier: BSL-1.0
// The ring that a unit writes its fault records into, with its memory.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/iommu/fault_queue.hpp>
#include <phasebit/iommu/table_memory.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

namespace phasebit::iommu::unit {

// Memory from Tables, which the unit writes and we read. One thread. Move-only; the unit has let go
// of the ring before it ends.
template <FaultFormat Format, TableMemory Tables>
class fault_log {
 public:
  // Errors: those of tables.
  [[nodiscard]] static result<fault_log> create(Tables& tables, unsigned log2_entries) noexcept {
    const std::size_t bytes = bytes_of(log2_entries);
    const auto page = tables.allocate(bytes);
    if (!page) return page.error();
    return fault_log{tables, *page, log2_entries};
  }
  fault_log(fault_log&& other) noexcept
      : tables_(std::exchange(other.tables_, nullptr)),
        page_(other.page_),
        log2_entries_(other.log2_entries_),
        reader_(other.reader_) {}
  fault_log& operator=(fault_log&&) = delete;
  ~fault_log() {
    if (tables_ == nullptr) return;
    __builtin_memset(page_.words, 0, bytes_of(log2_entries_));
    tables_->release(page_, bytes_of(log2_entries_));
  }

  [[nodiscard]] std::uint64_t at() const noexcept { return page_.at.value(); }
  [[nodiscard]] unsigned log2_entries() const noexcept { return log2_entries_; }
  // The ring is disabled, and its indices are 0.
  void restart() noexcept { reader_ = reader(*tables_, ring()); }
  // `producer` is what the unit's register holds, as an index. Reads of it come before reads of the
  // records.
  [[nodiscard]] std::optional<translation_fault> next(std::uint32_t producer) noexcept {
    return reader_.next(producer);
  }
  [[nodiscard]] std::uint32_t consumer() const noexcept { return reader_.consumer(); }

 private:
  using reader = fault_queue_reader<Format, Tables>;

  fault_log(Tables& tables, table_page<typename Tables::space> page, unsigned log2) noexcept
      : tables_(&tables), page_(page), log2_entries_(log2), reader_(tables, ring()) {}

  [[nodiscard]] fault_ring ring() const noexcept { return {page_.at.value(), log2_entries_}; }
  [[nodiscard]] static std::size_t bytes_of(unsigned log2) noexcept {
    const std::size_t bytes = sizeof(typename Format::record) << log2;
    return bytes < 4096 ? 4096 : bytes;
  }

  Tables* tables_;
  table_page<typename Tables::space> page_;
  unsigned log2_entries_;
  reader reader_;
};

}  // namespace phasebit::iommu::unit
