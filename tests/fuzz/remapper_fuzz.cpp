// SPDX-License-Identifier: BSL-1.0
// Directories, entries, page tables and interrupt tables with arbitrary contents:
// translations end, stay inside, and answer; each refusal is at most one fault.
#include <phasebit/iommu/amd/translation.hpp>
#include <phasebit/iommu/page_table/table_memory.hpp>
#include <phasebit/iommu/riscv/translation.hpp>
#include <phasebit/iommu/smmuv3/translation.hpp>
#include <phasebit/iommu/translation/remapper.hpp>
#include <phasebit/iommu/vtd/translation.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include <fuzz/fuzz_input.hpp>

namespace {

using namespace phasebit;
using namespace phasebit::iommu;
using phasebit_test::fuzz_input;

constexpr std::size_t pages = 64;
constexpr std::uint64_t base = 1 << 20;
alignas(1 << 16) std::array<std::byte, pages << 12> memory;

// Counts how often it was asked: a translation is bounded by the levels of all its tables.
struct counted_window {
  using space = host_space;
  table_window<> window{memory, host_phys{base}};
  mutable unsigned asked = 0;

  [[nodiscard]] table_word* find(host_phys at, std::size_t bytes) const noexcept {
    ++asked;
    return window.find(at, bytes);
  }
};
static_assert(TableReader<counted_window>);

struct counting_sink {
  unsigned faults = 0;
  void record(const translation_fault& fault) noexcept {
    if (fault.reason == fault_reason::none || fault.code == 0) __builtin_trap();
    ++faults;
  }
};

template <class Architecture>
void run(const Architecture& settings, fuzz_input in) {
  memory = {};
  counted_window tables;
  counting_sink sink;
  const auto iommu = std::make_unique<
      remapper<Architecture, counted_window, counting_sink, remapper_caches{8, 8, 2, 8}>>(
      tables, sink, settings);
  while (in.left != 0) {
    const std::uint64_t what = in.word();
    const pcie::requester_id who{static_cast<std::uint16_t>(what >> 16)};
    const unsigned before = sink.faults;
    tables.asked = 0;
    switch (what & 3) {
      case 0: {
        // Words anywhere: any bits, or one that leads to a page of ours.
        const std::size_t at = (in.word() & (memory.size() - 1)) & ~std::size_t{7};
        for (unsigned n = what >> 8 & 15, i = 0; i <= n && in.left != 0; ++i) {
          std::uint64_t value = in.word();
          if ((what & 0x10) != 0) value = (value & 0xfff) | (base + (value >> 12) % pages * 4096);
          if ((what & 0x20) != 0) value = value >> 2;
          const std::size_t place = (at + 8 * i) & (memory.size() - 1);
          std::memcpy(memory.data() + place, &value, 8);
        }
        break;
      }
      case 1: {
        const std::uint64_t bytes = 1 + (what >> 32 & 0xffff);
        const auto answer =
            iommu->translate({who, in.word(), static_cast<phasebit::access>(1 + (what >> 4) % 3),
                              (what & 0x80) != 0, static_cast<std::uint32_t>(what >> 40)},
                             bytes);
        if (answer && (answer->bytes == 0 || answer->bytes > bytes)) __builtin_trap();
        if (tables.asked > 16 || sink.faults > before + 1) __builtin_trap();
        if (answer && sink.faults != before) __builtin_trap();
        break;
      }
      case 2:
        static_cast<void>(
            iommu->remap_interrupt(who, {bus_addr{0xfee0'0000 | (in.word() & 0xf'ffff)},
                                         static_cast<std::uint32_t>(what >> 32)}));
        if (tables.asked > 16 || sink.faults > before + 1) __builtin_trap();
        break;
      default: {
        command c;
        c.kind = static_cast<command_kind>((what >> 4) % 6);
        c.by_domain = (what & 0x100) != 0;
        c.by_pasid = (what & 0x200) != 0;
        c.by_device = (what & 0x400) != 0;
        c.by_range = (what & 0x800) != 0;
        c.domain = static_cast<std::uint16_t>(what >> 16);
        c.device = static_cast<std::uint16_t>(what >> 32);
        c.first = in.word();
        c.last = c.first | (what >> 12 & 0xfff'ffff);
        iommu->apply(c);
        break;
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  if (bytes == 0) return 0;
  const fuzz_input in{data + 1, bytes - 1};
  const std::uint64_t second = base + 0x1000;
  switch (data[0] % 8) {
    case 0: {
      vtd::remapping s;
      s.enabled = s.remap_interrupts = true;
      s.root = base;
      s.interrupt_table = second;
      s.log2_interrupts = 9;
      run(s, in);
      break;
    }
    case 1: {
      vtd::remapping s;
      s.capabilities = {
          .address_bits = 39, .widths = 0b1110, .snoop_control = true, .five_levels = true};
      s.enabled = s.remap_interrupts = s.extended = true;
      s.mode = vtd::table_mode::scalable;
      s.root = base;
      s.interrupt_table = second;
      s.log2_interrupts = 16;
      run(s, in);
      break;
    }
    case 2: {
      amd::remapping s;
      s.enabled = true;
      s.device_table = base;
      s.size_field = 511;
      run(s, in);
      break;
    }
    case 3: {
      amd::remapping s;
      s.enabled = s.wide_interrupts = true;
      s.device_table = base;
      s.size_field = 3;
      run(s, in);
      break;
    }
    case 4: {
      smmuv3::remapping s;
      s.enabled = true;
      s.stream_table = base;
      s.log2_streams = 8;
      run(s, in);
      break;
    }
    case 5: {
      smmuv3::remapping s;
      s.enabled = true;
      s.stream_table = base;
      s.split = 8;
      s.address_bits = 40;
      run(s, in);
      break;
    }
    case 6: {
      riscv::remapping s;
      s.mode = riscv::directory_mode::three_levels;
      s.directory = base;
      s.set_dirty = true;
      run(s, in);
      break;
    }
    default: {
      riscv::remapping s;
      s.mode = riscv::directory_mode::one_level;
      s.msi_flat = false;
      s.directory = base;
      run(s, in);
      break;
    }
  }
  return 0;
}
