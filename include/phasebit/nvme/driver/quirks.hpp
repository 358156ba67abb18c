// SPDX-License-Identifier: BSL-1.0
// Controllers that deviate from the specification, and the driver's workarounds: one table by
// vendor and device id. Each entry names its reason. The ids and behaviours are taken from public
// bug reports and from the tables of operating systems.
#pragma once

#include <cstdint>

namespace phasebit::nvme::driver {

// The deviations. Options of the user and entries of the table are combined.
struct quirks {
  // No register is read for so long after CC.EN went from 1 to 0: until then reads fail or hang.
  std::uint32_t quiet_ms = 0;
  // log2 of the distance of I/O submission entries where Identify requests more than 64 bytes; 0: refuse.
  std::uint8_t submission_entry_shift = 0;
  // PRP lists begin on a multiple of this many bytes; 0: as the driver likes.
  std::uint16_t list_alignment = 0;
  // CAP.CSS = 0 is taken for the NVM command set.
  bool assume_nvm = false;
  // CC.SHN is never answered: CSTS.SHST is not waited for.
  bool no_shutdown_status = false;
};

struct quirk_entry {
  std::uint16_t vendor;
  std::uint16_t device;
  quirks what;
  const char* reason;
};

inline constexpr quirk_entry known_quirks[] = {
    {0x1c58, 0x0003, {.quiet_ms = 2300}, "HGST SN100: register reads fail for 2 s after disable"},
    {0x1c58, 0x0023, {.quiet_ms = 2300}, "WDC SN200: register reads fail for 2 s after disable"},
    {0x1c5f, 0x0540, {.quiet_ms = 2300}, "Memblaze: register reads fail for 2 s after disable"},
    {0x144d, 0xa821, {.quiet_ms = 2300}, "Samsung PM1725: registers read ones after disable"},
    {0x144d, 0xa822, {.quiet_ms = 2300}, "Samsung PM1725a: registers read ones after disable"},
    {0x106b, 0x2005, {.submission_entry_shift = 7}, "Apple T2: takes 128-byte I/O entries only"},
    {0x1bb1, 0x0100, {.quiet_ms = 2300}, "Seagate Nytro: register reads fail after disable"},
};

[[nodiscard]] constexpr quirks operator|(quirks a, const quirks& b) noexcept {
  if (b.quiet_ms > a.quiet_ms) a.quiet_ms = b.quiet_ms;
  if (b.submission_entry_shift != 0) a.submission_entry_shift = b.submission_entry_shift;
  if (b.list_alignment > a.list_alignment) a.list_alignment = b.list_alignment;
  a.assume_nvm = a.assume_nvm || b.assume_nvm;
  a.no_shutdown_status = a.no_shutdown_status || b.no_shutdown_status;
  return a;
}

// The entries of a controller, added up. `reason` is set to that of the last, where there is one.
[[nodiscard]] constexpr quirks quirks_of(std::uint16_t vendor, std::uint16_t device,
                                         const char** reason = nullptr) noexcept {
  quirks all{};
  for (const quirk_entry& e : known_quirks) {
    if (e.vendor != vendor || e.device != device) continue;
    all = all | e.what;
    if (reason != nullptr) *reason = e.reason;
  }
  return all;
}

}  // namespace phasebit::nvme::driver
