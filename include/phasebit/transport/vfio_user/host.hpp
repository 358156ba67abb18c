// SPDX-License-Identifier: BSL-1.0
// The host as a device model behind a vfio-user server sees it: memory and interrupts of the client.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_access.hpp>
#include <phasebit/nvme/device/concepts.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vfio_user/dma_table.hpp>
#include <phasebit/transport/vfio_user/messages.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <unistd.h>

namespace phasebit::transport::vfio_user {

// How memory that is not mapped is reached: DMA_READ and DMA_WRITE to the client.
class message_dma {
 public:
  [[nodiscard]] virtual result<> read(std::uint64_t at, std::span<std::byte> to) noexcept = 0;
  [[nodiscard]] virtual result<> write(std::uint64_t at,
                                       std::span<const std::byte> from) noexcept = 0;
  // Send one message, of at most largest_transfer() bytes, and do not wait: dma_port::end() is called
  // with the identifier of the message.
  [[nodiscard]] virtual result<std::uint16_t> start_read(std::uint64_t at,
                                                         std::size_t bytes) noexcept = 0;
  [[nodiscard]] virtual result<std::uint16_t> start_write(
      std::uint64_t at, std::span<const std::byte> from) noexcept = 0;
  [[nodiscard]] virtual std::uint64_t largest_transfer() const noexcept = 0;

 protected:
  ~message_dma() = default;
};

// The DMA port of the device: the client's memory in place where it gave a descriptor for it, and by
// messages otherwise. Nothing is reached while no client is connected, and while the function is no bus
// master. Models AsyncDmaPort: copies by messages are begun and delivered later where
// set_messages_in_flight() allows it; otherwise each waits for its answer. One thread at a time.
class dma_port {
 public:
  explicit dma_port(std::size_t most_ranges) noexcept : table_(most_ranges) {}
  dma_port(const dma_port&) = delete;
  dma_port& operator=(const dma_port&) = delete;

  [[nodiscard]] result<mapped_range> map(bus_addr at, std::uint64_t bytes, access wanted) noexcept {
    const auto r = find(at.value(), wanted);
    if (!r) return r.error();
    const std::uint64_t offset = at.value() - (*r)->begin;
    const std::uint64_t most = std::min(bytes, (*r)->bytes - offset);
    if ((*r)->local == nullptr) {
      return mapped_range{0, most, memory_domain::unmapped};
    }
    return mapped_range{reinterpret_cast<std::uintptr_t>((*r)->local) + offset, most,
                        memory_domain::local};
  }
  [[nodiscard]] result<> read(bus_addr at, std::span<std::byte> to) noexcept {
    return each_part(
        at, to, access::read,
        [](std::span<std::byte> part, std::byte* local) noexcept {
          copy_shared(part, {local, part.size()});
        },
        [this](std::uint64_t from, std::span<std::byte> part) noexcept {
          return messages_->read(from, part);
        });
  }
  [[nodiscard]] result<> write(bus_addr at, std::span<const std::byte> from) noexcept {
    return each_part(
        at, from, access::write,
        [](std::span<const std::byte> part, std::byte* local) noexcept {
          copy_shared({local, part.size()}, part);
        },
        [this](std::uint64_t to, std::span<const std::byte> part) noexcept {
          return messages_->write(to, part);
        });
  }

  [[nodiscard]] result<dma_started> start_read(bus_addr at, std::span<std::byte> to,
                                               dma_tag tag) noexcept {
    return start(at, to, tag, access::read);
  }
  [[nodiscard]] result<dma_started> start_write(bus_addr at, std::span<const std::byte> from,
                                                dma_tag tag) noexcept {
    return start(at, {const_cast<std::byte*>(from.data()), from.size()}, tag, access::write);
  }
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    if (ended_ == 0) return 0;
    std::size_t count = 0;
    for (std::size_t i = 0; i < copies_.size();) {
      if (!copies_[i].ended) {
        ++i;
        continue;
      }
      const message_copy c = copies_[i];
      copies_[i] = copies_.back();
      copies_.pop_back();
      --ended_;
      ++count;
      sink(c.tag, c.good);
    }
    return count;
  }

  // How many messages of copies may be on their way at a time; 0 at first. The client has to answer requests
  // of the server while others wait: QEMU 11.1 stalls where it has several.
  void set_messages_in_flight(std::size_t most) {
    copies_.reserve(most);
    most_copies_ = most;
  }

  // The server's side. A copy by a message that is on its way, or was answered and not delivered yet.
  struct message_copy {
    std::uint64_t at = 0;
    std::span<std::byte> bytes{};
    dma_tag tag = 0;
    std::uint64_t begun = 0;  // nanoseconds
    std::uint16_t id = 0;
    bool write = false;
    bool ended = false;
    bool good = false;
  };
  [[nodiscard]] bool any_copies() const noexcept { return !copies_.empty(); }
  // The one that waits for an answer with this identifier, or null.
  [[nodiscard]] const message_copy* find_copy(std::uint16_t id) const noexcept {
    for (const message_copy& c : copies_) {
      if (!c.ended && c.id == id) return &c;
    }
    return nullptr;
  }
  // It was answered; `data` is what was read. A copy that is not there is ignored.
  void end_copy(std::uint16_t id, bool good, std::span<const std::byte> data) noexcept {
    for (message_copy& c : copies_) {
      if (c.ended || c.id != id) continue;
      if (good && !c.write) copy_bytes(c.bytes, data);
      end(c, good);
    }
  }
  // Fails those that were begun at `latest` or before.
  void fail_copies(std::uint64_t latest = ~std::uint64_t{0}) noexcept {
    for (message_copy& c : copies_) {
      if (!c.ended && c.begun <= latest) end(c, false);
    }
  }
  [[nodiscard]] dma_table& table() noexcept { return table_; }
  void set_bus_master(bool on) noexcept { bus_master_ = on; }
  [[nodiscard]] bool is_bus_master() const noexcept { return bus_master_; }
  void set_messages(message_dma* messages) noexcept { messages_ = messages; }
  // Bytes that were moved by messages.
  [[nodiscard]] std::uint64_t message_bytes() const noexcept { return message_bytes_; }

 private:
  [[nodiscard]] result<const dma_table::range*> find(std::uint64_t at, access wanted) noexcept {
    if (!bus_master_) {
      return failure(errc::access_denied, "the function is no bus master: it does no DMA", at);
    }
    const dma_table::range* const r = table_.find(at);
    if (r == nullptr) {
      return failure(errc::not_mapped, "the client has mapped no memory at this address", at);
    }
    if (!allows(r->granted, wanted)) {
      return failure(errc::access_denied, "the client's mapping does not allow this access", at);
    }
    return r;
  }
  void end(message_copy& c, bool good) noexcept {
    c.ended = true;
    c.good = good;
    ++ended_;
  }
  static void copy_bytes(std::span<std::byte> to, std::span<const std::byte> from) noexcept {
    std::memcpy(to.data(), from.data(), std::min(to.size(), from.size()));
  }
  // As much as lies in one range and in one message.
  [[nodiscard]] result<dma_started> start(bus_addr begin, std::span<std::byte> bytes, dma_tag tag,
                                          access wanted) noexcept {
    const std::uint64_t at = begin.value();
    const auto r = find(at, wanted);
    if (!r) return r.error();
    const bool by_message = (*r)->local == nullptr;
    std::uint64_t n = std::min<std::uint64_t>(bytes.size(), (*r)->bytes - (at - (*r)->begin));
    if (by_message && messages_ != nullptr) n = std::min(n, messages_->largest_transfer());
    const auto part = bytes.first(int_cast<std::size_t>(n));
    if (!by_message || messages_ == nullptr || copies_.size() >= most_copies_) {
      const auto done = writes(wanted) ? write(begin, part) : read(begin, part);
      if (!done) return done.error();
      return dma_started{n, false};
    }
    const auto id =
        writes(wanted) ? messages_->start_write(at, part) : messages_->start_read(at, part.size());
    if (!id) return id.error();
    copies_.push_back({.at = at,
                       .bytes = part,
                       .tag = tag,
                       .begun = posix::steady_clock::now(),
                       .id = *id,
                       .write = writes(wanted)});
    message_bytes_ += n;
    return dma_started{n, true};
  }
  template <class Byte, class Copy, class Message>
  [[nodiscard]] result<> each_part(bus_addr begin, std::span<Byte> bytes, access wanted, Copy copy,
                                   Message by_message) noexcept {
    std::uint64_t at = begin.value();
    while (!bytes.empty()) {
      const auto r = find(at, wanted);
      if (!r) return r.error();
      const std::uint64_t offset = at - (*r)->begin;
      const auto n =
          static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), (*r)->bytes - offset));
      if (std::byte* const local = (*r)->local; local != nullptr) {
        copy(bytes.first(n), local + offset);
      } else {
        if (messages_ == nullptr) {
          return failure(errc::not_mapped, "no client is connected", at);
        }
        // The table may change during this call.
        if (const auto done = by_message(at, bytes.first(n)); !done) return done;
        message_bytes_ += n;
      }
      at += n;
      bytes = bytes.subspan(n);
    }
    return {};
  }

  dma_table table_;
  message_dma* messages_ = nullptr;
  bool bus_master_ = false;
  std::uint64_t message_bytes_ = 0;
  std::vector<message_copy> copies_;
  std::size_t most_copies_ = 0;
  std::size_t ended_ = 0;  // of copies_, not delivered yet
};
static_assert(AsyncDmaPort<dma_port>);

// The MSI-X vectors of the device: an interrupt is a write to the eventfd that the client passed
// for the vector. An interrupt raised while the vector is masked, or has no eventfd yet, is
// pending, and delivered when the vector has one and is not masked. Models InterruptSink. One
// thread at a time.
class irq_vectors {
 public:
  explicit irq_vectors(std::size_t count) : vectors_(count) {}
  irq_vectors(const irq_vectors&) = delete;
  irq_vectors& operator=(const irq_vectors&) = delete;

  [[nodiscard]] std::uint32_t count() const noexcept {
    return static_cast<std::uint32_t>(vectors_.size());
  }
  // A vector that the device does not have is ignored.
  void raise(std::uint16_t vector) noexcept {
    if (vector >= vectors_.size()) return;
    vectors_[vector].pending = true;
    deliver(vectors_[vector]);
  }
  [[nodiscard]] bool pending(std::uint32_t vector) const noexcept {
    return vector < vectors_.size() && vectors_[vector].pending;
  }
  // Interrupts that were delivered.
  [[nodiscard]] std::uint64_t delivered() const noexcept { return delivered_; }

  // The server's side; `vector` is below count(). An empty descriptor disables the vector, and what is
  // pending for it is dropped.
  void set_eventfd(std::uint32_t vector, posix::unique_fd fd) noexcept {
    vectors_[vector].eventfd = std::move(fd);
    if (!vectors_[vector].eventfd) vectors_[vector].pending = false;
    deliver(vectors_[vector]);
  }
  void set_masked(std::uint32_t vector, bool masked) noexcept {
    vectors_[vector].masked = masked;
    deliver(vectors_[vector]);
  }
  void clear() noexcept {
    for (entry& e : vectors_) e = {};
  }
  // For another process that takes over. The descriptor is -1 where the vector has none.
  struct vector_state {
    int eventfd = -1;
    bool masked = false;
    bool pending = false;
  };
  [[nodiscard]] vector_state state_of(std::uint32_t vector) const noexcept {
    const entry& e = vectors_[vector];
    return {e.eventfd.get(), e.masked, e.pending};
  }
  void restore(std::uint32_t vector, posix::unique_fd eventfd, bool masked, bool pending) noexcept {
    vectors_[vector] = {std::move(eventfd), masked, pending};
    deliver(vectors_[vector]);
  }
  void drop_pending() noexcept {
    for (entry& e : vectors_) e.pending = false;
  }

 private:
  struct entry {
    posix::unique_fd eventfd;
    bool masked = false;
    bool pending = false;
  };

  void deliver(entry& e) noexcept {
    if (!e.pending || e.masked || !e.eventfd) return;
    e.pending = false;
    ++delivered_;
    const std::uint64_t one = 1;
    while (::write(e.eventfd.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

  std::vector<entry> vectors_;
  std::uint64_t delivered_ = 0;
};
static_assert(InterruptSink<irq_vectors>);

// Both, for one function. Outlives the device model, which is built over dma and interrupts, and the
// server, which fills them.
struct host {
  // `vectors` is the size of the function's MSI-X table.
  explicit host(std::uint16_t vectors, std::size_t most_ranges = default_max_dma_maps)
      : dma(most_ranges), interrupts(vectors) {}

  dma_port dma;
  irq_vectors interrupts;
};

}  // namespace phasebit::transport::vfio_user
