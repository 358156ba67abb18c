// SPDX-License-Identifier: BSL-1.0
// An NVMe controller in memory that shows what real controllers were reported to do against the
// specification, as a backend for driver tests. One thread; time is simulated: each relax() of the clock lets
// the controller work and moves time by `step_ns`.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/nvme/prp/walk.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/async_event.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/nvme/spec/features.hpp>
#include <phasebit/nvme/spec/guard.hpp>
#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/identify_namespace.hpp>
#include <phasebit/nvme/spec/identify_nvm.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/protection.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

namespace phasebit::testing {

// Deviations from the specification. All members may be changed while the controller runs.
struct nvme_quirk_plan {
  std::uint16_t vendor = 0x5042;
  std::uint16_t device = 0x0001;
  std::uint16_t mqes = 255;
  std::uint8_t dstrd = 0;
  std::uint64_t bar_bytes = 0x4000;
  std::uint32_t version = nvme::vs::of(1, 4).raw;
  std::uint8_t sqes = 0x66;
  std::uint8_t cqes = 0x44;
  std::uint8_t mdts = 5;              // 128 KiB
  bool command_set_zero = false;      // CAP.CSS = 0
  bool several_command_sets = false;  // CAP.CSS bit 43
  bool read64_is_ones = false;        // 64-bit register reads fail
  std::uint32_t ones_after_disable_ms =
      0;                              // every register reads ones for so long after CC.EN 1 to 0
  std::uint32_t ones_for_reads = 0;   // the next reads of CSTS are all ones: the link flaps
  std::uint32_t fatal_for_reads = 0;  // the next reads of CSTS have CFS set
  bool removed = false;               // registers and configuration space read ones
  bool never_stops = false;           // CSTS.RDY stays 1
  bool shutdown_never_ends = false;   // CSTS.SHST stays 01b
  std::uint16_t number_of_queues_status = 0;  // of Set Features 07h
  bool no_active_list = false;                // CNS 02h is refused
  bool zoned = false;                         // CNS 03h reports the zoned command set
  std::uint32_t not_ready_ms = 0;     // 0082h with DNR clear for so long after the first command
  std::uint8_t retry_delay = 0;       // CRD of that status
  std::uint16_t list_alignment = 0;   // PRP lists elsewhere are refused with 0013h
  std::uint32_t duplicate_every = 0;  // every n-th I/O completion is posted twice
  std::uint32_t duplicate_delay = 0;  // ... that many I/O completions later
  std::uint32_t unknown_id_every =
      0;                           // every n-th I/O completion is followed by one of a random id
  bool completes_unrung = false;   // fetches entries beyond the doorbell
  bool hold = false;               // I/O commands wait
  bool reorder = false;            // I/O commands wait for a random time, and end in any order
  std::uint32_t fail_every = 0;    // every n-th I/O command ends with 0006h and does nothing
  bool silent_admin = false;       // admin commands are never completed
  std::uint8_t silent_opcode = 0;  // ... those of this opcode, if silent_one
  bool silent_one = false;
  std::uint8_t refuse_opcode = 0;  // admin commands of this opcode end with 0006h, so many times
  std::uint32_t refuse_times = 0;
  bool shadow_doorbells = false;     // OACS bit 8
  bool cap_is_zero = false;          // CAP reads 0: a virtual function that is offline
  std::uint8_t timeout = 20;         // CAP.TO, in 500 ms
  std::uint8_t mpsmin = 0;           // CAP.MPSMIN
  std::uint8_t mpsmax = 0;           // CAP.MPSMAX, if more than mpsmin
  bool only_all_sets = false;        // CAP.CSS bit 43 without bit 37
  std::uint32_t ready_after_ms = 0;  // CSTS.RDY follows CC.EN to 1 so much later
  std::uint32_t stop_after_ms = 0;   // ... to 0
  std::uint32_t granted_queues = 63U | 63U << 16;  // the answer to Number of Queues
  std::uint32_t rtd3e = 0;                         // Identify RTD3E
  bool notices = false;                            // OAES bit 8
  bool event_storm = false;      // an event is reported whenever a request for one is there
  bool descending_list = false;  // CNS 02h answers in descending order
  std::uint8_t guard = 0;        // with 1 or 2 CTRATT.ELBAS is set and CNS 05h names that guard
  std::optional<std::uint16_t> io_status =
      {};                      // raw status of every I/O command, which does nothing
  bool no_admin_data = false;  // Identify and Get Log Page return success and transfer nothing
  // Change what the driver reads: a register's dword, and the page of an Identify data structure.
  std::function<std::uint32_t(std::uint32_t offset, std::uint32_t value)> edit_register = {};
  std::function<void(nvme::cns which, std::span<std::byte> page)> edit_identify = {};
};

// A namespace of the model. Metadata is kept beside the data.
struct nvme_quirk_namespace {
  std::uint8_t block_shift = 9;
  std::uint16_t metadata_bytes = 0;
  bool metadata_inline = false;
  nvme::protection_type protection = nvme::protection_type::none;
  bool protection_first = false;
  std::vector<std::byte> data = std::vector<std::byte>(1U << 20);
  std::vector<std::byte> metadata = {};

  [[nodiscard]] std::uint64_t blocks() const { return data.size() >> block_shift; }
};

class nvme_quirk_function {
 public:
  static constexpr std::uint64_t bus_base = 0x1'0000'0000;
  static constexpr std::size_t memory_bytes = std::size_t{16} << 20;

  class doorbell {
   public:
    doorbell() noexcept = default;
    doorbell(nvme_quirk_function& f, std::uint32_t offset) noexcept : f_(&f), offset_(offset) {}
    void ring(std::uint32_t value) noexcept { f_->write32(offset_, value); }

   private:
    nvme_quirk_function* f_ = nullptr;
    std::uint32_t offset_ = 0;
  };
  class bar_type {
   public:
    explicit bar_type(nvme_quirk_function& f) noexcept : f_(&f) {}
    [[nodiscard]] std::uint32_t read32(std::uint32_t o) noexcept { return f_->read32(o); }
    void write32(std::uint32_t o, std::uint32_t v) noexcept { f_->write32(o, v); }
    [[nodiscard]] std::uint64_t read64(std::uint32_t o) noexcept {
      if (f_->plan.read64_is_ones) return ~std::uint64_t{0};
      return f_->read32(o) | std::uint64_t{f_->read32(o + 4)} << 32;
    }
    void write64_lo_hi(std::uint32_t o, std::uint64_t v) noexcept {
      f_->write32(o, static_cast<std::uint32_t>(v));
      f_->write32(o + 4, static_cast<std::uint32_t>(v >> 32));
    }
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return f_->plan.bar_bytes; }
    [[nodiscard]] testing::nvme_quirk_function::doorbell doorbell(std::uint32_t o) noexcept {
      return {*f_, o};
    }

   private:
    nvme_quirk_function* f_;
  };
  class config_type {
   public:
    explicit config_type(const nvme_quirk_function& f) noexcept : f_(&f) {}
    [[nodiscard]] std::uint8_t read8(std::uint16_t o) const noexcept {
      return static_cast<std::uint8_t>(read32(o & 0xfffcU) >> (8 * (o & 3U)));
    }
    [[nodiscard]] std::uint16_t read16(std::uint16_t o) const noexcept {
      return static_cast<std::uint16_t>(read32(o & 0xfffcU) >> (8 * (o & 2U)));
    }
    [[nodiscard]] std::uint32_t read32(std::uint16_t o) const noexcept {
      if (f_->plan.removed) return ~0U;
      return o == 0 ? f_->plan.vendor | std::uint32_t{f_->plan.device} << 16 : 0;
    }
    void write8(std::uint16_t, std::uint8_t) const noexcept {}
    void write16(std::uint16_t, std::uint16_t) const noexcept {}
    void write32(std::uint16_t, std::uint32_t) const noexcept {}
    [[nodiscard]] std::uint32_t size_bytes() const noexcept { return 256; }

   private:
    const nvme_quirk_function* f_;
  };
  class clock_type {
   public:
    explicit clock_type(nvme_quirk_function& f) noexcept : f_(&f) {}
    [[nodiscard]] std::uint64_t now() noexcept { return f_->now_; }
    void relax() noexcept { f_->step(); }

   private:
    nvme_quirk_function* f_;
  };
  using ring_order = thread_order;

  explicit nvme_quirk_function(nvme_quirk_plan what = {}) : plan(std::move(what)) {
    namespaces.resize(1);
  }
  nvme_quirk_function(const nvme_quirk_function&) = delete;

  // Backend.
  [[nodiscard]] config_type config() noexcept { return config_type{*this}; }
  [[nodiscard]] result<bar_type> map_bar(unsigned index) noexcept {
    if (index != 0) return failure(errc::not_found, "the model has BAR 0 only", index);
    return bar_type{*this};
  }
  [[nodiscard]] clock_type clock() noexcept { return clock_type{*this}; }
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    const auto region = arena_.allocate(bytes, alignment);
    if (region) live_[region->bus.value()] = region->size();
    return region;
  }
  void release(dma_region region) noexcept {
    live_.erase(region.bus.value());
    std::fill(region.bytes.begin(), region.bytes.end(), std::byte{0xdd});
    arena_.release(region);
  }
  [[nodiscard]] result<> claim() noexcept {
    if (claimed_) return failure(errc::busy, "a controller is attached to the function already");
    claimed_ = true;
    return {};
  }
  void unclaim() noexcept { claimed_ = false; }

  // State of the model, and events that it has recorded.
  nvme_quirk_plan plan;
  std::vector<nvme_quirk_namespace> namespaces;
  std::uint64_t step_ns = 100'000;
  std::uint64_t stray_accesses = 0;  // DMA to memory that the driver had not allocated
  std::uint64_t io_commands = 0;
  std::uint64_t bad_prp_lists = 0;
  std::uint32_t shutdowns = 0;  // CC.SHN went from 0 to another value
  std::uint32_t enables = 0;
  std::uint32_t disabled_early = 0;       // CC.EN was cleared before CSTS.RDY had followed it
  std::uint32_t event_configuration = 0;  // from Set Features 0Bh
  std::uint64_t shadow_page = 0;          // of Doorbell Buffer Config
  std::uint64_t event_page = 0;
  std::vector<nvme::submission_entry> seen;  // I/O commands, if record
  bool record = false;

  [[nodiscard]] std::size_t live_regions() const { return live_.size(); }
  [[nodiscard]] bool enabled() const { return (cc_ & 1U) != 0; }
  [[nodiscard]] nvme::cc configuration() const { return nvme::cc{cc_}; }
  [[nodiscard]] std::uint64_t now_ms() const { return now_ / 1'000'000; }
  // Queues that exist at the device, the admin queue included.
  [[nodiscard]] std::size_t completion_queues() const { return cqs_.size(); }
  [[nodiscard]] std::size_t outstanding_events() const { return event_ids_.size(); }
  // Memory that the driver has allocated, by its bus address; null elsewhere.
  [[nodiscard]] std::byte* memory_at(std::uint64_t bus, std::uint64_t bytes) {
    return at(bus, bytes);
  }
  [[nodiscard]] std::size_t held() const { return waiting_.size(); }
  // Reports an event to the driver, where a request of its is outstanding.
  void report_event(std::uint32_t dw0, nvme::status how = {}) {
    if (event_ids_.empty()) return;
    const std::uint16_t id = event_ids_.front();
    event_ids_.pop_front();
    post(0, 0, id, how, dw0);
  }
  // The memory of a completion queue, which a device may write to as it likes; empty where there is none.
  [[nodiscard]] std::span<nvme::completion_entry> completion_ring(std::uint16_t qid) {
    const auto it = cqs_.find(qid);
    if (it == cqs_.end()) return {};
    std::byte* const p = at(it->second.base, 16ULL * it->second.entries);
    if (p == nullptr) return {};
    return {reinterpret_cast<nvme::completion_entry*>(p), it->second.entries};
  }
  // Completes an I/O command by hand: for ids that are not in flight, and doubles.
  void complete_by_hand(std::uint16_t qid, std::uint16_t id, nvme::status how = {}) {
    post(qid, qid, id, how, 0);
  }

  void step() noexcept {
    now_ += step_ns;
    if (change_at_ != 0 && now_ >= change_at_) {
      change_at_ = 0;
      csts_ = (csts_ & ~1U) | (cc_ & 1U);
    }
    if (plan.event_storm) report_event(0x0000'0100);
    if (!enabled() || plan.removed) return;
    for (std::size_t left = backlog_.size(); left != 0; --left) {
      const late_completion c = backlog_.front();
      backlog_.pop_front();
      post(c.sqid, c.cqid, c.id, c.how, c.dw0);
    }
    for (auto& [qid, q] : sqs_) {
      if (q.deleted) continue;
      fetch(qid, q);
    }
    if (!plan.hold) {
      for (std::size_t left = plan.reorder ? next_random() % (waiting_.size() + 1)
                                           : waiting_.size();
           left != 0; --left) {
        if (plan.reorder) std::swap(waiting_.front(), waiting_[next_random() % waiting_.size()]);
        const auto [qid, e] = waiting_.front();
        waiting_.pop_front();
        run_io(qid, e);
      }
    }
  }

 private:
  struct ring {
    std::uint64_t base = 0;
    std::uint32_t entries = 0;
    std::uint32_t head = 0;
    std::uint32_t tail = 0;
    std::uint32_t fetched = 0;
    std::uint16_t cqid = 0;
    std::uint16_t last_id = 0;  // of the command fetched last
    bool phase = true;
    bool deleted = false;
  };

  struct late_completion {
    std::uint16_t sqid = 0;
    std::uint16_t cqid = 0;
    std::uint16_t id = 0;
    nvme::status how{};
    std::uint32_t dw0 = 0;
  };

  // Memory by bus address; null, and counted, where the driver has not allocated it.
  [[nodiscard]] std::byte* at(std::uint64_t bus, std::uint64_t bytes) noexcept {
    auto it = live_.upper_bound(bus);
    if (it != live_.begin()) {
      --it;
      if (bus - it->first <= it->second && bytes <= it->second - (bus - it->first)) {
        return memory_.get() + (bus - bus_base);
      }
    }
    ++stray_accesses;
    return nullptr;
  }
  struct memory_view {
    using from = bus_space;
    using to = local_space;
    nvme_quirk_function* f;
    [[nodiscard]] result<segment<local_space>> translate(bus_addr a, std::uint64_t bytes,
                                                         access) const noexcept {
      std::byte* const p = f->at(a.value(), bytes);
      if (p == nullptr) return failure(errc::not_mapped, "not allocated", a.value());
      return segment<local_space>{to_local(p), bytes};
    }
  };

  [[nodiscard]] std::uint32_t read32(std::uint32_t o) noexcept {
    if (plan.removed || now_ < ones_until_) return ~0U;
    const std::uint32_t value = register_at(o);
    return plan.edit_register ? plan.edit_register(o, value) : value;
  }
  [[nodiscard]] std::uint32_t register_at(std::uint32_t o) noexcept {
    switch (o) {
      case 0x00:
        if (plan.cap_is_zero) return 0;
        return plan.mqes | 1U << 16 | std::uint32_t{plan.timeout} << 24;
      case 0x04:
        if (plan.cap_is_zero) return 0;
        return plan.dstrd | (plan.command_set_zero || plan.only_all_sets ? 0U : 1U << 5) |
               (plan.several_command_sets || plan.only_all_sets ? 1U << 11 : 0U) |
               std::uint32_t{plan.mpsmin} << 16 |
               std::uint32_t{plan.mpsmax > plan.mpsmin ? plan.mpsmax : plan.mpsmin} << 20;
      case nvme::vs::offset:
        return plan.version;
      case nvme::cc::offset:
        return cc_;
      case nvme::csts::offset:
        if (plan.ones_for_reads != 0) {
          --plan.ones_for_reads;
          return ~0U;
        }
        if (plan.fatal_for_reads != 0) {
          --plan.fatal_for_reads;
          return csts_ | 2U;
        }
        return csts_;
      default:
        return 0;
    }
  }
  void write32(std::uint32_t o, std::uint32_t v) noexcept {
    if (plan.removed) return;
    switch (o) {
      case nvme::aqa::offset:
        aqa_ = v;
        return;
      case nvme::asq::offset:
        asq_ = (asq_ & ~0xffff'ffffULL) | v;
        return;
      case nvme::asq::offset + 4:
        asq_ = (asq_ & 0xffff'ffffULL) | std::uint64_t{v} << 32;
        return;
      case nvme::acq::offset:
        acq_ = (acq_ & ~0xffff'ffffULL) | v;
        return;
      case nvme::acq::offset + 4:
        acq_ = (acq_ & 0xffff'ffffULL) | std::uint64_t{v} << 32;
        return;
      case nvme::cc::offset:
        write_cc(v);
        return;
      default:
        break;
    }
    if (o < nvme::first_doorbell) return;
    const std::uint32_t index = (o - nvme::first_doorbell) >> (2U + plan.dstrd);
    const auto qid = static_cast<std::uint16_t>(index / 2);
    if (index % 2 == 0) {
      if (auto it = sqs_.find(qid); it != sqs_.end() && v < it->second.entries) it->second.tail = v;
    } else if (auto it = cqs_.find(qid); it != cqs_.end() && v < it->second.entries) {
      it->second.head = v;
    }
  }
  void write_cc(std::uint32_t v) noexcept {
    const std::uint32_t old = std::exchange(cc_, v);
    const nvme::cc now{v};
    if (nvme::cc{old}[nvme::cc::shn] == nvme::shutdown_notification::none &&
        now[nvme::cc::shn] != nvme::shutdown_notification::none) {
      ++shutdowns;
      csts_ = (csts_ & ~0xcU) | (plan.shutdown_never_ends ? 4U : 8U);
    }
    if ((old & 1U) == 0 && (v & 1U) != 0) {
      ++enables;
      csts_ = plan.ready_after_ms == 0 ? 1 : 0;
      change_at_ = plan.ready_after_ms == 0 ? 0 : now_ + plan.ready_after_ms * 1'000'000ULL;
      sqs_.clear();
      cqs_.clear();
      sqs_[0] = {.base = asq_, .entries = (aqa_ & 0xfffU) + 1};
      cqs_[0] = {.base = acq_, .entries = (aqa_ >> 16 & 0xfffU) + 1};
    }
    if ((old & 1U) != 0 && (v & 1U) == 0) {
      if ((csts_ & 1U) == 0) ++disabled_early;
      change_at_ = 0;
      if (plan.stop_after_ms != 0) {
        change_at_ = now_ + plan.stop_after_ms * 1'000'000ULL;
      } else if (!plan.never_stops) {
        csts_ = 0;
      }
      ones_until_ = now_ + plan.ones_after_disable_ms * 1'000'000ULL;
      sqs_.clear();
      cqs_.clear();
      waiting_.clear();
      event_ids_.clear();
      duplicates_.clear();
      backlog_.clear();
    }
  }

  void fetch(std::uint16_t qid, ring& q) noexcept {
    const unsigned shift = qid == 0 ? 6U : nvme::cc{cc_}[nvme::cc::iosqes];
    while (q.fetched != q.tail) {
      const std::byte* const p = at(q.base + (std::uint64_t{q.fetched} << shift), 64);
      if (p == nullptr) return;
      const auto e = load_wire<nvme::submission_entry>(std::span{p, 64});
      q.fetched = q.fetched + 1 == q.entries ? 0 : q.fetched + 1;
      q.head = q.fetched;
      if (qid == 0) {
        run_admin(e);
        if (sqs_.empty() || q.deleted) return;
      } else {
        q.last_id = e.command_id();
        waiting_.emplace_back(qid, e);
      }
    }
    if (plan.completes_unrung && (qid != 0 || unrung_done_ != q.fetched)) {
      // Completes an entry beyond the doorbell as if the doorbell had been written.
      const std::byte* const p = at(q.base + (std::uint64_t{q.fetched} << shift), 64);
      if (p == nullptr) return;
      const auto e = load_wire<nvme::submission_entry>(std::span{p, 64});
      if (!is_waiting(qid, e.command_id()) && !is_full(q.cqid)) {
        post(qid, q.cqid, e.command_id(), {}, 0);
      }
    }
  }

  [[nodiscard]] bool is_full(std::uint16_t cqid) const noexcept {
    const auto it = cqs_.find(cqid);
    return it == cqs_.end() || (it->second.tail + 1) % it->second.entries == it->second.head;
  }
  void post(std::uint16_t sqid, std::uint16_t cqid, std::uint16_t id, nvme::status how,
            std::uint32_t dw0) noexcept {
    const auto it = cqs_.find(cqid);
    if (it == cqs_.end()) return;
    ring& q = it->second;
    if ((q.tail + 1) % q.entries == q.head) {
      // Full: duplicates take places too. It is posted when the driver has given one back.
      backlog_.push_back({sqid, cqid, id, how, dw0});
      return;
    }
    std::byte* const p = at(q.base + 16ULL * q.tail, 16);
    if (p == nullptr) return;
    auto& entry = *reinterpret_cast<nvme::completion_entry*>(p);
    entry.dw0 = dw0;
    entry.sq_id = sqid;
    if (const auto sq = sqs_.find(sqid); sq != sqs_.end()) {
      entry.sq_head = static_cast<std::uint16_t>(sq->second.head);
    }
    thread_order::store(entry.dw3, nvme::completion_dw3::of(id, how, q.phase).raw);
    if (++q.tail == q.entries) {
      q.tail = 0;
      q.phase = !q.phase;
    }
  }

  [[nodiscard]] nvme::status_code to_host(const nvme::submission_entry& e,
                                          std::span<const std::byte> bytes) noexcept {
    memory_view view{this};
    return nvme::prp::walk(view, {e.prp1.get(), e.prp2.get()}, bytes.size(), 12U + plan.mpsmin,
                           [&](bus_addr a, std::uint64_t n) noexcept {
                             std::byte* const p = at(a.value(), n);
                             if (p == nullptr) return nvme::status_code::data_transfer_error;
                             std::copy_n(bytes.data(), n, p);
                             bytes = bytes.subspan(int_cast<std::size_t>(n));
                             return nvme::status_code::success;
                           });
  }
  [[nodiscard]] nvme::status_code from_host(const nvme::submission_entry& e,
                                            std::span<std::byte> bytes) noexcept {
    memory_view view{this};
    return nvme::prp::walk(view, {e.prp1.get(), e.prp2.get()}, bytes.size(), 12U + plan.mpsmin,
                           [&](bus_addr a, std::uint64_t n) noexcept {
                             const std::byte* const p = at(a.value(), n);
                             if (p == nullptr) return nvme::status_code::data_transfer_error;
                             std::copy_n(p, n, bytes.data());
                             bytes = bytes.subspan(int_cast<std::size_t>(n));
                             return nvme::status_code::success;
                           });
  }

  void run_admin(const nvme::submission_entry& e) noexcept {
    using nvme::admin_opcode;
    using nvme::status_code;
    if (plan.silent_admin || (plan.silent_one && e.opcode() == plan.silent_opcode)) return;
    std::uint32_t dw0 = 0;
    status_code how = status_code::success;
    if (plan.refuse_times != 0 && e.opcode() == plan.refuse_opcode) {
      --plan.refuse_times;
      post(0, 0, e.command_id(), status_code::internal_error, 0);
      return;
    }
    switch (static_cast<admin_opcode>(e.opcode())) {
      case admin_opcode::identify:
        how = identify(e);
        break;
      case admin_opcode::set_features:
      case admin_opcode::get_features:
        if ((e.cdw10 & 0xffU) == static_cast<std::uint32_t>(nvme::feature_id::number_of_queues)) {
          how = static_cast<status_code>(plan.number_of_queues_status);
          dw0 = plan.granted_queues;
        }
        if (e.opcode() == static_cast<std::uint8_t>(admin_opcode::set_features) &&
            (e.cdw10 & 0xffU) ==
                static_cast<std::uint32_t>(nvme::feature_id::async_event_configuration)) {
          event_configuration = e.cdw11;
        }
        break;
      case admin_opcode::create_io_cq:
        cqs_[static_cast<std::uint16_t>(e.cdw10.get())] = {.base = e.prp1,
                                                           .entries = (e.cdw10 >> 16) + 1};
        break;
      case admin_opcode::create_io_sq:
        sqs_[static_cast<std::uint16_t>(e.cdw10.get())] = {
            .base = e.prp1,
            .entries = (e.cdw10 >> 16) + 1,
            .cqid = static_cast<std::uint16_t>(e.cdw11 >> 16)};
        break;
      case admin_opcode::delete_io_sq: {
        const auto it = sqs_.find(static_cast<std::uint16_t>(e.cdw10.get()));
        if (it == sqs_.end() || it->second.deleted) {
          how = status_code::invalid_queue_id;
        } else {
          it->second.deleted = true;
          std::erase_if(waiting_, [&](const auto& w) { return w.first == it->first; });
        }
        break;
      }
      case admin_opcode::delete_io_cq: {
        const auto cqid = static_cast<std::uint16_t>(e.cdw10.get());
        if (cqs_.erase(cqid) == 0) how = status_code::invalid_queue_id;
        // A later queue of this id has nothing to do with what was to come.
        std::erase_if(backlog_, [&](const late_completion& c) { return c.cqid == cqid; });
        std::erase_if(duplicates_, [&](const auto& d) { return std::get<1>(d) == cqid; });
        break;
      }
      case admin_opcode::async_event_request:
        event_ids_.push_back(e.command_id());
        return;
      case admin_opcode::get_log_page: {
        const std::vector<std::byte> zeros((std::size_t{e.cdw10 >> 16} + 1U) * 4U);
        if (!plan.no_admin_data) how = to_host(e, zeros);
        break;
      }
      case admin_opcode::doorbell_buffer_config:
        shadow_page = e.prp1;
        event_page = e.prp2;
        break;
      case admin_opcode::abort:
      case admin_opcode::keep_alive:
      case admin_opcode::format_nvm:
        break;
      default:
        how = status_code::invalid_opcode;
    }
    post(0, 0, e.command_id(), how, dw0);
  }

  [[nodiscard]] nvme::status_code identify(const nvme::submission_entry& e) noexcept {
    using nvme::status_code;
    std::vector<std::byte> page(4096);
    const auto store = [&](const auto& wire) { std::memcpy(page.data(), &wire, sizeof wire); };
    const std::uint32_t nsid = e.nsid;
    switch (static_cast<nvme::cns>(e.cdw10 & 0xffU)) {
      case nvme::cns::identify_namespace: {
        if (nsid == 0 || nsid > namespaces.size()) break;
        const auto& n = namespaces[nsid - 1];
        nvme::identify_namespace id{};
        id.nsze = id.ncap = id.nuse = n.blocks();
        id.lbaf[0].lbads = n.block_shift;
        id.lbaf[0].ms = n.metadata_bytes;
        id.flbas = n.metadata_inline ? 0x10 : 0;
        id.dps = static_cast<std::uint8_t>(static_cast<unsigned>(n.protection) |
                                           (n.protection_first ? 8U : 0U));
        store(id);
        break;
      }
      case nvme::cns::identify_controller: {
        nvme::identify_controller id{};
        id.vid = plan.vendor;
        id.mdts = plan.mdts;
        id.sqes = plan.sqes;
        id.cqes = plan.cqes;
        id.nn = static_cast<std::uint32_t>(namespaces.size());
        id.crdt1 = 5;
        id.rtd3e = plan.rtd3e;
        id.oaes = plan.notices ? 0x100U : 0U;
        id.ctratt = plan.guard != 0 ? 0x8000U : 0U;
        id.aerl = 3;
        id.oacs = plan.shadow_doorbells ? 0x100U : 0U;
        store(id);
        break;
      }
      case nvme::cns::command_set_namespace: {
        if (plan.guard == 0) return status_code::invalid_field;
        nvme::nvm_identify_namespace id{};
        id.elbaf[0] = std::uint32_t{plan.guard} << 7;
        store(id);
        break;
      }
      case nvme::cns::active_namespace_list: {
        if (plan.no_active_list) return status_code::invalid_field;
        if (plan.descending_list) {
          const le<std::uint32_t> words[] = {2U, 1U};
          std::memcpy(page.data(), words, sizeof words);
          break;
        }
        std::size_t count = 0;
        for (std::uint32_t i = nsid + 1; i <= namespaces.size() && count != 1024; ++i) {
          const le<std::uint32_t> word = i;
          std::memcpy(page.data() + 4 * count++, &word, 4);
        }
        break;
      }
      case nvme::cns::namespace_id_descriptors:
        page[0] = std::byte{4};
        page[1] = std::byte{1};
        page[4] = plan.zoned ? std::byte{2} : std::byte{0};
        break;
      default:
        return status_code::invalid_field;
    }
    if (plan.edit_identify) {
      plan.edit_identify(static_cast<nvme::cns>(e.cdw10 & 0xffU), page);
    }
    return plan.no_admin_data ? status_code::success : to_host(e, page);
  }

  [[nodiscard]] std::uint64_t next_random() noexcept {
    random_ = random_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return random_ >> 33;
  }
  [[nodiscard]] bool is_waiting(std::uint16_t qid, std::uint16_t id) const noexcept {
    return std::any_of(waiting_.begin(), waiting_.end(), [&](const auto& w) {
      return w.first == qid && w.second.command_id() == id;
    });
  }
  void run_io(std::uint16_t qid, const nvme::submission_entry& e) noexcept {
    const auto sq = sqs_.find(qid);
    if (sq == sqs_.end() || sq->second.deleted) return;
    ++io_commands;
    if (record) seen.push_back(e);
    const bool fails = plan.fail_every != 0 && io_commands % plan.fail_every == 0;
    nvme::status how = plan.io_status ? nvme::status{*plan.io_status}
                       : fails        ? nvme::status_code::internal_error
                                      : execute(e);
    if (plan.not_ready_ms != 0) {
      if (!first_io_) first_io_ = now_;
      if (now_ - *first_io_ < plan.not_ready_ms * 1'000'000ULL) {
        how = nvme::status{static_cast<std::uint16_t>(0x82U | std::uint32_t{plan.retry_delay}
                                                                  << nvme::status::crd_bits.lo)};
      }
    }
    const std::uint16_t cqid = sq->second.cqid;
    post(qid, cqid, e.command_id(), how, 0);
    ++completed_;
    if (plan.duplicate_every != 0 && completed_ % plan.duplicate_every == 0) {
      duplicates_.emplace_back(completed_ + plan.duplicate_delay, qid, e.command_id());
    }
    while (!duplicates_.empty() && std::get<0>(duplicates_.front()) <= completed_) {
      const auto [when, q, id] = duplicates_.front();
      duplicates_.pop_front();
      post(q, q, id, {}, 0);
    }
    if (plan.unknown_id_every != 0 && completed_ % plan.unknown_id_every == 0) {
      // The id of a waiting command looks to the driver like its own completion.
      // ..., and so does that of a command that it posts before it polls.
      const auto id = static_cast<std::uint16_t>(next_random());
      const auto ahead = static_cast<std::uint16_t>(id - sq->second.last_id);
      if (!is_waiting(qid, id) && ahead >= 512) post(qid, cqid, id, {}, 0);
    }
  }

  [[nodiscard]] nvme::status_code execute(const nvme::submission_entry& e) noexcept {
    using nvme::nvm_opcode;
    using nvme::status_code;
    const auto opcode = static_cast<nvm_opcode>(e.opcode());
    if (opcode == nvm_opcode::flush) return status_code::success;
    const bool compare = opcode == nvm_opcode::compare;
    const bool moves = opcode == nvm_opcode::read || opcode == nvm_opcode::write || compare;
    if (!moves && opcode != nvm_opcode::write_zeroes && opcode != nvm_opcode::verify &&
        opcode != nvm_opcode::dataset_management && opcode != nvm_opcode::copy) {
      return status_code::invalid_opcode;
    }
    if (e.nsid == 0U || e.nsid > namespaces.size()) {
      return status_code::invalid_namespace_or_format;
    }
    nvme_quirk_namespace& n = namespaces[e.nsid - 1];
    n.metadata.resize(n.blocks() * n.metadata_bytes);
    if (opcode == nvm_opcode::dataset_management) return deallocate(n, e);
    if (opcode == nvm_opcode::copy) return copy(n, e);
    const nvme::block_range r = nvme::block_range_of(e);
    if (r.lba > n.blocks() || r.blocks > n.blocks() - r.lba) return status_code::lba_out_of_range;
    if (opcode == nvm_opcode::write_zeroes) {
      clear(n, r.lba, r.blocks);
      return status_code::success;
    }
    if (opcode == nvm_opcode::verify) return status_code::success;
    const bool pi = n.protection != nvme::protection_type::none;
    const bool strips = pi && r.pi.action && n.metadata_bytes == 8;
    const std::size_t block = std::size_t{1} << n.block_shift;
    const std::size_t step = block + (n.metadata_inline && !strips ? n.metadata_bytes : 0U);
    std::vector<std::byte> transfer(step * r.blocks);
    if (plan.list_alignment != 0 && transfer.size() > 8192 && e.prp2 % plan.list_alignment != 0) {
      ++bad_prp_lists;
      return status_code::prp_offset_invalid;
    }
    const bool separate = !n.metadata_inline && n.metadata_bytes != 0 && !strips;
    std::byte* apart = nullptr;
    if (separate) {
      apart = at(e.mptr, std::uint64_t{r.blocks} * n.metadata_bytes);
      if (apart == nullptr) return status_code::data_transfer_error;
    }
    const bool write = opcode == nvm_opcode::write;
    if (write || compare) {
      if (const auto got = from_host(e, transfer); got != status_code::success) return got;
    }
    if (n.protection == nvme::protection_type::type1 && (r.pi.action || r.pi.check_reference) &&
        r.reference_tag != static_cast<std::uint32_t>(r.lba)) {
      return status_code::invalid_protection_information;
    }
    for (std::uint32_t i = 0; i != r.blocks; ++i) {
      std::byte* const data = n.data.data() + ((r.lba + i) << n.block_shift);
      std::byte* const meta = n.metadata.data() + (r.lba + i) * n.metadata_bytes;
      std::byte* const host = transfer.data() + i * step;
      std::byte* const host_meta = separate        ? apart + std::size_t{i} * n.metadata_bytes
                                   : step != block ? host + block
                                                   : nullptr;
      const auto tag =
          n.protection == nvme::protection_type::type3 ? r.reference_tag : r.reference_tag + i;
      if (write) {
        std::copy_n(host, block, data);
        if (host_meta != nullptr) std::copy_n(host_meta, n.metadata_bytes, meta);
        if (pi && r.pi.action) make_tuple(n, data, meta, r.application_tag, tag);
        if (pi && !r.pi.action) {
          if (const auto ok = check_tuple(n, data, meta, r, tag); ok != status_code::success) {
            return ok;
          }
        }
      } else {
        if (pi) {
          if (const auto ok = check_tuple(n, data, meta, r, tag); ok != status_code::success) {
            return ok;
          }
        }
        if (compare) {
          if (std::memcmp(data, host, block) != 0 ||
              (host_meta != nullptr && !pi &&
               std::memcmp(meta, host_meta, n.metadata_bytes) != 0)) {
            return status_code::compare_failure;
          }
          continue;
        }
        std::copy_n(data, block, host);
        if (host_meta != nullptr) std::copy_n(meta, n.metadata_bytes, host_meta);
      }
    }
    return write || compare ? status_code::success : to_host(e, transfer);
  }
  // Data of zeros; metadata of ones where there are tuples, which switches their checks off.
  static void clear(nvme_quirk_namespace& n, std::uint64_t lba, std::uint64_t blocks) noexcept {
    std::fill_n(n.data.data() + (lba << n.block_shift), blocks << n.block_shift, std::byte{0});
    std::fill_n(n.metadata.data() + lba * n.metadata_bytes, blocks * n.metadata_bytes,
                n.protection != nvme::protection_type::none ? std::byte{0xff} : std::byte{0});
  }
  [[nodiscard]] nvme::status_code deallocate(nvme_quirk_namespace& n,
                                             const nvme::submission_entry& e) noexcept {
    using nvme::status_code;
    std::vector<std::byte> list((std::size_t{e.cdw10 & 0xffU} + 1) * sizeof(nvme::dataset_range));
    if (const auto got = from_host(e, list); got != status_code::success) return got;
    for (std::size_t at = 0; at != list.size(); at += sizeof(nvme::dataset_range)) {
      const auto r = load_wire<nvme::dataset_range>(std::span{list}.subspan(at));
      if (r.lba > n.blocks() || r.blocks > n.blocks() - r.lba) {
        return status_code::lba_out_of_range;
      }
      clear(n, r.lba, r.blocks);
    }
    return status_code::success;
  }
  // Of one namespace without tuples; sources are read before anything is written.
  [[nodiscard]] nvme::status_code copy(nvme_quirk_namespace& n,
                                       const nvme::submission_entry& e) noexcept {
    using nvme::status_code;
    if (n.protection != nvme::protection_type::none) return status_code::invalid_field;
    std::vector<std::byte> list((std::size_t{e.cdw12 & 0xffU} + 1) * sizeof(nvme::copy_range));
    if (const auto got = from_host(e, list); got != status_code::success) return got;
    std::vector<std::byte> data;
    std::vector<std::byte> meta;
    for (std::size_t at = 0; at != list.size(); at += sizeof(nvme::copy_range)) {
      const auto r = load_wire<nvme::copy_range>(std::span{list}.subspan(at));
      const std::uint64_t blocks = std::uint64_t{r.nlb} + 1;
      if (r.lba > n.blocks() || blocks > n.blocks() - r.lba) return status_code::lba_out_of_range;
      const auto* const from = n.data.data() + (r.lba.get() << n.block_shift);
      data.insert(data.end(), from, from + (blocks << n.block_shift));
      const auto* const beside = n.metadata.data() + r.lba * n.metadata_bytes;
      meta.insert(meta.end(), beside, beside + blocks * n.metadata_bytes);
    }
    const std::uint64_t to = e.cdw10_11();
    if (to > n.blocks() || data.size() > (n.blocks() - to) << n.block_shift) {
      return status_code::lba_out_of_range;
    }
    std::copy(data.begin(), data.end(), n.data.data() + (to << n.block_shift));
    std::copy(meta.begin(), meta.end(), n.metadata.data() + to * n.metadata_bytes);
    return status_code::success;
  }
  [[nodiscard]] static std::size_t tuple_at(const nvme_quirk_namespace& n) noexcept {
    return n.protection_first ? 0 : n.metadata_bytes - 8U;
  }
  [[nodiscard]] static std::uint16_t guard_of(const nvme_quirk_namespace& n, const std::byte* data,
                                              const std::byte* meta) noexcept {
    const auto so_far = nvme::guard16({data, std::size_t{1} << n.block_shift});
    return nvme::guard16({meta, tuple_at(n)}, so_far);
  }
  static void make_tuple(const nvme_quirk_namespace& n, const std::byte* data, std::byte* meta,
                         std::uint16_t application, std::uint32_t reference) noexcept {
    nvme::protection16 t{};
    t.guard = guard_of(n, data, meta);
    t.application_tag = application;
    t.reference_tag = reference;
    std::memcpy(meta + tuple_at(n), &t, sizeof t);
  }
  [[nodiscard]] static nvme::status_code check_tuple(const nvme_quirk_namespace& n,
                                                     const std::byte* data, const std::byte* meta,
                                                     const nvme::block_range& r,
                                                     std::uint32_t reference) noexcept {
    using nvme::status_code;
    nvme::protection16 t{};
    std::memcpy(&t, meta + tuple_at(n), sizeof t);
    if (t.application_tag == nvme::escape_application_tag) return status_code::success;
    if (r.pi.check_guard && t.guard != guard_of(n, data, meta))
      return status_code::guard_check_error;
    if (r.pi.check_application &&
        (t.application_tag & r.application_mask) != (r.application_tag & r.application_mask)) {
      return status_code::application_tag_check_error;
    }
    if (r.pi.check_reference && t.reference_tag != reference) {
      return status_code::reference_tag_check_error;
    }
    return status_code::success;
  }

  struct free_memory {
    void operator()(std::byte* p) const noexcept { std::free(p); }
  };
  std::unique_ptr<std::byte, free_memory> memory_{
      static_cast<std::byte*>(std::aligned_alloc(65'536, memory_bytes))};
  dma_arena<512> arena_{dma_region{{memory_.get(), memory_bytes}, bus_addr{bus_base}}};
  std::map<std::uint64_t, std::uint64_t> live_;
  std::map<std::uint16_t, ring> sqs_;
  std::map<std::uint16_t, ring> cqs_;
  std::deque<std::pair<std::uint16_t, nvme::submission_entry>> waiting_;
  std::deque<std::uint16_t> event_ids_;
  std::deque<std::tuple<std::uint64_t, std::uint16_t, std::uint16_t>> duplicates_;
  std::deque<late_completion> backlog_;
  std::optional<std::uint64_t> first_io_;
  std::uint64_t completed_ = 0;
  std::uint64_t random_ = 1;
  std::uint64_t now_ = 0;
  std::uint64_t ones_until_ = 0;
  std::uint64_t change_at_ = 0;  // when CSTS.RDY follows CC.EN; 0: it has
  std::uint64_t asq_ = 0;
  std::uint64_t acq_ = 0;
  std::uint32_t aqa_ = 0;
  std::uint32_t cc_ = 0;
  std::uint32_t csts_ = 0;
  std::uint32_t unrung_done_ = ~0U;
  bool claimed_ = false;
};
static_assert(PcieBackend<nvme_quirk_function>);

}  // namespace phasebit::testing
