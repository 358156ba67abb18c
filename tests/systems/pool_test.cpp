// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/systems/pool.hpp>
#include <phasebit/systems/pool/root.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

struct test_policy : systems::pool_policy {
  static constexpr std::uint16_t roots = 4;
  static constexpr std::uint16_t slots = 3;
  static constexpr std::uint16_t functions = 8;
  using arbitration = nvme::device::round_robin;
};
// For fairness alone.
struct wide_policy : systems::pool_policy {
  static constexpr std::uint16_t roots = 2;
  static constexpr std::uint16_t slots = 32;
  static constexpr std::uint16_t functions = 64;
};

constexpr std::size_t root_bytes = std::size_t{8} << 20;
constexpr std::size_t media_bytes = std::size_t{256} << 10;

struct aligned_bytes {
  explicit aligned_bytes(std::size_t n)
      : data(static_cast<std::byte*>(std::aligned_alloc(4096, n)), &std::free) {
    std::memset(data.get(), 0, n);
  }
  std::unique_ptr<std::byte, void (*)(void*)> data;
};

template <class Policy>
struct world {
  using pool_type = systems::pool<block::memory_media, Policy>;
  using root_type = systems::pool_root<pool_type>;
  using function_type = typename root_type::function_type;
  static_assert(PcieBackend<function_type>);

  std::vector<std::vector<std::byte>> bytes;
  std::deque<block::memory_media> media;
  std::unique_ptr<pool_type> pool = std::make_unique<pool_type>();
  std::deque<aligned_bytes> memory;
  std::deque<root_type> roots;

  // Every root has its memory at the same addresses, so that a packet that goes astray finds some.
  static constexpr bus_addr base{0x1'0000'0000};

  world() {
    REQUIRE(pool->start());
    bytes.resize(Policy::functions);
    for (std::uint16_t vf = 0; vf != Policy::functions; ++vf) {
      bytes[vf].resize(media_bytes);
      media.emplace_back(bytes[vf]);
    }
    for (std::uint16_t r = 0; r != Policy::roots; ++r) {
      memory.emplace_back(root_bytes);
      roots.emplace_back(*pool, r, dma_region{{memory[r].data.get(), root_bytes}, base});
      const auto done = roots[r].enumerate();
      REQUIRE_MESSAGE(done, (done ? "" : done.error().what));
    }
  }
  function_type take_in(std::uint16_t root, std::uint16_t slot) {
    auto f = roots[root].attach(slot);
    REQUIRE_MESSAGE(f, (f ? "" : f.error().what));
    return *f;
  }
};

void fill(std::span<std::byte> to, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  for (std::byte& b : to) b = static_cast<std::byte>(random());
}

template <class Function>
struct driven {
  Function function;
  std::optional<nvme::controller<Function>> controller;
  std::optional<typename nvme::controller<Function>::template io_queue<>> queue;

  explicit driven(Function f, std::uint32_t depth = 16) : function(f) {
    auto attached = nvme::attach(function);
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().what));
    controller.emplace(std::move(*attached));
    auto made = controller->create_queue_pair({.depth = depth});
    REQUIRE(made);
    queue.emplace(std::move(*made));
  }
};

}  // namespace

TEST_CASE("roots enumerate the switch and drive their functions of one device") {
  world<test_policy> w;
  using host = driven<typename world<test_policy>::function_type>;
  std::deque<host> hosts;
  for (std::uint16_t r = 0; r != 3; ++r) {
    REQUIRE(w.pool->add(r, w.media[r]));
    REQUIRE(w.pool->attach(r, r, 1));
    CHECK(w.pool->take_slot_events(r) == 2);
    hosts.emplace_back(w.take_in(r, 1));
  }
  CHECK_FALSE(w.roots[3].attach(1).has_value());
  CHECK_FALSE(w.roots[0].attach(0).has_value());
  for (const std::size_t n : {512UL, 8192UL, 65'536UL}) {
    for (std::uint16_t r = 0; r != 3; ++r) {
      auto& h = hosts[r];
      auto out = allocate(h.function, n);
      auto back = allocate(h.function, n);
      REQUIRE(out);
      REQUIRE(back);
      fill({out->data(), n}, r + n);
      unsigned good = 0;
      const auto done = [&](nvme::completion c) noexcept { good += c.ok(); };
      const nvme::block_range at{.lba = 3, .blocks = static_cast<std::uint32_t>(n / 512)};
      REQUIRE(h.queue->write(at, *out, done));
      h.queue->ring();
      REQUIRE(nvme::wait(*h.queue, 1000));
      REQUIRE(h.queue->read(at, *back, done));
      h.queue->ring();
      REQUIRE(nvme::wait(*h.queue, 1000));
      CHECK(good == 2);
      CHECK(std::memcmp(out->data(), back->data(), n) == 0);
      CHECK(std::memcmp(w.bytes[r].data() + 3 * 512, out->data(), n) == 0);
    }
  }
  CHECK(w.pool->fabric().counts().unexpected == 0);
}

TEST_CASE("a thousand hot moves under load: each command ends once, at the root that issued it") {
  world<test_policy> w;
  using host = driven<typename world<test_policy>::function_type>;
  // Two functions move among four roots; a third stays and is verified all the while.
  std::array<std::optional<host>, 3> hosts;
  std::array<std::uint16_t, 3> at{0, 1, 2};
  for (std::uint16_t vf = 0; vf != 3; ++vf) {
    REQUIRE(w.pool->add(vf, w.media[vf]));
    REQUIRE(w.pool->attach(vf, at[vf], vf));
    hosts[vf].emplace(w.take_in(at[vf], vf));
  }
  std::mt19937_64 random{4};
  struct request {
    std::uint16_t vf;
    unsigned ended = 0;
    bool good = false;
  };
  std::list<request> requests;  // callbacks keep references
  std::array<std::vector<dma_buffer<typename world<test_policy>::function_type>>, 3> buffers;
  const auto submit = [&](std::uint16_t vf) {
    request& q = requests.emplace_back(request{vf});
    auto& h = *hosts[vf];
    if (buffers[vf].empty()) {
      auto made = allocate(h.function, 4096);
      REQUIRE(made);
      buffers[vf].push_back(std::move(*made));
    }
    const nvme::block_range r{.lba = random() % 64 * 8, .blocks = 8};
    const auto done = [&q](nvme::completion c) noexcept {
      ++q.ended;
      q.good = c.ok();
    };
    const auto posted = random() % 2 == 0 ? h.queue->read(r, buffers[vf][0], done)
                                          : h.queue->write(r, buffers[vf][0], done);
    if (!posted) requests.pop_back();
  };
  std::uint64_t with_error = 0;
  for (unsigned move = 0; move != 1000; ++move) {
    const auto vf = static_cast<std::uint16_t>(move % 2);
    for (std::uint16_t f = 0; f != 3; ++f) {
      for (std::uint64_t n = random() % 8; n != 0; --n) submit(f);
      hosts[f]->queue->ring();
    }
    for (std::uint64_t n = random() % 10; n != 0; --n) w.pool->step();
    for (auto& h : hosts) h->queue->poll();
    const auto to = static_cast<std::uint16_t>((at[vf] + 1 + random() % 3) % 4);
    REQUIRE(w.pool->move(vf, to, vf));
    // The old root's driver finds it gone; what it had in flight ends with an error, once.
    CHECK_FALSE(hosts[vf]->controller->check().has_value());
    while (hosts[vf]->queue->poll() != 0) {
    }
    for (request& q : requests) {
      if (q.vf != vf) continue;
      REQUIRE(q.ended == 1);
      with_error += !q.good;
    }
    std::erase_if(requests, [&](const request& q) { return q.vf == vf; });
    CHECK(w.roots[at[vf]].attach(vf).has_value() == false);
    buffers[vf].clear();
    hosts[vf].reset();
    at[vf] = to;
    hosts[vf].emplace(w.take_in(to, vf));
  }
  CHECK(with_error > 500);
  for (auto& h : hosts) {
    for (unsigned i = 0; i != 200; ++i) {
      w.pool->step();
      h->queue->poll();
    }
    CHECK(h->queue->health());
  }
  for (const request& q : requests) {
    CHECK(q.ended == 1);
    CHECK(q.good);
  }
}

TEST_CASE("functions share the device's bandwidth by weight, in virtual time") {
  for (const int count : {2, 8, 64}) {
    const auto functions = static_cast<std::uint16_t>(count);
    for (const bool weighted : {false, true}) {
      world<wide_policy> w;
      using host = driven<typename world<wide_policy>::function_type>;
      std::deque<host> hosts;
      std::deque<dma_buffer<typename world<wide_policy>::function_type>> buffers;
      std::vector<std::uint64_t> bytes(functions);
      const auto weight = [&](std::uint16_t f) { return weighted ? 1U + f % 3 : 1U; };
      for (std::uint16_t f = 0; f != functions; ++f) {
        const std::uint16_t root = f % 2;
        const std::uint16_t slot = f / 2;
        REQUIRE(w.pool->add(f, w.media[f], static_cast<std::uint8_t>(weight(f))));
        REQUIRE(w.pool->attach(f, root, slot));
        hosts.emplace_back(w.take_in(root, slot));
        auto made = allocate(hosts.back().function, 16'384);
        REQUIRE(made);
        buffers.push_back(std::move(*made));
      }
      // Sizes differ: 512 bytes to 16 KiB. Rings are kept full; a share is what the device moved.
      std::vector<std::uint64_t> before(functions);
      for (std::uint16_t f = 0; f != functions; ++f) before[f] = w.pool->state(f).bytes;
      const auto began = w.pool->now_ns();
      const std::uint64_t rounds = std::uint64_t{functions} * 1500;
      for (std::uint64_t step = 0; step != rounds; ++step) {
        if (step % 8 == 0) {
          for (std::uint16_t f = 0; f != functions; ++f) {
            auto& q = *hosts[f].queue;
            q.poll();
            const std::uint32_t blocks = f % 2 == 0 ? 32 : 1U << f % 5;
            const dma_region data =
                static_cast<const dma_region&>(buffers[f]).subregion(0, blocks * 512);
            bool posted = false;
            while (q.available() != 0 &&
                   q.read({.lba = 0, .blocks = blocks}, data, [](nvme::completion) noexcept {})) {
              posted = true;
            }
            if (posted) q.ring();
          }
        }
        w.pool->step();
      }
      double sum = 0;
      double squares = 0;
      double worst = 0;
      std::vector<double> shares;
      for (std::uint16_t f = 0; f != functions; ++f) {
        shares.push_back(static_cast<double>(w.pool->state(f).bytes - before[f]) / weight(f));
        sum += shares.back();
        squares += shares.back() * shares.back();
      }
      const double jain = sum * sum / (functions * squares);
      for (const double s : shares) {
        const double off = s / (sum / functions) - 1;
        if (off > worst) worst = off;
        if (-off > worst) worst = -off;
      }
      MESSAGE(count, std::string(weighted ? " weighted" : " equal"), ": Jain ", jain, ", worst ",
              worst);
      CHECK(jain >= 0.999);
      CHECK(worst <= (weighted ? 0.03 : 0.02));
      CHECK(w.pool->now_ns() > began);
    }
  }
}

TEST_CASE("a million random packets of three roots reach nothing that is not theirs") {
  world<test_policy> w;
  using host = driven<typename world<test_policy>::function_type>;
  // Function 7 is driven by root 3, which sends no packets of its own making; the others have one each.
  constexpr std::array<std::uint16_t, 4> vfs{0, 1, 2, 7};
  std::deque<host> hosts;
  for (std::uint16_t r = 0; r != 4; ++r) {
    REQUIRE(w.pool->add(vfs[r], w.media[vfs[r]]));
    REQUIRE(w.pool->attach(vfs[r], r, 0));
    hosts.emplace_back(w.take_in(r, 0));
  }
  host& victim = hosts[3];
  auto out = allocate(victim.function, 4096);
  auto back = allocate(victim.function, 4096);
  REQUIRE(out);
  REQUIRE(back);
  std::mt19937_64 random{2};
  const auto below = [&](std::uint64_t n) { return random() % n; };
  // Registers, doorbells and configuration of every function at the addresses of device and roots, memory.
  const auto address = [&]() -> std::uint64_t {
    const std::uint64_t offset = below(4) == 0 ? below(0x4000) & ~3U : 0x1000 + below(6) * 4;
    switch (below(6)) {
      case 0:
        return random() & ~std::uint64_t{3};
      case 1:
        return 0x90'0000'0000 + below(9) * 0x4000 + offset;
      case 2:
        return 0x1'0000'0000 + (below(root_bytes) & ~3U);
      case 3:
        return 0xc000'0000 + below(64) * 0x10'0000 + offset;
      default:
        return 0xc000'0000 + below(4) * 0x10'0000 + (below(2) == 0 ? below(0x40) * 4 : offset);
    }
  };
  const auto id = [&]() -> pcie::requester_id {
    switch (below(4)) {
      case 0:
        return pcie::requester_id{static_cast<std::uint16_t>(random())};
      case 1:
        return pcie::requester_id{static_cast<std::uint16_t>(0x4000 + below(10))};
      default:
        return pcie::requester_id{static_cast<std::uint8_t>(below(8)),
                                  static_cast<std::uint8_t>(below(3)), 0};
    }
  };
  const auto packet = [&]() -> pcie::tlp_header {
    const auto tag = static_cast<std::uint16_t>(below(256));
    switch (below(8)) {
      case 0:
      case 1: {
        pcie::config_request c{
            .write = below(2) == 0, .type1 = below(4) != 0, .requester = id(), .tag = tag};
        c.destination = id();
        c.offset = static_cast<std::uint16_t>(below(4) == 0 ? below(1024) * 4 : below(32) * 4);
        c.enables = static_cast<std::uint8_t>(below(16));
        return c.encode();
      }
      case 2: {
        pcie::completion c{.completer = id(), .requester = id(), .tag = tag};
        c.dwords = static_cast<std::uint16_t>(below(4));
        return c.encode();
      }
      case 3: {
        pcie::tlp_header h{};
        for (auto& d : h.dw) d = static_cast<std::uint32_t>(random());
        return h;
      }
      case 4:
        return pcie::memory_request::read(id(), tag, address() & ~std::uint64_t{63},
                                          4 + static_cast<unsigned>(below(60)))
            .encode();
      case 5:
        return pcie::memory_request::read(id(), tag, address(), 4).encode();
      default:
        return pcie::memory_request::write_of(id(), address(), 4).encode();
    }
  };
  // The parts of the victim that nothing of its own changes.
  const std::vector<std::byte> idle(w.bytes[5]);
  std::uint64_t sent = 0;
  std::uint64_t checks = 0;
  while (sent != 1'000'000) {
    const auto root = static_cast<std::uint16_t>(below(3));
    const pcie::tlp_header h = packet();
    if (!pcie::tlp_check(h)) continue;
    ++sent;
    const auto answer = w.pool->send(root, h, static_cast<std::uint32_t>(random()));
    if (answer && !h.is_posted()) {
      const auto c = pcie::completion::decode(answer->header);
      // Completions go to the requester.
      REQUIRE(c.tag == h.tag());
      REQUIRE(c.requester == h.requester());
    }
    w.pool->step();
    if (sent % 1000 != 0) continue;
    ++checks;
    fill({out->data(), 4096}, sent);
    unsigned good = 0;
    const auto done = [&](nvme::completion c) noexcept { good += c.ok(); };
    const nvme::block_range at{.lba = below(32) * 8, .blocks = 8};
    REQUIRE(victim.queue->write(at, *out, done));
    victim.queue->ring();
    REQUIRE(nvme::wait(*victim.queue, 1000));
    REQUIRE(victim.queue->read(at, *back, done));
    victim.queue->ring();
    REQUIRE(nvme::wait(*victim.queue, 1000));
    REQUIRE(good == 2);
    REQUIRE(std::memcmp(out->data(), back->data(), 4096) == 0);
  }
  CHECK(checks == 1000);
  CHECK(victim.queue->health());
  CHECK(w.bytes[5] == idle);
  CHECK(w.pool->fabric().root_of(7) == 3);
  CHECK(w.pool->fabric().counts().unsupported > 1000);
}
