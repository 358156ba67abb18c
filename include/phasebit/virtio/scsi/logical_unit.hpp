// SPDX-License-Identifier: BSL-1.0
// A logical unit of a SCSI target: a block device (SBC-3) over media. Commands are decoded here; what moves
// blocks is left to the queue that holds the buffers.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/virtio/spec/scsi_commands.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit::virtio::scsi {

struct logical_unit_options {
  std::string_view vendor{"phasebit", 8};       // at most 8 characters
  std::string_view product{"virtio disk", 11};  // at most 16
  std::string_view revision{"0.1", 3};          // at most 4
  std::string_view serial{"PHASEBIT0001",
                          12};  // at most 32; makes the unit serial number and T10 id
  std::uint64_t naa = 0;        // NAA identifier; 0: none
  std::uint32_t max_unmap_blocks = 0x20'0000;  // of one UNMAP descriptor, or WRITE SAME
  std::uint8_t physical_block_exp = 0;         // physical blocks of 2^n logical blocks
  bool read_only = false;
  bool unmap = true;  // thin provisioned: UNMAP and WRITE SAME with UNMAP
};

// The blocks, as the logical unit sees them.
struct geometry {
  std::uint64_t blocks = 0;
  std::uint32_t block_bytes = 512;
};

inline constexpr std::uint32_t max_unmap_descriptors = 16;

// The result of a command.
enum class action : std::uint8_t {
  refused,   // CHECK CONDITION with `wrong`
  done,      // GOOD, nothing is transferred
  respond,   // `response_bytes` bytes of the response, cut to the allocation length
  report,    // REPORT LUNS, which the target answers
  transfer,  // `blocks` at `lba` from or to the buffers
  flush,
  unmap,       // `list_bytes` of parameter list
  write_same,  // `blocks` at `lba`, one block of data unless `no_data`
};

struct decoded {
  scsi::action action = scsi::action::refused;
  sense wrong = invalid_command_operation_code;
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;
  std::uint32_t allocation = 0;      // allocation length
  std::uint32_t response_bytes = 0;  // before the cut
  std::uint32_t list_bytes = 0;
  bool writes = false;
  bool fua = false;
  bool deallocate = false;
  bool no_data = false;

  // Of a response of so many bytes, those that the allocation length leaves.
  [[nodiscard]] constexpr std::uint32_t cut(std::uint32_t bytes) const noexcept {
    return bytes < allocation ? bytes : allocation;
  }
};

// Big enough for every response but REPORT LUNS.
using response_buffer = std::array<std::byte, 128>;

// Decodes commands. Unit attention conditions are kept, one of each kind, and reported in the order of their
// precedence. One thread at a time.
class logical_unit {
 public:
  logical_unit() noexcept = default;
  explicit logical_unit(const logical_unit_options& options) noexcept
      : options_(options), present_(true) {}

  [[nodiscard]] const logical_unit_options& options() const noexcept { return options_; }
  // A place without a logical unit: INQUIRY and REPORT LUNS are served, all other commands refused.
  [[nodiscard]] bool present() const noexcept { return present_; }
  void set_present(bool present) noexcept { present_ = present; }

  // The next command but INQUIRY, REPORT LUNS and REQUEST SENSE ends with this condition.
  void raise(const sense& attention) noexcept {
    for (std::size_t i = 0; i != attentions.size(); ++i) {
      if (attentions[i] == attention) pending_ |= static_cast<std::uint8_t>(1U << i);
    }
  }

  // `response` is written for action::respond alone.
  [[nodiscard]] decoded decode(const cdb& c, const geometry& g,
                               response_buffer& response) noexcept {
    response = {};
    const auto op = static_cast<opcode>(c[0]);
    if (op == opcode::inquiry) return inquiry(c, response);
    if (op == opcode::report_luns) return report_luns(c);
    if (!present_) {
      if (op == opcode::request_sense)
        return respond_sense(c, logical_unit_not_supported, response);
      return refused(logical_unit_not_supported);
    }
    if (op == opcode::request_sense) return respond_sense(c, take_attention(), response);
    if (pending_ != 0) return refused(take_attention());
    // NACA requests auto contingent allegiance, which INQUIRY does not offer. The control byte is the last
    // of the CDB.
    if ((static_cast<unsigned>(c[control_byte(op)]) & 4U) != 0)
      return refused(invalid_field_in_cdb);
    switch (op) {
      case opcode::test_unit_ready:
        return {.action = action::done};
      case opcode::start_stop_unit:
        // START without a power condition; the medium can neither be stopped nor ejected.
        return (static_cast<unsigned>(c[4]) & 0xf3U) == 1 ? decoded{.action = action::done}
                                                          : refused(invalid_field_in_cdb);
      case opcode::mode_sense_6:
        return mode_sense(c, g, response, false);
      case opcode::mode_sense_10:
        return mode_sense(c, g, response, true);
      case opcode::read_capacity_10:
        return read_capacity_short(c, g, response);
      case opcode::service_action_in_16:
        return read_capacity_long(c, g, response);
      case opcode::read_6:
      case opcode::write_6: {
        const std::uint64_t blocks = get_be(c, 4, 1);
        return transfer(g, op == opcode::write_6, false, get_be(c, 1, 3) & 0x1f'ffff,
                        blocks == 0 ? 256 : blocks);
      }
      case opcode::read_10:
      case opcode::write_10:
        return protectable(c)
                   ? refused(invalid_field_in_cdb)
                   : transfer(g, op == opcode::write_10, fua(c), get_be(c, 2, 4), get_be(c, 7, 2));
      case opcode::read_12:
      case opcode::write_12:
        return protectable(c)
                   ? refused(invalid_field_in_cdb)
                   : transfer(g, op == opcode::write_12, fua(c), get_be(c, 2, 4), get_be(c, 6, 4));
      case opcode::read_16:
      case opcode::write_16:
        return protectable(c)
                   ? refused(invalid_field_in_cdb)
                   : transfer(g, op == opcode::write_16, fua(c), get_be(c, 2, 8), get_be(c, 10, 4));
      case opcode::synchronize_cache_10:
        return synchronize(g, get_be(c, 2, 4), get_be(c, 7, 2));
      case opcode::synchronize_cache_16:
        return synchronize(g, get_be(c, 2, 8), get_be(c, 10, 4));
      case opcode::unmap:
        return unmap(c);
      case opcode::write_same_10:
        return write_same(g, c, get_be(c, 2, 4), get_be(c, 7, 2), false);
      case opcode::write_same_16:
        return write_same(g, c, get_be(c, 2, 8), get_be(c, 10, 4), true);
      default:
        return refused(invalid_command_operation_code);
    }
  }

  [[nodiscard]] static decoded refused(const sense& why) noexcept { return {.wrong = why}; }

 private:
  static constexpr std::array<sense, 4> attentions{
      power_on, bus_device_reset, reported_luns_data_has_changed, capacity_data_has_changed};

  [[nodiscard]] sense take_attention() noexcept {
    for (std::size_t i = 0; i != attentions.size(); ++i) {
      const auto bit = static_cast<std::uint8_t>(1U << i);
      if ((pending_ & bit) == 0) continue;
      pending_ = static_cast<std::uint8_t>(pending_ & ~bit);
      return attentions[i];
    }
    return no_sense;
  }
  [[nodiscard]] static constexpr std::size_t control_byte(opcode op) noexcept {
    switch (static_cast<unsigned>(op) >> 5) {
      case 0:
        return 5;
      case 1:
      case 2:
        return 9;
      case 4:
        return 15;
      default:
        return 11;
    }
  }
  // RDPROTECT or WRPROTECT requests protection information, which the logical unit does not have.
  [[nodiscard]] static bool protectable(const cdb& c) noexcept {
    return (static_cast<unsigned>(c[1]) & 0xe0U) != 0;
  }
  [[nodiscard]] static bool fua(const cdb& c) noexcept {
    return (static_cast<unsigned>(c[1]) & 0x08U) != 0;
  }
  [[nodiscard]] static decoded respond(std::size_t bytes, std::uint64_t allocation) noexcept {
    return {.action = action::respond,
            .allocation = static_cast<std::uint32_t>(allocation),
            .response_bytes = static_cast<std::uint32_t>(bytes)};
  }
  [[nodiscard]] static bool in_range(const geometry& g, std::uint64_t lba,
                                     std::uint64_t blocks) noexcept {
    return lba <= g.blocks && blocks <= g.blocks - lba;
  }

  [[nodiscard]] decoded transfer(const geometry& g, bool writes, bool stable, std::uint64_t lba,
                                 std::uint64_t blocks) const noexcept {
    if (writes && options_.read_only) return refused(write_protected);
    if (!in_range(g, lba, blocks)) return refused(lba_out_of_range);
    if (blocks == 0) return {.action = action::done};
    return {
        .action = action::transfer, .lba = lba, .blocks = blocks, .writes = writes, .fua = stable};
  }
  // A range of 0 blocks reaches to the end. The media flushes everything.
  [[nodiscard]] static decoded synchronize(const geometry& g, std::uint64_t lba,
                                           std::uint64_t blocks) noexcept {
    if (!in_range(g, lba, blocks)) return refused(lba_out_of_range);
    return {.action = action::flush};
  }
  [[nodiscard]] decoded unmap(const cdb& c) const noexcept {
    if (!options_.unmap) return refused(invalid_command_operation_code);
    if ((static_cast<unsigned>(c[1]) & 1U) != 0) return refused(invalid_field_in_cdb);  // ANCHOR
    if (options_.read_only) return refused(write_protected);
    const auto bytes = static_cast<std::uint32_t>(get_be(c, 7, 2));
    if (bytes == 0) return {.action = action::done};
    if (bytes < 8) return refused(parameter_list_length_error);
    return {.action = action::unmap, .list_bytes = bytes, .writes = true};
  }
  [[nodiscard]] decoded write_same(const geometry& g, const cdb& c, std::uint64_t lba,
                                   std::uint64_t blocks, bool long_cdb) const noexcept {
    const auto flags = static_cast<unsigned>(c[1]);
    const bool deallocate = (flags & 0x08U) != 0;
    // WRPROTECT, ANCHOR, and the obsolete PBDATA and LBDATA; NDOB is of the long command alone.
    if ((flags & (long_cdb ? 0xf6U : 0xf7U)) != 0) return refused(invalid_field_in_cdb);
    if (deallocate && !options_.unmap) return refused(invalid_field_in_cdb);
    if (options_.read_only) return refused(write_protected);
    // WSNZ is reported: 0 blocks do not mean "to the end".
    if (blocks == 0 || blocks > options_.max_unmap_blocks) return refused(invalid_field_in_cdb);
    if (!in_range(g, lba, blocks)) return refused(lba_out_of_range);
    return {.action = action::write_same,
            .lba = lba,
            .blocks = blocks,
            .writes = true,
            .deallocate = deallocate,
            .no_data = long_cdb && (flags & 1U) != 0};
  }

  [[nodiscard]] static decoded report_luns(const cdb& c) noexcept {
    const auto allocation = static_cast<std::uint32_t>(get_be(c, 6, 4));
    const auto select = static_cast<std::uint8_t>(c[2]);
    if (allocation < 16 || select > 2) return refused(invalid_field_in_cdb);
    return {.action = action::report, .allocation = allocation, .no_data = select == 1};
  }
  [[nodiscard]] static decoded respond_sense(const cdb& c, const sense& s,
                                             response_buffer& to) noexcept {
    if ((static_cast<unsigned>(c[1]) & 1U) != 0) return refused(invalid_field_in_cdb);  // DESC
    const auto bytes = fixed_sense(s);
    copy_bytes(to, 0, bytes);
    return respond(bytes.size(), get_be(c, 4, 1));
  }

  static void copy_bytes(std::span<std::byte> to, std::size_t offset,
                         std::span<const std::byte> from) noexcept {
    for (std::size_t i = 0; i != from.size(); ++i) to[offset + i] = from[i];
  }
  // `length` characters, filled with spaces.
  static void copy_text(std::span<std::byte> to, std::size_t offset, std::size_t length,
                        std::string_view text) noexcept {
    for (std::size_t i = 0; i != length; ++i) {
      to[offset + i] = static_cast<std::byte>(i < text.size() ? text[i] : ' ');
    }
  }

  // ---- INQUIRY: SPC-4, 6.6 and 7.8; SBC-3, 6.6 ----

  [[nodiscard]] decoded inquiry(const cdb& c, response_buffer& to) const noexcept {
    const auto page = static_cast<std::uint8_t>(c[2]);
    const auto flags = static_cast<unsigned>(c[1]);
    const std::uint64_t allocation = get_be(c, 3, 2);
    if ((flags & ~1U) != 0) return refused(invalid_field_in_cdb);
    // No device can be there at a place without a logical unit.
    to[0] = present_ ? std::byte{0} : std::byte{0x7f};
    if ((flags & 1U) == 0) {
      if (page != 0) return refused(invalid_field_in_cdb);
      to[2] = std::byte{6};     // SPC-4
      to[3] = std::byte{0x12};  // HiSup, response data format 2
      to[4] = std::byte{74 - 5};
      to[7] = std::byte{2};  // CmdQue
      copy_text(to, 8, 8, options_.vendor);
      copy_text(to, 16, 16, options_.product);
      copy_text(to, 32, 4, options_.revision);
      put_be(to, 58, 2, 0x00a0);  // SAM-5
      put_be(to, 60, 2, 0x0460);  // SPC-4
      put_be(to, 62, 2, 0x04c0);  // SBC-3
      return respond(74, allocation);
    }
    if (!present_ && page != 0) return refused(logical_unit_not_supported);
    to[1] = std::byte{page};
    const std::size_t bytes = vpd_page(page, to);
    if (bytes == 0) return refused(invalid_field_in_cdb);
    put_be(to, 2, 2, bytes - 4);
    return respond(bytes, allocation);
  }
  // Length of the page; 0: there is none.
  [[nodiscard]] std::size_t vpd_page(std::uint8_t page, std::span<std::byte> to) const noexcept {
    switch (page) {
      case 0x00: {
        std::size_t at = 4;
        for (const unsigned each : {0x00U, 0x80U, 0x83U, 0xb0U, 0xb1U, 0xb2U}) {
          if (present_ || each == 0) to[at++] = static_cast<std::byte>(each);
        }
        return at;
      }
      case 0x80: {
        const std::size_t length = options_.serial.size() < 32 ? options_.serial.size() : 32;
        copy_text(to, 4, length, options_.serial);
        return 4 + length;
      }
      case 0x83: {
        // T10 vendor ID based, then NAA.
        const std::size_t length = options_.serial.size() < 32 ? options_.serial.size() : 32;
        to[4] = std::byte{2};  // ASCII
        to[5] = std::byte{1};
        to[7] = static_cast<std::byte>(8 + length);
        copy_text(to, 8, 8, options_.vendor);
        copy_text(to, 16, length, options_.serial);
        std::size_t at = 16 + length;
        if (options_.naa != 0) {
          to[at] = std::byte{1};  // binary
          to[at + 1] = std::byte{3};
          to[at + 3] = std::byte{8};
          put_be(to, at + 4, 8, options_.naa);
          at += 12;
        }
        return at;
      }
      case 0xb0:               // Block limits
        to[4] = std::byte{1};  // WSNZ
        if (options_.unmap) {
          put_be(to, 20, 4, options_.max_unmap_blocks);
          put_be(to, 24, 4, max_unmap_descriptors);
          put_be(to, 28, 4, 1);
        }
        put_be(to, 36, 8, options_.max_unmap_blocks);  // of WRITE SAME
        return 64;
      case 0xb1:              // Block device characteristics
        put_be(to, 4, 2, 1);  // does not rotate
        return 64;
      case 0xb2:  // Logical block provisioning
        if (options_.unmap) {
          to[5] = std::byte{0xe0};  // UNMAP, WRITE SAME(16) and (10) with UNMAP
          to[6] = std::byte{2};     // thin
        }
        return 8;
      default:
        return 0;
    }
  }

  // ---- capacity: SBC-3, 5.15 and 5.16 ----

  [[nodiscard]] static decoded read_capacity_short(const cdb& c, const geometry& g,
                                                   response_buffer& to) noexcept {
    // Partial medium indicator and its address are obsolete.
    if ((static_cast<unsigned>(c[8]) & 1U) != 0 || get_be(c, 2, 4) != 0) {
      return refused(invalid_field_in_cdb);
    }
    const std::uint64_t last = g.blocks - 1;
    put_be(to, 0, 4, last < 0xffff'ffff ? last : 0xffff'ffff);
    put_be(to, 4, 4, g.block_bytes);
    return respond(8, 8);
  }
  [[nodiscard]] decoded read_capacity_long(const cdb& c, const geometry& g,
                                           response_buffer& to) const noexcept {
    if ((static_cast<unsigned>(c[1]) & 0x1fU) != read_capacity_16 ||
        (static_cast<unsigned>(c[14]) & 1U) != 0 || get_be(c, 2, 8) != 0) {
      return refused(invalid_field_in_cdb);
    }
    put_be(to, 0, 8, g.blocks - 1);
    put_be(to, 8, 4, g.block_bytes);
    to[13] = static_cast<std::byte>(options_.physical_block_exp & 0xfU);
    if (options_.unmap) to[14] = std::byte{0x80};  // LBPME; what is unmapped need not read as zeros
    return respond(32, get_be(c, 10, 4));
  }

  // ---- MODE SENSE: SPC-4, 6.11, 7.5; SBC-3, 6.5 ----

  [[nodiscard]] decoded mode_sense(const cdb& c, const geometry& g, response_buffer& to,
                                   bool long_header) const noexcept {
    const auto control = static_cast<unsigned>(c[2]) >> 6;
    const auto page = static_cast<unsigned>(c[2]) & 0x3fU;
    const auto subpage = static_cast<unsigned>(c[3]);
    const bool no_descriptor = (static_cast<unsigned>(c[1]) & 0x08U) != 0;
    if (control == 3) return refused(saving_parameters_not_supported);
    if (subpage != 0 && subpage != 0xff) return refused(invalid_field_in_cdb);
    if (page != 0x08 && page != 0x0a && page != 0x3f) return refused(invalid_field_in_cdb);
    const std::size_t header = long_header ? 8 : 4;
    std::size_t at = header;
    if (!no_descriptor) {
      put_be(to, at, 4, g.blocks < 0xffff'ffff ? g.blocks : 0xffff'ffff);
      put_be(to, at + 4, 4, g.block_bytes);
      at += 8;
    }
    const bool changeable = control == 1;
    if (page == 0x08 || page == 0x3f) {
      to[at] = std::byte{0x08};
      to[at + 1] = std::byte{0x12};
      if (!changeable)
        to[at + 2] = std::byte{4};  // WCE: writes are stable after a flush or with FUA
      at += 20;
    }
    if (page == 0x0a || page == 0x3f) {
      to[at] = std::byte{0x0a};
      to[at + 1] = std::byte{0x0a};
      if (!changeable) to[at + 3] = std::byte{0x10};  // commands may be reordered
      at += 12;
    }
    const std::byte specific = static_cast<std::byte>((options_.read_only ? 0x80U : 0U) | 0x10U);
    if (long_header) {
      put_be(to, 0, 2, at - 2);
      to[3] = specific;  // WP, DPOFUA
      put_be(to, 6, 2, no_descriptor ? 0 : 8);
      return respond(at, get_be(c, 7, 2));
    }
    to[0] = static_cast<std::byte>(at - 1);
    to[2] = specific;
    to[3] = no_descriptor ? std::byte{0} : std::byte{8};
    return respond(at, get_be(c, 4, 1));
  }

  logical_unit_options options_{};
  bool present_ = false;
  std::uint8_t pending_ = 0;
};

}  // namespace phasebit::virtio::scsi
