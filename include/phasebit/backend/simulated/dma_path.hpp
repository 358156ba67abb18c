// SPDX-License-Identifier: BSL-1.0
// What lies between a function's DMA and memory: nothing, or an IOMMU.
#pragma once

#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/backend/simulated/ticket_lock.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/requester_id.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

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

 protected:
  ~dma_path() = default;
};

// No IOMMU: bus addresses are physical ones. What a fabric has until it is given another.
class direct_path final : public dma_path {
 public:
  explicit direct_path(const dma_memory& memory) noexcept : memory_(&memory) {}

  [[nodiscard]] result<segment<local_space>> translate(pcie::requester_id, bus_addr address,
                                                       std::uint64_t bytes,
                                                       access wanted) noexcept override {
    return memory_->translate(host_phys{address.value()}, bytes, wanted);
  }

 private:
  const dma_memory* memory_;
};

// From bus to physical addresses, by requester: an IOMMU, or its tables alone.
template <class T>
concept DmaRemapper = requires(T& remapper, pcie::requester_id requester, bus_addr address,
                               std::uint64_t bytes, access wanted) {
  {
    remapper.translate(requester, address, bytes, wanted)
  } noexcept -> std::same_as<result<segment<host_space>>>;
};

// Through a remapper, then into memory. Keeps a reference to both.
template <DmaRemapper Remapper>
class remapped_path final : public dma_path {
 public:
  remapped_path(Remapper& remapper, const dma_memory& memory) noexcept
      : remapper_(&remapper), memory_(&memory) {}

  [[nodiscard]] result<segment<local_space>> translate(pcie::requester_id requester,
                                                       bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept override {
    const auto piece = remapper_->translate(requester, address, bytes, wanted);
    if (!piece) return piece.error();
    return memory_->translate(piece->begin, piece->bytes, wanted);
  }

 private:
  Remapper* remapper_;
  const dma_memory* memory_;
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

// A DMA that went nowhere. `reason` is what the path said (not_mapped, access_denied, protocol),
// not_ready where bus mastering was off, or what a fault plan ordered.
struct dma_fault {
  pcie::requester_id requester{};
  bus_addr address{};
  access wanted = access::read;
  errc reason = errc::not_mapped;

  friend bool operator==(const dma_fault&, const dma_fault&) noexcept = default;
};

// Keeps the first faults and counts all, as fault recording registers do: the first one tells what
// went wrong, the hundredth only that nobody looked. Any thread.
class dma_fault_log {
 public:
  static constexpr std::size_t capacity = 64;

  void record(const dma_fault& fault) noexcept {
    const std::lock_guard guard{lock_};
    ++total_;
    if (kept_ != capacity) faults_[kept_++] = fault;
  }
  // All that were ever recorded, those that found no room included.
  [[nodiscard]] std::uint64_t count() const noexcept {
    const std::lock_guard guard{lock_};
    return total_;
  }
  // The oldest one that is kept, and makes room for another.
  [[nodiscard]] std::optional<dma_fault> take() noexcept {
    const std::lock_guard guard{lock_};
    if (kept_ == 0) return std::nullopt;
    const dma_fault oldest = faults_[0];
    std::copy(faults_.begin() + 1, faults_.begin() + static_cast<std::ptrdiff_t>(kept_),
              faults_.begin());
    --kept_;
    return oldest;
  }

 private:
  mutable ticket_lock lock_;
  std::array<dma_fault, capacity> faults_{};
  std::size_t kept_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace phasebit::backend::simulated
