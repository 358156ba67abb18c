// SPDX-License-Identifier: BSL-1.0
// A host that sends anything: random commands, fields, data, doorbells and resets to controllers with
// every optional part, which share a pool. Whatever it sends, they drain, and work afterwards.
#include <phasebit/nvme/device/controller.hpp>

#include <random>

#include <doctest/doctest.h>
#include <nvme/device/pool_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct everything : device::default_policy {
  static constexpr bool fused_commands = true;
  using maintenance = device::maintenance_commands;
  using arbitration = device::weighted_round_robin;
  using coalescing = device::interrupt_coalescing_of<9>;
};
using shared = device::reservations<4, 3>;

struct common {
  std::vector<std::byte> store = std::vector<std::byte>(1U << 18);
  std::vector<std::byte> metadata = std::vector<std::byte>((1U << 18) / 512 * 64);
  std::vector<std::uint8_t> marks = std::vector<std::uint8_t>((1U << 18) / 512 / 8);
  device::namespace_pool<4, shared> pool{(1U << 18) / 512, 512, {metadata, 64, marks}};
};
struct now_backing {
  using media_type = block::memory_media;
  using namespaces = device::pooled_namespaces<media_type, 4, shared>;
  now_backing(std::uint32_t, common& s, std::uint16_t id)
      : media(s.store, 512), spaces(s.pool, media, id) {}
  device::pending_memory pending() noexcept { return {}; }
  media_type media;
  namespaces spaces;
};
struct later_backing {
  using media_type = block::planned_media<block::memory_media, steered_plan>;
  using namespaces = device::pooled_namespaces<media_type, 4, shared>;
  later_backing(std::uint32_t, common& s, std::uint16_t id)
      : blocks(s.store, 512),
        operations(24),
        media(blocks, operations),
        spaces(s.pool, media, id),
        commands(16),
        segments(48),
        bounce_memory(3 * 4096),
        bounce(bounce_memory, 4096) {
    media.plan().random.emplace(block::random_media_plan{
        .state = id + 1U, .longest = 3, .fail_one_in = 40, .busy_one_in = 9, .at_once_one_in = 5});
  }
  device::pending_memory pending() noexcept { return {commands, segments, &bounce}; }
  block::memory_media blocks;
  std::vector<block::planned_operation> operations;
  media_type media;
  namespaces spaces;
  std::vector<device::pending_command> commands;
  std::vector<block::media_segment> segments;
  std::vector<std::byte> bounce_memory;
  block::bounce_pool bounce;
};

template <class Backing>
struct hostile : machine<everything, Backing> {
  using base = machine<everything, Backing>;
  static device::settings with_id(std::uint16_t id) {
    auto s = base::small();
    s.controller_id = id;
    return s;
  }
  hostile(common& c, std::uint16_t id) : base(with_id(id), 512, std::size_t{4} << 20, c, id) {
    data = this->allocate(1U << 18);
    this->controller.maintenance().set_firmware_memory(image);
    start();
  }
  void start() {
    this->enable(32, base::enabled_cc().with(cc::ams, arbitration_mechanism::weighted));
    for (std::uint16_t q = 1; q != 3; ++q) {
      const auto old = rings[q];
      if (old.depth == 0) {
        rings[q] = {.id = q,
                    .sq = this->allocate(1U << 12, 1U << 16),
                    .cq = this->allocate(1U << 12, 1U << 16),
                    .depth = 32};
      }
      std::memset(this->ram.at(rings[q].cq), 0, 32 * 16);
      this->submit(
          0,
          nvme::admin::create_io_cq({.qid = q, .entries = 32, .memory = rings[q].cq, .vector = q}),
          1);
      this->submit(0,
                   nvme::admin::create_io_sq({.qid = q,
                                              .entries = 32,
                                              .memory = rings[q].sq,
                                              .cqid = q,
                                              .priority = static_cast<queue_priority>(q)}),
                   2);
      this->pairs[q] = rings[q];
      this->pairs[q].tail = this->pairs[q].head = 0;
    }
    for (int i = 0; i != 4; ++i) this->controller.poll();
    drop();
  }
  void drop() {
    for (std::uint16_t q = 0; q != 3; ++q) {
      while (this->reap(q)) {
      }
    }
  }
  submission_entry random_command(bool admin) {
    const auto draw = [this](std::uint64_t below) { return random() % below; };
    static constexpr std::uint8_t admins[] = {0x02, 0x06, 0x08, 0x09, 0x0a, 0x0d, 0x0d, 0x10,
                                              0x11, 0x14, 0x15, 0x15, 0x80, 0x84, 0x18, 0x0c};
    static constexpr std::uint8_t ios[] = {0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09,
                                           0x0c, 0x0d, 0x0e, 0x11, 0x15, 0x19};
    submission_entry e{};
    e.cdw0 = admin ? admins[draw(std::size(admins))] : ios[draw(std::size(ios))];
    e.nsid = draw(20) == 0 ? 0xffff'ffffU : static_cast<std::uint32_t>(draw(6));
    e.prp1 = (data + draw(64) * 1024).value();
    e.prp2 = (data + draw(60) * 4096).value();
    e.mptr = (data + draw(60) * 4096).value();
    e.cdw10 = static_cast<std::uint32_t>(admin ? random() & 0x1'0fff : draw(520));
    e.cdw11 = static_cast<std::uint32_t>(draw(4) == 0 ? random() : 0);
    e.cdw12 = static_cast<std::uint32_t>(draw(24) | (random() & 0x7c00'0000));
    e.cdw14 = static_cast<std::uint32_t>(draw(600));
    e.cdw15 = static_cast<std::uint32_t>(random());
    if (!admin && draw(6) == 0) e.set_fuse(static_cast<fused>(draw(4)));
    if (draw(50) == 0) e.prp1 = random();
    // Data that is sometimes right: sizes of a namespace, a list of controllers, keys, ranges.
    for (std::size_t at = 0; at != 4096; at += 8) {
      const std::uint64_t v = draw(3) == 0 ? draw(200) : 0;
      store_wire(this->ram.bytes(bus_addr{(data + (at & 0xfff)).value()}, 8), le<std::uint64_t>{v});
    }
    if (admin && (e.opcode() == 0x0d || e.opcode() == 0x15)) {
      e.prp1 = data.value();
      identify_namespace wanted{};
      wanted.nsze = wanted.ncap = draw(120);
      wanted.flbas = static_cast<std::uint8_t>(draw(9) | draw(2) << 4);
      wanted.dps = static_cast<std::uint8_t>(draw(4) | draw(2) << 3);
      wanted.nmic = static_cast<std::uint8_t>(draw(2));
      e.cdw10 = static_cast<std::uint32_t>(draw(3));
      e.cdw11 = 0;
      store_wire(this->ram.bytes(data, 4096), wanted);
      if (e.opcode() == 0x15) {
        store_wire(this->ram.bytes(data, 8), le<std::uint64_t>{1U | draw(2) << 16});
      }
    }
    return e;
  }
  void act() {
    const std::uint64_t what = random() % 400;
    if (what == 0) {
      this->controller.write32(cc::offset, 0);
      for (int i = 0; i != 40 && this->template reg<csts>()[csts::rdy]; ++i) {
        this->controller.poll();
      }
      start();
    } else if (what == 1) {
      this->controller.write32(nssr::offset, nssr::reset_word);
      for (int i = 0; i != 40; ++i) this->controller.poll();
      start();
    } else if (what < 60) {
      this->submit(0, random_command(true), static_cast<std::uint16_t>(random()));
    } else {
      const auto q = static_cast<std::uint16_t>(1 + random() % 2);
      this->submit(q, random_command(false), static_cast<std::uint16_t>(random()));
    }
    this->controller.poll();
    if (random() % 2 == 0) drop();
    if (random() % 50 == 0) this->controller.advance(1);
  }
  std::mt19937_64 random{11};
  bus_addr data{};
  std::array<queue_pair, 3> rings{};
  std::vector<std::byte> image = std::vector<std::byte>(8192);
};

}  // namespace

TEST_CASE_TEMPLATE("controllers that share a pool survive whatever their hosts send", B,
                   now_backing, later_backing) {
  common c;
  hostile<B> a{c, 0};
  hostile<B> b{c, 1};
  b.random.seed(12);
  for (int i = 0; i != 20'000; ++i) {
    a.act();
    b.act();
  }
  // Both drain: jobs and commands end.
  for (auto* m : {&a, &b}) m->controller.quiesce();
  for (int i = 0; i != 4000 && !(a.controller.quiesced() && b.controller.quiesced()); ++i) {
    a.controller.poll();
    b.controller.poll();
    a.drop();
    b.drop();
  }
  CHECK(a.controller.quiesced());
  CHECK(b.controller.quiesced());
  CHECK(c.pool.draining(1) == 0);
  if constexpr (std::is_same_v<B, later_backing>) {
    CHECK(a.bounce.available() == a.bounce.capacity());
    CHECK(b.bounce.available() == b.bounce.capacity());
  }
  a.controller.resume();
  b.controller.resume();
  a.start();
  CHECK(a.admin_code(admin::keep_alive()) == success);
}
