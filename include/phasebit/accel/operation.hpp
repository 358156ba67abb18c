// SPDX-License-Identifier: BSL-1.0
// The operations of a data path and their parameters: what one step does with its source bytes and
// its destination bytes, whatever engine carries it out.
#pragma once

#include <phasebit/memory/memory_domain.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit::accel {

// Every operation has one source stream and one destination stream, each a list of segments in order.
//   copy            destination = source
//   fill            destination = an 8-byte pattern, repeated from the destination's start
//   exclusive_or    the source is `count` streams of the destination's size, one after the other
//   compare         the source is two streams of equal size; the result is whether they are equal
//   crc32c          the result is the CRC-32C (Castagnoli) of the source, continued from a seed
//   crc16_t10dif    the result is the CRC-16/T10-DIF of the source, continued from a seed
//   dif_insert      blocks become blocks, each followed by its protection information
//   dif_verify      checks protected blocks
//   dif_strip       checks protected blocks and removes their protection information
//   dif_update      checks protected blocks and writes them with new tags
//   dix_generate    blocks are read, their protection information is written separately
//   dix_verify      the source is all blocks, then all their protection information
//   encrypt/decrypt AES-XTS (IEEE 1619) over data units of one size
//   compress        deflate; the result is the output size; the remaining destination is zeroed
//   decompress      inflate; the output fills the destination exactly, or the step fails
//   combine_crc32c  planned by the optimizer: the result is made of earlier results
//   reuse_result    planned by the optimizer: the result is an earlier result
enum class operation : std::uint8_t {
  none,
  copy,
  fill,
  exclusive_or,
  compare,
  crc32c,
  crc16_t10dif,
  dif_insert,
  dif_verify,
  dif_strip,
  dif_update,
  dix_generate,
  dix_verify,
  encrypt,
  decrypt,
  compress,
  decompress,
  combine_crc32c,
  reuse_result,
};
inline constexpr std::size_t operation_count = 19;

[[nodiscard]] constexpr std::string_view name(operation op) noexcept {
  constexpr std::string_view names[] = {
      "none",       "copy",         "fill",           "exclusive_or", "compare",
      "crc32c",     "crc16_t10dif", "dif_insert",     "dif_verify",   "dif_strip",
      "dif_update", "dix_generate", "dix_verify",     "encrypt",      "decrypt",
      "compress",   "decompress",   "combine_crc32c", "reuse_result", "unknown"};
  static_assert(std::size(names) == operation_count + 1);
  const auto number = static_cast<std::size_t>(op);
  return names[number < operation_count ? number : operation_count];
}

// A set of operations.
struct operation_set {
  std::uint32_t bits = 0;

  constexpr operation_set() noexcept = default;
  template <class... Ops>
  constexpr explicit operation_set(operation first, Ops... remaining) noexcept
      : bits((bit(first) | ... | bit(remaining))) {}
  [[nodiscard]] static constexpr std::uint32_t bit(operation op) noexcept {
    return std::uint32_t{1} << static_cast<unsigned>(op);
  }
  [[nodiscard]] constexpr bool has(operation op) const noexcept { return (bits & bit(op)) != 0; }
  [[nodiscard]] constexpr operation_set with(operation op) const noexcept {
    operation_set s = *this;
    s.bits |= bit(op);
    return s;
  }
  [[nodiscard]] constexpr operation_set without(operation op) const noexcept {
    operation_set s = *this;
    s.bits &= ~bit(op);
    return s;
  }
};

// The step writes its destination and nothing else: no result, and it cannot find fault with data.
inline constexpr operation_set pure_operations{
    operation::copy,         operation::fill,    operation::exclusive_or, operation::dif_insert,
    operation::dix_generate, operation::encrypt, operation::decrypt};
// The step reads only.
inline constexpr operation_set reading_operations{operation::compare, operation::crc32c,
                                                  operation::crc16_t10dif, operation::dif_verify,
                                                  operation::dix_verify};
// A source stream may be the destination itself.
inline constexpr operation_set in_place_operations{operation::copy, operation::exclusive_or,
                                                   operation::encrypt, operation::decrypt,
                                                   operation::dif_update};
// The step can end with "the data is not what it should be".
inline constexpr operation_set checking_operations{
    operation::compare,    operation::dif_verify, operation::dif_strip, operation::dif_update,
    operation::dix_verify, operation::compress,   operation::decompress};

// Width of a block's guard: CRC-16/T10-DIF, CRC-32C, or the CRC-64 of the NVM command set.
enum class guard_format : std::uint8_t { bits16 = 0, bits32 = 1, bits64 = 2 };

[[nodiscard]] constexpr std::uint32_t protection_bytes(guard_format f) noexcept {
  return f == guard_format::bits16 ? 8 : 16;
}

// Protection information of a run of blocks. Types 1 and 2: the reference tag of block i is
// `reference_tag` + i; an application tag of FFFFh in a block switches its checks off. Type 3: the
// reference tag is not checked and not counted up; FFFFh and a reference tag of all ones switch the
// checks off. The metadata of a block is exactly its protection information; a storage tag is not
// supported (size 0).
struct protection {
  static constexpr std::uint8_t check_guard = 1;
  static constexpr std::uint8_t check_application_tag = 2;
  static constexpr std::uint8_t check_reference_tag = 4;

  std::uint64_t reference_tag = 0;  // 32 bits (bits16), 80 cut to 64 (bits32), 48 bits (bits64)
  std::uint32_t block_bytes = 512;  // data alone: a multiple of 512 (bits16) or of 4096
  std::uint16_t application_tag = 0;
  std::uint16_t application_mask = 0xffff;  // bits that are compared
  guard_format guard = guard_format::bits16;
  std::uint8_t type = 1;  // 1, 2 or 3
  std::uint8_t checks = check_guard | check_application_tag | check_reference_tag;

  [[nodiscard]] constexpr std::uint32_t metadata_bytes() const noexcept {
    return protection_bytes(guard);
  }
  [[nodiscard]] constexpr std::uint32_t protected_bytes() const noexcept {
    return block_bytes + metadata_bytes();
  }
  friend constexpr bool operator==(const protection&, const protection&) noexcept = default;
};

// Errors: invalid_argument (type, guard), misaligned (block size).
[[nodiscard]] constexpr result<> check_protection(const protection& p) noexcept {
  if (p.type < 1 || p.type > 3) {
    return failure(errc::invalid_argument, "protection information is of type 1, 2 or 3", p.type);
  }
  if (p.guard > guard_format::bits64) {
    return failure(errc::invalid_argument, "a guard has 16, 32 or 64 bits");
  }
  const std::uint32_t multiple = p.guard == guard_format::bits16 ? 512 : 4096;
  if (p.block_bytes == 0 || (p.block_bytes & (multiple - 1)) != 0 || p.block_bytes > 65536) {
    return failure(errc::misaligned,
                   "a protected block is a multiple of 512 bytes (16-bit guard) or of 4096, up to "
                   "65536",
                   p.block_bytes);
  }
  return {};
}

// Parameters of AES-XTS: the key's number in the engine, the number of the first data unit (the
// tweak, as a 128-bit little-endian number whose upper half is 0), and the size of a data unit.
struct cipher {
  std::uint64_t first_unit = 0;
  std::uint32_t unit_bytes = 512;  // at least 16; the length is a whole number of data units
  std::uint16_t key = 0;
  friend constexpr bool operator==(const cipher&, const cipher&) noexcept = default;
};

// Parameters of a step besides its bytes. One struct for all operations, so that parameters compare
// as a whole. Trivial, so that creating a sequence of any capacity costs nothing.
struct parameters {
  std::uint64_t value;   // fill: pattern; CRC: seed; cipher: first data unit; DIF: reference tag
  std::uint64_t value2;  // DIF update: new reference tag; exclusive_or: number of sources
  std::uint32_t unit;    // cipher: bytes of a data unit; DIF: bytes of a block
  std::uint16_t key;     // cipher: key; DIF: application tag
  std::uint16_t mask;    // DIF: application tag mask
  std::uint16_t key2;    // DIF update: new application tag
  guard_format guard;
  std::uint8_t type;
  std::uint8_t checks;

  friend constexpr bool operator==(const parameters&, const parameters&) noexcept = default;
};

[[nodiscard]] constexpr parameters to_parameters(const protection& p) noexcept {
  parameters out{};
  out.value = p.reference_tag;
  out.unit = p.block_bytes;
  out.key = p.application_tag;
  out.mask = p.application_mask;
  out.guard = p.guard;
  out.type = p.type;
  out.checks = p.checks;
  return out;
}
// The protection that a DIF step checks or inserts.
[[nodiscard]] constexpr protection to_protection(const parameters& p) noexcept {
  return {.reference_tag = p.value,
          .block_bytes = p.unit,
          .application_tag = p.key,
          .application_mask = p.mask,
          .guard = p.guard,
          .type = p.type,
          .checks = p.checks};
}
// The protection that a DIF update writes.
[[nodiscard]] constexpr protection to_new_protection(const parameters& p) noexcept {
  protection out = to_protection(p);
  out.reference_tag = p.value2;
  out.application_tag = p.key2;
  return out;
}
[[nodiscard]] constexpr parameters to_parameters(const cipher& c) noexcept {
  parameters out{};
  out.value = c.first_unit;
  out.unit = c.unit_bytes;
  out.key = c.key;
  return out;
}
// A fill's pattern or a CRC's seed.
[[nodiscard]] constexpr parameters to_parameters(std::uint64_t value) noexcept {
  parameters out{};
  out.value = value;
  return out;
}
[[nodiscard]] constexpr cipher to_cipher(const parameters& p) noexcept {
  return {.first_unit = p.value, .unit_bytes = p.unit, .key = p.key};
}

// A fill pattern as it reads when it begins `bytes` bytes later: byte i of the pattern is bits
// 8i+7:8i, in memory order.
[[nodiscard]] constexpr std::uint64_t pattern_after(std::uint64_t pattern,
                                                    std::uint64_t bytes) noexcept {
  const unsigned shift = static_cast<unsigned>(bytes % 8) * 8;
  return shift == 0 ? pattern : (pattern >> shift) | (pattern << (64 - shift));
}

// How a step ended, and its result. `value`: the CRC, the output size, or for a failed check the index
// of the first block or byte at fault.
enum class step_status : std::uint8_t {
  not_run,
  good,
  mismatch,     // compare: the two streams differ
  guard_error,  // DIF, DIX: checks in this order
  application_tag_error,
  reference_tag_error,
  output_too_large,  // compress: more than the destination; decompress: not the destination's size
  corrupt,           // decompress: not a deflate stream
  engine_error,      // the engine or a memory domain failed; the destination is undefined
  aborted,           // ended on purpose; the destination is undefined
};

[[nodiscard]] constexpr std::string_view name(step_status s) noexcept {
  constexpr std::string_view names[] = {"not_run",
                                        "good",
                                        "mismatch",
                                        "guard_error",
                                        "application_tag_error",
                                        "reference_tag_error",
                                        "output_too_large",
                                        "corrupt",
                                        "engine_error",
                                        "aborted",
                                        "unknown"};
  const auto number = static_cast<std::size_t>(s);
  return names[number < std::size(names) - 1 ? number : std::size(names) - 1];
}

struct step_result {
  std::uint64_t value;
  step_status status;

  [[nodiscard]] constexpr bool good() const noexcept { return status == step_status::good; }
  friend constexpr bool operator==(step_result, step_result) noexcept = default;
};

// The list of segments that one stream consists of; refers to the caller's array.
class segment_list {
 public:
  constexpr segment_list() noexcept = default;
  constexpr segment_list(const domain_segment& one) noexcept : data_(&one), size_(1) {}
  template <class Range>
    requires(!std::same_as<Range, segment_list> &&
             std::convertible_to<const Range&, std::span<const domain_segment>>)
  constexpr segment_list(const Range& many) noexcept {
    const std::span<const domain_segment> all{many};
    data_ = all.data();
    size_ = all.size();
  }

  [[nodiscard]] constexpr const domain_segment* begin() const noexcept { return data_; }
  [[nodiscard]] constexpr const domain_segment* end() const noexcept { return data_ + size_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  [[nodiscard]] constexpr const domain_segment& operator[](std::size_t i) const noexcept {
    return data_[i];
  }

 private:
  const domain_segment* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace phasebit::accel
