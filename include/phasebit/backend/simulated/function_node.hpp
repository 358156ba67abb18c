// SPDX-License-Identifier: BSL-1.0
// One simulated function: configuration space, BARs, MSI-X and DMA, around whatever model it has.
#pragma once

#include <phasebit/backend/simulated/bus_node.hpp>
#include <phasebit/backend/simulated/fabric_state.hpp>
#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/backend/simulated/function_description.hpp>
#include <phasebit/backend/simulated/interrupts.hpp>
#include <phasebit/backend/simulated/msix_model.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/translate.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>

namespace phasebit::backend::simulated {

// Where messages go that are interrupts, as on x86; a message to anywhere else is a DMA write.
inline constexpr bus_addr interrupt_window{0xfee0'0000};
inline constexpr std::uint64_t interrupt_window_bytes = 0x10'0000;

namespace detail {

// Zeroed words on cache lines of their own, or null.
class bar_memory {
 public:
  bar_memory() noexcept = default;
  explicit bar_memory(std::size_t bytes) noexcept
      : bytes_(bytes), lines_(new(std::nothrow) line[(bytes + cache_line - 1) / cache_line]()) {}

  [[nodiscard]] bool usable() const noexcept { return bytes_ == 0 || lines_ != nullptr; }
  [[nodiscard]] std::span<std::uint32_t> words() const noexcept {
    return {lines_ ? lines_[0].words : nullptr, bytes_ / 4};
  }

 private:
  struct alignas(cache_line) line {
    std::uint32_t words[cache_line / 4];
  };
  std::size_t bytes_ = 0;
  std::unique_ptr<line[]> lines_;
};

// The public members up to `device side` are the bus: each keeps the device thread out meanwhile.
class function_node : public bus_node {
 public:
  static constexpr std::uint32_t all_ones = 0xffff'ffff;

  function_node(fabric_state& fabric, const function_description& d) noexcept
      : bus_node(static_cast<std::uint8_t>(d.device << 3 | d.function)),
        fabric_(fabric),
        words_(d.words),
        register_bar_(d.register_bar) {
    for (unsigned i = 0; i != sizes_.size(); ++i) sizes_[i] = d.pci.bars[i].size;
    if (d.pci.msix) msix_place_ = *d.pci.msix;
  }

  // Emits the configuration space and allocates what the BARs and vectors need. Errors: those of
  // pcie::emit_function, and exhausted.
  [[nodiscard]] result<> prepare(const function_description& d) noexcept {
    const auto layout = pcie::emit_function(config_, d.pci);
    if (!layout) return layout.error();
    layout_ = *layout;
    pristine_ = config_;
    const unsigned vectors = d.pci.msix ? d.pci.msix->vectors : 0;
    msix_ = msix_model{vectors};
    events_.reset(new (std::nothrow) interrupt_event[vectors == 0 ? 1 : vectors]);
    bool usable = msix_ && events_ != nullptr;
    for (unsigned i = 0; i != memory_.size(); ++i) {
      memory_[i] = bar_memory{words_[i].bytes};
      usable = usable && memory_[i].usable();
    }
    if (!usable) return failure(errc::exhausted, "no memory for a simulated function");
    return {};
  }

  [[nodiscard]] std::uint32_t config_read(std::uint16_t offset, unsigned width) noexcept override {
    if (removed()) return all_ones >> (32 - 8 * width);
    return config_.read(offset, width);
  }
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) noexcept override {
    if (removed()) return;
    const pcie::config_write effect = config_.write(offset, width, value);
    if (layout_.express != 0 &&
        effect.wrote_one(layout_.express + pcie::express::device_control, 15)) {
      function_reset();
    } else if (layout_.msix != 0 && effect.dword == layout_.msix && effect.lanes != 0) {
      msix_.set_control(pcie::msix_control{config_.read16(
                            static_cast<std::uint16_t>(layout_.msix + pcie::msix::control_offset))},
                        sender{this});
    }
  }
  void set_multi_function() noexcept override {
    bus_node::set_multi_function(config_);
    bus_node::set_multi_function(pristine_);
  }

  [[nodiscard]] fabric_state& fabric() noexcept { return fabric_; }
  // 0 where there is no BAR, or the upper half of one.
  [[nodiscard]] std::uint64_t bar_bytes(unsigned index) const noexcept { return sizes_[index]; }
  [[nodiscard]] std::span<std::uint32_t> words(unsigned index) const noexcept {
    return memory_[index].words();
  }
  // The word at this offset of the BAR, or null where there is a register.
  [[nodiscard]] std::uint32_t* word(unsigned index, std::uint32_t offset) const noexcept {
    const std::uint64_t at = offset - words_[index].offset;
    return at < words_[index].bytes ? &memory_[index].words()[at / 4] : nullptr;
  }

  [[nodiscard]] std::uint32_t bar_read(unsigned index, std::uint32_t offset) noexcept {
    const exclusive guard{fabric_};
    return read_under_lock(index, offset);
  }
  [[nodiscard]] std::uint64_t bar_read64(unsigned index, std::uint32_t offset) noexcept {
    const exclusive guard{fabric_};
    const std::uint64_t low = read_under_lock(index, offset);
    return low | std::uint64_t{read_under_lock(index, offset + 4)} << 32;
  }
  void bar_write(unsigned index, std::uint32_t offset, std::uint32_t value) noexcept {
    const exclusive guard{fabric_};
    if (!decodes()) return;
    if (auto* const plain = word(index, offset)) {
      thread_order::store(*plain, le<std::uint32_t>::to_wire(value));
    } else if (in_table(index, offset)) {
      msix_.write_table((offset - msix_place_.table_offset) / 4, value, sender{this});
    } else if (index == register_bar_ && !in_pending(index, offset)) {
      model_write(offset, value);
    }
  }

  // Where the plain words of the BAR are on the bus, as the registers say now; 0 for nowhere.
  [[nodiscard]] std::uint64_t words_address(unsigned index) noexcept {
    if (words_[index].bytes == 0) return 0;
    const std::uint64_t bar = pcie::read_bar_address(config_, index);
    return bar == 0 ? 0 : bar + words_[index].offset;
  }
  [[nodiscard]] std::optional<segment<local_space>> memory_at(
      host_phys address, std::uint64_t bytes) noexcept override {
    if (!decodes()) return std::nullopt;
    for (unsigned i = 0; i != memory_.size(); ++i) {
      const std::uint64_t begin = words_address(i);
      const std::uint64_t offset = address.value() - begin;
      if (begin == 0 || offset >= words_[i].bytes) continue;
      const std::uint64_t left = words_[i].bytes - offset;
      return segment<local_space>{to_local(std::as_bytes(words(i)).data() + offset),
                                  bytes < left ? bytes : left};
    }
    return std::nullopt;
  }

  [[nodiscard]] interrupt_event& event(unsigned vector) noexcept { return events_[vector]; }
  [[nodiscard]] unsigned vectors() const noexcept { return msix_.vectors(); }

  bool driver_attached = false;  // by any handle of this function; the drivers' thread
  [[nodiscard]] bool removed() const noexcept { return removed_.load(std::memory_order_acquire); }
  void set_removed(bool removed) noexcept { removed_.store(removed, std::memory_order_release); }
  // As function-level reset leaves it (PCIe 5.0, 6.6.2). The caller keeps the device thread out.
  void function_reset() noexcept {
    config_ = pristine_;
    msix_.reset();
    for (const bar_memory& m : memory_) {
      for (auto& w : m.words()) thread_order::store(w, 0);
    }
    for (unsigned i = 0; i != vectors(); ++i) static_cast<void>(events_[i].poll());
    model_reset();
  }
  void inject(const fault_plan& plan) noexcept { faults_ = fault_state{plan}; }
  [[nodiscard]] const fault_counts& injected() const noexcept { return faults_.counts(); }

  // Device side: called by models, in turn of the fabric or of a register access.

  unsigned poll() noexcept override {
    if (faults_.removed_before_poll()) set_removed(true);
    return removed() ? 0 : model_poll();
  }
  [[nodiscard]] result<segment<local_space>> translate(bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept {
    if (removed()) return failure(errc::removed, "the function was pulled out", address.value());
    if (!masters()) {
      return faulted(failure(errc::not_ready, "bus mastering is off", address.value()), address,
                     wanted);
    }
    if (const auto reason = faults_.next_translation(address, bytes)) {
      return faulted(failure(*reason, "ordered by a fault plan", address.value()), address, wanted);
    }
    const auto piece = fabric_.path->translate(id(), address, bytes, wanted);
    if (!piece) return faulted(piece.error(), address, wanted);
    return *piece;  // not the result itself, which is as large as its error
  }
  void raise(unsigned vector) noexcept {
    if (!removed()) msix_.raise(vector, sender{this});
  }
  [[nodiscard]] completion_action next_completion() noexcept {
    if (faults_.removed_before_completion()) set_removed(true);
    if (removed()) return {completion_fault::drop, 0};
    return faults_.next_completion();
  }

 protected:
  [[nodiscard]] virtual std::uint32_t model_read(std::uint32_t offset) noexcept = 0;
  virtual void model_write(std::uint32_t offset, std::uint32_t value) noexcept = 0;
  virtual unsigned model_poll() noexcept = 0;
  virtual void model_reset() noexcept = 0;

 private:
  [[nodiscard]] bool decodes() noexcept {
    return !removed() && pcie::read_command(config_)[pcie::command_register::memory_space];
  }
  [[nodiscard]] bool masters() noexcept {
    return pcie::read_command(config_)[pcie::command_register::bus_master];
  }
  [[nodiscard]] std::uint32_t read_under_lock(unsigned index, std::uint32_t offset) noexcept {
    if (!decodes()) return all_ones;
    if (const auto* const plain = word(index, offset)) {
      return le<std::uint32_t>::from_wire(thread_order::load(*plain));
    }
    if (in_table(index, offset)) {
      return msix_.read_table((offset - msix_place_.table_offset) / 4);
    }
    if (in_pending(index, offset)) {
      return msix_.read_pending((offset - msix_place_.pba_offset) / 4);
    }
    return index == register_bar_ ? faults_.seen(offset, model_read(offset)) : 0;
  }
  [[nodiscard]] bool in_table(unsigned index, std::uint32_t offset) const noexcept {
    return index == msix_place_.table_bar &&
           offset - msix_place_.table_offset < pcie::msix_table_bytes(vectors());
  }
  [[nodiscard]] bool in_pending(unsigned index, std::uint32_t offset) const noexcept {
    return index == msix_place_.pba_bar &&
           offset - msix_place_.pba_offset < pcie::msix_pba_bytes(vectors());
  }
  [[nodiscard]] error faulted(const error& why, bus_addr address, access wanted) noexcept {
    fabric_.faults.record({id(), address, wanted, why.code});
    return why;
  }
  // A message to the interrupt window is an event of the vector that its data names; any other is
  // what it looks like, a write of four bytes.
  void send(const pcie::msi_message& message) noexcept {
    if (message.address - interrupt_window < interrupt_window_bytes) {
      const auto arrived = masters() ? fabric_.path->remap_interrupt(id(), message)
                                     : failure(errc::not_ready, "bus mastering is off");
      if (!arrived) {
        static_cast<void>(faulted(arrived.error(), message.address, access::write));
      } else if (const std::uint32_t vector = arrived->data & 0xffff; vector < vectors()) {
        events_[vector].signal();
      }
      return;
    }
    const auto to = translate(message.address, 4, access::write);
    if (to && to->bytes == 4 && is_aligned(to->begin, 4)) {
      thread_order::store(*reinterpret_cast<le<std::uint32_t>*>(pointer_of(to->begin)),
                          le<std::uint32_t>{message.data});
    }
  }
  struct sender {
    function_node* node;
    void operator()(const pcie::msi_message& message) const noexcept { node->send(message); }
  };

  fabric_state& fabric_;
  std::array<std::uint64_t, pcie::type0_bars> sizes_{};
  std::array<plain_words, pcie::type0_bars> words_;
  std::array<bar_memory, pcie::type0_bars> memory_;
  unsigned register_bar_;
  pcie::msix_description msix_place_{};
  pcie::function_layout layout_{};
  decltype(config_) pristine_;  // as after a reset
  msix_model msix_;
  std::unique_ptr<interrupt_event[]> events_;
  fault_state faults_;
  std::atomic<bool> removed_{false};
};

}  // namespace detail

}  // namespace phasebit::backend::simulated
