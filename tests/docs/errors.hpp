// SPDX-License-Identifier: BSL-1.0
// Declarations for the snippets of docs/errors.md.
#pragma once

#include <phasebit/core/result.hpp>

#include <cstdint>
#include <string_view>

struct header {
  std::uint32_t version;
};
struct config {
  header from;
};
struct device {
  phasebit::result<header> read_header() noexcept;
  std::string_view name() const noexcept;
};
