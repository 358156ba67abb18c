// SPDX-License-Identifier: BSL-1.0
// The back end of one vhost-user connection: a device side of this process, for a virtual machine or
// any other front end.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vhost_user/dirty_bitmap.hpp>
#include <phasebit/transport/vhost_user/memory_table.hpp>
#include <phasebit/transport/vhost_user/message_channel.hpp>
#include <phasebit/transport/vhost_user/messages.hpp>
#include <phasebit/virtio/device/poll_result.hpp>
#include <phasebit/virtio/device/virtqueue.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace phasebit::transport::vhost_user {

// A device behind a back end. Queues are 0 .. queue_count() - 1. The members of a queue are those
// of virtio::blk::request_queue; none waits.
template <class T>
concept BackEndDevice = requires(
    T& device, const T& constant, std::uint16_t queue, const virtio::device::queue_setup& setup,
    virtio::device::vring_base base, std::span<std::byte> record, std::uint32_t offset,
    std::span<const std::byte> from, const memory_table::guest_map& memory) {
  // Of the device type and the rings; the transport adds its own.
  { constant.features() } noexcept -> std::same_as<std::uint64_t>;
  { constant.queue_count() } noexcept -> std::same_as<std::uint16_t>;
  // The configuration space, and a write to it; false: refused.
  { constant.config() } noexcept -> std::convertible_to<std::span<const std::byte>>;
  { device.write_config(offset, from) } noexcept -> std::same_as<bool>;
  { device.start_queue(queue, setup, base, record) } noexcept -> std::same_as<result<>>;
  { device.pause_queue(queue) } noexcept;
  { device.unpause_queue(queue) } noexcept;
  { device.queue_drained(queue) } noexcept -> std::same_as<bool>;
  { device.stop_queue(queue) } noexcept -> std::same_as<virtio::device::vring_base>;
  { device.rebind_queue(queue, setup.areas) } noexcept;
  { device.poll_queue(queue, memory) } noexcept -> std::same_as<virtio::device::poll_result>;
  { device.arm_queue(queue) } noexcept -> std::same_as<bool>;
  { device.disarm_queue(queue) } noexcept;
};

// The state of a connection.
enum class connection_state : std::uint8_t {
  open,
  closed,  // by the front end
  failed,  // the front end broke the protocol: see last_error()
};

// Serves one connection: messages, then queues, in poll(). Nothing waits: a message that must not
// take effect while requests are in flight (a changed memory table, GET_VRING_BASE, RESET_DEVICE)
// pauses the queues, is kept until they are drained, and is answered then. One thread at a time.
//
// A front end is hostile: lengths, counts of descriptors, indices and addresses are checked. A
// refused message changes nothing and its descriptors are closed; it is answered with an error if
// the front end requested an answer, and ends the connection otherwise.
template <BackEndDevice Device>
class back_end {
 public:
  static constexpr std::uint64_t offered_protocol_features =
      protocol_feature::mq | protocol_feature::log_shmfd | protocol_feature::reply_ack |
      protocol_feature::backend_req | protocol_feature::config | protocol_feature::inflight_shmfd |
      protocol_feature::reset_device | protocol_feature::configure_mem_slots |
      protocol_feature::status;

  // `device` outlives the connection and serves no other one meanwhile.
  back_end(Device& device, posix::unique_fd socket)
      : device_(&device), channel_(std::move(socket)), queues_(device.queue_count()) {}
  back_end(const back_end&) = delete;
  back_end& operator=(const back_end&) = delete;

  [[nodiscard]] connection_state state() const noexcept { return state_; }
  // Why the connection has failed, or what was last refused.
  [[nodiscard]] const error& last_error() const noexcept { return last_error_; }
  [[nodiscard]] int socket() const noexcept { return channel_.fd(); }
  [[nodiscard]] dirty_bitmap& log() noexcept { return log_; }
  // The kick descriptors of the queues that run, for a poll(2).
  template <class Each>
  void for_each_kick(Each&& each) const {
    for (const ring& q : queues_) {
      if (q.running && q.kick) each(q.kick.get());
    }
  }

  // One round: at most one message, and each queue once. Returns how much was done.
  unsigned poll() noexcept {
    unsigned did = poll_queues();
    if (state_ != connection_state::open) return did;
    if (holding_) {
      if (drained()) {
        holding_ = false;
        handle(held_);
        for (std::uint16_t i = 0; i != queues_.size(); ++i) {
          if (queues_[i].running && queues_[i].enabled) device_->unpause_queue(i);
        }
        ++did;
      }
      return did;
    }
    const auto got = channel_.receive(held_);
    if (!got) {
      fail(got.error());
      return did + 1;
    }
    if (*got == receive_status::closed) state_ = connection_state::closed;
    if (*got != receive_status::complete) return did;
    if (waits_for_queues(held_.header.request)) {
      holding_ = true;
      pause_for(held_);
    } else {
      handle(held_);
    }
    return did + 1;
  }

  // Asks the driver of each queue for notifications; true when there is work already.
  [[nodiscard]] bool arm() noexcept {
    bool work = holding_;
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      if (queues_[i].running && device_->arm_queue(i)) work = true;
    }
    return work;
  }
  void disarm() noexcept {
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      if (!queues_[i].running) continue;
      device_->disarm_queue(i);
      if (queues_[i].kick) drain_eventfd(queues_[i].kick.get());
    }
  }

  // Stops all queues; poll() until closed_down(), then the object may be destroyed. Requests taken
  // from the queues are completed or, with an in-flight record, left to the next connection.
  void close_down() noexcept {
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      if (queues_[i].running) device_->pause_queue(i);
    }
    if (state_ == connection_state::open) state_ = connection_state::closed;
  }
  [[nodiscard]] bool closed_down() noexcept {
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      if (queues_[i].running && !device_->queue_drained(i)) return false;
    }
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      if (queues_[i].running) static_cast<void>(device_->stop_queue(i));
      queues_[i].running = false;
    }
    return true;
  }

  // Reports a changed configuration space (a new capacity) to the driver. Error: not_supported (no
  // channel for requests of the back end).
  [[nodiscard]] result<> notify_config_change() noexcept {
    if (!requests_) {
      return failure(errc::not_supported, "the front end gave no channel for back-end requests");
    }
    return requests_.send(static_cast<std::uint32_t>(backend_request::config_change_msg), 0,
                          std::span<const std::byte>{});
  }

 private:
  struct ring {
    std::uint32_t size = 0;
    virtio::device::vring_base base{};
    vring_addr addresses{};
    bool has_base = false;
    bool has_addresses = false;
    bool enabled = false;
    bool kicked = false;  // a kick descriptor, or polling without one, was set
    bool running = false;
    posix::unique_fd kick;
    posix::unique_fd call;
    posix::unique_fd err;
    virtio::device::queue_areas areas{};
    std::vector<virtio::device::buffer_state> buffers;
  };

  // ---- queues ------------------------------------------------------------------------------------

  unsigned poll_queues() noexcept {
    unsigned did = 0;
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      ring& q = queues_[i];
      if (!q.running) continue;
      const auto done = device_->poll_queue(i, memory_.guest());
      did += done.taken + done.completed;
      if (done.completed != 0 && log_.enabled()) log_ring(q);
      if (done.notify && q.call) signal(q.call.get());
    }
    return did;
  }
  // The rings' own pages: used entries, or descriptors marked used.
  void log_ring(const ring& q) noexcept {
    const bool packed = (features_ & virtio::feature::ring_packed) != 0;
    if (packed) {
      log_.mark(q.areas.descriptors, virtio::packed_ring_bytes(q.size));
      log_.mark(q.areas.device, sizeof(virtio::event_suppression));
    } else {
      log_.mark(q.areas.device, virtio::used_ring_bytes(q.size));
    }
  }
  static void signal(int fd) noexcept {
    const std::uint64_t one = 1;
    while (::write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
  }
  static void drain_eventfd(int fd) noexcept {
    std::uint64_t count = 0;
    while (::read(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
  }

  // Starts a queue once its whole setup has been received.
  [[nodiscard]] result<> start_if_complete(std::uint16_t index) {
    ring& q = queues_[index];
    if (q.running || !q.enabled || !q.kicked || !q.has_addresses || q.size == 0) return {};
    const bool packed = (features_ & virtio::feature::ring_packed) != 0;
    const auto areas =
        virtio::device::map_areas(memory_.user(), q.size, packed, q.addresses.desc_user_addr,
                                  q.addresses.avail_user_addr, q.addresses.used_user_addr);
    if (!areas) return areas.error();
    q.areas = *areas;
    q.buffers.resize(q.size);
    virtio::device::queue_setup setup{
        .size = q.size, .features = features_, .areas = *areas, .buffers = q.buffers};
    virtio::device::vring_base base = q.base;
    if (!q.has_base && packed) base = virtio::device::vring_base::of({});
    std::span<std::byte> record;
    if (inflight_ && index < inflight_queues_) {
      const std::size_t each = record_bytes(inflight_queue_size_);
      record = inflight_.bytes().subspan(inflight_offset_ + index * each, each);
    }
    if (const auto started = device_->start_queue(index, setup, base, record); !started) {
      return started;
    }
    q.running = true;
    return {};
  }
  [[nodiscard]] static std::size_t record_bytes(std::uint32_t size) noexcept {
    // Large enough for both formats, which are chosen later; each begins on a cache line.
    return align_up(virtio::inflight_packed_bytes(size), std::size_t{64});
  }
  // The memory map has changed: where the rings are now.
  [[nodiscard]] result<> rebind_queues() noexcept {
    const bool packed = (features_ & virtio::feature::ring_packed) != 0;
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      ring& q = queues_[i];
      if (!q.running) continue;
      const auto areas =
          virtio::device::map_areas(memory_.user(), q.size, packed, q.addresses.desc_user_addr,
                                    q.addresses.avail_user_addr, q.addresses.used_user_addr);
      if (!areas) {
        // A queue without its rings is stopped; it was drained before.
        q.base = device_->stop_queue(i);
        q.has_base = true;
        q.running = false;
        return areas.error();
      }
      q.areas = *areas;
      device_->rebind_queue(i, *areas);
    }
    return {};
  }

  // ---- messages ----------------------------------------------------------------------------------

  [[nodiscard]] static bool waits_for_queues(std::uint32_t number) noexcept {
    switch (static_cast<request>(number)) {
      case request::set_mem_table:
      case request::rem_mem_reg:
      case request::add_mem_reg:
      case request::get_vring_base:
      case request::reset_device:
      case request::reset_owner:
      case request::set_inflight_fd:
        return true;
      default:
        return false;
    }
  }
  void pause_for(const message& m) noexcept {
    const std::uint32_t only = vring_of(m);
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      if (queues_[i].running && (only == all_queues || only == i)) device_->pause_queue(i);
    }
  }
  [[nodiscard]] bool drained() noexcept {
    const std::uint32_t only = vring_of(held_);
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      if (queues_[i].running && (only == all_queues || only == i) && !device_->queue_drained(i)) {
        return false;
      }
    }
    return true;
  }
  static constexpr std::uint32_t all_queues = 0xffff'ffff;
  [[nodiscard]] static std::uint32_t vring_of(const message& m) noexcept {
    if (static_cast<request>(m.header.request) != request::get_vring_base) return all_queues;
    return m.header.size == sizeof(vring_state) ? load_wire<vring_state>(m.body()).index
                                                : all_queues - 1;
  }

  void handle(message& m) noexcept {
    answered_ = false;
    const auto done = dispatch(m);
    m.fds.clear();
    const bool acknowledge =
        m.needs_reply() && !answered_ && (protocol_features_ & protocol_feature::reply_ack) != 0;
    if (!done) last_error_ = done.error();
    if (acknowledge) {
      reply(m, std::uint64_t{done ? 0U : 1U});
    } else if (!done) {
      fail(done.error());
    }
  }
  template <class T>
  void reply(const message& m, const T& payload, std::span<const int> fds = {}) noexcept {
    answered_ = true;
    const auto sent = channel_.send(m.header.request, flag_reply, payload, fds);
    if (!sent) fail(sent.error());
  }
  void fail(const error& why) noexcept {
    last_error_ = why;
    if (state_ == connection_state::open) state_ = connection_state::failed;
  }
  [[nodiscard]] static error refused(const char* what, std::uint64_t value) noexcept {
    return failure(errc::protocol, what, value);
  }

  // A payload of exactly one T.
  template <WireStruct T>
  [[nodiscard]] static result<T> payload(const message& m) noexcept {
    if (m.header.size != sizeof(T)) {
      return refused("a vhost-user message has a payload of the wrong size", m.header.size);
    }
    return load_wire<T>(m.body());
  }
  [[nodiscard]] static result<> expect_fds(const message& m, std::size_t count) noexcept {
    if (m.fds.size() == count) return {};
    return refused("a vhost-user message has the wrong number of file descriptors", m.fds.size());
  }
  [[nodiscard]] result<std::uint16_t> queue_index(std::uint64_t index) const noexcept {
    if (index < queues_.size()) return static_cast<std::uint16_t>(index);
    return refused("a vhost-user message names a queue that the device does not have", index);
  }

  [[nodiscard]] result<> dispatch(message& m) noexcept {
    if ((m.header.flags & flag_reply) != 0) {
      return refused("a vhost-user request is marked as a reply", m.header.flags);
    }
    if (!takes_fds(m.header.request)) {
      if (const auto none = expect_fds(m, 0); !none) return none;
    }
    switch (static_cast<request>(m.header.request)) {
      case request::get_features:
        reply(m, offered_features());
        return {};
      case request::set_features:
        return set_features(m);
      case request::set_owner:
        return set_owner();
      case request::reset_owner:
      case request::reset_device:
        return reset_device();
      case request::set_mem_table:
        return set_mem_table(m);
      case request::add_mem_reg:
        return add_region(m);
      case request::rem_mem_reg:
        return remove_region(m);
      case request::set_log_base:
        return set_log_base(m);
      case request::set_log_fd:
        return expect_fds(m, 1);
      case request::set_vring_num:
        return set_vring_num(m);
      case request::set_vring_addr:
        return set_vring_addr(m);
      case request::set_vring_base:
        return set_vring_base(m);
      case request::get_vring_base:
        return get_vring_base(m);
      case request::set_vring_kick:
      case request::set_vring_call:
      case request::set_vring_err:
        return set_vring_fd(m);
      case request::get_protocol_features:
        reply(m, offered_protocol_features);
        return {};
      case request::set_protocol_features:
        return set_protocol_features(m);
      case request::get_queue_num:
        reply(m, std::uint64_t{queues_.size()});
        return {};
      case request::set_vring_enable:
        return set_vring_enable(m);
      case request::set_backend_req_fd:
        return set_backend_req_fd(m);
      case request::get_config:
        return get_config(m);
      case request::set_config:
        return set_config(m);
      case request::get_inflight_fd:
        return get_inflight_fd(m);
      case request::set_inflight_fd:
        return set_inflight_fd(m);
      case request::get_max_mem_slots:
        reply(m, std::uint64_t{memory_slots});
        return {};
      case request::set_status:
        return set_status(m);
      case request::get_status:
        reply(m, std::uint64_t{status_});
        return {};
    }
    return failure(errc::not_supported, "a vhost-user request that this back end does not offer",
                   m.header.request);
  }
  [[nodiscard]] static bool takes_fds(std::uint32_t number) noexcept {
    switch (static_cast<request>(number)) {
      case request::set_mem_table:
      case request::add_mem_reg:
      case request::rem_mem_reg:  // some front ends send the region's descriptor again
      case request::set_log_base:
      case request::set_log_fd:
      case request::set_vring_kick:
      case request::set_vring_call:
      case request::set_vring_err:
      case request::set_backend_req_fd:
      case request::set_inflight_fd:
        return true;
      default:
        return false;
    }
  }

  [[nodiscard]] std::uint64_t offered_features() const noexcept {
    return device_->features() | feature_protocol_features | feature_log_all;
  }
  [[nodiscard]] result<> set_features(const message& m) noexcept {
    const auto bits = payload<std::uint64_t>(m);
    if (!bits) return bits.error();
    if ((*bits & ~offered_features()) != 0) {
      return refused("the front end accepts features that were not offered",
                     *bits & ~offered_features());
    }
    // While queues run only logging may change: the rings' format depends on the other features.
    const std::uint64_t rings = *bits & ~(feature_log_all | feature_protocol_features);
    if (any_running() && rings != features_) {
      return refused("features change while a queue runs", *bits);
    }
    features_ = rings;
    log_.enable((*bits & feature_log_all) != 0);
    // Without protocol features there is no SET_VRING_ENABLE: rings are enabled from the start.
    const bool enable = (*bits & feature_protocol_features) == 0;
    if (enable) {
      for (std::uint16_t i = 0; i != queues_.size(); ++i) {
        queues_[i].enabled = true;
        if (const auto started = start_if_complete(i); !started) return started;
      }
    }
    return {};
  }
  [[nodiscard]] bool any_running() const noexcept {
    return std::any_of(queues_.begin(), queues_.end(), [](const ring& q) { return q.running; });
  }
  [[nodiscard]] result<> set_owner() noexcept {
    if (owned_) return refused("SET_OWNER was sent twice", 0);
    owned_ = true;
    return {};
  }
  [[nodiscard]] result<> reset_device() noexcept {
    for (std::uint16_t i = 0; i != queues_.size(); ++i) {
      if (queues_[i].running) static_cast<void>(device_->stop_queue(i));
      ring fresh;
      fresh.call = std::move(queues_[i].call);
      fresh.err = std::move(queues_[i].err);
      queues_[i] = std::move(fresh);
    }
    features_ = 0;
    status_ = 0;
    owned_ = false;
    return {};
  }

  [[nodiscard]] result<> set_mem_table(message& m) noexcept {
    if (m.header.size < sizeof(memory_table_header)) {
      return refused("a memory table is shorter than its header", m.header.size);
    }
    const auto head = load_wire<memory_table_header>(m.body());
    if (head.padding != 0)
      return refused("a memory table has padding that is not zero", head.padding);
    if (head.regions == 0 || head.regions > max_table_regions) {
      return refused("a memory table has 1 to 8 regions", head.regions);
    }
    if (m.header.size != sizeof head + head.regions * sizeof(memory_region)) {
      return refused("a memory table has another size than its count of regions", m.header.size);
    }
    if (const auto fds = expect_fds(m, head.regions); !fds) return fds;
    // The queues are drained: the old regions may go. All of the new ones are there, or none.
    memory_.clear();
    result<> added{};
    for (std::uint32_t i = 0; i != head.regions && added; ++i) {
      const auto region =
          load_wire<memory_region>(m.body().subspan(sizeof head + i * sizeof(memory_region)));
      added = memory_.add(region, m.fds[i]);
      if (!added) added = added.error().at(i);
    }
    if (!added) memory_.clear();
    const auto bound = rebind_queues();
    return added ? bound : added;
  }
  [[nodiscard]] result<> add_region(message& m) noexcept {
    const auto r = payload<single_region>(m);
    if (!r) return r.error();
    if (r->padding != 0) return refused("a memory region has padding that is not zero", r->padding);
    if (const auto fds = expect_fds(m, 1); !fds) return fds;
    if (memory_.size() == memory_slots) {
      return failure(errc::exhausted, "there are more memory regions than slots", memory_slots);
    }
    const auto added = memory_.add(r->region, m.fds[0]);
    const auto bound = rebind_queues();
    return added ? bound : added;
  }
  [[nodiscard]] result<> remove_region(const message& m) noexcept {
    const auto r = payload<single_region>(m);
    if (!r) return r.error();
    if (m.fds.size() > 1) return expect_fds(m, 1);
    const auto removed = memory_.remove(r->region);
    const auto bound = rebind_queues();
    return removed ? bound : removed;
  }

  [[nodiscard]] result<> set_vring_num(const message& m) noexcept {
    const auto s = payload<vring_state>(m);
    if (!s) return s.error();
    const auto index = queue_index(s->index);
    if (!index) return index.error();
    const bool packed = (features_ & virtio::feature::ring_packed) != 0;
    if (packed ? !virtio::is_packed_queue_size(s->num) : !virtio::is_split_queue_size(s->num)) {
      return refused("a queue has a size that its format does not have", s->num);
    }
    if (queues_[*index].running) return refused("the size of a running queue changes", s->num);
    queues_[*index].size = s->num;
    return {};
  }
  [[nodiscard]] result<> set_vring_addr(const message& m) noexcept {
    const auto a = payload<vring_addr>(m);
    if (!a) return a.error();
    const auto index = queue_index(a->index);
    if (!index) return index.error();
    if ((a->flags & ~vring_flag_log) != 0) {
      return refused("the addresses of a queue have unknown flags", a->flags);
    }
    ring& q = queues_[*index];
    const bool packed = (features_ & virtio::feature::ring_packed) != 0;
    if (q.size == 0) return refused("a queue has addresses before it has a size", a->index);
    const auto areas = virtio::device::map_areas(memory_.user(), q.size, packed, a->desc_user_addr,
                                                 a->avail_user_addr, a->used_user_addr);
    if (!areas) return areas.error();
    if (q.running && (a->desc_user_addr != q.addresses.desc_user_addr ||
                      a->avail_user_addr != q.addresses.avail_user_addr ||
                      a->used_user_addr != q.addresses.used_user_addr)) {
      return refused("the addresses of a running queue change", a->index);
    }
    q.addresses = *a;
    q.has_addresses = true;
    return start_if_complete(*index);
  }
  [[nodiscard]] result<> set_vring_base(const message& m) noexcept {
    const auto s = payload<vring_state>(m);
    if (!s) return s.error();
    const auto index = queue_index(s->index);
    if (!index) return index.error();
    ring& q = queues_[*index];
    if (q.running) return refused("the base of a running queue changes", s->num);
    q.base = {s->num};
    q.has_base = true;
    return {};
  }
  // The queue is drained. It stops, and runs again when a kick descriptor is set.
  [[nodiscard]] result<> get_vring_base(const message& m) noexcept {
    const auto s = payload<vring_state>(m);
    if (!s) return s.error();
    const auto index = queue_index(s->index);
    if (!index) return index.error();
    ring& q = queues_[*index];
    if (q.running) {
      q.base = device_->stop_queue(*index);
      q.has_base = true;
      q.running = false;
      // The record has nothing in flight; another driver may begin with an empty ring.
      close_record(*index);
    }
    q.kicked = q.has_addresses = false;
    q.kick.reset();
    reply(m, vring_state{s->index, q.base.value});
    return {};
  }
  void close_record(std::uint16_t index) noexcept {
    if (!inflight_ || index >= inflight_queues_) return;
    const std::size_t at = inflight_offset_ + index * record_bytes(inflight_queue_size_);
    auto& header = *reinterpret_cast<virtio::inflight_split_header*>(inflight_.data() + at);
    thread_order::store(header.version, std::uint16_t{0});
  }
  [[nodiscard]] result<> set_vring_fd(message& m) noexcept {
    const auto word = payload<std::uint64_t>(m);
    if (!word) return word.error();
    if ((*word & ~(vring_index_mask | vring_no_fd)) != 0) {
      return refused("a descriptor of a queue has reserved bits set", *word);
    }
    const auto index = queue_index(*word & vring_index_mask);
    if (!index) return index.error();
    const bool none = (*word & vring_no_fd) != 0;
    if (const auto fds = expect_fds(m, none ? 0 : 1); !fds) return fds;
    posix::unique_fd fd = none ? posix::unique_fd{} : std::move(m.fds[0]);
    if (fd) {
      if (const auto usable = check_eventfd(fd); !usable) return usable;
    }
    ring& q = queues_[*index];
    switch (static_cast<request>(m.header.request)) {
      case request::set_vring_call:
        q.call = std::move(fd);
        // A completion may have been signalled to the old descriptor.
        if (q.running && q.call) signal(q.call.get());
        return {};
      case request::set_vring_err:
        q.err = std::move(fd);
        return {};
      default:
        break;
    }
    q.kick = std::move(fd);
    q.kicked = true;
    return start_if_complete(*index);
  }
  // A write to an eventfd does not wait and raises no signal; one to a pipe or a socket of a hostile
  // front end does.
  [[nodiscard]] static result<> check_eventfd(const posix::unique_fd& fd) noexcept {
    struct ::stat about {};
    const int flags = ::fcntl(fd.get(), F_GETFL);
    if (flags < 0 || ::fstat(fd.get(), &about) != 0 || (about.st_mode & S_IFMT) != 0) {
      return refused("a kick, call or error descriptor is no eventfd", about.st_mode);
    }
    if (::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
      return posix::os_error("an eventfd cannot be made non-blocking");
    }
    return {};
  }
  [[nodiscard]] result<> set_vring_enable(const message& m) noexcept {
    const auto s = payload<vring_state>(m);
    if (!s) return s.error();
    const auto index = queue_index(s->index);
    if (!index) return index.error();
    if (s->num > 1) return refused("SET_VRING_ENABLE takes 0 or 1", s->num);
    ring& q = queues_[*index];
    q.enabled = s->num == 1;
    if (!q.running) return start_if_complete(*index);
    if (q.enabled) {
      device_->unpause_queue(*index);
    } else {
      device_->pause_queue(*index);
    }
    return {};
  }

  [[nodiscard]] result<> set_protocol_features(const message& m) noexcept {
    const auto bits = payload<std::uint64_t>(m);
    if (!bits) return bits.error();
    if ((*bits & ~offered_protocol_features) != 0) {
      return refused("the front end accepts protocol features that were not offered",
                     *bits & ~offered_protocol_features);
    }
    protocol_features_ = *bits;
    return {};
  }
  [[nodiscard]] result<> set_backend_req_fd(message& m) noexcept {
    if (const auto fds = expect_fds(m, 1); !fds) return fds;
    requests_ = message_channel{std::move(m.fds[0])};
    return {};
  }
  [[nodiscard]] result<> set_status(const message& m) noexcept {
    const auto value = payload<std::uint64_t>(m);
    if (!value) return value.error();
    if (*value > 0xff) return refused("a device status has 8 bits", *value);
    status_ = static_cast<std::uint8_t>(*value);
    return {};
  }

  // An area of the configuration space that does not exist reads as an answer of size 0.
  [[nodiscard]] result<> get_config(const message& m) noexcept {
    if (m.header.size < sizeof(config_header)) {
      return refused("GET_CONFIG is shorter than its header", m.header.size);
    }
    const auto h = load_wire<config_header>(m.body());
    if (h.size != m.header.size - sizeof h) {
      return refused("the size of GET_CONFIG differs from its header", h.size);
    }
    if (h.size > max_config || h.offset > max_config - h.size) {
      return refused("GET_CONFIG reads beyond the configuration space", h.offset);
    }
    const std::span<const std::byte> all = device_->config();
    std::array<std::byte, sizeof h + max_config> answer{};
    std::memcpy(answer.data(), &h, sizeof h);
    for (std::uint32_t i = 0; i != h.size; ++i) {
      const std::size_t from = std::size_t{h.offset} + i;
      if (from < all.size()) answer[sizeof h + i] = all[from];
    }
    answered_ = true;
    const auto sent = channel_.send(m.header.request, flag_reply,
                                    std::span<const std::byte>{answer.data(), sizeof h + h.size});
    if (!sent) fail(sent.error());
    return {};
  }
  [[nodiscard]] result<> set_config(const message& m) noexcept {
    if (m.header.size < sizeof(config_header)) {
      return refused("SET_CONFIG is shorter than its header", m.header.size);
    }
    const auto h = load_wire<config_header>(m.body());
    if (h.size != m.header.size - sizeof h) {
      return refused("the size of SET_CONFIG differs from its header", h.size);
    }
    if (!device_->write_config(h.offset, m.body().subspan(sizeof h))) {
      return refused("SET_CONFIG writes to what is read-only", h.offset);
    }
    return {};
  }

  [[nodiscard]] result<> set_log_base(message& m) noexcept {
    const auto area = payload<log_area>(m);
    if (!area) return area.error();
    if (const auto fds = expect_fds(m, 1); !fds) return fds;
    auto mapping = map_area(m.fds[0], area->offset, area->size);
    if (!mapping) return mapping.error();
    log_.attach(std::move(*mapping), static_cast<std::size_t>(area->offset),
                static_cast<std::size_t>(area->size));
    // This one is answered whether or not an answer was requested.
    reply(m, std::uint64_t{0});
    return {};
  }
  [[nodiscard]] static result<posix::memory_mapping> map_area(const posix::unique_fd& fd,
                                                              std::uint64_t offset,
                                                              std::uint64_t bytes) noexcept {
    struct ::stat about {};
    if (bytes == 0 || offset + bytes < offset || offset + bytes > (1ULL << 40)) {
      return refused("a shared area is empty or too large", bytes);
    }
    if (::fstat(fd.get(), &about) != 0) return posix::os_error("a shared area is no file");
    if (about.st_size < 0 || static_cast<std::uint64_t>(about.st_size) < offset + bytes) {
      return refused("a shared area is larger than its file", bytes);
    }
    return posix::memory_mapping::shared(fd.get(), int_cast<std::size_t>(offset + bytes));
  }

  [[nodiscard]] result<inflight_area> inflight_payload(const message& m) const noexcept {
    if (m.header.size != sizeof(inflight_area) && m.header.size != least_inflight_area) {
      return refused("an in-flight area has a payload of the wrong size", m.header.size);
    }
    inflight_area area{};
    std::memcpy(&area, m.payload.data(), least_inflight_area);
    if (area.num_queues == 0 || area.num_queues > queues_.size() ||
        !virtio::is_packed_queue_size(area.queue_size)) {
      return refused("an in-flight area is that of queues which the device does not have",
                     area.num_queues);
    }
    return area;
  }
  [[nodiscard]] result<> get_inflight_fd(const message& m) noexcept {
    auto area = inflight_payload(m);
    if (!area) return area.error();
    const std::size_t bytes = record_bytes(area->queue_size) * area->num_queues;
    posix::unique_fd fd{::memfd_create("phasebit-inflight", MFD_CLOEXEC)};
    if (!fd || ::ftruncate(fd.get(), static_cast<::off_t>(bytes)) != 0) {
      return posix::os_error("the in-flight record cannot be created");
    }
    area->mmap_size = bytes;
    area->mmap_offset = 0;
    area->padding = 0;
    const int descriptors[] = {fd.get()};
    reply(m, *area, descriptors);
    return {};
  }
  [[nodiscard]] result<> set_inflight_fd(message& m) noexcept {
    const auto area = inflight_payload(m);
    if (!area) return area.error();
    if (const auto fds = expect_fds(m, 1); !fds) return fds;
    if (any_running()) {
      return refused("the in-flight record changes while a queue runs", 0);
    }
    if (area->mmap_offset % 8 != 0 ||
        area->mmap_size < record_bytes(area->queue_size) * area->num_queues) {
      return refused("an in-flight area is misaligned or too small", area->mmap_size);
    }
    auto mapping = map_area(m.fds[0], area->mmap_offset, area->mmap_size);
    if (!mapping) return mapping.error();
    inflight_ = std::move(*mapping);
    inflight_offset_ = static_cast<std::size_t>(area->mmap_offset);
    inflight_queue_size_ = area->queue_size;
    inflight_queues_ = area->num_queues;
    return {};
  }

  static constexpr std::size_t memory_slots = 32;

  Device* device_;
  message_channel channel_;
  message_channel requests_;
  memory_table memory_;
  dirty_bitmap log_{memory_};
  posix::memory_mapping inflight_;
  std::size_t inflight_offset_ = 0;
  std::uint32_t inflight_queue_size_ = 0;
  std::uint32_t inflight_queues_ = 0;
  std::vector<ring> queues_;
  message held_;
  bool holding_ = false;
  bool answered_ = false;
  bool owned_ = false;
  std::uint8_t status_ = 0;
  std::uint64_t features_ = 0;
  std::uint64_t protocol_features_ = 0;
  connection_state state_ = connection_state::open;
  error last_error_{};
};

}  // namespace phasebit::transport::vhost_user
