// SPDX-License-Identifier: BSL-1.0
// The raw end of a vfio-user connection: sends any message to a server on the same thread.
#pragma once

#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <transport/vfio_user/served_disk.hpp>
#include <unistd.h>

namespace phasebit_test {

// Bytes of several parts.
inline std::vector<std::byte> join(std::initializer_list<std::span<const std::byte>> parts) {
  std::vector<std::byte> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}
inline std::span<const std::byte> text_bytes(std::string_view text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}

struct raw_client {
  explicit raw_client(const vfu::nvme_options& options = {}, const vfu::server_options& how = {},
                      const phasebit::block::random_media_plan& plan = {.longest = 0})
      : served(options, how, plan) {
    connect();
  }
  void connect() {
    auto [mine, theirs] = socket_pair();
    served.server->connect(std::move(theirs));
    channel = vfu::message_channel{std::move(mine)};
  }
  void turn(int rounds = 4) {
    for (int i = 0; i != rounds; ++i) served.server->poll();
  }
  void send(vfu::command c, std::span<const std::byte> payload, std::span<const int> fds = {},
            std::uint32_t flags = 0) {
    REQUIRE(channel.send({++id, static_cast<std::uint16_t>(c), 0, flags, 0}, payload, {}, fds));
  }
  // Whether a reply to the last message is there; it is in `reply` then.
  bool answered() {
    const auto got = channel.receive(reply);
    if (!got || *got != vfu::receive_status::complete) return false;
    CHECK(reply.is_reply());
    CHECK(reply.header.message_id == id);
    return true;
  }
  // The errno of the answer, 0 for success, -1 for none.
  int ask(vfu::command c, std::span<const std::byte> payload, std::span<const int> fds = {}) {
    send(c, payload, fds);
    turn();
    return answered() ? error() : -1;
  }
  template <class T>
    requires(!std::convertible_to<const T&, std::span<const std::byte>>)
  int ask(vfu::command c, const T& payload, std::initializer_list<int> fds = {}) {
    return ask(c, phasebit::wire_bytes(payload), std::span<const int>{fds.begin(), fds.size()});
  }
  int error() const {
    return (reply.header.flags & vfu::flag_error) != 0 ? static_cast<int>(reply.header.error) : 0;
  }
  int version(std::string_view text, std::uint16_t major = 0, std::uint16_t minor = 0) {
    const vfu::version_header v{major, minor};
    return ask(vfu::command::version, join({phasebit::wire_bytes(v), text_bytes(text)}));
  }
  void negotiate(
      std::string text = "{\"capabilities\":{\"max_msg_fds\":16,\"write_multiple\":true}}") {
    text.push_back('\0');
    REQUIRE(version(text) == 0);
  }
  int write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> bytes) {
    const vfu::region_access a{offset, region, static_cast<std::uint32_t>(bytes.size())};
    return ask(vfu::command::region_write, join({phasebit::wire_bytes(a), bytes}));
  }
  int write32(std::uint32_t region, std::uint64_t offset, std::uint32_t value) {
    return write(region, offset, phasebit::wire_bytes(value));
  }
  std::uint32_t read32(std::uint32_t region, std::uint64_t offset) {
    const vfu::region_access a{offset, region, 4};
    REQUIRE(ask(vfu::command::region_read, a) == 0);
    REQUIRE(reply.payload.size() == sizeof a + 4);
    return phasebit::load_wire<std::uint32_t>(reply.body().subspan(sizeof a));
  }

  served_disk served;
  vfu::message_channel channel;
  vfu::message reply;
  std::uint16_t id = 0;
};

inline phasebit::posix::unique_fd memory_file(std::size_t bytes) {
  phasebit::posix::unique_fd fd{::memfd_create("test", MFD_CLOEXEC)};
  REQUIRE(::ftruncate(fd.get(), static_cast<::off_t>(bytes)) == 0);
  return fd;
}
inline phasebit::posix::unique_fd event() {
  return phasebit::posix::unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
}
inline std::uint64_t count_of(const phasebit::posix::unique_fd& fd) {
  std::uint64_t count = 0;
  return ::read(fd.get(), &count, sizeof count) == sizeof count ? count : 0;
}

inline constexpr std::uint32_t map_rw = vfu::dma_flag_read | vfu::dma_flag_write;
inline constexpr std::uint64_t base = 0x4000'0000;

// A raw client whose memory holds an admin queue, so that commands are its own to write.
struct host_of_queues : raw_client {
  explicit host_of_queues(bool shared,
                          const phasebit::block::random_media_plan& plan = {.longest = 0},
                          const vfu::server_options& how = {})
      : raw_client({.controller = {.io_queue_pairs = 2, .interrupt_vectors = 3}}, how, plan),
        file(memory_file(bytes)) {
    auto mapping = phasebit::posix::memory_mapping::shared(file.get(), bytes);
    REQUIRE(mapping);
    memory = std::move(*mapping);
    negotiate();
    const vfu::dma_map map{sizeof map, map_rw, 0, base, bytes};
    const int fd[] = {file.get()};
    REQUIRE(ask(vfu::command::dma_map, phasebit::wire_bytes(map),
                std::span{fd}.first(shared ? 1 : 0)) == 0);
    REQUIRE(write(vfu::config_region, phasebit::pcie::header::command,
                  std::array{std::byte{6}, std::byte{0}}) == 0);
  }
  void enable() {
    REQUIRE(write32(0, phasebit::nvme::aqa::offset, phasebit::nvme::aqa::for_entries(8, 8).raw) ==
            0);
    const std::uint64_t asq = base;
    const std::uint64_t acq = base + 0x1000;
    REQUIRE(write(0, phasebit::nvme::asq::offset, phasebit::wire_bytes(asq)) == 0);
    REQUIRE(write(0, phasebit::nvme::acq::offset, phasebit::wire_bytes(acq)) == 0);
    const auto cc = phasebit::nvme::cc{}
                        .with(phasebit::nvme::cc::en, true)
                        .with(phasebit::nvme::cc::iosqes, 6)
                        .with(phasebit::nvme::cc::iocqes, 4);
    REQUIRE(write32(0, phasebit::nvme::cc::offset, cc.raw) == 0);
    REQUIRE((read32(0, phasebit::nvme::csts::offset) & 1) == 1);
  }
  // Puts a command into queue `q`, whose rings lie at 0x2000 * q.
  void post(unsigned q, phasebit::nvme::submission_entry e) {
    std::memcpy(memory.data() + 0x2000 * q + 64 * tails[q], &e, sizeof e);
    tails[q] = (tails[q] + 1) % 8;
    send(vfu::command::region_write,
         join({phasebit::wire_bytes(
                   vfu::region_access{phasebit::nvme::first_doorbell + 8 * q, 0, 4}),
               phasebit::wire_bytes(tails[q])}),
         {}, vfu::flag_no_reply);
  }
  bool completed(unsigned q, std::size_t at) const {
    phasebit::nvme::completion_entry c{};
    std::memcpy(&c, memory.data() + 0x2000 * q + 0x1000 + 16 * at, sizeof c);
    std::uint16_t words[8];
    std::memcpy(words, &c, sizeof words);
    return (words[7] & 1) != 0;
  }
  void create_io_queues() {
    post(0, phasebit::nvme::admin::create_io_cq(
                {.qid = 1, .entries = 8, .memory = phasebit::bus_addr{base + 0x3000}}));
    post(0, phasebit::nvme::admin::create_io_sq(
                {.qid = 1, .entries = 8, .memory = phasebit::bus_addr{base + 0x2000}, .cqid = 1}));
    turn(8);
    REQUIRE(completed(0, 1));
  }
  void read_blocks() {
    phasebit::nvme::submission_entry e{};
    e.cdw0 = static_cast<std::uint32_t>(phasebit::nvme::nvm_opcode::read);
    e.nsid = 1;
    e.prp1 = base + 0x8000;
    post(1, e);
  }

  static constexpr std::size_t bytes = 1 << 20;
  phasebit::posix::unique_fd file;
  phasebit::posix::memory_mapping memory;
  std::array<std::uint32_t, 4> tails{};
};

}  // namespace phasebit_test
