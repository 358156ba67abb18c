// SPDX-License-Identifier: BSL-1.0
// The qtest protocol: a QEMU whose processor does nothing, and whose bus we drive by lines of text.
// One request, one answer, in order; QEMU's docs/devel/qtest.rst.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace phasebit::backend::qtest {

// One of the two address spaces of a PC: memory, or I/O ports.
enum class bus_space_kind : std::uint8_t { memory, io };

// Any number of threads; each request is whole. Writes are posted, as on PCIe: the call returns when
// the line is sent, and any later read waits for all of them. Nothing waits longer than the time
// limit. Once the other side does not answer, closes or sends an invalid answer, the connection has failed:
// reads return all ones, writes are ignored, and status() returns the first error.
class connection {
 public:
  connection(posix::unique_fd socket, std::uint32_t timeout_ms) noexcept
      : socket_(std::move(socket)), timeout_ms_(timeout_ms) {}
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  // `bytes` is 1, 2, 4 or 8 (8 for memory only).
  [[nodiscard]] std::uint64_t read(bus_space_kind space, std::uint64_t at,
                                   unsigned bytes) noexcept {
    const std::lock_guard lock{mutex_};
    return read_locked(space, at, bytes);
  }
  void write(bus_space_kind space, std::uint64_t at, unsigned bytes, std::uint64_t value) noexcept {
    const std::lock_guard lock{mutex_};
    write_locked(space, at, bytes, value);
  }
  // An index port of 32 bits and a data port behind it, as one access that no other thread can interrupt.
  [[nodiscard]] std::uint64_t read_indexed(std::uint16_t index_port, std::uint32_t index,
                                           std::uint16_t data_port, unsigned bytes) noexcept {
    const std::lock_guard lock{mutex_};
    write_locked(bus_space_kind::io, index_port, 4, index);
    return read_locked(bus_space_kind::io, data_port, bytes);
  }
  void write_indexed(std::uint16_t index_port, std::uint32_t index, std::uint16_t data_port,
                     unsigned bytes, std::uint64_t value) noexcept {
    const std::lock_guard lock{mutex_};
    write_locked(bus_space_kind::io, index_port, 4, index);
    write_locked(bus_space_kind::io, data_port, bytes, value);
  }

  // The socket, for another process to go on with after flush().
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

  // Waits until every posted write has been answered.
  [[nodiscard]] result<> flush() noexcept {
    const std::lock_guard lock{mutex_};
    (void)drain();
    return failed_ ? result<>{*failed_} : result<>{};
  }
  // The failure that ended the connection, if one did.
  [[nodiscard]] result<> status() noexcept {
    const std::lock_guard lock{mutex_};
    return failed_ ? result<>{*failed_} : result<>{};
  }

 private:
  static constexpr unsigned max_posted = 32;

  struct request {
    std::array<char, 64> text{};
    phasebit::detail::text_cursor cursor{text};
  };
  struct answer {
    bool has_value = false;
    std::uint64_t value = 0;
  };

  [[nodiscard]] std::uint64_t read_locked(bus_space_kind space, std::uint64_t at,
                                          unsigned bytes) noexcept {
    const std::uint64_t removed = ~std::uint64_t{0} >> (64 - 8 * bytes);
    request line;
    line.cursor.text(space == bus_space_kind::io ? "in" : "read").text(width(bytes)).text(" 0x");
    line.cursor.hex(at).text("\n");
    if (!send(line) || !drain()) return removed;
    const auto got = receive();
    return got && got->has_value ? got->value & removed : removed;
  }
  void write_locked(bus_space_kind space, std::uint64_t at, unsigned bytes,
                    std::uint64_t value) noexcept {
    request line;
    line.cursor.text(space == bus_space_kind::io ? "out" : "write").text(width(bytes)).text(" 0x");
    line.cursor.hex(at).text(" 0x").hex(value).text("\n");
    if (!send(line)) return;
    // The number of unanswered requests is bounded, so that neither side's socket buffer fills up.
    if (++posted_ == max_posted) (void)drain();
  }

  [[nodiscard]] static constexpr std::string_view width(unsigned bytes) noexcept {
    return bytes == 1 ? "b" : bytes == 2 ? "w" : bytes == 4 ? "l" : "q";
  }

  bool fail(const error& e) noexcept {
    if (!failed_) failed_ = e;
    posted_ = 0;
    return false;
  }
  bool send(const request& line) noexcept {
    if (failed_) return false;
    const auto sent =
        posix::write_full(socket_.get(), std::as_bytes(std::span{line.cursor.view()}));
    return sent ? true : fail(failure(errc::removed, "QEMU closed the qtest connection"));
  }
  bool drain() noexcept {
    while (posted_ != 0) {
      if (!receive()) return false;
      --posted_;
    }
    return !failed_;
  }

  // "OK", "OK 0x..."; interrupt notices in between are skipped.
  [[nodiscard]] std::optional<answer> receive() noexcept {
    for (;;) {
      const auto line = next_line();
      if (!line) return std::nullopt;
      if (line->starts_with("IRQ ")) continue;
      if (*line == "OK") return answer{};
      if (line->starts_with("OK ")) {
        const auto value = parse(line->substr(3));
        if (value) return answer{true, *value};
      }
      fail(failure(errc::protocol, "QEMU's answer is not one of the qtest protocol").of(*line));
      return std::nullopt;
    }
  }
  [[nodiscard]] static std::optional<std::uint64_t> parse(std::string_view text) noexcept {
    if (text.starts_with("0x")) text.remove_prefix(2);
    if (text.empty() || text.size() > 16) return std::nullopt;
    std::uint64_t value = 0;
    for (const char c : text) {
      const bool digit = c >= '0' && c <= '9';
      const bool letter = c >= 'a' && c <= 'f';
      if (!digit && !letter) return std::nullopt;
      value = value << 4 | static_cast<std::uint64_t>(digit ? c - '0' : c - 'a' + 10);
    }
    return value;
  }
  // A view into the buffer, valid until the next call.
  [[nodiscard]] std::optional<std::string_view> next_line() noexcept {
    if (failed_) return std::nullopt;
    for (;;) {
      for (std::size_t i = begin_; i != end_; ++i) {
        if (buffer_[i] != '\n') continue;
        const std::string_view line{buffer_.data() + begin_, i - begin_};
        begin_ = i + 1;
        return line;
      }
      if (begin_ != 0) {
        __builtin_memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= std::exchange(begin_, 0);
      }
      if (end_ == buffer_.size()) {
        fail(failure(errc::protocol, "QEMU sent a line that does not end"));
        return std::nullopt;
      }
      const auto ready = posix::wait_readable(socket_.get(), timeout_ms_);
      if (!ready || !*ready) {
        fail(ready ? failure(errc::timed_out, "QEMU did not answer in time", timeout_ms_)
                   : ready.error());
        return std::nullopt;
      }
      const auto got =
          posix::read_some(socket_.get(), std::as_writable_bytes(std::span{buffer_}.subspan(end_)));
      if (!got || *got == 0) {
        fail(failure(errc::removed, "QEMU closed the qtest connection"));
        return std::nullopt;
      }
      end_ += *got;
    }
  }

  std::mutex mutex_;
  posix::unique_fd socket_;
  std::uint32_t timeout_ms_;
  unsigned posted_ = 0;
  std::optional<error> failed_;
  std::array<char, 4096> buffer_{};
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace phasebit::backend::qtest
