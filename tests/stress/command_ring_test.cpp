// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/command_queue/producer.hpp>
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>

#include <doctest/doctest.h>

namespace {

using namespace phasebit;
using namespace phasebit::iommu;

constexpr std::uint32_t entries = 16;
constexpr std::uint32_t rounds = 20000;

struct shared_unit {
  std::array<std::uint64_t, std::size_t{entries} * 2 + 1> words{};
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
};
struct tail_register {
  std::uint32_t* at;
  void ring(std::uint32_t value) noexcept { thread_order::store(*at, value); }
};
struct head_register {
  const std::uint32_t* at;
  [[nodiscard]] std::uint32_t load() noexcept { return thread_order::load(*at); }
};
struct ring_memory {
  using from = host_space;
  using to = local_space;
  shared_unit* unit;
  [[nodiscard]] result<segment<local_space>> translate(host_phys a, std::uint64_t bytes,
                                                       phasebit::access) noexcept {
    return segment<local_space>{
        to_local(reinterpret_cast<std::byte*>(unit->words.data()) + a.value()), bytes};
  }
};
// Domains come in order, whatever the two threads do.
struct counting_handler {
  ring_memory* memory;
  std::uint32_t seen = 0;
  std::uint32_t wrong = 0;

  command_outcome apply(const command& c) noexcept {
    if (c.kind != command_kind::invalidate_translations) return command_outcome::done;
    wrong += c.domain != static_cast<std::uint16_t>(seen);
    ++seen;
    return command_outcome::done;
  }
  bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    return store_completion<thread_order>(*memory, at, data, bytes);
  }
  void interrupt() noexcept {}
};

}  // namespace

TEST_CASE_TEMPLATE("a driver and an IOMMU in two threads: every command arrives once, in order",
                   Codec, vtd::command_codec, amd::command_codec, smmuv3::command_codec,
                   riscv::command_codec) {
  for (const bool by_store : {true, false}) {
    if (!by_store && !Codec::sync_by_head) continue;
    shared_unit shared;
    ring_memory memory{&shared};
    counting_handler handler{&memory};
    std::atomic<bool> stop{false};
    std::thread unit{[&] {
      command_consumer<Codec, thread_order, ring_memory> consumer{Codec{}, memory};
      consumer.enable(host_phys{0}, entries);
      for (bool last = false; !last;) {
        last = stop.load();
        consumer.write_tail(thread_order::load(shared.tail));
        consumer.poll(handler, 5);
        thread_order::store(shared.head, consumer.head());
        cpu_relax();
      }
    }};
    auto* const bytes = reinterpret_cast<std::byte*>(shared.words.data());
    completion_word word;
    if (by_store) {
      word = {reinterpret_cast<le<std::uint32_t>*>(bytes + entries * 16),
              std::uint64_t{entries} * 16};
    }
    command_producer<Codec, thread_order, tail_register, head_register> producer{
        Codec{}, {bytes, std::size_t{entries} * 16}, {&shared.tail}, {&shared.head}, word};
    std::uint32_t posted_count = 0;
    std::uint32_t too_early = 0;
    while (posted_count != rounds) {
      if (producer.post(command::whole_domain(static_cast<std::uint16_t>(posted_count))) !=
          posted::posted) {
        producer.submit();
        std::this_thread::yield();
        continue;
      }
      ++posted_count;
      if (posted_count % 7 != 0) continue;
      sync_token token;
      while (producer.sync(token) != posted::posted) std::this_thread::yield();
      while (!producer.done(token)) std::this_thread::yield();
      // Ordered by the wait: what the handler has counted is seen.
      too_early += handler.seen != posted_count;
    }
    sync_token token;
    while (producer.sync(token) != posted::posted) std::this_thread::yield();
    while (!producer.done(token)) std::this_thread::yield();
    stop.store(true);
    unit.join();
    CHECK(handler.seen == rounds);
    CHECK(handler.wrong == 0);
    CHECK(too_early == 0);
    CHECK(producer.health());
  }
}
