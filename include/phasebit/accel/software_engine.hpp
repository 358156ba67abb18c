// SPDX-License-Identifier: BSL-1.0
// The engine that a processor is: plain C++, freestanding, everything but compression, which it does only
// through a compressor that it is given.
#pragma once

#include <phasebit/accel/aes_xts.hpp>
#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/engine.hpp>
#include <phasebit/accel/protection_information.hpp>
#include <phasebit/core/int_cast.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel {

// Deflate for a software engine. Both return how many bytes of `to` were written, or an error status:
// output_too_large, corrupt.
template <class T>
concept Compressor =
    requires(T& c, std::span<const domain_segment> from, std::span<const domain_segment> to) {
      { c.compress(from, to) } noexcept -> std::same_as<step_result>;
      { c.decompress(from, to) } noexcept -> std::same_as<step_result>;
    };
struct no_compressor {};

// AES-XTS by the functions of aes_xts.hpp, with the caller's keys.
template <class Instructions = native_aes_instructions>
class plain_cipher {
 public:
  explicit plain_cipher(std::span<const xts_key> keys = {}) noexcept : keys_(keys) {}

  [[nodiscard]] bool has(std::uint16_t key) const noexcept { return key < keys_.size(); }
  template <bool Decrypt>
  void run(const cipher& c, detail::stream& to, detail::stream& from,
           std::uint64_t units) const noexcept {
    xts_units<Decrypt, Instructions>(keys_[c.key], c.first_unit, c.unit_bytes, to, from, units);
  }

  // Whether blocks of so many bytes can be encrypted and summed by one kernel.
  [[nodiscard]] static constexpr bool sums(const cipher& c, std::uint32_t block_bytes) noexcept {
    return std::is_same_v<Instructions, x86_vaes_instructions> && c.unit_bytes % 256 == 0 &&
           block_bytes % c.unit_bytes == 0;
  }
#if defined(__x86_64__)
  [[nodiscard]] detail::aes::guarded_encryption summing(const cipher& c) const noexcept {
    const xts_key& key = keys_[c.key];
    return {key.forward, key.tweak, key.rounds};
  }
#endif

 private:
  std::span<const xts_key> keys_;
};

inline constexpr std::array software_fusions{fusion{operation::copy, operation::crc32c},
                                             fusion{operation::copy, operation::crc16_t10dif},
                                             fusion{operation::encrypt, operation::dif_insert},
                                             fusion{operation::encrypt, operation::crc32c},
                                             fusion{operation::dif_strip, operation::decrypt},
                                             fusion{operation::copy, operation::dif_verify}};

// Works on local memory; every step ends in submit(). Two fused operations run over tiles of at most
// Tile bytes, so that the second finds in the cache what the first wrote. Cipher is what has run() and
// has() like plain_cipher. One thread; several engines may share keys.
//
// Not supported, by name: data units that are not a multiple of 16 bytes, compression without a
// compressor.
template <class Instructions = native_instructions, class Cipher = plain_cipher<>,
          class Deflate = no_compressor, std::size_t Tile = 16384>
class software_engine {
 public:
  explicit software_engine(Cipher cipher = Cipher{}) noexcept
    requires(!Compressor<Deflate>)
      : cipher_(cipher) {}
  software_engine(Cipher cipher, Deflate& deflate) noexcept
    requires Compressor<Deflate>
      : cipher_(cipher), deflate_(&deflate) {}

  [[nodiscard]] engine_capabilities capabilities() const noexcept {
    operation_set all{operation::copy,       operation::fill,         operation::exclusive_or,
                      operation::compare,    operation::crc32c,       operation::crc16_t10dif,
                      operation::dif_insert, operation::dif_verify,   operation::dif_strip,
                      operation::dif_update, operation::dix_generate, operation::dix_verify,
                      operation::encrypt,    operation::decrypt};
    if constexpr (Compressor<Deflate>) {
      all = all.with(operation::compress).with(operation::decompress);
    }
    return {.operations = all, .fusions = software_fusions};
  }

  result<engine_progress> submit(const work& w, std::uint64_t, work_result& out) noexcept {
    const step& s = *w.what;
    out = {};
    if (const auto ok = acceptable(s.op, w.with); !ok) return ok.error().at(s.id);
    if (s.then == operation::none) {
      detail::stream from{w.source};
      detail::stream to{w.destination};
      out.first = perform(s.op, w.with, from, to, s.source.bytes, s.destination.bytes, w);
      return engine_progress::done;
    }
    if (const auto ok = acceptable(s.then, s.then_with); !ok) return ok.error().at(s.then_id);
    fused(w, out);
    return engine_progress::done;
  }
  std::size_t poll(engine_sink) noexcept { return 0; }

 private:
  [[nodiscard]] result<> acceptable(operation op, const parameters& with) const noexcept {
    if (op == operation::encrypt || op == operation::decrypt) {
      if (with.unit % 16 != 0) {
        return failure(errc::not_supported,
                       "AES-XTS on data units that are not a multiple of 16 bytes", with.unit);
      }
      if (!cipher_.has(with.key)) {
        return failure(errc::not_found, "the engine has no key of this number", with.key);
      }
    }
    if constexpr (!Compressor<Deflate>) {
      if (op == operation::compress || op == operation::decompress) {
        return failure(errc::not_supported,
                       "compress and decompress need an engine with a compressor, such as "
                       "hosted::isal_compressor");
      }
    }
    return {};
  }

  // One operation over the next bytes of both streams. `w` is looked at by what needs whole lists.
  step_result perform(operation op, const parameters& with, detail::stream& from,
                      detail::stream& to, std::uint64_t in, std::uint64_t out,
                      const work& w) noexcept {
    switch (op) {
      case operation::copy:
        detail::pairwise(from, to, in, [](std::span<std::byte> a, std::span<std::byte> b) noexcept {
          if (a.data() != b.data()) __builtin_memcpy(b.data(), a.data(), a.size());
        });
        return good();
      case operation::fill:
        fill(to, with.value, out);
        return good();
      case operation::exclusive_or:
        return exclusive_or(w);
      case operation::compare:
        return compare(w, in / 2);
      case operation::crc32c: {
        auto crc = static_cast<std::uint32_t>(with.value);
        for (std::uint64_t left = in; left != 0;) {
          const auto part = from.take(int_cast<std::size_t>(left));
          crc = crc32c<Instructions>(part, crc);
          left -= part.size();
        }
        return {crc, step_status::good};
      }
      case operation::crc16_t10dif: {
        auto crc = static_cast<std::uint16_t>(with.value);
        for (std::uint64_t left = in; left != 0;) {
          const auto part = from.take(int_cast<std::size_t>(left));
          crc = crc16_t10dif<Instructions>(part, crc);
          left -= part.size();
        }
        return {crc, step_status::good};
      }
      case operation::encrypt:
      case operation::decrypt: {
        const cipher c = to_cipher(with);
        const std::uint64_t units = divide(in, c.unit_bytes);
        if (op == operation::encrypt) {
          cipher_.template run<false>(c, to, from, units);
        } else {
          cipher_.template run<true>(c, to, from, units);
        }
        return good();
      }
      case operation::compress:
      case operation::decompress:
        return deflate(op, w, out);
      default:
        return blocks(op, with, from, to, in, w);
    }
  }

  step_result blocks(operation op, const parameters& with, detail::stream& from, detail::stream& to,
                     std::uint64_t in, const work& w) noexcept {
    const protection p = to_protection(with);
    const protection renewed = to_new_protection(with);
    // The metadata follows each block in the same stream.
    switch (op) {
      case operation::dif_insert:
        insert_protection<Instructions>(to, from, p, divide(in, p.block_bytes));
        return good();
      case operation::dix_generate:
        generate_protection<Instructions>(to, from, p, divide(in, p.block_bytes));
        return good();
      case operation::dif_verify:
        return verify_protection<protected_output::none, Instructions>(
            from, from, to, p, renewed, divide(in, p.protected_bytes()));
      case operation::dif_strip:
        return verify_protection<protected_output::strip, Instructions>(
            from, from, to, p, renewed, divide(in, p.protected_bytes()));
      case operation::dif_update:
        return verify_protection<protected_output::update, Instructions>(
            from, from, to, p, renewed, divide(in, p.protected_bytes()));
      case operation::dix_verify: {
        const std::uint64_t count = divide(in, p.protected_bytes());
        detail::stream metadata{w.source};
        metadata.skip(count * p.block_bytes);
        return verify_protection<protected_output::none, Instructions>(from, metadata, to, p,
                                                                       renewed, count);
      }
      default:
        return {0, step_status::engine_error};
    }
  }

  // Executes both operations tile by tile. A tile contains whole data units and blocks.
  void fused(const work& w, work_result& out) noexcept {
    const step& s = *w.what;
    if (s.op == operation::encrypt && s.then == operation::dif_insert && encrypted_sum(w)) {
      return;
    }
    const bool reads = reading_operations.has(s.then);
    parameters first = w.with;
    parameters second = s.then_with;
    const std::uint64_t in_unit = unit_in(s.op, first);
    const std::uint64_t middle_unit = unit_out(s.op, first);
    const std::uint64_t second_unit = unit_in(s.then, second);
    // Middle bytes per tile: a multiple of both sizes, at least one.
    std::uint64_t grain = middle_unit > second_unit ? middle_unit : second_unit;
    std::uint64_t tile = grain;
    while (tile + grain <= Tile) tile += grain;
    const std::uint64_t all = divide(s.source.bytes, in_unit) * middle_unit;
    detail::stream from{w.source};
    detail::stream to{w.destination};
    detail::stream again{w.destination};
    for (std::uint64_t at = 0; at < all; at += tile) {
      const std::uint64_t middle = all - at < tile ? all - at : tile;
      const std::uint64_t in = divide(middle, middle_unit) * in_unit;
      step_result a;
      step_result b;
      if (reads) {
        a = perform(s.op, first, from, to, in, middle, w);
        b = perform(s.then, second, again, again, middle, 0, w);
      } else {
        const domain_segment held{to_local(tile_).value(), middle, local_domain};
        detail::stream write{{&held, 1}};
        detail::stream read{{&held, 1}};
        a = perform(s.op, first, from, write, in, middle, w);
        b = perform(s.then, second, read, to, middle, 0, w);
      }
      advance(s.op, first, in);
      advance(s.then, second, middle);
      note(out.first, a, divide(at, middle_unit));
      note(out.second, b, divide(at, second_unit));
      if (s.then == operation::crc32c || s.then == operation::crc16_t10dif) {
        second.value = out.second.value = b.value;
      }
      if (!out.first.good() || !out.second.good()) return;
    }
  }
  // Encrypts and inserts T10 DIF in one pass over registers, where the cipher has a kernel for it. Returns
  // whether it has. Blocks that segments cut go through the tile.
  bool encrypted_sum([[maybe_unused]] const work& w) noexcept {
#if defined(__x86_64__)
    if constexpr (requires(const cipher& c) { cipher_.summing(c); } &&
                  !ChecksumLibrary<Instructions>) {
      cipher c = to_cipher(w.with);
      protection p = to_protection(w.what->then_with);
      if (!cipher_.sums(c, p.block_bytes) || p.guard != guard_format::bits16) return false;
      if (p.block_bytes > Tile) return false;
      auto kernel = cipher_.summing(c);
      const std::uint32_t units = p.block_bytes / c.unit_bytes;
      const std::uint64_t blocks = divide(w.what->source.bytes, p.block_bytes);
      detail::stream from{w.source};
      detail::stream to{w.destination};
      for (std::uint64_t k = 0; k != blocks; ++k, c.first_unit += units) {
        if (from.contiguous() >= p.block_bytes && to.contiguous() >= p.protected_bytes())
            [[likely]] {
          const std::byte* in = from.take(p.block_bytes).data();
          std::byte* put = to.take(p.protected_bytes()).data();
          const std::uint16_t guard = kernel.block_of(c.first_unit, c.unit_bytes, units, in, put);
          encode(put + p.block_bytes, p.guard,
                 {guard, expected_reference(p, k), p.application_tag, 0});
          continue;
        }
        const domain_segment held{to_local(tile_).value(), p.block_bytes, local_domain};
        detail::stream write{{&held, 1}};
        detail::stream read{{&held, 1}};
        cipher_.template run<false>(c, write, from, units);
        insert_protection<Instructions>(to, read, p, 1, k);
      }
      return true;
    } else {
      return false;
    }
#else
    return false;
#endif
  }
  // A check's result counts blocks from the start of the step.
  static void note(step_result& total, step_result part, std::uint64_t blocks_before) noexcept {
    if (part.good()) return;
    total = {part.value + blocks_before, part.status};
  }
  static void advance(operation op, parameters& with, std::uint64_t bytes) noexcept {
    if (op == operation::encrypt || op == operation::decrypt)
      with.value += divide(bytes, with.unit);
    const bool inserts = op == operation::dif_insert;
    const bool checks = op == operation::dif_strip || op == operation::dif_verify;
    if ((inserts || checks) && with.type != 3) {
      const protection p = to_protection(with);
      with.value += divide(bytes, inserts ? p.block_bytes : p.protected_bytes());
    }
  }
  [[nodiscard]] static std::uint64_t unit_in(operation op, const parameters& with) noexcept {
    if (op == operation::encrypt || op == operation::decrypt) return with.unit;
    if (op == operation::dif_insert) return with.unit;
    if (op == operation::dif_strip || op == operation::dif_verify) {
      return to_protection(with).protected_bytes();
    }
    return 1;
  }
  [[nodiscard]] static std::uint64_t unit_out(operation op, const parameters& with) noexcept {
    return op == operation::dif_strip ? with.unit : unit_in(op, with);
  }

  [[nodiscard]] static constexpr step_result good() noexcept { return {0, step_status::good}; }
  // Streams of a step are shorter than 4 GiB in units of at least 16 bytes on any 32-bit machine.
  [[nodiscard]] static std::uint64_t divide(std::uint64_t bytes, std::uint64_t unit) noexcept {
    return int_cast<std::size_t>(bytes) / int_cast<std::size_t>(unit);
  }

  static void fill(detail::stream& to, std::uint64_t pattern, std::uint64_t bytes) noexcept {
    while (bytes != 0) {
      const auto part = to.take(int_cast<std::size_t>(bytes));
      bytes -= part.size();
      if (pattern == 0x0101010101010101U * (pattern & 0xff)) {
        __builtin_memset(part.data(), static_cast<int>(pattern & 0xff), part.size());
        continue;
      }
      for (std::byte& b : part) {
        b = static_cast<std::byte>(pattern);
        pattern = pattern >> 8 | pattern << 56;
      }
    }
  }
  static step_result exclusive_or(const work& w) noexcept {
    const std::uint64_t size = w.what->destination.bytes;
    const std::uint64_t count = w.with.value2;
    // Sources that are the destination itself come first: an odd number leaves it, an even one is zero.
    std::uint64_t own = 0;
    for (std::uint64_t k = 0; k != count; ++k) own += is_destination(w, k * size) ? 1 : 0;
    bool begun = own != 0;
    if (begun && own % 2 == 0) {
      detail::stream to{w.destination};
      fill(to, 0, size);
    }
    for (std::uint64_t k = 0; k != count; ++k) {
      if (own != 0 && is_destination(w, k * size)) continue;
      detail::stream from{w.source};
      detail::stream to{w.destination};
      from.skip(k * size);
      detail::pairwise(from, to, size,
                       [begun](std::span<std::byte> a, std::span<std::byte> b) noexcept {
                         if (!begun) {
                           __builtin_memcpy(b.data(), a.data(), a.size());
                           return;
                         }
                         for (std::size_t i = 0; i != a.size(); ++i) b[i] ^= a[i];
                       });
      begun = true;
    }
    return good();
  }
  [[nodiscard]] static bool is_destination(const work& w, std::uint64_t begin) noexcept {
    detail::stream from{w.source};
    detail::stream to{w.destination};
    from.skip(begin);
    return from.take(1).data() == to.take(1).data();
  }
  static step_result compare(const work& w, std::uint64_t half) noexcept {
    detail::stream a{w.source};
    detail::stream b{w.source};
    b.skip(half);
    step_result r = good();
    std::uint64_t at = 0;
    detail::pairwise(a, b, half, [&](std::span<std::byte> x, std::span<std::byte> y) noexcept {
      if (r.good() && __builtin_memcmp(x.data(), y.data(), x.size()) != 0) {
        std::size_t k = 0;
        while (x[k] == y[k]) ++k;
        r = {at + k, step_status::mismatch};
      }
      at += x.size();
    });
    return r;
  }
  step_result deflate([[maybe_unused]] operation op, [[maybe_unused]] const work& w,
                      [[maybe_unused]] std::uint64_t out) noexcept {
    if constexpr (Compressor<Deflate>) {
      if (op == operation::decompress) {
        const step_result r = deflate_->decompress(w.source, w.destination);
        if (r.good() && r.value != out) return {r.value, step_status::output_too_large};
        return r;
      }
      const step_result r = deflate_->compress(w.source, w.destination);
      if (r.good()) {
        detail::stream remaining{w.destination};
        remaining.skip(r.value);
        fill(remaining, 0, out - r.value);
      }
      return r;
    } else {
      return {0, step_status::engine_error};
    }
  }

  Cipher cipher_;
  Deflate* deflate_ = nullptr;
  alignas(64) std::byte tile_[Tile];
};
static_assert(Engine<software_engine<>>);

}  // namespace phasebit::accel
