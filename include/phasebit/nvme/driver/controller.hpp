// SPDX-License-Identifier: BSL-1.0
// The driver's side of an NVMe controller: bring it up, ask it who it is, make queues, let it go.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/controller_link.hpp>
#include <phasebit/nvme/driver/queue_memory.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/identify_namespace.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace phasebit::nvme::driver {

struct queue_options {
  std::uint32_t depth = 128;  // entries of each ring; depth - 1 commands in flight
  std::optional<std::uint16_t> interrupt = {};  // the completion queue's vector; none: polled
  std::uint32_t max_transfer = 0;               // bytes; 0: the controller's
  std::uint32_t nsid = 1;                       // whose block size read() and write() count in
};

// What a user of a namespace asks first.
struct namespace_info {
  std::uint32_t nsid = 0;
  std::uint64_t blocks = 0;
  std::uint32_t block_bytes = 0;
  std::uint16_t metadata_bytes = 0;
  std::uint8_t block_shift = 0;

  [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return blocks << block_shift; }
};

// A controller that has been enabled, and its I/O queues. One thread at a time, while each queue may
// be another thread's.
template <PcieBackend Backend, unsigned MaxQueues = 64>
class controller : public controller_link<Backend, MaxQueues> {
  using link = controller_link<Backend, MaxQueues>;
  using typename link::doorbell_type;
  using typename link::order;

 public:
  // The queue pairs that this controller makes.
  template <class Token = completion_callback, unsigned MaxDepth = 256,
            class EntryStore = cached_store>
  using io_queue = queue_pair<order, doorbell_type, Token, MaxDepth, EntryStore>;
  template <class Token = completion_callback, unsigned MaxDepth = 256>
  using shadowed_io_queue =
      queue_pair<order, ring::shadow_doorbell<doorbell_type, order>, Token, MaxDepth>;

  // Resets and enables the controller behind BAR 0 and identifies it.
  // Errors: removed, timed_out (CAP.TO), protocol (CSTS.CFS, contradictions), not_ready (offline),
  // exhausted (no memory), and what the backend says.
  [[nodiscard]] static result<controller> attach(Backend& backend,
                                                 controller_options options = {}) noexcept {
    auto bar = backend.map_bar(0);
    if (!bar) return bar.error();
    controller made{backend, std::move(*bar), options};
    if (const auto up = made.start(); !up) return up.error();
    return made;
  }

  [[nodiscard]] result<namespace_info> identify_namespace(std::uint32_t nsid) noexcept {
    struct identify_namespace ns;
    const auto asked =
        this->identify({.cns = cns::identify_namespace, .nsid = nsid}, writable_wire_bytes(ns));
    if (!asked) return asked.error().at(nsid);
    if (ns.nsze == 0) {
      return failure(errc::not_found, "there is no active namespace with this id", nsid);
    }
    const std::uint32_t block = ns.block_bytes();
    if (block == 0) {
      return failure(errc::protocol, "the namespace has an impossible block size; its log2",
                     ns.format().lbads);
    }
    return namespace_info{.nsid = nsid,
                          .blocks = ns.nsze,
                          .block_bytes = block,
                          .metadata_bytes = ns.format().ms,
                          .block_shift = ns.format().lbads};
  }

  // The ids of active namespaces above `after`, ascending, as many as fit; returns how many.
  [[nodiscard]] result<std::size_t> active_namespaces(std::span<std::uint32_t> out,
                                                      std::uint32_t after = 0) noexcept {
    const auto asked = this->execute_checked(
        "the list of active namespaces was refused; status",
        admin::identify({.cns = cns::active_namespace_list, .nsid = after}), scratch_);
    if (!asked) return asked.error();
    std::size_t count = 0;
    for (; count != out.size() && count != 1024; ++count) {
      const auto nsid = load_wire<le<std::uint32_t>>(scratch_.bytes.subspan(4 * count));
      if (nsid == 0) break;
      out[count] = nsid;
    }
    return count;
  }

  // Makes a completion queue and a submission queue on it. Errors: out_of_range (deeper than CAP.MQES
  // or the template's MaxDepth), exhausted (ids or memory), io (refused by the device, which leaves
  // nothing behind), not_supported while shadow doorbells are on: the device then follows the words
  // in memory of every I/O queue, and would never see this one's registers.
  template <class Token = completion_callback, unsigned MaxDepth = 256,
            class EntryStore = cached_store>
  [[nodiscard]] result<io_queue<Token, MaxDepth, EntryStore>> create_queue_pair(
      const queue_options& options = {}) noexcept {
    if (shadow_on_) {
      return failure(errc::not_supported,
                     "shadow doorbells are on: make the queue by create_shadowed_queue_pair()");
    }
    const auto layout = create(options, MaxDepth);
    if (!layout) return layout.error();
    return io_queue<Token, MaxDepth, EntryStore>{*layout, this->sq_doorbell(layout->qid),
                                                 this->cq_doorbell(layout->qid)};
  }

  // Deletes the submission queue, takes what the device still reports, deletes the completion queue,
  // ends what is left with aborted_queue_deletion, and frees the memory: in this order. Each command
  // that was in flight is told to its callback, or to done(token, completion).
  template <class Queue, std::invocable<typename Queue::token_type&, completion> Done>
  [[nodiscard]] result<> delete_queue_pair(Queue& queue, Done&& done) noexcept {
    const std::uint16_t qid = queue.qid();
    PHASEBIT_EXPECTS(qid != 0 && qid <= MaxQueues && memory_[qid],
                     "a queue that this controller did not make, or has deleted");
    const auto sq = this->execute_checked("Delete I/O Submission Queue was refused; status",
                                          admin::delete_io_sq(qid));
    if (!sq) return sq.error().at(qid);
    (void)queue.poll(done);
    const auto cq = this->execute_checked("Delete I/O Completion Queue was refused; status",
                                          admin::delete_io_cq(qid));
    if (!cq) return cq.error().at(qid);
    (void)queue.fail_all(status_code::aborted_queue_deletion, done);
    memory_[qid].release(*backend_);
    return {};
  }
  template <class Queue>
    requires std::invocable<typename Queue::token_type&, completion>
  [[nodiscard]] result<> delete_queue_pair(Queue& queue) noexcept {
    return delete_queue_pair(queue, [](auto& call, completion c) noexcept { call(c); });
  }

  // Gives the device two pages in which queues leave their indices (Doorbell Buffer Config). Only
  // after a success may shadowed queues be made; a refusal leaves everything as it was. To be called
  // before the first queue is made (else busy): queues without shadows would not be followed any more.
  [[nodiscard]] result<> enable_shadow_doorbells() noexcept {
    if (!identify_controller::oacs_doorbell_buffer.get(this->identity().oacs.get())) {
      return failure(errc::not_supported, "the controller has no Doorbell Buffer Config (OACS)");
    }
    if (shadow_on_) return {};
    for (std::uint16_t qid = 1; qid <= granted_; ++qid) {
      if (!memory_[qid]) continue;
      return failure(errc::busy, "a queue without shadow doorbells exists: delete it first")
          .at(qid);
    }
    const std::size_t page = std::size_t{1} << page_shift_;
    if (completion_doorbell_offset(granted_, caps_[cap::dstrd]) - first_doorbell >= page) {
      return failure(errc::not_supported, "the doorbells do not fit into one page (CAP.DSTRD)",
                     caps_[cap::dstrd]);
    }
    const auto pages = backend_->allocate(2 * page, page);
    if (!pages) return pages.error();
    const auto answer =
        this->execute_checked("Doorbell Buffer Config was refused; status",
                              admin::doorbell_buffer_config(pages->bus, pages->bus + page));
    if (!answer && answer.error().code == errc::io) {
      backend_->release(*pages);
      return answer.error();
    }
    shadow_ = *pages;  // after a time-out the device may have taken them
    shadow_on_ = answer.has_value();
    if (!answer) return answer.error();
    return {};
  }
  template <class Token = completion_callback, unsigned MaxDepth = 256>
  [[nodiscard]] result<shadowed_io_queue<Token, MaxDepth>> create_shadowed_queue_pair(
      const queue_options& options = {}) noexcept {
    if (!shadow_on_) {
      return failure(errc::not_ready, "shadow doorbells are off: enable_shadow_doorbells() first");
    }
    const auto layout = create(options, MaxDepth);
    if (!layout) return layout.error();
    const std::uint16_t qid = layout->qid;
    return shadowed_io_queue<Token, MaxDepth>{
        *layout,
        shadowed(submission_doorbell_offset(qid, caps_[cap::dstrd]), this->sq_doorbell(qid)),
        shadowed(completion_doorbell_offset(qid, caps_[cap::dstrd]), this->cq_doorbell(qid))};
  }

 private:
  using link::backend_;
  using link::caps_;
  using link::granted_;
  using link::link;
  using link::max_transfer_;
  using link::memory_;
  using link::page_shift_;
  using link::scratch_;
  using link::shadow_;
  using link::shadow_on_;

  [[nodiscard]] result<queue_layout> create(const queue_options& options,
                                            unsigned max_depth) noexcept {
    if (options.depth < 2 || options.depth > max_depth ||
        options.depth > caps_.max_queue_entries()) {
      return failure(errc::out_of_range,
                     "a queue has at least 2 entries, and at most what CAP.MQES and MaxDepth allow",
                     options.depth);
    }
    std::uint16_t qid = 1;
    while (qid <= granted_ && memory_[qid]) ++qid;
    if (qid > granted_) {
      return failure(errc::exhausted, "all queue pairs that the controller granted are in use",
                     granted_);
    }
    const auto ns = identify_namespace(options.nsid);
    if (!ns) return ns.error();
    const std::uint32_t most = options.max_transfer != 0 && options.max_transfer < max_transfer_
                                   ? options.max_transfer
                                   : max_transfer_;
    auto memory = queue_memory::allocate(*backend_, options.depth, most, page_shift_);
    if (!memory) return memory.error().at(qid);

    if (shadow_on_) clear_shadows(qid);
    const auto cq =
        this->execute_checked("Create I/O Completion Queue was refused; status",
                              admin::create_io_cq({.qid = qid,
                                                   .entries = options.depth,
                                                   .memory = memory->completion.bus,
                                                   .vector = options.interrupt.value_or(0),
                                                   .interrupts = options.interrupt.has_value()}));
    if (!cq) return give_up(*memory, cq.error(), qid, cq.error().code != errc::io);
    const auto sq = this->execute_checked(
        "Create I/O Submission Queue was refused; status",
        admin::create_io_sq(
            {.qid = qid, .entries = options.depth, .memory = memory->submission.bus, .cqid = qid}));
    if (!sq) {
      const bool undone =
          sq.error().code == errc::io &&
          this->execute_checked("undoing a queue failed; status", admin::delete_io_cq(qid));
      return give_up(*memory, sq.error(), qid, !undone);
    }
    memory_[qid] = *memory;
    return memory_[qid].layout(qid, most, page_shift_, ns->block_shift);
  }
  // Where the device said no, the memory is free; where it said nothing, or holds on to a queue, it
  // is the device's until it was disabled.
  [[nodiscard]] error give_up(queue_memory& memory, const error& why, std::uint16_t qid,
                              bool device_has_it) noexcept {
    if (device_has_it) {
      memory_[qid] = memory;
    } else {
      memory.release(*backend_);
    }
    return why.at(qid);
  }
  // An event index that an earlier queue of this id left behind would keep a new one from ringing,
  // where the device does not begin it anew itself.
  void clear_shadows(std::uint16_t qid) noexcept {
    for (const auto offset : {submission_doorbell_offset(qid, caps_[cap::dstrd]),
                              completion_doorbell_offset(qid, caps_[cap::dstrd])}) {
      auto* words = shadow_.data() + static_cast<std::size_t>(offset - first_doorbell);
      order::store(*reinterpret_cast<le<std::uint32_t>*>(words), 0U);
      order::store(*reinterpret_cast<le<std::uint32_t>*>(words + (std::size_t{1} << page_shift_)),
                   0U);
    }
  }
  // The two buffers have the layout of the doorbells themselves (Base 2.0, annex B.5).
  [[nodiscard]] ring::shadow_doorbell<doorbell_type, order> shadowed(std::uint64_t offset,
                                                                     doorbell_type real) noexcept {
    const auto at = static_cast<std::size_t>(offset - first_doorbell);
    auto* words = shadow_.data() + at;
    return {*reinterpret_cast<le<std::uint32_t>*>(words),
            *reinterpret_cast<const le<std::uint32_t>*>(words + (std::size_t{1} << page_shift_)),
            real};
  }
};

}  // namespace phasebit::nvme::driver
