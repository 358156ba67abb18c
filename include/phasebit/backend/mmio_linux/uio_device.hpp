// SPDX-License-Identifier: BSL-1.0
// /dev/uioN: registers that a uio driver offers, on PCIe or not, and their interrupt.
#pragma once

#include <phasebit/backend/mmio_linux/device_mapping.hpp>
#include <phasebit/backend/mmio_linux/system_paths.hpp>
#include <phasebit/backend/mmio_linux/uio_interrupt.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>

namespace phasebit::backend::mmio_linux {

// One of a uio device's regions: where it is, and where it begins in its first page.
struct uio_map {
  std::string name;
  std::uint64_t address = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// A value that owns the open file. Functions bound to uio_pci_generic have few maps or none: map their
// BARs with function instead, which takes the interrupt from uio too.
class uio_device {
 public:
  static constexpr unsigned max_maps = 5;  // MAX_UIO_MAPS

  // "uio0". Errors: not_found, permission, protocol (invalid contents of a map's /sys files;
  // index).
  [[nodiscard]] static result<uio_device> open(const std::string& name,
                                               const system_paths& paths = {}) {
    const std::string folder = paths.sys + "/class/uio/" + name;
    if (!name.starts_with("uio") || !posix::exists(folder)) {
      return failure(errc::not_found, "there is no such uio device").of(name);
    }
    const std::string path = paths.dev + "/" + name;
    auto file = posix::open_file(path.c_str(), O_RDWR);
    if (!file) return explain(file.error(), paths, path);
    uio_device made;
    made.paths_ = paths;
    made.path_ = path;
    made.about_ = posix::read_line(folder + "/name");
    for (unsigned i = 0; i != max_maps; ++i) {
      const std::string map = folder + "/maps/map" + std::to_string(i);
      if (!posix::exists(map)) break;
      const auto address = posix::read_number<std::uint64_t>(map + "/addr", 16);
      const auto bytes = posix::read_number<std::uint64_t>(map + "/size", 16);
      const auto offset = posix::read_number<std::uint64_t>(map + "/offset", 16);
      if (!address || !bytes || !offset || *bytes == 0 || *offset >= page_bytes() ||
          *address + *bytes < *address) {
        return failure(errc::protocol, "the map is no region of memory").at(i).of(folder);
      }
      made.maps_.push_back({posix::read_line(map + "/name"), *address, *offset, *bytes});
    }
    auto second = file->duplicate();
    if (!second) return second.error();
    made.file_ = std::move(*file);
    made.interrupt_ = uio_interrupt{std::move(*second)};
    return made;
  }

  // The name that its driver gives it.
  [[nodiscard]] const std::string& about() const noexcept { return about_; }
  [[nodiscard]] const std::vector<uio_map>& maps() const noexcept { return maps_; }
  // Errors: not_found, and those of device_mapping::map().
  [[nodiscard]] result<device_mapping> map(unsigned index) const {
    if (index >= maps_.size()) {
      return failure(errc::not_found, "the uio device has no such map").at(index).of(path_);
    }
    // Map N is what the file shows at N pages, whatever its length.
    const uio_map& which = maps_[index];
    auto mapped =
        device_mapping::map(file_.get(), index * page_bytes() + which.offset, which.bytes);
    if (!mapped) return explain(mapped.error(), paths_, path_).at(index);
    return mapped;
  }
  [[nodiscard]] uio_interrupt& interrupt() noexcept { return interrupt_; }

 private:
  uio_device() = default;

  system_paths paths_;
  std::string path_;
  std::string about_;
  std::vector<uio_map> maps_;
  posix::unique_fd file_;
  uio_interrupt interrupt_;
};

}  // namespace phasebit::backend::mmio_linux
