// SPDX-License-Identifier: BSL-1.0
// A controller that answers: enabled, identified, with an admin queue, and the memory that it uses.
// controller.hpp makes I/O queues on top.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/nvme/driver/admin_queue.hpp>
#include <phasebit/nvme/driver/bring_up.hpp>
#include <phasebit/nvme/driver/queue_memory.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/features.hpp>
#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/status_text.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace phasebit::nvme::driver {

struct controller_options {
  std::uint16_t io_queues = 1;              // wanted; granted_queues() says what the device gave
  std::uint32_t admin_timeout_ms = 10'000;  // for each admin command
  std::uint32_t max_transfer = 1U << 20;    // bytes of one command, if MDTS allows as much
  std::uint8_t async_events = 1;            // event requests kept outstanding
};

// The life of one controller and its admin commands. Holds the memory of every queue, and gives it
// back only when the device has let go of it. Owns no thread and needs no heap; one thread at a time.
// The backend outlives it. Move-only.
template <PcieBackend Backend, unsigned MaxQueues>
class controller_link {
 public:
  using bar_type = typename Backend::bar_type;
  using order = typename Backend::ring_order;
  using doorbell_type = decltype(std::declval<bar_type&>().doorbell(0));

  controller_link(controller_link&& other) noexcept
      : backend_(std::exchange(other.backend_, nullptr)),
        bar_(std::move(other.bar_)),
        options_(other.options_),
        caps_(other.caps_),
        page_shift_(other.page_shift_),
        max_transfer_(other.max_transfer_),
        granted_(other.granted_),
        admin_(std::move(other.admin_)),
        memory_(other.memory_),
        scratch_(other.scratch_),
        shadow_(other.shadow_),
        shadow_on_(other.shadow_on_),
        identity_(other.identity_) {}
  controller_link& operator=(controller_link&&) = delete;

  // Disables the controller and gives its memory back. Where it neither stops nor is gone, the memory
  // is kept from everybody for good: the device may still write to it.
  void detach() noexcept {
    if (backend_ == nullptr) return;
    const auto stopped = disable(bar_, backend_->clock(), caps_);
    if (stopped || stopped.error().code == errc::removed) release_all();
    backend_ = nullptr;
  }

  // Deletes nothing, tells the device to finish and waits; then only detach() is left to be done.
  [[nodiscard]] result<> shut_down(
      shutdown_notification how = shutdown_notification::normal) noexcept {
    // RTD3E is in microseconds and may say 0 for unknown.
    const std::uint64_t announced = identity_.rtd3e.get() / 1000;
    return driver::shut_down(bar_, backend_->clock(), announced < 5000 ? 5000 : announced, how);
  }

  // Starts over: the queues that were made are dead (fail_all() them), their memory is free again.
  [[nodiscard]] result<> reset() noexcept {
    if (const auto stopped = disable(bar_, backend_->clock(), caps_); !stopped) {
      return stopped.error();
    }
    release_all();
    return start();
  }

  [[nodiscard]] const identify_controller& identity() const noexcept { return identity_; }
  [[nodiscard]] cap capabilities() const noexcept { return caps_; }
  [[nodiscard]] std::uint16_t granted_queues() const noexcept { return granted_; }
  // Bytes that one command may move.
  [[nodiscard]] std::uint32_t max_transfer() const noexcept { return max_transfer_; }
  [[nodiscard]] Backend& backend() noexcept { return *backend_; }
  [[nodiscard]] bar_type& registers() noexcept { return bar_; }

  // Whether the device is there and well: removed, or protocol where CSTS.CFS is set or it has
  // answered what was not asked. Reads a register, so not once per command.
  [[nodiscard]] result<> check() noexcept {
    const auto now = read_register<csts>(bar_);
    if (now.removed()) return removed_error();
    if (now[csts::cfs]) {
      return failure(errc::protocol, "the controller reports a fatal status (CSTS.CFS)", now.raw);
    }
    return admin_.health();
  }

  // Any admin command and its answer; a status other than success is an answer too.
  [[nodiscard]] result<completion> execute(const submission_entry& command) noexcept {
    return admin_.execute(bar_, backend_->clock(), command, nullptr, options_.admin_timeout_ms);
  }
  [[nodiscard]] result<completion> execute(const submission_entry& command,
                                           const dma_region& data) noexcept {
    return admin_.execute(bar_, backend_->clock(), command, &data, options_.admin_timeout_ms);
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
    PHASEBIT_EXPECTS(out.size() == 4096, "an Identify data structure has 4096 bytes");
    const auto answer =
        execute_checked("Identify was refused; status", admin::identify(what), scratch_);
    if (!answer) return answer.error();
    copy_shared(out, scratch_.bytes.first(4096));
    return {};
  }

  [[nodiscard]] result<std::uint32_t> get_feature(feature_id which,
                                                  std::uint32_t nsid = 0) noexcept {
    const auto answer = execute_checked("Get Features was refused; status",
                                        admin::get_features({.fid = which, .nsid = nsid}));
    if (!answer) return answer.error();
    return answer->dw0();
  }
  [[nodiscard]] result<std::uint32_t> set_feature(feature_id which, std::uint32_t value,
                                                  std::uint32_t nsid = 0) noexcept {
    const auto answer =
        execute_checked("Set Features was refused; status",
                        admin::set_features({.fid = which, .cdw11 = value, .nsid = nsid}));
    if (!answer) return answer.error();
    return answer->dw0();
  }

  // The first out.size() bytes of a log page: a multiple of 4, at most 4096. Reading an event's log
  // page lets the device report its kind again.
  [[nodiscard]] result<> get_log_page(log_page_id which, std::span<std::byte> out,
                                      std::uint32_t nsid = all_namespaces) noexcept {
    PHASEBIT_EXPECTS(out.size() % 4 == 0 && !out.empty() && out.size() <= scratch_.size(),
                     "a log page is read in dwords, 4096 bytes at most");
    const auto answer = execute_checked(
        "Get Log Page was refused; status",
        admin::get_log_page(
            {.lid = which, .bytes = static_cast<std::uint32_t>(out.size()), .nsid = nsid}),
        scratch_.subregion(0, out.size()));
    if (!answer) return answer.error();
    copy_shared(out, scratch_.bytes.first(out.size()));
    return {};
  }

  // Asks for a command to be given up. False: the device had not got to it, or was already done; it
  // completes by itself either way, and its id stays taken until then.
  [[nodiscard]] result<bool> abort(std::uint16_t qid, std::uint16_t command_id) noexcept {
    const auto answer = execute_checked("Abort was refused; status", admin::abort(qid, command_id));
    if (!answer) return answer.error();
    return !abort_command::not_aborted.get(answer->dw0());
  }

  // Takes admin completions that are there; events are then to be had from next_event().
  void poll() noexcept { (void)admin_.poll(); }
  [[nodiscard]] std::optional<async_event> next_event() noexcept { return admin_.next_event(); }

 protected:
  controller_link(Backend& backend, bar_type bar, const controller_options& options) noexcept
      : backend_(&backend), bar_(std::move(bar)), options_(options) {
    PHASEBIT_EXPECTS(options.max_transfer >= 4096, "a command moves at least a page");
  }
  ~controller_link() { detach(); }

  [[nodiscard]] result<> start() noexcept {
    const auto caps = read_capabilities(bar_);
    if (!caps) return caps.error();
    caps_ = *caps;
    if (const auto stopped = disable(bar_, backend_->clock(), caps_); !stopped) return stopped;
    page_shift_ = static_cast<std::uint8_t>(12 + caps_[cap::mpsmin]);
    max_transfer_ = admin_transfer;

    const auto entries =
        caps_.max_queue_entries() < admin_entries ? caps_.max_queue_entries() : admin_entries;
    auto memory = queue_memory::allocate(*backend_, entries, admin_transfer, page_shift_);
    if (!memory) return memory.error();
    memory_[0] = *memory;
    const auto scratch = backend_->allocate(4096, std::size_t{1} << page_shift_);
    if (!scratch) return scratch.error();
    scratch_ = *scratch;

    admin_ = admin_queue<order, doorbell_type>{memory_[0].layout(0, admin_transfer, page_shift_, 9),
                                               sq_doorbell(0), cq_doorbell(0)};
    if (const auto up = enable(bar_, backend_->clock(), caps_,
                               {.submission = memory_[0].submission.bus,
                                .completion = memory_[0].completion.bus,
                                .entries = entries,
                                .page_shift = page_shift_});
        !up) {
      return up;
    }
    return identify_controller_and_queues();
  }

  // The first questions: who are you, how much at once, how many queues.
  [[nodiscard]] result<> identify_controller_and_queues() noexcept {
    const auto asked = identify({.cns = cns::identify_controller}, writable_wire_bytes(identity_));
    if (!asked) return asked;
    max_transfer_ = options_.max_transfer;
    const std::uint64_t limit = identity_.max_transfer_bytes(caps_.min_page_bytes());
    if (limit != 0 && limit < max_transfer_) max_transfer_ = static_cast<std::uint32_t>(limit);

    const std::uint16_t wanted =
        options_.io_queues < MaxQueues ? options_.io_queues : static_cast<std::uint16_t>(MaxQueues);
    granted_ = 0;
    if (wanted != 0) {
      const auto answer =
          set_feature(feature_id::number_of_queues, number_of_queues::of(wanted, wanted).raw);
      if (!answer) return answer.error();
      const number_of_queues got{*answer};
      granted_ = wanted;
      if (got.submission_queues() < granted_) {
        granted_ = static_cast<std::uint16_t>(got.submission_queues());
      }
      if (got.completion_queues() < granted_) {
        granted_ = static_cast<std::uint16_t>(got.completion_queues());
      }
      // What the device grants it may have no doorbells for.
      while (granted_ != 0 && register_bytes(granted_, caps_[cap::dstrd]) > bar_.size_bytes()) {
        --granted_;
      }
    }
    const unsigned most = identity_.aerl + 1U;
    const unsigned events = options_.async_events < most ? options_.async_events : most;
    if (!admin_.arm_events(events < admin_.max_events ? events : admin_.max_events)) {
      return failure(errc::exhausted, "the admin queue has no room for event requests", events);
    }
    return {};
  }

  [[nodiscard]] doorbell_type sq_doorbell(std::uint16_t qid) noexcept {
    return bar_.doorbell(
        static_cast<std::uint32_t>(submission_doorbell_offset(qid, caps_[cap::dstrd])));
  }
  [[nodiscard]] doorbell_type cq_doorbell(std::uint16_t qid) noexcept {
    return bar_.doorbell(
        static_cast<std::uint32_t>(completion_doorbell_offset(qid, caps_[cap::dstrd])));
  }

  Backend* backend_;
  bar_type bar_;
  controller_options options_;
  cap caps_{};
  std::uint8_t page_shift_ = 12;
  std::uint32_t max_transfer_ = 0;
  std::uint16_t granted_ = 0;
  admin_queue<order, doorbell_type> admin_;
  std::array<queue_memory, MaxQueues + 1> memory_{};
  dma_region scratch_{};
  dma_region shadow_{};  // two pages: indices, event indices
  bool shadow_on_ = false;

 private:
  static constexpr std::uint32_t admin_entries = 32;
  static constexpr std::uint32_t admin_transfer = 64U << 10;

  void release_all() noexcept {
    for (queue_memory& memory : memory_) memory.release(*backend_);
    for (dma_region* region : {&scratch_, &shadow_}) {
      if (region->size() != 0) backend_->release(*region);
      *region = {};
    }
    shadow_on_ = false;
  }

  struct identify_controller identity_ {};
};

}  // namespace phasebit::nvme::driver
