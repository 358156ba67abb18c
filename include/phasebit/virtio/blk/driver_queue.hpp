// SPDX-License-Identifier: BSL-1.0
// The driver side of one virtio-blk request queue: virtio 1.3, section 5.2.6.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/virtio/driver/packed_queue.hpp>
#include <phasebit/virtio/driver/split_queue.hpp>
#include <phasebit/virtio/spec/blk.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::virtio::blk {

// The driver's state of a request; the caller's memory, one for each request in flight.
template <class Token>
struct driver_slot {
  Token token{};
  std::uint16_t next = 0;
};

// Header and status of a request, in memory that the device reaches.
struct driver_request {
  request_header header;
  range_segment range;
  std::uint8_t status;
  std::uint8_t padding[31];
};
static_assert(WireStruct<driver_request> && sizeof(driver_request) == 64);

// Submits requests on a driver-side `Queue` (split or packed, with std::uint32_t tokens) and reports how
// each ended. Allocates nothing and never waits. One thread at a time.
template <class Queue, class Token = std::uint64_t>
class driver_queue {
 public:
  // Segments of data in one request.
  static constexpr std::size_t max_segments = 126;

  // `requests` has 64 bytes for each slot, is zeroed and reached by the device. The queue has been
  // started. All of it outlives this.
  driver_queue(Queue& queue, dma_region requests, std::span<driver_slot<Token>> slots) noexcept
      : queue_(&queue), memory_(requests), slots_(slots) {
    PHASEBIT_EXPECTS(requests.size() >= slots.size() * sizeof(driver_request),
                     "there is less request memory than slots");
    PHASEBIT_EXPECTS(!slots.empty() && slots.size() < 0xffff, "a queue has 1 to 65534 slots");
    for (std::size_t i = 0; i != slots.size(); ++i) {
      slots_[i].next = static_cast<std::uint16_t>(i + 1);
    }
  }

  [[nodiscard]] std::uint32_t in_flight() const noexcept { return in_flight_; }

  // Reads or writes whole sectors; the segments together are a multiple of 512 bytes.
  [[nodiscard]] driver::add_status read(std::uint64_t sector,
                                        std::span<const driver::buffer_segment> to,
                                        const Token& token) noexcept {
    return submit(request_type::in, sector, {}, to, token);
  }
  [[nodiscard]] driver::add_status write(std::uint64_t sector,
                                         std::span<const driver::buffer_segment> from,
                                         const Token& token) noexcept {
    return submit(request_type::out, sector, from, {}, token);
  }
  [[nodiscard]] driver::add_status flush(const Token& token) noexcept {
    return submit(request_type::flush, 0, {}, {}, token);
  }
  // The device's identification: 20 bytes into `to`.
  [[nodiscard]] driver::add_status get_id(const driver::buffer_segment& to,
                                          const Token& token) noexcept {
    return submit(request_type::get_id, 0, {}, {&to, 1}, token);
  }
  [[nodiscard]] driver::add_status discard(std::uint64_t sector, std::uint32_t sectors,
                                           const Token& token) noexcept {
    return submit_range(request_type::discard, {sector, sectors, 0}, token);
  }
  [[nodiscard]] driver::add_status write_zeroes(std::uint64_t sector, std::uint32_t sectors,
                                                bool unmap, const Token& token) noexcept {
    return submit_range(request_type::write_zeroes,
                        {sector, sectors, unmap ? range_flag_unmap : 0U}, token);
  }
  // Makes submitted requests visible. Returns true if the device must be notified.
  [[nodiscard]] bool publish() noexcept { return queue_->publish(); }

  // Calls sink(token, status) for requests that have ended, and returns how many. A status that the
  // device may not write counts as io_error.
  template <class Sink>
  std::uint32_t poll(Sink&& sink) noexcept {
    return queue_->poll([&](std::uint32_t slot, std::uint32_t) noexcept {
      const std::uint8_t raw = snapshot(request(slot).status);
      const request_status status =
          raw <= 2 ? static_cast<request_status>(raw) : request_status::io_error;
      const Token token = slots_[slot].token;
      slots_[slot].next = free_;
      free_ = static_cast<std::uint16_t>(slot);
      --in_flight_;
      sink(token, status);
    });
  }

 private:
  [[nodiscard]] driver_request& request(std::uint32_t slot) const noexcept {
    return reinterpret_cast<driver_request*>(memory_.data())[slot];
  }
  [[nodiscard]] bus_addr address(std::uint32_t slot, std::size_t offset) const noexcept {
    return memory_.bus + (std::uint64_t{slot} * sizeof(driver_request) + offset);
  }

  [[nodiscard]] driver::add_status submit_range(request_type type, const range_segment& range,
                                                const Token& token) noexcept {
    if (free_ == slots_.size()) return driver::add_status::full;
    overwrite(request(free_).range, range);
    const driver::buffer_segment out[] = {
        {address(free_, offsetof(driver_request, range)), sizeof(range_segment)}};
    return submit(type, 0, out, {}, token);
  }
  [[nodiscard]] driver::add_status submit(request_type type, std::uint64_t sector,
                                          std::span<const driver::buffer_segment> out,
                                          std::span<const driver::buffer_segment> in,
                                          const Token& token) noexcept {
    if (free_ == slots_.size()) return driver::add_status::full;
    if (out.size() > max_segments || in.size() > max_segments) return driver::add_status::refused;
    const std::uint16_t slot = free_;
    driver_request& r = request(slot);
    overwrite(
        r.header,
        request_header{.type = static_cast<std::uint32_t>(type), .reserved = 0, .sector = sector});
    overwrite(r.status, std::uint8_t{0xff});
    std::array<driver::buffer_segment, max_segments + 1> readable;
    std::array<driver::buffer_segment, max_segments + 1> writable;
    readable[0] = {address(slot, 0), sizeof(request_header)};
    for (std::size_t i = 0; i != out.size(); ++i) readable[i + 1] = out[i];
    for (std::size_t i = 0; i != in.size(); ++i) writable[i] = in[i];
    writable[in.size()] = {address(slot, offsetof(driver_request, status)), 1};
    const auto added = queue_->add(std::span{readable}.first(out.size() + 1),
                                   std::span{writable}.first(in.size() + 1), slot);
    if (added != driver::add_status::added) return added;
    free_ = slots_[slot].next;
    slots_[slot].token = token;
    ++in_flight_;
    return added;
  }

  Queue* queue_;
  dma_region memory_;
  std::span<driver_slot<Token>> slots_;
  std::uint32_t in_flight_ = 0;
  std::uint16_t free_ = 0;
};

}  // namespace phasebit::virtio::blk
