// SPDX-License-Identifier: BSL-1.0
// SCSI commands and task management from a hostile driver: each buffer is answered once, bytes outside of
// the buffers stay as they are, and nothing is left when the media have ended.
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/virtio/driver/split_queue.hpp>
#include <phasebit/virtio/scsi/control_queue.hpp>
#include <phasebit/virtio/scsi/request_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

using namespace phasebit;
namespace scsi = phasebit::virtio::scsi;
namespace driver = phasebit::virtio::driver;
namespace device = phasebit::virtio::device;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

using media_type = block::planned_media<block::memory_media, block::random_media_plan>;
using queue_type = scsi::request_queue<media_type, thread_order, 16>;

constexpr std::uint32_t entries = 16;
constexpr std::size_t ring_bytes = 4096;
constexpr std::size_t buffer_bytes = 4096;
constexpr std::byte guard{0xc3};

// One queue with the memory of its ring.
struct driver_ring {
  alignas(64) std::array<std::byte, ring_bytes> bytes{};
  std::array<driver::buffer_slot<std::uint32_t>, entries> slots{};
  std::array<device::buffer_state, entries> states{};
  driver::split_queue<thread_order, std::uint32_t> front;
  device::queue_setup setup;

  explicit driver_ring(std::uint64_t base) {
    const driver::queue_layout layout{entries, false, 0};
    check(front.start({layout, 0, dma_region{bytes, bus_addr{base}}, slots}).has_value());
    setup = {.size = entries,
             .features = 0,
             .areas = {bytes.data(), bytes.data() + layout.driver_offset(),
                       bytes.data() + layout.device_offset()},
             .buffers = states};
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  std::array<std::byte, 16384> store{};
  block::memory_media blocks{store};
  std::array<block::planned_operation, 8> operations{};
  std::array<media_type, 2> media{
      media_type{blocks,
                 std::span{operations}.first(4),
                 {.longest = 2, .fail_one_in = 9, .busy_one_in = 5, .at_once_one_in = 3}},
      media_type{blocks, std::span{operations}.last(4), {.longest = 1}}};
  std::array<scsi::logical_unit, 2> units{scsi::logical_unit{scsi::logical_unit_options{}},
                                          scsi::logical_unit{{.read_only = true, .unmap = false}}};
  scsi::target target{units};
  std::array<scsi::request_slot<16>, 4> slots;
  queue_type requests{target, media, slots};
  const std::array<queue_type*, 1> all{&requests};
  scsi::control_queue<queue_type, thread_order> control{target, all};
  driver_ring request_ring{0x1000'0000};
  driver_ring control_ring{0x2000'0000};
  static std::array<std::byte, entries * buffer_bytes> memory;
  memory.fill(guard);
  local_dma<> map;
  check(map.add(dma_region{memory, bus_addr{0x4000'0000}}).has_value());
  check(requests.start(request_ring.setup).has_value());
  check(control.start(control_ring.setup).has_value());

  unsigned offered = 0;
  unsigned answered = 0;
  std::uint32_t next = 0;
  const auto collect = [&](driver_ring& r) {
    r.front.poll([&](std::uint32_t, std::uint32_t) noexcept { ++answered; });
    check(!r.front.last_fault());
  };
  const auto turn = [&] {
    static_cast<void>(requests.poll(map));
    static_cast<void>(control.poll(map));
    collect(request_ring);
    collect(control_ring);
  };
  while (size >= 56 && !requests.needs_reset() && !control.needs_reset()) {
    // 0: flags. 1, 2: lengths of data. From 3 on: LUN, tag and CDB, or a control request.
    const std::size_t begin = next * buffer_bytes;
    std::byte* const at = memory.data() + begin;
    const auto part = [&](std::size_t offset, std::size_t bytes) {
      return driver::buffer_segment{bus_addr{0x4000'0000 + begin + offset}, bytes};
    };
    const std::size_t out = (input[0] & 2) != 0 ? input[1] * 8U : 0;
    const std::size_t in = (input[0] & 4) != 0 ? input[2] * 8U : 0;
    driver::add_status added = driver::add_status::full;
    if ((input[0] & 0xf0) == 0xf0) {
      std::memcpy(at, input + 3, 24);
      const driver::buffer_segment readable[] = {part(0, 24)};
      const driver::buffer_segment writable[] = {part(64, 5)};
      added = control_ring.front.add(readable, writable, next);
      static_cast<void>(control_ring.front.publish());
    } else {
      std::memset(at, 0, 51);
      std::memcpy(at, input + 3, 51);
      at[0] = std::byte{1};
      at[1] = at[2] = std::byte{0};
      at[3] = static_cast<std::byte>(input[6] % 3);
      std::memset(at + 4, 0, 4);
      const driver::buffer_segment readable[] = {part(0, 51), part(256, out == 0 ? 1 : out)};
      const driver::buffer_segment writable[] = {part(64, 108), part(2048, in == 0 ? 1 : in)};
      added = request_ring.front.add(std::span{readable}.first(out == 0 ? 1 : 2),
                                     std::span{writable}.first(in == 0 ? 1 : 2), next);
      static_cast<void>(request_ring.front.publish());
    }
    if (added == driver::add_status::added) ++offered;
    next = (next + 1) % entries;
    input += 56;
    size -= 56;
    turn();
  }
  for (int i = 0; i != 200; ++i) turn();
  check(answered == offered);
  check(requests.in_flight() == 0);
  check(!control.needs_reset());
  // Between the response and the data the driver did not offer anything.
  for (std::uint32_t i = 0; i != entries; ++i) {
    for (std::size_t k = 172; k != 256; ++k) check(memory[i * buffer_bytes + k] == guard);
  }
  return 0;
}
