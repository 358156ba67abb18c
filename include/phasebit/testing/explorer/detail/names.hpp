// SPDX-License-Identifier: BSL-1.0
// Names of shared memory, for traces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace phasebit::testing::explorer::detail {

using describe_value = std::function<std::string(std::uint64_t)>;

struct named_range {
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;
  std::string name;
  describe_value describe;
};

class name_table {
 public:
  void clear() noexcept { ranges_.clear(); }
  void add(named_range range) { ranges_.push_back(std::move(range)); }

  // The smallest named range around the bytes, or nullptr.
  [[nodiscard]] const named_range* find(std::uint32_t offset, std::size_t bytes) const noexcept {
    const named_range* best = nullptr;
    for (const named_range& r : ranges_) {
      if (offset < r.offset || offset + bytes > std::size_t{r.offset} + r.bytes) continue;
      if (best == nullptr || r.bytes <= best->bytes) best = &r;
    }
    return best;
  }
  [[nodiscard]] std::string name(std::uint32_t offset, std::size_t bytes) const {
    const named_range* const range = find(offset, bytes);
    if (range == nullptr) return "shared byte " + std::to_string(offset);
    if (range->offset == offset) return range->name;
    return range->name + ", byte " + std::to_string(offset - range->offset);
  }
  [[nodiscard]] std::string value(std::uint32_t offset, std::size_t bytes, std::uint64_t v) const {
    const named_range* const range = find(offset, bytes);
    if (range != nullptr && range->describe && range->offset == offset) return range->describe(v);
    if (v < 65536) return std::to_string(v);
    static constexpr char digits[] = "0123456789abcdef";
    std::string hex;
    for (; v != 0; v >>= 4) hex.insert(hex.begin(), digits[v & 15]);
    return "0x" + hex;
  }

 private:
  std::vector<named_range> ranges_;
};

[[nodiscard]] inline std::string file_of(const char* path) {
  const std::string whole = path;
  const auto slash = whole.rfind('/');
  return slash == std::string::npos ? whole : whole.substr(slash + 1);
}

}  // namespace phasebit::testing::explorer::detail
