// SPDX-License-Identifier: BSL-1.0
// In-flight records of virtqueues, explored: a device side that ends at any store, and a front end
// that changes the record.
#include <doctest/doctest.h>
#include <model/inflight_records.hpp>
#include <model/mutants.hpp>

using namespace model;

TEST_CASE_TEMPLATE("a successor returns what its predecessor had taken, once and in order", Format,
                   split, packed) {
  const std::string name = is_packed<Format> ? "packed, " : "split, ";
  holds(name + "buffers returned one by one", process_that_ends<Format>(false));
  holds(name + "buffers returned together", process_that_ends<Format>(true));
}

TEST_CASE_TEMPLATE("a record that the front end changes is refused or followed within its bounds",
                   Format, split, packed) {
  const std::string name = is_packed<Format> ? "packed, " : "split, ";
  holds(name + "changed before the successor begins", changed_record<Format>());
  holds(name + "a link changed at any moment", changing_record<Format>());
}
