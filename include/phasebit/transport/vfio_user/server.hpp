// SPDX-License-Identifier: BSL-1.0
// The server side of vfio-user: a PCIe function of this process, for a virtual machine or any other
// client.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/description.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/device/msix_table.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vfio_user/capabilities.hpp>
#include <phasebit/transport/vfio_user/handover.hpp>
#include <phasebit/transport/vfio_user/host.hpp>
#include <phasebit/transport/vfio_user/message_channel.hpp>
#include <phasebit/transport/vfio_user/messages.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace phasebit::transport::vfio_user {

// Part of a BAR that the client may map: `bytes` at `offset` of the BAR and of the file alike, on pages.
struct bar_memory {
  int fd = -1;  // -1: nothing may be mapped
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// A device model behind a server. All calls come from the thread that polls the server.
//     description()     the function; constant. The server implements configuration space and MSI-X table.
//     read, write       1, 2, 4 or 8 bytes of a BAR at their own alignment, outside of the MSI-X table.
//                       They do no DMA. read() may be called while poll() waits for a DMA by messages.
//     access_bytes      writes are multiples of this many bytes; others are refused with EINVAL
//     shared_memory     the part of the BAR that the client may map
//     poll()            bounded work; 0 is idle
//     reset()           as after power-on, and not paused; drained() is true when no memory of the client
//                       is accessed any more
//     pause(), paused() stops taking work; paused: no memory of the client is accessed until resume()
template <class T>
concept ServedDevice = requires(T& device, const T& constant, unsigned bar, std::uint64_t offset,
                                unsigned bytes, std::uint64_t value) {
  { T::access_bytes } -> std::convertible_to<unsigned>;
  { constant.description() } noexcept -> std::convertible_to<const pcie::function_description&>;
  { device.read(bar, offset, bytes) } noexcept -> std::same_as<std::uint64_t>;
  { device.write(bar, offset, bytes, value) } noexcept -> std::same_as<void>;
  { constant.shared_memory(bar) } noexcept -> std::same_as<bar_memory>;
  { device.poll() } noexcept -> std::same_as<unsigned>;
  { device.reset() } noexcept;
  { constant.drained() } noexcept -> std::same_as<bool>;
  { device.pause() } noexcept;
  { constant.paused() } noexcept -> std::same_as<bool>;
  { device.resume() } noexcept;
};

enum class server_state : std::uint8_t {
  waiting,    // for connect()
  connected,  // to a client
  closing,    // the client is gone; the device drains
};

struct server_options {
  // How long a DMA by messages waits for the client. It fails afterwards.
  std::uint32_t message_dma_limit_ms = 5000;
  // Offers the client a second socket for DMA_READ and DMA_WRITE.
  bool twin_socket = true;
};

struct server_counters {
  std::uint64_t connections = 0;
  std::uint64_t messages = 0;
  std::uint64_t refused = 0;  // of these, refused
};

// Serves one client after the other: messages and the device, in poll(). The device is reset when a
// client leaves. Nothing waits but DMA to memory that the client did not share, where
// dma_port::set_messages_in_flight() does not allow data to be delivered later. DMA_UNMAP, DEVICE_RESET
// and a function-level reset are answered when the device has released the client's memory.
//
// While the device waits for such a DMA, region reads, configuration accesses and information are
// answered at once: clients hold locks over them. Writes to BARs that arrive meanwhile take effect when
// the device's poll() has returned, so that a read in between shows the earlier value.
//
// A client is hostile: sizes, counts of descriptors, indices and addresses are checked. A message that is
// refused changes nothing and its descriptors are closed; it is answered with an errno, and the
// connection stays. EINVAL: the message is wrong. ENOTSUP: not supported (migration, I/O descriptors,
// features). ENOENT: DMA_UNMAP of what is not mapped. ENOMEM: no more ranges. One thread at a time.
template <ServedDevice Device>
class server final : private message_dma {
 public:
  // Both outlive the server. Errors: those of pcie::emit_function.
  [[nodiscard]] static result<std::unique_ptr<server>> create(host& h, Device& device,
                                                              const server_options& options = {}) {
    std::unique_ptr<server> made{new server{h, device, options}};
    if (const auto good = made->emit_config(); !good) return good.error();
    return made;
  }
  server(const server&) = delete;
  server& operator=(const server&) = delete;
  ~server() { host_->dma.set_messages(nullptr); }

  [[nodiscard]] server_state state() const noexcept { return state_; }
  // Why the connection was lost, or what was last refused.
  [[nodiscard]] const error& last_error() const noexcept { return last_error_; }
  [[nodiscard]] const server_counters& counters() const noexcept { return counters_; }
  // To wait on while there is nothing to do; -1 without a client.
  [[nodiscard]] int socket() const noexcept { return main_.fd(); }

  // The next client. Precondition: waiting.
  void connect(posix::unique_fd client) noexcept {
    PHASEBIT_EXPECTS(state_ == server_state::waiting, "a server has one client at a time");
    main_ = message_channel{std::move(client)};
    state_ = server_state::connected;
    ++counters_.connections;
    host_->dma.set_messages(this);
  }
  // Ends the connection; poll() until waiting().
  void disconnect() noexcept {
    if (state_ == server_state::connected) begin_close();
  }

  // One round of the device, and a few messages. Returns how much was done.
  unsigned poll() {
    unsigned did = device_->poll();
    if (state_ == server_state::waiting) return did;
    if (state_ == server_state::closing || lost_) {
      if (state_ == server_state::connected) begin_close();
      if (device_->drained()) finish_close();
      return did + 1;
    }
    if (host_->dma.any_copies()) did += take_copies();
    if (holding_ != hold::nothing) return did + release_hold();
    if (std::exchange(reset_requested_, false)) {
      begin_reset(hold::function_reset);
      return did + 1;
    }
    // Looking for a message is a system call: while the device is busy, not in each round.
    if (did != 0 && ++rounds_ % busy_rounds != 0 && deferred_.empty()) return did;
    for (int i = 0; i != messages_per_round && holding_ == hold::nothing && !lost_; ++i) {
      if (!next_message()) break;
      ++did;
      handle(message_);
      if (std::exchange(reset_requested_, false)) begin_reset(hold::function_reset);
    }
    return did;
  }

  // Whether poll() has work for which no descriptor becomes readable.
  [[nodiscard]] bool busy() const noexcept {
    return state_ == server_state::closing || lost_ || holding_ != hold::nothing ||
           !deferred_.empty() || host_->dma.any_copies();
  }

  // -- hand-over to another process; the device's part is the device's --

  // The state between two messages, which another process can go on from. The device is paused meanwhile,
  // and this server is not polled afterwards unless the other process gives up.
  [[nodiscard]] bool can_hand_over() const noexcept {
    return state_ != server_state::closing && !lost_ && holding_ == hold::nothing &&
           deferred_.empty() && !reset_requested_ && !host_->dma.any_copies() &&
           main_.between_messages() && (!twin_ || twin_.between_messages());
  }
  // Precondition: can_hand_over(). Errors: those of message_channel::send.
  [[nodiscard]] result<> hand_over(message_channel& to) const {
    server_record r{};
    r.version = server_record::current_version;
    r.config_bytes = sizeof config_;
    r.vectors = host_->interrupts.count();
    r.ranges = static_cast<std::uint32_t>(host_->dma.table().size());
    r.connected = state_ == server_state::connected;
    r.negotiated = negotiated_;
    r.bus_master = host_->dma.is_bus_master();
    r.next_id = next_id_;
    r.peer = peer_;
    std::array<int, 2> sockets{main_.fd(), twin_.fd()};
    r.sockets = main_ ? (twin_ ? 2U : 1U) : 0U;
    if (const auto sent =
            send_record(to, record_kind::server, std::as_bytes(std::span{&r, 1}),
                        std::as_bytes(std::span{&config_, 1}), std::span{sockets}.first(r.sockets));
        !sent) {
      return sent;
    }
    std::vector<std::uint32_t> table(vectors_.size() * 4);
    for (std::uint32_t i = 0; i != table.size(); ++i) table[i] = msix_.read_table(i);
    if (const auto sent = send_record(to, record_kind::msix_table, std::as_bytes(std::span{table}));
        !sent) {
      return sent;
    }
    if (const auto sent = send_vectors(to, host_->interrupts); !sent) return sent;
    return send_ranges(to, host_->dma.table());
  }
  // Precondition: waiting, and never connected. Errors: not_supported (another version or layout), protocol,
  // timed_out, and those of mapping memory; the server is of no use then.
  [[nodiscard]] result<> take_over(message_channel& from) {
    PHASEBIT_EXPECTS(state_ == server_state::waiting,
                     "a server takes over before its first client");
    message m;
    if (const auto got = receive_record(from, record_kind::server, m); !got) return got;
    server_record r{};
    if (m.payload.size() != sizeof r + sizeof config_) {
      return failure(errc::not_supported, "the other process has another layout of the server",
                     m.payload.size());
    }
    std::memcpy(&r, m.payload.data(), sizeof r);
    if (r.version != server_record::current_version || r.config_bytes != sizeof config_ ||
        r.vectors != host_->interrupts.count() || r.sockets != m.fds.size() || r.sockets > 2) {
      return failure(errc::not_supported, "the other process serves another function", r.version);
    }
    static_assert(std::is_trivially_copyable_v<image>);
    std::memcpy(static_cast<void*>(&config_), m.payload.data() + sizeof r, sizeof config_);
    if (r.sockets > 0) main_ = message_channel{std::move(m.fds[0])};
    if (r.sockets > 1) twin_ = message_channel{std::move(m.fds[1])};
    negotiated_ = r.negotiated;
    next_id_ = r.next_id;
    peer_ = r.peer;
    host_->dma.set_bus_master(r.bus_master);
    if (const auto got = receive_record(from, record_kind::msix_table, m); !got) return got;
    if (m.payload.size() != vectors_.size() * 16) {
      return failure(errc::protocol, "the hand-over has another MSI-X table", m.payload.size());
    }
    for (std::uint32_t i = 0; i != vectors_.size() * 4; ++i) {
      std::uint32_t word = 0;
      std::memcpy(&word, m.payload.data() + std::size_t{i} * 4, sizeof word);
      msix_.write_table(i, word);
    }
    if (const auto got = receive_vectors(from, host_->interrupts); !got) return got;
    if (const auto got = receive_ranges(from, host_->dma.table(), r.ranges); !got) return got;
    if (r.connected) {
      state_ = server_state::connected;
      ++counters_.connections;
      host_->dma.set_messages(this);
    }
    return {};
  }

 private:
  using image = pcie::config_image<pcie::extended_config_bytes>;
  enum class hold : std::uint8_t { nothing, unmap, reset, function_reset };

  static constexpr int messages_per_round = 16;
  static constexpr unsigned busy_rounds = 4;
  static constexpr std::size_t most_deferred = 4096;
  static constexpr std::size_t most_deferred_bytes = std::size_t{16} << 20;

  server(host& h, Device& device, const server_options& options)
      : host_(&h),
        device_(&device),
        options_(options),
        vectors_(device.description().msix ? device.description().msix->vectors : 0),
        msix_(vectors_, ignored_) {
    PHASEBIT_EXPECTS(h.interrupts.count() == vectors_.size(),
                     "the host has another number of vectors than the function");
  }
  [[nodiscard]] const pcie::function_description& description() const noexcept {
    return device_->description();
  }
  [[nodiscard]] result<> emit_config() noexcept {
    const auto layout = pcie::emit_function(config_, description());
    if (!layout) return layout.error();
    layout_ = *layout;
    return {};
  }

  // ---- connection --------------------------------------------------------------------------------

  void lose(const error& why) noexcept {
    last_error_ = why;
    lost_ = true;
  }
  void begin_close() noexcept {
    state_ = server_state::closing;
    host_->dma.set_messages(nullptr);
    host_->dma.fail_copies();
    main_.close();
    twin_.close();
    deferred_.clear();
    deferred_bytes_ = 0;
    holding_ = hold::nothing;
    reset_requested_ = false;
    device_->reset();
  }
  void finish_close() noexcept {
    host_->dma.table().clear();
    host_->interrupts.clear();
    reset_function();
    static_cast<void>(emit_config());
    host_->dma.set_bus_master(false);
    negotiated_ = false;
    lost_ = false;
    peer_ = {};
    state_ = server_state::waiting;
  }
  // The next message into message_; false: there is none.
  [[nodiscard]] bool next_message() {
    if (!deferred_.empty()) {
      message_ = std::move(deferred_.front());
      deferred_.pop_front();
      deferred_bytes_ -= message_.payload.size();
      return true;
    }
    return receive(main_, message_);
  }
  [[nodiscard]] bool receive(message_channel& from, message& to) {
    const auto got = from.receive(to);
    if (!got) {
      lose(got.error());
      return false;
    }
    if (*got == receive_status::closed) {
      lose(failure(errc::removed, "the client has closed the connection"));
    }
    return *got == receive_status::complete;
  }

  // ---- resets and unmapping ----------------------------------------------------------------------

  // Precondition: not within the device.
  void begin_reset(hold what) noexcept {
    device_->reset();
    holding_ = what;
    static_cast<void>(release_hold());
  }
  // The state that survives a reset of the function: command register, addresses and interrupt
  // line, which the client's kernel restores in hardware. Eventfds stay.
  void reset_function() noexcept {
    const std::uint32_t command = config_.read(pcie::header::command, 2);
    const std::uint32_t line = config_.read(pcie::header::interrupt_line, 1);
    std::array<std::uint32_t, pcie::type0_bars> bars{};
    for (unsigned i = 0; i != bars.size(); ++i) {
      bars[i] = config_.read(pcie::header::bar0 + 4 * i, 4);
    }
    static_cast<void>(emit_config());
    for (unsigned i = 0; i != bars.size(); ++i) {
      static_cast<void>(config_.write(pcie::header::bar0 + 4 * i, 4, bars[i]));
    }
    static_cast<void>(config_.write(pcie::header::command, 2, command));
    static_cast<void>(config_.write(pcie::header::interrupt_line, 1, line));
    msix_.reset();
    host_->interrupts.drop_pending();
  }
  // Goes on with what waits for the device; returns how much was done.
  unsigned release_hold() noexcept {
    switch (holding_) {
      case hold::nothing:
        return 0;
      case hold::unmap:
        if (!device_->paused()) return 0;
        unmap();
        device_->resume();
        break;
      case hold::reset:
      case hold::function_reset:
        if (!device_->drained()) return 0;
        reset_function();
        if (holding_ == hold::reset) reply(message_, {});
        break;
    }
    holding_ = hold::nothing;
    return 1;
  }

  // ---- replies -----------------------------------------------------------------------------------

  // Notes why a message is refused, and returns the errno that answers it.
  [[nodiscard]] int refuse(int number, const char* what, std::uint64_t value = 0) noexcept {
    const errc code = number == ENOTSUP ? errc::not_supported : errc::protocol;
    return refuse(number, failure(code, what, value));
  }
  [[nodiscard]] int refuse(int number, const error& why) noexcept {
    last_error_ = why;
    return number;
  }
  void reply(const message& m, std::span<const std::byte> payload,
             std::span<const std::byte> more = {}, std::span<const int> fds = {}) noexcept {
    if (!m.wants_reply()) return;
    const auto sent =
        main_.send({m.header.message_id, m.header.command, 0, type_reply, 0}, payload, more, fds);
    if (!sent) lose(sent.error());
  }
  void reply_error(const message& m, int number) noexcept {
    ++counters_.refused;
    if (!m.wants_reply()) return;
    const auto sent = main_.send({m.header.message_id, m.header.command, 0, type_reply | flag_error,
                                  static_cast<std::uint32_t>(number)},
                                 {});
    if (!sent) lose(sent.error());
  }

  // ---- messages ----------------------------------------------------------------------------------

  void handle(message& m) noexcept {
    ++counters_.messages;
    if (take_reply(m)) return;
    if (m.is_reply() && m.refused == 0) {
      // A reply cannot be answered.
      ++counters_.refused;
      static_cast<void>(
          refuse(EINVAL, "a reply arrived that was not waited for", m.header.command));
      m.fds.clear();
      return;
    }
    const int number = dispatch(m);
    m.fds.clear();
    if (number != 0) reply_error(m, number);
  }
  [[nodiscard]] int dispatch(message& m) noexcept {
    if (m.refused != 0) {
      return refuse(m.refused, "a message is too short, too long, or has too many descriptors",
                    m.header.size);
    }
    if ((m.header.flags & type_mask) != type_command || (m.header.flags & ~known_flags) != 0 ||
        (m.header.flags & flag_error) != 0) {
      return refuse(EINVAL, "a message has flags that no command has", m.header.flags);
    }
    if (m.command() == command::version) return version(m);
    if (!negotiated_) {
      return refuse(EINVAL, "a message was sent before VERSION", m.header.command);
    }
    if (!m.fds.empty() && m.command() != command::dma_map &&
        m.command() != command::device_set_irqs) {
      return refuse(EINVAL, "descriptors were sent with a message that takes none", m.fds.size());
    }
    switch (m.command()) {
      case command::dma_map:
        return dma_map(m);
      case command::dma_unmap:
        return dma_unmap(m);
      case command::device_get_info:
        return get_info(m);
      case command::device_get_region_info:
        return get_region_info(m);
      case command::device_get_irq_info:
        return get_irq_info(m);
      case command::device_set_irqs:
        return set_irqs(m);
      case command::region_read:
        return region_read(m);
      case command::region_write:
        return region_write(m);
      case command::region_write_multi:
        return region_write_multi(m);
      case command::device_reset:
        if (!m.payload.empty()) return refuse(EINVAL, "DEVICE_RESET has no payload");
        begin_reset(hold::reset);
        return 0;
      case command::device_get_region_io_fds:
        return refuse(ENOTSUP, "DEVICE_GET_REGION_IO_FDS is not supported: doorbells are polled");
      case command::device_feature:
        return refuse(ENOTSUP, "DEVICE_FEATURE is not supported: there is no migration");
      case command::mig_data_read:
      case command::mig_data_write:
        return refuse(ENOTSUP, "migration is not supported");
      case command::dma_read:
      case command::dma_write:
        return refuse(EINVAL, "DMA_READ and DMA_WRITE are commands of the server");
      case command::version:
        break;
    }
    return refuse(EINVAL, "a message has an unknown command", m.header.command);
  }

  // A payload that begins with a T whose argsz covers it.
  template <WireStruct T>
  [[nodiscard]] bool load(const message& m, T& to, bool exact = true) noexcept {
    if (exact ? m.payload.size() != sizeof(T) : m.payload.size() < sizeof(T)) return false;
    to = load_wire<T>(m.body());
    if constexpr (requires { to.argsz; }) return to.argsz >= sizeof(T);
    return true;
  }
  static constexpr const char* wrong_size = "a message has a payload or an argsz of the wrong size";

  [[nodiscard]] int version(const message& m) noexcept {
    version_header v{};
    if (negotiated_) return refuse(EINVAL, "VERSION was sent twice");
    if (!m.fds.empty()) return refuse(EINVAL, "VERSION takes no descriptors", m.fds.size());
    if (!load(m, v, false)) return refuse(EINVAL, wrong_size, m.payload.size());
    if (v.major != version_major) {
      return refuse(EINVAL, "the client speaks another major version of vfio-user", v.major);
    }
    std::string_view text{reinterpret_cast<const char*>(m.payload.data()) + sizeof v,
                          m.payload.size() - sizeof v};
    if (!text.empty()) {
      if (text.back() != '\0') {
        return refuse(EINVAL, "the capabilities of VERSION do not end with a zero", text.size());
      }
      text = text.substr(0, text.find('\0'));
    }
    const auto peer = parse_capabilities(text);
    if (!peer) return refuse(EINVAL, peer.error());
    capabilities ours{.max_msg_fds = max_fds,
                      .max_data_xfer_size = default_max_transfer,
                      .write_multiple = peer->write_multiple};
    std::array<int, 1> twin{-1};
    posix::unique_fd theirs;
    if (peer->twin_socket && options_.twin_socket) {
      int ends[2];
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return refuse(errno, posix::os_error("the second socket cannot be made"));
      }
      twin_ = message_channel{posix::unique_fd{ends[0]}};
      theirs = posix::unique_fd{ends[1]};
      twin[0] = theirs.get();
      ours.twin_socket = true;
    }
    peer_ = *peer;
    negotiated_ = true;
    const version_header answer{version_major, version_minor};
    const std::string words = write_capabilities(ours, true);
    reply(m, wire_bytes(answer), std::as_bytes(std::span{words}),
          std::span{twin}.first(theirs ? 1 : 0));
    return 0;
  }

  [[nodiscard]] int dma_map(message& m) noexcept {
    vfio_user::dma_map map{};
    if (!load(m, map)) return refuse(EINVAL, wrong_size, m.payload.size());
    if (map.flags == 0 || (map.flags & ~(dma_flag_read | dma_flag_write)) != 0) {
      return refuse(EINVAL, "DMA_MAP has unknown flags, or none", map.flags);
    }
    if (m.fds.size() > 1) return refuse(EINVAL, "DMA_MAP takes one descriptor", m.fds.size());
    const access granted = map.flags == (dma_flag_read | dma_flag_write) ? access::read_write
                           : map.flags == dma_flag_read                  ? access::read
                                                                         : access::write;
    auto& table = host_->dma.table();
    const auto added = m.fds.empty()
                           ? table.add(map.address, map.size, granted)
                           : table.add(map.address, map.size, granted, m.fds[0], map.offset);
    if (!added) return refuse(errno_of(added.error()), added.error());
    reply(m, {});
    return 0;
  }
  [[nodiscard]] static int errno_of(const error& e) noexcept {
    if (e.value_is_errno) return static_cast<int>(e.value);
    return e.code == errc::exhausted ? ENOMEM : EINVAL;
  }
  // Waits until the device has released the memory.
  [[nodiscard]] int dma_unmap(const message& m) noexcept {
    if (!load(m, unmap_)) return refuse(EINVAL, wrong_size, m.payload.size());
    if ((unmap_.flags & ~dma_unmap_flag_all) != 0) {
      return (unmap_.flags & dma_unmap_flag_dirty_bitmap) != 0
                 ? refuse(ENOTSUP, "DMA_UNMAP with a bitmap of dirty pages is not supported")
                 : refuse(EINVAL, "DMA_UNMAP has unknown flags", unmap_.flags);
    }
    if ((unmap_.flags & dma_unmap_flag_all) != 0) {
      if (unmap_.address != 0 || unmap_.size != 0) {
        return refuse(EINVAL, "DMA_UNMAP of everything names a range", unmap_.address);
      }
    } else if (!host_->dma.table().contains(unmap_.address, unmap_.size)) {
      return refuse(ENOENT, "DMA_UNMAP names a range that was not mapped", unmap_.address);
    }
    if (device_->drained()) {
      unmap();
    } else {
      device_->pause();
      holding_ = hold::unmap;
    }
    return 0;
  }
  void unmap() noexcept {
    if ((unmap_.flags & dma_unmap_flag_all) != 0) {
      host_->dma.table().clear();
    } else {
      host_->dma.table().remove(unmap_.address);
    }
    reply(message_, wire_bytes(unmap_));
  }

  [[nodiscard]] int get_info(const message& m) noexcept {
    device_info info{};
    if (!load(m, info)) return refuse(EINVAL, wrong_size, m.payload.size());
    info = {sizeof info, device_flag_reset | device_flag_pci, region_count, irq_count};
    reply(m, wire_bytes(info));
    return 0;
  }

  [[nodiscard]] std::uint64_t region_bytes(std::uint32_t region) const noexcept {
    if (region == config_region) return image::size_bytes();
    if (region >= pcie::type0_bars) return 0;
    const pcie::bar_description& b = description().bars[region];
    return b.kind == pcie::bar_kind::absent ? 0 : b.size;
  }
  [[nodiscard]] int get_region_info(const message& m) noexcept {
    region_info info{};
    if (!load(m, info)) return refuse(EINVAL, wrong_size, m.payload.size());
    if (info.index >= region_count) {
      return refuse(EINVAL, "the device has no such region", info.index);
    }
    const std::uint32_t space = info.argsz;
    info = {.argsz = sizeof info,
            .flags = 0,
            .index = info.index,
            .cap_offset = 0,
            .size = region_bytes(info.index),
            .offset = 0};
    struct {
      sparse_mmap_header head;
      sparse_mmap_area area;
    } sparse{};
    static_assert(sizeof sparse == 32);
    if (info.size == 0) {
      reply(m, wire_bytes(info));
      return 0;
    }
    info.flags = region_flag_read | region_flag_write;
    const bar_memory memory =
        info.index < pcie::type0_bars ? device_->shared_memory(info.index) : bar_memory{};
    if (memory.fd < 0) {
      reply(m, wire_bytes(info));
      return 0;
    }
    info.flags |= region_flag_mmap;
    std::span<const std::byte> capability;
    if (memory.offset != 0 || memory.bytes != info.size) {
      info.flags |= region_flag_caps;
      info.argsz = sizeof info + sizeof sparse;
      info.cap_offset = sizeof info;
      sparse.head = {{sparse_mmap_capability, 1, 0}, 1, 0};
      sparse.area = {memory.offset, memory.bytes};
      if (space >= info.argsz) capability = std::as_bytes(std::span{&sparse, 1});
    }
    const std::array<int, 1> fds{memory.fd};
    reply(m, wire_bytes(info), capability, fds);
    return 0;
  }

  [[nodiscard]] int get_irq_info(const message& m) noexcept {
    irq_info info{};
    if (!load(m, info)) return refuse(EINVAL, wrong_size, m.payload.size());
    if (info.index >= irq_count) {
      return refuse(EINVAL, "the device has no such interrupt index", info.index);
    }
    info = {sizeof info, 0, info.index, 0};
    if (info.index == msix_irq && host_->interrupts.count() != 0) {
      info.flags = irq_info_eventfd | irq_info_maskable;
      info.count = host_->interrupts.count();
    }
    reply(m, wire_bytes(info));
    return 0;
  }
  [[nodiscard]] int set_irqs(message& m) noexcept {
    irq_set set{};
    if (!load(m, set, false)) return refuse(EINVAL, wrong_size, m.payload.size());
    const std::uint32_t data = set.flags & irq_data_mask;
    const std::uint32_t action = set.flags & irq_action_bits;
    if ((set.flags & ~(irq_data_mask | irq_action_bits)) != 0 || data == 0 ||
        (data & (data - 1)) != 0 || action == 0 || (action & (action - 1)) != 0) {
      return refuse(EINVAL, "DEVICE_SET_IRQS does not have one kind of data and one action",
                    set.flags);
    }
    if (set.index >= irq_count) {
      return refuse(EINVAL, "the device has no such interrupt index", set.index);
    }
    irq_vectors& irqs = host_->interrupts;
    const std::uint64_t there = set.index == msix_irq ? irqs.count() : 0;
    if (std::uint64_t{set.start} + set.count > there) {
      return refuse(EINVAL, "DEVICE_SET_IRQS goes beyond the vectors of the device",
                    std::uint64_t{set.start} + set.count);
    }
    const std::uint64_t more = m.payload.size() - sizeof set;
    const bool fits = data == irq_data_none   ? more == 0
                      : data == irq_data_bool ? more == set.count
                                              : more == 0 || more == set.count * std::uint64_t{4};
    if (!fits) return refuse(EINVAL, wrong_size, m.payload.size());
    if (data != irq_data_eventfd && !m.fds.empty()) {
      return refuse(EINVAL, "DEVICE_SET_IRQS takes descriptors as eventfds only", m.fds.size());
    }
    if (set.count == 0) {
      // Switches all vectors off.
      if (data != irq_data_none || action != irq_action_trigger || set.start != 0) {
        return refuse(EINVAL, "DEVICE_SET_IRQS of no vectors switches all of them off", set.flags);
      }
      if (set.index == msix_irq) irqs.clear();
      reply(m, {});
      return 0;
    }
    if (data == irq_data_eventfd) {
      if (action != irq_action_trigger) {
        return refuse(ENOTSUP, "masking by an eventfd is not supported", set.flags);
      }
      if (!m.fds.empty() && m.fds.size() != set.count) {
        return refuse(EINVAL, "DEVICE_SET_IRQS has one eventfd for each vector, or none",
                      m.fds.size());
      }
      for (const auto& fd : m.fds) {
        if (!is_eventfd(fd)) return refuse(EINVAL, "a descriptor is no eventfd", set.start);
      }
      for (std::uint32_t i = 0; i != set.count; ++i) {
        irqs.set_eventfd(set.start + i, m.fds.empty() ? posix::unique_fd{} : std::move(m.fds[i]));
      }
      reply(m, {});
      return 0;
    }
    for (std::uint32_t i = 0; i != set.count; ++i) {
      if (data == irq_data_bool && m.payload[sizeof set + i] == std::byte{0}) continue;
      const std::uint32_t vector = set.start + i;
      if (action == irq_action_trigger) {
        irqs.raise(static_cast<std::uint16_t>(vector));
      } else {
        irqs.set_masked(vector, action == irq_action_mask);
      }
    }
    reply(m, {});
    return 0;
  }
  // A pipe or a socket could block the server, or end it by a signal. Files of the kernel's own, such as
  // eventfds, have no file type.
  [[nodiscard]] static bool is_eventfd(const posix::unique_fd& fd) noexcept {
    struct ::stat about {};
    if (::fstat(fd.get(), &about) != 0 || (about.st_mode & S_IFMT) != 0) return false;
    const int flags = ::fcntl(fd.get(), F_GETFL);
    return flags >= 0 && ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) == 0;
  }

  // ---- regions -----------------------------------------------------------------------------------

  [[nodiscard]] bool in_region(std::uint32_t region, std::uint64_t offset,
                               std::uint64_t count) const noexcept {
    const std::uint64_t bytes = region_bytes(region);
    return count != 0 && offset <= bytes && count <= bytes - offset;
  }
  [[nodiscard]] bool may_write(std::uint32_t region, std::uint64_t offset,
                               std::uint64_t count) const noexcept {
    return in_region(region, offset, count) &&
           (region == config_region ||
            (offset % Device::access_bytes == 0 && count % Device::access_bytes == 0));
  }
  [[nodiscard]] int region_read(const message& m) noexcept {
    region_access a{};
    if (!load(m, a)) return refuse(EINVAL, wrong_size, m.payload.size());
    if (!in_region(a.region, a.offset, a.count) || a.count > default_max_transfer ||
        a.count > peer_.max_data_xfer_size) {
      return refuse(EINVAL, "REGION_READ goes beyond the region or the largest transfer", a.offset);
    }
    scratch_.resize(a.count);
    each_access(a.region, a.offset, a.count, [&](std::uint64_t at, unsigned bytes) noexcept {
      const std::uint64_t value = read_register(a.region, at, bytes);
      for (unsigned i = 0; i != bytes; ++i) {
        scratch_[int_cast<std::size_t>(at - a.offset) + i] =
            static_cast<std::byte>(value >> 8 * i & 0xff);
      }
    });
    reply(m, wire_bytes(a), scratch_);
    return 0;
  }
  [[nodiscard]] int region_write(const message& m) noexcept {
    region_access a{};
    if (!load(m, a, false) || m.payload.size() - sizeof a != a.count) {
      return refuse(EINVAL, wrong_size, m.payload.size());
    }
    if (!may_write(a.region, a.offset, a.count)) {
      return refuse(EINVAL, "REGION_WRITE goes beyond the region, or is misaligned", a.offset);
    }
    write_bytes(a.region, a.offset, m.body().subspan(sizeof a));
    reply(m, wire_bytes(a));
    return 0;
  }
  [[nodiscard]] int region_write_multi(const message& m) noexcept {
    std::uint64_t count = 0;
    if (!peer_.write_multiple) {
      return refuse(ENOTSUP, "REGION_WRITE_MULTI was not agreed on in VERSION");
    }
    if (m.payload.size() < sizeof count) return refuse(EINVAL, wrong_size, m.payload.size());
    count = load_wire<std::uint64_t>(m.body());
    const auto entries = m.body().subspan(sizeof count);
    if (count == 0 || count > max_multi_writes || entries.size() != count * sizeof(multi_write)) {
      return refuse(EINVAL, "REGION_WRITE_MULTI has 1 to 200 writes", count);
    }
    for (std::uint64_t i = 0; i != count; ++i) {
      const auto w = load_wire<multi_write>(entries.subspan(i * sizeof(multi_write)));
      if (w.count > sizeof w.data || !may_write(w.region, w.offset, w.count)) {
        return refuse(EINVAL, "a write of REGION_WRITE_MULTI is out of its region or misaligned",
                      i);
      }
    }
    for (std::uint64_t i = 0; i != count; ++i) {
      const auto w = load_wire<multi_write>(entries.subspan(i * sizeof(multi_write)));
      write_bytes(w.region, w.offset, std::as_bytes(std::span{w.data}).first(w.count));
    }
    reply(m, wire_bytes(count));
    return 0;
  }
  void write_bytes(std::uint32_t region, std::uint64_t offset,
                   std::span<const std::byte> from) noexcept {
    each_access(region, offset, from.size(), [&](std::uint64_t at, unsigned bytes) noexcept {
      std::uint64_t value = 0;
      for (unsigned i = 0; i != bytes; ++i) {
        value |= static_cast<std::uint64_t>(from[int_cast<std::size_t>(at - offset) + i]) << 8 * i;
      }
      write_register(region, at, bytes, value);
    });
  }
  // Cuts a range into accesses of 1, 2, 4 or, in BARs, 8 bytes at their own alignment.
  template <class Each>
  static void each_access(std::uint32_t region, std::uint64_t offset, std::uint64_t count,
                          Each each) noexcept {
    while (count != 0) {
      unsigned bytes = region == config_region ? 4 : 8;
      while (offset % bytes != 0 || bytes > count) bytes /= 2;
      each(offset, bytes);
      offset += bytes;
      count -= bytes;
    }
  }
  // The part of the MSI-X structures at this dword of a BAR.
  enum class msix_part : std::uint8_t { none, table, pending };
  [[nodiscard]] msix_part find_msix(std::uint32_t bar, std::uint64_t offset,
                                    std::uint32_t& dword) const noexcept {
    const auto& d = description().msix;
    if (!d) return msix_part::none;
    if (bar == d->table_bar && offset - d->table_offset < pcie::msix_table_bytes(d->vectors)) {
      dword = static_cast<std::uint32_t>(offset - d->table_offset) / 4;
      return msix_part::table;
    }
    if (bar == d->pba_bar && offset - d->pba_offset < pcie::msix_pba_bytes(d->vectors)) {
      dword = static_cast<std::uint32_t>(offset - d->pba_offset) / 4;
      return msix_part::pending;
    }
    return msix_part::none;
  }
  [[nodiscard]] std::uint64_t read_register(std::uint32_t region, std::uint64_t at,
                                            unsigned bytes) noexcept {
    if (region == config_region) return config_.read(static_cast<std::uint32_t>(at), bytes);
    std::uint32_t dword = 0;
    const msix_part part = find_msix(region, at, dword);
    if (part == msix_part::none) return device_->read(region, at, bytes);
    const auto word = [&](std::uint32_t i) noexcept -> std::uint64_t {
      if (part == msix_part::table) return msix_.read_table(i);
      std::uint32_t bits = 0;
      for (std::uint32_t v = 0; v != 32; ++v) {
        bits |= static_cast<std::uint32_t>(host_->interrupts.pending(i * 32 + v)) << v;
      }
      return bits;
    };
    if (bytes == 8) return word(dword) | word(dword + 1) << 32;
    return word(dword) >> 8 * (at % 4) & (bytes == 4 ? 0xffff'ffffU : (1U << 8 * bytes) - 1);
  }
  void write_register(std::uint32_t region, std::uint64_t at, unsigned bytes,
                      std::uint64_t value) noexcept {
    if (region == config_region) {
      write_config(static_cast<std::uint32_t>(at), bytes, static_cast<std::uint32_t>(value));
      return;
    }
    std::uint32_t dword = 0;
    switch (find_msix(region, at, dword)) {
      case msix_part::none:
        device_->write(region, at, bytes, value);
        break;
      case msix_part::table:
        // Kept for who reads it back: the client delivers by eventfds (SET_IRQS).
        if (bytes < 4) break;
        msix_.write_table(dword, static_cast<std::uint32_t>(value));
        if (bytes == 8) msix_.write_table(dword + 1, static_cast<std::uint32_t>(value >> 32));
        break;
      case msix_part::pending:
        break;  // read-only
    }
  }
  void write_config(std::uint32_t at, unsigned bytes, std::uint32_t value) noexcept {
    const pcie::config_write effect = config_.write(at, bytes, value);
    const pcie::command_register command{
        static_cast<std::uint16_t>(config_.read(pcie::header::command, 2))};
    host_->dma.set_bus_master(command[pcie::command_register::bus_master]);
    if (layout_.express != 0 && description().express &&
        description().express->function_level_reset &&
        effect.wrote_one(layout_.express + std::uint32_t{pcie::express::device_control},
                         pcie::device_control::initiate_function_level_reset.lo)) {
      reset_requested_ = true;
    }
  }

  // ---- DMA by messages ---------------------------------------------------------------------------

  [[nodiscard]] std::uint64_t largest_transfer() const noexcept override {
    return std::min<std::uint64_t>(peer_.max_data_xfer_size, default_max_transfer);
  }
  result<> read(std::uint64_t at, std::span<std::byte> to) noexcept override {
    while (!to.empty()) {
      const auto part = to.first(std::min<std::size_t>(to.size(), largest_transfer()));
      const dma_access a{at, part.size()};
      if (const auto done = transfer(command::dma_read, a, {}); !done) return done;
      std::memcpy(part.data(), dma_reply_.payload.data() + sizeof a, part.size());
      at += part.size();
      to = to.subspan(part.size());
    }
    return {};
  }
  result<> write(std::uint64_t at, std::span<const std::byte> from) noexcept override {
    while (!from.empty()) {
      const auto part = from.first(std::min<std::size_t>(from.size(), largest_transfer()));
      if (const auto done = transfer(command::dma_write, {at, part.size()}, part); !done) {
        return done;
      }
      at += part.size();
      from = from.subspan(part.size());
    }
    return {};
  }
  result<std::uint16_t> start_read(std::uint64_t at, std::size_t bytes) noexcept override {
    return send_access(command::dma_read, {at, bytes}, {});
  }
  result<std::uint16_t> start_write(std::uint64_t at,
                                    std::span<const std::byte> from) noexcept override {
    return send_access(command::dma_write, {at, from.size()}, from);
  }
  // DMA has a socket of its own where the client has one.
  [[nodiscard]] message_channel& dma_channel() noexcept { return twin_ ? twin_ : main_; }
  [[nodiscard]] result<std::uint16_t> send_access(command what, const dma_access& a,
                                                  std::span<const std::byte> data) noexcept {
    if (lost_) return failure(errc::removed, "the client has closed the connection", a.address);
    const std::uint16_t id = next_id_++;
    const auto sent = dma_channel().send({id, static_cast<std::uint16_t>(what), 0, type_command, 0},
                                         wire_bytes(a), data);
    if (sent) return id;
    lose(sent.error());
    return sent.error();
  }
  // Whether the message answers a DMA that was begun and not waited for.
  [[nodiscard]] bool take_reply(const message& m) noexcept {
    if (m.refused != 0 || !m.is_reply()) return false;
    const dma_port::message_copy* const c = host_->dma.find_copy(m.header.message_id);
    if (c == nullptr || m.command() != (c->write ? command::dma_write : command::dma_read)) {
      return false;
    }
    const auto good = check_reply(m, {c->at, c->bytes.size()}, c->write ? 0 : c->bytes.size());
    if (!good) last_error_ = good.error();
    const auto data = good ? m.body().subspan(sizeof(dma_access)) : std::span<const std::byte>{};
    host_->dma.end_copy(m.header.message_id, good.has_value(), data);
    return true;
  }
  // Answers to DMA that was begun, also while the server holds other messages back.
  unsigned take_copies() {
    unsigned did = 0;
    const bool all = holding_ != hold::nothing;
    for (int i = 0; i != messages_per_round && !lost_; ++i) {
      const bool answered = twin_ && receive(twin_, nested_);
      if (answered && !take_reply(nested_)) {
        ++counters_.refused;
        static_cast<void>(
            refuse(EINVAL, "a message arrived that was not waited for", nested_.header.command));
        nested_.fds.clear();
      }
      const bool more = all && !lost_ && receive(main_, nested_);
      if (more && !take_reply(nested_)) handle_within(nested_);
      if (!answered && !more) break;
      ++did;
    }
    const std::uint64_t limit = options_.message_dma_limit_ms * nanoseconds_per_ms;
    const std::uint64_t now = posix::steady_clock::now();
    if (now >= limit) host_->dma.fail_copies(now - limit);
    return did;
  }
  // Sends a command and waits for its reply, which is left in dma_reply_.
  [[nodiscard]] result<> transfer(command what, const dma_access& a,
                                  std::span<const std::byte> data) noexcept {
    message_channel& channel = dma_channel();
    const auto sent = send_access(what, a, data);
    if (!sent) return sent.error();
    const std::uint16_t id = *sent;
    const std::uint64_t end =
        posix::steady_clock::now() + options_.message_dma_limit_ms * nanoseconds_per_ms;
    for (;;) {
      const bool arrived = receive(channel, dma_reply_);
      if (arrived) {
        const message_header& h = dma_reply_.header;
        if (dma_reply_.refused == 0 && dma_reply_.is_reply() && h.message_id == id &&
            dma_reply_.command() == what) {
          return check_reply(dma_reply_, a, what == command::dma_read ? a.count : 0);
        }
        if (take_reply(dma_reply_)) continue;
        if (dma_reply_.is_reply() || twin_) {
          ++counters_.refused;
          static_cast<void>(refuse(EINVAL, "a message arrived that was not waited for", h.command));
          dma_reply_.fds.clear();
        } else {
          handle_within(dma_reply_);
        }
      }
      const bool more = twin_ && !lost_ && receive(main_, nested_);
      if (more) handle_within(nested_);
      if (lost_) return failure(errc::removed, "the client has closed the connection", a.address);
      // Also while messages arrive: a client that sends others for ever is no better than a silent one.
      const std::uint64_t now = posix::steady_clock::now();
      if (now >= end) {
        return failure(errc::timed_out, "the client does not answer a DMA by messages", a.address);
      }
      if (arrived || more) continue;
      std::array<::pollfd, 2> wait{{{channel.fd(), POLLIN, 0}, {main_.fd(), POLLIN, 0}}};
      static_cast<void>(::poll(wait.data(), wait.size(), posix::poll_timeout(now, end)));
    }
  }
  // Whether it answers the access `a` with so much data.
  [[nodiscard]] static result<> check_reply(const message& m, const dma_access& a,
                                            std::uint64_t data) noexcept {
    if ((m.header.flags & flag_error) != 0) {
      return failure(errc::not_mapped, "the client refuses a DMA by messages", a.address);
    }
    if (!m.fds.empty() || m.payload.size() < sizeof a ||
        load_wire<dma_access>(m.body()).address != a.address ||
        load_wire<dma_access>(m.body()).count != a.count) {
      return failure(errc::protocol, "the client answers another DMA than it was asked for",
                     a.address);
    }
    if (data != 0 && m.payload.size() != sizeof a + data) {
      return failure(errc::protocol, "the client answered DMA_READ with the wrong size", a.address);
    }
    return {};
  }
  // A message that arrives while the device waits: answered now, or left until the device has returned.
  void handle_within(message& m) noexcept {
    if (at_once(m)) {
      handle(m);
    } else if (deferred_.size() == most_deferred ||
               deferred_bytes_ + m.payload.size() > most_deferred_bytes) {
      lose(failure(errc::exhausted, "the client sends messages and does not answer DMA_READ"));
    } else {
      deferred_bytes_ += m.payload.size();
      deferred_.push_back(std::move(m));
      m = {};
    }
  }
  [[nodiscard]] bool at_once(const message& m) const noexcept {
    if (m.refused != 0 || !negotiated_) return false;
    switch (m.command()) {
      case command::region_read:
      case command::device_get_info:
      case command::device_get_region_info:
      case command::device_get_irq_info:
      case command::device_set_irqs:
        return true;
      case command::region_write:
        // Configuration space is the server's; a reset that it requests waits.
        return m.payload.size() >= sizeof(region_access) &&
               load_wire<region_access>(m.body()).region == config_region;
      default:
        return false;
    }
  }

  host* host_;
  Device* device_;
  server_options options_;
  image config_;
  pcie::function_layout layout_{};
  no_interrupts ignored_;
  std::vector<pcie::device::msix_vector> vectors_;
  pcie::device::msix_table<no_interrupts> msix_;

  server_state state_ = server_state::waiting;
  bool negotiated_ = false;
  bool lost_ = false;
  bool reset_requested_ = false;
  hold holding_ = hold::nothing;
  message_channel main_;
  message_channel twin_;
  capabilities peer_;
  message message_;
  message dma_reply_;
  message nested_;
  std::deque<message> deferred_;  // arrived while the device waited
  std::size_t deferred_bytes_ = 0;
  unsigned rounds_ = 0;
  std::vector<std::byte> scratch_;
  vfio_user::dma_unmap unmap_{};
  std::uint16_t next_id_ = 1;
  server_counters counters_;
  error last_error_{};
};

}  // namespace phasebit::transport::vfio_user
