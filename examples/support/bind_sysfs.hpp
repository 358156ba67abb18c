// SPDX-License-Identifier: BSL-1.0
// Files of /sys and /proc as `bind` reads and writes them; both may be folders made up by a test.
#pragma once

#include <phasebit/posix/sysfs.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace example::binding {

// Ends the program with this sentence and status 1, by way of run_main().
class complaint : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct roots {
  std::string sysfs = "/sys";
  std::string proc = "/proc";

  [[nodiscard]] std::string pci() const { return sysfs + "/bus/pci"; }
  [[nodiscard]] std::string device(const std::string& address) const {
    return pci() + "/devices/" + address;
  }
  [[nodiscard]] std::string driver(const std::string& name) const {
    return pci() + "/drivers/" + name;
  }
};

using phasebit::posix::exists;
using phasebit::posix::link_name;

// Of any length, as lists in /proc are.
[[nodiscard]] inline std::string whole_file(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  return std::string{std::istreambuf_iterator<char>{file}, {}};
}
using phasebit::posix::read_line;
using phasebit::posix::read_number;

// The names in a folder, sorted; none where it is not there.
[[nodiscard]] inline std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  phasebit::posix::for_each_entry(path, [&](std::string_view name) { names.emplace_back(name); });
  std::sort(names.begin(), names.end());
  return names;
}

// One write(2), as the kernel requires; returns the reason where it is refused.
[[nodiscard]] inline std::optional<std::string> write_line(const std::string& path,
                                                           const std::string& text) {
  const phasebit::posix::unique_fd file{::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC)};
  const std::string line = text + '\n';
  if (file && ::write(file.get(), line.data(), line.size()) >= 0) return std::nullopt;
  return std::generic_category().message(errno);
}

// Looks again until `is_so()`, for three seconds: the kernel may still be at work.
template <class Condition>
[[nodiscard]] bool comes_true(Condition&& is_so) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{3};
  while (!is_so()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
  return true;
}

}  // namespace example::binding
