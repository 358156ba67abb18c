// SPDX-License-Identifier: BSL-1.0
// Every ring at capacities 1 to 4, over two laps or more: the matrix of docs/model-checking.md, which this prints.
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>

#include <set>
#include <string>

#include <doctest/doctest.h>
#include <model/command_rings.hpp>
#include <model/hosted_mailboxes.hpp>
#include <model/nvme_queues.hpp>
#include <model/pending_commands.hpp>
#include <model/shadow_pair.hpp>
#include <model/virtqueues.hpp>

using namespace model;

namespace {

using device = explorer::device_order;

// The explored sizes of one ring.
class matrix {
 public:
  explicit matrix(std::string ring) : ring_(std::move(ring)) {}

  template <class Program>
  void row(std::uint32_t capacity, std::uint32_t threads, std::uint32_t operations,
           Program program) {
    CHECK(operations >= 2 * capacity);
    std::string counts;
    for (const memory_model model : all_models) {
      options wanted{.model = model, .arena_bytes = 32768};
      const report r = explorer::explore(wanted, program);
      INFO(ring_, ", capacity ", capacity, ", under ", explorer::name_of(model), ": ", r.text());
      CHECK(r.passed());
      counts += " " + std::to_string(r.executions) + " |";
    }
    seen_.insert(capacity);
    MESSAGE("| " << ring_ << " | " << capacity << " | " << threads << " | " << operations / capacity
                 << " |" << counts);
  }
  void covers(const std::set<std::uint32_t>& capacities) const { CHECK(seen_ == capacities); }

 private:
  std::string ring_;
  std::set<std::uint32_t> seen_;
};

}  // namespace

TEST_CASE("matrix: NVMe queue pairs, and with shadow doorbells") {
  matrix plain{"NVMe queue pair"};
  plain.row(1, 2, 6, nvme_pair<device>({2, 6, 1}));
  plain.row(2, 2, 6, nvme_pair<device>({3, 6, 2}));
  plain.row(3, 2, 8, nvme_pair<device>({4, 8, 3}));
  plain.row(4, 2, 10, nvme_pair<device>({5, 10, 4}));
  plain.covers({1, 2, 3, 4});
  matrix shadow{"shadow doorbells, asleep"};
  shadow.row(1, 2, 4, shadow_pair<device>({2, 4, 1}));
  shadow.row(2, 2, 6, shadow_pair<device>({3, 6, 2}));
  shadow.row(3, 2, 8, shadow_pair<device>({4, 8, 3}));
  shadow.row(4, 2, 10, shadow_pair<device>({5, 10, 4}));
  shadow.covers({1, 2, 3, 4});
}

// The whole controller with its table of pending commands, whose media complete on a third thread, one operation at a
// time. With more than one place, the next commands are submitted when those before have completed.
TEST_CASE("matrix: NVMe controllers with three threads") {
  const auto setup = [](then_does what, std::uint32_t capacity, std::uint32_t commands) {
    return pending_commands<device>({.what = what,
                                     .commands = commands,
                                     .completions = capacity + 1,
                                     .media_capacity = 1,
                                     .table = capacity,
                                     .queue = capacity + 1,
                                     .in_flight = capacity,
                                     .batches = capacity > 1});
  };
  matrix table{"NVMe controller, table of pending commands"};
  table.row(1, 3, 4, setup(then_does::nothing, 1, 4));
  table.row(2, 3, 4, setup(then_does::nothing, 2, 4));
  table.row(3, 3, 6, setup(then_does::nothing, 3, 6));
  table.covers({1, 2, 3});
  matrix reset{"the same, then a reset"};
  reset.row(1, 3, 2, setup(then_does::reset, 1, 2));
  reset.covers({1});
  matrix abort{"the same, then an Abort"};
  abort.row(1, 3, 2, setup(then_does::abort_first, 1, 2));
  abort.covers({1});
}

TEST_CASE("matrix: command queues") {
  // RISC-V leaves one entry free, SMMUv3 none.
  matrix queues{"IOMMU command queue"};
  queues.row(1, 2, 5, command_ring<iommu::riscv::command_codec, device>({2, 5, 2, true, true}));
  queues.row(2, 2, 5, command_ring<iommu::smmuv3::command_codec, device>({2, 5, 2, false, true}));
  queues.row(3, 2, 6, command_ring<iommu::riscv::command_codec, device>({4, 6, 3, true, false}));
  queues.row(4, 2, 8, command_ring<iommu::smmuv3::command_codec, device>({4, 8, 4, false, false}));
  queues.covers({1, 2, 3, 4});
}

TEST_CASE("matrix: split virtqueues, whose sizes are powers of two") {
  matrix polled{"split virtqueue, polled"};
  polled.row(1, 2, 4, virtqueue_pair<split, device>({1, 4, 0, false, false}));
  polled.row(2, 2, 4, virtqueue_pair<split, device>({2, 4, 0, false, false}));
  polled.row(4, 2, 8, virtqueue_pair<split, device>({4, 8, 0, false, false, false, 4, 0, true}));
  polled.covers({1, 2, 4});
  matrix asleep{"split virtqueue, asleep"};
  constexpr auto event_idx = virtio::feature::event_idx;
  asleep.row(1, 2, 2, virtqueue_pair<split, device>({1, 2, event_idx, false, true}));
  asleep.row(2, 2, 4,
             virtqueue_pair<split, device>({2, 4, event_idx, false, true, false, 2, 0, true}));
  asleep.row(4, 2, 8,
             virtqueue_pair<split, device>({4, 8, event_idx, false, true, false, 4, 0, true}));
  asleep.covers({1, 2, 4});
}

TEST_CASE("matrix: packed virtqueues") {
  matrix polled{"packed virtqueue, polled"};
  polled.row(1, 2, 4, virtqueue_pair<packed, device>({1, 4, 0, false, false}));
  polled.row(2, 2, 4, virtqueue_pair<packed, device>({2, 4, 0, false, false}));
  polled.row(3, 2, 6, virtqueue_pair<packed, device>({3, 6, 0, false, false}));
  polled.row(4, 2, 8, virtqueue_pair<packed, device>({4, 8, 0, false, false, false, 4, 0, true}));
  polled.covers({1, 2, 3, 4});
  matrix asleep{"packed virtqueue, asleep"};
  constexpr auto event_idx = virtio::feature::event_idx;
  asleep.row(1, 2, 2, virtqueue_pair<packed, device>({1, 2, event_idx, false, true}));
  asleep.row(2, 2, 4,
             virtqueue_pair<packed, device>({2, 4, event_idx, false, true, false, 2, 0, true}));
  asleep.row(3, 2, 6,
             virtqueue_pair<packed, device>({3, 6, event_idx, false, true, false, 3, 0, true}));
  asleep.row(4, 2, 8,
             virtqueue_pair<packed, device>({4, 8, event_idx, false, true, false, 4, 0, true}));
  asleep.covers({1, 2, 3, 4});
}

TEST_CASE("matrix: mailboxes of a reactor") {
  matrix boxes{"mailbox of a reactor"};
  boxes.row(1, 2, 2, post_and_close<1>(1, 2));
  boxes.row(1, 3, 2, post_and_close<1>(2, 1));
  boxes.row(2, 2, 4, post_and_close<2>(1, 4));
  boxes.row(3, 2, 6, post_and_close<3>(1, 6));
  boxes.row(4, 2, 8, post_and_close<4>(1, 8));
  boxes.covers({1, 2, 3, 4});
}
