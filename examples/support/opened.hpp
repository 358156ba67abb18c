// SPDX-License-Identifier: BSL-1.0
// The parts of an opened backend that an example uses.
#pragma once

#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <string>

namespace example {

template <phasebit::PcieBackend Backend>
struct opened {
  using backend_type = Backend;

  Backend& function;
  std::string about;     // which kind of disk the figures are of
  bool threads = true;   // queues may be driven by threads of their own
  bool scratch = false;  // the disk's contents may be overwritten
};

[[nodiscard]] inline phasebit::result<phasebit::pcie::function_address> address_of(
    const std::string& text) {
  const auto address = phasebit::pcie::parse_function_address(text);
  if (address) return *address;
  return phasebit::failure(phasebit::errc::invalid_argument,
                           "is no PCI address; write it as 0000:01:00.0")
      .of(text);
}

}  // namespace example
