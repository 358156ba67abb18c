// SPDX-License-Identifier: BSL-1.0
// Types whose bytes may be exchanged with a device, a guest or a peer.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/expects.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <span>
#include <type_traits>

namespace phasebit {

// A struct whose object representation is its wire format: no padding, no pointers, and every
// combination of bytes is a valid value. Sizes and offsets are asserted beside each definition.
template <class T>
concept WireStruct = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
                     std::has_unique_object_representations_v<T>;

// Reads a T from the start of `bytes`, at any alignment; `bytes` must hold at least one.
template <WireStruct T>
[[nodiscard]] constexpr T load_wire(std::span<const std::byte> bytes) noexcept {
  PHASEBIT_EXPECTS(bytes.size() >= sizeof(T), "fewer bytes than the struct has");
  if (std::is_constant_evaluated()) {
    std::array<std::byte, sizeof(T)> raw{};
    for (std::size_t i = 0; i != sizeof(T); ++i) raw[i] = bytes[i];
    return std::bit_cast<T>(raw);
  }
  T value;
  __builtin_memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// Writes `value` to the start of `bytes`, at any alignment.
template <WireStruct T>
constexpr void store_wire(std::span<std::byte> bytes, const T& value) noexcept {
  PHASEBIT_EXPECTS(bytes.size() >= sizeof(T), "fewer bytes than the struct has");
  if (std::is_constant_evaluated()) {
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    for (std::size_t i = 0; i != sizeof(T); ++i) bytes[i] = raw[i];
  } else {
    __builtin_memcpy(bytes.data(), &value, sizeof(T));
  }
}

// The bytes of a wire struct.
template <WireStruct T>
[[nodiscard]] inline std::span<const std::byte, sizeof(T)> wire_bytes(const T& value) noexcept {
  return std::span<const std::byte, sizeof(T)>{reinterpret_cast<const std::byte*>(&value),
                                               sizeof(T)};
}
template <WireStruct T>
[[nodiscard]] inline std::span<std::byte, sizeof(T)> writable_wire_bytes(T& value) noexcept {
  return std::span<std::byte, sizeof(T)>{reinterpret_cast<std::byte*>(&value), sizeof(T)};
}

}  // namespace phasebit
