// SPDX-License-Identifier: BSL-1.0
// The places in the source that request an order, and the fault that one of them is given.
#pragma once

#include <phasebit/testing/explorer/detail/names.hpp>
#include <phasebit/testing/explorer/report.hpp>

#include <source_location>
#include <string_view>
#include <utility>
#include <vector>

namespace phasebit::testing::explorer::detail {

// An access or barrier as the code requests it.
struct request {
  operation what = operation::word_load;
  strength order = strength::relaxed;
  std::source_location where;
};

class call_sites {
 public:
  explicit call_sites(const std::vector<mutation>& faults) : faults_(faults) {}

  // The fault of this place, or nullptr.
  [[nodiscard]] const mutation* fault_at(const request& r) {
    note(r);
    const std::string_view file = r.where.file_name();
    const std::string_view function = r.where.function_name();
    for (const mutation& fault : faults_) {
      if (fault.what == r.what && file.ends_with(fault.file) &&
          function.find(fault.function) != std::string_view::npos) {
        return &fault;
      }
    }
    return nullptr;
  }
  [[nodiscard]] std::vector<call_site> take() { return std::exchange(sites_, {}); }

 private:
  struct known_site {
    operation what;
    const char* file;
    unsigned line;
  };

  void note(const request& r) {
    const char* const file = r.where.file_name();
    for (const known_site& k : known_) {
      if (k.what == r.what && k.file == file && k.line == r.where.line()) return;
    }
    known_.push_back({r.what, file, r.where.line()});
    sites_.push_back({r.what, file_of(file), r.where.function_name(), r.where.line()});
  }

  std::vector<mutation> faults_;
  std::vector<known_site> known_;
  std::vector<call_site> sites_;
};

}  // namespace phasebit::testing::explorer::detail
