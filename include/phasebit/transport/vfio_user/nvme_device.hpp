// SPDX-License-Identifier: BSL-1.0
// An NVMe controller in the form that a vfio-user server carries.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/device/description.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vfio_user/handover.hpp>
#include <phasebit/transport/vfio_user/host.hpp>
#include <phasebit/transport/vfio_user/server.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace phasebit::transport::vfio_user {

struct nvme_options {
  nvme::device::settings controller{};
  // The client maps the doorbells and stores to them; the server polls them. Without, each doorbell is
  // a message, which wakes a server that sleeps.
  bool map_doorbells = true;
};

// PCI identity, BAR 0 with registers and doorbells, MSI-X in BAR 4.
[[nodiscard]] inline pcie::function_description describe_nvme(
    const nvme::device::settings& s) noexcept {
  const std::uint64_t least = nvme::register_bytes(s.io_queue_pairs, s.doorbell_stride);
  const std::uint32_t pba = std::bit_ceil(pcie::msix_table_bytes(s.interrupt_vectors));
  pcie::function_description d{
      .vendor_id = s.pci_vendor != 0 ? s.pci_vendor : std::uint16_t{0x5042},
      .device_id = 0x0010,
      .class_code = 0x01'08'02,
      .revision_id = 1,
      .subsystem_vendor_id = 0x5042,
      .subsystem_id = 0x0001,
      .power_management = true,
      .msix =
          pcie::msix_description{
              .vectors = s.interrupt_vectors, .table_bar = 4, .pba_bar = 4, .pba_offset = pba},
      .express = pcie::express_description{}};
  d.bars[0] = {.kind = pcie::bar_kind::memory64,
               .size = std::bit_ceil(least < 0x4000 ? std::uint64_t{0x4000} : least)};
  d.bars[4] = {.kind = pcie::bar_kind::memory32, .size = std::bit_ceil(pba + 0x1000U)};
  return d;
}

// A controller, its doorbell pages in memory that is shared with the client, and time. Models
// ServedDevice. Made by create(); neither copied nor moved.
template <nvme::device::NamespaceSet Namespaces, class Policy = nvme::device::default_policy>
class nvme_device {
 public:
  using controller_type =
      nvme::device::controller<dma_port, irq_vectors, Namespaces, thread_order, Policy>;
  static constexpr unsigned access_bytes = 4;

  // `shared_doorbells` is the memory of the doorbells of a device that another process hands over; without
  // one, memory is made. `h` has settings.interrupt_vectors vectors; it, the namespaces and the pending memory outlive the
  // device. Error: io, exhausted (no memory for the doorbells).
  [[nodiscard]] static result<std::unique_ptr<nvme_device>> create(
      host& h, Namespaces& namespaces, const nvme_options& options = {},
      const nvme::device::pending_memory& pending = {}, posix::unique_fd shared_doorbells = {}) {
    const auto description = describe_nvme(options.controller);
    const auto bytes = int_cast<std::size_t>(description.bars[0].size);
    const bool taken = static_cast<bool>(shared_doorbells);
    posix::unique_fd fd = std::move(shared_doorbells);
    if (!taken) {
      fd = posix::unique_fd{::memfd_create("phasebit-doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    }
    if (taken && ::lseek(fd.get(), 0, SEEK_END) != static_cast<::off_t>(bytes)) {
      return failure(errc::not_supported, "the doorbells of the other process have another size",
                     bytes);
    }
    // Sealed: a client that cuts the file off would end this process at its next look.
    if (!taken &&
        (!fd || ::ftruncate(fd.get(), static_cast<::off_t>(bytes)) != 0 ||
         ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)) {
      return posix::os_error("the memory of the doorbells cannot be made");
    }
    auto mapping = posix::memory_mapping::shared(fd.get(), bytes);
    if (!mapping) return mapping.error();
    return std::unique_ptr<nvme_device>{new nvme_device{
        h, namespaces, options, pending, description, std::move(fd), std::move(*mapping)}};
  }
  nvme_device(const nvme_device&) = delete;
  nvme_device& operator=(const nvme_device&) = delete;

  [[nodiscard]] controller_type& controller() noexcept { return controller_; }
  // Commands, deliveries and events since the device was made.
  [[nodiscard]] std::uint64_t work_done() const noexcept { return work_done_; }

  // -- hand-over: the controller and its doorbells --

  // Commands in flight end, and then the controller can be handed over: pause() first.
  [[nodiscard]] bool can_hand_over() const noexcept { return paused_ && controller_.quiesced(); }
  [[nodiscard]] result<> hand_over(message_channel& to) const {
    const auto state = controller_.save();
    static_assert(std::is_trivially_copyable_v<decltype(state)>);
    const std::array<int, 1> fds{fd_.get()};
    return send_record(to, record_kind::device, std::as_bytes(std::span{&state, 1}), {}, fds);
  }
  // The first message of a device: its doorbells, for create(), and its state, for take_over().
  [[nodiscard]] static result<posix::unique_fd> receive(message_channel& from, message& state) {
    if (const auto got = receive_record(from, record_kind::device, state); !got) return got.error();
    if (state.fds.size() != 1) {
      return failure(errc::protocol, "a device is handed over with its doorbells",
                     state.fds.size());
    }
    return std::move(state.fds[0]);
  }
  // After the server has taken over the client's memory and interrupts. Errors: not_supported (another
  // layout), and those of controller::restore.
  [[nodiscard]] result<> take_over(const message& m) noexcept {
    nvme::device::saved_controller<Policy> state{};
    if (m.payload.size() != sizeof state) {
      return failure(errc::not_supported, "the other process has another layout of the controller",
                     m.payload.size());
    }
    std::memcpy(&state, m.payload.data(), sizeof state);
    return controller_.restore(state, nvme::device::doorbell_memory::is_shared);
  }

  [[nodiscard]] const pcie::function_description& description() const noexcept {
    return description_;
  }
  [[nodiscard]] bar_memory shared_memory(unsigned bar) const noexcept {
    if (bar != 0 || !map_doorbells_) return {};
    return {fd_.get(), nvme::first_doorbell, memory_.size() - nvme::first_doorbell};
  }
  [[nodiscard]] std::uint64_t read(unsigned bar, std::uint64_t offset, unsigned bytes) noexcept {
    if (bar != 0) return 0;
    const auto at = static_cast<std::uint32_t>(offset);
    if (bytes == 8) return read32(at) | std::uint64_t{read32(at + 4)} << 32;
    const std::uint32_t dword = read32(at & ~3U) >> 8 * (at & 3U);
    return bytes == 4 ? dword : dword & ((1U << 8 * bytes) - 1);
  }
  void write(unsigned bar, std::uint64_t offset, unsigned bytes, std::uint64_t value) noexcept {
    if (bar != 0) return;
    const auto at = static_cast<std::uint32_t>(offset);
    write32(at, static_cast<std::uint32_t>(value));
    if (bytes == 8) write32(at + 4, static_cast<std::uint32_t>(value >> 32));
  }
  unsigned poll() noexcept {
    if (++polls_ % polls_per_look == 0) let_time_pass();
    const unsigned did = controller_.poll();
    work_done_ += did;
    return did;
  }
  void reset() noexcept {
    controller_.reset();
    if (std::exchange(paused_, false)) controller_.resume();
  }
  [[nodiscard]] bool drained() const noexcept { return controller_.drained(); }
  void pause() noexcept {
    paused_ = true;
    controller_.quiesce();
  }
  [[nodiscard]] bool paused() const noexcept { return paused_ && controller_.drained(); }
  void resume() noexcept {
    paused_ = false;
    controller_.resume();
  }

 private:
  // Asking for the time in every round would cost more than an idle round does.
  static constexpr unsigned polls_per_look = 64;

  nvme_device(host& h, Namespaces& namespaces, const nvme_options& options,
              const nvme::device::pending_memory& pending, const pcie::function_description& d,
              posix::unique_fd fd, posix::memory_mapping memory) noexcept
      : description_(d),
        map_doorbells_(options.map_doorbells),
        fd_(std::move(fd)),
        memory_(std::move(memory)),
        controller_(h.dma, h.interrupts, namespaces, doorbells(), options.controller, pending),
        last_ms_(posix::steady_clock::now() / nanoseconds_per_ms) {}

  [[nodiscard]] std::span<std::uint32_t> doorbells() const noexcept {
    return {reinterpret_cast<std::uint32_t*>(memory_.data() + nvme::first_doorbell),
            (memory_.size() - nvme::first_doorbell) / sizeof(std::uint32_t)};
  }
  [[nodiscard]] std::uint32_t read32(std::uint32_t at) noexcept {
    if (at < nvme::first_doorbell) return controller_.read32(at);
    return le<std::uint32_t>::from_wire(
        thread_order::load(doorbells()[(at - nvme::first_doorbell) / 4]));
  }
  void write32(std::uint32_t at, std::uint32_t value) noexcept {
    if (at < nvme::first_doorbell) {
      controller_.write32(at, value);
    } else {
      thread_order::store(doorbells()[(at - nvme::first_doorbell) / 4],
                          le<std::uint32_t>::to_wire(value));
    }
  }
  void let_time_pass() noexcept {
    const std::uint64_t now = posix::steady_clock::now() / nanoseconds_per_ms;
    const std::uint64_t passed = std::exchange(last_ms_, now);
    if (now > passed) controller_.advance(static_cast<std::uint32_t>(now - passed));
  }

  pcie::function_description description_;
  bool map_doorbells_;
  bool paused_ = false;
  posix::unique_fd fd_;
  posix::memory_mapping memory_;
  controller_type controller_;
  std::uint64_t last_ms_;
  std::uint64_t work_done_ = 0;
  unsigned polls_ = 0;
};

}  // namespace phasebit::transport::vfio_user
