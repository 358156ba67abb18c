// SPDX-License-Identifier: BSL-1.0
// Writes down what an execution does, one step a line, in words.
#pragma once

#include <phasebit/testing/explorer/detail/graph.hpp>
#include <phasebit/testing/explorer/detail/names.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

namespace phasebit::testing::explorer::detail {

class recorder {
 public:
  name_table names;

  void clear() {
    lines_.clear();
    steps_.clear();
    names.clear();
    plain_ = {};
  }

  void add(const execution_graph& graph, int id, const std::string& thread) {
    flush();
    const event& e = graph.at(id);
    std::string text = thread + " ";
    switch (e.kind) {
      case event_kind::fence:
        text += std::string{e.fence == barrier::acquire ? "executes an " : "executes a "} +
                name_of(e.fence);
        break;
      case event_kind::choice:
        text += "takes choice " + std::to_string(e.value);
        break;
      case event_kind::load: {
        const location& l = graph.location_of(e);
        text += "reads " + names.value(l.offset, l.bytes, e.value) + " from " +
                names.name(l.offset, l.bytes) + order_of(e) + source_of(graph, e) + stale(graph, e);
        break;
      }
      case event_kind::store: {
        const location& l = graph.location_of(e);
        text += "stores " + names.value(l.offset, l.bytes, e.value) + " to " +
                names.name(l.offset, l.bytes) + order_of(e);
        break;
      }
    }
    if (e.where.line() != 0) {
      text += "  [" + file_of(e.where.file_name()) + ":" + std::to_string(e.where.line()) + "]";
    }
    push(std::move(text));
    steps_.emplace_back(id, static_cast<int>(lines_.size()));
  }

  // Neighbouring accesses of the same object are one step; objects without a name are left out.
  void plain(std::uint32_t offset, std::size_t bytes, bool write, const std::string& thread) {
    const named_range* const range = names.find(offset, bytes);
    if (range == nullptr) return;
    if (plain_.bytes != 0 && plain_.write == write && plain_.thread == thread &&
        plain_.range == range) {
      const std::uint32_t end = plain_.offset + plain_.bytes;
      const auto last = offset + static_cast<std::uint32_t>(bytes);
      plain_.offset = offset < plain_.offset ? offset : plain_.offset;
      plain_.bytes = (last > end ? last : end) - plain_.offset;
      return;
    }
    flush();
    plain_ = {offset, static_cast<std::uint32_t>(bytes), write, thread, range};
  }

  void note(std::string text) {
    flush();
    push(std::move(text));
  }
  [[nodiscard]] std::vector<std::string> take() {
    flush();
    return std::exchange(lines_, {});
  }

 private:
  struct plain_access {
    std::uint32_t offset = 0;
    std::uint32_t bytes = 0;
    bool write = false;
    std::string thread;
    const named_range* range = nullptr;
  };

  void push(std::string text) {
    lines_.push_back(std::to_string(lines_.size() + 1) + ". " + std::move(text));
  }
  void flush() {
    if (plain_.bytes == 0) return;
    push(plain_.thread + (plain_.write ? " writes " : " reads ") + std::to_string(plain_.bytes) +
         (plain_.bytes == 1 ? " byte of " : " bytes of ") +
         names.name(plain_.offset, plain_.bytes));
    plain_ = {};
  }
  [[nodiscard]] static std::string order_of(const event& e) {
    std::string text;
    if (e.order == strength::sequential) {
      text = " (sequentially consistent)";
    } else if (e.kind == event_kind::load && acquires(e.order)) {
      text = " (acquire)";
    } else if (e.kind == event_kind::store && releases(e.order)) {
      text = " (release)";
    }
    return text;
  }
  [[nodiscard]] int step_of(int id) const noexcept {
    for (const auto& [event, line] : steps_) {
      if (event == id) return line;
    }
    return 0;
  }
  [[nodiscard]] std::string source_of(const execution_graph& graph, const event& e) const {
    if (e.reads_from == initial) return ", its initial value";
    const int step = step_of(e.reads_from);
    if (graph.at(e.reads_from).thread == e.thread || step == 0) return "";
    return ", stored at step " + std::to_string(step);
  }
  [[nodiscard]] std::string stale(const execution_graph& graph, const event& e) const {
    const location& l = graph.location_of(e);
    const auto next = static_cast<std::size_t>(graph.place_of(e.reads_from)) + 1;
    for (std::size_t i = next; i < l.stores.size(); ++i) {
      if (const int step = step_of(l.stores[i]); step != 0) {
        return ": stale, step " + std::to_string(step) + " has stored " +
               names.value(l.offset, l.bytes, graph.at(l.stores[i]).value);
      }
    }
    return "";
  }

  std::vector<std::string> lines_;
  std::vector<std::pair<int, int>> steps_;
  plain_access plain_;
};

}  // namespace phasebit::testing::explorer::detail
