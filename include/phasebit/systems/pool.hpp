// SPDX-License-Identifier: BSL-1.0
// A pool: one SR-IOV NVMe device behind a switch that several roots share. Each virtual function is an NVMe
// controller; the switch gives it to one root, and moves it to another while both run. Everything between a
// root and the device is a packet. Simulated: nothing of it is accurate in time.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/pcie/spec/tlp_parse.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>
#include <phasebit/sriov/fair_scheduler.hpp>
#include <phasebit/sriov/function_table.hpp>
#include <phasebit/sriov/multi_root.hpp>
#include <phasebit/sriov/token_bucket.hpp>
#include <phasebit/systems/pool/root_memory.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::systems {

// Derive from it and change what should be different.
struct pool_policy : nvme::device::default_policy {
  static constexpr std::uint16_t roots = 4;
  static constexpr std::uint16_t slots = 4;             // of each root
  static constexpr std::uint16_t functions = 64;        // virtual functions, numbered from 0
  static constexpr std::size_t max_io_queue_pairs = 2;  // of each function
  static constexpr std::uint64_t bytes_per_second =
      4'000'000'000;                                // of the device, in virtual time
  static constexpr std::uint32_t quantum = 16'384;  // bytes that weight 1 moves in each round
};

// Statistics of a function. Bytes are those of its DMA: data, commands, completions.
struct pooled_function_state {
  std::uint16_t root = 0xffff;  // 0xffff: in no slot
  std::uint64_t bytes = 0;
};

// Guarantees: those of sriov::multi_root. A function that moves is reset in between: nothing of the old root
// stays in it but the blocks of its media. Bandwidth is shared by weight among the functions that have work.
//
// One thread. Interrupts are not raised: drivers poll. Packets of more than one doubleword to a function's
// registers are not answered by it (reads: Completer Abort).
template <block::BlockMedia Media, class Policy = pool_policy>
class pool {
  static constexpr std::uint8_t device_bus = 0x40;
  static constexpr std::uint8_t roots_bus = 0xe0;
  static constexpr std::uint64_t device_bar = 0x90'0000'0000;
  static constexpr std::uint64_t bar_bytes = 0x4000;
  static constexpr std::size_t doorbell_words = 2 * (Policy::max_io_queue_pairs + 1);
  // Computed at compile time: processors of 32 bits cannot divide 64 bits without a library.
  static_assert(Policy::bytes_per_second >= 1'000'000);
  static constexpr std::uint64_t ns_per_64kib =
      ((std::uint64_t{1'000'000'000} << 16) + Policy::bytes_per_second - 1) /
      Policy::bytes_per_second;
  static_assert(Policy::functions >= 1 && Policy::functions < 255 &&
                doorbell_words * 4 <= bar_bytes - nvme::first_doorbell);

 public:
  using switch_type = sriov::multi_root<sriov::multi_root_limits{
      .roots = Policy::roots, .slots = Policy::slots, .functions = Policy::functions}>;
  static constexpr std::uint16_t none = 0xffff;

  // Makes the device and the switch. Call it once. Errors: those of the parts, which a policy that
  // compiles does not meet.
  [[nodiscard]] result<> start() noexcept {
    pcie::function_description d{.vendor_id = 0x5042,
                                 .device_id = 0x0010,
                                 .class_code = 0x010802,
                                 .revision_id = 1,
                                 .subsystem_vendor_id = 0x5042,
                                 .subsystem_id = 1,
                                 .power_management = true};
    d.bars[0] = {pcie::bar_kind::memory64, bar_bytes};
    d.express = pcie::express_description{};
    d.ari_next_function = 0;
    d.sriov = pcie::sriov_description{.total_vfs = Policy::functions,
                                      .first_vf_offset = 1,
                                      .vf_stride = 1,
                                      .vf_device_id = 0x0010};
    d.sriov->vf_bars[0] = {pcie::bar_kind::memory64, bar_bytes};
    const auto layout = pcie::emit_function(image_, d);
    if (!layout) return layout.error();
    if (const auto made = sriov::emit_virtual_function(vf_image_, d); !made) return made.error();
    if (const auto added = table_.add(0, image_, vf_image_); !added) return added.error();
    table_.capture_bus(device_bus);
    const auto put = [&](std::uint16_t offset, unsigned bytes, std::uint32_t value) {
      write_config({0, 0}, static_cast<std::uint16_t>(layout->sriov + offset), bytes, value);
    };
    put(pcie::sriov::vf_bar0, 4, static_cast<std::uint32_t>(device_bar));
    put(pcie::sriov::vf_bar0 + 4, 4, static_cast<std::uint32_t>(device_bar >> 32));
    put(pcie::sriov::num_vfs, 2, Policy::functions);
    put(pcie::sriov::control, 2, 9);  // VF Enable, VF Memory Space Enable
    for (std::uint16_t vf = 0; vf != Policy::functions; ++vf) table_.ready(ref(vf));
    if (const auto on = switch_.start(device_bus, roots_bus, 0x5042, 0x0100); !on) return on;
    for (std::uint16_t vf = 0; vf != Policy::functions; ++vf) {
      sriov::shared_function f{.master = master(vf),
                               .vendor_id = d.vendor_id,
                               .device_id = 0x0010,
                               .class_revision = 0x0108'0201,
                               .subsystem = 0x0001'5042};
      f.capabilities = static_cast<std::uint8_t>(
          table_.config_read(ref(vf), pcie::header::capabilities, 1).value);
      const auto express = pcie::find_capability(vf_image_, pcie::capability_id::pci_express);
      f.express = static_cast<std::uint8_t>(express ? *express : 0);
      f.bars[0] = {.master = device_bar + vf * bar_bytes, .shift = 14};
      if (const auto known = switch_.add_function(vf, f); !known) return known;
    }
    return {};
  }
  // The memory of a root, as its functions reach it. It outlives the pool.
  void set_memory(std::uint16_t root, dma_region memory) noexcept {
    PHASEBIT_EXPECTS(root < Policy::roots, "no such root");
    memory_[root] = memory;
  }
  // Makes function `vf` with a namespace of this media, which outlives the pool. Errors: out_of_range,
  // already_exists, invalid_argument (a weight of 0).
  [[nodiscard]] result<> add(std::uint16_t vf, Media& media, std::uint8_t weight = 1,
                             const sriov::function_limits& limits = {}) noexcept {
    if (vf >= Policy::functions) return failure(errc::out_of_range, "no such function", vf);
    if (functions_[vf]) return failure(errc::already_exists, "the function has a media", vf);
    if (weight == 0) return failure(errc::invalid_argument, "a weight is 1 to 255", vf);
    functions_[vf].emplace(switch_, memory_, master(vf), vf, media);
    limiters_[vf] = sriov::function_limiter{limits, now_ns_};
    scheduler_.set_weight(vf, weight);
    return {};
  }

  // Puts a function into an empty slot of a root. Errors: those of multi_root::attach, not_ready (no media).
  [[nodiscard]] result<> attach(std::uint16_t vf, std::uint16_t root, std::uint16_t slot) noexcept {
    if (vf >= Policy::functions || !functions_[vf]) {
      return failure(errc::not_ready, "the function has no media: call add()", vf);
    }
    return switch_.attach(vf, root, slot, events());
  }
  // Takes a function out of its slot and resets it. Its root finds it gone: commands in flight end there with
  // an error. False where it is in no slot.
  bool detach(std::uint16_t vf) noexcept {
    const auto no_answer = [](std::uint16_t, const pcie::tlp_header&) noexcept {};
    if (!switch_.detach(vf, no_answer, events())) return false;
    reset(vf);
    switch_.function_reset(vf, no_answer);
    return true;
  }
  // From one root to another while both run. Errors: those of attach(); the function is then in no slot.
  [[nodiscard]] result<> move(std::uint16_t vf, std::uint16_t root, std::uint16_t slot) noexcept {
    (void)detach(vf);
    return attach(vf, root, slot);
  }

  // One function, whose turn it is, does one round of work; virtual time passes by what it moved. Returns
  // how much was done, 0 where no function has work.
  unsigned step() noexcept {
    for (std::uint16_t vf = 0; vf != Policy::functions; ++vf) {
      if (functions_[vf] && switch_.root_of(vf) != none) scheduler_.activate(vf);
    }
    const auto may_serve = [&](std::uint16_t vf) noexcept {
      return limiters_[vf].conforms(0, now_ns_);
    };
    for (;;) {
      const std::uint16_t vf = scheduler_.next(may_serve);
      if (vf == sriov::fair_scheduler<Policy::functions>::none) break;
      member& f = *functions_[vf];
      const std::uint64_t before = f.dma.bytes();
      const unsigned work = f.controller.poll();
      if (work == 0) {
        scheduler_.deactivate(vf);
        continue;
      }
      const std::uint64_t moved = f.dma.bytes() - before;
      // A round that moved no data was a doorbell, for example; it costs a packet.
      const std::uint64_t cost = moved < 64 ? 64 : moved;
      scheduler_.charge(vf, static_cast<std::uint32_t>(cost < 0xffff'ffff ? cost : 0xffff'ffff));
      limiters_[vf].take(cost);
      pass_time((cost * ns_per_64kib + 0xffff) >> 16);
      return work;
    }
    pass_time(1000);
    return 0;
  }
  [[nodiscard]] std::uint64_t now_ns() const noexcept { return now_ns_; }
  [[nodiscard]] pooled_function_state state(std::uint16_t vf) const noexcept {
    if (vf >= Policy::functions || !functions_[vf]) return {};
    return {switch_.root_of(vf), functions_[vf]->dma.bytes()};
  }
  [[nodiscard]] const switch_type& fabric() const noexcept { return switch_; }

  // The answer to a packet that is not posted.
  struct answer {
    pcie::tlp_header header{};
    std::uint32_t data = 0;
  };
  // Any packet of a root; headers that tlp_check() refuses vanish. `data` is the first doubleword of its
  // data. Returns the answer that comes back to this root, if one does.
  [[nodiscard]] std::optional<answer> send(std::uint16_t root, const pcie::tlp_header& h,
                                           std::uint32_t data = 0) noexcept {
    PHASEBIT_EXPECTS(root < Policy::roots, "no such root");
    const auto routed = switch_.from_root(root, h, data, events());
    if (routed.route == sriov::tlp_route::reply) return answer{routed.header, routed.data};
    if (routed.route != sriov::tlp_route::device) return std::nullopt;
    const auto served = serve(routed.header, data);
    if (!served) return std::nullopt;
    const auto back = switch_.from_device(served->header);
    if (back.route != sriov::tlp_route::root || back.root != root) return std::nullopt;
    return answer{back.header, served->data};
  }
  // Slots whose state has changed since the last call, as bits; a root's software looks at them instead of an
  // interrupt.
  [[nodiscard]] std::uint32_t take_slot_events(std::uint16_t root) noexcept {
    PHASEBIT_EXPECTS(root < Policy::roots, "no such root");
    const std::uint32_t now = slot_events_[root];
    slot_events_[root] = 0;
    return now;
  }

 private:
  using dma_type = pooled_dma<switch_type>;
  using namespaces = nvme::device::single_namespace<Media>;

  struct member {
    member(switch_type& fabric, std::span<const dma_region> memory, pcie::requester_id self,
           std::uint16_t vf, Media& media) noexcept
        : dma(fabric, memory, self),
          spaces(media),
          controller(dma, interrupts, spaces, words, settings_for(vf)) {}
    [[nodiscard]] static nvme::device::settings settings_for(std::uint16_t vf) noexcept {
      nvme::device::settings s;
      s.controller_id = vf;
      s.io_queue_pairs = Policy::max_io_queue_pairs;
      s.interrupt_vectors = 1;
      s.fetch_burst = 1;
      s.first_eui64 = 0x0250'4200'0000'0000 + (std::uint64_t{vf} << 16) + 1;
      s.subsystem_reset = false;
      return s;
    }

    dma_type dma;
    no_interrupts interrupts{};
    namespaces spaces;
    std::array<std::uint32_t, doorbell_words> words{};
    nvme::device::controller<dma_type, no_interrupts, namespaces, thread_order, Policy> controller;
  };

  [[nodiscard]] static constexpr sriov::function_ref ref(std::uint16_t vf) noexcept {
    return {0, static_cast<std::uint16_t>(vf + 1)};
  }
  [[nodiscard]] static constexpr pcie::requester_id master(std::uint16_t vf) noexcept {
    return pcie::requester_id{static_cast<std::uint16_t>((device_bus << 8) + 1 + vf)};
  }
  // The switch's notification: a reset of the bus behind a slot resets the function there.
  [[nodiscard]] auto events() noexcept {
    return [this](const sriov::multi_root_event& e) noexcept {
      slot_events_[e.root] |= 1U << e.slot;
      const std::uint16_t vf = switch_.function_in(e.root, e.slot);
      if (vf == none || e.kind == sriov::multi_root_event_kind::interrupt) return;
      reset(vf);
    };
  }
  void reset(std::uint16_t vf) noexcept {
    if (!functions_[vf]) return;
    functions_[vf]->controller.reset();
    functions_[vf]->words = {};
  }
  void pass_time(std::uint64_t ns) noexcept {
    now_ns_ += ns;
    ns_of_ms_ += ns;
    for (; ns_of_ms_ >= nanoseconds_per_ms; ns_of_ms_ -= nanoseconds_per_ms) ++now_ms_;
  }
  void write_config(sriov::function_ref f, std::uint16_t offset, unsigned bytes,
                    std::uint32_t value) noexcept {
    table_.config_write(f, offset, bytes, value, now_ms_,
                        [&](const sriov::function_event& e) noexcept {
                          if (e.kind != sriov::function_event_kind::reset || e.function.vf == 0)
                            return;
                          reset(static_cast<std::uint16_t>(e.function.vf - 1));
                          table_.ready(e.function);
                        });
  }

  // The device answers a request at once; nothing for posted ones.
  [[nodiscard]] std::optional<answer> serve(const pcie::tlp_header& h,
                                            std::uint32_t data) noexcept {
    const pcie::requester_id pf{static_cast<std::uint16_t>(device_bus << 8)};
    const auto end = [&](pcie::requester_id from, pcie::completion_status how,
                         std::uint32_t value = 0) noexcept -> std::optional<answer> {
      if (h.is_posted()) return std::nullopt;
      return answer{pcie::complete(h, from, how).encode(), value};
    };
    using status = pcie::completion_status;
    if (h.is_config()) {
      const auto c = pcie::config_request::decode(h);
      const sriov::function_ref f = table_.find(c.destination);
      if (!f.exists() || f.vf == 0) return end(pf, status::unsupported_request);
      if (!c.write) {
        const auto read = table_.config_read(f, c.offset, 4);
        return end(c.destination, read.status, read.value);
      }
      for (unsigned b = 0; b != 4; ++b) {
        if ((c.enables >> b & 1) == 0) continue;
        write_config(f, static_cast<std::uint16_t>(c.offset + b), 1, data >> b * 8 & 0xff);
      }
      return end(c.destination, status::successful);
    }
    if (!h.has_address()) return std::nullopt;
    const auto hit = table_.find(h.address());
    if (!hit.function.exists() || hit.function.vf == 0) return end(pf, status::unsupported_request);
    const auto vf = static_cast<std::uint16_t>(hit.function.vf - 1);
    const auto offset = static_cast<std::uint32_t>(hit.offset);
    if (!functions_[vf]) return end(master(vf), status::unsupported_request);
    member& f = *functions_[vf];
    const bool is_word = h.type() == pcie::tlp_type::memory && h.length() == 1 &&
                         pcie::memory_request::decode(h).enables.first == 0xf;
    if (!is_word) return end(master(vf), status::completer_abort);
    const std::uint32_t word = (offset - nvme::first_doorbell) / 4;
    const bool doorbell = offset >= nvme::first_doorbell && word < f.words.size();
    if (h.with_data()) {
      if (offset < nvme::first_doorbell) {
        f.controller.write32(offset, data);
      } else if (doorbell) {
        thread_order::store(f.words[word], le<std::uint32_t>::to_wire(data));
      }
      return std::nullopt;
    }
    // Doorbells read as zero (PCIe Transport 1.0, 3.1.2).
    return end(master(vf), status::successful,
               offset < nvme::first_doorbell ? f.controller.read32(offset) : 0);
  }

  sriov::config_image image_{};
  sriov::config_image vf_image_{};
  sriov::function_table<sriov::function_table_limits{.virtual_functions = Policy::functions}>
      table_{};
  switch_type switch_{};
  std::array<dma_region, Policy::roots> memory_{};
  std::array<std::optional<member>, Policy::functions> functions_{};
  std::array<sriov::function_limiter, Policy::functions> limiters_{};
  std::array<std::uint32_t, Policy::roots> slot_events_{};
  sriov::fair_scheduler<Policy::functions> scheduler_{Policy::quantum};
  std::uint64_t now_ns_ = 0;
  std::uint32_t now_ms_ = 0;
  std::uint64_t ns_of_ms_ = 0;  // since now_ms_ changed
};

}  // namespace phasebit::systems
