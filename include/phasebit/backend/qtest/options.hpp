// SPDX-License-Identifier: BSL-1.0
// Options of a machine, spelled as QEMU's arguments.
#pragma once

#include <phasebit/backend/qtest/board.hpp>
#include <phasebit/core/align.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace phasebit::backend::qtest {

// A disk image, for a device to name by drive=id.
struct drive {
  std::string id;
  std::string path;
  std::string format = "raw";
  bool read_only = false;
  std::uint64_t least_bytes = 4096;  // a smaller raw image is refused before QEMU is started
};

// {.drives = {{"d0", "disk.img"}}, .devices = {"nvme,serial=x,drive=d0"}}
struct options {
  qtest::board board = q35;
  std::string program{};                                 // instead of the board's, found in PATH
  std::uint64_t memory_bytes = std::uint64_t{64} << 20;  // a multiple of 1 MiB
  std::vector<drive> drives{};
  std::vector<std::string> devices{};        // each an argument of -device, in this order
  std::vector<std::string> arguments{};      // anything else, before the devices
  std::uint32_t answer_timeout_ms = 20'000;  // for one access; the first waits for QEMU's start
  std::uint32_t exit_timeout_ms = 5'000;     // from asking QEMU to end until it is killed
  std::uint16_t most_functions = 512;        // of the machine, the board's own included
};

// A QEMU that is running already, with `-qtest unix:<socket>,server=on,wait=off` and its RAM in a
// file with share=on.
struct connect_options {
  qtest::board board = q35;
  std::string socket;
  std::string memory_path;  // all of the file is the machine's RAM
  std::uint32_t answer_timeout_ms = 20'000;
  std::uint16_t most_functions = 512;
};

}  // namespace phasebit::backend::qtest
