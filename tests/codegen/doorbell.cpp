// SPDX-License-Identifier: BSL-1.0
// A doorbell on a mapped BAR is one store, behind the barrier that its architecture needs between
// memory that the device will read and the register that makes it read: none on x86.
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
using pcie::mapped_bar;
using pcie::mmio_doorbell;

extern "C" {

// EXPECT ring_doorbell: <before_mmio>; store32
void ring_doorbell(std::byte* reg, std::uint32_t value) { mmio_doorbell{reg}.ring(value); }

// Two doorbells are two stores.
// EXPECT ring_twice: <before_mmio>; store32; <before_mmio>; store32
void ring_twice(std::byte* reg, std::uint32_t value) {
  mmio_doorbell doorbell{reg};
  doorbell.ring(value);
  doorbell.ring(value);
}

// The entry is stored before its doorbell.
// EXPECT post_and_ring: store32; <before_mmio>; store32
void post_and_ring(std::uint32_t* entry, std::byte* reg, std::uint32_t value) {
  *entry = value;
  mmio_doorbell{reg}.ring(value);
}

// The entry is read before its place is given back.
// EXPECT take_and_ring: load32; <before_mmio>; store32
std::uint32_t take_and_ring(std::uint32_t* entry, std::byte* reg, std::uint32_t value) {
  const std::uint32_t taken = *entry;
  mmio_doorbell{reg}.ring(value);
  return taken;
}

// Register reads are neither merged nor left out, and checks of constant offsets cost nothing.
// EXPECT read_register: load32; <after_mmio>
std::uint32_t read_register(std::byte* base) {
  return mapped_bar{std::span{base, 0x1000}}.read32(0x1c);
}
// EXPECT read_unused: load32; <after_mmio>
void read_unused(std::byte* base) { (void)mapped_bar{std::span{base, 0x1000}}.read32(0x1c); }
// EXPECT read_twice: load32; <after_mmio>; load32; <after_mmio>
std::uint32_t read_twice(std::byte* base) {
  mapped_bar bar{std::span{base, 0x1000}};
  const std::uint32_t first = bar.read32(0x1c);
  return first ^ bar.read32(0x1c);
}
// EXPECT read_wide: load64; <after_mmio>
// EXPECT(arm) read_wide: load32; <after_mmio>; load32; <after_mmio>
std::uint64_t read_wide(std::byte* base) { return mapped_bar{std::span{base, 0x1000}}.read64(0x0); }
// EXPECT write_wide: <before_mmio>; store32; <before_mmio>; store32
void write_wide(std::byte* base, std::uint32_t low, std::uint32_t high) {
  mapped_bar{std::span{base, 0x1000}}.write64_lo_hi(0x28, std::uint64_t{high} << 32 | low);
}

// A shadow doorbell: the index, then a full barrier, then the event index; the register only if the
// event index requires it. The compiler may place the loads of the doorbell's own members anywhere.
// EXPECT ring_shadow: ((load(16|32|64)|store32); )*<release>; (load(32|64); )?store32; <full>; (load(32|64); )*load32; branch; (load(32|64); )?<before_mmio>; (load(32|64); )?store32
void ring_shadow(ring::shadow_doorbell<mmio_doorbell, device_order>& doorbell,
                 std::uint32_t value) {
  doorbell.ring(value);
}

// Entries that went past the cache, or into write-combining memory, are drained before a doorbell.
// EXPECT drain: <drain>
void drain() { drain_write_combining(); }

}  // extern "C"
