// SPDX-License-Identifier: BSL-1.0
// The oracle: runs a sequence step by step on the bytes of small domains, with each step's source read
// whole before its destination is written. Shares no code with the optimizer or an engine. Ciphers,
// protection information and compression are stand-ins that depend on the same inputs as the real ones;
// CRC-32C is the real one, bit by bit, because checksums are combined from parts.
#pragma once

#include <phasebit/accel/sequence.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace phasebit_test {

using phasebit::domain_segment;
using phasebit::accel::operation;
using phasebit::accel::parameters;
using phasebit::accel::step_result;
using phasebit::accel::step_status;

using byte_string = std::vector<std::uint8_t>;

inline std::uint32_t crc32c_bits(std::uint32_t crc, std::span<const std::uint8_t> data) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t n = 0; n != 256; ++n) {
      std::uint32_t c = n;
      for (int k = 0; k != 8; ++k) c = (c & 1U) != 0 ? (c >> 1) ^ 0x82f63b78U : c >> 1;
      t[n] = c;
    }
    return t;
  }();
  crc = ~crc;
  for (const std::uint8_t b : data) crc = table[(crc ^ b) & 0xffU] ^ (crc >> 8);
  return ~crc;
}

inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a * 0x9e3779b97f4a7c15U + b + 0x7f4a7c15U;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9U;
  return x ^ (x >> 32);
}

class interpreter {
 public:
  static constexpr std::size_t domain_bytes = 5120;
  static constexpr std::size_t domains = 5;

  // Domain 2 is local memory again, 1000 bytes further on: what the alias model must allow for.
  explicit interpreter(std::uint64_t seed) : memory_(domains, byte_string(domain_bytes)) {
    for (auto& d : memory_) {
      for (auto& b : d) b = static_cast<std::uint8_t>(seed = mix(seed, 1));
    }
  }

  template <class Sequence>
  void run(const Sequence& s) {
    for (std::size_t i = 0; i != s.size(); ++i) run_step(s, s[i]);
  }

  [[nodiscard]] const std::vector<byte_string>& memory() const { return memory_; }
  [[nodiscard]] const std::map<int, step_result>& results() const { return results_; }

 private:
  // Where a segment's bytes lie; domain 2 does not wrap below 3000.
  std::span<std::uint8_t> place(const domain_segment& s) {
    const auto size = static_cast<std::size_t>(s.bytes);
    if (s.domain == phasebit::scratch_domain) {
      auto& buffer = scratch_[phasebit::accel::scratch_buffer_of(s.address)];
      buffer.resize(2048);
      return std::span{buffer}.subspan(
          static_cast<std::size_t>(phasebit::accel::scratch_offset_of(s.address)), size);
    }
    if (s.domain.value == 2) return std::span{memory_[0]}.subspan(s.address + 1000, size);
    return std::span{memory_[s.domain.value]}.subspan(s.address, size);
  }
  byte_string gather(std::span<const domain_segment> list) {
    byte_string out;
    for (const auto& s : list) {
      const auto from = place(s);
      out.insert(out.end(), from.begin(), from.end());
    }
    return out;
  }
  static byte_string tuple(std::span<const std::uint8_t> block,
                           const phasebit::accel::protection& p, std::uint64_t index) {
    std::uint64_t sum = 1;
    for (const std::uint8_t b : block) sum = mix(sum, b);
    const std::uint64_t tag = mix(p.reference_tag + index, p.application_tag);
    byte_string out(p.metadata_bytes());
    for (std::size_t k = 0; k != out.size(); ++k) {
      out[k] = static_cast<std::uint8_t>((k % 2 == 0 ? sum : tag) >> (k / 2 % 8 * 8));
    }
    return out;
  }
  static step_result checked(std::span<const std::uint8_t> data, std::span<const std::uint8_t> meta,
                             const phasebit::accel::protection& p, std::uint64_t index) {
    const byte_string want = tuple(data, p, index);
    for (std::size_t k = 0; k != want.size(); ++k) {
      if (want[k] != meta[k]) {
        return {index, k % 2 == 0 ? step_status::guard_error : step_status::reference_tag_error};
      }
    }
    return {0, step_status::good};
  }

  // The output stream of one operation; results go to `id`.
  byte_string perform(operation op, const parameters& with, const byte_string& in,
                      std::size_t out_bytes, std::uint8_t id) {
    byte_string out;
    step_result r{0, step_status::good};
    const auto p = to_protection(with);
    switch (op) {
      case operation::copy:
        out = in;
        break;
      case operation::fill:
        for (std::size_t k = 0; k != out_bytes; ++k) {
          out.push_back(static_cast<std::uint8_t>(with.value >> (k % 8 * 8)));
        }
        break;
      case operation::exclusive_or:
        out.assign(out_bytes, 0);
        for (std::size_t k = 0; k != in.size(); ++k) out[k % out_bytes] ^= in[k];
        break;
      case operation::compare: {
        const std::size_t half = in.size() / 2;
        for (std::size_t k = 0; k != half && r.good(); ++k) {
          if (in[k] != in[half + k]) r = {k, step_status::mismatch};
        }
        results_[id] = r;
        break;
      }
      case operation::crc32c:
        r.value = crc32c_bits(static_cast<std::uint32_t>(with.value), in);
        results_[id] = r;
        break;
      case operation::crc16_t10dif:
        r.value = with.value;
        for (const std::uint8_t b : in) r.value = mix(r.value, b) & 0xffff;
        results_[id] = r;
        break;
      case operation::dif_insert:
        for (std::size_t k = 0; k * p.block_bytes != in.size(); ++k) {
          const std::span block{in.data() + k * p.block_bytes, p.block_bytes};
          out.insert(out.end(), block.begin(), block.end());
          const byte_string t = tuple(block, p, k);
          out.insert(out.end(), t.begin(), t.end());
        }
        break;
      case operation::dix_generate:
        for (std::size_t k = 0; k * p.block_bytes != in.size(); ++k) {
          const byte_string t = tuple({in.data() + k * p.block_bytes, p.block_bytes}, p, k);
          out.insert(out.end(), t.begin(), t.end());
        }
        break;
      case operation::dif_verify:
      case operation::dif_strip:
      case operation::dif_update:
        for (std::size_t k = 0; k * p.protected_bytes() != in.size(); ++k) {
          const std::span block{in.data() + k * p.protected_bytes(), p.block_bytes};
          const auto one = checked(block, {block.data() + p.block_bytes, p.metadata_bytes()}, p, k);
          if (r.good()) r = one;
          if (op == operation::dif_verify) continue;
          out.insert(out.end(), block.begin(), block.end());
          if (op == operation::dif_update) {
            const byte_string t = tuple(block, to_new_protection(with), k);
            out.insert(out.end(), t.begin(), t.end());
          }
        }
        results_[id] = r;
        break;
      case operation::dix_verify: {
        const std::size_t blocks = in.size() / p.protected_bytes();
        for (std::size_t k = 0; k != blocks; ++k) {
          const auto one = checked(
              {in.data() + k * p.block_bytes, p.block_bytes},
              {in.data() + blocks * p.block_bytes + k * p.metadata_bytes(), p.metadata_bytes()}, p,
              k);
          if (r.good()) r = one;
        }
        results_[id] = r;
        break;
      }
      case operation::encrypt:
      case operation::decrypt:
        for (std::size_t k = 0; k != in.size(); ++k) {
          const std::uint64_t unit = with.value + k / with.unit;
          const auto pad = static_cast<std::uint8_t>(mix(mix(with.key, unit), k % with.unit));
          out.push_back(
              static_cast<std::uint8_t>(op == operation::encrypt ? in[k] + pad : in[k] - pad));
        }
        break;
      case operation::compress:
      case operation::decompress: {
        std::uint64_t state = static_cast<std::uint64_t>(op);
        for (const std::uint8_t b : in) state = mix(state, b);
        r.value = op == operation::compress ? state % (out_bytes + 1) : out_bytes;
        for (std::size_t k = 0; k != out_bytes; ++k) {
          out.push_back(k < r.value ? static_cast<std::uint8_t>(state = mix(state, k)) : 0);
        }
        results_[id] = r;
        break;
      }
      default:
        break;
    }
    return out;
  }

  template <class Sequence>
  void run_step(const Sequence& s, const phasebit::accel::step& st) {
    using phasebit::accel::reading_operations;
    if (st.op == operation::reuse_result) {
      results_[st.id] = results_.at(static_cast<int>(st.with.value));
      return;
    }
    if (st.op == operation::combine_crc32c) {
      std::uint32_t crc = 0;
      for (const auto& part : s.sources(st)) {
        const byte_string zeros(static_cast<std::size_t>(part.bytes));
        // The register moved on by as many zero bytes as the part is long, without the inversions.
        crc = ~crc32c_bits(~crc, zeros);
        crc ^= static_cast<std::uint32_t>(results_.at(static_cast<int>(part.address)).value);
      }
      results_[st.id] = {crc, step_status::good};
      return;
    }
    parameters with = st.with;
    if (st.seed_from != phasebit::accel::step::no_seed) {
      with.value = results_.at(st.seed_from).value;
    }
    const byte_string in = gather(s.sources(st));
    const auto size = static_cast<std::size_t>(st.destination.bytes);
    byte_string out;
    if (st.then == operation::none) {
      out = perform(st.op, with, in, size, st.id);
    } else if (reading_operations.has(st.then)) {
      out = perform(st.op, with, in, size, st.id);
      static_cast<void>(perform(st.then, st.then_with, out, 0, st.then_id));
    } else {
      std::size_t middle = in.size();
      if (st.op == operation::dif_strip) {
        const auto p = to_protection(st.with);
        middle = in.size() / p.protected_bytes() * p.block_bytes;
      }
      const byte_string between = perform(st.op, with, in, middle, st.id);
      out = perform(st.then, st.then_with, between, size, st.then_id);
    }
    std::size_t k = 0;
    for (const auto& d : s.destinations(st)) {
      for (auto& b : place(d)) b = out.at(k++);
    }
  }

  std::vector<byte_string> memory_;
  std::map<std::size_t, byte_string> scratch_;
  std::map<int, step_result> results_;
};

}  // namespace phasebit_test
