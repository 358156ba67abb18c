// SPDX-License-Identifier: BSL-1.0
// A described register costs what the access costs: one load or store of its width, with the barrier
// of its bus, however the fields of the value are used.
#include <phasebit/pcie/driver/bus32_bar.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;

namespace {

struct status : pcie::device_register<status, 0x20> {
  using device_register::device_register;
  static constexpr field<0> busy{};
  static constexpr field<7> interrupt{};
};
struct operand : pcie::device_register<operand, 0x08> {
  using device_register::device_register;
};
struct wide_one : pcie::device_register<wide_one, 0x80, std::uint64_t> {
  using device_register::device_register;
};
struct backwards : pcie::device_register<backwards, 0x88, std::uint64_t> {
  using device_register::device_register;
  static constexpr pcie::half_order halves = pcie::half_order::high_first;
};
struct tail : pcie::device_register<tail, 0x100> {
  using device_register::device_register;
  static constexpr std::uint32_t count = 8;
  static constexpr std::uint32_t stride = 8;
};

using mapped = pcie::register_block<pcie::mapped_bar>;
using narrow = pcie::register_block<pcie::bus32_bar<pcie::mapped_bar>>;

template <class Block>
Block at(std::byte* base) {
  return Block{typename Block::bar_type{std::span{base, 0x1000}}};
}

}  // namespace

extern "C" {

// EXPECT read_fields: load32; <after_mmio>
unsigned read_fields(std::byte* base) {
  const auto s = at<mapped>(base).read<status>();
  return static_cast<unsigned>(s[status::busy]) + static_cast<unsigned>(s[status::interrupt]);
}
// EXPECT read_register_twice: load32; <after_mmio>; load32; <after_mmio>
std::uint32_t read_register_twice(std::byte* base) {
  auto block = at<mapped>(base);
  const auto first = block.read<status>();
  return first.raw ^ block.read<status>().raw;
}
// EXPECT read_for_its_effect: load32; <after_mmio>
void read_for_its_effect(std::byte* base) { (void)at<mapped>(base).read<status>(); }
// EXPECT write_register: <before_mmio>; store32
void write_register(std::byte* base, std::uint32_t v) { at<mapped>(base).write(operand{v}); }
// EXPECT write_register_twice: <before_mmio>; store32; <before_mmio>; store32
void write_register_twice(std::byte* base, std::uint32_t v) {
  auto block = at<mapped>(base);
  block.write(operand{v});
  block.write(operand{v});
}
// EXPECT modify_field: load32; <after_mmio>; <before_mmio>; store32
void modify_field(std::byte* base) { at<mapped>(base).modify<status>(status::interrupt, true); }
// EXPECT snapshot_of_two: load32; <after_mmio>; load32; <after_mmio>
std::uint32_t snapshot_of_two(std::byte* base) {
  const auto [s, o] = at<mapped>(base).snapshot<status, operand>();
  return s.raw ^ o.raw;
}

// 64 bits whole, where the machine has such an access.
// EXPECT(arm) write_address: <before_mmio>; store32; <before_mmio>; store32
// EXPECT write_address: <before_mmio>; store64
void write_address(std::byte* base, std::uint64_t v) { at<mapped>(base).write(wide_one{v}); }
// EXPECT write_halves: <before_mmio>; store32; <before_mmio>; store32
void write_halves(std::byte* base, std::uint64_t v) { at<mapped>(base).write(backwards{v}); }
// EXPECT write_narrow: <before_mmio>; store32; <before_mmio>; store32
void write_narrow(std::byte* base, std::uint64_t v) { at<narrow>(base).write(wide_one{v}); }
// EXPECT read_narrow: load32; <after_mmio>; load32; <after_mmio>
std::uint64_t read_narrow(std::byte* base) { return at<narrow>(base).read<wide_one>().raw; }

// EXPECT ring_described: <before_mmio>; store32
void ring_described(std::byte* base, std::uint32_t v) {
  at<mapped>(base).doorbell<tail>(3).ring(v);
}

}  // extern "C"
