// SPDX-License-Identifier: BSL-1.0
// /sys, /dev and /proc of a machine that is not there, in a folder of its own.
#pragma once

#include <phasebit/backend/mmio_linux/system_paths.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include <stdlib.h>

namespace phasebit_test {

class fake_sysfs {
 public:
  fake_sysfs() {
    char folder[] = "/tmp/phasebit-machine-XXXXXX";
    if (::mkdtemp(folder) == nullptr) throw std::runtime_error{"no folder for a test"};
    root_ = folder;
    for (const char* name : {"/sys", "/dev", "/proc/self"}) {
      std::filesystem::create_directories(root_ + name);
    }
  }
  fake_sysfs(const fake_sysfs&) = delete;
  fake_sysfs& operator=(const fake_sysfs&) = delete;
  ~fake_sysfs() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  [[nodiscard]] phasebit::backend::mmio_linux::system_paths paths() const {
    return {root_ + "/sys", root_ + "/dev", root_ + "/proc"};
  }
  // A file, with the folders that lead to it. `name` begins with a slash.
  void write(const std::string& name, std::string_view text) const {
    const std::string path = root_ + name;
    std::filesystem::create_directories(std::filesystem::path{path}.parent_path());
    std::ofstream{path, std::ios::binary | std::ios::trunc}.write(
        text.data(), static_cast<std::streamsize>(text.size()));
  }
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ifstream file{root_ + name, std::ios::binary};
    return std::string{std::istreambuf_iterator<char>{file}, {}};
  }
  void remove(const std::string& name) const { std::filesystem::remove_all(root_ + name); }
  void link(const std::string& name, const std::string& target) const {
    const std::string path = root_ + name;
    std::filesystem::create_directories(std::filesystem::path{path}.parent_path());
    std::filesystem::remove(path);
    std::filesystem::create_symlink(target, path);
  }

  // A function without a driver: BAR 0 of 8 KiB, BAR 1 of I/O ports, 64-bit prefetchable BAR 2 of
  // 1 KiB in the middle of a page, nothing else. Memory space and bus mastering are off.
  void add_function(const std::string& bdf) const {
    const std::string at = "/sys/bus/pci/devices/" + bdf;
    write(at + "/resource",
          "0x00000000febd0000 0x00000000febd1fff 0x0000000000040200\n"
          "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n"
          "0x000000fe00000400 0x000000fe000007ff 0x000000000014220c\n"
          "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
          "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
          "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
          "0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
    std::string config(4096, '\0');
    config[0] = 0x36;
    config[1] = 0x1b;
    write(at + "/config", config);
    write(at + "/resource0", std::string(8192, '\0'));
    write(at + "/resource2", std::string(4096, '\0'));
    write(at + "/enable", "0\n");
  }
  [[nodiscard]] unsigned command(const std::string& bdf) const {
    const std::string config = read("/sys/bus/pci/devices/" + bdf + "/config");
    return static_cast<unsigned char>(config[4]) + 256U * static_cast<unsigned char>(config[5]);
  }
  void bind(const std::string& bdf, const std::string& driver) const {
    link("/sys/bus/pci/devices/" + bdf + "/driver", "../../../../bus/pci/drivers/" + driver);
  }

 private:
  std::string root_;
};

}  // namespace phasebit_test
