// SPDX-License-Identifier: BSL-1.0
// Integers with a fixed byte order. NVMe, virtio 1.x and PCIe are
// little-endian; SCSI and protection information are big-endian.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace phasebit {

static_assert(std::endian::native == std::endian::little || std::endian::native == std::endian::big,
              "mixed-endian machines are not supported");

// Compilers turn the shifts into one instruction where the processor has it. The builtin would call
// the compiler's support library elsewhere (RISC-V without Zbb).
template <std::unsigned_integral T>
[[nodiscard]] constexpr T byteswap(T value) noexcept {
  if constexpr (sizeof(T) == 1) {
    return value;
  } else if constexpr (sizeof(T) == 2) {
    return static_cast<T>((value << 8) | (value >> 8));
  } else if constexpr (sizeof(T) == 4) {
    return (value << 24) | ((value & 0xff00U) << 8) | ((value >> 8) & 0xff00U) | (value >> 24);
  } else {
    static_assert(sizeof(T) == 8);
    const auto high = byteswap(static_cast<std::uint32_t>(value));
    const auto low = byteswap(static_cast<std::uint32_t>(value >> 32));
    return (static_cast<T>(high) << 32) | low;
  }
}

namespace detail {

template <class T>
struct unsigned_of {
  using type = std::make_unsigned_t<T>;
};
template <class T>
  requires std::is_enum_v<T>
struct unsigned_of<T> {
  using type = std::make_unsigned_t<std::underlying_type_t<T>>;
};

}  // namespace detail

// A T stored in byte order Order; reads and writes convert. It has T's size and alignment, no
// padding, and a trivial default constructor, so that wire structs stay trivially copyable. It is
// compared as the T that it converts to. Not for bool, which has no bytes that are all valid.
template <class T, std::endian Order>
  requires((std::integral<T> && !std::same_as<T, bool>) || std::is_enum_v<T>)
class ordered {
  using bits_type = typename detail::unsigned_of<T>::type;

 public:
  using value_type = T;

  ordered() noexcept = default;
  constexpr ordered(T value) noexcept : bits_(convert(static_cast<bits_type>(value))) {}

  [[nodiscard]] constexpr T get() const noexcept { return static_cast<T>(convert(bits_)); }
  constexpr operator T() const noexcept { return get(); }

  // The same conversion for an integer that other code transfers, such as a register.
  [[nodiscard]] static constexpr bits_type to_wire(T value) noexcept {
    return convert(static_cast<bits_type>(value));
  }
  [[nodiscard]] static constexpr T from_wire(bits_type bits) noexcept {
    return static_cast<T>(convert(bits));
  }

 private:
  static constexpr bits_type convert(bits_type v) noexcept {
    return Order == std::endian::native ? v : byteswap(v);
  }
  bits_type bits_;
};

template <class T>
using le = ordered<T, std::endian::little>;
template <class T>
using be = ordered<T, std::endian::big>;

}  // namespace phasebit
