// SPDX-License-Identifier: BSL-1.0
// Protection information in software: NVM Command Set 1.0, section 5.2.1, types 1 to 3 with guards of 16,
// 32 and 64 bits; the 16-bit one is T10 DIF. Streams are lists of segments in local memory, cut anywhere.
#pragma once

#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/detail/aes_wide.hpp>
#include <phasebit/accel/detail/stream.hpp>
#include <phasebit/accel/operation.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel {

// One block's protection information, decoded. Fields of the metadata are big-endian.
struct protection_tuple {
  std::uint64_t guard = 0;
  std::uint64_t reference_tag = 0;  // of 80 bits the lower 64
  std::uint16_t application_tag = 0;
  std::uint16_t reference_high = 0;  // of 80 bits the upper 16; 0 in the other formats
};

namespace detail {

constexpr void put_be(std::byte* p, unsigned count, std::uint64_t v) noexcept {
  for (unsigned k = count; k-- != 0; v >>= 8) p[k] = static_cast<std::byte>(v);
}
[[nodiscard]] constexpr std::uint64_t get_be(const std::byte* p, unsigned count) noexcept {
  std::uint64_t v = 0;
  for (unsigned k = 0; k != count; ++k) v = v << 8 | std::to_integer<std::uint64_t>(p[k]);
  return v;
}

[[nodiscard]] constexpr std::uint64_t reference_mask(guard_format f) noexcept {
  if (f == guard_format::bits16) return 0xffff'ffff;
  return f == guard_format::bits32 ? ~std::uint64_t{0} : 0xffff'ffff'ffff;
}

}  // namespace detail

// The metadata's first bytes as a tuple, and a tuple as metadata; protection_bytes(f) bytes.
[[nodiscard]] constexpr protection_tuple decode(const std::byte* p, guard_format f) noexcept {
  using detail::get_be;
  if (f == guard_format::bits16) {
    return {get_be(p, 2), get_be(p + 4, 4), static_cast<std::uint16_t>(get_be(p + 2, 2)), 0};
  }
  if (f == guard_format::bits32) {
    return {get_be(p, 4), get_be(p + 8, 8), static_cast<std::uint16_t>(get_be(p + 4, 2)),
            static_cast<std::uint16_t>(get_be(p + 6, 2))};
  }
  return {get_be(p, 8), get_be(p + 10, 6), static_cast<std::uint16_t>(get_be(p + 8, 2)), 0};
}
constexpr void encode(std::byte* p, guard_format f, const protection_tuple& t) noexcept {
  using detail::put_be;
  if (f == guard_format::bits16) {
    put_be(p, 2, t.guard);
    put_be(p + 2, 2, t.application_tag);
    put_be(p + 4, 4, t.reference_tag);
  } else if (f == guard_format::bits32) {
    put_be(p, 4, t.guard);
    put_be(p + 4, 2, t.application_tag);
    put_be(p + 6, 2, t.reference_high);
    put_be(p + 8, 8, t.reference_tag);
  } else {
    put_be(p, 8, t.guard);
    put_be(p + 8, 2, t.application_tag);
    put_be(p + 10, 6, t.reference_tag);
  }
}

// Returns whether the tags of the block disable checking.
[[nodiscard]] constexpr bool escaped(const protection_tuple& t, const protection& p) noexcept {
  if (t.application_tag != 0xffff) return false;
  const bool ones = t.reference_tag == detail::reference_mask(p.guard) &&
                    (p.guard != guard_format::bits32 || t.reference_high == 0xffff);
  return p.type != 3 || ones;
}

// The reference tag of block `index`; it wraps at its width.
[[nodiscard]] constexpr std::uint64_t expected_reference(const protection& p,
                                                         std::uint64_t index) noexcept {
  return (p.type == 3 ? p.reference_tag : p.reference_tag + index) &
         detail::reference_mask(p.guard);
}

// Guard, then application tag, then reference tag. `guard` is the one computed over the data.
[[nodiscard]] constexpr step_status check_tuple(const protection_tuple& t, const protection& p,
                                                std::uint64_t index, std::uint64_t guard) noexcept {
  if (escaped(t, p)) return step_status::good;
  if ((p.checks & protection::check_guard) != 0 && t.guard != guard) {
    return step_status::guard_error;
  }
  if ((p.checks & protection::check_application_tag) != 0 &&
      ((t.application_tag ^ p.application_tag) & p.application_mask) != 0) {
    return step_status::application_tag_error;
  }
  if ((p.checks & protection::check_reference_tag) != 0 && p.type != 3 &&
      (t.reference_tag != expected_reference(p, index) || t.reference_high != 0)) {
    return step_status::reference_tag_error;
  }
  return step_status::good;
}

namespace detail {

// The CRC-16/T10-DIF of a block, in vectors of 64 bytes where the target has them.
template <class Instructions>
[[nodiscard]] std::uint16_t t10dif_of(std::span<const std::byte> data,
                                      std::uint16_t seed) noexcept {
#if defined(__x86_64__) && defined(__VPCLMULQDQ__) && defined(__AVX512F__) && \
    defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  if constexpr (std::is_same_v<Instructions, x86_instructions>) {
    if (seed == 0 && !data.empty() && data.size() % aes::wide_bytes == 0) {
      return aes::t10dif_wide(data.data(), data.size());
    }
  }
#endif
  return crc16_t10dif<Instructions>(data, seed);
}

// A guard computed over several parts of the data.
template <class Instructions>
struct guard_sum {
  guard_format format;
  std::uint64_t value = 0;

  void add(std::span<const std::byte> data) noexcept {
    switch (format) {
      case guard_format::bits16:
        value = t10dif_of<Instructions>(data, static_cast<std::uint16_t>(value));
        break;
      case guard_format::bits32:
        value = crc32c<Instructions>(data, static_cast<std::uint32_t>(value));
        break;
      case guard_format::bits64:
        value = crc64_nvme(data, value);
        break;
    }
  }
};

template <class Instructions>
[[nodiscard]] std::uint64_t guard_of(stream& data, std::uint32_t bytes, guard_format f) noexcept {
  guard_sum<Instructions> sum{f};
  for (std::uint32_t left = bytes; left != 0;) {
    const auto part = data.take(left);
    sum.add(part);
    left -= static_cast<std::uint32_t>(part.size());
  }
  return sum.value;
}
// The same, with the bytes copied on the way.
template <class Instructions>
[[nodiscard]] std::uint64_t copy_and_guard(stream& from, stream& to, std::uint32_t bytes,
                                           guard_format f) noexcept {
  guard_sum<Instructions> sum{f};
  pairwise(from, to, bytes, [&](std::span<std::byte> a, std::span<std::byte> b) noexcept {
    if (a.data() != b.data()) __builtin_memcpy(b.data(), a.data(), a.size());
    sum.add(b);
  });
  return sum.value;
}

}  // namespace detail

// Blocks `from` become blocks with protection information `to`; `blocks` of them, the first of which has
// index `first`.
template <class Instructions = native_instructions>
void insert_protection(detail::stream& to, detail::stream& from, const protection& p,
                       std::uint64_t blocks, std::uint64_t first = 0) noexcept {
  for (std::uint64_t k = first; k != first + blocks; ++k) {
    const protection_tuple t{detail::copy_and_guard<Instructions>(from, to, p.block_bytes, p.guard),
                             expected_reference(p, k), p.application_tag, 0};
    std::array<std::byte, 16> meta{};
    encode(meta.data(), p.guard, t);
    to.write(meta.data(), p.metadata_bytes());
  }
}

// The metadata of `blocks` blocks, written on its own.
template <class Instructions = native_instructions>
void generate_protection(detail::stream& metadata, detail::stream& data, const protection& p,
                         std::uint64_t blocks, std::uint64_t first = 0) noexcept {
  for (std::uint64_t k = first; k != first + blocks; ++k) {
    const protection_tuple t{detail::guard_of<Instructions>(data, p.block_bytes, p.guard),
                             expected_reference(p, k), p.application_tag, 0};
    std::array<std::byte, 16> meta{};
    encode(meta.data(), p.guard, t);
    metadata.write(meta.data(), p.metadata_bytes());
  }
}

// The output of verify_protection() for a block that has passed the check.
enum class protected_output : std::uint8_t { none, strip, update };

// Checks `blocks` blocks, each followed by its metadata (or, with `metadata`, from a stream of its own).
// Stops at the first block at fault: its index in the run is the result's value. `to` is not used for
// none; strip writes the blocks, update writes them with the tags of `renewed`. A block at fault may
// have been written.
template <protected_output Output, class Instructions = native_instructions>
[[nodiscard]] step_result verify_protection(detail::stream& from, detail::stream& metadata,
                                            detail::stream& to, const protection& p,
                                            const protection& renewed, std::uint64_t blocks,
                                            std::uint64_t first = 0) noexcept {
  for (std::uint64_t k = first; k != first + blocks; ++k) {
    std::uint64_t guard = 0;
    if constexpr (Output == protected_output::none) {
      guard = detail::guard_of<Instructions>(from, p.block_bytes, p.guard);
    } else {
      guard = detail::copy_and_guard<Instructions>(from, to, p.block_bytes, p.guard);
    }
    std::array<std::byte, 16> meta{};
    metadata.read(meta.data(), p.metadata_bytes());
    protection_tuple t = decode(meta.data(), p.guard);
    const step_status status = check_tuple(t, p, k, guard);
    if (status != step_status::good) return {k, status};
    if constexpr (Output == protected_output::update) {
      t.application_tag = renewed.application_tag;
      t.reference_tag = expected_reference(renewed, k);
      t.reference_high = 0;
      encode(meta.data(), p.guard, t);
      to.write(meta.data(), p.metadata_bytes());
    }
  }
  return {0, step_status::good};
}

}  // namespace phasebit::accel
