// SPDX-License-Identifier: BSL-1.0
// The commands of the NVM command set over media that are done at once: NVM Command Set 1.0, 3.2.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/device/block_moves.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>
#include <phasebit/nvme/device/formatted_io.hpp>
#include <phasebit/nvme/device/io_command.hpp>
#include <phasebit/nvme/device/state.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::device {

// Executes one I/O command of the copy `c`, whole, before it returns: data moves between the host's
// memory and the media in place. All checks are made before anything changes.
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
    if (const auto bad = check_sanitize(s_); bad != status_code::success) return bad;
    if constexpr (formatted) {
      const auto bad = check_formatted(s_, *g_.namespaces, c, what);
      if (bad != status_code::success) return bad;
    }
    count_command(g_.health, what.opcode, what.bytes);
    const command_result done = [&]() noexcept {
      if constexpr (zoned) {
        return execute_zoned(c, what);
      } else {
        return dispatch(c, what);
      }
    }();
    if (is_media_error(done.status)) ++g_.health.media_errors;
    return done;
  }

 private:
  using namespaces_type = std::remove_pointer_t<decltype(group_type::namespaces)>;
  static constexpr bool formatted = FormattedNamespaces<namespaces_type>;
  static constexpr bool zoned = ZonedNamespaces<namespaces_type>;

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE command_result dispatch(const submission_entry& c,
                                                               const command& what) noexcept {
    if constexpr (formatted) {
      return execute_formatted(c, what);
    } else {
      return execute_checked(c, what);
    }
  }
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

  // -- zoned namespaces --

  [[nodiscard, gnu::noinline]] command_result execute_zoned(const submission_entry& c,
                                                            const command& what) noexcept {
    zone_table* const zones = what.media == nullptr ? nullptr : g_.namespaces->zones(c.nsid);
    if (zones == nullptr) return dispatch(c, what);
    if (what.opcode == nvm_opcode::zone_management_receive) return report_zones(s_, *zones, c);
    if (what.opcode == nvm_opcode::zone_management_send) return send_to_zones(c, *zones, what);
    submission_entry entry = c;
    command now = what;
    accepted_write accepted;
    const auto bad = begin_zone_access(*g_.namespaces, entry, now, accepted);
    if (bad != status_code::success) return bad;
    command_result done = dispatch(entry, now);
    end_zone_access(*g_.namespaces, c.nsid, accepted, done);
    return done;
  }
  [[nodiscard]] command_result send_to_zones(const submission_entry& c, zone_table& zones,
                                             const command& what) noexcept {
    const zone_send send = zone_send_of(zones, c);
    if (send.status != status_code::success) return send.status;
    for (std::size_t i = send.first; i != send.end; ++i) {
      if (send.all && !is_selected(send.action, zones.at(i).state)) continue;
      bool wait = false;
      const auto done = send.action == zone_send_action::reset
                            ? reset_zone(zones, i, *what.media)
                            : send_to_zone(zones, send.action, i, data_of(c), wait);
      if (done != status_code::success) return done;
    }
    return status_code::success;
  }
  [[nodiscard]] status_code reset_zone(zone_table& zones, std::size_t i,
                                       media_type& media) noexcept {
    if (const auto bad = zones.check_reset(i); bad != status_code::success) return bad;
    zones.begin_reset(i);
    const std::uint64_t blocks = zones.reset_blocks(i);
    const auto done = blocks == 0
                          ? status_code::success
                          : status_of(block::write_zeroes(media, zones.start_of(i), blocks));
    zones.end_reset(i, done == status_code::success);
    return done;
  }

  // -- namespaces with formats --

  [[nodiscard]] auto formatted_of(const submission_entry& c, const command& what) noexcept {
    return formatted_command{s_,
                             *g_.namespaces,
                             c,
                             g_.namespaces->format(c.nsid),
                             what.lba,
                             what.blocks,
                             block::block_shift(*what.media)};
  }
  [[nodiscard, gnu::noinline]] command_result execute_formatted(const submission_entry& c,
                                                                const command& what) noexcept {
    if (what.media == nullptr) return execute_checked(c, what);
    command_result done;
    if constexpr (ReservableNamespaces<std::remove_pointer_t<decltype(group_type::namespaces)>>) {
      if (is_reservation_command(what.opcode)) return execute_reservation(s_, *g_.namespaces, c);
    }
    if (what.opcode == nvm_opcode::write_uncorrectable) {
      g_.namespaces->mark_uncorrectable(c.nsid, what.lba, what.blocks, true);
      return done;
    }
    const bool ranged = what.opcode == nvm_opcode::copy || what.opcode == nvm_opcode::flush ||
                        what.opcode == nvm_opcode::dataset_management;
    done = ranged || g_.namespaces->format(c.nsid).metadata_bytes == 0
               ? execute_checked(c, what)
               : execute_with_metadata(c, what);
    if (done.ok() && changes_blocks(what.opcode)) {
      g_.namespaces->mark_uncorrectable(c.nsid, what.lba, what.blocks, false);
    }
    return done;
  }
  // As many blocks at a time as fit the buffer.
  [[nodiscard]] command_result execute_with_metadata(const submission_entry& c,
                                                     const command& what) noexcept {
    auto own = formatted_of(c, what);
    media_type& media = *what.media;
    if (what.opcode == nvm_opcode::write_zeroes) {
      const auto done = status_of(block::write_zeroes(media, what.lba, what.blocks));
      if (done == status_code::success) own.zero();
      return settle(what, done);
    }
    const unsigned shift = block::block_shift(media);
    const std::uint64_t at_once = block::max_block_size >> shift;
    for (std::uint64_t first = 0; first != what.blocks;) {
      const std::uint64_t left = what.blocks - first;
      const std::uint64_t now = left < at_once ? left : at_once;
      const auto data = buffer(now << shift);
      const auto metadata = metadata_buffer(own.format(), now);
      const auto done = what.opcode == nvm_opcode::write
                            ? write_part(own, media, what.lba, first, data, metadata)
                            : read_part(own, what, first, data, metadata);
      if (done != status_code::success) return done;
      first += now;
    }
    return settle(what, status_code::success);
  }
  template <class Own>
  [[nodiscard]] status_code write_part(Own& own, media_type& media, std::uint64_t lba,
                                       std::uint64_t first, std::span<std::byte> data,
                                       std::span<std::byte> metadata) noexcept {
    auto done = own.from_host(first, data, metadata);
    if (done == status_code::success) done = own.protect(first, data, metadata);
    if (done == status_code::success) done = status_of(media.write(lba + first, data));
    if (done == status_code::success) own.store(lba + first, metadata);
    return done;
  }
  template <class Own>
  [[nodiscard]] status_code read_part(Own& own, const command& what, std::uint64_t first,
                                      std::span<std::byte> data,
                                      std::span<std::byte> metadata) noexcept {
    auto done = status_of(what.media->read(what.lba + first, data));
    if (done != status_code::success) return done;
    own.load(what.lba + first, metadata);
    done = own.verify(first, data, metadata);
    if (done != status_code::success || what.opcode == nvm_opcode::verify) return done;
    return what.opcode == nvm_opcode::read ? own.to_host(first, data, metadata)
                                           : own.compare_host(first, data, metadata);
  }
  // The metadata of as many blocks as fit block_buffer.
  [[nodiscard]] std::span<std::byte> metadata_buffer(const namespace_format& f,
                                                     std::uint64_t blocks) noexcept {
    return std::span{g_.metadata.bytes}.first(int_cast<std::size_t>(blocks) * f.metadata_bytes);
  }
  // Marks deallocated or copied blocks: clears their metadata and the uncorrectable mark.
  void deallocated(const submission_entry& c, media_type& media, std::uint64_t lba,
                   std::uint64_t blocks) noexcept {
    if constexpr (formatted) {
      command what;
      what.media = &media;
      formatted_of(c, what).clear(lba, blocks);
      g_.namespaces->mark_uncorrectable(c.nsid, lba, blocks, false);
    }
  }
  // Copy of one part that was read into `bytes`.
  [[nodiscard]] status_code before_copy(const submission_entry& c, media_type& media,
                                        const copy_range& range, std::uint64_t from,
                                        std::uint64_t to, std::span<std::byte> bytes) noexcept {
    if constexpr (formatted) {
      command what;
      what.media = &media;
      const unsigned shift = block::block_shift(media);
      const std::uint64_t blocks = bytes.size() >> shift;
      if (g_.namespaces->any_uncorrectable(c.nsid, from, blocks)) {
        return status_code::unrecovered_read_error;
      }
      auto own = formatted_of(c, what);
      const auto metadata = metadata_buffer(own.format(), blocks);
      own.load(from, metadata);
      const auto read = own.verify(read_protection_of(c, range), from - range.lba, bytes, metadata);
      return read == status_code::success ? own.protect(to - c.cdw10_11(), bytes, metadata) : read;
    }
    return status_code::success;
  }
  void after_copy(const submission_entry& c, media_type& media, std::uint64_t to,
                  std::uint64_t blocks) noexcept {
    if constexpr (formatted) {
      command what;
      what.media = &media;
      auto own = formatted_of(c, what);
      own.store(to, metadata_buffer(own.format(), blocks));
      g_.namespaces->mark_uncorrectable(c.nsid, to, blocks, false);
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
      deallocated(c, media, range.lba, range.blocks);
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
    if constexpr (formatted) {
      const auto bad = check_copy_protection(c, g_.namespaces->format(c.nsid), list);
      if (bad != status_code::success) return bad;
    }
    if constexpr (zoned) {
      accepted_write accepted;
      const auto bad = begin_zone_copy(*g_.namespaces, c, list, accepted);
      if (bad != status_code::success) return bad;
      command_result done = copy_ranges(c, what, list);
      end_zone_access(*g_.namespaces, c.nsid, accepted, done);
      return done;
    } else {
      return copy_ranges(c, what, list);
    }
  }
  [[nodiscard]] command_result copy_ranges(const submission_entry& c, const command& what,
                                           std::span<const std::byte> list) noexcept {
    media_type& media = *what.media;
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
        if (status == status_code::success) {
          status = before_copy(c, media, range, range.lba + here, to + here, bytes);
        }
        if (status == status_code::success) status = status_of(media.write(to + here, bytes));
        if (status == status_code::success) after_copy(c, media, to + here, part);
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
