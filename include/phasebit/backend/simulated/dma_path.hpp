// SPDX-License-Identifier: BSL-1.0
// The path between a function's DMA and memory: direct, or through an IOMMU.
#pragma once

#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/backend/simulated/detail/ticket_lock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/iommu/ats/messages.hpp>
#include <phasebit/iommu/ats/pri_messages.hpp>
#include <phasebit/iommu/translation/remapper_architecture.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <concepts>
#include <cstdint>
#include <mutex>
#include <optional>

namespace phasebit::backend::simulated {

// A memory request as it leaves a function. The address of a translated request is a physical one
// that the function had from ATS.
struct dma_request {
  pcie::requester_id requester{};
  bus_addr address{};
  access wanted = access::read;
  bool translated = false;
  std::optional<std::uint32_t> pasid{};
};

// Answers for every request of the functions behind it. Called by the threads that run devices and
// by those that access registers, several at a time; it may lock, and calls no device back.
class dma_path {
 public:
  dma_path() noexcept = default;
  dma_path(const dma_path&) = delete;
  dma_path& operator=(const dma_path&) = delete;

  // Like an AddressTranslator's translate(): the first contiguous part of the range.
  [[nodiscard]] virtual result<segment<local_space>> translate(const dma_request& request,
                                                               std::uint64_t bytes) noexcept = 0;

  // A message that would be an interrupt: as it is, changed (interrupt remapping), or refused, which
  // is recorded like any other fault.
  [[nodiscard]] virtual result<pcie::msi_message> remap_interrupt(
      pcie::requester_id, const pcie::msi_message& message) noexcept {
    return message;
  }

  // ATS: a translation request, and a function's answer to an invalidation. A path without ATS
  // answers Unsupported Request, after which functions do not ask again.
  [[nodiscard]] virtual iommu::ats_completion translate(
      const iommu::ats_request& request) noexcept {
    iommu::ats_completion unsupported;
    unsupported.tag = request.tag;
    unsupported.status = iommu::ats_status::unsupported;
    return unsupported;
  }
  virtual void complete(const iommu::ats_invalidate_completion&) noexcept {}
  // PRI: a page request. False where the path takes none.
  [[nodiscard]] virtual bool request_page(const iommu::pri_request&) noexcept { return false; }

  // Called in each round of the fabric, for time-outs. Returns how much was done.
  virtual unsigned poll() noexcept { return 0; }

 protected:
  ~dma_path() = default;
};

// No IOMMU: bus addresses are physical ones. Requests with a PASID and translated requests are
// refused. The default path of a fabric.
class direct_path final : public dma_path {
 public:
  explicit direct_path(const address_map& map) noexcept : map_(&map) {}

  using dma_path::translate;
  [[nodiscard]] result<segment<local_space>> translate(const dma_request& request,
                                                       std::uint64_t bytes) noexcept override {
    if (request.translated || request.pasid) {
      return failure(errc::access_denied, "without an IOMMU only plain requests reach memory",
                     request.address.value());
    }
    return map_->translate(host_phys{request.address.value()}, bytes, request.wanted);
  }

 private:
  const address_map* map_;
};

// Translates bus to physical addresses, by requester: an IOMMU, or its tables alone. One that also
// remaps interrupts has remap_interrupt(requester, message) -> result<msi_message>; one that
// supports PASIDs has translate(iommu::dma_request, bytes).
template <class T>
concept DmaRemapper = requires(T& remapper, pcie::requester_id requester, bus_addr address,
                               std::uint64_t bytes, access wanted) {
  {
    remapper.translate(requester, address, bytes, wanted)
  } noexcept -> std::same_as<result<segment<host_space>>>;
};

// Through a remapper, then to what answers at the physical address (fabric::address_map). Asks the
// remapper under a lock. Translated requests are refused. Keeps a reference to both.
template <DmaRemapper Remapper>
class remapped_path final : public dma_path {
 public:
  remapped_path(Remapper& remapper, const address_map& map) noexcept
      : remapper_(&remapper), map_(&map) {}

  using dma_path::translate;
  [[nodiscard]] result<segment<local_space>> translate(const dma_request& request,
                                                       std::uint64_t bytes) noexcept override {
    const auto found = ask(request, bytes);
    if (!found) return found.error();
    return map_->translate(found->begin, found->bytes, request.wanted);
  }
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id requester, const pcie::msi_message& message) noexcept override {
    if constexpr (requires { remapper_->remap_interrupt(requester, message); }) {
      const std::lock_guard guard{lock_};
      return remapper_->remap_interrupt(requester, message);
    } else {
      return message;
    }
  }

  // Calls use(remapper) while no request is translated. Not from within itself.
  template <class Use>
  decltype(auto) with(Use&& use) noexcept {
    const std::lock_guard guard{lock_};
    return static_cast<Use&&>(use)(*remapper_);
  }

 private:
  [[nodiscard]] result<segment<host_space>> ask(const dma_request& request,
                                                std::uint64_t bytes) noexcept {
    if (request.translated) {
      return failure(errc::access_denied, "the IOMMU does not take translated requests",
                     request.address.value());
    }
    const std::lock_guard guard{lock_};
    if constexpr (requires(const iommu::dma_request& r) { remapper_->translate(r, bytes); }) {
      return remapper_->translate({.requester = request.requester,
                                   .address = request.address.value(),
                                   .wanted = request.wanted,
                                   .has_pasid = request.pasid.has_value(),
                                   .pasid = request.pasid.value_or(0)},
                                  bytes);
    } else {
      if (request.pasid) {
        return failure(errc::access_denied, "the IOMMU does not take requests with a PASID",
                       request.address.value());
      }
      return remapper_->translate(request.requester, request.address, bytes, request.wanted);
    }
  }

  Remapper* remapper_;
  const address_map* map_;
  detail::ticket_lock lock_;
};

// One translator for every requester: a page table, a flat table, a window.
template <AddressTranslator Translator>
  requires std::same_as<typename Translator::from, bus_space> &&
           std::same_as<typename Translator::to, host_space>
class one_table_remapper {
 public:
  explicit one_table_remapper(Translator& translator) noexcept : translator_(&translator) {}

  [[nodiscard]] result<segment<host_space>> translate(pcie::requester_id, bus_addr address,
                                                      std::uint64_t bytes, access wanted) noexcept {
    return translator_->translate(address, bytes, wanted);
  }

 private:
  Translator* translator_;
};

}  // namespace phasebit::backend::simulated
