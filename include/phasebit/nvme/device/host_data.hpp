// SPDX-License-Identifier: BSL-1.0
// A command's data in the host's memory: found by its PRPs or SGL, piece by piece, and never beyond
// the bytes that the command is for.
#pragma once

#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/prp/walk.hpp>
#include <phasebit/nvme/sgl/walk.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// More descriptors than any driver writes for a transfer of MDTS, and few enough to bound the work.
inline constexpr std::uint32_t max_sgl_descriptors = 4096;

// A mover may also have skip(bytes): the host throws these bytes of its read away.
template <DmaTranslator Dma>
class host_data {
 public:
  host_data(Dma& dma, const submission_entry& command, unsigned page_shift) noexcept
      : dma_(&dma), command_(&command), page_shift_(page_shift) {}

  // Calls each(std::span<std::byte>) for the pieces of the command's data, in order, together `bytes`
  // long; `each` says how the command ends if not successfully. Data Transfer Error where memory
  // can not be reached; pieces before that have been visited.
  template <class Each>
  [[nodiscard]] status_code for_each(std::uint64_t bytes, access wanted, Each&& each) noexcept {
    const auto local = [&](bus_addr at, std::uint64_t count) noexcept {
      return local_pieces(at, count, wanted, each);
    };
    if (command_->psdt() == data_pointer::prp) {
      return prp::walk(*dma_, {command_->prp1, command_->prp2}, bytes, page_shift_, local);
    }
    const sgl::limits allowed{.wanted = wanted,
                              .max_descriptors = max_sgl_descriptors,
                              .longer_than_data = true,
                              .dword_granularity = false};
    return sgl::walk(*dma_, command_->sgl(), bytes, allowed, local,
                     [&](std::uint64_t count) noexcept {
                       if constexpr (requires { each.skip(count); }) {
                         return each.skip(count);
                       } else {
                         return status_code::sgl_descriptor_type_invalid;
                       }
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

  Dma* dma_;
  const submission_entry* command_;
  unsigned page_shift_;
};

}  // namespace phasebit::nvme::device
