// SPDX-License-Identifier: BSL-1.0
// Selects the backend. To add one, write a header support/backend_<name>.hpp with
//
//   template <class Use> result<> with_<name>(const backend_options&, Use& use);
//
// which opens its device and returns the result of use(opened{function, ...}); add its name to
// backend_names() and a line to with_backend(). Every example then supports it.
#pragma once

#include "support/backend_mmio.hpp"
#include "support/backend_options.hpp"
#include "support/backend_qtest.hpp"
#include "support/backend_simulated.hpp"
#include "support/backend_vfio.hpp"
#include "support/fault_plans.hpp"

namespace example {

// Opens the disk that the options name and calls `use` with an opened<Backend>.
template <class Use>
[[nodiscard]] phasebit::result<> with_backend(const backend_options& o, Use use) {
  if (o.backend == "qtest") return with_qtest(o, use);
  if (o.backend == "vfio") return with_vfio(o, use);
  if (o.backend == "mmio") return with_mmio(o, use);
  return with_simulated(o, use);
}

}  // namespace example
