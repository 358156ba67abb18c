// SPDX-License-Identifier: BSL-1.0
// Firmware that drives an NVMe disk without an operating system: enumerates PCIe, attaches the controller,
// writes blocks, reads them back and compares.
#include "board.hpp"

#include <phasebit/backend/mmio/clocks.hpp>
#include <phasebit/backend/mmio/function.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/pcie/driver/ecam.hpp>

#include <cstddef>
#include <new>
#include <span>

using namespace phasebit;

namespace {

using board::print;
using board::print_number;

struct no_call {
  void operator()(std::uint32_t&, nvme::driver::completion) const noexcept {}
};

[[nodiscard]] result<> run() noexcept {
  static static_arena<256 * 1024> dma;
  // Made here, so that the defaults of 16 functions are not part of the image.
  alignas(
      pcie::enumerated_function) static std::byte storage[16 * sizeof(pcie::enumerated_function)];
  auto* const first = reinterpret_cast<pcie::enumerated_function*>(storage);
  for (std::size_t i = 0; i != 16; ++i)
    ::new (static_cast<void*>(first + i)) pcie::enumerated_function{};
  const std::span functions{first, 16};
  using clock = backend::mmio::tick_clock<board::ticks, board::ticks_per_second>;

  // Configuration space of every bus.
  const std::span<std::byte> window{reinterpret_cast<std::byte*>(board::ecam),
                                    board::ecam_buses << 20};
  pcie::ecam root{pcie::mapped_window{window}};
  const auto found = pcie::enumerate(root, board::resources(), functions);
  if (!found) return found.error();
  const pcie::enumerated_function* disk = nullptr;
  for (const auto& f : *found) {
    print("function ");
    print_number(f.id.bus(), 16);
    print(":");
    print_number(f.id.device(), 16);
    print(".");
    print_number(f.id.function());
    print(" class ");
    print_number(f.class_code, 16);
    print(f.fault ? " unusable\n" : "\n");
    if (f.class_code == 0x010802 && !f.fault) disk = &f;
  }
  if (disk == nullptr) return failure(errc::not_found, "there is no NVMe controller");

  backend::mmio::function function{root.function(disk->id), dma, clock{}};
  using controller = nvme::driver::controller<decltype(function), 1>;
  auto nvme = controller::attach(function);
  if (!nvme) return nvme.error();
  print("model ");
  for (const char c : nvme->identity().mn) board::put(c);
  print("\n");

  auto queue = nvme->template create_queue_pair<std::uint32_t, 16>({.depth = 16});
  if (!queue) return queue.error();
  const auto data = function.allocate(8 * 512, 4096);
  if (!data) return data.error();

  const auto complete = [&](nvme::driver::submitted posted) noexcept -> result<> {
    if (!posted) return posted.as_error();
    queue->ring();
    nvme::driver::completion answer;
    const bool answered = poll_until(function.clock(), 5'000'000'000, [&]() noexcept {
      return queue->poll(
                 [&](std::uint32_t&, nvme::driver::completion c) noexcept { answer = c; }) != 0;
    });
    if (!answered) return failure(errc::timed_out, "the controller does not answer");
    if (!answer.ok()) return failure(errc::io, "the command failed", answer.status().raw());
    return {};
  };
  const auto pattern = [](std::uint64_t lba, std::size_t i) noexcept {
    return static_cast<std::byte>(lba * 31 + i * 7 + 1);
  };
  for (std::uint64_t lba = 8; lba != 8 + 64; lba += 8) {
    for (std::size_t i = 0; i != data->size(); ++i) data->data()[i] = pattern(lba, i);
    if (const auto r = complete(queue->write({.nsid = 1, .lba = lba, .blocks = 8}, *data, 0U));
        !r) {
      return r;
    }
  }
  for (std::uint64_t lba = 8; lba != 8 + 64; lba += 8) {
    for (std::size_t i = 0; i != data->size(); ++i) data->data()[i] = std::byte{0};
    if (const auto r = complete(queue->read({.nsid = 1, .lba = lba, .blocks = 8}, *data, 0U)); !r) {
      return r;
    }
    for (std::size_t i = 0; i != data->size(); ++i) {
      if (data->data()[i] != pattern(lba, i)) {
        return failure(errc::io, "a block was not read back as written", lba);
      }
    }
  }
  print("64 blocks written and verified\n");
  if (const auto deleted = nvme->delete_queue_pair(*queue, no_call{}); !deleted) return deleted;
  return nvme->shut_down();
}

}  // namespace

extern "C" void firmware_main() noexcept {
  print("phasebit firmware, ");
  print(board::name);
  print("\n");
  if (const auto r = run(); r) {
    print("passed\n");
  } else {
    print("FAILED: ");
    print(r.error().what);
    print(" (value ");
    print_number(r.error().value);
    print(")\n");
  }
}

extern "C" void firmware_exception(std::uint64_t cause, std::uint64_t place,
                                   std::uint64_t address) noexcept {
  print("FAILED: exception ");
  print_number(cause, 16);
  print(" at ");
  print_number(place, 16);
  print(", address ");
  print_number(address, 16);
  print("\n");
}
