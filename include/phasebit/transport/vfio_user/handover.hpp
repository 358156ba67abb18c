// SPDX-License-Identifier: BSL-1.0
// The records with which one process hands a served device over to another: the connection, the client's
// memory, its eventfds and the device's state, over a unix socket. Both processes are builds of the same
// layout; sizes and versions are compared, and nothing else is trusted less than this process itself.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vfio_user/capabilities.hpp>
#include <phasebit/transport/vfio_user/dma_table.hpp>
#include <phasebit/transport/vfio_user/host.hpp>
#include <phasebit/transport/vfio_user/message_channel.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <poll.h>

namespace phasebit::transport::vfio_user {

// In message_header::command.
enum class record_kind : std::uint16_t {
  program = 0x100,  // the program's own
  device,
  server,
  msix_table,
  vectors,
  files,
  ranges,
};

// Of a server: the configuration space follows, and the sockets come with it.
struct server_record {
  static constexpr std::uint32_t current_version = 1;
  std::uint32_t version = 0;
  std::uint32_t config_bytes = 0;
  std::uint32_t vectors = 0;
  std::uint32_t ranges = 0;
  std::uint32_t sockets = 0;
  std::uint16_t next_id = 0;
  bool connected = false;
  bool negotiated = false;
  bool bus_master = false;
  capabilities peer{};
};
// Of one vector, in order; those with an eventfd have it among the descriptors.
struct vector_record {
  bool has_eventfd = false;
  bool masked = false;
  bool pending = false;
};
struct range_record {
  static constexpr std::uint32_t no_file = 0xffff'ffff;
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
  std::uint32_t file = no_file;  // index of those sent before
  access granted = access::read;
};

[[nodiscard]] inline result<> send_record(message_channel& to, record_kind kind,
                                          std::span<const std::byte> payload,
                                          std::span<const std::byte> more = {},
                                          std::span<const int> fds = {}) noexcept {
  return to.send({0, static_cast<std::uint16_t>(kind), 0, type_command | flag_no_reply, 0}, payload,
                 more, fds);
}
// Waits for the next record. Errors: timed_out, removed (the other process is gone), protocol (another
// record, or one that cannot be taken), io.
[[nodiscard]] inline result<> receive_record(message_channel& from, record_kind kind, message& to,
                                             std::uint64_t limit_ms = 10'000) {
  const std::uint64_t end = posix::steady_clock::now() + limit_ms * nanoseconds_per_ms;
  for (;;) {
    const auto got = from.receive(to);
    if (!got) return got.error();
    if (*got == receive_status::closed) {
      return failure(errc::removed, "the other process has ended the hand-over");
    }
    if (*got == receive_status::complete) break;
    const std::uint64_t now = posix::steady_clock::now();
    if (now >= end) return failure(errc::timed_out, "the other process does not go on");
    ::pollfd one{from.fd(), POLLIN, 0};
    static_cast<void>(::poll(&one, 1, posix::poll_timeout(now, end)));
  }
  if (to.refused != 0 || to.header.command != static_cast<std::uint16_t>(kind)) {
    return failure(errc::protocol, "the hand-over has another record than is due",
                   to.header.command);
  }
  return {};
}

// As many vectors at a time as one message has descriptors.
[[nodiscard]] inline result<> send_vectors(message_channel& to, const irq_vectors& irqs) {
  for (std::uint32_t first = 0; first < irqs.count(); first += max_fds) {
    std::vector<vector_record> records;
    std::vector<int> fds;
    for (std::uint32_t v = first; v != irqs.count() && v != first + max_fds; ++v) {
      const auto s = irqs.state_of(v);
      records.push_back({s.eventfd >= 0, s.masked, s.pending});
      if (s.eventfd >= 0) fds.push_back(s.eventfd);
    }
    const auto sent =
        send_record(to, record_kind::vectors, std::as_bytes(std::span{records}), {}, fds);
    if (!sent) return sent;
  }
  return {};
}
[[nodiscard]] inline result<> receive_vectors(message_channel& from, irq_vectors& irqs) {
  message m;
  for (std::uint32_t first = 0; first < irqs.count(); first += max_fds) {
    if (const auto got = receive_record(from, record_kind::vectors, m); !got) return got;
    const std::size_t count = std::min<std::size_t>(max_fds, irqs.count() - first);
    std::size_t used = 0;
    if (m.payload.size() != count * sizeof(vector_record)) {
      return failure(errc::protocol, "the hand-over has another number of vectors",
                     m.payload.size());
    }
    for (std::size_t i = 0; i != count; ++i) {
      vector_record r;
      std::memcpy(&r, m.payload.data() + i * sizeof r, sizeof r);
      posix::unique_fd fd;
      if (r.has_eventfd) {
        if (used == m.fds.size())
          return failure(errc::protocol, "an eventfd is missing", first + i);
        fd = std::move(m.fds[used++]);
      }
      irqs.restore(first + static_cast<std::uint32_t>(i), std::move(fd), r.masked, r.pending);
    }
  }
  return {};
}

// The files of the ranges, each once, then the ranges.
[[nodiscard]] inline result<> send_ranges(message_channel& to, const dma_table& table) {
  std::vector<const dma_table::memory_file*> files;
  std::vector<range_record> records;
  for (const auto& r : table.ranges()) {
    range_record one{r.begin, r.bytes, r.offset, range_record::no_file, r.granted};
    if (r.file) {
      const auto at = std::find(files.begin(), files.end(), r.file.get());
      one.file = static_cast<std::uint32_t>(at - files.begin());
      if (at == files.end()) files.push_back(r.file.get());
    }
    records.push_back(one);
  }
  const auto count = static_cast<std::uint32_t>(files.size());
  if (const auto sent = send_record(to, record_kind::files, std::as_bytes(std::span{&count, 1}));
      !sent) {
    return sent;
  }
  for (std::size_t first = 0; first < files.size(); first += max_fds) {
    std::vector<int> fds;
    for (std::size_t i = first; i != files.size() && i != first + max_fds; ++i) {
      fds.push_back(files[i]->fd.get());
    }
    if (const auto sent = send_record(to, record_kind::files, {}, {}, fds); !sent) return sent;
  }
  constexpr std::size_t at_once = 16'384;
  for (std::size_t first = 0; first < records.size(); first += at_once) {
    const auto part = std::span<const range_record>{records}.subspan(
        first, std::min(at_once, records.size() - first));
    if (const auto sent = send_record(to, record_kind::ranges, std::as_bytes(part)); !sent) {
      return sent;
    }
  }
  return {};
}
[[nodiscard]] inline result<> receive_ranges(message_channel& from, dma_table& table,
                                             std::uint32_t count) {
  message m;
  if (const auto got = receive_record(from, record_kind::files, m); !got) return got;
  std::uint32_t files_due = 0;
  if (m.payload.size() != sizeof files_due) {
    return failure(errc::protocol, "the hand-over does not have a number of files",
                   m.payload.size());
  }
  std::memcpy(&files_due, m.payload.data(), sizeof files_due);
  std::vector<posix::unique_fd> files;
  while (files.size() < files_due) {
    if (const auto got = receive_record(from, record_kind::files, m); !got) return got;
    if (m.fds.empty()) return failure(errc::protocol, "a file is missing", files.size());
    for (auto& fd : m.fds) files.push_back(std::move(fd));
  }
  for (std::uint32_t taken = 0; taken < count;) {
    if (const auto got = receive_record(from, record_kind::ranges, m); !got) return got;
    if (m.payload.empty() || m.payload.size() % sizeof(range_record) != 0) {
      return failure(errc::protocol, "the hand-over has no whole ranges", m.payload.size());
    }
    for (std::size_t at = 0; at != m.payload.size(); at += sizeof(range_record), ++taken) {
      range_record r;
      std::memcpy(&r, m.payload.data() + at, sizeof r);
      if (r.file != range_record::no_file && r.file >= files.size()) {
        return failure(errc::protocol, "a range is of a file that is not there", r.begin);
      }
      const auto added = r.file == range_record::no_file
                             ? table.add(r.begin, r.bytes, r.granted)
                             : table.add(r.begin, r.bytes, r.granted, files[r.file], r.offset);
      if (!added) return added;
    }
  }
  return {};
}

}  // namespace phasebit::transport::vfio_user
