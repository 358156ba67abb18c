// SPDX-License-Identifier: BSL-1.0
// Random tests run fewer cases under a sanitizer, which looks for other mistakes than the cases do.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define PHASEBIT_TEST_SANITIZED 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#    define PHASEBIT_TEST_SANITIZED 1
#  endif
#endif

namespace test_support {

#ifdef PHASEBIT_TEST_SANITIZED
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

// How many of `cases` to run: an eighth under a sanitizer.
template <class Count>
[[nodiscard]] constexpr Count scaled(Count cases) noexcept {
  return sanitized ? static_cast<Count>((cases + 7) / 8) : cases;
}

}  // namespace test_support
