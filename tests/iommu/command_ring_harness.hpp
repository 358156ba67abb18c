// SPDX-License-Identifier: BSL-1.0
// Both sides of a command ring in one thread: memory, registers, a handler that notes what it got.
#pragma once

#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/command_queue/producer.hpp>
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit::command_ring_harness {

using namespace iommu;

// Memory at `base` of the IOMMU's address space, and nothing else.
class flat_memory {
 public:
  using from = host_space;
  using to = local_space;
  static constexpr std::uint64_t base = 0x8000'0000;

  explicit flat_memory(std::size_t bytes) : words_(bytes / 8) {}

  [[nodiscard]] result<segment<local_space>> translate(host_phys a, std::uint64_t bytes,
                                                       access) noexcept {
    const std::uint64_t offset = a.value() - base;
    if (offset >= size()) return failure(errc::not_mapped, "no memory here", a.value());
    return segment<local_space>{to_local(data() + offset),
                                bytes < size() - offset ? bytes : size() - offset};
  }
  [[nodiscard]] std::byte* data() noexcept { return reinterpret_cast<std::byte*>(words_.data()); }
  [[nodiscard]] std::size_t size() const noexcept { return words_.size() * 8; }

 private:
  std::vector<std::uint64_t> words_;
};
static_assert(QueueMemory<flat_memory>);

// Notes every command and can hold waits back.
struct noting_handler {
  flat_memory* memory;
  std::vector<command> seen{};
  command_outcome for_waits = command_outcome::done;
  unsigned interrupts = 0;
  unsigned stores = 0;

  command_outcome apply(const command& c) noexcept {
    if (c.kind == command_kind::wait && for_waits != command_outcome::done) return for_waits;
    seen.push_back(c);
    return command_outcome::done;
  }
  bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    const bool good = store_completion<thread_order>(*memory, at, data, bytes);
    stores += good;
    return good;
  }
  void interrupt() noexcept { ++interrupts; }
};
static_assert(CommandHandler<noting_handler>);

struct tail_register {
  std::uint32_t* value;
  unsigned* rings;
  void ring(std::uint32_t v) noexcept {
    *value = v;
    ++*rings;
  }
};
struct head_register {
  const std::uint32_t* value;
  [[nodiscard]] std::uint32_t load() const noexcept { return *value; }
};
static_assert(DoorbellSink<tail_register> && CommandHead<head_register>);

// One emulated IOMMU and its driver. poll() does what hardware does on its own.
template <class Codec>
class rig {
 public:
  using producer_type = command_producer<Codec, thread_order, tail_register, head_register>;
  using consumer_type = command_consumer<Codec, thread_order, flat_memory>;

  explicit rig(std::uint32_t entries, const Codec& codec = {}, bool by_store = true)
      : bytes(std::size_t{entries} * codec.entry_bytes()),
        memory(bytes + 64),
        handler{&memory},
        consumer(codec, memory),
        producer(codec, {memory.data(), bytes}, tail_register{&tail, &rings}, head_register{&head},
                 by_store
                     ? completion_word{reinterpret_cast<le<std::uint32_t>*>(memory.data() + bytes),
                                       flat_memory::base + bytes}
                     : completion_word{}) {
    consumer.enable(host_phys{flat_memory::base}, entries);
  }

  unsigned poll(unsigned limit = 1000) {
    consumer.write_tail(tail);
    const unsigned count = consumer.poll(handler, limit).commands;
    head = consumer.head();
    return count;
  }
  // Raw words into entry `index`, as a hostile driver writes them.
  void put(std::size_t index, const command_words& words) {
    const unsigned size = producer.codec().entry_bytes();
    iommu::detail::write_entry(memory.data() + index * size, words, size);
  }

  std::size_t bytes;
  flat_memory memory;
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
  unsigned rings = 0;
  noting_handler handler;
  consumer_type consumer;
  producer_type producer;
};

}  // namespace phasebit::command_ring_harness
