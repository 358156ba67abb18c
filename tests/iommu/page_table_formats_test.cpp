// SPDX-License-Identifier: BSL-1.0
#include "page_table_walks.hpp"

namespace phasebit::page_table_harness {

namespace {

// Some attributes beside the usual ones that the format can express, or these.
template <class Format>
page_attributes attributes_for(const Format& format, unsigned n) {
  const page_attributes some[] = {{},
                                  {.execute = true},
                                  {.memory = memory_type::device},
                                  {.coherent = true},
                                  {.memory = memory_type::uncached}};
  const page_attributes wanted = some[n % 5];
  return format.attribute_bits(wanted) ? wanted : page_attributes{};
}

}  // namespace

TEST_CASE("a hundred thousand random steps agree with the oracle, in every format") {
  for_each_page_format([](const char* name, const auto& usual, const auto&... others) {
    CAPTURE(name);
    constexpr std::size_t pages =
        std::size_t{4096} * 4096 >> std::remove_cvref_t<decltype(usual)>::granule_shift;
    random_steps(usual, {}, 100000, 11, pages);
    unsigned seed = 11;
    ((++seed, random_steps(others, attributes_for(others, seed), 20000, seed, pages)), ...);
  });
}

TEST_CASE("random steps with too little memory leave no trace of what failed, in every format") {
  for_each_page_format([](const char* name, const auto& usual, const auto&...) {
    CAPTURE(name);
    random_steps(usual, {}, 20000, 21, usual.granule_shift == 16 ? 8 : 20);
  });
}

TEST_CASE("concurrent mappers: trim takes away what piecewise unmaps leave, in every format") {
  for_each_page_format([](const char* name, const auto& usual, const auto&...) {
    CAPTURE(name);
    random_steps(usual, {}, 20000, 61, std::size_t{4096} * 4096 >> usual.granule_shift,
                 {.who = mappers::concurrent});
  });
}

}  // namespace phasebit::page_table_harness
