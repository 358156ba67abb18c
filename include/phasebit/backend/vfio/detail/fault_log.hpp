// SPDX-License-Identifier: BSL-1.0
// Accesses that an IOMMU stopped, read from the kernel's log: vfio has no interface for them.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace phasebit::backend::vfio::detail {

// One access that the IOMMU refused.
struct dma_fault {
  pcie::function_address function;  // segment 0 where the line has none
  bool has_segment = false;
  bus_addr address;
  bool write = false;  // by the device, to memory; false too where the line does not contain it
};

namespace detail {

// The text after `key`, up to the first of `ends`; nothing where the key or the end is missing.
[[nodiscard]] constexpr std::optional<std::string_view> text_after(std::string_view line,
                                                                   std::string_view key,
                                                                   std::string_view ends) noexcept {
  const auto at = line.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  line.remove_prefix(at + key.size());
  const auto end = line.find_first_of(ends);
  return end == std::string_view::npos ? line : line.substr(0, end);
}

[[nodiscard]] inline std::optional<std::uint64_t> hex_after(std::string_view line,
                                                            std::string_view key) noexcept {
  const auto found = text_after(line, key, " ]\n");
  if (!found) return std::nullopt;
  std::string_view digits = *found;
  if (digits.starts_with("0x")) digits.remove_prefix(2);
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace detail

// Reads a line of the kernel's log. Supported are the lines of intel-iommu (5.x and 6.x), amd-iommu
// (with and without the device's name in front) and arm-smmu-v3 (6.13). They are not a stable
// interface of the kernel: a line in another format is not a fault.
[[nodiscard]] inline std::optional<dma_fault> parse_dma_fault(std::string_view line) noexcept {
  std::optional<std::string_view> who;
  std::optional<std::uint64_t> where;
  bool write = false;
  if (line.find("DMAR:") != std::string_view::npos) {
    // DMAR: [DMA Write NO_PASID] Request device [00:04.0] fault addr 0x1000 [fault reason 0x05] ...
    who = detail::text_after(line, "Request device [", "]");
    where = detail::hex_after(line, "fault addr ");
    write = line.find("[DMA Write") != std::string_view::npos;
  } else if (line.find("IO_PAGE_FAULT") != std::string_view::npos) {
    // AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:00:04.0 domain=0x1 address=0x1000 flags=0x20]
    // vfio-pci 0000:00:04.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x1 address=0x1000 ...]
    who = detail::text_after(line, "device=", " ]");
    if (const auto head = line.find(": AMD-Vi"); !who && head != std::string_view::npos) {
      who = line.substr(0, head);
      who = who->substr(who->rfind(' ') + 1);
    }
    where = detail::hex_after(line, "address=");
    constexpr std::uint64_t rw = 1U << 5;  // AMD I/O Virtualization 3.06, 2.5.3: RW of the event
    write = (detail::hex_after(line, "flags=").value_or(0) & rw) != 0;
  } else if (line.find("F_TRANSLATION") != std::string_view::npos ||
             line.find("F_PERMISSION") != std::string_view::npos ||
             line.find("F_ADDR_SIZE") != std::string_view::npos) {
    // arm-smmu-v3 ...: event: F_TRANSLATION client: 0000:00:04.0 sid: 0x20 ssid: 0x0 iova: 0x1000 ...
    who = detail::text_after(line, "client: ", " ");
    where = detail::hex_after(line, "iova: ");
  }
  if (!who || !where) return std::nullopt;
  const auto function = pcie::parse_function_address(*who);
  if (!function) return std::nullopt;
  return dma_fault{.function = *function,
                   .has_segment = who->size() > 7,
                   .address = bus_addr{*where},
                   .write = write};
}

// The faults of one function since the log was opened, read from /dev/kmsg. The kernel writes a line
// some time after the access, and no more than about ten in five seconds: a reported fault did happen,
// but the absence of a report proves nothing. Move-only; one thread at a time.
class fault_log {
 public:
  fault_log() noexcept = default;

  // Errors: permission (kernel.dmesg_restrict without CAP_SYSLOG), not_found (no /dev/kmsg here, as
  // in many containers).
  [[nodiscard]] static result<fault_log> open(pcie::function_address function,
                                              const char* path = "/dev/kmsg") noexcept {
    auto file = posix::open_file(path, O_RDONLY | O_NONBLOCK);
    if (!file) {
      if (file.error().code != errc::permission) return file.error();
      return failure(errc::permission,
                     "the kernel's log, the only report of DMA that the IOMMU stopped, needs "
                     "CAP_SYSLOG, or kernel.dmesg_restrict=0")
          .of(path);
    }
    // Skips earlier records.
    if (::lseek(file->get(), 0, SEEK_END) < 0) {
      return posix::os_error("the kernel's log cannot be read").of(path);
    }
    fault_log made;
    made.file_ = std::move(*file);
    made.function_ = function;
    return made;
  }

  // The next fault of this function; none if none is logged within `nanoseconds`.
  [[nodiscard]] result<std::optional<dma_fault>> next(std::uint64_t nanoseconds = 0) noexcept {
    if (!file_) return failure(errc::not_ready, "the log of DMA faults is not open");
    const std::uint64_t ms = to_milliseconds(nanoseconds);
    bool waited = false;
    for (;;) {
      std::array<char, 2048> record{};
      const auto got = ::read(file_.get(), record.data(), record.size());
      if (got > 0) {
        const auto fault = parse({record.data(), static_cast<std::size_t>(got)});
        if (fault) return fault;
        continue;
      }
      // EPIPE: records were overwritten; the next read returns the oldest that is left.
      // EINVAL: a record that is longer than the buffer, none of ours.
      if (got < 0 && (errno == EPIPE || errno == EINTR || errno == EINVAL)) continue;
      if (got < 0 && errno != EAGAIN) return posix::os_error("the kernel's log cannot be read");
      if (ms == 0 || waited) return std::optional<dma_fault>{};
      const auto more = posix::wait_readable(file_.get(), ms);
      if (!more) return more.error();
      waited = !*more;
    }
  }

  // ... as an error: access_denied, and the value is the I/O address.
  [[nodiscard]] result<> check(std::uint64_t nanoseconds = 0) noexcept {
    const auto looked = next(nanoseconds);
    if (!looked) return looked.error();
    const std::optional<dma_fault>& fault = *looked;
    if (!fault) return {};
    std::array<char, 16> name{};
    return failure(errc::access_denied,
                   fault->write
                       ? "the IOMMU stopped a DMA write of the function to an I/O address that is "
                         "not mapped for it"
                       : "the IOMMU stopped a DMA read of the function from an I/O address that is "
                         "not mapped for it",
                   fault->address.value())
        .of(function_.print(name));
  }

 private:
  // A record is "priority,sequence,time,flags;text", then a newline and properties.
  [[nodiscard]] std::optional<dma_fault> parse(std::string_view record) const noexcept {
    const auto text = detail::text_after(record, ";", "\n");
    if (!text) return std::nullopt;
    const auto fault = parse_dma_fault(*text);
    if (!fault || fault->function.id != function_.id) return std::nullopt;
    if (fault->has_segment && fault->function.segment != function_.segment) return std::nullopt;
    return fault;
  }

  posix::unique_fd file_;
  pcie::function_address function_;
};

}  // namespace phasebit::backend::vfio::detail
