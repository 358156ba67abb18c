// SPDX-License-Identifier: BSL-1.0
// A machine of QEMU's device models, enumerated and ready to be driven:
//
//   auto vm = qtest::machine::start({.drives = {{"d0", "disk.img"}},
//                                    .devices = {"nvme,serial=x,drive=d0"}});
//   auto nvme = vm->open_class(0x010802);
#pragma once

#include <phasebit/backend/qtest/function.hpp>
#include <phasebit/backend/qtest/launch.hpp>
#include <phasebit/backend/qtest/options.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>
#include <phasebit/posix/stream.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <sys/stat.h>

namespace phasebit::backend::qtest {

// Owns the connection, the shared memory and, where start() made it, QEMU itself, which ends with
// it. Functions that were opened end before it. Move-only. Const members by any thread.
class machine {
 public:
  machine(machine&&) noexcept = default;
  machine& operator=(machine&&) noexcept = default;
  ~machine() = default;

  // Starts a QEMU and enumerates its devices: they have addresses, memory and bus mastering are on.
  // Errors name what is missing: not_found (QEMU, an image), out_of_range (an image too small), io
  // (QEMU ended; the subject is the end of its output), timed_out, exhausted.
  [[nodiscard]] static result<machine> start(const options& o) noexcept {
    auto l = launch(o);
    if (!l) return l.error();
    machine m{std::make_unique<state>(o.board, std::move(*l), o.answer_timeout_ms)};
    m.state_->exit_timeout_ms = o.exit_timeout_ms;
    const auto ready = m.bring_up(o.most_functions);
    if (!ready) return ready.error();
    return m;
  }

  // Connects to a QEMU that the caller started and will end. Its devices are not reset, but enumerated
  // again. Errors: not_found, permission, io, timed_out, exhausted.
  [[nodiscard]] static result<machine> connect(const connect_options& o) noexcept {
    launched l;
    auto file = posix::open_file(o.memory_path.c_str(), O_RDWR);
    if (!file) return file.error();
    struct ::stat about {};
    if (::fstat(file->get(), &about) != 0) {
      return posix::os_error("the memory file cannot be looked at").of(o.memory_path);
    }
    if (about.st_size < ::off_t{2} << 20) {
      return failure(errc::out_of_range, "the memory file is smaller than 2 MiB",
                     static_cast<std::uint64_t>(about.st_size))
          .of(o.memory_path);
    }
    auto mapping = posix::memory_mapping::shared_aligned(
        file->get(), static_cast<std::size_t>(about.st_size), ram::most_alignment);
    if (!mapping) return mapping.error();
    l.ram = std::move(*mapping);
    auto socket = posix::connect_unix(o.socket);
    if (!socket) return socket.error();
    l.socket = std::move(*socket);
    l.memory = std::move(*file);
    machine m{std::make_unique<state>(o.board, std::move(l), o.answer_timeout_ms)};
    const auto ready = m.bring_up(o.most_functions);
    if (!ready) return ready.error();
    return m;
  }

  // Joins a machine that another process has enumerated, by descriptors that it has passed on: its socket to QEMU,
  // which nothing else uses at the same time, and its RAM. Nothing is written to any device. Memory that is in use
  // is taken with ram::adopt(). The other process still owns QEMU. Errors: out_of_range, exhausted, io.
  [[nodiscard]] static result<machine> join(posix::unique_fd socket, posix::unique_fd memory,
                                            std::span<const pcie::enumerated_function> functions,
                                            const qtest::board& board = q35,
                                            std::uint32_t answer_timeout_ms = 20'000) noexcept {
    struct ::stat about {};
    if (::fstat(memory.get(), &about) != 0) {
      return posix::os_error("the memory file cannot be looked at");
    }
    if (about.st_size < ::off_t{2} << 20) {
      return failure(errc::out_of_range, "the memory file is smaller than 2 MiB",
                     static_cast<std::uint64_t>(about.st_size));
    }
    launched l;
    auto mapping = posix::memory_mapping::shared_aligned(
        memory.get(), static_cast<std::size_t>(about.st_size), ram::most_alignment);
    if (!mapping) return mapping.error();
    l.ram = std::move(*mapping);
    l.memory = std::move(memory);
    l.socket = std::move(socket);
    machine m{std::make_unique<state>(board, std::move(l), answer_timeout_ms)};
    m.state_->functions.assign(functions.begin(), functions.end());
    return m;
  }
  // The descriptor that join() takes in another process. Posted writes have been answered; no register is accessed here any more.
  [[nodiscard]] int socket_fd() const noexcept {
    (void)state_->link.flush();
    return state_->link.fd();
  }
  [[nodiscard]] int memory_fd() const noexcept { return state_->memory_file.get(); }

  // Every function found, the board's own included; a bridge before what is behind it.
  [[nodiscard]] std::span<const pcie::enumerated_function> functions() const noexcept {
    return state_->functions;
  }

  // Errors: not_found, or the fault that enumeration met there.
  [[nodiscard]] result<function> open(pcie::requester_id id) const noexcept {
    for (const pcie::enumerated_function& f : functions()) {
      if (f.id == id) return open(f);
    }
    std::array<char, 8> text{};
    return failure(errc::not_found, "the machine has no such function").of(id.print(text));
  }
  // The `nth` function of a class: 0x010802 is NVMe; an interface of FFh stands for any.
  [[nodiscard]] result<function> open_class(std::uint32_t class_code,
                                            unsigned nth = 0) const noexcept {
    const std::uint32_t mask = (class_code & 0xff) == 0xff ? 0xffff00 : 0xffffff;
    for (const pcie::enumerated_function& f : functions()) {
      if ((f.class_code & mask) == (class_code & mask) && nth-- == 0) return open(f);
    }
    return failure(errc::not_found, "the machine has no such function of this class", class_code);
  }
  [[nodiscard]] result<function> open_device(std::uint16_t vendor, std::uint16_t device,
                                             unsigned nth = 0) const noexcept {
    for (const pcie::enumerated_function& f : functions()) {
      if (f.vendor_id == vendor && f.device_id == device && nth-- == 0) return open(f);
    }
    return failure(errc::not_found, "the machine has no such device (vendor and device id)",
                   std::uint64_t{vendor} << 16 | device);
  }

  // Registers that are no BAR, such as those of an IOMMU model.
  [[nodiscard]] bar registers(std::uint64_t base, std::uint64_t size) const noexcept {
    return bar{state_->link, bus_space_kind::memory, base, size};
  }
  [[nodiscard]] config_function config(pcie::requester_id id) const noexcept {
    return {state_->link, state_->board, id};
  }
  // The machine's RAM: DMA memory for all functions.
  [[nodiscard]] qtest::ram& memory() const noexcept { return state_->memory; }

  // QEMU's process, or -1 where it is none of ours or has ended.
  [[nodiscard]] ::pid_t pid() const noexcept { return state_->qemu.pid(); }

  // Whether QEMU still answers; else what happened first, with the end of its own words.
  [[nodiscard]] result<> status() const noexcept {
    const auto alive = state_->link.flush();
    return alive ? alive : result<>{state_->explain(alive.error())};
  }

  // Ends QEMU: asked, then killed after exit_timeout_ms. Registers read as all ones afterwards.
  // Writes to images are complete then. The destructor does the same.
  void stop() noexcept { state_->end(); }

 private:
  struct state {
    state(const qtest::board& b, launched&& l, std::uint32_t timeout_ms) noexcept
        : board(b),
          log(std::move(l.log)),
          qemu(std::move(l.qemu)),
          end_with_us(std::move(l.end_with_us)),
          memory_file(std::move(l.memory)),
          link(std::move(l.socket), timeout_ms),
          memory(std::move(l.ram), board) {}
    state(const state&) = delete;
    state& operator=(const state&) = delete;
    ~state() { end(); }

    // If QEMU ended, the error quotes its last message.
    [[nodiscard]] error explain(const error& e) noexcept {
      if (!log) return e;
      posix::steady_clock clock;
      const bool ended =
          e.code == errc::removed && poll_until(clock, 1000 * nanoseconds_per_ms,
                                                [&] { return qemu.exit_status().has_value(); });
      error told = ended ? failure(errc::io, "QEMU ended with this status",
                                   static_cast<std::uint64_t>(qemu.exit_status().value_or(0)))
                         : e;
      const error_subject said = log_tail(log.get());
      if (!said.empty()) told.subject = said;
      return told;
    }
    // The watchdog first: it must not outlive QEMU, whose process id could be reused then.
    void end() noexcept {
      end_with_us = guardian{};
      qemu.stop(exit_timeout_ms);
    }

    const qtest::board board;
    posix::unique_fd log;
    process qemu;
    guardian end_with_us;
    posix::unique_fd memory_file;
    connection link;
    ram memory;
    std::vector<pcie::enumerated_function> functions;
    std::uint32_t exit_timeout_ms = 0;
  };

  explicit machine(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}

  [[nodiscard]] result<> bring_up(std::uint16_t most_functions) noexcept {
    state& s = *state_;
    if (s.board.ecam_register != 0) {
      const auto at = 0x8000'0000U | static_cast<std::uint32_t>(s.board.ecam_register);
      s.link.write_indexed(config_address_port, at + 4, config_data_port, 4,
                           s.board.ecam_base >> 32);
      s.link.write_indexed(config_address_port, at, config_data_port, 4,
                           (s.board.ecam_base & 0xffff'ffff) | 1);
    }
    if (const auto alive = s.link.flush(); !alive) return s.explain(alive.error());
    s.functions.resize(most_functions);
    config_root root{s.link, s.board};
    const auto found = pcie::enumerate(root, s.board.resources, s.functions);
    if (const auto alive = s.link.flush(); !alive) return s.explain(alive.error());
    if (!found) return found.error();
    s.functions.resize(found->size());
    if (found->empty()) {
      return failure(errc::not_found, "the machine has no PCI Express host bridge");
    }
    return {};
  }

  [[nodiscard]] result<function> open(const pcie::enumerated_function& f) const noexcept {
    if (f.fault) {
      std::array<char, 8> text{};
      return f.fault->of(f.id.print(text));
    }
    return function{{&state_->link, &state_->board, &state_->memory}, f};
  }

  std::unique_ptr<state> state_;
};

}  // namespace phasebit::backend::qtest
