// SPDX-License-Identifier: BSL-1.0
// A device model's access to the memory of its host: it maps a range if loads and stores reach the
// memory, and copies through the port if they do not.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit {

// Identifies the address space of an address. `local` addresses are pointers of this process. Other
// numbers are agreed between a port, the device side and its media: a guest's memory by bus address,
// an accelerator's memory, a registered buffer of io_uring. Memory in domain `unmapped` is reached by
// DmaPort::read and write only.
enum class memory_domain : std::uint16_t { local = 0, unmapped = 0xffff };

// The first contiguous part of a range as the device model may address it.
struct mapped_range {
  std::uint64_t address = 0;  // has no meaning in domain `unmapped`
  std::uint64_t bytes = 0;    // 1 to the bytes requested
  memory_domain domain = memory_domain::local;

  friend constexpr bool operator==(const mapped_range&, const mapped_range&) noexcept = default;
};

// map(at, bytes, access)  begin, domain and length of the first contiguous part of the range
// read(at, to)            copies from the host's memory; returns when it is done
// write(at, from)         copies to it; writes become visible in the order of the calls
// Errors: not_mapped, access_denied and those of the path to the host; error::value is the address.
// `Space` is the space of the addresses that the model uses: bus addresses for a PCIe function,
// physical addresses for an IOMMU. A mapping is valid until the model has drained; revoking it waits
// for that. Called by the threads that run the model.
template <class T, class Space = bus_space>
concept DmaPort = requires(T& port, address<Space> at, std::uint64_t bytes, access wanted,
                           std::span<std::byte> to, std::span<const std::byte> from) {
  { port.map(at, bytes, wanted) } noexcept -> std::same_as<result<mapped_range>>;
  { port.read(at, to) } noexcept -> std::same_as<result<>>;
  { port.write(at, from) } noexcept -> std::same_as<result<>>;
};

// Names an operation of a port that completes later; chosen by its caller, and may be used for several.
using dma_tag = std::uint64_t;

// The result of beginning a transfer at a port.
struct dma_started {
  std::uint64_t bytes = 0;  // 1 to the bytes asked for; the caller continues behind them
  bool pending = false;     // delivered by poll(); else it is done

  friend constexpr bool operator==(const dma_started&, const dma_started&) noexcept = default;
};

// A port to memory that is far away: a copy can complete later, and many are in flight.
// start_read(at, to, tag)     like read() and write(), of as much as one operation takes. The local
// start_write(at, from, tag)  bytes stay as they are until the operation is delivered.
// poll(sink)                  calls sink(tag, bool good) for each operation that has ended. Then nothing
//                             touches its bytes any more, and its writes are visible to the host
//                             before any write that begins afterwards. Returns the number delivered.
// Every operation is delivered once, also when the path to the host is lost. Operations may end in any
// order. Error of start: nothing was begun. One thread at a time.
template <class T, class Space = bus_space>
concept AsyncDmaPort =
    DmaPort<T, Space> &&
    requires(T& port, address<Space> at, std::span<std::byte> to, std::span<const std::byte> from,
             dma_tag tag, void (&sink)(dma_tag, bool) noexcept) {
      { port.start_read(at, to, tag) } noexcept -> std::same_as<result<dma_started>>;
      { port.start_write(at, from, tag) } noexcept -> std::same_as<result<dma_started>>;
      { port.poll(sink) } noexcept -> std::same_as<std::size_t>;
    };

// A DmaPort over a translator, whose memory is all reachable by pointers. Keeps a reference to it;
// takes as many threads as the translator does.
template <LocalTranslator Translator>
class translator_port {
 public:
  using space = typename Translator::from;

  explicit constexpr translator_port(Translator& translator) noexcept : translator_(&translator) {}

  [[nodiscard]] result<mapped_range> map(address<space> at, std::uint64_t bytes,
                                         access wanted) noexcept {
    const auto part = translator_->translate(at, bytes, wanted);
    if (!part) return part.error();
    return mapped_range{part->begin.value(), part->bytes, memory_domain::local};
  }
  [[nodiscard]] result<> read(address<space> at, std::span<std::byte> to) noexcept {
    return dma_read(*translator_, at, to);
  }
  [[nodiscard]] result<> write(address<space> at, std::span<const std::byte> from) noexcept {
    return dma_write(*translator_, at, from);
  }

 private:
  Translator* translator_;
};

}  // namespace phasebit
