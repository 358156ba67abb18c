// SPDX-License-Identifier: BSL-1.0
// Several engines as one: each step goes to the engine that has it and has the least in flight.
#pragma once

#include <phasebit/accel/engine.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::accel {

namespace detail {

// Engines of different types as a list, without <tuple>.
template <Engine... Es>
struct engine_list {};
template <Engine First, Engine... Rest>
struct engine_list<First, Rest...> {
  First* first;
  engine_list<Rest...> remaining;

  constexpr engine_list(First& f, Rest&... r) noexcept : first(&f), remaining(r...) {}
  // visit(engine, index) for each, in order, until one returns true.
  template <class Visit>
  constexpr bool each(Visit&& visit, std::size_t index = 0) const noexcept {
    if (visit(*first, index)) return true;
    if constexpr (sizeof...(Rest) != 0) return remaining.each(visit, index + 1);
    return false;
  }
};

}  // namespace detail

// All engines take addresses of the same domain. Operations are those of any engine, limits the widest;
// fusions are the first engine's, which should be the one with the most. A step that no engine takes as
// it is, is refused with not_supported; busy means that every engine that takes it is full. One thread.
template <Engine... Es>
class engine_scheduler {
  static_assert(sizeof...(Es) >= 1);

 public:
  explicit engine_scheduler(Es&... engines) noexcept : engines_(engines...) {}

  [[nodiscard]] engine_capabilities capabilities() const noexcept {
    engine_capabilities all{};
    all.max_bytes = 0;
    all.max_segments = 0;
    engines_.each([&](const auto& e, std::size_t index) noexcept {
      const engine_capabilities c = e.capabilities();
      all.operations.bits |= c.operations.bits;
      if (index == 0) all.fusions = c.fusions;
      if (c.max_bytes > all.max_bytes) all.max_bytes = c.max_bytes;
      if (c.max_segments > all.max_segments) all.max_segments = c.max_segments;
      return false;
    });
    return all;
  }

  result<engine_progress> submit(const work& w, std::uint64_t tag, work_result& out) noexcept {
    std::array<bool, sizeof...(Es)> tried{};
    error last = failure(errc::not_supported, "no engine takes the step")
                     .of(name(w.what->op))
                     .at(w.what->id);
    for (std::size_t turn = 0; turn != sizeof...(Es); ++turn) {
      std::size_t best = sizeof...(Es);
      engines_.each([&](const auto& e, std::size_t index) noexcept {
        if (tried[index] || !check_step(e.capabilities(), *w.what)) return false;
        if (best == sizeof...(Es) || in_flight_[index] < in_flight_[best]) best = index;
        return false;
      });
      if (best == sizeof...(Es)) break;
      tried[best] = true;
      result<engine_progress> taken = last;
      engines_.each([&](auto& e, std::size_t index) noexcept {
        if (index != best) return false;
        taken = e.submit(w, tag, out);
        return true;
      });
      if (taken) {
        if (*taken == engine_progress::pending) ++in_flight_[best];
        ++given_[best];
        return taken;
      }
      // When one engine does not support a step or is busy, try the next; report a broken step.
      last = taken.error();
      if (last.code != errc::busy && last.code != errc::not_supported &&
          last.code != errc::removed) {
        return last;
      }
    }
    return last;
  }

  std::size_t poll(engine_sink sink) noexcept {
    std::size_t ended = 0;
    engines_.each([&](auto& e, std::size_t index) noexcept {
      const std::size_t n = e.poll(sink);
      in_flight_[index] -= n < in_flight_[index] ? n : in_flight_[index];
      ended += n;
      return false;
    });
    return ended;
  }

  // Steps that an engine has been given, by its place in the list.
  [[nodiscard]] std::size_t given(std::size_t engine) const noexcept { return given_[engine]; }

 private:
  detail::engine_list<Es...> engines_;
  std::array<std::size_t, sizeof...(Es)> in_flight_{};
  std::array<std::size_t, sizeof...(Es)> given_{};
};

}  // namespace phasebit::accel
