// SPDX-License-Identifier: BSL-1.0
// A minimal controller at the other end of a queue pair: it runs in the same memory and thread,
// fetches the commands that doorbells report, and completes them as the test specifies.
#pragma once

#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace phasebit_test {

using namespace phasebit;

// A doorbell that is a word of memory.
struct memory_doorbell {
  std::uint32_t* word = nullptr;

  void ring(std::uint32_t value) noexcept {
    before_mmio_write();
    mmio_store<std::uint32_t>(word, value);
  }
};
static_assert(DoorbellSink<memory_doorbell>);

// Rings, lists and doorbells of one queue pair, and the device's idea of them.
class resident_controller {
 public:
  static constexpr std::uint64_t lists_bus = 0x4000'0000;

  explicit resident_controller(std::uint32_t depth, std::uint32_t list_bytes = 256)
      : depth_(depth),
        list_bytes_(list_bytes),
        submission_(depth),
        completion_(depth),
        lists_(static_cast<std::byte*>(
            ::operator new[](std::size_t{depth} * list_bytes, std::align_val_t{4096}))) {}

  [[nodiscard]] nvme::driver::queue_layout layout(std::uint32_t max_transfer = 131'072) {
    return {.qid = 1,
            .submission = submission_,
            .completion = completion_,
            .lists = {{lists_.get(), std::size_t{depth_} * list_bytes_}, bus_addr{lists_bus}},
            .list_bytes = list_bytes_,
            .max_transfer = max_transfer};
  }
  [[nodiscard]] memory_doorbell tail() { return {&tail_}; }
  [[nodiscard]] memory_doorbell head() { return {&head_}; }

  // Commands that the host has submitted by doorbell and that were not fetched yet.
  [[nodiscard]] bool pending() const { return fetch_ != tail_; }
  [[nodiscard]] const nvme::submission_entry& fetch() {
    const auto& entry = submission_[fetch_];
    fetch_ = fetch_ + 1 == depth_ ? 0 : fetch_ + 1;
    return entry;
  }
  // Whether there is a place for one more completion.
  [[nodiscard]] bool can_complete() const { return (post_ + 1) % depth_ != head_; }
  void complete(std::uint16_t command_id, nvme::status how = {}, std::uint32_t dw0 = 0) {
    nvme::completion_entry& entry = completion_[post_];
    entry.dw0 = dw0;
    entry.sq_head = static_cast<std::uint16_t>(fetch_);
    thread_order::store(entry.dw3, nvme::completion_dw3::of(command_id, how, phase_).raw);
    if (++post_ == depth_) {
      post_ = 0;
      phase_ = !phase_;
    }
  }
  // Completes everything that is pending, in order.
  void run() {
    while (pending()) complete(fetch().command_id());
  }

  [[nodiscard]] std::uint32_t head_doorbell() const { return head_; }
  [[nodiscard]] std::uint32_t tail_doorbell() const { return tail_; }
  // The PRP list at a bus address of the lists' memory.
  [[nodiscard]] const std::uint64_t* list_at(std::uint64_t bus) const {
    return reinterpret_cast<const std::uint64_t*>(lists_.get() + (bus - lists_bus));
  }

 private:
  struct aligned_delete {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{4096}); }
  };

  std::uint32_t depth_;
  std::uint32_t list_bytes_;
  std::vector<nvme::submission_entry> submission_;
  std::vector<nvme::completion_entry> completion_;
  std::unique_ptr<std::byte[], aligned_delete> lists_;
  std::uint32_t tail_ = 0;
  std::uint32_t head_ = 0;
  std::uint32_t fetch_ = 0;
  std::uint32_t post_ = 0;
  bool phase_ = true;
};

}  // namespace phasebit_test
