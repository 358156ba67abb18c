// SPDX-License-Identifier: BSL-1.0
// Two stages: a guest's own tables, whose addresses, and those of its tables, are translated again.
#pragma once

#include <phasebit/iommu/page_table/page_table_view.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// Table pages that lie behind another translation, as a guest's do: Stage2 turns their addresses
// into addresses that Pages resolves. A table that is not contiguous behind Stage2 is not found.
template <AddressTranslator Stage2, TableReader Pages>
  requires std::same_as<typename Stage2::to, typename Pages::space>
class translated_tables {
 public:
  using space = typename Stage2::from;

  translated_tables(Stage2& stage2, Pages& pages) noexcept : stage2_(&stage2), pages_(&pages) {}

  [[nodiscard]] table_word* find(address<space> at, std::size_t bytes) const noexcept {
    const auto part = stage2_->translate(at, bytes, access::read);
    if (!part || part->bytes != bytes) return nullptr;
    return pages_->find(part->begin, bytes);
  }

 private:
  Stage2* stage2_;
  Pages* pages_;
};

// Stage 1 in Format, rooted at an address of stage 2's input, over stage 2. Everything that stage 1
// reads was written by a guest: a walk takes at most one stage-2 walk per level and one for the
// page, and what it finds is bounded by stage 2. An error's value is the address at fault in the
// input space, or in stage 2's where that one refused the page. Translates as concurrently as both
// stages do. Refers to stage2 and pages.
template <PageTableFormat Format, AddressTranslator Stage2, TableReader Pages,
          class From = bus_space>
class nested {
 public:
  using from = From;
  using to = typename Stage2::to;
  using tables_type = translated_tables<Stage2, Pages>;
  using stage1_type = page_table_view<Format, const tables_type, From>;

  nested(const Format& format, address<typename Stage2::from> root, Stage2& stage2,
         Pages& pages) noexcept
      : format_(format), root_(root), stage2_(&stage2), tables_(stage2, pages) {}

  // Stage 1 by itself. The root is resolved again, because the guest may move its tables.
  [[nodiscard]] stage1_type stage1() const noexcept { return {format_, tables_, root_}; }

  [[nodiscard]] result<segment<to>> translate(address<From> a, std::uint64_t bytes,
                                              access wanted) const noexcept {
    const auto middle = stage1().translate(a, bytes, wanted);
    if (!middle) return middle.error();
    return stage2_->translate(middle->begin, middle->bytes, wanted);
  }

 private:
  Format format_;
  address<typename Stage2::from> root_;
  Stage2* stage2_;
  tables_type tables_;
};

}  // namespace phasebit::iommu
