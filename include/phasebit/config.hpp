// SPDX-License-Identifier: BSL-1.0
// The only header that defines macros. All of them begin with PHASEBIT_.
#pragma once

// One message for a compiler that is too old, in place of many. Clang stops at a fatal warning; g++ goes on
// after an error.
#if defined(__clang__) && __clang_major__ < 16 && !defined(__apple_build_version__)
#  pragma clang diagnostic fatal "-W#warnings"
#  warning "phasebit needs a C++20 compiler: g++ 12, clang 16, or later"
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 12
#  error "phasebit needs a C++20 compiler: g++ 12, clang 16, or later"
#elif __cplusplus < 202002L
#  error "phasebit needs C++20: add -std=c++20"
#endif

#define PHASEBIT_VERSION_MAJOR 0
#define PHASEBIT_VERSION_MINOR 1
#define PHASEBIT_VERSION_PATCH 0

// 1 where an operating system and a C library are there to report a caller's mistake to.
#define PHASEBIT_HOSTED __STDC_HOSTED__

// For the few functions whose cost is the library's promise: one call left out of line there is
// as expensive as the work itself.
#define PHASEBIT_ALWAYS_INLINE [[gnu::always_inline]] inline

// A precondition of the caller. Never used for what a device, a guest or a peer wrote.
// `message` is a sentence for the programmer; a violation ends the program (see expects.hpp).
#define PHASEBIT_EXPECTS(condition, message) \
  ((condition) ? static_cast<void>(0)        \
               : ::phasebit::detail::expects_failed(message, __FILE__, __LINE__))
