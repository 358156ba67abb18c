// SPDX-License-Identifier: BSL-1.0
// How every example ends: status 0, or a sentence on stderr and status 1 (2 for a wrong option).
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/hosted/format.hpp>

#include <exception>
#include <new>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace example {

// Parses the command line and runs `body`, which gives a result<>.
template <class Body>
int run_main(CLI::App& app, int argc, char** argv, Body&& body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    fmt::print(stderr, "{}: {} (see --help)\n", app.get_name(), e.what());
    return 2;
  }
  try {
    const phasebit::result<> ended = body();
    if (ended) return 0;
    fmt::print(stderr, "{}: {}\n", app.get_name(), ended.error());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "{}: the machine has not enough memory for this\n", app.get_name());
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), e.what());
  }
  return 1;
}

}  // namespace example
