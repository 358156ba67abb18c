// SPDX-License-Identifier: BSL-1.0
// A driver of the simplest kind before a SCSI host: control, event and one request queue, buffers written by
// hand. It shares the wire structs with the device side and nothing else.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/virtio/device/virtqueue.hpp>
#include <phasebit/virtio/scsi/control_queue.hpp>
#include <phasebit/virtio/scsi/event_queue.hpp>
#include <phasebit/virtio/scsi/request_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <virtio/queue_pair.hpp>

namespace phasebit_test {

namespace scsi = phasebit::virtio::scsi;

// The driver's half of one queue, in either format.
struct scsi_ring {
  explicit scsi_ring(phasebit::local_dma<>& memory, std::uint64_t base, bool packed)
      : layout{64, packed, 0}, lines(layout.bytes() / 64 + 1), slots(64), buffers(64) {
    const std::span<std::byte> bytes{lines[0].bytes, lines.size() * 64};
    if (packed) features |= phasebit::virtio::feature::ring_packed;
    const dma_region region{bytes, bus_addr{base}};
    static_cast<void>(memory);
    if (packed) {
      REQUIRE(packed_front.start({layout, features, region, slots}));
    } else {
      REQUIRE(front.start({layout, features, region, slots}));
    }
    is_packed = packed;
    setup = {.size = 64,
             .features = features,
             .areas = {bytes.data(), bytes.data() + layout.driver_offset(),
                       bytes.data() + layout.device_offset()},
             .buffers = buffers};
  }
  void offer(const std::vector<driver::buffer_segment>& out,
             const std::vector<driver::buffer_segment>& in, std::uint32_t token) {
    if (is_packed) {
      REQUIRE(packed_front.add(out, in, token) == driver::add_status::added);
      static_cast<void>(packed_front.publish());
    } else {
      REQUIRE(front.add(out, in, token) == driver::add_status::added);
      static_cast<void>(front.publish());
    }
  }
  std::vector<std::pair<std::uint32_t, std::uint32_t>> collect() {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> done;
    const auto sink = [&](std::uint32_t token, std::uint32_t written) noexcept {
      done.emplace_back(token, written);
    };
    if (is_packed) {
      packed_front.poll(sink);
      CHECK_FALSE(packed_front.last_fault());
    } else {
      front.poll(sink);
      CHECK_FALSE(front.last_fault());
    }
    return done;
  }

  driver::queue_layout layout;
  std::uint64_t features = 0;
  std::vector<queue_pair<split_format>::line> lines;
  std::vector<driver::buffer_slot<std::uint32_t>> slots;
  std::vector<device::buffer_state> buffers;
  split_format::driver_queue front;
  packed_format::driver_queue packed_front;
  device::queue_setup setup;
  bool is_packed = false;
};

// The result of a command.
struct scsi_answer {
  scsi::response response{};
  scsi::status status{};
  scsi::sense sense{};
  std::uint32_t residual = 0;
  std::uint32_t written = 0;
  std::vector<std::byte> data;

  [[nodiscard]] bool good() const {
    return response == scsi::response::ok && status == scsi::status::good;
  }
};

template <class Media>
struct scsi_host {
  using queue_type = scsi::request_queue<Media, thread_order>;
  static constexpr std::size_t slot_bytes = 1U << 17;

  scsi_host(std::span<Media> media, std::span<scsi::logical_unit> units, bool packed = false)
      : target(units),
        table(16),
        requests(target, media, table),
        all{&requests},
        control(target, all),
        data(slot_bytes * 40),
        control_ring(memory, 0x10'0000, packed),
        event_ring(memory, 0x20'0000, packed),
        request_ring(memory, 0x30'0000, packed) {
    REQUIRE(memory.add(dma_region{data, bus_addr{data_base}}));
    REQUIRE(control.start(control_ring.setup));
    REQUIRE(events.start(event_ring.setup));
    REQUIRE(requests.start(request_ring.setup));
  }
  // All logical units have reported that they were powered on.
  void settle() {
    for (std::size_t i = 0; i != target.units().size(); ++i) {
      static_cast<void>(run({0, 0, 0, 0, 0, 0}, 0, 0, static_cast<std::uint16_t>(i)));
    }
  }

  // Slot n: header and CDB at 0, response at 256, data from 1024 on.
  std::byte* at(std::uint32_t n) { return data.data() + n * slot_bytes; }
  std::byte* payload(std::uint32_t n) { return at(n) + 1024; }
  static driver::buffer_segment part(std::uint32_t n, std::size_t offset, std::uint64_t bytes) {
    return {bus_addr{data_base + n * slot_bytes + offset}, bytes};
  }
  void write_header(std::uint32_t n, std::span<const std::uint8_t> cdb, const scsi::lun_bytes& lun,
                    std::uint64_t tag) {
    std::memset(at(n), 0, 256);
    scsi::command_header h{};
    h.lun = lun;
    std::memcpy(&h.tag, &tag, sizeof tag);
    std::memcpy(at(n), &h, sizeof h);
    std::memcpy(at(n) + sizeof h, cdb.data(), cdb.size());
    std::memset(at(n) + 256, 0xee, 256);
  }
  void post(std::uint32_t n, std::span<const std::uint8_t> cdb, std::size_t out, std::size_t in,
            const scsi::lun_bytes& lun, std::uint64_t tag) {
    write_header(n, cdb, lun, tag);
    std::vector<driver::buffer_segment> readable{part(n, 0, sizeof(scsi::command_header) + 32)};
    std::vector<driver::buffer_segment> writable{part(n, 256, sizeof(scsi::command_response) + 96)};
    if (out != 0) readable.push_back(part(n, 1024, out));
    if (in != 0) writable.push_back(part(n, 1024, in));
    request_ring.offer(readable, writable, n);
    lengths[n] = in;
  }
  scsi_answer answer(std::uint32_t n, std::uint32_t written) {
    scsi::command_response r;
    std::memcpy(&r, at(n) + 256, sizeof r);
    scsi_answer a{.response = static_cast<scsi::response>(r.response),
                  .status = static_cast<scsi::status>(r.status),
                  .sense = {},
                  .residual = r.residual.get(),
                  .written = written,
                  .data = {}};
    if (r.sense_len != 0) {
      const auto* s = reinterpret_cast<const std::uint8_t*>(at(n) + 256 + sizeof r);
      CHECK(s[0] == 0x70);
      a.sense = {static_cast<scsi::sense_key>(s[2]), s[12], s[13]};
    }
    const std::size_t in = lengths[n];
    a.data.assign(payload(n), payload(n) + (in - (a.residual < in ? a.residual : in)));
    return a;
  }
  device::poll_result poll() { return requests.poll(memory); }

  // One command whose media end it by itself.
  scsi_answer run(std::initializer_list<std::uint8_t> cdb, std::size_t out = 0, std::size_t in = 0,
                  std::uint16_t lun = 0) {
    return run(std::span{cdb.begin(), cdb.size()}, out, in, scsi::lun_of(0, lun));
  }
  scsi_answer run(std::span<const std::uint8_t> cdb, std::size_t out, std::size_t in,
                  const scsi::lun_bytes& lun) {
    post(0, cdb, out, in, lun, 1);
    for (int i = 0; i != 1000; ++i) {
      static_cast<void>(poll());
      const auto done = request_ring.collect();
      if (done.empty()) continue;
      REQUIRE(done.size() == 1);
      return answer(done[0].first, done[0].second);
    }
    FAIL("a command was not answered");
    return {};
  }
  scsi::sense sense_of(std::initializer_list<std::uint8_t> cdb, std::size_t out = 0,
                       std::size_t in = 0, std::uint16_t lun = 0) {
    const auto a = run(cdb, out, in, lun);
    CHECK(a.response == scsi::response::ok);
    CHECK(a.status == scsi::status::check_condition);
    CHECK(a.written == sizeof(scsi::command_response) + scsi::fixed_sense_bytes);
    return a.sense;
  }

  // A task management function is posted; its response when it was answered.
  void manage(scsi::task_management what, std::uint16_t lun, std::uint64_t tag = 0) {
    scsi::task_management_request r{};
    r.subtype = static_cast<std::uint32_t>(what);
    r.lun = scsi::lun_of(0, lun);
    r.tag = tag;
    std::memcpy(at(39), &r, sizeof r);
    control_ring.offer({part(39, 0, sizeof r)}, {part(39, 256, 1)}, 39);
  }
  std::optional<scsi::response> managed() {
    static_cast<void>(control.poll(memory));
    const auto done = control_ring.collect();
    if (done.empty()) return std::nullopt;
    CHECK(done[0].second == 1);
    return static_cast<scsi::response>(at(39)[256]);
  }

  scsi::target target;
  std::vector<scsi::request_slot<>> table;
  queue_type requests;
  std::array<queue_type*, 1> all;
  scsi::control_queue<queue_type, thread_order> control;
  scsi::event_queue<thread_order> events;
  std::vector<std::byte> data;
  phasebit::local_dma<> memory;
  scsi_ring control_ring;
  scsi_ring event_ring;
  scsi_ring request_ring;
  std::array<std::size_t, 40> lengths{};
};

}  // namespace phasebit_test
