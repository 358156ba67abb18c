// SPDX-License-Identifier: BSL-1.0
// A driver that posts commands and waits, and an IOMMU that carries them out.
#pragma once

#include <phasebit/iommu/amd/command_codec.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/command_queue/producer.hpp>
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <model/support.hpp>

namespace model {

namespace iommu = phasebit::iommu;

struct ring_setup {
  std::uint32_t entries = 2;
  std::uint32_t commands = 3;   // invalidations posted in all
  std::uint32_t each_sync = 2;  // a wait behind so many
  bool by_store = true;         // waits store to memory; else the head shows that they are done
  bool submit_each = false;     // one tail write a command
};

// Shared by driver and IOMMU, with the effect of an invalidation: a count that a wait makes
// visible.
struct unit_words {
  std::uint32_t tail = 0;
  std::uint32_t head = 0;
  phasebit::le<std::uint64_t> completion = 0;
  explorer::plain<std::uint32_t> carried_out;
};

// The head register. The read comes before what is done because of it (mmio_command_head).
template <class Order>
struct head_register {
  const std::uint32_t* word = nullptr;

  [[nodiscard]] std::uint32_t load() noexcept {
    const std::uint32_t value = Order::load(*word);
    Order::after_load();
    return value;
  }
};

template <class Order>
struct unit_handler {
  same_address<phasebit::host_space>* memory;
  unit_words* words;
  std::uint32_t count = 0;

  iommu::command_outcome apply(const iommu::command& c) noexcept {
    if (c.kind != iommu::command_kind::invalidate_translations) return iommu::command_outcome::done;
    check(c.domain == count, "commands arrive once and in order");
    ++count;
    words->carried_out.write(count);
    return iommu::command_outcome::done;
  }
  bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    return iommu::store_completion<Order>(*memory, at, data, bytes);
  }
  void interrupt() noexcept {}
};

template <class Codec, class Order>
inline auto command_ring(ring_setup setup) {
  return [setup](program& p) {
    const Codec codec{};
    const std::size_t bytes = std::size_t{setup.entries} * codec.entry_bytes();
    auto* const ring =
        reinterpret_cast<std::byte*>(p.uninitialised<std::array<std::byte, 32>>(1 + bytes / 32));
    auto& words = p.make<unit_words>();
    p.name(words.tail, "the tail register");
    p.name(words.head, "the head register");
    p.name(*reinterpret_cast<phasebit::le<std::uint32_t>*>(&words.completion),
           "the completion word");
    p.name(words.carried_out, "what the unit has carried out");
    p.name_bytes(ring, bytes, "the command ring");

    p.thread("driver", [=, &words] {
      iommu::completion_word word;
      if (setup.by_store) {
        word = {reinterpret_cast<phasebit::le<std::uint32_t>*>(&words.completion),
                reinterpret_cast<std::uintptr_t>(&words.completion)};
      }
      iommu::command_producer<Codec, Order, explorer::register_doorbell, head_register<Order>>
          producer{codec, std::span{ring, bytes}, explorer::register_doorbell{words.tail},
                   head_register<Order>{&words.head}, word};
      auto post = [&](std::uint32_t domain) {
        return producer.post(iommu::command::whole_domain(static_cast<std::uint16_t>(domain))) ==
               iommu::posted::posted;
      };
      for (std::uint32_t i = 0; i != setup.commands; ++i) {
        if (!post(i)) {
          producer.submit();
          await([&] { return post(i); });
        }
        if (setup.submit_each) producer.submit();
        if ((i + 1) % setup.each_sync != 0 && i + 1 != setup.commands) continue;
        iommu::sync_token token;
        if (producer.sync(token) != iommu::posted::posted) {
          producer.submit();
          await([&] { return producer.sync(token) == iommu::posted::posted; });
        }
        await([&] { return producer.done(token); });
        check(words.carried_out.read() == i + 1,
              "what was posted before a wait has been carried out");
        check(static_cast<bool>(producer.health()), "the head stays within what was posted");
      }
    });
    p.service("unit", [=, &words] {
      same_address<phasebit::host_space> memory;
      unit_handler<Order> handler{&memory, &words};
      iommu::command_consumer<Codec, Order, same_address<phasebit::host_space>> consumer{codec,
                                                                                         memory};
      consumer.enable(phasebit::host_phys{reinterpret_cast<std::uintptr_t>(ring)}, setup.entries);
      for (;;) {
        await([&] {
          consumer.write_tail(Order::load(words.tail));
          return consumer.head() != consumer.tail();
        });
        consumer.poll(handler);
        check(!consumer.stopped(), "the unit does not stop at a command");
        Order::store(words.head, consumer.head());
      }
    });
  };
}

}  // namespace model
