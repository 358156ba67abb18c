// SPDX-License-Identifier: BSL-1.0
// A driver for a vhost-user disk of another process or thread: memory to share, queues, requests.
#pragma once

#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vhost_user/front_end.hpp>
#include <phasebit/virtio/blk/driver_queue.hpp>
#include <phasebit/virtio/spec/blk.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace phasebit_test {

namespace vhost = phasebit::transport::vhost_user;
namespace virtio = phasebit::virtio;

// Memory in a file, at guest address `base`. Handed out front to back.
class shared_memory {
 public:
  static constexpr std::uint64_t base = 0x4000'0000;

  explicit shared_memory(std::size_t bytes) : fd_(::memfd_create("guest", MFD_CLOEXEC)) {
    REQUIRE(fd_);
    REQUIRE(::ftruncate(fd_.get(), static_cast<::off_t>(bytes)) == 0);
    auto mapped = phasebit::posix::memory_mapping::shared(fd_.get(), bytes);
    REQUIRE(mapped);
    mapping_ = std::move(*mapped);
  }
  phasebit::dma_region take(std::size_t bytes) {
    const std::size_t at = used_;
    used_ += (bytes + 63) / 64 * 64;
    REQUIRE(used_ <= mapping_.size());
    return {mapping_.bytes().subspan(at, bytes), phasebit::bus_addr{base + at}};
  }
  std::span<std::byte> bytes() const { return mapping_.bytes(); }
  int fd() const { return fd_.get(); }

 private:
  phasebit::posix::unique_fd fd_;
  phasebit::posix::memory_mapping mapping_;
  std::size_t used_ = 0;
};

// One queue of a disk with its requests.
template <bool Packed>
struct disk_queue {
  using ring =
      std::conditional_t<Packed,
                         virtio::driver::packed_queue<phasebit::thread_order, std::uint32_t>,
                         virtio::driver::split_queue<phasebit::thread_order, std::uint32_t>>;
  static constexpr std::uint32_t size = 256;

  disk_queue(shared_memory& memory, std::uint64_t features)
      : layout{size, Packed, (features & virtio::feature::indirect_desc) != 0 ? 8U : 0U},
        region(memory.take(layout.bytes())),
        slots(size),
        request_slots(128) {
    REQUIRE(queue.start({layout, features, region, slots}));
    requests.emplace(queue, memory.take(128 * 64), request_slots);
    kick = phasebit::posix::unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    call = phasebit::posix::unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  }
  void start(vhost::front_end& to, std::uint16_t index,
             std::optional<std::uint32_t> base = std::nullopt) {
    const auto started = to.start_queue({.index = index,
                                         .size = size,
                                         .base = base ? *base : (Packed ? 0x8000'8000U : 0U),
                                         .descriptors = region.data(),
                                         .driver = region.data() + layout.driver_offset(),
                                         .device = region.data() + layout.device_offset(),
                                         .kick = kick.get(),
                                         .call = call.get()});
    REQUIRE(started);
  }
  void ring_kick() {
    const std::uint64_t one = 1;
    REQUIRE(::write(kick.get(), &one, sizeof one) == sizeof one);
  }
  // Publishes what was submitted and waits for `count` completions, at most ten seconds.
  std::vector<std::pair<std::uint64_t, virtio::blk::request_status>> finish(std::size_t count) {
    if (requests->publish()) ring_kick();
    std::vector<std::pair<std::uint64_t, virtio::blk::request_status>> done;
    const std::time_t end = std::time(nullptr) + 10;
    while (done.size() < count && std::time(nullptr) < end) {
      if (requests->poll([&](std::uint64_t token, virtio::blk::request_status status) noexcept {
            done.emplace_back(token, status);
          }) == 0) {
        ::usleep(20);
      }
    }
    REQUIRE(done.size() == count);
    return done;
  }

  virtio::driver::queue_layout layout;
  phasebit::dma_region region;
  std::vector<virtio::driver::buffer_slot<std::uint32_t>> slots;
  std::vector<virtio::blk::driver_slot<std::uint64_t>> request_slots;
  ring queue;
  std::optional<virtio::blk::driver_queue<ring>> requests;
  phasebit::posix::unique_fd kick;
  phasebit::posix::unique_fd call;
};

}  // namespace phasebit_test
