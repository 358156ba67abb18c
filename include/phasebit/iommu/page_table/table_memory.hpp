// SPDX-License-Identifier: BSL-1.0
// Access to page tables: the pointer to a table's bytes for its address, and the allocation of pages
// for tables.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/page_table/table_word.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::iommu {

// One table, as the processor and as the walker sees it.
template <class Space>
struct table_page {
  table_word* words = nullptr;
  address<Space> at;
};

// Resolves table addresses. find() returns a pointer to `bytes` bytes that may be read until the
// tables have another owner, or nullptr where no table can lie: addresses come from entries that
// others may have written, so it validates them. Any number of threads may call it at once.
// `space` is the space of table addresses and of the walk's results.
template <class T>
concept TableReader = requires(T& tables, address<typename T::space> at, std::size_t bytes) {
  { tables.find(at, bytes) } noexcept -> std::same_as<table_word*>;
};

// Hands out tables too. allocate() gives `bytes` zero bytes (a power of two, at least the format's
// granule), aligned to their size for processor and walker. release() takes back exactly what was
// given; the bytes are zero again. Both may be called by as many threads as change tables at once.
//
// Where the hardware walks memory without looking into the processor's caches, the model has a
// third function, written(words, count), which writes these words back.
template <class T>
concept TableMemory =
    TableReader<T> && requires(T& tables, std::size_t bytes, table_page<typename T::space> page) {
      { tables.allocate(bytes) } noexcept -> std::same_as<result<table_page<typename T::space>>>;
      { tables.release(page, bytes) } noexcept -> std::same_as<void>;
    };

template <class T>
concept NoncoherentTables = requires(T& tables, table_word* words, std::size_t count) {
  { tables.written(words, count) } noexcept;
};

// Existing tables within one mapped block of memory: only for walking.
template <class Space = host_space>
class table_window {
 public:
  using space = Space;

  // `bytes`, aligned to 8, lie at `at` for those who wrote the tables.
  table_window(std::span<std::byte> bytes, address<Space> at) noexcept : bytes_(bytes), at_(at) {
    PHASEBIT_EXPECTS(is_aligned(to_local(bytes.data()), 8), "tables are aligned to their words");
  }

  [[nodiscard]] table_word* find(address<Space> at, std::size_t bytes) const noexcept {
    const std::uint64_t offset = at - at_;
    if (offset >= bytes_.size() || bytes > bytes_.size() - offset || offset % 8 != 0) {
      return nullptr;
    }
    return reinterpret_cast<table_word*>(bytes_.data() + static_cast<std::size_t>(offset));
  }

 private:
  std::span<std::byte> bytes_;
  address<Space> at_;
};
static_assert(TableReader<table_window<>>);

}  // namespace phasebit::iommu
