// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/virtio/blk/request_queue.hpp>
#include <phasebit/virtio/device/packed_queue.hpp>
#include <phasebit/virtio/device/split_queue.hpp>
#include <phasebit/virtio/driver/packed_queue.hpp>
#include <phasebit/virtio/driver/split_queue.hpp>
#include <phasebit/virtio/scsi/control_queue.hpp>
#include <phasebit/virtio/scsi/event_queue.hpp>
#include <phasebit/virtio/scsi/request_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
namespace device = phasebit::virtio::device;
namespace driver = phasebit::virtio::driver;

namespace {

// Firmware that answers each buffer with its own length.
template <class Queue>
unsigned serve(Queue& queue, const guest_memory<4>& memory) {
  device::chain_segment places[8];
  device::chain chain{places};
  unsigned done = 0;
  while (queue.pop(memory, chain) == device::pop_status::ready) {
    const std::uint32_t answer = static_cast<std::uint32_t>(chain.readable_bytes());
    device::copy_to(chain.writable(), 0, wire_bytes(answer));
    queue.push(chain.id(), chain.writable_bytes() < 4 ? 0 : 4);
    ++done;
  }
  if (queue.flush()) ++done;
  if (queue.enable_notifications()) ++done;
  return done;
}
template <class Queue>
unsigned drive(Queue& queue, bus_addr at) {
  const driver::buffer_segment out[] = {{at, 8}};
  const driver::buffer_segment in[] = {{at + 8, 4}};
  if (queue.add(out, in, 1) != driver::add_status::added) return 0;
  unsigned done = queue.publish() ? 1 : 0;
  queue.poll([&](std::uint64_t, std::uint32_t bytes) noexcept { done += bytes; });
  return done;
}

}  // namespace

extern "C" unsigned use_virtio(std::byte* memory, device::buffer_state* states,
                               driver::buffer_slot<std::uint64_t>* slots, std::uint64_t base) {
  guest_memory<4> map;
  if (!map.add({guest_addr{base}, 4096, memory})) return 1;
  const auto areas = device::map_areas(map, 8, false, base, base + 256, base + 512);
  if (!areas) return 2;
  const std::span<device::buffer_state> buffers{states, 8};
  device::split_queue<device_order> split;
  device::packed_queue<device_order> packed;
  unsigned done = 0;
  if (split.start({.size = 8, .areas = *areas, .buffers = buffers})) done += serve(split, map);
  if (packed.start({.size = 7, .areas = *areas, .buffers = buffers})) done += serve(packed, map);

  // A disk in on-chip memory.
  block::memory_media blocks{{memory + 2048, 2048}};
  block::immediate_media media{blocks};
  virtio::blk::request_slot<8> requests[2];
  virtio::blk::request_queue<decltype(media), device_order, 8> disk{media, requests, {}};
  if (disk.start({.size = 8, .areas = *areas, .buffers = buffers})) done += disk.poll(map).taken;
  done += static_cast<unsigned>(virtio::blk::make_config(media, {}).capacity.get());

  // The same as a SCSI logical unit.
  namespace scsi = virtio::scsi;
  scsi::logical_unit units[1] = {scsi::logical_unit{scsi::logical_unit_options{}}};
  scsi::target target{units};
  scsi::request_slot<8> commands[2];
  using command_queue = scsi::request_queue<decltype(media), device_order, 8>;
  command_queue requests_of{target, {&media, 1}, commands};
  command_queue* const all[] = {&requests_of};
  scsi::control_queue<command_queue, device_order> control{target, all};
  scsi::event_queue<device_order> events;
  events.report_unit(0, true);
  const device::queue_setup setup{.size = 8, .areas = *areas, .buffers = buffers};
  if (requests_of.start(setup)) done += requests_of.poll(map).taken;
  if (control.start(setup)) done += control.poll(map).taken;
  if (events.start(setup)) done += events.poll(map).taken;

  const dma_region region{{memory, 2048}, bus_addr{base}};
  driver::split_queue<device_order> split_driver;
  driver::packed_queue<device_order> packed_driver;
  if (split_driver.start({{8, false, 0}, 0, region, {slots, 8}})) {
    done += drive(split_driver, region.bus);
  }
  if (packed_driver.start({{7, true, 4}, virtio::feature::indirect_desc, region, {slots, 8}})) {
    done += drive(packed_driver, region.bus);
  }
  return done;
}
