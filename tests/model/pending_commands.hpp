// SPDX-License-Identifier: BSL-1.0
// The NVMe controller as it is shipped, with media that complete on a thread of their own: a driver reads,
// aborts and resets at any moment.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/driver/completion_queue.hpp>
#include <phasebit/nvme/driver/submission_queue.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include <model/support.hpp>

namespace model {

namespace nvme = phasebit::nvme;
namespace block = phasebit::block;

// State that the controller's thread and the media's threads share. Operations are numbered; each is queued, and
// then begun by a worker or cancelled by the controller.
struct media_words {
  enum : std::uint32_t { queued, begun, done, cancelled };

  static constexpr std::size_t operations = 10;
  explorer::word<std::uint32_t> submitted;
  std::array<explorer::word<std::uint32_t>, operations> state;
  std::array<explorer::plain<std::uint64_t>, operations> address;
  std::array<explorer::plain<std::uint64_t>, operations> bytes;
};

// Media with the contract of hosted::threaded_media: operations that no worker has begun are cancelled, the
// others are not interrupted. An operation that is delivered twice is media that break their contract.
class worker_media {
 public:
  worker_media(media_words& words, std::size_t capacity, bool twice) noexcept
      : words_(&words), capacity_(capacity), twice_(twice) {}

  [[nodiscard]] static std::uint32_t block_size() noexcept { return 512; }
  [[nodiscard]] static std::uint64_t block_count() noexcept { return 64; }
  [[nodiscard]] static bool reaches(phasebit::memory_domain domain) noexcept {
    return domain == phasebit::memory_domain::local;
  }
  [[nodiscard]] block::media_answer submit(const block::media_request& request,
                                           block::media_tag tag) noexcept {
    if (in_flight_ == capacity_) return block::media_answer::busy();
    const auto memory = request.segments[0].local();
    words_->address[count_].write(reinterpret_cast<std::uintptr_t>(memory.data()));
    words_->bytes[count_].write(memory.size());
    tags_[count_] = tag;
    pending_[count_] = true;
    ++count_;
    ++in_flight_;
    words_->submitted.store(static_cast<std::uint32_t>(count_), explorer::strength::release);
    return block::media_answer::pending();
  }
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    std::size_t delivered = 0;
    for (std::size_t i = 0, known = count_; i != known; ++i) {
      if (!pending_[i]) continue;
      const auto state = words_->state[i].load(explorer::strength::acquire);
      if (state != media_words::done && state != media_words::cancelled) continue;
      pending_[i] = false;
      --in_flight_;
      ++delivered;
      const auto status =
          state == media_words::done ? block::media_status::good : block::media_status::cancelled;
      sink(tags_[i], status);
    }
    // Once, while the operation after it is in flight.
    if (twice_ && delivered == 0 && count_ > 1 && pending_[count_ - 1]) {
      twice_ = false;
      sink(tags_[count_ - 2], block::media_status::good);
      ++delivered;
    }
    return delivered;
  }
  void cancel(block::media_tag tag) noexcept {
    for (std::size_t i = 0; i != count_; ++i) {
      if (!pending_[i] || tags_[i] != tag) continue;
      std::uint32_t expected = media_words::queued;
      static_cast<void>(words_->state[i].compare_exchange(expected, media_words::cancelled,
                                                          explorer::strength::acquire_release));
    }
  }
  [[nodiscard]] bool drained() const noexcept { return in_flight_ == 0; }

 private:
  media_words* words_;
  std::size_t capacity_;
  bool twice_;
  std::size_t count_ = 0;
  std::size_t in_flight_ = 0;
  std::array<block::media_tag, media_words::operations> tags_{};
  std::array<bool, media_words::operations> pending_{};
};
static_assert(block::AsyncBlockMedia<worker_media>);

// The worker's thread: reads, so that it writes the host's memory.
inline void work(media_words& words) {
  for (std::uint32_t i = 0; i != media_words::operations; ++i) {
    await([&] { return words.submitted.load(explorer::strength::acquire) > i; });
    std::uint32_t expected = media_words::queued;
    if (!words.state[i].compare_exchange(expected, media_words::begun,
                                         explorer::strength::acquire_release)) {
      continue;
    }
    explorer::writes(reinterpret_cast<const void*>(words.address[i].read()), words.bytes[i].read());
    words.state[i].store(media_words::done, explorer::strength::release);
  }
}

// Pages of the host's memory, one behind the other from bus address 4096 on.
struct paged_memory {
  using from = phasebit::bus_space;
  using to = phasebit::local_space;

  std::array<std::span<std::byte>, 10> pages{};

  [[nodiscard]] phasebit::result<phasebit::segment<to>> translate(phasebit::bus_addr a,
                                                                  std::uint64_t bytes,
                                                                  phasebit::access) noexcept {
    const std::uint64_t number = a.value() / 4096 - 1;
    const std::uint64_t offset = a.value() % 4096;
    if (number >= pages.size() || offset + bytes > pages[number].size()) {
      return phasebit::failure(phasebit::errc::not_mapped, "no such page", a.value());
    }
    return phasebit::segment<to>{phasebit::to_local(pages[number].data() + offset), bytes};
  }
  [[nodiscard]] static phasebit::bus_addr at(std::size_t number) noexcept {
    return phasebit::bus_addr{(number + 1) * 4096};
  }
};

enum class then_does : std::uint8_t { nothing, abort_first, reset };

struct pending_setup {
  then_does what = then_does::nothing;
  std::uint32_t commands = 2;
  std::uint32_t completions = 4;  // entries of the completion queue
  std::size_t media_capacity = 2;
  std::size_t table = 2;  // entries of the table of pending commands
  bool one_at_a_time = false;
  bool twice = false;       // the media deliver an operation again, after the next was submitted
  bool shadow = false;      // shadow doorbells
  bool ring_each = false;   // one doorbell a command
  std::uint32_t queue = 4;  // entries of the submission queue
  std::uint32_t in_flight = 0;  // commands at a time; 0: all
  bool batches = false;         // the next commands are submitted when all of them have completed
};

struct pending_policy : nvme::device::default_policy {
  static constexpr std::size_t max_io_queue_pairs = 1;
  static constexpr std::size_t async_events = 1;
  static constexpr std::size_t error_log_entries = 1;
};

// The rings and buffers in the host's memory, the doorbells, and the two registers that driver and controller
// hand over as a program does whose register accesses come from another thread.
struct host_memory {
  static constexpr std::uint32_t admin_depth = 4;
  static constexpr std::uint32_t depth = 5;

  std::array<nvme::submission_entry, admin_depth> admin_sq{};
  std::array<nvme::completion_entry, admin_depth> admin_cq{};
  std::array<nvme::submission_entry, depth> sq{};
  std::array<nvme::completion_entry, depth> cq{};
  std::array<std::array<std::byte, 512>, 4> buffers{};
  std::array<std::uint32_t, 4> doorbells{};
  std::array<phasebit::le<std::uint32_t>, 4> shadow{};
  std::array<phasebit::le<std::uint32_t>, 4> events{};
  explorer::word<std::uint32_t> cc;
  explorer::word<std::uint32_t> ready;
};

// A doorbell register, or its shadow.
template <class Order>
class either_doorbell {
 public:
  either_doorbell() noexcept = default;
  either_doorbell(host_memory& host, std::size_t which, bool shadow) noexcept
      : register_(host.doorbells[which]),
        shadow_(host.shadow[which], host.events[which], register_),
        shadowed_(shadow) {}

  void ring(std::uint32_t value) noexcept {
    if (shadowed_) {
      shadow_.ring(value);
    } else {
      register_.ring(value);
    }
  }

 private:
  explorer::register_doorbell register_;
  phasebit::ring::shadow_doorbell<explorer::register_doorbell, Order> shadow_;
  bool shadowed_ = false;
};

template <class Order>
class pending_machine {
 public:
  using namespaces = nvme::device::single_namespace<worker_media>;
  using controller_type = nvme::device::controller<paged_memory, phasebit::no_interrupts,
                                                   namespaces, Order, pending_policy>;

  pending_machine(host_memory& host, media_words& words, const pending_setup& setup)
      : host_(&host),
        media_(words, setup.media_capacity, setup.twice),
        spaces_(media_),
        bounce_({bounce_memory_.data(), bounce_memory_.size()}, 4096),
        controller_(dma_with(host, setup), interrupts_, spaces_, host.doorbells, settings_of(),
                    {std::span{commands_}.first(setup.table),
                     std::span{segments_}.first(setup.table), &bounce_}) {
    namespace r = nvme;
    controller_.write32(
        r::aqa::offset,
        r::aqa::for_entries(host_memory::admin_depth, host_memory::admin_depth).raw);
    controller_.write32(r::asq::offset, static_cast<std::uint32_t>(paged_memory::at(0).value()));
    controller_.write32(r::acq::offset, static_cast<std::uint32_t>(paged_memory::at(1).value()));
    controller_.write32(r::cc::offset, enabled().raw);
    host.admin_sq[0] = r::admin::create_io_cq(
        {.qid = 1, .entries = setup.completions, .memory = paged_memory::at(3), .vector = 0});
    host.admin_sq[1] = r::admin::create_io_sq(
        {.qid = 1, .entries = setup.queue, .memory = paged_memory::at(2), .cqid = 1});
    std::uint32_t created = 2;
    if (setup.shadow) {
      host.admin_sq[created++] =
          r::admin::doorbell_buffer_config(paged_memory::at(8), paged_memory::at(9));
    }
    host.doorbells[0] = created;
    controller_.poll();
    for (std::uint32_t i = 0; i != created; ++i) {
      check(host.admin_cq[i].status().ok(), "the controller is set up");
    }
    host.doorbells[1] = created;
    controller_.poll();
  }
  [[nodiscard]] static nvme::cc enabled() {
    return nvme::cc{}.with(nvme::cc::en, true).with(nvme::cc::iosqes, 6).with(nvme::cc::iocqes, 4);
  }

  // The controller's thread.
  void run() {
    std::uint32_t control = enabled().raw;
    bool ready = true;
    for (;;) {
      await([&] {
        const auto now = host_->cc.load(explorer::strength::acquire);
        const bool changed = now != control && now != 0;
        if (changed) {
          control = now;
          controller_.write32(nvme::cc::offset, now);
        }
        const bool worked = controller_.poll() != 0;
        return changed || worked;
      });
      const bool is_ready = nvme::csts{controller_.read32(nvme::csts::offset)}[nvme::csts::rdy];
      if (is_ready == ready) continue;
      ready = is_ready;
      check(media_.drained(), "a controller that is not ready has no operation at the media");
      host_->ready.store(1, explorer::strength::release);  // 1: RDY is 0
    }
  }

 private:
  [[nodiscard]] paged_memory& dma_with(host_memory& host, const pending_setup&) {
    auto bytes = [](auto& array) { return std::as_writable_bytes(std::span{array}); };
    dma_.pages = {bytes(host.admin_sq), bytes(host.admin_cq), bytes(host.sq), bytes(host.cq)};
    for (std::size_t i = 0; i != host.buffers.size(); ++i) dma_.pages[4 + i] = host.buffers[i];
    dma_.pages[8] = bytes(host.shadow);
    dma_.pages[9] = bytes(host.events);
    return dma_;
  }
  [[nodiscard]] static nvme::device::settings settings_of() {
    nvme::device::settings s;
    s.io_queue_pairs = 1;
    s.interrupt_vectors = 1;
    s.max_queue_entries = 16;
    return s;
  }

  host_memory* host_;
  paged_memory dma_;
  phasebit::no_interrupts interrupts_;
  worker_media media_;
  namespaces spaces_;
  std::array<nvme::device::pending_command, 4> commands_{};
  std::array<block::media_segment, 4> segments_{};
  alignas(64) std::array<std::byte, 8192> bounce_memory_{};
  block::bounce_pool bounce_;
  controller_type controller_;
};

template <class Order>
auto pending_commands(pending_setup setup) {
  return [setup, machine = std::make_shared<std::optional<pending_machine<Order>>>()](program& p) {
    auto& host = p.make<host_memory>();
    auto& words = p.make<media_words>();
    p.name(host.admin_sq, "the admin SQ");
    p.name(host.admin_cq, "the admin CQ");
    p.name(host.sq, "the I/O SQ");
    p.name(host.cq, "the I/O CQ");
    for (std::size_t i = 0; i != host.buffers.size(); ++i) {
      p.name(host.buffers[i], "buffer " + std::to_string(i));
    }
    p.atomic(host.doorbells);
    p.atomic(host.events);
    p.name(host.doorbells[0], "the admin SQ tail");
    p.name(host.doorbells[1], "the admin CQ head");
    p.name(host.doorbells[2], "the SQ tail");
    p.name(host.doorbells[3], "the CQ head");
    p.name(host.shadow[2], "the shadow of the SQ tail");
    p.name(host.shadow[3], "the shadow of the CQ head");
    p.name(host.events[2], "the event index of the SQ tail");
    p.name(host.events[3], "the event index of the CQ head");
    p.name(host.cc, "CC");
    p.name(host.ready, "the end of CSTS.RDY");
    p.name(words.submitted, "the count of operations");
    p.name(words.state, "the state of an operation");
    machine->reset();
    machine->emplace(host, words, setup);

    p.thread("driver", [=, &host] {
      using doorbell = explorer::register_doorbell;
      using io_doorbell = either_doorbell<Order>;
      nvme::driver::submission_queue sq{std::span{host.sq}.first(setup.queue),
                                        io_doorbell{host, 2, setup.shadow}};
      nvme::driver::completion_queue<Order, io_doorbell> cq{
          std::span{host.cq}.first(setup.completions), io_doorbell{host, 3, setup.shadow}};
      std::array<nvme::status_code, 10> codes{};
      std::uint32_t completed = 0;
      unsigned seen = 0;
      auto take = [&] {
        nvme::completion_entry entry;
        bool any = false;
        while (cq.pop(entry)) {
          const unsigned id = entry.command_id();
          check(id < setup.commands && (seen & (1U << id)) == 0, "a command completes once");
          seen |= 1U << id;
          codes[id] = entry.status().code();
          ++completed;
          // The buffer is the driver's again.
          auto& buffer = host.buffers[id % host.buffers.size()];
          explorer::writes(buffer.data(), buffer.size());
          any = true;
        }
        cq.ring();
        return any;
      };
      for (std::uint32_t i = 0; i != setup.commands; ++i) {
        if (setup.in_flight != 0 && i - completed == setup.in_flight) {
          sq.ring();
          do {
            await([&] { return take(); });
          } while (setup.batches && completed != i);
        }
        auto command = nvme::nvm::read({.nsid = 1, .lba = i, .blocks = 1});
        command.set_command_id(static_cast<std::uint16_t>(i));
        command.prp1 = paged_memory::at(4 + i % host.buffers.size()).value();
        sq.push(command);
        if (setup.ring_each) sq.ring();
        if (!setup.one_at_a_time) continue;
        sq.ring();
        await([&] { return take(); });
      }
      sq.ring();
      if (setup.what == then_does::reset) {
        host.cc.store(nvme::cc{pending_machine<Order>::enabled()}.with(nvme::cc::en, false).raw,
                      explorer::strength::release);
        await([&] { return host.ready.load(explorer::strength::acquire) == 1; });
        // All of the memory is the driver's again.
        explorer::writes(host.buffers.data(), sizeof(host.buffers));
        for (auto& entry : std::span{host.cq}) {
          const auto dw3 = Order::load(entry.dw3);
          explorer::writes(&entry, 12);
          static_cast<void>(dw3);
        }
        return;
      }
      if (setup.what == then_does::abort_first) {
        nvme::driver::submission_queue admin{std::span{host.admin_sq}, doorbell{host.doorbells[0]}};
        // The ring's first two entries are used.
        auto command = nvme::admin::abort(1, 0);
        command.set_command_id(7);
        host.admin_sq[2] = command;
        doorbell{host.doorbells[0]}.ring(3);
        await([&] {
          const auto dw3 = Order::load(host.admin_cq[2].dw3);
          if (!nvme::completion_dw3{dw3.get()}.phase()) return false;
          Order::after_load();
          return true;
        });
        const bool aborted = (host.admin_cq[2].dw0 & 1U) == 0;
        // A command that was aborted has been completed by now.
        static_cast<void>(take());
        if (aborted) {
          check((seen & 1U) != 0 && codes[0] == nvme::status_code::abort_requested,
                "Abort reports that the command was aborted when it was");
        }
        while (seen != (1U << setup.commands) - 1) await([&] { return take(); });
        check(aborted == (codes[0] == nvme::status_code::abort_requested),
              "Abort reports whether the command was aborted");
        return;
      }
      while (seen != (1U << setup.commands) - 1) await([&] { return take(); });
      for (std::uint32_t i = 0; i != setup.commands; ++i) {
        check(codes[i] == nvme::status_code::success, "commands succeed");
      }
    });
    p.service("controller", [=] { (*machine)->run(); });
    p.service("media", [&words] { work(words); });
  };
}

}  // namespace model
