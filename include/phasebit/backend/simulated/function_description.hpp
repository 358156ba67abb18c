// SPDX-License-Identifier: BSL-1.0
// The description of a simulated function: configuration space, BARs and plain words.
#pragma once

#include <phasebit/pcie/device/description.hpp>

#include <array>
#include <cstdint>

namespace phasebit::backend::simulated {

// A part of a BAR that is plain memory: doorbells and other words that the device polls, or the
// memory of an engine. Both are multiples of 64.
struct plain_words {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

struct function_description {
  // On the root bus: below 32 and below 8. Behind a port: device 0, where PCIe has no other. With ARI
  // (pci.ari_next_function): device 0, function below 256.
  std::uint8_t device = 0;
  std::uint8_t function = 0;

  // The contents of configuration space. The fabric implements MSI-X at the described place; spans
  // are read only while the function is added.
  pcie::function_description pci{};
  // By BAR. Offsets that are neither MSI-X nor plain words are registers of the device's model in
  // the register BAR, and read as zero in all others.
  std::array<plain_words, pcie::type0_bars> words{};
  std::uint8_t register_bar = 0;

  // Memory space and bus mastering on and BARs placed, as firmware and an operating system leave a
  // function to its driver. Without, the driver enumerates and enables.
  bool enabled = true;
};

}  // namespace phasebit::backend::simulated
