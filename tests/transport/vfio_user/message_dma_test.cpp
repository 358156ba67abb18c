// SPDX-License-Identifier: BSL-1.0
// DMA to memory that the client did not share: what a client does while the server waits for it, and
// clients that answer wrongly, never, or leave.
#include <phasebit/nvme/driver.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <transport/vfio_user/raw_client.hpp>

using namespace phasebit;
using namespace phasebit_test;
using vfu::command;

namespace {

// The server polls on a thread; this one is the client.
struct polled {
  explicit polled(host_of_queues& client) : c(&client) {
    thread = std::thread{[this] {
      while (!stop.load()) {
        if (c->served.server->poll() == 0) std::this_thread::yield();
      }
    }};
  }
  ~polled() {
    stop.store(true);
    thread.join();
  }
  // The next message of the server.
  vfu::message next() {
    vfu::message m;
    for (;;) {
      const auto got = c->channel.receive(m);
      REQUIRE(got);
      REQUIRE(*got != vfu::receive_status::closed);
      if (*got == vfu::receive_status::complete) return m;
      std::this_thread::yield();
    }
  }
  // Answers a DMA_READ or DMA_WRITE from the client's memory.
  void answer(const vfu::message& m) {
    const auto a = load_wire<vfu::dma_access>(m.body());
    REQUIRE(a.address >= base);
    REQUIRE(a.address - base + a.count <= c->bytes);
    std::byte* const there = c->memory.data() + (a.address - base);
    const vfu::message_header h{m.header.message_id, m.header.command, 0, vfu::type_reply, 0};
    if (m.command() == command::dma_read) {
      REQUIRE(c->channel.send(h, wire_bytes(a), {there, static_cast<std::size_t>(a.count)}));
    } else {
      REQUIRE(m.payload.size() == sizeof a + a.count);
      std::memcpy(there, m.payload.data() + sizeof a, static_cast<std::size_t>(a.count));
      REQUIRE(c->channel.send(h, wire_bytes(a)));
    }
  }
  // Answers until a reply comes, which is returned.
  vfu::message reply() {
    for (;;) {
      auto m = next();
      if (m.is_reply()) return m;
      answer(m);
    }
  }

  host_of_queues* c;
  std::atomic<bool> stop{false};
  std::thread thread;
};

nvme::submission_entry identify() {
  nvme::submission_entry e{};
  e.cdw0 = 6;
  e.cdw10 = 1;
  e.prp1 = base + 0x8000;
  return e;
}

}  // namespace

TEST_CASE(
    "vfio-user: reads and configuration are answered while a DMA waits, other requests after it") {
  host_of_queues c{false};
  c.enable();
  polled server{c};
  c.post(0, identify());
  const auto asked = server.next();
  REQUIRE(asked.command() == command::dma_read);
  CHECK(load_wire<vfu::dma_access>(asked.body()).address == base);
  CHECK(load_wire<vfu::dma_access>(asked.body()).count == 64);

  c.send(command::region_read, wire_bytes(vfu::region_access{nvme::csts::offset, 0, 4}));
  auto m = server.next();
  REQUIRE(m.is_reply());
  CHECK(m.header.message_id == c.id);
  CHECK(load_wire<std::uint32_t>(m.body().subspan(16)) == 1);
  c.send(command::region_write,
         join({wire_bytes(vfu::region_access{0x3c, 7, 1}), std::array{std::byte{5}}}));
  m = server.next();
  CHECK(m.is_reply());
  CHECK(m.header.message_id == c.id);
  // These two wait: a write to a register, and the end of the memory.
  c.send(command::region_write, join({wire_bytes(vfu::region_access{nvme::intms::offset, 0, 4}),
                                      wire_bytes(std::uint32_t{1})}));
  const auto write_id = c.id;
  c.send(command::dma_unmap, wire_bytes(vfu::dma_unmap{24, 0, base, c.bytes}));
  const auto unmap_id = c.id;
  c.send(command::region_read, wire_bytes(vfu::region_access{nvme::intms::offset, 0, 4}));
  m = server.next();
  CHECK(m.header.message_id == c.id);
  CHECK(load_wire<std::uint32_t>(m.body().subspan(16)) == 0);  // not yet

  server.answer(asked);
  m = server.reply();
  CHECK(m.header.message_id == write_id);
  m = server.reply();
  CHECK(m.header.message_id == unmap_id);
  CHECK((m.header.flags & vfu::flag_error) == 0);
  CHECK(c.completed(0, 0));
  CHECK(c.memory.data()[0x8000 + 24] == std::byte{'p'});  // the model's name
  c.send(command::region_read, wire_bytes(vfu::region_access{nvme::intms::offset, 0, 4}));
  m = server.next();
  CHECK(load_wire<std::uint32_t>(m.body().subspan(16)) == 1);
}

TEST_CASE(
    "vfio-user: wrong answers to a DMA are errors of the device, and the connection goes on") {
  for (int how = 0; how != 5; ++how) {
    host_of_queues c{false};
    c.enable();
    {
      polled server{c};
      c.post(0, identify());
      const auto asked = server.next();
      const auto a = load_wire<vfu::dma_access>(asked.body());
      vfu::message_header h{asked.header.message_id, asked.header.command, 0, vfu::type_reply, 0};
      const std::vector<std::byte> data(64);
      switch (how) {
        case 0:
          h.flags |= vfu::flag_error;
          h.error = EFAULT;
          REQUIRE(c.channel.send(h, {}));
          break;
        case 1:
          REQUIRE(c.channel.send(h, wire_bytes(a), std::span{data}.first(63)));
          break;
        case 2:
          REQUIRE(c.channel.send(h, wire_bytes(vfu::dma_access{a.address + 1, 64}), data));
          break;
        case 3:
          REQUIRE(
              c.channel.send(h, wire_bytes(vfu::dma_access{a.address, ~std::uint64_t{0}}), data));
          break;
        default:
          REQUIRE(c.channel.send(h, std::span{data}.first(8)));
          break;
      }
      c.send(command::device_get_info, wire_bytes(vfu::device_info{16, 0, 0, 0}));
      CHECK(server.reply().header.message_id == c.id);
      c.send(command::region_read, wire_bytes(vfu::region_access{nvme::csts::offset, 0, 4}));
      const auto m = server.reply();
      CHECK((load_wire<std::uint32_t>(m.body().subspan(16)) & 2) == 2);  // CFS: the queue is lost
      c.send(command::device_reset, {});
      CHECK(server.reply().header.message_id == c.id);
    }
    CHECK(c.served.server->state() == vfu::server_state::connected);
    CHECK(c.read32(0, nvme::csts::offset) == 0);
  }
}

TEST_CASE(
    "vfio-user: a client that never answers a DMA costs the device its queue, not the server") {
  host_of_queues c{false, {.longest = 0}, {.message_dma_limit_ms = 0}};
  c.enable();
  c.post(0, identify());
  c.turn();
  vfu::message m;
  REQUIRE(*c.channel.receive(m) == vfu::receive_status::complete);
  CHECK(m.command() == command::dma_read);
  CHECK((c.read32(0, nvme::csts::offset) & 2) == 2);
  // The answer that comes too late is dropped.
  REQUIRE(
      c.channel.send({m.header.message_id, m.header.command, 0, vfu::type_reply, 0}, m.payload));
  CHECK(c.ask(command::device_reset, std::span<const std::byte>{}) == 0);
}

TEST_CASE("vfio-user: a client that leaves during a DMA frees the server for the next one") {
  host_of_queues c{false};
  c.enable();
  {
    polled server{c};
    c.post(0, identify());
    REQUIRE(server.next().command() == command::dma_read);
    c.channel.close();
    while (c.served.server->state() != vfu::server_state::waiting) std::this_thread::yield();
  }
  CHECK(c.served.host.dma.table().size() == 0);
  c.connect();
  c.negotiate();
  CHECK(c.read32(0, nvme::cc::offset) == 0);
}

TEST_CASE(
    "vfio-user: a function of a server that is gone was removed, and a new connection finds the "
    "data") {
  served_disk served;
  std::vector<std::byte> written(4096);
  for (std::size_t i = 0; i != written.size(); ++i) written[i] = static_cast<std::byte>(i * 11);
  const auto transfer = [&](vfu::client& function, bool writing) {
    auto disk = nvme::attach(function);
    REQUIRE(disk);
    auto queue = disk->create_queue_pair({.depth = 8});
    REQUIRE(queue);
    auto block = allocate(function, written.size());
    REQUIRE(block);
    nvme::status status;
    const auto done = [&](nvme::completion e) noexcept { status = e.status(); };
    if (writing) {
      std::memcpy(block->data(), written.data(), written.size());
      REQUIRE(queue->write({.lba = 8, .blocks = 8}, *block, done));
    } else {
      REQUIRE(queue->read({.lba = 8, .blocks = 8}, *block, done));
    }
    queue->ring();
    REQUIRE(nvme::wait(*queue, 10'000));
    CHECK(status.ok());
    CHECK(std::memcmp(block->data(), written.data(), written.size()) == 0);
  };
  server_thread thread{served};
  {
    auto function = vfu::client::connect(thread.connect());
    REQUIRE(function);
    transfer(*function, true);
  }
  while (!thread.waiting.load()) std::this_thread::yield();
  auto function = vfu::client::connect(thread.connect());
  REQUIRE(function);
  transfer(*function, false);
  auto bar = function->map_bar(0);
  REQUIRE(bar);
  CHECK(bar->read32(nvme::vs::offset) == 0x0002'0000);
  thread.disconnect.store(true);
  while (!function->removed()) static_cast<void>(function->serve());
  CHECK(bar->read32(nvme::vs::offset) == 0xffff'ffff);
  bar->write32(nvme::cc::offset, 1);
  CHECK(function->config().read16(0) == 0xffff);
  CHECK(function->reset().error().code == errc::removed);
  CHECK(!nvme::attach(*function));
}

TEST_CASE("vfio-user: interrupts of completions reach the client") {
  served_disk served;
  server_thread thread{served};
  auto function = vfu::client::connect(thread.connect());
  REQUIRE(function);
  CHECK(function->interrupt_vectors() == 65);
  CHECK(!function->enable_interrupts(66));
  REQUIRE(function->enable_interrupts(65));  // more than one message of eventfds
  auto disk = nvme::attach(*function);
  REQUIRE(disk);
  CHECK(function->wait_interrupt(0, 10'000'000'000));
  REQUIRE(function->disable_interrupts());
  CHECK(!function->poll_interrupt(0));
}

namespace {

// Both I/O queues exist, and all DMA is by messages.
struct busy_host : host_of_queues {
  explicit busy_host(const vfu::server_options& how = {})
      : host_of_queues(false, {.longest = 0}, how) {
    served.host.dma.set_messages_in_flight(256);
    enable();
    polled server{*this};
    post(0, nvme::admin::create_io_cq({.qid = 1, .entries = 8, .memory = bus_addr{base + 0x3000}}));
    post(0, nvme::admin::create_io_sq(
                {.qid = 1, .entries = 8, .memory = bus_addr{base + 0x2000}, .cqid = 1}));
    while (!completed(0, 1)) server.answer(server.next());
  }
  // Fetches of commands are answered; what comes instead are `count` writes of data.
  std::vector<vfu::message> writes_of_data(polled& server, std::size_t count) {
    std::vector<vfu::message> writes;
    while (writes.size() != count) {
      auto m = server.next();
      if (m.command() == command::dma_write) {
        writes.push_back(std::move(m));
      } else {
        server.answer(m);
      }
    }
    return writes;
  }
};

}  // namespace

TEST_CASE("vfio-user: data of several commands is on its way at once, answered in any order") {
  busy_host c;
  std::memset(c.served.disk.data(), 0x3c, 512);
  polled server{c};
  for (int i = 0; i != 4; ++i) c.read_blocks();
  auto writes = c.writes_of_data(server, 4);
  CHECK_FALSE(c.completed(1, 0));
  for (const auto& m : writes) {
    CHECK(load_wire<vfu::dma_access>(m.body()).address == base + 0x8000);
    CHECK(m.payload.size() == sizeof(vfu::dma_access) + 512);
  }
  for (auto i = writes.rbegin(); i != writes.rend(); ++i) server.answer(*i);
  while (!c.completed(1, 3)) server.answer(server.next());
  CHECK(c.memory.data()[0x8000 + 511] == std::byte{0x3c});
}

TEST_CASE("vfio-user: memory is unmapped when the data on its way has arrived") {
  busy_host c;
  polled server{c};
  c.read_blocks();
  c.read_blocks();
  auto writes = c.writes_of_data(server, 2);
  c.send(command::dma_unmap, wire_bytes(vfu::dma_unmap{24, 0, base, c.bytes}));
  const auto unmap_id = c.id;
  // Requests are answered meanwhile, and the end of the memory is not.
  c.send(command::region_read, wire_bytes(vfu::region_access{nvme::csts::offset, 0, 4}));
  CHECK(server.next().header.message_id == c.id);
  server.answer(writes[1]);
  server.answer(writes[0]);
  const auto m = server.reply();
  CHECK(m.header.message_id == unmap_id);
  CHECK((m.header.flags & vfu::flag_error) == 0);
  CHECK(c.completed(1, 1));
}

TEST_CASE("vfio-user: data that is refused, answered wrongly or never fails its command alone") {
  for (int how = 0; how != 3; ++how) {
    busy_host c{{.message_dma_limit_ms = how == 2 ? 50U : 5000U}};
    polled server{c};
    c.read_blocks();
    c.read_blocks();
    auto writes = c.writes_of_data(server, 2);
    vfu::message_header h{writes[0].header.message_id, writes[0].header.command, 0, vfu::type_reply,
                          0};
    if (how == 0) {
      h.flags |= vfu::flag_error;
      h.error = EFAULT;
      REQUIRE(c.channel.send(h, {}));
    } else if (how == 1) {
      REQUIRE(c.channel.send(h, wire_bytes(vfu::dma_access{base, 512})));
    }
    server.answer(writes[1]);
    while (!c.completed(1, 1)) server.answer(server.next());
    unsigned failed = 0;
    for (std::size_t i = 0; i != 2; ++i) {
      nvme::completion_entry e{};
      std::memcpy(&e, c.memory.data() + 0x3000 + 16 * i, sizeof e);
      if (!e.status().ok()) {
        CHECK(e.status().code() == nvme::status_code::data_transfer_error);
        ++failed;
      }
    }
    CHECK(failed == 1);
    CHECK(c.served.server->state() == vfu::server_state::connected);
  }
}

TEST_CASE(
    "vfio-user: a client that leaves with data on its way frees the server for the next one") {
  busy_host c;
  {
    polled server{c};
    c.read_blocks();
    c.read_blocks();
    static_cast<void>(c.writes_of_data(server, 2));
    c.channel.close();
    while (c.served.server->state() != vfu::server_state::waiting) std::this_thread::yield();
  }
  CHECK_FALSE(c.served.host.dma.any_copies());
  CHECK(c.served.bounce.available() == c.served.bounce.capacity());
  c.connect();
  c.negotiate();
}
