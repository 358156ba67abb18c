// SPDX-License-Identifier: BSL-1.0
// One simulated function: configuration space, BARs, MSI-X, DMA and its translation cache, around
// the model inside it.
#pragma once

#include <phasebit/backend/simulated/detail/bus_node.hpp>
#include <phasebit/backend/simulated/detail/fabric_state.hpp>
#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/backend/simulated/function_description.hpp>
#include <phasebit/backend/simulated/interrupts.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/ats/device.hpp>
#include <phasebit/iommu/ats/pri_device.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/device/msix_table.hpp>
#include <phasebit/pcie/spec/address_translation.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <variant>

namespace phasebit::backend::simulated::detail {

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

// Messages of IOMMUs to one function, kept until it is polled. Any thread.
class message_queue {
 public:
  using message = std::variant<iommu::ats_invalidate, iommu::pri_response>;

  // A message more than the function can ever have in flight is dropped.
  void put(const message& m) noexcept {
    const std::lock_guard guard{lock_};
    if (count_ == capacity) return;
    messages_[(first_ + count_) % capacity] = m;
    ++count_;
  }
  [[nodiscard]] std::optional<message> take() noexcept {
    if (count_.load(std::memory_order_relaxed) == 0) return std::nullopt;
    const std::lock_guard guard{lock_};
    if (count_ == 0) return std::nullopt;
    const message m = messages_[first_];
    first_ = (first_ + 1) % capacity;
    --count_;
    return m;
  }

 private:
  static constexpr unsigned capacity = 96;  // 32 invalidations, and as many page responses twice

  ticket_lock lock_;
  std::array<message, capacity> messages_{};
  unsigned first_ = 0;
  std::atomic<unsigned> count_{0};
};

class function_node;

// The MessageSink of a function's MSI-X table.
struct message_sender {
  function_node* node;
  inline void send(std::uint16_t vector, const pcie::msi_message& message) noexcept;
};

// The public members up to `device side` are the bus; those documented so need lock().
class function_node : public bus_node {
 public:
  static constexpr std::uint32_t all_ones = 0xffff'ffff;

  function_node(fabric_state& fabric, const function_description& d, std::uint32_t routing) noexcept
      : bus_node(routing), fabric_(fabric), words_(d.words), register_bar_(d.register_bar) {
    for (unsigned i = 0; i != sizes_.size(); ++i) sizes_[i] = d.pci.bars[i].size;
    if (d.pci.msix) msix_place_ = *d.pci.msix;
  }

  // Emits the configuration space and allocates what the BARs and vectors need. Errors: those of
  // pcie::emit_function, and exhausted.
  [[nodiscard]] result<> prepare(const function_description& d) noexcept {
    const auto layout = pcie::emit_function(config_, d.pci);
    if (!layout) return layout.error();
    layout_ = *layout;
    pristine_.restore(config_);
    const unsigned vectors = d.pci.msix ? d.pci.msix->vectors : 0;
    const unsigned places = vectors == 0 ? 1 : vectors;
    vectors_.reset(new (std::nothrow) pcie::device::msix_vector[places]);
    events_.reset(new (std::nothrow) interrupt_event[places]);
    bool usable = vectors_ != nullptr && events_ != nullptr;
    for (unsigned i = 0; i != memory_.size(); ++i) {
      memory_[i] = bar_memory{words_[i].bytes};
      usable = usable && memory_[i].usable();
    }
    if (d.pci.ats) {
      translations_.reset(new (std::nothrow) translations);
      usable = usable && translations_ != nullptr;
    }
    if (d.pci.page_requests) {
      page_id_ = id();
      pages_.reset(new (std::nothrow) page_requests{page_id_, d.pci.page_requests->capacity});
      usable = usable && pages_ != nullptr;
    }
    if (d.pci.sriov) {
      total_virtual_ = d.pci.sriov->total_vfs;
      virtual_.reset(new (std::nothrow) function_node*[total_virtual_]());
      usable = usable && virtual_ != nullptr;
    }
    if (!usable) return failure(errc::exhausted, "no memory for a simulated function");
    msix_.emplace(std::span{vectors_.get(), vectors}, sender_);
    return {};
  }
  // Before it is in the list: the node is virtual function `index` of `physical`.
  void make_virtual_of(function_node& physical, unsigned index) noexcept {
    physical_ = &physical;
    index_ = index;
    parent_ = physical.parent_;
    off_.store(true, std::memory_order_relaxed);
  }

  [[nodiscard]] std::uint32_t config_read(std::uint16_t offset, unsigned width) noexcept override {
    if (removed()) return all_ones >> (32 - 8 * width);
    return config_.read(offset, width);
  }
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) noexcept override {
    if (removed()) return;
    const pcie::config_write effect = config_.write(offset, width, value);
    if (effect.lanes == 0) return;
    if (layout_.express != 0 &&
        effect.wrote_one(layout_.express + pcie::express::device_control, 15)) {
      function_reset();
    } else if (layout_.msix != 0 && effect.dword == layout_.msix) {
      msix_->set_control(pcie::msix_control{
          config_.read16(static_cast<std::uint16_t>(layout_.msix + pcie::msix::control_offset))});
    } else if (layout_.ats != 0 && effect.dword == layout_.ats + pcie::ats::capability) {
      follow_ats_control();
    } else if (layout_.page_request != 0 &&
               effect.dword == layout_.page_request + pcie::page_request::control) {
      follow_page_control(effect.wrote_one(layout_.page_request + pcie::page_request::control, 1));
    } else if (layout_.sriov != 0 && effect.dword == layout_.sriov + pcie::sriov::control) {
      follow_virtual_functions();
    }
  }
  void set_multi_function() noexcept override {
    bus_node::set_multi_function(config_);
    bus_node::set_multi_function(pristine_);
  }
  [[nodiscard]] bool present() const noexcept override {
    return !off_.load(std::memory_order_acquire);
  }

  [[nodiscard]] fabric_state& fabric() noexcept { return fabric_; }
  [[nodiscard]] const pcie::function_layout& layout() const noexcept { return layout_; }
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
    const exclusive guard{fabric_, *this};
    return read_under_lock(index, offset);
  }
  [[nodiscard]] std::uint64_t bar_read64(unsigned index, std::uint32_t offset) noexcept {
    const exclusive guard{fabric_, *this};
    const std::uint64_t low = read_under_lock(index, offset);
    return low | std::uint64_t{read_under_lock(index, offset + 4)} << 32;
  }
  void bar_write(unsigned index, std::uint32_t offset, std::uint32_t value) noexcept {
    const exclusive guard{fabric_, *this};
    if (!decodes()) return;
    if (auto* const plain = word(index, offset)) {
      thread_order::store(*plain, le<std::uint32_t>::to_wire(value));
    } else if (in_table(index, offset)) {
      msix_->write_table((offset - msix_place_.table_offset) / 4, value);
    } else if (index == register_bar_ && !in_pending(index, offset)) {
      model_write(offset, value);
    }
  }

  // The bus address of the BAR's plain words in the current registers; 0 for none.
  [[nodiscard]] std::uint64_t words_address(unsigned index) noexcept {
    if (words_[index].bytes == 0) return 0;
    const std::uint64_t bar = bar_address(index);
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
  [[nodiscard]] unsigned vectors() const noexcept { return msix_->vectors(); }

  // Pulled out, or a virtual function that is off.
  [[nodiscard]] bool removed() const noexcept {
    return removed_.load(std::memory_order_acquire) || off_.load(std::memory_order_acquire);
  }
  void set_removed(bool removed) noexcept { removed_.store(removed, std::memory_order_release); }
  // One driver at a time; see function::claim().
  [[nodiscard]] bool claim() noexcept {
    return !claimed_.exchange(true, std::memory_order_acq_rel);
  }
  void release_claim() noexcept { claimed_.store(false, std::memory_order_release); }

  // As function-level reset leaves it (PCIe 5.0, 6.6.2). Needs lock().
  void function_reset() noexcept {
    config_.restore(pristine_);
    msix_->reset();
    for (const bar_memory& m : memory_) {
      for (auto& w : m.words()) thread_order::store(w, 0);
    }
    for (unsigned i = 0; i != vectors(); ++i) static_cast<void>(events_[i].poll());
    if (translations_) translations_->cache.reset();
    if (pages_) {
      pages_->disable();
      pages_->reset();
    }
    follow_virtual_functions();
    model_reset();
  }
  // Need lock().
  void inject(const fault_plan& plan) noexcept { faults_ = fault_state{plan}; }
  [[nodiscard]] const fault_counts& injected() const noexcept { return faults_.counts(); }

  [[nodiscard]] std::uint16_t total_virtual() const noexcept { return total_virtual_; }
  // Virtual function `index` where it is on, else null. Needs lock().
  [[nodiscard]] function_node* virtual_function(unsigned index) noexcept {
    return index < enabled_virtual_ ? virtual_[index] : nullptr;
  }

  void deliver(const iommu::ats_invalidate& m) noexcept override { messages_.put(m); }
  void deliver(const iommu::pri_response& m) noexcept override { messages_.put(m); }

  // Device side: called by models, in turn of the fabric or of a register access. lock() is held.

  unsigned poll() noexcept override {
    if (faults_.removed_before_poll()) set_removed(true);
    if (removed()) return 0;
    const unsigned messages = take_messages();
    return messages + model_poll();
  }
  [[nodiscard]] result<segment<local_space>> translate(const dma_request& attributes,
                                                       bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept {
    if (removed()) return failure(errc::removed, "the function was pulled out", address.value());
    dma_request request = attributes;
    request.requester = id();
    request.address = address;
    request.wanted = wanted;
    if (!masters()) {
      return faulted(failure(errc::not_ready, "bus mastering is off", address.value()), request);
    }
    if (request.pasid && !pasid_enabled()) {
      return faulted(failure(errc::not_ready, "the function's PASID capability is off or absent",
                             address.value()),
                     request);
    }
    if (const auto reason = faults_.next_translation(address, bytes)) {
      return faulted(failure(*reason, "ordered by a fault plan", address.value()), request);
    }
    dma_path& path = fabric_.path_of(*this);
    if (translations_ && translations_->cache && !request.translated) {
      translate_locally(path, request, bytes);
    }
    const auto found = path.translate(request, bytes);
    if (!found) return faulted(found.error(), request);
    return *found;  // not the result itself, which is as large as its error
  }
  // ATS: accesses through pointers that outlive the call they were made in. An invalidation is
  // answered when those that began before it have ended.
  [[nodiscard]] unsigned begin_access() noexcept {
    return translations_ && translations_->cache ? translations_->cache->begin_access() : no_access;
  }
  void end_access(unsigned begun) noexcept {
    if (begun == no_access || !translations_ || !translations_->cache) return;
    translations_->cache->end_access(begun);
    answer_invalidations();
  }
  [[nodiscard]] bool caches_translations() const noexcept {
    return translations_ && translations_->cache && translations_->cache->enabled();
  }
  [[nodiscard]] std::uint64_t translation_hits() const noexcept {
    return translations_ ? translations_->hits : 0;
  }

  // PRI. Errors: not_ready (off, or the IOMMU takes none), exhausted (no group or no credit).
  [[nodiscard]] result<std::uint16_t> request_page(const dma_request& attributes, bus_addr address,
                                                   access wanted) noexcept {
    if (!pages_ || !pages_->enabled() || removed()) {
      return failure(errc::not_ready, "the page request interface is off", address.value());
    }
    const auto group = pages_->open_group();
    if (!group || pages_->credits() == 0) {
      if (group) pages_->close_group(*group);
      return failure(errc::exhausted, "as many page requests as possible are in flight");
    }
    const auto request =
        pages_->request(*group, space_of(attributes), address.value(), wanted, true);
    iommu::pri_request message = *request;
    message.requester = id();
    if (!fabric_.path_of(*this).request_page(message)) {
      static_cast<void>(
          pages_->respond({page_id_, *group, iommu::page_response_code::failure, false, 0}));
      pages_->close_group(*group);
      show_page_status();
      return failure(errc::not_ready, "the IOMMU takes no page requests", address.value());
    }
    return *group;
  }
  [[nodiscard]] iommu::pri_outcome page_outcome(std::uint16_t group) const noexcept {
    return pages_ ? pages_->outcome(group) : iommu::pri_outcome::disabled;
  }
  void close_page_group(std::uint16_t group) noexcept {
    if (pages_) pages_->close_group(group);
  }

  void raise(std::uint16_t vector) noexcept {
    if (!removed()) msix_->raise(vector);
  }
  [[nodiscard]] completion_action next_completion() noexcept {
    if (faults_.removed_before_completion()) set_removed(true);
    if (removed()) return {completion_fault::drop, 0};
    return faults_.next_completion();
  }

  // A message to the interrupt window is an event of the vector that its data names; any
  // other is what it looks like, a write of four bytes.
  void send(const pcie::msi_message& message) noexcept {
    const dma_request request{
        .requester = id(), .address = message.address, .wanted = access::write};
    if (message.address - interrupt_window < interrupt_window_bytes) {
      const auto arrived = masters() ? fabric_.path_of(*this).remap_interrupt(id(), message)
                                     : failure(errc::not_ready, "bus mastering is off");
      if (!arrived) {
        static_cast<void>(faulted(arrived.error(), request));
      } else if (const std::uint32_t vector = arrived->data & 0xffff; vector < vectors()) {
        events_[vector].signal();
      }
      return;
    }
    const auto to = translate({}, message.address, 4, access::write);
    if (to && to->bytes == 4 && is_aligned(to->begin, 4)) {
      thread_order::store(*reinterpret_cast<le<std::uint32_t>*>(pointer_of(to->begin)),
                          le<std::uint32_t>{message.data});
    }
  }

 protected:
  [[nodiscard]] virtual std::uint32_t model_read(std::uint32_t offset) noexcept = 0;
  virtual void model_write(std::uint32_t offset, std::uint32_t value) noexcept = 0;
  virtual unsigned model_poll() noexcept = 0;
  virtual void model_reset() noexcept = 0;
  // Makes virtual function `index`, in the fabric's list and off; null where there is no memory.
  [[nodiscard]] virtual function_node* make_virtual(unsigned) noexcept { return nullptr; }
  // Bus mastering is on when the function appears.
  void enable_when_on() noexcept { masters_when_on_ = true; }

 private:
  static constexpr unsigned no_access = ~0U;

  struct translations {
    std::optional<iommu::ats_device<>> cache;  // while ATS is enabled
    std::uint64_t hits = 0;
  };
  using page_requests = iommu::pri_device<16>;

  [[nodiscard]] std::uint16_t at(std::uint16_t capability, std::uint16_t offset) const noexcept {
    return static_cast<std::uint16_t>(capability + offset);
  }
  [[nodiscard]] static iommu::ats_space space_of(const dma_request& request) noexcept {
    return {.with_pasid = request.pasid.has_value(), .pasid = request.pasid.value_or(0)};
  }

  // Memory space of a virtual function is switched, and its BARs are placed, by the physical one
  // (PCIe 5.0, 9.3.3.3.4 and 9.3.3.14).
  [[nodiscard]] bool decodes() noexcept {
    if (removed()) return false;
    if (physical_ == nullptr) {
      return pcie::read_command(config_)[pcie::command_register::memory_space];
    }
    return !physical_->removed() &&
           physical_->sriov_control()[pcie::sriov_control::vf_memory_space];
  }
  [[nodiscard]] bool masters() noexcept {
    return pcie::read_command(config_)[pcie::command_register::bus_master];
  }
  [[nodiscard]] std::uint64_t bar_address(unsigned index) noexcept {
    if (physical_ == nullptr) return pcie::read_bar_address(config_, index);
    const std::uint64_t first = physical_->virtual_bar_address(index);
    return first == 0 ? 0 : first + index_ * sizes_[index];
  }
  [[nodiscard]] std::uint64_t virtual_bar_address(unsigned index) noexcept {
    const std::uint16_t low =
        at(layout_.sriov, static_cast<std::uint16_t>(pcie::sriov::vf_bar0 + 4 * index));
    const pcie::bar_register bar{config_.read32(low)};
    std::uint64_t address = bar.raw & ~pcie::bar_register::memory_flags;
    if (bar[pcie::bar_register::memory_type] == pcie::bar_register::type_64) {
      address |= std::uint64_t{config_.read32(at(low, 4))} << 32;
    }
    return address;
  }
  [[nodiscard]] pcie::sriov_control sriov_control() const noexcept {
    return pcie::sriov_control{config_.read16(at(layout_.sriov, pcie::sriov::control))};
  }

  [[nodiscard]] std::uint32_t read_under_lock(unsigned index, std::uint32_t offset) noexcept {
    if (!decodes()) return all_ones;
    if (const auto* const plain = word(index, offset)) {
      return le<std::uint32_t>::from_wire(thread_order::load(*plain));
    }
    if (in_table(index, offset)) {
      return msix_->read_table((offset - msix_place_.table_offset) / 4);
    }
    if (in_pending(index, offset)) {
      return msix_->read_pending((offset - msix_place_.pba_offset) / 4);
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
  [[nodiscard]] error faulted(const error& why, const dma_request& request) noexcept {
    fabric_.faults.record({request.requester, request.address, request.wanted, why.code});
    return why;
  }

  // ATS.

  void follow_ats_control() noexcept {
    const pcie::ats_control control{config_.read16(at(layout_.ats, pcie::ats::control))};
    if (!control[pcie::ats_control::enable]) {
      translations_->cache.reset();
    } else if (!translations_->cache) {
      translations_->cache.emplace(id(),
                                   12U + control[pcie::ats_control::smallest_translation_unit]);
    }
  }
  [[nodiscard]] bool pasid_enabled() const noexcept {
    const std::uint16_t capability =
        physical_ != nullptr ? physical_->layout_.pasid : layout_.pasid;
    const auto& image = physical_ != nullptr ? physical_->config_ : config_;
    return capability != 0 && pcie::pasid_control{image.read16(at(
                                  capability, pcie::pasid::control))}[pcie::pasid_control::enable];
  }
  // Turns the request into a translated one if the cache, or the IOMMU, has its translation. An
  // access that ATS denies stays untranslated: the IOMMU refuses and records it.
  void translate_locally(dma_path& path, dma_request& request, std::uint64_t& bytes) noexcept {
    auto& cache = *translations_->cache;
    const iommu::ats_space space = space_of(request);
    for (unsigned attempt = 0; attempt != 3; ++attempt) {
      iommu::iotlb_hit<host_space> hit;
      switch (cache.find(space, request.address, request.wanted, hit)) {
        case iommu::ats_answer::translated:
          if (attempt == 0) ++translations_->hits;
          request.translated = true;
          request.address = bus_addr{hit.target.value()};
          if (hit.bytes < bytes) bytes = hit.bytes;
          return;
        case iommu::ats_answer::untranslated:
          return;
        case iommu::ats_answer::unknown:
          break;
      }
      const auto question = cache.request(space, request.address, request.wanted);
      if (!question) return;
      const auto taken = cache.complete(path.translate(*question));
      if (taken != iommu::ats_taken::kept && taken != iommu::ats_taken::stale) return;
    }
  }
  unsigned take_messages() noexcept {
    unsigned taken = 0;
    while (const auto m = messages_.take()) {
      ++taken;
      if (const auto* const invalidate = std::get_if<iommu::ats_invalidate>(&*m)) {
        if (!translations_) continue;  // Unsupported Request
        if (translations_->cache) {
          translations_->cache->invalidate(*invalidate);
        } else {
          // Nothing is cached while ATS is disabled.
          fabric_.path_of(*this).complete({id(), std::uint32_t{1} << (invalidate->itag & 31), 1});
        }
      } else if (pages_) {
        iommu::pri_response response = std::get<iommu::pri_response>(*m);
        response.device = page_id_;
        static_cast<void>(pages_->respond(response));
        show_page_status();
      }
    }
    if (taken != 0) answer_invalidations();
    return taken;
  }
  void answer_invalidations() noexcept {
    if (!translations_ || !translations_->cache) return;
    if (auto done = translations_->cache->take_completion()) {
      done->device = id();
      fabric_.path_of(*this).complete(*done);
    }
  }

  // PRI.

  void follow_page_control(bool reset) noexcept {
    const pcie::page_request_control control{
        config_.read16(at(layout_.page_request, pcie::page_request::control))};
    if (control[pcie::page_request_control::enable] && !pages_->enabled()) {
      pages_->enable(config_.read32(at(layout_.page_request, pcie::page_request::allocation)));
    } else if (!control[pcie::page_request_control::enable]) {
      pages_->disable();
      if (reset) pages_->reset();
    }
    show_page_status();
  }
  void show_page_status() noexcept {
    config_.set16(at(layout_.page_request, pcie::page_request::status),
                  pcie::page_request_status{}
                      .with(pcie::page_request_status::response_failure, pages_->response_failure())
                      .with(pcie::page_request_status::unexpected_group, pages_->unexpected_group())
                      .with(pcie::page_request_status::stopped, pages_->stopped())
                      .raw);
  }

  // SR-IOV.

  void follow_virtual_functions() noexcept {
    if (layout_.sriov == 0) return;
    const bool on = sriov_control()[pcie::sriov_control::vf_enable];
    if (on && enabled_virtual_ == 0) {
      const std::uint16_t wanted = config_.read16(at(layout_.sriov, pcie::sriov::num_vfs));
      const unsigned count = wanted < total_virtual_ ? wanted : total_virtual_;
      for (unsigned i = 0; i != count; ++i) {
        if (virtual_[i] == nullptr) virtual_[i] = make_virtual(i);
        if (virtual_[i] == nullptr) break;
        virtual_[i]->switch_on();
        enabled_virtual_ = i + 1;
      }
    } else if (!on) {
      for (unsigned i = 0; i != enabled_virtual_; ++i) virtual_[i]->switch_off();
      enabled_virtual_ = 0;
    }
  }
  void switch_on() noexcept {
    const exclusive guard{fabric_, *this};
    function_reset();
    set_removed(false);
    if (masters_when_on_) {
      config_.write16(pcie::header::command,
                      pcie::command_register{}.with(pcie::command_register::bus_master, true).raw);
    }
    off_.store(false, std::memory_order_release);
  }
  void switch_off() noexcept {
    const exclusive guard{fabric_, *this};
    off_.store(true, std::memory_order_release);
    function_reset();
  }

  fabric_state& fabric_;
  std::array<std::uint64_t, pcie::type0_bars> sizes_{};
  std::array<plain_words, pcie::type0_bars> words_;
  std::array<bar_memory, pcie::type0_bars> memory_;
  unsigned register_bar_;
  pcie::msix_description msix_place_{};
  pcie::function_layout layout_{};
  decltype(config_) pristine_;  // as after a reset
  std::unique_ptr<pcie::device::msix_vector[]> vectors_;
  message_sender sender_{this};
  std::optional<pcie::device::msix_table<message_sender>> msix_;
  std::unique_ptr<interrupt_event[]> events_;
  fault_state faults_;
  std::unique_ptr<translations> translations_;
  std::unique_ptr<page_requests> pages_;
  pcie::requester_id page_id_{};
  message_queue messages_;
  std::uint16_t total_virtual_ = 0;
  unsigned enabled_virtual_ = 0;
  std::unique_ptr<function_node*[]> virtual_;
  function_node* physical_ = nullptr;
  unsigned index_ = 0;
  bool masters_when_on_ = false;
  std::atomic<bool> removed_{false};
  std::atomic<bool> off_{false};
  std::atomic<bool> claimed_{false};
};

inline void message_sender::send(std::uint16_t, const pcie::msi_message& message) noexcept {
  node->send(message);
}

}  // namespace phasebit::backend::simulated::detail
