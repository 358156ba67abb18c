// SPDX-License-Identifier: BSL-1.0
// How a command ended, as its handler says it.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <cstdint>

namespace phasebit::nvme::device {

// What goes into the completion; `later` says that none is posted now.
struct command_result {
  nvme::status status{};
  std::uint32_t dw0 = 0;
  bool later = false;

  constexpr command_result() noexcept = default;
  constexpr command_result(status_code code) noexcept
      : status(may_work_later(code) ? nvme::status{code} : nvme::status{code}.with_dnr()) {}
  constexpr command_result(status_code code, std::uint32_t result) noexcept : command_result(code) {
    dw0 = result;
  }
  [[nodiscard]] constexpr bool ok() const noexcept { return status.ok(); }

 private:
  // Whoever sends a bad command again gets the same answer, and DNR says so; memory and media may
  // be better next time.
  [[nodiscard]] static constexpr bool may_work_later(status_code code) noexcept {
    return code == status_code::success || code == status_code::data_transfer_error ||
           code == status_code::internal_error || code == status_code::abort_requested ||
           code == status_code::capacity_exceeded || nvme::status{code}.sct() == status_type::media;
  }
};

// A media's failure in NVMe's words.
[[nodiscard]] constexpr status_code status_of(block::media_status media) noexcept {
  switch (media) {
    case block::media_status::good:
      return status_code::success;
    case block::media_status::out_of_range:
      return status_code::lba_out_of_range;
    case block::media_status::read_only:
      return status_code::write_to_read_only_range;
    case block::media_status::no_space:
      return status_code::capacity_exceeded;
    case block::media_status::read_failed:
      return status_code::unrecovered_read_error;
    case block::media_status::write_failed:
      return status_code::write_fault;
    case block::media_status::not_supported:
      return status_code::invalid_opcode;
    case block::media_status::cancelled:
      return status_code::abort_requested;
  }
  return status_code::internal_error;
}

}  // namespace phasebit::nvme::device
