// SPDX-License-Identifier: BSL-1.0
// A command's data in the host's memory: found by its PRPs or SGL, piece by piece, and never beyond
// the bytes that the command is for.
#pragma once

#include <phasebit/core/wire.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::nvme::device {

template <DmaTranslator Dma>
class host_data {
 public:
  host_data(Dma& dma, const submission_entry& command, unsigned page_shift) noexcept
      : dma_(&dma), command_(&command), page_shift_(page_shift) {}

  template <class Each>
  [[nodiscard]] status_code for_each(std::uint64_t bytes, access wanted, Each&& each) noexcept {
    if (command_->psdt() != data_pointer::prp) return status_code::sgl_descriptor_type_invalid;
    return prp_pieces(bytes, [&](bus_addr at, std::uint64_t count) noexcept {
      return local_pieces(at, count, wanted, each);
    });
  }

  [[nodiscard]] status_code to_host(std::span<const std::byte> data) noexcept {
    return for_each(data.size(), access::write, [&](std::span<std::byte> piece) noexcept {
      copy_shared(piece, data.first(piece.size()));
      data = data.subspan(piece.size());
      return status_code::success;
    });
  }
  [[nodiscard]] status_code from_host(std::span<std::byte> data) noexcept {
    return for_each(data.size(), access::read, [&](std::span<std::byte> piece) noexcept {
      copy_shared(data.first(piece.size()), piece);
      data = data.subspan(piece.size());
      return status_code::success;
    });
  }

 private:
  template <class Each>
  [[nodiscard]] status_code local_pieces(bus_addr at, std::uint64_t bytes, access wanted,
                                         Each& each) noexcept {
    while (bytes != 0) {
      const auto piece = dma_->translate(at, bytes, wanted);
      if (!piece || piece->bytes == 0 || piece->bytes > bytes) {
        return status_code::data_transfer_error;
      }
      const auto count = static_cast<std::size_t>(piece->bytes);
      const status_code done = each(std::span{pointer_of(piece->begin), count});
      if (done != status_code::success) return done;
      at += piece->bytes;
      bytes -= piece->bytes;
    }
    return status_code::success;
  }

  template <class Each>
  [[nodiscard]] status_code prp_pieces(std::uint64_t bytes, Each&& each) noexcept {
    const std::uint64_t page = std::uint64_t{1} << page_shift_;
    const std::uint64_t mask = page - 1;
    const std::uint64_t prp1 = command_->prp1;
    std::uint64_t list = command_->prp2;
    if (prp1 & 3U) return status_code::prp_offset_invalid;
    std::uint64_t now = page - (prp1 & mask);
    if (now > bytes) now = bytes;
    if (const auto done = each(bus_addr{prp1}, now); done != status_code::success) return done;
    bytes -= now;
    if (bytes == 0) return status_code::success;
    if (bytes <= page) {
      if (list & mask) return status_code::prp_offset_invalid;
      return each(bus_addr{list}, bytes);
    }
    if (list & 7U) return status_code::prp_offset_invalid;
    while (bytes != 0) {
      const auto entry = dma_read<le<std::uint64_t>>(*dma_, bus_addr{list});
      if (!entry) return status_code::data_transfer_error;
      const std::uint64_t value = *entry;
      if (value & mask) return status_code::prp_offset_invalid;
      if ((list & mask) == page - 8 && bytes > page) {
        list = value;
        continue;
      }
      now = page < bytes ? page : bytes;
      if (const auto done = each(bus_addr{value}, now); done != status_code::success) return done;
      bytes -= now;
      list += 8;
    }
    return status_code::success;
  }

  Dma* dma_;
  const submission_entry* command_;
  unsigned page_shift_;
};

}  // namespace phasebit::nvme::device
