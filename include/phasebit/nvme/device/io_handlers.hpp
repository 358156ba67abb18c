// SPDX-License-Identifier: BSL-1.0
// The commands of the NVM command set: NVM Command Set 1.0, section 3.2.
#pragma once

#include <phasebit/nvme/device/host_data.hpp>
#include <phasebit/nvme/device/identify.hpp>
#include <phasebit/nvme/device/state.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// Executes one I/O command of the copy `c`, whole, before it returns: nothing of it is in flight
// afterwards. What a command is checked for, it is checked for before it changes anything.
template <class State>
class io_handlers {
  using media_type = typename State::media_type;

 public:
  explicit constexpr io_handlers(State& s) noexcept : s_(s) {}

  [[nodiscard]] command_result execute(const submission_entry& c) noexcept {
    const command_result done = dispatch(c);
    if (done.status.sct() == status_type::media && !(done.status == status_code::compare_failure)) {
      ++s_.health.media_errors;
    }
    return done;
  }

 private:
  [[nodiscard]] command_result dispatch(const submission_entry& c) noexcept {
    if (c.psdt() == data_pointer::reserved || c.fuse() != fused::none ||
        (c.psdt() != data_pointer::prp && !s_.config.scatter_gather_lists)) {
      return status_code::invalid_field;
    }
    const auto opcode = static_cast<nvm_opcode>(c.opcode());
    if (!known(opcode)) return status_code::invalid_opcode;
    const std::uint32_t nsid = c.nsid;
    if (opcode == nvm_opcode::flush && nsid == all_namespaces) return flush_all();
    if (nsid == 0 || nsid > s_.namespaces->highest_nsid()) {
      return status_code::invalid_namespace_or_format;
    }
    media_type* const media = s_.namespaces->find(nsid);
    if (media == nullptr) return status_code::invalid_field;
    return execute(c, opcode, *media);
  }

  [[nodiscard]] static bool known(nvm_opcode opcode) noexcept {
    for (nvm_opcode one : nvm_commands) {
      if (one == opcode) return true;
    }
    return false;
  }

  [[nodiscard]] command_result execute(const submission_entry& c, nvm_opcode opcode,
                                       media_type& media) noexcept {
    switch (opcode) {
      case nvm_opcode::flush:
        return status_of(media.flush());
      case nvm_opcode::dataset_management:
        return dataset_management(c, media);
      case nvm_opcode::copy:
        return copy(c, media);
      default:
        break;
    }
    const block_range range = block_range_of(c);
    const std::uint64_t bytes = std::uint64_t{range.blocks} << block::block_shift(media);
    const bool moves_data =
        opcode == nvm_opcode::read || opcode == nvm_opcode::write || opcode == nvm_opcode::compare;
    if (moves_data && too_long(bytes)) return status_code::invalid_field;
    if (!block::in_range(media, range.lba, range.blocks)) return status_code::lba_out_of_range;
    switch (opcode) {
      case nvm_opcode::read:
        ++s_.health.read_commands;
        s_.health.sectors_read += bytes >> 9;
        return move(c, bytes, access::write, block_read{media, s_.buffer, range.lba});
      case nvm_opcode::write: {
        if (block::read_only(media)) return status_code::write_to_read_only_range;
        ++s_.health.write_commands;
        s_.health.sectors_written += bytes >> 9;
        const auto done = move(c, bytes, access::read, block_write{media, s_.buffer, range.lba});
        return done == status_code::success ? settle(media, range.fua) : done;
      }
      case nvm_opcode::compare:
        ++s_.health.read_commands;
        s_.health.sectors_read += bytes >> 9;
        return move(c, bytes, access::read, block_compare{media, s_.buffer, range.lba});
      case nvm_opcode::verify:
        return verify(media, range);
      case nvm_opcode::write_zeroes: {
        if (block::read_only(media)) return status_code::write_to_read_only_range;
        const auto done = status_of(block::write_zeroes(media, range.lba, range.blocks));
        return done == status_code::success ? settle(media, range.fua) : done;
      }
      default:
        return status_code::invalid_opcode;
    }
  }

  [[nodiscard]] bool too_long(std::uint64_t bytes) const noexcept {
    return s_.config.mdts != 0 && bytes > std::uint64_t{4096} << s_.config.mdts;
  }
  template <class Move>
  [[nodiscard]] status_code move(const submission_entry& c, std::uint64_t bytes, access wanted,
                                 Move mover) noexcept {
    return host_data{*s_.dma, c, s_.regs.page_shift()}.for_each(bytes, wanted, mover);
  }

  // Forced unit access, or a host that has switched the cache off (Base 2.0, 5.27.1.4): what was
  // written is stable before the command completes. Media without a cache always are.
  [[nodiscard]] status_code settle(media_type& media, bool fua) noexcept {
    if (!s_.config.volatile_write_cache) return status_code::success;
    const bool cached = (s_.features.stored(feature_id::volatile_write_cache) & 1U) != 0;
    return fua || !cached ? status_of(media.flush()) : status_code::success;
  }

  [[nodiscard]] command_result flush_all() noexcept {
    for (std::uint32_t nsid = 1; nsid <= s_.namespaces->highest_nsid(); ++nsid) {
      media_type* const media = s_.namespaces->find(nsid);
      if (media == nullptr) continue;
      const auto done = status_of(media->flush());
      if (done != status_code::success) return done;
    }
    return status_code::success;
  }

  // Blocks of the media through the buffer, as many at once as fit.
  template <class Each>
  [[nodiscard]] status_code through_buffer(media_type& media, std::uint64_t lba,
                                           std::uint64_t blocks, Each&& each) noexcept {
    const unsigned shift = block::block_shift(media);
    const std::uint64_t at_once = block::max_block_size >> shift;
    while (blocks != 0) {
      const std::uint64_t now = blocks < at_once ? blocks : at_once;
      const auto bytes = std::span{s_.buffer.bytes}.first(static_cast<std::size_t>(now << shift));
      auto done = status_of(media.read(lba, bytes));
      if (done == status_code::success) done = each(bytes);
      if (done != status_code::success) return done;
      lba += now;
      blocks -= now;
    }
    return status_code::success;
  }

  [[nodiscard]] command_result verify(media_type& media, const block_range& range) noexcept {
    return through_buffer(media, range.lba, range.blocks,
                          [](std::span<std::byte>) noexcept { return status_code::success; });
  }

  // 3.2.3: hints but for Deallocate. All ranges are checked before the first is trimmed.
  [[nodiscard]] command_result dataset_management(const submission_entry& c,
                                                  media_type& media) noexcept {
    using f = dataset_management_command;
    static_assert(f::max_ranges * sizeof(dataset_range) <= sizeof(s_.buffer.bytes));
    const std::size_t ranges = std::size_t{f::nr.get(c.cdw10.get())} + 1;
    const auto list = std::span{s_.buffer.bytes}.first(ranges * sizeof(dataset_range));
    const auto got = host_data{*s_.dma, c, s_.regs.page_shift()}.from_host(list);
    if (got != status_code::success) return got;
    const auto range_at = [&](std::size_t i) noexcept {
      return load_wire<dataset_range>(list.subspan(i * sizeof(dataset_range)));
    };
    for (std::size_t i = 0; i != ranges; ++i) {
      const dataset_range range = range_at(i);
      if (!block::in_range(media, range.lba, range.blocks)) return status_code::lba_out_of_range;
    }
    if (!f::ad.get(c.cdw11.get())) return status_code::success;
    if (block::read_only(media)) return status_code::write_to_read_only_range;
    for (std::size_t i = 0; i != ranges; ++i) {
      const dataset_range range = range_at(i);
      if (range.blocks == 0) continue;
      const auto done = status_of(block::trim(media, range.lba, range.blocks));
      if (done != status_code::success) return done;
    }
    return status_code::success;
  }

  // 3.2.2, descriptor format 0: the ranges one after the other to the blocks from SDLBA on. Ranges
  // that overlap their own target give what copying block after block gives.
  [[nodiscard]] command_result copy(const submission_entry& c, media_type& media) noexcept {
    using f = copy_command;
    const std::uint32_t dw12 = c.cdw12;
    if (f::format.get(dw12) != 0) return status_code::invalid_field;
    const std::size_t count = std::size_t{f::nr.get(dw12)} + 1;
    if (count > max_copy_ranges) return status_code::command_size_limit_exceeded;
    std::array<copy_range, max_copy_ranges> all;
    const auto ranges = std::span{all}.first(count);
    const auto got =
        host_data{*s_.dma, c, s_.regs.page_shift()}.from_host(std::as_writable_bytes(ranges));
    if (got != status_code::success) return got;

    std::uint64_t total = 0;
    for (const copy_range& range : ranges) {
      const std::uint32_t blocks = std::uint32_t{range.nlb.get()} + 1;
      if (blocks > max_copy_range_blocks) return status_code::command_size_limit_exceeded;
      if (!block::in_range(media, range.lba, blocks)) return status_code::lba_out_of_range;
      total += blocks;
    }
    std::uint64_t to = c.cdw10_11();
    if (!block::in_range(media, to, total)) return status_code::lba_out_of_range;
    if (block::read_only(media)) return status_code::write_to_read_only_range;

    // DW0 of a Copy that failed: the first range that was not copied whole.
    std::uint32_t index = 0;
    for (const copy_range& range : ranges) {
      const auto done = through_buffer(media, range.lba, std::uint64_t{range.nlb.get()} + 1,
                                       [&](std::span<std::byte> bytes) noexcept {
                                         const std::uint64_t here = to;
                                         to += bytes.size() >> block::block_shift(media);
                                         return status_of(media.write(here, bytes));
                                       });
      if (done != status_code::success) return {done, index};
      ++index;
    }
    return settle(media, f::fua_bit.get(dw12));
  }

  State& s_;
};

}  // namespace phasebit::nvme::device
