// SPDX-License-Identifier: BSL-1.0
// PCI class codes in words. PCI Code and ID Assignment Specification 1.15, chapter 1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace example::binding {

namespace detail {

struct class_name {
  std::uint32_t code;
  std::string_view text;
};

// By class, sub-class and programming interface.
inline constexpr std::array by_interface{
    class_name{0x010601, "SATA controller (AHCI)"},
    class_name{0x010801, "Non-volatile memory controller (NVMHCI)"},
    class_name{0x010802, "NVMe controller"},
    class_name{0x010803, "NVMe administrative controller"},
    class_name{0x0c0330, "USB controller (xHCI)"},
};

// By class and sub-class.
inline constexpr std::array by_subclass{
    class_name{0x0100, "SCSI storage controller"},
    class_name{0x0101, "IDE interface"},
    class_name{0x0104, "RAID bus controller"},
    class_name{0x0106, "SATA controller"},
    class_name{0x0107, "Serial Attached SCSI controller"},
    class_name{0x0108, "Non-volatile memory controller"},
    class_name{0x0180, "Mass storage controller"},
    class_name{0x0200, "Ethernet controller"},
    class_name{0x0207, "InfiniBand controller"},
    class_name{0x0280, "Network controller"},
    class_name{0x0300, "VGA compatible controller"},
    class_name{0x0302, "3D controller"},
    class_name{0x0380, "Display controller"},
    class_name{0x0403, "Audio device"},
    class_name{0x0500, "RAM memory"},
    class_name{0x0502, "CXL memory"},
    class_name{0x0580, "Memory controller"},
    class_name{0x0600, "Host bridge"},
    class_name{0x0601, "ISA bridge"},
    class_name{0x0604, "PCI bridge"},
    class_name{0x0680, "Bridge"},
    class_name{0x0700, "Serial controller"},
    class_name{0x0780, "Communication controller"},
    class_name{0x0806, "IOMMU"},
    class_name{0x0880, "System peripheral"},
    class_name{0x0c03, "USB controller"},
    class_name{0x0c05, "SMBus controller"},
    class_name{0x0d00, "IRDA controller"},
    class_name{0x1200, "Processing accelerator"},
};

inline constexpr std::array<std::string_view, 0x14> by_class{
    "Unclassified device",
    "Mass storage controller",
    "Network controller",
    "Display controller",
    "Multimedia controller",
    "Memory controller",
    "Bridge",
    "Communication controller",
    "System peripheral",
    "Input device controller",
    "Docking station",
    "Processor",
    "Serial bus controller",
    "Wireless controller",
    "Intelligent controller",
    "Satellite communications controller",
    "Encryption controller",
    "Signal processing controller",
    "Processing accelerator",
    "Non-essential instrumentation",
};

}  // namespace detail

// The virtio device type is in the device ID, transitional (1000h and up) or not (1040h and up).
// Virtio 1.2, 4.1.2 and 5.
[[nodiscard]] constexpr bool is_virtio(std::uint16_t vendor, std::uint16_t device) noexcept {
  return vendor == 0x1af4 && device >= 0x1000 && device <= 0x107f;
}
[[nodiscard]] constexpr std::string_view virtio_name(std::uint16_t device) noexcept {
  switch (device) {
    case 0x1000:
    case 0x1041:
      return "virtio network device";
    case 0x1001:
    case 0x1042:
      return "virtio block device";
    case 0x1002:
    case 0x1045:
      return "virtio memory balloon";
    case 0x1003:
    case 0x1043:
      return "virtio console";
    case 0x1004:
    case 0x1048:
      return "virtio SCSI host";
    case 0x1005:
    case 0x1044:
      return "virtio entropy source";
    case 0x1009:
    case 0x1049:
      return "virtio 9P transport";
    case 0x1050:
      return "virtio GPU";
    case 0x1053:
      return "virtio socket";
    case 0x105a:
      return "virtio file system";
    default:
      return "virtio device";
  }
}

// Class 0108h: NVMe, whatever its programming interface.
[[nodiscard]] constexpr bool is_nvme(std::uint32_t class_code) noexcept {
  return class_code >> 8 == 0x0108;
}

[[nodiscard]] inline std::string class_in_words(std::uint32_t code) {
  for (const auto& [known, text] : detail::by_interface) {
    if (code == known) return std::string{text};
  }
  for (const auto& [known, text] : detail::by_subclass) {
    if (code >> 8 == known) return std::string{text};
  }
  const std::size_t base = code >> 16;
  if (base < detail::by_class.size()) return std::string{detail::by_class[base]};
  return fmt::format("Class {:06x}", code);
}

}  // namespace example::binding
