// SPDX-License-Identifier: BSL-1.0
// A disk for programs that only read and write blocks: one namespace, one thread, ordinary memory.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/retry.hpp>
#include <phasebit/nvme/driver/wait.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace phasebit::nvme::driver {

struct disk_options {
  std::uint32_t nsid = 1;
  std::uint32_t timeout_ms = 10'000;  // of each command, its retries included
};

// Blocking reads and writes of whole blocks through a bounce buffer, one command at a time. Simple
// rather than fast; for speed use the queue pair. One thread at a time. When the controller is reset, detached,
// moved or destroyed, the disk's calls are error values (removed) or follow it.
//
// Of a namespace with metadata, read() and write() move the data alone: protection information is made and
// checked by the controller (PRACT), other metadata is zero in what is written and ignored in what is read. The
// overloads with `metadata` move both. A command that ends with a status that requests a retry (Namespace Not
// Ready and its like, DNR clear) is issued again until the time is over, after the delay that the status
// names (CRD).
template <class Controller>
class disk {
  using queue_type = typename Controller::template io_queue<std::uint32_t, 4>;
  using backend_type = typename Controller::backend_type;

 public:
  [[nodiscard]] static result<disk> open(Controller& controller,
                                         const disk_options& options = {}) noexcept {
    const auto set = controller.command_set_of(options.nsid);
    if (!set) return set.error();
    if (*set != command_set::nvm) {
      return failure(errc::not_supported,
                     *set == command_set::zoned
                         ? "the namespace is zoned: its blocks cannot be written in any order"
                         : "the namespace is not of the NVM command set; its command set",
                     static_cast<std::uint64_t>(*set))
          .at(options.nsid);
    }
    const auto info = controller.identify_namespace(options.nsid);
    if (!info) return info.error();
    // Whole blocks, with their inline metadata.
    const std::size_t block = info->extended_bytes();
    const std::size_t bytes =
        controller.max_transfer() < bounce_bytes ? controller.max_transfer() : bounce_bytes;
    std::size_t blocks = bytes >> info->block_shift;
    while (blocks * block > bytes) --blocks;
    if (blocks == 0) blocks = 1;
    if (block > controller.max_transfer()) {
      return failure(errc::not_supported, "one block is longer than a command may move (MDTS)",
                     block);
    }
    auto bounce = allocate(controller.backend(), blocks * block);
    if (!bounce) return bounce.error();
    dma_buffer<backend_type> metadata;
    if (!info->metadata_inline && info->metadata_bytes != 0) {
      auto apart = allocate(controller.backend(), blocks * info->metadata_bytes);
      if (!apart) return apart.error();
      metadata = std::move(*apart);
    }
    const std::uint32_t deepest = controller.capabilities().max_queue_entries();
    auto queue =
        controller.create_queue_pair({.depth = deepest < 4 ? deepest : 4,
                                      .max_transfer = static_cast<std::uint32_t>(blocks * block),
                                      .nsid = options.nsid},
                                     tokens<std::uint32_t, 4>);
    if (!queue) return queue.error();
    return disk{controller,
                std::move(*queue),
                *info,
                std::move(*bounce),
                std::move(metadata),
                static_cast<std::uint32_t>(blocks),
                options};
  }
  [[nodiscard]] static result<disk> open(Controller& controller, std::uint32_t nsid,
                                         std::uint32_t timeout_ms = 10'000) noexcept {
    return open(controller, disk_options{.nsid = nsid, .timeout_ms = timeout_ms});
  }

  disk(disk&&) noexcept = default;
  disk& operator=(disk&&) = delete;
  // The bounce buffer goes back only when the device has released the queue; else it stays taken.
  ~disk() {
    bool in_use = queue_.end_reason() == queue_end::abandoned;
    if (!queue_.closed()) {
      const auto removed = queue_.remove();
      in_use = !removed && removed.error().code != errc::removed;
    }
    if (!in_use) return;
    (void)bounce_.leak();
    (void)metadata_.leak();
  }

  [[nodiscard]] const namespace_info& info() const noexcept { return info_; }

  // `bytes` is a whole number of blocks. Errors: out_of_range, misaligned, timed_out, removed, and io with
  // the status that the device gave.
  [[nodiscard]] result<> read(std::uint64_t lba, std::span<std::byte> bytes) noexcept {
    return move(nvm_opcode::read, lba, bytes.data(), nullptr, bytes.size(), {}, {});
  }
  [[nodiscard]] result<> write(std::uint64_t lba, std::span<const std::byte> bytes) noexcept {
    return move(nvm_opcode::write, lba, nullptr, bytes.data(), bytes.size(), {}, {});
  }
  // ... with the metadata of each block, one after another.
  [[nodiscard]] result<> read(std::uint64_t lba, std::span<std::byte> bytes,
                              std::span<std::byte> metadata) noexcept {
    if (const auto fits = check_metadata(bytes.size(), metadata.size()); !fits) return fits;
    return move(nvm_opcode::read, lba, bytes.data(), nullptr, bytes.size(), metadata, {});
  }
  [[nodiscard]] result<> write(std::uint64_t lba, std::span<const std::byte> bytes,
                               std::span<const std::byte> metadata) noexcept {
    if (const auto fits = check_metadata(bytes.size(), metadata.size()); !fits) return fits;
    return move(nvm_opcode::write, lba, nullptr, bytes.data(), bytes.size(), {}, metadata);
  }
  // Everything written before is on stable media when this returns.
  [[nodiscard]] result<> flush() noexcept {
    return run([&]() noexcept { return queue_.submit(nvm::flush(info_.nsid), 0U); },
               nvm_opcode::flush);
  }

 private:
  static constexpr std::size_t bounce_bytes = 128U << 10;

  disk(Controller& controller, queue_type&& queue, const namespace_info& info,
       dma_buffer<backend_type>&& bounce, dma_buffer<backend_type>&& metadata, std::uint32_t blocks,
       const disk_options& options) noexcept
      : backend_(&controller.backend()),
        delays_(retry_delays::of(controller.identity())),
        queue_(std::move(queue)),
        info_(info),
        bounce_(std::move(bounce)),
        metadata_(std::move(metadata)),
        blocks_(blocks),
        timeout_ms_(options.timeout_ms) {}

  [[nodiscard]] result<> check_metadata(std::size_t bytes, std::size_t metadata) const noexcept {
    if (info_.metadata_bytes == 0) {
      return failure(errc::not_supported, "the namespace has no metadata");
    }
    if (metadata == (bytes >> info_.block_shift) * info_.metadata_bytes) return {};
    return failure(errc::invalid_argument,
                   "the metadata buffer is not as long as the blocks' metadata", metadata);
  }

  [[nodiscard]] result<> move(nvm_opcode opcode, std::uint64_t lba, std::byte* in,
                              const std::byte* out, std::size_t bytes,
                              std::span<std::byte> metadata_in,
                              std::span<const std::byte> metadata_out) noexcept {
    if (queue_.closed()) return failure(errc::removed, text(queue_.end_reason()));
    if ((bytes & (info_.block_bytes - 1U)) != 0) {
      return failure(errc::misaligned, "a disk is read and written in whole blocks", bytes);
    }
    std::uint64_t blocks = bytes >> info_.block_shift;
    if (lba > info_.blocks || blocks > info_.blocks - lba) {
      return failure(errc::out_of_range, "the blocks lie beyond the end of the namespace", lba);
    }
    const bool with_metadata = !metadata_in.empty() || !metadata_out.empty();
    std::size_t done = 0;  // blocks
    while (blocks != 0) {
      const auto now = static_cast<std::uint32_t>(blocks < blocks_ ? blocks : blocks_);
      const std::size_t at = done << info_.block_shift;
      const std::size_t metadata_at = done * info_.metadata_bytes;
      const std::size_t metadata_now = std::size_t{now} * info_.metadata_bytes;
      if (opcode == nvm_opcode::write) {
        put(out + at, now,
            with_metadata ? metadata_out.subspan(metadata_at, metadata_now)
                          : std::span<const std::byte>{});
      }
      if (const auto ran =
              run([&]() noexcept { return post(opcode, lba + done, now, with_metadata); }, opcode);
          !ran) {
        return ran;
      }
      if (opcode == nvm_opcode::read) {
        take(in + at, now,
             with_metadata ? metadata_in.subspan(metadata_at, metadata_now)
                           : std::span<std::byte>{});
      }
      done += now;
      blocks -= now;
    }
    return {};
  }

  // Whether each block in the bounce buffer is followed by its metadata.
  [[nodiscard]] bool interleaved(bool with_metadata) const noexcept {
    return info_.metadata_inline && (with_metadata || !info_.strips());
  }
  void put(const std::byte* from, std::uint32_t blocks,
           std::span<const std::byte> metadata) noexcept {
    const std::size_t block = info_.block_bytes;
    if (!interleaved(!metadata.empty())) {
      copy_shared(bounce_->bytes.first(blocks * block), std::span{from, blocks * block});
      if (!metadata.empty()) copy_shared(metadata_->bytes.first(metadata.size()), metadata);
      return;
    }
    const std::size_t step = info_.extended_bytes();
    for (std::size_t i = 0; i != blocks; ++i) {
      copy_shared(bounce_->bytes.subspan(i * step, block), std::span{from + i * block, block});
      const auto to = bounce_->bytes.subspan(i * step + block, info_.metadata_bytes);
      if (metadata.empty()) {
        __builtin_memset(to.data(), 0, to.size());
      } else {
        copy_shared(to, metadata.subspan(i * info_.metadata_bytes, info_.metadata_bytes));
      }
    }
  }
  void take(std::byte* to, std::uint32_t blocks, std::span<std::byte> metadata) noexcept {
    const std::size_t block = info_.block_bytes;
    if (!interleaved(!metadata.empty())) {
      copy_shared(std::span{to, blocks * block}, bounce_->bytes.first(blocks * block));
      if (!metadata.empty()) copy_shared(metadata, metadata_->bytes.first(metadata.size()));
      return;
    }
    const std::size_t step = info_.extended_bytes();
    for (std::size_t i = 0; i != blocks; ++i) {
      copy_shared(std::span{to + i * block, block}, bounce_->bytes.subspan(i * step, block));
      if (metadata.empty()) continue;
      copy_shared(metadata.subspan(i * info_.metadata_bytes, info_.metadata_bytes),
                  bounce_->bytes.subspan(i * step + block, info_.metadata_bytes));
    }
  }
  [[nodiscard]] submitted post(nvm_opcode opcode, std::uint64_t lba, std::uint32_t blocks,
                               bool with_metadata) noexcept {
    block_range range{.nsid = info_.nsid, .lba = lba, .blocks = blocks};
    const bool extended = interleaved(with_metadata);
    // Protection information that is longer than the tuple: the controller makes the tuple alone.
    if (info_.is_protected() && extended && !with_metadata) range.pi.action = true;
    // Type 2 has the LBA as its tag whatever the length of the metadata: see prepare_transfer().
    if (info_.protection == protection_type::type2 && !with_metadata && !info_.strips()) {
      range.reference_tag = static_cast<std::uint32_t>(lba);
    }
    const dma_region data = bounce_->subregion(
        0, std::size_t{blocks} * (extended ? info_.extended_bytes() : info_.block_bytes));
    if (!info_.metadata_inline && info_.metadata_bytes != 0 && (with_metadata || !info_.strips())) {
      const dma_region apart = metadata_->subregion(0, std::size_t{blocks} * info_.metadata_bytes);
      if (!with_metadata && opcode == nvm_opcode::write) {
        __builtin_memset(apart.data(), 0, apart.size());
      }
      if (info_.is_protected() && !with_metadata) range.pi.action = true;
      return opcode == nvm_opcode::write ? queue_.write(range, data, apart, 0U)
                                         : queue_.read(range, data, apart, 0U);
    }
    return opcode == nvm_opcode::write ? queue_.write(range, data, 0U)
                                       : queue_.read(range, data, 0U);
  }

  // Posts one command and waits, again where its status requests it. While a command that was given up is in
  // flight the device may use the bounce buffer, so that nothing more is done with it.
  template <class Post>
  [[nodiscard]] result<> run(Post&& post_command, nvm_opcode opcode) noexcept {
    if (broken_) {
      return failure(errc::not_ready,
                     "an earlier command was never answered: reset the controller");
    }
    const std::uint64_t begin = backend_->clock().now();
    const std::uint64_t patience = timeout_ms_ * nanoseconds_per_ms;
    for (;;) {
      const submitted posted = post_command();
      if (!posted) return posted.as_error();
      queue_.ring();
      completion answer;
      const std::uint64_t spent = backend_->clock().now() - begin;
      const std::uint64_t left = spent < patience ? patience - spent : 0;
      const auto waited = wait(queue_, left / nanoseconds_per_ms + 1,
                               [&](std::uint32_t&, completion c) noexcept { answer = c; });
      if (!waited) {
        // Whatever the reason: the completion of a command that is left may end the wait for another.
        broken_ = queue_.in_flight() != 0;
        return waited.error().code == errc::timed_out
                   ? failure(errc::timed_out, "a command was not answered in time; its opcode",
                             static_cast<std::uint64_t>(opcode))
                   : waited.error();
      }
      if (answer.ok()) return {};
      const auto delay = delays_.delay_ns(answer.status());
      if (!delay || backend_->clock().now() - begin + *delay > patience) {
        return failure(errc::io, "the device refused the command; status", answer.status().raw())
            .of(text(answer.status()));
      }
      (void)poll_until(backend_->clock(), *delay, []() noexcept { return false; });
    }
  }

  backend_type* backend_;
  retry_delays delays_;
  queue_type queue_;
  namespace_info info_;
  dma_buffer<backend_type> bounce_;
  dma_buffer<backend_type> metadata_;
  std::uint32_t blocks_;  // that the bounce buffer holds
  std::uint32_t timeout_ms_;
  bool broken_ = false;
};

// A disk on one namespace of a controller.
template <class Controller>
[[nodiscard]] result<disk<Controller>> open_disk(Controller& controller,
                                                 const disk_options& options = {}) noexcept {
  return disk<Controller>::open(controller, options);
}

}  // namespace phasebit::nvme::driver
