// SPDX-License-Identifier: BSL-1.0
// Clients that break the protocol: what they send is refused with an errno, changes nothing, leaves no
// descriptor open, and the connection goes on.
#include <phasebit/pcie/spec/header.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <transport/vfio_user/raw_client.hpp>

using namespace phasebit;
using namespace phasebit_test;
using vfu::command;

namespace {

vfu::dma_map map_of(std::uint64_t address, std::uint64_t size, std::uint64_t offset = 0,
                    std::uint32_t flags = map_rw) {
  return {sizeof(vfu::dma_map), flags, offset, address, size};
}

}  // namespace

TEST_CASE("vfio-user: a VERSION that is wrong is refused, and a right one is taken afterwards") {
  raw_client c;
  const auto with_zero = [](std::string text) {
    text.push_back('\0');
    return text;
  };
  const std::string bad[] = {
      "{\"capabilities\":{}}",  // no zero at the end
      with_zero("{"),
      with_zero("[]"),
      with_zero("{\"capabilities\":{\"max_msg_fds\":0}}"),
      with_zero("{\"capabilities\":{\"max_msg_fds\":-1}}"),
      with_zero("{\"capabilities\":{\"max_msg_fds\":1025}}"),
      with_zero("{\"capabilities\":{\"max_msg_fds\":1.5}}"),
      with_zero("{\"capabilities\":{\"max_msg_fds\":\"8\"}}"),
      with_zero("{\"capabilities\":{\"max_data_xfer_size\":1}}"),
      with_zero("{\"capabilities\":{\"max_data_xfer_size\":99999999999999999999999}}"),
      with_zero("{\"capabilities\":{\"write_multiple\":1}}"),
      with_zero("{\"capabilities\":{\"twin_socket\":true}}"),
      with_zero("{\"capabilities\":{}} x"),
      with_zero("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}"),
      with_zero("{\"a\":\"no end}"),
      with_zero("{\"a\":01}"),
      with_zero("{\"a\":1,}"),
  };
  for (const auto& text : bad) CHECK_MESSAGE(c.version(text) == EINVAL, text);
  CHECK(c.version("", 1) == EINVAL);
  CHECK(c.ask(command::version, std::uint16_t{0}) == EINVAL);
  // Nothing else before it.
  CHECK(c.ask(command::device_get_info, vfu::device_info{16, 0, 0, 0}) == EINVAL);
  CHECK(c.version(
            with_zero(" { \"x\" : [1, {\"y\": null}], \"capabilities\" : { \"max_msg_fds\" : 8, "
                      "\"migration\":{\"pgsize\":4096}, \"s\":\"\\\"\" } } ")) == 0);
  CHECK(load_wire<vfu::version_header>(c.reply.body()).minor == 0);
  CHECK(c.version(with_zero("{}")) == EINVAL);  // once
  CHECK(c.ask(command::device_get_info, vfu::device_info{16, 0, 0, 0}) == 0);
  raw_client without_text;
  CHECK(without_text.version("") == 0);
  raw_client newer;
  CHECK(newer.version("", 0, 7) == 0);  // answered with 0.0
}

TEST_CASE("vfio-user: messages that no command has are refused one by one") {
  raw_client c;
  c.negotiate();
  const auto refuses = [&](const vfu::message_header& h, std::size_t payload, int error) {
    std::vector<std::byte> bytes(sizeof h + payload);
    std::memcpy(bytes.data(), &h, sizeof h);
    c.id = h.message_id;
    for (std::size_t sent = 0; sent != bytes.size();) {
      const auto n = ::send(c.channel.fd(), bytes.data() + sent, bytes.size() - sent,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) sent += static_cast<std::size_t>(n);
      c.turn(2);
    }
    c.turn();
    CHECK(c.answered());
    CHECK(c.error() == error);
  };
  for (const std::uint32_t size : {0U, 1U, 15U}) refuses({7, 4, size, 0, 0}, 0, EINVAL);
  refuses({8, 9, 3 << 20, 0, 0}, (3 << 20) - 16, E2BIG);
  for (const std::uint16_t number : std::initializer_list<std::uint16_t>{0, 14, 19, 4711, 65535})
    refuses({9, number, 16, 0, 0}, 0, EINVAL);
  refuses({10, 4, 16, 2, 0}, 0, EINVAL);     // a type that is neither command nor reply
  refuses({10, 4, 16, 0x40, 0}, 0, EINVAL);  // a reserved flag
  refuses({10, 4, 16, vfu::flag_error, 0}, 0, EINVAL);
  refuses({11, 11, 32, 0, 0}, 16, EINVAL);  // DMA_READ is the server's
  for (const command what : {command::device_get_region_io_fds, command::device_feature,
                             command::mig_data_read, command::mig_data_write}) {
    refuses({12, static_cast<std::uint16_t>(what), 16, 0, 0}, 0, ENOTSUP);
  }
  // A reply that was not waited for has no answer.
  REQUIRE(c.channel.send({5, 11, 0, vfu::type_reply, 0}, {}));
  c.turn();
  CHECK(!c.answered());
  CHECK(c.ask(command::device_get_info, vfu::device_info{16, 0, 0, 0}) == 0);
}

TEST_CASE("vfio-user: a message that arrives byte by byte is one message") {
  raw_client c;
  c.negotiate();
  const vfu::device_info info{16, 0, 0, 0};
  const vfu::message_header h{++c.id, 4, 32, 0, 0};
  for (const std::byte b : join({wire_bytes(h), wire_bytes(info)})) {
    REQUIRE(::send(c.channel.fd(), &b, 1, MSG_NOSIGNAL) == 1);
    c.turn(1);
  }
  c.turn();
  REQUIRE(c.answered());
  CHECK(load_wire<vfu::device_info>(c.reply.body()).num_regions == vfu::region_count);
}

TEST_CASE("vfio-user: a posted message has no answer, whether it is refused or not") {
  raw_client c;
  c.negotiate();
  const vfu::region_access a{0x14, 0, 4};
  const std::uint32_t value = 0;
  c.send(command::region_write, join({wire_bytes(a), wire_bytes(value)}), {}, vfu::flag_no_reply);
  c.send(command::region_write, wire_bytes(a), {}, vfu::flag_no_reply);
  c.turn();
  CHECK(!c.answered());
  CHECK(c.served.server->counters().refused == 1);
}

TEST_CASE("vfio-user: DMA_MAP and DMA_UNMAP are checked") {
  raw_client c;
  c.negotiate();
  const auto file = memory_file(1 << 20);
  const int fd = file.get();
  const std::size_t before = open_descriptors();
  CHECK(c.ask(command::dma_map, map_of(0x10000, 0x10000), {fd}) == 0);
  CHECK(c.ask(command::dma_map, map_of(0x30000, 0x1000)) == 0);  // by messages
  const struct {
    vfu::dma_map map;
    bool file;
  } bad[] = {
      {map_of(0x10000, 0x10000), true},             // the same again
      {map_of(0x1f000, 0x1000), true},              // its last page
      {map_of(0, 0x10001), false},                  // reaches into it
      {map_of(0, 0x80000), true},                   // around it
      {map_of(0x30fff, 1), false},                  // the last byte of the other
      {map_of(0x50000, 0), true},                   // no bytes
      {map_of(~std::uint64_t{0}, 2), false},        // wraps
      {map_of(0x50000, ~std::uint64_t{0}), false},  // wraps
      {map_of(0x50000, 0x1000, 1 << 20), true},     // behind the file
      {map_of(0x50000, 0x2000, 0xff000), true},     // over its end
      {map_of(0x50000, 0x1000, ~std::uint64_t{0xfff}), true},
      {map_of(0x50000, 0x1000, 0, 0), true},
      {map_of(0x50000, 0x1000, 0, 4), true},
      {{24, map_rw, 0, 0x50000, 0x1000}, true},  // argsz
  };
  for (const auto& b : bad) {
    CHECK_MESSAGE(c.ask(command::dma_map, wire_bytes(b.map),
                        std::span{&fd, b.file ? std::size_t{1} : std::size_t{0}}) == EINVAL,
                  b.map.address << " " << b.map.size);
  }
  const int two[] = {fd, fd};
  CHECK(c.ask(command::dma_map, wire_bytes(map_of(0x50000, 0x1000)), two) == EINVAL);
  const int many[16] = {fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd};
  CHECK(c.ask(command::dma_map, wire_bytes(map_of(0x50000, 0x1000)), many) == EINVAL);
  CHECK(c.ask(command::dma_map, std::span{wire_bytes(map_of(0x50000, 0x1000))}.first(31)) ==
        EINVAL);
  CHECK(c.ask(command::device_get_info, vfu::device_info{16, 0, 0, 0}, {fd, fd}) == EINVAL);
  CHECK(c.served.host.dma.table().size() == 2);
  // Adjacent ranges do not overlap, and the last byte of the address space is one.
  CHECK(c.ask(command::dma_map, map_of(0x20000, 0x10000), {fd}) == 0);
  CHECK(c.ask(command::dma_map, map_of(~std::uint64_t{0xfff}, 0x1000)) == 0);

  const auto unmap = [&](std::uint64_t address, std::uint64_t size, std::uint32_t flags = 0,
                         std::uint32_t argsz = 24) {
    return c.ask(command::dma_unmap, vfu::dma_unmap{argsz, flags, address, size});
  };
  CHECK(unmap(0x10000, 0x1000) == ENOENT);
  CHECK(unmap(0x11000, 0xf000) == ENOENT);
  CHECK(unmap(0x10000, 0x20000) == ENOENT);
  CHECK(unmap(0x90000, 0x1000) == ENOENT);
  CHECK(unmap(0, 0) == ENOENT);
  CHECK(unmap(0x10000, 0x10000, 1) == ENOTSUP);
  CHECK(unmap(0x10000, 0x10000, 4) == EINVAL);
  CHECK(unmap(0x10000, 0x10000, 2) == EINVAL);
  CHECK(unmap(0x10000, 0x10000, 0, 23) == EINVAL);
  CHECK(c.served.host.dma.table().size() == 4);
  CHECK(unmap(0x10000, 0x10000) == 0);
  CHECK(load_wire<vfu::dma_unmap>(c.reply.body()).size == 0x10000);
  CHECK(unmap(0x10000, 0x10000) == ENOENT);
  CHECK(unmap(0, 0, vfu::dma_unmap_flag_all) == 0);
  CHECK(c.served.host.dma.table().size() == 0);
  CHECK(open_descriptors() == before);
}

TEST_CASE("vfio-user: DEVICE_SET_IRQS is checked") {
  raw_client c{{.controller = {.io_queue_pairs = 4, .interrupt_vectors = 5}}};
  c.negotiate();
  const std::size_t before = open_descriptors();
  constexpr std::uint32_t set_event = vfu::irq_data_eventfd | vfu::irq_action_trigger;
  const auto set = [&](std::uint32_t flags, std::uint32_t index, std::uint32_t start,
                       std::uint32_t count, std::span<const int> fds = {},
                       std::span<const std::byte> more = {}, std::uint32_t argsz = 20) {
    const vfu::irq_set s{argsz, flags, index, start, count};
    return c.ask(command::device_set_irqs, join({wire_bytes(s), more}), fds);
  };
  {
    const auto one = event();
    const int fd[] = {one.get(), one.get()};
    const auto first = std::span{fd}.first(1);
    CHECK(set(set_event, 2, 5, 1, first) == EINVAL);
    CHECK(set(set_event, 2, 4, 2, fd) == EINVAL);
    CHECK(set(set_event, 2, 0xffff'ffff, 1, first) == EINVAL);
    CHECK(set(set_event, 2, 0xffff'ffff, 2, fd) == EINVAL);
    CHECK(set(set_event, 2, 1, 0xffff'ffff, first) == EINVAL);
    CHECK(set(set_event, 2, 0, 2, first) == EINVAL);  // one of two
    CHECK(set(set_event, 2, 0, 1, fd) == EINVAL);     // two of one
    CHECK(set(set_event, 0, 0, 1, first) == EINVAL);  // INTx: none
    CHECK(set(set_event, 5, 0, 1, first) == EINVAL);
    CHECK(set(set_event, 2, 0, 1, first, {}, 19) == EINVAL);
    CHECK(set(0, 2, 0, 1) == EINVAL);
    CHECK(set(vfu::irq_data_none, 2, 0, 1) == EINVAL);  // no action
    CHECK(set(vfu::irq_action_trigger, 2, 0, 1) == EINVAL);
    CHECK(set(set_event | vfu::irq_data_none, 2, 0, 1, first) == EINVAL);
    CHECK(set(set_event | vfu::irq_action_mask, 2, 0, 1, first) == EINVAL);
    CHECK(set(set_event | 0x40, 2, 0, 1, first) == EINVAL);
    CHECK(set(vfu::irq_data_none | vfu::irq_action_trigger, 2, 0, 1, first) == EINVAL);
    CHECK(set(vfu::irq_data_bool | vfu::irq_action_trigger, 2, 0, 2, {},
              std::array<std::byte, 1>{}) == EINVAL);
    CHECK(set(vfu::irq_data_eventfd | vfu::irq_action_mask, 2, 0, 1, first) == ENOTSUP);
    CHECK(set(vfu::irq_data_none | vfu::irq_action_mask, 2, 0, 0) == EINVAL);
    CHECK(set(vfu::irq_data_none | vfu::irq_action_trigger, 2, 1, 0) == EINVAL);
    // Descriptors that could block the server, or end it.
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const posix::unique_fd reading{ends[0]};
    const posix::unique_fd writing{ends[1]};
    CHECK(set(set_event, 2, 0, 1, std::span{ends}.last(1)) == EINVAL);
    const auto file = memory_file(4096);
    const int wrong[] = {one.get(), file.get()};
    CHECK(set(set_event, 2, 0, 2, wrong) == EINVAL);
    c.served.host.interrupts.raise(0);
    CHECK(count_of(one) == 0);
    CHECK(c.served.host.interrupts.pending(0));
  }
  CHECK(open_descriptors() == before);
  CHECK(set(vfu::irq_data_none | vfu::irq_action_trigger, 0, 0, 0) == 0);  // nothing to switch off
  CHECK(c.ask(command::device_get_irq_info, vfu::irq_info{16, 0, 5, 0}) == EINVAL);
  CHECK(c.ask(command::device_get_irq_info, vfu::irq_info{15, 0, 2, 0}) == EINVAL);
}

TEST_CASE("vfio-user: region accesses are checked") {
  raw_client c;
  c.negotiate();
  const auto read = [&](std::uint32_t region, std::uint64_t offset, std::uint32_t count) {
    return c.ask(command::region_read, vfu::region_access{offset, region, count});
  };
  CHECK(read(0, 0, 4) == 0);
  CHECK(read(7, 0, 4096) == 0);
  CHECK(c.reply.payload.size() == 4096 + 16);
  CHECK(read(7, 4095, 1) == 0);
  CHECK(read(7, 4095, 2) == EINVAL);
  CHECK(read(7, 4096, 1) == EINVAL);
  CHECK(read(7, 0, 0) == EINVAL);
  CHECK(read(7, ~std::uint64_t{0}, 2) == EINVAL);
  CHECK(read(0, 0x3fff, 1) == 0);
  CHECK(read(0, 0x4000, 1) == EINVAL);
  CHECK(read(0, 0, 0xffff'ffff) == EINVAL);
  for (const std::uint32_t region : {1U, 2U, 3U, 5U, 6U, 8U, 9U, 0xffff'ffffU}) {
    CHECK(read(region, 0, 4) == EINVAL);
  }
  const std::array<std::byte, 12> bytes{};
  CHECK(c.write(0, 0x14, std::span{bytes}.first(4)) == 0);
  CHECK(c.write(0, 0x16, std::span{bytes}.first(4)) == EINVAL);
  CHECK(c.write(0, 0x14, std::span{bytes}.first(3)) == EINVAL);
  CHECK(c.write(0, 0x3ffc, std::span{bytes}.first(8)) == EINVAL);
  CHECK(c.write(0, 0x24, bytes) == 0);
  CHECK(c.write(0, 0, {}) == EINVAL);
  const vfu::region_access wrong{0, 0, 8};
  CHECK(c.ask(command::region_write, join({wire_bytes(wrong), std::span{bytes}.first(4)})) ==
        EINVAL);
  CHECK(c.ask(command::region_write, join({wire_bytes(wrong), bytes})) == EINVAL);
  CHECK(c.ask(command::device_get_region_info, vfu::region_info{32, 0, 9, 0, 0, 0}) == EINVAL);
  CHECK(c.ask(command::device_get_region_info, vfu::region_info{31, 0, 0, 0, 0, 0}) == EINVAL);
  CHECK(c.ask(command::device_reset, bytes) == EINVAL);
}

TEST_CASE("vfio-user: REGION_WRITE_MULTI is executed whole or not at all") {
  raw_client c;
  c.negotiate();
  const auto multi = [&](std::vector<vfu::multi_write> writes, std::uint64_t count) {
    return c.ask(command::region_write_multi,
                 join({wire_bytes(count), std::as_bytes(std::span{writes})}));
  };
  const auto write = [](std::uint32_t region, std::uint64_t offset, std::uint32_t count,
                        std::uint8_t value) {
    return vfu::multi_write{offset, region, count, {value, 0, 0, 0, 0, 0, 0, 0}};
  };
  CHECK(multi({write(0, 0x24, 4, 3), write(7, 0x3c, 1, 9), write(0, 0x28, 8, 0)}, 3) == 0);
  CHECK(load_wire<std::uint64_t>(c.reply.body()) == 3);
  CHECK(c.read32(0, 0x24) == 3);
  CHECK((c.read32(7, 0x3c) & 0xff) == 9);
  CHECK(multi({write(0, 0x24, 4, 5), write(0, 0x4000, 4, 0)}, 2) == EINVAL);
  CHECK(multi({write(0, 0x24, 4, 5), write(0, 0x28, 9, 0)}, 2) == EINVAL);
  CHECK(multi({write(0, 0x24, 4, 5)}, 2) == EINVAL);
  CHECK(multi({write(0, 0x24, 4, 5)}, 0) == EINVAL);
  CHECK(multi({write(0, 0x24, 4, 5)}, ~std::uint64_t{0}) == EINVAL);
  CHECK(multi(std::vector<vfu::multi_write>(201, write(0, 0x24, 4, 5)), 201) == EINVAL);
  CHECK(c.read32(0, 0x24) == 3);
  CHECK(multi(std::vector<vfu::multi_write>(200, write(0, 0x24, 4, 5)), 200) == 0);
  raw_client without;
  without.negotiate("{}");
  CHECK(without.ask(command::region_write_multi, std::uint64_t{1}) == ENOTSUP);
}

TEST_CASE("vfio-user: random messages are answered, and leave nothing open") {
  const auto file = memory_file(1 << 20);
  const auto eventfd = event();
  const std::size_t before = open_descriptors();
  std::uint64_t refused = 0;
  std::uint64_t taken = 0;
  {
    raw_client c{{}, {.message_dma_limit_ms = 0}};
    c.negotiate();
    std::mt19937 random{4711};
    for (int round = 0; round != 20000; ++round) {
      std::vector<std::byte> payload(random() % 3 == 0 ? random() % 64 : 8 * (1 + random() % 6));
      for (auto& b : payload) {
        b = static_cast<std::byte>(random() % 4 == 0   ? random()
                                   : random() % 3 == 0 ? random() % 40
                                                       : 0);
      }
      if (payload.size() >= 4 && random() % 4 != 0) {
        const auto size = static_cast<std::uint32_t>(payload.size());
        std::memcpy(payload.data(), &size, sizeof size);
      }
      std::vector<int> fds(random() % 4 == 0 ? random() % 3 : 0);
      for (int& fd : fds) fd = random() % 2 == 0 ? file.get() : eventfd.get();
      const auto what = static_cast<command>(2 + random() % 17);
      if (what == command::version) continue;
      const int error = c.ask(what, payload, fds);
      REQUIRE(error >= 0);
      ++(error == 0 ? taken : refused);
    }
    CHECK(c.served.server->state() == vfu::server_state::connected);
    c.channel.close();
    c.turn();
    CHECK(c.served.server->state() == vfu::server_state::waiting);
  }
  CHECK(refused > 1000);
  CHECK(taken > 100);
  CHECK(open_descriptors() == before);
}
