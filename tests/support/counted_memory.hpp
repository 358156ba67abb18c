// SPDX-License-Identifier: BSL-1.0
// Memory of an address space for tests: counts what is read, and may have holes.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/translate.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <span>

namespace phasebit_test {

template <class Space>
class counted_memory {
 public:
  using from = Space;
  using to = phasebit::local_space;

  counted_memory(std::uint64_t begin, std::size_t bytes)
      : begin_(begin), bytes_(bytes), storage_(new std::byte[bytes + 4096]) {
    const auto at = reinterpret_cast<std::uintptr_t>(storage_.get());
    base_ = storage_.get() + (4096 - at % 4096) % 4096;
    std::memset(base_, 0xee, bytes);
  }

  // Translated ranges end at 4 KiB pages, as if each page lay elsewhere.
  phasebit::result<phasebit::segment<to>> translate(phasebit::address<Space> a, std::uint64_t bytes,
                                                    phasebit::access wanted) noexcept {
    const std::uint64_t offset = a.value() - begin_;
    if (offset >= bytes_) {
      return phasebit::failure(phasebit::errc::not_mapped, "a hole", a.value());
    }
    const std::uint64_t n = std::min({bytes, bytes_ - offset, 4096 - offset % 4096});
    if (phasebit::reads(wanted)) {
      for (std::uint64_t i = 0; i < n; i += 8) ++times_read[a.value() + i];
      bytes_read += n;
    }
    return phasebit::segment<to>{phasebit::to_local(base_ + offset), n};
  }

  [[nodiscard]] std::uint64_t word(std::uint64_t at) const {
    std::uint64_t v = 0;
    std::memcpy(&v, base_ + (at - begin_), 8);
    return v;
  }
  void set_word(std::uint64_t at, std::uint64_t v) { std::memcpy(base_ + (at - begin_), &v, 8); }
  void forget() {
    times_read.clear();
    bytes_read = 0;
  }
  [[nodiscard]] phasebit::dma_region region(std::uint64_t at, std::size_t bytes) const {
    return {{base_ + (at - begin_), bytes}, phasebit::bus_addr{at}};
  }
  [[nodiscard]] std::span<std::byte> all() const { return {base_, bytes_}; }

  std::map<std::uint64_t, int> times_read;
  std::uint64_t bytes_read = 0;

 private:
  std::uint64_t begin_;
  std::uint64_t bytes_;
  std::unique_ptr<std::byte[]> storage_;
  std::byte* base_ = nullptr;
};

}  // namespace phasebit_test
