// SPDX-License-Identifier: BSL-1.0
// A driver and a controller around one queue pair: the library's two halves, each in its own thread.
#pragma once

#include <phasebit/nvme/device/completion_queue.hpp>
#include <phasebit/nvme/device/doorbells.hpp>
#include <phasebit/nvme/device/submission_queue.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <model/support.hpp>

namespace model {

namespace nvme = phasebit::nvme;

struct nvme_setup {
  std::uint32_t depth = 2;     // entries of each ring: one less is in flight
  std::uint32_t commands = 4;  // submitted in all
  std::uint32_t batch = 1;     // submitted before the driver polls, if there is room
  bool ring_each = false;      // one doorbell a command, not one a batch
  bool from_callback = false;  // the next command is submitted before the CQ head is given back
};

// The memory of one queue pair, and the doorbell registers of queue 0.
struct nvme_memory {
  std::span<nvme::submission_entry> submission;
  std::span<nvme::completion_entry> completion;
  std::array<std::uint32_t, 2>* doorbells = nullptr;

  nvme_memory(program& p, std::uint32_t depth) {
    submission = {p.uninitialised<nvme::submission_entry>(depth), depth};
    auto& entries = p.make<std::array<nvme::completion_entry, 8>>();
    entries.fill({});
    completion = {entries.data(), depth};
    doorbells = &p.make<std::array<std::uint32_t, 2>>();
    p.name((*doorbells)[0], "the SQ tail doorbell");
    p.name((*doorbells)[1], "the CQ head doorbell");
    for (std::uint32_t i = 0; i != depth; ++i) {
      const std::string number = std::to_string(i);
      p.name(submission[i], "SQ entry " + number);
      p.name(completion[i], "CQ entry " + number);
      p.name(completion[i].dw3, "CQ entry " + number, [](std::uint64_t v) {
        const nvme::completion_dw3 dw3{static_cast<std::uint32_t>(v)};
        return "phase " + std::to_string(dw3.phase()) + ", command id " +
               std::to_string(dw3.command_id());
      });
    }
  }
};

// What the driver hands to each command, and what the controller answers.
[[nodiscard]] inline std::uint32_t answer(std::uint32_t number) noexcept {
  return number * 3 + 100;
}

template <class Order>
using nvme_queue = nvme::driver::queue_pair<Order, explorer::register_doorbell, std::uint32_t, 4>;

template <class Order>
[[nodiscard]] nvme_queue<Order> make_queue(const nvme_memory& memory) {
  nvme::driver::queue_layout layout;
  static std::array<std::byte, 4> no_lists;
  layout.qid = 1;
  layout.submission = memory.submission;
  layout.completion = memory.completion;
  layout.lists.bytes = no_lists;
  layout.list_bytes = 1;
  return {layout, explorer::register_doorbell{(*memory.doorbells)[0]},
          explorer::register_doorbell{(*memory.doorbells)[1]}};
}

// The driver: submits in batches, polls where it cannot submit, until every command has completed.
template <class Queue>
class nvme_driver {
 public:
  nvme_driver(Queue& queue, const nvme_setup& setup) noexcept : queue_(&queue), setup_(setup) {}

  [[nodiscard]] bool finished() const noexcept { return completed_ == setup_.commands; }
  void submit_batch() noexcept {
    std::uint32_t batch = 0;
    while (can_submit() && batch != setup_.batch) {
      submit_next();
      if (setup_.ring_each) queue_->ring();
      ++batch;
    }
    queue_->ring();
  }
  // Whether a command has ended.
  bool poll() noexcept {
    const unsigned ended = queue_->poll([&](std::uint32_t number,
                                            nvme::driver::completion c) noexcept {
      check(c.ok(), "the command succeeded");
      check(c.dw0() == answer(number) && c.dw1() == number, "the result is that of the command");
      check((seen_ & (1U << number)) == 0, "a command completes once");
      seen_ |= 1U << number;
      ++completed_;
      if (setup_.from_callback && can_submit()) {
        submit_next();
        queue_->ring();
      }
    });
    check(static_cast<bool>(queue_->health()), "the controller completes commands in flight only");
    return ended != 0;
  }
  // Polls without rest.
  void run() {
    while (!finished()) {
      submit_batch();
      await([&] { return poll(); });
    }
  }
  // Polls after each interrupt only.
  template <class Order>
  void run_asleep(const std::uint32_t& interrupt) {
    std::uint32_t seen = 0;
    while (!finished()) {
      submit_batch();
      await([&] { return Order::load(interrupt) != seen; });
      seen = Order::load(interrupt);
      Order::after_load();
      while (poll()) {
      }
    }
  }

 private:
  [[nodiscard]] bool can_submit() const noexcept {
    return submitted_ != setup_.commands && queue_->in_flight() + 1 != queue_->depth();
  }
  void submit_next() noexcept {
    nvme::submission_entry command{};
    command.cdw10 = submitted_;
    const auto posted = queue_->submit(command, submitted_);
    check(static_cast<bool>(posted), "a queue with room takes a command");
    ++submitted_;
  }

  Queue* queue_;
  nvme_setup setup_;
  std::uint32_t submitted_ = 0;
  std::uint32_t completed_ = 0;
  std::uint32_t seen_ = 0;
};

// The controller's half, from the parts that nvme::device::controller is made of.
template <class Order>
class nvme_controller {
 public:
  explicit nvme_controller(const nvme_memory& memory) : doorbells_(*memory.doorbells, 0) {
    sq_.base = bus_address_of(memory.submission[0]);
    cq_.base = bus_address_of(memory.completion[0]);
    sq_.entries = cq_.entries = static_cast<std::uint32_t>(memory.submission.size());
  }

  // Waits for commands and completes all that there are.
  void serve() {
    await([&] { return update_tail(); });
    while (!sq_.empty()) {
      if (cq_.full()) {
        await([&] {
          update_head();
          return !cq_.full();
        });
      }
      complete_one();
    }
  }
  bool update_tail() {
    const auto moved = sq_.set_tail(doorbells_.load(0, nvme::device::ring_side::submission));
    check(moved != nvme::device::doorbell_update::invalid, "the tail lies within the ring");
    return !sq_.empty();
  }
  void update_head() {
    const auto moved = cq_.set_head(doorbells_.load(0, nvme::device::ring_side::completion));
    check(moved != nvme::device::doorbell_update::invalid, "the head lies within the ring");
  }
  void complete_one() {
    const auto command = nvme::device::fetch_command(dma_, sq_.next_entry());
    sq_.advance();
    nvme::completion_entry entry{};
    entry.dw0 = answer(command->cdw10);
    entry.dw1 = command->cdw10;
    entry.sq_head = static_cast<std::uint16_t>(sq_.head);
    entry.dw3 = nvme::completion_dw3::of(command->command_id(), nvme::status{}, cq_.phase).raw;
    check(nvme::device::post_completion<Order>(dma_, cq_.next_slot(), entry), "the ring is mapped");
    cq_.advance();
    last_id_ = command->command_id();
  }
  // A completion of a command that is not there.
  void complete_as(std::uint16_t id) {
    nvme::completion_entry entry{};
    entry.dw3 = nvme::completion_dw3::of(id, nvme::status{}, cq_.phase).raw;
    check(nvme::device::post_completion<Order>(dma_, cq_.next_slot(), entry), "the ring is mapped");
    cq_.advance();
  }
  [[nodiscard]] std::uint16_t last_id() const noexcept { return last_id_; }
  [[nodiscard]] nvme::device::submission_queue& sq() noexcept { return sq_; }
  [[nodiscard]] nvme::device::completion_queue& cq() noexcept { return cq_; }

 private:
  same_address<> dma_;
  nvme::device::doorbell_words<Order> doorbells_;
  nvme::device::submission_queue sq_;
  nvme::device::completion_queue cq_;
  std::uint16_t last_id_ = 0;
};

template <class Order>
[[nodiscard]] auto nvme_pair(nvme_setup setup) {
  return [setup](program& p) {
    const nvme_memory memory{p, setup.depth};
    p.thread("driver", [memory, setup] {
      auto queue = make_queue<Order>(memory);
      nvme_driver{queue, setup}.run();
    });
    p.service("controller", [memory] {
      nvme_controller<Order> controller{memory};
      for (;;) controller.serve();
    });
  };
}

}  // namespace model
