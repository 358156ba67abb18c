// SPDX-License-Identifier: BSL-1.0
// A configuration space that a hostile device made up, read by everything that reads one. The input
// is values and write masks, dword by dword, over the image of a plausible function; so are the
// mutations: offset, value, mask.
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>
#include <phasebit/pcie/driver/reset.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

using namespace phasebit;

namespace {

using space = pcie::config_image<4096>;

struct tick_clock {
  std::uint64_t now() noexcept { return ticks += 60'000'000; }
  void relax() noexcept {}
  std::uint64_t ticks = 0;
};

// The function under test sits behind a root port, beside an honest one.
struct root {
  space port;
  space hostile;
  space absent;
  std::uint64_t accesses = 0;

  space& function(pcie::requester_id id) noexcept {
    if (++accesses > 1'000'000) std::abort();  // the work is bounded for every device
    if (id == pcie::requester_id{0, 1, 0}) return port;
    if (id.device() == 0 && id.function() == 0 &&
        id.bus() == port.read8(pcie::bridge_header::secondary_bus) && id.bus() != 0) {
      return hostile;
    }
    return absent;
  }
};

void must(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  static root r;
  r.accesses = 0;
  pcie::function_description d{.vendor_id = 0x1234, .class_code = 0x010802};
  d.bars[0] = {pcie::bar_kind::memory64, 0x4000};
  d.power_management = true;
  d.msix = pcie::msix_description{.vectors = 4, .table_offset = 0x2000, .pba_offset = 0x3000};
  d.express = pcie::express_description{};
  d.sriov = pcie::sriov_description{.total_vfs = 4};
  d.sriov->vf_bars[0] = {pcie::bar_kind::memory64, 0x4000};
  d.ari_next_function = 0;
  must(pcie::emit_function(r.hostile, d).has_value());
  must(pcie::emit_bridge(r.port, {.vendor_id = 1}).has_value());
  r.absent.clear();
  for (std::uint32_t at = 0; at != 4096; at += 4) r.absent.set32(at, 0xffff'ffff);

  for (; bytes >= 10; data += 10, bytes -= 10) {
    std::uint16_t at = 0;
    std::uint32_t value = 0;
    std::uint32_t mask = 0;
    std::memcpy(&at, data, 2);
    std::memcpy(&value, data + 2, 4);
    std::memcpy(&mask, data + 6, 4);
    r.hostile.set32(at % 4096U & ~3U, value);
    r.hostile.set_writable(at % 4096U & ~3U, 4, mask);
  }

  auto& config = r.hostile;
  if (const auto msix = pcie::read_msix(config)) {
    must(msix->table_bar < 6 && msix->pba_bar < 6 && msix->vectors >= 1 && msix->vectors <= 2048);
  }
  if (const auto sriov = pcie::read_sriov(config)) must(sriov->num_vfs <= sriov->total_vfs);
  if (const auto bars = pcie::size_bars(config)) {
    for (const pcie::bar& b : *bars) must(!b.present() || is_power_of_two(b.size));
  }
  tick_clock clock;
  (void)pcie::enable_virtual_functions(config, pcie::requester_id{1, 0, 0}, 2, clock).has_value();
  (void)pcie::enable_virtual_functions(config, pcie::requester_id{1, 0, 0}, 0, clock).has_value();
  (void)pcie::function_level_reset(config, clock).has_value();

  std::array<pcie::enumerated_function, 300> list{};
  const pcie::host_resources host{.io = {0x1000, 0xf000},
                                  .memory = {0xc000'0000, 0x3000'0000},
                                  .prefetchable = {0x80'0000'0000, 0x80'0000'0000}};
  if (const auto found = pcie::enumerate(r, host, list)) {
    for (const pcie::enumerated_function& f : *found) {
      if (f.fault) continue;
      for (const pcie::bar& b : f.bars) must(!b.present() || (b.address & (b.size - 1)) == 0);
    }
  }
  return 0;
}
