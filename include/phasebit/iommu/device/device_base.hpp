// SPDX-License-Identifier: BSL-1.0
// The common part of the emulated IOMMUs of all architectures: tables, caches, a command queue and
// fault records in system memory, and the IOMMU's side of ATS. Registers are each architecture's
// own.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/iommu/ats/agent.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/device/concepts.hpp>
#include <phasebit/iommu/device/system_memory.hpp>
#include <phasebit/iommu/fault/fault_queue.hpp>
#include <phasebit/iommu/translation/remapper.hpp>
#include <phasebit/memory/dma_port.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace phasebit::iommu::device {

// The recording side of faults: in registers, or in a queue in memory.
template <class Faults, class Memory>
[[nodiscard]] Faults make_faults(Memory& memory) noexcept {
  if constexpr (std::is_constructible_v<Faults, Memory&>) {
    return Faults{memory};
  } else {
    return Faults{};
  }
}

// An emulated IOMMU as its driver and the functions behind it see it. Self has
//     after_fault()               a fault may have been recorded: raises the interrupt if needed
//     after_commands()            commands were executed: likewise
//     permits_ats(requester)         the function's entry allows translation requests
//     permits_translated(requester)  translated requests pass
//                                    (both: only where Functions is a link)
// Commands are executed when their tail is written, and again by poll() while one waits. Everything
// that the driver and the functions send is validated; none of it reaches an assertion or an
// endless loop. One thread at a time; allocates nothing. Keeps references to its arguments.
template <class Self, class Remapping, template <class> class FaultsOf, CommandCodec Codec,
          DmaPort<host_space> Port, class Interrupts, DeviceClock Clock, FunctionLink Functions>
class device_base {
  friend Self;

 public:
  // Whether functions can use ATS through this IOMMU.
  static constexpr bool has_functions = !std::same_as<Functions, no_functions>;

  device_base(const device_base&) = delete;
  device_base& operator=(const device_base&) = delete;

  // Needed only where the port does not map the memory that page tables lie in: see
  // system_memory::use_copies.
  void use_copies(std::span<std::byte> buffer) noexcept { memory_.use_copies(buffer); }

  // An untranslated request. Errors: see to_error(fault).
  [[nodiscard]] result<segment<host_space>> translate(const dma_request& request,
                                                      std::uint64_t bytes) noexcept {
    const auto part = remapper_.translate(request, bytes);
    if (!part) self().after_fault();
    memory_.write_back();
    return part;
  }
  // A translated request: its address is a physical one, which the function had from ATS. Errors:
  // access_denied where the function's entry does not allow such requests.
  [[nodiscard]] result<> admit_translated(const dma_request& request) noexcept {
    if constexpr (has_functions) {
      if (self().permits_translated(request.requester)) return {};
    }
    refuse(request);
    return failure(errc::access_denied,
                   "the IOMMU does not permit translated requests of this "
                   "function",
                   request.address);
  }
  // A message that would be an interrupt.
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id requester, const pcie::msi_message& message) noexcept {
    const auto delivered = remapper_.remap_interrupt(requester, message);
    if (!delivered) self().after_fault();
    memory_.write_back();
    return delivered;
  }

  // A translation request of a function with ATS. Not mapped is a success without permissions;
  // unsupported where the function's entry does not allow it.
  [[nodiscard]] ats_completion translate(const ats_request& request) noexcept {
    ats_completion none;
    none.tag = request.tag;
    none.status = ats_status::unsupported;
    if constexpr (has_functions) {
      if (settings_.translates() && self().permits_ats(request.requester)) {
        const ats_completion answer = look_up(request);
        memory_.write_back();
        return answer;
      }
    }
    return none;
  }
  // A function's answer to an invalidation. Unexpected ones change nothing.
  void complete(const ats_invalidate_completion& message) noexcept {
    if constexpr (has_functions) {
      if (!invalidations_.complete(message)) ++unexpected_completions_;
      work();
    }
  }
  // The function was reset or is gone: its invalidations are over.
  void forget(pcie::requester_id function) noexcept {
    if constexpr (has_functions) {
      invalidations_.forget(function);
      work();
    }
  }
  [[nodiscard]] std::uint64_t unexpected_completions() const noexcept {
    return unexpected_completions_;
  }

  // Ends waits whose time is over. Returns the number of commands carried out.
  unsigned poll() noexcept { return waits_ ? work() : 0; }

  // CommandHandler.
  [[nodiscard]] command_outcome apply(const command& c) noexcept {
    remapper_.apply(c);
    if constexpr (has_functions) {
      if (c.kind == command_kind::page_response) {
        functions_->respond({pcie::requester_id{static_cast<std::uint16_t>(c.device)}, c.group,
                             c.response, c.by_pasid, c.pasid});
        return command_outcome::done;
      }
      return carry_out_for_devices(
          invalidations_, c, clock_->now(),
          [&](const ats_invalidate& m) noexcept { functions_->invalidate(m); },
          [](pcie::requester_id) noexcept {});
    }
    return command_outcome::done;
  }
  [[nodiscard]] bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    const bool stored = store_completion<thread_order>(memory_, at, data, bytes);
    memory_.write_back();
    return stored;
  }
  void interrupt() noexcept { command_interrupt_ = command_event_ = true; }

 private:
  using memory_type = system_memory<Port>;
  using faults_type = FaultsOf<memory_type>;
  using remapper_type = remapper<Remapping, memory_type, faults_type>;
  struct nothing {};

  device_base(Port& port, Interrupts& interrupts, Clock& clock, Functions* functions,
              const Remapping& settings, const Codec& codec) noexcept
      : interrupts_(&interrupts),
        clock_(&clock),
        functions_(functions),
        memory_(port),
        faults_(make_faults<faults_type>(memory_)),
        settings_(settings),
        remapper_(memory_, faults_, settings),
        commands_(codec, memory_) {}
  ~device_base() = default;

  [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }
  void raise(interrupt_source source) noexcept {
    interrupts_->raise(static_cast<std::uint16_t>(source));
  }
  // Whether a completed wait requested an interrupt since the last call.
  [[nodiscard]] bool take_command_event() noexcept { return std::exchange(command_event_, false); }
  void use_settings() noexcept { remapper_.set(settings_); }
  // Bounded by the ring: a poll ends when the head has met the tail.
  unsigned work() noexcept {
    const poll_result done = commands_.poll(self(), ~0U);
    waits_ = done.more;
    memory_.write_back();
    self().after_commands();
    return done.commands;
  }

  void refuse(const dma_request& request) noexcept {
    typename Remapping::context state{};
    static_cast<void>(settings_.resolve(memory_, request, state));
    translation_fault fault{.requester = request.requester,
                            .reason = fault_reason::request_refused,
                            .wanted = request.wanted,
                            .has_pasid = request.has_pasid,
                            .domain = state.domain,
                            .pasid = request.pasid,
                            .address = request.address};
    if (settings_.finish(fault, state)) faults_.record(fault);
    memory_.write_back();
    self().after_fault();
  }
  [[nodiscard]] ats_completion look_up(const ats_request& request) noexcept {
    ats_completion none;
    none.tag = request.tag;
    none.status = ats_status::unsupported;
    typename Remapping::context state{};
    const dma_request dma{.requester = request.requester,
                          .address = request.address,
                          .wanted = access::read,
                          .has_pasid = request.space.with_pasid,
                          .pasid = request.space.pasid};
    const refusal why = settings_.resolve(memory_, dma, state);
    if (why || state.kind != translation_kind::tables) return none;
    page_lookup<host_space> page = settings_.lookup(memory_, state, request.address, access::read);
    page.permissions = static_cast<std::uint8_t>(page.permissions & state.permissions);
    return ats_answer_of(request, page);
  }

  Interrupts* interrupts_;
  Clock* clock_;
  Functions* functions_;
  memory_type memory_;
  faults_type faults_;
  Remapping settings_;
  remapper_type remapper_;
  command_consumer<Codec, thread_order, memory_type> commands_;
  [[no_unique_address]] std::conditional_t<has_functions, ats_invalidations<16>, nothing>
      invalidations_{};
  std::uint64_t unexpected_completions_ = 0;
  bool command_interrupt_ = false;  // the status bit, until software clears it
  bool command_event_ = false;      // the interrupt is due
  bool waits_ = false;
};

}  // namespace phasebit::iommu::device
