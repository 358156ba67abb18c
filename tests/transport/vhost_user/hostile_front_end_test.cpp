// SPDX-License-Identifier: BSL-1.0
// Front ends that break the protocol: their messages are refused, change nothing, and leave no
// descriptor open.
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/transport/vhost_user/back_end.hpp>
#include <phasebit/transport/vhost_user/blk_device.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <transport/vhost_user/disk.hpp>

using namespace phasebit;
using namespace phasebit_test;
using vhost::connection_state;
using vhost::request;

namespace {

using held_media = block::planned_media<block::memory_media, block::random_media_plan>;

std::size_t open_descriptors() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

// A back end, and the raw other end of its socket.
struct raw_front_end {
  explicit raw_front_end(std::uint32_t hold_one_in = 0) : disk(1 << 20), blocks(disk) {
    operations.resize(128);
    for (std::size_t i = 0; i != 2; ++i) {
      media.emplace_back(blocks, std::span{operations}.subspan(64 * i, 64),
                         block::random_media_plan{.longest = 0, .hold_one_in = hold_one_in});
    }
    device =
        std::make_unique<vhost::blk_device<held_media>>(media, virtio::blk::device_options{}, 16);
    connect();
  }
  void connect() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    back.emplace(*device, posix::unique_fd{ends[0]});
    device->set_log(&back->log());
    front = vhost::message_channel{posix::unique_fd{ends[1]}};
  }
  void turn(int rounds = 6) {
    for (int i = 0; i != rounds; ++i) back->poll();
  }
  void send_bytes(std::span<const std::byte> bytes) {
    REQUIRE(::send(front.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
            static_cast<::ssize_t>(bytes.size()));
  }
  // Sends a request with an acknowledgement, and returns it; nothing if none came.
  std::optional<std::uint64_t> ask(request number, std::span<const std::byte> payload,
                                   std::span<const int> fds = {}) {
    REQUIRE(front.send(static_cast<std::uint32_t>(number), vhost::flag_need_reply, payload, fds));
    turn();
    return answer();
  }
  template <class T>
    requires(!std::convertible_to<const T&, std::span<const std::byte>>)
  std::optional<std::uint64_t> ask(request number, const T& payload,
                                   std::initializer_list<int> fds = {}) {
    return ask(number, wire_bytes(payload), std::span<const int>{fds.begin(), fds.size()});
  }
  std::optional<std::uint64_t> answer() {
    const auto got = front.receive(reply);
    if (!got || *got != vhost::receive_status::complete || reply.header.size != 8) return {};
    return load_wire<std::uint64_t>(reply.body());
  }
  void negotiate(std::uint64_t features = virtio::feature::version_1) {
    REQUIRE(
        front.send(static_cast<std::uint32_t>(request::set_protocol_features), 0,
                   std::uint64_t{vhost::protocol_feature::reply_ack |
                                 vhost::protocol_feature::config | vhost::protocol_feature::mq}));
    turn();
    REQUIRE(ask(request::set_features, features | vhost::feature_protocol_features) == 0);
  }

  std::vector<std::byte> disk;
  block::memory_media blocks;
  std::vector<block::planned_operation> operations;
  std::vector<held_media> media;
  std::unique_ptr<vhost::blk_device<held_media>> device;
  std::optional<vhost::back_end<vhost::blk_device<held_media>>> back;
  vhost::message_channel front;
  vhost::message reply;
};

struct table_of_one {
  vhost::memory_table_header head{1, 0};
  vhost::memory_region region{};
};
static_assert(WireStruct<table_of_one>);

constexpr std::uint64_t refused = 1;

}  // namespace

TEST_CASE("vhost-user: headers that no version of the protocol has end the connection") {
  const std::size_t before = open_descriptors();
  const vhost::message_header headers[] = {
      {1, 0, 0},
      {1, 2, 0},
      {1, 3, 0},  // versions
      {1, 0x11, 0},
      {1, 0x8000'0001, 0},  // reserved flags
      {1, 1, 4097},
      {1, 1, 0xffff'ffff},            // sizes
      {1, 1 | vhost::flag_reply, 0},  // a request that is a reply
      {0, 1, 0},
      {4711, 1, 0},
      {19, 1, 0},  // requests that are none of ours
  };
  for (const auto& h : headers) {
    raw_front_end f;
    f.send_bytes(wire_bytes(h));
    f.turn();
    CHECK(f.back->state() == connection_state::failed);
    CHECK(f.back->last_error().what[0] != '\0');
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("vhost-user: a message that arrives byte by byte is one message") {
  raw_front_end f;
  const struct {
    vhost::message_header head{static_cast<std::uint32_t>(request::set_features), 1, 8};
    std::uint32_t low = 0;
    std::uint32_t high = 1;  // VERSION_1
  } m;
  for (const std::byte b : std::as_bytes(std::span{&m, 1})) {
    f.send_bytes({&b, 1});
    f.turn(2);
  }
  CHECK(f.back->state() == connection_state::open);
  REQUIRE(f.front.send(static_cast<std::uint32_t>(request::get_features), 0,
                       std::span<const std::byte>{}));
  f.turn();
  const auto bits = f.answer();
  REQUIRE(bits);
  CHECK((*bits & virtio::feature::version_1) != 0);
  CHECK((*bits & vhost::feature_protocol_features) != 0);
}

TEST_CASE("vhost-user: without acknowledgements a refused message ends the connection") {
  raw_front_end f;
  REQUIRE(f.front.send(static_cast<std::uint32_t>(request::set_features), 0, ~std::uint64_t{0}));
  f.turn();
  CHECK(f.back->state() == connection_state::failed);
}

TEST_CASE("vhost-user: bodies of a wrong size and values out of range") {
  raw_front_end f;
  f.negotiate();
  const std::byte bytes[64]{};
  for (const request number :
       {request::set_features, request::set_vring_num, request::set_vring_addr,
        request::set_vring_base, request::set_vring_kick, request::set_vring_call,
        request::set_vring_enable, request::set_protocol_features, request::set_status,
        request::add_mem_reg, request::rem_mem_reg, request::set_mem_table, request::set_log_base,
        request::set_inflight_fd, request::get_config, request::set_config}) {
    for (const std::size_t size : {0UL, 1UL, 7UL, 9UL, 11UL, 64UL}) {
      CHECK(f.ask(number, std::span{bytes}.first(size)) == refused);
    }
  }
  CHECK(f.ask(request::set_features, ~std::uint64_t{0}) == refused);
  CHECK(f.ask(request::set_protocol_features, ~std::uint64_t{0}) == refused);
  CHECK(f.ask(request::set_vring_enable, vhost::vring_state{0, 2}) == refused);
  CHECK(f.ask(request::set_vring_enable, vhost::vring_state{2, 1}) == refused);
  for (const std::uint32_t size : {0U, 3U, 11U, 15U, 32'769U, 65'536U, 0xffff'ffffU}) {
    CHECK(f.ask(request::set_vring_num, vhost::vring_state{0, size}) == refused);
  }
  CHECK(f.ask(request::set_vring_num, vhost::vring_state{2, 16}) == refused);
  CHECK(f.ask(request::set_vring_base, vhost::vring_state{0xffff'ffff, 0}) == refused);
  CHECK(f.ask(request::set_vring_addr, vhost::vring_addr{0, 0, 0, 0, 0, 0}) == refused);  // no size
  CHECK(f.ask(request::set_vring_num, vhost::vring_state{0, 16}) == 0);
  CHECK(f.ask(request::set_vring_addr, vhost::vring_addr{0, 0, 0x1000, 0x2000, 0x3000, 0}) ==
        refused);  // before memory
  CHECK(f.ask(request::set_vring_addr, vhost::vring_addr{0, 2, 0, 0, 0, 0}) == refused);
  CHECK(f.ask(request::set_owner, std::span<const std::byte>{}) == 0);
  CHECK(f.ask(request::set_owner, std::span<const std::byte>{}) == refused);
  CHECK(f.ask(request::set_status, std::uint64_t{256}) == refused);
  // The configuration space has an end.
  const vhost::config_header beyond{250, 7, 0};
  std::array<std::byte, sizeof beyond + 7> config{};
  std::memcpy(config.data(), &beyond, sizeof beyond);
  CHECK(f.ask(request::get_config, std::span<const std::byte>{config}) == refused);
  CHECK(f.ask(request::set_config, std::span<const std::byte>{config}) == refused);
  const vhost::config_header lies{0, 100, 0};
  std::memcpy(config.data(), &lies, sizeof lies);
  CHECK(f.ask(request::get_config, std::span<const std::byte>{config}) == refused);
  CHECK(f.back->state() == connection_state::open);
}

TEST_CASE("vhost-user: descriptors on messages that take none, too many, and of the wrong kind") {
  const std::size_t before = open_descriptors();
  {
    raw_front_end f;
    f.negotiate();
    shared_memory memory{1 << 20};
    const int fd = memory.fd();
    const std::size_t here = open_descriptors();
    CHECK(f.ask(request::set_vring_num, vhost::vring_state{0, 16}, {fd}) == refused);
    CHECK(f.ask(request::set_owner, std::span<const std::byte>{}, std::array{fd, fd}) == refused);
    CHECK(f.ask(request::set_vring_kick, std::uint64_t{0}) == refused);            // none
    CHECK(f.ask(request::set_vring_kick, std::uint64_t{0x100}, {fd}) == refused);  // one too many
    CHECK(f.ask(request::set_vring_call, std::uint64_t{0}, {fd, fd}) == refused);
    CHECK(f.ask(request::set_vring_kick, std::uint64_t{2}, {fd}) == refused);  // no such queue
    CHECK(f.ask(request::set_vring_kick, std::uint64_t{0x200}, {fd}) == refused);
    CHECK(f.ask(request::set_vring_call, std::uint64_t{0}, {fd}) == refused);  // a file
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    CHECK(f.ask(request::set_vring_call, std::uint64_t{0}, {ends[1]}) == refused);
    ::close(ends[0]);
    ::close(ends[1]);
    CHECK(f.ask(request::set_log_base, vhost::log_area{4096, 0}) == refused);
    CHECK(f.ask(request::set_log_base, vhost::log_area{4 << 20, 0}, {fd}) == refused);
    CHECK(f.ask(request::set_log_base, vhost::log_area{~0ULL, 4096}, {fd}) == refused);
    CHECK(f.ask(request::set_inflight_fd, vhost::inflight_area{4096, 0, 3, 16, 0}, {fd}) ==
          refused);
    CHECK(f.ask(request::set_inflight_fd, vhost::inflight_area{4096, 0, 2, 0, 0}, {fd}) == refused);
    CHECK(f.ask(request::set_inflight_fd, vhost::inflight_area{64, 0, 2, 16, 0}, {fd}) == refused);
    CHECK(f.ask(request::set_inflight_fd, vhost::inflight_area{4096, 4, 2, 16, 0}, {fd}) ==
          refused);
    CHECK(f.ask(request::set_inflight_fd, vhost::inflight_area{4 << 20, 0, 2, 16, 0}, {fd}) ==
          refused);
    CHECK(open_descriptors() == here);
    CHECK(f.back->state() == connection_state::open);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("vhost-user: memory tables and regions that are refused leave no mapping behind") {
  const std::size_t before = open_descriptors();
  {
    raw_front_end f;
    f.negotiate();
    shared_memory memory{1 << 20};
    const int fd = memory.fd();
    constexpr std::uint64_t big = 1 << 20;
    const auto table = [&](vhost::memory_region r, std::uint32_t regions = 1,
                           std::uint32_t padding = 0) {
      return f.ask(request::set_mem_table, table_of_one{{regions, padding}, r}, {fd});
    };
    const auto add = [&](vhost::memory_region r, std::uint64_t padding = 0) {
      return f.ask(request::add_mem_reg, vhost::single_region{padding, r}, {fd});
    };
    const vhost::memory_region good{0x1000, big, 0x7000'0000, 0};
    for (const vhost::memory_region& bad :
         {vhost::memory_region{0, 0, 0, 0},           // no bytes
          vhost::memory_region{0, big + 4096, 0, 0},  // beyond the file
          vhost::memory_region{0, big, 0, 4096}, vhost::memory_region{0, ~0ULL, 0, 0},
          vhost::memory_region{~0ULL - 4095, big, 0, 0},  // wraps
          vhost::memory_region{0, big, ~0ULL - 4095, 0},
          vhost::memory_region{0, 4096, 0, ~0ULL - 4095}}) {
      CHECK(table(bad) == refused);
      CHECK(add(bad) == refused);
    }
    CHECK(table(good, 0) == refused);
    CHECK(table(good, 2) == refused);
    CHECK(table(good, 9) == refused);
    CHECK(table(good, 1, 1) == refused);
    CHECK(add(good, 1) == refused);
    CHECK(f.ask(request::add_mem_reg, vhost::single_region{0, good}) == refused);
    CHECK(f.ask(request::rem_mem_reg, vhost::single_region{0, good}) == refused);
    CHECK(add(good) == 0);
    CHECK(add(good) == refused);  // overlaps itself
    CHECK(add({0x1000 + big - 1, 4096, 0x9000'0000, 0}) == refused);
    CHECK(add({0x9000'0000, 4096, 0x7000'0000 + big - 1, 0}) == refused);
    // Two regions of one table that overlap: none of them is there afterwards.
    struct {
      vhost::memory_table_header head{2, 0};
      vhost::memory_region regions[2];
    } two;
    two.regions[0] = {0x10'0000, 8192, 0x10'0000, 0};
    two.regions[1] = {0x10'1000, 8192, 0x20'0000, 0};
    CHECK(f.ask(request::set_mem_table, two, {fd, fd}) == refused);
    CHECK(f.ask(request::set_mem_table, two, {fd}) == refused);
    CHECK(add(good) == 0);
    CHECK(f.ask(request::rem_mem_reg, vhost::single_region{0, good}) == 0);
    CHECK(f.ask(request::rem_mem_reg, vhost::single_region{0, good}) == refused);
    // As many as there are slots.
    for (std::uint64_t i = 0; i != 32; ++i) {
      CHECK(add({i << 20, 4096, (i << 20) + 0x1'0000'0000, 0}) == 0);
    }
    CHECK(add({33ULL << 20, 4096, 33ULL << 20, 0}) == refused);
  }
  CHECK(open_descriptors() == before);
}

namespace {

// A connection with one running split queue of 16 entries in shared memory, driven by hand.
struct running_queue : raw_front_end {
  explicit running_queue(std::uint32_t hold_one_in)
      : raw_front_end(hold_one_in), memory(4 << 20), layout{16, false, 0} {
    negotiate();
    region = memory.take(layout.bytes());
    slots.resize(16);
    REQUIRE(queue.start({layout, 0, region, slots}));
    kick = posix::unique_fd{::eventfd(0, EFD_CLOEXEC)};
    call = posix::unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    REQUIRE(share() == 0);
    start(0);
  }
  std::optional<std::uint64_t> share() {
    return ask(request::set_mem_table,
               table_of_one{{1, 0},
                            {shared_memory::base, memory.bytes().size(),
                             reinterpret_cast<std::uintptr_t>(memory.bytes().data()), 0}},
               {memory.fd()});
  }
  void start(std::uint32_t base) {
    CHECK(ask(request::set_vring_num, vhost::vring_state{0, 16}) == 0);
    CHECK(ask(request::set_vring_base, vhost::vring_state{0, base}) == 0);
    const auto at = [&](std::size_t offset) {
      return reinterpret_cast<std::uintptr_t>(region.data() + offset);
    };
    CHECK(ask(request::set_vring_addr, vhost::vring_addr{0, 0, at(0), at(layout.device_offset()),
                                                         at(layout.driver_offset()), 0}) == 0);
    CHECK(ask(request::set_vring_call, std::uint64_t{0}, {call.get()}) == 0);
    CHECK(ask(request::set_vring_kick, std::uint64_t{0}, {kick.get()}) == 0);
    CHECK(ask(request::set_vring_enable, vhost::vring_state{0, 1}) == 0);
  }
  // A read of one sector.
  void read_one(std::uint32_t token) {
    const dma_region buffer = memory.take(1024);
    const virtio::blk::request_header h{.type = 0, .reserved = 0, .sector = token};
    std::memcpy(buffer.data(), &h, sizeof h);
    const virtio::driver::buffer_segment out[] = {{buffer.bus, 16}};
    const virtio::driver::buffer_segment in[] = {{buffer.bus + 64, 513}};
    REQUIRE(queue.add(out, in, token) == virtio::driver::add_status::added);
    static_cast<void>(queue.publish());
  }
  std::uint32_t returned() {
    return queue.poll([](std::uint32_t, std::uint32_t) noexcept {});
  }
  std::uint64_t calls() {
    std::uint64_t count = 0;
    return ::read(call.get(), &count, sizeof count) == sizeof count ? count : 0;
  }

  shared_memory memory;
  virtio::driver::queue_layout layout;
  dma_region region;
  std::vector<virtio::driver::buffer_slot<std::uint32_t>> slots;
  virtio::driver::split_queue<thread_order, std::uint32_t> queue;
  posix::unique_fd kick;
  posix::unique_fd call;
};

}  // namespace

TEST_CASE("vhost-user: GET_VRING_BASE is answered when the media has delivered") {
  running_queue f{1};
  f.read_one(1);
  f.read_one(2);
  f.turn();
  CHECK(f.returned() == 0);
  REQUIRE(f.front.send(static_cast<std::uint32_t>(request::get_vring_base), 0,
                       vhost::vring_state{0, 0}));
  f.turn(20);
  CHECK_FALSE(f.answer());
  f.read_one(3);  // not taken any more
  f.turn(20);
  f.media[0].release_all();
  f.turn(20);
  const auto answer = f.answer();
  REQUIRE(answer);
  CHECK((*answer >> 32) == 2);
  CHECK(f.returned() == 2);
  CHECK(f.calls() != 0);
  // The third waits until the ring runs again.
  f.start(2);
  f.turn();
  f.media[0].release_all();
  f.turn();
  CHECK(f.returned() == 1);
  CHECK(f.calls() != 0);
}

TEST_CASE("vhost-user: the memory table changes only when no request is in flight") {
  running_queue f{1};
  f.read_one(1);
  f.turn();
  const table_of_one table{{1, 0},
                           {shared_memory::base, f.memory.bytes().size(),
                            reinterpret_cast<std::uintptr_t>(f.memory.bytes().data()), 0}};
  const int fds[] = {f.memory.fd()};
  REQUIRE(f.front.send(static_cast<std::uint32_t>(request::set_mem_table), vhost::flag_need_reply,
                       wire_bytes(table), fds));
  f.turn(20);
  CHECK_FALSE(f.answer());
  f.media[0].release_all();
  f.turn(20);
  CHECK(f.answer() == 0);
  CHECK(f.returned() == 1);
  f.read_one(2);  // and the queue goes on with the new map
  f.turn();
  f.media[0].release_all();
  f.turn();
  CHECK(f.returned() == 1);
  // A refused table, too, leaves no queue paused that still has its rings.
  CHECK(f.ask(request::rem_mem_reg, vhost::single_region{0, {1, 2, 3, 4}}) == refused);
  f.read_one(3);
  f.turn();
  f.media[0].release_all();
  f.turn();
  CHECK(f.returned() == 1);
}

TEST_CASE(
    "vhost-user: a region with a ring in it is removed: the queue stops, the process goes on") {
  running_queue f{0};
  const vhost::memory_region region{shared_memory::base, f.memory.bytes().size(),
                                    reinterpret_cast<std::uintptr_t>(f.memory.bytes().data()), 0};
  CHECK(f.ask(request::rem_mem_reg, vhost::single_region{0, region}) == refused);
  f.read_one(1);
  f.turn();
  CHECK(f.returned() == 0);
  CHECK(f.back->state() == connection_state::open);
}

TEST_CASE("vhost-user: a disabled ring serves nothing, and nothing is lost") {
  running_queue f{0};
  CHECK(f.ask(request::set_vring_enable, vhost::vring_state{0, 0}) == 0);
  f.read_one(1);
  f.turn();
  CHECK(f.returned() == 0);
  CHECK(f.ask(request::set_vring_enable, vhost::vring_state{0, 1}) == 0);
  f.turn();
  CHECK(f.returned() == 1);
  CHECK(f.calls() != 0);
}

TEST_CASE("vhost-user: pages that the device writes are logged, once logging is on") {
  running_queue f{0};
  shared_memory bitmap{1 << 20};
  REQUIRE(f.front.send(static_cast<std::uint32_t>(request::set_log_base), 0,
                       vhost::log_area{1 << 20, 0}, std::array{bitmap.fd()}));
  f.turn();
  CHECK(f.answer() == 0);
  const auto dirty = [&](const std::byte* at) {
    const std::uint64_t page =
        (shared_memory::base + static_cast<std::uint64_t>(at - f.memory.bytes().data())) >> 12;
    return (bitmap.bytes()[page / 8] & std::byte(1U << page % 8)) != std::byte{};
  };
  f.read_one(1);
  f.turn();
  CHECK(f.returned() == 1);
  CHECK_FALSE(dirty(f.region.data()));
  CHECK(f.ask(request::set_features, virtio::feature::version_1 | vhost::feature_protocol_features |
                                         vhost::feature_log_all) == 0);
  static_cast<void>(f.memory.take(3 * 4096));  // the next buffer is on another page
  const std::byte* const next = f.memory.take(64).data();
  f.read_one(2);
  f.turn();
  CHECK(f.returned() == 1);
  CHECK(dirty(f.region.data()));  // the used ring
  CHECK(dirty(next + 64));        // the data
  CHECK_FALSE(dirty(next + 8192));
  CHECK(f.back->log().unrecorded() == 0);
}

TEST_CASE("vhost-user: a new process continues with the in-flight record of the old one") {
  running_queue first{1};
  // The back end creates the record and the front end keeps it.
  REQUIRE(first.front.send(static_cast<std::uint32_t>(request::get_inflight_fd), 0,
                           vhost::inflight_area{0, 0, 2, 16, 0}));
  first.turn();
  REQUIRE(*first.front.receive(first.reply) == vhost::receive_status::complete);
  REQUIRE(first.reply.header.size == sizeof(vhost::inflight_area));
  REQUIRE(first.reply.fds.size() == 1);
  const auto area = load_wire<vhost::inflight_area>(first.reply.body());
  const posix::unique_fd record = std::move(first.reply.fds[0]);
  CHECK(first.ask(request::set_inflight_fd, area, {record.get()}) == refused);  // a queue runs
  REQUIRE(first.front.send(static_cast<std::uint32_t>(request::get_vring_base), 0,
                           vhost::vring_state{0, 0}));
  first.turn();
  CHECK(first.answer());
  CHECK(first.ask(request::set_inflight_fd, area, {record.get()}) == 0);
  first.start(0);
  for (std::uint32_t i = 0; i != 5; ++i) first.read_one(i);
  first.turn();
  // The process ends here: nothing is completed. Another one takes the same record.
  raw_front_end second;
  second.negotiate();
  std::swap(first.front, second.front);
  std::swap(first.reply, second.reply);
  auto& back = second.back;
  const auto ask = [&](request number, auto payload, std::initializer_list<int> fds) {
    REQUIRE(first.front.send(static_cast<std::uint32_t>(number), vhost::flag_need_reply,
                             wire_bytes(payload), std::span<const int>{fds.begin(), fds.size()}));
    for (int i = 0; i != 6; ++i) back->poll();
    return first.answer();
  };
  CHECK(ask(request::set_inflight_fd, area, {record.get()}) == 0);
  CHECK(ask(request::set_mem_table,
            table_of_one{{1, 0},
                         {shared_memory::base, first.memory.bytes().size(),
                          reinterpret_cast<std::uintptr_t>(first.memory.bytes().data()), 0}},
            {first.memory.fd()}) == 0);
  const auto at = [&](std::size_t offset) {
    return reinterpret_cast<std::uintptr_t>(first.region.data() + offset);
  };
  CHECK(ask(request::set_vring_num, vhost::vring_state{0, 16}, {}) == 0);
  CHECK(ask(request::set_vring_addr,
            vhost::vring_addr{0, 0, at(0), at(first.layout.device_offset()),
                              at(first.layout.driver_offset()), 0},
            {}) == 0);
  CHECK(ask(request::set_vring_kick, std::uint64_t{0}, {first.kick.get()}) == 0);
  CHECK(ask(request::set_vring_enable, vhost::vring_state{0, 1}, {}) == 0);
  for (int i = 0; i != 10; ++i) back->poll();
  CHECK(first.returned() == 5);
  CHECK(first.queue.in_flight() == 0);
  CHECK_FALSE(first.queue.last_fault());
  first.media[0].release_all();
}

TEST_CASE("vhost-user: arbitrary messages never stop the process") {
  std::mt19937 random{11};
  const std::size_t before = open_descriptors();
  for (int session = 0; session != 60; ++session) {
    running_queue f{3};
    for (int i = 0; i != 60 && f.back->state() == connection_state::open; ++i) {
      std::array<std::byte, 64> payload{};
      const std::size_t size = random() % 4 == 0 ? random() % 64 : (random() % 2 == 0 ? 8 : 40);
      for (std::size_t n = 0; n != size; ++n) {
        payload[n] = std::byte(random() % 3 == 0 ? random() % 3 : 0);
      }
      std::vector<int> fds(random() % 3 == 0 ? random() % 3 : 0, f.memory.fd());
      if (random() % 4 == 0) fds.assign(1, f.kick.get());
      REQUIRE(f.front.send(static_cast<std::uint32_t>(random() % 46),
                           random() % 8 == 0 ? 0 : vhost::flag_need_reply,
                           std::span<const std::byte>{payload}.first(size), fds));
      if (random() % 3 == 0 && f.queue.free_descriptors() > 4) f.read_one(1);
      f.turn(3);
      f.media[0].release_all();
      f.turn(2);
      while (*f.front.receive(f.reply) == vhost::receive_status::complete) f.reply.fds.clear();
    }
    f.back->close_down();
    for (int i = 0; i != 100 && !f.back->closed_down(); ++i) {
      f.media[0].release_all();
      f.back->poll();
    }
    CHECK(f.back->closed_down());
  }
  CHECK(open_descriptors() == before);
}
