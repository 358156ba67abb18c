// SPDX-License-Identifier: BSL-1.0
// The parameters and the result of an exploration.
#pragma once

#include <phasebit/testing/explorer/memory_model.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace phasebit::testing::explorer {

// The operations of a ring order, and those of atomic words.
enum class operation : std::uint8_t {
  load,
  after_load,
  store,
  full,
  doorbell,   // the barrier before a register write
  word_load,  // of word<T>
  word_store,
  word_exchange,
  atomic_load,  // of std::atomic and std::atomic_ref in instrumented code; their place is not known
  atomic_store,
  atomic_exchange,
};

[[nodiscard]] constexpr const char* name_of(operation what) noexcept {
  switch (what) {
    case operation::load:
      return "load";
    case operation::after_load:
      return "after_load";
    case operation::store:
      return "store";
    case operation::full:
      return "full";
    case operation::doorbell:
      return "doorbell";
    case operation::word_load:
      return "word load";
    case operation::word_store:
      return "word store";
    case operation::word_exchange:
      return "word exchange";
    case operation::atomic_load:
      return "atomic load";
    case operation::atomic_store:
      return "atomic store";
    case operation::atomic_exchange:
      return "atomic exchange";
  }
  return "?";
}

// A fault that the explorer puts into the code it runs: what one call site requests is weakened. The
// code is the shipped code; the fault is in the ordering that it is given.
struct mutation {
  enum class effect : std::uint8_t {
    unordered,          // the access stays, its order goes; a barrier goes
    stores_only,        // store, doorbell: orders earlier stores, not earlier loads
    weaker,             // full: an acquire and a release barrier instead
    stale,              // load: not done; the result is what the thread last read or stored there
    lost,               // store: not done
    not_acquired,       // exchange: only releases
    not_released,       // exchange: only acquires
    failure_unordered,  // compare-exchange: no order where it is not carried out
  };

  operation what = operation::store;
  std::string file;      // the end of the file's path, or empty for any
  std::string function;  // a part of the function's signature, or empty for any
  effect how = effect::unordered;
};

struct options {
  memory_model model = memory_model::cpp20;
  std::uint64_t most_executions = 2'000'000;  // beyond this the report is marked incomplete
  int most_events = 600;                      // of one execution, without plain accesses
  std::size_t arena_bytes = 16384;            // for everything that threads share
  std::vector<mutation> faults = {};
  std::string replay = {};  // a failure's token: only that execution
};

// A place in the source that requested an order.
struct call_site {
  operation what = operation::load;
  std::string file;
  std::string function;
  unsigned line = 0;
};

enum class failure_kind : std::uint8_t {
  race,           // two accesses of a plain byte, one of them a write, with no order between them
  uninitialised,  // a read of a byte that nothing has written
  check,          // check() failed
  blocked,        // lost wake-up, deadlock, livelock: no store will ever end the waiting
  misuse,         // the model breaks a rule of the explorer
};

[[nodiscard]] constexpr const char* name_of(failure_kind kind) noexcept {
  switch (kind) {
    case failure_kind::race:
      return "race";
    case failure_kind::uninitialised:
      return "uninitialised read";
    case failure_kind::check:
      return "failed check";
    case failure_kind::blocked:
      return "threads wait for ever";
    case failure_kind::misuse:
      return "misuse of the explorer";
  }
  return "?";
}

struct failure_report {
  failure_kind kind = failure_kind::check;
  std::string what;                // a sentence
  std::vector<std::string> trace;  // what each thread did, one step a line, in words
  std::string token;               // for options::replay

  // All of it, a line each.
  [[nodiscard]] std::string text() const {
    std::string out = std::string{name_of(kind)} + ": " + what + "\n";
    for (const std::string& line : trace) out += "  " + line + "\n";
    return out + "  replay: " + token + "\n";
  }
};

struct report {
  std::uint64_t executions = 0;  // that ran to their end
  std::uint64_t discarded = 0;   // that ended in a wait which a retry would have ended
  int longest = 0;               // events of the longest execution
  bool complete = false;         // every execution was visited; false with a failure
  bool plain_accesses = false;   // some were seen; without any, no race can be found
  std::string truncated;         // why not, where a bound was reached
  std::optional<failure_report> failure;
  std::vector<call_site> sites;  // each once, in the order of appearance

  [[nodiscard]] bool passed() const noexcept { return complete && !failure; }
  // One sentence, with the trace of a failure below it.
  [[nodiscard]] std::string text() const {
    if (failure) {
      return "failed after " + std::to_string(executions) + " executions\n" + failure->text();
    }
    return std::to_string(executions) + " executions, " + std::to_string(discarded) +
           " discarded, at most " + std::to_string(longest) + " events" +
           (plain_accesses ? "" : "; no plain access was seen") +
           (complete ? "" : "; not complete: " + truncated);
  }
};

}  // namespace phasebit::testing::explorer
