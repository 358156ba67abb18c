// SPDX-License-Identifier: BSL-1.0
// The only header that defines macros. All of them begin with PHASEBIT_.
#pragma once

#define PHASEBIT_VERSION_MAJOR 0
#define PHASEBIT_VERSION_MINOR 1
#define PHASEBIT_VERSION_PATCH 0

// 1 where an operating system and a C library are there to report a caller's mistake to.
#define PHASEBIT_HOSTED __STDC_HOSTED__

// For the few functions whose cost is the library's promise: one call left out of line there is
// as expensive as the work itself.
#define PHASEBIT_ALWAYS_INLINE [[gnu::always_inline]] inline

// What the caller has promised. Never used for what a device, a guest or a peer wrote.
// `message` is a sentence for the programmer; a broken promise ends the program (see expects.hpp).
#define PHASEBIT_EXPECTS(condition, message)           \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::phasebit::detail::expects_failed(message, __FILE__, __LINE__))
