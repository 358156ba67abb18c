// SPDX-License-Identifier: BSL-1.0
// The faults that --fault injects into a simulated disk.
#pragma once

#include <phasebit/backend/simulated.hpp>

#include <map>
#include <string>
#include <vector>

namespace example {

// A disk that fails after it has worked for a while, except for faults named never-*.
[[nodiscard]] inline const std::map<std::string, phasebit::backend::simulated::fault_plan>&
fault_plans() {
  namespace sim = phasebit::backend::simulated;
  constexpr std::uint64_t when = 500;  // completions, those of bring-up counted
  static const std::map<std::string, sim::fault_plan> plans{
      {"none", {}},
      {"never-ready", sim::fault_plan{}.stick(sim::never_ready)},
      {"fatal", sim::fault_plan{}.stick(sim::fatal)},
      {"unknown-id", sim::fault_plan{}.completion(when, sim::completion_fault::wrong_id, 0x8000)},
      {"lost", sim::fault_plan{}.completion(when, sim::completion_fault::drop)},
      {"phase", sim::fault_plan{}.completion(when, sim::completion_fault::wrong_phase)},
      {"status", sim::fault_plan{}.completion(when, sim::completion_fault::wrong_status, 0x281)},
      {"dma", sim::fault_plan{}.fail_dma(2 * when)},
      {"removed", sim::fault_plan{}.remove_at_completion(when)},
  };
  return plans;
}

inline const std::vector<std::string>& fault_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [name, plan] : fault_plans()) all.push_back(name);
    return all;
  }();
  return names;
}

}  // namespace example
