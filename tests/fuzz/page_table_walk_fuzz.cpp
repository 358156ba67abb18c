// SPDX-License-Identifier: BSL-1.0
// Tables whose every word may be hostile: walks and changes end, stay inside, and answer.
#include <phasebit/iommu/page_table/formats.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <fuzz/fuzz_input.hpp>

namespace {

using namespace phasebit;
using namespace phasebit::iommu;
using phasebit_test::fuzz_input;

constexpr std::size_t pages = 32;
constexpr std::uint64_t base = 1 << 20;

template <class Format>
void run(const Format& format, fuzz_input in) {
  using geometry = table_geometry<Format>;
  using arena = table_arena<pages, Format::granule_shift>;
  alignas(1 << 16) static std::array<std::byte, pages << Format::granule_shift> memory;
  arena tables{memory, host_phys{base}};
  auto made = page_table<Format, arena>::create(format, tables);
  if (!made) __builtin_trap();
  auto& table = *made;
  const std::uint64_t granule = geometry::table_bytes;
  invalidations<bus_space> changes{[](void*, auto) noexcept {}, nullptr};
  while (in.left != 0) {
    const std::uint64_t what = in.word();
    const std::uint64_t a = in.word();
    const std::uint64_t bytes = (1 + (what >> 8 & 1023)) * granule;
    switch (what & 7) {
      case 0:
        static_cast<void>(table.map(bus_addr{a & ~(granule - 1)},
                                    host_phys{in.word() & 0x7fff'ffff & ~(granule - 1)}, bytes, {},
                                    changes));
        break;
      case 1:
        static_cast<void>(table.unmap(bus_addr{a & ~(granule - 1)}, bytes, changes));
        break;
      case 2:
        static_cast<void>(
            table.protect(bus_addr{a & ~(granule - 1)}, bytes, access::read, false, changes));
        break;
      case 3: {
        // A word of some table, written from outside: any bits, or an entry for one of our pages.
        const std::size_t at = (a & (memory.size() - 1)) & ~std::size_t{7};
        std::uint64_t value = in.word();
        if ((what & 0x80) != 0) {
          value = format.make_table(base + ((value % pages) << Format::granule_shift),
                                    static_cast<unsigned>(what >> 16 & 3));
        }
        std::memcpy(memory.data() + at, &value, 8);
        break;
      }
      case 4: {
        const auto got = table.translate(bus_addr{a}, bytes, access::read);
        if (got && (got->bytes == 0 || got->bytes > bytes)) __builtin_trap();
        break;
      }
      case 5: {
        std::uint64_t seen = 0;
        static_cast<void>(table.walk(bus_addr{a}, bytes, [&](auto page) noexcept {
          seen += page.page_shift;
          return seen < 4096;
        }));
        break;
      }
      case 6:
        static_cast<void>(
            table.take_dirty(bus_addr{a & ~(granule - 1)}, bytes, changes, [](auto) noexcept {}));
        break;
      default:
        static_cast<void>(table.split(bus_addr{a & ~(granule - 1)}, changes));
        static_cast<void>(table.merge(bus_addr{a & ~(granule - 1)}, bytes, changes));
        break;
    }
    table.complete(changes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  if (bytes == 0) return 0;
  const fuzz_input in{data + 1, bytes - 1};
  // The first byte chooses among all settings of all formats.
  unsigned count = 0;
  for_each_page_format([&](const char*, const auto&... formats) noexcept {
    count += static_cast<unsigned>(sizeof...(formats));
  });
  const unsigned chosen = data[0] % count;
  unsigned n = 0;
  for_each_page_format([&](const char*, const auto&... formats) {
    ((n++ == chosen ? run(formats, in) : void()), ...);
  });
  return 0;
}
