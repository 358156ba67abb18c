// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/pcie/concepts.hpp>

#include <array>
#include <cstdint>
#include <vector>

namespace phasebit_test {

// One access of a bus. A doorbell's write looks like any other.
struct bus_access {
  char kind = 'r';
  unsigned bits = 32;
  std::uint32_t offset = 0;
  std::uint64_t value = 0;

  friend bool operator==(const bus_access&, const bus_access&) = default;
};

// The registers behind a counted_bar. `answers` overrides the next reads, for one offset each.
struct counted_registers {
  std::array<std::uint32_t, 64> words{};
  std::vector<bus_access> log;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> answers;
};

// A bar that writes down each access, with its width.
class counted_bar {
 public:
  explicit counted_bar(counted_registers& to) noexcept : to_(&to) {}

  std::uint32_t read32(std::uint32_t offset) noexcept {
    const std::uint32_t value = word(offset);
    to_->log.push_back({'r', 32, offset, value});
    return value;
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    to_->words[offset / 4] = value;
    to_->log.push_back({'w', 32, offset, value});
  }
  std::uint64_t read64(std::uint32_t offset) noexcept {
    const std::uint64_t value = word(offset) | std::uint64_t{word(offset + 4)} << 32;
    to_->log.push_back({'r', 64, offset, value});
    return value;
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  std::uint64_t size_bytes() noexcept { return sizeof(to_->words); }

  struct sink {
    counted_registers* to;
    std::uint32_t offset;
    void ring(std::uint32_t value) noexcept { to->log.push_back({'w', 32, offset, value}); }
  };
  sink doorbell(std::uint32_t offset) noexcept { return {to_, offset}; }

 private:
  std::uint32_t word(std::uint32_t offset) noexcept {
    for (auto it = to_->answers.begin(); it != to_->answers.end(); ++it) {
      if (it->first != offset) continue;
      const std::uint32_t value = it->second;
      to_->answers.erase(it);
      return value;
    }
    return to_->words[offset / 4];
  }
  counted_registers* to_;
};
static_assert(phasebit::Mmio<counted_bar>);

}  // namespace phasebit_test
