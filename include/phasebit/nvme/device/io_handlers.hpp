// SPDX-License-Identifier: BSL-1.0
// The commands of the NVM command set over media that are done at once: NVM Command Set 1.0, 3.2.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/device/block_moves.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>
#include <phasebit/nvme/device/io_command.hpp>
#include <phasebit/nvme/device/state.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// Executes one I/O command of the copy `c`, whole, before it returns: data moves between the host's
// memory and the media in place. What a command is checked for, it is checked for before it changes
// anything.
template <class State>
class io_handlers {
  using media_type = typename State::media_type;
  using command = io_command<media_type>;
  using group_type = typename State::group_type;

 public:
  constexpr io_handlers(State& s, group_type& g) noexcept : s_(s), g_(g) {}

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE command_result execute(const submission_entry& c) noexcept {
    command what;
    if (const auto bad = check_io_command(s_, *g_.namespaces, c, what);
        bad != status_code::success) {
      return bad;
    }
    count_command(g_.health, what.opcode, what.bytes);
    const command_result done = execute_checked(c, what);
    if (is_media_error(done.status)) ++g_.health.media_errors;
    return done;
  }

 private:
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE command_result
  execute_checked(const submission_entry& c, const command& what) noexcept {
    switch (what.opcode) {
      case nvm_opcode::read:
        return move(c, what.bytes, access::write, block_read{*what.media, g_.buffer, what.lba});
      case nvm_opcode::write:
        return settle(
            what, move(c, what.bytes, access::read, block_write{*what.media, g_.buffer, what.lba}));
      case nvm_opcode::flush:
        return what.media == nullptr ? flush_all() : command_result{status_of(what.media->flush())};
      default:
        return execute_rare(c, what);
    }
  }
  // Apart, so that the commands above need no stack for the lists of these.
  [[nodiscard, gnu::noinline]] command_result execute_rare(const submission_entry& c,
                                                           const command& what) noexcept {
    media_type& media = *what.media;
    switch (what.opcode) {
      case nvm_opcode::compare:
        return move(c, what.bytes, access::read, block_compare{media, g_.buffer, what.lba});
      case nvm_opcode::verify:
        return verify(media, what);
      case nvm_opcode::write_zeroes:
        return settle(what, status_of(block::write_zeroes(media, what.lba, what.blocks)));
      case nvm_opcode::dataset_management:
        return dataset_management(c, media);
      case nvm_opcode::copy:
        return copy(c, what);
      default:
        return status_code::invalid_opcode;
    }
  }

  template <class Move>
  [[nodiscard]] status_code move(const submission_entry& c, std::uint64_t bytes, access wanted,
                                 Move mover) noexcept {
    return data_of(c).for_each(bytes, wanted, mover);
  }
  [[nodiscard]] auto data_of(const submission_entry& c) noexcept {
    return data_transfer{*s_.dma, c, s_.regs.page_shift()};
  }

  [[nodiscard]] status_code settle(const command& what, status_code written) noexcept {
    return what.stable && written == status_code::success ? status_of(what.media->flush())
                                                          : written;
  }

  [[nodiscard, gnu::noinline]] command_result flush_all() noexcept {
    for (std::uint32_t nsid = 1; nsid <= g_.namespaces->highest_nsid(); ++nsid) {
      media_type* const media = g_.namespaces->find(nsid);
      if (media == nullptr) continue;
      const auto done = status_of(media->flush());
      if (done != status_code::success) return done;
    }
    return status_code::success;
  }

  [[nodiscard]] command_result verify(media_type& media, const command& range) noexcept {
    const unsigned shift = block::block_shift(media);
    const std::uint64_t at_once = block::max_block_size >> shift;
    for (std::uint64_t done = 0; done != range.blocks;) {
      const std::uint64_t left = range.blocks - done;
      const std::uint64_t now = left < at_once ? left : at_once;
      const auto status = status_of(media.read(range.lba + done, buffer(now << shift)));
      if (status != status_code::success) return status;
      done += now;
    }
    return status_code::success;
  }

  [[nodiscard]] command_result dataset_management(const submission_entry& c,
                                                  media_type& media) noexcept {
    static_assert(dataset_management_command::max_ranges * sizeof(dataset_range) <=
                  block::max_block_size);
    const auto list = buffer(dataset_list_bytes(c));
    if (const auto got = data_of(c).from_host(list); got != status_code::success) return got;
    if (const auto bad = check_dataset_ranges(c, media, list); bad != status_code::success) {
      return bad;
    }
    if (!dataset_management_command::ad.get(c.cdw11.get())) return status_code::success;
    for (std::size_t at = 0; at != list.size(); at += sizeof(dataset_range)) {
      const auto range = load_wire<dataset_range>(list.subspan(at));
      if (range.blocks == 0) continue;
      const auto done = status_of(block::trim(media, range.lba, range.blocks));
      if (done != status_code::success) return done;
    }
    return status_code::success;
  }

  // 3.2.2, descriptor format 0: the ranges one after the other to the blocks from SDLBA on. Each
  // range arrives as it was when its turn came, also where it overlaps its destination.
  [[nodiscard]] command_result copy(const submission_entry& c, const command& what) noexcept {
    if (const auto bad = check_copy_fields(c); bad != status_code::success) return bad;
    std::array<std::byte, max_copy_ranges * sizeof(copy_range)> all;
    const auto list = std::span{all}.first(copy_list_bytes(c));
    if (const auto got = data_of(c).from_host(list); got != status_code::success) return got;
    media_type& media = *what.media;
    if (const auto bad = check_copy_ranges(c, media, list); bad != status_code::success) {
      return bad;
    }
    const unsigned shift = block::block_shift(media);
    const std::uint64_t at_once = block::max_block_size >> shift;
    std::uint64_t to = c.cdw10_11();
    // DW0 of a Copy that failed: the first range that was not copied whole.
    std::uint32_t index = 0;
    for (std::size_t at = 0; at != list.size(); at += sizeof(copy_range), ++index) {
      const auto range = load_wire<copy_range>(list.subspan(at));
      const std::uint64_t blocks = std::uint64_t{range.nlb.get()} + 1;
      for (std::uint64_t done = 0; done != blocks;) {
        const std::uint64_t part = blocks - done < at_once ? blocks - done : at_once;
        const std::uint64_t here = next_copy_part(range.lba, to, blocks, done, part);
        const auto bytes = buffer(part << shift);
        auto status = status_of(media.read(range.lba + here, bytes));
        if (status == status_code::success) status = status_of(media.write(to + here, bytes));
        if (status != status_code::success) return {status, index};
        done += part;
      }
      to += blocks;
    }
    return settle(what, status_code::success);
  }

  [[nodiscard]] std::span<std::byte> buffer(std::uint64_t bytes) noexcept {
    return std::span{g_.buffer.bytes}.first(int_cast<std::size_t>(bytes));
  }

  State& s_;
  group_type& g_;
};

}  // namespace phasebit::nvme::device
