// SPDX-License-Identifier: BSL-1.0
// Padding has no meaning on the wire, and would carry bytes of this process to the other side.
// EXPECT: WireStruct
// EXPECT: has_unique_object_representations
#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <span>

struct descriptor {
  phasebit::le<std::uint64_t> address;
  phasebit::le<std::uint32_t> length;
#ifdef PHASEBIT_FAIL_FIXED
  phasebit::le<std::uint32_t> reserved;
#endif
};

void mistake(std::span<std::byte> out, const descriptor& d) { phasebit::store_wire(out, d); }
