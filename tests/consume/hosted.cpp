// SPDX-License-Identifier: BSL-1.0
// The component that brings libraries: they are there without being named again.
#include <boost/version.hpp>
#include <fmt/format.h>

int main() { return fmt::format("{}", BOOST_VERSION).empty() ? 1 : 0; }
