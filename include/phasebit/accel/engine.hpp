// SPDX-License-Identifier: BSL-1.0
// The engine concept: executes steps with processor instructions, a library, or a device behind a
// BAR.
#pragma once

#include <phasebit/accel/operation.hpp>
#include <phasebit/accel/sequence.hpp>
#include <phasebit/accel/target.hpp>
#include <phasebit/core/result.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel {

// The operations of an engine, and its limits per step. `fusions` refers to a constexpr table.
struct engine_capabilities {
  operation_set operations{};
  std::span<const fusion> fusions{};
  std::uint64_t max_bytes = ~std::uint64_t{0};  // of a step's larger stream
  std::uint16_t max_segments = 0xffff;          // of a step's source or destination
  std::uint32_t alignment = 1;                  // of where a plan cuts steps; a power of two
};

// A target with the engine's fusions and limits, so that a plan for it has only steps that the engine takes.
[[nodiscard]] constexpr target limited_to(target where, const engine_capabilities& c) noexcept {
  where.fusions = c.fusions;
  where.max_bytes = c.max_bytes;
  where.max_segments = c.max_segments;
  where.alignment = c.alignment;
  return where;
}

// One step as an engine gets it: addresses are in the engine's own domain, and stay valid, like the
// step, until its end has been reported. `with` replaces the step's own parameters (a CRC's seed).
struct work {
  const step* what = nullptr;
  parameters with{};
  std::span<const domain_segment> source{};
  std::span<const domain_segment> destination{};
};

// Results of the step's operation and of the one fused to it.
struct work_result {
  step_result first{0, step_status::good};
  step_result second{0, step_status::good};
};

enum class engine_progress : std::uint8_t { done, pending };

// Receives the end of pending work: its tag, and the result, or the reason why the engine failed. After
// a failure the bytes at the destination are undefined.
struct engine_sink {
  void* context = nullptr;
  void (*complete)(void* context, std::uint64_t tag, const work_result& result,
                   const error* failed) noexcept = nullptr;
};

// submit() never waits. It returns done (with `out` filled), pending (poll() reports the end
// exactly once), or an error, in which case the step did not start: busy when a later attempt can
// succeed, not_supported with the name of the missing feature, removed when the engine is gone. One
// thread at a time unless the model documents more.
template <class T>
concept Engine = requires(T& engine, const T& constant, const work& w, std::uint64_t tag,
                          work_result& out, engine_sink sink) {
  { constant.capabilities() } noexcept -> std::same_as<engine_capabilities>;
  { engine.submit(w, tag, out) } noexcept -> std::same_as<result<engine_progress>>;
  { engine.poll(sink) } noexcept -> std::same_as<std::size_t>;
};

// Whether an engine takes a step at all. Errors: not_supported, out_of_range.
[[nodiscard]] constexpr result<> check_step(const engine_capabilities& c, const step& s) noexcept {
  if (s.op == operation::combine_crc32c || s.op == operation::reuse_result) return {};
  const auto refuse = [&s](const char* why) noexcept {
    return failure(errc::not_supported, why, static_cast<std::uint64_t>(s.op))
        .of(name(s.op))
        .at(s.id);
  };
  if (!c.operations.has(s.op)) return refuse("the engine does not have this operation");
  if (s.then != operation::none) {
    bool listed = false;
    for (const fusion& f : c.fusions) listed = listed || (f.first == s.op && f.second == s.then);
    if (!listed) return refuse("the engine does not fuse this operation with the one after it");
  }
  if (s.source.bytes > c.max_bytes || s.destination.bytes > c.max_bytes) {
    return failure(errc::out_of_range, "the step is longer than the engine's limit", c.max_bytes)
        .of(name(s.op))
        .at(s.id);
  }
  if (s.source.count > c.max_segments || s.destination.count > c.max_segments) {
    return failure(errc::out_of_range, "the step has more segments than the engine's limit",
                   c.max_segments)
        .of(name(s.op))
        .at(s.id);
  }
  return {};
}

// Forwards work to `Inner` and records the first `Capacity` entries, so that tests can check what a
// plan submitted.
template <Engine Inner, std::size_t Capacity = 64>
class recording_engine {
 public:
  struct entry {
    operation op = operation::none;
    operation then = operation::none;
    std::uint64_t source_bytes = 0;
    std::uint64_t destination_bytes = 0;
  };

  explicit recording_engine(Inner& inner) noexcept : inner_(&inner) {}

  [[nodiscard]] engine_capabilities capabilities() const noexcept { return inner_->capabilities(); }
  result<engine_progress> submit(const work& w, std::uint64_t tag, work_result& out) noexcept {
    const auto taken = inner_->submit(w, tag, out);
    if (taken) {
      if (count_ < Capacity) {
        entries_[count_] = {w.what->op, w.what->then, w.what->source.bytes,
                            w.what->destination.bytes};
      }
      ++count_;
    }
    return taken;
  }
  std::size_t poll(engine_sink sink) noexcept { return inner_->poll(sink); }

  // The accepted work in order; count() also counts entries beyond the capacity.
  [[nodiscard]] std::span<const entry> entries() const noexcept {
    return std::span{entries_}.first(count_ < Capacity ? count_ : Capacity);
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

 private:
  Inner* inner_;
  std::array<entry, Capacity> entries_{};
  std::size_t count_ = 0;
};

}  // namespace phasebit::accel
