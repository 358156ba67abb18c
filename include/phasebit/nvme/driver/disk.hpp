// SPDX-License-Identifier: BSL-1.0
// For people who just want to read a block: one namespace, one thread, ordinary memory.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace phasebit::nvme::driver {

// Blocking reads and writes of whole blocks through a bounce buffer, one command at a time. Simple
// rather than fast; for speed use the queue pair. The controller outlives it. One thread at a time.
template <class Controller>
class disk {
  using queue_type = typename Controller::template io_queue<std::uint32_t, 4>;

 public:
  // `timeout_ms` bounds each command.
  [[nodiscard]] static result<disk> open(Controller& controller, std::uint32_t nsid = 1,
                                         std::uint32_t timeout_ms = 10'000) noexcept {
    const auto info = controller.identify_namespace(nsid);
    if (!info) return info.error();
    std::size_t bytes =
        controller.max_transfer() < bounce_bytes ? controller.max_transfer() : bounce_bytes;
    if (bytes < info->block_bytes) bytes = info->block_bytes;
    auto bounce = controller.backend().allocate(bytes, 4096);
    if (!bounce) return bounce.error();
    auto queue = controller.template create_queue_pair<std::uint32_t, 4>(
        {.depth = 4, .max_transfer = static_cast<std::uint32_t>(bytes), .nsid = nsid});
    if (!queue) {
      controller.backend().release(*bounce);
      return queue.error();
    }
    return disk{controller, std::move(*queue), *info, *bounce, timeout_ms};
  }

  disk(disk&& other) noexcept
      : controller_(std::exchange(other.controller_, nullptr)),
        queue_(std::move(other.queue_)),
        info_(other.info_),
        bounce_(other.bounce_),
        timeout_ms_(other.timeout_ms_),
        broken_(other.broken_) {}
  disk& operator=(disk&&) = delete;
  // The bounce buffer goes back only when the device has let go of the queue; else it stays taken.
  ~disk() {
    if (controller_ == nullptr) return;
    const auto forget = [](std::uint32_t&, completion) noexcept {};  // timed out, and told so
    if (controller_->delete_queue_pair(queue_, forget)) controller_->backend().release(bounce_);
  }

  [[nodiscard]] const namespace_info& info() const noexcept { return info_; }

  // `bytes` is a whole number of blocks. Errors: out_of_range, timed_out, removed, and io with the
  // status that the device gave.
  [[nodiscard]] result<> read(std::uint64_t lba, std::span<std::byte> bytes) noexcept {
    return each_part(lba, bytes.size(), [&](std::uint64_t at, std::size_t offset, std::size_t n) {
      const auto done = run(nvm::read(range(at, n)), n);
      if (done) copy_shared(bytes.subspan(offset, n), bounce_.bytes.first(n));
      return done;
    });
  }
  [[nodiscard]] result<> write(std::uint64_t lba, std::span<const std::byte> bytes) noexcept {
    return each_part(lba, bytes.size(), [&](std::uint64_t at, std::size_t offset, std::size_t n) {
      copy_shared(bounce_.bytes.first(n), bytes.subspan(offset, n));
      return run(nvm::write(range(at, n)), n);
    });
  }
  // Everything written before is on stable media when this returns.
  [[nodiscard]] result<> flush() noexcept { return run(nvm::flush(info_.nsid), 0); }

 private:
  static constexpr std::size_t bounce_bytes = 128U << 10;

  disk(Controller& controller, queue_type&& queue, const namespace_info& info, dma_region bounce,
       std::uint32_t timeout_ms) noexcept
      : controller_(&controller),
        queue_(std::move(queue)),
        info_(info),
        bounce_(bounce),
        timeout_ms_(timeout_ms) {}

  [[nodiscard]] block_range range(std::uint64_t lba, std::size_t bytes) const noexcept {
    return {.nsid = info_.nsid,
            .lba = lba,
            .blocks = static_cast<std::uint32_t>(bytes >> info_.block_shift)};
  }

  template <class Part>
  [[nodiscard]] result<> each_part(std::uint64_t lba, std::size_t bytes, Part&& part) noexcept {
    const std::size_t block = info_.block_bytes;
    if ((bytes & (block - 1)) != 0) {
      return failure(errc::misaligned, "a disk is read and written in whole blocks", bytes);
    }
    if (lba > info_.blocks || (bytes >> info_.block_shift) > info_.blocks - lba) {
      return failure(errc::out_of_range, "the blocks lie beyond the end of the namespace", lba);
    }
    for (std::size_t offset = 0; offset != bytes;) {
      const std::size_t left = bytes - offset;
      const std::size_t now = left < bounce_.size() ? left : bounce_.size();
      if (const auto done = part(lba + (offset >> info_.block_shift), offset, now); !done) {
        return done;
      }
      offset += now;
    }
    return {};
  }

  // Posts one command and waits. After a time-out the device may still use the bounce buffer, so that
  // nothing more is done with it.
  [[nodiscard]] result<> run(const submission_entry& command, std::size_t bytes) noexcept {
    if (broken_) {
      return failure(errc::not_ready,
                     "an earlier command was never answered: reset the controller");
    }
    const submitted posted = bytes == 0 ? queue_.submit(command, 0U)
                                        : queue_.submit(command, bounce_.subregion(0, bytes), 0U);
    if (!posted) return posted.as_error();
    queue_.ring();
    completion answer;
    const bool answered = poll_until(
        controller_->backend().clock(), timeout_ms_ * nanoseconds_per_ms, [&]() noexcept {
          return queue_.poll([&](std::uint32_t&, completion c) noexcept { answer = c; }) != 0;
        });
    if (!answered) {
      broken_ = true;
      if (const auto well = controller_->check(); !well) return well;
      if (const auto well = queue_.health(); !well) return well;
      return failure(errc::timed_out, "a command was not answered in time; its opcode",
                     command.opcode());
    }
    if (!answer.ok()) {
      return failure(errc::io, "the device refused the command; status", answer.status().raw())
          .of(text(answer.status()));
    }
    return {};
  }

  Controller* controller_;
  queue_type queue_;
  namespace_info info_;
  dma_region bounce_;
  std::uint32_t timeout_ms_;
  bool broken_ = false;
};

}  // namespace phasebit::nvme::driver
