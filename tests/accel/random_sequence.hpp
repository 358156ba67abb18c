// SPDX-License-Identifier: BSL-1.0
// Random sequences over five small domains: all operations, oddly cut and overlapping segments, and
// sources that are preferably what earlier steps wrote, so that the optimizer's rules meet.
#pragma once

#include <phasebit/accel/sequence.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace phasebit_test {

class random_sequence {
 public:
  using sequence = phasebit::accel::sequence<10, 160>;
  using segments = std::vector<phasebit::domain_segment>;

  explicit random_sequence(std::uint64_t seed) : random_(seed) {}

  // Up to `most` steps; steps that the sequence refuses are left out.
  sequence make(std::size_t most) {
    sequence s;
    written_.clear();
    scratch_.clear();
    const std::size_t buffers = below(4);
    for (std::size_t k = 0; k != buffers; ++k) scratch_.push_back(*s.scratch(1040));
    const std::size_t steps = 1 + below(most);
    // Sizes repeat within a sequence: that is what makes buffers match.
    sizes_ = {1 + below(64), 16 * (1 + below(8)), 64};
    for (std::size_t k = 0; k != steps; ++k) {
      const sequence before = s;
      append(s);
      if (!s.check_scratch()) s = before;
    }
    return s;
  }

 private:
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_() % n); }

  phasebit::domain_segment place(std::size_t bytes, bool for_reading) {
    if (!scratch_.empty() && below(2) == 0 && !for_reading && bytes <= 1040) {
      phasebit::domain_segment s = scratch_[below(scratch_.size())];
      const std::size_t spare = 1040 - bytes;
      s.address += below(3) == 0 ? below(spare + 1) : 0;
      s.bytes = bytes;
      return s;
    }
    static constexpr std::array<std::uint16_t, 6> ids{0, 0, 2, 3, 4, 4};
    const std::size_t spare = 4096 - 2100 - bytes;
    // Few distinct places, so that steps meet; now and then any byte.
    const std::size_t address = below(4) == 0 ? below(spare) : below(3) * 700;
    return {address, bytes, phasebit::domain_id{ids[below(ids.size())]}};
  }
  segments cut(const phasebit::domain_segment& whole) {
    segments out{whole};
    while (below(4) == 0 && out.size() < 4) {
      const std::size_t k = below(out.size());
      if (out[k].bytes < 2) break;
      const std::uint64_t n = 1 + below(static_cast<std::size_t>(out[k].bytes) - 1);
      phasebit::domain_segment remaining = out[k];
      out[k].bytes = n;
      remaining.address += n;
      remaining.bytes -= n;
      out.insert(out.begin() + static_cast<std::ptrdiff_t>(k) + 1, remaining);
    }
    return out;
  }
  // Two places joined, so that lists are not all of one buffer.
  segments scattered(std::size_t bytes, bool for_reading) {
    if (bytes > 4 && below(8) == 0) {
      const std::size_t first = 1 + below(bytes - 1);
      segments out = cut(place(first, for_reading));
      const segments remaining = cut(place(bytes - first, for_reading));
      out.insert(out.end(), remaining.begin(), remaining.end());
      return out;
    }
    return cut(place(bytes, for_reading));
  }
  segments source(std::size_t bytes) {
    if (!written_.empty() && below(4) != 0) {
      for (int tries = 0; tries != 4; ++tries) {
        const segments& w = written_[written_.size() - 1 - below(written_.size())];
        std::uint64_t all = 0;
        for (const auto& s : w) all += s.bytes;
        if (all < bytes) continue;
        std::uint64_t skip = below(3) == 0 ? below(static_cast<std::size_t>(all - bytes) + 1) : 0;
        std::uint64_t left = bytes;
        segments out;
        for (auto s : w) {
          if (skip >= s.bytes) {
            skip -= s.bytes;
            continue;
          }
          s.address += skip;
          s.bytes -= skip;
          skip = 0;
          if (s.bytes > left) s.bytes = left;
          left -= s.bytes;
          const segments parts = cut(s);
          out.insert(out.end(), parts.begin(), parts.end());
          if (left == 0) break;
        }
        return out;
      }
    }
    return scattered(bytes, true);
  }
  segments destination(std::size_t bytes) {
    if (!written_.empty() && below(4) == 0) {
      const segments& w = written_[below(written_.size())];
      std::uint64_t all = 0;
      for (const auto& s : w) all += s.bytes;
      if (all == bytes) return w;
    }
    segments d = scattered(bytes, false);
    return d;
  }

  void append(sequence& s) {
    namespace accel = phasebit::accel;
    const std::size_t n = sizes_[below(3)];
    const std::size_t units = sizes_[1] / 16 * 16;
    const std::array<std::uint64_t, 3> patterns{0, 0, 0x0807060504030201};
    const accel::cipher c{
        .first_unit = below(2), .unit_bytes = 16, .key = static_cast<std::uint16_t>(below(2))};
    const accel::protection p{.reference_tag = below(2)};
    const std::size_t blocks = 1 + below(2);
    segments to;
    segments from;
    bool good = false;
    const auto take = [&](std::size_t out, std::size_t in) {
      if (in != 0) from = source(in);
      if (out == in && in != 0 && below(8) == 0)
        to = from;
      else if (out != 0)
        to = destination(out);
    };
    switch (below(25)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        take(n, n);
        good = s.copy(to, from).has_value();
        break;
      case 6:
      case 7:
        take(n, 0);
        good = s.fill(to, patterns[below(3)]).has_value();
        break;
      case 8: {
        const std::size_t count = 1 + below(3);
        std::vector<segments> all(count);
        for (auto& one : all) one = source(n);
        if (count > 1 && below(3) == 0) all[1] = all[0];
        take(n, 0);
        std::vector<accel::segment_list> lists;
        for (auto& one : all) lists.emplace_back(one);
        good = s.exclusive_or(to, lists).has_value();
        break;
      }
      case 9: {
        from = source(n);
        const segments other = source(n);
        good = s.compare(from, other).has_value();
        break;
      }
      case 10:
      case 11:
      case 12:
        from = source(n);
        good = s.crc32c(from, below(4) == 0 ? 7U : 0U).has_value();
        break;
      case 13:
        from = source(n);
        good = s.crc16_t10dif(from).has_value();
        break;
      case 14:
        take(n, n);
        good = s.copy_crc32c(to, from).has_value();
        break;
      case 15:
      case 16:
        take(units, units);
        good = s.encrypt(to, from, c).has_value();
        break;
      case 17:
        take(units, units);
        good = s.decrypt(to, from, c).has_value();
        break;
      case 18:
        take(520 * blocks, 512 * blocks);
        good = s.dif_insert(to, from, p).has_value();
        break;
      case 19:
        if (below(2) == 0) {
          from = source(520 * blocks);
          good = s.dif_verify(from, p).has_value();
        } else {
          take(512 * blocks, 520 * blocks);
          good = s.dif_strip(to, from, p).has_value();
        }
        break;
      case 20:
        take(520 * blocks, 520 * blocks);
        good = s.dif_update(to, from, p, below(2), 3).has_value();
        break;
      case 21:
        take(8 * blocks, 512 * blocks);
        good = s.dix_generate(to, from, p).has_value();
        break;
      case 22: {
        from = source(512 * blocks);
        const segments meta = source(8 * blocks);
        good = s.dix_verify(from, meta, p).has_value();
        break;
      }
      case 23: {  // a sum of two parts, and of the whole
        const segments whole = cut(place(n, true));
        for (std::size_t k = 0; k + 1 < whole.size() && k < 2; ++k) {
          const segments part{
              whole.begin() + static_cast<std::ptrdiff_t>(k),
              whole.begin() + static_cast<std::ptrdiff_t>(k == 1 ? whole.size() : 1)};
          good = s.crc32c(part).has_value();
        }
        if (whole.size() == 2) good = s.crc32c(whole[1]).has_value();
        good = s.crc32c(whole).has_value();
        break;
      }
      default:
        take(n, sizes_[below(3)]);
        good = (below(2) == 0 ? s.compress(to, from) : s.decompress(to, from)).has_value();
        break;
    }
    if (good && !to.empty()) written_.push_back(to);
  }

  std::mt19937_64 random_;
  std::vector<segments> written_;
  std::vector<phasebit::domain_segment> scratch_;
  std::array<std::size_t, 3> sizes_{};
};

}  // namespace phasebit_test
