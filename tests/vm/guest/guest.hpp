// SPDX-License-Identifier: BSL-1.0
// Shared by the programs inside the test guests: their command line, and their final message.
#pragma once

#include <phasebit/backend/vfio.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/disk.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace phasebit_guest {

namespace vfio = phasebit::backend::vfio;
namespace nvme = phasebit::nvme;
using nvme_controller = nvme::driver::controller<vfio::function>;

inline std::string bdf;                // the first argument
inline std::vector<std::string> rest;  // those after it

[[noreturn]] inline void fail(const phasebit::error& e) {
  std::array<char, 512> text{};
  const auto said = e.message(text);
  std::printf("%.*s\n", static_cast<int>(said.size()), said.data());
  std::exit(1);
}

template <class T>
T must(phasebit::result<T> r) {
  if (!r) fail(r.error());
  return std::move(*r);
}
inline void must(phasebit::result<> r) {
  if (!r) fail(r.error());
}

// Commands of guest/sriov.cpp.
void make_virtual_functions();
void use_virtual_function();

// Of guest/mmio.cpp.
void mmio_unprivileged();

}  // namespace phasebit_guest
