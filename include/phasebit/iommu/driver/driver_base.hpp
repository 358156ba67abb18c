// SPDX-License-Identifier: BSL-1.0
// The common part of the drivers of all four kinds of IOMMUs: a device table, a command ring, and
// changes of entries while the IOMMU reads them.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/driver/command_channel.hpp>
#include <phasebit/iommu/driver/options.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstdint>
#include <span>
#include <utility>

namespace phasebit::iommu::driver {

// open() takes the IOMMU over: earlier operations have ended, and after enable() only requests of
// attached functions pass. Tables and Host use the IOMMU's view of memory; where coherent() is
// false, their memory must not be cached by the processor.
// One thread. Move-only; the destructor switches the IOMMU off.
//
// Errors of every call that sends commands: timed_out and removed, protocol (it refused a
// command). After protocol or timed_out it is unknown which commands were executed: disable() and
// enable() start again, with everything invalidated.
//
// Self has disable(), domain_of(entry) and fault(), a ring_fault_report read from its registers.
template <class Self, DeviceTableLayout Layout, CommandCodec Codec, Mmio Bar, TableMemory Tables,
          DriverHost Host>
class driver_base {
  friend Self;

 protected:
  using directory = device_table<Layout, Tables>;
  using channel = command_channel<Codec, Bar, Host>;
  using entry = typename Layout::entry;

 public:
  driver_base(driver_base&& other) noexcept
      : bar_(other.bar_),
        host_(other.host_),
        options_(other.options_),
        directory_(std::move(other.directory_)),
        commands_(std::move(other.commands_)),
        owner_(std::exchange(other.owner_, false)) {}
  driver_base& operator=(driver_base&&) = delete;

  // The hardware has invalidated these ranges of the domain when this returns, and accesses that were
  // translated by them have ended.
  result<> flush(std::uint16_t domain,
                 std::span<const invalidation_range<bus_space>> ranges) noexcept {
    if (ranges.empty()) return {};
    return commands_.flush(domain, ranges, fault());
  }
  result<> flush_domain(std::uint16_t domain) noexcept {
    command c = command::whole_domain(domain);
    c.drain_reads = c.drain_writes = true;
    return run(c);
  }
  // Any command, done when this returns. Error: not_supported.
  result<> run(const command& c) noexcept { return commands_.run(c, fault()); }

 protected:
  driver_base(Bar bar, Host& host, const options& o, directory&& d, channel&& c) noexcept
      : bar_(bar), host_(&host), options_(o), directory_(std::move(d)), commands_(std::move(c)) {}
  // Of Self, before its members go.
  void switch_off() noexcept {
    if (std::exchange(owner_, false)) static_cast<void>(self().disable());
  }

  // Whether it was, in time.
  template <class Done>
  [[nodiscard]] result<> wait_for(Done&& done, const char* otherwise,
                                  std::uint64_t value = 0) noexcept {
    if (poll_until(host_->clock(), options_.timeout_ns(), done)) return {};
    return failure(errc::timed_out, otherwise, value);
  }

  // Makes the entry of `who` become `next`; the IOMMU has invalidated the old one, and what was
  // translated by it, when this returns.
  [[nodiscard]] result<> replace(pcie::requester_id who, const entry& next) noexcept {
    const std::uint16_t domain = Self::domain_of(directory_.get(who.raw()));
    result<> forgotten;
    auto forget = [&]() noexcept {
      forgotten = run(command::one_device(who.raw(), domain));
      if (forgotten) forgotten = flush_domain(domain);
    };
    if (auto set = directory_.set(who.raw(), next, forget); !set) return set;
    return forgotten;
  }

  Bar bar_;
  Host* host_;
  options options_;
  directory directory_;
  channel commands_;

 private:
  [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }
  [[nodiscard]] auto fault() noexcept {
    return [this]() noexcept { return self().fault(); };
  }

  bool owner_ = true;
};

}  // namespace phasebit::iommu::driver
