// SPDX-License-Identifier: BSL-1.0
// The client side of vfio-user: a PCIe function that another process serves, as a backend for drivers.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vfio_user/capabilities.hpp>
#include <phasebit/transport/vfio_user/message_channel.hpp>
#include <phasebit/transport/vfio_user/messages.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace phasebit::transport::vfio_user {

struct client_options {
  // Memory that allocate() gives out, and the bus address of its first byte.
  std::size_t memory_bytes = std::size_t{64} << 20;
  std::uint64_t memory_base = 0x1'0000'0000;
  // The server maps that memory. Without, it reads and writes it by messages, which this process
  // answers while it waits for the function: in register accesses, clock().relax() and serve().
  bool share_memory = true;
  // Asks for a second socket for these messages.
  bool twin_socket = false;
  std::uint32_t reply_limit_ms = 5000;
};

namespace detail {

// The connection and everything that lives as long as it does. Takes a lock for each message.
class client_link {
 public:
  client_link(posix::unique_fd socket, const client_options& options)
      : options_(options), main_(std::move(socket)) {}

  [[nodiscard]] result<> negotiate() {
    const version_header mine{version_major, version_minor};
    const std::string text = write_capabilities(
        {.max_msg_fds = max_fds, .write_multiple = true, .twin_socket = options_.twin_socket},
        false);
    const std::lock_guard guard{lock_};
    const auto done = exchange(command::version, wire_bytes(mine), std::as_bytes(std::span{text}));
    if (!done) return done;
    const auto body = reply_.body();
    if (body.size() < sizeof mine) return wrong_reply(command::version);
    const auto theirs = load_wire<version_header>(body);
    if (theirs.major != version_major || theirs.minor > version_minor) {
      return failure(errc::not_supported, "the server speaks another version of vfio-user",
                     std::uint64_t{theirs.major} << 16 | theirs.minor);
    }
    std::string_view words{reinterpret_cast<const char*>(body.data()) + sizeof mine,
                           body.size() - sizeof mine};
    words = words.substr(0, words.find('\0'));
    const auto peer = parse_capabilities(words);
    if (!peer) return peer.error();
    peer_ = *peer;
    if (options_.twin_socket && peer_.twin_socket) {
      if (peer_.twin_fd_index >= reply_.fds.size()) return wrong_reply(command::version);
      twin_ = message_channel{std::move(reply_.fds[peer_.twin_fd_index])};
    }
    return {};
  }
  [[nodiscard]] result<> share_memory() {
    fd_ = posix::unique_fd{::memfd_create("phasebit-vfio-user", MFD_CLOEXEC)};
    if (!fd_ || ::ftruncate(fd_.get(), static_cast<::off_t>(options_.memory_bytes)) != 0) {
      return posix::os_error("the memory for DMA cannot be made");
    }
    auto mapping = posix::memory_mapping::shared(fd_.get(), options_.memory_bytes);
    if (!mapping) return mapping.error();
    memory_ = std::move(*mapping);
    extents_.resize(4096);
    arena_.emplace(dma_region{memory_.bytes(), bus_addr{options_.memory_base}}, extents_);
    const dma_map map{sizeof map, dma_flag_read | dma_flag_write, 0, options_.memory_base,
                      options_.memory_bytes};
    const std::array<int, 1> fds{fd_.get()};
    return request(command::dma_map, wire_bytes(map), {},
                   std::span{fds}.first(options_.share_memory ? 1 : 0));
  }

  // A request with a reply of which nothing is of interest.
  [[nodiscard]] result<> request(command what, std::span<const std::byte> payload,
                                 std::span<const std::byte> more = {},
                                 std::span<const int> fds = {}) {
    const std::lock_guard guard{lock_};
    return exchange(what, payload, more, fds);
  }
  // A request whose reply is seen by use(reply), which returns a result<>.
  template <class Use>
  [[nodiscard]] result<> request_with(command what, std::span<const std::byte> payload, Use use) {
    const std::lock_guard guard{lock_};
    if (const auto done = exchange(what, payload); !done) return done;
    return use(reply_);
  }
  [[nodiscard]] static error wrong_reply(command what) noexcept {
    return failure(errc::protocol, "the server's reply has the wrong size or content",
                   static_cast<std::uint64_t>(what));
  }

  // All ones where the server is gone or refuses.
  [[nodiscard]] std::uint64_t read(std::uint32_t region, std::uint64_t offset,
                                   unsigned bytes) noexcept {
    std::uint64_t value = ~std::uint64_t{0} >> (64 - 8 * bytes);
    const region_access a{offset, region, bytes};
    static_cast<void>(
        request_with(command::region_read, wire_bytes(a), [&](const message& m) -> result<> {
          if (m.payload.size() != sizeof a + bytes) return wrong_reply(command::region_read);
          value = 0;
          for (unsigned i = 0; i != bytes; ++i) {
            value |= static_cast<std::uint64_t>(m.payload[sizeof a + i]) << 8 * i;
          }
          return {};
        }));
    return value;
  }
  // Posted: the server sends no reply. Lost where it is gone.
  void write(std::uint32_t region, std::uint64_t offset, unsigned bytes,
             std::uint64_t value) noexcept {
    struct {
      region_access a;
      std::array<std::byte, 8> data;
    } m{{offset, region, bytes}, {}};
    for (unsigned i = 0; i != bytes; ++i) m.data[i] = static_cast<std::byte>(value >> 8 * i & 0xff);
    const std::lock_guard guard{lock_};
    const auto sent = main_.send({next_id_++, static_cast<std::uint16_t>(command::region_write), 0,
                                  type_command | flag_no_reply, 0},
                                 wire_bytes(m.a), std::span{m.data}.first(bytes));
    if (!sent) lost_ = true;
  }

  // Answers what the server has asked. Returns how much that was.
  unsigned serve() noexcept {
    const std::lock_guard guard{lock_};
    unsigned did = 0;
    while (!lost_ && serve_one(main_)) ++did;
    while (twin_ && !lost_ && serve_one(twin_)) ++did;
    return did;
  }
  [[nodiscard]] bool lost() const noexcept { return lost_; }
  [[nodiscard]] const capabilities& peer() const noexcept { return peer_; }
  [[nodiscard]] dma_arena<std::dynamic_extent>& arena() noexcept { return *arena_; }
  [[nodiscard]] std::mutex& lock() noexcept { return lock_; }

 private:
  [[nodiscard]] result<> gone() const noexcept {
    return failure(errc::removed, "the vfio-user server has closed the connection");
  }
  // Sends a command and waits for its reply, which is in reply_ then. The lock is held.
  [[nodiscard]] result<> exchange(command what, std::span<const std::byte> payload,
                                  std::span<const std::byte> more = {},
                                  std::span<const int> fds = {}) {
    if (lost_) return gone();
    const std::uint16_t id = next_id_++;
    const auto sent =
        main_.send({id, static_cast<std::uint16_t>(what), 0, type_command, 0}, payload, more, fds);
    if (!sent) {
      lost_ = true;
      return sent;
    }
    const std::uint64_t end =
        posix::steady_clock::now() + options_.reply_limit_ms * nanoseconds_per_ms;
    for (;;) {
      if (receive(main_, reply_)) {
        if (!reply_.is_reply()) {
          answer(main_, reply_);
          continue;
        }
        if (reply_.header.message_id != id || reply_.command() != what)
          continue;  // of one given up
        if (reply_.refused != 0) return wrong_reply(what);
        if ((reply_.header.flags & flag_error) != 0) {
          return posix::os_error("the vfio-user server refuses a request",
                                 static_cast<int>(reply_.header.error & 0xfff))
              .at(static_cast<std::uint32_t>(what));
        }
        return {};
      }
      if (lost_) return gone();
      if (twin_ && serve_one(twin_)) continue;
      const std::uint64_t now = posix::steady_clock::now();
      if (now >= end) {
        return failure(errc::timed_out, "the vfio-user server does not answer",
                       static_cast<std::uint64_t>(what));
      }
      std::array<::pollfd, 2> wait{{{main_.fd(), POLLIN, 0}, {twin_.fd(), POLLIN, 0}}};
      static_cast<void>(::poll(wait.data(), wait.size(), posix::poll_timeout(now, end)));
    }
  }
  [[nodiscard]] bool receive(message_channel& from, message& to) {
    const auto got = from.receive(to);
    if (!got || *got == receive_status::closed) lost_ = true;
    return got && *got == receive_status::complete;
  }
  bool serve_one(message_channel& from) {
    if (!receive(from, asked_)) return false;
    if (!asked_.is_reply()) answer(from, asked_);
    return true;
  }
  // DMA_READ and DMA_WRITE within the arena; everything else is refused.
  void answer(message_channel& to, const message& m) {
    const bool reading = m.command() == command::dma_read;
    const bool writing = m.command() == command::dma_write;
    std::uint32_t error = m.refused != 0 ? static_cast<std::uint32_t>(m.refused) : EINVAL;
    dma_access a{};
    std::span<const std::byte> data;
    if (m.refused == 0 && (reading || writing) && m.payload.size() >= sizeof a) {
      a = load_wire<dma_access>(m.body());
      const std::uint64_t offset = a.address - options_.memory_base;
      const std::uint64_t given = m.payload.size() - sizeof a;
      if (memory_ && offset < memory_.size() && a.count <= memory_.size() - offset &&
          a.count <= default_max_transfer && given == (reading ? 0 : a.count)) {
        const auto there =
            memory_.bytes().subspan(int_cast<std::size_t>(offset), int_cast<std::size_t>(a.count));
        error = 0;
        if (reading) {
          data = there;
        } else {
          // An aligned word becomes visible whole, and after what was written before.
          write_memory(there, m.body().subspan(sizeof a));
        }
      }
    }
    if (!m.wants_reply()) return;
    const message_header h{m.header.message_id, m.header.command, 0,
                           error == 0 ? type_reply : type_reply | flag_error, error};
    const auto sent = error == 0 ? to.send(h, wire_bytes(a), data) : to.send(h, {});
    if (!sent) lost_ = true;
  }
  // Rings are polled by other threads: whole dwords, in order, the last dword last.
  static void write_memory(std::span<std::byte> to, std::span<const std::byte> from) noexcept {
    const bool words = reinterpret_cast<std::uintptr_t>(to.data()) % 4 == 0 && to.size() % 4 == 0;
    const std::size_t tail = words && to.size() <= 64 ? to.size() : 0;
    if (tail == 0) {
      copy_shared(to, from);
      return;
    }
    for (std::size_t i = 0; i != to.size(); i += 4) {
      std::uint32_t word = 0;
      std::memcpy(&word, from.data() + i, sizeof word);
      thread_order::store(*reinterpret_cast<std::uint32_t*>(to.data() + i), word);
    }
  }

  client_options options_;
  std::mutex lock_;
  message_channel main_;
  message_channel twin_;
  message reply_;
  message asked_;
  capabilities peer_;
  std::uint16_t next_id_ = 1;
  bool lost_ = false;
  posix::unique_fd fd_;
  posix::memory_mapping memory_;
  std::vector<dma_arena<std::dynamic_extent>::extent> extents_;
  std::optional<dma_arena<std::dynamic_extent>> arena_;
};

// A region: its size, and what of it is mapped.
struct client_region {
  struct area {
    std::uint64_t offset = 0;
    posix::memory_mapping mapping;
  };
  std::uint32_t index = 0;
  std::uint64_t size = 0;
  std::vector<area> areas;

  // Where `bytes` bytes of the region are mapped, or null.
  [[nodiscard]] std::byte* at(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    for (const area& a : areas) {
      const std::uint64_t within = offset - a.offset;
      if (within < a.mapping.size() && bytes <= a.mapping.size() - within) {
        return a.mapping.data() + within;
      }
    }
    return nullptr;
  }
};

}  // namespace detail

// A doorbell: a store where the server lets it be mapped, a posted message elsewhere.
class client_doorbell {
 public:
  client_doorbell() noexcept = default;
  client_doorbell(std::byte* mapped, detail::client_link& link, std::uint32_t region,
                  std::uint32_t offset) noexcept
      : mapped_(mapped), link_(&link), region_(region), offset_(offset) {}

  void ring(std::uint32_t value) noexcept {
    if (mapped_ != nullptr) {
      pcie::mmio_doorbell{mapped_}.ring(value);
    } else {
      link_->write(region_, offset_, 4, value);
    }
  }

 private:
  std::byte* mapped_ = nullptr;
  detail::client_link* link_ = nullptr;
  std::uint32_t region_ = 0;
  std::uint32_t offset_ = 0;
};
static_assert(DoorbellSink<client_doorbell>);

// Registers of a BAR: messages, or loads and stores where it is mapped. A view; the client outlives it. Any
// number of threads.
class client_bar {
 public:
  client_bar() noexcept = default;
  client_bar(detail::client_link& link, const detail::client_region& region) noexcept
      : link_(&link), region_(&region) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    if (std::byte* const at = region_->at(offset, 4); at != nullptr) {
      return pcie::mapped_bar{{at, 4}}.read32(0);
    }
    return static_cast<std::uint32_t>(link_->read(region_->index, offset, 4));
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    if (std::byte* const at = region_->at(offset, 4); at != nullptr) {
      pcie::mapped_bar{{at, 4}}.write32(0, value);
    } else {
      link_->write(region_->index, offset, 4, value);
    }
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    if (std::byte* const at = region_->at(offset, 8); at != nullptr) {
      return pcie::mapped_bar{{at, 8}}.read64(0);
    }
    return link_->read(region_->index, offset, 8);
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return region_->size; }
  [[nodiscard]] client_doorbell doorbell(std::uint32_t offset) noexcept {
    return {region_->at(offset, 4), *link_, region_->index, offset};
  }

 private:
  detail::client_link* link_ = nullptr;
  const detail::client_region* region_ = nullptr;
};
static_assert(Mmio<client_bar>);

// Configuration space by messages. A view; any number of threads.
class client_config {
 public:
  explicit client_config(detail::client_link& link) noexcept : link_(&link) {}

  [[nodiscard]] std::uint8_t read8(std::uint16_t offset) const noexcept {
    return static_cast<std::uint8_t>(link_->read(config_region, offset, 1));
  }
  [[nodiscard]] std::uint16_t read16(std::uint16_t offset) const noexcept {
    return static_cast<std::uint16_t>(link_->read(config_region, offset, 2));
  }
  [[nodiscard]] std::uint32_t read32(std::uint16_t offset) const noexcept {
    return static_cast<std::uint32_t>(link_->read(config_region, offset, 4));
  }
  void write8(std::uint16_t offset, std::uint8_t value) noexcept {
    link_->write(config_region, offset, 1, value);
  }
  void write16(std::uint16_t offset, std::uint16_t value) noexcept {
    link_->write(config_region, offset, 2, value);
  }
  void write32(std::uint16_t offset, std::uint32_t value) noexcept {
    link_->write(config_region, offset, 4, value);
  }
  [[nodiscard]] static constexpr std::uint32_t size_bytes() noexcept { return 4096; }

 private:
  detail::client_link* link_;
};
static_assert(ConfigSpace<client_config>);

// Time passes as on steady_clock; relax() answers the server's messages and yields.
class client_clock {
 public:
  explicit client_clock(detail::client_link& link) noexcept : link_(&link) {}
  [[nodiscard]] static std::uint64_t now() noexcept { return posix::steady_clock::now(); }
  void relax() noexcept {
    static_cast<void>(link_->serve());
    ::sched_yield();
  }

 private:
  detail::client_link* link_;
};
static_assert(PollClock<client_clock>);

// A function that a vfio-user server offers. A PcieBackend with interrupts and reset. A server that goes away
// is a function that was removed: registers read all ones, writes are lost. Connect again then.
//
// Registers, configuration space and memory by any thread; each interrupt vector by one at a time; set-up
// by one thread. The server is not trusted: sizes of replies, capability lists and DMA addresses are
// checked.
class client {
 public:
  using bar_type = client_bar;
  using ring_order = thread_order;

  // Errors: not_found (no server at the path), not_supported (another version), protocol, and what the
  // server refuses, as an errno.
  [[nodiscard]] static result<client> connect(std::string_view path,
                                              const client_options& options = {}) {
    auto socket = posix::connect_unix(path);
    if (!socket) return socket.error();
    return connect(std::move(*socket), options);
  }
  [[nodiscard]] static result<client> connect(posix::unique_fd socket,
                                              const client_options& options = {}) {
    client made{std::make_unique<detail::client_link>(std::move(socket), options)};
    detail::client_link& link = *made.link_;
    if (const auto done = link.negotiate(); !done) return done.error();
    if (const auto done = made.describe(); !done) return done.error();
    if (const auto done = link.share_memory(); !done) return done.error();
    auto config = made.config();
    const pcie::command_register command{config.read16(pcie::header::command)};
    config.write16(pcie::header::command, command.with(pcie::command_register::memory_space, true)
                                              .with(pcie::command_register::bus_master, true)
                                              .raw);
    return made;
  }
  client(client&&) noexcept = default;
  client& operator=(client&&) noexcept = default;

  [[nodiscard]] client_config config() const noexcept { return client_config{*link_}; }
  // Errors: not_found where there is no such BAR.
  [[nodiscard]] result<client_bar> map_bar(unsigned index) noexcept {
    if (index >= regions_->size() || (*regions_)[index].size == 0) {
      return failure(errc::not_found, "the function has no such BAR").at(index);
    }
    return client_bar{*link_, (*regions_)[index]};
  }
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    const std::lock_guard guard{link_->lock()};
    return link_->arena().allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept {
    const std::lock_guard guard{link_->lock()};
    link_->arena().release(region);
  }
  [[nodiscard]] client_clock& clock() noexcept { return clock_; }

  // Answers what the server asks: needed without shared memory, where nothing else of this object is
  // called. Returns how many messages there were.
  unsigned serve() noexcept { return link_->serve(); }
  // The server has closed the connection.
  [[nodiscard]] bool removed() const noexcept { return link_->lost(); }
  [[nodiscard]] const capabilities& server() const noexcept { return link_->peer(); }

  // Function reset by DEVICE_RESET. Registers and in-flight work are gone; BARs stay mapped.
  [[nodiscard]] result<> reset() noexcept { return link_->request(command::device_reset, {}); }

  [[nodiscard]] unsigned interrupt_vectors() const noexcept { return vectors_; }
  [[nodiscard]] result<> enable_interrupts(unsigned count) noexcept {
    if (count == 0 || count > vectors_) {
      return failure(errc::out_of_range,
                     "the function has fewer MSI-X vectors, or none is asked for", count);
    }
    std::vector<posix::unique_fd> made(count);
    for (auto& fd : made) {
      fd = posix::unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
      if (!fd) return posix::os_error("an eventfd cannot be made");
    }
    const unsigned most = std::min<unsigned>(max_fds, link_->peer().max_msg_fds);
    for (unsigned start = 0; start != count;) {
      std::array<int, max_fds> fds{};
      const unsigned n = std::min(most, count - start);
      for (unsigned i = 0; i != n; ++i) fds[i] = made[start + i].get();
      const irq_set set{sizeof set, irq_data_eventfd | irq_action_trigger, msix_irq, start, n};
      const auto done =
          link_->request(command::device_set_irqs, wire_bytes(set), {}, std::span{fds}.first(n));
      if (!done) return done;
      start += n;
    }
    events_ = std::move(made);
    auto space = config();
    if (const auto capability = pcie::read_msix(space)) {
      pcie::set_msix_control(space, *capability, true);
    }
    return {};
  }
  [[nodiscard]] result<> disable_interrupts() noexcept {
    auto space = config();
    if (const auto capability = pcie::read_msix(space)) {
      pcie::set_msix_control(space, *capability, false);
    }
    const irq_set set{sizeof set, irq_data_none | irq_action_trigger, msix_irq, 0, 0};
    const auto done = link_->request(command::device_set_irqs, wire_bytes(set));
    if (done) events_.clear();
    return done;
  }
  [[nodiscard]] bool poll_interrupt(unsigned vector) noexcept {
    if (vector >= events_.size()) return false;
    std::uint64_t count = 0;
    return ::read(events_[vector].get(), &count, sizeof count) == sizeof count;
  }
  [[nodiscard]] bool wait_interrupt(unsigned vector, std::uint64_t nanoseconds) noexcept {
    if (vector >= events_.size()) return false;
    const auto ready = posix::wait_readable(events_[vector].get(), to_milliseconds(nanoseconds));
    return ready && *ready && poll_interrupt(vector);
  }

  // One driver at a time: nvme::attach() claims the function, and a second attach is refused (busy).
  [[nodiscard]] result<> claim() noexcept {
    if (std::exchange(claimed_, true)) {
      return failure(errc::busy, "a driver is attached to the function already: detach it first");
    }
    return {};
  }
  void unclaim() noexcept { claimed_ = false; }

 private:
  using region_array = std::array<detail::client_region, pcie::type0_bars>;

  explicit client(std::unique_ptr<detail::client_link> link)
      : link_(std::move(link)), regions_(std::make_unique<region_array>()), clock_(*link_) {}

  [[nodiscard]] result<> describe() {
    device_info info{sizeof info, 0, 0, 0};
    auto done = link_->request_with(command::device_get_info, wire_bytes(info),
                                    [&](const message& m) -> result<> {
                                      if (m.payload.size() < sizeof info)
                                        return link_->wrong_reply(command::device_get_info);
                                      info = load_wire<device_info>(m.body());
                                      return {};
                                    });
    if (!done) return done;
    if ((info.flags & device_flag_pci) == 0 || info.num_regions <= config_region) {
      return failure(errc::not_supported, "the vfio-user server offers no PCI function",
                     info.flags);
    }
    for (std::uint32_t i = 0; i != regions_->size(); ++i) {
      if (done = describe_region(i, (*regions_)[i]); !done) return done;
    }
    if (info.num_irqs <= msix_irq) return {};
    const irq_info asked{sizeof asked, 0, msix_irq, 0};
    return link_->request_with(command::device_get_irq_info, wire_bytes(asked),
                               [&](const message& m) -> result<> {
                                 if (m.payload.size() < sizeof asked)
                                   return link_->wrong_reply(command::device_get_irq_info);
                                 const auto irqs = load_wire<irq_info>(m.body());
                                 vectors_ = std::min<unsigned>(irqs.count, pcie::msix::max_vectors);
                                 return {};
                               });
  }
  [[nodiscard]] result<> describe_region(std::uint32_t index, detail::client_region& region) {
    constexpr std::uint32_t space = 1024;
    const region_info asked{space, 0, index, 0, 0, 0};
    return link_->request_with(command::device_get_region_info, wire_bytes(asked),
                               [&](message& m) -> result<> {
                                 region_info info{};
                                 if (m.payload.size() < sizeof info) {
                                   return link_->wrong_reply(command::device_get_region_info);
                                 }
                                 info = load_wire<region_info>(m.body());
                                 region.index = index;
                                 region.size = info.size;
                                 if ((info.flags & region_flag_mmap) == 0 || m.fds.size() != 1)
                                   return {};
                                 return map_region(region, info, m.body(), m.fds[0]);
                               });
  }
  // Maps the areas of the sparse capability, or the whole region where there is none.
  [[nodiscard]] static result<> map_region(detail::client_region& region, const region_info& info,
                                           std::span<const std::byte> bytes,
                                           const posix::unique_fd& fd) {
    std::vector<sparse_mmap_area> areas;
    bool sparse = false;
    std::size_t at = (info.flags & region_flag_caps) != 0 ? info.cap_offset : 0;
    for (int hops = 0; at != 0 && hops != 16; ++hops) {
      if (at > bytes.size() || bytes.size() - at < sizeof(capability_header)) break;
      const auto header = load_wire<capability_header>(bytes.subspan(at));
      if (header.id == sparse_mmap_capability && bytes.size() - at >= sizeof(sparse_mmap_header)) {
        sparse = true;
        const auto head = load_wire<sparse_mmap_header>(bytes.subspan(at));
        std::size_t next = at + sizeof head;
        for (std::uint32_t i = 0; i != head.areas; ++i, next += sizeof(sparse_mmap_area)) {
          if (next > bytes.size() || bytes.size() - next < sizeof(sparse_mmap_area)) break;
          areas.push_back(load_wire<sparse_mmap_area>(bytes.subspan(next)));
        }
      }
      at = header.next;
    }
    if (!sparse) areas.push_back({0, region.size});
    for (const sparse_mmap_area& a : areas) {
      if (a.size == 0 || a.offset > region.size || a.size > region.size - a.offset ||
          info.offset + a.offset < info.offset) {
        return failure(errc::protocol, "the server offers to map what is not in the region",
                       a.offset);
      }
      auto mapping = posix::memory_mapping::shared(fd.get(), int_cast<std::size_t>(a.size),
                                                   info.offset + a.offset);
      if (!mapping) return mapping.error();
      region.areas.push_back({a.offset, std::move(*mapping)});
    }
    return {};
  }

  std::unique_ptr<detail::client_link> link_;
  std::unique_ptr<region_array> regions_;
  client_clock clock_;
  std::vector<posix::unique_fd> events_;
  unsigned vectors_ = 0;
  bool claimed_ = false;
};
static_assert(PcieBackend<client>);
static_assert(InterruptSource<client>);
static_assert(ResettableFunction<client>);

}  // namespace phasebit::transport::vfio_user
