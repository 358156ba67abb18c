// SPDX-License-Identifier: BSL-1.0
// The BARs of a PCI function as /sys lists and maps them.
#pragma once

#include <phasebit/backend/mmio_linux/device_mapping.hpp>
#include <phasebit/backend/mmio_linux/system_paths.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/posix/pci_sysfs.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <fcntl.h>

namespace phasebit::backend::mmio_linux {

// Bits of a line's third number: linux/ioport.h.
namespace resource_flag {

inline constexpr std::uint64_t io = 0x100;
inline constexpr std::uint64_t memory = 0x200;
inline constexpr std::uint64_t prefetchable = 0x2000;
inline constexpr std::uint64_t wide = 0x10'0000;
inline constexpr std::uint64_t unset = 0x2000'0000;  // no address has been given to it

}  // namespace resource_flag

// The file `resource`: a line "begin end flags" for each BAR, in hexadecimal, 0 0 0 where there is none.
// A BAR without an address is absent. Lines after the sixth are ROM, virtual functions' BARs and
// bridge windows. Errors: protocol, with the line as index.
[[nodiscard]] constexpr result<pcie::bar_array> parse_resources(std::string_view text) noexcept {
  const auto hex = [&text]() -> std::optional<std::uint64_t> {
    if (!text.starts_with("0x")) return std::nullopt;
    text.remove_prefix(2);
    std::uint64_t value = 0;
    std::size_t digits = 0;
    for (; digits != text.size(); ++digits) {
      const char c = text[digits];
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
      if (digit < 0) break;
      if (digits == 16) return std::nullopt;
      value = value << 4 | static_cast<std::uint64_t>(digit);
    }
    if (digits == 0) return std::nullopt;
    text.remove_prefix(digits);
    return value;
  };
  const auto skip = [&text](char c) {
    if (!text.starts_with(c)) return false;
    text.remove_prefix(1);
    return true;
  };

  pcie::bar_array bars{};
  for (std::uint32_t i = 0; i != bars.size(); ++i) {
    const auto begin = hex();
    const bool first = skip(' ');
    const auto end = hex();
    const bool second = skip(' ');
    const auto flags = hex();
    if (!begin || !end || !flags || !first || !second || !skip('\n')) {
      return failure(errc::protocol, "a line of `resource` is not three numbers").at(i);
    }
    if (*flags == 0 && *begin == 0 && *end == 0) continue;
    const std::uint64_t size = *end - *begin + 1;
    const bool io = (*flags & resource_flag::io) != 0;
    const bool memory = (*flags & resource_flag::memory) != 0;
    if (io == memory || *end < *begin || !is_power_of_two(size)) {
      return failure(errc::protocol, "a line of `resource` describes no BAR", *flags).at(i);
    }
    if ((*flags & resource_flag::unset) != 0) continue;
    const bool wide = (*flags & resource_flag::wide) != 0;
    bars[i] = {io     ? pcie::bar_kind::io
               : wide ? pcie::bar_kind::memory64
                      : pcie::bar_kind::memory32,
               (*flags & resource_flag::prefetchable) != 0, *begin, size};
  }
  return bars;
}

// Errors: not_found, protocol.
[[nodiscard]] inline result<pcie::bar_array> read_resources(pcie::function_address function,
                                                            const system_paths& paths = {}) {
  const std::string path = posix::pci_path(function, paths.sys) + "/resource";
  const auto text = posix::read_text(path);
  if (!text) return text.error();
  const auto bars = parse_resources(*text);
  if (!bars) return bars.error().of(path);
  return bars;
}

enum class bar_view : std::uint8_t {
  registers,        // uncached: each access is one of the device's
  write_combining,  // stores are gathered: for memory behind a BAR, drained before a doorbell
};

// Maps BAR `index`, one of `bars`. Does not check whether a driver uses it; function::open() does. Errors: not_found, not_supported (an I/O port BAR; no write-combining view),
// permission, out_of_range, io.
[[nodiscard]] inline result<device_mapping> map_resource(pcie::function_address function,
                                                         const pcie::bar_array& bars,
                                                         unsigned index, bar_view view,
                                                         const system_paths& paths = {}) {
  const std::string name = posix::name_of(function);
  if (index >= bars.size() || !bars[index].present()) {
    return failure(errc::not_found, "the function has no such BAR").at(index).of(name);
  }
  const pcie::bar& bar = bars[index];
  if (bar.kind == pcie::bar_kind::io) {
    return failure(errc::not_supported,
                   "this BAR is one of I/O ports, which are reached by instructions of their own "
                   "and not mapped")
        .at(index)
        .of(name);
  }
  const std::string path = posix::pci_path(function, paths.sys) + "/resource" +
                           std::to_string(index) + (view == bar_view::registers ? "" : "_wc");
  const auto file = posix::open_file(path.c_str(), O_RDWR | O_SYNC);
  if (!file) {
    if (view == bar_view::write_combining && file.error().code == errc::not_found) {
      return failure(errc::not_supported,
                     "the kernel has no write-combining view of this BAR: only prefetchable ones "
                     "have it, on machines that can")
          .at(index)
          .of(name);
    }
    return explain(file.error(), paths, path);
  }
  // A BAR smaller than a page begins somewhere in the page that the kernel maps.
  const std::uint64_t inside = bar.address & (page_bytes() - 1);
  auto mapped = device_mapping::map_inside(file->get(), inside, bar.size);
  if (!mapped) return explain(mapped.error(), paths, path).at(index);
  return mapped;
}

}  // namespace phasebit::backend::mmio_linux
