// SPDX-License-Identifier: BSL-1.0
// Cuts steps that are longer than an engine's limits into several, each of whole blocks and data units.
#pragma once

#include <phasebit/accel/detail/flow.hpp>
#include <phasebit/accel/operation.hpp>
#include <phasebit/accel/sequence.hpp>
#include <phasebit/accel/target.hpp>
#include <phasebit/core/result.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::accel {

namespace detail {

// The fewest bytes that a step can be cut into: so many of the source become so many of the destination.
struct grain {
  std::uint64_t in = 0;  // both 0: the operation cannot be cut
  std::uint64_t out = 0;
};
[[nodiscard]] constexpr grain grain_of(operation op, const parameters& with) noexcept {
  const protection p = to_protection(with);
  switch (op) {
    case operation::copy:
      return {1, 1};
    case operation::fill:
      return {0, 1};
    case operation::crc32c:
    case operation::crc16_t10dif:
      return {1, 0};
    case operation::encrypt:
    case operation::decrypt:
      return {with.unit, with.unit};
    case operation::dif_insert:
      return {p.block_bytes, p.protected_bytes()};
    case operation::dif_strip:
      return {p.protected_bytes(), p.block_bytes};
    case operation::dif_update:
      return {p.protected_bytes(), p.protected_bytes()};
    case operation::dif_verify:
      return {p.protected_bytes(), 0};
    case operation::dix_generate:
      return {p.block_bytes, p.metadata_bytes()};
    default:
      return {};
  }
}
// Of the two operations of a fused step. Units and blocks are such that one divides the other.
[[nodiscard]] constexpr grain grain_of(const step& s) noexcept {
  const grain first = grain_of(s.op, s.with);
  if (s.then == operation::none || (first.in | first.out) == 0) return first;
  const grain second = grain_of(s.then, s.then_with);
  if ((second.in | second.out) == 0) return {};
  const std::uint64_t between = first.out > second.in ? first.out : second.in;
  const auto times = [between](std::uint64_t unit) noexcept {
    return quotient(between, static_cast<std::uint32_t>(unit));
  };
  if (times(first.out) * first.out != between || times(second.in) * second.in != between) {
    return {};
  }
  return {times(first.out) * first.in, times(second.in) * second.out};
}

// The parameters of what follows `in` source bytes.
constexpr void advance(operation op, parameters& with, std::uint64_t in) noexcept {
  const grain g = grain_of(op, with);
  if (op == operation::encrypt || op == operation::decrypt) with.value += quotient(in, with.unit);
  const bool blocks = op == operation::dif_insert || op == operation::dif_strip ||
                      op == operation::dif_update || op == operation::dif_verify ||
                      op == operation::dix_generate;
  if (blocks && with.type != 3) {
    const std::uint64_t count = quotient(in, static_cast<std::uint32_t>(g.in));
    with.value += count;
    if (op == operation::dif_update) with.value2 += count;
  }
}

template <class Sequence>
class splitter {
 public:
  constexpr splitter(Sequence& s, const target& t) noexcept : f_(s, t), t_(&t) {}

  constexpr result<> run() noexcept {
    Sequence& s = f_.sequence();
    for (std::size_t i = 0; i != s.size(); ++i) {
      if (fits(i) || !f_.reaches_all(f_.from(i)) || !f_.reaches_all(f_.to(i))) continue;
      if (s[i].then != operation::none && reading_operations.has(s[i].then)) {
        // The second operation reads what the first wrote: as a step of its own it can continue a sum.
        if (const auto ok = unfuse(i); !ok) return ok.error();
        if (fits(i)) continue;
      }
      if (const auto ok = cut(i); !ok) return ok.error();
    }
    return {};
  }

 private:
  [[nodiscard]] constexpr bool fits(std::size_t i) noexcept {
    const step& s = f_.at(i);
    if (s.op == operation::combine_crc32c || s.op == operation::reuse_result) return true;
    return s.source.bytes <= t_->max_bytes && s.destination.bytes <= t_->max_bytes &&
           s.source.count <= t_->max_segments && s.destination.count <= t_->max_segments;
  }
  [[nodiscard]] constexpr error refuse(std::size_t i, errc code, const char* why,
                                       std::uint64_t value) noexcept {
    return failure(code, why, value).of(name(f_.at(i).op)).at(f_.at(i).id);
  }
  [[nodiscard]] constexpr bool reserve(std::size_t segments) noexcept {
    if (f_.reserve(segments)) return true;
    f_.compact();
    return f_.reserve(segments);
  }

  constexpr result<> unfuse(std::size_t i) noexcept {
    Sequence& s = f_.sequence();
    if (s.size() == Sequence::step_capacity || !reserve(s[i].destination.count)) {
      return refuse(i, errc::exhausted, "the parts of the step are more than the capacity",
                    Sequence::step_capacity);
    }
    step second{};
    second.op = s[i].then;
    second.id = s[i].then_id;
    second.with = s[i].then_with;
    second.seed_from = step::no_seed;
    second.source = f_.subrange(s[i].destination, 0, s[i].destination.bytes);
    s[i].then = operation::none;
    static_cast<void>(s.insert(i + 1, second));
    return {};
  }

  // Whole grains at the start of step `i` that are within the limits.
  [[nodiscard]] constexpr std::uint64_t most_grains(std::size_t i, const grain& g) noexcept {
    std::uint64_t most = ~std::uint64_t{0};
    const auto limit = [&](std::span<const domain_segment> list, std::uint64_t unit) noexcept {
      if (unit == 0) return;
      std::uint64_t bytes = 0;
      for (std::size_t k = 0; k != list.size() && k != t_->max_segments; ++k) {
        bytes += list[k].bytes;
      }
      if (bytes > t_->max_bytes) bytes = t_->max_bytes;
      const std::uint64_t n = quotient(bytes, static_cast<std::uint32_t>(unit));
      if (n < most) most = n;
    };
    limit(f_.from(i), g.in);
    limit(f_.to(i), g.out);
    return most;
  }

  // Leaves the head in step `i` and inserts the remainder after it.
  constexpr result<> cut(std::size_t i) noexcept {
    Sequence& s = f_.sequence();
    grain g = grain_of(s[i]);
    if ((g.in | g.out) == 0 || (g.in | g.out) >> 31 != 0) {
      return refuse(i, errc::out_of_range, "the step exceeds the engine's limit and cannot be cut",
                    t_->max_bytes);
    }
    while (((g.in | g.out) & (t_->alignment - 1U)) != 0) {
      g.in *= 2;
      g.out *= 2;
    }
    const std::uint64_t n = most_grains(i, g);
    if (n == 0) {
      return refuse(i, errc::out_of_range,
                    "one block of the step exceeds the engine's limit of bytes or segments",
                    t_->max_bytes);
    }
    const std::uint64_t in = n * g.in;
    const std::uint64_t out = n * g.out;
    const std::size_t segments =
        2U * (std::size_t{s[i].source.count} + s[i].destination.count) + 4U;
    const bool sums = s[i].op == operation::crc32c || s[i].op == operation::crc16_t10dif;
    if (s.size() == Sequence::step_capacity || !reserve(segments) ||
        (sums && s.id_count() == Sequence::step_capacity)) {
      return refuse(i, errc::exhausted, "the parts of the step are more than the capacity",
                    Sequence::step_capacity);
    }
    const step whole = s[i];
    step head = whole;
    step tail = whole;
    if (whole.source.count != 0) {
      head.source = f_.subrange(whole.source, 0, in);
      tail.source = f_.subrange(whole.source, in, whole.source.bytes - in);
    }
    if (whole.destination.count != 0) {
      head.destination = f_.subrange(whole.destination, 0, out);
      tail.destination = f_.subrange(whole.destination, out, whole.destination.bytes - out);
    }
    if (whole.op == operation::fill) {
      tail.with.value = pattern_after(whole.with.value, out);
    } else if (sums) {
      head.id = s.new_id();
      tail.seed_from = head.id;
    } else {
      advance(whole.op, tail.with, in);
      if (whole.then != operation::none) {
        advance(whole.then, tail.then_with, between(whole, in));
      }
    }
    if (checking_operations.has(whole.op)) {
      // A check counts blocks from the start of the whole step.
      if (whole.then == operation::none && !whole.part) head.then_with = tail.then_with = {};
      if (!whole.part) head.then_with.value2 = 0;
      head.part = tail.part = true;
      tail.then_with.value2 =
          head.then_with.value2 +
          quotient(in, static_cast<std::uint32_t>(grain_of(whole.op, whole.with).in));
    }
    s[i] = head;
    static_cast<void>(s.insert(i + 1, tail));
    return {};
  }
  // Bytes between the two operations of a fused step for `in` source bytes.
  [[nodiscard]] static constexpr std::uint64_t between(const step& s, std::uint64_t in) noexcept {
    const grain first = grain_of(s.op, s.with);
    return quotient(in, static_cast<std::uint32_t>(first.in)) * first.out;
  }

  flow<Sequence> f_;
  const target* t_;
};

}  // namespace detail

// Cuts each step that exceeds the target's limits. The engine then takes every step; results and bytes
// are the same. Steps of memory that the engine does not reach are done by memory domains and stay.
// Errors name the step: out_of_range (the operation cannot be cut: compare, exclusive_or, dix_verify,
// compress, decompress; or one block alone exceeds a limit), exhausted (more parts than the capacity).
template <class Sequence>
constexpr result<> split_steps(Sequence& s, const target& where) noexcept {
  if (where.max_bytes == ~std::uint64_t{0} && where.max_segments == 0xffff) return {};
  return detail::splitter<Sequence>{s, where}.run();
}

}  // namespace phasebit::accel
