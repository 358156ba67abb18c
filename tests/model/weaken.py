#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Copies headers with faults that a test turns on one at a time.

Usage: weaken.py INCLUDE_DIRECTORY OUTPUT_DIRECTORY

A fault is a name between two @ in a replacement below: in the copy it is a condition that is false
until a test turns the fault on. All faults off, the copies do what the headers do. The copies are
for tests of the bounds, second looks and orders of two steps, which an ordering policy cannot
weaken; the headers themselves stay as they are. Each text occurs once in its header, else this
fails: a fault goes with the line that it is in. A fault is not the whole initialiser of a constant, where
the compiler evaluates it and finds it off.
"""
import re
import shutil
import sys
from pathlib import Path

FAULTS = [
    # -- NVMe, driver --
    ("nvme/driver/queue_pair.hpp",
     "const auto count = static_cast<unsigned>(submission_.depth() - 1);",
     "const auto count = static_cast<unsigned>(submission_.depth() -"
     " (@NVMe driver: one place of the ring stays free@ ? 0 : 1));"),
    ("nvme/driver/queue_pair.hpp",
     "if (!slots_.is_in_flight(id) || slots_.is_since(rung_, id)) [[unlikely]] {",
     "if ((!slots_.is_in_flight(id) && !@NVMe driver: an identifier is in flight@) ||"
     " (slots_.is_since(rung_, id) && !@NVMe driver: the command's doorbell was rung@))"
     " [[unlikely]] {"),
    ("nvme/driver/completion_queue.hpp",
     "      phase_ ^= phase_bit;",
     "      if (!@NVMe driver: the phase flips at the ring's end@) phase_ ^= phase_bit;"),
    ("nvme/driver/completion_queue.hpp",
     "    const le<std::uint32_t> dw3 = Order::load(next.dw3);",
     "    out.dw0 = @NVMe driver: phase before entry@ ? next.dw0 : le<std::uint32_t>{0};\n"
     "    out.dw1 = @NVMe driver: phase before entry@ ? next.dw1 : le<std::uint32_t>{0};\n"
     "    const le<std::uint32_t> dw3 = Order::load(next.dw3);"),
    ("nvme/driver/completion_queue.hpp",
     "    out.dw0 = next.dw0;\n    out.dw1 = next.dw1;",
     "    if (!@NVMe driver: phase before entry@) {\n"
     "      out.dw0 = next.dw0;\n"
     "      out.dw1 = next.dw1;\n"
     "    }"),
    ("nvme/driver/submission_queue.hpp",
     "tail_ = tail_ == last_ ? 0 : tail_ + 1;",
     "tail_ = tail_ == last_ && !@NVMe driver: the tail wraps at the ring's end@ ? 0 : tail_ + 1;"),
    ("nvme/driver/submission_queue.hpp",
     "    EntryStore::store(*reinterpret_cast<submission_entry*>(to), entry);",
     "    if (@NVMe driver: entry before SQ tail@) doorbell_.ring(tail_ == last_ ? 0 : tail_ + 1);\n"
     "    EntryStore::store(*reinterpret_cast<submission_entry*>(to), entry);"),
    # -- NVMe, controller --
    ("nvme/device/submission_queue.hpp",
     "if (value >= entries) return reject(value);",
     "if (value >= entries && !@NVMe controller: SQ tail within the ring@) return reject(value);"),
    ("nvme/device/submission_queue.hpp",
     "if (waiting + added > entries - 1) return reject(value);",
     "if (waiting + added > entries - 1 && !@NVMe controller: SQ tail does not pass the head@)\n"
     "      return reject(value);"),
    ("nvme/device/completion_queue.hpp",
     "return used() == entries - 1; }",
     "return used() == entries - 1 && !@NVMe controller: the CQ is full@; }"),
    ("nvme/device/completion_queue.hpp",
     "if (value >= entries || read > used()) {",
     "if ((value >= entries && !@NVMe controller: CQ head within the ring@) ||\n"
     "        (read > used() && !@NVMe controller: CQ head does not pass the tail@)) {"),
    ("nvme/device/completion_queue.hpp",
     "      phase = !phase;",
     "      if (!@NVMe controller: the phase flips at the ring's end@) phase = !phase;"),
    ("nvme/device/completion_queue.hpp",
     "    slot->dw0 = entry.dw0;",
     "    if (@NVMe controller: result before phase@) Order::store(slot->dw3, entry.dw3);\n"
     "    slot->dw0 = entry.dw0;"),
    # -- NVMe, commands in flight --
    ("nvme/device/pending_commands.hpp",
     "if (at >= commands_.size() || this->tag(at) != tag ||",
     "if (at >= commands_.size() ||\n"
     "        (this->tag(at) != tag && !@commands in flight: a tag names one use of an entry@) ||"),
    ("nvme/device/pending_io.hpp",
     "      mark(p, status);\n      media_of(p).cancel(g_.table.tag(at));",
     "      mark(p, status);\n      media_of(p).cancel(g_.table.tag(at));\n"
     "      if (@commands in flight: a cancelled operation ends when it is delivered@) {\n"
     "        p.state = command_state::active;\n"
     "        end(at, status);\n"
     "      }"),
    ("nvme/device/controller.hpp",
     "  void complete_reset() noexcept {\n    if (!all_drained()) return;",
     "  void complete_reset() noexcept {\n"
     "    if (!all_drained() && !@reset: RDY waits for the media@) return;"),
    ("nvme/device/controller.hpp",
     "        if (!d.target_ended) {",
     "        if (!d.target_ended && !@Abort: completes behind its command@) {"),
    ("nvme/device/controller.hpp",
     "        result.dw0 = abort_command::not_aborted.of(!d.target_aborted);",
     "        result.dw0 = abort_command::not_aborted.of("
     "!d.target_aborted && !@Abort: reports the outcome of its command@);"),
    ("nvme/device/completion_queue.hpp",
     "    return used() + reserved >= entries - 1;",
     "    return used() + (@commands in flight: each has a place in the CQ@ ? 0 : reserved) >=\n"
     "           entries - 1;"),
    ("nvme/device/pending_commands.hpp",
     "bool full() const noexcept { return free_ == none; }",
     "bool full() const noexcept {\n"
     "    return free_ == none && !@commands in flight: no more than the table holds@;\n"
     "  }"),
    ("nvme/device/pending_commands.hpp",
     "    const std::uint32_t at = free_;",
     "    std::uint32_t at = free_;\n"
     "    if (@commands in flight: no more than the table holds@ && at == none) at = 0;"),
    # -- identifiers --
    ("ring/tag_pool.hpp",
     "return static_cast<std::uint16_t>(slots_[id & mask_].number) == id;",
     "return @tag pool: laps distinguish identifiers@\n"
     "               ? is_taken(id & mask_)\n"
     "               : static_cast<std::uint16_t>(slots_[id & mask_].number) == id;"),
    ("ring/tag_pool.hpp",
     "return is_taken(number & mask_) || static_cast<std::uint16_t>(number) == 0xffffU;",
     "return (is_taken(number & mask_) && !@tag pool: slots in use are passed over@) ||\n"
     "           (static_cast<std::uint16_t>(number) == 0xffffU && !@tag pool: FFFFh is passed over@);"),
    ("ring/tag_pool.hpp",
     "    s.number = free_number(s.number);\n    ++free_count_;",
     "    if (!@tag pool: a released identifier is free@) s.number = free_number(s.number);\n"
     "    ++free_count_;"),
    # -- shadow doorbells --
    ("nvme/device/doorbells.hpp",
     "    if (!store_word(*dma_, events_ + at(qid, side), index)) return std::nullopt;\n"
     "    Order::full();\n",
     "    std::optional<std::uint32_t> early;\n"
     "    if (@shadow doorbell, controller: event index before second look@) {\n"
     "      early = load(qid, side);\n"
     "    }\n"
     "    if (!store_word(*dma_, events_ + at(qid, side), index)) return std::nullopt;\n"
     "    Order::full();\n"
     "    if (early) return early;\n"),
    ("ring/doorbell.hpp",
     "    Order::store(*shadow_, le<std::uint32_t>{value});\n"
     "    Order::full();\n"
     "    const std::uint32_t event = snapshot(*event_index_).get();",
     "    bool early = @shadow doorbell, driver: shadow before event index@;\n"
     "    std::uint32_t event = early ? snapshot(*event_index_).get() : 0;\n"
     "    if (@shadow doorbell, driver: shadow before register@) sink_.ring(value);\n"
     "    Order::store(*shadow_, le<std::uint32_t>{value});\n"
     "    Order::full();\n"
     "    if (@shadow doorbell, driver: shadow before register@) return;\n"
     "    if (!early) event = snapshot(*event_index_).get();"),
    ("ring/event_index.hpp",
     "return static_cast<std::uint16_t>(new_index - event_index - 1) <",
     "return static_cast<std::uint16_t>(new_index - event_index -"
     " (@event index: the step from the index itself counts@ ? 0 : 1)) <"),
    ("ring/index.hpp",
     "((word_ & 0x8000U) ^ 0x8000U)",
     "((word_ & 0x8000U) ^ (@packed: the wrap counter flips at the ring's end@ ? 0U : 0x8000U))"),
    # -- split virtqueue, driver --
    ("virtio/driver/split_queue.hpp",
     "if (needed > free_count_) [[unlikely]] {",
     "if (needed > free_count_ && !@split driver: no more buffers than descriptors@) [[unlikely]] {"),
    ("virtio/driver/split_queue.hpp",
     "    overwrite(avail_ring_[avail_next_ & mask_], le<std::uint16_t>{head});",
     "    if (@split driver: entry before index@) {\n"
     "      Order::store(avail_->idx,\n"
     "                   le<std::uint16_t>{static_cast<std::uint16_t>(avail_next_ + 1)});\n"
     "    }\n"
     "    overwrite(avail_ring_[avail_next_ & mask_], le<std::uint16_t>{head});"),
    ("virtio/driver/split_queue.hpp",
     "    Order::store(avail_->idx, le<std::uint16_t>{avail_next_});\n",
     "    bool early = @split driver: index before event index@;\n"
     "    std::uint16_t event = early ? snapshot(*avail_event_).get() : std::uint16_t{0};\n"
     "    Order::store(avail_->idx, le<std::uint16_t>{avail_next_});\n"),
    ("virtio/driver/split_queue.hpp",
     "      return ring::need_event(snapshot(*avail_event_), avail_next_, old);",
     "      if (!early) event = snapshot(*avail_event_);\n"
     "      return ring::need_event(event, avail_next_, old);"),
    ("virtio/driver/split_queue.hpp",
     "return fault_ ? false : snapshot(used_->idx) != last_used_;",
     "return fault_ || @split driver: second look before it sleeps@\n"
     "               ? false\n"
     "               : snapshot(used_->idx) != last_used_;"),
    ("virtio/driver/split_queue.hpp",
     "if (returned > in_flight_ || returned > ring::distance(last_used_, avail_published_))",
     "if (!@split driver: used index within what was published@ &&\n"
     "        (returned > in_flight_ || returned > ring::distance(last_used_, avail_published_)))"),
    ("virtio/driver/split_queue.hpp",
     "if (claimed >= size_) [[unlikely]] {",
     "if (claimed >= size_ && !@split driver: used id within the queue@) [[unlikely]] {"),
    ("virtio/driver/split_queue.hpp",
     "if (slots_[claimed].descriptors == 0) [[unlikely]] {",
     "if (slots_[claimed].descriptors == 0 && !@split driver: used id is in flight@) [[unlikely]] {"),
    ("virtio/driver/split_queue.hpp",
     "if (written > slots_[id].writable) [[unlikely]] {",
     "if (written > slots_[id].writable && !@split driver: length within the buffer@) [[unlikely]] {"),
    # -- split virtqueue, device --
    ("virtio/device/split_queue.hpp",
     "    overwrite(used_ring_[used_next_ & mask_],",
     "    if (@split device: used entry before index@) {\n"
     "      Order::store(used_->idx,\n"
     "                   le<std::uint16_t>{static_cast<std::uint16_t>(used_next_ + 1)});\n"
     "    }\n"
     "    overwrite(used_ring_[used_next_ & mask_],"),
    ("virtio/device/split_queue.hpp",
     "    Order::store(used_->idx, le<std::uint16_t>{used_next_});\n",
     "    bool early = @split device: index before event index@;\n"
     "    if (@in-flight split: the used index before the record@ && record_) {\n"
     "      record_.commit(used_next_);\n"
     "    }\n"
     "    std::uint16_t event = early ? snapshot(*used_event_).get() : std::uint16_t{0};\n"
     "    Order::store(used_->idx, le<std::uint16_t>{used_next_});\n"),
    ("virtio/device/split_queue.hpp",
     "      return ring::need_event(snapshot(*used_event_), used_next_, old);",
     "      if (!early) event = snapshot(*used_event_);\n"
     "      return ring::need_event(event, used_next_, old);"),
    ("virtio/device/split_queue.hpp",
     "    return available();",
     "    return !@split device: second look before it sleeps@ && available();"),
    ("virtio/device/split_queue.hpp",
     "if (ring::distance(last_avail_, idx) > size_ - in_flight_) [[unlikely]] {",
     "if (ring::distance(last_avail_, idx) > size_ - in_flight_ &&\n"
     "        !@split device: no more buffers than the queue has entries@) [[unlikely]] {"),
    ("virtio/device/split_queue.hpp",
     "if (head >= size_) [[unlikely]] {",
     "if (head >= size_ && !@split device: head within the table@) [[unlikely]] {"),
    ("virtio/device/split_queue.hpp",
     "if (buffer.state != buffer_state::progress::free) [[unlikely]] {",
     "if (buffer.state != buffer_state::progress::free &&\n"
     "        !@split device: head is not in flight@) [[unlikely]] {"),
    ("virtio/device/split_queue.hpp",
     "if (at >= size_) [[unlikely]] {",
     "if (at >= size_ && !@split device: next within the table@) [[unlikely]] {"),
    ("virtio/device/split_queue.hpp",
     "if (count == size_) [[unlikely]] {",
     "if (count == size_ && !@split device: a chain ends@) [[unlikely]] {"),
    # -- packed virtqueue, driver --
    ("virtio/driver/packed_queue.hpp",
     "if (needed > free_count_) [[unlikely]] {",
     "if (needed > free_count_ && !@packed driver: no more buffers than descriptors@) [[unlikely]] {"),
    ("virtio/driver/packed_queue.hpp",
     "      first_ = next_;\n      first_tail_ = tail;",
     "      first_ = next_;\n      first_tail_ = tail;\n"
     "      if (@packed driver: first descriptor's flags last@) {\n"
     "        ring_.template publish_tail<Order>(next_.index(), tail);\n"
     "      }"),
    ("virtio/driver/packed_queue.hpp",
     "    ring_.template publish_tail<Order>(first_.index(), first_tail_);\n",
     "    bool early = @packed driver: flags before event structure@;\n"
     "    le<std::uint32_t> events{0};\n"
     "    if (early) events = snapshot(*device_events_);\n"
     "    ring_.template publish_tail<Order>(first_.index(), first_tail_);\n"),
    ("virtio/driver/packed_queue.hpp",
     "    const auto wanted = virtio::detail::event_word::of(snapshot(*device_events_));",
     "    if (!early) events = snapshot(*device_events_);\n"
     "    const auto wanted = virtio::detail::event_word::of(events);"),
    ("virtio/driver/packed_queue.hpp",
     "if (fault_ || in_flight_ == 0) return false;",
     "if (fault_ || in_flight_ == 0 || @packed driver: second look before it sleeps@) return false;"),
    ("virtio/driver/packed_queue.hpp",
     "if (f.id >= size_) [[unlikely]] {",
     "if (f.id >= size_ && !@packed driver: used id within the queue@) [[unlikely]] {"),
    ("virtio/driver/packed_queue.hpp",
     "if (slots_[f.id].descriptors == 0) [[unlikely]] {",
     "if (slots_[f.id].descriptors == 0 && !@packed driver: used id is in flight@) [[unlikely]] {"),
    ("virtio/driver/packed_queue.hpp",
     "if (written > slots_[id].writable) [[unlikely]] {",
     "if (written > slots_[id].writable && !@packed driver: length within the buffer@) [[unlikely]] {"),
    # -- packed virtqueue, device --
    ("virtio/device/packed_queue.hpp",
     "    ring_.template publish_tail<Order>(first_.index(), first_tail_);\n",
     "    bool early = @packed device: flags before event structure@;\n"
     "    le<std::uint32_t> events{0};\n"
     "    if (early) events = snapshot(*driver_events_);\n"
     "    ring_.template publish_tail<Order>(first_.index(), first_tail_);\n"),
    ("virtio/device/packed_queue.hpp",
     "    const auto wanted = virtio::detail::event_word::of(snapshot(*driver_events_));",
     "    if (!early) events = snapshot(*driver_events_);\n"
     "    const auto wanted = virtio::detail::event_word::of(events);"),
    ("virtio/device/packed_queue.hpp",
     "      first_ = used_;\n      first_tail_ = tail;",
     "      first_ = used_;\n      first_tail_ = tail;\n"
     "      if (@packed device: first descriptor's flags last@) {\n"
     "        ring_.template publish_tail<Order>(used_.index(), tail);\n"
     "      }"),
    ("virtio/device/packed_queue.hpp",
     "    return available();",
     "    return !@packed device: second look before it sleeps@ && available();"),
    ("virtio/device/packed_queue.hpp",
     "if (count == most) [[unlikely]] {",
     "if (count == most && !@packed device: a chain within the free descriptors@) [[unlikely]] {"),
    ("virtio/device/packed_queue.hpp",
     "if (d.id >= size_) [[unlikely]] {",
     "if (d.id >= size_ && !@packed device: id within the queue@) [[unlikely]] {"),
    ("virtio/device/packed_queue.hpp",
     "if (buffers_[d.id].state != buffer_state::progress::free) [[unlikely]] {",
     "if (buffers_[d.id].state != buffer_state::progress::free &&\n"
     "            !@packed device: id is not in flight@) [[unlikely]] {"),
    ("virtio/device/packed_queue.hpp",
     "if (!is_available(virtio::detail::packed_ring::flags(tail), at.wrap())) [[unlikely]] {",
     "if (!is_available(virtio::detail::packed_ring::flags(tail), at.wrap()) &&\n"
     "          !@packed device: a chain is available whole@) [[unlikely]] {"),
    # -- in-flight records --
    ("virtio/device/inflight_split.hpp",
     "    overwrite(e.counter, counter_++);\n    Order::store(e.inflight, std::uint8_t{1});",
     "    if (@in-flight split: age before mark@) Order::store(e.inflight, std::uint8_t{1});\n"
     "    overwrite(e.counter, counter_++);\n    Order::store(e.inflight, std::uint8_t{1});"),
    ("virtio/device/inflight_split.hpp",
     "    std::uint16_t head = last_batch_head_;\n    for (; batch_ != 0; --batch_) {\n"
     "      if (head >= size_) break;",
     "    if (@in-flight split: marks are cleared before the position@) {\n"
     "      Order::store(header_->used_idx, used_idx);\n"
     "    }\n"
     "    std::uint16_t head = last_batch_head_;\n    for (; batch_ != 0; --batch_) {\n"
     "      if (head >= size_ && !@in-flight split: a link within the record@) break;"),
    ("virtio/device/inflight_split.hpp",
     "if (unfinished > size_) {",
     "if (unfinished > size_ && !@in-flight split: the last batch within the queue@) {"),
    ("virtio/device/inflight_split.hpp",
     "    for (std::uint16_t i = 0; i != unfinished; ++i) {\n      if (head >= size_) {",
     "    for (std::uint16_t i = 0;\n"
     "         i != unfinished && !@in-flight split: the last batch is completed@; ++i) {\n"
     "      if (head >= size_ && !@in-flight split: a link of the last batch within the record@) {"),
    ("virtio/device/split_queue.hpp",
     "    if (record_) record_.take(head);",
     "    if (record_ && !@in-flight split: a buffer is marked when it is taken@) record_.take(head);"),
    ("virtio/device/inflight_packed.hpp",
     "    if (at >= size_) {\n      intact_ = false;",
     "    if (at >= size_ && !@in-flight packed: a free entry within the record@) {\n"
     "      intact_ = false;"),
    ("virtio/device/inflight_packed.hpp",
     "    overwrite(e.counter, counter_++);\n    Order::store(e.inflight, std::uint8_t{1});",
     "    if (@in-flight packed: age before free list@) Order::store(e.inflight, std::uint8_t{1});\n"
     "    if (@in-flight packed: age before free list@ ||\n"
     "        @in-flight packed: mark before free list@) {\n"
     "      Order::store(header_->free_head, next_);\n"
     "      Order::store(header_->old_free_head, next_);\n"
     "    }\n"
     "    overwrite(e.counter, counter_++);\n    Order::store(e.inflight, std::uint8_t{1});"),
    ("virtio/device/inflight_packed.hpp",
     "    if (last >= size_) {\n      intact_ = false;\n      return;\n    }\n"
     "    Order::store(entries_[last].next, free_head_);",
     "    if (last >= size_ && !@in-flight packed: a chain's end within the record@) {\n"
     "      intact_ = false;\n      return;\n    }\n"
     "    Order::store(entries_[last].next, free_head_);"),
    ("virtio/device/inflight_packed.hpp",
     "      if (last >= size_) {\n        intact_ = false;\n        return;\n      }\n"
     "      entry = Order::load(entries_[last].next);",
     "      if (last >= size_ && !@in-flight packed: a returned chain's end within the record@) {\n"
     "        intact_ = false;\n        return;\n      }\n"
     "      entry = Order::load(entries_[last].next);"),
    ("virtio/device/inflight_packed.hpp",
     "      if (entry >= size_) {\n        intact_ = false;\n        return;\n      }\n"
     "      Order::store(entries_[entry].inflight, std::uint8_t{0});",
     "      if (entry >= size_ && !@in-flight packed: a returned buffer within the record@) {\n"
     "        intact_ = false;\n        return;\n      }\n"
     "      Order::store(entries_[entry].inflight, std::uint8_t{0});"),
    ("virtio/device/inflight_packed.hpp",
     "    Order::store(header_->old_free_head, free_head_);\n    old_used_ = used_;",
     "    if (@in-flight packed: free list before position@) {\n"
     "      old_used_ = used_;\n"
     "      store_positions();\n"
     "    }\n"
     "    Order::store(header_->old_free_head, free_head_);\n    old_used_ = used_;"),
    ("virtio/device/inflight_packed.hpp",
     "    if (h.used_idx >= size_ || h.old_used_idx >= size_ || h.free_head > size_ ||\n"
     "        h.old_free_head > size_) {",
     "    if (((h.used_idx >= size_ || h.old_used_idx >= size_) &&\n"
     "         !@in-flight packed: a position within the queue@) ||\n"
     "        ((h.free_head > size_ || h.old_free_head > size_) &&\n"
     "         !@in-flight packed: the free list within the record@)) {"),
    ("virtio/device/inflight_packed.hpp",
     "      if (!is_available(flags, wrap)) {",
     "      if (!is_available(flags, wrap) && !@in-flight packed: a batch that became visible@) {"),
    ("virtio/device/inflight_packed.hpp",
     "if (descriptors > size_) {",
     "if (descriptors > size_ && !@in-flight packed: no more descriptors than the queue@) {"),
    ("virtio/device/inflight_packed.hpp",
     "if (num == 0 || num > size_) return false;",
     "if ((num == 0 && !@in-flight packed: a buffer has descriptors@) || num > size_) return false;"),
    ("virtio/device/inflight_packed.hpp",
     "      if (entry >= size_) return false;\n      const inflight_packed_entry e",
     "      if (entry >= size_ && !@in-flight packed: a link within the record@) return false;\n"
     "      const inflight_packed_entry e"),
    ("virtio/device/packed_queue.hpp",
     "    if (record_) prepare_record();\n",
     "    if (@in-flight packed: position before descriptors@ && record_) {\n"
     "      ring_.template publish_tail<Order>(first_.index(), first_tail_);\n"
     "    }\n"
     "    if (record_) prepare_record();\n"),
    ("virtio/device/packed_queue.hpp",
     "    if (record_) record_.commit();\n",
     "    if (record_ && !@in-flight packed: a returned buffer is free@) record_.commit();\n"),
    # -- chains and indirect tables --
    ("virtio/device/chain.hpp",
     "if (len == 0 || total > std::uint64_t{1} << 32 || (!write && count_ != readable_) ||\n"
     "        addr + len < addr) [[unlikely]] {",
     "if ((len == 0 && !@chain: a descriptor has bytes@) ||\n"
     "        (total > std::uint64_t{1} << 32 && !@chain: no more than 4 GiB@) ||\n"
     "        (!write && count_ != readable_ && !@chain: readable before writable@) ||\n"
     "        (addr + len < addr && !@chain: an address does not wrap@)) [[unlikely]] {"),
    ("virtio/device/chain.hpp",
     "      if (count_ == capacity_) [[unlikely]] {",
     "      if (count_ == capacity_ && !@chain: no more segments than places@) [[unlikely]] {"),
    ("virtio/device/indirect.hpp",
     "if (bytes == 0 || bytes % sizeof(split_descriptor) != 0) {",
     "if ((bytes == 0 || bytes % sizeof(split_descriptor) != 0) &&\n"
     "      !@indirect: a table has whole entries@) {"),
    ("virtio/device/indirect.hpp",
     "if (entries > limit) {",
     "if (entries > limit && !@indirect: no more entries than the limit@) {"),
    ("virtio/device/indirect.hpp",
     "if (addr + bytes < addr) {",
     "if (addr + bytes < addr && !@indirect: a table does not wrap@) {"),
    ("virtio/device/indirect.hpp",
     "if ((flags & descriptor_flag::indirect) != 0) [[unlikely]] {",
     "if ((flags & descriptor_flag::indirect) != 0 && !@indirect: no table in a table@) [[unlikely]] {"),
    ("virtio/device/indirect.hpp",
     "if (at >= entries) [[unlikely]] {",
     "if (at >= entries && !@indirect: next within the table@) [[unlikely]] {"),
    ("virtio/device/indirect.hpp",
     "seen != entries; ++seen) {",
     "seen != entries || @indirect: a table ends@; ++seen) {"),
    ("virtio/device/split_queue.hpp",
     "    if (!indirect_) {",
     "    if (!indirect_ && !@split device: tables were negotiated@) {"),
    ("virtio/device/split_queue.hpp",
     "    if ((d.flags & descriptor_flag::next) != 0) {",
     "    if ((d.flags & descriptor_flag::next) != 0 && !@split device: a table ends a chain@) {"),
    ("virtio/device/packed_queue.hpp",
     "    if (!indirect_) {",
     "    if (!indirect_ && !@packed device: tables were negotiated@) {"),
    ("virtio/device/packed_queue.hpp",
     "    if ((d.flags & descriptor_flag::next) != 0) {",
     "    if ((d.flags & descriptor_flag::next) != 0 && !@packed device: a table ends a chain@) {"),
    # -- IOMMU command queues --
    ("iommu/command_queue/producer.hpp",
     "if (available() == 0) return posted::full;",
     "if (available() == 0 && !@command queue: no more commands than entries@) return posted::full;"),
    ("iommu/command_queue/producer.hpp",
     "if (moved > under_way_) {",
     "if (moved > under_way_ && !@command queue: head does not pass the tail@) {"),
    ("iommu/command_queue/producer.hpp",
     "    detail::write_entry(at(tail_), words, codec_.entry_bytes());",
     "    if (@command queue: entry before tail@) {\n"
     "      tail_sink_.ring(ring_.to_register(ring_.after(tail_)));\n"
     "    }\n"
     "    detail::write_entry(at(tail_), words, codec_.entry_bytes());"),
    ("iommu/command_queue/producer.hpp",
     "if (!reached(seen, token.sequence)) return false;",
     "if (!reached(seen, token.sequence) && !@command queue: the wait's own value@) return false;"),
    ("iommu/command_queue/consumer.hpp",
     "if (!position || ring_.distance(head_, *position) > ring_.capacity()) {",
     "if (!position || (ring_.distance(head_, *position) > ring_.capacity() &&\n"
     "                      !@command queue: tail within the ring@)) {"),
    ("iommu/command_queue/consumer.hpp",
     "  if (bytes == 8) words[1] = static_cast<std::uint32_t>(data >> 32);\n"
     "  Order::store(words[0], le<std::uint32_t>{static_cast<std::uint32_t>(data)});",
     "  bool early = @command queue: high half before low half@;\n"
     "  if (bytes == 8 && !early) words[1] = static_cast<std::uint32_t>(data >> 32);\n"
     "  Order::store(words[0], le<std::uint32_t>{static_cast<std::uint32_t>(data)});\n"
     "  if (bytes == 8 && early) words[1] = static_cast<std::uint32_t>(data >> 32);"),
    # -- the mailbox of a reactor --
    ("hosted/mailbox.hpp",
     "const bool taken = !closed_.load(std::memory_order_seq_cst) && messages_.bounded_push(what);",
     "const bool taken = (!closed_.load(std::memory_order_seq_cst) ||\n"
     "                        @mailbox: a closed one refuses@) && messages_.bounded_push(what);"),
    ("hosted/mailbox.hpp",
     "    posters_.fetch_add(1, std::memory_order_seq_cst);",
     "    if (@mailbox: a poster is counted before it looks@) {\n"
     "      const bool open = !closed_.load(std::memory_order_seq_cst);\n"
     "      posters_.fetch_add(1, std::memory_order_seq_cst);\n"
     "      const bool done = open && messages_.bounded_push(what);\n"
     "      posters_.fetch_sub(1, std::memory_order_release);\n"
     "      return done;\n"
     "    }\n"
     "    posters_.fetch_add(1, std::memory_order_seq_cst);"),
    ("hosted/mailbox.hpp",
     "    closed_.store(true, std::memory_order_seq_cst);\n"
     "    while (posters_.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();",
     "    if (!@mailbox: closed before it waits for posters@) {\n"
     "      closed_.store(true, std::memory_order_seq_cst);\n"
     "    }\n"
     "    while (!@mailbox: waits for posters@ && posters_.load(std::memory_order_seq_cst) != 0) {\n"
     "      std::this_thread::yield();\n"
     "    }\n"
     "    closed_.store(true, std::memory_order_seq_cst);"),
    ("hosted/mailbox.hpp",
     "    while (run(argument) != 0) {\n    }",
     "    while (!@mailbox: runs what was accepted@ && run(argument) != 0) {\n    }"),
    # -- hosted media with threads, over the explorer's mutex, threads and containers --
    ("hosted/threaded_media.hpp",
     "#include <phasebit/core/expects.hpp>\n",
     "#include <phasebit/core/expects.hpp>\n#include <model/threaded_media_model.hpp>\n"),
    ("hosted/threaded_media.hpp",
     "    for (std::thread& worker : workers_) worker.join();",
     "    for (auto& worker : workers_) worker.join();"),
    ("hosted/threaded_media.hpp",
     "  std::vector<completion> delivering_;\n  std::mutex mutex_;\n"
     "  std::condition_variable wake_;\n  std::deque<operation> waiting_;\n"
     "  std::vector<completion> finished_;\n  bool stopping_ = false;\n"
     "  std::vector<std::thread> workers_;",
     "  ::model::model_list<completion> delivering_;\n  ::model::model_mutex mutex_;\n"
     "  ::model::model_condition wake_;\n  ::model::model_list<operation> waiting_;\n"
     "  ::model::model_list<completion> finished_;\n  bool stopping_ = false;\n"
     "  ::model::model_list<::model::model_thread> workers_;"),
    ("hosted/threaded_media.hpp",
     "    wake_.notify_one();",
     "    if (!@threaded media: a worker is woken for an operation@) wake_.notify_one();"),
    ("hosted/threaded_media.hpp",
     "      waiting_.erase(at);",
     "      if (!@threaded media: a cancelled operation waits no more@) waiting_.erase(at);"),
    ("hosted/threaded_media.hpp",
     "      const std::scoped_lock lock{mutex_};\n      std::swap(finished_, delivering_);",
     "      if (!@threaded media: completions are taken under the lock@) mutex_.lock();\n"
     "      std::swap(finished_, delivering_);\n"
     "      if (!@threaded media: completions are taken under the lock@) mutex_.unlock();"),
    ("hosted/threaded_media.hpp",
     "      const block::media_status status = blocks.submit(next.request, next.tag).status();\n"
     "      lock.lock();\n"
     "      finished_.push_back({next.tag, status});\n"
     "      if (options_.notify) {\n",
     "      if (@threaded media: delivered behind its execution@) {\n"
     "        lock.lock();\n"
     "        finished_.push_back({next.tag, block::media_status::good});\n"
     "        lock.unlock();\n"
     "      }\n"
     "      const block::media_status status = blocks.submit(next.request, next.tag).status();\n"
     "      if (@threaded media: notified behind the completion@) options_.notify();\n"
     "      if (!@threaded media: a completion is recorded under the lock@) lock.lock();\n"
     "      if (!@threaded media: delivered behind its execution@) {\n"
     "        finished_.push_back({next.tag, status});\n"
     "      }\n"
     "      if (@threaded media: a completion is recorded under the lock@) lock.lock();\n"
     "      if (options_.notify && !@threaded media: notified behind the completion@) {\n"),
    ("hosted/threaded_media.hpp",
     "    if (in_flight_ == options_.capacity) return block::media_answer::busy();",
     "    if (in_flight_ == options_.capacity && !@threaded media: no more operations than the capacity@) {\n"
     "      return block::media_answer::busy();\n"
     "    }"),
    ("hosted/threaded_media.hpp",
     "    const std::scoped_lock lock{mutex_};\n    for (auto at = waiting_.begin();",
     "    struct maybe {\n"
     "      ::model::model_mutex* held;\n"
     "      explicit maybe(::model::model_mutex& m)\n"
     "          : held(@threaded media: cancels under the lock@ ? nullptr : &m) {\n"
     "        if (held != nullptr) held->lock();\n"
     "      }\n"
     "      ~maybe() {\n"
     "        if (held != nullptr) held->unlock();\n"
     "      }\n"
     "    } const lock{mutex_};\n"
     "    for (auto at = waiting_.begin();"),
    ("hosted/threaded_media.hpp",
     "      const std::scoped_lock lock{mutex_};\n      waiting_.push_back({request, tag});",
     "      if (!@threaded media: operations are queued under the lock@) mutex_.lock();\n"
     "      waiting_.push_back({request, tag});\n"
     "      if (!@threaded media: operations are queued under the lock@) mutex_.unlock();"),
    # -- interrupts of the simulated machine, over the explorer's mutex and condition variable --
    ("backend/simulated/interrupts.hpp",
     "#include <phasebit/core/cacheline.hpp>\n",
     "#include <phasebit/core/cacheline.hpp>\n#include <model/threaded_media_model.hpp>\n"),
    ("backend/simulated/interrupts.hpp",
     "  std::mutex mutex_;\n  std::condition_variable wake_;",
     "  ::model::model_mutex mutex_;\n  ::model::model_condition wake_;"),
    ("backend/simulated/interrupts.hpp",
     "    pending_.exchange(true, std::memory_order_acq_rel);\n",
     "    if (!@interrupt: pending before the look at sleepers@) {\n"
     "      pending_.exchange(true, std::memory_order_acq_rel);\n"
     "    }\n"),
    ("backend/simulated/interrupts.hpp",
     "      const std::lock_guard guard{mutex_};\n      wake_.notify_all();\n    }\n",
     "      if (!@interrupt: wakes under the lock@) mutex_.lock();\n"
     "      wake_.notify_all();\n"
     "      if (!@interrupt: wakes under the lock@) mutex_.unlock();\n"
     "    }\n"
     "    if (@interrupt: pending before the look at sleepers@) {\n"
     "      pending_.exchange(true, std::memory_order_acq_rel);\n"
     "    }\n"),
    ("backend/simulated/interrupts.hpp",
     "    sleepers_.fetch_add(1, std::memory_order_relaxed);\n",
     "    if (!@interrupt: a sleeper is counted before it looks again@) {\n"
     "      sleepers_.fetch_add(1, std::memory_order_relaxed);\n"
     "    }\n"),
    # A waiter that gives its processor away at once: the explorer follows no busy loop.
    ("backend/simulated/detail/ticket_lock.hpp",
     "static constexpr unsigned spins = 64;", "static constexpr unsigned spins = 0;"),
    ("backend/simulated/detail/ticket_lock.hpp",
     "    const std::uint32_t mine = next_->fetch_add(1, std::memory_order_relaxed);\n",
     "    const std::uint32_t mine = @ticket lock: a ticket is taken once@\n"
     "                                   ? next_->load(std::memory_order_acquire)\n"
     "                                   : next_->fetch_add(1, std::memory_order_relaxed);\n"),
    # -- queue objects and the controller that made them --
    ("nvme/driver/detail/queue_link.hpp",
     "#include <phasebit/core/ordering.hpp>\n",
     "#include <phasebit/core/ordering.hpp>\n#include <model/shared_order.hpp>\n"),
    ("nvme/driver/detail/queue_link.hpp",
     "namespace phasebit::nvme::driver {\n",
     "namespace phasebit::nvme::driver {\n\nusing thread_order = ::model::shared_order;\n"),
    ("nvme/driver/detail/queue_link.hpp",
     "    if (namespaces() != generation) thread_order::store_relaxed(short_way_blocks_, 0U);",
     "    if (namespaces() != generation && !@queue: second look at the generation@) {\n"
     "      thread_order::store_relaxed(short_way_blocks_, 0U);\n"
     "    }"),
    ("nvme/driver/detail/queue_link.hpp",
     "    if (gone()) return;\n",
     "    if (gone() && !@queue: a controller that is gone stays gone@) return;\n"),
    # -- DSA. A snapshot reads the status again, in a wider access, which the explorer does not follow --
    ("accel/dsa/driver.hpp",
     "      if ((device_order::load(records_[k].status) & 0x7fU) == 0) continue;\n"
     "      device_order::after_load();\n"
     "      const completion_record r = snapshot(records_[k]);",
     "      using order = ::phasebit::testing::explorer::device_order;\n"
     "      bool early = @DSA: status before the record@;\n"
     "      completion_record r{};\n"
     "      if (early) r.crc = records_[k].crc;\n"
     "      const std::uint8_t status = order::load(records_[k].status);\n"
     "      if ((status & 0x7fU) == 0) continue;\n"
     "      order::after_load();\n"
     "      r.status = status;\n"
     "      if (!early) r.crc = records_[k].crc;"),
    # -- the reactor, over the explorer's descriptor --
    ("hosted/reactor.hpp",
     "class reactor {\n public:\n",
     "class reactor {\n  friend struct ::model::reactor_access;\n\n public:\n"),
    ("hosted/reactor.hpp",
     "#include <phasebit/core/error.hpp>\n",
     "#include <phasebit/core/error.hpp>\n#include <model/reactor_model.hpp>\n"),
    ("hosted/reactor.hpp",
     "    ::pthread_join(thread_, nullptr);",
     "    ::model::joined(stopped_);"),
    ("hosted/reactor.hpp",
     "    if (!mailbox_.post(what)) return false;\n    wake();\n",
     "    if (@reactor: message before the wake-up@) wake();\n"
     "    if (!mailbox_.post(what)) return false;\n"
     "    if (!@reactor: message before the wake-up@) wake();\n"),
    ("hosted/reactor.hpp",
     "    static_cast<void>(!::write(wake_.get(), &one, sizeof(one)));",
     "    ::model::descriptor::write(one);"),
    ("hosted/reactor.hpp",
     "    std::atomic_thread_fence(std::memory_order_seq_cst);\n"
     "    if (!sleeping_.load(std::memory_order_relaxed)) return;",
     "    if (!@reactor: fence of a poster@) std::atomic_thread_fence(std::memory_order_seq_cst);\n"
     "    if (!sleeping_.load(std::memory_order_relaxed)) return;"),
    ("hosted/reactor.hpp",
     "    std::atomic_thread_fence(std::memory_order_seq_cst);\n"
     "    std::size_t armed = 0;\n"
     "    bool idle = mailbox_.empty() && !stopping_.load(std::memory_order_relaxed);",
     "    if (!@reactor: fence before it sleeps@) {\n"
     "      std::atomic_thread_fence(std::memory_order_seq_cst);\n"
     "    }\n"
     "    std::size_t armed = 0;\n"
     "    bool idle = (mailbox_.empty() || @reactor: second look at the mailbox@) &&\n"
     "                (!stopping_.load(std::memory_order_relaxed) ||\n"
     "                 @reactor: second look at the stop@);"),
    ("hosted/reactor.hpp",
     "      ::poll(descriptors_.data(), int_cast<nfds_t>(descriptors_.size()),\n"
     "             static_cast<int>(std::min<std::uint32_t>(options_.longest_sleep_ms, 60'000)));",
     "      ::model::descriptor::sleep();"),
    ("hosted/reactor.hpp",
     "    std::uint64_t count = 0;\n"
     "    static_cast<void>(!::read(wake_.get(), &count, sizeof(count)));",
     "    ::model::descriptor::read();"),
    ("hosted/reactor.hpp", "  mailbox<reactor&> mailbox_;", "  mailbox<reactor&, 2> mailbox_;"),
    # -- device tables --
    ("iommu/device_table/entry.hpp",
     "  if (open) {\n    detail::store_entry_relaxed(at + Entry::gate, Entry::closed);  // the invalidation orders it\n    forget();\n  }",
     "  if (open && !@device table: the gate is closed first@) {\n"
     "    detail::store_entry_relaxed(at + Entry::gate, Entry::closed);\n"
     "    if (!@device table: no walker is left when the words change@) forget();\n"
     "  }\n"
     "  if (@device table: words before the open gate@) {\n"
     "    detail::store_entry(at + Entry::gate, next.words[Entry::gate].get());\n"
     "  }"),
    ("iommu/device_table/entry.hpp",
     "  e.words[Entry::gate] = detail::load_entry(at + Entry::gate);\n"
     "  for (std::size_t i = 0; i != Entry::word_count; ++i) {\n"
     "    if (i != Entry::gate) e.words[i] = detail::load_entry_relaxed(at + i);\n"
     "  }",
     "  bool late = @device table: the gate is read first@;\n"
     "  if (!late) e.words[Entry::gate] = detail::load_entry(at + Entry::gate);\n"
     "  for (std::size_t i = 0; i != Entry::word_count; ++i) {\n"
     "    if (i != Entry::gate) e.words[i] = detail::load_entry_relaxed(at + i);\n"
     "  }\n"
     "  if (late) e.words[Entry::gate] = detail::load_entry(at + Entry::gate);"),
    ("iommu/fault/fault_queue.hpp",
     "    if (ring_.full(producer_, consumer_, Format::turns_flip)) {",
     "    if (ring_.full(producer_, consumer_, Format::turns_flip) &&\n"
     "        !@fault queue: one place stays free@) {"),
    # -- page tables --
    ("iommu/page_table/table_word.hpp",
     "[[nodiscard]] inline bool exchange_entry_relaxed(table_word* word, std::uint64_t& expected,\n"
     "                                                 std::uint64_t value) noexcept {\n",
     "[[nodiscard]] inline bool exchange_entry_relaxed(table_word* word, std::uint64_t& expected,\n"
     "                                                 std::uint64_t value) noexcept {\n"
     "    if (@page table: what hardware sets meanwhile is taken along@) {\n"
     "      std::atomic_ref{*word}.store(wire(value), std::memory_order_relaxed);\n"
     "      return true;\n"
     "    }\n"),
    ("iommu/page_table/detail/editor.hpp",
     "    store_entry_relaxed(slot, 0);  // the invalidation orders it",
     "    if (!@page table: a table is unlinked before it is retired@) store_entry_relaxed(slot, 0);"),
    ("iommu/page_table/detail/editor.hpp",
     "      this->tables_->release(*made, geometry::table_bytes);\n",
     "      this->tables_->release(*made, geometry::table_bytes);\n"
     "      if (@page table: another mapper's table is used@) {\n"
     "        below = made->words;\n"
     "        return edit::done;\n"
     "      }\n"),
    ("iommu/page_table/detail/split_merge.hpp",
     "    do {\n      const std::uint64_t bits = format_.state_bits(e);\n"
     "      std::uint64_t value = format_.make_leaf(target, page.level - 1, 0, bits);",
     "    if (@page table: a split page's leaves before their table@) {\n"
     "      store_entry(page.words, format_.make_table(made->at.value(), page.level));\n"
     "      e = load_entry(page.words);\n"
     "    }\n"
     "    do {\n      const std::uint64_t bits =\n"
     "          format_.state_bits(@page table: a split takes a dirty bit along@ ? page.entry : e);\n"
     "      std::uint64_t value = format_.make_leaf(target, page.level - 1, 0, bits);"),
    ("iommu/page_table/table_word.hpp",
     "[[nodiscard]] inline bool exchange_entry(table_word* word, std::uint64_t& expected,\n"
     "                                         std::uint64_t value) noexcept {\n",
     "[[nodiscard]] inline bool exchange_entry(table_word* word, std::uint64_t& expected,\n"
     "                                         std::uint64_t value) noexcept {\n"
     "    if (@page table: an entry is exchanged, not stored@) {\n"
     "      std::atomic_ref{*word}.store(wire(value), std::memory_order_release);\n"
     "      return true;\n"
     "    }\n"),
    ("iommu/page_table/table_word.hpp",
     "    record_.count.store(count + 1, std::memory_order_release);",
     "    if (!@halves: the count is odd during a write@) {\n"
     "      record_.count.store(count + 1, std::memory_order_release);\n"
     "    }"),
    ("iommu/page_table/table_word.hpp",
     "    at(low_).store(0, std::memory_order_release);",
     "    if (!@halves: the low half is cleared first@) {\n"
     "      at(low_).store(0, std::memory_order_release);\n"
     "    }"),
    ("iommu/page_table/table_word.hpp",
     "    at(high_).store(static_cast<std::uint32_t>(value >> 32), std::memory_order_release);",
     "    if (@halves: the low half is written last@) {\n"
     "      at(low_).store(static_cast<std::uint32_t>(value), std::memory_order_release);\n"
     "    }\n"
     "    at(high_).store(static_cast<std::uint32_t>(value >> 32), std::memory_order_release);"),
    ("iommu/page_table/table_word.hpp",
     "if (record_.count.load(std::memory_order_relaxed) != before) continue;",
     "if (record_.count.load(std::memory_order_relaxed) != before &&\n"
     "          !@halves: the count is looked at again@) {\n"
     "        continue;\n"
     "      }"),
    ("iommu/page_table/table_word.hpp",
     "const bool same = at(low_).load(std::memory_order_acquire) == low;",
     "const bool same = at(low_).load(std::memory_order_acquire) == low ||\n"
     "                        @halves: the low half is looked at again@;"),
]

FRONT = """// SPDX-License-Identifier: BSL-1.0
// Written by weaken.py: the faults that the copied headers have, and which of them is on.
#pragma once

namespace phasebit::testing {

inline int weakness = -1;
inline constexpr const char* weaknesses[] = {
%s};

constexpr bool weakened(int which) noexcept {
  return !__builtin_is_constant_evaluated() && weakness == which;
}

}  // namespace phasebit::testing
"""


def main():
    source, target = Path(sys.argv[1]) / "phasebit", Path(sys.argv[2])
    names = []

    def condition(match):
        if match.group(1) not in names:
            names.append(match.group(1))
        return f"::phasebit::testing::weakened({names.index(match.group(1))})"

    texts = {}
    for header, text, replacement in FAULTS:
        body = texts.get(header) or (source / header).read_text()
        if body.count(text) != 1:
            sys.exit(f"weaken.py: {header} has {body.count(text)} times, not once:\n{text}")
        texts[header] = body.replace(text, re.sub("@([^@]+)@", condition, replacement))
    shutil.rmtree(target / "phasebit", ignore_errors=True)
    for header, body in texts.items():
        body = body.replace("#pragma once\n", "#pragma once\n\n#include <weaknesses.hpp>\n", 1)
        path = target / "phasebit" / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    lines = "".join(f'    "{name}",\n' for name in names)
    (target / "weaknesses.hpp").write_text(FRONT % lines)


main()
