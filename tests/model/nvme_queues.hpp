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
  std::uint32_t batch = 1;     // submitted before the driver polls, if there is space
  bool ring_each = false;      // one doorbell a command, not one a batch
  bool from_callback = false;  // the next command is submitted before the CQ head is given back
  std::uint32_t buffers = 0;   // that the controller writes, one for each command in flight
};

// The memory of one queue pair, and the doorbell registers of queue 0.
struct nvme_memory {
  std::span<nvme::submission_entry> submission;
  std::span<nvme::completion_entry> completion;
  std::array<std::uint32_t, 2>* doorbells = nullptr;
  std::array<explorer::plain<std::uint32_t>, 4>* data = nullptr;

  nvme_memory() noexcept = default;
  nvme_memory(program& p, std::uint32_t depth, std::uint32_t completions = 0) {
    submission = {p.uninitialised<nvme::submission_entry>(depth), depth};
    auto& entries = p.make<std::array<nvme::completion_entry, 8>>();
    entries.fill({});
    completion = {entries.data(), completions == 0 ? depth : completions};
    doorbells = &p.make<std::array<std::uint32_t, 2>>();
    data = &p.make<std::array<explorer::plain<std::uint32_t>, 4>>();
    for (std::size_t i = 0; i != data->size(); ++i) {
      p.name((*data)[i], "buffer " + std::to_string(i));
    }
    p.atomic(*doorbells);
    p.name((*doorbells)[0], "the SQ tail doorbell");
    p.name((*doorbells)[1], "the CQ head doorbell");
    for (std::uint32_t i = 0; i != depth; ++i) {
      const std::string number = std::to_string(i);
      p.name(submission[i], "SQ entry " + number);
      if (i >= completion.size()) continue;
      p.name(completion[i], "CQ entry " + number);
      p.name(completion[i].dw3, "CQ entry " + number, [](std::uint64_t v) {
        const nvme::completion_dw3 dw3{static_cast<std::uint32_t>(v)};
        return "phase " + std::to_string(dw3.phase()) + ", command id " +
               std::to_string(dw3.command_id());
      });
    }
  }
};

// The driver's value of each command, and the controller's result.
[[nodiscard]] inline std::uint32_t answer(std::uint32_t number) noexcept {
  return number * 3 + 100;
}

template <class Order>
using nvme_queue = nvme::driver::queue_pair<Order, explorer::register_doorbell, std::uint32_t, 8>;

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
  nvme_driver(Queue& queue, const nvme_setup& setup, const nvme_memory& memory = {}) noexcept
      : queue_(&queue), setup_(setup), memory_(memory) {}

  [[nodiscard]] bool finished() const noexcept { return completed_ == setup_.commands; }
  void submit_batch() noexcept {
    std::uint32_t batch = 0;
    while (batch != setup_.batch && submit_next()) {
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
      if (setup_.buffers != 0) {
        check(buffer_of(number).read() == answer(number), "the data is that of the command");
      }
      if (setup_.from_callback && submit_next()) queue_->ring();
    });
    check(static_cast<bool>(queue_->health()), "the controller completes commands in flight only");
    return ended != 0;
  }
  // Polls without a pause.
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
  // Commands complete in order, so that a buffer is free when its turn comes.
  [[nodiscard]] auto& buffer_of(std::uint32_t number) const noexcept {
    return (*memory_.data)[number % setup_.buffers];
  }
  // False where all have been submitted, or the queue is full.
  bool submit_next() noexcept {
    if (submitted_ == setup_.commands) return false;
    nvme::submission_entry command{};
    command.cdw10 = submitted_;
    if (setup_.buffers != 0) {
      if (submitted_ - completed_ == setup_.buffers) return false;
      command.cdw11 = submitted_ % setup_.buffers + 1;
    }
    if (!queue_->submit(command, submitted_)) return false;
    ++submitted_;
    return true;
  }

  Queue* queue_;
  nvme_setup setup_;
  nvme_memory memory_;
  std::uint32_t submitted_ = 0;
  std::uint32_t completed_ = 0;
  std::uint32_t seen_ = 0;
};

// The controller's half, from the parts that nvme::device::controller is made of.
template <class Order>
class nvme_controller {
 public:
  explicit nvme_controller(const nvme_memory& memory)
      : doorbells_(*memory.doorbells, 0), data_(memory.data) {
    sq_.base = bus_address_of(memory.submission[0]);
    cq_.base = bus_address_of(memory.completion[0]);
    sq_.entries = static_cast<std::uint32_t>(memory.submission.size());
    cq_.entries = static_cast<std::uint32_t>(memory.completion.size());
  }

  // Waits for commands and completes all that there are.
  void serve() {
    await([&] { return update_tail(); });
    while (!sq_.empty()) {
      await_place();
      complete_one();
    }
  }
  // Waits for a place in the completion queue.
  void await_place() {
    if (!cq_.full()) return;
    await([&] {
      update_head();
      return !cq_.full();
    });
  }
  bool update_tail() {
    const auto moved = sq_.set_tail(doorbells_.load(0, nvme::device::ring_side::submission));
    check(moved != nvme::device::doorbell_update::invalid, "the tail lies within the ring");
    return !sq_.empty();
  }
  // Values that a hostile driver may have written.
  void look_at_tail() {
    static_cast<void>(sq_.set_tail(doorbells_.load(0, nvme::device::ring_side::submission)));
  }
  void look_at_head() {
    static_cast<void>(cq_.set_head(doorbells_.load(0, nvme::device::ring_side::completion)));
  }
  void update_head() {
    const auto moved = cq_.set_head(doorbells_.load(0, nvme::device::ring_side::completion));
    check(moved != nvme::device::doorbell_update::invalid, "the head lies within the ring");
  }
  void complete_one() { complete(*take_one()); }
  auto take_one() {
    const auto command = nvme::device::fetch_command(dma_, sq_.next_entry());
    sq_.advance();
    last_id_ = command->command_id();
    return command;
  }
  void complete(const nvme::submission_entry& command) {
    if (command.cdw11 != 0) (*data_)[command.cdw11 - 1].write(answer(command.cdw10));
    nvme::completion_entry entry{};
    entry.dw0 = answer(command.cdw10);
    entry.dw1 = command.cdw10;
    entry.sq_head = static_cast<std::uint16_t>(sq_.head);
    entry.dw3 = nvme::completion_dw3::of(command.command_id(), nvme::status{}, cq_.phase).raw;
    check(nvme::device::post_completion<Order>(dma_, cq_.next_slot(), entry), "the ring is mapped");
    cq_.advance();
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
  std::array<explorer::plain<std::uint32_t>, 4>* data_;
  std::uint16_t last_id_ = 0;
};

template <class Order>
[[nodiscard]] auto nvme_pair(nvme_setup setup) {
  return [setup](program& p) {
    const nvme_memory memory{p, setup.depth};
    p.thread("driver", [memory, setup] {
      auto queue = make_queue<Order>(memory);
      nvme_driver{queue, setup, memory}.run();
    });
    p.service("controller", [memory] {
      nvme_controller<Order> controller{memory};
      for (;;) controller.serve();
    });
  };
}

// A completion queue that is shorter than its submission queue: a place is given back by the CQ head alone,
// as where several submission queues complete into one. All commands are submitted at once.
template <class Order>
[[nodiscard]] auto nvme_short_completion_queue(std::uint32_t commands, std::uint32_t completions) {
  return [=](program& p) {
    const nvme_memory memory{p, commands + 1, completions};
    p.thread("driver", [=] {
      nvme::driver::submission_queue sq{memory.submission,
                                        explorer::register_doorbell{(*memory.doorbells)[0]}};
      nvme::driver::completion_queue<Order, explorer::register_doorbell> cq{
          memory.completion, explorer::register_doorbell{(*memory.doorbells)[1]}};
      for (std::uint32_t i = 0; i != commands; ++i) {
        nvme::submission_entry command{};
        command.cdw10 = i;
        sq.push(command);
      }
      sq.ring();
      for (std::uint32_t i = 0; i != commands; ++i) {
        nvme::completion_entry entry;
        await([&] { return cq.pop(entry); });
        check(entry.dw1 == i && entry.dw0 == answer(i), "completions arrive once and in order");
        cq.ring();
      }
    });
    p.service("controller", [memory] {
      nvme_controller<Order> controller{memory};
      for (;;) controller.serve();
    });
  };
}

}  // namespace model
