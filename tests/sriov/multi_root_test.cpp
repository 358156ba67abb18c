// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/spec/tlp_parse.hpp>
#include <phasebit/sriov/multi_root.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <vector>

#include <doctest/doctest.h>
#include <sriov/pool_rig.hpp>

using namespace phasebit;
using namespace phasebit::sriov;
using namespace phasebit_test;

namespace {

void attach(pool& p, std::uint16_t vf, std::uint16_t root, std::uint16_t slot) {
  const auto attached = p.sw->attach(vf, root, slot, p.sink());
  REQUIRE(attached);
}

const pcie::enumerated_function* endpoint(const std::vector<pcie::enumerated_function>& list,
                                          unsigned which) {
  for (const auto& f : list) {
    if (f.layout == pcie::header_layout::type0 && which-- == 0) return &f;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("each root enumerates an ordinary switch with its own functions behind it") {
  pool p;
  attach(p, 0, 0, 0);
  attach(p, 5, 0, 2);
  attach(p, 7, 1, 1);
  for (std::uint16_t root = 0; root != 3; ++root) {
    root_complex rc{p, root};
    const auto list = rc.enumerate();
    // Root port, upstream port, three downstream ports, and the functions.
    const std::size_t functions = root == 0 ? 2 : root == 1 ? 1 : 0;
    REQUIRE(list.size() == 5 + functions);
    for (const auto& f : list) CHECK_FALSE(f.fault);
    for (unsigned i = 0; i != functions; ++i) {
      const auto* f = endpoint(list, i);
      REQUIRE(f != nullptr);
      CHECK(f->vendor_id == 0x1b36);
      CHECK(f->device_id == 0x0010);
      CHECK(f->class_code == 0x010802);
      CHECK(f->bars[0].size == vf_bar_bytes);
      const std::uint16_t vf = root == 1 ? 7 : i == 0 ? 0 : 5;
      // Capabilities are the function's own.
      auto config = rc.function(f->id);
      REQUIRE(pcie::find_capability(config, pcie::capability_id::msix));
      // A read of the BAR reaches the function and comes back to who asked.
      const pcie::requester_id cpu{0, 0, static_cast<std::uint8_t>(i)};
      const auto read = pcie::memory_request::read(cpu, 77, f->bars[0].address + 0x104, 4);
      const auto answer = p.ask(root, {read.encode(), 0});
      REQUIRE(answer);
      const auto c = pcie::completion::decode(answer->header);
      CHECK(c.status == pcie::completion_status::successful);
      CHECK(c.requester == cpu);
      CHECK(c.completer == f->id);
      CHECK(c.tag == 77);
      CHECK(answer->data == pool::pattern(vf, 0x104));
      const auto write = pcie::memory_request::write_of(cpu, f->bars[0].address + 0x1000, 4);
      CHECK_FALSE(p.ask(root, {write.encode(), 0x1000U + vf}));
      CHECK(p.written[{vf, 0x1000}] == 0x1000U + vf);
    }
  }
}

TEST_CASE("a function's reads and messages reach its root under the id that the root gave it") {
  pool p;
  attach(p, 3, 2, 1);
  root_complex rc{p, 2};
  const auto list = rc.enumerate();
  const auto* f = endpoint(list, 0);
  REQUIRE(f != nullptr);
  const auto up =
      p.sw->from_device(pcie::memory_request::read(pool::master(3), 9, 0x1234'5000, 64).encode());
  CHECK(up.route == tlp_route::root);
  CHECK(up.root == 2);
  CHECK(up.header == pcie::memory_request::read(f->id, 9, 0x1234'5000, 64).encode());
  CHECK(p.sw->outstanding(3) == 1);
  // The same tag again is held until the answer is complete.
  CHECK(
      p.sw->from_device(pcie::memory_request::read(pool::master(3), 9, 0x2000, 4).encode()).route ==
      tlp_route::hold);
  auto c = pcie::complete(up.header, pcie::requester_id{}, pcie::completion_status::successful);
  auto half = c;
  half.dwords = 8;
  auto rest = half;
  rest.byte_count = 32;
  rest.lower_address = static_cast<std::uint8_t>(c.lower_address + 32);
  const auto first = p.sw->from_root(2, half.encode(), 0, p.sink());
  CHECK(first.route == tlp_route::device);
  CHECK(first.header.requester() == pool::master(3));
  CHECK(first.header.completer() == p.sw->root_id(2));
  CHECK(p.sw->outstanding(3) == 1);
  CHECK(p.sw->from_root(2, rest.encode(), 0, p.sink()).route == tlp_route::device);
  CHECK(p.sw->outstanding(3) == 0);
  CHECK(p.sw->from_root(2, rest.encode(), 0, p.sink()).route == tlp_route::drop);
  // An interrupt message passes as what it is: a write to an address of the root.
  const auto msi =
      p.sw->from_device(pcie::memory_request::write_of(pool::master(3), 0xfee0'0000, 4).encode());
  CHECK(msi.route == tlp_route::root);
  CHECK(msi.header.address() == 0xfee0'0000);
  // Messages go to the root complex only.
  CHECK(p.sw->from_device(pcie::message{.code = pcie::message_code::error_nonfatal,
                                        .requester = pool::master(3)}
                              .encode())
            .route == tlp_route::root);
  CHECK(p.sw->from_device(
                pcie::message{.routing = pcie::message_routing::by_id, .requester = pool::master(3)}
                    .encode())
            .route == tlp_route::drop);
  // Without Bus Master Enable in a bridge or in the function nothing goes up.
  rc.function(f->id).write16(pcie::header::command, 2);
  CHECK(
      p.sw->from_device(pcie::memory_request::read(pool::master(3), 9, 0x2000, 4).encode()).route ==
      tlp_route::reply);
}

TEST_CASE("a root gets Unsupported Request for what it does not have") {
  pool p;
  attach(p, 0, 0, 0);
  attach(p, 1, 1, 0);
  root_complex a{p, 0};
  root_complex b{p, 1};
  const auto list_a = a.enumerate();
  const auto list_b = b.enumerate();
  const auto refused = [&](std::uint16_t root, const pcie::tlp_header& h) {
    const auto r = p.sw->from_root(root, h, 0, p.sink());
    REQUIRE(r.route == tlp_route::reply);
    const auto c = pcie::completion::decode(r.header);
    CHECK(c.status == pcie::completion_status::unsupported_request);
    CHECK(c.tag == h.tag());
    CHECK(c.requester == h.requester());
  };
  const auto* f = endpoint(list_a, 0);
  REQUIRE(f != nullptr);
  const pcie::requester_id cpu{};
  refused(0, pcie::memory_request::read(cpu, 1, f->bars[0].address + vf_bar_bytes, 4).encode());
  refused(0, pcie::memory_request::read(cpu, 1, f->bars[0].address - 4, 4).encode());
  refused(0,
          pcie::memory_request::read(cpu, 1, device_bar, 4).encode());  // the device's own address
  refused(2, pcie::memory_request::read(cpu, 1, f->bars[0].address, 4).encode());
  refused(0, pcie::config_request{.type1 = true, .destination = pool::master(0)}.encode());
  refused(0,
          pcie::config_request{.type1 = true, .destination = pcie::requester_id{f->id.bus(), 1, 0}}
              .encode());
  refused(0, pcie::config_request{.destination = pcie::requester_id{1, 1, 0}}.encode());
  refused(0, pcie::io_request{.address = 0x1000}.encode());
  pcie::memory_request locked = pcie::memory_request::read(cpu, 1, f->bars[0].address, 4);
  locked.locked = true;
  refused(0, locked.encode());
  // The function is there for neither while its memory decoding is off.
  a.function(f->id).write16(pcie::header::command, 4);
  refused(0, pcie::memory_request::read(cpu, 1, f->bars[0].address, 4).encode());
  // The device's requests under ids that no root has.
  const auto up =
      p.sw->from_device(pcie::memory_request::read(pool::master(5), 1, 0x1000, 4).encode());
  CHECK(up.route == tlp_route::reply);
  CHECK(p.sw->from_device(pcie::memory_request::write_of(pcie::requester_id{9}, 0x1000, 4).encode())
            .route == tlp_route::drop);
}

TEST_CASE("windows and Bus Master Enable of both ports decide, as in an ordinary switch") {
  pool p;
  attach(p, 3, 2, 1);
  root_complex rc{p, 2};
  const auto list = rc.enumerate();
  const auto* f = endpoint(list, 0);
  REQUIRE(f != nullptr);
  const std::uint8_t first = rc.port.read8(pcie::bridge_header::secondary_bus);
  auto up = rc.function(first, 0);
  auto down = rc.function(up.read8(pcie::bridge_header::secondary_bus), 1);
  const auto reaches = [&] {
    const auto h = pcie::memory_request::write_of({}, f->bars[0].address, 4).encode();
    return p.sw->from_root(2, h, 0, p.sink()).route == tlp_route::device;
  };
  const auto sends = [&] {
    const auto h = pcie::memory_request::write_of(pool::master(3), 0x1000, 4).encode();
    return p.sw->from_device(h).route == tlp_route::root;
  };
  REQUIRE(reaches());
  REQUIRE(sends());
  for (auto* port : {&up, &down}) {
    port->write16(pcie::header::command, 2);
    CHECK(reaches());
    CHECK_FALSE(sends());
    port->write16(pcie::header::command, 4);
    CHECK_FALSE(reaches());
    CHECK(sends());
    port->write16(pcie::header::command, 6);
    // A window that ends before the BAR does.
    for (const std::uint16_t window :
         {pcie::bridge_header::memory_base, pcie::bridge_header::prefetchable_base}) {
      const std::uint32_t before = port->read32(window);
      port->write32(window, 0x0000'fff0);
      const bool used = !reaches();
      port->write32(window, before);
      CHECK(reaches());
      if (window == pcie::bridge_header::memory_base) CHECK(used);
    }
    // A bus number that the port above does not pass on.
    const std::uint8_t subordinate = port->read8(pcie::bridge_header::subordinate_bus);
    port->write8(pcie::bridge_header::subordinate_bus, 0);
    CHECK_FALSE(reaches());
    CHECK_FALSE(sends());
    port->write8(pcie::bridge_header::subordinate_bus, subordinate);
    CHECK(reaches());
    CHECK(sends());
  }
}

TEST_CASE("an assignment that is none is refused") {
  pool p;
  CHECK(p.sw->attach(0, 4, 0, p.sink()).error().code == errc::out_of_range);
  CHECK(p.sw->attach(0, 0, 3, p.sink()).error().code == errc::out_of_range);
  CHECK(p.sw->attach(12, 0, 0, p.sink()).error().code == errc::out_of_range);
  attach(p, 0, 0, 0);
  CHECK(p.sw->attach(0, 1, 0, p.sink()).error().code == errc::busy);
  CHECK(p.sw->attach(1, 0, 0, p.sink()).error().code == errc::busy);
  CHECK_FALSE(p.sw->block(1));
  CHECK(p.sw->add_function(0, p.shared(0)).error().code == errc::already_exists);
  CHECK(p.sw->add_function(12, p.shared(0)).error().code == errc::out_of_range);
  pool_switch fresh;
  CHECK(fresh.start(0x40, 0x40, 1, 1).error().code == errc::overlap);
}

TEST_CASE(
    "a move by hot-plug: button, power, presence, link, and the other root finds the function") {
  pool p;
  attach(p, 2, 0, 1);
  root_complex a{p, 0};
  root_complex b{p, 1};
  auto list = a.enumerate();
  (void)b.enumerate();
  REQUIRE(endpoint(list, 0) != nullptr);
  // Slot control of root 0's downstream port 1: all events enabled, power on.
  const auto port_of = [](root_complex& rc, std::uint8_t slot) {
    const std::uint8_t up = rc.port.read8(pcie::bridge_header::secondary_bus);
    const std::uint8_t below = rc.function(up, 0).read8(pcie::bridge_header::secondary_bus);
    return rc.function(below, slot);
  };
  auto port = port_of(a, 1);
  const std::uint16_t express = *pcie::find_capability(port, pcie::capability_id::pci_express);
  const auto control = static_cast<std::uint16_t>(express + pcie::express::slot_control);
  const auto status = static_cast<std::uint16_t>(express + pcie::express::slot_status);
  const auto link = static_cast<std::uint16_t>(express + pcie::express::link_status);
  CHECK((port.read32(static_cast<std::uint16_t>(express + pcie::express::slot_capabilities)) &
         0x7b) == 0x7b);
  const auto msi = pcie::read_msi(port);
  REQUIRE(msi);
  REQUIRE(pcie::enable_msi(port, *msi, {bus_addr{0xfee0'1000}, 0x31}));
  port.write16(status, 0xffff);
  port.write16(control, 0x1039);
  CHECK((port.read16(status) & 0x50) == 0x50);
  CHECK((port.read16(link) & 0x2000) != 0);
  port.write16(status, 0x1ff);
  p.events.clear();

  p.sw->press_attention_button(0, 1, p.sink());
  REQUIRE(p.events.size() == 1);
  CHECK(p.events[0].kind == multi_root_event_kind::interrupt);
  CHECK(p.sw->interrupt(0, 1) == pcie::msi_message{bus_addr{0xfee0'1000}, 0x31});
  CHECK((port.read16(status) & 0x1ff) == 0x41);
  port.write16(status, 1);
  p.events.clear();
  port.write16(control, 0x1439);  // power off
  REQUIRE(p.events.size() == 2);
  CHECK(p.events[0].kind == multi_root_event_kind::power_changed);
  CHECK((port.read16(link) & 0x2000) == 0);
  CHECK((port.read16(status) & 0x150) == 0x150);
  CHECK(a.function(endpoint(list, 0)->id).read32(0) == 0xffff'ffff);

  CHECK(p.sw->detach(
      2, [](std::uint16_t, const pcie::tlp_header&) {}, p.sink()));
  p.sw->function_reset(2, [](std::uint16_t, const pcie::tlp_header&) {});
  CHECK((port.read16(status) & 0x48) == 0x08);
  attach(p, 2, 1, 0);
  CHECK((port_of(b, 0).read16(status) & 0x148) == 0x148);
  list = b.enumerate();
  const auto* f = endpoint(list, 0);
  REQUIRE(f != nullptr);
  const auto answer =
      p.ask(1, {pcie::memory_request::read({}, 1, f->bars[0].address, 4).encode(), 0});
  REQUIRE(answer);
  CHECK(answer->data == pool::pattern(2, 0));
  list = a.enumerate();
  CHECK(endpoint(list, 0) == nullptr);
}

TEST_CASE("a secondary bus reset and a function-level reset by the root are passed on") {
  pool p;
  attach(p, 2, 0, 1);
  root_complex a{p, 0};
  const auto list = a.enumerate();
  const auto* f = endpoint(list, 0);
  REQUIRE(f != nullptr);
  auto config = a.function(f->id);
  const auto express = *pcie::find_capability(config, pcie::capability_id::pci_express);
  CHECK(config.read16(pcie::header::command) == 6);
  config.write16(static_cast<std::uint16_t>(express + pcie::express::device_control), 0x8000);
  CHECK(config.read16(pcie::header::command) == 0);
  CHECK(config.read32(pcie::header::bar0) == 4);
  p.events.clear();
  const std::uint8_t up = a.port.read8(pcie::bridge_header::secondary_bus);
  auto port = a.function(up, 0);
  port.write16(pcie::bridge_header::bridge_control, 0x40);
  REQUIRE(p.events.size() == 1);
  CHECK(p.events[0].kind == multi_root_event_kind::reset);
  CHECK(p.events[0].slot == 1);
}

TEST_CASE("a million random packets of roots and device never cross from one root to another") {
  pool p;
  std::mt19937_64 random{17};
  std::vector<std::unique_ptr<root_complex>> roots;
  for (std::uint16_t r = 0; r != pool_roots; ++r) {
    for (std::uint16_t s = 0; s != 2; ++s) attach(p, static_cast<std::uint16_t>(r * 3 + s), r, s);
  }
  std::vector<std::uint64_t> addresses{0, device_bar, device_bar + 5 * vf_bar_bytes, 0xfee0'0000};
  std::vector<std::uint16_t> ids{0x100, 0x4000, 0xe000, 0xe001};
  for (std::uint16_t r = 0; r != pool_roots; ++r) {
    roots.push_back(std::make_unique<root_complex>(p, r));
    for (const auto& f : roots.back()->enumerate()) {
      ids.push_back(f.id.raw());
      if (f.bars[0].present()) addresses.push_back(f.bars[0].address);
    }
  }
  for (std::uint16_t vf = 0; vf != pool_functions; ++vf) ids.push_back(pool::master(vf).raw());
  // The oracle tracks the owner of each function and the requester of each request.
  const auto owner = [&](std::uint16_t vf) { return p.sw->root_of(vf); };
  const auto vf_of = [&](pcie::requester_id id) {
    return static_cast<std::uint16_t>(id.raw() - 0x4001);
  };
  struct question {
    std::uint16_t vf;
    pcie::requester_id requester;
  };
  std::map<std::pair<std::uint16_t, std::uint16_t>, question> asked;  // root, tag
  std::set<std::pair<std::uint16_t, std::uint16_t>> reads;            // vf, tag
  std::array<std::uint64_t, 5> routes{};
  const auto pick_id = [&] {
    return pcie::requester_id{
        static_cast<std::uint16_t>(random() % 16 == 0 ? random() : ids[random() % ids.size()])};
  };
  const auto pick_address = [&] {
    const std::uint64_t base = addresses[random() % addresses.size()];
    return (base + (random() % 5 * vf_bar_bytes) - vf_bar_bytes * (random() % 3) +
            random() % vf_bar_bytes) &
           ~std::uint64_t{3};
  };
  const auto random_header = [&]() -> pcie::tlp_header {
    for (;;) {
      const auto tag = static_cast<std::uint16_t>(random() % 32);
      pcie::tlp_header h{};
      switch (random() % 9) {
        case 0:
        case 1:
          h = pcie::memory_request::read(pick_id(), tag, pick_address(), 4).encode();
          break;
        case 2:
          h = pcie::memory_request::write_of(pick_id(), pick_address(), 4).encode();
          break;
        case 3:
        case 4: {
          const auto offset = static_cast<std::uint16_t>(random() % 4 == 0 ? random() % 1024 * 4
                                                                           : random() % 40 * 4);
          h = pcie::config_request{.write = random() % 2 == 0,
                                   .type1 = random() % 4 != 0,
                                   .requester = pick_id(),
                                   .tag = tag,
                                   .destination = pick_id(),
                                   .offset = offset,
                                   .enables = static_cast<std::uint8_t>(random() % 16)}
                  .encode();
          break;
        }
        case 5:
        case 6: {
          pcie::completion c{.completer = pick_id(), .requester = pick_id(), .tag = tag};
          c.dwords = static_cast<std::uint16_t>(random() % 3);
          c.byte_count = static_cast<std::uint16_t>(1 + random() % 12);
          h = c.encode();
          break;
        }
        case 7:
          h = pcie::message{.routing = static_cast<pcie::message_routing>(random() % 6),
                            .code = pcie::message_code::vendor_type1,
                            .requester = pick_id(),
                            .upper = static_cast<std::uint32_t>(pick_id().raw()) << 16}
                  .encode();
          break;
        default:
          for (auto& w : h.dw) w = static_cast<std::uint32_t>(random());
          if (h.dwords() == 3) h.dw[3] = 0;
          break;
      }
      if (pcie::tlp_check(h)) return h;
    }
  };

  for (int i = 0; i != 1'000'000; ++i) {
    if (i % 5000 == 0 && i != 0) {
      // Now and then software sets a root up again, for random writes take its windows apart.
      for (auto& rc : roots) (void)rc->enumerate();
    }
    const pcie::tlp_header h = random_header();
    const auto data = static_cast<std::uint32_t>(
        random() % 2 == 0 ? random() : addresses[random() % addresses.size()]);
    bool good = true;
    if (random() % 3 != 0) {
      const auto root = static_cast<std::uint16_t>(random() % pool_roots);
      const auto r = p.sw->from_root(root, h, data, p.sink());
      p.events.clear();
      ++routes[static_cast<std::size_t>(r.route)];
      if (r.route == tlp_route::device) {
        const pcie::tlp_header& out = r.header;
        good = pcie::tlp_check(out).has_value() && out.tag() == h.tag();
        std::uint16_t vf = 0xffff;
        if (out.is_completion()) {
          vf = vf_of(out.requester());
          good = good && out.completer() == p.sw->root_id(root) && reads.contains({vf, out.tag()});
          if (is_last(out)) reads.erase({vf, out.tag()});
        } else {
          good = good && out.requester() == p.sw->root_id(root);
          if (out.is_config()) {
            const auto c = pcie::config_request::decode(out);
            vf = vf_of(c.destination);
            good = good && !c.type1 && (c.offset >= 0x40 || (c.offset == 4 && c.write));
          } else {
            vf = static_cast<std::uint16_t>((out.address() - device_bar) / vf_bar_bytes);
            good = good && out.address() >= device_bar && out.has_address();
          }
          if (!out.is_posted()) {
            good =
                good && asked.emplace(std::pair{root, h.tag()}, question{vf, h.requester()}).second;
          }
        }
        good = good && vf < pool_functions && owner(vf) == root;
      } else if (r.route == tlp_route::reply) {
        good = !h.is_posted() && !h.is_completion() && r.header.is_completion() &&
               r.header.requester() == h.requester() && r.header.tag() == h.tag();
      } else if (r.route == tlp_route::hold) {
        good = asked.contains({root, h.tag()});
      } else {
        good = r.route == tlp_route::drop && (h.is_posted() || h.is_completion());
        // An answer for a function whose link is down is swallowed.
        const std::uint8_t bus = h.requester().bus();
        const auto& up = p.sw->upstream(root);
        const bool routed = h.is_completion() && is_last(h) && (h.requester().raw() & 0xff) == 0 &&
                            bus > up.secondary_bus() && bus <= up.subordinate_bus();
        for (std::uint16_t s = 0; routed && s != pool_slots; ++s) {
          const auto& down = p.sw->downstream(root, s);
          if (down.secondary_bus() != bus || bus > down.subordinate_bus()) continue;
          reads.erase({p.sw->function_in(root, s), h.tag()});
          break;
        }
      }
    } else {
      // The device: a random packet, or the answer to a question that is waiting.
      pcie::tlp_header from = h;
      if (random() % 2 == 0 && !asked.empty()) {
        auto it = asked.lower_bound({static_cast<std::uint16_t>(random() % pool_roots),
                                     static_cast<std::uint16_t>(random() % 32)});
        if (it == asked.end()) it = asked.begin();
        pcie::completion c{.completer = pool::master(it->second.vf),
                           .requester = p.sw->root_id(it->first.first),
                           .tag = it->first.second};
        c.dwords = static_cast<std::uint16_t>(random() % 2);
        from = c.encode();
      }
      const auto r = p.sw->from_device(from);
      ++routes[static_cast<std::size_t>(r.route)];
      if (r.route == tlp_route::root) {
        const pcie::tlp_header& out = r.header;
        good = pcie::tlp_check(out).has_value() && out.tag() == from.tag() && r.root < pool_roots;
        if (out.is_completion()) {
          const auto it = asked.find({r.root, out.tag()});
          good = good && it != asked.end() && from.completer() == pool::master(it->second.vf) &&
                 from.requester() == p.sw->root_id(r.root) &&
                 out.requester() == it->second.requester;
          if (good && is_last(out)) asked.erase(it);
        } else {
          const std::uint16_t vf = vf_of(from.requester());
          good = good && vf < pool_functions && owner(vf) == r.root;
          if (!out.is_posted()) good = good && reads.emplace(vf, out.tag()).second;
        }
      } else if (r.route == tlp_route::reply) {
        good = !from.is_posted() && !from.is_completion() &&
               r.header.requester() == from.requester() && r.header.tag() == from.tag();
      } else if (r.route == tlp_route::hold) {
        good = reads.contains({vf_of(from.requester()), from.tag()});
      } else {
        good = r.route == tlp_route::drop;
      }
    }
    if (!good) FAIL("packet ", i, " crossed: ", h.dw[0], " ", h.dw[1], " ", h.dw[2], " ", h.dw[3]);
  }
  MESSAGE("to device, to root, replies, drops, held: ", routes[0], " ", routes[1], " ", routes[2],
          " ", routes[3], " ", routes[4]);
  for (const auto n : routes) CHECK(n > 1000);
}

namespace {

// A root that reads from its function without end, and a function that reads from its root; each side
// answers late and in any order. Counts what becomes of every request.
struct traffic {
  pool p;
  std::mt19937_64 random{23};
  std::vector<std::unique_ptr<root_complex>> roots;

  struct job {
    std::uint16_t vf;
    std::uint64_t offset;
    pcie::requester_id requester;
  };
  std::map<std::pair<std::uint16_t, std::uint16_t>, job> of_roots;  // root, tag
  // A function's reads by (function, tag), with the root that has to answer and its memory's contents.
  std::map<std::pair<std::uint16_t, std::uint16_t>, std::pair<std::uint16_t, std::uint64_t>>
      of_functions;
  std::deque<packet> in_device;                          // requests on their way, and served late
  std::deque<std::pair<std::uint16_t, packet>> in_root;  // root, request of a function
  std::uint64_t answered = 0, aborted = 0, refused = 0, read_answers = 0, read_losses = 0,
                stray = 0;

  static std::uint32_t memory_of(std::uint16_t root, std::uint64_t address) {
    return (root + 1U) * 0x1000'0000U + static_cast<std::uint32_t>(address);
  }
  void arrived_at_root(std::uint16_t root, const pcie::tlp_header& h, std::uint32_t data) {
    const auto it = of_roots.find({root, h.tag()});
    REQUIRE(it != of_roots.end());  // neither repeated nor of another root
    REQUIRE(h.requester() == it->second.requester);
    const auto c = pcie::completion::decode(h);
    if (c.status == pcie::completion_status::successful) {
      REQUIRE(data == pool::pattern(it->second.vf, it->second.offset));
      ++answered;
    } else if (c.status == pcie::completion_status::completer_abort) {
      ++aborted;
    } else {
      ++refused;
    }
    of_roots.erase(it);
  }
  auto reply() {
    return [this](std::uint16_t root, const pcie::tlp_header& h) { arrived_at_root(root, h, 0); };
  }

  void root_reads(std::uint16_t root, const pcie::enumerated_function& f, std::uint16_t vf) {
    const auto tag = static_cast<std::uint16_t>(random() % 32);
    if (of_roots.contains({root, tag})) return;
    const std::uint64_t offset = random() % 0x1000 & ~3ULL;
    const pcie::requester_id cpu{static_cast<std::uint16_t>(random() % 4)};
    const auto h = pcie::memory_request::read(cpu, tag, f.bars[0].address + offset, 4).encode();
    const auto r = p.sw->from_root(root, h, 0, p.sink());
    if (r.route == tlp_route::hold) return;  // the former request of this tag is not done with
    of_roots[{root, tag}] = {vf, offset, cpu};
    if (r.route == tlp_route::device) {
      in_device.push_back({r.header, 0});
    } else {
      REQUIRE(r.route == tlp_route::reply);
      arrived_at_root(root, r.header, 0);
    }
  }
  void function_reads(std::uint16_t vf) {
    const auto tag = static_cast<std::uint16_t>(random() % 32);
    if (of_functions.contains({vf, tag})) return;
    const std::uint64_t address = 0x10'0000 + random() % 0x1000 * 4;
    const auto r =
        p.sw->from_device(pcie::memory_request::read(pool::master(vf), tag, address, 4).encode());
    if (r.route != tlp_route::root) return;
    of_functions[{vf, tag}] = {r.root, address};
    in_root.push_back({r.root, {r.header, 0}});
  }
  // One packet that waits is answered, not always the oldest.
  void device_answers() {
    if (in_device.empty()) return;
    const auto at = static_cast<std::ptrdiff_t>(random() % in_device.size());
    const packet request = in_device[static_cast<std::size_t>(at)];
    in_device.erase(in_device.begin() + at);
    const auto answer = p.serve(request);
    REQUIRE(answer);
    const auto r = p.sw->from_device(answer->header);
    if (r.route == tlp_route::root) {
      arrived_at_root(r.root, r.header, answer->data);
    } else {
      REQUIRE(r.route == tlp_route::drop);
      ++stray;
    }
  }
  void root_answers() {
    if (in_root.empty()) return;
    const auto at = static_cast<std::ptrdiff_t>(random() % in_root.size());
    const auto [root, request] = in_root[static_cast<std::size_t>(at)];
    in_root.erase(in_root.begin() + at);
    const auto m = pcie::memory_request::decode(request.header);
    const auto c =
        pcie::complete(request.header, pcie::requester_id{}, pcie::completion_status::successful);
    const auto r = p.sw->from_root(root, c.encode(), 0, p.sink());
    if (r.route != tlp_route::device) {
      REQUIRE(r.route == tlp_route::drop);
      ++stray;
      return;
    }
    const auto vf = static_cast<std::uint16_t>(r.header.requester().raw() - 0x4001);
    const auto it = of_functions.find({vf, r.header.tag()});
    REQUIRE(it != of_functions.end());
    // The function receives the memory of the requesting root at the requested address.
    REQUIRE(memory_of(root, m.address) == memory_of(it->second.first, it->second.second));
    of_functions.erase(it);
    ++read_answers;
  }
};

}  // namespace

TEST_CASE("a thousand hot moves under load lose, repeat and misdeliver no completion") {
  traffic t;
  pool& p = t.p;
  for (std::uint16_t r = 0; r != pool_roots; ++r) {
    t.roots.push_back(std::make_unique<root_complex>(p, r));
    attach(p, r, r, 0);
  }
  std::array<std::vector<pcie::enumerated_function>, pool_roots> lists;
  for (std::uint16_t r = 0; r != pool_roots; ++r) lists[r] = t.roots[r]->enumerate();
  const auto place = [&](std::uint16_t root, std::uint16_t vf) -> const pcie::enumerated_function* {
    // The slot that the function is in, by the bus behind its downstream port.
    for (std::uint16_t s = 0; s != pool_slots; ++s) {
      if (p.sw->function_in(root, s) != vf) continue;
      for (const auto& f : lists[root]) {
        if (f.layout == pcie::header_layout::type0 &&
            f.id.bus() == p.sw->downstream(root, s).secondary_bus()) {
          return &f;
        }
      }
    }
    return nullptr;
  };
  const auto step = [&] {
    for (std::uint16_t vf = 0; vf != pool_roots; ++vf) {
      const std::uint16_t root = p.sw->root_of(vf);
      if (root == pool_switch::none) continue;
      if (const auto* f = place(root, vf)) t.root_reads(root, *f, vf);
      t.function_reads(vf);
    }
    for (int i = 0; i != 3; ++i) {
      t.device_answers();
      t.root_answers();
    }
  };
  unsigned moves = 0;
  unsigned forced = 0;
  unsigned busy = 0;
  for (unsigned attempts = 0; moves != 1000; ++attempts) {
    REQUIRE(attempts < 20000);
    for (int i = 0; i != 12; ++i) step();
    const auto vf = static_cast<std::uint16_t>(t.random() % pool_roots);
    const std::uint16_t from = p.sw->root_of(vf);
    if (from != pool_switch::none) {
      // Half of the moves wait until all is answered; the others do not.
      REQUIRE(p.sw->block(vf));
      if (t.random() % 2 == 0) {
        while (p.sw->outstanding(vf) != 0) step();
      } else {
        forced += p.sw->outstanding(vf) != 0 ? 1 : 0;
      }
      REQUIRE(p.sw->detach(vf, t.reply(), p.sink()));
      // The function is reset: it forgets what it has read and what it was asked. Sometimes it answers
      // some of it before.
      if (t.random() % 2 == 0) {
        for (int i = 0; i != 4; ++i) t.device_answers();
      }
      for (auto it = t.of_functions.begin(); it != t.of_functions.end();) {
        if (it->first.first == vf) {
          ++t.read_losses;
          it = t.of_functions.erase(it);
        } else {
          ++it;
        }
      }
      std::erase_if(t.in_device, [&](const packet& q) {
        return q.header.address() >= device_bar + vf * vf_bar_bytes &&
               q.header.address() < device_bar + (vf + 1U) * vf_bar_bytes;
      });
      p.sw->function_reset(vf, t.reply());
    }
    const auto to = static_cast<std::uint16_t>(t.random() % pool_roots);
    const auto slot = static_cast<std::uint16_t>(t.random() % pool_slots);
    const auto attached = p.sw->attach(vf, to, slot, p.sink());
    if (!attached) {
      REQUIRE(attached.error().code == errc::busy);
      ++busy;
      continue;
    }
    ++moves;
    lists[to] = t.roots[to]->enumerate();
    REQUIRE(place(to, vf) != nullptr);
    p.events.clear();
  }
  while (!t.in_device.empty()) t.device_answers();
  while (!t.in_root.empty()) t.root_answers();
  CHECK(t.of_roots.empty());  // none was lost
  CHECK(t.of_functions.empty());
  CHECK(forced > 100);
  CHECK(busy > 10);
  CHECK(t.aborted > 100);
  CHECK(t.stray > 100);
  MESSAGE("moves ", moves, ", forced ", forced, ", slots still busy ", busy,
          "; reads of roots: answered ", t.answered, ", aborted ", t.aborted, ", refused ",
          t.refused, "; reads of functions: answered ", t.read_answers, ", forgotten by a reset ",
          t.read_losses, "; late answers dropped ", t.stray);
}

TEST_CASE(
    "a slot takes no other function before its former one's reads are answered, or its root is "
    "reset") {
  pool p;
  attach(p, 0, 0, 0);
  root_complex a{p, 0};
  const auto list = a.enumerate();
  const auto* f = endpoint(list, 0);
  REQUIRE(f != nullptr);
  const auto none = [](std::uint16_t, const pcie::tlp_header&) {};
  const auto read =
      p.sw->from_device(pcie::memory_request::read(pool::master(0), 4, 0x1000, 4).encode());
  REQUIRE(read.route == tlp_route::root);
  REQUIRE(p.sw->detach(0, none, p.sink()));
  p.sw->function_reset(0, none);
  CHECK(p.sw->attach(1, 0, 0, p.sink()).error().code == errc::busy);
  REQUIRE(p.sw->attach(0, 1, 0, p.sink()));  // the function itself may go elsewhere
  const auto late = pcie::complete(read.header, {}, pcie::completion_status::successful).encode();
  const auto before = p.sw->counts().unexpected;
  CHECK(p.sw->from_root(0, late, 0, p.sink()).route == tlp_route::drop);
  CHECK(p.sw->counts().unexpected == before + 1);
  REQUIRE(p.sw->attach(1, 0, 0, p.sink()));
  (void)a.enumerate();
  CHECK(p.sw->from_root(0, late, 0, p.sink()).route == tlp_route::drop);

  // A root that never answers keeps its slot, until it is reset.
  REQUIRE(
      p.sw->from_device(pcie::memory_request::read(pool::master(1), 4, 0x1000, 4).encode()).route ==
      tlp_route::root);
  REQUIRE(p.sw->detach(1, none, p.sink()));
  p.sw->function_reset(1, none);
  CHECK(p.sw->attach(2, 0, 0, p.sink()).error().code == errc::busy);
  REQUIRE(p.sw->root_reset(0));
  REQUIRE(p.sw->attach(2, 0, 0, p.sink()));
}

TEST_CASE("a request that a moved function was asked is answered once, with Completer Abort") {
  pool p;
  attach(p, 0, 0, 0);
  root_complex a{p, 0};
  const auto list = a.enumerate();
  const auto* f = endpoint(list, 0);
  REQUIRE(f != nullptr);
  const auto request =
      pcie::memory_request::read(pcie::requester_id{7}, 200, f->bars[0].address, 64).encode();
  const auto down = p.sw->from_root(0, request, 0, p.sink());
  REQUIRE(down.route == tlp_route::device);
  std::vector<pcie::tlp_header> replies;
  const auto collect = [&](std::uint16_t root, const pcie::tlp_header& h) {
    CHECK(root == 0);
    replies.push_back(h);
  };
  // A function that is about to leave gets nothing new.
  REQUIRE(p.sw->block(0));
  for (const auto& h : {pcie::config_request{.type1 = true, .destination = f->id}.encode(),
                        pcie::memory_request::read({}, 1, f->bars[0].address, 4).encode()}) {
    const auto r = p.sw->from_root(0, h, 0, p.sink());
    REQUIRE(r.route == tlp_route::reply);
    CHECK(pcie::completion::decode(r.header).status ==
          pcie::completion_status::unsupported_request);
  }
  // Half of the answer has come.
  auto half = pcie::complete(down.header, pool::master(0), pcie::completion_status::successful);
  half.dwords = 8;
  REQUIRE(p.sw->from_device(half.encode()).route == tlp_route::root);
  REQUIRE(p.sw->detach(0, collect, p.sink()));
  REQUIRE(replies.size() == 1);
  const auto c = pcie::completion::decode(replies[0]);
  CHECK(c.status == pcie::completion_status::completer_abort);
  CHECK(c.requester == pcie::requester_id{7});
  CHECK(c.tag == 200);
  CHECK(c.byte_count == 32);
  CHECK(c.completer == f->id);
  // The device's own answer, late, is dropped; until the reset the tag is not used again.
  CHECK(p.sw->attach(0, 1, 0, p.sink()).error().code == errc::busy);
  auto rest = half;
  rest.byte_count = 32;
  rest.lower_address = 32;
  rest.dwords = 4;
  CHECK(p.sw->from_device(rest.encode()).route == tlp_route::drop);
  p.sw->function_reset(0, collect);
  CHECK(replies.size() == 1);
  REQUIRE(p.sw->attach(0, 1, 0, p.sink()));
  CHECK(p.sw->from_device(rest.encode()).route == tlp_route::drop);
}
