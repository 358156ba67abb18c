// SPDX-License-Identifier: BSL-1.0
// The capabilities of the two sides of a vfio-user connection: the JSON text of a VERSION message.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/transport/vfio_user/messages.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace phasebit::transport::vfio_user {

// More descriptors than this in one message are no plausible capability of a peer.
inline constexpr std::uint64_t most_msg_fds = 1024;

// A side states what it accepts; the defaults are those of a text that does not name a member.
struct capabilities {
  std::uint32_t max_msg_fds = default_max_msg_fds;
  std::uint64_t max_data_xfer_size = default_max_transfer;
  std::uint32_t max_dma_maps = default_max_dma_maps;
  std::uint64_t pgsizes = 4096;
  bool write_multiple = false;
  bool twin_socket = false;
  std::uint32_t twin_fd_index = 0;  // of a reply: which of its descriptors is the second socket

  friend bool operator==(const capabilities&, const capabilities&) noexcept = default;
};

namespace detail {

// A reader of JSON (RFC 8259) that keeps nothing: members are visited as they come. Depth and length are
// bounded. Every false is a text that is no JSON, or deeper than 16 levels.
class json_reader {
 public:
  explicit constexpr json_reader(std::string_view text) noexcept : left_(text) {}

  // The next value, whichever it is, is skipped.
  [[nodiscard]] constexpr bool skip_value(int depth = 0) noexcept {
    if (depth == 16) return false;
    space();
    if (left_.empty()) return false;
    switch (left_.front()) {
      case '{':
        return object([&](std::string_view) noexcept { return skip_value(depth + 1); });
      case '[':
        return array(depth);
      case '"': {
        std::string_view ignored;
        return string(ignored);
      }
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        return number();
    }
  }
  // An object: member(name) reads or skips each value. Names are compared as they are written, without
  // escapes, and a name that comes twice is visited twice.
  template <class Member>
  [[nodiscard]] constexpr bool object(Member member) noexcept {
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      std::string_view name;
      space();
      if (!string(name) || !take(':') || !member(name)) return false;
    } while (take(','));
    return take('}');
  }
  [[nodiscard]] constexpr bool boolean(bool& value) noexcept {
    space();
    value = left_.starts_with("true");
    return word(value ? "true" : "false");
  }
  // A number that is a whole one from 0 to 2^64 - 1; others are no value for any capability.
  [[nodiscard]] constexpr bool unsigned_number(std::uint64_t& value) noexcept {
    space();
    const std::string_view before = left_;
    if (!number()) return false;
    const std::string_view digits = before.substr(0, before.size() - left_.size());
    value = 0;
    for (const char c : digits) {
      if (c < '0' || c > '9') return false;
      const auto digit = static_cast<std::uint64_t>(c - '0');
      if (value > (~std::uint64_t{0} - digit) / 10) return false;
      value = value * 10 + digit;
    }
    return true;
  }
  // Only white space is left.
  [[nodiscard]] constexpr bool at_end() noexcept {
    space();
    return left_.empty();
  }

 private:
  constexpr void space() noexcept {
    while (!left_.empty() && (left_.front() == ' ' || left_.front() == '\t' ||
                              left_.front() == '\n' || left_.front() == '\r')) {
      left_.remove_prefix(1);
    }
  }
  [[nodiscard]] constexpr bool take(char c) noexcept {
    space();
    if (left_.empty() || left_.front() != c) return false;
    left_.remove_prefix(1);
    return true;
  }
  [[nodiscard]] constexpr bool word(std::string_view w) noexcept {
    if (!left_.starts_with(w)) return false;
    left_.remove_prefix(w.size());
    return true;
  }
  [[nodiscard]] constexpr bool string(std::string_view& value) noexcept {
    if (left_.empty() || left_.front() != '"') return false;
    for (std::size_t i = 1; i < left_.size(); ++i) {
      if (static_cast<unsigned char>(left_[i]) < 0x20) return false;
      if (left_[i] == '\\') {
        ++i;
      } else if (left_[i] == '"') {
        value = left_.substr(1, i - 1);
        left_.remove_prefix(i + 1);
        return true;
      }
    }
    return false;
  }
  [[nodiscard]] constexpr bool digits() noexcept {
    std::size_t count = 0;
    while (count != left_.size() && left_[count] >= '0' && left_[count] <= '9') ++count;
    left_.remove_prefix(count);
    return count != 0;
  }
  [[nodiscard]] constexpr bool number() noexcept {
    if (left_.starts_with('-')) left_.remove_prefix(1);
    if (left_.size() > 1 && left_[0] == '0' && left_[1] >= '0' && left_[1] <= '9') return false;
    if (!digits()) return false;
    if (left_.starts_with('.')) {
      left_.remove_prefix(1);
      if (!digits()) return false;
    }
    if (left_.starts_with('e') || left_.starts_with('E')) {
      left_.remove_prefix(1);
      if (left_.starts_with('+') || left_.starts_with('-')) left_.remove_prefix(1);
      if (!digits()) return false;
    }
    return true;
  }
  [[nodiscard]] constexpr bool array(int depth) noexcept {
    if (!take('[')) return false;
    if (take(']')) return true;
    do {
      if (!skip_value(depth + 1)) return false;
    } while (take(','));
    return take(']');
  }

  std::string_view left_;
};

}  // namespace detail

// Reads a text without its terminating zero; an empty one states the defaults. Unknown members are
// ignored, as the protocol demands. Errors: protocol (no JSON, or a member of the wrong kind or out of
// range; the sentence names it).
[[nodiscard]] inline result<capabilities> parse_capabilities(std::string_view text) noexcept {
  capabilities found;
  if (text.empty()) return found;
  const char* why = "the capabilities of a VERSION message are no JSON object";
  const auto number = [&](detail::json_reader& reader, auto& to, std::uint64_t least,
                          std::uint64_t most, const char* wrong) noexcept {
    std::uint64_t value = 0;
    if (!reader.unsigned_number(value) || value < least || value > most) {
      why = wrong;
      return false;
    }
    to = static_cast<std::remove_reference_t<decltype(to)>>(value);
    return true;
  };
  const auto boolean = [&](detail::json_reader& reader, bool& to, const char* wrong) noexcept {
    if (reader.boolean(to)) return true;
    why = wrong;
    return false;
  };
  detail::json_reader reader{text};
  const auto capability = [&](std::string_view name) noexcept {
    if (name == "max_msg_fds") {
      return number(reader, found.max_msg_fds, 1, most_msg_fds,
                    "max_msg_fds is not a number from 1 to 1024");
    }
    if (name == "max_data_xfer_size") {
      return number(reader, found.max_data_xfer_size, 4096, std::uint64_t{1} << 32,
                    "max_data_xfer_size is not a number from 4096 to 2^32");
    }
    if (name == "max_dma_maps") {
      return number(reader, found.max_dma_maps, 1, 0xffff'ffff,
                    "max_dma_maps is not a number from 1 to 2^32 - 1");
    }
    if (name == "pgsizes") {
      return number(reader, found.pgsizes, 1, ~std::uint64_t{0},
                    "pgsizes is not a positive number");
    }
    if (name == "write_multiple") {
      return boolean(reader, found.write_multiple, "write_multiple is not a boolean");
    }
    if (name == "twin_socket") {
      return reader.object([&](std::string_view member) noexcept {
        if (member == "supported") {
          return boolean(reader, found.twin_socket, "twin_socket.supported is not a boolean");
        }
        if (member == "fd_index") {
          return number(reader, found.twin_fd_index, 0, most_msg_fds,
                        "twin_socket.fd_index is not the index of a descriptor");
        }
        return reader.skip_value(3);
      });
    }
    return reader.skip_value(2);
  };
  const bool good = reader.object([&](std::string_view name) noexcept {
    return name == "capabilities" ? reader.object(capability) : reader.skip_value(1);
  });
  if (!good || !reader.at_end()) return failure(errc::protocol, why, text.size());
  return found;
}

// The text with its terminating zero.
[[nodiscard]] inline std::string write_capabilities(const capabilities& c, bool is_reply) {
  std::string text = "{\"capabilities\":{\"max_msg_fds\":" + std::to_string(c.max_msg_fds) +
                     ",\"max_data_xfer_size\":" + std::to_string(c.max_data_xfer_size) +
                     ",\"max_dma_maps\":" + std::to_string(c.max_dma_maps) +
                     ",\"pgsizes\":" + std::to_string(c.pgsizes);
  if (c.write_multiple) text += ",\"write_multiple\":true";
  if (c.twin_socket) {
    text += ",\"twin_socket\":{\"supported\":true";
    if (is_reply) text += ",\"fd_index\":" + std::to_string(c.twin_fd_index);
    text += "}";
  }
  text += "}}";
  text.push_back('\0');
  return text;
}

}  // namespace phasebit::transport::vfio_user
