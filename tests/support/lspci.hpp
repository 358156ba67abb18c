// SPDX-License-Identifier: BSL-1.0
// A configuration space as lspci reads it from a dump.
#pragma once

#include <phasebit/pcie/device/config_space.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <support/skip.hpp>
#include <unistd.h>

namespace phasebit_test {

// The full output of `lspci -F` for this function.
inline std::string lspci(const phasebit::pcie::config_image<4096>& config, const char* bdf) {
  if (std::system("command -v lspci >/dev/null 2>&1") != 0) {
    skip("lspci (pciutils) is not installed");
  }
  std::string path = "/tmp/phasebit-lspci-XXXXXX";
  const int fd = ::mkstemp(path.data());
  REQUIRE(fd >= 0);
  ::close(fd);
  std::ofstream dump{path};
  dump << bdf << " dump\n";
  std::array<char, 8> text{};
  for (std::uint32_t at = 0; at != 4096; ++at) {
    if (at % 16 == 0) {
      std::snprintf(text.data(), text.size(), at == 0 ? "00:" : "\n%02x:", at);
      dump << text.data();
    }
    std::snprintf(text.data(), text.size(), " %02x", config.read(at, 1));
    dump << text.data();
  }
  dump << "\n";
  dump.close();
  std::string said;
  std::FILE* const pipe = ::popen(("lspci -F " + path + " -nn -vvv 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 512> line{};
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) said += line.data();
  CHECK(::pclose(pipe) == 0);
  ::unlink(path.c_str());
  return said;
}

}  // namespace phasebit_test
