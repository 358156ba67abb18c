// SPDX-License-Identifier: BSL-1.0
// Roots, a pooling switch and an SR-IOV device behind it, packet by packet.
#pragma once

#include <phasebit/pcie/driver/enumerate.hpp>
#include <phasebit/sriov/multi_root.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sriov/device.hpp>

namespace phasebit_test {

inline constexpr std::uint16_t pool_roots = 4;
inline constexpr std::uint16_t pool_slots = 3;
inline constexpr std::uint16_t pool_functions = 12;
inline constexpr std::uint64_t device_bar = 0x90'0000'0000;
inline constexpr std::uint64_t vf_bar_bytes = 0x4000;

using pool_switch = sriov::multi_root<sriov::multi_root_limits{
    .roots = pool_roots, .slots = pool_slots, .functions = pool_functions}>;

// A packet with one doubleword of data.
struct packet {
  pcie::tlp_header header{};
  std::uint32_t data = 0;
};

struct pool {
  device<sriov::function_table_limits{.virtual_functions = pool_functions}> dev;
  std::unique_ptr<pool_switch> sw = std::make_unique<pool_switch>();
  std::vector<sriov::multi_root_event> events;
  std::map<std::pair<std::uint16_t, std::uint64_t>, std::uint32_t> written;  // vf, offset

  pool() {
    REQUIRE(dev.add(0, physical_description(pool_functions, 1, 1)));
    dev.table->capture_bus(0x40);
    dev.write({0, 0}, dev.at(pcie::sriov::vf_bar0), 4, static_cast<std::uint32_t>(device_bar));
    dev.write({0, 0}, dev.at(pcie::sriov::vf_bar0 + 4), 4,
              static_cast<std::uint32_t>(device_bar >> 32));
    dev.enable(0, pool_functions);
    REQUIRE(sw->start(0x40, 0xe0, 0x1b36, 0x0c00));
    for (std::uint16_t vf = 0; vf != pool_functions; ++vf)
      REQUIRE(sw->add_function(vf, shared(vf)));
  }

  static pcie::requester_id master(std::uint16_t vf) {
    return pcie::requester_id{static_cast<std::uint16_t>(0x4001 + vf)};
  }
  sriov::shared_function shared(std::uint16_t vf) {
    sriov::shared_function f{.master = master(vf),
                             .vendor_id = 0x1b36,
                             .device_id = 0x0010,
                             .class_revision = 0x0108'0202,
                             .subsystem = 0x1100'1af4};
    f.capabilities = static_cast<std::uint8_t>(
        dev.read({0, static_cast<std::uint16_t>(vf + 1)}, pcie::header::capabilities, 1));
    f.express = static_cast<std::uint8_t>(
        *pcie::find_capability(*dev.vf_images[0], pcie::capability_id::pci_express));
    f.bars[0] = {.master = device_bar + vf * vf_bar_bytes, .shift = 14};
    return f;
  }
  auto sink() {
    return [this](const sriov::multi_root_event& e) { events.push_back(e); };
  }

  // The value of the register at an offset of a function's BAR.
  static std::uint32_t pattern(std::uint16_t vf, std::uint64_t offset) {
    return 0xbeef'0000U + vf * 0x1'0000U + static_cast<std::uint32_t>(offset);
  }
  // The device answers a request at once; nothing for posted ones.
  std::optional<packet> serve(const packet& p) {
    const pcie::tlp_header& h = p.header;
    const pcie::requester_id pf{0x4000};
    const auto refuse = [&] {
      return packet{pcie::complete(h, pf, pcie::completion_status::unsupported_request).encode(),
                    0};
    };
    if (h.is_config()) {
      const auto c = pcie::config_request::decode(h);
      const auto f = dev.table->find(c.destination);
      if (!f.exists()) return refuse();
      sriov::config_answer a = dev.table->config_read(f, c.offset, 4);
      if (c.write) {
        for (unsigned b = 0; b != 4; ++b) {
          if ((c.enables >> b & 1) == 0) continue;
          dev.write(f, c.offset + b, 1, p.data >> b * 8);
          if (dev.table->state(f) == sriov::function_state::resetting) dev.table->ready(f);
        }
      }
      return packet{pcie::complete(h, c.destination, a.status).encode(), a.value};
    }
    if (!h.has_address()) return std::nullopt;
    const auto hit = dev.table->find(h.address());
    if (!hit.function.exists()) {
      if (h.is_posted()) return std::nullopt;
      return refuse();
    }
    const auto vf = static_cast<std::uint16_t>(hit.function.vf - 1);
    if (h.is_posted()) {
      written[{vf, hit.offset}] = p.data;
      return std::nullopt;
    }
    return packet{pcie::complete(h, master(vf), pcie::completion_status::successful).encode(),
                  pattern(vf, hit.offset)};
  }
  // A request of a root, with its answer.
  std::optional<packet> ask(std::uint16_t root, const packet& p) {
    const sriov::routed_tlp r = sw->from_root(root, p.header, p.data, sink());
    if (r.route == sriov::tlp_route::reply) return packet{r.header, r.data};
    if (r.route != sriov::tlp_route::device) return std::nullopt;
    const auto answer = serve({r.header, p.data});
    if (!answer) return std::nullopt;
    const sriov::routed_tlp back = sw->from_device(answer->header);
    REQUIRE(back.route == sriov::tlp_route::root);
    REQUIRE(back.root == root);
    return packet{back.header, answer->data};
  }
};

// A root complex: one root port at 00:01.0, and behind it what the switch shows.
struct root_complex {
  pool* p;
  std::uint16_t root;
  sriov::config_image port{};
  std::uint16_t next_tag = 0;

  root_complex(pool& of, std::uint16_t number) : p(&of), root(number) {
    REQUIRE(pcie::emit_bridge(port, {.vendor_id = 0x8086, .device_id = 0x3420}));
  }

  struct view {
    root_complex* rc;
    pcie::requester_id id;

    std::uint32_t access(bool write, std::uint16_t offset, unsigned bytes, std::uint32_t value) {
      const std::uint32_t ones = bytes == 4 ? 0xffff'ffff : (1U << bytes * 8) - 1;
      if (id == pcie::requester_id{0, 1, 0}) {
        if (write) (void)rc->port.write(offset, bytes, value);
        return rc->port.read(offset, bytes);
      }
      const std::uint8_t secondary = rc->port.read8(pcie::bridge_header::secondary_bus);
      const std::uint8_t subordinate = rc->port.read8(pcie::bridge_header::subordinate_bus);
      if (id.bus() == 0 || id.bus() < secondary || id.bus() > subordinate) return ones;
      const unsigned shift = offset % 4 * 8;
      pcie::config_request c{.write = write, .type1 = id.bus() != secondary, .destination = id};
      c.tag = static_cast<std::uint16_t>(32 + rc->next_tag++ % 224);
      c.offset = static_cast<std::uint16_t>(offset & ~3U);
      c.enables = static_cast<std::uint8_t>(((1U << bytes) - 1) << offset % 4);
      const auto answer = rc->p->ask(rc->root, {c.encode(), value << shift});
      REQUIRE(answer);
      const auto done = pcie::completion::decode(answer->header);
      REQUIRE(done.tag == c.tag);
      REQUIRE(done.requester == pcie::requester_id{});
      if (done.status != pcie::completion_status::successful) return ones;
      REQUIRE(done.completer.bus() == id.bus());
      return answer->data >> shift & ones;
    }
    std::uint8_t read8(std::uint16_t at) noexcept {
      return static_cast<std::uint8_t>(access(false, at, 1, 0));
    }
    std::uint16_t read16(std::uint16_t at) noexcept {
      return static_cast<std::uint16_t>(access(false, at, 2, 0));
    }
    std::uint32_t read32(std::uint16_t at) noexcept { return access(false, at, 4, 0); }
    void write8(std::uint16_t at, std::uint8_t v) noexcept { access(true, at, 1, v); }
    void write16(std::uint16_t at, std::uint16_t v) noexcept { access(true, at, 2, v); }
    void write32(std::uint16_t at, std::uint32_t v) noexcept { access(true, at, 4, v); }
    std::uint32_t size_bytes() const noexcept { return 4096; }
  };
  view function(pcie::requester_id id) noexcept { return {this, id}; }
  view function(std::uint8_t bus, std::uint8_t dev) noexcept {
    return {this, pcie::requester_id{bus, dev, 0}};
  }

  std::vector<pcie::enumerated_function> enumerate() {
    std::vector<pcie::enumerated_function> list(64);
    const pcie::host_resources host{.memory = {0xc000'0000, 0x1000'0000},
                                    .prefetchable = {0x80'0000'0000, 0x1'0000'0000}};
    const auto found = pcie::enumerate(*this, host, list);
    REQUIRE(found);
    list.resize(found->size());
    return list;
  }
};

}  // namespace phasebit_test
