// SPDX-License-Identifier: BSL-1.0
// Writes the segments of a scatter gather list, and the links between them.
#pragma once

#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/sgl/types.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::sgl {

// Takes data blocks one after another; how many there will be need not be known. Blocks that follow
// one another in memory become one. Nothing of the command changes before finish().
template <ListSource More>
class segment_writer {
 public:
  segment_writer(const segment_memory& first, More& more) noexcept : more_(more), memory_(first) {}

  // Returns false if the segments are too short. The descriptors written so far are then unusable.
  [[nodiscard]] bool put(sgl_type type, bus_addr begin, std::uint32_t bytes) noexcept {
    const bool continues = has_pending_ && type == type_ && bytes <= ~bytes_ &&
                           (type == sgl_type::bit_bucket || begin == begin_ + bytes_);
    if (continues) {
      bytes_ += bytes;
      return true;
    }
    if (has_pending_ && !write_pending()) return false;
    has_pending_ = true;
    type_ = type;
    begin_ = begin;
    bytes_ = bytes;
    return true;
  }

  // Makes `command` point to what was put: a single block lies in the command itself. Sets PSDT.
  // At least one block was put; false as above.
  [[nodiscard]] bool finish(submission_entry& command) noexcept {
    PHASEBIT_EXPECTS(has_pending_, "a scatter gather list without a block");
    const sgl_descriptor last = sgl_descriptor::of(type_, begin_, bytes_);
    if (used_ == 0 && link_ == nullptr) {
      set(command, last);
      return true;
    }
    if (!write_pending()) return false;
    link(sgl_type::last_segment);
    set(command, head_);
    return true;
  }

 private:
  // How a command that has an SGL already describes its metadata is not ours to change.
  static void set(submission_entry& command, const sgl_descriptor& d) noexcept {
    const data_pointer before = command.psdt();
    command.set_sgl(d, before == data_pointer::prp ? data_pointer::sgl_metadata_buffer : before);
  }
  [[nodiscard]] std::byte* slot(std::size_t i) const noexcept {
    return memory_.data() + i * descriptor_bytes;
  }
  static void store(std::byte* where, const sgl_descriptor& d) noexcept {
    __builtin_memcpy(where, &d, sizeof d);
  }

  [[nodiscard]] bool write_pending() noexcept {
    const std::size_t slots = memory_.size() / descriptor_bytes;
    if (used_ == slots && !next_segment()) return false;
    store(slot(used_++), sgl_descriptor::of(type_, begin_, bytes_));
    return true;
  }

  // The descriptor that points to the segment in use is written once the segment's length and
  // type are known: into the segment before it, or into the command.
  void link(sgl_type type) noexcept {
    const sgl_descriptor d =
        sgl_descriptor::of(type, memory_.bus, static_cast<std::uint32_t>(used_ * descriptor_bytes));
    if (link_ != nullptr) {
      store(link_, d);
    } else {
      head_ = d;
    }
  }

  // The last block of a full segment moves to the next one, and leaves its slot to the link.
  [[nodiscard]] bool next_segment() noexcept {
    if (used_ < 2) return false;
    const segment_memory next = more_();
    if (next.size() < 2 * descriptor_bytes) return false;
    PHASEBIT_EXPECTS(is_aligned(next.bus, 8) && is_aligned(memory_.bus, 8),
                     "a segment of a scatter gather list begins on 8 bytes");
    link(sgl_type::segment);
    link_ = slot(used_ - 1);
    __builtin_memcpy(next.data(), link_, descriptor_bytes);
    memory_ = next;
    used_ = 1;
    return true;
  }

  More& more_;
  segment_memory memory_;
  std::size_t used_ = 0;       // descriptors in memory_
  std::byte* link_ = nullptr;  // where the link to memory_ belongs; null: in the command
  sgl_descriptor head_{};
  sgl_type type_ = sgl_type::data_block;
  bus_addr begin_{};
  std::uint32_t bytes_ = 0;
  bool has_pending_ = false;
};

}  // namespace phasebit::nvme::sgl
