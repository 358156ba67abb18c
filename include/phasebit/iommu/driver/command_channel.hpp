// SPDX-License-Identifier: BSL-1.0
// An IOMMU's command ring with its memory, its two registers, and the patience to wait.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/command_queue/producer.hpp>
#include <phasebit/iommu/driver/options.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace phasebit::iommu::driver {

// Where an IOMMU's ring has its registers.
struct ring_registers {
  std::uint32_t head;
  std::uint32_t tail;
};

// Posts commands and waits until they are done. One thread. Move-only; the IOMMU has released the
// ring before it ends.
template <CommandCodec Codec, Mmio Bar, DriverHost Host>
class command_channel {
  // The register by value: Bar is a view, and this moves.
  class head_register {
   public:
    head_register(Bar bar, std::uint32_t offset) noexcept : bar_(bar), offset_(offset) {}
    [[nodiscard]] std::uint32_t load() noexcept {
      return mmio_command_head<Bar>{bar_, offset_}.load();
    }

   private:
    Bar bar_;
    std::uint32_t offset_;
  };
  using tail_register = decltype(std::declval<Bar&>().doorbell(0));
  using producer = command_producer<Codec, typename Host::ring_order, tail_register, head_register>;

 public:
  // Errors: those of the host's memory.
  [[nodiscard]] static result<command_channel> create(const Codec& codec, Bar bar,
                                                      ring_registers at, Host& host,
                                                      const options& o) noexcept {
    const std::size_t bytes = std::size_t{codec.entry_bytes()} << o.log2_commands;
    auto ring = dma_buffer<Host>::allocate(host, bytes, bytes < 4096 ? 4096 : bytes);
    if (!ring) return ring.error();
    auto done = dma_buffer<Host>::allocate(host, 64, 64);
    if (!done) return done.error();
    return command_channel{codec, bar, at, host, o, std::move(*ring), std::move(*done)};
  }

  [[nodiscard]] bus_addr ring_at() const noexcept { return ring_->bus; }
  // The ring is disabled, and its head and tail are 0.
  void restart() noexcept { producer_.restart(); }

  // The command is done when this returns, and all that were posted before. `fault` reads from
  // the IOMMU's registers why it does not continue: a ring_fault_report.
  template <class Trouble>
  [[nodiscard]] result<> run(const command& c, Trouble&& fault) noexcept {
    return carry_out([&]() noexcept { return producer_.post(c); }, fault);
  }
  template <class Trouble>
  [[nodiscard]] result<> flush(std::uint16_t domain,
                               std::span<const invalidation_range<bus_space>> ranges,
                               Trouble&& fault) noexcept {
    return carry_out([&]() noexcept { return producer_.invalidate(domain, ranges); }, fault);
  }

 private:
  command_channel(const Codec& codec, Bar bar, ring_registers at, Host& host, const options& o,
                  dma_buffer<Host>&& ring, dma_buffer<Host>&& done) noexcept
      : host_(&host),
        timeout_ns_(o.timeout_ns()),
        ring_(std::move(ring)),
        done_(std::move(done)),
        producer_(codec, ring_->bytes, bar.doorbell(at.tail), head_register{bar, at.head},
                  completion()) {
    producer_.most_commands(o.most_commands);
  }

  [[nodiscard]] completion_word completion() const noexcept {
    if constexpr (Codec::sync_by_head) {
      return {};
    } else {
      return {reinterpret_cast<le<std::uint32_t>*>(done_->data()), done_->bus.value()};
    }
  }

  template <class Post, class Trouble>
  [[nodiscard]] result<> carry_out(Post post, Trouble& fault) noexcept {
    if (auto posted = when_there_is_room(post); !posted) return stuck(posted, fault);
    sync_token token;
    auto synced = when_there_is_room([&]() noexcept { return producer_.sync(token); });
    if (!synced) return stuck(synced, fault);
    const bool done =
        poll_until(host_->clock(), timeout_ns_, [&]() noexcept { return producer_.done(token); });
    if (done) return {};
    producer_.abandon();
    return stuck(failure(errc::timed_out, "the IOMMU does not work off its commands"), fault);
  }
  template <class Post>
  [[nodiscard]] result<> when_there_is_room(Post post) noexcept {
    posted how = posted::full;
    const bool ended = poll_until(host_->clock(), timeout_ns_, [&]() noexcept {
      how = post();
      if (how == posted::full) producer_.submit();
      return how != posted::full;
    });
    if (!ended) return failure(errc::timed_out, "the IOMMU's command ring stays full");
    if (how == posted::posted) return {};
    return failure(errc::not_supported, "the IOMMU cannot express this command");
  }
  // The reason, if the IOMMU reports one.
  template <class Trouble>
  [[nodiscard]] result<> stuck(const result<>& what, Trouble& fault) noexcept {
    if (what.error().code != errc::timed_out) return what;
    if (auto healthy = producer_.health(); !healthy) return healthy;
    const ring_fault_report told = fault();
    if (!told) return what;
    return failure(errc::protocol, "the IOMMU has refused a command, for this ring_fault",
                   static_cast<std::uint64_t>(told.what));
  }

  Host* host_;
  std::uint64_t timeout_ns_;
  dma_buffer<Host> ring_;
  dma_buffer<Host> done_;
  producer producer_;
};

}  // namespace phasebit::iommu::driver
