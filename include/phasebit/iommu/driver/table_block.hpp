// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/iommu/page_table/table_memory.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace phasebit::iommu::driver {

// Memory from Tables that goes back to it, as zeros, at the end of its scope. Move-only.
template <TableMemory Tables>
class table_block {
 public:
  table_block() noexcept = default;
  table_block(table_block&& other) noexcept
      : tables_(std::exchange(other.tables_, nullptr)), page_(other.page_), bytes_(other.bytes_) {}
  table_block& operator=(table_block&& other) noexcept {
    if (this != &other) {
      reset();
      tables_ = std::exchange(other.tables_, nullptr);
      page_ = other.page_;
      bytes_ = other.bytes_;
    }
    return *this;
  }
  ~table_block() { reset(); }

  // At least 4 KiB; `bytes` is a power of two. Errors: those of tables.
  [[nodiscard]] static result<table_block> allocate(Tables& tables, std::size_t bytes) noexcept {
    if (bytes < 4096) bytes = 4096;
    const auto page = tables.allocate(bytes);
    if (!page) return page.error();
    table_block made;
    made.tables_ = &tables;
    made.page_ = *page;
    made.bytes_ = bytes;
    return made;
  }

  [[nodiscard]] Tables& tables() const noexcept { return *tables_; }
  [[nodiscard]] std::uint64_t at() const noexcept { return page_.at.value(); }
  [[nodiscard]] table_word* words() const noexcept { return page_.words; }
  explicit operator bool() const noexcept { return tables_ != nullptr; }

 private:
  void reset() noexcept {
    Tables* const tables = std::exchange(tables_, nullptr);
    if (tables == nullptr) return;
    __builtin_memset(page_.words, 0, bytes_);
    tables->release(page_, bytes_);
  }

  Tables* tables_ = nullptr;
  table_page<typename Tables::space> page_{};
  std::size_t bytes_ = 0;
};

}  // namespace phasebit::iommu::driver
