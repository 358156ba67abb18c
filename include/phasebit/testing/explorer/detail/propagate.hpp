// SPDX-License-Identifier: BSL-1.0
// The order that a thread may rely on after each of its events: happens-before of C++, or the order
// that a processor keeps, as vector clocks.
#pragma once

#include <phasebit/testing/explorer/detail/graph.hpp>

namespace phasebit::testing::explorer::detail {

// Fills e.past, e.after and e.message from the event before it in its thread and the store that it
// reads from.
class propagation {
 public:
  explicit propagation(memory_model model) noexcept : model_(model) {}

  void operator()(const execution_graph& graph, event& e) const noexcept {
    const event* const before = graph.before(e);
    const event* const source =
        e.kind == event_kind::load && e.reads_from != initial ? &graph.at(e.reads_from) : nullptr;
    e.past = before != nullptr ? before->past : vector_clock{};
    if (source != nullptr) join(e.past, source->past);
    e.past[e.thread] = e.index;

    e.after = before != nullptr ? before->after : thread_view{};
    e.after.seen.reads[e.thread] = e.index;
    e.after.seen.writes[e.thread] = e.index;
    if (e.kind == event_kind::load && source != nullptr) read(e, source->message);
    if (e.kind == event_kind::store) write(graph, e);
    if (e.kind == event_kind::fence) fence(e);
  }

 private:
  [[nodiscard]] bool is_machine() const noexcept {
    return model_ == memory_model::arm || model_ == memory_model::riscv;
  }

  void read(event& e, const reach& message) const noexcept {
    thread_view& view = e.after;
    if (model_ == memory_model::x86 || acquires(e.order)) {
      join(view.seen, message);
      // An acquiring load comes before later stores, too, so those carry on what it has seen.
      if (is_machine()) join(view.released, message);
    } else {
      join(view.pending, message);
    }
  }

  void write(const execution_graph& graph, event& e) const noexcept {
    thread_view& view = e.after;
    if (model_ == memory_model::x86 || releases(e.order)) {
      e.message = view.seen;
      if (is_machine()) join(e.message, view.pending);
    } else {
      e.message = view.released;
    }
    // A release sequence continues through read-modify-writes.
    if (e.exclusive) {
      const int replaced = graph.replaced_by(e);
      if (replaced != initial) join(e.message, graph.at(replaced).message);
    }
  }

  void fence(event& e) const noexcept {
    thread_view& view = e.after;
    if (e.fence == barrier::acquire || e.fence == barrier::full) join(view.seen, view.pending);
    switch (e.fence) {
      case barrier::none:
        break;
      case barrier::acquire:
        if (is_machine()) {
          const std::uint16_t own = view.released.writes[e.thread];
          view.released = view.seen;
          view.released.writes[e.thread] = own;  // loads only: our stores are not held back
        }
        break;
      case barrier::stores:
        view.released.writes[e.thread] = view.seen.writes[e.thread];
        break;
      case barrier::release:
      case barrier::full:
        view.released = view.seen;
        if (is_machine()) join(view.released, view.pending);
        break;
    }
  }

  memory_model model_;
};

}  // namespace phasebit::testing::explorer::detail
