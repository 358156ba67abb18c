// SPDX-License-Identifier: BSL-1.0
// The driver's cost of a doorbell: a mapped register, a shadow doorbell with and without a write of
// the register, a counter without events. The register here is ordinary memory: a real uncached one
// adds the time that its bus takes.
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

#include <benchmark/benchmark.h>

namespace {

using namespace phasebit;

alignas(64) std::array<std::byte, 4096> bar_memory{};

template <class Sink>
void ring_all(benchmark::State& state, Sink sink) {
  std::uint32_t value = 0;
  for (auto _ : state) {
    value = (value + 1) & 0xffff;
    sink.ring(value);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations());
}

pcie::mmio_doorbell register_doorbell() { return pcie::mapped_bar{bar_memory}.doorbell(0); }

void plain_store(benchmark::State& state) {
  std::uint32_t value = 0;
  for (auto _ : state) mmio_store<std::uint32_t>(bar_memory.data(), ++value);
  state.SetItemsProcessed(state.iterations());
}
void mapped_register(benchmark::State& state) { ring_all(state, register_doorbell()); }

void mapped_register_after_sfence(benchmark::State& state) {
  struct sink {
    pcie::mmio_doorbell to;
    void ring(std::uint32_t value) noexcept {
      drain_write_combining();
      to.ring(value);
    }
  };
  ring_all(state, sink{register_doorbell()});
}

// The event index is kept half a ring away: never due.
void shadow_not_due(benchmark::State& state) {
  le<std::uint32_t> shadow{0};
  le<std::uint32_t> event{0};
  ring::shadow_doorbell<pcie::mmio_doorbell, thread_order> bell{shadow, event, register_doorbell()};
  std::uint32_t value = 0;
  for (auto _ : state) {
    value = (value + 1) & 0xffff;
    event = (value + 0x8000) & 0xffff;
    bell.ring(value);
  }
  state.SetItemsProcessed(state.iterations());
}
// The event index is the old value: always due.
void shadow_due(benchmark::State& state) {
  le<std::uint32_t> shadow{0};
  le<std::uint32_t> event{0};
  ring::shadow_doorbell<pcie::mmio_doorbell, thread_order> bell{shadow, event, register_doorbell()};
  std::uint32_t value = 0;
  for (auto _ : state) {
    event = value;
    value = (value + 1) & 0xffff;
    bell.ring(value);
  }
  state.SetItemsProcessed(state.iterations());
}

}  // namespace

BENCHMARK(plain_store);
BENCHMARK(mapped_register);
BENCHMARK(mapped_register_after_sfence);
BENCHMARK(shadow_not_due);
BENCHMARK(shadow_due);
