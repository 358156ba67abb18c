// SPDX-License-Identifier: BSL-1.0
// The result of a command, as its handler returns it.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <cstdint>

namespace phasebit::nvme::device {

// Status, DW0 and DW1 of a completion; `later`: no completion is posted now.
struct command_result {
  nvme::status status{};
  std::uint32_t dw0 = 0;
  std::uint32_t dw1 = 0;  // Zone Append alone has it
  bool later = false;

  constexpr command_result() noexcept = default;
  constexpr command_result(status_code code) noexcept
      : status(may_work_later(code) ? nvme::status{code} : nvme::status{code}.with_dnr()) {}
  constexpr command_result(status_code code, std::uint32_t result) noexcept : command_result(code) {
    dw0 = result;
  }
  [[nodiscard]] constexpr bool ok() const noexcept { return status.ok(); }

 private:
  // Do Not Retry is set where a repeated command would fail again. After a memory error, a media
  // error or an abort a retry may work.
  [[nodiscard]] static constexpr bool may_work_later(status_code code) noexcept {
    return code == status_code::success || code == status_code::data_transfer_error ||
           code == status_code::internal_error || code == status_code::abort_requested ||
           code == status_code::aborted_queue_deletion || code == status_code::capacity_exceeded ||
           nvme::status{code}.sct() == status_type::media;
  }
};

// Whether a status counts as a media error in the health log. A Compare that finds a difference has
// done its work.
[[nodiscard]] constexpr bool is_media_error(nvme::status s) noexcept {
  return s.sct() == status_type::media && !(s == status_code::compare_failure);
}

// A media's failure as an NVMe status.
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
