// SPDX-License-Identifier: BSL-1.0
// The registers of a device, described in a few lines and used through any Mmio. Values are snapshots;
// each read() is one load of the device and each write() one store, never merged, repeated or left
// out, and wrong use of a register does not compile.
//
//   struct status : pcie::device_register<status, 0x20> {
//     using device_register::device_register;
//     static constexpr field<0> busy{};
//     static constexpr field<7> interrupt_on_done{};
//   };
//   struct operand : pcie::device_register<operand, 0x08> {
//     using device_register::device_register;
//   };
//
//   auto unit = pcie::register_block<pcie::mapped_bar>::attach<status, operand>(*bar);
//   unit->modify<status>(status::interrupt_on_done, true);
//   unit->write(operand{5});
//   if (!unit->read<status>()[status::busy]) ...
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/bus32_bar.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <type_traits>

namespace phasebit::pcie {

// The permitted accesses of a register. Reading one that is cleared by writing ones, changing a bit
// and writing it back would clear every flag that was set: there is no modify() for those.
enum class register_access : std::uint8_t { read_write, read_only, write_only, write_one_to_clear };

// A register_value with an offset: bytes from the begin of its block. Derived may add
//   static constexpr std::uint32_t count, stride   for several instances, a stride apart
//   static constexpr half_order halves             if its 64 bits are two accesses on any bus
template <class Derived, std::uint32_t Offset, std::unsigned_integral Word = std::uint32_t,
          register_access Access = register_access::read_write>
struct device_register : register_value<Derived, Word> {
  static constexpr std::uint32_t offset = Offset;
  static constexpr register_access access = Access;
  using register_value<Derived, Word>::register_value;
};
template <class Derived, std::uint32_t Offset, std::unsigned_integral Word = std::uint32_t>
using read_only_register = device_register<Derived, Offset, Word, register_access::read_only>;
template <class Derived, std::uint32_t Offset, std::unsigned_integral Word = std::uint32_t>
using write_only_register = device_register<Derived, Offset, Word, register_access::write_only>;

// Anything with the raw word of a register_value and an offset: a device_register, or the registers
// of a specification that are described without access rights (nvme::cap).
template <class T>
concept DeviceRegister =
    std::derived_from<T, register_value<T, typename T::word_type>> && requires {
      { T::offset } -> std::convertible_to<std::uint32_t>;
    };

namespace detail {

template <class Register>
[[nodiscard]] consteval register_access access_of() noexcept {
  if constexpr (requires { Register::access; }) {
    return Register::access;
  } else {
    return register_access::read_write;
  }
}
template <class Register>
inline constexpr bool is_one_of_many = requires { Register::count; };

// One past the register's last byte, or that of the last of many.
template <class Register>
[[nodiscard]] consteval std::uint64_t end_of() noexcept {
  std::uint64_t begin = Register::offset;
  if constexpr (is_one_of_many<Register>) {
    begin += std::uint64_t{Register::stride} * (Register::count - 1);
  }
  return begin + sizeof(typename Register::word_type);
}

// Checks of a description, in one place, so that every use gives the same message.
template <class Register>
consteval void check_register() noexcept {
  static_assert(DeviceRegister<Register>,
                "a register is a type with an offset: device_register<Self, Offset>");
  if constexpr (DeviceRegister<Register>) {
    using word = typename Register::word_type;
    static_assert(sizeof(word) == 4 || sizeof(word) == 8,
                  "registers are accessed in 32 or 64 bits: describe narrow ones as fields of the "
                  "word that they lie in");
    static_assert(Register::offset % sizeof(word) == 0,
                  "a register lies at a multiple of its width");
    if constexpr (is_one_of_many<Register>) {
      static_assert(Register::count >= 1 && Register::stride >= sizeof(word) &&
                        Register::stride % sizeof(word) == 0,
                    "the stride of many registers is a multiple of their width");
    }
    static_assert(end_of<Register>() <= std::uint64_t{1} << 32, "an offset has 32 bits");
  }
}

// Registers of many, interleaved with others by a stride, are apart where their words are.
template <class A, class B>
[[nodiscard]] consteval bool are_apart() noexcept {
  const auto words = [](auto self, auto each) {
    using R = typename decltype(self)::type;
    if constexpr (is_one_of_many<R>) {
      for (std::uint64_t i = 0; i != R::count; ++i) each(R::offset + i * R::stride);
    } else {
      each(std::uint64_t{R::offset});
    }
  };
  if (end_of<A>() <= B::offset || end_of<B>() <= A::offset) return true;
  bool apart = true;
  words(std::type_identity<A>{}, [&](std::uint64_t a) {
    words(std::type_identity<B>{}, [&](std::uint64_t b) {
      if (a < b + sizeof(typename B::word_type) && b < a + sizeof(typename A::word_type)) {
        apart = false;
      }
    });
  });
  return apart;
}
template <class First, class... Rest>
[[nodiscard]] consteval bool all_apart() noexcept {
  if constexpr (sizeof...(Rest) == 0) {
    return true;
  } else {
    return (are_apart<First, Rest>() && ...) && all_apart<Rest...>();
  }
}

}  // namespace detail

// A device's registers from `base` on. A view: copied freely, outlives no bar. Each register is one
// thread's at a time; different ones are anybody's.
template <Mmio Bar>
class register_block {
 public:
  using bar_type = Bar;

  // For blocks whose place is known. An access beyond the bar is the caller's mistake.
  constexpr explicit register_block(Bar bar, std::uint32_t base = 0) noexcept
      : bar_(bar), base_(base) {
    PHASEBIT_EXPECTS(base % 8 == 0, "a block of registers begins at a multiple of 8");
  }

  // For a bar whose size a device reports: not_supported where one of these registers lies beyond
  // it. None of them may overlap another, which the compiler checks.
  template <class... Registers>
    requires(sizeof...(Registers) != 0)
  [[nodiscard]] static result<register_block> attach(Bar bar, std::uint32_t base = 0) noexcept {
    (detail::check_register<Registers>(), ...);
    static_assert(detail::all_apart<Registers...>(), "two registers of the block overlap");
    std::uint64_t bytes = 0;
    ((bytes = bytes < detail::end_of<Registers>() ? detail::end_of<Registers>() : bytes), ...);
    const std::uint64_t there = bar.size_bytes();
    if (there < bytes || there - bytes < base) {
      return failure(errc::not_supported, "the BAR is too small for these registers", there);
    }
    return register_block{bar, base};
  }

  template <class Register>
  [[nodiscard]] Register read() noexcept {
    check_single<Register>();
    return Register{load<Register>(0)};
  }
  // Of many: index is below Register::count.
  template <class Register>
  [[nodiscard]] Register read(std::uint32_t index) noexcept {
    check_index<Register>(index);
    return Register{load<Register>(index)};
  }

  template <class Register>
  void write(Register value) noexcept {
    check_single<Register>();
    store<Register>(0, value);
  }
  template <class Register>
  void write(std::uint32_t index, Register value) noexcept {
    check_index<Register>(index);
    store<Register>(index, value);
  }

  // Reads, changes and writes back; returns what was written. Not atomic: no other party, the device
  // included, may change the register meanwhile. `change` takes and returns the register's value.
  template <class Register, class Change>
    requires std::is_nothrow_invocable_r_v<Register, Change&, Register>
  Register modify(Change&& change) noexcept {
    check_single<Register>();
    check_modify<Register>();
    const Register changed = change(Register{load<Register>(0)});
    store<Register>(0, changed);
    return changed;
  }
  // The same for one field.
  template <class Register, unsigned Hi, unsigned Lo, class Value>
  Register modify(field<Hi, Lo, Value> which, std::type_identity_t<Value> value) noexcept {
    return modify<Register>([&](Register was) noexcept { return was.with(which, value); });
  }

  // Each register once, in this order: auto [s, n] = block.snapshot<status, count>(). Not one moment's
  // picture, because the device continues between two reads.
  template <class... Registers>
  [[nodiscard]] std::tuple<Registers...> snapshot() noexcept {
    return std::tuple<Registers...>{read<Registers>()...};
  }

  // Reads until done(value) holds, for at most so long; the value that it held for, or nothing.
  template <class Register, PollClock Clock, class Done>
    requires std::is_nothrow_invocable_r_v<bool, Done&, Register>
  [[nodiscard]] std::optional<Register> wait_for(Clock&& clock, std::uint64_t nanoseconds,
                                                 Done&& done) noexcept {
    Register value{};
    const bool held = poll_until(clock, nanoseconds, [&]() noexcept {
      value = read<Register>();
      return static_cast<bool>(done(value));
    });
    return held ? std::optional{value} : std::nullopt;
  }

  // The register as a doorbell of a ring.
  template <class Register>
  [[nodiscard]] auto doorbell() noexcept {
    check_single<Register>();
    check_doorbell<Register>();
    return bar_.doorbell(base_ + Register::offset);
  }
  template <class Register>
  [[nodiscard]] auto doorbell(std::uint32_t index) noexcept {
    check_index<Register>(index);
    check_doorbell<Register>();
    return bar_.doorbell(at<Register>(index));
  }

  [[nodiscard]] Bar& bar() noexcept { return bar_; }
  [[nodiscard]] std::uint32_t base() const noexcept { return base_; }

 private:
  template <class Register>
  static constexpr bool readable = detail::access_of<Register>() != register_access::write_only;
  template <class Register>
  static constexpr bool writable = detail::access_of<Register>() != register_access::read_only;
  template <class Register>
  static constexpr bool wide = sizeof(typename Register::word_type) == 8;

  template <class Register>
  static constexpr void check_single() noexcept {
    detail::check_register<Register>();
    static_assert(!detail::is_one_of_many<Register>,
                  "there are several instances of this register: pass an index");
  }
  template <class Register>
  static constexpr void check_index(std::uint32_t index) noexcept {
    detail::check_register<Register>();
    static_assert(detail::is_one_of_many<Register>,
                  "there is one of this register: it has no index (no `count` and `stride`)");
    PHASEBIT_EXPECTS(index < Register::count, "the device has fewer of these registers");
  }
  template <class Register>
  static constexpr void check_modify() noexcept {
    static_assert(detail::access_of<Register>() == register_access::read_write,
                  "only a register that is read and written can be modified; one whose flags are "
                  "cleared by ones is written with the flags to clear");
  }
  template <class Register>
  static constexpr void check_doorbell() noexcept {
    static_assert(!wide<Register> && writable<Register>,
                  "a doorbell is a register of 32 bits that can be written");
  }

  template <class Register>
  [[nodiscard]] std::uint32_t at(std::uint32_t index) const noexcept {
    if constexpr (detail::is_one_of_many<Register>) {
      return base_ + Register::offset + index * Register::stride;
    } else {
      return base_ + Register::offset;
    }
  }
  template <class Register>
  [[nodiscard]] typename Register::word_type load(std::uint32_t index) noexcept {
    static_assert(readable<Register>, "this register is write-only: the device keeps no value");
    const std::uint32_t where = at<Register>(index);
    if constexpr (!wide<Register>) {
      return bar_.read32(where);
    } else if constexpr (requires { Register::halves; }) {
      return read_halves<Register::halves>(bar_, where);
    } else {
      return bar_.read64(where);
    }
  }
  // 64 bits whole where the bar can, else low half first.
  template <class Register>
  void store(std::uint32_t index, Register value) noexcept {
    static_assert(writable<Register>, "this register is read-only: nothing is written to it");
    const std::uint32_t where = at<Register>(index);
    if constexpr (!wide<Register>) {
      bar_.write32(where, value.raw);
    } else if constexpr (requires { Register::halves; }) {
      write_halves<Register::halves>(bar_, where, value.raw);
    } else if constexpr (requires { bar_.write64(where, value.raw); }) {
      bar_.write64(where, value.raw);
    } else {
      bar_.write64_lo_hi(where, value.raw);
    }
  }

  Bar bar_;
  std::uint32_t base_;
};

}  // namespace phasebit::pcie
