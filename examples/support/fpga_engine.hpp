// SPDX-License-Identifier: BSL-1.0
// The FPGA in software: the device's side of both rings, over memory that the host sees as a BAR.
// It is written as hardware has to be: the host's writes are read once, checked, then used.
#pragma once

#include "fpga_registers.hpp"

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/device/completion_queue.hpp>
#include <phasebit/nvme/device/submission_queue.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <boost/crc.hpp>

namespace example::fpga {

using phasebit::bus_addr;

// CRC-32C (Castagnoli), as iSCSI and NVMe over TCP have it.
[[nodiscard]] inline std::uint32_t crc32c(std::span<const std::byte> bytes) {
  boost::crc_optimal<32, 0x1edc6f41, 0xffff'ffff, 0xffff'ffff, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

// How an engine may go wrong, after `after` commands where it takes commands at all.
enum class engine_fault : std::uint8_t {
  none,
  wrong_design,   // identifies itself as something else
  wrong_version,  // of a later major version
  not_ready,      // never becomes ready
  silent,         // takes commands and never answers
  unknown_id,     // completes with an id that was not sent
  phase,          // answers with a phase that never flips
  stops,          // stands still from one moment to the next
  gone,           // leaves the bus: all of its registers read as ones
};

// Words of the BAR as the engine reads and writes them: what the host may only read is its to write.
template <phasebit::RingOrder Order>
class engine_registers {
  using word = phasebit::le<std::uint32_t>;

 public:
  explicit engine_registers(std::span<std::byte> bar) noexcept : bar_(bar.first(register_bytes)) {}

  [[nodiscard]] std::uint32_t load(std::uint32_t offset) const noexcept {
    const std::uint32_t value = Order::load(at(offset)).get();
    Order::after_load();
    return value;
  }
  void store(std::uint32_t offset, std::uint32_t value) noexcept {
    Order::store(at(offset), word{value});
  }
  template <class Register>
  [[nodiscard]] Register read() const noexcept {
    std::uint64_t raw = load(Register::offset);
    if constexpr (sizeof(typename Register::word_type) == 8) {
      raw |= std::uint64_t{load(Register::offset + 4)} << 32;
    }
    return Register{static_cast<typename Register::word_type>(raw)};
  }
  template <class Register>
  void write(Register value) noexcept {
    store(Register::offset, static_cast<std::uint32_t>(value.raw));
    if constexpr (sizeof(typename Register::word_type) == 8) {
      store(Register::offset + 4, static_cast<std::uint32_t>(value.raw >> 32));
    }
  }
  void fill(std::uint32_t value) noexcept {
    for (std::uint32_t at = 0; at != register_bytes; at += sizeof(word)) store(at, value);
  }

 private:
  [[nodiscard]] word& at(std::uint32_t offset) const noexcept {
    return *reinterpret_cast<word*>(bar_.data() + offset);
  }
  std::span<std::byte> bar_;
};

// One thread polls. The memory outlives the engine, which marks its end in its registers.
template <phasebit::RingOrder Order = phasebit::thread_order>
class engine {
 public:
  static constexpr std::uint8_t log2_entries = 10;
  static constexpr std::uint8_t log2_bytes = 20;
  // Another address than the BAR's, as an FPGA's memory controller has it.
  static constexpr bus_addr dram_at{0x8'0000'0000};
  static constexpr std::uint32_t least_bar = 1U << 16;

  // `bar` is a multiple of a page and at least `least_bar` long.
  explicit engine(std::span<std::byte> bar, engine_fault fault = engine_fault::none,
                  std::uint32_t after = 0) noexcept
      : registers_(bar),
        dram_{{bar.subspan(register_bytes), dram_at}},
        fault_(fault),
        after_(after) {
    registers_.fill(0);
    std::uint16_t major = major_version;
    if (fault == engine_fault::wrong_version) ++major;
    registers_.write(version{}.with(version::major_number, major));
    registers_.write(capability{}
                         .with(capability::log2_entries, log2_entries)
                         .with(capability::log2_bytes, log2_bytes)
                         .with(capability::fill, true)
                         .with(capability::copy, true)
                         .with(capability::checksum, true));
    registers_.write(dram_base{dram_at.value()});
    registers_.write(dram_offset{register_bytes});
    registers_.write(
        dram_pages{static_cast<std::uint32_t>((bar.size() - register_bytes) / page_bytes)});
    // Stored last: a host that reads it may rely on the other registers.
    const std::uint32_t other = fault == engine_fault::wrong_design ? 1 : 0;
    registers_.write(identification{block_engine.raw + other});
  }
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  ~engine() {
    if (!stopped_) registers_.fill(0xffff'ffff);
  }

  // One round; returns how many commands it took.
  unsigned poll() noexcept {
    if (stopped_) return 0;
    registers_.write(heartbeat{++beat_});
    const bool enable = registers_.template read<control>()[control::enable];
    if (enable != enabled_) enable ? start() : reset();
    if (!ready_) return 0;
    check_doorbell(queue_.set_tail(registers_.load(submission_doorbell::offset)));
    check_doorbell(answers_.set_head(registers_.load(completion_doorbell::offset)));
    unsigned taken = 0;
    for (; taken != burst && !queue_.empty() && !answers_.full(); ++taken) {
      if (fault_due() && leave()) break;
      const auto entry = phasebit::nvme::device::fetch_command(dram_, queue_.next_entry());
      if (!entry) {
        fail(cause::queue_memory);
        break;
      }
      queue_.advance();
      finish(*entry);
    }
    return taken;
  }

  // Whether it has left the bus, or stands still, because of its fault.
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }
  [[nodiscard]] std::uint64_t commands() const noexcept { return total_; }

 private:
  static constexpr unsigned burst = 32;

  struct outcome {
    phasebit::nvme::status_code status = phasebit::nvme::status_code::success;
    std::uint32_t dw0 = 0;
  };

  void start() noexcept {
    enabled_ = true;
    const auto entries = registers_.template read<queue_entries>();
    queue_ = {};
    queue_.base = bus_addr{registers_.template read<submission_base>().raw};
    queue_.entries = entries[queue_entries::submission] + 1U;
    answers_ = {};
    answers_.base = bus_addr{registers_.template read<completion_base>().raw};
    answers_.entries = entries[queue_entries::completion] + 1U;
    const auto sound = [](std::uint32_t n) { return n >= 2 && n <= 1U << log2_entries; };
    if (!sound(queue_.entries) || !sound(answers_.entries)) return fail(cause::queue_size);
    if (local(queue_.base, queue_.entries * std::uint64_t{64}, page_bytes).empty() ||
        local(answers_.base, answers_.entries * std::uint64_t{16}, page_bytes).empty()) {
      return fail(cause::queue_memory);
    }
    if (fault_ == engine_fault::not_ready) return;
    done_ = refused_ = bad_doorbells_ = 0;
    tell();
    ready_ = true;
    registers_.write(status{}.with(status::ready, true));
  }
  void reset() noexcept {
    enabled_ = ready_ = false;
    registers_.write(submission_doorbell{});
    registers_.write(completion_doorbell{});
    registers_.write(status{});
  }
  void fail(cause why) noexcept {
    ready_ = false;
    registers_.write(status{}.with(status::fatal, true).with(status::reason, why));
  }

  // Counts doorbell values that are not possible; the ring has ignored them.
  void check_doorbell(phasebit::nvme::device::doorbell_update update) noexcept {
    if (update != phasebit::nvme::device::doorbell_update::invalid) return;
    ++bad_doorbells_;
    tell();
  }

  // Bytes of the DRAM, or none where the range is not all in it.
  [[nodiscard]] std::span<std::byte> local(bus_addr at, std::uint64_t bytes,
                                           std::uint32_t alignment = 1) const noexcept {
    if (bytes == 0 || !phasebit::is_aligned(at, alignment)) return {};
    const auto part = dram_.translate(at, bytes, phasebit::access::read_write);
    if (!part || part->bytes != bytes) return {};
    return {phasebit::pointer_of(part->begin), static_cast<std::size_t>(bytes)};
  }

  [[nodiscard]] outcome execute(const phasebit::nvme::submission_entry& c) const noexcept {
    using enum phasebit::nvme::status_code;
    const std::uint32_t bytes = c.cdw10;
    if (bytes == 0 || bytes > 1U << log2_bytes) return {invalid_field};
    const auto from = local(bus_addr{c.prp1}, bytes);
    const auto to = local(bus_addr{c.prp2}, bytes);
    switch (static_cast<operation>(c.opcode())) {
      case operation::fill: {
        if (to.empty() || bytes % 4 != 0) return {to.empty() ? data_transfer_error : invalid_field};
        const phasebit::le<std::uint32_t> word = c.cdw12;
        for (std::size_t i = 0; i != bytes; i += 4) std::memcpy(to.data() + i, &word, 4);
        return {};
      }
      case operation::copy:
        if (from.empty() || to.empty()) return {data_transfer_error};
        std::memmove(to.data(), from.data(), bytes);
        return {};
      case operation::checksum:
        if (from.empty()) return {data_transfer_error};
        return {success, crc32c(from)};
    }
    return {invalid_opcode};
  }

  void finish(const phasebit::nvme::submission_entry& c) noexcept {
    const outcome ended = execute(c);
    ++total_;
    ++(ended.status == phasebit::nvme::status_code::success ? done_ : refused_);
    tell();
    const bool wrong = fault_due();
    if (wrong && fault_ == engine_fault::silent) return;
    std::uint16_t id = c.command_id();
    bool phase = answers_.phase;
    if (wrong && fault_ == engine_fault::unknown_id) id ^= 0x8000;
    if (wrong && fault_ == engine_fault::phase) phase = !phase;
    const phasebit::nvme::completion_entry entry{
        .dw0 = ended.dw0,
        .dw1 = 0,
        .sq_head = static_cast<std::uint16_t>(queue_.head),
        .sq_id = 1,
        .dw3 = phasebit::nvme::completion_dw3::of(id, phasebit::nvme::status{ended.status}, phase)
                   .raw};
    if (!phasebit::nvme::device::post_completion<Order>(dram_, answers_.next_slot(), entry)) {
      return fail(cause::queue_memory);
    }
    answers_.advance();
  }

  void tell() noexcept {
    registers_.write(commands_done{done_});
    registers_.write(commands_refused{refused_});
    registers_.write(doorbells_refused{bad_doorbells_});
  }

  [[nodiscard]] bool fault_due() const noexcept { return total_ >= after_; }
  bool leave() noexcept {
    if (fault_ == engine_fault::gone) registers_.fill(0xffff'ffff);
    stopped_ = fault_ == engine_fault::gone || fault_ == engine_fault::stops;
    return stopped_;
  }

  engine_registers<Order> registers_;
  phasebit::region_translator dram_;
  engine_fault fault_;
  std::uint64_t after_;
  phasebit::nvme::device::submission_queue queue_{};
  phasebit::nvme::device::completion_queue answers_{};
  std::uint64_t total_ = 0;
  std::uint32_t beat_ = 0;
  std::uint32_t done_ = 0;
  std::uint32_t refused_ = 0;
  std::uint32_t bad_doorbells_ = 0;
  bool enabled_ = false;
  bool ready_ = false;
  bool stopped_ = false;
};

}  // namespace example::fpga
