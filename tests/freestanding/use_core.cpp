// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/address.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/result.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

using namespace phasebit;

// Unknown to the optimiser, so that nothing is computed away.
extern "C" std::uint64_t use_addresses(std::uint64_t at, std::uint64_t bytes) {
  const bus_addr begin{at};
  const auto end = range_end(begin, bytes);
  if (!end) return 0;
  return is_aligned(begin, 4096) ? *end - begin : align_down(*end, 4096).value();
}

extern "C" std::uint32_t use_fields(std::uint32_t word, std::uint32_t value) {
  using act = field<3, 0>;
  using cntlid = field<31, 16>;
  return act::set(word, cntlid::get(value) & 0xfU);
}

extern "C" std::uint32_t use_byte_order(const be<std::uint32_t>* from, le<std::uint64_t>* to) {
  *to = from->get();
  return static_cast<std::uint32_t>(to->get());
}

namespace {

result<std::uint32_t> checked(std::uint32_t value, std::uint32_t limit) {
  if (value >= limit) return failure(errc::out_of_range, "the index lies beyond the table", value);
  return value;
}

}  // namespace

extern "C" std::uint32_t use_result(std::uint32_t value, std::uint32_t limit) {
  const auto got = checked(value, limit);
  return got ? *got : 0;
}

extern "C" std::size_t use_message(std::uint32_t value, char* to, std::size_t bytes) {
  const auto got = checked(value, 3);
  // constexpr, for clang measures a literal at run time, with strlen, where there is no library.
  constexpr std::string_view whose = "admin queue";
  return got ? 0 : got.error().at(value).of(whose).message({to, bytes}).size();
}
