// SPDX-License-Identifier: BSL-1.0
// The least that firmware with a queue of its own needs: one queue pair, submit and poll. run.sh prints its size.
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>

#include <cstdint>

using queue = phasebit::nvme::driver::queue_pair<phasebit::device_order,
                                                 phasebit::pcie::mmio_doorbell, std::uint32_t, 16>;

extern "C" bool submit_one(queue& q, const phasebit::nvme::submission_entry& command,
                           const phasebit::dma_region& data, std::uint32_t token) noexcept {
  const bool posted{q.submit_unchecked(command, data, token)};
  q.ring();
  return posted;
}
extern "C" unsigned poll_all(queue& q, void (*done)(std::uint32_t,
                                                    phasebit::nvme::status) noexcept) noexcept {
  return q.poll([done](std::uint32_t& token, phasebit::nvme::driver::completion c) noexcept {
    done(token, c.status());
  });
}
