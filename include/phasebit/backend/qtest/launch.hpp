// SPDX-License-Identifier: BSL-1.0
// Starts a QEMU whose processor idles and whose bus is ours. Errors that can be
// detected beforehand are reported before QEMU is started; messages of QEMU are quoted.
#pragma once

#include <phasebit/backend/qtest/options.hpp>
#include <phasebit/backend/qtest/process.hpp>
#include <phasebit/backend/qtest/ram.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/stream.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/stat.h>

namespace phasebit::backend::qtest {

// The resources of a QEMU that was started here.
struct launched {
  posix::unique_fd log;
  posix::unique_fd socket;
  posix::unique_fd memory;  // the file that is the machine's RAM
  posix::memory_mapping ram;
  process qemu;
  guardian end_with_us;
};

// Whether QEMU will be able to open it, and find a disk in it.
[[nodiscard]] inline result<> check_image(const drive& d) noexcept {
  struct ::stat about {};
  if (::stat(d.path.c_str(), &about) != 0) {
    return errno == ENOENT ? failure(errc::not_found, "the disk image does not exist").of(d.path)
                           : posix::os_error("the disk image cannot be looked at").of(d.path);
  }
  if (S_ISDIR(about.st_mode)) {
    return failure(errc::invalid_argument, "the disk image is a directory").of(d.path);
  }
  if (::access(d.path.c_str(), d.read_only ? R_OK : R_OK | W_OK) != 0) {
    return posix::os_error(d.read_only ? "the disk image cannot be read"
                                       : "the disk image cannot be read and written")
        .of(d.path);
  }
  const auto size = static_cast<std::uint64_t>(about.st_size);
  if (S_ISREG(about.st_mode) && d.format == "raw" && size < d.least_bytes) {
    return failure(errc::out_of_range,
                   "the disk image is too small for a disk of this device; its bytes:", size)
        .of(d.path);
  }
  return {};
}

namespace detail {

// The numbers that the child's descriptors have.
inline constexpr int socket_number = 3;
inline constexpr int ram_number = 4;
inline constexpr int rom_number = 5;

[[nodiscard]] inline std::string path_of(int number) noexcept {
  return "/proc/self/fd/" + std::to_string(number);
}

// A comma in a value of an option list is written twice.
[[nodiscard]] inline std::string escaped(const std::string& value) noexcept {
  std::string out;
  for (const char c : value) out.append(c == ',' ? 2 : 1, c);
  return out;
}

[[nodiscard]] inline std::vector<std::string> command_line(const options& o) noexcept {
  const std::string megabytes = std::to_string(o.memory_bytes >> 20) + "M";
  std::vector<std::string> line{
      "-machine",
      std::string{o.board.machine} + ",memory-backend=ram",
      "-accel",
      "tcg",
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
      "-m",
      megabytes,
      "-object",
      "memory-backend-file,id=ram,share=on,size=" + megabytes + ",mem-path=" + path_of(ram_number),
      "-bios",
      path_of(rom_number),
      "-chardev",
      "socket,id=qtest,fd=" + std::to_string(socket_number),
      "-qtest",
      "chardev:qtest",
      "-qtest-log",
      "/dev/null"};
  if (o.board.cpu != nullptr) line.insert(line.end(), {"-cpu", o.board.cpu});
  for (const drive& d : o.drives) {
    line.insert(line.end(), {"-drive", "if=none,id=" + d.id + ",format=" + d.format +
                                           ",readonly=" + (d.read_only ? "on" : "off") +
                                           ",file=" + escaped(d.path)});
  }
  line.insert(line.end(), o.arguments.begin(), o.arguments.end());
  for (const std::string& d : o.devices) line.insert(line.end(), {"-device", d});
  return line;
}

[[nodiscard]] inline result<posix::unique_fd> idle_rom(const board& where) noexcept {
  auto fd = memory_file("phasebit-rom", where.rom_bytes);
  if (!fd) return fd;
  std::vector<std::uint32_t> rom(where.rom_bytes / sizeof(std::uint32_t), where.idle_instruction);
  const auto written = posix::write_full(fd->get(), std::as_bytes(std::span{rom}));
  if (!written) return written.error();
  return fd;
}

}  // namespace detail

// Errors: not_found (QEMU, an image), out_of_range (an image too small), permission, invalid_argument
// (the size of memory), exhausted, io. Arguments that QEMU refuses are reported by
// the first access.
[[nodiscard]] inline result<launched> launch(const options& o) noexcept {
  const std::string wanted = o.program.empty() ? o.board.program : o.program;
  const auto program = find_program(wanted);
  if (!program) {
    return failure(
               errc::not_found,
               "QEMU is not installed (apt-get install qemu-system-x86, qemu-system-arm for Arm "
               "boards, qemu-system-misc or -riscv for RISC-V)")
        .of(wanted);
  }
  constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;
  if (o.memory_bytes < 2 * mebibyte || o.memory_bytes % mebibyte != 0) {
    return failure(errc::invalid_argument, "memory_bytes is a multiple of 1 MiB, and at least 2",
                   o.memory_bytes);
  }
  for (const drive& d : o.drives) {
    const auto checked = check_image(d);
    if (!checked) return checked.error();
  }

  launched l;
  auto log = memory_file("phasebit-qemu-log", 0);
  if (!log) return log.error();
  l.log = std::move(*log);
  auto memory = memory_file("phasebit-qemu-ram", o.memory_bytes);
  if (!memory) return memory.error();
  auto mapping =
      posix::memory_mapping::shared_aligned(memory->get(), o.memory_bytes, ram::most_alignment);
  if (!mapping) return mapping.error();
  l.ram = std::move(*mapping);
  auto rom = detail::idle_rom(o.board);
  if (!rom) return rom.error();

  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return posix::os_error("a pair of sockets cannot be made");
  }
  l.socket.reset(ends[0]);
  const posix::unique_fd theirs{ends[1]};

  const std::array shared{inherited_fd{theirs.get(), detail::socket_number},
                          inherited_fd{memory->get(), detail::ram_number},
                          inherited_fd{rom->get(), detail::rom_number}};
  auto qemu = process::start(*program, detail::command_line(o), l.log.get(), shared);
  if (!qemu) return qemu.error();
  l.qemu = std::move(*qemu);
  l.memory = std::move(*memory);
  auto watched = guardian::watch(l.qemu.pid(), l.log.get());
  if (!watched) return watched.error();
  l.end_with_us = std::move(*watched);
  return l;
}

}  // namespace phasebit::backend::qtest
