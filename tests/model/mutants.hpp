// SPDX-License-Identifier: BSL-1.0
// Weakened orderings, and what becomes of a model that is run with one.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include <model/support.hpp>

namespace model {

using effect = explorer::mutation::effect;

// The models that catch a weakened ordering: C++20, x86, Arm, RISC-V.
struct caught_by {
  bool cpp20;
  bool x86;
  bool arm;
  bool riscv;
};
inline constexpr caught_by all_of_them{true, true, true, true};
inline constexpr caught_by all_but_x86{true, false, true, true};
inline constexpr caught_by none_of_them{false, false, false, false};

[[nodiscard]] inline bool matches(const explorer::call_site& site, const mutation& fault) {
  return site.what == fault.what && fault.file.ends_with(site.file) &&
         site.function.find(fault.function) != std::string::npos;
}

// Runs the program with the fault under each model. A failure's trace is printed for C++20, or for
// the first model that has one.
template <class Program>
void with_fault(const std::string& name, const std::vector<mutation>& faults, caught_by expected,
                Program program, options wanted = {}) {
  const std::array<bool, 4> by = {expected.cpp20, expected.x86, expected.arm, expected.riscv};
  wanted.faults = faults;
  std::string trace;
  std::string models;
  for (std::size_t i = 0; i != by.size(); ++i) {
    wanted.model = all_models[i];
    const report r = explorer::explore(wanted, program);
    const std::string what = name + " under " + explorer::name_of(wanted.model) + ": " + r.text();
    INFO(what);
    CHECK(r.truncated.empty());
    CHECK(r.failure.has_value() == by[i]);
    if (r.failure) CHECK(r.failure->kind != explorer::failure_kind::misuse);
    for (const mutation& fault : faults) {
      bool known = false;
      for (const explorer::call_site& site : r.sites) known = known || matches(site, fault);
      CHECK_MESSAGE(known, "the code has such a place");
    }
    if (!r.failure) continue;
    models += std::string{models.empty() ? "" : ", "} + explorer::name_of(wanted.model);
    if (trace.empty()) trace = r.failure->text();
  }
  MESSAGE(name << (models.empty() ? ": not needed here" : ": caught under " + models) << "\n"
               << trace);
}

// Every place of the files in question that asks for an order has a fault in the list.
inline void covers(const std::vector<explorer::call_site>& sites,
                   const std::vector<mutation>& faults,
                   const std::vector<std::string>& ignored_files) {
  for (const explorer::call_site& site : sites) {
    bool found = false;
    for (const std::string& file : ignored_files) found = found || site.file == file;
    for (const mutation& fault : faults) found = found || matches(site, fault);
    CHECK_MESSAGE(found, explorer::name_of(site.what), " at ", site.file, ":", site.line, " in ",
                  site.function, " has no mutant");
  }
}

}  // namespace model
