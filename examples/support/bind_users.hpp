// SPDX-License-Identifier: BSL-1.0
// The users of a PCI function: its disks and their mounts, its network interfaces, and the
// processes that have it open.
#pragma once

#include "support/bind_sysfs.hpp"

#include <charconv>
#include <cstdint>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace example::binding {

// A disk, a namespace or a part of one.
struct block_device {
  std::string name{};
  std::uint64_t bytes = 0;
  bool part = false;
  std::vector<std::string> mounts{};   // where
  std::vector<std::string> holders{};  // dm-0, md127
  bool swap = false;
};

struct network_interface {
  std::string name;
  bool up = false;
};

struct open_file {
  std::string path;
  std::string pid;
  std::string program;
};

// Reads the users of all disks, interfaces and processes once; queried function by function.
class users {
 public:
  explicit users(const roots& where) : where_(where) {
    read_mounts();
    read_swaps();
    read_open_files();
    for (const auto& name : names_in(where_.sysfs + "/class/block")) {
      blocks_.emplace_back(name, resolved("/class/block/" + name));
    }
    for (const auto& name : names_in(where_.sysfs + "/class/net")) {
      nets_.emplace_back(name, resolved("/class/net/" + name));
    }
  }

  [[nodiscard]] std::vector<block_device> disks_of(const std::string& address) const {
    std::set<std::string> names;
    for (const auto& [name, path] : blocks_) {
      if (owner_of(path) == address) names.insert(head_of(name));
    }
    // Parts of a disk that several paths lead to belong to no function's folder.
    for (const auto& [name, path] : blocks_) {
      if (is_part(name) && names.contains(path.parent_path().filename().string())) {
        names.insert(name);
      }
    }
    std::vector<block_device> found;
    for (const auto& name : names) {
      if (exists(block_path(name))) found.push_back(describe(name));
    }
    return found;
  }

  [[nodiscard]] std::vector<network_interface> interfaces_of(const std::string& address) const {
    std::vector<network_interface> found;
    for (const auto& [name, path] : nets_) {
      if (owner_of(path) != address) continue;
      const auto flags =
          read_number<std::uint32_t>(where_.sysfs + "/class/net/" + name + "/flags", 16);
      found.push_back({name, (flags.value_or(0) & 1U) != 0});  // IFF_UP
    }
    return found;
  }

  // Of these device files, those that a process has open. Without root, one's own processes only.
  [[nodiscard]] std::vector<open_file> open_of(const std::set<std::string>& paths) const {
    std::vector<open_file> found;
    for (const auto& file : open_) {
      if (paths.contains(file.path)) found.push_back(file);
    }
    return found;
  }

 private:
  using fs_path = std::filesystem::path;

  [[nodiscard]] fs_path resolved(const std::string& below) const {
    std::error_code ignored;
    return std::filesystem::canonical(where_.sysfs + below, ignored);
  }
  [[nodiscard]] std::string block_path(const std::string& name) const {
    return where_.sysfs + "/class/block/" + name;
  }
  [[nodiscard]] bool is_part(const std::string& name) const {
    return exists(block_path(name) + "/partition");
  }

  // The PCI function nearest to a device on its way from the root.
  [[nodiscard]] std::string owner_of(const fs_path& device) const {
    std::string owner;
    for (const auto& part : device) {
      const std::string name = part.string();
      if (name.size() >= 12 && name[name.size() - 2] == '.' && exists(where_.device(name))) {
        owner = name;
      }
    }
    return owner;
  }

  // With multipath, nvme0c1n2 is controller 1's way to the namespace that is used as nvme0n2.
  [[nodiscard]] static std::string head_of(const std::string& name) {
    if (!name.starts_with("nvme")) return name;
    const auto c = name.find('c', 4);
    const auto n = name.find('n', 4);
    if (c == std::string::npos || n == std::string::npos || n < c) return name;
    return name.substr(0, c) + name.substr(n);
  }

  [[nodiscard]] block_device describe(const std::string& name) const {
    block_device d{.name = name};
    const std::string at = block_path(name);
    d.bytes = read_number<std::uint64_t>(at + "/size", 10).value_or(0) * 512;
    d.part = is_part(name);
    d.holders = names_in(at + "/holders");
    d.swap = swaps_.contains(name);
    const auto add = [&](const std::string& key) {
      const auto [first, last] = mounts_.equal_range(key);
      for (auto i = first; i != last; ++i) {
        if (std::find(d.mounts.begin(), d.mounts.end(), i->second) == d.mounts.end()) {
          d.mounts.push_back(i->second);
        }
      }
    };
    add(read_line(at + "/dev"));
    add("/dev/" + name);  // btrfs and the like have numbers of their own
    return d;
  }

  // Fields of proc_pid_mountinfo(5): the third is major:minor, the fifth where; behind a lone - come
  // type and source. Blanks are written in octal.
  void read_mounts() {
    std::istringstream text{whole_file(where_.proc + "/self/mountinfo")};
    for (std::string line; std::getline(text, line);) {
      std::istringstream words{line};
      std::string id, parent, numbers, root, target, word, type, source;
      words >> id >> parent >> numbers >> root >> target;
      while (words >> word && word != "-") {
      }
      words >> type >> source;
      target = unescaped(target);
      mounts_.emplace(numbers, target);
      if (source.starts_with("/dev/")) mounts_.emplace(source, target);
    }
  }
  [[nodiscard]] static std::string unescaped(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      unsigned code = 0;
      if (text[i] == '\\' && i + 3 < text.size() &&
          std::from_chars(&text[i + 1], &text[i + 1] + 3, code, 8).ec == std::errc{}) {
        out += static_cast<char>(code);
        i += 3;
      } else {
        out += text[i];
      }
    }
    return out;
  }

  void read_swaps() {
    std::istringstream text{whole_file(where_.proc + "/swaps")};
    for (std::string line; std::getline(text, line);) {
      const std::string file = line.substr(0, line.find_first_of(" \t"));
      if (file.starts_with("/dev/")) swaps_.insert(file.substr(5));
    }
  }

  void read_open_files() {
    std::set<std::pair<std::string, std::string>> seen;
    for (const auto& pid : names_in(where_.proc)) {
      if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
      const std::string folder = where_.proc + "/" + pid + "/fd";
      for (const auto& fd : names_in(folder)) {
        std::error_code gone;
        const std::string target = std::filesystem::read_symlink(folder + "/" + fd, gone).string();
        if (!target.starts_with("/dev/")) continue;
        if (seen.emplace(target, pid).second) {
          open_.push_back({target, pid, read_line(where_.proc + "/" + pid + "/comm")});
        }
      }
    }
  }

  roots where_;
  std::multimap<std::string, std::string> mounts_;  // by major:minor and by device file
  std::set<std::string> swaps_;
  std::vector<open_file> open_;
  std::vector<std::pair<std::string, fs_path>> blocks_;
  std::vector<std::pair<std::string, fs_path>> nets_;
};

}  // namespace example::binding
