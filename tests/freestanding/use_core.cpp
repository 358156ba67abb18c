// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/address.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/callback.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;

// Unknown to the optimiser, so that nothing is computed away.
extern "C" std::uint64_t use_addresses(std::uint64_t at, std::uint64_t bytes) {
  const bus_addr begin{at};
  const auto end = range_end(begin, bytes);
  if (!end) return 0;
  return is_aligned(begin, 4096) ? *end - begin : align_down(*end, 4096).value();
}

extern "C" std::uint32_t use_fields(std::uint32_t word, std::uint32_t value) {
  using act = field<3, 0>;
  using cntlid = field<31, 16>;
  return act::set(word, cntlid::get(value) & 0xfU);
}

extern "C" std::uint32_t use_byte_order(const be<std::uint32_t>* from, le<std::uint64_t>* to) {
  *to = from->get();
  return static_cast<std::uint32_t>(to->get());
}

namespace {

result<std::uint32_t> checked(std::uint32_t value, std::uint32_t limit) {
  if (value >= limit) return failure(errc::out_of_range, "the index lies beyond the table", value);
  return value;
}

}  // namespace

extern "C" std::uint32_t use_result(std::uint32_t value, std::uint32_t limit) {
  const auto got = checked(value, limit);
  return got ? *got : 0;
}

extern "C" std::size_t use_message(std::uint32_t value, char* to, std::size_t bytes) {
  const auto got = checked(value, 3);
  return got ? 0 : got.error().at(value).of("admin queue").message({to, bytes}).size();
}

extern "C" const char* use_names(unsigned code) { return name(static_cast<errc>(code)).data(); }

namespace {

struct entry {
  le<std::uint64_t> address;
  be<std::uint32_t> length;
  le<std::uint16_t> flags, next;
};

struct status : register_value<status, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> ready{};
  static constexpr field<7, 4> state{};
};

template <RingOrder Order>
std::uint32_t pass(le<std::uint16_t>& index, entry& shared, own_line<std::uint32_t>& own) {
  const entry e = snapshot(shared);
  overwrite(shared, entry{e.address, e.length, 0, e.next});
  Order::store(index, static_cast<std::uint16_t>(Order::load(index) + 1));
  Order::after_load();
  Order::store(*own, Order::load(*own) + 1);
  Order::full();
  return e.length;
}

struct counting_clock {
  std::uint64_t time = 0;
  std::uint64_t now() noexcept { return time; }
  void relax() noexcept {
    ++time;
    cpu_relax();
  }
};

}  // namespace

extern "C" std::uint32_t use_orders(le<std::uint16_t>* index, entry* shared,
                                    own_line<std::uint32_t>* own) {
  return pass<thread_order>(*index, *shared, *own) + pass<device_order>(*index, *shared, *own);
}

extern "C" std::uint32_t use_wire(std::byte* bytes, std::size_t size) {
  const auto e = load_wire<entry>(std::span<const std::byte>{bytes, size});
  store_wire(std::span{bytes, size}, e);
  copy_shared({bytes, size}, {bytes + size, size});
  return e.length;
}

extern "C" bool use_register(std::byte* base, std::size_t size) {
  pcie::mapped_bar bar{std::span{base, size}};
  bar.write64_lo_hi(8, bar.read64(16));
  bar.doorbell(0x1000).ring(3);
  drain_write_combining();
  const status now{bar.read32(0x1c)};
  counting_clock clock;
  return poll_until(clock, 100, [&] { return now.with(status::state, 3)[status::ready]; });
}

extern "C" int use_callback(int* target) {
  inplace_callback<int> call{[target](int v) noexcept { *target = v; }};
  call(3);
  return *target;
}

extern "C" std::size_t use_addresses_of_functions(const char* text, std::size_t size, char* out) {
  const auto read = pcie::parse_function_address({text, size});
  return read ? read->print({out, 12}).size() : 0;
}

extern "C" std::uint64_t use_remainder(std::uint64_t a, std::uint64_t b) { return remainder(a, b); }
