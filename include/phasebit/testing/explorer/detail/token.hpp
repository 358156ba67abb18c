// SPDX-License-Identifier: BSL-1.0
// An execution as one line of text, from which it can be run again.
#pragma once

#include <phasebit/testing/explorer/detail/graph.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace phasebit::testing::explorer::detail {

// The bytes of every event would tie the text to a build; so it holds only what was decided: thread,
// kind, and the store that is read from, the place in coherence order, or the choice.
class token {
 public:
  [[nodiscard]] static std::string write(const execution_graph& graph) {
    std::string out;
    for (int id = 0; id != graph.size(); ++id) {
      const event& e = graph.at(id);
      if (!out.empty()) out += '.';
      out += std::to_string(e.thread);
      switch (e.kind) {
        case event_kind::fence:
          out += 'f';
          break;
        case event_kind::choice:
          out += 'c' + std::to_string(e.value);
          break;
        case event_kind::load:
          out += 'l' + std::to_string(e.reads_from);
          break;
        case event_kind::store:
          out += 's' + std::to_string(graph.place_of(id));
          break;
      }
    }
    return out;
  }

  // A graph of blank events, which are filled in as the program does them. False where the text is
  // not such a line.
  [[nodiscard]] static bool read(std::string_view text, execution_graph& graph) {
    while (!text.empty()) {
      const std::size_t end = text.find('.');
      if (!read_event(text.substr(0, end), graph)) return false;
      text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    }
    for (const event& e : graph.events) {
      if (e.kind != event_kind::load || e.reads_from == initial) continue;
      const bool there = e.reads_from >= 0 && e.reads_from < graph.size();
      if (!there || graph.at(e.reads_from).kind != event_kind::store) return false;
    }
    return true;
  }
  // Gives a blank event what the program requests now.
  static void fill(execution_graph& graph, int id, const event& asked) {
    event& e = graph.at(id);
    const event blank = e;
    e = asked;
    e.index = blank.index;
    e.reads_from = blank.reads_from;
    if (e.kind == event_kind::choice) e.value = blank.value;
    if (e.kind == event_kind::load) {
      e.value = e.reads_from == initial ? graph.location_of(e).initial_value
                                        : graph.at(e.reads_from).value;
      if (e.conditional) decide(e);
    }
    if (e.kind == event_kind::store) {
      e.expected = blank.value;
      const auto& stores = graph.location_of(e).stores;
      int position = 0;
      for (const int other : stores) position += graph.at(other).expected < e.expected ? 1 : 0;
      graph.place(id, position);
    }
  }

 private:
  [[nodiscard]] static bool read_event(std::string_view text, execution_graph& graph) {
    if (text.size() < 2 || text[0] < '0' || text[0] >= '0' + max_threads) return false;
    event e;
    e.blank = true;
    e.thread = static_cast<std::uint8_t>(text[0] - '0');
    e.index = static_cast<std::uint16_t>(graph.program(e.thread).size() + 1);
    int number = 0;
    const char* const end = text.data() + text.size();
    if (text[1] != 'f' && std::from_chars(text.data() + 2, end, number).ptr != end) return false;
    switch (text[1]) {
      case 'f':
        e.kind = event_kind::fence;
        break;
      case 'c':
        e.kind = event_kind::choice;
        break;
      case 'l':
        e.kind = event_kind::load;
        break;
      case 's':
        e.kind = event_kind::store;
        break;
      default:
        return false;
    }
    if (e.kind == event_kind::load) {
      e.reads_from = number;
    } else {
      e.value = static_cast<std::uint64_t>(number);
    }
    graph.add(e);
    return true;
  }
};

}  // namespace phasebit::testing::explorer::detail
