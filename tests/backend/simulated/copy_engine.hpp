// SPDX-License-Identifier: BSL-1.0
// A minimal device: it copies bytes from one bus address to another, driven by a ring and one
// doorbell.
#pragma once

#include <phasebit/backend/simulated.hpp>
#include <phasebit/core/copy.hpp>

#include <cstdint>
#include <cstring>
#include <span>

namespace phasebit_test {

namespace sim = phasebit::backend::simulated;

struct copy_job {
  phasebit::le<std::uint64_t> from;
  phasebit::le<std::uint64_t> to;
  phasebit::le<std::uint32_t> bytes;
  phasebit::le<std::uint32_t> reserved;
};
static_assert(phasebit::WireStruct<copy_job> && sizeof(copy_job) == 24);

// Registers: 00h identity, 04h scratch, 08h jobs done (64 bits), 10h ring address (64 bits),
// 18h ring entries, 1Ch status word address (64 bits, on 4 bytes), 24h jobs that failed.
// Doorbell 0 is the ring's tail; the head is written to the status word.
class copy_engine {
 public:
  static constexpr std::uint32_t identity = 0xc0de'0001;
  static constexpr std::uint32_t doorbell = 0x1000;

  explicit copy_engine(const sim::device_port& port) noexcept
      : dma_(port.dma()), interrupts_(port.interrupts()), words_(port.words()) {}
  copy_engine(const copy_engine&) = delete;
  copy_engine& operator=(const copy_engine&) = delete;

  std::uint32_t read32(std::uint32_t offset) noexcept {
    switch (offset) {
      case 0x00:
        return identity;
      case 0x04:
        return scratch_;
      case 0x08:
        return static_cast<std::uint32_t>(done_);
      case 0x0c:
        return static_cast<std::uint32_t>(done_ >> 32);
      case 0x18:
        return entries_;
      case 0x24:
        return failed_;
      default:
        return 0;
    }
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    const auto low = [&](std::uint64_t& word) { word = (word >> 32 << 32) | value; };
    const auto high = [&](std::uint64_t& word) {
      word = (word & 0xffff'ffff) | std::uint64_t{value} << 32;
    };
    switch (offset) {
      case 0x04:
        scratch_ = value;
        break;
      case 0x10:
        low(ring_);
        break;
      case 0x14:
        high(ring_);
        break;
      case 0x18:
        entries_ = value;
        break;
      case 0x1c:
        low(status_);
        break;
      case 0x20:
        high(status_);
        break;
      default:
        break;
    }
  }
  unsigned poll() noexcept {
    const std::uint32_t tail =
        phasebit::le<std::uint32_t>::from_wire(phasebit::thread_order::load(words_[0]));
    if (entries_ == 0 || tail >= entries_ || tail == head_) return 0;
    unsigned work = 0;
    for (; head_ != tail; head_ = (head_ + 1) % entries_, ++work) {
      if (copy_one()) {
        ++done_;
      } else {
        ++failed_;
      }
    }
    const auto status = dma_.translate(phasebit::bus_addr{status_}, 4, phasebit::access::write);
    if (status) {
      phasebit::thread_order::store(
          *reinterpret_cast<phasebit::le<std::uint32_t>*>(phasebit::pointer_of(status->begin)),
          phasebit::le<std::uint32_t>{head_});
    }
    interrupts_.raise(0);
    return work;
  }
  void reset() noexcept {
    scratch_ = entries_ = head_ = failed_ = 0;
    done_ = ring_ = status_ = 0;
    ++resets;
  }

  unsigned resets = 0;

 private:
  bool copy_one() noexcept {
    using phasebit::access;
    using phasebit::bus_addr;
    const auto at =
        dma_.translate(bus_addr{ring_ + head_ * sizeof(copy_job)}, sizeof(copy_job), access::read);
    if (!at || at->bytes != sizeof(copy_job)) return false;
    copy_job job;
    std::memcpy(&job, phasebit::pointer_of(at->begin), sizeof job);
    for (std::uint32_t moved = 0; moved < job.bytes;) {
      const auto from = dma_.translate(bus_addr{job.from + moved}, job.bytes - moved, access::read);
      if (!from) return false;
      const auto to = dma_.translate(bus_addr{job.to + moved}, from->bytes, access::write);
      if (!to) return false;
      std::memmove(phasebit::pointer_of(to->begin), phasebit::pointer_of(from->begin), to->bytes);
      moved += static_cast<std::uint32_t>(to->bytes);
    }
    return true;
  }

  sim::dma_port dma_;
  sim::interrupt_port interrupts_;
  std::span<std::uint32_t> words_;
  std::uint32_t scratch_ = 0;
  std::uint32_t entries_ = 0;
  std::uint32_t head_ = 0;
  std::uint32_t failed_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t ring_ = 0;
  std::uint64_t status_ = 0;
};
static_assert(sim::DeviceModel<copy_engine>);

inline sim::function_description copy_engine_description(std::uint8_t device = 4) noexcept {
  sim::function_description d{
      .device = device,
      .pci = {.vendor_id = 0x5042,
              .device_id = 0x00ce,
              .class_code = 0x12'00'00,
              .msix =
                  phasebit::pcie::msix_description{
                      .vectors = 4, .table_bar = 4, .pba_bar = 4, .pba_offset = 0x800},
              .express = phasebit::pcie::express_description{}}};
  d.pci.bars[0] = {.kind = phasebit::pcie::bar_kind::memory64, .size = 0x2000};
  d.pci.bars[4] = {.kind = phasebit::pcie::bar_kind::memory32, .size = 0x1000};
  d.words[0] = {.offset = copy_engine::doorbell, .bytes = 0x1000};
  return d;
}
inline auto make_copy_engine() noexcept {
  return [](const sim::device_port& port) noexcept { return copy_engine{port}; };
}
using copy_device = sim::device<copy_engine>;

// The driver of the toy, over any backend.
template <phasebit::PcieBackend Backend>
class copy_driver {
 public:
  static constexpr std::uint32_t entries = 16;

  explicit copy_driver(Backend& backend) noexcept
      : backend_(backend),
        bar_(*backend.map_bar(0)),
        doorbell_(bar_.doorbell(copy_engine::doorbell)),
        ring_(*backend.allocate(entries * sizeof(copy_job), 64)),
        status_(*backend.allocate(4, 64)) {
    bar_.write64_lo_hi(0x10, ring_.bus.value());
    bar_.write32(0x18, entries);
    bar_.write32(0x1c, static_cast<std::uint32_t>(status_.bus.value()));
    bar_.write32(0x20, static_cast<std::uint32_t>(status_.bus.value() >> 32));
  }
  copy_driver(const copy_driver&) = delete;
  copy_driver& operator=(const copy_driver&) = delete;
  ~copy_driver() {
    backend_.release(status_);
    backend_.release(ring_);
  }

  void post(phasebit::bus_addr from, phasebit::bus_addr to, std::uint32_t bytes) noexcept {
    const copy_job job{from.value(), to.value(), bytes, 0};
    std::memcpy(ring_.data() + tail_ * sizeof job, &job, sizeof job);
    tail_ = (tail_ + 1) % entries;
  }
  void ring() noexcept { doorbell_.ring(tail_); }
  [[nodiscard]] bool done() const noexcept {
    return Backend::ring_order::load(
               *reinterpret_cast<const phasebit::le<std::uint32_t>*>(status_.data())) == tail_;
  }
  [[nodiscard]] bool wait(std::uint64_t nanoseconds) noexcept {
    auto clock = backend_.clock();
    return phasebit::poll_until(clock, nanoseconds, [&]() noexcept { return done(); });
  }
  auto& bar() noexcept { return bar_; }
  auto& doorbell() noexcept { return doorbell_; }

 private:
  Backend& backend_;
  typename Backend::bar_type bar_;
  decltype(bar_.doorbell(0)) doorbell_;
  phasebit::dma_region ring_;
  phasebit::dma_region status_;
  std::uint32_t tail_ = 0;
};

}  // namespace phasebit_test
