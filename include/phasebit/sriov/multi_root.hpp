// SPDX-License-Identifier: BSL-1.0
// A switch that pools one SR-IOV device among several roots. Each root sees an ordinary switch: an
// upstream port, downstream ports with hot-plug slots, and behind each an endpoint, which is a virtual
// function of the device. The device sees one hierarchy. The switch rewrites each packet between them.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/device/switch_port.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/pcie/spec/tlp.hpp>
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/pcie/spec/tlp_message.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>
#include <phasebit/sriov/bar_remap.hpp>
#include <phasebit/sriov/id_remap.hpp>
#include <phasebit/sriov/outstanding.hpp>
#include <phasebit/sriov/shared_function.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::sriov {

struct multi_root_limits {
  std::uint16_t roots = 1;
  std::uint16_t slots = 1;          // downstream ports of each root, at most 32
  std::uint16_t functions = 1;      // of the device that is shared
  std::uint32_t routing_ids = 256;  // of the device, from its first bus on
  std::uint16_t tags = 256;         // 256 or 1024
};

// Where a packet goes.
enum class tlp_route : std::uint8_t {
  device,  // to the shared device, with the header as rewritten
  root,    // to the root `routed_tlp::root`, with the header as rewritten
  reply,  // back to where it came from: `header` is a completion, `data` its doubleword if it has one
  drop,  // nowhere: a posted request or completion that nothing may come of
  hold,  // its tag is still in use: offer it again later, and nothing behind it meanwhile
};
struct routed_tlp {
  tlp_route route = tlp_route::drop;
  std::uint16_t root = 0;
  pcie::tlp_header header{};
  std::uint32_t data = 0;
};

// An event that the owner of the switch must handle.
enum class multi_root_event_kind : std::uint8_t {
  interrupt,      // send the downstream port's hot-plug interrupt, see interrupt()
  power_changed,  // the slot's power or link went on or off: off, reset the function
  reset,          // the root resets the bus behind the port: reset the function
};
struct multi_root_event {
  multi_root_event_kind kind;
  std::uint16_t root;
  std::uint16_t slot;
};

// Counts of what was refused.
struct multi_root_counts {
  std::uint64_t unsupported = 0;  // requests for what the sender does not have
  std::uint64_t unexpected = 0;   // completions of no request
};

// Isolation: a packet of a root reaches the device only as a request to a function that the root has,
// or as the answer to a read of such a function; a packet of the device reaches a root only if its
// function is that root's, or if it answers a request of that root. All else is answered Unsupported
// Request, or dropped where it has no answer. Tags stay as they are; requester ids are exchanged, and
// put back in the answer. The work for a packet depends on neither the number of functions nor of roots.
//
// Not passed on: I/O and locked requests, and messages other than those to the root complex; so the
// functions that are shared do not use ATS. Configuration writes of the first 64 bytes are the switch's,
// but for Command, which the function gets as well. Headers that are given have passed tlp_check(). The
// data of packets is not looked at but for that of configuration writes. One thread at a time.
template <multi_root_limits L>
class multi_root {
  static_assert(L.roots >= 1 && L.slots >= 1 && L.slots <= 32 && L.tags <= 1024);

 public:
  static constexpr std::uint16_t none = 0xffff;

  // `device_bus` is the device's first bus number in its own hierarchy; `roots_bus` the first of those
  // under which it sees the roots, one routing id each. The ports of all roots have the ids of `port`.
  // Errors: those of emit_bridge, and overlap where the two ranges of routing ids meet.
  [[nodiscard]] result<> start(std::uint8_t device_bus, std::uint8_t roots_bus,
                               std::uint16_t vendor_id, std::uint16_t device_id) noexcept {
    device_base_ = std::uint32_t{device_bus} << 8;
    roots_base_ = std::uint32_t{roots_bus} << 8;
    if (device_base_ + L.routing_ids > 0x1'0000 || roots_base_ + L.roots > 0x1'0000 ||
        (device_base_ < roots_base_ + L.roots && roots_base_ < device_base_ + L.routing_ids)) {
      return failure(errc::overlap, "the routing ids of device and roots meet", roots_base_);
    }
    vendor_id_ = vendor_id;
    device_id_ = device_id;
    for (std::uint16_t& vf : by_master_) vf = none;
    for (std::uint16_t r = 0; r != L.roots; ++r) {
      const auto emitted = reset_ports(r);
      if (!emitted) return emitted;
    }
    return {};
  }

  // Makes function `vf` known, with a routing id of the device's hierarchy. Errors: out_of_range,
  // already_exists.
  [[nodiscard]] result<> add_function(std::uint16_t vf, const shared_function& f) noexcept {
    if (vf >= L.functions) return failure(errc::out_of_range, "no such virtual function", vf);
    const std::uint32_t at = f.master.raw() - device_base_;
    if (at >= L.routing_ids) {
      return failure(errc::out_of_range, "the routing id is none of the device's", f.master.raw());
    }
    if (functions_[vf].known || by_master_[at] != none) {
      return failure(errc::already_exists, "the virtual function is known", vf);
    }
    functions_[vf] = {.what = f, .known = true};
    by_master_[at] = vf;
    return {};
  }

  // Puts a function into the empty slot of a root: a static assignment before the root runs, or a
  // hot-plug while it does. The function has been reset, so that nothing of another root is left in it.
  // Errors: out_of_range, busy (the slot is taken, the function is, or answers to the slot's former
  // function are still to come).
  template <std::invocable<multi_root_event> OnEvent>
  [[nodiscard]] result<> attach(std::uint16_t vf, std::uint16_t root, std::uint16_t slot,
                                OnEvent&& on_event) noexcept {
    if (root >= L.roots || slot >= L.slots) {
      return failure(errc::out_of_range, "no such slot", slot).at(root);
    }
    if (vf >= L.functions || !functions_[vf].known) {
      return failure(errc::out_of_range, "no such virtual function", vf);
    }
    slot_record& s = roots_[root].slots[slot];
    if (s.vf != none) return failure(errc::busy, "the slot has a function", s.vf);
    if (functions_[vf].root != none) {
      return failure(errc::busy, "the virtual function is in a slot", functions_[vf].root);
    }
    if (functions_[vf].waiting != 0) {
      return failure(errc::busy, "the virtual function still has requests to answer", vf);
    }
    if (s.reads.count() != 0) {
      return failure(errc::busy, "answers to the slot's former function are to come",
                     s.reads.count());
    }
    s.vf = vf;
    s.blocked = false;
    s.header.reset(functions_[vf].what);
    functions_[vf].root = root;
    functions_[vf].slot = slot;
    report(root, slot, s.port.insert(), on_event);
    connect(root, slot);
    return {};
  }
  template <std::invocable<multi_root_event> OnEvent>
  void press_attention_button(std::uint16_t root, std::uint16_t slot, OnEvent&& on_event) noexcept {
    report(root, slot, roots_[root].slots[slot].port.press_attention_button(), on_event);
  }

  // From now on the function gets no new request and sends none; answers pass. False where it is in no
  // slot.
  bool block(std::uint16_t vf) noexcept {
    if (vf >= L.functions || functions_[vf].root == none) return false;
    slot_of(vf).blocked = true;
    connect(functions_[vf].root, functions_[vf].slot);
    return true;
  }
  // How many requests from or to the function are still to be answered.
  [[nodiscard]] std::uint32_t outstanding(std::uint16_t vf) const noexcept {
    if (vf >= L.functions || functions_[vf].root == none) return 0;
    const function_record& f = functions_[vf];
    return f.waiting + std::uint32_t{roots_[f.root].slots[f.slot].reads.count()};
  }
  // Takes the function out of its slot. Requests of the root that it has not answered are answered with
  // Completer Abort: `reply(root, header)`; its own reads are the slot's until they are answered. The
  // function is then reset by the caller, who calls function_reset() when that is done.
  template <std::invocable<std::uint16_t, const pcie::tlp_header&> Reply,
            std::invocable<multi_root_event> OnEvent>
  bool detach(std::uint16_t vf, Reply&& reply, OnEvent&& on_event) noexcept {
    if (!block(vf)) return false;
    function_record& f = functions_[vf];
    slot_record& s = roots_[f.root].slots[f.slot];
    abort_requests(vf, reply);
    disconnect(f.root, f.slot);
    s.vf = none;
    const std::uint16_t root = f.root;
    const std::uint16_t slot = f.slot;
    f.root = none;
    report(root, slot, s.port.remove(), on_event);
    return true;
  }
  // The function was reset: no answer of it to an earlier request will come any more.
  template <std::invocable<std::uint16_t, const pcie::tlp_header&> Reply>
  void function_reset(std::uint16_t vf, Reply&& reply) noexcept {
    if (vf >= L.functions) return;
    abort_requests(vf, reply);
    for (root_record& r : roots_) {
      for (std::uint16_t tag = 0; tag != L.tags; ++tag) {
        if (r.requests[tag].vf == vf && r.requests[tag].now != request_state::free) {
          r.requests[tag].now = request_state::free;
        }
      }
    }
    functions_[vf].waiting = 0;
    if (functions_[vf].root != none) {
      slot_of(vf).header.reset(functions_[vf].what);
      connect(functions_[vf].root, functions_[vf].slot);
    }
  }
  // The root itself was reset: its ports are as new, and it answers nothing that it was asked before.
  // Functions stay in their slots; the caller resets them.
  [[nodiscard]] result<> root_reset(std::uint16_t root) noexcept {
    PHASEBIT_EXPECTS(root < L.roots, "no such root");
    root_record& r = roots_[root];
    for (std::uint16_t tag = 0; tag != L.tags; ++tag) {
      if (r.requests[tag].now == request_state::waiting) {
        r.requests[tag].now = request_state::aborted;
      }
    }
    for (std::uint16_t s = 0; s != L.slots; ++s) disconnect(root, s);
    const auto emitted = reset_ports(root);
    if (!emitted) return emitted;
    for (std::uint16_t s = 0; s != L.slots; ++s) {
      r.slots[s].reads.clear();
      if (r.slots[s].vf == none) continue;
      r.slots[s].header.reset(functions_[r.slots[s].vf].what);
    }
    return {};
  }

  // A packet of a root. `data` is the first doubleword of its data, little-endian, for configuration
  // writes.
  template <std::invocable<multi_root_event> OnEvent>
  [[nodiscard]] routed_tlp from_root(std::uint16_t root, const pcie::tlp_header& h,
                                     std::uint32_t data, OnEvent&& on_event) noexcept {
    PHASEBIT_EXPECTS(root < L.roots, "no such root");
    routed_tlp r;
    if (h.type() == pcie::tlp_type::memory || h.is_atomic()) {
      memory_to_function(root, h, r);
    } else if (h.is_completion()) {
      answer_of_root(root, h, r);
    } else {
      other_of_root(root, h, data, on_event, r);
    }
    return r;
  }

  // A packet of the shared device.
  [[nodiscard]] routed_tlp from_device(const pcie::tlp_header& h) noexcept {
    routed_tlp r;
    if (h.is_completion()) {
      answer_of_device(h, r);
    } else {
      request_of_function(h, r);
    }
    return r;
  }

  // The message of a downstream port's hot-plug interrupt, where the root has enabled it.
  [[nodiscard]] std::optional<pcie::msi_message> interrupt(std::uint16_t root,
                                                           std::uint16_t slot) const noexcept {
    return roots_[root].slots[slot].port.interrupt();
  }
  [[nodiscard]] const pcie::switch_port& upstream(std::uint16_t root) const noexcept {
    return roots_[root].port;
  }
  [[nodiscard]] const pcie::switch_port& downstream(std::uint16_t root,
                                                    std::uint16_t slot) const noexcept {
    return roots_[root].slots[slot].port;
  }
  // The function in a slot, or `none`; and which root has a function, or `none`.
  [[nodiscard]] std::uint16_t function_in(std::uint16_t root, std::uint16_t slot) const noexcept {
    return roots_[root].slots[slot].vf;
  }
  [[nodiscard]] std::uint16_t root_of(std::uint16_t vf) const noexcept {
    return vf < L.functions ? functions_[vf].root : none;
  }
  // The device's identifier of a root.
  [[nodiscard]] pcie::requester_id root_id(std::uint16_t root) const noexcept {
    return pcie::requester_id{static_cast<std::uint16_t>(roots_base_ + root)};
  }
  [[nodiscard]] const multi_root_counts& counts() const noexcept { return counts_; }

 private:
  using requests_type = requests_of_root<L.tags>;
  using request_state = typename requests_type::state;

  struct slot_record {
    pcie::switch_port port{};
    shared_header header{};
    reads_of_slot<L.tags> reads{};
    std::uint16_t vf = none;
    bool blocked = false;
    bool reachable = false;  // the link is up and the function has a bus number
  };
  struct root_record {
    pcie::switch_port port{};
    std::array<slot_record, L.slots> slots{};
    std::array<std::uint8_t, 256> slot_by_bus{};  // slot + 1; 0: none
    requests_type requests{};
    std::uint8_t bus = 0;  // of the upstream port, as captured
  };
  struct function_record {
    shared_function what{};
    std::uint16_t root = none;
    std::uint16_t slot = 0;
    std::uint32_t waiting = 0;  // requests that it has not answered
    bool known = false;
  };

  [[nodiscard]] slot_record& slot_of(std::uint16_t vf) noexcept {
    return roots_[functions_[vf].root].slots[functions_[vf].slot];
  }
  // Under which id the switch answers a root.
  [[nodiscard]] pcie::requester_id port_id(std::uint16_t root) const noexcept {
    return pcie::requester_id{static_cast<std::uint16_t>(roots_[root].bus << 8)};
  }

  [[nodiscard]] result<> reset_ports(std::uint16_t root) noexcept {
    root_record& r = roots_[root];
    pcie::bridge_description d{
        .vendor_id = vendor_id_, .device_id = device_id_, .io_window = false};
    d.express.type = pcie::port_type::upstream_port;
    d.ari_forwarding = false;
    const auto up = r.port.reset(d);
    if (!up) return up;
    r.slot_by_bus = {};
    d.express.type = pcie::port_type::downstream_port;
    for (std::uint16_t s = 0; s != L.slots; ++s) {
      const auto down = r.slots[s].port.reset(d, static_cast<std::uint16_t>(s + 1));
      if (!down) return down;
      r.slots[s].reachable = false;
    }
    return {};
  }

  template <class OnEvent>
  void report(std::uint16_t root, std::uint16_t slot, pcie::slot_outcome outcome,
              OnEvent& on_event) noexcept {
    if (outcome.power_changed) connect(root, slot);
    if (outcome.power_changed) {
      on_event(multi_root_event{multi_root_event_kind::power_changed, root, slot});
    }
    if (outcome.interrupt) {
      on_event(multi_root_event{multi_root_event_kind::interrupt, root, slot});
    }
  }

  void disconnect(std::uint16_t root, std::uint16_t slot) noexcept {
    slot_record& s = roots_[root].slots[slot];
    s.reachable = false;
    if (s.vf == none) return;
    may_master_[s.vf] = false;
    ids_.remove(s.vf);
    bars_.close_all(s.vf);
  }
  // Makes the look-ups agree with the registers: which bus the function is on, and where its BARs are.
  void connect(std::uint16_t root, std::uint16_t slot) noexcept {
    root_record& r = roots_[root];
    slot_record& s = r.slots[slot];
    disconnect(root, slot);
    const std::uint8_t bus = s.port.secondary_bus();
    if (s.vf == none || !s.port.link_up() || bus == 0 || r.slot_by_bus[bus] != slot + 1) return;
    const shared_function& f = functions_[s.vf].what;
    if (!ids_.assign({.root = root,
                      .vf = s.vf,
                      .slave = pcie::requester_id{bus, 0, 0},
                      .master = f.master})) {
      return;
    }
    s.reachable = true;
    if (s.blocked) return;
    may_master_[s.vf] = r.port.command()[pcie::command_register::bus_master] &&
                        s.port.command()[pcie::command_register::bus_master] &&
                        s.header.command()[pcie::command_register::bus_master];
    if (!s.header.command()[pcie::command_register::memory_space]) return;
    for (unsigned i = 0; i != f.bars.size(); ++i) {
      const shared_bar& b = f.bars[i];
      if (b.shift == 0) continue;
      const std::uint64_t base = s.header.bar(i, b);
      const std::uint64_t last = base + ((std::uint64_t{1} << b.shift) - 1);
      if (!r.port.forwards(base, last) || !s.port.forwards(base, last)) continue;
      // Two functions of a root at one place: the first to come keeps it.
      (void)bars_.open(s.vf, i, {.slave = base, .master = b.master, .root = root, .shift = b.shift})
          .has_value();
    }
  }
  // A write to the root's ports: buses and windows again.
  void connect_all(std::uint16_t root) noexcept {
    root_record& r = roots_[root];
    r.slot_by_bus = {};
    for (std::uint16_t s = 0; s != L.slots; ++s) {
      disconnect(root, s);
      const std::uint8_t bus = r.slots[s].port.secondary_bus();
      if (bus > r.port.secondary_bus() && bus <= r.port.subordinate_bus() &&
          bus <= r.slots[s].port.subordinate_bus() && r.slot_by_bus[bus] == 0) {
        r.slot_by_bus[bus] = static_cast<std::uint8_t>(s + 1);
      }
    }
    for (std::uint16_t s = 0; s != L.slots; ++s) connect(root, s);
  }

  [[nodiscard, gnu::noinline]] routed_tlp unsupported(const pcie::tlp_header& h,
                                                      pcie::requester_id completer) noexcept {
    ++counts_.unsupported;
    if (h.is_posted()) return {};
    return {
        .route = tlp_route::reply,
        .header =
            pcie::complete(h, completer, pcie::completion_status::unsupported_request).encode()};
  }
  // The path of most packets builds its result in place, in `route`: copying a header right after
  // its words were stored is slow on many processors.
  PHASEBIT_ALWAYS_INLINE void memory_to_function(std::uint16_t root, const pcie::tlp_header& h,
                                                 routed_tlp& r) noexcept {
    const remapped_address to = bars_.to_master(root, h.address());
    if (!to.exists()) [[unlikely]] {
      r = unsupported(h, port_id(root));
      return;
    }
    if (!h.is_posted() && !expect_answer(root, to.vf, h, r)) return;
    r.route = tlp_route::device;
    r.header.dw = h.dw;
    r.header.set_address(to.master);
    r.header.set_requester(root_id(root));
  }
  PHASEBIT_ALWAYS_INLINE void request_of_function(const pcie::tlp_header& h,
                                                  routed_tlp& r) noexcept {
    const std::uint32_t at = h.requester().raw() - device_base_;
    const std::uint16_t vf = at < L.routing_ids ? by_master_[at] : none;
    const pcie::requester_id self{static_cast<std::uint16_t>(device_base_)};
    const pcie::tlp_type type = h.type();
    const bool addressed = type == pcie::tlp_type::memory || h.is_atomic();
    const bool passes =
        addressed || (type == pcie::tlp_type::message &&
                      pcie::message::decode(h).routing == pcie::message_routing::to_root_complex);
    if (vf == none || !may_master_[vf] || !passes) [[unlikely]] {
      r = unsupported(h, self);
      return;
    }
    const id_assignment to = ids_.to_slave(vf);
    if (!h.is_posted()) {
      auto& reads = roots_[to.root].slots[functions_[vf].slot].reads;
      if (h.tag() >= L.tags) {
        r = unsupported(h, self);
        return;
      }
      if (reads.pending(h.tag())) {
        r.route = tlp_route::hold;
        return;
      }
      reads.add(h.tag());
    }
    r.route = tlp_route::root;
    r.root = to.root;
    r.header.dw = h.dw;
    if (addressed) r.header.set_address(bars_.to_slave(vf, h.address()));
    r.header.set_requester(to.slave);
  }

  template <class OnEvent>
  [[gnu::noinline]] void other_of_root(std::uint16_t root, const pcie::tlp_header& h,
                                       std::uint32_t data, OnEvent& on_event,
                                       routed_tlp& r) noexcept {
    if (h.is_config()) {
      r = config(root, h, data, on_event);
    } else if (h.type() == pcie::tlp_type::message) {
      ++counts_.unsupported;
    } else {
      r = unsupported(h, port_id(root));
    }
  }

  // Records a function's pending completion for a request of the root. Returns false if the request
  // must not be forwarded; `r` contains the reason.
  bool expect_answer(std::uint16_t root, std::uint16_t vf, const pcie::tlp_header& h,
                     routed_tlp& r) noexcept {
    if (h.tag() >= L.tags) [[unlikely]] {
      r = unsupported(h, port_id(root));
      return false;
    }
    auto& entry = roots_[root].requests[h.tag()];
    if (entry.now != request_state::free) {
      r.route = tlp_route::hold;
      return false;
    }
    entry.vf = vf;
    entry.requester = h.requester();
    entry.completer = ids_.to_slave(vf).slave;
    entry.byte_count = bytes_asked(h);
    entry.now = request_state::waiting;
    ++functions_[vf].waiting;
    return true;
  }

  template <class OnEvent>
  [[nodiscard]] routed_tlp config(std::uint16_t root, const pcie::tlp_header& h, std::uint32_t data,
                                  OnEvent& on_event) noexcept {
    root_record& r = roots_[root];
    const pcie::config_request c = pcie::config_request::decode(h);
    const pcie::requester_id to = c.destination;
    if (!c.type1) {
      if (to.device() != 0 || to.function() != 0) return unsupported(h, port_id(root));
      if (c.write) r.bus = to.bus();
      return access_port(root, none, r.port, h, c, data, on_event);
    }
    if (to.bus() == r.port.secondary_bus() && to.bus() != 0) {
      if (to.device() >= L.slots || to.function() != 0) return unsupported(h, port_id(root));
      return access_port(root, to.device(), r.slots[to.device()].port, h, c, data, on_event);
    }
    const std::uint8_t found = r.slot_by_bus[to.bus()];
    if (found == 0 || to.device() != 0 || to.function() != 0) return unsupported(h, port_id(root));
    const auto slot = static_cast<std::uint16_t>(found - 1);
    slot_record& s = r.slots[slot];
    if (!s.reachable || s.blocked) return unsupported(h, port_id(root));
    if (c.offset < shared_header::bytes) {
      if (!c.write) return reply(h, to, s.header.read(c.offset));
      if (s.header.write(c.offset, data, c.enables)) connect(root, slot);
      if (c.offset != pcie::header::command) return reply(h, to, 0);
    } else if (c.write &&
               c.offset == functions_[s.vf].what.express + pcie::express::device_control &&
               (c.enables & 2) != 0 && (data & 0x8000) != 0) {
      // Initiate Function Level Reset: the header is as new, too.
      s.header.reset(functions_[s.vf].what);
      connect(root, slot);
    }
    // The last port on the way makes it type 0 (7.3.3).
    pcie::config_request out = c;
    out.type1 = false;
    out.destination = functions_[s.vf].what.master;
    routed_tlp routed;
    if (!expect_answer(root, s.vf, h, routed)) return routed;
    routed.route = tlp_route::device;
    routed.header = out.encode();
    routed.header.set_requester(root_id(root));
    return routed;
  }

  template <class OnEvent>
  [[nodiscard]] routed_tlp access_port(std::uint16_t root, std::uint16_t slot,
                                       pcie::switch_port& port, const pcie::tlp_header& h,
                                       const pcie::config_request& c, std::uint32_t data,
                                       OnEvent& on_event) noexcept {
    if (!c.write) return reply(h, c.destination, port.read(c.offset, 4));
    // Software writes aligned bytes, words and doublewords; any other enables go byte by byte.
    pcie::switch_port_change change{};
    const auto put = [&](unsigned first, unsigned bytes) {
      const pcie::switch_port_change made =
          port.write(static_cast<std::uint16_t>(c.offset + first), bytes, data >> first * 8);
      change.routing = change.routing || made.routing;
      change.secondary_reset = change.secondary_reset || made.secondary_reset;
      change.slot |= made.slot;
    };
    if (c.enables == 0xf) {
      put(0, 4);
    } else if (c.enables == 0x3) {
      put(0, 2);
    } else if (c.enables == 0xc) {
      put(2, 2);
    } else {
      for (unsigned b = 0; b != 4; ++b) {
        if ((c.enables >> b & 1) != 0) put(b, 1);
      }
    }
    if (change.routing) connect_all(root);
    if (slot != none) report(root, slot, change.slot, on_event);
    if (change.secondary_reset) {
      for (std::uint16_t s = 0; s != L.slots; ++s) {
        if ((slot == none || slot == s) && r_has(root, s)) {
          on_event(multi_root_event{multi_root_event_kind::reset, root, s});
        }
      }
    }
    return reply(h, c.destination, 0);
  }
  [[nodiscard]] bool r_has(std::uint16_t root, std::uint16_t slot) const noexcept {
    return roots_[root].slots[slot].vf != none;
  }
  [[nodiscard]] static routed_tlp reply(const pcie::tlp_header& h, pcie::requester_id completer,
                                        std::uint32_t data) noexcept {
    return {.route = tlp_route::reply,
            .header = pcie::complete(h, completer, pcie::completion_status::successful).encode(),
            .data = data};
  }

  // An answer to a function's read: it goes to the function that has the slot, if the slot's function
  // requested it.
  void answer_of_root(std::uint16_t root, const pcie::tlp_header& h, routed_tlp& r) noexcept {
    const pcie::requester_id to = h.requester();
    const std::uint8_t found =
        (to.raw() & 0xff) == 0 ? roots_[root].slot_by_bus[to.bus()] : std::uint8_t{0};
    if (found == 0 || !roots_[root].slots[found - 1].reads.pending(h.tag())) [[unlikely]] {
      ++counts_.unexpected;
      return;
    }
    if (is_last(h)) roots_[root].slots[found - 1].reads.remove(h.tag());
    const id_assignment a = ids_.to_master(root, to);
    if (!a.exists()) [[unlikely]] {  // its function has left
      ++counts_.unexpected;
      return;
    }
    r.route = tlp_route::device;
    r.header.dw = h.dw;
    r.header.set_requester(a.master);
    r.header.set_completer(root_id(root));
  }
  // An answer to a root's request: it goes to the root that asked, if the function was asked.
  void answer_of_device(const pcie::tlp_header& h, routed_tlp& r) noexcept {
    const std::uint32_t root = h.requester().raw() - roots_base_;
    if (root >= L.roots || h.tag() >= L.tags) [[unlikely]] {
      ++counts_.unexpected;
      return;
    }
    auto& entry = roots_[root].requests[h.tag()];
    const bool aborted = entry.now == request_state::aborted;
    if (entry.now == request_state::free || functions_[entry.vf].what.master != h.completer())
        [[unlikely]] {
      ++counts_.unexpected;
      return;
    }
    entry.byte_count = bytes_after(h);
    if (is_last(h)) {
      entry.now = request_state::free;
      --functions_[entry.vf].waiting;
    }
    if (aborted) [[unlikely]] {
      ++counts_.unexpected;
      return;
    }
    r.route = tlp_route::root;
    r.root = static_cast<std::uint16_t>(root);
    r.header.dw = h.dw;
    r.header.set_requester(entry.requester);
    r.header.set_completer(entry.completer);
  }
  // Answers what roots wait for from the function with Completer Abort.
  template <class Reply>
  void abort_requests(std::uint16_t vf, Reply& reply) noexcept {
    for (std::uint16_t root = 0; root != L.roots; ++root) {
      for (std::uint16_t tag = 0; tag != L.tags; ++tag) {
        auto& entry = roots_[root].requests[tag];
        if (entry.vf != vf || entry.now != request_state::waiting) continue;
        entry.now = request_state::aborted;
        const pcie::completion c{.completer = entry.completer,
                                 .requester = entry.requester,
                                 .tag = tag,
                                 .status = pcie::completion_status::completer_abort,
                                 .byte_count = entry.byte_count};
        reply(root, c.encode());
      }
    }
  }

  id_remap<L.functions> ids_{};
  bar_remap<L.functions> bars_{};
  std::array<std::uint16_t, L.routing_ids> by_master_{};
  // Whether a function's requests go up: it, its port and the upstream port have Bus Master Enable.
  std::array<bool, L.functions> may_master_{};
  std::array<function_record, L.functions> functions_{};
  std::array<root_record, L.roots> roots_{};
  multi_root_counts counts_{};
  std::uint32_t device_base_ = 0;
  std::uint32_t roots_base_ = 0;
  std::uint16_t vendor_id_ = 0;
  std::uint16_t device_id_ = 0;
};

}  // namespace phasebit::sriov
