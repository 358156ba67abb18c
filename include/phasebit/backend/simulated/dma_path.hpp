// SPDX-License-Identifier: BSL-1.0
// What lies between a function's DMA and memory: nothing, or an IOMMU.
#pragma once

#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::backend::simulated {

// Answers for every DMA of every function of a fabric; like an AddressTranslator's translate(),
// with the requester's id, the way an IOMMU sees it. Called by whoever polls the devices (the
// device thread in threaded mode), one call at a time, never by drivers.
class dma_path {
 public:
  dma_path() noexcept = default;
  dma_path(const dma_path&) = delete;
  dma_path& operator=(const dma_path&) = delete;

  [[nodiscard]] virtual result<segment<local_space>> translate(pcie::requester_id requester,
                                                               bus_addr address,
                                                               std::uint64_t bytes,
                                                               access wanted) noexcept = 0;

  // A message that would be an interrupt, on its way: as it is, changed (interrupt remapping), or
  // refused, which is recorded like any other fault.
  [[nodiscard]] virtual result<pcie::msi_message> remap_interrupt(
      pcie::requester_id, const pcie::msi_message& message) noexcept {
    return message;
  }

 protected:
  ~dma_path() = default;
};

// No IOMMU: bus addresses are physical ones. What a fabric has until it is given another.
class direct_path final : public dma_path {
 public:
  explicit direct_path(const address_map& map) noexcept : map_(&map) {}

  [[nodiscard]] result<segment<local_space>> translate(pcie::requester_id, bus_addr address,
                                                       std::uint64_t bytes,
                                                       access wanted) noexcept override {
    return map_->translate(host_phys{address.value()}, bytes, wanted);
  }

 private:
  const address_map* map_;
};

// From bus to physical addresses, by requester: an IOMMU, or its tables alone. One that remaps
// interrupts, too, has remap_interrupt(requester, message) -> result<msi_message>.
template <class T>
concept DmaRemapper = requires(T& remapper, pcie::requester_id requester, bus_addr address,
                               std::uint64_t bytes, access wanted) {
  {
    remapper.translate(requester, address, bytes, wanted)
  } noexcept -> std::same_as<result<segment<host_space>>>;
};

// Through a remapper, then to whoever answers there (fabric::address_map). Keeps a reference to both.
template <DmaRemapper Remapper>
class remapped_path final : public dma_path {
 public:
  remapped_path(Remapper& remapper, const address_map& map) noexcept
      : remapper_(&remapper), map_(&map) {}

  [[nodiscard]] result<segment<local_space>> translate(pcie::requester_id requester,
                                                       bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept override {
    const auto piece = remapper_->translate(requester, address, bytes, wanted);
    if (!piece) return piece.error();
    return map_->translate(piece->begin, piece->bytes, wanted);
  }
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id requester, const pcie::msi_message& message) noexcept override {
    if constexpr (requires { remapper_->remap_interrupt(requester, message); }) {
      return remapper_->remap_interrupt(requester, message);
    } else {
      return message;
    }
  }

 private:
  Remapper* remapper_;
  const address_map* map_;
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
