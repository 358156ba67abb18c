// SPDX-License-Identifier: BSL-1.0
// A DMA port for tests and fault injection: no memory has pointers, and a plan decides when, in
// which order and with which outcome copies complete, or that they never do.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/dma_port.hpp>
#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit {

// The planned outcome of one copy.
struct copy_fate {
  static constexpr std::uint32_t held = 0xffff'ffff;

  std::uint32_t delay = 0;  // polls before it is delivered; `held`: until release_all()
  bool fails = false;       // nothing is copied
  bool refused = false;     // start answers with an error
  bool at_once = false;     // start answers done
  std::uint64_t longest = ~std::uint64_t{0};  // bytes that one operation takes, 1 at least
};

// A plan is queried once for each start; `sequence` counts them from 0.
template <class T>
concept PortPlan = requires(T& plan, bus_addr at, std::uint64_t bytes, std::uint64_t sequence) {
  { plan(at, bytes, sequence) } noexcept -> std::same_as<copy_fate>;
};

// Delays of 0 to `longest` polls, and each of the others once in so many operations (0: never).
struct random_port_plan {
  std::uint64_t state = 1;
  std::uint32_t longest = 8;
  std::uint32_t fail_one_in = 0;
  std::uint32_t refuse_one_in = 0;
  std::uint32_t at_once_one_in = 0;
  std::uint32_t cut_one_in = 0;  // at most 512 bytes

  constexpr copy_fate operator()(bus_addr, std::uint64_t, std::uint64_t) noexcept {
    return {.delay = draw() % (longest + 1),
            .fails = hit(fail_one_in),
            .refused = hit(refuse_one_in),
            .at_once = hit(at_once_one_in),
            .longest = hit(cut_one_in) ? draw() % 512 + 1 : ~std::uint64_t{0}};
  }

 private:
  constexpr std::uint32_t draw() noexcept {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::uint32_t>(state >> 33);
  }
  constexpr bool hit(std::uint32_t one_in) noexcept { return one_in != 0 && draw() % one_in == 0; }
};
static_assert(PortPlan<random_port_plan>);

// A copy in flight; an array of these is the memory of a planned_port.
struct planned_copy {
  bus_addr at{};
  std::span<std::byte> bytes{};
  dma_tag tag = 0;
  std::uint64_t sequence = 0;
  copy_fate fate{};
  bool to_host = false;
  bool used = false;
};

// The memory of `Translator`, none of it reachable by pointers. At most copies.size() copies are in
// flight; what comes above is done at once. Bytes move when a copy is delivered, not before: a buffer
// that is reused too early shows. Keeps references to both. One thread at a time.
template <LocalTranslator Translator, PortPlan Plan = random_port_plan>
class planned_port {
 public:
  planned_port(Translator& translator, std::span<planned_copy> copies, Plan plan = {}) noexcept
      : translator_(&translator), copies_(copies), plan_(plan) {
    for (planned_copy& c : copies_) c = planned_copy{};
  }

  [[nodiscard]] result<mapped_range> map(bus_addr at, std::uint64_t bytes, access wanted) noexcept {
    const auto part = translator_->translate(at, bytes, wanted);
    if (!part) return part.error();
    return mapped_range{0, part->bytes, memory_domain::unmapped};
  }
  [[nodiscard]] result<> read(bus_addr at, std::span<std::byte> to) noexcept {
    return dma_read(*translator_, at, to);
  }
  [[nodiscard]] result<> write(bus_addr at, std::span<const std::byte> from) noexcept {
    return dma_write(*translator_, at, from);
  }
  [[nodiscard]] result<dma_started> start_read(bus_addr at, std::span<std::byte> to,
                                               dma_tag tag) noexcept {
    return start(at, to, tag, false);
  }
  [[nodiscard]] result<dma_started> start_write(bus_addr at, std::span<const std::byte> from,
                                                dma_tag tag) noexcept {
    return start(at, {const_cast<std::byte*>(from.data()), from.size()}, tag, true);
  }
  // Delivers what is due. A copy that is begun from the sink is due at the next poll.
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    if (in_flight_ == 0) return 0;
    std::size_t count = 0;
    const std::uint64_t before = started_;
    for (planned_copy& c : copies_) {
      if (!c.used || c.sequence >= before || c.fate.delay == copy_fate::held) continue;
      if (c.fate.delay != 0) {
        --c.fate.delay;
        continue;
      }
      const bool good = perform(c);
      const dma_tag tag = c.tag;
      c.used = false;
      --in_flight_;
      ++count;
      sink(tag, good);
    }
    return count;
  }

  // -- for the test --

  // The `index`-th oldest copy in flight. Precondition: there are so many.
  [[nodiscard]] copy_fate& fate(std::size_t index) noexcept {
    planned_copy* found = nullptr;
    std::uint64_t above = 0;
    for (std::size_t round = 0; round <= index; ++round) {
      found = nullptr;
      for (planned_copy& c : copies_) {
        if (c.used && c.sequence >= above && (found == nullptr || c.sequence < found->sequence)) {
          found = &c;
        }
      }
      PHASEBIT_EXPECTS(found != nullptr, "fewer copies are in flight");
      above = found->sequence + 1;
    }
    return found->fate;
  }
  void release_all() noexcept {
    for (planned_copy& c : copies_) {
      if (c.used && c.fate.delay == copy_fate::held) c.fate.delay = 0;
    }
  }
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  [[nodiscard]] std::uint64_t started() const noexcept { return started_; }
  [[nodiscard]] Plan& plan() noexcept { return plan_; }

 private:
  [[nodiscard]] result<dma_started> start(bus_addr at, std::span<std::byte> bytes, dma_tag tag,
                                          bool to_host) noexcept {
    const std::uint64_t sequence = started_;
    const copy_fate fate = plan_(at, bytes.size(), sequence);
    ++started_;
    PHASEBIT_EXPECTS(fate.longest != 0, "an operation of a port takes a byte at least");
    if (fate.refused) return failure(errc::io, "the plan refuses this copy", at.value());
    const planned_copy copy{
        .at = at,
        .bytes = bytes.first(bytes.size() < fate.longest ? bytes.size()
                                                         : static_cast<std::size_t>(fate.longest)),
        .tag = tag,
        .sequence = sequence,
        .fate = fate,
        .to_host = to_host,
        .used = true};
    planned_copy* const slot = fate.at_once ? nullptr : free_slot();
    if (slot != nullptr) {
      *slot = copy;
      ++in_flight_;
    } else if (!perform(copy)) {
      return failure(errc::io, "the plan lets this copy fail", at.value());
    }
    return dma_started{copy.bytes.size(), slot != nullptr};
  }
  [[nodiscard]] planned_copy* free_slot() noexcept {
    for (planned_copy& c : copies_) {
      if (!c.used) return &c;
    }
    return nullptr;
  }
  [[nodiscard]] bool perform(const planned_copy& c) noexcept {
    if (c.fate.fails) return false;
    return (c.to_host ? dma_write(*translator_, c.at, c.bytes)
                      : dma_read(*translator_, c.at, c.bytes))
        .has_value();
  }

  Translator* translator_;
  std::span<planned_copy> copies_;
  Plan plan_;
  std::size_t in_flight_ = 0;
  std::uint64_t started_ = 0;
};

}  // namespace phasebit
