// SPDX-License-Identifier: BSL-1.0
// DMA of a pooled function, packet by packet, through the switch and into its root's memory.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_port.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems {

// Max_Payload_Size and Max_Read_Request_Size.
inline constexpr std::size_t pool_payload_bytes = 256;
inline constexpr std::size_t pool_read_bytes = 512;

// A DmaPort: each access is memory requests of the function's routing id, cut at 4 KiB. `Switch` models
// sriov::multi_root's from_device and from_root; `memory` are the roots' memories. Errors: access_denied (the
// switch did not pass the request on), not_mapped (the root has no memory there).
template <class Switch>
class pooled_dma {
 public:
  pooled_dma(Switch& fabric, std::span<const dma_region> memory, pcie::requester_id self) noexcept
      : switch_(&fabric), memory_(memory), self_(self) {}

  [[nodiscard]] static result<mapped_range> map(bus_addr at, std::uint64_t bytes, access) noexcept {
    if (!range_end(at, bytes)) return failure(errc::overflow, "the range wraps", at.value());
    return mapped_range{0, bytes, memory_domain::unmapped};
  }
  [[nodiscard]] result<> read(bus_addr at, std::span<std::byte> to) noexcept {
    while (!to.empty()) {
      const std::size_t n = piece(at, to.size(), pool_read_bytes);
      const auto request =
          pcie::memory_request::read(self_, 0, at.value(), static_cast<unsigned>(n));
      const auto routed = switch_->from_device(request.encode());
      if (!passed(routed)) return denied(at);
      const std::span<std::byte> there = find(routed.root, routed.header, n);
      const auto answer =
          pcie::complete(routed.header, pcie::requester_id{},
                         there.empty() ? pcie::completion_status::unsupported_request
                                       : pcie::completion_status::successful);
      const auto back =
          switch_->from_root(routed.root, answer.encode(), 0, [](const auto&) noexcept {});
      if (there.empty()) return missing(at);
      if (!reaches_device(back)) return denied(at);
      copy_shared(to.first(n), there);
      bytes_ += n;
      at += n;
      to = to.subspan(n);
    }
    return {};
  }
  [[nodiscard]] result<> write(bus_addr at, std::span<const std::byte> from) noexcept {
    while (!from.empty()) {
      const std::size_t n = piece(at, from.size(), pool_payload_bytes);
      const auto request =
          pcie::memory_request::write_of(self_, at.value(), static_cast<unsigned>(n));
      const auto routed = switch_->from_device(request.encode());
      if (!passed(routed)) return denied(at);
      const std::span<std::byte> there = find(routed.root, routed.header, n);
      if (there.empty()) return missing(at);
      copy_shared(there, from.first(n));
      bytes_ += n;
      at += n;
      from = from.subspan(n);
    }
    return {};
  }
  // Moved since the start.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  template <class Routed>
  [[nodiscard]] static bool passed(const Routed& r) noexcept {
    return r.route == decltype(r.route)::root;
  }
  template <class Routed>
  [[nodiscard]] static bool reaches_device(const Routed& r) noexcept {
    return r.route == decltype(r.route)::device;
  }
  [[nodiscard]] static std::size_t piece(bus_addr at, std::size_t bytes,
                                         std::size_t most) noexcept {
    const auto in_page = int_cast<std::size_t>(4096 - (at.value() & 4095));
    if (most > in_page) most = in_page;
    return bytes < most ? bytes : most;
  }
  [[nodiscard]] static error denied(bus_addr at) noexcept {
    return failure(errc::access_denied, "the switch does not pass the function's request",
                   at.value());
  }
  [[nodiscard]] static error missing(bus_addr at) noexcept {
    return failure(errc::not_mapped, "the root has no memory at this address", at.value());
  }
  // The bytes that the packet, as the root received it, is for.
  [[nodiscard]] std::span<std::byte> find(std::uint16_t root, const pcie::tlp_header& h,
                                          std::size_t n) const noexcept {
    const auto r = pcie::memory_request::decode(h);
    const dma_region& m = memory_[root];
    const std::uint64_t offset = r.address + r.enables.skipped_bytes() - m.bus.value();
    if (offset >= m.size() || n > m.size() - offset) return {};
    return m.bytes.subspan(static_cast<std::size_t>(offset), n);
  }

  Switch* switch_;
  std::span<const dma_region> memory_;
  pcie::requester_id self_;
  std::uint64_t bytes_ = 0;
};

}  // namespace phasebit::systems
