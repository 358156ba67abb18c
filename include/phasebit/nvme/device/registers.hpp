// SPDX-License-Identifier: BSL-1.0
// The controller's registers below the doorbells, and what it may do in which state: NVMe Base 2.0,
// section 3.1.3 (properties), 3.5 (initialisation) and 3.6 (shutdown).
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/nvme/device/settings.hpp>
#include <phasebit/nvme/spec/registers.hpp>

#include <cstdint>

namespace phasebit::nvme::device {

// The actions that a register write requires beyond the registers themselves.
enum class register_event : std::uint8_t {
  none,
  enable,
  disable,
  shutdown,
  unmask,
  subsystem_reset
};

// The part of CAP, and of the permitted values of CC, that depends on the controller's type.
struct register_options {
  bool weighted_round_robin = false;
  bool command_sets = false;  // more than the NVM command set
};

// Holds the registers; independent of queues. One thread at a time. A host can write any value
// anywhere: writes to unknown offsets and read-only registers are ignored, and an invalid
// configuration sets CSTS.CFS.
class registers {
 public:
  explicit constexpr registers(const settings& s, register_options offered = {}) noexcept
      : cap_(cap{}
                 .with(cap::mqes, static_cast<std::uint16_t>(s.max_queue_entries - 1))
                 .with(cap::cqr, true)
                 .with(cap::to, s.ready_timeout)
                 .with(cap::dstrd, s.doorbell_stride)
                 .with(cap::css_nvm, true)
                 .with(cap::css_iocs, offered.command_sets)
                 .with(cap::ams_wrr, offered.weighted_round_robin)
                 .with(cap::nssrs, s.subsystem_reset)
                 .with(cap::crwms, true)
                 .with(cap::mpsmax, s.largest_page)) {
    PHASEBIT_EXPECTS(s.max_queue_entries >= 2 && s.max_queue_entries <= 65536,
                     "a queue has 2 to 65536 entries");
  }

  [[nodiscard]] constexpr std::uint32_t read32(std::uint32_t offset) const noexcept {
    switch (offset) {
      case cap::offset:
        return low(cap_.raw);
      case cap::offset + 4:
        return high(cap_.raw);
      case vs::offset:
        return version.raw;
      case intms::offset:
      case intmc::offset:
        return mask_;
      case cc::offset:
        return cc_.raw;
      case csts::offset:
        return csts_.with(csts::nssro, nssro_).raw;
      case crto::offset:
        return crto{}.with(crto::crwmt, std::uint16_t{cap_[cap::to]}).raw;
      case aqa::offset:
        return aqa_.raw;
      case asq::offset:
        return low(asq_);
      case asq::offset + 4:
        return high(asq_);
      case acq::offset:
        return low(acq_);
      case acq::offset + 4:
        return high(acq_);
      default:
        return 0;
    }
  }

  constexpr register_event write32(std::uint32_t offset, std::uint32_t value) noexcept {
    switch (offset) {
      case intms::offset:
        mask_ |= value;
        return register_event::none;
      case intmc::offset:
        mask_ &= ~value;
        return register_event::unmask;
      case cc::offset:
        return configure(cc{value});
      case csts::offset:
        nssro_ = nssro_ && !csts{value}[csts::nssro];
        return register_event::none;
      case nssr::offset:
        return cap_[cap::nssrs] && value == nssr::reset_word ? register_event::subsystem_reset
                                                             : register_event::none;
      default:
        break;
    }
    // The admin queues do not move under a running controller.
    if (cc_[cc::en]) return register_event::none;
    switch (offset) {
      case aqa::offset:
        aqa_ = aqa{value & aqa_bits};
        break;
      case asq::offset:
        asq_ = with_low(asq_, value);
        break;
      case asq::offset + 4:
        asq_ = with_high(asq_, value);
        break;
      case acq::offset:
        acq_ = with_low(acq_, value);
        break;
      case acq::offset + 4:
        acq_ = with_high(acq_, value);
        break;
      default:
        break;
    }
    return register_event::none;
  }

  // The controller has drained after `disable`: CSTS.RDY is 0 from here on. A host that has set CC.EN
  // again meanwhile finds that remembered: `enable` is what remains to be done then.
  constexpr register_event complete_disable() noexcept {
    disabling_ = false;
    csts_ = csts{};
    return cc_[cc::en] ? start() : register_event::none;
  }
  [[nodiscard]] constexpr bool disabling() const noexcept { return disabling_; }

  // As after power-on, but that a controller which has to drain first starts only after
  // complete_disable().
  constexpr void reset(bool drained = true) noexcept {
    disabling_ = !drained;
    cc_ = cc{};
    csts_ = csts{};
    aqa_ = aqa{};
    asq_ = acq_ = 0;
    mask_ = 0;
  }

  // An NVM subsystem reset occurred: CSTS.NSSRO, until the host clears it.
  constexpr void set_subsystem_reset() noexcept { nssro_ = true; }

  // To and from a saved_controller. False where a host could not have brought the registers there; they
  // are as after power-on then.
  template <class Saved>
  constexpr void save(Saved& to) const noexcept {
    to.cc = cc_.raw;
    to.csts = csts_.with(csts::nssro, nssro_).raw;
    to.aqa = aqa_.raw;
    to.asq = asq_;
    to.acq = acq_;
    to.interrupt_mask = mask_;
  }
  template <class Saved>
  [[nodiscard]] constexpr bool restore(const Saved& from) noexcept {
    cc_ = nvme::cc{from.cc};
    csts_ = nvme::csts{from.csts};
    nssro_ = csts_[csts::nssro] && cap_[cap::nssrs];
    csts_ = csts_.with(csts::nssro, false);
    aqa_ = nvme::aqa{from.aqa & aqa_bits};
    asq_ = from.asq;
    acq_ = from.acq;
    mask_ = from.interrupt_mask;
    disabling_ = false;
    const auto known = csts{}
                           .with(csts::rdy, csts_[csts::rdy])
                           .with(csts::cfs, csts_[csts::cfs])
                           .with(csts::shst, csts_[csts::shst]);
    const bool possible = csts_ == known && csts_[csts::shst] != shutdown_status::occurring &&
                          (!csts_[csts::rdy] || (cc_[cc::en] && can_start()));
    if (!possible) reset();
    return possible;
  }

  // Commands are fetched: enabled, no fatal status, and neither reset nor shutdown in progress.
  [[nodiscard]] constexpr bool running() const noexcept {
    return csts_[csts::rdy] && !disabling_ && !csts_[csts::cfs] &&
           csts_[csts::shst] == shutdown_status::normal_operation;
  }
  // Completions are posted: also those of commands that a shutdown waits for.
  [[nodiscard]] constexpr bool completing() const noexcept {
    return csts_[csts::rdy] && !disabling_ && !csts_[csts::cfs];
  }
  constexpr void set_fatal() noexcept { csts_ = csts_.with(csts::cfs, true); }
  constexpr void set_shutdown(shutdown_status now) noexcept { csts_ = csts_.with(csts::shst, now); }

  [[nodiscard]] constexpr nvme::cap capabilities() const noexcept { return cap_; }
  [[nodiscard]] constexpr nvme::cc configuration() const noexcept { return cc_; }
  [[nodiscard]] constexpr nvme::csts status() const noexcept { return csts_; }
  [[nodiscard]] constexpr unsigned page_shift() const noexcept { return 12U + cc_[cc::mps]; }
  [[nodiscard]] constexpr bool masked(std::uint16_t vector) const noexcept {
    return vector < 32 && (mask_ >> vector & 1U) != 0;
  }
  [[nodiscard]] constexpr std::uint32_t admin_sq_entries() const noexcept {
    return std::uint32_t{aqa_[aqa::asqs]} + 1;
  }
  [[nodiscard]] constexpr std::uint32_t admin_cq_entries() const noexcept {
    return std::uint32_t{aqa_[aqa::acqs]} + 1;
  }
  [[nodiscard]] constexpr bus_addr admin_sq() const noexcept { return bus_addr{asq_}; }
  [[nodiscard]] constexpr bus_addr admin_cq() const noexcept { return bus_addr{acq_}; }

  static constexpr vs version = vs::of(2, 0);

 private:
  static constexpr std::uint32_t aqa_bits = 0x0fff'0fff;

  static constexpr std::uint32_t low(std::uint64_t v) noexcept {
    return static_cast<std::uint32_t>(v);
  }
  static constexpr std::uint32_t high(std::uint64_t v) noexcept {
    return static_cast<std::uint32_t>(v >> 32);
  }
  static constexpr std::uint64_t with_low(std::uint64_t old, std::uint32_t v) noexcept {
    return (old & ~std::uint64_t{0xffff'ffff}) | v;
  }
  static constexpr std::uint64_t with_high(std::uint64_t old, std::uint32_t v) noexcept {
    return low(old) | std::uint64_t{v} << 32;
  }

  constexpr register_event configure(nvme::cc wanted) noexcept {
    const nvme::cc before = cc_;
    cc_ = wanted;
    // Until the reset has completed, only the newest value counts: complete_disable() reads it.
    if (disabling_) return register_event::none;
    if (before[cc::en] && !wanted[cc::en]) {
      disabling_ = true;
      mask_ = 0;
      return register_event::disable;
    }
    if (!before[cc::en] && wanted[cc::en]) return start();
    const auto shn = wanted[cc::shn];
    if (shn != shutdown_notification::none && before[cc::shn] != shn) {
      return register_event::shutdown;
    }
    return register_event::none;
  }
  constexpr register_event start() noexcept {
    if (!can_start()) {
      set_fatal();
      return register_event::none;
    }
    csts_ = csts{}.with(csts::rdy, true);
    return register_event::enable;
  }

  // Base 2.0, 3.1.3.5 and 3.1.3.9: page size within what CAP offers, a command set and arbitration
  // that CAP offers, admin queues of at least two entries on a memory page.
  [[nodiscard]] constexpr bool can_start() const noexcept {
    const std::uint8_t mps = cc_[cc::mps];
    const std::uint64_t page = std::uint64_t{4096} << mps;
    return mps >= cap_[cap::mpsmin] && mps <= cap_[cap::mpsmax] &&
           (cc_[cc::css] == command_set_selected::nvm ||
            (cc_[cc::css] == command_set_selected::all_supported && cap_[cap::css_iocs])) &&
           (cc_[cc::ams] == arbitration_mechanism::round_robin ||
            (cc_[cc::ams] == arbitration_mechanism::weighted && cap_[cap::ams_wrr])) &&
           is_aligned(asq_, page) && is_aligned(acq_, page) &&
           admin_sq_entries() >= aqa::min_entries && admin_cq_entries() >= aqa::min_entries;
  }

  nvme::cap cap_;
  nvme::cc cc_{};
  nvme::csts csts_{};
  nvme::aqa aqa_{};
  std::uint64_t asq_ = 0;
  std::uint64_t acq_ = 0;
  std::uint32_t mask_ = 0;
  bool disabling_ = false;
  bool nssro_ = false;
};

}  // namespace phasebit::nvme::device
