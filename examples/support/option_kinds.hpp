// SPDX-License-Identifier: BSL-1.0
// Kinds of command line options that the examples share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace example {

// A number of bytes that may be written as 4k or 1M, from `least` to `most`.
inline CLI::Option* add_size_option(CLI::App& app, const std::string& name, std::uint64_t& value,
                                    const std::string& text, std::uint64_t least,
                                    std::uint64_t most) {
  return app.add_option(name, value, text)
      ->transform(CLI::AsSizeValue(false).description(""))
      ->check(CLI::Range(least, most).description(""))
      ->type_name("SIZE");
}

inline CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& value,
                               const std::string& text, const std::vector<std::string>& names) {
  return app.add_option(name, value, text)
      ->check(CLI::IsMember(names).description(""))
      ->type_name(CLI::detail::join(names, "|"))
      ->capture_default_str();
}

}  // namespace example
