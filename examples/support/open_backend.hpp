// SPDX-License-Identifier: BSL-1.0
// The one place that knows every backend. A new one is a header support/backend_<name>.hpp with
//
//   template <class Use> result<> with_<name>(const backend_options&, Use& use);
//
// which opens its device and returns what use(opened{function, ...}) returned; its name in the list
// below; and a line in with_backend(). Every example has it then.
#pragma once

#include "support/backend_mmio.hpp"
#include "support/backend_options.hpp"
#include "support/backend_qtest.hpp"
#include "support/backend_simulated.hpp"
#include "support/backend_vfio.hpp"

#include <string>
#include <vector>

namespace example {

inline const std::vector<std::string>& backend_names() {
  static const std::vector<std::string> names{"simulated", "qtest", "vfio", "mmio"};
  return names;
}

// Opens the disk that the options name and calls `use` with an opened<Backend>.
template <class Use>
[[nodiscard]] phasebit::result<> with_backend(const backend_options& o, Use use) {
  if (o.backend == "qtest") return with_qtest(o, use);
  if (o.backend == "vfio") return with_vfio(o, use);
  if (o.backend == "mmio") return with_mmio(o, use);
  return with_simulated(o, use);
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
