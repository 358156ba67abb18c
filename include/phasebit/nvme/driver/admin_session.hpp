// SPDX-License-Identifier: BSL-1.0
// An enabled controller's admin side: registers, the admin queue, its memory, and the commands that every
// driver needs. controller.hpp makes I/O queues on top.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/admin_queue.hpp>
#include <phasebit/nvme/driver/bring_up.hpp>
#include <phasebit/nvme/driver/queue_memory.hpp>
#include <phasebit/nvme/driver/quirks.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/features.hpp>
#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/status_text.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <utility>

namespace phasebit::nvme::driver {

struct controller_options {
  std::uint16_t io_queues = 1;  // requested; granted_queues() returns the device's number
  std::uint32_t admin_timeout_ms = 10'000;    // for each admin command but Format and Sanitize
  std::uint32_t max_transfer = 1U << 20;      // bytes of one command, if MDTS allows as much
  std::uint8_t async_events = 1;              // event requests kept outstanding
  std::uint32_t format_timeout_ms = 600'000;  // for Format NVM and Sanitize
  bool shut_down_on_detach = true;            // detach() ends with CC.SHN, as before power goes
  bool all_command_sets = false;  // CC.CSS = 110b where CAP has it: zoned namespaces, for instance
  driver::quirks quirks = {};     // added to those that are known by the device's ids
};

// Owns what the device uses of the backend's memory for admin commands, and gives it back only when the
// device has released it. One thread at a time. The backend outlives it. Move-only.
template <PcieBackend Backend>
class admin_session {
 public:
  using bar_type = typename Backend::bar_type;
  using order = typename Backend::ring_order;
  using doorbell_type = decltype(std::declval<bar_type&>().doorbell(0));

  enum class state : std::uint8_t { off, running, shutting_down, shut_down, detached };

  admin_session(Backend& backend, bar_type bar, const controller_options& options) noexcept
      : backend_(&backend), bar_(std::move(bar)), options_(options) {
    PHASEBIT_EXPECTS(options.max_transfer >= 4096, "a command moves at least a page");
    auto&& config = backend.config();
    const std::uint16_t vendor = config.read16(0x00);
    quirks_ = options.quirks | quirks_of(vendor, config.read16(0x02));
    has_config_ = vendor != 0xffff;
  }
  // The other session is detached; it owns nothing any more.
  admin_session(admin_session&& other) noexcept
      : backend_(other.backend_),
        bar_(std::move(other.bar_)),
        options_(other.options_),
        quirks_(other.quirks_),
        caps_(other.caps_),
        page_shift_(other.page_shift_),
        has_config_(other.has_config_),
        state_(std::exchange(other.state_, state::detached)),
        max_transfer_(other.max_transfer_),
        admin_(std::move(other.admin_)),
        memory_(std::exchange(other.memory_, {})),
        scratch_(std::exchange(other.scratch_, {})),
        identity_(other.identity_) {}
  admin_session& operator=(admin_session&&) = delete;

  [[nodiscard]] bool running() const noexcept { return state_ == state::running; }
  [[nodiscard]] bool detached() const noexcept { return state_ == state::detached; }
  void set_state(state s) noexcept { state_ = s; }

  [[nodiscard]] Backend& backend() noexcept { return *backend_; }
  [[nodiscard]] bar_type& registers() noexcept { return bar_; }
  [[nodiscard]] const identify_controller& identity() const noexcept { return identity_; }
  [[nodiscard]] const controller_options& options() const noexcept { return options_; }
  [[nodiscard]] const driver::quirks& quirks() const noexcept { return quirks_; }
  [[nodiscard]] cap capabilities() const noexcept { return caps_; }
  [[nodiscard]] std::uint8_t page_shift() const noexcept { return page_shift_; }
  // Bytes that one command may move.
  [[nodiscard]] std::uint32_t max_transfer() const noexcept { return max_transfer_; }
  [[nodiscard]] std::uint8_t submission_shift() const noexcept {
    return quirks_.submission_entry_shift != 0 ? quirks_.submission_entry_shift : std::uint8_t{6};
  }
  [[nodiscard]] const dma_region& scratch() const noexcept { return scratch_; }
  // Before a command that fills it: a device that transfers less than requested must not leave the
  // bytes of earlier data there.
  void clear_scratch() noexcept {
    if (scratch_.size() != 0) __builtin_memset(scratch_.data(), 0, scratch_.size());
  }

  // Disables the controller, enables it with an admin queue of its own, and identifies it. The memory of an
  // earlier session was released.
  [[nodiscard]] result<> start() noexcept {
    state_ = state::off;
    const auto caps = read_capabilities(bar_, quirks_.assume_nvm);
    if (!caps) return caps.error();
    caps_ = *caps;
    if (const auto stopped = stop(); !stopped) return stopped;
    page_shift_ = static_cast<std::uint8_t>(12 + caps_[cap::mpsmin]);
    max_transfer_ = admin_transfer;

    // CAP.MQES is a limit of I/O queues; AQA allows 2 to 4096 entries for these.
    auto memory = queue_memory::allocate(*backend_, admin_entries, admin_transfer, page_shift_);
    if (!memory) return memory.error();
    memory_ = *memory;
    const auto scratch = backend_->allocate(4096, std::size_t{1} << page_shift_);
    if (!scratch) return scratch.error();
    scratch_ = *scratch;

    // In place: a second queue is too large for a frame.
    using admin_type = admin_queue<order, doorbell_type>;
    admin_.~admin_type();
    ::new (static_cast<void*>(&admin_)) admin_type{
        memory_.layout(0, admin_transfer, page_shift_, {}), sq_doorbell(0), cq_doorbell(0)};
    if (const auto up = enable(bar_, backend_->clock(), caps_,
                               {.submission = memory_.submission.bus,
                                .completion = memory_.completion.bus,
                                .entries = admin_entries,
                                .page_shift = page_shift_,
                                .submission_shift = submission_shift(),
                                .all_command_sets = options_.all_command_sets},
                               confirm_gone());
        !up) {
      return up;
    }
    state_ = state::running;
    const auto asked = identify({.cns = cns::identify_controller}, writable_wire_bytes(identity_));
    if (!asked) return asked;
    if (const auto known = check_entry_sizes(); !known) return known;
    max_transfer_ = options_.max_transfer;
    const std::uint64_t limit = identity_.max_transfer_bytes(caps_.min_page_bytes());
    if (limit != 0 && limit < max_transfer_) max_transfer_ = static_cast<std::uint32_t>(limit);
    return {};
  }

  // Clears CC.EN and waits until the controller has released all memory.
  [[nodiscard]] result<> stop() noexcept {
    return disable(bar_, backend_->clock(), caps_, confirm_gone(),
                   {.quiet_ms = quirks_.quiet_ms,
                    .patience_ms = quirks_.quiet_ms != 0 ? quirks_.quiet_ms + 1000 : 0});
  }
  // Only after stop() has returned success, or the device is gone.
  void release() noexcept {
    memory_.release(*backend_);
    if (scratch_.size() != 0) backend_->release(scratch_);
    scratch_ = {};
  }
  void close(queue_end why) noexcept { admin_.close(why); }

  // Sets CC.SHN and waits for CSTS.SHST. After a time-out it may be called again, which waits again.
  [[nodiscard]] result<> shut_down(shutdown_notification how) noexcept {
    if (!running() && state_ != state::shutting_down) return not_running();
    // RTD3E is in microseconds and may be 0 for unknown. The wait is at most a minute.
    const std::uint64_t latency = identity_.rtd3e.get() / 1000;
    const std::uint64_t reported = latency < 60'000 ? latency : 60'000;
    const std::uint64_t wait = reported < 5000 ? 5000 : reported;
    state_ = state::shutting_down;
    const auto down = driver::shut_down(bar_, backend_->clock(),
                                        quirks_.no_shutdown_status ? 0 : wait, how, confirm_gone());
    if (!down && !(down.error().code == errc::timed_out && quirks_.no_shutdown_status)) return down;
    state_ = state::shut_down;
    return {};
  }

  // Whether the device is there and well: removed, or protocol where CSTS.CFS is set or it has
  // answered what was not asked. Reads a register, so not once per command.
  [[nodiscard]] result<> check() noexcept {
    if (!running()) return not_running();
    csts now = read_register<csts>(bar_);
    // A link that comes back gives another answer; a function that is gone does not.
    for (int i = 0; now.removed() && !is_gone() && i != 3; ++i) now = read_register<csts>(bar_);
    if (now.removed()) return removed_error();
    if (now[csts::cfs]) {
      return failure(errc::protocol, "the controller reports a fatal status (CSTS.CFS)", now.raw);
    }
    return admin_.health();
  }

  // Any admin command and its answer; a status other than success is an answer too. Of Identify and Get Log
  // Page the buffer's length is held against the command's.
  [[nodiscard]] result<completion> execute(const submission_entry& command) noexcept {
    if (!running()) return not_running();
    return admin_.execute(bar_, backend_->clock(), command, nullptr, timeout_of(command),
                          confirm_gone());
  }
  [[nodiscard]] result<completion> execute(const submission_entry& command,
                                           const dma_region& data) noexcept {
    if (!running()) return not_running();
    if (const auto wanted = admin_transfer_bytes(command); wanted && *wanted != data.size()) {
      return failure(errc::invalid_argument,
                     "the buffer is not as long as the admin command's transfer", *wanted);
    }
    if (data.size() > max_transfer_) {
      return failure(errc::out_of_range, "the buffer is longer than MDTS allows", data.size());
    }
    return admin_.execute(bar_, backend_->clock(), command, &data, timeout_of(command),
                          confirm_gone());
  }
  // ... of which anything but success is an error that quotes the status.
  template <class... Data>
  [[nodiscard]] result<completion> execute_checked(const char* what,
                                                   const submission_entry& command,
                                                   const Data&... data) noexcept {
    const auto answer = execute(command, data...);
    if (answer && !answer->ok()) {
      return failure(errc::io, what, answer->status().raw()).of(text(answer->status()));
    }
    return answer;
  }

  // The 4096 bytes of any Identify data structure.
  [[nodiscard]] result<> identify(const identify_command& what, std::span<std::byte> out) noexcept {
    if (out.size() != 4096) {
      return failure(errc::invalid_argument, "an Identify data structure has 4096 bytes",
                     out.size());
    }
    if (const auto answer = identify_in_scratch(what); !answer) return answer;
    copy_shared(out, scratch_.bytes.first(4096));
    return {};
  }
  // The same, left in memory that the device may still change: scratch_field() copies what is needed.
  [[nodiscard]] result<> identify_in_scratch(const identify_command& what) noexcept {
    if (!running()) return not_running();
    clear_scratch();
    const auto answer =
        execute_checked("Identify was refused; status", admin::identify(what), scratch_);
    if (!answer) return answer.error();
    return {};
  }
  template <class Field>
  [[nodiscard]] Field scratch_field(std::size_t offset) const noexcept {
    std::array<std::byte, sizeof(Field)> copy;
    copy_shared(copy, scratch_.bytes.subspan(offset, sizeof(Field)));
    return load_wire<Field>(copy);
  }
  [[nodiscard]] result<std::uint32_t> get_feature(feature_id which, std::uint32_t nsid) noexcept {
    const auto answer = execute_checked("Get Features was refused; status",
                                        admin::get_features({.fid = which, .nsid = nsid}));
    if (!answer) return answer.error();
    return answer->dw0();
  }
  [[nodiscard]] result<std::uint32_t> set_feature(feature_id which, std::uint32_t value,
                                                  std::uint32_t nsid) noexcept {
    const auto answer =
        execute_checked("Set Features was refused; status",
                        admin::set_features({.fid = which, .cdw11 = value, .nsid = nsid}));
    if (!answer) return answer.error();
    return answer->dw0();
  }
  // The first out.size() bytes of a log page: a multiple of 4, at most 4096.
  [[nodiscard]] result<> get_log_page(log_page_id which, std::span<std::byte> out,
                                      std::uint32_t nsid) noexcept {
    if (out.size() % 4 != 0 || out.empty() || out.size() > 4096) {
      return failure(errc::invalid_argument,
                     "a log page is read in dwords, 4 to 4096 bytes at a time", out.size());
    }
    if (!running()) return not_running();
    clear_scratch();
    const auto answer = execute_checked(
        "Get Log Page was refused; status",
        admin::get_log_page(
            {.lid = which, .bytes = static_cast<std::uint32_t>(out.size()), .nsid = nsid}),
        scratch_.subregion(0, out.size()));
    if (!answer) return answer.error();
    copy_shared(out, scratch_.bytes.first(out.size()));
    return {};
  }

  // Keeps up to `wanted` event requests outstanding, and always one entry free for commands.
  [[nodiscard]] result<> arm_events(unsigned wanted) noexcept {
    const unsigned most = identity_.aerl + 1U;
    unsigned count = wanted < most ? wanted : most;
    if (count > admin_.max_events) count = admin_.max_events;
    if (count + 1 > admin_.available()) count = admin_.available() - 1;
    if (!admin_.arm_events(count)) {
      return failure(errc::exhausted, "the admin queue has no free entry for event requests",
                     count);
    }
    return {};
  }
  void poll() noexcept {
    if (running()) (void)admin_.poll();
  }
  [[nodiscard]] std::optional<async_event> next_event() noexcept { return admin_.next_event(); }

  [[nodiscard]] std::uint32_t lost_events() const noexcept { return admin_.lost_events(); }

  [[nodiscard]] doorbell_type sq_doorbell(std::uint16_t qid) noexcept {
    return bar_.doorbell(
        static_cast<std::uint32_t>(submission_doorbell_offset(qid, caps_[cap::dstrd])));
  }
  [[nodiscard]] doorbell_type cq_doorbell(std::uint16_t qid) noexcept {
    return bar_.doorbell(
        static_cast<std::uint32_t>(completion_doorbell_offset(qid, caps_[cap::dstrd])));
  }

  [[nodiscard]] error not_running() const noexcept {
    switch (state_) {
      case state::detached:
        return failure(errc::removed, "the controller was detached, or moved to another object");
      case state::shutting_down:
        return failure(
            errc::not_ready,
            "the controller shuts down: shut_down() waits again, reset() starts it again");
      case state::shut_down:
        return failure(errc::not_ready, "the controller was shut down: reset() starts it again");
      default:
        return failure(errc::not_ready, "the controller is not running: reset() starts it again");
    }
  }

 private:
  friend handover_access;
  static constexpr std::uint32_t admin_entries = 32;
  static constexpr std::uint32_t admin_transfer = 64U << 10;

  // All ones in a register mean that the function is gone if its configuration space reads ones
  // too; a function without a configuration space cannot be checked.
  [[nodiscard]] bool is_gone() noexcept {
    return !has_config_ || backend_->config().read16(0x00) == 0xffff;
  }
  [[nodiscard]] auto confirm_gone() noexcept {
    return [this]() noexcept { return is_gone(); };
  }
  [[nodiscard]] std::uint64_t timeout_of(const submission_entry& command) const noexcept {
    switch (static_cast<admin_opcode>(command.opcode())) {
      case admin_opcode::format_nvm:
      case admin_opcode::sanitize:
        return options_.format_timeout_ms;
      default:
        return options_.admin_timeout_ms;
    }
  }
  [[nodiscard]] static std::optional<std::uint64_t> admin_transfer_bytes(
      const submission_entry& e) noexcept {
    switch (static_cast<admin_opcode>(e.opcode())) {
      case admin_opcode::identify:
        return 4096;
      case admin_opcode::get_log_page:
        return ((log_page_command::numdl_bits.get(e.cdw10.get()) |
                 std::uint64_t{log_page_command::numdu_bits.get(e.cdw11.get())} << 16) +
                1) *
               4;
      default:
        return std::nullopt;
    }
  }
  // Entries of other sizes than requested would be read from the wrong places.
  [[nodiscard]] result<> check_entry_sizes() const noexcept {
    using id = identify_controller;
    const auto sq_least = id::entry_size_required.get(identity_.sqes);
    const auto sq_most = id::entry_size_largest.get(identity_.sqes);
    const auto cq_least = id::entry_size_required.get(identity_.cqes);
    const auto cq_most = id::entry_size_largest.get(identity_.cqes);
    // Some controllers leave both fields 0 and mean the sizes that every controller has.
    if (identity_.sqes != 0 && (submission_shift() < sq_least || submission_shift() > sq_most)) {
      return failure(
          errc::not_supported,
          "the controller takes no 64-byte submission entries (Identify SQES); the quirk "
          "submission_entry_shift sets another distance",
          identity_.sqes);
    }
    if (identity_.cqes != 0 && (4 < cq_least || 4 > cq_most)) {
      return failure(errc::not_supported,
                     "the controller has no 16-byte completion entries (Identify CQES)",
                     identity_.cqes);
    }
    return {};
  }

  Backend* backend_;
  bar_type bar_;
  controller_options options_;
  driver::quirks quirks_{};
  cap caps_{};
  std::uint8_t page_shift_ = 12;
  bool has_config_ = false;
  state state_ = state::off;
  std::uint32_t max_transfer_ = 0;
  admin_queue<order, doorbell_type> admin_;
  queue_memory memory_{};
  dma_region scratch_{};
  struct identify_controller identity_ {};
};

}  // namespace phasebit::nvme::driver
