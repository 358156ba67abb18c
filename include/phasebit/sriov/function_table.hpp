// SPDX-License-Identifier: BSL-1.0
// The functions of an SR-IOV device, as its configuration logic holds them: which virtual functions
// exist, under which routing ids and addresses they answer, and what each one's configuration space
// reads. PCIe 5.0, chapter 9.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/sriov/apertures.hpp>
#include <phasebit/sriov/function_ref.hpp>
#include <phasebit/sriov/msix_vectors.hpp>
#include <phasebit/sriov/physical_function.hpp>
#include <phasebit/sriov/vf_config.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

// The capacity of a table.
struct function_table_limits {
  std::uint16_t physical = 1;
  std::uint16_t virtual_functions = 1;  // of all physical functions together
  std::uint32_t routing_ids = 256;      // from the device's first bus number on
  std::uint8_t config_dwords = 4;       // registers that each virtual function has for itself
  std::uint8_t vectors = 0;             // of MSI-X for each virtual function; 0: kept elsewhere
};

// The effect of a configuration write.
enum class function_event_kind : std::uint8_t {
  enabled,          // virtual functions 1 to `count` are initializing: prepare them, then ready()
  disabled,         // virtual functions 1 to `count` are gone: stop their work
  reset,            // a function-level reset was requested: stop its work, then ready()
  bus_master,       // may_master() has changed
  msix,             // msix_control() has changed
  memory_decoding,  // BARs answer elsewhere now
};
struct function_event {
  function_event_kind kind;
  function_ref function;
  std::uint16_t count = 0;
};

// The answer to a configuration request.
struct config_answer {
  pcie::completion_status status = pcie::completion_status::unsupported_request;
  std::uint32_t value = 0xffff'ffff;
};

// The table completes configuration requests and resolves addresses and routing ids; the owner runs
// the functions. Events come during config_write(), and their work may take time: a function stays
// `initializing` or `resetting` until the owner calls ready(). Virtual functions come and go with
// VF Enable and keep no state when they go. All look-ups take constant time for any number of
// functions. One thread at a time; look-ups may run concurrently.
template <function_table_limits L>
class function_table {
  static constexpr std::size_t bars = pcie::type0_bars;
  static constexpr std::size_t max_virtual = L.virtual_functions;
  static_assert(L.physical >= 1 && L.routing_ids <= 0x1'0000 && L.physical <= 256);

 public:
  // Adds physical function `number` of the device (the low eight bits of its routing id with ARI).
  // `image` is its configuration space, `vf_image` the one that its virtual functions share (see
  // emit_virtual_function); both stay in use. Returns the function's number in this table, counted from 0. Errors:
  // exhausted, already_exists (the number), those of read_sriov and size_bars, and invalid_argument
  // where virtual functions would take another function's routing id or none in the table.
  [[nodiscard]] result<std::uint16_t> add(std::uint8_t number, config_image& image,
                                          config_image& vf_image,
                                          const physical_options& options = {}) noexcept {
    if (used_ == L.physical) {
      return failure(errc::exhausted, "the table is full of physical functions", L.physical);
    }
    if (number >= L.routing_ids || by_routing_id_[number].exists()) {
      return failure(errc::already_exists, "another function has this number", number);
    }
    physical_function f{};
    const auto attached = f.attach(number, image, options, used_ == 0);
    if (!attached) return attached.error();
    if (f.total_vfs() > max_virtual - virtual_used_) {
      return failure(errc::exhausted, "the table has no space for so many virtual functions",
                     f.total_vfs());
    }
    record& r = physical_[used_];
    const auto found = r.own.find(vf_image);
    if (!found) return found.error();
    const auto msix = pcie::find_capability(vf_image, pcie::capability_id::msix);
    const auto express = pcie::find_capability(vf_image, pcie::capability_id::pci_express);
    r.function = f;
    r.vf_image = &vf_image;
    r.first = virtual_used_;
    r.vf_msix = msix ? *msix : std::uint16_t{0};
    r.vf_express = express ? *express : std::uint16_t{0};
    r.state = function_state::ready;
    virtual_used_ = static_cast<std::uint16_t>(virtual_used_ + f.total_vfs());
    by_routing_id_[number] = {used_, 0};
    rebuild();
    return used_++;
  }

  // The device takes its bus number from the configuration requests that it receives (2.2.6.2).
  constexpr void capture_bus(std::uint8_t bus) noexcept { base_ = std::uint32_t{bus} << 8; }

  // The function with a routing id.
  [[nodiscard]] constexpr function_ref find(pcie::requester_id id) const noexcept {
    const std::uint32_t at = id.raw() - base_;
    return at < L.routing_ids ? by_routing_id_[at] : function_ref{};
  }
  // The function, BAR and offset of an address. BARs of functions whose memory decoding is off, and
  // of virtual functions that are not enabled, match no address.
  [[nodiscard]] constexpr bar_hit find(std::uint64_t address) const noexcept {
    return apertures_.find(address);
  }
  // Of a function that exists.
  [[nodiscard]] constexpr pcie::requester_id routing_id(function_ref f) const noexcept {
    PHASEBIT_EXPECTS(f.physical < used_, "no such physical function");
    return pcie::requester_id{
        static_cast<std::uint16_t>(base_ + physical_[f.physical].function.routing_offset(f.vf))};
  }
  // The place of a virtual function in arrays that have one for each, below limits.virtual_functions.
  [[nodiscard]] constexpr std::uint16_t index(function_ref f) const noexcept {
    PHASEBIT_EXPECTS(f.physical < used_ && f.is_virtual(), "not a virtual function of this table");
    return static_cast<std::uint16_t>(physical_[f.physical].first + f.vf - 1);
  }

  [[nodiscard]] constexpr function_state state(function_ref f) const noexcept {
    if (f.physical >= used_) return function_state::absent;
    const record& r = physical_[f.physical];
    if (!f.is_virtual()) return r.state;
    return f.vf > r.function.active_vfs() ? function_state::absent : virtual_[index(f)].state;
  }
  [[nodiscard]] constexpr std::uint16_t active_vfs(std::uint16_t physical) const noexcept {
    return physical < used_ ? physical_[physical].function.active_vfs() : std::uint16_t{0};
  }
  // Whether the function may send requests of its own: it is there, ready, and Bus Master Enable is
  // set.
  [[nodiscard]] bool may_master(function_ref f) const noexcept {
    if (state(f) != function_state::ready) return false;
    return pcie::command_register{static_cast<std::uint16_t>(
        read_raw(f, pcie::header::command))}[pcie::command_register::bus_master];
  }
  [[nodiscard]] pcie::msix_control msix_control(function_ref f) const noexcept {
    if (state(f) != function_state::ready || !f.is_virtual() || of(f).vf_msix == 0) return {};
    return pcie::msix_control{static_cast<std::uint16_t>(read_raw(f, of(f).vf_msix) >> 16)};
  }

  // A configuration read of 1, 2 or 4 bytes on its alignment.
  [[nodiscard]] config_answer config_read(function_ref f, std::uint16_t offset,
                                          unsigned bytes) const noexcept {
    const auto status = readiness(f);
    if (status != pcie::completion_status::successful) return {.status = status};
    if (!f.is_virtual()) return {status, of(f).function.image().read(offset, bytes)};
    const std::uint8_t slot = of(f).own.slot(offset);
    if (slot == private_dwords<L.config_dwords>::shared || !aligned(offset, bytes)) {
      return {status, of(f).vf_image->read(offset, bytes)};
    }
    return {status, (virtual_[index(f)].own[slot] >> offset % 4 * 8) & ones(bytes)};
  }

  // A configuration write of 1, 2 or 4 bytes. `now_ms` is any clock of milliseconds that wraps at
  // 2^32. `on_event(function_event)` is called for what the owner must act on, after the registers
  // have changed.
  template <class OnEvent>
    requires std::invocable<OnEvent&, function_event>
  config_answer config_write(function_ref f, std::uint16_t offset, unsigned bytes,
                             std::uint32_t value, std::uint32_t now_ms,
                             OnEvent&& on_event) noexcept {
    const auto status = readiness(f);
    if (status != pcie::completion_status::successful) return {.status = status};
    if (f.is_virtual()) {
      write_virtual(f, offset, bytes, value, now_ms, on_event);
    } else {
      write_physical(f, offset, bytes, value, now_ms, on_event);
    }
    return {status, 0};
  }

  // The owner has prepared or reset the function. For a physical function it has written the
  // configuration space again (emit_function), as it is after a reset. Returns false where the function
  // was waiting for neither, such as one that was disabled meanwhile.
  bool ready(function_ref f) noexcept {
    const function_state s = state(f);
    if (s != function_state::initializing && s != function_state::resetting) return false;
    if (f.is_virtual()) {
      reset_registers(f);
      virtual_[index(f)].state = function_state::ready;
    } else {
      of(f).state = function_state::ready;
      of(f).function.reset();
      rebuild();
    }
    return true;
  }
  // Calls `visit(function_ref)` for each function that takes longer than the specification allows.
  template <class Visit>
  void for_each_overdue(std::uint32_t now_ms, Visit&& visit) const noexcept {
    for (std::uint16_t p = 0; p != used_; ++p) {
      const record& r = physical_[p];
      if (is_overdue(r.state, r.since_ms, now_ms)) visit(function_ref{p, 0});
      for (std::uint32_t vf = 1; vf <= r.function.active_vfs(); ++vf) {
        const virtual_record& v = virtual_[r.first + vf - 1];
        if (is_overdue(v.state, v.since_ms, now_ms)) {
          visit(function_ref{p, static_cast<std::uint16_t>(vf)});
        }
      }
    }
  }

  // Device side: sets bits of the doubleword at `offset`, such as those of a status register, which the
  // host clears by writing ones. Of a virtual function only in registers of its own: false elsewhere,
  // and where the function is not ready.
  bool set_bits(function_ref f, std::uint16_t offset, std::uint32_t bits) noexcept {
    if (state(f) != function_state::ready || offset % 4 != 0) return false;
    if (!f.is_virtual()) {
      of(f).function.image().set32(offset, of(f).function.image().read(offset, 4) | bits);
      return true;
    }
    const std::uint8_t slot = of(f).own.slot(offset);
    if (slot == private_dwords<L.config_dwords>::shared) return false;
    virtual_[index(f)].own[slot] |= bits;
    return true;
  }

  // The MSI-X tables of the virtual functions, by index().
  [[nodiscard]] constexpr msix_vectors<max_virtual, L.vectors>& msix() noexcept { return msix_; }

 private:
  struct record {
    physical_function function{};
    private_dwords<L.config_dwords> own{};
    config_image* vf_image = nullptr;
    std::uint16_t first = 0;  // of its virtual functions
    std::uint16_t vf_msix = 0;
    std::uint16_t vf_express = 0;
    function_state state = function_state::absent;
    std::uint32_t since_ms = 0;
  };
  struct virtual_record {
    std::array<std::uint32_t, L.config_dwords> own{};
    std::uint32_t since_ms = 0;
    function_state state = function_state::absent;
  };

  [[nodiscard]] static constexpr std::uint32_t ones(unsigned bytes) noexcept {
    return bytes >= 4 ? 0xffff'ffff : (1U << bytes * 8) - 1;
  }
  [[nodiscard]] static constexpr bool aligned(std::uint32_t offset, unsigned bytes) noexcept {
    return (bytes == 1 || bytes == 2 || bytes == 4) && offset % bytes == 0;
  }
  [[nodiscard]] static constexpr bool is_overdue(function_state s, std::uint32_t since,
                                                 std::uint32_t now) noexcept {
    return (s == function_state::initializing && now - since > vf_enable_limit_ms) ||
           (s == function_state::resetting && now - since > reset_limit_ms);
  }
  [[nodiscard]] constexpr record& of(function_ref f) noexcept { return physical_[f.physical]; }
  [[nodiscard]] constexpr const record& of(function_ref f) const noexcept {
    return physical_[f.physical];
  }
  // How configuration requests are answered.
  [[nodiscard]] constexpr pcie::completion_status readiness(function_ref f) const noexcept {
    switch (state(f)) {
      case function_state::ready:
        return pcie::completion_status::successful;
      case function_state::initializing:
      case function_state::resetting:
        return pcie::completion_status::configuration_request_retry;
      default:
        return pcie::completion_status::unsupported_request;
    }
  }
  [[nodiscard]] std::uint32_t read_raw(function_ref f, std::uint16_t offset) const noexcept {
    if (!f.is_virtual()) return of(f).function.image().read(offset, 4);
    const std::uint8_t slot = of(f).own.slot(offset);
    return slot == private_dwords<L.config_dwords>::shared ? of(f).vf_image->read(offset, 4)
                                                           : virtual_[index(f)].own[slot];
  }
  void reset_registers(function_ref f) noexcept {
    virtual_record& v = virtual_[index(f)];
    for (std::size_t i = 0; i != of(f).own.size(); ++i) v.own[i] = of(f).own.initial(i);
    msix_.reset(index(f));
  }

  template <class OnEvent>
  void write_virtual(function_ref f, std::uint16_t offset, unsigned bytes, std::uint32_t value,
                     std::uint32_t now_ms, OnEvent& on_event) noexcept {
    const record& r = of(f);
    virtual_record& v = virtual_[index(f)];
    if (!aligned(offset, bytes)) return;
    const unsigned shift = offset % 4 * 8;
    const std::uint32_t lanes = ones(bytes) << shift;
    const std::uint32_t put = (value & ones(bytes)) << shift;
    const pcie::config_write effect{
        .dword = static_cast<std::uint16_t>(offset & ~3U), .lanes = lanes, .written = put};
    if (r.vf_express != 0 && effect.wrote_one(r.vf_express + pcie::express::device_control, 15)) {
      v.state = function_state::resetting;
      v.since_ms = now_ms;
      reset_registers(f);
      on_event(function_event{function_event_kind::reset, f});
      return;
    }
    const std::uint8_t slot = r.own.slot(offset);
    if (slot == private_dwords<L.config_dwords>::shared) return;
    const std::uint32_t before = v.own[slot];
    v.own[slot] = r.own.written(slot, before, put, lanes);
    const std::uint32_t changed = before ^ v.own[slot];
    if (effect.dword == pcie::header::command &&
        (changed & pcie::command_register::bus_master.mask<std::uint32_t>) != 0) {
      on_event(function_event{function_event_kind::bus_master, f});
    }
    if (r.vf_msix != 0 && effect.dword == r.vf_msix && changed != 0) {
      on_event(function_event{function_event_kind::msix, f});
    }
  }

  template <class OnEvent>
  void write_physical(function_ref f, std::uint16_t offset, unsigned bytes, std::uint32_t value,
                      std::uint32_t now_ms, OnEvent& on_event) noexcept {
    record& r = of(f);
    const std::uint16_t before = r.function.active_vfs();
    const physical_change change =
        r.function.write(offset, bytes, value, any_enabled(),
                         [&](const physical_function& candidate) { return fits(f, candidate); });
    if (change.reset) {
      r.state = function_state::resetting;
      r.since_ms = now_ms;
    }
    if (change.ari) {
      for (std::uint16_t p = 0; p != used_; ++p) physical_[p].function.set_ari(*change.ari);
    }
    const std::uint16_t after = r.function.active_vfs();
    if (before != after) {
      place(f.physical, before, false);
      place(f.physical, after, true);
      for (std::uint16_t i = 0; i != (before > after ? before : after); ++i) {
        virtual_record& v = virtual_[r.first + i];
        v.state = i < after ? function_state::initializing : function_state::absent;
        v.since_ms = now_ms;
      }
    }
    if (change.decoding || change.reset || before != after) rebuild();
    if (before != 0 && before != after) {
      on_event(function_event{function_event_kind::disabled, f, before});
    }
    if (after != 0 && before != after) {
      on_event(function_event{function_event_kind::enabled, f, after});
    }
    if (change.reset) {
      on_event(function_event{function_event_kind::reset, f});
      return;
    }
    if (change.bus_master) on_event(function_event{function_event_kind::bus_master, f});
    if (change.msix) on_event(function_event{function_event_kind::msix, f});
    if (change.decoding) on_event(function_event{function_event_kind::memory_decoding, f});
  }

  // ARI Capable Hierarchy is of the whole device: it does not change while any virtual function is
  // enabled (9.3.3.3.5).
  [[nodiscard]] constexpr bool any_enabled() const noexcept {
    for (std::uint16_t p = 0; p != used_; ++p) {
      if (physical_[p].function.enabled()) return true;
    }
    return false;
  }
  // Whether the virtual functions that `candidate` would enable have routing ids in the table that no
  // other function has.
  [[nodiscard]] constexpr bool fits(function_ref f,
                                    const physical_function& candidate) const noexcept {
    for (std::uint32_t vf = 1; vf <= candidate.num_vfs(); ++vf) {
      const std::uint32_t at = candidate.routing_offset(vf);
      if (at >= L.routing_ids || at + base_ > 0xffff) return false;
      const function_ref there = by_routing_id_[at];
      if (there.exists() && !(there.physical == f.physical && there.is_virtual())) return false;
    }
    return candidate.num_vfs() < 2 || candidate.stride() != 0;
  }
  constexpr void place(std::uint16_t physical, std::uint16_t count, bool there) noexcept {
    if (!there) {
      // Offset and stride may have changed since: what is taken away is what is found.
      for (function_ref& r : by_routing_id_) {
        if (count != 0 && r.physical == physical && r.is_virtual()) r = {};
      }
      return;
    }
    for (std::uint32_t vf = 1; vf <= count; ++vf) {
      by_routing_id_[physical_[physical].function.routing_offset(vf)] = {
          physical, static_cast<std::uint16_t>(vf)};
    }
  }
  void rebuild() noexcept {
    apertures_.clear();
    for (std::uint16_t p = 0; p <= used_ && p != L.physical; ++p) {
      const record& r = physical_[p];
      if (r.state != function_state::ready) continue;
      r.function.for_each_aperture(p, [&](const aperture& a) { apertures_.insert(a); });
    }
  }

  aperture_map<2 * bars * L.physical> apertures_{};
  std::uint32_t base_ = 0;
  std::uint16_t used_ = 0;
  std::uint16_t virtual_used_ = 0;
  std::array<function_ref, L.routing_ids> by_routing_id_{};
  std::array<virtual_record, max_virtual> virtual_{};
  std::array<record, L.physical> physical_{};
  [[no_unique_address]] msix_vectors<max_virtual, L.vectors> msix_{};
};

}  // namespace phasebit::sriov
