// SPDX-License-Identifier: BSL-1.0
// The physical addresses of this process's pages: /proc/self/pagemap.
#pragma once

#include <phasebit/backend/mmio_linux/device_mapping.hpp>
#include <phasebit/backend/mmio_linux/system_paths.hpp>
#include <phasebit/core/address.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace phasebit::backend::mmio_linux {

// Linux, Documentation/admin-guide/mm/pagemap.rst. The frame number reads 0 without CAP_SYS_ADMIN.
struct pagemap_entry : register_value<pagemap_entry, std::uint64_t> {
  using register_value::register_value;
  static constexpr field<54, 0> frame{};
  static constexpr field<62> swapped{};
  static constexpr field<63> present{};
};

// One thread at a time. An address is valid only as long as the kernel does not move the page:
// huge pages that are locked and in use stay where they are; ordinary pages, even locked ones, do not.
class pagemap {
 public:
  [[nodiscard]] static result<pagemap> open(const system_paths& paths = {}) {
    const std::string path = paths.proc + "/self/pagemap";
    auto file = posix::open_file(path.c_str(), O_RDONLY);
    if (!file) return explain(file.error(), paths, path);
    return pagemap{std::move(*file)};
  }

  // The memory, page by page, as regions that are contiguous on the bus: as few as it has. The bus
  // sees physical addresses. Whole pages. Errors: permission (the kernel hides the addresses),
  // not_mapped (a page is not in memory; index), protocol, io.
  [[nodiscard]] result<std::vector<dma_region>> runs(std::span<std::byte> memory) const {
    const std::uint64_t page = page_bytes();
    PHASEBIT_EXPECTS(is_aligned(to_local(memory.data()).value(), page) &&
                         is_aligned(std::uint64_t{memory.size()}, page),
                     "physical addresses are looked up for whole pages");
    std::vector<dma_region> found;
    std::array<std::uint64_t, 512> entries{};
    const std::uint64_t first = to_local(memory.data()).value() / page;
    const std::uint64_t count = memory.size() / page;
    for (std::uint64_t done = 0; done != count;) {
      const auto now = std::min<std::uint64_t>(count - done, entries.size());
      const auto bytes = static_cast<std::size_t>(now) * sizeof entries[0];
      const auto got = ::pread(file_.get(), entries.data(), bytes,
                               static_cast<::off_t>((first + done) * sizeof entries[0]));
      if (got < 0) return posix::os_error("the physical addresses cannot be read");
      if (static_cast<std::size_t>(got) != bytes) {
        return failure(errc::not_mapped, "the kernel reports no physical addresses of this memory");
      }
      for (std::size_t i = 0; i != now; ++i, ++done) {
        const auto at = frame(pagemap_entry{entries[i]}, page);
        if (!at) return at.error().at(static_cast<std::uint32_t>(done));
        const auto part =
            memory.subspan(int_cast<std::size_t>(done * page), int_cast<std::size_t>(page));
        if (!found.empty() && found.back().bus + found.back().size() == *at) {
          dma_region& last = found.back();
          last.bytes = std::span{last.data(), last.size() + part.size()};
        } else {
          found.push_back({part, *at});
        }
      }
    }
    return found;
  }

 private:
  explicit pagemap(posix::unique_fd file) noexcept : file_(std::move(file)) {}

  [[nodiscard]] static result<bus_addr> frame(pagemap_entry entry, std::uint64_t page) noexcept {
    if (!entry[pagemap_entry::present] || entry[pagemap_entry::swapped]) {
      return failure(errc::not_mapped, "a page is not in memory and has no physical address");
    }
    const std::uint64_t number = entry[pagemap_entry::frame];
    if (number == 0) {
      return failure(errc::permission,
                     "the kernel hides physical addresses: run it as root (CAP_SYS_ADMIN), or use "
                     "vfio, which needs none");
    }
    if (number >= (std::uint64_t{1} << 52) / page) {
      return failure(errc::protocol, "the kernel reports an impossible physical address", number);
    }
    return bus_addr{number * page};
  }

  posix::unique_fd file_;
};

}  // namespace phasebit::backend::mmio_linux
