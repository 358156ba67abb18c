// SPDX-License-Identifier: BSL-1.0
// Limits of a function: operations and bytes per second, with bursts. The caller passes the time,
// in nanoseconds.
#pragma once

#include <phasebit/core/expects.hpp>

#include <cstdint>

namespace phasebit::sriov {

// `rate` tokens a second, at most `burst` saved up. A rate of 0 is no limit.
struct token_rate {
  std::uint64_t rate = 0;
  std::uint64_t burst = 0;
};

// Counts exactly: over any time t at most burst + rate * t tokens are taken, but for one request that
// is larger than the burst. Such a request is let through when the bucket is full and is paid for
// afterwards, so that no request waits for ever. Thread safety: none.
class token_bucket {
 public:
  static constexpr std::uint64_t most_tokens = 4'000'000'000;  // of a burst, and of a request
  static constexpr std::uint64_t most_rate = 1'000'000'000'000;

  constexpr token_bucket() noexcept = default;
  // Full at `now_ns`. A burst of 0 becomes 1.
  constexpr token_bucket(token_rate limit, std::uint64_t now_ns) noexcept
      : rate_(limit.rate),
        most_(static_cast<std::int64_t>((limit.burst == 0 ? 1 : limit.burst) * scale)),
        credit_(most_),
        filled_(now_ns) {
    PHASEBIT_EXPECTS(limit.burst <= most_tokens, "a burst of more than 4e9 tokens");
    PHASEBIT_EXPECTS(limit.rate <= most_rate, "a rate of more than 1e12 tokens a second");
  }

  // Whether a request of `tokens` may be served at `now_ns`. Time that goes back adds nothing.
  [[nodiscard]] constexpr bool conforms(std::uint64_t tokens, std::uint64_t now_ns) noexcept {
    if (rate_ == 0) return true;
    fill(now_ns);
    const std::int64_t needed = cost(tokens);
    return credit_ >= (needed < most_ ? needed : most_);
  }
  // Takes the tokens of a request that is served, whether it conformed or not.
  constexpr void take(std::uint64_t tokens) noexcept {
    if (rate_ == 0) return;
    constexpr std::int64_t floor = -static_cast<std::int64_t>(most_tokens * scale);
    credit_ -= cost(tokens);
    if (credit_ < floor) credit_ = floor;
  }
  [[nodiscard]] constexpr bool limited() const noexcept { return rate_ != 0; }

 private:
  // Credit is in 1e-9 tokens, of which `rate` come in each nanosecond.
  static constexpr std::uint64_t scale = 1'000'000'000;

  [[nodiscard]] static constexpr std::int64_t cost(std::uint64_t tokens) noexcept {
    return static_cast<std::int64_t>((tokens < most_tokens ? tokens : most_tokens) * scale);
  }
  constexpr void fill(std::uint64_t now_ns) noexcept {
    if (now_ns <= filled_) return;
    const std::uint64_t elapsed = now_ns - filled_;
    filled_ = now_ns;
    const auto missing = static_cast<std::uint64_t>(most_ - credit_);
    const std::uint64_t added = saturating_product(elapsed, rate_);
    credit_ = added >= missing ? most_ : credit_ + static_cast<std::int64_t>(added);
  }
  // Of 64 bits; all ones where the product has more.
  [[nodiscard]] static constexpr std::uint64_t saturating_product(std::uint64_t a,
                                                                  std::uint64_t b) noexcept {
    constexpr std::uint64_t most = ~std::uint64_t{0};
    const std::uint64_t a_high = a >> 32;
    const std::uint64_t b_high = b >> 32;
    if (a_high != 0 && b_high != 0) return most;
    const std::uint64_t cross = a_high * (b & 0xffff'ffff) + (a & 0xffff'ffff) * b_high;
    if (cross >> 32 != 0) return most;
    const std::uint64_t low = (a & 0xffff'ffff) * (b & 0xffff'ffff);
    const std::uint64_t product = (cross << 32) + low;
    return product < low ? most : product;
  }

  std::uint64_t rate_ = 0;
  std::int64_t most_ = 0;
  std::int64_t credit_ = 0;
  std::uint64_t filled_ = 0;
};

// The limits of one function.
struct function_limits {
  token_rate operations{};
  token_rate bytes{};
};

// Both limits of one function.
class function_limiter {
 public:
  constexpr function_limiter() noexcept = default;
  constexpr function_limiter(const function_limits& limits, std::uint64_t now_ns) noexcept
      : operations_(limits.operations, now_ns), bytes_(limits.bytes, now_ns) {}

  [[nodiscard]] constexpr bool conforms(std::uint64_t bytes, std::uint64_t now_ns) noexcept {
    // Both are asked, so that both have filled.
    const bool by_count = operations_.conforms(1, now_ns);
    return bytes_.conforms(bytes, now_ns) && by_count;
  }
  constexpr void take(std::uint64_t bytes) noexcept {
    operations_.take(1);
    bytes_.take(bytes);
  }

 private:
  token_bucket operations_{};
  token_bucket bytes_{};
};

}  // namespace phasebit::sriov
