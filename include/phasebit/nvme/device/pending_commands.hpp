// SPDX-License-Identifier: BSL-1.0
// Commands that were fetched and are not completed yet, in memory that the user gives.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/zoned_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

enum class command_state : std::uint8_t {
  free,
  active,            // being worked on in this call
  submitted,         // at the media
  waits_for_media,   // the media was busy; `request` is submitted again
  waits_for_buffer,  // the bounce pool was empty
  waits_for_range,   // another command has its blocks to itself
  waits_for_first,   // second of a fused pair
  moves_data,        // between `buffer` and the host, by a port that completes later
};

// One of them. A user gives an array and never looks inside.
struct pending_command {
  static constexpr std::uint32_t none = block::bounce_pool::no_buffer;

  submission_entry entry{};
  block::media_request request{};
  void* media = nullptr;
  std::uint64_t lba = 0;
  std::uint64_t bytes = 0;   // of data in all
  std::uint64_t offset = 0;  // of it that is done
  std::uint64_t generation = 0;
  std::uint32_t part = 0;  // bytes of the operation at the media
  std::uint32_t next = none;
  std::uint32_t buffer = none;  // bounce buffers held
  std::uint32_t list = none;
  std::uint32_t index = 0;       // next namespace of a flush, range of a list
  std::uint32_t partner = none;  // first of a fused pair: the second
  std::uint32_t moves = 0;       // operations of the DMA port that are not delivered yet
  std::uint16_t sqid = 0;
  command_state state = command_state::free;
  bool fua = false;
  bool formatted = false;  // its namespace has metadata
  bool locked = false;     // others wait where their blocks overlap, see pending_io
  bool fused = false;
  bool writing = false;         // Copy: the part was read, and is being written
  bool filling = false;         // Write Zeroes: zeros are written from a buffer
  bool cancelled = false;       // ends with cancel_status unless it ends by itself first
  bool discarded = false;       // ends without a completion: its controller or queue is reset
  accepted_write zone_write{};  // in a zoned namespace
  bool resets_zone = false;     // zone `index` is being reset
  command_result result{};      // when it has ended
  status_code cancel_status = status_code::success;
};

// The memory that a controller, or one poll group of it, needs for asynchronous media. All of it
// outlives the controller and is used by it exclusively.
struct pending_memory {
  // Commands in flight; no more are fetched when all are used.
  std::span<pending_command> commands{};
  // Divided evenly among the commands: how many segments of host memory one media operation names.
  // A command with more of them becomes several operations, one after the other.
  std::span<block::media_segment> segments{};
  // At least two buffers.
  block::bounce_pool* bounce = nullptr;
};

// The table with its free list and its two queues of commands that wait.
class pending_table {
 public:
  static constexpr std::uint32_t none = pending_command::none;

  pending_table() noexcept = default;
  explicit pending_table(const pending_memory& memory) noexcept
      : commands_(memory.commands), segments_(memory.segments) {
    PHASEBIT_EXPECTS(!commands_.empty() && commands_.size() < 0xffff'ffff,
                     "media that complete later need memory for pending commands");
    PHASEBIT_EXPECTS(segments_.size() >= commands_.size(),
                     "each pending command needs a segment at least");
    segments_each_ = segments_.size() / static_cast<std::uint32_t>(commands_.size());
    for (std::size_t i = commands_.size(); i != 0; --i) {
      commands_[i - 1] = pending_command{};
      push_free(static_cast<std::uint32_t>(i - 1));
    }
  }

  [[nodiscard]] bool full() const noexcept { return free_ == none; }
  [[nodiscard]] std::uint32_t available() const noexcept { return size() - used_; }
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return used_; }
  [[nodiscard]] std::uint32_t size() const noexcept {
    return static_cast<std::uint32_t>(commands_.size());
  }
  [[nodiscard]] pending_command& operator[](std::uint32_t at) noexcept { return commands_[at]; }
  [[nodiscard]] std::span<block::media_segment> segments(std::uint32_t at) const noexcept {
    return segments_.subspan(at * segments_each_, segments_each_);
  }

  // A cleared command; the table is not full.
  [[nodiscard]] std::uint32_t take() noexcept {
    const std::uint32_t at = free_;
    pending_command& p = commands_[at];
    free_ = p.next;
    ++used_;
    const std::uint64_t generation = p.generation;
    p = pending_command{};
    p.generation = generation;
    p.state = command_state::active;
    return at;
  }
  void give(std::uint32_t at) noexcept {
    commands_[at].state = command_state::free;
    ++commands_[at].generation;
    --used_;
    push_free(at);
  }

  // Names one use of one entry: a tag of an earlier use finds nothing.
  [[nodiscard]] block::media_tag tag(std::uint32_t at) const noexcept {
    return commands_[at].generation << 32 | at;
  }
  [[nodiscard]] std::uint32_t find(block::media_tag tag,
                                   command_state state = command_state::submitted) const noexcept {
    const auto at = static_cast<std::uint32_t>(tag);
    if (at >= commands_.size() || this->tag(at) != tag || commands_[at].state != state) return none;
    return at;
  }

  // A queue of commands that wait, linked through `next`.
  class waiting_list {
   public:
    [[nodiscard]] bool empty() const noexcept { return first_ == none; }
    [[nodiscard]] std::uint32_t front() const noexcept { return first_; }
    [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
    void push_back(pending_table& t, std::uint32_t at) noexcept {
      t[at].next = none;
      if (empty()) {
        first_ = at;
      } else {
        t[last_].next = at;
      }
      last_ = at;
      ++size_;
    }
    void push_front(pending_table& t, std::uint32_t at) noexcept {
      t[at].next = first_;
      if (empty()) last_ = at;
      first_ = at;
      ++size_;
    }
    std::uint32_t pop_front(pending_table& t) noexcept {
      const std::uint32_t at = first_;
      first_ = t[at].next;
      --size_;
      return at;
    }
    // Takes out every command that `ends` accepts, which may not touch the list.
    template <class Ends>
    void remove_if(pending_table& t, Ends&& ends) noexcept {
      waiting_list kept;
      while (!empty()) {
        const std::uint32_t at = pop_front(t);
        if (!ends(at)) kept.push_back(t, at);
      }
      *this = kept;
    }

   private:
    std::uint32_t first_ = none;
    std::uint32_t last_ = none;
    std::uint32_t size_ = 0;
  };

  waiting_list for_media{};
  waiting_list for_buffers{};
  waiting_list for_ranges{};
  std::uint32_t fused = 0;  // commands of fused pairs in flight

 private:
  void push_free(std::uint32_t at) noexcept {
    commands_[at].next = free_;
    free_ = at;
  }

  std::span<pending_command> commands_{};
  std::span<block::media_segment> segments_{};
  std::size_t segments_each_ = 0;
  std::uint32_t free_ = none;
  std::uint32_t used_ = 0;
};

}  // namespace phasebit::nvme::device
